"""What `replica doctor` looks at: whether this machine can do what a plan asks of it.

Nothing is changed. Each check says what it found, and where that is not all right, what will not
work because of it.
"""

import importlib.metadata
import locale
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import pandas as pd
import psutil
import requests
from packaging.requirements import Requirement
from rich.console import Console
from rich.table import Table
from rich.text import Text

from replica import estimates, refusals
from replica.data import at_hand
from replica.places import is_address
from replica.plan import Plan, supply
from replica.slurm_queue import NoSlurm, SlurmSilent, job_prefix, queued

OK, WARNING, PROBLEM = "ok", "warning", "problem"
COLOURS = {OK: "green", WARNING: "yellow", PROBLEM: "red"}
LOCK = Path("envs/requirements.txt")
OLDEST, NEWEST = (3, 11), (3, 13)
# While trainings run, their checkpoints come on top of what is left in the end.
SPARE = 1.3
ANSWER_SECONDS = 5
# The memory that a container may use, in bytes.
CONTAINER = Path("/sys/fs/cgroup/memory.max")


@dataclass(frozen=True)
class Finding:
    """What a check found.

    Attributes:
        check: what was looked at.
        level: `ok`, `warning` or `problem`; with a problem a run cannot work.
        found: what is there.
        effect: what will not work, or works worse; "" where all is well.
    """

    check: str
    level: str
    found: str
    effect: str = ""


def examine(plan: Plan) -> list[Finding]:
    """Look at this machine with the eyes of a plan, with all its runs; nothing is changed."""
    jobs = estimates.job_table(plan, estimates.rates_of(plan.root))
    return [
        python(),
        packages(plan.root / LOCK),
        writing(plan),
        disk(plan),
        memory(jobs),
        cores(jobs),
        gpu(plan, jobs),
        slurm(plan),
        links(plan),
        *mirrors(plan),
        *data(plan),
        words(),
        chromium(),
    ]


def python(version: tuple[int, ...] = sys.version_info[:3]) -> Finding:
    """The version of Python."""
    found = ".".join(map(str, version))
    if version[:2] < OLDEST:
        return Finding("Python", PROBLEM, found, "Python 3.11 or newer is needed: make PYTHON=…")
    if version[:2] > NEWEST:
        return Finding("Python", WARNING, found, "newer than any that Replica was tried with")
    return Finding("Python", OK, found)


def packages(lock: Path) -> Finding:
    """The installed packages against the lock; of a version, `+cpu` and the like do not count."""
    missing, other, count = [], [], 0
    for wanted in _locked(lock):
        if wanted.marker is not None and not wanted.marker.evaluate():
            continue
        count += 1
        try:
            there = importlib.metadata.version(wanted.name)
        except importlib.metadata.PackageNotFoundError:
            missing.append(wanted.name)
            continue
        if not wanted.specifier.contains(there.partition("+")[0], prereleases=True):
            other.append(f"{wanted.name} {there} instead of {str(wanted.specifier).strip('=')}")
    if missing:
        return Finding("packages", PROBLEM, f"missing: {', '.join(missing)}",
                       "runs will fail: make installs them")  # fmt: skip
    if other:
        return Finding("packages", WARNING, "; ".join(other),
                       "numbers may differ in their last digits, and nobody has tried these "
                       "versions together")  # fmt: skip
    return Finding("packages", OK, f"{count} as in {LOCK}")


def _locked(lock: Path) -> Iterator[Requirement]:
    for line in lock.read_text(encoding="utf-8").splitlines():
        if line and not line.startswith((" ", "#", "-")):
            yield Requirement(line.rstrip(" \\"))


def _nearest(path: Path) -> Path:
    """A folder, or the nearest one above it that is there."""
    return next(each for each in (path, *path.parents) if each.exists())


def writing(plan: Plan) -> Finding:
    """Whether the project's, the results' and the data's folders can be written to."""
    folders = [plan.root, plan.root / plan.results, supply.data_folder(plan)]
    for folder in dict.fromkeys(_nearest(each.absolute()) for each in folders):
        try:
            with tempfile.TemporaryFile("w", encoding="utf-8", dir=folder) as file:
                file.write("x")
        except OSError as error:
            return Finding("writing", PROBLEM, refusals.sentence(error),
                           f"nothing can be kept in {folder}")  # fmt: skip
    return Finding("writing", OK, "results and data can be written")


def disk(plan: Plan) -> Finding:
    """Free space against what the scale will take beyond what it takes now."""
    names = [*plan.studies, estimates.SHARED]
    to_come = sum(estimates.disk_to_come_mb(plan, name) for name in names)
    there = sum(estimates.disk_mb(plan, name) for name in names)
    needed, folder = max(to_come - there, 0) / 1e3, _nearest((plan.root / plan.results).absolute())
    free = shutil.disk_usage(folder).free / 1e9
    found = f"{free:,.1f} GB free; the scale {plan.config.scale} takes {needed:,.1f} GB more"
    if free < needed:
        return Finding("disk", PROBLEM, found, "the disk will be full before the end")
    if free < SPARE * needed:
        return Finding("disk", WARNING, found, "checkpoints of running trainings may fill the disk")
    return Finding("disk", OK, found)


def total_memory_mb() -> float:
    """The memory that processes here may have: that of the machine, or of the container."""
    total = psutil.virtual_memory().total
    # Where there is no limit there is no file, or a word in it.
    with suppress(OSError, ValueError):
        total = min(total, int(CONTAINER.read_text(encoding="ascii")))
    return total / 1e6


def memory(jobs: pd.DataFrame) -> Finding:
    """Memory against what the largest job asks for."""
    asked = jobs.dropna(subset="mem_mb").nlargest(1, "mem_mb").to_dict("records")
    total, free = total_memory_mb(), psutil.virtual_memory().available / 1e6
    found = f"{total / 1e3:,.1f} GB, {free / 1e3:,.1f} GB of them free"
    if not asked:
        return Finding("memory", OK, found)
    (largest,) = asked
    name = f"{largest['study']}/{largest['name']}"
    found += f"; the largest job, {name}, asks for {largest['mem_mb'] / 1e3:,.1f} GB"
    if largest["mem_mb"] > total:
        return Finding("memory", WARNING, found, "such jobs may be killed on this machine")
    if largest["mem_mb"] > free:
        return Finding("memory", WARNING, found, "such jobs may be killed while others use it")
    return Finding("memory", OK, found)


def usable_cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def cores(jobs: pd.DataFrame) -> Finding:
    """Cores, and what the jobs without a GPU take on them."""
    count = usable_cores()
    hours = jobs["cpu_hours"].sum() / count
    found = f"{count}; jobs without a GPU take about {hours:,.1f} hours on them"
    if hours > 24:
        return Finding("cores", WARNING, found, f"that is {hours / 24:,.0f} days on this machine")
    return Finding("cores", OK, found)


def gpus() -> list[str]:
    """The GPUs that torch can use."""
    import torch

    if not torch.cuda.is_available():
        return []
    return [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]


def _can_compile() -> bool:
    from replica.training.devices import can_compile

    return can_compile()


def driver() -> str:
    """The GPUs and the driver that nvidia-smi lists; "" where it is not there or fails."""
    query = ["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"]
    try:
        answer = subprocess.run(query, capture_output=True, encoding="utf-8", errors="replace",
                                timeout=30, stdin=subprocess.DEVNULL)  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return "; ".join(answer.stdout.split("\n")).strip("; ") if not answer.returncode else ""


def gpu(plan: Plan, jobs: pd.DataFrame) -> Finding:
    """GPUs, seen by torch and by the driver, against what the plan has for them."""
    names, listed, hours = gpus(), driver(), jobs["gpu_hours"].sum()
    if names:
        found = f"{', '.join(names)} ({listed or 'no nvidia-smi'})"
        if _can_compile():
            return Finding("GPU", OK, found)
        lacking = "without a C compiler or the headers of Python (python3-dev)"
        return Finding(
            "GPU", WARNING, found, f"{lacking} networks are not compiled, and are slower"
        )
    found = f"torch finds none, nvidia-smi lists {listed}" if listed else "none"
    if plan.config.device == "cuda":
        return Finding("GPU", PROBLEM, found, "device is cuda: every training will fail")
    if listed:
        return Finding("GPU", WARNING, found, "the driver is too old for this torch, or this torch "
                       "is one without CUDA: all runs on cores")  # fmt: skip
    if hours > 1:
        return Finding("GPU", WARNING, found, f"{hours:,.0f} GPU hours run on cores here, which "
                       "takes many times as long")  # fmt: skip
    return Finding("GPU", OK, f"{found}; this scale needs none")


def slurm(plan: Plan) -> Finding:
    """Whether Slurm is here and answers."""
    lacking = [name for name in ("sbatch", "squeue") if not shutil.which(name)]
    if len(lacking) == 2:
        return Finding("Slurm", OK, "none here; only make slurm needs it")
    if lacking:
        return Finding("Slurm", WARNING, f"there is no {lacking[0]}", "make slurm will not start")
    try:
        waiting = queued(job_prefix(plan.root))
    except (NoSlurm, SlurmSilent) as error:
        return Finding("Slurm", WARNING, str(error), "make slurm will not start; make works")
    jobs = "1 job" if len(waiting) == 1 else f"{len(waiting)} jobs"
    return Finding("Slurm", OK, f"answers; {jobs} of this folder in its queue")


def links(plan: Plan) -> Finding:
    """Whether the file system of the results has hard links."""
    folder = _nearest((plan.root / plan.results).absolute())
    try:
        with tempfile.TemporaryDirectory(dir=folder) as place:
            file = Path(place, "a")
            file.touch()
            os.link(file, Path(place, "b"))
    except OSError as error:
        return Finding("hard links", WARNING, refusals.sentence(error),
                       "trained states are not stored by key: going back to earlier settings "
                       "trains again")  # fmt: skip
    return Finding("hard links", OK, "the file system has them")


def answers(address: str) -> str:
    """Why an address does not answer; "" where it does, whatever it says."""
    try:
        requests.head(address, timeout=ANSWER_SECONDS, allow_redirects=True)
    except requests.RequestException as error:
        return type(error).__name__
    return ""


def mirrors(plan: Plan) -> list[Finding]:
    """Each folder and address under `mirrors`, and the plan's data sets in the folders."""
    found = []
    wanted = _with_files(plan)
    for mirror in plan.config.mirrors:
        check = f"mirror {mirror}"
        if is_address(mirror):
            why = answers(mirror)
            level = WARNING if why else OK
            found.append(
                Finding(check, level, why or "answers", "it is passed over" if why else "")
            )
        elif not (plan.root / mirror).is_dir():
            found.append(Finding(check, WARNING, "there is no such folder", "it is passed over"))
        else:
            held = [name for name in wanted
                    if at_hand.in_mirrors(plan.registry[name], [mirror], plan.root)]  # fmt: skip
            words = f"has {', '.join(held) or 'none'} of the {len(wanted)} data sets with files"
            found.append(Finding(check, OK, words))
    return found


def _with_files(plan: Plan) -> list[str]:
    read = dict.fromkeys(name for part in plan.parts.values() for name in part.datasets)
    return [name for name in read if plan.registry[name].files]


def data(plan: Plan) -> list[Finding]:
    """The data sets that a run would fetch: where from, and whether that answers."""
    wanted, found = supply.to_fetch(plan), []
    folder, known = supply.data_folder(plan), dict[str, str]()
    for name in wanted:
        entry = plan.registry[name]
        check = f"data {name}"
        if at_hand.is_fetched(entry, folder):
            found.append(Finding(check, OK, "fetched"))
        elif at_hand.in_mirrors(entry, plan.config.mirrors, plan.root):
            found.append(Finding(check, OK, "in a folder of mirrors"))
        else:
            hosts = {urlsplit(url).netloc: url for url in [*entry.urls, *plan.config.mirrors]
                     if is_address(url)}  # fmt: skip
            for host, url in hosts.items():
                known[host] = known[host] if host in known else answers(url)
            if any(not known[host] for host in hosts):
                named = ", ".join(host for host in hosts if not known[host])
                found.append(Finding(check, OK, f"to be fetched from {named}"))
            else:
                said = ", ".join(f"{host}: {known[host]}" for host in hosts) or "no address"
                found.append(Finding(check, WARNING, said, "runs that read it are left out; "
                                     "mirrors may name a folder that has it"))  # fmt: skip
    return found or [Finding("data", OK, "nothing has to be fetched")]


def words() -> Finding:
    """The locale, and whether the terminal has all characters that are printed."""
    try:
        before = locale.setlocale(locale.LC_ALL)
        locale.setlocale(locale.LC_ALL, "")
        locale.setlocale(locale.LC_ALL, before)
    except locale.Error as error:
        return Finding("locale", WARNING, str(error), "the machine lacks the locale that the "
                       "environment names (LANG, LC_ALL); other programs may complain")  # fmt: skip
    encoding = (sys.stdout.encoding or "").lower().replace("-", "")
    if encoding != "utf8":
        return Finding("locale", WARNING, f"characters are encoded as {encoding or 'unknown'}",
                       "some characters are printed as ?; files are in UTF-8")  # fmt: skip
    return Finding("locale", OK, "UTF-8")


def chromium() -> Finding:
    """The browser of the tests."""
    path = shutil.which("chromium") or shutil.which("chromium-browser")
    lacking = "none here; only the tests that open the report need it, and are skipped"
    return Finding("Chromium", OK, path or lacking)


def print_findings(findings: list[Finding], console: Console) -> None:
    """The findings as a table on the terminal, and how many are not all right."""
    view = Table(header_style="bold", pad_edge=False)
    view.add_column("check", overflow="fold")
    view.add_column("")
    view.add_column("found", overflow="fold")
    view.add_column("what will not work", overflow="fold")
    for each in findings:
        level = Text(each.level, style=COLOURS[each.level])
        view.add_row(Text(each.check), level, Text(each.found), Text(each.effect))
    console.print(view)
    problems, warnings = (sum(f.level == level for f in findings) for level in (PROBLEM, WARNING))
    outcome = "A run cannot work here" if problems else "A run can work here"
    console.print(f"{outcome}: {problems} problems, {warnings} warnings.", highlight=False)
