"""Make the tidy table of a figure."""

from importlib import import_module

import pandas as pd

from replica import artifacts, provenance
from replica.measures.inputs import Inputs, figure_table

job = snakemake
study, figure = job.wildcards.study, job.wildcards.figure
with provenance.one_sentence(job.log[0]):
    stamp = provenance.begin(
        spec={
            "study": study,
            "figure": figure,
            "scale": job.wildcards.scale,
            "runs": job.params.ran,
        },
        key=job.params.key,
        code=job.params.code,
        seeds=list(range(max((run["seeds"] for run in job.params.ran.values()), default=0))),
        device="cpu",
    )
    frames = {
        kind: [artifacts.read_table(path) for path in job.input.get(kind, [])]
        for kind in ("histories", "measures")
    }
    inputs = Inputs(
        study=study,
        figure=figure,
        scale=job.wildcards.scale,
        status=job.params.status,
        **{k: pd.concat(v, ignore_index=True) if v else pd.DataFrame() for k, v in frames.items()},
    )
    make = getattr(import_module(f"replica.studies.{study}"), f"table_{figure}")
    table = figure_table(make, inputs, job.params.runs)
    artifacts.write_table(job.output.table, table, stamp.finish())
