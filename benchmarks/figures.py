"""The two figures of the benchmarks: how fast, and how it grows."""

from pathlib import Path

import bench
import matplotlib.pyplot as plt
import pandas as pd
import scaling
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, FuncFormatter, LogLocator, NullLocator

from replica import drawing

# Panels from left to right, and the label of their size.
PANELS = {
    scaling.SEEDS: "seeds n of one stack",
    scaling.POINTS: "points n of a layer of Deep RFM",
    scaling.DRAWS: "noisy draws n of one image",
    scaling.JOBS: "jobs n of a plan",
}
UNITS = {scaling.TIME: "time (s)", scaling.MEMORY: "memory (MiB)"}


def draw_benchmarks(table: pd.DataFrame) -> Figure:
    """Speed over the references, and shares of the rate of matrix products.

    Args:
        table: columns `bench.COLUMNS`, one row of a quantity or more.
    """
    panels = [
        (bench.SPEED, "times as fast as the reference"),
        (bench.SHARE, "share of the rate of matrix products"),
    ]
    counts = [max((table["quantity"] == quantity).sum(), 1) for quantity, _ in panels]
    fig, axes = plt.subplots(2, 1, figsize=(8, 1.5 + 0.17 * sum(counts)), height_ratios=counts)
    for ax, (quantity, label) in zip(axes, panels, strict=True):
        rows = table[table["quantity"] == quantity].reset_index(drop=True)
        start = 1 if quantity == bench.SPEED else 0
        ax.plot(rows["value"], rows.index, "o", color=drawing.COLOURS["loss"])
        ax.hlines(rows.index, start, rows["value"], color=drawing.COLOURS["loss"], linewidth=0.8)
        ax.axvline(1, color="0.5", linewidth=0.8)
        ax.set_yticks(rows.index, rows["benchmark"] + ": " + rows["case"], fontsize=6)
        ax.set_ylim(max(len(rows), 1) - 0.5, -0.5)
        ax.set_xlabel(label)
    if len(table[table["quantity"] == bench.SPEED]):
        axes[0].set_xscale("log")
        _few_ticks(axes[0].xaxis)
    drawing.settings_line(fig, where(table))
    return fig


def draw_scaling(table: pd.DataFrame) -> Figure:
    """Time and memory against size, with power laws through them."""
    fig, axes = plt.subplots(2, len(PANELS), figsize=(11, 5), sharex="col")
    for column, (panel, label) in enumerate(PANELS.items()):
        for line, (quantity, unit) in enumerate(UNITS.items()):
            ax = axes[line, column]
            rows = table[(table["benchmark"] == "scaling") & (table["quantity"] == quantity)]
            rows = rows[rows["case"].str.startswith(panel) & (rows["value"] > 0)]
            for position, (case, own) in enumerate(rows.groupby("case", sort=False)):
                _curve(ax, own, case.removeprefix(panel).strip(", "), position)
            ax.set_xscale("log")
            ax.set_yscale("log")
            _few_ticks(ax.xaxis)
            # 200,000 leaves no place for its neighbours.
            ax.xaxis.set_major_formatter(EngFormatter(sep=""))
            _few_ticks(ax.yaxis)
            ax.set_ylabel(unit)
            if len(rows):
                ax.legend(loc="lower left", bbox_to_anchor=(0, 1))
            if line == len(UNITS) - 1:
                ax.set_xlabel(label)
    drawing.settings_line(fig, where(table[table["benchmark"] == "scaling"]))
    return fig


def _curve(ax: plt.Axes, rows: pd.DataFrame, name: str, position: int) -> None:
    """The points of a case, and the power law through them in the legend."""
    colour, style = drawing.ordered_colours(3)[position], drawing.ordered_dash(position)
    ax.plot(rows["size"], rows["value"], drawing.MARKERS[position], color=colour)
    if len(rows) > 1:
        a, p = bench.power_law(rows["size"], rows["value"])
        words = f"{name}: " if name else ""
        ax.plot(rows["size"], a * rows["size"] ** p, style, color=colour,
                label=f"{words}{a:.3g} n^{p:.2f}")  # fmt: skip


def _few_ticks(axis: Axis) -> None:
    """Ticks at 1, 2 and 5 times a power of ten, as plain numbers."""
    axis.set_major_locator(LogLocator(subs=(1, 2, 5), numticks=6))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.6g}"))
    axis.set_minor_locator(NullLocator())


def where(table: pd.DataFrame) -> str:
    """The devices and threads of some rows, for the top of a figure."""
    pairs = table[["device", "threads"]].drop_duplicates()
    return "\n".join(f"{row.device}; threads: {row.threads}" for row in pairs.itertuples())


def save_all(table: pd.DataFrame, folder: Path) -> None:
    """Write `benchmarks` and `scaling` as SVG and PDF into a folder."""
    drawing.apply_style()
    drawing.save(draw_benchmarks(table), folder / "benchmarks.svg")
    drawing.save(draw_scaling(table), folder / "scaling.svg")
