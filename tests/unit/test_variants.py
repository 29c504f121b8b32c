"""Settings that have a name: where their results lie, and who knows of them."""

import contextlib
import dataclasses
import shutil
from pathlib import Path

import pandas as pd
import pytest
import torch
import yaml
from rich.console import Console

from replica import artifacts, disk, estimates, evidence, store
from replica.__main__ import main
from replica.configuration import ConfigError
from replica.plan import make_plan, whole_plan, words
from replica.targets import asked_for, unknown_target

NAMED = {"scale": "smoke", "studies": ["dufm"], "name": "wider-head"}


@pytest.fixture(scope="module")
def named(root):
    return make_plan(root, NAMED)


def test_all_files_lie_in_a_folder_of_their_own(named):
    files = [*named.artifacts(), *named.targets("dufm"), *named.generalization_tables()]
    assert files and all(path.startswith("results/smoke-wider-head/") for path in files)


@pytest.mark.parametrize("name", ["a/b", "a b", "-a", "..", "é", "a" * 61, "", "a;b", "a\n"])
def test_what_is_no_name(root, name):
    with pytest.raises(
        ConfigError, match=r"^config/config.yaml: name = .* is not allowed: a name "
    ):
        make_plan(root, NAMED | {"name": name})


@pytest.mark.parametrize("name", ["laptop", "Smoke", "paper-2"])
def test_a_name_is_not_mistaken_for_a_scale(root, name):
    with pytest.raises(ConfigError, match="does not begin with that of a scale"):
        make_plan(root, NAMED | {"name": name})


@pytest.mark.parametrize("name", ["b", "B_2-c", "2", "laptops", None])
def test_what_is_a_name(root, name):
    plan = make_plan(root, NAMED | {"name": name})
    assert plan.results == "results/smoke" + (f"-{name}" if name else "")


def test_the_command_of_a_caption_has_the_name(named):
    assert "CONFIG='name=wider-head studies=[dufm]'" in words.repeat(named, "dufm")


def test_evidence_is_of_settings_without_a_name(named):
    for ask in (evidence.collect, evidence.check):
        with pytest.raises(ConfigError, match=r"name = 'wider-head': docs/evidence .* set name to"):
            ask(named)


def test_files_of_other_settings_are_told_from_those_of_another_scale(named, root):
    def said(plan, target):
        return unknown_target(plan, [], [target])

    plain = make_plan(root, NAMED | {"name": None})
    file = "dufm/figures/none.svg"
    assert said(named, f"results/smoke/{file}") == (
        f"results/smoke/{file} belongs to settings without a name, but those of this run are "
        "called wider-head: add --config name=."
    )
    assert "belongs to settings called b-c, but those of this run have no name" in said(
        plain, f"results/smoke-b-c/{file}"
    )
    assert "add --config scale=laptop name=b." in said(plain, f"results/laptop-b/{file}")


def test_a_figure_and_a_scale_are_no_targets(named):
    def said(target):
        return unknown_target(named, [], [target])

    drawing = "results/smoke-wider-head/dufm/figures/rec_depth.svg"
    assert said("dufm/rec_depth") == (
        f"dufm/rec_depth is a figure and no target: its drawing is {drawing}."
    )
    assert f"did you mean {drawing}?" in said("rec_dept")
    assert said("paper") == "paper is a scale and no target: --config scale=paper sets it."


def test_options_that_snakemake_cannot_read_are_a_sentence():
    with pytest.raises(RuntimeError, match=r"cannot read this command line: .*--cores"):
        asked_for(["snakemake", "--cores", "two"])


def test_settings_with_a_name_are_noted_and_keep_their_states(named, root, tmp_path):
    for folder in ("config", "workflow"):
        (tmp_path / folder).symlink_to(root / folder)
    overrides = {"dufm": {"rec_width": {"lr": 0.08}}}
    plan = whole_plan(tmp_path, NAMED | {"overrides": overrides})
    disk.note_settings(plan)
    disk.note_settings(
        dataclasses.replace(plan, config=plan.config.model_copy(update={"name": None}))
    )
    assert [path.name for path in tmp_path.glob("results/*")] == ["smoke-wider-head"]
    noted = yaml.safe_load((tmp_path / plan.results / "settings.yaml").read_text())
    assert noted == NAMED | {"overrides": overrides}
    (tmp_path / "results/laptop-unknown").mkdir()
    plans, unknown = disk.named_plans(tmp_path)
    assert [found.artifacts() for found in plans] == [plan.artifacts()]
    assert unknown == [
        "results/laptop-unknown: the settings behind it are not known, and states that only they "
        f"need are not kept (There is no file {tmp_path}/results/laptop-unknown/settings.yaml)."
    ]
    (key,) = {plan.key("train", *part) for part in plan.parts if part[1] == "rec_width-width8"}
    state = tmp_path / "results/store" / key
    state.mkdir(parents=True)
    plain = whole_plan(tmp_path, NAMED | {"name": None})
    assert [*disk.unneeded(tmp_path, [plain])] == [state]
    assert not disk.unneeded(tmp_path, [plain, *plans])


def test_the_scorecard_of_a_name_is_asked_for(root, tmp_path, monkeypatch, capsys):
    shutil.copytree(root / "config", tmp_path / "config")
    monkeypatch.chdir(tmp_path)
    assert main(["scorecard", "--scale", "smoke", "--config", "name=b"]) == 1
    assert capsys.readouterr().err == (
        "There is no scorecard of the scale smoke-b yet: "
        "run make SCALE=smoke CONFIG=name=b first.\n"
    )


def test_states_from_elsewhere_are_stored_by_the_key_that_they_carry(root, tmp_path):
    for folder in ("config", "workflow"):
        (tmp_path / folder).symlink_to(root / folder)
    plan = whole_plan(tmp_path, NAMED)
    first, second, *_ = (plan.outputs(part) for part in plan.parts.values())
    for outputs, keys in [(first, "aa"), (second, "bc")]:
        for path, key in zip(outputs.values(), keys, strict=True):
            if path.endswith(".parquet"):
                artifacts.write_table(tmp_path / path, pd.DataFrame({"x": [1]}), {"key": key})
            else:
                artifacts.write_tensors(tmp_path / path, {"x": torch.ones(1)}, {"key": key})
    disk.fill(plan)
    # Those of the second are not of one training.
    assert [path.name for path in (tmp_path / "results/store").iterdir()] == ["a"]
    back = {name: tmp_path / f"back/{Path(path).name}" for name, path in first.items()}
    with contextlib.chdir(tmp_path):
        assert store.restore("a", back)
    assert [artifacts.read_stamp(path)["key"] for path in back.values()] == ["a", "a"]


def test_what_the_store_spares_is_planned(root, tmp_path):
    for folder in ("config", "workflow"):
        (tmp_path / folder).symlink_to(root / folder)
    plan = whole_plan(tmp_path, NAMED)
    rates, nothing = estimates.Rates(), dict.fromkeys(estimates.stored(plan))
    assert nothing == {}
    undone = {("dufm", "train_run", part.stem): None for part in plan.parts.values()}
    before = sum(estimates.hours_left(plan, rates, undone))
    for name in plan.parts:
        (tmp_path / "results/store" / plan.key("train", *name)).mkdir(parents=True)
    assert set(estimates.stored(plan)) == set(undone)
    assert sum(estimates.hours_left(plan, rates, undone)) == 0 < before
    console = Console(width=110, record=True)
    estimates.print_plan(plan, rates, console)
    count = len(plan.parts)
    said = console.export_text()
    assert f"{count} of {count} trainings and certifications are in results/store already" in said
