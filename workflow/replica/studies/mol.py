"""Generalization in Multi-Objective Machine Learning.

Súkeník, Lampert; arXiv 2208.13499, Neural Computing and Applications 37 (2025). Only the abstract
is public, and a restatement of its Theorem 2 by Wegel et al. (2025): every figure here is ours and
tests its statements through R1 to R7, which docs/mol.md derives; none is a figure of the paper.
"""

from collections.abc import Mapping

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from replica import drawing
from replica.measures.inputs import Inputs, first_look, tidy
from replica.theory import deviations as theory
from replica.theory import gaussian_groups
from replica.theory.scalarizations import FAMILIES
from replica.verdicts import Verdict, decide, finite, some, undecidable

Tables = Mapping[str, pd.DataFrame]

OURS = "reconstructed from the abstract; not a figure of the paper"
WHOLE = ("n", "seed", "n_obj", "hypotheses", "m", "S", "weight_id", "repeats", "draw", "h", "kept")
BEDS = {
    "random": "G1 random class",
    "gaussian": "G2 Gaussian groups",
    "flat": "G2f flat front",
    "slope": "G3 slopes",
    "convex": "G4 convex front",
    "counterexample": "R5 ties",
}
OBJECTIVES = {
    "error": "error",
    "robust_error": "robust error",
    "dp_gap": "DP gap",
    "eo_gap": "EO gap",
    "cvar": "CVaR",
}
ESTIMATORS = ("dp_gap", "eo_gap", "robust_error", "cvar")
DISTANCES = {"e_fwd": "true → empirical e→", "e_bwd": "empirical → true e←"}
# The same colour for the same series in all figures.
FORWARD, BACKWARD = drawing.COLOURS["model_1"], drawing.COLOURS["model_2"]
DISTANCE_COLOURS = {"e_fwd": FORWARD, "e_bwd": BACKWARD}
FAMILY_NAMES = {
    "linear": "weighted sum",
    "Tchebycheff": "weighted maximum",
    "l_1.5": "weighted ℓ 1.5",
    "l_2": "weighted ℓ 2",
    "l_4": "weighted ℓ 4",
}
FAMILY_COLOURS = {
    name: drawing.COLOURS[f"model_{i}"] for i, name in enumerate([*FAMILIES], start=3)
}
PROJECTED = "front of three objectives"
BANDS = "bands: ± 1 standard deviation, cut at a tenth of the mean"
DEVIATION = r"largest deviation $|L - \hat L|$"
# What is a number and not a rounding error of distances between risks.
ROUNDING = 1e-12
# Claims on the growth with n, N or S look at this quantile.
QUANTILE = 0.95
# Repetitions of a case below which its share, its mean and its quantile decide nothing; more for
# the growth of a quantile by a few percent, and for a share to within 0.03.
FEWEST, FEWEST_GROWTH, FEWEST_SHARE = 30, 200, 1000
ZERO, NO_SLOPE = "0 throughout", "no slope"
CASE = ["bed", "n_obj", "n"]


# ======================================================================================
# R1: all objectives at once


def table_rec_b1_uniform(inputs: Inputs) -> pd.DataFrame:
    """Panels samples (largest deviation by n), objectives (by N), sizes (samples needed)."""
    rows = _probe(inputs, "deviations")
    many = rows["run"] == "random_many"
    # Of G2 the error alone has bounds that do not count hypotheses.
    chosen = rows[~many & rows["objective"].isin(["all", "error"])]
    needed = _probe(inputs, "sample_size")
    names = chosen["bed"].map(BEDS) + chosen["objective"].map({"all": "", "error": ", error"})
    return _panels(
        inputs,
        samples=(chosen, names),
        objectives=(rows[many], rows.loc[many, "bed"].map(BEDS)),
        sizes=(needed, needed["bed"].map(BEDS)),
    )


def draw_rec_b1_uniform(table: pd.DataFrame, published: pd.DataFrame) -> Figure:
    """Largest deviation and bounds by n and by N; samples that are needed by N."""
    figure, axes = plt.subplots(1, 4, figsize=(14, 3.6))
    samples = table[table["panel"] == "samples"]
    for ax, bed, objective in [(axes[0], "random", "all"), (axes[1], "gaussian", "error")]:
        rows = samples[(samples["bed"] == bed) & (samples["objective"] == objective)]
        _deviation(ax, rows, "n")
        _bound(ax, rows, "n", "bound", "Hoeffding, |H| hypotheses")
        if bed == "gaussian":
            _bound(ax, rows, "n", "bound_vc", "VC, half-planes", "-.")
            _bound(ax, rows, "n", "bound_rademacher", "empirical Rademacher", ":")
        N = rows["n_obj"].max()
        ax.set(
            xscale="log", yscale="log", xlabel="samples n",
            title=f"{BEDS[bed]}{': error' if objective == 'error' else ''}\n"
            f"|H| = {rows['hypotheses'].max()}, N = {N}",
            ylabel=DEVIATION,
        )  # fmt: skip
        ax.legend(fontsize=6)
    rows = table[table["panel"] == "objectives"]
    _deviation(axes[2], rows, "n_obj")
    _bound(axes[2], rows, "n_obj", "bound", "Hoeffding")
    growth = _growth(rows)
    axes[2].set(
        xscale="log", xlabel="objectives N", ylabel=DEVIATION, ylim=(0, None),
        title=f"N = {rows['n_obj'].max()} over N = {rows['n_obj'].min()}:\n95 % quantile × "
        f"{growth[0]:.3f}, bound × {growth[1]:.3f}",
    )  # fmt: skip
    axes[2].legend(fontsize=6)
    sizes = table[table["panel"] == "sizes"]
    N, needed = sizes["n_obj"].to_numpy(), sizes["needed"].to_numpy()
    slope, intercept, fit = _line_fit(np.log(N), needed)
    axes[3].plot(N, needed, marker="o", linestyle="none", color=FORWARD, label="exact")
    axes[3].plot(
        N, intercept + slope * np.log(N), color="black", linestyle="--",
        label=f"{intercept:.0f} + {slope:.0f} log N, R² = {fit:.3f}",
    )  # fmt: skip
    axes[3].set(
        xscale="log", xlabel="objectives N", ylim=(0, None),
        ylabel=f"samples n until {DEVIATION} ≤ {sizes['tolerance'].max():g}",
        title=f"with probability {100 * (1 - sizes['delta'].max()):g} %",
    )  # fmt: skip
    axes[3].legend(fontsize=6)
    _plain_ticks(axes[2], sorted(rows["n_obj"].unique()))
    _plain_ticks(axes[3], sorted(sizes["n_obj"].unique()))
    _setting(figure, table)
    return figure


# ======================================================================================
# R1 for other estimators


def table_rec_b2_estimators(inputs: Inputs) -> pd.DataFrame:
    """A panel an estimator: largest deviation by n, series by share of group 1."""
    rows = _probe(inputs, "deviations")
    frames = [
        tidy(inputs, name, own, "P(a=1) = " + own["share"].map("{:g}".format))
        for name in ESTIMATORS
        if len(own := rows[rows["objective"] == name])
    ]
    return pd.concat(frames, ignore_index=True)


def draw_rec_b2_estimators(table: pd.DataFrame, published: pd.DataFrame) -> Figure:
    """Deviation and bound by n for each estimator."""
    figure, axes = plt.subplots(1, 4, figsize=(14, 3.6), sharey=True)
    for ax, estimator in zip(axes, ESTIMATORS, strict=True):
        own = table[table["panel"] == estimator]
        shares = list(dict.fromkeys(own["series"]))
        for i, series in enumerate(shares):
            rows = own[own["series"] == series]
            colour = drawing.ordered_colours(len(shares) + 1)[i]
            drawing.band(
                ax, rows, "n", "max_dev", log=True, color=colour, marker=drawing.MARKERS[i],
                label=series,
            )  # fmt: skip
            # What depends on no group has the same bound for all shares.
            mean = rows.groupby("n")["bound"].mean()
            ax.plot(mean.index, mean, color=colour, linestyle="--", linewidth=1)
        ax.set(xscale="log", yscale="log", xlabel="samples n", title=OBJECTIVES[estimator])
    axes[0].plot([], [], color="0.4", linestyle="--", label="bound C (mean)")
    axes[0].set(ylabel=DEVIATION)
    axes[0].legend(fontsize=6)
    _setting(figure, table)
    return figure


# ======================================================================================
# R2: all scalarizations at once


def table_rec_b3_scalarizations(inputs: Inputs) -> pd.DataFrame:
    """Largest gap of the first S scalarizations; panel by bed, series by family."""
    rows = _probe(inputs, "scalarizations")
    names = rows["family"].map({**FAMILY_NAMES, "any": "all scalarizations, exact"})
    return tidy(inputs, "ratios", rows, names)


def draw_rec_b3_scalarizations(table: pd.DataFrame, published: pd.DataFrame) -> Figure:
    """The gap over the bound, by the number of scalarizations and by n."""
    beds = [bed for bed in ("random", "gaussian") if bed in set(table["bed"])]
    figure, (axes,) = drawing.grid(1, 2 * len(beds), figsize=(14, 3.6), sharey=True)
    for column, bed in enumerate(beds):
        rows = table[table["bed"] == bed]
        middle = _middle(rows["n"])
        largest = rows["S"].max()
        for ax, x, chosen in [
            (axes[column], "S", rows[rows["n"] == middle]),
            (axes[len(beds) + column], "n", rows[rows["S"] == largest]),
        ]:
            for i, family in enumerate(FAMILIES):
                drawing.band(
                    ax, chosen[chosen["family"] == family], x, "max_ratio",
                    color=FAMILY_COLOURS[family], marker=drawing.MARKERS[i],
                    linestyle=drawing.ordered_dash(i), label=FAMILY_NAMES[family],
                )  # fmt: skip
            every = chosen[chosen["family"] == "any"]
            if x == "S":
                ax.axhline(
                    every["max_ratio"].mean(), color="black", linestyle=":",
                    label="all, exact (attained at λ = e_i)",
                )  # fmt: skip
            else:
                mean = every.groupby("n")["max_ratio"].mean()
                ax.plot(mean.index, mean, color="black", linestyle=":")
            ax.axhline(1, color="black", linewidth=1)
            what = f"n = {middle}" if x == "S" else f"S = {largest}"
            ax.set(xscale="log", title=f"{BEDS[bed]}, {what}", ylim=(0, 1.05))
            ax.set(xlabel="scalarizations S" if x == "S" else "samples n")
    axes[0].set(ylabel=r"largest $|U(L) - U(\hat L)|$ / U(C); bound: 1")
    axes[0].legend(fontsize=6)
    _setting(figure, table)
    return figure


# ======================================================================================
# R3: minimisers of scalarizations


def table_rec_b4_excess(inputs: Inputs) -> pd.DataFrame:
    """Excess of the minimiser of each weight; panel by bed, series by family."""
    rows = _probe(inputs, "excess")
    frames = [
        tidy(inputs, bed, own, own["family"].map(FAMILY_NAMES))
        for bed, own in rows.groupby("bed", sort=False)
    ]
    return pd.concat(frames, ignore_index=True)


def draw_rec_b4_excess(table: pd.DataFrame, published: pd.DataFrame) -> Figure:
    """Mean and 95 % quantile with the bound by n; boxes over weights."""
    beds = list(dict.fromkeys(table["panel"]))
    figure, (axes,) = drawing.grid(1, 2 * len(beds), figsize=(14, 3.6))
    for column, bed in enumerate(beds):
        ax, rows = axes[2 * column], table[table["panel"] == bed]
        for family, own in rows.groupby("family", sort=False):
            colour = FAMILY_COLOURS[family]
            quantiles = own.groupby("n")["excess"].quantile(QUANTILE)
            slope = _slope(quantiles)
            ax.plot(
                quantiles.index, quantiles, color=colour, marker="o",
                label=f"{FAMILY_NAMES[family]}: 95 % quantile, slope {slope:.2f}",
            )  # fmt: skip
            mean = own.groupby("n")["excess"].mean()
            ax.plot(mean.index, mean, color=colour, linestyle=":", label="mean")
            bound = own.groupby("n")["bound"].mean()
            ax.plot(bound.index, bound, color=colour, linestyle="--", label="mean of 2U(C)")
        ax.set(xscale="log", yscale="log", xlabel="samples n", title=BEDS[bed])
        # Room for the legend.
        ax.set(ylabel=r"excess $U(L(\hat h)) - \min_h U(L(h))$")
        drawing.room_below(ax, 20)
        ax.legend(fontsize=5.5, loc="lower left")
        boxes = axes[2 * column + 1]
        sizes = np.sort(rows["n"].unique())
        linear = rows[rows["family"] == "linear"]
        by_weight = linear.groupby(["n", "weight_id"], as_index=False)["excess"].mean()
        boxes.boxplot(
            [by_weight.loc[by_weight["n"] == n, "excess"] for n in sizes],
            widths=0.6, flierprops={"markersize": 2},
            medianprops={"color": FAMILY_COLOURS["linear"]},
        )  # fmt: skip
        boxes.set_xticks(range(1, len(sizes) + 1), sizes, rotation=45, fontsize=6)
        boxes.set(xlabel="samples n", ylabel="mean excess of a weight", ylim=(0, None))
        boxes.set_title(f"{FAMILY_NAMES['linear']}, over {linear['weight_id'].nunique()} weights")
    _setting(figure, table)
    return figure


# ======================================================================================
# R4 to R7: fronts


def table_rec_b5_fronts(inputs: Inputs) -> pd.DataFrame:
    """Panels distances (by bed, slope, n, repetition) and points (of one sample)."""
    rows = _probe(inputs, "fronts")
    rows = rows[rows["filtered"] == 0].drop(columns="filtered")
    points = _probe(inputs, "points")
    points = points[points["n"] == points.groupby("run")["n"].transform(_middle)]
    return _panels(
        inputs, distances=(rows, _front_name(rows)), points=(points, _front_name(points))
    )


def draw_rec_b5_fronts(table: pd.DataFrame, published: pd.DataFrame) -> Figure:
    """Distances by n on each bed; true and empirical front of one sample."""
    figure, axes = plt.subplots(2, 4, figsize=(14, 6.6))
    distances = table[table["panel"] == "distances"]
    points = table[table["panel"] == "points"]
    for column, bed in enumerate(["gaussian", "convex", "flat", "slope"]):
        rows = distances[distances["bed"] == bed]
        ax = axes[0, column]
        if bed == "slope":
            _slopes(ax, rows)
            _reference(ax, published, "G3 slope 0: mean backward error", "s = 0: 1/4")
        else:
            _both_distances(ax, rows)
            quantiles = rows.groupby("n")["e_bwd"].quantile(0.9)
            label = "90 % quantile of e←"
            ax.plot(quantiles.index, quantiles, color=BACKWARD, linestyle=":", label=label)
        if bed == "flat":
            _reference(
                ax, published, "G2f: stalled backward error", "difference of the mirror pair"
            )
        _bound(ax, rows, "n", "two_c", "2C")
        violations = int((rows["weak_violation"] > ROUNDING).sum())
        ax.set(
            xscale="log", yscale="log", xlabel="samples n",
            title=f"{BEDS[bed]}\nR6 violated in {violations} of {len(rows)} samples",
        )  # fmt: skip
        drawing.room_below(ax, 10)
        ax.legend(fontsize=5.5, loc="lower left")
        own = points[points["bed"] == bed]
        if bed == "slope":
            own = own[own["slope"] == 0]
        _scatter(axes[1, column], own)
        title = f"n = {own['n'].max()}" + (", s = 0" if bed == "slope" else "")
        axes[1, column].set(title=title)
        words = ("error", "DP gap") if bed in ("gaussian", "flat") else ("L₁", "L₂")
        axes[1, column].set(xlabel=words[0], ylabel=words[1])
    axes[0, 0].set(ylabel="distance of the fronts")
    axes[1, 0].legend(fontsize=6)
    _setting(figure, distances, f"; {BANDS}; e→ is 0 on {BEDS['slope']}")
    return figure


# ======================================================================================
# R5: the counter-example


def table_rec_b6_counterexample(inputs: Inputs) -> pd.DataFrame:
    """Panels observed (share of samples with a bad front) and exact (P(bad) by n)."""
    rows = _probe(inputs, "bad")
    sizes = np.unique(np.geomspace(1, rows["n"].max(), 41).round().astype(int))
    exact = pd.DataFrame(
        {"n": n, "m": m, "seed": 0, "p_exact": float(theory.tie_broken_wrongly(int(n), m)),
         "p_limit": m / (m + 1)}
        for m in sorted(rows["m"].unique())
        for n in sizes
    )  # fmt: skip
    return _panels(inputs, observed=(rows, _m_name(rows)), exact=(exact, _m_name(exact)))


def draw_rec_b6_counterexample(table: pd.DataFrame, published: pd.DataFrame) -> Figure:
    """P(bad) by n, observed and exact, with its limit."""
    figure, ax = plt.subplots(figsize=(6, 4))
    observed = table[table["panel"] == "observed"]
    exact = table[table["panel"] == "exact"]
    limits = published[published["series"] == "limit of P(bad) m/(m+1)"]
    for i, (series, line) in enumerate(exact.groupby("series", sort=False)):
        colour = drawing.ordered_colours(4)[i]
        ax.plot(line["n"], line["p_exact"], color=colour, linestyle=drawing.ordered_dash(i),
                label=f"{series}, exact")  # fmt: skip
        rows = observed[observed["series"] == series]
        ax.errorbar(
            rows["n"], rows["p_hat"], yerr=3 * rows["se"], color=colour, linestyle="none",
            marker=drawing.MARKERS[i], capsize=2, label="observed, 3 standard errors",
        )  # fmt: skip
        limit = limits.loc[pd.to_numeric(limits["x"]) == line["m"].iloc[0], "y"]
        for y in limit:
            ax.axhline(y, color=drawing.COLOURS["published"], linestyle=":", linewidth=0.9)
    ax.plot([], [], color=drawing.COLOURS["published"], linestyle=":", label="limit m/(m+1)")
    ax.set(
        xscale="log", xlabel="samples n", ylim=(0, 1.02),
        ylabel="P(a hypothesis that only ties looks optimal)",
    )  # fmt: skip
    ax.legend(fontsize=6, loc="lower right", ncols=2)
    _setting(figure, observed)
    return figure


# ======================================================================================
# Trade-offs


def table_rec_b7_fairness(inputs: Inputs) -> pd.DataFrame:
    """Panels points (fronts of pairs of thresholds at three n) and distances."""
    points, rows = _probe(inputs, "points"), _probe(inputs, "fronts")
    rows = rows[rows["filtered"] == 0].drop(columns="filtered")
    points = points.rename(columns={"l1": "err", "l2": "dp_gap", "l3": "rob_err"})
    offsets = gaussian_groups.thresholds(round(rows["hypotheses"].iloc[0] ** 0.5)).b
    for group in (0, 1):
        points[f"threshold_{group}"] = -offsets[points["h"], group]
    return _panels(
        inputs,
        points=(points, "n = " + points["n"].astype(str)),
        distances=(rows, rows["bed"].map(BEDS)),
    )


def draw_rec_b7_fairness(table: pd.DataFrame, published: pd.DataFrame) -> Figure:
    """Empirical and true front of thresholds by group, and their distance by n."""
    figure, axes = plt.subplots(1, 4, figsize=(14, 3.6))
    points = table[table["panel"] == "points"]
    sizes = np.sort(points["n"].unique())
    ends = sizes[[0, -1]] if len(sizes) else sizes
    for ax, n in zip(axes, ends, strict=False):
        own = points[points["n"] == n]
        _scatter(ax, own, "err", "dp_gap")
        ax.set(title=f"{PROJECTED}, n = {n}", xlabel="error", ylabel="DP gap")
    axes[0].legend(fontsize=6)
    n = points["n"].max()
    _scatter(axes[2], points[points["n"] == n], "rob_err", "dp_gap")
    axes[2].set(title=f"{PROJECTED}, n = {n}", xlabel="robust error", ylabel="DP gap")
    _distances(axes[3], table[table["panel"] == "distances"])
    axes[3].legend(fontsize=6)
    _setting(figure, table[table["panel"] == "distances"], f"; {BANDS}")
    return figure


def table_rec_b8_robust_digits(inputs: Inputs) -> pd.DataFrame:
    """Panels networks (true risks), points (fronts of samples), distances (by sample)."""
    networks, points = _probe(inputs, "networks"), _probe(inputs, "points")
    rows = _probe(inputs, "fronts").drop(columns="filtered")
    names = {"l1": "clean_err", "l2": "adv_err", "l3": "dp_gap"}
    networks = networks.rename(columns={**names, "h": "model_id"})
    points = points.rename(columns={**names, "h": "model_id"})
    return _panels(
        inputs,
        networks=(networks, "λ_fair = " + networks["fairness"].map("{:g}".format)),
        points=(points, "n = " + points["n"].astype(str)),
        distances=(rows, rows["dataset"]),
    )


def draw_rec_b8_robust_digits(table: pd.DataFrame, published: pd.DataFrame) -> Figure:
    """Networks by error, attack and gap; an empirical front on held-out data; distances."""
    figure, axes = plt.subplots(1, 5, figsize=(16, 3.6))
    networks = table[table["panel"] == "networks"]
    for ax, y, label in [(axes[0], "adv_err", "error under attack"), (axes[1], "dp_gap", "DP gap")]:
        _networks(ax, networks, y)
        ax.set(xlabel="error on the population", ylabel=label)
    axes[1].legend(fontsize=6)
    points = table[(table["panel"] == "points") & (table["seed"] == table["seed"].min())]
    points = points[points["n"] == _middle(points["n"])]
    _scatter(axes[2], points, "clean_err", "dp_gap")
    n = points["n"].max()
    axes[2].set(title=f"{PROJECTED}, one sample, n = {n:.0f}", xlabel="error", ylabel="DP gap")
    axes[2].legend(fontsize=6)
    rows = table[table["panel"] == "distances"]
    _distances(axes[3], rows)
    axes[3].legend(fontsize=6)
    for i, (name, label) in enumerate(
        [("hypervolume_gap", "lost by the choice"), ("hypervolume_optimism", "promised in excess")]
    ):
        drawing.band(
            axes[4], rows, "n", name, color=[BACKWARD, FORWARD][i], marker=drawing.MARKERS[i],
            linestyle=drawing.ordered_dash(i), label=label,
        )  # fmt: skip
    axes[4].set(xscale="log", xlabel="samples n", ylabel="hypervolume below (1, 1, 1)")
    axes[4].legend(fontsize=6)
    for ax in axes[3:]:
        _plain_ticks(ax, sorted(rows["n"].astype(int).unique()))
    draws, sets = rows["draw"].nunique(), networks["seed"].nunique()
    within = 100 * rows["event"].mean()
    drawing.settings_line(
        figure,
        f"{OURS}; {networks['model_id'].nunique()} networks × {sets} trainings on "
        f"{drawing.all_of(networks['dataset'])}, {draws} samples of each size, "
        f"δ = {rows['delta'].max()}; all deviations within C in {within:.0f} % of the "
        f"samples; {BANDS}",
    )
    return figure


# ======================================================================================
# The filter


def table_rec_b9_filter(inputs: Inputs) -> pd.DataFrame:
    """Distances by bed, n and repetition, without and with the ε-Pareto filter."""
    rows = _probe(inputs, "fronts")
    words = rows["filtered"].map({0.0: "as it is", 1.0: "filtered"})
    return tidy(inputs, "distances", rows, _front_name(rows) + ", " + words)


def draw_rec_b9_filter(table: pd.DataFrame, published: pd.DataFrame) -> Figure:
    """Distances without and with the filter on each bed."""
    beds = ["counterexample", "flat", "slope", "gaussian"]
    figure, axes = plt.subplots(1, 4, figsize=(14, 3.8))
    for ax, bed in zip(axes, beds, strict=True):
        rows = table[table["bed"] == bed]
        what = BEDS[bed]
        for column, variant in [("m", "m"), ("slope", "s")]:
            # The case in which the empirical front is worst.
            if bed == {"m": "counterexample", "slope": "slope"}[column]:
                worst = rows[column].max() if column == "m" else rows[column].min()
                rows = rows[rows[column] == worst]
                what += f", {variant} = {worst:g}"
        for filtered, style in [(0, "-"), (1, "--")]:
            own = rows[rows["filtered"] == filtered]
            for name, label in DISTANCES.items():
                mean = own.groupby("n")[name].mean()
                if (mean > 0).any():
                    ax.plot(
                        mean.index, mean.where(mean > 0), linestyle=style,
                        color=DISTANCE_COLOURS[name], marker="os"[filtered], mfc="none"
                        if filtered else None, label=label + (", filtered" if filtered else ""),
                    )  # fmt: skip
        _bound(ax, rows, "n", "two_c", "2C")
        zero = [
            label
            for name, label in DISTANCES.items()
            for filtered, word in [(0, ""), (1, ", filtered")]
            if not (rows.loc[rows["filtered"] == filtered, name] > 0).any()
            for label in [label + word]
        ]
        ax.set(xscale="log", yscale="log", xlabel="samples n")
        ax.set_title(what + ("\n0 throughout: " + "; ".join(zero) if zero else ""), fontsize=6.5)
        ax.legend(fontsize=6)
    axes[0].set(ylabel="mean distance of the fronts (0 is not drawn)")
    _setting(figure, table)
    return figure


# ======================================================================================
# Claims


def claim_c1(tables: Tables) -> Verdict:
    """R1: all objectives and hypotheses at once, and the growth with N."""
    table = tables["rec_b1_uniform"]
    rows = table[table["panel"].isin(["samples", "objectives"]) & (table["objective"] == "all")]
    worst, listed = _violations(rows, CASE)
    many = table[table["panel"] == "objectives"]
    observed, bound = _growth(many)
    detail = (
        f"{listed}; growth of the 95 % quantile with N {observed:.3f}, of the bound {bound:.3f}"
    )
    words = {
        "value": worst,
        "published": "foundational generalization bounds for the multi-objective setting",
        "tolerance": f"{_rule()}; growth from N = 1 to 50 at most 1.1 times that of √log(2|H|N/δ)",
    }
    few = _too_few(rows, CASE) or _too_few(many, CASE, FEWEST_GROWTH)
    if few or many["n_obj"].nunique() < 2:
        return undecidable(f"too few objectives or repetitions; {detail}", **words)
    _known(rows, "violated", bound="bound")
    finite([observed, bound], "growth with N")
    return decide(_passes(rows, CASE) and observed <= 1.1 * bound, detail=detail, **words)


def claim_c2(tables: Tables) -> Verdict:
    """R1 for estimators that are no means."""
    table = tables["rec_b2_estimators"]
    listed, passed, worst, keys = [], [], 0.0, ["share", "n"]
    few = False
    for estimator in ESTIMATORS:
        rows = table[table["panel"] == estimator]
        few |= _too_few(rows, keys)
        if rows.empty:
            listed.append(f"{OBJECTIVES[estimator]} was not estimated")
            continue
        _known(rows, "max_dev", "violated", bound="bound")
        share, _ = _violations(rows, keys)
        passed.append(_passes(rows, keys))
        worst = max(worst, share)
        # How much of the bound is used where it says something.
        used = (rows["max_dev"] / rows["bound"])[rows["bound"] < 1].max()
        verdict = "holds" if passed[-1] else "does not hold"
        listed.append(
            f"{OBJECTIVES[estimator]} {verdict} (violated in at most {100 * share:.1f} % of the "
            f"samples of a share and n; largest deviation {used:.2f} C)"
        )
    words = {
        "value": worst,
        "published": "covers any estimator with a uniform-convergence guarantee",
        "tolerance": f"for DP gap, EO gap, robust error and CVaR: {_rule()}",
    }
    detail = "; ".join(listed)
    if few:
        return undecidable(f"too few repetitions, or no rows; {detail}", **words)
    return decide(all(passed), detail=detail, **words)


def claim_c3(tables: Tables) -> Verdict:
    """R2: all scalarizations with one C."""
    table = tables["rec_b3_scalarizations"]
    rows = table.assign(violated=(table["max_ratio"] > 1 + ROUNDING).astype(float))
    keys = ["bed", "family", "S", "n"]
    worst, _ = _violations(rows, keys)
    exact = rows[rows["family"] == "any"]
    drawn = rows[rows["family"] != "any"]
    largest = drawn.groupby("S")["max_ratio"].max()
    listed = ", ".join(f"{ratio:.2f} for S = {S}" for S, ratio in largest.items())
    detail = (
        f"largest |U(L) - U(L̂)| / U(C) over families, beds, n and repetitions: {listed}, "
        f"{exact['max_ratio'].max():.2f} for all scalarizations (exact)"
    )
    words = {
        "value": worst,
        "published": "simultaneous over all scalarizations, independent of how many",
        "tolerance": f"for every family and S, with the same C: {_rule()}",
    }
    if _too_few(rows, keys):
        return undecidable(f"too few repetitions; {detail}", **words)
    _known(rows, "max_ratio")
    some(rows[rows["max_ratio"] > 0], "gap above 0")
    return decide(_passes(rows, keys), detail=detail, **words)


def claim_c4(tables: Tables) -> Verdict:
    """R3: excess of the minimisers of scalarizations."""
    table = tables["rec_b4_excess"]
    above = table.assign(violated=(table["excess"] > table["bound"] + ROUNDING).astype(float))
    # Of a repetition all weights hold together.
    keys = ["bed", "family", "n"]
    rows = above.groupby([*keys, "seed", "delta", "scale"], as_index=False)["violated"].max()
    worst, _ = _violations(rows, keys)
    names = table["bed"].map(BEDS) + " " + table["series"]
    slopes, others = _slopes_of(
        table.assign(series=names).groupby(["series", "n"], sort=False)["excess"].quantile(QUANTILE)
    )
    detail = f"slopes of the 95 % quantile: {_listed(slopes, others)}; more than 2U(C) in "
    detail += f"{100 * worst:.1f} %"
    words = {
        "value": max(slopes.values(), default=np.nan),
        "published": "excess bounds for learning with scalarizations",
        "tolerance": f"excess above 2U(C): {_rule()}; log-log slope of the 95 % quantile of the "
        "excess at most -0.35 (a bound: -0.5)",
    }
    if _too_few(rows, keys) or not slopes or NO_SLOPE in others.values():
        return undecidable(f"too few sample sizes or repetitions; {detail}", **words)
    _known(table, "excess", bound="bound")
    return decide(_passes(rows, keys) and words["value"] <= -0.35, detail=detail, **words)


def claim_c5(tables: Tables) -> Verdict:
    """R4: every truly Pareto-optimal hypothesis has an empirical one near it."""
    table = tables["rec_b5_fronts"]
    rows = table[table["panel"] == "distances"]
    rows = rows.assign(violated=(rows["violation"] > ROUNDING).astype(float))
    keys = ["series", "n"]
    worst, _ = _violations(rows, keys)
    slopes, others = _slopes_of(rows.groupby(["series", "n"], sort=False)["e_fwd"].mean())
    detail = f"slopes of the mean of e→ with n: {_listed(slopes, others)}; farther than 2C_i in an "
    detail += f"objective i in {100 * worst:.1f} %"
    words = {
        "value": max(slopes.values(), default=np.nan),
        "published": "every Pareto-optimal solution is approximated by an empirical one",
        "tolerance": f"e→ within 2C_i in each objective: {_rule()}; log-log slope of its "
        "mean at most -0.3 on all beds where it is not 0 (a bound: -0.5)",
    }
    absent = {"gaussian", "convex", "flat", "slope"} - set(rows["bed"])
    if _too_few(rows, keys) or not slopes or NO_SLOPE in others.values() or absent:
        return undecidable(f"too few beds, sample sizes or repetitions; {detail}", **words)
    _known(rows, "violation", "e_fwd", bound="two_c")
    return decide(_passes(rows, keys) and words["value"] <= -0.3, detail=detail, **words)


def claim_c6(tables: Tables) -> Verdict:
    """R5: but not vice versa."""
    observed = tables["rec_b6_counterexample"].query("panel == 'observed'")
    off = finite((observed["p_hat"] - observed["p_exact"]).abs() / observed["se"], "observed share")
    last = observed[observed["n"] == observed["n"].max()]
    rest = finite((last["p_hat"] - last["p_limit"]).abs(), "limit of the share").max()
    listed = ", ".join(f"{row.p_hat:.4f} for m = {row.m:.0f}" for row in last.itertuples())
    table = tables["rec_b5_fronts"]
    rows = table[table["panel"] == "distances"]
    flat = rows[(rows["bed"] == "flat") | (rows["slope"] == 0)]
    kept, words_of = [], []
    for series, own in flat.groupby("series", sort=False):
        quantiles = own.groupby("n")[["e_fwd", "e_bwd"]].quantile(0.9)
        if len(quantiles) < 2:
            continue
        first, final = quantiles.iloc[0], quantiles.iloc[-1]
        stays = final["e_bwd"] >= 0.7 * first["e_bwd"]
        kept.append(stays and final["e_fwd"] <= 0.4 * first["e_fwd"])
        words_of.append(
            f"{series}: 90 % quantile of e← {first['e_bwd']:.3f} to {final['e_bwd']:.3f}, of e→ "
            f"{first['e_fwd']:.3f} to {final['e_fwd']:.3f}"
            + (" (0 on any sample: h_0 is always found)" if not own["e_fwd"].any() else "")
        )
    detail = (
        f"P(bad) at n = {last['n'].iloc[0]}: {listed}; farthest from the exact value "
        f"{off.max():.1f} standard errors; " + "; ".join(words_of)
    )
    words = {
        "value": float(last["p_hat"].max()),
        "published": "but not vice versa",
        "tolerance": "P(bad) within 3 standard errors of the exact value for all n and m, at the "
        "largest n within 0.03 of m/(m+1); flat beds: 90 % quantile of e← at the largest n at "
        "least 0.7 of that at the smallest, that of e→ at most 0.4",
    }
    few = _too_few(flat, ["series", "n"]) or observed["repeats"].min() < FEWEST_SHARE
    if few or len(kept) < 2:
        return undecidable(f"too few flat beds, sample sizes or repetitions; {detail}", **words)
    _known(flat, "e_fwd", "e_bwd")
    return decide(bool(off.max() <= 3 and rest <= 0.03 and all(kept)), detail=detail, **words)


def claim_c7(tables: Tables) -> Verdict:
    """R6: every empirically Pareto-optimal hypothesis is weakly 2C-optimal."""
    table = tables["rec_b5_fronts"]
    rows = table[table["panel"] == "distances"]
    rows = rows.assign(violated=(rows["weak_violation"] > ROUNDING).astype(float))
    keys = ["series", "n"]
    worst, _ = _violations(rows, keys)
    within = rows[rows["event"] == 1]
    detail = (
        f"violated in {int(rows['violated'].sum())} of {len(rows)} samples, in "
        f"{int(within['violated'].sum())} of the {len(within)} where all deviations are within C"
    )
    words = {
        "value": worst,
        "published": "none: the statement is ours (R6)",
        "tolerance": f"{_rule()}; never where all deviations are within C",
    }
    if _too_few(rows, keys):
        return undecidable(f"too few repetitions; {detail}", **words)
    _known(rows, "weak_violation", "event", bound="two_c")
    holds = _passes(rows, keys) and within["violated"].sum() == 0
    return decide(bool(holds), detail=detail, **words)


def claim_c8(tables: Tables) -> Verdict:
    """R7: without a flat part the empirical front converges from both sides."""
    table = tables["rec_b5_fronts"]
    rows = table[table["panel"] == "distances"]
    convex = _slope(rows[rows["bed"] == "convex"].groupby("n")["e_bwd"].mean())
    steep = rows[(rows["slope"] == 0.1) & (rows["n"] >= 2**10)]
    steep_slope = _slope(steep.groupby("n")["e_bwd"].mean()) if len(steep) else np.nan
    level = _slope(rows[rows["slope"] == 0].groupby("n")["e_bwd"].mean())
    detail = (
        f"log-log slopes of the mean of e←: {convex:.2f} on {BEDS['convex']}; on {BEDS['slope']} "
        f"{steep_slope:.2f} at s = 0.1 from n = 1024, {level:.2f} at s = 0"
    )
    words = {
        "value": convex,
        "published": "none: the statement is ours (R7)",
        "tolerance": "G4: at most -0.25; G3: at most -0.4 at s = 0.1, at least -0.05 at s = 0 (a "
        "bound: -0.5)",
    }
    slopes = [convex, steep_slope, level]
    if _too_few(rows, ["series", "n"]) or np.isnan(slopes).any():
        return undecidable(f"too few sample sizes or repetitions; {detail}", **words)
    holds = convex <= -0.25 and steep_slope <= -0.4 and level >= -0.05
    return decide(bool(holds), detail=detail, **words)


def claim_c9(tables: Tables) -> Verdict:
    """Corollary A.1 of Wegel et al.: samples that are needed grow with log N."""
    sizes = tables["rec_b1_uniform"].query("panel == 'sizes'")
    words = {
        "published": "n of order (d + log(N/δ))/ε² (Wegel et al. 2025, not this paper)",
        "tolerance": "linear fit of n* on log N with R² at least 0.9; the upper bound alone",
    }
    if first_look(sizes) or len(sizes) < 3:
        return undecidable("fewer than three numbers of objectives", value=None, **words)
    slope, _, fit = _line_fit(np.log(sizes["n_obj"]), sizes["needed"])
    listed = ", ".join(f"{row.needed:.0f} for N = {row.n_obj}" for row in sizes.itertuples())
    detail = f"n* = {listed} (exact, in steps of 5); {slope:.0f} samples more a unit of log N"
    return decide(bool(fit >= 0.9 and slope > 0), value=fit, detail=detail, **words)


# ======================================================================================
# Helpers


def _probe(inputs: Inputs, name: str) -> pd.DataFrame:
    """The rows of one probe, without the columns of others."""
    measures = inputs.measures
    rows = measures[measures["probe"] == name]
    # Words that other probes have are empty here.
    rows = rows.replace("", np.nan).dropna(axis=1, how="all").drop(columns="probe")
    rows = rows.reset_index(drop=True)
    # Beside rows of other probes whole numbers have become floating ones.
    whole = [column for column in WHOLE if column in rows and rows[column].notna().all()]
    return rows.astype(dict.fromkeys(whole, int))


def _panels(inputs: Inputs, **parts: tuple[pd.DataFrame, pd.Series]) -> pd.DataFrame:
    """Panels one below the other."""
    frames = [tidy(inputs, panel, rows, series) for panel, (rows, series) in parts.items()]
    return pd.concat(frames, ignore_index=True)


def _front_name(rows: pd.DataFrame) -> pd.Series:
    """Name of a bed with its slope or number of ties."""
    names = rows["bed"].map(BEDS)
    for column, bed, letter in [("slope", "slope", "s"), ("m", "counterexample", "m")]:
        if column in rows:
            words = f", {letter} = " + rows[column].map("{:g}".format)
            names = names.where(rows["bed"] != bed, names + words)
    return names


def _m_name(rows: pd.DataFrame) -> pd.Series:
    return "m = " + rows["m"].astype(int).astype(str)


def _middle(sizes: pd.Series) -> float:
    """The middle one of the sample sizes; NaN where there are none."""
    ordered = np.sort(sizes.unique())
    return ordered[len(ordered) // 2] if len(ordered) else np.nan


def _deviation(ax: Axes, rows: pd.DataFrame, x: str) -> None:
    """Largest deviation: its mean with a band, and its 95 % quantile."""
    log = x == "n"
    drawing.band(ax, rows, x, "max_dev", log=log, color=FORWARD, marker="o", label="mean, ± 1 std")
    quantiles = rows.groupby(x)["max_dev"].quantile(QUANTILE)
    ax.plot(
        quantiles.index, quantiles, color=BACKWARD, marker="s", linestyle=":", label="95 % quantile"
    )


def _bound(ax: Axes, rows: pd.DataFrame, x: str, column: str, label: str, dash: str = "--") -> None:
    """A bound as a line, the largest of the series where they differ."""
    values = rows.groupby(x)[column].max()
    ax.plot(values.index, values, color="black", linestyle=dash, linewidth=1.1, label=label)


def _distances(ax: Axes, rows: pd.DataFrame) -> None:
    """Both distances and 2C by n."""
    _both_distances(ax, rows)
    _bound(ax, rows, "n", "two_c", "2C")
    ax.set(xscale="log", yscale="log", xlabel="samples n", ylabel="distance of the fronts")


def _both_distances(ax: Axes, rows: pd.DataFrame) -> None:
    """Mean of e_→ and e_← with a band that ends at a tenth of the mean."""
    for name, label in DISTANCES.items():
        drawing.band(
            ax, rows, "n", name, floor=0.1, color=DISTANCE_COLOURS[name],
            marker="o" if name == "e_fwd" else "s", label=label,
        )  # fmt: skip


def _slopes(ax: Axes, rows: pd.DataFrame) -> None:
    """Mean of e_← by slope of the front; bands would hide each other."""
    slopes = sorted(rows["slope"].unique())
    for i, s in enumerate(slopes):
        mean = rows[rows["slope"] == s].groupby("n")["e_bwd"].mean()
        ax.plot(
            mean.index, mean, marker=drawing.MARKERS[i], linestyle=drawing.ordered_dash(i),
            color=drawing.ordered_colours(len(slopes) + 1)[i], label=f"mean of e←, s = {s:g}",
        )  # fmt: skip


def _scatter(ax: Axes, points: pd.DataFrame, x: str = "l1", y: str = "l2") -> None:
    """True front, true risks of the empirical front, and their estimates."""
    for kind, colour, marker, size, label in [
        ("estimated", "0.6", "x", 3.5, "empirical front, estimates"),
        ("found", BACKWARD, "s", 3.5, "empirical front, true risks"),
        ("true", "black", "o", 3, "true front"),
    ]:
        rows = points[points["kind"] == kind]
        ax.plot(
            rows[x], rows[y], linestyle="none", marker=marker, markersize=size, color=colour,
            mfc="none" if kind == "found" else colour, label=label, rasterized=len(rows) > 300,
        )  # fmt: skip


def _networks(ax: Axes, networks: pd.DataFrame, y: str) -> None:
    """Networks by error and another risk: colour by fairness penalty, marker by attack."""
    fairness = sorted(networks["fairness"].unique())
    attacks = sorted(networks["adversarial"].unique())
    for i, penalty in enumerate(fairness):
        for j, radius in enumerate(attacks):
            rows = networks[(networks["fairness"] == penalty) & (networks["adversarial"] == radius)]
            ax.scatter(
                rows["clean_err"], rows[y], s=0.7 * rows["width"], marker=drawing.MARKERS[j],
                color=drawing.ordered_colours(len(fairness) + 1)[i], alpha=0.8,
                label=f"λ_fair = {penalty:g}, ε = {radius:g}", linewidths=0,
            )  # fmt: skip


def _reference(ax: Axes, published: pd.DataFrame, series: str, label: str) -> None:
    """A derived value as a horizontal line."""
    for y in published.loc[published["series"] == series, "y"]:
        ax.axhline(
            y,
            color=drawing.COLOURS["published"],
            linestyle=":",
            label=f"{label} (derived, {y:.4g})",
        )


def _plain_ticks(ax: Axes, values: list[int]) -> None:
    """Ticks at these numbers, as they are."""
    ax.set_xticks(values, [str(value) for value in values])
    ax.minorticks_off()


def _setting(figure: Figure, table: pd.DataFrame, more: str = "") -> None:
    """Repetitions and δ above the panels, and more words."""
    repeats = "repeats" if "repeats" in table and table["repeats"].notna().any() else "seed"
    own = table[repeats].max() if repeats == "repeats" else None
    counts = table.groupby("bed")["seed"].nunique() if own is None else pd.Series([own])
    shown = sorted({f"{count:.0f}" for count in counts}, key=float)
    drawing.settings_line(
        figure,
        f"{OURS}; {' or '.join(shown)} repetitions, δ = {table['delta'].max():g}{more}",
    )


def _growth(rows: pd.DataFrame) -> tuple[float, float]:
    """Factor from the smallest to the largest N: of the 95 % quantile, and of the bound; or NaN."""
    quantiles = rows.groupby("n_obj")["max_dev"].quantile(QUANTILE)
    bounds = rows.groupby("n_obj")["bound"].max()
    if quantiles.empty or not quantiles.iloc[0] or not bounds.iloc[0]:
        return np.nan, np.nan
    return quantiles.iloc[-1] / quantiles.iloc[0], bounds.iloc[-1] / bounds.iloc[0]


def _line_fit(x: pd.Series, y: pd.Series) -> tuple[float, float, float]:
    """Slope, intercept and R² of a line; NaN of fewer than two points. NaN is no point.

    R² is 0 where all y are equal: there is nothing to explain.
    """
    known = np.isfinite(x) & np.isfinite(y)
    x, y = x[known], y[known]
    if len(x) < 2:
        return np.nan, np.nan, np.nan
    slope, intercept = np.polyfit(x, y, 1)
    spread = np.sum((y - np.mean(y)) ** 2)
    fit = 1 - np.sum((y - intercept - slope * x) ** 2) / spread if spread else 0.0
    return float(slope), float(intercept), float(fit)


def _slope(values: pd.Series) -> float:
    """Slope of log(value) by log(index), of the positive values; NaN of fewer than two."""
    positive = values[values > 0]
    if len(positive) < 2:
        return np.nan
    return float(np.polyfit(np.log(positive.index), np.log(positive), 1)[0])


def _slopes_of(values: pd.Series) -> tuple[dict[str, float], dict[str, str]]:
    """Log-log slope by n of each series, and why others have none.

    Args:
        values: by series and n.
    """
    slopes, others = {}, {}
    for series, own in values.where(values > ROUNDING, 0.0).groupby(level=0, sort=False):
        slope = _slope(own.droplevel(0))
        if not np.isnan(slope):
            slopes[series] = slope
        else:
            others[series] = NO_SLOPE if own.any() else ZERO
    return slopes, others


def _listed(slopes: dict[str, float], others: dict[str, str]) -> str:
    """The slopes of series in words, and why others have none."""
    words = [", ".join(f"{name} {slope:.2f}" for name, slope in slopes.items())]
    for why in dict.fromkeys(others.values()):
        words.append(f"{why} on " + ", ".join(name for name in others if others[name] == why))
    return "; ".join(words)


def _rule() -> str:
    return "violated in a share of at most δ + 3√(δ(1-δ)/B) of B samples at each n"


def _known(rows: pd.DataFrame, *columns: str, bound: str | None = None) -> None:
    """Check that some columns hold numbers throughout, and that their bound is above 0.

    Raises:
        Undecided: where they do not: what is NaN violates no bound.
    """
    for column in columns:
        finite(rows[column], f"value of {column}")
    if bound:
        finite(rows[bound].where(rows[bound] > 0), f"positive {bound}")


def _violations(rows: pd.DataFrame, keys: list[str]) -> tuple[float, str]:
    """The largest share of violated samples of a case, and how many cases there are in words."""
    shares = rows.groupby(keys)["violated"].mean()
    most = 100 * shares.max()
    words = f"bound violated in at most {most:.1f} % of the samples of {len(shares)} cases"
    return float(shares.max()), words


def _passes(rows: pd.DataFrame, keys: list[str]) -> bool:
    """Whether each case is violated at most as often as δ allows, with three standard errors."""
    cases = rows.groupby(keys).agg(
        share=("violated", "mean"), count=("violated", "size"), delta=("delta", "first")
    )
    limit = cases["delta"] + 3 * np.sqrt(cases["delta"] * (1 - cases["delta"]) / cases["count"])
    return bool((cases["share"] <= limit).all())


def _too_few(rows: pd.DataFrame, keys: list[str], least: int = FEWEST) -> bool:
    """Whether the table is a first look, or a case has too few repetitions to decide a claim."""
    return rows.empty or first_look(rows) or rows.groupby(keys).size().min() < least
