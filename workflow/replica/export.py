"""Tables for other programs and for papers: a figure's numbers, the verdicts, published and ours.

CSV and JSON hold everything at full precision. Markdown and LaTeX are for people: four digits, and
of the scorecard the columns that fit on a page.
"""

import html
import json
import math
import re
import unicodedata
from pathlib import Path

import pandas as pd
from pylatexenc.latexencode import (
    RULE_CALLABLE,
    RULE_DICT,
    UnicodeToLatexConversionRule,
    UnicodeToLatexEncoder,
)

from replica import artifacts
from replica.published import published_beside_ours
from replica.showing import stamp_of

FORMATS = ("csv", "markdown", "latex", "json")
SCORECARD, PUBLISHED = "scorecard", "published"
# What fits on a page, and the columns of text whose lines have to break, with their share of it.
ON_A_PAGE = {
    SCORECARD: ["claim", "statement", "rests_on", "published", "ours", "verdict"],
    PUBLISHED: ["figure", "series", "x", "published", "ours", "status"],
}
WIDTHS = {"statement": 0.34, "published": 0.18, "series": 0.22, "x": 0.14, "detail": 0.4}
PREAMBLE = "\\usepackage[T1]{fontenc}\\usepackage{booktabs,longtable,textcomp,amssymb}"
HAT = "\N{COMBINING CIRCUMFLEX ACCENT}"


def _hat(text: str, position: int) -> tuple[int, str] | None:
    """A letter with a hat, which Unicode has as two characters, for pylatexenc."""
    if text[position + 1 : position + 2] != HAT:
        return None
    return 2, rf"\ensuremath{{\hat{{{latex_of(text[position])}}}}}"


# What pylatexenc lacks or writes with rarer packages.
_LATEX = UnicodeToLatexEncoder(
    conversion_rules=[
        UnicodeToLatexConversionRule(RULE_CALLABLE, _hat),
        UnicodeToLatexConversionRule(
            RULE_DICT,
            {
                ord("ᵀ"): r"\textsuperscript{T}",
                ord("✓"): r"\ensuremath{\checkmark}",
                ord("✗"): r"\ensuremath{\times}",
                ord("𝒩"): r"\ensuremath{\mathcal{N}}",
            },
        ),
        "defaults",
    ],
    unknown_char_policy="unihex",
    unknown_char_warning=False,
)


def listed(results: Path) -> pd.DataFrame:
    """What can be exported from a folder of results.

    Returns:
        Columns name and file; a figure's name is `<study>/<figure>`.
    """
    rows = [(SCORECARD, str(path)) for path in _scorecards(results)]
    rows.append((PUBLISHED, "config/published/*.csv"))
    for path in sorted(results.glob("*/figures/*.parquet")):
        rows.append((f"{path.parents[1].name}/{path.stem}", str(path)))
    return pd.DataFrame(rows, columns=["name", "file"])


def table_of(what: str, root: Path, results: Path) -> pd.DataFrame:
    """A table by its name.

    Args:
        what: `scorecard`, `published`, a figure's id, alone or behind its study and a slash, or the
            path of a Parquet file of ours.
        root: the project's folder.
        results: `results/<scale>`, or `docs/evidence/<scale>`.

    Raises:
        FileNotFoundError: there is none of that name.
        RuntimeError: the name is that of several figures, or the file is not one of ours.
        CorruptArtifact: the file is damaged.
    """
    if what == SCORECARD:
        return _scorecard(results)
    if what == PUBLISHED:
        return published_beside_ours(root, results)
    if what.endswith(".parquet"):
        stamp_of(Path(what))
        return artifacts.read_table(what)
    study, _, figure = what.rpartition("/")
    found = sorted(results.glob(f"{study or '*'}/figures/{figure}.parquet"))
    if len(found) > 1:
        names = ", ".join(f"{path.parents[1].name}/{figure}" for path in found)
        raise RuntimeError(f"Several studies have a figure {figure}: give one of {names}.")
    if not found:
        raise FileNotFoundError(
            f"There is no table {what} in {results}: replica export lists what there is."
        )
    return artifacts.read_table(found[0])


def _scorecards(results: Path) -> list[Path]:
    files = [results / f"{SCORECARD}.{ending}" for ending in ("parquet", "csv")]
    return [path for path in files if path.exists()][:1]


def _scorecard(results: Path) -> pd.DataFrame:
    for path in _scorecards(results):
        if path.suffix == ".parquet":
            return artifacts.read_table(path)
        # Only a value may be missing; `None` is a word.
        return pd.read_csv(path, keep_default_na=False, na_values={"value": [""]})
    raise FileNotFoundError(f"There is no scorecard in {results} yet: make a run first.")


def as_text(table: pd.DataFrame, form: str, what: str = "") -> str:
    """A table in one of `FORMATS`.

    Args:
        form: which; Markdown and LaTeX are shortened to what a page holds.
        what: its name, for the columns of Markdown and LaTeX.
    """
    if form == "csv":
        return table.to_csv(index=False, lineterminator="\n")
    if form == "json":
        rows = json.loads(table.to_json(orient="records", double_precision=15))
        return json.dumps(rows, indent=2, ensure_ascii=False) + "\n"
    if what == SCORECARD:
        table = table.assign(claim=table["study"] + "." + table["claim"], ours=table["value"])
    if what in ON_A_PAGE:
        table = table[ON_A_PAGE[what]]
    words = table.map(_word).astype(str)
    return _markdown(words) if form == "markdown" else _latex(words, _numeric(table))


def _numeric(table: pd.DataFrame) -> list[str]:
    return [str(name) for name in table if pd.api.types.is_numeric_dtype(table[name])]


def _word(value: object) -> str:
    """A cell for people: four digits of a number, nothing for what is missing, on one line."""
    if isinstance(value, float):
        return "" if math.isnan(value) else f"{value:.4g}"
    return (
        "" if value is None or value is pd.NaT or value is pd.NA else " ".join(str(value).split())
    )


def _markdown(words: pd.DataFrame) -> str:
    # Of HTML, which Markdown lets pass, and of its own signs nothing is left.
    safe = words.map(lambda text: re.sub(r"([\\|`*_])", r"\\\1", html.escape(text, quote=False)))
    return safe.to_markdown(index=False, disable_numparse=True) + "\n"


def latex_of(text: str) -> str:
    """A text as LaTeX that shows it, for pdfLaTeX as for others."""
    written = _LATEX.unicode_to_latex(unicodedata.normalize("NFC", text))
    # After the end of a row these would be taken for its options.
    return f"{{}}{written}" if written.startswith(("[", "*")) else written


def _latex(words: pd.DataFrame, numeric: list[str]) -> str:
    heads = {name: latex_of(str(name).replace("_", " ")) for name in words}
    columns = "".join(
        rf"p{{{WIDTHS[name]}\linewidth}}" if name in WIDTHS and name not in numeric
        else "r" if name in numeric else "l"
        for name in words
    )  # fmt: skip
    escaped = words.map(latex_of).rename(columns=heads)
    styler = escaped.style.hide(axis="index")
    return f"% In the preamble: {PREAMBLE}\n" + styler.to_latex(
        column_format=columns, hrules=True, environment="longtable"
    )
