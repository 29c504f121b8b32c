"""The documentation as a site: no broken link, nothing from elsewhere, a gallery and a search."""

import json
import os
import re
import subprocess
import sys

import pytest

from project import ROOT, copy_project

DRAWING = '<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"></svg>'


def build(project):
    return subprocess.run(
        [sys.executable, "-m", "mkdocs", "build"], cwd=project, text=True,
        env=os.environ | {"NO_MKDOCS_2_WARNING": "1"}, capture_output=True, timeout=300,
    )  # fmt: skip


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    project = copy_project(ROOT, tmp_path_factory.mktemp("site") / "project")
    # In place of what `replica redraw` takes minutes for
    drawing = project / ".gallery/laptop/dufm/figures/rec_width.svg"
    drawing.parent.mkdir(parents=True)
    drawing.write_text(DRAWING)
    answer = build(project)
    assert answer.returncode == 0, answer.stderr
    return project


def test_every_page_is_there_and_asks_nothing_of_the_network(project):
    pages = {
        path.relative_to(project / "site").as_posix() for path in project.glob("site/**/*.html")
    }
    written = {path.stem for path in (ROOT / "docs").glob("*.md")}
    assert {
        f"{name}.html" for name in written | {"index", "gallery", "read_a_figure", "settings"}
    } <= pages
    for name in pages:
        text = (project / "site" / name).read_text(encoding="utf-8")
        loaded = re.findall(
            r"<(?:script|link|img|iframe)[^>]*?(?:src|href)=\"((?:https?:)?//[^\"]*)", text
        )
        assert not loaded, name
        # The theme would load a script for it.
        assert 'class="mermaid"' not in text


def test_the_gallery_shows_what_is_drawn(project):
    text = (project / "site/gallery.html").read_text(encoding="utf-8")
    assert text.count("<figure>") == 1 and "Effect of the width on reaching the optimum" in text
    (address,) = set(re.findall(r'src="(drawn/[^"]+)"', text))
    assert (project / "site" / address).read_text() == DRAWING
    assert 'href="dufm.html"' in text


def test_the_search_knows_all_pages(project):
    index = json.loads((project / "site/search/search_index.json").read_text(encoding="utf-8"))
    found = {entry["location"].partition("#")[0] for entry in index["docs"]}
    assert {"index.html", "tutorial.html", "faq.html", "contributing.html", "design.html"} <= found


def test_a_broken_link_stops_the_build(project):
    page = project / "docs/faq.md"
    before = page.read_text(encoding="utf-8")
    page.write_text(before + "\n[one](nowhere.md), [another](data.md#nowhere)\n", encoding="utf-8")
    answer = build(project)
    page.write_text(before, encoding="utf-8")
    assert answer.returncode != 0 and answer.stderr.count("WARNING") == 2, answer.stderr
