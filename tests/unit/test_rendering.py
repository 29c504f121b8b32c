"""Pages from templates: what belongs to one, and that nothing from elsewhere is markup."""

import jinja2
import pytest

from replica import rendering


def test_the_sources_of_a_page_are_all_that_it_includes():
    found = rendering.sources("index.html")
    assert list(found) == ["base.html", "index.html", "page.js", "parts.html", "sheet.html",
                           "style.css"]  # fmt: skip
    assert "scorecard.html" not in found and "page.js" not in rendering.sources("scorecard.html")
    names = {path.name for path in rendering.FOLDER.iterdir()}
    pages = ["index.html", "study.html", "vega-licence.js", "scorecard.html",
             "generalization.html", "comparison.html"]  # fmt: skip
    assert rendering.sources(*pages).keys() == names


def test_text_is_escaped_and_what_a_page_lacks_is_an_error():
    page = rendering.render("scorecard.html", scale="<b>", summary=[], note="", studies=[])
    assert "&lt;b&gt;" in page and "<b>" not in page
    with pytest.raises(jinja2.UndefinedError, match="studies"):
        rendering.render("scorecard.html", scale="laptop", summary=[], note="")
