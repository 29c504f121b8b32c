"""Results stay the same: the smoke scale against numbers that earlier code left.

`results_before.csv` holds count, mean and root mean square of each column of numbers of each figure
table, from the commit named in its first line. `python tests/workflow/test_results.py FOLDER`
prints it anew from the project in FOLDER, for a change of settings; a change of code that is to
change no result leaves the file as it is.
"""

import sys
from io import StringIO
from pathlib import Path

import numpy as np
import pandas as pd

from replica import artifacts, provenance

BEFORE = Path(__file__).with_name("results_before.csv")
NAMES = ["study", "figure", "column"]
# Of the root mean square of a column, how far its mean and its root mean square may move. Sums in
# another order differ in the last digits, and training makes more of them. With half as wide vector
# instructions the most was .005, one test image of an accuracy; on one machine it is far less.
TOLERANCE = 2e-2
# Nothing but rounding: how far a solution is from optimal, and quotients of two such numbers.
ROUNDING = [
    ("agop", "ext_thm53", "ratio"),
    ("sinks", "rec_c5_cost_real", "kkt"),
    ("sinks", "rec_c5_cost_synth", "kkt"),
]


def summary(project: Path) -> pd.DataFrame:
    """Count of finite values, mean and root mean square by figure and column."""
    rows = []
    for path in sorted((project / "results/smoke").glob("*/figures/*.parquet")):
        table = artifacts.read_table(path)
        for column in table.select_dtypes("number").columns.difference(["seed"]):
            values = table[column].to_numpy(float)
            values = values[np.isfinite(values)]
            if len(values):
                square = np.sqrt(np.square(values).mean())
                rows.append([path.parts[-3], path.stem, column, len(values), values.mean(), square])
    return pd.DataFrame(rows, columns=[*NAMES, "count", "mean", "square"]).set_index(NAMES)


def test_tables_are_those_of_the_code_before(finished):
    text = BEFORE.read_text()
    before = pd.read_csv(StringIO(text.split("\n", 1)[1])).set_index(NAMES)
    now = summary(finished)
    assert list(now.index) == list(before.index)
    assert (now["count"] == before["count"]).all()
    size = before["square"].where(before["square"] > 0, 1)
    moved = (now[["mean", "square"]] - before[["mean", "square"]]).abs().max(axis=1) / size
    wrong = moved[moved > TOLERANCE].drop(ROUNDING, errors="ignore")
    assert wrong.empty, wrong.sort_values().to_string()


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    print(f"# {provenance.git_commit(folder)}")
    print(summary(folder).to_csv(float_format="%.7g"), end="")
