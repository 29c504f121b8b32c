"""Write the pages of a scale from its scorecard, tables and drawings."""

from pathlib import Path

from replica import artifacts, pages, provenance
from replica.plan import make_plan
from replica.settings.user import Config

job = snakemake
with provenance.one_sentence(job.log[0]):
    # The words of the pages are in no parameter of the job; its key has a digest of them.
    plan = make_plan(Path.cwd(), {name: job.config[name] for name in Config.model_fields})
    folder = plan.root / plan.results
    made = [(study, figure) for study in plan.studies for figure in plan.studies[study].figures]
    card = artifacts.read_table(job.input.card)
    others = ["scorecard.html", "generalization.html", "report.html"]
    if not plan.with_networks():
        others.remove("generalization.html")
    note = artifacts.side_by_side(folder)
    pages.write(plan, card, made, folder, folder, key=job.params.key, others=others, note=note)
