"""What a training job will need, estimated from its specification: time, memory, threads, GPU.

The estimates are generous: a cluster kills what asked for too little, and a second attempt asks
for more. They never enter a result or a key.
"""

import itertools
import math
import re
from dataclasses import dataclass
from typing import Literal

from replica.specs import (
    BedsSpec,
    CertificationSpec,
    DecoderSpec,
    DeepHeadSpec,
    DeepRfmSpec,
    DufmSpec,
    LowDataSpec,
    MixerBackbone,
    MlpBackbone,
    NetworkHeadSpec,
    NoisyClassifierSpec,
    PatchTransformer,
    PretrainedSpec,
    RandomAttentionSpec,
    ResidualNetwork,
    ResidualSpec,
    ResNetClassifier,
    RiskBedSpec,
    RunSpec,
    TokenTransformer,
    TorchvisionBackbone,
    TorchvisionBody,
    TradeoffSpec,
    VitBackbone,
)

# Matrix products of a few dozen columns on one core reach about this; measured on two cores
# of a virtual machine with the runs of the laptop scale.
FLOPS_PER_CORE = {"float32": 4e10, "mixed": 4e10, "float64": 2e10}
SECONDS_PER_STEP = 3e-4
# A forward pass of one noisy image through a small classifier, and a training step of it.
SECONDS_PER_SMALL_PASS = 8e-6
SECONDS_PER_SMALL_STEP = 2e-3
# A training step of a narrow network on 20 images of 8x8 pixels; and, never measured, the pass of
# an image of 224x224 pixels (True) or 32x32 (False) through a large network on a GPU.
SECONDS_PER_LOW_DATA_STEP = 1e-2
SECONDS_PER_LARGE_PASS = {True: 5e-4, False: 2e-4}
# A step of a network of five layers of width 256 on 32 digits, without and with a small body.
SECONDS_PER_HEAD_STEP = {False: 2e-3, True: 1e-2}
# A step of a matrix of width 64 on a position of a sample; never measured, on a GPU, with the time
# in which it starts the products of a matrix.
SECONDS_PER_POSITION = 1e-6
SECONDS_PER_POSITION_ON_GPU = 4e-9
SECONDS_PER_MATRIX_ON_GPU = 2e-4
# A sample on a direction of a grid of classifiers, and a hypothesis under a weight or a sample in
# its tail.
SECONDS_PER_PROJECTION = 1e-7
SECONDS_PER_SCALARIZATION = 2e-8
# An image through a small network of two layers of width 64 and back, and its attack.
SECONDS_PER_TRADEOFF = 2e-6
# The same of ten times as many pixels on a GPU; never measured.
SECONDS_PER_TRADEOFF_ON_GPU = 2e-7
# A token through a layer of width 64 of a decoder and back; the second never measured.
SECONDS_PER_TOKEN = 6e-6
SECONDS_PER_TOKEN_ON_GPU = 3e-8
# Steps times tokens of a step from which decoders are worth a GPU.
MANY_TOKENS = 10_000_000
# Measures of generalization of a small network, and of a ResNet18 for 32x32 images: 113 s a product
# with the Hessian of the loss of 250 images, up to 30 of them.
SECONDS_PER_MEASURE = {False: 1, True: 3600}
# Billions of parameters of models whose names do not say it; the largest for all others.
GPT2_PARAMETERS = {"gpt2": 0.12, "gpt2-medium": 0.35, "gpt2-large": 0.77, "gpt2-xl": 1.6}
LARGEST = 13.0
# Samples of a class from which residual networks are worth a GPU.
MANY_SAMPLES = 1000
# Points of a kernel machine that are worth a GPU.
MANY_POINTS = 10_000
MARGIN = 3
# A job of Slurm carries two Snakemake processes besides the training: 1,225 MB of the smallest one.
BASE_MB = 1600
BASE_MINUTES = 5
GROUPED_BELOW_MINUTES = 10

Group = Literal["short", "gpu", "alone"]


@dataclass(frozen=True)
class Cost:
    """The needs of one job.

    Attributes:
        mem_mb: memory in MB, of all its processes.
        minutes: time, with a margin.
        threads: CPU threads.
        gpu_slots: slots of a GPU; 0 for none, the number of slots of a GPU for the whole of it.
        group: how a cluster may bundle it: `short` ones run one after another in one job, `gpu`
            ones share a GPU, `alone` is a job of its own.
    """

    mem_mb: int
    minutes: int
    threads: int
    gpu_slots: int
    group: Group


def is_large(spec: RunSpec) -> bool:
    """Whether one seed of the run is worth a GPU, or a part of one, and a job of its own."""
    if isinstance(spec, NetworkHeadSpec):
        return not isinstance(spec.backbone, MlpBackbone)
    if isinstance(spec, LowDataSpec):
        network = spec.network
        if isinstance(network, TorchvisionBackbone):
            return True
        if isinstance(network, MixerBackbone | VitBackbone):
            return network.width >= 256
        return max(getattr(network, "widths", [0])) >= 256
    if isinstance(spec, DeepRfmSpec):
        return spec.images > MANY_POINTS
    if isinstance(spec, DeepHeadSpec):
        return isinstance(spec.body, TorchvisionBody) or spec.images > MANY_POINTS
    if isinstance(spec, ResidualSpec):
        return spec.per_class >= MANY_SAMPLES
    if isinstance(spec, DecoderSpec):
        return spec.of_tokens and spec.steps * spec.batch * spec.context >= MANY_TOKENS
    if isinstance(spec, TradeoffSpec):
        return spec.train >= MANY_SAMPLES
    if isinstance(spec, PretrainedSpec):
        return True
    return isinstance(spec, NoisyClassifierSpec) and isinstance(spec.network, ResNetClassifier)


def is_measured_alone(spec: RunSpec) -> bool:
    """Whether networks of the run are so large that their measures are a job of their own."""
    return is_large(spec) and not isinstance(spec, ResidualSpec | TradeoffSpec)


def generalization_cost(parts: list[tuple[RunSpec, int]]) -> Cost:
    """The cost of measuring the networks of some runs, with their numbers of seeds, in one job."""
    seconds, memory = 0.0, BASE_MB + 2000
    for spec, seeds in parts:
        networks = seeds * len(getattr(spec, "grid", [1]))
        if isinstance(spec, LowDataSpec):
            networks *= len(spec.n)
        seconds += networks * SECONDS_PER_MEASURE[is_measured_alone(spec)]
        if is_measured_alone(spec):
            memory = 16_000
    minutes = math.ceil(BASE_MINUTES + MARGIN * seconds / 60)
    return Cost(mem_mb=memory, minutes=minutes, threads=1, gpu_slots=0, group="alone")


def measuring_minutes(spec: RunSpec) -> int:
    """Time for measuring the states of a run, with a margin."""
    return 60 if isinstance(spec, DecoderSpec) and is_large(spec) else 5


def is_split(spec: RunSpec) -> bool:
    """Whether each seed has a job of its own; otherwise all are trained in one."""
    together = ResidualSpec | DecoderSpec | PretrainedSpec | TradeoffSpec
    return is_large(spec) and not isinstance(spec, together)


def certification_cost(spec: CertificationSpec, base: NoisyClassifierSpec, seeds: int) -> Cost:
    """The cost of certifying one slice of the images for `seeds` classifiers in one job."""
    if is_large(base):
        # A forward pass of the largest network on a GPU takes about a millisecond a hundred.
        draws = math.ceil(spec.images / spec.slices) * spec.n
        minutes = math.ceil(30 + MARGIN * draws * 1e-5 * base.network.depth / 110 / 60)
        return Cost(mem_mb=8000, minutes=minutes, threads=4, gpu_slots=1, group="gpu")
    draws = seeds * math.ceil(spec.images / spec.slices) * spec.n
    minutes = math.ceil(BASE_MINUTES + MARGIN * draws * SECONDS_PER_SMALL_PASS / 60)
    return Cost(
        mem_mb=BASE_MB + 600,
        minutes=minutes,
        threads=1,
        gpu_slots=0,
        group="short" if minutes <= GROUPED_BELOW_MINUTES else "alone",
    )


def training_cost(spec: RunSpec, seeds: int) -> Cost:
    """The cost of training `seeds` seeds of a run in one job."""
    if isinstance(spec, LowDataSpec):
        return _low_data_cost(spec, seeds)
    if isinstance(spec, DeepRfmSpec):
        return _deep_rfm_cost(spec, seeds)
    if isinstance(spec, ResidualSpec):
        return _residual_cost(spec, seeds)
    if isinstance(spec, DecoderSpec):
        return _decoder_cost(spec, seeds)
    if isinstance(spec, BedsSpec):
        # The program of 32 tokens takes a tenth of a second, and half of them have fewer.
        programs = 2 * len(spec.n) * len(spec.m) * max(1, len(spec.d)) * seeds
        return _small(MARGIN * programs * 0.1, BASE_MB + 600)
    if isinstance(spec, RandomAttentionSpec):
        work = seeds * spec.depth * 24 * (spec.width / 64) ** 2 * max(1, spec.tokens / 64)
        return _small(MARGIN * work * 2e-3, BASE_MB + 600)
    if isinstance(spec, RiskBedSpec):
        return _risk_bed_cost(spec, seeds)
    if isinstance(spec, TradeoffSpec):
        members, attacks = seeds * len(spec.grid), 1 + spec.attack_steps
        work = members * spec.train * spec.epochs * attacks * max(spec.widths) / 64
        if is_large(spec):
            minutes = math.ceil(30 + MARGIN * work * SECONDS_PER_TRADEOFF_ON_GPU / 60)
            return Cost(mem_mb=8000, minutes=minutes, threads=4, gpu_slots=4, group="alone")
        return _small(MARGIN * work * SECONDS_PER_TRADEOFF, BASE_MB + 2000)
    if isinstance(spec, PretrainedSpec):
        # Weights of four bytes, some of them twice while they are read, and the maps of a layer.
        billions = parameters_of(spec.model)
        memory = 6000 + round(1.3 * 4000 * billions)
        minutes = math.ceil(20 + 10 * billions)
        return Cost(mem_mb=memory, minutes=minutes, threads=4, gpu_slots=4, group="alone")
    if is_large(spec):
        return Cost(mem_mb=8000, minutes=240, threads=4, gpu_slots=1, group="gpu")
    if isinstance(spec, DeepHeadSpec):
        steps = seeds * spec.epochs * spec.images / spec.batch
        seconds = steps * SECONDS_PER_HEAD_STEP[spec.body is not None]
        return _small(MARGIN * seconds, BASE_MB + 600)
    if isinstance(spec, NoisyClassifierSpec):
        steps = seeds * spec.epochs * 2000 / spec.batch
        return _small(MARGIN * steps * SECONDS_PER_SMALL_STEP, BASE_MB + 600)
    if isinstance(spec, DufmSpec):
        members = seeds * len(spec.threshold_ratio or [1])
        members *= len(spec.lambda_w) if isinstance(spec.lambda_w, list) else 1
        columns, steps = spec.K * spec.n, spec.steps
        weights = (spec.L - 1) * spec.width**2 + spec.K * spec.width
        state = members * (spec.width * columns + weights)
        activations = members * (spec.L + 1) * spec.width * columns
    else:
        members, widths = seeds, spec.backbone.widths
        columns = 2000 if spec.per_class is None else 10 * spec.per_class
        steps = spec.epochs
        if spec.batch != "full":
            steps *= math.ceil(columns / spec.batch)
            columns = min(columns, spec.batch)
        weights = sum(a * b for a, b in itertools.pairwise(widths))
        weights += spec.L * spec.width**2
        state = members * weights
        activations = members * (len(widths) + spec.L) * max(widths) * columns
    # Forward, and twice that backward; a product of (a, b) and (b, c) takes 2 a b c.
    flops = 6 * members * weights * columns * steps
    seconds = flops / FLOPS_PER_CORE[spec.precision] + SECONDS_PER_STEP * steps
    threads = 1 if seconds < 1800 else 8
    minutes = math.ceil(BASE_MINUTES + MARGIN * seconds / 60 / (1 if threads == 1 else threads / 2))
    # The measures hold a state and its activations in float64, the run every snapshot.
    mem_mb = BASE_MB + 8 * (state * (spec.snapshots + 6) + 3 * activations) // 2**20
    return Cost(
        mem_mb=int(mem_mb),
        minutes=minutes,
        threads=threads,
        gpu_slots=0,
        group="short" if minutes <= GROUPED_BELOW_MINUTES else "alone",
    )


def _low_data_cost(spec: LowDataSpec, seeds: int) -> Cost:
    passes = sum(spec.steps * spec.batch if spec.steps else spec.epochs * n for n in spec.n)
    if is_large(spec):
        photographs = spec.dataset.startswith("caltech")
        minutes = 30 + MARGIN * seeds * passes * SECONDS_PER_LARGE_PASS[photographs] / 60
        memory = 24_000 if photographs else 8000
        return Cost(mem_mb=memory, minutes=math.ceil(minutes), threads=4, gpu_slots=1, group="gpu")
    # Images of natural scenes have 16 times the pixels of a digit.
    images = 1 if spec.dataset == "digits" else 16
    seconds = seeds * passes / 20 * SECONDS_PER_LOW_DATA_STEP * images * (1 + spec.pairs)
    return _small(MARGIN * seconds, BASE_MB + 600)


def _deep_rfm_cost(spec: DeepRfmSpec, seeds: int) -> Cost:
    """A kernel matrix and a copy of it in use; the products of each layer."""
    # Data have up to 3072 dimensions.
    N, d = spec.images, max(spec.width, 3072 if is_large(spec) else 0)
    bytes_each = 4 if spec.precision == "float32" else 8
    mem_mb = BASE_MB + 600 + (3 * N**2 + 6 * N * d) * bytes_each // 2**20
    flops = seeds * spec.depth * (2 * N**3 + 4 * N**2 * d + 30 * d**3)
    if is_large(spec):
        # At the rate of a GPU without tensor cores; the matrix lies there, not here.
        minutes = math.ceil(30 + MARGIN * flops / 1e13 / 60)
        return Cost(mem_mb=16_000, minutes=minutes, threads=4, gpu_slots=4, group="alone")
    return _small(MARGIN * flops / FLOPS_PER_CORE[spec.precision], mem_mb)


def _residual_cost(spec: ResidualSpec, seeds: int) -> Cost:
    network = spec.network
    # Of CIFAR10 with its classes, the largest.
    samples, positions, matrices = 10 * spec.per_class, 1, network.mlp
    if isinstance(network, PatchTransformer):
        positions = (8 if spec.dataset == "digits" else 32) ** 2 // network.patch**2
    if isinstance(network, TokenTransformer):
        samples, positions = 2 * spec.per_class, network.context
    if not isinstance(network, ResidualNetwork):
        matrices += 2 * network.attention
    batch = samples if spec.batch == "full" else min(spec.batch, samples)
    steps = spec.epochs * math.ceil(samples / batch)
    # The embedding counts as one more.
    matrices = matrices * spec.depth + 1
    work = seeds * batch * positions * matrices * (spec.width / 64) ** 2
    if is_large(spec):
        seconds = work * SECONDS_PER_POSITION_ON_GPU + matrices * SECONDS_PER_MATRIX_ON_GPU
        minutes = math.ceil(30 + MARGIN * steps * seconds / 60)
        return Cost(mem_mb=8000, minutes=minutes, threads=4, gpu_slots=2, group="gpu")
    # A dozen arrays of the size of the features are kept for the gradient, at the end in float64.
    memory = 12 * 8 * seeds * batch * positions * spec.width * matrices // 2**20
    return _small(MARGIN * steps * work * SECONDS_PER_POSITION, BASE_MB + 600 + memory)


def _risk_bed_cost(spec: RiskBedSpec, seeds: int) -> Cost:
    bed = spec.bed
    angles, shares = getattr(bed, "angles", 1), len(getattr(bed, "shares", [1]))
    hypotheses = getattr(bed, "hypotheses", angles * getattr(bed, "offsets", 200))
    # Elsewhere a count is drawn at once.
    sampled = bed.kind in ("gaussian", "flat")
    projections = angles * (2 + spec.signs) * sum(spec.n) if sampled else 0
    scalarized = hypotheses * (5 * spec.scalarizations + 2 * spec.minimised) * len(spec.n)
    tails = 0.0
    if "cvar" in getattr(bed, "objectives", []):
        tails = 2 * bed.tail * hypotheses * sum(spec.n)
    seconds = seeds * shares * (
        projections * SECONDS_PER_PROJECTION
        + (scalarized + tails) * SECONDS_PER_SCALARIZATION
    )  # fmt: skip
    # Scores of the largest sample, the places of the histogram, and what they are made from.
    memory = 40 * angles * max(spec.n) // 2**20 if sampled else 0
    return _small(MARGIN * seconds, BASE_MB + 600 + memory)


def parameters_of(model: str) -> float:
    """Billions of parameters of a pretrained model, from its name: pythia-410m, opt-1.3b."""
    if model in GPT2_PARAMETERS:
        return GPT2_PARAMETERS[model]
    found = re.search(r"([\d.]+)(m|b)$", model)
    return float(found[1]) / (1000 if found[2] == "m" else 1) if found else LARGEST


def _decoder_cost(spec: DecoderSpec, seeds: int) -> Cost:
    tokens = seeds * spec.batch * spec.context
    work = tokens * spec.depth * (spec.width / 64) * max(1, spec.width / 128)
    # The maps of a layer and its activations are kept for the gradient.
    each = spec.heads * spec.context * 3 + spec.width * (12 + 3 * spec.mlp)
    memory = 4 * tokens * spec.depth * each // 2**20
    weights = 4 * seeds * spec.depth * (4 + 2 * spec.mlp) * spec.width**2 // 2**20
    memory += weights * (6 + spec.steps // spec.every)
    if is_large(spec):
        minutes = math.ceil(30 + MARGIN * spec.steps * work * SECONDS_PER_TOKEN_ON_GPU / 60)
        return Cost(mem_mb=8000 + weights, minutes=minutes, threads=4, gpu_slots=2, group="gpu")
    seconds = spec.steps * work * SECONDS_PER_TOKEN
    return _small(MARGIN * seconds, BASE_MB + 600 + memory)


def _small(seconds: float, mem_mb: int) -> Cost:
    """A job of one thread without a GPU."""
    minutes = math.ceil(BASE_MINUTES + seconds / 60)
    group = "short" if minutes <= GROUPED_BELOW_MINUTES else "alone"
    return Cost(mem_mb=mem_mb, minutes=minutes, threads=1, gpu_slots=0, group=group)
