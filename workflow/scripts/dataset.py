"""Bring a data set into its canonical form on disk."""

from pathlib import Path

from replica import provenance
from replica.data.prepare import prepare_dataset
from replica.data.registry import load_registry

job = snakemake
with provenance.one_sentence(job.log[0]):
    entry = load_registry("config/datasets.yaml")[job.wildcards.dataset]
    folders = Path(job.input.receipt).parent, Path(job.output.card).parent
    prepare_dataset(entry, *folders, job.params.key)
