"""Training of residual networks of one depth, all seeds as a stack."""

import math
from typing import Any

import pandas as pd
import torch
from torch import Tensor
from torch.nn import functional as F

from replica.kinds.residual import ResidualSpec
from replica.measures import collapse
from replica.measures.moments import ClassMoments
from replica.models import residual
from replica.residual import by_hand
from replica.residual.samples import Samples, samples
from replica.training import ensemble
from replica.training.jobs import Job, Result
from replica.training.precision import dtype_of

# Looks at loss and penalty in a training, half of them spaced evenly, half in log(step). Each is a
# pass over all samples: 110 took up to 60 % of the time of a training on all images of MNIST.
LOOKS = 20
HISTORY = ["run", "seed", "depth", "steps", "diverged_at", "step", "metric", "value"]


def train_residual(spec: ResidualSpec, job: Job) -> Result:
    """Minimise the objective of a run (eq. 7) from a start of each seed.

    Returns:
        States: the parameters at the end as `weights/<parameter>` (S, ...), what `observe` makes of
        them, `seed` and `diverged_at`; history: fit, penalty and objective of each member.
    """
    torch.set_num_threads(job.threads)
    data = samples(job.data(), spec, dtype_of(spec.precision))
    params = {name: value.to(job.device) for name, value in start(spec, data, job).items()}
    inputs, ends, labels = (x.to(job.device) for x in (data.inputs, data.ends, data.labels))
    N = len(labels)
    batch = N if spec.batch == "full" else min(spec.batch, N)
    steps = spec.epochs * -(-N // batch)

    rows_of = ensemble.shuffled(job, N, batch)

    def gradients(p: ensemble.State, step: int) -> ensemble.State:
        if batch == N:
            chosen = inputs[None], ends[None], labels[None]
        else:
            rows = rows_of(step)
            # Twice as fast as inputs[rows], which copies number by number.
            read = inputs.index_select(0, rows.flatten()).unflatten(0, rows.shape)
            chosen = read, ends[rows], labels[rows]
        return by_hand.gradients(p, spec, *chosen)

    def evaluate(p: ensemble.State) -> tuple[Tensor, Tensor]:
        with torch.no_grad():
            parts = zip(inputs.split(batch), ends.split(batch), labels.split(batch), strict=True)
            sums = [fit(p, spec, x[None], e[None], y[None]) * len(y) for x, e, y in parts]
            return torch.stack(sums).sum(0) / N, penalty(p, spec)

    objective = ensemble.ByHand(gradients)
    lr = torch.full((len(job.seeds),), spec.lr, dtype=torch.float64)
    more: dict[str, Any] = {"lr": lr, "schedule": schedule(spec, steps)}
    more["penalties"] = strengths(params, spec)
    if spec.optimiser == "adam":
        advance, extra = ensemble.adam(params, objective, **more)
    else:
        advance, extra = ensemble.sgd(params, objective, momentum=spec.momentum, **more)
    trained = ensemble.train(
        params,
        advance,
        evaluate,
        steps=steps,
        log_steps=ensemble.log_spaced(steps, LOOKS // 2),
        snapshot_steps=[steps],
        checkpoint=job.checkpoint,
        extra=extra,
        check_every=max(100, steps // (LOOKS // 2)),
        name=f"{job.study} {job.run}",
    )
    states = observe(params, spec, data, batch)
    states |= {f"weights/{name}": value for name, value in trained.snapshots[steps].items()}
    states |= {"seed": torch.tensor(job.seeds), "diverged_at": trained.diverged_at}
    return Result(states, _history(trained, spec, job, steps))


def observe(
    params: residual.State, spec: ResidualSpec, data: Samples, batch: int
) -> dict[str, Tensor]:
    """What the metrics of S members are made from, over all samples, in float64.

    Args:
        params: on the device that is to be used.
        spec, data: the run and its samples.
        batch: samples at a time.

    Returns:
        means (S, d, K) and within_trace (S,) of the features that enter the head; head (S, K, d);
        aligned (S,), the mean cosine of a feature and its row of the head; accuracy and fit (S,);
        penalty_terms (S, blocks + 1); gradient (S,), the norm of the gradient of the objective over
        that of its penalty, in the regularised weights: 0 at a stationary point.
    """
    # One by one: in float64 all of them would take twice the memory that their training took.
    members = [
        _observe_member(
            {name: value[s : s + 1] for name, value in params.items()}, spec, data, batch
        )
        for s in range(len(params["head"]))
    ]
    return {name: torch.cat([m[name] for m in members]).cpu() for name in members[0]}


def _observe_member(
    params: residual.State, spec: ResidualSpec, data: Samples, batch: int
) -> dict[str, Tensor]:
    device, N = params["head"].device, len(data.labels)
    leaves = {name: value.detach().double().requires_grad_() for name, value in params.items()}
    weights, head = residual.regularised(leaves), leaves["head"]
    moments = ClassMoments.empty(data.K, spec.width, device=device)
    slopes = {name: torch.zeros_like(w) for name, w in weights.items()}
    sums = {n: torch.zeros(1).to(head) for n in ("fit", "accuracy", "aligned")}
    chunks = [x.split(batch) for x in (data.inputs, data.ends, data.labels)]
    for parts in zip(*chunks, strict=True):
        inputs, ends, labels = (x.to(device) for x in parts)
        inputs = inputs.double() if inputs.is_floating_point() else inputs
        x = residual.features(leaves, spec, inputs[None], ends[None])
        out = residual.logits(leaves, x)
        lost = losses(out, labels[None], spec).sum(1)
        gradients = torch.autograd.grad(lost.sum() / N, list(weights.values()))
        for name, gradient in zip(weights, gradients, strict=True):
            slopes[name] += gradient
        with torch.no_grad():
            sums["fit"] += lost
            sums["accuracy"] += (out.argmax(-1) == labels).sum(1).double()
            sums["aligned"] += (1 - collapse.nc3_cos(x.mT, labels, head)) * len(labels)
            moments.add(x[0], labels)
    with torch.no_grad():
        of_penalty = {name: λ * weights[name] for name, λ in strengths(leaves, spec).items()}
        zero = torch.zeros(())
        left = sum(((slopes[name] + of_penalty[name]).square().sum() for name in weights), zero)
        ratio = (left / sum((slope.square().sum() for slope in of_penalty.values()), zero)).sqrt()
        return {name: value / N for name, value in sums.items()} | {
            "means": moments.means[None],
            "within_trace": moments.within_trace[None],
            "head": head.detach(),
            "penalty_terms": penalty_terms(leaves, spec),
            "gradient": ratio[None],
        }


def start(spec: ResidualSpec, data: Samples, job: Job) -> ensemble.State:
    """Parameters at the start, each member's from a stream of its own."""
    generators, dtype = ensemble.generators(job, job.seeds), dtype_of(spec.precision)
    return residual.initialise(spec, data.dimensions, data.positions, data.K, generators, dtype)


def fit(
    params: residual.State, spec: ResidualSpec, inputs: Tensor, ends: Tensor, labels: Tensor
) -> Tensor:
    """Mean loss (S,) over samples (S, b, ...), or (1, b, ...) shared by all members."""
    out = residual.logits(params, residual.features(params, spec, inputs, ends))
    return losses(out, labels.expand(len(out), -1), spec).mean(1)


def losses(out: Tensor, labels: Tensor, spec: ResidualSpec) -> Tensor:
    """Cross-entropy, or half the squared error, of each sample: (S, b) of logits (S, b, K)."""
    if spec.loss == "mse":
        return (out - F.one_hot(labels, out.shape[-1])).square().sum(-1) / 2
    return F.cross_entropy(out.mT, labels, reduction="none")


def strengths(params: residual.State, spec: ResidualSpec) -> dict[str, float]:
    """λ of each regularised weight."""
    return {
        name: spec.lambda_head if name == "head" else spec.lambda_blocks
        for name in residual.regularised(params)
    }


def penalty_terms(params: residual.State, spec: ResidualSpec) -> Tensor:
    """(λ/2)|W|² of each block and, last, of the head: (S, blocks + 1)."""
    terms = {
        name: λ / 2 * params[name].square().sum((-2, -1))
        for name, λ in strengths(params, spec).items()
    }
    head = terms.pop("head")
    return torch.cat([sum(terms.values(), torch.zeros(())), head[:, None]], 1)


def penalty(params: residual.State, spec: ResidualSpec) -> Tensor:
    """Σ (λ/2)|W|² over all regularised matrices, (S,)."""
    return penalty_terms(params, spec).sum(1)


def schedule(spec: ResidualSpec, steps: int) -> ensemble.Schedule:
    """The factor of the rate at each step."""
    if spec.schedule == "constant":
        return lambda _: 1.0
    return lambda step: (1 + math.cos(math.pi * (step - 1) / steps)) / 2


def _history(trained: ensemble.Trained, spec: ResidualSpec, job: Job, steps: int) -> pd.DataFrame:
    values = {"fit": trained.fit, "penalty": trained.penalty}
    values["objective"] = trained.fit + trained.penalty
    frames = []
    for s, seed in enumerate(job.seeds):
        own = {"seed": seed, "diverged_at": int(trained.diverged_at[s])}
        for metric, found in values.items():
            frame = pd.DataFrame({"step": trained.steps, "value": found[:, s]})
            frames.append(frame.assign(metric=metric, **own))
    history = pd.concat(frames, ignore_index=True).dropna(subset="value")
    return history.assign(run=job.run, depth=spec.depth, steps=steps)[HISTORY]
