"""Artifacts are whole, checksummed and stamped, or they are not there."""

import errno
import json
import os

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.pandas import column, data_frames

from replica import artifacts

FRAME = pd.DataFrame(
    {"study": ["a", "b"], "step": [1, 2], "value": [0.5, float("nan")], "series": ["x", None]}
)


@pytest.mark.slow
@given(data_frames([column("x", dtype=float), column("i", dtype=int), column("s", dtype=bool)]))
def test_any_table_survives_the_round_trip(tmp_path_factory, frame):
    path = tmp_path_factory.mktemp("t") / "t.parquet"
    artifacts.write_table(path, frame, {"key": "k"})
    pd.testing.assert_frame_equal(artifacts.read_table(path), frame.reset_index(drop=True))


def test_table_with_text_and_gaps(tmp_path):
    artifacts.write_table(tmp_path / "t.parquet", FRAME, {"key": "k", "spec": {"lr": 0.1}})
    pd.testing.assert_frame_equal(artifacts.read_table(tmp_path / "t.parquet"), FRAME)
    assert artifacts.read_stamp(tmp_path / "t.parquet")["spec"] == {"lr": 0.1}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.int64, torch.bfloat16])
def test_tensors_survive_the_round_trip(tmp_path, dtype):
    tensors = {
        "a": torch.arange(6).reshape(2, 3).to(dtype).mT,
        "scalar": torch.tensor(3, dtype=dtype),
    }
    artifacts.write_tensors(tmp_path / "t.safetensors", tensors, {"key": "k"})
    read, stamp = artifacts.read_tensors(tmp_path / "t.safetensors")
    assert stamp["key"] == "k" == artifacts.read_stamp(tmp_path / "t.safetensors")["key"]
    assert all(torch.equal(read[name], tensors[name]) for name in tensors)


def test_arrays_are_the_tensors_and_as_well_guarded(tmp_path):
    path = tmp_path / "x.safetensors"
    states = {"a": torch.randn(3, 2), "n": torch.tensor(7), "b": torch.tensor([True, False]),
              "none": torch.zeros(0, 2, dtype=torch.float64)}  # fmt: skip
    artifacts.write_tensors(path, states, {"key": "k"})
    arrays, stamp = artifacts.read_arrays(path)
    assert stamp["key"] == "k" and set(arrays) == set(states)
    assert all(np.array_equal(arrays[name], value) for name, value in states.items())
    content = bytearray(path.read_bytes())
    content[-1] ^= 16
    path.write_bytes(content)
    with pytest.raises(artifacts.CorruptArtifact):
        artifacts.read_arrays(path)


def test_the_content_digest_ignores_the_stamp_but_not_the_data(tmp_path):
    for name, stamp, frame in [
        ("a", {"t": 1}, FRAME),
        ("b", {"t": 2}, FRAME),
        ("c", {}, FRAME[:1]),
    ]:
        artifacts.write_table(tmp_path / f"{name}.parquet", frame, stamp)
    a, b, c = (artifacts.content_digest(tmp_path / f"{name}.parquet") for name in "abc")
    assert a == b != c


@pytest.mark.parametrize("ending", ["parquet", "safetensors"])
@given(data=st.data())
def test_no_truncated_file_is_trusted(tmp_path_factory, ending, data):
    path = tmp_path_factory.mktemp("t") / f"t.{ending}"
    _write(path)
    whole = path.read_bytes()
    path.write_bytes(whole[: data.draw(st.integers(0, len(whole) - 1))])
    with pytest.raises(artifacts.CorruptArtifact, match="delete it"):
        _read(path)


@pytest.mark.slow
@pytest.mark.parametrize("ending", ["parquet", "safetensors"])
@given(data=st.data())
def test_a_flipped_byte_is_noticed_or_harmless(tmp_path_factory, ending, data):
    path = tmp_path_factory.mktemp("t") / f"t.{ending}"
    _write(path)
    whole = bytearray(path.read_bytes())
    digest, stamp = artifacts.content_digest(path), artifacts.read_stamp(path)
    whole[data.draw(st.integers(0, len(whole) - 1))] ^= data.draw(st.integers(1, 255))
    path.write_bytes(whole)
    try:
        _read(path)
    except artifacts.CorruptArtifact:
        return
    # The byte was part neither of the data nor of the stamp.
    assert artifacts.content_digest(path) == digest and artifacts.read_stamp(path) == stamp


def _write(path):
    if path.suffix == ".parquet":
        artifacts.write_table(
            path, pd.DataFrame({"x": [float(i) for i in range(50)]}), {"key": "k"}
        )
    else:
        artifacts.write_tensors(path, {"x": torch.arange(50.0)}, {"key": "k"})


def _read(path):
    return (artifacts.read_table if path.suffix == ".parquet" else artifacts.read_tensors)(path)


def test_a_failure_leaves_the_old_file_and_no_temporary_one(tmp_path):
    path = tmp_path / "file"
    path.write_text("old")
    with pytest.raises(ZeroDivisionError), artifacts.atomic(path) as temporary:
        temporary.write_text("half")
        raise ZeroDivisionError
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["file"]


@pytest.mark.parametrize(
    ("number", "words"), [(errno.ENOSPC, "disk is full"), (errno.EROFS, "read-only")]
)
def test_a_write_that_cannot_be_is_one_sentence(tmp_path, number, words):
    with pytest.raises(artifacts.CannotWrite, match=words), artifacts.atomic(tmp_path / "f"):
        raise OSError(number, os.strerror(number))
    assert os.listdir(tmp_path) == []


def test_show_prints_the_stamp(tmp_path, capsys):
    from replica.__main__ import main

    artifacts.write_table(tmp_path / "t.parquet", FRAME, {"key": "the-key", "device": "cpu"})
    assert main(["show", str(tmp_path / "t.parquet")]) == 0
    shown = capsys.readouterr().out
    assert "the-key" in shown and "2 rows" in shown
    assert main(["show", str(tmp_path / "missing.parquet")]) == 1
    assert "There is no file" in capsys.readouterr().err
    assert json.loads(json.dumps(artifacts.read_stamp(tmp_path / "t.parquet")))["device"] == "cpu"


def test_versions_side_by_side_are_said(tmp_path):
    frame = pd.DataFrame({"x": [1.0]})
    versions = [("2.13.0", "2.4.6"), ("2.13.1+cpu", "2.4.1"), ("2.13.0", "2.4.6")]
    for number, (torch_, numpy_) in enumerate(versions):
        stamp = {"key": "k", "versions": {"torch": torch_, "numpy": numpy_}}
        artifacts.write_table(tmp_path / f"sub/{number}.parquet", frame, stamp)
    assert artifacts.side_by_side(tmp_path) == ""
    stamp = {"key": "k", "versions": {"torch": "2.14.0", "numpy": "2.4.6"}}
    artifacts.write_tensors(tmp_path / "a.safetensors", {"x": torch.zeros(1)}, stamp)
    said = artifacts.side_by_side(tmp_path)
    assert "torch 2.13 (3 files) and 2.14 (1 files)" in said and "numpy" not in said
