"""Evidence of a finished run: drawings and verdicts from it are those of the run, byte for byte."""

import pandas as pd
import pytest

from project import ALL_PLOTTED, call, copy_project
from replica import artifacts
from replica.evidence import read_scorecard
from replica.plan import make_plan, size_of

# With trained networks, closed forms, published numbers and synthetic problems; all of them take minutes.
STUDIES = ("dufm", "low_rank", "mol")


@pytest.fixture(scope="module")
def visited(finished, tmp_path_factory):
    """A clone with the evidence of the run, and without any result."""
    clone = copy_project(finished, tmp_path_factory.mktemp("visited") / "project")
    said = call(finished, "replica", "evidence", "--scale", "smoke").stdout
    assert all(f"{study}: collected" in said for study in ALL_PLOTTED)
    (finished / "docs/evidence/smoke").rename(clone / "docs/evidence/smoke")
    return clone


def test_nothing_has_moved_in_a_clone(visited):
    answer = call(visited, "replica", "evidence", "--check", "--scale", "smoke")
    assert answer.stdout == ""


def test_drawings_and_verdicts_are_those_of_the_run(finished, visited, tmp_path):
    chosen = f"studies=[{','.join(STUDIES)}]"
    drawn = tmp_path / "drawn"
    call(visited, "replica", "redraw", str(drawn), "--scale", "smoke", "--config", chosen)
    ran = finished / "results/smoke"
    files = [
        f"{study}/figures/{figure}.{ending}"
        for study in STUDIES
        for figure in ALL_PLOTTED[study]
        for ending in ("svg", "pdf")
    ]
    there = {str(path.relative_to(drawn)) for path in drawn.glob("*/figures/*")}
    assert {name for name in there if not name.endswith(".csv")} == set(files)
    for study in STUDIES:
        page = (drawn / study / "index.html").read_text(encoding="utf-8")
        assert all(f'src="figures/{figure}.svg"' in page for figure in ALL_PLOTTED[study])
    other = [
        name
        for name in files
        if artifacts.content_digest(drawn / name) != artifacts.content_digest(ran / name)
    ]
    assert other == []
    card = artifacts.read_table(ran / "scorecard.parquet")
    own = card[card["study"].isin(STUDIES)].reset_index(drop=True)
    pd.testing.assert_frame_equal(read_scorecard(drawn / "scorecard.csv"), own, check_dtype=False)


def test_the_evidence_names_every_job_that_made_states(finished, visited):
    plan = make_plan(finished, {"scale": "smoke"})
    for study in plan.studies:
        runs = pd.read_csv(visited / f"docs/evidence/smoke/{study}/runs.csv", dtype=str)
        parts = [part for part in plan.parts.values() if part.study == study]
        keys = [plan.key("train", study, part.run, part.part) for part in parts]
        assert runs["key"].tolist() == keys
        assert runs["device"].str.startswith("cpu").all()


def test_the_disk_that_a_plan_says_is_what_its_states_took(finished):
    plan = make_plan(finished, {"scale": "smoke"})
    for study in plan.studies:
        pairs = []
        for part in plan.parts.values():
            if part.study == study:
                # A file of a hundred numbers is mostly its stamp and the names of its tensors.
                pairs.append((size_of(part) + 3000, (finished / plan.states(part)).stat().st_size))
        said, took = (sum(sizes) for sizes in zip(*pairs, strict=True))
        assert 1 / 1.6 < said / took < 1.6, study
        wrong = [pair for pair in pairs if pair[1] > 2e5 and not 1 / 1.5 < pair[0] / pair[1] < 1.5]
        assert wrong == [], study
