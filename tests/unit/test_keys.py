"""Keys say what, never where from or what it is called: which settings re-run what."""

import dataclasses
import re

import pytest

from replica.data.prepare import DataError, cards_with, prepare_dataset
from replica.data.registry import DatasetEntry, load_registry
from replica.plan import keys, make_plan, words
from replica.settings.user import Config

BASE = {"scale": "smoke", "studies": ["dufm", "idrs"]}
# What each field of the configuration re-runs: nothing, what it names, or what another scale,
# another choice of studies and figures has of its own. With a name, files with the same keys lie
# beside those without one.
FIELDS = {
    "scale": ("laptop", "elsewhere"),
    "name": ("wider-head", "beside"),
    "studies": (["dufm", "idrs", "low_rank"], "more"),
    "seeds": (2, "trained"),
    "device": ("cpu", "nothing"),
    "jobs_per_gpu": (1, "nothing"),
    "checkpoint_seconds": (1.0, "nothing"),
    "cluster": ({"account": "mine", "gpu": "gpu:a100:1", "extra": "--qos=long"}, "nothing"),
    "data_dir": ("/mnt/elsewhere/data", "nothing"),
    "mirrors": (["/mnt/sets", "http://127.0.0.1:9"], "nothing"),
    "pretrained_dir": ("/tmp", "nothing"),
    "extras": (["optional_kd"], "more"),
    "overrides": ({"dufm": {"rec_backbone": {"lr": 0.123}}}, "trained"),
}
# The same for the registry of data sets, of the data set `digits`.
ENTRY = {
    "name": "nothing",  # it stands in the settings of the runs
    "title": "nothing",
    "licence": "nothing",
    "content": "claims",  # that are about it
    "urls": "nothing",
    "bytes": "nothing",
    "stands_in_for": "nothing",
    **dict.fromkeys(
        ["kind", "classes", "files", "splits", "members", "size", "orientation", "pattern",
         "without", "held_out", "imbalance", "checksum"], "trained",
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def base(root):
    return make_plan(root, BASE)


def changed_keys(before, after) -> set[str]:
    old, new = before.artifacts(), after.artifacts()
    return {path for path in old if new.get(path) != old[path]}


def test_the_tables_are_whole():
    assert set(FIELDS) == set(Config.model_fields)
    assert set(ENTRY) == set(DatasetEntry.model_fields)


@pytest.mark.parametrize("field", FIELDS)
def test_fields_of_the_configuration(base, root, field):
    value, effect = FIELDS[field]
    after = make_plan(root, BASE | {field: value})
    again = changed_keys(base, after)
    if effect == "elsewhere":
        assert not set(base.artifacts()) & set(after.artifacts())
    elif effect == "beside":
        moved = {path.replace("results/smoke/", f"results/smoke-{value}/"): key
                 for path, key in base.artifacts().items()}  # fmt: skip
        assert after.artifacts() == moved
        for study, spec in base.studies.items():
            for figure in spec.figures:
                assert after.key("plot", study, figure) == base.key("plot", study, figure)
    elif effect == "more":
        # The scorecard and the table of all networks take in what is new.
        assert set(base.artifacts()) <= set(after.artifacts())
        assert all("/dufm/" not in path and "/idrs/" not in path for path in again)
    elif effect == "nothing":
        assert again == set()
    else:
        assert any("/runs/" in path for path in again)
        if field == "overrides":
            runs = {re.search(r"/runs/([^/]+)", path)[1] for path in again if "/runs/" in path}
            assert runs == {"rec_backbone"}


@pytest.mark.parametrize("field", ENTRY)
def test_fields_of_the_registry(base, field):
    entry = base.registry["digits"]
    other = {"urls": ["http://127.0.0.1:9"], "files": {"a": "md5:" + "0" * 32}, "size": 3,
             "held_out": 0.5, "imbalance": 3.0, "kind": "topics", "classes": 9,
             "splits": {"train": ["a"]}, "members": {"train": {"a": "b"}}, "without": ["a"]}  # fmt: skip
    changed = entry.model_copy(update={field: other.get(field, "another")})
    after = dataclasses.replace(base, registry=base.registry | {"digits": changed}, _keys={})
    again = changed_keys(base, after)
    if ENTRY[field] == "nothing" and field != "name":
        assert again == set()
    elif ENTRY[field] == "claims":
        assert again and all(
            path.endswith(("claims.parquet", "scorecard.parquet")) for path in again
        )
    elif field != "name":
        read = {p.study + "/" + p.states for p in base.parts.values() if "digits" in p.datasets}
        assert read and {path.partition("smoke/")[2] for path in again if "/runs/" in path
                         and path.endswith(".safetensors")} == {r for r in read if "/runs/" in r}  # fmt: skip


def test_where_the_data_are_is_in_no_input_of_what_is_made(base, tmp_path):
    """A job waits for data only while what it makes is not there with the key of the plan."""
    part = next(p for p in base.parts.values() if p.datasets and p.rule == "train_run")
    elsewhere = dataclasses.replace(base, root=tmp_path, _keys={})
    vars(elsewhere)["_artifacts"] = base.artifacts()
    path = base.states(part)
    assert elsewhere.cards_for([part], path) == base.cards(part) != []
    (tmp_path / path).parent.mkdir(parents=True)
    import torch

    from replica.artifacts import write_tensors

    for key, waits in [("another", True), (base.artifacts()[path], False)]:
        write_tensors(tmp_path / path, {"a": torch.zeros(1)}, {"key": key})
        assert bool(elsewhere.cards_for([part], path)) == waits
    (tmp_path / path).write_bytes(b"damaged")
    assert elsewhere.cards_for([part], path)


def test_a_new_kind_of_data_changes_no_other(base, monkeypatch):
    from replica.data import registry

    kinds = {base.registry[name].kind: keys.code(base, "dataset", name) for name in base.registry}
    assert len(set(kinds.values())) == len(kinds)
    before = base.key("dataset", "digits")
    monkeypatch.setitem(registry.READERS, "svhn", "replica.data.readers:idx")
    assert dataclasses.replace(base, _keys={}).key("dataset", "digits") == before


def test_more_seeds_train_the_new_ones_alone(root):
    """Where each seed has a job of its own; a stack of seeds is one computation, made anew."""
    studies = {"scale": "desktop", "studies": ["fc_low_data", "idrs"]}
    more = {"fc_low_data": {"plain": {"seeds": 9}, "fr": {"seeds": 9}, "fr_quarter": {"seeds": 9}},
            "idrs": {"base": {"seeds": 4}, "constant": {"seeds": 4}}}  # fmt: skip
    few, many = make_plan(root, studies), make_plan(root, studies | {"overrides": more})
    named = [name for name, part in few.parts.items() if part.part.startswith("seed")]
    assert {name[1] for name in named} >= {"plain", "fr", "base-sigma0.25", "constant-sigma_b0.25"}
    for name in named:
        assert many.key("train", *name) == few.key("train", *name)
        if few.parts[name].rule == "certify":
            before, after = (keys.counts_key(plan, plan.parts[name]) for plan in (few, many))
            assert after == before
    assert ("fc_low_data", "plain", "seed8") in set(many.parts) - set(few.parts)
    table = "table", "fc_low_data", "fig3a_supervised_cifar10"
    assert many.key(*table) != few.key(*table)
    stack = "train", "fc_low_data", "fr_quarter", "all"
    assert many.key(*stack) != few.key(*stack)


def test_captions_say_what_was_run(root):
    """With the user's seeds, overrides and data set, and not what the study's file says."""
    changes = {"low_rank": {"fig6": {"lr": 0.05}}, "fc_low_data": {"plain": {"dataset": "mnist"}}}
    studies = ["low_rank", "fc_low_data"]
    plan = make_plan(root, {"scale": "smoke", "studies": studies, "seeds": 7, "overrides": changes})
    said = words.caption(plan, "low_rank", "fig6_k15_l7")
    assert "lr = 0.05" in said["ran"] and "seeds = 7" in said["ran"] and said["status"] == "scaled"
    ran = words.ran(plan, "low_rank", "fig6_k15_l7")["fig6"]
    assert ran == plan.parts["low_rank", "fig6", "all"].spec.model_dump(exclude_unset=True)
    title = words.caption(plan, "fc_low_data", "fig3a_supervised_cifar10")["title"]
    digits, mnist = (
        load_registry(root / "config/datasets.yaml")[n].title for n in ("digits", "mnist")
    )
    assert title == f"Supervised learning on {mnist} and {digits}"
    paper = make_plan(root, {"scale": "paper", "studies": ["fc_low_data"]})
    assert words.caption(paper, "fc_low_data", "fig3a_supervised_cifar10")["title"].endswith(
        "CIFAR-10"
    )
    for slug, study in plan.studies.items():
        for figure in study.figures:
            assert "{" not in words.title(plan, slug, figure)


def test_data_of_other_code_are_not_read(root, tmp_path):
    """A folder that is shared may hold data that another version has prepared."""
    entry = load_registry(root / "config/datasets.yaml")["cone"]
    card = prepare_dataset(entry, tmp_path, tmp_path / "prepared/cone", "key of today")
    assert cards_with({"cone": "key of today"}, str(tmp_path)) == {"cone": card}
    with pytest.raises(DataError, match=r"cone/card.json was prepared by other code.*data_dir"):
        cards_with({"cone": "another key"}, str(tmp_path))
    with pytest.raises(DataError, match="digits is not prepared"):
        cards_with({"digits": "a key"}, str(tmp_path))
