"""What a plan is said to take is the sum over its jobs, at the rates that are known."""

import dataclasses
import os
import re
import shutil

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from rich.console import Console

from project import copy_project, snakemake
from replica import artifacts, estimates, provenance
from replica.__main__ import main
from replica.costs import SECONDS_PER_UNIT
from replica.estimates import (
    BENCHMARKS,
    SHARED,
    UNIT_OF_WORK,
    Rates,
    disk_mb,
    disk_to_come_mb,
    has_bfloat16,
    job_table,
    notes,
    print_plan,
    rates_of,
    study_table,
    with_deciding_runs,
)
from replica.kinds import measuring_work
from replica.plan import cost_of, make_plan, size_of
from replica.settings.study import SCALES
from replica.verdicts import HOLDS, UNDECIDABLE


@pytest.fixture(scope="module")
def plans(root):
    return {scale: make_plan(root, {"scale": scale}) for scale in SCALES}


@pytest.mark.parametrize("scale", SCALES)
def test_sums_and_maxima_over_the_jobs_of_a_study(plans, scale, monkeypatch):
    monkeypatch.setattr(estimates, "has_bfloat16", lambda: False)
    plan = plans[scale]
    table = study_table(job_table(plan, Rates())).set_index("study")
    assert list(table.index) == [*plan.studies, SHARED]
    start = SECONDS_PER_UNIT["start"]
    for study in plan.studies:
        parts = [part for part in plan.parts.values() if part.study == study]
        others = [plan.generalization_cost(study, group) for group in plan.network_groups(study)]
        costs = [*map(plan.cost, parts), *others]
        measured = [part.spec for part in parts if plan.measured(part)]
        local = 2 * len(plan.studies[study].figures) + 1
        on_gpu = on_cpu = 0.0
        for cost in costs:
            seconds = cost.work.amount * SECONDS_PER_UNIT[cost.work.kind] + start
            on_gpu += seconds * cost.gpu_slots / 4
            on_cpu += 0 if cost.gpu_slots else seconds * cost.threads
        on_cpu += sum(measuring_work(spec).seconds + start for spec in measured) + local * start
        row = table.loc[study]
        assert row["jobs"] == len(costs) + len(measured) + local
        assert row["gpu_hours"] == pytest.approx(on_gpu / 3600)
        assert row["cpu_hours"] == pytest.approx(on_cpu / 3600)
        # Drawings and claims never leave the machine of Snakemake.
        largest = max((cost.mem_mb for cost in costs), default=np.nan)
        assert row["mem_mb"] == pytest.approx(largest, nan_ok=True)
        asked = [cost.minutes for cost in costs]
        asked += [plan.resources(part)["measuring"] for part in parts if plan.measured(part)]
        assert row["minutes"] == pytest.approx(max(asked, default=np.nan), nan_ok=True)


@pytest.mark.parametrize("scale", SCALES)
def test_more_is_asked_for_than_is_expected(plans, scale):
    plan = plans[scale]
    costs = [cost_of(part) for part in plan.parts.values()]
    costs += [plan.generalization_cost(s, g) for s in plan.studies for g in plan.network_groups(s)]
    assert all(cost.work.kind in SECONDS_PER_UNIT and cost.work.amount > 0 for cost in costs)
    assert all(cost.work.seconds < 60 * cost.minutes / 2 for cost in costs)
    assert all(cost.work.kind.endswith("GPU") == (cost.gpu_slots > 0) for cost in costs)


def test_a_stage_of_active_learning_leaves_one_network(plans):
    plan = plans["paper"]
    for seed_and_stage in ("seed0-stage0", "seed0-stage9"):
        cost = plan.generalization_cost("fc_low_data", f"llal-{seed_and_stage}")
        assert cost.work.amount == 1


def test_large_networks_are_measured_on_a_gpu_where_the_scale_is_meant_for_one(plans):
    for scale, plan in plans.items():
        groups = {(s, g) for s in plan.with_networks() for g in plan.network_groups(s)}
        on_gpu = {g for g in groups if plan.generalization_rule(*g) == "generalization_on_gpu"}
        large = {(study, group) for study, group in groups if group != "small"}
        assert on_gpu == (large if scale == "paper" else set())
        assert plan.groups_on_gpu() == sorted({group for _, group in on_gpu})
    jobs = job_table(plans["paper"], Rates())
    # A week-end on two cores, beside the GPU.
    assert jobs["cpu_hours"].sum() < 40


def test_a_job_takes_its_share_of_a_gpu(root, plans):
    alone = job_table(make_plan(root, {"scale": "paper", "jobs_per_gpu": 1}), Rates())
    shared = job_table(plans["paper"], Rates())
    ratios = (alone["gpu_hours"] / shared["gpu_hours"]).dropna()
    assert set(ratios.round(9)) == {1, 2, 4}
    assert alone["cpu_hours"].equals(shared["cpu_hours"])


def write_rates(root, rates):
    rows = [
        {"case": kind, "quantity": UNIT_OF_WORK, "value": value} for kind, value in rates.items()
    ]
    # Other rows of the table say nothing here.
    rows.append({"case": "token", "quantity": "time", "value": 1e9})
    stamp = provenance.begin(spec={}, key="benchmarks", code="", seeds=[], device="a fast machine")
    artifacts.write_table(root / BENCHMARKS, pd.DataFrame(rows), stamp.finish())


def test_measured_rates_scale_the_hours(tmp_path, plans):
    assert rates_of(tmp_path) == Rates()
    write_rates(tmp_path, {"token": SECONDS_PER_UNIT["token"] / 10, "unheard of": 1.0})
    rates = rates_of(tmp_path)
    assert rates == Rates({"token": SECONDS_PER_UNIT["token"] / 10}, "a fast machine")
    stated, measured = (job_table(plans["laptop"], r) for r in (Rates(), rates))
    start = SECONDS_PER_UNIT["start"] / 3600
    tokens = stated["kind"] == "token"
    assert tokens.any() and stated[~tokens].equals(measured[~tokens])
    expected = (stated[tokens]["cpu_hours"] - start) / 10 + start
    assert measured[tokens]["cpu_hours"].tolist() == pytest.approx(expected.tolist())
    assert measured[["mem_mb", "minutes"]].equals(stated[["mem_mb", "minutes"]])


def test_the_hours_say_what_they_rest_on(plans):
    plan = plans["paper"]
    rates = Rates(dict(SECONDS_PER_UNIT), "a fast machine")
    said = " ".join(notes(job_table(plan, rates), rates))
    assert "100% of the GPU hours and 100% of the CPU hours as measured" in said
    assert "a fast machine" in said
    assert "as stated in workflow/replica/costs.py" in " ".join(
        notes(job_table(plan, Rates()), Rates())
    )


# MB of states, of safetensors files alone, by study and kind at the laptop scale, as measured.
MEASURED_MB = {
    ("agop", "deep_rfm"): 32.03,
    ("agop", "observed_network"): 375.50,
    ("depth", "residual"): 24.02,
    ("dufm", "dufm"): 69.45,
    ("dufm", "network_head"): 13.93,
    ("fc_low_data", "low_data"): 68.33,
    ("idrs", "noisy_classifier"): 7.89,
    ("idrs", "certification"): 8.29,
    ("low_rank", "dufm"): 55.59,
    ("low_rank", "network_head"): 11.06,
    ("mol", "synthetic_risks"): 24.42,
    ("mol", "tradeoffs"): 2.00,
    ("sinks", "decoder"): 147.97,
    ("sinks", "random_attention"): 0.27,
}
# The largest single files in MB.
MEASURED_RUNS = {
    ("agop", "mlp-datasetmixture"): 102.45,
    ("dufm", "rec_depth-L3"): 2.104,
    ("depth", "rn1_cifar10-depth13"): 0.690,
    ("idrs", "base-sigma0.12"): 1.022,
    ("low_rank", "fig2_top"): 6.973,
    ("mol", "random_class"): 12.12,
    ("mol", "groups"): 4.88,
    ("sinks", "lm"): 23.18,
}


def test_states_have_the_sizes_that_were_measured(plans):
    plan, said, runs = plans["laptop"], {}, {}
    for part in plan.parts.values():
        kind, run = (part.study, part.spec.kind), (part.study, part.run)
        said[kind] = said.get(kind, 0) + size_of(part) / 1e6
        runs[run] = runs.get(run, 0) + size_of(part) / 1e6
    for found, measured in [(said, MEASURED_MB), (runs, MEASURED_RUNS)]:
        wrong = {
            name: (found[name], size)
            for name, size in measured.items()
            if not 1 / 1.5 < found[name] / size < 1.5
        }
        assert wrong == {}


def test_the_disk_that_there_is_counts_each_file_once(root, tmp_path):
    plan = make_plan(root, {"scale": "laptop", "studies": ["dufm"]})
    there = dataclasses.replace(plan, root=tmp_path)
    assert disk_mb(there, "dufm") == disk_mb(there, SHARED) == 0
    for name, size in [("laptop/dufm/runs/a/all.safetensors", 3_000_000),
                       ("laptop/logs/a.log", 1000), ("laptop/report.html", 2000)]:  # fmt: skip
        (tmp_path / "results" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "results" / name).write_bytes(bytes(size))
    card = tmp_path / "data/prepared/digits/card.json"
    for path in (card, tmp_path / "data/raw/digits/receipt.json"):
        path.parent.mkdir(parents=True)
        path.write_bytes(bytes(4000))
    store = tmp_path / "results/store/key"
    store.mkdir(parents=True)
    os.link(tmp_path / "results/laptop/dufm/runs/a/all.safetensors", store / "states.safetensors")
    assert disk_mb(there, "dufm") == pytest.approx(3)
    assert disk_mb(there, SHARED) == pytest.approx(0.011)


def test_the_disk_of_a_study_is_mostly_its_states(plans):
    plan = plans["laptop"]
    for study in plan.studies:
        states = sum(size_of(part) for part in plan.parts.values() if part.study == study) / 1e6
        assert states < disk_to_come_mb(plan, study) < 1.5 * states + 20
    # MNIST and CIFAR-10 as files and as bytes.
    paper = make_plan(plan.root, {"scale": "paper", "studies": ["low_rank"]})
    assert disk_to_come_mb(paper, SHARED) == pytest.approx(170 + 60_000 * 3073 / 1e6, rel=0.02)


def test_a_plan_without_runs_has_no_largest_job(root):
    plan = make_plan(root, {"scale": "laptop", "studies": ["dufm"]})
    empty = dataclasses.replace(plan, parts={}, _keys={})
    console = Console(width=130, record=True)
    print_plan(empty, Rates(), console)
    said = console.export_text()
    assert "nan" not in said and re.search(r"all .*–.*–", said)


def test_the_command_prints_every_study(root, plans, monkeypatch, capsys):
    monkeypatch.chdir(root)
    assert main(["plan", "--scale", "paper"]) == 0
    said = capsys.readouterr().out
    total = len(job_table(plans["paper"], Rates()))
    assert all(study in said for study in [*plans["paper"].studies, f"{total:,}"])


@pytest.mark.slow
def test_the_rule_prints_every_study_and_runs_no_other_job(root, tmp_path, plans):
    project = copy_project(root, tmp_path / "project")
    answer = snakemake(project, "plan")
    assert all(study in answer.stdout for study in plans["smoke"].studies)
    # The count of jobs is that of Snakemake, but for the target itself.
    dry = snakemake(project, "-n", "--quiet", "rules")
    counts = dict(re.findall(r"^(\w+) +(\d+)$", dry.stdout + dry.stderr, re.MULTILINE))
    jobs = job_table(plans["smoke"], Rates())
    assert int(counts.pop("total")) == len(jobs) + int(counts.pop("all"))
    assert {rule: int(count) for rule, count in counts.items()} == dict(jobs["rule"].value_counts())
    assert f"{len(jobs)}" in answer.stdout
    left = [path.name for path in (project / "results").rglob("*") if path.is_file()]
    assert left == ["plan.log"] and not (project / "data").exists()


PHOTOGRAPHS = {"dataset": "cifar10", "precision": "float32"}


@pytest.mark.parametrize(
    ("desktop", "deciding"),
    [
        (None, "paper"),  # no run of its figure there
        ({"dataset": "digits", "precision": "float32"}, "paper"),  # on a stand-in
        (PHOTOGRAPHS, "desktop"),
    ],
)
def test_an_undecided_claim_names_the_first_scale_that_would_decide_it(
    root, tmp_path, desktop, deciding
):
    shutil.copytree(root / "config", tmp_path / "config")
    path = tmp_path / "config/studies/low_rank.yaml"
    study = yaml.safe_load(path.read_text(encoding="utf-8"))
    study["runs"]["fig2_bottom"]["desktop"] = desktop
    path.write_text(yaml.safe_dump(study), encoding="utf-8")
    card = pd.DataFrame({
        "study": ["low_rank", "low_rank", "low_rank"], "claim": ["c4", "c1", "c9"],
        "verdict": [UNDECIDABLE, HOLDS, UNDECIDABLE], "decided_by": ["", "", "a proof"],
    })  # fmt: skip
    said = with_deciding_runs(card, tmp_path, "laptop")["decided_by"].tolist()
    jobs = job_table(make_plan(tmp_path, {"scale": deciding}), Rates())
    own = jobs[(jobs["study"] == "low_rank") & jobs["name"].str.startswith("fig2_bottom/")]
    spent = {"GPU": own["gpu_hours"].sum(), "core": own["cpu_hours"].sum()}
    hours = " and ".join(f"{h:.2g} {device} hours" for device, h in spent.items() if h >= 0.005)
    assert said[0] == f"fig2_bottom_resnet_cifar10 at the scale {deciding} ({hours})"
    assert said[1:] == ["", "a proof"]
    # There is no larger scale.
    assert with_deciding_runs(card, tmp_path, "paper")["decided_by"].tolist() == ["", "", "a proof"]


def test_a_scale_whose_results_leave_a_claim_open_does_not_decide_it(root, tmp_path):
    """At the desktop scale there are trainings with 1,000 labels, and c2 is about 2,000."""
    shutil.copytree(root / "config", tmp_path / "config")
    card = pd.DataFrame({
        "study": ["fc_low_data"], "claim": ["c2"], "verdict": [UNDECIDABLE], "decided_by": [""],
    })  # fmt: skip
    figure = "fig3a_supervised_cifar10"
    (known,) = with_deciding_runs(card, root, "laptop")["decided_by"]
    assert known.startswith(f"{figure} at the scale paper (")
    # Its tables are there before the scorecard is.
    shutil.copytree(root / "docs/evidence/desktop", tmp_path / "docs/evidence/desktop")
    (tmp_path / "docs/evidence/desktop/scorecard.csv").unlink()
    (unknown,) = with_deciding_runs(card, tmp_path, "laptop")["decided_by"]
    assert unknown.startswith(f"{figure} at the scale desktop (")


def test_a_scale_at_which_a_figure_of_the_claim_is_off_does_not_decide_it(root, tmp_path):
    """At the desktop scale c8 of agop has the MLP, but the ResNet only where extras name it."""
    shutil.copytree(root / "config", tmp_path / "config")
    card = pd.DataFrame({
        "study": ["agop"], "claim": ["c8"], "verdict": [UNDECIDABLE], "decided_by": [""],
    })  # fmt: skip
    (said,) = with_deciding_runs(card, tmp_path, "laptop")["decided_by"]
    assert said.startswith(
        "fig2_nc1_layers_main, fig10_mlp_nfa, fig11_resnet_nfa at the scale paper ("
    )


def test_a_plan_says_what_bfloat16_costs_on_this_processor(root, monkeypatch, tmp_path):
    desktop = {"scale": "desktop", "studies": ["fc_low_data"]}
    forced = {"overrides": {"fc_low_data": {"plain_half": {"precision": "bfloat16"}}}}
    mixed, slow = make_plan(root, desktop), make_plan(root, desktop | forced)
    monkeypatch.setattr(estimates, "has_bfloat16", lambda: False)
    (line,) = estimates.precision_notes(mixed)
    assert "float32 here" in line
    assert "3 jobs compute in bfloat16" in estimates.precision_notes(slow)[1]
    monkeypatch.setattr(estimates, "has_bfloat16", lambda: True)
    assert estimates.precision_notes(slow) == [estimates.BFLOAT16]
    assert estimates.precision_notes(make_plan(root, {"scale": "paper", "studies": ["idrs"]})) == []


def test_hours_are_those_of_bfloat16_where_mixed_precision_is_that(root, monkeypatch):
    plan = make_plan(root, {"scale": "desktop", "studies": ["fc_low_data", "idrs"]})
    tables = {}
    for fast in (False, True):
        monkeypatch.setattr(estimates, "has_bfloat16", lambda fast=fast: fast)
        tables[fast] = job_table(plan, Rates()).set_index(["study", "rule", "name"])
    start, plain, half = SECONDS_PER_UNIT["start"] / 3600, tables[False], tables[True]
    # Certifications compute in the precision of their classifier; a quarter of the width in float32.
    for study, rule, name in [
        ("fc_low_data", "train_run", "plain/seed0"), ("idrs", "train_run", "base-sigma0.25/seed0"),
        ("idrs", "certify", "constant-sigma_b0.25/seed0"),
    ]:  # fmt: skip
        job = study, rule, name
        kind = plain.loc[job, "kind"]
        assert half.loc[job, "kind"] == f"{kind} in bfloat16"
        ratio = SECONDS_PER_UNIT[f"{kind} in bfloat16"] / SECONDS_PER_UNIT[kind]
        expected = (plain.loc[job, "cpu_hours"] - start) * ratio + start
        assert half.loc[job, "cpu_hours"] == pytest.approx(expected)
    quarter = "fc_low_data", "train_run", "plain_quarter/all"
    assert half.loc[quarter].equals(plain.loc[quarter])
    forced = {"overrides": {"fc_low_data": {"plain_quarter": {"precision": "bfloat16"}}}}
    always = job_table(make_plan(root, {"scale": "desktop", "studies": ["fc_low_data"]} | forced),
                       Rates()).set_index(["study", "rule", "name"])  # fmt: skip
    assert always.loc[quarter, "kind"] == "convolution in bfloat16"
    # What is asked for holds on any node.
    assert half[["mem_mb", "minutes"]].equals(plain[["mem_mb", "minutes"]])


def test_bfloat16_is_fast_where_torch_says_so(tmp_path):
    from replica.training.precision import fast_in_bfloat16

    assert has_bfloat16() == fast_in_bfloat16(torch.device("cpu"))
    listed = tmp_path / "cpuinfo"
    assert not has_bfloat16(listed)
    for text, fast in [
        ("vendor_id: GenuineIntel\nflags: avx512_bf16 amx_bf16", True),
        ("vendor_id: AuthenticAMD\nflags: avx2 avx512_bf16", True),
        ("vendor_id: GenuineIntel\nflags: avx512_bf16", False),
        ("vendor_id: AuthenticAMD\nflags: avx2", False),
    ]:
        listed.write_text(text)
        assert has_bfloat16(listed) is fast


def test_a_plan_says_what_extras_would_add(root):
    desktop = {"scale": "desktop", "studies": ["fc_low_data", "low_rank"]}
    said = estimates.extras_in_words(make_plan(root, desktop), Rates())
    assert "ablation_c_depth (" in said and "fig3b" not in said and "optional_kd" not in said
    hours = [study_table(job_table(make_plan(root, desktop | more), Rates()))["cpu_hours"].sum()
             for more in ({}, {"extras": ["gain_by_factor"]})]  # fmt: skip
    (stated,) = re.findall(r"gain_by_factor \(([0-9.]+) core hours\)", said)
    # The figure, its drawing and the measures of its runs are not in it: seconds.
    assert float(stated) == pytest.approx(hours[1] - hours[0], abs=0.05)
    named = make_plan(root, desktop | {"extras": ["gain_by_factor"]})
    assert "gain_by_factor" not in estimates.extras_in_words(named, Rates())
