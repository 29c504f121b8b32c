"""The measures of runs whose result is a table, not a network."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from replica.kinds.attention import PretrainedSpec, RandomAttentionSpec, SyntheticTokensSpec
from replica.kinds.multiobjective import SyntheticRisksSpec
from replica.tables import unpacked


def measure_table(
    spec: SyntheticTokensSpec | RandomAttentionSpec | PretrainedSpec | SyntheticRisksSpec,
    states: Mapping[str, np.ndarray],
    *,
    run: str,
    threads: int,
    card: Path | None,
) -> pd.DataFrame:
    """The table that the states are, and the name of its run."""
    return unpacked(states).assign(run=run)
