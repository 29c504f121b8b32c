"""The average gradient outer product of a kernel machine, in closed form.

For f_c(x) = Σ_p w_pc k(x, x_p), with the slope q of the kernel (`kernels.functions`),

    ∇f_c(x_i) = Σ_p q_ip w_pc (x_p - x_i)        Σ_{i,c} ∇f_c(x_i) ∇f_c(x_i)ᵀ = Xᵀ S X
    S = (Q²) ∘ (W Wᵀ) - Q ∘ (W Aᵀ + A Wᵀ) + diag(Σ_c a_ic²)        A = Q W

(Beaglehole et al. 2024, section 3.2; the second form derived.) The first form takes 2 N² d C
operations, the second N³ + N² d, because S is symmetric.
"""

import torch
from torch import Tensor

from replica.kernels.functions import BLOCK, WIDE, KernelName, slices, slope, slope_of

# The terms of S cancel where weights are huge or points nearly coincide: the largest relative error
# of the form with S, by a bound.
ACCURACY = 1e-6
# The size of the sum itself is estimated from this many points.
PROBED = 32


def gradient_outer_products(
    x: Tensor,
    weights: Tensor,
    name: KernelName,
    L: float,
    kernel_matrix: Tensor | None = None,
    block: int = BLOCK,
) -> Tensor:
    """Σ over points x_i and outputs c of ∇f_c(x_i) ∇f_c(x_i)ᵀ, (d, d); over N it is the AGOP.

    Args:
        x: points (N, d), rows.
        weights: w (N, C).
        name, L: kernel and bandwidth.
        kernel_matrix: K (N, N), which is overwritten with Q; without it Q is computed in blocks.
        block: points at a time; memory beyond the matrix is O(block C d + d²).
    """
    (N, d), C = x.shape, weights.shape[1]
    if kernel_matrix is None or N > 2 * C * d:
        return _by_gradients(x, weights, name, L, block)
    Q = kernel_matrix
    for rows in slices(N, block):
        for columns in slices(N, WIDE * block):
            slope_of(name, L, Q[rows, columns])
    if _rounding(Q, x, weights, name, L) > ACCURACY:
        return _by_gradients(x, weights, name, L, block)
    A = Q @ weights
    WA, AW = torch.cat([weights, A], 1), torch.cat([A, weights], 1)
    total = x.new_zeros(d, d)
    for rows in slices(N, block):
        product = torch.zeros_like(x[rows])
        for columns in (*slices(rows.start, WIDE * block), rows):
            # Q is symmetric, and its rows are contiguous.
            S = Q[rows] @ Q[columns].T
            S *= weights[rows] @ weights[columns].T
            S.addcmul_(Q[rows, columns], WA[rows] @ AW[columns].T, value=-1)
            if columns == rows:
                S.diagonal().add_(A[rows].square().sum(1))
                S /= 2
            product += S @ x[columns]
        total.addmm_(x[rows].T, product)
    return total + total.T


def _rounding(Q: Tensor, x: Tensor, weights: Tensor, name: KernelName, L: float) -> float:
    """A bound of how far rounding moves Xᵀ S X, relative to its trace, for points of length 1.

    With v the lengths of the rows of W, the absolute values of the terms of S add up to at most
    4 |Q v|². The trace is the sum of all squared gradients, here estimated from a few points.
    """
    terms = 4 * (Q @ weights.norm(dim=1)).square().sum()
    probed = torch.linspace(0, len(x) - 1, min(PROBED, len(x)), device=x.device).long()
    G = gradients(x[probed], x, weights, name, L)
    trace = G.square().sum() * (len(x) / len(probed))
    return float(torch.finfo(x.dtype).eps * terms / trace) if terms > 0 else 0.0


def _by_gradients(x: Tensor, weights: Tensor, name: KernelName, L: float, block: int) -> Tensor:
    total = x.new_zeros(x.shape[1], x.shape[1])
    for rows in slices(len(x), WIDE * block):
        G = gradients(x[rows], x, weights, name, L, block).flatten(0, 1)
        total.addmm_(G.T, G)
    return total


def gradients(
    at: Tensor, x: Tensor, weights: Tensor, name: KernelName, L: float, block: int = BLOCK
) -> Tensor:
    """∇f_c at points `at` (b, d) of the machine with points x (N, d), weights (N, C): (b, C, d)."""
    (b, d), C = at.shape, weights.shape[1]
    values = slope(name, L)
    found, sums = at.new_zeros(b, C * d), at.new_zeros(b, C)
    for columns in slices(len(x), WIDE * block):
        q, w = values(at, x[columns]), weights[columns]
        found.addmm_(q, (w[:, :, None] * x[columns, None, :]).flatten(1))
        sums += q @ w
    return found.view(b, C, d) - sums[:, :, None] * at[:, None, :]


def square_root(matrix: Tensor) -> Tensor:
    """The symmetric square root of a positive semi-definite matrix (d, d), by eigenvectors.

    Computed in float64 and returned in the type of the matrix; negative eigenvalues, which are
    rounding errors, count as 0.
    """
    values, vectors = torch.linalg.eigh(matrix.double())
    return ((vectors * values.clamp_min(0).sqrt()) @ vectors.T).to(matrix.dtype)
