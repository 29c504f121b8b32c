"""Characters a second of a decoder against a plain loop, and seconds of a probing.

The plain loop is in the style of nanoGPT: modules of torch, `torch.optim.AdamW`, windows stacked
from a text. It has the same layers (RMSNorm, learned positions, no biases) and the same settings.

Usage: python benchmarks/attention.py [threads]
"""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import bench
import torch
from torch import nn
from torch.nn import functional as F

from replica import costs, kinds
from replica.attention.head_probes import probe
from replica.attention.measures import language_model
from replica.attention.tasks import Corpus, Task, batch_of, windows
from replica.attention.training import loss
from replica.kinds.attention import Probes, Rates
from replica.models import decoder
from replica.settings.validation import validate_run
from replica.training import ensemble

SEEDS, V, TURNS, LR, DECAY = 3, 103, 3, 1e-3, 0.1


@dataclass(frozen=True)
class Size:
    """Context, layers, width, heads, sequences a batch, timed steps."""

    T: int
    L: int
    D: int
    H: int
    B: int
    steps: int


# The language model of the laptop scale, or on a GPU of the paper scale's size, and one in which
# starting operations takes the time.
SIZES = {
    "cpu": [Size(64, 4, 64, 4, 32, 15), Size(32, 2, 32, 2, 8, 60)],
    "cuda": [Size(256, 6, 384, 6, 64, 50), Size(32, 2, 32, 2, 8, 200)],
}
PROBED = Size(64, 6, 64, 4, 32, 1)
TEXT = torch.randint(V, (400_000,), generator=torch.Generator().manual_seed(0))
CORPUS = Corpus("".join(map(chr, range(32, 32 + V))), TEXT[:360_000], TEXT[360_000:])


def spec_of(size):
    values = {
        "kind": "decoder", "task": {"kind": "text"}, "dataset": "topics", "context": size.T,
        "depth": size.L, "width": size.D, "heads": size.H, "mlp": 4, "positions": "learned",
        "lr": LR, "weight_decay": DECAY, "batch": size.B, "steps": size.steps,
        "every": size.steps, "gain": 0.5, "seeds": SEEDS,
    }  # fmt: skip
    return validate_run(values, "benchmark")


def ours(size, seeds, device):
    """Seconds of the steps of some members as a stack, with the drawing of their batches."""
    spec = spec_of(size)
    generators = [torch.Generator().manual_seed(seed) for seed in range(seeds)]
    params = decoder.initialise(spec, V + 1, V + 1, generators)
    params = {name: value.to(device) for name, value in params.items()}

    def draw(seed, name, count):
        starts = torch.randint(len(CORPUS.train) - size.T, (count,), generator=generators[seed])
        return windows(CORPUS.train, starts, spec, CORPUS)

    task, members = Task(V + 1, V + 1, draw), tuple(range(seeds))

    def objective(p, step):
        return loss(p, spec, batch_of(task, members, f"step {step}", size.B).to(device))

    advance, _ = ensemble.adam(
        params, objective, lr=torch.full((seeds,), LR), weight_decay=DECAY, decayed=decoder.DECAYED
    )
    advance(1)
    began = bench.clock(device)
    for step in range(2, size.steps + 2):
        advance(step)
    return bench.clock(device) - began


def side_by_side(size, cores):
    """Seconds of a stack on each core, as the workflow runs a job on each core."""
    with bench.on_threads(1), ThreadPoolExecutor(cores) as pool:
        return max(pool.map(lambda _: ours(size, SEEDS, bench.CPU), range(cores)))


class Block(nn.Module):
    """Attention and MLP, each behind RMSNorm."""

    def __init__(self, size):
        super().__init__()
        D, self.heads = size.D, size.H
        self.norms = nn.ModuleList(nn.RMSNorm(D, eps=decoder.EPSILON) for _ in range(2))
        self.qkv, self.out = nn.Linear(D, 3 * D, bias=False), nn.Linear(D, D, bias=False)
        self.up, self.down = nn.Linear(D, 4 * D, bias=False), nn.Linear(4 * D, D, bias=False)

    def forward(self, x):
        parts = self.qkv(self.norms[0](x)).chunk(3, dim=2)
        q, k, v = (y.unflatten(2, (self.heads, -1)).transpose(1, 2) for y in parts)
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(mixed.transpose(1, 2).contiguous().view(x.shape))
        return x + self.down(F.gelu(self.up(self.norms[1](x))))


class Plain(nn.Module):
    """The decoder as one would write it."""

    def __init__(self, size):
        super().__init__()
        D = size.D
        self.token, self.position = nn.Embedding(V + 1, D), nn.Embedding(size.T, D)
        self.blocks = nn.ModuleList(Block(size) for _ in range(size.L))
        self.norm, self.head = nn.RMSNorm(D, eps=decoder.EPSILON), nn.Linear(D, V + 1, bias=False)

    def forward(self, tokens, targets):
        places = torch.arange(tokens.shape[1], device=tokens.device)
        x = self.token(tokens) + self.position(places)
        for block in self.blocks:
            x = block(x)
        logits = self.head(self.norm(x))
        return F.cross_entropy(logits.view(-1, V + 1), targets.view(-1))


def plain(size, device):
    """Seconds of the steps of one seed."""
    torch.manual_seed(0)
    model, T = Plain(size).to(device), size.T
    matrices = [p for p in model.parameters() if p.dim() >= 2]
    others = [p for p in model.parameters() if p.dim() < 2]
    groups = [{"params": matrices, "weight_decay": DECAY}, {"params": others, "weight_decay": 0.0}]
    optimiser = torch.optim.AdamW(groups, lr=LR)

    def step():
        starts = torch.randint(len(CORPUS.train) - T, (size.B,))
        x = torch.stack([CORPUS.train[i : i + T] for i in starts]).to(device)
        y = torch.stack([CORPUS.train[i + 1 : i + 1 + T] for i in starts]).to(device)
        model(x, y).backward()
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)

    step()
    began = bench.clock(device)
    for _ in range(size.steps):
        step()
    return bench.clock(device) - began


def probing():
    """Seconds in which one core probes 100 sequences of length 64 on a model of six layers."""
    spec = spec_of(PROBED)
    params = decoder.initialise(spec, V + 1, V + 1, [torch.Generator().manual_seed(0)])
    model = language_model(params, spec, CORPUS, [0])
    wanted = Probes(rates=Rates(texts=100, lengths=[PROBED.T]), layers=100)
    with bench.on_threads(1):
        # Rates are of three kinds of input; the layers are of one more pass.
        return bench.seconds_of(lambda: probe(model, wanted, PROBED.T), bench.CPU)


def rows(device, threads):
    """Characters a second of each way to train, and how many times as fast as the plain loop."""
    found = []
    for size in SIZES[device.type]:
        name = f"{size.L} layers, width {size.D}, context {size.T}, batch {size.B}"
        ways = {
            "one seed": (1, lambda size=size: ours(size, 1, device)),
            f"{SEEDS} seeds": (SEEDS, lambda size=size: ours(size, SEEDS, device)),
        }
        if device.type == "cpu" and threads > 1:
            each_core = (threads * SEEDS, lambda size=size: side_by_side(size, threads))
            ways[f"{threads} stacks of {SEEDS} seeds, a core each"] = each_core
        ratios = {way: [] for way in ways}
        fastest = dict.fromkeys(ways, 0.0)
        for _ in range(TURNS):
            reference = plain(size, device)
            for way, (members, run) in ways.items():
                rate = members / run()
                ratios[way].append(rate * reference)
                fastest[way] = max(fastest[way], rate * size.B * size.T * size.steps)
        for way in ways:
            case = f"{name}: {way}"
            found.append(bench.row(case, "characters per second", fastest[way], "1/s"))
            found.append(bench.speed(case, "the plain loop", ratios[way]))
    found.append(
        bench.row("probing 100 sequences, 6 layers, one core", "time", probing(), "s",
                  device=bench.CPU)
    )  # fmt: skip
    return [*found, rate_of_a_stack(SIZES[device.type][0], device)]


def rate_of_a_stack(size, device):
    """The time of a token through a layer, on a GPU or on one core."""
    amount = kinds.training_cost(spec_of(size), SEEDS).work.amount
    kind = "token on a GPU" if device.type == "cuda" else "token"
    with bench.on_threads(1):
        return bench.unit_of_work(costs.Work(kind, amount), ours(size, SEEDS, device))


if __name__ == "__main__":
    bench.alone(__file__)
