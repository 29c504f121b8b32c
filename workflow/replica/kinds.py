"""Kinds of runs: which functions make and measure their states, and which data they read.

Functions are named as `module:function`: the plan imports none of them, and where one stands is in
no key.
"""

from typing import Any

from replica.specs import RunSpec

# By kind of run: the function that makes its states, and the one that measures them.
FUNCTIONS = {
    "dufm": ("replica.training.runs:train_dufm", "replica.measures.runs:measure_dufm"),
    "network_head": (
        "replica.training.runs:train_network_head",
        "replica.measures.runs:measure_network_head",
    ),
    "noisy_classifier": (
        "replica.smoothing.classifiers:train_noisy_classifier",
        "replica.smoothing.classifiers:measure_noisy_classifier",
    ),
    "certification": (
        "replica.smoothing.certification:certify",
        "replica.smoothing.certification:measure_certification",
    ),
    "low_data": (
        "replica.lowdata.training:train_low_data",
        "replica.lowdata.accuracy:measure_low_data",
    ),
    "deep_rfm": (
        "replica.kernels.deep_rfm:train_deep_rfm",
        "replica.kernels.metrics:measure_deep_rfm",
    ),
    "deep_head": (
        "replica.kernels.deep_heads:train_deep_head",
        "replica.kernels.metrics:measure_deep_head",
    ),
    "residual": (
        "replica.residual.training:train_residual",
        "replica.residual.metrics:measure_residual",
    ),
    "decoder": (
        "replica.attention.training:train_decoder",
        "replica.attention.measures:measure_decoder",
    ),
    "beds": ("replica.attention.beds:train_beds", "replica.measures.tables:measure_table"),
    "random_attention": (
        "replica.attention.beds:train_random_attention",
        "replica.measures.tables:measure_table",
    ),
    "pretrained": (
        "replica.attention.probing:train_pretrained",
        "replica.measures.tables:measure_table",
    ),
    "risk_bed": (
        "replica.multiobjective.simulation:train_risk_bed",
        "replica.measures.tables:measure_table",
    ),
    "tradeoffs": (
        "replica.multiobjective.networks:train_tradeoffs",
        "replica.multiobjective.tradeoffs:measure_tradeoffs",
    ),
}
# Kinds whose measures need no torch.
READ_AS_ARRAYS = frozenset(
    ["low_data", "deep_rfm", "deep_head", "beds", "random_attention", "pretrained", "risk_bed",
     "tradeoffs"]
)  # fmt: skip
ROUND = "replica.lowdata.training:train_round"
# The settings of a run that name a data set, its images first.
DATASETS = ("dataset", "weights", "corrupted")


def makes(spec: RunSpec) -> str:
    """The function that makes the states of a run; that of a stage where it learns actively."""
    return ROUND if getattr(spec, "active", None) else FUNCTIONS[spec.kind][0]


def measures(spec: RunSpec) -> str:
    """The function that measures the states of a run."""
    return FUNCTIONS[spec.kind][1]


def reader(spec: RunSpec) -> str:
    """The function of `replica.artifacts` that reads the states of a run for measuring them."""
    return "read_arrays" if spec.kind in READ_AS_ARRAYS else "read_tensors"


def measured_only(spec: RunSpec) -> frozenset[str]:
    """The settings of a run that only its measures read: they train nothing again."""
    return getattr(spec, "MEASURED", frozenset())


def training_settings(spec: RunSpec) -> dict[str, Any]:
    """The settings of a run without what only its measures read."""
    return spec.model_dump(mode="json", exclude=measured_only(spec))


def datasets_of(spec: RunSpec) -> list[str]:
    """The data sets that a run names, its images first."""
    named = [getattr(spec, key, None) for key in DATASETS]
    return [name for name in named if name]
