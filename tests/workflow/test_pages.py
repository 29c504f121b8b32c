"""The pages of a finished run, in a browser: on a phone and on a desk, in the light and in the dark."""

import shutil
from contextlib import contextmanager
from itertools import pairwise

import pandas as pd
import pytest
import yaml
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import sync_playwright

from project import ALL_PLOTTED, PAGES, planned, snakemake

# Among them one with many published numbers, one with few.
NAMES = ["index.html", "dufm/index.html", "idrs/index.html"]
PHONE, DESK = 390, 1400


@pytest.fixture(scope="module")
def browser():
    path = shutil.which("chromium") or shutil.which("chromium-browser")
    if path is None:
        pytest.skip("needs chromium to open the pages")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def opened(browser, finished):
    """Opens a page; fails at the end if the browser complained, or asked a network for anything."""

    @contextmanager
    def page(name, width=DESK, **options):
        size = {"width": width, "height": 900}
        context = browser.new_context(viewport=size, **options)
        shown = context.new_page()
        said, asked = [], []
        shown.on("console", lambda message: said.append(message.text))
        shown.on("pageerror", lambda error: said.append(str(error)))
        shown.on("requestfailed", lambda request: said.append(f"failed: {request.url}"))
        shown.on("request", lambda request: asked.append(request.url))
        shown.goto((finished / "results/smoke" / name).as_uri())
        yield shown
        assert said == []
        assert [url for url in asked if not url.startswith(("file:", "data:"))] == []
        context.close()

    return page


def open_all(shown):
    """Open every part that is folded away, and wait until the charts in view are drawn."""
    shown.evaluate("document.querySelectorAll('details').forEach(part => { part.open = true; })")
    shown.locator("[data-chart]").first.scroll_into_view_if_needed()
    shown.wait_for_selector(".vega-embed svg")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [PHONE, DESK])
@pytest.mark.parametrize("name", NAMES)
def test_a_page_fits_and_all_can_read_it(opened, name, width, scheme, tmp_path):
    with opened(name, width, color_scheme=scheme) as shown:
        open_all(shown)
        assert shown.evaluate("document.documentElement.scrollWidth") == width
        found = Axe().run(shown)
        assert found.violations_count == 0, found.generate_report()
        levels = shown.eval_on_selector_all(
            "h1, h2, h3, h4", "all => all.map(one => Number(one.tagName[1]))"
        )
        assert levels[0] == 1 and levels.count(1) == 1
        assert all(b - a <= 1 for a, b in pairwise(levels))
        shot = tmp_path / "shot.png"
        shown.screenshot(path=shot)
        assert shot.stat().st_size > 10_000


def test_every_drawing_and_number_is_shown(opened):
    for study, figures in ALL_PLOTTED.items():
        with opened(f"{study}/index.html") as shown:
            drawings = shown.locator(".figure img")
            assert drawings.count() == len(figures)
            for drawing in drawings.all():
                drawing.scroll_into_view_if_needed()
                loaded = "one => one.decode().then(() => one.naturalWidth)"
                assert drawing.evaluate(loaded) > 100
            numbers = pd.read_csv(f"config/published/{study}.csv")
            assert shown.locator("tr.pair").count() == len(numbers)


def test_search_and_filters(opened, finished):
    card = pd.read_parquet(finished / "results/smoke/scorecard.parquet")
    with opened("index.html") as shown:
        claims, figures = shown.locator(".claims-list > li"), shown.locator(".gallery > li")
        everything = sum(map(len, ALL_PLOTTED.values()))
        assert (claims.count(), figures.count()) == (len(card), everything)
        visible = shown.locator(".claims-list > li:visible")
        shown.get_by_label("holds", exact=True).check()
        assert visible.count() == (card["verdict"] == "holds").sum()
        shown.get_by_label("a proof").check()
        proven = (card["verdict"] == "holds") & (card["rests_on"] == "proof")
        assert visible.count() == proven.sum() > 0
        shown.get_by_label("all", exact=True).check()
        shown.get_by_label("both").check()
        shown.get_by_label("Search claims and figures").fill("WIDTH optimum")
        assert shown.locator(".gallery > li:visible").count() < everything
        assert "rec_width" in shown.locator(".gallery > li:visible").first.inner_text()
        assert "claims and" in shown.locator("#found").inner_text()
        shown.get_by_label("Search claims and figures").fill("no such words")
        assert shown.locator("#found").inner_text() == "0 claims and 0 figures"


def test_the_keyboard_is_enough(opened):
    with opened("index.html") as shown:
        shown.keyboard.press("Tab")
        assert shown.evaluate("document.activeElement.textContent") == "Skip to the content"
        assert shown.locator(".skip").bounding_box()["x"] >= 0
        shown.keyboard.press("Enter")
        shown.keyboard.press("Tab")
        assert shown.evaluate("document.activeElement.closest('main') !== null")
        outline = "getComputedStyle(document.activeElement).outlineStyle"
        assert shown.evaluate(outline) == "solid"
        shown.keyboard.press("Enter")
        assert shown.locator("h1").inner_text() != "" and "index.html" in shown.url


def test_without_scripts_everything_is_there(opened, finished):
    card = pd.read_parquet(finished / "results/smoke/scorecard.parquet")
    with opened("index.html", java_script_enabled=False) as shown:
        assert shown.locator(".claims-list > li:visible").count() == len(card)
        assert not shown.locator(".filters").is_visible()
    with opened("dufm/index.html", java_script_enabled=False) as shown:
        shown.locator(".claim summary").first.click()
        assert shown.get_by_text("Decision rule").first.is_visible()
        shown.locator(".beside summary").first.click()
        assert shown.locator("tr.pair").first.is_visible()


def test_on_paper_nothing_is_folded_away(opened):
    with opened("dufm/index.html") as shown:
        shown.evaluate("dispatchEvent(new Event('beforeprint'))")
        shown.emulate_media(media="print")
        assert shown.locator("details:not([open])").count() == 0
        assert not shown.locator(".jumps").is_visible()
        assert shown.pdf(format="A4")[:5] == b"%PDF-"


def test_other_words_make_the_pages_anew_and_nothing_else(finished, tmp_path):
    project = shutil.copytree(finished, tmp_path / "project", symlinks=True)
    path = project / "config/studies/dufm.yaml"
    study = yaml.safe_load(path.read_text(encoding="utf-8"))
    markup = "</script><script>document.title='owned'</script>{{ 7 * 7 }}<b>"
    study["figures"]["rec_width"]["title"] = study["authors"] = markup
    path.write_text(yaml.safe_dump(study), encoding="utf-8")
    assert planned(project) == {PAGES}
    snakemake(project)
    assert planned(project) == set()
    page = (project / "results/smoke/dufm/index.html").read_text(encoding="utf-8")
    assert "{{ 7 * 7 }}" in page and "<script>document" not in page
