"""Exact risks of linear classifiers where classes and groups are Gaussian.

x | (y, a) is N(μ_ya, I) in the plane, with y in {0, 1} and a group or component a in {0, 1}. A
classifier says 1 where w·x + b > 0, with |w| = 1 and an offset that may depend on a. All risks lie
in [0, 1]; `score` below is w·x + b, whose mean in a cell is m_ya.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Cells:
    """The four cells (y, a) of a mixture.

    Attributes:
        prior: (2, 2), P(y, a).
        mean: (2, 2, 2), μ_ya.
        group: (2, 2), P(group 1 | y, a): 0 and 1 where a is the group itself.
    """

    prior: Array
    mean: Array
    group: Array


@dataclass(frozen=True)
class Classifiers:
    """Linear classifiers.

    Attributes:
        w: (A, 2) unit vectors.
        b: (B, 2), pairs of offsets, for a = 0 and a = 1. Hypotheses are all (A·B) pairs of a
            direction and a row of b, the row running fastest.
    """

    w: Array
    b: Array

    def __len__(self) -> int:
        return len(self.w) * len(self.b)


def groups(share: float) -> Cells:
    """Problem G2: P(a=1) = share, P(y=1|a=1) = 0.6, P(y=1|a=0) = 0.4, μ_ya = (2y-1, 2a-1)."""
    prior = np.array([[(1 - share) * 0.6, share * 0.4], [(1 - share) * 0.4, share * 0.6]])
    mean = np.array([[[2 * y - 1, 2 * a - 1] for a in (0, 1)] for y in (0, 1)], dtype=float)
    return Cells(prior, mean, np.array([[0.0, 1.0], [0.0, 1.0]]))


def flat(spread: float, separation: float) -> Cells:
    """Problem G2f: y and z = ±1 uniform and independent, x | (y, z) ~ N((s(2y-1), y z c), I).

    P(a=1 | y=0, z) = 0.3, P(a=1 | y=1, z=-1) = 0.4, P(a=1 | y=1, z=+1) = 0.9. The components z
    stand in the place of a; mirrored classifiers have the same error.
    """
    mean = np.array([[[separation * (2 * y - 1), y * z * spread] for z in (-1, 1)] for y in (0, 1)])
    return Cells(np.full((2, 2), 0.25), mean, np.array([[0.3, 0.3], [0.4, 0.9]]))


def grid(angles: int, offsets: int) -> Classifiers:
    """`angles` directions evenly around the circle from (1, 0), `offsets` offsets in [-3, 3]."""
    theta = 2 * np.pi * np.arange(angles) / angles
    b = np.linspace(-3, 3, offsets)
    return Classifiers(np.stack([np.cos(theta), np.sin(theta)], 1), np.stack([b, b], 1))


def thresholds(offsets: int) -> Classifiers:
    """The direction (1, 0) with all pairs of offsets in [-3, 3], one for each group."""
    b = np.linspace(-3, 3, offsets)
    pairs = np.stack(np.meshgrid(b, b, indexing="ij"), -1).reshape(-1, 2)
    return Classifiers(np.array([[1.0, 0.0]]), pairs)


def score_means(cells: Cells, classifiers: Classifiers) -> Array:
    """m_ya of every classifier, (H, 2, 2)."""
    along = np.einsum("hk,yak->hya", classifiers.w, cells.mean)
    # Offsets by a: (A, B, y, a).
    return (along[:, None] + classifiers.b[None, :, None, :]).reshape(-1, 2, 2)


def error(cells: Cells, m: Array, shift: float = 0.0) -> Array:
    """P(ŷ ≠ y), (H,); with a shift, that an attack of this length on x makes it so."""
    wrong = cells.prior[0] * ndtr(m[:, 0] + shift) + cells.prior[1] * ndtr(shift - m[:, 1])
    return wrong.sum(-1)


def dp_gap(cells: Cells, m: Array) -> Array:
    """Demographic parity: |P(ŷ=1 | group 1) - P(ŷ=1 | group 0)|, (H,)."""
    rates = [(share * ndtr(m)).sum((1, 2)) for share in _within_groups(cells)]
    return np.abs(rates[1] - rates[0])


def eo_gap(cells: Cells, m: Array) -> Array:
    """Equal opportunity: |P(ŷ=1 | y=1, group 1) - P(ŷ=1 | y=1, group 0)|, (H,)."""
    rates = []
    for share in _within_groups(cells):
        positive = share[1] / share[1].sum()
        rates.append((positive * ndtr(m[:, 1])).sum(1))
    return np.abs(rates[1] - rates[0])


def _within_groups(cells: Cells) -> list[Array]:
    """P(y, a | group) for groups 0 and 1, each (2, 2)."""
    joint = [cells.prior * (1 - cells.group), cells.prior * cells.group]
    return [part / part.sum() for part in joint]


def cvar(cells: Cells, m: Array, tail: float) -> Array:
    """Mean of the share `tail` of the largest ramp losses, (H,).

    The loss is clip((1 - γ)/2, 0, 1) of the margin γ = (2y-1)(w·x + b). With S(t) = P(loss > t),
    CVaR = ∫_0^1 min(1, S(t)/tail) dt, which is t* + ∫_t*^1 S(t) dt / tail at the t* in [0, 1] where
    S falls to `tail`; t* comes from 60 bisections, the integral from ∫ Φ = zΦ(z) + φ(z).
    """
    # γ ~ N(g, 1) in each cell; loss > t where γ < 1 - 2t.
    g = m * np.array([[-1.0], [1.0]])

    def survival(t: Array) -> Array:
        return (cells.prior * ndtr(1 - 2 * t[:, None, None] - g)).sum((1, 2))

    low, high = np.zeros(len(m)), np.ones(len(m))
    for _ in range(60):
        middle = (low + high) / 2
        above = survival(middle) > tail
        low, high = np.where(above, middle, low), np.where(above, high, middle)
    z = 1 - 2 * high[:, None, None] - g
    rest = (cells.prior * (_integral(z) - _integral(-1 - g))).sum((1, 2)) / 2
    return high + rest / tail


def _integral(z: Array) -> Array:
    """∫_{-∞}^z Φ."""
    return z * ndtr(z) + np.exp(-(z**2) / 2) / np.sqrt(2 * np.pi)


def risks(
    cells: Cells, classifiers: Classifiers, objectives: list[str], shift: float, tail: float
) -> Array:
    """True risks (H, N) of every classifier, rounded to 1e-12 so that hardly a tie is broken."""
    m = score_means(cells, classifiers)
    found = {
        "error": lambda: error(cells, m),
        "robust_error": lambda: error(cells, m, shift),
        "dp_gap": lambda: dp_gap(cells, m),
        "eo_gap": lambda: eo_gap(cells, m),
        "cvar": lambda: cvar(cells, m, tail),
    }
    return np.stack([found[name]() for name in objectives], 1).round(12)
