"""Pareto sets of finite sets of risk vectors, and how far two such sets lie apart.

Every objective is minimised. An array of risks (M, N) holds a hypothesis a row and an objective a
column, in the units of the objectives, and is converted to float64. Comparisons are exact: values
that ought to be equal must be so to the last bit. Every function raises ValueError for an array of
another shape, with no objective, or with values that are not finite.
"""

from collections.abc import Iterator

import moocore
import numpy as np
from scipy.spatial import KDTree

# Differences of risks that are in memory at once, 0.5 MB.
DIFFERENCES = 2**16


def non_dominated(risks: np.ndarray) -> np.ndarray:
    """Mask (M,) of the points that no other point dominates: all objectives <=, and some <.

    All duplicates of such a point are kept. Source: moocore (López-Ibáñez and others).
    """
    risks = _checked(risks)
    if not len(risks):
        return np.zeros(0, dtype=bool)
    return np.asarray(moocore.is_nondominated(risks, keep_weakly=True), dtype=bool)


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
        kept[block] = ~(near & better).any(axis=1)  # type: ignore[call-overload]
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
    # The additive ε-indicator (Zitzler and others 2003).
    return max(0.0, float(moocore.epsilon_additive(found, ref=truth)))


def backward_distance(truth: np.ndarray, found: np.ndarray) -> float:
    """The max over f in `found` of the min over t in `truth` of max_i (f_i - t_i); at least 0.

    The excess of that found point which approximates the Pareto-optimal points worst.

    The arguments and errors are those of `forward_distance`.
    """
    truth, found = _pair(truth, found)
    return max(0.0, float(moocore.epsilon_additive(-truth, ref=-found)))


def hausdorff(truth: np.ndarray, found: np.ndarray) -> float:
    """The Hausdorff distance in the maximum norm; arguments and errors as in `forward_distance`."""
    truth, found = _pair(truth, found)
    pairs = ((truth, found), (found, truth))
    return max(float(KDTree(a).query(b, p=np.inf)[0].max()) for a, b in pairs)


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
