"""Jobs are forked from a process that has already imported their libraries.

A job's script takes seconds to import torch or the drawing libraries, as long as many jobs compute.
On one machine the scripts are therefore run in forks of a server that has imported them once: a
fork is there in milliseconds, with everything that it imported. Each job has a process of its own
all the same, so that its memory, its signals and its end are its own.
"""

import gc
import inspect
import itertools
import multiprocessing
import os
import resource
import runpy
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from importlib import import_module
from importlib.metadata import version
from multiprocessing.connection import Connection, wait
from queue import SimpleQueue
from typing import Any

import psutil
import threadpoolctl

from replica import last_words

# What Snakemake asks a script to import before its first line.
PREAMBLE = ("snakemake.logging", "snakemake.iocontainers")


class StarterEnded(RuntimeError):
    """The server has ended, and with it the jobs that it had started, or it is not to start."""


class Starter:
    """Runs scripts in forks of one server, which starts with the first of them.

    Args:
        modules: what the server imports.
        refuse: says why it is not to start, or nothing.
    """

    def __init__(
        self, modules: Sequence[str], refuse: Callable[[], str | None] = lambda: None
    ) -> None:
        self._modules = [*PREAMBLE, *modules]
        self._refuse = refuse
        self._why = _ENDED
        self._lock = threading.Lock()
        self._numbers = itertools.count()
        self._connection: Connection | None = None
        self._answers: dict[int, SimpleQueue[Any]] = {}

    def start(
        self, script: str, environment: Mapping[str, str], threads: int
    ) -> tuple[int, Callable[[], tuple[int, float, str]]]:
        """Start a script in a process of its own.

        Args:
            script: path of a Python script.
            environment: variables that are set for it, beside those of the server.
            threads: for linear algebra, also of libraries that read their number when they load.

        Returns:
            The process's id, and a function that waits for its end and returns its exit status
            (negative: a signal), the CPU seconds that it used, and its last sentence or "".

        Raises:
            StarterEnded: also when it is waited for.
        """
        answers: SimpleQueue[Any] = SimpleQueue()
        with self._lock:
            connection = self._connection or self._serve()
            number = next(self._numbers)
            self._answers[number] = answers
            try:
                connection.send((number, script, dict(environment), threads))
            except OSError:
                raise StarterEnded(self._why) from None

        def next_answer() -> Any:
            if (answer := answers.get()) is None:
                raise StarterEnded(self._why)
            return answer

        return next_answer(), next_answer

    def _serve(self) -> Connection:
        if why := self._refuse():
            raise StarterEnded(why)
        self._why = _ENDED
        ours, theirs = multiprocessing.Pipe()
        handle = theirs.fileno()
        command = [sys.executable, "-m", __name__, str(handle), *self._modules]
        process = subprocess.Popen(command, pass_fds=[handle], stdin=subprocess.DEVNULL)
        theirs.close()
        self._connection = ours
        threading.Thread(target=self._hear, args=(ours, process), daemon=True).start()
        return ours

    def _hear(self, connection: Connection, process: subprocess.Popen[bytes]) -> None:
        """Hand on what the server says, until it ends."""
        try:
            while True:
                number, answer = connection.recv()
                if number is None:
                    self._why = answer
                else:
                    self._answers[number].put(answer)
        except (EOFError, OSError):
            process.wait()
            with self._lock:
                self._connection = None
                waiting, self._answers = self._answers, {}
            for answers in waiting.values():
                answers.put(None)


_ENDED = "the process that starts the jobs has ended; was it killed, or is memory short?"


def serve(connection: Connection, modules: Sequence[str]) -> None:
    """Import modules, then run the scripts that are asked for, until nobody can ask any more.

    It hears requests (number, script, environment, threads), and says (number, process id) when
    a script has started and (number, (exit status, CPU seconds, last sentence)) when it has ended.
    If a module cannot be imported it says (None, why), and ends. When the other side is gone the
    scripts get SIGTERM, at which trainings save their state.
    """
    # Ctrl-C and signals to the whole group are for the jobs; this process ends after them.
    for asked in (signal.SIGINT, signal.SIGTERM):
        signal.signal(asked, signal.SIG_IGN)
    for module in modules:
        try:
            import_module(module)
        except Exception as error:
            said = f"{module} cannot be imported: {last_words.sentence_of(error)}"
            connection.send((None, f"{said} ({_place(error)})"))
            raise
    # Collections would write to all that was imported, and so copy it into each fork.
    gc.collect()
    gc.freeze()
    context = multiprocessing.get_context("fork")
    running: dict[Any, tuple[int, Any, int]] = {}
    try:
        while True:
            for ready in wait([connection, *running]):
                if ready is connection:
                    number, *job = connection.recv()
                    reader, writer = os.pipe()
                    os.set_blocking(reader, False)
                    process = context.Process(target=run_script, args=(connection, writer, *job))
                    process.start()
                    os.close(writer)
                    running[process.sentinel] = number, process, reader
                    connection.send((number, process.pid))
                else:
                    number, process, reader = running.pop(ready)
                    before = _ended_cpu_seconds()
                    process.join()
                    seconds = _ended_cpu_seconds() - before
                    connection.send((number, (process.exitcode, seconds, _words(reader))))
    except (EOFError, OSError):
        for _, process, _ in running.values():
            process.terminate()
        for _, process, _ in running.values():
            process.join()


def _place(error: Exception) -> str:
    """The file and line at which an exception was raised."""
    last = traceback.extract_tb(error.__traceback__)[-1]
    return f"{last.filename}, line {last.lineno}"


def _words(reader: int) -> str:
    """What a process wrote into its pipe; empties and closes it."""
    words = b""
    # Where a child of the job still holds the other end.
    with suppress(BlockingIOError):
        words = os.read(reader, 4096)
    os.close(reader)
    return words.decode(errors="replace")


def _ended_cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def run_script(
    connection: Connection,
    pipe: int,
    script: str,
    environment: Mapping[str, str],
    threads: int,
) -> None:
    """Run a script in this process as `python script` would in a new one.

    Args:
        pipe: takes the last sentence of the script.
    """
    connection.close()
    # Ctrl-C is a SIGTERM to a job: a training saves its state, all others end without a word.
    signal.signal(signal.SIGINT, lambda *_: os.kill(os.getpid(), signal.SIGTERM))
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    os.environ.update({**environment, last_words.JOB_PIPE: str(pipe)})
    threadpoolctl.threadpool_limits(threads)
    if torch := sys.modules.get("torch"):
        torch.set_num_threads(threads)
    sys.argv = [script]
    runpy.run_path(script, run_name="__main__")


def fork_scripts(
    choose: Callable[[str, Any], str],
    modules: Mapping[str, Sequence[str]],
    tell: last_words.Tell,
    refuse: Callable[[], str | None],
) -> None:
    """Let Snakemake run Python scripts in forks, where it would start an interpreter for each.

    Where forks are not safe (not Linux), or a script has an environment of its own, nothing is
    different.

    Args:
        choose: from the rule's name and a job's parameters to the server that it needs.
        modules: what each server imports.
        tell: hears the last words of jobs, by their logs.
        refuse: says why no server is to start any more, or nothing.
    """
    # Snakemake has no setting for the process of a script; the rest of what it does with one
    # (files, logs, benchmarks, what is left after a failure) stays as it is.
    from snakemake.benchmark import benchmarked
    from snakemake.script import PythonScript

    if sys.platform != "linux":
        return
    if not is_as_known(PythonScript):
        print(
            f"Snakemake {version('snakemake')} starts scripts in an unexpected way: "
            "each job starts an interpreter of its own, which takes seconds more.",
            file=sys.stderr,
        )
        return
    starters = {name: Starter(listed, refuse) for name, listed in modules.items()}
    interpreted = PythonScript.execute_script

    def execute_script(self: PythonScript, fname: str, edit: bool = False) -> None:
        if self.container_img or self.conda_env or self.env_modules:
            interpreted(self, fname, edit)
            return
        starter = starters[choose(self.rulename, self.params)]
        environment = _environment(self.threads, self.resources)
        record, began = self.bench_record, time.time()

        def attempt() -> tuple[int, float, str]:
            pid, end = starter.start(fname, environment, self.threads)
            with ExitStack() as stack:
                # It may have ended by now.
                with suppress(psutil.NoSuchProcess):
                    stack.enter_context(benchmarked(pid if record else False, record))
                return end()

        log = next(iter(self.log), "")
        try:
            status, cpu_seconds, words = attempt()
            if status == last_words.TRY_AGAIN:
                status, more_seconds, words = attempt()
                cpu_seconds += more_seconds
        except StarterEnded as error:
            tell({"event": "words", "log": log, "words": str(error)})
            raise
        if record:
            # Exact, whereas Snakemake samples from time to time.
            record.running_time, record.cpu_time = time.time() - began, cpu_seconds
        if status:
            if status < 0:
                words = last_words.killed(status, self.resources.get("mem_mb"))
            tell({"event": "words", "log": log, "words": words})
            raise subprocess.CalledProcessError(status, f"python {fname}")

    PythonScript.execute_script = execute_script


def is_as_known(script: type) -> bool:
    """Whether a class of Snakemake starts scripts as `fork_scripts` takes for granted."""
    method = getattr(script, "execute_script", None)
    if method is None or [*inspect.signature(method).parameters] != ["self", "fname", "edit"]:
        return False
    read = {"container_img", "conda_env", "env_modules", "rulename", "params", "threads"}
    read |= {"resources", "bench_record", "log"}
    return read <= {*inspect.signature(script).parameters}


def _environment(threads: int, resources: Mapping[str, Any]) -> dict[str, str]:
    """The variables that Snakemake sets for a script."""
    libraries = ("OMP", "GOTO", "OPENBLAS", "MKL", "NUMEXPR")
    environment = {f"{library}_NUM_THREADS": str(threads) for library in libraries}
    environment["VECLIB_MAXIMUM_THREADS"] = str(threads)
    if folder := resources.get("tmpdir"):
        environment |= dict.fromkeys(("TMPDIR", "TMP", "TEMP", "TEMPDIR"), folder)
    return environment


if __name__ == "__main__":
    serve(Connection(int(sys.argv[1])), sys.argv[2:])
