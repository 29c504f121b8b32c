"""What the pages say: plain dictionaries for the templates, from a plan and what it has made."""

import math
import re
import shlex
from collections.abc import Collection
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import yaml
from markupsafe import Markup
from pyarrow import csv

from replica import artifacts
from replica.configuration import split_entries
from replica.pages import charts
from replica.plan import Plan, words
from replica.provenance import git_commit, parse
from replica.report import BADGES, badge, counted, show_number
from replica.verdicts import UNDECIDABLE

DOWNLOADS = {"svg": "SVG", "pdf": "PDF", "parquet": "Parquet", "csv": "CSV"}
# Longer tables are no use in a spreadsheet, and their Parquet file is a twentieth of the size.
ROWS_AS_CSV = 20_000
RESTS = {"proof": "proven", "evidence": "on evidence"}
# (study, figure) of every figure whose table and drawing are there
Made = Collection[tuple[str, str]]


def index(studies: list[dict[str, Any]], pairs: pd.DataFrame) -> dict[str, Any]:
    """What the front page says.

    Args:
        studies: the contents of the pages of its papers, see `study`.
        pairs: published numbers beside ours, of all of them.
    """
    claims = [claim for each in studies for claim in each["claims"]]
    missing = [
        {"study": each["slug"], "id": figure["id"]}
        for each in studies
        for figure in each["figures"]
        if not figure["svg"]
    ]
    number = _in_words(len(studies))
    papers = "paper" if len(studies) == 1 else "papers"
    return {
        "head": f"{number} {papers}, from data to drawing",
        "studies": studies,
        "missing": missing,
        "totals": {kind: _tally(claims, kind) for kind in RESTS},
        "published": {**_counts(pairs), "chart": charts.against(pairs)},
    }


def study(
    plan: Plan,
    slug: str,
    card: pd.DataFrame,
    made: Made,
    results: Path,
    folder: Path,
    pairs: pd.DataFrame,
) -> dict[str, Any]:
    """What the page of a paper says.

    Args:
        plan: of the scale.
        slug: of the study.
        card: rows of the scorecard, of all studies.
        made: the figures that are there.
        results: where their tables are, in `<study>/figures`.
        folder: where the drawings are, in the same.
        pairs: published numbers beside ours, of all studies.
    """
    spec = plan.studies[slug]
    link = Links(plan.root)
    claims = [_claim(row, slug, link) for row in card[card["study"] == slug].itertuples()]
    numbers = pairs[pairs["study"] == slug]
    figures = [
        _figure(plan, slug, figure, claims, link)
        | (_files(results, folder, slug, figure) if (slug, figure) in made else NOT_MADE)
        | _numbers(numbers[numbers["figure"] == figure])
        for figure in spec.figures
    ]
    off = plan.off.get(slug, {})
    known = [*spec.figures, *off]
    strangers = dict.fromkeys(numbers.loc[~numbers["figure"].isin(known), "figure"])
    drawn = [figure for figure in figures if figure["svg"]]
    return {
        "slug": slug,
        "title": spec.title,
        "authors": spec.authors,
        "venue": spec.venue,
        "arxiv": spec.arxiv,
        "claims": claims,
        "proof": _tally(claims, "proof"),
        "evidence": _tally(claims, "evidence"),
        "figures": figures,
        "shown": list(spec.figures),
        "face": drawn[0] if drawn else None,
        "off": [
            {"id": name, "title": name, "why": why.removeprefix(f"{name} ")}
            | _numbers(numbers[numbers["figure"] == name])
            for name, why in off.items()
        ],
        "elsewhere": {
            name: _numbers(numbers[numbers["figure"] == name])["numbers"] for name in strangers
        },
        "numbers": _counts(numbers),
    }


class Links:
    """Places in the project: as links where CITATION.cff names its repository, else as text."""

    def __init__(self, root: Path) -> None:
        self.root = root
        citation = yaml.safe_load((root / "CITATION.cff").read_text(encoding="utf-8"))
        self.repository = str(citation.get("repository-code", "")).rstrip("/")
        self.commit = git_commit(root).removesuffix("+")

    def to(self, path: str, line: int | None) -> dict[str, str]:
        """A link to a line of a file at the commit."""
        text = path if line is None else f"{path}:{line}"
        if not self.repository or self.commit == "unknown":
            return {"text": text, "url": ""}
        at = "" if line is None else f"#L{line}"
        return {"text": text, "url": f"{self.repository}/blob/{self.commit}/{path}{at}"}

    def to_function(self, slug: str, name: str) -> dict[str, str]:
        """A function of a study's module."""
        found = parse(f"replica.studies.{slug}").definitions.get(name)
        path = f"workflow/replica/studies/{slug}.py"
        link = self.to(path, found[0].lineno if found else None)
        return link | {"text": f"{link['text']} {name}"}

    def to_settings(self, slug: str, figure: str) -> dict[str, str]:
        """A figure in the file of its study."""
        path = f"config/studies/{slug}.yaml"
        lines = (self.root / path).read_text(encoding="utf-8").splitlines()
        start = lines.index("figures:") if "figures:" in lines else 0
        found = [
            i + 1
            for i, line in enumerate(lines)
            if i > start and line.startswith(f"  {figure}:")
        ]  # fmt: skip
        return self.to(path, found[0] if found else None)


def _claim(row: Any, slug: str, link: Links) -> dict[str, Any]:
    optional = {name: _text(getattr(row, name, "")) for name in ("decided_by", "fixed", "data")}
    if row.verdict != UNDECIDABLE:
        optional["decided_by"] = ""
    return (
        optional
        | badge(row.verdict)
        | {
            "id": row.claim,
            "statement": row.statement,
            "source": row.source,
            "rests_on": row.rests_on,
            "rests_words": RESTS[row.rests_on],
            "published": row.published,
            "value": show_number(row.value),
            "detail": row.detail,
            "tolerance": row.tolerance,
            "figures": row.figures.split(", "),
            "code": link.to_function(slug, f"claim_{row.claim}"),
        }
    )


def _figure(
    plan: Plan, slug: str, name: str, claims: list[dict[str, Any]], link: Links
) -> dict[str, Any]:
    """The words about a figure, from its specification."""
    # The words are escaped already.
    caption = {key: Markup(text) for key, text in words.caption(plan, slug, name).items()}
    on_it = [claim for claim in claims if name in claim["figures"]]
    return {
        "id": name,
        "title": words.title(plan, slug, name),
        "place": caption["place"],
        "status": caption["status"],
        "shows": caption["shows"],
        "reconstructed": caption["reconstructed"],
        "ran": [Markup(run) for run in caption["ran"].split("; ")],
        "repeat": caption["repeat"],
        "command": _command(plan, slug, name),
        "settings": link.to_settings(slug, name),
        "table_code": link.to_function(slug, f"table_{name}"),
        "draw_code": link.to_function(slug, f"draw_{name}"),
        "claims": on_it,
        "verdicts": " ".join(dict.fromkeys(claim["short"] for claim in on_it)),
        "rests": " ".join(dict.fromkeys(claim["rests_on"] for claim in on_it)),
    }


NOT_MADE = {"svg": "", "width": 0, "height": 0, "commit": "", "rows": "", "files": {}}


def _files(results: Path, folder: Path, slug: str, name: str) -> dict[str, Any]:
    """The files of a figure that is there; its table as CSV is written here."""
    table, stem = (where / slug / "figures" / name for where in (results, folder))
    rows = _write_csv(table.with_suffix(".parquet"), stem.with_suffix(".csv"))
    width, height = _size(stem.with_suffix(".svg"))
    found = {f"{name}.{ending}": words for ending, words in DOWNLOADS.items()}
    return {
        "svg": f"{slug}/figures/{name}.svg",
        "width": width,
        "height": height,
        "commit": (artifacts.read_stamp(table.with_suffix(".parquet")) or {}).get("commit", ""),
        "rows": f"{rows:,}",
        "csv": rows <= ROWS_AS_CSV,
        "files": {file: words for file, words in found.items() if stem.with_name(file).exists()},
    }


def _write_csv(table: Path, path: Path) -> int:
    """Write a table as CSV where it is not too long; returns its number of rows."""
    frame = artifacts.read_table(table)
    if len(frame) > ROWS_AS_CSV:
        artifacts.remove(path)
    else:
        with artifacts.atomic(path) as temporary:
            csv.write_csv(pa.Table.from_pandas(frame, preserve_index=False), temporary)
    return len(frame)


def _command(plan: Plan, slug: str, figure: str) -> str:
    """The command of Snakemake that makes one figure, with the settings of the whole paper's."""
    path = f"{plan.results}/{slug}/figures/{figure}.svg"
    make, _, where = words.repeat(plan, slug).partition(", where FOLDER")
    _, _, given = shlex.split(make)
    entries = [f"scale={plan.config.scale}", *split_entries(given.removeprefix("CONFIG="))]
    line = shlex.join([".venv/bin/snakemake", path, "--config", *entries])
    return line + (f", where FOLDER{where}" if where else "")


def _size(drawing: Path) -> tuple[int, int]:
    """Width and height of an SVG in pixels, so that nothing moves when it is loaded."""
    with open(drawing, encoding="utf-8") as file:
        found = re.search(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', file.read(2000))
    return (round(float(found[1])), round(float(found[2]))) if found else (0, 0)


def _tally(claims: list[dict[str, Any]], kind: str) -> dict[str, Any]:
    """Counts of the verdicts of a kind of claim, for a bar, and the same in words."""
    found = [claim["short"] for claim in claims if claim["rests_on"] == kind]
    verdicts = pd.Series(
        [verdict for verdict, (short, _) in BADGES.items() for one in found if one == short],
        dtype=object,
    )
    counts = [(short, found.count(short)) for short, _ in BADGES.values()]
    return {"counts": counts, "words": counted(verdicts)}


def _numbers(pairs: pd.DataFrame) -> dict[str, Any]:
    """The rows of a table of published numbers beside ours, and the chart of them."""
    rows = [_pair(row) for row in pairs.itertuples()]
    return {"numbers": rows, "chart": charts.beside(pairs) if rows else None}


def _pair(row: Any) -> dict[str, str]:
    return {
        "series": row.series,
        "x": row.x,
        "published": _with_error(row.published, row.published_err),
        "ours": _with_error(row.ours, row.ours_sd),
        "difference": "–" if math.isnan(row.difference) else f"{row.difference:+.3g}",
        "kind": row.kind,
        "source": row.source,
        "on": " on ".join(filter(None, [row.status, row.data])),
    }


def _with_error(value: float, error: float) -> str:
    return show_number(value) + ("" if math.isnan(error) else f" ± {show_number(error)}")


def _counts(pairs: pd.DataFrame) -> dict[str, Any]:
    """How many numbers there are, how many with one of ours, and how far apart these are."""
    both = pairs[pairs["difference"].notna()]
    apart = (both["difference"] / both["published"]).abs()[both["published"] != 0]
    return {
        "total": f"{len(pairs):,}",
        "both": len(both),
        "median": _percent(apart.median()) if len(apart) else "–",
    }


def _percent(share: float) -> str:
    return "below 0.01 %" if share < 1e-4 else f"{100 * share:.2g} %"


def _text(value: Any) -> str:
    """A cell of a table as text; a cell without a value is empty."""
    return value if isinstance(value, str) else ""


def _in_words(number: int) -> str:
    small = ["No", "One", "Two", "Three", "Four", "Five", "Six", "Seven", "Eight", "Nine", "Ten"]
    return small[number] if number < len(small) else str(number)
