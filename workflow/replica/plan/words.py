"""Text about runs, derived from the runs of a plan: status, captions, claims."""

import html
import json
import math
import shlex
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import yaml

from replica.plan.parts import Part
from replica.settings.study import AtLeast, ClaimSpec

if TYPE_CHECKING:
    from replica.plan.layout import Plan


def published(plan: "Plan", study: str) -> str:
    """The file of published numbers of a study, or "" where nothing was published."""
    path = f"config/published/{study}.csv"
    return path if (plan.root / path).exists() else ""


def status(plan: "Plan", study: str, figure: str) -> str:
    """`reconstructed` if the figure itself is ours, else `scaled` or `published`.

    `published` means that every run has the settings of the paper scale; single values that
    no source settles are named in the figure's `reconstructed` text and on the plot.
    """
    spec = plan.figure(study, figure)
    if spec.ours:
        return "reconstructed"
    for run in spec.runs:
        template = plan.studies[study].runs[run]
        if template.settings(plan.config.scale) != template.settings("paper"):
            return "scaled"
    read = {name for part in plan.parts_of(study, spec.runs) for name in part.datasets}
    if not read.isdisjoint(plan.stand_ins.values()):
        return "scaled"
    changed = plan.config.overrides.get(study, {})
    return "scaled" if plan.config.seeds or set(changed) & set(spec.runs) else "published"


def claims(plan: "Plan", study: str) -> str:
    """The claims of a study as a parameter of a job."""
    return as_parameter(claim_specs(plan, study))


def claim_specs(plan: "Plan", study: str) -> dict[str, dict[str, Any]]:
    """The claims of a study with the data that decide them, and what these stand in for.

    Besides the settings of `ClaimSpec`: `data`, names of the data sets; `stand_in`, why what ran
    cannot decide the claim; `off`, why figures of it are not made at this scale; and `missing`,
    which of its runs did not run for lack of data. They are empty where there is nothing to say.
    """
    specs, off = {}, plan.off.get(study, {})
    for name, claim in plan.studies[study].claims.items():
        parts = plan.parts_behind(study, claim.figures)
        read = dict.fromkeys(name for part in parts for name in part.datasets[:1])
        specs[name] = claim.model_dump() | {
            "data": ", ".join(read),
            "stand_in": _stand_in(plan, claim, parts),
            "off": [off[figure] for figure in claim.figures if figure in off],
            "missing": _missing(plan, study, claim),
        }
    return specs


def _stand_in(plan: "Plan", claim: ClaimSpec, parts: Iterable[Part]) -> str:
    lacking: dict[str, dict[str, None]] = {}
    for part in parts:
        settings = part.spec.model_dump(mode="json")
        if part.datasets:
            settings["content"] = plan.registry[part.datasets[0]].content
        for name, deciding in claim.needs.items():
            value: Any = settings
            for key in name.split("."):
                value = value.get(key) if isinstance(value, dict) else None
            if value is not None and not _decides(value, deciding):
                lacking.setdefault(name, {})[str(value)] = None
    sentences = []
    for name, values in lacking.items():
        deciding, words = claim.needs[name], name.replace(".", " ")
        if isinstance(deciding, AtLeast):
            about = f"the claim needs {words} of at least {deciding.at_least:g}"
        else:
            listed = " or ".join(map(str, deciding))
            about = f"the claim is about {'' if name == 'content' else words + ' '}{listed}"
        sentences.append(f"{about}, what ran has {', '.join(values)}")
    return "; ".join(sentences)


def _missing(plan: "Plan", study: str, claim: ClaimSpec) -> str:
    templates = plan.runs_behind(study, claim.figures)
    lacking: dict[str, list[str]] = {}
    for (slug, run), dataset in plan.missing.items():
        if slug == study and run.partition("-")[0] in templates:
            lacking.setdefault(dataset, []).append(run)
    return "; ".join(
        f"{dataset} could not be had: no run of {', '.join(runs)}"
        for dataset, runs in lacking.items()
    )


def titles(plan: "Plan") -> str:
    """The titles of the papers as a parameter of a job."""
    return as_parameter({slug: study.title for slug, study in plan.studies.items()})


def captions(plan: "Plan") -> dict[str, dict[str, dict[str, str]]]:
    """The captions of all figures, by study and figure."""
    return {
        slug: {figure: caption(plan, slug, figure) for figure in study.figures}
        for slug, study in plan.studies.items()
    }


def caption(plan: "Plan", study: str, figure: str) -> dict[str, str]:
    """The words of a figure's caption in the report, escaped for HTML."""
    spec, paper = plan.figure(study, figure), plan.studies[study]
    words = {
        "title": title(plan, study, figure),
        "paper": f"{paper.authors}: {paper.title} ({paper.venue}, arXiv {paper.arxiv})",
        "shows": spec.shows,
        "ran": in_words(plan, study, figure),
        "repeat": repeat(plan, study),
        **footer(plan, study, figure),
    }
    return {name: html.escape(text, quote=False) for name, text in words.items()}


def repeat(plan: "Plan", study: str) -> str:
    """The command that repeats the results of a study, with the user's settings that they need.

    Folders are places, not settings: the words say what the folder of a stand-in holds.
    """
    config = plan.config
    own = [name for name, figure in plan.studies[study].figures.items() if figure.extra]
    read = {name for part in plan.parts.values() if part.study == study for name in part.datasets}
    used = [name for name in plan.stand_ins.values() if name in read]
    given = {
        "name": config.name,
        "studies": [study],
        "seeds": config.seeds,
        "extras": own,
        "overrides": {study: config.overrides[study]} if study in config.overrides else {},
        "mirrors": ["FOLDER"] if used else [],
    }
    line = " ".join(f"{name}={_flow(value)}" for name, value in given.items() if value)
    held = " and ".join(plan.registry[name].title for name in used)
    return f"make SCALE={config.scale} CONFIG={shlex.quote(line)}" + (
        f", where FOLDER has {held}" if held else ""
    )


def _flow(value: Any) -> str:
    """A value in YAML on one line."""
    text = yaml.safe_dump(value, default_flow_style=True, sort_keys=False, width=math.inf)
    return text.removesuffix("...\n").strip()


def footer(plan: "Plan", study: str, figure: str) -> dict[str, str]:
    """The text below a drawing: its place in the paper, and what it shows."""
    spec = plan.figure(study, figure)
    return {
        "place": spec.place,
        "status": status(plan, study, figure),
        "reconstructed": spec.reconstructed,
        "scale": plan.config.scale,
    }


def title(plan: "Plan", study: str, figure: str) -> str:
    """The title of a figure, with the data sets that its runs read in place of `{dataset}`.

    Where none of its runs is made at this scale they are those of the paper.
    """
    spec, templates = plan.figure(study, figure), plan.studies[study].runs
    read = [name for part in plan.parts_of(study, spec.runs) for name in part.datasets[:1]]
    paper = [templates[run].paper.get("dataset") for run in spec.runs]
    names = dict.fromkeys(read or [name for name in paper if name in plan.registry])
    return spec.title.replace("{dataset}", " and ".join(plan.registry[n].title for n in names))


def label(plan: "Plan", study: str, figure: str) -> str:
    """The name of a figure in Snakemake's report: its title, with its id if others have the same.

    Snakemake looks for wildcards in braces, and writes names into a script, which `</script>` ends.
    """
    own = title(plan, study, figure)
    titles = [title(plan, study, other) for other in plan.studies[study].figures]
    name = own if titles.count(own) == 1 else f"{own} ({figure})"
    return name.translate(str.maketrans("{}<>", "()‹›"))


def ran(plan: "Plan", study: str, figure: str) -> dict[str, dict[str, Any]]:
    """The settings of each run that a figure is made from, with the user's changes."""
    made = {part.run: part.spec for part in plan.parts_of(study, plan.figure(study, figure).runs)}
    return {run: spec.model_dump(mode="json", exclude_unset=True) for run, spec in made.items()}


def in_words(plan: "Plan", study: str, figure: str) -> str:
    """The same as text, the runs of a template together."""
    together: dict[str, list[dict[str, Any]]] = {}
    for run, settings in ran(plan, study, figure).items():
        together.setdefault(run.partition("-")[0], []).append(settings)
    lines = []
    for template, runs in together.items():
        names = dict.fromkeys(name for run in runs for name in run if name != "kind")
        values = {
            name: list({json.dumps(r[name]): r[name] for r in runs if name in r}.values())
            for name in names
            if any(r.get(name) is not None for r in runs)
        }
        listed = [
            f"{name} in {each}" if len(each) > 1 else f"{name} = {each[0]}"
            for name, each in values.items()
        ]
        lines.append(f"{template}: {', '.join(listed)}")
    return "; ".join(lines) or "closed forms, no training"


def _decides(value: Any, deciding: list[Any] | AtLeast) -> bool:
    """Whether a run with this value of a setting decides what the claim is about."""
    return value >= deciding.at_least if isinstance(deciding, AtLeast) else value in deciding


def as_parameter(value: Any) -> str:
    """JSON without a `<`.

    Snakemake writes the parameters of a job into a script of the report as they are, and a
    `</script>` in a title would end it.
    """
    return json.dumps(value, ensure_ascii=False).replace("<", "\\u003c")
