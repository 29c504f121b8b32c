"""The kinds of noise: which σ each image gets, and what the counts under it certify.

A further certificate is a row of `NOISES`, and a word in `CertificationSpec`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from replica.kinds.smoothing import Ascent, CertificationSpec
from replica.smoothing.ascent import ascended_sigma, with_memory
from replica.smoothing.certificates import follow_up_cap, input_dependent_radius
from replica.smoothing.variance import (
    certificate_rate,
    knn_mean_distance,
    semi_elasticity,
    sigma_knn,
)


@dataclass(frozen=True)
class Images:
    """What σ is computed from.

    Attributes:
        images: all that are certified, (I, ...), in [0, 1].
        train: gives the training images, (N, ...).
        models: the classifiers of S seeds.
        streams: a random stream for each of them.
    """

    images: Tensor
    train: Callable[[], Tensor]
    models: list[nn.Module]
    streams: list[int]


@dataclass(frozen=True)
class Counted:
    """What a certificate is computed from.

    Attributes:
        N: dimension of the images.
        states: what was kept of the job.
        prediction: (S, I).
        sigma, p_a: σ and the lower bound of the top class's probability, (S, I), float64.
        cohen: Cohen's radius for that σ, (S, I).
    """

    N: int
    states: dict[str, Tensor]
    prediction: NDArray
    sigma: NDArray
    p_a: NDArray
    cohen: NDArray


Facts = dict[str, Tensor]
Columns = dict[str, Any]


@dataclass(frozen=True)
class Noise:
    """One kind of noise.

    Attributes:
        sigma: σ of the images, (I,) or (S, I), and what else is kept of each image.
        certificate: the columns of the measures in which it differs from Cohen's certificate.
    """

    sigma: Callable[[CertificationSpec, Images], tuple[Tensor, Facts]]
    certificate: Callable[[CertificationSpec, Counted], Columns]


def _constant(spec: CertificationSpec, given: Images) -> tuple[Tensor, Facts]:
    """σ_b everywhere."""
    return torch.full((len(given.images),), spec.sigma_b, dtype=torch.float64), {}


def _knn(spec: CertificationSpec, given: Images) -> tuple[Tensor, Facts]:
    """σ(x) = σ_b exp(r (d(x) - m)), d the mean distance to the k nearest training images."""
    images = given.images
    distance = knn_mean_distance(images, given.train(), spec.k, norm=spec.norm)
    sigma = sigma_knn(spec.sigma_b, spec.rate, distance, spec.m)
    rate = certificate_rate(spec.rate, images[0].numel(), spec.norm)
    elasticity = semi_elasticity(images.cpu(), sigma, rate)
    return sigma, {"knn_distance": distance, "elasticity": elasticity}


def _mean_of_knn(spec: CertificationSpec, given: Images) -> tuple[Tensor, Facts]:
    """The mean of σ(x) over the certified images, everywhere, for a fair comparison."""
    sigma, facts = _knn(spec, given)
    return torch.full_like(sigma, sigma.mean().item()), facts


def _ascended(spec: CertificationSpec, given: Images) -> tuple[Tensor, Facts]:
    """σ by gradient ascent, separately for each classifier (Alfarra et al. 2022)."""
    sigma = [
        ascended_sigma(model, given.images, spec.sigma_b, cast(Ascent, spec.ascent), stream)
        for model, stream in zip(given.models, given.streams, strict=True)
    ]
    flat = given.images.cpu().flatten(1).double()
    return torch.stack(sigma), {"distance": torch.cdist(flat, flat)}


def _of_cohen(spec: CertificationSpec, counted: Counted) -> Columns:
    return {}


def _of_varying_noise(spec: CertificationSpec, counted: Counted) -> Columns:
    """The radius of input-dependent noise, at published dimensions also with the follow-up cap."""
    N, sigma, p_a = counted.N, counted.sigma, counted.p_a
    rate = certificate_rate(spec.rate, N, spec.norm)
    radius, side = input_dependent_radius(sigma, rate, N, p_a)
    columns = {"radius": radius, "side": side}
    if N in (64, 784, 3072):
        cap = follow_up_cap(N, p_a)
        columns["capped_radius"], _ = input_dependent_radius(sigma, rate, N, p_a, cap)
    return columns


def _of_memory(spec: CertificationSpec, counted: Counted) -> Columns:
    """What the memory leaves of Cohen's balls, which by themselves are not a certificate."""
    distance = counted.states["distance"].numpy()
    found = [
        with_memory(distance, prediction, radius)
        for prediction, radius in zip(counted.prediction, counted.cohen, strict=True)
    ]
    names = ("memory_prediction", "memory_radius", "overlaps")
    return dict(zip(names, map(np.stack, zip(*found, strict=True)), strict=True))


NOISES = {
    "constant": Noise(_constant, _of_cohen),
    "knn": Noise(_knn, _of_varying_noise),
    "knn_mean": Noise(_mean_of_knn, _of_cohen),
    "ascent": Noise(_ascended, _of_memory),
}
