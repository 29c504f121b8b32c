"""Five seeds of a residual network as one stack against one by one; and against plain torch.

Usage: python benchmarks/residual.py [threads [depth [seeds]]]
"""

import statistics
import sys
import time

import torch
from torch import nn
from torch.nn import functional as F

from replica.models import residual
from replica.residual.training import fit, penalty
from replica.specs import validate_run
from replica.training import ensemble

THREADS, DEPTH, SEEDS = (int(x) for x in [*sys.argv[1:], *["2", "8", "5"][len(sys.argv) - 1 :]])
D, K, BATCH, STEPS, REPEATS = 64, 10, 128, 100, 5
NETWORKS = {
    "L-RN1": {"kind": "resnet", "mlp": 1},
    "L-T11": {"kind": "patches", "attention": 1, "mlp": 1, "patch": 4},
}


def spec_of(network):
    values = {
        "kind": "residual", "dataset": "digits", "per_class": 50, "network": network,
        "depth": DEPTH, "width": D, "penalty": 0.005, "optimiser": "adam", "lr": 0.005,
        "schedule": "constant", "batch": BATCH, "epochs": 1, "gain": 1.0, "seeds": SEEDS,
    }  # fmt: skip
    return validate_run(values, "benchmark")


def batches(spec, positions):
    """Batches (STEPS, SEEDS, b, ...) that stack and members share."""
    generator = torch.Generator().manual_seed(0)
    shape = (BATCH, D) if positions == 1 else (BATCH, positions, 16)
    inputs = torch.randn(STEPS, SEEDS, *shape, generator=generator)
    labels = torch.randint(K, (STEPS, SEEDS, BATCH), generator=generator)
    return inputs, labels


def stack(spec, positions, members, inputs, labels):
    """Seconds of training some members as a stack, and their objectives at the end."""
    generators = [torch.Generator().manual_seed(seed) for seed in members]
    dimensions = inputs.shape[-1]
    params = residual.initialise(spec, dimensions, positions, K, generators, torch.float32)
    ends = torch.full((len(members), BATCH), positions - 1)
    rows = torch.tensor(list(members))

    def objective(p, step):
        x, y = inputs[step - 1, rows], labels[step - 1, rows]
        return fit(p, spec, x, ends, y) + penalty(p, spec)

    lr = torch.full((len(members),), spec.lr)
    advance, _ = ensemble.adam(params, objective, lr=lr)
    began = time.perf_counter()
    for step in range(1, STEPS + 1):
        advance(step)
    return time.perf_counter() - began, objective(params, STEPS)


class PlainResNet(nn.Module):
    """L-RN1 as one would write it."""

    def __init__(self, inputs):
        super().__init__()
        self.embedding = nn.Linear(inputs, D)
        self.blocks = nn.ModuleList(nn.Linear(D, D) for _ in range(DEPTH - 1))
        self.head = nn.Linear(D, K, bias=False)

    def forward(self, x):
        x = F.layer_norm(self.embedding(x), (D,))
        for block in self.blocks:
            x = F.layer_norm(x + F.relu(block(x)), (D,))
        return self.head(x)


def plain(inputs, labels):
    """Seconds of training the seeds one by one with torch's module and Adam."""
    seconds = 0.0
    for seed in range(SEEDS):
        model = PlainResNet(inputs.shape[-1])
        biases = [p for n, p in model.named_parameters() if "bias" in n or "embedding" in n]
        weights = [block.weight for block in model.blocks] + [model.head.weight]
        groups = [{"params": weights, "weight_decay": 0.005}, {"params": biases}]
        optimiser = torch.optim.Adam(groups, lr=0.005)
        began = time.perf_counter()
        for step in range(STEPS):
            optimiser.zero_grad()
            F.cross_entropy(model(inputs[step, seed]), labels[step, seed]).backward()
            optimiser.step()
        seconds += time.perf_counter() - began
    return seconds


torch.set_num_threads(THREADS)
print(f"{SEEDS} seeds, depth {DEPTH}, width {D}, batch {BATCH}, {THREADS} threads, {STEPS} steps")
for name, network in NETWORKS.items():
    positions = 1 if network["kind"] == "resnet" else 4
    spec = spec_of(network)
    data = batches(spec, positions)
    ratios, against_torch = [], []
    for _ in range(REPEATS):
        together, losses = stack(spec, positions, range(SEEDS), *data)
        parts = [stack(spec, positions, [seed], *data) for seed in range(SEEDS)]
        ratios.append(sum(seconds for seconds, _ in parts) / together)
        if positions == 1:
            against_torch.append(plain(*data) / together)
    apart = torch.cat([loss for _, loss in parts])
    difference = ((losses - apart) / apart).abs().max().item()
    spread = f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
    print(f"{name}: {1e3 * together / STEPS:.1f} ms a step of the stack; one by one takes "
          f"{spread} times as long; objectives differ by {difference:.0e}")  # fmt: skip
    if against_torch:
        print(f"{name}: torch's modules and Adam take {statistics.median(against_torch):.2f} times "
              f"as long as the stack")  # fmt: skip
