"""The deep neural collapse (DNC) optimum of the L-layer deep unconstrained features model.

With bias-free MSE and L2 penalties the loss of the best collapsed configuration is a minimum
over one number, the output a of the right class. All of it is in float64.

Source: derived; normalisation and conventions as in the papers (Súkeník et al. 2023, 2024). For
K = 2 the loss is the global minimum (Súkeník et al. 2023, main theorem).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Optimum:
    """A stationary configuration: its loss and the diagonal output a in [0, 1]."""

    loss: float
    output: float


def effective_q(n: float, lambda_h: float, lambda_ws: Sequence[float]) -> float:
    """q = (n λ_H1 Π λ_Wl)^(1/(L+1)), through which alone n and the penalties enter.

    Raises:
        ValueError: n < 1 or a penalty is not positive.
    """
    if n < 1:
        raise ValueError(f"n = {n}: there must be at least one sample per class.")
    penalties = np.array([lambda_h, *lambda_ws], dtype=np.float64)
    if not (penalties > 0).all():
        raise ValueError(f"All penalties must be positive, got {penalties.tolist()}.")
    # By logarithms: at L = 8 the product of small penalties would lose digits.
    return float(np.exp((np.log(n) + np.log(penalties).sum()) / len(penalties)))


def power_law_optimum(c: float, L: int) -> Optimum:
    """Global minimum over a in [0, 1] of (1-a)²/2 + (L+1)/2 · c · a^(2/(L+1)).

    This is the loss of every balanced configuration of L + 1 factors; c = Kq gives DNC.
    """
    local = local_optimum(c, L)
    if local is None or local.loss >= 0.5:
        return Optimum(0.5, 0.0)
    return local


def local_optimum(c: float, L: int) -> Optimum | None:
    """The non-zero local minimum of the same function, or None where there is none.

    The derivative vanishes where c = (1-a) a^((L-1)/(L+1)); the right-hand side has its maximum
    at a = (L-1)/(2L), and the larger of the two roots is the minimum.
    """
    if L < 2:
        raise ValueError(f"L = {L}: the model needs at least two weight matrices.")

    def slope(a: float) -> float:
        return (1 - a) * a ** ((L - 1) / (L + 1)) - c

    top = (L - 1) / (2 * L)
    if slope(top) <= 0:
        return None
    a = brentq(slope, top, 1.0, xtol=1e-15, rtol=1e-14)
    return Optimum((1 - a) ** 2 / 2 + (L + 1) / 2 * c * a ** (2 / (L + 1)), a)


def dnc_optimum(K: int, n: float, lambda_h: float, lambda_ws: Sequence[float]) -> Optimum:
    """Loss L_DNC of the best deep-collapsed configuration, and its diagonal output a.

    L_DNC = min over a of (1-a)²/2 + (K(L+1)/2) q a^(2/(L+1)); ½ and 0 above the threshold.

    Args:
        K: classes, at least 2.
        n: samples per class.
        lambda_h: penalty on H_1.
        lambda_ws: penalties on W_1..W_L; their number is L.

    Raises:
        ValueError: K < 2, n < 1, fewer than two layers, or a penalty that is not positive.
    """
    _check_classes(K)
    return power_law_optimum(K * effective_q(n, lambda_h, lambda_ws), len(lambda_ws))


def dnc_local_optimum(
    K: int, n: float, lambda_h: float, lambda_ws: Sequence[float]
) -> Optimum | None:
    """The collapsed local minimum, also where its loss is above ½ (the metastable window)."""
    _check_classes(K)
    return local_optimum(K * effective_q(n, lambda_h, lambda_ws), len(lambda_ws))


def threshold(L: int) -> float:
    """Kq at and above which the zero solution is optimal: (1/L)((L-1)/L)^((L-1)/(L+1))."""
    return (1 / L) * ((L - 1) / L) ** ((L - 1) / (L + 1))


def metastable_end(L: int) -> float:
    """Kq up to which the collapsed solution stays a local minimum."""
    top = (L - 1) / (2 * L)
    return (1 - top) * top ** ((L - 1) / (L + 1))


def equal_lambda_threshold(K: int, L: int, n: float) -> float:
    """The λ (equal for all factors) above which the zero solution is optimal.

    Kq = K n^(1/(L+1)) λ. For K = 2 the product form is
    n λ_H1 Π λ_Wl = (L-1)^(L-1) / (2^(L+1) L^(2L)).
    """
    _check_classes(K)
    return threshold(L) / (K * n ** (1 / (L + 1)))


def dnc_matrices(
    K: int,
    n: int,
    width: int,
    lambda_h: float,
    lambda_ws: Sequence[float],
    rho: float = 0.0,
) -> tuple[Array, list[Array]]:
    """Explicit H_1 (width, K n) and W_1..W_L of a DNC optimum, columns ordered by class.

    M_1 and W_1 are proportional to S^½ with S = I - ρ(J - I), so that M_2 is to S and σ(M_2), like
    every later M_l, to I; all L + 1 penalty terms are equal. Along ρ the loss is flat, since
    tr S = K: before the ReLU M_2 is of any condition number, and of rank K - 1 at ρ = 1/(K-1).

    Args:
        K, n, width: classes, samples a class, width of H_1 and of every hidden layer.
        lambda_h, lambda_ws: penalties on H_1 and on W_1..W_L.
        rho: in [0, 1/(K-1)].

    Raises:
        ValueError: width < K, which leaves no room for K orthogonal non-negative means, or a rho
            at which S has a negative eigenvalue or M_2 a positive entry off the diagonal.
    """
    if width < K:
        raise ValueError(f"width = {width}: K = {K} orthogonal class means need width >= K.")
    if not 0 <= rho <= 1 / (K - 1):
        raise ValueError(f"rho = {rho}: it must be in [0, 1/(K-1)].")
    L = len(lambda_ws)
    a = dnc_optimum(K, n, lambda_h, lambda_ws).output
    q = effective_q(n, lambda_h, lambda_ws)
    # Each factor's penalty is K λ ω² = K q a^(2/(L+1)).
    share = q * a ** (2 / (L + 1))
    frame = np.eye(width, K)
    # S has the eigenvalue 1 - (K-1)ρ on 1, and 1 + ρ on what is orthogonal to it.
    mean = np.full((K, K), 1 / K)
    low, high = np.sqrt(max(1 - (K - 1) * rho, 0)), np.sqrt(1 + rho)
    root = high * np.eye(K) + (low - high) * mean
    H1 = np.repeat(np.sqrt(share / (n * lambda_h)) * frame @ root, n, axis=1)
    scales = [np.sqrt(share / lam) for lam in lambda_ws]
    hidden = [scale * frame @ frame.T for scale in scales[:-1]]
    hidden[0] = scales[0] * frame @ root @ frame.T
    return H1, [*hidden, scales[-1] * frame.T]


@dataclass(frozen=True)
class Objective:
    """The parts of the objective: fit + penalty, and the L + 1 terms λ‖·‖_F² (H_1 first)."""

    fit: float
    penalty: float
    terms: tuple[float, ...]

    @property
    def loss(self) -> float:
        """Fit plus penalty."""
        return self.fit + self.penalty


def forward(H1: Array, Ws: Sequence[Array]) -> list[Array]:
    """[H_1, H_2, ..., H_{L+1}], all before the ReLU; H_1 has none and W_L is followed by none."""
    layers = [H1, Ws[0] @ H1]
    for W in Ws[1:]:
        layers.append(W @ np.maximum(layers[-1], 0))
    return layers


def dufm_objective(
    H1: Array, Ws: Sequence[Array], lambda_h: float, lambda_ws: Sequence[float]
) -> Objective:
    """(1/2N)‖H_{L+1} - Y‖² + Σ (λ_Wl/2)‖W_l‖² + (λ_H1/2)‖H_1‖², Y = I_K ⊗ 1_nᵀ.

    Args:
        H1: (d, K n), columns ordered by class.
        Ws: W_1 (d', d), ..., W_L (K, d'').
        lambda_h, lambda_ws: penalties.
    """
    K = Ws[-1].shape[0]
    N = H1.shape[1]
    Y = np.kron(np.eye(K), np.ones((1, N // K)))
    fit = ((forward(H1, Ws)[-1] - Y) ** 2).sum() / (2 * N)
    terms = [lambda_h * (H1**2).sum()]
    terms += [lam * (W**2).sum() for lam, W in zip(lambda_ws, Ws, strict=True)]
    return Objective(float(fit), float(sum(terms) / 2), tuple(float(term) for term in terms))


def _check_classes(K: int) -> None:
    if K < 2:
        raise ValueError(f"K = {K}: collapse needs at least two classes.")
