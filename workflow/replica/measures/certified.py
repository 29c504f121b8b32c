"""Statistics of certified radii: curves, averages, classes, and their uncertainty.

Arrays over images end with the axis I, in the same order; `correct` is whether the smoothed
classifier predicts the label and does not abstain, `radius` its certified radius there.
"""

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]


def certified_accuracy(radius: ArrayLike, correct: ArrayLike, at: ArrayLike) -> Array:
    """A(R): the share of images that are right with a radius of at least R, for each R of `at`."""
    usable = np.where(np.asarray(correct, dtype=bool), np.asarray(radius, dtype=float), -np.inf)
    return (usable.ravel()[:, None] >= np.atleast_1d(at)).mean(0)


def average_certified_radius(radius: ArrayLike, correct: ArrayLike) -> float:
    """ACR: the mean of radius times correctness, the integral of A(R) dR."""
    return float(np.mean(np.asarray(radius, dtype=float) * np.asarray(correct, dtype=bool)))


def largest_drop(radius: ArrayLike, correct: ArrayLike, window: float) -> float:
    """The largest A(R) - A(R + window) over all R >= 0: the height of the steepest waterfall."""
    radius, correct = np.asarray(radius, dtype=float), np.asarray(correct, dtype=bool)
    usable = np.sort(radius[correct])
    inside = np.searchsorted(usable, usable + window, side="left") - np.arange(len(usable))
    return float(inside.max(initial=0) / correct.size)


def classwise_accuracy(correct: ArrayLike, label: ArrayLike) -> Array:
    """Accuracy by class, in the order of the labels that occur; `correct` is (..., I)."""
    correct, label = np.asarray(correct, dtype=float), np.asarray(label)
    return np.stack([correct[..., label == k].mean() for k in np.unique(label)])


def by_image(rows: pd.DataFrame, value: str) -> NDArray:
    """One column of a table with the columns seed and image, as (S, I)."""
    return rows.pivot(index="seed", columns="image", values=value).to_numpy()


def resampled(label: ArrayLike, draws: int, seed: int, within_classes: bool = False) -> NDArray:
    """Indices (draws, I) of images drawn with replacement, on request from each class as many.

    The same indices for two methods make their comparison a paired one.
    """
    label, generator = np.asarray(label), np.random.default_rng(seed)
    if not within_classes:
        return generator.integers(len(label), size=(draws, len(label)))
    parts = []
    for k in np.unique(label):
        own = np.flatnonzero(label == k)
        parts.append(own[generator.integers(len(own), size=(draws, len(own)))])
    return np.concatenate(parts, axis=1)
