"""The scorecard: every claim with the published value, ours, the rule and the verdict."""

import html
import math
from collections.abc import Callable, Mapping
from types import ModuleType

import pandas as pd
from rich.console import Console
from rich.table import Table

from replica.content import why_nothing
from replica.verdicts import FAILS, HOLDS, UNDECIDABLE, Undecided, Verdict, undecidable

MARKS = {HOLDS: ("✓", "green"), FAILS: ("✗", "red"), UNDECIDABLE: ("?", "yellow")}


def decide_claims(
    study: str, claims: Mapping[str, dict], tables: Mapping[str, pd.DataFrame], module: ModuleType
) -> pd.DataFrame:
    """Run the `claim_<id>` functions of a study.

    Args:
        study: its slug.
        claims: id -> the claim's specification (`statement`, `source`, `figures`).
        tables: figure id -> figure table. A claim whose table is absent, or holds nothing finite,
            is not decidable, and says so.
        module: the study's module.

    Returns:
        One row a claim: study, claim, statement, source, verdict, value, published, tolerance,
        detail, figures.
    """
    rows = []
    for claim, spec in claims.items():
        needed = {figure: tables.get(figure) for figure in spec["figures"]}
        verdict = _verdict(getattr(module, f"claim_{claim}"), needed)
        value = verdict.value
        rows.append(
            {
                "study": study,
                "claim": claim,
                "statement": spec["statement"],
                "source": spec["source"],
                "verdict": verdict.verdict,
                "value": math.nan if value is None else float(value),
                "published": verdict.published,
                "tolerance": verdict.tolerance,
                "detail": verdict.detail,
                "figures": ", ".join(spec["figures"]),
            }
        )
    return pd.DataFrame(rows)


def _verdict(
    claim: Callable[[Mapping[str, pd.DataFrame]], Verdict],
    tables: Mapping[str, pd.DataFrame | None],
) -> Verdict:
    """What a claim says of its tables; undecidable, with the reason, where they hold nothing."""
    absent = [figure for figure, table in tables.items() if table is None]
    if absent:
        why = f"no table of {', '.join(absent)}: its jobs did not finish"
        return undecidable(why, published="", tolerance="")
    for figure, table in tables.items():
        if why := why_nothing(table):
            return undecidable(f"{why} in {figure}", published="", tolerance="")
    try:
        return claim(tables)
    except Undecided as why:
        return undecidable(str(why), published="", tolerance="")


def show_number(value: float) -> str:
    """A number for people: four significant digits, a dash for "not a number"."""
    return "–" if math.isnan(value) else f"{value:.4g}"


def scorecard_html(
    card: pd.DataFrame, titles: Mapping[str, str], scale: str, note: str = ""
) -> str:
    """The scorecard as one self-contained page; all text from elsewhere is escaped.

    Args:
        card: a row a claim.
        titles: of the papers, by study.
        scale: for the head.
        note: a sentence on the whole, such as that of `artifacts.side_by_side`.
    """
    counts = card["verdict"].value_counts()
    summary = ", ".join(f"{counts.get(verdict, 0)} {verdict}" for verdict in MARKS)
    parts = [_HEAD, f"<h1>Scorecard</h1><p>Scale <b>{html.escape(scale)}</b>: {summary}.</p>"]
    if note:
        parts.append(f"<p>{html.escape(note)}</p>")
    for study, rows in card.groupby("study", sort=False):
        title = titles.get(str(study), "")
        parts.append(f"<h2>{html.escape(str(study))}: {html.escape(title)}</h2>")
        parts.append(
            "<table><thead><tr><th>claim</th><th>published</th><th>ours</th>"
            "<th>decision rule</th><th>verdict</th><th>why</th></tr></thead><tbody>"
        )
        for row in rows.itertuples():
            mark, colour = MARKS[row.verdict]
            cells = [
                f"<b>{html.escape(row.claim)}</b> {html.escape(row.statement)}"
                f"<br><small>{html.escape(row.source)}; {html.escape(row.figures)}</small>",
                html.escape(row.published),
                html.escape(show_number(row.value)),
                html.escape(row.tolerance),
                f'<span class="{colour}">{mark} {html.escape(row.verdict)}</span>',
                html.escape(row.detail),
            ]
            parts.append("<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>")
        parts.append("</tbody></table>")
    return "\n".join([*parts, "</body></html>"])


def print_scorecard(card: pd.DataFrame, console: Console) -> None:
    """The scorecard as a table on the terminal."""
    table = Table(title=None, show_lines=False, pad_edge=False, header_style="bold")
    for heading, width in [
        ("claim", 15), ("published", 22), ("ours", 9), ("decision rule", 28), ("verdict", 15)
    ]:  # fmt: skip
        table.add_column(heading, max_width=width, overflow="fold")
    table.add_column("why", overflow="fold", ratio=1)
    for row in card.itertuples():
        mark, colour = MARKS[row.verdict]
        table.add_row(
            *(f"{row.study}.{row.claim}", row.published, show_number(row.value), row.tolerance),
            f"[{colour}]{mark} {row.verdict}[/]",
            row.detail,
        )
    console.print(table)
    counts = card["verdict"].value_counts()
    console.print(", ".join(f"{counts.get(verdict, 0)} {verdict}" for verdict in MARKS))


_HEAD = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Replica: scorecard</title><style>
body{font:15px/1.45 system-ui,sans-serif;margin:2rem auto;max-width:82rem;padding:0 1rem;color:#222}
h2{font-size:1.1rem;margin-top:2rem}
table{border-collapse:collapse;width:100%}
th,td{text-align:left;vertical-align:top;padding:.45rem .6rem;border-bottom:1px solid #ddd}
th{background:#f5f5f5}small{color:#666}
.green{color:#08703f;font-weight:600}.red{color:#b3261e;font-weight:600}
.yellow{color:#7a5c00;font-weight:600}
td:nth-child(5){white-space:nowrap}td:nth-child(3){text-align:right;font-variant-numeric:tabular-nums}
</style></head><body>"""
