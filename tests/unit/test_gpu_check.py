"""The check of a GPU, rehearsed without one: every row is there, and what is wrong is said."""

import argparse
import ast
import math
import os
import signal
import subprocess
import sys
import time
from importlib import import_module

import pandas as pd
import pytest
import torch
from pretend_gpu import pretend_gpu

from replica import artifacts
from replica.gpu_check import checks, command, processes
from replica.gpu_check.__main__ import ARGUMENTS, PACKAGES
from replica.gpu_check.cases import difference, standard_errors
from replica.gpu_check.checks import CHECKS, OK, SLOW, WRONG, Setup, row, truth
from replica.gpu_check.processes import DONE, FAILED, NO_TIME, results
from replica.kinds import KINDS
from replica.training.devices import VISIBLE


@pytest.mark.slow
def test_a_rehearsal_has_every_row(root, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert command.run(tmp_path / "data", tmp_path / "out", minutes=20, on="cpu") == 0
    (path,) = (tmp_path / "out").glob("*.parquet")
    table, stamp = artifacts.read_table(path), artifacts.read_stamp(path)
    assert list(table) == command.COLUMNS and set(table["verdict"]) <= {OK, SLOW, checks.NOT_RUN}
    setup = Setup(root, tmp_path, tmp_path, "cpu")
    asked = {(CHECKS[number].title, name) for number, name in checks.parts_for(setup)}
    assert {*zip(table["check"], table["case"], strict=True)} == asked
    # Nothing is drawn on a GPU: all numbers are those of the processor.
    numbers = table[table["quantity"].str.startswith("difference of states")]
    assert len(numbers) > 10 and (numbers["value"].fillna(0) == 0).all()
    quantities = set(table["quantity"])
    assert {
        "four jobs had the GPU at the same time", "a fifth waited to have it alone",
        "beside another job: a sentence", "it is to be tried again", "alone it fits",
        "what never fits: a sentence", "it stopped and left a checkpoint",
        "speed over the reference", "share of the matmul rate", "images per second",
        "an image of 100,100 passes", "a layer of 200 points",
    } <= quantities  # fmt: skip
    assert stamp["spec"].keys() == {"device", "driver", "torch", "cuda", "commit", "day"}
    page = path.with_suffix(".md").read_text(encoding="utf-8")
    assert page.count("\n| ") == len(table) + 2 and f"- commit: {stamp['spec']['commit']}" in page
    said = capsys.readouterr().out
    assert said.count("\n") == len(table) + 3 and "a full GPU" in said


@pytest.mark.parametrize("given", ["-1", "0", "nan", "inf", "soon"])
def test_a_time_that_is_none_is_refused(given):
    parser = argparse.ArgumentParser(exit_on_error=False)
    for name, options in ARGUMENTS:
        parser.add_argument(name, **options)
    with pytest.raises(argparse.ArgumentError, match="--minutes"):
        parser.parse_args(["--minutes", given])
    assert parser.parse_args(["--minutes", "0.5"]).minutes == 0.5


class Tiny(Setup):
    """The sizes of a rehearsal, on what is said to be a GPU."""

    rehearsal = True


@pytest.mark.slow
@pytest.mark.parametrize(
    ("function", "name"),
    [(checks.same_numbers, "fc_low_data llal"), (checks.resumed, "agop relu"),
     (checks.pretrained, checks.LANGUAGE_MODEL),
     (checks.measured, "depth t11_imdb-depth2"), (checks.compiled, checks.COMPILED),
     (checks.certification_speed, ""), (checks.rfm_speed, "")],
)  # fmt: skip
def test_what_is_checked_on_a_gpu(root, tmp_path, function, name):
    """The same functions where the device is not the processor."""
    with pretend_gpu():
        rows = function(Tiny(root, tmp_path, tmp_path, "cuda"), name)
    assert rows and {each["verdict"] for each in rows} <= {OK, SLOW}


def test_without_a_gpu_it_says_so(root, tmp_path):
    """In one sentence, with the command and without it."""
    for start in (["replica", "gpu-check"], ["replica.gpu_check"]):
        said = subprocess.run(
            [sys.executable, "-m", *start, "--data", tmp_path], capture_output=True, text=True,
            env=os.environ | {"CUDA_VISIBLE_DEVICES": ""}, cwd=root,
        )  # fmt: skip
        assert said.returncode == 1 and "finds no GPU here, so there is nothing" in said.stderr
        assert said.stderr.count("\n") == 1


def test_missing_packages_are_named(tmp_path):
    code = (
        "import sys, importlib.util as u\n"
        "find = u.find_spec\n"
        "u.find_spec = lambda name: None if name in ('yaml', 'moocore') else find(name)\n"
        "sys.argv = ['check']\n"
        "import runpy; runpy.run_module('replica.gpu_check', run_name='__main__')"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert said.returncode == 1
    assert said.stderr == "The check needs pyyaml, moocore: pip install pyyaml moocore.\n"


@pytest.mark.slow
def test_packages_are_those_that_are_imported(root, monkeypatch):
    """In a process of its own: what the modules of the check, the kinds and benchmarks name."""
    monkeypatch.syspath_prepend(root / "benchmarks")
    names = ["replica.gpu_check.command", "bench", "low_data", "certification", "deep_rfm"]
    for kind in KINDS.values():
        names += [entry.partition(":")[0] for entry in (kind.train, kind.measure)]
    code = f"""
import sys; sys.path.insert(0, {str(root / "benchmarks")!r})
from importlib import import_module
for name in {names}: import_module(name)
print([m.__file__ for m in sys.modules.values()
       if (getattr(m, '__file__', None) or '').startswith({str(root)!r})])
print('snakemake' in sys.modules)
"""
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    files, snakemake = said.stdout.splitlines()
    assert snakemake == "False"
    found = set()
    for file in ast.literal_eval(files):
        if ".venv" in file:
            continue
        with open(file, encoding="utf-8") as source:
            for node in ast.walk(ast.parse(source.read())):
                if isinstance(node, ast.Import):
                    found |= {alias.name for alias in node.names}
                elif isinstance(node, ast.ImportFrom) and not node.level:
                    found.add(node.module)
    found = {name.partition(".")[0] for name in found} - sys.stdlib_module_names
    # Those of this project; part of pydantic; of pages, which are not made here; what only some
    # runs need, and say so.
    found -= {"replica", "bench", "figures", "pydantic_core", "jinja2"}
    found -= {"transformers", "tokenizers"}
    assert found == set(PACKAGES)


# ------------------------------------------------------------------------------ processes


def part(setup, name):
    """What a part may do."""
    if name == "fails":
        raise RuntimeError("CUDA error: an illegal memory access\nwas encountered")
    if name == "is killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if name == "hangs":
        time.sleep(60)
    return [name, os.getpid()]


@pytest.fixture
def here(monkeypatch, root):
    """A process that is spawned finds this module by its name."""
    monkeypatch.syspath_prepend(root / "tests/unit")
    monkeypatch.setattr(sys.modules[__name__], "part", import_module("test_gpu_check").part)


@pytest.mark.slow
def test_what_fails_ends_one_process_and_not_the_others(here):
    names = ["a", "b", "fails", "c", "is killed", "d", "hangs", "e"]
    found = list(results(part, None, names, time.monotonic() + 300, longest=25))
    assert [each[0] for each in found] == names
    by_name = {name: (status, what) for name, status, what, _ in found}
    pids = {name: by_name[name][1][1] for name in "abcde"}
    assert pids["a"] == pids["b"] and len(set(pids.values())) == 4
    assert by_name["fails"] == (
        FAILED,
        "RuntimeError: CUDA error: an illegal memory access was encountered",
    )
    assert by_name["is killed"] == (FAILED, "its process ended with status -9")
    assert by_name["hangs"] == (FAILED, "it took longer than 25 s")


@pytest.mark.slow
def test_what_is_left_has_no_time(here):
    found = list(results(part, None, ["a", "hangs", "b"], time.monotonic() + 20, longest=100))
    assert [each[1] for each in found] == [DONE, NO_TIME, NO_TIME]


# ------------------------------------------------------------------------------ numbers and words


def test_how_far_states_are_apart():
    a = {"w": torch.tensor([1.0, -2.0, math.nan]), "n": torch.tensor([1, 2, 3, 4])}
    assert difference(a, a)[1] == 0
    b = {"w": torch.tensor([1.0, -2.5, math.nan]), "n": torch.tensor([1, 2, 3, 4])}
    assert difference(a, b) == ("w", pytest.approx(0.2))
    b = {"w": a["w"], "n": torch.tensor([1, 2, 0, 0])}
    assert difference(a, b) == ("n", 0.5)
    for other in ({"w": a["w"]}, a | {"w": torch.tensor([1.0, -2.0, 0.0])}, a | {"n": a["n"][:2]}):
        assert difference(a, other)[1] == math.inf


def test_counts_are_apart_as_chance_has_them():
    counts = torch.tensor([[[500, 500]]])
    assert standard_errors({"counts": counts}, {"counts": counts}) == 0
    other = torch.tensor([[[550, 450]]])
    expected = 50 / math.sqrt(2 * 1000 * 0.525 * 0.475 + 1)
    assert standard_errors({"counts": counts}, {"counts": other}) == pytest.approx(expected)


def test_a_row_is_right_up_to_its_limit():
    assert row("a", 0.5, limit=0.5)["verdict"] == row("a", 9.0)["verdict"] == OK
    assert row("a", 0.6, limit=0.5)["verdict"] == row("a", math.nan, limit=1)["verdict"] == WRONG
    assert truth("a", False)["verdict"] == WRONG


def test_what_is_wrong_is_the_status(tmp_path, monkeypatch, capsys):
    common = {"check": "c", "case": "x", "seconds": 1.0}
    rows = [common | row("q", 2.0, "s", limit=1.0, words="a | b"), common | truth("t", True),
            common | command._without_a_number(FAILED, "it broke"),
            common | command._without_a_number(NO_TIME, "no time was left")]  # fmt: skip
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setattr(command, "checked", lambda setup, deadline: iter(rows))
    assert command.run(tmp_path, tmp_path, 1, "cpu") == 1
    said = capsys.readouterr().out.splitlines()
    assert said[1:5] == [
        "wrong   c: x: q: 2 s (at most 1); a | b", "ok      c: x: t: yes",
        "failed  c: x: it broke", "not run c: x: no time was left",
    ]  # fmt: skip
    assert said[5] == "4 results: 1 wrong, 1 ok, 1 failed, 1 not run."
    page = next(tmp_path.glob("*.md")).read_text(encoding="utf-8")
    assert "| c | x | q | 2 s (at most 1) | wrong | a / b |" in page
    monkeypatch.setattr(command, "checked", lambda setup, deadline: iter(rows[1:2]))
    assert command.run(tmp_path, tmp_path, 1, "cpu") == 0
    assert isinstance(artifacts.read_table(next(tmp_path.glob("*.parquet"))), pd.DataFrame)


@pytest.mark.parametrize(
    ("visible", "first"),
    [(None, "0"), ("2,3", "2"), ("GPU-1a", "GPU-1a"), ("MIG-1a,MIG-2b", "MIG-1a")],
)
def test_one_gpu_is_checked(tmp_path, monkeypatch, visible, first):
    """Four jobs would spread over several, and a full one would be avoided."""
    monkeypatch.setenv(VISIBLE, visible or "")
    if visible is None:
        monkeypatch.delenv(VISIBLE)
    seen = []
    rows = [{"check": "c", "case": "x", "seconds": 1.0} | truth("t", True)]
    monkeypatch.setattr(
        command, "checked", lambda setup, deadline: seen.append(os.environ[VISIBLE]) or iter(rows)
    )
    with pretend_gpu():
        assert command.run(tmp_path, tmp_path, 1, "cuda") == 0
    assert seen == [first] and (tmp_path / "pretended.md").exists()


def test_an_old_torch_is_said(monkeypatch):
    monkeypatch.setattr(torch, "__version__", "2.10.1+cu126")
    with pytest.raises(command.NoGpu, match=r"torch 2\.10\.1.cu126 is too old: install torch 2.11"):
        command.facts_of("cpu")


def test_processes_are_not_forks():
    """CUDA cannot be used in a fork of a process that has used it."""
    assert processes.SPAWN.get_start_method() == "spawn"
