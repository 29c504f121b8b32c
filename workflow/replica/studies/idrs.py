"""Intriguing Properties of Input-dependent Randomized Smoothing.

Súkeník, Kuvshinov, Günnemann; ICML 2022; arXiv 2110.05365. The words of the claims are those of
the abstract; the list of figures, and the statistic that decides each claim, are ours.
"""

import itertools
from collections.abc import Callable, Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.contour import ContourSet
from matplotlib.figure import Figure

from replica import drawing
from replica.measures import certified
from replica.measures.inputs import Inputs, first_look, tidy
from replica.provenance import stream_seed
from replica.smoothing import certificates, noncentral
from replica.verdicts import Verdict, decide, finite, some, undecidable

Tables = Mapping[str, pd.DataFrame]

DIMENSIONS = {64: "digits", 784: "MNIST", 3072: "CIFAR-10", 150528: "ImageNet 224",
              196608: "ImageNet 256"}  # fmt: skip
LEVELS = (0.9, 0.99, 0.999)
BOOTSTRAP = 1000
FIRST_LOOK = "a first look: too few images and draws"
# Largest drops are over a window of this share of the ceiling of constant noise.
WINDOW = 0.02
# Constant noise has a waterfall if this share of images is certified at .99 of the ceiling.
WATERFALL = 0.02
SETTINGS = ["run", "dataset", "train", "train_sigma", "sigma_b", "noise", "rate", "k", "m", "norm"]
IMAGE = [
    *[*SETTINGS, "seed", "n", "alpha", "image", "label", "correct", "abstain", "p_a", "sigma_x"],
    *["radius", "cohen_radius", "side", "clean_correct"],
]

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
    axes[0, 0].legend(fontsize=6.5)
    drawing.settings_line(
        figure, "solid: ξ_>, σ_1 < σ_0; dashed: ξ_<, σ_1 = σ_0 / ratio; σ_0 = .25"
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
        ax.set_xticks([0.6, 0.9, 0.99, 0.999, 0.9999], [".6", ".9", ".99", ".999", ".9999"])
        ax.minorticks_off()
    for ax in axes[-1]:
        ax.set_xlabel("p_A")
    for ax in axes[:, 0]:
        ax.set_ylabel("certified radius (l2)")
    axes[0, 0].legend(fontsize=6.5)
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
    axes[0].legend(fontsize=7)
    drawing.settings_line(figure, "p_A = .99, no cap on σ_1/σ_0")
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
    axes[0].legend()
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
    """Decision regions with the test points, σ(x), and accuracy by class."""
    figure, axes = plt.subplots(1, 4, figsize=(13, 3.4), width_ratios=[1, 1, 1.15, 0.8])
    series = ("constant", "input-dependent")
    for ax, name in zip(axes, series, strict=False):
        grid = table[(table["panel"] == "grid") & (table["series"] == name)]
        _contours(ax, grid, "prediction", levels=[-0.5, 0.5, 1.5], colors=["#cfe3f2", "#f6ddc4"])
        points = table[(table["panel"] == "test") & (table["series"] == name)]
        for label, mark in [(0, "o"), (1, "^")]:
            own = points[points["label"] == label]
            colour = drawing.COLOURS["constant" if label == 0 else "knn"]
            ax.plot(own["x1"], own["x2"], mark, ms=3, color=colour, label=f"class {label}")
        ax.set(xlim=(-8, 8), ylim=(-8, 8), xlabel="x_1", title=f"{name} noise", aspect="equal")
    axes[0].set_ylabel("x_2")
    axes[0].legend(fontsize=7)
    grid = table[(table["panel"] == "grid") & (table["series"] == series[1])]
    if drawn := _contours(axes[2], grid, "sigma_x", levels=12):
        figure.colorbar(drawn, ax=axes[2], shrink=0.8)
    axes[2].set(xlabel="x_1", title="σ(x)", aspect="equal")
    accuracy = table[table["panel"] == "accuracy"]
    for i, name in enumerate(series):
        own = accuracy[accuracy["series"] == name]
        x = own["label"] + 0.36 * (i - 0.5)
        colour = drawing.COLOURS["knn" if i else "constant"]
        axes[3].bar(
            x, own["value"], 0.34, color=colour, hatch="//" if i else "", ec="w", label=name
        )
    axes[3].set(xlabel="class", title="accuracy (abstain = wrong)", ylim=(0, 1.3), xticks=[0, 1])
    axes[3].legend(fontsize=7, loc="upper right")
    knn = table[(table["panel"] == "test") & (table["series"] == series[1])]
    knn = knn[["sigma_b", "rate"]].max()
    drawing.settings_line(figure, f"σ_b = {knn['sigma_b']:g}, r = {knn['rate']:g}, MLP 2-20-20-2")
    return figure


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
    """Histogram of σ(x)/σ_b by rate, and the mean distance to the neighbours by class."""
    first = table[table["panel"] == table["panel"].iloc[0]]
    first = first[first["sigma_b"] == first["sigma_b"].min()]
    figure, axes = plt.subplots(1, 2, figsize=(10, 3.4))
    rates = sorted(first["rate"].unique())
    bins = np.linspace(first["sigma_ratio"].min(), first["sigma_ratio"].max(), 31)
    own = first
    for position, rate in enumerate(rates):
        own = first[first["rate"] == rate]
        drawing.histogram(axes[0], own["sigma_ratio"], bins=bins, histtype="step", linewidth=1.3,
                          color=drawing.ordered_colours(len(rates))[position],
                          linestyle=drawing.ordered_dash(position),
                          label=f"r = {rate:g}, mean {own['sigma_ratio'].mean():.3f}")  # fmt: skip
    axes[0].set(xlabel="σ(x) / σ_b", ylabel="images", title=str(first["panel"].iloc[0]))
    axes[0].legend()
    labels = sorted(own["label"].unique())
    groups = [own.loc[own["label"] == label, "knn_distance"] for label in labels]
    axes[1].boxplot(groups, tick_labels=[str(int(label)) for label in labels], showfliers=True)
    axes[1].set(xlabel="class", ylabel="mean distance to the 20 nearest", title="distance by class")
    largest = table["elasticity"].max()
    drawing.settings_line(
        figure,
        f"{len(own)} test images; largest |Δ log σ| / (r |Δx|) over all pairs: {largest:.3f}",
    )
    return figure


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
        ax.legend(fontsize=6.5)
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
        ax.set(xlabel="class", title=name.replace("constant sigma=", "σ = "), ylim=(0, 1.3))
        ax.set_xticks(mean.index)
        ax.legend(fontsize=6.5, loc="upper right")
    axes[0, 0].set_ylabel("A(0) by class")
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
    names = list(dict.fromkeys(table["statistic"]))
    figure, axes = plt.subplots(2, -(-len(names) // 2), figsize=(12, 5))
    sigmas = {name: float(name.split("=")[1]) for name in table["series"].unique()}
    for ax, statistic in zip(axes.flat, names, strict=False):
        own = table[table["statistic"] == statistic].groupby("sigma_b")["value"]
        ax.errorbar(own.mean().index, own.mean(), yerr=own.std().fillna(0), marker="o", capsize=3,
                    color=drawing.COLOURS["constant"], label="ours")  # fmt: skip
        theirs = published[published["x"] == statistic]
        x = [float(name.split("=")[1]) for name in theirs["series"]]
        ax.plot(x, theirs["y"], "o", mfc="none", color=drawing.COLOURS["published"],
                label="published, CIFAR-10")  # fmt: skip
        ax.set(xlabel="σ", title=statistic.replace("_", " "))
    for ax in axes.flat[len(names) :]:
        ax.axis("off")
    axes.flat[0].legend(fontsize=7)
    words = ", ".join(f"{sigma:g}" for sigma in sorted(sigmas.values()))
    dataset = table["dataset"].iloc[0]
    drawing.settings_line(figure, f"ours: {dataset}, σ = {words}; bars: one deviation over seeds")
    return figure


# ======================================================================================
# Input-dependent noise against constant noise


def table_cert_acc_cifar10(inputs: Inputs) -> pd.DataFrame:
    """Certified accuracy by radius for constant and input-dependent noise, and the images."""
    return _curves(inputs, _method)


def draw_cert_acc_cifar10(table: pd.DataFrame, published: pd.DataFrame) -> Figure:
    """A panel for each σ_b."""
    return _draw_comparison(table)


def table_cert_acc_mnist(inputs: Inputs) -> pd.DataFrame:
    """The same on MNIST."""
    return _curves(inputs, _method)


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
    """The numbers as a table: mean and standard deviation over seeds."""
    return _draw_numbers(table, ["A(0)", "without noise", "abstain", "ACR"])


def table_table_classwise_std(inputs: Inputs) -> pd.DataFrame:
    """Standard deviation over classes of A(0), with both conventions; and the images."""
    images = _certified(inputs)
    rows = []
    for (run, seed), own in images.groupby(["run", "seed"], sort=False):
        accuracy = certified.classwise_accuracy(own["correct"], own["label"])
        row = {"run": run, "seed": seed, "sigma_b": own["sigma_b"].iloc[0]}
        row |= {"method": _method(own.iloc[0]), "std, ddof 0": accuracy.std()}
        rows.append(row | {"std, ddof 1": accuracy.std(ddof=1), "worst class": accuracy.min()})
    long = pd.DataFrame(rows).melt(["run", "seed", "sigma_b", "method"], var_name="statistic")
    names = [_method(row) for row in images[SETTINGS].to_dict("records")]
    return pd.concat(
        [
            tidy(inputs, "method", long, long["method"].to_numpy()),
            tidy(inputs, "image", images[IMAGE], names),
        ],
        ignore_index=True,
    )


def draw_table_classwise_std(table: pd.DataFrame, published: pd.DataFrame) -> Figure:
    """The numbers as a table."""
    return _draw_numbers(table, ["std, ddof 0", "std, ddof 1", "worst class"])


def table_matched_sigma(inputs: Inputs) -> pd.DataFrame:
    """Input-dependent noise, constant noise at its mean, and constant noise trained for it."""
    return _curves(inputs, _method)


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
    figure, ax = plt.subplots(figsize=(7.5, 3.6))
    _draw_series(ax, table)
    ax.set(xlabel="radius R (l2)", ylabel="certified accuracy A(R)", ylim=(0, 1), xlim=(0, None))
    ax.legend()
    drawing.settings_line(figure, f"σ_b = .25, r = {table['rate'].max():g}; {_counts(table)}")
    return figure


def table_sigma_function_ablation(inputs: Inputs) -> pd.DataFrame:
    """σ(x) with one setting changed at a time."""
    parts = []
    for setting in ("k", "rate", "m", "norm"):
        images = _certified(inputs)
        images = images[images["run"].str.startswith(f"vary_{setting}")]
        frame = _curves(inputs, lambda row, s=setting: f"{s} = {row[s]:g}", images)
        parts.append(frame.assign(setting=setting))
    return pd.concat(parts, ignore_index=True)


def draw_sigma_function_ablation(table: pd.DataFrame, published: pd.DataFrame) -> Figure:
    """A panel for each setting."""
    words = {"k": "neighbours k", "rate": "rate r", "m": "m", "norm": "p of the distance"}
    return _draw_settings(table.assign(setting=table["setting"].map(words)), "σ_b = .25")


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
    return _draw_settings(table, "σ_b = .50")


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
    """Certified accuracy; how many balls overlapped stands above."""
    figure, ax = plt.subplots(figsize=(6, 3.6))
    _draw_series(ax, table)
    ax.set(xlabel="radius R (l2)", ylabel="certified accuracy A(R)", ylim=(0, 1), xlim=(0, None))
    ax.legend(fontsize=7)
    naive = table[(table["panel"] == "image") & table["series"].str.contains("naive")]
    words = (
        f"{int(naive['overlaps'].sum())} of {len(naive)} balls of DDRS overlap one of another label"
    )
    drawing.settings_line(figure, f"σ_b = .25; {words}; none does after the correction")
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
        published="no number; derived .5020 .5011 .5008; .5241 .5135 .5102; .5884 .5518 .5395",
        tolerance="ξ_> - 1/2 > 1e-4 for N = 64, 784, 3072 and p_A = .9, .99, .999",
        detail=f"ξ_> at Cohen's radius with σ_1 = .99 σ_0: {words}",
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
        published="no number; derived slopes -.498 -.496 -.494",
        tolerance="slope of log(1 - s_min) on log N is -.50 ± .05 at each p_A",
        detail="slopes at p_A = .9, .99, .999: " + ", ".join(f"{slope:.4f}" for slope in slopes),
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
        published="no number; derived .9813 (σ_0 = .25), .9306 (σ_0 = .5) at N = 3072, r = .01",
        tolerance="rho non-increasing in r, σ_0 and N within .002; anchors within .001",
        detail=f"largest rise along N {rises['n_dim']:.1e}, σ_0 {rises['sigma_0']:.1e}, r "
        f"{rises['r']:.1e}; rho {at[0.25]:.4f} and {at[0.5]:.4f}; at r = .1, σ_0 = 1, N = 150528 "
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
        published="no number",
        tolerance="R <= Cohen's R; for the worst classifier ξ < 1/2 at all a < R and all σ_1, and "
        "ξ > 1/2 at 1.02 R; simulation within 4 standard errors",
        detail=f"{len(radii)} radii, none above Cohen's: {below}; largest ξ inside {largest:.5f}, "
        f"smallest at 1.02 R {outside['xi'].min():.5f}; {len(sampled)} simulated values, the worst "
        f"{errors.max():.1f} standard errors away",
    )


def claim_c5(tables: Tables) -> Verdict:
    """The steepest fall of the curve is smaller, and something is certified beyond the ceiling."""
    published = "no number; constant noise on CIFAR-10 drops by .328 / .130 / .034"
    tolerance = (
        "at equal σ_b: A > 0 at the ceiling of constant noise, and the largest drop over 2 % of "
        "that ceiling smaller by more than 2 standard errors (paired bootstrap over images); where "
        "constant noise has a waterfall of at least .02"
    )
    images = _images(tables["cert_acc_cifar10"])
    if first_look(images):
        return undecidable(FIRST_LOOK, published=published, tolerance=tolerance)
    words, ok, differences = [], True, []
    for sigma_b, own in images.groupby("sigma_b"):
        constant, knn = _of(own, "constant"), _of(own, "knn")
        knn = knn[knn["rate"] == knn["rate"].max()]
        ceiling = certificates.radius_ceiling(sigma_b, int(own["n"].max()), own["alpha"].max())
        at = [0.99 * ceiling, ceiling]
        height = certified.certified_accuracy(constant["radius"], constant["correct"], at)[0]
        if height < WATERFALL:
            words.append(f"σ_b = {sigma_b:g}: no waterfall, A = {height:.3f} at .99 of the ceiling")
            continue
        beyond = certified.certified_accuracy(knn["radius"], knn["correct"], at)[1]

        def drop(radius: np.ndarray, correct: np.ndarray, ceiling: float = ceiling) -> float:
            return certified.largest_drop(radius, correct, WINDOW * ceiling)

        value, error = _difference(knn, constant, drop)
        ok &= beyond > 0 and value < -2 * error
        differences.append(value)
        words.append(
            f"σ_b = {sigma_b:g}: constant falls by {height:.3f} at the ceiling, σ(x) has A = "
            f"{beyond:.3f} there; its largest drop is lower by {-value:.3f} ± {error:.3f}"
        )
    detail = f"{_place(images)}, r = {images['rate'].max():g}; " + "; ".join(words)
    if not differences:
        return undecidable(detail, published=published, tolerance=tolerance)
    return decide(
        bool(ok),
        value=float(np.mean(differences)),
        published=published,
        tolerance=tolerance,
        detail=detail,
    )


def claim_c6(tables: Tables) -> Verdict:
    """Accuracy and average radius against constant noise at the mean of σ(x)."""
    published = "no number"
    tolerance = (
        "A(0) and ACR not lower by more than 1 standard error, at least one higher by more than 1 "
        "(paired bootstrap over images), at every σ_b"
    )
    images = _images(tables["matched_sigma"])
    if first_look(images):
        return undecidable(FIRST_LOOK, published=published, tolerance=tolerance)
    images = images[images["rate"] == images["rate"].max()]
    words, ok, differences = [], True, []
    for sigma_b, own in images.groupby("sigma_b"):
        knn, mean = _of(own, "knn"), _of(own, "knn_mean")
        accuracy, accuracy_error = _difference(knn, mean, lambda _, correct: correct.mean())
        radius, radius_error = _difference(knn, mean, certified.average_certified_radius)
        ok &= accuracy >= -accuracy_error and radius >= -radius_error
        ok &= accuracy > accuracy_error or radius > radius_error
        differences.append(radius)
        words.append(f"σ_b = {sigma_b:g}: A(0) {accuracy:+.4f} ± {accuracy_error:.4f}, ACR "
                     f"{radius:+.4f} ± {radius_error:.4f}")  # fmt: skip
    return decide(
        bool(ok),
        value=float(np.mean(differences)),
        published=published,
        tolerance=tolerance,
        detail=f"{_place(images)}, r = {images['rate'].max():g}; input-dependent minus constant at "
        "the mean: " + "; ".join(words),
    )


def claim_c7(tables: Tables) -> Verdict:
    """The spread of accuracy over the classes, against both constant noises."""
    published = "no number; constant noise on CIFAR-10 has .134 / .136 / .160 (σ .12 / .25 / .50)"
    tolerance = (
        "holds if lower by more than 1 standard error than both, at all σ_b; does not hold if "
        "higher than one by more than 2; else not decidable (bootstrap inside classes)"
    )
    images = _images(tables["table_classwise_std"], "correct")
    constant = images[(images["noise"] == "constant") & (images["train"] == "base")]
    images = pd.concat([constant, images[images["rate"] == images["rate"].max()]])
    if first_look(images):
        return undecidable(FIRST_LOOK, published=published, tolerance=tolerance)
    words, lower, higher, differences = [], True, False, []
    for sigma_b, own in images.groupby("sigma_b"):
        knn = _of(own, "knn")
        label = knn.drop_duplicates("image").sort_values("image")["label"].to_numpy()

        # Resampled images come sorted by class.
        classes = np.sort(label)

        def spread(_: np.ndarray, correct: np.ndarray, classes: np.ndarray = classes) -> float:
            return certified.classwise_accuracy(correct, classes).std()

        for noise in ("constant", "knn_mean"):
            value, error = _difference(knn, _of(own, noise), spread, within_classes=True)
            lower &= value < -error
            higher |= value > 2 * error
            differences.append(value)
            words.append(f"σ_b = {sigma_b:g} against {noise.replace('knn_', '')}: {value:+.4f} ± "
                         f"{error:.4f}")  # fmt: skip
    detail = f"{_place(images)}; std over classes, ddof 0, input-dependent minus constant: "
    detail += "; ".join(words)
    if not lower and not higher:
        return undecidable(
            f"the bootstrap does not tell them apart; {detail}",
            value=float(np.mean(differences)),
            published=published,
            tolerance=tolerance,
        )
    return decide(
        lower,
        value=float(np.mean(differences)),
        published=published,
        tolerance=tolerance,
        detail=detail,
    )


def claim_c8(tables: Tables) -> Verdict:
    """The average certified radius at r = .01 stays near that of constant noise."""
    published, tolerance = (
        "no number",
        "ACR at least .9 of constant noise on both, every σ_b, r = .01",
    )
    ratios, words = [], []
    for name in ("cert_acc_cifar10", "cert_acc_mnist"):
        images = _images(tables[name])
        if first_look(images):
            return undecidable(FIRST_LOOK, published=published, tolerance=tolerance)
        for sigma_b, own in images.groupby("sigma_b"):
            chosen = own[own["rate"].isin([0, 0.01])]
            knn, constant = (
                certified.average_certified_radius(rows["radius"], rows["correct"])
                for rows in (_of(chosen, "knn"), _of(chosen, "constant"))
            )
            ratios.append(knn / constant if constant else np.nan)
            words.append(f"{_place(images)} σ_b = {sigma_b:g}: {ratios[-1]:.3f}")
    return decide(
        min(ratios) >= 0.9,
        value=float(np.min(ratios)),
        published=published,
        tolerance=tolerance,
        detail="ratio of ACR: " + "; ".join(dict.fromkeys(words)),
    )


def claim_c9(tables: Tables) -> Verdict:
    """The mean of σ(x)/σ_b on CIFAR-10 at r = .01."""
    published, tolerance = "1.050 / 1.052 / 1.060", "mean of σ(x)/σ_b in [1.03, 1.08]"
    rows = tables["sigma_hist"]
    rows = rows[(rows["dataset"] == "cifar10") & np.isclose(rows["rate"], 0.01)]
    if rows.empty:
        return undecidable("CIFAR-10 is needed", published=published, tolerance=tolerance)
    mean = rows["sigma_ratio"].mean()
    return decide(
        1.03 <= mean <= 1.08,
        value=float(mean),
        published=published,
        tolerance=tolerance,
        detail=f"mean over {rows['image'].nunique()} test images",
    )


def claim_c10(tables: Tables) -> Verdict:
    """σ(x) is r-semi-elastic on all pairs of certified images."""
    rows = tables["sigma_hist"]
    finite(rows["sigma_ratio"].where(rows["sigma_ratio"] > 0), "σ(x)")
    largest = rows["elasticity"].max()
    return decide(
        bool(largest <= 1 + 1e-6),
        value=float(largest),
        published="at most 1 (derived)",
        tolerance="largest |Δ log σ| / (r |Δx|) over all pairs <= 1 + 1e-6",
        detail=f"{rows['run'].nunique()} settings of σ(x), {rows['image'].nunique()} images of "
        f"{', '.join(sorted(rows['dataset'].unique()))}",
    )


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
            own["radius"], own["correct"], WINDOW * largest
        ),
    }


def _draw_curve(ax: Axes, own: pd.DataFrame, colour: str, dash: object, label: str) -> None:
    """Mean over classifiers of A(R), with a band of one standard error over images."""
    rows = own[own["panel"] == "curve"].dropna(subset=["radius", "certified_accuracy"])
    if rows.empty:
        return
    grid = np.linspace(0, rows["radius"].max(), 121)
    curves, errors = [], []
    for _, one in rows.groupby(["run", "seed"]):
        # A(R) is a step function: the value at the next point of its own grid.
        place = np.searchsorted(one["radius"], grid, side="left").clip(max=len(one) - 1)
        curves.append(one["certified_accuracy"].to_numpy()[place])
        errors.append(one["se"].to_numpy()[place])
    mean, error = np.mean(curves, 0), np.mean(errors, 0)
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
    """A panel for each σ_b: constant, constant at the mean, and σ(x) by rate."""
    curves = table[table["panel"] == "curve"]
    sigmas = sorted(curves.loc[curves["noise"] != "constant", "sigma_b"].unique())
    figure, axes = drawing.grid(1, len(sigmas), figsize=(4.2 * len(sigmas) + 1, 3.6))
    for ax, sigma_b in zip(axes[0], sigmas, strict=False):
        # A constant that was chosen for the mean is within a few percent of its σ_b.
        own = curves[(curves["sigma_b"] / sigma_b - 1).abs() < 0.1]
        rates = sorted(own.loc[own["noise"] == "knn", "rate"].unique())
        for name in dict.fromkeys(own["series"]):
            rows = own[own["series"] == name]
            noise, rate = rows["noise"].iloc[0], rows["rate"].iloc[0]
            colour, dash = drawing.COLOURS[noise], "-"
            if noise == "knn":
                dash = drawing.ordered_dash(1 + rates.index(rate))
            elif noise == "knn_mean":
                dash = drawing.ordered_dash(2 + list(rates).index(rate) if rate in rates else 3)
            label = name.replace(f", σ_b = {sigma_b:g}", "")
            _draw_curve(ax, rows, colour, dash, label)
        ax.set(xlabel="radius R (l2)", title=f"σ_b = {sigma_b:g}", ylim=(0, 1), xlim=(0, None))
        ax.legend(fontsize=6.5)
    axes[0, 0].set_ylabel("certified accuracy A(R)")
    drawing.settings_line(figure, _counts(table))
    return figure


def _counts(table: pd.DataFrame) -> str:
    rows = table[table["panel"] == "image"]
    return (
        f"{drawing.all_of(table['dataset'])}: {rows['image'].nunique()} test images, "
        f"{rows['seed'].nunique()} classifiers, n = {rows['n'].max():.0f}, "
        f"α = {rows['alpha'].max():g}; bands: one standard error over images"
    )


def _draw_settings(table: pd.DataFrame, words: str) -> Figure:
    """A panel of certified accuracy for each value of `setting`."""
    settings = list(dict.fromkeys(table["setting"]))
    figure, (axes,) = drawing.grid(
        1, len(settings), figsize=(3 + 2.2 * len(settings), 3.4), sharey=True
    )
    for ax, setting in zip(axes, settings, strict=True):
        _draw_series(ax, table[table["setting"] == setting])
        ax.set(xlabel="radius R (l2)", title=setting, ylim=(0, 1), xlim=(0, None))
        ax.legend(fontsize=7)
    axes[0].set_ylabel("certified accuracy A(R)")
    drawing.settings_line(figure, f"{words}; {_counts(table)}")
    return figure


def _draw_numbers(table: pd.DataFrame, statistics: Sequence[str]) -> Figure:
    """The panel `method` of a table of numbers, printed."""
    rows = table[table["panel"] == "method"]
    figure, ax = plt.subplots(figsize=(9, 0.2 * rows["run"].nunique() + 1.1))
    if rows["value"].notna().any():
        _print_table(ax, rows, statistics)
    drawing.settings_line(figure, "mean ± one standard deviation over classifiers")
    return figure


def _print_table(ax: Axes, rows: pd.DataFrame, statistics: Sequence[str]) -> None:
    """Rows methods, columns statistics: mean and deviation over seeds."""
    grouped = rows.groupby(["sigma_b", "run", "method", "statistic"], sort=False)["value"]
    numbers = grouped.agg(["mean", "std"]).reset_index().sort_values("sigma_b", kind="stable")
    methods = list(dict.fromkeys(zip(numbers["run"], numbers["method"], strict=True)))
    cells = []
    for run, _ in methods:
        own = numbers[numbers["run"] == run].set_index("statistic").reindex(statistics)
        line = []
        for statistic in statistics:
            mean, std = own.loc[statistic, "mean"], own.loc[statistic, "std"]
            line.append(f"{mean:.4f}" + (f" ± {std:.4f}" if np.isfinite(std) else ""))
        cells.append(line)
    ax.axis("off")
    drawn = ax.table(
        cells, rowLabels=[method for _, method in methods], colLabels=list(statistics), loc="center"
    )
    drawn.auto_set_font_size(False)
    drawn.set_fontsize(7.5)
    drawn.scale(1, 1.15)


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
    return f"{images['dataset'].iloc[0]}, {images['image'].nunique()} images"


def _difference(
    first: pd.DataFrame,
    second: pd.DataFrame,
    statistic: Callable[[np.ndarray, np.ndarray], float],
    within_classes: bool = False,
) -> tuple[float, float]:
    """statistic(radius, correct) of the first minus that of the second, averaged over classifiers.

    With its standard error: the same images are drawn again for both.
    """
    label = first.drop_duplicates("image").sort_values("image")["label"].to_numpy()
    arrays = [
        (certified.by_image(rows, "radius"), certified.by_image(rows, "correct").astype(bool))
        for rows in (first, second)
    ]

    def both(index: np.ndarray) -> float:
        values = [
            np.mean([statistic(r[index], c[index]) for r, c in zip(radius, correct, strict=True)])
            for radius, correct in arrays
        ]
        return float(values[0] - values[1])

    draws = certified.resampled(label, BOOTSTRAP, stream_seed("idrs", "bootstrap"), within_classes)
    order = np.argsort(label, kind="stable") if within_classes else np.arange(len(label))
    return both(order), float(np.std([both(index) for index in draws], ddof=1))
