"""Start a reproduction, or start it again after a crash: the same command, nothing to remember.

One process at a time works in a folder. What an earlier one left behind when it was killed is put
in order first: its jobs, here and on the cluster, are stopped, Snakemake's lock is taken away, and
artifacts that are damaged are deleted and made anew.
"""

import hashlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

import pandas as pd
import psutil
from filelock import FileLock, Timeout

from replica import adoption, artifacts, provenance, report, starter
from replica.plan import Plan


class AlreadyRunning(RuntimeError):
    """Another reproduction works in this folder."""


class NoSlurm(RuntimeError):
    """There is no Slurm here, or it does not answer."""


def launch(plan: Plan, config: Sequence[str], arguments: Sequence[str], *, slurm: bool) -> int:
    """Run Snakemake on this machine or on a cluster, then build the report.

    Args:
        plan: of `config/config.yaml` with `config` laid over it.
        config: `key=value` entries, as Snakemake takes them.
        arguments: for Snakemake, such as targets.
        slurm: use `profiles/slurm`.

    Returns:
        Snakemake's exit status. Where jobs failed, the report holds what is there and names what
        is missing.

    Raises:
        AlreadyRunning, NoSlurm: see there.
    """
    folder = plan.root / ".snakemake"
    folder.mkdir(exist_ok=True)
    holder = folder / "replica.holder"
    lock = FileLock(folder / "replica.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise AlreadyRunning(_already(holder)) from None
    with lock:
        prefix = job_prefix(plan.root)
        try:
            cancel_orphans(prefix)
        except NoSlurm:
            if slurm:
                raise
        _refuse_beside_snakemake(plan.root)
        holder.write_text(f"process {os.getpid()} on {socket.gethostname()}", encoding="utf-8")
        command = [sys.executable, "-m", "snakemake"]
        _stop_leftover_processes(plan.root)
        _clear_results_folder(plan)
        if slurm:
            command += ["--profile", "profiles/slurm", "--slurm-jobname-prefix", prefix]
        if any((folder / "locks").glob("*")):
            print("An earlier run was killed; its lock is taken away.", file=sys.stderr)
            shutil.rmtree(folder / "locks")
        if not (folder / "metadata").exists():
            adoption.adopt(plan)
        again = adoption.delete_damaged(plan)
        if again:
            arguments = [*(arguments or ["all"]), *again]
        status = _run([*command, *arguments, "--config", *config], plan.root)
        if status == 0:
            _clear_checkpoints(plan)
        build_report(plan, config, complete=status == 0)
        return status


def job_prefix(root: Path) -> str:
    """The beginning of the names of this folder's jobs on a cluster."""
    return f"replica-{hashlib.sha256(str(root.resolve()).encode()).hexdigest()[:8]}"


def cancel_orphans(prefix: str) -> int:
    """Cancel the cluster jobs that a killed run left, and wait until they are gone."""
    jobs = queued(prefix)
    if jobs:
        print(f"Cancelling {len(jobs)} jobs that an earlier run left.", file=sys.stderr)
        subprocess.run(["scancel", *jobs], check=True)
    while queued(prefix):
        time.sleep(1)
    return len(jobs)


def queued(prefix: str) -> list[str]:
    """Ids of the jobs in the queue of Slurm whose names begin with `prefix`.

    Raises:
        NoSlurm: there is none, or it does not answer.
    """
    command = ["squeue", "--noheader", "--me", "--format=%i %j"]
    try:
        answer = subprocess.run(
            command, capture_output=True, encoding="utf-8", errors="replace", check=True
        )
    except FileNotFoundError:
        raise NoSlurm(
            "There is no squeue here: start a cluster run on a login node of Slurm."
        ) from None
    except subprocess.CalledProcessError as error:
        raise NoSlurm(f"Slurm does not answer: {error.stderr.strip()}") from None
    pairs = [line.split(maxsplit=1) for line in answer.stdout.splitlines() if line.strip()]
    return [job for job, name in pairs if name.startswith(prefix)]


def build_report(plan: Plan, config: Sequence[str], *, complete: bool) -> None:
    """Build `report.html`: of everything, where it is out of date, or else of what is there."""
    folder = plan.root / plan.results
    page, scorecard = folder / "report.html", folder / "scorecard.parquet"
    partial = [folder / f"scorecard.partial.{ending}" for ending in ("parquet", "html")]
    command = [sys.executable, "-m", "snakemake", "--nolock", "--report", str(page)]
    settings = ["--quiet", "all", "--config", *config]
    if complete:
        for path in partial:
            path.unlink(missing_ok=True)
        shown = [scorecard, *folder.glob("*/figures/*.svg"), *folder.glob("generalization.html")]
        if scorecard.exists() and not all(_newer(page, path) for path in shown):
            _run([*command, *settings], plan.root)
        return
    current = adoption.current_figures(plan)
    every = [(study, figure) for study in plan.studies for figure in plan.studies[study].figures]
    missing = " ".join("/".join(names) for names in every if names not in current)
    print(f"Not made: {missing or 'no figure'}.", file=sys.stderr)
    rows = pd.concat([_decidable(plan, s, current) for s in plan.studies], ignore_index=True)
    stamp = provenance.begin(spec={}, key="partial", code="", seeds=[], device="cpu")
    artifacts.write_table(partial[0], rows, stamp.finish())
    titles = {slug: study.title for slug, study in plan.studies.items()}
    text = report.scorecard_html(rows, titles, f"{plan.config.scale}, incomplete")
    artifacts.write_bytes(partial[1], text.encode())
    if current:
        stems = [f"{plan.results}/{study}/figures/{figure}" for study, figure in current]
        there = [f"{stem}.{ending}" for stem in stems for ending in ("parquet", "svg")]
        there += adoption.current_correlations(plan)
        # The front page of the report reads it.
        _run([*command, *there, *settings], plan.root, REPLICA_MISSING=missing)
    print(f"What there is: {page}, {partial[1]}", file=sys.stderr)


def _decidable(plan: Plan, study: str, current: list[tuple[str, str]]) -> pd.DataFrame:
    """The verdicts of a study on the figure tables that are current."""
    paths = [plan.root / path for path in plan.tables(study)]
    tables = {p.stem: artifacts.read_table(p) for p in paths if (study, p.stem) in current}
    claims = {name: claim.model_dump() for name, claim in plan.studies[study].claims.items()}
    module = import_module(f"replica.studies.{study}")
    return report.decide_claims(study, claims, tables, module)


def _newer(path: Path, other: Path) -> bool:
    return path.exists() and path.stat().st_mtime >= other.stat().st_mtime


def _clear_checkpoints(plan: Plan) -> None:
    """Delete the checkpoints of runs that are finished; jobs on a cluster leave them."""
    for name, part in plan.parts.items():
        if (plan.root / plan.states(part)).exists():
            for path in (plan.root / "results/checkpoints").glob(f"{plan.key('train', *name)}*"):
                path.unlink(missing_ok=True)


def _run(command: list[str], root: Path, **environment: str) -> int:
    """Run a command to its end; signals go to it, so that it can end in order."""
    process = subprocess.Popen(command, cwd=root, env=os.environ | environment)

    def forward(number: int, frame: object) -> None:
        # Ctrl-C reaches the whole process group by itself.
        if number != signal.SIGINT:
            process.send_signal(number)

    before = {number: signal.signal(number, forward) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        return process.wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _clear_results_folder(plan: Plan) -> None:
    """Find out now whether results can be written, and delete what killed writers left.

    Raises:
        CannotWrite: says why.
    """
    folder = plan.root / plan.results
    artifacts.write_bytes(folder / ".writable", b"")
    (folder / ".writable").unlink()
    for below in (folder, plan.root / "results/checkpoints"):
        for path in below.rglob(".*.tmp"):
            path.unlink()


def _already(holder: Path) -> str:
    who = holder.read_text(encoding="utf-8") if holder.exists() else "another process"
    return f"A reproduction runs in this folder already ({who}); wait for it, or stop it."


def _refuse_beside_snakemake(root: Path) -> None:
    """A Snakemake that was started by hand holds no lock of ours."""
    for process in _own_processes():
        words = _words(process)
        # The Snakemake inside a job is called with a mode.
        is_head = (
            any(Path(word).name == "snakemake" for word in words[:3]) and "--mode" not in words
        )
        if is_head and process.info["cwd"] == str(root.resolve()):
            raise AlreadyRunning(
                f"Snakemake runs in this folder already (process {process.pid}); "
                "wait for it, or stop it."
            )


def _stop_leftover_processes(root: Path) -> None:
    """End scripts of jobs whose Snakemake was killed; their checkpoints are kept."""
    here = str(root.resolve())
    left = [
        process
        for process in _own_processes()
        if any(word.startswith(f"{here}/.snakemake/scripts/") for word in _words(process))
        or (starter.__name__ in _words(process)[:3] and process.info["cwd"] == here)
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
