"""What is run on both devices: runs of the smoke scale, each kind at least once."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from replica import artifacts, kinds, provenance
from replica.data.prepare import prepare_dataset
from replica.generalization.on_gpu import measure_large_networks
from replica.plan import Part, Plan, make_plan
from replica.smoothing.certification import Base, certify
from replica.training.checkpoint import Checkpoint
from replica.training.devices import compile_where_possible
from replica.training.jobs import Job

RESNET20 = {"kind": "resnet", "depth": 20}
# The smoke scale has small networks in float32; what a GPU is for comes in here.
OVERRIDES: dict[str, dict[str, dict[str, Any]]] = {
    "dufm": {
        "rec_threshold": {"steps": 100},
        "rec_backbone": {"backbone": {"kind": "resnet20"}, "epochs": 3, "batch": 100, "lr": 0.0005},
    },
    "low_rank": {"fig2_bottom": {"epochs": 10}},
    "idrs": {
        "base": {"epochs": 2},
        # Crops are drawn from the stream of the noise, which goes another way on a GPU.
        "base_extra": {"network": RESNET20, "epochs": 1, "batch": 200, "padding": 0, "lr": 0.001},
        "base_mnist": {"network": RESNET20, "precision": "mixed", "epochs": 1, "batch": 200},
        "constant": {"images": 10},
        "knn_by_image": {"images": 10},
        "ascent": {"images": 10},
        "constant_mnist": {"images": 4, "n": 400},
    },
    "fc_low_data": {"plain": {"precision": "mixed"}},
    "agop": {
        "cos": {"precision": "float32"},
        "resnet": {
            "body": {"kind": "torchvision", "name": "resnet18"}, "epochs": 1, "lr": 0.001,
        },
    },
}  # fmt: skip
# Distillation, and training on unlabelled images.
EXTRAS = ["optional_kd", "optional_fixmatch"]


@dataclass(frozen=True)
class Case:
    """A run, and how far its results on two devices may be apart.

    Attributes:
        study, run: names; the first part of the run is meant, or its chain of stages.
        limit: of `difference`.
        drawn: whether noise is drawn on the device, which makes other numbers on each: then the
            limit is that of `distance`.
    """

    study: str
    run: str
    limit: float
    drawn: bool = False

    @property
    def name(self) -> str:
        """As rows and messages call it."""
        return f"{self.study} {self.run}"


# Rounding errors of float32, put into the products of these runs on a processor, end at a sixth of
# the limit (fixmatch), at a twentieth (training of stacks and deep networks), or far below.
CASES = [
    Case("dufm", "rec_threshold-L3", 1e-2),
    Case("dufm", "rec_backbone", 5e-2),
    Case("low_rank", "fig2_bottom", 1e-2),
    Case("idrs", "base_extra-sigma0.0", 1e-2),
    Case("idrs", "base-sigma0.25", 0.3, drawn=True),
    Case("idrs", "base_mnist-sigma0.25", 0.3, drawn=True),
    Case("idrs", "constant-sigma_b0.25", 5, drawn=True),
    Case("idrs", "knn_by_image", 5, drawn=True),
    Case("idrs", "ascent", 5, drawn=True),
    Case("idrs", "constant_mnist-sigma_b0.25", 5, drawn=True),
    Case("fc_low_data", "fr", 0.06),
    Case("fc_low_data", "plain", 0.3),
    Case("fc_low_data", "vit", 0.06),
    Case("fc_low_data", "mixer", 0.06),
    Case("fc_low_data", "llal", 0.06),
    Case("fc_low_data", "core_set", 0.06),
    Case("fc_low_data", "kd", 0.06),
    Case("fc_low_data", "dml", 0.06),
    Case("fc_low_data", "kdcl", 0.06),
    Case("fc_low_data", "fixmatch", 0.3),
    Case("agop", "relu", 1e-6),
    Case("agop", "cos-agop_normmean", 2e-2),
    Case("agop", "mlp", 1e-2),
    Case("agop", "resnet", 1e-2),
    Case("depth", "rn2_mnist-depth2", 1e-2),
    Case("depth", "t11_cifar10-depth2", 1e-2),
    Case("depth", "t11_imdb-depth2", 1e-2),
    Case("sinks", "lm", 1e-2),
    Case("sinks", "tc-attentionsoftmax", 1e-2),
    Case("sinks", "tokens_r", 1e-6),
    Case("sinks", "random_networks", 1e-6),
    Case("mol", "networks", 2e-2),
    Case("mol", "front_ties", 1e-6),
]


def smoke_plan(root: Path) -> Plan:
    """The plan that the runs are taken from."""
    return make_plan(root, {"scale": "smoke", "overrides": OVERRIDES, "extras": EXTRAS})


def parts_of(plan: Plan, case: Case) -> list[Part]:
    """The jobs of a case in their order: one, or one for each stage of active learning."""
    found = [part for (study, run, _), part in plan.parts.items()
             if (study, run) == (case.study, case.run)]  # fmt: skip
    return [part for part in found if part.seeds == found[0].seeds and part.slice == 0]


@dataclass(frozen=True)
class Made:
    """What a job leaves: its states, and for the next stage the labelled sets."""

    states: dict[str, Tensor]
    labelled: Any = None


class Jobs:
    """Runs jobs of a plan on a device, as the scripts of its rules do.

    What a job starts from is always made on the processor, so that two devices start alike.
    """

    def __init__(self, plan: Plan, data: Path, folder: Path) -> None:
        """
        Args:
            plan: of `smoke_plan`.
            data: folder of the prepared data sets.
            folder: for what is written meanwhile.
        """
        self.plan, self.data, self.folder = plan, data, folder
        self._on_cpu: dict[tuple[str, str, str], Made] = {}

    def card(self, name: str) -> Path:
        """The card of an embedded data set, which is prepared where it is not yet."""
        folder = self.data / "prepared" / name
        if not (folder / "card.json").exists():
            folder.mkdir(parents=True, exist_ok=True)
            key = self.plan.key("dataset", name)
            return prepare_dataset(self.plan.registry[name], folder, folder, key)
        return folder / "card.json"

    def on_cpu(self, part: Part) -> Made:
        """What a job leaves that is run on the processor, once."""
        key = (part.study, part.run, part.part)
        if key not in self._on_cpu:
            self._on_cpu[key] = self.run(part, torch.device("cpu"))
        return self._on_cpu[key]

    def run(self, part: Part, device: torch.device, checkpoint: Checkpoint | None = None) -> Made:
        """What a job leaves, as it is read back from its file."""
        compile_where_possible(device)
        cards = {name: self.card(name) for name in part.datasets}
        before, start = part.previous_stage, part.starts_from
        states = None if start is None else self.on_cpu(start).states
        job = Job(
            study=part.study,
            run=part.run,
            seeds=part.seeds,
            checkpoint=checkpoint or Checkpoint(None),
            device=device,
            threads=torch.get_num_threads(),
            card=next(iter(cards.values()), None),
            cards=cards,
            start=states,
        )
        labelled = None
        if part.rule == "certify":
            assert start is not None and states is not None and part.classifier is not None
            found = certify(part.spec, job, Base(part.classifier, states), part.slice)  # type: ignore[arg-type]
        elif part.rule == "train_round":
            chosen = None if before is None else self.on_cpu(before).labelled
            result, labelled = self._function(part)(part.spec, job, part.stage, chosen)
            found = result.states
        else:
            found = self._function(part)(part.spec, job).states
        path = self.folder / "states.safetensors"
        artifacts.write_tensors(path, found, {})
        return Made(artifacts.read_tensors(path)[0], labelled)

    @staticmethod
    def _function(part: Part) -> Callable[..., Any]:
        return provenance.function(kinds.makes(part.spec))

    def measured(self, part: Part, made: Made) -> Any:
        """The table of measures of a job, from its states."""
        states: Mapping[str, Any] = made.states
        if kinds.reader(part.spec) == "read_arrays":
            states = {name: value.numpy() for name, value in made.states.items()}
        return provenance.function(kinds.measures(part.spec))(
            part.spec,
            states,
            run=part.run,
            threads=torch.get_num_threads(),
            card=next((self.card(name) for name in part.datasets), None),
        )

    def networks(self, part: Part, made: Made, device: torch.device) -> pd.Series:
        """The measures of generalization of a job's networks, with their passes on a device."""
        path = self.folder / "networks.safetensors"
        artifacts.write_tensors(path, made.states, {})
        measured = {"study": part.study, "run": part.run, "spec": part.spec, "states": path,
                    "card": self.card(part.datasets[0])}  # fmt: skip
        table = measure_large_networks(measured, torch.get_num_threads(), device)
        return table.set_index(["seed", "member", "metric"])["value"]


@contextmanager
def exactly() -> Iterator[None]:
    """A block in which a GPU computes products in float32, and compiles nothing.

    By default its convolutions round to 10 bits (TF32): what that changes would hide a mistake.
    """
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    try:
        with torch.compiler.set_stance("force_eager"):
            yield
    finally:
        torch.backends.cudnn.allow_tf32 = before


@dataclass(frozen=True)
class Apart:
    """How far results of two devices are apart in one respect, how far they may be, and where."""

    what: str
    value: float
    limit: float
    where: str = ""


def apart(jobs: Jobs, case: Case, part: Part, a: Made, b: Made) -> list[Apart]:
    """How far the results of a job on two devices are apart."""
    if part.rule == "certify":
        sigma = abs(a.states["sigma"] / b.states["sigma"] - 1).max().item()
        # The ascent finds σ under noise.
        limit = 0.2 if "distance" in a.states else 1e-3
        counts = standard_errors(a.states, b.states)
        return [Apart("counts, in standard errors", counts, case.limit),
                Apart("σ, relative", sigma, limit)]  # fmt: skip
    if case.drawn:
        first, second = (jobs.measured(part, made)["value"].to_numpy() for made in (a, b))
        return [Apart("accuracy", float(np.abs(first - second).max()), case.limit)]
    name, largest = difference(a.states, b.states)
    return [Apart("states, relative", largest, case.limit, name if largest else "")]


def difference(a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> tuple[str, float]:
    """The state that differs most, and by how much.

    Of real numbers the largest difference over the largest number, of whole numbers the share that
    differs; infinite where one has a state, a shape or a NaN that the other does not have.
    """
    if missing := a.keys() ^ b.keys():
        return min(missing), np.inf
    found = {name: _difference(a[name], b[name]) for name in a}
    name = max(found, key=lambda each: found[each])
    return name, found[name]


def _difference(a: Tensor, b: Tensor) -> float:
    if a.shape != b.shape or a.dtype != b.dtype:
        return np.inf
    if not a.is_floating_point():
        return (a != b).double().mean().item() if a.numel() else 0.0
    a, b = a.double(), b.double()
    if not torch.equal(a.isfinite(), b.isfinite()):
        return np.inf
    a, b = a[a.isfinite()], b[b.isfinite()]
    if not a.numel() or torch.equal(a, b):
        return 0.0
    return ((a - b).abs().max() / b.abs().max().clamp_min(1e-300)).item()


def standard_errors(a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> float:
    """How far two sets of counts of independent draws are apart."""
    ours, theirs = a["counts"].double(), b["counts"].double()
    n = theirs.sum(2, keepdim=True)
    share = (ours + theirs) / (2 * n)
    # Of a class that is rare one count more or less is nothing.
    return ((ours - theirs).abs() / (2 * n * share * (1 - share) + 1).sqrt()).max().item()
