"""The key of each job: a digest of its settings, its code, and the keys that it builds on.

Stages: dataset (name), train and measure (study, run, part), table and plot (study, figure), claims
(study), scorecard (), generalization (study, group), correlations (), pages ().
"""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from replica import kinds, provenance, rendering
from replica.data.registry import READERS
from replica.kinds import KINDS, measured_only, training_settings
from replica.plan import words
from replica.plan.parts import Part
from replica.provenance import code_digest, key_of

if TYPE_CHECKING:
    from replica.plan.layout import Plan

# What the script of every drawing calls.
DRAWING = "replica.drawing:plot"
# Larger files of a pretrained model are weights, which no key waits for.
SMALL_FILE = 10_000_000
# When the rules of claims were fixed, see `replica.rulebook`.
RULES = "config/rules.lock"
# Scripts by rule, for the digests of their code.
SCRIPTS = {"train_run": "train", "train_round": "round", "certify": "certify"}


def code(plan: "Plan", stage: str, *name: str) -> str:
    """Digest of the code of a job; see `replica.provenance.code_digest`."""
    study = name[0] if name else ""
    entry = {
        "dataset": lambda: READERS[plan.registry[study].kind],
        "train": lambda: kinds.makes(plan.parts[_three(name)].spec),
        "measure": lambda: kinds.measures(plan.parts[_three(name)].spec),
        "table": lambda: f"replica.studies.{study}:table_{name[1]}",
        "plot": lambda: f"replica.studies.{study}:draw_{name[1]}",
        "scorecard": lambda: "replica.report:scorecard_html",
        "generalization": lambda: "replica.generalization.table:measure_networks",
        "generalization_on_gpu": lambda: "replica.generalization.on_gpu:measure_large_networks",
        "correlations": lambda: "replica.generalization.table:correlated",
        "pages": lambda: "replica.pages:write",
    }[stage]()
    script = SCRIPTS[plan.parts[_three(name)].rule] if stage == "train" else stage
    return code_digest(entry, _script(script))


def _three(name: tuple[str, ...]) -> tuple[str, str, str]:
    """Study, run and part."""
    study, run, part = name
    return study, run, part


def _script(stage: str) -> Path:
    # Beside the library, also where the settings are those of another project.
    return provenance.LIBRARY.parent / f"scripts/{stage}.py"


def _dataset(plan: "Plan", name: str) -> dict[str, Any]:
    digests = [code(plan, "dataset", name), code_digest("replica.data.prepare:write")]
    return {"what": plan.registry[name].what(), "code": digests}


def _train(plan: "Plan", study: str, run: str, job: str) -> dict[str, Any]:
    name = (study, run, job)
    part = plan.parts[name]
    facts = {
        "name": name,
        "spec": _of_one_seed(part, training_settings(part.spec)),
        "seeds": part.seeds,
        "data": [plan.key("dataset", dataset) for dataset in part.datasets],
        "code": code(plan, "train", *name),
    }
    if KINDS[part.spec.kind].of_user:
        folder = plan.root / str(plan.config.pretrained_dir)
        facts["model"] = _files(folder / getattr(part.spec, "model"))  # noqa: B009
    for link in ("starts_from", "previous_stage"):
        if (other := getattr(part, link)) is not None:
            facts[link] = plan.key("train", other.study, other.run, other.part)
    return facts


def _of_one_seed(part: Part, settings: dict[str, Any]) -> dict[str, Any]:
    """Settings without the number of seeds where each has a job of its own: more re-run none."""
    return settings if part.part.startswith("all") else settings | {"seeds": None}


def counts_key(plan: "Plan", part: Part) -> str:
    """The key of a certification without its number of draws and what only reads the counts.

    Counts of the same classifier under the same noise add up: more draws go on from fewer.
    """
    facts = _train(plan, part.study, part.run, part.part)
    facts["spec"] = _of_one_seed(part, part.spec.model_dump(exclude={"n", "alpha"}))
    return key_of(stage="counts", **facts)


def _measure(plan: "Plan", study: str, run: str, job: str) -> dict[str, Any]:
    name = (study, run, job)
    facts: dict[str, Any] = {"run": plan.key("train", *name), "code": code(plan, "measure", *name)}
    spec = plan.parts[name].spec
    if wanted := measured_only(spec):
        facts["spec"] = spec.model_dump(include=wanted)
    return facts


def _table(plan: "Plan", study: str, figure: str) -> dict[str, Any]:
    parts = plan.parts_of(study, plan.figure(study, figure).runs)
    return {
        "figure": figure,
        "status": words.status(plan, study, figure),
        "measures": [plan.key("measure", p.study, p.run, p.part) for p in parts],
        "code": code(plan, "table", study, figure),
    }


def _plot(plan: "Plan", study: str, figure: str) -> dict[str, Any]:
    published = words.published(plan, study)
    return {
        "table": plan.key("table", study, figure),
        "footer": words.footer(plan, study, figure),
        "published": (plan.root / published).read_text(encoding="utf-8") if published else "",
        "style": (provenance.LIBRARY / "replica.mplstyle").read_text(encoding="utf-8"),
        "code": [code(plan, "plot", study, figure), code_digest(DRAWING)],
    }


def _claims(plan: "Plan", study: str) -> dict[str, Any]:
    claims = plan.studies[study].claims
    script = _script("claims")
    return {
        "claims": words.claim_specs(plan, study),
        "tables": [plan.key("table", study, f) for f in plan.claimed_figures(study)],
        "code": [code_digest(f"replica.studies.{study}:claim_{c}", script) for c in claims],
    }


def _scorecard(plan: "Plan") -> dict[str, Any]:
    return {
        "claims": [plan.key("claims", study) for study in plan.studies],
        "titles": {slug: study.title for slug, study in plan.studies.items()},
        "rules": (plan.root / RULES).read_text(encoding="utf-8"),
        "templates": rendering.sources("scorecard.html"),
        "code": code(plan, "scorecard"),
    }


def _generalization(plan: "Plan", study: str, group: str) -> dict[str, Any]:
    parts = plan.network_groups(study)[group]
    return {
        "networks": [plan.key("train", p.study, p.run, p.part) for p in parts],
        "curvature_up_to": plan.curvature_up_to,
        "code": code(plan, plan.generalization_rule(study, group), study, group),
    }


def _correlations(plan: "Plan") -> dict[str, Any]:
    return {
        "tables": [
            plan.key("generalization", study, group)
            for study in plan.with_networks()
            for group in plan.network_groups(study)
        ],
        "templates": rendering.sources("generalization.html"),
        "code": code(plan, "correlations"),
    }


def _pages(plan: "Plan") -> dict[str, Any]:
    """What the pages show, their words, and how they look.

    Titles and captions are in this key, and in no other: other words make the pages anew.
    """
    return {
        "shown": shown(plan),
        "words": _words_of_pages(plan),
        "templates": rendering.sources("index.html", "study.html", "vega-licence.js"),
        "code": code(plan, "pages"),
    }


def _words_of_pages(plan: "Plan") -> dict[str, Any]:
    """The words about papers and figures that no other key has."""
    facts = {"title", "authors", "venue", "arxiv"}
    return {
        "captions": words.captions(plan),
        "papers": {slug: study.model_dump(include=facts) for slug, study in plan.studies.items()},
        "off": plan.off,
        "published": {
            slug: (plan.root / path).read_text(encoding="utf-8")
            for slug in plan.studies
            if (path := words.published(plan, slug))
        },
    }


def shown(plan: "Plan") -> dict[str, str]:
    """What the report shows, with the keys: the drawings and the pages."""
    files = {
        f"{plan.results}/{slug}/figures/{figure}.svg": plan.key("plot", slug, figure)
        for slug, study in plan.studies.items()
        for figure in study.figures
    }
    files[f"{plan.results}/scorecard.html"] = plan.key("scorecard")
    if plan.with_networks():
        files[f"{plan.results}/generalization.html"] = plan.key("correlations")
    return files


def report_key(plan: "Plan") -> str:
    """The key of the report: of what it shows, and of its words."""
    texts = sorted((plan.root / "workflow/report").glob("*.rst"))
    return key_of(
        stage="report",
        shown=[*shown(plan).values()],
        words=words.captions(plan),
        texts=[path.read_text(encoding="utf-8") for path in texts],
    )


def artifacts(plan: "Plan") -> dict[str, str]:
    """Every stamped file of a configuration with the key it must carry."""
    expected: dict[str, str] = {}
    for (study, run, part), job in plan.parts.items():
        key = plan.key("train", study, run, part)
        expected |= dict.fromkeys(plan.outputs(job).values(), key)
        if plan.measured(job):
            measure = plan.key("measure", study, run, part)
            expected[plan.measures(job)] = measure
    for slug, spec in plan.studies.items():
        for figure in spec.figures:
            key = plan.key("table", slug, figure)
            expected[f"{plan.results}/{slug}/figures/{figure}.parquet"] = key
        expected[f"{plan.results}/{slug}/claims.parquet"] = plan.key("claims", slug)
    expected[f"{plan.results}/scorecard.parquet"] = plan.key("scorecard")
    for slug in plan.with_networks():
        for group in plan.network_groups(slug):
            path = f"{plan.results}/{slug}/generalization/{group}.parquet"
            expected[path] = plan.key("generalization", slug, group)
    if plan.with_networks():
        expected[f"{plan.results}/generalization.parquet"] = plan.key("correlations")
    return expected


def _files(folder: Path) -> list[tuple[str, int | str]]:
    """The files of a model: the contents of small ones, the sizes of its weights."""
    return [
        (path.name, path.stat().st_size if path.stat().st_size > SMALL_FILE
         else hashlib.sha256(path.read_bytes()).hexdigest())
        for path in sorted(folder.iterdir()) if path.is_file()
    ]  # fmt: skip


# What the key of a job is a digest of, by stage.
FACTS: dict[str, Callable[..., dict[str, Any]]] = {
    "dataset": _dataset,
    "train": _train,
    "measure": _measure,
    "table": _table,
    "plot": _plot,
    "claims": _claims,
    "scorecard": _scorecard,
    "generalization": _generalization,
    "correlations": _correlations,
    "pages": _pages,
}
