"""A table as the states of a job, for runs that leave no network to measure."""

from collections.abc import Mapping

import numpy as np
import pandas as pd

# Between the name of a column of words and those words, whose numbers are the column.
WORDS = "|"


def packed(table: pd.DataFrame) -> dict[str, np.ndarray]:
    """The columns of a table as arrays: numbers as they are, words as the number of each."""
    states = {}
    for position, (name, column) in enumerate(table.items()):
        values = column.to_numpy()
        if values.dtype.kind not in "biuf":
            values, words = pd.factorize(column.where(column.notna(), ""))
            name = WORDS.join([name, *words])  # type: ignore[list-item]
        states[f"{position:03}/{name}"] = values.copy()
    return states


def unpacked(states: Mapping[str, np.ndarray]) -> pd.DataFrame:
    """The table that `packed` packed; missing words are empty ones."""
    columns = {}
    for key in sorted(states):
        name, *words = key.partition("/")[2].split(WORDS)
        columns[name] = np.array(words, dtype=object)[states[key]] if words else states[key]
    return pd.DataFrame(columns)
