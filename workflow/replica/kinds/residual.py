"""Regularised residual networks and transformers (study `depth`)."""

import math
from dataclasses import replace
from typing import Annotated, Literal

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from replica.costs import Cost, Work, on_gpu, small
from replica.kinds.base import BYTES, CIFAR10, SAMPLES, Kind, Name, Strict

# The time in which a GPU starts the products of a matrix, in positions.
POSITIONS_PER_MATRIX = 50_000
# Samples of a class from which residual networks are worth a GPU.
MANY_SAMPLES = 1000


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
    context: PositiveInt = Field(description="number of words read from each text, the first ones")


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
        default=None, description="λ of the last layer; defaults to that of the others"
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


def _residual_cost(spec: ResidualSpec, seeds: int) -> Cost:
    network = spec.network
    # Of images with ten classes, all that there are.
    samples, positions, matrices = 10 * spec.per_class, 1, int(network.mlp)
    pixels = SAMPLES.get(spec.dataset, CIFAR10).values
    if isinstance(network, PatchTransformer):
        positions = {"digits": 8, "mnist": 28}.get(spec.dataset, 32) ** 2 // network.patch**2
    if isinstance(network, TokenTransformer):
        samples, positions, pixels = 2 * spec.per_class, network.context, 0
    if not isinstance(network, ResidualNetwork):
        matrices += 2 * network.attention
    batch = samples if spec.batch == "full" else min(spec.batch, samples)
    steps = spec.epochs * math.ceil(samples / batch)
    # The head counts as one more; the embedding, without LayerNorm and a gradient of its inputs, as
    # half of as many as it has times 64 inputs.
    matrices = matrices * spec.depth + 1
    rows = seeds * batch * positions
    embedding = pixels / positions / 64 / 2
    wide = (spec.width / 64) ** 2
    amount = rows * (matrices + embedding) * wide
    # A dozen arrays of the size of the features are kept for the gradient; at the end in float64,
    # of one member.
    each = max(4 if spec.precision == "float32" else 8, 8 / seeds)
    memory = int(12 * each * rows * spec.width * matrices) // 2**20
    on_cores = small(Work("position", steps * amount), memory)
    if not _is_large(spec):
        return on_cores
    amount += matrices * POSITIONS_PER_MATRIX
    return replace(on_gpu(Work("position on a GPU", steps * amount), 8000, 2), on_cores=on_cores)


def _residual_states(spec: ResidualSpec, seeds: int) -> float:
    """The weights, and in float64 the class means, the last layer and a term per block."""
    network, data = spec.network, SAMPLES.get(spec.dataset, CIFAR10)
    inputs, places, K, matrices = data.values, 0, data.classes, int(network.mlp)
    if isinstance(network, PatchTransformer):
        colours = 3 if data.values % 3 == 0 else 1
        inputs = colours * network.patch**2
        places = data.values // inputs
    if isinstance(network, TokenTransformer):
        inputs, places, K = network.vocabulary, network.context, 2
    blocks = spec.depth - 1
    if not isinstance(network, ResidualNetwork):
        blocks = spec.depth
        matrices += 2 * network.attention
    weights = spec.width * (blocks * matrices * (spec.width + 1) + inputs + places + K)
    return seeds * (BYTES[spec.precision] * weights + 8 * 2 * K * spec.width)


def _is_large(spec: ResidualSpec) -> bool:
    return spec.per_class >= MANY_SAMPLES


KINDS = {
    "residual": Kind(
        spec=ResidualSpec,
        train="replica.residual.training:train_residual",
        measure="replica.residual.metrics:measure_residual",
        cost=_residual_cost,
        states=_residual_states,
        keeps_networks=lambda spec: True,
        is_large=_is_large,
        seeds_apart=False,
        measured_alone=False,
    ),
}
