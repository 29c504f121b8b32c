"""The average gradient outer product of a kernel machine, in closed form.

For f_c(x) = Σ_p w_pc k(x, x_p), with the slope q of the kernel (`kernels.functions`),

    ∇f_c(x_i) = Σ_p q_ip w_pc (x_p - x_i)        Σ_{i,c} ∇f_c(x_i) ∇f_c(x_i)ᵀ = Xᵀ S X
    S = (Q²) ∘ (W Wᵀ) - Q ∘ (W Aᵀ + A Wᵀ) + diag(Σ_c a_ic²)        A = Q W

(Beaglehole et al. 2024, section 3.2; the second form derived.) The first form takes 2 N² d C
operations, the second N³ + N² d, because S is symmetric.
"""

import torch
from torch import Tensor

from replica.kernels.functions import BLOCK, KernelName, matrix, slices, slope

# The form with S squares the slopes and so loses twice their digits: its largest relative error.
ACCURACY = 1e-6


def gradient_outer_products(
    x: Tensor,
    weights: Tensor,
    name: KernelName,
    L: float,
    storage: Tensor | None = None,
    block: int = BLOCK,
) -> Tensor:
    """Σ over points x_i and outputs c of ∇f_c(x_i) ∇f_c(x_i)ᵀ, (d, d); over N it is the AGOP.

    Args:
        x: points (N, d), rows.
        weights: w (N, C).
        name, L: kernel and bandwidth.
        storage: (N, N) to be overwritten with Q; without it Q is computed block by block, twice.
        block: points at a time; memory beyond `storage` is O(block C d + d²).
    """
    (N, d), C = x.shape, weights.shape[1]
    if storage is None or N > 2 * C * d:
        return _by_gradients(x, weights, name, L, block)
    Q = matrix(slope(name, L), x, storage, block)
    if Q.max() ** 2 * torch.finfo(x.dtype).eps > ACCURACY:
        return _by_gradients(x, weights, name, L, block)
    A = Q @ weights
    total = x.new_zeros(d, d)
    for rows in slices(N, block):
        product = torch.zeros_like(x[rows])
        for columns in slices(rows.stop, block):
            S = Q[rows] @ Q[:, columns]
            S *= weights[rows] @ weights[columns].T
            S -= Q[rows, columns] * (weights[rows] @ A[columns].T + A[rows] @ weights[columns].T)
            if rows == columns:
                S.diagonal().add_(A[rows].square().sum(1))
                S /= 2
            product += S @ x[columns]
        total += x[rows].T @ product
    return total + total.T


def _by_gradients(x: Tensor, weights: Tensor, name: KernelName, L: float, block: int) -> Tensor:
    total = x.new_zeros(x.shape[1], x.shape[1])
    for rows in slices(len(x), block):
        G = gradients(x[rows], x, weights, name, L, block).flatten(0, 1)
        total += G.T @ G
    return total


def gradients(
    at: Tensor, x: Tensor, weights: Tensor, name: KernelName, L: float, block: int = BLOCK
) -> Tensor:
    """∇f_c at points `at` (b, d) of the machine with points x (N, d), weights (N, C): (b, C, d)."""
    (b, d), C = at.shape, weights.shape[1]
    values = slope(name, L)
    found, sums = at.new_zeros(b, C * d), at.new_zeros(b, C)
    for columns in slices(len(x), block):
        q, w = values(at, x[columns]), weights[columns]
        found += q @ (w[:, :, None] * x[columns, None, :]).flatten(1)
        sums += q @ w
    return found.view(b, C, d) - sums[:, :, None] * at[:, None, :]


def square_root(matrix: Tensor) -> Tensor:
    """The symmetric square root of a positive semi-definite matrix (d, d), by eigenvectors.

    Computed in float64 and returned in the type of the matrix; negative eigenvalues, which are
    rounding errors, count as 0.
    """
    values, vectors = torch.linalg.eigh(matrix.double())
    return ((vectors * values.clamp_min(0).sqrt()) @ vectors.T).to(matrix.dtype)
