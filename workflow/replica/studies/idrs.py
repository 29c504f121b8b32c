"""Intriguing Properties of Input-dependent Randomized Smoothing.

Súkeník, Kuvshinov, Günnemann; ICML 2022; arXiv 2110.05365. The words of the claims are those of
the abstract; the list of figures, and the statistic that decides each claim, are ours.
"""

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.contour import ContourSet
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from scipy import stats

from replica import drawing
from replica.measures import certified
from replica.measures.inputs import Inputs, ran, tidy
from replica.provenance import stream_seed
from replica.smoothing import certificates, noncentral
from replica.verdicts import (
    CHANCE,
    Undecided,
    Verdict,
    by_chance,
    decide,
    finite,
    settled,
    some,
    undecidable,
)

Tables = Mapping[str, pd.DataFrame]

DIMENSIONS = {64: "digits", 784: "MNIST", 3072: "CIFAR-10", 150528: "ImageNet 224",
              196608: "ImageNet 256"}  # fmt: skip
LEVELS = (0.9, 0.99, 0.999)
BOOTSTRAP = 1000
SHUFFLES = 999
# The rate of the follow-up code, the only one with a source: it decides.
RATE = 0.01
# Largest drops are over windows of these shares of the ceiling of constant noise. The first is
# that of the published summary; a curve that only falls a little earlier shows in the others.
WINDOWS = (0.02, 0.05, 0.08)
# Constant noise has a waterfall if this share of images is certified at .99 of the ceiling.
WATERFALL = 0.02
# Fewer classifiers do not show how much the luck of one training matters.
CLASSIFIERS = 3
# In the last sixth of the epochs the loss of settled classifiers is, in the mean, at most this
# share below that of the sixth before; both have the last learning rate, a hundredth of the first.
# One alone says little: of three on digits at σ = 0.12 it falls by 5, 4 and -2 %.
SETTLED = 0.02
# The limits of the mean of σ(x)/σ_b: about 5 % above 1.
MEAN_RATIO = (1.03, 1.08)
SETTLED_RULE = (
    "the mean training loss of a level of noise falls by at most 2 % from the fifth to the last "
    "sixth of epochs"
)
SETTINGS = ["run", "dataset", "train", "train_sigma", "sigma_b", "noise", "rate", "k", "m", "norm"]
IMAGE = [
    *[*SETTINGS, "seed", "n", "alpha", "image", "label", "correct", "abstain", "p_a", "sigma_x"],
    *["radius", "cohen_radius", "side", "clean_correct"],
]

# What the published summary counts, in words.
SUMMARY = {
    "accuracy_r0": "accuracy at radius 0",
    "abstain": "share of abstentions",
    "acr": "average certified radius",
    "classwise_std_ddof0": "deviation of accuracy over classes",
    "max_radius": "largest radius",
    "waterfall_height": "share certified at 0.99 of that radius",
    "largest_drop_2pct": "largest drop over 2 % of that radius",
}

# ======================================================================================
# The worst case, without any training


def table_xi_functions(inputs: Inputs) -> pd.DataFrame:
    """ξ_> and ξ_< over distances up to 1.2 of Cohen's radius; and at Cohen's radius itself."""
    sigma_0 = 0.25
    curves, at_cohen = [], []
    for N, p_a in itertools.product((64, 784, 3072), LEVELS):
        cohen = float(certificates.cohen_radius(sigma_0, p_a))
        a = cohen * np.linspace(0.0, 1.2, 41)
        for ratio in (0.9, 0.95, 0.98, 0.99, 0.995, 0.998):
            for side, s1 in [("greater", sigma_0 * ratio), ("less", sigma_0 / ratio)]:
                settings = {"n_dim": N, "p_a": p_a, "sigma_0": sigma_0, "side": side}
                settings["ratio"] = s1 / sigma_0
                curves.append(pd.DataFrame({"a": a, "xi": _xi(a, sigma_0, s1, p_a, N)} | settings))
                value = float(_xi(cohen, sigma_0, s1, p_a, N))
                at_cohen.append({**settings, "a": cohen, "xi": value})
    curves = pd.concat(curves, ignore_index=True).assign(seed=-1)
    return pd.concat(
        [
            tidy(inputs, "curve", curves, _named(curves, "side", "ratio")),
            tidy(inputs, "at Cohen's radius", pd.DataFrame(at_cohen).assign(seed=-1), "xi"),
        ],
        ignore_index=True,
    )


def draw_xi_functions(table: pd.DataFrame, published: pd.DataFrame) -> Figure:
    """ξ against the distance in units of Cohen's radius; rows p_A, columns N."""
    curves = table[table["panel"] == "curve"]
    numbers, levels = sorted(curves["n_dim"].unique()), sorted(curves["p_a"].unique())
    figure, axes = drawing.grid(
        len(levels), len(numbers), figsize=(11, 8), sharex=True, sharey=True
    )
    ratios = sorted(r for r in curves["ratio"].unique() if 0 < r < 1)
    colours = drawing.ordered_colours(len(ratios))
    for (row, p_a), (column, N) in itertools.product(enumerate(levels), enumerate(numbers)):
        ax = axes[row, column]
        own = curves[(curves["p_a"] == p_a) & (curves["n_dim"] == N)]
        # Without noise there is no radius to divide by.
        cohen = float(certificates.cohen_radius(own["sigma_0"].max(), p_a)) or np.nan
        for ratio, colour in zip(ratios, colours, strict=True):
            for side, wanted, dash in [("greater", ratio, "-"), ("less", 1 / ratio, "--")]:
                rows = own[(own["side"] == side) & np.isclose(own["ratio"], wanted)]
                label = f"σ_1/σ_0 = {ratio:g}" if side == "greater" else None
                ax.plot(rows["a"] / cohen, rows["xi"], dash, color=colour, label=label)
        ax.axhline(0.5, color="0.3", linewidth=0.8)
        ax.axvline(1, color="0.3", linewidth=0.8, linestyle=":")
        ax.set_title(f"N = {int(N)}, p_A = {p_a:g}")
    lines = published[published["series"].str.startswith("xi_gt")] if len(published) else published
    if len(lines) and 0.99 in levels and 3072 in numbers:
        ax = axes[levels.index(0.99), numbers.index(3072)]
        ax.plot(
            np.ones(len(lines)), lines["y"], "o", mfc="none", color=drawing.COLOURS["published"]
        )
    for ax in axes[-1]:
        ax.set_xlabel("distance a / Cohen's radius")
    for ax in axes[:, 0]:
        ax.set_ylabel("worst P(class B)")
    _legend_beside(figure, axes[0, 0])
    drawing.settings_line(
        figure, "solid: ξ_>, σ_1 < σ_0; dashed: ξ_<, σ_1 = σ_0 / ratio; σ_0 = 0.25"
    )
    return figure


def table_radius_vs_pa(inputs: Inputs) -> pd.DataFrame:
    """Radii against p_A with and without the follow-up's cap; and attacks of the worst classifier.

    Panel `attack`: the largest ξ over σ_1 in [σ_0 e^{-ra}, σ_0 e^{ra}] at shares of the radius
    (κ = .9999), and by simulation at the two ends.
    """
    p_a = [0.55, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 0.995, 0.999, 0.9999, 0.99993]
    settings = itertools.product((64, 784, 3072), (0.12, 0.25, 0.5, 1.0), (0.005, 0.01, 0.05), p_a)
    N, sigma_0, rate, p_a = (np.array(values) for values in zip(*settings, strict=True))
    cap = np.empty(len(N))
    for each in np.unique(N):
        cap[N == each] = certificates.follow_up_cap(each, p_a[N == each])
    # The roots of all settings at once.
    radius, side = certificates.input_dependent_radius(sigma_0, rate, N, p_a)
    capped, _ = certificates.input_dependent_radius(sigma_0, rate, N, p_a, cap)
    frame = pd.DataFrame(
        {
            "p_a": p_a,
            "kappa": cap,
            "radius": radius,
            "capped_radius": capped,
            "cohen_radius": certificates.cohen_radius(sigma_0, p_a),
            "binding_side": side,
            "n_dim": N,
            "sigma_0": sigma_0,
            "r": rate,
            "seed": -1,
        }
    )
    attacks = pd.DataFrame(_attacks()).assign(seed=-1)
    return pd.concat(
        [
            tidy(inputs, "radius", frame, _named(frame, "n_dim", "sigma_0", "r")),
            tidy(inputs, "attack", attacks, attacks["kind"].to_numpy()),
        ],
        ignore_index=True,
    )


def draw_radius_vs_pa(table: pd.DataFrame, published: pd.DataFrame) -> Figure:
    """Radius against Φ⁻¹(p_A), where Cohen's is a straight line; columns N, colours r."""
    rows = table[table["panel"] == "radius"]
    numbers, sigmas = sorted(rows["n_dim"].unique()), (0.25, 0.5)
    figure, axes = drawing.grid(
        len(sigmas), len(numbers), figsize=(11, 6), sharex=True, sharey="row"
    )
    rates = sorted(rows["r"].unique())
    for (i, sigma_0), (j, N) in itertools.product(enumerate(sigmas), enumerate(numbers)):
        ax = axes[i, j]
        own = rows[(rows["n_dim"] == N) & (rows["sigma_0"] == sigma_0)]
        cohen = own[own["r"] == rates[0]]
        ax.plot(cohen["p_a"], cohen["cohen_radius"], color=drawing.COLOURS["constant"],
                label="Cohen, constant noise")  # fmt: skip
        for position, rate in enumerate(rates):
            line = own[own["r"] == rate]
            colour = drawing.ordered_colours(len(rates) + 1)[position]
            dash = drawing.ordered_dash(position + 1)
            ax.plot(
                line["p_a"], line["radius"], linestyle=dash, color=colour, label=f"r = {rate:g}"
            )
        for kind, name in [("cohen", f"cohen sigma0={sigma_0:.2f}"),
                           ("idrs", f"idrs N={int(N)} sigma0={sigma_0:.2f} r=0.01")]:  # fmt: skip
            if kind == "idrs" or N == 3072:
                drawing.published_points(ax, published, name)
        ax.set_xscale("logit")
        ax.set_title(f"N = {int(N)}, σ_0 = {sigma_0:g}")
        ax.set_xticks([0.6, 0.9, 0.99, 0.999, 0.9999], ["0.6", "0.9", "0.99", "0.999", "0.9999"])
        ax.minorticks_off()
    for ax in axes[-1]:
        ax.set_xlabel("p_A")
    for ax in axes[:, 0]:
        ax.set_ylabel("certified radius (l2)")
    _legend_beside(figure, axes[0, 0])
    drawing.settings_line(
        figure,
        "no cap on σ_1/σ_0; circles: derived reference values, which have the follow-up's cap",
    )
    return figure


def table_radius_vs_dimension(inputs: Inputs) -> pd.DataFrame:
    """The share rho of Cohen's radius that is left, by N, σ_0, r and p_A."""
    grid = itertools.product(
        (8, 32, 64, 256, 784, 3072, 150528), (0.12, 0.25, 0.5, 1.0), (0.01, 0.02, 0.05, 0.1), LEVELS
    )
    frame = pd.DataFrame(grid, columns=["n_dim", "sigma_0", "r", "p_a"])
    arguments = (frame["sigma_0"], frame["r"], frame["n_dim"], frame["p_a"])
    frame["radius"], frame["binding_side"] = certificates.input_dependent_radius(*arguments)
    frame["cohen_radius"] = certificates.cohen_radius(frame["sigma_0"], frame["p_a"])
    frame["rho"] = frame["radius"] / frame["cohen_radius"]
    return tidy(inputs, "rho", frame.assign(seed=-1), _named(frame, "sigma_0", "r", "p_a"))


def draw_radius_vs_dimension(table: pd.DataFrame, published: pd.DataFrame) -> Figure:
    """rho against N at p_A = .99, a panel for each σ_0."""
    rows = table[table["p_a"] == 0.99]
    sigmas, rates = sorted(rows["sigma_0"].unique()), sorted(rows["r"].unique())
    figure, (axes,) = drawing.grid(1, len(sigmas), figsize=(11, 3.2), sharey=True)
    for ax, sigma_0 in zip(axes, sigmas, strict=False):
        for position, rate in enumerate(rates):
            own = rows[(rows["sigma_0"] == sigma_0) & (rows["r"] == rate)].sort_values("n_dim")
            colour = drawing.ordered_colours(len(rates))[position]
            mark, dash = drawing.MARKERS[position], drawing.ordered_dash(position)
            ax.plot(
                own["n_dim"], own["rho"], dash, marker=mark, color=colour, label=f"r = {rate:g}"
            )
        ax.set(xscale="log", xlabel="input dimension N", title=f"σ_0 = {sigma_0:g}")
        ax.axhline(1, color=drawing.COLOURS["constant"], linewidth=0.9)
    axes[0].set_ylabel("radius / Cohen's radius")
    axes[0].set_ylim(0, 1.03)
    _legend_beside(figure, axes[0])
    drawing.settings_line(figure, "p_A = 0.99, no cap on σ_1/σ_0")
    return figure


def table_table_dim_thresholds(inputs: Inputs) -> pd.DataFrame:
    """Thresholds on σ_1/σ_0: exact at a = 0, by Chernoff's bound, and the corollary."""
    rows = []
    for N, p_a in itertools.product(DIMENSIONS, LEVELS):
        bounds = {
            "exact": certificates.ratio_thresholds(N, p_a),
            "Chernoff": certificates.chernoff_thresholds(N, p_a),
            "corollary": (certificates.corollary_threshold(N, p_a),),
        }
        for form, values in bounds.items():
            for side, value in zip(("lower", "upper"), values, strict=False):
                rows.append({"n_dim": N, "p_a": p_a, "form": form, "side": side,
                             "threshold": float(value)})  # fmt: skip
    frame = pd.DataFrame(rows).assign(seed=-1)
    return tidy(inputs, "threshold", frame, _named(frame, "form", "side"))


def draw_table_dim_thresholds(table: pd.DataFrame, published: pd.DataFrame) -> Figure:
    """The limits of σ_1/σ_0 against N by each form; circles are the derived reference values."""
    figure, axes = plt.subplots(1, len(LEVELS), figsize=(11, 3.6), sharey=True)
    forms = [("exact", "-"), ("Chernoff", "--"), ("corollary", ":")]
    names = {"exact": "exact_a0", "Chernoff": "chernoff"}
    for ax, p_a in zip(axes, LEVELS, strict=True):
        own = table[table["p_a"] == p_a]
        for position, (form, dash) in enumerate(forms):
            for side in ("lower", "upper"):
                rows = own[(own["form"] == form) & (own["side"] == side)].sort_values("n_dim")
                label = form if side == "lower" else None
                colour = drawing.ordered_colours(len(forms) + 1)[position]
                ax.plot(rows["n_dim"], rows["threshold"], dash, color=colour, label=label)
                for N in rows["n_dim"]:
                    drawn = published[published["series"] == f"{side}_{names.get(form)} N={int(N)}"]
                    for y in drawn[np.isclose(pd.to_numeric(drawn["x"]), p_a)]["y"]:
                        ax.plot(N, y, "o", mfc="none", ms=4, color=drawing.COLOURS["published"])
        ax.set(xscale="log", xlabel="input dimension N", title=f"p_A = {p_a:g}")
    axes[0].set_ylabel("σ_1 / σ_0")
    _legend_beside(figure, axes[0])
    drawing.settings_line(
        figure, "outside of the exact interval nothing can be certified, at any distance"
    )
    return figure


# ======================================================================================
# Toy data


def table_toy_cone(inputs: Inputs) -> pd.DataFrame:
    """Smoothed predictions at test points and on a grid, and accuracy by class."""
    rows = inputs.measures[inputs.measures["prediction"].notna()]
    names = np.where(rows["noise"] == "knn", "input-dependent", "constant")
    columns = ["x1", "x2", "label", "sigma_x", "prediction", "radius", "correct", "seed", "run",
               "sigma_b", "rate", "image"]  # fmt: skip
    on_grid = rows["run"].str.endswith("_grid")
    parts = [
        tidy(inputs, "grid", rows.loc[on_grid, columns], names[on_grid]),
        tidy(inputs, "test", rows.loc[~on_grid, columns], names[~on_grid]),
    ]
    classes = parts[1].groupby(["series", "label"], as_index=False)
    accuracy = classes.agg(value=("correct", "mean"), n_images=("correct", "size"))
    parts.append(tidy(inputs, "accuracy", accuracy.assign(seed=-1), accuracy["series"].to_numpy()))
    base = inputs.measures[inputs.measures["metric"] == "accuracy"]
    base = base[(base["split"] == "test") & (base["noise"].astype(str) == "0.0")]
    parts.append(tidy(inputs, "classifier", base[["seed", "value"]], "not smoothed"))
    return pd.concat(parts, ignore_index=True)


def draw_toy_cone(table: pd.DataFrame, published: pd.DataFrame) -> Figure:
    """Certified radii over the plane with the border of the regions, and σ(x)."""
    figure, axes = plt.subplots(1, 3, figsize=(11, 3.5))
    series = ("constant", "input-dependent")
    grids = [table[(table["panel"] == "grid") & (table["series"] == name)] for name in series]
    largest = max((grid["radius"].max() for grid in grids), default=0)
    levels = MaxNLocator(10).tick_values(0, largest) if drawing.limit(largest) else 11
    for ax, name, grid in zip(axes, series, grids, strict=False):
        drawn = _contours(ax, grid, "radius", levels=levels, cmap="Blues")
        points = table[(table["panel"] == "test") & (table["series"] == name)]
        for label, mark in [(0, "o"), (1, "^")]:
            own = points[points["label"] == label]
            colour = drawing.COLOURS["knn" if label == 0 else "knn_mean"]
            ax.plot(own["x1"], own["x2"], mark, ms=2.5, color=colour, label=f"class {label}")
        _border(ax, grid)
        ax.set(xlim=(-8, 8), ylim=(-8, 8), xlabel="x_1", aspect="equal")
        ax.set_title(f"certified radius, {name} noise", fontsize=9)
    if drawn:
        figure.colorbar(drawn, ax=list(axes[:2]), shrink=0.8)
    axes[0].set_ylabel("x_2")
    if drawn := _contours(axes[2], grids[1], "sigma_x", levels=12, cmap="Oranges"):
        figure.colorbar(drawn, ax=axes[2], shrink=0.8)
    axes[2].set(xlabel="x_1", aspect="equal")
    axes[2].set_title("σ(x)", fontsize=9)
    knn = table[(table["panel"] == "test") & (table["series"] == series[1])]
    knn = knn[["sigma_b", "rate"]].max()
    drawing.settings_line(
        figure,
        f"σ_b = {knn['sigma_b']:g}, r = {knn['rate']:g}, MLP 2-20-20-2; black: border of the "
        f"predicted classes; circles: class 0, triangles: class 1\n{_differing(table, *series)}",
    )
    return figure


def _border(ax: Axes, grid: pd.DataFrame) -> None:
    """The line between the predicted classes, where there are two."""
    if grid["prediction"].nunique() == 2:
        values = grid.pivot_table(index="x2", columns="x1", values="prediction", aggfunc="first")
        if min(values.shape) > 1:
            ax.contour(values.columns, values.index, values, levels=[0.5], colors="black",
                       linewidths=1)  # fmt: skip


def _differing(table: pd.DataFrame, *series: str) -> str:
    """At how many points the predictions differ, and the accuracies by class, in words."""
    grid = table[table["panel"] == "grid"].pivot_table(
        index="image", columns="series", values="prediction", aggfunc="first"
    )
    words = []
    if set(series) <= set(grid.columns):
        differ = int((grid[series[0]] != grid[series[1]]).sum())
        words.append(f"the predicted class differs at {differ} of {len(grid)} grid points")
    accuracy = table[table["panel"] == "accuracy"]
    for name in series:
        own = accuracy[accuracy["series"] == name].sort_values("label")["value"]
        listed = ", ".join(f"{value:.2f}" for value in own)
        words.append(f"accuracy of class 0, 1 with {name} noise {listed or 'unknown'}")
    return "; ".join(words)


# ======================================================================================
# The variance function


def table_sigma_hist(inputs: Inputs) -> pd.DataFrame:
    """σ(x)/σ_b, distance and semi-elasticity by image, the same for all classifiers."""
    rows = inputs.measures
    rows = rows[rows["seed"] == rows["seed"].min()].copy()
    rows["sigma_ratio"] = rows["sigma_x"] / rows["sigma_b"]
    columns = [*SETTINGS, "image", "label", "knn_distance", "sigma_ratio", "elasticity", "seed"]
    names = [f"r = {rate:g}" for rate in rows["rate"]]
    panels = [
        f"{name}: {dataset}" for name, dataset in zip(rows["train"], rows["dataset"], strict=True)
    ]
    frame = rows[columns].assign(name=names, place=panels)
    parts = [tidy(inputs, place, own.drop(columns=["name", "place"]), own["name"].to_numpy())
             for place, own in frame.groupby("place", sort=False)]  # fmt: skip
    return pd.concat(parts, ignore_index=True)


def draw_sigma_hist(table: pd.DataFrame, published: pd.DataFrame) -> Figure:
    """σ(x)/σ_b by rate, and the distance to the neighbours by class."""
    own = table[table["sigma_b"] == table["sigma_b"].min()]
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.4), width_ratios=[1.4, 1])
    _draw_ratios(left, own)
    rows = own.drop_duplicates("image")
    labels = sorted(rows["label"].unique())
    groups = [rows.loc[rows["label"] == label, "knn_distance"] for label in labels]
    if labels:
        right.boxplot(groups, tick_labels=[str(int(label)) for label in labels])
    right.set(xlabel="class", ylabel="mean distance to the nearest")
    drawing.settings_line(
        figure,
        f"{_name(rows['dataset'])}, {len(rows)} test images; k = {rows['k'].max():g} nearest "
        f"training images, m = {rows['m'].max():g}; largest |Δ log σ| / (r |Δx|) over all pairs: "
        f"{table['elasticity'].max():.3f}",
    )
    return figure


def _draw_ratios(ax: Axes, own: pd.DataFrame) -> None:
    """A row of dots for each rate, a dot an image, and their mean."""
    rates = sorted(own["rate"].unique())
    for position, rate in enumerate(rates):
        ratio = own.loc[own["rate"] == rate, "sigma_ratio"]
        colour = drawing.ordered_colours(len(rates) + 1)[position]
        ax.plot(ratio, np.full(len(ratio), position), "|", ms=14, color=colour, alpha=0.5)
        ax.plot(ratio.mean(), position, "D", ms=5, color="black")
        # In the middle of what is drawn, above the dots.
        ax.annotate(f"mean {ratio.mean():.4f}, deviation {ratio.std():.4f}",
                    (ratio.mean(), position + 0.27), ha="center", fontsize=7.5)  # fmt: skip
    ax.axvline(1, color="0.3", linestyle=":", linewidth=0.9)
    ax.set_yticks(range(len(rates)), [f"r = {rate:g}" for rate in rates])
    ax.set(xlabel="σ(x) / σ_b", ylim=(-0.5, len(rates) - 0.4))


def table_sigma_cifar10(inputs: Inputs) -> pd.DataFrame:
    """σ(x)/σ_b, distance and semi-elasticity by image."""
    return table_sigma_hist(inputs)


def draw_sigma_cifar10(table: pd.DataFrame, published: pd.DataFrame) -> Figure:
    """The same as `draw_sigma_hist`."""
    return draw_sigma_hist(table, published)


# ======================================================================================
# Constant noise, beside the published logs of the baseline


def table_cohen_cert_acc_cifar10(inputs: Inputs) -> pd.DataFrame:
    """Certified accuracy by radius, and the images that it comes from."""
    return _curves(inputs, lambda row: f"constant sigma={row['sigma_b']:.2f}")


def draw_cohen_cert_acc_cifar10(table: pd.DataFrame, published: pd.DataFrame) -> Figure:
    """Ours, and the published curves as marks."""
    series = sorted(table["series"].unique())
    figure, axes = plt.subplots(1, len(series), figsize=(3.6 * len(series) + 1, 3.4), squeeze=False)
    dataset = drawing.all_of(table["dataset"])
    for ax, name in zip(axes[0], series, strict=True):
        own = table[table["series"] == name]
        _draw_curve(ax, own, drawing.COLOURS["constant"], "-", f"ours, {dataset}")
        label = "published, CIFAR-10 ResNet110"
        drawing.published_points(ax, published, name, label=label, ms=3)
        sigma, n, alpha = own["sigma_b"].iloc[0], own["n"].max(), own["alpha"].max()
        if np.isfinite(n):
            ceiling = certificates.radius_ceiling(sigma, int(n), alpha)
            ax.axvline(
                ceiling, color="0.3", linestyle=":", linewidth=0.9, label=f"ceiling {ceiling:.3f}"
            )
        ax.set(xlabel="radius R (l2)", title=f"σ = {sigma:g}", ylim=(0, 1), xlim=(0, None))
        _legend_below(ax)
    axes[0, 0].set_ylabel("certified accuracy A(R)")
    drawing.settings_line(figure, _counts(table))
    return figure


def table_cohen_classwise_cifar10(inputs: Inputs) -> pd.DataFrame:
    """A(0) by class, seed and σ."""
    rows = inputs.measures
    keys = ["sigma_b", "seed", "label"]
    table = rows.groupby(keys, as_index=False).agg(value=("correct", "mean"), n=("correct", "size"))
    table["dataset"] = rows["dataset"].iloc[0]
    names = [f"constant sigma={sigma:.2f}" for sigma in table["sigma_b"]]
    return tidy(inputs, "class", table, names)


def draw_cohen_classwise_cifar10(table: pd.DataFrame, published: pd.DataFrame) -> Figure:
    """Bars by class with one standard deviation over seeds; published values as marks."""
    series = sorted(table["series"].unique())
    figure, axes = plt.subplots(1, len(series), figsize=(3.8 * len(series) + 1, 3.2), squeeze=False)
    dataset = table["dataset"].iloc[0]
    for ax, name in zip(axes[0], series, strict=True):
        own = table[table["series"] == name].groupby("label")["value"]
        mean = own.mean()
        ax.bar(mean.index, mean, yerr=own.std().fillna(0), color=drawing.COLOURS["constant"],
               capsize=2, label=f"ours, {dataset}")  # fmt: skip
        marks = {"ms": 5, "mfc": "white", "zorder": 3, "color": "black"}
        drawing.published_points(ax, published, name, label="published, CIFAR-10", **marks)
        ax.set(xlabel="class", title=name.replace("constant sigma=", "σ = "), ylim=(0, 1.02))
        ax.set_xticks(mean.index)
        _legend_below(ax)
    axes[0, 0].set_ylabel("accuracy at radius 0 by class")
    drawing.settings_line(figure, "classes of the two data sets are not the same things")
    return figure


def table_cohen_summary_cifar10(inputs: Inputs) -> pd.DataFrame:
    """The published summary statistics, of ours; `series` as in the published file."""
    rows = []
    for (sigma, seed), own in inputs.measures.groupby(["sigma_b", "seed"]):
        rows.append({"sigma_b": sigma, "seed": seed} | _summary(own))
    wide = pd.DataFrame(rows).assign(dataset=inputs.measures["dataset"].iloc[0])
    long = wide.melt(["sigma_b", "seed", "dataset"], var_name="statistic")
    names = [f"constant sigma={sigma:.2f}" for sigma in long["sigma_b"]]
    return tidy(inputs, "summary", long, names)


def draw_cohen_summary_cifar10(table: pd.DataFrame, published: pd.DataFrame) -> Figure:
    """One panel a statistic, σ on the x axis."""
    names = [name for name in SUMMARY if name in set(table["statistic"])]
    figure, axes = drawing.grid(2, -(-len(names) // 2), figsize=(11, 5))
    for ax, statistic in zip(axes.flat, names, strict=False):
        own = table[table["statistic"] == statistic].groupby("sigma_b")["value"]
        ax.errorbar(own.mean().index, own.mean(), yerr=own.std().fillna(0), marker="o", capsize=3,
                    color=drawing.COLOURS["constant"], label="ours")  # fmt: skip
        theirs = published[published["x"] == statistic]
        x = [float(name.split("=")[1]) for name in theirs["series"]]
        ax.plot(x, theirs["y"], "o", mfc="none", color=drawing.COLOURS["published"],
                label="published, CIFAR-10")  # fmt: skip
        ax.set(xlabel="σ", ylim=(0, None))
        ax.set_title(SUMMARY[statistic], fontsize=9)
    for ax in axes.flat[len(names) :]:
        ax.axis("off")
    words = ", ".join(f"{sigma:g}" for sigma in sorted(table["sigma_b"].dropna().unique()))
    drawing.settings_line(
        figure,
        f"filled: ours, {_name(table['dataset'])}, σ = {words}, bars: one deviation over "
        "classifiers; open: published, CIFAR-10, ResNet110",
    )
    return figure


# ======================================================================================
# Input-dependent noise against constant noise


def table_cert_acc_cifar10(inputs: Inputs) -> pd.DataFrame:
    """Certified accuracy by radius for constant and input-dependent noise, and the images."""
    return pd.concat([_curves(inputs, _method), _classifiers(inputs)], ignore_index=True)


def draw_cert_acc_cifar10(table: pd.DataFrame, published: pd.DataFrame) -> Figure:
    """A panel for each σ_b."""
    return _draw_comparison(table)


def table_cert_acc_levels(inputs: Inputs) -> pd.DataFrame:
    """The same at other σ_b."""
    return table_cert_acc_cifar10(inputs)


def draw_cert_acc_levels(table: pd.DataFrame, published: pd.DataFrame) -> Figure:
    """A panel for each σ_b."""
    return _draw_comparison(table)


def table_cert_acc_mnist(inputs: Inputs) -> pd.DataFrame:
    """The same on MNIST."""
    return pd.concat([_curves(inputs, _method), _classifiers(inputs)], ignore_index=True)


def draw_cert_acc_mnist(table: pd.DataFrame, published: pd.DataFrame) -> Figure:
    """A panel for each σ_b."""
    return _draw_comparison(table)


def table_table_accuracy(inputs: Inputs) -> pd.DataFrame:
    """A(0), ACR and abstentions by method, and the classifiers' own accuracy."""
    rows = []
    for (run, seed), own in _certified(inputs).groupby(["run", "seed"], sort=False):
        first = own.iloc[0]
        row = {"run": run, "seed": seed, "sigma_b": first["sigma_b"], "method": _method(first)}
        row |= {"A(0)": own["correct"].mean(), "abstain": own["abstain"].mean()}
        row |= {"ACR": certified.average_certified_radius(own["radius"], own["correct"])}
        rows.append(row | {"without noise": own["clean_correct"].mean()})
    long = pd.DataFrame(rows).melt(["run", "seed", "sigma_b", "method"], var_name="statistic")
    parts = [tidy(inputs, "method", long, long["method"].to_numpy())]
    base = inputs.measures[inputs.measures["metric"] == "accuracy"]
    columns = ["run", "seed", "train_sigma", "split", "noise", "value"]
    base = base[columns].assign(noise=base["noise"].astype(float))
    parts.append(tidy(inputs, "classifier", base, "not smoothed"))
    return pd.concat(parts, ignore_index=True)


def draw_table_accuracy(table: pd.DataFrame, published: pd.DataFrame) -> Figure:
    """The numbers as a table: a row a method, columns σ_b; mean and deviation over classifiers."""
    rows = table[table["panel"] == "method"].copy()
    # A constant that was chosen for the mean is within a few percent of its σ_b.
    sigmas = sorted(rows.loc[rows["method"].str.contains("σ(x)", regex=False), "sigma_b"].unique())
    rows["column"] = [_nearest(sigma, sigmas) for sigma in rows["sigma_b"]]
    rows["row"] = [_row_of(row) for row in rows.itertuples()]
    statistics = ["A(0)", "ACR", "abstain"]
    figure, ax = plt.subplots(figsize=(11, 0.24 * rows["row"].nunique() + 1.3))
    if rows["value"].notna().any() and sigmas:
        grouped = rows.groupby(["row", "column", "statistic"], sort=False)["value"]
        words = {key: _with_deviation(values) for key, values in grouped}
        cells = [
            [words.get((row, sigma, statistic), "") for statistic in statistics for sigma in sigmas]
            for row in dict.fromkeys(rows["row"])
        ]
        names = {"A(0)": "accuracy at 0", "ACR": "average radius", "abstain": "abstentions"}
        heads = [f"{names[each]}\nσ_b = {sigma:g}" for each in statistics for sigma in sigmas]
        _print_table(ax, cells, list(dict.fromkeys(rows["row"])), heads)
    clean = rows.loc[rows["statistic"] == "without noise", "value"]
    words = "mean ± one standard deviation over classifiers; abstentions count as wrong"
    if clean.notna().any():
        words += f"; without noise and smoothing {clean.min():.3f} to {clean.max():.3f} are right"
    drawing.settings_line(figure, words)
    return figure


def _nearest(sigma: float, sigmas: Sequence[float]) -> float:
    return min(sigmas, key=lambda other: abs(other / sigma - 1)) if sigma else sigma


def _row_of(row: Mapping) -> str:
    """The name of a method without its σ_b, which is a column."""
    method = row.method.replace(f", σ_b = {row.sigma_b:g}", "")
    if method.startswith("constant σ ="):
        return "constant σ_b" if row.column == row.sigma_b else "constant 1.05 σ_b, trained with it"
    return method


def _with_deviation(values: pd.Series) -> str:
    std = values.std()
    return f"{values.mean():.3f}" + (f" ± {std:.3f}" if np.isfinite(std) else "")


def table_table_classwise_std(inputs: Inputs) -> pd.DataFrame:
    """Accuracy by class, its standard deviation over the classes, and differences between noises.

    Panels `class` (A(0) by classifier and class), `method` (its deviation, ddof 0, and its
    smallest), `difference` (see `class_differences`) and `classifier`. Where there are no runs on
    more images, of the ones of the certified accuracy.
    """
    images = _certified(inputs)
    if ran(inputs, "class_constant"):
        images = images[images["run"].str.startswith("class_")]
    classes, rows = [], []
    for (run, seed), own in images.groupby(["run", "seed"], sort=False):
        accuracy = certified.classwise_accuracy(own["correct"], own["label"])
        row = {"run": run, "seed": seed, "sigma_b": own["sigma_b"].iloc[0]}
        row |= {"method": _method(own.iloc[0]), "rate": own["rate"].iloc[0]}
        rows += [row | {"statistic": "std, ddof 0", "value": accuracy.std()},
                 row | {"statistic": "worst class", "value": accuracy.min()}]  # fmt: skip
        labels = np.unique(own["label"])
        classes.append(pd.DataFrame({"label": labels, "value": accuracy}).assign(**row))
    methods, classes = pd.DataFrame(rows), pd.concat(classes, ignore_index=True)
    differences = class_differences(images).assign(seed=-1)
    return pd.concat(
        [
            tidy(inputs, "class", classes, classes["method"].to_numpy()),
            tidy(inputs, "method", methods, methods["method"].to_numpy()),
            tidy(inputs, "difference", differences, differences["against"].to_numpy()),
            _classifiers(inputs),
        ],
        ignore_index=True,
    )


def draw_table_classwise_std(table: pd.DataFrame, published: pd.DataFrame) -> Figure:
    """Deviation over the classes by method, and its differences, which decide the claim."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 3.8), width_ratios=[1, 1.15])
    rows = table[(table["panel"] == "method") & (table["statistic"] == "std, ddof 0")]
    methods = dict.fromkeys(rows.sort_values("sigma_b", kind="stable")["method"])
    for position, method in enumerate(methods):
        own = rows[rows["method"] == method]
        noise = "knn_mean" if "mean" in method else "knn" if "σ(x)" in method else "constant"
        left.plot(own["value"], np.full(len(own), position), "o", ms=4, mfc="none",
                  color=drawing.COLOURS[noise])  # fmt: skip
    left.set_yticks(range(len(methods)), list(methods), fontsize=7)
    left.invert_yaxis()
    left.set(xlabel="standard deviation over classes of A(0)")
    rows = table[table["panel"] == "difference"].sort_values(["sigma_b", "rate"], kind="stable")
    colours = {"σ_b": drawing.COLOURS["constant"]}
    for position, row in enumerate(rows.itertuples()):
        right.errorbar(row.value, position, xerr=1.96 * row.se, fmt="o", ms=4, capsize=3,
                       color=colours.get(row.series, drawing.COLOURS["knn_mean"]))  # fmt: skip
    names = [f"σ_b = {row.sigma_b:g}, r = {row.rate:g}, against {row.series}"
             for row in rows.itertuples()]  # fmt: skip
    right.set_yticks(range(len(names)), names, fontsize=7)
    right.invert_yaxis()
    right.axvline(0, color="0.3", linewidth=0.9)
    right.set(xlabel="σ(x) minus constant noise (below 0: fairer)")
    right.locator_params(axis="x", nbins=5)
    counts = rows[["n_images", "classifiers"]].max()
    drawing.settings_line(
        figure,
        f"{_name(rows['dataset'])}, {counts['n_images']:.0f} test images, "
        f"{_classifiers_of(counts['classifiers'])}; left: a circle a classifier; right: 95 % "
        "intervals, classifiers and images of each class drawn again",
    )
    return figure


def table_matched_sigma(inputs: Inputs) -> pd.DataFrame:
    """Input-dependent noise, constant noise at its mean, and constant noise trained for it."""
    return pd.concat([_curves(inputs, _method), _classifiers(inputs)], ignore_index=True)


def draw_matched_sigma(table: pd.DataFrame, published: pd.DataFrame) -> Figure:
    """A panel for each σ_b; the larger training noise is beside the nearest σ_b."""
    return _draw_comparison(table)


def table_train_noise_ablation(inputs: Inputs) -> pd.DataFrame:
    """σ(x) at σ_b = .25 for classifiers trained with σ_b, with a larger constant, with σ(x)."""
    names = {"base": "trained with σ_b", "base_alt": "trained with 1.05 σ_b",
             "base_by_image": "trained with σ(x)"}  # fmt: skip
    images = _certified(inputs)
    rate = images.loc[images["train"] == "base_by_image", "rate"].iloc[0]
    wanted = np.isclose(images["rate"], rate) & (images["sigma_b"] == 0.25)
    return _curves(inputs, lambda row: names[row["train"]], images[wanted])


def draw_train_noise_ablation(table: pd.DataFrame, published: pd.DataFrame) -> Figure:
    """Certified accuracy, a line for each training."""
    figure, ax = plt.subplots(figsize=(7, 3.8))
    _draw_if_apart(ax, table)
    drawing.settings_line(figure, f"σ_b = 0.25, r = {table['rate'].max():g}; {_counts(table)}")
    return figure


def table_sigma_function_ablation(inputs: Inputs) -> pd.DataFrame:
    """σ(x) with one setting changed at a time."""
    parts = []
    for setting, sign in {"k": "k", "rate": "r", "m": "m", "norm": "p"}.items():
        images = _certified(inputs)
        images = images[images["run"].str.startswith(f"vary_{setting}")]

        def name(row: Mapping, setting: str = setting, sign: str = sign) -> str:
            return f"{sign} = {row[setting]:g}"

        frame = _curves(inputs, name, images)
        parts.append(frame.assign(setting=setting))
    return pd.concat(parts, ignore_index=True)


def draw_sigma_function_ablation(table: pd.DataFrame, published: pd.DataFrame) -> Figure:
    """A panel for each setting."""
    words = {"k": "neighbours k", "rate": "rate r", "m": "m", "norm": "p of the distance"}
    return _draw_settings(table.assign(setting=table["setting"].map(words)), "σ_b = 0.25")


def table_mismatched_noise(inputs: Inputs) -> pd.DataFrame:
    """Certified at σ_b = .50 with classifiers trained at another noise."""

    def name(row: Mapping) -> str:
        return f"trained at {row['train_sigma']:g}"

    images = _certified(inputs)
    parts = []
    for noise, words in [("constant", "constant noise"), ("knn", "input-dependent noise")]:
        own = images[images["noise"] == noise].sort_values("train_sigma", kind="stable")
        parts.append(_curves(inputs, name, own).assign(setting=words))
    return pd.concat(parts, ignore_index=True)


def draw_mismatched_noise(table: pd.DataFrame, published: pd.DataFrame) -> Figure:
    """Constant on the left, input-dependent on the right."""
    return _draw_settings(table, "σ_b = 0.5")


def table_optional_ddrs(inputs: Inputs) -> pd.DataFrame:
    """DDRS naive and after its memory, constant and input-dependent noise, all at σ_b = .25."""
    rows = _certified(inputs)
    rows = rows[(rows["sigma_b"] == 0.25) & (rows["seed"] == 0)]
    rate = rows["rate"].max()
    rows = rows[(rows["noise"] != "knn") | (rows["rate"] == rate)]
    naive = rows[rows["noise"] == "ascent"].assign(method="DDRS, naive: not a certificate")
    memory = naive.assign(method="DDRS with memory", radius=naive["memory_radius"])
    right = (naive["memory_prediction"] == naive["label"]) & ~naive["abstain"]
    memory["correct"] = right.astype(bool)
    others = rows[rows["noise"] != "ascent"]
    others = others.assign(method=[_method(row) for row in others[SETTINGS].to_dict("records")])
    images = pd.concat([others, naive, memory], ignore_index=True)
    overlaps = images["overlaps"].astype(bool)
    return _curves(inputs, lambda row: row["method"], images.assign(overlaps=overlaps))


def draw_optional_ddrs(table: pd.DataFrame, published: pd.DataFrame) -> Figure:
    """Certified accuracy; where the memory changes nothing, one line stands for both."""
    figure, ax = plt.subplots(figsize=(7, 4))
    images = table[table["panel"] == "image"]
    naive = images[images["series"].str.contains("naive")]
    overlaps = (
        f"{int(naive['overlaps'].sum())} of {len(naive)} balls of DDRS overlap one of another label"
    )
    shown = table
    if len(naive) and not naive["overlaps"].any():
        both = "DDRS, naive (no certificate) and with memory: the same"
        shown = table[~table["series"].str.contains("memory")]
        shown = shown.assign(
            series=shown["series"].where(~shown["series"].str.contains("naive"), both)
        )
    _draw_series(ax, shown)
    ax.set(xlabel="radius R (l2)", ylabel="certified accuracy A(R)", ylim=(0, 1), xlim=(0, None))
    _legend_below(ax)
    drawing.settings_line(figure, f"σ_b = 0.25; {overlaps}; none does after the correction")
    return figure


# ======================================================================================
# Claims


def claim_c1(tables: Tables) -> Verdict:
    """ξ_> at Cohen's radius with σ_1/σ_0 = .99 is above one half."""
    rows = tables["xi_functions"]
    rows = rows[(rows["panel"] == "at Cohen's radius") & (rows["side"] == "greater")]
    rows = rows[np.isclose(rows["ratio"], 0.99)].sort_values(["n_dim", "p_a"])
    finite(rows["xi"], "ξ_> at Cohen's radius")
    excess = rows["xi"].min() - 0.5
    words = " ".join(f"{xi:.4f}" for xi in rows["xi"])
    return decide(
        excess > 1e-4,
        value=float(rows["xi"].min()),
        detail=f"ξ_> at Cohen's radius with σ_1 = 0.99 σ_0: {words}",
    )


def claim_c2(tables: Tables) -> Verdict:
    """1 - s_min falls as N^{-1/2}."""
    rows = tables["table_dim_thresholds"]
    rows = rows[(rows["form"] == "exact") & (rows["side"] == "lower")]
    rows = rows[rows["n_dim"].isin([64, 784, 3072, 150528])]
    finite(rows["threshold"].where(rows["threshold"] < 1), "threshold below 1")
    slopes = [
        np.polyfit(np.log(own["n_dim"]), np.log(1 - own["threshold"]), 1)[0]
        for _, own in rows.groupby("p_a")
    ]
    return decide(
        all(abs(slope + 0.5) <= 0.05 for slope in slopes),
        value=float(np.mean(slopes)),
        detail="slopes at p_A = 0.9, 0.99, 0.999: " + ", ".join(f"{slope:.4f}" for slope in slopes),
    )


def claim_c3(tables: Tables) -> Verdict:
    """The retained share of Cohen's radius falls with r, σ_0 and N."""
    table = tables["radius_vs_dimension"]
    finite(table["rho"], "share of Cohen's radius")
    rises = {}
    axes = ["n_dim", "sigma_0", "r", "p_a"]
    for axis in axes[:3]:
        others = [name for name in axes if name != axis]
        ordered = table.sort_values([*others, axis])
        rises[axis] = ordered.groupby(others)["rho"].diff().max()
    at = table[(table["n_dim"] == 3072) & (table["r"] == 0.01) & (table["p_a"] == 0.99)]
    at = finite(at.set_index("sigma_0")["rho"].reindex([0.25, 0.5]), "anchor of the share")
    anchors = abs(at[0.25] - 0.9813) <= 1e-3 and abs(at[0.5] - 0.9306) <= 1e-3
    return decide(
        max(rises.values()) <= 2e-3 and anchors,
        value=float(at[0.25]),
        detail=f"largest rise along N {rises['n_dim']:.1e}, σ_0 {rises['sigma_0']:.1e}, r "
        f"{rises['r']:.1e}; rho {at[0.25]:.4f} and {at[0.5]:.4f}; at r = 0.1, σ_0 = 1, N = 150528 "
        f"{table['rho'].min():.3f} is left",
    )


def claim_c4(tables: Tables) -> Verdict:
    """No radius above Cohen's; the worst classifier holds inside the radius and falls outside."""
    table = tables["radius_vs_pa"]
    radii = table[table["panel"] == "radius"]
    finite(radii[["radius", "cohen_radius"]], "radius")
    below = bool((radii["radius"] <= radii["cohen_radius"]).all())
    attacks = table[table["panel"] == "attack"]
    finite(attacks["xi"], "ξ of an attack")
    exact = attacks[attacks["kind"] == "exact"]
    inside, outside = exact[exact["share"] < 1], exact[exact["share"] > 1]
    sampled = attacks[attacks["kind"] == "simulation"]
    errors = finite(((sampled["xi"] - sampled["expected"]) / sampled["se"]).abs(), "simulated ξ")
    largest = inside["xi"].max()
    ok = below and largest < 0.5 and outside["xi"].min() > 0.5 and errors.max() <= 4
    return decide(
        bool(ok),
        value=float(largest),
        detail=f"{len(radii)} radii, none above Cohen's: {below}; largest ξ inside {largest:.5f}, "
        f"smallest at 1.02 R {outside['xi'].min():.5f}; {len(sampled)} simulated values, the worst "
        f"{errors.max():.1f} standard errors away",
    )


def claim_c5(tables: Tables) -> Verdict:
    """The steepest fall of the curve, against constant noise and against σ(x) of other images."""
    claimed, opposite, differences, words, lacking = [], [], [], [], []
    for name in ("cert_acc_cifar10", "cert_acc_mnist"):
        images = _deciding(tables[name])
        lacking += _lacking(tables[name], images["train_sigma"], _classifiers_each(images))
        for sigma_b, own in images.groupby("sigma_b"):
            constant, knn = _of(own, "constant"), _of(own, "knn")
            ceiling = certificates.radius_ceiling(sigma_b, int(own["n"].max()), own["alpha"].max())
            height = _waterfall(constant, ceiling)
            where = f"{_place(images)}, σ_b = {sigma_b:g}"
            if height < WATERFALL:
                words.append(f"{where}: no waterfall, {height:.3f} are left at 0.99 of the ceiling")
                continue
            found = [largest_drops(knn, constant, share * ceiling) for share in WINDOWS]
            claimed += [max(drop["lower"], drop["as_low_shuffled"]) for drop in found]
            opposite += [drop["higher"] for drop in found]
            differences += [drop["value"] for drop in found]
            words.append(
                f"{where}: "
                + ", ".join(
                    f"{share:.0%} window {drop['knn']:.3f} (constant {drop['constant']:.3f}, "
                    f"shuffled {drop['shuffled']:.3f})"
                    for share, drop in zip(WINDOWS, found, strict=True)
                )
            )
    detail = f"largest drop with σ(x), r = {RATE:g}; " + "; ".join(words)
    if not differences:
        return undecidable(detail)
    return _decided(claimed, opposite, float(np.mean(differences)), detail, lacking)


def claim_c6(tables: Tables) -> Verdict:
    """Accuracy and average radius against constant noise at the mean of σ(x)."""
    claimed, opposite, differences, words, lacking = [], [], [], [], []
    for name in ("matched_sigma", "cert_acc_mnist"):
        images = _deciding(tables[name])
        images = some(images[images["noise"] != "constant"], f"images of {name} with σ(x)")
        lacking += _lacking(tables[name], images["train_sigma"], _classifiers_each(images))
        for sigma_b, own in images.groupby("sigma_b"):
            knn, mean = _of(own, "knn"), _of(own, "knn_mean")
            accuracy = _difference(knn, mean, lambda _, correct: correct.mean())
            radius = _difference(knn, mean, certified.average_certified_radius)
            lower, higher = zip(_chances(*accuracy), _chances(*radius), strict=True)
            claimed.append(_one_of_both(higher, lower))
            opposite.append(_one_of_both(lower, higher))
            differences.append(radius[0])
            words.append(f"{_place(images)}, σ_b = {sigma_b:g}: A(0) {accuracy[0]:+.4f} ± "
                         f"{accuracy[1]:.4f}, ACR {radius[0]:+.5f} ± {radius[1]:.5f}")  # fmt: skip
    detail = f"σ(x) minus constant at its mean, r = {RATE:g}: " + "; ".join(words)
    return _decided(claimed, opposite, float(np.mean(differences)), detail, lacking)


def claim_c7(tables: Tables) -> Verdict:
    """The spread of accuracy over the classes, against both constant noises."""
    table = tables["table_classwise_std"]
    rows = table[(table["panel"] == "difference") & np.isclose(table["rate"], RATE)]
    finite(rows[["value", "se"]], "difference of the spread")
    if rows.groupby("sigma_b")["series"].nunique().min() < 2:
        raise Undecided("not every σ_b has both constant noises")
    chances = [_chances(row.value, row.se) for row in rows.itertuples()]
    lower, higher = zip(*chances, strict=True)
    words = [
        f"σ_b = {row.sigma_b:g} against {row.series}: "
        + (f"{row.value:+.4f} ± {row.se:.4f}" if row.differ else "the same on every image")
        for row in rows.itertuples()
    ]
    counts = rows.iloc[0]
    detail = (
        f"{counts['dataset']}, {counts['n_images']:.0f} images, {counts['classifiers']:.0f} "
        f"classifiers, r = {RATE:g}; std over classes of A(0), σ(x) minus constant: "
    ) + "; ".join(words)
    lacking = _lacking(table, rows["sigma_b"], int(rows["classifiers"].min()))
    return _decided(lower, higher, float(rows["value"].mean()), detail, lacking)


def claim_c8(tables: Tables) -> Verdict:
    """The average certified radius stays near that of constant noise."""
    ratios, words, lacking = [], [], []
    for name in ("cert_acc_cifar10", "cert_acc_mnist"):
        images = _deciding(tables[name])
        lacking += _lacking(tables[name], images["train_sigma"], _classifiers_each(images))
        for sigma_b, own in images.groupby("sigma_b"):
            knn, constant = (
                certified.average_certified_radius(rows["radius"], rows["correct"])
                for rows in (_of(own, "knn"), _of(own, "constant"))
            )
            ratios.append(knn / constant if constant else np.nan)
            words.append(f"{_place(images)}, σ_b = {sigma_b:g}: {ratios[-1]:.3f}")
    value, detail = float(np.min(ratios)), f"ratio of ACR at r = {RATE:g}: " + "; ".join(words)
    if lacking:
        return undecidable(f"{'; '.join(lacking)}: {detail}", value=finite([value], "ratio")[0])
    return decide(value >= 0.9, value=value, detail=detail)


def claim_c9(tables: Tables) -> Verdict:
    """The mean of σ(x)/σ_b at r = 0.01, and how sure it is."""
    rows = tables["sigma_cifar10"].drop_duplicates(["rate", "image"])
    ratio = finite(rows.loc[np.isclose(rows["rate"], RATE), "sigma_ratio"], "σ(x)/σ_b")
    mean, error = ratio.mean(), ratio.std() / np.sqrt(len(ratio))
    margin = stats.t.ppf(0.975, len(ratio) - 1) * error
    low, high = mean - margin, mean + margin
    detail = f"{len(ratio)} test images, mean {mean:.4f}, 95 % interval [{low:.4f}, {high:.4f}]"
    outside = high < MEAN_RATIO[0] or low > MEAN_RATIO[1]
    if not outside and not (MEAN_RATIO[0] <= low and high <= MEAN_RATIO[1]):
        return undecidable(f"the interval reaches beyond the limits: {detail}", value=float(mean))
    return decide(not outside, value=float(mean), detail=detail)


def claim_c10(tables: Tables) -> Verdict:
    """σ(x) is r-semi-elastic on all pairs of certified images."""
    rows = tables["sigma_hist"]
    finite(rows["sigma_ratio"].where(rows["sigma_ratio"] > 0), "σ(x)")
    largest = finite(rows["elasticity"], "semi-elasticity of an image").max()
    return decide(
        bool(largest <= 1 + 1e-6),
        value=float(largest),
        detail=f"{rows['run'].nunique()} settings of σ(x), {rows['image'].nunique()} images of "
        f"{', '.join(sorted(rows['dataset'].unique()))}",
    )


# ======================================================================================
# What decides the claims of evidence


def largest_drops(knn: pd.DataFrame, constant: pd.DataFrame, window: float) -> dict[str, float]:
    """The largest drop of A over a window of radii: σ(x), constant noise, and σ(x) shuffled.

    Any spread of σ blurs the ceiling at which constant noise falls, whether or not it belongs to
    the images. So σ(x) is also compared with its own values given to other images, radii scaled
    with them.

    Returns:
        `knn`, `constant`, `shuffled` (mean over shuffles): the drops; `value`, `se`: σ(x) minus
        constant; `lower`, `higher`: how often chance alone shows that difference;
        `as_low_shuffled`: the share of shuffles whose drop is as low as that of σ(x).
    """

    def drop(radius: np.ndarray, correct: np.ndarray) -> float:
        return certified.largest_drop(radius, correct, window)

    def mean_drop(radius: np.ndarray, correct: np.ndarray) -> float:
        return float(np.mean([drop(r, c) for r, c in zip(radius, correct, strict=True)]))

    value, error = _difference(knn, constant, drop)
    lower, higher = _chances(value, error)
    radius, sigma = certified.by_image(knn, "radius"), certified.by_image(knn, "sigma_x")
    correct = certified.by_image(knn, "correct").astype(bool)
    generator = np.random.default_rng(stream_seed("idrs", "shuffle"))
    orders = [generator.permutation(radius.shape[1]) for _ in range(SHUFFLES)]
    shuffled = np.array([mean_drop(radius * sigma[:, order] / sigma, correct) for order in orders])
    ours = mean_drop(radius, correct)
    return {
        "knn": ours,
        "constant": ours - value,
        "shuffled": float(shuffled.mean()),
        "value": value,
        "se": error,
        "lower": lower,
        "higher": higher,
        "as_low_shuffled": float((1 + (shuffled <= ours + 1e-9).sum()) / (1 + SHUFFLES)),
    }


def class_differences(images: pd.DataFrame) -> pd.DataFrame:
    """By σ_b and rate: the spread over classes of A(0) with σ(x), minus that of constant noise.

    Returns:
        Columns sigma_b, rate, against (σ_b, or the mean of σ(x)), value, se, n_images, classifiers,
        dataset and differ: whether σ(x) and constant noise differ on any image.
    """
    rows = []
    for (sigma_b, rate), knn in images[images["noise"] == "knn"].groupby(["sigma_b", "rate"]):
        label = knn.drop_duplicates("image").sort_values("image")["label"].to_numpy()
        # Resampled images come sorted by class.
        classes = np.sort(label)

        def spread(_: np.ndarray, correct: np.ndarray, classes: np.ndarray = classes) -> float:
            return certified.classwise_accuracy(correct, classes).std()

        others = images[images["sigma_b"] == sigma_b]
        for against, noise, at in [("σ_b", "constant", 0), ("the mean of σ(x)", "knn_mean", rate)]:
            constant = others[(others["noise"] == noise) & np.isclose(others["rate"], at)]
            if constant.empty:
                continue
            right = [certified.by_image(part, "correct") for part in (knn, constant)]
            differ = bool((right[0] != right[1]).any())
            value, error = (
                _difference(knn, constant, spread, within_classes=True) if differ else (0.0, 0.0)
            )
            rows.append({"sigma_b": sigma_b, "rate": rate, "against": against, "value": value,
                         "se": error, "n_images": len(label), "classifiers": len(right[0]),
                         "dataset": knn["dataset"].iloc[0],
                         "differ": differ})  # fmt: skip
    return pd.DataFrame(rows)


def _deciding(table: pd.DataFrame) -> pd.DataFrame:
    """The images that were certified under constant noise and noise of the rate `RATE`."""
    images = _images(table)
    return images[np.isclose(images["rate"], RATE) | (images["noise"] == "constant")]


def _classifiers_each(images: pd.DataFrame) -> int:
    """The fewest classifiers of any noise at any σ_b."""
    return int(some(images, "images").groupby(["sigma_b", "noise"])["seed"].nunique().min())


def _lacking(table: pd.DataFrame, train_sigma: pd.Series, count: int) -> list[str]:
    """What keeps the classifiers that are compared from deciding, in words.

    Args:
        train_sigma: the noise that these were trained with; a table may have others.
        count: how many there are at each σ_b.
    """
    classifiers = table[(table["panel"] == "classifier") & table["train_sigma"].isin(train_sigma)]
    words = []
    try:
        falls = classifiers.groupby(["run", "train_sigma"])["late_fall"]
        together = falls.transform(lambda own: own.mean(skipna=False))
        settled(classifiers, together <= SETTLED, SETTLED_RULE)
    except Undecided as why:
        words.append(str(why))
    if count < CLASSIFIERS:
        names = drawing.all_of(table["dataset"])
        words.append(f"{_classifiers_of(count)} of {names} at a σ_b, {CLASSIFIERS} are needed")
    return words


def _decided(
    claimed: Sequence[float],
    opposite: Sequence[float],
    value: float,
    detail: str,
    lacking: Sequence[str],
) -> Verdict:
    """The verdict where a claim, or its opposite, has to be seen at every σ_b and window."""
    if lacking:
        return undecidable(f"{'; '.join(lacking)}: {detail}", value=value)
    return by_chance(max(claimed), max(opposite), value=value, detail=detail)


def _chances(value: float, error: float) -> tuple[float, float]:
    """How often chance alone shows a difference as low as this, and one as high."""
    if error == 0:
        return float(value >= 0), float(value <= 0)
    return float(stats.norm.cdf(value / error)), float(stats.norm.sf(value / error))


def _one_of_both(wanted: Sequence[float], other: Sequence[float]) -> float:
    """How often chance alone moves one of two numbers as wanted; 1 if either moved otherwise."""
    return 1.0 if min(other) < CHANCE else min(1.0, 2 * min(wanted))


def _waterfall(constant: pd.DataFrame, ceiling: float) -> float:
    """The share of images that constant noise certifies at 0.99 of its ceiling."""
    at = [0.99 * ceiling]
    return float(certified.certified_accuracy(constant["radius"], constant["correct"], at)[0])


# ======================================================================================
# Pieces that several figures share


def _xi(a: np.ndarray, sigma_0: float, sigma_1: np.ndarray, p_a: float, N: int) -> np.ndarray:
    """ξ for any σ_1: the right one of the three formulas."""
    if np.isclose(sigma_1, sigma_0, rtol=1e-12):
        return certificates.xi_equal(a, sigma_0, 1 - p_a)
    if sigma_1 < sigma_0:
        return certificates.xi_greater(a, sigma_0, sigma_1, 1 - p_a, N)
    return certificates.xi_less(a, sigma_0, sigma_1, p_a, N)


def _attacks() -> list[dict]:
    """ξ of the worst classifier inside and outside of the radius, exact and simulated."""
    rows = []
    for N, sigma_0, rate, p_a in [
        (8, 1.0, 0.5, 0.9), (64, 0.5, 0.1, 0.9), (64, 0.25, 0.05, 0.99), (784, 0.25, 0.01, 0.99),
        (3072, 0.25, 0.01, 0.99), (3072, 0.5, 0.01, 0.999),
    ]:  # fmt: skip
        R = float(certificates.input_dependent_radius(sigma_0, rate, N, p_a, 0.9999)[0])
        settings = {"n_dim": N, "sigma_0": sigma_0, "r": rate, "p_a": p_a, "radius": R}
        for share in (0.2, 0.4, 0.6, 0.8, 0.9, 0.99, 0.999, 1.02):
            a = share * R
            sigma_1 = sigma_0 * np.exp(rate * a * np.linspace(-1, 1, 9))
            found = [
                *certificates.xi_greater(a, sigma_0, sigma_1[:4], 1 - p_a, N),
                certificates.xi_equal(a, sigma_0, 1 - p_a),
                *certificates.xi_less(a, sigma_0, sigma_1[5:], p_a, N),
            ]
            rows.append({**settings, "share": share, "kind": "exact", "xi": float(max(found))})
        for share, end in itertools.product((0.5, 0.99, 1.02), (-1, 1)):
            a = share * R
            sigma_1 = sigma_0 * np.exp(end * rate * a)
            found, error = _simulated(a, sigma_0, sigma_1, p_a, N)
            row = {**settings, "share": share, "kind": "simulation", "xi": found, "se": error}
            rows.append(row | {"expected": float(_xi(a, sigma_0, sigma_1, p_a, N))})
    return rows


def _simulated(
    a: float, sigma_0: float, sigma_1: float, p_a: float, N: int, draws: int = 100_000
) -> tuple[float, float]:
    """Mass at x1 of the worst set with mass p_B at x0, by sampling; and its standard error.

    The set is a ball about c, or the complement of one. Only the coordinate along
    x1 - x0 and the length of the others matter for the distance to c.
    """
    D = sigma_0**2 - sigma_1**2
    inside = 1 - p_a if D > 0 else p_a
    squared = sigma_0**2 * noncentral.quantile(inside, N, (a * sigma_0 / D) ** 2)
    generator = np.random.default_rng(stream_seed("idrs", "attack", N, round(1e6 * a)))
    along = a * sigma_1**2 / abs(D) + sigma_1 * generator.standard_normal(draws)
    across = sigma_1**2 * generator.chisquare(N - 1, draws)
    hit = along**2 + across <= squared
    xi = hit.mean() if D > 0 else 1 - hit.mean()
    return float(xi), float(np.sqrt(xi * (1 - xi) / draws))


def _named(frame: pd.DataFrame, *columns: str) -> list[str]:
    """A name for each row from some of its columns."""
    return [
        ", ".join(f"{c} = {v:.6g}" if isinstance(v, float) else f"{c} = {v}"
                  for c, v in zip(columns, values, strict=True))
        for values in frame[list(columns)].itertuples(index=False)
    ]  # fmt: skip


def _certified(inputs: Inputs) -> pd.DataFrame:
    """The rows of certified images; those of classifiers have none."""
    rows = inputs.measures[inputs.measures["image"].notna()].copy()
    for name in ("correct", "abstain", "clean_correct"):
        rows[name] = rows[name].astype(bool)
    return rows


def _method(row: Mapping) -> str:
    """What a series is called."""
    if row["noise"] == "constant":
        trained = (
            "" if row["train_sigma"] == row["sigma_b"] else f", trained at {row['train_sigma']:g}"
        )
        return f"constant σ = {row['sigma_b']:g}{trained}"
    words = {"knn": "σ(x)", "knn_mean": "constant mean σ(x)"}[row["noise"]]
    return f"{words}, σ_b = {row['sigma_b']:g}, r = {row['rate']:g}"


def _curves(
    inputs: Inputs, name: Callable[[Mapping], str], images: pd.DataFrame | None = None
) -> pd.DataFrame:
    """Panel `curve`: A(R) by run and seed with its standard error; panel `image`: the images."""
    images = _certified(inputs) if images is None else images
    images = images.assign(series_name=[name(row) for row in images.to_dict("records")])
    parts = []
    for (series, run, seed), own in images.groupby(["series_name", "run", "seed"], sort=False):
        at = np.linspace(0, 1.02 * max(own["radius"].max(), 1e-3), 201)
        accuracy = certified.certified_accuracy(own["radius"], own["correct"], at)
        frame = pd.DataFrame({"radius": at, "certified_accuracy": accuracy})
        frame["se"] = np.sqrt(accuracy * (1 - accuracy) / len(own))
        first = {c: own[c].iloc[0] for c in ["dataset", "train_sigma", "sigma_b", "noise", "rate"]}
        frame = frame.assign(**first, run=run, seed=seed)
        parts.append(tidy(inputs, "curve", frame, series))
    columns = [*IMAGE, *(["overlaps"] if "method" in images else [])]
    parts.append(tidy(inputs, "image", images[columns], images["series_name"].to_numpy()))
    return pd.concat(parts, ignore_index=True)


def _classifiers(inputs: Inputs) -> pd.DataFrame:
    """Panel `classifier`: accuracy on noisy training images, and what the loss still falls by."""
    rows = inputs.measures[inputs.measures["metric"] == "accuracy"]
    noisy = rows["noise"].astype(float) == rows["train_sigma"]
    rows = rows[noisy & (rows["split"] == "train")].rename(columns={"value": "accuracy"})
    falls = []
    losses = inputs.histories[inputs.histories["metric"] == "loss"]
    for (run, seed), own in losses.groupby(["run", "seed"], sort=False):
        sixth, left = own["steps"].iloc[0] // 6, own["steps"] - own["step"]
        last, before = own[left < sixth], own[(left >= sixth) & (left < 2 * sixth)]
        fall = 1 - last["value"].mean() / before["value"].mean()
        falls.append({"run": run, "seed": seed, "late_fall": fall})
    columns = ["run", "seed", "dataset", "train_sigma", "accuracy"]
    frame = rows[columns].merge(pd.DataFrame(falls), on=["run", "seed"], how="left")
    return tidy(inputs, "classifier", frame, "classifier")


def _summary(own: pd.DataFrame) -> dict[str, float]:
    """The statistics of the published summary, of one classifier's images."""
    usable = own["radius"] * own["correct"]
    largest = own["radius"].max()
    accuracy = certified.classwise_accuracy(own["correct"], own["label"])
    return {
        "accuracy_r0": own["correct"].mean(),
        "abstain": own["abstain"].mean(),
        "acr": usable.mean(),
        "classwise_std_ddof0": accuracy.std(),
        "classwise_std_ddof1": accuracy.std(ddof=1),
        "max_radius": largest,
        "waterfall_height": (usable >= 0.99 * largest).mean(),
        "largest_drop_2pct": certified.largest_drop(
            own["radius"], own["correct"], WINDOWS[0] * largest
        ),
    }


def _draw_curve(ax: Axes, own: pd.DataFrame, colour: str, dash: object, label: str) -> None:
    """Mean over classifiers of A(R), with a band of one standard error over images."""
    rows = own[own["panel"] == "curve"].dropna(subset=["radius", "certified_accuracy"])
    if rows.empty:
        return
    grid = np.linspace(0, rows["radius"].max(), 401)
    mean, error = _mean_curve(rows, grid)
    ax.plot(grid, mean, color=colour, linestyle=dash, label=label, drawstyle="steps-post")
    ax.fill_between(
        grid, mean - error, mean + error, color=colour, alpha=0.15, linewidth=0, step="post"
    )


def _draw_series(ax: Axes, table: pd.DataFrame) -> None:
    names = list(dict.fromkeys(table["series"]))
    for position, (name, colour) in enumerate(
        zip(names, drawing.ordered_colours(len(names)), strict=True)
    ):
        own = table[table["series"] == name]
        _draw_curve(ax, own, colour, drawing.ordered_dash(position), name)


def _draw_comparison(table: pd.DataFrame) -> Figure:
    """A column for each σ_b: A(R) of constant noise, constant at the mean, and σ(x) by rate.

    Below the same near the ceiling of constant noise, where that has a waterfall; else what σ(x)
    differs by from constant noise at its mean.
    """
    curves, images = table[table["panel"] == "curve"], table[table["panel"] == "image"]
    sigmas = sorted(curves.loc[curves["noise"] != "constant", "sigma_b"].unique())
    figure, axes = drawing.grid(
        2, len(sigmas), figsize=(3.6 * max(len(sigmas), 2) + 0.6, 6), height_ratios=[1.3, 1]
    )
    for (ax, below), sigma_b in zip(axes.T, sigmas, strict=False):
        # A constant that was chosen for the mean is within a few percent of its σ_b.
        own = curves[(curves["sigma_b"] / sigma_b - 1).abs() < 0.1]
        _draw_methods(ax, own, sigma_b)
        ax.set(title=f"σ_b = {sigma_b:g}", ylim=(0, 1.02), xlim=(0, None), xlabel="radius R (l2)")
        _legend_below(ax)
        _draw_deciding(below, own, images[images["sigma_b"] == sigma_b], sigma_b)
        below.set_xlabel("radius R (l2)")
    axes[0, 0].set_ylabel("certified accuracy A(R)")
    knn = images[images["noise"] == "knn"]
    means = (knn["sigma_x"] / knn["sigma_b"]).groupby(knn["rate"]).mean()
    listed = ", ".join(f"{mean:.3f} (r = {rate:g})" for rate, mean in means.items())
    drawing.settings_line(figure, f"{_counts(table)}; mean σ(x)/σ_b: {listed}")
    return figure


def _draw_deciding(ax: Axes, curves: pd.DataFrame, images: pd.DataFrame, sigma_b: float) -> None:
    """What decides a claim at one σ_b: the fall at the ceiling, or the difference from the mean."""
    constant = images[images["noise"] == "constant"]
    if len(constant):
        n, alpha = constant["n"].max(), constant["alpha"].max()
        ceiling = certificates.radius_ceiling(sigma_b, int(n), alpha)
        height = _waterfall(constant, ceiling)
        if height >= WATERFALL:
            _draw_methods(ax, curves, sigma_b)
            ax.axvline(ceiling, color="0.3", linestyle=":", linewidth=0.9)
            ax.set(xlim=(0.85 * ceiling, 1.1 * ceiling), ylabel="A(R) near the ceiling")
            return
        if not (images["noise"] == "knn_mean").any():
            ax.axis("off")
            words = f"no waterfall: {height:.3f} are left\nat 0.99 of the ceiling {ceiling:.3f}"
            drawing.nothing(ax, words)
            return
    _draw_difference(ax, images)


def _draw_methods(ax: Axes, own: pd.DataFrame, sigma_b: float) -> None:
    """The curves of one σ_b."""
    rates = sorted(own.loc[own["noise"] == "knn", "rate"].unique())
    for name in dict.fromkeys(own["series"]):
        rows = own[own["series"] == name]
        noise, rate = rows["noise"].iloc[0], rows["rate"].iloc[0]
        larger = noise == "constant" and rows["sigma_b"].iloc[0] != sigma_b
        label = name.replace(f", σ_b = {sigma_b:g}", "")
        # No two lines of a panel have one dash: in grey they would be one method.
        position = 0
        if larger:
            position = 5
            label = f"constant {rows['sigma_b'].iloc[0] / sigma_b:.2f} σ_b, trained with it"
        elif noise != "constant":
            position = {"knn": 1, "knn_mean": 3}[noise]
            position += rates.index(rate) if rate in rates else 0
        _draw_curve(ax, rows, drawing.COLOURS[noise], drawing.ordered_dash(position), label)


def _draw_difference(ax: Axes, images: pd.DataFrame) -> None:
    """A(R) of σ(x) minus constant noise at its mean, paired by image; a line a rate."""
    ax.axhline(0, color="0.3", linewidth=0.9)
    rates = sorted(images.loc[images["noise"] == "knn", "rate"].unique())
    for rate in rates:
        own = images[np.isclose(images["rate"], rate)]
        knn, mean = (own[own["noise"] == noise] for noise in ("knn", "knn_mean"))
        # Without a run at the mean there is nothing to compare with.
        if len(knn) and len(mean):
            dash = drawing.ordered_dash(1 + rates.index(rate))
            _draw_paired(ax, knn, mean, drawing.COLOURS["knn"], dash, f"r = {rate:g}")
    ax.set(xlim=(0, None), ylabel="σ(x) minus constant mean")
    _legend_below(ax)


def _draw_paired(
    ax: Axes, own: pd.DataFrame, other: pd.DataFrame, colour: str, dash: object, label: str
) -> None:
    """A(R) of the images of one method minus that of another's, with one standard error."""
    own, other = own[own["image"].isin(other["image"])], other[other["image"].isin(own["image"])]
    grid = np.linspace(0, max(own["radius"].max(), other["radius"].max()) * 1.02, 201)
    certified_at = []
    for images in (own, other):
        usable = images["radius"].where(images["correct"].astype(bool), -1.0)
        # Images are what was sampled: the mean over classifiers of each first.
        radii = certified.by_image(images.assign(radius=usable), "radius")
        certified_at.append((radii[..., None] >= grid).mean(0))
    paired = certified_at[0] - certified_at[1]
    mean, error = paired.mean(0), paired.std(0) / np.sqrt(len(paired))
    ax.plot(grid, mean, color=colour, linestyle=dash, label=label)
    ax.fill_between(grid, mean - error, mean + error, color=colour, alpha=0.15, linewidth=0)


def _name(datasets: pd.Series) -> str:
    """The names of data sets, for people."""
    return drawing.all_of(datasets.map(lambda name: drawing.DATASETS.get(name, name)))


def _classifiers_of(count: float) -> str:
    return "1 classifier" if count == 1 else f"{count:.0f} classifiers"


def _counts(table: pd.DataFrame) -> str:
    rows = table[table["panel"] == "image"]
    return (
        f"{_name(table['dataset'])}: {rows['image'].nunique()} test images, "
        f"{_classifiers_of(rows['seed'].nunique())}, n = {rows['n'].max():.0f}, "
        f"α = {rows['alpha'].max():g}; bands: one standard error over images"
    )


def _draw_settings(table: pd.DataFrame, words: str) -> Figure:
    """A panel of certified accuracy for each value of `setting`."""
    settings = list(dict.fromkeys(table["setting"]))
    figure, (axes,) = drawing.grid(1, len(settings), figsize=(2.9 * max(len(settings), 2) + 0.6, 4))
    for ax, setting in zip(axes, settings, strict=True):
        _draw_if_apart(ax, table[table["setting"] == setting])
        ax.set_title(setting)
    drawing.settings_line(figure, f"{words}; {_counts(table)}")
    return figure


def _draw_if_apart(ax: Axes, table: pd.DataFrame) -> None:
    """The curves of a table, or, where they lie within an error of each other, their differences.

    The differences are those from the first series, paired by image, whose error is smaller.
    """
    apart, error = _distance_apart(table[table["panel"] == "curve"])
    images = table[table["panel"] == "image"]
    if apart > error or images.empty:
        _draw_series(ax, table)
        ax.set(ylabel="certified accuracy A(R)", ylim=(0, 1.02))
    else:
        first, *others = dict.fromkeys(images["series"])
        ax.axhline(0, color="0.3", linewidth=0.9, label=first)
        colours = drawing.ordered_colours(len(others) + 1)
        for position, name in enumerate(others):
            own, base = (images[images["series"] == each] for each in (name, first))
            dash = drawing.ordered_dash(position + 1)
            _draw_paired(ax, own, base, colours[position], dash, name)
        ax.set_ylabel(f"A(R) minus that of {first}")
    ax.set(xlabel="radius R (l2)", xlim=(0, None))
    _legend_below(ax)


def _distance_apart(curves: pd.DataFrame) -> tuple[float, float]:
    """The largest distance between the mean curves of a panel, and the standard error there."""
    curves = curves.dropna(subset=["radius", "certified_accuracy"])
    if curves["series"].nunique() < 2:
        return np.inf, 0.0
    grid = np.linspace(0, curves["radius"].max(), 201)
    means, errors = [], []
    for _, own in curves.groupby("series", sort=False):
        mean, error = _mean_curve(own, grid)
        means.append(mean)
        errors.append(error)
    apart = np.ptp(means, axis=0)
    return float(apart.max()), float(np.max(errors, axis=0)[apart.argmax()])


def _mean_curve(rows: pd.DataFrame, grid: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A(R) and its standard error over images at the radii `grid`, averaged over classifiers."""
    curves, errors = [], []
    for _, one in rows.groupby(["run", "seed"]):
        # A(R) is a step function: the value at the next point of its own grid; 0 beyond the last.
        place = np.searchsorted(one["radius"], grid, side="left")
        beyond, place = place == len(one), place.clip(max=len(one) - 1)
        curves.append(np.where(beyond, 0, one["certified_accuracy"].to_numpy()[place]))
        errors.append(np.where(beyond, 0, one["se"].to_numpy()[place]))
    return np.mean(curves, 0), np.mean(errors, 0)


def _legend_below(ax: Axes) -> None:
    """A legend below the panel, where no curve is."""
    handles, labels = ax.get_legend_handles_labels()
    if handles:
        ax.legend(handles, labels, fontsize=7, loc="upper center", bbox_to_anchor=(0.5, -0.22),
                  frameon=False)  # fmt: skip


def _legend_beside(figure: Figure, of: Axes) -> None:
    """A legend to the right of all panels."""
    handles, labels = of.get_legend_handles_labels()
    if handles:
        figure.legend(handles, labels, fontsize=7.5, loc="outside right center", frameon=False)


def _print_table(
    ax: Axes, cells: list[list[str]], rows: Sequence[str], columns: Sequence[str]
) -> None:
    """Words as a table that fills a panel."""
    ax.axis("off")
    drawn = ax.table(cells, rowLabels=rows, colLabels=columns, loc="center")
    drawn.auto_set_font_size(False)
    drawn.set_fontsize(7)
    drawn.scale(1, 1.15)
    for (row, _), cell in drawn.get_celld().items():
        if row == 0:
            cell.set_height(1.8 * cell.get_height())


def _images(table: pd.DataFrame, column: str = "radius") -> pd.DataFrame:
    """The certified images of a figure, all of which have a value of a column."""
    images = table[table["panel"] == "image"]
    finite(images[column], "certified image")
    return images


def _of(images: pd.DataFrame, noise: str) -> pd.DataFrame:
    """The images that were certified with a kind of noise."""
    return some(images[images["noise"] == noise], f"images certified with noise {noise}")


def _contours(ax: Axes, grid: pd.DataFrame, column: str, **style: object) -> ContourSet | None:
    """Filled contours of a column over (x1, x2), where there is something to fill."""
    values = grid.pivot_table(index="x2", columns="x1", values=column, aggfunc="first")
    if min(values.shape) < 2 or not values.notna().any(axis=None):
        return None
    return ax.contourf(values.columns, values.index, values, **style)


def _place(images: pd.DataFrame) -> str:
    return f"{some(images, 'images')['dataset'].iloc[0]}, {images['image'].nunique()} images"


def _difference(
    first: pd.DataFrame,
    second: pd.DataFrame,
    statistic: Callable[[np.ndarray, np.ndarray], float],
    within_classes: bool = False,
) -> tuple[float, float]:
    """statistic(radius, correct) of the first minus that of the second, averaged over classifiers.

    With its standard error: classifiers and images are drawn again, the same ones for both (Owen
    2007: it is not too small where both matter).
    """
    label = first.drop_duplicates("image").sort_values("image")["label"].to_numpy()
    arrays = [
        (certified.by_image(rows, "radius"), certified.by_image(rows, "correct").astype(bool))
        for rows in (first, second)
    ]

    members = range(len(arrays[0][0]))

    def both(index: np.ndarray, chosen: Iterable[int]) -> float:
        values = [
            np.mean([statistic(radius[s][index], correct[s][index]) for s in chosen])
            for radius, correct in arrays
        ]
        return float(values[0] - values[1])

    draws = certified.resampled(label, BOOTSTRAP, stream_seed("idrs", "bootstrap"), within_classes)
    generator = np.random.default_rng(stream_seed("idrs", "bootstrap of classifiers"))
    again = generator.integers(len(members), size=(BOOTSTRAP, len(members)))
    order = np.argsort(label, kind="stable") if within_classes else np.arange(len(label))
    found = [both(index, chosen) for index, chosen in zip(draws, again, strict=True)]
    return both(order, members), float(np.std(found, ddof=1))
