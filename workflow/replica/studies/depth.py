"""Neural Collapse is Globally Optimal in Deep Regularized ResNets and Transformers.

Súkeník, Lampert, Mondelli; NeurIPS 2025; arXiv 2505.15239. The paper has three figures, without
tables, and one number, the average slope of claim c6. Optimiser, batch, schedule, start, number of
samples, patch size and all that concerns the text are not stated: they are settings here, and the
figure `fig_extra_sensitivity` varies two of them.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator
from scipy.stats import linregress, spearmanr
from scipy.stats import t as student

from replica import drawing
from replica.measures.inputs import Inputs, first_look, tidy
from replica.verdicts import Verdict, decide, undecidable

Tables = Mapping[str, pd.DataFrame]

METRICS = {"nc1": "NC1", "nc2": "NC2", "nc3": "NC3"}
TITLES = {
    "mnist": "MNIST",
    "cifar10": "CIFAR-10",
    "imdb": "IMDB",
    "digits": "digits",
    "topics_syntax": "passages",
    "cifar10_jpeg": "CIFAR-10 (JPEG)",
    "imdb_table": "IMDB",
}
# A run has converged if it has learnt its training samples.
LEARNT = 0.99
# Blocks from which on the paper sees straight lines; fewer where there are not three such depths.
LARGE = 8
# Rounding of the objective; a run below the bound by more is a mistake of ours.
ROUNDING = 1e-6
FALLS = "Spearman correlation of depth and mean log10 of each metric <= -0.8; value: the largest"


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
    """The same rows."""
    return _metrics(inputs)


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
    return _draw_curves(table, _by_model(table))


# ======================================================================================
# Figure 3: total regularisation


def table_fig3_regularization(inputs: Inputs) -> pd.DataFrame:
    """Panel total: (λ/2)|θ̄|² of a seed; panel block: that of block `layer`, the head last."""
    rows = inputs.measures
    total = rows[rows["metric"] == "penalty"]
    blocks = rows[rows["metric"] == "penalty_term"]
    parts = [tidy(inputs, "total", total, total["model"]), tidy(inputs, "block", blocks, "block")]
    return pd.concat(parts, ignore_index=True)


def draw_fig3_regularization(table: pd.DataFrame, published: pd.DataFrame) -> Figure:
    """Total regularisation by depth, and how it is spread over the blocks."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(8, 3.4))
    total = table[table["panel"] == "total"]
    model = total["model"].iloc[0]
    style = _style(model, 0) | {"label": model}
    drawing.band(left, total, "depth", "value", log=True, **style)
    drawing.log_y(left)
    _depth_axis(left, total["depth"])
    left.set_ylabel("total regularisation (λ/2)|θ|²")
    left.legend()
    blocks = table[table["panel"] == "block"]
    depths = sorted(blocks["depth"].unique())
    for position, (depth, colour) in enumerate(
        zip(depths, drawing.ordered_colours(len(depths)), strict=True)
    ):
        own = blocks[blocks["depth"] == depth]
        mean = own.groupby("layer")["value"].mean()
        right.plot(
            mean.index / depth, mean, color=colour, linestyle=drawing.ordered_dash(position),
            marker=drawing.MARKERS[position], label=f"L = {depth}",
        )  # fmt: skip
    drawing.log_y(right)
    right.set(xlabel="place of the layer l / L (1: head)", ylabel="regularisation of a layer")
    right.legend(ncols=2)
    drawing.settings_line(figure, _settings(table))
    return figure


# ======================================================================================
# Objective and lower bound


def table_fig_extra_objective(inputs: Inputs) -> pd.DataFrame:
    """Objective and bound of each seed; `value` is their ratio."""
    rows = inputs.measures[inputs.measures["metric"].isin(["objective", "diverged"])]
    rows = rows.assign(objective=rows["value"].where(rows["metric"] == "objective"))
    rows = rows.assign(metric="objective", value=rows["objective"] / rows["bound"])
    return tidy(inputs, "objective", rows.drop(columns="layer"), _series(rows))


def draw_fig_extra_objective(table: pd.DataFrame, published: pd.DataFrame) -> Figure:
    """Objective by depth with its bound (left), and the ratio of both (right)."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(9.5, 4))
    for position, (series, rows) in enumerate(table.groupby("series", sort=False)):
        style = _style(rows["model"].iloc[0], position) | {"label": series}
        drawing.band(left, rows, "depth", "objective", log=True, **style)
        bound = rows.groupby("depth")["bound"].first()
        left.plot(bound.index, bound, color=style["color"], linestyle=":", linewidth=1)
        drawing.band(right, rows, "depth", "value", log=True, **style)
    left.plot([], [], "k:", label="lower bound of each")
    right.axhline(1, color="black", linestyle=":")
    for ax, label in [(left, "objective at the end of training"), (right, "objective / bound")]:
        drawing.log_y(ax)
        _depth_axis(ax, table["depth"])
        ax.set_ylabel(label)
    figure.legend(*left.get_legend_handles_labels(), loc="outside right center")
    drawing.settings_line(figure, _settings(table))
    return figure


# ======================================================================================
# What the paper leaves open


def table_fig_extra_sensitivity(inputs: Inputs) -> pd.DataFrame:
    """The metrics by `choice`."""
    table = _metrics(inputs)
    template = table["run"].str.partition("-")[0]
    names = {
        "rn1_mnist": "Adam",
        "rn1_sgd": "gradient descent",
        "rn2_mnist": "λ/L in all layers",
        "rn2_head": "λ in the last layer, λ/L before",
    }
    return table.assign(choice=template.map(names))


def draw_fig_extra_sensitivity(table: pd.DataFrame, published: pd.DataFrame) -> Figure:
    """NC1, NC2, NC3: L-RN1 with two optimisers above, L-RN2 with two last layers below."""
    figure, axes = plt.subplots(2, 3, figsize=(9.5, 5.6), sharex=True)
    for row, (model, rows) in zip(axes, table.groupby("model", sort=False), strict=True):
        curves = []
        for position, (choice, own) in enumerate(rows.groupby("choice", sort=False)):
            curves.append((own, _style(model, position) | {"label": choice}))
        _metric_panels(row, curves, slopes=False)
        row[0].set_ylabel(f"{model}\nmetric at the end of training")
        row[0].legend()
    drawing.settings_line(figure, _settings(table))
    return figure


def table_ext_variants(inputs: Inputs) -> pd.DataFrame:
    """The metrics of the other models; with the squared error NC2 is NC2B."""
    return _metrics(inputs)


def draw_ext_variants(table: pd.DataFrame, published: pd.DataFrame) -> Figure:
    """NC1, NC2, NC3 against the number of blocks, a curve a model."""
    return _draw_curves(table, _by_model(table))


# ======================================================================================
# Claims


def claim_c1(tables: Tables) -> Verdict:
    """L-RN1 on images."""
    return _falls(tables["fig1_row1_rn1"])


def claim_c2(tables: Tables) -> Verdict:
    """L-T11 on images."""
    return _falls(tables["fig1_row2_t11"])


def claim_c3(tables: Tables) -> Verdict:
    """pre-LN L-T11 on text."""
    return _falls(tables["fig1_row3_text"])


def claim_c4(tables: Tables) -> Verdict:
    """L-RN2 with λ over depth."""
    return _falls(tables["fig1_row4_rn2"])


def claim_c5(tables: Tables) -> Verdict:
    """Slopes of L-RN2 with a constant λ."""
    table = tables["fig2_mnist"]
    rows = table[table["model"] == "L-RN2"]
    slopes = {metric: slope(rows, metric) for metric in METRICS}
    largest = max(abs(found.slope) for found in slopes.values())
    words = {
        "value": largest,
        "published": "almost constant in depth",
        "tolerance": "largest |log-log slope| of the three metrics over all depths < 0.1",
    }
    detail = "; ".join(f"{METRICS[m]} {found}" for m, found in slopes.items())
    if first_look(table):
        return undecidable(detail, **words)
    return decide(bool(largest < 0.1), detail=f"{detail}; {_unconverged(rows)}", **words)


def claim_c6(tables: Tables) -> Verdict:
    """Average slope at large depth."""
    listed, values = [], []
    depths: set[int] = set()
    for name in ("fig1_row1_rn1", "fig1_row2_t11", "fig1_row3_text", "fig1_row4_rn2"):
        rows = _large(tables[name])
        depths |= set(rows["depth"])
        own = [slope(rows, metric).slope for metric in METRICS]
        listed.append(f"{rows['model'].iloc[0]} {', '.join(f'{v:.2f}' for v in own)}")
        values += own
    mean = float(np.mean(values))
    detail = f"slopes of NC1, NC2, NC3 from L = {min(depths)} on: {'; '.join(listed)}"
    words = {
        "value": mean,
        "published": "-0.335",
        "tolerance": "mean slope over the rows of Figure 1 and the metrics in [-0.5, -0.25], from "
        f"{LARGE} blocks on",
    }
    if tables["fig1_row1_rn1"]["scale"].iloc[0] != "paper":
        return undecidable(f"only {max(depths)} blocks; {detail}", **words)
    return decide(-0.5 <= mean <= -0.25, detail=detail, **words)


def claim_c7(tables: Tables) -> Verdict:
    """Total regularisation by depth."""
    table = tables["fig3_regularization"]
    total = table[table["panel"] == "total"]
    rho = _correlation(total)
    means = total.groupby("depth")["value"].mean()
    detail = ", ".join(f"{value:.4f} at L = {depth}" for depth, value in means.items())
    words = {
        "value": rho,
        "published": "falls with depth",
        "tolerance": "Spearman correlation of depth and mean log10 <= -0.8",
    }
    if first_look(table):
        return undecidable(detail, **words)
    return decide(rho <= -0.8, detail=detail, **words)


def claim_c8(tables: Tables) -> Verdict:
    """Objective over bound: never below 1, and falling where the theorem says so."""
    table = tables["fig_extra_objective"]
    least = float(table["value"].min())
    listed, rhos = [], []
    for series, rows in table.groupby("series", sort=False):
        # Theorem 4.3 is about one matrix a block and a constant λ; for others it is reported.
        theorem = not rows["model"].iloc[0].endswith("2")
        rho = _correlation(rows)
        means = rows.groupby("depth")["value"].mean()
        listed.append(f"{series} {means.iloc[0]:.2f} to {means.iloc[-1]:.2f}")
        if theorem:
            rhos.append(rho)
    detail = f"mean ratio from the smallest to the largest depth: {'; '.join(listed)}"
    words = {
        "value": least,
        "published": "never below 1; to 1 with depth",
        "tolerance": f"objective / bound >= 1 - {ROUNDING:g} in every run; Spearman correlation of "
        "depth and mean ratio <= -0.8 for models with one matrix a block; value: the least ratio",
    }
    if least < 1 - ROUNDING:
        return decide(False, detail=detail, **words)
    if first_look(table):
        return undecidable(detail, **words)
    return decide(bool(np.max(rhos) <= -0.8), detail=detail, **words)


# ======================================================================================
# Rows


def _metrics(inputs: Inputs) -> pd.DataFrame:
    """The three metrics of each seed with its objective; NaN for a seed that diverged."""
    rows = inputs.measures[inputs.measures["layer"].isna()].drop(columns="layer")
    seed = ["run", "seed"]
    wide = rows.pivot(index=seed, columns="metric", values="value").reset_index()
    wanted = [*METRICS, "objective", "accuracy", "gradient"]
    wide = wide.reindex(columns=[*seed, *wanted])
    settings = rows.drop(columns=["metric", "value"]).drop_duplicates(seed)
    long = wide.melt([*seed, "objective", "accuracy", "gradient"], list(METRICS), "metric")
    table = settings.merge(long, on=seed)
    table["converged"] = table["accuracy"] >= LEARNT
    return tidy(inputs, "metric", table, _series(table))


def _series(rows: pd.DataFrame) -> pd.Series:
    """Model, samples and penalty: `L-RN1 on 10 x 50 digits, λ = 0.005`."""
    samples = rows["K"].astype(str) + " x " + rows["n"].astype(str)
    data = rows["dataset"].replace(TITLES)
    return rows["model"] + " on " + samples + " " + data + ", " + rows["rule"]


def _large(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of large depth: from `LARGE` blocks on, or the three largest depths."""
    depths = sorted(table["depth"].unique())
    first = LARGE if sum(depth >= LARGE for depth in depths) >= 3 else depths[-3:][0]
    return table[table["depth"] >= first]


# ======================================================================================
# Statistics


@dataclass(frozen=True)
class Slope:
    """A log-log slope with its 95 % confidence interval."""

    slope: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.slope:.2f} [{self.low:.2f}, {self.high:.2f}]"


def slope(table: pd.DataFrame, metric: str) -> Slope:
    """Least squares of log metric on log depth, over all seeds that converged; Student's interval.

    NaN where there are fewer than two depths, without an interval where there are only two points.
    """
    rows = _shown(table[table["metric"] == metric])
    if rows["depth"].nunique() < 2:
        return Slope(np.nan, np.nan, np.nan)
    fit = linregress(np.log(rows["depth"]), np.log(rows["value"]))
    half = student.ppf(0.975, len(rows) - 2) * fit.stderr if len(rows) > 2 else np.nan
    return Slope(float(fit.slope), float(fit.slope - half), float(fit.slope + half))


def _correlation(rows: pd.DataFrame) -> float:
    """Spearman correlation of depth and the mean of log10 value over seeds."""
    rows = _shown(rows)
    means = np.log10(rows["value"]).groupby(rows["depth"]).mean()
    if len(means) < 2:
        return np.nan
    return float(spearmanr(means.index, means).statistic) if means.nunique() > 1 else 0.0


def _falls(table: pd.DataFrame) -> Verdict:
    rhos = {metric: _correlation(table[table["metric"] == metric]) for metric in METRICS}
    listed = [f"{METRICS[m]} {rho:.2f} (slope {slope(table, m)})" for m, rho in rhos.items()]
    detail = f"correlations: {'; '.join(listed)}; {_unconverged(table)}"
    words = {
        "value": float(np.max([*rhos.values()])),
        "published": "all three metrics fall with depth",
        "tolerance": FALLS,
    }
    if first_look(table):
        return undecidable(detail, **words)
    return decide(all(rho <= -0.8 for rho in rhos.values()), detail=detail, **words)


def _shown(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows of seeds that converged, as in the paper; what zero or undefined is has no logarithm."""
    rows = rows[rows["value"] > 0]
    return rows[rows["converged"]] if "converged" in rows else rows


def _unconverged(table: pd.DataFrame) -> str:
    """How many seeds did not converge, and which."""
    runs = table.drop_duplicates(["run", "seed"])
    left = runs[~runs["converged"]]
    named = ", ".join(
        f"{run} seed {seed}" for run, seed in zip(left["run"], left["seed"], strict=True)
    )
    return f"{len(runs) - len(left)} of {len(runs)} runs converged" + (
        f" (not {named})" if named else ""
    )


# ======================================================================================
# Drawing

Curve = tuple[pd.DataFrame, dict[str, object]]


def _draw_row(table: pd.DataFrame, published: pd.DataFrame) -> Figure:
    figure, axes = plt.subplots(1, 4, figsize=(12, 3.3))
    model = table["model"].iloc[0]
    _metric_panels(axes, [(table, _style(model, 0))], slopes=True)
    _guides(axes, table, published)
    axes[0].set_ylabel("metric at the end of training")
    for ax in axes[:3]:
        ax.legend(fontsize=7)
    runs = table.drop_duplicates(["run", "seed"])
    drawing.band(
        axes[3], runs, "depth", "objective", log=True, **_style(model, 0), label="objective"
    )
    bound = runs.groupby("depth")["bound"].first()
    axes[3].plot(bound.index, bound, "k:", label="lower bound")
    axes[3].set_title("objective")
    drawing.log_y(axes[3])
    _depth_axis(axes[3], table["depth"])
    axes[3].legend(fontsize=7)
    drawing.settings_line(figure, _settings(table))
    return figure


def _draw_curves(table: pd.DataFrame, curves: Iterator[Curve]) -> Figure:
    figure, axes = plt.subplots(1, 3, figsize=(11, 3.6))
    _metric_panels(axes, list(curves), slopes=False)
    axes[0].set_ylabel("metric at the end of training")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside right center")
    drawing.settings_line(figure, _settings(table))
    return figure


def _by_model(table: pd.DataFrame) -> Iterator[Curve]:
    for position, (series, rows) in enumerate(table.groupby("series", sort=False)):
        yield rows, _style(rows["model"].iloc[0], position) | {"label": series}


def _metric_panels(axes: Sequence[Axes], curves: Sequence[Curve], slopes: bool) -> None:
    for ax, (metric, title) in zip(axes, METRICS.items(), strict=False):
        for table, style in curves:
            rows = _shown(table[table["metric"] == metric])
            label = f"slope {slope(table, metric)}" if slopes else style["label"]
            drawing.band(ax, rows, "depth", "value", log=True, **style | {"label": label})
        ax.set_title(title)
        drawing.log_y(ax)
        _depth_axis(ax, pd.concat([table["depth"] for table, _ in curves]))


def _guides(axes: Sequence[Axes], table: pd.DataFrame, published: pd.DataFrame) -> None:
    """The published average slope, through the mean of our curve."""
    stated = published[published["kind"] == "published"]
    if not len(stated):
        return
    power = float(stated["y"].iloc[0])
    for ax, metric in zip(axes, METRICS, strict=False):
        rows = _large(_shown(table[table["metric"] == metric]))
        if rows["depth"].nunique() > 1:
            x = np.array(sorted(rows["depth"].unique()))
            middle = np.exp((np.log(rows["value"]) - power * np.log(rows["depth"])).mean())
            ax.plot(
                x, middle * x**power, color=drawing.COLOURS["published"], linestyle=":",
                label=f"published average slope {power}",
            )  # fmt: skip


def _style(model: str, position: int) -> dict[str, object]:
    """The same model has the same colour in every figure; a further curve of it its own dash."""
    colours = {"L-RN1": "model_1", "L-T11": "model_2", "pre-LN L-T11": "model_3",
               "L-RN2": "model_4", "L-T12": "model_5", "L-T21": "model_6"}  # fmt: skip
    return {
        "color": drawing.COLOURS[colours.get(model, "model_7")],
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


def _settings(table: pd.DataFrame) -> str:
    lines = []
    for series, rows in table.assign(series=_series(table)).groupby("series", sort=False):
        for (optimiser, loss), own in rows.groupby(["optimiser", "loss"], sort=False):
            first = own.iloc[0]
            lines.append(
                f"{series}: d = {first['width']}, "
                f"{'Adam' if optimiser == 'adam' else 'gradient descent'}, "
                f"{'cross-entropy' if loss == 'ce' else 'squared error'}, "
                f"{first['epochs']} epochs, {own['seed'].nunique()} seeds (mean, std)"
            )
    if "converged" in table:
        lines.append(_unconverged(table))
    return "\n".join(lines)
