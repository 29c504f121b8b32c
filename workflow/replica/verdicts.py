"""The verdict of a claim: what a scorecard row says, and the rules that hold for all of them.

A claim rests on a proof (an identity, a bound that was proven, a construction: the code is checked)
or on evidence of runs. Evidence decides only where the runs have settled and were trained, beyond
chance, and beyond what a null model reaches; what is missing is said in its place.
"""

import math
from collections.abc import Sized
from dataclasses import dataclass
from typing import Literal, TypeVar

import numpy as np
import pandas as pd
from scipy.stats import binomtest, page_trend_test

Rows = TypeVar("Rows", bound=Sized)
Numbers = TypeVar("Numbers", pd.Series, pd.DataFrame, np.ndarray, list)

HOLDS = "holds"
FAILS = "does not hold"
UNDECIDABLE = "not decidable at this scale"
# A trend, a share or a difference decides where chance alone shows it less often than this.
CHANCE = 0.05
# The share of its training set that a network which is compared with others fits.
FITS = 0.99


@dataclass(frozen=True)
class Verdict:
    """The outcome of checking one published claim on our figure tables.

    Attributes:
        verdict: `holds`, `does not hold`, or `not decidable at this scale`.
        value: our number for the claim's statistic (None where the claim is not a number).
        detail: one or two sentences: what was counted, and why the verdict is what it is.
    """

    verdict: Literal["holds", "does not hold", "not decidable at this scale"]
    value: float | None
    detail: str


class Undecided(Exception):
    """There is nothing to decide a claim on; the message says why."""


def some(rows: Rows, what: str) -> Rows:
    """These rows, columns or numbers, of which a claim needs one.

    Raises:
        Undecided: where there are none.
    """
    if not len(rows):
        raise Undecided(f"no {what}")
    return rows


def finite(values: Numbers, what: str) -> Numbers:
    """These numbers, all of which a claim needs.

    Raises:
        Undecided: where there are none, or not all are finite.
    """
    if not np.isfinite(np.asarray(some(values, what), dtype=float)).all():
        raise Undecided(f"not every {what} is a finite number")
    return values


def decide(condition: bool, *, value: float | None, detail: str) -> Verdict:
    """`holds` if `condition`, else `does not hold`; undecidable where `value` is no number.

    Comparisons with NaN are false whatever was claimed, so they decide nothing.
    """
    if value is not None and not math.isfinite(value):
        reason = f"our value is not a finite number: {detail}"
        return undecidable(reason)
    return Verdict(HOLDS if condition else FAILS, value, detail)  # type: ignore[arg-type]


def undecidable(reason: str, *, value: float | None = None) -> Verdict:
    """`not decidable at this scale`, with the reason."""
    return Verdict(UNDECIDABLE, value, reason)  # type: ignore[arg-type]


# --------------------------------------------------------------------------------------
# What evidence has to be: settled, trained, more than chance, more than a null model


def settled(runs: Rows, has_settled: pd.Series | np.ndarray, rule: str, least: int = 0) -> Rows:
    """The runs that have settled, of which a claim needs all, or `least` where that is given.

    Args:
        runs: a row a run.
        has_settled: one boolean a run, by a rule that was fixed before.
        rule: the rule, in words.
        least: how many are enough; 0 for all.

    Raises:
        Undecided: too few have settled; the message says how many.
    """
    keep = np.asarray(has_settled, dtype=bool)
    if keep.sum() < (least or len(keep)) or not len(keep):
        raise Undecided(f"{keep.sum()} of {len(keep)} runs have settled ({rule})")
    return runs[keep]  # type: ignore[index]


def trained(accuracy: pd.Series, least: float = FITS) -> None:
    """A comparison needs networks that fit their training set, in every series.

    Args:
        accuracy: on the training set, in [0, 1]; the index names the series.

    Raises:
        Undecided: a series is below `least`, or not known; the message names the worst.
    """
    some(accuracy, "accuracy on the training set")
    if not (accuracy >= least).all():
        worst = accuracy.fillna(0).idxmin()
        raise Undecided(
            f"{worst} fits only {accuracy[worst]:.1%} of its training set, and a comparison needs "  # type: ignore[call-overload]
            f"{least:.0%} of every series"
        )


def trend(table: pd.DataFrame, *, falls: bool) -> float:
    """How often chance alone shows a trend as clear as this: Page's test over seeds and depths.

    Exact where no seed has ties and the table is small, else by the normal approximation.

    Args:
        table: a row a seed (each a ranking of its own), columns in their order.
        falls: whether the trend that is claimed falls along the columns.

    Returns:
        The one-sided p-value; 1 where there are fewer than two rows or three columns: Page's test
        needs them, and one seed cannot tell a trend from what its start has in common.

    Raises:
        Undecided: a value is missing or infinite.
    """
    values = finite(table.to_numpy(float), "value of the trend")
    if len(values) < 2 or values.shape[1] < 3:
        return 1.0
    return float(page_trend_test(-values if falls else values).pvalue)


def beyond(ours: pd.Series | np.ndarray, null: pd.Series | np.ndarray) -> float:
    """How often chance alone puts ours as far above a null model: exact sign flips of pairs.

    Args:
        ours, null: a number a pair, of equal length: the same seed trained and untrained, say.

    Returns:
        The one-sided p-value: the share of all 2^pairs sign flips of the differences whose sum is
        at least the observed one. Five pairs are the fewest that can be below 5 %. Of more than 16
        pairs 20,000 random flips stand for all, the observed one among them.

    Raises:
        Undecided: there are no pairs, or not all are finite.
    """
    difference = np.asarray(ours, float) - np.asarray(null, float)
    finite(difference, "difference from the null model")
    n = len(difference)
    if n <= 16:
        signs = 1 - 2 * (np.arange(2**n)[:, None] >> np.arange(n) & 1)
    else:
        signs = np.random.default_rng(0).choice([-1, 1], (20_000, n))
        signs[0] = 1
    sums = signs @ difference
    return float((sums >= difference.sum() - 1e-12 * np.abs(difference).sum()).mean())


def coin(good: pd.Series, side: Literal["greater", "less"]) -> float:
    """How often chance alone, one in two, shows so many (`greater`) or so few (`less`)."""
    return float(binomtest(int(good.sum()), len(good), 0.5, side).pvalue)


def by_chance(
    claimed: float,
    opposite: float,
    *,
    value: float | None,
    detail: str,
) -> Verdict:
    """The verdict of a test: it holds, or its opposite does, where chance shows it below 5 %.

    Args:
        claimed: how often chance alone shows what is claimed as clearly as the runs.
        opposite: the same of the opposite.
    """
    decisive = claimed if claimed < CHANCE else min(claimed, opposite, 1.0)
    detail = f"{detail}; chance level {decisive:.2g}"
    if min(claimed, opposite) >= CHANCE:
        reason = f"chance alone shows as much in more than {CHANCE:.0%} of cases: {detail}"
        return undecidable(reason, value=value)
    return decide(claimed < CHANCE, value=value, detail=detail)
