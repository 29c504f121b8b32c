"""Tables of all trained networks: their measures, and which of them go along with the gap."""

import html
from typing import Any

import pandas as pd
import torch

from replica.artifacts import read_tensors
from replica.generalization.networks import trained_networks
from replica.measures.generalization import MEASURES, OUTCOMES, measure
from replica.measures.trends import spearman
from replica.progress import progress

NETWORK = ["study", "run", "kind", "dataset", "seed", "member"]
CORRELATION = ["study", "kind", "dataset", "measure", "gap", "networks", "correlation", "note"]
GAPS = ("error_gap", "loss_gap")
FEWEST = 5
# What stands in a column of names where networks of all kinds and data sets are taken together.
ALL = "all"


def measure_networks(parts: list[dict[str, Any]], threads: int) -> pd.DataFrame:
    """Measure every network that some jobs keep.

    Args:
        parts: of each job `study`, `run`, `spec`, `states` (path) and `card` (that of its data set,
            or None).
        threads: CPU threads.

    Returns:
        Columns `NETWORK`, metric, value: a row a network and metric of
        `replica.measures.generalization`. What is undefined has no row.
    """
    torch.set_num_threads(threads)
    frames = []
    with progress("generalization", len(parts)) as tick:
        for done, part in enumerate(parts, start=1):
            names = {name: part[name] for name in ("study", "run")}
            states, _ = read_tensors(part["states"])
            found = trained_networks(part["spec"], states, part["card"], **names)
            for labels, network in found:
                values = measure(network)
                frame = pd.DataFrame({"metric": list(values), "value": list(values.values())})
                frames.append(frame.assign(**names, **labels))
            tick(done, lambda: f"{len(frames)} networks")
    columns = [*NETWORK, "metric", "value"]
    return (
        pd.concat(frames, ignore_index=True)[columns] if frames else pd.DataFrame(columns=columns)
    )


def correlated(table: pd.DataFrame, scale: str) -> tuple[pd.DataFrame, str]:
    """Rank correlations of the networks of all studies, and the page that shows them."""
    correlations = rank_correlations(table)
    return correlations, generalization_html(correlations, table, scale)


def by_network(table: pd.DataFrame) -> pd.DataFrame:
    """One row a network, one column a metric; NaN where a measure is not defined."""
    wide = table.pivot(index=NETWORK, columns="metric", values="value")
    return wide.reindex(columns=[*OUTCOMES, *MEASURES]).reset_index()


def rank_correlations(table: pd.DataFrame) -> pd.DataFrame:
    """Spearman's rank correlation of each measure with each gap, over the networks of a family.

    A family are the networks of a study of the same kind on the same data; a study with several of
    them also has all its networks taken together.

    Args:
        table: see `measure_networks`.

    Returns:
        Columns `CORRELATION`. `networks` is how many have the measure. Without a correlation there
        is a `note`: `not defined` where no network has the measure, `too few` below `FEWEST`,
        `no spread` where all have the same measure or the same gap.
    """
    rows = []
    for study, networks in by_network(table).groupby("study", sort=False):
        families = list(networks.groupby(["kind", "dataset"], sort=False))
        if len(families) > 1:
            families.append(((ALL, ALL), networks))
        for (kind, dataset), family in families:
            for name in MEASURES:
                for gap in GAPS:
                    have = family[[name, gap]].dropna()
                    value, note = _correlation(have[name], have[gap])
                    rows.append([study, kind, dataset, name, gap, len(have), value, note])
    return pd.DataFrame(rows, columns=CORRELATION)


def _correlation(x: pd.Series, y: pd.Series) -> tuple[float, str]:
    if x.empty:
        return float("nan"), "not defined"
    if len(x) < FEWEST:
        return float("nan"), "too few"
    if x.nunique() == 1 or y.nunique() == 1:
        return float("nan"), "no spread"
    return spearman(x, y), ""


def generalization_html(correlations: pd.DataFrame, table: pd.DataFrame, scale: str) -> str:
    """Correlations and networks as one self-contained page; all text is escaped.

    Args:
        correlations: see `rank_correlations`.
        table: see `measure_networks`.
        scale: at which the networks were trained.
    """
    networks = by_network(table)
    parts = [
        _HEAD,
        f"<h1>Generalization</h1><p>Scale <b>{html.escape(scale)}</b>: {len(networks)} trained "
        "networks. The gap is that of test minus train. Below are the rank correlations (Spearman) "
        "of measures with the gap of the error and with that of the loss: 1 where a larger "
        "measure always comes with a larger gap; 95 % of correlations of unrelated numbers stay "
        "below `chance`. Networks of a family may differ in depth, width, penalties, methods or "
        "numbers of labels, and a correlation may be a difference between groups of them. None of "
        "the measures is a bound here.</p>",
    ]
    for (study, kind, dataset), rows in correlations.groupby(
        ["study", "kind", "dataset"], sort=False
    ):
        words = "all its networks" if kind == ALL else f"{kind} on {dataset}"
        parts.append(f"<h2>{html.escape(f'{study}: {words}')}</h2>")
        wide = rows.assign(cell=[_cell(*own) for own in zip(rows["correlation"], rows["note"],
                                                            strict=True)])  # fmt: skip
        wide = wide.pivot(index="measure", columns="gap", values="cell").loc[list(MEASURES)]
        count = rows.drop_duplicates("measure").set_index("measure")["networks"]
        cells = [
            [name, str(count[name]), *wide.loc[name, list(GAPS)], _chance(count[name])]
            for name in MEASURES
        ]
        head = ["measure", "networks", "gap of the error", "gap of the loss", "chance"]
        parts.append(_table(head, cells))
    parts.append("<h2>Networks, means by run</h2>")
    cells = [
        [*names, str(len(rows)), *(f"{rows[name].mean():.4g}" for name in OUTCOMES)]
        for names, rows in networks.groupby(["study", "run", "dataset"], sort=False)
    ]
    head = ["study", "run", "data", "networks", *(name.replace("_", " ") for name in OUTCOMES)]
    return "\n".join([*parts, _table(head, cells), "</body></html>"])


def _chance(networks: int) -> str:
    """1.96 standard deviations of Spearman's ρ of independent numbers, 1/√(n-1)."""
    return f"{min(1.0, 1.96 / (networks - 1) ** 0.5):.2f}" if networks >= FEWEST else ""


def _cell(correlation: float, note: str) -> str:
    return note or f"{correlation:.2f}"


def _table(head: list[str], rows: list[list[str]]) -> str:
    """A table of HTML from plain text."""
    lines = [_row("th", head), *(_row("td", row) for row in rows)]
    return f"<table><thead>{lines[0]}</thead><tbody>" + "\n".join(lines[1:]) + "</tbody></table>"


def _row(tag: str, cells: list[str]) -> str:
    return "<tr>" + "".join(f"<{tag}>{html.escape(cell)}</{tag}>" for cell in cells) + "</tr>"


_HEAD = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Replica: generalization</title><style>
body{font:15px/1.45 system-ui,sans-serif;margin:2rem auto;max-width:82rem;padding:0 1rem;color:#222}
h2{font-size:1.1rem;margin-top:2rem}
table{border-collapse:collapse}
th,td{text-align:left;vertical-align:top;padding:.3rem .6rem;border-bottom:1px solid #ddd}
th{background:#f5f5f5}td{font-variant-numeric:tabular-nums}
</style></head><body>"""
