"""What `replica show` prints: where an artifact came from, and a look at its data."""

from pathlib import Path
from typing import Any

import pandas as pd

from replica import artifacts

# Rows and columns that a look at a table shows; a wider table is turned round.
ROWS, TURNED_ROWS, WIDTH = 10, 4, 120


def stamp_of(path: Path) -> dict[str, Any]:
    """The stamp of an artifact, a drawing or a page.

    Raises:
        FileNotFoundError: there is no such file.
        RuntimeError: it is nothing that this project makes.
        CorruptArtifact: it is, and is damaged.
    """
    if not path.exists():
        raise FileNotFoundError(f"There is no file {path}.")
    try:
        stamp = artifacts.read_stamp(path)
    except artifacts.CorruptArtifact:
        # Only what this project makes will be made again.
        if _is_result(path):
            raise
        raise RuntimeError(
            f"{path} is not an artifact of Replica (it has no readable stamp)."
        ) from None
    if stamp is None:
        raise RuntimeError(f"{path} is not an artifact of Replica (it has no stamp).")
    return stamp


def artifacts_in(folder: Path) -> dict[str, dict[str, str]]:
    """The artifacts below a folder: path -> its key, or `damaged`, and its commit."""
    found = {}
    for path in sorted(path for path in folder.rglob("*") if path.suffix in artifacts.STAMPED):
        try:
            stamp = artifacts.read_stamp(path)
        except artifacts.CorruptArtifact:
            stamp = {"key": "damaged"} if _is_result(path) else None
        if stamp is not None:
            found[str(path)] = {name: stamp.get(name, "") for name in ("key", "commit")}
    return found


def data_in_words(path: Path) -> list[str]:
    """Lines on the data of an artifact; none of what has only a stamp."""
    if path.suffix == ".parquet":
        return _table_in_words(artifacts.read_table(path))
    if path.suffix == ".safetensors":
        arrays = artifacts.read_tensors(path)[0]
        return [f"{name} {tuple(a.shape)} {a.dtype}" for name, a in sorted(arrays.items())]
    return []


def _table_in_words(table: pd.DataFrame) -> list[str]:
    """The first rows; of a wide table fewer of them, a column each."""
    text = table.head(ROWS).to_string(max_colwidth=40)
    if len(text.partition("\n")[0]) > WIDTH:
        text = table.head(TURNED_ROWS).T.to_string(max_colwidth=24)
    return [f"{len(table)} rows", text]


def _is_result(path: Path) -> bool:
    """Whether a file lies where artifacts of the project in this folder do."""
    here = Path.cwd()
    place = (here / path).resolve()
    return Path("config/config.yaml").exists() and place.is_relative_to(
        (here / "results").resolve()
    )
