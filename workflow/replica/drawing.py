"""How figures look: one style, one colour a series, bands over seeds, a footer with the status.

Colours come from the colour-blind-safe palette of seaborn, which the style file names; dashes and
markers tell the same series apart in greyscale.
"""

import html
import re
import textwrap
from collections.abc import Mapping
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullLocator

from replica.artifacts import atomic

STYLE = Path(__file__).with_name("replica.mplstyle")
_PALETTE = matplotlib.rc_params_from_file(STYLE, use_default_template=False)[
    "axes.prop_cycle"
].by_key()["color"]
COLOURS = {
    "loss": _PALETTE[0],
    "fit": _PALETTE[2],
    "penalty": _PALETTE[1],
    "dnc": "#000000",
    "srg0": _PALETTE[3],
    "srgopt": _PALETTE[4],
    "constant": _PALETTE[0],
    "knn": _PALETTE[1],
    "knn_mean": _PALETTE[2],
    "plain": _PALETTE[0],
    "fr": _PALETTE[3],
    "other_1": _PALETTE[2],
    "other_2": _PALETTE[1],
    "other_3": _PALETTE[4],
    "base": _PALETTE[2],
    "right": _PALETTE[1],
    "full": _PALETTE[0],
    **{
        f"model_{i}": _PALETTE[colour] for i, colour in enumerate([0, 3, 1, 2, 4, 5, 7, 9], start=1)
    },
    "sink": _PALETTE[3],
    "diagonal": _PALETTE[0],
    "uniform": _PALETTE[2],
    "published": "#555555",
}
LABELS = {
    "loss": "loss",
    "fit": "fit",
    "penalty": "penalty",
    "dnc": "DNC",
    "srg0": "SRG0 (ours)",
    "srgopt": "SRGopt (ours)",
}
DATASETS = {
    "mnist": "MNIST",
    "cifar10": "CIFAR-10",
    "cifar10_jpeg": "CIFAR-10 (JPEG)",
    "svhn": "SVHN",
    "imdb": "IMDB",
    "imdb_table": "IMDB",
    "digits": "digits",
    "mixture": "Gaussian mixture",
    "mixture_imb": "imbalanced mixture",
    "topics_syntax": "passages",
}
DASHES = {"dnc": "--", "srg0": "-.", "srgopt": ":", "loss": "-", "fit": "--", "penalty": ":"}
_PATHS = re.compile(r' d="[^"]+"')
MARKERS = ["o", "s", "^", "D", "v", "P", "X", "*"]


def apply_style() -> None:
    """Use the style file for all figures that follow."""
    plt.style.use(STYLE)


def ordered_colours(count: int) -> list[str]:
    """Colours for an ordered series (layers, depths), from dark to light, readable in grey."""
    # Here, because it takes longer to import than all else that a drawing needs.
    import seaborn as sns

    return sns.color_palette("viridis", max(count, 2)).as_hex()[:count]


def ordered_dash(position: int) -> str | tuple:
    """A dash pattern for the same series."""
    return ["-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 1))][position % 6]


def band(
    ax: Axes,
    frame: pd.DataFrame,
    x: str,
    y: str,
    *,
    log: bool = False,
    floor: float | None = None,
    **line: object,
) -> None:
    """Mean over seeds as a line, with a band of one standard deviation.

    Args:
        ax: axes.
        frame: long rows of one series.
        x, y: columns.
        log: mean and deviation of log10(y), for a logarithmic axis; zeros are left out.
        floor: the band ends at this share of the mean where it would go below.
        line: passed to `plot`; `color` also colours the band.
    """
    values = frame[frame[y] > 0] if log else frame
    y_values = np.log10(values[y]) if log else values[y]
    grouped = y_values.groupby(values[x])
    mean, std = grouped.mean(), grouped.std().fillna(0.0)
    low, high = mean - std, mean + std
    if log:
        mean, low, high = 10**mean, 10**low, 10**high
    if floor is not None:
        low = np.maximum(low, floor * mean)
    (drawn,) = ax.plot(mean.index, mean, **line)
    ax.fill_between(mean.index, low, high, color=drawn.get_color(), alpha=0.2, linewidth=0)


def log_y(ax: Axes) -> None:
    """A logarithmic y axis, unless nothing positive is drawn (a short run that arrived nowhere)."""
    drawn = [np.asarray(line.get_ydata(), dtype=float) for line in ax.lines]
    if any((values > 0).any() for values in drawn):
        ax.set_yscale("log")


def reference_line(ax: Axes, series: str, y: float, label: str | None = None) -> None:
    """A horizontal line of a closed form."""
    text = f"{label or LABELS[series]} = {y:.4f}"
    ax.axhline(y, color=COLOURS[series], linestyle=DASHES[series], linewidth=1.1, label=text)


def published_points(ax: Axes, published: pd.DataFrame, series: str, **marks: object) -> None:
    """Published numbers of one series over ours, as open markers."""
    rows = published[published["series"] == series] if len(published) else published
    if len(rows):
        style = {"color": COLOURS["published"], "marker": "o", "mfc": "none", "linestyle": "none"}
        x = pd.to_numeric(rows["x"])
        ax.errorbar(x, rows["y"], yerr=rows["y_err"].fillna(0), **style | marks)


def matrix(ax: Axes, values: np.ndarray, title: str) -> None:
    """A matrix as an image, with a scale of its own, symmetric about zero."""
    limit = np.abs(values).max() or 1.0
    image = ax.imshow(values, vmin=-limit, vmax=limit, aspect="auto", rasterized=True)
    ax.grid(False)
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_locator(MaxNLocator(integer=True, nbins=6))
    ax.set_title(title)
    ax.figure.colorbar(image, ax=ax, shrink=0.8, pad=0.02)


def settings_line(fig: Figure, text: str) -> None:
    """The settings of the runs, small, above the panels; in lines as wide as the figure."""
    columns = int(fig.get_size_inches()[0] * 17)
    lines = [textwrap.fill(line, columns) for line in text.split("\n")]
    fig.suptitle("\n".join(lines), fontsize=7.5, color="0.25")


def footer_text(caption: Mapping[str, str]) -> str:
    """Scale, status and what is reconstructed, from the words of `Plan.caption`."""
    caption = {name: html.unescape(text) for name, text in caption.items()}
    place = caption["place"] if caption["place"] and caption["status"] != "reconstructed" else ""
    parts = [place, f"scale {caption['scale']}", f"status {caption['status']}"]
    if caption["reconstructed"]:
        parts.append(f"reconstructed: {caption['reconstructed'].strip()}")
    return "; ".join(part for part in parts if part)


def footer(fig: Figure, text: str) -> None:
    """Print what a figure is below it."""
    text = textwrap.fill(text, int(fig.get_size_inches()[0] * 17))
    fig.supxlabel(text, fontsize=6.5, color="0.35", x=0.01, ha="left")


def save(fig: Figure, stem: Path) -> None:
    """Write `stem.svg` and `stem.pdf`; the same figure gives the same bytes."""
    for ax in fig.axes:
        for axis in (ax.xaxis, ax.yaxis):
            low, high = np.abs(axis.get_view_interval())
            if axis.get_scale() != "linear" and (low == 0 or max(low, high) > 1e3 * min(low, high)):
                # Between many decades minor ticks are clutter, and most of the file.
                axis.set_minor_locator(NullLocator())
    for ending, dates in [("svg", {"Date": None}), ("pdf", {"CreationDate": None})]:
        if ending == "pdf":
            # What is laid out stays as it is: to do it again takes a third of the time.
            with plt.rc_context({"figure.constrained_layout.use": False}):
                fig.set_layout_engine(None)
        with atomic(stem.with_suffix(f".{ending}")) as temporary:
            fig.savefig(temporary, format=ending, metadata=dates)
            if ending == "svg":
                text = temporary.read_text(encoding="utf-8")
                text = _PATHS.sub(lambda path: _shorten(path.group()), text)
                temporary.write_text(text, encoding="utf-8")
    plt.close(fig)


def _shorten(path: str) -> str:
    """A path with two decimals, a hundredth of a point; the report embeds every figure."""
    return re.sub(r"(\.\d\d)\d+", r"\1", path)
