"""What stands in for what, what will be fetched, and what becomes of runs without their data."""

import json
import shutil
from types import SimpleNamespace

import pandas as pd
import pytest
import torch

from project import claim_spec
from replica import artifacts, report, rulebook
from replica.configuration import ConfigError, read_settings
from replica.data import at_hand
from replica.data.fetch import fetch_dataset
from replica.data.registry import DatasetEntry, load_registry
from replica.plan import make_plan, supply, whole_plan, words
from replica.verdicts import HOLDS, UNDECIDABLE, Verdict

SUM = "sha256:" + "0" * 64


def data_set(name: str, sizes: dict[str, int], **more) -> DatasetEntry:
    files = dict.fromkeys(sizes, SUM)
    settings = {"title": name, "kind": "image_table", "licence": "none", "classes": 2}
    return DatasetEntry(name=name, files=files, bytes=sizes, **settings, **more)


REGISTRY = {
    entry.name: entry
    for entry in (
        data_set("sets", {"train.bin": 9}),
        data_set("tables", {"train.tab": 5, "test.tab": 3}, stands_in_for="sets"),
        # Files of the same names, and another set.
        data_set("words", {"train.txt": 9}),
        data_set("texts", {"train.tab": 6, "test.tab": 4}, stands_in_for="words"),
    )
}


def put(folder, **sizes: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, size in sizes.items():
        (folder / name.replace("_", ".")).write_bytes(bytes(size))


@pytest.mark.parametrize("folder", ["tables", "sets", "."])
def test_a_stand_in_takes_the_place_where_a_mirror_holds_all_of_it(tmp_path, folder):
    mirrors, data = ["http://127.0.0.1:9", "mirror"], tmp_path / "data"

    def found():
        return at_hand.stand_ins(REGISTRY, mirrors, tmp_path, data)

    assert found() == {}
    put(tmp_path / "mirror" / folder, train_tab=5)
    assert found() == {}
    put(tmp_path / "mirror" / folder, test_tab=3)
    assert found() == {"sets": "tables"}
    assert at_hand.stand_ins(REGISTRY, mirrors[:1], tmp_path, data) == {}
    # The original is in a mirror, fetched, or prepared.
    for place, name in [("mirror", "train_bin"), ("mirror/sets", "train_bin"),
                        ("data/raw/sets", "train_bin"), ("data/prepared/sets", "card_json")]:  # fmt: skip
        put(tmp_path / place, **{name: 9})
        assert found() == {}
        shutil.rmtree(tmp_path / "data", ignore_errors=True)
        (tmp_path / place / "train.bin").unlink(missing_ok=True)
        assert found() == {"sets": "tables"}


def test_files_of_the_same_names_are_told_apart_by_their_sizes(tmp_path):
    put(tmp_path / "sets", train_tab=5, test_tab=3)
    put(tmp_path / "words", train_tab=6, test_tab=4)
    found = at_hand.stand_ins(REGISTRY, [str(tmp_path)], tmp_path, tmp_path / "data")
    assert found == {"sets": "tables", "words": "texts"}
    shutil.rmtree(tmp_path / "words")
    put(tmp_path / "words", train_tab=5, test_tab=3)
    found = at_hand.stand_ins(REGISTRY, [str(tmp_path)], tmp_path, tmp_path / "data")
    assert found == {"sets": "tables"}


def test_a_stand_in_says_what_it_is_found_by(tmp_path):
    entry = {"title": "t", "kind": "image_table", "licence": "l", "classes": 2,
             "files": {"train.parquet": SUM}, "bytes": {"train.parquet": 5}}  # fmt: skip
    for change, words_said in [
        ({"bytes": {}}, "needs the bytes"),
        ({"bytes": {"test.parquet": 5}}, "not in files"),
        ({"stands_in_for": "nothing"}, "is not a data set in this file"),
        ({"classes": 3}, "another content or other classes"),
    ]:
        table = entry | {"stands_in_for": "sets"} | change
        text = json.dumps({"sets": entry | {"bytes": {}}, "tables": table})
        (tmp_path / "datasets.yaml").write_text(text, encoding="utf-8")
        with pytest.raises(ConfigError, match=words_said):
            load_registry(tmp_path / "datasets.yaml")


# ------------------------------------------------------------------------------- the plan

STUDIES = ["low_rank", "dufm"]


@pytest.fixture
def project(root, tmp_path):
    """The configuration and the code of the project, without data."""
    shutil.copytree(root / "config", tmp_path / "config")
    (tmp_path / "workflow").symlink_to(root / "workflow")
    return tmp_path


@pytest.fixture
def jpegs(project):
    """A mirror with what looks like CIFAR-10 (JPEG): only names and sizes are looked at."""
    folder = project / "mirror/cifar10"
    folder.mkdir(parents=True)
    for name, size in load_registry(project / "config/datasets.yaml")["cifar10_jpeg"].bytes.items():
        with open(folder / name, "wb") as file:
            file.truncate(size)
    return "mirror"


def test_jpegs_take_the_place_of_cifar10_in_every_run(project, jpegs):
    values = {"scale": "paper", "studies": ["low_rank", "agop"]}
    official, jpeg = make_plan(project, values), make_plan(project, values | {"mirrors": [jpegs]})
    assert official.stand_ins == {} and jpeg.stand_ins == {"cifar10": "cifar10_jpeg"}
    named = {"low_rank": {"fig2_bottom": {"dataset": "cifar10_jpeg"}}}
    asked = make_plan(project, values | {"overrides": named})
    key = ("train", "low_rank", "fig2_bottom", "seed0")
    assert jpeg.key(*key) == asked.key(*key) != official.key(*key)
    read = {name for part in jpeg.parts.values() for name in part.datasets}
    assert "cifar10_jpeg" in read and "cifar10" not in read
    # Also in a grid, whose values are in the names of runs.
    runs = {run for study, run, _ in jpeg.parts if study == "agop" and "dataset" in run}
    assert any("datasetcifar10_jpeg" in run for run in runs)
    assert not any(run.endswith("datasetcifar10") for run in runs)
    assert {p.run.replace("cifar10", "cifar10_jpeg") for p in official.parts.values()} == {
        p.run for p in jpeg.parts.values()
    }
    # The words name the coding, and the command that repeats it.
    figure = ("low_rank", "fig2_bottom_resnet_cifar10")
    caption = words.caption(jpeg, *figure)
    assert "dataset = cifar10_jpeg" in caption["ran"]
    assert "mirrors=[FOLDER]" in caption["repeat"] and "CIFAR-10 (JPEG)" in caption["repeat"]
    assert words.status(official, *figure) == "published"
    assert words.status(jpeg, *figure) == "scaled"
    assert words.claim_specs(jpeg, "low_rank")["c4"]["data"] == "cifar10_jpeg"
    # It changes no setting that a rule was fixed with.
    assert rulebook.of_plan(jpeg) == rulebook.of_plan(official)


def test_the_command_that_repeats_a_result_is_read_as_it_was_given(root):
    changes = {"low_rank": {"fig6": {"lambda_h": None, "lr": 0.05}}, "dufm": {}}
    values = {"scale": "smoke", "studies": STUDIES, "seeds": 2, "overrides": changes}
    said = words.repeat(make_plan(root, values), "low_rank")
    begin = "make SCALE=smoke CONFIG='"
    assert said.startswith(begin) and said.endswith("'")
    from replica.configuration import split_entries

    read = read_settings(root, split_entries(said.removeprefix(begin)[:-1])).values
    given = {name: read[name] for name in ("studies", "seeds", "overrides")}
    assert given == {
        "studies": ["low_rank"],
        "seeds": 2,
        "overrides": {"low_rank": changes["low_rank"]},
    }
    assert words.repeat(make_plan(root, {"scale": "laptop"}), "dufm") == (
        "make SCALE=laptop CONFIG='studies=[dufm]'"
    )


def test_a_scorecard_calls_data_by_their_titles():
    card = pd.DataFrame({"data": ["cifar10_jpeg, digits", "", "gone"]})
    titles = {"cifar10_jpeg": "CIFAR-10 (JPEG)", "digits": "scikit-learn digits"}
    assert report.with_titles(card, titles)["data"].tolist() == [
        "CIFAR-10 (JPEG) and scikit-learn digits", "", "gone",
    ]  # fmt: skip


def test_what_will_be_fetched_is_said_with_its_size(project):
    laptop = make_plan(project, {"scale": "laptop"})
    assert supply.in_words(laptop, supply.to_fetch(laptop)) == ""
    plan = make_plan(project, {"scale": "paper", "studies": ["low_rank", "depth"]})
    names = supply.to_fetch(plan)
    assert set(names) == {"cifar10", "mnist", "imdb"}
    said = supply.in_words(plan, names)
    # 170,498,071 + 84,125,825 + 9,912,422 + 28,881 + 1,648,877 + 4,542 bytes
    assert "CIFAR-10 (170.5 MB)" in said and said.endswith("; 266.2 MB in all.")
    plan.registry["imdb"] = plan.registry["imdb"].model_copy(update={"bytes": {}})
    said = supply.in_words(plan, names)
    assert "(size unknown)" in said
    assert said.endswith("; 182.1 MB and what has no known size in all.")
    # Neither what is prepared nor what only results that are made need.
    for place in ("data/prepared/mnist/card.json", "data/raw/mnist/receipt.json"):
        (project / place).parent.mkdir(parents=True)
        (project / place).write_text("{}", encoding="utf-8")
    assert set(supply.to_fetch(plan)) == {"cifar10", "imdb"}


def make(plan, *, measures: bool = True) -> None:
    """The states and measures of the runs on CIFAR-10, with the keys that a plan asks for."""
    expected = plan.artifacts()
    for part in plan.parts.values():
        if part.datasets == ["cifar10"]:
            states = plan.states(part)
            artifacts.write_tensors(
                plan.root / states, {"a": torch.zeros(1)}, {"key": expected[states]}
            )
            if measures:
                path = plan.measures(part)
                table = pd.DataFrame({"a": [1.0]})
                artifacts.write_table(plan.root / path, table, {"key": expected[path]})


def test_a_figure_without_runs_is_left_out_though_it_is_asked_for(project):
    values = {"studies": ["depth"], "extras": ["ext_variants"]}
    assert "ext_variants" in make_plan(project, values).studies["depth"].figures
    plan = make_plan(project, values | {"scale": "desktop"})
    assert plan.left_out == ("ext_variants has no runs at this scale; it is left out.",)
    assert plan.parts == make_plan(project, {"studies": ["depth"], "scale": "desktop"}).parts


def test_runs_without_their_data_are_left_out_until_the_data_come(project):
    values = {"scale": "paper", "studies": STUDIES}
    whole = make_plan(project, values)
    data, entry = project / "data", whole.registry["cifar10"]
    at_hand.note(entry, data, "Could not fetch it.")
    plan = make_plan(project, values)
    gone = {name for name, part in whole.parts.items() if "cifar10" in part.datasets}
    assert gone and set(plan.parts) == set(whole.parts) - gone
    assert set(plan.missing) == {name[:2] for name in gone}
    (sentence,) = plan.left_out
    assert sentence.startswith("Left out for lack of CIFAR-10: ")
    assert "low_rank.fig2_bottom" in sentence and "Could not fetch it." in sentence
    # Other results keep their keys, and with the data the plan is the same again.
    figures = {(s, f) for s in STUDIES for f in whole.studies[s].figures}
    touched = {(s, f) for s, f in figures
               if gone & {(p.study, p.run, p.part) for p in whole.parts_behind(s, [f])}}  # fmt: skip
    assert touched == {
        (s, f) for s, f in figures if plan.key("table", s, f) != whole.key("table", s, f)
    }
    put(data / "raw/cifar10", **{"cifar-10-python.tar.gz": 1})
    assert make_plan(project, values).artifacts() == whole.artifacts()
    shutil.rmtree(data / "raw")
    # Another entry of the same name is another data set; a note that is none says nothing.
    other = entry.model_copy(update={"files": {"a": SUM}})
    assert at_hand.out_of_reach(entry, data) and not at_hand.out_of_reach(other, data)
    (data / "missing/cifar10.json").write_text("[]", encoding="utf-8")
    assert not at_hand.out_of_reach(entry, data)


def test_what_is_made_stays_without_its_data(project):
    values = {"scale": "paper", "studies": ["low_rank"]}
    whole = whole_plan(project, values)
    make(whole, measures=False)
    at_hand.note(whole.registry["cifar10"], project / "data", "Could not fetch it.")
    assert make_plan(project, values).missing
    make(whole)
    plan = make_plan(project, values)
    assert plan.missing == {} and plan.artifacts() == whole.artifacts()


def test_what_starts_from_a_run_that_is_left_out_is_left_out(project):
    whole = whole_plan(project, {"scale": "paper", "studies": ["idrs"]})
    at_hand.note(whole.registry["cifar10"], project / "data", "Could not fetch it.")
    plan = supply.with_data(whole)
    kept = {part.run for part in plan.parts.values()}
    for part in whole.parts.values():
        assert (part.run in kept) == ("cifar10" not in part.datasets)
    assert any(part.rule == "certify" and part.run not in kept for part in whole.parts.values())


def test_a_claim_without_some_of_its_runs_is_undecided_and_says_so(project):
    values = {"scale": "paper", "studies": ["low_rank"]}
    at_hand.note(whole_plan(project, values).registry["cifar10"], project / "data", "No.")
    said = {c: spec["missing"] for c, spec in words.claim_specs(make_plan(project, values), "low_rank").items()}  # fmt: skip
    assert said["c4"] == "cifar10 could not be had: no run of fig2_bottom"
    assert said["c1"] == ""
    table = pd.DataFrame({"value": [1.0]})
    module = SimpleNamespace(claim_c4=lambda tables: Verdict(HOLDS, 1.0, "one run"))
    row = report.decide_claims("s", {"c4": claim_spec(missing=said["c4"])}, {"f": table}, module)
    assert row["verdict"].tolist() == [UNDECIDABLE]
    assert row["detail"].tolist() == [f"{said['c4']}; of the others: one run"]


def test_real_stand_ins_are_found_and_fetched(real_data, root, tmp_path):
    registry = load_registry(root / "config/datasets.yaml")
    found = at_hand.stand_ins(registry, [str(real_data)], root, tmp_path)
    assert found == {"cifar10": "cifar10_jpeg", "imdb": "imdb_table"}
    for name in found.values():
        entry = registry[name]
        files = fetch_dataset(entry, [str(real_data)], tmp_path / name)
        assert {path.name: path.stat().st_size for path in files} == entry.bytes
    for name in ("mnist", "tinyshakespeare"):
        assert at_hand.in_mirrors(registry[name], [str(real_data)], root)
