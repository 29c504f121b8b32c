"""The cost of an attention pattern: the smallest W whose logits x_iᵀWx_j have a margin.

    min |W|_F   subject to   x_iᵀW(x_t - x_j) >= Δ   for every query i and competitor j of t

(D3 of docs/sinks.md). With the rows vec(x_i(x_t - x_j)ᵀ) as G this is least-distance programming,
min |w| subject to Gw >= Δ, which is non-negative least squares (Lawson and Hanson, ch. 23). So is
the point of a convex hull nearest to 0, which decides whether a sink is possible at all (D2).
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.optimize import nnls

Pattern = Literal["sink", "diagonal"]

# Part of the margin by which a constraint may be missed.
FEASIBLE = 1e-6
# The margin for which the least squares are solved, at tokens of mean norm 1. Their residual is
# 1 / √(1 + |W|_F²): it stays clear of rounding errors if W is small.
SMALL = 1e-3
# The residual below which there is no W.
INFEASIBLE = 1e-8
# Distance, in mean norms of the points, below which 0 counts as a point of the hull.
INSIDE = 1e-10


@dataclass(frozen=True)
class MinimumNorm:
    """The W (d, d) of smallest Frobenius norm, and the multipliers (constraints,) that prove it.

    W is the sum of multiplier · x_i(x_t - x_j)ᵀ. Everything is NaN where no W was found. The
    nuclear norm is that of this W: an upper bound of the smallest one.
    """

    W: np.ndarray
    multipliers: np.ndarray
    frobenius: float
    nuclear: float
    feasible: bool

    @property
    def participation_rank(self) -> float:
        """|W|_*² / |W|_F², between 1 and the rank of W."""
        return self.nuclear**2 / self.frobenius**2


def constraints(
    pattern: Pattern, n: int, causal: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The constraints z_it - z_ij >= Δ of n tokens: the indices (i, t, j), counted from 0.

    Args:
        pattern: every query attends to token 0 (t = 0), or to itself (t = i).
        n: tokens.
        causal: competitors j do not come after their query.

    Raises:
        ValueError: another pattern.
    """
    if pattern not in ("sink", "diagonal"):
        raise ValueError(f"The pattern is sink or diagonal, not {pattern!r}.")
    rows, competitors = np.indices((n, n)).reshape(2, -1)
    targets = np.zeros_like(rows) if pattern == "sink" else rows
    kept = competitors != targets
    if causal:
        kept &= competitors <= rows
    return rows[kept], targets[kept], competitors[kept]


def _stacked(X: np.ndarray, pattern: Pattern, causal: bool) -> np.ndarray:
    """G (constraints, d²) of tokens X (n, d)."""
    rows, targets, competitors = constraints(pattern, len(X), causal)
    differences = X[targets] - X[competitors]
    return (X[rows][:, :, None] * differences[:, None, :]).reshape(len(rows), -1)


def _nearest(G: np.ndarray, h: float) -> tuple[np.ndarray, float]:
    """The u >= 0 with the least |Gᵀu|² + (h·1ᵀu - 1)², and the root of this sum."""
    E = np.vstack([G.T, np.full(len(G), h)])
    f = np.zeros(len(E))
    f[-1] = 1.0
    # Degenerate sets take more than scipy's default of three steps a column.
    return nnls(E, f, maxiter=100 * len(G))


def minimum_norm(
    X: np.ndarray, pattern: Pattern, *, causal: bool, margin: float = 1.0
) -> MinimumNorm:
    """The W of smallest Frobenius norm with the margins of a pattern, in float64.

    A solution is accepted only if it meets every constraint to `FEASIBLE`; as its primal and dual
    values agree by construction, it is then the minimum. All else counts as infeasible; so may a
    |W|_F of more than about 1e5 margins over the squared mean norm of the tokens, where rounding
    errors can exceed `FEASIBLE`. n = 32 causal tokens take about 0.1 s.

    Args:
        X: tokens (n, d) as rows.
        pattern: the sink (token 0), or the diagonal.
        causal: queries see only what does not come after them.
        margin: Δ, in the units of the logits.

    Raises:
        ValueError: fewer than two tokens (nothing is constrained), a margin that is not positive,
            or another pattern.
        RuntimeError: the least squares did not end.
    """
    X = np.asarray(X, dtype=np.float64)
    n, d = X.shape
    if n < 2 or margin <= 0:
        raise ValueError(f"n = {n} >= 2 tokens and a margin {margin:g} > 0 are needed.")
    # The residual tells feasible from infeasible only for rows of G of about the length of 1.
    scale = np.linalg.norm(X, axis=1).mean() or 1.0
    # The minimum lies in the span of the tokens: n² unknowns instead of d².
    basis, coordinates = np.linalg.qr(X.T / scale)
    G = _stacked(coordinates.T, pattern, causal)
    u, residual = _nearest(G, SMALL)
    if residual > INFEASIBLE:
        w = G.T @ u
        # w is a multiple of the solution. This one makes |w|² = Δ · (sum of the multipliers).
        unit = (w @ w) / u.sum()
        w, u = w / unit, u / unit
        if (G @ w).min() >= 1.0 - FEASIBLE:
            r = basis.shape[1]
            W = basis @ w.reshape(r, r) @ basis.T * (margin / scale**2)
            return MinimumNorm(
                W=W,
                multipliers=u * (margin / scale**4),
                frobenius=float(np.linalg.norm(W)),
                nuclear=float(np.linalg.norm(W, "nuc")),
                feasible=True,
            )
    nan = float("nan")
    return MinimumNorm(np.full((d, d), nan), np.full(len(G), nan), nan, nan, False)


def kkt_residual(
    solution: MinimumNorm, X: np.ndarray, pattern: Pattern, causal: bool, margin: float
) -> float:
    """The largest violation of the conditions of optimality; NaN for an infeasible solution.

    Missed margins are parts of the margin, negative multipliers parts of their sum, products of
    slack and multiplier parts of |W|_F², and W less the sum that it must be a part of |W|_F.
    """
    G = _stacked(np.asarray(X, dtype=np.float64), pattern, causal)
    w, u = solution.W.ravel(), solution.multipliers
    slack = G @ w - margin
    return float(
        np.max(
            [
                np.max(-slack) / margin,
                np.max(-u) / np.abs(u).sum(),
                np.max(np.abs(u * slack)) / (w @ w),
                np.linalg.norm(w - G.T @ u) / np.linalg.norm(w),
            ]
        )
    )


def min_norm_point(X: np.ndarray) -> tuple[float, np.ndarray]:
    """The distance of 0 to the convex hull of the rows of X (n, d), and the weights (n,) of the
    nearest point, in float64.

    The distance has the units of X, and is exactly 0 below `INSIDE` mean norms.

    Raises:
        RuntimeError: the least squares did not end.
    """
    X = np.asarray(X, dtype=np.float64)
    scale = np.linalg.norm(X, axis=1).mean() or 1.0
    # For u = s·weights, min over s of |Xᵀu|² + (1ᵀu - 1)² is ρ²/(1 + ρ²) with ρ = |Xᵀweights|.
    u, _ = _nearest(X / scale, 1.0)
    weights = u / u.sum()
    distance = float(np.linalg.norm(weights @ X))
    return (0.0 if distance <= INSIDE * scale else distance), weights
