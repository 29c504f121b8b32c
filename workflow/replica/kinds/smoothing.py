"""Classifiers trained with noise, and their certification (study `idrs`)."""

import itertools
import math
from dataclasses import replace
from typing import Annotated, Literal

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from replica.costs import IMAGES, Cost, Work, on_gpu, several_on_a_gpu, small
from replica.kinds.base import CIFAR10, SAMPLES, Kind, Name, Precision, Strict, never, no_work


class MlpClassifier(Strict):
    """Fully connected layers with ReLU between them."""

    kind: Literal["mlp"]
    hidden: Annotated[list[PositiveInt], Field(min_length=1)]


class ConvClassifier(Strict):
    """3x3 convolutions with ReLU, each followed by 2x2 max pooling, and a linear layer."""

    kind: Literal["cnn"]
    channels: Annotated[list[PositiveInt], Field(min_length=1)]


class ResNetClassifier(Strict):
    """The ResNet for small images with 6n + 2 layers and 16, 32, 64 filters."""

    kind: Literal["resnet"]
    depth: Annotated[int, Field(ge=8)]

    @model_validator(mode="after")
    def _depth_is_6n_plus_2(self) -> "ResNetClassifier":
        if self.depth % 6 != 2:
            raise ValueError(f"depth = {self.depth} must be 6n + 2: 20, 32, 44, 56, 110")
        return self


class KnnNoise(Strict):
    """sigma(x) = sigma_b exp(rate (mean distance to the k nearest training images - m))."""

    rate: PositiveFloat = Field(description="semi-elasticity r of sigma(x)")
    k: PositiveInt = Field(default=20, description="neighbours")
    m: float = Field(description="distance at which sigma(x) is sigma_b")


class NoisyClassifierSpec(Strict):
    """A classifier trained with cross-entropy on images with Gaussian noise.

    The noise is added to pixels in [0, 1], before the normalisation (Cohen et al. 2019).
    """

    kind: Literal["noisy_classifier"]
    dataset: Name = Field(description="a key of config/datasets.yaml")
    pixel_max: PositiveFloat = Field(default=255, description="what divides pixels into [0, 1]")
    network: Annotated[
        MlpClassifier | ConvClassifier | ResNetClassifier, Field(discriminator="kind")
    ]
    mean: list[float] | None = Field(default=None, description="of the normalisation, by channel")
    std: list[PositiveFloat] | None = Field(default=None, description="likewise")
    sigma: Annotated[float, Field(ge=0)] = Field(description="training noise, and sigma_b of noise")
    noise: KnnNoise | None = Field(
        default=None, description="noise by image; sigma for all images by default"
    )
    lr: PositiveFloat
    momentum: Annotated[float, Field(ge=0, lt=1)]
    weight_decay: Annotated[float, Field(ge=0)]
    batch: PositiveInt
    epochs: PositiveInt = Field(description="the rate is divided by 10 after each third")
    padding: Annotated[int, Field(ge=0)] = Field(description="zero padding of random crops")
    flips: bool = Field(default=False, description="random horizontal flips")
    seeds: PositiveInt
    precision: Precision = "float32"

    @model_validator(mode="after")
    def _normalisation_is_whole(self) -> "NoisyClassifierSpec":
        if (self.mean is None) != (self.std is None):
            raise ValueError("give both of mean and std, or neither")
        return self


class Ascent(Strict):
    """Gradient ascent in sigma for each image (Alfarra et al. 2022)."""

    lr: PositiveFloat
    steps: PositiveInt
    samples: PositiveInt = Field(description="draws of noise a step")


class CertificationSpec(Strict):
    """Monte-Carlo certification of a trained classifier on a part of the test images.

    `constant` has sigma_b everywhere, `knn` the input-dependent sigma(x), `knn_mean` everywhere
    the mean of sigma(x) over the certified images, `ascent` starts at sigma_b and ascends.
    """

    kind: Literal["certification"]
    base: Name = Field(description="the run of kind noisy_classifier; it has a grid over sigma")
    train_sigma: Annotated[float, Field(ge=0)] | Literal["sigma_b"] = Field(
        default="sigma_b", description="which of the classifiers of `base`"
    )
    sigma_b: PositiveFloat
    noise: Literal["constant", "knn", "knn_mean", "ascent"]
    rate: Annotated[float, Field(ge=0)] = Field(default=0.0, description="r of knn, knn_mean")
    k: PositiveInt = Field(default=20, description="neighbours of knn and knn_mean")
    m: float = Field(default=5.0, description="distance at which sigma(x) is sigma_b")
    norm: Annotated[float, Field(ge=1)] = Field(
        default=2, description="p of the distance; below 2 the certificate's rate grows"
    )
    ascent: Ascent | None = None
    n0: PositiveInt = Field(default=100, description="draws that select the class")
    n: PositiveInt = Field(description="draws that bound its probability")
    alpha: float = Field(default=0.001, gt=0, lt=0.5, description="error probability of the bound")
    images: PositiveInt = Field(description="test images, evenly spaced")
    split: Literal["test", "grid"] = "test"
    slices: PositiveInt = Field(default=1, description="jobs that share the images")
    seeds: PositiveInt

    @model_validator(mode="after")
    def _is_possible(self) -> "CertificationSpec":
        if self.n0 > self.n:
            raise ValueError(f"n0 = {self.n0} is larger than n = {self.n}")
        if self.noise.startswith("knn") != (self.rate > 0):
            raise ValueError("knn and knn_mean need rate > 0, the other kinds of noise take none")
        if (self.noise == "ascent") != (self.ascent is not None):
            raise ValueError("ascent needs its settings, the other kinds of noise take none")
        if self.noise == "ascent" and self.slices > 1:
            raise ValueError(
                "ascent needs slices = 1: its memory depends on the order of the images"
            )
        if self.slices > self.images:
            raise ValueError(f"slices = {self.slices} is more than images = {self.images}")
        return self

    @property
    def base_run(self) -> str:
        """Full name of the run of the classifier."""
        sigma = self.sigma_b if self.train_sigma == "sigma_b" else self.train_sigma
        return f"{self.base}-sigma{sigma}"


# Memory of a job that holds the images of 32x32 pixels in single precision, and a batch, in MB.
PHOTOGRAPHS_MB = 1500
# Data sets of a few MB.
EMBEDDED = ("digits", "cone")
# Images of both splits, each without noise and with it.
MEASURED_IMAGES = 2 * (IMAGES + 10_000)


def _classifier_cost(spec: NoisyClassifierSpec, seeds: int) -> Cost:
    if not isinstance(spec.network, ResNetClassifier):
        return small(Work("noisy step", seeds * spec.epochs * 2000 / spec.batch), _images_mb(spec))
    images = seeds * spec.epochs * IMAGES
    on_cores = small(Work("residual image", images * spec.network.depth / 20), PHOTOGRAPHS_MB)
    if not _wants_gpu(spec):
        return on_cores
    return replace(several_on_a_gpu(Work("image on a GPU", images)), on_cores=on_cores)


def _certification_cost(spec: CertificationSpec, seeds: int, base: NoisyClassifierSpec) -> Cost:
    """The cost of certifying one slice of the images for `seeds` classifiers in one job."""
    draws = math.ceil(spec.images / spec.slices) * (spec.n + spec.n0)
    if not isinstance(base.network, ResNetClassifier):
        return small(Work("noisy pass", seeds * draws), _images_mb(base))
    depth = base.network.depth
    on_cores = small(Work("residual pass", seeds * draws * depth / 20), PHOTOGRAPHS_MB)
    if not _wants_gpu(base):
        return on_cores
    passes = Work("noisy pass on a GPU", draws * depth / 110)
    return replace(on_gpu(passes, 8000), on_cores=on_cores)


def _classifier_measuring(spec: NoisyClassifierSpec) -> Work:
    """Of one classifier, whose seeds are jobs of their own where it is large."""
    if not isinstance(spec.network, ResNetClassifier):
        return no_work(spec)
    return Work("residual pass", MEASURED_IMAGES * spec.network.depth / 20)


def _relative_size(spec: NoisyClassifierSpec) -> float:
    """At depth 20 a product with the Hessian takes 13 s, and of a ResNet18 113 s."""
    depth = spec.network.depth if isinstance(spec.network, ResNetClassifier) else 0
    return 0.1 * depth / 20


def _images_mb(spec: NoisyClassifierSpec) -> int:
    return 0 if spec.dataset in EMBEDDED else PHOTOGRAPHS_MB


def _wants_gpu(spec: NoisyClassifierSpec) -> bool:
    """Whether a GPU is asked for: mixed precision is for one."""
    return isinstance(spec.network, ResNetClassifier) and spec.precision == "mixed"


def _classifier_states(spec: NoisyClassifierSpec, seeds: int) -> float:
    """The weights of each seed, without what norms have."""
    network, data = spec.network, SAMPLES.get(spec.dataset, CIFAR10)
    if isinstance(network, MlpClassifier):
        sizes = [data.values, *network.hidden, data.classes]
        weights = sum((a + 1) * b for a, b in itertools.pairwise(sizes))
    elif isinstance(network, ConvClassifier):
        colours = 3 if data.values % 3 == 0 else 1
        weights = sum(9 * a * b for a, b in itertools.pairwise([colours, *network.channels]))
        pixels = data.values // colours // 4 ** len(network.channels)
        weights += pixels * network.channels[-1] * data.classes
    else:
        # 2n layers of 3x3 filters in each stage.
        weights = 2 * (network.depth - 2) // 6 * 9 * (16**2 + 32**2 + 64**2)
    return 4 * seeds * weights


def _certification_states(spec: CertificationSpec, seeds: int, base: NoisyClassifierSpec) -> float:
    """For one slice: two counts of each class, and four facts of each image; distances."""
    images = math.ceil(spec.images / spec.slices)
    counts = 2 * SAMPLES.get(base.dataset, CIFAR10).classes + 2
    distances = images if spec.ascent is not None else 0
    return 8 * images * (seeds * counts + 4 + distances)


def _is_large(spec: NoisyClassifierSpec) -> bool:
    return isinstance(spec.network, ResNetClassifier)


KINDS = {
    "noisy_classifier": Kind(
        spec=NoisyClassifierSpec,
        train="replica.smoothing.classifiers:train_noisy_classifier",
        measure="replica.smoothing.classifiers:measure_noisy_classifier",
        cost=_classifier_cost,
        states=_classifier_states,
        keeps_networks=lambda spec: True,
        is_large=_is_large,
        relative_size=_relative_size,
        measuring=_classifier_measuring,
    ),
    "certification": Kind(
        spec=CertificationSpec,
        train="replica.smoothing.certification:certify",
        measure="replica.smoothing.certification:measure_certification",
        cost=_certification_cost,
        states=_certification_states,
        keeps_networks=never,
        rule="certify",
        base="noisy_classifier",
    ),
}
