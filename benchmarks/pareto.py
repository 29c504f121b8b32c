"""Seconds in which Pareto sets are found, beside all pairs, and their distances.

The points are uniform in a cube, where few are Pareto-optimal, or on a sphere, where all are. All
pairs are compared by plain numpy. Nothing here uses a GPU.

Usage: python benchmarks/pareto.py [threads]
"""

import bench
import numpy as np

from replica.theory import pareto

# Points and objectives.
CASES = [(100_000, 2), (100_000, 3), (21_780, 4)]
# All pairs of more points take minutes.
PAIRS = 5_000


def points_of(shape, M, N):
    """Points (M, N) of one of the two shapes."""
    generator = np.random.default_rng(0)
    if shape == "cube":
        return generator.random((M, N))
    x = np.abs(generator.standard_normal((M, N)))
    return 1 - x / np.linalg.norm(x, axis=1, keepdims=True)


def all_pairs(risks):
    """The mask as one would write it: each point against all others."""
    mask = np.ones(len(risks), dtype=bool)
    for i, point in enumerate(risks):
        mask[i] = not ((risks <= point).all(axis=1) & (risks < point).any(axis=1)).any()
    return mask


def seconds(call, *arguments, turns=3):
    return bench.seconds_of(lambda: call(*arguments), bench.CPU, turns)


def against(case, risks, name, reference):
    """Time of the Pareto set, and how many times as fast as another way to the same set.

    Raises:
        ValueError: the sets differ.
    """
    if (pareto.non_dominated(risks) != reference(risks)).any():
        raise ValueError(f"{case}: {name} finds another set.")
    ours = seconds(pareto.non_dominated, risks)
    return [
        bench.row(case, "time", ours, "s", device=bench.CPU),
        bench.speed(case, name, [seconds(reference, risks) / ours]),
    ]


def rows(device, threads):
    """The times, and how many times as fast as all pairs."""
    found = []
    for M, N in CASES:
        for shape in ("cube", "sphere"):
            case = f"{M:,} points, {N} objectives, {shape}"
            seconds_of_set = seconds(pareto.non_dominated, points_of(shape, M, N))
            found.append(bench.row(case, "time", seconds_of_set, "s", device=bench.CPU))
    for shape in ("cube", "sphere"):
        case = f"{PAIRS:,} points, 4 objectives, {shape}"
        found += against(case, points_of(shape, PAIRS, 4), "all pairs", all_pairs)
    front, C = points_of("sphere", CASES[-1][0], 4), np.full(4, 0.01)
    measures = {
        "forward distance": (pareto.forward_distance, front, front[::2]),
        "backward distance": (pareto.backward_distance, front, front[::2]),
        "Hausdorff distance": (pareto.hausdorff, front, front[::2]),
        "ε-Pareto filter": (pareto.epsilon_filter, front, C, np.arange(len(front))),
        "weak violation": (pareto.weak_violation, front, front, C),
    }
    for name, call in measures.items():
        case = f"{len(front):,} points, 4 objectives, sphere: {name}"
        taken = seconds(*call, turns=1)
        found.append(bench.row(case, "time", taken, "s", device=bench.CPU))
    return found


if __name__ == "__main__":
    bench.alone(__file__)
