"""What a run prints: a display on a terminal, a line a job elsewhere, and about ten lines in the end."""

import fcntl
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
import threading
import time

import pytest

from project import call, copy_project

LAUNCH = ("replica", "launch", "--scale", "smoke", "--config", "studies=[dufm]")
# A training that takes as long as a test looks at it.
LONG = ("checkpoint_seconds=0.5", "overrides={dufm: {rec_width_widest: {steps: 3000000}}}")
TRAINED = "results/smoke/dufm/measures/rec_width_widest/all.parquet"


class Terminal:
    """A command on a terminal of 80 columns, and all that it writes there."""

    def __init__(self, project, *arguments):
        ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        environment = os.environ | {"PYTHONPATH": str(project / "workflow"), "TERM": "xterm"}
        for name in ("COLUMNS", "LINES", "NO_COLOR"):
            environment.pop(name, None)
        self.process = subprocess.Popen(
            [sys.executable, "-m", *arguments], cwd=project, env=environment, stdin=theirs,
            stdout=theirs, stderr=theirs, start_new_session=True,
            # Then Ctrl-C on it reaches all its processes.
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )  # fmt: skip
        os.close(theirs)
        self.raw, self._ours = "", ours
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self):
        with open(self._ours, "rb", buffering=0, closefd=False) as file:
            try:
                while data := file.read(65536):
                    self.raw += data.decode(errors="replace")
            except OSError:
                # So a terminal ends.
                pass

    @property
    def text(self):
        return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]|\r", "", self.raw)

    def wait_for(self, words, seconds=120):
        deadline = time.monotonic() + seconds
        while words not in self.text:
            assert time.monotonic() < deadline and self.process.poll() is None, self.text[-3000:]
            time.sleep(0.1)

    def type(self, words):
        os.write(self._ours, words.encode())

    def end(self):
        status = self.process.wait(120)
        self._reader.join(10)
        os.close(self._ours)
        # Whatever was hidden is shown again.
        assert self.raw.rfind("\x1b[?25h") >= self.raw.rfind("\x1b[?25l")
        assert "Traceback" not in self.text
        return status


@pytest.fixture
def project(root, tmp_path):
    return copy_project(root, tmp_path / "project")


def test_without_a_terminal_a_line_a_job_and_the_verdicts_in_the_end(project):
    answer = call(project, *LAUNCH)
    said = answer.stderr
    # What comes before is on the profile, and on a Slurm that is there without working.
    plan, *jobs = said[re.search(r"^\d+ jobs, ", said, re.MULTILINE).start() :].splitlines()
    assert re.fullmatch(r"(\d+) jobs, about \d+ s on \d+ cores?\.", plan)
    total = int(plan.split()[0])
    assert len(jobs) == total >= 20
    for number, line in enumerate(jobs, start=1):
        assert re.fullmatch(rf" *{number}/{total} [a-z_]+( [\w./-]+)*: \d+\.\d s", line)
    assert any("train_run dufm rec_backbone/all: " in line for line in jobs)
    outcome, head, dufm, *rest = answer.stdout.splitlines()
    assert re.fullmatch(rf"{total} of {total} jobs made in \d+ s\.", outcome)
    assert head.split() == ["study", "proven", "on", "evidence"] and dufm.startswith("dufm ")
    assert "Report:     results/smoke/report.html" in rest and len(rest) <= 5
    # Snakemake's own words are in its log.
    log = min((project / ".snakemake/log").glob("*.log")).read_text()
    assert log.count("Finished jobid") >= total and "rule train_run:" in log
    again = call(project, *LAUNCH)
    assert "Nothing to be done: all results are up to date." in again.stderr
    assert again.stdout.splitlines() == answer.stdout.splitlines()[1:]
    listed = call(project, *LAUNCH, "seeds=2", "--", "-n")
    assert "rule train_run:" in listed.stdout and "study" not in listed.stdout.splitlines()
    lines = call(project, "replica", "scorecard", "smoke").stdout.splitlines()
    assert [line.split()[0] for line in lines[:5]] == [f"dufm.c{i}" for i in range(1, 6)]
    whole = call(project, "replica", "scorecard", "smoke", "-v").stdout
    assert "decision rule" in whole and "decision rule" not in "".join(lines)


def test_a_terminal_shows_what_runs_and_so_does_another_one(project):
    run = Terminal(project, *LAUNCH, *LONG, "--", TRAINED)
    run.wait_for("train_run dufm rec_width_widest/all")
    run.wait_for("Scale smoke: 0 of ")
    assert "rule train_run" not in run.text and "localrule" not in run.text
    said = call(project, "replica", "status", *LAUNCH[2:]).stdout
    assert "  train_run dufm rec_width_widest/all: for " in said and "left: about" in said
    watch = Terminal(project, "replica", "status", "--watch", *LAUNCH[2:])
    watch.wait_for("train_run dufm rec_width_widest/all")
    # A training tells its progress every ten seconds.
    watch.wait_for("%")
    watch.type("\x03")
    assert watch.end() == 0
    run.type("\x03")
    assert run.end() == 128 + signal.SIGINT
    assert run.text.endswith("Stopped. Run the same command again to resume.\n")
    assert "jobs made" not in run.text and "Failed (" not in run.text


def test_the_reasons_of_failures_are_said_in_the_end_and_once(project):
    run = Terminal(
        project, *LAUNCH, "overrides={dufm: {rec_width_widest: {lr: 1.0e9}}}", "--", TRAINED
    )
    assert run.end() == 1
    why = "TrainingDiverged: Every member of dufm rec_width_widest has diverged"
    assert run.text.count(why) == 1 and "CalledProcessError" not in run.text
    _, _, last = run.text.partition("All that Snakemake said: .snakemake/log/")
    assert why in last and "To try again, give the same command" in last
    assert "1 failed, and 1 needs what these make." in run.text


def test_plain_snakemake_speaks_as_ever_and_with_the_logger_in_lines(project):
    settings = ("--cores", "1", "--config", "scale=smoke", "studies=[dufm]")
    target = TRAINED.replace("rec_width_widest", "rec_backbone")
    plain = call(project, "snakemake", target, *settings).stderr
    assert "rule train_run:" in plain and re.search(r"\d+ jobs, about \d+ s on 1 core\.", plain)
    assert not (project / ".snakemake/replica.events.jsonl").exists()
    ours = call(project, "snakemake", TRAINED, "--logger", "replica", *settings).stderr
    assert "rule train_run:" not in ours
    assert ours.splitlines()[-1].startswith("2 of 2 jobs made in ")
