"""Labelled samples of a prepared data set: pixels in [0, 1], a test split where none exists."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from replica.data.prepare import DataError, Dataset
from replica.provenance import stream_seed

TEST_SHARE = 0.3


@dataclass(frozen=True)
class Labelled:
    """Samples of one split.

    Attributes:
        inputs: (N, C, H, W) float32 in [0, 1] or standardised, or points (N, d).
        labels: (N,) int64.
        K: number of classes of the data set.
    """

    inputs: Tensor
    labels: Tensor
    K: int


def labelled(dataset: Dataset, split: str, pixel_max: float) -> Labelled:
    """The samples of a split.

    A data set without a test split gets one: a fixed random 30 % of each class, the same in every
    run; the rest is its train split.

    Args:
        dataset: a prepared data set.
        split: train, test, or another split that the data set has.
        pixel_max: what divides pixel values; 255, or 16 for the digits.

    Raises:
        DataError: there is no such split, or an image leaves [0, 1].
    """
    values, labels, K = samples(dataset, split, pixel_max)
    targets = torch.from_numpy(labels.astype(np.int64))
    inputs = torch.from_numpy(values).float()
    return Labelled(inputs if inputs.dim() == 2 else inputs / pixel_max, targets, K)


def samples(dataset: Dataset, split: str, pixel_max: float) -> tuple[np.ndarray, np.ndarray, int]:
    """Images (N, C, H, W) or points (N, d) of a split as they are, labels (N,), and K.

    Raises:
        DataError: there is no such split, or a pixel is above `pixel_max`.
    """
    splits, name = dataset.card["splits"], dataset.card["dataset"]
    made = split in ("train", "test") and "test" not in splits
    source = "train" if made else split
    if source not in splits:
        raise DataError(f"{name} has no split {split!r}; it has {', '.join(splits)}.")
    labels = np.asarray(dataset.array(f"{source}.labels"))
    rows = np.arange(len(labels))
    if made:
        test = held_out_rows(labels, name)
        rows = test if split == "test" else np.setdiff1d(rows, test)
    K = len(splits[source]["class_counts"])
    values = np.asarray(dataset.inputs(source))[rows]
    if values.ndim > 2 and values.max() > pixel_max:
        raise DataError(
            f"{name}: images leave [0, 1]: their largest value is {values.max()}, but pixel_max "
            f"is {pixel_max:g}."
        )
    return values, labels[rows], K


def standardised(dataset: Dataset, first: int) -> Labelled:
    """The first samples of the training file, standardised by pixel and ordered by class.

    From each pixel its mean over these samples is taken, then it is divided by its standard
    deviation; a pixel that never changes becomes 0. In float32.

    Raises:
        DataError: there are fewer samples.
    """
    labels = np.asarray(dataset.array("train.labels"))
    if first > len(labels):
        raise DataError(
            f"{dataset.card['dataset']}: {first} training samples are asked for, and there are "
            f"{len(labels)}."
        )
    rows = np.argsort(labels[:first], kind="stable")
    x = torch.from_numpy(np.asarray(dataset.inputs("train")[:first])[rows]).float()
    # With float64 accumulators; the values themselves may be many.
    mean = x.mean(0, dtype=torch.float64)
    std = torch.stack([column.double().std(0, correction=0) for column in x.unbind(1)])
    x -= mean.float()
    x *= torch.where(std > 0, 1 / std, 0).float()
    return Labelled(x, torch.from_numpy(labels[:first][rows].astype(np.int64)), dataset.K)


def first_rows(
    labels: np.ndarray, classes: Sequence[int], per_class: int | None, name: str
) -> list[np.ndarray]:
    """Rows of the first `per_class` samples of each class, of all of them where it is None.

    Raises:
        DataError: a class does not exist or has fewer samples.
    """
    rows = []
    for label in classes:
        found = np.flatnonzero(labels == label)
        if len(found) == 0 or (per_class is not None and len(found) < per_class):
            raise DataError(
                f"{name}: class {label} has {len(found)} samples, {per_class or 1} were asked for."
            )
        rows.append(found[:per_class])
    return rows


def in_pairs(images: np.ndarray, labels: np.ndarray, K: int, name: str) -> tuple[np.ndarray, ...]:
    """Images side by side, (4 N, C, H, 2 W), with the K² labels K·left + right.

    The images in a random order, the same in every run: each is left of the four that follow it.
    """
    order = np.random.default_rng(stream_seed("pairs", name)).permutation(len(labels))
    left = np.tile(order, 4)
    right = np.concatenate([np.roll(order, -shift) for shift in range(1, 5)])
    return np.concatenate([images[left], images[right]], 3), K * labels[left] + labels[right]


def held_out_rows(labels: np.ndarray, name: str) -> np.ndarray:
    """Sorted rows of the test split of a data set that has none: 30 % of each class."""
    chosen = []
    for label in np.unique(labels):
        rows = np.flatnonzero(labels == label)
        generator = np.random.default_rng(stream_seed("split", name, int(label)))
        chosen.append(generator.permutation(rows)[: round(TEST_SHARE * len(rows))])
    return np.sort(np.concatenate(chosen))


def evenly_spaced(total: int, wanted: int) -> Tensor:
    """`wanted` indices out of 0..total-1, evenly spaced from 0: every 20th for 500 of 10,000.

    Raises:
        DataError: there are fewer.
    """
    if wanted > total:
        raise DataError(f"{wanted} images are asked for and the split has {total}.")
    return torch.arange(wanted) * total // wanted
