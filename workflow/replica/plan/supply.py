"""The data of a plan: what it will fetch, and what becomes of runs whose data cannot be had."""

import dataclasses
from collections.abc import Iterable, Iterator
from pathlib import Path

from replica.data import at_hand
from replica.data.registry import card_path
from replica.plan.layout import Plan
from replica.plan.parts import Part


def data_folder(plan: Plan) -> Path:
    """Where the data sets of a plan are."""
    return plan.root / plan.config.data_dir


def to_fetch(plan: Plan) -> list[str]:
    """The data sets with files that jobs of a plan wait for and that are not prepared.

    A result that is there with its key asks for no data.
    """
    data = data_folder(plan)
    return [
        name
        for name in _waited_for(plan)
        if not (card_path(str(data), name).exists() and receipt_path(data, name).exists())
    ]


def receipt_path(data: Path, name: str) -> Path:
    """The file that says that a data set was fetched."""
    return data / "raw" / name / "receipt.json"


def _waited_for(plan: Plan) -> list[str]:
    jobs: list[tuple[list[Part], str]] = []
    for part in plan.parts.values():
        jobs.append(([part], plan.states(part)))
        if plan.measured(part):
            jobs.append(([part], plan.measures(part)))
    for study in plan.with_networks():
        for group, parts in plan.network_groups(study).items():
            jobs.append((parts, f"{plan.results}/{study}/generalization/{group}.parquet"))
    found: dict[str, None] = {}
    for parts, made in jobs:
        names = dict.fromkeys(name for part in parts for name in part.datasets)
        names = {name: None for name in names if plan.registry[name].files}
        # Keys take seconds: they are asked for only where there is something that may carry one.
        if names.keys() - found.keys() and not plan.is_current(made):
            found |= names
    return list(found)


def in_words(plan: Plan, names: Iterable[str]) -> str:
    """What will be fetched and its size, in a sentence; "" where that is nothing."""
    listed, total, unknown = [], 0, False
    for name in names:
        entry = plan.registry[name]
        sizes = [entry.bytes.get(file) for file in entry.files]
        known = sum(size for size in sizes if size is not None)
        whole = None not in sizes
        listed.append(f"{entry.title} ({f'{known / 1e6:,.1f} MB' if whole else 'size unknown'})")
        total, unknown = total + known, unknown or not whole
    if not listed:
        return ""
    more = " and what has no known size" if unknown else ""
    return (
        f"To be fetched into {plan.config.data_dir}: {', '.join(listed)}; "
        f"{total / 1e6:,.1f} MB{more} in all."
    )


def with_data(plan: Plan) -> Plan:
    """A plan without the runs whose data could not be had, and sentences on them.

    A run that is made already stays. What starts from a run that is left out is left out too.
    """
    data = data_folder(plan)
    read = dict.fromkeys(name for part in plan.parts.values() for name in part.datasets)
    reasons = {name: at_hand.out_of_reach(plan.registry[name], data) for name in read}
    reasons = {name: reason for name, reason in reasons.items() if reason}
    if not reasons:
        return plan
    lacking: dict[tuple[str, str], str] = {}
    for part in plan.parts.values():
        if not plan.is_current(plan.states(part)) or (
            plan.measured(part) and not plan.is_current(plan.measures(part))
        ):
            for name in part.datasets:
                if name in reasons:
                    lacking.setdefault((part.study, part.run), name)
    for part in plan.parts.values():
        for start in _starts(part):
            if (start.study, start.run) in lacking:
                lacking.setdefault((part.study, part.run), lacking[start.study, start.run])
    sentences = []
    for name, reason in reasons.items():
        runs = [".".join(run) for run, lacks in lacking.items() if lacks == name]
        if runs:
            title = plan.registry[name].title
            sentences.append(
                f"Left out for lack of {title}: {', '.join(runs)}. {reason} The next start of the "
                "whole reproduction tries again."
            )
    parts = {name: part for name, part in plan.parts.items() if name[:2] not in lacking}
    return dataclasses.replace(
        plan, parts=parts, left_out=(*plan.left_out, *sentences), missing=lacking, _keys={}
    )


def _starts(part: Part) -> Iterator[Part]:
    """The jobs that a job starts from, directly or through others."""
    for start in (part.starts_from, part.previous_stage):
        if start is not None:
            yield start
            yield from _starts(start)
