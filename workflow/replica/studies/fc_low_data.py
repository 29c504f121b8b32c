"""The Unreasonable Effectiveness of Fully-Connected Layers for Low-Data Regimes.

Kocsis, Súkeník, Brasó, Niessner, Leal-Taixé, Elezi; NeurIPS 2022; arXiv 2210.05657. Figures after
the fourth have names of ours; what decides a claim is ours too.
"""

import itertools
import re
from collections.abc import Iterable, Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator, StrMethodFormatter
from scipy.stats import t as student

from replica import drawing
from replica.lowdata.accuracy import RAN
from replica.measures.inputs import Inputs, tidy
from replica.verdicts import (
    CHANCE,
    FITS,
    Undecided,
    Verdict,
    decide,
    finite,
    some,
    trained,
    trend,
    undecidable,
)

Tables = Mapping[str, pd.DataFrame]

# Published series by run, whatever the data set: `fr_100` and `fr_c101` are FR-ResNet18 too.
SERIES = {
    "plain": "ResNet18", "fr": "FR-ResNet18", "mixer": "MLPMixer", "vit": "ViT-B16",
    "resnet34": "ResNet34", "fr_resnet34": "FR-ResNet34", "densenet121": "DenseNet121",
    "fr_densenet121": "FR-DenseNet121", "efficientnet_b3": "EfficientNetB3",
    "fr_efficientnet_b3": "FR-EfficientNetB3", "wide_linear": "512x512_no_activation",
    "no_gate": "OriginalHead_no_GradGate", "narrow_linear": "512x64_no_activation",
    "no_norm": "FR_no_LayerNorm",
    "entropy": "ResNet18-Entropy", "fr_entropy": "FR-ResNet18-Entropy",
    "core_set": "ResNet18-core-set", "llal": "LLAL", "llal_matched": "LLAL (matched protocol)",
    "kd": "KD", "dml": "DML", "kdcl": "KDCL", "fixmatch": "FixMatch",
    "layers2": "FR-2layer", "layers3": "FR-3layer", "layers4": "FR-4layer", "layers5": "FR-5layer",
}  # fmt: skip
METHODS = ["ResNet18-Entropy", "FR-ResNet18-Entropy", "LLAL", "ResNet18-core-set"]
COMPONENTS = ["ResNet18", "512x512_no_activation", "512x64_no_activation", "FR_no_LayerNorm",
              "FR-ResNet18"]  # fmt: skip
DEPTHS = ["FR", "FR-2layer", "FR-3layer", "FR-4layer", "FR-5layer"]
# The published numbers of labels, by the last word of a figure's name.
LABELS = {
    "cifar10": range(1000, 10_001, 1000),
    "cifar100": range(5000, 14_001, 1000),
    "caltech101": range(1000, 6001, 1000),
    "caltech256": range(5000, 14_001, 1000),
}
# The stages of active learning that count as early, by figure.
EARLY = {"al_a_cifar10": range(1000, 4001, 1000), "al_b_cifar100": range(5000, 10_001, 1000)}
# Where the published relative gain is largest, by figure.
LARGEST = {"fig3a_supervised_cifar10": 2000, "fig3b_supervised_cifar100": 6000}
# The data sets of published curves; as JPEG too CIFAR-10 is these photographs.
PUBLISHED_ON = ["cifar10", "cifar10_jpeg", "cifar100", "caltech101", "caltech256"]
# Added to an interval where it is compared with a number that was read off a figure, in pp.
READING = 0.5
# Percent of test images of ten classes, three times chance: no head that knows nothing is so good.
SKILLED = 30

# ======================================================================================
# Accuracy against the number of labelled images


def _series(runs: pd.Series) -> list[str]:
    """Published names of runs, without the data set or the size at the end of the run's name."""
    return [SERIES[re.sub("_(100|c101|c256|half|quarter|quarter_long|more|c)$", "", run)]
            for run in runs]  # fmt: skip


def accuracies(inputs: Inputs) -> pd.DataFrame:
    """Test and training accuracy in percent by series, seed, number of labels and head."""
    rows = inputs.measures
    kinds = ["test_accuracy", "train_accuracy"]
    heads = rows[rows["metric"].isin(kinds)]
    keys = ["run", "seed", "labelled_set", *RAN, "n_labelled"]
    frame = heads.pivot(index=[*keys, "head"], columns="metric", values="value").reset_index()
    missing = rows[rows["metric"] == "missing_classes"].set_index(keys)["value"]
    frame = frame.join(missing.rename("missing_classes"), on=keys)
    # A figure may have runs with a part of the numbers of labels; the order is that of the runs.
    order = {run: i for i, run in enumerate(dict.fromkeys(rows["run"]))}
    frame = frame.sort_values("run", key=lambda runs: runs.map(order), kind="stable")
    return tidy(inputs, "accuracy", frame.rename_axis(columns=None), _series(frame["run"]))


def active_accuracies(inputs: Inputs) -> pd.DataFrame:
    """The same; `query` chose the labels."""
    table = accuracies(inputs)
    query = table["run"].str.extract(r"(entropy|core_set|llal)")[0]
    return table.assign(query=query)


def _look(series: str) -> dict[str, object]:
    """Colour, dash and marker of a series, the same in every figure."""
    if series in DEPTHS[1:]:
        position = DEPTHS.index(series)
        return {
            "color": drawing.ordered_colours(6)[position],
            "linestyle": drawing.ordered_dash(position),
            "marker": drawing.MARKERS[position],
        }
    names = {
        "plain": ["ResNet18", "ResNet34", "DenseNet121", "EfficientNetB3", "ResNet18-Entropy"],
        "fr": ["FR-ResNet18", "FR-ResNet34", "FR-DenseNet121", "FR-EfficientNetB3", "FR",
               "FR-ResNet18-Entropy", "OriginalHead"],
        "other_1": ["MLPMixer", "512x512_no_activation", "LLAL", "ExtraHead", "KD", "FixMatch"],
        "other_2": ["ViT-B16", "512x64_no_activation", "ResNet18-core-set", "DML",
                    "OriginalHead_no_GradGate"],
        "other_3": ["FR_no_LayerNorm", "LLAL (matched protocol)", "KDCL"],
    }  # fmt: skip
    role = next(role for role, members in names.items() if series in members)
    dash, marker = {"plain": ("--", "v"), "fr": ("-", "s"), "other_1": ("-.", "o"),
                    "other_2": (":", "D"), "other_3": ((0, (5, 1, 1, 1)), "^")}[role]  # fmt: skip
    return {"color": drawing.COLOURS[role], "linestyle": dash, "marker": marker}


def draw_accuracies(
    table: pd.DataFrame, published: pd.DataFrame, heads: Sequence[str] = ("original",)
) -> Figure:
    """Ours, and the published curves: in one panel on the paper's data, else in two."""
    together = table["dataset"].isin(PUBLISHED_ON).all() or not len(published)
    figure, axes = plt.subplots(
        1, 1 if together else 2, figsize=(5.4 if together else 9, 4), squeeze=False
    )
    own = table[table["head"].isin(heads)]
    for series, rows in own.groupby("series", sort=False):
        _curve(axes[0, 0], rows, _label(rows), **_look(series))
    dataset = drawing.all_of(own["dataset"].replace(drawing.DATASETS))
    axes[0, 0].set_title("" if together else f"ours: {dataset}")
    axes[0, 0].set_ylabel("test accuracy [%]")
    labels = set(own["n_labelled"])
    if len(published):
        theirs = published[pd.to_numeric(published["x"], errors="coerce").notna()]
        labels |= set(pd.to_numeric(theirs["x"])) if together else set()
        for series in dict.fromkeys(theirs["series"]):
            if series in _known():
                _published(axes[0, -1], theirs, series, together)
        axes[0, -1].set_title(f"{dataset}; open: published" if together else "published")
    axes[0, 0].set_xticks(sorted(labels))
    for ax in axes[0]:
        ax.set_xlabel("labelled images")
        ax.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
        _legend_below(ax)
    drawing.settings_line(figure, _settings(own, heads))
    return figure


def _curve(ax: Axes, rows: pd.DataFrame, label: str, **look: object) -> None:
    """Mean over seeds with a band of one standard deviation; of fewer than three seeds, dots.

    A ring marks where networks do not fit their training set, and so decide nothing.
    """
    means = rows.groupby("n_labelled")[["test_accuracy", "train_accuracy"]].mean()
    if rows["seed"].nunique() > 2:
        drawing.band(ax, rows, "n_labelled", "test_accuracy", label=label, markersize=4.5, **look)
    else:
        ax.plot(means.index, means["test_accuracy"], **look | {"marker": ""})
        ax.plot(rows["n_labelled"], rows["test_accuracy"], **look | {"linestyle": ""}, markersize=4)
        # Nothing drawn but the entry of both in the legend.
        ax.plot([], [], label=label, markersize=4, **look)
    unfit = means[means["train_accuracy"] < 100 * FITS]
    ax.plot(unfit.index, unfit["test_accuracy"], "o", ms=10, mfc="none", mew=0.8, color="0.3")


def _legend_below(ax: Axes) -> None:
    ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=2)


def _settings(own: pd.DataFrame, heads: Sequence[str]) -> str:
    """What ran: heads, seeds, networks, and how they were trained where that differs."""
    seeds = own.groupby("series")["seed"].nunique()
    few, many = seeds.min(), seeds.max()
    parts = [
        f"{' and '.join(heads)} head",
        f"{few} seeds" if few == many else f"{few}, {many} seeds",
    ]
    if many > 2:
        parts.append("bands, bars: one standard deviation")
    if few < 3:
        parts.append("of one or two seeds each is a mark")
    if (own.groupby(["series", "head", "n_labelled"])["train_accuracy"].mean() < 100 * FITS).any():
        parts.append(f"in a ring: fits less than {FITS:.0%} of its training set")
    if (lost := own["missing_classes"].max()) > 0:
        parts.append(f"classes without a labelled image: up to {lost:.0f}")
    lines = ["; ".join(parts), f"{drawing.all_of(own['network'])}"]
    ways = {way: [_label(rows) for _, rows in part.groupby("series", sort=False)]
            for way, part in own.groupby("training", sort=False)}  # fmt: skip
    most = max(ways, key=lambda way: len(ways[way]))
    others = [f"{', '.join(names)}: {way}" for way, names in ways.items() if way != most]
    lines.append("; ".join([most, *others]))
    return "\n".join(lines)


_NETWORKS = "ResNet18|ResNet34|DenseNet121|EfficientNetB3|MLPMixer|ViT-B16"


def _label(rows: pd.DataFrame) -> str:
    """What ran, for the legend: the network and the head of a series are those of its runs."""
    series, network, refiner = rows[["series", "network", "refiner"]].iloc[0]
    words = {
        "512x512_no_activation": f"linear layer, {refiner}",
        "512x64_no_activation": f"linear layer, {refiner}",
        "FR_no_LayerNorm": "FR without LayerNorm",
        "OriginalHead": "original head",
        "ExtraHead": "extra head",
        "OriginalHead_no_GradGate": "original head, gate open",
        "FR": "FR, 1 inner layer",
        **{name: f"FR, {name[3]} inner layers" for name in DEPTHS[1:]},
    }
    if series in words:
        return words[series]
    name = network.partition(" (")[0]
    query = {"-Entropy": ", entropy", "-core-set": ", core-set"}
    if found := re.fullmatch(f"(FR-)?({_NETWORKS})(-Entropy|-core-set)?", series):
        return f"{found[1] or ''}{name}{query.get(found[3], '')}"
    return series


def _known() -> set[str]:
    return {*SERIES.values(), *DEPTHS, "ExtraHead", "OriginalHead", "OriginalHead_no_GradGate"}


def _published(ax: Axes, published: pd.DataFrame, series: str, over_ours: bool) -> None:
    look = _look(series)
    style = {"marker": look["marker"], "markersize": 4}
    if not over_ours:
        style |= {"linestyle": look["linestyle"], "linewidth": 0.9, "color": look["color"]}
        style |= {"label": series.replace("_no_", " w/o ").replace("_", " ")}
        published = published.assign(x=pd.to_numeric(published["x"])).sort_values("x")
    drawing.published_points(ax, published, series, **style)


# Figures that show just this
table_fig3a_supervised_cifar10 = accuracies
table_fig3b_supervised_cifar100 = accuracies
table_fig3c_supervised_caltech101 = accuracies
table_fig3d_supervised_caltech256 = accuracies
table_fig4a_architectures_cifar10 = accuracies
table_fig4b_architectures_cifar100 = accuracies
table_backbone_a_resnet34_cifar10 = accuracies
table_backbone_b_densenet121_cifar10 = accuracies
table_backbone_c_efficientnetb3_cifar10 = accuracies
table_backbone_d_resnet34_cifar100 = accuracies
table_backbone_e_densenet121_cifar100 = accuracies
table_backbone_f_efficientnetb3_cifar100 = accuracies
table_ablation_a_components = accuracies
table_more_labels_cifar10 = accuracies
table_optional_kd = accuracies
table_optional_fixmatch = accuracies
table_al_a_cifar10 = active_accuracies
table_al_b_cifar100 = active_accuracies
table_al_c_caltech101 = active_accuracies
table_al_d_caltech256 = active_accuracies
draw_fig3a_supervised_cifar10 = draw_accuracies
draw_fig3b_supervised_cifar100 = draw_accuracies
draw_fig3c_supervised_caltech101 = draw_accuracies
draw_fig3d_supervised_caltech256 = draw_accuracies
draw_fig4a_architectures_cifar10 = draw_accuracies
draw_fig4b_architectures_cifar100 = draw_accuracies
draw_backbone_a_resnet34_cifar10 = draw_accuracies
draw_backbone_b_densenet121_cifar10 = draw_accuracies
draw_backbone_c_efficientnetb3_cifar10 = draw_accuracies
draw_backbone_d_resnet34_cifar100 = draw_accuracies
draw_backbone_e_densenet121_cifar100 = draw_accuracies
draw_backbone_f_efficientnetb3_cifar100 = draw_accuracies
draw_ablation_a_components = draw_accuracies
draw_more_labels_cifar10 = draw_accuracies
draw_optional_kd = draw_accuracies
draw_optional_fixmatch = draw_accuracies
draw_al_a_cifar10 = draw_accuracies
draw_al_b_cifar100 = draw_accuracies
draw_al_c_caltech101 = draw_accuracies
draw_al_d_caltech256 = draw_accuracies
draw_ablation_c_depth = draw_accuracies


def table_fig3_relative_gain(inputs: Inputs) -> pd.DataFrame:
    """acc(FR)/acc(ResNet18) - 1 in percent, of the means over seeds, and half its 95 % interval."""
    table = accuracies(inputs)
    own = table[table["head"] == "original"]
    parts = [_relative_gains(part) for _, part in own.groupby("dataset", sort=False)]
    frame = pd.concat(parts, ignore_index=True).assign(seed=-1)
    return tidy(inputs, "relative gain", frame, frame["dataset"].to_numpy())


def _relative_gains(own: pd.DataFrame) -> pd.DataFrame:
    """relative_gain and error in percent by number of labels, of one data set.

    With r = a/b, the variance of r is r² (var a/a² + var b/b²) to first order.
    """
    new, old = _moments(own, "FR-ResNet18"), _moments(own, "ResNet18")
    both = new.add_suffix("_new").join(old.add_suffix("_old"), how="inner")
    ratio = both["mean_new"] / both["mean_old"]
    scaled = [(100 * ratio / both[f"mean_{part}"]) ** 2 for part in ("new", "old")]
    squares = [
        weight * both[f"square_{part}"] for weight, part in zip(scaled, ("new", "old"), strict=True)
    ]
    error = _half_width(sum(squares), _freedom(squares, [both["free_new"], both["free_old"]]))
    frame = pd.DataFrame({"relative_gain": 100 * (ratio - 1), "error": error})
    return frame.reset_index().assign(**own[RAN[:2]].iloc[0])


def draw_fig3_relative_gain(table: pd.DataFrame, published: pd.DataFrame) -> Figure:
    """A line for each data set; the published maxima as lines."""
    figure, ax = plt.subplots(figsize=(6, 3.8))
    colours = drawing.ordered_colours(table["series"].nunique() + 1)
    for (name, own), colour, marker in zip(
        table.groupby("series", sort=False), colours, drawing.MARKERS, strict=False
    ):
        ax.errorbar(own["n_labelled"], own["relative_gain"], own["error"].fillna(0), marker=marker,
                    color=colour, label=drawing.DATASETS.get(name, name), capsize=3)  # fmt: skip
    grey = {"color": drawing.COLOURS["published"], "linewidth": 0.9}
    listed = []
    for row in published.itertuples():
        name, _, n = row.x.partition("_")
        where = f"{drawing.DATASETS.get(name, name)}, n = {int(n):,}" if n else "in words"
        listed.append(f"{row.y:.1f} % ({where})")
        # They are within a percent of each other: one entry in the legend names all.
        last = len(listed) == len(published)
        words = "published largest gains:\n" + "\n".join(listed) if last else None
        ax.axhline(row.y, label=words, **grey)
    ax.axhline(0, color="0.8", linewidth=0.8, zorder=0)
    ax.set(xscale="log", xlabel="labelled images", ylabel="relative gain of FR [%]")
    ax.set_xticks(sorted(table["n_labelled"].unique()), minor=False)
    ax.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    ax.xaxis.set_minor_locator(NullLocator())
    _legend_below(ax)
    words = "of the mean accuracies over seeds, original head; bars: 95 % interval"
    drawing.settings_line(figure, f"{words}\n{drawing.all_of(table['network'])}")
    return figure


# ======================================================================================
# The gain by size of network and images, and by what else may matter

# Rows of both figures, by run with FR; the smallest first.
SETTINGS = {
    "fr_quarter": "a quarter of the width, 16x16",
    "fr_half": "half the width, 32x32",
    "fr": "ResNet18, 32x32",
    "no_gate_quarter": "gate open",
    "no_norm_quarter": "no LayerNorm",
    "fr_quarter_long": "twice the epochs",
}
# As far as the published numbers of labels go down.
FEW_LABELS = 1000


def table_gain_by_size(inputs: Inputs) -> pd.DataFrame:
    """Mean accuracies of baseline and FR, and the gain with half of its 95 % interval, in pp.

    A row a setting and number of labels. The baseline of a run with FR is the one of the same
    network, images and training.
    """
    table = accuracies(inputs)
    rows = []
    for run, name in SETTINGS.items():
        new = table[(table["run"] == run) & (table["n_labelled"] <= FEW_LABELS)]
        if not len(new):
            continue
        alike = ["dataset", "network", "training"]
        same = (table[alike] == new[alike].iloc[0]).all(axis=1)
        old = table[same & (table["refiner"] == "")]
        pair = pd.concat([old.assign(series="before"), new.assign(series="after")])
        fits = pair.groupby(["n_labelled", "series", "head"])["train_accuracy"].mean()
        means = pair[pair["head"] == "original"].pivot_table(
            index="n_labelled", columns="series", values="test_accuracy"
        )
        gains = _gains(pair, "before", "after")
        for n, gain in gains.iterrows():
            rows.append(
                {"run": run, "setting": name, "n_labelled": n, **new[RAN].iloc[0],
                 "seeds": new["seed"].nunique(), "baseline": means.at[n, "before"],
                 "fr": means.at[n, "after"], "gain": gain["gain"], "error": gain["error"],
                 "least_train_accuracy": fits[n].min()}
            )  # fmt: skip
    columns = ["run", "setting", "n_labelled", *RAN, "seeds", "baseline", "fr", "gain", "error",
               "least_train_accuracy"]  # fmt: skip
    frame = pd.DataFrame(rows, columns=columns).assign(seed=-1)
    return tidy(inputs, "gain", frame, frame["setting"].to_numpy())


table_gain_by_factor = table_gain_by_size


def draw_gain_by_size(table: pd.DataFrame, published: pd.DataFrame) -> Figure:
    """Left the accuracies of both, right the gain with its interval; a line a setting and n."""
    figure, axes = plt.subplots(1, 2, figsize=(7.5, 1.6 + 0.4 * len(table)), sharey=True)
    y = np.arange(len(table))
    for column, series in (("baseline", "ResNet18"), ("fr", "FR-ResNet18")):
        look = _look(series) | {"linestyle": "none"}
        axes[0].plot(table[column], y, label="with FR" if column == "fr" else "baseline", **look)
    fits = table["least_train_accuracy"] >= 100 * FITS
    for rows, filled in ((fits, True), (~fits, False)):
        colour = drawing.COLOURS["fr"]
        face = colour if filled else "none"
        axes[1].errorbar(table["gain"][rows], y[rows], xerr=table["error"][rows], fmt="s",
                         color=colour, mfc=face, capsize=3)  # fmt: skip
    where = y[(table["run"] == "fr") & (table["n_labelled"] == FEW_LABELS)]
    grey = {"color": drawing.COLOURS["published"], "mfc": "none", "linestyle": "none"}
    for row in published.itertuples():
        if row.series == "gain_pp":
            axes[1].axvline(row.y, color=drawing.COLOURS["published"], linestyle=":",
                            label=f"published at n = {FEW_LABELS:,}")  # fmt: skip
            axes[1].legend(loc="upper center", bbox_to_anchor=(0.5, -0.28))
        elif len(where):
            what, marker = ("with FR", "s") if row.series.startswith("FR") else ("baseline", "v")
            axes[0].plot(row.y, where[0], marker=marker, label=f"published, {what}", **grey)
    axes[1].axvline(0, color="0.8", linewidth=0.8, zorder=0)
    names = zip(table["setting"], table["n_labelled"], table["seeds"], strict=True)
    axes[0].set_yticks(y, [f"{name}\nn = {n:,}, {seeds} seeds" for name, n, seeds in names])
    axes[0].set_ylim(len(table) - 0.5, -0.5)
    axes[0].set(xlabel="test accuracy [%]")
    axes[1].set(xlabel="gain of FR [pp]")
    axes[0].legend(loc="upper center", bbox_to_anchor=(0.5, -0.28), ncols=2)
    words = ["original head; bars: 95 % interval of the gain over labelled sets and seeds"]
    if (~fits).any():
        words.append(f"open: a head fits less than {FITS:.0%} of its training set")
    titles = {rf"^{name}\b": title for name, title in drawing.DATASETS.items()}
    words.append(drawing.all_of(table["dataset"].replace(titles, regex=True)))
    drawing.settings_line(figure, "\n".join(words))
    return figure


draw_gain_by_factor = draw_gain_by_size

# ======================================================================================
# Ablations and comparisons


def table_ablation_b_ojkd(inputs: Inputs) -> pd.DataFrame:
    """Accuracy of both heads with the gate, and of the original one without."""
    table = accuracies(inputs)
    table = table[(table["run"] == "fr") | (table["head"] == "original")]
    names = np.where(table["head"] == "original", "OriginalHead", "ExtraHead")
    names = np.where(table["run"] == "no_gate", "OriginalHead_no_GradGate", names)
    return table.assign(series=names)


def draw_ablation_b_ojkd(table: pd.DataFrame, published: pd.DataFrame) -> Figure:
    """Mean and one standard deviation over seeds."""
    return draw_accuracies(table, published, heads=("original", "extra"))


def table_ablation_c_depth(inputs: Inputs) -> pd.DataFrame:
    """Test accuracy by seed, number of labels and head; `inner_layers` from 1."""
    table = accuracies(inputs)
    series = table["series"].replace("FR-ResNet18", "FR")
    layers = series.map({name: depth for depth, name in enumerate(DEPTHS, start=1)})
    return table.assign(series=series, inner_layers=layers)


def table_optional_cifar10c(inputs: Inputs) -> pd.DataFrame:
    """Accuracy by number of labels, corruption and severity; severity 0 is the clean test set."""
    rows = inputs.measures
    clean = rows[rows["metric"] == "test_accuracy"].assign(corruption="none", severity=0)
    found = rows[rows["metric"] == "corrupted_accuracy"]
    words = found["detail"].str.extract(r"(?P<corruption>.+) severity (?P<severity>\d)")
    both = pd.concat([clean, found.assign(**words)], ignore_index=True)
    both = both[both["head"] == "original"].assign(severity=both["severity"].astype(int))
    columns = ["run", "seed", *RAN, "n_labelled", "corruption", "severity", "value"]
    frame = both[columns].rename(columns={"value": "test_accuracy"})
    return tidy(inputs, "corrupted", frame, _series(frame["run"]))


def draw_optional_cifar10c(table: pd.DataFrame, published: pd.DataFrame) -> Figure:
    """Mean over corruptions against severity, a panel for each number of labels."""
    sizes = sorted(table["n_labelled"].unique())
    figure, axes = plt.subplots(
        1, len(sizes), figsize=(1.5 + 2.2 * len(sizes), 3.2), sharey=True, squeeze=False
    )
    for ax, n in zip(axes[0], sizes, strict=True):
        for series, own in table[table["n_labelled"] == n].groupby("series", sort=False):
            means = own.groupby(["severity", "seed"])["test_accuracy"].mean().reset_index()
            drawing.band(ax, means, "severity", "test_accuracy", label=_label(own), **_look(series))
        ax.set(xlabel="severity", title=f"n = {n}")
    axes[0, 0].set_ylabel("test accuracy [%]")
    _legend_below(axes[0, 0])
    words = f"{drawing.all_of(table['dataset'])}; {drawing.all_of(table['network'])}"
    drawing.settings_line(figure, f"{words}; mean over corruptions")
    return figure


# ======================================================================================
# Without training


def table_table_parameters(inputs: Inputs) -> pd.DataFrame:
    """Parameters of the networks of the paper, by part."""
    from replica.lowdata.exact import parameters

    frame = parameters().assign(seed=-1)
    return tidy(inputs, "parameters", frame, frame["model"].to_numpy())


def draw_table_parameters(table: pd.DataFrame, published: pd.DataFrame) -> Figure:
    """The counts as a table."""
    rows = table[table["model"] != "FR 512 to 64"]
    parts = list(dict.fromkeys(rows["part"]))
    models = list(dict.fromkeys(rows["model"]))
    counts = rows.set_index(["model", "part"])["parameters"]
    share = rows[rows["part"] == "FR without fc"].set_index("model")["percent"]
    cells = [
        [f"{counts[m, p]:,}" if (m, p) in counts else "" for p in parts]
        + [f"{share[m]:.4f}" if m in share else ""]
        for m in models
    ]
    figure, ax = plt.subplots(figsize=(9, 0.22 * len(models) + 1.1))
    ax.axis("off")
    drawn = ax.table(cells, rowLabels=models, colLabels=[*parts, "FR [%]"], loc="center")
    drawn.auto_set_font_size(False)
    drawn.set_fontsize(7.5)
    drawn.scale(1, 1.15)
    drawing.settings_line(
        figure, "FR [%]: FR without fc, of the network at test time; published 0.37 for ResNet18"
    )
    return figure


def table_gradient_gate(inputs: Inputs) -> pd.DataFrame:
    """Gradient norms in the backbone of each head's loss, gate closed (m = 0) and open (m = 1)."""
    from replica.lowdata.exact import head_gradients

    frame = head_gradients()
    names = [
        f"{loss}, m = {gate:g}" for loss, gate in zip(frame["loss"], frame["gate"], strict=True)
    ]
    return tidy(inputs, "gradient", frame, names)


def draw_gradient_gate(table: pd.DataFrame, published: pd.DataFrame) -> Figure:
    """A panel for each gate; exact zeros are at the bottom."""
    figure, axes = plt.subplots(1, 2, figsize=(9, 3.2), sharey=True)
    names = {"original": "CE of the original head", "extra": "CE of the FR head"}
    for ax, gate in zip(axes, (0.0, 1.0), strict=True):
        for loss, look in [
            ("extra", {"marker": "s", "color": drawing.COLOURS["fr"], "mfc": "none", "ms": 8}),
            ("original", {"marker": "v", "color": drawing.COLOURS["plain"], "ms": 4}),
        ]:
            own = table[(table["gate"] == gate) & (table["loss"] == loss)]
            own = own[own["parameter"].str.contains("conv|stem")]
            ax.plot(range(len(own)), own["norm"], linestyle="none", label=names[loss], **look)
        ax.set_yscale("symlog", linthresh=1e-3)
        words = "closed: the original head's is zero" if gate == 0 else "open"
        ax.set(xlabel="convolution, from the input on", title=f"gate m = {gate:g}, {words}")
    axes[0].set_ylabel("norm of the gradient")
    _legend_below(axes[0])
    drawing.settings_line(figure, "ResNet18 with FR (512 to 64) at the start, 8 random images")
    return figure


# ======================================================================================
# Gains


def _accurate(table: pd.DataFrame, heads: Sequence[str] = ("original",)) -> pd.DataFrame:
    """The accuracies of some heads, all of them known and at least one not 0."""
    own = table[table["head"].isin(heads)]
    finite(own["test_accuracy"], "test accuracy")
    some(own[own["test_accuracy"] > 0], "network that classifies any image right")
    return own


def _moments(own: pd.DataFrame, series: str) -> pd.DataFrame:
    """By number of labels: mean over seeds, squared standard error `square`, and its freedom."""
    rows = some(own[own["series"] == series], f"run of {series}")
    found = rows.groupby("n_labelled")["test_accuracy"].agg(["mean", "var", "count"])
    return found.assign(square=found["var"] / found["count"], free=found["count"] - 1)


def _freedom(
    squares: pd.Series | Sequence[pd.Series], freedoms: pd.Series | Sequence[pd.Series]
) -> np.ndarray:
    """Degrees of freedom of a sum of squared standard errors: Welch and Satterthwaite.

    Args:
        squares: squared standard errors of independent means, along the first axis.
        freedoms: their degrees of freedom.
    """
    own, free = np.asarray(squares, float), np.asarray(freedoms, float)
    whole, spent = own.sum(axis=0), (own**2 / free).sum(axis=0)
    # Where all seeds agree there is no freedom to count, and nothing to multiply.
    return np.where(whole > 0, whole**2 / np.where(whole > 0, spent, 1), 1.0)


def _half_width(
    square: pd.Series | float, freedom: pd.Series | np.ndarray, looks: int = 1
) -> pd.Series:
    """Half of a 95 % interval over seeds, or of one of `looks` that are at 95 % together.

    Args:
        square: squared standard error.
        freedom: its degrees of freedom.
        looks: by how many intervals a claim may be found false: each has its share of the 5 %.
    """
    return np.sqrt(square) * student.ppf(1 - CHANCE / 2 / looks, freedom)


def _gains(table: pd.DataFrame, before: str = "", after: str = "") -> pd.DataFrame:
    """By number of labels, in pp: `gain`, `error` (half of its 95 % interval), T = error + 0.5.

    By default the gain of FR over its backbone. The squared standard error `square` and the
    degrees of freedom are there for means over numbers of labels. Where all seeds share one
    labelled set, as published, the spread is that of networks alone, and the interval Welch's;
    where each seed has a set of its own, both series have the same, and the interval is that of
    the differences (`nested`: a seed's set contains its smaller ones).

    Raises:
        Undecided: a series is missing, or has one seed.
    """
    own = _accurate(table)
    if not before:
        after = some([s for s in own["series"] if s.startswith("FR-")], "run with FR")[0]
        before = after.removeprefix("FR-")
    if own["labelled_set"].nunique() > 1:
        return _paired_gains(own, before, after)
    new, old = _moments(own, after), _moments(own, before)
    both = new.add_suffix("_new").join(old.add_suffix("_old"), how="inner")
    some(both, f"number of labels with {before} and {after}")
    squares = [both["square_new"], both["square_old"]]
    freedom = _freedom(squares, [both["free_new"], both["free_old"]])
    free = both[["free_new", "free_old"]].min(axis=None)
    gains = _with_intervals(both["mean_new"] - both["mean_old"], sum(squares), freedom, free)
    return gains.assign(nested=False)


def _paired_gains(own: pd.DataFrame, before: str, after: str) -> pd.DataFrame:
    """The same, of pairs: two heads of a network, or networks on the labelled set of a seed."""
    pair = own[own["series"].isin([before, after])]
    wide = pair.pivot(index=["n_labelled", "seed"], columns="series", values="test_accuracy")
    wide = some(wide.reindex(columns=[before, after]).dropna(), f"pair of {before} and {after}")
    pairs = (wide[after] - wide[before]).groupby("n_labelled").agg(["mean", "var", "count"])
    free = pairs["count"] - 1
    gains = _with_intervals(pairs["mean"], pairs["var"] / pairs["count"], free, free.min())
    return gains.assign(nested=True)


def _with_intervals(
    gain: pd.Series, square: pd.Series, freedom: pd.Series | np.ndarray, least: int
) -> pd.DataFrame:
    """The table of `_gains`; `least` is the smallest freedom of a series or of pairs."""
    if least < 1:
        raise Undecided("one seed says nothing of the spread")
    gains = pd.DataFrame({"gain": gain, "square": square, "freedom": freedom})
    error = _half_width(gains["square"], gains["freedom"])
    return gains.assign(error=error, T=error + READING)


def _overall(gains: pd.DataFrame, looks: int) -> tuple[float, float, float]:
    """The mean gain over numbers of labels, half of its 95 % interval, and of one of `looks`.

    Networks at different numbers of labels are independent, unless their labelled sets are nested:
    then their errors may be the same, and the standard error is that of the sum of such.
    """
    if gains["nested"].any():
        square, freedom = np.sqrt(gains["square"]).mean() ** 2, gains["freedom"].min()
    else:
        square = gains["square"].sum() / len(gains) ** 2
        freedom = _freedom(gains["square"], gains["freedom"])
    widths = _half_width(square, freedom), _half_width(square, freedom, looks)
    return gains["gain"].mean(), *widths


def _published_labels(rows: pd.DataFrame, labels: Iterable[int]) -> tuple[pd.DataFrame, str]:
    """The rows of the numbers of labels that a claim is about.

    Returns:
        The rows and ""; where a number of labels lacks, all rows, to be shown, and what lacks.
    """
    if lacking := [n for n in labels if n not in rows.index]:
        return rows, f"no training at n = {', '.join(f'{n:,}' for n in lacking)}"
    return rows.loc[list(labels)], ""


def _at(gains: pd.DataFrame, labels: Iterable[int], table: pd.DataFrame) -> pd.DataFrame:
    """The gains at numbers of labels that a claim names."""
    found, lacking = _published_labels(gains, labels)
    if lacking:
        raise Undecided(f"{lacking}; {_gain_words(gains, table)}")
    return found


def _training(table: pd.DataFrame, series: Iterable[str], sizes: Iterable[int]) -> str:
    """Why networks do not fit their training set, with each of their heads; "" where all do."""
    own = table[table["series"].isin(list(series)) & table["n_labelled"].isin(list(sizes))]
    groups = own.groupby(["series", "n_labelled", "head"], sort=False)["train_accuracy"]
    accuracy = groups.agg(lambda seeds: seeds.mean(skipna=False)) / 100
    accuracy.index = [f"{name} with {n} labels ({head} head)" for name, n, head in accuracy.index]
    try:
        trained(accuracy)
    except Undecided as why:
        return str(why)
    return ""


def _judged(
    holds: bool, fails: bool, *, value: float, detail: str, lacking: Iterable[str]
) -> Verdict:
    """The verdict of a rule of three outcomes; undecided also where something is lacking.

    Args:
        lacking: what a decision lacks: training, or numbers of labels; "" where nothing.
    """
    if reasons := "; ".join(dict.fromkeys(filter(None, lacking))):
        return undecidable(f"{reasons}; {detail}", value=value)
    if not holds and not fails:
        return undecidable(f"the intervals leave both possible; {detail}", value=value)
    return decide(bool(holds), value=value, detail=detail)


def _gain_words(gains: pd.DataFrame, table: pd.DataFrame) -> str:
    values = zip(gains.index, gains["gain"], gains["error"], strict=True)
    each = [f"{gain:+.2f} ± {error:.2f} at {n}" for n, gain, error in values]
    return f"{table['dataset'].iloc[0]}, gain in pp: " + ", ".join(each)


def _means(
    table: pd.DataFrame, series: Sequence[str], heads: Sequence[str] = ("original",)
) -> pd.DataFrame:
    """Mean accuracy over seeds: rows numbers of labels that all these series have."""
    own = _accurate(table, heads)
    means = own.pivot_table(index="n_labelled", columns="series", values="test_accuracy")
    means = means.reindex(columns=list(series)).dropna()
    return some(means, f"number of labels with {', '.join(series)}")


# ======================================================================================
# Claims


def claim_c1(tables: Tables) -> Verdict:
    """The gain on CIFAR10 at 1,000 labels."""
    table = tables["fig3a_supervised_cifar10"]
    gains = _gains(table)
    gain, T = _at(gains, [1000], table).loc[1000, ["gain", "T"]]
    far = abs(gain - 7.6) > T
    return _judged(
        not far and T <= 7.6 / 2,
        far,
        value=gain,
        detail=_gain_words(gains, table),
        lacking=[_training(table, ["ResNet18", "FR-ResNet18"], [1000])],
    )


def claim_c2(tables: Tables) -> Verdict:
    """The gain on CIFAR10 at 2,000 labels."""
    table = tables["fig3a_supervised_cifar10"]
    gains = _gains(table)
    gain, T = _at(gains, [2000], table).loc[2000, ["gain", "T"]]
    return _judged(
        gain >= 10 - T and T <= 10 / 2,
        gain < 10 - T,
        value=gain,
        detail=_gain_words(gains, table),
        lacking=[_training(table, ["ResNet18", "FR-ResNet18"], [2000])],
    )


def claim_c3(tables: Tables) -> Verdict:
    """The gain on CIFAR10 falls to zero."""
    table = tables["fig3a_supervised_cifar10"]
    gains = _gains(table)
    falling = _at(gains, LABELS["cifar10"][1:], table)
    by_seed = _by_seed(table, "FR-ResNet18", falling.index) - _by_seed(
        table, "ResNet18", falling.index
    )
    falls, rises = trend(by_seed, falls=True), trend(by_seed, falls=False)
    late = falling.loc[7000:]
    distance = (late["gain"] - np.where(late.index == 7000, 0.5, 0)).abs()
    equal = np.where(late.index == 7000, 0, 0.6)
    looks = len(late) + 1  # each gain, and the trend
    wide = _half_width(late["square"], late["freedom"], looks) + READING
    near = (distance <= np.maximum(equal, late["T"])).all()
    far = (distance > np.maximum(equal, wide)).any()
    sharp = late["T"].max() <= 10 / 4
    return _judged(
        near and sharp and falls < CHANCE,
        far or rises < CHANCE / looks,
        value=late["gain"].iloc[0],
        detail=f"a trend like this by chance: {falls:.2g}; {_gain_words(gains, table)}",
        lacking=[_training(table, ["ResNet18", "FR-ResNet18"], falling.index)],
    )


def _by_seed(table: pd.DataFrame, series: str, sizes: Iterable[int]) -> pd.DataFrame:
    """Test accuracy of the original head: a row a seed, a column a number of labels."""
    own = table[(table["series"] == series) & (table["head"] == "original")]
    return own.pivot(index="seed", columns="n_labelled", values="test_accuracy")[list(sizes)]


def claim_c4(tables: Tables) -> Verdict:
    """The gain on CIFAR100 at three numbers of labels."""
    table = tables["fig3b_supervised_cifar100"]
    gains = _at(_gains(table), LABELS["cifar100"], table)
    wanted = pd.Series({5000: 5.7, 6000: 6.8, 14_000: 0.5})
    own = gains.loc[wanted.index]
    distance = (own["gain"] - wanted).abs()
    near = (distance <= own["T"]).all()
    sharp = (own["T"] <= wanted / 2).loc[:6000].all()
    looks = len(wanted) + len(gains)
    wide = _half_width(gains["square"], gains["freedom"], looks) + READING
    return _judged(
        near and sharp and (gains["gain"] > 0).all(),
        (distance > wide.loc[wanted.index]).any() or (gains["gain"] < -wide).any(),
        value=own["gain"].iloc[0],
        detail=_gain_words(gains, table),
        lacking=[_training(table, ["ResNet18", "FR-ResNet18"], gains.index)],
    )


def claim_c5(tables: Tables) -> Verdict:
    """The relative improvement where the published one is largest, and whether any is beyond."""
    table = tables["fig3_relative_gain"]
    every, at, lacking = [], [], []
    for figure, n in LARGEST.items():
        own = _accurate(tables[figure])
        rows = table[table["dataset"].isin(own["dataset"])].set_index("n_labelled")
        gains, missing = _published_labels(rows, LABELS[figure.rpartition("_")[2]])
        every.append(gains)
        at.append(gains if missing else gains.loc[[n]])
        lacking += [missing, _training(tables[figure], ["ResNet18", "FR-ResNet18"], gains.index)]
    every, at = pd.concat(every), pd.concat(at)
    finite(every["relative_gain"], "relative gain")
    if every["error"].isna().any():
        raise Undecided("one seed says nothing of the spread")
    reached = at["relative_gain"].between(13, 20) & (at["error"] <= 16 / 2)
    below = at["relative_gain"] + at["error"] < 13
    beyond = every["relative_gain"] - every["error"] > 20
    words = [f"{row['relative_gain']:.1f} ± {row['error']:.1f} % at n = {n} of {row['dataset']}"
             for n, row in at.iterrows()]  # fmt: skip
    return _judged(
        reached.all() and not beyond.any(),
        bool((at["relative_gain"] - at["error"] > 20).any())
        or (below.all() and (every["relative_gain"] < 13).all()),
        value=at["relative_gain"].max(),
        detail=", ".join(words) + f"; the largest of all {every['relative_gain'].max():.1f} %",
        lacking=lacking,
    )


def claim_c6(tables: Tables) -> Verdict:
    """Gains of fine-tuned networks."""
    positive, points, overall, words, lacking = 0, 0, [], [], []
    for figure, table in tables.items():
        gains, missing = _published_labels(_gains(table), LABELS[figure.rpartition("_")[2]])
        positive += int((gains["gain"] > 0).sum())
        points += len(gains)
        overall.append(_overall(gains, len(tables)))
        words.append(_gain_words(gains, table))
        lacking += [missing, _training(table, ["ResNet18", "FR-ResNet18"], gains.index)]
    return _judged(
        positive >= 14 and all(gain > error for gain, error, _ in overall),
        any(gain < -wide for gain, _, wide in overall),
        value=positive,
        detail=f"{positive} of {points} gains are positive; " + "; ".join(words),
        lacking=lacking,
    )


def claim_c7(tables: Tables) -> Verdict:
    """Gains with other backbones."""
    words, lacking, holds, fails, gained = [], [], True, False, []
    for figure, table in tables.items():
        gains, missing = _published_labels(_gains(table), LABELS[figure.rpartition("_")[2]])
        gain, error, wide = _overall(gains, len(tables))
        holds &= (gains["gain"].iloc[:3] > 0).all() and gain > error
        fails |= gain < -wide
        gained += gains["gain"].tolist()
        words.append(f"{figure.split('_')[1]}: {_gain_words(gains, table)}")
        lacking += [missing, _training(table, table["series"], gains.index)]
    return _judged(
        holds,
        fails,
        value=float(np.mean(gained)),
        detail="; ".join(words),
        lacking=lacking,
    )


def claim_c8(tables: Tables) -> Verdict:
    """FR-ResNet18 against MLP-Mixer and ViT."""
    words, lacking, margins = [], [], []
    for figure, table in tables.items():
        for other in ("MLPMixer", "ViT-B16"):
            gains = _gains(table, other, "FR-ResNet18")
            gains, missing = _published_labels(gains, LABELS[figure.rpartition("_")[2]])
            margins.append(gains)
            words.append(f"over {other} on {_gain_words(gains, table)}")
            lacking += [missing, _training(table, [other, "FR-ResNet18"], gains.index)]
    margins = pd.concat(margins)
    wide = _half_width(margins["square"], margins["freedom"], len(margins)) + READING
    return _judged(
        (margins["gain"] > margins["T"]).all(),
        (margins["gain"] < -wide).any(),
        value=margins["gain"].min(),
        detail="; ".join(words),
        lacking=lacking,
    )


def claim_c9(tables: Tables) -> Verdict:
    """Rank of FR-ResNet18 with entropy queries among four methods."""
    ours = "FR-ResNet18-Entropy"
    words, lacking, holds, fails, ranks = [], [], True, False, []
    looks = len(EARLY) * (len(METHODS) - 1)
    for figure, table in tables.items():
        means = _means(table, METHODS)
        rank = means.rank(axis=1, ascending=False, method="max")[ours].astype(int)
        listed = ", ".join(f"{r} (n = {n})" for n, r in rank.items())
        words.append(f"{table['dataset'].iloc[0]}: {listed}")
        if figure in EARLY:
            early, missing = _published_labels(rank.to_frame(), EARLY[figure])
            seeds = _seed_means(table, early.index)
            for other in METHODS:
                if other != ours:
                    margin = _gains(seeds, other, ours).iloc[0]
                    wide = _half_width(margin["square"], margin["freedom"], looks)
                    holds &= margin["gain"] > margin["error"]
                    fails |= margin["gain"] < -wide
            ranks += early[ours].tolist()
            lacking += [missing, _training(table, METHODS, early.index)]
    return _judged(
        holds and max(ranks) == 1,
        fails,
        value=float(np.mean(ranks)),
        detail=f"rank of {ours} among four; " + "; ".join(words),
        lacking=lacking,
    )


def _seed_means(table: pd.DataFrame, sizes: Iterable[int]) -> pd.DataFrame:
    """Accuracies of each seed in the mean over numbers of labels.

    In active learning a seed's stages hang together: its networks choose the later labels.
    """
    own = table[table["n_labelled"].isin(list(sizes))]
    seeds = own.pivot(
        index=["series", "head", "seed"], columns="n_labelled", values="test_accuracy"
    )
    # A seed that lacks a stage has no mean, and `_accurate` says so.
    means = seeds.mean(axis=1, skipna=False).rename("test_accuracy")
    return means.reset_index().assign(n_labelled=0, labelled_set=0)


def claim_c10(tables: Tables) -> Verdict:
    """The original head against the extra one of the same network."""
    table = tables["ablation_b_ojkd"]
    both = _accurate(table, heads=("original", "extra"))
    extra = some(both[both["series"] == "ExtraHead"], "extra head")
    skilled = extra.groupby("n_labelled")["test_accuracy"].mean() > SKILLED
    if not skilled.any():
        raise Undecided(f"the extra head is right on less than {SKILLED} % of the test images")
    _, missing = _published_labels(skilled, LABELS["cifar10"])
    both = both[both["n_labelled"].isin(skilled.index[skilled])]
    gains = _paired_gains(both, "ExtraHead", "OriginalHead")
    wide = _half_width(gains["square"], gains["freedom"], len(gains))
    words = ", ".join(
        f"{row['gain']:+.2f} ± {row['error']:.2f} at {n}" for n, row in gains.iterrows()
    )
    return _judged(
        (gains["gain"] - gains["error"] >= -0.5).all(),
        (gains["gain"] + wide < -0.5).any(),
        value=gains["gain"].min(),
        detail=f"{table['dataset'].iloc[0]}, original minus extra in pp: {words}",
        lacking=[missing, _training(table, ["OriginalHead", "ExtraHead"], gains.index)],
    )


def claim_c11(tables: Tables) -> Verdict:
    """With against without the gate."""
    table = tables["ablation_b_ojkd"]
    gains = _gains(table, "OriginalHead_no_GradGate", "OriginalHead")
    gains, missing = _published_labels(gains, LABELS["cifar10"][:3])
    return _judged(
        int((gains["gain"] > gains["T"]).sum()) >= 2,
        int((gains["gain"] + gains["error"] < READING).sum()) >= 2,
        value=gains["gain"].max(),
        detail=_gain_words(gains, table),
        lacking=[missing, _training(table, set(table["series"]), gains.index)],
    )


def claim_c12(tables: Tables) -> Verdict:
    """The order of the parts of FR."""
    table = tables["ablation_a_components"]
    means, missing = _published_labels(_means(table, COMPONENTS), LABELS["cifar10"][:2])
    pairs = list(itertools.pairwise(COMPONENTS))
    steps = {
        after: _overall(_at(_gains(table, before, after), means.index, table), len(pairs))
        for before, after in pairs
    }
    words = [
        f"n = {n}: " + ", ".join(f"{value:.1f}" for value in row) for n, row in means.iterrows()
    ]
    words += [f"to {name} {gain:+.2f} ± {error:.2f}" for name, (gain, error, _) in steps.items()]
    return _judged(
        all(gain > error for gain, error, _ in steps.values()),
        any(gain < -wide for gain, _, wide in steps.values()),
        value=min(gain for gain, *_ in steps.values()),
        detail=f"{table['dataset'].iloc[0]}, in that order, in %; " + "; ".join(words),
        lacking=[missing, _training(table, COMPONENTS, means.index)],
    )


def claim_c13(tables: Tables) -> Verdict:
    """Accuracy against the number of inner layers: one against each other, and the trend."""
    table = tables["ablation_c_depth"]
    means, missing = _published_labels(_means(table, DEPTHS), LABELS["cifar10"][:2])
    deeper = DEPTHS[1:]
    looks = len(deeper) + 1  # each comparison, and the trend
    lead = {
        name: _overall(_at(_gains(table, name, "FR"), means.index, table), looks) for name in deeper
    }
    own = table[(table["head"] == "original") & table["n_labelled"].isin(means.index)]
    # A mean of a seed is over the same numbers of labels in each column.
    whole = own.pivot(
        index="seed", columns=["inner_layers", "n_labelled"], values="test_accuracy"
    ).dropna()
    by_seed = whole.T.groupby("inner_layers").mean().T
    falls, rises = trend(by_seed, falls=True), trend(by_seed, falls=False)
    words = [
        f"n = {n}: " + ", ".join(f"{value:.1f}" for value in row) for n, row in means.iterrows()
    ]
    leads = [f"{gain:+.2f} ± {error:.2f} over {name}" for name, (gain, error, _) in lead.items()]
    return _judged(
        all(gain > error for gain, error, _ in lead.values()) and falls < CHANCE,
        any(gain < -wide for gain, _, wide in lead.values()) or rises < CHANCE / looks,
        value=min(gain for gain, *_ in lead.values()),
        detail=f"{table['dataset'].iloc[0]}, 1 to 5 layers, in %; " + "; ".join(words)
        + f"; one layer {', '.join(leads)}; a falling trend like this by chance: {falls:.2g}",
        lacking=[missing, _training(table, DEPTHS, means.index)],
    )  # fmt: skip


def claim_c14(tables: Tables) -> Verdict:
    """Parameters of FR against ResNet18, exactly."""
    rows = tables["table_parameters"]
    counts = rows[rows["model"] == "ResNet18, CIFAR10"].set_index("part")["parameters"]
    parts = ["backbone", "original head", "FR without fc", "fc of FR", "test time"]
    counts = counts.reindex(parts)
    finite(counts.where(counts > 0), "count of parameters")
    extra, whole = int(counts["FR without fc"]), int(counts["test time"])
    plain = int(counts["backbone"] + counts["original head"])
    with_fc = 100 * (extra + counts["fc of FR"]) / whole
    return decide(
        (extra, whole, plain) == (41_408, 11_173_962, 11_173_962),
        value=100 * extra / whole,
        detail=f"{extra:,} of {whole:,} = {100 * extra / whole:.4f} % without the last layer fc, "
        f"{with_fc:.4f} % with it; at test time {whole:,}, the plain network has {plain:,}",
    )


def claim_c15(tables: Tables) -> Verdict:
    """The gradient of the original head's loss in the backbone."""
    rows = tables["gradient_gate"]
    own = rows[rows["loss"] == "original"].set_index("gate")["norm"]
    closed, opened = (some(own[own.index == gate], f"gradient with m = {gate}") for gate in (0, 1))
    closed, opened = finite([closed.max(skipna=False), opened.min(skipna=False)], "gradient")
    total = rows[(rows["loss"] == "total") & (rows["gate"] == 0)]["difference"]
    total = finite(total, "difference of the sum from CE(z_FR)").max()
    return decide(
        bool(closed == 0 and opened > 0 and total <= 1e-7),
        value=closed,
        detail=f"largest norm with m = 0 {closed:g}, smallest with m = 1 {opened:.2g}; sum against "
        f"CE(z_FR) {total:.1g}",
    )
