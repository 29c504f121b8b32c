"""The pages of a scale: a front page, and a page a paper, beside the figures that they show.

They can be served, or copied with the folder that they lie in: links are relative, style and
scripts are within each page, and no network is ever asked for anything. Only the library that draws
charts is a file of its own, `vega.js`.
"""

import math
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from replica import artifacts, rendering
from replica.pages import contents
from replica.plan import Plan
from replica.provenance import git_commit
from replica.published import published_beside_ours

FRONT = "index.html"
CHARTS = "vega.js"
# Pages that other jobs make, and what to call them.
BESIDE = {
    "scorecard.html": "scorecard",
    "scorecard.partial.html": "scorecard",
    "generalization.html": "trained networks",
    "report.html": "report of the workflow",
}
# The key of pages of an incomplete run.
INCOMPLETE = "incomplete"


def files(plan: Plan) -> list[str]:
    """The pages of a plan below the folder of its scale: the front page is the first."""
    return [FRONT, CHARTS, *(f"{study}/{FRONT}" for study in plan.studies)]


def write(
    plan: Plan,
    card: pd.DataFrame,
    made: contents.Made,
    results: Path,
    folder: Path,
    *,
    key: str,
    others: Sequence[str],
    note: str = "",
) -> None:
    """Write all pages, and each figure table of a readable size as CSV.

    Args:
        plan: of the scale.
        card: the scorecard.
        made: (study, figure) of the figures that are there; all others are named as missing.
        results: where their tables are, in `<study>/figures`.
        folder: where the pages go; the drawings are there in `<study>/figures`.
        key: what the pages are marked with.
        others: files of `BESIDE` that are there, or will be.
        note: a sentence on the whole, such as that of `artifacts.side_by_side`.

    Raises:
        CorruptArtifact: a table is damaged.
        CannotWrite: see `artifacts.atomic`.
    """
    pairs = published_beside_ours(plan.root, results, plan.studies)
    # Of a figure that is missing here, an earlier table may be there.
    gone = [names not in made for names in zip(pairs["study"], pairs["figure"], strict=True)]
    pairs.loc[gone, ["ours", "ours_sd", "difference"]] = math.nan
    pairs.loc[gone, ["status", "data"]] = ""
    commit = git_commit(plan.root)
    every = {
        "scale": plan.config.label,
        "results": plan.results,
        "commit": commit,
        "others": {file: BESIDE[file] for file in others},
        "note": note,
    }
    studies = [
        contents.study(plan, slug, card, made, results, folder, pairs) for slug in plan.studies
    ]
    pages = {f"{each['slug']}/{FRONT}": ("study.html", {"study": each}) for each in studies}
    pages[FRONT] = ("index.html", contents.index(studies, pairs))
    for name, (template, says) in pages.items():
        up = "../" * name.count("/")
        text = rendering.render(template, **every, **says, up=up)
        artifacts.write_bytes(folder / name, text.encode())
        artifacts.mark(folder / name, key=key, commit=commit)
    licence = rendering.render("vega-licence.js")
    artifacts.write_bytes(folder / CHARTS, f"{licence}\n{_library_of_charts()}".encode())


def _library_of_charts() -> str:
    """Vega, Vega-Lite and vega-embed as one script, from the package vl-convert-python."""
    # Imported here: nobody needs it who makes no page.
    import vl_convert

    return vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;")
