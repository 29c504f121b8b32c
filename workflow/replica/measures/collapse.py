"""Metrics of neural collapse.

Notation: x_{k,i} is feature i of class k, μ_k the mean of class k, μ_G the mean of the class
means, Σ_W = (1/N) Σ (x-μ_k)(x-μ_k)ᵀ, Σ_B = (1/K) Σ (μ_k-μ_G)(μ_k-μ_G)ᵀ, W (K, d) a classifier,
E_K = I_K - (1/K)11ᵀ. Class means are columns: `means` is (..., d, K). Leading dimensions are
members, computed together. Everything is in float64.

A metric of directions is undefined where a direction is that of a zero vector, as in a run that
collapsed to zero: it is NaN there, never an arbitrary number. One class is an error everywhere.
"""

import torch
from torch import Tensor


def centred(means: Tensor) -> Tensor:
    """M̄ (..., d, K): class means minus their mean.

    Raises:
        ValueError: fewer than two classes.
    """
    if means.shape[-1] < 2:
        raise ValueError(f"Collapse needs at least two classes, got {means.shape[-1]}.")
    means = means.double()
    return means - means.mean(-1, keepdim=True)


def nc1_ratio(within_trace: Tensor, means: Tensor) -> Tensor:
    """tr Σ_W / tr Σ_B, no pseudo-inverse (Súkeník et al. 2025, Def. 3.4).

    At n = 1 it is 0 and says nothing. NaN where all class means are equal.

    Args:
        within_trace: tr Σ_W, (...).
        means: (..., d, K).
    """
    between = centred(means).square().sum((-2, -1)) / means.shape[-1]
    return _divide(within_trace.double(), between)


def _distance_to(gram: Tensor, ideal: Tensor) -> Tensor:
    """min over c >= 0 of |G - cE|_F / |G|_F = √(1 - ⟨G,E⟩²/(|G|²|E|²)), 1 where ⟨G,E⟩ < 0."""
    gram = gram.double()
    inner = (gram * ideal).sum((-2, -1))
    norm = gram.square().sum((-2, -1))
    cosine = _divide(inner.clamp_min(0).square(), norm * ideal.square().sum())
    return (1 - cosine).clamp_min(0).sqrt()


def nc2_ce(gram: Tensor) -> Tensor:
    """Distance of a Gram matrix (..., K, K) to a simplex frame, in [0, 1].

    Source: Súkeník et al. 2025, Def. 3.4 (NC2A), G = WWᵀ; closed form derived.
    """
    return _distance_to(gram, simplex(gram.shape[-1]).to(gram.device))


def nc2_mse(gram: Tensor) -> Tensor:
    """Distance of a Gram matrix (..., K, K) to an orthogonal frame, in [0, 1].

    Source: Súkeník et al. 2025, Def. 3.4 (NC2B) for bias-free MSE; on class means (G = MᵀM) ours.
    """
    return _distance_to(gram, torch.eye(gram.shape[-1], dtype=torch.float64, device=gram.device))


def simplex(K: int) -> Tensor:
    """E_K = I - 11ᵀ/K, (K, K)."""
    if K < 2:
        raise ValueError(f"Collapse needs at least two classes, got {K}.")
    return torch.eye(K, dtype=torch.float64) - 1 / K


def nc3_cos(features: Tensor, labels: Tensor, W: Tensor) -> Tensor:
    """1 - mean over samples of cos(x_{k,i}, W_k) (Súkeník et al. 2025, Def. 3.4).

    Args:
        features: (..., d, N).
        labels: (N,).
        W: (..., K, d).
    """
    x, rows = features.double(), W.double().mT[..., labels]
    scale = x.norm(dim=-2) * rows.norm(dim=-2)
    return 1 - _divide((x * rows).sum(-2), scale).clamp(-1, 1).mean(-1)


def condition_number(means: Tensor) -> Tensor:
    """s_max / s_min over the min(d, K) singular values of the class means; 1 at DNC2.

    Reconstructed: Súkeník et al. 2023 plot a metric of DNC2, and its definition is not known.
    Infinite where the means are of lower rank, NaN where they are all zero.
    """
    s = torch.linalg.svdvals(means.double())
    return s[..., 0] / s[..., -1]


def weighted_sine(W: Tensor, means: Tensor) -> Tensor:
    """Σ_j |w_j| sin∠(w_j, nearest class mean) / Σ_j |w_j|, in [0, 1]; 0 at DNC3.

    Reconstructed: Súkeník et al. 2023 plot a metric of DNC3, and its definition is not known.
    The nearest class mean of a row w_j is the one with the largest |cos|. NaN where W is zero or
    every class mean is.

    Args:
        W: rows w_j, (..., m, d).
        means: class means that W acts on, (..., d, K).
    """
    rows, columns = W.double(), means.double()
    norms = rows.norm(dim=-1)
    length = columns.norm(dim=-2, keepdim=True)
    # A zero mean has no direction: it is never the nearest.
    unit = torch.where(length > 0, columns / length, 0.0)
    projection = _divide((rows @ unit).abs().amax(-1), norms).nan_to_num(0.0).clamp(0, 1)
    sine = (1 - projection.square()).sqrt()
    total = _divide((norms * sine).sum(-1), norms.sum(-1))
    return torch.where((length > 0).any(-1).squeeze(-1), total, torch.nan)


def _divide(a: Tensor, b: Tensor) -> Tensor:
    """a / b, NaN where b is zero (also for a = b = 0)."""
    return torch.where(b > 0, a / b, torch.nan)
