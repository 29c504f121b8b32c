"""What was trained once is taken from the store, whole and of the same key or not at all."""

import os

import pandas as pd
import pytest
import torch

from replica import artifacts, disk, store
from replica.plan import keys, make_plan

STATES = {"0/w": torch.arange(6.0).reshape(2, 3)}
OUTPUTS = {"states": "results/s/runs/all.safetensors", "history": "results/s/runs/all.h.parquet"}


def make(key: str, states: dict = STATES) -> None:
    artifacts.write_tensors(OUTPUTS["states"], states, {"key": key})
    artifacts.write_table(OUTPUTS["history"], pd.DataFrame({"value": [0.5]}), {"key": key})


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_going_back_takes_the_states_of_the_first_time(folder):
    make("first")
    store.keep("first", OUTPUTS)
    # A link: it takes no space while both are there.
    kept = folder / "results/store/first/states.safetensors"
    assert kept.samefile(OUTPUTS["states"])
    make("second", {"0/w": torch.zeros(1)})
    store.keep("second", OUTPUTS)
    os.utime(kept, (1, 1))
    assert store.restore("first", OUTPUTS)
    states, stamp = artifacts.read_tensors(OUTPUTS["states"])
    assert stamp["key"] == "first" and torch.equal(states["0/w"], STATES["0/w"])
    assert artifacts.read_stamp(OUTPUTS["history"])["key"] == "first"
    # Newer than what it is made from.
    assert os.stat(OUTPUTS["states"]).st_mtime > 1
    assert store.restore("second", OUTPUTS)
    assert artifacts.read_tensors(OUTPUTS["states"])[0]["0/w"].shape == (1,)


def test_nothing_is_taken_that_is_not_there_or_not_whole(folder):
    assert not store.restore("first", OUTPUTS) and not (folder / "results/s").exists()
    make("first")
    store.keep("first", OUTPUTS)
    before = (folder / OUTPUTS["history"]).read_bytes()
    kept = folder / "results/store/first/states.safetensors"
    content = kept.read_bytes()
    for damaged in (content[:-1], content[:-1] + bytes([content[-1] ^ 1]), b""):
        kept.write_bytes(damaged)
        assert not store.restore("first", OUTPUTS)
    kept.unlink()
    assert not store.restore("first", OUTPUTS)
    assert (folder / OUTPUTS["history"]).read_bytes() == before
    # Under the name of one key, the files of another.
    make("second")
    store.keep("first", OUTPUTS)
    assert not store.restore("first", OUTPUTS)


def test_a_training_does_not_need_hard_links(folder, monkeypatch):
    make("first")
    store.keep("first", OUTPUTS)

    def no_links(*_):
        raise OSError("no hard links here")

    monkeypatch.setattr(os, "link", no_links)
    assert store.restore("first", OUTPUTS)
    assert not (folder / "results/store/first/states.safetensors").samefile(OUTPUTS["states"])
    store.keep("second", OUTPUTS)
    assert not store.restore("second", OUTPUTS)


def test_a_state_is_kept_whole_or_not_at_all(folder, monkeypatch):
    make("first")
    link, linked = os.link, []

    def once(source, target):
        if linked:
            raise OSError("no more links here")
        linked.append(target)
        link(source, target)

    monkeypatch.setattr(os, "link", once)
    store.keep("first", OUTPUTS)
    assert linked and list((folder / store.FOLDER).iterdir()) == []
    monkeypatch.undo()
    monkeypatch.chdir(folder)
    store.keep("first", OUTPUTS)
    store.keep("first", OUTPUTS)
    assert [path.name for path in (folder / store.FOLDER).iterdir()] == ["first"]
    assert store.restore("first", OUTPUTS)


@pytest.fixture(scope="module")
def plan(root):
    return make_plan(root, {"scale": "smoke"})


def test_the_outputs_of_a_training_are_those_of_its_rule(root, plan):
    text = "".join(
        (root / f"workflow/rules/{name}.smk").read_text() for name in ("train", "certify")
    )
    for part in plan.parts.values():
        block = text.split(f"rule {part.rule}:")[1].split("output:")[1].split("log:")[0]
        patterns = dict(line.strip(" ,").split("=") for line in block.strip().splitlines())
        names = {"scale": "smoke", "name": "", "study": part.study, "run": part.run,
                 "part": part.part}  # fmt: skip
        assert plan.outputs(part) == {
            name: pattern.strip('"').format(**names) for name, pattern in patterns.items()
        }


def test_equal_runs_of_two_scales_have_one_key(root):
    laptop, paper = (
        make_plan(root, {"scale": scale, "studies": ["idrs", "mol"]})
        for scale in ("laptop", "paper")
    )
    both = [name for name in laptop.parts if name in paper.parts]
    equal = {n for n in both if laptop.key("train", *n) == paper.key("train", *n)}
    assert equal == {name for name in both if same_settings(laptop, paper, name)} != set()


def same_settings(one, other, name) -> bool:
    """Also of the run that it starts from."""
    a, b = one.parts[name], other.parts[name]
    while a and b and (a.spec, a.seeds) == (b.spec, b.seeds):
        a, b = a.starts_from, b.starts_from
    return a is b is None


def test_what_no_plan_needs_is_named_with_what_it_frees(folder, plan):
    name = next(iter(plan.parts))
    counted = next(part for part in plan.parts.values() if part.rule == "certify")
    for key in (plan.key("train", *name), "tried", "other"):
        make(key)
        store.keep(key, OUTPUTS)
        (folder / "results/checkpoints").mkdir(exist_ok=True)
        (folder / f"results/checkpoints/{key}.safetensors").write_bytes(bytes(3))
    (folder / "results/counts").mkdir()
    for key in (keys.counts_key(plan, counted), "less"):
        (folder / f"results/counts/{key}.safetensors").write_bytes(bytes(5))
    tried = folder / "results/store/tried"
    size = sum(file.stat().st_size for file in tried.iterdir())
    found = disk.unneeded(folder, [plan])
    assert {str(path.relative_to(folder / "results")): freed for path, freed in found.items()} == {
        # The last files that were made lie in two places.
        "store/other": 0,
        "store/tried": size,
        "checkpoints/other.safetensors": 3,
        "checkpoints/tried.safetensors": 3,
        "counts/less.safetensors": 5,
    }
    for path in found:
        disk.free(path)
    assert disk.unneeded(folder, [plan]) == {}
    assert len([*folder.glob("results/store/*/*")]) == 2
    assert artifacts.verify(OUTPUTS["states"])["key"] == "other"


def test_a_mirror_that_is_away_is_named(root, tmp_path):
    """Without it a plan takes the archive instead of the stand-in, and other states are needed."""
    (tmp_path / "here").mkdir()
    mirrors = [str(tmp_path / "here"), "https://example.org", str(tmp_path / "away")]
    plans = [make_plan(root, {"scale": "smoke", "mirrors": mirrors}), make_plan(root, {})]
    assert disk.mirrors_away(plans) == [str(tmp_path / "away")]
