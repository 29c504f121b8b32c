"""Generalization in Multi-Objective Machine Learning.

Súkeník, Lampert; arXiv 2208.13499, Neural Computing and Applications 37 (2025). Only the abstract
is public, and a restatement of its Theorem 2 by Wegel et al. (2025): every figure here is ours and
tests its statements through R1 to R7, which docs/mol.md derives; none is a figure of the paper.
"""

from collections.abc import Callable, Mapping

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy import stats

from replica import drawing
from replica.measures.inputs import Inputs, tidy
from replica.theory import deviations as theory
from replica.theory import gaussian_groups
from replica.theory.scalarizations import FAMILIES
from replica.verdicts import (
    CHANCE,
    Undecided,
    Verdict,
    by_chance,
    decide,
    finite,
    some,
    trend,
    undecidable,
)

Tables = Mapping[str, pd.DataFrame]

OURS = "reconstructed from the abstract; not a figure of the paper"
WHOLE = ("n", "seed", "n_obj", "hypotheses", "m", "S", "weight_id", "repeats", "draw", "h", "kept")
PROBLEMS = {
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
    "dp_gap": "gap of demographic parity",
    "eo_gap": "gap of equal opportunity",
    "cvar": "CVaR",
}
ESTIMATORS = ("dp_gap", "eo_gap", "robust_error", "cvar")
DISTANCES = {
    "e_fwd": "e→: from the true front to the empirical one",
    "e_bwd": "e←: from the empirical front to the true one",
}
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
BANDS = "lines: means; bands: 10 % to 90 % quantile, from the mean up where the lower one is 0"
DEVIATION = r"largest deviation $|L - \hat L|$"
# What is a number and not a rounding error of distances between risks.
ROUNDING = 1e-12
# Growth with n, N or S is that of this quantile.
QUANTILE = 0.95
# Samples of a case below which a bootstrap says little, and a share is not known to within 0.03.
FEWEST, FEWEST_SHARE = 30, 1000
BOOTSTRAPS = 2000
# What e← stays at where the front is flat: 1/4 on G3 at s = 0, and more on G2f.
STALLED = 0.25
# How samples that N objectives need may grow with N.
LAWS = {
    "log N": np.log,
    "(log N)²": lambda N: np.log(N) ** 2,
    "N^¼": lambda N: N**0.25,
    "√N": np.sqrt,
    "N": lambda N: N,
}
ZERO, NO_SLOPE = "0 throughout", "no slope"
CASE = ["problem", "n_obj", "n"]


# ======================================================================================
# R1: all objectives at once


def table_rec_b1_uniform(inputs: Inputs) -> pd.DataFrame:
    """Panels samples (largest deviation by n), objectives (by N), sizes (samples needed)."""
    rows = _probe(inputs, "deviations")
    many = rows["run"] == "random_many"
    # Of G2 the error alone has bounds that do not count hypotheses.
    chosen = rows[~many & rows["objective"].isin(["all", "error"])]
    needed = _probe(inputs, "sample_size")
    names = chosen["problem"].map(PROBLEMS) + chosen["objective"].map(
        {"all": "", "error": ", error"}
    )
    return _panels(
        inputs,
        samples=(chosen, names),
        objectives=(rows[many], rows.loc[many, "problem"].map(PROBLEMS)),
        sizes=(needed, needed["problem"].map(PROBLEMS)),
    )


def draw_rec_b1_uniform(table: pd.DataFrame, published: pd.DataFrame) -> Figure:
    """Largest deviation and bounds by n and by N; samples that are needed by N."""
    figure, grid = plt.subplots(2, 2, figsize=(8, 6.6))
    axes = grid.ravel()
    samples = table[table["panel"] == "samples"]
    for ax, problem, objective in [(axes[0], "random", "all"), (axes[1], "gaussian", "error")]:
        rows = samples[(samples["problem"] == problem) & (samples["objective"] == objective)]
        _deviation(ax, rows, "n")
        _bound(ax, rows, "n", "bound", "Hoeffding, |H| hypotheses")
        if problem == "gaussian":
            _bound(ax, rows, "n", "bound_vc", "VC, half-planes", "-.")
            _bound(ax, rows, "n", "bound_rademacher", "empirical Rademacher", ":")
        N = rows["n_obj"].max()
        ax.set(
            xscale="log", yscale="log", xlabel="samples n",
            title=f"{PROBLEMS[problem]}{': error' if objective == 'error' else ''}\n"
            f"|H| = {rows['hypotheses'].max()}, N = {N}",
            ylabel=DEVIATION,
        )  # fmt: skip
        drawing.room_below(ax, 3)
        ax.legend(loc="lower left")
    rows = table[table["panel"] == "objectives"]
    _deviation(axes[2], rows, "n_obj")
    _bound(axes[2], rows, "n_obj", "bound", "Hoeffding")
    growth = _growth(rows)
    axes[2].set(
        xscale="log", xlabel="objectives N", ylabel=DEVIATION, ylim=(0, None),
        title=f"N = {rows['n_obj'].max()} over N = {rows['n_obj'].min()}:\n95 % quantile × "
        f"{growth[0]:.3f}, bound × {growth[1]:.3f}",
    )  # fmt: skip
    axes[2].legend(loc="lower right")
    sizes = table[table["panel"] == "sizes"]
    _laws(axes[3], sizes)
    _plain_ticks(axes[2], sorted(rows["n_obj"].unique()))
    _plain_ticks(axes[3], sorted(sizes["n_obj"].unique()))
    _setting(figure, table)
    return figure


def _laws(ax: Axes, sizes: pd.DataFrame) -> None:
    """Samples that N objectives need, and the line in each law of N that is nearest to them."""
    needed = sizes.groupby("n_obj")["needed"].agg(["mean", "std"])
    N, mean = needed.index.to_numpy(float), needed["mean"].to_numpy()
    ax.errorbar(
        N, mean, yerr=needed["std"].fillna(0), color=FORWARD, marker="o", linestyle="none",
        capsize=3, zorder=3, label="needed (exact), mean ± 1 standard deviation",
    )  # fmt: skip
    fine = np.geomspace(N.min(), N.max(), 60) if len(N) else N
    for i, (law, growth) in enumerate(LAWS.items()):
        slope, intercept, fit = _line_fit(growth(N), mean)
        ax.plot(
            fine, intercept + slope * growth(fine), color="black" if i == 0 else "0.45",
            linestyle=drawing.ordered_dash(i), linewidth=1.4 if i == 0 else 0.9,
            label=f"line in {law}, R² = {fit:.4f}",
        )  # fmt: skip
    ax.set(
        xscale="log", xlabel="objectives N",
        ylabel="samples n",
        title=f"{DEVIATION} ≤ {sizes['tolerance'].max():g} with probability "
        f"{100 * (1 - sizes['delta'].max()):g} %;\ndraws of the problem: {sizes['seed'].nunique()}",
    )  # fmt: skip
    if len(mean):
        # The legend stands above the points.
        spread = np.ptp(mean) or 1.0
        ax.set_ylim(mean.min() - 0.15 * spread, mean.max() + 0.9 * spread)
    ax.legend(loc="upper left")


# ======================================================================================
# R1 for other estimators


def table_rec_b2_estimators(inputs: Inputs) -> pd.DataFrame:
    """A panel an estimator: largest deviation by n, series by share of group 1."""
    rows = _probe(inputs, "deviations")
    frames = [
        tidy(inputs, name, own, "share of group 1: " + own["share"].map("{:g}".format))
        for name in ESTIMATORS
        if len(own := rows[rows["objective"] == name])
    ]
    return pd.concat(frames, ignore_index=True)


def draw_rec_b2_estimators(table: pd.DataFrame, published: pd.DataFrame) -> Figure:
    """Deviation and bound by n for each estimator."""
    figure, grid = plt.subplots(2, 2, figsize=(8, 6.6), sharey=True, sharex=True)
    for ax, estimator in zip(grid.ravel(), ESTIMATORS, strict=True):
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
        cut = own[own["bound"] < 1]
        used = (cut["max_dev"] / cut["bound"]).max()
        ax.set(xscale="log", yscale="log", title=f"{OBJECTIVES[estimator]}: at most {used:.2f} C")
    for ax in grid[-1]:
        ax.set(xlabel="samples n")
    for ax in grid[:, 0]:
        ax.set(ylabel=DEVIATION)
    grid[0, 0].plot([], [], color="0.4", linestyle="--", label="bound C (mean)")
    grid[0, 0].legend(loc="lower left")
    _setting(figure, table)
    return figure


# ======================================================================================
# R2: all scalarizations at once


def table_rec_b3_scalarizations(inputs: Inputs) -> pd.DataFrame:
    """Largest gap of the first S scalarizations; panel by problem, series by family."""
    rows = _probe(inputs, "scalarizations")
    names = rows["family"].map({**FAMILY_NAMES, "any": "all scalarizations, exact"})
    return tidy(inputs, "ratios", rows, names)


def draw_rec_b3_scalarizations(table: pd.DataFrame, published: pd.DataFrame) -> Figure:
    """The gap over the bound, by the number of scalarizations and by n."""
    problems = [problem for problem in ("random", "gaussian") if problem in set(table["problem"])]
    figure, axes, below = _with_legend(len(problems), 2, figsize=(8, 3.2 * len(problems) + 0.6))
    for row, problem in enumerate(problems):
        rows = table[table["problem"] == problem]
        middle = _middle(rows["n"])
        largest = rows["S"].max()
        for ax, x, chosen in [
            (axes[row, 0], "S", rows[rows["n"] == middle]),
            (axes[row, 1], "n", rows[rows["S"] == largest]),
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
                    label="all scalarizations, exact",
                )  # fmt: skip
            else:
                mean = every.groupby("n")["max_ratio"].mean()
                ax.plot(mean.index, mean, color="black", linestyle=":")
            ax.axhline(1, color="black", linewidth=1, label="bound")
            what = f"n = {middle}" if x == "S" else f"S = {largest}"
            ax.set(xscale="log", title=f"{PROBLEMS[problem]}, {what}", ylim=(0, 1.05))
            ax.set(xlabel="scalarizations S" if x == "S" else "samples n")
        axes[row, 0].set(ylabel=r"largest $|U(L) - U(\hat L)|$ / U(C)")
    below(axes[0, 0], 4)
    _setting(figure, table)
    return figure


# ======================================================================================
# R3: minimisers of scalarizations


def table_rec_b4_excess(inputs: Inputs) -> pd.DataFrame:
    """Excess of the minimiser of each weight; panel by problem, series by family."""
    rows = _probe(inputs, "excess")
    frames = [
        tidy(inputs, problem, own, own["family"].map(FAMILY_NAMES))
        for problem, own in rows.groupby("problem", sort=False)
    ]
    return pd.concat(frames, ignore_index=True)


def draw_rec_b4_excess(table: pd.DataFrame, published: pd.DataFrame) -> Figure:
    """Mean and 95 % quantile with the bound by n; boxes over weights."""
    problems = list(dict.fromkeys(table["panel"]))
    figure, axes, below = _with_legend(len(problems), 2, figsize=(8, 3.2 * len(problems) + 0.5))
    for row, problem in enumerate(problems):
        ax, rows = axes[row, 0], table[table["panel"] == problem]
        slopes = []
        for family, own in rows.groupby("family", sort=False):
            colour, name = FAMILY_COLOURS[family], FAMILY_NAMES[family]
            quantiles = own.groupby("n")["excess"].quantile(QUANTILE)
            slopes.append(f"{_slope(quantiles):.2f} ({name})")
            ax.plot(
                quantiles.index, quantiles, color=colour, marker="o", label=f"{name}: 95 % quantile"
            )
            mean = own.groupby("n")["excess"].mean()
            ax.plot(mean.index, mean, color=colour, linestyle=":")
            bound = own.groupby("n")["bound"].mean()
            ax.plot(bound.index, bound, color=colour, linestyle="--")
        for dash, label in [(":", "mean"), ("--", "mean of the bound 2U(C)")]:
            ax.plot([], [], color="0.4", linestyle=dash, label=label)
        ax.set(xscale="log", yscale="log", xlabel="samples n")
        ax.set(title=f"{PROBLEMS[problem]}; slopes of the quantile:\n{', '.join(slopes)}")
        ax.set(ylabel=r"excess $U(L(\hat h)) - \min_h U(L(h))$")
        boxes = axes[row, 1]
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
    below(axes[0, 0], 2)
    _setting(figure, table)
    return figure


# ======================================================================================
# R4 to R7: fronts


def table_rec_b5_fronts(inputs: Inputs) -> pd.DataFrame:
    """Panels distances (by problem, slope, n, repetition) and points (of one sample)."""
    rows = _probe(inputs, "fronts")
    rows = rows[rows["filtered"] == 0].drop(columns="filtered")
    points = _probe(inputs, "points")
    points = points[points["n"] == points.groupby("run")["n"].transform(_middle)]
    return _panels(
        inputs, distances=(rows, _front_name(rows)), points=(points, _front_name(points))
    )


def draw_rec_b5_fronts(table: pd.DataFrame, published: pd.DataFrame) -> Figure:
    """Distances by n on each problem; true and empirical front of one sample."""
    figure, axes, below = _with_legend(4, 2, figsize=(8, 12), height=0.16)
    distances = table[table["panel"] == "distances"]
    points = table[table["panel"] == "points"]
    for row, problem in enumerate(["gaussian", "convex", "flat", "slope"]):
        rows = distances[distances["problem"] == problem]
        ax = axes[row, 0]
        if problem == "slope":
            _slopes(ax, rows)
            _reference(ax, published, "G3 slope 0: mean backward error", "mean at s = 0")
        else:
            _both_distances(ax, rows)
        if problem == "flat":
            _reference(ax, published, "G2f: stalled backward error", "gap of the mirror pair")
        _bound(ax, rows, "n", "two_c", "2C")
        violations = int((rows["weak_violation"] > ROUNDING).sum())
        ax.set(
            xscale="log", yscale="log", ylabel="distance of the fronts",
            title=f"{PROBLEMS[problem]}; R6 violated in {violations} of {len(rows)} samples",
        )  # fmt: skip
        if problem in ("flat", "slope"):
            # These have lines of their own.
            drawing.room_below(ax, 8 if problem == "flat" else 30)
            lines = [own for own in zip(*ax.get_legend_handles_labels(), strict=True)
                     if problem == "slope" or "derived" in own[1]]  # fmt: skip
            ax.legend(*zip(*lines, strict=True), loc="lower left", fontsize=6.5)
        own = points[points["problem"] == problem]
        if problem == "slope":
            own = own[own["slope"] == 0]
        _scatter(axes[row, 1], own)
        title = f"n = {own['n'].max()}" + (", s = 0" if problem == "slope" else "")
        axes[row, 1].set(title=title)
        words = (
            ("error", OBJECTIVES["dp_gap"]) if problem in ("gaussian", "flat")
            else ("first objective", "second objective")
        )  # fmt: skip
        axes[row, 1].set(xlabel=words[0], ylabel=words[1])
    axes[-1, 0].set(xlabel="samples n")
    below([axes[0, 0], axes[0, 1]], 2)
    _setting(figure, distances, f"; {BANDS}; e→ is 0 on {PROBLEMS['slope']}")
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
        distances=(rows, rows["problem"].map(PROBLEMS)),
    )


def draw_rec_b7_fairness(table: pd.DataFrame, published: pd.DataFrame) -> Figure:
    """Empirical and true front of thresholds by group, and their distance by n."""
    figure, grid, below = _with_legend(2, 2, figsize=(8, 7), height=0.12)
    axes = grid.ravel()
    points = table[table["panel"] == "points"]
    sizes = np.sort(points["n"].unique())
    ends = sizes[[0, -1]] if len(sizes) else sizes
    for ax, n in zip(axes, ends, strict=False):
        own = points[points["n"] == n]
        _scatter(ax, own, "err", "dp_gap")
        ax.set(title=f"{PROJECTED}, n = {n}", xlabel="error", ylabel=OBJECTIVES["dp_gap"])
    n = points["n"].max()
    _scatter(axes[2], points[points["n"] == n], "rob_err", "dp_gap")
    axes[2].set(title=f"{PROJECTED}, n = {n}", xlabel="robust error", ylabel=OBJECTIVES["dp_gap"])
    _distances(axes[3], table[table["panel"] == "distances"])
    axes[3].set(title="fronts of three objectives")
    below([axes[0], axes[3]], 2)
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
    figure, grid = plt.subplots(3, 2, figsize=(8, 9.6))
    axes = grid.ravel()
    networks = table[table["panel"] == "networks"]
    for ax, y, label in [
        (axes[0], "adv_err", "error under attack"),
        (axes[1], "dp_gap", OBJECTIVES["dp_gap"]),
    ]:
        _networks(ax, networks, y)
        ax.set(xlabel="error on the population", ylabel=label, title="all networks, true risks")
    # The last panel is for the legend of the first two.
    axes[5].axis("off")
    handles, labels = axes[0].get_legend_handles_labels()
    widths = sorted(networks["width"].unique())
    handles += [
        axes[5].scatter([], [], s=_dot([width]), color="0.5", linewidths=0) for width in widths
    ]
    labels += [f"width {width:g}" for width in widths]
    axes[5].legend(
        handles, labels, loc="center", title="networks of the first two panels: training"
    )
    points = table[(table["panel"] == "points") & (table["seed"] == table["seed"].min())]
    points = points[points["n"] == _middle(points["n"])]
    _scatter(axes[2], points, "clean_err", "dp_gap")
    n = points["n"].max()
    axes[2].set(title=f"{PROJECTED}, one sample, n = {n:.0f}")
    axes[2].set(xlabel="error", ylabel=OBJECTIVES["dp_gap"])
    axes[2].legend()
    rows = table[table["panel"] == "distances"]
    _distances(axes[3], rows)
    axes[3].set(title="fronts of three objectives")
    drawing.room_below(axes[3], 10)
    axes[3].legend(loc="lower left")
    for i, (name, label) in enumerate(
        [("hypervolume_gap", "lost by the choice"), ("hypervolume_optimism", "promised in excess")]
    ):
        drawing.band(
            axes[4], rows, "n", name, color=[BACKWARD, FORWARD][i], marker=drawing.MARKERS[i],
            linestyle=drawing.ordered_dash(i), label=label,
        )  # fmt: skip
    axes[4].set(xscale="log", xlabel="samples n", ylabel="hypervolume below (1, 1, 1)")
    axes[4].set(title="mean ± 1 standard deviation")
    axes[4].legend(loc="upper right")
    for ax in axes[3:5]:
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


def table_rec_b8_robust_mnist(inputs: Inputs) -> pd.DataFrame:
    """The same of all networks of the published protocol."""
    return table_rec_b8_robust_digits(inputs)


def draw_rec_b8_robust_mnist(table: pd.DataFrame, published: pd.DataFrame) -> Figure:
    """The same of more networks."""
    return draw_rec_b8_robust_digits(table, published)


# ======================================================================================
# The filter


def table_rec_b9_filter(inputs: Inputs) -> pd.DataFrame:
    """Distances by problem, n and repetition, without and with the ε-Pareto filter."""
    rows = _probe(inputs, "fronts")
    words = rows["filtered"].map({0.0: "as it is", 1.0: "filtered"})
    return tidy(inputs, "distances", rows, _front_name(rows) + ", " + words)


def draw_rec_b9_filter(table: pd.DataFrame, published: pd.DataFrame) -> Figure:
    """Distances without and with the filter on each problem."""
    problems = ["counterexample", "flat", "slope", "gaussian"]
    figure, grid, below = _with_legend(2, 2, figsize=(8, 7), height=0.14)
    for ax, problem in zip(grid.ravel(), problems, strict=True):
        rows = table[table["problem"] == problem]
        what = PROBLEMS[problem]
        for column, variant in [("m", "m"), ("slope", "s")]:
            # The case in which the empirical front is worst.
            if problem == {"m": "counterexample", "slope": "slope"}[column]:
                worst = rows[column].max() if column == "m" else rows[column].min()
                rows = rows[rows[column] == worst]
                what += f", {variant} = {worst:g}"
        means = rows.groupby(["filtered", "n"])[[*DISTANCES]].mean()
        for filtered, style in [(0, "-"), (1, "--")]:
            own = means.loc[filtered] if filtered in means.index else means.iloc[:0].droplevel(0)
            for name, label in DISTANCES.items():
                ax.plot(
                    own.index, own[name], linestyle=style, color=DISTANCE_COLOURS[name],
                    marker="os"[filtered], mfc="none" if filtered else None,
                    label=label + (", filtered" if filtered else ""),
                )  # fmt: skip
        _bound(ax, rows, "n", "two_c", "2C")
        ax.set(xscale="log", xlabel="samples n", title=what, ylabel="mean distance of the fronts")
        drawn = np.append(means.to_numpy(), rows["two_c"])
        positive = drawn[drawn > 0]
        if len(positive):
            # Logarithmic above the smallest number, with a place for 0.
            ax.set_yscale("symlog", linthresh=positive.min(), linscale=0.5)
            ax.set_ylim(-0.1 * positive.min(), None)
    below(grid[0, 0], 2)
    _setting(figure, table)
    return figure


# ======================================================================================
# Claims


def claim_c1(tables: Tables) -> Verdict:
    """R1: all objectives and hypotheses at once."""
    table = tables["rec_b1_uniform"]
    rows = table[table["panel"].isin(["samples", "objectives"]) & (table["objective"] == "all")]
    _known(rows, "violated", "max_dev", bound="bound")
    detail = f"the largest deviation is {_used(rows['max_dev'] / rows['bound'])} of C"
    many = rows[rows["panel"] == "objectives"]
    if many["n_obj"].nunique() < 2:
        raise Undecided("a single number of objectives shows no price of N")
    observed, bound = _growth(many)
    detail += f"; with N it grows by {observed:.3f} (95 % quantile), and C by {bound:.3f}"
    return _bound_verdict({"": rows}, CASE, detail)


def claim_c2(tables: Tables) -> Verdict:
    """R1 for estimators that are no means."""
    table = tables["rec_b2_estimators"]
    parts, listed = {}, []
    for estimator in ESTIMATORS:
        name = OBJECTIVES[estimator]
        rows = some(table[table["panel"] == estimator], f"estimate of the {name}")
        _known(rows, "max_dev", "violated", bound="bound")
        parts[name] = rows
        # How much of the bound is used where it says something.
        cut = rows[rows["bound"] < 1]
        listed.append(f"{name} {_used(cut['max_dev'] / cut['bound'])}")
    detail = "the largest deviation in parts of C, where C is below 1: " + "; ".join(listed)
    return _bound_verdict(parts, ["share", "n"], detail)


def claim_c3(tables: Tables) -> Verdict:
    """R2: all scalarizations with one C."""
    table = tables["rec_b3_scalarizations"]
    _known(table, "max_ratio")
    some(table[table["max_ratio"] > 0], "gap above 0")
    # A sample is violated where any of its scalarizations is.
    keys = ["problem", "n", "seed", "delta"]
    drawn = table[table["family"] != "any"]
    rows = table[table["family"] == "any"].set_index(keys)["max_ratio"].to_frame("exact")
    rows = finite(rows.join(drawn.groupby(keys)["max_ratio"].max()), "gap of a sample")
    rows["violated"] = (rows.max(axis=1) > 1 + ROUNDING).astype(float)
    above = int((rows["max_ratio"] > rows["exact"] + ROUNDING).sum())
    by_count = drawn.groupby("S")["max_ratio"].max()
    listed = ", ".join(f"{ratio:.2f} for S = {S}" for S, ratio in by_count.items())
    detail = (
        f"largest |U(L) - U(L̂)| / U(C) of the first S of a family: {listed}, and of all (exact) "
        f"{_used(rows['exact'])}; above that of all in {above} of {len(rows)} samples"
    )
    return _bound_verdict({"": rows.reset_index()}, ["problem", "n"], detail, impossible=above)


def claim_c4(tables: Tables) -> Verdict:
    """R3: excess of the minimisers of scalarizations."""
    table = tables["rec_b4_excess"]
    _known(table, "excess", bound="bound")
    above = table.assign(violated=(table["excess"] > table["bound"] + ROUNDING).astype(float))
    # Of a sample all weights and families hold together.
    keys = ["problem", "n", "seed"]
    rows = above.groupby([*keys, "delta"], as_index=False)["violated"].max()
    # Whether all deviations of the same sample are within C: then none may be violated.
    bounds = tables["rec_b1_uniform"].query("panel == 'samples' and objective == 'all'")
    event = bounds.rename(columns={"violated": "outside"})[[*keys, "outside"]]
    rows = rows.merge(event, on=keys, how="left")
    finite(rows["outside"], "deviation of the same sample")
    names = table["problem"].map(PROBLEMS) + " " + table["series"]
    slopes, others = _slopes_of(
        table.assign(series=names).groupby(["series", "n"], sort=False)["excess"].quantile(QUANTILE)
    )
    within = rows[rows["outside"] == 0]
    impossible = int(within["violated"].sum())
    detail = (
        f"the excess is {_used(table['excess'] / table['bound'])} of 2U(C); log-log slopes of its "
        f"95 % quantile with n: {_listed(slopes, others)}; above 2U(C) in {impossible} of the "
        f"{len(within)} samples with all deviations within C"
    )
    return _bound_verdict({"": rows}, ["problem", "n"], detail, impossible=impossible)


def claim_c5(tables: Tables) -> Verdict:
    """R4: every truly Pareto-optimal hypothesis has an empirical one near it."""
    rows = _front_distances(tables)
    _known(rows, "violation", "e_fwd", "event", bound="two_c")
    rows = rows.assign(violated=(rows["violation"] > ROUNDING).astype(float))
    slopes, others = _slopes_of(rows.groupby(["series", "n"], sort=False)["e_fwd"].mean())
    within = rows[rows["event"] == 1]
    impossible = int(within["violated"].sum())
    detail = (
        f"e→ is {_used(rows['e_fwd'] / rows['two_c'])} of 2C; log-log slopes of its mean with n: "
        f"{_listed(slopes, others)}; farther than 2C_i in an objective i in {impossible} of the "
        f"{len(within)} samples with all deviations within C"
    )
    return _bound_verdict({"": rows}, ["series", "n"], detail, impossible=impossible)


def claim_c6(tables: Tables) -> Verdict:
    """R5: but not vice versa."""
    observed = tables["rec_b6_counterexample"].query("panel == 'observed'")
    finite(observed[["p_hat", "p_exact"]], "share of samples with a bad front")
    counts = (observed["p_hat"] * observed["repeats"]).round()
    tails = [
        stats.binom.cdf(counts, observed["repeats"], observed["p_exact"]),
        stats.binom.sf(counts - 1, observed["repeats"], observed["p_exact"]),
    ]
    off = min(1.0, len(observed) * 2 * float(np.min(tails)))
    last = observed[observed["n"] == observed["n"].max()]
    rest = (last["p_exact"] - last["m"] / (last["m"] + 1)).abs().max()
    listed = ", ".join(f"{row.p_hat:.4f} for m = {row.m:.0f}" for row in last.itertuples())
    rows = _front_distances(tables)
    flat = rows[(rows["problem"] == "flat") | (rows["slope"] == 0)]
    _known(flat, "e_fwd", "e_bwd", bound="two_c")
    far, near, words = [], [], []
    for series, own in flat.groupby("series", sort=False):
        final = own[own["n"] == own["n"].max()]
        two_c = final["two_c"].max()
        if two_c >= STALLED:
            raise Undecided(f"2C is {two_c:.2f} on {series}, and e← stays at {STALLED:g}")
        count = int((final["e_bwd"] > final["two_c"]).sum())
        delta = final["delta"].iloc[0]
        far.append(float(stats.binom.sf(count - 1, len(final), delta)))
        near.append(float(stats.binom.cdf(count, len(final), delta)))
        quantiles = own.groupby("n")[["e_fwd", "e_bwd"]].quantile(0.9)
        first, end = quantiles.iloc[0], quantiles.iloc[-1]
        words.append(
            f"{series}: e← above 2C in {count} of {len(final)} samples of n = {own['n'].max()}, e→ "
            f"in {int((final['e_fwd'] > final['two_c']).sum())}; 90 % quantile of e← "
            f"{first['e_bwd']:.3f} to {end['e_bwd']:.3f}, of e→ {first['e_fwd']:.3f} to "
            f"{end['e_fwd']:.3f}"
        )
    detail = (
        f"P(bad) at n = {last['n'].iloc[0]}: {listed}; chance puts one of the {len(observed)} "
        f"counts as far from exact with {off:.2g}; " + "; ".join(words)
    )
    value = float(last["p_hat"].max())
    if {"flat", "slope"} - set(flat["problem"]) or observed["repeats"].min() < FEWEST_SHARE:
        return undecidable(f"too few flat problems or repetitions; {detail}", value=value)
    if off < CHANCE:
        return decide(False, value=value, detail=detail)
    if rest > 0.03:
        reason = f"at this n the exact P(bad) is {rest:.2f} from its limit m/(m+1): {detail}"
        return undecidable(reason, value=value)
    return by_chance(max(far), len(near) * min(near), value=value, detail=detail)


def claim_c7(tables: Tables) -> Verdict:
    """R6: every empirically Pareto-optimal hypothesis is weakly 2C-optimal."""
    rows = _front_distances(tables)
    _known(rows, "weak_violation", "event", bound="two_c")
    rows = rows.assign(violated=(rows["weak_violation"] > ROUNDING).astype(float))
    within = rows[rows["event"] == 1]
    impossible = int(within["violated"].sum())
    detail = (
        f"violated in {impossible} of the {len(within)} samples with all deviations within C, "
        "where R6 follows from R1"
    )
    return _bound_verdict({"": rows}, ["series", "n"], detail, impossible=impossible)


def claim_c8(tables: Tables) -> Verdict:
    """R7: without a flat part the empirical front converges from both sides."""
    rows = _front_distances(tables)
    if (fewest := rows.groupby(["series", "n"]).size().min()) < FEWEST:
        raise Undecided(f"{fewest} samples of a case are too few for an interval")
    ladder = rows[rows["problem"] == "slope"]
    parts = {
        PROBLEMS["convex"]: (rows[rows["problem"] == "convex"], -np.inf, -0.25),
        f"{PROBLEMS['slope']}, s = 0.1, n ≥ 1024": (
            ladder[(ladder["slope"] == 0.1) & (ladder["n"] >= 2**10)], -np.inf, -0.4,
        ),
        f"{PROBLEMS['slope']}, s = 0": (ladder[ladder["slope"] == 0], -0.05, np.inf),
    }  # fmt: skip
    inside, opposite, listed, slopes = [], [], [], []
    for name, (own, least, most) in parts.items():
        _known(some(own, f"samples of {name}"), "e_bwd")
        slope, drawn = _slope_draws(own, "e_bwd")
        low, high = finite(np.quantile(drawn, [0.025, 0.975]), f"slope on {name}")
        slopes.append(slope)
        inside.append(least <= low and high <= most)
        opposite.append(2 * min((drawn >= least).mean(), (drawn <= most).mean()))
        listed.append(f"{slope:.2f} ({low:.2f} to {high:.2f}) on {name}")
    last = ladder[ladder["n"] == ladder["n"].max()]
    by_slope = last.pivot(index="seed", columns="slope", values="e_bwd")
    falls, rises = (trend(by_slope, falls=falls) for falls in (True, False))
    means = ", ".join(f"{value:.3f} for s = {s:g}" for s, value in by_slope.mean().items())
    detail = (
        f"log-log slopes of the mean of e← (95 % of bootstraps): {'; '.join(listed)}; mean at "
        f"n = {last['n'].max()}: {means}, which chance orders so with {falls:.2g}"
    )
    # Any of the intervals and the order refutes, so that each look counts.
    if (1 + len(opposite)) * min(*opposite, rises) < CHANCE:
        return decide(False, value=slopes[0], detail=detail)
    if not all(inside) or falls >= CHANCE:
        reason = f"an interval holds its limit, or the order may be chance: {detail}"
        return undecidable(reason, value=slopes[0])
    return decide(True, value=slopes[0], detail=detail)


def claim_c9(tables: Tables) -> Verdict:
    """Corollary A.1 of Wegel et al.: samples that are needed grow with log N."""
    sizes = tables["rec_b1_uniform"].query("panel == 'sizes'")
    needed = finite(sizes.pivot(index="seed", columns="n_obj", values="needed"), "sample size")
    if needed.shape[1] < 4:
        raise Undecided(f"{needed.shape[1]} numbers of objectives tell no law from another")
    N = needed.columns.to_numpy(float)
    squares = _law_errors(needed)
    rivals = squares.drop(columns="log N").min(axis=1)
    mean = needed.mean()
    slope = _line_fit(np.log(N), mean.to_numpy())[0]
    nearest = squares["log N"] < rivals
    rises = (needed.diff(axis=1).iloc[:, 1:] >= 0).all(axis=1) & (
        needed.iloc[:, -1] > needed.iloc[:, 0]
    )
    fits = ", ".join(
        f"{law} {_line_fit(growth(N), mean.to_numpy())[2]:.4f}" for law, growth in LAWS.items()
    )
    first = sizes.iloc[0]
    bound = np.log(2 * first["hypotheses"] * N / first["delta"]) / (2 * first["tolerance"] ** 2)
    listed = ", ".join(f"{value:.0f} for N = {n:.0f}" for n, value in mean.items())
    detail = (
        f"n* = {listed} (means of {len(needed)} draws of the problem; exact, in steps of 5); "
        f"{slope:.0f} samples more a unit of log N; the bound asks for {bound[0]:.0f} to "
        f"{bound[-1]:.0f}, {1 / (2 * first['tolerance'] ** 2):.0f} a unit; R² of a line in {fits}; "
        f"a line in log N leaves the smallest squares in {nearest.sum()} of {len(needed)} draws"
    )
    return decide(bool(nearest.all() and rises.all()), value=slope, detail=detail)


# ======================================================================================
# Helpers of claims


def _front_distances(tables: Tables) -> pd.DataFrame:
    """Distances of fronts, a row a sample.

    Raises:
        Undecided: a problem is missing.
    """
    table = tables["rec_b5_fronts"]
    rows = table[table["panel"] == "distances"]
    if absent := {"gaussian", "convex", "flat", "slope"} - set(rows["problem"]):
        raise Undecided(
            "no fronts of " + ", ".join(PROBLEMS[problem] for problem in sorted(absent))
        )
    return rows


def _bound_verdict(
    parts: dict[str, pd.DataFrame], keys: list[str], detail: str, impossible: int = 0
) -> Verdict:
    """Whether a bound of confidence δ is violated in a share of samples above or below δ.

    It is refuted where one case has more violated samples than chance shows at a share of δ
    (binomial test, below 5 % over all cases together, after Bonferroni), or where a sample is
    violated that cannot be. It holds where each part has so few of all its samples violated that a
    share above δ would show them in less than 5 %: with 59 samples and more, none of them violated.

    Args:
        parts: statements that hold one by one; of each a row a sample with `violated` and `delta`.
        keys: columns that tell cases apart.
        detail: what else there is to say.
        impossible: samples that are violated although all deviations are within C.
    """
    many, few, counts, violated, cases = [], [], [], [], 0
    for rows in parts.values():
        delta = rows["delta"].iloc[0]
        own = rows.groupby(keys)["violated"].agg(["sum", "size"])
        many.append(float(stats.binom.sf(own["sum"] - 1, own["size"], delta).min()))
        violated.append(int(own["sum"].sum()))
        counts.append(int(own["size"].sum()))
        few.append(float(stats.binom.cdf(violated[-1], counts[-1], delta)))
        cases += len(own)
    refuted = 0.0 if impossible else min(1.0, cases * min(many))
    listed = ", ".join(
        f"{k} of {n} samples" + (f" ({name})" if name else "")
        for name, k, n in zip(parts, violated, counts, strict=True)
    )
    detail = f"violated in {listed}, {cases} cases; {detail}"
    # One case in which it is violated too often is not made good by the others.
    holds = 1.0 if refuted < CHANCE else max(few)
    value = max(k / n for k, n in zip(violated, counts, strict=True))
    return by_chance(holds, refuted, value=value, detail=detail)


def _used(ratio: pd.Series) -> str:
    """How much of a bound is used, in words."""
    return f"at most {ratio.max():.2f} (95 % of samples: {ratio.quantile(QUANTILE):.2f})"


def _slope_draws(rows: pd.DataFrame, column: str) -> tuple[float, np.ndarray]:
    """Log-log slope of the mean by n, and those of bootstraps over samples; NaN of a single n."""
    values = [own[column].to_numpy() for _, own in rows.groupby("n")]
    log_n = np.log(sorted(rows["n"].unique()))
    if len(log_n) < 2:
        return np.nan, np.full(BOOTSTRAPS, np.nan)
    stream = np.random.default_rng(0)
    means = np.stack([
        np.concatenate([[own.mean()], stream.choice(own, (BOOTSTRAPS, len(own))).mean(1)])
        for own in values
    ])  # fmt: skip
    with np.errstate(divide="ignore"):
        logs = np.log(means)
    centred = log_n - log_n.mean()
    slopes = centred @ logs / (centred**2).sum()
    return float(slopes[0]), slopes[1:]


def _law_errors(needed: pd.DataFrame) -> pd.DataFrame:
    """Σ of squares that a line in each law of N leaves of the sample sizes, a row a problem."""
    N = needed.columns.to_numpy(float)
    found = {}
    for law, growth in LAWS.items():
        X = np.stack([np.ones(len(N)), growth(N)], 1)
        fit = needed.to_numpy(float) @ X @ np.linalg.inv(X.T @ X) @ X.T
        found[law] = ((needed - fit) ** 2).sum(axis=1)
    return pd.DataFrame(found)


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
    """Name of a problem with its slope or number of ties."""
    names = rows["problem"].map(PROBLEMS)
    for column, problem, letter in [("slope", "slope", "s"), ("m", "counterexample", "m")]:
        if column in rows:
            words = f", {letter} = " + rows[column].map("{:g}".format)
            names = names.where(rows["problem"] != problem, names + words)
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
    drawing.band(
        ax,
        rows,
        x,
        "max_dev",
        log=log,
        color=FORWARD,
        marker="o",
        label="mean ± 1 standard deviation",
    )
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
    """Means of e_→ and e_←, each with a band between two quantiles."""
    for name, label in DISTANCES.items():
        grouped = rows.groupby("n")[name]
        mean, low, high = grouped.mean(), grouped.quantile(0.1), grouped.quantile(0.9)
        (line,) = ax.plot(
            mean.index, mean.where(mean > 0), color=DISTANCE_COLOURS[name],
            marker="o" if name == "e_fwd" else "s", label=label,
        )  # fmt: skip
        # A quantile of 0 is below any logarithmic axis.
        low = low.where(low > 0, mean)
        ax.fill_between(mean.index, low, high, color=line.get_color(), alpha=0.2, linewidth=0)


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


def _dot(widths: pd.Series | list[int]) -> np.ndarray:
    """Areas of the markers of networks, in square points."""
    return 4 + 0.7 * np.asarray(widths, dtype=float)


def _networks(ax: Axes, networks: pd.DataFrame, y: str) -> None:
    """Networks by error and another risk: colour by penalty, marker by attack, size by width."""
    fairness = sorted(networks["fairness"].unique())
    attacks = sorted(networks["adversarial"].unique())
    for i, penalty in enumerate(fairness):
        for j, radius in enumerate(attacks):
            rows = networks[(networks["fairness"] == penalty) & (networks["adversarial"] == radius)]
            ax.scatter(
                rows["clean_err"], rows[y], s=_dot(rows["width"]), marker=drawing.MARKERS[j],
                color=drawing.ordered_colours(len(fairness) + 1)[i], alpha=0.8,
                label=f"fairness penalty {penalty:g}, attack {radius:g}", linewidths=0,
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


def _with_legend(
    rows: int, columns: int, figsize: tuple[float, float], height: float = 0.14
) -> tuple[Figure, np.ndarray, Callable[..., None]]:
    """A figure with rows x columns panels, at least one row, and a place for a legend below.

    Args:
        figsize: in inches.
        height: of the legend, in those of a panel.

    Returns:
        The figure, its axes as a matrix, and a function that writes the legend of one or several
        panels in so many columns.
    """
    rows = max(rows, 1)
    figure, axes = plt.subplots(
        rows + 1, columns, squeeze=False, figsize=figsize, height_ratios=[1.0] * rows + [height]
    )
    for ax in axes[-1]:
        ax.remove()
    place = figure.add_subplot(axes[0, 0].get_gridspec()[-1, :])
    place.axis("off")

    def below(panels: Axes | list[Axes], ncols: int) -> None:
        entries = {
            label: handle
            for ax in (panels if isinstance(panels, list) else [panels])
            for handle, label in zip(*ax.get_legend_handles_labels(), strict=True)
        }
        place.legend(entries.values(), entries.keys(), loc="center", ncols=ncols)

    return figure, axes[:-1], below


def _plain_ticks(ax: Axes, values: list[int]) -> None:
    """Ticks at these numbers, as they are."""
    ax.set_xticks(values, [str(value) for value in values])
    ax.minorticks_off()


def _setting(figure: Figure, table: pd.DataFrame, more: str = "") -> None:
    """Repetitions and δ above the panels, and more words."""
    repeats = "repeats" if "repeats" in table and table["repeats"].notna().any() else "seed"
    own = table[repeats].max() if repeats == "repeats" else None
    counts = table.groupby("problem")["seed"].nunique() if own is None else pd.Series([own])
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


def _known(rows: pd.DataFrame, *columns: str, bound: str | None = None) -> None:
    """Check that some columns hold numbers throughout, and that their bound is above 0.

    Raises:
        Undecided: where they do not: what is NaN violates no bound.
    """
    for column in columns:
        finite(rows[column], f"value of {column}")
    if bound:
        finite(rows[bound].where(rows[bound] > 0), f"positive {bound}")
