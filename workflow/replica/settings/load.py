"""Settings from files and the command line, validated; and the schemas that editors use."""

import functools
import itertools
import re
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from replica.configuration import ConfigError, Source, in_the_file, read_yaml
from replica.kinds import DATASETS, KINDS, RunSpec
from replica.settings.study import SCALES, StudySpec, not_a_grid
from replica.settings.user import Config
from replica.settings.validation import validate, validate_run


def load_config(values: dict[str, Any], source: Source = in_the_file) -> Config:
    """Validate the user's configuration (file and command line together)."""
    return validate(Config, values, source)


def load_studies(folder: Path) -> dict[str, StudySpec]:
    """Read every `config/studies/<slug>.yaml`."""
    studies = {}
    for path in sorted(folder.glob("*.yaml")):
        study = validate(StudySpec, read_yaml(path), str(path))
        if study.study != path.stem:
            raise ConfigError(f"{path}: study is {study.study!r} but the file is {path.stem!r}.")
        studies[study.study] = study
    return studies


def expand(
    study: StudySpec,
    run: str,
    config: Config,
    source: Source = in_the_file,
    stand_ins: Mapping[str, str] = MappingProxyType({}),
) -> dict[str, RunSpec]:
    """The validated runs of a template at the configured scale: {full name: spec}.

    A grid {width: [8, 16]} of the run `sweep` gives `sweep-width8` and `sweep-width16`.

    Args:
        stand_ins: data sets whose place another one takes, wherever a setting names them.
    """
    settings = study.runs[run].settings(config.scale)
    if settings is None:
        return {}
    changes = config.overrides.get(study.study, {}).get(run, {})
    settings |= changes
    if config.seeds is not None:
        settings["seeds"] = config.seeds
    where = functools.partial(where_given, study, run, config, source)
    grid = settings.pop("grid", {})
    if wrong := not_a_grid(grid):
        raise ConfigError(f"{where('grid')}: {wrong}.")
    grid = {k: v for k, v in grid.items() if k not in changes}
    for key in DATASETS:
        if key in settings:
            settings[key] = _instead(settings[key], stand_ins)
        if key in grid:
            grid[key] = [_instead(name, stand_ins) for name in grid[key]]
    runs = {}
    for values in itertools.product(*grid.values()):
        point = dict(zip(grid, values, strict=True))
        suffix = "".join(f"-{key}{value}" for key, value in point.items())
        # It becomes a file name, and words of a command.
        if not re.fullmatch(r"[A-Za-z0-9_.+-]*", suffix):
            raise ConfigError(
                f"{where('grid')}: grid: {suffix[1:]!r} cannot be a part of a file name."
            )
        runs[run + suffix] = validate_run({**settings, **point}, where)
    return runs


def _instead(name: Any, stand_ins: Mapping[str, str]) -> Any:
    # What is no name is refused later.
    return stand_ins.get(name, name) if isinstance(name, str) else name


def where_given(study: StudySpec, run: str, config: Config, source: Source, *path: Any) -> str:
    """Where the value at a path of keys of a run was given: in its study's file, or over it.

    A sentence about the run as a whole (no path) names both.
    """
    file = f"config/studies/{study.study}.yaml: runs.{run} at scale {config.scale}"
    changes = config.overrides.get(study.study, {}).get(run, {})
    if path == ("seeds",) and config.seeds is not None:
        return f"{source('seeds')}: seeds, for {study.study}.{run}"
    if changes and (not path or path[0] in changes):
        overrides = f"overrides.{study.study}.{run}"
        given = source("overrides", study.study, run, *path)
        return f"{given}: {overrides}" if path else f"{file} with {overrides} ({given})"
    return file


def schemas() -> dict[str, dict[str, Any]]:
    """The JSON schemas that editors use, by file name under `config/schema/`."""
    study = StudySpec.model_json_schema()
    variants = []
    for kind in KINDS.values():
        schema = kind.spec.model_json_schema()
        study["$defs"] |= schema.pop("$defs", {})
        # A scale gives any subset of the keys; what is missing comes from the larger scales.
        schema.pop("required", None)
        schema["properties"]["grid"] = {
            "type": "object",
            "description": "one run per combination of the listed values",
            "additionalProperties": {"type": "array", "minItems": 1},
        }
        variants.append(schema)
    for scale in SCALES:
        allowed = variants if scale == "paper" else [*variants, {"type": "null"}]
        study["$defs"]["RunTemplate"]["properties"][scale] |= {"anyOf": allowed}
    return {"config.schema.json": Config.model_json_schema(), "study.schema.json": study}
