"""`snakemake --logger replica`: a display of the run instead of Snakemake's lines.

Snakemake finds it by the name of the package, and imports it whatever logger is asked for.
"""

import logging
import os
import sys
from pathlib import Path

from snakemake_interface_logger_plugins.base import LogHandlerBase


class LogHandler(LogHandlerBase):
    """Hands on to `replica.watching` what Snakemake says; a dry run is left to Snakemake."""

    def __post_init__(self) -> None:
        from rich.console import Console

        from replica import last_words
        from replica.watching import Watcher

        # Standard error itself goes to Snakemake's log while jobs run.
        terminal = os.fdopen(os.dup(2), "w", encoding=sys.stderr.encoding, errors=sys.stderr.errors)
        # `replica launch` says itself how the run ended.
        ending = last_words.PIPE not in os.environ
        self._watcher = Watcher(Path.cwd(), Console(file=terminal), ending=ending)

    def emit(self, record: logging.LogRecord) -> None:
        """Show what a record says."""
        if self.common_settings.dryrun:
            return
        try:
            self._watcher.hear(record, self.format)
        except Exception:
            # The thread that calls this would end without a word.
            self.handleError(record)

    def close(self) -> None:
        """End the display."""
        self._watcher.close()
        super().close()

    @property
    def writes_to_stream(self) -> bool:
        """Whether Snakemake need not print anything itself."""
        return not self.common_settings.dryrun

    writes_to_file = False
    # It hears everything, also what --quiet hides.
    has_filter = True
    # Snakemake's own words where something fails that is not a job.
    has_formatter = False
    needs_rulegraph = False
