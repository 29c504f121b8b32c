"""The plan of a reproduction: every job that the configuration asks for, and its key.

A job's key is a digest of its own specification, of the code that it really uses and of the
keys of the jobs that it builds on. The workflow hands it to each job as a parameter, so a job
runs again exactly when something it depends on has changed, and every artifact carries the key
that it was made under. This module is read at every start of Snakemake: it imports nothing slow.
"""

import functools
import html
import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from replica.costs import Cost, certification_cost, is_large, training_cost
from replica.data.registry import DatasetEntry, load_registry
from replica.provenance import code_digest, key_of, parse
from replica.specs import (
    CertificationSpec,
    Config,
    ConfigError,
    FigureSpec,
    NoisyClassifierSpec,
    RunSpec,
    StudySpec,
    expand,
    load_config,
    load_studies,
)

# By kind of run: the function that makes its states, and the one that measures them.
FUNCTIONS = {
    "dufm": ("replica.training.runs:train_dufm", "replica.measures.runs:measure_dufm"),
    "network_head": (
        "replica.training.runs:train_network_head",
        "replica.measures.runs:measure_network_head",
    ),
    "noisy_classifier": (
        "replica.smoothing.classifiers:train_noisy_classifier",
        "replica.smoothing.classifiers:measure_noisy_classifier",
    ),
    "certification": (
        "replica.smoothing.certification:certify",
        "replica.smoothing.certification:measure_certification",
    ),
}


@dataclass(frozen=True)
class Part:
    """One training or certification job: some or all seeds of one run.

    Attributes:
        base: the training whose classifiers a certification is about.
        slice: which of the slices of the certified images.
    """

    study: str
    run: str
    part: str
    spec: RunSpec
    seeds: tuple[int, ...]
    base: "Part | None" = None
    slice: int = 0

    @property
    def stem(self) -> str:
        """Path of its files below `results/<scale>/<study>/<kind of file>/`."""
        return f"{self.run}/{self.part}"

    @property
    def rule(self) -> str:
        """The rule that makes its states."""
        return "train_run" if self.base is None else "certify"

    @property
    def states(self) -> str:
        """Path of its states below `results/<scale>/<study>/`."""
        folder = "runs" if self.base is None else "counts"
        return f"{folder}/{self.stem}.safetensors"

    @property
    def dataset(self) -> str:
        """The data set that it reads, or ""."""
        return getattr((self.base or self).spec, "dataset", "")


@dataclass(frozen=True)
class Plan:
    """Everything the workflow file needs: parts, targets, keys, resources."""

    root: Path
    config: Config
    studies: dict[str, StudySpec]
    registry: dict[str, DatasetEntry]
    parts: dict[tuple[str, str, str], Part]
    _keys: dict[tuple, str] = field(default_factory=dict)

    @property
    def results(self) -> str:
        """Folder of this scale, relative to the project."""
        return f"results/{self.config.scale}"

    def parts_of(self, study: str, templates: Iterable[str]) -> list[Part]:
        """The training jobs of some run templates of a study, in the order of the files."""
        wanted = set(templates)
        return [
            part
            for part in self.parts.values()
            if part.study == study and part.run.partition("-")[0] in wanted
        ]

    def figure(self, study: str, figure: str) -> FigureSpec:
        """The specification of a figure."""
        return self.studies[study].figures[figure]

    # ------------------------------------------------------------------ files

    def figure_inputs(self, study: str, figure: str) -> dict[str, list[str]]:
        """Histories and measures that the table of a figure is made from."""
        parts = self.parts_of(study, self.figure(study, figure).runs)
        base = f"{self.results}/{study}"
        trained = [part.stem for part in parts if part.base is None]
        return {
            "histories": [f"{base}/runs/{stem}.history.parquet" for stem in trained],
            "measures": [f"{base}/measures/{part.stem}.parquet" for part in parts],
        }

    def figure_files(self, study: str) -> list[str]:
        """The drawings and tables of a study."""
        return [
            f"{self.results}/{study}/figures/{figure}.{ending}"
            for figure in self.studies[study].figures
            for ending in ("parquet", "svg", "pdf")
        ]

    def tables(self, study: str) -> list[str]:
        """The figure tables of a study, in the order of its file."""
        figures = self.studies[study].figures
        return [f"{self.results}/{study}/figures/{figure}.parquet" for figure in figures]

    def targets(self, study: str) -> list[str]:
        """All that `snakemake <study>` makes."""
        return [*self.figure_files(study), f"{self.results}/{study}/claims.parquet"]

    def card(self, part: Part) -> list[str]:
        """The card of the data set that a part needs; empty if it needs none."""
        if not part.dataset:
            return []
        return [f"{self.config.data_dir}/prepared/{part.dataset}/card.json"]

    def states(self, part: Part) -> str:
        """The states of a part."""
        return f"{self.results}/{part.study}/{part.states}"

    # ------------------------------------------------------------------- keys

    def key(self, stage: str, *name: str) -> str:
        """The key of a job: `key("train", study, run, part)`, `key("table", study, figure)`, ...

        Stages: dataset (name), train and measure (study, run, part), table and plot (study,
        figure), claims (study), scorecard ().
        """
        if (stage, *name) not in self._keys:
            self._keys[stage, *name] = key_of(stage=stage, **getattr(self, f"_{stage}")(*name))
        return self._keys[stage, *name]

    def code(self, stage: str, *name: str) -> str:
        """Digest of the code of a job; see `replica.provenance.code_digest`."""
        study = name[0] if name else ""
        entry = {
            "dataset": lambda: "replica.data.prepare:prepare_dataset",
            "train": lambda: self.entry("train", *name),
            "measure": lambda: self.entry("measure", *name),
            "table": lambda: f"replica.studies.{study}:table_{name[1]}",
            "plot": lambda: f"replica.studies.{study}:draw_{name[1]}",
            "scorecard": lambda: "replica.report:scorecard_html",
        }[stage]()
        script = "certify" if stage == "train" and self.parts[name].base else stage
        return code_digest(entry, self._script(script))

    def entry(self, stage: str, *name: str) -> str:
        """The function of a part's `train` or `measure`, as `module:name`."""
        return FUNCTIONS[self.parts[name].spec.kind][stage == "measure"]

    def _script(self, stage: str) -> Path:
        return self.root / f"workflow/scripts/{stage}.py"

    def _dataset(self, name: str) -> dict[str, Any]:
        return {"entry": self.registry[name].model_dump(), "code": self.code("dataset", name)}

    def _train(self, *name: str) -> dict[str, Any]:
        part = self.parts[name]
        facts = {
            "name": name,
            "spec": part.spec.model_dump(),
            "seeds": part.seeds,
            "data": self.key("dataset", part.dataset) if part.dataset else "",
            "code": self.code("train", *name),
        }
        if part.base is not None:
            base = (part.base.study, part.base.run, part.base.part)
            facts["base"] = self.key("train", *base)
        return facts

    def counts_key(self, part: Part) -> str:
        """The key of a certification without its number of draws and what only reads the counts.

        Counts of the same classifier under the same noise add up: more draws go on from fewer.
        """
        facts = self._train(part.study, part.run, part.part)
        facts["spec"] = part.spec.model_dump(exclude={"n", "alpha"})
        return key_of(stage="counts", **facts)

    def _measure(self, *name: str) -> dict[str, Any]:
        return {"run": self.key("train", *name), "code": self.code("measure", *name)}

    def _table(self, study: str, figure: str) -> dict[str, Any]:
        parts = self.parts_of(study, self.figure(study, figure).runs)
        return {
            "figure": figure,
            "caption": self.caption(study, figure),
            "measures": [self.key("measure", p.study, p.run, p.part) for p in parts],
            "code": self.code("table", study, figure),
        }

    def _plot(self, study: str, figure: str) -> dict[str, Any]:
        published = self.published(study)
        return {
            "table": self.key("table", study, figure),
            "published": (self.root / published).read_text() if published else "",
            "style": (self.root / "workflow/replica/replica.mplstyle").read_text(),
            "code": self.code("plot", study, figure),
        }

    def _claims(self, study: str) -> dict[str, Any]:
        claims = self.studies[study].claims
        figures = sorted({figure for claim in claims.values() for figure in claim.figures})
        script = self._script("claims")
        return {
            "claims": {name: claim.model_dump() for name, claim in claims.items()},
            "tables": [self.key("table", study, figure) for figure in figures],
            "code": [code_digest(f"replica.studies.{study}:claim_{c}", script) for c in claims],
        }

    def _scorecard(self) -> dict[str, Any]:
        return {
            "claims": [self.key("claims", study) for study in self.studies],
            "titles": {slug: study.title for slug, study in self.studies.items()},
            "code": self.code("scorecard"),
        }

    # ------------------------------------------------------------ words, sizes

    def published(self, study: str) -> str:
        """The file of published numbers of a study, or "" where nothing was published."""
        path = f"config/published/{study}.csv"
        return path if (self.root / path).exists() else ""

    def status(self, study: str, figure: str) -> str:
        """`reconstructed` if the figure itself is ours, else `scaled` or `published`.

        `published` means that every run has the settings of the paper scale; single values that
        no source settles are named in the figure's `reconstructed` text and on the plot.
        """
        spec = self.figure(study, figure)
        if spec.ours:
            return "reconstructed"
        for run in spec.runs:
            template = self.studies[study].runs[run]
            if template.settings(self.config.scale) != template.settings("paper"):
                return "scaled"
        changed = self.config.overrides.get(study, {})
        return "scaled" if self.config.seeds or set(changed) & set(spec.runs) else "published"

    def resources(self, part: Part) -> dict[str, int | str]:
        """What the jobs of a part ask for, by the names that Snakemake and its Slurm plugin use.

        `share` is the part of an allocation, in percent, that a job takes in a group of jobs.
        """
        cost, cluster = cost_of(part), self.config.cluster
        on_gpu = cost.gpu_slots > 0
        slots = self.config.jobs_per_gpu
        return {
            "mem_mb": cost.mem_mb,
            "runtime": cost.minutes,
            "threads": cost.threads,
            "share": 100 * min(cost.gpu_slots, slots) // slots if on_gpu else 100,
            "gres": cluster.gpu if on_gpu else "",
            "slurm_partition": cluster.gpu_partition if on_gpu else cluster.partition,
            "slurm_account": cluster.account,
            "slurm_extra": cluster.extra,
        }

    def group(self, part: Part) -> str:
        """The kind of group in which a cluster runs the jobs of a part; see `replica.costs`.

        Certifications have groups of their own: within a group only chains of jobs may hang
        together, for which the Snakemake inside an allocation asks no more CPUs than it has.
        """
        group = cost_of(part).group
        return group if part.base is None else f"certify_{group}"

    def claims(self, study: str) -> str:
        """The claims of a study as a parameter of a job."""
        claims = self.studies[study].claims
        return as_parameter({name: claim.model_dump() for name, claim in claims.items()})

    def titles(self) -> str:
        """The titles of the papers as a parameter of a job."""
        return as_parameter({slug: study.title for slug, study in self.studies.items()})

    def caption(self, study: str, figure: str) -> dict[str, str]:
        """The words of a figure's caption in the report, escaped for HTML; see `as_parameter`."""
        spec, paper = self.figure(study, figure), self.studies[study]
        settings = []
        for run in spec.runs:
            template = paper.runs[run]
            values = template.settings(self.config.scale)
            listed = ", ".join(f"{k} = {v}" for k, v in values.items() if k not in ("kind", "grid"))
            grid = "".join(f", {k} in {v}" for k, v in values.get("grid", {}).items())
            settings.append(f"{run}: {listed}{grid}")
        words = {
            "title": spec.title,
            "paper": f"{paper.authors}: {paper.title} ({paper.venue}, arXiv {paper.arxiv})",
            "place": spec.place,
            "shows": spec.shows,
            "ran": "; ".join(settings) or "closed forms, no training",
            "status": self.status(study, figure),
            "reconstructed": spec.reconstructed,
            "scale": self.config.scale,
        }
        return {name: html.escape(text, quote=False) for name, text in words.items()}

    def artifacts(self) -> dict[str, str]:
        """Every stamped file of this configuration with the key it must carry."""
        expected: dict[str, str] = {}
        for (study, run, part), job in self.parts.items():
            base = f"{self.results}/{study}"
            key = self.key("train", study, run, part)
            expected[f"{base}/{job.states}"] = key
            if job.base is None:
                expected[f"{base}/runs/{job.stem}.history.parquet"] = key
            measure = self.key("measure", study, run, part)
            expected[f"{base}/measures/{job.stem}.parquet"] = measure
        for slug, study in self.studies.items():
            for figure in study.figures:
                key = self.key("table", slug, figure)
                expected[f"{self.results}/{slug}/figures/{figure}.parquet"] = key
            expected[f"{self.results}/{slug}/claims.parquet"] = self.key("claims", slug)
        expected[f"{self.results}/scorecard.parquet"] = self.key("scorecard")
        return expected


def make_plan(root: Path | str, values: dict[str, Any]) -> Plan:
    """Validate the configuration and lay out every job.

    Args:
        root: the project's folder.
        values: the user's configuration, from `config/config.yaml` and the command line.

    Raises:
        ConfigError: one sentence for the user.
    """
    root = Path(root)
    config = load_config(values)
    registry = load_registry(root / "config/datasets.yaml")
    available = load_studies(root / "config/studies")
    chosen = list(available) if config.studies == "all" else list(config.studies)
    for slug in [*chosen, *config.overrides]:
        if slug not in available:
            raise ConfigError(
                f"config/config.yaml: the study {slug!r} does not exist; "
                f"there are {', '.join(available)}."
            )
    for slug, changes in config.overrides.items():
        for run in changes:
            if run not in available[slug].runs:
                raise ConfigError(
                    f"config/config.yaml: overrides.{slug}.{run}: there is no such run; "
                    f"there are {', '.join(available[slug].runs)}."
                )
    specs: dict[tuple[str, str], RunSpec] = {}
    for slug in chosen:
        study = available[slug]
        _check_functions(study)
        for template in study.runs:
            for run, spec in expand(study, template, config).items():
                dataset = getattr(spec, "dataset", "")
                if dataset and dataset not in registry:
                    raise ConfigError(
                        f"config/studies/{slug}.yaml: runs.{template}: the data set "
                        f"{dataset!r} is not in config/datasets.yaml; "
                        f"there are {', '.join(registry)}."
                    )
                specs[slug, run] = spec
    # Certifications last: each points to the parts of its classifier.
    parts = {}
    for (slug, run), spec in specs.items():
        if not isinstance(spec, CertificationSpec):
            parts |= {(slug, run, part.part): part for part in _split(slug, run, spec)}
    for (slug, run), spec in specs.items():
        if isinstance(spec, CertificationSpec):
            found = _certifications(slug, run, spec, specs, parts)
            parts |= {(slug, run, part.part): part for part in found}
    # In the order of the files again.
    order = {name: i for i, name in enumerate(specs)}
    parts = dict(sorted(parts.items(), key=lambda item: order[item[0][:2]]))
    return Plan(root, config, {slug: available[slug] for slug in chosen}, registry, parts)


def _split(study: str, run: str, spec: RunSpec) -> list[Part]:
    """All seeds of a small model in one job; one job a seed for large ones."""
    if is_large(spec):
        return [Part(study, run, f"seed{seed}", spec, (seed,)) for seed in range(spec.seeds)]
    return [Part(study, run, "all", spec, tuple(range(spec.seeds)))]


def _certifications(
    study: str,
    run: str,
    spec: CertificationSpec,
    specs: dict[tuple[str, str], RunSpec],
    parts: dict[tuple[str, str, str], Part],
) -> list[Part]:
    """One job a slice of the images, and where the classifiers have a job a seed, a seed."""
    where = f"config/studies/{study}.yaml: runs.{run.partition('-')[0]}"
    base = specs.get((study, spec.base_run))
    if not isinstance(base, NoisyClassifierSpec):
        there = [name for (slug, name), s in specs.items()
                 if slug == study and isinstance(s, NoisyClassifierSpec)]  # fmt: skip
        raise ConfigError(
            f"{where}: there is no classifier {spec.base_run!r}; there are {', '.join(there)}."
        )
    if spec.seeds > base.seeds:
        raise ConfigError(
            f"{where}: seeds = {spec.seeds}, but {spec.base_run} has only {base.seeds}."
        )
    found = []
    for owner in [p for (s, r, _), p in parts.items() if (s, r) == (study, spec.base_run)]:
        seeds = tuple(seed for seed in owner.seeds if seed < spec.seeds)
        for i in range(spec.slices if seeds else 0):
            part = f"{owner.part}-slice{i}" if spec.slices > 1 else owner.part
            found.append(Part(study, run, part, spec, seeds, owner, i))
    return found


def cost_of(part: Part) -> Cost:
    """What the jobs of a part need."""
    if isinstance(part.spec, CertificationSpec):
        return certification_cost(part.spec, part.base.spec, len(part.seeds))
    return training_cost(part.spec, len(part.seeds))


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


def as_parameter(value: Any) -> str:
    """JSON without a `<`.

    Snakemake writes the parameters of a job into a script of the report as they are, and a
    `</script>` in a title would end it.
    """
    return json.dumps(value, ensure_ascii=False).replace("<", "\\u003c")
