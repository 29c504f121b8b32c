"""Readers of published files of arrays: MNIST, CIFAR, SVHN, CIFAR-10-C, and weights of networks."""

import gzip
import pickle
import re
import zlib
from pathlib import Path

import numpy as np

from replica.data.archives import unpacked
from replica.data.joining import joined
from replica.data.labels import from_array
from replica.data.parts import Content, DataError, Part, files_by_split
from replica.data.registry import DatasetEntry, matches

SEVERITIES = 5  # of the corruptions of CIFAR-10-C, one after another in each file


def idx(entry: DatasetEntry, raw: Path, scratch: Path) -> Content:
    """Files of images and as many of labels in each split, which belong together in their order."""
    images: dict[str, list[tuple[Path, np.ndarray]]] = {}
    labels: dict[str, list[tuple[Path, np.ndarray]]] = {}
    for split, file in files_by_split(entry, raw):
        values = _idx_values(file)
        (images if values.ndim == 3 else labels).setdefault(split, []).append((file, values))
    parts = []
    for split in dict.fromkeys([*images, *labels]):
        pictures, classes = images.get(split, []), labels.get(split, [])
        if len(pictures) != len(classes):
            raise DataError(
                f"{entry.name}: {split} needs a file of labels for each file of images, and has "
                f"{len(pictures)} of images and {len(classes)} of labels."
            )
        for (file, pixels), (other, numbers) in zip(pictures, classes, strict=True):
            own = from_array(numbers, str(other))
            parts.append(Part(split, file, pixels[:, None], labels=own))
    return joined(entry, parts)


def _idx_values(file: Path) -> np.ndarray:
    data = file.read_bytes()
    if data.startswith(b"\x1f\x8b"):
        try:
            data = gzip.decompress(data)
        except (EOFError, OSError, zlib.error) as error:
            raise DataError(f"{file} is damaged: {error}.") from error
    # idx: two zero bytes, the type (8 = uint8), the number of dimensions, big-endian sizes.
    if len(data) < 4 or data[:3] != b"\0\0\x08" or data[3] not in (1, 3):
        raise DataError(
            f"{file} is not an idx file of bytes with one dimension (labels) or three (images): it "
            f"begins with {data[:4].hex(' ') or 'nothing'}."
        )
    head = 4 + 4 * data[3]
    shape = np.frombuffer(data[4:head].ljust(4 * data[3], b"\0"), ">i4").tolist()
    if min(shape) < 0 or len(data) - head != np.prod(shape, dtype=np.int64):
        raise DataError(
            f"{file} says that it holds {' x '.join(map(str, shape))} bytes, and holds "
            f"{max(len(data) - head, 0)}."
        )
    return np.frombuffer(data, np.uint8, offset=head).reshape(shape)


def cifar(entry: DatasetEntry, raw: Path, scratch: Path) -> Content:
    """Pickled batches of 32x32 images, each split joined from those that the registry lists."""
    (archive,) = entry.files
    parts = []
    with unpacked(raw / archive, scratch) as folder:
        for split, members in entry.members.items():
            for name, checksum in members.items():
                batch = _opened_pickle(folder / name, checksum)
                data, labels = batch.get(b"data"), batch.get(b"labels", batch.get(b"fine_labels"))
                where = f"{name} in {raw / archive}"
                if data is None or labels is None:
                    raise DataError(f"{where} does not hold data and labels.")
                pixels = _bytes_of(np.asarray(data), (None, 3 * 32 * 32), where)
                own = from_array(np.asarray(labels), where)
                parts.append(Part(split, Path(where), pixels.reshape(-1, 3, 32, 32), labels=own))
    return joined(entry, parts)


def _opened_pickle(path: Path, checksum: str) -> dict:
    """Open a pickle, which can run any code, only if it is the one that the registry knows."""
    if not path.is_file() or not matches(path, checksum):
        raise DataError(
            f"{path.name} inside the archive does not have the checksum of "
            "config/datasets.yaml; it was not opened."
        )
    with open(path, "rb") as file:
        return pickle.load(file, encoding="bytes")


def svhn(entry: DatasetEntry, raw: Path, scratch: Path) -> Content:
    """Files of MATLAB with X, (32, 32, 3, N) bytes, and y; the digit zero is called 10."""
    from scipy.io import loadmat

    parts = []
    for split, file in files_by_split(entry, raw):
        try:
            content = loadmat(file)
        # A parser of foreign bytes ends in any exception; all of them mean the same here.
        except Exception as error:
            raise DataError(f"{file} cannot be read as a MATLAB file: {error}.") from error
        if not {"X", "y"} <= set(content):
            names = ", ".join(name for name in content if not name.startswith("__"))
            raise DataError(f"{file} needs the arrays X and y, and has {names or 'none'}.")
        pixels = _bytes_of(content["X"], (32, 32, 3, None), f"{file}, array X")
        labels = from_array(content["y"].ravel(), f"{file}, array y")
        images = np.ascontiguousarray(pixels.transpose(3, 2, 0, 1))
        parts.append(Part(split, file, images, labels=np.where(labels == 10, 0, labels)))
    return joined(entry, parts)


def corrupted_cifar(entry: DatasetEntry, raw: Path, scratch: Path) -> Content:
    """CIFAR-10-C: a file a corruption with the test images at five severities, and labels."""
    (name,) = entry.files
    archive, found = raw / name, {}
    with unpacked(archive, scratch) as folder:
        for path in sorted(folder.rglob("[!.]*.npy")):
            if path.stem in found:
                raise DataError(f"{archive} holds {path.name} twice.")
            try:
                found[path.stem] = np.load(path, allow_pickle=False)
            except (OSError, ValueError, EOFError) as error:
                raise DataError(f"{path.name} in {archive} cannot be read: {error}.") from error
    labels = found.pop("labels", None)
    if labels is None or not found:
        raise DataError(f"{archive} does not hold labels.npy and a file for each corruption.")
    labels = from_array(labels, f"labels.npy in {archive}")
    if len(labels) % SEVERITIES:
        raise DataError(
            f"{archive}: {len(labels)} labels are not as many for each of the {SEVERITIES} "
            "severities."
        )
    parts = [Part("test", archive, labels=labels)]
    for corruption, values in found.items():
        where = f"{corruption}.npy in {archive}"
        pixels = _bytes_of(values, (len(labels), None, None, None), where)
        parts.append(Part(corruption, Path(where), pixels.transpose(0, 3, 1, 2).copy()))
    return joined(entry, parts, needed="test")


def _bytes_of(values: np.ndarray, shape: tuple[int | None, ...], where: str) -> np.ndarray:
    """The same array if it is uint8 of a shape, in which None stands for any number."""
    fits = len(shape) == values.ndim and all(
        want in (None, has) for want, has in zip(shape, values.shape, strict=True)
    )
    if values.dtype != np.uint8 or not fits:
        wanted = ", ".join("any" if side is None else str(side) for side in shape)
        raise DataError(
            f"{where}: pixels must be bytes (uint8) of the shape ({wanted}), not {values.dtype} of "
            f"the shape {values.shape}."
        )
    return values


def weights(entry: DatasetEntry, raw: Path, scratch: Path) -> Content:
    """Parameters of a network, saved by PyTorch; opened without running any code from the file."""
    import torch

    (name,) = entry.files
    file = raw / name
    try:
        state = torch.load(file, map_location="cpu", weights_only=True)
    # A parser of foreign bytes ends in any exception; all of them mean the same here.
    except Exception as error:
        raise DataError(f"{file} does not hold the parameters of a network.") from error
    if not isinstance(state, dict) or not state:
        raise DataError(
            f"{file} does not hold the named parameters of a network, but "
            f"{type(state).__name__}: save model.state_dict()."
        )
    arrays = {f"weights.{key}": _array(key, value, file) for key, value in state.items()}
    return Content(arrays)


def _array(key: object, value: object, file: Path) -> np.ndarray:
    import torch

    # The name becomes that of a file.
    if not isinstance(key, str) or not re.fullmatch(r"\w[\w.-]*", key):
        raise DataError(f"{file}: {key!r} is not the name of a parameter.")
    if not isinstance(value, torch.Tensor):
        raise DataError(
            f"{file}: {key} is not a tensor but {type(value).__name__}: save "
            "model.state_dict() alone."
        )
    if value.layout != torch.strided or value.is_quantized or value.is_complex():
        raise DataError(
            f"{file}: {key} is sparse, quantised or complex ({value.dtype}): save it as a plain "
            "tensor of real numbers."
        )
    plain = (torch.float16, torch.float32, torch.float64)
    if value.is_floating_point() and value.dtype not in plain:
        # NumPy has no bfloat16 and no floats of 8 bits; float32 holds each of their values.
        value = value.float()
    return value.detach().numpy()
