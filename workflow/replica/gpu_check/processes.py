"""Parts of a check in processes of their own: an error of a GPU ends one and not the whole."""

import multiprocessing
import time
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import Connection
from typing import Any

from replica.last_words import sentence_of

# A process must not be forked from one that uses CUDA.
SPAWN = multiprocessing.get_context("spawn")
# (setup, name of the part) -> what it found
Part = Callable[[Any, str], Any]
DONE, FAILED, NO_TIME = "done", "failed", "no time"


def results(
    part: Part, setup: Any, names: Sequence[str], deadline: float, longest: float
) -> Iterator[tuple[str, str, Any, float]]:
    """Run the parts of a check one after another in a process; after an error in a fresh one.

    Args:
        part: a function of a module, which a process finds by its name.
        setup: its first argument.
        names: its second argument, one after the other.
        deadline: in the time of `time.monotonic`.
        longest: seconds that one part may take.

    Yields:
        For each name: the name, `DONE`, `FAILED` or `NO_TIME`, what it found or why there is
        nothing, and the seconds that it took.
    """
    left = list(names)
    while left:
        ours, theirs = SPAWN.Pipe()
        process = SPAWN.Process(target=_serve, args=(theirs, part, setup, left))
        process.start()
        theirs.close()
        try:
            # All of them, or those up to the first that fails.
            for name in list(left):
                began = time.monotonic()
                seconds = min(longest, deadline - began)
                status, found = _answer(ours, process, seconds)
                if status == NO_TIME and seconds == longest:
                    status, found = FAILED, f"it took longer than {longest:.0f} s"
                left.remove(name)
                yield name, status, found, time.monotonic() - began
                if status != DONE:
                    break
        finally:
            process.terminate()
            process.join()
            ours.close()


def _answer(connection: Connection, process: Any, seconds: float) -> tuple[str, Any]:
    if seconds <= 0 or not connection.poll(seconds):
        return NO_TIME, "no time was left"
    try:
        return connection.recv()
    except EOFError:
        process.join()
        return FAILED, f"its process ended with status {process.exitcode}"


def _serve(connection: Connection, part: Part, setup: Any, names: Sequence[str]) -> None:
    for name in names:
        try:
            found = part(setup, name)
        except Exception as error:
            # The next one might fail for the same error, which CUDA does not forget.
            connection.send((FAILED, sentence_of(error)))
            return
        connection.send((DONE, found))
