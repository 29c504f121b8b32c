"""Draw a figure from its table."""

from importlib import import_module
from pathlib import Path

import pandas as pd

from replica import artifacts, drawing, provenance

job = snakemake
study, figure = job.wildcards.study, job.wildcards.figure
with provenance.one_sentence(job.log[0]):
    published = pd.read_csv(job.params.published) if job.params.published else pd.DataFrame()
    if len(published):
        published = published[published["figure"] == figure]
    drawing.apply_style()
    draw = getattr(import_module(f"replica.studies.{study}"), f"draw_{figure}")
    drawn = drawing.drawn(draw, artifacts.read_table(job.input.table), published)
    drawing.footer(drawn, drawing.footer_text(job.params.footer))
    drawing.save(drawn, Path(job.output.svg).with_suffix(""))
    for path in (job.output.svg, job.output.pdf):
        artifacts.mark(path, key=job.params.key, commit=provenance.git_commit())
