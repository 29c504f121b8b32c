"""Tables, panels and claims without a value: what says so, and how."""

from dataclasses import replace
from types import SimpleNamespace

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from project import claim_spec
from replica import drawing, report
from replica.content import NO_DATA, NONE_CONVERGED, why_nothing
from replica.measures.inputs import Inputs, figure_table
from replica.measures.trends import spearman
from replica.verdicts import FAILS, HOLDS, UNDECIDABLE, Undecided, decide, finite, some

TABLE = pd.DataFrame({"panel": "a", "seed": [0, 1], "depth": [2.0, 4.0], "value": [1.0, 10.0]})
NOTHING = [np.nan, np.inf, -np.inf]
WORDS = {"detail": "3 runs"}


@pytest.mark.parametrize("value", NOTHING)
def test_settings_are_no_values(value):
    assert why_nothing(TABLE) == ""
    assert why_nothing(TABLE.assign(value=value)) == NONE_CONVERGED
    assert why_nothing(TABLE.assign(value=[value, 0])) == ""
    assert why_nothing(TABLE.iloc[:0]) == NO_DATA


@pytest.mark.parametrize("value", NOTHING)
@pytest.mark.parametrize("condition", [True, False])
def test_a_value_that_is_no_number_decides_nothing(value, condition):
    verdict = decide(condition, value=value, **WORDS)
    assert (verdict.verdict, verdict.value) == (UNDECIDABLE, None)
    assert verdict.detail == "our value is not a finite number: 3 runs"
    assert decide(condition, value=0.0, **WORDS).verdict == (HOLDS if condition else FAILS)


def test_a_figure_without_any_of_its_runs_has_a_table_without_rows():
    def make(inputs):
        return inputs.measures[["step"]]

    nothing = Inputs("s", "f", "desktop", "scaled", pd.DataFrame(), pd.DataFrame())
    table = figure_table(make, nothing, ["r"])
    assert table.empty and why_nothing(table) == NO_DATA
    assert list(table) == ["study", "figure", "panel", "series", "scale", "status"]
    made = replace(nothing, measures=pd.DataFrame({"step": [1]}))
    assert len(figure_table(make, made, ["r"])) == 1
    # A closed form needs no run.
    assert len(figure_table(lambda inputs: TABLE, nothing, [])) == 2


def claim_of(function, tables):
    claims = {"c1": claim_spec(figures=list(tables))}
    given = {name: table for name, table in tables.items() if table is not None}
    module = SimpleNamespace(claim_c1=function)
    return report.decide_claims("study", claims, given, module).iloc[0]


def test_a_claim_never_sees_a_table_without_a_value():
    def claim(tables):
        raise AssertionError("it was asked")

    for table, why in [
        (TABLE.iloc[:0], "no data in f"),
        (TABLE.assign(value=np.nan), "no run converged in f"),
        (None, "no table of f: its jobs have not finished"),
    ]:
        row = claim_of(claim, {"e": TABLE, "f": table})
        assert (row["verdict"], row["detail"]) == (UNDECIDABLE, why)
        assert np.isnan(row["value"])


def test_a_claim_without_what_it_needs_is_undecided_and_a_mistake_is_not_hidden():
    row = claim_of(lambda tables: some([], "runs of L-RN1"), {"f": TABLE})
    assert (row["verdict"], row["detail"]) == (UNDECIDABLE, "no runs of L-RN1")
    with pytest.raises(ZeroDivisionError):
        claim_of(lambda tables: 1 / 0, {"f": TABLE})


def test_what_a_claim_needs():
    values = pd.Series([1.0, np.nan])
    assert some(values, "loss") is values
    assert finite(values[:1], "loss").tolist() == [1.0]
    with pytest.raises(Undecided, match=r"^not every loss is a finite number$"):
        finite(values, "loss")
    with pytest.raises(Undecided, match=r"^no loss$"):
        finite([], "loss")


def test_pairs_with_nan_have_no_rank():
    assert spearman([1, 2, 3, 4], [1, 2, np.nan, 4]) == 1.0
    assert np.isnan(spearman([1, 2, 3], [np.nan, np.nan, 5]))
    assert np.isnan(spearman([1, 2], [np.nan, np.nan]))


def two_panels(table, published):
    """The first seed on the left, the second on the right; logarithmic, with a line across."""
    figure, axes = plt.subplots(1, 2)
    for seed, ax in enumerate(axes):
        drawing.band(ax, table[table["seed"] == seed], "depth", "value", label="value")
        ax.axhline(1)
        ax.set(yscale="log")
        ax.legend()
    return figure


def words(figure):
    return [[text.get_text() for text in ax.texts] for ax in figure.axes]


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


@pytest.mark.parametrize("value", NOTHING)
def test_a_panel_without_a_value_says_so(value):
    figure = drawing.drawn(two_panels, TABLE.assign(value=[1.0, value]), pd.DataFrame())
    assert words(figure) == [[], [NO_DATA]]
    figure = drawing.drawn(two_panels, TABLE[TABLE["seed"] == 0], pd.DataFrame())
    assert words(figure) == [[], [NO_DATA]]


@pytest.mark.parametrize("log", [False, True])
def test_a_series_of_one_place_shows_its_spread(log):
    """A band over one place has no width: an error bar stands in its place."""
    ax = plt.figure().add_subplot()
    frame = pd.DataFrame({"x": 5.0, "y": [1.0, 10.0, 100.0]})
    drawing.band(ax, frame, "x", "y", log=log)
    (bar,) = ax.collections[0].get_segments()
    wanted = [1, 100] if log else [37 - frame["y"].std(), 37 + frame["y"].std()]
    assert bar[:, 1].tolist() == pytest.approx(wanted) and (bar[:, 0] == 5).all()
    one = plt.figure().add_subplot()
    drawing.band(one, frame[:1], "x", "y")
    assert not one.collections


def test_words_of_a_figure_in_which_no_run_converged():
    table = TABLE.assign(converged=False)
    empty = drawing.drawn(lambda t, p: two_panels(t[t["converged"]], p), table, pd.DataFrame())
    assert words(empty) == [[NONE_CONVERGED], [NONE_CONVERGED]]
    assert words(drawing.drawn(two_panels, TABLE.iloc[:0], pd.DataFrame())) == [[NO_DATA]]
    nothing = TABLE.assign(value=np.nan)
    assert words(drawing.drawn(two_panels, nothing, pd.DataFrame())) == [[NONE_CONVERGED]]


def test_zeros_on_a_logarithmic_axis(recwarn, tmp_path):
    figure = drawing.drawn(two_panels, TABLE.assign(value=[0.0, 10.0]), pd.DataFrame())
    assert words(figure) == [["nothing above 0"], []]
    assert [ax.get_yscale() for ax in figure.axes] == ["linear", "log"]
    drawing.save(figure, tmp_path / "zeros")
    assert not recwarn.list


def bars(ax, frame):
    ax.bar(frame["depth"], frame["value"])


def points(ax, frame):
    ax.scatter(frame["depth"], frame["value"])


def errors(ax, frame):
    ax.errorbar(frame["depth"], frame["value"], yerr=frame["value"])


def image(ax, frame):
    drawing.matrix(ax, frame[["value"]].to_numpy(), "")


def histogram(ax, frame):
    drawing.histogram(ax, frame["value"], bins=3)


@pytest.mark.parametrize("draw", [bars, points, errors, image, histogram])
def test_all_kinds_of_panels_are_looked_through(draw):
    def one_panel(table, published):
        figure, ax = plt.subplots()
        draw(ax, table)
        return figure

    nothing = TABLE.assign(value=np.nan, more=1.0)
    assert words(drawing.drawn(one_panel, nothing, pd.DataFrame()))[0] == [NO_DATA]
    assert words(drawing.drawn(one_panel, TABLE, pd.DataFrame()))[0] == []


def test_ends_of_axes():
    assert [drawing.limit(value) for value in (2, 0, -1, np.nan, np.inf)] == [2.0, *[None] * 4]
