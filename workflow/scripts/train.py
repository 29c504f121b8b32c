"""Train one part of a run; write its states and its history."""

import os

from replica import artifacts, kinds, provenance, store
from replica.settings.validation import validate_run
from replica.training.jobs import open_job

job = snakemake
with provenance.one_sentence(job.log[0]):
    outputs = dict(job.output.items())
    if not store.restore(job.params.key, outputs):
        spec = validate_run(job.params.spec, job.wildcards.run)
        slots = kinds.training_cost(spec, len(job.params.seeds)).gpu_slots
        with open_job(job, slots) as (run, stamp):
            trained = provenance.function(kinds.makes(spec))(spec, run)
        artifacts.write_tensors(job.output.states, trained.states, stamp.finish())
        artifacts.write_table(job.output.history, trained.history, stamp.finish())
        store.keep(job.params.key, outputs)
        # A group of jobs on a cluster fails as a whole, and Snakemake then deletes what its members
        # had finished. Where the store keeps nothing the checkpoint brings that back; `replica
        # launch` clears it away in the end.
        if "SLURM_JOB_ID" not in os.environ:
            run.checkpoint.discard()
