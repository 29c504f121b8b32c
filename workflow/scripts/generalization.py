"""Measure the trained networks of a study."""

from replica import artifacts, provenance
from replica.generalization.table import measure_networks
from replica.kinds import card_paths
from replica.specs import validate_run

job = snakemake
with provenance.one_sentence(job.log[0]):
    stamp = provenance.begin(
        spec={"study": job.wildcards.study, "scale": job.wildcards.scale},
        key=job.params.key,
        code=job.params.code,
        seeds=[],
        device="cpu",
    )
    parts = [{**part, "spec": validate_run(part["spec"], part["run"])} for part in job.params.parts]
    for part in parts:
        part["card"] = next(iter(card_paths(part.pop("datasets"), job.config).values()), None)
    artifacts.write_table(job.output.table, measure_networks(parts, job.threads), stamp.finish())
