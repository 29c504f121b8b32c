"""What a run is doing: from what Snakemake says of its jobs to a display of it.

Snakemake's logger (`snakemake_logger_plugin_replica`) turns each record into an event, a small
dictionary. Events change a `Run`; of a `Run` are made the display on a terminal, the lines in a
file, and the time left. They are also written to `EVENTS`, from where another terminal reads them.
"""

import heapq
import json
import logging
import math
import os
import re
import time
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from graphlib import TopologicalSorter
from pathlib import Path
from typing import IO, Any

import pandas as pd
from rich.console import Console, Group, RenderableType
from rich.constrain import Constrain
from rich.live import Live
from rich.markup import escape
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from replica import last_words
from replica.artifacts import CorruptArtifact
from replica.costs import SECONDS_PER_UNIT
from replica.estimates import SHARED, Rates, job_table, rates_of
from replica.plan import Plan

EVENTS = Path(".snakemake/replica.events.jsonl")
Event = Mapping[str, Any]
# How a job's log tells its progress, see `replica.progress`.
TOLD = re.compile(r": step (\d+)/(\d+), .*, (\d+) s left$", re.MULTILINE)
TAIL_BYTES = 2000
# Stated seconds that weigh as much as the same of this run: at first the rates are as stated.
STATED_SECONDS = 30
# What a job that takes longer than expected is taken to need still, as a share of its time so far.
OVERDUE = 0.1
# Lines of the display besides those of the running jobs; failed jobs that it names.
OTHER_LINES, FAILED_LINES = 8, 3
# What Snakemake says once more of a job that failed.
OF_JOBS = (
    "CalledProcessError in file", "Exiting because a job execution failed",
    "At least one job did not complete successfully",
)  # fmt: skip
# As far as two clocks of a cluster may differ, in seconds.
CLOCKS = 5


@dataclass
class Job:
    """A job of a run.

    Attributes:
        rule, name: what it is, such as `train_run` and `low_rank fig6/all`.
        kind: of its work, a key of `costs.SECONDS_PER_UNIT`.
        work: seconds of one core, or of a whole GPU, that it is expected to take.
        needs: ids of the jobs that it waits for.
        log: path of its log.
        state: waiting, running, done, failed, or stopped with the run.
        began: when it was started or, on a cluster, submitted; since the epoch.
        seconds: that it took.
    """

    rule: str
    name: str
    kind: str
    work: float
    needs: Sequence[int] = ()
    log: str = ""
    state: str = "waiting"
    began: float = 0.0
    seconds: float = 0.0

    def __str__(self) -> str:
        return f"{self.rule} {self.name}".rstrip()


@dataclass(frozen=True)
class Look:
    """What the log of a running job shows.

    Attributes:
        begun: whether it is there; a job of a cluster may still be in the queue.
        share: of the job that is done; None where the log does not say.
        left: seconds, as the job itself expects.
    """

    begun: bool
    share: float | None = None
    left: float | None = None


@dataclass
class Run:
    """All jobs of a run.

    Attributes:
        jobs: by Snakemake's number.
        scale: of the plan.
        cores: that it uses; None on a cluster.
        gpu: whether some jobs are for a GPU.
        began: since the epoch.
        stopping: whether it was asked to end.
    """

    jobs: dict[int, Job] = field(default_factory=dict)
    scale: str = ""
    cores: int | None = None
    gpu: bool = False
    began: float = 0.0
    stopping: bool = False

    def hear(self, event: Event) -> Job | None:
        """Change as an event says; returns the job that it is about."""
        if event["event"] == "planned":
            listed = event["jobs"]
            self.jobs = {number: Job(*words) for number, *words in listed}
            self.scale, self.began = event["scale"], event["time"]
            self.cores, self.gpu = event["cores"], event["gpu"]
        elif event["event"] == "stopping":
            self.stopping = True
        # Targets without files of their own are not among them.
        job = self.jobs.get(event.get("job", -1))
        if job is None:
            return None
        if event["event"] == "running":
            job.state, job.began, job.log = "running", event["time"], event["log"]
        elif event["event"] in ("done", "failed"):
            # To Snakemake, a job that was stopped has failed.
            stopped = self.stopping and event["event"] == "failed"
            job.state = "stopped" if stopped else event["event"]
            # A job that failed before it began has no beginning.
            job.seconds = event["time"] - job.began if job.began else 0.0
        return job

    def of(self, state: str) -> dict[int, Job]:
        """The jobs in a state."""
        return {number: job for number, job in self.jobs.items() if job.state == state}

    def blocked(self) -> set[int]:
        """The waiting jobs that wait for one that failed."""
        blocked, more = set(self.of("failed")), True
        while more:
            found = {n for n, job in self.of("waiting").items() if blocked.intersection(job.needs)}
            more = bool(found - blocked)
            blocked |= found
        return blocked - set(self.of("failed"))


def run_of(events: Iterable[Event]) -> Run:
    """The run that events tell of."""
    run = Run()
    for event in events:
        run.hear(event)
    return run


def recorded(root: Path) -> Run | None:
    """The latest run in a project's folder, as it stands; None where there was none."""
    try:
        lines = (root / EVENTS).read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    events = []
    for line in lines:
        # The last one may just be written.
        with suppress(ValueError):
            events.append(json.loads(line))
    return run if (run := run_of(events)).jobs else None


# ======================================================================================
# Events


def planned(plan: Plan, workflow: Any, logs: Sequence[str]) -> tuple[str, Event]:
    """What Snakemake is going to do: a sentence, and the event. Forgets the events of before.

    Args:
        plan: of the configuration.
        workflow: Snakemake's, whose jobs are known.
        logs: of Snakemake itself.
    """
    # This run may have another logger, which writes none.
    with suppress(OSError):
        (plan.root / EVENTS).unlink(missing_ok=True)
    try:
        rates = rates_of(plan.root)
    except CorruptArtifact:
        rates = Rates()
    table, dag, jobs = job_table(plan, rates), workflow.dag, []
    work = expected_work(table)
    for job in sorted(dag.needrun_jobs(), key=dag.jobid):
        if job.output:
            rule, names = job.rule.name, job.wildcards_dict
            needs = [dag.jobid(other) for other in dag.job_dependencies(job)]
            about = work.get(_key(rule, names), ("start", SECONDS_PER_UNIT["start"]))
            jobs.append([dag.jobid(job), rule, _name(names), *about, needs])
    event = {
        "event": "planned",
        "time": time.time(),
        "scale": plan.config.label,
        "cores": workflow.cores if workflow.local_exec else None,
        "gpu": bool(table["gpu_hours"].any()),
        "jobs": jobs,
        "log": next(iter(logs), os.devnull),
    }
    return plan_in_words(run_of([event])), event


def expected_work(jobs: pd.DataFrame) -> dict[tuple[str, str, str], tuple[str, float]]:
    """Of a table of jobs: (study, rule, name) -> kind of work, seconds of a core or a whole GPU."""
    names = zip(jobs["study"], jobs["rule"], jobs["name"], strict=True)
    seconds = 3600 * (jobs["gpu_hours"] + jobs["cpu_hours"])
    return dict(zip(names, zip(jobs["kind"], seconds, strict=True), strict=True))


def _key(rule: str, names: Mapping[str, str]) -> tuple[str, str, str]:
    """The row of a job in `estimates.job_table`, from the wildcards of its rule."""
    study = names.get("study", SHARED)
    # One row, whichever of two rules makes it.
    rule = rule.removesuffix("_on_gpu")
    if "run" in names:
        return study, rule, f"{names['run']}/{names['part']}"
    listed = [names[kind] for kind in ("figure", "networks", "dataset") if kind in names]
    return study, rule, next(iter(listed), study)


def _name(names: Mapping[str, str]) -> str:
    """What a job makes, from the wildcards of its rule: `low_rank fig6/all`."""
    study, _, name = _key("", names)
    return " ".join(dict.fromkeys(word for word in (study, name) if word != SHARED))


def event_of(record: logging.LogRecord) -> Event | None:
    """The event that a record of Snakemake's logger tells of; None where it tells of none."""
    if event := getattr(record, "replica", None):
        return event
    # Nothing but these words tells that it was asked to end.
    stopping = record.getMessage().startswith("Will exit after finishing")
    about = {"event": "stopping"} if stopping else last_words.event_of(record)
    if about is None:
        return None
    return about | {"time": record.created}


# ======================================================================================
# Progress and the time left


def looks_at(root: Path, run: Run) -> dict[int, Look]:
    """What the logs of the running jobs show; without a cluster, all of them have begun."""
    looks = {}
    for number, job in run.of("running").items():
        look = look_at(root / job.log, job.began)
        looks[number] = look if look.begun or run.cores is None else Look(True)
    return looks


def look_at(log: Path, began: float) -> Look:
    """What the log of a job shows that was started at some time."""
    try:
        with open(log, "rb") as file:
            # It may be of an earlier run.
            if not log.is_file() or log.stat().st_mtime < began - CLOCKS:
                return Look(False)
            file.seek(max(0, log.stat().st_size - TAIL_BYTES))
            told = TOLD.findall(file.read().decode(errors="replace"))
            since = time.time() - log.stat().st_mtime
    except OSError:
        return Look(False)
    if not told:
        return Look(True)
    step, total, left = map(int, told[-1])
    return Look(True, step / max(total, 1), max(0.0, left - since))


@dataclass(frozen=True)
class Estimate:
    """How far a run is.

    Attributes:
        spent: seconds of all jobs so far, side by side or not.
        ahead: the same of what is left.
        left: seconds until the end; None where nothing is known yet.
    """

    spent: float
    ahead: float
    left: float | None


def estimate(run: Run, looks: Mapping[int, Look], now: float) -> Estimate:
    """How long a run will still take, if all goes on as it did so far.

    A job is expected to take as much longer than stated as those of its kind have taken, and jobs
    to run as many at a time as so far: that holds how fast this machine is, how many cores it has,
    and how busy they are. What has not been seen yet is as stated; on a cluster nobody knows at
    first how many jobs will run at a time. Where a few long jobs are left, the time of the jobs
    one after another counts that wait for each other or for a free core.
    """
    done, running, blocked = run.of("done"), run.of("running"), run.blocked()
    took = {number: max(0.0, now - job.began) for number, job in running.items()}
    known = [(job.kind, job.work, job.seconds) for job in done.values()]
    shares = {number: looks[number].share or 0.0 for number in running if number in looks}
    known += [(running[n].kind, running[n].work * share, took[n])
              for n, share in shares.items() if share]  # fmt: skip
    slower, rests = _slowness(known), {}
    for number, job in run.jobs.items():
        expected = job.work * slower.get(job.kind, slower[""])
        if number in running:
            look = looks.get(number, Look(True))
            rest = expected - took[number] if look.begun else expected
            # Who has taken longer than expected is not over at once.
            rests[number] = max(rest, OVERDUE * took[number]) if look.left is None else look.left
        elif job.state == "waiting" and number not in blocked:
            rests[number] = expected
    ahead = sum(rests.values())
    spent = sum(job.seconds for job in run.jobs.values()) + sum(took.values())
    if run.cores is None and not done:
        return Estimate(spent, ahead, None)
    # So many jobs run at a time; at first, as many as there are cores.
    stated = STATED_SECONDS if run.cores else 0
    at_a_time = (spent + stated) / max(now - run.began + stated / (run.cores or 1), 1e-9)
    needs = {n: set() if n in running else rests.keys() & run.jobs[n].needs for n in rests}
    left = _until_all_are_done(rests, needs, running, max(1, math.ceil(at_a_time)))
    return Estimate(spent, ahead, max(ahead / max(at_a_time, 1e-9), left))


def _until_all_are_done(
    rests: Mapping[int, float],
    needs: Mapping[int, set[int]],
    running: Collection[int],
    at_a_time: int,
) -> float:
    """Seconds until jobs are done that are begun in their order, at most so many at a time.

    Args:
        rests: seconds that each still takes.
        needs: the ones that each waits for; none where it runs.
        running: those that run.
    """
    order = TopologicalSorter(needs)
    order.prepare()
    at_work, now = [(rests[number], number) for number in running], 0.0
    heapq.heapify(at_work)
    ready = deque(number for number in order.get_ready() if number not in running)
    while at_work or ready:
        while ready and len(at_work) < at_a_time:
            number = ready.popleft()
            heapq.heappush(at_work, (now + rests[number], number))
        now, ended = heapq.heappop(at_work)
        order.done(ended)
        ready.extend(order.get_ready())
    return now


def _slowness(known: Sequence[tuple[str, float, float]]) -> dict[str, float]:
    """How many times as long as stated jobs of each kind take, and "", those of kinds not seen.

    Args:
        known: kind, stated and real seconds of jobs or of the part of them that is done.
    """
    stated: dict[str, float] = {}
    real: dict[str, float] = {}
    for kind, work, seconds in known:
        stated[kind] = stated.get(kind, 0.0) + work
        real[kind] = real.get(kind, 0.0) + seconds
    # Each kind that was seen says something of the others, however much there was of it; starting,
    # which is no computing, next to nothing. All of them weigh against one kind that is as stated.
    weight = {kind: work / (work + STATED_SECONDS) for kind, work in stated.items() if work > 0}
    weight.pop("start", None)
    said = sum(w * math.log(max(real[kind], 1e-3) / stated[kind]) for kind, w in weight.items())
    others = math.exp(said / (1 + sum(weight.values())))
    return {"": others} | {
        kind: (real[kind] + STATED_SECONDS * others) / (stated[kind] + STATED_SECONDS)
        for kind in stated
    }


def in_words(seconds: float) -> str:
    """A time for people: 45 s, 12 min, 1 h 40 min, 35 h, 6 days."""
    if seconds < 99.5:
        return f"{seconds:.0f} s"
    if (minutes := round(seconds / 60)) < 100:
        return f"{minutes} min"
    if (hours := round(seconds / 3600)) < 10:
        return f"{minutes // 60} h {minutes % 60} min"
    return f"{hours} h" if hours < 100 else f"{seconds / 86400:,.0f} days"


# ======================================================================================
# What is shown


def plan_in_words(run: Run) -> str:
    """What a run has before it."""
    work = sum(job.work for job in run.jobs.values())
    jobs = f"{len(run.jobs)} job{'s' * (len(run.jobs) > 1)}"
    if run.cores and not run.gpu:
        about = in_words(work / run.cores)
        return f"{jobs}, about {about} on {run.cores} core{'s' * (run.cores > 1)}."
    # Nobody knows how many will run at a time.
    return f"{jobs}, about {in_words(work)} one after another."


def line(run: Run, job: Job) -> str:
    """A line on a job that has ended, for a file."""
    # Those that are made: what has failed may be tried again.
    made, total = len(run.of("done")), len(run.jobs)
    said = "" if job.state == "done" else f"{job.state} "
    return f"{made:>{len(str(total))}}/{total} {said}{job}: {job.seconds:.1f} s"


def outcome(run: Run) -> str:
    """A sentence on a run that has ended."""
    ends = [job.began + job.seconds for job in run.jobs.values() if job.began]
    took = max(ends, default=run.began) - run.began
    done, failed, blocked = len(run.of("done")), len(run.of("failed")), len(run.blocked())
    said = f"{done} of {len(run.jobs)} jobs made in {in_words(took)}"
    if failed:
        said += f"; {failed} failed"
    if failed and blocked:
        said += f", and {blocked} {'needs' if blocked == 1 else 'need'} what these make"
    return f"{said}."


def lines(run: Run, looks: Mapping[int, Look], now: float) -> list[str]:
    """The state of a run, and each job that runs now."""
    said = [headline(run, looks, now)]
    for number, look in looks.items():
        job = run.jobs[number]
        words = [f"for {in_words(now - job.began)}"] if look.begun else ["in the queue"]
        words += [f"{look.share:.0%}"] if look.share is not None else []
        words += [f"{in_words(look.left)} left"] if look.left is not None else []
        said.append(f"  {job}: {', '.join(words)}")
    return said + [f"  {job}: failed (log: {job.log})" for job in run.of("failed").values()]


def headline(run: Run, looks: Mapping[int, Look], now: float) -> str:
    """How far a run is, in a line."""
    left = estimate(run, looks, now).left
    return (
        f"Scale {run.scale}: {len(run.of('done'))} of {len(run.jobs)} jobs after "
        f"{in_words(now - run.began)}, "
        + ("time left not known yet" if left is None else f"about {in_words(left)} left")
    )


def display(run: Run, looks: Mapping[int, Look], now: float, console: Console) -> RenderableType:
    """The state of a run for a terminal, no larger than that."""
    about = estimate(run, looks, now)
    failed = run.of("failed")
    bar = Table.grid(expand=True)
    bar.add_row(ProgressBar(total=about.spent + about.ahead or 1, completed=about.spent))
    shown: list[RenderableType] = [
        Text(headline(run, looks, now), style="bold", no_wrap=True, overflow="ellipsis"),
        bar,
    ]
    # Jobs may begin and end meanwhile, in another thread. Those that have run longest come first.
    begun = [number for number, look in looks.items() if look.begun]
    begun.sort(key=lambda number: run.jobs[number].began)
    room = max(1, console.height - OTHER_LINES - min(len(failed), FAILED_LINES))
    table = Table.grid(padding=(0, 2), expand=True)
    table.add_column(ratio=1, no_wrap=True, overflow="ellipsis")
    for width in (len("1 h 20 min"), len("100%"), len("1 h 20 min left")):
        table.add_column(justify="right", no_wrap=True, width=width)
    for number in begun[:room]:
        job, look = run.jobs[number], looks[number]
        share = "" if look.share is None else f"{look.share:.0%}"
        left = "" if look.left is None else f"{in_words(look.left)} left"
        table.add_row(escape(str(job)), in_words(now - job.began), share, left)
    shown += [table] if begun else []
    rest = [f"{len(begun) - room} more running"] if len(begun) > room else []
    rest += [f"{len(looks) - len(begun)} in the queue"] if len(looks) > len(begun) else []
    if rest:
        shown.append(Text(", ".join(rest)))
    for job in list(failed.values())[-FAILED_LINES:]:
        said = Text(f"failed: {job} (log: {job.log})", "red", no_wrap=True, overflow="ellipsis")
        shown.append(said)
    rest = [f"{len(failed) - FAILED_LINES} more failed"] if len(failed) > FAILED_LINES else []
    blocked = len(run.blocked())
    needs = "job needs" if blocked == 1 else "jobs need"
    rest += [f"{blocked} {needs} what failed"] if blocked else []
    if rest:
        shown.append(Text(", ".join(rest), "red"))
    # Whoever types Ctrl-C sees it behind the last line, which must not wrap.
    return Constrain(Group(*shown), console.width - len("^C "))


class Watcher:
    """Shows a run while Snakemake tells of it, and writes its events down.

    On a terminal it is one display that is gone in the end; elsewhere a line a job. Meanwhile
    standard error, where jobs say why they fail, is Snakemake's log: launch says it in the end.

    Args:
        root: the project's folder.
        console: where it is shown.
        ending: whether the last line is on the outcome.
    """

    def __init__(self, root: Path, console: Console, *, ending: bool) -> None:
        self._root, self._console, self._ending, self._run = root, console, ending, Run()
        self._live: Live | None = None
        self._open = ExitStack()
        self._events: IO[str] | None = None

    def hear(self, record: logging.LogRecord, text: Callable[[logging.LogRecord], str]) -> None:
        """Show what a record of Snakemake's logger says.

        Args:
            text: Snakemake's own words of a record; they are shown of errors that are not a job's.
        """
        event = event_of(record)
        if event is None:
            if record.levelno >= logging.ERROR and not of_a_job(record, text(record)):
                self._say(text(record))
            elif record.getMessage().startswith("Nothing to be done"):
                self._say("Nothing to be done: all results are up to date.")
            return
        job = self._run.hear(event)
        if event["event"] == "planned":
            self._begin(event)
        elif event["event"] == "stopping":
            self._end()
        elif job and job.state in ("done", "failed", "stopped") and not self._live:
            self._say(line(self._run, job))
        if self._events:
            # A full disk stops no display.
            with suppress(OSError):
                self._events.write(json.dumps(event) + "\n")

    def close(self) -> None:
        """End the display."""
        self._end()
        self._open.close()
        if self._run.jobs and self._ending:
            self._say(outcome(self._run))
        # Python closes every logger's handler once more at its end.
        self._run = Run()

    def _begin(self, event: Event) -> None:
        self._say(plan_in_words(self._run))
        with suppress(OSError):
            path = self._root / EVENTS
            self._events = path.open("w", encoding="utf-8", buffering=1)
            self._open.enter_context(self._events)
            self._open.enter_context(_standard_error_to(event["log"]))
        if self._console.is_terminal and not self._console.is_dumb_terminal:
            # The logs of a cluster lie on a file system that many share.
            each = 2 if self._run.cores else 0.5
            self._live = Live(
                console=self._console, get_renderable=self._now, refresh_per_second=each,
                transient=True, redirect_stdout=False, redirect_stderr=False,
            )  # fmt: skip
            self._live.start()

    def _end(self) -> None:
        live, self._live = self._live, None
        if live:
            live.stop()

    def _now(self) -> RenderableType:
        looks = looks_at(self._root, self._run)
        return display(self._run, looks, time.time(), self._console)

    def _say(self, words: str) -> None:
        self._console.print(words, markup=False, highlight=False, soft_wrap=True)


@contextmanager
def _standard_error_to(path: str) -> Iterator[None]:
    """Within the block standard error of this process, and of its children, ends up in a file."""
    with open(path, "a", encoding="utf-8") as file:
        before = os.dup(2)
        os.dup2(file.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(before, 2)
        os.close(before)


def of_a_job(record: logging.LogRecord, text: str) -> bool:
    """Whether an error is that of a job, whose last words `launch` prints in the end."""
    kind = last_words.kind_of(record)
    return kind in ("job_error", "group_error") or any(words in text for words in OF_JOBS)
