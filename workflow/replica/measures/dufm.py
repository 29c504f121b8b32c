"""Collapse metrics of a finished DUFM run, alone or behind a network, as one tidy table.

The states of S members come as tensors `<step>/<parameter>` of shape (S, ...) beside the members'
own numbers (`seed`, `lambda_w`, `lambda_h`, `lr`, `diverged_at`). Everything is in float64.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from replica.data.prepare import load
from replica.kinds.features import DufmSpec, NetworkHeadSpec
from replica.measures import collapse, spectra
from replica.measures.moments import stream_moments
from replica.models import dufm, headed_networks

MEASURE = [
    *["run", "seed", "K", "L", "n", "width", "lambda_w", "lambda_h", "lr", "steps", "diverged_at"],
    *["dataset", "step", "layer", "relu", "metric", "index", "index2", "value"],
]
# (layer, side of the ReLU, metric, values (S,) or (S, i) or (S, i, j))
Measured = tuple[int, str, str, Tensor]
# (layer, side) -> (class means (S, d, K), tr Σ_W (S,))
Moments = dict[tuple[int, str], tuple[Tensor, Tensor]]


def measure_dufm(
    spec: DufmSpec, states: dict[str, Tensor], *, run: str, threads: int, card: Path | None
) -> pd.DataFrame:
    """Collapse metrics of a DUFM run, per kept state, member, layer and side of the ReLU.

    Args:
        spec: the run.
        states: what `replica.training.dufm.train_dufm` kept.
        run: full name of the run.
        threads: CPU threads.
        card: unused; a DUFM has no data.

    Returns:
        Columns `MEASURE`. `layer` l stands for H_l (1..L), L+1 for the output; in `weight_norm`
        and `penalty_term` for the factor W_l, and 0 for H_1 as a factor. `relu` is pre, post or
        none. Undefined values, such as angles of a zero mean, have no row.
    """
    torch.set_num_threads(threads)
    shape = {"K": spec.K, "n": spec.n, "steps": spec.steps}
    table = _Table(states, run, spec, shape, dataset="")
    for step in table.steps:
        params = table.state(step)
        weights = [params[f"W{l}"] for l in range(1, spec.L + 1)]
        layers = dufm.forward(params)
        moments = _class_moments([h.unflatten(-1, (spec.K, spec.n)) for h in layers])
        values = _metrics(moments, weights, states, params["H1"].square().sum((1, 2)), spec.n)
        table.add(step, values, keep_matrices=spec.matrices)
    return table.frame()


def measure_network_head(
    spec: NetworkHeadSpec, states: dict[str, Tensor], *, run: str, threads: int, card: Path
) -> pd.DataFrame:
    """The same metrics on the layers of the head of a network, over its training samples.

    A ResNet is put into evaluation mode, and its class moments are streamed in one pass.
    """
    torch.set_num_threads(threads)
    samples = headed_networks.training_samples(load(card), spec.classes, spec.per_class)
    shape = {"K": samples.K, "n": samples.n, "steps": _last_step(states)}
    table = _Table(states, run, spec, shape, dataset=spec.dataset)
    for step in table.steps:
        params = table.state(step)
        measure = _mlp_moments if spec.backbone.kind == "mlp" else _resnet_moments
        moments, weights, h_norm = measure(spec, params, samples)
        values = _metrics(moments, weights, states, h_norm, samples.n)
        table.add(step, values, keep_matrices=spec.matrices)
    return table.frame()


def _mlp_moments(
    spec: NetworkHeadSpec, params: dict[str, Tensor], samples: headed_networks.Samples
) -> tuple[Moments, list[Tensor], Tensor]:
    layers = headed_networks.forward_mlp(params, samples.inputs.double())
    by_class = [
        h[..., : samples.K * samples.n].unflatten(-1, (samples.K, samples.n)) for h in layers
    ]
    weights = [params[f"W{l}"] for l in range(1, spec.L + 1)]
    return _class_moments(by_class), weights, layers[0].square().sum((1, 2))


def _resnet_moments(
    spec: NetworkHeadSpec, params: dict[str, Tensor], samples: headed_networks.Samples
) -> tuple[Moments, list[Tensor], Tensor]:
    channels = samples.inputs.shape[1]
    model = headed_networks.resnet20_with_head(spec, samples.K, 0, channels).double()
    # One seed a job: the stack has one member.
    model.load_state_dict({name: value[0] for name, value in params.items()})
    model.eval()
    names = {"backbone": False, **{f"head.layers.{l}": l < spec.L - 1 for l in range(spec.L)}}
    pairs = zip(samples.inputs.split(500), samples.labels.split(500), strict=True)
    batches = ((x.double(), y) for x, y in pairs)
    found = stream_moments(model, names, batches, samples.K)
    position = {name: l for l, name in enumerate(names, start=1)}
    moments = {
        (position[name], side): (m.means[None], m.within_trace[None])
        for (name, side), m in found.items()
    }
    features = found["backbone", "pre"]
    # Σ|x|² = Σ|x - μ_k|² + Σ N_k|μ_k|².
    h_norm = features.sums_of_squares.sum() + (features.counts * features.means.square()).sum()
    return moments, [W.detach()[None] for W in model.head.weights], h_norm[None]


def _class_moments(features: list[Tensor]) -> Moments:
    """From features [H_1, ..., H_{L+1}], each (S, d, K, n), before the ReLU."""
    moments: Moments = {}
    for l, h in enumerate(features, start=1):
        sides = {"pre": h}
        if 2 <= l < len(features):
            sides["post"] = torch.relu(h)
        for side, values in sides.items():
            means = values.mean(-1)
            within = (values - means[..., None]).square().sum(-3).mean((-2, -1))
            moments[l, side] = (means, within)
    return moments


def _metrics(
    moments: Moments, weights: list[Tensor], states: dict[str, Tensor], h_norm: Tensor, n: int
) -> Iterator[Measured]:
    """All metrics of one state; `h_norm` is |H_1|_F² (S,)."""
    L = len(weights)
    for l, norm in enumerate([h_norm, *(W.square().sum((1, 2)) for W in weights)]):
        yield l, "none", "weight_norm", norm
        yield l, "none", "penalty_term", norm * states["lambda_w" if l else "lambda_h"].double()
    for (l, side), (means, within) in moments.items():
        if l == L + 1:
            yield l, "none", "diag_output", means.diagonal(0, -2, -1).mean(-1)
            continue
        s = spectra.singular_values(means)
        if n > 1:
            yield l, side, "nc1_ratio", collapse.nc1_ratio(within, means)
        yield l, side, "cond", collapse.condition_number(means)
        yield l, side, "nc2_mse", collapse.nc2_mse(means.mT @ means)
        yield l, side, "rank_rel", spectra.rank_rel(s).double()
        yield l, side, "rank_abs", spectra.rank_abs(s).double()
        yield l, side, "erank", spectra.effective_rank(s)
        yield l, side, "stable_rank", spectra.stable_rank(s)
        yield l, side, "singular_value", s
        yield l, side, "class_mean", means
        if side == "post" or l == 1:
            yield l, side, "wsine", collapse.weighted_sine(weights[l - 1], means)


def _last_step(states: dict[str, Tensor]) -> int:
    return max(int(name.partition("/")[0]) for name in states if "/" in name)


class _Table:
    """Collects metrics of the members that are alive as long rows."""

    def __init__(
        self,
        states: dict[str, Tensor],
        run: str,
        spec: DufmSpec | NetworkHeadSpec,
        shape: dict[str, int],
        dataset: str,
    ) -> None:
        self.states = states
        self.common: dict[str, Any] = {
            "run": run,
            "L": spec.L,
            "width": spec.width,
            **shape,
            "dataset": dataset,
        }
        self.steps = sorted({int(name.partition("/")[0]) for name in states if "/" in name})
        # What rows of one metric share, and their members, index, index2 and values.
        self.rows: list[tuple[int, int, str, str]] = []
        self.numbers: list[list[np.ndarray]] = []

    def state(self, step: int) -> dict[str, Tensor]:
        """The parameters of a step in float64."""
        prefix = f"{step}/"
        named = ((k, v) for k, v in self.states.items() if k.startswith(prefix))
        return {k.removeprefix(prefix): v.double() for k, v in named}

    def add(self, step: int, values: Iterator[Measured], keep_matrices: bool) -> None:
        """Add the metrics of a step; spectra and matrices only at the last one."""
        diverged = self.states["diverged_at"]
        alive = ((diverged < 0) | (diverged > step)).numpy()
        for layer, side, metric, value in values:
            if value.dim() > 1 and step != self.steps[-1]:
                continue
            if value.dim() > 2 and not keep_matrices:
                continue
            index = np.indices(value.shape).reshape(value.dim(), -1)
            found = value.numpy().ravel()
            # Undefined values have no row; infinite ones (a condition number) stay.
            kept = alive[index[0]] & ~np.isnan(found)
            place = np.zeros((2, len(found)), dtype=np.int64)
            place[: value.dim() - 1] = index[1:]
            place[0] += metric == "singular_value"
            self.rows.append((step, layer, side, metric))
            self.numbers.append([column[kept] for column in (index[0], *place, found)])

    def frame(self) -> pd.DataFrame:
        """The table, with the columns `MEASURE`."""
        shared = pd.DataFrame(self.rows, columns=["step", "layer", "relu", "metric"])
        counts = [len(values) for *_, values in self.numbers]
        table = shared.loc[shared.index.repeat(counts)].reset_index(drop=True)
        for name, parts in zip(
            ("member", "index", "index2", "value"), zip(*self.numbers, strict=True), strict=True
        ):
            table[name] = np.concatenate(parts)
        for name in ("seed", "lambda_w", "lambda_h", "lr", "diverged_at"):
            table[name] = self.states[name].numpy()[table["member"]]
        return table.assign(**self.common)[MEASURE]
