"""Measures of one trained network that have been proposed as predictors of generalization.

None of them is a bound here: bounds are empty at these sizes, and what is looked at is whether a
measure is larger where the gap is larger. All are of one network at its last state, in float64, and
of its loss without penalties, on samples as they are: without the noise, crops or attacks that it
may have been trained with. The gap is test minus train.

- margin: z_y - max of the other logits, over the training samples: quantiles, and the share of at
  most 0. `normalised_margin` is the 10 % quantile over the product of spectral norms, the
  normalisation of Bartlett, Foster and Telgarsky (2017, section 1) without the rest of it; below
  0 it says how small the product is rather than how large the margin.
- `log_spectral`, `log_frobenius`: Σ log of the norms of all weight matrices, and
  `log_complexity`, the log of the spectral complexity with reference 0 (Bartlett et al., eq. 1.2).
  The matrix of a convolution is its kernel as (out, in k²), whose norm is at least 1/k of that of
  the convolution with stride 1. With residual connections, attention or normalisation these are
  products of norms of matrices and no Lipschitz constants.
- `path_norm`: √ of the sum over all paths from an input or a bias to an output of the product of
  squared weights (Neyshabur, Tomioka and Srebro 2015, p = 2). Paths are those of ReLU networks;
  networks with attention or normalisation have none here.
- `sharpness`: largest eigenvalue of the Hessian of the training loss. It changes when weights are
  moved from one layer into another although the network does not (Dinh et al. 2017).
  `relative_sharpness` is it times |w|², for perturbations of a size relative to that of w.
- `perturbed_sharpness`: mean rise of the training loss when each parameter w becomes
  w (1 + σ N(0, 1)), the magnitude-aware perturbation of Jiang et al. (2020), here at one σ.

The last three look at `SUBSET` predictions, the same for all networks of as many samples.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from replica.provenance import stream_seed

Params = Mapping[str, Tensor]
Forward = Callable[[Params, Tensor], Tensor]

OUTCOMES = ("train_error", "test_error", "train_loss", "test_loss", "error_gap", "loss_gap")
QUANTILES = {"margin_q05": 0.05, "margin_q10": 0.1, "margin_q25": 0.25, "margin_q50": 0.5}
MEASURES = (
    *("parameters", *QUANTILES, "margins_below_0", "normalised_margin"),
    *("log_spectral", "log_frobenius", "log_complexity", "path_norm"),
    *("sharpness", "relative_sharpness", "perturbed_sharpness"),
)
# Predictions of the training set that the Hessian and the perturbations look at.
SUBSET = 250
# Numbers in the inputs of a batch: the graph of a second derivative holds a thousand times as many
# for a deep network. A token counts as the vector that it becomes.
BATCH, TOKEN = 50_000, 64
# Lanczos ends when the residual of the largest eigenvalue is below this share of it.
TOLERANCE = 0.01
LANCZOS_STEPS = 30
SIGMA, DRAWS = 0.1, 10


@dataclass(frozen=True)
class Trained:
    """One trained network and the samples that it is measured on; all but numbers are float64.

    Attributes:
        logits: parameters and inputs (N, ...) to logits (N, K), or (N, T, K) of T predictions of
            a sample.
        params: every trained parameter by name, none of them in a stack.
        matrices: weight matrices (out, in) and kernels (out, in, k, k), in order.
        train, test: inputs (N, ...) and labels (N,) or (N, T) int64.
        loss: what trained it: cross-entropy in nats, or half the squared error of one-hot labels.
        paths: the forward pass in which units of squared parameters sum what they receive, of a
            ReLU network; None where paths are not defined.
    """

    logits: Forward
    params: Params
    matrices: list[Tensor]
    train: tuple[Tensor, Tensor]
    test: tuple[Tensor, Tensor]
    loss: Literal["cross_entropy", "mse"]
    paths: Forward | None = None


def measure(network: Trained, *, curvature: bool = True) -> dict[str, float]:
    """All of `OUTCOMES` and `MEASURES`; what is undefined, or not finite, is left out.

    Args:
        network: what is measured.
        curvature: whether to compute the two measures that need products with the Hessian.
    """
    found: dict[str, Tensor | float] = {}
    for split in ("train", "test"):
        z, labels = outputs(network, *getattr(network, split))
        found[f"{split}_error"] = (z.argmax(-1) != labels).double().mean()
        found[f"{split}_loss"] = losses(z, labels, network.loss).mean()
        if split == "train":
            gamma = margins(z, labels)
    for what in ("error", "loss"):
        found[f"{what}_gap"] = found[f"test_{what}"] - found[f"train_{what}"]
    found["parameters"] = parameter_count(network)
    for name, q in QUANTILES.items():
        found[name] = gamma.quantile(q)
    found["margins_below_0"] = (gamma <= 0).double().mean()
    found |= (own := norms(network.matrices))
    found["normalised_margin"] = found["margin_q10"] / own["log_spectral"].exp()
    if network.paths is not None:
        found["path_norm"] = path_norm(network)
    subset = sharpness_samples(*network.train)
    if curvature:
        weights = flattened(network.params)
        top = largest_eigenvalue(hessian_product(network, *subset), weights.numel())
        found["sharpness"] = top
        found["relative_sharpness"] = top * weights.square().sum()
    found["perturbed_sharpness"] = perturbed_rise(network, *subset)
    values = {name: float(value) for name, value in found.items()}
    return {n: values[n] for n in (*OUTCOMES, *MEASURES)
            if n in values and abs(values[n]) < float("inf")}  # fmt: skip


def parameter_count(network: Trained) -> int:
    """The number of trained parameters."""
    return sum(w.numel() for w in network.params.values())


def outputs(network: Trained, inputs: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Logits (N', K) and labels (N',) of all predictions, T of each sample."""
    with torch.no_grad():
        z = torch.cat([network.logits(network.params, x) for x in batches(inputs)])
    return z.flatten(0, -2), labels.flatten()


def batches(values: Tensor) -> tuple[Tensor, ...]:
    """Cut samples (N, ...) so that each part has about `BATCH` numbers."""
    numbers = values[0].numel() * (1 if values.is_floating_point() else TOKEN)
    return values.split(max(1, BATCH // numbers))


def losses(z: Tensor, labels: Tensor, loss: str) -> Tensor:
    """The loss of each prediction (N,) from logits (N, K), see `Trained`."""
    if loss == "mse":
        return (z - F.one_hot(labels, z.shape[-1])).square().sum(-1) / 2
    return F.cross_entropy(z, labels, reduction="none")


def margins(z: Tensor, labels: Tensor) -> Tensor:
    """z_y - max_{k != y} z_k of logits (N, K), (N,)."""
    own = labels[:, None]
    others = z.scatter(1, own, -torch.inf).amax(1)
    return z.gather(1, own).squeeze(1) - others


# ======================================================================================
# Norms


def norms(matrices: list[Tensor]) -> dict[str, Tensor]:
    """`log_spectral`, `log_frobenius` and `log_complexity`, see the top of this module.

    log R = Σ log s_i + (3/2) log Σ (|W_iᵀ|_{2,1} / s_i)^{2/3}, with s_i the spectral norm of W_i
    and |W_iᵀ|_{2,1} the sum of the Euclidean norms of the rows of W_i. A matrix of zeros makes them
    infinite, or no number.
    """
    flat = [W.flatten(1) for W in matrices]
    spectral = torch.stack([torch.linalg.matrix_norm(W, 2) for W in flat])
    frobenius = torch.stack([torch.linalg.matrix_norm(W) for W in flat])
    rows = torch.stack([W.norm(dim=1).sum() for W in flat])
    product = spectral.log().sum()
    return {
        "log_spectral": product,
        "log_frobenius": frobenius.log().sum(),
        "log_complexity": product + 1.5 * (rows / spectral).pow(2 / 3).sum().log(),
    }


def path_norm(network: Trained) -> Tensor:
    """√ Σ over paths of Π w²: what all-ones inputs give with squared parameters.

    Raises:
        ValueError: paths are not defined for this network.
    """
    if network.paths is None:
        raise ValueError("The paths of this network are not defined.")
    squares = {name: w.square() for name, w in network.params.items()}
    return network.paths(squares, torch.ones_like(network.train[0][:1])).sum().sqrt()


# ======================================================================================
# Sharpness


def flattened(params: Params) -> Tensor:
    """All parameters as one vector."""
    return torch.cat([w.flatten() for w in params.values()])


def sharpness_samples(inputs: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Samples with about `SUBSET` predictions, a random choice that the number of samples fixes."""
    N = len(inputs)
    wanted = max(1, SUBSET * N // labels.numel())
    generator = torch.Generator().manual_seed(stream_seed("generalization", "subset", N))
    rows = torch.randperm(N, generator=generator)[:wanted]
    return inputs[rows], labels[rows]


def mean_loss(network: Trained, params: Params, inputs: Tensor, labels: Tensor) -> Tensor:
    """Mean loss over all predictions at some parameters."""
    z = network.logits(params, inputs)
    return losses(z.flatten(0, -2), labels.flatten(), network.loss).mean()


def hessian_product(network: Trained, inputs: Tensor, labels: Tensor) -> Callable[[Tensor], Tensor]:
    """v -> H v for the Hessian H of the mean loss over some samples, (P,) -> (P,)."""
    params, N = network.params, len(inputs)
    parts = list(zip(batches(inputs), labels.split(len(batches(inputs)[0])), strict=True))

    def product(v: Tensor) -> Tensor:
        total = torch.zeros_like(v)
        for x, y in parts:
            leaves = [w.detach().requires_grad_() for w in params.values()]
            # The fused kernels of attention have no second derivative.
            with sdpa_kernel(SDPBackend.MATH):
                at = dict(zip(params, leaves, strict=True))
                value = mean_loss(network, at, x, y) * len(x) / N
                slopes = torch.autograd.grad(
                    value, leaves, create_graph=True, materialize_grads=True
                )
                slope = flattened(dict(zip(params, slopes, strict=True)))
                if slope.requires_grad:
                    found = torch.autograd.grad(slope @ v, leaves, materialize_grads=True)
                    total += flattened(dict(zip(params, found, strict=True)))
        return total

    return product


def largest_eigenvalue(product: Callable[[Tensor], Tensor], size: int) -> float:
    """Largest eigenvalue of a symmetric matrix by Lanczos, orthogonalised in full.

    It ends at the residual `TOLERANCE`, of which the error is about the square, or after
    `LANCZOS_STEPS`; the value is never above the true one.

    Args:
        product: v -> H v, for vectors of norm 1.
        size: number of rows of H.
    """
    generator = torch.Generator().manual_seed(stream_seed("generalization", "lanczos"))
    v = torch.randn(size, generator=generator, dtype=torch.float64)
    basis, diagonal, beside = [v / v.norm()], list[Tensor](), list[Tensor]()
    for _ in range(min(LANCZOS_STEPS, size)):
        w = product(basis[-1])
        diagonal.append(basis[-1] @ w)
        for q in (*basis, *basis):
            # Twice: what rounding leaves after the first time grows.
            w = w - (q @ w) * q
        rest = w.norm()
        T = torch.diag(torch.stack(diagonal))
        if beside:
            T = T + torch.diag(torch.stack(beside), 1) + torch.diag(torch.stack(beside), -1)
        values, vectors = torch.linalg.eigh(T)
        top = values[-1]
        if rest * vectors[-1, -1].abs() <= TOLERANCE * top.abs():
            break
        basis.append(w / rest)
        beside.append(rest)
    return top.item()


@torch.no_grad()
def perturbed_rise(network: Trained, inputs: Tensor, labels: Tensor) -> float:
    """Mean over `DRAWS` of loss(w (1 + σ N(0, 1))) - loss(w), σ = `SIGMA`, on some samples."""
    generator = torch.Generator().manual_seed(stream_seed("generalization", "perturbation"))
    z, y = outputs(network, inputs, labels)
    before, after = losses(z, y, network.loss).mean().item(), []
    for _ in range(DRAWS):
        moved = {
            name: w * (1 + SIGMA * torch.randn(w.shape, generator=generator, dtype=w.dtype))
            for name, w in network.params.items()
        }
        z, y = outputs(replace(network, params=moved), inputs, labels)
        after.append(losses(z, y, network.loss).mean().item())
    return sum(after) / DRAWS - before
