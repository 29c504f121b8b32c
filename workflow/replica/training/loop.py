"""A supervised training loop to be read from top to bottom.

The data lies on the device as two tensors; batches are drawn and augmented there. Everything that
decides the next step is in the checkpoint, so a stopped run resumes bit for bit on a CPU.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, cast

import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from replica.progress import progress
from replica.provenance import stream_seed
from replica.training.checkpoint import Checkpoint
from replica.training.ensemble import TrainingDiverged
from replica.training.jobs import Job
from replica.training.precision import autocast


@dataclass(frozen=True)
class Recipe:
    """How a network is trained.

    Attributes:
        lr: highest learning rate.
        epochs, batch: passes over the data, samples a step.
        optimiser: sgd, adam or adamw.
        momentum: of sgd.
        decay: weight decay by prefix of the parameters' names; the longest prefix that fits
            counts, others have none.
        schedule: constant, multistep (divided by ten at `milestones`, fractions of the run) or
            cosine (to zero).
        warmup: fraction of the run during which the rate rises linearly.
        padding: pixels of zero padding for random crops; 0 for none.
        flips: random mirror images.
        restarts: reset the buffers of the optimiser, such as momentum, in each epoch.
        precision: see `replica.training.precision`.
    """

    lr: float
    epochs: int
    batch: int
    optimiser: Literal["sgd", "adam", "adamw"] = "sgd"
    momentum: float = 0.0
    decay: Mapping[str, float] | None = None
    schedule: Literal["constant", "multistep", "cosine"] = "constant"
    milestones: Sequence[float] = (1 / 3, 2 / 3)
    warmup: float = 0.0
    padding: int = 0
    flips: bool = False
    restarts: bool = False
    precision: str = "float32"


# (model, inputs, labels) -> the parts of the loss; their sum is minimised
Objective = Callable[[nn.Module, Tensor, Tensor], dict[str, Tensor]]


@dataclass(frozen=True)
class Run:
    """The result of a training: rows (epoch, metric, value), and the snapshots by epoch."""

    history: list[tuple[int, str, float]]
    snapshots: dict[int, dict[str, Tensor]]


def train(
    model: nn.Module,
    inputs: Tensor,
    labels: Tensor,
    objective: Objective,
    recipe: Recipe,
    *,
    seed: int | Sequence[int],
    snapshot_epochs: Sequence[int],
    checkpoint: Checkpoint,
    evaluate: Callable[[nn.Module], dict[str, float]] | None = None,
    perturb: Callable[..., Tensor] | None = None,
    before_epoch: Callable[[int], None] | None = None,
    keep: Callable[[nn.Module], dict[str, Tensor]] | None = None,
    name: str = "training",
) -> Run:
    """Train `model` in place.

    Args:
        model: on the device of the data.
        inputs: (N, ...) on the device.
        labels: (N,) on the device.
        objective: parts of the loss of a batch; their sum is minimised, their means over an epoch
            are logged.
        recipe: how to train.
        seed: of the order of samples and the augmentation. With several, the samples are those of
            as many networks that `model` trains at once, an equal share for each; so is each batch,
            of `recipe.batch` samples for each.
        snapshot_epochs: epochs after which something is kept; 0 is the start.
        checkpoint: where the state is saved, and when.
        evaluate: further numbers to log after each epoch.
        perturb: maps a batch, the rows of its samples and the epoch's generators (on the CPU), one
            per seed, to the network's input; applied after the augmentation.
        before_epoch: called with the number of each epoch, from 1, before it.
        keep: what is kept of the network, as tensors on the CPU; its state where absent.
        name: for the progress line.

    Raises:
        TrainingDiverged: the loss is not finite; names the step and the last good checkpoint.
        SystemExit: SIGTERM came; the state is saved.
    """
    optimiser = Optimiser(model, recipe)
    keep = keep or _on_cpu
    seeds = [seed] if isinstance(seed, int) else seed
    steps_per_epoch = math.ceil(len(inputs) // len(seeds) / recipe.batch)
    total = recipe.epochs * steps_per_epoch
    history: list[tuple[int, str, float]] = []
    snapshots: dict[int, dict[str, Tensor]] = {}
    first_epoch = 1

    if (saved := checkpoint.load()) is not None:
        first_epoch = _restore(saved, model, optimiser, history, snapshots) + 1
    elif 0 in snapshot_epochs:
        snapshots[0] = keep(model)

    with checkpoint.catching_sigterm(), progress(name, recipe.epochs, first_epoch - 1) as tick:
        for epoch in range(first_epoch, recipe.epochs + 1):
            sums: dict[str, Tensor] = {}
            model.train()
            if recipe.restarts:
                optimiser.restart()
            if before_epoch is not None:
                before_epoch(epoch)
            first_step = (epoch - 1) * steps_per_epoch
            for step, (x, y) in enumerate(
                batches(inputs, labels, recipe, seeds, epoch, perturb), first_step
            ):
                with autocast(recipe.precision, inputs.device):
                    parts = objective(model, x, y)
                sum(parts.values(), torch.zeros(())).backward()
                optimiser.step(recipe.lr * rate(recipe, step / total))
                for part, value in parts.items():
                    sums[part] = sums.get(part, 0) + value.detach().double() * len(y)
            means = {part: (value / len(inputs)).item() for part, value in sums.items()}
            if not all(math.isfinite(value) for value in means.values()):
                raise TrainingDiverged(
                    f"The loss of {name} is not finite after step {epoch * steps_per_epoch} "
                    f"(epoch {epoch}): {means}; lower lr. The last good state is "
                    f"{checkpoint.path or 'not saved'}."
                )
            if evaluate is not None:
                model.eval()
                means |= evaluate(model)
            history += [(epoch, metric, value) for metric, value in means.items()]
            if epoch in snapshot_epochs:
                snapshots[epoch] = keep(model)
            tick(epoch, partial(_in_words, means))
            if checkpoint.due() and (checkpoint.stopping or epoch < recipe.epochs):
                checkpoint.save(partial(_state, model, optimiser, history, snapshots, epoch))
    return Run(history, snapshots)


def batches(
    inputs: Tensor,
    labels: Tensor,
    recipe: Recipe,
    seeds: Sequence[int],
    epoch: int,
    perturb: Callable[..., Tensor] | None,
) -> Iterator[tuple[Tensor, Tensor]]:
    """The shuffled batches of an epoch, augmented and perturbed: what the network sees, and labels.

    Each seed has a stream made from the number of the epoch, so there is no generator to save. The
    arguments are those of `train`.
    """
    N = len(inputs) // len(seeds)
    generators = [
        torch.Generator().manual_seed((own + 0x9E3779B9 * epoch) % 2**63) for own in seeds
    ]
    order = torch.stack([torch.randperm(N, generator=own) for own in generators])
    order = (order + N * torch.arange(len(seeds))[:, None]).to(inputs.device)
    for rows in order.split(recipe.batch, 1):
        rows = rows.flatten()
        x = augmented(inputs[rows], recipe.padding, recipe.flips, *generators)
        if perturb is not None:
            x = perturb(x, rows, *generators)
        yield x, labels[rows]


def train_seeds(
    job: Job,
    build: Callable[[int], nn.Module],
    inputs: Tensor,
    labels: Tensor,
    objective: Objective,
    recipe: Recipe,
    **more: Any,
) -> tuple[list[Run], pd.DataFrame]:
    """A training for each seed of a job, one after another, with streams named after the seed.

    Args:
        job: whose seeds, streams, checkpoints and device.
        build: from the seed of its weights to a model.
        inputs, labels, objective, recipe, more: see `train`.

    Returns:
        What each leaves, and their histories with columns step (the epoch), metric, value, seed.
    """
    runs, histories = [], []
    for seed in job.seeds:
        names = (job.study, job.run, seed)
        run = train(
            build(stream_seed(*names, "start")).to(job.device),
            inputs,
            labels,
            objective,
            recipe,
            seed=stream_seed(*names, "order"),
            checkpoint=job.checkpoint.member(seed),
            name=f"{job.study} {job.run} seed {seed}",
            **more,
        )
        runs.append(run)
        rows = pd.DataFrame(run.history, columns=["step", "metric", "value"])
        histories.append(rows.assign(seed=seed))
    return runs, pd.concat(histories, ignore_index=True)


class Optimiser:
    """SGD with momentum, Adam or AdamW as in `torch.optim`, in one fused call a group.

    `torch.optim` itself imports the machinery of torch.compile at its first use, a second of each
    job, and its own work on a small network is a fifth of the step.

    Attributes:
        groups: the parameters by their weight decay; each must have a gradient in every step.
    """

    def __init__(self, model: nn.Module, recipe: Recipe) -> None:
        self.recipe = recipe
        self.groups: dict[float, list[Tensor]] = {}
        decays = recipe.decay or {}
        for name, parameter in model.named_parameters():
            fitting = [prefix for prefix in decays if name.startswith(prefix)]
            decay = decays[max(fitting, key=len)] if fitting else 0.0
            self.groups.setdefault(decay, []).append(parameter)
        listed = [p for parameters in self.groups.values() for p in parameters]
        kept = ["mean", "square"]
        if recipe.optimiser == "sgd":
            kept = ["momentum"] if recipe.momentum else []
        self.steps = torch.zeros((), device=listed[0].device)
        self.buffers = {name: [torch.zeros_like(p) for p in listed] for name in kept}

    def step(self, lr: float) -> None:
        """Take a step along the gradients of the parameters, then clear them."""
        self.steps += 1
        first = 0
        with torch.no_grad():
            for decay, parameters in self.groups.items():
                count = len(parameters)
                own = [buffers[first : first + count] for buffers in self.buffers.values()]
                gradients = [cast(Tensor, p.grad) for p in parameters]
                if self.recipe.optimiser == "sgd":
                    torch._fused_sgd_(
                        parameters,
                        gradients,
                        own[0] if own else [],
                        weight_decay=decay,
                        momentum=self.recipe.momentum,
                        lr=lr,
                        dampening=0.0,
                        nesterov=False,
                        maximize=False,
                        is_first_step=False,
                    )
                else:
                    adam = {"adam": torch._fused_adam_, "adamw": torch._fused_adamw_}
                    adam[self.recipe.optimiser](
                        parameters,
                        gradients,
                        own[0],
                        own[1],
                        [],
                        [self.steps] * count,
                        lr=lr,
                        beta1=0.9,
                        beta2=0.999,
                        eps=1e-8,
                        weight_decay=decay,
                        amsgrad=False,
                        maximize=False,
                    )
                for parameter in parameters:
                    parameter.grad = None
                first += count

    def state(self) -> dict[str, Tensor]:
        """The number of steps, and the buffers `<name>/<number of the parameter>`."""
        buffers = {f"{k}/{i}": v for k, own in self.buffers.items() for i, v in enumerate(own)}
        return {"steps": self.steps} | buffers

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Continue from what `state` returned."""
        for name, value in self.state().items():
            value.copy_(state[name])

    def restart(self) -> None:
        """Reset all buffers."""
        for value in self.state().values():
            value.zero_()


def rate(recipe: Recipe, done: float) -> float:
    """The learning rate after the fraction `done` of the run, as a fraction of the highest rate."""
    if done < recipe.warmup:
        return (done + 1e-3) / (recipe.warmup + 1e-3)
    if recipe.schedule == "cosine":
        return (1 + math.cos(math.pi * (done - recipe.warmup) / (1 - recipe.warmup))) / 2
    if recipe.schedule == "multistep":
        return 0.1 ** sum(done >= milestone for milestone in recipe.milestones)
    return 1.0


def augmented(images: Tensor, padding: int, flips: bool, *generators: torch.Generator) -> Tensor:
    """Random crops if there is padding, then random mirror images if `flips`.

    Each generator draws for an equal share of the images: the first for the first ones.
    """
    if padding:
        images = crop(images, padding, *generators)
    return flip(images, *generators) if flips else images


def crop(images: Tensor, padding: int, *generators: torch.Generator) -> Tensor:
    """Zero-pad images (b, C, H, W) and cut each at its own random place, all at once."""
    b, _, height, width = images.shape
    padded = F.pad(images, (padding,) * 4)
    share = (2, b // len(generators))
    place = torch.cat([torch.randint(2 * padding + 1, share, generator=g) for g in generators], 1)
    place = place.to(images.device)
    rows = place[0, :, None] + torch.arange(height, device=images.device)
    columns = place[1, :, None] + torch.arange(width, device=images.device)
    each = torch.arange(b, device=images.device)
    return padded[each[:, None, None], :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


def flip(images: Tensor, *generators: torch.Generator) -> Tensor:
    """Mirror each image (b, C, H, W) from left to right with probability one half."""
    share = len(images) // len(generators)
    heads = torch.cat([torch.rand(share, generator=own) for own in generators]) < 0.5
    heads = heads.to(images.device)
    return torch.where(heads[:, None, None, None], images.flip(3), images)


def _in_words(means: Mapping[str, float]) -> str:
    return ", ".join(f"{metric} {value:.4g}" for metric, value in means.items())


def _on_cpu(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().to("cpu", copy=True) for name, value in model.state_dict().items()}


def _state(
    model: nn.Module,
    optimiser: Optimiser,
    history: list[tuple[int, str, float]],
    snapshots: dict[int, dict[str, Tensor]],
    epoch: int,
) -> dict[str, Tensor]:
    saved = {f"model/{k}": v for k, v in model.state_dict().items()}
    saved |= {f"optimiser/{k}": v for k, v in optimiser.state().items()}
    saved |= {f"kept/{e}/{k}": v for e, kept in snapshots.items() for k, v in kept.items()}
    for row, (at, metric, value) in enumerate(history):
        saved[f"history/{row}/{at}/{metric}"] = torch.tensor(value, dtype=torch.float64)
    return saved | {"epoch": torch.tensor(epoch)}


def _restore(
    saved: dict[str, Tensor],
    model: nn.Module,
    optimiser: Optimiser,
    history: list[tuple[int, str, float]],
    snapshots: dict[int, dict[str, Tensor]],
) -> int:
    model.load_state_dict(
        {k.removeprefix("model/"): v for k, v in saved.items() if k[:6] == "model/"}
    )
    optimiser.load({k.removeprefix("optimiser/"): v for k, v in saved.items()})
    rows = {}
    for key, value in saved.items():
        kind, *rest = key.split("/", 3 if key.startswith("history/") else 2)
        if kind == "kept":
            snapshots.setdefault(int(rest[0]), {})[rest[1]] = value
        elif kind == "history":
            rows[int(rest[0])] = (int(rest[1]), rest[2], value.item())
    history += [rows[row] for row in sorted(rows)]
    return int(saved["epoch"])
