"""What is stored in `results/` by key: current results are added, what no plan needs is deleted."""

import shutil
from collections.abc import Sequence
from pathlib import Path

import yaml

from replica import artifacts, store
from replica.configuration import ConfigError, read_yaml
from replica.places import is_address
from replica.plan import Plan, keys, whole_plan
from replica.settings.study import SCALES

# Beside the states: counts of certifications, and the states of trainings that have not ended.
COUNTS, CHECKPOINTS = Path("results/counts"), Path("results/checkpoints")
# In the folder of results whose settings have a name: these settings.
SETTINGS = "settings.yaml"


def fill(plan: Plan) -> None:
    """Keep the states of a plan that are not in the store yet, by the key that they carry.

    Those of other settings, which were copied from elsewhere, are deleted before a run.
    """
    for part in plan.parts.values():
        outputs = plan.outputs(part)
        key, *others = {_key(plan.root / path) for path in outputs.values()}
        if key and not others and not (plan.root / store.FOLDER / key).exists():
            store.keep(key, outputs, plan.root)


def _key(path: Path) -> str | None:
    """The key that an artifact carries; None where it is not there, or not whole."""
    try:
        return str((artifacts.read_stamp(path) or {}).get("key", "")) or None
    except (artifacts.CorruptArtifact, OSError):
        return None


def note_settings(plan: Plan) -> None:
    """Write down settings that have a name where their results lie, for `named_plans`.

    Raises:
        CannotWrite: see `artifacts.atomic`.
    """
    if plan.config.name:
        values = plan.config.model_dump(mode="json", exclude_defaults=True)
        text = yaml.safe_dump({"scale": plan.config.scale, **values}, sort_keys=False)
        artifacts.write_bytes(plan.root / plan.results / SETTINGS, text.encode())


def named_plans(root: Path) -> tuple[list[Plan], list[str]]:
    """The plans of all settings with a name of which there are results.

    Returns:
        The plans, and a sentence on each folder whose settings are not known.
    """
    plans, unknown = [], []
    for folder in sorted(path for scale in SCALES for path in root.glob(f"results/{scale}-*/")):
        name = folder.relative_to(root)
        try:
            values = read_yaml(folder / SETTINGS)
            plans.append(whole_plan(root, values, lambda *_, name=name: f"{name / SETTINGS}"))
        except ConfigError as error:
            unknown.append(
                f"{name}: the settings behind it are not known, and states that only they need "
                f"are not kept ({str(error).rstrip('.')})."
            )
    return plans, unknown


def mirrors_away(plans: Sequence[Plan]) -> list[str]:
    """Folders that settings name under `mirrors`, and that are not there now.

    Without the data in them a plan may ask for runs on other data.
    """
    named = dict.fromkeys(mirror for plan in plans for mirror in plan.config.mirrors)
    return [m for m in named if not is_address(m) and not (plans[0].root / m).is_dir()]


def unneeded(root: Path, plans: Sequence[Plan]) -> dict[Path, int]:
    """What no plan asks for in the folders that go by keys.

    Returns:
        Folders and files, with the bytes that deleting each frees: none for a state that also
        lies where figures are made from it.
    """
    states = {plan.key("train", *name) for plan in plans for name in plan.parts}
    counts = {
        keys.counts_key(plan, part)
        for plan in plans
        for part in plan.parts.values()
        if part.rule == "certify"
    }
    wanted = {store.FOLDER: states, CHECKPOINTS: states, COUNTS: counts}
    return {
        path: sum(file.stat().st_size for file in _files(path) if file.stat().st_nlink == 1)
        for folder, needed in wanted.items()
        for path in sorted((root / folder).glob("*"))
        if path.name.partition(".")[0] not in needed
    }


def free(path: Path) -> None:
    """Delete a folder or a file that `unneeded` names.

    Raises:
        CannotWrite: a file cannot be deleted, and why.
    """
    for file in _files(path):
        artifacts.remove(file)
    if path.is_dir():
        shutil.rmtree(path)


def _files(path: Path) -> list[Path]:
    return [file for file in path.rglob("*") if file.is_file()] if path.is_dir() else [path]
