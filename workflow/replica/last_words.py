"""Why jobs failed, passed on to the last lines that `launch` prints.

A job says its last sentence to the process that started it, where that is of ours, and to its log.
Snakemake's process hands on which jobs failed, through a pipe: a full disk does not stop it.
"""

import json
import logging
import os
import re
import signal
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

# The variables that hold the numbers of pipes: Snakemake's to `launch`, a job's to its starter.
PIPE, JOB_PIPE = "REPLICA_PIPE", "REPLICA_JOB_PIPE"
# Set where jobs run on a cluster: Ctrl-C cancels them.
CANCELS = "REPLICA_CANCELS"
# Exit status of a job that has noted what it lacked, and is to be tried again (EX_TEMPFAIL).
TRY_AGAIN = 75
# Slurm's own logs (profiles/slurm), and what it says there of a job that it ended.
SLURM_LOGS = "results/logs/slurm"
OF_SLURM = re.compile(r"^slurmstepd\S*: error: \*+ (.*?) \*+$", re.MULTILINE)
# How the line begins in which a log says why the job failed.
FAILED = "Failed: "
# What is written at once to a pipe is not mixed with anything else up to 4096 bytes.
LONGEST = 1500

Tell = Callable[[Mapping[str, Any]], None]


def sentence_of(error: BaseException) -> str:
    """The name of an exception and what it says, on one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}".removesuffix(": ")[:LONGEST]


def say(sentence: str) -> None:
    """The last sentence of this job, to the log that standard error is, and to its starter."""
    with suppress(OSError):
        os.write(2, f"{FAILED}{sentence}\n".encode())
    with suppress(OSError, KeyError):
        os.write(int(os.environ[JOB_PIPE]), sentence.encode()[:4096])


def killed(status: int, mem_mb: object) -> str:
    """What is to be said of a process that a signal ended, as its exit status says."""
    words = f"was killed (signal {-status})"
    if status == -signal.SIGKILL:
        words += f", perhaps for lack of memory: it had asked for {mem_mb} MB"
    return words


def listen() -> Tell:
    """In Snakemake's process: tell `launch`, where it started this, of every failed job.

    Returns:
        A function that tells `launch` more; it does nothing where there is no `launch`.
    """
    # Jobs are started with these variables too, and have not got the pipe.
    pipe = os.environ.pop(PIPE, None)
    if pipe is None:
        return lambda event: None
    if os.environ.pop(CANCELS, None):
        signal.signal(signal.SIGINT, _interrupt_once)

    def tell(event: Mapping[str, Any]) -> None:
        with suppress(OSError):
            os.write(int(pipe), json.dumps(event).encode() + b"\n")

    handler = logging.Handler()
    handler.emit = lambda record: _hand_on(event_of(record), tell)  # type: ignore[method-assign]
    logging.getLogger("snakemake.logging").addHandler(handler)
    tell({"event": "started"})
    return tell


def _interrupt_once(number: int, frame: object) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    raise KeyboardInterrupt


def _hand_on(event: Mapping[str, Any] | None, tell: Tell) -> None:
    if event and event["event"] in ("failed", "done"):
        tell(event)


def kind_of(record: Any) -> str:
    """The kind of event that Snakemake adds to a log record; "" where it adds none."""
    return str(getattr(getattr(record, "event", None), "value", ""))


def event_of(record: Any) -> dict[str, Any] | None:
    """What a record of Snakemake's logger says of a job: that it is running, done or failed.

    Returns:
        `event` and `job`, its number; of a running job its `log`; of a failed one its `rule`, the
        log or else an output in `files`, and Snakemake's `words`. None for any other record.
    """
    kind = kind_of(record)
    if kind == "job_info":
        return {"event": "running", "job": record.jobid, "log": next(iter(record.log), "")}
    if kind == "job_finished":
        return {"event": "done", "job": record.job_id}
    if kind == "job_error":
        files = [*map(str, record.log), *map(str, record.output)]
        return {"event": "failed", "job": record.jobid, "rule": record.rule_name,
                "files": files[:1], "words": str(record.rule_msg or "")[:LONGEST]}  # fmt: skip
    return None


def failures(events: Iterable[Mapping[str, Any]], root: Path, since: float) -> list[str]:
    """A line for every job that failed and was not made by a later attempt.

    Args:
        events: as Snakemake's process told them.
        since: when it was started, in seconds since the epoch; older logs are of earlier runs.
    """
    failed: dict[int, Mapping[str, Any]] = {}
    words: dict[str, str] = {}
    for event in events:
        if event["event"] == "failed":
            failed[event["job"]] = event
        elif event["event"] == "done":
            failed.pop(event["job"], None)
        elif event["event"] == "words":
            words[event["log"]] = event["words"]
    lines = []
    for event in failed.values():
        log = next(iter(event["files"]), "").partition(" ")[0]
        said = (
            words.get(log) or _in_log(root / log, since) or " ".join(event["words"].split())
            or _of_slurm(root, log, since)
            or "ended without a word; was it killed, perhaps for lack of memory?"
        )  # fmt: skip
        lines.append(f"{_name(event['rule'], log)}: {said} (log: {log})")
    return lines


def _name(rule: str, log: str) -> str:
    """The rule with study, run and part, or what else the path of the log names."""
    name = log.partition(f"/logs/{rule}/")[2].removesuffix(".log")
    return f"{rule} {name}".rstrip()


def _of_slurm(root: Path, log: str, since: float) -> str:
    """What Slurm itself says in its log of the job that ran the one with this log; "" if nothing.

    Snakemake deletes these logs where the job succeeded.
    """
    for path in sorted((root / SLURM_LOGS).rglob("*.log")):
        with suppress(OSError):
            if path.stat().st_mtime >= since:
                text = path.read_text(encoding="utf-8", errors="replace")
                if log in text and (said := OF_SLURM.findall(text)):
                    return f"Slurm: {said[-1]}"
    return ""


def _in_log(path: Path, since: float) -> str:
    """The last sentence in a log of this run; "" where there is none."""
    try:
        if path.stat().st_mtime < since:
            return ""
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    return next((x.removeprefix(FAILED) for x in reversed(lines) if x.startswith(FAILED)), "")
