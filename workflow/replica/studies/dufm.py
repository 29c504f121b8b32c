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
from replica.measures.outcomes import outcomes
from replica.theory import dnc
from replica.verdicts import Verdict, decide, finite, some, undecidable

Tables = Mapping[str, pd.DataFrame]
METRICS = {
    "nc1_ratio": "DNC1: within / between-class variability",
    "cond": "DNC2: condition number - 1",
    "wsine": "DNC3: weighted sine",
}
AT_OPTIMUM = 0.01

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
    drawing.settings_line(figure, _settings(table))
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
    """Five panels over the width: share at the optimum, steps, gap, and two metrics."""
    figure, axes = plt.subplots(1, 5, figsize=(12, 2.9))
    depths = sorted(table["L"].unique())
    colours = drawing.ordered_colours(len(depths))
    for position, (L, colour) in enumerate(zip(depths, colours, strict=True)):
        part = table[table["L"] == L]
        line = {
            "color": colour,
            "marker": drawing.MARKERS[position],
            "linestyle": drawing.ordered_dash(position),
            "label": f"L = {L}",
        }
        runs = part[part["panel"] == "outcome"]
        at = runs["value"].le(AT_OPTIMUM).groupby(runs["width"]).mean()
        axes[0].plot(at.index, at, **line)
        steps = part[part["panel"] == "steps_to_optimum"].groupby("width")["value"].median()
        axes[1].plot(steps.index, steps, **line)
        shown = runs[runs["value"].notna()]
        axes[2].plot(shown["width"], shown["value"].clip(lower=1e-7), "o", mfc="none", color=colour)
        for ax, metric in [(axes[3], "nc1_ratio"), (axes[4], "wsine")]:
            rows = part[(part["panel"] == "metric") & (part["series"] == metric)]
            drawing.band(ax, rows, "width", "value", log=True, **line)
    titles = [
        *["share of seeds at the optimum", "median steps to 1.05 L_DNC"],
        *["final loss / L_DNC - 1, each seed", "DNC1, largest over layers"],
        "DNC3, largest over layers",
    ]
    for ax, title in zip(axes, titles, strict=True):
        ax.set_xscale("log", base=2)
        ax.set_xlabel("width d")
        ax.set_title(title)
    axes[0].set_ylim(-0.03, 1.03)
    for ax in axes[1:]:
        drawing.log_y(ax)
    axes[0].legend()
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
    """A row per depth: objective, DNC1, singular values, condition number, weighted sine."""
    depths = sorted(table["L"].unique())
    figure, axes = plt.subplots(
        len(depths), 5, figsize=(12, 2.4 * len(depths) + 0.6), squeeze=False
    )
    for row, L in zip(axes, depths, strict=True):
        part = table[table["L"] == L]
        loss = part[part["panel"] == "loss"]
        series = drawing.COLOURS["loss"]
        drawing.band(row[0], loss, "step", "value", log=True, color=series, label="objective")
        drawing.reference_line(row[0], "dnc", loss["reference"].max(), "L_DNC")
        row[0].set(
            xscale="symlog", yscale="log", xlabel="steps", title="objective", ylabel=f"L = {L}"
        )
        row[0].set_xlim(0, None)
        row[0].legend()
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
    drawing.settings_line(figure, _settings(table))
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
    axes[0].legend(ncols=2, loc="lower left")
    gd = table[table["source"] == "gd"]
    drawing.settings_line(figure, _settings(gd))
    return figure


# ======================================================================================
# Claims


def claim_c1(tables: Tables) -> Verdict:
    """Nothing is below L_DNC, and the best run of each depth reaches it."""
    depth = tables["rec_depth"]
    losses = depth[depth["panel"] == "loss"]
    ends = pd.concat([_outcomes(depth), _outcomes(tables["rec_width"])])
    below = min((losses["value"] / losses["reference"] - 1).min(), ends["value"].min())
    best = _outcomes(depth).groupby("L")["value"].min()
    published = "no run below L_DNC; the optimum is reached"
    tolerance = "loss/L_DNC - 1 >= -1e-4 always; best run of each depth <= 0.005"
    found = f"lowest loss/L_DNC - 1 = {below:.2e}; best gap by depth: {_listed(best)}"
    if below < -1e-4:
        return decide(False, value=below, published=published, tolerance=tolerance, detail=found)
    if _unsettled(depth, tables):
        reason = f"gradient descent stops before it settles; {found}"
        return undecidable(reason, value=below, published=published, tolerance=tolerance)
    finite(best, "loss of the best run of a depth")
    return decide(
        bool((best <= 0.005).all()),
        value=below,
        published=published,
        tolerance=tolerance,
        detail=found,
    )


def claim_c2(tables: Tables) -> Verdict:
    """Gradient descent ends at the optimum with DNC1-DNC3 in all layers (width >= 32)."""
    published = "DNC1-DNC3 in all layers at the optimum"
    tolerance = (
        "width >= 32: share within 1 % of L_DNC >= 0.8; among them nc1_ratio < 1e-4, "
        "cond(M_l) - 1 < 0.25 for l >= 2, weighted sine < 0.3 and falling"
    )
    table = tables["rec_depth"]
    runs = pd.concat([_outcomes(table), _outcomes(tables["rec_width"])])
    runs = some(runs[runs["width"] >= 32], "runs of width 32 or more")
    share = float(runs["value"].le(AT_OPTIMUM).mean())
    if _unsettled(table, tables):
        reason = f"gradient descent stops before it settles; share so far {share:.2f}"
        return undecidable(reason, value=share, published=published, tolerance=tolerance)
    arrived = table[(table["panel"] == "outcome") & table["value"].le(AT_OPTIMUM)]
    metrics = table[table["panel"] == "metric"].merge(arrived[["run", "seed"]], on=["run", "seed"])
    final = last_step(metrics)
    nc1 = _largest(final, "nc1_ratio")
    cond = _largest(final[final["layer"] >= 2], "cond")
    after = _largest(final[final["relu"] == "post"], "cond")
    sine = _largest(final, "wsine")
    half = _largest(_at_half(metrics), "wsine").reindex(sine.index)
    falling = float((sine < half).mean())
    ok = (
        share >= 0.8
        and nc1.max() < 1e-4
        and cond.max() - 1 < 0.25
        and sine.max() < 0.3
        and falling == 1
    )
    detail = (
        f"{len(runs)} runs; among those that arrived at each depth, largest (median): nc1_ratio "
        f"{nc1.max():.1e} ({nc1.median():.1e}), cond - 1 {cond.max() - 1:.3f} "
        f"({cond.median() - 1:.3f}; after the ReLU {after.max() - 1:.3f}), weighted sine "
        f"{sine.max():.3f} ({sine.median():.3f}), falling in {falling:.0%}; median loss gap "
        f"{arrived['value'].median():.1e}"
    )
    if len(arrived):
        finite([nc1.max(), cond.max(), sine.max()], "metric of the runs that arrived")
    return decide(bool(ok), value=share, published=published, tolerance=tolerance, detail=detail)


def claim_c3(tables: Tables) -> Verdict:
    """Wider runs reach the optimum more often."""
    published = "wider is more reliable"
    tolerance = "share at the optimum (width >= 32) minus that at the smallest width >= 0"
    table = tables["rec_width"]
    runs = _outcomes(table)
    narrow = runs["width"].min()
    at = runs["value"].le(AT_OPTIMUM)
    shares = at.groupby(runs["width"]).mean()
    value = float(at[runs["width"] >= 32].mean() - shares[narrow])
    steps = table[table["panel"] == "steps_to_optimum"].groupby("width")["value"].median()
    diverged = int((runs["status_run"] == "diverged").sum())
    detail = (
        f"shares by width: {_listed(shares)}; median steps to 1.05 L_DNC: {_listed(steps)}; "
        f"{diverged} diverged (counted as failures)"
    )
    if _unsettled(tables["rec_width"], tables):
        return undecidable(detail, value=value, published=published, tolerance=tolerance)
    return decide(value >= 0, value=value, published=published, tolerance=tolerance, detail=detail)


def claim_c4(tables: Tables) -> Verdict:
    """The head of a real network collapses as the DUFM predicts."""
    published = "the backbone recovers features suitable for DNC"
    tolerance = (
        "nc1_ratio < 0.05 and < 0.1 x its start in every layer; cond(M_l) < 1.5 for l >= 2; "
        "objective/L_DNC - 1 in [-1e-4, 0.05]"
    )
    table = tables["rec_backbone"]
    metrics = table[table["panel"] == "metric"]
    runs = _outcomes(table)
    final = last_step(metrics)
    start = metrics[metrics["step"] == 0]
    nc1 = _largest(final, "nc1_ratio")
    layers = ["run", "seed", "layer"]
    falls = final[final["metric"] == "nc1_ratio"].set_index(layers)["value"]
    falls = falls / start[start["metric"] == "nc1_ratio"].set_index(layers)["value"]
    cond = _largest(final[final["layer"] >= 2], "cond")
    gap = runs["value"]
    detail = (
        f"{len(runs)} runs on {drawing.all_of(metrics['dataset'])}; "
        f"nc1_ratio <= {nc1.max():.1e}, at most {falls.max():.1e} of its start; "
        f"cond <= {cond.max():.3f}; "
        f"objective/L_DNC - 1 from {gap.min():.1e} to {gap.max():.1e}"
    )
    if table["scale"].iloc[0] == "smoke":
        return undecidable(detail, value=gap.max(), published=published, tolerance=tolerance)
    finite([nc1.max(), falls.max(), cond.max()], "metric at the end")
    ok = nc1.max() < 0.05 and falls.max() < 0.1 and cond.max() < 1.5
    ok = ok and gap.notna().all() and gap.between(-1e-4, 0.05).all()
    return decide(
        bool(ok), value=gap.max(), published=published, tolerance=tolerance, detail=detail
    )


def claim_c5(tables: Tables) -> Verdict:
    """The non-zero solution disappears abruptly at the threshold."""
    published = "derived: a jumps from (L-1)/L to 0"
    tolerance = (
        "0.8: a > (L-1)/L - 0.05 and loss < 1/2; 1.2: a non-zero end has loss > 1/2 and is within "
        "1 % of the local minimum; 1.8: |loss - 1/2| < 1e-3"
    )
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
    near = (middle["loss"] > 0.5) & ((middle["loss"] / middle["local_loss"] - 1).abs() < 0.01)
    middle_ok = zero | near
    high_ok = (high["loss"] - 0.5).abs() < 1e-3
    detail = (
        f"closed form jumps at {sum(jumps)} of {len(jumps)} depths; gradient descent agrees in "
        f"{low_ok.sum()} of {len(low)} runs at 0.8, {middle_ok.sum()} of {len(middle)} at 1.2 "
        f"({int(near.sum())} metastable), {high_ok.sum()} of {len(high)} at 1.8 x threshold"
    )
    value = float(low["a"].min())
    if table["scale"].iloc[0] == "smoke":
        return undecidable(detail, value=value, published=published, tolerance=tolerance)
    ok = all(jumps) and low_ok.all() and middle_ok.all() and high_ok.all()
    return decide(bool(ok), value=value, published=published, tolerance=tolerance, detail=detail)


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


def _largest(measures: pd.DataFrame, metric: str) -> pd.Series:
    """The largest value over layers and sides of the ReLU, by run."""
    rows = measures[measures["metric"] == metric]
    return rows.groupby(["run", "seed"])["value"].max()


def _at_half(metrics: pd.DataFrame) -> pd.DataFrame:
    """The state nearest to half of the steps, of each run."""
    distance = (metrics["step"] - metrics["steps"] / 2).abs()
    return metrics[distance == distance.groupby(metrics["run"]).transform("min")]


def _outcomes(table: pd.DataFrame) -> pd.DataFrame:
    """How the runs of a figure ended, of which at least one has converged, over an L_DNC > 0."""
    runs = table[table["panel"] == "outcome"]
    some(runs["value"].where(runs["reference"] > 0).dropna(), "run converged")
    return runs


def _unsettled(table: pd.DataFrame, tables: Tables) -> bool:
    """Whether the scale is a first look, or most runs have not settled."""
    runs = table[table["panel"] == "outcome"]
    return table["scale"].iloc[0] == "smoke" or (runs["status_run"] == "unconverged").mean() > 0.5


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
        )
    ax.set(xscale="symlog", yscale="log", title=METRICS[metric])
    ax.set_xlim(0, None)


def _settings(table: pd.DataFrame) -> str:
    runs = table.dropna(subset="run").drop_duplicates(["run", "seed", "lambda_w"])
    words = ["K = " + _values(runs["K"]), "L = " + _values(runs["L"]), "n = " + _values(runs["n"])]
    words += [f"width = {_values(runs['width'])}", f"λ_W = {_values(runs['lambda_w'])}"]
    if not np.allclose(runs["lambda_w"], runs["lambda_h"]):
        words.append(f"λ_H1 = {_values(runs['lambda_h'])}")
    words += [f"step size {_values(runs['lr'])}", f"{_values(runs['steps'])} steps"]
    ended = table.dropna(subset="status_run").drop_duplicates(["run", "seed", "lambda_w"])
    counts = ended["status_run"].value_counts()
    words.append(f"{len(ended)} runs")
    words += [f"{counts[o]} {o.replace('_', ' ')}" for o in counts.index]
    ratios = table["ratio"].dropna().round(6) if "ratio" in table else pd.Series(dtype=float)
    if len(ratios):
        words.append(f"λ / threshold = {_values(ratios)}")
    return ", ".join(words)


def _values(column: pd.Series) -> str:
    values = sorted(column.dropna().unique())
    shown = [f"{int(v)}" if v == int(v) else f"{v:.3g}" for v in values]
    return "/".join(shown) if len(shown) <= 8 else f"{shown[0]}…{shown[-1]}"


def _listed(values: pd.Series) -> str:
    return ", ".join(f"{name}: {value:.3g}" for name, value in values.items())
