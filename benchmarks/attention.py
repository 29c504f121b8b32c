"""Characters a second of a decoder against a plain loop, and seconds of a probing.

The plain loop is in the style of nanoGPT: modules of torch, `torch.optim.AdamW`, windows stacked
from a text. It has the same layers (RMSNorm, learned positions, no biases) and the same settings.

Usage: python benchmarks/attention.py [threads [seeds [large|small]]]
"""

import statistics
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import nn
from torch.nn import functional as F

from replica.attention.measures import language_model
from replica.attention.probes import probe
from replica.attention.tasks import Corpus, Task, batch_of, windows
from replica.attention.training import loss
from replica.models import decoder
from replica.specs import Probes, Rates, validate_run
from replica.training import ensemble

THREADS, SEEDS, SIZE = [*sys.argv[1:], *["2", "3", "large"][len(sys.argv) - 1 :]]
THREADS, SEEDS = int(THREADS), int(SEEDS)
# The language model of the laptop scale, and one in which starting operations takes the time.
T, L, D, H, B, STEPS = {"large": (64, 4, 64, 4, 32, 25), "small": (32, 2, 32, 2, 8, 100)}[SIZE]
V, REPEATS = 103, 7
LR, DECAY = 1e-3, 0.1
TEXT = torch.randint(V, (400_000,), generator=torch.Generator().manual_seed(0))
CORPUS = Corpus("".join(map(chr, range(32, 32 + V))), TEXT[:360_000], TEXT[360_000:])


def spec_of(**changes):
    values = {
        "kind": "decoder", "task": {"kind": "text"}, "dataset": "topics", "context": T, "depth": L,
        "width": D, "heads": H, "mlp": 4, "positions": "learned", "lr": LR, "weight_decay": DECAY,
        "batch": B, "steps": STEPS, "every": STEPS, "gain": 0.5, "seeds": SEEDS,
    }  # fmt: skip
    return validate_run(values | changes, "benchmark")


def ours(seeds):
    """Seconds of STEPS steps of some members as a stack, with the drawing of their batches."""
    spec = spec_of()
    generators = [torch.Generator().manual_seed(seed) for seed in range(seeds)]
    params = decoder.initialise(spec, V + 1, V + 1, generators)

    def draw(seed, name, count):
        starts = torch.randint(len(CORPUS.train) - T, (count,), generator=generators[seed])
        return windows(CORPUS.train, starts, spec, CORPUS)

    task = Task(V + 1, V + 1, draw)
    members = tuple(range(seeds))

    def objective(p, step):
        return loss(p, spec, batch_of(task, members, f"step {step}", B))

    advance, _ = ensemble.adam(
        params, objective, lr=torch.full((seeds,), LR), weight_decay=DECAY, decayed=decoder.DECAYED
    )
    advance(1)
    began = time.perf_counter()
    for step in range(2, STEPS + 2):
        advance(step)
    return time.perf_counter() - began


def side_by_side():
    """Members a second of a stack on each core, as the workflow runs two jobs on two cores."""
    torch.set_num_threads(1)
    with ThreadPoolExecutor(THREADS) as pool:
        seconds = max(pool.map(ours, [SEEDS] * THREADS))
    torch.set_num_threads(THREADS)
    return THREADS * SEEDS / seconds


class Block(nn.Module):
    """Attention and MLP, each behind RMSNorm."""

    def __init__(self):
        super().__init__()
        self.norms = nn.ModuleList(nn.RMSNorm(D, eps=decoder.EPSILON) for _ in range(2))
        self.qkv, self.out = nn.Linear(D, 3 * D, bias=False), nn.Linear(D, D, bias=False)
        self.up, self.down = nn.Linear(D, 4 * D, bias=False), nn.Linear(4 * D, D, bias=False)

    def forward(self, x):
        q, k, v = self.qkv(self.norms[0](x)).split(D, dim=2)
        q, k, v = (y.view(len(x), -1, H, D // H).transpose(1, 2) for y in (q, k, v))
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(mixed.transpose(1, 2).contiguous().view(x.shape))
        return x + self.down(F.gelu(self.up(self.norms[1](x))))


class Plain(nn.Module):
    """The decoder as one would write it."""

    def __init__(self):
        super().__init__()
        self.token, self.position = nn.Embedding(V + 1, D), nn.Embedding(T, D)
        self.blocks = nn.ModuleList(Block() for _ in range(L))
        self.norm, self.head = nn.RMSNorm(D, eps=decoder.EPSILON), nn.Linear(D, V + 1, bias=False)

    def forward(self, tokens, targets):
        x = self.token(tokens) + self.position(torch.arange(tokens.shape[1]))
        for block in self.blocks:
            x = block(x)
        logits = self.head(self.norm(x))
        return F.cross_entropy(logits.view(-1, V + 1), targets.view(-1))


def plain():
    """Seconds of STEPS steps of one seed."""
    torch.manual_seed(0)
    model = Plain()
    matrices = [p for p in model.parameters() if p.dim() >= 2]
    others = [p for p in model.parameters() if p.dim() < 2]
    groups = [{"params": matrices, "weight_decay": DECAY}, {"params": others, "weight_decay": 0.0}]
    optimiser = torch.optim.AdamW(groups, lr=LR)

    def step():
        starts = torch.randint(len(CORPUS.train) - T, (B,))
        x = torch.stack([CORPUS.train[i : i + T] for i in starts])
        y = torch.stack([CORPUS.train[i + 1 : i + 1 + T] for i in starts])
        model(x, y).backward()
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)

    step()
    began = time.perf_counter()
    for _ in range(STEPS):
        step()
    return time.perf_counter() - began


def probing():
    """Seconds in which one core probes 100 sequences of length 64 on a model of six layers."""
    spec = spec_of(depth=6)
    params = decoder.initialise(spec, V + 1, V + 1, [torch.Generator().manual_seed(0)])
    model = language_model(params, spec, CORPUS, [0])
    wanted = Probes(rates=Rates(texts=100, lengths=[T]), layers=100)
    began = time.perf_counter()
    probe(model, wanted, T)
    # Rates are of three kinds of input; the layers are of one more pass.
    return time.perf_counter() - began


def main():
    """Print the ratios."""
    torch.set_num_threads(THREADS)
    ways = {
        "one seed": lambda: 1 / ours(1),
        f"{SEEDS} seeds as a stack": lambda: SEEDS / ours(SEEDS),
    }
    if THREADS > 1:
        ways[f"{THREADS} stacks of {SEEDS}, a core each"] = side_by_side
    found = {name: [] for name in ways}
    for _ in range(REPEATS):
        reference = 1 / plain()
        for name, way in ways.items():
            found[name].append((way(), reference))
    print(f"{L} layers, width {D}, context {T}, batch {B}, {THREADS} threads")
    for name, pairs in found.items():
        ratios = [rate / reference for rate, reference in pairs]
        rate = statistics.median(rate for rate, _ in pairs) * B * T * STEPS
        spread = f"{min(ratios):.2f} to {max(ratios):.2f}"
        print(f"{name}: {rate:,.0f} characters a second, "
              f"{statistics.median(ratios):.2f} ({spread}) times the plain loop")  # fmt: skip
    torch.set_num_threads(1)
    seconds = [probing() for _ in range(REPEATS)]
    middle = statistics.median(seconds)
    print(f"probing 100 sequences of length {T}, 6 layers, one thread: {middle:.2f} s, "
          f"{middle / 3:.2f} of the 3 s wanted")  # fmt: skip


main()
