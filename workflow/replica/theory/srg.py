"""Low-rank solutions built on strongly regular graphs: SRG0 and SRGopt (both ours).

K = r(r-1)/2 classes are the edges of the complete graph on r vertices; L >= 3. The construction
matches every property in the caption of Fig. 1 of Súkeník et al. 2024; whether it is that paper's
own definition is not known. Neither family is proven optimal: use neither as a lower bound.
Source: derived.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from scipy.optimize import minimize

from replica.theory.dnc import Array, Optimum, forward, power_law_optimum


def classes(r: int) -> int:
    """K = r(r-1)/2, the number of edges of the complete graph on r vertices.

    Raises:
        ValueError: r < 3, where there is no graph to speak of.
    """
    if r < 3:
        raise ValueError(f"r = {r}: the construction needs at least three vertices.")
    return r * (r - 1) // 2


def incidence(r: int) -> Array:
    """B (r, K): vertex-edge incidence matrix of the complete graph, edges in lexical order."""
    B = np.zeros((r, classes(r)))
    for edge, ends in enumerate(combinations(range(r), 2)):
        B[list(ends), edge] = 1
    return B


def triangular_graph(r: int) -> Array:
    """A (K, K) = BᵀB - 2I: adjacency of the triangular graph, srg(K, 2(r-2), r-2, 4)."""
    B = incidence(r)
    return B.T @ B - 2 * np.eye(B.shape[1])


def incidence_nuclear_norm(r: int) -> float:
    """‖B‖_* = √(2(r-1)) + (r-1)√(r-2)."""
    return float(np.sqrt(2 * (r - 1)) + (r - 1) * np.sqrt(r - 2))


def cost_ratio(r: int, L: int) -> float:
    """ρ(r, L) = [‖B‖_*² r^(L-2) / (4 K^(L-1))]^(1/(L+1)), penalty of SRG0 over that of DNC.

    SRG0 beats DNC where ρ < 1: never at L = 3, always at L >= 4 with r >= 4.
    """
    _check_depth(L)
    K = classes(r)
    # By logarithms: at L = 2000 the powers overflow.
    log = 2 * np.log(incidence_nuclear_norm(r)) + (L - 2) * np.log(r)
    return float(np.exp((log - np.log(4) - (L - 1) * np.log(K)) / (L + 1)))


def srg0_optimum(r: int, n: float, lambda_h: float, lambda_ws: Sequence[float]) -> Optimum:
    """L_SRG0 = min over a of (1-a)²/2 + ((L+1)/2)(n λ_H1 Π λ_Wl P)^(1/(L+1)) a^(2/(L+1)).

    P = ‖B‖_*² r^(L-2) K² / 4.
    """
    L = len(lambda_ws)
    return power_law_optimum(_srg0_cost(r, n, lambda_h, lambda_ws), L)


def _srg0_cost(r: int, n: float, lambda_h: float, lambda_ws: Sequence[float]) -> float:
    L = len(lambda_ws)
    _check_depth(L)
    log = np.log(n * lambda_h) + np.log(np.asarray(lambda_ws, dtype=np.float64)).sum()
    log += 2 * np.log(incidence_nuclear_norm(r)) + (L - 2) * np.log(r)
    log += 2 * np.log(classes(r)) - np.log(4)
    return float(np.exp(log / (L + 1)))


def srg0_matrices(
    r: int, n: int, width: int, lambda_h: float, lambda_ws: Sequence[float]
) -> tuple[Array, list[Array]]:
    """Explicit H_1 (width, K n) and W_1..W_L of SRG0 at its optimal output, zero-padded.

    M_l is proportional to B for 2 <= l <= L-1, and M_L to 2Bᵀ - 11ᵀ applied to it: rank r before
    the last ReLU (r - 1 at r = 4), the identity after it.

    Raises:
        ValueError: width < K (for M_L) or L < 3.
    """
    L, K = len(lambda_ws), classes(r)
    if width < K:
        raise ValueError(f"width = {width}: the last hidden layer of SRG needs width >= K = {K}.")
    a = srg0_optimum(r, n, lambda_h, lambda_ws).output
    # Every factor's λ‖·‖² is T, where T is the penalty per factor at output a.
    T = _srg0_cost(r, n, lambda_h, lambda_ws) * a ** (2 / (L + 1))
    B = incidence(r)
    nuclear = incidence_nuclear_norm(r)
    h = np.sqrt(T / (n * lambda_h * nuclear))
    w_1 = np.sqrt(T / (lambda_ws[0] * nuclear))
    H_1, W_1 = _balanced_factors(B, h, w_1)
    middle = [np.sqrt(T / (lam * r)) * np.eye(r) for lam in lambda_ws[1 : L - 2]]
    w = np.sqrt(T / (lambda_ws[L - 2] * K * r))
    v = np.sqrt(T / (lambda_ws[L - 1] * K))
    Ws = [W_1, *middle, w * (2 * B.T - 1), v * np.eye(K)]
    return _padded(H_1, Ws, n, width)


@dataclass(frozen=True)
class SrgOpt:
    """Optimum of the SRGopt family: loss, scale m of M_{L-1}, and the rows p, q of W_{L-1}."""

    loss: float
    m: float
    p: float
    q: float


def srgopt_optimum(r: int, n: float, lambda_h: float, lambda_ws: Sequence[float]) -> SrgOpt:
    """The best symmetric family around SRG0, minimised over m > 0, p > 0 and -p < q < 0.

    M_{L-1} = m B; a row of W_{L-1} is p on the two ends of its edge and q elsewhere; W_L is the
    ridge inverse of σ(M_L) = d_0 I + e A with d_0 = 2pm and e = (p+q)m. The loss is
    ½(L-1)(n λ_H1 λ_W1..λ_W{L-2} ‖B‖_*² r^(L-3) m²)^(1/(L-1)) + (λ_W{L-1}/2) K (2p² + (r-2)q²)
    + (λ_WL/2) Σ mult_i / (s_i² + K λ_WL), s the eigenvalues of σ(M_L).
    """
    L, K = len(lambda_ws), classes(r)
    _check_depth(L)
    front = n * lambda_h * np.prod(np.asarray(lambda_ws[: L - 2], dtype=np.float64))
    front *= incidence_nuclear_norm(r) ** 2 * r ** (L - 3)
    multiplicities = np.array([1, r - 1, K - r])

    def unpack(x: Array) -> tuple[float, float, float]:
        p = np.exp(x[1])
        # The formula of d_0 ignores the ReLU outside this domain and has a spurious minimum there.
        return np.exp(x[0]), p, -p / (1 + np.exp(-x[2]))

    def loss(x: Array) -> float:
        m, p, q = unpack(x)
        d_0, e = 2 * p * m, (p + q) * m
        s = np.array([d_0 + 2 * (r - 2) * e, d_0 + (r - 4) * e, d_0 - 2 * e])
        early = (L - 1) * (front * m**2) ** (1 / (L - 1)) / 2
        last = lambda_ws[L - 2] / 2 * K * (2 * p**2 + (r - 2) * q**2)
        ridge = lambda_ws[L - 1] / 2 * (multiplicities / (s**2 + K * lambda_ws[L - 1])).sum()
        return early + last + ridge

    options = {"xatol": 1e-12, "fatol": 1e-16, "maxiter": 20000, "maxfev": 20000}
    best = None
    for m in (0.1, 0.3, 1.0):
        for ratio in (0.5, 1.5):
            start = np.array([np.log(m), np.log(0.3), ratio])
            found = minimize(loss, start, method="Nelder-Mead", options=options)
            # Restarting the simplex from its end removes the rare early collapse of it.
            found = minimize(loss, found.x, method="Nelder-Mead", options=options)
            if best is None or found.fun < best.fun:
                best = found
    # There are six starts.
    return SrgOpt(float(best.fun), *(float(value) for value in unpack(best.x)))  # type: ignore[union-attr]


def srgopt_matrices(
    r: int, n: int, width: int, lambda_h: float, lambda_ws: Sequence[float]
) -> tuple[Array, list[Array]]:
    """Explicit H_1 (width, K n) and W_1..W_L of SRGopt, zero-padded."""
    L, K = len(lambda_ws), classes(r)
    if width < K:
        raise ValueError(f"width = {width}: the last hidden layer of SRG needs width >= K = {K}.")
    best = srgopt_optimum(r, n, lambda_h, lambda_ws)
    B = incidence(r)
    nuclear = incidence_nuclear_norm(r)
    # Balance: λ‖·‖² = T for each of the L - 1 early factors, whose product is m.
    factors = [
        n * lambda_h * nuclear,
        lambda_ws[0] * nuclear,
        *(lam * r for lam in lambda_ws[1 : L - 2]),
    ]
    T = (np.prod(factors) * best.m**2) ** (1 / (L - 1))
    h, w_1, *scales = (np.sqrt(T / factor) for factor in factors)
    H_1, W_1 = _balanced_factors(B, h, w_1)
    W_before_last = best.q + (best.p - best.q) * B.T
    M = np.maximum(best.m * W_before_last @ B, 0)
    W_last = np.linalg.solve(M @ M.T + K * lambda_ws[L - 1] * np.eye(K), M).T
    Ws = [W_1, *(scale * np.eye(r) for scale in scales), W_before_last, W_last]
    return _padded(H_1, Ws, n, width)


def class_means(H1: Array, Ws: Sequence[Array], n: int) -> list[Array]:
    """[M_1, ..., M_{L+1}], each (d, K), before the ReLU, of features with columns by class."""
    return [H.reshape(H.shape[0], -1, n).mean(-1) for H in forward(H1, Ws)]


def _balanced_factors(B: Array, h: float, w: float) -> tuple[Array, Array]:
    """h Σ^½ Vᵀ and w U Σ^½ with B = U Σ Vᵀ: the cheapest factors of h w B."""
    U, s, Vt = np.linalg.svd(B, full_matrices=False)
    root = np.sqrt(np.maximum(s, 0))
    return h * root[:, None] * Vt, w * U * root


def _padded(H_1: Array, Ws: list[Array], n: int, width: int) -> tuple[Array, list[Array]]:
    def pad(matrix: Array, rows: int, columns: int) -> Array:
        return np.pad(matrix, [(0, rows - matrix.shape[0]), (0, columns - matrix.shape[1])])

    hidden = [pad(W, width, width) for W in Ws[:-1]]
    last = pad(Ws[-1], Ws[-1].shape[0], width)
    return np.repeat(pad(H_1, width, H_1.shape[1]), n, axis=1), [*hidden, last]


def _check_depth(L: int) -> None:
    if L < 3:
        raise ValueError(f"L = {L}: the construction needs at least three weight matrices.")
