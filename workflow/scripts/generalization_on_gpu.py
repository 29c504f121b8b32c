"""Measure the large networks of a job, on a GPU where there is one."""

from pathlib import Path

from replica import artifacts, provenance
from replica.data.prepare import cards_with
from replica.generalization.on_gpu import measure_large_networks
from replica.settings.validation import validate_run
from replica.training.devices import device_of_job
from replica.training.precision import in_words

job = snakemake
with provenance.one_sentence(job.log[0]):
    (part,) = job.params.parts
    cards = cards_with(part["datasets"], job.config["data_dir"])
    part |= {"spec": validate_run(part["spec"], part["run"]), "card": next(iter(cards.values()))}
    note = Path("results/checkpoints", f"{job.params.key}.alone")
    with device_of_job(job.config, 1, job.wildcards.networks, note) as device:
        stamp = provenance.begin(
            spec={"study": job.wildcards.study, "scale": job.wildcards.scale},
            key=job.params.key,
            code=job.params.code,
            seeds=[],
            device=in_words(device),
        )
        table = measure_large_networks(part, job.threads, device)
    artifacts.write_table(job.output.table, table, stamp.finish())
