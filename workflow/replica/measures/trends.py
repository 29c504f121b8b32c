"""Whether one quantity rises or falls with another."""

from collections.abc import Sequence

import numpy as np
import pandas as pd


def spearman(x: Sequence[float], y: Sequence[float]) -> float:
    """Correlation of the ranks; 0 where all y are equal, which is no trend, NaN below two points.

    Pairs with NaN are left out.

    Rounded to 12 digits: -0.8, at which claims are decided, comes out as -0.7999999999999999.
    """
    ranks = pd.DataFrame({"x": list(x), "y": list(y)}).dropna().rank()
    if len(ranks) < 2:
        return np.nan
    return round(float(ranks["x"].corr(ranks["y"])), 12) if ranks["y"].nunique() > 1 else 0.0
