"""Average gradient outer product as a mechanism for deep neural collapse.

Beaglehole, Súkeník, Mondelli, Belkin; NeurIPS 2024; arXiv 2402.13728. The paper has no tables and
two numbers, the mean correlations of claim c7; all else are curves. What decides a claim, the
figures `ext_*`, and the small networks and data of the laptop scale are ours.
"""

import functools
import itertools
import math
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import NamedTuple

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from scipy.stats import binomtest, linregress

from replica import drawing
from replica.kernels.metrics import START, nc2_msd
from replica.measures.inputs import Inputs, tidy
from replica.provenance import stream_seed
from replica.theory import rfm
from replica.verdicts import (
    CHANCE,
    FAILS,
    HOLDS,
    UNDECIDABLE,
    Undecided,
    Verdict,
    beyond,
    by_chance,
    coin,
    decide,
    finite,
    settled,
    some,
    trained,
    trend,
    undecidable,
)

Tables = Mapping[str, pd.DataFrame]

# What stands in a row of the paper's figures instead of its data set, at the laptop scale first.
STANDS_FOR = {"digits": "mnist", "mixture": "cifar10", "mixture_imb": "svhn",
              "cifar10_jpeg": "cifar10"}  # fmt: skip
PLACES = {"base": "$X$", "right": "$M^{1/2}X$", "full": r"$\Phi(M^{1/2}X)$"}
LAYER_PLACES = {
    "base": r"$\Phi(X)$",
    "right": r"$SV^\top\Phi(X)$",
    "full": r"ReLU($USV^\top\Phi(X)$)",
}
SCALES_OF_M = {"mean": "M / N", "sum": "plain M", "max": "M / max M"}
FEATURES = {"relu": "ReLU", "cos": "cos"}
DASHES = {"base": "--", "right": "-", "full": ":"}
NFA = ["trSw_over_trSt", "trSb_over_trSt", "nfa_pearson", "train_loss", "train_accuracy"]
PAIR_SEED = ["model", "dataset", "seed"]


# ======================================================================================
# Figures 3 and 4: Deep RFM by depth


def table_fig3_deeprfm_relu_metrics(inputs: Inputs) -> pd.DataFrame:
    """NC1 and NC2 by layer and place, one row each; `added` is what the diagonal got."""
    return _rfm_metrics(inputs)


def draw_fig3_deeprfm_relu_metrics(table: pd.DataFrame, published: pd.DataFrame) -> Figure:
    """NC1 and NC2, a row a data set."""
    return _draw_rfm(table, ["cifar10", "mnist", "svhn"])


def table_fig4_deeprfm_cos_metrics(inputs: Inputs) -> pd.DataFrame:
    """The same rows for cos features; `run` tells the variants."""
    return _rfm_metrics(inputs)


def draw_fig4_deeprfm_cos_metrics(table: pd.DataFrame, published: pd.DataFrame) -> Figure:
    """NC1 and NC2, a row a data set, two columns a variant."""
    return _draw_rfm(table, ["cifar10", "mnist", "svhn"])


# ======================================================================================
# Figures 1, 5 and 6: Gram matrices


def table_fig1_gram_main(inputs: Inputs) -> pd.DataFrame:
    """Entries i <= j of the Gram matrices: CIFAR-10 with cos, MNIST with ReLU features."""
    grams = _grams(inputs)
    original = grams["dataset"].replace(STANDS_FOR)
    wanted = ((original == "cifar10") & (grams["activation"] == "cos")) | (
        (original == "mnist") & (grams["activation"] == "relu")
    )
    # A first look has cos features on one data set only.
    return grams[wanted if wanted.any() else slice(None)].reset_index(drop=True)


def draw_fig1_gram_main(table: pd.DataFrame, published: pd.DataFrame) -> Figure:
    """Rows (A) cos and (B) ReLU, columns layers."""
    return _draw_grams(table, ["cifar10", "svhn", "mnist"])


def table_fig5_gram_cos(inputs: Inputs) -> pd.DataFrame:
    """Entries i <= j of the Gram matrices with cos features."""
    return _grams(inputs)


def draw_fig5_gram_cos(table: pd.DataFrame, published: pd.DataFrame) -> Figure:
    """A row a data set, columns layers."""
    return _draw_grams(table, ["cifar10", "svhn", "mnist"])


def table_fig6_gram_relu(inputs: Inputs) -> pd.DataFrame:
    """Entries i <= j of the Gram matrices with ReLU features."""
    return _grams(inputs)


def draw_fig6_gram_relu(table: pd.DataFrame, published: pd.DataFrame) -> Figure:
    """A row a data set, columns layers; the first is the data."""
    return _draw_grams(table, ["cifar10", "svhn", "mnist"])


# ======================================================================================
# Figures 2 and 7 to 12: networks by epoch


def table_fig2_nc1_layers_main(inputs: Inputs) -> pd.DataFrame:
    """NC1 and NC2 by epoch, layer and place: MLP on MNIST, ResNet on CIFAR-10."""
    table = _layer_metrics(inputs)
    original = table["dataset"].replace(STANDS_FOR)
    wanted = (table["model"] == "MLP") | (original == "cifar10") | (table["dataset"] == "digits")
    return table[wanted].reset_index(drop=True)


def draw_fig2_nc1_layers_main(table: pd.DataFrame, published: pd.DataFrame) -> Figure:
    """Rows MLP and ResNet, columns layers."""
    return _draw_layers(table)


def table_fig7_mlp_nc1(inputs: Inputs) -> pd.DataFrame:
    """NC1 and NC2 by epoch, layer and place."""
    return _layer_metrics(inputs)


def draw_fig7_mlp_nc1(table: pd.DataFrame, published: pd.DataFrame) -> Figure:
    """A row a data set, columns layers."""
    return _draw_layers(table)


def table_fig8_resnet_nc1(inputs: Inputs) -> pd.DataFrame:
    """The same rows for ResNets."""
    return _layer_metrics(inputs)


def draw_fig8_resnet_nc1(table: pd.DataFrame, published: pd.DataFrame) -> Figure:
    """A row a data set, columns layers."""
    return _draw_layers(table)


def table_fig9_vgg_nc1(inputs: Inputs) -> pd.DataFrame:
    """The same rows for VGGs."""
    return _layer_metrics(inputs)


def draw_fig9_vgg_nc1(table: pd.DataFrame, published: pd.DataFrame) -> Figure:
    """A row a data set, columns layers."""
    return _draw_layers(table)


def table_fig10_mlp_nfa(inputs: Inputs) -> pd.DataFrame:
    """Shares of the scatter, correlations and loss by epoch."""
    return _ansatz(inputs)


def draw_fig10_mlp_nfa(table: pd.DataFrame, published: pd.DataFrame) -> Figure:
    """A row a data set: shares, correlation by layer, loss."""
    return _draw_ansatz(table, _reported(published, "fig10_mlp_nfa", "mnist"))


def table_fig11_resnet_nfa(inputs: Inputs) -> pd.DataFrame:
    """The same rows for ResNets."""
    return _ansatz(inputs)


def draw_fig11_resnet_nfa(table: pd.DataFrame, published: pd.DataFrame) -> Figure:
    """A row a data set: shares, correlation by layer, loss."""
    return _draw_ansatz(table, _reported(published, "fig11_resnet_nfa", "cifar10"))


def table_fig12_vgg_nfa(inputs: Inputs) -> pd.DataFrame:
    """The same rows for VGGs."""
    return _ansatz(inputs)


def draw_fig12_vgg_nfa(table: pd.DataFrame, published: pd.DataFrame) -> Figure:
    """A row a data set: shares, correlation by layer, loss."""
    return _draw_ansatz(table, {})


# ======================================================================================
# Closed forms


def table_ext_prop_a1(inputs: Inputs) -> pd.DataFrame:
    """The arc-cosine map on a grid, a Monte Carlo estimate of it, and its iterates."""
    features = 200_000
    generator = np.random.default_rng(stream_seed(inputs.study, inputs.figure))
    r = np.linspace(-1, 1, 81)
    exact = rfm.arc_cosine(r)
    mc = rfm.monte_carlo_arc_cosine(r, features, generator)
    grid = pd.DataFrame({"r": r, "features": features, "mc": mc, "exact": exact})
    parts = [tidy(inputs, "map", grid.assign(seed=-1), "arc-cosine map")]
    for start in (0.0, 0.5):
        values = rfm.iterates(start)
        frame = pd.DataFrame({"r": values, "iterate": range(len(values)), "seed": -1})
        parts.append(tidy(inputs, "iterates", frame, f"r0={start:g}"))
    return pd.concat(parts, ignore_index=True)


def draw_ext_prop_a1(table: pd.DataFrame, published: pd.DataFrame) -> Figure:
    """The map, its error, and how slowly its iterates reach 1."""
    figure, axes = plt.subplots(1, 3, figsize=(10.5, 3.1))
    grid = table[table["panel"] == "map"]
    axes[0].plot(grid["r"], grid["exact"], color="k", label="closed form")
    axes[0].plot(grid["r"], grid["mc"], ".", color=drawing.COLOURS["full"], label="Monte Carlo")
    axes[0].plot(grid["r"], grid["r"], ":", color="0.5", label="identity")
    own = published[published["figure"] == "ext_prop_a1"] if len(published) else published
    drawing.published_points(axes[0], own, "arc-cosine map", label="reference")
    axes[0].set(xlabel="r = xᵀy", ylabel="E Φ(x)ᵀΦ(y)", title="arc-cosine map")
    axes[0].legend()
    for ax in axes[:2]:
        ax.xaxis.set_major_locator(MaxNLocator(5))
    axes[1].plot(grid["r"], grid["mc"] - grid["exact"], color=drawing.COLOURS["full"])
    axes[1].set(xlabel="r = xᵀy", ylabel="Monte Carlo - closed form", title="sampling error")
    for (name, rows), dash in zip(
        table[table["panel"] == "iterates"].groupby("series"), ("-", "--"), strict=False
    ):
        label = f"from {name.partition('=')[2]}: {int(rows['iterate'].max())} layers"
        axes[2].plot(rows["iterate"], 1 - rows["r"], dash, color="k", label=label)
    axes[2].axhline(0.01, color="0.5", linestyle=":", label="inner product 0.99")
    axes[2].set(xlabel="layers", ylabel="1 - inner product", yscale="log", title="iterates")
    axes[2].legend()
    drawing.settings_line(figure, f"{grid['features'].max():.0f} random ReLU features")
    return figure


THM53_LAYERS = 12


def table_ext_thm53(inputs: Inputs) -> pd.DataFrame:
    """|G̃_l - YᵀY| by layer for three κ and several λ̂; λ̂ → 0; and a linear map, λ_map = 0.

    The first Gram matrix is that of Gaussian data of full rank; for the linear map of data whose
    span does not contain the labels.
    """
    rows = []
    for K, n in ((4, 5), (10, 100)):
        generator = np.random.default_rng(stream_seed(inputs.study, inputs.figure, K, n))
        X = generator.standard_normal((2 * K * n, K * n)) / np.sqrt(2 * K * n)
        few = generator.standard_normal((K // 2, K * n))
        Y = rfm.one_hot(K, n)
        cases = [(lam, 1.0, X.T @ X, "λ̂") for lam in (0.3, 0.1, 0.03, 0.01)]
        cases += [(1e-9, 1.0, X.T @ X, "λ̂ → 0"), (0.1, 0.0, few.T @ few, "linear map")]
        for lam_hat, lam_map, A, case in cases:
            for kind in rfm.KAPPAS:
                kappa = rfm.rescaling(kind, lam_hat, lam_map, n)
                own = {"K": K, "n": n, "case": case, "lam_hat": lam_hat, "lam_map": lam_map}
                own |= {"kappa_kind": kind, "kappa": kappa, "seed": -1}
                if kappa <= 0:
                    rows.append(own | {"layer": 1})
                    continue
                errors = rfm.contraction(A, Y, lam_hat, lam_map, kappa)
                errors = list(itertools.islice(errors, THM53_LAYERS))
                ratios = [np.nan, *(b / a for a, b in itertools.pairwise(errors))]
                numbered = enumerate(zip(errors, ratios, strict=True), start=1)
                rows += [own | {"layer": l, "error": e, "ratio": q} for l, (e, q) in numbered]
    frame = pd.DataFrame(rows)
    return tidy(inputs, "contraction", frame, frame["kappa_kind"].to_numpy())


def draw_ext_thm53(table: pd.DataFrame, published: pd.DataFrame) -> Figure:
    """Error by layer: rows (K, n), columns λ̂, a line a κ."""
    table = table[table["case"] == "λ̂"]
    sizes = list(table.groupby(["K", "n"], sort=False))
    values = sorted(table["lam_hat"].unique(), reverse=True)
    figure, axes = plt.subplots(
        len(sizes), len(values), figsize=(11, 5), sharex=True, sharey="row", squeeze=False
    )
    styles = dict(zip(rfm.KAPPAS, [("full", "-."), ("right", "--"), ("base", "-")], strict=True))
    for row, ((K, n), own) in zip(axes, sizes, strict=True):
        for ax, lam_hat in zip(row, values, strict=True):
            for kind, (colour, dash) in styles.items():
                line = own[(own["lam_hat"] == lam_hat) & (own["kappa_kind"] == kind)]
                ax.plot(line["layer"], line["error"], dash, marker=".", label=f"{kind} κ",
                        color=drawing.COLOURS[colour])  # fmt: skip
                if line["error"].isna().all():
                    drawing.nothing(ax, f"{kind} κ: below 0")
            if (K, n) == (4, 5) and len(published):
                limits = published[published["x"] == f"lam_hat={lam_hat:g}"]
                limits = limits[(limits["figure"] == "ext_thm53") & (limits["y"] > 0)]
                ax.plot([THM53_LAYERS] * len(limits), limits["y"], "o", mfc="none",
                        color=drawing.COLOURS["published"], label="derived limits")  # fmt: skip
            ax.set(yscale="log", title=f"λ̂ = {lam_hat:g}; K = {K}, n = {n}")
        row[0].set_ylabel("distance to collapse\n|G̃ - YᵀY|₂")
    for ax in axes[-1]:
        ax.set_xlabel("layer")
    _legend_beside(figure, axes[0, -1])
    drawing.settings_line(figure, "λ_map = 1; printed: κ as our machine-read copy has it")
    return figure


def table_ext_thm54(inputs: Inputs) -> pd.DataFrame:
    """The objective of 2,000 random kernels, of the collapsed one, and of Deep RFM by layer."""
    K, n, mu = 4, 5, 0.5
    generator = np.random.default_rng(stream_seed(inputs.study, inputs.figure))
    Y, bound = rfm.one_hot(K, n), rfm.collapsed_objective(np.full(K, n), mu)
    values = [rfm.kernel_objective(rfm.random_kernel(K, n, generator), Y, mu) for _ in range(2000)]
    own = {"mu": mu, "bound": bound, "seed": -1}
    random = pd.DataFrame({"kind": "random", "index": range(2000), "objective": values, **own})
    best = pd.DataFrame([own | {"kind": "collapsed", "index": 0,
                                "objective": rfm.kernel_objective(Y.T @ Y, Y, mu)}])  # fmt: skip
    history = inputs.histories[inputs.histories["metric"].isin(["objective", "bound"])]
    real = history.pivot(index=["run", "seed", "step"], columns="metric", values="value")
    real = real.reset_index().rename(columns={"step": "layer"}).assign(kind="Deep RFM")
    parts = [tidy(inputs, "random", random, "random kernels")]
    parts.append(tidy(inputs, "random", best, "collapsed kernel"))
    names = real["run"] + " seed " + real["seed"].astype(str)
    parts.append(tidy(inputs, "deep_rfm", real, names.to_numpy()))
    return pd.concat(parts, ignore_index=True)


def draw_ext_thm54(table: pd.DataFrame, published: pd.DataFrame) -> Figure:
    """A histogram of the random kernels; how far Deep RFM's kernels are from the bound."""
    figure, axes = plt.subplots(1, 2, figsize=(8.5, 3.2))
    random = table[table["series"] == "random kernels"]
    drawing.histogram(axes[0], random["objective"], bins=60, color=drawing.COLOURS["full"])
    bound = random["bound"].max()
    axes[0].axvline(bound, color="k", linestyle="--", label=f"collapsed kernel: {bound:.6f}")
    axes[0].set(xlabel="objective Σ_c Y_cᵀ(k + μI)⁻¹kY_c", ylabel="number of random kernels",
                title="K = 4, n = 5, μ = 0.5")  # fmt: skip
    axes[0].legend(loc="upper left")
    real = table[table["panel"] == "deep_rfm"]
    for position, (run, rows) in enumerate(real.groupby("run")):
        gap = rows.assign(gap=1 - rows["objective"] / rows["bound"])
        label = _title(run.partition("dataset")[2] or run)
        dash, mark = drawing.ordered_dash(position), drawing.MARKERS[position]
        drawing.band(axes[1], gap, "layer", "gap", log=True, label=label, color="k",
                     linestyle=dash, marker=mark, markersize=3)  # fmt: skip
    axes[1].set(
        xlabel="layer", ylabel="1 - objective / bound", title="kernels of Deep RFM, μ = 0.5"
    )
    drawing.log_y(axes[1])
    axes[1].xaxis.set_major_locator(MaxNLocator(integer=True))
    axes[1].legend()
    return figure


def table_ext_no_agop(inputs: Inputs) -> pd.DataFrame:
    """NC1 and NC2 by layer and place, with M (`agop` true) and with M = I."""
    return _rfm_metrics(inputs)


def draw_ext_no_agop(table: pd.DataFrame, published: pd.DataFrame) -> Figure:
    """NC1 of the features by layer."""
    figure, axes = plt.subplots(1, 2, figsize=(8.5, 3.4))
    for ax, (agop, rows) in zip(axes, sorted(table.groupby("agop"), reverse=True), strict=False):
        _draw_places(ax, rows, "nc1")
        title = "with AGOP" if agop else "random features alone, M = I (own axis)"
        ax.set(title=title, xlabel="layer", ylabel="NC1")
    _legend_beside(figure, axes[0])
    drawing.settings_line(figure, _rfm_settings(table))
    return figure


def table_ext_notebook(inputs: Inputs) -> pd.DataFrame:
    """NC1 and NC2 by epoch, layer and place; panel loss: the mean loss over each epoch."""
    rows = inputs.histories.rename(columns={"step": "epoch"}).drop(columns="metric")
    loss = tidy(inputs, "loss", rows, "training loss")
    return pd.concat([_layer_metrics(inputs), loss], ignore_index=True)


def draw_ext_notebook(table: pd.DataFrame, published: pd.DataFrame) -> Figure:
    """Training loss by epoch, and NC1 by layer at the end, ours and the notebook's."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(9.5, 3.6))
    hollow = {"linestyle": "none", "marker": "o", "mfc": "none"}
    official = published.groupby("series") if len(published) else {}
    log = dict(list(official))
    loss = table[table["panel"] == "loss"]
    _curve(left, loss, "epoch", "value", color=drawing.COLOURS["loss"], label="ours")
    if "training loss" in log:
        own = log["training loss"]
        left.plot(own["x"].astype(float), own["y"], color=drawing.COLOURS["published"],
                  label="notebook", **hollow)  # fmt: skip
    left.set(xlabel="epoch", ylabel="mean squared error", title="training loss")
    left.legend()
    layers = table[table["panel"] == "layers"]
    layers = layers[layers["epoch"] == layers["epoch"].max()]
    for place, name in LAYER_PLACES.items():
        style = {"color": drawing.COLOURS[place]}
        _curve(right, layers[layers["place"] == place], "layer", "nc1", label=name,
               linestyle=DASHES[place], **style)  # fmt: skip
        if place in log:
            right.plot(log[place]["x"].astype(float), log[place]["y"], **hollow, **style)
    right.set(xlabel="layer", ylabel="NC1", title="at the end (circles: notebook)")
    for ax in (left, right):
        drawing.log_y(ax)
    _legend_beside(figure, right)
    drawing.settings_line(
        figure,
        f"six layers of width {_listed(layers['width'])} with batch normalisation, "
        f"{drawing.seeds_of(layers)}; NC1 = tr Σ_W / tr Σ_B, the notebook's times K = 10",
    )
    return figure


def table_ext_switches(inputs: Inputs) -> pd.DataFrame:
    """NC1 by layer of Deep RFM, and of VGG's layers by epoch, with each reading of the paper."""
    parts = [_rfm_metrics(inputs), _layer_metrics(inputs)]
    return pd.concat(parts, ignore_index=True)


def draw_ext_switches(table: pd.DataFrame, published: pd.DataFrame) -> Figure:
    """One panel a switch, a line a reading: NC1 of M^½X by layer, of VGG's last layer by epoch."""
    figure, axes = plt.subplots(1, 4, figsize=(13, 3.6))
    names = {"switch_ridge": "ridge", "switch_norm": "scale of M",
             "switch_features": "scale of cos features", "switch_momentum": "momentum"}  # fmt: skip
    for ax, (switch, title) in zip(axes, names.items(), strict=True):
        rows = table[table["run"].str.startswith(switch)]
        rows = rows[rows["place"] == ("full" if switch == "switch_momentum" else "right")]
        if switch == "switch_momentum":
            rows = rows[(rows["layer"] == rows["layer"].max()) & (rows["epoch"] > START)]
        x = "epoch" if switch == "switch_momentum" else "layer"
        for position, (run, own) in enumerate(rows.groupby("run")):
            _curve(ax, own, x, "nc1", linestyle=drawing.ordered_dash(position),
                   color=drawing.ordered_colours(3)[position],
                   label=_reading(switch, run, own))  # fmt: skip
        ax.set(title=title, xlabel=x, ylabel="NC1")
        drawing.log_y(ax)
        ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.2))
    return figure


def _reading(switch: str, run: str, rows: pd.DataFrame) -> str:
    """One reading of a switch, in words."""
    if switch == "switch_momentum":
        return "begins anew in each epoch" if run.endswith("True") else "is kept"
    if switch == "switch_norm":
        return SCALES_OF_M[rows["agop_norm"].iloc[0]]
    column = "ridge" if switch == "switch_ridge" else "feature_scale"
    return f"{rows[column].iloc[0]:g}"


# ======================================================================================
# Claims


def claim_c1(tables: Tables) -> Verdict:
    """NC1 of M^½X at the deepest valid layer over that at the first, with classes of equal size."""
    verdict = _decide_falls(tables, unequal=False)
    other = _max_norm(tables["fig4_deeprfm_cos_metrics"])
    if other.empty:
        return verdict
    worst = {d: _falls(rows)["ratio"].max(skipna=False) for d, rows in other.groupby("dataset")}
    values = ", ".join(f"{_title(dataset)} {ratio:.2g}" for dataset, ratio in worst.items())
    more = f"cos with M over its largest entry (official code, not decided): {values}"
    return replace(verdict, detail=f"{verdict.detail}; {more}")


def claim_c2(tables: Tables) -> Verdict:
    """NC2 of the deepest valid drawn layer against random means, and its fall; as for c1."""
    return _decide_frames(_frames(tables, unequal=False))


def claim_c3(tables: Tables) -> Verdict:
    """At every valid layer M^½ lowers NC1 and the random features raise it; no fall without M."""
    tables_ = [tables["fig3_deeprfm_relu_metrics"], tables["fig4_deeprfm_cos_metrics"]]
    table = pd.concat([_default(table) for table in tables_])
    wide = finite(_by_place(table[table["valid"]]), "NC1 of a valid layer")
    good = (wide["right"] < wide["base"]) & (wide["full"] > wide["right"])
    share = float(good.mean())
    plain = some(tables["ext_no_agop"].query("agop == False"), "run without AGOP")
    falls = _falls(_known(plain))
    rises = falls["ratio"] >= 1
    if falls.loc[rises, "floored"].any():
        raise Undecided("without AGOP NC1 is below the numerical floor before it is seen to fall")
    failed = [f"{d} layer {l}" for (_, _, d, _, l) in wide.index[~good]][:6]
    whole = good.groupby(wide.index.names.difference(["layer"])).all()
    detail = (
        f"{int(good.sum())} of {len(good)} layers; all of a run's in {int(whole.sum())} of "
        f"{len(whole)} runs"
        + (f" (not: {', '.join(failed)})" if failed else "")
        + "; without AGOP NC1 at the deepest valid layer is no lower than at the first in "
        f"{int(rises.sum())} of {len(rises)} runs (at least {falls['ratio'].min():.3g} times that)"
    )
    agree = share >= 0.95
    if agree and share < 1:
        detail = f"with exceptions: {detail}"
    both = max(coin(whole, "greater"), coin(rises, "greater"))
    claimed = both if agree and rises.all() else 1.0
    # Two looks: at the runs with AGOP, and at those without.
    opposite = 2 * min(1.0 if agree else coin(whole, "less"), coin(rises, "less"))
    return by_chance(claimed, opposite, value=share, detail=detail)


def claim_c4(tables: Tables) -> Verdict:
    """Which of three laws of two constants fits log NC1(M^½X) best, by run."""
    listed, best = [], []
    for name in ("fig3_deeprfm_relu_metrics", "fig4_deeprfm_cos_metrics"):
        for (activation, dataset), rows in _by_default(tables[name]):
            for (_, seed), own in rows[rows["place"] == "right"].groupby(["run", "seed"]):
                run = own[own["valid"]]
                law, words = _law_of_decay(run["layer"], run["nc1"])
                listed.append(f"{FEATURES[activation]}, {_title(dataset)} seed {seed}: {words}")
                best += [law] if activation == "relu" else []
    some(best, "run with ReLU features")
    share = float(np.mean([law == "exponential" for law in best]))
    detail = "; ".join(listed)
    if "" in best:
        return undecidable(detail, value=share)
    if 0 < share < 1:
        return undecidable(f"no one law in all runs: {detail}", value=share)
    runs = len(best)
    claimed, opposite = (3.0**-runs, 1) if share else (1, (2 / 3) ** runs)
    return by_chance(claimed, opposite, value=share, detail=detail)


def claim_c5(tables: Tables) -> Verdict:
    """c1 and c2 on the data set with classes of unequal size."""
    falls = _decide_falls(tables, unequal=True)
    frames = _decide_frames(_frames(tables, unequal=True))
    # One that fails refutes both, and both must hold.
    worst_first = [FAILS, UNDECIDABLE, HOLDS]
    worse = min(falls, frames, key=lambda verdict: worst_first.index(verdict.verdict))
    detail = f"fall of NC1: {falls.detail}; NC2: {frames.detail}"
    return replace(worse, value=falls.value, detail=detail)


def claim_c6(tables: Tables) -> Verdict:
    """Reduction of log NC1 by SVᵀ against that by the ReLU, in the networks of Figure 2."""
    layers = tables["fig2_nc1_layers_main"]
    R, T = _reductions(layers)
    good, listed = _right_reduces(R, T)
    least = float((R["end"] - T["end"].clip(lower=0)).min())
    detail = "; ".join(listed.values())
    _decidable(tables, ["fig10_mlp_nfa", "fig11_resnet_nfa"], listed, R - T)
    return by_chance(*_by_seeds(good), value=least, detail=detail)


def claim_c7(tables: Tables) -> Verdict:
    """Correlation at the end against the start, of MLP on MNIST and ResNet on CIFAR-10."""
    listed, found = {}, []
    for name, model, original, y, y_err in [
        ("fig10_mlp_nfa", "MLP", "mnist", 0.74, 0.13),
        ("fig11_resnet_nfa", "ResNet", "cifar10", 0.74, 0.17),
    ]:
        nfa = some(_correlations(tables[name], original), f"{model} on {_title(original)}")
        for pair, rows in nfa.groupby(["model", "dataset"]):
            seeds = _over_layers(rows)
            end, start = seeds["end"], seeds["start"]
            above, below, mean = beyond(end, start), beyond(start, end), end.mean()
            found.append((above, below, mean, abs(mean - y) <= y_err, seeds))
            listed[pair] = (
                f"{_pair(pair)}: {_against_the_start(rows)} (rise p {above:.2g} over seeds; "
                f"published {y} ± {y_err})"
            )
    above, below, means, inside, moments = zip(*found, strict=True)
    detail, least = "; ".join(listed.values()), float(np.min(means))
    _decidable(tables, ["fig10_mlp_nfa", "fig11_resnet_nfa"], listed, pd.concat(moments))
    if max(above) < CHANCE and not all(inside):
        return decide(False, value=least, detail=f"outside the published deviation: {detail}")
    return by_chance(max(above), len(found) * min(below), value=least, detail=detail)


def claim_c8(tables: Tables) -> Verdict:
    """Progress of NC2 by layer, from the first to the last measurement."""
    layers = tables["fig2_nc1_layers_main"]
    full = layers[layers["place"] == "full"]
    full = full.assign(log=np.log10(full["nc2_msd"].where(full["nc2_msd"] > 0)))
    log = some(_moments(full, "log", [*PAIR_SEED, "layer"]), "measured NC2")
    falls = (log["first"] - log["end"]).unstack("layer")
    finite(falls, "fall of log10 NC2 of a layer")
    last, others = falls.iloc[:, -1], falls.iloc[:, :-1].max(axis=1)
    lead = last - others
    good = (last > 0) & (lead >= 0.3)
    listed = {
        pair: f"{_pair(pair)}: {', '.join(f'{value:.2f}' for value in rows.mean())}"
        for pair, rows in falls.groupby(["model", "dataset"])
    }
    detail = f"fall of log10 NC2 by layer, means over seeds: {'; '.join(listed.values())}"
    _decidable(
        tables,
        ["fig10_mlp_nfa", "fig11_resnet_nfa"],
        listed,
        log.xs(falls.columns[-1], level="layer"),
    )
    return by_chance(*_by_seeds(good), value=float(lead.min()), detail=detail)


def claim_c9(tables: Tables) -> Verdict:
    """c6 and a correlation above that at the start, for three networks on three data sets."""
    layers = pd.concat([tables[f] for f in ("fig7_mlp_nc1", "fig8_resnet_nc1", "fig9_vgg_nc1")])
    names = ["fig10_mlp_nfa", "fig11_resnet_nfa", "fig12_vgg_nfa"]
    R, T = _reductions(layers)
    good, listed = _right_reduces(R, T)
    nfa = some(_correlations(pd.concat([tables[name] for name in names]), None), "correlation")
    # A seed that has only one of the two has no difference.
    seeds = _over_layers(nfa).reindex(good.index)
    good &= finite(seeds["end"] - seeds["start"], "rise of the correlation") > 0
    whole = good.groupby(["model", "dataset"]).all()
    holding = int(whole.sum())
    for pair in listed:
        words = _against_the_start(nfa[_of_pair(nfa, pair)])
        listed[pair] += f", correlation {words} ({'yes' if whole[pair] else 'no'})"
    detail = f"{holding} of {len(listed)} pairs: {'; '.join(listed.values())}"
    _decidable(tables, names, listed, R - T)
    if len(listed) < 9 and holding == len(listed):
        return undecidable(f"not all nine pairs ran: {detail}", value=float(holding))
    return by_chance(*_by_seeds(good), value=float(holding), detail=detail)


def claim_c10(tables: Tables) -> Verdict:
    """Monte Carlo against the arc-cosine map; strict growth; slow iterates."""
    table = tables["ext_prop_a1"]
    grid = table[table["panel"] == "map"]
    error = float(finite((grid["mc"] - grid["exact"]).abs(), "value of the map").max())
    inner = grid[grid["r"] < 1]
    layers = int(some(table[table["series"] == "r0=0"], "iterates from 0")["iterate"].max())
    return decide(
        bool(error <= 0.01 and (inner["exact"] > inner["r"]).all() and layers == 57),
        value=error,
        detail=f"largest error {error:.4f} with {int(grid['features'].iloc[0])} features; from "
        f"inner product 0 it takes {layers} layers to 0.99, whatever the classes",
    )


def claim_c11(tables: Tables) -> Verdict:
    """Contraction with three κ; one layer with λ̂ → 0; none with a linear map."""
    table = tables["ext_thm53"]
    lines = table[table["case"] == "λ̂"]
    listed, verdicts = [], {}
    for kind, rows in lines.groupby("kappa_kind", sort=False):
        found = []
        for (K, n, lam_hat), own in rows.groupby(["K", "n", "lam_hat"]):
            errors = own["error"].to_numpy()
            before, after = errors[:-1], errors[1:]
            if kind == "fixed point":
                # No remainder but rounding, and the rate that is derived for it.
                rate, floor = lam_hat / (1 + lam_hat), 1e-12 * K * n
            else:
                # Theorem 5.3 allows a remainder O(λ̂²/λ_map²); that its constant is 1 is ours.
                rate, floor = 1.0, lam_hat**2
            falls = np.isfinite(errors).all() and (after <= rate * before + floor).all()
            ends = kind == "fixed point" or errors[-1] <= floor
            found.append((bool(falls and ends), errors[-1] / errors[0] if errors[0] else np.nan))
        verdicts[kind] = all(good for good, _ in found)
        ratios = [ratio for _, ratio in found if np.isfinite(ratio)]
        word = "holds" if verdicts[kind] else "does not hold"
        largest = max(ratios, default=np.nan)
        listed.append(f"{kind} κ: {word}, last over first error up to {largest:.1e}")
    one = table[(table["case"] == "λ̂ → 0") & (table["layer"] == 1)]["error"].max()
    linear = table[(table["case"] == "linear map") & (table["layer"] == THM53_LAYERS)]
    stuck = (linear["error"] / linear["n"]).min()
    listed.append(
        f"λ̂ → 0: error {one:.1e} after one layer; linear map: at least {stuck:.2f} n left"
    )
    corrected = lines[lines["kappa_kind"] == "corrected"]
    ends = corrected[corrected["layer"] == THM53_LAYERS]["error"]
    for kind in ("corrected", "fixed point"):
        finite(lines[lines["kappa_kind"] == kind]["error"], f"error with the {kind} κ")
    finite([one, stuck], "error with λ̂ → 0 or a linear map")
    return decide(
        bool(verdicts["corrected"] and verdicts["fixed point"] and one < 1e-6 and stuck > 0.1),
        value=float(ends.max()),
        detail="; ".join(listed),
    )


def claim_c12(tables: Tables) -> Verdict:
    """The objective at the collapsed kernel, and at 2,000 others."""
    table = tables["ext_thm54"]
    random = table[table["series"] == "random kernels"]
    finite(random["objective"], "objective of a random kernel")
    best = some(table[table["series"] == "collapsed kernel"], "collapsed kernel").iloc[0]
    real = table[table["panel"] == "deep_rfm"]
    finite(real["objective"] / real["bound"], "objective of Deep RFM over its bound")
    gap = abs(best["objective"] - best["bound"])
    largest = float(random["objective"].max())
    near = (real["objective"] / real["bound"]).max()
    ok = gap < 1e-10 and largest < best["objective"] and (real["objective"] < real["bound"]).all()
    return decide(
        bool(ok),
        value=float(best["objective"]),
        detail=f"bound {best['bound']:.6f}; largest of {len(random)} random kernels {largest:.4f}; "
        f"kernels of Deep RFM reach {near:.6f} of their bound",
    )


# ======================================================================================
# Deep RFM


def _rfm_metrics(inputs: Inputs) -> pd.DataFrame:
    rows = inputs.measures
    # Neither entries of Gram matrices nor, beside them in a figure, networks.
    rows = rows[rows["place"].notna() & rows["activation"].notna()]
    rows = rows.dropna(axis="columns", how="all")
    added = inputs.histories[inputs.histories["metric"] == "ridge"]
    added = added[["run", "seed", "step", "value"]]
    added = added.rename(columns={"step": "layer", "value": "added"})
    rows = rows.merge(added, how="left", on=["run", "seed", "layer"])
    return tidy(inputs, "metrics", rows, rows["place"].to_numpy())


def _grams(inputs: Inputs) -> pd.DataFrame:
    """Entries of the Gram matrices, to four decimals; of the two scales of M the definition's."""
    rows = inputs.measures[inputs.measures["i"].notna()]
    rows = rows[rows["agop_norm"] == "mean"]
    keep = ["run", "dataset", "activation", "seed", "layer", "depth", "images"]
    keep += ["i", "j", "class_i", "class_j", "value"]
    integers = dict.fromkeys(["i", "j", "class_i", "class_j"], "int16")
    rows = rows[keep].astype(integers | {"layer": "int16", "value": "float32"})
    # Digits that nobody sees would make two thirds of the file.
    rows["value"] = rows["value"].round(4)
    return tidy(inputs, "gram", rows, [f"layer {l}" for l in rows["layer"]])


def _in_order(table: pd.DataFrame, order: list[str]) -> Iterator[tuple[str, pd.DataFrame]]:
    """The rows of each data set, in the order of the paper's rows."""
    groups = dict(list(table.groupby("dataset")))
    for dataset in sorted(groups, key=lambda dataset: _row(dataset, order)):
        yield dataset, groups[dataset]


def _row(dataset: str, order: list[str]) -> int:
    """The row of the paper that a data set belongs to; those of a user come last."""
    original = STANDS_FOR.get(dataset, dataset)
    return order.index(original) if original in order else len(order)


def _title(dataset: str) -> str:
    return drawing.DATASETS.get(dataset, dataset)


def _variants(table: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    """The runs of a figure by what the official code does differently."""
    names = {}
    for run in table["run"].unique():
        template = run.partition("-")[0]
        norm = table.loc[table["run"] == run, "agop_norm"].iloc[0]
        names[run] = "official code" if "code" in template else SCALES_OF_M[norm]
    return list(table.groupby(table["run"].map(names), sort=False))


def _draw_rfm(table: pd.DataFrame, order: list[str]) -> Figure:
    variants = _variants(table)
    datasets = [dataset for dataset, _ in _in_order(table, order)]
    shape = (len(datasets), 2 * len(variants))
    figure, axes = plt.subplots(
        *shape, figsize=(2.2 + 2.6 * shape[1], 0.6 + 1.9 * shape[0]), sharex=True, squeeze=False
    )
    for position, (variant, own) in enumerate(variants):
        for row, dataset in zip(axes, datasets, strict=True):
            rows = own[own["dataset"] == dataset]
            for ax, metric, name in zip(
                row[2 * position :],
                ["nc1", "nc2_msd"],
                ["NC1", "NC2, mean square"],
                strict=False,
            ):
                if rows.empty:
                    ax.axis("off")
                    continue
                _draw_places(ax, rows, metric)
                if metric == "nc2_msd":
                    _draw_random_means(ax, rows)
                words = f", {variant}" if len(variants) > 1 else ""
                ax.set_title(f"{name[:3]}, {_title(dataset)}{words}")
                ax.set_ylabel(name)
    for ax in axes[-1]:
        ax.set_xlabel("layer")
    _legend_beside(figure, next((ax for ax in axes[:, 1] if ax.axison), axes[0, 1]))
    drawing.settings_line(figure, _rfm_settings(table))
    return figure


def _draw_random_means(ax: plt.Axes, rows: pd.DataFrame) -> None:
    """What NC2 is of collapsed classes with random means in as many dimensions."""
    classes = (rows["nc2_fro"] / np.sqrt(rows["nc2_msd"])).median()
    if np.isfinite(classes):
        random = _random_means(round(classes), int(rows["width"].iloc[0]))
        ax.axhspan(*np.quantile(random, [0.05, 0.95]), color="0.6", alpha=0.35, linewidth=0,
                   label="90 % of random\nclass means")  # fmt: skip


def _draw_places(ax: plt.Axes, rows: pd.DataFrame, metric: str) -> None:
    """The three places by layer; layers that are not valid in grey."""
    for place, name in PLACES.items():
        own = rows[rows["place"] == place]
        style = {"linestyle": DASHES[place], "marker": ".", "markersize": 4}
        _curve(ax, own, "layer", metric, color="0.75", **style)
        _curve(ax, own[own["valid"]], "layer", metric, label=name, color=drawing.COLOURS[place],
               **style)  # fmt: skip
    drawing.log_y(ax)
    ax.set_xlim(1, max(rows["depth"].max(), 2))
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))


def _rfm_settings(table: pd.DataFrame) -> str:
    runs = table.drop_duplicates("run")
    kernels = ", ".join(sorted(runs["kernel"].str.capitalize().unique()))
    jitter = f", at most {most:.0e} added" if (most := table["added"].max()) > 0 else ""
    features = drawing.all_of(runs["activation"].replace(FEATURES))
    words = [f"{kernels} kernel", f"ridge {_listed(runs['ridge'])}{jitter}",
             f"{_listed(runs['width'])} {features} features",
             f"N = {_listed(runs['images'])}", drawing.seeds_of(table),
             runs["precision"].iloc[0]]  # fmt: skip
    if (runs["width"] < 1024).any() and (runs["activation"] == "cos").any():
        words.append("with so few cos features NC1 reaches a plateau")
    return (
        f"{', '.join(words)}; grey: below the numerical floor{_of_spread(table)}. "
        "NC1 = tr Σ_W / tr Σ_B; official curves are lower by the factor K = 10"
    )


def _draw_grams(table: pd.DataFrame, order: list[str]) -> Figure:
    groups = list(_in_order(table, order))
    layers = sorted(table["layer"].unique())
    figure, axes = plt.subplots(
        len(groups), len(layers), figsize=(1.9 * len(layers) + 1, 1.8 * len(groups) + 0.5),
        squeeze=False,
    )  # fmt: skip
    for row, (dataset, own) in zip(axes, groups, strict=True):
        for ax, layer in zip(row, layers, strict=True):
            entries = own[(own["layer"] == layer) & (own["seed"] == own["seed"].min())]
            image = ax.imshow(_symmetric(entries), vmin=-1, vmax=1, rasterized=True)
            ax.set(xticks=[], yticks=[], title=f"Layer {layer}")
            ax.grid(False)
        row[0].set_ylabel(f"{_title(dataset)}, {FEATURES[own['activation'].iloc[0]]}")
        figure.colorbar(image, ax=row[-1], shrink=0.9, pad=0.03, label="inner product")
    drawn = table.groupby("dataset")["i"].nunique().max()
    words = f"{drawn} samples in the order of their classes, out of N = {_listed(table['images'])}"
    drawing.settings_line(figure, words)
    return figure


def _symmetric(entries: pd.DataFrame) -> np.ndarray:
    size = int(entries["j"].max()) + 1
    values = np.zeros((size, size))
    values[entries["i"], entries["j"]] = values[entries["j"], entries["i"]] = entries["value"]
    return values


def _default(table: pd.DataFrame) -> pd.DataFrame:
    """Runs with the paper's definition of M, as the claims are about them; see `_known`."""
    plain = ~table["run"].str.contains("code")
    return _known(table[(table["agop_norm"] == "mean") & plain & table["agop"]])


def _known(table: pd.DataFrame) -> pd.DataFrame:
    """The table, if NC1(M^½X) is known at the valid layers of each run and at the next one.

    Where it is not known there, `valid` ends all the same, but not at the numerical floor.

    Raises:
        Undecided: it is not.
    """
    right = table[table["place"] == "right"].sort_values("layer")
    needed = right.groupby(["run", "seed"])["valid"].shift(fill_value=True)
    if not np.isfinite(right.loc[needed, "nc1"]).all():
        raise Undecided("not every NC1 down to the numerical floor is a finite number")
    return table


def _max_norm(table: pd.DataFrame) -> pd.DataFrame:
    return table[(table["agop_norm"] == "max") & ~table["run"].str.contains("code")]


def _by_default(table: pd.DataFrame) -> list[tuple[tuple[str, str], pd.DataFrame]]:
    return list(_default(table).groupby(["activation", "dataset"]))


def _falls(rows: pd.DataFrame) -> pd.DataFrame:
    """How far NC1(M^½X) falls with depth, a row a run and seed.

    Columns: `ratio`, NC1 at the deepest valid layer over that at the first; `floored`, whether the
    next layer is below the numerical floor, so that NC1 falls further than `ratio` tells.
    """
    right = rows[rows["place"] == "right"].sort_values("layer")
    kept = right[right["valid"] | (right["layer"] == 1)].groupby(["run", "seed"])["nc1"]
    # `last` and `first` of pandas would pass over a layer without a value.
    ratio = kept.agg(lambda nc1: nc1.iloc[-1] / nc1.iloc[0])
    return pd.DataFrame({"ratio": ratio, "floored": ~right.groupby(["run", "seed"])["valid"].all()})


def _decide_falls(tables: Tables, *, unequal: bool) -> Verdict:
    """All falls of NC1 against their limits, on data sets with unequal classes or on the others."""
    listed, found = [], []
    for name, limit in [("fig3_deeprfm_relu_metrics", 0.01), ("fig4_deeprfm_cos_metrics", 0.2)]:
        for (activation, dataset), rows in _by_default(tables[name]):
            if _has_unequal_classes(dataset) == unequal:
                falls = _falls(rows)
                listed.append(
                    f"{FEATURES[activation]}, {_title(dataset)} {falls['ratio'].max():.2g}"
                )
                found.append(falls.assign(ratio=falls["ratio"] / limit))
    falls = pd.concat(some(found, "run of Deep RFM"))
    worst, detail = float(finite(falls["ratio"], "fall of NC1").max()), "; ".join(listed)
    above = falls[falls["ratio"] > 1]
    if len(above) and above["floored"].all():
        reason = f"NC1 is below the numerical floor before it is seen below its limit: {detail}"
        return undecidable(reason, value=worst)
    return decide(above.empty, value=worst, detail=detail)


def _has_unequal_classes(dataset: str) -> bool:
    return STANDS_FOR.get(dataset, dataset) == "svhn"


def _by_place(table: pd.DataFrame) -> pd.DataFrame:
    """NC1 with a column a place, a row a layer of a run."""
    index = ["activation", "run", "dataset", "seed", "layer"]
    return table.pivot(index=index, columns="place", values="nc1").reindex(columns=[*PLACES])


class Frame(NamedTuple):
    """How near the class means of Deep RFM are to a simplex frame, on one data set.

    Attributes:
        words: for the detail of a verdict.
        within: mean cosine of two samples of a class.
        rms: root mean square over pairs of classes of the distance of their cosine from -1/(K-1),
            of the worst seed.
        near, far: how often random class means are as near to a frame, or as far, as the worst and
            the best seed.
        falls, rises: how often chance alone shows such a fall, or rise, of NC2 with depth.
    """

    words: str
    within: float
    rms: float
    near: float
    far: float
    falls: float
    rises: float


@functools.cache
def _random_means(K: int, d: int) -> np.ndarray:
    """NC2 of collapsed classes without any order: 400 draws of K Gaussian means in d dimensions."""
    generator = np.random.default_rng(stream_seed("agop", "random means", K, d))
    return np.array([nc2_msd(generator.standard_normal((K, d))) for _ in range(400)])


def _frames(tables: Tables, *, unequal: bool) -> list[Frame]:
    """A frame for each activation and data set, with unequal classes or not; see `_frame`."""
    metrics = pd.concat(
        [_default(tables[f"fig{i}_metrics"]) for i in ("3_deeprfm_relu", "4_deeprfm_cos")]
    )
    frames = []
    for name in ("fig6_gram_relu", "fig5_gram_cos"):
        for (activation, dataset), grams in tables[name].groupby(["activation", "dataset"]):
            if _has_unequal_classes(dataset) == unequal:
                own = metrics[metrics["activation"] == activation]
                own = own[own["dataset"] == dataset]
                frames.append(_frame(f"{FEATURES[activation]}, {_title(dataset)}", grams, own))
    return some(frames, "Gram matrices")


def _frame(where: str, grams: pd.DataFrame, metrics: pd.DataFrame) -> Frame:
    """See `Frame`; at the deepest valid layer that is drawn, of Gram matrices and their runs."""
    drawn = _nc2_when_drawn(metrics, sorted(grams["layer"].unique()))
    layer = some(drawn.columns[1:], f"valid layer of {where} that is drawn")[-1]
    nc2 = finite(drawn[layer], f"NC2 of {where}")
    pairs = grams[(grams["layer"] == layer) & (grams["i"] != grams["j"])]
    same = pairs["class_i"] == pairs["class_j"]
    within = float(pairs.loc[same, "value"].mean())
    classes = pairs[~same].groupby(["class_i", "class_j"])["value"].mean()
    K = grams["class_j"].nunique()
    random = _random_means(K, int(metrics["width"].iloc[0]))
    rms, expected = (math.sqrt(value * K / (K - 1)) for value in (nc2.max(), np.median(random)))
    falls, rises = trend(drawn, falls=True), trend(drawn, falls=False)
    words = (
        f"{where} layer {layer}: within {within:.3f}, pairs of classes {classes.min():.2f} to "
        f"{classes.max():.2f}, rms from -1/{K - 1} {rms:.3f} (random means {expected:.3f}), "
        f"NC2 from {drawn[1].mean():.2g} to {nc2.mean():.2g} "
    )
    words += f"(fall p {falls:.2g})" if len(drawn) > 1 else "(one seed: no test of the fall)"
    near, far = float((random <= nc2.max()).mean()), float((random >= nc2.min()).mean())
    return Frame(words, within, rms, near, far, falls, rises)


def _nc2_when_drawn(metrics: pd.DataFrame, layers: list[int]) -> pd.DataFrame:
    """NC2 of the data and of M^½X before each drawn layer that is valid; a row a seed."""
    found = {1: metrics[(metrics["place"] == "base") & (metrics["layer"] == 1)]}
    right = metrics[metrics["place"] == "right"]
    for layer in layers[1:] if layers[0] == 1 else layers:
        rows = right[right["layer"] == layer - 1]
        if len(rows) and rows["valid"].all():
            found[layer] = rows
    return pd.DataFrame({l: rows.set_index("seed")["nc2_msd"] for l, rows in found.items()})


def _decide_frames(frames: list[Frame]) -> Verdict:
    """All data sets must be nearer to a frame than random means, and NC2 must fall with depth."""
    words = {
        "value": max(frame.rms for frame in frames),
        "detail": "; ".join(frame.words for frame in frames),
    }
    if any(frame.within < 0.95 or len(frames) * frame.far < CHANCE for frame in frames):
        return decide(False, **words)
    claimed = max(frame.falls if frame.near < CHANCE else 1.0 for frame in frames)
    return by_chance(claimed, len(frames) * min(frame.rises for frame in frames), **words)


# What log NC1 is a straight line in, if NC1 falls exponentially, as a power, or ever faster.
LAWS = {"exponential": lambda l: l, "power": np.log, "exp(-l²)": np.square}


def _law_of_decay(layer: pd.Series, nc1: pd.Series) -> tuple[str, str]:
    """The law of two constants that fits log NC1 best, and words; "" of fewer than four layers."""
    if len(layer) < 4:
        return "", "fewer than four valid layers"
    log = np.log10(nc1)
    fits = {name: linregress(law(layer), log) for name, law in LAWS.items()}
    left = {name: 1 - fit.rvalue**2 for name, fit in fits.items()}
    best = min(left, key=left.get)
    listed = ", ".join(f"{name} {value:.2g}" for name, value in left.items())
    words = f"slope {fits['exponential'].slope:.2f}, variance left by {listed}"
    return ("no fall" if fits["exponential"].slope >= 0 else best), words


def _listed(column: pd.Series) -> str:
    return ", ".join(f"{value:g}" for value in sorted(column.dropna().unique()))


# ======================================================================================
# Networks


def _layer_metrics(inputs: Inputs) -> pd.DataFrame:
    rows = inputs.measures
    rows = rows[rows["metric"].isin(["nc1", "nc2_msd"])]
    index = ["run", "model", "dataset", "width", "seed", "steps", "epoch", "layer", "place"]
    wide = rows.pivot(index=index, columns="metric", values="value").reset_index()
    return tidy(inputs, "layers", wide.rename_axis(columns=None), wide["place"].to_numpy())


def _ansatz(inputs: Inputs) -> pd.DataFrame:
    rows = inputs.measures[inputs.measures["metric"].isin(NFA)]
    rows = rows.drop(columns="place").rename(columns={"metric": "quantity"})
    return tidy(inputs, "ansatz", rows, rows["quantity"].to_numpy())


def _networks(table: pd.DataFrame) -> list[tuple[tuple[str, str], pd.DataFrame]]:
    """The rows of each network and data set, in the order of the paper's rows."""
    order = ["mnist", "cifar10", "svhn"]
    groups = list(table.groupby(["model", "dataset"]))
    return sorted(groups, key=lambda group: (group[0][0], _row(group[0][1], order)))


def _draw_layers(table: pd.DataFrame) -> Figure:
    groups = _networks(table)
    layers = sorted(table["layer"].unique())
    figure, axes = plt.subplots(
        len(groups), len(layers), figsize=(2.1 * len(layers) + 1.5, 2.0 * len(groups) + 0.6),
        sharex="row", sharey="row", squeeze=False,
    )  # fmt: skip
    for row, ((model, dataset), own) in zip(axes, groups, strict=True):
        for ax, layer in zip(row, layers, strict=True):
            for place, name in LAYER_PLACES.items():
                rows = own[(own["layer"] == layer) & (own["place"] == place)]
                _curve(ax, rows[rows["epoch"] > START], "epoch", "nc1", label=name,
                       color=drawing.COLOURS[place], linestyle=DASHES[place])  # fmt: skip
            drawing.log_y(ax)
            ax.set(xlabel="epoch", title=f"layer {int(layer)}")
        row[0].set_ylabel(f"{model}, {_title(dataset)}\nNC1")
    _legend_beside(figure, axes[0, 0])
    words = f"{_network_settings(table)}{_of_spread(table)}; NC1 = tr Σ_W / tr Σ_B"
    drawing.settings_line(figure, words)
    return figure


def _draw_ansatz(table: pd.DataFrame, reported: dict[str, tuple[float, float]]) -> Figure:
    groups = _networks(table)
    figure, axes = plt.subplots(
        len(groups), 3, figsize=(11, 2.3 * len(groups) + 0.7), squeeze=False
    )
    for row, ((model, dataset), own) in zip(axes, groups, strict=True):
        shares = {"trSw_over_trSt": ("tr Σ_W / tr Σ_T", "right", "-"),
                  "trSb_over_trSt": ("tr Σ_B / tr Σ_T", "full", "--")}  # fmt: skip
        trained_ = own[own["epoch"] > START]
        for quantity, (label, colour, dash) in shares.items():
            rows = trained_[trained_["quantity"] == quantity]
            _curve(row[0], rows, "epoch", "value", label=label, linestyle=dash,
                   color=drawing.COLOURS[colour])  # fmt: skip
        drawing.log_y(row[0])
        row[0].set(ylabel="share of the scatter", title=f"{model}, {_title(dataset)}: last layer")
        nfa = own[own["quantity"] == "nfa_pearson"]
        _draw_correlations(row[1], nfa, own["width"].iloc[0], reported.get(dataset))
        loss = trained_[trained_["quantity"] == "train_loss"]
        _curve(row[2], loss, "epoch", "value", color=drawing.COLOURS["loss"])
        drawing.log_y(row[2])
        end = loss[loss["epoch"] == loss["epoch"].max()]["value"].mean()
        row[2].set(ylabel="mean squared error", title=f"training loss, {end:.2g} at the end")
        for ax in row:
            ax.set_xlabel("epoch")
    _legend_beside(figure, *axes[0, :2])
    words = f"{_network_settings(table)}{_of_spread(table)}"
    drawing.settings_line(
        figure,
        f"{words}; correlations at the left edge are before training; official curves of "
        "tr Σ_B / tr Σ_T are higher by the factor 10",
    )
    return figure


def _draw_correlations(
    ax: plt.Axes, nfa: pd.DataFrame, width: int, reported: tuple[float, float] | None
) -> None:
    """The correlation of each layer by epoch, and what it was before training."""
    layers = sorted(nfa["layer"].unique())
    edge = -0.04 * nfa["epoch"].max()
    for position, (layer, colour) in enumerate(
        zip(layers, drawing.ordered_colours(len(layers)), strict=True)
    ):
        own = nfa[nfa["layer"] == layer]
        start = own[own["epoch"] == START]["value"]
        _curve(ax, own[own["epoch"] > START], "epoch", "value", log=False, color=colour,
               linestyle=drawing.ordered_dash(position), label=f"layer {int(layer)}")  # fmt: skip
        ax.plot([edge], [start.mean()], drawing.MARKERS[position], color=colour, clip_on=False)
    ax.axhline(width**-0.5, color="0.5", linewidth=0.8, label="trivial: 1/√width")
    if reported is not None:
        mean, deviation = reported
        ax.errorbar([nfa["epoch"].max()], [mean], yerr=[deviation], marker="o", mfc="none",
                    color=drawing.COLOURS["published"], label="published mean")  # fmt: skip
    ends = [nfa[nfa["epoch"] == epoch]["value"].mean() for epoch in (START, nfa["epoch"].max())]
    title = f"ansatz: {ends[0]:.2f} before training, {ends[1]:.2f} at the end"
    ax.set(ylabel="Pearson correlation", title=title, yticks=np.arange(0, 1.01, 0.2))
    ax.set_ylim(min(0, nfa["value"].min()), 1.02)


def _curve(ax: plt.Axes, rows: pd.DataFrame, x: str, y: str, *, log: bool = True,
           **style: object) -> None:  # fmt: skip
    """Mean over seeds and one deviation, of logarithms on such an axis; two seeds are dots."""
    if rows["seed"].nunique() != 2:
        drawing.band(ax, rows, x, y, log=log, **style)
        return
    own = rows[rows[y] > 0] if log else rows
    values = np.log(own[y]) if log else own[y]
    mean = values.groupby(own[x]).mean()
    (line,) = ax.plot(mean.index, np.exp(mean) if log else mean, **style)
    ax.plot(own[x], own[y], ".", color=line.get_color(), markersize=3)


def _legend_beside(figure: Figure, *axes: plt.Axes) -> None:
    """One legend for all panels, beside them: over data it would hide what it names."""
    pairs = [ax.get_legend_handles_labels() for ax in axes]
    handles = [handle for own, _ in pairs for handle in own]
    names = [name for _, own in pairs for name in own]
    if handles:
        figure.legend(handles, names, loc="outside right center")


def _of_spread(table: pd.DataFrame) -> str:
    """What the lines and bands are, by the number of seeds of each run."""
    counts = table.groupby("run")["seed"].nunique()
    words = "; two seeds are two dots" if (counts == 2).any() else ""
    if (counts > 2).any():
        words += "; bands: one deviation over seeds, of the logarithm on logarithmic axes"
    return words


def _network_settings(table: pd.DataFrame) -> str:
    words = f"five layers of width {_listed(table['width'])}, {drawing.seeds_of(table)}"
    if table["scale"].iloc[0] != "paper":
        words += "; settings differ from the paper's"
    return words


def _reported(published: pd.DataFrame, figure: str, dataset: str) -> dict[str, tuple[float, float]]:
    """The published mean correlation and its deviation, by the data set it is about."""
    if not len(published):
        return {}
    rows = published[(published["figure"] == figure) & (published["x"] == "end of training")]
    return {dataset: (float(rows["y"].iloc[0]), float(rows["y_err"].iloc[0]))}


def _moments(table: pd.DataFrame, column: str, index: list[str]) -> pd.DataFrame:
    """A column at four epochs: before training, the first and the last, and nine tenths of the way.

    The paper's first measurement is after one epoch. A row each of `index`.
    """
    parts = []
    for _, rows in table.groupby(["model", "dataset"]):
        steps = rows["steps"].iloc[0]
        late = rows.loc[rows["epoch"] <= 0.9 * steps, "epoch"].max()
        wide = rows.pivot(index=index, columns="epoch", values=column)
        at = {"start": START, "first": 0, "late": late, "end": steps}
        columns = {name: wide.get(epoch, np.nan) for name, epoch in at.items()}
        parts.append(pd.DataFrame(columns, index=wide.index))
    return pd.concat(parts) if parts else pd.DataFrame()


def _reductions(layers: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """R and T of c6, sums over layers of falls of ln NC1: a row a seed, a column a moment."""
    some(layers, "networks")
    index = [*PAIR_SEED, "steps", "epoch"]
    nc1 = layers.pivot(index=[*index, "layer"], columns="place", values="nc1")
    log = np.log(nc1.where(nc1 > 0).reindex(columns=[*LAYER_PLACES]))
    falls = pd.DataFrame({"R": log["base"] - log["right"], "T": log["right"] - log["full"]})
    # A layer without a value leaves the sum over layers without one.
    sums = falls.groupby(index).sum(min_count=layers["layer"].nunique()).reset_index()
    return _moments(sums, "R", PAIR_SEED), _moments(sums, "T", PAIR_SEED)


def _right_reduces(
    R: pd.DataFrame, T: pd.DataFrame
) -> tuple[pd.Series, dict[tuple[str, str], str]]:
    """Whether most of the fall is in SVᵀ, and came with training, by seed; words by pair."""
    finite(R[["start", "end"]], "reduction by SVᵀ")
    finite(T["end"], "reduction by the ReLU")
    good = (R["end"] > T["end"].clip(lower=0)) & (R["end"] > R["start"])
    both = pd.DataFrame({"R": R["end"], "T": T["end"], "start": R["start"]})
    listed = {
        pair: f"{_pair(pair)}: R {rows['R'].mean():.2f} ({rows['start'].mean():.2f} before "
        f"training), T {rows['T'].mean():.2f}"
        for pair, rows in both.groupby(["model", "dataset"])
    }
    return good, listed


def _correlations(table: pd.DataFrame, original: str | None) -> pd.DataFrame:
    """Correlations of the ansatz by layer, a column a moment; of one data set if it ran."""
    table = table[table["quantity"] == "nfa_pearson"]
    wanted = table[table["dataset"].replace(STANDS_FOR) == original]
    return _moments(wanted if len(wanted) else table, "value", [*PAIR_SEED, "layer"])


def _over_layers(nfa: pd.DataFrame) -> pd.DataFrame:
    """Means of `_correlations` over layers, which are of one network: a row a seed."""
    return nfa.groupby(PAIR_SEED).mean(skipna=False)


def _against_the_start(nfa: pd.DataFrame) -> str:
    """The correlation at the end and before training, in words."""
    end, start = nfa["end"], nfa["start"]
    return (
        f"{end.mean():.2f} ± {end.std():.2f} over layers and seeds, "
        f"{start.mean():.2f} ± {start.std():.2f} before training"
    )


def _pair(pair: tuple[str, str]) -> str:
    return f"{pair[0]} on {_title(pair[1])}"


def _of_pair(frame: pd.DataFrame, pair: tuple[str, str]) -> np.ndarray:
    """Which rows are of a network and a data set."""
    index = frame.index
    return (index.get_level_values("model") == pair[0]) & (
        index.get_level_values("dataset") == pair[1]
    )


def _by_seeds(good: pd.Series) -> tuple[float, float]:
    """How often coins show all seeds good; and none good in so many of the networks."""
    networks = good.groupby(["model", "dataset"])
    # Coins leave none good most often where seeds are fewest.
    bad, chance = int((~networks.any()).sum()), 0.5 ** int(networks.size().min())
    return (
        0.5 ** len(good) if good.all() else 1.0,
        binomtest(bad, networks.ngroups, chance, "greater").pvalue,
    )


def _decidable(
    tables: Tables, names: list[str], listed: Mapping[tuple[str, str], str], moments: pd.DataFrame
) -> None:
    """The networks that a claim compares fit their training set and have settled: see the rules.

    Args:
        tables: of all figures.
        names: of those with the accuracy.
        listed: what was found, in words, by network and data set.
        moments: what decides, a row a seed; see `_moments`.

    Raises:
        Undecided: some network does not, or has not; with what was found.
    """
    table = pd.concat([tables[name] for name in names])
    end = table[(table["epoch"] == table["steps"]) & (table["quantity"] == "train_accuracy")]
    least = end.groupby(["model", "dataset"])["value"].min().to_dict()
    moved = (moments["end"] - moments["late"]).abs()
    whole = (moments["end"] - moments["start"]).abs()
    rule = "what is compared moves in the last tenth by at most a tenth of its way since the start"
    try:
        trained(pd.Series({_pair(pair): least.get(pair, math.nan) for pair in listed}))
        settled(moments, moved <= 0.1 * whole, rule)
    except Undecided as why:
        raise Undecided(f"{why}: {'; '.join(listed.values())}") from None
