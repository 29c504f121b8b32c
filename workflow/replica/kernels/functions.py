"""The Laplace and the Gaussian kernel, and what their gradients are made of.

    Laplace    k(x, z) = exp(-|x - z| / L)
    Gaussian   k(x, z) = exp(-|x - z|² / (2 L²))

Both have ∇_x k(x, z) = q(x, z) (z - x), with the slope q = k / (L |x - z|) of the Laplace and
q = k / L² of the Gaussian kernel (Beaglehole et al. 2024, official code; Gaussian derived).
"""

from collections.abc import Callable, Iterator
from typing import Literal

import torch
from torch import Tensor

KernelName = Literal["laplace", "gaussian"]
BLOCK = 512


def kernel(name: KernelName, L: float) -> Callable[[Tensor, Tensor], Tensor]:
    """The function (a, d), (b, d) -> k (a, b)."""

    def values(x: Tensor, z: Tensor) -> Tensor:
        squares = squared_distances(x, z)
        if name == "gaussian":
            return squares.mul_(-0.5 / L**2).exp_()
        return squares.sqrt_().mul_(-1 / L).exp_()

    return values


def slope(name: KernelName, L: float) -> Callable[[Tensor, Tensor], Tensor]:
    """The function (a, d), (b, d) -> q (a, b); the Laplace kernel's is 0 between equal points."""

    def values(x: Tensor, z: Tensor) -> Tensor:
        squares = squared_distances(x, z)
        if name == "gaussian":
            return squares.mul_(-0.5 / L**2).exp_().div_(L**2)
        distance = squares.sqrt_()
        values = (-distance / L).exp_().div_(distance).div_(L)
        return values.masked_fill_(distance < _resolution(x), 0)

    return values


def squared_distances(x: Tensor, z: Tensor) -> Tensor:
    """|x_i - z_j|², (a, b), by one matrix product; differences below its resolution are 0."""
    squares = torch.addmm(x.square().sum(1)[:, None] + z.square().sum(1), x, z.T, alpha=-2)
    scale = max(x.square().sum(1).max(), z.square().sum(1).max())
    return squares.masked_fill_(squares < scale * _resolution(x) ** 2, 0)


def _resolution(x: Tensor) -> float:
    """Distances of points of length 1 below this are rounding errors of `squared_distances`."""
    return 4 * torch.finfo(x.dtype).eps ** 0.5


def matrix(
    values: Callable[[Tensor, Tensor], Tensor],
    x: Tensor,
    out: Tensor | None = None,
    block: int = BLOCK,
) -> Tensor:
    """The symmetric matrix values(x_i, x_j), (N, N), each pair computed once.

    Args:
        values: a symmetric function of two sets of points.
        x: (N, d).
        out: (N, N) storage to be filled.
        block: rows and columns at a time; memory beyond the matrix is O(block² + block d).
    """
    N = len(x)
    out = x.new_empty(N, N) if out is None else out
    origin = x.new_zeros(1, x.shape[1])
    for rows in slices(N, block):
        for columns in slices(rows.stop, block):
            tile = values(x[rows], x[columns])
            if rows == columns:
                # A point is at distance zero of itself, whatever the rounding.
                tile.fill_diagonal_(values(origin, origin).item())
            out[rows, columns] = tile
            out[columns, rows] = tile.T
    return out


def slices(N: int, block: int) -> Iterator[slice]:
    """0..N-1 in blocks."""
    for start in range(0, N, block):
        yield slice(start, min(start + block, N))
