"""Hands jobs to LSF, Grid Engine or PBS, and asks what became of them.

    python3 jobs.py submit lsf|sge|pbs SCRIPT     prints the id of the job
    python3 jobs.py status lsf|sge|pbs ID         prints success, failed or running

It needs no package, so any Python 3 of a login node will do.
"""

import json
import math
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

LOGS = Path("results/logs/cluster")
STATES_OF_LSF = {"DONE": "success", "EXIT": "failed"}


def requests(script: str) -> dict[str, Any]:
    """What a job requests, from the line of its script where Snakemake states it.

    Args:
        script: the text of the script.

    Returns:
        `threads`, `mem_mb`, `minutes`, `gpus`, and the words `queue`, `account` and `extra`, which
        are empty where the configuration names none.
    """
    stated = json.loads(re.search(r"^# properties = (.*)$", script, re.MULTILINE)[1])
    resources = stated["resources"]
    gpu = resources.get("gres") or ""
    return {
        "threads": stated["threads"],
        "mem_mb": resources["mem_mb"],
        "minutes": resources["runtime"],
        # "gpu:1", or "gpu:a100:1" with a type, which only Slurm understands
        "gpus": int(gpu.rpartition(":")[2]) if gpu else 0,
        "queue": resources.get("slurm_partition") or "",
        "account": resources.get("slurm_account") or "",
        "extra": resources.get("slurm_extra") or "",
    }


def submission(system: str, wanted: dict[str, Any], script: str) -> list[str]:
    """The command that hands a script to a system.

    Args:
        system: lsf, sge or pbs.
        wanted: see `requests`.
        script: the path of the script.
    """
    threads, mem_mb, gpus = wanted["threads"], wanted["mem_mb"], wanted["gpus"]
    time = f"{wanted['minutes'] // 60}:{wanted['minutes'] % 60:02d}"
    if system == "lsf":
        command = ["bsub", "-J", "replica", "-o", f"{LOGS}/%J.log", "-n", f"{threads}", "-W", time]
        command += ["-M", f"{mem_mb}MB", "-R", f"span[hosts=1] rusage[mem={mem_mb}MB]"]
        command += ["-gpu", f"num={gpus}"] if gpus else []
    elif system == "sge":
        # Grid Engine counts memory by slot.
        by_slot = math.ceil(mem_mb / threads)
        command = ["qsub", "-terse", "-N", "replica", "-cwd", "-V", "-S", "/bin/sh"]
        command += ["-j", "y", "-o", f"{LOGS}", "-pe", "smp", f"{threads}"]
        command += ["-l", f"h_rt={time}:00", "-l", f"h_vmem={by_slot}M"]
        command += ["-l", f"gpu={gpus}"] if gpus else []
    else:
        chunk = f"select=1:ncpus={threads}:mem={mem_mb}mb" + (f":ngpus={gpus}" if gpus else "")
        command = ["qsub", "-N", "replica", "-V", "-j", "oe", "-o", f"{LOGS}/"]
        command += ["-l", chunk, "-l", f"walltime={time}:00"]
    command += ["-q", wanted["queue"]] if wanted["queue"] else []
    if wanted["account"]:
        command += ["-A" if system == "pbs" else "-P", wanted["account"]]
    return [*command, *shlex.split(wanted["extra"]), script]


def submit(system: str, script: str) -> str:
    """Hand a script over; returns the id of its job.

    Raises:
        CalledProcessError: the system refuses; it has said why on standard error.
    """
    LOGS.mkdir(parents=True, exist_ok=True)
    wanted = requests(Path(script).read_text(encoding="utf-8"))
    command = submission(system, wanted, script)
    said = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
    # LSF: Job <123> is submitted to queue <normal>.
    return re.search(r"<(\d+)>", said)[1] if system == "lsf" else said.split()[0]


def status(system: str, job: str) -> str:
    """What became of a job: success, failed or running, which includes waiting.

    A system that does not answer is asked again later: the job is taken to run.
    """
    if system == "lsf":
        return STATES_OF_LSF.get(_answer("bjobs", "-noheader", "-o", "stat", job), "running")
    if system == "sge":
        ended = re.search(r"^exit_status +(\d+)", _answer("qacct", "-j", job), re.MULTILINE)
    else:
        ended = re.search(r"Exit_status = (-?\d+)", _answer("qstat", "-x", "-f", job))
    return "running" if not ended else "success" if ended[1] == "0" else "failed"


def _answer(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True).stdout.strip()


if __name__ == "__main__":
    what, *arguments = sys.argv[1:]
    try:
        print({"submit": submit, "status": status}[what](*arguments))
    except (OSError, subprocess.CalledProcessError) as error:
        sys.exit(f"The job cannot be handed over: {error}")
