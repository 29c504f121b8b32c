"""Attention maps and token matrices as numbers: sinks, diagonals, and how alike tokens are.

Maps A are (..., T, T), row-stochastic and causal unless said; tokens X are (..., n, d), a row each.
Positions count from 1 as in docs/sinks.md. Row 1 is trivially a sink and a diagonal: all means but
those of `importance` leave it out. Everything works on whole batches, in the dtype given.
"""

from collections.abc import Iterable

import torch
from torch import Tensor

# α_max leaves out the last columns, which few rows can see.
LAST_COLUMNS = 16


def importance(A: Tensor) -> Tensor:
    """α_k = (1/(T-k+1)) Σ_{t>=k} A_tk of each column, (..., T) (Gu et al. 2025, section 3.2)."""
    T = A.shape[-1]
    rows = torch.arange(T, 0, -1, device=A.device, dtype=A.dtype)
    return A.sum(-2) / rows


def largest_importance(A: Tensor) -> Tensor:
    """The largest α_k over k <= T - 16, of short texts over k <= T/2: (...)."""
    T = A.shape[-1]
    return importance(A)[..., : max(T - LAST_COLUMNS, T // 2)].amax(-1)


def sink_mass(A: Tensor) -> Tensor:
    """Mean over t >= 2 of A_t1: (...)."""
    return A[..., 1:, 0].mean(-1)


def diagonal_mass(A: Tensor) -> Tensor:
    """δ, the mean over t >= 2 of A_tt: (...)."""
    return A.diagonal(dim1=-2, dim2=-1)[..., 1:].mean(-1)


def previous_mass(A: Tensor) -> Tensor:
    """Mean over t >= 2 of A_{t,t-1}: (...)."""
    return A.diagonal(-1, dim1=-2, dim2=-1).mean(-1)


def entropy(A: Tensor) -> Tensor:
    """Mean over t >= 2 of the entropy of row t over log t, 1 for uniform rows: (...)."""
    rows = torch.special.entr(A[..., 1:, :]).sum(-1)
    t = torch.arange(2, A.shape[-1] + 1, device=A.device, dtype=A.dtype)
    return (rows / t.log()).mean(-1)


def head_types(
    alpha_1: Iterable[float], delta: Iterable[float], previous: Iterable[float], epsilon: float
) -> list[str]:
    """sink, diagonal, previous or mixed for each head: the first whose number is above ε."""
    return [
        next(
            (name for name, value in zip(("sink", "diagonal", "previous"), numbers, strict=True)
             if value > epsilon), "mixed",
        )
        for numbers in zip(alpha_1, delta, previous, strict=True)
    ]  # fmt: skip


def margins(z: Tensor) -> tuple[Tensor, Tensor]:
    """Smallest margins of a sink and of a diagonal over rows t >= 2 of causal logits z: two (...).

    min_t (z_t1 - max_{1<j<=t} z_tj) and min_t (z_tt - max_{j<t} z_tj).
    """
    T = z.shape[-1]
    seen = torch.ones(T, T, dtype=torch.bool, device=z.device).tril()
    others = seen.clone()
    others[:, 0] = False
    sink = z[..., 0] - z.masked_fill(~others, -torch.inf).amax(-1)
    before = z.masked_fill(~seen.tril(-1), -torch.inf).amax(-1)
    diagonal = z.diagonal(dim1=-2, dim2=-1) - before
    return sink[..., 1:].amin(-1), diagonal[..., 1:].amin(-1)


def centred(X: Tensor) -> Tensor:
    """X - 1 x̄ᵀ."""
    return X - X.mean(-2, keepdim=True)


def mu(X: Tensor) -> Tensor:
    """μ(X) = |X - 1 x̄ᵀ|_F: (...) (Wu et al. 2024, eq. 4)."""
    return torch.linalg.matrix_norm(centred(X))


def relative_mu(X: Tensor) -> Tensor:
    """μ(X) over |X|_F, in [0, 1]; 0 where X is 0."""
    return _ratio(mu(X), torch.linalg.matrix_norm(X))


def smoothing(A: Tensor, V: Tensor) -> Tensor:
    """S(A) = μ(A V)/μ(V) of values V (..., T, d): below 1 the layer makes tokens more alike."""
    return _ratio(mu(A @ V), mu(V))


def relative_residual(X: Tensor) -> Tensor:
    """|res X| / |X| in the norm √(|·|_1 |·|_∞) (Dong et al. 2021, official code)."""

    def norm(Y: Tensor) -> Tensor:
        return (Y.abs().sum(-2).amax(-1) * Y.abs().sum(-1).amax(-1)).sqrt()

    return _ratio(norm(centred(X)), norm(X))


def cosines(X: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and least cosine of two different tokens: two (...)."""
    unit = X / X.norm(dim=-1, keepdim=True).clamp(min=torch.finfo(X.dtype).tiny)
    gram = unit @ unit.mT
    n = X.shape[-2]
    own = torch.eye(n, dtype=torch.bool, device=X.device)
    mean = gram.masked_fill(own, 0).sum((-2, -1)) / (n * (n - 1))
    return mean, gram.masked_fill(own, torch.inf).amin((-2, -1))


def ranks(X: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Effective rank exp(H(σ/Σσ)), σ_min, and σ_2/σ_1: three (...)."""
    sigma = torch.linalg.svdvals(X)
    total = sigma.sum(-1, keepdim=True)
    share = torch.where(total > 0, sigma / total.where(total > 0, torch.ones_like(total)), 0.0)
    effective = torch.special.entr(share).sum(-1).exp()
    return effective, sigma[..., -1], _ratio(sigma[..., 1], sigma[..., 0])


def top_weights(A: Tensor, k: int) -> Tensor:
    """Only the k largest weights of each row, divided by their sum."""
    T = A.shape[-1]
    if k >= T:
        return A
    keep = torch.zeros_like(A, dtype=torch.bool).scatter_(-1, A.topk(k, -1).indices, True)
    kept = A * keep
    return kept / kept.sum(-1, keepdim=True)


def _ratio(a: Tensor, b: Tensor) -> Tensor:
    """a / b; 0 where both are 0."""
    return torch.where(b > 0, a / b.where(b > 0, torch.ones_like(b)), torch.zeros_like(a))
