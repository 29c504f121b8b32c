"""Neural Collapse is Globally Optimal in Deep Regularized ResNets and Transformers.

Súkeník, Lampert, Mondelli; NeurIPS 2025; arXiv 2505.15239. The paper has three figures, without
tables, and one number, the average slope of claim c6. Optimiser, batch, schedule, start, number of
samples, patch size and all that concerns the text are not stated: they are settings here, and the
figure `fig_extra_sensitivity` varies two of them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass
from typing import NamedTuple

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, LogLocator, MaxNLocator, NullFormatter, NullLocator
from scipy.stats import linregress, ttest_ind_from_stats
from scipy.stats import t as student

from replica import drawing
from replica.measures.inputs import Inputs, tidy
from replica.verdicts import (
    CHANCE,
    FITS,
    HOLDS,
    UNDECIDABLE,
    Undecided,
    Verdict,
    by_chance,
    decide,
    settled,
    some,
    trained,
    trend,
    undecidable,
)

Tables = Mapping[str, pd.DataFrame]

METRICS = {"nc1": "NC1", "nc2": "NC2", "nc3": "NC3"}
# In the row on text a run counts if it has learnt its training samples: the paper shows there the
# runs that converged and does not say what that is. Elsewhere only divergence leaves a run out of a
# figure.
LEARNT = FITS
# At a stationary point the gradients of fit and penalty cancel; here but for a tenth of the latter.
STATIONARY = 0.1
SETTLED = (
    f"gradient of the objective at most {STATIONARY} of that of its penalty, and a mean objective "
    "not above that of fewer blocks, beyond chance"
)
# Blocks from which on the paper sees straight lines, and how many such depths make a line.
LARGE, LINE = 8, 3
# The average slopes that the theory expects; "almost constant" has no number in the paper.
EXPECTED = (-0.5, -0.25)
CONSTANT = 0.1
FACTS = ["objective", "accuracy", "gradient"]
# Columns of the log-log slope of a curve, its interval, and r² of the straight line.
SLOPE = ["slope", "slope_low", "slope_high", "slope_r2"]
# Rounding of the objective; a run below the bound by more is a mistake of ours.
ROUNDING = 1e-6
AVERAGE = "average log-log slope of the metrics with depth"
CHOICES = {
    "rn1_mnist": "Adam",
    "rn1_sgd": "gradient descent",
    "rn2_mnist": "λ/L in all layers",
    "rn2_head": "λ in the last layer, λ/L before",
}


# ======================================================================================
# Figure 1: a model a row


def table_fig1_row1_rn1(inputs: Inputs) -> pd.DataFrame:
    """A metric of a seed a row, with the objective of that seed and the lower bound."""
    return _metrics(inputs)


def draw_fig1_row1_rn1(table: pd.DataFrame, published: pd.DataFrame) -> Figure:
    """NC1, NC2, NC3, and the objective with its lower bound, against the number of blocks."""
    return _draw_row(table, published)


def table_fig1_row2_t11(inputs: Inputs) -> pd.DataFrame:
    """The same rows."""
    return _metrics(inputs)


def draw_fig1_row2_t11(table: pd.DataFrame, published: pd.DataFrame) -> Figure:
    """The same panels."""
    return _draw_row(table, published)


def table_fig1_row3_text(inputs: Inputs) -> pd.DataFrame:
    """The same rows; `kept` are the runs that have learnt their training samples."""
    return _metrics(inputs, least_accuracy=LEARNT)


def draw_fig1_row3_text(table: pd.DataFrame, published: pd.DataFrame) -> Figure:
    """The same panels."""
    return _draw_row(table, published)


def table_fig1_row4_rn2(inputs: Inputs) -> pd.DataFrame:
    """The same rows."""
    return _metrics(inputs)


def draw_fig1_row4_rn2(table: pd.DataFrame, published: pd.DataFrame) -> Figure:
    """The same panels."""
    return _draw_row(table, published)


# ======================================================================================
# Figure 2: three models


def table_fig2_mnist(inputs: Inputs) -> pd.DataFrame:
    """The same rows for three models."""
    return _metrics(inputs)


def draw_fig2_mnist(table: pd.DataFrame, published: pd.DataFrame) -> Figure:
    """NC1, NC2, NC3 against the number of blocks, a curve a model."""
    return _draw_models(table, published)


# ======================================================================================
# Figure 3: total regularisation


def table_fig3_regularization(inputs: Inputs) -> pd.DataFrame:
    """Panel total: (λ/2)|θ̄|² of a seed; panel block: that of block `layer`, the head last."""
    total = _of_seeds(inputs, ["penalty"])
    ends = total[["run", "seed", "kept", "above", "converged"]]
    blocks = inputs.measures[inputs.measures["metric"] == "penalty_term"]
    blocks = blocks.merge(ends, on=["run", "seed"])
    panels = {"total": total, "block": blocks}
    parts = [tidy(inputs, panel, rows, _series(rows)) for panel, rows in panels.items()]
    return pd.concat(parts, ignore_index=True)


def draw_fig3_regularization(table: pd.DataFrame, published: pd.DataFrame) -> Figure:
    """Total regularisation by depth, and how it is spread over the blocks."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(8, 3.6))
    total = table[table["panel"] == "total"]
    model = total["model"].iloc[0] if len(total) else table["model"].iloc[0]
    _curve(left, total, **_style(model, 0))
    drawing.log_y(left)
    _few_ticks(left)
    _depth_axis(left, table["depth"])
    left.set_title(f"all layers, slope {slope(total, 'penalty')}")
    left.set_ylabel("total regularisation (λ/2)|θ|²")
    blocks = table[table["panel"] == "block"]
    depths = sorted(blocks["depth"].unique())
    for position, (depth, colour) in enumerate(
        zip(depths, drawing.ordered_colours(len(depths)), strict=True)
    ):
        own = blocks[(blocks["depth"] == depth) & (blocks["value"] > 0)]
        mean = np.exp(np.log(own["value"]).groupby(own["layer"]).mean())
        style = {"color": colour, "linestyle": drawing.ordered_dash(position)}
        style["marker"] = drawing.MARKERS[position % len(drawing.MARKERS)]
        # The head is no block: no line leads to it.
        blocks_, head = mean[mean.index < depth], mean[mean.index >= depth]
        right.plot(blocks_.index / depth, blocks_, **style, label=f"L = {depth}")
        right.plot(head.index / depth, head, **style | {"linestyle": "none"}, mfc="none")
    drawing.log_y(right)
    _few_ticks(right)
    right.set_title("each layer")
    right.set(xlabel="place of the layer l / L (1, open: head)", ylabel="regularisation of a layer")
    figure.legend(*right.get_legend_handles_labels(), loc="outside right center")
    drawing.settings_line(figure, _settings(total))
    return figure


# ======================================================================================
# Objective and lower bound


def table_fig_extra_objective(inputs: Inputs) -> pd.DataFrame:
    """Objective and bound of each seed; `value` is their ratio."""
    rows = _of_seeds(inputs, ["objective"])
    rows = rows.assign(value=rows["objective"] / rows["bound"])
    return tidy(inputs, "objective", rows, _series(rows))


def draw_fig_extra_objective(table: pd.DataFrame, published: pd.DataFrame) -> Figure:
    """Objective by depth with its bound (left), and the ratio of both (right)."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.2))
    for position, rows in enumerate(_by_template(table)):
        style = _style(rows["model"].iloc[0], position) | {"label": rows["series"].iloc[0]}
        _curve(left, rows, "objective", **style)
        _curve(right, rows, **style)
        bound = rows.groupby("depth")["bound"].first()
        left.plot(bound.index, bound, "_", color=style["color"], ms=11, mew=1.5)
    left.plot([], [], "k_", ms=11, mew=1.5, label="lower bound of each")
    right.axhline(1, color="black", linestyle=":")
    left.set_title("at the end of training")
    right.set_title("over its lower bound")
    for ax, label in [(left, "objective"), (right, "objective / bound")]:
        drawing.log_y(ax)
        _few_ticks(ax)
        _depth_axis(ax, table["depth"])
        ax.set_ylabel(label)
    figure.legend(*left.get_legend_handles_labels(), loc="outside right center", fontsize=7)
    drawing.settings_line(figure, _settings(table))
    return figure


# ======================================================================================
# What the paper leaves open


def table_fig_extra_sensitivity(inputs: Inputs) -> pd.DataFrame:
    """The metrics by `choice`."""
    table = _metrics(inputs)
    template = table["run"].str.partition("-")[0]
    return table.assign(choice=template.map(CHOICES))


def draw_fig_extra_sensitivity(table: pd.DataFrame, published: pd.DataFrame) -> Figure:
    """NC1, NC2, NC3: L-RN1 with two optimisers above, L-RN2 with two last layers below."""
    models = list(table.groupby("model", sort=False))
    figure, axes = drawing.grid(len(models), 3, figsize=(11, 2.9 * max(len(models), 1)))
    for row, (model, rows) in zip(axes, models, strict=True):
        curves = []
        for position, (choice, own) in enumerate(rows.groupby("choice", sort=False)):
            curves.append((own, _style(model, position) | {"label": f"{model}, {choice}"}))
        _metric_panels(row, curves)
        row[0].set_ylabel(f"{model}\nmetric at the end of training")
        # Its legend stands beside its row.
        row[-1].legend(loc="center left", bbox_to_anchor=(1.02, 0.5), fontsize=7)
    drawing.settings_line(figure, _settings(table))
    return figure


def table_ext_variants(inputs: Inputs) -> pd.DataFrame:
    """The metrics of the other models; with the squared error NC2 is NC2B."""
    return _metrics(inputs)


def draw_ext_variants(table: pd.DataFrame, published: pd.DataFrame) -> Figure:
    """NC1, NC2, NC3 against the number of blocks, a curve a model."""
    return _draw_models(table, published)


# ======================================================================================
# Claims


def claim_c1(tables: Tables) -> Verdict:
    """L-RN1 on images."""
    return _falls(tables["fig1_row1_rn1"])


def claim_c2(tables: Tables) -> Verdict:
    """L-T11 on images."""
    return _falls(tables["fig1_row2_t11"])


def claim_c3(tables: Tables) -> Verdict:
    """pre-LN L-T11 on text, of the runs that have learnt it."""
    return _falls(tables["fig1_row3_text"], only_kept=True)


def claim_c4(tables: Tables) -> Verdict:
    """L-RN2 with λ over depth in all layers, and in all but the last (eq. 11)."""
    rows = tables["fig_extra_sensitivity"]
    rows = some(rows[rows["choice"] == CHOICES["rn2_head"]], f"run with {CHOICES['rn2_head']}")
    first, second = _falls(tables["fig1_row4_rn2"]), _falls(rows)
    value = float(np.max([first.value, second.value]))
    detail = (
        f"{CHOICES['rn2_mnist']}: {first.verdict}: {first.detail}. "
        f"{CHOICES['rn2_head']}: {second.verdict}: {second.detail}"
    )
    if UNDECIDABLE in (first.verdict, second.verdict):
        return undecidable(detail, value=value)
    if first.verdict != second.verdict:
        return undecidable(f"the two readings of λ give two answers: {detail}", value=value)
    return decide(first.verdict == HOLDS, value=value, detail=detail)


def claim_c5(tables: Tables) -> Verdict:
    """Slopes of L-RN2 with a constant λ."""
    table = tables["fig2_mnist"]
    rows = table[table["model"] == "L-RN2"]
    slopes = [slope(rows, metric) for metric in METRICS]
    value = float(np.max([abs(found.slope) for found in slopes]))
    detail = f"slopes: {_slopes(rows)}; {_training(rows)}"
    if why := _why_open(rows):
        return undecidable(f"{why}: {detail}", value=value)
    # The slowest fall that the theory calls one: what is as steep is not constant.
    steep = abs(max(EXPECTED))
    if all(-CONSTANT < found.low and found.high < CONSTANT for found in slopes):
        return decide(True, value=value, detail=detail)
    if any(found.high < -steep or found.low > steep for found in slopes):
        return decide(False, value=value, detail=detail)
    return undecidable(
        f"neither within {CONSTANT} nor beyond {steep}, and the paper says no number: {detail}",
        value=value,
    )


def claim_c6(tables: Tables) -> Verdict:
    """Average slope of the ResNets at large depth."""
    figures = ("fig1_row1_rn1", "fig1_row4_rn2")
    large = {name: _large(tables[name]) for name in figures}
    mean = mean_slope(list(large.values()))
    listed = [f"{rows['model'].iloc[0]} {_slopes(rows)}" for rows in large.values() if len(rows)]
    r_squared = [slope(rows, m).r_squared for rows in large.values() for m in telling(rows)]
    depths = pd.concat(large.values())["depth"]
    detail = (
        f"average {mean}, from L = {depths.min()} to {depths.max()}; {'; '.join(listed)}; mean r² "
        f"of the straight lines {np.mean(r_squared):.2f}"
    )
    for name, rows in large.items():
        of_large = rows.loc[rows["depth"] >= LARGE, "depth"].nunique()
        why = f"fewer than {LINE} depths from {LARGE} blocks on" if of_large < LINE else ""
        if why := why or _why_open(rows):
            return undecidable(f"{name}: {why}: {detail}", value=mean.slope)
    if EXPECTED[0] <= mean.low and mean.high <= EXPECTED[1]:
        return decide(True, value=mean.slope, detail=detail)
    if mean.high < EXPECTED[0] or mean.low > EXPECTED[1]:
        return decide(False, value=mean.slope, detail=detail)
    return undecidable(
        f"the interval is neither within {list(EXPECTED)} nor outside: {detail}", value=mean.slope
    )


def claim_c7(tables: Tables) -> Verdict:
    """Total regularisation by depth."""
    table = tables["fig3_regularization"]
    total = table[table["panel"] == "total"]
    means = total.groupby("depth")["value"].mean()
    listed = ", ".join(f"{value:.4f} at L = {depth}" for depth, value in means.items())
    return _trend(total, ["penalty"], f"{listed}; slope {slope(total, 'penalty')}")


def claim_c8(tables: Tables) -> Verdict:
    """Objective over bound: never below 1, and falling for L-RN1."""
    table = tables["fig_extra_objective"]
    least = float(table["value"].min())
    listed, judged = [], []
    for rows in _by_template(table):
        means = rows.groupby("depth")["value"].mean()
        listed.append(f"{rows['series'].iloc[0]}: {means.iloc[0]:.2f} to {means.iloc[-1]:.2f}")
        if rows["model"].iloc[0] == "L-RN1":
            judged.append(rows)
    some(judged, "run of L-RN1")
    detail = f"mean ratio from the smallest to the largest depth: {'; '.join(listed)}"
    if least < 1 - ROUNDING:
        return decide(False, value=least, detail=detail)
    detail += f"; of L-RN1 {_training(pd.concat(judged))}"
    if why := next(filter(None, (_why_open(rows, least_accuracy=0.0) for rows in judged)), ""):
        return undecidable(f"{why}: {detail}", value=least)
    chances = [trend(_by_seed(rows, "objective"), falls=True) for rows in judged]
    # A rise is no opposite: it would say that training ended above the minimum.
    return by_chance(float(np.max(chances)), 1.0, value=least, detail=detail)


# ======================================================================================
# Rows


def _metrics(inputs: Inputs, least_accuracy: float = 0.0) -> pd.DataFrame:
    """The three metrics of each seed with its objective; `slope` is that of the whole curve."""
    table = _of_seeds(inputs, list(METRICS), least_accuracy)
    for curve in _by_template(table):
        for metric in METRICS:
            rows = curve.index[curve["metric"] == metric]
            table.loc[rows, SLOPE] = astuple(slope(curve, metric))
    return tidy(inputs, "metric", table, _series(table))


def _of_seeds(inputs: Inputs, wanted: list[str], least_accuracy: float = 0.0) -> pd.DataFrame:
    """Some metrics of each seed in long form, beside its `FACTS`; NaN for a seed that diverged.

    `kept`: neither diverged nor below `least_accuracy`. `above`: of a depth whose mean objective is
    above that of fewer blocks, see `_depths_above`. `converged`: settled, see `SETTLED`.
    """
    rows = inputs.measures[inputs.measures["layer"].isna()].drop(columns="layer")
    seed = ["run", "seed"]
    wide = rows.pivot(index=seed, columns="metric", values="value")
    wide = wide.reindex(columns=list(dict.fromkeys([*wanted, *FACTS])))
    long = wide[wanted].melt(ignore_index=False, var_name="metric").reset_index()
    facts = wide[FACTS].reset_index()
    settings = rows.drop(columns=["metric", "value"]).drop_duplicates(seed)
    table = settings.merge(facts, on=seed).merge(long, on=seed)
    table["kept"] = (table["diverged_at"] < 0) & (table["accuracy"] >= least_accuracy)
    table["above"] = False
    for curve in _by_template(table):
        table.loc[curve.index, "above"] = curve["depth"].isin(_depths_above(curve))
    return table.assign(
        converged=table["kept"] & (table["gradient"] <= STATIONARY) & ~table["above"]
    )


def _depths_above(curve: pd.DataFrame) -> list[int]:
    """The depths whose objective is above that of fewer blocks, beyond what chance shows.

    The least objective cannot rise with the depth: a block of zeros is the identity and costs
    nothing, and where λ changes with the depth it falls. All runs of a curve see the same samples.
    Where deeper networks have the same minimum, every second mean of a few seeds is a little above
    another: a rise counts where chance shows it in less than 5 % of cases (Welch's test).
    """
    runs = curve[curve["kept"]].drop_duplicates(["run", "seed"])
    found: list[int] = []
    lowest = None
    for depth, own in runs.groupby("depth")["objective"]:
        if lowest is not None and _is_above(own, lowest):
            found.append(depth)
        if lowest is None or own.mean() < lowest.mean():
            lowest = own
    return found


def _is_above(own: pd.Series, other: pd.Series) -> bool:
    """Whether the mean of a sample is above that of another one by more than chance.

    Where neither varies but for rounding any rise counts, and so it does of a single value.
    """
    if min(len(own), len(other)) < 2 or np.isclose(own.std() + other.std(), 0, atol=ROUNDING):
        return own.mean() > other.mean()
    samples = [fact for x in (own, other) for fact in (x.mean(), x.std(), len(x))]
    return ttest_ind_from_stats(*samples, equal_var=False, alternative="greater").pvalue < CHANCE


def _series(rows: pd.DataFrame) -> pd.Series:
    """Model, samples, penalty, optimiser: `L-RN1 on 10 x 50 digits, λ = 0.005, Adam`."""
    samples = rows["K"].astype(str) + " x " + rows["n"].astype(str)
    text = rows["model"] + " on " + samples + " " + rows["dataset"].replace(drawing.DATASETS)
    how = rows["loss"].map({"ce": "", "mse": ", squared error (NC2B)"})
    how += rows["optimiser"].map({"adam": ", Adam", "sgd": ", gradient descent"})
    return text + ", " + rows["rule"] + how


def _by_template(table: pd.DataFrame) -> list[pd.DataFrame]:
    """The rows of each entry of the study's file."""
    return [rows for _, rows in table.groupby(table["run"].str.partition("-")[0], sort=False)]


def _large(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of large depth: from `LARGE` blocks on, or the `LINE` largest depths."""
    depths = sorted(table["depth"].unique())
    enough = sum(depth >= LARGE for depth in depths) >= LINE
    first = LARGE if enough else min(depths[-LINE:], default=0)
    return table[table["depth"] >= first]


# ======================================================================================
# Statistics


@dataclass(frozen=True)
class Slope:
    """A log-log slope with its 95 % confidence interval, and r² of the straight line."""

    slope: float
    low: float
    high: float
    r_squared: float

    def __str__(self) -> str:
        return f"{self.slope:.2f} [{self.low:.2f}, {self.high:.2f}]"


def slope(table: pd.DataFrame, metric: str) -> Slope:
    """Least squares of log metric on log depth, over all seeds that are kept; Student's interval.

    NaN where there are fewer than two depths, without an interval where there are only two.
    """
    rows = _shown(table[table["metric"] == metric])
    if rows["depth"].nunique() < 2:
        return Slope(np.nan, np.nan, np.nan, np.nan)
    fit = _line(np.log(rows["value"]), rows["depth"])
    half = student.ppf(0.975, fit.freedom) * fit.error if fit.freedom else np.nan
    return Slope(fit.slope, fit.slope - half, fit.slope + half, fit.r_squared)


class _Line(NamedTuple):
    """A straight line in log depth: its slope, standard error and degrees of freedom, and r²."""

    slope: float
    error: float
    freedom: int
    r_squared: float


def _line(logs: pd.Series, depth: pd.Series) -> _Line:
    """Least squares of the logarithms of a metric on that of the depth.

    What a depth deviates from the line all its seeds have in common, so that the means of the
    depths are the data: the error follows from their scatter, weighted by their seeds.
    """
    x = np.log(depth.astype(float))
    fit = linregress(x, logs)
    # Over all runs, which is weighted by the seeds of a depth.
    squares = ((logs.groupby(depth).transform("mean") - fit.intercept - fit.slope * x) ** 2).sum()
    freedom = depth.nunique() - 2
    spread = ((x - x.mean()) ** 2).sum()
    error = float(np.sqrt(squares / freedom / spread)) if freedom else np.nan
    return _Line(float(fit.slope), error, freedom, float(fit.rvalue**2))


def mean_slope(curves: Sequence[pd.DataFrame]) -> Slope:
    """The average of the slopes of several rows of a figure, with a 95 % confidence interval.

    The metrics of a row are averaged first, seed by seed, since they come from the same runs; rows
    are independent. Degrees of freedom after Welch and Satterthwaite. NaN where a row has fewer
    than two depths, without an interval where it has only two.
    """
    lines = []
    for curve in curves:
        rows = _shown(curve[curve["metric"].isin(telling(curve))])
        if rows["depth"].nunique() < 2:
            return Slope(np.nan, np.nan, np.nan, np.nan)
        logs = np.log(rows["value"]).groupby([rows["depth"], rows["seed"]]).mean()
        lines.append(_line(logs, logs.index.get_level_values("depth").to_series(logs.index)))
    mean = float(np.mean([line.slope for line in lines]))
    r_squared = float(np.mean([line.r_squared for line in lines]))
    freedom = np.array([line.freedom for line in lines])
    if min(freedom) < 1:
        return Slope(mean, np.nan, np.nan, r_squared)
    variances = np.array([line.error**2 for line in lines])
    total, spread = variances.sum(), (variances**2 / freedom).sum()
    half = student.ppf(0.975, total**2 / spread) * total**0.5 / len(lines) if total else 0.0
    return Slope(mean, mean - half, mean + half, r_squared)


def telling(table: pd.DataFrame) -> list[str]:
    """The metrics that say something: for two classes NC2 is 0 at any stationary point (derived).

    The gradient of the cross-entropy with respect to the rows of the head adds up to zero over the
    classes, so where training ends the rows do, and two of them are opposite.
    """
    return [metric for metric in METRICS if metric != "nc2" or (table["K"] > 2).all()]


def _falls(table: pd.DataFrame, only_kept: bool = False) -> Verdict:
    return _trend(table, telling(table), f"slopes: {_slopes(table)}", only_kept)


def _trend(
    table: pd.DataFrame, metrics: Sequence[str], words: str, only_kept: bool = False
) -> Verdict:
    """Whether all of these metrics fall with the depth; one that rises is against it.

    Args:
        table: rows of one curve.
        metrics: those that decide.
        words: what was found.
        only_kept: whether the claim is about the runs that are `kept`.

    Returns:
        The verdict; its value is the largest slope.
    """
    value = float(np.max([slope(table, metric).slope for metric in metrics]))
    detail = f"{words}; {_training(table)}"
    if why := _why_open(table[table["metric"].isin(metrics)], only_kept):
        return undecidable(f"{why}: {detail}", value=value)
    by_seed = [_by_seed(table, metric) for metric in metrics]
    falls = max(trend(rows, falls=True) for rows in by_seed)
    # Each metric has its own chance to rise.
    rises = len(metrics) * min(trend(rows, falls=False) for rows in by_seed)
    return by_chance(falls, rises, value=value, detail=detail)


def _by_seed(table: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Values of a metric, a column a depth and a row a seed, as many as every depth has.

    The starts of two depths have nothing in common, so any seeds make a row.
    """
    rows = _shown(table[table["metric"] == metric]).sort_values("seed")
    columns = {depth: own["value"].to_numpy() for depth, own in rows.groupby("depth")}
    count = min(map(len, columns.values()), default=0)
    return pd.DataFrame({depth: values[:count] for depth, values in columns.items()})


def _slopes(table: pd.DataFrame) -> str:
    words = [f"{title} {slope(table, metric)}" for metric, title in METRICS.items()]
    if "nc2" not in telling(table):
        words[1] += " (0 at any stationary point)"
    return ", ".join(words)


def _shown(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows of runs that are kept; what is zero or undefined has no logarithm."""
    return rows[rows["kept"] & (rows["value"] > 0)]


def _why_open(table: pd.DataFrame, only_kept: bool = False, least_accuracy: float = LEARNT) -> str:
    """Why nothing can be said of a trend; "" where something can.

    Args:
        table: rows of one curve.
        only_kept: whether the claim is about the runs that are `kept`; else all have to settle.
        least_accuracy: on the training samples, in the mean of each depth.
    """
    depths = sorted(table["depth"].unique())
    if only_kept:
        table = table[table["kept"]]
    runs = table.drop_duplicates(["run", "seed"])
    try:
        settled(runs, runs["converged"], SETTLED)
        for metric, rows in table.groupby("metric", sort=False):
            valid = rows["value"] > 0
            lost = sorted({*depths} - {*rows["depth"]} | {*rows.loc[~valid, "depth"]})
            if lost:
                return f"no value of {metric} at L = {', '.join(map(str, lost))}"
        accuracy = runs.groupby("depth")["accuracy"].mean()
        trained(accuracy.set_axis([f"L = {depth}" for depth in accuracy.index]), least_accuracy)
    except Undecided as why:
        return str(why)
    if len(depths) < 3:
        return "fewer than three depths"
    # What the start contributes is not known of one.
    return "fewer than two seeds" if runs.groupby("depth").size().min() < 2 else ""


def _training(table: pd.DataFrame) -> str:
    """How many runs settled and why others did not; accuracy, and what is left of the gradient."""
    every = table.drop_duplicates(["run", "seed"])
    runs = every[every["kept"]]
    left = every[~every["kept"]]
    words = [f"{runs['converged'].sum()} of {len(every)} runs settled"]
    if len(left):
        named = [f"{run} seed {seed}" for run, seed in zip(left["run"], left["seed"], strict=True)]
        words.append(f"left out, not learnt or diverged: {', '.join(named)}")
    if above := sorted(set(runs.loc[runs["above"], "depth"])):
        words.append(f"objective above that of fewer blocks at L = {', '.join(map(str, above))}")
    words.append(
        f"gradient over that of the penalty: median {runs['gradient'].median():.2g}, at most "
        f"{runs['gradient'].max():.2g}"
    )
    words.append(f"training accuracy at least {runs['accuracy'].min():.3f}")
    return "; ".join(words)


# ======================================================================================
# Drawing

Curve = tuple[pd.DataFrame, dict[str, object]]


def _draw_row(table: pd.DataFrame, published: pd.DataFrame) -> Figure:
    figure, axes = plt.subplots(1, 4, figsize=(13, 3.4))
    model = table["model"].iloc[0]
    _metric_panels(axes, [(table, _style(model, 0) | {"label": model})])
    for ax, (metric, title) in zip(axes, METRICS.items(), strict=False):
        rows = table[table["metric"] == metric]
        if len(rows):
            ax.set_title(f"{title}, slope {Slope(*rows[SLOPE].iloc[0])}", fontsize=9)
    _guides(axes, table, published)
    _published_ticks(axes, published)
    axes[0].set_ylabel("metric at the end of training")
    last = axes[3]
    _curve(last, table.drop_duplicates(["run", "seed"]), "objective", **_style(model, 0))
    bound = table.groupby("depth")["bound"].first()
    last.plot(bound.index, bound, "k:", label="lower bound of the objective")
    last.set_title("objective", fontsize=9)
    drawing.log_y(last)
    _few_ticks(last)
    _depth_axis(last, table["depth"])
    _legend_beside(figure, [axes[0], last])
    drawing.settings_line(figure, _settings(table))
    return figure


def _draw_models(table: pd.DataFrame, published: pd.DataFrame) -> Figure:
    figure, axes = plt.subplots(1, 3, figsize=(12.5, 3.8))
    curves = []
    for position, rows in enumerate(_by_template(table)):
        style = _style(rows["model"].iloc[0], position)
        curves.append((rows, style | {"label": rows["series"].iloc[0]}))
    _metric_panels(axes, curves)
    _published_ticks(axes, published)
    axes[0].set_ylabel("metric at the end of training")
    _legend_beside(figure, [axes[0]])
    drawing.settings_line(figure, _settings(table))
    return figure


def _legend_beside(figure: Figure, panels: Sequence[Axes]) -> None:
    found = {}
    for ax in panels:
        for handle, label in zip(*ax.get_legend_handles_labels(), strict=True):
            found.setdefault(label, handle)
    figure.legend([*found.values()], [*found], loc="outside right center", fontsize=7)


def _metric_panels(axes: Sequence[Axes], curves: Sequence[Curve]) -> None:
    for ax, (metric, title) in zip(axes, METRICS.items(), strict=False):
        for table, style in curves:
            _curve(ax, table[table["metric"] == metric], **style)
        ax.set_title(title)
        drawing.log_y(ax)
        _few_ticks(ax)
        _depth_axis(ax, pd.concat([table["depth"] for table, _ in curves]))


def _curve(ax: Axes, rows: pd.DataFrame, y: str = "value", **style: object) -> None:
    """Mean of log10 over the seeds with one standard deviation; two seeds are two dots.

    Marks are hollow where not every run of a depth has settled.
    """
    shown = rows[rows["kept"] & (rows[y] > 0)]
    logs = np.log10(shown[y]).groupby(shown["depth"])
    mean, std, count = logs.mean(), logs.std(), logs.count()
    (line,) = ax.plot(mean.index, 10**mean, **style)
    colour = line.get_color()
    many = mean.index[count > 2]
    middle = 10 ** mean[many]
    below, above = middle - 10 ** (mean - std)[many], 10 ** (mean + std)[many] - middle
    ax.errorbar(many, middle, [below, above], fmt="none", color=colour, capsize=2)
    dots = shown[shown["depth"].isin(mean.index[count == 2])]
    ax.plot(dots["depth"], dots[y], ".", color=colour, markersize=4)
    open_ones = mean[~shown["converged"].groupby(shown["depth"]).all()]
    ax.plot(
        open_ones.index, 10**open_ones, marker=line.get_marker(), color=colour,
        markerfacecolor="white", linestyle="none",
    )  # fmt: skip


def _guides(axes: Sequence[Axes], table: pd.DataFrame, published: pd.DataFrame) -> None:
    """The published average slope, through the mean of our curve."""
    found = published[published["series"] == AVERAGE] if len(published) else published
    if not len(found):
        return
    power = float(found["y"].iloc[0])
    says = telling(table)
    for ax, metric in zip(axes, METRICS, strict=False):
        rows = _large(_shown(table[table["metric"] == metric]))
        if metric in says and rows["depth"].nunique() > 1:
            x = np.array(sorted(rows["depth"].unique()))
            middle = np.exp((np.log(rows["value"]) - power * np.log(rows["depth"])).mean())
            ax.plot(
                x, middle * x**power, color=drawing.COLOURS["published"], linestyle=":",
                label=f"published average slope {power}",
            )  # fmt: skip


def _published_ticks(axes: Sequence[Axes], published: pd.DataFrame) -> None:
    """From the lowest to the highest tick of the paper's axis: a bar, as far as it is in view.

    The curves themselves are not known. The title says where the ticks are, since ours may be
    elsewhere.
    """
    if not len(published):
        return
    for ax, title in zip(axes, METRICS.values(), strict=False):
        ticks = published.loc[published["series"] == f"{title} ticks", "y"]
        if not len(ticks):
            continue
        view, (low, high) = ax.get_ylim(), (ticks.min(), ticks.max())
        ax.set_xlim(right=ax.get_xlim()[1] * 1.1)
        ax.plot(
            [0.985] * 2, [low, high], transform=ax.get_yaxis_transform(), linewidth=5, alpha=0.4,
            color=drawing.COLOURS["published"], solid_capstyle="butt",
            label="ticks of the published axis",
        )  # fmt: skip
        ax.set_ylim(view)
        ax.set_title(f"{ax.get_title()}\npublished ticks {low:.2g} to {high:.2g}", fontsize=9)


def _style(model: str, position: int) -> dict[str, object]:
    """The same model has the same colour in every figure; a further curve of it its own dash."""
    colours = {"L-RN1": "model_1", "L-T11": "model_2", "pre-LN L-T11": "model_3",
               "L-RN2": "model_4", "L-T12": "model_5", "L-T21": "model_6",
               "L-T22": "model_7", "pre-LN L-RN1": "model_8"}  # fmt: skip
    return {
        "color": drawing.COLOURS[colours[model]],
        "linestyle": drawing.ordered_dash(position),
        "marker": drawing.MARKERS[position % len(drawing.MARKERS)],
    }


def _depth_axis(ax: Axes, depths: pd.Series) -> None:
    listed = sorted(depths.unique())
    ax.set_xscale("log")
    ax.xaxis.set_major_locator(FixedLocator(listed))
    ax.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    ax.xaxis.set_minor_locator(NullLocator())
    ax.set_xlabel("number of blocks L")


def _few_ticks(ax: Axes) -> None:
    """Numbers on a logarithmic axis that spans few decades, or not even one."""
    if ax.get_yscale() != "log":
        return
    low, high = ax.get_ylim()
    if high / low < 100:
        subs = [1, 1.5, 2, 3, 4, 5, 6, 8] if high / low < 10 else [1, 2, 5]
        ax.yaxis.set_major_locator(MaxNLocator(5) if high / low < 2 else LogLocator(subs=subs))
        ax.yaxis.set_major_formatter(lambda value, _: f"{value:.4g}")
    ax.yaxis.set_minor_formatter(NullFormatter())


def _settings(table: pd.DataFrame) -> str:
    """What is common, and how the runs ended; one curve is named."""
    series = list(dict.fromkeys(table["series"]))
    runs = table.drop_duplicates(["run", "seed"])
    named = f"{series[0]}; " if len(series) == 1 else ""
    epochs, widths = (
        ", ".join(str(value) for value in sorted(table[name].unique()))
        for name in ("epochs", "width")
    )
    seeds = runs.groupby(["series", "depth"])["seed"].nunique()
    listed = " or ".join(str(count) for count in sorted(seeds.unique()))
    kept = runs[runs["kept"]]
    left = len(runs) - len(kept)
    words = f"; {left} left out, not learnt or diverged" if left else ""
    return (
        f"{named}d = {widths}, {epochs} epochs, {listed} seeds (mean and standard deviation of "
        f"log10)\n{runs['converged'].sum()} of {len(runs)} runs settled{words}; "
        f"gradient over that of the penalty at most {kept['gradient'].max():.3g}; hollow: not all "
        "seeds of that depth settled"
    )
