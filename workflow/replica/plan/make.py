"""From the user's configuration to a plan, or to one sentence on what is wrong with it."""

import functools
import importlib.util
from pathlib import Path
from typing import Any, cast

from replica import kinds
from replica.configuration import ConfigError, Source, in_the_file
from replica.data.at_hand import stand_ins
from replica.data.registry import DatasetEntry, load_registry
from replica.kinds import KINDS, RunSpec, datasets_of
from replica.kinds.low_data import LowDataSpec
from replica.kinds.smoothing import CertificationSpec
from replica.plan.layout import Plan
from replica.plan.parts import Part, certifications, pretraining, split, starts_from_a_run
from replica.plan.supply import with_data
from replica.provenance import parse
from replica.settings.load import expand, load_config, load_studies, where_given
from replica.settings.study import StudySpec
from replica.settings.user import Config
from replica.settings.validation import did_you_mean


def make_plan(root: Path | str, values: dict[str, Any], source: Source = in_the_file) -> Plan:
    """The jobs of a configuration, without those whose data could not be had.

    Args, Raises: see `whole_plan`.
    """
    return with_data(whole_plan(root, values, source))


def whole_plan(root: Path | str, values: dict[str, Any], source: Source = in_the_file) -> Plan:
    """Validate the configuration and lay out every job.

    Args:
        root: the project's folder.
        values: the user's configuration, from `config/config.yaml` and the command line.
        source: names which of them a value is from.

    Raises:
        ConfigError: one sentence for the user.
    """
    root = Path(root)
    config = load_config(values, source)
    registry = load_registry(root / "config/datasets.yaml")
    available = load_studies(root / "config/studies")
    chosen = list(available) if config.studies == "all" else list(config.studies)
    _check_names(config, chosen, available, source)
    studies = {slug: available[slug].at(config.scale, config.extras) for slug in chosen}
    for study in studies.values():
        _check_functions(study)
    instead = stand_ins(registry, config.mirrors, root, root / config.data_dir)
    specs = _needed(studies, _specs(studies, config, registry, source, instead))
    specs, left_out = _with_models(root, config, specs, source)
    parts = _parts(studies, specs, config, source)
    figures_off = {
        slug: {
            figure: available[slug].why_off(figure, config.scale)
            for figure in available[slug].figures
            if figure not in study.figures
        }
        for slug, study in studies.items()
    }
    left_out += tuple(
        f"{why}; it is left out." for off in figures_off.values()
        for figure, why in off.items() if figure in config.extras
    )  # fmt: skip
    return Plan(root, config, studies, registry, parts, left_out, figures_off, instead)


def _check_names(
    config: Config, chosen: list[str], available: dict[str, StudySpec], source: Source
) -> None:
    """Check that each study, run and figure that the user names exists."""
    named = [*(("studies", slug) for slug in chosen), *(("overrides", s) for s in config.overrides)]
    for path in named:
        if path[1] not in available:
            raise ConfigError(
                f"{source(*path)}: {path[0]}: the study {path[1]!r} does not exist"
                f"{did_you_mean(path[1], available)}; there are {', '.join(available)}."
            )
    for slug, changes in config.overrides.items():
        for run in changes:
            if run not in available[slug].runs:
                raise ConfigError(
                    f"{source('overrides', slug, run)}: overrides.{slug}.{run}: there is no such "
                    f"run{did_you_mean(run, available[slug].runs)}; "
                    f"there are {', '.join(available[slug].runs)}."
                )
    figures = {f: study for study in available.values() for f in study.figures}
    for extra in config.extras:
        if extra not in figures or not figures[extra].figures[extra].extra:
            off = [name for name, study in figures.items() if study.figures[name].extra]
            raise ConfigError(
                f"{source('extras')}: extras: {extra!r} is not a figure that is off by default"
                f"{did_you_mean(extra, off)}; there are {', '.join(off)}."
            )


def _specs(
    studies: dict[str, StudySpec],
    config: Config,
    registry: dict[str, DatasetEntry],
    source: Source,
    instead: dict[str, str],
) -> dict[tuple[str, str], RunSpec]:
    """The spec of each run of the studies, by study and full name; its data sets are known."""
    specs: dict[tuple[str, str], RunSpec] = {}
    for slug, study in studies.items():
        for template in study.runs:
            for run, spec in expand(study, template, config, source, instead).items():
                for dataset in datasets_of(spec):
                    if dataset not in registry:
                        key = next(k for k in kinds.DATASETS if getattr(spec, k, None) == dataset)
                        where = where_given(study, template, config, source, key)
                        raise ConfigError(
                            f"{where}: the data set {dataset!r} is not in config/datasets.yaml"
                            f"{did_you_mean(dataset, registry)}; there are {', '.join(registry)}."
                        )
                specs[slug, run] = spec
    return specs


def _parts(
    studies: dict[str, StudySpec],
    specs: dict[tuple[str, str], RunSpec],
    config: Config,
    source: Source,
) -> dict[tuple[str, str, str], Part]:
    """The jobs of all runs, by study, run and part, in the order of the files."""
    # A run that starts from another comes after it: each part points to that of its base.
    parts: dict[tuple[str, str, str], Part] = {}
    for (slug, run), spec in sorted(specs.items(), key=lambda item: starts_from_a_run(item[1])):
        where = where_given(studies[slug], run.partition("-")[0], config, source)
        if KINDS[spec.kind].base:
            found = certifications(slug, run, cast(CertificationSpec, spec), specs, parts, where)
        else:
            base = None
            if starts_from_a_run(spec):
                base = pretraining(slug, run, cast(LowDataSpec, spec), parts, where)
            found = split(slug, run, spec, base)
        parts |= {(slug, run, part.part): part for part in found}
    order = {name: i for i, name in enumerate(specs)}
    return dict(sorted(parts.items(), key=lambda item: order[item[0][:2]]))


def _needed(
    studies: dict[str, StudySpec], specs: dict[tuple[str, str], RunSpec]
) -> dict[tuple[str, str], RunSpec]:
    """The runs that figures are made from, and the runs that these start from."""
    wanted = {(slug, run) for slug, study in studies.items()
              for figure in study.figures.values() for run in figure.runs}  # fmt: skip
    for (slug, run), spec in specs.items():
        if (slug, run.partition("-")[0]) in wanted:
            bases = (getattr(spec, "base", None), getattr(spec, "pretrained", None))
            wanted |= {(slug, base) for base in bases if base is not None}
    return {name: spec for name, spec in specs.items()
            if (name[0], name[1].partition("-")[0]) in wanted}  # fmt: skip


def _with_models(
    root: Path, config: Config, specs: dict[tuple[str, str], RunSpec], source: Source
) -> tuple[dict[tuple[str, str], RunSpec], tuple[str, ...]]:
    """The runs without those of missing pretrained models, and a sentence on these."""
    models = {
        name: str(getattr(spec, "model", None))
        for name, spec in specs.items()
        if KINDS[spec.kind].of_user
    }
    if not models:
        return specs, ()
    here = config.pretrained_dir and root / config.pretrained_dir
    if here and not here.is_dir():
        raise ConfigError(
            f"{source('pretrained_dir')}: pretrained_dir = {config.pretrained_dir!r}: there is no "
            "such folder; name one with a folder for each model, or null."
        )
    missing = {
        n: m for n, m in models.items() if not here or not (here / m / "config.json").exists()
    }
    if here and len(missing) == len(models):
        raise ConfigError(
            f"{source('pretrained_dir')}: pretrained_dir = {config.pretrained_dir!r} has none of "
            f"the folders {', '.join(dict.fromkeys(models.values()))} with a config.json; put a "
            "model there, as transformers saves it, or set pretrained_dir to null."
        )
    if len(missing) < len(models) and importlib.util.find_spec("transformers") is None:
        raise ConfigError(
            f"{source('pretrained_dir')}: pretrained_dir = {config.pretrained_dir!r}: the package "
            "that reads these models, transformers, is not installed; make pretrained installs it."
        )
    if not missing:
        return specs, ()
    where = f"{config.pretrained_dir} has no" if here else "pretrained_dir is null: no"
    names = ", ".join(dict.fromkeys(missing.values()))
    sentence = f"Pretrained models left out ({where} {names})."
    return {name: s for name, s in specs.items() if name not in missing}, (sentence,)


@functools.cache
def _definitions(study: str) -> frozenset[str]:
    return frozenset(parse(f"replica.studies.{study}").definitions)


def _check_functions(study: StudySpec) -> None:
    wanted = [f"{verb}_{figure}" for figure in study.figures for verb in ("table", "draw")]
    wanted += [f"claim_{claim}" for claim in study.claims]
    if missing := [name for name in wanted if name not in _definitions(study.study)]:
        raise ConfigError(
            f"config/studies/{study.study}.yaml names figures or claims whose functions are not "
            f"in workflow/replica/studies/{study.study}.py: {', '.join(missing)}."
        )
