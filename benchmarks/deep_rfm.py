"""One layer of Deep RFM: against a plain dense version, and against its matrix products alone.

    python benchmarks/deep_rfm.py [threads]           N = 3,000, d = 784, ten classes, float64
    python benchmarks/deep_rfm.py memory [threads]    N = 20,000, float32: time and peak memory

Prints medians of nine turns, the two ratios, and how far the matrices M are apart.
"""

import resource
import statistics
import sys
import time

import torch
from torch.nn import functional as F

from replica.kernels.agop import square_root
from replica.kernels.deep_rfm import average_gradient_outer_product
from replica.kernels.random_features import random_features
from replica.specs import validate_run

N, D, K, WIDTH, L = 3000, 784, 10, 1024, 2.0
TURNS = 9


def setting(N, precision):
    spec = validate_run(
        dict(kind="deep_rfm", dataset="mnist", images=N, kernel="laplace", bandwidth=L, ridge=0.0,
             activation="relu", width=WIDTH, depth=1, drawn=1, seeds=1, precision=precision),
        "benchmark",
    )  # fmt: skip
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(K, (N,), generator=generator)
    means = torch.randn(K, D, generator=generator)
    x = means[labels] + 2 * torch.randn(N, D, generator=generator)
    return spec, F.normalize(x.to(getattr(torch, precision))), labels


def ours(spec, x, labels):
    M, _ = average_gradient_outer_product(x, labels, K, spec)
    return M, random_features("relu", x @ square_root(M), WIDTH, None, torch.Generator())


def plain(spec, x, labels):
    """As one would write it down: dense matrices, a class at a time."""
    Y = F.one_hot(labels, K).to(x) * 2 - 1
    distance = torch.cdist(x, x)
    k = torch.exp(-distance / L)
    w = torch.linalg.solve(k + spec.ridge * torch.eye(len(x), dtype=x.dtype), Y)
    q = torch.where(distance > 1e-10, k / distance, 0)
    M = x.new_zeros(D, D)
    for c in range(K):
        G = (q @ (w[:, c, None] * x) - (q @ w[:, c])[:, None] * x) / L
        M += G.T @ G
    M /= len(x)
    values, vectors = torch.linalg.eigh(M)
    z = x @ (vectors * values.clamp_min(0).sqrt()) @ vectors.T
    W = (2 * torch.rand(WIDTH, D, dtype=x.dtype) - 1) / D**0.5
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


def seconds(function, *arguments):
    began = time.perf_counter()
    result = function(*arguments)
    return time.perf_counter() - began, result


def main() -> None:
    words = sys.argv[1:]
    memory = "memory" in words
    threads = int(next((word for word in words if word.isdigit()), 2))
    torch.set_num_threads(threads)
    if memory:
        arguments = setting(20_000, "float32")
        took, _ = seconds(ours, *arguments)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        print(f"N = 20,000, d = {D}, float32, {threads} threads: {took:.0f} s, {peak:.1f} GiB")
        return
    arguments = setting(N, "float64")
    times = {function: [] for function in (ours, plain, products)}
    for _ in range(TURNS):
        for function, taken in times.items():
            took, _ = seconds(function, *arguments)
            taken.append(took)
    a, b = ours(*arguments)[0], plain(*arguments)[0]
    middle = {function.__name__: statistics.median(taken) for function, taken in times.items()}
    print(", ".join(f"{name} {took:.2f} s" for name, took in middle.items()))
    print(f"{threads} threads: ours / plain = {middle['ours'] / middle['plain']:.3f}, "
          f"ours / products = {middle['ours'] / middle['products']:.2f}; the matrices M differ by "
          f"{(a - b).abs().max() / b.abs().max():.1e} of their largest entry")  # fmt: skip


if __name__ == "__main__":
    main()
