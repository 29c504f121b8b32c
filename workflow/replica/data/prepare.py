"""One canonical form for every data set: memory-mapped arrays and a small card.

`<split>.images.npy` uint8 (N, C, H, W), `<split>.points.npy` float64 (N, d), or `<split>.text.npy`
uint8 with `<split>.offsets.npy` int64 (N+1); and `<split>.labels.npy` int64 (N,) where there are
labels. The card, written last, says what they hold and the checksum of each; the workflow depends
on the card.
"""

import gzip
import hashlib
import importlib
import io
import json
import pickle
import platform
import tarfile
import tempfile
import textwrap
import warnings
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from PIL import Image

from replica.artifacts import CorruptArtifact, atomic, write_bytes
from replica.data.fetch import matches
from replica.data.registry import DatasetEntry
from replica.provenance import stream_seed

Arrays = dict[str, np.ndarray]
SPLITS = ("train", "test", "grid")


class DataError(RuntimeError):
    """A data set is not what its registry entry or its kind says."""


@dataclass(frozen=True)
class Dataset:
    """A prepared data set: its card, and its arrays by `<split>.<what>`, memory-mapped."""

    card: dict
    arrays: Arrays


def prepare_dataset(entry: DatasetEntry, raw: Path, folder: Path) -> Path:
    """Bring a fetched (or embedded) data set into its canonical form.

    Args:
        entry: the registry's entry.
        raw: folder of the fetched files; not used for embedded sets.
        folder: where the arrays and the card go.

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
    arrays = _READERS[entry.kind](entry, raw)
    card = {
        "dataset": entry.name,
        "title": entry.title,
        "licence": entry.licence,
        "sources": entry.files,
        "splits": {},
        "arrays": {},
    }
    for split in SPLITS:
        if any(name.startswith(f"{split}.") for name in arrays):
            card["splits"][split] = _describe(entry, split, arrays)
    for name, array in arrays.items():
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
        CorruptArtifact: an array is missing, damaged, or not of the size on the card.
    """
    path = Path(card)
    content = json.loads(path.read_text(encoding="utf-8"))
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


def verify(card: Path | str) -> None:
    """Check the checksum of every array.

    Raises:
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


def _describe(entry: DatasetEntry, split: str, arrays: Arrays) -> dict:
    facts: dict = {}
    if (labels := arrays.get(f"{split}.labels")) is not None:
        if entry.classes is None or entry.classes < 2:
            raise DataError(f"{entry.name}: labelled data needs at least two classes.")
        if labels.min(initial=0) < 0 or labels.max(initial=0) >= entry.classes:
            raise DataError(
                f"{entry.name}: the labels of {split} go from {labels.min()} to {labels.max()}, "
                f"but config/datasets.yaml says {entry.classes} classes."
            )
        counts = np.bincount(labels, minlength=entry.classes)
        if (counts == 0).any():
            empty = np.flatnonzero(counts == 0).tolist()
            raise DataError(f"{entry.name}: the classes {empty} have no samples in {split}.")
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


# --------------------------------------------------------------------------------------
# Readers: one a kind, each returning the canonical arrays


def _digits(entry: DatasetEntry, raw: Path) -> Arrays:
    from sklearn.datasets import load_digits

    values = load_digits()
    images = values.images.astype(np.uint8)
    found = "sha256:" + hashlib.sha256(images.reshape(len(images), -1).tobytes()).hexdigest()
    if entry.checksum and found != entry.checksum:
        raise DataError(f"{entry.name}: scikit-learn's digits are not those of the registry.")
    return {"train.images": images[:, None], "train.labels": values.target.astype(np.int64)}


def _topics(entry: DatasetEntry, raw: Path) -> Arrays:
    topics = importlib.import_module("pydoc_data.topics").topics
    text = "\n\n".join(topics[key] for key in sorted(topics)).encode()
    known = entry.checksums.get(platform.python_version())
    if known is None:
        warnings.warn(
            f"{entry.name}: the text of Python {platform.python_version()} is not in the "
            "registry; its checksum stands on the card.",
            stacklevel=2,
        )
    elif known != "sha256:" + hashlib.sha256(text).hexdigest():
        raise DataError(f"{entry.name}: the text of this Python is not that of the registry.")
    return _text("train", [text])


def _passages(entry: DatasetEntry, raw: Path) -> Arrays:
    """The same text in passages of at most 200 characters, broken between words.

    Class 1 are those of topics that define a piece of syntax (with a `::=`), class 0 all others.
    Topics quote each other: each passage is kept once, and none that is in both classes. In a
    random order, the same each time.
    """
    _topics(entry, raw)
    topics = importlib.import_module("pydoc_data.topics").topics
    classes: dict[str, set[int]] = {}
    for key in sorted(topics):
        for passage in textwrap.wrap(topics[key], 200, break_long_words=False):
            classes.setdefault(passage, set()).add(int("::=" in topics[key]))
    found = [(text.encode(), min(of)) for text, of in classes.items() if len(of) == 1]
    order = np.random.default_rng(stream_seed("data", entry.name)).permutation(len(found))
    labels = np.array([found[i][1] for i in order], np.int64)
    return _text("train", [found[i][0] for i in order]) | {"train.labels": labels}


def _cone(entry: DatasetEntry, raw: Path) -> Arrays:
    """Radius sqrt(5 χ²_2), class 0 within half a radian of the axis, class 1 elsewhere.

    500 points a class for training and 100 for testing, and a grid over the plane.
    """
    generator = np.random.default_rng(stream_seed("data", entry.name))
    arrays: Arrays = {}
    for split, n in [("train", 500), ("test", 100)]:
        radius = np.sqrt(5 * generator.chisquare(2, 2 * n))
        inside = generator.uniform(-0.5, 0.5, n)
        outside = generator.uniform(0.5, 2 * np.pi - 0.5, n)
        angle = np.concatenate([inside, outside])
        points = radius[:, None] * np.stack([np.cos(angle), np.sin(angle)], 1)
        arrays |= {f"{split}.points": points, f"{split}.labels": np.repeat([0, 1], n)}
    side = np.linspace(-8, 8, 41)
    points = np.stack(np.meshgrid(side, side), -1).reshape(-1, 2)
    label = (np.abs(np.arctan2(points[:, 1], points[:, 0])) > 0.5).astype(np.int64)
    return arrays | {"grid.points": points, "grid.labels": label}


def _mixture(entry: DatasetEntry, raw: Path) -> Arrays:
    """1000 points of `classes` Gaussians of deviation 2 around means N(0, I) in 100 dimensions.

    Class sizes fall geometrically, the largest `imbalance` times the smallest; in random order.
    """
    generator = np.random.default_rng(stream_seed("data", entry.name))
    K, N, d = entry.classes, 1000, 100
    share = entry.imbalance ** -np.linspace(0, 1, K)
    ends = np.round(N * np.cumsum(share) / share.sum()).astype(np.int64)
    labels = generator.permutation(np.repeat(np.arange(K), np.diff(ends, prepend=0)))
    means = generator.standard_normal((K, d))
    points = means[labels] + 2 * generator.standard_normal((N, d))
    return {"train.points": points, "train.labels": labels}


def _idx(entry: DatasetEntry, raw: Path) -> Arrays:
    arrays = {}
    for name in entry.files:
        with gzip.open(raw / name) as file:
            data = file.read()
        # idx: two zero bytes, the type (8 = uint8), the number of dimensions, big-endian sizes.
        if data[:3] != b"\0\0\x08":
            raise DataError(f"{raw / name} is not an idx file of bytes.")
        shape = np.frombuffer(data, ">i4", data[3], offset=4)
        values = np.frombuffer(data, np.uint8, offset=4 + 4 * data[3]).reshape(shape)
        split = "train" if name.startswith("train") else "test"
        if values.ndim == 3:
            arrays[f"{split}.images"] = values[:, None]
        else:
            arrays[f"{split}.labels"] = values.astype(np.int64)
    return arrays


def _cifar(entry: DatasetEntry, raw: Path) -> Arrays:
    (archive,) = entry.files
    arrays = {}
    with unpacked(raw / archive) as folder:
        for split, members in entry.members.items():
            batches = [_opened_pickle(folder / name, check) for name, check in members.items()]
            images = np.concatenate([batch[b"data"] for batch in batches]).reshape(-1, 3, 32, 32)
            labels = [batch.get(b"labels", batch.get(b"fine_labels")) for batch in batches]
            arrays[f"{split}.images"] = images
            arrays[f"{split}.labels"] = np.concatenate(labels).astype(np.int64)
    return arrays


def _opened_pickle(path: Path, checksum: str) -> dict:
    """Open a pickle, which can run any code, only if it is the one that the registry knows."""
    if not path.is_file() or not matches(path, checksum):
        raise DataError(
            f"{path.name} inside the archive does not have the checksum of "
            "config/datasets.yaml; it was not opened."
        )
    with open(path, "rb") as file:
        return pickle.load(file, encoding="bytes")


def _svhn(entry: DatasetEntry, raw: Path) -> Arrays:
    from scipy.io import loadmat

    arrays = {}
    for name in entry.files:
        split = "train" if name.startswith("train") else "test"
        content = loadmat(raw / name)
        arrays[f"{split}.images"] = np.ascontiguousarray(content["X"].transpose(3, 2, 0, 1))
        # The official files call the digit zero 10.
        arrays[f"{split}.labels"] = content["y"].ravel().astype(np.int64) % 10
    return arrays


def _imdb(entry: DatasetEntry, raw: Path) -> Arrays:
    (archive,) = entry.files
    arrays: Arrays = {}
    with unpacked(raw / archive) as folder:
        for split in ("train", "test"):
            texts, labels = [], []
            for label, name in enumerate(["neg", "pos"]):
                paths = sorted(folder.glob(f"aclImdb/{split}/{name}/*.txt"), key=_review_number)
                texts += [path.read_bytes() for path in paths]
                labels += [label] * len(paths)
            arrays |= _text(split, texts) | {f"{split}.labels": np.array(labels, np.int64)}
    return arrays


def _review_number(path: Path) -> int:
    return int(path.stem.partition("_")[0])


def _text_file(entry: DatasetEntry, raw: Path) -> Arrays:
    (name,) = entry.files
    return _text("train", [(raw / name).read_bytes()])


def _image_table(entry: DatasetEntry, raw: Path) -> Arrays:
    arrays = {}
    for name in entry.files:
        names = pq.read_schema(raw / name).names
        column = next((c for c in ("img", "image") if c in names), None)
        if column is None or "label" not in names:
            raise DataError(f"{raw / name} needs the columns img (or image) and label: {names}.")
        table = pq.read_table(raw / name, columns=[column, "label"])
        encoded = table[column].combine_chunks().field("bytes")
        split = _split_of(name)
        arrays[f"{split}.images"] = _decoded([(raw / name, v.as_buffer()) for v in encoded])
        arrays[f"{split}.labels"] = table["label"].to_numpy().astype(np.int64)
    return arrays


def _text_table(entry: DatasetEntry, raw: Path) -> Arrays:
    arrays: Arrays = {}
    for name in entry.files:
        names = pq.read_schema(raw / name).names
        if not {"text", "label"} <= set(names):
            raise DataError(f"{raw / name} needs the columns text and label, it has {names}.")
        table = pq.read_table(raw / name, columns=["text", "label"])
        split = _split_of(name)
        arrays |= _text(split, [text.encode() for text in table["text"].to_pylist()])
        arrays[f"{split}.labels"] = table["label"].to_numpy().astype(np.int64)
    return arrays


def _image_folder(entry: DatasetEntry, raw: Path) -> Arrays:
    """Archives with a folder a class; the class order is that of the sorted folder names.

    With `held_out` the test split are the first int(held_out n_c) of a permutation of each class,
    drawn with seed 0.
    """
    arrays = {}
    for name in entry.files:
        with unpacked(raw / name) as folder:
            while len(inner := [p for p in folder.iterdir() if p.is_dir()]) == 1:
                folder = inner[0]
            names = sorted(path.name for path in inner if path.name not in entry.without)
            images, labels = [], []
            for label, class_name in enumerate(names):
                for path in sorted((folder / class_name).glob(entry.pattern)):
                    images.append((path, path.read_bytes()))
                    labels.append(label)
            split = _split_of(name)
            arrays[f"{split}.images"] = _decoded(images, entry.size)
            arrays[f"{split}.labels"] = np.array(labels, np.int64)
    if entry.held_out is None:
        return arrays
    images, labels = arrays["train.images"], arrays["train.labels"]
    generator, test = np.random.RandomState(0), []
    for label in np.unique(labels):
        rows = generator.permutation(np.flatnonzero(labels == label))
        test.append(rows[: int(entry.held_out * len(rows))])
    test = np.sort(np.concatenate(test))
    train = np.setdiff1d(np.arange(len(labels)), test)
    return {
        f"{split}.{kind}": array[rows]
        for split, rows in [("train", train), ("test", test)]
        for kind, array in [("images", images), ("labels", labels)]
    }


def _weights(entry: DatasetEntry, raw: Path) -> Arrays:
    """Parameters of a network, saved by PyTorch; opened without running any code from the file."""
    import torch

    (name,) = entry.files
    try:
        state = torch.load(raw / name, map_location="cpu", weights_only=True)
        return {f"weights.{key}": value.detach().numpy() for key, value in state.items()}
    except (pickle.UnpicklingError, RuntimeError, AttributeError) as error:
        raise DataError(f"{raw / name} does not hold the parameters of a network.") from error


def _corrupted_cifar(entry: DatasetEntry, raw: Path) -> Arrays:
    """CIFAR-10-C: a file a corruption with the test images at five severities, and labels."""
    (name,) = entry.files
    arrays: Arrays = {}
    with unpacked(raw / name) as folder:
        for path in sorted(folder.rglob("*.npy")):
            values = np.load(path, allow_pickle=False)
            if path.stem == "labels":
                arrays["test.labels"] = values.astype(np.int64)
            else:
                arrays[f"{path.stem}.images"] = values.transpose(0, 3, 1, 2).copy()
    if "test.labels" not in arrays or len(arrays) < 2:
        raise DataError(f"{raw / name} does not hold labels.npy and a file for each corruption.")
    return arrays


def _split_of(name: str) -> str:
    return "test" if name.startswith("test") else "train"


def _decoded(encoded: list[tuple[Path, bytes]], size: int | None = None) -> np.ndarray:
    images = []
    for path, data in encoded:
        try:
            with Image.open(io.BytesIO(data)) as image:
                image = image.convert("RGB")
                if size is not None:
                    image = image.resize((size, size), Image.Resampling.BILINEAR)
                images.append(np.asarray(image).transpose(2, 0, 1))
        except OSError as error:
            raise DataError(f"{path} holds an image that cannot be decoded: {error}.") from error
    if len({image.shape for image in images}) != 1:
        raise DataError(f"{encoded[0][0]}: all images must have the same size; resize them first.")
    return np.stack(images)


def _text(split: str, texts: list[bytes]) -> Arrays:
    offsets = np.cumsum([0, *(len(text) for text in texts)], dtype=np.int64)
    joined = np.frombuffer(b"".join(texts), np.uint8)
    return {f"{split}.text": joined, f"{split}.offsets": offsets}


_READERS: dict[str, Callable[[DatasetEntry, Path], Arrays]] = {
    "digits": _digits,
    "topics": _topics,
    "passages": _passages,
    "cone": _cone,
    "mixture": _mixture,
    "idx": _idx,
    "cifar": _cifar,
    "svhn": _svhn,
    "imdb": _imdb,
    "text_file": _text_file,
    "image_table": _image_table,
    "text_table": _text_table,
    "image_folder": _image_folder,
    "weights": _weights,
    "corrupted_cifar": _corrupted_cifar,
}


@contextmanager
def unpacked(archive: Path) -> Iterator[Path]:
    """Unpack a tar or zip archive into a temporary folder beside it, and remove it afterwards.

    Raises:
        DataError: a member would leave the folder; nothing was unpacked.
    """
    with tempfile.TemporaryDirectory(dir=archive.parent, prefix=f".{archive.name}.") as name:
        folder = Path(name)
        if zipfile.is_zipfile(archive):
            with zipfile.ZipFile(archive) as file:
                for member in file.namelist():
                    _confined(folder, member, archive)
                file.extractall(folder)
        else:
            with tarfile.open(archive) as file:
                for member in file.getmembers():
                    _confined(folder, member.name, archive)
                    if not (member.isfile() or member.isdir()):
                        raise DataError(
                            f"{archive} holds {member.name!r}, which is neither a file nor a "
                            "folder; it was not unpacked."
                        )
                file.extractall(folder, filter="data")
        yield folder


def _confined(folder: Path, member: str, archive: Path) -> None:
    target = (folder / member).resolve()
    if not target.is_relative_to(folder.resolve()):
        raise DataError(f"{archive} holds {member!r}, a path outside of it; it was not unpacked.")
