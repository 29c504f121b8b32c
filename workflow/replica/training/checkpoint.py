"""Checkpoints: a run that is stopped resumes where it was, bit for bit on one CPU machine.

A checkpoint lies outside the declared outputs, because Snakemake deletes those before each
attempt. Its name is the key of the job, so a changed run never resumes a state that is not its own.
"""

import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from torch import Tensor

from replica import artifacts

TERMINATED = 128 + signal.SIGTERM


@dataclass
class Checkpoint:
    """Where and how often a run saves its state.

    Attributes:
        path: the file; None never saves.
        every: seconds between two saves.
    """

    path: Path | None
    every: float = 30.0
    stopping: bool = False
    _last: float = field(default_factory=time.monotonic)

    def load(self) -> dict[str, Tensor] | None:
        """The saved state, or None where there is none; a damaged one is reported and deleted."""
        if self.path is None or not self.path.exists():
            return None
        try:
            state, _ = artifacts.read_tensors(self.path)
        except artifacts.CorruptArtifact as error:
            print(f"The checkpoint is not used: {error}", file=sys.stderr)
            self.discard()
            return None
        print(f"Resuming from the checkpoint {self.path}.", file=sys.stderr)
        return state

    def due(self) -> bool:
        """Whether it is time to save."""
        return self.stopping or time.monotonic() - self._last >= self.every

    def save(self, state: Callable[[], dict[str, Tensor]]) -> None:
        """Save now; after a SIGTERM end the process with status 143.

        Raises:
            SystemExit: the process was asked to stop; everything is saved.
        """
        if self.path is not None:
            artifacts.write_tensors(self.path, state(), {})
        self._last = time.monotonic()
        if self.stopping:
            print("Stopped by SIGTERM; the state is saved.", file=sys.stderr)
            raise SystemExit(TERMINATED)

    def member(self, name: int | str) -> "Checkpoint":
        """The checkpoint of one of several trainings of a job, one after another."""
        path = self.path and self.path.with_suffix(f".{name}{self.path.suffix}")
        return Checkpoint(path, self.every)

    def discard(self) -> None:
        """Remove the file and those of its members, after the results are safely written."""
        if self.path is not None:
            for path in self.path.parent.glob(f"{self.path.stem}*{self.path.suffix}"):
                path.unlink(missing_ok=True)

    @contextmanager
    def catching_sigterm(self) -> Iterator[None]:
        """Within the block, SIGTERM means a save at the next step, not an immediate end."""

        def stop(number: int, frame: object) -> None:
            self.stopping = True

        before = signal.signal(signal.SIGTERM, stop)
        try:
            yield
        finally:
            signal.signal(signal.SIGTERM, before)
