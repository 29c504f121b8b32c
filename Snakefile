# Every figure of the papers under config/studies, from data to scorecard.
#
#   snakemake                 everything, at the scale of config/config.yaml
#   snakemake low_rank        one study
#   snakemake scorecard       the verdicts of all claims
#   snakemake --config scale=paper studies=[low_rank] seeds=3

import gc
import os
import sys

from snakemake.utils import min_version

min_version("9.27")
# Rules, jobs and the plan are hundreds of thousands of objects that all stay: garbage collection
# took a quarter of a dry run.
gc.set_threshold(100_000, 50, 50)
# A terminal that is not UTF-8 lacks some characters that a job prints: it prints ? instead.
os.environ.setdefault("PYTHONIOENCODING", ":replace")


report: "workflow/report/workflow.rst"


include: "workflow/rules/common.smk"


localrules:
    all,
    scorecard,


# Snakemake (9.27) limits the jobs that it starts per second, and checks its queue again a second
# after each check: after hundreds of jobs there are hundreds of checks a second. Here one job runs a
# core, and Slurm has limits of its own. The option --max-jobs-per-timespan cannot turn that off,
# and with a longer timespan Snakemake ends only when its last timer does.
onstart:
    workflow.scheduler.job_rate_limiter = None
    fork_scripts(server_of, server_modules(plan.studies), listen())
    for sentence in plan.left_out:
        print(sentence, file=sys.stderr)
    # Imported here: it imports pandas, which a dry run does not need.
    from replica.disk import note_settings

    note_settings(plan)


rule all:
    input:
        [plan.targets(study) for study in plan.studies],
        f"{plan.results}/scorecard.html",
        f"{plan.results}/generalization.html" if plan.with_networks() else [],


include: "workflow/rules/data.smk"
include: "workflow/rules/train.smk"
include: "workflow/rules/certify.smk"
include: "workflow/rules/measure.smk"
include: "workflow/rules/figure.smk"
include: "workflow/rules/generalization.smk"
include: "workflow/rules/report.smk"


if sentence := unknown_target(plan, workflow.rules, asked_for(sys.argv)):
    sys.exit(sentence)
