"""Training of the deep unconstrained features model, alone and behind a network."""

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from replica.kinds.features import DufmSpec, NetworkHeadSpec
from replica.models import dufm, headed_networks
from replica.theory.dnc import equal_lambda_threshold
from replica.training import ensemble, loop
from replica.training.jobs import Job, Result
from replica.training.precision import dtype_of

MEMBER = ["seed", "lambda_w", "lambda_h", "lr", "diverged_at"]
HISTORY = [
    *["run", "seed", "K", "L", "n", "width", "lambda_w", "lambda_h", "lr", "steps"],
    *["diverged_at", "step", "metric", "value"],
]


def train_dufm(spec: DufmSpec, job: Job) -> Result:
    """Full-batch gradient descent on the deep unconstrained features model.

    The members are all seeds at the first value of lambda, then all at the second, and so on.
    """
    torch.set_num_threads(job.threads)
    if spec.threshold_ratio is not None:
        critical = equal_lambda_threshold(spec.K, spec.L, spec.n)
        lambdas = [ratio * critical for ratio in spec.threshold_ratio]
    else:
        lambdas = spec.lambda_w if isinstance(spec.lambda_w, list) else [spec.lambda_w]
    seeds = torch.tensor(job.seeds).repeat(len(lambdas))
    lambda_w = torch.tensor(lambdas, dtype=torch.float64).repeat_interleave(len(job.seeds))
    lambda_h = lambda_w if spec.lambda_h is None else torch.full_like(lambda_w, spec.lambda_h)
    lr = torch.full_like(lambda_w, spec.lr)
    params = dufm.initialise(
        K=spec.K,
        L=spec.L,
        n=spec.n,
        width=spec.width,
        h_std=spec.h_std,
        w_gain=spec.w_gain,
        generators=ensemble.generators(job, seeds.tolist()),
        dtype=dtype_of(spec.precision),
    )
    params = {name: value.to(job.device) for name, value in params.items()}
    lambda_w, lambda_h, lr = (x.to(job.device) for x in (lambda_w, lambda_h, lr))
    step = dufm.gradient_descent(params, lambda_w, lambda_h, lr)
    trained = ensemble.train(
        params,
        lambda _: step(),
        lambda p: dufm.fit_and_penalty(p, lambda_w, lambda_h),
        steps=spec.steps,
        log_steps=log_steps(spec.steps),
        snapshot_steps=ensemble.log_spaced(spec.steps, spec.snapshots),
        checkpoint=job.checkpoint,
        name=f"{job.study} {job.run}",
    )
    members = {"seed": seeds, "lambda_w": lambda_w, "lambda_h": lambda_h, "lr": lr}
    shape = {"K": spec.K, "L": spec.L, "n": spec.n, "width": spec.width, "steps": spec.steps}
    return _result(trained, members, shape, job.run)


def train_network_head(spec: NetworkHeadSpec, job: Job) -> Result:
    """A backbone and a DUFM head, jointly, with penalties on the head and on the features H_1."""
    torch.set_num_threads(job.threads)
    dtype = dtype_of(spec.precision)
    samples = headed_networks.training_samples(job.data(), spec.classes, spec.per_class, dtype)
    train = _train_mlp if spec.backbone.kind == "mlp" else _train_resnet
    return train(spec, job, samples)


def _train_mlp(spec: NetworkHeadSpec, job: Job, samples: headed_networks.Samples) -> Result:
    N = len(samples.labels)
    inputs, targets = samples.inputs.to(job.device), samples.one_hot().to(job.device)
    params = headed_networks.initialise_mlp(
        widths=spec.backbone.widths,
        gain=spec.backbone.gain,
        K=samples.K,
        L=spec.L,
        width=spec.width,
        head_gain=spec.head_gain,
        generators=ensemble.generators(job, job.seeds),
        dtype=inputs.dtype,
    )
    params = {name: value.to(job.device) for name, value in params.items()}
    batch = N if spec.batch == "full" else min(spec.batch, N)
    steps_per_epoch = -(-N // batch)
    steps = spec.epochs * steps_per_epoch

    def parts(p: dict[str, Tensor], x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        weights = [p[f"W{l}"] for l in range(1, spec.L + 1)]
        layers = headed_networks.forward_mlp(p, x)
        return headed_networks.fit_and_penalty(
            layers, weights, y.mT, spec.lambda_w, spec.lambda_h, N
        )

    rows_of = ensemble.shuffled(job, N, batch)

    def objective(p: dict[str, Tensor], step: int) -> Tensor:
        x, y = inputs, targets
        if batch < N:
            rows = rows_of(step)
            x, y = inputs[rows], targets[rows]
        fit, penalty = parts(p, x, y)
        backbone = sum(v.square().sum((1, 2)) for k, v in p.items() if not k.startswith("W"))
        return fit + penalty + spec.lambda_backbone / 2 * backbone

    lr = torch.full((len(job.seeds),), spec.lr, dtype=torch.float64)
    advance, velocity = ensemble.sgd(params, objective, lr=lr, momentum=spec.momentum)
    trained = ensemble.train(
        params,
        advance,
        lambda p: parts(p, inputs, targets),
        steps=steps,
        log_steps=log_steps(steps),
        snapshot_steps=ensemble.log_spaced(steps, spec.snapshots),
        checkpoint=job.checkpoint,
        extra=velocity,
        name=f"{job.study} {job.run}",
    )
    return _result(trained, _members(spec, job), _shape(spec, samples, steps), job.run)


def _train_resnet(spec: NetworkHeadSpec, job: Job, samples: headed_networks.Samples) -> Result:
    N = len(samples.labels)
    inputs, labels = samples.inputs.to(job.device), samples.labels.to(job.device)

    def objective(model: torch.nn.Module, x: Tensor, y: Tensor) -> dict[str, Tensor]:
        H1 = model.backbone(x)
        target = torch.nn.functional.one_hot(y, samples.K).mT
        layers = [H1.mT.float(), model.head(H1).mT.float()]
        weights = model.head.weights
        fit, penalty = headed_networks.fit_and_penalty(
            layers, weights, target, spec.lambda_w, spec.lambda_h, N
        )
        return {"fit": fit, "penalty": penalty}

    recipe = loop.Recipe(
        lr=spec.lr,
        epochs=spec.epochs,
        batch=N if spec.batch == "full" else spec.batch,
        momentum=spec.momentum,
        decay={"backbone": spec.lambda_backbone},
        precision=spec.precision,
    )
    kept = ensemble.log_spaced(spec.epochs, spec.snapshots)
    (run,), _ = loop.train_seeds(
        job,
        lambda seed: headed_networks.resnet20_with_head(spec, samples.K, seed, inputs.shape[1]),
        inputs,
        labels,
        objective,
        recipe,
        snapshot_epochs=kept,
    )
    steps = [epoch for epoch, metric, _ in run.history if metric == "fit"]
    values = {
        name: np.array([[value] for _, metric, value in run.history if metric == name])
        for name in ("fit", "penalty")
    }
    snapshots = {e: {k: v[None] for k, v in s.items()} for e, s in run.snapshots.items()}
    trained = ensemble.Trained(
        snapshots, np.array(steps), values["fit"], values["penalty"], torch.tensor([-1])
    )
    return _result(trained, _members(spec, job), _shape(spec, samples, spec.epochs), job.run)


def log_steps(steps: int) -> list[int]:
    """About 200 steps spaced evenly in log(step), and one 1000 steps before the end.

    They show whether the loss still changes at the end.
    """
    return sorted({*ensemble.log_spaced(steps, 200), max(steps - 1000, 0)})


def _members(spec: NetworkHeadSpec, job: Job) -> dict[str, Tensor]:
    one = torch.ones(len(job.seeds), dtype=torch.float64)
    return {
        "seed": torch.tensor(job.seeds),
        "lambda_w": spec.lambda_w * one,
        "lambda_h": spec.lambda_h * one,
        "lr": spec.lr * one,
    }


def _shape(spec: NetworkHeadSpec, samples: headed_networks.Samples, steps: int) -> dict[str, int]:
    return {"K": samples.K, "L": spec.L, "n": samples.n, "width": spec.width, "steps": steps}


def _result(
    trained: ensemble.Trained, members: dict[str, Tensor], shape: dict[str, int], run: str
) -> Result:
    members = {k: v.cpu() for k, v in members.items()} | {"diverged_at": trained.diverged_at}
    states = {f"{s}/{k}": v for s, kept in trained.snapshots.items() for k, v in kept.items()}
    states |= members
    loss = trained.fit + trained.penalty
    frames = []
    for metric, values in [("loss", loss), ("fit", trained.fit), ("penalty", trained.penalty)]:
        for member in range(values.shape[1]):
            own = {name: members[name][member].item() for name in MEMBER}
            frame = pd.DataFrame({"step": trained.steps, "value": values[:, member]})
            frames.append(frame.assign(run=run, metric=metric, **shape, **own))
    history = pd.concat(frames, ignore_index=True).dropna(subset="value")
    return Result(states, history[HISTORY].reset_index(drop=True))
