"""Count what classifiers predict under noise, for one slice of the test images."""

from replica import artifacts, provenance, store
from replica.kinds import training_cost
from replica.settings.validation import validate_run
from replica.smoothing.certification import Base, certify
from replica.training.jobs import open_job

job = snakemake
with provenance.one_sentence(job.log[0]):
    outputs = dict(job.output.items())
    if not store.restore(job.params.key, outputs):
        spec = validate_run(job.params.spec, job.wildcards.run)
        base = validate_run(job.params.base, spec.base_run)
        slots = training_cost(spec, len(job.params.seeds), base).gpu_slots
        with open_job(job, slots) as (run, stamp):
            counts = certify(spec, run, Base(base, run.start), job.params.slice)
        artifacts.write_tensors(job.output.counts, counts, stamp.finish())
        store.keep(job.params.key, outputs)
