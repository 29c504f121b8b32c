"""Whether one quantity rises or falls with another, or one share is above another."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy.stats import binomtest, fisher_exact


def spearman(x: Sequence[float], y: Sequence[float]) -> float:
    """Correlation of the ranks; 0 where all y are equal, which is no trend, NaN below two points.

    Pairs with NaN are left out.

    Rounded to 12 digits: -0.8, at which claims are decided, comes out as -0.7999999999999999.
    """
    ranks = pd.DataFrame({"x": list(x), "y": list(y)}).dropna().rank()
    if len(ranks) < 2:
        return np.nan
    return round(float(ranks["x"].corr(ranks["y"])), 12) if ranks["y"].nunique() > 1 else 0.0


def more_often(ours: pd.Series, others: pd.Series) -> float:
    """How often chance alone puts our share of true values so far above the other's.

    The one-sided p-value of Fisher's exact test.
    """
    counts = [[own.sum(), (~own).sum()] for own in (ours, others)]
    return float(fisher_exact(counts, "greater").pvalue)


def wilson_interval(found: int, count: int) -> tuple[float, float]:
    """The 95 % interval of Wilson (1927) of a probability of which `found` of `count` were seen."""
    interval = binomtest(int(found), int(count)).proportion_ci(method="wilson")
    return float(interval.low), float(interval.high)
