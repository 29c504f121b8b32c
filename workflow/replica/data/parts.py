"""Parts of a data set as its files bring them, and its content, the form that all take."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from replica.configuration import ConfigError
from replica.data.registry import DatasetEntry, split_of_files

Arrays = dict[str, np.ndarray]


class DataError(RuntimeError):
    """A data set is not what its registry entry or its kind says."""


@dataclass(frozen=True)
class Part:
    """What one file brings to one split.

    Attributes:
        split: train, test, or another one of this kind of data.
        file: where it came from, for messages.
        images: uint8 (N, C, H, W).
        points: float64 (N, d).
        texts: N texts as UTF-8.
        labels: (N,) whole numbers as int64, or names of classes as objects.
        names: names of the classes where the file states them, also those without samples.
    """

    split: str
    file: Path
    images: np.ndarray | None = None
    points: np.ndarray | None = None
    texts: list[bytes] | None = None
    labels: np.ndarray | None = None
    names: Sequence[str] | None = None


@dataclass(frozen=True)
class Content:
    """A data set in its canonical form: arrays by `<split>.<what>`, names of classes if any."""

    arrays: Arrays = field(default_factory=dict)
    names: list[str] | None = None


def files_by_split(entry: DatasetEntry, raw: Path) -> list[tuple[str, Path]]:
    """(split, path) of each file, in the order of the registry.

    Raises:
        DataError: a file belongs to no split, or to several.
    """
    try:
        return [(split, raw / name) for name, split in split_of_files(entry).items()]
    except ConfigError as error:
        raise DataError(str(error)) from None
