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
        raise ValueError(f"Collapse needs at least two classes, there is {means.shape[-1]}.")
    means = means.double()
    return means - means.mean(-1, keepdim=True)


def between_class_scatter(means: Tensor) -> Tensor:
    """Σ_B (..., d, d)."""
    spread = centred(means)
    return spread @ spread.mT / means.shape[-1]


def nc1_ratio(within_trace: Tensor, means: Tensor) -> Tensor:
    """tr Σ_W / tr Σ_B, no pseudo-inverse (Súkeník et al. 2025, Def. 3.4).

    At n = 1 it is 0 and says nothing. NaN where all class means are equal.

    Args:
        within_trace: tr Σ_W, (...).
        means: (..., d, K).
    """
    between = centred(means).square().sum((-2, -1)) / means.shape[-1]
    return _divide(within_trace.double(), between)


def nc1_pinv(within: Tensor, means: Tensor) -> Tensor:
    """tr(Σ_W Σ_B⁺), Σ_B⁺ from the top K-1 singular values (Papyan et al. 2020).

    Args:
        within: Σ_W (..., d, d).
        means: (..., d, K).
    """
    K = means.shape[-1]
    values, vectors = torch.linalg.eigh(between_class_scatter(means))
    count = min(K - 1, values.shape[-1])
    top, directions = values[..., -count:], vectors[..., -count:]
    share = (directions * (within.double() @ directions)).sum(-2)
    return _divide(share, top.clamp_min(0)).sum(-1)


def nc1_pinv_k(within: Tensor, means: Tensor) -> Tensor:
    """tr(Σ_W Σ_B⁺)/K (Zhu et al. 2021)."""
    return nc1_pinv(within, means) / means.shape[-1]


def cdnv(variances: Tensor, means: Tensor) -> Tensor:
    """Class-distance normalised variance: mean over k != j of (v_k + v_j) / (2|μ_k - μ_j|²).

    Args:
        variances: v_k = mean over i of |x_{k,i} - μ_k|², (..., K).
        means: (..., d, K).
    """
    K = centred(means).shape[-1]
    columns = means.double().mT
    distance = torch.cdist(columns, columns, compute_mode="donot_use_mm_for_euclid_dist").square()
    v = variances.double()
    pairs = ~torch.eye(K, dtype=torch.bool, device=means.device)
    values = _divide(v[..., :, None] + v[..., None, :], 2 * distance)
    return values[..., pairs].mean(-1)


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
        raise ValueError(f"Collapse needs at least two classes, there is {K}.")
    return torch.eye(K, dtype=torch.float64) - 1 / K


def nc2_zhu(gram: Tensor) -> Tensor:
    """| G/|G|_F - E_K/√(K-1) |_F, G = WWᵀ (Zhu et al. 2021)."""
    K = gram.shape[-1]
    return (_unit(gram) - simplex(K).to(gram.device) / (K - 1) ** 0.5).norm(dim=(-2, -1))


def nc2_norms(means: Tensor) -> Tensor:
    """Standard deviation over mean of the norms of the centred class means (Papyan et al. 2020).

    For a classifier pass Wᵀ.
    """
    norms = centred(means).norm(dim=-2)
    return _divide(norms.std(-1, correction=0), norms.mean(-1))


def nc2_angles(means: Tensor) -> Tensor:
    """Mean over k != j of |cos(μ̄_k, μ̄_j) + 1/(K-1)| (Papyan et al. 2020)."""
    K = means.shape[-1]
    spread = centred(means)
    unit = _divide(spread, spread.norm(dim=-2, keepdim=True))
    cosines = (unit.mT @ unit).clamp(-1, 1)
    pairs = ~torch.eye(K, dtype=torch.bool, device=means.device)
    return (cosines + 1 / (K - 1)).abs()[..., pairs].mean(-1)


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


def nc3_dual(W: Tensor, means: Tensor) -> Tensor:
    """| Wᵀ/|W|_F - M̄/|M̄|_F |_F² (Papyan et al. 2020)."""
    return (_unit(W).mT - _unit(centred(means))).square().sum((-2, -1))


def nc3_zhu(W: Tensor, means: Tensor) -> Tensor:
    """| WM̄/|WM̄|_F - E_K/√(K-1) |_F (Zhu et al. 2021)."""
    K = means.shape[-1]
    return (_unit(W.double() @ centred(means)) - simplex(K) / (K - 1) ** 0.5).norm(dim=(-2, -1))


def nc3_bias(W: Tensor, bias: Tensor, means: Tensor) -> Tensor:
    """| Wμ_G + b | (Zhu et al. 2021); bias is (..., K)."""
    return ((W.double() @ means.double()).mean(-1) + bias.double()).norm(dim=-1)


def nc4(features: Tensor, predictions: Tensor, means: Tensor) -> Tensor:
    """1 - share of samples whose prediction is the nearest class mean (Papyan et al. 2020).

    Args:
        features: (..., d, N).
        predictions: (..., N) int64.
        means: (..., d, K).
    """
    nearest = torch.cdist(features.double().mT, means.double().mT).argmin(-1)
    return 1 - (nearest == predictions).double().mean(-1)


def condition_number(means: Tensor) -> Tensor:
    """s_max / s_min over the min(d, K) singular values of the class means; 1 at DNC2.

    Infinite where the means are of lower rank, NaN where they are all zero.
    """
    s = torch.linalg.svdvals(means.double())
    return s[..., 0] / s[..., -1]


def weighted_sine(W: Tensor, means: Tensor) -> Tensor:
    """Σ_j |w_j| sin∠(w_j, nearest class mean) / Σ_j |w_j|, in [0, 1]; 0 at DNC3.

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


def _unit(matrix: Tensor) -> Tensor:
    matrix = matrix.double()
    return _divide(matrix, matrix.norm(dim=(-2, -1), keepdim=True))


def _divide(a: Tensor, b: Tensor) -> Tensor:
    """a / b, NaN where b is zero (also for a = b = 0)."""
    return torch.where(b > 0, a / b, torch.nan)
