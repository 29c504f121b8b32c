"""The verdict of a claim: what a scorecard row says."""

from dataclasses import dataclass
from typing import Literal

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


def decide(
    condition: bool, *, value: float | None, published: str, tolerance: str, detail: str
) -> Verdict:
    """`holds` if `condition`, else `does not hold`."""
    return Verdict(HOLDS if condition else FAILS, value, published, tolerance, detail)


def undecidable(
    reason: str, *, value: float | None = None, published: str, tolerance: str
) -> Verdict:
    """`not decidable at this scale`, with the reason."""
    return Verdict(UNDECIDABLE, value, published, tolerance, reason)
