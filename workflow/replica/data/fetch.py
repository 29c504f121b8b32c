"""Retrieval of data sets: checksummed, resumed, retried, from several mirrors, atomic.

A mirror is a folder or an http(s) address. A file that arrived has its final name only after its
checksum matched the registry's.
"""

import os
import shutil
import time
from collections.abc import Sequence
from pathlib import Path

import requests

from replica.data.registry import DatasetEntry, matches
from replica.progress import progress

# Small, because what is in flight of a chunk is lost when a connection drops.
CHUNK = 2**14
TRIES = 3


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
    growing pause; a broken transfer goes on where it stopped. Files that are there and whole are
    not fetched again.

    Args:
        entry: what to fetch.
        mirrors: folders, or http(s) addresses; the file is looked for at `<mirror>/<data set>/`
            and at `<mirror>/`.
        folder: where the files go.
        pause: seconds before the second try; doubled for the third.
        timeout: seconds without an answer or data after which a try is given up.

    Returns:
        The files, in the order of the registry.

    Raises:
        FetchError: one sentence: which file, what was tried, what to do.
    """
    return [
        _fetch(entry, name, checksum, mirrors, folder, pause, timeout)
        for name, checksum in entry.files.items()
    ]


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
    if target.exists() and matches(target, checksum):
        return target
    reasons = []
    for source in _sources(entry, name, mirrors):
        for attempt in range(TRIES):
            try:
                resumed = False
                if source.startswith(("http://", "https://")):
                    resumed = _download(source, partial, timeout)
                elif Path(source).is_file():
                    folder.mkdir(parents=True, exist_ok=True)
                    shutil.copyfile(source, partial)
                else:
                    raise FileNotFoundError(source)
                if not matches(partial, checksum):
                    partial.unlink()
                    reason = "its checksum is not the one in config/datasets.yaml"
                    if resumed:
                        # The first part may have come from another mirror: once more, from zero.
                        continue
                    break
                os.replace(partial, target)
                return target
            except FileNotFoundError:
                reason = "no such file"
                break
            except requests.HTTPError as error:
                reason = f"HTTP status {error.response.status_code}"
                if error.response.status_code < 500:
                    break
            except requests.RequestException as error:
                reason = _network_reason(error)
            if attempt + 1 < TRIES:
                time.sleep(pause * 2**attempt)
        reasons.append(f"{source} ({reason})")
    if partial.exists() and not partial.stat().st_size:
        partial.unlink()
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()
    where = "; ".join(reasons) or "nowhere, the registry has no address for it"
    raise FetchError(
        f"Could not fetch {name} of the data set {entry.name}: tried {where}. Connect to the "
        f"network, or put the file into a folder and name that folder under `mirrors` in "
        f"config/config.yaml."
    )


def _sources(entry: DatasetEntry, name: str, mirrors: Sequence[str]) -> list[str]:
    found = []
    for mirror in mirrors:
        base = mirror.rstrip("/")
        found += [f"{base}/{entry.name}/{name}", f"{base}/{name}"]
    return found + [f"{url.rstrip('/')}/{name}" for url in entry.urls]


def _download(url: str, partial: Path, timeout: float) -> bool:
    """Download into `partial`, going on after the bytes that are there; whether it did so."""
    have = partial.stat().st_size if partial.exists() else 0
    headers = {"Range": f"bytes={have}-"} if have else {}
    with requests.get(url, headers=headers, stream=True, timeout=timeout) as answer:
        if answer.status_code == requests.codes.requested_range_not_satisfiable:
            # Everything is there already; the checksum decides.
            return True
        answer.raise_for_status()
        resumed = answer.status_code == requests.codes.partial_content
        have = have if resumed else 0
        total = have + int(answer.headers.get("Content-Length", 0))
        partial.parent.mkdir(parents=True, exist_ok=True)
        mebi = 2**20
        with (
            open(partial, "ab" if resumed else "wb") as out,
            progress(partial.stem, -(-total // mebi), have // mebi) as tick,
        ):
            for chunk in answer.iter_content(CHUNK):
                out.write(chunk)
                tick(out.tell() // mebi, lambda: "MiB")
        if total and partial.stat().st_size < total:
            raise requests.ConnectionError("the connection was closed early")
    return resumed


def _network_reason(error: requests.RequestException) -> str:
    if isinstance(error, requests.Timeout):
        return "no answer in time"
    if isinstance(error, requests.ConnectionError):
        return "no connection"
    return type(error).__name__


def receipt(entry: DatasetEntry, files: Sequence[Path]) -> dict[str, object]:
    """What was fetched, for the small file that the workflow depends on."""
    return {
        "dataset": entry.name,
        "files": {
            path.name: {"checksum": entry.files[path.name], "bytes": path.stat().st_size}
            for path in files
        },
    }
