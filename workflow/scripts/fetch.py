"""Fetch the files of a data set; write a receipt with their checksums."""

import json
from pathlib import Path

from replica import artifacts, provenance
from replica.data.fetch import fetch_dataset, receipt
from replica.data.registry import load_registry

job = snakemake
with provenance.one_sentence(job.log[0]):
    # Where the files are had from is no parameter of the rule: a corrected address re-runs nothing.
    entry = load_registry("config/datasets.yaml")[job.wildcards.dataset]
    files = fetch_dataset(entry, job.config["mirrors"], Path(job.output.receipt).parent)
    text = json.dumps(receipt(entry, files), indent=1)
    artifacts.write_bytes(job.output.receipt, text.encode())
