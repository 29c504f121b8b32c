"""Shared by all tests: where the project is, and the folder of real data where there is one."""

import os
from pathlib import Path

import pytest
from hypothesis import settings

# A machine that is busy is slow: a deadline per example would be a timed test.
settings.register_profile("replica", deadline=None, derandomize=True)
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
