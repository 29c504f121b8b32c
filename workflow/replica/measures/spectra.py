"""Ranks and spectra of matrices of class means; leading dimensions are members."""

import torch
from torch import Tensor

RELATIVE = 0.05
ABSOLUTE = 1e-6
ZERO = 1e-4


def singular_values(matrix: Tensor) -> Tensor:
    """Singular values (..., min(d, K)) in float64, from the largest."""
    return torch.linalg.svdvals(matrix.double())


def rank_rel(s: Tensor, tau: float = RELATIVE) -> Tensor:
    """Number of singular values above `tau` times the largest; 0 where that is below 1e-4.

    The threshold of 5 % is ours.
    """
    count = (s > tau * s[..., :1]).sum(-1)
    return torch.where(s[..., 0] < ZERO, 0, count)


def rank_abs(s: Tensor) -> Tensor:
    """Number of singular values above 1e-6 (Garrod and Keating 2025)."""
    return (s > ABSOLUTE).sum(-1)


def effective_rank(s: Tensor) -> Tensor:
    """exp(-Σ p_i log p_i) with p_i = s_i / Σ s (Roy and Vetterli 2007); NaN for zero matrices."""
    p = s / s.sum(-1, keepdim=True)
    return torch.exp(torch.special.entr(p).sum(-1))


def stable_rank(s: Tensor) -> Tensor:
    """|M|_F² / s_1²; NaN for zero matrices."""
    return s.square().sum(-1) / s[..., 0].square()
