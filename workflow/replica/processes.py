"""Who works in a project's folder: one reproduction at a time, and what a killed one left."""

import os
import re
import socket
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import psutil
from filelock import FileLock, Timeout

from replica import adoption, artifacts, fork_server


class AlreadyRunning(RuntimeError):
    """Another reproduction works in this folder."""


@contextmanager
def alone(root: Path) -> Iterator[None]:
    """Within the block no reproduction runs in a project's folder, and none starts.

    Raises:
        AlreadyRunning: one runs.
        OSError: the folder cannot be worked in.
    """
    folder = root / ".snakemake"
    folder.mkdir(exist_ok=True)
    holder = folder / "replica.holder"
    lock = FileLock(folder / "replica.lock")
    try:
        # `running` may hold it for a moment.
        lock.acquire(timeout=1)
    except Timeout:
        raise AlreadyRunning(_already(holder)) from None
    with lock:
        _refuse_beside_snakemake(root)
        artifacts.remove(holder)
        holder.write_text(f"process {os.getpid()} on {socket.gethostname()}", encoding="utf-8")
        yield


def running(root: Path) -> list[str]:
    """Who works in a project's folder now, and what is being made, in lines; none where nobody."""
    folder = root / ".snakemake"
    heads = [p for p in _own_processes() if is_head(_words(p)) and p.info["cwd"] == str(root)]
    lines = []
    if (folder / "replica.lock").exists():
        try:
            # Held for a moment; who cannot write to it cannot be told.
            with FileLock(folder / "replica.lock", timeout=0):
                pass
        except Timeout:
            lines.append(_already(folder / "replica.holder"))
        except OSError:
            pass
    if not lines and not heads:
        return []
    lines = lines or [f"Snakemake runs in this folder (process {heads[0].pid})."]
    if made := sorted(_begun(folder / "incomplete")):
        more = f" and {len(made) - 10} more" if len(made) > 10 else ""
        lines.append(f"being made or in the queue: {', '.join(made[:10])}{more}")
    return lines


def _begun(folder: Path) -> set[str]:
    """The outputs of jobs that have begun, without the ending."""
    return {re.sub(r"(\.history|\.labelled)?\.\w+$", "", name) for name in adoption.noted(folder)}


def _already(holder: Path) -> str:
    try:
        who = holder.read_text(encoding="utf-8")
    except OSError:
        who = "another process"
    return f"A reproduction runs in this folder already ({who}); wait for it, or stop it."


def _refuse_beside_snakemake(root: Path) -> None:
    """A Snakemake that was started by hand holds no lock of ours."""
    for process in _own_processes():
        if is_head(_words(process)) and process.info["cwd"] == str(root.resolve()):
            raise AlreadyRunning(
                f"Snakemake runs in this folder already (process {process.pid}); "
                "wait for it, or stop it."
            )


def is_head(words: Sequence[str]) -> bool:
    """Whether a command line is of a Snakemake that starts jobs.

    It is where `snakemake` is the program, or the script or the module of a Python; a word of that
    name elsewhere is another program's (`man snakemake`). The one inside a job has a mode.
    """
    return _program(words) == "snakemake" and "--mode" not in words


def _program(words: Sequence[str]) -> str:
    """What a command line runs: the program, or what it has a Python interpreter run."""
    if not words:
        return ""
    name = Path(words[0]).name
    if not re.fullmatch(r"(python|pypy)[\d.]*t?", name):
        return name
    rest = iter(words[1:])
    for word in rest:
        if not word.startswith("-") or word == "-":
            return Path(word).name
        if word.startswith("--"):
            if word == "--check-hash-based-pycs":
                next(rest, "")
            continue
        # Short options may stand together; the last of them may take the rest or the next word.
        if found := re.match(r"-[^mcWX]*([mcWX])(.*)", word):
            option, value = found.groups()
            value = value or next(rest, "")
            if option in "mc":
                return value.partition(".")[0] if option == "m" else ""
    return ""


def stop_leftovers(root: Path) -> None:
    """End scripts of jobs whose Snakemake was killed; their checkpoints are kept."""
    here = str(root.resolve())
    left = [
        process
        for process in _own_processes()
        if any(word.startswith(f"{here}/.snakemake/scripts/") for word in _words(process))
        or (fork_server.__name__ in _words(process)[:3] and process.info["cwd"] == here)
    ]
    if left:
        print("Stopping the jobs that an earlier run left.", file=sys.stderr)
    for process in left:
        process.terminate()
    _, alive = psutil.wait_procs(left, timeout=20)
    for process in alive:
        process.kill()


def _words(process: psutil.Process) -> list[str]:
    return process.info["cmdline"] or []


def _own_processes() -> list[psutil.Process]:
    mine = os.getuid()
    return [
        process
        for process in psutil.process_iter(["cmdline", "cwd", "uids"])
        if process.info["uids"] and process.info["uids"].real == mine and process.pid != os.getpid()
    ]
