"""Print what the reproduction of each study will take."""

from rich.console import Console

from replica import estimates, provenance
from replica.plan import make_plan

job = snakemake
with provenance.one_sentence(job.log[0]):
    plan = make_plan(job.params.root, job.params.config)
    estimates.print_plan(plan, estimates.rates_of(plan.root), Console(width=110))
