"""Whether the numbers of two tables of a figure differ by more than their seeds do.

What is compared is a **series** of a table: one column of numbers in one series of one panel. Its
rows are matched by what they are about (run, layer, step, metric, ...), a **point** is all rows
that are about the same, and the seeds of a point are its sample.

The hypothesis under test is that both tables come from one distribution, so that the variance is
common to both: at each point Student's t with the pooled variance, which is exact for normal
numbers and any two numbers of seeds, and the same for the means over all points of each seed. With
m points, p of a series is 2 min(p of the means, m min p of the points), which holds however the
points depend on each other. Where a side has fewer than three seeds, or seeds coincide, as in a
count or an accuracy, no p is below that of the most extreme permutation of the seeds: two runs a
side tell little, and three that succeed and three that fail are not certain to differ.

In simulations of whole comparisons (tests/unit/test_comparison.py) the rate of false alarms is
about 1 % or less, as it is to be, also where numbers are heavy-tailed or skewed. It is larger for
runs that either succeed or fail and hardly vary otherwise: three seeds a side part by chance in 3
of 100 cases.

Points that are equal up to rounding are not tested. Where no number varies over seeds (a closed
form, one seed, or the same in all of them) there is no spread to compare with, and p is missing.
"""

from collections.abc import Collection

import numpy as np
import pandas as pd
from scipy.special import comb
from scipy.stats import t as student

# Relative: what single precision and another processor change.
ROUNDING = 1e-6
# The chance of a false alarm in a whole comparison, of all its series together.
LEVEL = 0.01
# Of fewer seeds nobody can tell how they spread.
FEW = 3
# What rows are always about where they have it; of other columns `about` finds it out.
ALWAYS = ("run", "metric", "step", "epoch", "layer", "head", "index", "index2", "image", "label")
# Every table has them; `status` is a word of the caption.
HEAD = ("study", "figure", "panel", "series", "scale", "status")
COLUMNS = [
    "panel", "series", "also", "column", "a", "b", "spread", "points", "moved", "only_a", "only_b",
    "at", "at_a", "at_b", "p",
]  # fmt: skip


def compare(a: pd.DataFrame, b: pd.DataFrame, settings: Collection[str] = ()) -> pd.DataFrame:
    """The series in which two tables of a figure differ.

    Args:
        a, b: tidy tables, see docs/design.md; a seed below 0 is of no single seed.
        settings: names of settings of the runs: such a column is no result.

    Returns:
        A row a series that differs: panel, series, column ("" where only points differ); `also`, in
        how many more series the same numbers differ; `a` and `b`, means over the points that both
        have; `spread`, the standard error of their difference over seeds (missing where there
        is none); `points`, how many both have, and `moved`, how many of them differ; `only_a` and
        `only_b`, how many only one has; `at`, `at_a` and `at_b`: the point that differs most, and
        its means; `p`, see the module.
    """
    if a.empty or b.empty:
        return _of_one_side(a, b)
    common = [name for name in a.columns if name in b.columns]
    table = pd.concat([a[common].assign(_side=0), b[common].assign(_side=1)], ignore_index=True)
    table["_none"] = table["seed"] < 0
    identity = about(table)
    # A single step may lack in a seed: positions in lists tell rows apart only where all have them.
    table["_point"] = table.groupby(["panel", "series", "_none", *identity], dropna=False).ngroup()
    of_a_seed = table.groupby(["_point", "_side", "seed"])
    rows = of_a_seed.size().groupby("_point").agg(["min", "max"])
    listed = table["_point"].map(rows["min"] == rows["max"])
    table["_place"] = of_a_seed.cumcount().where(listed, 0)
    table["_point"] = table.groupby(["_point", "_place"]).ngroup()
    table["_series"] = table.groupby(["panel", "series", "_none"], dropna=False).ngroup()
    names = table.drop_duplicates("_point").set_index("_point")
    skipped = {*HEAD, *identity, *settings, "seed", "_side", "_none", "_point", "_place", "_series"}
    found = [pd.DataFrame(columns=COLUMNS)]
    for column in table.columns:
        if column not in skipped and (numbers := _numbers(table[column])) is not None:
            rows = _compared(table.assign(_number=numbers), column, names, identity)
            found += [rows] if len(rows) else []
    rows = pd.concat(found[1:] or found, ignore_index=True).reindex(columns=COLUMNS)
    # That points lack is said once of a series, and only where nothing else is.
    here = rows.groupby(["panel", "series"], dropna=False)
    lacking = rows["moved"].eq(0)
    rows = rows[~lacking | ((here["moved"].transform("sum") == 0) & (here.cumcount() == 0))]
    rows["column"] = rows["column"].mask(rows["moved"] == 0, "")
    # A number of a run stands in each panel that shows the run: it is one number.
    same = rows.columns.drop(["panel", "series", "also"]).to_list()
    rows["also"] = rows.groupby(same, dropna=False)["moved"].transform("size") - 1
    return rows.drop_duplicates(same, ignore_index=True)


def _of_one_side(a: pd.DataFrame, b: pd.DataFrame) -> pd.DataFrame:
    """The rows of `compare` where a table has no rows, as where its runs were left out."""
    sides = []
    for side, table in (("only_a", a), ("only_b", b)):
        if len(table):
            rows = table.groupby(["panel", "series"], dropna=False, sort=False)["seed"]
            counts = (rows.size() // rows.nunique()).rename(side).reset_index()
            sides.append(counts.assign(column="", also=0, points=0, moved=0, at=""))
    found = pd.concat(sides or [pd.DataFrame()], ignore_index=True).reindex(columns=COLUMNS)
    only = ["only_a", "only_b"]
    return found.assign(**found[only].fillna(0).astype(int))


def about(table: pd.DataFrame) -> list[str]:
    """The columns that say what a row is about, rather than what came out.

    Of each run they are the same for all seeds and on both sides, where one side may have more:
    each value that both sides have occurs with every seed, a number equally often.
    """
    group = ["panel", "series", "_none", *(["run"] if "run" in table else [])]
    groups = table.groupby(group, dropna=False).ngroup()
    found = []
    for column in table.columns.drop(["seed", "_side", "_none"]):
        if column in HEAD:
            continue
        codes = pd.factorize(table[column], use_na_sentinel=False)[0]
        rows = pd.DataFrame(
            {"group": groups, "_side": table["_side"], "seed": table["seed"], "code": codes}
        )
        counted = not (_is_words(table[column]) or table[column].isin([True, False]).all())
        if column in ALWAYS or _is_given(rows, counted=counted):
            found.append(str(column))
    return found


def _is_words(column: pd.Series) -> bool:
    return pd.api.types.is_string_dtype(column) and not pd.api.types.is_numeric_dtype(column)


def _is_given(rows: pd.DataFrame, *, counted: bool) -> bool:
    """Whether values (`code`) of groups are the same for all seeds and sides; see `about`."""
    sides = rows.groupby("group")["_side"].nunique()
    rows = rows[rows["group"].isin(sides.index[sides == 2])]
    of_side = rows.groupby(["group", "code"])["_side"].nunique()
    shared = of_side[of_side == 2].groupby("group").size()
    sizes = rows.drop_duplicates(["group", "_side", "code"]).groupby(["group", "_side"]).size()
    fewer = sizes.groupby("group").min()
    if not shared.reindex(fewer.index, fill_value=0).eq(fewer).all():
        return False
    of_seeds = rows.groupby(["group", "code", "_side", "seed"]).size()
    counts = of_seeds.groupby(["group", "code"]).agg(["size", "min", "max"])[of_side == 2]
    runs = rows.drop_duplicates(["group", "_side", "seed"]).groupby("group").size()
    in_all = counts["size"] == runs.reindex(counts.index.get_level_values("group")).to_numpy()
    return bool((in_all & (~np.array(counted) | (counts["min"] == counts["max"]))).all())


def _numbers(column: pd.Series) -> pd.Series | None:
    """A column as numbers, those that are not finite missing; None for a column of words."""
    if _is_words(column):
        return None
    numbers = pd.to_numeric(column, errors="coerce").astype(float)
    return numbers.where(np.isfinite(numbers))


def _compared(
    table: pd.DataFrame, column: str, names: pd.DataFrame, identity: list[str]
) -> pd.DataFrame:
    """The rows of `compare` for one column of numbers."""
    # A point that has several rows of a seed counts as their mean.
    seeds = table.dropna(subset="_number").groupby(["_point", "_side", "seed"])["_number"].mean()
    points = moments(seeds).join(names["_series"])
    points["both"] = points["n_a"].gt(0) & points["n_b"].gt(0)
    points["moved"] &= points["both"]
    both, moved = points[points["both"]], points[points["moved"]]
    rows = pd.DataFrame({
        "points": points.groupby("_series")["both"].sum(),
        "moved": points.groupby("_series")["moved"].sum(),
        "only_a": points["n_b"].eq(0).groupby(points["_series"]).sum(),
        "only_b": points["n_a"].eq(0).groupby(points["_series"]).sum(),
        **both.groupby("_series")[["a", "b"]].mean(),
    })  # fmt: skip
    means = _of_means(seeds, both).reindex(rows.index)
    rows["spread"] = means["se"].where(means["points"] == rows["points"])
    least = moved.groupby("_series")["p"].min() * rows["moved"]
    several = (2 * pd.concat([least, means["p"].fillna(1)], axis=1).min(axis=1)).where(
        least.notna()
    )
    rows["p"] = several.where(rows["points"] > 1, least).clip(upper=1)
    rows = rows[rows["moved"].gt(0) | rows["only_a"].gt(0) | rows["only_b"].gt(0)]
    apart = (moved["a"] - moved["b"]).abs() / moved[["a", "b"]].abs().max(axis=1)
    # By the tests where there are any, else by size.
    ranks = moved.assign(untested=moved["p"].isna(), apart=-apart)
    most = ranks.sort_values(["untested", "p", "apart"]).reset_index().groupby("_series").first()
    rows = rows.join(most[["_point", "a", "b"]].add_prefix("at_"))
    vary = both.join(names[identity]).groupby("_series")[identity].nunique().gt(1)
    rows["at"] = [
        "" if np.isnan(point) else
        ", ".join(f"{name} = {_shown(names[name].loc[int(point)])}"
                  for name in identity if vary.at[series, name])
        for series, point in rows["at__point"].items()
    ]  # fmt: skip
    where = names.drop_duplicates("_series").set_index("_series")[["panel", "series"]]
    return rows.join(where).assign(column=column)


def _of_means(seeds: pd.Series, both: pd.DataFrame) -> pd.DataFrame:
    """`moments` of the means of each seed over the points of a series, and how many these are."""
    # Only points that every seed has: else the means of two seeds are of different points.
    numbers = seeds.rename("number").reset_index()
    numbers["_series"] = both["_series"].reindex(numbers["_point"]).to_numpy()
    every = numbers.drop_duplicates(["_series", "_side", "seed"]).groupby("_series").size()
    whole = both[both["n_a"] + both["n_b"] == both["_series"].map(every)]
    kept = numbers[numbers["_point"].isin(whole.index)].drop(columns="_point")
    kept = kept.rename(columns={"_series": "_point"})
    found = moments(kept.groupby(["_point", "_side", "seed"])["number"].mean())
    found["points"] = whole.groupby("_series").size()
    return found.rename_axis("_series")


def _shown(value: object) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def moments(seeds: pd.Series) -> pd.DataFrame:
    """Of each point: numbers of seeds, means, and p of Student's t with the pooled variance.

    Args:
        seeds: numbers by point, side (0, 1) and seed.

    Returns:
        By point: n_a, n_b, a, b, se (of the difference), moved (by more than rounding), p (missing
        where no seed differs from another).
    """
    of_sides = seeds.groupby(["_point", "_side"])
    size, mean, squares = (
        values.unstack("_side").reindex(columns=[0, 1])
        for values in (of_sides.size(), of_sides.mean(), of_sides.var(ddof=0) * of_sides.size())
    )
    size = size.fillna(0)
    n_a, n_b, a, b = size[0], size[1], mean[0], mean[1]
    free = n_a + n_b - 2
    with np.errstate(divide="ignore", invalid="ignore"):
        # One number alone has no spread, and adds none.
        se = np.sqrt(squares.sum(axis=1) / free.where(free > 0) * (1 / n_a + 1 / n_b))
        distance, largest = (a - b).abs(), mean.abs().max(axis=1)
        p = pd.Series(2 * student.sf(distance / se, free), index=size.index)
    varies = se > ROUNDING * largest
    moved = (distance > ROUNDING * largest) | (varies & (n_a != n_b))
    distinct = seeds.groupby("_point").nunique()
    permuted = np.minimum(2 / comb(n_a + n_b, n_a), 1)
    few = (distinct < n_a + n_b) | (np.minimum(n_a, n_b) < FEW)
    p = p.clip(lower=np.where(few, permuted, 0.0)).where(moved, 1.0).where(varies)
    return pd.DataFrame({"n_a": n_a, "n_b": n_b, "a": a, "b": b, "se": se.where(varies),
                         "moved": moved, "p": p})  # fmt: skip


def holm(chance: np.ndarray) -> np.ndarray:
    """Chance levels corrected for how many they are (Holm 1979); NaN stays and does not count."""
    corrected = chance.copy()
    known = np.flatnonzero(np.isfinite(chance))
    order = known[np.argsort(chance[known], kind="stable")]
    factors = len(order) - np.arange(len(order))
    corrected[order] = np.minimum(1, np.maximum.accumulate(factors * chance[order]))
    return corrected
