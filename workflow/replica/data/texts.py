"""Texts as bytes of UTF-8, and the readers of text files and of the IMDB archive."""

from pathlib import Path

import numpy as np

from replica.data.archives import unpacked
from replica.data.joining import joined
from replica.data.parts import Content, DataError, Part, files_by_split
from replica.data.registry import DatasetEntry


def utf8(text: bytes, where: str) -> bytes:
    """The same bytes.

    Raises:
        DataError: they are not UTF-8; names the first wrong byte.
    """
    try:
        text.decode()
    except UnicodeDecodeError as error:
        raise DataError(
            f"{where}: byte {error.start} (counted from 0) is {text[error.start]:#04x}, which is "
            "not UTF-8: convert the text to UTF-8."
        ) from None
    return text


def text_file(entry: DatasetEntry, raw: Path, scratch: Path) -> Content:
    """Plain texts; a byte order mark is dropped, and line breaks become `\\n`."""
    parts = []
    for split, file in files_by_split(entry, raw):
        text = utf8(file.read_bytes(), str(file))
        if (zero := text.find(0)) >= 0:
            raise DataError(
                f"{file}: byte {zero} (counted from 0) is 0x00, so it is not UTF-8 text: convert "
                "it to UTF-8."
            )
        text = text.removeprefix(b"\xef\xbb\xbf").replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        if not text:
            raise DataError(f"{file} is empty.")
        parts.append(Part(split, file, texts=[text]))
    return joined(entry, parts)


def imdb(entry: DatasetEntry, raw: Path, scratch: Path) -> Content:
    """The archive aclImdb: a file a review, in the folders neg and pos of train and test."""
    (name,) = entry.files
    parts = []
    with unpacked(raw / name, scratch) as folder:
        for split in ("train", "test"):
            texts, labels = [], []
            for label, feeling in enumerate(["neg", "pos"]):
                paths = [*folder.glob(f"aclImdb/{split}/{feeling}/[0-9]*_*.txt")]
                for path in sorted(paths, key=_review_number):
                    texts.append(utf8(path.read_bytes(), str(path.relative_to(folder))))
                    labels.append(label)
            labels = np.array(labels, np.int64)
            parts.append(Part(split, raw / name, texts=texts, labels=labels))
    return joined(entry, parts)


def _review_number(path: Path) -> int:
    return int(path.stem.partition("_")[0])
