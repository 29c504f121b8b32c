"""Unconstrained features models, alone and behind a network (studies `dufm` and `low_rank`)."""

import itertools
import math
from dataclasses import replace
from typing import Annotated, Literal

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from replica.costs import (
    BASE_MB,
    IMAGES,
    SECONDS_PER_UNIT,
    Cost,
    Work,
    asked,
    bundled,
    several_on_a_gpu,
    small,
)
from replica.kinds.base import BYTES, CIFAR10, SAMPLES, Kind, Name, Precision, Strict, never

Lambdas = PositiveFloat | Annotated[list[PositiveFloat], Field(min_length=1)]
# The time in which a step of a stack is started, in operations.
OPERATIONS_PER_STEP = {"stack in float32": 1.2e7, "stack in float64": 6e6}
# A state of more numbers leaves the cache of a core: to step through one takes so many operations.
CACHED, OPERATIONS_PER_NUMBER = 2**19, 100
# Of an image through ResNet20 and back, as operations of wide convolutions; as measured.
OPERATIONS_PER_IMAGE = 5e8
# Hours of one thread from which a stack has several.
ALONE_HOURS = 1

# With 3 colours, the linear layer behind the pooling, and means and variances of batch norm.
PARAMETERS_OF_RESNET20 = 276_000


class DufmSpec(Strict):
    """Gradient descent on the L-layer deep unconstrained features model.

    Objective (collapse metrics, section 1): (1/2N)|H_{L+1} - Y|^2 + sum_l (lambda_w/2)|W_l|^2
    + (lambda_h/2)|H_1|^2. All seeds, and all values of lambda, are trained as one stack.
    """

    kind: Literal["dufm"]
    K: Annotated[int, Field(ge=2)] = Field(description="number of classes")
    L: Annotated[int, Field(ge=2)] = Field(description="number of weight matrices")
    n: PositiveInt = Field(description="samples per class; within-class metrics need n >= 2")
    width: PositiveInt = Field(description="width d of H_1 and of every hidden layer")
    lambda_w: Lambdas | None = Field(
        default=None, description="penalty on every W_l; a list trains one member per value"
    )
    lambda_h: PositiveFloat | None = Field(
        default=None, description="penalty on H_1; defaults to lambda_w"
    )
    threshold_ratio: Annotated[list[PositiveFloat], Field(min_length=1)] | None = Field(
        default=None,
        description="instead of lambda_w: multiples of the collapse threshold of (K, L, n)",
    )
    lr: PositiveFloat = Field(description="step size of gradient descent")
    steps: PositiveInt = Field(description="full-batch steps")
    h_std: PositiveFloat = Field(description="standard deviation of H_1 at the start")
    w_gain: PositiveFloat = Field(description="W_l starts as N(0, w_gain^2 / width)")
    seeds: PositiveInt = Field(description="number of independent runs")
    precision: Literal["float32", "float64"] = "float32"
    snapshots: Annotated[int, Field(ge=2)] = Field(
        default=25, description="states kept along the run, spaced evenly in log(step)"
    )
    matrices: bool = Field(
        default=False, description="keep the class-mean matrices of the last state as a measure"
    )

    @model_validator(mode="after")
    def _one_penalty(self) -> "DufmSpec":
        if (self.lambda_w is None) == (self.threshold_ratio is None):
            raise ValueError("give exactly one of lambda_w and threshold_ratio")
        return self


class MlpBackbone(Strict):
    """Fully connected layers with ReLU between them, a linear output, and biases."""

    kind: Literal["mlp"]
    widths: Annotated[list[PositiveInt], Field(min_length=2)] = Field(
        description="input, hidden and output widths; the last one is the width of H_1"
    )
    gain: PositiveFloat = Field(description="weights start as N(0, gain^2 / inputs), biases as 0")


class ResNet20Backbone(Strict):
    """ResNet20 for 32x32 images with a linear 64 -> 64 layer after the pooling."""

    kind: Literal["resnet20"]


class NetworkHeadSpec(Strict):
    """A network whose features feed a DUFM head, trained jointly with DUFM-like penalties.

    Objective: the mean squared error of the DUFM, (lambda_w/2)|W_l|^2 on the head's matrices
    and (lambda_h/2)(N/b)|H_1|^2 on the features of a batch of b of the N samples.
    """

    kind: Literal["network_head"]
    dataset: Name = Field(description="a key of config/datasets.yaml")
    classes: Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=2)] | None = Field(
        default=None, description="labels to keep; all by default"
    )
    per_class: PositiveInt | None = Field(
        default=None, description="training samples per class (the first ones); all by default"
    )
    backbone: Annotated[MlpBackbone | ResNet20Backbone, Field(discriminator="kind")]
    L: Annotated[int, Field(ge=2)] = Field(description="matrices of the head")
    width: PositiveInt = Field(description="width of the head")
    lambda_w: PositiveFloat = Field(description="penalty on the head's matrices")
    lambda_h: PositiveFloat = Field(description="penalty on the features H_1, per sample")
    lambda_backbone: Annotated[float, Field(ge=0)] = Field(
        default=0.0, description="weight decay of the backbone"
    )
    lr: PositiveFloat
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.0
    batch: PositiveInt | Literal["full"] = Field(description="samples a step")
    epochs: PositiveInt = Field(description="passes over the data; steps where batch is full")
    head_gain: PositiveFloat = Field(description="head starts as N(0, head_gain^2 / width)")
    seeds: PositiveInt
    precision: Precision | Literal["float64"] = "float32"
    snapshots: Annotated[int, Field(ge=2)] = 12
    matrices: bool = False


def _members(spec: DufmSpec, seeds: int) -> int:
    members = seeds * len(spec.threshold_ratio or [1])
    return members * (len(spec.lambda_w) if isinstance(spec.lambda_w, list) else 1)


def _dufm_cost(spec: DufmSpec, seeds: int) -> Cost:
    members = _members(spec, seeds)
    columns = spec.K * spec.n
    weights = (spec.L - 1) * spec.width**2 + spec.K * spec.width
    state = members * (spec.width * columns + weights)
    activations = members * (spec.L + 1) * spec.width * columns
    return _stack_cost(spec, spec.steps, members * weights * columns, state, activations)


def _network_head_cost(spec: NetworkHeadSpec, seeds: int) -> Cost:
    classes = 10 if spec.classes is None else len(spec.classes)
    if not isinstance(spec.backbone, MlpBackbone):
        images = IMAGES * classes / 10 if spec.per_class is None else classes * spec.per_class
        passes = seeds * spec.epochs * images
        on_cores = small(Work("convolution", passes * OPERATIONS_PER_IMAGE), more_mb=1500)
        return replace(several_on_a_gpu(Work("image on a GPU", passes)), on_cores=on_cores)
    widths = spec.backbone.widths
    columns = 2000 if spec.per_class is None else classes * spec.per_class
    steps = spec.epochs
    if spec.batch != "full":
        steps *= math.ceil(columns / spec.batch)
        columns = min(columns, spec.batch)
    weights = sum(a * b for a, b in itertools.pairwise(widths)) + spec.L * spec.width**2
    activations = seeds * (len(widths) + spec.L) * max(widths) * columns
    return _stack_cost(spec, steps, seeds * weights * columns, seeds * weights, activations)


def _stack_cost(
    spec: DufmSpec | NetworkHeadSpec, steps: int, products: int, state: int, activations: int
) -> Cost:
    """The cost of a stack, from what a forward pass multiplies and the numbers that it holds."""
    kind = "stack in float64" if spec.precision == "float64" else "stack in float32"
    # Forward, and twice that backward; a product of (a, b) and (b, c) takes 2 a b c.
    crowded = OPERATIONS_PER_NUMBER * state if state > CACHED else 0
    operations = (6 * products + crowded + OPERATIONS_PER_STEP[kind]) * steps
    # Stacks side by side, each on a thread, do more than one on several.
    threads = 1 if operations * SECONDS_PER_UNIT[kind] < 3600 * ALONE_HOURS else 8
    # Eight threads are worth four.
    work = Work(kind, operations / (1 if threads == 1 else threads / 2))
    # The measures hold a state and its activations in float64, the run every snapshot.
    memory = BASE_MB + 8 * (state * (spec.snapshots + 6) + 3 * activations) // 2**20
    minutes = asked(work.seconds)
    return Cost(work, int(memory), minutes, threads, gpu_slots=0, group=bundled(minutes))


def _dufm_states(spec: DufmSpec, seeds: int) -> float:
    weights = (spec.L - 1) * spec.width**2 + spec.K * spec.width
    member = spec.width * spec.K * spec.n + weights
    return BYTES[spec.precision] * spec.snapshots * _members(spec, seeds) * member


def _network_head_states(spec: NetworkHeadSpec, seeds: int) -> float:
    if isinstance(spec.backbone, MlpBackbone):
        backbone = sum((a + 1) * b for a, b in itertools.pairwise(spec.backbone.widths))
    else:
        backbone = PARAMETERS_OF_RESNET20
    K = len(spec.classes or range(SAMPLES.get(spec.dataset, CIFAR10).classes))
    head = (spec.L - 1) * spec.width**2 + K * spec.width
    return BYTES[spec.precision] * spec.snapshots * seeds * (backbone + head)


def _is_large(spec: NetworkHeadSpec) -> bool:
    return not isinstance(spec.backbone, MlpBackbone)


KINDS = {
    "dufm": Kind(
        spec=DufmSpec,
        train="replica.training.dufm:train_dufm",
        measure="replica.measures.dufm:measure_dufm",
        cost=_dufm_cost,
        states=_dufm_states,
        keeps_networks=never,
    ),
    "network_head": Kind(
        spec=NetworkHeadSpec,
        train="replica.training.dufm:train_network_head",
        measure="replica.measures.dufm:measure_network_head",
        cost=_network_head_cost,
        states=_network_head_states,
        keeps_networks=lambda spec: True,
        is_large=_is_large,
    ),
}
