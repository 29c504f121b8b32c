"""Train one part of a run; write its states and its history."""

import os
from pathlib import Path

from replica import artifacts, costs, provenance
from replica.specs import validate_run
from replica.training.checkpoint import Checkpoint
from replica.training.devices import device_for
from replica.training.runs import Job

job = snakemake
config, seeds = job.config, tuple(job.params.seeds)
with provenance.one_sentence(job.log[0]):
    spec = validate_run(job.params.spec, job.wildcards.run)
    provenance.require_memory(job.resources.mem_mb, job.wildcards.run)
    slots = costs.training_cost(spec, len(seeds)).gpu_slots
    checkpoint = Checkpoint(Path(job.params.checkpoint), config["checkpoint_seconds"])
    with device_for(config["device"], slots, config["jobs_per_gpu"]) as device:
        stamp = provenance.begin(
            spec=job.params.spec,
            key=job.params.key,
            code=job.params.code,
            seeds=job.params.seeds,
            device=str(device),
        )
        trained = provenance.function(job.params.entry)(
            spec,
            Job(
                study=job.wildcards.study,
                run=job.wildcards.run,
                seeds=seeds,
                checkpoint=checkpoint,
                device=device,
                threads=job.threads,
                card=next(iter(job.input.card), None),
            ),
        )
    artifacts.write_tensors(job.output.states, trained.states, stamp.finish())
    artifacts.write_table(job.output.history, trained.history, stamp.finish())
    # A group of jobs on a cluster fails as a whole, and Snakemake then deletes what its members had
    # finished. The checkpoint brings that back; `replica launch` clears it away in the end.
    if "SLURM_JOB_ID" not in os.environ:
        checkpoint.discard()
