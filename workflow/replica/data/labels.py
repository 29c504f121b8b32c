"""Labels of foreign data as numbers 0..K-1, the same class under the same number everywhere."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from replica.data.parts import DataError, Part
from replica.data.registry import DatasetEntry


def from_array(values: np.ndarray, where: str) -> np.ndarray:
    """Numbers of a file as labels: int64 (N,).

    Booleans and floats with whole values count as whole numbers.

    Args:
        values: one number a sample.
        where: file and column, which opens the sentence of an error.

    Raises:
        DataError: names the first row, counted from 0, whose value is no whole number.
    """
    if values.ndim != 1 or values.dtype.kind not in "biuf":
        raise DataError(
            f"{where}: labels must be whole numbers, one per sample, not {values.dtype} of the "
            f"shape {values.shape}."
        )
    if values.dtype.kind == "f":
        values = values.astype(np.float64)
        wrong = ~np.isfinite(values) | (values != np.round(values)) | (np.abs(values) > 2**53)
    else:
        wrong = values > np.iinfo(np.int64).max
    if wrong.any():
        row = int(wrong.argmax())
        raise DataError(
            f"{where}, row {row} (counted from 0): the label {values[row]} is not a whole number "
            "that could be a class."
        )
    return values.astype(np.int64)


def from_column(column: pa.ChunkedArray, where: str) -> np.ndarray:
    """A column of a table as labels: int64 (N,), or names of classes as objects (N,).

    Raises:
        DataError: names the first row, counted from 0, without a label; or the column's type.
    """
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if column.null_count:
        row = next(i for i, value in enumerate(column) if not value.is_valid)
        raise DataError(f"{where}, row {row} (counted from 0): there is no label.")
    kind = column.type
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        words = column.to_pylist()
        if "" in words:
            raise DataError(f"{where}, row {words.index('')} (counted from 0): there is no label.")
        return np.array(words, dtype=object)
    if pa.types.is_decimal(kind):
        column = column.cast(pa.float64())
    elif not (pa.types.is_integer(kind) or pa.types.is_boolean(kind) or pa.types.is_floating(kind)):
        raise DataError(f"{where}: labels must be whole numbers or words, not of type {kind}.")
    return from_array(column.to_numpy(), where)


def class_names(entry: DatasetEntry, parts: Sequence[Part]) -> list[str] | None:
    """The names of the classes in the order of their numbers; None where they have none.

    Those of the registry; else those that the train split has, sorted.

    Raises:
        DataError: splits do not have the same classes, or not as many as the registry says.
    """
    named = [part for part in parts if part.labels is not None and part.labels.dtype == object]
    if not named:
        return entry.class_names
    for part in parts:
        if part.labels is not None and part.labels.dtype != object:
            raise DataError(
                f"The labels of {named[0].file} are words, those of {part.file} are not."
            )
    own = {part.file: _names(part) for part in named if part.split == "train"}
    # Files need not have all classes, unless they state them.
    known = entry.class_names or sorted(set().union(*own.values()))
    origin = "config/datasets.yaml" if entry.class_names else ", ".join(p.name for p in own)
    for part in parts:
        if part.names is not None and set(part.names) != set(known):
            raise DataError(
                f"{part.file} ({part.split}) and {origin} have different classes: "
                f"{_difference(part.names, known, origin)}."
            )
    if entry.class_names is None and entry.K is not None and len(known) != entry.K:
        raise DataError(
            f"{entry.name}: config/datasets.yaml says {entry.K} classes, but {origin} has "
            f"{len(known)}: {_listed(known)}."
        )
    return list(known)


def numbered(entry: DatasetEntry, part: Part, names: Sequence[str] | None) -> np.ndarray | None:
    """The labels of a part as numbers 0..K-1, int64 (N,); None where it has none.

    Raises:
        DataError: names the first row, counted from 0, whose label is none of the classes.
    """
    if part.labels is None:
        return None
    K = entry.K or (len(names) if names else 0)
    if K < 2:
        raise DataError(
            f"{entry.name}: labelled data needs at least two classes: say how many, or their "
            "names, under `classes` in config/datasets.yaml."
        )
    if part.labels.dtype == object:
        numbers = {name: number for number, name in enumerate(names)}
        labels = np.array([numbers.get(name, -1) for name in part.labels], dtype=np.int64)
        allowed = f"is none of the classes {_listed(names)}"
    else:
        labels = part.labels
        allowed = f"is not in 0..{K - 1}: config/datasets.yaml says {K} classes"
    wrong = (labels < 0) | (labels >= K)
    if wrong.any():
        row = int(wrong.argmax())
        raise DataError(
            f"{part.file} ({part.split}), row {row} (counted from 0): the label "
            f"{part.labels.tolist()[row]!r} {allowed}."
        )
    return labels


def check_counts(
    entry: DatasetEntry, split: str, labels: np.ndarray, names: Sequence[str] | None
) -> None:
    """Every class must have samples in a split.

    Raises:
        DataError: names the classes that have none.
    """
    K = len(names) if names else entry.K
    empty = np.flatnonzero(np.bincount(labels, minlength=K) == 0).tolist()
    if empty:
        which = _listed([names[label] if names else label for label in empty])
        verb = f"class {which} has" if len(empty) == 1 else f"classes {which} have"
        raise DataError(f"{entry.name}: the {verb} no samples in {split}.")


def _names(part: Part) -> set[str]:
    return set(part.labels if part.names is None else part.names)


def _difference(here: Sequence[str], there: Sequence[str], origin: str) -> str:
    only, missing = sorted(set(here) - set(there)), sorted(set(there) - set(here))
    said = [f"{_listed(only)} only here"] if only else []
    return " and ".join(said + ([f"{_listed(missing)} only in {origin}"] if missing else []))


def _listed(names: Sequence[str | int]) -> str:
    shown = ", ".join(repr(name) for name in names[:10])
    return shown if len(names) <= 10 else f"{shown}, ... ({len(names)} in all)"
