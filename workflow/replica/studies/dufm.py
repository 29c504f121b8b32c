"""Deep Neural Collapse Is Provably Optimal for the Deep Unconstrained Features Model.

Súkeník, Mondelli, Lampert; NeurIPS 2023; arXiv 2305.13165. The theory is checked exactly; no
figure, setting or number of the experiments is known, so every figure here is reconstructed.
"""

from collections.abc import Iterator, Mapping

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from replica import drawing
from replica.measures.inputs import Inputs, last_step, tidy
from replica.measures.outcomes import (
    CALM_RULE,
    ENDS,
    SETTLED,
    SETTLED_RULE,
    not_calm,
    outcomes,
)
from replica.measures.trends import more_often, wilson_interval
from replica.theory import dnc
from replica.verdicts import (
    HOLDS,
    Verdict,
    by_chance,
    coin,
    decide,
    finite,
    some,
    undecidable,
)

Tables = Mapping[str, pd.DataFrame]
METRICS = {
    "nc1_ratio": "DNC1: within / between-class variability",
    "cond": "DNC2: condition number - 1",
    "wsine": "DNC3: weighted sine",
}
AT_OPTIMUM = 0.01
# How strong a curve is drawn of what nothing forces.
FREE = 0.35
# What DNC1-DNC3 have to reach; the condition number minus 1.
LIMITS = {"nc1_ratio": 1e-4, "cond": 0.25, "wsine": 0.3}
# Below a tenth of its limit a weighted sine may be at its floor, and need not fall.
SMALL_SINE = 0.03
# Losses are computed in float64, whatever the precision of the training.
ROUNDING = 1e-9

# ======================================================================================
# rec_depth: gradient descent agrees with the theory at several depths


def table_rec_depth(inputs: Inputs) -> pd.DataFrame:
    """Gap to L_DNC by step, metrics by step and layer, and the outcome of each run.

    Panels: loss (value = loss, reference = L_DNC), metric (by layer; ReLU side post for l >= 2 and
    pre for l = 1, both kept in `relu`), outcome (value = final gap, `status_run`).
    """
    return pd.concat([*_loss_and_metrics(inputs), _outcome_rows(inputs)], ignore_index=True)


def draw_rec_depth(table: pd.DataFrame, published: pd.DataFrame) -> Figure:
    """A row per depth: loss gap, and the three metrics, one curve a layer."""
    depths = sorted(table["L"].unique())
    figure, axes = plt.subplots(
        len(depths), 4, figsize=(10, 2.2 * len(depths) + 0.6), squeeze=False, sharex=True
    )
    for row, L in zip(axes, depths, strict=True):
        part = table[table["L"] == L]
        _draw_gap(row[0], part)
        row[0].set_ylabel(f"L = {L}\nloss - L_DNC")
        for ax, metric in zip(row[1:], METRICS, strict=True):
            _draw_metric(ax, part, metric)
    for ax in axes[-1]:
        ax.set_xlabel("gradient steps")
    for row in axes:
        row[1].legend(ncols=2)
    note = "M_1 has no ReLU, and nothing forces its condition number: there the optimum is flat"
    drawing.settings_line(figure, f"{_settings(table)}\n{note}")
    return figure


# ======================================================================================
# rec_width: the effect of the width


def table_rec_width(inputs: Inputs) -> pd.DataFrame:
    """By width: outcome and final gap of each seed, steps to 1.05 L_DNC, final metrics."""
    runs = _outcome_rows(inputs)
    identity = ["run", "seed", "L", "width"]
    loss = inputs.histories[inputs.histories["metric"] == "loss"]
    loss = loss.merge(runs[[*identity, "reference"]], on=identity)
    near = loss[loss["value"] <= 1.05 * loss["reference"]]
    first = near.groupby(identity, as_index=False)["step"].min().rename(columns={"step": "value"})
    first = runs.drop(columns="value").merge(first, on=identity, how="left")
    first = first.assign(panel="steps_to_optimum", series="steps to 1.05 L_DNC")
    parts = [runs, first]
    for metric in METRICS:
        rows = _layer_rows(last_step(inputs.measures), metric)
        top = rows.groupby(identity, as_index=False)["value"].max()
        top = runs.drop(columns="value").merge(top, on=identity)
        parts.append(top.assign(panel="metric", series=metric, metric=metric))
    return pd.concat(parts, ignore_index=True)


def draw_rec_width(table: pd.DataFrame, published: pd.DataFrame) -> Figure:
    """Five panels over the width: share at the optimum, steps, gap, and two metrics.

    The share has a 95 % Wilson interval; all else is a mark a run. The line of the steps is the
    median over all runs, which ends where half of them never arrive.
    """
    figure, axes = plt.subplots(1, 5, figsize=(12, 2.9))
    depths = sorted(table["L"].unique())
    colours = drawing.ordered_colours(len(depths))
    for position, (L, colour) in enumerate(zip(depths, colours, strict=True)):
        part = table[table["L"] == L]
        dash, mark = drawing.ordered_dash(position), drawing.MARKERS[position]
        one = {"color": colour, "marker": mark, "mfc": "none", "linestyle": "none"}
        runs = part[part["panel"] == "outcome"]
        at = _arrived(runs).groupby(runs["width"]).agg(["mean", "sum", "count"])
        if len(at):
            ends = np.transpose([wilson_interval(*own) for own in at[["sum", "count"]].to_numpy()])
            error = [(at["mean"] - ends[0]).clip(lower=0), (ends[1] - at["mean"]).clip(lower=0)]
            style = {"color": colour, "marker": mark, "linestyle": dash, "label": f"L = {L}"}
            axes[0].errorbar(at.index, at["mean"], yerr=error, capsize=3, **style)
        steps = part[part["panel"] == "steps_to_optimum"]
        axes[1].plot(steps["width"], steps["value"], **one)
        median = _median_steps(part).replace(np.inf, np.nan)
        axes[1].plot(median.index, median, color=colour, linestyle=dash)
        axes[2].plot(runs["width"], runs["value"].clip(lower=1e-9), **one)
        for ax, metric in [(axes[3], "nc1_ratio"), (axes[4], "wsine")]:
            rows = part[(part["panel"] == "metric") & (part["series"] == metric)]
            ax.plot(rows["width"], rows["value"], **one)
    names = ["share of runs at the optimum", "steps to 1.05 L_DNC, if ever"]
    names += ["final loss / L_DNC - 1", "DNC1, largest over layers", "DNC3, largest over layers"]
    for ax, name in zip(axes, names, strict=True):
        ax.set_xscale("log", base=2)
        ax.set(xlabel="width d", ylabel=name)
    axes[0].set_ylim(-0.03, 1.06)
    axes[1].set_ylim(0, None)
    for ax in axes[2:]:
        drawing.log_y(ax)
    axes[0].legend(loc="lower right")
    drawing.settings_line(figure, _settings(table))
    return figure


# ======================================================================================
# rec_backbone: a real network in front of the head


def table_rec_backbone(inputs: Inputs) -> pd.DataFrame:
    """Objective and metrics by step and layer, singular values at the end, outcomes."""
    spectra = last_step(inputs.measures)
    spectra = spectra[spectra["metric"] == "singular_value"]
    rows = tidy(inputs, "spectrum", spectra, [f"layer {l}" for l in spectra["layer"]])
    parts = [*_loss_and_metrics(inputs), rows, _outcome_rows(inputs)]
    return pd.concat(parts, ignore_index=True)


def draw_rec_backbone(table: pd.DataFrame, published: pd.DataFrame) -> Figure:
    """A row per depth: objective over L_DNC, DNC1, singular values, and the other two metrics."""
    depths = sorted(table["L"].unique())
    figure, axes = plt.subplots(
        len(depths), 5, figsize=(12, 2.4 * len(depths) + 0.6), squeeze=False
    )
    for row, L in zip(axes, depths, strict=True):
        part = table[table["L"] == L]
        _draw_gap(row[0], part)
        row[0].set(xlabel="steps", ylabel=f"L = {L}\nobjective - L_DNC")
        _draw_metric(row[1], part, "nc1_ratio")
        spectrum = part[(part["panel"] == "spectrum") & (part["relu"] == "pre")]
        for position, (layer, rows) in enumerate(spectrum.groupby("layer")):
            colour = drawing.ordered_colours(L)[position]
            marker = drawing.MARKERS[position]
            drawing.band(
                row[2], rows, "index", "value", color=colour, marker=marker, label=f"M_{int(layer)}"
            )
        row[2].set(title="singular values of M_l", xlabel="index", ylim=(0, None))
        row[2].set_xticks(sorted(spectrum["index"].unique()))
        row[2].legend()
        _draw_metric(row[3], part, "cond")
        _draw_metric(row[4], part, "wsine")
        row[1].legend(ncols=2)
        for ax in (row[1], row[3], row[4]):
            ax.set_xlabel("steps")
    # What has settled by the rule of a features model need not have by that of c4, and conversely.
    calm = table.loc[table["panel"] == "outcome", "calm"].astype(bool)
    words = f"settled for c4: {calm.sum()} of {len(calm)} ({CALM_RULE})"
    drawing.settings_line(figure, f"{_settings(table)}\n{words}")
    return figure


# ======================================================================================
# rec_threshold: the abrupt zero solution


def table_rec_threshold(inputs: Inputs) -> pd.DataFrame:
    """Diagonal output a against λ / threshold: closed forms, and where gradient descent ended.

    `source` is theory_global, theory_local (the metastable branch, loss above ½) or gd.
    """
    parts = []
    ratios = np.unique(np.concatenate([np.linspace(0.02, 2, 100), [1 - 1e-9, 1, 1 + 1e-9]]))
    for L in (2, 3, 4, 5, 6, 8):
        for ratio in ratios:
            for source, optimum in _optima(L, ratio):
                row = {"L": L, "ratio": ratio, "a": optimum.output, "loss": optimum.loss}
                parts.append(row | {"source": source, "K": 2, "seed": -1})
    theory = pd.DataFrame(parts)
    ended = outcomes(inputs.histories, inputs.measures)
    output = last_step(inputs.measures)
    output = output[output["metric"] == "diag_output"][["run", "seed", "lambda_w", "value"]]
    gd = ended.merge(output, on=["run", "seed", "lambda_w"], how="left")
    critical = [
        dnc.equal_lambda_threshold(K, L, n)
        for K, L, n in zip(gd["K"], gd["L"], gd["n"], strict=True)
    ]
    gd = gd.rename(columns={"value": "a", "final_loss": "loss", "outcome": "status_run"})
    gd = gd.assign(ratio=gd["lambda_w"] / critical, source="gd")
    local = [
        dnc.dnc_local_optimum(K, n, lam, [lam] * L)
        for K, n, lam, L in zip(gd["K"], gd["n"], gd["lambda_w"], gd["L"], strict=True)
    ]
    gd["local_loss"] = [np.nan if found is None else found.loss for found in local]
    rows = pd.concat([theory, gd], ignore_index=True)
    return tidy(inputs, "output", rows, [f"L = {L}" for L in rows["L"]])


def _optima(L: int, ratio: float) -> Iterator[tuple[str, dnc.Optimum]]:
    c = ratio * dnc.threshold(L)
    yield "theory_global", dnc.power_law_optimum(c, L)
    local = dnc.local_optimum(c, L)
    if local is not None and local.loss > 0.5:
        yield "theory_local", local


def draw_rec_threshold(table: pd.DataFrame, published: pd.DataFrame) -> Figure:
    """Diagonal output and loss against λ / threshold, one colour a depth."""
    figure, axes = plt.subplots(1, 2, figsize=(9, 3.6))
    depths = sorted(table["L"].unique())
    for position, (L, colour) in enumerate(
        zip(depths, drawing.ordered_colours(len(depths)), strict=True)
    ):
        part = table[table["L"] == L].sort_values("ratio")
        for ax, y in [(axes[0], "a"), (axes[1], "loss")]:
            rows = part[part["source"] == "theory_global"]
            ax.plot(rows["ratio"], rows[y], color=colour, label=f"L = {L}")
            rows = part[part["source"] == "theory_local"]
            ax.plot(rows["ratio"], rows[y], color=colour, linestyle="--")
            rows = part[part["source"] == "gd"]
            if len(rows):
                mark = drawing.MARKERS[position]
                label = f"L = {L}, gradient descent"
                ax.plot(rows["ratio"], rows[y], mark, color=colour, mec="white", ms=6, label=label)
    axes[0].set(xlabel="λ / threshold", ylabel="diagonal output a", title="output")
    axes[1].set(xlabel="λ / threshold", ylabel="loss", title="loss")
    axes[0].plot([], [], "k--", label="local minimum, loss > ½")
    axes[0].legend(ncols=3, loc="upper center", bbox_to_anchor=(0.5, -0.15))
    gd = table[table["source"] == "gd"]
    drawing.settings_line(figure, _settings(gd))
    return figure


# ======================================================================================
# Claims


def claim_c1(tables: Tables) -> Verdict:
    """Nothing is below L_DNC, and the best run of each depth reaches it.

    The bound is proven (Súkeník et al. 2023): a run below it would be a mistake of ours. Where
    gradient descent does not reach it, that says nothing about the bound.
    """
    depth = tables["rec_depth"]
    losses = depth[depth["panel"] == "loss"]
    ends = pd.concat([_outcomes(depth), _outcomes(tables["rec_width"])])
    below = min((losses["value"] / losses["reference"] - 1).min(), ends["value"].min())
    best = _outcomes(depth).groupby("L")["value"].min()
    found = (
        f"lowest loss/L_DNC - 1 = {below:.2e} of {len(ends)} runs; best gap by depth: "
        f"{_listed(best)}"
    )
    if below < -ROUNDING:
        return decide(False, value=below, detail=found)
    if not (best <= 0.005).all():
        return undecidable(f"gradient descent stops before it arrives; {found}", value=below)
    return decide(True, value=below, detail=found)


def claim_c2(tables: Tables) -> Verdict:
    """Gradient descent ends at the optimum with DNC1-DNC3 where they are forced (width >= 32)."""
    table = tables["rec_depth"]
    runs = pd.concat([_outcomes(table), _outcomes(tables["rec_width"])])
    runs = some(runs[runs["width"] >= 32], "runs of width 32 or more")
    there, moving = _arrived(runs), _moving(runs)
    share = float(there.mean())
    reached = by_chance(
        coin(there, "greater") if share >= 0.8 else 1.0,
        coin(there | moving, "less"),
        value=share,
        detail=f"{there.sum()} of {len(runs)} runs at the optimum, {moving.sum()} of {len(runs)} "
        "neither there nor settled",
    )
    if reached.verdict != HOLDS:
        return reached
    ends = _outcomes(table)
    for L, own in ends.groupby("L"):
        some(own[_arrived(own)], f"run of L = {L:g} that arrived")
    arrived = ends.loc[_arrived(ends), ["run", "seed"]]
    metrics = table[table["panel"] == "metric"].merge(arrived, on=["run", "seed"])
    levels = _levels(metrics)
    largest = levels.groupby(["run", "seed", "metric"]).max(skipna=False).unstack()
    finite(largest.reindex(pd.MultiIndex.from_frame(arrived)), "metric of the runs that arrived")
    end, metric = levels["end"], levels.index.get_level_values("metric")
    above, falling = end >= metric.map(LIMITS), end < levels["half"]
    fallen = (falling | (end < SMALL_SINE))[metric == "wsine"]
    least = levels["start"].groupby("metric").min()
    words = [
        f"{name} {largest['end', name].max():.2g} (at the start {least[name]:.2g} or more)"
        for name in LIMITS
    ]
    free = metrics["metric"].eq("cond") & metrics["layer"].eq(2) & metrics["relu"].eq("pre")
    free = last_step(metrics[free])["value"].max()
    detail = (
        f"{reached.detail}; of those of each depth, largest: {', '.join(words)}; weighted sine "
        f"falling, or below {SMALL_SINE}, in {fallen.mean():.0%} of the layers; the condition "
        f"number of M_2 before the ReLU, which nothing forces, is at most {free:.2f}"
    ).replace("cond ", "condition number - 1 ")
    if (above & ~falling).any():
        return decide(False, value=share, detail=detail)
    if above.any():
        return undecidable(f"the metrics still fall: {detail}", value=share)
    if not (fallen.all() and (end < levels["start"]).all()):
        reason = "a weighted sine no longer falls, or a metric is not below its start"
        return undecidable(f"{reason}: {detail}", value=share)
    return decide(True, value=share, detail=detail)


def claim_c3(tables: Tables) -> Verdict:
    """Wider runs reach the optimum more often."""
    table = tables["rec_width"]
    runs = _outcomes(table)
    smallest = runs["width"].min()
    narrow, wide = runs["width"] == smallest, runs["width"].ge(32) & runs["width"].gt(smallest)
    # A depth with one of them alone would change the share of one side only.
    both = set(runs.loc[narrow, "L"]) & set(runs.loc[wide, "L"])
    table = table[table["L"].isin(some(both, "runs of width 32 or more at a depth of narrow ones"))]
    runs = _outcomes(table)
    narrow, wide = narrow[runs.index], wide[runs.index]
    there, moving = _arrived(runs), _moving(runs)
    shares = there.groupby(runs["width"]).mean()
    value = float(there[wide].mean() - there[narrow].mean())
    detail = (
        f"share at the optimum by width: {_listed(shares)}; median steps to 1.05 L_DNC: "
        f"{_listed(_median_steps(table))}; {(runs['status_run'] == 'diverged').sum()} diverged "
        f"(counted as failures), {moving.sum()} neither arrived nor settled"
    )
    if runs["steps"].nunique() > 1:
        return undecidable(f"widths of unequal numbers of steps; {detail}", value=value)
    # A run that may still arrive counts against what is tested.
    claimed = more_often(there[wide], (there | moving)[narrow])
    opposite = more_often(there[narrow], (there | moving)[wide])
    return by_chance(claimed, opposite, value=value, detail=detail)


def claim_c4(tables: Tables) -> Verdict:
    """The head of a real network collapses as the DUFM predicts."""
    table = tables["rec_backbone"]
    metrics = table[table["panel"] == "metric"]
    runs = _outcomes(table)
    levels = _levels(metrics)
    levels["of_start"] = levels["end"] / levels["start"]
    worst = levels.groupby(["run", "seed", "metric"])[["end", "of_start"]].max(skipna=False)
    gap = runs.set_index(["run", "seed"])["value"]
    worst = worst.unstack().reindex(gap.index)
    nc1, cond = worst["end", "nc1_ratio"], worst["end", "cond"] + 1
    of_start = worst["of_start", "nc1_ratio"]
    good = nc1.lt(0.05) & of_start.lt(0.1) & cond.lt(1.5) & gap.between(-1e-4, 0.05)
    detail = (
        f"{good.sum()} of {len(runs)} runs on {drawing.all_of(metrics['dataset'])} collapse; "
        f"nc1_ratio <= {nc1.max():.1e}, at most {of_start.max():.1e} of its start; "
        f"condition number <= {cond.max():.3f}; "
        f"objective/L_DNC - 1 from {gap.min():.1e} to {gap.max():.1e}"
    )
    if why := not_calm(runs):
        return undecidable(f"{why}; {detail}", value=gap.max())
    finite(pd.concat([nc1, of_start, cond, gap], axis=1), "metric of the runs")
    return by_chance(coin(good, "greater"), coin(good, "less"), value=gap.max(), detail=detail)


def claim_c5(tables: Tables) -> Verdict:
    """The non-zero solution disappears abruptly at the threshold.

    That is a closed form, whose value is a proven bound; runs on both sides of the threshold may
    contradict it, but no more than that.
    """
    table = tables["rec_threshold"]
    theory = table[table["source"] == "theory_global"]
    finite(theory["a"], "output of the closed form")
    jumps = []
    for L, rows in theory.groupby("L"):
        below = rows[rows["ratio"] < 1].sort_values("ratio")["a"].iloc[-1]
        above = rows[rows["ratio"] > 1]["a"].max()
        jumps.append(abs(below - (L - 1) / L) < 1e-3 and above == 0)
    gd = table[table["source"] == "gd"]
    low, middle, high = (
        some(gd[np.isclose(gd["ratio"], ratio)], f"runs at {ratio} of the threshold")
        for ratio in (0.8, 1.2, 1.8)
    )
    finite(gd[["a", "loss"]], "output or loss of gradient descent")
    ideal = (low["L"] - 1) / low["L"]
    low_ok = (low["a"] > ideal - 0.05) & (low["loss"] < 0.5)
    zero = middle["a"].abs() < 1e-2
    near = _in_a_mixture_of_minima(middle)
    middle_ok = zero | near
    high_ok = (high["loss"] - 0.5).abs() < 1e-3
    beaten = gd[(gd["ratio"] > 1) & (gd["loss"] < 0.5 - ROUNDING)]
    detail = (
        f"closed form jumps at {sum(jumps)} of {len(jumps)} depths; gradient descent agrees in "
        f"{low_ok.sum()} of {len(low)} runs at 0.8, {middle_ok.sum()} of {len(middle)} at 1.2 "
        f"({int(near.sum())} metastable), {high_ok.sum()} of {len(high)} at 1.8 x threshold; "
        f"{len(beaten)} runs above the threshold have a loss below 1/2"
    )
    value = float(low["a"].min())
    apart = pd.concat([low[~low_ok], middle[~middle_ok], high[~high_ok]])
    still = ~apart["change"].le(SETTLED)
    if all(jumps) and beaten.empty and len(apart) and still.all():
        reason = f"{len(apart)} runs do not agree and have not settled ({SETTLED_RULE}); {detail}"
        return undecidable(reason, value=value)
    return decide(all(jumps) and beaten.empty and apart.empty, value=value, detail=detail)


def _in_a_mixture_of_minima(ends: pd.DataFrame) -> pd.Series:
    """Whether the loss (M,) is that of some, or all, classes in the local minimum, the others at 0.

    The objective of orthogonal classes is a mean over them, so each of the K classes can be in
    either of its minima, of loss 1/2 and `local_loss`: with j classes at 0 the loss is
    (K - j)/K local_loss + j/K 1/2. At most 1 % from it counts. Derived here, not in the paper.
    """
    found = pd.Series(False, index=ends.index)
    for K in ends["K"].unique():
        for fitted in range(1, int(K) + 1):
            mixture = (fitted * ends["local_loss"] + (K - fitted) / 2) / K
            agrees = (ends["loss"] / mixture - 1).abs() < 0.01
            found |= (ends["K"] == K) & (ends["loss"] > 0.5) & agrees
    return found


# ======================================================================================
# Pieces that several figures share


def _outcome_rows(inputs: Inputs) -> pd.DataFrame:
    """One row a run: value = final loss / L_DNC - 1, reference = L_DNC, status_run = outcome."""
    ended = outcomes(inputs.histories, inputs.measures)
    ended = ended.rename(columns={"gap": "value", "loss_dnc": "reference", "outcome": "status_run"})
    # Through q, unequal penalties have the same threshold as equal ones of the same mean.
    q = [
        dnc.effective_q(n, h, [w] * L)
        for n, h, w, L in ended[["n", "lambda_h", "lambda_w", "L"]].itertuples(index=False)
    ]
    critical = [dnc.threshold(L) / K for L, K in zip(ended["L"], ended["K"], strict=True)]
    ended["ratio"] = np.array(q) / critical
    return tidy(inputs, "outcome", ended, "final gap")


def _loss_and_metrics(inputs: Inputs) -> list[pd.DataFrame]:
    loss = inputs.histories[inputs.histories["metric"] == "loss"]
    parts = [tidy(inputs, "loss", loss.assign(reference=_references(loss)), "loss")]
    for metric in METRICS:
        rows = inputs.measures[inputs.measures["metric"] == metric]
        names = [f"layer {l} ({side})" for l, side in zip(rows["layer"], rows["relu"], strict=True)]
        parts.append(tidy(inputs, "metric", rows, names))
    return parts


def _references(loss: pd.DataFrame) -> pd.Series:
    columns = ["K", "n", "lambda_h", "lambda_w", "L"]
    known = {
        row: dnc.dnc_optimum(row[0], row[1], row[2], [row[3]] * row[4]).loss
        for row in loss[columns].drop_duplicates().itertuples(index=False, name=None)
    }
    return pd.Series(
        [known[row] for row in loss[columns].itertuples(index=False, name=None)], loss.index
    )


def _layer_rows(measures: pd.DataFrame, metric: str) -> pd.DataFrame:
    """One row a layer: after the ReLU for l >= 2, before it for l = 1, which has none."""
    rows = measures[measures["metric"] == metric]
    return rows[rows["relu"] == np.where(rows["layer"] >= 2, "post", "pre")]


def _levels(metrics: pd.DataFrame) -> pd.DataFrame:
    """The metrics at the start, at half of the steps and at the end: a row a run, layer and metric.

    Of the condition number 1 is taken off, and only what the optimum forces counts.
    """
    cond = metrics["metric"] == "cond"
    forced = _forced(metrics[cond])
    rows = pd.concat([metrics[~cond], forced.assign(value=forced["value"] - 1)])
    rows = rows.set_index(["run", "seed", "layer", "relu", "metric"])
    states = {"start": rows[rows["step"] == 0], "half": _at_half(rows), "end": last_step(rows)}
    return pd.concat({name: own["value"] for name, own in states.items()}, axis=1)


def _at_half(metrics: pd.DataFrame) -> pd.DataFrame:
    """The state nearest to half of the steps, of each run; of two the earlier."""
    distance = (metrics["step"] - metrics["steps"] / 2).abs()
    near = metrics[distance == distance.groupby("run").transform("min")]
    return near[near["step"] == near.groupby("run")["step"].transform("min")]


def _outcomes(table: pd.DataFrame) -> pd.DataFrame:
    """How the runs of a figure ended, of which at least one came to its end, over an L_DNC > 0."""
    runs = table[table["panel"] == "outcome"]
    some(runs["value"].where(runs["reference"] > 0).dropna(), "run that came to its end")
    return runs


def _arrived(runs: pd.DataFrame) -> pd.Series:
    """Whether a run is within 1 % of L_DNC, from where its loss can only come closer to it."""
    return runs["value"].le(AT_OPTIMUM)


def _moving(runs: pd.DataFrame) -> pd.Series:
    """Whether a run has neither arrived nor settled, and so may still arrive."""
    return (runs["status_run"] == "unconverged") & ~_arrived(runs)


def _median_steps(table: pd.DataFrame) -> pd.Series:
    """Median steps to 1.05 L_DNC by width; a run that never arrives takes infinitely many."""
    steps = table[table["panel"] == "steps_to_optimum"]
    return steps["value"].fillna(np.inf).groupby(steps["width"]).median()


def _forced(measures: pd.DataFrame) -> pd.DataFrame:
    """Where the optimum forces DNC2: after the ReLU from l = 2 on, before it from l = 3 on.

    M_1, and M_2 before the ReLU, have a flat direction; see `replica.theory.dnc.dnc_matrices`.
    """
    layer, after = measures["layer"], measures["relu"] == "post"
    return measures[(layer >= 3) | ((layer == 2) & after)]


def _draw_gap(ax: Axes, part: pd.DataFrame) -> None:
    loss = part[part["panel"] == "loss"]
    gap = loss.assign(gap=loss["value"] - loss["reference"])
    colour = drawing.COLOURS["loss"]
    drawing.band(ax, gap, "step", "gap", log=True, color=colour, label="gradient descent")
    reference = loss["reference"].max()
    ax.set(xscale="symlog", yscale="log", title=f"gap to L_DNC = {reference:.5f}")
    ax.set_xlim(0, None)


def _draw_metric(ax: Axes, part: pd.DataFrame, metric: str) -> None:
    rows = _layer_rows(part[part["panel"] == "metric"], metric)
    if metric == "cond":
        rows = rows.assign(value=rows["value"] - 1).replace(np.inf, np.nan).dropna(subset="value")
    layers = sorted(rows["layer"].unique())
    for position, (layer, colour) in enumerate(
        zip(layers, drawing.ordered_colours(len(layers)), strict=True)
    ):
        one = rows[rows["layer"] == layer]
        dash = drawing.ordered_dash(position)
        drawing.band(
            ax,
            one,
            "step",
            "value",
            log=True,
            color=colour,
            linestyle=dash,
            label=f"l = {int(layer)}",
            alpha=FREE if metric == "cond" and layer == 1 else 1,
        )
    ax.set(xscale="symlog", yscale="log", title=METRICS[metric])
    ax.set_xlim(0, None)


def _settings(table: pd.DataFrame) -> str:
    runs = table.dropna(subset="run").drop_duplicates(["run", "seed", "lambda_w"])
    words = ["K = " + _values(runs["K"]), "L = " + _values(runs["L"]), "n = " + _values(runs["n"])]
    words += [f"width = {_values(runs['width'])}", f"λ_W = {_values(runs['lambda_w'])}"]
    if not np.allclose(runs["lambda_w"], runs["lambda_h"]):
        words.append(f"λ_H1 = {_values(runs['lambda_h'])}")
    ratios = table["ratio"].dropna().round(6) if "ratio" in table else pd.Series(dtype=float)
    if len(ratios):
        words.append(f"λ / threshold = {_values(ratios)}")
    words += [f"step size {_values(runs['lr'])}", f"{_values(runs['steps'])} steps"]
    ended = table.dropna(subset="status_run").drop_duplicates(["run", "seed", "lambda_w"])
    counts = ended["status_run"].value_counts()
    ends = ", ".join(f"{counts[name]} {ENDS[name]}" for name in counts.index)
    return "; ".join(words) + f"; {len(ended)} runs: {ends}"


def _values(column: pd.Series) -> str:
    values = sorted(column.dropna().unique())
    shown = [f"{int(v)}" if v == int(v) else f"{v:.3g}" for v in values]
    return ", ".join(shown) if len(shown) <= 8 else f"{shown[0]} to {shown[-1]}"


def _listed(values: pd.Series) -> str:
    return ", ".join(f"{name}: {value:.3g}" for name, value in values.items())
