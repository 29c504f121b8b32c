"""Deep RFM, and networks with a deep head (study `agop`)."""

import math
from dataclasses import replace
from typing import Annotated, Literal

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from replica.costs import Cost, Work, on_gpu, several_on_a_gpu, small
from replica.kinds.base import CIFAR10, SAMPLES, Kind, Name, Strict, never
from replica.kinds.low_data import StagedBackbone

# Points of a kernel machine that are worth a GPU.
MANY_POINTS = 10_000
# A step of a head without a body: the share of the unit of work in which its layers are started,
# and the operations that take a whole one.
STARTED, OPERATIONS_PER_HEAD_STEP = 0.7, 2e8
# Of a training image in a body and back, as operations of wide convolutions; as measured.
OPERATIONS = {"resnet18": 5e8, "vgg11": 1e9}
# Layers of a Deep RFM whose Gram matrices are kept; about as many values leave a body.
KEPT_LAYERS, BODY_VALUES = (1, 3, 7, 13, 19), 512


class DeepRfmSpec(Strict):
    """Deep Recursive Feature Machine: kernel ridge regression, AGOP, random features, by layers.

    One AGOP step a layer; the targets are one class against the others, coded as 1 and -1.
    """

    kind: Literal["deep_rfm"]
    dataset: Name = Field(description="a key of config/datasets.yaml")
    images: PositiveInt = Field(description="the first training samples")
    kernel: Literal["laplace", "gaussian"]
    bandwidth: PositiveFloat = Field(description="L of exp(-|x-z|/L), exp(-|x-z|²/(2L²))")
    ridge: Annotated[float, Field(ge=0)] = Field(description="γ of the kernel ridge regression")
    agop: bool = Field(default=True, description="false: random features alone, M = I")
    agop_norm: Literal["mean", "sum", "max"] = Field(
        default="mean",
        description="M over N, as in the definition; its sum, as in Algorithm 1; or divided by "
        "its largest entry, as in the official code",
    )
    activation: Literal["relu", "cos"] = Field(description="of the random features")
    width: PositiveInt = Field(description="number of random features")
    feature_scale: PositiveFloat | None = Field(
        default=None, description="scale of the Cauchy frequencies of cos features"
    )
    depth: PositiveInt
    drawn: PositiveInt = Field(description="samples a class in pictures of Gram matrices")
    mu: PositiveFloat | None = Field(
        default=None, description="also record the objective of Theorem 5.4 with this μ"
    )
    seeds: PositiveInt
    precision: Literal["float32", "float64"] = "float32"

    @model_validator(mode="after")
    def _cos_has_a_scale(self) -> "DeepRfmSpec":
        if (self.activation == "cos") != (self.feature_scale is not None):
            raise ValueError("cos features need feature_scale, relu features take none")
        return self


class ConvBody(Strict):
    """3x3 convolutions with ReLU, 2x2 max pooling after the first ones, pooled to 2x2 pixels."""

    kind: Literal["conv"]
    channels: Annotated[list[PositiveInt], Field(min_length=1)]


class TorchvisionBody(Strict):
    """ResNet18 or the convolutions of VGG11, with a first layer without bias for small images."""

    kind: Literal["torchvision"]
    name: Literal["resnet18", "vgg11"]


class ObservedNetworkSpec(Strict):
    """Fully connected layers without bias, with ReLU, behind a body; squared loss on 1 and -1."""

    kind: Literal["observed_network"]
    dataset: Name = Field(description="a key of config/datasets.yaml")
    images: PositiveInt = Field(description="the first training samples")
    body: (
        Annotated[StagedBackbone | ConvBody | TorchvisionBody, Field(discriminator="kind")] | None
    ) = Field(default=None, description="layers before the head; none by default")
    layers: Annotated[int, Field(ge=2)] = Field(description="layers of the head")
    width: PositiveInt = Field(description="of each of them")
    batch_norm: bool = Field(
        default=False,
        description="biases and batch normalisation before each ReLU, as in the notebook of the "
        "official code",
    )
    gain: PositiveFloat | None = Field(
        default=None,
        description="of Xavier's uniform start of the head's layers; behind a body the first of "
        "them, and where absent all, start as torch starts them",
    )
    lr: PositiveFloat
    momentum: Annotated[float, Field(ge=0, lt=1)]
    momentum_restarts: bool = Field(
        default=False, description="momentum begins anew in each epoch, as in the official code"
    )
    weight_decay: Annotated[float, Field(ge=0)] = Field(
        default=0.0, description="of all parameters"
    )
    warm_up: bool = Field(
        default=False, description="the rate rises linearly within the first epoch"
    )
    batch: PositiveInt
    epochs: PositiveInt = Field(description="the last measured epoch; the first is 0")
    every: PositiveInt = Field(description="epochs between two measurements")
    seeds: PositiveInt

    @model_validator(mode="after")
    def _ends_with_a_measurement(self) -> "ObservedNetworkSpec":
        if self.epochs % self.every:
            raise ValueError(f"epochs = {self.epochs} is not a multiple of every = {self.every}")
        return self


def _deep_rfm_cost(spec: DeepRfmSpec, seeds: int) -> Cost:
    """A kernel matrix and a copy of it in use; the products of each layer."""
    N, own = spec.images, SAMPLES.get(spec.dataset, CIFAR10).values
    bytes_each = 4 if spec.precision == "float32" else 8
    memory = (3 * N**2 + 6 * N * max(spec.width, own)) * bytes_each // 2**20
    # The first layer reads the data, the others features.
    layers = [own, *(spec.depth - 1) * [spec.width]]
    operations = seeds * sum(2 * N**3 + 4 * N**2 * d + 20 * d**3 for d in layers)
    on_cores = small(Work(f"kernel in {spec.precision}", operations), memory)
    if not _is_large_rfm(spec):
        return on_cores
    # The matrix lies there, not here.
    whole = on_gpu(Work("kernel on a GPU", operations), 16_000, slots=4, group="alone")
    return replace(whole, on_cores=on_cores)


def _observed_network_cost(spec: ObservedNetworkSpec, seeds: int) -> Cost:
    passes = seeds * (spec.epochs + 1) * spec.images
    if isinstance(spec.body, TorchvisionBody):
        on_cores = small(Work("convolution", passes * OPERATIONS[spec.body.name]), more_mb=1500)
    elif spec.body is not None:
        on_cores = small(Work("body step", passes / spec.batch))
    else:
        on_cores = _mlp_cost(spec, seeds, passes / spec.batch)
    if not _is_large_head(spec):
        return on_cores
    if spec.body is None:
        # The steps of a network of narrow layers take what their start takes.
        work = Work("head step on a GPU", passes / spec.batch)
        return replace(several_on_a_gpu(work), on_cores=on_cores)
    return replace(several_on_a_gpu(Work("image on a GPU", passes)), on_cores=on_cores)


def _mlp_cost(spec: ObservedNetworkSpec, seeds: int, steps: float) -> Cost:
    values, w, L = SAMPLES.get(spec.dataset, CIFAR10).values, spec.width, spec.layers
    operations = 6 * spec.batch * w * (values + (L - 1) * w)
    # A measurement: the gradients of ten outputs in each layer, and their outer products.
    measured = seeds * (spec.epochs // spec.every + 2) * spec.images
    looks = measured * 10 * 2 * (2 * L - 1) * w**2 / OPERATIONS_PER_HEAD_STEP
    work = Work("head step", steps * (STARTED + operations / OPERATIONS_PER_HEAD_STEP) + looks)
    # The states, and the snapshots that they are stacked of: with 838 MiB of states a job used
    # 2,830 MiB.
    memory = 3 * 4 * spec.images * (values + w) + 2 * _observed_network_states(spec, seeds)
    return small(work, more_mb=math.ceil(memory / 2**20))


def _deep_rfm_states(spec: DeepRfmSpec, seeds: int) -> float:
    """Class means at three places of each layer in float64, and Gram matrices of one seed."""
    K = SAMPLES.get(spec.dataset, CIFAR10).classes
    means = 8 * seeds * 3 * spec.depth * K * spec.width
    kept = sum(layer <= spec.depth for layer in KEPT_LAYERS)
    return means + kept * 4 * (spec.drawn * K) ** 2


def _observed_network_states(spec: ObservedNetworkSpec, seeds: int) -> float:
    """Two matrices of each layer in float32 at each measured epoch, and class means in float64."""
    measured, data = spec.epochs // spec.every + 2, SAMPLES.get(spec.dataset, CIFAR10)
    first = data.values if spec.body is None else BODY_VALUES
    means = 8 * data.classes * (2 * spec.layers * spec.width + first)
    return seeds * measured * (4 * 2 * spec.layers * spec.width**2 + means)


def _is_large_rfm(spec: DeepRfmSpec) -> bool:
    return spec.images > MANY_POINTS


def _is_large_head(spec: ObservedNetworkSpec) -> bool:
    return isinstance(spec.body, TorchvisionBody) or spec.images > MANY_POINTS


KINDS = {
    "deep_rfm": Kind(
        spec=DeepRfmSpec,
        train="replica.kernels.deep_rfm:train_deep_rfm",
        measure="replica.kernels.metrics:measure_deep_rfm",
        cost=_deep_rfm_cost,
        states=_deep_rfm_states,
        keeps_networks=never,
        is_large=_is_large_rfm,
        arrays=True,
    ),
    "observed_network": Kind(
        spec=ObservedNetworkSpec,
        train="replica.kernels.observed_networks:train_observed_network",
        measure="replica.kernels.metrics:measure_observed_network",
        cost=_observed_network_cost,
        states=_observed_network_states,
        keeps_networks=never,
        is_large=_is_large_head,
        arrays=True,
    ),
}
