"""How figures look: one style, one colour a series, bands over seeds, a footer with the status.

Colours come from the colour-blind-safe palette of seaborn, which the style file names; dashes and
markers tell the same series apart in greyscale.
"""

import re
import textwrap
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator, NullLocator

from replica.artifacts import atomic
from replica.content import NO_DATA, NONE_CONVERGED, none_converged, why_nothing

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
    "cifar100": "CIFAR-100",
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


def plot(
    draw: Callable[[pd.DataFrame, pd.DataFrame], Figure],
    figure: str,
    table: pd.DataFrame,
    published: Path | None,
    words: Mapping[str, str],
    stem: Path,
) -> None:
    """Draw a figure from its table, with a footer, as `stem.svg` and `stem.pdf`.

    Args:
        draw: the figure's function, see `drawn`.
        figure: its id, which names its rows among the published numbers.
        table: its table.
        published: the published numbers of its study (CSV); None where there are none.
        words: see `footer_text`.
        stem: of the files; their folder exists.
    """
    numbers = pd.DataFrame() if published is None else pd.read_csv(published)
    if len(numbers):
        numbers = numbers[numbers["figure"] == figure]
    apply_style()
    fig = drawn(draw, table, numbers)
    footer(fig, footer_text(words))
    save(fig, stem)
    plt.close(fig)


def drawn(
    draw: Callable[[pd.DataFrame, pd.DataFrame], Figure],
    table: pd.DataFrame,
    published: pd.DataFrame,
) -> Figure:
    """A figure from its table, in which every panel without a value says so.

    Args:
        draw: the figure's function; it sees NaN in place of infinite values, which have no place
            on an axis, and no table in which nothing is finite.
        table: a figure table.
        published: published numbers of this figure.
    """
    if why := why_nothing(table):
        figure, ax = plt.subplots(figsize=(6, 3))
        nothing(ax, why)
        return figure
    with warnings.catch_warnings():
        # Such panels are left without a legend and without a logarithmic axis, and say why.
        for message in ("No artists with labels found", "Data has no positive values"):
            warnings.filterwarnings("ignore", message)
        figure = draw(table.replace([np.inf, -np.inf], np.nan), published)
        _say_what_lacks(figure, NONE_CONVERGED if none_converged(table) else NO_DATA)
    return figure


def _say_what_lacks(figure: Figure, words: str) -> None:
    """Put words into panels without a value, and take what matplotlib cannot draw of them."""
    shown = {ax: _shown(ax) for ax in figure.axes if ax.axison and ax.get_label() != "<colorbar>"}
    for ax, places in shown.items():
        if not len(places):
            nothing(ax, words)
        elif ax.get_yscale() == "log" and not (places[:, 1] > 0).any():
            nothing(ax, "nothing above 0")
        legend = ax.get_legend()
        if legend is not None and not legend.get_texts():
            legend.remove()
    for ax in shown:
        for column, scale, shared, set_scale in [
            (0, ax.get_xscale(), ax.get_shared_x_axes(), ax.set_xscale),
            (1, ax.get_yscale(), ax.get_shared_y_axes(), ax.set_yscale),
        ]:
            together = [shown[other] for other in shared.get_siblings(ax) if other in shown]
            if scale == "log" and not any((places[:, column] > 0).any() for places in together):
                set_scale("linear")


def grid(rows: int, columns: int, **style: Any) -> tuple[Figure, np.ndarray]:
    """A figure with rows x columns panels, at least one, and its axes as a matrix.

    Args:
        rows, columns: as many as a table has something for, and so perhaps 0.
        style: passed to `plt.subplots`.
    """
    return plt.subplots(max(rows, 1), max(columns, 1), squeeze=False, **style)


def nothing(ax: Axes, words: str) -> None:
    """A note in the middle of a panel that has nothing to show."""
    ax.text(0.5, 0.5, words, transform=ax.transAxes, ha="center", va="center", color="0.4")


def _shown(ax: Axes) -> np.ndarray:
    """The finite places (x, y) of what is drawn in a panel, from tables of our own numbers.

    Lines across the whole panel and published numbers are no values of ours.
    """
    places: list[Any] = [
        line.get_xydata()
        for line in ax.lines
        if line.get_transform() == ax.transData and line.get_color() != COLOURS["published"]
    ]
    for collection in ax.collections:
        if isinstance(collection, PathCollection):
            places.append(collection.get_offsets())
        else:
            places += [path.vertices for path in collection.get_paths()]
    for patch in ax.patches:
        # Of a bar its corners, both or none: its path is that of a square of size 1.
        if not isinstance(patch, Rectangle):
            places.append(patch.get_path().vertices)
        elif np.isfinite(corners := patch.get_bbox().get_points()).all():
            places.append(corners)
    for image in ax.images:
        values: Any = image.get_array()
        if np.isfinite(np.ma.filled(values, np.nan)).any():
            places.append(np.reshape(image.get_extent(), (2, 2)))
    stacked = np.concatenate([np.empty((0, 2)), *(np.ma.filled(own, np.nan) for own in places)])
    return stacked[np.isfinite(stacked).all(axis=1)]


def ordered_colours(count: int) -> list[str]:
    """Colours for an ordered series (layers, depths), from dark to light, readable in grey."""
    # Imported here: it takes longer than everything else that a drawing needs.
    import seaborn as sns

    return sns.color_palette("viridis", max(count, 2)).as_hex()[:count]


def ordered_dash(position: int) -> str | tuple:
    """A dash pattern for the same series."""
    patterns: list[str | tuple] = ["-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 1))]
    return patterns[position % 6]


def band(
    ax: Axes,
    frame: pd.DataFrame,
    x: str,
    y: str,
    *,
    log: bool = False,
    floor: float | None = None,
    **line: Any,
) -> None:
    """Mean over seeds as a line, with a band of one standard deviation; an error bar at a lone x.

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
    if len(mean) > 1:
        ax.fill_between(mean.index, low, high, color=drawn.get_color(), alpha=0.2, linewidth=0)
    elif (high > low).any():
        # A band over one place has no width, and would not be seen.
        ends = [np.maximum(mean - low, 0), np.maximum(high - mean, 0)]
        ax.errorbar(mean.index, mean, ends, fmt="none", ecolor=drawn.get_color(), capsize=3)


def log_y(ax: Axes) -> None:
    """A logarithmic y axis, unless nothing positive is drawn (a short run that arrived nowhere)."""
    drawn = [np.asarray(line.get_ydata(), dtype=float) for line in ax.lines]
    if any((values > 0).any() for values in drawn):
        ax.set_yscale("log")


def limit(value: float) -> float | None:
    """The end of an axis that starts at zero; None, which leaves it open, for no length."""
    return float(value) if np.isfinite(value) and value > 0 else None


def histogram(ax: Axes, values: pd.Series, **style: Any) -> None:
    """A histogram of the finite values; nothing where there are none, not even empty bins."""
    if len(values := values.dropna()):
        ax.hist(values, **style)


def room_below(ax: Axes, factor: float) -> None:
    """Let a logarithmic y axis begin at this part of its lower end; an empty one has none."""
    low = ax.get_ylim()[0]
    if low > 0:
        ax.set_ylim(low / factor, None)


def all_of(words: pd.Series) -> str:
    """The different words of a column in their order, as `mnist` or `mnist, svhn`."""
    return ", ".join(dict.fromkeys(words.dropna().astype(str)))


def seeds_of(table: pd.DataFrame) -> str:
    """How many seeds a run has, from the fewest to the most: `3 seeds`, `1 to 3 seeds`."""
    counts = table.groupby("run")["seed"].nunique()
    few, many = counts.min(), counts.max()
    if few < many:
        return f"{few} to {many} seeds"
    return "1 seed" if many == 1 else f"{many} seeds"


def reference_line(ax: Axes, series: str, y: float, label: str | None = None) -> None:
    """A horizontal line of a closed form, where it has a finite value."""
    if np.isfinite(y):
        text = f"{label or LABELS[series]} = {y:.4f}"
        ax.axhline(y, color=COLOURS[series], linestyle=DASHES[series], linewidth=1.1, label=text)


def published_points(ax: Axes, published: pd.DataFrame, series: str, **marks: Any) -> None:
    """Published numbers of one series over ours, as open markers."""
    rows = published[published["series"] == series] if len(published) else published
    if len(rows):
        style = {"color": COLOURS["published"], "marker": "o", "mfc": "none", "linestyle": "none"}
        x = pd.to_numeric(rows["x"])
        ax.errorbar(x, rows["y"], yerr=rows["y_err"].fillna(0), **style | marks)


def matrix(ax: Axes, values: np.ndarray, title: str) -> None:
    """A matrix as an image, with a scale of its own, symmetric about zero; none of no numbers."""
    sizes = np.abs(values[np.isfinite(values)])
    ax.set_title(title)
    if not len(sizes):
        return
    limit = sizes.max() or 1.0
    image = ax.imshow(values, vmin=-limit, vmax=limit, aspect="auto", rasterized=True)
    ax.grid(False)
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_locator(MaxNLocator(integer=True, nbins=6))
    ax.figure.colorbar(image, ax=ax, shrink=0.8, pad=0.02)


def settings_line(fig: Figure, text: str) -> None:
    """The settings of the runs, small, above the panels; in lines as wide as the figure."""
    columns = int(fig.get_size_inches()[0] * 17)
    lines = [textwrap.fill(line, columns) for line in text.split("\n")]
    fig.suptitle("\n".join(lines), fontsize=7.5, color="0.25")


def footer_text(words: Mapping[str, str]) -> str:
    """Scale, status and what is reconstructed, from `replica.plan.words.footer`."""
    place = words["place"] if words["place"] and words["status"] != "reconstructed" else ""
    parts = [place, f"scale {words['scale']}", f"status {words['status']}"]
    if words["reconstructed"]:
        parts.append(f"reconstructed: {words['reconstructed'].strip()}")
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
    if (engine := fig.get_layout_engine()) is not None:
        # Laid out here, for both files, and in their points: left to itself each lays out anew, and
        # draws all of it twice for that.
        fig.set_dpi(72)
        engine.execute(fig)
        # Panels of another height may have other ticks, whose numbers may be wider.
        engine.execute(fig)
        with plt.rc_context({"figure.constrained_layout.use": False}):
            fig.set_layout_engine(None)
    for ending, dates in [("svg", {"Date": None}), ("pdf", {"CreationDate": None})]:
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
