"""The Unreasonable Effectiveness of Fully-Connected Layers for Low-Data Regimes.

Kocsis, Súkeník, Brasó, Niessner, Leal-Taixé, Elezi; NeurIPS 2022; arXiv 2210.05657. Figures after
the fourth have names of ours; what decides a claim is ours too.
"""

import itertools
import re
from collections.abc import Callable, Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from replica import drawing
from replica.measures.inputs import Inputs, tidy
from replica.measures.trends import spearman
from replica.verdicts import Verdict, decide, finite, some, undecidable

Tables = Mapping[str, pd.DataFrame]

FIRST_LOOK = "a first look: one seed, a few steps"
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
# The stages of active learning that count as early, by data set.
EARLY = {"cifar10": 4000, "cifar100": 10_000}

# ======================================================================================
# Accuracy against the number of labelled images


def _series(runs: pd.Series) -> list[str]:
    """Published names of runs, without the data set at the end of the run's name."""
    return [SERIES[re.sub("_(100|c101|c256|middle|c)$", "", run)] for run in runs]


def accuracies(inputs: Inputs) -> pd.DataFrame:
    """Test and training accuracy in percent by series, seed, number of labels and head."""
    rows = inputs.measures
    kinds = ["test_accuracy", "train_accuracy"]
    heads = rows[rows["metric"].isin(kinds)]
    keys = ["run", "seed", "dataset", "n_labelled"]
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
    """Ours, and the published curves: in one panel at paper scale, else in two side by side."""
    together = table["scale"].iloc[0] == "paper" or not len(published)
    figure, axes = plt.subplots(
        1, 1 if together else 2, figsize=(5.4 if together else 9, 3.4), sharey=True, squeeze=False
    )
    own = table[table["head"].isin(heads)]
    for series, rows in own.groupby("series", sort=False):
        drawing.band(axes[0, 0], rows, "n_labelled", "test_accuracy", label=_label(series),
                     markersize=4.5, **_look(series))  # fmt: skip
    dataset = ", ".join(dict.fromkeys(own["dataset"]))
    axes[0, 0].set_title("" if together else f"ours: {dataset}")
    axes[0, 0].set(xlabel="labelled images", ylabel="test accuracy [%]")
    axes[0, 0].set_xticks(sorted(own["n_labelled"].unique()))
    axes[0, 0].legend(fontsize=7)
    if len(published):
        theirs = published[pd.to_numeric(published["x"], errors="coerce").notna()]
        for series in dict.fromkeys(theirs["series"]):
            if series in _known():
                _published(axes[0, -1], theirs, series, together)
        axes[0, -1].set_title(f"{dataset}; open: published" if together else "published")
        axes[0, -1].set_xlabel("labelled images")
    # Series of one figure may have different numbers of seeds.
    seeds = own.groupby("series")["seed"].nunique()
    few, many = seeds.min(), seeds.max()
    words = f"{few} seeds" if few == many else f"{few} to {many} seeds"
    words = f"{' and '.join(heads)} head; {words}, bands: one standard deviation"
    if (lost := own["missing_classes"].max()) > 0:
        words += f"; up to {lost:.0f} classes have no labelled image"
    drawing.settings_line(figure, words)
    return figure


def _label(series: str) -> str:
    return series.replace("_no_", " w/o ").replace("_", " ")


def _known() -> set[str]:
    return {*SERIES.values(), *DEPTHS, "ExtraHead", "OriginalHead", "OriginalHead_no_GradGate"}


def _published(ax: Axes, published: pd.DataFrame, series: str, over_ours: bool) -> None:
    look = _look(series)
    style = {"marker": look["marker"], "markersize": 4}
    if not over_ours:
        style |= {"linestyle": look["linestyle"], "linewidth": 0.9, "color": look["color"]}
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
table_optional_kd = accuracies
table_optional_fixmatch = accuracies
table_middle_cifar10 = accuracies
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
draw_optional_kd = draw_accuracies
draw_optional_fixmatch = draw_accuracies
draw_middle_cifar10 = draw_accuracies
draw_al_a_cifar10 = draw_accuracies
draw_al_b_cifar100 = draw_accuracies
draw_al_c_caltech101 = draw_accuracies
draw_al_d_caltech256 = draw_accuracies
draw_ablation_c_depth = draw_accuracies


def table_fig3_relative_gain(inputs: Inputs) -> pd.DataFrame:
    """acc(FR)/acc(ResNet18) - 1 in percent, of the means over seeds."""
    table = accuracies(inputs)
    own = table[table["head"] == "original"]
    means = own.pivot_table(index=["dataset", "n_labelled"], columns="series",
                            values="test_accuracy")  # fmt: skip
    gain = 100 * (means["FR-ResNet18"] / means["ResNet18"] - 1)
    frame = gain.rename("relative_gain").reset_index().assign(seed=-1)
    return tidy(inputs, "relative gain", frame, frame["dataset"].to_numpy())


def draw_fig3_relative_gain(table: pd.DataFrame, published: pd.DataFrame) -> Figure:
    """A line for each data set; the published maxima as lines."""
    figure, ax = plt.subplots(figsize=(6, 3.4))
    colours = drawing.ordered_colours(table["series"].nunique() + 1)
    for (name, own), colour, marker in zip(
        table.groupby("series", sort=False), colours, drawing.MARKERS, strict=False
    ):
        ax.plot(own["n_labelled"], own["relative_gain"], marker=marker, color=colour, label=name)
    grey = {"color": drawing.COLOURS["published"], "linewidth": 0.9}
    if len(published):
        for row, dash in zip(published.itertuples(), ["-", "--", ":"], strict=False):
            words = f"published, {row.x.replace('_', ', ')}: {row.y:.1f} %"
            ax.axhline(row.y, linestyle=dash, label=words, **grey)
    ax.axhline(0, color="0.8", linewidth=0.8, zorder=0)
    ax.set(xscale="log", xlabel="labelled images", ylabel="relative gain of FR [%]")
    ax.legend(fontsize=7)
    drawing.settings_line(figure, "of the mean accuracies over seeds, original head")
    return figure


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
    columns = ["run", "seed", "dataset", "n_labelled", "corruption", "severity", "value"]
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
            drawing.band(ax, means, "severity", "test_accuracy", label=series, **_look(series))
        ax.set(xlabel="severity", title=f"n = {n}")
    axes[0, 0].set_ylabel("test accuracy [%]")
    axes[0, 0].legend(fontsize=7)
    drawing.settings_line(figure, f"{table['dataset'].iloc[0]}; mean over corruptions")
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
        figure, "FR [%]: FR without fc, of the network at test time; published .37 for ResNet18"
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
    axes[0].legend(fontsize=7)
    drawing.settings_line(figure, "ResNet18 with FR (512 to 64) at the start, 8 random images")
    return figure


# ======================================================================================
# Gains


def _means(
    table: pd.DataFrame, series: Sequence[str], heads: Sequence[str] = ("original",)
) -> pd.DataFrame:
    """Mean accuracy over seeds: rows numbers of labels that all these series have."""
    own = _accurate(table, heads)
    means = own.pivot_table(index="n_labelled", columns="series", values="test_accuracy")
    means = means.reindex(columns=list(series)).dropna()
    return some(means, f"number of labels with {', '.join(series)}")


def _accurate(table: pd.DataFrame, heads: Sequence[str] = ("original",)) -> pd.DataFrame:
    """The accuracies of some heads, of which at least one is not 0."""
    own = table[table["head"].isin(heads)]
    some(own[own["test_accuracy"] > 0], "network that classifies any image right")
    return own


def _gains(table: pd.DataFrame, before: str = "", after: str = "") -> pd.DataFrame:
    """g(n) and T(n) in pp, by number of labels; by default of FR against its backbone.

    T = 0.5 + 2 sqrt((sd_after² + sd_before²) / S), with ddof 1 over S seeds.
    """
    own = _accurate(table)
    if not before:
        after = some([s for s in own["series"] if s.startswith("FR-")], "run with FR")[0]
        before = after.removeprefix("FR-")
    for name in (before, after):
        some(own[own["series"] == name], f"run of {name}")
    grouped = own.groupby(["series", "n_labelled"])["test_accuracy"].agg(["mean", "var", "count"])
    old, new = grouped.loc[before], grouped.loc[after]
    both = new.add_suffix("_new").join(old.add_suffix("_old"), how="inner")
    error = np.sqrt(both["var_new"] / both["count_new"] + both["var_old"] / both["count_old"])
    gains = pd.DataFrame({"gain": both["mean_new"] - both["mean_old"], "T": 0.5 + 2 * error})
    return gains.assign(dataset=table["dataset"].iloc[0], scale=table["scale"].iloc[0])


def _with_T(rule: str) -> str:
    return f"{rule}; T = 0.5 + 2 standard errors over seeds"


def _gain_words(gains: pd.DataFrame) -> str:
    values = zip(gains.index, gains["gain"], gains["T"], strict=True)
    each = [f"{gain:+.2f} (T {tolerance:.2f}) at {n}" for n, gain, tolerance in values]
    return f"{_place(gains)}, gain in pp: " + ", ".join(each)


def _place(table: pd.DataFrame) -> str:
    """The data, and that a verdict on small data speaks of those only."""
    name = table["dataset"].iloc[0]
    return name if table["scale"].iloc[0] == "paper" else f"only of {name}"


def _listed(values: pd.Series) -> str:
    return ", ".join(f"{value:+.2f} at {n}" for n, value in values.items())


def _not_natural(gains: pd.DataFrame, dataset: str, sizes: Sequence[int]) -> str:
    """Why a claim about natural images cannot be decided, or ""."""
    if gains["scale"].iloc[0] == "smoke":
        return FIRST_LOOK
    if gains["dataset"].iloc[0] != dataset:
        return f"the claim is about natural images; scaled: {_gain_words(gains)}"
    if lacking := [n for n in sizes if n not in gains.index]:
        return f"no training at n = {', '.join(map(str, lacking))}; {_gain_words(gains)}"
    if gains["T"].isna().any():
        return f"one seed says nothing of the spread; {_gain_words(gains)}"
    return ""


def _first_look(table: pd.DataFrame) -> bool:
    return table["scale"].iloc[0] == "smoke" or table["seed"].nunique() < 2


# ======================================================================================
# Claims


def claim_c1(tables: Tables) -> Verdict:
    """The gain on CIFAR10 at 1,000 labels."""
    return _decide_gain(
        tables,
        1000,
        lambda gain, T: abs(gain - 7.6) <= T and gain > 0,
        published="7.6 pp (page values: 7.52)",
        tolerance=_with_T("|g(1000) - 7.6| <= T and g > 0"),
    )


def claim_c2(tables: Tables) -> Verdict:
    """The gain on CIFAR10 at 2,000 labels."""
    return _decide_gain(
        tables,
        2000,
        lambda gain, T: gain >= 10 - T,
        published="> 10 pp (page values: 10.10)",
        tolerance=_with_T("g(2000) >= 10 - T"),
    )


def _decide_gain(
    tables: Tables, n: int, holds: Callable[[float, float], bool], **words: str
) -> Verdict:
    gains = _gains(tables["fig3a_supervised_cifar10"])
    if reason := _not_natural(gains, "cifar10", [n]):
        return undecidable(reason, **words)
    gain, T = gains.loc[n, ["gain", "T"]]
    return decide(bool(holds(gain, T)), value=gain, detail=_gain_words(gains), **words)


def claim_c3(tables: Tables) -> Verdict:
    """The gain on CIFAR10 falls to zero."""
    published = "+0.5 pp at 7,000 (page values: .40; then +.37, -.17, -.11)"
    tolerance = "|g(7000) - 0.5| <= T, |g| <= max(0.6, T) from 8,000 on, Spearman < -0.8 from 2,000"
    gains = _gains(tables["fig3a_supervised_cifar10"])
    if reason := _not_natural(gains, "cifar10", list(range(2000, 10_001, 1000))):
        return undecidable(reason, published=published, tolerance=_with_T(tolerance))
    at, late = gains.loc[7000], gains.loc[8000:]
    falling = gains.loc[2000:]
    trend = spearman(falling.index, falling["gain"])
    small = (late["gain"].abs() <= np.maximum(0.6, late["T"])).all()
    return decide(
        bool(abs(at["gain"] - 0.5) <= at["T"] and small and trend < -0.8),
        value=at["gain"],
        published=published,
        tolerance=_with_T(tolerance),
        detail=f"Spearman {trend:.2f}; {_gain_words(gains)}",
    )


def claim_c4(tables: Tables) -> Verdict:
    """The gain on CIFAR100 at three numbers of labels."""
    published = "5.7, almost 7, 0.5 pp (page values: 5.66, 6.80, .48)"
    tolerance = "|g - (5.7, 6.8, 0.5)| <= T at 5k, 6k, 14k and g > 0 at all ten n"
    gains = _gains(tables["fig3b_supervised_cifar100"])
    if reason := _not_natural(gains, "cifar100", list(range(5000, 14_001, 1000))):
        return undecidable(reason, published=published, tolerance=_with_T(tolerance))
    wanted = pd.Series({5000: 5.7, 6000: 6.8, 14_000: 0.5})
    own = gains.loc[wanted.index]
    near = ((own["gain"] - wanted).abs() <= own["T"]).all()
    return decide(
        bool(near and (gains["gain"] > 0).all()),
        value=own["gain"].iloc[0],
        published=published,
        tolerance=_with_T(tolerance),
        detail=_gain_words(gains),
    )


def claim_c5(tables: Tables) -> Verdict:
    """The largest relative improvement."""
    published = "up to 16 % (page values: 16.7 % at CIFAR10 2k, 16.3 % at CIFAR100 6k)"
    tolerance = "the maximum over CIFAR10 and CIFAR100 is in [13, 20] %"
    table = tables["fig3_relative_gain"]
    best = some(table.nlargest(1, "relative_gain"), "relative gain").iloc[0]
    words = (
        f"largest {best['relative_gain']:.1f} % at n = {best['n_labelled']} of {best['dataset']}"
    )
    if not set(table["dataset"]) <= {"cifar10", "cifar100"} or table["scale"].iloc[0] == "smoke":
        reason = f"the claim is about natural images; scaled: {words}"
        return undecidable(reason, published=published, tolerance=tolerance)
    return decide(
        bool(13 <= best["relative_gain"] <= 20),
        value=best["relative_gain"],
        published=published,
        tolerance=tolerance,
        detail=words,
    )


def claim_c6(tables: Tables) -> Verdict:
    """Gains of fine-tuned networks."""
    published = "15 of 16 points positive (not Caltech101 at 1k: 83.46 < 84.33)"
    tolerance = "g > 0 at 14 or more of the 16 points, and in the mean of each data set"
    parts = {figure.split("_")[2]: _gains(table) for figure, table in tables.items()}
    reasons = [_not_natural(gains, name, [5000]) for name, gains in parts.items()]
    if any(reasons):
        return undecidable("; ".join(reasons), published=published, tolerance=tolerance)
    positive = sum(int((gains["gain"] > 0).sum()) for gains in parts.values())
    return decide(
        positive >= 14 and all(gains["gain"].mean() > 0 for gains in parts.values()),
        value=positive,
        published=published,
        tolerance=tolerance,
        detail="; ".join(_gain_words(gains) for gains in parts.values()),
    )


def claim_c7(tables: Tables) -> Verdict:
    """Gains with other backbones."""
    published = "59 of 60 points positive (not ResNet34, CIFAR10, 10k: -.10)"
    tolerance = "in each of the six panels g > 0 at the three smallest n, and in the mean"
    words, ok, gained = [], True, []
    for figure, table in tables.items():
        if _first_look(table):
            return undecidable(FIRST_LOOK, published=published, tolerance=tolerance)
        gains = _gains(table)
        ok &= bool((gains["gain"].iloc[:3] > 0).all() and gains["gain"].mean() > 0)
        gained += gains["gain"].tolist()
        words.append(f"{figure.split('_')[1]}: {_gain_words(gains)}")
    return decide(
        ok,
        value=float(np.mean(gained)),
        published=published,
        tolerance=tolerance,
        detail="; ".join(words),
    )


def claim_c8(tables: Tables) -> Verdict:
    """FR-ResNet18 against MLP-Mixer and ViT."""
    published = "above both at all 20 points, by at least .6 pp (digitised)"
    tolerance = "acc(FR-ResNet18, n) above both at every n; their settings are reconstructed"
    margins, words = [], []
    for table in tables.values():
        if _first_look(table):
            return undecidable(FIRST_LOOK, published=published, tolerance=tolerance)
        means = _means(table, ["FR-ResNet18", "MLPMixer", "ViT-B16"])
        margin = means["FR-ResNet18"] - means[["MLPMixer", "ViT-B16"]].max(axis=1)
        margins += margin.tolist()
        words.append(f"{_place(table)}: " + _listed(margin))
    return decide(
        min(margins) > 0,
        value=min(margins),
        published=published,
        tolerance=tolerance,
        detail="pp above the better of the two: " + "; ".join(words),
    )


def claim_c9(tables: Tables) -> Verdict:
    """Rank of FR-ResNet18 with entropy queries among four methods."""
    published = "the best on CIFAR10 (n <= 4000) and CIFAR100 (n <= 10000) (digitised)"
    tolerance = (
        "the largest mean accuracy of the four at every early n of the first two data sets; on "
        "other data sets the first two stages are early"
    )
    words, ok, ranks = [], True, []
    for figure, table in tables.items():
        if _first_look(table):
            return undecidable(FIRST_LOOK, published=published, tolerance=tolerance)
        name = table["dataset"].iloc[0]
        means = _means(table, METHODS)
        rank = means.rank(axis=1, ascending=False, method="max")["FR-ResNet18-Entropy"].astype(int)
        words.append(f"{_place(table)}: " + ", ".join(f"{r} (n = {n})" for n, r in rank.items()))
        if figure in ("al_a_cifar10", "al_b_cifar100"):
            early = rank[rank.index <= EARLY[name]] if name in EARLY else rank.iloc[:2]
            ok &= bool((early == 1).all())
            ranks += early.tolist()
    return decide(
        ok,
        value=float(np.mean(ranks)),
        published=published,
        tolerance=tolerance,
        detail="rank of FR-ResNet18-Entropy among four; " + "; ".join(words),
    )


def claim_c10(tables: Tables) -> Verdict:
    """The original head against the extra one."""
    published = "differences below .2 pp (figure)"
    table = tables["ablation_b_ojkd"]
    at_scale = table["scale"].iloc[0] == "paper"
    tolerance = "acc(OriginalHead) >= acc(ExtraHead) - 0.5 at every n"
    tolerance += ", and |difference| <= 0.5" if at_scale else ""
    if _first_look(table):
        return undecidable(FIRST_LOOK, published=published, tolerance=tolerance)
    means = _means(table, ["OriginalHead", "ExtraHead"], heads=("original", "extra"))
    difference = means["OriginalHead"] - means["ExtraHead"]
    ok = difference.min() >= -0.5 and (not at_scale or difference.abs().max() <= 0.5)
    return decide(
        bool(ok),
        value=difference.min(),
        published=published,
        tolerance=tolerance,
        detail=f"{_place(table)}, original minus extra in pp: {_listed(difference)}",
    )


def claim_c11(tables: Tables) -> Verdict:
    """With against without the gate."""
    published = "5.2, 5.6, 5.3, 2.3 pp at 1k to 4k, below .6 from 7k on (digitised)"
    tolerance = "acc(gate) - acc(no gate) > T at two or more of the three smallest n"
    table = tables["ablation_b_ojkd"]
    if _first_look(table):
        return undecidable(FIRST_LOOK, published=published, tolerance=_with_T(tolerance))
    gains = _gains(table, "OriginalHead_no_GradGate", "OriginalHead").iloc[:3]
    return decide(
        int((gains["gain"] > gains["T"]).sum()) >= 2,
        value=gains["gain"].max(),
        published=published,
        tolerance=_with_T(tolerance),
        detail=_gain_words(gains),
    )


def claim_c12(tables: Tables) -> Verdict:
    """The order of the parts of FR."""
    published = "2k: 60.36 < 65.7 < 66.2 < 69.1 < 70.46 (digitised)"
    tolerance = (
        "at the two smallest n: ResNet18 < wide linear < narrow linear < FR without LayerNorm < "
        "FR, each pair within T"
    )
    table = tables["ablation_a_components"]
    if _first_look(table):
        return undecidable(FIRST_LOOK, published=published, tolerance=_with_T(tolerance))
    ok, words, steps = True, [], []
    for before, after in itertools.pairwise(COMPONENTS):
        gains = _gains(table, before, after).iloc[:2]
        ok &= bool((gains["gain"] >= -gains["T"]).all())
        steps += gains["gain"].tolist()
    means = _means(table, COMPONENTS).iloc[:2]
    for n, row in means.iterrows():
        words.append(f"n = {n}: " + ", ".join(f"{value:.1f}" for value in row))
    return decide(
        ok,
        value=float(np.min(steps)),
        published=published,
        tolerance=_with_T(tolerance),
        detail=f"{_place(table)}, in that order, in %; " + "; ".join(words),
    )


def claim_c13(tables: Tables) -> Verdict:
    """Accuracy against the number of inner layers."""
    published = "2k: 70.46, 69, 68.5, 67.8, 64.6 for 1 to 5 layers (digitised)"
    tolerance = "Spearman(layers, accuracy) <= -0.8 at both of the two smallest n"
    table = tables["ablation_c_depth"]
    if _first_look(table):
        return undecidable(FIRST_LOOK, published=published, tolerance=tolerance)
    means = _means(table, DEPTHS).iloc[:2]
    trends, words = [], []
    for n, row in means.iterrows():
        trends.append(spearman(range(len(row)), row))
        words.append(f"n = {n}: " + ", ".join(f"{value:.1f}" for value in row))
    return decide(
        max(trends) <= -0.8,
        value=max(trends),
        published=published,
        tolerance=tolerance,
        detail=f"{_place(table)}, 1 to 5 layers, in %; " + "; ".join(words)
        + "; Spearman " + ", ".join(f"{trend:.2f}" for trend in trends),
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
        published="0.37 %",
        tolerance="41,408 of 11,173,962 parameters exactly; none more at test time",
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
        published="no number",
        tolerance="gradient of CE(z_orig) in every backbone parameter exactly 0 with m = 0 and not "
        "with m = 1; gradient of the sum that of CE(z_FR) within 1e-7",
        detail=f"largest norm with m = 0 {closed:g}, smallest with m = 1 {opened:.2g}; sum against "
        f"CE(z_FR) {total:.1g}",
    )
