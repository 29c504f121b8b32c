"""Train one part of a run; write its states and its history."""

from pathlib import Path

from replica import artifacts, provenance
from replica.specs import validate_run
from replica.training import runs
from replica.training.checkpoint import Checkpoint

job = snakemake
with provenance.one_sentence(job.log[0]):
    spec = validate_run(job.params.spec, job.wildcards.run)
    device = runs.choose_device(job.config["device"], runs.is_large(spec))
    checkpoint = Checkpoint(Path(job.params.checkpoint))
    stamp = provenance.begin(
        spec=job.params.spec,
        key=job.params.key,
        code=job.params.code,
        seeds=job.params.seeds,
        device=str(device),
    )
    trained = getattr(runs, f"train_{spec.kind}")(
        spec,
        runs.Job(
            study=job.wildcards.study,
            run=job.wildcards.run,
            seeds=tuple(job.params.seeds),
            checkpoint=checkpoint.path,
            device=device,
            threads=job.threads,
            card=next(iter(job.input.card), None),
        ),
    )
    artifacts.write_tensors(job.output.states, trained.states, stamp.finish())
    artifacts.write_table(job.output.history, trained.history, stamp.finish())
    checkpoint.discard()
