"""Synthetic problems: hypotheses with exact risks in several objectives, and their estimates."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from replica.kinds.multiobjective import (
    ConvexFront,
    FlatFront,
    GaussianGroups,
    ProblemSpec,
    RandomRisks,
    SlopedFront,
)
from replica.multiobjective.samples import Estimates, estimate_risks
from replica.theory import deviations
from replica.theory import gaussian_groups as gaussian

Array = NDArray[np.float64]
Draw = Callable[[int, np.random.Generator], Estimates]

# Problem G2f has the two objectives whose front has a flat end.
FLAT_OBJECTIVES = ["error", "dp_gap"]
# Linear classifiers in the plane.
VC_DIMENSION = 3


@dataclass(frozen=True)
class Problem:
    """Hypotheses, their true risks, and how samples estimate them.

    Attributes:
        names: what tells this problem from others of its kind: share, slope, m.
        objectives: (N,) names.
        risks: (H, N) true risks; risks that are equal in exact arithmetic are equal.
        draw: (n, generator) -> estimates from n samples.
        vc: VC dimension where the error is the 0-1 loss of such a class, 0 elsewhere.
    """

    names: dict[str, Any]
    objectives: list[str]
    risks: Array
    draw: Draw
    vc: int = field(default=0)


def problems(
    spec: ProblemSpec, delta: float, signs: int, generator: np.random.Generator
) -> list[Problem]:
    """The problems of a specification; the generator draws their random parts.

    Args:
        spec: its specification.
        delta: probability with which the bounds of the estimates may fail.
        signs: draws of signs of an empirical Rademacher complexity, 0 for none.
    """
    if isinstance(spec, RandomRisks):
        return _random(spec, delta, generator)
    if isinstance(spec, GaussianGroups):
        return [_gaussian(spec, share, delta, signs) for share in spec.shares]
    if isinstance(spec, FlatFront):
        cells = gaussian.flat(spec.spread, spec.separation)
        classifiers = gaussian.grid(spec.angles, spec.offsets)
        return [_linear({}, cells, classifiers, FLAT_OBJECTIVES, 0.0, 1.0, delta, signs)]
    if isinstance(spec, SlopedFront):
        return [sloped(ladder.s, ladder.m, delta) for ladder in spec.ladders]
    if isinstance(spec, ConvexFront):
        return [_convex(spec, delta, generator)]
    return [counterexample(m, delta) for m in spec.m]


def _random(spec: RandomRisks, delta: float, generator: np.random.Generator) -> list[Problem]:
    """G1: L_i = clip(0.15 + 0.3 (1 - u_i)² + e, 0, 1), u ~ Dirichlet(1, 1, 1), e exponential.

    Each three objectives have a u and an e of their own, so that all have the same law.
    """
    blocks, M = -(-max(spec.objectives) // 3), spec.hypotheses
    u = generator.dirichlet(np.ones(3), size=(M, blocks))
    e = generator.exponential(spec.scale, size=(M, blocks, 1))
    risks = np.clip(0.15 + 0.3 * (1 - u) ** 2 + e, 0, 1).reshape(M, 3 * blocks)
    return [
        Problem({}, ["risk"] * N, risks[:, :N], _binomial(risks[:, :N], delta))
        for N in spec.objectives
    ]


def _gaussian(spec: GaussianGroups, share: float, delta: float, signs: int) -> Problem:
    """Problem G2."""
    classifiers = (
        gaussian.thresholds(spec.offsets)
        if spec.by_group
        else gaussian.grid(spec.angles, spec.offsets)
    )
    objectives: list[str] = list(spec.objectives)
    return _linear(
        {"share": share}, gaussian.groups(share), classifiers, objectives, spec.shift, spec.tail,
        delta, signs,
    )  # fmt: skip


def _linear(
    names: dict[str, Any],
    cells: gaussian.Cells,
    classifiers: gaussian.Classifiers,
    objectives: list[str],
    shift: float,
    tail: float,
    delta: float,
    signs: int,
) -> Problem:
    def draw(n: int, generator: np.random.Generator) -> Estimates:
        return estimate_risks(
            cells, classifiers, objectives, n, generator,
            shift=shift, tail=tail, delta=delta, signs=signs,
        )  # fmt: skip

    risks = gaussian.risks(cells, classifiers, objectives, shift, tail)
    # One direction with two offsets is no class of half-planes.
    vc = VC_DIMENSION if len(classifiers.w) > 1 else 0
    return Problem(names, objectives, risks, draw, vc)


def sloped(s: float, m: int, delta: float) -> Problem:
    """G3: L(h_j) = (0.4 + s j/m, 0.5 j/m), the second objective known exactly."""
    j = np.arange(m + 1)
    risks = np.stack([0.4 + s * j / m, 0.5 * j / m], 1)
    return Problem({"slope": s, "m": m}, ["first", "second"], risks, _binomial(risks, delta, 1))


def _convex(spec: ConvexFront, delta: float, generator: np.random.Generator) -> Problem:
    """G4: L = (0.1 + 0.4 t², 0.1 + 0.4 (1-t)²), and copies with exponential shifts of both."""
    t = np.linspace(0, 1, spec.points)
    front = np.stack([0.1 + 0.4 * t**2, 0.1 + 0.4 * (1 - t) ** 2], 1)
    shifts = generator.exponential(spec.scale, size=(spec.copies, *front.shape))
    risks = np.concatenate([front, np.clip(front + shifts, 0, 1).reshape(-1, 2)])
    return Problem({}, ["first", "second"], risks, _binomial(risks, delta))


def counterexample(m: int, delta: float) -> Problem:
    """R5: L(h_0) = (½, 0), L(h_j) = (½, ½) for m others, the second objective known exactly."""
    risks = np.array([[0.5, 0.0]] + [[0.5, 0.5]] * m)
    return Problem({"m": m}, ["first", "second"], risks, _binomial(risks, delta, 1))


def _binomial(risks: Array, delta: float, estimated: int | None = None) -> Draw:
    """Independent estimates Bin(n, L)/n of the first objectives; the others come out exact.

    All have Hoeffding's C: the learner does not know which are exact.
    """
    H, N = risks.shape
    count = N if estimated is None else estimated

    def draw(n: int, generator: np.random.Generator) -> Estimates:
        found = risks.copy()
        found[:, :count] = generator.binomial(n, risks[:, :count]) / n
        C = np.full(N, min(1.0, float(deviations.hoeffding(H, N, n, delta))))
        return Estimates(found, C, np.full(N, n), np.nan)

    return draw
