"""Where the time of a whole reproduction goes: `python benchmarks/reproduction.py laptop`.

The checkout as it was committed last is cloned into an empty folder, reproduced there at a scale,
and looked at once a second. What is printed are Markdown tables: by rule, by study, and in all.
Nothing else should run on the machine.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd
import psutil

from replica.provenance import IN_ALL, START_UP

ROOT = Path(__file__).parent.parent
# The jobs during which the cores should be busy.
TRAINING = ("train_run", "train_round", "certify")
# Processes that are no jobs, by a word of their command line; the first that fits counts.
OTHERS = {
    "imports, once for all jobs": "replica.fork_server",
    "report": "--report",
    "Snakemake": "snakemake",
    "launch": "replica",
}


@dataclass
class Watched:
    """What was seen of the processes of a run, once a second.

    Attributes:
        cpu: CPU seconds by process that is no job, by the names of `OTHERS`.
        busy: the share of all cores in use, at each look.
        memory: MiB of all processes, shared pages counted once, at each look.
        times: of the looks, in seconds since 1970.
    """

    cpu: dict[str, float] = field(default_factory=dict)
    busy: list[float] = field(default_factory=list)
    memory: list[float] = field(default_factory=list)
    times: list[float] = field(default_factory=list)


def watch(root: psutil.Process, ended: threading.Event, every: float = 1.0) -> Watched:
    """Look at a process and all that it starts until `ended`."""
    seen, last = Watched(), {}
    psutil.cpu_percent()
    while not ended.wait(every):
        seen.times.append(time.time())
        seen.busy.append(psutil.cpu_percent() / 100)
        memory = 0.0
        with suppress(psutil.NoSuchProcess):
            for process in [root, *root.children(recursive=True)]:
                with suppress(psutil.NoSuchProcess):
                    memory += process.memory_full_info().pss / 2**20
                    used = process.cpu_times()
                    if (name := _name(process)) is not None:
                        last[name, process.pid] = used.user + used.system
        seen.memory.append(memory)
    for (name, _), seconds in last.items():
        seen.cpu[name] = seen.cpu.get(name, 0) + seconds
    return seen


def _name(process: psutil.Process) -> str | None:
    words = " ".join(process.cmdline())
    # A job is a fork of the process that has its imports, or a script of its own.
    if ".snakemake/scripts/" in words or _is_fork(process):
        return None
    return next((name for name, word in OTHERS.items() if word in words), None)


def _is_fork(process: psutil.Process) -> bool:
    parent = process.parent()
    return parent is not None and "replica.fork_server" in parent.cmdline()


def jobs(folder: Path) -> pd.DataFrame:
    """One row a finished job of a project folder.

    Returns:
        rule, study, start and end (seconds since 1970), startup and cpu (CPU seconds).
    """
    rows = {}
    for path in (folder / ".snakemake/metadata").rglob("*"):
        if not path.is_file():
            continue
        record = json.loads(path.read_text(encoding="utf-8"))
        if not record.get("log"):
            continue
        log = folder / record["log"][0]
        lines = log.read_text(encoding="utf-8").splitlines()
        found = {
            word: float(line.split()[-3])
            for word in (START_UP, IN_ALL)
            for line in lines
            if line.startswith(f"{word}: ") and line.endswith(" CPU seconds")
        }
        parts = Path(record["log"][0]).parts
        rows[str(log)] = {
            "rule": record["rule"],
            "study": parts[4].removesuffix(".log") if len(parts) > 4 else "all",
            "start": record["starttime"],
            "end": record["endtime"],
            "startup": found.get(START_UP),
            "cpu": found.get(IN_ALL),
        }
    return pd.DataFrame(rows.values())


def running(rows: pd.DataFrame, times: list[float]) -> list[bool]:
    """At which times at least one of some jobs ran."""
    return [bool(((rows["start"] <= t) & (t <= rows["end"])).any()) for t in times]


def summary(rows: pd.DataFrame, by: str) -> pd.DataFrame:
    """Number of jobs, and seconds of wall clock, CPU and start-up, by rule or study."""
    rows = rows.assign(wall=rows["end"] - rows["start"], jobs=1)
    table = rows.groupby(by)[["jobs", "wall", "cpu", "startup"]].sum()
    return table.sort_values("cpu", ascending=False).reset_index()


def markdown(table: pd.DataFrame) -> str:
    """A table as Markdown, numbers rounded to tenths."""
    lines = [list(table.columns), ["---"] * len(table.columns)]
    for row in table.itertuples(index=False):
        lines.append([f"{v:.1f}" if isinstance(v, float) else str(v) for v in row])
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def reproduce(folder: Path, scale: str) -> tuple[float, Watched]:
    """Clone the checkout into a folder and reproduce it there; wall seconds and what was seen."""
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(folder)], check=True)
    (folder / ".venv").symlink_to(ROOT / ".venv")
    command = [sys.executable, "-m", "replica", "run", "--scale", scale]
    environment = {**psutil.Process().environ(), "PYTHONPATH": str(folder / "workflow")}
    ended, found = threading.Event(), []
    began = time.monotonic()
    with open(folder / "make.log", "w", encoding="utf-8") as log:
        process = subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log)
        arguments = (psutil.Process(process.pid), ended)
        thread = threading.Thread(target=lambda: found.append(watch(*arguments)))
        thread.start()
        status = process.wait()
        took = time.monotonic() - began
        ended.set()
        thread.join()
    if status:
        raise SystemExit(f"The reproduction failed, see {folder / 'make.log'}.")
    return took, found[0]


def main() -> None:
    """Reproduce, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("scale", nargs="?", default="laptop", choices=["smoke", "laptop"])
    parser.add_argument("--folder", type=Path, help="an empty folder, which is kept")
    options = parser.parse_args()
    folder = options.folder or Path(tempfile.mkdtemp()) / "project"
    took, seen = reproduce(folder, options.scale)
    rows = jobs(folder)
    cores = psutil.cpu_count()
    training = running(rows[rows["rule"].isin(TRAINING)], seen.times)
    busy = pd.Series(seen.busy)
    print(markdown(summary(rows, "rule")), "\n")
    print(markdown(summary(rows, "study")), "\n")
    print(markdown(pd.DataFrame(seen.cpu.items(), columns=["process", "cpu"])), "\n")
    facts = {
        "wall clock": f"{took:.0f} s",
        "CPU seconds of jobs": f"{rows['cpu'].sum():.0f}",
        "cores in use": f"{busy.mean():.0%} of {cores}",
        "cores in use while something is trained or certified": f"{busy[training].mean():.0%}",
        "largest memory of all processes": f"{max(seen.memory) / 1024:.2f} GiB",
        "folder": str(folder),
    }
    print(markdown(pd.DataFrame(facts.items(), columns=["in all", ""])))


if __name__ == "__main__":
    main()
