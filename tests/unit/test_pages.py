"""What the pages say, and what makes them anew."""

import json
import re
import shlex
import shutil

import pandas as pd
import pytest

from project import ROOT, copy_project, forget_digests
from replica import pages, provenance, rendering
from replica.configuration import read_settings
from replica.evidence import FOLDER, read_scorecard
from replica.pages import charts, contents
from replica.plan import make_plan, words

SCALE = "laptop"
SIZED = '<svg viewBox="0 0 720 360"></svg>'


@pytest.fixture(scope="module")
def plan():
    return make_plan(ROOT, {"scale": SCALE})


@pytest.fixture(scope="module")
def written(plan, tmp_path_factory):
    """The pages of the evidence, where the drawings of two figures are missing."""
    folder = tmp_path_factory.mktemp("pages")
    evidence = ROOT / FOLDER / SCALE
    missing = {("dufm", "rec_depth"), ("idrs", "xi_functions")}
    every = {(study, figure) for study in plan.studies for figure in plan.studies[study].figures}
    for study, figure in every - missing:
        drawing = folder / study / "figures" / f"{figure}.svg"
        drawing.parent.mkdir(parents=True, exist_ok=True)
        drawing.write_text(SIZED, encoding="utf-8")
    card = read_scorecard(evidence / "scorecard.csv")
    pages.write(
        plan, card, every - missing, evidence, folder, key="k", others=["scorecard.html"]
    )  # fmt: skip
    return folder


def text_of(written, name):
    return (written / name).read_text(encoding="utf-8")


def test_every_claim_figure_and_published_number_is_on_the_pages(plan, written):
    front = text_of(written, "index.html")
    for slug, study in plan.studies.items():
        page = text_of(written, f"{slug}/index.html")
        for figure in study.figures:
            assert f'id="{figure}"' in page and f'href="{slug}/index.html#{figure}"' in front
        for claim in study.claims:
            assert f'id="claim-{claim}"' in page and f"<code>{slug}.{claim}</code>" in front
        numbers = pd.read_csv(ROOT / f"config/published/{slug}.csv")
        assert page.count('<tr class="pair">') == len(numbers), slug


def test_missing_figures_are_named(written):
    front = text_of(written, "index.html")
    assert "<strong>Incomplete.</strong> 2 figures were not made" in front
    assert 'href="dufm/index.html#rec_depth">dufm/rec_depth</a>' in front
    assert "This figure was not made" in text_of(written, "dufm/index.html")
    assert "Incomplete" not in text_of(written, "mol/index.html")
    # Its numbers stay, without ours.
    assert "GD final loss" in text_of(written, "dufm/index.html")


def test_links_lead_to_files_and_nothing_is_asked_of_a_network(written):
    files = set(pages.files(make_plan(ROOT, {"scale": SCALE})))
    for name in files - {pages.CHARTS}:
        page = written / name
        text = page.read_text(encoding="utf-8")
        ids = set(re.findall(r' id="([^"]+)"', text))
        for name, link in re.findall(r'(href|src)="([^"]+)"', text):
            path, _, anchor = link.partition("#")
            if name == "href" and link.startswith("https://arxiv.org/abs/"):
                continue
            assert not re.match(r"(https?:)?//", link), link
            if path and not path.startswith("data:") and path != "../scorecard.html":
                assert path == "scorecard.html" or (page.parent / path).exists(), link
            assert path or anchor in ids, link
    assert "window.vegaEmbed" in text_of(written, pages.CHARTS)


def test_tables_of_a_readable_size_are_there_as_csv(written):
    table = pd.read_csv(written / "dufm/figures/rec_width.csv")
    own = pd.read_parquet(ROOT / FOLDER / SCALE / "dufm/figures/rec_width.parquet")
    assert list(table.columns) == list(own.columns) and len(table) == len(own)
    assert table["final_loss"].dropna().tolist() == own["final_loss"].dropna().tolist()
    long = written / "agop/figures/fig5_gram_cos"
    assert long.with_suffix(".svg").exists() and not long.with_suffix(".csv").exists()
    assert 'width="720" height="360"' in text_of(written, "dufm/index.html")


def test_the_command_of_a_figure_is_one_that_a_shell_reads_right():
    overrides = {"dufm": {"rec_width": {"lr": 0.05}}}
    plan = make_plan(ROOT, {"scale": "smoke", "studies": ["dufm"], "overrides": overrides})
    command = contents._command(plan, "dufm", "rec_width")
    given = shlex.split(command)
    assert given[:3] == [
        ".venv/bin/snakemake", "results/smoke/dufm/figures/rec_width.svg", "--config"
    ]  # fmt: skip
    again = read_settings(ROOT, given[3:])
    assert make_plan(ROOT, again.values).artifacts() == plan.artifacts()


def test_places_are_links_where_a_repository_is_named(tmp_path, monkeypatch):
    shutil.copytree(ROOT / "config/studies", tmp_path / "config/studies")
    (tmp_path / "CITATION.cff").write_text("repository-code: https://example.org/replica/\n")
    monkeypatch.setattr(contents, "git_commit", lambda root: "0123456789ab+")
    link = contents.Links(tmp_path).to_settings("dufm", "rec_width")
    lines = (ROOT / "config/studies/dufm.yaml").read_text(encoding="utf-8").splitlines()
    line = int(link["text"].rpartition(":")[2])
    assert lines[line - 1] == "  rec_width:" and lines[line].strip().startswith("title:")
    assert link["url"] == (
        f"https://example.org/replica/blob/0123456789ab/config/studies/dufm.yaml#L{line}"
    )
    here = contents.Links(ROOT).to_function("dufm", "draw_rec_width")
    assert re.fullmatch(r"workflow/replica/studies/dufm\.py:\d+ draw_rec_width", here["text"])
    assert here["url"] == ""


PAIRS = pd.DataFrame(
    {"study": "s", "figure": "f", "series": ["a", "a", "a", "b"], "x": ["1", "2", "3", "1"],
     "published": [0.1, 0.2, 0.3, 0.4], "published_err": [0.1, None, None, None],
     "kind": "published", "source": "Table </script>", "ours": [0.1, None, 0.5, None],
     "ours_sd": None, "difference": [0.0, None, 0.2, None], "status": "", "data": ""}
).astype({"published_err": float, "ours": float, "ours_sd": float, "difference": float})  # fmt: skip


def test_charts_are_what_vega_lite_reads():
    import vl_convert

    curves = charts.beside(PAIRS)
    assert len(curves["data"]["values"]) == 6 and curves["data"]["values"][0]["low"] == 0.0
    dots = charts.beside(PAIRS.assign(x="end of training"))
    assert dots["height"] == 2 * charts.ROW
    assert charts.beside(PAIRS.assign(published=float("nan"), ours=float("nan"))) is None
    assert charts.against(PAIRS.assign(ours=float("nan"))) is None
    for chart in (curves, dots, charts.against(PAIRS)):
        assert vl_convert.vegalite_to_vega(json.loads(json.dumps(chart)))["marks"]


@pytest.fixture
def changed(tmp_path, monkeypatch):
    """Edits a file of a copy of the project; returns the plan of it."""
    project = copy_project(ROOT, tmp_path / "project")
    monkeypatch.setattr(provenance, "LIBRARY", project / "workflow/replica")
    monkeypatch.setattr(rendering, "FOLDER", project / "workflow/replica/templates")

    def edit(name, old, new):
        path = project / name
        text = path.read_text(encoding="utf-8")
        assert old in text
        path.write_text(text.replace(old, new, 1), encoding="utf-8")
        forget_digests()
        return make_plan(project, {"scale": "smoke", "studies": ["dufm"]})

    yield edit
    forget_digests()


@pytest.mark.parametrize(
    "name, old, new, again",
    [
        ("config/studies/dufm.yaml", "Effect of the width", "The effect of the width", True),
        ("config/studies/dufm.yaml", "authors: S", "authors: s", True),
        ("workflow/replica/templates/style.css", "99px", "9px", True),
        ("workflow/replica/pages/contents.py", '"on evidence"', '"on runs"', True),
        ("workflow/replica/pages/contents.py", "def _claim(", "# a comment\n\n\ndef _claim(", False),
        ("config/config.yaml", "jobs_per_gpu: 4", "jobs_per_gpu: 2", False),
        ("config/published/mol.csv", "0.5,", "0.6,", False),
    ],
)  # fmt: skip
def test_what_makes_the_pages_anew(changed, name, old, new, again):
    before = make_plan(ROOT, {"scale": "smoke", "studies": ["dufm"]})
    key, others = before.key("pages"), before.artifacts()
    after = changed(name, old, new)
    assert (after.key("pages") != key) is again
    moved = {path for path, key in after.artifacts().items() if key != others[path]}
    # The pages that other jobs make have the same style.
    styled = ["scorecard", "generalization"] if name.endswith("style.css") else []
    assert moved == {f"results/smoke/{page}.parquet" for page in styled}


@pytest.mark.parametrize("scale", ["smoke", "paper"])
def test_no_two_figures_of_a_study_have_one_label(scale):
    """The report of the workflow lists figures by their labels."""
    plan = make_plan(ROOT, {"scale": scale})
    for slug, study in plan.studies.items():
        labels = {words.label(plan, slug, figure) for figure in study.figures}
        assert len(labels) == len(study.figures), slug
        assert not any(set(label) & set("{}<>") for label in labels)
    assert words.label(plan, "dufm", "rec_width") == "Effect of the width on reaching the optimum"
