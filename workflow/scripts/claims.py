"""Decide the claims of a study on its figure tables."""

import json
from importlib import import_module
from pathlib import Path

from replica import artifacts, provenance, report

job = snakemake
with provenance.one_sentence(job.log[0]):
    claims = json.loads(job.params.claims)
    stamp = provenance.begin(spec=claims, key=job.params.key, code="", seeds=[], device="cpu")
    tables = {Path(path).stem: artifacts.read_table(path) for path in job.input.tables}
    module = import_module(f"replica.studies.{job.wildcards.study}")
    rows = report.decide_claims(job.wildcards.study, claims, tables, module)
    artifacts.write_table(job.output.claims, rows, stamp.finish())
