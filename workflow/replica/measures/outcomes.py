"""How each run ended: at DNC, below it, in a bad minimum, at zero, diverged, or not yet settled."""

import numpy as np
import pandas as pd

from replica.theory.dnc import dnc_optimum

# The criterion of the paper is not known; these numbers are ours.
AT_DNC = 0.01
BELOW_DNC = 0.995
ZERO_GAP = 1e-3
ZERO_MEANS = 1e-4
SETTLED = 1e-4
IDENTITY = ["run", "seed", "K", "L", "n", "width", "lambda_w", "lambda_h", "lr", "steps"]
OUTCOMES = ["dnc", "below_dnc", "bad_minimum", "zero", "diverged", "unconverged"]


def outcomes(histories: pd.DataFrame, measures: pd.DataFrame) -> pd.DataFrame:
    """Classify every run (one seed at one lambda).

    - diverged: no finite loss at the end;
    - zero: loss within 1e-3 of ½, or above it, with singular values of M_2 below 1e-4;
    - unconverged: the loss still changes by more than 1e-4 of itself in 1000 steps;
    - below_dnc: loss < 0.995 L_DNC; dnc: within 1 % of L_DNC and of full rank K in every layer
      l >= 2; bad_minimum: all others.

    Args:
        histories: loss, fit and penalty by step.
        measures: `rank_rel` and `singular_value` at the last state.

    Returns:
        One row a run: its identity, final_loss, final_fit, final_penalty, loss_dnc, gap =
        final_loss/loss_dnc - 1, change (per 1000 steps), min_rank (smallest rank_rel of M_l before
        the ReLU over l = 2..L), outcome.
    """
    rows = []
    last = measures[measures["step"] == measures["steps"]]
    ranks = last[(last["metric"] == "rank_rel") & (last["relu"] == "pre") & last["layer"].ge(2)]
    ranks = ranks.groupby(["run", "seed", "lambda_w"])["value"].min()
    top = last[(last["metric"] == "singular_value") & (last["layer"] == 2) & (last["index"] == 1)]
    top = top[top["relu"] == "pre"].set_index(["run", "seed", "lambda_w"])["value"]
    for identity, history in histories.groupby(IDENTITY, sort=False):
        row = dict(zip(IDENTITY, identity, strict=True))
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
            "min_rank": ranks.get(name, np.nan),
        }
        row["outcome"] = _outcome(row, top.get(name, np.nan), finished)
        rows.append(row)
    return pd.DataFrame(rows)


def _outcome(row: dict, largest: float, finished: bool) -> str:
    if not finished:
        return "diverged"
    if row["final_loss"] > 0.5 - ZERO_GAP and not largest > ZERO_MEANS:
        return "zero"
    if row["change"] > SETTLED:
        return "unconverged"
    if row["final_loss"] < BELOW_DNC * row["loss_dnc"]:
        return "below_dnc"
    if abs(row["gap"]) < AT_DNC and row["min_rank"] == row["K"]:
        return "dnc"
    return "bad_minimum"
