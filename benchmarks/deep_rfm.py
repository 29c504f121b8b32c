"""One layer of Deep RFM: against a plain dense version, and against its matrix products alone.

Usage: python benchmarks/deep_rfm.py [threads]
"""

import statistics

import bench
import torch
from torch.nn import functional as F

from replica.kernels.agop import square_root
from replica.kernels.deep_rfm import average_gradient_outer_product
from replica.kernels.random_features import random_features
from replica.settings.validation import validate_run

D, K, WIDTH, BANDWIDTH, TURNS = 784, 10, 1024, 2.0, 3
# Points, and the precision of the scale that computes there.
SIZES = {"cpu": (3000, "float64"), "cuda": (20_000, "float32")}


def setting(N, precision, device):
    """The run of one layer, points (N, d) of unit length and their classes."""
    spec = validate_run(
        dict(kind="deep_rfm", dataset="mnist", images=N, kernel="laplace", bandwidth=BANDWIDTH,
             ridge=0.0, activation="relu", width=WIDTH, depth=1, drawn=1, seeds=1,
             precision=precision),
        "benchmark",
    )  # fmt: skip
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(K, (N,), generator=generator)
    means = torch.randn(K, D, generator=generator)
    x = means[labels] + 2 * torch.randn(N, D, generator=generator)
    return spec, F.normalize(x.to(device, getattr(torch, precision))), labels.to(device)


def ours(spec, x, labels):
    """M of the layer, and the features of the next."""
    M, _ = average_gradient_outer_product(x, labels, K, spec)
    return M, random_features("relu", x @ square_root(M), WIDTH, None, torch.Generator())


def plain(spec, x, labels):
    """As one would write it down: dense matrices, a class at a time."""
    Y = F.one_hot(labels, K).to(x) * 2 - 1
    distance = torch.cdist(x, x)
    k = torch.exp(-distance / BANDWIDTH)
    w = torch.linalg.solve(k + spec.ridge * torch.eye(len(x)).to(x), Y)
    q = torch.where(distance > 1e-10, k / distance, 0)
    M = x.new_zeros(D, D)
    for c in range(K):
        G = (q @ (w[:, c, None] * x) - (q @ w[:, c])[:, None] * x) / BANDWIDTH
        M += G.T @ G
    M /= len(x)
    values, vectors = torch.linalg.eigh(M)
    z = x @ (vectors * values.clamp_min(0).sqrt()) @ vectors.T
    W = (2 * torch.rand(WIDTH, D).to(x) - 1) / D**0.5
    return M, torch.relu(z @ W.T)


def products(spec, x, labels):
    """The matrix products and factorisations of a layer, on matrices of the right shapes."""
    k = x @ x.T
    k.diagonal().add_(len(x))
    factor = torch.linalg.cholesky(k)
    w = torch.cholesky_solve(x[:, :K].contiguous(), factor)
    S = k @ k
    M = x.T @ (S @ x)
    values, vectors = torch.linalg.eigh(M)
    root = (vectors * values) @ vectors.T
    return M, (x @ root) @ x[:WIDTH].T, w


def rows(device, threads):
    """The time of a layer, how many times as fast it is, and how far the matrices M are apart."""
    N, precision = SIZES[device.type]
    arguments = setting(N, precision, device)
    case = f"a layer of {N:,} points, {precision}"
    taken = {way: [] for way in (ours, plain, products)}
    for _ in range(TURNS):
        for way, times in taken.items():
            times.append(bench.seconds_of(lambda way=way: way(*arguments), device, turns=1))
    a, b = ours(*arguments)[0], plain(*arguments)[0]

    def ratios(way):
        return [theirs / mine for mine, theirs in zip(taken[ours], taken[way], strict=True)]

    return [
        bench.row(case, "time", statistics.median(taken[ours]), "s"),
        bench.speed(case, "plain dense matrices", ratios(plain)),
        bench.speed(case, "its products alone", ratios(products)),
        bench.row(case, "largest difference", (a - b).abs().max() / b.abs().max(), "1"),
    ]


if __name__ == "__main__":
    bench.alone(__file__)
