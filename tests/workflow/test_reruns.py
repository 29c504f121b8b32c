"""A job re-runs when its spec, its inputs or the code that it uses changes; else it does not."""

import re
import shutil

import pandas as pd
import pytest

from project import (
    ALL_PLOTTED,
    PAGES,
    call,
    chain,
    copy_project,
    drawn,
    generalized,
    planned,
    scored,
    snakemake,
)  # fmt: skip
from replica.artifacts import read_stamp
from replica.efficiency import efficiency_table, progress_lines
from replica.plan import make_plan


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
    # A job of a few milliseconds has ended before its memory is looked at.
    looked_at = used[used["used_mb"].notna()]
    assert len(looked_at) > 0.9 * len(used) and (looked_at["used_mb"] > 0).all()
    assert (looked_at["used_mb"] < looked_at["asked_mb"]).all()
    assert (used["used_minutes"] < used["asked_minutes"]).all()
    # Two pretrainings are only what other runs start from.
    counts = [(9, 9), (18, 18), (6, 6), (61, 59), (32, 32), (14, 14), (13, 13), (10, 10)]
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


def test_snakemake_plans_what_the_keys_say(changed):
    """Every kind of job at once; tests/unit/test_reruns.py has each edit alone, by keys."""
    overrides = "{low_rank: {fig6: {lr: 0.09}}, fc_low_data: {entropy: {active: {query: random}}}}"
    changed("config/config.yaml", "overrides: {}", f"overrides: {overrides}")
    changed("config/studies/idrs.yaml", "alpha: 0.001, images: 1681", "alpha: 0.002, images: 1681")
    changed("workflow/replica/studies/dufm.py", "between(-1e-4, 0.05)", "between(-1e-4, 0.06)")
    changed("workflow/replica/studies/agop.py", "bins=60", "bins=50")
    changed("workflow/replica/training/ensemble.py", "def train(", "# a comment\n\n\ndef train(")
    project = changed(
        "workflow/replica/measures/generalization.py", "SIGMA, DRAWS = 0.1", "SIGMA, DRAWS = 0.2"
    )
    studies = ["depth", "dufm", "fc_low_data", "idrs", "low_rank", "mol", "sinks"]
    run = "cone_constant_grid"
    assert planned(project) == {
        *chain("low_rank", "fig6", "fig6_k15_l7"), *drawn("fc_low_data", "al_a_cifar10"),
        *((rule, f"fc_low_data/{folder}/entropy/all-stage{stage}") for stage in (0, 1)
          for rule, folder in [("train_round", "runs"), ("measure_run", "measures")]),
        ("certify", f"idrs/counts/{run}/all"), ("measure_run", f"idrs/measures/{run}/all"),
        *drawn("idrs", "toy_cone"), *scored("low_rank", "fc_low_data", "dufm"),
        ("figure_plot", "agop/figures/ext_thm54"), *generalized(*studies), PAGES,
    }  # fmt: skip


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


def test_figures_that_are_off_by_default(finished):
    wanted = snakemake(finished, "-n", config=("extras=[optional_kd]",))
    text = wanted.stdout + wanted.stderr
    assert "runs/kd/all.safetensors" in text and "figures/optional_kd.svg" in text
    assert "fixmatch" not in text and "runs/plain/all.safetensors" not in text
    answer = snakemake(finished, "-n", check=False, config=("extras=[optional_dk]",))
    said = answer.stdout + answer.stderr
    assert answer.returncode != 0 and "'optional_dk' is not a figure that is off by default" in said
    assert "there are" in said and "optional_kd, optional_fixmatch, optional_cifar10c" in said


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


def test_a_run_that_stopped_half_way_is_finished_later(finished, tmp_path):
    project = shutil.copytree(finished, tmp_path / "project", symlinks=True)
    path = project / "config/studies/low_rank.yaml"
    text = path.read_text()
    assert "lr: 0.1, steps: 2000000" in text
    path.write_text(text.replace("lr: 0.1, steps: 2000000", "lr: 0.08, steps: 2000000"))
    snakemake(project, "results/smoke/low_rank/runs/fig6/all.safetensors")
    left = chain("low_rank", "fig6", "fig6_k15_l7") - {("train_run", "low_rank/runs/fig6/all")}
    assert planned(project) == left | {PAGES}


def test_going_back_trains_nothing(finished, tmp_path):
    project = shutil.copytree(finished, tmp_path / "project", symlinks=True)
    target = "results/smoke/low_rank/runs/fig6/all.safetensors"
    log = project / "results/smoke/logs/train_run/low_rank/fig6/all.log"
    # As of a version that kept nothing: what is current is kept from now on.
    shutil.rmtree(project / "results/store")
    call(project, "replica", "run", "--scale", "smoke", "--config", "studies=[agop]")
    assert not (project / "results/store" / read_stamp(project / target)["key"]).exists()
    arguments = ["--scale", "smoke", "--config", "studies=[low_rank]"]
    call(project, "replica", "run", *arguments)
    before, metadata = (project / target).read_bytes(), read_stamp(project / target)
    assert (project / target).samefile(
        project / f"results/store/{metadata['key']}/states.safetensors"
    )
    snakemake(project, target, config=("overrides={low_rank: {fig6: {lr: 0.08}}}",))
    tried = read_stamp(project / target)["key"]
    assert tried != metadata["key"] and "taken from" not in log.read_text()
    snakemake(project, target)
    assert (project / target).read_bytes() == before
    assert f"taken from results/store/{metadata['key']}" in log.read_text()
    # Those three were made of one study alone.
    assert planned(project) == {
        ("scorecard_table", "scorecard"), ("correlations", "generalization"), PAGES
    }  # fmt: skip
    # What was tried is not needed any more.
    listed = call(project, "replica", "clean", "--dry-run").stdout
    assert f"results/store/{tried}: " in listed and "MB would be freed." in listed
    assert metadata["key"] not in listed and (project / "results/store" / tried).exists()
    assert "MB freed." in call(project, "replica", "clean").stdout
    assert not (project / "results/store" / tried).exists()
    assert "Every stored state is needed." in call(project, "replica", "clean").stdout


def test_scales_studies_and_seeds_compose(finished):
    text = call(finished, "snakemake", "-n", "--cores", "1", "--config", "scale=paper",
                "studies=[low_rank]", "seeds=3").stdout  # fmt: skip
    # One job a seed for the ResNet, one for all seeds of the small models.
    assert len(re.findall(r"runs/fig2_bottom/seed[012]\.safetensors", text)) >= 3
    assert "runs/fig2_bottom/seed3" not in text and "dufm/" not in text
    assert planned(finished, "dufm") == set()


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
