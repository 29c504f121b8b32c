"""Which images are labelled: nested sets, the same for every method."""

import random
from collections.abc import Sequence

import numpy as np


class LabelError(ValueError):
    """The requested labels do not exist."""


def require_images(N: int, n: int) -> None:
    """Raise a `LabelError` where `n` of only `N` images are to be labelled."""
    if n > N:
        raise LabelError(f"n = {n} images should be labelled, but the pool has only {N}.")


def first_labels(N: int, n: int, number: int = 0) -> tuple[list[int], list[int]]:
    """The rows labelled first and the unlabelled rest, in its shuffled order.

    The pool is shuffled with `random.Random(number)`; number 0 in all runs of the official code.

    Raises:
        LabelError: the pool has fewer than `n` images.
    """
    require_images(N, n)
    pool = list(range(N))
    random.Random(number).shuffle(pool)
    return pool[:n], pool[n:]


def reshuffled(unlabelled: Sequence[int], stage: int) -> list[int]:
    """The unlabelled pool before the query that follows `stage` = 0, 1, ....

    The official code reshuffles with a counter that also starts at 0.
    """
    pool = list(unlabelled)
    random.Random(stage).shuffle(pool)
    return pool


def random_labels(N: int, sizes: Sequence[int], number: int = 0) -> list[np.ndarray]:
    """Nested labelled sets of the given sizes under random queries, each of rows of the pool.

    Number 0 are the published ones.

    Raises:
        LabelError: the pool has fewer images than the last size.
    """
    require_images(N, sizes[-1])
    labelled, unlabelled = first_labels(N, sizes[0], number)
    sets = [np.array(labelled)]
    for stage, size in enumerate(sizes[1:]):
        unlabelled = reshuffled(unlabelled, stage)
        wanted = size - len(labelled)
        labelled, unlabelled = labelled + unlabelled[:wanted], unlabelled[wanted:]
        sets.append(np.array(labelled))
    return sets
