"""The report of a finished run, opened in a browser."""

import shutil
import subprocess

import pandas as pd
import pytest
import yaml

from project import ALL_PLOTTED, call, snakemake


def page(path, tmp_path) -> str:
    """The page as the browser has it after its scripts ran."""
    browser = shutil.which("chromium") or shutil.which("chromium-browser")
    if browser is None:
        pytest.skip("needs chromium to open the report")
    options = [
        *["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"],
        *["--disable-component-update", "--no-first-run", f"--user-data-dir={tmp_path}/profile"],
        *["--virtual-time-budget=20000", "--window-size=1600,1200", "--dump-dom"],
    ]
    answer = subprocess.run(
        [browser, *options, path.resolve().as_uri()], capture_output=True, text=True, timeout=120
    )
    return answer.stdout


def test_the_report_holds_every_figure_and_the_scorecard(finished, tmp_path):
    report = finished / "results/smoke/report.html"
    assert report.stat().st_size < 40_000_000
    shown = page(report, tmp_path)
    for category in ("dufm", "low_rank", "scorecard", "generalization"):
        assert category in shown
    text = report.read_text()
    for figures in ALL_PLOTTED.values():
        for figure in figures:
            assert f"{figure}.svg" in text and f"{figure}.parquet" in text
    # Captions say what the paper shows, what was run and what is reconstructed.
    assert "What the paper shows" in text and "no source settles it" in text


MARKUP = "</script><script>document.title='owned'</script><b>`*_|&\n\n.. raw:: html\n\n   <i>x</i>"


def test_markup_in_the_texts_of_a_study_stays_text(finished, tmp_path):
    """Titles, captions and statements are the words of whoever wrote the study's file."""
    project = tmp_path / "project"
    shutil.copytree(finished, project, symlinks=True)
    path = project / "config/studies/dufm.yaml"
    study = yaml.safe_load(path.read_text())
    study["title"] = study["authors"] = MARKUP
    study["figures"] = {
        name: figure | {"title": MARKUP, "shows": MARKUP}
        for name, figure in study["figures"].items()
    }
    study["claims"] = {
        name: claim | {"statement": MARKUP, "source": MARKUP}
        for name, claim in study["claims"].items()
    }
    path.write_text(yaml.safe_dump(study))
    alone = ("studies=[dufm]",)
    snakemake(project, config=alone)
    snakemake(project, "--report", "results/smoke/report.html", config=alone)
    for name in ("report.html", "scorecard.html"):
        shown = page(project / "results/smoke" / name, tmp_path)
        assert "owned" in shown and "<title>owned" not in shown and "<i>x</i>" not in shown


def test_the_scorecard_page_shows_every_claim(finished, tmp_path):
    shown = page(finished / "results/smoke/scorecard.html", tmp_path)
    card = pd.read_parquet(finished / "results/smoke/scorecard.parquet")
    assert shown.count("<tr>") == len(card) + len(ALL_PLOTTED)
    for verdict in card["verdict"].unique():
        assert verdict in shown


def test_the_scorecard_on_the_terminal(finished):
    said = call(finished, "replica", "scorecard", "smoke").stdout
    assert "dufm.c1" in said and "low_rank.c11" in said and "holds" in said
    assert "results/smoke/scorecard.html" in said
