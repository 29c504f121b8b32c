"""Small files of each kind of data set, and a data set made of them."""

import gzip
import hashlib
import io
import struct
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from replica.data.prepare import Dataset, load, prepare_dataset, verify
from replica.data.registry import DatasetEntry

IMAGES = np.random.default_rng(0).integers(0, 256, (6, 3, 32, 32), dtype=np.uint8)
LABELS = np.array([0, 1, 2, 0, 1, 2])


def md5(data: bytes) -> str:
    return f"md5:{hashlib.md5(data).hexdigest()}"


def entry(kind="text_file", files=None, **more) -> DatasetEntry:
    checks = {name: md5(data) for name, data in (files or {}).items()}
    return DatasetEntry(name="toy", title="Toy", kind=kind, licence="none", files=checks, **more)


def prepared(tmp_path: Path, kind: str, files: dict[str, bytes], **more) -> Dataset:
    raw = tmp_path / "raw"
    raw.mkdir(exist_ok=True)
    for name, data in files.items():
        (raw / name).write_bytes(data)
    card = prepare_dataset(entry(kind, files, **more), raw, tmp_path / "prepared")
    verify(card)
    return load(card)


def idx(array: np.ndarray) -> bytes:
    head = b"\0\0\x08" + bytes([array.ndim]) + struct.pack(f">{array.ndim}i", *array.shape)
    return gzip.compress(head + array.tobytes())


def tar(members: dict[str, bytes], mode: str = "w:gz") -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode=mode) as file:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            file.addfile(info, io.BytesIO(data))
    return out.getvalue()


def zipped(members: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as file:
        for name, data in members.items():
            file.writestr(name, data)
    return out.getvalue()


def saved(image: Image.Image, kind: str = "png", **more) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **more)
    return out.getvalue()


def png(image: np.ndarray) -> bytes:
    return saved(Image.fromarray(image.transpose(1, 2, 0)))


def npy(array: np.ndarray) -> bytes:
    out = io.BytesIO()
    np.save(out, array)
    return out.getvalue()


def parquet(**columns) -> bytes:
    out = io.BytesIO()
    pq.write_table(pa.table(columns), out)
    return out.getvalue()
