"""Kernel ridge regression: (K + γI) w = Y, by Cholesky or by conjugate gradients.

A kernel matrix of N points takes N² numbers, its factor as many, and solving with it again as
many. Where the memory does not hold them, blocks of the matrix are recomputed for each product,
and preconditioned conjugate gradients solve the system.
"""

import sys
from collections.abc import Callable
from dataclasses import dataclass

import psutil
import torch
from torch import Tensor

from replica.kernels.functions import BLOCK, KernelName, kernel, matrix, slices

# Conjugate gradients: columns of the Nyström preconditioner, residual |r|/|y|, iterations.
LANDMARKS, TOLERANCE, ITERATIONS = 2000, 1e-5, 1000


class NotSolved(RuntimeError):
    """The linear system of a kernel machine has no solution in this precision."""


@dataclass(frozen=True)
class Solution:
    """A solved kernel ridge regression.

    Attributes:
        weights: w (N, C); f(x) = Σ_p w_p k(x, x_p).
        ridge: what was added to the diagonal: γ, and the jitter that a singular matrix needed.
        kernel_matrix: K (N, N); None where it did not fit.
    """

    weights: Tensor
    ridge: float
    kernel_matrix: Tensor | None


def fits(N: int, dtype: torch.dtype, device: torch.device) -> bool:
    """Whether the memory that is free holds three matrices (N, N), and a little more.

    They are the matrix, its factor, and a copy of the factor that solving with it makes.
    """
    if device.type == "cuda":
        # What torch keeps for itself is free too.
        kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        free = torch.cuda.mem_get_info(device)[0] + kept
    else:
        free = psutil.virtual_memory().available
    return 3.3 * N**2 * dtype.itemsize < free


def solve(x: Tensor, y: Tensor, name: KernelName, L: float, ridge: float) -> Solution:
    """Solve (K + γI) w = Y.

    Args:
        x: points (N, d).
        y: targets (N, C).
        name, L: kernel and bandwidth.
        ridge: γ >= 0.

    Raises:
        NotSolved: see `cholesky` and `conjugate_gradients`.
    """
    if fits(len(x), x.dtype, x.device):
        return cholesky(x, y, name, L, ridge)
    gigabytes = len(x) ** 2 * x.dtype.itemsize / 1e9
    print(
        f"The kernel matrix of {len(x)} points ({gigabytes:.1f} GB) does not fit into the memory "
        "with its factor: conjugate gradients instead of Cholesky.",
        file=sys.stderr,
    )
    return Solution(conjugate_gradients(x, y, name, L, ridge), ridge, None)


def cholesky(x: Tensor, y: Tensor, name: KernelName, L: float, ridge: float) -> Solution:
    """Solve by factorisation.

    A matrix that is singular in this precision, as with equal points and no ridge, gets a jitter
    on its diagonal: the machine precision, then ten times more, until the factorisation succeeds.

    Raises:
        NotSolved: a jitter below 1 is not enough; the points are not finite.
    """
    K, jitter = matrix(kernel(name, L), x), 0.0
    while jitter < 1:
        K.diagonal().add_(ridge + jitter)
        factor, failed = torch.linalg.cholesky_ex(K)
        # The kernels are 1 between equal points.
        K.diagonal().fill_(1)
        if not failed:
            return Solution(torch.cholesky_solve(y, factor), ridge + jitter, K)
        del factor
        jitter = max(10 * jitter, torch.finfo(x.dtype).eps)
    raise NotSolved(
        f"The {name} kernel matrix of {len(x)} points is singular even with a ridge of "
        f"{ridge + jitter / 10:g}; the points are "
        f"{'finite' if x.isfinite().all() else 'not finite'}."
    )


def conjugate_gradients(x: Tensor, y: Tensor, name: KernelName, L: float, ridge: float) -> Tensor:
    """Solve without the matrix: conjugate gradients, each column of Y for itself.

    The preconditioner is the Nyström approximation on evenly spaced points plus a multiple δ of the
    identity, inverted by Woodbury's formula; memory is O(N (landmarks + C)).

    Without a ridge, points that nearly coincide make a system that it may not solve.

    Raises:
        NotSolved: the residual of a column stays above `TOLERANCE` of it after `ITERATIONS`.
    """
    values = kernel(name, L)
    try:
        precondition = _nystrom(x, name, L, ridge)
    except torch.linalg.LinAlgError as error:
        raise NotSolved(
            f"The preconditioner of {len(x)} points is singular; use a ridge above {ridge:g}."
        ) from error
    w, r = torch.zeros_like(y), y.clone()
    z = precondition(r)
    p, rz = z.clone(), (r * z).sum(0)
    goal = TOLERANCE * y.norm(dim=0)
    for _ in range(ITERATIONS):
        Ap = ridge * p
        for rows in slices(len(x), BLOCK):
            Ap[rows] += values(x[rows], x) @ p
        # A solved column stays as it is.
        going = r.norm(dim=0) > goal
        step = torch.where(going, rz / (p * Ap).sum(0), 0)
        w += step * p
        r -= step * Ap
        if (r.norm(dim=0) <= goal).all():
            return w
        z = precondition(r)
        before, rz = rz, (r * z).sum(0)
        p = z + torch.where(going, rz / before, 0) * p
    worst = (r.norm(dim=0) / y.norm(dim=0)).max().item()
    raise NotSolved(
        f"Conjugate gradients left a residual of {worst:.1e} after {ITERATIONS} iterations on "
        f"{len(x)} points; use a ridge above {ridge:g}, or a machine with more memory."
    )


def _nystrom(x: Tensor, name: KernelName, L: float, ridge: float) -> Callable[[Tensor], Tensor]:
    """r -> (K_Nm K_mm⁻¹ K_mN + δI)⁻¹ r."""
    m = min(LANDMARKS, len(x))
    chosen = x[torch.arange(m, device=x.device) * len(x) // m]
    values, eps = kernel(name, L), torch.finfo(x.dtype).eps
    K_mm = matrix(values, chosen)
    K_mm.diagonal().add_(10 * m * eps)
    # B Bᵀ = K_Nm K_mm⁻¹ K_mN
    B = torch.linalg.solve_triangular(torch.linalg.cholesky(K_mm), values(chosen, x), upper=False).T
    rest = (1 - B.square().sum(1)).clamp_min(0).mean().item()
    inner = B.T @ B
    # Not below the rounding errors of the product.
    delta = ridge + max(rest, m * eps * inner.diagonal().max().item())
    inner.diagonal().add_(delta)
    inner = torch.linalg.cholesky(inner)
    return lambda r: (r - B @ torch.cholesky_solve(B.T @ r, inner)) / delta
