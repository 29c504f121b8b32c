"""Fetch the files of a data set; write a receipt with their checksums."""

import json
from pathlib import Path

from replica import artifacts, provenance
from replica.data.fetch import fetch_dataset, receipt
from replica.data.registry import DatasetEntry

job = snakemake
with provenance.one_sentence(job.log[0]):
    entry = DatasetEntry.model_validate(job.params.entry)
    files = fetch_dataset(entry, job.params.mirrors, Path(job.output.receipt).parent)
    text = json.dumps(receipt(entry, files), indent=1)
    artifacts.write_bytes(job.output.receipt, text.encode())
