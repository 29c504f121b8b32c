"""Small networks that trade off accuracy, fairness and robustness, trained as one stack.

The task: is a digit 5 or more? Group 1 carries a bright mark in a corner; how often a digit does
depends on its class. The networks differ in width, in weight decay, in the attack that they are
trained against and in the penalty on a difference between the groups.
"""

from collections.abc import Callable
from dataclasses import dataclass

import pandas as pd
import torch
from torch import Tensor
from torch.nn import functional as F

from replica.data.prepare import DataError, Dataset
from replica.data.splits import labelled
from replica.kinds.multiobjective import TradeoffSpec
from replica.provenance import stream_seed
from replica.training import ensemble
from replica.training.jobs import Job, Result

HISTORY = ["run", "seed", "steps", "diverged_at", "step", "metric", "value"]
# Side of the mark of group 1, in pixels.
MARK = 2
# Images at a time when every network sees every image.
CHUNK = 256


@dataclass(frozen=True)
class Samples:
    """What trains the networks, and the population: disjoint, together the whole data set.

    Attributes:
        train_inputs, inputs: (N, d) and (P, d) float32 in [0, 1], with the marks.
        train_labels, labels: (N,) and (P,) int64, 1 for a digit of 5 or more.
        train_groups, groups: (N,) and (P,) int64, 1 for an image with the mark.
    """

    train_inputs: Tensor
    train_labels: Tensor
    train_groups: Tensor
    inputs: Tensor
    labels: Tensor
    groups: Tensor


@dataclass(frozen=True)
class Settings:
    """What differs between the M networks of a stack besides their width; each (M,) float32.

    Attributes:
        weight_decay: λ of (λ/2)|W|².
        adversarial: radius of the attack in training, 0 for none.
        fairness: factor of the squared gap.
    """

    weight_decay: Tensor
    adversarial: Tensor
    fairness: Tensor


def train_tradeoffs(spec: TradeoffSpec, job: Job) -> Result:
    """Train a network per seed and combination of `spec.grid`; observe all on the population.

    Each minimises with Adam, at a constant rate, its mean cross-entropy (nats)
    + fairness · (mean of P(ŷ = 1 | x) over group 1 - that over group 0)² + (λ/2)|W|². With a
    radius above 0 the cross-entropy is that of attacked images alone, as in the adversarial
    training of Madry et al. (2018); Goodfellow et al. (2015) mix in as many clean ones. The
    difference of the groups is that of clean images, which is what demographic parity is measured
    on. The weight decay is a part of the objective, unlike in AdamW. The networks of one seed share
    their batches.

    Returns:
        States, for S seeds, G combinations, P images of the population and d pixels:
        W1 (S, G, width, d), b1 (S, G, width), W2 (S, G, 2, width), b2 (S, G, 2), float32, zero
        beyond a network's own width;
        predicted, wrong and attacked_wrong (S, G, P) uint8, the last 1 where the image or the
        attacked image is classified wrongly; label, group (P,) uint8;
        width, parameters (G,) int64, the latter without the padding; weight_decay, adversarial,
        fairness (G,) float64; norm (S, G) float64, the root of |W1|² + |W2|² (Frobenius norms);
        train_error (S, G) float64, of clean images; seed (S,) and diverged_at (S, G) int64, -1 for
        never: a network that diverges is zero from there on.
        History: the objective on all training samples, its mean over the combinations that have
        not diverged; `diverged_at` is the first step at which one has.

    Raises:
        DataError: see `population`.
        TrainingDiverged: see `ensemble.train`.
    """
    torch.set_num_threads(job.threads)
    data = population(spec, job.data(), job.study, job.run)
    S, G = len(job.seeds), len(spec.grid)
    params = start(spec, data.inputs.shape[1], job)
    params = {name: value.to(job.device) for name, value in params.items()}
    N = len(data.train_labels)
    batch = N if spec.batch == "full" else min(spec.batch, N)
    steps = spec.epochs * -(-N // batch)
    objective, evaluate = objectives(spec, job, data, batch)
    lr = torch.full((S * G,), spec.lr, dtype=torch.float64)
    advance, extra = ensemble.adam(params, objective, lr=lr)
    trained = ensemble.train(
        params,
        advance,
        evaluate,
        steps=steps,
        log_steps=ensemble.log_spaced(steps, 30),
        snapshot_steps=[],
        checkpoint=job.checkpoint,
        extra=extra,
        # Each check is a pass over all samples.
        check_every=max(100, steps // 100),
        name=f"{job.study} {job.run}",
    )
    by_network = params | observe(params, spec, data) | {"diverged_at": trained.diverged_at}
    found = {name: value.unflatten(0, (S, G)).cpu() for name, value in by_network.items()}
    widths, *others = zip(*spec.grid, strict=True)
    names = "weight_decay", "adversarial", "fairness"
    found |= {n: torch.tensor(v, dtype=torch.float64) for n, v in zip(names, others, strict=True)}
    width = torch.tensor(widths)
    found |= {
        "width": width,
        "parameters": width * (data.inputs.shape[1] + 3) + 2,
        "label": data.labels.byte(),
        "group": data.groups.byte(),
        "seed": torch.tensor(job.seeds),
    }
    return Result(found, _history(trained, job, steps))


def objectives(
    spec: TradeoffSpec, job: Job, data: Samples, batch: int
) -> tuple[
    Callable[[ensemble.State, int], Tensor],
    Callable[[ensemble.State], tuple[Tensor, Tensor]],
]:
    """What `train_tradeoffs` minimises, of all M networks, on a batch and on all training samples.

    Args:
        spec, job, data: the run, where it runs, and its samples.
        batch: samples of a step; all of them make every step the same.

    Returns:
        (parameters, step) -> the objective (M,); and parameters -> the mean cross-entropy and the
        penalty, each (M,), without gradients.
    """
    G = len(spec.grid)
    settings = settings_of(spec, len(job.seeds), job.device)
    inputs, labels, groups = (
        x.to(job.device) for x in (data.train_inputs, data.train_labels, data.train_groups)
    )
    rows_of = ensemble.shuffled(job, len(labels), batch)

    def objective(p: ensemble.State, step: int) -> Tensor:
        if batch == len(labels):
            x, y, a = inputs[None], labels[None], groups[None]
        else:
            rows = rows_of(step)
            x, y, a = (v[rows].repeat_interleave(G, 0) for v in (inputs, labels, groups))
        losses, positive = outcomes(p, x, y, settings.adversarial, spec.attack_steps)
        return losses.mean(1) + penalty(p, positive, a, settings)

    def evaluate(p: ensemble.State) -> tuple[Tensor, Tensor]:
        with torch.no_grad():
            parts = zip(inputs.split(CHUNK), labels.split(CHUNK), strict=True)
            found = [
                outcomes(p, x[None], y[None], settings.adversarial, spec.attack_steps)
                for x, y in parts
            ]
            losses, positive = (torch.cat(values, 1) for values in zip(*found, strict=True))
            return losses.mean(1), penalty(p, positive, groups[None], settings)

    return objective, evaluate


def population(spec: TradeoffSpec, dataset: Dataset, study: str, run: str) -> Samples:
    """The task on a data set, the same for all seeds, from the names of the run alone.

    Args:
        spec: the run; its data set, pixels, training samples and group rates count.
        dataset: images of the ten digits; both splits are used.
        study, run: names of the random streams of the groups and of the training samples.

    Raises:
        DataError: not images of ten classes, or no sample is left for the population.
    """
    parts = [labelled(dataset, split, spec.pixel_max) for split in ("train", "test")]
    name = dataset.card["dataset"]
    if parts[0].inputs.dim() != 4 or parts[0].K != 10:
        raise DataError(f"{name}: the task needs images of the ten digits.")
    images = torch.cat([part.inputs for part in parts])
    labels = (torch.cat([part.labels for part in parts]) >= 5).long()
    if spec.train >= len(labels):
        raise DataError(
            f"{name}: {spec.train} of {len(labels)} samples are for training, so none is "
            "left to measure on."
        )
    rates = torch.tensor(spec.group_rates, dtype=torch.float64)[labels]
    groups = torch.bernoulli(rates, generator=_stream(study, run, "groups")).long()
    images[groups == 1, :, :MARK, :MARK] = 1
    drawn = torch.randperm(len(labels), generator=_stream(study, run, "training samples"))
    trains = torch.zeros(len(labels), dtype=torch.bool)
    trains[drawn[: spec.train]] = True
    flat = images.flatten(1)
    return Samples(*(x[rows] for rows in (trains, ~trains) for x in (flat, labels, groups)))


def start(spec: TradeoffSpec, d: int, job: Job) -> ensemble.State:
    """He initialisation (2015) of all networks, the combinations of one seed after another.

    Each network has a stream of its own. The units beyond its width are zero; their gradient is
    zero too, so they stay zero.

    Args:
        d: pixels of an image.

    Returns:
        W1 (M, width, d), b1 (M, width), W2 (M, 2, width), b2 (M, 2), float32, for the largest
        width.
    """
    M, most = len(job.seeds) * len(spec.grid), max(spec.widths)
    shapes = {"W1": (most, d), "b1": (most,), "W2": (2, most), "b2": (2,)}
    params = {name: torch.zeros(M, *shape) for name, shape in shapes.items()}
    members = [(seed, *own) for seed in job.seeds for own in spec.grid]
    for m, (seed, width, *own) in enumerate(members):
        name = " ".join(f"{value:g}" for value in (width, *own))
        generator = _stream(job.study, job.run, seed, f"start {name}")
        params["W1"][m, :width] = torch.randn(width, d, generator=generator) * (2 / d) ** 0.5
        params["W2"][m, :, :width] = torch.randn(2, width, generator=generator) * (2 / width) ** 0.5
    return params


def settings_of(spec: TradeoffSpec, seeds: int, device: torch.device) -> Settings:
    """The settings of all networks, in the order of `start`."""
    _, *columns = zip(*spec.grid, strict=True)
    return Settings(*(torch.tensor(column, device=device).repeat(seeds) for column in columns))


def logits(params: ensemble.State, inputs: Tensor) -> Tensor:
    """W2 ReLU(W1 x + b1) + b2 of inputs (M, b, d), or (1, b, d) shared by all: (M, b, 2)."""
    hidden = (inputs @ params["W1"].mT + params["b1"][:, None]).relu()
    return hidden @ params["W2"].mT + params["b2"][:, None]


@torch.no_grad()
def attacked(
    params: ensemble.State, inputs: Tensor, labels: Tensor, radius: Tensor, steps: int
) -> Tensor:
    """Inputs moved to raise the cross-entropy, within an L∞ ball and within [0, 1].

    Projected gradient descent (Madry et al. 2018) from the input itself, with steps of
    2.5 radius / steps; a single step is the fast gradient sign method (Goodfellow et al. 2015).

    Args:
        params: of M networks, see `logits`.
        inputs: (M, b, d), or (1, b, d) shared by all, in [0, 1].
        labels: (M, b) or (1, b), 0 or 1.
        radius: (M,).
        steps: number of steps.

    Returns:
        (M, b, d).
    """
    radius = radius[:, None, None]
    low, high = (inputs - radius).clamp(min=0), (inputs + radius).clamp(max=1)
    # Of two classes the cross-entropy has the direction of the other logit less the right one. Its
    # own gradient would underflow where a network is certain.
    toward = (1 - 2 * labels)[..., None]
    difference = (params["W2"][:, 1] - params["W2"][:, 0])[:, None]
    x = inputs
    for _ in range(steps):
        active = x @ params["W1"].mT + params["b1"][:, None] > 0
        slope = toward * ((active * difference) @ params["W1"])
        # A single step is longer than the radius: the projection cuts it to the radius.
        x = (x + 2.5 * radius / steps * slope.sign()).clamp(low, high)
    return x


def outcomes(
    params: ensemble.State, inputs: Tensor, labels: Tensor, radius: Tensor, steps: int
) -> tuple[Tensor, Tensor]:
    """Cross-entropy (nats) and P(ŷ = 1 | x) of each sample, both (M, b).

    The former is that of the attacked input where the radius of a network is above 0, the latter
    that of the input itself. The arguments are those of `attacked`.
    """
    out = logits(params, inputs)
    positive, labels = out.softmax(-1)[..., 1], labels.expand(len(out), -1)
    robust = radius > 0
    if robust.any():
        own = {name: value[robust] for name, value in params.items()}
        x, y = inputs.expand(len(out), -1, -1)[robust], labels[robust]
        out[robust] = logits(own, attacked(own, x, y, radius[robust], steps))
    return F.cross_entropy(out.mT, labels, reduction="none"), positive


def penalty(params: ensemble.State, positive: Tensor, groups: Tensor, settings: Settings) -> Tensor:
    """fairness · (difference of the groups' mean probabilities)² + (λ/2)(|W1|² + |W2|²), (M,).

    Args:
        params: of M networks.
        positive: (M, b), see `outcomes`.
        groups: (M, b) or (1, b).
        settings: of the networks.
    """
    of_one, of_both = groups.sum(1, keepdim=True), groups.shape[1]
    weights = groups / of_one.clamp(min=1) - (1 - groups) / (of_both - of_one).clamp(min=1)
    # A batch of one group says nothing about the difference.
    weights = weights * ((of_one > 0) & (of_one < of_both))
    gap = (positive * weights).sum(1)
    return settings.fairness * gap.square() + settings.weight_decay / 2 * _squares(params)


@torch.no_grad()
def observe(params: ensemble.State, spec: TradeoffSpec, data: Samples) -> dict[str, Tensor]:
    """`predicted`, `wrong`, `attacked_wrong`, `norm` and `train_error`, see `train_tradeoffs`.

    Args:
        params: of M networks, on the device that is to be used.
        spec, data: the run and its samples.

    Returns:
        (M, P) uint8, and (M,) float64, on the CPU.
    """
    device = params["W1"].device
    radius = torch.full((len(params["W1"]),), spec.attack, device=device)
    found = []
    for x, y in zip(data.inputs.split(CHUNK), data.labels.split(CHUNK), strict=True):
        x, y = x[None].to(device), y[None].to(device)
        predicted = logits(params, x).argmax(-1)
        wrong = predicted != y
        after = logits(params, attacked(params, x, y, radius, spec.attack_steps)).argmax(-1)
        found.append(torch.stack([predicted, wrong, wrong | (after != y)]).byte().cpu())
    predicted, wrong, attacked_wrong = torch.cat(found, 2)
    trained_on = [
        logits(params, x[None].to(device)).argmax(-1).cpu() for x in data.train_inputs.split(CHUNK)
    ]
    return {
        "predicted": predicted,
        "wrong": wrong,
        "attacked_wrong": attacked_wrong,
        "norm": _squares({name: value.double() for name, value in params.items()}).sqrt().cpu(),
        "train_error": (torch.cat(trained_on, 1) != data.train_labels).double().mean(1),
    }


def _squares(params: ensemble.State) -> Tensor:
    return params["W1"].square().sum((1, 2)) + params["W2"].square().sum((1, 2))


def _stream(*names: str | int) -> torch.Generator:
    return torch.Generator().manual_seed(stream_seed(*names))


def _history(trained: ensemble.Trained, job: Job, steps: int) -> pd.DataFrame:
    S = len(job.seeds)
    losses = (trained.fit + trained.penalty).reshape(len(trained.steps), S, -1)
    diverged_at = trained.diverged_at.reshape(S, -1).tolist()
    frames = []
    for s, seed in enumerate(job.seeds):
        own = pd.DataFrame(losses[:, s]).mean(axis=1)
        first = min((step for step in diverged_at[s] if step >= 0), default=-1)
        frame = pd.DataFrame({"step": trained.steps, "value": own})
        frames.append(frame.assign(seed=seed, diverged_at=first))
    history = pd.concat(frames, ignore_index=True).dropna(subset="value")
    return history.assign(run=job.run, steps=steps, metric="loss")[HISTORY]
