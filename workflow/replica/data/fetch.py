"""Retrieval of data sets: checksummed, resumed, retried, from several mirrors, atomic.

A source is a folder or an http(s) address. A file that arrived has its final name only after its
checksum matched the registry's.
"""

import contextlib
import os
import time
from collections.abc import Sequence
from pathlib import Path

from replica.data.at_hand import places
from replica.data.registry import DatasetEntry, matches
from replica.data.transfer import Unavailable, cannot_use, copy, download
from replica.places import is_address

TRIES = 3
LONGEST_PAUSE = 60.0


class FetchError(RuntimeError):
    """A file could not be had from anywhere, or what came is not the file."""


def fetch_dataset(
    entry: DatasetEntry,
    mirrors: Sequence[str],
    folder: Path,
    *,
    pause: float = 1.0,
    timeout: float = 30.0,
) -> list[Path]:
    """Bring every file of a data set into `folder`; nothing to do for embedded ones.

    Configured mirrors are tried before the official addresses, each up to three times with a
    growing pause, or the one that the server asks for; a broken transfer goes on where it stopped.
    Files that are there and whole are not fetched again.

    Args:
        entry: what to fetch.
        mirrors: folders, or http(s) addresses; see `replica.data.at_hand.places`.
        folder: where the files go.
        pause: seconds before the second try; doubled for the third.
        timeout: seconds without an answer or data after which a try is given up.

    Returns:
        The files, in the order of the registry.

    Raises:
        FetchError: one sentence: which file, what was tried, what to do.
        CannotWrite: the disk is full or the folder cannot be written to.
    """
    return [
        _fetch(entry, name, checksum, mirrors, folder, pause, timeout)
        for name, checksum in entry.files.items()
    ]


def receipt(entry: DatasetEntry, files: Sequence[Path]) -> dict[str, object]:
    """What was fetched, for the small file that the workflow depends on."""
    return {
        "dataset": entry.name,
        "files": {
            path.name: {"checksum": entry.files[path.name], "bytes": path.stat().st_size}
            for path in files
        },
    }


def _fetch(
    entry: DatasetEntry,
    name: str,
    checksum: str,
    mirrors: Sequence[str],
    folder: Path,
    pause: float,
    timeout: float,
) -> Path:
    target, partial = folder / name, folder / f"{name}.part"
    try:
        if target.exists() and matches(target, checksum):
            return target
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise cannot_use(target, error) from error
    reasons = []
    for source in _sources(entry, name, mirrors):
        reason = _from_source(source, partial, checksum, pause, timeout)
        if reason is None:
            try:
                os.replace(partial, target)
            except OSError as error:
                raise cannot_use(target, error) from error
            return target
        reasons.append(f"{source} ({reason})")
    if partial.exists() and not partial.stat().st_size:
        partial.unlink()
    with contextlib.suppress(OSError):  # something is in it
        folder.rmdir()
    where = "; ".join(reasons) or "nowhere, the registry has no address for it"
    put = "put the file into a folder and name that folder under `mirrors` in config/config.yaml"
    # Without an address it is the user's own file, and so is what the registry says of it.
    advice = (
        f"Connect to the network, or {put}." if entry.urls
        else f"Either {put}; or, where it is there, correct its checksum in config/datasets.yaml."
    )  # fmt: skip
    raise FetchError(
        f"Could not fetch {name} of the data set {entry.name}: tried {where}. {advice}"
    )


def _sources(entry: DatasetEntry, name: str, mirrors: Sequence[str]) -> list[str]:
    found = [place for mirror in mirrors for place in places(entry, name, mirror)]
    return found + [f"{url.rstrip('/')}/{name}" for url in entry.urls]


def _from_source(
    source: str, partial: Path, checksum: str, pause: float, timeout: float
) -> str | None:
    """Bring a file into `partial`; None, or why the last try at this source failed."""
    for attempt in range(TRIES):
        try:
            if is_address(source):
                download(source, partial, checksum, timeout)
            else:
                copy(Path(source), partial, checksum)
            return None
        except Unavailable as failure:
            reason = str(failure)
            if not failure.again or attempt + 1 == TRIES:
                return reason
            wait = pause * 2**attempt if failure.after is None else failure.after
            time.sleep(min(wait, LONGEST_PAUSE))
    return reason
