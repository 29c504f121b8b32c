"""Count what classifiers predict under noise, for one slice of the test images."""

from pathlib import Path

from replica import artifacts, provenance
from replica.costs import certification_cost
from replica.smoothing.certification import Base, certify
from replica.specs import validate_run
from replica.training.checkpoint import Checkpoint
from replica.training.devices import device_for
from replica.training.runs import Job

job = snakemake
config, seeds = job.config, tuple(job.params.seeds)
with provenance.one_sentence(job.log[0]):
    spec = validate_run(job.params.spec, job.wildcards.run)
    base = validate_run(job.params.base, spec.base_run)
    provenance.require_memory(job.resources.mem_mb, job.wildcards.run)
    slots = certification_cost(spec, base, len(seeds)).gpu_slots
    with device_for(config["device"], slots, config["jobs_per_gpu"]) as device:
        stamp = provenance.begin(
            spec=job.params.spec,
            key=job.params.key,
            code=job.params.code,
            seeds=job.params.seeds,
            device=str(device),
        )
        states, _ = artifacts.read_tensors(job.input.base)
        counts = certify(
            spec,
            Job(
                study=job.wildcards.study,
                run=job.wildcards.run,
                seeds=seeds,
                checkpoint=Checkpoint(Path(job.params.store), config["checkpoint_seconds"]),
                device=device,
                threads=job.threads,
                card=Path(job.input.card[0]),
            ),
            Base(base, states),
            job.params.slice,
        )
    artifacts.write_tensors(job.output.counts, counts, stamp.finish())
