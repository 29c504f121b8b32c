"""Start a reproduction, or start it again after a crash: the same command, nothing to remember.

One process at a time works in a folder. What an earlier one left behind when it was killed is put
in order first: its jobs, here and on the cluster, are stopped, Snakemake's lock is taken away, and
artifacts that are damaged are deleted and made anew.
"""

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from importlib import import_module
from pathlib import Path

import pandas as pd
import psutil
from rich.console import Console

from replica import (
    adoption,
    artifacts,
    disk,
    estimates,
    last_words,
    pages,
    processes,
    provenance,
    report,
    rulebook,
    slurm_queue,
    watching,
)
from replica.data import at_hand
from replica.data.fetch import FetchError, fetch_dataset
from replica.plan import Plan, keys, supply, words
from replica.targets import asked_for


class Stopped(KeyboardInterrupt):
    """Ctrl-C or SIGTERM; `status` is what the process has to end with."""

    def __init__(self, number: int) -> None:
        super().__init__(STOPPED)
        self.status = 128 + number


STOPPED = "Stopped. Run the same command again to resume."
# Trainings save their state at their next step, other jobs end at once.
STOPPING_SECONDS = 60
# Figures that are listed by name where they are missing.
MOST_NAMES = 8
# With these Snakemake only lists jobs.
DRY = {"-n", "--dry-run", "--dryrun"}
# As much as Snakemake writes at its start; a disk with less is full.
TRIAL_BYTES = 2**18


def launch(plan: Plan, config: Sequence[str], arguments: Sequence[str], *, slurm: bool) -> int:
    """Run Snakemake on this machine or on a cluster, then build the report.

    Args:
        plan: of `config/config.yaml` with `config` laid over it, with all its runs.
        config: `key=value` entries, as Snakemake takes them.
        arguments: for Snakemake, such as targets.
        slurm: use `profiles/slurm`.

    Returns:
        Snakemake's exit status. Where jobs failed, the report holds what is there and names what
        is missing.

    Raises:
        AlreadyRunning, NoSlurm, SlurmSilent, Stopped: see there.
        OSError: the folder cannot be worked in.
    """
    folder, prefix = plan.root / ".snakemake", slurm_queue.job_prefix(plan.root)
    with processes.alone(plan.root), _stoppable():
        slurm_queue.cancel_orphans(prefix, needed=slurm)
        command = [sys.executable, "-m", "snakemake"]
        environment = caches(folder)
        processes.stop_leftovers(plan.root)
        _clear_results_folder(plan)
        asked = asked_for(["snakemake", *arguments]) if arguments else []
        dry = not DRY.isdisjoint(arguments)
        if not asked and not dry:
            _fetch(plan)
        plan = supply.with_data(plan)
        if slurm:
            command += ["--profile", "profiles/slurm", "--slurm-jobname-prefix", prefix]
        if any((folder / "locks").glob("*")):
            print("An earlier run was killed; removing its lock.", file=sys.stderr)
            shutil.rmtree(folder / "locks")
        forced: list[str] = []
        if not dry:
            disk.fill(plan)
            forced = adoption.delete_unusable(plan, asked)
            if not adoption.are_all_noted(plan):
                adoption.put_in_order(plan)
        _keep_digests(plan)
        incomplete = artifacts.has_key(plan.root / plan.results / pages.FRONT, pages.INCOMPLETE)
        if incomplete and _asks_for_pages(plan, asked):
            # Snakemake does not know that they are not those that its job made.
            forced.append("pages")
        if forced:
            # They are targets too; others may stand anywhere among the arguments.
            arguments = [*arguments, "--forcerun", *forced]
        began = time.time()
        # Both take all words up to the next option.
        settings = ["--logger", "replica", "--config", *config]
        status, events = _run(
            [*command, *arguments, *settings], plan.root, environment, slurm=slurm
        )
        if dry or (status and not events):
            # It did not come to any job, and has said why.
            return status
        if status == 0:
            _clear_checkpoints(plan)
        try:
            build_report(plan, config, environment, complete=status == 0)
        except artifacts.CannotWrite as error:
            # On a disk that jobs have filled; why they failed is said all the same.
            print(error, file=sys.stderr)
            status = status or 1
        except Exception as error:
            # Where jobs failed because of a study, this may for the same reason.
            said = last_words.sentence_of(error)
            print(f"The report could not be built: {said}", file=sys.stderr)
            status = status or 1
        _print_ending(plan, began, complete=status == 0)
        if status:
            _print_failures(events, plan.root, began)
        return status


def _fetch(plan: Plan) -> None:
    """Fetch the data that jobs of a plan wait for; note what cannot be had.

    Snakemake does not go on after a job that failed; a plan without the runs in question does.
    """
    wanted, data = supply.to_fetch(plan), supply.data_folder(plan)
    if wanted:
        print(supply.in_words(plan, wanted), file=sys.stderr)
    for name in dict.fromkeys(name for part in plan.parts.values() for name in part.datasets):
        entry = plan.registry[name]
        if name in wanted:
            try:
                fetch_dataset(entry, plan.config.mirrors, data / "raw" / name)
            except FetchError as error:
                at_hand.note(entry, data, str(error))
                continue
            except artifacts.CannotWrite:
                # Its own job will fail and say why; all else goes on.
                continue
        at_hand.forget(entry, data)


def _asks_for_pages(plan: Plan, asked: Sequence[str]) -> bool:
    """Whether the pages are among the targets; forcing them asks for all that they show."""
    return not asked or not {"all", "pages", f"{plan.results}/{pages.FRONT}"}.isdisjoint(asked)


def _keep_digests(plan: Plan) -> None:
    """Find the digests of all code that Snakemake asks for, for its processes and later ones."""
    for study, spec in plan.studies.items():
        for figure in spec.figures:
            plan.key("plot", study, figure)
    rulebook.of_plan(plan)
    plan.key("pages")
    # Where nothing can be written each process finds them itself.
    with suppress(OSError):
        provenance.keep_digests()


def _print_ending(plan: Plan, since: float, *, complete: bool) -> None:
    """The verdicts by study, and where the rest is.

    Args:
        since: when Snakemake was started; what an earlier run left is not passed off as the outcome
            of this one.
        complete: whether all that was asked for has been made.
    """
    console, folder = Console(soft_wrap=True, highlight=False), plan.root / plan.results
    partial = "" if complete else ".partial"

    def is_old(path: Path) -> bool:
        return not complete and path.stat().st_mtime < since

    run = watching.recorded(plan.root)
    if run and run.began >= since:
        console.print(watching.outcome(run))
    card = folder / f"scorecard{partial}.parquet"
    # Some targets do not make it.
    key = plan.key("scorecard") if complete else "partial"
    decided = artifacts.has_key(card, key) and not is_old(card)
    if decided:
        report.print_counts(artifacts.read_table(card), console)
    shown = {"Front page": "index", "Report": "report", "Scorecard": f"scorecard{partial}"}
    for name, page in shown.items():
        if (path := folder / f"{page}.html").exists():
            note = " (of an earlier run)" if is_old(path) else ""
            console.print(f"{name + ':':<12}{path.relative_to(plan.root)}{note}")
    if complete and decided:
        named = f" --config name={plan.config.name}" if plan.config.name else ""
        console.print(f"{'Each claim:':<12}replica scorecard {plan.config.scale}{named}")
    if note := artifacts.side_by_side(folder):
        console.print(note)


def _print_failures(events: list[dict], root: Path, since: float) -> None:
    """Why jobs failed, once more, where it is the last thing that is seen."""
    logs = sorted((root / ".snakemake/log").glob("*.log"))
    for path in [path for path in logs if path.stat().st_mtime >= since][:1]:
        print(f"All that Snakemake said: {path.relative_to(root)}", file=sys.stderr)
    if lines := last_words.failures(events, root, since):
        print(f"\nFailed ({len(lines)}):", *lines, sep="\n", file=sys.stderr)
        print(f"To try again, give the same command: {_command()}", file=sys.stderr)


def _command() -> str:
    """The command that was given, in the words of make where make passed it on."""
    of_make = "MAKELEVEL" in os.environ and os.environ.get("REPLICA_SETTINGS")
    if sys.argv[-2:] != ["--settings", of_make]:
        return shlex.join(["replica", *sys.argv[1:]])
    words = ["make", *(["slurm"] if "--slurm" in sys.argv else [])]
    for name, variable in [("SCALE", "REPLICA_SCALE"), ("CONFIG", "REPLICA_SETTINGS")]:
        if given := os.environ.get(variable):
            words.append(f"{name}={shlex.quote(given)}")
    return " ".join(words)


def caches(folder: Path) -> dict[str, str]:
    """Variables for programs that keep caches at home, where home does not serve: then in `folder`.

    Without them Snakemake ends in an error, and Matplotlib warns in each job.
    """
    wanted = {
        "XDG_CACHE_HOME": Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache"),
        "MPLCONFIGDIR": Path(os.environ.get("MPLCONFIGDIR") or "~/.config/matplotlib"),
    }
    return {
        name: str(folder.resolve() / "cache")
        for name, place in wanted.items()
        if not _serves(Path(os.path.expanduser(place)))
    }


def _serves(folder: Path) -> bool:
    """Whether files can be kept in a folder, which is made if need be."""
    # Without a home the ~ stays as it is.
    if not folder.is_absolute():
        return False
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile("w", encoding="utf-8", dir=folder):
            return True
    except OSError:
        return False


def build_report(
    plan: Plan, config: Sequence[str], environment: Mapping[str, str], *, complete: bool
) -> None:
    """Build `report.html`: of everything, where it is out of date, or else of what is there.

    The pages of everything are made by their job; those of what is there are made here.

    Args:
        environment: variables for Snakemake.
    """
    folder = plan.root / plan.results
    page = folder / "report.html"
    partial = [folder / f"scorecard.partial.{ending}" for ending in ("parquet", "html")]
    command = [sys.executable, "-m", "snakemake", "--nolock", "--report", str(page)]
    settings = ["--workflow-profile", "none", "--quiet", "all", "--config", *config]
    if complete:
        if not artifacts.has_key(folder / pages.FRONT, pages.INCOMPLETE):
            for path in partial:
                artifacts.remove(path)
        key = keys.report_key(plan)
        whole = all(artifacts.has_key(plan.root / path, k) for path, k in keys.shown(plan).items())
        if whole and not artifacts.has_key(page, key):
            status, _ = _run([*command, *settings], plan.root, environment)
            if status == 0:
                artifacts.mark(page, key=key, commit=provenance.git_commit())
        return
    current = adoption.current_figures(plan)
    every = [(study, figure) for study in plan.studies for figure in plan.studies[study].figures]
    missing = " ".join("/".join(names) for names in every if names not in current)
    print(f"Not made: {_some(missing.split()) or 'no figure'}.", file=sys.stderr)
    rows = pd.concat([_decidable(plan, s, current) for s in plan.studies], ignore_index=True)
    called = {name: entry.title for name, entry in plan.registry.items()}
    rows = report.with_titles(rows, called)
    rows = estimates.with_deciding_runs(rows, plan.root, plan.config.scale)
    rows = rulebook.with_dates(rows, plan.root, plan.config.scale, rulebook.of_plan(plan))
    stamp = provenance.begin(spec={}, key="partial", code="", seeds=[], device="cpu")
    artifacts.write_table(partial[0], rows, stamp.finish())
    titles = {slug: study.title for slug, study in plan.studies.items()}
    text = report.scorecard_html(rows, titles, f"{plan.config.label}, incomplete")
    artifacts.write_bytes(partial[1], text.encode())
    pages.write(
        plan, rows, current, folder, folder,
        key=pages.INCOMPLETE, others=("scorecard.partial.html", "report.html"),
    )  # fmt: skip
    if current:
        stems = [f"{plan.results}/{study}/figures/{figure}" for study, figure in current]
        there = [f"{stem}.{ending}" for stem in stems for ending in ("parquet", "svg")]
        there += adoption.current_correlations(plan)
        # The front page of the report reads it.
        _run([*command, *there, *settings], plan.root, {**environment, "REPLICA_MISSING": missing})


def _some(names: Sequence[str]) -> str:
    """The first of many names, and how many more there are."""
    more = f" and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else ""
    return " ".join(names[:MOST_NAMES]) + more


def _decidable(plan: Plan, study: str, current: list[tuple[str, str]]) -> pd.DataFrame:
    """The verdicts of a study on the figure tables that are current."""
    paths = [plan.root / path for path in plan.tables(study)]
    tables = {p.stem: artifacts.read_table(p) for p in paths if (study, p.stem) in current}
    claims = words.claim_specs(plan, study)
    module = import_module(f"replica.studies.{study}")
    return report.decide_claims(study, claims, tables, module)


def _clear_checkpoints(plan: Plan) -> None:
    """Delete the checkpoints of runs that are finished; jobs on a cluster leave them."""
    for name, part in plan.parts.items():
        if (plan.root / plan.states(part)).exists():
            for path in (plan.root / disk.CHECKPOINTS).glob(f"{plan.key('train', *name)}*"):
                artifacts.remove(path)


def _run(
    command: list[str], root: Path, environment: Mapping[str, str], *, slurm: bool = False
) -> tuple[int, list[dict]]:
    """Run Snakemake to its end.

    It does not hear Ctrl-C, which reaches the whole process group: this process ends it in order.

    Returns:
        Its exit status, and what it told of its jobs (see `last_words.listen`).

    Raises:
        Stopped: after it and its jobs have ended.
    """
    reader, writer = os.pipe()
    told = {last_words.PIPE: str(writer)} | ({last_words.CANCELS: "1"} if slurm else {})
    # What is ignored stays ignored in a program that is started.
    heard = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        process = subprocess.Popen(
            command, cwd=root, env={**os.environ, **environment, **told}, pass_fds=[writer]
        )
    finally:
        signal.signal(signal.SIGINT, heard)
        os.close(writer)
    events: list[dict] = []
    listener = threading.Thread(target=_hear, args=(reader, events), daemon=True)
    listener.start()
    try:
        status = process.wait()
    except Stopped:
        _end(process)
        raise
    listener.join(timeout=10)
    return status, events


def _hear(reader: int, events: list[dict]) -> None:
    with open(reader, encoding="utf-8") as lines:
        for line in lines:
            with suppress(ValueError):
                events.append(json.loads(line))


def _end(process: subprocess.Popen) -> None:
    """End Snakemake and its jobs, which save what they have; further signals change nothing."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    # The first lets it start no more jobs; the second cancels those on a cluster.
    process.send_signal(signal.SIGTERM)
    process.send_signal(signal.SIGINT)
    # By then its display has gone from the terminal.
    time.sleep(0.3)
    print("Stopping; trainings save their state.", file=sys.stderr)
    deadline = time.monotonic() + STOPPING_SECONDS
    while process.poll() is None:
        late = time.monotonic() > deadline
        with suppress(psutil.Error):
            for job in psutil.Process(process.pid).children(recursive=True):
                # It cancels jobs on a cluster by commands of Slurm, which are left alone.
                with suppress(psutil.Error):
                    if late:
                        job.kill()
                    elif job.name() not in slurm_queue.COMMANDS:
                        job.terminate()
        if late:
            process.kill()
        with suppress(subprocess.TimeoutExpired):
            process.wait(timeout=0.5)


@contextmanager
def _stoppable() -> Iterator[None]:
    """Within the block Ctrl-C and SIGTERM raise `Stopped`."""

    def stop(number: int, frame: object) -> None:
        raise Stopped(number)

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _clear_results_folder(plan: Plan) -> None:
    """Find out now whether results can be written, and delete what killed writers left.

    Raises:
        CannotWrite: says why.
    """
    folder = plan.root / plan.results
    for place in (folder, plan.root / ".snakemake"):
        artifacts.write_bytes(place / ".writable", bytes(TRIAL_BYTES))
        artifacts.remove(place / ".writable")
    for below in (folder, plan.root / disk.CHECKPOINTS, plan.root / disk.COUNTS):
        for path in below.rglob(".*.tmp"):
            artifacts.remove(path)
