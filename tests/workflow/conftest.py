"""The smoke scale runs once, for all workflow tests."""

from pathlib import Path

import pytest

from project import copy_project, snakemake


@pytest.fixture(scope="session")
def finished(root, tmp_path_factory) -> Path:
    """A copy of the project in which the smoke scale has run."""
    project = copy_project(root, tmp_path_factory.mktemp("clone") / "project with a space")
    snakemake(project)
    return project


@pytest.fixture
def changed(finished):
    """Edits files of the finished project, and puts them back."""
    before = {}

    def edit(name, old, new):
        path = finished / name
        before.setdefault(path, path.read_bytes())
        text = path.read_text()
        assert text.count(old) >= 1, f"{name} does not hold {old!r}"
        path.write_text(text.replace(old, new, 1))
        return finished

    yield edit
    for path, content in before.items():
        path.write_bytes(content)
