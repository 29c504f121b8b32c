"""Parts of a check in processes of their own: an error of a GPU ends one and not the whole."""

import multiprocessing
import time
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import Connection
from typing import Any

from replica.last_words import sentence_of

# A process must not be forked from one that uses CUDA.
SPAWN = multiprocessing.get_context("spawn")
DONE, FAILED, NO_TIME = "done", "failed", "no time"


def results(
    function: Callable[[Any, Any], Any],
    setup: Any,
    parts: Sequence[Any],
    deadline: float,
    longest: float,
) -> Iterator[tuple[Any, str, Any, float]]:
    """Call a function for parts one after another in a process; after an error in a fresh one.

    Args:
        function: of a module, in which a process finds it by its name.
        setup: its first argument.
        parts: its second argument, one after the other.
        deadline: in the time of `time.monotonic`.
        longest: seconds that one part may take.

    Yields:
        For each part: the part, `DONE`, `FAILED` or `NO_TIME`, what was returned or why nothing
        was, and the seconds that it took.
    """
    left = list(parts)
    while left:
        ours, theirs = SPAWN.Pipe()
        process = SPAWN.Process(target=_serve, args=(theirs, function, setup, left))
        process.start()
        theirs.close()
        try:
            # All of them, or those up to the first that fails.
            for part in list(left):
                began = time.monotonic()
                seconds = min(longest, deadline - began)
                status, found = _answer(ours, process, seconds)
                if status == NO_TIME and seconds == longest:
                    status, found = FAILED, f"it took longer than {longest:.0f} s"
                left.remove(part)
                yield part, status, found, time.monotonic() - began
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


def _serve(
    connection: Connection, function: Callable[[Any, Any], Any], setup: Any, parts: Sequence[Any]
) -> None:
    for part in parts:
        try:
            found = function(setup, part)
        except Exception as error:
            # The next one might fail for the same error, which CUDA does not forget.
            connection.send((FAILED, sentence_of(error)))
            return
        connection.send((DONE, found))
