"""Atomic, checksummed, provenance-stamped Parquet and safetensors; the only module that writes.

Every file is written under a temporary name in its own folder, flushed to the disk and renamed,
so that a final name always holds a whole file. Nothing is pickled.
"""

import hashlib
import json
import os
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from replica import refusals

if TYPE_CHECKING:
    # torch takes two seconds to import, and a job that only draws a table does not need it.
    import torch

STAMP = b"replica"


class CorruptArtifact(RuntimeError):
    """A file is truncated, or its contents or its stamp do not match their checksums."""


class CannotWrite(RuntimeError):
    """A file could not be written; nothing was left under its final name."""


@contextmanager
def atomic(path: Path | str) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success flush it and rename it to `path`.

    Raises:
        CannotWrite: the disk is full, the folder cannot be written to, or the like.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        with open(temporary, "rb+") as handle:
            os.fsync(handle.fileno())
        os.replace(temporary, path)
    except OSError as error:
        if error.errno not in refusals.REASONS or not _concerns(error, temporary):
            raise
        raise CannotWrite(
            f"Cannot write {path}: {refusals.reason(error, path)}, then run the same command again."
        ) from error
    finally:
        # Where nothing can be written nothing is left, and this fails like all else.
        with suppress(OSError):
            temporary.unlink()


def _concerns(error: OSError, temporary: Path) -> bool:
    """Whether an error is about the file that is being written, and not one that is read for it."""
    if error.filename is None or isinstance(error.filename, int):
        return True
    named = Path(os.fsdecode(error.filename))
    return named == temporary or named in temporary.parents


def remove(path: Path | str) -> None:
    """Delete a file; a missing file is not an error.

    Raises:
        CannotWrite: it cannot be deleted, and why.
    """
    try:
        Path(path).unlink(missing_ok=True)
    except OSError as error:
        raise CannotWrite(
            f"Cannot delete {path}: {refusals.reason(error, path)}, then run the same command "
            "again."
        ) from error


def write_bytes(path: Path | str, data: bytes) -> None:
    """Write `data` to `path` atomically."""
    with atomic(path) as temporary:
        temporary.write_bytes(data)


def table_digest(table: pa.Table) -> str:
    """sha256 over the columns, types and values of a table, without its metadata."""
    return _frame_digest(table.schema, table.replace_schema_metadata(None).to_pandas())


def _frame_digest(schema: pa.Schema, frame: pd.DataFrame) -> str:
    # By value, not by buffer: Parquet returns the same values in other buffers.
    digest = hashlib.sha256(json.dumps([str(field) for field in schema]).encode())
    digest.update(pd.util.hash_pandas_object(frame, index=False).to_numpy())  # type: ignore[arg-type]
    return digest.hexdigest()


def tensors_digest(tensors: Mapping[str, "torch.Tensor"]) -> str:
    """sha256 over the names, types, shapes and values of tensors, in the order of their names."""
    import torch

    def values(tensor: torch.Tensor) -> np.ndarray:
        return tensor.contiguous().cpu().flatten().view(torch.uint8).numpy()

    return _states_digest((n, f"{t.dtype}", t.shape, values(t)) for n, t in tensors.items())


def arrays_digest(arrays: Mapping[str, np.ndarray]) -> str:
    """The same digest of the same values as arrays, without importing torch."""

    def values(array: np.ndarray) -> np.ndarray:
        return np.ascontiguousarray(array).reshape(-1).view(np.uint8)

    return _states_digest((n, f"torch.{a.dtype}", a.shape, values(a)) for n, a in arrays.items())


def _states_digest(states: Iterable[tuple[str, str, Sequence[int], np.ndarray]]) -> str:
    digest = hashlib.sha256()
    for name, dtype, shape, values in sorted(states, key=lambda state: state[0]):
        digest.update(f"{name} {dtype} {tuple(shape)}".encode())
        digest.update(values)  # type: ignore[arg-type]
    return digest.hexdigest()


def write_table(path: Path | str, frame: pd.DataFrame, stamp: Mapping[str, object]) -> None:
    """Write a tidy table as Parquet (zstd) with `stamp` and the checksum of its contents.

    Raises:
        CannotWrite: see `atomic`.
    """
    table = pa.Table.from_pandas(frame, preserve_index=False)
    # The digest is taken of what a reader gets, not of what pandas held.
    content = _sealed(stamp, table_digest(table))
    table = table.replace_schema_metadata({STAMP: content.encode()})
    with atomic(path) as temporary:
        pq.write_table(table, temporary, compression="zstd")


def read_table(path: Path | str) -> pd.DataFrame:
    """Read a table written by `write_table`.

    Raises:
        CorruptArtifact: the file is truncated or its checksum does not match.
        OSError: there is no such file, or it may not be read.
    """
    return _read_table(path)[0]


def _refuse_unreadable(path: Path | str) -> None:
    """Raise the error of the system where a file cannot be read at all: it is not damaged then.

    The libraries that read artifacts give other errors for it, without the file's name.
    """
    open(path, "rb").close()


def _read_table(path: Path | str) -> tuple[pd.DataFrame, dict]:
    _refuse_unreadable(path)
    try:
        # A file at a time on one thread: starting threads takes longer than reading a small table.
        with pq.ParquetFile(path) as file:
            table = file.read(use_threads=False)
            # Parquet holds it twice; this is the one that `read_stamp` reads.
            stamp = _unsealed((file.schema_arrow.metadata or {}).get(STAMP, b"{}"))
    except (pa.ArrowException, OSError, ValueError) as error:
        # pyarrow has an OSError without a number for contents that it cannot read.
        if isinstance(error, OSError) and error.errno:
            raise
        raise _corrupt(path, "it cannot be read as Parquet with a stamp") from error
    frame = table.replace_schema_metadata(None).to_pandas(use_threads=False)
    if stamp.get("sha256") != _frame_digest(table.schema, frame):
        raise _corrupt(path, "its checksum does not match its contents")
    return frame, stamp


def write_tensors(
    path: Path | str, tensors: Mapping[str, "torch.Tensor"], stamp: Mapping[str, object]
) -> None:
    """Write named tensors (any device) as safetensors with `stamp` and a checksum.

    Raises:
        CannotWrite: see `atomic`.
    """
    from safetensors.torch import save

    # Copies: safetensors refuses two names for one piece of memory.
    host = {k: v.detach().to("cpu", copy=True).contiguous() for k, v in tensors.items()}
    content = _sealed(stamp, tensors_digest(host))
    write_bytes(path, save(host, metadata={STAMP.decode(): content}))


def read_tensors(path: Path | str) -> tuple[dict[str, "torch.Tensor"], dict]:
    """Read what `write_tensors` wrote: the tensors (on the CPU) and the stamp.

    Raises:
        CorruptArtifact: the file is truncated or its checksum does not match.
        OSError: there is no such file, or it may not be read.
    """
    return _read_states(path, "pt", tensors_digest)


def read_arrays(path: Path | str) -> tuple[dict[str, np.ndarray], dict]:
    """The same as arrays, for jobs that need no torch and not the seconds of its import."""
    return _read_states(path, "np", arrays_digest)


def _read_states(path: Path | str, framework: str, digest: Callable) -> tuple[dict, dict]:
    from safetensors import SafetensorError, safe_open

    path = Path(path)
    _refuse_unreadable(path)
    try:
        with safe_open(path, framework=framework) as handle:
            stamp = _unsealed((handle.metadata() or {}).get(STAMP.decode(), "{}"))
            states = {name: handle.get_tensor(name) for name in handle.keys()}  # noqa: SIM118
    except (SafetensorError, ValueError) as error:
        raise _corrupt(path, "it cannot be read as safetensors with a stamp") from error
    if stamp.get("sha256") != digest(states):
        raise _corrupt(path, "its checksum does not match its contents")
    return states, stamp


def read_stamp(path: Path | str) -> dict | None:
    """Read the provenance stamp of an artifact, or the mark of a drawing, without its data.

    Returns:
        The stamp; None for a whole file of another kind or of another origin.

    Raises:
        CorruptArtifact: the header cannot be read, or the stamp is not the one that was written.
        OSError: there is no such file, or it may not be read.
    """
    path = Path(path)
    _refuse_unreadable(path)
    try:
        if path.suffix == ".parquet":
            content = (pq.read_schema(path).metadata or {}).get(STAMP)
        elif path.suffix == ".safetensors":
            with open(path, "rb") as handle:
                (length,) = struct.unpack("<Q", handle.read(8))
                if length > path.stat().st_size:
                    raise ValueError("header longer than the file")
                header = json.loads(handle.read(length))
            content = header.get("__metadata__", {}).get(STAMP.decode())
        elif path.suffix in MARKS:
            text = _without_mark(path)[1]
            return json.loads(text) if text else None
        else:
            return None
        return None if content is None else _unsealed(content)
    except (pa.ArrowException, AttributeError, KeyError, ValueError, struct.error) as error:
        raise _corrupt(path, "it has no readable stamp") from error


# The comments of drawings and pages, which come after all that is shown.
MARKS = {".svg": (b"<!-- replica ", b" -->\n"), ".html": (b"<!-- replica ", b" -->\n"),
         ".pdf": (b"% replica ", b"\n")}  # fmt: skip


# The endings of files that carry a stamp or a mark.
STAMPED = (".parquet", ".safetensors", *MARKS)


def mark(path: Path | str, *, key: str, commit: str) -> None:
    """Write the key and the commit into an SVG, HTML or PDF file, as a comment at its end.

    It replaces the mark that is there; nothing of what is shown is different.

    Raises:
        CannotWrite: see `atomic`.
    """
    path = Path(path)
    opening, closing = MARKS[path.suffix]
    # Two hyphens in a row would end a comment.
    text = json.dumps({"commit": commit, "key": key}).replace("--", "-\\u002d")
    shown, _ = _without_mark(path)
    write_bytes(path, shown + b"\n" + opening + text.encode() + closing)


def _without_mark(path: Path) -> tuple[bytes, bytes]:
    """The bytes of a file before its mark, and the JSON of the mark (empty where it has none)."""
    content = path.read_bytes()
    opening, closing = MARKS.get(path.suffix, (b"", b""))
    shown, found, text = content.rpartition(b"\n" + opening)
    if not opening or not found or not content.endswith(closing):
        return content, b""
    return shown, text.removesuffix(closing)


def has_key(path: Path | str, key: str | None) -> bool:
    """Whether a file is there and its stamp or mark carries a key; its data are not read."""
    try:
        return Path(path).exists() and (read_stamp(path) or {}).get("key") == key
    # A run may delete it between the two.
    except (CorruptArtifact, FileNotFoundError):
        return False


def side_by_side(folder: Path) -> str:
    """A sentence on the libraries whose versions are mixed among the artifacts of a folder.

    A patch release of torch or numpy changes no number; another minor version may. "" where all
    artifacts of a folder come from one.
    """
    counts: dict[str, dict[str, int]] = {name: {} for name in ("torch", "numpy")}
    for path in sorted(folder.rglob("*")):
        if path.suffix not in (".parquet", ".safetensors"):
            continue
        try:
            versions = (read_stamp(path) or {}).get("versions", {})
        except (CorruptArtifact, OSError):
            continue
        for name, found in counts.items():
            if name in versions:
                minor = ".".join(versions[name].split(".")[:2])
                found[minor] = found.get(minor, 0) + 1
    mixed = [
        f"{name} " + " and ".join(f"{minor} ({n} files)" for minor, n in sorted(found.items()))
        for name, found in counts.items()
        if len(found) > 1
    ]
    if not mixed:
        return ""
    return (
        f"Results from different versions are mixed in {folder}: {'; '.join(mixed)}. "
        "To make all of them with one version, delete the folder and run again."
    )


def _sealed(stamp: Mapping[str, object], sha256: str) -> str:
    """The text of a stamp with the checksum of the data and one of the stamp itself."""
    text = json.dumps({**stamp, "sha256": sha256}, sort_keys=True)
    # Of the text as a reader gets it: numbers and keys may read differently from what they were.
    seal = hashlib.sha256(json.dumps(json.loads(text), sort_keys=True).encode()).hexdigest()
    return json.dumps({**json.loads(text), "seal": seal}, sort_keys=True)


def _unsealed(text: str | bytes) -> dict:
    """The stamp in `text`; a ValueError where it is not the one that was written."""
    stamp = json.loads(text)
    seal = stamp.pop("seal", "")
    if hashlib.sha256(json.dumps(stamp, sort_keys=True).encode()).hexdigest() != seal:
        raise ValueError("the stamp does not match its own checksum")
    return stamp


def verify(path: Path | str) -> dict:
    """Read an artifact whole, check its contents against its checksum, and return its stamp.

    Raises:
        CorruptArtifact: it is truncated or its checksum does not match.
    """
    path = Path(path)
    if path.suffix == ".safetensors":
        return read_arrays(path)[1]
    return _read_table(path)[1]


def whole_key(path: Path | str) -> str | None:
    """The key in the stamp of an artifact that was read whole; None where it is damaged."""
    try:
        return str(verify(path).get("key", ""))
    except CorruptArtifact:
        return None


def content_digest(path: Path | str) -> str:
    """sha256 of the data of an artifact, leaving out its stamp (times, hosts) or its mark.

    Two runs that computed the same numbers have the same content digest.
    """
    path = Path(path)
    if path.suffix == ".parquet":
        return table_digest(pq.read_table(path))
    if path.suffix == ".safetensors":
        return tensors_digest(read_tensors(path)[0])
    return hashlib.sha256(_without_mark(path)[0]).hexdigest()


def _corrupt(path: Path | str, reason: str) -> CorruptArtifact:
    return CorruptArtifact(
        f"{path} is damaged ({reason}): delete it and run the same command again; "
        "it will be rebuilt."
    )
