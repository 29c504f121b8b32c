"""Which data are at hand: in a folder that `mirrors` names, fetched already, or out of reach.

A file of a folder counts as the one of the registry if it has its name and its size; a checksum is
computed when it is fetched.
"""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path

from replica.artifacts import remove, write_bytes
from replica.data.registry import DatasetEntry, card_path
from replica.places import is_address


def places(entry: DatasetEntry, name: str, mirror: str) -> list[str]:
    """Where a mirror may have a file of a data set: the first that is there is taken.

    What stands in for another data set may lie in the folder of that one.
    """
    base = mirror.rstrip("/")
    folders = [entry.name, *([entry.stands_in_for] if entry.stands_in_for else [])]
    return [*(f"{base}/{folder}/{name}" for folder in folders), f"{base}/{name}"]


def in_mirrors(entry: DatasetEntry, mirrors: Iterable[str], root: Path) -> bool:
    """Whether folders among the mirrors hold all files of a data set; nothing is downloaded.

    Args:
        root: the project's folder, which relative paths start from.
    """
    folders = [mirror for mirror in mirrors if not is_address(mirror)]
    return bool(entry.files) and all(
        any(
            _is_file(root / place, entry.bytes.get(name))
            for folder in folders
            for place in places(entry, name, folder)
        )
        for name in entry.files
    )


def _is_file(path: Path, size: int | None) -> bool:
    try:
        return path.is_file() and size in (None, path.stat().st_size)
    except OSError:  # a folder that may not be entered
        return False


def is_fetched(entry: DatasetEntry, data: Path) -> bool:
    """Whether the files of a data set, or what was prepared from them, are in the data folder."""
    raw = data / "raw" / entry.name
    return card_path(str(data), entry.name).exists() or (
        bool(entry.files) and all(_is_file(raw / name, None) for name in entry.files)
    )


def stand_ins(
    registry: Mapping[str, DatasetEntry], mirrors: Iterable[str], root: Path, data: Path
) -> dict[str, str]:
    """The data sets whose place another one takes: name -> name of the stand-in.

    A stand-in takes the place where folders among the mirrors hold all of its files, and the
    original is neither there nor fetched.
    """
    mirrors = list(mirrors)
    found: dict[str, str] = {}
    for entry in registry.values():
        if entry.stands_in_for is None or not in_mirrors(entry, mirrors, root):
            continue
        original = registry[entry.stands_in_for]
        if not in_mirrors(original, mirrors, root) and not is_fetched(original, data):
            found[original.name] = entry.name
    return found


def note(entry: DatasetEntry, data: Path, reason: str) -> None:
    """Write down that a data set could not be had, and why."""
    noted = {"files": entry.files, "reason": reason}
    write_bytes(_note(entry, data), json.dumps(noted, indent=1).encode())


def forget(entry: DatasetEntry, data: Path) -> None:
    """Take such a note away."""
    remove(_note(entry, data))


def out_of_reach(entry: DatasetEntry, data: Path) -> str:
    """Why a data set could not be had; "" where it is fetched or nobody has noted that."""
    try:
        noted = json.loads(_note(entry, data).read_text(encoding="utf-8"))
        known = noted["files"] == entry.files and not is_fetched(entry, data)
        return str(noted["reason"]) if known else ""
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def _note(entry: DatasetEntry, data: Path) -> Path:
    return data / "missing" / f"{entry.name}.json"
