"""Whether the numbers of two tables of a figure differ by more than their seeds do.

What is compared is a **series** of a table: one column of numbers in one series of one panel. Its
rows are matched by what they are about (run, layer, step, metric, ...), a **point** is all rows
that are about the same, and the seeds of a point are its sample.

The hypothesis under test is that both tables come from one distribution, so that the variance is
common to both: at each point Student's t with the pooled variance, which is exact for normal
numbers and any two numbers of seeds, and the same for the means over all points of each seed. With
m points, p of a series is 2 min(p of the means, m min p of the points), which holds however the
points depend on each other. Where seeds coincide, as in a count or an accuracy, no p is below that
of the most extreme permutation of the seeds: three runs that succeed and three that fail are not
certain to differ.

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
    names = table.drop_duplicates("_point").set_index("_point")
    skipped = {*HEAD, *identity, *settings, "seed", "_side", "_none", "_point", "_place"}
    found = []
    for column in table.columns:
        if column not in skipped and (numbers := _numbers(table[column])) is not None:
            found += _compared(table.assign(_number=numbers), column, names, identity)
    rows = pd.DataFrame(found, columns=COLUMNS)
    # That points lack is said once of a series, and only where nothing else is.
    here = rows.groupby(["panel", "series"], dropna=False)
    lacking = rows["moved"].eq(0)
    rows = rows[~lacking | ((here["moved"].transform("sum") == 0) & (here.cumcount() == 0))]
    rows["column"] = rows["column"].mask(rows["moved"] == 0, "")
    # A number of a run stands in each panel that shows the run: it is one number.
    same = rows.columns.drop(["panel", "series", "also"]).to_list()
    rows["also"] = rows.groupby(same, dropna=False)["moved"].transform("size") - 1
    return rows.drop_duplicates(same, ignore_index=True)


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
    if not sizes.groupby("group").min().equals(shared.reindex(sizes.index.levels[0]).fillna(0)
                                               .astype(int)):  # fmt: skip
        return False
    counts = rows.groupby(["group", "code", "_side", "seed"]).size().groupby(["group", "code"])
    counts = counts.agg(["size", "min", "max"])[of_side == 2]
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
) -> list[dict]:
    """The rows of `compare` for one column of numbers."""
    # A point that has several rows of a seed counts as their mean.
    seeds = table.dropna(subset="_number").groupby(["_point", "_side", "seed"])["_number"].mean()
    points = moments(seeds)
    points = points.join(names[["panel", "series"]])
    found = []
    for (panel, series), own in points.groupby(["panel", "series"], dropna=False):
        both = own[own["n_a"].gt(0) & own["n_b"].gt(0)]
        lacking = {"only_a": int(own["n_b"].eq(0).sum()), "only_b": int(own["n_a"].eq(0).sum())}
        moved = both[both["moved"]]
        if not len(moved) and not any(lacking.values()):
            continue
        row = {"panel": panel, "series": series, "column": column, "points": len(both),
               "moved": len(moved), **lacking, "a": both["a"].mean(), "b": both["b"].mean(),
               "spread": np.nan, "p": np.nan, "at": "", "at_a": np.nan, "at_b": np.nan}  # fmt: skip
        if len(moved):
            row |= _tested(seeds, both, moved)
            top = names.loc[row.pop("most")]
            vary = [name for name in identity if names.loc[both.index, name].nunique() > 1]
            row["at"] = ", ".join(f"{name} = {_shown(top[name])}" for name in vary)
        found.append(row)
    return found


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
    found = seeds.groupby(["_point", "_side"]).agg(["size", "mean", "var"]).unstack("_side")
    found = found.reindex(columns=pd.MultiIndex.from_product([["size", "mean", "var"], [0, 1]]))
    n_a, n_b = (found["size", side].fillna(0) for side in (0, 1))
    a, b = found["mean", 0], found["mean", 1]
    squares = sum(
        found["var", i].fillna(0) * (n - 1).clip(lower=0) for i, n in enumerate((n_a, n_b))
    )
    free = n_a + n_b - 2
    with np.errstate(divide="ignore", invalid="ignore"):
        se = np.sqrt(squares / free.where(free > 0) * (1 / n_a + 1 / n_b))
        distance = (a - b).abs()
        p = pd.Series(2 * student.sf(distance / se, free), index=found.index)
    most = np.maximum(a.abs(), b.abs())
    varies = se > ROUNDING * most
    moved = (distance > ROUNDING * most) | (varies & (n_a != n_b))
    kinds = seeds.groupby("_point").nunique().reindex(found.index)
    least = np.where(kinds < n_a + n_b, np.minimum(2 / comb(n_a + n_b, n_a), 1), 0)
    p = pd.Series(np.maximum(p, least), index=found.index).where(moved, 1.0).where(varies)
    return pd.DataFrame({"n_a": n_a, "n_b": n_b, "a": a, "b": b, "se": se.where(varies),
                         "moved": moved, "p": p})  # fmt: skip


def _tested(seeds: pd.Series, both: pd.DataFrame, moved: pd.DataFrame) -> dict:
    """p of a series, the standard error of its mean, and the point that differs most."""
    # Only points that every seed has: else the means of seeds are of different points.
    whole = seeds[seeds.index.isin(both.index, level="_point")].unstack(["_side", "seed"]).dropna()
    mean = moments(whole.mean().rename("_number").to_frame().assign(_point=0)
                   .set_index("_point", append=True)["_number"])  # fmt: skip
    tested = moved["p"].dropna()
    row = {"spread": mean["se"].iloc[0] if len(whole) == len(both) else np.nan, "p": np.nan}
    if len(tested):
        row["p"] = len(moved) * tested.min()
        if len(both) > 1:
            row["p"] = 2 * min(row["p"], mean["p"].fillna(1).iloc[0])
        row["p"] = min(row["p"], 1.0)
        most = tested.idxmin()
    else:
        size = moved[["a", "b"]].abs().max(axis=1)
        most = ((moved["a"] - moved["b"]).abs() / size).idxmax()
    return row | {"most": most, "at_a": both.at[most, "a"], "at_b": both.at[most, "b"]}


def beyond(p: pd.Series, level: float = LEVEL) -> pd.Series:
    """Which of the p of all series of a comparison are beyond the spread of seeds, by Holm's rule.

    The chance that any is, where nothing differs but the seeds, is below `level`.
    """
    order = p.dropna().sort_values()
    steps = (order * np.arange(len(order), 0, -1)).cummax()
    return (steps < level).reindex(p.index, fill_value=False)
