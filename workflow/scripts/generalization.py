"""Measure the trained networks of a study."""

from replica import artifacts, provenance
from replica.data.prepare import cards_with
from replica.generalization.table import measure_networks
from replica.settings.validation import validate_run

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
        cards = cards_with(part.pop("datasets"), job.config["data_dir"])
        part["card"] = next(iter(cards.values()), None)
    artifacts.write_table(job.output.table, measure_networks(parts, job.threads), stamp.finish())
