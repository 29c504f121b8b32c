"""A mistake in the configuration is one sentence with file, key, value and what is allowed."""

import json

import pytest
import yaml

from replica.configuration import ConfigError
from replica.settings import load, validation
from replica.settings.load import expand, load_studies
from replica.settings.study import SCALES
from replica.settings.user import Config

RUN = {
    "kind": "dufm", "K": 3, "L": 3, "n": 2, "width": 8, "lambda_w": 0.01, "lr": 0.1, "steps": 5,
    "h_std": 1, "w_gain": 1, "seeds": 2,
}  # fmt: skip
STUDY = {
    "study": "toy", "title": "t", "authors": "a", "venue": "v", "arxiv": "1",
    "runs": {"r": {"paper": RUN, "desktop": {"steps": 4}, "laptop": {"n": 1},
                   "smoke": {"steps": 2}, "origin": {"suggested": [k for k in RUN if k != "kind"]}}},
    "figures": {"f": {"title": "t", "shows": "s", "place": "p", "runs": ["r"]}},
    "claims": {"c1": {"statement": "s", "source": "p", "rests_on": "proof", "published": "p", "rule": "r", "figures": ["f"]}},
}  # fmt: skip


def changed(**changes):
    study = yaml.safe_load(yaml.safe_dump(STUDY))
    for path, value in changes.items():
        *parents, last = path.split("__")
        node = study
        for parent in parents:
            node = node[parent]
        node[last] = value
    return study


def study_from(tmp_path, content):
    (tmp_path / "toy.yaml").write_text(yaml.safe_dump(content))
    return load_studies(tmp_path)["toy"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"width": -3}, ["width = -3", "greater than 0"]),
        ({"widht": 3}, ["unknown key widht", "did you mean width?", "allowed here: K, L"]),
        ({"lr": [0.1]}, ["lr = [0.1]", "valid number"]),
        ({"K": 1}, ["K = 1", "greater than or equal to 2"]),
        ({"lambda_w": "much"}, ["lambda_w = 'much'", "valid number"]),
        ({"lambda_w": None}, ["exactly one of lambda_w and threshold_ratio"]),
        ({"kind": "dfum"}, ["kind = 'dfum'", "dufm, network_head"]),
        ({"n": 1.5}, ["n = 1.5", "integer"]),
        ({"seeds": 0}, ["seeds = 0", "greater than 0"]),
    ],
)
def test_bad_runs_are_named(change, words):
    with pytest.raises(ConfigError) as caught:
        validation.validate_run(RUN | change, "config/studies/toy.yaml: runs.r")
    message = str(caught.value)
    assert message.startswith("config/studies/toy.yaml: runs.r") and "\n" not in message
    assert all(word in message for word in words), message


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"scale": "papr"}, ["scale = 'papr'", "'smoke', 'laptop', 'desktop' or 'paper'"]),
        ({"sede": 1}, ["unknown key sede", "seeds"]),
        ({"seeds": [1, 2]}, ["seeds = [1, 2]", "integer"]),
        ({"studies": 3}, ["studies = 3"]),
        ({"device": "tpu"}, ["device = 'tpu'", "'cuda'"]),
    ],
)
def test_bad_configuration_is_named(values, words):
    with pytest.raises(ConfigError) as caught:
        load.load_config(values)
    assert all(word in str(caught.value) for word in ["config/config.yaml", *words])


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (changed(figures__f__runs=["x"]), "figure f names the unknown run 'x'"),
        (changed(figures__f__about=["x"]), "figure f is about 'x', not one of its runs"),
        (changed(claims__c1__figures=["g"]), "claim c1 names the unknown figure 'g'"),
        (
            changed(runs__r__origin={"published": ["K"]}),
            r"toy.yaml: runs.r: origin does not say where",
        ),
        (changed(study="other"), "the file is 'toy'"),
        (changed(figures__f__titel="x"), "unknown key figures.f.titel"),
    ],
)
def test_bad_studies_are_named(tmp_path, content, words):
    with pytest.raises(ConfigError, match=words):
        study_from(tmp_path, content)


def test_broken_yaml_names_file_and_line(tmp_path):
    (tmp_path / "toy.yaml").write_text("study: toy\n  title: [")
    with pytest.raises(ConfigError, match=r"toy.yaml, line 2: not valid YAML"):
        load_studies(tmp_path)


def test_scales_lie_over_each_other(tmp_path):
    study = study_from(tmp_path, STUDY)
    n_and_steps = {}
    for scale in SCALES:
        (spec,) = expand(study, "r", Config(scale=scale)).values()
        n_and_steps[scale] = (spec.n, spec.steps)
    assert n_and_steps == {
        "paper": (2, 5), "desktop": (2, 4), "laptop": (1, 5), "smoke": (1, 2),
    }  # fmt: skip


def test_each_run_says_what_it_is_at_desktop(tmp_path):
    silent = changed()
    del silent["runs"]["r"]["desktop"]
    with pytest.raises(ConfigError) as caught:
        study_from(tmp_path, silent)
    said = str(caught.value)
    assert said.startswith(f"{tmp_path / 'toy.yaml'}: the key runs.r.desktop is missing: give ")
    assert all(word in said for word in ["settings", "{}", "null"]) and "\n" not in said
    paper = study_from(tmp_path, changed(runs__r__desktop={}))
    assert expand(paper, "r", Config(scale="desktop")) == expand(paper, "r", Config(scale="paper"))
    absent = study_from(tmp_path, changed(runs__r__desktop=None))
    assert expand(absent, "r", Config(scale="desktop")) == {}
    assert expand(absent, "r", Config(scale="laptop"))


def test_a_figure_is_off_where_the_runs_that_it_is_about_are(tmp_path):
    other = STUDY["runs"]["r"] | {"desktop": None}
    compared = STUDY["figures"]["f"] | {"runs": ["r", "o"]}
    off = "f has no runs at this scale"
    for about, why in ([], ""), (["r"], ""), (["o"], off), (["r", "o"], ""):
        content = changed(runs__o=other, figures__f=compared | {"about": about})
        study = study_from(tmp_path, content)
        assert study.why_off("f", "desktop") == why and not study.why_off("f", "laptop")
        # Asking for it does not make the runs that it needs.
        for extras in [], ["f"]:
            assert set(study.at("desktop", extras).figures) == (set() if why else {"f"})


def test_seeds_overrides_and_grids_compose(tmp_path):
    content = changed(runs__r__laptop={"grid": {"width": [8, 16], "L": [2, 3]}})
    study = study_from(tmp_path, content)
    runs = expand(study, "r", Config(seeds=7, overrides={"toy": {"r": {"lr": 0.5, "L": 4}}}))
    assert list(runs) == ["r-width8", "r-width16"]
    assert {(s.lr, s.seeds, s.L) for s in runs.values()} == {(0.5, 7, 4)}
    with pytest.raises(ConfigError, match="unknown key rl"):
        expand(study, "r", Config(overrides={"toy": {"r": {"rl": 0.5}}}))


def test_the_schemas_in_the_project_are_those_of_the_models(root):
    for name, schema in load.schemas().items():
        text = (root / "config/schema" / name).read_text()
        assert json.loads(text) == json.loads(json.dumps(schema)), "run `make schema`"


def test_every_study_of_the_project_is_valid_at_every_scale(root):
    for study in load_studies(root / "config/studies").values():
        for scale in SCALES:
            for run in study.runs:
                wanted = study.runs[run].settings(scale) is not None
                assert bool(expand(study, run, Config(scale=scale))) == wanted


@pytest.mark.parametrize("value", ["../../elsewhere", "$(id)", "a b", "<b>"])
def test_no_setting_becomes_a_path_or_a_command(tmp_path, value):
    """Names of runs become file names; those of studies, figures and runs have a pattern."""
    study = study_from(tmp_path, changed(runs__r__laptop={"grid": {"precision": [value]}}))
    with pytest.raises(ConfigError, match="file name"):
        expand(study, "r", Config())
    for content in (changed(study=value), changed(figures={value: STUDY["figures"]["f"]})):
        with pytest.raises(ConfigError, match="pattern"):
            study_from(tmp_path, content)
