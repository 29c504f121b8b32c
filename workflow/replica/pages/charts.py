"""Charts of published numbers beside ours, as Vega-Lite specifications.

A colour that begins with `--` is a variable of the style sheet, which `page.js` looks up: it is
another one in the dark.
"""

import math
from typing import Any

import pandas as pd

SCHEMA = "https://vega.github.io/schema/vega-lite/v6.json"
# Published numbers are hollow and ours are filled, so that they differ without colours too.
WHO = ["published", "ours"]
SHAPES = {"domain": WHO, "range": ["circle", "diamond"]}
FEWEST_FOR_LINES = 3
# Where the largest number is this many times the smallest one, a linear axis shows only the former.
WIDE = 100
# Pixels of a row of dots.
ROW = 19
# Of ours, in units of the largest published number of a figure.
LOWEST, HIGHEST = -1.5, 2.0


def beside(pairs: pd.DataFrame) -> dict[str, Any] | None:
    """The chart of one figure; None where no number of it is finite.

    Args:
        pairs: rows of one figure, as `replica.published.published_beside_ours` gives them.
    """
    points = _points(pairs)
    if not points:
        return None
    at = pd.to_numeric(pairs["x"], errors="coerce")
    longest = pairs.groupby("series")["x"].nunique().max()
    if at.notna().all() and longest >= FEWEST_FOR_LINES:
        for point in points:
            point["x"] = float(point["x"])
        return _chart(points) | {"height": 320, "layer": _lines(points)}
    several = pairs.groupby("series")["x"].nunique().gt(1).any()
    for point in points:
        point["row"] = f"{point['series']}, {point['x']}" if several else point["series"]
    height = ROW * len({point["row"] for point in points})
    return _chart(points) | {"height": height, "layer": _dots(points)}


def against(pairs: pd.DataFrame) -> dict[str, Any] | None:
    """All numbers that have one of ours, ours against the published; None where there are none.

    Both are divided by the largest published number of their figure: figures have units of their
    own.
    """
    largest = pairs["published"].abs().groupby([pairs["study"], pairs["figure"]]).transform("max")
    both = pairs.assign(a=pairs["published"] / largest, b=pairs["ours"] / largest)
    both = both.replace([math.inf, -math.inf], math.nan).dropna(subset=["a", "b"])
    if both.empty:
        return None
    values = [_place(row) for row in both.itertuples()]
    tooltip = ["paper", "figure", "series", "x", "published", "ours"]
    x = _axis("a", "published (the largest of its figure is 1)")
    y = _axis("b", "ours")
    points = {
        "params": [_by_legend("paper"), ZOOM],
        "mark": {"type": "point", "filled": True, "size": 46},
        "encoding": {
            "x": x,
            "y": y,
            "color": {"field": "paper", "scale": {"scheme": "tableau10"}},
            "shape": {"field": "paper"},
            "opacity": _faded("paper"),
            "tooltip": [{"field": name} for name in tooltip],
        },
    }
    ends = [{"a": low, "b": low} for low in (min(0.0, both["a"].min()), 1)]
    diagonal = {
        "data": {"values": ends},
        "mark": {"type": "line", "strokeDash": [5, 4], "color": "--muted", "strokeWidth": 1},
        "encoding": {"x": x, "y": y},
    }
    return _chart(values) | {"height": 380, "layer": [diagonal, points]}


def _place(row: Any) -> dict[str, Any]:
    named = {"paper": row.study, "figure": row.figure, "series": row.series, "x": row.x}
    # What is far outside is put at the edge, so that the rest can be seen; the tooltip has it.
    at = {"a": row.a, "b": min(max(row.b, LOWEST), HIGHEST)}
    return named | {"published": row.published, "ours": row.ours} | at


def _points(pairs: pd.DataFrame) -> list[dict[str, Any]]:
    """A point a number: the published ones, and ours where there are any."""
    points = []
    row: Any
    for row in pairs.itertuples():
        facts = {"series": row.series, "x": row.x}
        for who, y, error in [
            ("published", row.published, row.published_err),
            ("ours", row.ours, row.ours_sd),
        ]:
            if math.isfinite(y):
                source = f"{row.kind}: {row.source}" if who == "published" else row.data
                point = facts | {"who": who, "y": y, "from": source}
                if math.isfinite(error):
                    point |= {"low": y - error, "high": y + error}
                points.append(point)
    return points


def _chart(values: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "$schema": SCHEMA,
        "width": "container",
        "data": {"values": values},
    }


ZOOM = {"name": "zoom", "select": "interval", "bind": "scales"}
TOOLTIP = [
    {"field": "series"},
    {"field": "x"},
    {"field": "y", "title": "value"},
    {"field": "who", "title": "whose"},
    {"field": "from", "title": "source"},
]


def _by_legend(field: str) -> dict[str, Any]:
    """A click on the legend picks what it names."""
    return {"name": "picked", "select": {"type": "point", "fields": [field]}, "bind": "legend"}


def _faded(field: str) -> dict[str, Any]:
    return {"condition": {"param": "picked", "value": 0.95}, "value": 0.08}


def _axis(field: str, title: str, **scale: Any) -> dict[str, Any]:
    return {
        "field": field,
        "type": "quantitative",
        "title": title,
        "axis": {"tickCount": 8},
        "scale": {"zero": False, **scale},
    }


def _whose(color: dict[str, Any]) -> dict[str, Any]:
    """Hollow circles are published, filled diamonds are ours."""
    filled = {"test": "datum.who === 'ours'", **color, "legend": None}
    return {
        "color": color,
        "shape": {"field": "who", "scale": SHAPES, "title": None},
        "fill": {"condition": filled, "value": "transparent"},
        "tooltip": TOOLTIP,
    }


def _errors(points: list[dict[str, Any]], encoding: dict[str, Any]) -> list[dict[str, Any]]:
    """The layer of error bars, where there are any."""
    if not any("low" in point for point in points):
        return []
    known = {"filter": "isValid(datum.low)"}
    return [{"mark": "rule", "transform": [known], "encoding": encoding}]


def _lines(points: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Curves over a numeric place, a colour a series."""
    x, y = _axis("x", "x"), _axis("y", "value")
    color = {"field": "series", "scale": {"scheme": "tableau10"}, "title": "series (click to pick)"}
    # Of one title with the shapes, so that both are one legend.
    dash = {"field": "who", "scale": {"domain": WHO, "range": [[4, 3], [1, 0]]}, "title": None}
    picked = {"opacity": _faded("series")}
    low, high = _axis("low", "value"), {"field": "high"}
    return [
        {
            "mark": {"type": "line", "strokeWidth": 1.5},
            "encoding": {"x": x, "y": y, "color": color, "strokeDash": dash, **picked},
        },
        *_errors(points, {"x": x, "y": low, "y2": high, "color": color, **picked}),
        {
            "params": [_by_legend("series"), ZOOM],
            "mark": {"type": "point", "size": 50},
            "encoding": {"x": x, "y": y, **_whose(color), **picked},
        },
    ]


def _dots(points: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """A row a number, with a line from the published one to ours."""
    sizes = [abs(point["y"]) for point in points if point["y"] and point["who"] == "published"]
    wide = bool(sizes) and max(sizes) > WIDE * min(sizes)
    scale = {"type": "symlog", "constant": min(sizes)} if wide else {}
    x, low, high = (
        _axis("y", "value", **scale), _axis("low", "value", **scale), {"field": "high"}
    )  # fmt: skip
    row = {
        "field": "row", "type": "nominal", "title": None, "sort": None,
        "axis": {"labelLimit": 300, "grid": True},
    }  # fmt: skip
    colours = {"domain": WHO, "range": ["--published", "--ours"]}
    color = {"field": "who", "scale": colours, "title": None}
    return [
        {
            "mark": {"type": "line", "color": "--muted", "strokeWidth": 1},
            "encoding": {"y": row, "x": x, "detail": {"field": "row"}},
        },
        *_errors(points, {"y": row, "x": low, "x2": high, "color": color}),
        {
            "mark": {"type": "point", "size": 60},
            "encoding": {"y": row, "x": x, **_whose(color)},
        },
    ]
