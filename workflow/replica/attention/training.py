"""Training of decoders, all seeds as a stack."""

import pandas as pd
import torch
from torch import Tensor
from torch.nn import functional as F

from replica.attention.tasks import Batch, batch_of, task_of
from replica.data.prepare import load, verify
from replica.kinds.attention import DecoderSpec
from replica.models import decoder
from replica.training import ensemble
from replica.training.jobs import Job, Result

HISTORY = ["run", "seed", "steps", "diverged_at", "step", "metric", "value"]
# Held-out sequences of the loss.
SEQUENCES = 128


def train_decoder(spec: DecoderSpec, job: Job) -> Result:
    """Train a decoder from a start of each seed.

    Returns:
        States: the parameters of every measured step as `<step>/<parameter>` (S, ...); the
        held-out sequences of small tasks as `held_out/<part of a batch>`; `seed`, `diverged_at`.
        History: the held-out loss.
    """
    torch.set_num_threads(job.threads)
    if job.card is not None:
        verify(job.card)
    task = task_of(spec, job.study, job.run, load(job.card) if job.card else None)
    generators = ensemble.generators(job, job.seeds)
    params = decoder.initialise(spec, task.inputs, task.outputs, generators)
    params = {name: value.to(job.device) for name, value in params.items()}
    held_out = batch_of(task, job.seeds, "held out", SEQUENCES).to(job.device)

    def objective(p: ensemble.State, step: int) -> Tensor:
        batch = batch_of(task, job.seeds, f"step {step}", spec.batch).to(job.device)
        return loss(p, spec, batch)

    def evaluate(p: ensemble.State) -> tuple[Tensor, Tensor]:
        with torch.no_grad():
            found = loss(p, spec, held_out)
        return found, torch.zeros_like(found)

    lr = torch.full((len(job.seeds),), spec.lr, dtype=torch.float64)
    more = {"lr": lr, "schedule": schedule(spec)}
    if spec.optimiser == "adamw":
        advance, extra = ensemble.adam(
            params, objective, weight_decay=spec.weight_decay, decayed=decoder.DECAYED, **more
        )
    else:
        advance, extra = ensemble.sgd(params, objective, **more)
    measured = range(0, spec.steps + 1, spec.every)
    trained = ensemble.train(
        params,
        advance,
        evaluate,
        steps=spec.steps,
        log_steps=sorted({*ensemble.log_spaced(spec.steps, 30), *measured}),
        snapshot_steps=measured,
        checkpoint=job.checkpoint,
        extra=extra,
        name=f"{job.study} {job.run}",
    )
    states = {
        f"{step}/{name}": value
        for step, kept in trained.snapshots.items()
        for name, value in kept.items()
    }
    if spec.task.kind != "text":
        # Drawn from the streams of this job, which the measures do not know.
        parts = {"inputs": held_out.inputs, "targets": held_out.targets}
        parts["triggers"] = held_out.triggers
        states |= {f"held_out/{name}": value for name, value in parts.items()}
    states |= {"seed": torch.tensor(job.seeds), "diverged_at": trained.diverged_at}
    return Result(states, _history(trained, spec, job))


def loss(params: decoder.State, spec: DecoderSpec, batch: Batch) -> Tensor:
    """Cross-entropy of the next character in nats, or mean squared error, (S,)."""
    out = decoder.forward(params, spec, batch.inputs)
    return losses(out, spec, batch).mean((1, 2))


def losses(out: Tensor, spec: DecoderSpec, batch: Batch) -> Tensor:
    """The loss of each row, (S, B, T)."""
    if spec.of_tokens:
        targets = batch.targets.expand(out.shape[:-1])
        flat = F.cross_entropy(out.flatten(0, 2), targets.flatten(), reduction="none")
        return flat.unflatten(0, out.shape[:-1])
    return (out - batch.targets).square().mean(-1)


def schedule(spec: DecoderSpec) -> ensemble.Schedule:
    """The factor of the rate at each step (from 1)."""
    return lambda step: min(1.0, step / spec.warmup) if spec.warmup else 1.0


def _history(trained: ensemble.Trained, spec: DecoderSpec, job: Job) -> pd.DataFrame:
    frames = []
    for s, seed in enumerate(job.seeds):
        frame = pd.DataFrame({"step": trained.steps, "value": trained.fit[:, s]})
        frames.append(frame.assign(seed=seed, diverged_at=int(trained.diverged_at[s])))
    history = pd.concat(frames, ignore_index=True).dropna(subset="value")
    return history.assign(run=job.run, steps=spec.steps, metric="loss")[HISTORY]
