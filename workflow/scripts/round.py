"""One stage of active learning; write its states, its history and the labelled sets."""

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
        before = next(iter(job.input.labelled), None)
        with open_job(job, slots) as (run, stamp):
            trained, labelled = provenance.function(kinds.makes(spec))(
                spec, run, job.params.stage, artifacts.read_table(before) if before else None
            )
        artifacts.write_tensors(job.output.states, trained.states, stamp.finish())
        artifacts.write_table(job.output.history, trained.history, stamp.finish())
        artifacts.write_table(job.output.labelled, labelled, stamp.finish())
        store.keep(job.params.key, outputs)
        # As in train.py: a group of jobs on a cluster fails as a whole.
        if "SLURM_JOB_ID" not in os.environ:
            run.checkpoint.discard()
