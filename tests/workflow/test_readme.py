"""Every command of the README does what it says."""

import os
import re
import subprocess
from pathlib import Path

import pytest

from project import ROOT, with_environment

COMMANDS = [
    line
    for block in re.findall(
        r"```sh\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL
    )
    for line in block.strip().splitlines()
]


@pytest.fixture(scope="session")
def clone(finished):
    """The finished project with this environment as its .venv."""
    return with_environment(finished)


def test_there_are_commands():
    assert COMMANDS[:2] == ["make", "make test"] and len(COMMANDS) >= 8


@pytest.mark.parametrize("command", COMMANDS)
def test_the_command_works(clone, command):
    # The tests do not run themselves, and the laptop scale takes minutes: the smoke scale stands
    # in for it, in the same words.
    if command == "make test":
        command = "make -n test"
    elif command.startswith("make"):
        # The cluster has tests of its own.
        small = re.sub(" SCALE=(desktop|paper)$", "", command) + " SCALE=smoke"
        command = small.replace("make slurm", "make -n slurm")
    command = command.replace("laptop", "smoke")
    # For the commands without make, which finds the copy's library by itself.
    environment = os.environ | {"PYTHONPATH": str(clone / "workflow")}
    answer = subprocess.run(
        command, shell=True, cwd=clone, env=environment, text=True, capture_output=True, timeout=600
    )
    said = answer.stdout + answer.stderr
    assert answer.returncode == 0, said[-3000:]
    if command == "make SCALE=smoke":
        assert "Nothing to be done" in said and re.search(r"\ndufm +1 holds, 1 undecided ", said)
        assert "report.html" in said and Path(clone / "results/smoke/report.html").exists()
