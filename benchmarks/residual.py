"""Five seeds of a residual network as one stack against one by one; and against plain torch.

And a step of a deep network on images of MNIST's size against its matrix products alone.

Usage: python benchmarks/residual.py [threads]
"""

import itertools

import bench
import torch
from torch import nn
from torch.nn import functional as F

from replica import kinds
from replica.models import residual
from replica.residual import by_hand
from replica.residual.training import fit, penalty, strengths
from replica.settings.validation import validate_run
from replica.training import ensemble

DEPTH, SEEDS, D, K, TURNS = 8, 5, 64, 10, 3
# Depth, seeds, dimensions and samples of a step as L-RN1 is trained on MNIST.
DEEP, STACK, PIXELS, SAMPLES = 34, 3, 784, 1000
BATCH, STEPS = {"cpu": 128, "cuda": 1024}, {"cpu": 30, "cuda": 100}
NETWORKS = {
    "L-RN1": {"kind": "resnet", "mlp": 1},
    "L-T11": {"kind": "patches", "attention": 1, "mlp": 1, "patch": 4},
}


def spec_of(network, device):
    """Of one epoch with so many samples that it has `STEPS` steps."""
    values = {
        "kind": "residual", "dataset": "digits", "network": network, "depth": DEPTH, "width": D,
        "per_class": BATCH[device.type] * STEPS[device.type] // K, "penalty": 0.005,
        "optimiser": "adam", "lr": 0.005, "schedule": "constant", "batch": BATCH[device.type],
        "epochs": 1, "gain": 1.0, "seeds": SEEDS,
    }  # fmt: skip
    return validate_run(values, "benchmark")


def batches(spec, positions, device):
    """Batches (steps, seeds, b, ...) that stack and members share."""
    generator = torch.Generator().manual_seed(0)
    shape = (spec.batch, D) if positions == 1 else (spec.batch, positions, 16)
    steps = STEPS[device.type]
    inputs = torch.randn(steps, SEEDS, *shape, generator=generator)
    labels = torch.randint(K, (steps, SEEDS, spec.batch), generator=generator)
    return inputs.to(device), labels.to(device)


def stack(spec, positions, members, inputs, labels):
    """Seconds of training some members as a stack, and their objectives at the end."""
    device = inputs.device
    generators = [torch.Generator().manual_seed(seed) for seed in members]
    dimensions = inputs.shape[-1]
    params = residual.initialise(spec, dimensions, positions, K, generators, torch.float32)
    params = {name: value.to(device) for name, value in params.items()}
    ends = torch.full((len(members), spec.batch), positions - 1, device=device)
    rows = torch.tensor(list(members), device=device)

    def batch(step):
        return inputs[step - 1, rows], ends, labels[step - 1, rows]

    objective = ensemble.ByHand(lambda p, step: by_hand.gradients(p, spec, *batch(step)))
    lr = torch.full((len(members),), spec.lr)
    advance, _ = ensemble.adam(params, objective, lr=lr, penalties=strengths(params, spec))
    began = bench.clock(device)
    for step in range(1, len(inputs) + 1):
        advance(step)
    seconds = bench.clock(device) - began
    return seconds, fit(params, spec, *batch(len(inputs))) + penalty(params, spec)


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
    seconds, device = 0.0, inputs.device
    for seed in range(SEEDS):
        model = PlainResNet(inputs.shape[-1]).to(device)
        biases = [p for n, p in model.named_parameters() if "bias" in n or "embedding" in n]
        weights = [block.weight for block in model.blocks] + [model.head.weight]
        groups = [{"params": weights, "weight_decay": 0.005}, {"params": biases}]
        optimiser = torch.optim.Adam(groups, lr=0.005)
        began = bench.clock(device)
        for x, y in zip(inputs[:, seed], labels[:, seed], strict=True):
            optimiser.zero_grad()
            F.cross_entropy(model(x), y).backward()
            optimiser.step()
        seconds += bench.clock(device) - began
    return seconds


def products(spec, inputs):
    """The matrix products of a step of L-RN1 alone, as a call; the arrays are there before."""
    S, d, l = len(inputs), spec.width, residual.blocks(spec)
    features = [torch.randn(S, spec.batch, d, device=inputs.device) for _ in range(l + 1)]
    out = torch.empty_like(features[0])
    table = torch.randn(S, inputs.shape[-1], d, device=inputs.device)
    W = torch.randn(S, d, d, device=inputs.device)
    slope, of_table = torch.empty_like(W), torch.empty_like(table)

    def work():
        torch.bmm(inputs, table, out=out)
        for x in features[:-1]:
            torch.bmm(x, W.mT, out=out)
        for x, g in itertools.pairwise(features):
            torch.bmm(g.mT, x, out=slope)
            torch.bmm(g, W, out=out)
        torch.bmm(inputs.mT, out, out=of_table)

    return work


def against_products(device):
    """A step of L-RN1 with many blocks and its products alone, on one thread."""
    spec = spec_of(NETWORKS["L-RN1"], device)
    spec = spec.model_copy(update={"depth": DEEP, "batch": SAMPLES, "seeds": STACK})
    generators = [torch.Generator().manual_seed(seed) for seed in range(STACK)]
    params = residual.initialise(spec, PIXELS, 1, K, generators, torch.float32)
    params = {name: value.to(device) for name, value in params.items()}
    inputs = torch.randn(STACK, SAMPLES, PIXELS, device=device)
    ends = torch.zeros(STACK, SAMPLES, dtype=torch.int64, device=device)
    labels = torch.randint(K, (STACK, SAMPLES), device=device)
    objective = ensemble.ByHand(lambda p, _: by_hand.gradients(p, spec, inputs, ends, labels))
    lr = torch.full((STACK,), spec.lr)
    advance, _ = ensemble.adam(params, objective, lr=lr, penalties=strengths(params, spec))
    alone, ratios = products(spec, inputs), []
    with bench.on_threads(1):
        for turn in range(TURNS + 1):
            step = bench.seconds_of(lambda turn=turn: advance(turn + 1), device)
            ratios.append(bench.seconds_of(alone, device) / step)
    # The first turn warms up.
    return bench.speed(f"L-RN1, {DEEP} blocks", "its matrix products alone", ratios[1:])


def rows(device, threads):
    """A step of each stack, and how many times as fast it is as its members one by one."""
    found = []
    for name, network in NETWORKS.items():
        case, positions = f"{name}, {SEEDS} seeds", 1 if network["kind"] == "resnet" else 4
        spec = spec_of(network, device)
        data = batches(spec, positions, device)
        ratios, against_torch, steps = [], [], []
        for _ in range(TURNS):
            together, losses = stack(spec, positions, range(SEEDS), *data)
            parts = [stack(spec, positions, [seed], *data) for seed in range(SEEDS)]
            steps.append(together / len(data[0]))
            ratios.append(sum(seconds for seconds, _ in parts) / together)
            if positions == 1:
                against_torch.append(plain(*data) / together)
        apart = torch.cat([loss for _, loss in parts])
        found += [
            bench.row(case, "time of a step", min(steps), "s"),
            bench.speed(case, "one by one", ratios),
            bench.row(case, "largest difference", ((losses - apart) / apart).abs().max(), "1"),
        ]
        if against_torch:
            found.append(bench.speed(case, "torch's modules and Adam", against_torch))
    # The last one, a transformer on patches, is what most of the time goes into.
    work = kinds.training_cost(spec, SEEDS).work
    with bench.on_threads(1):
        seconds, _ = stack(spec, positions, range(SEEDS), *data)
    return [*found, against_products(device), bench.unit_of_work(work, seconds)]


if __name__ == "__main__":
    bench.alone(__file__)
