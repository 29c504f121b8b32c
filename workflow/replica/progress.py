"""Progress of a loop: a bar with the remaining time on a terminal, else a line every 10 s."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

Tick = Callable[[int, Callable[[], str]], None]


@contextmanager
def progress(name: str, total: int, start: int = 0, every: float = 10.0) -> Iterator[Tick]:
    """Yield `tick(step, words)`; `words` is called only when something is shown.

    Args:
        name: what is being done.
        total: number of steps.
        start: steps that were done before (a resumed run).
        every: seconds between two lines where standard error is no terminal.
    """
    if sys.stderr.isatty():
        columns = [TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn()]
        with Progress(*columns, TimeRemainingColumn(), TextColumn("{task.fields[words]}")) as bar:
            task = bar.add_task(name, total=total, completed=start, words="")
            yield lambda step, words: bar.update(task, completed=step, words=words())
        return
    began = last = time.monotonic()

    def line(step: int, words: Callable[[], str]) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last < every and step < total:
            return
        last = now
        left = (now - began) / max(step - start, 1) * (total - step)
        text = f"{name}: step {step}/{total}, {words()}, {left:.0f} s left"
        print(text, file=sys.stderr, flush=True)

    yield line
