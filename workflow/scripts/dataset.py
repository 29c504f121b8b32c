"""Bring a data set into its canonical form on disk."""

from pathlib import Path

from replica import provenance
from replica.data.prepare import prepare_dataset
from replica.data.registry import DatasetEntry

job = snakemake
with provenance.one_sentence(job.log[0]):
    entry = DatasetEntry.model_validate(job.params.entry)
    prepare_dataset(entry, Path(job.input.receipt).parent, Path(job.output.card).parent)
