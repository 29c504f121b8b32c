"""Put the verdicts of all studies into one scorecard."""

import json
from pathlib import Path

import pandas as pd

from replica import artifacts, estimates, provenance, report, rulebook
from replica.data.registry import load_registry

job = snakemake
with provenance.one_sentence(job.log[0]):
    stamp = provenance.begin(spec={}, key=job.params.key, code="", seeds=[], device="cpu")
    card = pd.concat([artifacts.read_table(path) for path in job.input.claims], ignore_index=True)
    titles = {entry.name: entry.title for entry in load_registry("config/datasets.yaml").values()}
    card = report.with_titles(card, titles)
    card = estimates.with_deciding_runs(card, Path.cwd(), job.params.scale)
    card = rulebook.with_dates(card, Path.cwd(), job.params.scale, job.params.rules)
    artifacts.write_table(job.output.table, card, stamp.finish())
    note = artifacts.side_by_side(Path(job.output.table).parent)
    page = report.scorecard_html(card, json.loads(job.params.titles), job.params.scale, note)
    artifacts.write_bytes(job.output.page, page.encode())
    artifacts.mark(job.output.page, key=job.params.key, commit=provenance.git_commit())
