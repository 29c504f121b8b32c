"""Training samples as residual networks read them: pixels, patches, or numbers of words."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from replica.data import words
from replica.data.prepare import DataError, Dataset
from replica.data.splits import first_rows
from replica.kinds.residual import PatchTransformer, ResidualSpec, TokenTransformer
from replica.models.headed_networks import training_samples


@dataclass(frozen=True)
class Samples:
    """The first samples of each class, ordered by class, equally many of each.

    Attributes:
        inputs: (N, D) pixels, (N, T, p) patches row by row, or (N, T) int64 words.
        ends: (N,) the place that is read: the last patch, or the last word of each text.
        labels: (N,) int64.
        K: number of classes.
        dimensions: D, p, or the size of the vocabulary.
        positions: T; 1 for pixels.
    """

    inputs: Tensor
    ends: Tensor
    labels: Tensor
    K: int
    dimensions: int
    positions: int


def samples(dataset: Dataset, spec: ResidualSpec, dtype: torch.dtype) -> Samples:
    """The samples of a run; each channel of images is standardised over them.

    The vocabulary comes from all texts of the training file.

    Raises:
        DataError: too few samples, or images that cannot be cut into patches.
    """
    if isinstance(spec.network, TokenTransformer):
        return _texts(dataset, spec.network, spec.per_class)
    found = training_samples(dataset, None, spec.per_class, dtype)
    inputs = found.inputs
    if isinstance(spec.network, PatchTransformer):
        inputs = patches(inputs, spec.network.patch)
        positions = inputs.shape[1]
    else:
        inputs, positions = inputs.flatten(1), 1
    ends = torch.full((len(inputs),), positions - 1)
    return Samples(inputs, ends, found.labels, found.K, inputs.shape[-1], positions)


def patches(images: Tensor, side: int) -> Tensor:
    """Images (N, C, H, W) as patches (N, HW/side², C side²), row by row.

    Raises:
        DataError: the sides of the images are no multiples of that of a patch.
    """
    _, C, H, W = images.shape
    if H % side or W % side:
        raise DataError(f"Images of {H}x{W} pixels cannot be cut into patches of {side}x{side}.")
    cut = images.unflatten(2, (H // side, side)).unflatten(4, (W // side, side))
    return cut.permute(0, 2, 4, 1, 3, 5).reshape(len(images), -1, C * side**2)


def _texts(dataset: Dataset, network: TokenTransformer, per_class: int) -> Samples:
    listed = [words.words(text) for text in words.texts(dataset, "train")]
    labels, name = np.asarray(dataset.array("train.labels")), dataset.card["dataset"]
    rows = np.concatenate(first_rows(labels, range(dataset.K), per_class, name))
    numbers = words.vocabulary(listed, network.vocabulary)
    tokens, ends = words.encode([listed[row] for row in rows], numbers, network.context)
    return Samples(
        inputs=torch.from_numpy(tokens),
        ends=torch.from_numpy(ends),
        labels=torch.from_numpy(labels[rows].astype(np.int64)),
        K=dataset.K,
        dimensions=network.vocabulary,
        positions=network.context,
    )
