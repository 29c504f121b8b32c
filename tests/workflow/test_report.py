"""The report of a finished run, opened in a browser."""

import shutil
import subprocess

import pandas as pd
import pytest

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
    snakemake(finished, "--report", str(report.relative_to(finished)))
    assert report.stat().st_size < 40_000_000
    shown = page(report, tmp_path)
    for category in ("dufm", "low_rank", "scorecard"):
        assert category in shown
    text = report.read_text()
    for figures in ALL_PLOTTED.values():
        for figure in figures:
            assert f"{figure}.svg" in text and f"{figure}.parquet" in text
    # Captions say what the paper shows, what was run and what is reconstructed.
    assert "What the paper shows" in text and "no source settles it" in text


def test_the_scorecard_page_shows_every_claim(finished, tmp_path):
    shown = page(finished / "results/smoke/scorecard.html", tmp_path)
    card = pd.read_parquet(finished / "results/smoke/scorecard.parquet")
    assert shown.count("<tr>") == len(card) + 2
    for verdict in card["verdict"].unique():
        assert verdict in shown


def test_the_scorecard_on_the_terminal(finished):
    said = call(finished, "replica", "scorecard", "smoke").stdout
    assert "dufm.c1" in said and "low_rank.c11" in said and "holds" in said
    assert "results/smoke/scorecard.html" in said
