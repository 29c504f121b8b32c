"""Draw a figure from its table."""

from importlib import import_module
from pathlib import Path

from replica import artifacts, drawing, provenance

job = snakemake
study, figure = job.wildcards.study, job.wildcards.figure
with provenance.one_sentence(job.log[0]):
    draw = getattr(import_module(f"replica.studies.{study}"), f"draw_{figure}")
    table = artifacts.read_table(job.input.table)
    published = Path(job.params.published) if job.params.published else None
    stem = Path(job.output.svg).with_suffix("")
    drawing.plot(draw, figure, table, published, job.params.footer, stem)
    for path in (job.output.svg, job.output.pdf):
        artifacts.mark(path, key=job.params.key, commit=provenance.git_commit())
