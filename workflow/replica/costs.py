"""What a job needs, estimated: work, time, memory, threads, GPU.

Requests are generous: a cluster kills a job that exceeds its request, and a second attempt requests
more. The time that is expected follows from the work of a job, an amount of one kind, and from
the seconds of a unit of that kind. How much work a run is stands beside its specification, in
`replica.kinds`. None of it ever enters a result or a key.
"""

import math
from dataclasses import dataclass
from typing import Literal

# Seconds of one unit of work of each kind; on one core unless it says that it is on a GPU. Those on
# a core were measured on a virtual machine with the runs of the laptop scale, those on a GPU are
# guesses unless they name a source; `make bench` measures them on another machine (see
# replica.estimates).
SECONDS_PER_UNIT = {
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
    # Without a GPU: an image of 32x32 pixels through a ResNet20, and through it and back, in
    # float32, and where the processor is fast in it in bfloat16 (a Zen 5, both cores busy).
    "residual pass": 7e-4,
    "residual pass in bfloat16": 3e-4,
    "residual image": 2.9e-3,
    "residual image in bfloat16": 1.1e-3,
    # A training step of a narrow network on 20 images of 8x8 pixels.
    "low-data step": 2.5e-3,
    # An operation of convolutions of 64 filters and more, in float32, and the same in bfloat16.
    "convolution": 1 / 1.1e11,
    "convolution in bfloat16": 1 / 3.3e11,
    # A training image of 32x32 pixels through a ResNet18 and back in bfloat16: twice what the usual
    # training takes on an A100, 7 minutes for 32.3e15 operations (README of cifar10-airbench).
    "image on a GPU": 8.7e-5,
    # A step of a network of five layers of width 256 on 32 digits, without and with a small body.
    "head step": 1.8e-3,
    "body step": 5e-3,
    # The same without a body on a GPU: some hundred kernels, whatever their batch and width.
    "head step on a GPU": 2e-3,
    # A step of a matrix of width 64 on a position of a sample. A GPU moves 5 to 9 kB for it, at
    # half of the memory bandwidth of an H200, 4.8 TB/s.
    "position": 4e-7,
    "position on a GPU": 4e-9,
    # A token through a layer of width 64 of a decoder and back.
    "token": 4.5e-6,
    "token on a GPU": 3e-8,
    # The program of 32 tokens that finds the weights of a pattern; half of the programs have fewer.
    "program": 2e-3,
    # A layer of width 64 of a random network of 64 tokens.
    "random layer": 1e-3,
    # A hypothesis under a weight, or a sample in its tail; of grids a sample on a direction too.
    "scalarization": 6e-9,
    # An image through a small network of two layers of width 64 and back, and its attack; on a GPU
    # with ten times as many pixels.
    "trade-off": 9e-7,
    "trade-off of 784 pixels": 3.3e-6,
    "trade-off on a GPU": 2e-7,
    # A billion parameters of a pretrained model, in all its probes.
    "pretrained on a GPU": 200,
    # Measures of generalization of a small network, and of a ResNet18 for 32x32 images: 113 s a
    # product with the Hessian of the loss of 250 images, up to 30 of them.
    "small network": 0.3,
    "large network": 3600,
    # On a GPU: passes of 16 images, which take what their start takes, and on the CPU beside it the
    # vectors of the Lanczos iteration and the singular values of the kernels.
    "large network on a GPU": 90,
    # The measures of a decoder that was worth a GPU; those of other runs take what the start takes.
    "large decoder": 1200,
    # The files of a job, and the whole of measures, tables, drawings and verdicts. A job with an
    # interpreter of its own, as on a cluster, imports for two seconds more.
    "start": 1,
}
# Training images of the data sets of large networks: CIFAR10.
IMAGES = 50_000
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
        kind: a key of `SECONDS_PER_UNIT`.
        amount: units of it.
    """

    kind: str
    amount: float

    @property
    def seconds(self) -> float:
        """The time that it takes at the stated rate, without the start of the job."""
        return self.amount * SECONDS_PER_UNIT[self.kind]


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
        on_cores: what a job with a GPU needs where it is to do without.
    """

    work: Work
    mem_mb: int
    minutes: int
    threads: int
    gpu_slots: int
    group: Group
    on_cores: "Cost | None" = None


def small(work: Work, more_mb: int = 0) -> Cost:
    """A job of one thread without a GPU, and its memory above that of the smallest."""
    minutes = asked(work.seconds)
    return Cost(work, BASE_MB + 600 + more_mb, minutes, 1, gpu_slots=0, group=bundled(minutes))


def on_gpu(work: Work, mem_mb: int, slots: int = 1, group: Group = "gpu") -> Cost:
    """A job with some slots of a GPU, and memory beside it."""
    minutes = math.ceil(BASE_MINUTES_ON_GPU + MARGIN * work.seconds / 60)
    return Cost(work, mem_mb, minutes, threads=4, gpu_slots=slots, group=group)


def several_on_a_gpu(work: Work) -> Cost:
    """Networks of a medium size, the same for all of them, whose expected times are guesses."""
    return Cost(work, mem_mb=8000, minutes=240, threads=4, gpu_slots=1, group="gpu")


def asked(seconds: float) -> int:
    """Minutes that a job without a GPU requests."""
    return math.ceil(BASE_MINUTES + MARGIN * seconds / 60)


def bundled(minutes: int) -> Group:
    """How a cluster may bundle a job without a GPU."""
    return "short" if minutes <= GROUPED_BELOW_MINUTES else "alone"
