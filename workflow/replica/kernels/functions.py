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
from torch.nn import functional as F

KernelName = Literal["laplace", "gaussian"]
# Rows at a time, and columns for each of them: wide products are faster than square ones.
BLOCK, WIDE = 384, 8


def kernel(name: KernelName, L: float) -> Callable[[Tensor, Tensor], Tensor]:
    """The function (a, d), (b, d) -> k (a, b)."""

    def values(x: Tensor, z: Tensor) -> Tensor:
        squares = squared_distances(x, z)
        if name == "gaussian":
            return squares.mul_(-0.5 / L**2).exp_()
        return squares.sqrt_().mul_(-1 / L).exp_()

    return values


def slope(name: KernelName, L: float) -> Callable[[Tensor, Tensor], Tensor]:
    """The function (a, d), (b, d) -> q (a, b)."""
    values = kernel(name, L)
    return lambda x, z: slope_of(name, L, values(x, z))


def slope_of(name: KernelName, L: float, values: Tensor) -> Tensor:
    """q from k, in place; the Laplace kernel's is 0 between points that coincide.

    The distance of the Laplace kernel is -L log k, which is as exact as `squared_distances`.
    """
    if name == "gaussian":
        return values.div_(L**2)
    exponent = values.log().neg_()
    coincide = exponent < _resolution(values) / L
    # q = k / (L |x - z|) = k / (L² · exponent)
    return values.div_(exponent).div_(L**2).masked_fill_(coincide, 0)


def squared_distances(x: Tensor, z: Tensor) -> Tensor:
    """|x_i - z_j|², (a, b), by one matrix product; differences below its resolution are 0."""
    a, b = x.square().sum(1), z.square().sum(1)
    squares = (x @ z.T).mul_(-2).add_(a[:, None]).add_(b)
    return F.threshold(squares, float(max(a.max(), b.max())) * _resolution(x) ** 2, 0, inplace=True)


def _resolution(x: Tensor) -> float:
    """Distances of points of length 1 below this are rounding errors of `squared_distances`."""
    return 4 * torch.finfo(x.dtype).eps ** 0.5


def matrix(values: Callable[[Tensor, Tensor], Tensor], x: Tensor, block: int = BLOCK) -> Tensor:
    """The symmetric matrix values(x_i, x_j), (N, N), each pair computed once.

    Args:
        values: a symmetric function of two sets of points.
        x: (N, d).
        block: rows at a time; memory beyond the matrix is O(block² + block d).
    """
    N = len(x)
    out, origin = x.new_empty(N, N), x.new_zeros(1, x.shape[1])
    for rows in slices(N, block):
        for columns in (*slices(rows.start, WIDE * block), rows):
            tile = values(x[rows], x[columns])
            if columns == rows:
                # A point is at distance zero of itself, whatever the rounding.
                tile.fill_diagonal_(values(origin, origin).item())
            out[rows, columns] = tile
            out[columns, rows] = tile.T
    return out


def slices(N: int, block: int) -> Iterator[slice]:
    """0..N-1 in blocks."""
    for start in range(0, N, block):
        yield slice(start, min(start + block, N))
