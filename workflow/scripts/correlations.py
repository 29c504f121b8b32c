"""Put the measures of all networks together, and their rank correlations to the gap."""

import pandas as pd

from replica import artifacts, provenance
from replica.generalization.table import correlated

job = snakemake
with provenance.one_sentence(job.log[0]):
    stamp = provenance.begin(spec={}, key=job.params.key, code="", seeds=[], device="cpu")
    networks = pd.concat(
        [artifacts.read_table(path) for path in job.input.tables], ignore_index=True
    )
    correlations, page = correlated(networks, job.params.scale)
    artifacts.write_table(job.output.table, correlations, stamp.finish())
    artifacts.write_bytes(job.output.page, page.encode())
    artifacts.mark(job.output.page, key=job.params.key, commit=provenance.git_commit())
