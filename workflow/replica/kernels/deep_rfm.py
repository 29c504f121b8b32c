"""Deep Recursive Feature Machines, samples as rows.

    X_l      <- rows of unit length
    w_l       = (k(X_l, X_l) + γI)⁻¹ Y
    M_l       = AGOP of f_l(x) = Σ_p w_lp k(x, x_lp) at the training points
    X_{l+1}   = Φ_l(X_l M_l^{1/2})

(Beaglehole et al. 2024, Algorithm 1.)
"""

from collections.abc import Callable
from functools import partial
from typing import cast

import pandas as pd
import torch
from torch import Tensor

from replica.data.splits import standardised
from replica.kernels.agop import gradient_outer_products, square_root
from replica.kernels.functions import slices
from replica.kernels.random_features import random_features
from replica.kernels.ridge import solve
from replica.kinds.kernels import DeepRfmSpec
from replica.measures.moments import ClassMoments
from replica.progress import progress
from replica.provenance import stream_seed
from replica.theory.rfm import collapsed_objective
from replica.training.checkpoint import Checkpoint
from replica.training.jobs import Job, Result
from replica.training.precision import dtype_of

HISTORY = ["run", "seed", "step", "metric", "value"]
# Layers whose Gram matrices are drawn (Figs. 1, 5 and 6).
DRAWN = (1, 3, 7, 13, 19)


class NoFeature(RuntimeError):
    """A sample has no active feature, and so no direction."""


def train_deep_rfm(spec: DeepRfmSpec, job: Job) -> Result:
    """Deep RFM on the first training samples of a data set, a seed after the other.

    Returns:
        States of layer l = 1..depth at the places base (X_l), right (X_l M_l^{1/2}) and full
        (X_{l+1}, before it is normalised): `<l>/<place>/means` (S, K, d) and
        `<l>/<place>/within_trace` (S,), `gram/<l>` of the first seed and `labels` of its samples,
        `seed` (S,). The history (columns `HISTORY`, `step` is the layer) has what was added to the
        diagonal (ridge), the squared error and accuracy on the training points, and with `mu` the
        objective of Theorem 5.4 and its bound.
    """
    torch.set_num_threads(job.threads)
    data = standardised(job.data(), spec.images)
    x = data.inputs.flatten(1).to(job.device, dtype_of(spec.precision))
    labels = data.labels.to(job.device)
    members = []
    for seed in job.seeds:

        def generator(layer: int, seed: int = seed) -> torch.Generator:
            stream = stream_seed(job.study, job.run, seed, "features", layer)
            return torch.Generator().manual_seed(stream)

        name = f"{job.study} {job.run} seed {seed}"
        point = job.checkpoint.member(seed)
        members.append(deep_rfm(x, labels, data.K, spec, generator, point, name))
    states, rows = {"seed": torch.tensor(job.seeds), "labels": members[0].pop("labels")}, []
    for key in list(members[0]):
        if key.startswith("gram/"):
            states[key] = members[0][key]
        elif key.startswith("history/"):
            _, layer, metric = key.split("/")
            rows += [(job.run, seed, int(layer), metric, member[key].item())
                     for seed, member in zip(job.seeds, members, strict=True)]  # fmt: skip
        else:
            states[key] = torch.stack([member[key] for member in members])
    return Result(states, pd.DataFrame(rows, columns=HISTORY))


def deep_rfm(
    x: Tensor,
    labels: Tensor,
    K: int,
    spec: DeepRfmSpec,
    generator: Callable[[int], torch.Generator],
    checkpoint: Checkpoint,
    name: str = "Deep RFM",
) -> dict[str, Tensor]:
    """One Deep RFM; its results are those that `train_deep_rfm` describes, for one seed.

    Args:
        x: data (N, d), rows.
        labels: classes (N,).
        K: number of classes.
        spec: depth, kernel, features.
        generator: of the random features of a layer, on the CPU.
        checkpoint: the state after a layer is saved there.
        name: for the progress line.

    Raises:
        NoFeature: all features of a sample are zero.
        NotSolved: see `kernels.ridge`.
    """
    rows = drawn_rows(labels, K, spec.drawn)
    kept: dict[str, Tensor] = {"labels": labels[rows].cpu()}
    done = 0
    if (saved := checkpoint.load()) is not None:
        x, done = saved.pop("x").to(x), int(saved.pop("layer"))
        kept = saved
    with checkpoint.catching_sigterm(), progress(name, spec.depth, done) as tick:
        for layer in range(done + 1, spec.depth + 1):
            x = unit(x, layer)
            _observe(kept, layer, "base", x, labels, K)
            if layer == 1:
                kept["gram/1"] = gram(x, rows)
            if spec.mu is not None:
                value = collapse_objective(x, labels, K, spec)
                bound = collapsed_objective(torch.bincount(labels).cpu().numpy(), spec.mu)
                for metric, number in [("objective", value), ("bound", bound)]:
                    kept[f"history/{layer}/{metric}"] = torch.tensor(number, dtype=torch.float64)
            if spec.agop:
                M, facts = average_gradient_outer_product(x, labels, K, spec)
                kept |= {f"history/{layer}/{metric}": v for metric, v in facts.items()}
                x = x @ square_root(M)
            _observe(kept, layer, "right", x, labels, K)
            if layer + 1 in DRAWN:
                kept[f"gram/{layer + 1}"] = gram(x, rows)
            x = random_features(
                spec.activation, x, spec.width, spec.feature_scale, generator(layer)
            )
            _observe(kept, layer, "full", x, labels, K)
            tick(layer, lambda: f"{spec.activation} features")
            if checkpoint.due() and (checkpoint.stopping or layer < spec.depth):
                state = kept | {"x": x, "layer": torch.tensor(layer)}
                checkpoint.save(partial(dict, state))
    return kept


def average_gradient_outer_product(
    x: Tensor, labels: Tensor, K: int, spec: DeepRfmSpec
) -> tuple[Tensor, dict[str, Tensor]]:
    """M_l (d, d) of the kernel machine that interpolates the classes, and facts about its fit.

    Between targets of 1 and -1 it is fitted to points x (N, d) of unit length; what it predicts
    there is Y - γ w.
    """
    targets = torch.nn.functional.one_hot(labels, K).to(x) * 2 - 1
    solution = solve(x, targets, spec.kernel, spec.bandwidth, spec.ridge)
    error = solution.ridge * solution.weights.double()
    right = (targets - error).argmax(1) == labels
    facts = {
        "ridge": torch.tensor(solution.ridge, dtype=torch.float64),
        "train_mse": error.square().mean().cpu(),
        "train_accuracy": right.double().mean().cpu(),
    }
    M = gradient_outer_products(
        x, solution.weights, spec.kernel, spec.bandwidth, solution.kernel_matrix
    )
    scales: dict[str, Tensor | int] = {"mean": len(x), "sum": 1, "max": M.max()}
    return M / scales[spec.agop_norm], facts


def collapse_objective(x: Tensor, labels: Tensor, K: int, spec: DeepRfmSpec) -> float:
    """Σ_c Y_cᵀ (k + μI)⁻¹ k Y_c with labels 0 and 1 (Theorem 5.4), k the kernel of points x."""
    Y = torch.nn.functional.one_hot(labels, K).to(x)
    mu = cast(float, spec.mu)
    w = solve(x, Y, spec.kernel, spec.bandwidth, mu).weights
    return (Y * (Y - mu * w)).sum(dtype=torch.float64).item()


def unit(x: Tensor, layer: int) -> Tensor:
    """Rows divided by their Euclidean norms.

    Raises:
        NoFeature: a row is zero.
    """
    norms = x.norm(dim=1, keepdim=True)
    if lost := int((norms == 0).sum()):
        raise NoFeature(
            f"At layer {layer} all features of {lost} of {len(x)} samples are zero; increase width."
        )
    return x / norms


def drawn_rows(labels: Tensor, K: int, per_class: int) -> Tensor:
    """Rows of the first `per_class` samples of each class, in the order of the classes."""
    each = [torch.nonzero(labels == c).flatten()[:per_class] for c in range(K)]
    return torch.cat(each)


def gram(x: Tensor, rows: Tensor) -> Tensor:
    """Inner products (m, m) of some samples, the mean of all subtracted, of length 1 (Fig. 1)."""
    centred = (x[rows] - x.mean(0, dtype=torch.float64)).double()
    centred = centred / centred.norm(dim=1, keepdim=True)
    return (centred @ centred.T).float().cpu()


def _observe(
    kept: dict[str, Tensor], layer: int, place: str, x: Tensor, labels: Tensor, K: int
) -> None:
    moments = ClassMoments.empty(K, x.shape[1], device=x.device)
    for rows in slices(len(x), 8192):
        moments.add(x[rows], labels[rows])
    kept[f"{layer}/{place}/means"] = moments.means.T.cpu().contiguous()
    kept[f"{layer}/{place}/within_trace"] = moments.within_trace.cpu()
