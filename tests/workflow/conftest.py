"""Edits of the finished project, taken back after each test."""

import pytest


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
