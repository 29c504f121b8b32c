"""Which jobs run again after an edit, by their keys; Snakemake itself is asked in tests/workflow."""

import functools
from pathlib import Path

import pytest

from project import (
    ALL_PLOTTED,
    CLOSED_FORMS,
    chain,
    copy_project,
    drawn,
    forget_digests,
    generalized,
    scored,
)
from replica import provenance
from replica.configuration import read_settings
from replica.plan import Plan, make_plan

SMOKE = {"scale": "smoke"}
# Of files that no test edits, once
SYNTAX_TREE = functools.cache(provenance._syntax_tree)


def keys_of(plan: Plan) -> dict[tuple[str, str], str]:
    """Key of every job: by its rule, and the stem of its first output below the scale's folder."""
    keys = {("scorecard_table", "scorecard"): plan.key("scorecard"),
            ("correlations", "generalization"): plan.key("correlations")}  # fmt: skip
    for name, part in plan.parts.items():
        stem = part.states.removesuffix(".safetensors")
        keys[part.rule, f"{part.study}/{stem}"] = plan.key("train", *name)
        if plan.measured(part):
            keys["measure_run", f"{part.study}/measures/{part.stem}"] = plan.key("measure", *name)
    for slug, study in plan.studies.items():
        keys["claims", f"{slug}/claims"] = plan.key("claims", slug)
        for figure in study.figures:
            path = f"{slug}/figures/{figure}"
            keys["figure_table", path] = plan.key("table", slug, figure)
            keys["figure_plot", path] = plan.key("plot", slug, figure)
        for group in plan.network_groups(slug):
            path = f"{slug}/generalization/{group}"
            keys["generalization", path] = plan.key("generalization", slug, group)
    return keys


@pytest.fixture(scope="module")
def before(root):
    return keys_of(make_plan(root, SMOKE))


@pytest.fixture
def changed(root, tmp_path, monkeypatch):
    """Edits files of a copy of the project."""
    project = copy_project(root, tmp_path / "project")
    monkeypatch.setattr(provenance, "LIBRARY", project / "workflow/replica")
    monkeypatch.setattr(provenance, "_syntax_tree", SYNTAX_TREE)

    def edit(name, old, new):
        path = project / name
        text = path.read_text(encoding="utf-8")
        assert old in text, f"{name} does not hold {old!r}"
        path.write_text(text.replace(old, new, 1), encoding="utf-8")
        return project

    yield edit
    forget_digests()


@pytest.fixture
def planned(before):
    """The jobs of the edited project whose keys are new."""

    def jobs(project: Path) -> set[tuple[str, str]]:
        forget_digests()
        settings = read_settings(project, ["scale=smoke"])
        after = keys_of(make_plan(project, settings.values))
        return {job for job, key in after.items() if before.get(job) != key}

    return jobs


def stages(run, *numbers):
    return {(rule, f"fc_low_data/{folder}/{run}/all-stage{number}") for number in numbers
            for rule, folder in [("train_round", "runs"), ("measure_run", "measures")]}  # fmt: skip


STUDY, USER = "config/studies/", "config/config.yaml"
NETWORKS = ["depth", "dufm", "fc_low_data", "idrs", "low_rank", "mol", "sinks"]
GRID = "cone_constant_grid"
# What is edited: the file, the old text and the new; and the jobs whose keys are new then.
EDITS = {
    "one layer more": (
        USER, "overrides: {}", "overrides: {agop: {no_agop: {depth: 5}}}",
        chain("agop", "no_agop", "ext_no_agop"),
    ),
    "a learning rate": (
        f"{STUDY}low_rank.yaml", "lr: 0.1, steps: 2000000", "lr: 0.09, steps: 2000000",
        chain("low_rank", "fig6", "fig6_k15_l7"),
    ),
    "the same in the user's file": (
        USER, "overrides: {}", "overrides: {low_rank: {fig6: {lr: 0.09}}}",
        chain("low_rank", "fig6", "fig6_k15_l7"),
    ),
    "an added seed": (
        f"{STUDY}dufm.yaml", "{steps: 1000, seeds: 1", "{steps: 1000, seeds: 2",
        chain("dufm", "rec_threshold-L3", "rec_threshold"),
    ),
    "other samples of a population": (
        f"{STUDY}mol.yaml", "n: [25, 50], repeats: 3}", "n: [25, 50], repeats: 4}",
        {("measure_run", "mol/measures/networks/all"), *drawn("mol", "rec_b8_robust_digits")},
    ),
    "more draws": (
        f"{STUDY}idrs.yaml", "alpha: 0.001, images: 1681", "alpha: 0.002, images: 1681",
        {("certify", f"idrs/counts/{GRID}/all"), ("measure_run", f"idrs/measures/{GRID}/all"),
         *drawn("idrs", "toy_cone")},
    ),
    # The last stage so far has to choose labels then.
    "a further stage": (
        USER, "overrides: {}", "overrides: {fc_low_data: {entropy: {n: [20, 40, 60]}}}",
        stages("entropy", 1, 2) | drawn("fc_low_data", "al_a_cifar10") | scored("fc_low_data"),
    ),
    "another query": (
        USER, "overrides: {}", "overrides: {fc_low_data: {entropy: {active: {query: random}}}}",
        stages("entropy", 0, 1) | drawn("fc_low_data", "al_a_cifar10") | scored("fc_low_data"),
    ),
    "a measure of generalization": (
        "workflow/replica/measures/generalization.py", "SIGMA, DRAWS = 0.1", "SIGMA, DRAWS = 0.2",
        generalized(*NETWORKS),
    ),
    "a table": (
        "workflow/replica/studies/low_rank.py", "for r in range(4, 13)", "for r in range(4, 12)",
        drawn("low_rank", "fig3_left_loss_ratio") | scored("low_rank"),
    ),
    "a drawing": (
        "workflow/replica/studies/low_rank.py", "figsize=(10.5, 5.6)", "figsize=(9, 5)",
        {("figure_plot", "low_rank/figures/fig6_k15_l7")},
    ),
    "a claim": (
        "workflow/replica/studies/dufm.py", "gap.between(-1e-4, 0.05)", "gap.between(-1e-4, 0.06)",
        scored("dufm"),
    ),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("edit", EDITS)
def test_an_edit_runs_what_depends_on_it_and_nothing_else(edit, changed, planned):
    file, old, new, jobs = EDITS[edit]
    assert planned(changed(file, old, new)) == jobs


@pytest.mark.slow
def test_a_comment_or_docstring_runs_nothing(changed, planned):
    changed("workflow/replica/training/ensemble.py", "def train(", "# a comment\n\n\ndef train(")
    changed("workflow/replica/models/dufm.py", '"""The L-layer', '"""Another word. The L-layer')
    assert planned(changed("workflow/scripts/train.py", "job = ", "# more\njob = ")) == set()


@pytest.mark.slow
def test_a_change_in_a_metric_measures_again_and_trains_nothing(changed, planned):
    project = changed("workflow/replica/measures/spectra.py", "RELATIVE = 0.05", "RELATIVE = 0.06")
    jobs = planned(project)
    assert {rule for rule, _ in jobs} == {
        "measure_run", "figure_table", "figure_plot", "claims", "scorecard_table",
    }  # fmt: skip
    assert len([job for job in jobs if job[0] == "measure_run"]) == 20
    figures = {Path(path).name for rule, path in jobs if rule == "figure_table"}
    assert figures == {*ALL_PLOTTED["dufm"], *ALL_PLOTTED["low_rank"]} - CLOSED_FORMS


@pytest.mark.slow
def test_a_change_in_the_nfa_measures_networks_and_not_deep_rfm(changed, planned):
    project = changed(
        "workflow/replica/kernels/metrics.py", "squares[-1] * 1e-6", "squares[-1] * 1e-7"
    )
    jobs = planned(project)
    assert {name for rule, name in jobs if rule == "measure_run"} == {
        f"agop/measures/{run}/all" for run in ("mlp", "mlp_mnist", "resnet", "vgg_mnist")
    }
    assert not [job for job in jobs if job[0] == "train_run"]


@pytest.mark.slow
def test_another_probe_measures_again_and_trains_nothing(changed, planned):
    project = changed(
        "config/studies/sinks.yaml", "switch: 3, alignment: 3", "switch: 2, alignment: 3"
    )
    jobs = planned(project)
    made = [job for job in jobs if job[0] in ("train_run", "measure_run", "generalization")]
    assert made == [("measure_run", "sinks/measures/lm/all")]


@pytest.mark.slow
def test_a_retrained_classifier_is_certified_again(changed, planned):
    project = changed("config/studies/idrs.yaml", "smoke: {epochs: 2,", "smoke: {epochs: 3,")
    runs = ["base_mnist-sigma0.25", "constant_mnist-sigma_b0.25", "knn_mnist-sigma_b0.25-rate0.1",
            "matched_mnist-sigma_b0.25-rate0.1"]  # fmt: skip
    jobs = planned(project)
    made = {(rule, path) for rule, path in jobs if rule in ("train_run", "certify", "measure_run")}
    assert made == {
        ("train_run", f"idrs/runs/{runs[0]}/all"),
        *(("certify", f"idrs/counts/{run}/all") for run in runs[1:]),
        *(("measure_run", f"idrs/measures/{run}/all") for run in runs),
    }  # fmt: skip
    figures = {path for rule, path in jobs if rule == "figure_table"}
    assert figures == {"idrs/figures/cert_acc_mnist"}
    assert {job for job in jobs if "generalization" in job[1]} == generalized("idrs")


@pytest.mark.slow
def test_a_new_style_redraws_everything_and_computes_nothing(changed, planned):
    jobs = planned(changed("workflow/replica/replica.mplstyle", "font.size: 8", "font.size: 9"))
    assert {rule for rule, _ in jobs} == {"figure_plot"}
    assert len(jobs) == sum(len(figures) for figures in ALL_PLOTTED.values())
