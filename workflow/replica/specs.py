"""Typed specifications: what a user may write in `config/`, and what each run is.

The pydantic models here are the single source of the configuration's schema; a mistake is
reported as one sentence that names the file, the key, what was given and what is allowed.
"""

import difflib
import functools
import itertools
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Union, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PositiveFloat,
    PositiveInt,
    ValidationError,
    model_validator,
)
from pydantic_core import ErrorDetails

from replica.configuration import ConfigError, Source, in_the_file, read_yaml
from replica.places import Folder, Place

Scale = Literal["smoke", "laptop", "paper"]
SCALES: tuple[str, ...] = get_args(Scale)
Origin = Literal[
    "published",
    "official code",
    "second-hand",
    "follow-up code",
    "derived",
    "reconstructed",
    "suggested",
]
Status = Literal["published", "scaled", "reconstructed"]
Lambdas = PositiveFloat | Annotated[list[PositiveFloat], Field(min_length=1)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_]*$")]


class Strict(BaseModel):
    """Unknown keys are errors, values never change after validation."""

    model_config = ConfigDict(extra="forbid", frozen=True)


# --------------------------------------------------------------------------------------
# Runs


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
        default=None, description="penalty on H_1; the same as lambda_w where absent"
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
        default=None, description="labels to keep; all of them where absent"
    )
    per_class: PositiveInt | None = Field(
        default=None, description="training samples per class (the first ones); all where absent"
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
    precision: Literal["float32", "float64", "mixed"] = "float32"
    snapshots: Annotated[int, Field(ge=2)] = 12
    matrices: bool = False


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
        default=None, description="noise by image; sigma for all of them where absent"
    )
    lr: PositiveFloat
    momentum: Annotated[float, Field(ge=0, lt=1)]
    weight_decay: Annotated[float, Field(ge=0)]
    batch: PositiveInt
    epochs: PositiveInt = Field(description="the rate is divided by 10 after each third")
    padding: Annotated[int, Field(ge=0)] = Field(description="zero padding of random crops")
    flips: bool = Field(default=False, description="random horizontal flips")
    seeds: PositiveInt
    precision: Literal["float32", "mixed"] = "float32"

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
            raise ValueError("knn and knn_mean need rate > 0, the other kinds of noise none")
        if (self.noise == "ascent") != (self.ascent is not None):
            raise ValueError("ascent needs its settings, the other kinds of noise none")
        if self.noise == "ascent" and self.slices > 1:
            raise ValueError("ascent needs slices = 1: its memory has an order")
        if self.slices > self.images:
            raise ValueError(f"slices = {self.slices} is more than images = {self.images}")
        return self

    @property
    def base_run(self) -> str:
        """Full name of the run of the classifier."""
        sigma = self.sigma_b if self.train_sigma == "sigma_b" else self.train_sigma
        return f"{self.base}-sigma{sigma}"


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
        default=0.6, description="share of the epochs after which LLAL's loss leaves the backbone"
    )


class LowDataSpec(Strict):
    """Classifiers trained on few labels, a training for each number of labels and seed.

    With `refiner` the backbone is trained through the FR head, the original head behind the
    gradient gate. The labelled sets are nested and the same for all seeds and methods.
    """

    kind: Literal["low_data"]
    dataset: Name = Field(description="a key of config/datasets.yaml")
    pixel_max: PositiveFloat = Field(default=255, description="what divides pixels into [0, 1]")
    pairs: bool = Field(default=False, description="two images side by side, K² classes")
    classes: tuple[int, int] | None = Field(
        default=None, description="first and last label that is kept; all of them where absent"
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
        description="numbers of labelled images, rising"
    )
    active: Active | None = Field(
        default=None, description="a chain of jobs that choose the labels; absent: random labels"
    )
    optimiser: Literal["sgd", "adamw"] = "sgd"
    lr: PositiveFloat
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.0
    weight_decay: Annotated[float, Field(ge=0)]
    batch: PositiveInt
    epochs: PositiveInt | None = Field(default=None, description="passes over the labelled images")
    steps: PositiveInt | None = Field(default=None, description="instead of epochs")
    milestone: Annotated[float, Field(gt=0, le=1)] = Field(
        default=0.8, description="share of the run after which the rate is divided by 10"
    )
    padding: Annotated[int, Field(ge=0)] = Field(description="zero padding of random crops")
    flips: bool = Field(default=False, description="random horizontal flips")
    seeds: PositiveInt
    precision: Literal["float32", "mixed"] = "float32"

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
        if self.weights is not None and self.pretrained is not None:
            raise ValueError("give weights or pretrained, not both")
        needs_peer = self.method in ("distillation", "mutual", "collaborative")
        if needs_peer != (self.peer is not None):
            raise ValueError("distillation, mutual and collaborative need a peer, others none")
        if self.method != "joint" and (self.refiner is not None or self.active is not None):
            raise ValueError(f"method = {self.method} has neither a refiner nor active learning")
        if self.active is not None:
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


# --------------------------------------------------------------------------------------
# Deep RFM, and networks with a deep head


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
            raise ValueError("cos features need feature_scale, relu features none")
        return self


class ConvBody(Strict):
    """3x3 convolutions with ReLU, 2x2 max pooling after the first ones, pooled to 2x2 pixels."""

    kind: Literal["conv"]
    channels: Annotated[list[PositiveInt], Field(min_length=1)]


class TorchvisionBody(Strict):
    """ResNet18 or the convolutions of VGG11, with a first layer without bias for small images."""

    kind: Literal["torchvision"]
    name: Literal["resnet18", "vgg11"]


class DeepHeadSpec(Strict):
    """Fully connected layers without bias, with ReLU, behind a body; squared loss on 1 and -1."""

    kind: Literal["deep_head"]
    dataset: Name = Field(description="a key of config/datasets.yaml")
    images: PositiveInt = Field(description="the first training samples")
    body: (
        Annotated[StagedBackbone | ConvBody | TorchvisionBody, Field(discriminator="kind")] | None
    ) = Field(default=None, description="what comes before the head; nothing where absent")
    layers: Annotated[int, Field(ge=2)] = Field(description="layers of the head")
    width: PositiveInt = Field(description="of each of them")
    gain: PositiveFloat = Field(
        description="of Xavier's uniform start of the head's layers; behind a body the first of "
        "them starts as torch starts it"
    )
    lr: PositiveFloat
    momentum: Annotated[float, Field(ge=0, lt=1)]
    momentum_restarts: bool = Field(
        default=False, description="momentum begins anew in each epoch, as in the official code"
    )
    batch: PositiveInt
    epochs: PositiveInt = Field(description="the last measured epoch; the first is 0")
    every: PositiveInt = Field(description="epochs between two measurements")
    seeds: PositiveInt

    @model_validator(mode="after")
    def _ends_with_a_measurement(self) -> "DeepHeadSpec":
        if self.epochs % self.every:
            raise ValueError(f"epochs = {self.epochs} is not a multiple of every = {self.every}")
        return self


# --------------------------------------------------------------------------------------
# Regularised residual networks


class ResidualNetwork(Strict):
    """Fully connected ResNet on flattened images: L-RN1 or L-RN2."""

    kind: Literal["resnet"]
    mlp: Literal[1, 2] = Field(description="matrices of a block")


class PatchTransformer(Strict):
    """Causal transformer with one head on the patches of an image, row by row; the last is read."""

    kind: Literal["patches"]
    attention: Literal[1, 2] = Field(description="1: W_QK and W_VO; 2: W_Q, W_K, W_V and W_O")
    mlp: Literal[1, 2] = Field(description="matrices of an MLP block")
    patch: PositiveInt = Field(description="pixels of a side")


class TokenTransformer(Strict):
    """Causal transformer with one head on words; the last one of a text is read."""

    kind: Literal["tokens"]
    attention: Literal[1, 2] = Field(description="1: W_QK and W_VO; 2: W_Q, W_K, W_V and W_O")
    mlp: Literal[1, 2] = Field(description="matrices of an MLP block")
    vocabulary: Annotated[int, Field(ge=3)] = Field(
        description="the most frequent words of the training text, one number for all others and "
        "one for places after the end"
    )
    context: PositiveInt = Field(description="words of a text that are read, its first ones")


class ResidualSpec(Strict):
    """Residual networks with LayerNorm, trained on loss + (λ/2)|weights|², seeds as one stack.

    Neither biases nor embeddings are regularised (Súkeník et al. 2025, eq. 7).
    """

    kind: Literal["residual"]
    dataset: Name = Field(description="a key of config/datasets.yaml")
    per_class: PositiveInt = Field(description="training samples of each class, the first ones")
    network: Annotated[
        ResidualNetwork | PatchTransformer | TokenTransformer, Field(discriminator="kind")
    ]
    norm: Literal["post", "pre"] = Field(
        default="post", description="LayerNorm after each block, or before it and before the head"
    )
    depth: Annotated[int, Field(ge=2)] = Field(description="number of blocks L")
    width: Annotated[int, Field(ge=3)] = Field(description="d of all hidden representations")
    loss: Literal["ce", "mse"] = Field(
        default="ce", description="cross-entropy, or half the squared error of one-hot labels"
    )
    penalty: PositiveFloat = Field(description="λ of all weights")
    over_depth: bool = Field(default=False, description="λ is divided by the depth")
    head_penalty: PositiveFloat | None = Field(
        default=None, description="λ of the last layer; that of the others where absent"
    )
    optimiser: Literal["adam", "sgd"] = Field(
        description="Adam on the gradient of loss and penalty together, or gradient descent"
    )
    momentum: Annotated[float, Field(ge=0, lt=1)] = Field(default=0.0, description="of sgd")
    lr: PositiveFloat
    schedule: Literal["constant", "cosine"] = Field(
        description="of the rate: cosine falls to zero at the end"
    )
    batch: PositiveInt | Literal["full"] = Field(description="samples a step")
    epochs: PositiveInt = Field(description="passes over the data; steps where batch is full")
    gain: PositiveFloat = Field(description="matrices start as N(0, gain²/inputs)")
    seeds: PositiveInt
    precision: Literal["float32", "float64"] = "float32"

    @model_validator(mode="after")
    def _fits(self) -> "ResidualSpec":
        if self.momentum and self.optimiser == "adam":
            raise ValueError("momentum belongs to sgd")
        if self.head_has_bias and self.loss == "mse":
            raise ValueError(
                "the head of a pre-LN transformer has a bias, for which mse has no lower bound here"
            )
        return self

    @property
    def head_has_bias(self) -> bool:
        """Only that of a pre-LN transformer has one (Def. B.2)."""
        return self.norm == "pre" and not isinstance(self.network, ResidualNetwork)

    @property
    def lambda_head(self) -> float:
        """λ of the last layer."""
        return self.lambda_blocks if self.head_penalty is None else self.head_penalty

    @property
    def lambda_blocks(self) -> float:
        """λ of all other weights."""
        return self.penalty / self.depth if self.over_depth else self.penalty


# --------------------------------------------------------------------------------------
# Attention patterns


class TextTask(Strict):
    """The next character of a text, in windows of `context` positions."""

    kind: Literal["text"]
    bos: bool = Field(default=True, description="a fixed token stands before each window")


class TriggerTask(Strict):
    """TC: a trigger asks for the mean of the contents before it, all other rows for 0.

    A token is (content ~ N(0, I), BOS flag, trigger flag, 1 for all but BOS); position 1 is BOS.
    """

    kind: Literal["trigger"]
    content: PositiveInt = Field(description="dimensions of the content")
    probability: Annotated[float, Field(gt=0, lt=1)] = Field(
        description="of a trigger, from position 3 on"
    )


class TokenwiseTask(Strict):
    """TW: y_t = B x_t with a Gaussian B. MIX: beside it triggers, as in the task above."""

    kind: Literal["tokenwise"]
    content: PositiveInt = Field(description="dimensions of the content")
    norm: PositiveFloat = Field(description="of each content, which is uniform on a sphere")
    probability: Annotated[float, Field(ge=0, lt=1)] = Field(
        default=0.0, description="of a trigger, from position 3 on; 0 is TW"
    )


class BackcopyTask(Strict):
    """BB, bigram-backcopy (Guo et al. 2024): x_t = x_{t-2} after a trigger, else a bigram.

    Bigrams are those of the characters of a text, triggers its most frequent characters.
    """

    kind: Literal["backcopy"]
    triggers: PositiveInt


class Rates(Strict):
    """How often heads are sinks or diagonals."""

    texts: PositiveInt
    lengths: Annotated[list[Annotated[int, Field(ge=4)]], Field(min_length=1)] = Field(
        description="T, the first tokens of each text"
    )


class Costs(Strict):
    """What the patterns would cost on the tokens that a layer reads."""

    texts: PositiveInt
    n: Annotated[list[Annotated[int, Field(ge=3)]], Field(min_length=1)] = Field(
        description="the first tokens of each text"
    )


class Probes(Strict):
    """What is looked at in a finished language model; numbers are numbers of texts."""

    rates: Rates | None = None
    switch: PositiveInt | None = Field(default=None, description="heads as switches, interventions")
    alignment: PositiveInt | None = Field(default=None, description="of tokens, queries and keys")
    smoothing: PositiveInt | None = Field(default=None, description="dense and sparse attention")
    costs: Costs | None = None
    layers: PositiveInt | None = Field(default=None, description="oversmoothing by layer")
    spread: PositiveInt | None = Field(default=None, description="of a change of one token")


class DecoderSpec(Strict):
    """Decoder-only transformers with open attention, seeds as one stack."""

    # What only the measures read: a change there trains nothing.
    MEASURED: ClassVar[frozenset[str]] = frozenset({"probes"})

    kind: Literal["decoder"]
    task: Annotated[
        TextTask | TriggerTask | TokenwiseTask | BackcopyTask, Field(discriminator="kind")
    ]
    dataset: Name | None = Field(
        default=None, description="a text of config/datasets.yaml, for tasks of characters"
    )
    context: Annotated[int, Field(ge=4)] = Field(description="positions T, BOS included")
    depth: PositiveInt = Field(description="layers")
    width: PositiveInt = Field(description="d of the residual stream")
    heads: PositiveInt
    mlp: Annotated[int, Field(ge=0)] = Field(description="hidden width over d; 0: no MLP")
    residual: bool = Field(default=True, description="residual connections")
    norm: Literal["rms", "none"] = Field(default="rms", description="RMSNorm before each block")
    positions: Literal["learned", "rotary", "none"]
    attention: Literal[
        "softmax", "off_by_one", "clipped", "sink_logit", "key_bias", "key_value_bias",
        "sink_token", "sigmoid", "elu", "relu", "softpick", "gated",
    ] = "softmax"  # fmt: skip
    forbid: Literal["none", "self", "first", "both"] = Field(
        default="none", description="hide each token from itself, the first one from all, or both"
    )
    value_bias: bool = False
    optimiser: Literal["adamw", "sgd"] = Field(
        default="adamw", description="AdamW, decay of matrices; or gradient descent without decay"
    )
    lr: PositiveFloat
    warmup: Annotated[int, Field(ge=0)] = Field(
        default=0, description="steps in which lr rises; then it is constant"
    )
    weight_decay: Annotated[float, Field(ge=0)]
    batch: PositiveInt = Field(description="sequences a step")
    steps: PositiveInt
    every: PositiveInt = Field(description="steps between two measured states; the first is 0")
    gain: PositiveFloat = Field(description="matrices start as N(0, gain²/inputs)")
    seeds: PositiveInt
    probes: Probes = Probes()

    @model_validator(mode="after")
    def _fits(self) -> "DecoderSpec":
        if self.width % self.heads:
            raise ValueError(f"width = {self.width} is not a multiple of heads = {self.heads}")
        if self.positions == "rotary" and self.width // self.heads % 2:
            raise ValueError("rotary positions need heads of even width")
        if self.of_tokens != (self.dataset is not None):
            raise ValueError("tasks of characters need a dataset, tasks of vectors have none")
        if self.steps % self.every:
            raise ValueError(f"steps = {self.steps} is not a multiple of every = {self.every}")
        if self.optimiser == "sgd" and self.weight_decay:
            raise ValueError("sgd has no weight_decay here")
        if self.probes != Probes() and self.task.kind != "text":
            raise ValueError("probes are for language models, whose task is text")
        lengths = self.probes.rates.lengths if self.probes.rates else []
        lengths = [*lengths, *(self.probes.costs.n if self.probes.costs else [])]
        if max(lengths, default=0) > self.context:
            raise ValueError(f"probes look at {max(lengths)} tokens of context = {self.context}")
        return self

    @property
    def of_tokens(self) -> bool:
        """Whether inputs are numbers of characters; vectors otherwise."""
        return self.task.kind in ("text", "backcopy")

    @property
    def bare(self) -> bool:
        """Whether there is nothing but one attention: its outputs are those of the network."""
        alone = self.depth == 1 and not self.mlp and not self.residual
        return alone and self.norm == "none" and not self.of_tokens

    @property
    def fused(self) -> bool:
        """Whether the weights need not be written down."""
        return self.attention in ("softmax", "sink_token", "gated") and self.forbid == "none"


class BedsSpec(Strict):
    """Minimum-norm query-key matrices on drawn tokens, and the sets on which there are any.

    `orthonormal`: x_i = e_i + m e_0. `random`: unit Gaussian directions + a common one of length
    m, causal. `sets`: small point sets; m is the largest shift, n and d the largest sizes.
    """

    kind: Literal["beds"]
    bed: Literal["orthonormal", "random", "sets"]
    n: Annotated[list[Annotated[int, Field(ge=2)]], Field(min_length=1)] = Field(
        description="tokens"
    )
    d: list[PositiveInt] = Field(default=[], description="dimensions; n + 1 for orthonormal")
    m: Annotated[list[Annotated[float, Field(ge=0)]], Field(min_length=1)] = Field(
        description="length of the common direction"
    )
    seeds: PositiveInt = Field(description="draws")

    @model_validator(mode="after")
    def _has_dimensions(self) -> "BedsSpec":
        if (self.bed == "orthonormal") != (not self.d):
            raise ValueError("orthonormal has its own dimension, the other beds need d")
        return self


class RandomAttentionSpec(Strict):
    """Deep networks of random matrices: how fast their tokens become equal."""

    kind: Literal["random_attention"]
    depth: PositiveInt
    width: PositiveInt
    tokens: Annotated[int, Field(ge=4)]
    window: PositiveInt = Field(description="tokens to each side, or before, of the window masks")
    seeds: PositiveInt


class PretrainedSpec(Strict):
    """A pretrained language model in a folder of the user, probed as it is."""

    kind: Literal["pretrained"]
    model: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")] = Field(
        description="folder below pretrained_dir"
    )
    dataset: Name = Field(description="a text of config/datasets.yaml")
    bos: bool = Field(description="BOS, or what the tokenizer has for it, stands first")
    context: Annotated[int, Field(ge=4)] = Field(description="tokens of a text")
    probes: Probes
    seeds: PositiveInt = Field(description="draws of the random and repeated inputs")


# --------------------------------------------------------------------------------------
# Several objectives

Objective = Literal["error", "robust_error", "dp_gap", "eo_gap", "cvar"]


def _no_value_twice(values: list) -> list:
    if twice := [value for i, value in enumerate(values) if value in values[:i]]:
        raise ValueError(f"it has {twice[0]} twice")
    return values


# A list with values, each once.
Distinct = [Field(min_length=1), AfterValidator(_no_value_twice)]


class RandomRisks(Strict):
    """Hypotheses whose true risks are drawn, three objectives on a convex front plus a loss."""

    kind: Literal["random"]
    hypotheses: PositiveInt
    objectives: Annotated[list[PositiveInt], *Distinct] = Field(
        description="numbers N of objectives; those of a smaller N are the first of a larger"
    )
    scale: PositiveFloat = Field(description="mean of the exponential loss above the front")


class GaussianGroups(Strict):
    """Linear classifiers of two Gaussian classes in two groups: closed-form risks.

    Either a grid of directions and offsets, or one direction and a grid of an offset a group.
    """

    kind: Literal["gaussian"]
    shares: Annotated[list[Annotated[float, Field(gt=0, lt=1)]], *Distinct] = Field(
        description="P(a = 1), the share of group 1"
    )
    objectives: Annotated[list[Objective], *Distinct]
    angles: PositiveInt = Field(default=1, description="directions, evenly around the circle")
    offsets: Annotated[int, Field(ge=2)] = Field(description="offsets, evenly in [-3, 3]")
    by_group: bool = Field(default=False, description="an offset for each group, all pairs")
    shift: Annotated[float, Field(ge=0)] = Field(description="length of an attack on x")
    tail: Annotated[float, Field(gt=0, le=1)] = Field(
        default=0.1, description="share of the largest losses of cvar"
    )

    @model_validator(mode="after")
    def _is_one_grid(self) -> "GaussianGroups":
        if self.by_group and (self.angles > 1 or "cvar" in self.objectives):
            raise ValueError("by_group has one direction (angles = 1) and no objective cvar")
        return self


class FlatFront(Strict):
    """Two mirror images of the best classifier that differ in the gap between the groups."""

    kind: Literal["flat"]
    angles: Annotated[int, Field(ge=2)]
    offsets: Annotated[int, Field(ge=2)]
    spread: PositiveFloat = Field(description="c, between the components of a class")
    separation: PositiveFloat = Field(description="s, between the classes")


class Ladder(Strict):
    """Slope s and number m of the hypotheses beside h_0."""

    s: Annotated[float, Field(ge=0, le=0.6)]
    m: PositiveInt


class SlopedFront(Strict):
    """Hypotheses that lose s in the first objective while they lose 1/2 in the second."""

    kind: Literal["slope"]
    ladders: Annotated[list[Ladder], *Distinct]


class ConvexFront(Strict):
    """A strictly convex front and dominated copies of its points."""

    kind: Literal["convex"]
    points: Annotated[int, Field(ge=2)]
    copies: PositiveInt
    scale: PositiveFloat = Field(description="mean of the exponential shift of a copy")


class Counterexample(Strict):
    """One Pareto-optimal hypothesis and m that equal it in the estimated objective."""

    kind: Literal["counterexample"]
    m: Annotated[list[PositiveInt], *Distinct]


Bed = RandomRisks | GaussianGroups | FlatFront | SlopedFront | ConvexFront | Counterexample


class RiskBedSpec(Strict):
    """Hypotheses with exact risks in several objectives, estimated from n samples many times."""

    kind: Literal["risk_bed"]
    bed: Annotated[Bed, Field(discriminator="kind")]
    n: Annotated[list[PositiveInt], *Distinct] = Field(description="sample sizes")
    delta: Annotated[float, Field(gt=0, lt=1)] = Field(
        description="probability with which a bound may fail"
    )
    probes: Annotated[
        list[Literal["deviations", "sample_size", "scalarizations", "excess", "fronts", "bad"]],
        *Distinct,
    ] = Field(description="what is measured of the estimates")
    scalarizations: PositiveInt = Field(
        default=1, description="largest number of weights of a family of scalarizations"
    )
    minimised: PositiveInt = Field(
        default=50, description="weights of a family whose minimisers are looked at"
    )
    tolerance: PositiveFloat = Field(
        default=0.1, description="deviation up to which sample_size counts samples"
    )
    beds: PositiveInt = Field(
        default=1, description="draws of the bed for which sample_size counts samples"
    )
    signs: Annotated[int, Field(ge=0)] = Field(
        default=0, description="draws of signs of the empirical Rademacher complexity of the error"
    )
    seeds: PositiveInt = Field(description="repetitions")

    @model_validator(mode="after")
    def _bed_has_what_is_measured(self) -> "RiskBedSpec":
        for what, wanted, beds in [
            ("probe bad", "bad" in self.probes, ["counterexample"]),
            ("probe sample_size", "sample_size" in self.probes, ["random"]),
            ("signs", self.signs > 0, ["gaussian", "flat"]),
        ]:
            if wanted and self.bed.kind not in beds:
                raise ValueError(f"{what} needs a bed of kind {' or '.join(beds)}")
        return self


class TradeoffSpec(Strict):
    """Small networks between accuracy, fairness and robustness, and their risks on a population.

    Binary task: a digit is 5 or more. Group 1 carries a bright mark in a corner; a digit gets it
    with a probability that depends on its class. Two fully connected layers with a ReLU, one
    network per combination of the four lists, all trained on the same samples; all others of the
    data set are the population, from which the measures draw n.
    """

    MEASURED: ClassVar[frozenset[str]] = frozenset({"n", "repeats", "delta"})

    kind: Literal["tradeoffs"]
    dataset: Name = Field(description="a key of config/datasets.yaml with images of digits")
    pixel_max: PositiveFloat = Field(default=255, description="what divides pixels into [0, 1]")
    train: Annotated[int, Field(ge=10)] = Field(description="samples that train the networks")
    group_rates: tuple[Annotated[float, Field(gt=0, lt=1)], Annotated[float, Field(gt=0, lt=1)]] = (
        Field(description="P(a = 1 | y) for y = 0, 1")
    )
    widths: Annotated[list[PositiveInt], *Distinct]
    weight_decays: Annotated[list[Annotated[float, Field(ge=0)]], *Distinct]
    adversarial: Annotated[list[Annotated[float, Field(ge=0)]], *Distinct] = Field(
        description="radius of the attack in training, 0 for none"
    )
    fairness: Annotated[list[Annotated[float, Field(ge=0)]], *Distinct] = Field(
        description="penalty on the squared difference of the mean probabilities of the groups"
    )
    attack: PositiveFloat = Field(description="radius of the attack that is measured")
    attack_steps: PositiveInt = Field(description="1 is FGSM, more is PGD")
    lr: PositiveFloat
    batch: PositiveInt | Literal["full"]
    epochs: PositiveInt
    n: Annotated[list[PositiveInt], *Distinct] = Field(
        default=[100], description="sizes of the samples of the population"
    )
    repeats: PositiveInt = Field(default=30, description="samples of each size")
    delta: Annotated[float, Field(gt=0, lt=1)] = Field(
        default=0.05, description="probability with which a bound may fail"
    )
    seeds: PositiveInt = Field(description="independent sets of networks")

    @property
    def grid(self) -> list[tuple[int, float, float, float]]:
        """(width, weight decay, adversarial radius, fairness penalty) of each network."""
        lists = (self.widths, self.weight_decays, self.adversarial, self.fairness)
        return list(itertools.product(*lists))


RunSpec = (
    DufmSpec
    | NetworkHeadSpec
    | NoisyClassifierSpec
    | CertificationSpec
    | LowDataSpec
    | DeepRfmSpec
    | DeepHeadSpec
    | ResidualSpec
    | DecoderSpec
    | BedsSpec
    | RandomAttentionSpec
    | PretrainedSpec
    | RiskBedSpec
    | TradeoffSpec
)
RUN_KINDS: dict[str, type[Strict]] = {
    "dufm": DufmSpec,
    "network_head": NetworkHeadSpec,
    "noisy_classifier": NoisyClassifierSpec,
    "certification": CertificationSpec,
    "low_data": LowDataSpec,
    "deep_rfm": DeepRfmSpec,
    "deep_head": DeepHeadSpec,
    "residual": ResidualSpec,
    "decoder": DecoderSpec,
    "beds": BedsSpec,
    "random_attention": RandomAttentionSpec,
    "pretrained": PretrainedSpec,
    "risk_bed": RiskBedSpec,
    "tradeoffs": TradeoffSpec,
}


# --------------------------------------------------------------------------------------
# Studies


class RunTemplate(Strict):
    """One run at the published settings, and what is different at the smaller scales.

    `laptop` changes `paper`, `smoke` changes `laptop`; null leaves the run out there and at the
    scales below. `grid` in any of them makes one run per combination. `origin` says where each
    value of `paper` comes from.
    """

    paper: dict[str, Any]
    laptop: dict[str, Any] | None = {}
    smoke: dict[str, Any] | None = {}
    origin: dict[Origin, list[str]]

    @model_validator(mode="after")
    def _grids_are_lists(self) -> "RunTemplate":
        for scale in SCALES:
            if wrong := _not_a_grid((getattr(self, scale) or {}).get("grid", {})):
                raise ValueError(f"{scale}.{wrong}")
        return self

    @model_validator(mode="after")
    def _every_value_has_an_origin(self) -> "RunTemplate":
        given = set(self.paper) | set(self.paper.get("grid", {}))
        named = list(itertools.chain.from_iterable(self.origin.values()))
        if missing := sorted(given - {"kind", "grid"} - set(named)):
            raise ValueError(f"origin does not say where these values come from: {missing}")
        if unknown := sorted(set(named) - given):
            raise ValueError(f"origin names keys that paper does not set: {unknown}")
        if twice := sorted({name for name in named if named.count(name) > 1}):
            raise ValueError(f"origin names a key twice: {twice}")
        return self

    def settings(self, scale: str) -> dict[str, Any] | None:
        """The settings at a scale, the smaller ones laid over the larger; None: no such run."""
        layers = {"paper": [], "laptop": [self.laptop], "smoke": [self.laptop, self.smoke]}
        merged = dict(self.paper)
        for layer in layers[scale]:
            if layer is None:
                return None
            # A grid over a key and a plain value of it exclude each other.
            if "grid" in merged and "grid" not in layer:
                merged["grid"] = {k: v for k, v in merged["grid"].items() if k not in layer}
            merged |= layer
        return merged


def _not_a_grid(grid: Any) -> str:
    """What is wrong with a grid, in words; "" where it is one."""
    if not isinstance(grid, dict):
        return f"grid = {_shown(grid)} must be keys with lists of values"
    wrong = [key for key, listed in grid.items() if not isinstance(listed, list) or not listed]
    return f"grid.{wrong[0]} must be a list with at least one value" if wrong else ""


class FigureSpec(Strict):
    """A figure: the runs that it needs, and what its caption says."""

    title: str
    shows: str = Field(description="what the paper shows there")
    place: str = Field(description="where it stands in the paper; empty if it is ours")
    runs: list[Name] = []
    reconstructed: str = Field(
        default="", description="what no source settles, in words printed on the plot"
    )
    ours: bool = Field(default=False, description="the figure itself is reconstructed")
    extra: bool = Field(default=False, description="made only where `extras` names it")


class AtLeast(Strict):
    """The least number that a setting must have."""

    at_least: float


class ClaimSpec(Strict):
    """A claim of the paper: its words, its source, and the figures whose tables decide it."""

    statement: str
    source: str
    figures: Annotated[list[Name], Field(min_length=1)]
    published: str = Field(description="the published number, or words")
    rule: str = Field(description="when the claim holds, fixed before the runs")
    rests_on: Literal["proof", "evidence"] = Field(
        description="a proof (an identity, a bound that was proven, a construction: our code is "
        "checked) or evidence of runs"
    )
    cannot_fail: str = Field(
        default="", description="why the check cannot fail on what runs here, if so"
    )
    needs: dict[str, list[Any] | AtLeast] = Field(
        default={},
        description="settings that a run must have to decide the claim, with the values that do, "
        "or the least one; `content` is that of its data set",
    )
    decided_by: str = Field(
        default="", description="what would decide it, where that is no larger scale"
    )


class StudySpec(Strict):
    """One paper."""

    study: Name
    title: str
    authors: str
    venue: str
    arxiv: str
    runs: dict[Name, RunTemplate] = {}
    figures: dict[Name, FigureSpec]
    claims: dict[Name, ClaimSpec]

    @model_validator(mode="after")
    def _references_exist(self) -> "StudySpec":
        for figure, spec in self.figures.items():
            for run in spec.runs:
                if run not in self.runs:
                    raise ValueError(f"figure {figure} names the unknown run {run!r}")
        for claim, spec in self.claims.items():
            for figure in spec.figures:
                if figure not in self.figures:
                    raise ValueError(f"claim {claim} names the unknown figure {figure!r}")
        return self

    def without_extras(self, wanted: list[str]) -> "StudySpec":
        """This study without the figures that are off by default and not wanted."""
        figures = {n: f for n, f in self.figures.items() if not f.extra or n in wanted}
        return self.model_copy(update={"figures": figures})


# --------------------------------------------------------------------------------------
# The user's file


# The submission of a job is a line of shell: no character that means something there.
Plain = Annotated[str, Field(pattern=r"^[A-Za-z0-9_=:,./@%+ -]*$")]


class Cluster(Strict):
    """Where a Slurm cluster runs the jobs; empty values leave the choice to Slurm."""

    account: Plain = Field(default="", description="account that pays")
    partition: Plain = Field(default="", description="partition of jobs without a GPU")
    gpu_partition: Plain = Field(default="", description="partition of jobs with a GPU")
    gpu: Annotated[str, Field(pattern=r"^gpu(:[A-Za-z0-9_.]+)?:[1-9]\d*$")] = Field(
        default="gpu:1", description="what a job with a GPU asks for, e.g. gpu:a100:1"
    )
    extra: Plain = Field(default="", description="further options of sbatch, e.g. --qos=long")


def _listed(value: Any) -> Any:
    """One word stands for a list of it; `all` is a word of its own."""
    return [value] if isinstance(value, str) and value != "all" else value


Listed = BeforeValidator(_listed)


class Config(Strict):
    """`config/config.yaml`, and what `--config` puts over it."""

    scale: Scale = Field(default="laptop", description="smoke, laptop or paper")
    studies: Annotated[Annotated[list[Name], Field(min_length=1)] | Literal["all"], Listed] = Field(
        default="all", description="slugs of the studies to make, or all"
    )
    seeds: PositiveInt | None = Field(
        default=None, description="seeds of every run; each run's own number where null"
    )
    device: Literal["auto", "cpu", "cuda"] = Field(
        default="auto", description="auto takes a GPU where there is one"
    )
    jobs_per_gpu: PositiveInt = Field(
        default=4, description="small networks that train on one GPU at the same time"
    )
    checkpoint_seconds: Annotated[float, Field(ge=0)] = Field(
        default=30.0, description="seconds between two checkpoints of a training"
    )
    cluster: Cluster = Cluster()
    data_dir: Folder = Field(default="data", description="downloads and prepared data sets")
    mirrors: Annotated[list[Place], Listed] = Field(
        default=[], description="folders or http(s) addresses tried before the official ones"
    )
    pretrained_dir: Folder | None = Field(
        default=None, description="folder with a folder for each pretrained language model"
    )
    extras: Annotated[list[Name], Listed] = Field(
        default=[], description="figures to make that are off by default"
    )
    overrides: dict[Name, dict[Name, dict[str, Any]]] = Field(
        default={}, description="study -> run -> key -> value, laid over the study's file"
    )


def load_config(values: dict[str, Any], source: Source = in_the_file) -> Config:
    """Validate the user's configuration (file and command line together)."""
    return validate(Config, values, source)


def load_studies(folder: Path) -> dict[str, StudySpec]:
    """Read every `config/studies/<slug>.yaml`."""
    studies = {}
    for path in sorted(folder.glob("*.yaml")):
        study = validate(StudySpec, read_yaml(path), str(path))
        if study.study != path.stem:
            raise ConfigError(f"{path}: study is {study.study!r} but the file is {path.stem!r}.")
        studies[study.study] = study
    return studies


def expand(
    study: StudySpec, run: str, config: Config, source: Source = in_the_file
) -> dict[str, RunSpec]:
    """The validated runs of a template at the configured scale: {full name: spec}.

    A grid {width: [8, 16]} of the run `sweep` gives `sweep-width8` and `sweep-width16`.
    """
    settings = study.runs[run].settings(config.scale)
    if settings is None:
        return {}
    changes = config.overrides.get(study.study, {}).get(run, {})
    settings |= changes
    if config.seeds is not None:
        settings["seeds"] = config.seeds
    where = functools.partial(where_given, study, run, config, source)
    grid = settings.pop("grid", {})
    if wrong := _not_a_grid(grid):
        raise ConfigError(f"{where('grid')}: {wrong}.")
    grid = {k: v for k, v in grid.items() if k not in changes}
    runs = {}
    for values in itertools.product(*grid.values()):
        point = dict(zip(grid, values, strict=True))
        suffix = "".join(f"-{key}{value}" for key, value in point.items())
        # It becomes a file name, and words of a command.
        if not re.fullmatch(r"[A-Za-z0-9_.+-]*", suffix):
            raise ConfigError(
                f"{where('grid')}: grid: {suffix[1:]!r} cannot be a part of a file name."
            )
        runs[run + suffix] = validate_run({**settings, **point}, where)
    return runs


def where_given(study: StudySpec, run: str, config: Config, source: Source, *path: Any) -> str:
    """Where the value at a path of keys of a run was given: in its study's file, or over it.

    A sentence about the run as a whole (no path) names both.
    """
    file = f"config/studies/{study.study}.yaml: runs.{run} at scale {config.scale}"
    changes = config.overrides.get(study.study, {}).get(run, {})
    if path == ("seeds",) and config.seeds is not None:
        return f"{source('seeds')}: seeds, for {study.study}.{run}"
    if changes and (not path or path[0] in changes):
        overrides = f"overrides.{study.study}.{run}"
        given = source("overrides", study.study, run, *path)
        return f"{given}: {overrides}" if path else f"{file} with {overrides} ({given})"
    return file


def validate_run(values: dict[str, Any], where: str | Source) -> RunSpec:
    """Validate one run; `where` opens the sentence of an error."""
    kind = values.get("kind")
    if kind not in RUN_KINDS:
        opening = where if isinstance(where, str) else where("kind")
        raise ConfigError(f"{opening}: kind = {_shown(kind)} is not one of {', '.join(RUN_KINDS)}.")
    return validate(RUN_KINDS[kind], values, where)


def validate(model: type[BaseModel], values: Any, where: str | Source) -> Any:
    """Validate `values` against `model`.

    Args:
        model: what is allowed.
        values: what was given.
        where: opens the sentence of an error, or gives its opening for the path of a key.

    Raises:
        ConfigError: one sentence: where, which key, what was given, what is allowed.
    """
    if not isinstance(values, dict):
        opening = where if isinstance(where, str) else where()
        raise ConfigError(f"{opening}: expected keys with values, got {_shown(values)}.")
    try:
        return model.model_validate(values)
    except ValidationError as error:
        # A union reports each of its members; the deepest report is the one that got furthest.
        first = max(error.errors(), key=lambda e: (e["type"] == "extra_forbidden", len(e["loc"])))
        opening = where if isinstance(where, str) else where(*first["loc"])
        raise ConfigError(f"{opening}: {_sentence(model, first)}") from None


def _sentence(model: type[BaseModel], first: ErrorDetails) -> str:
    # Members of a union put their type into the path; the user knows keys only.
    key = ".".join(
        str(part) for part in first["loc"] if not re.search(r"constrained|\[", str(part))
    )
    message = first["msg"].removeprefix("Value error, ")
    if first["type"] == "extra_forbidden":
        allowed = sorted(_keys(model, first["loc"][:-1]))
        hint = did_you_mean(str(first["loc"][-1]), allowed)
        return f"unknown key {key}{hint}; allowed here: {', '.join(allowed)}."
    if first["type"] == "missing":
        return f"the key {key} is missing."
    if not key:
        return f"{message}."
    return f"{key} = {_shown(first['input'])} is not allowed: {_lower(message)}."


def did_you_mean(name: str, names: Iterable[str]) -> str:
    """The name that is meant, in brackets; "" where none is close."""
    close = difflib.get_close_matches(name, list(names), n=1)
    return f" (did you mean {close[0]}?)" if close else ""


def _shown(value: Any) -> str:
    """A value in the words of YAML."""
    words = {"None": "null", "True": "true", "False": "false"}
    return words.get(repr(value), repr(value))


def _keys(model: Any, path: tuple[Any, ...]) -> set[str]:
    """Field names of the model that `path` leads to, as far as it can be followed."""
    current = model
    for part in path:
        models = list(_models(current))
        fields = [m.model_fields[part].annotation for m in models if part in m.model_fields]
        if fields:
            current = Union[tuple(fields)]  # noqa: UP007
        elif by_kind := [m for m in models if _kind(m) == part]:
            current = by_kind[0]
    return set(itertools.chain.from_iterable(m.model_fields for m in _models(current)))


def _models(annotation: Any) -> set[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return {annotation}
    return set(itertools.chain.from_iterable(_models(part) for part in get_args(annotation)))


def _kind(model: type[BaseModel]) -> str | None:
    field = model.model_fields.get("kind")
    return get_args(field.annotation)[0] if field and get_args(field.annotation) else None


def _lower(text: str) -> str:
    return text[:1].lower() + text[1:]


def schemas() -> dict[str, dict[str, Any]]:
    """The JSON schemas that editors use, by file name under `config/schema/`."""
    study = StudySpec.model_json_schema()
    variants = []
    for model in RUN_KINDS.values():
        schema = model.model_json_schema()
        study["$defs"] |= schema.pop("$defs", {})
        # A scale gives any subset of the keys; what is missing comes from the larger scales.
        schema.pop("required", None)
        schema["properties"]["grid"] = {
            "type": "object",
            "description": "one run per combination of the listed values",
            "additionalProperties": {"type": "array", "minItems": 1},
        }
        variants.append(schema)
    for scale in SCALES:
        allowed = variants if scale == "paper" else [*variants, {"type": "null"}]
        study["$defs"]["RunTemplate"]["properties"][scale] |= {"anyOf": allowed}
    return {"config.schema.json": Config.model_json_schema(), "study.schema.json": study}
