"""Seconds in which one core finds Pareto sets, beside moocore and all pairs, and their distances.

The points are uniform in a cube, where few are Pareto-optimal, or on a sphere, where all are. The
sets agree with those of moocore, which is compiled; all pairs are compared by plain numpy.

Usage: OMP_NUM_THREADS=1 python benchmarks/pareto.py
"""

import statistics
import time

import moocore
import numpy as np

from replica.theory import pareto

TURNS = 3
# Points, objectives, and the seconds that are wanted.
CASES = [(100_000, 2, 0.1), (100_000, 3, 5.0), (21_780, 4, 5.0), (100_000, 4, None)]
# All pairs of more points take minutes.
SMALL = 21_780


def points_of(shape, M, N):
    """Points (M, N) of one of the two shapes."""
    generator = np.random.default_rng(0)
    if shape == "cube":
        return generator.random((M, N))
    x = np.abs(generator.standard_normal((M, N)))
    return 1 - x / np.linalg.norm(x, axis=1, keepdims=True)


def library(risks):
    return moocore.is_nondominated(risks, keep_weakly=True)


def all_pairs(risks):
    """The mask as one would write it: each point against all others."""
    mask = np.ones(len(risks), dtype=bool)
    for i, point in enumerate(risks):
        mask[i] = not ((risks <= point).all(axis=1) & (risks < point).any(axis=1)).any()
    return mask


def seconds_of(call, *arguments, turns=TURNS):
    """The median time of a call, and its result."""
    times = []
    for _ in range(turns):
        began = time.perf_counter()
        result = call(*arguments)
        times.append(time.perf_counter() - began)
    return statistics.median(times), result


def main():
    """Print the times and their ratios."""
    for M, N, wanted in CASES:
        for shape in ("cube", "sphere"):
            risks = points_of(shape, M, N)
            ours, mask = seconds_of(pareto.non_dominated, risks)
            weakly, _ = seconds_of(pareto.weakly_non_dominated, risks)
            compiled, expected = seconds_of(library, risks)
            assert (mask == expected).all()
            line = f"{M:,} points, {N} objectives, {shape}: {mask.sum():,} optimal in {ours:.3f} s"
            if wanted:
                line += f" ({ours / wanted:.2f} of the {wanted:g} s wanted)"
            line += f", weakly in {weakly:.3f} s; {ours / compiled:.1f} times as long as moocore"
            if M <= SMALL:
                plain, _ = seconds_of(all_pairs, risks, turns=1)
                line += f", {ours / plain:.4f} times as long as all pairs"
            print(line)
    front, C = points_of("sphere", SMALL, 4), np.full(4, 0.01)
    measures = {
        "forward distance": (pareto.forward_distance, front, front[::2]),
        "backward distance": (pareto.backward_distance, front, front[::2]),
        "Hausdorff distance": (pareto.hausdorff, front, front[::2]),
        "ε-Pareto filter": (pareto.epsilon_filter, front, C, np.arange(SMALL)),
        "weak violation": (pareto.weak_violation, front, front, C),
    }
    for name, call in measures.items():
        print(f"{SMALL:,} points, 4 objectives, sphere: {name} in {seconds_of(*call)[0]:.2f} s")


main()
