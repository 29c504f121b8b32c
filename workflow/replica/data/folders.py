"""The reader of archives with a folder a class."""

from collections.abc import Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from pathlib import Path

import numpy as np
from PIL import Image

from replica.data.archives import unpacked, visible
from replica.data.images import decoded
from replica.data.joining import joined, merged
from replica.data.parts import Content, DataError, Part, files_by_split
from replica.data.registry import DatasetEntry, split_words


def image_folder(entry: DatasetEntry, raw: Path, scratch: Path) -> Content:
    """Archives with a folder a class, or with a folder a split and in it a folder a class.

    Folders around them, hidden files and those that systems leave do not count. With `held_out`
    the test split are the first int(held_out n_c) of a permutation of each class, drawn with
    seed 0.
    """
    parts: list[Part] = []
    for split, archive in files_by_split(entry, raw):
        with unpacked(archive, scratch) as folder:
            for own, place in _split_folders(entry, archive, folder, split):
                parts.append(_classes(entry, archive, folder, place, own))
    if entry.held_out is None:
        return joined(entry, parts)
    if other := [part for part in parts if part.split != "train"]:
        raise DataError(
            f"{entry.name}: held_out takes test images out of train, but {other[0].file} holds a "
            "test split: take held_out or that split out of config/datasets.yaml."
        )
    return joined(entry, _held_out(merged(parts), entry.held_out))


def _split_folders(
    entry: DatasetEntry, archive: Path, folder: Path, split: str
) -> list[tuple[str, Path]]:
    """(split, the folder that holds its folders of classes) in an archive of a split."""
    place = folder
    while True:
        inner = _folders(entry, place)
        words = {path: split_words(path.name) for path in inner}
        nested = [path for path in inner if _folders(entry, path)]
        if len(inner) == 1 and nested and len(words[inner[0]]) != 1:
            place = inner[0]
            continue
        # Splits hold folders. A class may be called `train`, or train_station beside test_tube; but
        # `train` beside `test` are splits, and so are folders that all have such a word.
        alone = {each for path, own in words.items() if path.name.isalnum() for each in own}
        several = len({each for own in words.values() for each in own}) > 1
        if (
            any(words[path] for path in nested)
            or len(alone) > 1
            or (several and all(words.values()))
        ):
            return _of_splits(entry, archive, folder, split, words)
        return [(split, place)]


def _of_splits(
    entry: DatasetEntry, archive: Path, folder: Path, split: str, found: dict[Path, list[str]]
) -> list[tuple[str, Path]]:
    for path, words in found.items():
        if words not in (["train"], ["test"]):
            raise DataError(
                f"{archive} has one folder per split, and the folder {_shown(folder, path)} is "
                "neither train nor test by its name: leave it out under `without` in "
                "config/datasets.yaml, or pack it as one of them."
            )
    splits = {path: words[0] for path, words in found.items()}
    # The archive's name says a split only where it has a word for one, or the registry has.
    if (entry.splits or split_words(archive.name)) and set(splits.values()) != {split}:
        raise DataError(
            f"{archive} is {split} by config/datasets.yaml or its name, and holds the folders "
            f"{', '.join(_shown(folder, path) for path in splits)}: give it a name without a word "
            "for a split, alone under files."
        )
    return [(own, path) for path, own in splits.items()]


def _classes(entry: DatasetEntry, archive: Path, folder: Path, place: Path, split: str) -> Part:
    """The images of the folders below one folder, each a class; sorted by class and name."""
    names = [path.name for path in _folders(entry, place)]
    if len(names) < 2:
        held = [path.name for path in visible(place)]
        shown = ", ".join(held[:5]) + (", ..." if len(held) > 5 else "")
        where = "" if place == folder else f" in {_shown(folder, place)}"
        raise DataError(
            f"{archive} needs a folder for each of two or more classes, or the folders train and "
            f"test with them; what there is{where}: {shown or 'nothing'}."
        )
    stray = [path for path in _visible(entry, place) if _is_image(path)]
    if stray:
        raise DataError(
            f"{archive} holds {_shown(folder, stray[0])} beside the folders of the classes: put it "
            "into one, or leave it out under `without` in config/datasets.yaml."
        )
    images, labels = [], []
    for name in names:
        for path in _files(entry, archive, place / name):
            images.append((f"{_shown(folder, path)} in {archive}", path))
            labels.append(name)
    encoded = ((where, path.read_bytes()) for where, path in images)
    pixels = decoded(encoded, entry.size, entry.orientation)
    return Part(split, archive, pixels, labels=np.array(labels, dtype=object), names=names)


def _visible(entry: DatasetEntry, place: Path) -> list[Path]:
    return [path for path in visible(place) if path.name not in entry.without]


def _folders(entry: DatasetEntry, place: Path) -> list[Path]:
    return [path for path in _visible(entry, place) if path.is_dir()]


def _files(entry: DatasetEntry, archive: Path, place: Path) -> list[Path]:
    """The files of a class that count, sorted by path."""
    if entry.pattern is not None:
        pattern = entry.pattern.split("/")
        below = sorted(_below(entry, place))
        return [path for path in below if _fits(path.relative_to(place).parts, pattern)]
    if folders := _folders(entry, place):
        raise DataError(
            f"{archive}: the folder of the class {place.name!r} holds the folder "
            f"{folders[0].name}: leave it out under `without` in config/datasets.yaml, or say "
            "`pattern: '**/*'` there to take the files of folders in folders too."
        )
    return [path for path in _visible(entry, place) if _is_image(path)]


def _below(entry: DatasetEntry, place: Path) -> list[Path]:
    found = []
    for path in _visible(entry, place):
        found += _below(entry, path) if path.is_dir() else [path]
    return found


def _is_image(path: Path) -> bool:
    """Whether a file has an ending that Pillow opens."""
    kind = Image.registered_extensions().get(path.suffix.lower())
    return kind in Image.OPEN and path.is_file()


def _fits(path: Sequence[str], pattern: Sequence[str]) -> bool:
    """Whether a path fits a pattern, part by part; `**` stands for any number of folders."""
    if not pattern:
        return not path
    if pattern[0] == "**":
        return any(_fits(path[skip:], pattern[1:]) for skip in range(len(path) + 1))
    return (
        bool(path)
        and fnmatchcase(path[0].lower(), pattern[0].lower())
        and _fits(path[1:], pattern[1:])
    )


def _shown(folder: Path, path: Path) -> str:
    return path.relative_to(folder).as_posix()


def _held_out(part: Part, share: float) -> list[Part]:
    generator, chosen = np.random.RandomState(0), []
    for name in sorted(set(part.labels)):
        rows = generator.permutation(np.flatnonzero(part.labels == name))
        chosen.append(rows[: int(share * len(rows))])
    test = np.sort(np.concatenate(chosen))
    train = np.setdiff1d(np.arange(len(part.labels)), test)
    return [
        replace(part, split=split, images=part.images[rows], labels=part.labels[rows])
        for split, rows in [("train", train), ("test", test)]
    ]
