"""Sink vs. diagonal patterns as mechanisms for attention switch and oversmoothing prevention.

Súkeník, López Amado, Lampert, Mondelli; arXiv 2605.08453. Only the abstract is public: every figure
here is ours and tests its statements; none is a figure of the paper. Numbers drawn as grey markers
come from other papers, which their labels name. Definitions and derived statements D1 to D7 are in
docs/sinks.md.
"""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from replica import drawing
from replica.measures.inputs import Inputs, first_look, tidy
from replica.measures.trends import spearman
from replica.theory import sinks as theory
from replica.verdicts import Verdict, decide, finite, some, undecidable

Tables = Mapping[str, pd.DataFrame]

OURS = "reconstructed from the abstract; not a figure of the paper"
# Gu et al. 2025: the threshold of their rates.
EPSILON = 0.3
INPUTS = ["natural", "random", "repeated"]
ATTENTIONS = {
    "softmax": "softmax",
    "off_by_one": "softmax off by one",
    "clipped": "clipped softmax",
    "sink_logit": "learned sink logit",
    "key_bias": "key bias, value 0",
    "key_value_bias": "key and value bias",
    "sink_token": "learned sink token",
    "gated": "gated output",
    "sigmoid": "sigmoid",
    "elu": "elu + 1",
    "relu": "ReLU",
    "softpick": "softpick",
}
FORBIDDEN = {"self": "no diagonal", "first": "no first column", "both": "neither"}
CHANGES = {"sink": "exact sink", "off": "output 0", "diagonal": "diagonal", "top4": "4 largest"}
TYPES = ("sink", "diagonal", "previous", "mixed")
PATTERNS = ("sink", "diagonal")
WHOLE = ("step", "layer", "head", "text", "texts", "T", "n", "d", "position")


# ======================================================================================
# How often


def table_rec_c1_rates(inputs: Inputs) -> pd.DataFrame:
    """Panel heads: a head, input, length and threshold a row; panel rows: rows of TC."""
    heads = _probe(inputs, "rates")
    rows = _of_task(_probe(inputs, "rows"), "TC")
    return _panels(inputs, heads=(heads, _model(heads)), rows=(rows, _variant(rows)))


def draw_rec_c1_rates(table: pd.DataFrame, published: pd.DataFrame) -> Figure:
    """Rates and types by input, masses by length, rates by threshold, and the rows of TC."""
    figure, axes = plt.subplots(1, 5, figsize=(15.5, 3.6))
    heads = table[table["panel"] == "heads"]
    longest = heads[(heads["T"] == _standard_length(heads)) & (heads["eps"] == EPSILON)]
    own = _first_model(longest)
    _bars_by(axes[0], own, "input", {"sink_rate": "sink", "diag_rate": "diagonal"}, 100, INPUTS)
    others = longest.drop(own.index)
    for shift, column, name in [(-0.2, "sink_rate", "sink"), (0.2, "diag_rate", "diagonal")]:
        # Each other model is a point beside the bar of its input.
        means = others.groupby(["series", "input"], as_index=False)[column].mean()
        axes[0].plot(
            [INPUTS.index(kind) + shift for kind in means["input"]], 100 * means[column],
            linestyle="none", marker="x", markersize=3, color=drawing.COLOURS[name],
        )  # fmt: skip
    for position, name in enumerate(_named(published, "Sink_1^0.3 percent, ")):
        rows = published[published["series"] == f"Sink_1^0.3 percent, {name}"].set_index("x")
        axes[0].plot(
            [INPUTS.index(x) for x in rows.index], rows["y"], linestyle="none", mfc="none",
            color=drawing.COLOURS["published"], marker=drawing.MARKERS[position],
            label=f"{name} (Gu et al.)",
        )  # fmt: skip
    T = _standard_length(heads)
    axes[0].set(ylabel=f"share of heads, % (ε = {EPSILON}, T = {T})", xlabel="input")
    axes[0].legend(fontsize=6)
    natural = _first_model(heads[heads["input"] == "natural"])
    one = natural[natural["eps"] == EPSILON]
    for name, column in [("sink", "sink_mass"), ("diagonal", "delta")]:
        _line(axes[1], one, "T", column, name)
    lengths = np.array(sorted(one["T"].unique()))
    uniform = [theory.causal_uniform_diagonal(int(T)) for T in lengths]
    axes[1].plot(lengths, uniform, color="black", linestyle=":", label="uniform, either")
    axes[1].set(xlabel="length T", ylabel="mean weight, rows t ≥ 2", ylim=(0, None))
    axes[1].legend()
    last = natural[natural["T"] == T]
    for name, column in [("sink", "sink_rate"), ("diagonal", "diag_rate")]:
        _line(axes[2], last.assign(percent=100 * last[column]), "eps", "percent", name)
    axes[2].set(xlabel="threshold ε", ylabel=f"share of heads, % (T = {T})", ylim=(0, None))
    axes[2].legend()
    shares = own.groupby("input")["type"].value_counts(normalize=True).mul(100)
    bottom = np.zeros(len(INPUTS))
    for name in TYPES:
        heights = np.array([shares.get((kind, name), 0.0) for kind in INPUTS])
        axes[3].bar(
            INPUTS, heights, bottom=bottom, color=_type_colour(name), label=name,
            hatch="//" if name == "diagonal" else "", edgecolor="white", linewidth=0.3,
        )  # fmt: skip
        bottom += heights
    axes[3].set(ylabel=f"heads by type, % (ε = {EPSILON}, T = {T})", xlabel="input")
    axes[3].legend(fontsize=6)
    rows = table[table["panel"] == "rows"]
    plain = rows[rows["row_kind"] == "plain"]
    _bars_by(axes[4], plain, "series", {"sink_mass": "sink", "diag_mass": "diagonal"})
    axes[4].set(ylabel="mean weight on plain rows of TC", xlabel="")
    axes[4].legend()
    _head_line(figure, heads)
    return figure


# ======================================================================================
# Switches


def table_rec_c2_switch(inputs: Inputs) -> pd.DataFrame:
    """Panels heads, interventions (of language models) and rows (of TC and BB)."""
    heads, changes = _probe(inputs, "switch"), _probe(inputs, "intervention")
    rows = _probe(inputs, "rows")
    names = _variant(rows).where(rows["task"] == "TC", "BB, " + _variant(rows))
    return _panels(
        inputs,
        heads=(heads, _model(heads)),
        interventions=(changes, _model(changes)),
        rows=(rows, names),
    )


def draw_rec_c2_switch(table: pd.DataFrame, published: pd.DataFrame) -> Figure:
    """α_1 against the size of the output; rows of TC; what interventions cost."""
    figure, axes = plt.subplots(1, 4, figsize=(13.5, 3.6), width_ratios=[1.2, 1, 1, 1])
    heads = table[table["panel"] == "heads"]
    drawn = axes[0].scatter(
        heads["alpha1"], heads["rho_out"], c=heads["value_drain"], cmap="viridis", s=14,
        rasterized=True,
    )  # fmt: skip
    figure.colorbar(drawn, ax=axes[0], label="|v_1| / mean |v_t|", pad=0.02)
    axes[0].axhline(0.05, color="black", linestyle=":", label="hard switch below")
    own = _first_model(heads)
    rho = _correlation(own, "alpha1", "rho_out")
    hard = 100 * ((own["alpha1"] > 0.9) & (own["rho_out"] < 0.05)).mean()
    whole = own["rho_layer"].median()
    axes[0].set(
        xlabel="importance α_1 of a head", ylabel="output of the head, |o_t| / |x_t|",
        title=f"{drawing.all_of(own['series'])}: Spearman {rho:.2f},\nhard switches "
        f"{hard:.0f} % of heads, whole layers {whole:.2f}", ylim=(0, None),
    )  # fmt: skip
    axes[0].legend(fontsize=6)
    rows = table[table["panel"] == "rows"]
    plain = rows[rows["row_kind"] == "plain"]
    names = {"first_weight": "sink", "out_ratio": "uniform"}
    labels = {"first_weight": "weight on token 1", "out_ratio": "|o_t|, over trigger rows"}
    _bars_by(axes[1], plain, "series", names, labels=labels)
    tasks = " and ".join(dict.fromkeys(rows["task"]))
    axes[1].set(title=f"plain rows of {tasks}", ylabel="weight; ratio", xlabel="", ylim=(0, 1.3))
    axes[1].legend(fontsize=6)
    changes = table[table["panel"] == "interventions"]
    order = [name for name in CHANGES if name in set(changes.get("intervention", []))]
    for ax, whole, title in [
        (axes[2], False, "one head changed"),
        (axes[3], True, "a whole layer"),
    ]:
        chosen = changes[(changes["head"] == 0) == whole]
        for position, name in enumerate(order):
            values = chosen.loc[chosen["intervention"] == name, "dloss"]
            ax.plot(
                np.full(len(values), position) + np.linspace(-0.25, 0.25, len(values)), values,
                linestyle="none", marker=drawing.MARKERS[position], markersize=2.5,
                color=drawing.ordered_colours(4)[position],
            )  # fmt: skip
            ax.hlines(values.mean(), position - 0.35, position + 0.35, color="black")
        ax.set_xticks(range(len(order)), [CHANGES[name] for name in order], rotation=20)
        ax.set(title=title, ylabel="rise of the loss, nats (line: mean)")
    _head_line(figure, heads)
    return figure


# ======================================================================================
# Alignment


def table_rec_c3_alignment(inputs: Inputs) -> pd.DataFrame:
    """Panels sets (drawn points), heads (language models) and rows (of TC)."""
    measures = inputs.measures
    sets = measures[measures["run"] == "point_sets"].dropna(axis=1, how="all")
    heads = _probe(inputs, "alignment")
    rows = _of_task(_probe(inputs, "rows"), "TC")
    causal = sets["causal"].astype(bool).map({True: "causal", False: "bidirectional"})
    return _panels(
        inputs,
        sets=(sets, causal),
        heads=(heads, _model(heads)),
        rows=(rows, _variant(rows)),
    )


def draw_rec_c3_alignment(table: pd.DataFrame, published: pd.DataFrame) -> Figure:
    """Which point sets allow a sink; alignment by layer; margin against alignment."""
    figure, axes = plt.subplots(1, 4, figsize=(13.5, 3.6))
    sets = table[table["panel"] == "sets"]
    for possible, name, marker in [(1, "sink", "o"), (0, "diagonal", "x")]:
        rows = sets[sets["feasible"] == possible]
        axes[0].plot(
            rows["m"], rows["nu"], linestyle="none", marker=marker, markersize=3,
            color=drawing.COLOURS[name], label="possible" if possible else "impossible",
            alpha=0.6, rasterized=True,
        )  # fmt: skip
    agree = (sets["feasible"] == sets["condition"]).mean()
    axes[0].set(
        title=f"{sets['seed'].nunique()} drawn sets, two masks: condition\nagrees in "
        f"{100 * agree:.0f} %",
        xlabel="shift of the points", ylabel="ν, distance of 0 to the hull / mean norm",
    )  # fmt: skip
    axes[0].legend(title="a sink is")
    heads = table[table["panel"] == "heads"]
    own = _first_model(heads)
    words = {"nu": "ν", "cos_x": "cos(x_1, x_t)", "mean_ratio": "|mean x| / mean |x|"}
    _lines(axes[1], own, "layer", words)
    axes[1].set(xlabel="layer", ylabel="alignment of what W_Q, W_K read")
    _layers(axes[1])
    words = {
        "cos_sink": "cos(q_t, k_1)",
        "cos_other": "cos(q_t, k_j)",
        "key_norm": "|k_1| / mean |k|",
    }
    _lines(axes[2], own, "layer", words)
    axes[2].set(xlabel="layer", ylabel="queries and keys")
    _layers(axes[2])
    for column, label, name, marker in [
        ("margin_sink", "as it is", "sink", "o"),
        ("margin_projected", "mean direction removed", "uniform", "^"),
    ]:
        if column in own:
            rows = own.groupby(["seed", "layer", "head"]).mean(numeric_only=True)
            axes[3].plot(
                rows["nu"], rows[column], linestyle="none", marker=marker, markersize=3, alpha=0.7,
                color=drawing.COLOURS[name], label=label, rasterized=True,
            )  # fmt: skip
    rho = _correlation(own, "margin_sink", "nu")
    axes[3].axhline(0, color="black", linestyle=":")
    axes[3].set(
        xlabel="ν", ylabel="smallest margin of the sink (mean over texts)",
        title=f"heads, Spearman {rho:.2f}",
    )  # fmt: skip
    axes[3].legend(fontsize=6)
    _head_line(figure, heads)
    return figure


# ======================================================================================
# Smoothing


def table_rec_c4_smoothing(inputs: Inputs) -> pd.DataFrame:
    """A variant of a head and text a row; `dense_more`: dense attention makes tokens more alike."""
    rows = _probe(inputs, "smoothing")
    at = ["run", "seed", "layer", "head", "text"]
    dense = rows[rows["variant"] == "dense"].set_index(at)["relmu_out"]
    after = rows.merge(dense.rename("relmu_dense").reset_index(), on=at, how="left")
    both = after[["relmu_dense", "relmu_out"]].notna().all(axis=1)
    after["dense_more"] = (after["relmu_dense"] < after["relmu_out"]).astype(float).where(both)
    return tidy(inputs, "heads", after, _model(after))


def draw_rec_c4_smoothing(table: pd.DataFrame, published: pd.DataFrame) -> Figure:
    """relμ with dense attention minus relμ as it is; by layer and variant; S against entropy."""
    figure, axes = plt.subplots(1, 4, figsize=(13.5, 3.6))
    every = table[table["variant"] == "original"]
    for position, (series, rows) in enumerate(every.groupby("series", sort=False)):
        drawing.histogram(
            axes[0], rows["relmu_dense"] - rows["relmu_out"],
            bins=40, density=True, histtype="step",
            color=drawing.COLOURS["uniform" if position == 0 else "published"], label=series if
            position == 0 else None, linewidth=1.4 if position == 0 else 0.5,
        )  # fmt: skip
    axes[0].axvline(0, color="black", linestyle=":")
    share = 100 * every.groupby("series")["dense_more"].mean().mean()
    table = _first_model(table)
    own = table[table["variant"] == "original"]
    axes[0].set(
        xlabel="relμ with dense attention - relμ as it is", ylabel="density",
        title=f"dense smooths more in {share:.0f} %",
    )  # fmt: skip
    axes[0].xaxis.set_major_locator(MaxNLocator(nbins=5))
    axes[0].legend(fontsize=6)
    shares = own.groupby(["seed", "layer"], as_index=False)["dense_more"].mean()
    drawing.band(
        axes[1], shares.assign(percent=100 * shares["dense_more"]), "layer", "percent",
        color=drawing.COLOURS["uniform"], marker="o",
    )  # fmt: skip
    axes[1].axhline(50, color="black", linestyle=":", label="often: above")
    axes[1].set(xlabel="layer", ylabel="dense smooths more, % of heads and texts", ylim=(0, 102))
    _layers(axes[1])
    axes[1].legend()
    change = table.assign(ratio=table["relmu_out"] / table["relmu_in"], name=_smoothing_name(table))
    by_seed = (
        change.groupby(["name", "seed"], sort=False)["ratio"].mean().groupby("name", sort=False)
    )
    mean, spread = by_seed.mean(), by_seed.std().fillna(0)
    axes[2].errorbar(
        mean, range(len(mean)), xerr=spread, linestyle="none", marker="o",
        color=drawing.COLOURS["uniform"],
    )  # fmt: skip
    axes[2].set_yticks(range(len(mean)), mean.index)
    axes[2].axvline(1, color="black", linestyle=":")
    axes[2].set(xlabel="relμ after a head / before it (mean)", ylabel="")
    axes[3].plot(
        own["entropy"], own["S"], linestyle="none", marker=".", markersize=2, alpha=0.4,
        color=drawing.COLOURS["uniform"], rasterized=True,
    )  # fmt: skip
    axes[3].set(
        xlabel="entropy of the rows / log t", ylabel="S = μ(A V) / μ(V)",
        title=f"Spearman {_correlation(own, 'entropy', 'S'):.2f}",
    )  # fmt: skip
    _head_line(figure, every)
    return figure


# ======================================================================================
# Cost


def table_rec_c5_cost_synth(inputs: Inputs) -> pd.DataFrame:
    """A pattern on a set of tokens a row, panels O and R; margin 1; NaN where it is impossible."""
    rows = inputs.measures
    rows = rows.assign(bed=rows["run"].map({"bed_o": "O", "bed_r": "R"}))
    return _panels(
        inputs,
        **{
            bed: (own.dropna(axis=1, how="all"), own["pattern"]) for bed, own in rows.groupby("bed")
        },
    )


def draw_rec_c5_cost_synth(table: pd.DataFrame, published: pd.DataFrame) -> Figure:
    """Norms against the common direction and the number of tokens, with D7; ratio and rank."""
    figure, axes = plt.subplots(2, 3, figsize=(11, 6.4))
    O = table[(table["panel"] == "O") & (table["causal"] == 0)]
    R = table[table["panel"] == "R"]
    n = O["n"].max()
    for ax, norm in [(axes[0, 0], "frobenius"), (axes[0, 1], "nuclear")]:
        for pattern in PATTERNS:
            rows = O[(O["n"] == n) & (O["pattern"] == pattern)].sort_values("m")
            _cost_line(ax, rows, "m", norm, pattern, f"{pattern}, bed O")
            ax.plot(rows["m"], rows[f"theory_{norm}"], "k:", linewidth=1)
            drawn = R[
                (R["n"] == R["n"].max()) & (R["d"] == R["d"].min()) & (R["pattern"] == pattern)
            ]
            _cost_line(ax, drawn, "m", norm, pattern, f"{pattern}, bed R", linestyle="--")
        ax.plot([], [], "k:", label="closed form (D7)")
        ax.set(
            xlabel="length m of the common direction", ylabel=f"{norm} norm at margin 1",
            title=f"bed O: n = {n}; bed R: n = {R['n'].max()}, d = {R['d'].min()}", yscale="log",
        )  # fmt: skip
    axes[0, 0].legend(fontsize=6)
    for pattern in PATTERNS:
        lengths = sorted(O["m"].unique())
        m = lengths[len(lengths) // 2] if lengths else np.nan
        rows = O[(O["m"] == m) & (O["pattern"] == pattern)].sort_values("n")
        _cost_line(axes[0, 2], rows, "n", "frobenius", pattern, f"{pattern}, bed O")
        axes[0, 2].plot(rows["n"], rows["theory_frobenius"], "k:", linewidth=1)
    axes[0, 2].set(xlabel="tokens n", ylabel="frobenius norm at margin 1", title=f"m = {m:g}")
    axes[0, 2].legend(fontsize=6)
    for ax, norm in [(axes[1, 0], "frobenius"), (axes[1, 1], "nuclear")]:
        for position, (bed, rows) in enumerate([("O", O), ("R", R)]):
            ratios = _ratios(rows, norm)
            drawing.band(
                ax, ratios, "m", "ratio", label=f"bed {bed}, all n",
                color=drawing.ordered_colours(3)[position], marker=drawing.MARKERS[position],
            )  # fmt: skip
        ax.axhline(1, color="black", linestyle=":")
        ax.set(xlabel="length m of the common direction", ylabel=f"diagonal / sink, {norm}")
        ax.legend(fontsize=6)
    for pattern in PATTERNS:
        _cost_line(
            axes[1, 2], R[R["pattern"] == pattern], "m", "participation_rank", pattern, pattern
        )
    axes[1, 2].set(xlabel="length m of the common direction", ylabel="participation rank, bed R")
    axes[1, 2].legend(fontsize=6)
    drawing.settings_line(
        figure,
        f"{OURS}; margin 1, mean and std over draws; ratios: draws on which both "
        "patterns are possible for every m, all n",
    )
    return figure


def table_rec_c5_cost_real(inputs: Inputs) -> pd.DataFrame:
    """A pattern on the first n tokens that a layer reads a row; NaN where it is impossible."""
    rows = _probe(inputs, "costs")
    return tidy(inputs, "costs", rows, _model(rows))


def draw_rec_c5_cost_real(table: pd.DataFrame, published: pd.DataFrame) -> Figure:
    """Ratio by layer and by number of tokens, the norms, and the margin that n tokens need."""
    figure, axes = plt.subplots(1, 4, figsize=(13, 3.5))
    every, table = table, _first_model(table)
    ratios = _ratios(table, "frobenius")
    ns = sorted(ratios["n"].unique())
    for position, n in enumerate(ns):
        rows = ratios[ratios["n"] == n].groupby(["seed", "layer"], as_index=False)["ratio"].median()
        drawing.band(
            axes[0], rows, "layer", "ratio", color=drawing.ordered_colours(len(ns))[position],
            marker=drawing.MARKERS[position % 8], label=f"n = {n}",
        )  # fmt: skip
    layers = sorted(ratios["layer"].unique())
    shown = layers if len(layers) <= 6 else layers[:: len(layers) // 5]
    for position, layer in enumerate(shown):
        rows = (
            ratios[ratios["layer"] == layer]
            .groupby(["seed", "n"], as_index=False)["ratio"]
            .median()
        )
        drawing.band(
            axes[1], rows, "n", "ratio", color=drawing.ordered_colours(len(shown))[position],
            marker=drawing.MARKERS[position % 8], label=f"layer {layer}",
        )  # fmt: skip
    for ax, label in [(axes[0], "layer"), (axes[1], "tokens n")]:
        ax.axhline(1, color="black", linestyle=":")
        ax.set(xlabel=label, ylabel="cost of diagonal / sink (median over texts)")
        ax.legend(fontsize=6)
    n = ratios["n"].max()
    for pattern in PATTERNS:
        rows = table[(table["n"] == n) & (table["pattern"] == pattern)]
        rows = rows.groupby(["seed", "layer"], as_index=False)["frobenius"].median()
        drawing.band(
            axes[2], rows, "layer", "frobenius", color=drawing.COLOURS[pattern], label=pattern,
            marker="o" if pattern == "sink" else "s", linestyle="-" if pattern == "sink" else "--",
        )  # fmt: skip
    axes[2].set(xlabel="layer", ylabel=f"|W| at margin 1, n = {n} (median)", yscale="log")
    _layers(axes[0])
    _layers(axes[2])
    axes[2].legend(fontsize=6)
    n = np.unique(np.geomspace(4, 1024, 20).round().astype(int))
    for dash, delta in enumerate([0.5, 0.1, 0.01]):
        margin = [theory.sufficient_margin(int(k), delta) for k in n]
        axes[3].plot(n, margin, linestyle=drawing.ordered_dash(dash), label=f"δ = {delta}")
    axes[3].set(xscale="log", xlabel="tokens n", ylabel="margin for a weight of 1 - δ (D1)")
    axes[3].legend(fontsize=6)
    _head_line(figure, every)
    return figure


# ======================================================================================
# Emergence


def table_rec_c6_emergence(inputs: Inputs) -> pd.DataFrame:
    """A measured step of a seed a row, panels LM and TC (its plain rows)."""
    course = _probe(inputs, "course")
    lm = course[course["task"] == "LM"]
    tc = course[(course["task"] == "TC") & (course["row_kind"] == "plain")]
    return _panels(inputs, LM=(lm, _settings_of(lm)), TC=(tc, _variant(tc)))


def draw_rec_c6_emergence(table: pd.DataFrame, published: pd.DataFrame) -> Figure:
    """Loss and patterns against the step."""
    figure, axes = plt.subplots(2, 3, figsize=(11.5, 6.4))
    lm = table[table["panel"] == "LM"]
    words = {
        "loss": "held-out loss, nats a character",
        "sink_mass": "mean weight on token 1",
        "diag_mass": "mean weight on the token itself",
        "rho_out": "|o_t| / |x_t| of a head",
        "relmu": "relμ before the last layer",
    }
    for ax, (column, label) in zip(axes.flat, words.items(), strict=False):
        for position, (series, rows) in enumerate(lm.groupby("series", sort=False)):
            drawing.band(
                ax, rows, "step", column, label=series, linestyle=drawing.ordered_dash(position),
                color=drawing.COLOURS[f"model_{position % 8 + 1}"],
            )  # fmt: skip
        ax.set(xlabel="step", ylabel=label)
    ax = axes.flat[5]
    tc = table[table["panel"] == "TC"]
    for position, (series, rows) in enumerate(tc.groupby("series", sort=False)):
        drawing.band(
            ax, rows, "step", "sink_mass", label=series, linestyle=drawing.ordered_dash(position),
            color=_colour(series),
        )  # fmt: skip
    ax.set(xlabel="step", ylabel="mean weight on token 1", title="plain rows of TC")
    ax.legend(fontsize=6)
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside right center")
    defaults = published[published["series"] == "Sink percent"] if len(published) else published
    note = "".join(f"; of other papers: sink rate {row.y:g} % ({row.source})"
                   for row in defaults.itertuples())  # fmt: skip
    drawing.settings_line(
        figure, f"{OURS}; mean and std over {lm['seed'].nunique()} seeds; small models are not "
        f"expected to have sinks at this scale{note}",
    )  # fmt: skip
    return figure


# ======================================================================================
# Interventions


def table_rec_c7_interventions(inputs: Inputs) -> pd.DataFrame:
    """Plain and trigger rows of each variant at the end, panels TC and MIX."""
    rows = _probe(inputs, "rows")
    base = (rows["task"] == "TC") | (rows["residual"].astype(bool) & (rows["mlp"] > 0))
    rows = rows[base & ~rows["value_bias"].astype(bool)]
    return _panels(
        inputs, **{task: (own, _variant(own)) for task, own in rows.groupby("task", sort=False)}
    )


def draw_rec_c7_interventions(table: pd.DataFrame, published: pd.DataFrame) -> Figure:
    """Loss, masses and output of each variant."""
    tasks = list(dict.fromkeys(table["panel"]))
    figure, axes = plt.subplots(len(tasks), 3, figsize=(12, 3.4 * len(tasks)), squeeze=False)
    for row, task in zip(axes, tasks, strict=True):
        own = table[table["panel"] == task]
        every, plain = own[own["row_kind"] == "all"], own[own["row_kind"] == "plain"]
        _points_by(row[0], every, [("loss", "uniform", "o")])
        row[0].set(xlabel="held-out mean squared error", title=task, xscale="log")
        both = [("sink_mass", "sink", "o"), ("diag_mass", "diagonal", "s")]
        _points_by(row[1], plain, both)
        row[1].set(
            xlabel="mean weight on plain rows", title=f"{task}: patterns", xlim=(-0.03, 1.03)
        )
        row[1].legend(fontsize=6)
        _points_by(
            row[2],
            plain,
            [("out_ratio", "uniform", "o"), ("row_sum", "published", "x")],
            {"out_ratio": "|o_t|, over trigger rows", "row_sum": "sum of the weights"},
        )
        row[2].set(xlabel="on plain rows", title=f"{task}: size")
        row[2].legend(fontsize=6)
        for ax in row[1:]:
            ax.set_yticklabels([])
    drawing.settings_line(
        figure, f"{OURS}; mean and std over {table['seed'].nunique()} seeds; MIX: with MLP and "
        "residual connection; weights divided by the sum of their row",
    )  # fmt: skip
    return figure


# ======================================================================================
# Attention as an MLP


def table_rec_c8_mlp_like(inputs: Inputs) -> pd.DataFrame:
    """Rows of TW and MIX at the end, of each architecture."""
    rows = _probe(inputs, "rows")
    return _panels(
        inputs,
        **{task: (own, _architecture(own)) for task, own in rows.groupby("task", sort=False)},
    )


def draw_rec_c8_mlp_like(table: pd.DataFrame, published: pd.DataFrame) -> Figure:
    """Patterns, R² of the output on the own token, the loss with all weights on the diagonal."""
    figure, axes = plt.subplots(2, 3, figsize=(12, 6.6), squeeze=False)
    for row, task in zip(axes, ["TW", "MIX"], strict=True):
        own = _plain(table[table["panel"] == task])
        if own.empty:
            continue
        _points_by(row[0], own, [("sink_mass", "sink", "o"), ("diag_mass", "diagonal", "s")])
        row[0].set(xlabel="mean weight on plain rows", title=task, xlim=(-0.03, 1.03))
        row[0].legend(fontsize=6)
        _points_by(row[1], own, [("r2_self", "uniform", "o")])
        row[1].set(xlabel="R² of o_t on x_t", title=f"{task}: token-wise?", xlim=(None, 1.03))
        row[1].axvline(0.9, color="black", linestyle=":")
        _points_by(row[2], own, [("dloss_diag", "diagonal", "s")])
        row[2].set(xlabel="rise of the loss with A = I", title=f"{task}: diagonal map")
        row[2].set_xscale("symlog", linthresh=1e-4)
        for ax in row[1:]:
            ax.set_yticklabels([])
    drawing.settings_line(figure, f"{OURS}; mean and std over {table['seed'].nunique()} seeds")
    return figure


# ======================================================================================
# Oversmoothing


def table_rec_c9_oversmoothing(inputs: Inputs) -> pd.DataFrame:
    """Likeness of tokens by layer, panels random (networks) and trained (language models)."""
    measures = inputs.measures
    drawn = measures[measures["run"] == "random_networks"].dropna(axis=1, how="all")
    drawn = drawn.assign(layer=drawn["layer"].astype(int))
    trained = _probe(inputs, "layers")
    names = drawn["net"] + ", " + drawn["mask"] + np.where(
        drawn["pattern"] == "own", "", ", forced " + drawn["pattern"]
    )  # fmt: skip
    return _panels(inputs, random=(drawn, names), trained=(trained, _model(trained)))


def draw_rec_c9_oversmoothing(table: pd.DataFrame, published: pd.DataFrame) -> Figure:
    """relμ against the layer: networks, masks, forced patterns, trained models."""
    figure, axes = plt.subplots(1, 4, figsize=(13.5, 3.7))
    drawn = table[table["panel"] == "random"].copy()
    # Below are rounding errors of the computation.
    floor = 1e-16
    drawn["relmu"] = drawn["relmu"].clip(lower=floor)
    own = drawn[drawn["pattern"] == "own"]
    for column, value, ax, title in [
        ("net", "causal", axes[0], "networks, causal mask"),
        ("mask", "SAN", axes[1], "masks, SAN"),
    ]:
        other = "mask" if column == "net" else "net"
        rows = own[own[other] == value]
        for position, (name, lines) in enumerate(rows.groupby(column, sort=False)):
            drawing.band(
                ax, lines, "layer", "relmu", log=True, label=name,
                color=drawing.COLOURS[f"model_{position + 1}"],
                linestyle=drawing.ordered_dash(position),
            )  # fmt: skip
        ax.set(title=title)
    forced = drawn[drawn["pattern"] != "own"]
    # A colour a pattern, a dash a network.
    names, nets = (list(dict.fromkeys(forced[column])) for column in ("pattern", "net"))
    for (net, pattern), lines in forced.groupby(["net", "pattern"], sort=False):
        drawing.band(
            axes[2], lines, "layer", "relmu", log=True, label=f"{pattern}, {net}",
            color=drawing.COLOURS[f"model_{names.index(pattern) + 1}"],
            linestyle=drawing.ordered_dash(nets.index(net)),
        )  # fmt: skip
    axes[2].set(title="forced patterns")
    trained = table[table["panel"] == "trained"]
    for position, (series, rows) in enumerate(trained.groupby("series", sort=False)):
        by_seed = rows.groupby(["seed", "layer"], as_index=False)[["relmu", "mean_cos"]].mean()
        # Others are many, and drawn thin and without a name.
        first = position == 0
        look = {"color": drawing.COLOURS["model_1" if first else "published"]}
        look["linewidth"] = 1.4 if first else 0.4
        for column, name, dash in [("relmu", "relμ", "-"), ("mean_cos", "mean cosine", "--")]:
            label = f"{name}, {series}" if first else None
            drawing.band(axes[3], by_seed, "layer", column, linestyle=dash, label=label, **look)
    axes[3].set(title="trained", ylim=(0, 1.15))
    _layers(axes[3])
    for ax in axes:
        ax.set(xlabel="layer", ylabel="relμ; mean cosine" if ax is axes[3] else "relμ = μ(X) / |X|")
        ax.legend(fontsize=6)
    axes[2].legend(fontsize=5.5, loc="lower right", bbox_to_anchor=(1, 0.06))
    for ax in axes[:3]:
        drawing.log_y(ax)
    drawing.settings_line(
        figure, f"{OURS}; random networks: mean and std of log10 over "
        f"{drawn['seed'].nunique()} seeds, values below {floor:g} drawn there",
    )  # fmt: skip
    return figure


# ======================================================================================
# Overmixing


def table_rec_c10_overmixing(inputs: Inputs) -> pd.DataFrame:
    """|Δx| over mean |x| of each layer and position after one token is exchanged."""
    rows = _probe(inputs, "spread")
    return tidy(inputs, "spread", rows, _model(rows))


def draw_rec_c10_overmixing(table: pd.DataFrame, published: pd.DataFrame) -> Figure:
    """A heat map for each ablation, of the first model, and the mean after the changed token."""
    first = _first_model(table)
    names = {"none": "as it is", "no_bos": "without BOS", "sinks": "strongest sinks off"}
    shown = [name for name in names if name in set(first["ablation"])]
    figure, (axes,) = drawing.grid(1, len(shown) + 1, figsize=(3.4 * len(shown) + 3.6, 3.5))
    image = None
    top = first["delta_norm"].quantile(0.95)
    for ax, name in zip(axes, shown, strict=False):
        grid = first[first["ablation"] == name].groupby(["layer", "position"])["delta_norm"].mean()
        if not grid.notna().any():
            continue
        image = ax.imshow(
            grid.unstack(), aspect="auto", cmap="viridis", vmin=0, vmax=top, origin="lower",
            extent=(0.5, first["position"].max() + 0.5, 0.5, first["layer"].max() + 0.5),
        )  # fmt: skip
        ax.grid(False)
        ax.set(title=names[name], xlabel="position", ylabel="before layer")
        ax.set_yticks(sorted(first["layer"].unique()))
    if image is not None:
        figure.colorbar(image, ax=axes[len(shown) - 1], label="|Δx| / mean |x|", extend="max")
    place = first["position"].max() // 4 + 1
    for position, name in enumerate(shown):
        rows = first[(first["ablation"] == name) & (first["position"] > place)]
        rows = rows.groupby(["seed", "layer"], as_index=False)["delta_norm"].mean()
        drawing.band(
            axes[-1], rows, "layer", "delta_norm", label=names[name],
            color=drawing.COLOURS[f"model_{position + 1}"], marker=drawing.MARKERS[position],
            linestyle=drawing.ordered_dash(position),
        )  # fmt: skip
    axes[-1].set(xlabel="before layer", ylabel="mean |Δx| / mean |x| after the changed token")
    _layers(axes[-1])
    axes[-1].legend(fontsize=6)
    _head_line(figure, table)
    return figure


# ======================================================================================
# Closed forms


def table_rec_d_identities(inputs: Inputs) -> pd.DataFrame:
    """D1, D4, D5 and D7: `value` computed on explicit matrices, `theory` from the closed form."""
    generator = np.random.default_rng(0)
    parts = {
        "D1": _identity_d1(),
        "D4": _identity_d4(generator),
        "D5": _identity_d5(generator),
        "D7": _identity_d7(),
    }
    return _panels(inputs, **{name: (rows, rows["pattern"]) for name, rows in parts.items()})


def _identity_d1() -> pd.DataFrame:
    """Weight of the sink at logits (Δ, 0, ..., 0)."""
    rows = []
    for n in (4, 16, 64):
        for delta in np.geomspace(1e-3, 0.5, 12):
            margin = theory.sufficient_margin(n, delta)
            weights = np.exp(np.r_[margin, np.zeros(n - 1)])
            rows.append({"pattern": f"n = {n}", "n": n, "x": margin, "theory": 1 - delta,
                         "value": weights[0] / weights.sum()})  # fmt: skip
    return pd.DataFrame(rows).assign(seed=-1)


def _identity_d4(generator: np.random.Generator) -> pd.DataFrame:
    """Norm of an output whose sink has value 0, with the rest of the weight spread or random."""
    n, d = 16, 8
    values = generator.standard_normal((n, d))
    values[0] = 0
    shares = {"rest spread evenly": np.full(n - 1, 1 / (n - 1)),
              "rest at random": generator.dirichlet(np.ones(n - 1))}  # fmt: skip
    rows = []
    for name, share in shares.items():
        for delta in np.geomspace(1e-6, 0.5, 13):
            output = np.r_[1 - delta, delta * share] @ values
            rows.append({"pattern": name, "n": n, "x": delta, "value": np.linalg.norm(output),
                         "theory": theory.switch_bound(delta, values)})  # fmt: skip
    return pd.DataFrame(rows).assign(seed=-1)


def _identity_d5(generator: np.random.Generator) -> pd.DataFrame:
    """√(E μ(AX)²/E μ(X)²) of Gaussian rows by simulation, against |HA|/√(n-1)."""
    rows = []
    for n in (16, 64):
        uniform, sink = theory.causal_uniform(n), theory.pure_sink(n)
        fixed = {
            "uniform": theory.uniform(n),
            "pure sink": sink,
            "causal uniform": uniform,
            "0.9 sink + 0.1 causal": 0.9 * sink + 0.1 * uniform,
            "0.9 diagonal + 0.1 causal": 0.9 * np.eye(n) + 0.1 * uniform,
            "permutation": np.eye(n)[generator.permutation(n)],
            "diagonal": np.eye(n),
        }
        X = generator.standard_normal((400, n, 32))
        size = np.square(X - X.mean(1, keepdims=True)).sum()
        for name, A in fixed.items():
            Y = A @ X
            spread = np.square(Y - Y.mean(1, keepdims=True)).sum()
            rows.append({"pattern": name, "n": n, "x": np.nan, "value": np.sqrt(spread / size),
                         "theory": theory.smoothing_ratio(A)})  # fmt: skip
    return pd.DataFrame(rows).assign(seed=-1)


def _identity_d7() -> pd.DataFrame:
    """Frobenius cost of the diagonal over that of the sink on bed O, from explicit constraints."""
    from replica.theory.margins import minimum_norm

    rows = []
    for n in (4, 7):
        for m in (0.0, 0.25, 0.5, 1.0, 2.0):
            X = theory.orthonormal_bed(n, m)
            found = {p: minimum_norm(X, p, causal=False).frobenius for p in PATTERNS}
            rows.append({"pattern": f"n = {n}", "n": n, "x": m,
                         "value": found["diagonal"] / found["sink"],
                         "theory": theory.cost_ratio(n, m)[0]})  # fmt: skip
    return pd.DataFrame(rows).assign(seed=-1)


def draw_rec_d_identities(table: pd.DataFrame, published: pd.DataFrame) -> Figure:
    """Markers: explicit matrices; lines: closed forms."""
    figure, axes = plt.subplots(1, 4, figsize=(13.5, 3.5), width_ratios=[1, 1, 1.2, 1])
    words = {
        "D1": ("margin Δ", "weight of the sink"),
        "D4": ("δ, weight off the sink", "|o|, value of the sink 0"),
        "D7": ("length m of the common direction", "cost of diagonal / sink"),
    }
    for ax, panel in zip([axes[0], axes[1], axes[3]], words, strict=True):
        own = table[table["panel"] == panel]
        for position, (name, rows) in enumerate(own.groupby("series", sort=False)):
            colour = drawing.ordered_colours(4)[position]
            marker = drawing.MARKERS[position]
            ax.plot(
                rows["x"], rows["value"], linestyle="none", marker=marker, color=colour, label=name
            )
            line = {"linestyle": ":", "linewidth": 1, "color": colour}
            ax.plot(rows["x"], rows["theory"], **line)
        ax.set(title=panel, xlabel=words[panel][0], ylabel=words[panel][1])
        ax.legend(fontsize=6, title="lines: bound" if panel == "D4" else "lines: closed form",
                  title_fontsize=6)  # fmt: skip
    axes[1].set(xscale="log", yscale="log")
    rows = table[table["panel"] == "D5"]
    for position, (n, own) in enumerate(rows.groupby("n")):
        places = np.arange(len(own)) + 0.3 * position
        axes[2].plot(
            own["value"], places, linestyle="none", marker=drawing.MARKERS[position],
            color=drawing.ordered_colours(3)[position], label=f"simulated, n = {n}",
        )  # fmt: skip
        axes[2].plot(
            own["theory"], places, linestyle="none", marker="|", markersize=9, color="black"
        )
        axes[2].set_yticks(np.arange(len(own)) + 0.15, own["series"])
    axes[2].plot([], [], "k|", label="|HA| / √(n-1)")
    axes[2].set(title="D5", xlabel="μ(AX) / μ(X)")
    axes[2].legend(fontsize=6)
    drawing.settings_line(figure, OURS)
    return figure


# ======================================================================================
# Claims


def claim_c1(tables: Tables) -> Verdict:
    """Sinks need alignment: drawn sets by linear programs, trained heads by the hull."""
    table = tables["rec_c3_alignment"]
    sets, heads = table[table["panel"] == "sets"], table[table["panel"] == "heads"]
    # Queries of pretrained models have biases, for which alignment is not needed.
    heads = heads[heads["task"] == "LM"]
    rows = table[(table["panel"] == "rows") & (table["row_kind"] == "plain")]
    finite(sets["feasible"], "answer of a linear program")
    some(heads[["margin_sink", "nu"]].dropna(), "head of a language model with a margin")
    some(rows["sinks_at_zero"].dropna(), "run of TC")
    agree = float((sets["feasible"] == sets["condition"]).mean())
    own = heads[heads["margin_sink"] > 0]
    against = int((own["nu"] == 0).sum()) + int(rows["sinks_at_zero"].sum())
    possible = 100 * sets["feasible"].mean()
    count = sets["seed"].nunique()
    detail = (
        f"a linear program agrees with the condition in {100 * agree:.1f} % of {count} drawn sets, "
        f"causal and bidirectional (a sink is possible in {possible:.0f} %); heads with a positive "
        f"margin on all rows: {len(own)} of {len(heads)} of language models (whose tokens are no "
        f"more than dimensions), {rows['sinks'].sum():.0f} sequences of TC (whose constant "
        f"coordinate aligns them); with 0 in the hull of the tokens: {against}, a check of "
        f"consistency; reported: Spearman of margin and ν over heads "
        f"{_correlation(heads, 'margin_sink', 'nu'):.2f}"
    )
    words = {
        "value": agree,
        "published": "sinks need alignment",
        "tolerance": "agreement in 100 % of at least 500 sets; no trained sink (bias-free heads: "
        "LM on all rows, TC on all plain rows) with ν = 0",
    }
    if count < 500 or first_look(table):
        return undecidable(f"too few sets, or runs of a few steps; {detail}", **words)
    return decide(agree == 1 and against == 0, detail=detail, **words)


def claim_c2(tables: Tables) -> Verdict:
    """Dense attention smooths more."""
    table = tables["rec_c4_smoothing"]
    own = table[table["variant"] == "original"]
    shares = own.groupby("series", sort=False)["dense_more"].mean()
    listed = ", ".join(f"{series} {100 * share:.1f} %" for series, share in shares.items())
    mean = float(shares.mean())
    layers = _first_model(own).groupby("layer")["dense_more"].mean()
    by_layer = ", ".join(f"{100 * share:.0f} %" for share in layers)
    detail = f"share of layer, head and text: {listed}; by layer of the first {by_layer}; "
    detail += "strong form (> 90 %): "
    detail += "holds" if mean > 0.9 else "does not hold"
    words = {
        "value": mean,
        "published": "often satisfied in practice",
        "tolerance": "relμ(X + A_dense X W) < relμ(X + A X W) in more than half of all cases, mean "
        "over models",
    }
    if first_look(table) or np.isnan(mean):
        return undecidable(f"runs of a few steps, or none; {detail}", **words)
    return decide(mean > 0.5, detail=detail, **words)


def claim_c3(tables: Tables) -> Verdict:
    """A sink is a switch: D4, the rows of TC, and the heads of language models."""
    d4 = tables["rec_d_identities"].query("panel == 'D4'")
    sizes = finite(d4[["x", "value"]].where(d4[["x", "value"]] > 0), "output of D4")
    slopes = [
        np.polyfit(np.log(rows["x"]), np.log(rows["value"]), 1)[0]
        for _, rows in sizes.groupby(d4["series"])
    ]
    table = tables["rec_c2_switch"]
    rows = table[(table["panel"] == "rows") & (table["row_kind"] == "plain")]
    rows = rows[rows["task"] == "TC"]
    mean = rows.groupby("series", sort=False)[
        ["switched", "idle", "first_weight", "out_ratio"]
    ].mean()
    heads = table[table["panel"] == "heads"]
    softmax, relu = ATTENTIONS["softmax"], ATTENTIONS["relu"]
    listed = "; ".join(
        f"{name}: weight on token 1 {row.first_weight:.2f}, |o_t| {row.out_ratio:.3f} of trigger "
        f"rows, switched {100 * row.switched:.1f} %, idle {100 * row.idle:.1f} %"
        for name, row in mean.iterrows()
        if name in (softmax, relu)
    )
    rhos = {name: _correlation(own, "alpha1", "rho_out") for name, own in heads.groupby("series")}
    rho = ", ".join(f"{value:.2f} ({name})" for name, value in rhos.items())
    detail = (
        f"slopes of log|o| on log δ {min(slopes):.3f} to {max(slopes):.3f}; plain rows of TC: "
        f"{listed}; reported: Spearman of α_1 and |o|/|x| over heads: {rho}"
    )
    words = {
        "value": float(mean["switched"].get(softmax, np.nan)),
        "published": "a sink is a hard switch",
        "tolerance": "slopes in [.98, 1.02]; TC: at least 95 % of plain rows with a weight above "
        ".9 on token 1 and |o_t| below .1 of its mean on trigger rows (softmax), as many with a "
        "weight below .05 (ReLU); value: share for softmax",
    }
    if first_look(table):
        return undecidable(f"runs of a few steps; {detail}", **words)
    if not {softmax, relu} <= set(mean.index):
        return undecidable(f"softmax or ReLU is not among the runs; {detail}", **words)
    finite([mean.loc[softmax, "switched"], mean.loc[relu, "idle"]], "share of the rows of TC")
    holds = 0.98 <= min(slopes) and max(slopes) <= 1.02
    holds &= mean.loc[softmax, "switched"] >= 0.95 and mean.loc[relu, "idle"] >= 0.95
    return decide(bool(holds), detail=detail, **words)


def claim_c4(tables: Tables) -> Verdict:
    """Sinks cost less: closed forms, drawn tokens, trained embeddings."""
    synth, real = tables["rec_c5_cost_synth"], tables["rec_c5_cost_real"]
    exact = some(synth[synth["theory_frobenius"].notna()], "closed form")
    nuclear = some(exact[exact["theory_nuclear"].notna()], "closed form of the nuclear norm")
    # A cell without a solution is a mistake where there is a closed form: NaN, and no agreement.
    error = np.maximum(
        (exact["frobenius"] - exact["theory_frobenius"]).abs().max(skipna=False),
        (nuclear["nuclear"] - nuclear["theory_nuclear"]).abs().max(skipna=False),
    )
    grows, listed, missing = [], [], False
    for bed in ("O", "R"):
        rows = synth[synth["panel"] == bed]
        rows = rows[rows["causal"] == (bed == "R")]
        ratios_of = _ratios(rows, "frobenius")
        ratios = ratios_of.groupby("m")["ratio"].mean()
        crossed = ratios[ratios > 1 + 1e-6]
        missing |= ratios.empty
        grows.append(ratios.is_monotonic_increasing and bool((ratios[ratios.index >= 1] > 1).all()))
        means = ", ".join(f"{ratio:.2f} at m = {m:g}" for m, ratio in ratios.items())
        used = f"{len(ratios_of[ratios_of['m'] == 0])} draws"
        listed.append(f"bed {bed} ({used}): {means}, above 1 from m = {crossed.index.min():g} on")
    lm = some(real[real["task"] == "LM"], "costs in a language model")
    ratios = some(_ratios(lm, "frobenius"), "ratio of costs in a language model")
    median = ratios.groupby(["layer", "n"])["ratio"].median().unstack()
    later = median[median.index >= 2]
    first_n, last_n = median.columns.min(), median.columns.max()
    above = bool((later > 1).all(axis=None))
    growing = bool((later[last_n] > later[first_n]).all())
    words_of = "; ".join(
        f"layer {layer}: {row[first_n]:.2f} at n = {first_n}, {row[last_n]:.2f} at n = {last_n}"
        for layer, row in median.iterrows()
    )
    impossible = int((lm["feasible"] == 0).sum())
    others = []
    for name, rows in real[real["task"] != "LM"].groupby("series"):
        later_ones = _ratios(rows[rows["layer"] >= 2], "frobenius")
        others.append(f"{name} {later_ones.groupby('layer')['ratio'].median().min():.2f}")
    kkt = np.nanmax([synth["kkt"].max(), lm["kkt"].max()])
    detail = (
        f"closed forms to {error:.0e}, conditions of optimality to {kkt:.0e}; mean ratio "
        f"diagonal/sink: {'; '.join(listed)}; median on embeddings of LM: {words_of}; impossible "
        f"cells: {impossible}"
    )
    if others:
        detail += f"; reported, the least median over layers from 2 on: {', '.join(others)}"
    words = {
        "value": float(later.min(axis=None)) if len(later) else np.nan,
        "published": "sinks cost less",
        "tolerance": "closed forms on bed O to 1e-6; ratio rising with m and above 1 for m >= 1; "
        "on embeddings of LM in layers from 2 on median above 1, larger at the largest n than at "
        "the least; value: the least median",
    }
    if first_look(real):
        return undecidable(f"runs of a few steps; {detail}", **words)
    if missing or later.empty:
        return undecidable(f"no ratios on a bed or in layers from 2 on; {detail}", **words)
    return decide(error <= 1e-6 and all(grows) and above and growing, detail=detail, **words)


def claim_c5(tables: Tables) -> Verdict:
    """Attention-only networks are diagonal and token-wise; MIX with MLP has a sink."""
    table = tables["rec_c8_mlp_like"]
    rows = pd.concat([_plain(own) for _, own in table.groupby("panel")])
    rows = rows[~rows["value_bias"].astype(bool)]
    alone = rows[rows["mlp"] == 0].groupby(["panel", "series"])[
        ["sink_mass", "diag_mass", "r2_self"]
    ]
    alone = alone.mean()
    other = _full(rows, "MIX")
    detail = "; ".join(
        f"{task} {name}: diagonal {row.diag_mass:.2f}, sink {row.sink_mass:.2f}, "
        f"R² {row.r2_self:.3f}"
        for (task, name), row in alone.iterrows()
    )
    mixed = other[["sink_mass", "diag_mass", "out_ratio", "out_var"]].mean()
    learnt = table[(table["panel"] == "MIX") & (table["row_kind"] == "trigger")]
    learnt = learnt[~learnt["value_bias"].astype(bool)].groupby("series", sort=False)
    losses = ", ".join(f"{name} {value:.3f}" for name, value in learnt["loss"].mean().items())
    zero = learnt["zero_loss"].mean().mean()
    detail += (
        f"; MIX with MLP and residual: sink {mixed['sink_mass']:.2f}, diagonal "
        f"{mixed['diag_mass']:.2f}, output {mixed['out_ratio']:.2f} and its variance "
        f"{mixed['out_var']:.3f} of trigger rows; loss on trigger rows of MIX: {losses}; of "
        f"outputs of 0 {zero:.3f}"
    )
    words = {
        "value": float(alone["diag_mass"].min()) if len(alone) else np.nan,
        "published": "attention acts like an MLP",
        "tolerance": "without MLP: diagonal mass > .5, sink mass < .1, R² of o_t on x_t > .9; MIX "
        "with MLP and residual: sink mass > .5 > diagonal mass; plain rows, means over seeds; "
        "value: the least diagonal mass without MLP",
    }
    if first_look(table):
        return undecidable(f"runs of a few steps; {detail}", **words)
    if alone.empty or other.empty:
        return undecidable(f"an architecture is not among the runs; {detail}", **words)
    finite(alone, "mass or R² without MLP")
    finite(mixed[["sink_mass", "diag_mass"]], "mass of MIX")
    diagonal = (alone["diag_mass"] > 0.5) & (alone["sink_mass"] < 0.1) & (alone["r2_self"] > 0.9)
    sink = mixed["sink_mass"] > 0.5 > mixed["diag_mass"]
    return decide(bool(diagonal.all() and sink), detail=detail, **words)


def claim_c5_tw(tables: Tables) -> Verdict:
    """TW with MLP and residual connection."""
    table = tables["rec_c8_mlp_like"]
    own = _plain(table[table["panel"] == "TW"])
    rows = _full(own[~own["value_bias"].astype(bool)], "TW")
    mean = rows[["sink_mass", "diag_mass", "out_ratio", "dloss_diag", "r2_self"]].mean()
    spread = rows[["sink_mass", "diag_mass"]].agg(["min", "max"])
    detail = (
        f"sink mass {mean['sink_mass']:.2f} ({spread.loc['min', 'sink_mass']:.2f} to "
        f"{spread.loc['max', 'sink_mass']:.2f}), diagonal mass {mean['diag_mass']:.2f} "
        f"({spread.loc['min', 'diag_mass']:.2f} to {spread.loc['max', 'diag_mass']:.2f}); R² of "
        f"o_t on x_t {mean['r2_self']:.3f}; loss with A = I rises by {mean['dloss_diag']:.1e}"
    )
    words = {
        "value": float(mean["sink_mass"]),
        "published": "attention acts like an MLP",
        "tolerance": "sink mass > diagonal mass and > .5, mean over seeds",
    }
    if first_look(table) or rows.empty:
        return undecidable(f"runs of a few steps, or none; {detail}", **words)
    finite(mean[["sink_mass", "diag_mass"]], "mass of TW")
    holds = mean["sink_mass"] > max(0.5, mean["diag_mass"])
    return decide(bool(holds), detail=detail, **words)


def claim_c6(tables: Tables) -> Verdict:
    """D5 on forced patterns, and a sink of value 0 beside a residual connection."""
    d5 = (
        tables["rec_d_identities"]
        .query("panel == 'D5'")
        .groupby("series")["value"]
        .agg(["min", "max"])
    )
    d5 = finite(d5.reindex(["uniform", "pure sink", "diagonal"]), "ratio of D5")
    table = tables["rec_c9_oversmoothing"]
    forced = table[(table["panel"] == "random") & (table["net"] == "SAN + skip")]
    forced = forced[forced["pattern"] != "own"]
    kept = forced[forced["pattern"] == "sink, value 0"]
    start = kept[kept["layer"] == 0].set_index("seed")["relmu"]
    ratio = kept["relmu"] / kept["seed"].map(start)
    off = float((ratio - 1).abs().max())
    ends = forced[forced["layer"] == forced["layer"].max()].groupby("pattern")["relmu"].mean()
    listed = ", ".join(f"{name} {value:.2g}" for name, value in ends.items())
    detail = (
        f"μ(AX)/μ(X): uniform {d5.loc['uniform', 'max']:.1e}, sink "
        f"{d5.loc['pure sink', 'max']:.1e}, diagonal {d5.loc['diagonal', 'min']:.6f}; relμ of all "
        f"layers with a sink of value 0 and skip within {off:.0e} of the start; relμ after "
        f"{forced['layer'].max():.0f} layers with skip: {listed}"
    )
    words = {
        "value": off,
        "published": "sinks alone do not prevent oversmoothing",
        "tolerance": "μ(AX)/μ(X) 0 of uniform and sink, 1 of diagonal, to 1e-6; relμ with a sink "
        "of value 0 and a residual connection kept to 1e-6; value: the largest deviation",
    }
    exact = max(d5.loc["uniform", "max"], d5.loc["pure sink", "max"]) < 1e-6
    exact &= (d5.loc["diagonal"] - 1).abs().max() < 1e-6
    return decide(bool(exact and off < 1e-6), detail=detail, **words)


# ======================================================================================
# Rows


def _probe(inputs: Inputs, name: str) -> pd.DataFrame:
    """The rows of one probe, without the columns of others."""
    measures = inputs.measures
    rows = measures[measures["probe"] == name]
    rows = rows.dropna(axis=1, how="all").drop(columns="probe", errors="ignore")
    # Beside rows of other probes whole numbers have become floating ones.
    whole = [column for column in WHOLE if column in rows and rows[column].notna().all()]
    return rows.astype(dict.fromkeys(whole, int))


def _of_task(rows: pd.DataFrame, task: str) -> pd.DataFrame:
    return rows[rows["task"] == task] if len(rows) else rows


def _panels(inputs: Inputs, **parts: tuple[pd.DataFrame, pd.Series]) -> pd.DataFrame:
    """Panels one below the other; those without rows are left out."""
    frames = [
        tidy(inputs, panel, rows, series) for panel, (rows, series) in parts.items() if len(rows)
    ]
    return pd.concat(frames, ignore_index=True)


def _first_model(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows of the first model, ours: layers of different models are no series."""
    return rows[rows["series"].isin(rows["series"].head(1))]


def _model(rows: pd.DataFrame) -> pd.Series:
    """Name of a language model: its layers and width, or that of its folder."""
    if rows.empty:
        return pd.Series(dtype=object)
    names = _settings_of(rows[rows["task"] == "LM"])
    if "model" in rows:
        given = rows[rows["task"] == "pretrained"]
        with_bos = np.where(given["bos"].astype(bool), " with BOS", "")
        names = pd.concat([names, given["model"] + with_bos])
    return names.reindex(rows.index)


def _settings_of(rows: pd.DataFrame) -> pd.Series:
    """L = 4, d = 64, T = 64, and what is not usual."""
    names = [
        f"LM, L = {row.depth:.0f}, d = {row.width:.0f}, T = {row.context:.0f}"
        + {"learned": "", "rotary": ", rotary positions", "none": ", no positions"}[row.positions]
        + ("" if row.bos else ", no BOS")
        for row in rows[["depth", "width", "context", "positions", "bos"]].itertuples()
    ]
    decay = rows["run"].str.extract(r"weight_decay([\d.]+)")[0]
    names = pd.Series(names, index=rows.index, dtype=object)
    return names.where(decay.isna(), names + ", decay " + decay.fillna(""))


def _variant(rows: pd.DataFrame) -> pd.Series:
    """Name of the attention function, or of what is forbidden."""
    if rows.empty:
        return pd.Series(dtype=object)
    names = rows["attention"].map(ATTENTIONS)
    names = names.where(rows["optimiser"] == "adamw", names + ", gradient descent")
    return names.where(rows["forbid"] == "none", rows["forbid"].map(FORBIDDEN))


def _architecture(rows: pd.DataFrame) -> pd.Series:
    names = rows["residual"].astype(bool).map({True: "residual", False: "no residual"})
    names = names + np.where(rows["mlp"] > 0, ", MLP", ", no MLP")
    return names + np.where(rows["value_bias"].astype(bool), ", value bias", "")


def _plain(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows that ask for no other token; where there are no triggers, all."""
    return rows[rows["row_kind"] == ("plain" if "plain" in set(rows["row_kind"]) else "all")]


def _full(rows: pd.DataFrame, task: str) -> pd.DataFrame:
    """With MLP and residual connection."""
    return rows[(rows["panel"] == task) & (rows["mlp"] > 0) & rows["residual"].astype(bool)]


def _ratios(rows: pd.DataFrame, norm: str) -> pd.DataFrame:
    """`ratio` of the cost of the diagonal to that of the sink, where both are possible.

    Of drawn tokens only where they are for every m: the means are over the same draws then.
    """
    at = [name for name in ("run", "seed", "layer", "text", "n", "d", "m") if name in rows]
    wide = rows.pivot(index=at, columns="pattern", values=norm).reindex(columns=[*PATTERNS])
    ratios = (wide["diagonal"] / wide["sink"]).rename("ratio").reset_index()
    if "m" in rows:
        possible = ratios.groupby(["run", "seed", "n", "d"])["ratio"].transform(
            lambda r: r.notna().all()
        )
        # Of no rows `possible` is no column of booleans yet.
        ratios = ratios[possible.astype(bool)]
    return ratios.dropna(subset="ratio")


def _standard_length(heads: pd.DataFrame) -> int:
    """64 as in Gu et al. 2025, or the largest length below."""
    lengths = heads["T"].dropna().unique()
    longest = max(64, min(lengths, default=64))
    return int(max((length for length in lengths if length <= longest), default=longest))


def _smoothing_name(table: pd.DataFrame) -> pd.Series:
    number = table["setting"].map(lambda value: f"{value:g}")
    names = table["variant"].map(
        {"original": "as it is", "dense": "dense", "drained": "value of token 1 is 0"}
    )
    return names.fillna(
        table["variant"].map({"top": "largest ", "temperature": "temperature "}) + number
    )


def _correlation(rows: pd.DataFrame, x: str, y: str) -> float:
    """Spearman correlation over heads, of means over texts."""
    if rows.empty:
        return np.nan
    at = [name for name in ("series", "seed", "layer", "head") if name in rows]
    mean = rows.groupby(at)[[x, y]].mean()
    return spearman(mean[x], mean[y])


def _named(published: pd.DataFrame, prefix: str) -> list[str]:
    """What follows a prefix in the names of published series."""
    if not len(published):
        return []
    series = published["series"]
    return list(dict.fromkeys(series[series.str.startswith(prefix)].str.removeprefix(prefix)))


# ======================================================================================
# Drawing


def _colour(series: str) -> str:
    """The same attention function has the same colour in every figure."""
    names = list(ATTENTIONS.values())
    return drawing.COLOURS[f"model_{names.index(series) % 8 + 1}"] if series in names else "black"


def _type_colour(name: str) -> str:
    """Of a type of heads; light for the mixed ones, which are most of the bars."""
    if name == "mixed":
        return "0.85"
    return drawing.COLOURS["uniform" if name == "previous" else name]


def _layers(ax: Axes) -> None:
    """Whole numbers on the axis of layers."""
    ax.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=8))


def _line(ax: Axes, rows: pd.DataFrame, x: str, y: str, name: str) -> None:
    """Mean over heads, with the spread over seeds."""
    by_seed = rows.groupby(["series", "seed", x], as_index=False)[y].mean()
    drawing.band(
        ax, by_seed, x, y, color=drawing.COLOURS[name], label=name,
        marker="o" if name == "sink" else "s", linestyle="-" if name == "sink" else "--",
    )  # fmt: skip


def _lines(ax: Axes, rows: pd.DataFrame, x: str, columns: Mapping[str, str]) -> None:
    for position, (column, label) in enumerate(columns.items()):
        by_seed = rows.groupby(["series", "seed", x], as_index=False)[column].mean()
        drawing.band(
            ax, by_seed, x, column, color=drawing.ordered_colours(4)[position], label=label,
            marker=drawing.MARKERS[position], linestyle=drawing.ordered_dash(position),
        )  # fmt: skip
    ax.legend(fontsize=6)


def _cost_line(
    ax: Axes, rows: pd.DataFrame, x: str, y: str, pattern: str, label: str, linestyle: str = "-"
) -> None:
    drawing.band(
        ax, rows.dropna(subset=y), x, y, color=drawing.COLOURS[pattern], label=label,
        marker="o" if pattern == "sink" else "s", linestyle=linestyle,
    )  # fmt: skip


def _bars_by(
    ax: Axes,
    rows: pd.DataFrame,
    by: str,
    columns: Mapping[str, str],
    factor: float = 1.0,
    order: Sequence[str] | None = None,
    labels: Mapping[str, str] | None = None,
) -> None:
    """Bars of some columns for each value of another one, with the spread over seeds."""
    names = list(order or dict.fromkeys(rows[by]))
    for position, (column, name) in enumerate(columns.items()):
        by_seed = rows.groupby([by, "seed"])[column].mean().mul(factor).groupby(by)
        mean, spread = by_seed.mean().reindex(names), by_seed.std().fillna(0).reindex(names)
        ax.bar(
            np.arange(len(names)) + 0.4 * position - 0.2, mean, 0.38, yerr=spread,
            color=drawing.COLOURS[name], label=(labels or {}).get(column, name),
            hatch="" if position == 0 else "//", edgecolor="white", linewidth=0.3,
        )  # fmt: skip
    ax.set_xticks(range(len(names)), names, rotation=30 if by == "series" else 0,
                  ha="right" if by == "series" else "center")  # fmt: skip


def _points_by(
    ax: Axes,
    rows: pd.DataFrame,
    columns: Sequence[tuple[str, str, str]],
    labels: Mapping[str, str] | None = None,
) -> None:
    """Mean and spread over seeds of some columns, a line a series, the first one on top."""
    names = list(dict.fromkeys(rows["series"]))
    for offset, (column, name, marker) in enumerate(columns):
        by_seed = rows.groupby(["series", "seed"])[column].mean().groupby("series")
        mean, spread = by_seed.mean().reindex(names), by_seed.std().fillna(0).reindex(names)
        ax.errorbar(
            mean, np.arange(len(names)) + 0.2 * offset, xerr=spread, linestyle="none",
            marker=marker, color=drawing.COLOURS[name], label=(labels or {}).get(column, name),
        )  # fmt: skip
    ax.set_yticks(range(len(names)), names)
    ax.invert_yaxis()


def _head_line(figure: Figure, rows: pd.DataFrame) -> None:
    """What the figure is, and the models in it."""
    models = []
    for series, own in rows.groupby("series", sort=False):
        models.append(f"{series} ({own['seed'].nunique()} seeds)")
    others = f"; and {len(models) - 3} other models" if len(models) > 3 else ""
    drawing.settings_line(figure, f"{OURS}; {'; '.join(models[:3])}{others}")
