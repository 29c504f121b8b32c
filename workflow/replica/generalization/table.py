"""Tables of all trained networks: their measures, and which of them correlate with the gap.

What is independent is a setting (a run, and its member): seeds of one setting are as alike in
their measures as in their gaps. A correlation is therefore one of means of settings, and its chance
level that of whole settings in another order.
"""

import functools
import itertools
from typing import Any

import numpy as np
import pandas as pd
import torch

from replica import rendering
from replica.artifacts import read_tensors
from replica.generalization.trained_networks import trained_networks
from replica.measures.generalization import MEASURES, OUTCOMES, measure, parameter_count
from replica.measures.trends import spearman
from replica.progress import progress
from replica.spread import holm
from replica.verdicts import CHANCE

NETWORK = ["study", "run", "kind", "dataset", "seed", "member"]
SETTING = [name for name in NETWORK if name != "seed"]
CORRELATION = [
    "study", "kind", "dataset", "measure", "gap", "networks", "settings", "correlation", "chance",
    "corrected", "note",
]  # fmt: skip
GAPS = ("error_gap", "loss_gap")
# The orders of four settings are too few for any of them to be rarer than 5 %.
FEWEST = 5
# All orders of up to EXACT settings are tried, and ORDERS random ones of more settings.
EXACT, ORDERS = 9, 20_000
# The name of all kinds, or data sets, taken together.
ALL = "all"


def measure_networks(parts: list[dict[str, Any]], threads: int) -> pd.DataFrame:
    """Measure every network that some jobs keep.

    Args:
        parts: of each job `study`, `run`, `spec`, `states` (path), `card` (that of its data set,
            or None) and `curvature_up_to` (the most parameters of a network whose Hessian is
            looked at; None for any number).
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
                count, most = parameter_count(network), part["curvature_up_to"]
                values = measure(network, curvature=most is None or count <= most)
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
    """Spearman's rank correlation of each measure with each gap, over the settings of a family.

    A family are the networks of a study of the same kind on the same data; a study with several of
    them also has all its networks taken together. Of a setting the means over its seeds count.

    Args:
        table: see `measure_networks`.

    Returns:
        Columns `CORRELATION`. `networks` is how many have the measure, `settings` of how many
        settings they are. `chance`: the share of orders of the settings in which the correlation
        is as far from 0; `corrected`: the same after Holm's correction for all correlations of the
        table. Without a correlation there is a `note`: `not defined` where no network has the
        measure, `too few` below `FEWEST` settings, `no spread` where all have the same measure or
        the same gap.
    """
    rows = []
    for study, networks in by_network(table).groupby("study", sort=False):
        for (kind, dataset), family in _families(networks):
            for name, gap in itertools.product(MEASURES, GAPS):
                have = family[[*SETTING, name, gap]].dropna()
                means = have.groupby(SETTING)[[name, gap]].mean()
                value, chance, note = _correlation(means[name], means[gap])
                counts = len(have), len(means)
                rows.append([study, kind, dataset, name, gap, *counts, value, chance, np.nan, note])
    found = pd.DataFrame(rows, columns=CORRELATION)
    return found.assign(corrected=holm(found["chance"].to_numpy(float)))


def _families(networks: pd.DataFrame) -> list[tuple[tuple[str, str], pd.DataFrame]]:
    """Networks of a study by kind and data set, and all of them where there are several."""
    families = list(networks.groupby(["kind", "dataset"], sort=False))
    return families if len(families) == 1 else [*families, ((ALL, ALL), networks)]


def _correlation(x: pd.Series, y: pd.Series) -> tuple[float, float, str]:
    """Spearman's correlation, its chance level, and why there is none."""
    if x.empty:
        return np.nan, np.nan, "not defined"
    if len(x) < FEWEST:
        return np.nan, np.nan, "too few"
    if x.nunique() == 1 or y.nunique() == 1:
        return np.nan, np.nan, "no spread"
    return spearman(x, y), chance_level(x, y), ""


def chance_level(x: pd.Series, y: pd.Series) -> float:
    """The share of orders of y in which Spearman's correlation with x is as far from 0.

    Exact for up to `EXACT` pairs; of more, the order that was found is one of `ORDERS`.
    """
    ranks = [series.rank().to_numpy() - (len(series) + 1) / 2 for series in (x, y)]
    products = np.abs(ranks[1][_orders(len(x))] @ ranks[0])
    # The order that was found is the first.
    return float((products >= products[0] - 1e-9).mean())


@functools.cache
def _orders(n: int) -> np.ndarray:
    """Orders of n things, a row each, the first as they are."""
    if n <= EXACT:
        return np.array(list(itertools.permutations(range(n))))
    as_they_are = np.tile(np.arange(n), (ORDERS, 1))
    orders = np.random.default_rng(0).permuted(as_they_are, axis=1)
    orders[0] = as_they_are[0]
    return orders


def generalization_html(correlations: pd.DataFrame, table: pd.DataFrame, scale: str) -> str:
    """Correlations and networks as one self-contained page; all text is escaped.

    Args:
        correlations: see `rank_correlations`.
        table: see `measure_networks`.
        scale: at which the networks were trained.
    """
    networks = by_network(table)
    spreads = {
        (study, *names): _spread(family)
        for study, own in networks.groupby("study", sort=False)
        for names, family in _families(own)
    }
    families = [
        {
            "study": study,
            "words": "all its networks" if kind == ALL else f"{kind} on {dataset}",
            "spread": spreads[study, kind, dataset],
            "rows": [_of_measure(name, rows) for name in MEASURES],
        }
        for (study, kind, dataset), rows in correlations.groupby(
            ["study", "kind", "dataset"], sort=False
        )
    ]
    runs = [
        [*names, str(len(rows)), *(f"{rows[name].mean():.4g}" for name in OUTCOMES)]
        for names, rows in networks.groupby(["study", "run", "dataset"], sort=False)
    ]
    return rendering.render(
        "generalization.html",
        scale=scale,
        networks=len(networks),
        settings=len(networks[SETTING].drop_duplicates()),
        tested=_how_many(correlations),
        left_out=_without_curvature(networks),
        families=families,
        outcomes=[name.replace("_", " ") for name in OUTCOMES],
        runs=runs,
    )


def _of_measure(name: str, rows: pd.DataFrame) -> list[str]:
    """A line of the table of a family: a measure, and its correlations with both gaps."""
    own = rows[rows["measure"] == name].set_index("gap").loc[list(GAPS)]
    counts = own[["networks", "settings"]].iloc[0].astype(str)
    return [name, *counts, *(cell for row in own.itertuples() for cell in _cells(row))]


def _how_many(correlations: pd.DataFrame) -> str:
    """How many correlations were tested, and how many are beyond chance."""
    known = correlations.dropna(subset="chance")
    if known.empty:
        return "There are too few settings for any correlation."
    below = [int((known[name] < CHANCE).sum()) for name in ("chance", "corrected")]
    return (
        f"{len(known)} correlations were tested: chance alone puts {CHANCE * len(known):.0f} of "
        f"them below {CHANCE:g}. {below[0]} are, and {below[1]} after Holm's correction for all "
        f"{len(known)}; these have a star."
    )


def _without_curvature(networks: pd.DataFrame) -> str:
    """Which networks were too large for their sharpness; "" where none was."""
    lacking = networks[networks["sharpness"].isna() & networks["perturbed_sharpness"].notna()]
    if lacking.empty:
        return ""
    return (
        f"The sharpness of {len(lacking)} networks of {lacking['parameters'].min():,.0f} or more "
        "parameters is left out: without a GPU, products with their Hessians take hours."
    )


def _spread(family: pd.DataFrame) -> str:
    """The range of the error gap, and how much seeds of one setting differ."""
    gaps = family.groupby(SETTING)["error_gap"]
    means, variance = gaps.mean(), gaps.var().mean()
    words = f"Gap of the error, means of settings: {means.min():.3f} to {means.max():.3f}"
    if np.isfinite(variance):
        words += f"; standard deviation over seeds of a setting {variance**0.5:.3f}"
    return words + "."


def _cells(row: Any) -> tuple[str, str]:
    """A correlation and its chance level, or why there is none."""
    if row.note:
        return row.note, ""
    star = " *" if row.corrected < CHANCE else ""
    return f"{row.correlation:.2f}{star}", f"{row.chance:.2g}"
