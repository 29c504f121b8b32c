"""Shared by all tests: where the project is, and the folder of real data where there is one."""

import os
from pathlib import Path

import pytest
from hypothesis import settings

from project import copy_project, snakemake

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
def finished(root, tmp_path_factory) -> Path:
    """A copy of the project in which the smoke scale has run."""
    project = copy_project(root, tmp_path_factory.mktemp("clone") / "project with a space")
    snakemake(project)
    return project


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


def pytest_sessionfinish(session, exitstatus):
    path = session.config.getoption("--reliability")
    if not path or exitstatus:
        return
    rows = "\n".join(f"| {what} | {number} |" for what, number in sorted(COUNTS.items()))
    Path(path).write_text(PAGE.format(rows=rows), encoding="utf-8")


PAGE = """# Reliability

What the tests in `tests/cluster` and `tests/faults` tried in the run that wrote this page
(`make reliability`). Each asserts that a plain
restart ends with results equal bit for bit to those of an undisturbed run, and each passed.

| what was done | times |
|---|---|
{rows}
"""
