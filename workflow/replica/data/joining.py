"""The one place where the parts of a data set are joined and checked against each other."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from replica.data.labels import check_counts, class_names, numbered
from replica.data.parts import Arrays, Content, DataError, Part
from replica.data.registry import DatasetEntry


def joined(entry: DatasetEntry, parts: Sequence[Part], needed: str = "train") -> Content:
    """Join the parts of each split, in their order.

    Args:
        entry: the registry's entry.
        parts: of all files.
        needed: a split that there must be.

    Raises:
        DataError: a part is empty, its samples and labels differ in number, shapes differ,
            labels do not fit the classes, or a split is missing.
    """
    splits = list(dict.fromkeys(part.split for part in parts))
    if needed not in splits:
        raise DataError(
            f"{entry.name} has no split {needed}: there is only {', '.join(splits) or 'nothing'}; "
            "say which files are train and which test under `splits` in config/datasets.yaml."
        )
    for part in parts:
        _check_numbers(part)
    _check_shapes(parts)
    names = class_names(entry, parts)
    parts = [replace(part, labels=numbered(entry, part, names)) for part in parts]
    arrays: Arrays = {}
    for split in splits:
        own = [part for part in parts if part.split == split]
        arrays |= {f"{split}.{what}": array for what, array in _split(own).items()}
        if f"{split}.labels" in arrays:
            check_counts(entry, split, arrays[f"{split}.labels"], names)
    return Content(arrays, names)


def merged(parts: Sequence[Part]) -> Part:
    """Parts of one split, with labels of one sort, as one part of the first one's file."""
    whole = {what: _concatenated(parts, what) for what in ("images", "points", "labels")}
    return replace(parts[0], **whole)


def _split(parts: Sequence[Part]) -> Arrays:
    found = {what: _concatenated(parts, what) for what in ("images", "points")}
    texts = [text for part in parts for text in part.texts or []]
    if texts:
        found["text"] = np.frombuffer(b"".join(texts), np.uint8)
        found["offsets"] = np.cumsum([0, *(len(text) for text in texts)], dtype=np.int64)
    found["labels"] = _concatenated(parts, "labels")
    return {what: array for what, array in found.items() if array is not None}


def _concatenated(parts: Sequence[Part], what: str) -> np.ndarray | None:
    arrays = [getattr(part, what) for part in parts if getattr(part, what) is not None]
    # A single array is not copied: photographs are many gigabytes.
    return None if not arrays else arrays[0] if len(arrays) == 1 else np.concatenate(arrays)


def _samples(part: Part) -> dict[str, int]:
    values = {"images": part.images, "points": part.points, "texts": part.texts}
    return {what: len(value) for what, value in values.items() if value is not None}


def _check_numbers(part: Part) -> None:
    samples = _samples(part)
    for what, number in samples.items():
        if number == 0:
            raise DataError(f"{part.file} holds no {what}.")
        if part.labels is not None and len(part.labels) != number:
            raise DataError(f"{part.file} has {number} {what}, but {len(part.labels)} labels.")


def _check_shapes(parts: Sequence[Part]) -> None:
    for what in ("images", "points"):
        own = [part for part in parts if getattr(part, what) is not None]
        for part in own[1:]:
            first, other = (getattr(p, what).shape[1:] for p in (own[0], part))
            if first != other:
                raise DataError(
                    f"The {what} of {own[0].file} ({own[0].split}) have the shape {first}, those "
                    f"of {part.file} ({part.split}) {other}: all of a data set must have the same."
                )
    for split in {part.split for part in parts}:
        kinds = {(*_samples(p), p.labels is not None) for p in parts if p.split == split}
        if len(kinds) > 1:
            file = next(part.file for part in parts if part.split == split)
            raise DataError(f"The files of {split} do not hold the same kinds of things as {file}.")
