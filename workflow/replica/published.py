"""The published numbers beside ours: which rows of a figure's table measure the same thing.

`config/published/<study>.csv` names a number by figure, series and x, in the words of the paper.
`PARTNERS` says for each such series which rows of our table are its partners. A published number
that our tables do not hold has no partner, and stays with an empty value of ours.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path

import numpy as np
import pandas as pd

from replica import artifacts

COLUMNS = [
    *["study", "figure", "series", "x", "published", "published_err", "kind", "source"],
    *["ours", "ours_sd", "runs", "difference", "scale", "status", "data"],
]
Prepare = Callable[[pd.DataFrame], pd.DataFrame]


@dataclass(frozen=True)
class Partner:
    """Where our number beside a published one is found.

    Attributes:
        figures: a pattern of the figures' ids, as for file names.
        series, x: regular expressions for the published series and x. Each named group is a column
            of our table, which must have the value of the group: as a number if the column has
            numbers.
        y: the column with our number, the mean of which is taken over all partners.
        where: further columns and the value, or the values, that they must have.
        prepare: makes the table in which the partners are looked for from the figure's table.
    """

    figures: str
    series: str
    x: str
    y: str
    where: Mapping[str, object] = field(default_factory=dict)
    prepare: Prepare | None = None


def published_beside_ours(
    root: Path, results: Path, studies: Iterable[str] | None = None
) -> pd.DataFrame:
    """Every published number with ours next to it.

    Args:
        root: the project's folder, whose `config/published` is read.
        results: the folder of a scale (`results/laptop`), or one with the evidence of it
            (`docs/evidence/laptop`): figure tables are `<study>/figures/<figure>.parquet` in it.
        studies: only these; all of them where it is None.

    Returns:
        One row a row of `config/published`, in its order, with the columns `COLUMNS`: `x` as it is
        written there; `ours` is the mean and `ours_sd` the deviation over `runs` seeds (labelled
        sets); both are NaN and `runs` is 0 where there is no partner. `difference` is ours minus
        published. `scale`, `status` and `data` (the data sets) are those of our rows: only where
        the status is `published` were the settings those of the paper.

    Raises:
        CorruptArtifact: a figure table is damaged.
    """
    parts = []
    for path in sorted((root / "config/published").glob("*.csv")):
        if studies is None or path.stem in studies:
            numbers = pd.read_csv(path, dtype={"series": str, "x": str})
            parts.append(_beside(path.stem, numbers, results))
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=COLUMNS)


def _beside(study: str, numbers: pd.DataFrame, results: Path) -> pd.DataFrame:
    numbers = numbers.rename(columns={"y": "published", "y_err": "published_err"})
    found: dict[int, dict[str, object]] = {}
    for figure, rows in numbers.groupby("figure", sort=False):
        path = results / study / "figures" / f"{figure}.parquet"
        if path.exists():
            table = artifacts.read_table(path)
            prepared: dict[Prepare, pd.DataFrame] = {}
            for index, series, x in rows[["series", "x"]].itertuples():
                for partner in PARTNERS:
                    if fnmatch(str(figure), partner.figures):
                        own = _partners(partner, table, series, x, prepared)
                        if len(own):
                            found[index] = _ours(own, partner.y)
                            break
    ours = pd.DataFrame.from_dict(found, orient="index").reindex(numbers.index)
    for column in ("ours", "ours_sd", "scale", "status", "data", "runs"):
        if column not in ours:
            ours[column] = np.nan
    frame = pd.concat([numbers, ours], axis=1).assign(study=study)
    frame["runs"] = frame["runs"].fillna(0).astype(int)
    frame["difference"] = frame["ours"] - frame["published"]
    words = ["scale", "status", "data"]
    frame[words] = frame[words].astype(object).fillna("")
    return frame[COLUMNS]


def _partners(
    partner: Partner, table: pd.DataFrame, series: str, x: str,
    prepared: dict[Prepare, pd.DataFrame],
) -> pd.DataFrame:  # fmt: skip
    """The rows of a table that are the partners of a published number, with a finite value."""
    named, placed = re.fullmatch(partner.series, series), re.fullmatch(partner.x, x)
    # A table without rows may lack any column.
    if named is None or placed is None or table.empty:
        return table.iloc[:0]
    if partner.prepare is not None:
        if partner.prepare not in prepared:
            prepared[partner.prepare] = partner.prepare(table)
        table = prepared[partner.prepare]
    wanted = {**partner.where, **named.groupdict(), **placed.groupdict()}
    # So may one of a scale without some of the runs.
    if not {*wanted, partner.y} <= set(table.columns):
        return table.iloc[:0]
    mine = np.isfinite(table[partner.y].astype(float))
    for column, value in wanted.items():
        mine &= _equal(table[column], value)
    return table[mine]


def _equal(values: pd.Series, wanted: object) -> pd.Series:
    if isinstance(wanted, list):
        return values.isin(wanted)
    if pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_bool_dtype(values):
        try:
            return pd.Series(np.isclose(values.astype(float), float(str(wanted))), values.index)
        except ValueError:
            return pd.Series(False, values.index)
    return values == wanted


def _ours(own: pd.DataFrame, y: str) -> dict[str, object]:
    """Our number: the mean over seeds, of which rows may have several."""
    runs = [name for name in ("seed", "labelled_set") if name in own]
    means = own.groupby(runs, dropna=False)[y].mean()
    data = list(own["dataset"].dropna().unique()) if "dataset" in own else []
    return {
        "ours": float(means.mean()),
        "ours_sd": float(means.std()) if len(means) > 1 else np.nan,
        "runs": len(means),
        "scale": own["scale"].iloc[0],
        "status": own["status"].iloc[0],
        "data": ", ".join(map(str, data)),
    }


# ------------------------------------------------------------------ tables that partners are in


def _at_radii(table: pd.DataFrame) -> pd.DataFrame:
    """Certified accuracy at the published radii, multiples of 0.05, from the images."""
    images = table[table["panel"] == "image"]
    parts = []
    for radius in np.arange(0, 401, 5) / 100:
        good = images["correct"].astype(bool) & (images["radius"] >= radius)
        parts.append(images.assign(radius=radius, certified=good.astype(float)))
    keys = ["series", "scale", "status", "seed", "run", "radius"]
    named = table.groupby("series")["dataset"].first().rename("dataset")
    at = pd.concat(parts).groupby(keys, as_index=False)["certified"].mean()
    return at.join(named, on="series")


def _gains(table: pd.DataFrame) -> pd.DataFrame:
    """The gain of FR in percentage points, by seed and number of labels, with the original head."""
    own = table[table["head"] == "original"]
    keys = ["scale", "status", "dataset", "seed", "labelled_set", "n_labelled"]
    wide = own.pivot_table(index=keys, columns="series", values="test_accuracy").reset_index()
    if not {"FR-ResNet18", "ResNet18"} <= set(wide.columns):
        return wide
    return wide.assign(gain=wide["FR-ResNet18"] - wide["ResNet18"])


def _largest_gain(table: pd.DataFrame) -> pd.DataFrame:
    return table.dropna(subset="relative_gain").nlargest(1, "relative_gain")


def _within_and_between(table: pd.DataFrame) -> pd.DataFrame:
    """Inner products of the deepest layer within a class, without those of an image with itself."""
    deepest = table[(table["layer"] == table["layer"].max()) & (table["i"] != table["j"])]
    place = np.where(deepest["class_i"] == deepest["class_j"], "within", "between")
    keys = ["scale", "status", "dataset", "seed", "place"]
    means = deepest.assign(place=place).groupby(keys, as_index=False)["value"].mean()
    classes = table.groupby("dataset")["class_i"].nunique().rename("classes")
    return means.join(classes, on="dataset")


def _last_epoch(table: pd.DataFrame) -> pd.DataFrame:
    return table[table["epoch"] == table["epoch"].max()]


def _last_layer(table: pd.DataFrame) -> pd.DataFrame:
    return table[table["layer"] == table["layer"].max()]


def _first_close(table: pd.DataFrame) -> pd.DataFrame:
    """The first iterates of at least 0.99."""
    close = table[(table["panel"] == "iterates") & (table["r"] >= 0.99)]
    return close.sort_values("iterate").drop_duplicates("series")


def _slopes(table: pd.DataFrame) -> pd.DataFrame:
    """Each slope once: the table has it at every depth."""
    return table.drop_duplicates(["series", "seed", "metric"])


def _final_losses(table: pd.DataFrame) -> pd.DataFrame:
    """The smallest and the largest final loss of the seeds of each run."""
    ended = table[table["panel"] == "outcome"]
    keys = ["scale", "status", "K", "L", "n", "width", "lambda_w", "lr", "steps"]
    both = ended.groupby(keys)["final_loss"].agg(["min", "max"]).reset_index()
    return both.melt(keys, ["min", "max"], var_name="end").assign(seed=-1)


def _percent(table: pd.DataFrame) -> pd.DataFrame:
    return table.assign(percent=100 * table["sink_rate"])


CIFAR10 = ["cifar10", "cifar10_jpeg"]
NUMBER = r"[\d.e+-]+"
PARTNERS = [
    # fc_low_data: test accuracy against the number of labels
    Partner("fig[34][abcd]_*", r"(?P<series>.+)", r"(?P<n_labelled>\d+)", "test_accuracy",
            {"head": "original"}),
    Partner("fig3[ab]_*", "gain_pp_text", r"(?P<n_labelled>\d+)", "gain", prepare=_gains),
    Partner("fig3_relative_gain", "max_relative_gain_pct", r"(?P<dataset>\w+)_(?P<n_labelled>\d+)",
            "relative_gain"),
    Partner("fig3_relative_gain", "max_relative_gain_pct_text", "max", "relative_gain",
            prepare=_largest_gain),
    Partner("backbone_*", r"(?P<series>.+)", r"(?P<n_labelled>\d+)", "test_accuracy",
            {"head": "original"}),
    Partner("al_*", r"(?P<series>.+)", r"(?P<n_labelled>\d+)", "test_accuracy",
            {"head": "original"}),
    Partner("ablation_b_ojkd", r"(?P<series>ExtraHead)", r"(?P<n_labelled>\d+)", "test_accuracy",
            {"head": "extra"}),
    Partner("ablation_*", r"(?P<series>.+)", r"(?P<n_labelled>\d+)", "test_accuracy",
            {"head": "original"}),
    Partner("table_parameters", "fr_parameters", "512-64", "parameters",
            {"model": "ResNet18, CIFAR10", "part": "FR without fc"}),
    Partner("table_parameters", "fr_parameters", "512-256", "parameters",
            {"model": "ResNet18, Caltech101", "part": "FR without fc"}),
    Partner("table_parameters", "fr_parameters", "1024-64", "parameters",
            {"model": "DenseNet121, CIFAR10", "part": "FR without fc"}),
    Partner("table_parameters", "fr_parameters", "1536-50", "parameters",
            {"model": "EfficientNetB3, CIFAR10", "part": "FR without fc"}),
    *(Partner("table_parameters", "fr_parameters_inner_layers", str(layers), "parameters",
              {"part": f"{layers} inner layers"}) for layers in range(2, 6)),
    *(Partner("table_parameters", "resnet18_parameters", name.lower(), "parameters",
              {"model": f"ResNet18, {name}", "part": "test time"})
      for name in ("CIFAR10", "CIFAR100")),
    Partner("table_parameters", "fr_percent_of_resnet18(_text)?", "512-64", "percent",
            {"model": "ResNet18, CIFAR10", "part": "FR without fc"}),
    *(Partner("gain_by_size", series, r"(?P<n_labelled>\d+)", column, {"run": "fr"})
      for series, column in [("ResNet18", "baseline"), ("FR-ResNet18", "fr"),
                             ("gain_pp", "gain")]),
    # idrs: certificates
    Partner("cohen_cert_acc_cifar10", r"(?P<series>.+)", rf"(?P<radius>{NUMBER})", "certified",
            prepare=_at_radii),
    # A class of another data set is another thing.
    Partner("cohen_classwise_cifar10", r"(?P<series>constant.+)", r"(?P<label>\d+)", "value",
            {"dataset": CIFAR10}),
    Partner("cohen_classwise_cifar10", "images_per_class", r"(?P<label>\d+)", "n",
            {"dataset": CIFAR10}),
    Partner("cohen_summary_cifar10", r"(?P<series>.+)", r"(?P<statistic>\w+)", "value"),
    Partner("radius_vs_pa", rf"cohen sigma0=(?P<sigma_0>{NUMBER})", rf"(?P<p_a>{NUMBER})",
            "cohen_radius", {"panel": "radius"}),
    # The reference values have the cap of the paper that follows.
    Partner("radius_vs_pa",
            rf"idrs N=(?P<n_dim>\d+) sigma0=(?P<sigma_0>{NUMBER}) r=(?P<r>{NUMBER})",
            rf"(?P<p_a>{NUMBER})", "capped_radius", {"panel": "radius"}),
    *(Partner("table_dim_thresholds", rf"(?P<side>lower|upper)_{word} N=(?P<n_dim>\d+)",
              rf"(?P<p_a>{NUMBER})", "threshold", {"form": form})
      for word, form in [("chernoff", "Chernoff"), ("exact_a0", "exact")]),
    Partner("xi_functions",
            rf"xi_gt at Cohen radius N=(?P<n_dim>\d+) sigma0=(?P<sigma_0>{NUMBER}) "
            rf"p_A=(?P<p_a>{NUMBER})", rf"(?P<ratio>{NUMBER})", "xi",
            {"panel": "at Cohen's radius", "side": "greater"}),
    # agop
    Partner("fig10_mlp_nfa", "MNIST mean NFA Pearson.*", "end of training", "value",
            {"series": "nfa_pearson", "dataset": "mnist"}, _last_epoch),
    Partner("fig11_resnet_nfa", "CIFAR-10 mean NFA Pearson.*", "end of training", "value",
            {"series": "nfa_pearson", "dataset": CIFAR10}, _last_epoch),
    Partner("fig[156]_gram_*", r"(?P<place>within|between)-class inner product at collapse",
            r"K=(?P<classes>\d+)", "value", prepare=_within_and_between),
    Partner("ext_prop_a1", r"(?P<series>arc-cosine map)", rf"(?P<r>{NUMBER})", "exact",
            {"panel": "map"}),
    Partner("ext_prop_a1", "first iterate >= 0.99", r"(?P<series>r0=.+)", "iterate",
            prepare=_first_close),
    *(Partner("ext_thm53", f"limit error, {word} kappa", rf"lam_hat=(?P<lam_hat>{NUMBER})", "error",
              {"kappa_kind": kind, "n": 5, "lam_map": 1, "K": 4}, _last_layer)
      for word, kind in [("printed", "printed"), ("corrected", "corrected"),
                         ("fixed-point", "fixed point")]),
    Partner("ext_thm54", "optimal objective", rf"K=4 n=5 mu=(?P<mu>{NUMBER})", "objective",
            {"series": "collapsed kernel"}),
    Partner("ext_notebook", "training loss", r"(?P<epoch>\d+)", "value", {"panel": "loss"}),
    Partner("ext_notebook", "(?P<place>base|right|full)", r"(?P<layer>\d+)", "nc1",
            {"panel": "layers"}, _last_epoch),
    # depth
    Partner("fig1_row*", "average log-log slope of the metrics with depth", "large depth", "slope",
            prepare=_slopes),
    Partner("fig_extra_objective",
            rf"GUFM objective K=(?P<K>\d+) d=(?P<width>\d+) lambda=(?P<lambda_head>{NUMBER})",
            "inf", "bound"),
    # dufm
    Partner("rec_depth", rf"L_DNC, K=(?P<K>\d+), n=(?P<n>\d+), lambda=(?P<lambda_w>{NUMBER})",
            r"(?P<L>\d+)", "reference", {"panel": "outcome"}),
    Partner("rec_depth",
            rf"GD final loss (?P<end>min|max), K=(?P<K>\d+), n=(?P<n>\d+), "
            rf"lambda=(?P<lambda_w>{NUMBER}), width (?P<width>\d+), lr (?P<lr>{NUMBER}), "
            r"(?P<steps>\d+) steps, .*", r"(?P<L>\d+)", "value", prepare=_final_losses),
    # low_rank
    *(Partner("fig2_top_dufm_k10", rf"L_{series.upper()} n=(?P<n>\d+)", "final", "value",
              {"panel": "reference", "series": series, "status": "published"})
      for series in ("dnc", "srg0")),
    *(Partner("fig2_bottom_resnet_cifar10", f"L_{series.upper()}", "final", "value",
              {"panel": "reference", "series": series, "status": "published"})
      for series in ("dnc", "srg0")),
    # mol
    Partner("rec_b6_counterexample", r"limit of P\(bad\) m/\(m\+1\)", r"(?P<m>\d+)", "p_limit"),
    Partner("rec_b1_uniform", "Hoeffding bound C",
            rf"H=(?P<hypotheses>\d+) N=(?P<n_obj>\d+) n=(?P<n>\d+) delta=(?P<delta>{NUMBER})",
            "bound"),
    # sinks
    Partner("rec_c1_rates", r"Sink_1\^0\.3 percent, GPT2-XL", r"(?P<input>\w+)", "percent",
            {"panel": "heads", "model": "gpt2-xl", "eps": 0.3, "T": 64, "bos": False}, _percent),
    Partner("rec_d_identities", r"smoothing ratio \|HA\|_F/sqrt\(n-1\)",
            r"(?P<pattern>uniform|pure sink|permutation|causal uniform) n=(?P<n>\d+)", "value",
            {"panel": "D5"}),
    Partner("rec_d_identities", r"smoothing ratio \|HA\|_F/sqrt\(n-1\)", r"identity n=(?P<n>\d+)",
            "value", {"panel": "D5", "pattern": "diagonal"}),
    Partner("rec_d_identities", r"smoothing ratio \|HA\|_F/sqrt\(n-1\)",
            r"(?P<pattern>0\.9 (sink|diagonal) \+ 0\.1 causal) uniform n=(?P<n>\d+)", "value",
            {"panel": "D5"}),
    Partner("rec_c5_cost_synth", r"tokens O (?P<pattern>sink) cost .*",
            rf"n=(?P<n>\d+) m=(?P<m>{NUMBER})", "frobenius", {"tokens": "O", "causal": False}),
    *(Partner("rec_c5_cost_synth", f"tokens O (?P<pattern>diagonal) cost {norm}.*",
              r"n=(?P<n>\d+)", norm.lower(), {"tokens": "O", "causal": False, "m": 0})
      for norm in ("Frobenius", "nuclear")),
    Partner("rec_c5_cost_synth", r"tokens O causal cost Frobenius \(both patterns\), m=(?P<m>0)",
            r"n=(?P<n>\d+)", "frobenius", {"tokens": "O", "causal": True}),
]  # fmt: skip
