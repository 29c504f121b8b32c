"""Kinds of runs: one module a family, one record a kind, one table of them all.

A new kind is a module here, or an entry in one, with the functions that it names; nothing else in
the project knows kinds by name.
"""

import math
from dataclasses import replace
from typing import Any

from replica.costs import BASE_MB, MARGIN, Cost, Work, asked, on_gpu
from replica.kinds import (
    attention,
    features,
    kernels,
    low_data,
    multiobjective,
    residual,
    smoothing,
)
from replica.kinds.attention import (
    DecoderSpec,
    PretrainedSpec,
    RandomAttentionSpec,
    SyntheticTokensSpec,
)
from replica.kinds.base import Kind
from replica.kinds.features import DufmSpec, NetworkHeadSpec
from replica.kinds.kernels import DeepRfmSpec, ObservedNetworkSpec
from replica.kinds.low_data import LowDataSpec
from replica.kinds.multiobjective import SyntheticRisksSpec, TradeoffSpec
from replica.kinds.residual import ResidualSpec
from replica.kinds.smoothing import CertificationSpec, NoisyClassifierSpec

RunSpec = (
    DufmSpec
    | NetworkHeadSpec
    | NoisyClassifierSpec
    | CertificationSpec
    | LowDataSpec
    | DeepRfmSpec
    | ObservedNetworkSpec
    | ResidualSpec
    | DecoderSpec
    | SyntheticTokensSpec
    | RandomAttentionSpec
    | PretrainedSpec
    | SyntheticRisksSpec
    | TradeoffSpec
)
KINDS: dict[str, Kind] = {
    **features.KINDS,
    **smoothing.KINDS,
    **low_data.KINDS,
    **kernels.KINDS,
    **residual.KINDS,
    **attention.KINDS,
    **multiobjective.KINDS,
}
# The settings of a run that name a data set, its images first.
DATASETS = ("dataset", "weights", "corrupted")


def makes(spec: RunSpec) -> str:
    """The function that makes the states of a run; that of a stage where it learns actively."""
    return low_data.ROUND if getattr(spec, "active", None) else KINDS[spec.kind].train


def measures(spec: RunSpec) -> str:
    """The function that measures the states of a run."""
    return KINDS[spec.kind].measure


def reader(spec: RunSpec) -> str:
    """The function of `replica.artifacts` that reads the states of a run for measuring them."""
    return "read_arrays" if KINDS[spec.kind].arrays else "read_tensors"


def rule(spec: RunSpec) -> str:
    """The rule that makes the states of a run."""
    return "train_round" if getattr(spec, "active", None) else KINDS[spec.kind].rule


def measured_only(spec: RunSpec) -> set[str]:
    """The settings of a run that only its measures read: they train nothing again."""
    return {*getattr(spec, "MEASURED", ())}


def training_settings(spec: RunSpec) -> dict[str, Any]:
    """The settings of a run without what only its measures read."""
    return spec.model_dump(mode="json", exclude=measured_only(spec))


def datasets_of(spec: RunSpec) -> list[str]:
    """The data sets that a run names, its images first."""
    named = [getattr(spec, key, None) for key in DATASETS]
    return [name for name in named if name]


def keeps_networks(spec: RunSpec) -> bool:
    """Whether the states of a run hold whole networks, and there are test samples for them."""
    return KINDS[spec.kind].keeps_networks(spec)


def is_large(spec: RunSpec) -> bool:
    """Whether one seed of a run is worth a GPU, or a part of one."""
    return KINDS[spec.kind].is_large(spec)


def is_split(spec: RunSpec) -> bool:
    """Whether each seed has a job of its own; otherwise all are trained in one."""
    return KINDS[spec.kind].seeds_apart and is_large(spec)


def is_measured_alone(spec: RunSpec) -> bool:
    """Whether networks of a run are so large that their measures are a job of their own."""
    return KINDS[spec.kind].measured_alone and is_large(spec)


def training_cost(spec: RunSpec, seeds: int, base: NoisyClassifierSpec | None = None) -> Cost:
    """The cost of training `seeds` seeds of a run in one job, or of certifying those of `base`."""
    cost = KINDS[spec.kind].cost
    return cost(spec, seeds) if base is None else cost(spec, seeds, base)


def states_size(spec: RunSpec, seeds: int, base: NoisyClassifierSpec | None = None) -> float:
    """The size in bytes of the states of `seeds` seeds, or of the counts of those of `base`."""
    states = KINDS[spec.kind].states
    return states(spec, seeds) if base is None else states(spec, seeds, base)


def measuring_work(spec: RunSpec) -> Work:
    """The work of measuring the states of a run."""
    return KINDS[spec.kind].measuring(spec)


def measuring_minutes(spec: RunSpec) -> int:
    """Time for measuring the states of a run, with a margin."""
    return max(5, math.ceil(MARGIN * measuring_work(spec).seconds / 60))


def generalization_cost(parts: list[tuple[RunSpec, int]]) -> Cost:
    """The cost of measuring the networks of some runs, with their numbers of seeds, in one job."""
    networks, size = 0, 0.0
    for spec, seeds in parts:
        # A run may have a network for each of several numbers of labels, or of a grid.
        count = len(spec.n) if spec.kind == "low_data" else 1
        networks += seeds * len(getattr(spec, "grid", [1])) * count
        # A large network is measured alone.
        if is_measured_alone(spec):
            size = KINDS[spec.kind].relative_size(spec)
    work = Work("large network", networks * size) if size else Work("small network", networks)
    memory = max(BASE_MB + 2000, round(16_000 * size))
    cost = Cost(work, memory, asked(work.seconds), threads=1, gpu_slots=0, group="alone")
    if not size:
        return cost
    work = Work("large network on a GPU", networks * size)
    return replace(on_gpu(work, memory), on_cores=cost)
