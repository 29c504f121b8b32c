"""Closed forms on deep RFM and collapse (Beaglehole et al. 2024, section 5 and appendices A-C)."""

from collections.abc import Iterator
from typing import Literal

import numpy as np

Kappa = Literal["printed", "corrected", "fixed point"]
KAPPAS: tuple[Kappa, ...] = ("printed", "corrected", "fixed point")


# ======================================================================================
# Proposition A.1


def arc_cosine(r: np.ndarray) -> np.ndarray:
    """E ReLU(Wx)ᵀReLU(Wy) of unit x, y with xᵀy = r and W_ij ~ N(0, 2/D) (Prop. A.1; Cho, Saul).

    (sin θ + (π - θ) cos θ) / π with θ = arccos r.
    """
    angle = np.arccos(np.clip(r, -1, 1))
    return (np.sin(angle) + (np.pi - angle) * np.cos(angle)) / np.pi


def monte_carlo_arc_cosine(
    r: np.ndarray, features: int, generator: np.random.Generator
) -> np.ndarray:
    """The same with D random features; two coordinates are enough, W is invariant to rotation."""
    W = np.sqrt(2 / features) * generator.standard_normal((features, 2))
    y = np.stack([r, np.sqrt(1 - np.square(r))])
    return np.maximum(W[:, 0], 0) @ np.maximum(W @ y, 0)


def iterates(r: float, above: float = 0.99) -> list[float]:
    """r, the map of r, the map of that, ... up to the first value that is at least `above`."""
    values = [r]
    while values[-1] < above:
        values.append(float(arc_cosine(values[-1])))  # type: ignore[arg-type]
    return values


# ======================================================================================
# Theorem 5.3


def rescaling(kind: Kappa, lam_hat: float, lam_map: float, n: int) -> float:
    """κ, by which the data are divided in each layer.

    printed: 1 - 2λ̂(1 + 1/λ_map), in our copy of the proof. corrected: 1 - 2λ̂/(λ_map + n), from
    Lemma C.2. fixed point: ((n + λ_map)/(n + λ_map + λ̂))², for which YᵀY is one (both derived).
    The printed one is -∞ where λ_map = 0.
    """
    if kind == "printed":
        return 1 - 2 * lam_hat * (1 + 1 / lam_map) if lam_map else -np.inf
    if kind == "corrected":
        return 1 - 2 * lam_hat / (lam_map + n)
    return ((n + lam_map) / (n + lam_map + lam_hat)) ** 2


def one_hot(K: int, n: int) -> np.ndarray:
    """Y = I_K ⊗ 1_nᵀ, (K, Kn)."""
    return np.kron(np.eye(K), np.ones(n))


def contraction(
    A: np.ndarray, Y: np.ndarray, lam_hat: float, lam_map: float, kappa: float
) -> Iterator[float]:
    """|G̃_l - YᵀY|₂ of the layers of Theorem 5.3, without end.

    G̃ = κ⁻¹ A (A + λ̂I)⁻¹ YᵀY (A + λ̂I)⁻¹ A and the next A is G̃ + λ_map I.

    Args:
        A: first Gram matrix (N, N).
        Y: labels (K, N).
        lam_hat, lam_map, kappa: λ̂ >= 0, λ_map >= 0, κ > 0.
    """
    # G̃ = Z Zᵀ
    Z = A @ np.linalg.solve(A + lam_hat * np.eye(len(A)), Y.T) / np.sqrt(kappa)
    small, c = np.eye(len(Y)), lam_map + lam_hat
    while True:
        yield _difference_norm(Z, Y.T)
        # A (A + λ̂I)⁻¹ = I - λ̂ (Z Zᵀ + cI)⁻¹, by Woodbury's formula with K unknowns instead of N.
        inverse = (Y.T - Z @ np.linalg.solve(Z.T @ Z + c * small, Z.T @ Y.T)) / c
        Z = (Y.T - lam_hat * inverse) / np.sqrt(kappa)


def _difference_norm(Z: np.ndarray, Y: np.ndarray) -> float:
    """|ZZᵀ - YYᵀ|₂ of (N, K) matrices, from a product of 2K rows and columns."""
    R = np.linalg.qr(np.hstack([Z, Y]), mode="r")
    signs = np.repeat([1.0, -1.0], [Z.shape[1], Y.shape[1]])
    return float(np.abs(np.linalg.eigvalsh((R * signs) @ R.T)).max())  # type: ignore[attr-defined]


# ======================================================================================
# Theorem 5.4


def kernel_objective(k: np.ndarray, Y: np.ndarray, mu: float) -> float:
    """Σ_c Y_cᵀ (k + μI)⁻¹ k Y_c of a kernel matrix (N, N) and labels (K, N)."""
    return float(np.sum(Y.T * np.linalg.solve(k + mu * np.eye(len(k)), k @ Y.T)))


def collapsed_objective(counts: np.ndarray, mu: float) -> float:
    """Its largest value Σ_c n_c²/(n_c + μ), of the collapsed kernel (K n n/(n + μ) if balanced)."""
    counts = np.asarray(counts, dtype=np.float64)
    return float(np.sum(counts**2 / (counts + mu)))


def random_kernel(K: int, n: int, generator: np.random.Generator) -> np.ndarray:
    """A Laplace kernel (Kn, Kn) of random points: p.s.d., entries in [0, 1], unit diagonal.

    The points are clustered by class to a random degree, from not at all to nearly collapsed.
    """
    tight, spread = 10.0 ** generator.uniform(-3, 1, 2)
    centres = generator.standard_normal((K, K)) * spread
    points = np.repeat(centres, n, 0) + tight * generator.standard_normal((K * n, K))
    return np.exp(-np.linalg.norm(points[:, None] - points[None], axis=2))
