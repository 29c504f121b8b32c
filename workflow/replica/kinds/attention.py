"""Attention patterns: decoders, what needs no training, and pretrained models (study `sinks`)."""

import math
import re
from dataclasses import replace
from typing import Annotated, ClassVar, Literal

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from replica.costs import Cost, Work, on_gpu, small
from replica.kinds.base import Kind, Name, Strict, never, no_work

# Tokens of a training through layers of width 64 from which decoders are worth a GPU.
MANY_TOKENS = 500_000_000
# A token of a text in drawn vectors: it has logits, and its network leaves the caches of a core.
OF_TEXT = 1.25
# Billions of parameters of models whose names do not say it; the largest for all others.
GPT2_PARAMETERS = {"gpt2": 0.12, "gpt2-medium": 0.35, "gpt2-large": 0.77, "gpt2-xl": 1.6}
LARGEST = 13.0
# Different characters of a text, about, BOS included; held-out sequences of small tasks; columns
# of the tables of what needs no training.
CHARACTERS, HELD_OUT, COLUMNS = 100, 128, 13


class TextTask(Strict):
    """The next character of a text, in windows of `context` positions."""

    kind: Literal["text"]
    bos: bool = Field(default=True, description="a fixed token precedes each window")


class TriggerTask(Strict):
    """TC: the target of a trigger is the mean of the contents before it, of all other rows 0.

    A token is (content ~ N(0, I), BOS flag, trigger flag, 1 for all but BOS); position 1 is BOS.
    """

    kind: Literal["trigger"]
    content: PositiveInt = Field(description="dimensions of the content")
    probability: Annotated[float, Field(gt=0, lt=1)] = Field(
        description="probability of a trigger, from position 3 on"
    )


class TokenwiseTask(Strict):
    """TW: y_t = B x_t with a Gaussian B. MIX: also triggers, as in the task above."""

    kind: Literal["tokenwise"]
    content: PositiveInt = Field(description="dimensions of the content")
    norm: PositiveFloat = Field(description="norm of each content, which is uniform on a sphere")
    probability: Annotated[float, Field(ge=0, lt=1)] = Field(
        default=0.0, description="probability of a trigger, from position 3 on; 0 is TW"
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
    """What is measured in a trained language model; numbers are numbers of texts."""

    rates: Rates | None = None
    switch: PositiveInt | None = Field(default=None, description="heads as switches, interventions")
    alignment: PositiveInt | None = Field(default=None, description="of tokens, queries and keys")
    smoothing: PositiveInt | None = Field(default=None, description="dense and sparse attention")
    costs: Costs | None = None
    layers: PositiveInt | None = Field(default=None, description="oversmoothing by layer")
    spread: PositiveInt | None = Field(default=None, description="of a change of one token")


class DecoderSpec(Strict):
    """Decoder-only transformers that expose their attention, all seeds as one stack."""

    # Read by the measures alone: a change here trains nothing.
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
            raise ValueError("tasks on characters need a dataset, tasks on vectors have none")
        if self.steps % self.every:
            raise ValueError(f"steps = {self.steps} is not a multiple of every = {self.every}")
        if self.optimiser == "sgd" and self.weight_decay:
            raise ValueError("sgd takes no weight_decay here")
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
        """Whether the network is a single attention layer, whose outputs are its own."""
        alone = self.depth == 1 and not self.mlp and not self.residual
        return alone and self.norm == "none" and not self.of_tokens

    @property
    def fused(self) -> bool:
        """Whether the attention weights need not be materialised."""
        return self.attention in ("softmax", "sink_token", "gated") and self.forbid == "none"


class SyntheticTokensSpec(Strict):
    """Minimum-norm query-key matrices on synthetic tokens, and the sets on which they exist.

    `orthonormal`: x_i = e_i + m e_0. `random`: unit Gaussian directions + a common one of length
    m, causal. `sets`: small point sets; m is the largest shift, n and d the largest sizes.
    """

    kind: Literal["synthetic_tokens"]
    tokens: Literal["orthonormal", "random", "sets"]
    n: Annotated[list[Annotated[int, Field(ge=2)]], Field(min_length=1)] = Field(
        description="tokens"
    )
    d: list[PositiveInt] = Field(default=[], description="dimensions; n + 1 for orthonormal")
    m: Annotated[list[Annotated[float, Field(ge=0)]], Field(min_length=1)] = Field(
        description="length of the common direction"
    )
    seeds: PositiveInt = Field(description="draws")

    @model_validator(mode="after")
    def _has_dimensions(self) -> "SyntheticTokensSpec":
        if (self.tokens == "orthonormal") != (not self.d):
            raise ValueError("orthonormal has its own dimension, the other test cases need d")
        return self


class RandomAttentionSpec(Strict):
    """Deep networks of random matrices: how fast their tokens collapse to one."""

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
    bos: bool = Field(description="BOS, or the tokenizer's substitute for it, comes first")
    context: Annotated[int, Field(ge=4)] = Field(description="tokens of a text")
    probes: Probes
    seeds: PositiveInt = Field(description="draws of the random and repeated inputs")


def parameters_of(model: str) -> float:
    """Billions of parameters of a pretrained model, from its name: pythia-410m, opt-1.3b."""
    if model in GPT2_PARAMETERS:
        return GPT2_PARAMETERS[model]
    found = re.search(r"([\d.]+)(m|b)$", model)
    return float(found[1]) / (1000 if found[2] == "m" else 1) if found else LARGEST


def _decoder_cost(spec: DecoderSpec, seeds: int) -> Cost:
    tokens = seeds * spec.batch * spec.context
    each_step = tokens * spec.depth * (spec.width / 64) * max(1, spec.width / 128)
    # The maps of a layer and its activations are kept for the gradient.
    each = spec.heads * spec.context * 3 + spec.width * (12 + 3 * spec.mlp)
    memory = 4 * tokens * spec.depth * each // 2**20
    weights = 4 * seeds * spec.depth * (4 + 2 * spec.mlp) * spec.width**2 // 2**20
    memory += weights * (6 + spec.steps // spec.every)
    slower = OF_TEXT if spec.of_tokens else 1
    on_cores = small(Work("token", spec.steps * each_step * slower), memory)
    if not _is_large(spec):
        return on_cores
    whole = on_gpu(Work("token on a GPU", spec.steps * each_step), 8000 + weights, slots=2)
    return replace(whole, on_cores=on_cores)


def _synthetic_tokens_cost(spec: SyntheticTokensSpec, seeds: int) -> Cost:
    return small(Work("program", 2 * len(spec.n) * len(spec.m) * max(1, len(spec.d)) * seeds))


def _random_attention_cost(spec: RandomAttentionSpec, seeds: int) -> Cost:
    layers = seeds * spec.depth * 24 * (spec.width / 64) ** 2 * max(1, spec.tokens / 64)
    return small(Work("random layer", layers))


def _pretrained_cost(spec: PretrainedSpec, seeds: int) -> Cost:
    # Weights of four bytes, some of them twice while they are read, and the maps of a layer.
    billions = parameters_of(spec.model)
    work = Work("pretrained on a GPU", billions)
    memory = 6000 + round(1.3 * 4000 * billions)
    minutes = math.ceil(20 + 10 * billions)
    return Cost(work, memory, minutes, threads=4, gpu_slots=4, group="alone")


def _decoder_states(spec: DecoderSpec, seeds: int) -> float:
    """The weights at each measured step, and the held-out sequences of small tasks."""
    content = getattr(spec.task, "content", CHARACTERS - 3)
    ends = 2 * content + 3 if not spec.of_tokens else 2 * CHARACTERS
    if spec.positions == "learned":
        ends += spec.context
    layer = (4 + 2 * spec.mlp + (spec.attention == "gated")) * spec.width**2
    weights = spec.depth * layer + ends * spec.width
    held_out = 0
    if spec.task.kind != "text":
        numbers = 2 * 8 if spec.of_tokens else 4 * (2 * content + 3)
        held_out = HELD_OUT * spec.context * (numbers + 1)
    return seeds * (4 * weights * (spec.steps // spec.every + 1) + held_out)


def _synthetic_tokens_states(spec: SyntheticTokensSpec, seeds: int) -> float:
    """A table: a row for each pattern of a set of tokens."""
    return 8 * COLUMNS * seeds * 2 * len(spec.n) * max(1, len(spec.d)) * len(spec.m)


def _random_attention_states(spec: RandomAttentionSpec, seeds: int) -> float:
    """A table: a row for each layer of each of 26 networks, and of their start."""
    return 8 * COLUMNS * seeds * 26 * (spec.depth + 1)


def _pretrained_states(spec: PretrainedSpec, seeds: int) -> float:
    """Tables of its probes, which no model here has been measured for."""
    return 5e6


def _is_large(spec: DecoderSpec) -> bool:
    tokens = spec.steps * spec.batch * spec.context
    return spec.of_tokens and tokens * spec.depth * (spec.width / 64) ** 2 >= MANY_TOKENS


def _measuring(spec: DecoderSpec) -> Work:
    return Work("large decoder", 1) if _is_large(spec) else no_work(spec)


KINDS = {
    "decoder": Kind(
        spec=DecoderSpec,
        train="replica.attention.training:train_decoder",
        measure="replica.attention.measures:measure_decoder",
        cost=_decoder_cost,
        states=_decoder_states,
        keeps_networks=lambda spec: spec.task.kind == "text",
        is_large=_is_large,
        seeds_apart=False,
        measuring=_measuring,
    ),
    "synthetic_tokens": Kind(
        spec=SyntheticTokensSpec,
        train="replica.attention.synthetic:train_synthetic_tokens",
        measure="replica.measures.tables:measure_table",
        cost=_synthetic_tokens_cost,
        states=_synthetic_tokens_states,
        keeps_networks=never,
        arrays=True,
    ),
    "random_attention": Kind(
        spec=RandomAttentionSpec,
        train="replica.attention.synthetic:train_random_attention",
        measure="replica.measures.tables:measure_table",
        cost=_random_attention_cost,
        states=_random_attention_states,
        keeps_networks=never,
        arrays=True,
    ),
    "pretrained": Kind(
        spec=PretrainedSpec,
        train="replica.attention.pretrained_runs:train_pretrained",
        measure="replica.measures.tables:measure_table",
        cost=_pretrained_cost,
        states=_pretrained_states,
        keeps_networks=never,
        is_large=lambda spec: True,
        seeds_apart=False,
        arrays=True,
        of_user=True,
    ),
}
