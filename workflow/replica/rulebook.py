"""When the rule of each claim was fixed, and whether results had been seen (`config/rules.lock`).

A rule that changes after its outcome is known can be made to hold. So the file has the digest of
each rule, and of the settings that decide it at each scale; `replica rules` adds an entry
where one of them has changed, and a test fails where none was added.
"""

import datetime
import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import pandas as pd
import yaml

from replica.artifacts import write_bytes
from replica.configuration import read_yaml
from replica.kinds.base import Strict
from replica.plan import Plan, whole_plan
from replica.plan.keys import RULES
from replica.provenance import code_digest, key_of
from replica.settings.study import SCALES
from replica.settings.user import scale_of
from replica.settings.validation import validate

HEAD = """\
# When the rule of each claim was fixed: digests of the rule, and of the settings that decide it at
# each scale, the newest entry last. `results: seen` says that results were known by then.
# Made by `replica rules`; the reasons may be edited by hand.
"""
# Too small for a verdict on evidence.
FIRST_LOOK = "smoke"


class _Quoted(str):
    """Hexadecimal digits that YAML might take for a number: 1e5."""


class _Dumper(yaml.SafeDumper):
    """With digests in quotes."""


_Dumper.add_representer(
    _Quoted, lambda dumper, text: dumper.represent_scalar("tag:yaml.org,2002:str", text, style='"')
)


class Entry(Strict):
    """One version of a rule."""

    date: str
    results: Literal["seen", "not seen"]
    reason: str
    rule: str
    settings: dict[str, str]


class Digests(NamedTuple):
    """Of the code and words of a rule, and of the settings of the runs that decide it."""

    rule: str
    settings: str


def of_plan(plan: Plan) -> dict[tuple[str, str], Digests]:
    """The digests of every claim of a plan, by study and name.

    Data that stand in for others, and data that could not be had, change no setting: the scorecard
    says both, and the digests are those of the runs as they were asked for.
    """
    if plan.stand_ins or plan.missing:
        plan = whole_plan(plan.root, plan.config.model_dump(mode="json") | {"mirrors": []})
    found = {}
    for slug, study in plan.studies.items():
        for name, claim in study.claims.items():
            parts = plan.parts_behind(slug, claim.figures)
            rule = key_of(
                code=code_digest(f"replica.studies.{slug}:claim_{name}"),
                words=[claim.rule, claim.rests_on, claim.model_dump()["needs"], claim.figures],
            )
            runs = [[p.run, p.part, p.spec.model_dump(mode="json"), p.seeds] for p in parts]
            found[slug, name] = Digests(rule, key_of(runs=runs))
    return found


def digests(root: Path) -> dict[tuple[str, str], dict[str, Any]]:
    """Of every claim, by study and name: `rule`, of its code and words; `settings`, by scale."""
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for scale in SCALES:
        if scale != FIRST_LOOK:
            for claim, (rule, settings) in of_plan(whole_plan(root, {"scale": scale})).items():
                own = found.setdefault(claim, {"settings": {}})
                own["rule"] = rule
                own["settings"][scale] = settings
    return found


def read(root: Path) -> dict[tuple[str, str], list[Entry]]:
    """The entries of each claim, the newest last.

    Raises:
        ConfigError: the file is not as it should be.
    """
    studies = read_yaml(root / RULES) if (root / RULES).exists() else {}
    return {
        (study, claim): [validate(Entry, entry, f"{RULES}, {study}.{claim}") for entry in entries]
        for study, claims in (studies or {}).items()
        for claim, entries in claims.items()
    }


def changed(root: Path) -> list[tuple[str, str]]:
    """The claims whose rule or settings differ from their newest entry, and removed claims."""
    now, noted = digests(root), read(root)
    last = {
        claim: {"rule": entries[-1].rule, "settings": entries[-1].settings}
        for claim, entries in noted.items()
    }
    return [claim for claim in {**now, **last} if now.get(claim) != last.get(claim)]


def add_entries(root: Path, reason: str, seen: bool, today: datetime.date) -> list[tuple[str, str]]:
    """Add an entry for each claim whose rule or settings have changed; removed claims are dropped.

    Returns:
        Those claims.
    """
    now, noted, again = digests(root), read(root), changed(root)
    studies: dict[str, dict[str, list[dict[str, Any]]]] = {}
    for (study, claim), digest in now.items():
        entries = list(noted.get((study, claim), []))
        if (study, claim) in again:
            entries.append(
                Entry(
                    date=f"{today}",
                    results="seen" if seen else "not seen",
                    reason=reason,
                    **digest,
                )
            )
        dumped = [
            entry.model_dump()
            | {
                "rule": _Quoted(entry.rule),
                "settings": {scale: _Quoted(x) for scale, x in entry.settings.items()},
            }
            for entry in entries
        ]
        studies.setdefault(study, {})[claim] = dumped
    text = yaml.dump(studies, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100)
    write_bytes(root / RULES, (HEAD + text).encode())
    return again


def with_dates(
    card: pd.DataFrame, root: Path, label: str, ran: Mapping[tuple[str, str], Digests]
) -> pd.DataFrame:
    """A scorecard with a column `fixed`: when each rule was fixed, and what was known by then.

    Args:
        label: what the results are called, see `Config.label`.
        ran: from `of_plan`; a rule or settings that differ from the newest entry are reported.
    """
    noted, scale = read(root), scale_of(label)
    words = []
    for study, claim in zip(card["study"], card["claim"], strict=True):
        entries = noted.get((study, claim), [])
        words.append(_fixed(entries, scale, ran[study, claim]) if entries else "")
    return card.assign(fixed=words)


def _fixed(entries: Sequence[Entry], scale: str, ran: Digests) -> str:
    entry = entries[-1]
    known = f"{entry.date}, results {entry.results}: {entry.reason}"
    if earlier := _changed_when_seen(entries[:-1], scale):
        known += " Earlier changes with results seen: "
        known += " ".join(f"({n}) {each.reason}" for n, each in enumerate(earlier, 1))
    if ran.rule != entry.rule:
        return f"not fixed: the rule was changed after {known}"
    if ran.settings != entry.settings.get(scale, ran.settings):
        return f"the rule {known}; the settings of these runs differ from those fixed then"
    return known


def _changed_when_seen(entries: Sequence[Entry], scale: str) -> list[Entry]:
    """The entries that changed a rule, or its settings at a scale, when results were known.

    The first entry changed nothing, and the first settings of a scale none of its results.
    """
    return [
        entry
        for before, entry in itertools.pairwise(entries)
        if entry.results == "seen"
        and (
            entry.rule != before.rule
            or before.settings.get(scale, "") not in ("", entry.settings.get(scale))
        )
    ]
