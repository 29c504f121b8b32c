"""What a training job will need, estimated from its specification: time, memory, threads, GPU.

What is asked for is generous: a cluster kills what asked for too little, and a second attempt asks
for more. The time that is expected follows from the work of a job, an amount of one kind, and from
the seconds of a unit of that kind. They never enter a result or a key.
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

# Seconds of one unit of work of each kind; on one core unless it says that it is on a GPU. Those on
# a core were measured on a virtual machine with the runs of the laptop scale, those on a GPU are
# guesses; `make bench` measures them on another machine (see replica.estimates).
SECONDS = {
    # Operations of matrix products of a few dozen columns, of kernel matrices and factorisations.
    # No laptop run has stacks in float64 or kernels in float32: half and twice the other precision.
    "stack in float32": 1 / 8e10,
    "stack in float64": 1 / 4e10,
    "kernel in float32": 1 / 1.2e11,
    "kernel in float64": 1 / 6e10,
    # A GPU without tensor cores.
    "kernel on a GPU": 1 / 1e13,
    # A forward pass of one noisy image through a small classifier, and a training step of it; on a
    # GPU a pass through a ResNet110.
    "noisy pass": 2e-6,
    "noisy pass on a GPU": 1e-5,
    "noisy step": 9e-4,
    # A training step of a narrow network on 20 images of 8x8 pixels.
    "low-data step": 2.5e-3,
    # The pass of a training image of 32x32 or 224x224 pixels through a large network.
    "image on a GPU": 2e-4,
    "photograph on a GPU": 5e-4,
    # A step of a network of five layers of width 256 on 32 digits, without and with a small body.
    "head step": 1.8e-3,
    "body step": 5e-3,
    # A step of a matrix of width 64 on a position of a sample.
    "position": 4e-7,
    "position on a GPU": 4e-9,
    # A token through a layer of width 64 of a decoder and back.
    "token": 4.5e-6,
    "token on a GPU": 3e-8,
    # The program of 32 tokens that finds a bed's weights; half of the programs have fewer.
    "program": 2e-3,
    # A layer of width 64 of a random network of 64 tokens.
    "random layer": 1e-3,
    # A hypothesis under a weight, or a sample in its tail; of grids a sample on a direction too.
    "scalarization": 6e-9,
    # An image through a small network of two layers of width 64 and back, and its attack; on a GPU
    # with ten times as many pixels.
    "trade-off": 9e-7,
    "trade-off on a GPU": 2e-7,
    # A billion parameters of a pretrained model, in all its probes.
    "pretrained on a GPU": 200,
    # Measures of generalization of a small network, and of a ResNet18 for 32x32 images: 113 s a
    # product with the Hessian of the loss of 250 images, up to 30 of them.
    "small network": 0.3,
    "large network": 3600,
    # The measures of a decoder that was worth a GPU; those of other runs take what the start takes.
    "large decoder": 1200,
    # The files of a job, and the whole of measures, tables, drawings and verdicts. A job with an
    # interpreter of its own, as on a cluster, imports for two seconds more.
    "start": 1,
}
# The time in which a step of a stack is started, in operations.
OPERATIONS_PER_STEP = {"stack in float32": 1.2e7, "stack in float64": 6e6}
# The time in which a GPU starts the products of a matrix, in positions.
POSITIONS_PER_MATRIX = 50_000
# A sample on a direction, in scalarizations.
SCALARIZATIONS_PER_PROJECTION = 5
# Training images of the data sets of large networks: CIFAR10.
IMAGES = 50_000
# Steps times tokens of a step from which decoders are worth a GPU.
MANY_TOKENS = 10_000_000
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
BASE_MINUTES_ON_GPU = 30
GROUPED_BELOW_MINUTES = 10

Group = Literal["short", "gpu", "alone"]


@dataclass(frozen=True)
class Work:
    """What a job computes.

    Attributes:
        kind: a key of `SECONDS`.
        amount: units of it.
    """

    kind: str
    amount: float

    @property
    def seconds(self) -> float:
        """The time that it takes at the stated rate, without the start of the job."""
        return self.amount * SECONDS[self.kind]


@dataclass(frozen=True)
class Cost:
    """The needs of one job.

    Attributes:
        work: what it computes.
        mem_mb: memory in MB, of all its processes.
        minutes: time, with a margin.
        threads: CPU threads.
        gpu_slots: slots of a GPU; 0 for none, the number of slots of a GPU for the whole of it.
        group: how a cluster may bundle it: `short` ones run one after another in one job, `gpu`
            ones share a GPU, `alone` is a job of its own.
    """

    work: Work
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
    networks = 0
    for spec, seeds in parts:
        size = len(spec.n) if isinstance(spec, LowDataSpec) else 1
        networks += seeds * len(getattr(spec, "grid", [1])) * size
    # A large network is measured alone.
    large = any(is_measured_alone(spec) for spec, _ in parts)
    work = Work("large network" if large else "small network", networks)
    memory = 16_000 if large else BASE_MB + 2000
    return Cost(work, memory, _asked(work.seconds), threads=1, gpu_slots=0, group="alone")


def measuring_work(spec: RunSpec) -> Work:
    """The work of measuring the states of a run."""
    large = isinstance(spec, DecoderSpec) and is_large(spec)
    return Work("large decoder", 1) if large else Work("start", 0)


def measuring_minutes(spec: RunSpec) -> int:
    """Time for measuring the states of a run, with a margin."""
    return max(5, math.ceil(MARGIN * measuring_work(spec).seconds / 60))


def is_split(spec: RunSpec) -> bool:
    """Whether each seed has a job of its own; otherwise all are trained in one."""
    together = ResidualSpec | DecoderSpec | PretrainedSpec | TradeoffSpec
    return is_large(spec) and not isinstance(spec, together)


def certification_cost(spec: CertificationSpec, base: NoisyClassifierSpec, seeds: int) -> Cost:
    """The cost of certifying one slice of the images for `seeds` classifiers in one job."""
    if is_large(base):
        draws = math.ceil(spec.images / spec.slices) * spec.n
        return _on_gpu(Work("noisy pass on a GPU", draws * base.network.depth / 110), 8000)
    draws = seeds * math.ceil(spec.images / spec.slices) * spec.n
    return _small(Work("noisy pass", draws))


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
        return _small(Work("program", 2 * len(spec.n) * len(spec.m) * max(1, len(spec.d)) * seeds))
    if isinstance(spec, RandomAttentionSpec):
        layers = seeds * spec.depth * 24 * (spec.width / 64) ** 2 * max(1, spec.tokens / 64)
        return _small(Work("random layer", layers))
    if isinstance(spec, RiskBedSpec):
        return _risk_bed_cost(spec, seeds)
    if isinstance(spec, TradeoffSpec):
        members, attacks = seeds * len(spec.grid), 1 + spec.attack_steps
        amount = members * spec.train * spec.epochs * attacks * max(spec.widths) / 64
        if is_large(spec):
            return _on_gpu(Work("trade-off on a GPU", amount), 8000, slots=4, group="alone")
        return _small(Work("trade-off", amount), 1400)
    if isinstance(spec, PretrainedSpec):
        # Weights of four bytes, some of them twice while they are read, and the maps of a layer.
        billions = parameters_of(spec.model)
        work = Work("pretrained on a GPU", billions)
        memory = 6000 + round(1.3 * 4000 * billions)
        minutes = math.ceil(20 + 10 * billions)
        return Cost(work, memory, minutes, threads=4, gpu_slots=4, group="alone")
    if is_large(spec):
        images = spec.images if isinstance(spec, DeepHeadSpec) else IMAGES
        work = Work("image on a GPU", seeds * spec.epochs * images)
        # The same for all of them, whose expected times are guesses.
        return Cost(work, mem_mb=8000, minutes=240, threads=4, gpu_slots=1, group="gpu")
    if isinstance(spec, DeepHeadSpec):
        steps = seeds * spec.epochs * spec.images / spec.batch
        return _small(Work("head step" if spec.body is None else "body step", steps))
    if isinstance(spec, NoisyClassifierSpec):
        return _small(Work("noisy step", seeds * spec.epochs * 2000 / spec.batch))
    return _stack_cost(spec, seeds)


def _stack_cost(spec: DufmSpec | NetworkHeadSpec, seeds: int) -> Cost:
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
    kind = "stack in float64" if spec.precision == "float64" else "stack in float32"
    # Forward, and twice that backward; a product of (a, b) and (b, c) takes 2 a b c.
    operations = (6 * members * weights * columns + OPERATIONS_PER_STEP[kind]) * steps
    threads = 1 if operations * SECONDS[kind] < 900 else 8
    # Eight threads are worth four.
    work = Work(kind, operations / (1 if threads == 1 else threads / 2))
    # The measures hold a state and its activations in float64, the run every snapshot.
    memory = BASE_MB + 8 * (state * (spec.snapshots + 6) + 3 * activations) // 2**20
    minutes = _asked(work.seconds)
    return Cost(work, int(memory), minutes, threads, gpu_slots=0, group=_group(minutes))


def _low_data_cost(spec: LowDataSpec, seeds: int) -> Cost:
    passes = sum(spec.steps * spec.batch if spec.steps else spec.epochs * n for n in spec.n)
    if is_large(spec):
        photographs = spec.dataset.startswith("caltech")
        kind = "photograph on a GPU" if photographs else "image on a GPU"
        return _on_gpu(Work(kind, seeds * passes), 24_000 if photographs else 8000)
    # Images of natural scenes have 16 times the pixels of a digit.
    images = 1 if spec.dataset == "digits" else 16
    return _small(Work("low-data step", seeds * passes / 20 * images * (1 + spec.pairs)))


def _deep_rfm_cost(spec: DeepRfmSpec, seeds: int) -> Cost:
    """A kernel matrix and a copy of it in use; the products of each layer."""
    # Data have up to 3072 dimensions.
    N, d = spec.images, max(spec.width, 3072 if is_large(spec) else 0)
    bytes_each = 4 if spec.precision == "float32" else 8
    memory = (3 * N**2 + 6 * N * d) * bytes_each // 2**20
    operations = seeds * spec.depth * (2 * N**3 + 4 * N**2 * d + 30 * d**3)
    if is_large(spec):
        # The matrix lies there, not here.
        return _on_gpu(Work("kernel on a GPU", operations), 16_000, slots=4, group="alone")
    return _small(Work(f"kernel in {spec.precision}", operations), memory)


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
    amount = seeds * batch * positions * matrices * (spec.width / 64) ** 2
    if is_large(spec):
        amount += matrices * POSITIONS_PER_MATRIX
        return _on_gpu(Work("position on a GPU", steps * amount), 8000, slots=2)
    # A dozen arrays of the size of the features are kept for the gradient, at the end in float64.
    memory = 12 * 8 * seeds * batch * positions * spec.width * matrices // 2**20
    return _small(Work("position", steps * amount), memory)


def _risk_bed_cost(spec: RiskBedSpec, seeds: int) -> Cost:
    bed = spec.bed
    angles, shares = getattr(bed, "angles", 1), len(getattr(bed, "shares", [1]))
    hypotheses = getattr(bed, "hypotheses", angles * getattr(bed, "offsets", 200))
    # Elsewhere a count is drawn at once.
    sampled = bed.kind in ("gaussian", "flat")
    # Scores that are sorted count twice.
    passes = 2 + spec.signs + 2 * ("cvar" in getattr(bed, "objectives", []))
    projections = angles * passes * sum(spec.n) if sampled else 0
    scalarized = hypotheses * (5 * spec.scalarizations + 2 * spec.minimised) * len(spec.n)
    projected = SCALARIZATIONS_PER_PROJECTION * projections
    work = Work("scalarization", seeds * shares * (projected + scalarized))
    # Scores of the largest sample, the places of the histogram, and what they are made from.
    return _small(work, 40 * angles * max(spec.n) // 2**20 if sampled else 0)


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
    if is_large(spec):
        return _on_gpu(Work("token on a GPU", spec.steps * each_step), 8000 + weights, slots=2)
    return _small(Work("token", spec.steps * each_step), memory)


def _small(work: Work, more_mb: int = 0) -> Cost:
    """A job of one thread without a GPU, and its memory above that of the smallest."""
    minutes = _asked(work.seconds)
    return Cost(work, BASE_MB + 600 + more_mb, minutes, 1, gpu_slots=0, group=_group(minutes))


def _on_gpu(work: Work, mem_mb: int, slots: int = 1, group: Group = "gpu") -> Cost:
    minutes = math.ceil(BASE_MINUTES_ON_GPU + MARGIN * work.seconds / 60)
    return Cost(work, mem_mb, minutes, threads=4, gpu_slots=slots, group=group)


def _asked(seconds: float) -> int:
    """Minutes that a job without a GPU asks for."""
    return math.ceil(BASE_MINUTES + MARGIN * seconds / 60)


def _group(minutes: int) -> Group:
    return "short" if minutes <= GROUPED_BELOW_MINUTES else "alone"
