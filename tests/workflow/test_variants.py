"""Settings with a name: only what differs is trained, and going back makes nothing."""

import json
import shutil

import yaml

from project import call, planned, snakemake

OTHER = ("studies=[dufm]", "name=other-lr", "overrides={dufm: {rec_width: {lr: 0.08}}}")
CHANGED = {"rec_width-width8", "rec_width-width32"}


def test_one_change_beside_another(finished, tmp_path):
    project = shutil.copytree(finished, tmp_path / "project", symlinks=True)
    folder = project / "results/smoke-other-lr"
    call(project, "replica", "launch", "--scale", "smoke", "--config", *OTHER)
    logs = {path.parent.name: path.read_text() for path in folder.glob("logs/train_run/*/*/*.log")}
    runs = {path.name for path in project.glob("results/smoke/dufm/runs/*")}
    assert set(logs) == runs > CHANGED
    assert {run for run, text in logs.items() if "taken from results/store" not in text} == CHANGED
    settings = yaml.safe_load((folder / "settings.yaml").read_text())
    assert settings["name"] == "other-lr" and settings["studies"] == ["dufm"]
    assert "scale smoke-other-lr" in (folder / "scorecard.html").read_text()
    assert "results/smoke-other-lr/dufm" in (folder / "report.html").read_text()

    # Back to the settings without a name, and to those with it: nothing is to be done.
    assert planned(project) == set()
    again = snakemake(project, "-n", config=OTHER)
    assert "Nothing to be done" in again.stdout + again.stderr
    for config in ([], ["--config", *OTHER]):
        assert call(project, "replica", "check", "--scale", "smoke", *config).stdout == ""
    # States of both are kept as long as the folder says which settings it is of.
    assert "Every stored state is needed." in call(project, "replica", "clean").stdout
    (folder / "settings.yaml").rename(tmp_path / "settings.yaml")
    answer = call(project, "replica", "clean", "--dry-run")
    assert answer.stdout.count("results/store/") == len(CHANGED)
    assert "results/smoke-other-lr: the settings behind it are not known" in answer.stderr

    answer = call(project, "replica", "diff", "smoke", "other-lr", "--json", check=False)
    found = json.loads(answer.stdout)
    assert answer.returncode == 1 and {row["figure"] for row in found["numbers"]} == {"rec_width"}
    assert {(row["run"], row["key"], row["a"], row["b"]) for row in found["settings"]} == {
        (run, "lr", 0.1, 0.08) for run in CHANGED
    }
    assert call(project, "replica", "diff", "other-lr", "other-lr").stdout.endswith("moved.\n")


def test_other_seeds_alone_move_no_verdict_beyond_their_spread(finished, tmp_path):
    project = shutil.copytree(finished, tmp_path / "project", symlinks=True)
    for name, seeds in [("four", 4), ("seven", 7)]:
        snakemake(project, "dufm", config=("studies=[dufm]", f"name={name}", f"seeds={seeds}"))
    answer = call(project, "replica", "diff", "four", "seven", "--json", check=False)
    found = json.loads(answer.stdout)
    assert answer.returncode == 1 and len(found["numbers"]) > 10
    assert {row["key"] for row in found["settings"]} == {"seeds"}
    assert "beyond" not in {row["moved"] for row in found["verdicts"]}
    assert "beyond" not in {row["moved_by"] for row in found["numbers"]}
