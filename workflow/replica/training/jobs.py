"""A job of the workflow as the library sees it, and what a training returns."""

import ctypes
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from replica import artifacts, provenance
from replica.data.prepare import DataError, Dataset, cards_with, load, verify
from replica.tables import packed
from replica.training.checkpoint import Checkpoint
from replica.training.devices import device_of_job
from replica.training.precision import in_words

HISTORY = ["run", "seed", "step", "metric", "value"]
# Numbers of two settings of glibc's memory (malloc.h), and the largest value of the second.
TRIM_THRESHOLD, MMAP_THRESHOLD, LARGEST_MMAP_THRESHOLD = -1, -3, 2**25


@dataclass(frozen=True)
class Job:
    """What a training needs to know beyond the settings of its run.

    Attributes:
        study, run, seeds: names of the random streams.
        checkpoint: where and how often the state is saved.
        device, threads: what to compute on.
        card: card of the prepared data set, for runs that need one.
        cards: cards of all data sets that the run needs, by name.
        pretrained: folder of the pretrained models, where there is one.
        start: states of the job that this one goes on from.
    """

    study: str
    run: str
    seeds: tuple[int, ...]
    checkpoint: Checkpoint
    device: torch.device
    threads: int
    card: Path | None = None
    cards: Mapping[str, Path] = field(default_factory=dict)
    pretrained: Path | None = None
    start: dict[str, Tensor] | None = None

    def data(self) -> Dataset:
        """The prepared data set of the run, verified.

        Raises:
            DataError: the run names no data set, or a file of it is damaged.
        """
        if self.card is None:
            raise DataError(f"{self.study} {self.run} names no data set.")
        verify(self.card)
        return load(self.card)


@dataclass(frozen=True)
class Result:
    """States `<step>/<parameter>` (S, ...) with the members' own numbers, and the history."""

    states: dict[str, Tensor]
    history: pd.DataFrame


def table_result(table: pd.DataFrame) -> Result:
    """A table as the states of a job that has no history."""
    states = {name: torch.from_numpy(values) for name, values in packed(table).items()}
    empty = {name: pd.Series(dtype=float if name == "value" else object) for name in HISTORY}
    return Result(states, pd.DataFrame(empty))


@contextmanager
def open_job(snakemake: Any, gpu_slots: int) -> Iterator[tuple[Job, provenance.Stamp]]:
    """The job as the library sees it, and the stamp of its results; it holds its device.

    Args:
        snakemake: the object that a rule's script is given.
        gpu_slots: the part of a GPU that the job needs; see `replica.costs`.

    Raises:
        NotEnoughMemory: the machine has less than the job requests.
        MissingDevice: the device that the configuration forces is not there.
        SystemExit, GpuFull: the memory of the GPU is used up; see `devices.gpu_memory`.
    """
    params, config, names = snakemake.params, snakemake.config, snakemake.wildcards
    provenance.require_memory(snakemake.resources.mem_mb, names.run)
    note = Path(params.checkpoint).with_suffix(".alone")
    with device_of_job(config, gpu_slots, names.run, note) as device:
        stamp = provenance.begin_job(params, in_words(device))
        cards = cards_with(params.datasets, config["data_dir"])
        start = next(iter(snakemake.input.starts_from), None)
        job = Job(
            study=names.study,
            run=names.run,
            seeds=tuple(params.seeds),
            checkpoint=Checkpoint(Path(params.checkpoint), config["checkpoint_seconds"]),
            device=device,
            threads=snakemake.threads,
            card=next(iter(cards.values()), None),
            cards=cards,
            pretrained=config["pretrained_dir"] and Path(config["pretrained_dir"]),
            start=artifacts.read_tensors(start)[0] if start else None,
        )
        keep_freed_memory()
        with without_denormals():
            yield job, stamp


def keep_freed_memory() -> None:
    """From now on freed memory stays with the process, if the C library is glibc.

    Every step requests the same memory again: returning it and having its pages cleared
    takes up to a fifth of a step.
    """
    if (mallopt := getattr(ctypes.CDLL(None), "mallopt", None)) is not None:
        mallopt(MMAP_THRESHOLD, LARGEST_MMAP_THRESHOLD)
        mallopt(TRIM_THRESHOLD, 2**31 - 1)


@contextmanager
def without_denormals() -> Iterator[None]:
    """Within the block, numbers below the normal range (1e-38 in single precision) are 0.

    A penalty lets weights decay until they are that small, and a processor takes many times as long
    to compute with them: a training in which half of the directions die took five times as long.
    """
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(False)
