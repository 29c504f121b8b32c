"""Readers of Parquet tables of images and of texts."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from replica.data import labels
from replica.data.images import decoded
from replica.data.joining import joined
from replica.data.parts import Content, DataError, Part, files_by_split
from replica.data.registry import DatasetEntry
from replica.data.texts import utf8


def image_table(entry: DatasetEntry, raw: Path, scratch: Path) -> Content:
    """Tables with a column img or image of encoded pictures, and a column label.

    Pictures are bytes, or records with a field `bytes`.
    """
    parts = []
    for split, file in files_by_split(entry, raw):
        values, column, classes = _columns(file, ("img", "image"))
        if pa.types.is_struct(values.type):
            if "bytes" not in [field.name for field in values.type]:
                raise DataError(
                    f"{file}, column {column}: records need a field `bytes` with the encoded "
                    f"image, but have {values.type}."
                )
            values = pc.struct_field(values, "bytes")
        if not _is_bytes(values.type):
            raise DataError(f"{file}, column {column}: images must be bytes, not {values.type}.")
        images = decoded(_rows(values, file, column, "image"), entry.size, entry.orientation)
        parts.append(Part(split, file, images=images, labels=classes))
    return joined(entry, parts)


def text_table(entry: DatasetEntry, raw: Path, scratch: Path) -> Content:
    """Tables with the columns text and label."""
    parts = []
    for split, file in files_by_split(entry, raw):
        values, column, classes = _columns(file, ("text",))
        if not (_is_bytes(values.type) or pa.types.is_string(values.type)
                or pa.types.is_large_string(values.type)
                or pa.types.is_string_view(values.type)):  # fmt: skip
            raise DataError(f"{file}, column {column}: texts must be strings, not {values.type}.")
        rows = _rows(values.cast(pa.large_binary()), file, column, "text")
        texts = [utf8(text, where) for where, text in rows]
        parts.append(Part(split, file, texts=texts, labels=classes))
    return joined(entry, parts)


def _columns(file: Path, wanted: tuple[str, ...]) -> tuple[pa.ChunkedArray, str, np.ndarray]:
    """The first of the wanted columns that the table has, its name, and the labels."""
    try:
        # Not as a data set: a folder called `label=1` above the file would become a column.
        with pq.ParquetFile(file) as table:
            names = table.schema_arrow.names
            column = next((name for name in wanted if name in names), None)
            if column is None or "label" not in names:
                raise DataError(
                    f"{file} needs the columns {' or '.join(wanted)}, and label; it has "
                    f"{', '.join(names)}."
                )
            content = table.read(columns=[column, "label"])
            values, classes = content[column], content["label"]
            if pa.types.is_dictionary(values.type):
                values = values.cast(values.type.value_type)
    except (pa.ArrowException, KeyError, OSError) as error:
        words = " ".join(str(error).split())
        raise DataError(f"{file} cannot be read as a Parquet table: {words}") from error
    if not len(values):
        raise DataError(f"{file} has no rows.")
    return values, column, labels.from_column(classes, f"{file}, column label")


def _is_bytes(kind: pa.DataType) -> bool:
    return (
        pa.types.is_binary(kind) or pa.types.is_large_binary(kind)
        or pa.types.is_fixed_size_binary(kind) or pa.types.is_binary_view(kind)
    )  # fmt: skip


def _rows(
    values: pa.ChunkedArray, file: Path, column: str, what: str
) -> Iterator[tuple[str, bytes]]:
    for row, value in enumerate(values):
        where = f"{file}, column {column}, row {row} (counted from 0)"
        if not value.is_valid:
            raise DataError(f"{where}: there is no {what}.")
        yield where, value.as_py()
