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
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator

from replica import drawing
from replica.measures.inputs import Inputs, tidy
from replica.measures.trends import spearman
from replica.theory import sinks as theory
from replica.verdicts import (
    CHANCE,
    Verdict,
    beyond,
    by_chance,
    coin,
    decide,
    finite,
    some,
    trend,
    undecidable,
)

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
# Forced patterns as they are drawn: those that lie on each other as a thin line on a wide one.
WIDE, THIN = {"linewidth": 5, "alpha": 0.45}, {"linestyle": "--"}
FORCED = {
    "uniform": WIDE,
    "diagonal": WIDE,
    "causal uniform": {"linestyle": "-."},
    "sink": THIN,
    "sink, value 0": THIN,
}
# Inches; what a column of text shows without making it smaller.
WIDTH = 7.4
WHOLE = ("step", "layer", "head", "text", "texts", "T", "n", "d", "position")


# ======================================================================================
# How often


def table_rec_c1_rates(inputs: Inputs) -> pd.DataFrame:
    """Panel heads: a head, input, length and threshold a row; panel rows: rows of TC."""
    heads = _probe(inputs, "rates")
    rows = _of_task(_probe(inputs, "rows"), "TC")
    table = _panels(inputs, heads=(heads, _model(heads)), rows=(rows, _variant(rows)))
    return _with_columns(
        table, ["T", "eps", "input", "type", "sink_rate", "diag_rate", "sink_mass", "delta"]
    )


def draw_rec_c1_rates(table: pd.DataFrame, published: pd.DataFrame) -> Figure:
    """Rates and types by input, masses by length, rates by threshold, and the rows of TC."""
    figure, axes = _panels_of(5, height=3.1)
    heads = table[table["panel"] == "heads"]
    T = _standard_length(heads)
    longest = heads[(heads["T"] == T) & (heads["eps"] == EPSILON)]
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
    axes[0].set(ylabel=f"share of heads, % (ε = {EPSILON}, T = {T})", xlabel="input")
    _legend(axes[0])
    natural = _first_model(heads[heads["input"] == "natural"])
    one = natural[natural["eps"] == EPSILON]
    for name, column in [("sink", "sink_mass"), ("diagonal", "delta")]:
        _line(axes[1], one, "T", column, name)
    lengths = np.array(sorted(one["T"].unique()))
    uniform = [theory.causal_uniform_diagonal(int(T)) for T in lengths]
    axes[1].plot(lengths, uniform, color="black", linestyle=":", label="uniform, either")
    axes[1].set(xlabel="length T", ylabel="mean weight, rows t ≥ 2", ylim=(0, None))
    _legend(axes[1], 3)
    last = natural[natural["T"] == T]
    axes[2].set(xlabel="threshold ε", ylabel=f"share of heads, % (T = {T})")
    if last.empty or last[["sink_rate", "diag_rate"]].any(axis=None):
        for name, column in [("sink", "sink_rate"), ("diagonal", "diag_rate")]:
            _line(axes[2], last.assign(percent=100 * last[column]), "eps", "percent", name)
        axes[2].set_ylim(0, None)
        _legend(axes[2])
    else:
        drawing.nothing(
            axes[2], "no head of natural texts is a sink\nor a diagonal at any threshold"
        )
    shares = own.groupby("input")["type"].value_counts(normalize=True).mul(100)
    axes[3].set(ylabel=f"heads by type, % (ε = {EPSILON}, T = {T})", xlabel="input")
    if set(own["type"]) == {"mixed"}:
        _left_out(axes[3], "Heads by type: all are mixed.")
    else:
        bottom = np.zeros(len(INPUTS))
        for name in TYPES:
            heights = np.array([shares.get((kind, name), 0.0) for kind in INPUTS])
            axes[3].bar(
                INPUTS, heights, bottom=bottom, color=_type_colour(name), label=name,
                hatch="//" if name == "diagonal" else "", edgecolor="white", linewidth=0.3,
            )  # fmt: skip
            bottom += heights
        _legend(axes[3], 4)
    rows = table[table["panel"] == "rows"]
    plain = rows[rows["row_kind"] == "plain"]
    _bars_by(axes[4], plain, "series", {"sink_mass": "sink", "diag_mass": "diagonal"})
    axes[4].set(ylabel="mean weight on plain rows of TC", xlabel="")
    _legend(axes[4], below=0.42)
    _head_line(figure, heads)
    return figure


# ======================================================================================
# Switches


def table_rec_c2_switch(inputs: Inputs) -> pd.DataFrame:
    """Panels heads, interventions (of language models) and rows (of TC and BB)."""
    heads, changes = _probe(inputs, "switch"), _probe(inputs, "intervention")
    rows = _probe(inputs, "rows")
    names = _variant(rows).where(rows["task"] == "TC", "BB, " + _variant(rows))
    table = _panels(
        inputs,
        heads=(heads, _model(heads)),
        interventions=(changes, _model(changes)),
        rows=(rows, names),
    )
    return _with_columns(table, ["head", "alpha1", "rho_out", "rho_layer", "value_drain"])


def draw_rec_c2_switch(table: pd.DataFrame, published: pd.DataFrame) -> Figure:
    """α_1 against the size of the output; rows of TC; what interventions cost."""
    figure, axes = _panels_of(4)
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
        title=f"Spearman {rho:.2f}, hard switches {hard:.0f} %\nof heads, whole layers {whole:.2f}",
        ylim=(0, None),
    )  # fmt: skip
    _legend(axes[0])
    rows = table[table["panel"] == "rows"]
    plain = rows[rows["row_kind"] == "plain"]
    names = {"first_weight": "sink", "out_ratio": "uniform"}
    labels = {"first_weight": "weight on token 1", "out_ratio": "|o_t|, over trigger rows"}
    _bars_by(axes[1], plain, "series", names, labels=labels)
    tasks = " and ".join(dict.fromkeys(rows["task"]))
    axes[1].set(title=f"plain rows of {tasks}", ylabel="weight; ratio", xlabel="", ylim=(0, None))
    _legend(axes[1], below=0.42)
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
    table = _panels(
        inputs,
        sets=(sets, causal),
        heads=(heads, _model(heads)),
        rows=(rows, _variant(rows)),
    )
    return _with_columns(
        table,
        ["layer", "head", "nu", "cos_x", "mean_ratio", "cos_sink", "cos_other", "key_norm",
         "margin_sink"],
    )  # fmt: skip


def draw_rec_c3_alignment(table: pd.DataFrame, published: pd.DataFrame) -> Figure:
    """Which point sets allow a sink; alignment by layer; margin against alignment."""
    figure, axes = _panels_of(4)
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
    _legend(axes[0], title="a sink is")
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
    _legend(axes[3])
    _head_line(figure, heads)
    return figure


# ======================================================================================
# Smoothing


def table_rec_c4_smoothing(inputs: Inputs) -> pd.DataFrame:
    """A variant of a head and text a row; `dense_more`: dense attention makes tokens more alike.

    Panels heads and start, the random start of our own models.
    """
    trained, start = (
        _beside_dense(_probe(inputs, name)) for name in ("smoothing", "smoothing_at_start")
    )
    return _panels(inputs, heads=(trained, _model(trained)), start=(start, _model(start)))


def _beside_dense(rows: pd.DataFrame) -> pd.DataFrame:
    if rows.empty:
        return rows
    at = ["run", "seed", "layer", "head", "text"]
    dense = rows[rows["variant"] == "dense"].set_index(at)["relmu_out"]
    after = rows.merge(dense.rename("relmu_dense").reset_index(), on=at, how="left")
    both = after[["relmu_dense", "relmu_out"]].notna().all(axis=1)
    more = (after["relmu_dense"] < after["relmu_out"]).astype(float)
    return after.assign(dense_more=more.where(both))


def draw_rec_c4_smoothing(table: pd.DataFrame, published: pd.DataFrame) -> Figure:
    """What dense attention does to relμ; by layer, beside the random start; variants; entropy."""
    figure, axes = _panels_of(4)
    start = table[(table["panel"] == "start") & (table["variant"] == "original")]
    table = table[table["panel"] == "heads"]
    every = table[table["variant"] == "original"]
    groups = [*every.groupby("series", sort=False)]
    looks = [("uniform" if i == 0 else "published", 1.4 if i == 0 else 0.5, "-", name, rows)
             for i, (name, rows) in enumerate(groups)]  # fmt: skip
    if len(start):
        looks.append(("model_1", 1.0, "--", "random start", start))
    edges = np.linspace(-15, 15, 61)
    for position, (colour, width, dash, name, rows) in enumerate(looks):
        drawing.histogram(
            axes[0], _gain_of_dense(rows).clip(edges[0], edges[-1]),
            bins=edges, density=True, histtype="step",
            color=drawing.COLOURS[colour], linewidth=width, linestyle=dash,
            label=name if position == 0 or name == "random start" else None,
        )  # fmt: skip
    axes[0].axvspan(-1, 1, color="0.9", label="near tie")
    axes[0].set(xlabel="dense attention lowers relμ by, %", ylabel="density", yscale="log")
    _legend(axes[0])
    own = _first_model(every)
    for rows, name, colour, dash in [(own, "trained", "uniform", "-"),
                                     (start, "random start", "model_1", "--")]:  # fmt: skip
        if rows.empty:
            continue
        more = rows.assign(percent=100 * (_gain_of_dense(rows) > 100 * NEAR))
        heads = more.groupby(["seed", "layer", "head"], as_index=False)["percent"].mean()
        axes[1].plot(
            heads["layer"] + (0.12 if name == "trained" else -0.12), heads["percent"],
            linestyle="none", marker=".", markersize=3, alpha=0.6, color=drawing.COLOURS[colour],
        )  # fmt: skip
        mean = more.groupby("layer")["percent"].mean()
        axes[1].plot(
            mean.index, mean, color=drawing.COLOURS[colour], linestyle=dash, marker="o",
            label=f"{name} (dots: heads)",
        )  # fmt: skip
    axes[1].axhline(50, color="black", linestyle=":", label="often: above")
    axes[1].set(xlabel="layer", ylabel="dense smooths more by > 1 %,\n% of texts", ylim=(-3, 103))
    _layers(axes[1])
    _legend(axes[1])
    table = _first_model(table)
    change = table.assign(ratio=table["relmu_out"] / table["relmu_in"], name=_smoothing_name(table))
    by_seed = change.groupby(["name", "seed"], sort=False, as_index=False)["ratio"].mean()
    names = list(dict.fromkeys(by_seed["name"]))
    axes[2].plot(
        by_seed["ratio"], [names.index(name) for name in by_seed["name"]], linestyle="none",
        marker="o", alpha=0.7, color=drawing.COLOURS["uniform"],
    )  # fmt: skip
    axes[2].set_yticks(range(len(names)), names)
    axes[2].axvline(1, color="black", linestyle=":")
    axes[2].set(xlabel="relμ after a head / before it (a dot a seed)", ylabel="")
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


def _gain_of_dense(rows: pd.DataFrame) -> pd.Series:
    """By how many % of relμ as it is dense attention makes relμ lower."""
    return 100 * (1 - rows["relmu_dense"] / rows["relmu_out"])


# ======================================================================================
# Cost


def table_rec_c5_cost_synth(inputs: Inputs) -> pd.DataFrame:
    """A pattern on a set of tokens a row, panels O and R; margin 1; NaN where it is impossible."""
    rows = inputs.measures
    rows = rows.assign(tokens=rows["run"].map({"tokens_o": "O", "tokens_r": "R"}))
    return _panels(
        inputs,
        **{
            tokens: (own.dropna(axis=1, how="all"), own["pattern"])
            for tokens, own in rows.groupby("tokens")
        },
    )


def draw_rec_c5_cost_synth(table: pd.DataFrame, published: pd.DataFrame) -> Figure:
    """Norms against the common direction and the number of tokens, with D7; ratios; rank."""
    figure, axes = _panels_of(6)
    O = table[(table["panel"] == "O") & (table["causal"] == 0)]
    R = table[table["panel"] == "R"]
    d = R["d"].min()
    n, n_drawn = O["n"].max(), R["n"].max()
    sizes = f"n = {n} of tokens O, {n_drawn} of tokens R"
    m_label = "length m of the common direction"
    for ax, norm in [(axes[0], "frobenius"), (axes[1], "nuclear")]:
        for pattern in PATTERNS:
            rows = O[(O["n"] == n) & (O["pattern"] == pattern)].sort_values("m")
            _cost_line(ax, rows, "m", norm, pattern, f"{pattern}, tokens O")
            ax.plot(rows["m"], rows[f"theory_{norm}"], "k:", linewidth=1)
            drawn = R[(R["n"] == n_drawn) & (R["d"] == d) & (R["pattern"] == pattern)]
            _cost_line(ax, drawn, "m", norm, pattern, f"{pattern}, tokens R", drawn=True)
        ax.plot([], [], "k:", label="closed form (D7)")
        ax.set(xlabel=m_label, ylabel=f"{norm.title()} norm at margin 1", title=sizes, yscale="log")
        _legend(ax)
    lengths = sorted(O["m"].unique())
    m = lengths[len(lengths) // 2] if lengths else np.nan
    for pattern in PATTERNS:
        rows = O[(O["m"] == m) & (O["pattern"] == pattern)].sort_values("n")
        _cost_line(axes[2], rows, "n", "frobenius", pattern, f"{pattern}, tokens O")
        axes[2].plot(rows["n"], rows["theory_frobenius"], "k:", linewidth=1)
    axes[2].set(xlabel="tokens n", ylabel="Frobenius norm at margin 1", title=f"m = {m:g}")
    _legend(axes[2])
    for ax, norm in [(axes[3], "frobenius"), (axes[4], "nuclear")]:
        exact = _ratios(O[O["n"] == n], norm).sort_values("m")
        ax.plot(exact["m"], exact["ratio"], "k-", marker="s", label=f"tokens O, n = {n} (exact)")
        drawn = _ratios(R[R["d"] == d], norm)
        sizes = sorted(drawn["n"].unique())
        for position, size in enumerate(sizes):
            rows = drawn[drawn["n"] == size]
            # Beside each other: a dot a draw.
            shift = 0.03 * (position - (len(sizes) - 1) / 2)
            ax.plot(
                rows["m"] + shift, rows["ratio"], linestyle="none", alpha=0.7,
                color=drawing.ordered_colours(len(sizes) + 1)[position],
                marker=drawing.MARKERS[2 + position], label=f"tokens R, n = {size}, draws",
            )  # fmt: skip
        ax.axhline(1, color="black", linestyle=":")
        ax.set(xlabel=m_label, ylabel=f"diagonal / sink, {norm.title()}", yscale="log")
        ax.yaxis.set_major_locator(LogLocator(2))
        ax.yaxis.set_major_formatter("{x:g}")
        ax.yaxis.set_minor_locator(NullLocator())
        _legend(ax)
    for pattern in PATTERNS:
        rows = R[(R["pattern"] == pattern) & (R["n"] == n_drawn) & (R["d"] == d)]
        _cost_line(axes[5], rows, "m", "participation_rank", pattern, pattern, drawn=True)
    axes[5].set(
        xlabel=m_label, ylabel="participation rank, tokens R", title=f"n = {n_drawn}, d = {d}"
    )
    _legend(axes[5])
    drawing.settings_line(
        figure,
        f"{OURS}; margin 1; bands: standard deviation over {R['seed'].nunique()} draws of tokens "
        "R; ratios of draws on which both patterns are possible for every m",
    )
    return figure


def table_rec_c5_cost_real(inputs: Inputs) -> pd.DataFrame:
    """A pattern on the first n tokens that a layer reads a row; NaN where it is impossible.

    Panels costs and start, the random start of our own models.
    """
    trained, start = _probe(inputs, "costs"), _probe(inputs, "costs_at_start")
    return _panels(inputs, costs=(trained, _model(trained)), start=(start, _model(start)))


def draw_rec_c5_cost_real(table: pd.DataFrame, published: pd.DataFrame) -> Figure:
    """Ratio by layer and by number of tokens, the norms, and the margin that n tokens need."""
    figure, axes = _panels_of(4)
    start = table[table["panel"] == "start"]
    every = table[table["panel"] == "costs"]
    table = _first_model(every)
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
    n = ratios["n"].max()
    if len(start):
        untrained = _ratios(start[start["n"] == n], "frobenius")
        rows = untrained.groupby(["seed", "layer"], as_index=False)["ratio"].median()
        drawing.band(
            axes[0], rows, "layer", "ratio", color=drawing.COLOURS["published"], linestyle="--",
            label=f"n = {n}, random start",
        )  # fmt: skip
    for ax, label in [(axes[0], "layer"), (axes[1], "tokens n")]:
        ax.axhline(1, color="black", linestyle=":")
        ax.set(xlabel=label, ylabel="cost of diagonal / sink\n(median over texts)")
        _legend(ax, 3)
    for pattern in PATTERNS:
        rows = table[(table["n"] == n) & (table["pattern"] == pattern)]
        rows = rows.groupby(["seed", "layer"], as_index=False)["frobenius"].median()
        drawing.band(
            axes[2], rows, "layer", "frobenius", log=True, color=drawing.COLOURS[pattern],
            label=pattern,
            marker="o" if pattern == "sink" else "s", linestyle="-" if pattern == "sink" else "--",
        )  # fmt: skip
    axes[2].set(xlabel="layer", ylabel=f"|W| at margin 1, n = {n} (median)", yscale="log")
    _layers(axes[0])
    _layers(axes[2])
    _legend(axes[2])
    n = np.unique(np.geomspace(4, 1024, 20).round().astype(int))
    for dash, delta in enumerate([0.5, 0.1, 0.01]):
        margin = [theory.sufficient_margin(int(k), delta) for k in n]
        axes[3].plot(n, margin, linestyle=drawing.ordered_dash(dash), label=f"δ = {delta}")
    axes[3].set(xscale="log", xlabel="tokens n", ylabel="margin for a weight of 1 - δ (D1)")
    _legend(axes[3], 3)
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
    """Loss, the growth of sinks and other patterns against the step."""
    figure, axes = _panels_of(8, height=2.6)
    lm = table[table["panel"] == "LM"]
    lm = lm.assign(sink_percent=100 * lm["sink_rate"])
    words = {
        "loss": "held-out loss, nats a character",
        "train_loss": "loss on the training text",
        "sink_percent": f"heads with α_1 > {EPSILON}, %",
        "sink_mass": "mean weight on token 1",
        "diag_mass": "mean weight on the token itself",
        "rho_out": "|o_t| / |x_t| of a head",
        "relmu": "relμ before the last layer",
    }
    for ax, (column, label) in zip(axes, words.items(), strict=False):
        for position, (series, rows) in enumerate(lm.groupby("series", sort=False)):
            drawing.band(
                ax, rows, "step", column, label=series, linestyle=drawing.ordered_dash(position),
                color=drawing.COLOURS[f"model_{position % 8 + 1}"],
            )  # fmt: skip
        ax.set(xlabel="step", ylabel=label)
    axes[2].axhline(100 * FEWEST_SINKS, color="black", linestyle=":")
    axes[2].set(ylim=(0, None), title=f"dotted: {FEWEST_SINKS:.0%}, the least that decides")
    ax = axes[-1]
    tc = table[table["panel"] == "TC"]
    for position, (series, rows) in enumerate(tc.groupby("series", sort=False)):
        drawing.band(
            ax, rows, "step", "sink_mass", label=series, linestyle=drawing.ordered_dash(position),
            color=_colour(series),
        )  # fmt: skip
    ax.set(xlabel="step", ylabel="mean weight on token 1", title="plain rows of TC")
    _legend(ax)
    # Where the last row has room: below all panels stands what the figure is.
    handles, labels = axes[0].get_legend_handles_labels()
    axes[-2].legend(handles, labels, loc="upper center", bbox_to_anchor=(0.5, -0.2), fontsize=6.5)
    defaults = published[published["series"] == "Sink percent"] if len(published) else published
    note = "".join(f"; of other papers: sink rate {row.y:g} % ({row.source})"
                   for row in defaults.itertuples())  # fmt: skip
    tokens = (lm["steps"] * lm["batch"] * lm["context"]).max() / 1e6
    drawing.settings_line(
        figure, f"{OURS}; mean and std over {drawing.seeds_of(lm)}; at the end {tokens:.3g} "
        f"million tokens were seen, and below 100 million Gu et al. find less than 1 % of sinks"
        f"{note}",
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
    figure, axes = drawing.grid(len(tasks), 3, figsize=(WIDTH, 3.4 * len(tasks)))
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
        _points_by(
            row[2],
            plain,
            [("out_ratio", "uniform", "o"), ("row_sum", "published", "x")],
            {"out_ratio": "|o_t|, over trigger rows", "row_sum": "sum of the weights"},
        )
        row[2].set(xlabel="on plain rows", title=f"{task}: size")
        for ax in row[1:]:
            ax.set_yticklabels([])
            _legend(ax, 1)
    drawing.settings_line(
        figure, f"{OURS}; a dot a seed; MIX: with MLP and residual connection; weights divided by "
        "the sum of their row",
    )  # fmt: skip
    return figure


# ======================================================================================
# Attention as an MLP


def table_rec_c8_mlp_like(inputs: Inputs) -> pd.DataFrame:
    """Rows of TW and MIX at the end, of each architecture and start; and at the random start.

    `moved`: the larger change of sink_mass and diag_mass since the state measured before.
    """
    course = _probe(inputs, "course").sort_values("step")
    at = ["run", "seed", "row_kind"]
    masses = course.set_index(at)[["sink_mass", "diag_mass"]]
    moved = masses.groupby(level=at).diff().abs().max(axis=1).groupby(level=at).last()
    rows = _probe(inputs, "rows").merge(moved.rename("moved").reset_index(), on=at, how="left")
    null = _probe(inputs, "rows_at_start")
    panels = {task: own for task, own in rows.groupby("task", sort=False)}
    panels |= {f"{task}, random start": own for task, own in null.groupby("task", sort=False)}
    return _panels(inputs, **{name: (own, _architecture(own)) for name, own in panels.items()})


def draw_rec_c8_mlp_like(table: pd.DataFrame, published: pd.DataFrame) -> Figure:
    """Patterns, R² of the output on the own token, and what the layer does for the loss.

    Without MLP or residual connection of one start, of the whole block of all four.
    """
    figure, axes = drawing.grid(2, 3, figsize=(WIDTH, 7.4))
    for row, task in zip(axes, ["TW", "MIX"], strict=True):
        every = table[table["panel"] == task]
        if every.empty:
            continue
        every = every.assign(series=_with_start(every)).sort_values(
            ["mlp", "residual", "start"], kind="stable"
        )
        null = table[table["panel"] == f"{task}, random start"]
        null = _plain(null.assign(series=_with_start(null)))
        own, order = _plain(every), list(dict.fromkeys(every["series"]))
        grey = {"names": order, "shift": 0.2, "mfc": "none"}
        masses = [("sink_mass", "sink", "o"), ("diag_mass", "diagonal", "s")]
        _points_by(row[0], own, masses, names=order)
        _points_by(row[0], null, [("sink_mass", "published", "o")],
                   {"sink_mass": "random start, sink"}, **grey)  # fmt: skip
        for place in (0.1, 0.5):
            row[0].axvline(place, color="black", linestyle=":", linewidth=0.8)
        row[0].set(xlabel="mean weight on plain rows", title=task, xlim=(-0.03, 1.03))
        _points_by(row[1], own, [("r2_self", "uniform", "o")], {"r2_self": "trained"}, names=order)
        _points_by(row[1], null, [("r2_self", "published", "o")],
                   {"r2_self": "random start"}, **grey)  # fmt: skip
        row[1].axvline(0.9, color="black", linestyle=":", linewidth=0.8)
        row[1].set(xlabel="R² of o_t on x_t", title=f"{task}: token-wise?", xlim=(-0.03, 1.03))
        if task == "TW":
            rises = own.assign(
                off=own["dloss_off"] / own["loss"], own=own["dloss_own"] / own["loss"]
            )
            words = {"off": "no output, o = 0", "own": "map of the own token"}
            _points_by(row[2], rises, [("off", "model_2", "o"), ("own", "diagonal", "s")], words,
                       names=order)  # fmt: skip
            row[2].axvline(1, color="black", linestyle=":", linewidth=0.8)
            row[2].set(xlabel="rise of the loss / loss", title="TW: what the layer does")
            row[2].set_xscale("symlog", linthresh=1)
            row[2].set_xticks([0, 1, 10, 100, 1000], ["0", "1", "10", "", "1,000"])
            row[2].set_xticks([], minor=True)
        else:
            asked = every[every["row_kind"] == "trigger"]
            shares = asked.assign(share=asked["loss"] / asked["zero_loss"])
            _points_by(row[2], shares, [("share", "model_2", "o")], {"share": "trained"},
                       names=order)  # fmt: skip
            row[2].axvline(LEARNT, color="black", linestyle=":", linewidth=0.8)
            row[2].set(xlabel="loss on triggers / of outputs of 0", title="MIX: triggers learnt?")
            row[2].set_xscale("log")
            row[2].set_xticks([0.25, 0.5, 1, 2, 4, 8], ["0.25", "0.5", "1", "2", "4", "8"])
            row[2].set_xticks([], minor=True)
        for ax in row[1:]:
            ax.set_yticklabels([])
        for ax in row:
            _legend(ax, 1)
    drawing.settings_line(
        figure, f"{OURS}; a dot a seed ({table['seed'].nunique()}); dotted: what the rules ask for",
    )  # fmt: skip
    return figure


def _with_start(rows: pd.DataFrame) -> pd.Series:
    """The architecture; of the whole block, which ran from all of them, with the start."""
    whole = (rows["mlp"] > 0) & rows["residual"].astype(bool)
    bias = np.where(rows["value_bias"].astype(bool), ", value bias", "")
    return rows["series"].where(~whole, "both, " + rows["start"] + bias)


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
    figure, axes = _panels_of(5)
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
    for ax, net in [(axes[2], "SAN"), (axes[3], "SAN + skip")]:
        names = [name for name in FORCED if name in set(forced["pattern"])]
        for position, pattern in enumerate(names):
            lines = forced[(forced["net"] == net) & (forced["pattern"] == pattern)]
            drawing.band(
                ax, lines, "layer", "relmu", log=True, label=pattern,
                color=drawing.COLOURS[f"model_{position + 1}"], **FORCED[pattern],
            )  # fmt: skip
        ax.set(title=f"forced patterns, {net}")
    trained = table[table["panel"] == "trained"]
    for position, (series, rows) in enumerate(trained.groupby("series", sort=False)):
        by_seed = rows.groupby(["seed", "layer"], as_index=False)[["relmu", "mean_cos"]].mean()
        # Others are many, and drawn thin and without a name.
        first = position == 0
        look = {"color": drawing.COLOURS["model_1" if first else "published"]}
        look["linewidth"] = 1.4 if first else 0.4
        for column, name, dash in [("relmu", "relμ", "-"), ("mean_cos", "mean cosine", "--")]:
            label = f"{name}, {series}" if first else None
            drawing.band(axes[4], by_seed, "layer", column, linestyle=dash, label=label, **look)
    axes[4].set(title="trained", ylim=(0, 1.15))
    _layers(axes[4])
    for ax in axes[:4]:
        ax.set(xlabel="layer", ylabel="relμ = μ(X) / |X|")
        drawing.log_y(ax)
        _legend(ax)
    axes[4].set(xlabel="layer", ylabel="relμ; mean cosine")
    _legend(axes[4], 1)
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
    names = {"none": "as it is", "no_bos": "without BOS", "sinks": "a quarter of the heads off"}
    shown = [name for name in names if name in set(first["ablation"])]
    figure, axes = _panels_of(len(shown) + 1)
    image = None
    # Nothing is changed before the changed token, and little far behind it.
    place = first["position"].max() // 4 + 1
    first = first[first["position"] >= place]
    sizes = first["delta_norm"].where(first["delta_norm"] > 0)
    some_size = sizes.notna().any()
    norm = LogNorm(max(sizes.min(), sizes.max() / 1e3), sizes.max()) if some_size else None
    for ax, name in zip(axes, shown, strict=False):
        grid = first[first["ablation"] == name].groupby(["layer", "position"])["delta_norm"].mean()
        if not grid.notna().any():
            continue
        image = ax.imshow(
            grid.unstack(), aspect="auto", cmap="viridis", norm=norm, origin="lower",
            extent=(place - 0.5, first["position"].max() + 0.5, 0.5, first["layer"].max() + 0.5),
        )  # fmt: skip
        ax.grid(False)
        ax.set(title=names[name], xlabel="position", ylabel="before layer")
        ax.set_yticks(sorted(first["layer"].unique()))
    if image is not None:
        figure.colorbar(image, ax=axes[len(shown) - 1], label="|Δx| / mean |x|", extend="min")
    for position, name in enumerate(shown):
        rows = first[(first["ablation"] == name) & (first["position"] > place)]
        rows = rows.groupby(["seed", "layer"], as_index=False)["delta_norm"].mean()
        drawing.band(
            axes[-1], rows, "layer", "delta_norm", label=names[name],
            color=drawing.COLOURS[f"model_{position + 1}"], marker=drawing.MARKERS[position],
            linestyle=drawing.ordered_dash(position),
        )  # fmt: skip
    axes[-1].set(xlabel="before layer", ylabel="mean |Δx| / mean |x|\nafter the changed token")
    _layers(axes[-1])
    _legend(axes[-1], 1)
    _head_line(figure, table, "off: the heads with the largest α_1, sinks or not")
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
    """Norm of an output whose sink has value 0, with the rest of the weight spread or random.

    At most δ max |v_j|, and at least (`least`) δ times the distance of 0 to the hull of the other
    values: a small output needs a small δ where no mean of the other values is 0.
    """
    from replica.theory.margins import min_norm_point

    n, d = 16, 8
    values = generator.standard_normal((n, d))
    # Away from 0, which is then outside of the hull.
    values[:, 0] += 3
    values[0] = 0
    distance, _ = min_norm_point(values[1:])
    shares = {"rest spread evenly": np.full(n - 1, 1 / (n - 1)),
              "rest at random": generator.dirichlet(np.ones(n - 1))}  # fmt: skip
    rows = []
    for name, share in shares.items():
        for delta in np.geomspace(1e-6, 0.5, 13):
            output = np.r_[1 - delta, delta * share] @ values
            rows.append({"pattern": name, "n": n, "x": delta, "value": np.linalg.norm(output),
                         "theory": theory.switch_bound(delta, values),
                         "least": delta * distance})  # fmt: skip
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
    """Frobenius cost of the diagonal over that of the sink on tokens O, by its constraints."""
    from replica.theory.margins import minimum_norm

    rows = []
    for n in (4, 7):
        for m in (0.0, 0.25, 0.5, 1.0, 2.0):
            X = theory.orthonormal_tokens(n, m)
            found = {p: minimum_norm(X, p, causal=False).frobenius for p in PATTERNS}
            rows.append({"pattern": f"n = {n}", "n": n, "x": m,
                         "value": found["diagonal"] / found["sink"],
                         "theory": theory.cost_ratio(n, m)[0]})  # fmt: skip
    return pd.DataFrame(rows).assign(seed=-1)


def draw_rec_d_identities(table: pd.DataFrame, published: pd.DataFrame) -> Figure:
    """Markers: explicit matrices; lines: closed forms."""
    figure, axes = _panels_of(4)
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
            if panel == "D4":
                ax.plot(rows["x"], rows["least"], **line)
        ax.set(title=panel, xlabel=words[panel][0], ylabel=words[panel][1])
        _legend(ax, title="lines: both bounds" if panel == "D4" else "lines: closed form")
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
    _legend(axes[2], 3)
    drawing.settings_line(figure, OURS)
    return figure


# ======================================================================================
# Claims


# A state is settled where neither mass moved by more than this since the one measured before.
STILL = 0.05
# What c5 asks for: TW and MIX without MLP, with and without residual connection, and with MLP two
# norms at two gains.
WITHOUT_MLP, STARTS = 4, 4
# A network has learnt what rows ask for where its loss is at most this share of outputs of 0.
LEARNT = 0.5
# Of relμ: below it dense attention and the attention of a head are the same.
NEAR = 0.01
# A language model decides on sinks where at least this share of its heads are: below 100 million
# tokens Gu et al. 2025 find fewer.
FEWEST_SINKS = 0.01


def claim_c1(tables: Tables) -> Verdict:
    """Sinks need alignment: drawn sets by linear programs, trained heads by the hull."""
    table = tables["rec_c3_alignment"]
    sets, heads = table[table["panel"] == "sets"], table[table["panel"] == "heads"]
    rates, with_sinks = _models_with_sinks(tables)
    # Queries of pretrained models have biases, for which alignment is not needed.
    heads = heads[heads["task"] == "LM"]
    rows = table[(table["panel"] == "rows") & (table["row_kind"] == "plain")]
    finite(sets[["feasible", "condition"]], "answer on a drawn set")
    some(sets[sets["feasible"] == 1], "drawn set on which a sink is possible")
    some(sets[sets["feasible"] == 0], "drawn set on which a sink is impossible")
    finite(heads[["margin_sink", "nu"]], "margin and ν of a head of a language model")
    finite(rows[["sinks", "sinks_at_zero"]], "count of sinks in a run of TC")
    agree = float((sets["feasible"] == sets["condition"]).mean())
    own = heads[heads["margin_sink"] > 0]
    against = int((own["nu"] == 0).sum()) + int(rows["sinks_at_zero"].sum())
    possible = 100 * sets["feasible"].mean()
    count = sets["seed"].nunique()
    detail = (
        f"exact: a linear program agrees with the condition in {100 * agree:.1f} % of {count} "
        f"drawn sets, causal and bidirectional (a sink is possible in {possible:.0f} %); trained "
        f"heads with a positive margin on all rows: {len(own)} of {len(heads)} of language models "
        f"(whose tokens are no more than dimensions), {rows['sinks'].sum():.0f} sequences of TC "
        f"(whose constant coordinate aligns them), of which {against} have 0 in the hull of the "
        f"tokens; evidence, which decides nothing: Spearman of margin and ν over heads "
        f"{_correlation(heads, 'margin_sink', 'nu'):.2f}; {rates}"
    )
    if count < 500:
        return undecidable(f"too few sets; {detail}", value=agree)
    if agree < 1 or against:
        return decide(False, value=agree, detail=detail)
    # Nothing contradicts, which says something only where there was something to look at.
    if with_sinks.isdisjoint(_member(heads)):
        return undecidable(f"{NO_SINKS}; {detail}", value=agree)
    if own.empty and not rows["sinks"].sum():
        return undecidable(f"nothing trained is a sink on all rows; {detail}", value=agree)
    return decide(True, value=agree, detail=detail)


def claim_c2(tables: Tables) -> Verdict:
    """Dense attention smooths more, by more than near ties, and more often than at the start."""
    table = tables["rec_c4_smoothing"]
    rows = table[table["variant"] == "original"]
    rows = rows.assign(rise=1 - rows["relmu_dense"] / rows["relmu_out"])
    rows = rows.assign(more=(rows["rise"] > NEAR).astype(float), tie=rows["rise"].abs() <= NEAR)
    trained = some(rows[rows["panel"] == "heads"], "head with dense attention")
    start = rows[rows["panel"] == "start"]
    detail = "; ".join(
        f"{series}: {_smoothed(own)}"
        for series, own in trained.groupby("series", sort=False)
        if (own["task"] == "LM").all()
    )
    detail += f"; at the random start: {_smoothed(start)}" if len(start) else ""
    rates, with_sinks = _models_with_sinks(tables)
    detail = f"{detail}; {rates}"
    names = _member(trained)
    deciding = trained[names.isin(with_sinks)]
    if deciding.empty:
        return undecidable(f"{NO_SINKS}; {detail}", value=float(trained["more"].mean()))
    finite(deciding["rise"], "difference from dense attention")
    finite(start["rise"], "difference from dense attention at the random start")
    shares = deciding.groupby(names)["more"].mean()
    untrained = start["more"].mean()
    least = np.full(len(shares), max(0.5, untrained))
    listed = ", ".join(f"{name} {100 * share:.0f} %" for name, share in shares.items())
    return by_chance(
        beyond(shares, least), beyond(least, shares), value=float(shares.mean()),
        detail=f"{listed}, against {100 * least[0]:.0f} %; {detail}",
    )  # fmt: skip


def _smoothed(rows: pd.DataFrame) -> str:
    """Shares of cases by seed, layer and head, and how near to dense the attention is."""

    def shares(by: str) -> str:
        means = 100 * rows.groupby(by)["more"].mean()
        return f"{means.min():.0f} to {means.max():.0f} % by {by}"

    heads = 100 * rows.groupby(["seed", "layer", "head"])["more"].mean()
    return (
        f"dense smooths more in {100 * rows['more'].mean():.0f} % ({shares('seed')}, "
        f"{shares('layer')}, {heads.min():.0f} to {heads.max():.0f} % by head), within {NEAR:.0%} "
        f"of relμ in {100 * rows['tie'].mean():.0f} %, median difference "
        f"{100 * rows['rise'].median():.1f} % of relμ; ties counted by their sign "
        f"{100 * rows['dense_more'].mean():.0f} %; median entropy {rows['entropy'].median():.2f} "
        "of that of dense attention"
    )


def claim_c3(tables: Tables) -> Verdict:
    """A sink is a switch and a switch a sink: D4; and the more a sink, the less a head puts out."""
    d4 = tables["rec_d_identities"].query("panel == 'D4'")
    finite(some(d4, "output of D4")[["value", "theory", "least"]], "output of D4")
    above = float((d4["value"] / d4["theory"]).max())
    below = float((d4["value"] / d4["least"]).min())
    table = tables["rec_c2_switch"]
    rows = table[(table["panel"] == "rows") & (table["row_kind"] == "plain")]
    rows = rows[rows["task"] == "TC"]
    mean = rows.groupby("series", sort=False)[
        ["switched", "idle", "first_weight", "out_ratio"]
    ].mean()
    listed = "; ".join(
        f"{name}: weight on token 1 {row.first_weight:.2f}, |o_t| {row.out_ratio:.3f} of trigger "
        f"rows, switched {100 * row.switched:.1f} %, idle {100 * row.idle:.1f} %"
        for name, row in mean.iterrows()
        if name in (ATTENTIONS["softmax"], ATTENTIONS["relu"])
    )
    heads = table[table["panel"] == "heads"]
    detail = (
        f"exact: |o| is at most {above:.3f} of the bound from above and at least {below:.3f} times "
        f"that from below; plain rows of TC, a task made for it, which decide nothing, "
        f"{rows['seed'].nunique()} seeds: {listed}"
    )
    if not (above <= 1 + 1e-9 and below >= 1 - 1e-9):
        return decide(False, value=above, detail=detail)
    return _falls_with_sinks(tables, heads, "rho_out", "|o|/|x|", detail)


def _falls_with_sinks(
    tables: Tables, heads: pd.DataFrame, column: str, words: str, detail: str
) -> Verdict:
    """Whether a column falls with α_1 over the heads of the models that have sinks, one by one."""
    rates, with_sinks = _models_with_sinks(tables)
    rho = {name: _correlation(own, "alpha1", column) for name, own in heads.groupby(_member(heads))}
    listed = ", ".join(f"{name} {value:.2f}" for name, value in rho.items())
    detail += f"; evidence: Spearman of α_1 and {words} over heads: {listed}; {rates}"
    found = pd.Series({name: value for name, value in rho.items() if name in with_sinks})
    if found.empty:
        value = float(np.mean(list(rho.values()))) if rho else None
        return undecidable(f"{NO_SINKS}; {detail}", value=value)
    compared = heads[_member(heads).isin(with_sinks)]
    finite(compared[["alpha1", column]], f"α_1 and {words} of a head")
    zero = np.zeros(len(found))
    value = float(finite(found, f"correlation with {words}").mean())
    return by_chance(beyond(zero, found), beyond(found, zero), value=value, detail=detail)


# Of the models that a claim compares: others may have sinks, and stand in the same detail.
NO_SINKS = (
    "no language model with these measurements has sinks in "
    f"{FEWEST_SINKS:.0%} of its heads or more"
)


def _models_with_sinks(tables: Tables) -> tuple[str, set[str]]:
    """The share of heads that are sinks, by model and in words; and the models that have some.

    Of natural texts: a head with α_1 > 0.3 of T = 64 tokens, as in Gu et al. 2025.
    """
    table = tables["rec_c1_rates"]
    heads = table[table["panel"] == "heads"]
    heads = heads[(heads["input"] == "natural") & np.isclose(heads["eps"], EPSILON)]
    heads = heads[heads["T"] == _standard_length(heads)]
    finite(heads["sink_rate"], "share of sinks of a head of a language model")
    shares = heads.groupby(_member(heads))["sink_rate"].mean()
    listed = ", ".join(f"{name} {100 * share:.1f} %" for name, share in shares.items())
    return f"heads that are sinks: {listed}", set(shares[shares >= FEWEST_SINKS].index)


def _member(rows: pd.DataFrame) -> pd.Series:
    """The name of the model of each row: a seed of a run of ours, or a pretrained one."""
    names = rows["run"] + " seed " + rows["seed"].astype(int).astype(str)
    return names.where(rows["task"] == "LM", rows["model"]) if "model" in rows else names


def claim_c4(tables: Tables) -> Verdict:
    """Sinks cost less: closed forms, drawn tokens, embeddings of published models."""
    synth, real = tables["rec_c5_cost_synth"], tables["rec_c5_cost_real"]
    drawn = synth[(synth["panel"] == "R") & (synth["causal"] == 1)]
    error = _errors_of_closed_forms(synth)
    wrong = int((~(error <= 1e-6)).sum())
    kkt = np.nanmax([synth["kkt"].max(), real["kkt"].max()])
    detail = f"exact: closed forms to {error.max():.0e}, conditions of optimality to {kkt:.0e}"
    if wrong:
        return decide(False, value=wrong, detail=f"{wrong} cells are no closed form; {detail}")
    ratios = some(_ratios(drawn, "frobenius"), "draw of tokens R on which both are possible")
    by_draw = ratios.pivot(index=["n", "d", "seed"], columns="m", values="ratio")
    means = ", ".join(f"{by_draw[m].mean():.2f} at m = {m:g}" for m in by_draw)
    rises = trend(by_draw, falls=False)
    detail += (
        f"; evidence: mean diagonal/sink on {len(by_draw)} draws of tokens R {means}, chance level "
        f"of the rise {rises:.2g}"
    )
    real = real[real["panel"] == "costs"]
    medians = _log_ratios(some(real, "cost on embeddings"))
    later = medians[medians["layer"] >= 2]
    if later.empty:
        return undecidable(f"no layer from 2 on; {detail}")
    by_layer = medians[medians["task"] == "LM"].groupby(["layer", "n"])["ratio"].median().unstack()
    detail += "; median on embeddings of LM: " + "; ".join(
        f"layer {layer}: {row.iloc[0]:.2f} at n = {row.index[0]}, {row.iloc[-1]:.2f} at n = "
        f"{row.index[-1]}" for layer, row in by_layer.iterrows()
    )  # fmt: skip
    start = tables["rec_c5_cost_real"].query("panel == 'start'")
    if len(start):
        untrained = _log_ratios(start)
        untrained = untrained[untrained["layer"] >= 2].groupby("n")["ratio"].median()
        detail += f"; at the random start, layers from 2 on: {_by_n(untrained)}"
    rates, with_sinks = _models_with_sinks(tables)
    detail = f"{detail}; {rates}"
    later = later.assign(member=_member(later))
    deciding = later[later["member"].isin(with_sinks)]
    if deciding.empty:
        return undecidable(f"{NO_SINKS}; {detail}", value=float(np.exp(later["log_ratio"].min())))
    wide = deciding.groupby(["member", "n"])["log_ratio"].median().unstack()
    most, fewest = wide[wide.columns.max()], wide[wide.columns.min()]
    zero = np.zeros(len(most))
    listed = ", ".join(f"{name} {np.exp(value):.2f}" for name, value in most.items())
    return by_chance(
        max(rises, beyond(most, zero), beyond(most, fewest)),
        beyond(zero, most),
        value=float(np.exp(most.min())), detail=f"{listed} at n = {wide.columns.max()}; {detail}",
    )  # fmt: skip


def _errors_of_closed_forms(synth: pd.DataFrame) -> pd.Series:
    """Differences from D7; NaN where there is no solution, which is a mistake there."""
    norms = [
        (synth[norm] - synth[f"theory_{norm}"])[synth[f"theory_{norm}"].notna()].abs()
        for norm in ("frobenius", "nuclear")
    ]
    return some(pd.concat(norms), "closed form")


def _log_ratios(rows: pd.DataFrame) -> pd.DataFrame:
    """Median over texts of diagonal/sink, of each model, seed, layer and n."""
    at = [name for name in ("task", "model", "run", "seed", "layer", "n") if name in rows]
    known = rows.drop_duplicates("run")[[n for n in ("run", "task", "model") if n in rows]]
    ratios = _ratios(rows, "frobenius").merge(known, on="run")
    medians = ratios.groupby(at, dropna=False)["ratio"].median().reset_index()
    return medians.assign(log_ratio=np.log(medians["ratio"]))


def _by_n(ratios: pd.Series) -> str:
    return ", ".join(f"{ratio:.2f} at n = {n}" for n, ratio in ratios.items())


def claim_c5(tables: Tables) -> Verdict:
    """Attention-only networks are diagonal and token-wise; MIX with MLP has a sink at any start."""
    table = tables["rec_c8_mlp_like"]
    table = table[~table["value_bias"].astype(bool)]
    outcomes, details = {}, []
    for task in ("TW", "MIX"):
        own = table[(table["panel"] == task) & (table["mlp"] == 0)]
        for series, rows in own.groupby("series", sort=False):
            plain = _plain(rows)
            right = (plain["diag_mass"] > 0.5) & (plain["sink_mass"] < 0.1)
            right &= plain["r2_self"] > 0.9
            name, usable = f"{task}, {series}", _usable(plain, plain)
            outcomes[name] = _outcome(right, usable, looks=WITHOUT_MLP)
            mean = plain[["diag_mass", "sink_mass", "r2_self"]].mean()
            details.append(
                f"{name}: diagonal {mean['diag_mass']:.2f}, sink {mean['sink_mass']:.2f}, R² "
                f"{mean['r2_self']:.3f}, {_in_seeds(right, usable, outcomes[name])}"
            )
    if len(outcomes) < WITHOUT_MLP:
        outcomes["networks without MLP that did not run"] = None
    alone = dict(outcomes)
    starts = _full(table, "MIX")
    sinks, counts = {}, {}
    for start, rows in starts.groupby("start", sort=False):
        plain, asked = _plain(rows), rows[rows["row_kind"] == "trigger"]
        sinks[start] = plain["sink_mass"].mean()
        right = (plain["sink_mass"] > 0.5) & (plain["diag_mass"] < 0.5)
        counts[start] = int(right.sum())
        usable = _usable(plain, plain, asked)
        outcomes[start] = _outcome(right, usable)
        details.append(
            f"MIX with MLP and residual connection, {start}: sink {_each(plain['sink_mass'])}, "
            f"diagonal {_each(plain['diag_mass'])}, loss on trigger rows "
            f"{_each(asked['loss'] / asked['zero_loss'])} of that of outputs of 0, "
            f"{_in_seeds(right, usable, outcomes[start])}"
        )
    if len({*counts.values()}) > 1:
        listed = ", ".join(f"{count} ({start})" for start, count in counts.items())
        details.insert(0, f"what forms differs with the start, MIX is right in seeds: {listed}")
    some(alone, "network without MLP")
    value = float(min(sinks.values())) if sinks else np.nan
    return _over_starts(outcomes, alone, some(sinks, "network with MLP"), value, details)


def claim_c5_tw(tables: Tables) -> Verdict:
    """TW with MLP and residual connection: what the layer does for the loss, and how token-wise."""
    table = tables["rec_c8_mlp_like"]
    table = table[~table["value_bias"].astype(bool)]
    outcomes, shares, details = {}, {}, []
    untrained = _full(table, "TW, random start")
    for start, rows in _full(table, "TW").groupby("start", sort=False):
        end = _plain(rows).set_index("seed")
        null = _plain(untrained[untrained["start"] == start]).set_index("seed").reindex(end.index)
        used, half = beyond(end["dloss_off"], end["loss"]), end["dloss_off"] / 2
        own = beyond(half, end["dloss_own"])
        r2 = beyond(end["r2_self"], null["r2_self"])
        usable = _usable(end, end)
        other = beyond(end["dloss_own"], half)
        holds = max(own, r2) < CHANCE
        decided = usable.all() and used < CHANCE and (holds or other < CHANCE)
        outcomes[start] = holds if decided else None
        saved = end[["dloss_off", "dloss_own"]].mean()
        shares[start] = 1 - saved["dloss_own"] / (saved["dloss_off"] or np.nan)
        details.append(
            f"{start}: loss {end['loss'].mean():.1e}, without the layer's output "
            f"{end['dloss_off'].mean():+.1e} (chance level of twice the loss {used:.2g}), with its "
            f"token-wise part alone {end['dloss_own'].mean():+.1e} (of less than half {own:.2g}), "
            f"with A = I {end['dloss_diag'].mean():+.1e}; R² on the own token "
            f"{end['r2_self'].mean():.2f} ({null['r2_self'].mean():.2f} at the random start, "
            f"chance level {r2:.2g}), |o|/|x| {end['rho_out'].mean():.2f} "
            f"({null['rho_out'].mean():.2f}), sink {end['sink_mass'].mean():.2f} "
            f"({null['sink_mass'].mean():.2f}), diagonal {end['diag_mass'].mean():.2f} "
            f"({null['diag_mass'].mean():.2f}); {usable.sum()} of {len(usable)} seeds settled and "
            f"learnt, {_words_of(outcomes[start])}"
        )
    value = float(min(some(shares, "network with MLP").values()))
    return _over_starts(outcomes, {}, shares, value, details)


def _usable(plain: pd.DataFrame, *asked: pd.DataFrame) -> np.ndarray:
    """Which seeds have settled, lack no number, and have learnt what some rows ask for."""
    keep = plain["moved"].to_numpy() <= STILL
    keep &= plain[["sink_mass", "diag_mass", "r2_self"]].notna().all(axis=1).to_numpy()
    for rows in asked:
        keep &= rows["loss"].to_numpy() <= LEARNT * rows["zero_loss"].to_numpy()
    return keep


def _outcome(right: pd.Series, usable: np.ndarray, looks: int = 1) -> bool | None:
    """Whether a rule is right in so many seeds, or so few, that chance does not show it.

    Args:
        looks: how many networks there are of which one that is wrong refutes the claim.
    """
    if not usable.all():
        return None
    if coin(right, "greater") < CHANCE:
        return True
    return False if looks * coin(right, "less") < CHANCE else None


def _in_seeds(right: pd.Series, usable: np.ndarray, outcome: bool | None) -> str:
    """In how many seeds a rule is right, how many may decide, and what follows."""
    return (
        f"right in {right.sum()} of {len(right)} seeds, {usable.sum()} settled and learnt "
        f"({_words_of(outcome)})"
    )


def _words_of(outcome: bool | None) -> str:
    return {True: "the rule holds", False: "it does not", None: "nothing is decided"}[outcome]


def _each(values: pd.Series) -> str:
    return " ".join(f"{value:.2f}" for value in values)


def _over_starts(
    outcomes: Mapping[str, bool | None],
    alone: Mapping[str, bool | None],
    starts: Mapping[str, float],
    value: float,
    details: Sequence[str],
) -> Verdict:
    """Holds, or fails, where it does from every start (and without MLP); else it depends on it."""
    detail = "; ".join(details)
    if len(starts) < STARTS:
        starts = {**starts, "starts that did not run": np.nan}
        outcomes = {**outcomes, "starts that did not run": None}
    undecided = [name for name, outcome in outcomes.items() if outcome is None]
    by_start = {outcomes[start] for start in starts}
    if False in alone.values() or by_start == {False}:
        return decide(False, value=value, detail=detail)
    reasons = ["it depends on the start"] if by_start >= {True, False} else []
    if undecided:
        reasons.append(
            f"undecided between seeds, not settled or not learnt: {'; '.join(undecided)}"
        )
    if reasons:
        return undecidable(f"{'; '.join(reasons)}. {detail}", value=value)
    return decide(True, value=value, detail=detail)


def claim_c6(tables: Tables) -> Verdict:
    """D5 on forced patterns, a sink of value 0 beside a residual connection; values of sinks."""
    d5 = tables["rec_d_identities"].query("panel == 'D5'")
    finite(d5["value"], "ratio of D5")
    d5 = d5.groupby("series")["value"].agg(["min", "max"])
    d5 = finite(d5.reindex(["uniform", "pure sink", "diagonal"]), "ratio of D5")
    table = tables["rec_c9_oversmoothing"]
    forced = table[(table["panel"] == "random") & (table["net"] == "SAN + skip")]
    forced = forced[forced["pattern"] != "own"]
    kept = forced[forced["pattern"] == "sink, value 0"]
    start = kept[kept["layer"] == 0].set_index("seed")["relmu"]
    ratio = finite(kept["relmu"] / kept["seed"].map(start), "relμ with a sink of value 0")
    off = float((ratio - 1).abs().max())
    ends = forced[forced["layer"] == forced["layer"].max()].groupby("pattern")["relmu"].mean()
    listed = ", ".join(f"{name} {value:.2g}" for name, value in ends.items())
    detail = (
        f"exact: μ(AX)/μ(X): uniform {d5.loc['uniform', 'max']:.1e}, sink "
        f"{d5.loc['pure sink', 'max']:.1e}, diagonal {d5.loc['diagonal', 'min']:.6f}; relμ of all "
        f"layers with a sink of value 0 and skip within {off:.0e} of the start; evidence, which "
        f"decides nothing: relμ of random networks after {forced['layer'].max():.0f} layers with "
        f"skip: {listed}"
    )
    exact = max(d5.loc["uniform", "max"], d5.loc["pure sink", "max"]) < 1e-6
    exact &= (d5.loc["diagonal"] - 1).abs().max() < 1e-6
    if not (exact and off < 1e-6):
        return decide(False, value=off, detail=detail)
    switches = tables["rec_c2_switch"]
    heads = switches[switches["panel"] == "heads"]
    return _falls_with_sinks(tables, heads, "value_drain", "|v_1| / mean |v_t|", detail)


# ======================================================================================
# Rows


def _probe(inputs: Inputs, name: str) -> pd.DataFrame:
    """The rows of one probe, without the columns of others."""
    measures = inputs.measures
    if "probe" not in measures:  # no model was made
        return measures.iloc[:0]
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


def _with_columns(table: pd.DataFrame, names: list[str]) -> pd.DataFrame:
    """A table that also has the columns of language models where none of them was made."""
    return table.reindex(columns=[*table, *(name for name in names if name not in table)])


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
    names = pd.Series(names, index=rows.index, dtype=object)
    decay = rows["weight_decay"].astype(float)
    return names.where(decay == 0.1, names + ", decay " + decay.map("{:g}".format))


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
    # Of no rows a mapped column is none of words.
    number = table["setting"].map("{:g}".format).astype(str)
    names = table["variant"].map(
        {"original": "as it is", "dense": "dense", "drained": "value of token 1 is 0"}
    )
    return names.fillna(
        table["variant"].map({"top": "largest ", "temperature": "temperature "}).astype(str)
        + number
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
    _legend(ax, 1)


def _cost_line(
    ax: Axes, rows: pd.DataFrame, x: str, y: str, pattern: str, label: str, drawn: bool = False
) -> None:
    """Mean and deviation of log10 over draws, where there are any; these with open markers."""
    drawing.band(
        ax, rows.dropna(subset=y), x, y, log=True, color=drawing.COLOURS[pattern], label=label,
        marker="o" if pattern == "sink" else "s", linestyle="--" if drawn else "-",
        mfc="white" if drawn else None, markersize=5 if drawn else 4,
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
    """Bars of some columns for each value of another one; dots are seeds."""
    names = list(order or dict.fromkeys(rows[by]))
    for position, (column, name) in enumerate(columns.items()):
        by_seed = rows.groupby([by, "seed"])[column].mean().mul(factor)
        shift = 0.4 * position - 0.2
        ax.bar(
            np.arange(len(names)) + shift, by_seed.groupby(by).mean().reindex(names), 0.38,
            color=drawing.COLOURS[name], label=(labels or {}).get(column, name),
            hatch="" if position == 0 else "//", edgecolor="white", linewidth=0.3,
        )  # fmt: skip
        places = [names.index(value) + shift for value in by_seed.index.get_level_values(0)]
        ax.plot(places, by_seed, linestyle="none", marker=".", markersize=3, color="black")
    ax.set_xticks(range(len(names)), names, rotation=30 if by == "series" else 0,
                  ha="right" if by == "series" else "center")  # fmt: skip


def _points_by(
    ax: Axes,
    rows: pd.DataFrame,
    columns: Sequence[tuple[str, str, str]],
    labels: Mapping[str, str] | None = None,
    names: Sequence[str] | None = None,
    shift: float = 0.0,
    **marks: object,
) -> None:
    """Some columns, a dot a seed and a line a series, the first one on top."""
    names = list(names or dict.fromkeys(rows["series"]))
    rows = rows[rows["series"].isin(names)]
    for offset, (column, name, marker) in enumerate(columns):
        by_seed = rows.groupby(["series", "seed"])[column].mean()
        places = [names.index(series) for series in by_seed.index.get_level_values(0)]
        ax.plot(
            by_seed, np.array(places) + 0.2 * offset - shift, linestyle="none", marker=marker,
            color=drawing.COLOURS[name], label=(labels or {}).get(column, name), alpha=0.7, **marks,
        )  # fmt: skip
    ax.set_yticks(range(len(names)), names)
    ax.set_ylim(len(names) - 0.4, -0.6)


def _panels_of(count: int, height: float = 2.9) -> tuple[Figure, list[Axes]]:
    """So many panels, two in a row as wide as a column of text; a place that is left is empty."""
    rows = -(-max(count, 1) // 2)
    figure, axes = plt.subplots(rows, 2, figsize=(WIDTH, height * rows), squeeze=False)
    for ax in axes.flat[count:]:
        ax.axis("off")
    return figure, list(axes.flat[:count])


def _left_out(ax: Axes, words: str) -> None:
    """Words in place of a panel that shows nothing."""
    ax.axis("off")
    drawing.nothing(ax, words)


def _legend(ax: Axes, columns: int = 2, below: float = 0.2, **style: object) -> None:
    """A legend below the panel, where it hides nothing."""
    ax.legend(loc="upper center", bbox_to_anchor=(0.5, -below), ncols=columns, **style)


def _head_line(figure: Figure, rows: pd.DataFrame, more: str = "") -> None:
    """What the figure is, the models in it, and more words."""
    models = []
    for series, own in rows.groupby("series", sort=False):
        models.append(f"{series} ({drawing.seeds_of(own)})")
    left = len(models) - 3
    others = f"; and {left} other model{'s' * (left > 1)}" if left > 0 else ""
    words = f"{OURS}; {'; '.join(models[:3])}{others}" + (f"; {more}" if more else "")
    drawing.settings_line(figure, words)
