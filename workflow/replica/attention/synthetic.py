"""Experiments without training: the cost of patterns on drawn tokens, and deep random networks."""

import itertools

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from replica.attention.head_probes import cost_of, likeness
from replica.kinds.attention import RandomAttentionSpec, SyntheticTokensSpec
from replica.models import attention
from replica.models.residual import layer_norm
from replica.provenance import stream_seed
from replica.theory import margins, sinks
from replica.training.jobs import Job, Result, table_result

PATTERNS = ("sink", "diagonal")
NETS = {
    "SAN": {},
    "SAN + skip": {"skip": True},
    "SAN + MLP": {"mlp": True},
    "full": {"skip": True, "mlp": True, "norm": True},
}
MASKS = ("complete", "causal", "window", "one-sided")
# Attention that does not depend on the tokens, and the mask that it fits.
FORCED = {
    "uniform": "complete",
    "causal uniform": "causal",
    "sink": "causal",
    "sink, value 0": "causal",
    "diagonal": "causal",
}
# Similarity is measured down to rounding errors.
DTYPE = torch.float64


def train_synthetic_tokens(spec: SyntheticTokensSpec, job: Job) -> Result:
    """Solve the programs of synthetic tokens; the states are the columns of the table.

    Rows of orthonormal and random tokens: a pattern of n tokens with a common direction of length
    m; costs are NaN where there is no W, `theory_frobenius` and `theory_nuclear` where there is no
    closed form (D7). Rows of sets: whether D2's condition says that a sink is possible, and whether
    a linear program does.
    """
    torch.set_num_threads(job.threads)
    if spec.tokens == "sets":
        rows = [_set(spec, job, seed, causal) for seed in job.seeds for causal in (True, False)]
    elif spec.tokens == "orthonormal":
        rows = _orthonormal(spec)
    else:
        rows = _random(spec, job)
    return table_result(pd.DataFrame(rows))


def _orthonormal(spec: SyntheticTokensSpec) -> list[dict]:
    rows = []
    for n, m, causal in itertools.product(spec.n, spec.m, (False, True)):
        if causal and m:
            # Only without a common direction is there a closed form of the causal cost.
            continue
        X = sinks.orthonormal_tokens(n, m)
        for pattern in PATTERNS:
            if causal:
                theory = sinks.causal_cost(n, 1.0), np.nan
            else:
                theory = (
                    sinks.sink_cost(n, m, 1.0) if pattern == "sink" else sinks.diagonal_cost(n, 1.0)
                )
            rows.append(
                {"n": n, "d": n + 1, "m": m, "seed": 0, "causal": causal, "pattern": pattern,
                 **cost_of(X, pattern, causal=causal), "theory_frobenius": theory[0],
                 "theory_nuclear": theory[1]}
            )  # fmt: skip
    return rows


def _random(spec: SyntheticTokensSpec, job: Job) -> list[dict]:
    rows = []
    for n, d, m, seed in itertools.product(spec.n, spec.d, spec.m, job.seeds):
        # The same directions for all m: only the length of the common one is different.
        generator = np.random.default_rng(stream_seed(job.study, job.run, seed, f"{n} {d}"))
        X = sinks.random_tokens(n, d, m, generator)
        for pattern in PATTERNS:
            rows.append(
                {"n": n, "d": d, "m": m, "seed": seed, "causal": True, "pattern": pattern,
                 **cost_of(X, pattern, causal=True), "theory_frobenius": np.nan,
                 "theory_nuclear": np.nan}
            )  # fmt: skip
    return rows


def _set(spec: SyntheticTokensSpec, job: Job, seed: int, causal: bool) -> dict:
    generator = np.random.default_rng(stream_seed(job.study, job.run, seed, "set"))
    n = int(generator.integers(3, max(spec.n) + 1))
    d = int(generator.integers(1, max(spec.d) + 1))
    shift = generator.uniform(0, max(spec.m))
    X = generator.standard_normal((n, d))
    X[:, 0] += shift
    queries = X[1:] if causal else X
    distance, _ = margins.min_norm_point(queries)
    return {
        "n": n, "d": d, "m": shift, "seed": seed, "causal": causal,
        "nu": distance / np.linalg.norm(queries, axis=1).mean(),
        "condition": sinks.sink_condition(X, causal=causal),
        "feasible": sinks.sink_feasible(X, causal=causal),
    }  # fmt: skip


# --------------------------------------------------------------------------------------
# Random networks


def train_random_attention(spec: RandomAttentionSpec, job: Job) -> Result:
    """Pass Gaussian tokens through random networks; the states are the columns of the table.

    A row is the likeness of the tokens after `layer` layers of a `net` with a `mask`, with the
    attention of its own queries and keys (`pattern` own) or a forced one.
    """
    torch.set_num_threads(job.threads)
    cases = [(net, mask, "own") for net in NETS for mask in MASKS]
    cases += [
        (net, mask, pattern) for net in ("SAN", "SAN + skip") for pattern, mask in FORCED.items()
    ]
    frames = [
        random_network(spec, job, seed, *case).assign(seed=seed)
        for case, seed in itertools.product(cases, job.seeds)
    ]
    return table_result(pd.concat(frames, ignore_index=True))


def random_network(
    spec: RandomAttentionSpec, job: Job, seed: int, net: str, mask: str, pattern: str
) -> pd.DataFrame:
    """One network: matrices N(0, 1/d), but N(0, 2/d) before the ReLU of the MLP."""
    n, d, parts = spec.tokens, spec.width, NETS[net]
    # The same matrices for all nets, masks and patterns of a seed.
    generator = torch.Generator().manual_seed(stream_seed(job.study, job.run, seed, "matrices"))
    x = torch.randn(n, d, generator=generator, dtype=DTYPE)
    seen = visible(mask, n, spec.window)
    rows = [likeness(x)]
    for _ in range(spec.depth):
        Q, K, V, up, down = torch.randn(5, d, d, generator=generator, dtype=DTYPE) / d**0.5
        read = layer_norm(x) if parts.get("norm") else x
        values = read @ V
        if pattern == "own":
            A = attention.softmax((read @ Q) @ (read @ K).mT / d**0.5, seen)
        else:
            A = forced(pattern, n)
        if pattern == "sink, value 0":
            values[0] = 0
        out = A @ values
        x = x + out if parts.get("skip") else out
        if parts.get("mlp"):
            read = layer_norm(x) if parts.get("norm") else x
            out = (read @ up * 2**0.5).relu() @ down
            x = x + out if parts.get("skip") else out
        rows.append(likeness(x))
    table = pd.DataFrame([{name: float(value) for name, value in row.items()} for row in rows])
    return table.assign(net=net, mask=mask, pattern=pattern, layer=range(spec.depth + 1))


def visible(mask: str, n: int, window: int) -> Tensor:
    """Which tokens see which, (n, n) bool: all, preceding, nearby, or nearby preceding ones."""
    i = torch.arange(n)
    ahead = i[:, None] - i
    return {
        "complete": torch.ones(n, n, dtype=torch.bool),
        "causal": ahead >= 0,
        "window": ahead.abs() <= window,
        "one-sided": (ahead >= 0) & (ahead <= window),
    }[mask]


def forced(pattern: str, n: int) -> Tensor:
    """Attention that does not depend on the tokens, (n, n)."""
    of = {"uniform": sinks.uniform, "causal uniform": sinks.causal_uniform, "diagonal": np.eye}
    return torch.from_numpy(of.get(pattern, sinks.pure_sink)(n))
