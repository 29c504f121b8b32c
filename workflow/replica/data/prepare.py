"""One canonical form for every data set: memory-mapped arrays and a small card.

`<split>.images.npy` uint8 (N, C, H, W), `<split>.points.npy` float64 (N, d), or `<split>.text.npy`
uint8 with `<split>.offsets.npy` int64 (N+1); and `<split>.labels.npy` int64 (N,) where there are
labels. The card, written last, says what they hold and the checksum of each; the workflow depends
on the card.
"""

import hashlib
import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from replica.artifacts import CorruptArtifact, atomic, write_bytes
from replica.data.parts import Arrays, Content, DataError
from replica.data.registry import READERS, DatasetEntry, card_path, matches
from replica.provenance import function

__all__ = ["DataError", "Dataset", "load", "prepare_dataset", "verify", "write"]

SPLITS = ("train", "test", "grid")


@dataclass(frozen=True)
class Dataset:
    """A prepared data set: its card, and its arrays by `<split>.<what>`, memory-mapped."""

    card: dict
    arrays: Arrays

    def array(self, name: str) -> np.ndarray:
        """The array `<split>.<what>`.

        Raises:
            DataError: there is none; says what there is.
        """
        if name not in self.arrays:
            raise DataError(
                f"The data set {self.card['dataset']} has no {name}, only "
                f"{', '.join(self.arrays)}: this run needs a data set of another kind."
            )
        return self.arrays[name]

    def inputs(self, split: str) -> np.ndarray:
        """Points (N, d) of a split, or its images (N, C, H, W).

        Raises:
            DataError: it has neither.
        """
        points = f"{split}.points"
        return self.array(points if points in self.arrays else f"{split}.images")

    @property
    def K(self) -> int:
        """The number of classes.

        Raises:
            DataError: the samples have no labels.
        """
        self.array("train.labels")
        return len(self.card["splits"]["train"]["class_counts"])


def prepare_dataset(entry: DatasetEntry, raw: Path, folder: Path, key: str = "") -> Path:
    """Bring a fetched (or embedded) data set into its canonical form.

    Args:
        entry: the registry's entry.
        raw: folder of the fetched files; not used for embedded sets, never written to.
        folder: where the arrays and the card go.
        key: of the job, for the card.

    Returns:
        The path of the card, `folder/card.json`.

    Raises:
        DataError: a checksum, a format, or the classes are not as they should be.
    """
    for name, checksum in entry.files.items():
        if not (raw / name).exists() or not matches(raw / name, checksum):
            raise DataError(
                f"{raw / name} is missing or damaged (its checksum is not that of "
                f"config/datasets.yaml): delete it and run the same command again."
            )
    folder.mkdir(parents=True, exist_ok=True)
    for left in folder.glob(".unpacked-*"):  # by a job that was killed
        shutil.rmtree(left, ignore_errors=True)
    content = function(READERS[entry.kind])(entry, raw, folder)
    return write(entry, content, folder, key)


def write(entry: DatasetEntry, content: Content, folder: Path, key: str) -> Path:
    """Write the arrays of a data set, and its card last; return the card's path."""
    card = {"dataset": entry.name, "key": key, "sources": entry.files, "splits": {}, "arrays": {}}
    if content.names is not None:
        card["classes"] = content.names
    for split in SPLITS:
        if any(name.startswith(f"{split}.") for name in content.arrays):
            card["splits"][split] = _facts(entry, split, content.arrays)
    for name, array in content.arrays.items():
        path = folder / f"{name}.npy"
        with atomic(path) as temporary, open(temporary, "wb") as out:
            np.save(out, array, allow_pickle=False)
        card["arrays"][name] = {
            "shape": array.shape,
            "dtype": str(array.dtype),
            "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        }
    write_bytes(folder / "card.json", json.dumps(card, indent=1).encode())
    return folder / "card.json"


def load(card: Path | str) -> Dataset:
    """Open a prepared data set; nothing is read into memory yet.

    Raises:
        DataError: it is not prepared.
        CorruptArtifact: the card or an array is damaged, or an array is missing.
    """
    path = Path(card)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError(
            f"The data set {path.parent.name} is not prepared: there is no {path}; run the command "
            "that asked for it again, and the workflow will prepare it."
        ) from None
    except ValueError:
        raise _damaged(path, path) from None
    arrays = {}
    for name, facts in content["arrays"].items():
        file = path.with_name(f"{name}.npy")
        try:
            array = np.load(file, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError, EOFError):
            raise _damaged(file, path) from None
        if list(array.shape) != facts["shape"] or str(array.dtype) != facts["dtype"]:
            raise _damaged(file, path)
        arrays[name] = array
    return Dataset(content, arrays)


def cards_with(keys: Mapping[str, str], data_dir: str) -> dict[str, Path]:
    """The cards of data sets by name.

    Where the data are is no part of a run: another folder re-runs nothing. What they are is, and a
    folder may hold data that other code has prepared.

    Args:
        keys: of the jobs that prepare the data sets, by name.
        data_dir: of the configuration.

    Raises:
        DataError: a data set is not prepared, or by other code, or of another entry.
    """
    cards = {name: card_path(data_dir, name) for name in keys}
    for name, card in cards.items():
        if load(card).card.get("key") != keys[name]:
            raise DataError(
                f"{card} was prepared by other code or from another entry of config/datasets.yaml: "
                "delete it and run the same command again, or name another folder as data_dir."
            )
    return cards


def verify(card: Path | str) -> None:
    """Check the checksum of every array.

    Raises:
        DataError: the data set is not prepared.
        CorruptArtifact: names the first file that does not match.
    """
    path = Path(card)
    for name, facts in load(path).card["arrays"].items():
        file = path.with_name(f"{name}.npy")
        if hashlib.sha256(file.read_bytes()).hexdigest() != facts["sha256"]:
            raise _damaged(file, path)


def _damaged(file: Path, card: Path) -> CorruptArtifact:
    return CorruptArtifact(
        f"{file} is missing or damaged: delete {card} and run the same command again; "
        "the data set will be prepared anew."
    )


def _facts(entry: DatasetEntry, split: str, arrays: Arrays) -> dict:
    facts: dict = {}
    if (labels := arrays.get(f"{split}.labels")) is not None:
        counts = np.bincount(labels, minlength=entry.K)
        facts |= {"samples": len(labels), "class_counts": counts.tolist()}
    if (images := arrays.get(f"{split}.images")) is not None:
        # From the histogram of each channel: exact, and without a copy of the images.
        values, facts["mean"], facts["std"] = np.arange(256), [], []
        for channel in range(images.shape[1]):
            share = np.bincount(images[:, channel].ravel(), minlength=256) / images[:, channel].size
            mean = float(share @ values)
            facts["mean"].append(mean)
            facts["std"].append(float(np.sqrt(share @ (values - mean) ** 2)))
    if (text := arrays.get(f"{split}.text")) is not None:
        facts |= {"bytes": len(text)}
    return facts
