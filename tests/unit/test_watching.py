"""What a run is doing: events become a state, and the state a display, lines and the time left."""

import heapq
import io
import json
import logging
import os
import random
import signal
import time
from contextlib import suppress

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from replica import status, watching
from replica.estimates import Rates, job_table
from replica.plan import make_plan
from replica.watching import Look, Run, Watcher, display, estimate, in_words, lines, look_at, run_of

# A chain, and a training beside it.
JOBS = [
    [1, "train_run", "a b/all", "token", 100.0, []],
    [2, "measure_run", "a b/all", "start", 1.0, [1]],
    [3, "claims", "a", "start", 1.0, [2]],
    [4, "train_run", "a c/all", "token", 50.0, []],
]
LOG = "results/smoke/logs/train_run/a/b/all.log"


def planned(cores: int | None = 2) -> dict:
    about = {"time": 1000.0, "scale": "smoke", "cores": cores, "gpu": False, "jobs": JOBS}
    return {"event": "planned"} | about


def running(job: int, now: float, log: str = LOG) -> dict:
    return {"event": "running", "job": job, "log": log, "time": now}


def ended(job: int, now: float, how: str = "done") -> dict:
    return {"event": how, "job": job, "time": now}


def shown(run: Run, looks: dict, now: float, height: int = 24) -> str:
    console = Console(file=io.StringIO(), width=80, height=height)
    console.print(display(run, looks, now, console))
    return console.file.getvalue()


def test_events_change_the_state_of_their_job():
    run = run_of([planned(), running(1, 1000), running(4, 1001), ended(4, 1051)])
    assert {n: job.state for n, job in run.jobs.items()} == {
        1: "running", 2: "waiting", 3: "waiting", 4: "done",
    }  # fmt: skip
    assert run.jobs[4].seconds == 50 and run.scale == "smoke"
    # Targets such as `all`, which have no files, are jobs of Snakemake and not of a run.
    assert run.hear(running(99, 1052)) is None and len(run.jobs) == 4


def test_every_rule_with_wildcards_has_its_row_in_the_table_of_jobs(root):
    plan = make_plan(root, {"scale": "paper"})
    work = watching.expected_work(job_table(plan, Rates()))
    study = next(iter(plan.with_networks()))
    part = next(part for part in plan.parts.values() if part.study == study)
    group = next(iter(plan.network_groups(study)))
    of_run = {"scale": "paper", "study": study, "run": part.run, "part": part.part}
    for rule, names in [
        (part.rule, of_run),
        ("measure_run", of_run),
        ("figure_table", {"study": study, "figure": next(iter(plan.studies[study].figures))}),
        ("claims", {"study": study}),
        ("generalization", {"study": study, "networks": group}),
        ("generalization_on_gpu", {"study": study, "networks": group}),
        ("prepare_dataset", {"dataset": "mnist"}),
        ("scorecard_table", {}),
    ]:
        assert watching._key(rule, names) in work, rule
    assert watching._name(of_run) == f"{study} {part.run}/{part.part}"
    assert (watching._name({"study": study}), watching._name({})) == (study, "")


def test_what_needs_a_failed_job_is_not_waited_for_until_it_is_tried_again():
    run = run_of([planned(), running(1, 1000), ended(1, 1010, "failed")])
    assert run.blocked() == {2, 3}
    assert (
        watching.outcome(run) == "0 of 4 jobs made in 10 s; 1 failed, and 2 need what these make."
    )
    at_once = run_of([planned(), ended(1, 1001, "failed")])
    assert watching.outcome(at_once).startswith("0 of 4 jobs made in 0 s; 1 failed")
    only_the_other = estimate(run, {}, 1010.0)
    assert only_the_other.ahead == pytest.approx(50)
    run.hear(running(1, 1011))
    assert run.blocked() == set() and not run.of("failed")


def test_a_job_s_log_tells_its_progress(tmp_path):
    log, now = tmp_path / "all.log", time.time()
    assert look_at(log, now) == Look(False)
    log.write_text("Start-up: 1.2 CPU seconds\n")
    assert look_at(log, now) == Look(True)
    log.write_text(
        "low_rank fig6: step 100/400, loss 0.7, 30 s left\n"
        "low_rank fig6: step 300/400, loss 0.5, 10 s left\n"
    )
    look = look_at(log, now)
    assert look.begun and look.share == 0.75 and 8 < look.left <= 10
    # That of an earlier run.
    assert look_at(log, now + 60) == Look(False)
    assert look_at(tmp_path, now) == Look(False)


def test_the_display_fits_and_names_what_runs_and_what_failed():
    run = run_of([planned(), running(1, 1000), running(4, 1001)])
    said = shown(run, {1: Look(True, 0.5, 70.0), 4: Look(True)}, 1070.0)
    head, _, first, second = said.splitlines()
    assert head.startswith("Scale smoke: 0 of 4 jobs after 70 s, about ") and "left" in head
    assert first.split() == ["train_run", "a", "b/all", "70", "s", "50%", "70", "s", "left"]
    assert second.split() == ["train_run", "a", "c/all", "69", "s"]
    # What Ctrl-C prints at its end must not wrap the last line.
    assert max(map(len, said.splitlines())) <= 77
    run.hear(ended(1, 1071, "failed"))
    said = shown(run, {4: Look(True)}, 1071.0)
    assert "failed: train_run a b/all (log: results/smoke/logs" in said
    assert "2 jobs need what failed" in said


def test_a_display_is_never_higher_than_the_terminal():
    jobs = [[n, "train_run", f"a r{n}/all", "token", 9.0, []] for n in range(1, 90)]
    begun = [running(n, 1000) for n in range(1, 60)]
    failed = [ended(n, 1001, "failed") for n in range(1, 20)]
    for cores in (64, None):
        run = run_of([planned(cores) | {"jobs": jobs}, *begun, *failed])
        looks = {n: Look(bool(cores) or n % 2 == 0) for n in run.of("running")}
        said = shown(run, looks, 1060.0)
        assert len(said.splitlines()) < 24 and "16 more failed" in said
        assert ("in the queue" in said) == (cores is None) and "more running" in said
        assert len(shown(run, looks, 1060.0, height=10).splitlines()) <= 10


def test_lines_of_status_say_what_runs():
    run = run_of([planned(None), running(1, 1000), running(4, 1000)])
    looks = {1: Look(True, 0.25, 90.0), 4: Look(False)}
    head, *said = lines(run, looks, 1030.0)
    assert head == "Scale smoke: 0 of 4 jobs after 30 s, time left not known yet"
    assert said == [
        "  train_run a b/all: for 30 s, 25%, 90 s left", "  train_run a c/all: in the queue",
    ]  # fmt: skip


def test_what_is_ahead_is_said_in_a_line():
    said = watching.plan_in_words
    assert said(run_of([planned()])) == "4 jobs, about 76 s on 2 cores."
    one_by_one = "4 jobs, about 3 min one after another."
    assert said(run_of([planned(None)])) == said(run_of([planned() | {"gpu": True}])) == one_by_one


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.4, "0 s"), (99, "99 s"), (100, "2 min"), (5400, "90 min"), (6000, "1 h 40 min"),
     (5e4, "14 h"), (1e6, "12 days")],
)  # fmt: skip
def test_times_are_for_people(seconds, words):
    assert in_words(seconds) == words


# ------------------------------------------------------------------ the time left


# Seconds of the jobs whose own are not recorded: means of a reproduction, docs/performance.md.
MEANS = {
    "measure_run": 0.49, "figure_table": 0.55, "figure_plot": 1.23, "generalization": 10.3,
    "claims": 0.7, "correlations": 4.3, "scorecard_table": 1.4, "fetch_dataset": 0.2,
    "prepare_dataset": 0.15,
}  # fmt: skip


def needs_of(plan) -> dict:
    """(study, rule, name) of each job -> those that it waits for."""
    needs = {}
    for part in plan.parts.values():
        own = part.study, part.rule, part.stem
        before = [part.starts_from, part.previous_stage]
        needs[own] = [(p.study, p.rule, p.stem) for p in before if p is not None]
        needs[part.study, "measure_run", part.stem] = [own]
    for study, spec in plan.studies.items():
        for figure in spec.figures:
            measured = [(study, "measure_run", p.stem) for p in plan.parts_behind(study, [figure])]
            needs[study, "figure_table", figure] = measured
            needs[study, "figure_plot", figure] = [(study, "figure_table", figure)]
        tables = [(study, "figure_table", figure) for figure in spec.figures]
        needs[study, "claims", study] = tables
    return needs


def played(work: dict, needs: dict, seconds: dict, order: random.Random) -> tuple[list, dict]:
    """Events of a run on two cores that takes the jobs that are ready in some order."""
    numbers = {job: number for number, job in enumerate(work)}
    left = {job: set(needs.get(job, ())) for job in work}
    followers = {job: [] for job in work}
    for job, before in left.items():
        for other in before:
            followers[other].append(job)
    listed = [[numbers[job], job[1], " ".join(job), *about, [numbers[x] for x in left[job]]]
              for job, about in work.items()]  # fmt: skip
    events = [planned() | {"time": 0.0, "jobs": listed}]
    ready, at_work, now, spans = [job for job in work if not left[job]], [], 0.0, {}
    while ready or at_work:
        while ready and len(at_work) < 2:
            job = ready.pop(order.randrange(len(ready)))
            events.append(running(numbers[job], now))
            spans[numbers[job]] = now, seconds[job]
            heapq.heappush(at_work, (now + seconds[job], numbers[job], job))
        now, number, job = heapq.heappop(at_work)
        events.append(ended(number, now))
        for other in followers[job]:
            left[other].discard(job)
            ready += [] if left[other] else [other]
    return events, spans


@pytest.mark.slow
def test_the_time_left_of_a_recorded_run(root):
    """From a ninth of a run of the laptop scale on, the whole of it is known within 12 %, mostly.

    Of the moments of 16 orders of its jobs 98 % are; the mean error is 3 %, the largest 18 %. The
    order of a run is not recorded, and some orders begin with what is slow beyond expectation.
    """
    plan = make_plan(root, {"scale": "laptop"})
    work = watching.expected_work(job_table(plan, Rates()))
    seconds = {job: MEANS.get(job[1], expected) for job, (_, expected) in work.items()}
    recorded = 0
    for path in (root / "docs/evidence/laptop").glob("*/runs.csv"):
        for row in pd.read_csv(path).itertuples():
            for rule in ("train_run", "train_round", "certify"):
                job = path.parent.name, rule, f"{row.run}/{row.part}"
                if job in seconds:
                    seconds[job], recorded = 60 * row.minutes, recorded + 1
    assert recorded >= 200
    errors = []
    for seed in range(16):
        events, spans = played(work, needs_of(plan), seconds, random.Random(seed))
        whole, run, upcoming = events[-1]["time"], Run(), iter(events)
        event = next(upcoming)
        for moment in np.linspace(1 / 9, 1, 50, endpoint=False) * whole:
            while event["time"] <= moment:
                run.hear(event)
                event = next(upcoming)
            looks = {}
            for number in run.of("running"):
                began, length = spans[number]
                # Trainings tell their progress every ten seconds.
                told = length > 20
                share = (moment - began) / length
                looks[number] = Look(True, share, began + length - moment) if told else Look(True)
            errors.append((moment + estimate(run, looks, moment).left) / whole - 1)
    errors = np.abs(errors)
    assert np.mean(errors < 0.12) > 0.9 and errors.mean() < 0.06


@pytest.mark.parametrize("slow", [0.5, 1, 3])
def test_a_machine_of_another_speed_is_measured(slow):
    jobs = [[n, "train_run", f"a r{n}/all", "token", 30.0, []] for n in range(1, 41)]
    events = [planned() | {"jobs": jobs}]
    each = 30 * slow
    for n in range(1, 41):
        begins = 1000 + (n - 1) // 2 * each
        events += [running(n, begins), ended(n, begins + each)]
    events.sort(key=lambda event: event["time"])
    whole = 20 * each
    for share in (0.25, 0.5, 0.75):
        now = 1000 + share * whole - 0.01
        run = run_of(event for event in events if event["time"] <= now)
        left = estimate(run, {n: Look(True) for n in run.of("running")}, now).left
        assert abs(now - 1000 + left - whole) < 0.12 * whole


def test_long_jobs_that_cannot_share_the_cores_are_counted_whole():
    # Three jobs of an hour on two cores take two hours, and so does a chain of two of them.
    hour, jobs = 3600.0, [[0, "train_run", "a r0/all", "token", 100.0, []]]
    jobs += [[n, "train_run", f"a r{n}/all", "token", 3600.0, []] for n in (1, 2, 3)]
    events = [planned() | {"jobs": jobs}, running(0, 1000), ended(0, 1100)]
    begun = [*events, running(1, 1100), running(2, 1100)]
    looks = {1: Look(True, 0.5, hour / 2), 2: Look(True, 0.5, hour / 2)}
    left = estimate(run_of(begun), looks, 1100 + hour / 2).left
    assert left == pytest.approx(1.5 * hour, rel=0.02)
    jobs[2][4], jobs[3][-1] = hour / 2 / 0.99, [1]
    left = estimate(run_of(begun), {1: looks[1], 2: Look(True, 0.99, 10.0)}, 1100 + hour / 2).left
    assert left == pytest.approx(1.5 * hour, rel=0.02)


# ------------------------------------------------------------------ Snakemake's logger


def record(level: int = logging.INFO, words: str = "", **about) -> logging.LogRecord:
    made = logging.LogRecord("snakemake", level, "", 0, words, (), None)
    made.__dict__.update(about)
    return made


def hears(tmp_path, *records: logging.LogRecord, terminal: bool = False) -> str:
    (tmp_path / ".snakemake").mkdir(exist_ok=True)
    console = Console(file=io.StringIO(), width=80, force_terminal=terminal, color_system=None)
    watcher = Watcher(tmp_path, console, ending=True)
    for one in records:
        watcher.hear(one, logging.LogRecord.getMessage)
    watcher.close()
    watcher.close()
    return console.file.getvalue()


def event(kind: str, **about) -> dict:
    from snakemake_interface_logger_plugins.common import LogEvent

    return {"event": LogEvent(kind), **about}


def job_error(job: int) -> dict:
    about = {"rule_name": "train_run", "rule_msg": "", "log": [LOG], "output": []}
    return event("job_error", jobid=job, **about)


def a_run(tmp_path) -> list[logging.LogRecord]:
    """One job is done, one fails."""
    log = tmp_path / "snakemake.log"
    return [
        record(replica=planned() | {"log": str(log)}),
        record(**event("job_info", jobid=1, log=[LOG]), created=1000.0),
        record(**event("job_info", jobid=4, log=[]), created=1000.0),
        record(**event("job_finished", job_id=1), created=1012.34),
        record(logging.ERROR, "Error in rule", **job_error(4), created=1013.0),
        record(logging.ERROR, "RuleException:\nCalledProcessError in file train.smk, line 40"),
        record(words="Select jobs to execute..."),
    ]


def test_without_a_terminal_there_is_a_line_a_job(tmp_path):
    said = hears(tmp_path, *a_run(tmp_path))
    assert said.splitlines() == [
        "4 jobs, about 76 s on 2 cores.",
        "1/4 train_run a b/all: 12.3 s",
        "1/4 failed train_run a c/all: 13.0 s",
        "1 of 4 jobs made in 13 s; 1 failed.",
    ]
    run = watching.recorded(tmp_path)
    assert [job.state for job in run.jobs.values()] == ["done", "waiting", "waiting", "failed"]


def test_a_job_that_was_stopped_with_the_run_has_not_failed(tmp_path):
    told = a_run(tmp_path)
    asked = "Will exit after finishing currently running jobs (scheduler)."
    said = hears(tmp_path, *told[:4], record(words=asked), *told[4:])
    assert said.splitlines()[2:] == [
        "1/4 stopped train_run a c/all: 13.0 s",
        "1 of 4 jobs made in 13 s.",
    ]
    run = watching.recorded(tmp_path)
    assert run.jobs[4].state == "stopped" and not run.blocked()


def test_a_terminal_has_a_display_that_is_gone_in_the_end(tmp_path):
    said = hears(tmp_path, *a_run(tmp_path), terminal=True)
    assert "Scale smoke: 1 of 4 jobs" in said and "1/4 train_run" not in said
    # It hides the cursor, shows it again, and leaves a line.
    assert said.index("\x1b[?25l") < said.index("\x1b[?25h")
    assert said.rstrip().endswith("1 of 4 jobs made in 13 s; 1 failed.")


def test_errors_that_are_not_of_a_job_and_nothing_to_do_are_said(tmp_path):
    assert "LockException" in hears(tmp_path, record(logging.ERROR, "LockException:\nlocked"))
    said = hears(tmp_path, record(words="Nothing to be done (all requested files are there)."))
    assert said == "Nothing to be done: all results are up to date.\n"
    assert hears(tmp_path, record(words="Building DAG of jobs...")) == ""


def test_standard_error_is_snakemake_s_log_while_jobs_run(tmp_path, capfd):
    (tmp_path / ".snakemake").mkdir()
    watcher = Watcher(tmp_path, Console(file=io.StringIO()), ending=True)
    watcher.hear(a_run(tmp_path)[0], str)
    os.write(2, b"Traceback of a job\n")
    watcher.close()
    os.write(2, b"after it\n")
    assert (tmp_path / "snakemake.log").read_text() == "Traceback of a job\n"
    assert capfd.readouterr().err == "after it\n"


def test_a_disk_that_takes_nothing_stops_no_display(tmp_path):
    (tmp_path / ".snakemake/replica.events.jsonl").mkdir(parents=True)
    assert "1/4 train_run a b/all" in hears(tmp_path, *a_run(tmp_path))
    assert watching.recorded(tmp_path) is None


def test_a_line_that_is_half_written_is_left_out(tmp_path):
    path = tmp_path / watching.EVENTS
    path.parent.mkdir()
    path.write_text(
        json.dumps(planned()) + "\n" + json.dumps(running(1, 1000.0)) + '\n{"event": "do'
    )
    assert watching.recorded(tmp_path).jobs[1].state == "running"


def test_ctrl_c_ends_a_watch_also_where_an_interrupt_would_be_lost(monkeypatch):
    """As in a destructor, whose exceptions Python ignores."""
    looks = []

    def seen(plan, console):
        looks.append(plan)
        with suppress(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.05)
        return "seen"

    monkeypatch.setattr(status, "_seen", seen)
    before = signal.getsignal(signal.SIGINT)
    status.watch("plan", Console(force_terminal=True, file=io.StringIO()))
    assert looks == ["plan"] and signal.getsignal(signal.SIGINT) is before
