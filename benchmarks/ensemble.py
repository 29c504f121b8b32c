"""Ten seeds as one stack against ten plain loops: ratio of times, and agreement of the losses.

Usage: python benchmarks/ensemble.py [threads]
"""

import statistics
import sys
import time

import torch

from replica.models import dufm

K, L, N_PER_CLASS, WIDTH, SEEDS = 10, 4, 50, 30, 10
LAMBDA, LR, STEPS = 0.004, 0.05, 100


def start(seeds, dtype):
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    return dufm.initialise(
        K=K,
        L=L,
        n=N_PER_CLASS,
        width=WIDTH,
        h_std=1.0,
        w_gain=1.0,
        generators=generators,
        dtype=dtype,
    )


def losses(params):
    lam = torch.full((len(params["H1"]),), LAMBDA, dtype=torch.float64)
    return sum(dufm.fit_and_penalty(params, lam, lam))


def ensemble(dtype):
    params = start(range(SEEDS), dtype)
    lam, lr = (torch.full((SEEDS,), x, dtype=torch.float64) for x in (LAMBDA, LR))
    step = dufm.gradient_descent(params, lam, lam, lr)
    began = time.perf_counter()
    for _ in range(STEPS):
        step()
    return time.perf_counter() - began, losses(params)


def plain_loops(dtype):
    """As one would write it: autograd, SGD with weight decay, one seed after another."""
    Y = torch.eye(K, dtype=dtype).repeat_interleave(N_PER_CLASS, 1)
    seconds, ends = 0.0, []
    for seed in range(SEEDS):
        params = {k: v[0].clone().requires_grad_() for k, v in start([seed], dtype).items()}
        optimiser = torch.optim.SGD(params.values(), lr=LR, weight_decay=LAMBDA)
        began = time.perf_counter()
        for _ in range(STEPS):
            x = params["W1"] @ params["H1"]
            for l in range(2, L + 1):
                x = params[f"W{l}"] @ torch.relu(x)
            fit = (x - Y).square().sum() / (2 * K * N_PER_CLASS)
            optimiser.zero_grad()
            fit.backward()
            optimiser.step()
        seconds += time.perf_counter() - began
        ends.append(losses({k: v.detach()[None] for k, v in params.items()}))
    return seconds, torch.cat(ends)


def main() -> None:
    threads = int(sys.argv[1]) if len(sys.argv) > 1 else 1
    torch.set_num_threads(threads)
    _, stacked = ensemble(torch.float64)
    _, plain = plain_loops(torch.float64)
    difference = ((stacked - plain) / plain).abs().max().item()
    ratios = []
    for _ in range(7):
        ratios.append(ensemble(torch.float32)[0] / plain_loops(torch.float32)[0])
    print(f"losses after {STEPS} steps differ by at most {difference:.1e} (relative, float64)")
    listed = ", ".join(f"{ratio:.3f}" for ratio in ratios)
    print(f"{threads} thread(s): stacked / plain = {statistics.median(ratios):.3f} ({listed})")


if __name__ == "__main__":
    main()
