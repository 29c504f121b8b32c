"""What is measured of estimated risks: deviations, scalarizations, minimisers, Pareto sets."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from replica.multiobjective.samples import Estimates
from replica.theory import pareto
from replica.theory.scalarizations import FAMILIES, scalarize

Array = NDArray[np.float64]
Row = dict[str, Any]
# Families of the minimisers that are looked at.
MINIMISED = ("linear", "Tchebycheff")
# Weights that are scalarized at a time.
BLOCK = 1000


def deviations(objectives: list[str], risks: Array, found: Estimates) -> list[Row]:
    """The largest deviation of each objective with its bound, and of all of them together.

    Rows by objective: `max_dev` = max_h |L - L̂| and `bound` C; the row `all` has the maximum over
    objectives of both, and `violated` says whether any deviation is above its own bound (R1).
    `n_min_group`: samples of the smallest set that a rate is taken over.
    """
    dev = np.abs(risks - found.risks).max(0)
    above = (dev > found.C).astype(float)
    rows = [
        {"objective": name, "max_dev": dev[i], "bound": found.C[i], "violated": above[i],
         "n_min_group": found.counts[i]}
        for i, name in enumerate(objectives)
        if len(set(objectives)) > 1
    ]  # fmt: skip
    whole = {"max_dev": dev.max(), "bound": found.C.max(), "violated": above.max(),
             "n_min_group": found.counts.min()}  # fmt: skip
    return [*rows, {"objective": "all", **whole}]


def scalarizations(risks: Array, found: Estimates, weights: Array, sizes: list[int]) -> list[Row]:
    """Largest deviation of a scalarized risk over the first S weights, by family (R2).

    Rows: `max_gap` = max |U(L) - U(L̂)|, and `max_ratio` that of the gap to U(C). The family `any`
    is the exact maximum of the ratio over all U of R2, which is max_{h,i} |L_i - L̂_i| / C_i.

    Args:
        risks: (H, N).
        found: estimates of them.
        weights: (S, N).
        sizes: numbers of weights, ascending.
    """
    rows = []
    for family in FAMILIES:
        gaps = np.concatenate(
            [
                np.abs(scalarize(family, part, risks) - scalarize(family, part, found.risks)).max(1)
                for part in np.split(weights, range(BLOCK, len(weights), BLOCK))
            ]
        )
        bound = scalarize(family, weights, found.C[None])[:, 0]
        for S in sizes:
            rows.append(
                {"family": family, "S": S, "max_gap": gaps[:S].max(),
                 "max_ratio": (gaps[:S] / bound[:S]).max()}
            )  # fmt: skip
    dev = np.abs(risks - found.risks)
    whole = {"family": "any", "S": sizes[-1], "max_gap": dev.max()}
    return [*rows, {**whole, "max_ratio": (dev / found.C).max()}]


def excess(risks: Array, found: Estimates, weights: Array) -> list[Row]:
    """Excess U(L(ĥ_U)) - min_h U(L(h)) of the minimisers ĥ_U of U(L̂), with 2U(C) (R3).

    Of several minimisers the first is taken.
    """
    rows = []
    for family in MINIMISED:
        true = scalarize(family, weights, risks)
        chosen = scalarize(family, weights, found.risks).argmin(1)
        loss = true[np.arange(len(weights)), chosen] - true.min(1)
        bound = 2 * scalarize(family, weights, found.C[None])[:, 0]
        rows += [
            {"family": family, "weight_id": w, "excess": loss[w], "bound": bound[w]}
            for w in range(len(weights))
        ]
    return rows


def fronts(
    risks: Array, found: Estimates, optimal: NDArray[np.bool_]
) -> tuple[list[Row], NDArray[np.intp]]:
    """Distances between the Pareto set of the estimates and the true one (R4 to R7).

    Args:
        risks: (H, N).
        found: estimates of them.
        optimal: (H,) which hypotheses are truly Pareto-optimal.

    Returns:
        A row for the Pareto set and one for what the ε-Pareto filter leaves of it: `e_fwd`,
        `e_bwd`, `e_two` (Hausdorff), `violation` (of R4: e→ above 2C_i in objective i),
        `weak_violation` (of R6), `two_c`, `kept` and `event`, whether
        all deviations are within C. And the (K,) indices of the Pareto set.
    """
    event = float((np.abs(risks - found.risks) <= found.C).all())
    front = np.flatnonzero(pareto.non_dominated(found.risks))
    passed = front[pareto.epsilon_filter(found.risks, found.C, front)]
    truth = risks[optimal]
    rows = []
    for filtered, chosen in [(0.0, front), (1.0, passed)]:
        own = risks[chosen]
        # Removals in a circle may leave nothing, which is as far as risks can be.
        distances = {"e_fwd": 1.0, "e_bwd": 0.0, "e_two": 1.0}
        violations = {"violation": 1.0, "weak_violation": 0.0}
        if len(chosen):
            distances = {
                "e_fwd": pareto.forward_distance(truth, own),
                "e_bwd": pareto.backward_distance(truth, own),
                "e_two": pareto.hausdorff(truth, own),
            }
            violations = {
                "violation": pareto.forward_distance(truth + 2 * found.C, own),
                "weak_violation": pareto.weak_violation(risks, own, found.C),
            }
        rows.append(
            {"filtered": filtered, **distances, **violations, "two_c": 2 * found.C.max(),
             "kept": len(chosen), "event": event}
        )  # fmt: skip
    return rows, front


def points(
    risks: Array, found: Estimates, optimal: NDArray[np.bool_], front: NDArray[np.intp]
) -> list[Row]:
    """True front, true risks of the Pareto set of the estimates, and these estimates.

    Rows: `kind` and the risks `l1` to `lN`.
    """
    kinds = {"true": risks[optimal], "found": risks[front], "estimated": found.risks[front]}
    return [
        {"kind": kind, "h": float(h), **{f"l{i}": value for i, value in enumerate(row, start=1)}}
        for kind, values in kinds.items()
        for h, row in zip(np.flatnonzero(optimal) if kind == "true" else front, values, strict=True)
    ]
