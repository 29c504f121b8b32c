"""Pareto sets of finite sets of risk vectors, and how far two such sets lie apart.

Every objective is minimised. An array of risks (M, N) holds a hypothesis a row and an objective a
column, in the units of the objectives, and is converted to float64. Comparisons are exact: values
that ought to be equal must be so to the last bit. Every function raises ValueError for an array of
another shape, with no objective, or with values that are not finite.
"""

from collections.abc import Callable, Iterator

import moocore
import numpy as np

# Points whose sets a table holds: a set is a row of 16 words.
BLOCK = 1024
# Points looked up at once. Their sets, 0.5 MB, stay in the cache of a core.
PART = 4096
# Differences of risks that are in memory at once, 0.5 MB.
DIFFERENCES = 2**16


def non_dominated(risks: np.ndarray) -> np.ndarray:
    """Mask (M,) of the points that no other point dominates: all objectives <=, and some <.

    All duplicates of such a point are kept. Two objectives are a sort and a running minimum (Kung,
    Luccio, Preparata 1975). Otherwise points are compared with 64 others at a time: at most
    M²N / 128 operations on words, where every point is kept.
    """
    risks = _checked(risks)
    order = np.lexsort(risks.T[::-1])
    points = risks[order]
    first = np.ones(len(points), dtype=bool)
    first[1:] = (points[1:] != points[:-1]).any(axis=1)
    points = points[first]
    if points.shape[1] == 2:
        kept = np.ones(len(points), dtype=bool)
        kept[1:] = points[1:, 1] < np.minimum.accumulate(points[:-1, 1])
    else:
        # A point is lexicographically before those that it dominates. With ties broken by this
        # order it comes before them in every objective, and before no other points.
        kept = _unbeaten(np.argsort(np.argsort(points, axis=0, kind="stable"), axis=0))
    mask = np.empty(len(risks), dtype=bool)
    mask[order] = kept[np.cumsum(first) - 1]
    return mask


def weakly_non_dominated(risks: np.ndarray) -> np.ndarray:
    """Mask (M,) of the points for which no other point is < in all objectives."""
    return _unbeaten(_checked(risks))


def epsilon_filter(risks: np.ndarray, C: np.ndarray, candidates: np.ndarray) -> np.ndarray:
    """Mask (K,) of the candidates that the ε-Pareto filter keeps.

    A candidate c is dropped if some h of all risks has L_i(h) <= L_i(c) + 2C_i for all i, and
    L_j(h) < L_j(c) - 2C_j for some j. With three objectives or more it may drop every point.

    Args:
        risks: empirical risks (M, N).
        C: largest deviations (N,) >= 0 of the risks.
        candidates: indices (K,) into the risks.
    """
    risks, C = _checked(risks), _deviations(C, risks)
    # What a dominated point drops, the points that dominate it drop as well.
    others = _columns(risks[non_dominated(risks)])[:, None]
    upper, lower = (_columns(risks[candidates] + shift)[:, :, None] for shift in (2 * C, -2 * C))
    kept = np.empty(upper.shape[1], dtype=bool)
    for block in _blocks(len(kept), others.size):
        near = (others <= upper[:, block]).all(axis=0)
        better = (others < lower[:, block]).any(axis=0)
        kept[block] = ~(near & better).any(axis=1)
    return kept


def weak_violation(risks: np.ndarray, found: np.ndarray, C: np.ndarray) -> float:
    """How far the worst found point is from being 2C-weakly Pareto-optimal; 0 if all are.

    It is the maximum over f in `found` and h in `risks` of min_i (f_i - L_i(h) - 2C_i), or 0.

    Args:
        risks: true risks (M, N) of all hypotheses.
        found: true risks (K, N) of those that are empirically Pareto-optimal.
        C: largest deviations (N,) >= 0 of the empirical risks.

    Raises:
        ValueError: also for a set without points.
    """
    risks, found = _pair(risks, found)
    C = _deviations(C, risks)
    # A dominated point violates nothing by more than the points that dominate it.
    others = _columns(risks[non_dominated(risks)])[:, None]
    lowered = _columns(found - 2 * C)[:, :, None]
    blocks = _blocks(len(found), others.size)
    return max(0.0, *(float((lowered[:, b] - others).min(axis=0).max()) for b in blocks))


def forward_distance(truth: np.ndarray, found: np.ndarray) -> float:
    """The max over t in `truth` of the min over f in `found` of max_i (f_i - t_i); at least 0.

    The excess over that Pareto-optimal point which the found points approximate worst.

    Args:
        truth: true risks (A, N) of the Pareto set.
        found: true risks (B, N) of the empirical Pareto set.

    Raises:
        ValueError: also for a set without points.
    """
    truth, found = _pair(truth, found)
    return max(0.0, _directed(truth, found, lambda t, f: f - t))


def backward_distance(truth: np.ndarray, found: np.ndarray) -> float:
    """The max over f in `found` of the min over t in `truth` of max_i (f_i - t_i); at least 0.

    The excess of that found point which approximates the Pareto-optimal points worst.

    The arguments and errors are those of `forward_distance`.
    """
    truth, found = _pair(truth, found)
    return max(0.0, _directed(found, truth, np.subtract))


def hausdorff(truth: np.ndarray, found: np.ndarray) -> float:
    """The Hausdorff distance in the maximum norm; arguments and errors as in `forward_distance`."""
    truth, found = _pair(truth, found)

    def gap(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        difference = a - b
        return np.abs(difference, out=difference)

    return max(_directed(truth, found, gap), _directed(found, truth, gap))


def hypervolume(risks: np.ndarray, reference: np.ndarray) -> float:
    """The volume of what lies between some of the risks (M, N) and the reference (N,).

    In the product of the units of the objectives. A point that is not < the reference in all
    objectives adds nothing.

    Source: moocore (López-Ibáñez and others), with the algorithms of Fonseca, Paquete,
    López-Ibáñez 2006 and Guerreiro, Fonseca 2018.
    """
    risks, reference = _checked(risks), np.asarray(reference, dtype=np.float64)
    if reference.shape != risks.shape[1:]:
        raise ValueError(f"A reference {reference.shape} does not fit risks {risks.shape}.")
    return float(moocore.hypervolume(risks, ref=reference))


def _unbeaten(points: np.ndarray) -> np.ndarray:
    """Mask (M,) of the points (M, N) for which no other point is < in all columns."""
    mask = np.zeros(len(points), dtype=bool)
    # No point beats one that is before it here: a block is final once it has met itself.
    left = np.argsort(points[:, 0], kind="stable")
    while len(left):
        beaten = _beaten(points[left], points[left[:BLOCK]])
        mask[left[:BLOCK][~beaten[:BLOCK]]] = True
        # What a beaten point beats, a point of this block beats as well.
        left = left[BLOCK:][~beaten[BLOCK:]]
    return mask


def _beaten(points: np.ndarray, block: np.ndarray) -> np.ndarray:
    """Mask (M,) of the points (M, N) for which some row of the block (B, N) is < in all columns.

    A table for each column has the sets of its 0, 1, ..., B smallest rows as bits. A point looks up
    the set of the rows below it in each column, and is beaten if they have a row in common.
    """
    size = len(block)
    tables = []
    for values in block.T:
        ranks = np.argsort(np.argsort(values))
        members = np.zeros((size + 1, 64 * -(-size // 64)), dtype=bool)
        members[:, :size] = ranks < np.arange(size + 1)[:, None]
        tables.append((np.sort(values), np.packbits(members, axis=1).view(np.uint64)))
    beaten = np.empty(len(points), dtype=bool)
    for start in range(0, len(points), PART):
        part = slice(start, start + PART)
        below = (
            sets[np.searchsorted(values, column)]
            for (values, sets), column in zip(tables, points[part].T, strict=True)
        )
        common = next(below)
        for rows in below:
            common &= rows
        beaten[part] = common.any(axis=1)
    return beaten


def _directed(
    points: np.ndarray, others: np.ndarray, gap: Callable[[np.ndarray, np.ndarray], np.ndarray]
) -> float:
    """The max over the points (A, N) of the min over the others (B, N) of max_i gap(a_i, b_i)."""
    a, b = _columns(points)[:, :, None], _columns(others)[:, None]
    blocks = _blocks(len(points), others.size)
    return max(float(gap(a[:, s], b).max(axis=0).min(axis=1).max()) for s in blocks)


def _columns(points: np.ndarray) -> np.ndarray:
    """The transpose in the order of its rows: differences along columns are 20 times as slow."""
    return np.ascontiguousarray(points.T)


def _blocks(rows: int, width: int) -> Iterator[slice]:
    """Slices of the rows, each with about `DIFFERENCES` numbers if a row takes `width` of them."""
    size = max(1, DIFFERENCES // max(1, width))
    return (slice(start, start + size) for start in range(0, rows, size))


def _checked(risks: np.ndarray) -> np.ndarray:
    risks = np.asarray(risks, dtype=np.float64)
    if risks.ndim != 2 or risks.shape[1] == 0:
        raise ValueError(f"Risks are (points, objectives), not {risks.shape}.")
    if not np.isfinite(risks).all():
        raise ValueError("Some risks are not finite.")
    return risks


def _pair(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Two sets of points that are not empty and have the same objectives."""
    a, b = _checked(a), _checked(b)
    if a.shape[1] != b.shape[1] or not len(a) or not len(b):
        raise ValueError(f"Points of the same objectives are needed, not {a.shape} and {b.shape}.")
    return a, b


def _deviations(C: np.ndarray, risks: np.ndarray) -> np.ndarray:
    C = np.asarray(C, dtype=np.float64)
    if C.shape != risks.shape[1:] or not (C >= 0).all():
        raise ValueError(f"C has a value >= 0 for each of {risks.shape[1]} objectives, not {C}.")
    return C
