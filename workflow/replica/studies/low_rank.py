"""Neural Collapse versus Low-rank Bias: Is Deep Neural Collapse Really Optimal?

Súkeník, Mondelli, Lampert; NeurIPS 2024; arXiv 2405.14468. The captions of Figs. 1, 2, 3, 5 and 6
are known; the paper's own definition of the SRG solution is not, so SRG0 and SRGopt are ours.
"""

from collections.abc import Mapping
from itertools import product

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from scipy.stats import t as student

from replica import drawing
from replica.measures.inputs import Inputs, last_step, tidy
from replica.measures.outcomes import (
    ENDS,
    RANKS_RULE,
    RUN,
    SETTLED,
    SETTLED_RULE,
    not_calm,
    outcomes,
)
from replica.measures.trends import more_often, spearman, wilson_interval
from replica.theory import dnc, srg
from replica.verdicts import (
    Verdict,
    by_chance,
    coin,
    decide,
    finite,
    settled,
    some,
    trend,
    undecidable,
)

Tables = Mapping[str, pd.DataFrame]
# Of fewer runs that are all alike chance shows as much in more than 5 % of cases.
FEWEST = 5
# Within / between-class variability below which, and below so much of its start, classes collapse.
COLLAPSED = 1e-4
# Ends of runs that say nothing of the rank of a solution
LEFT_OUT = ["zero", "bad_minimum", "diverged"]
DRAWN_MATRICES = ["M_3 of SRG", "M_4 of SRG before the ReLU", "Gram of M_4 of SRG",
                  "Gram of M_4 of DNC"]  # fmt: skip

# ======================================================================================
# Figure 1: the matrices of the SRG and DNC solutions, L = 4, K = 10, r = 5


def table_fig1_srg_matrices(inputs: Inputs) -> pd.DataFrame:
    """Entries of M_3 and M_4 of SRG0, M_4 after the ReLU, the Gram matrices, and DNC's.

    Each matrix is the solution at n = 1, λ = .004, cut to its non-zero rows (`index`, `index2`).
    """
    r, n, lam = 5, 1, 0.004
    K = srg.classes(r)
    H1, Ws = srg.srg0_matrices(r, n, K, lam, [lam] * 4)
    _, _, M3, M4, _ = srg.class_means(H1, Ws, n)
    D1, Vs = dnc.dnc_matrices(K, n, K, lam, [lam] * 4)
    _, _, D3, D4, _ = srg.class_means(D1, Vs, n)
    matrices = {
        "M_3 of SRG": M3[:r],
        "M_4 of SRG before the ReLU": M4,
        "Gram of M_4 of SRG": M4.T @ M4,
        "Gram of M_4 of DNC": D4.T @ D4,
        "M_4 of SRG after the ReLU": np.maximum(M4, 0),
        "M_3 of DNC": D3,
    }
    parts = []
    for name, values in matrices.items():
        rows, columns = np.indices(values.shape).reshape(2, -1)
        frame = {"index": rows, "index2": columns, "value": values.ravel()}
        settings = {"K": K, "L": 4, "n": n, "lambda_w": lam, "lambda_h": lam, "seed": -1}
        parts.append(tidy(inputs, name, pd.DataFrame(frame).assign(**settings), "matrix"))
    return pd.concat(parts, ignore_index=True)


def draw_fig1_srg_matrices(table: pd.DataFrame, published: pd.DataFrame) -> Figure:
    """The four images of the paper's figure."""
    figure, axes = plt.subplots(1, 4, figsize=(12, 2.9))
    for ax, name in zip(axes, DRAWN_MATRICES, strict=True):
        drawing.matrix(ax, _matrix(table[table["panel"] == name]), name)
        ax.set(xlabel="class", ylabel="row" if name.startswith("M_") else "class")
    drawing.settings_line(figure, "L = 4, K = 10, r = 5, n = 1, λ = 0.004; SRG is SRG0 (ours)")
    return figure


# ======================================================================================
# Figure 2, top: the 4-DUFM with ten classes


def table_fig2_top_dufm_k10(inputs: Inputs) -> pd.DataFrame:
    """Loss, DNC1 and spectra of the runs, their outcomes, and the three closed forms."""
    return _loss_dnc1_spectra(inputs)


def draw_fig2_top_dufm_k10(table: pd.DataFrame, published: pd.DataFrame) -> Figure:
    """Loss, DNC1 and singular values; a second row repeats loss and spectra at n = 1."""
    runs = list(table["run"].unique())
    figure, axes = plt.subplots(len(runs), 3, figsize=(11, 2.9 * len(runs)), squeeze=False)
    for row, run in zip(axes, runs, strict=True):
        part = table[table["run"] == run]
        _draw_loss(row[0], part)
        row[0].set_title(f"training loss, n = {part['n'].iloc[0]}")
        if part["n"].iloc[0] > 1:
            _draw_dnc1(row[1], part)
        else:
            row[1].axis("off")
            words = "DNC1 says nothing at n = 1:\nthere is no variability within a class"
            row[1].text(0.5, 0.5, words, ha="center", va="center", color="0.4")
        _draw_spectra(row[2], part)
    drawing.settings_line(figure, _settings(table))
    return figure


# ======================================================================================
# Figure 2, bottom: a network with a four-layer head


def table_fig2_bottom_resnet_cifar10(inputs: Inputs) -> pd.DataFrame:
    """The same rows as for Figure 2, top."""
    return _loss_dnc1_spectra(inputs)


def draw_fig2_bottom_resnet_cifar10(table: pd.DataFrame, published: pd.DataFrame) -> Figure:
    """Loss, DNC1 and singular values of the head's layers."""
    figure, axes = plt.subplots(1, 3, figsize=(11, 3.2))
    _draw_loss(axes[0], table)
    axes[0].set_title(f"training loss with penalties, {drawing.all_of(table['dataset'])}")
    _draw_dnc1(axes[1], table)
    _draw_spectra(axes[2], table)
    drawing.settings_line(figure, _settings(table))
    return figure


# ======================================================================================
# Figure 3, left: L_SRG / L_DNC


def table_fig3_left_loss_ratio(inputs: Inputs) -> pd.DataFrame:
    """Loss ratios of SRG0 and SRGopt and the cost ratio ρ, for r = 4..12 and L = 3, 4, 5.

    λ is 2 % and 20 % of the collapse threshold of each (K, L), at n = 1: at one λ for all, L_DNC
    would saturate at ½ for many classes.
    """
    rows = []
    for L in (3, 4, 5):
        for r in range(4, 13):
            K = srg.classes(r)
            rows.append({"r": r, "K": K, "L": L, "variant": "rho", "ratio": srg.cost_ratio(r, L)})
            for fraction in (0.02, 0.2):
                lam = fraction * dnc.equal_lambda_threshold(K, L, 1)
                reference = dnc.dnc_optimum(K, 1, lam, [lam] * L).loss
                losses = {
                    "SRG0": srg.srg0_optimum(r, 1, lam, [lam] * L).loss,
                    "SRGopt": srg.srgopt_optimum(r, 1, lam, [lam] * L).loss,
                }
                for variant, loss in losses.items():
                    row = {"r": r, "K": K, "L": L, "variant": variant, "lambda_w": lam}
                    rows.append(row | {"lambda_fraction": fraction, "ratio": loss / reference})
    frame = pd.DataFrame(rows).assign(seed=-1, n=1)
    return tidy(inputs, "ratio", frame, [f"L = {L}" for L in frame["L"]])


def draw_fig3_left_loss_ratio(table: pd.DataFrame, published: pd.DataFrame) -> Figure:
    """Ratio against r, one colour a depth; SRG0 dash-dotted, SRGopt dotted."""
    figure, axes = plt.subplots(1, 2, figsize=(9, 3.4), sharey=True)
    depths = sorted(table["L"].unique())
    for ax, fraction in zip(axes, (0.02, 0.2), strict=True):
        for position, (L, colour) in enumerate(
            zip(depths, drawing.ordered_colours(len(depths)), strict=True)
        ):
            for variant, key in [("SRG0", "srg0"), ("SRGopt", "srgopt")]:
                rows = table[(table["L"] == L) & (table["variant"] == variant)]
                rows = rows[rows["lambda_fraction"] == fraction]
                label = f"L = {L}, {drawing.LABELS[key]}"
                style = {"marker": drawing.MARKERS[position], "color": colour, "label": label}
                style["mfc"] = colour if variant == "SRG0" else "none"
                ax.plot(rows["r"], rows["ratio"], drawing.DASHES[key], **style)
        ax.axhline(1, color=drawing.COLOURS["dnc"], linestyle="--", linewidth=1, label="DNC")
        ax.set(xlabel="r,  K = r(r-1)/2 classes", title=f"λ = {fraction:.0%} of the threshold")
    axes[0].set_ylabel("L_SRG / L_DNC")
    handles = axes[0].get_legend_handles_labels()
    figure.legend(*handles, loc="outside right center", fontsize=6.5)
    drawing.settings_line(figure, "closed forms, n = 1, equal λ")
    return figure


# ======================================================================================
# Figure 3, middle: average rank against weight decay


def table_fig3_middle_rank_decay(inputs: Inputs) -> pd.DataFrame:
    """Mean of rank(M_l) over l = 2..L before the ReLU, by run; and the outcome of the run."""
    ended = _outcomes(inputs)
    ranks = last_step(inputs.measures)
    ranks = ranks[(ranks["metric"] == "rank_rel") & (ranks["relu"] == "pre") & ranks["layer"].ge(2)]
    mean = ranks.groupby(RUN, as_index=False)["value"].mean()
    rows = ended.merge(mean, on=RUN, how="left").assign(metric="rank_rel")
    rows["log2_lambda"] = np.log2(rows["lambda_w"])
    return tidy(inputs, "rank", rows, [f"K = {K}" for K in rows["K"]])


def draw_fig3_middle_rank_decay(table: pd.DataFrame, published: pd.DataFrame) -> Figure:
    """Average rank against log2 λ; and how much it falls within a seed, which decides the claim."""
    figure, axes = plt.subplots(1, 2, figsize=(10, 3.8))
    numbers = sorted(table["K"].unique())
    for position, (K, colour) in enumerate(
        zip(numbers, drawing.ordered_colours(len(numbers)), strict=True)
    ):
        rows = table[table["K"] == K]
        good = rows[~rows["status_run"].isin(LEFT_OUT)]
        mark = drawing.MARKERS[position]
        style = {"color": colour, "marker": mark}
        drawing.band(axes[0], good, "log2_lambda", "value", **style, label=f"K = {K}")
        moving = good[~good["ranks_settled"].astype(bool)]
        axes[0].plot(
            moving["log2_lambda"], moving["value"], mark, color=colour, mfc="white", ms=4,
            label="a seed whose ranks still change" if len(moving) else None,
        )  # fmt: skip
        rest = rows.drop(good.index)
        label = "zero or other minimum (left out)" if len(rest) else None
        axes[0].plot(rest["log2_lambda"], rest["value"], "x", color="0.5", label=label)
        ranks = _settled_ranks(rows).dropna()
        fall = ranks.rsub(ranks.iloc[:, 0], axis=0)
        error = student.ppf(0.975, max(len(fall) - 1, 1)) * fall.sem()
        label = f"K = {K}, {len(fall)} seeds that have settled at every λ"
        axes[1].errorbar(fall.columns, fall.mean(), yerr=error, capsize=3, **style, label=label)
    axes[0].set(ylabel="average rank of M_l, l = 2..L", title="all runs, mean and deviation")
    axes[1].set(ylabel="fall from the smallest λ", title="within a seed, mean and 95 % interval")
    axes[1].axhline(0, color="0.5", linewidth=0.8)
    for ax in axes:
        ax.set_xlabel("log2 λ")
        ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.2))
    drawing.settings_line(figure, _settings(table))
    return figure


# ======================================================================================
# Figure 3, right: probability of ending in DNC against the width


def table_fig3_right_dnc_probability(inputs: Inputs) -> pd.DataFrame:
    """Each run with its outcome (panel run), and the share of DNC by width with Wilson intervals.

    Runs that have not settled are in `n_runs`; they are not DNC.
    """
    ended = _outcomes(inputs)
    parts = [tidy(inputs, "run", ended, "run")]
    rows = []
    for width, runs in ended.groupby("width"):
        found = int((runs["status_run"] == "dnc").sum())
        low, high = wilson_interval(found, len(runs))
        unsettled = int((runs["status_run"] == "unconverged").sum())
        row = {"width": width, "n_runs": len(runs), "n_unconverged": unsettled, "seed": -1}
        rows.append(row | {"share": found / len(runs), "ci_low": low, "ci_high": high})
    parts.append(tidy(inputs, "probability", pd.DataFrame(rows), "P(DNC)"))
    return pd.concat(parts, ignore_index=True)


def draw_fig3_right_dnc_probability(table: pd.DataFrame, published: pd.DataFrame) -> Figure:
    """Share of DNC by width with 95 % Wilson intervals, and how all runs ended."""
    figure, axes = plt.subplots(1, 2, figsize=(9, 3.4))
    rows = table[table["panel"] == "probability"].sort_values("width")
    runs = table[table["panel"] == "run"]
    alike = rows["width"].isin(_alike(runs)["width"]) if len(runs) else rows["width"].notna()
    for part, style in [
        (rows[alike], {"label": "trained alike"}),
        (rows[~alike], {"label": "smaller steps and start", "linestyle": "none", "mfc": "none"}),
    ]:
        low, high = part["share"] - part["ci_low"], part["ci_high"] - part["share"]
        error = [low.clip(lower=0), high.clip(lower=0)]
        style = {"marker": "o", "capsize": 3, "color": drawing.COLOURS["loss"]} | style
        if len(part):
            axes[0].errorbar(part["width"], part["share"], yerr=error, **style)
    axes[0].set(xscale="log", xlabel="width d", ylabel="share of runs that end in DNC")
    axes[0].set_ylim(-0.03, 1.03)
    axes[0].legend(loc="upper center", bbox_to_anchor=(0.5, -0.2), ncols=2)
    counts = pd.crosstab(runs["width"], runs["status_run"])
    bottom = np.zeros(len(counts))
    position = np.arange(len(counts))
    hatches = ["", "//", "..", "xx", "--", "++"]
    for i, (name, colour) in enumerate(
        zip(counts, drawing.ordered_colours(counts.shape[1]), strict=True)
    ):
        label = ENDS[name]
        axes[1].bar(
            position,
            counts[name],
            bottom=bottom,
            color=colour,
            hatch=hatches[i],
            label=label,
            ec="w",
        )
        bottom += counts[name].to_numpy()
    axes[1].set_xticks(position, [f"{int(width)}" for width in counts.index])
    axes[1].set(xlabel="width d", ylabel="runs", title="how each run ended")
    axes[1].legend(loc="upper left", bbox_to_anchor=(1, 1))
    axes[0].set_xticks(rows["width"], [f"{int(width)}" for width in rows["width"]])
    axes[0].minorticks_off()
    drawing.settings_line(figure, _settings(runs))
    return figure


# ======================================================================================
# Figure 5: three, four and five classes


def table_fig5_small_k(inputs: Inputs) -> pd.DataFrame:
    """All runs' outcomes; of the best run of each K its loss by step and its matrices."""
    ended = _outcomes(inputs)
    parts = [tidy(inputs, "outcome", ended, "final loss")]
    for K, runs in ended.groupby("K"):
        best = _best(runs)[RUN]
        loss = inputs.histories.merge(best, on=RUN)
        parts.append(tidy(inputs, "loss", loss, loss["metric"].to_numpy()))
        final = last_step(inputs.measures).merge(best, on=RUN)
        means = final[(final["metric"] == "class_mean") & (final["relu"] == "pre")]
        for layer in (3, 4):
            rows = means[means["layer"] == layer]
            parts.append(tidy(inputs, f"M_{layer}", rows, f"K = {K}"))
        M3 = _matrix(means[means["layer"] == 3])
        gram = M3.T @ M3
        rows, columns = np.indices(gram.shape).reshape(2, -1)
        frame = pd.DataFrame({"index": rows, "index2": columns, "value": gram.ravel()})
        parts.append(
            tidy(inputs, "Gram of M_3", frame.assign(K=K, seed=best["seed"].max()), f"K = {K}")
        )
        ranks = final[(final["metric"] == "rank_rel")]
        parts.append(tidy(inputs, "rank", ranks, ranks["relu"].to_numpy()))
    return pd.concat(parts, ignore_index=True)


def draw_fig5_small_k(table: pd.DataFrame, published: pd.DataFrame) -> Figure:
    """A row per K: loss split into fit and penalty, M_3, M_4 and the Gram matrix of M_3."""
    numbers = sorted(table["K"].dropna().astype(int).unique())
    figure, axes = plt.subplots(
        len(numbers), 4, figsize=(12, 2.5 * len(numbers) + 0.5), squeeze=False
    )
    for row, K in zip(axes, numbers, strict=True):
        part = table[table["K"] == K]
        loss = part[part["panel"] == "loss"]
        for name in ("loss", "fit", "penalty"):
            rows = loss[loss["series"] == name]
            colour, dash = drawing.COLOURS[name], drawing.DASHES[name]
            row[0].plot(rows["step"], rows["value"], dash, color=colour, label=name)
        loss_dnc = part[part["panel"] == "outcome"]["loss_dnc"].max()
        drawing.reference_line(row[0], "dnc", loss_dnc)
        row[0].set(xscale="log", xlabel="steps", ylabel=f"loss, K = {K}")
        # What is below DNC is so by per cent: on a logarithmic axis it is not seen.
        row[0].set(ylim=(0, drawing.limit(1.3 * loss_dnc)))
        # Nor is anything seen before the loss comes into view.
        seen = loss[(loss["series"] == "loss") & (loss["value"] <= 1.3 * loss_dnc)]["step"].min()
        if seen > 0:
            row[0].set_xlim(left=max(1, seen / 10))
        end = loss[loss["series"] == "loss"].tail(1)
        for last in end.assign(ratio=end["value"] / loss_dnc).itertuples():
            where = f"best: width {last.width:.0f}, seed {last.seed}"
            row[0].set_title(f"{where}, {last.ratio:.4f} L_DNC")
        row[0].legend(loc="upper center", bbox_to_anchor=(0.5, -0.25), ncols=2, fontsize=6.5)
        for ax, panel in zip(row[1:], ("M_3", "M_4", "Gram of M_3"), strict=True):
            drawing.matrix(ax, _matrix(part[part["panel"] == panel]), panel)
            ax.set(xlabel="class", ylabel="class" if panel.startswith("Gram") else "unit")
    drawing.settings_line(figure, _settings(table[table["panel"] == "outcome"]))
    return figure


# ======================================================================================
# Figure 6: fifteen classes and seven layers


def table_fig6_k15_l7(inputs: Inputs) -> pd.DataFrame:
    """Outcomes of all runs; of the best one the spectra of all layers and the matrices."""
    ended = _outcomes(inputs)
    parts = [tidy(inputs, "outcome", ended, "final loss")]
    best = _best(ended)[RUN]
    final = last_step(inputs.measures).merge(best, on=RUN)
    spectra = final[final["metric"] == "singular_value"]
    names = [f"M_{l} {side}" for l, side in zip(spectra["layer"], spectra["relu"], strict=True)]
    parts.append(tidy(inputs, "spectrum", spectra, names))
    ranks = final[final["metric"] == "rank_rel"]
    parts.append(tidy(inputs, "rank", ranks, ranks["relu"].to_numpy()))
    means = final[(final["metric"] == "class_mean") & (final["relu"] == "pre")]
    for layer in (2, 6):
        parts.append(tidy(inputs, f"M_{layer}", means[means["layer"] == layer], "matrix"))
    M6 = _matrix(means[means["layer"] == 6])
    gram = M6.T @ M6
    rows, columns = np.indices(gram.shape).reshape(2, -1)
    frame = pd.DataFrame({"index": rows, "index2": columns, "value": gram.ravel()})
    frame = frame.assign(K=15, seed=best["seed"].max())
    parts.append(tidy(inputs, "Gram of M_6", frame, "matrix"))
    return pd.concat(parts, ignore_index=True)


def draw_fig6_k15_l7(table: pd.DataFrame, published: pd.DataFrame) -> Figure:
    """Singular values and images of M_2 and M_6, the Gram matrix, spectra around the ReLU."""
    figure, axes = plt.subplots(2, 3, figsize=(10.5, 5.6))
    spectrum = table[table["panel"] == "spectrum"]
    for ax, names in [(axes[0, 0], ["M_2 pre"]), (axes[1, 1], ["M_6 pre", "M_6 post"]),
                      (axes[1, 2], ["M_7 pre", "M_7 post"])]:  # fmt: skip
        for position, name in enumerate(names):
            rows = spectrum[spectrum["series"] == name]
            label = name.replace(" pre", "").replace(" post", " after the ReLU")
            # The two may coincide: the first is around the second.
            mark = {"marker": drawing.MARKERS[position], "ms": 9 - 5 * position}
            style = {"color": drawing.ordered_colours(3)[position], "mfc": "none"} | mark
            ax.plot(rows["index"], rows["value"], label=label, **style)
        ax.set(
            xlabel="index",
            ylabel="singular value",
            title=names[0].split()[0],
        )
        ax.set_ylim(0, None)
        ax.legend()
    for ax, panel in [(axes[0, 1], "M_2"), (axes[0, 2], "M_6"), (axes[1, 0], "Gram of M_6")]:
        drawing.matrix(ax, _matrix(table[table["panel"] == panel]), panel)
        ax.set(xlabel="class", ylabel="class" if panel.startswith("Gram") else "unit")
    runs = table[table["panel"] == "outcome"]
    best = f"best of {len(runs)}: loss {runs['final_loss'].min():.5f}, "
    best += f"L_DNC {runs['loss_dnc'].max():.5f}"
    drawing.settings_line(figure, f"{_settings(runs)}\n{best}")
    return figure


# ======================================================================================
# Claims


def claim_c1(tables: Tables) -> Verdict:
    """Gradient descent goes below DNC, more often than not, at every n."""
    runs = _ended(tables["fig2_top_dufm_k10"])
    ratio = runs["final_loss"] / runs["loss_dnc"]
    claimed, opposite, words = [], [], []
    for run, own in runs.groupby("run", sort=False):
        below = own["status_run"] == "below_dnc"
        # A run that still moves may yet fall below it.
        possible = below | (own["status_run"] == "unconverged")
        claimed.append(coin(below, "greater"))
        opposite.append(coin(possible, "less"))
        words.append(
            f"{run} (n = {own['n'].iloc[0]}): {below.sum()} of {len(own)} runs below DNC, best "
            f"{ratio[own.index].min():.4f} L_DNC"
        )
    detail = "; ".join(words) + "; the paper's share is not known"
    return by_chance(max(claimed), max(opposite), value=float(ratio.min()), detail=detail)


def claim_c2(tables: Tables) -> Verdict:
    """The runs below DNC collapse within classes."""
    table = tables["fig2_top_dufm_k10"]
    rows = some(table[table["panel"] == "dnc1"], "measured variability")
    runs = _below(table[table["run"] == rows["run"].iloc[0]])
    rows = rows.merge(runs[RUN], on=RUN)
    worst = rows.groupby(["step", "seed"])["value"].max(skipna=False).unstack().sort_index()
    worst = worst.reindex(columns=runs["seed"]).iloc[[0, -1]]
    start, end = finite(worst, "variability at the start and at the end").to_numpy()
    good = pd.Series((end < COLLAPSED) & (end < COLLAPSED * start), index=runs.index)
    # A run that still moves may yet collapse.
    moving = ~runs["change"].le(SETTLED)
    detail = (
        f"{good.sum()} of {len(good)} runs below DNC have collapsed, {(moving & ~good).sum()} "
        f"of the others still move; at most {end.max():.1e} at the end, at least "
        f"{start.min():.1e} at the start (n = {rows['n'].iloc[0]})"
    )
    claimed, opposite = _nearly_all(good), coin(good | moving, "less")
    return by_chance(claimed, opposite, value=float(end.max()), detail=detail)


def claim_c3(tables: Tables) -> Verdict:
    """Low rank before the last ReLU, full rank after it."""
    table = tables["fig2_top_dufm_k10"]
    below = _below(table)
    runs = settled(below, below["ranks_settled"], RANKS_RULE, least=FEWEST)
    ranks = table[table["panel"] == "rank"]
    good = _low_then_full(ranks.merge(runs[RUN], on=RUN), range(2, 5))
    moving = ranks.merge(below.drop(runs.index)[RUN], on=RUN)
    others = _low_then_full(moving, range(2, 5)) if len(moving) else good[:0]
    lowest = ranks.merge(runs[RUN], on=RUN)[lambda own: own["relu"] == "pre"]["value"].min()
    detail = (
        f"{good.sum()} of {len(good)} runs below DNC whose ranks have settled, smallest rank "
        f"{lowest:.0f} of 10; {others.sum()} of {len(others)} whose ranks still change"
    )
    value = float(good.mean())
    if len(good) < len(runs):
        return undecidable(f"not every rank is known: {detail}", value=value)
    return by_chance(_nearly_all(good), coin(good, "less"), value=value, detail=detail)


def claim_c4(tables: Tables) -> Verdict:
    """The same in a network with a four-layer head."""
    table = tables["fig2_bottom_resnet_cifar10"]
    runs = _ended(table).set_index(RUN)
    reference = runs["loss_dnc"].iloc[0]
    below = runs["final_loss"] < reference
    nc1 = last_step(table[table["panel"] == "dnc1"]).groupby(RUN)["value"].max(skipna=False)
    nc1 = nc1.reindex(runs.index)
    low = _low_then_full(table[table["panel"] == "rank"], range(2, 5)).reindex(runs.index)
    merged = int((runs["final_fit"] > 0.04).sum())
    detail = (
        f"{drawing.all_of(table['dataset'])}: {below.sum()} of {len(runs)} runs below L_DNC = "
        f"{reference:.5f} (losses {runs['final_loss'].min():.4f} to "
        f"{runs['final_loss'].max():.4f}, {merged} with merged classes); nc1_ratio <= "
        f"{nc1.max():.1e}; low then full rank in {low.eq(True).sum()} of {low.count()}"
    )
    value = float(runs["final_loss"].min())
    if why := not_calm(runs):
        return undecidable(f"{why}; {detail}", value=value)
    finite(nc1, "variability at the end")
    if low.isna().any():
        return undecidable(f"not every rank is known: {detail}", value=value)
    good = below & (nc1 < 0.05) & low.eq(True)
    claimed = coin(good, "greater") if good.all() else 1.0
    return by_chance(claimed, coin(good, "less"), value=value, detail=detail)


def claim_c5(tables: Tables) -> Verdict:
    """L_SRG / L_DNC falls with r and with L."""
    curves = _ratios(tables)
    failures, worst = [], {}
    for (variant, fraction), rows in curves.groupby(["variant", "lambda_fraction"]):
        grid = rows.pivot(index="r", columns="L", values="ratio")
        name = f"{variant} at {fraction:.0%}"
        failures += [
            f"{name}, L = {L}: not falling in r" for L in grid if (grid[L].diff() >= 0).any()
        ]
        if (grid.diff(axis=1) >= 0).any(axis=None):
            failures.append(f"{name}: not falling in L")
        deep = some(grid.loc[:, grid.columns >= 4], "loss ratio at L >= 4")
        if (deep >= 1).any(axis=None):
            failures.append(f"{name}: not below 1 at L >= 4")
        worst[name] = deep.max(axis=None)
    detail = "; ".join(failures) or "all curves fall in r and in L"
    detail += "; largest ratio at L >= 4: " + ", ".join(f"{k} {v:.3f}" for k, v in worst.items())
    return decide(not failures, value=max(worst.values()), detail=detail)


def claim_c6(tables: Tables) -> Verdict:
    """The average rank falls as weight decay grows."""
    table = tables["fig3_middle_rank_decay"]
    lines, claimed, opposite, values, few = [], [], [], [], False
    for K, rows in table.groupby("K"):
        kept = rows[~rows["status_run"].isin(LEFT_OUT)]
        still = ~kept["ranks_settled"].astype(bool)
        ranks = _settled_ranks(rows)
        whole = ranks.dropna()
        mean = ranks.mean()
        curve = ", ".join(f"{x:.0f}: {y:.1f}" for x, y in mean.items())
        lines.append(
            f"K = {K}: mean rank by log2 λ {curve}; {len(whole)} of {len(ranks)} seeds "
            f"have settled at every λ ({still.sum()} runs still change, "
            f"{len(rows) - len(kept)} left out)"
        )
        drop = whole.iloc[:, 0] - whole.iloc[:, -1]
        values.append(drop.mean() if len(drop) else 0.0)
        if len(whole) < max(FEWEST, len(ranks) / 2):
            few = True
            continue
        claimed.append(trend(whole, falls=True) if drop.mean() >= 0.5 else 1.0)
        opposite.append(trend(whole, falls=False))
    value, detail = float(np.mean(some(values, "run"))), "; ".join(lines)
    if few:
        return undecidable(f"too few runs have settled ({RANKS_RULE}): {detail}", value=value)
    return by_chance(max(claimed), max(opposite), value=value, detail=detail)


def claim_c7(tables: Tables) -> Verdict:
    """P(DNC) rises with the width."""
    table = tables["fig3_right_dnc_probability"]
    runs = _alike(some(table[table["panel"] == "run"], "runs"))
    found = runs["status_run"] == "dnc"
    # A run that still moves towards L_DNC from above, or diverged, is not known to miss it.
    moving = runs["status_run"].isin(["unconverged", "diverged"])
    shares, possible = (ends.groupby(runs["width"]).mean() for ends in (found, found | moving))
    narrow, wide = (runs["width"] == width for width in (shares.index[0], shares.index[-1]))
    rho = spearman(shares.index, shares) if len(shares) > 2 else np.nan
    # The least trend where, of each width, none or all of the moving runs end in DNC.
    choices = product(*({low, high} for low, high in zip(shares, possible, strict=True)))
    least = min(spearman(shares.index, choice) for choice in choices)
    rise = float(found[wide].mean() - (found | moving)[narrow].mean())
    listed = ", ".join(f"{width:.0f}: {share:.2f}" for width, share in shares.items())
    every = table[table["panel"] == "run"]
    others = every.drop(runs.index)
    also = (others["status_run"] == "dnc").groupby(others["width"]).mean()
    also = "".join(f", {width:.0f}: {share:.2f}" for width, share in also.items())
    detail = (
        f"share by width {listed}; {moving.sum()} of {len(runs)} runs have diverged or not settled"
    )
    if also:
        detail += f"; trained otherwise, and not counted{also}"
    claimed = more_often(found[wide], (found | moving)[narrow])
    opposite = more_often(found[narrow], (found | moving)[wide])
    if not (min(rho, least) >= 0.8 and rise >= 0.5):
        claimed = 1.0
    return by_chance(claimed, opposite, value=rho, detail=detail)


def claim_c8(tables: Tables) -> Verdict:
    """Low-rank solutions beat DNC for K = 3, 4, 5.

    One that is found shows that there are such solutions; that none is found shows nothing.
    """
    table = tables["fig5_small_k"]
    runs = _ended(table)
    lines, ok, ratios = [], True, []
    for K in (3, 4, 5):
        own = runs[runs["K"] == K]
        best = some(_best(own), f"run of K = {K} that came to its end").iloc[0]
        rank = table[(table["panel"] == "rank") & (table["K"] == K) & (table["layer"] == 3)]
        rank = int(finite(rank[rank["relu"] == "pre"]["value"], f"rank of M_3 at K = {K}").iloc[0])
        ratio = best["final_loss"] / best["loss_dnc"]
        ratios.append(ratio)
        still = bool(best["ranks_settled"])
        ok = ok and best["status_run"] == "below_dnc" and rank < K and still
        lines.append(
            f"K = {K}: best of {len(own)} at {ratio:.4f} L_DNC, width {int(best['width'])}, "
            f"rank(M_3) = {rank}{'' if still else ', still changing'}"
        )
    value, detail = float(np.max(ratios)), "; ".join(lines)
    if not ok:
        return undecidable(f"none was found for some K, which shows nothing: {detail}", value=value)
    return decide(True, value=value, detail=detail)


def claim_c9(tables: Tables) -> Verdict:
    """K = 15, L = 7: low rank from M_2 to M_6."""
    table = tables["fig6_k15_l7"]
    runs = _ended(table)
    best = _best(runs).iloc[0]
    ranks = table[table["panel"] == "rank"].set_index(["relu", "layer"])["value"]
    wanted = [*(("pre", l) for l in range(2, 7)), ("post", 7)]
    *inner, last = finite(ranks.reindex(wanted), "rank of M_2 to M_6 and σ(M_7)").astype(int)
    below = int((runs["status_run"] == "below_dnc").sum())
    value = float(best["final_loss"] / best["loss_dnc"])
    detail = (
        f"best loss {best['final_loss']:.5f}, L_DNC {best['loss_dnc']:.5f}; ranks of M_2..M_6 "
        f"{inner}, of σ(M_7) {last}; {below} of {len(runs)} runs below DNC"
    )
    if not best["ranks_settled"]:
        return undecidable(f"the best run has not settled ({RANKS_RULE}); {detail}", value=value)
    ok = best["status_run"] == "below_dnc" and max(inner) < 15 and last == 15
    if not ok and not best["change"] <= SETTLED:
        reason = f"the loss of the best run has not settled ({SETTLED_RULE}); {detail}"
        return undecidable(reason, value=value)
    return decide(bool(ok), value=value, detail=detail)


def claim_c10(tables: Tables) -> Verdict:
    """Exact algebra of the SRG solution for r = 5."""
    table = tables["fig1_srg_matrices"]

    def named(panel: str) -> np.ndarray:
        return finite(_matrix(table[table["panel"] == panel]), f"entry of {panel}")

    M3 = named("M_3 of SRG")
    entries = [row[np.abs(row) > 1e-12] for row in M3]
    counts = {len(row) for row in entries}
    equal = all(np.ptp(row) < 1e-12 for row in entries if len(row))
    before = np.linalg.matrix_rank(named("M_4 of SRG before the ReLU"))
    after = np.linalg.matrix_rank(named("M_4 of SRG after the ReLU"))
    collapse = np.linalg.matrix_rank(named("Gram of M_4 of DNC"))
    ok = counts == {4} and equal and (before, after, collapse) == (5, 10, 10)
    return decide(
        bool(ok),
        value=float(before),
        detail=f"non-zero entries a row {sorted(counts)}, equal: {equal}; rank of M_4 {before}, of "
        f"σ(M_4) {after}, of DNC {collapse}; on our SRG0",
    )


def claim_c11(tables: Tables) -> Verdict:
    """Beyond two layers or two classes DNC stops being optimal.

    A construction below L_DNC proves it for its L and K. One that is not proves nothing, for
    neither family is proven optimal.
    """
    curves = _ratios(tables)
    # At both λ, the better of the two constructions
    best = curves.groupby(["L", "r", "lambda_fraction"])["ratio"].min()
    best = best.groupby(["L", "r"]).max().unstack("L")
    some(best.columns[best.columns == 3], "loss ratio at L = 3")
    beaten = best < 1
    words = []
    for L in beaten:
        wins = [srg.classes(int(r)) for r in beaten.index[beaten[L]]]
        all_of_them = f"all {len(wins)} K, {wins[0]} to {wins[-1]}" if beaten[L].all() else wins
        words.append(f"L = {L}: {all_of_them}")
    detail = f"DNC is beaten at {'; '.join(words)}; K = 3, 4, 5 rest on trained runs (c8)"
    value = float(best.max(axis=None))
    if not beaten.all(axis=None):
        return undecidable(f"shown in part: {detail}", value=value)
    return decide(True, value=value, detail=detail)


# ======================================================================================
# Pieces that several figures share


def _outcomes(inputs: Inputs) -> pd.DataFrame:
    return outcomes(inputs.histories, inputs.measures).rename(columns={"outcome": "status_run"})


def _ended(table: pd.DataFrame) -> pd.DataFrame:
    """The outcomes of the runs of a figure, of which at least one came to its end."""
    runs = table[table["panel"] == "outcome"]
    some(_best(runs), "run that came to its end")
    return runs


def _below(table: pd.DataFrame) -> pd.DataFrame:
    """The outcomes of the runs of a figure that ended below DNC, of which a claim needs some."""
    runs = _ended(table)
    return some(runs[runs["status_run"] == "below_dnc"], "run below DNC")


def _nearly_all(good: pd.Series) -> float:
    """How often chance alone shows so many; 1 where it is true of fewer than nine runs in ten."""
    return coin(good, "greater") if good.mean() >= 0.9 else 1.0


def _alike(runs: pd.DataFrame) -> pd.DataFrame:
    """The runs that are trained as those of the smallest width: wide ones take smaller steps."""
    narrowest = runs.loc[runs["width"].idxmin()]
    return runs[runs["lr"] == narrowest["lr"]]


def _settled_ranks(rows: pd.DataFrame) -> pd.DataFrame:
    """Average ranks at one K by seed and log2 λ, NaN where a run has not settled or is left out."""
    kept = rows[~rows["status_run"].isin(LEFT_OUT) & rows["ranks_settled"].astype(bool)]
    ranks = kept.pivot(index="seed", columns="log2_lambda", values="value")
    columns = sorted(rows["log2_lambda"].unique())
    return ranks.reindex(index=sorted(rows["seed"].unique()), columns=columns)


def _best(runs: pd.DataFrame) -> pd.DataFrame:
    """The outcome with the least loss at the end; without rows where no run has one.

    With its penalties a loss is never 0.
    """
    ended = runs[(runs["status_run"] != "diverged") & (runs["final_loss"] > 0)]
    return ended.nsmallest(1, "final_loss")


def _ratios(tables: Tables) -> pd.DataFrame:
    """The ratios of the losses of two constructions, which are positive."""
    table = tables["fig3_left_loss_ratio"]
    curves = table[table["variant"] != "rho"]
    finite(curves["ratio"].where(curves["ratio"] > 0), "loss ratio")
    return curves


def _loss_dnc1_spectra(inputs: Inputs) -> pd.DataFrame:
    loss = inputs.histories
    parts = [tidy(inputs, "loss", loss, loss["metric"].to_numpy())]
    nc1 = inputs.measures[inputs.measures["metric"] == "nc1_ratio"]
    names = [f"layer {l} ({side})" for l, side in zip(nc1["layer"], nc1["relu"], strict=True)]
    parts.append(tidy(inputs, "dnc1", nc1, names))
    final = last_step(inputs.measures)
    for panel, metric in [("spectrum", "singular_value"), ("rank", "rank_rel")]:
        rows = final[final["metric"] == metric]
        names = [f"layer {l} ({side})" for l, side in zip(rows["layer"], rows["relu"], strict=True)]
        parts.append(tidy(inputs, panel, rows, names))
    ended = _outcomes(inputs)
    parts.append(tidy(inputs, "outcome", ended, "final loss"))
    columns = ["run", "K", "L", "n", "lambda_h", "lambda_w", "steps"]
    for row in ended.drop_duplicates("run")[columns].to_dict("records"):
        penalties = (row["n"], row["lambda_h"], [row["lambda_w"]] * row["L"])
        lines = {"dnc": dnc.dnc_optimum(row["K"], *penalties).loss}
        r = (1 + np.sqrt(1 + 8 * row["K"])) / 2
        if r == int(r):
            lines["srg0"] = srg.srg0_optimum(int(r), *penalties).loss
            lines["srgopt"] = srg.srgopt_optimum(int(r), *penalties).loss
        frame = pd.DataFrame([{**row, "seed": -1, "value": value} for value in lines.values()])
        parts.append(tidy(inputs, "reference", frame, list(lines)))
    return pd.concat(parts, ignore_index=True)


def _low_then_full(ranks: pd.DataFrame, layers: range) -> pd.Series:
    """By run whose ranks are all known: rank(M_l) < K in all layers, and rank(σ(M_L)) = K."""
    before = ranks["relu"].eq("pre") & ranks["layer"].isin(layers)
    after = ranks["relu"].eq("post") & ranks["layer"].eq(ranks["L"])
    right = before & (ranks["value"] < ranks["K"]) | after & (ranks["value"] == ranks["K"])
    asked = ranks.assign(right=right)[before | after].groupby(RUN)
    known = asked["value"].count() == len(layers) + 1
    return some(asked["right"].all()[known], "run of which the ranks are known")


def _matrix(rows: pd.DataFrame) -> np.ndarray:
    return rows.pivot(index="index", columns="index2", values="value").to_numpy()


def _draw_loss(ax: plt.Axes, part: pd.DataFrame) -> None:
    """The loss from where it comes near the closed forms, on a linear axis."""
    loss = part[(part["panel"] == "loss") & (part["series"] == "loss")]
    loss = loss[loss["step"] >= np.minimum(loss["steps"] / 30, 1000)]
    drawing.band(ax, loss, "step", "value", color=drawing.COLOURS["loss"], label="loss, mean")
    lines = part[part["panel"] == "reference"]
    for line in lines.itertuples():
        drawing.reference_line(ax, line.series, line.value)
    end = loss.loc[loss["step"] == loss["steps"], "value"]
    top = drawing.limit(np.nanmax([1.25 * lines["value"].max(), 1.1 * end.max(), 0.0]))
    low = drawing.limit(np.nanmin([0.95 * lines["value"].min(), 0.95 * end.min(), 1.0]))
    ax.set(xscale="log", xlabel="gradient steps", ylabel="loss", ylim=(low, top))
    ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.2), ncols=2, fontsize=6.5)


def _draw_dnc1(ax: plt.Axes, part: pd.DataFrame) -> None:
    rows = part[part["panel"] == "dnc1"]
    rows = rows[rows["relu"] == np.where(rows["layer"] >= 2, "post", "pre")]
    layers = sorted(rows["layer"].unique())
    for position, (layer, colour) in enumerate(
        zip(layers, drawing.ordered_colours(len(layers)), strict=True)
    ):
        dash, own = drawing.ordered_dash(position), rows[rows["layer"] == layer]
        label = f"l = {int(layer)}"
        drawing.band(ax, own, "step", "value", log=True, color=colour, linestyle=dash, label=label)
    ax.set(xscale="symlog", yscale="log", xlabel="gradient steps")
    ax.set_ylabel("within / between-class variability")
    ax.set_title("DNC1 by layer")
    ax.set_xlim(0, None)
    ax.legend()


def _draw_spectra(ax: plt.Axes, part: pd.DataFrame) -> None:
    rows = part[part["panel"] == "spectrum"]
    layers = [int(l) for l in sorted(rows["layer"].unique())]
    wanted = [*((l, "pre") for l in layers), *((l, "post") for l in layers[-1:])]
    for position, ((layer, side), colour) in enumerate(
        zip(wanted, [*drawing.ordered_colours(len(layers)), "0.5"], strict=False)
    ):
        own = rows[(rows["layer"] == layer) & (rows["relu"] == side)]
        label = f"M_{layer}" if side == "pre" else f"σ(M_{layer})"
        mark, dash = drawing.MARKERS[position], drawing.ordered_dash(position)
        drawing.band(
            ax, own, "index", "value", color=colour, marker=mark, linestyle=dash, label=label
        )
    ax.set(xlabel="index", ylabel="singular value", title="singular values at the end")
    ax.set_ylim(0, None)
    ax.legend()


def _settings(table: pd.DataFrame) -> str:
    runs = table.dropna(subset="status_run").drop_duplicates(RUN)
    names = {"K": "K", "L": "L", "n": "n", "width": "width", "lambda_w": "λ", "lr": "step size"}
    words = [f"{label} = {_values(runs[name])}" for name, label in names.items()]
    if not np.allclose(runs["lambda_w"], runs["lambda_h"]):
        words.append(f"λ_H1 = {_values(runs['lambda_h'])}")
    words.append(f"{_values(runs['steps'])} steps")
    counts = runs["status_run"].value_counts()
    ends = ", ".join(f"{counts[name]} {ENDS[name]}" for name in counts.index)
    return "; ".join(words) + f"; {len(runs)} runs: {ends}"


def _values(column: pd.Series) -> str:
    values = sorted(column.dropna().unique())
    shown = [f"{int(v)}" if v == int(v) else f"{v:.3g}" for v in values]
    return ", ".join(shown) if len(shown) <= 4 else f"{shown[0]} to {shown[-1]}"
