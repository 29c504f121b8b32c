"""Classifiers trained on few labels, and the networks they are made of (study `fc_low_data`)."""

import itertools
from dataclasses import replace
from typing import Annotated, Any, Literal

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from replica.costs import Cost, Work, on_gpu, small
from replica.kinds.base import CIFAR10, SAMPLES, Kind, Name, Precision, Strict

# Multiplications of a forward pass: of ResNet18 for a colour image of 32x32 pixels, and of the
# networks of torchvision for one of 224x224.
RESNET18 = 5.55e8
AT_224 = {"resnet18": 1.81e9, "densenet121": 2.83e9, "efficientnet_b3": 0.96e9}
# Of the networks of torchvision, without their heads.
PARAMETERS = {"resnet18": 11.2e6, "densenet121": 7.0e6, "efficientnet_b3": 10.7e6}


class StagedBackbone(Strict):
    """CIFAR-style ResNet: 3x3 stem without pooling, stride 2 from the second stage on."""

    kind: Literal["staged_resnet"]
    widths: Annotated[list[PositiveInt], Field(min_length=1)]
    blocks: Annotated[list[PositiveInt], Field(min_length=1)] = Field(
        description="blocks of each stage; 2, 2, 2, 2 is ResNet18"
    )
    bottleneck: bool = Field(default=False, description="blocks of ResNet50, 4 times wider")

    @model_validator(mode="after")
    def _a_count_a_stage(self) -> "StagedBackbone":
        if len(self.widths) != len(self.blocks):
            raise ValueError(f"widths has {len(self.widths)} stages, blocks {len(self.blocks)}")
        return self


class DenseBackbone(Strict):
    """A small DenseNet for small images."""

    kind: Literal["dense"]
    growth: PositiveInt
    blocks: Annotated[list[PositiveInt], Field(min_length=1)]


class DepthwiseBackbone(Strict):
    """A small network of inverted residuals with depthwise convolutions."""

    kind: Literal["depthwise"]
    widths: Annotated[list[PositiveInt], Field(min_length=1)]


class MixerBackbone(Strict):
    """MLP-Mixer."""

    kind: Literal["mixer"]
    patch: PositiveInt
    width: PositiveInt
    depth: PositiveInt
    tokens: PositiveInt = Field(description="hidden width across patches")
    hidden: PositiveInt = Field(description="hidden width across channels")


class VitBackbone(Strict):
    """Vision transformer."""

    kind: Literal["vit"]
    patch: PositiveInt
    width: PositiveInt
    depth: PositiveInt
    heads: PositiveInt
    hidden: PositiveInt


class TorchvisionBackbone(Strict):
    """A network of torchvision with its layout for ImageNet."""

    kind: Literal["torchvision"]
    name: Literal["resnet18", "densenet121", "efficientnet_b3"]


class Refiner(Strict):
    """The Feature Refiner head."""

    width: PositiveInt = Field(description="d_fr")
    inner_layers: PositiveInt = 1
    drop: list[Literal["norm1", "linear1", "linear2", "norm2"]] = Field(
        default=[], description="what an ablation leaves out; linear1 goes with its ReLU"
    )


class Active(Strict):
    """Active learning: each stage labels the images that its network is asked about most."""

    query: Literal["random", "entropy", "core_set", "llal"]
    candidates: PositiveInt | None = Field(
        default=None, description="size of the random part of the pool that is scored"
    )
    continued: bool = Field(default=False, description="go on from the weights of the stage before")
    cut: Annotated[float, Field(gt=0, le=1)] = Field(
        default=0.6,
        description="fraction of the epochs after which LLAL's loss no longer reaches the backbone",
    )


class LowDataSpec(Strict):
    """Classifiers trained on few labels, a training for each number of labels and seed.

    With `refiner` the backbone is trained through the FR head, the original head behind the
    gradient gate. The labelled sets are nested and the same for all methods.
    """

    kind: Literal["low_data"]
    dataset: Name = Field(description="a key of config/datasets.yaml")
    pixel_max: PositiveFloat = Field(default=255, description="what divides pixels into [0, 1]")
    pooling: PositiveInt = Field(
        default=1, description="images are averaged over squares of so many pixels a side"
    )
    pairs: bool = Field(default=False, description="two images side by side, K² classes")
    classes: tuple[int, int] | None = Field(
        default=None, description="first and last label that is kept; all by default"
    )
    mean: list[float] | None = Field(default=None, description="of the normalisation, by channel")
    std: list[PositiveFloat] | None = Field(default=None, description="likewise")
    network: Annotated[
        StagedBackbone
        | DenseBackbone
        | DepthwiseBackbone
        | MixerBackbone
        | VitBackbone
        | TorchvisionBackbone,
        Field(discriminator="kind"),
    ]
    refiner: Refiner | None = Field(default=None, description="the FR head; absent: the baseline")
    gate: Annotated[float, Field(ge=0, le=1)] = Field(
        default=0.0, description="m: share of the original head's gradient behind the FR head"
    )
    method: Literal["joint", "distillation", "mutual", "collaborative", "fixmatch"] = Field(
        default="joint", description="joint: cross-entropy on each head; others compare (KD, DML, "
        "KDCL, FixMatch)"
    )  # fmt: skip
    peer: StagedBackbone | None = Field(
        default=None, description="teacher of distillation, peer of mutual and collaborative"
    )
    weights: Name | None = Field(
        default=None, description="data set of kind weights that the backbone starts from"
    )
    pretrained: Name | None = Field(
        default=None, description="run of this study whose backbone this one starts from"
    )
    keep_weights: bool = Field(default=False, description="keep the parameters of the networks")
    corrupted: Name | None = Field(
        default=None, description="data set of kind corrupted_cifar to measure accuracy on"
    )
    n: Annotated[list[PositiveInt], Field(min_length=1)] = Field(
        description="numbers of labelled images, increasing"
    )
    labelled_sets: Literal["shared", "by seed"] = Field(
        default="shared",
        description="shared: all seeds have the published labelled set, that of number 0; by seed: "
        "seed s has the set of number s",
    )
    active: Active | None = Field(
        default=None, description="a chain of jobs that choose the labels; random labels by default"
    )
    optimiser: Literal["sgd", "adamw"] = "sgd"
    lr: PositiveFloat
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.0
    weight_decay: Annotated[float, Field(ge=0)]
    batch: PositiveInt
    epochs: PositiveInt | None = Field(default=None, description="passes over the labelled images")
    steps: PositiveInt | None = Field(default=None, description="instead of epochs")
    milestone: Annotated[float, Field(gt=0, le=1)] = Field(
        default=0.8, description="fraction of the run after which the rate is divided by 10"
    )
    padding: Annotated[int, Field(ge=0)] = Field(description="zero padding of random crops")
    flips: bool = Field(default=False, description="random horizontal flips")
    seeds: PositiveInt
    precision: Precision = "float32"

    @model_validator(mode="after")
    def _is_possible(self) -> "LowDataSpec":
        if (self.mean is None) != (self.std is None):
            raise ValueError("give both of mean and std, or neither")
        if (self.epochs is None) == (self.steps is None):
            raise ValueError("give exactly one of epochs and steps")
        sizes = list(itertools.pairwise(self.n))
        for before, after in sizes:
            if after <= before:
                raise ValueError(f"n = {self.n}: {after} after {before} would label no image")
        if alone := [n for n in self.n if n % self.batch == 1]:
            raise ValueError(
                f"n = {alone[0]} in batches of {self.batch} leaves one image alone, and batch norm "
                "needs two"
            )
        if self.corrupted is not None and self.pooling > 1:
            raise ValueError("corrupted images are not averaged: give pooling or corrupted")
        if self.weights is not None and self.pretrained is not None:
            raise ValueError("give weights or pretrained, not both")
        needs_peer = self.method in ("distillation", "mutual", "collaborative")
        if needs_peer != (self.peer is not None):
            raise ValueError(
                "distillation, mutual and collaborative need a peer, other methods take none"
            )
        if self.method != "joint" and (self.refiner is not None or self.active is not None):
            raise ValueError(f"method = {self.method} has neither a refiner nor active learning")
        if self.active is not None:
            if self.labelled_sets == "by seed":
                raise ValueError("active learning begins with the shared labelled set")
            if self.active.query == "llal" and not self.network_has_stages:
                raise ValueError("llal needs a network with stages: staged_resnet or resnet18")
            for before, after in sizes:
                if self.active.candidates is not None and self.active.candidates < after - before:
                    raise ValueError(
                        f"candidates = {self.active.candidates}, but the stage after {before} "
                        f"labels {after - before}"
                    )
        return self

    @property
    def network_has_stages(self) -> bool:
        """Whether the network gives the feature maps of its stages."""
        staged = isinstance(self.network, StagedBackbone)
        return staged or getattr(self.network, "name", "") == "resnet18"


def _low_data_cost(spec: LowDataSpec, seeds: int) -> Cost:
    passes = sum(spec.steps * spec.batch if spec.steps else (spec.epochs or 0) * n for n in spec.n)
    if spec.method == "fixmatch":
        # With each labelled image ten others, weakly and strongly augmented.
        passes *= 21
    on_cores = None
    if isinstance(spec.network, StagedBackbone) and spec.dataset != "digits":
        flops = 6 * seeds * passes * products(spec.network, 32 // spec.pooling)
        # Narrow convolutions are slower by the operation.
        slower = max(64 / spec.network.widths[0], 1) ** 0.5
        on_cores = small(Work("convolution", flops * slower), more_mb=1500)
    if _is_large(spec):
        photographs = spec.dataset.startswith("caltech")
        side = 224 if photographs else 32 // spec.pooling
        # A step of fewer products takes what the starts of its kernels take.
        images = seeds * passes * max(1.0, products(spec.network, side) / RESNET18)
        cost = on_gpu(Work("image on a GPU", images), 24_000 if photographs else 8000)
        return replace(cost, on_cores=on_cores)
    if on_cores is not None:
        return on_cores
    # Images of natural scenes have 16 times the pixels of a digit.
    images = 1 if spec.dataset == "digits" else 16
    return small(Work("low-data step", seeds * passes / 20 * images * (1 + spec.pairs)))


def products(network: Any, side: int) -> float:
    """Multiplications of a forward pass of one colour image of so many pixels a side, about."""
    match network:
        case StagedBackbone():
            return _staged_products(network, side)
        case MixerBackbone():
            positions = (side / network.patch) ** 2
            across = network.tokens * positions * network.width
            return 2 * network.depth * (across + positions * network.width * network.hidden)
        case VitBackbone():
            # One position more for the class, and the products of attention.
            positions, width = (side / network.patch) ** 2 + 1, network.width
            each = 4 * width**2 + 2 * width * network.hidden + 2 * positions * width
            return network.depth * positions * each
        case TorchvisionBackbone():
            return AT_224[network.name] * (side / 224) ** 2
    # Small networks of small images: their steps are starts of kernels.
    return 0.0


def _staged_products(network: StagedBackbone, side: int) -> float:
    count, before = 9.0 * 3 * network.widths[0] * side**2, network.widths[0]
    for stage, (width, blocks) in enumerate(zip(network.widths, network.blocks, strict=True)):
        pixels = (side / 2**stage) ** 2
        # Two convolutions of 3x3 a block, and of 1x1 where the width changes; a bottleneck has
        # about as many.
        shortcut = before * width if before != width else 0
        inner = 9 * (before * width + (2 * blocks - 1) * width**2)
        count += pixels * (inner + shortcut)
        before = width
    return count


def _low_data_states(spec: LowDataSpec, seeds: int) -> float:
    """The logits of the test images and the labelled rows of each network, and its weights if kept.

    Classes that are left out take their share of the test images along.
    """
    data = SAMPLES.get(spec.dataset, CIFAR10)
    K, test = data.classes, float(data.test)
    if spec.pairs:
        K, test = K**2, 4 * test
    if spec.classes is not None:
        kept = spec.classes[1] - spec.classes[0] + 1
        K, test = kept, test * kept / K
    heads = 2 if spec.refiner is not None else 1
    weights = _parameters(spec.network) if _keeps_networks(spec) else 0
    each = 4 * (heads * test * K + weights)
    return 8 * test + seeds * sum(each + 8 * n for n in spec.n)


def _parameters(network: Any) -> float:
    """Parameters of a backbone, about: convolutions, without norms and heads."""
    if isinstance(network, StagedBackbone):
        return _staged(network)
    if isinstance(network, TorchvisionBackbone):
        return PARAMETERS[network.name]
    # The others are small, and kept by no run of the studies.
    return 1e5


def _staged(network: StagedBackbone) -> float:
    total, before, wider = 0.0, network.widths[0], 4 if network.bottleneck else 1
    for width, blocks in zip(network.widths, network.blocks, strict=True):
        for _ in range(blocks):
            after = wider * width
            if network.bottleneck:
                total += before * width + 9 * width**2 + width * after
            else:
                total += 9 * width * (before + width)
            # The projection of a shortcut.
            total += before * after if before != after else 0
            before = after
    return total


def _is_large(spec: LowDataSpec) -> bool:
    network = spec.network
    if isinstance(network, TorchvisionBackbone):
        return True
    if isinstance(network, MixerBackbone | VitBackbone):
        return network.width >= 256
    return max(getattr(network, "widths", [0])) >= 256


def _keeps_networks(spec: LowDataSpec) -> bool:
    return spec.keep_weights or (spec.active is not None and spec.active.continued)


# A stage of active learning is trained by a function of its own.
ROUND = "replica.lowdata.training:train_round"
KINDS = {
    "low_data": Kind(
        spec=LowDataSpec,
        train="replica.lowdata.training:train_low_data",
        measure="replica.lowdata.accuracy:measure_low_data",
        cost=_low_data_cost,
        states=_low_data_states,
        keeps_networks=_keeps_networks,
        is_large=_is_large,
        arrays=True,
    ),
}
