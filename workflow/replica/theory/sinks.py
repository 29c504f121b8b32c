"""When attention can form a sink, what the sink does, and its cost beside the diagonal's.

Logits are z_ij = x_iᵀWx_j of tokens x_i, the rows of X (n, d); a sink is a token s to which every
query attends, with a margin Δ = min (z_is - z_ij). D1 to D7 are derived in docs/sinks.md.
"""

import numpy as np
from scipy.optimize import linprog

from replica.theory.margins import min_norm_point


def sufficient_margin(n: int, delta: float) -> float:
    """Δ = log((n-1)(1-δ)/δ): with it, softmax over n tokens gives one of them 1-δ or more (D1)."""
    return float(np.log((n - 1) * (1 - delta) / delta))


def necessary_margin(delta: float) -> float:
    """log((1-δ)/δ), which z_is - log Σ exp(z_ij) over j ≠ s reaches if A_is >= 1-δ (D1)."""
    return float(np.log((1 - delta) / delta))


def sink_condition(X: np.ndarray, *, sink: int = 0, causal: bool) -> bool:
    """Whether some W makes a token a sink, from the geometry alone (D2).

    0 must lie outside the hull of the queries, and the sink outside the hull of the other tokens;
    a rank-1 W then suffices. A causal query comes no earlier than the sink and has a competitor:
    token 0 as its own query has none.

    Args:
        X: tokens (n, d) in float64, n >= 2.
        sink: index of the sink.
        causal: queries see only what does not come after them.
    """
    queries = X[max(sink, 1) :] if causal else X
    others = np.delete(X, sink, axis=0)
    return min_norm_point(queries)[0] > 0 and min_norm_point(others - X[sink])[0] > 0


def sink_feasible(X: np.ndarray, *, sink: int = 0, causal: bool) -> bool:
    """Whether some W makes a token a sink, from a linear program over W (d, d) (D2).

    Args: as `sink_condition`.

    Raises:
        RuntimeError: the program was neither solved nor shown to be infeasible.
    """
    n, d = X.shape
    X = X / (np.linalg.norm(X, axis=1).mean() or 1.0)
    G = [
        np.outer(X[i], X[sink] - X[j]).ravel()
        for i in range(sink if causal else 0, n)
        for j in range(i + 1 if causal else n)
        if j != sink
    ]
    found = linprog(np.zeros(d * d), A_ub=-np.array(G), b_ub=-np.ones(len(G)), bounds=(None, None))
    if found.status not in (0, 2):
        raise RuntimeError(f"The linear program was not solved: {found.message}")
    return found.status == 0


def operator_norm_bound(X: np.ndarray, margin: float) -> float:
    """Δ / (|p| · min_j |x_0 - x_j|), p the point nearest to 0 of the hull of the tokens (n, d).

    No W that makes token 0 a bidirectional sink has a smaller operator norm (D2); infinite where
    there is none because |p| = 0 or x_0 = x_j.
    """
    p, _ = min_norm_point(X)
    length = p * np.linalg.norm(X[1:] - X[0], axis=1).min()
    return float(margin / length) if length > 0 else float("inf")


def switch_bound(delta: float, values: np.ndarray) -> float:
    """δ · max_j |v_j| of values (n, d_v): what a sink of value 0 and weight 1-δ lets through (D4).

    The output of the head has no larger norm.
    """
    return float(delta * np.linalg.norm(values, axis=1).max())


def uniform(n: int) -> np.ndarray:
    """Every query attends to all n tokens alike: (n, n)."""
    return np.full((n, n), 1 / n)


def causal_uniform(n: int) -> np.ndarray:
    """Every query attends alike to all tokens up to itself: (n, n)."""
    return np.tril(np.ones((n, n))) / np.arange(1, n + 1)[:, None]


def pure_sink(n: int) -> np.ndarray:
    """Every query attends to token 0 only: (n, n)."""
    A = np.zeros((n, n))
    A[:, 0] = 1.0
    return A


def smoothing_ratio(A: np.ndarray) -> float:
    """|HA|_F / √(n-1) of attention A (n, n), with H = I - 11ᵀ/n (D5).

    Its square is E[μ(AX)²] / E[μ(X)²] for i.i.d. rows of X, μ(X) = |HX|_F.
    """
    return float(np.linalg.norm(A - A.mean(axis=0)) / np.sqrt(len(A) - 1))


def harmonic(n: int) -> float:
    """H_n = 1 + 1/2 + ... + 1/n."""
    return float((1 / np.arange(1, n + 1)).sum())


def causal_uniform_sink(T: int) -> float:
    """The mean weight on token 0 in causal uniform attention, H_T / T."""
    return harmonic(T) / T


def causal_uniform_diagonal(T: int) -> float:
    """The mean weight on the own token in causal uniform attention, less row 0: (H_T-1)/(T-1)."""
    return (harmonic(T) - 1) / (T - 1)


def orthonormal_tokens(n: int, m: float) -> np.ndarray:
    """Tokens O (n, n+1): x_i = e_i + m·e_0, with e_0 the first coordinate."""
    return np.hstack([np.full((n, 1), m), np.eye(n)])


def random_tokens(n: int, d: int, m: float, generator: np.random.Generator) -> np.ndarray:
    """Tokens R (n, d): random directions of length 1 plus a common one of length m."""
    directions = generator.standard_normal((n + 1, d))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    return directions[:n] + m * directions[n]


def sink_cost(n: int, m: float, margin: float) -> tuple[float, float]:
    """The smallest |W|_F and |W|_* of a bidirectional sink on tokens O: Δ√((n-1)/(1+nm²)) (D7).

    They are equal, as one W of rank 1 has both.
    """
    cost = float(margin * np.sqrt((n - 1) / (1 + n * m**2)))
    return cost, cost


def diagonal_cost(n: int, margin: float) -> tuple[float, float]:
    """Smallest |W|_F and |W|_* of a bidirectional diagonal on tokens O: Δ√(n-1) and Δ(n-1) (D7).

    W = Δ(I - 11ᵀ/n) on e_1..e_n has both, whatever m.
    """
    return float(margin * np.sqrt(n - 1)), float(margin * (n - 1))


def cost_ratio(n: int, m: float) -> tuple[float, float]:
    """Diagonal over sink on tokens O: √(1+nm²) for |W|_F, √((n-1)(1+nm²)) for |W|_* (D7)."""
    frobenius = float(np.sqrt(1 + n * m**2))
    return frobenius, float(np.sqrt(n - 1)) * frobenius


def causal_cost(n: int, margin: float) -> float:
    """The smallest |W|_F on tokens O without a common direction, causal: Δ√(n-H_n) (D7).

    It is the same for the sink and the diagonal.
    """
    return float(margin * np.sqrt(n - harmonic(n)))
