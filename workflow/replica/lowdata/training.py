"""Training on few labels: all numbers of labels of a run, or one round of active learning."""

import shutil
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from replica.data.parts import DataError
from replica.data.prepare import load, verify
from replica.data.splits import in_pairs, samples
from replica.kinds.low_data import DepthwiseBackbone, LowDataSpec, StagedBackbone
from replica.lowdata.labels import (
    LabelError,
    first_labels,
    random_labels,
    require_images,
    reshuffled,
)
from replica.lowdata.methods import METHODS, Given, LossModule, Method, unit, with_loss_module
from replica.lowdata.queries import QUERIES, Asked
from replica.models.backbones import build_network
from replica.models.refiner import TwoHeaded
from replica.models.stacked import Stack
from replica.provenance import stream_seed
from replica.training import loop
from replica.training.jobs import Job, Result
from replica.training.precision import autocast

HISTORY = ["run", "seed", "n", "steps", "step", "metric", "value"]
LABELLED = ["seed", "stage", "position", "row", "label", "score"]
SEVERITIES = 5
_BATCH = 500
# The layout that convolutions are fastest in, on processors and GPUs alike.
FASTEST = torch.channels_last


@dataclass(frozen=True)
class Pool:
    """The images that can be labelled, and the test images.

    Attributes:
        images, test_images: (N, C, H, W) uint8.
        labels, test_labels: (N,) int64 in 0..K-1.
        K: number of classes.
    """

    images: Tensor
    labels: Tensor
    test_images: Tensor
    test_labels: Tensor
    K: int


# ======================================================================================
# The images


def pool_of(spec: LowDataSpec, card: Path) -> Pool:
    """The images of a run: its classes, renumbered from 0, or pairs of images; averaged pixels.

    Raises:
        LabelError: the classes do not exist.
        DataError: a pixel is above `pixel_max`.
    """
    dataset = load(card)
    name = dataset.card["dataset"]
    parts = []
    for split in ("train", "test"):
        images, labels, K = samples(dataset, split, spec.pixel_max)
        if spec.pairs:
            images, labels = in_pairs(images, labels, K, f"{name} {split}")
            K = K**2
        if spec.classes is not None:
            low, high = spec.classes
            if not 0 <= low < high < K:
                raise LabelError(f"classes = [{low}, {high}], but {name} has classes 0..{K - 1}.")
            kept = (labels >= low) & (labels <= high)
            images, labels, K = images[kept], labels[kept] - low, high - low + 1
        images = averaged(images, spec.pooling)
        parts += [torch.from_numpy(images), torch.from_numpy(labels.astype(np.int64))]
    return Pool(*parts, K)


def averaged(images: np.ndarray, side: int) -> np.ndarray:
    """Images (N, C, H, W) uint8 averaged over squares of side x side pixels, rounded to uint8.

    Raises:
        DataError: the squares do not tile the images.
    """
    if side == 1:
        return images
    N, C, H, W = images.shape
    if H % side or W % side:
        raise DataError(f"pooling = {side} does not divide images of {H}x{W} pixels.")
    squares = images.reshape(N, C, H // side, side, W // side, side)
    return np.rint(squares.mean((3, 5), dtype=np.float32)).astype(np.uint8)


def missing_classes(labels: Tensor, K: int) -> list[int]:
    """The classes without a labelled image."""
    return torch.nonzero(torch.bincount(labels, minlength=K) == 0).flatten().tolist()


# ======================================================================================
# Runs


def train_low_data(spec: LowDataSpec, job: Job) -> Result:
    """Train each seed at each number of random labels; keep the logits of the test images.

    Returns:
        States `seed` (S,), `test_labels` (N,), and for each n: `<n>/logits` (S, heads, N, K) of
        the test images, `<n>/train_accuracy` (S, heads), `<n>/rows` (S, n) of the pool and
        `<n>/missing` (S,); with `keep_weights` also `<n>/weights/<parameter>` (S, ...), with
        `corrupted` `<n>/corrupted/<corruption>` (S, heads, 5) accuracies. The history has columns
        `HISTORY`.

    Raises:
        LabelError: more labels than images, or classes that do not exist.
    """
    torch.set_num_threads(job.threads)
    verify(job.card)
    pool, start = pool_of(spec, job.card), _pretrained(spec, job)
    states = {"seed": torch.tensor(job.seeds), "test_labels": pool.test_labels}
    history = []
    numbers = [0 if spec.labelled_sets == "shared" else seed for seed in job.seeds]
    each = [random_labels(len(pool.labels), spec.n, number) for number in numbers]
    for sets in zip(*each, strict=True):
        models, histories = _fit_all(spec, job, pool, sets, [start] * len(sets))
        states |= _kept(spec, job, pool, sets, models)
        history += histories
    return Result(states, pd.concat(history, ignore_index=True)[HISTORY])


def train_round(
    spec: LowDataSpec, job: Job, stage: int, before: pd.DataFrame | None
) -> tuple[Result, pd.DataFrame]:
    """One stage of active learning: train on what is labelled, then choose what to label next.

    Args:
        spec: the run.
        job: where it runs; `job.start` holds the states of the stage before, if there is one.
        stage: from 0.
        before: the labelled sets that the stage before chose; None at stage 0.

    Returns:
        States and history as `train_low_data`, at the one number of labels of this stage; and the
        labelled sets (columns `LABELLED`): an image a row, `stage` the first one that trains on it.
        They hold what the next stage trains on; at the last stage, what this one did.

    Raises:
        LabelError: more labels than images.
    """
    torch.set_num_threads(job.threads)
    verify(job.card)
    pool, pretrained = pool_of(spec, job.card), _pretrained(spec, job)
    n, N = spec.n[stage], len(pool.labels)
    require_images(N, spec.n[-1])
    if before is None:
        first = first_labels(N, n)[0]
        tables = [_labelled(pool, seed, 0, first, None) for seed in job.seeds]
    else:
        tables = [before[before["seed"] == seed] for seed in job.seeds]
    sets = [table["row"].tolist() for table in tables]
    starts = [pretrained] * len(sets)
    if spec.active.continued and stage:
        starts = [kept_weights(job.start, member) for member in range(len(sets))]
    models, histories = _fit_all(spec, job, pool, sets, starts)
    if stage + 1 < len(spec.n):
        wanted = spec.n[stage + 1] - n
        for member, (seed, model) in enumerate(zip(job.seeds, models, strict=True)):
            candidates = _candidates(spec, N, tables[member], stage)
            chosen, scores = _query(spec, job, model, pool, sets[member], candidates, wanted)
            more = _labelled(pool, seed, stage + 1, chosen, scores)
            tables[member] = pd.concat([tables[member], more])
    states = {"seed": torch.tensor(job.seeds), "test_labels": pool.test_labels}
    states |= _kept(spec, job, pool, sets, models)
    history = pd.concat(histories, ignore_index=True)[HISTORY]
    return Result(states, history), pd.concat(tables, ignore_index=True)[LABELLED]


# ======================================================================================
# One training


def _fit_all(
    spec: LowDataSpec, job: Job, pool: Pool, sets: Sequence[Sequence[int]],
    starts: Sequence[dict[str, Tensor]],
) -> tuple[list[nn.Module], list[pd.DataFrame]]:  # fmt: skip
    """Train a network for each seed, all at once where they can be stacked."""
    together = spec.method == "joint" and isinstance(
        spec.network, StagedBackbone | DepthwiseBackbone
    )
    at_once = len(sets) if together else 1
    models, histories = [], []
    for first in range(0, len(sets), at_once):
        own = slice(first, first + at_once)
        fitted = _fit(spec, job, pool, sets[own], job.seeds[own], starts[own])
        models += fitted[0]
        histories += fitted[1]
    return models, histories


def _fit(
    spec: LowDataSpec, job: Job, pool: Pool, sets: Sequence[Sequence[int]], seeds: Sequence[int],
    starts: Sequence[dict[str, Tensor]],
) -> tuple[list[nn.Module], list[pd.DataFrame]]:  # fmt: skip
    """Train networks at once, each on its labelled rows; several of them as a stack.

    A network begins with the parameters that its entry of `starts` has.
    """
    rows = torch.stack([torch.as_tensor(own) for own in sets])
    n, shape = rows.shape[1], tuple(pool.images.shape[1:])
    named = [(job.study, job.run, seed, n) for seed in seeds]
    networks = [
        _network(spec, job, pool, own, names, start)
        for own, names, start in zip(rows, named, starts, strict=True)
    ]
    rows = rows.flatten()
    images, labels = pool.images[rows].to(job.device), pool.labels[rows].to(job.device)
    images = images.contiguous(memory_format=FASTEST)
    model = Stack(networks) if len(networks) > 1 else networks[0]
    model = model.to(memory_format=FASTEST)
    if job.device.type == "cuda" and shutil.which("cc"):
        # A step becomes few kernels; it needs a C compiler, which not every machine has.
        model.compile()
    recipe = _recipe(spec, n)

    def run(method: Method, purpose: str) -> list[tuple[int, str, float]]:
        return loop.train(
            method.module,
            images,
            labels,
            method.objective,
            recipe,
            seed=[stream_seed(*names, purpose) for names in named],
            snapshot_epochs=[],
            checkpoint=job.checkpoint.member(f"{seeds[0]}.{n}.{purpose}"),
            perturb=method.perturb,
            before_epoch=method.before_epoch,
            name=f"{job.study} {job.run} n {n} seed {', '.join(map(str, seeds))}",
        ).history

    def peer() -> TwoHeaded:
        other = build_network(spec, shape, pool.K, stream_seed(*named[0], "peer"), peer=True)
        return other.to(job.device, memory_format=FASTEST)

    def unlabelled() -> Tensor:
        others = torch.ones(len(pool.labels), dtype=torch.bool)
        others[rows] = False
        return pool.images[others].to(job.device)

    given = Given(spec, model, images, recipe.epochs, peer, unlabelled, run)
    history = pd.DataFrame(
        run(METHODS[spec.method](given), "order"), columns=["step", "metric", "value"]
    ).assign(run=job.run, n=n, steps=recipe.epochs)
    histories = [history.assign(seed=seeds[0])]
    if isinstance(model, Stack):
        model.unstack(networks)
        histories = _of_members(history, seeds)
    return [network.eval() for network in networks], histories


def _of_members(history: pd.DataFrame, seeds: Sequence[int]) -> list[pd.DataFrame]:
    """The history of each member of a stack, whose metrics are named `<metric>/<member>`."""
    member = history["metric"].str.rpartition("/")
    history = history.assign(metric=member[0])
    return [history[member[2] == str(s)].assign(seed=seed) for s, seed in enumerate(seeds)]


def _network(
    spec: LowDataSpec, job: Job, pool: Pool, rows: Tensor, names: tuple, start: dict[str, Tensor]
) -> nn.Module:
    """A network before its training on some rows, with LLAL's module where that queries."""
    if missing := missing_classes(pool.labels[rows], pool.K):
        warnings.warn(
            f"{job.run} seed {names[2]}: none of the {len(rows)} labelled images is of class "
            f"{', '.join(map(str, missing))}: these classes cannot be learnt.",
            stacklevel=4,
        )
    shape = tuple(pool.images.shape[1:])
    network = build_network(spec, shape, pool.K, stream_seed(*names, "start"))
    if spec.active is not None and spec.active.query == "llal":
        network = with_loss_module(network, shape, stream_seed(*names, "loss module"))
    _begin_from(network, start)
    return network.to(job.device, memory_format=FASTEST)


def _recipe(spec: LowDataSpec, n: int) -> loop.Recipe:
    """How the training passes through n labelled images."""
    return loop.Recipe(
        lr=spec.lr,
        epochs=spec.epochs or -(-spec.steps // -(-n // spec.batch)),
        batch=spec.batch,
        optimiser=spec.optimiser,
        momentum=spec.momentum,
        decay={"": spec.weight_decay},
        schedule="multistep",
        milestones=(spec.milestone,),
        padding=spec.padding,
        flips=spec.flips,
        precision=spec.precision,
    )


def _begin_from(model: nn.Module, start: dict[str, Tensor]) -> None:
    """Load parameters by name; those of other shapes, or absent, keep their random start.

    Raises:
        ValueError: not one fits.
    """
    if not start:
        return
    own = model.state_dict()
    if isinstance(model, LossModule):
        start = {k if k in own else f"network.{k}": v for k, v in start.items()}
    fitting = {k: v for k, v in start.items() if k in own and v.shape == own[k].shape}
    if not fitting:
        raise ValueError(
            f"None of the weights fits the network: their names are {', '.join(list(start)[:3])}, "
            f"..., those of the network {', '.join(list(own)[:3])}, ...."
        )
    model.load_state_dict(own | fitting)


def _pretrained(spec: LowDataSpec, job: Job) -> dict[str, Tensor]:
    """Parameters of the backbone to begin with; none for a random start."""
    if spec.weights is not None:
        verify(job.cards[spec.weights])
        arrays = load(job.cards[spec.weights]).arrays
        named = {k.removeprefix("weights."): v for k, v in arrays.items()}
        return {f"backbone.network.{k}": torch.from_numpy(np.array(v)) for k, v in named.items()}
    if spec.pretrained is not None:
        return {k: v for k, v in kept_weights(job.start).items() if k.startswith("backbone.")}
    return {}


def kept_weights(states: dict[str, Tensor], member: int = 0) -> dict[str, Tensor]:
    """The parameters that a run kept at its largest number of labels, of one of its seeds."""
    largest = max(int(key.split("/")[0]) for key in states if "/weights/" in key)
    prefix = f"{largest}/weights/"
    return {k.removeprefix(prefix): v[member] for k, v in states.items() if k.startswith(prefix)}


def _kept(
    spec: LowDataSpec, job: Job, pool: Pool, sets: list[Sequence[int]], models: list[nn.Module]
) -> dict[str, Tensor]:
    """What is kept of the networks of all seeds at one number of labels."""
    n = len(sets[0])
    rows = torch.stack([torch.as_tensor(own) for own in sets])
    missing = [len(missing_classes(pool.labels[own], pool.K)) for own in rows]
    kept = {"rows": list(rows), "missing": [torch.tensor(count) for count in missing]}
    for own, model in zip(rows, models, strict=True):
        network = plain(model)
        on_train = logits(network, pool.images[own], spec, job.device)
        found = {"logits": logits(network, pool.test_images, spec, job.device)}
        found["train_accuracy"] = _accuracy(on_train, pool.labels[own])
        if spec.corrupted is not None:
            found |= _corrupted(network, spec, job)
        if spec.keep_weights or (spec.active is not None and spec.active.continued):
            found |= {f"weights/{k}": v.cpu() for k, v in model.state_dict().items()}
        for name, value in found.items():
            kept.setdefault(name, []).append(value)
    return {f"{n}/{name}": torch.stack(values) for name, values in kept.items()}


def plain(model: nn.Module) -> TwoHeaded:
    """The network itself, without LLAL's module."""
    return model.network if isinstance(model, LossModule) else model


def logits(model: TwoHeaded, images: Tensor, spec: LowDataSpec, device: torch.device) -> Tensor:
    """Logits (heads, N, K) of both heads in evaluation mode, float32 on the CPU."""
    return torch.cat(_in_batches(lambda x: torch.stack(model(x)), images, spec, device), 1)


def _in_batches(
    function: Callable[[Tensor], Tensor], images: Tensor, spec: LowDataSpec, device: torch.device
) -> list[Tensor]:
    with torch.no_grad(), autocast(spec.precision, device):
        return [
            function(unit(x.to(device), spec.pixel_max)).float().cpu() for x in images.split(_BATCH)
        ]


def _accuracy(z: Tensor, labels: Tensor) -> Tensor:
    """Percent of right predictions of each head from logits (heads, N, K)."""
    return 100 * (z.argmax(2) == labels).double().mean(1)


def _corrupted(network: TwoHeaded, spec: LowDataSpec, job: Job) -> dict[str, Tensor]:
    """Accuracies (heads, severities) on corrupted test images, by `corrupted/<corruption>`."""
    verify(job.cards[spec.corrupted])
    data = load(job.cards[spec.corrupted])
    labels = torch.from_numpy(np.array(data.array("test.labels")))
    found = {}
    for name in sorted(k.removesuffix(".images") for k in data.arrays if k.endswith(".images")):
        images = torch.from_numpy(np.array(data.array(f"{name}.images")))
        z = logits(network, images, spec, job.device)
        parts = zip(z.chunk(SEVERITIES, 1), labels.chunk(SEVERITIES), strict=True)
        found[f"corrupted/{name}"] = torch.stack([_accuracy(o, truth) for o, truth in parts], 1)
    return found


# ======================================================================================
# Queries


def _candidates(spec: LowDataSpec, N: int, table: pd.DataFrame, stage: int) -> list[int]:
    """The part of the unlabelled pool that is scored after `stage`, in its shuffled order."""
    _, unlabelled = first_labels(N, spec.n[0])
    for before in range(stage + 1):
        taken = set(table.loc[table["stage"] <= before, "row"])
        unlabelled = reshuffled([row for row in unlabelled if row not in taken], before)
    return unlabelled[: spec.active.candidates]


def _query(
    spec: LowDataSpec, job: Job, model: nn.Module, pool: Pool, rows: Sequence[int],
    candidates: Sequence[int], wanted: int,
) -> tuple[list[int], list[float]]:  # fmt: skip
    """The rows to label next, and the score for which each was chosen (NaN for random ones)."""
    asked = Asked(
        model,
        plain(model),
        labelled=pool.images[torch.as_tensor(rows)],
        candidates=pool.images[candidates],
        evaluate=lambda f, images: torch.cat(_in_batches(f, images, spec, job.device)),
        wanted=wanted,
    )
    chosen, scores = QUERIES[spec.active.query](asked)
    return [candidates[i] for i in chosen.tolist()], scores.tolist()


def _labelled(
    pool: Pool, seed: int, stage: int, rows: Sequence[int], scores: Sequence[float] | None
) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "seed": seed,
            "stage": stage,
            "position": range(len(rows)),
            "row": rows,
            "label": pool.labels[torch.as_tensor(rows)].numpy(),
            "score": [float("nan")] * len(rows) if scores is None else scores,
        }
    )
