"""Every figure and every claim has an answer where nothing converged.

The finished smoke run's figure tables are taken, and their values replaced: by nothing, NaN,
infinities and zeros; one seed is left, or a panel or a series is missing.
"""

import warnings
from collections.abc import Iterator
from importlib import import_module

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from project import ALL_PLOTTED, claim_spec
from replica import artifacts, drawing, report
from replica.content import COORDINATES, NO_DATA, NONE_CONVERGED
from replica.settings.load import load_studies
from replica.verdicts import HOLDS, UNDECIDABLE

FIGURES = [(study, figure) for study, figures in ALL_PLOTTED.items() for figure in figures]
# Their first values are named like settings of other studies.
MEASURED_TOO = {"gradient_gate": ["norm"], "fig3_right_dnc_probability": ["share"]}
WORDS = {NO_DATA, NONE_CONVERGED}


@pytest.fixture(scope="module")
def tables(finished):
    """Figure tables by study and figure."""
    folder = finished / "results/smoke"
    return {
        (study, figure): artifacts.read_table(folder / study / f"figures/{figure}.parquet")
        for study, figure in FIGURES
    }


@pytest.fixture(scope="module")
def claims(root):
    """Claim by study and name: what its figures are."""
    studies = load_studies(root / "config/studies")
    return {
        (study, name): claim_spec(**claim.model_dump())
        for study, spec in studies.items()
        for name, claim in spec.claims.items()
    }


def with_values(table: pd.DataFrame, figure: str, value: float, rows=slice(None)) -> pd.DataFrame:
    """The table with what was measured replaced, in some rows."""
    measured = table.select_dtypes("number").columns.difference(COORDINATES)
    columns = [*measured, *MEASURED_TOO.get(figure, [])]
    changed = table.astype(dict.fromkeys(columns, float))
    changed.loc[rows, columns] = value
    return changed


def without_values(table: pd.DataFrame, figure: str) -> dict[str, pd.DataFrame]:
    return {
        "no rows": table.iloc[:0],
        "NaN": with_values(table, figure, np.nan),
        "inf": with_values(table, figure, np.inf),
        "-inf": with_values(table, figure, -np.inf),
    }


def with_some_values(table: pd.DataFrame, figure: str) -> Iterator[tuple[str, pd.DataFrame]]:
    yield "zeros", with_values(table, figure, 0.0)
    yield "one seed", table[table["seed"].isin([-1, table.loc[table["seed"] >= 0, "seed"].min()])]
    yield "without the first series", table[table["series"] != table["series"].iloc[0]]
    panels = list(table["panel"].unique())
    # Those between are drawn by the same lines as one of these.
    for panel in {panels[0], panels[-1]} if len(panels) > 1 else []:
        yield f"without panel {panel}", table[table["panel"] != panel]
    yield "first panel NaN", with_values(table, figure, np.nan, table["panel"] == panels[0])


def panels_in_words(figure) -> list[str]:
    return [text.get_text() for ax in figure.axes for text in ax.texts]


@pytest.mark.parametrize("study", ALL_PLOTTED)
def test_every_figure_is_drawn_whatever_its_table_holds(study, tables, root):
    module = import_module(f"replica.studies.{study}")
    published = pd.read_csv(root / f"config/published/{study}.csv")
    drawing.apply_style()
    seen = set()
    for figure in ALL_PLOTTED[study]:
        own, draw = published[published["figure"] == figure], getattr(module, f"draw_{figure}")
        table = tables[study, figure]
        for what, changed in without_values(table, figure).items():
            if "inf" in what and draw in seen:
                continue
            drawn = drawing.drawn(draw, changed, own)
            assert WORDS & set(panels_in_words(drawn)), (figure, what)
            plt.close(drawn)
        for what, changed in with_some_values(table, figure):
            # Many figures of a study may be drawn by one function.
            if what != "zeros" and draw in seen:
                continue
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                try:
                    drawn = drawing.drawn(draw, changed, own)
                    if what == "zeros":
                        drawn.draw_without_rendering()
                except Exception as error:
                    raise AssertionError(f"{figure}, {what}") from error
            plt.close(drawn)
        seen.add(draw)


@pytest.mark.parametrize("study", ALL_PLOTTED)
def test_no_claim_is_decided_by_what_is_not_there(study, tables, claims):
    module = import_module(f"replica.studies.{study}")
    for (of, claim), spec in claims.items():
        if of != study:
            continue
        if any((study, figure) not in tables for figure in spec["figures"]):
            # Photographs alone decide it, and nothing of them is made at the smoke scale.
            assert (study, claim) == ("idrs", "c9")
            continue
        own = {figure: tables[study, figure].assign(scale="paper") for figure in spec["figures"]}

        def verdict(changed, claim=claim, spec=spec):
            return report.decide_claims(study, {claim: spec}, changed, module).iloc[0]

        empties = {figure: without_values(table, figure) for figure, table in own.items()}
        for what in ("no rows", "NaN", "inf", "-inf"):
            row = verdict({figure: empty[what] for figure, empty in empties.items()})
            assert (row["verdict"], np.isnan(row["value"])) == (UNDECIDABLE, True), (claim, what)
            assert NO_DATA in row["detail"] or NONE_CONVERGED in row["detail"], (claim, what)
        zeros = verdict({name: with_values(table, name, 0.0) for name, table in own.items()})
        assert zeros["verdict"] != HOLDS, (claim, zeros["detail"])
        for figure, table in own.items():
            for what, changed in with_some_values(table, figure):
                row = verdict(own | {figure: changed})
                decided = row["verdict"] != UNDECIDABLE
                assert np.isfinite(row["value"]) or not decided, (claim, figure, what)
                assert row["detail"], (claim, figure, what)
