"""Data sets that come with the project, and those that are drawn."""

import gzip
import hashlib
import json
import textwrap
from pathlib import Path

import numpy as np

from replica.data.joining import joined
from replica.data.parts import Content, DataError, Part
from replica.data.registry import DatasetEntry
from replica.provenance import stream_seed

FOLDER = Path(__file__).parent / "embedded"


def digits(entry: DatasetEntry, raw: Path, scratch: Path) -> Content:
    """The 1797 digits of scikit-learn, 8x8 pixels from 0 to 16."""
    file = FOLDER / "digits.csv.gz"
    with gzip.open(file, "rt", encoding="ascii") as lines:
        rows = np.loadtxt(lines, dtype=np.uint8, delimiter=",")
    images, labels = rows[:, :64].copy(), rows[:, 64].astype(np.int64)
    _check(entry, file, images.tobytes())
    return joined(entry, [Part("train", file, images.reshape(-1, 1, 8, 8), labels=labels)])


def topics(entry: DatasetEntry, raw: Path, scratch: Path) -> Content:
    """The Python language reference as one text, in the order of its topics' names."""
    return joined(entry, [Part("train", FOLDER, texts=["\n\n".join(_topics(entry)).encode()])])


def passages(entry: DatasetEntry, raw: Path, scratch: Path) -> Content:
    """The same text in passages of at most 200 characters, broken between words.

    Class 1 are those of topics that define a piece of syntax (with a `::=`), class 0 all others.
    Topics quote each other: each passage is kept once, and none that is in both classes. In a
    random order, the same each time.
    """
    classes: dict[str, set[int]] = {}
    for topic in _topics(entry):
        for passage in textwrap.wrap(topic, 200, break_long_words=False):
            classes.setdefault(passage, set()).add(int("::=" in topic))
    found = [(text.encode(), min(of)) for text, of in classes.items() if len(of) == 1]
    order = np.random.default_rng(stream_seed("data", entry.name)).permutation(len(found))
    labels = np.array([found[i][1] for i in order], np.int64)
    texts = [found[i][0] for i in order]
    return joined(entry, [Part("train", FOLDER, texts=texts, labels=labels)])


def cone(entry: DatasetEntry, raw: Path, scratch: Path) -> Content:
    """Radius sqrt(5 χ²_2), class 0 within half a radian of the axis, class 1 elsewhere.

    500 points a class for training and 100 for testing, and a grid over the plane.
    """
    generator = np.random.default_rng(stream_seed("data", entry.name))
    drawn = Path(f"({entry.name}, drawn)")
    parts = []
    for split, n in [("train", 500), ("test", 100)]:
        radius = np.sqrt(5 * generator.chisquare(2, 2 * n))
        inside = generator.uniform(-0.5, 0.5, n)
        outside = generator.uniform(0.5, 2 * np.pi - 0.5, n)
        angle = np.concatenate([inside, outside])
        points = radius[:, None] * np.stack([np.cos(angle), np.sin(angle)], 1)
        parts.append(Part(split, drawn, points=points, labels=np.repeat([0, 1], n)))
    side = np.linspace(-8, 8, 41)
    points = np.stack(np.meshgrid(side, side), -1).reshape(-1, 2)
    labels = (np.abs(np.arctan2(points[:, 1], points[:, 0])) > 0.5).astype(np.int64)
    return joined(entry, [*parts, Part("grid", drawn, points=points, labels=labels)])


def mixture(entry: DatasetEntry, raw: Path, scratch: Path) -> Content:
    """1000 points of `classes` Gaussians of deviation 2 around means N(0, I) in 100 dimensions.

    Class sizes fall geometrically, the largest `imbalance` times the smallest; in random order.
    """
    generator = np.random.default_rng(stream_seed("data", entry.name))
    K, N, d = entry.K, 1000, 100
    share = entry.imbalance ** -np.linspace(0, 1, K)
    ends = np.round(N * np.cumsum(share) / share.sum()).astype(np.int64)
    labels = generator.permutation(np.repeat(np.arange(K), np.diff(ends, prepend=0)))
    means = generator.standard_normal((K, d))
    points = means[labels] + 2 * generator.standard_normal((N, d))
    drawn = Path(f"({entry.name}, drawn)")
    return joined(entry, [Part("train", drawn, points=points, labels=labels)])


def _topics(entry: DatasetEntry) -> list[str]:
    file = FOLDER / "topics.json.gz"
    with gzip.open(file, "rt", encoding="utf-8") as text:
        by_name = json.load(text)
    found = [by_name[name] for name in sorted(by_name)]
    _check(entry, file, "\n\n".join(found).encode())
    return found


def _check(entry: DatasetEntry, file: Path, data: bytes) -> None:
    kind, _, expected = (entry.checksum or "").partition(":")
    if hashlib.new(kind or "sha256", data).hexdigest() != expected:
        raise DataError(
            f"{entry.name}: what {file} holds does not have the checksum of config/datasets.yaml: "
            "restore both files as they came with the project."
        )
