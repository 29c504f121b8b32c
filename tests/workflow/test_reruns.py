"""A job re-runs when its spec, its inputs or the code that it uses changes; else it does not."""

import re
import shutil
from pathlib import Path

import pandas as pd
import pytest

from project import ALL_PLOTTED, CLOSED_FORMS, call, copy_project, planned, snakemake
from replica.efficiency import efficiency_table, progress_lines
from replica.plan import make_plan


def chain(study: str, run: str, figure: str) -> set[tuple[str, str]]:
    """What follows from a change of one run."""
    return {
        ("train_run", f"{study}/runs/{run}/all"),
        ("measure_run", f"{study}/measures/{run}/all"),
        *drawn(study, figure),
        *scored(study),
    }


def drawn(study: str, figure: str) -> set[tuple[str, str]]:
    path = f"{study}/figures/{figure}"
    return {("figure_table", path), ("figure_plot", path)}


def scored(*studies: str) -> set[tuple[str, str]]:
    return {("claims", f"{study}/claims") for study in studies} | {("scorecard_table", "scorecard")}


def generalized(*studies: str) -> set[tuple[str, str]]:
    return {("generalization", f"{study}/generalization/small") for study in studies} | {
        ("correlations", "generalization")
    }


def test_everything_is_there(finished):
    folder = finished / "results/smoke"
    for study, figures in ALL_PLOTTED.items():
        for figure in figures:
            for ending in ("parquet", "svg", "pdf"):
                assert (folder / study / "figures" / f"{figure}.{ending}").stat().st_size > 500
    card = pd.read_parquet(folder / "scorecard.parquet")
    assert list(card["study"] + "." + card["claim"]) == [
        *(f"agop.c{i}" for i in range(1, 13)),
        *(f"depth.c{i}" for i in range(1, 9)),
        *(f"dufm.c{i}" for i in range(1, 6)), *(f"fc_low_data.c{i}" for i in range(1, 16)),
        *(f"idrs.c{i}" for i in range(1, 11)),
        *(f"low_rank.c{i}" for i in range(1, 12)),
        *(f"mol.c{i}" for i in range(1, 10)),
        *(f"sinks.{claim}" for claim in ["c1", "c2", "c3", "c4", "c5", "c5_tw", "c6"]),
    ]  # fmt: skip
    wanted = {"study", "claim", "verdict", "value", "published", "tolerance", "detail"}
    assert wanted <= set(card.columns) and card["detail"].str.len().min() > 10
    networks = pd.read_parquet(folder / "generalization.parquet")
    assert set(networks["study"]) == {
        "depth", "dufm", "fc_low_data", "idrs", "low_rank", "mol", "sinks"
    }  # fmt: skip
    assert not list(finished.glob("results/checkpoints/*"))
    assert not list(finished.glob("results/**/.*.tmp"))


def test_jobs_stay_within_what_they_ask_for(finished):
    plan = make_plan(finished, {"scale": "smoke"})
    used = efficiency_table(plan)
    measured = sum(plan.measured(part) for part in plan.parts.values())
    assert len(used) == len(plan.parts) + measured + len(plan.generalization_tables())
    assert set(used["rule"]) == {
        "train_run", "train_round", "certify", "measure_run", "generalization"
    }  # fmt: skip
    assert (used["used_mb"] < used["asked_mb"]).all()
    assert (used["used_minutes"] < used["asked_minutes"]).all()
    # Two pretrainings are only what other runs start from.
    counts = [(9, 9), (18, 18), (6, 6), (61, 59), (28, 28), (14, 14), (13, 13), (10, 10)]
    for line, (n, m) in zip(progress_lines(plan), counts, strict=True):
        assert f"{n} of {n} runs made, {m} of {m} measured" in line


def test_every_figure_table_is_tidy(finished):
    for path in (finished / "results/smoke").glob("*/figures/*.parquet"):
        table = pd.read_parquet(path)
        first = ["study", "figure", "panel", "series", "scale", "status"]
        assert list(table.columns[:6]) == first and "seed" in table
        assert (table["figure"] == path.stem).all() and (table["scale"] == "smoke").all()
        assert set(table["status"]) <= {"published", "scaled", "reconstructed"}


def test_nothing_changed_nothing_runs(finished):
    assert planned(finished) == set()


def test_a_comment_or_docstring_runs_nothing(changed):
    changed("workflow/replica/training/ensemble.py", "def train(", "# a comment\n\n\ndef train(")
    changed("workflow/replica/models/dufm.py", '"""The L-layer', '"""Another word. The L-layer')
    assert planned(changed("workflow/scripts/train.py", "job = ", "# more\njob = ")) == set()


def test_a_change_in_a_metric_measures_again_and_trains_nothing(changed):
    project = changed("workflow/replica/measures/spectra.py", "RELATIVE = 0.05", "RELATIVE = 0.06")
    jobs = planned(project)
    assert {rule for rule, _ in jobs} == {
        "measure_run", "figure_table", "figure_plot", "claims", "scorecard_table",
    }  # fmt: skip
    assert len([job for job in jobs if job[0] == "measure_run"]) == 20
    figures = {Path(path).name for rule, path in jobs if rule == "figure_table"}
    assert figures == {*ALL_PLOTTED["dufm"], *ALL_PLOTTED["low_rank"]} - CLOSED_FORMS


def test_a_change_in_the_nfa_measures_networks_and_not_deep_rfm(changed):
    project = changed(
        "workflow/replica/kernels/metrics.py", "squares[-1] * 1e-6", "squares[-1] * 1e-7"
    )
    jobs = planned(project)
    assert {name for rule, name in jobs if rule == "measure_run"} == {
        f"agop/measures/{run}/all" for run in ("mlp", "mlp_mnist", "resnet", "vgg_mnist")
    }
    assert not [job for job in jobs if job[0] == "train_run"]


def test_one_layer_more_runs_that_chain(changed):
    project = changed(
        "config/config.yaml", "overrides: {}", "overrides: {agop: {no_agop: {depth: 5}}}"
    )
    assert planned(project) == chain("agop", "no_agop", "ext_no_agop")


def test_a_changed_learning_rate_runs_that_chain(changed):
    project = changed(
        "config/studies/low_rank.yaml", "lr: 0.1, steps: 50000", "lr: 0.09, steps: 50000"
    )
    assert planned(project) == chain("low_rank", "fig6", "fig6_k15_l7")


def test_the_same_through_the_users_file(changed):
    project = changed(
        "config/config.yaml", "overrides: {}", "overrides: {low_rank: {fig6: {lr: 0.09}}}"
    )
    assert planned(project) == chain("low_rank", "fig6", "fig6_k15_l7")


def test_another_probe_measures_again_and_trains_nothing(changed):
    project = changed(
        "config/studies/sinks.yaml", "switch: 3, alignment: 3", "switch: 2, alignment: 3"
    )
    jobs = planned(project)
    made = [job for job in jobs if job[0] in ("train_run", "measure_run", "generalization")]
    assert made == [("measure_run", "sinks/measures/lm/all")]


def test_other_samples_of_the_population_train_nothing(changed):
    project = changed(
        "config/studies/mol.yaml", "n: [25, 50], repeats: 3}", "n: [25, 50], repeats: 4}"
    )
    assert planned(project) == {
        ("measure_run", "mol/measures/networks/all"), *drawn("mol", "rec_b8_robust_digits"),
        *scored("mol"),
    }  # fmt: skip


def test_another_measure_of_generalization_measures_all_networks(changed):
    project = changed(
        "workflow/replica/measures/generalization.py", "SIGMA, DRAWS = 0.1", "SIGMA, DRAWS = 0.2"
    )
    studies = ["depth", "dufm", "fc_low_data", "idrs", "low_rank", "mol", "sinks"]
    assert planned(project) == generalized(*studies)


def test_an_added_seed_runs_that_chain(changed):
    project = changed(
        "config/studies/dufm.yaml", "{steps: 1000, seeds: 1", "{steps: 1000, seeds: 2"
    )
    assert planned(project) == chain("dufm", "rec_threshold-L3", "rec_threshold")


def test_more_draws_certify_again_and_train_nothing(changed):
    project = changed(
        "config/studies/idrs.yaml", "alpha: 0.001, images: 1681", "alpha: 0.002, images: 1681"
    )
    run = "cone_constant_grid"
    assert planned(project) == {
        ("certify", f"idrs/counts/{run}/all"), ("measure_run", f"idrs/measures/{run}/all"),
        *drawn("idrs", "toy_cone"), *scored("idrs"),
    }  # fmt: skip


def test_a_retrained_classifier_is_certified_again(changed):
    project = changed("config/studies/idrs.yaml", "smoke: {epochs: 2,", "smoke: {epochs: 3,")
    runs = ["base_mnist-sigma0.25", "constant_mnist-sigma_b0.25", "knn_mnist-sigma_b0.25-rate0.1"]
    jobs = planned(project)
    made = {(rule, path) for rule, path in jobs if rule in ("train_run", "certify", "measure_run")}
    assert made == {
        ("train_run", f"idrs/runs/{runs[0]}/all"),
        *(("certify", f"idrs/counts/{run}/all") for run in runs[1:]),
        *(("measure_run", f"idrs/measures/{run}/all") for run in runs),
    }  # fmt: skip
    figures = {path for rule, path in jobs if rule == "figure_table"}
    assert figures == {"idrs/figures/cert_acc_mnist", "idrs/figures/sigma_hist"}
    assert {job for job in jobs if "generalization" in job[1]} == generalized("idrs")


def stages(run, *numbers):
    return {(rule, f"fc_low_data/{folder}/{run}/all-stage{number}") for number in numbers
            for rule, folder in [("train_round", "runs"), ("measure_run", "measures")]}  # fmt: skip


def test_a_lost_stage_of_active_learning_costs_that_stage(finished, tmp_path):
    folder = finished / "results/smoke/fc_low_data"
    # Nobody asks for what lies behind a table that is there.
    lost = [*folder.glob("*/entropy/all-stage1.*"), folder / "figures/al_a_cifar10.parquet"]
    assert len(lost) == 5
    for path in lost:
        path.rename(tmp_path / path.name)
    jobs = planned(finished)
    for path in lost:
        (tmp_path / path.name).rename(path)
    assert {job for job in jobs if job[0] == "train_round"} == {
        ("train_round", "fc_low_data/runs/entropy/all-stage1")
    }


def test_a_further_stage_goes_on_from_those_that_are_there(changed):
    config = "overrides: {fc_low_data: {entropy: {n: [20, 40, 60]}}}"
    project = changed("config/config.yaml", "overrides: {}", config)
    # The last stage so far has to choose labels now.
    assert planned(project) == (
        stages("entropy", 1, 2) | drawn("fc_low_data", "al_a_cifar10") | scored("fc_low_data")
    )


def test_another_query_starts_its_chain_anew_and_touches_no_other(changed):
    config = "overrides: {fc_low_data: {entropy: {active: {query: random}}}}"
    project = changed("config/config.yaml", "overrides: {}", config)
    assert planned(project) == (
        stages("entropy", 0, 1) | drawn("fc_low_data", "al_a_cifar10") | scored("fc_low_data")
    )


def test_figures_that_are_off_by_default(finished):
    wanted = snakemake(finished, "-n", config=("extras=[optional_kd]",))
    text = wanted.stdout + wanted.stderr
    assert "runs/kd/all.safetensors" in text and "figures/optional_kd.svg" in text
    assert "fixmatch" not in text and "runs/plain/all.safetensors" not in text
    answer = snakemake(finished, "-n", check=False, config=("extras=[optional_dk]",))
    said = answer.stdout + answer.stderr
    assert answer.returncode != 0 and "'optional_dk' is no figure that is off by default" in said
    assert (
        "there are ext_switches, ext_variants, optional_kd, optional_fixmatch, optional_cifar10c"
        in said
    )


def test_a_restyled_drawing_is_only_drawn(changed):
    project = changed(
        "workflow/replica/studies/low_rank.py", "figsize=(10.5, 5.6)", "figsize=(9, 5)"
    )
    assert planned(project) == {("figure_plot", "low_rank/figures/fig6_k15_l7")}


def test_a_new_style_redraws_everything_and_computes_nothing(changed):
    jobs = planned(changed("workflow/replica/replica.mplstyle", "font.size: 8", "font.size: 9"))
    assert {rule for rule, _ in jobs} == {"figure_plot"}
    assert len(jobs) == sum(len(figures) for figures in ALL_PLOTTED.values())


def test_a_changed_table_function_makes_one_figure(changed):
    project = changed(
        "workflow/replica/studies/low_rank.py", "for r in range(4, 13)", "for r in range(4, 12)"
    )
    assert planned(project) == drawn("low_rank", "fig3_left_loss_ratio") | scored("low_rank")


def test_a_changed_claim_decides_again(changed):
    project = changed(
        "workflow/replica/studies/dufm.py", "gap.between(-1e-4, 0.05)", "gap.between(-1e-4, 0.06)"
    )
    assert planned(project) == scored("dufm")


def test_touching_every_file_runs_nothing(finished):
    for path in finished.rglob("*"):
        if ".snakemake" not in path.parts:
            path.touch()
    assert planned(finished) == set()


def test_copied_results_in_a_fresh_clone_are_current(finished, root, tmp_path):
    clone = copy_project(root, tmp_path / "clone")
    shutil.copytree(finished / "results", clone / "results", copy_function=shutil.copy)
    shutil.copytree(finished / "data", clone / "data", copy_function=shutil.copy)
    assert call(clone, "replica", "adopt", "--scale", "smoke").stdout == ""
    assert planned(clone) == set()
    # Without Snakemake's notes, results of other code are known by their own stamp.
    config = clone / "config/config.yaml"
    config.write_text(
        config.read_text().replace("overrides: {}", "overrides: {low_rank: {fig6: {lr: 0.09}}}")
    )
    (clone / "results/smoke/scorecard.parquet").write_bytes(b"PAR1 damaged")
    answer = call(clone, "replica", "check", "--scale", "smoke", check=False)
    assert "scorecard.parquet: damaged" in answer.stdout
    assert "fig6/all.safetensors: made by other code or other settings" in answer.stdout
    assert "fig5" not in answer.stdout and answer.returncode == 1
    call(clone, "replica", "adopt", "--scale", "smoke")
    assert planned(clone) >= chain("low_rank", "fig6", "fig6_k15_l7")


def test_a_run_that_stopped_half_way_is_finished_later(changed):
    project = changed(
        "config/studies/low_rank.yaml", "lr: 0.1, steps: 50000", "lr: 0.08, steps: 50000"
    )
    snakemake(project, "results/smoke/low_rank/runs/fig6/all.safetensors")
    left = chain("low_rank", "fig6", "fig6_k15_l7") - {("train_run", "low_rank/runs/fig6/all")}
    assert planned(project) == left
    # Put back what was there, so that the other tests find the project finished.
    path = project / "config/studies/low_rank.yaml"
    path.write_text(path.read_text().replace("lr: 0.08", "lr: 0.1"))
    snakemake(project)


def test_scales_studies_and_seeds_compose(finished):
    text = call(finished, "snakemake", "-n", "--cores", "1", "--config", "scale=paper",
                "studies=[low_rank]", "seeds=3").stdout  # fmt: skip
    # One job a seed for the ResNet, one for all seeds of the small models.
    assert len(re.findall(r"runs/fig2_bottom/seed[012]\.safetensors", text)) >= 3
    assert "runs/fig2_bottom/seed3" not in text and "dufm/" not in text
    assert planned(finished, "dufm") == set()


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (["scale=papr"], ["scale = 'papr'", "'smoke', 'laptop' or 'paper'"]),
        (
            ["studies=[low_rnk]"],
            ["low_rnk", "there are agop, depth, dufm, fc_low_data, idrs, low_rank"],
        ),
        (["sclae=smoke"], ["unknown key sclae", "did you mean scale?"]),
        (["seeds=[1]"], ["seeds = [1]", "integer"]),
        (
            ["overrides={low_rank: {fig6: {width: -1}}}"],
            ["overrides.low_rank.fig6", "width = -1", "greater than 0"],
        ),
        (["overrides={low_rank: {fig9: {width: 1}}}"], ["fig9", "there is no such run", "fig6"]),
    ],
)
def test_bad_configuration_stops_before_any_job(finished, values, words):
    answer = call(finished, "snakemake", "-n", "--config", *values, check=False)
    said = answer.stdout + answer.stderr
    assert answer.returncode != 0 and "Traceback" not in said
    assert all(word in said for word in words), said


def test_a_failed_job_says_why_on_the_terminal_and_leaves_nothing(finished):
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a GPU here")
    target = "results/paper/low_rank/runs/fig6/all.safetensors"
    answer = call(
        *(finished, "snakemake", "--cores", "1", target),
        *("--config", "scale=paper", "device=cuda"),
        check=False,
    )
    assert answer.returncode != 0
    assert "MissingDevice: device is cuda" in answer.stderr and "fig6/all.log" in answer.stderr
    assert not (finished / target).exists()
