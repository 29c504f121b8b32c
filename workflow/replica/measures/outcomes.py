"""How each run ended: at DNC, below it, in a bad minimum, at zero, diverged, or not yet settled."""

from typing import Any

import numpy as np
import pandas as pd

from replica.theory.dnc import dnc_optimum

# The criterion of the paper is not known; these numbers are ours.
AT_DNC = 0.01
BELOW_DNC = 0.995
ZERO_GAP = 1e-3
ZERO_MEANS = 1e-4
SETTLED = 1e-4
SETTLED_RULE = "the loss changes by at most 1e-4 of itself in 1000 steps"
# For networks in mini-batches, whose loss is logged once an epoch and is noisy
CALM = 1e-3
CALM_RULE = (
    "the mean loss of the last tenth of the steps is within 1e-3 of that of the tenth before"
)
# Kept states are spaced evenly in log(step): of 30, the last two are a third of the steps apart.
RANKS_RULE = "no rank has changed since the kept state before the last"
RUN = ["run", "seed", "lambda_w"]
IDENTITY = ["run", "seed", "K", "L", "n", "width", "lambda_w", "lambda_h", "lr", "steps"]
# How each outcome reads in a sentence of counts.
ENDS = {
    "dnc": "at DNC",
    "below_dnc": "below DNC",
    "bad_minimum": "in another minimum",
    "zero": "at zero",
    "diverged": "diverged",
    "unconverged": "not settled",
}


def outcomes(histories: pd.DataFrame, measures: pd.DataFrame) -> pd.DataFrame:
    """Classify every run (one seed at one lambda).

    - diverged: no finite loss at the end;
    - zero: loss within 1e-3 of ½, or above it, with singular values of M_2 below 1e-4;
    - below_dnc: loss < 0.995 L_DNC, even if it still moves, since it only falls further;
    - unconverged: the loss still changes by more than 1e-4 of itself in 1000 steps; of a network
      that logs epochs, its mean over the last tenth of them by more than 1e-3;
    - dnc: within 1 % of L_DNC, and σ(M_2) and every M_l of l >= 3 of full rank K;
    - bad_minimum: all others.

    The rank of M_2 before the ReLU says nothing: along the flat direction of the DNC optimum (see
    `replica.theory.dnc.dnc_matrices`) it falls to K - 1 at the same loss.

    Args:
        histories: loss, fit and penalty by step.
        measures: `rank_rel` and `singular_value` at the last state.

    Returns:
        One row a run: its identity, final_loss, final_fit, final_penalty, loss_dnc, gap =
        final_loss/loss_dnc - 1, change (per 1000 steps, NaN where epochs are logged), min_rank
        (smallest rank_rel of M_l before the ReLU over l = 2..L), outcome; and whether it is true
        that the run is `calm` (`CALM_RULE`) and its `ranks_settled` (`RANKS_RULE`).
    """
    rows = []
    last = measures[measures["step"] == measures["steps"]]
    ranks = last[(last["metric"] == "rank_rel") & (last["layer"] >= 2)]
    lowest, forced = (
        ranks[ranks["relu"] == side].groupby(RUN)["value"].min()
        for side in ("pre", np.where(ranks["layer"] == 2, "post", "pre"))
    )
    stay = _ranks_stay(measures)
    top = last[(last["metric"] == "singular_value") & (last["layer"] == 2) & (last["index"] == 1)]
    largest = top[top["relu"] == "pre"].set_index(RUN)["value"]
    for identity, history in histories.groupby(IDENTITY, sort=False):
        row: dict[str, Any] = dict(zip(IDENTITY, identity, strict=True))
        name = (row["run"], row["seed"], row["lambda_w"])
        values = history.pivot(index="step", columns="metric", values="value").sort_index()
        end = values.iloc[-1]
        finished = values.index[-1] == row["steps"]
        before = values["loss"].get(max(row["steps"] - 1000, 0), np.nan)
        loss_dnc = dnc_optimum(
            row["K"], row["n"], row["lambda_h"], [row["lambda_w"]] * row["L"]
        ).loss
        row |= {
            "final_loss": end["loss"] if finished else np.nan,
            "final_fit": end["fit"] if finished else np.nan,
            "final_penalty": end["penalty"] if finished else np.nan,
            "loss_dnc": loss_dnc,
            "gap": end["loss"] / loss_dnc - 1 if finished else np.nan,
            "change": abs(before / end["loss"] - 1) / min(1, row["steps"] / 1000),
            "min_rank": lowest.get(name, np.nan),
            "calm": finished and _calm(values["loss"] / end["loss"], row["steps"]),
            "ranks_settled": bool(stay.get(name, False)),
        }
        rank, singular_value = forced.get(name, np.nan), float(largest.get(name, np.nan))
        row["outcome"] = _outcome(row, rank, singular_value, finished)
        rows.append(row)
    return pd.DataFrame(rows)


def not_calm(runs: pd.DataFrame) -> str:
    """How many runs of `outcomes` have diverged or not settled, in words; "" where all have."""
    lost = runs["status_run"] == "diverged"
    still = ~runs["calm"].astype(bool) & ~lost
    counts = [(lost, "have diverged"), (still, f"have not settled ({CALM_RULE})")]
    return ", ".join(f"{own.sum()} of {len(runs)} runs {what}" for own, what in counts if own.any())


def _calm(loss: pd.Series, steps: int) -> bool:
    """Whether the loss, over its last value and by step, stays constant over the last fifth."""
    part = loss.index / steps
    before, late = loss[(part > 0.8) & (part <= 0.9)], loss[part > 0.9]
    return bool(abs(before.mean() - late.mean()) <= CALM)


def _ranks_stay(measures: pd.DataFrame) -> pd.Series:
    """By run, whether the ranks of all layers l >= 2 are the same at the last two kept states."""
    ranks = measures[(measures["metric"] == "rank_rel") & (measures["layer"] >= 2)]
    back = ranks.groupby("run")["step"].rank("dense", ascending=False)
    states = ranks[back <= 2].groupby([*RUN, "layer", "relu"])["value"].agg(["nunique", "size"])
    return states.eq([1, 2]).all(axis=1).groupby(RUN).all()


def _outcome(row: dict, rank: float, largest: float, finished: bool) -> str:
    if not finished:
        return "diverged"
    if row["final_loss"] > 0.5 - ZERO_GAP and not largest > ZERO_MEANS:
        return "zero"
    if row["final_loss"] < BELOW_DNC * row["loss_dnc"]:
        return "below_dnc"
    if not (row["calm"] if np.isnan(row["change"]) else row["change"] <= SETTLED):
        return "unconverged"
    if abs(row["gap"]) < AT_DNC and rank == row["K"]:
        return "dnc"
    return "bad_minimum"
