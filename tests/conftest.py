"""Shared by all tests: where the project is, and the folder of real data where there is one."""

import os
import shutil
from pathlib import Path

import pytest
from filelock import FileLock
from hypothesis import settings

from project import call, copy_project

# A machine that is busy is slow: a deadline per example would be a timed test.
settings.register_profile("replica", deadline=None, derandomize=True)
# `make check` looks at the first of the examples only.
settings.register_profile("quick", settings.get_profile("replica"), max_examples=15)
settings.load_profile("replica")

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def root() -> Path:
    return ROOT


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real data sets; the product never needs it."""
    folder = Path(os.environ.get("REPLICA_TEST_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"needs real data; there is no folder {folder} (set REPLICA_TEST_DATA)")
    return folder


@pytest.fixture(scope="session")
def finished(root, tmp_path_factory, worker_id) -> Path:
    """A copy of the project in which the smoke scale has run: once for all workers of pytest."""
    own = tmp_path_factory.getbasetemp()
    shared = own if worker_id == "master" else own.parent
    whole = shared / "finished"
    with FileLock(shared / "finished.lock"):
        if not whole.exists():
            project = copy_project(root, shared / "not yet finished")
            call(project, "replica", "run", "--scale", "smoke")
            project.rename(whole)
    # Snakemake looks at the times of files, which the copy keeps.
    return shutil.copytree(whole, own / "clone/project with a space", symlinks=True)


def pytest_addoption(parser):
    parser.addoption(
        "--reliability", metavar="FILE", help="write what the fault tests tried as a page"
    )


COUNTS: dict[str, int] = {}


@pytest.fixture(scope="session")
def tally():
    """Counts what was tried, for docs/reliability.md: `tally("kills of a training", 25)`."""

    def count(what: str, number: int) -> None:
        COUNTS[what] = COUNTS.get(what, 0) + number

    return count


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node, error):
    """A worker of pytest has ended: what it has counted comes to the others' counts."""
    for what, number in getattr(node, "workeroutput", {}).get("counts", {}).items():
        COUNTS[what] = COUNTS.get(what, 0) + number


def pytest_sessionfinish(session, exitstatus):
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["counts"] = COUNTS
        return
    path = session.config.getoption("--reliability")
    if not path or exitstatus:
        return
    rows = "\n".join(f"| {what} | {number} |" for what, number in sorted(COUNTS.items()))
    Path(path).write_text(PAGE.format(rows=rows), encoding="utf-8")


PAGE = """# Reliability

What the tests in `tests/cluster` and `tests/faults` tried in the run that wrote this page
(`make reliability`); all passed. Kills, a full disk, damaged files and whatever happens to jobs of Slurm end, after a plain
restart or another attempt, with results equal bit for bit to those of an undisturbed run. The rows on the read-only
folder, on Ctrl-C and SIGTERM, on the killed job that is named at the end, and on memory under Slurm check how the run
ends.

| what was done | times |
|---|---|
{rows}
"""
