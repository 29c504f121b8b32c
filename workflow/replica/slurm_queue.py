"""The Slurm of this machine: the jobs of a project's folder in its queue, and cancelling them."""

import hashlib
import subprocess
import sys
import time
from pathlib import Path

from replica import refusals


class NoSlurm(RuntimeError):
    """There is no Slurm here."""


class SlurmSilent(RuntimeError):
    """There is a Slurm, and it does not answer or does not do what it was asked."""


# Slurm's own limit for an answer is 10 s (MessageTimeout); a busy one may need more.
ANSWER_SECONDS = 30
# Slurm kills a job 30 s after it asked it to end (KillWait); then its node cleans up.
LEAVING_SECONDS = 120
COMMANDS = ("sbatch", "scancel", "squeue", "sacct")


def job_prefix(root: Path) -> str:
    """The beginning of the names of this folder's jobs on a cluster."""
    return f"replica-{hashlib.sha256(str(root.resolve()).encode()).hexdigest()[:8]}"


def cancel_orphans(prefix: str, *, needed: bool) -> None:
    """Cancel the cluster jobs that a killed run left, and wait until they are gone.

    Args:
        prefix: of their names.
        needed: whether this run needs Slurm; where it does not, one that fails stops nothing.

    Raises:
        NoSlurm, SlurmSilent: see `queued`; also where the jobs do not end.
    """
    try:
        _cancel(prefix)
    except (NoSlurm, SlurmSilent) as error:
        if needed:
            raise
        if isinstance(error, SlurmSilent):
            print(f"{error} This run needs no Slurm and goes on.", file=sys.stderr)


def _cancel(prefix: str) -> None:
    jobs = left = queued(prefix)
    if jobs:
        which = "a job" if len(jobs) == 1 else f"{len(jobs)} jobs"
        print(f"Cancelling {which} that an earlier run left.", file=sys.stderr)
        _answer(["scancel", *jobs])
    deadline = time.monotonic() + LEAVING_SECONDS
    while left := left and queued(prefix):
        if time.monotonic() > deadline:
            raise SlurmSilent(
                f"Jobs of an earlier run were cancelled and are still in the queue of Slurm after "
                f"{LEAVING_SECONDS} s ({', '.join(left)}): start again when squeue --me "
                "no longer lists them."
            )
        time.sleep(1)


def queued(prefix: str) -> list[str]:
    """Ids of the jobs in the queue of Slurm whose names begin with `prefix`.

    Raises:
        NoSlurm: there is none here.
        SlurmSilent: it does not answer.
    """
    answer = _answer(["squeue", "--noheader", "--me", "--format=%i %j"])
    pairs = [line.split(maxsplit=1) for line in answer.splitlines()]
    return [pair[0] for pair in pairs if len(pair) == 2 and pair[1].startswith(prefix)]


def _answer(command: list[str]) -> str:
    """What a command of Slurm answers."""
    name = command[0]
    try:
        answer = subprocess.run(
            command, capture_output=True, encoding="utf-8", errors="replace", check=True,
            timeout=ANSWER_SECONDS, stdin=subprocess.DEVNULL,
        )  # fmt: skip
    except FileNotFoundError:
        raise NoSlurm(
            f"There is no {name} here: start a cluster run on a login node of Slurm."
        ) from None
    except OSError as error:
        raise SlurmSilent(f"Slurm cannot be asked: {refusals.sentence(error)}") from None
    except subprocess.TimeoutExpired:
        raise SlurmSilent(
            f"Slurm does not answer: {name} was given up after {ANSWER_SECONDS} s."
        ) from None
    except subprocess.CalledProcessError as error:
        # The last line is what it gave up for; those before it are what it tried.
        lines = (error.stderr or "").strip().splitlines()
        said = lines[-1].strip() if lines else f"{name} ended with {error.returncode}"
        raise SlurmSilent(f"Slurm does not answer: {said.rstrip('.')}.") from None
    return answer.stdout
