"""The scorecard: every claim with the published value, ours, the rule and the verdict."""

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from types import ModuleType
from typing import Any

import pandas as pd
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from replica import rendering
from replica.content import why_nothing
from replica.verdicts import FAILS, HOLDS, UNDECIDABLE, Undecided, Verdict, undecidable

RESTS_ON = ("proof", "evidence")
# "2 hold, 1 does not, 5 undecided"
COUNTED = {
    HOLDS: ("holds", "hold"), FAILS: ("does not", "do not"), UNDECIDABLE: ("undecided",) * 2
}  # fmt: skip
MARKS = {HOLDS: ("✓", "green"), FAILS: ("✗", "red"), UNDECIDABLE: ("?", "yellow")}
# The class of a verdict in the style sheet, and the word on its badge.
BADGES = {
    HOLDS: ("holds", "holds"),
    FAILS: ("fails", "does not hold"),
    UNDECIDABLE: ("undecided", "undecided"),
}


def decide_claims(
    study: str, claims: Mapping[str, dict], tables: Mapping[str, pd.DataFrame], module: ModuleType
) -> pd.DataFrame:
    """Run the `claim_<id>` functions of a study.

    Args:
        study: its slug.
        claims: id -> the claim's specification, as `replica.plan.words.claim_specs` gives it.
        tables: figure id -> figure table. A claim whose table is absent, or holds nothing finite,
            is not decidable, and says so.
        module: the study's module.

    Returns:
        One row a claim: study, claim, statement, source, rests_on, verdict, value, published,
        tolerance, detail, figures, data, decided_by.
    """
    rows = []
    for claim, spec in claims.items():
        needed = {figure: tables.get(figure) for figure in spec["figures"]}
        verdict = _verdict(getattr(module, f"claim_{claim}"), needed, spec)
        if missing := spec["missing"]:
            detail = f"{missing}; of the others: {verdict.detail}"
            verdict = undecidable(detail, value=verdict.value)
        value = verdict.value
        rows.append(
            {
                "study": study,
                "claim": claim,
                "statement": spec["statement"],
                "source": spec["source"],
                "rests_on": spec["rests_on"],
                "verdict": verdict.verdict,
                "value": math.nan if value is None else float(value),
                "published": spec["published"],
                "tolerance": spec["rule"],
                "detail": verdict.detail,
                "figures": ", ".join(spec["figures"]),
                "data": spec["data"],
                "decided_by": spec["decided_by"],
            }
        )
    return pd.DataFrame(rows)


def _verdict(
    claim: Callable[[Mapping[str, pd.DataFrame]], Verdict],
    tables: Mapping[str, pd.DataFrame | None],
    spec: Mapping[str, Any],
) -> Verdict:
    """The verdict of a claim on its tables; undecidable, with the reason, if they hold nothing.

    A stand-in can neither refute nor support a claim; what it shows is reported next to it.
    """
    if spec["off"]:
        return undecidable("; ".join(spec["off"]))
    made = {figure: table for figure, table in tables.items() if table is not None}
    if absent := [figure for figure in tables if figure not in made]:
        return undecidable(f"no table of {', '.join(absent)}: its jobs have not finished")
    for figure, table in made.items():
        if why := why_nothing(table):
            return undecidable(f"{why} in {figure}")
    try:
        verdict = claim(made)
    except Undecided as why:
        return undecidable(str(why))
    detail = verdict.detail
    if spec["cannot_fail"]:
        detail = f"{spec['cannot_fail']}: {detail}"
    if spec["stand_in"]:
        return undecidable(f"{spec['stand_in']}; there: {detail}", value=verdict.value)
    return replace(verdict, detail=detail)


def with_titles(card: pd.DataFrame, titles: Mapping[str, str]) -> pd.DataFrame:
    """A scorecard that calls its data sets by their titles, which say how images are coded.

    Args:
        titles: of data sets, by the name that they have in the configuration.
    """
    called = card["data"].map(
        lambda names: " and ".join(titles.get(name, name) for name in names.split(", "))
    )
    return card.assign(data=called)


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
    studies = [
        {
            "slug": str(study),
            "title": titles.get(str(study), ""),
            "claims": [
                row | badge(row["verdict"]) | {
                    "ours": show_number(row["value"]),
                    "decided_by": row["decided_by"] if row["verdict"] == UNDECIDABLE else "",
                }
                for row in rows.to_dict("records")
            ],
        }
        for study, rows in card.groupby("study", sort=False)
    ]  # fmt: skip
    return rendering.render(
        "scorecard.html", scale=scale, summary=summary(card), note=note, studies=studies
    )


def badge(verdict: str) -> dict[str, str]:
    """What a template shows of a verdict: `short`, its class; `short_words`; and its `mark`."""
    short, word = BADGES[verdict]
    return {"short": short, "short_words": word, "mark": MARKS[verdict][0]}


def print_scorecard(card: pd.DataFrame, console: Console, *, all_of_it: bool = False) -> None:
    """The scorecard on the terminal, a line a claim.

    Args:
        card: a row a claim.
        console: where it is shown.
        all_of_it: with the rule, the published number, ours and the reason of the verdict.
    """
    if all_of_it:
        console.print(_whole_table(card))
    else:
        console.print(_short_table(card))
    for line in summary(card):
        console.print(line, highlight=False)


def _short_table(card: pd.DataFrame) -> Table:
    names = card["study"] + "." + card["claim"]
    table = Table.grid(padding=(0, 2), expand=True)
    # The statement alone is cut.
    for width in (names.str.len().max(), max(len(f"? {one}") for one, _ in COUNTED.values())):
        table.add_column(no_wrap=True, width=int(width))
    table.add_column(no_wrap=True, overflow="ellipsis", ratio=1)
    row: Any
    for study, rows in card.groupby("study", sort=False):
        if table.row_count:
            table.add_row()
        for row in rows.itertuples():
            mark, colour = MARKS[row.verdict]
            said = f"[{colour}]{mark} {COUNTED[row.verdict][0]}[/]"
            table.add_row(f"{study}.{row.claim}", said, escape(row.statement))
    return table


def _whole_table(card: pd.DataFrame) -> Table:
    table = Table(title=None, show_lines=False, pad_edge=False, header_style="bold")
    for heading, width in [
        ("claim", 15), ("published", 22), ("ours", 9), ("decision rule", 28), ("verdict", 15)
    ]:  # fmt: skip
        table.add_column(heading, max_width=width, overflow="fold")
    table.add_column("why", overflow="fold", ratio=1)
    row: Any
    for row in card.itertuples():
        mark, colour = MARKS[row.verdict]
        said = (row.published, show_number(row.value), row.tolerance)
        table.add_row(
            f"{row.study}.{row.claim}",
            *map(escape, said),
            f"[{colour}]{mark} {row.verdict}[/]",
            escape(row.detail),
        )
    return table


def print_counts(card: pd.DataFrame, console: Console) -> None:
    """How many claims of each study hold, those that are proven apart from those on evidence."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("study", "proven", "on evidence"):
        table.add_column(heading, no_wrap=True)
    groups = [*card.groupby("study", sort=False)]
    for study, rows in [*groups, ("all", card)] if len(groups) > 1 else groups:
        kinds = [counted(rows.loc[rows["rests_on"] == kind, "verdict"]) for kind in RESTS_ON]
        table.add_row(str(study), *kinds)
    console.print(table, highlight=False)


def counted(verdicts: pd.Series) -> str:
    """Verdicts in words: "2 hold, 1 does not, 5 undecided"; a dash where there are none."""
    numbers = verdicts.value_counts()
    said = [
        f"{numbers[verdict]} {one if numbers[verdict] == 1 else more}"
        for verdict, (one, more) in COUNTED.items()
        if verdict in numbers
    ]
    return ", ".join(said) or "–"


def summary(card: pd.DataFrame) -> list[str]:
    """How many claims hold, those that rest on a proof apart from those on evidence of runs."""
    kinds = {"proof": "Checks of what is proven", "evidence": "Evidence of runs"}
    lines = []
    for kind, name in kinds.items():
        counts = card.loc[card["rests_on"] == kind, "verdict"].value_counts()
        listed = []
        for verdict in MARKS:
            number = counts.get(verdict, 0)
            plural = verdict.replace("holds", "hold").replace("does not", "do not")
            listed.append(f"{number} {verdict if number == 1 else plural}")
        lines.append(f"{name}: {', '.join(listed)}.")
    return lines
