"""What the table of a figure is made from."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pandas as pd


@dataclass(frozen=True)
class Inputs:
    """Histories and measures of all runs of one figure, each run's rows below the last's.

    Attributes:
        study, figure, scale: where the table belongs.
        status: `published`, `scaled` or `reconstructed`.
        histories: loss, fit and penalty by step; see `replica.training.dufm.HISTORY`.
        measures: metrics by snapshot, layer and side of the ReLU; see `replica.measures.dufm`.
    """

    study: str
    figure: str
    scale: str
    status: str
    histories: pd.DataFrame
    measures: pd.DataFrame


def tidy(
    inputs: Inputs, panel: str, frame: pd.DataFrame, series: str | Sequence[str] | pd.Series
) -> pd.DataFrame:
    """Rows of one panel with the columns that every figure table has.

    Args:
        inputs: study, figure, scale and status.
        panel: name of the panel.
        frame: rows in long format.
        series: name of the series, or one name a row.
    """
    head = {"study": inputs.study, "figure": inputs.figure, "panel": panel}
    tail = {"scale": inputs.scale, "status": inputs.status}
    table = frame.assign(**head, series=series, **tail)
    first = [*head, "series", *tail]
    return table[[*first, *(name for name in frame.columns if name not in first)]]


def figure_table(
    make: Callable[[Inputs], pd.DataFrame], inputs: Inputs, runs: Sequence[str]
) -> pd.DataFrame:
    """The table of a figure; one without rows where the figure has runs and none of them was made.

    Args:
        make: the figure's function; it may count on the columns of what its runs leave.
        inputs: what was made.
        runs: the runs that the study's file names for the figure; a closed form has none.
    """
    if runs and inputs.histories.empty and inputs.measures.empty:
        return tidy(inputs, "", pd.DataFrame(), [])
    return make(inputs)


def ran(inputs: Inputs, template: str) -> bool:
    """Whether a run, or one of its grid, was made at this scale."""
    if inputs.measures.empty:
        return False
    return template in {run.partition("-")[0] for run in inputs.measures["run"].unique()}


def last_step(frame: pd.DataFrame) -> pd.DataFrame:
    """The rows of the last step of each run."""
    return frame[frame["step"] == frame["steps"]]
