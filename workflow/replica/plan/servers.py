"""Which jobs are forks of which process: with torch, or with what drawing and judging need."""

from collections.abc import Iterable
from typing import Any

from replica.kinds import KINDS

# What the scripts of these rules compute with; the others need no torch.
WITH_TORCH = ("train_run", "train_round", "certify", "generalization", "generalization_on_gpu")


def server_of(rule: str, params: Any) -> str:
    """Which of the processes of `server_modules` a job is started from."""
    with_torch = rule in WITH_TORCH or getattr(params, "reader", None) == "read_tensors"
    return "torch" if with_torch else "plain"


def server_modules(studies: Iterable[str]) -> dict[str, list[str]]:
    """What the jobs of some studies import, with torch and without."""
    every = KINDS.values()
    modules = {entry.partition(":")[0] for kind in every for entry in (kind.train, kind.measure)}
    plain = {kind.measure.partition(":")[0] for kind in every if kind.arrays}
    drawing = ["replica.drawing", "seaborn", *(f"replica.studies.{study}" for study in studies)]
    return {
        "plain": ["replica.report", *drawing, *sorted(plain)],
        "torch": ["replica.generalization.on_gpu", *sorted(modules)],
    }
