"""The verdict of a claim: what a scorecard row says."""

import math
from collections.abc import Sized
from dataclasses import dataclass
from typing import Literal, TypeVar

import numpy as np
import pandas as pd

Rows = TypeVar("Rows", bound=Sized)
Numbers = TypeVar("Numbers", pd.Series, pd.DataFrame, np.ndarray, list)

HOLDS = "holds"
FAILS = "does not hold"
UNDECIDABLE = "not decidable at this scale"


@dataclass(frozen=True)
class Verdict:
    """The outcome of checking one published claim on our figure tables.

    Attributes:
        verdict: `holds`, `does not hold`, or `not decidable at this scale`.
        value: our number for the claim's statistic (None where the claim is not a number).
        published: the published number, or the words of the claim where none is published.
        tolerance: the decision rule, as text.
        detail: one or two sentences: what was counted, and why the verdict is what it is.
    """

    verdict: Literal["holds", "does not hold", "not decidable at this scale"]
    value: float | None
    published: str
    tolerance: str
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


def decide(
    condition: bool, *, value: float | None, published: str, tolerance: str, detail: str
) -> Verdict:
    """`holds` if `condition`, else `does not hold`; undecidable where `value` is no number.

    Comparisons with NaN are false whatever was claimed, so they decide nothing.
    """
    if value is not None and not math.isfinite(value):
        reason = f"our value is not a finite number: {detail}"
        return undecidable(reason, published=published, tolerance=tolerance)
    return Verdict(HOLDS if condition else FAILS, value, published, tolerance, detail)


def undecidable(
    reason: str, *, value: float | None = None, published: str, tolerance: str
) -> Verdict:
    """`not decidable at this scale`, with the reason."""
    return Verdict(UNDECIDABLE, value, published, tolerance, reason)
