"""The command `replica` in a finished project."""

import json

import pandas as pd
import pytest

from project import ALL_PLOTTED, call

SCALE = ("--scale", "smoke")


def said_as_json(project, *words, check=True):
    return json.loads(call(project, "replica", *words, "--json", check=check).stdout)


def times(project):
    return {path: path.stat().st_mtime_ns for path in (project / "results").rglob("*")}


def test_a_dry_run_lists_what_would_run_and_changes_nothing(finished):
    before = times(finished)
    said = call(finished, "replica", "run", "-n", *SCALE).stdout
    assert said == "Nothing would run.\n"
    change = "overrides={low_rank: {fig6: {lr: 0.05}}}"
    said = said_as_json(finished, "run", "--dry-run", *SCALE, "--config", change)
    jobs = {(row["study"], row["rule"]): row["jobs"] for row in said["jobs"]}
    rules = ["train_run", "measure_run", "figure_table", "figure_plot", "claims"]
    shared = ["scorecard_table", "pages"]
    assert jobs == {("low_rank", rule): 1 for rule in rules} | {
        ("shared", rule): 1 for rule in shared
    }
    assert (
        call(finished, "replica", "run", "-n", *SCALE, "--config", change).stdout.count("\n") < 15
    )
    assert times(finished) == before


def test_a_dry_run_counts_what_is_damaged(finished):
    file = finished / "results/smoke/dufm/figures/rec_depth.parquet"
    whole = file.read_bytes()
    file.write_bytes(whole[:-100] + bytes(100))
    try:
        said = said_as_json(finished, "run", "-n", *SCALE, "--config", "studies=[dufm]")
        assert file.exists()
    finally:
        file.write_bytes(whole)
    name = "results/smoke/dufm/figures/rec_depth.parquet"
    assert said["notes"] == [f"{name} is damaged: it would be deleted."]
    assert {"study": "dufm", "rule": "figure_table", "jobs": 1, "names": ["rec_depth"]} in said[
        "jobs"
    ]


def test_a_dry_run_of_what_nothing_makes_ends_in_one_sentence(finished):
    answer = call(finished, "replica", "run", "-n", *SCALE, "--", "low_rnk", check=False)
    assert answer.returncode == 1
    assert answer.stderr.startswith("Nothing makes low_rnk (did you mean low_rank?)")


@pytest.mark.parametrize("words", [["adopt", "--dry-run"], ["adopt", "-n"]])
def test_adopting_in_trial_deletes_nothing(finished, words):
    before = times(finished)
    line = [
        *words,
        *SCALE,
        "--config",
        "studies=[dufm]",
        "overrides={dufm: {rec_depth: {lr: 0.05}}}",
    ]
    said = call(finished, "replica", *line).stdout
    assert (
        "measures/rec_depth-L3/all.parquet: made by other code or other settings, would be" in said
    )
    assert "nothing was changed" in said and times(finished) == before


def test_everything_in_json(finished):
    card = said_as_json(finished, "scorecard", "smoke")
    assert len(card) > 70 and card[0]["study"] == "agop"
    status = said_as_json(finished, "status", *SCALE)
    assert [row["study"] for row in status["studies"]] == list(ALL_PLOTTED)
    assert all(row["drawn"] == row["figures"] for row in status["studies"])
    assert status["cpu_hours_left"] == 0
    assert len(said_as_json(finished, "efficiency", *SCALE)) > 100
    shown = said_as_json(finished, "show", "results/smoke/dufm")
    assert "results/smoke/dufm/figures/rec_depth.svg" in shown
    assert said_as_json(finished, "check", *SCALE, "--config", "studies=[dufm]", check=False) == [
        {"file": name, "reason": "made by other code or other settings"}
        for name in ("results/smoke/scorecard.parquet", "results/smoke/generalization.parquet")
    ]


def test_every_figure_is_exported(finished, tmp_path):
    names = [row["name"] for row in said_as_json(finished, "export", *SCALE)]
    figures = [f"{study}/{figure}" for study, all_of in ALL_PLOTTED.items() for figure in all_of]
    assert sorted(names[2:]) == sorted(figures)
    file = tmp_path / "f.csv"
    call(finished, "replica", "export", "rec_depth", *SCALE, "-o", str(file))
    table = pd.read_parquet(finished / "results/smoke/dufm/figures/rec_depth.parquet")
    assert len(pd.read_csv(file)) == len(table)
