"""What has moved between two folders of results: verdicts, numbers and settings.

A folder is laid out like `results/<scale>`; docs/evidence/<scale> is one too, and so is a copy from
elsewhere. All that is compared comes from its figure tables, its verdicts and their stamps, so that
no configuration is needed. `replica.spread` holds the statistics.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sized
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from rich.console import Console
from rich.table import Table
from rich.text import Text

from replica import artifacts, rendering, spread
from replica.report import MARKS, badge, show_number

# How a number has moved, and in words for a verdict whose figures have such numbers.
BEYOND, WITHIN, UNKNOWN, POINTS, NOT = "beyond", "within", "no spread", "points", "not"
WORDS = {
    BEYOND: "beyond the spread of seeds",
    WITHIN: "within the spread of seeds",
    UNKNOWN: "its numbers have no spread over seeds to compare with",
    POINTS: "only one side has some of its numbers",
    NOT: "none of its numbers has moved: the rule, or what it needs, has",
}
SIGNS = {BEYOND: "!", WITHIN: "~", UNKNOWN: "?", POINTS: "+"}
# Lines of a figure on the terminal; the page and the JSON have all of them.
LINES = 5
CLAIM, VERDICT = ["study", "claim"], ["verdict", "value"]
SETTING = ["study", "run", "key", "a", "b"]


class NoResults(RuntimeError):
    """There are no results where they were expected; the message says what to give."""


@dataclass(frozen=True)
class Difference:
    """What differs between two folders.

    Attributes:
        a, b: the folders.
        verdicts: study, claim, verdict_a, verdict_b, value_a, value_b, moved (see `WORDS`), of each
            claim whose verdict or value differs.
        numbers: see `spread.compare`, with study, figure and moved_by (`BEYOND`, ...).
        settings: study, run, key, a, b: of runs of both; None is the default.
        only_a, only_b: studies, figures, runs and claims of one of them.
        made: what else is known of how each was made: commits, libraries, code.
    """

    a: Path
    b: Path
    verdicts: pd.DataFrame
    numbers: pd.DataFrame
    settings: pd.DataFrame
    only_a: list[str]
    only_b: list[str]
    made: list[str]

    @property
    def empty(self) -> bool:
        """Whether nothing has moved."""
        parts: tuple[Sized, ...] = (
            self.verdicts,
            self.numbers,
            self.settings,
            self.only_a,
            self.only_b,
        )
        return not any(len(part) for part in parts)

    @property
    def turned(self) -> pd.DataFrame:
        """The claims with another verdict."""
        return self.verdicts[self.verdicts["verdict_a"] != self.verdicts["verdict_b"]]

    def figures(self) -> list[tuple[str, str, pd.DataFrame]]:
        """Study, figure and what has moved in it, what is beyond the spread first."""
        groups = self.numbers.groupby(["study", "figure"], sort=False)
        found = [(str(study), str(figure), rows) for (study, figure), rows in groups]
        return sorted(found, key=lambda x: BEYOND not in set(x[2]["moved_by"]))


def find(name: str, root: Path = Path()) -> Path:
    """The folder of results that a path, a scale or a name of settings means.

    Raises:
        NoResults: there is none, or several have that name.
    """
    results = root / "results"
    named = sorted(results.glob(f"*-{name}")) if Path(name).name == name else []
    found = [path for path in (results / name, *named, root / name) if _is_folder(path)]
    if not found:
        there = sorted(path.name for path in results.glob("*/") if _is_folder(path))
        listed = f"; there are {', '.join(there)}" if there else ""
        raise NoResults(
            f"There are no results called {name}, and {name} is no folder of them: give a folder, "
            f"a scale, or the name of settings{listed}."
        )
    if len(named) > 1 and found[0] in named:
        listed = ", ".join(map(str, named))
        raise NoResults(f"Several results are called {name}: give one of {listed}.")
    return found[0]


def _is_folder(path: Path) -> bool:
    return any(path.glob("*/figures/*.parquet")) or any(path.glob("*/claims.parquet"))


def compare(a: Path, b: Path) -> Difference:
    """What differs between two folders of results.

    Raises:
        CorruptArtifact: a file is damaged.
    """
    stamps = [_stamps(folder) for folder in (a, b)]
    verdicts = [_verdicts(folder, there) for folder, there in zip((a, b), stamps, strict=True)]
    settings, only = _settings(*stamps)
    for own, other, lacking in [(0, 1, only[0]), (1, 0, only[1])]:
        lacking += [_called(name) for name in stamps[own] if name not in stamps[other]]
        claims = verdicts[own].index.difference(verdicts[other].index, sort=False)
        lacking += [f"{study} claim {claim}" for study, claim in claims]
        # A study that only one has is said once.
        studies = [{Path(name).parts[0] for name in stamps[side]} for side in (own, other)]
        alone = studies[0] - studies[1]
        rest = [what for what in lacking if what.partition(" ")[0] not in alone]
        lacking[:] = [*(f"the study {study}" for study in sorted(alone)), *rest]
    numbers = _numbers(a, b, *stamps)
    turned = _moved_verdicts(verdicts[0], verdicts[1], numbers)
    return Difference(a, b, turned, numbers, settings, *only, _made(*stamps))


def _stamps(folder: Path) -> dict[str, dict[str, Any]]:
    """The stamps of figure tables and of verdicts, by path below the folder.

    What somebody else has put beside them has none, and is left out.
    """
    paths = sorted([*folder.glob("*/figures/*.parquet"), *folder.glob("*/claims.parquet")])
    stamps = {path.relative_to(folder).as_posix(): artifacts.read_stamp(path) for path in paths}
    return {name: stamp for name, stamp in stamps.items() if stamp is not None}


def _called(name: str) -> str:
    path = Path(name)
    study = path.parts[0]
    return f"{study} verdicts" if path.name == "claims.parquet" else f"{study} figure {path.stem}"


def _verdicts(folder: Path, stamps: Iterable[str]) -> pd.DataFrame:
    paths = [folder / name for name in stamps if name.endswith("/claims.parquet")]
    rows = [artifacts.read_table(path)[[*CLAIM, *VERDICT, "figures"]] for path in paths]
    empty = pd.DataFrame(columns=[*CLAIM, *VERDICT, "figures"])
    return pd.concat(rows or [empty], ignore_index=True).set_index(CLAIM)


def _numbers(a: Path, b: Path, stamps_a: Mapping, stamps_b: Mapping) -> pd.DataFrame:
    """What has moved in the tables that both have; tables with the same checksum are not read."""
    found = []
    for name in sorted(stamps_a.keys() & stamps_b.keys()):
        one, other = stamps_a[name], stamps_b[name]
        if Path(name).parent.name != "figures" or one["sha256"] == other["sha256"]:
            continue
        runs = [*one["spec"]["runs"].values(), *other["spec"]["runs"].values()]
        rows = spread.compare(
            artifacts.read_table(a / name),
            artifacts.read_table(b / name),
            settings={setting for run in runs for setting in run},
        )
        found.append(rows.assign(study=Path(name).parts[0], figure=Path(name).stem))
    columns = ["study", "figure", *spread.COLUMNS]
    parts = [part for part in found if len(part)]
    numbers = pd.concat(parts or [pd.DataFrame(columns=columns)], ignore_index=True)
    far = spread.holm(numbers["p"].to_numpy(float)) < spread.LEVEL
    by = np.select(
        [far, numbers["p"].notna(), numbers["moved"].astype(bool)],
        [BEYOND, WITHIN, UNKNOWN],
        POINTS,
    )
    numbers = numbers.assign(moved_by=by, order=[[*SIGNS].index(x) for x in by])
    numbers = numbers.sort_values(["study", "figure", "order", "p"], kind="stable")
    return numbers[[*columns, "moved_by"]].reset_index(drop=True)


def _moved_verdicts(a: pd.DataFrame, b: pd.DataFrame, numbers: pd.DataFrame) -> pd.DataFrame:
    both = a.add_suffix("_a").join(b.add_suffix("_b"), how="inner")
    values = both[["value_a", "value_b"]].astype(float)
    far = (values["value_a"] - values["value_b"]).abs() > spread.ROUNDING * values.abs().max(axis=1)
    other = far | (values.isna().sum(axis=1) == 1) | (both["verdict_a"] != both["verdict_b"])
    both = both[other].reset_index()
    both["moved"] = [
        _how(numbers[(numbers["study"] == row.study)
                     & numbers["figure"].isin(row.figures_a.split(", "))])
        for row in _rows(both)
    ]  # fmt: skip
    both["turned"] = both["verdict_a"] == both["verdict_b"]
    both = both.sort_values("turned", kind="stable")
    return both[[*CLAIM, "verdict_a", "verdict_b", "value_a", "value_b", "moved"]]


def _how(numbers: pd.DataFrame) -> str:
    there = set(numbers["moved_by"])
    return next((kind for kind in SIGNS if kind in there), NOT)


def _settings(
    a: Mapping[str, dict], b: Mapping[str, dict]
) -> tuple[pd.DataFrame, tuple[list[str], list[str]]]:
    """Settings that differ of runs that both have, and the runs that only one has."""
    runs = [_runs(stamps) for stamps in (a, b)]
    rows: list[tuple] = []
    for study, run in sorted(runs[0].keys() & runs[1].keys()):
        one, other = (_flat(side[study, run]) for side in runs)
        for key in dict.fromkeys([*one, *other]):
            if one.get(key) != other.get(key):
                rows.append((study, run, key, one.get(key), other.get(key)))
    scales = [sorted({stamp["spec"].get("scale", "") for name, stamp in stamps.items()
                      if "/figures/" in name}) for stamps in (a, b)]  # fmt: skip
    if scales[0] != scales[1]:
        rows.insert(0, ("", "", "scale", *map(", ".join, scales)))
    only = tuple(
        [f"{study} run {run}" for study, run in sorted(own.keys() - other.keys())]
        for own, other in (runs, runs[::-1])
    )
    settings = pd.DataFrame(rows, columns=SETTING, dtype=object)
    return settings.sort_values(["study", "run"], kind="stable", ignore_index=True), only  # type: ignore[return-value]


def _runs(stamps: Mapping[str, dict]) -> dict[tuple[str, str], dict[str, Any]]:
    """The settings of each run behind the figures, by study and run."""
    return {
        (stamp["spec"]["study"], run): settings
        for name, stamp in stamps.items() if "/figures/" in name
        for run, settings in stamp["spec"]["runs"].items()
    }  # fmt: skip


def _flat(settings: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    """Settings within settings under names like `network.width`."""
    flat: dict[str, Any] = {}
    for key, value in settings.items():
        name = f"{above}{key}"
        flat |= _flat(value, f"{name}.") if isinstance(value, dict) else {name: value}
    return flat


def _made(a: Mapping[str, dict], b: Mapping[str, dict]) -> list[str]:
    """What else differs in how the tables were made; by itself it moves nothing."""
    said = []
    for name, of in [
        ("commit", lambda stamp: stamp.get("commit", "")),
        ("Python", lambda stamp: stamp.get("versions", {}).get("python", "")),
        ("torch", lambda stamp: stamp.get("versions", {}).get("torch", "")),
        ("numpy", lambda stamp: stamp.get("versions", {}).get("numpy", "")),
    ]:
        one, other = (", ".join(sorted({of(stamp) for stamp in side.values()})) for side in (a, b))
        if one != other:
            said.append(f"{name}: {one} → {other}")
    tables = [name for name in a.keys() & b.keys() if a[name].get("code") != b[name].get("code")]
    if tables:
        said.append(f"tables made by other code: {len(tables)}")
    return said


# ======================================================================================
# In words


def grouped_settings(settings: pd.DataFrame) -> list[str]:
    """A line a run; runs of a template with the same changes together."""
    lines: dict[tuple[str, str, str], list[str]] = {}
    for (study, run), rows in settings.groupby(["study", "run"], sort=False):
        changes = [f"{row.key} {_shown(row.a)} → {_shown(row.b)}" for row in _rows(rows)]
        key = (str(study), str(run).partition("-")[0], ", ".join(changes))
        lines.setdefault(key, []).append(str(run))
    said = []
    for (slug, template, said_of), runs in lines.items():
        called = runs[0] if len(runs) == 1 else f"{template} ({len(runs)} runs)"
        said.append(f"{slug} {called}: {said_of}".removeprefix(" : "))
    return said


def _rows(table: pd.DataFrame) -> Iterator[Any]:
    return table.itertuples()


def _shown(value: Any) -> str:
    return "default" if value is None else value if isinstance(value, str) else json.dumps(value)


def summary(difference: Difference) -> list[str]:
    """The head of a comparison: how many verdicts, numbers and settings have moved."""
    counts = difference.numbers["moved_by"].value_counts()
    figures = len(difference.figures())
    of = f" in {figures} figure{'s' if figures > 1 else ''}" if figures else ""
    kinds = [
        (BEYOND, "beyond the spread of seeds"),
        (WITHIN, "within it"),
        (UNKNOWN, "without a spread"),
        (POINTS, "with other points"),
    ]
    listed = ", ".join(f"{counts[kind]} {words}" for kind, words in kinds if kind in counts)
    return [
        f"Verdicts: {len(difference.turned)} moved",
        f"Numbers: {len(difference.numbers)} series moved{of}{f': {listed}' if listed else ''}",
        f"Settings: {len(difference.settings)} moved",
    ]  # fmt: skip


def print_difference(difference: Difference, console: Console) -> None:
    """A comparison on the terminal: verdicts, then numbers by figure, then settings."""

    def say(text: str | Text = "", indent: int = 0) -> None:
        for line in Text.assemble(text).wrap(console, console.width - indent):
            console.print(Text(" " * indent) + line)

    say(f"{difference.a} → {difference.b}")
    if difference.empty:
        say("Nothing has moved.")
        return
    for line in summary(difference):
        say(line)
    if len(difference.verdicts):
        say()
    for row in _rows(difference.verdicts):
        value = f"{show_number(row.value_a)} → {show_number(row.value_b)}"
        if row.verdict_a == row.verdict_b:
            say(f"{row.study}.{row.claim}: {row.verdict_a} as before, value {value}", 2)
            continue
        say(Text.assemble(
            f"{row.study}.{row.claim}: ", (row.verdict_a, MARKS[row.verdict_a][1]), " → ",
            (row.verdict_b, MARKS[row.verdict_b][1]), f" ({value}); {WORDS[row.moved]}",
        ))  # fmt: skip
    for study, figure, rows in difference.figures():
        say()
        say(f"{study} {figure}")
        console.print(_lines(rows.head(LINES)))
        if len(rows) > LINES:
            say(f"and {len(rows) - LINES} more", 2)
    if len(difference.numbers):
        say()
        say("! beyond the spread of seeds, ~ within it, ? without one (a single seed, say),")
        say("+ points of one side only")
    for title, lines in [
        ("Settings", grouped_settings(difference.settings)),
        (f"Only in {difference.a}", difference.only_a),
        (f"Only in {difference.b}", difference.only_b),
        ("Made otherwise", difference.made),
    ]:
        if lines:
            say()
            say(title)
        for line in lines:
            say(line, 2)


def _lines(rows: pd.DataFrame) -> Table:
    view = Table(box=None, padding=(0, 2, 0, 0), show_edge=False, header_style="")
    for heading in ("", "series", "number", "a → b", "± seeds"):
        view.add_column(heading, justify="left", overflow="fold")
    for row in _rows(rows):
        view.add_row(SIGNS[row.moved_by], place(row), str(row.column), change(row),
                     show_number(row.spread))  # fmt: skip
    return view


def place(row: Any) -> str:
    """Panel and series of a row of numbers, without a name that says nothing."""
    here = " / ".join(dict.fromkeys(str(name) for name in (row.panel, row.series) if name))
    return f"{here}, and {row.also} more" if row.also else here


def change(row: Any) -> str:
    """Both numbers of a row, or how many points only one side has."""
    if not row.moved:
        return f"{row.only_a} and {row.only_b} points of one only"
    return f"{show_number(row.a)} → {show_number(row.b)}"


def as_json(difference: Difference) -> str:
    """A comparison as JSON; what is missing is null."""
    tables = {name: json.loads(getattr(difference, name).to_json(orient="records"))
              for name in ("verdicts", "numbers", "settings")}  # fmt: skip
    names = {"a": str(difference.a), "b": str(difference.b), "moved": not difference.empty}
    lists = {name: getattr(difference, name) for name in ("only_a", "only_b", "made")}
    return json.dumps(names | tables | lists, indent=2, ensure_ascii=False)


def page_of(difference: Difference) -> Path:
    """Where the page of a comparison goes by itself."""
    return Path("results", f"diff-{difference.a.name}-{difference.b.name}.html")


def write_page(difference: Difference, path: Path) -> None:
    """A comparison as a page, with both drawings of each figure that has moved side by side.

    Drawings are linked, relative to the page: it is to stay where it is, or to move with them.

    Raises:
        CannotWrite: see `artifacts.atomic`.
    """
    # `import os.path` for one function: Path.relative_to cannot go up before Python 3.12.
    from os.path import relpath

    def drawing(folder: Path, study: str, figure: str) -> str:
        file = folder / study / "figures" / f"{figure}.svg"
        return Path(relpath(file, path.parent)).as_posix() if file.exists() else ""

    text = rendering.render(
        "comparison.html",
        difference=difference,
        summary=summary(difference),
        figures=[
            (study, figure, list(rows.itertuples()),
             [(folder, drawing(folder, study, figure)) for folder in (difference.a, difference.b)])
            for study, figure, rows in difference.figures()
        ],
        settings=grouped_settings(difference.settings),
        words=WORDS, signs=SIGNS, badge=badge, place=place, change=change, number=show_number,
    )  # fmt: skip
    artifacts.write_bytes(path, text.encode())
