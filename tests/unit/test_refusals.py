"""Errors of the operating system as sentences."""

import errno
import os
from pathlib import Path

import pytest

from replica import artifacts, refusals


def write(path: Path) -> str:
    with pytest.raises(artifacts.CannotWrite) as caught:
        artifacts.write_bytes(path, b"x")
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("number", sorted(refusals.REASONS))
def test_every_refusal_of_a_write_is_a_sentence(tmp_path, monkeypatch, number):
    """Also where nothing can be deleted either, as on a read-only file system."""

    def refuse(path, *_, **__):
        raise OSError(number, os.strerror(number), str(path))

    monkeypatch.setattr(Path, "unlink", refuse)
    monkeypatch.setattr(os, "replace", refuse)
    said = write(tmp_path / "a")
    assert said == (
        f"Cannot write {tmp_path / 'a'}: {refusals.REASONS[number]}, "
        "then run the same command again."
    )


def test_an_error_about_another_file_is_left_alone(tmp_path):
    with pytest.raises(FileNotFoundError), artifacts.atomic(tmp_path / "a"):
        (tmp_path / "source").read_bytes()
    assert list(tmp_path.iterdir()) == []


def test_what_is_in_the_way_is_named(tmp_path):
    link, file, loop = tmp_path / "link", tmp_path / "file", tmp_path / "loop"
    link.symlink_to(tmp_path / "purged")
    file.write_text("")
    loop.symlink_to(loop)
    for folder in (link, link / "smoke"):
        assert f"{link} is a link to {tmp_path / 'purged'}, which is missing" in write(folder / "a")
    for folder in (file, file / "smoke"):
        assert f"{file} is a file, not a folder" in write(folder / "a")
    assert f"{loop} is a link to {loop}" in write(loop / "a")
    (tmp_path / "to file").symlink_to(file)
    assert f"{tmp_path / 'to file'} is a file" in write(tmp_path / "to file" / "a")
    assert "the name is too long" in write(tmp_path / ("a" * 300))


@pytest.mark.skipif(os.getuid() != 0, reason="gives files away")
def test_the_owner_is_named_where_a_file_is_not_mine(tmp_path):
    mine, other = tmp_path / "mine", tmp_path / "other"
    for path in (mine, other):
        path.write_text("")
    os.chown(other, 1234, -1)
    error = PermissionError(errno.EACCES, "Permission denied", str(other))
    assert refusals.sentence(error) == (
        f"{other}: it belongs to user 1234 and you are root: ask for permission, "
        "or work on a copy of your own."
    )
    error = PermissionError(errno.EACCES, "Permission denied", str(mine))
    assert "permission denied" in refusals.sentence(error)


def test_words_of_our_own_stay():
    assert refusals.sentence(FileNotFoundError("There is no scorecard yet.")) == (
        "There is no scorecard yet."
    )
    assert refusals.sentence(OSError(errno.ENOSPC, "No space left on device")) == (
        "The disk is full: free some space."
    )
    assert refusals.sentence(OSError(9999, "Odd", "a")) == "a: Odd."


def test_a_file_that_may_not_be_read_is_not_damaged(tmp_path, monkeypatch):
    """It would be deleted otherwise."""
    import pandas as pd

    path = tmp_path / "a.parquet"
    artifacts.write_table(path, pd.DataFrame({"x": [1]}), {"key": "k"})

    def refuse(*_, **__):
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr("builtins.open", refuse)
    for read in (artifacts.verify, artifacts.read_stamp, artifacts.read_table):
        with pytest.raises(PermissionError):
            read(path)
