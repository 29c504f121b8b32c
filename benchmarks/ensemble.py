"""Ten seeds of the unconstrained features model as one stack against ten plain loops.

Usage: python benchmarks/ensemble.py [threads]
"""

import functools

import bench
import torch

from replica.models import dufm

K, L, N_PER_CLASS = 10, 4, 50
WIDTH, SEEDS = {"cpu": 30, "cuda": 128}, {"cpu": 10, "cuda": 40}
LAMBDA, LR, STEPS, TURNS = 0.004, 0.05, 100, 7


def start(seeds, dtype, device):
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    params = dufm.initialise(
        K=K,
        L=L,
        n=N_PER_CLASS,
        width=WIDTH[device.type],
        h_std=1.0,
        w_gain=1.0,
        generators=generators,
        dtype=dtype,
    )
    return {name: value.to(device) for name, value in params.items()}


def losses(params):
    lam = torch.full((len(params["H1"]),), LAMBDA, dtype=torch.float64, device=params["H1"].device)
    return sum(dufm.fit_and_penalty(params, lam, lam))


def stack(dtype, device):
    """Seconds of all seeds at once, and their losses at the end."""
    seeds = SEEDS[device.type]
    params = start(range(seeds), dtype, device)
    lam, lr = (torch.full((seeds,), x, dtype=torch.float64) for x in (LAMBDA, LR))
    step = dufm.gradient_descent(params, lam, lam, lr)
    began = bench.clock(device)
    for _ in range(STEPS):
        step()
    return bench.clock(device) - began, losses(params)


def plain_loops(dtype, device):
    """As one would write it: autograd, SGD with weight decay, one seed after another."""
    Y = torch.eye(K, dtype=dtype, device=device).repeat_interleave(N_PER_CLASS, 1)
    seconds, ends = 0.0, []
    for seed in range(SEEDS[device.type]):
        params = {k: v[0].clone().requires_grad_() for k, v in start([seed], dtype, device).items()}
        optimiser = torch.optim.SGD(params.values(), lr=LR, weight_decay=LAMBDA)
        began = bench.clock(device)
        for _ in range(STEPS):
            x = params["W1"] @ params["H1"]
            for l in range(2, L + 1):
                x = params[f"W{l}"] @ torch.relu(x)
            fit = (x - Y).square().sum() / (2 * K * N_PER_CLASS)
            optimiser.zero_grad()
            fit.backward()
            optimiser.step()
        seconds += bench.clock(device) - began
        ends.append(losses({k: v.detach()[None] for k, v in params.items()}))
    return seconds, torch.cat(ends)


def rows(device, threads):
    """Time of the stack, how many times as fast it is, and how far the losses are apart."""
    case = f"{SEEDS[device.type]} seeds, width {WIDTH[device.type]}, {STEPS} steps"
    ends, expected = (way(torch.float64, device)[1] for way in (stack, plain_loops))
    taken = functools.partial(stack, torch.float32, device)
    seconds = [(taken()[0], plain_loops(torch.float32, device)[0]) for _ in range(TURNS)]
    return [
        bench.row(case, "time of the stack", min(ours for ours, _ in seconds), "s"),
        bench.speed(case, "plain loops", [plain / ours for ours, plain in seconds]),
        bench.row(case, "largest difference", (ends / expected - 1).abs().max(), "1"),
    ]


if __name__ == "__main__":
    bench.alone(__file__)
