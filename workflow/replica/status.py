"""How far a scale is, and what runs now: once in lines, or to watch from another terminal."""

import signal
import sys
import time
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from replica import watching
from replica.artifacts import side_by_side
from replica.efficiency import current_jobs, progress_lines, progress_table
from replica.estimates import hours_left, rates_of
from replica.plan import Plan
from replica.processes import running
from replica.slurm_queue import NoSlurm, SlurmSilent, job_prefix, queued

# Seconds between two looks.
EVERY = 2


def print_status(plan: Plan) -> None:
    """Print what is made of a plan, what runs now, what is left, and the queue of Slurm."""
    for line in _lines(plan):
        print(line)
    if (waiting := _queue(plan)) is not None:
        print(f"jobs of this folder in Slurm's queue: {waiting}")


def facts(plan: Plan) -> dict[str, Any]:
    """The same for programs; `slurm_jobs` is None where there is no Slurm."""
    jobs = current_jobs(plan)
    gpu, cpu = hours_left(plan, rates_of(plan.root), jobs)
    return {
        "scale": plan.config.scale,
        "studies": progress_table(plan, jobs).to_dict("records"),
        "running": running(plan.root),
        "versions": side_by_side(plan.root / plan.results),
        "gpu_hours_left": gpu,
        "cpu_hours_left": cpu,
        "slurm_jobs": _queue(plan),
    }


def _queue(plan: Plan) -> int | None:
    """How many jobs of the folder wait or run in Slurm; None where that is not known."""
    try:
        return len(queued(job_prefix(plan.root)))
    except NoSlurm:
        return None
    except SlurmSilent as error:
        print(error, file=sys.stderr)
        return None


def _lines(plan: Plan) -> list[str]:
    jobs, now = current_jobs(plan), running(plan.root)
    lines = [*progress_lines(plan, jobs), *now]
    if now and (run := watching.recorded(plan.root)):
        lines += watching.lines(run, watching.looks_at(plan.root, run), time.time())
    if note := side_by_side(plan.root / plan.results):
        lines.append(note)
    gpu, cpu = hours_left(plan, rates_of(plan.root), jobs)
    on_gpu = f"{gpu:.1f} GPU hours and " if gpu else ""
    return [*lines, f"left: about {on_gpu}{cpu:.1f} hours of one core"]


def watch(plan: Plan, console: Console) -> None:
    """Show the run in a project's folder until Ctrl-C; where nothing runs, what is made.

    Without a terminal nobody watches: then it is `print_status`.
    """
    if not console.is_terminal:
        print_status(plan)
        return
    asked: list[int] = []

    def stop(number: int, frame: object) -> None:
        # A KeyboardInterrupt is lost if it is raised in a destructor; a second Ctrl-C raises one.
        asked.append(number)
        signal.signal(signal.SIGINT, signal.default_int_handler)

    before = signal.signal(signal.SIGINT, stop)
    try:
        with Live(console=console, auto_refresh=False) as live:
            while not asked:
                live.update(_seen(plan, console), refresh=True)
                until = time.monotonic() + EVERY
                while not asked and time.monotonic() < until:
                    time.sleep(0.1)
    except KeyboardInterrupt:
        pass
    finally:
        signal.signal(signal.SIGINT, before)


def _seen(plan: Plan, console: Console) -> RenderableType:
    if running(plan.root) and (run := watching.recorded(plan.root)):
        looks = watching.looks_at(plan.root, run)
        return watching.display(run, looks, time.time(), console)
    return Group(*map(Text, [*_lines(plan), "Ctrl-C ends this display."]))
