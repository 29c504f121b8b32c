"""Targets that Snakemake can be given by name, and a sentence on one that it does not know."""

import difflib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from replica.plan import Plan
from replica.settings.study import SCALES


def asked_for(command: Sequence[str]) -> list[str]:
    """The targets on Snakemake's command line; the workflow itself learns them too late.

    Args:
        command: `sys.argv`; of another program than Snakemake it has no targets.

    Raises:
        RuntimeError: Snakemake cannot read it.
    """
    if Path(command[0]).name != "snakemake" and Path(command[0]).parent.name != "snakemake":
        return []
    from snakemake.cli import get_argument_parser
    from snakemake.exceptions import CliException

    try:
        return get_argument_parser().parse_known_args(command[1:])[0].targets or []
    except CliException as error:
        raise RuntimeError(f"Snakemake cannot read this command line: {error}") from None


def unknown_target(plan: Plan, rules: Iterable[Any], targets: Iterable[str]) -> str | None:
    """A sentence on the first target that nothing makes, or None.

    Args:
        plan: of this configuration.
        rules: Snakemake's.
        targets: names of rules and files, as they stand on the command line.
    """
    rules = list(rules)
    names = {rule.name for rule in rules if not rule.has_wildcards()}
    for target in targets:
        known = target in names or (plan.root / target).exists()
        if not known and not any(_exists(plan, found) for found in _matches(rules, target)):
            return _sentence(plan, names, target)
    return None


def _matches(rules: list[Any], target: str) -> Iterable[Mapping[str, str]]:
    """The wildcards under which rules would make a file."""
    for rule in rules:
        for product in rule.products():
            if found := product.match(target):
                yield found.groupdict()


def _exists(plan: Plan, wildcards: Mapping[str, str]) -> bool:
    """Whether what wildcards name is in the plan."""
    study = wildcards.get("study", "")
    if "study" in wildcards and study not in plan.studies:
        return False
    if "part" in wildcards:
        return (study, wildcards["run"], wildcards["part"]) in plan.parts
    if "figure" in wildcards:
        return wildcards["figure"] in plan.studies[study].figures
    if "networks" in wildcards:
        return wildcards["networks"] in plan.network_groups(study)
    return "dataset" not in wildcards or wildcards["dataset"] in plan.registry


def _sentence(plan: Plan, names: set[str], target: str) -> str:
    parts = Path(target).parts
    label = parts[1] if len(parts) > 2 and parts[0] == "results" else ""
    scale, _, name = label.partition("-")
    if scale in SCALES and scale != plan.config.scale:
        return (
            f"{target} belongs to the scale {scale}, but this run has the scale "
            f"{plan.config.scale}: add --config scale={scale}{f' name={name}' if name else ''}."
        )
    if scale in SCALES and name != (plan.config.name or ""):
        return (
            f"{target} belongs to settings {f'called {name}' if name else 'without a name'}, but "
            f"those of this run {_called(plan)}: add --config name={name}."
        )
    study = target if label == "" else (parts[2] if len(parts) > 3 else "")
    left_out = (plan.root / f"config/studies/{study}.yaml").exists() and study not in plan.studies
    if study and left_out:
        return (
            f"{target}: the study {study} is not part of this run "
            f"({', '.join(plan.studies)}): add it to studies in config/config.yaml."
        )
    if target in SCALES:
        return f"{target} is a scale and no target: --config scale={target} sets it."
    drawings = {
        figure: f"{plan.results}/{study}/figures/{figure}.svg"
        for study in plan.studies
        for figure in plan.studies[study].figures
    }
    if (figure := Path(target).name) in drawings:
        return f"{target} is a figure and no target: its drawing is {drawings[figure]}."
    files = [file for study in plan.studies for file in plan.targets(study)]
    candidates = [*names, *drawings, *files, *plan.artifacts()]
    close = difflib.get_close_matches(target, candidates, n=1)
    hint = f" (did you mean {drawings.get(close[0], close[0])}?)" if close else ""
    if study in plan.studies:
        there = f"the figures of {study} are {', '.join(plan.studies[study].figures)}"
    else:
        there = f"there are {', '.join(['all', 'scorecard', 'plan', *plan.studies])}, and files"
    return f"Nothing makes {target}{hint}; {there}."


def _called(plan: Plan) -> str:
    return f"are called {plan.config.name}" if plan.config.name else "have no name"
