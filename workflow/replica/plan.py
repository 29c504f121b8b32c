"""The plan of a reproduction: every job that the configuration asks for, and its key.

A job's key is a digest of its own specification, of the code that it really uses and of the
keys of the jobs that it builds on. The workflow hands it to each job as a parameter, so a job
runs again exactly when something it depends on has changed, and every artifact carries the key
that it was made under. This module is read at every start of Snakemake: it imports nothing slow.
"""

import functools
import hashlib
import html
import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from replica import kinds
from replica.configuration import ConfigError, Source, in_the_file
from replica.costs import Cost
from replica.data.registry import READERS, DatasetEntry, card_path, load_registry
from replica.kinds import (
    KINDS,
    RunSpec,
    datasets_of,
    generalization_cost,
    is_measured_alone,
    is_split,
    keeps_networks,
    measured_only,
    measuring_minutes,
    training_cost,
    training_settings,
)
from replica.kinds.low_data import LowDataSpec
from replica.kinds.smoothing import CertificationSpec
from replica.provenance import code_digest, key_of, parse
from replica.settings.load import expand, load_config, load_studies, where_given
from replica.settings.study import AtLeast, ClaimSpec, FigureSpec, StudySpec
from replica.settings.user import Config
from replica.settings.validation import did_you_mean

# What the script of every drawing calls.
DRAWING = [f"replica.drawing:{name}" for name in ("drawn", "footer", "footer_text", "save")]
# What the scripts of these rules compute with; the others need no torch.
WITH_TORCH = ("train_run", "train_round", "certify", "generalization")
# Larger files of a pretrained model are weights, which no key waits for.
SMALL_FILE = 10_000_000
# When the rules of claims were fixed, see `replica.rulebook`.
RULES = "config/rules.lock"
# Scripts by rule, for the digests of their code.
SCRIPTS = {"train_run": "train", "train_round": "round", "certify": "certify"}


@dataclass(frozen=True)
class Part:
    """One training or certification job: some or all seeds of one run.

    Attributes:
        base: the job whose states this one starts from: the training whose classifiers a
            certification is about, a pretraining, or where active learning goes on from its
            weights, the stage before.
        before: the stage before of active learning, which chose the labels.
        slice: which of the slices of the certified images.
        stage: which stage of active learning, from 0.
    """

    study: str
    run: str
    part: str
    spec: RunSpec
    seeds: tuple[int, ...]
    base: "Part | None" = None
    before: "Part | None" = None
    slice: int = 0
    stage: int = 0

    @property
    def stem(self) -> str:
        """Path of its files below `results/<scale>/<study>/<kind of file>/`."""
        return f"{self.run}/{self.part}"

    @property
    def rule(self) -> str:
        """The rule that makes its states."""
        return kinds.rule(self.spec)

    @property
    def states(self) -> str:
        """Path of its states below `results/<scale>/<study>/`."""
        folder = "counts" if self.rule == "certify" else "runs"
        return f"{folder}/{self.stem}.safetensors"

    @property
    def datasets(self) -> list[str]:
        """The data sets that it reads, its images first."""
        return datasets_of(self.base.spec if self.rule == "certify" else self.spec)


@dataclass(frozen=True)
class Plan:
    """Everything the workflow file needs: parts, targets, keys, resources.

    Attributes:
        left_out: sentences on what the configuration asks for and this machine does not have.
    """

    root: Path
    config: Config
    studies: dict[str, StudySpec]
    registry: dict[str, DatasetEntry]
    parts: dict[tuple[str, str, str], Part]
    left_out: tuple[str, ...] = ()
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

    def parts_behind(self, study: str, figures: Iterable[str]) -> list[Part]:
        """The parts that some figures of a study show, each once."""
        runs = [run for figure in figures for run in self.figure(study, figure).runs]
        return self.parts_of(study, dict.fromkeys(runs))

    def measured(self, part: Part) -> bool:
        """Whether a figure reads the measures of a part; a mere start of other runs has none."""
        template = part.run.partition("-")[0]
        figures = self.studies[part.study].figures.values()
        return any(template in figure.runs for figure in figures)

    def networks(self, study: str) -> list[Part]:
        """The parts of a study whose states are trained networks with train and test data."""
        parts = (part for part in self.parts.values() if part.study == study)
        return [part for part in parts if part.rule != "certify" and keeps_networks(part.spec)]

    def with_networks(self) -> list[str]:
        """The studies that have such parts."""
        return list(self._network_groups)

    def preparing_mb(self, dataset: str) -> int:
        """Memory for preparing a data set; photographs are held whole, and again to split them."""
        return 16_000 if self.registry[dataset].size else 4000

    def figure(self, study: str, figure: str) -> FigureSpec:
        """The specification of a figure."""
        return self.studies[study].figures[figure]

    # ------------------------------------------------------------------ files

    def figure_inputs(self, study: str, figure: str) -> dict[str, list[str]]:
        """Histories and measures that the table of a figure is made from."""
        parts = self.parts_of(study, self.figure(study, figure).runs)
        base = f"{self.results}/{study}"
        trained = [part.stem for part in parts if part.rule != "certify"]
        return {
            "histories": [f"{base}/runs/{stem}.history.parquet" for stem in trained],
            "measures": [self.measures(part) for part in parts],
        }

    def figure_files(self, study: str) -> list[str]:
        """The drawings and tables of a study."""
        return [
            f"{self.results}/{study}/figures/{figure}.{ending}"
            for figure in self.studies[study].figures
            for ending in ("parquet", "svg", "pdf")
        ]

    def claimed_figures(self, study: str) -> list[str]:
        """The figures whose tables decide the claims of a study."""
        claims = self.studies[study].claims.values()
        return sorted({figure for claim in claims for figure in claim.figures})

    def tables(self, study: str) -> list[str]:
        """The figure tables that the claims of a study are decided by."""
        figures = self.claimed_figures(study)
        return [f"{self.results}/{study}/figures/{figure}.parquet" for figure in figures]

    def targets(self, study: str) -> list[str]:
        """All that `snakemake <study>` makes."""
        return [*self.figure_files(study), f"{self.results}/{study}/claims.parquet"]

    def cards(self, part: Part) -> list[str]:
        """The cards of the data sets that a part needs, its images first."""
        return [str(card_path(self.config.data_dir, name)) for name in part.datasets]

    def dataset_keys(self, part: Part) -> dict[str, str]:
        """The keys of the data sets that a part reads, by name, its images first."""
        return {name: self.key("dataset", name) for name in part.datasets}

    def cards_for(self, parts: Iterable[Part], made: str) -> list[str]:
        """The cards that the job of an artifact waits for: none once it is made.

        What is made asks for no data, so that those of another folder, or fetched anew, re-run
        nothing.

        Args:
            parts: whose data the job reads.
            made: path of the artifact.
        """
        if self.is_current(made):
            return []
        return list({card: None for part in parts for card in self.cards(part)})

    def is_current(self, path: str) -> bool:
        """Whether an artifact is there with the key that the plan asks for."""
        # Here, because it imports pandas, which a plan of nothing that is made does without.
        if not (self.root / path).exists():
            return False
        from replica.artifacts import has_key

        return has_key(self.root / path, self._artifacts[path])

    def states(self, part: Part) -> str:
        """The states of a part."""
        return f"{self.results}/{part.study}/{part.states}"

    def measures(self, part: Part) -> str:
        """The measures of a part."""
        return f"{self.results}/{part.study}/measures/{part.stem}.parquet"

    def labelled(self, part: Part) -> str:
        """The labelled sets that a stage of active learning leaves."""
        return f"{self.results}/{part.study}/runs/{part.stem}.labelled.parquet"

    def network_groups(self, study: str) -> dict[str, list[Part]]:
        """The same as jobs that measure them: large networks alone, all small ones of a study."""
        return self._network_groups.get(study, {})

    @functools.cached_property
    def _network_groups(self) -> dict[str, dict[str, list[Part]]]:
        groups: dict[str, dict[str, list[Part]]] = {}
        for study in self.studies:
            for part in self.networks(study):
                name = f"{part.run}-{part.part}" if is_measured_alone(part.spec) else "small"
                groups.setdefault(study, {}).setdefault(name, []).append(part)
        return groups

    def generalization_tables(self) -> list[str]:
        """The tables of the networks of all studies."""
        return [
            f"{self.results}/{study}/generalization/{group}.parquet"
            for study in self.with_networks()
            for group in self.network_groups(study)
        ]

    def generalization_inputs(self, study: str, group: str) -> dict[str, list[str]]:
        """States and cards that the measures of generalization of a group are made from."""
        parts = self.network_groups(study)[group]
        made = f"{self.results}/{study}/generalization/{group}.parquet"
        cards = self.cards_for(parts, made)
        return {"states": [self.states(part) for part in parts], "cards": cards}

    def generalization_parts(self, study: str, group: str) -> list[dict[str, Any]]:
        """The same as a parameter of the job: what `measure_networks` takes, with plain specs."""
        return [
            {"study": study, "run": part.run, "spec": training_settings(part.spec),
             "states": self.states(part), "datasets": self.dataset_keys(part)}
            for part in self.network_groups(study)[group]
        ]  # fmt: skip

    def generalization_cost(self, study: str, group: str) -> Cost:
        """What the job that measures a group of networks needs."""
        parts = self.network_groups(study)[group]
        return generalization_cost([(part.spec, len(part.seeds)) for part in parts])

    # ------------------------------------------------------------------- keys

    def key(self, stage: str, *name: str) -> str:
        """The key of a job: `key("train", study, run, part)`, `key("table", study, figure)`, ...

        Stages: dataset (name), train and measure (study, run, part), table and plot (study,
        figure), claims (study), scorecard (), generalization (study,
        group), correlations ().
        """
        if (stage, *name) not in self._keys:
            self._keys[stage, *name] = key_of(stage=stage, **getattr(self, f"_{stage}")(*name))
        return self._keys[stage, *name]

    def code(self, stage: str, *name: str) -> str:
        """Digest of the code of a job; see `replica.provenance.code_digest`."""
        study = name[0] if name else ""
        entry = {
            "dataset": lambda: READERS[self.registry[study].kind],
            "train": lambda: kinds.makes(self.parts[name].spec),
            "measure": lambda: kinds.measures(self.parts[name].spec),
            "table": lambda: f"replica.studies.{study}:table_{name[1]}",
            "plot": lambda: f"replica.studies.{study}:draw_{name[1]}",
            "scorecard": lambda: "replica.report:scorecard_html",
            "generalization": lambda: "replica.generalization.table:measure_networks",
            "correlations": lambda: "replica.generalization.table:correlated",
        }[stage]()
        script = SCRIPTS[self.parts[name].rule] if stage == "train" else stage
        return code_digest(entry, self._script(script))

    def _script(self, stage: str) -> Path:
        return self.root / f"workflow/scripts/{stage}.py"

    def _dataset(self, name: str) -> dict[str, Any]:
        code = [self.code("dataset", name), code_digest("replica.data.prepare:write")]
        return {"what": self.registry[name].what(), "code": code}

    def _train(self, *name: str) -> dict[str, Any]:
        part = self.parts[name]
        facts = {
            "name": name,
            "spec": training_settings(part.spec),
            "seeds": part.seeds,
            "data": [self.key("dataset", dataset) for dataset in part.datasets],
            "code": self.code("train", *name),
        }
        if KINDS[part.spec.kind].of_user:
            facts["model"] = _files(self.root / self.config.pretrained_dir / part.spec.model)
        for link in ("base", "before"):
            if (other := getattr(part, link)) is not None:
                facts[link] = self.key("train", other.study, other.run, other.part)
        return facts

    def counts_key(self, part: Part) -> str:
        """The key of a certification without its number of draws and what only reads the counts.

        Counts of the same classifier under the same noise add up: more draws go on from fewer.
        """
        facts = self._train(part.study, part.run, part.part)
        facts["spec"] = part.spec.model_dump(exclude={"n", "alpha"})
        return key_of(stage="counts", **facts)

    def _measure(self, *name: str) -> dict[str, Any]:
        facts = {"run": self.key("train", *name), "code": self.code("measure", *name)}
        spec = self.parts[name].spec
        if wanted := measured_only(spec):
            facts["spec"] = spec.model_dump(include=wanted)
        return facts

    def _table(self, study: str, figure: str) -> dict[str, Any]:
        parts = self.parts_of(study, self.figure(study, figure).runs)
        return {
            "figure": figure,
            "status": self.status(study, figure),
            "measures": [self.key("measure", p.study, p.run, p.part) for p in parts],
            "code": self.code("table", study, figure),
        }

    def _plot(self, study: str, figure: str) -> dict[str, Any]:
        published = self.published(study)
        return {
            "table": self.key("table", study, figure),
            "footer": self.footer(study, figure),
            "published": (self.root / published).read_text(encoding="utf-8") if published else "",
            "style": (self.root / "workflow/replica/replica.mplstyle").read_text(encoding="utf-8"),
            "code": [self.code("plot", study, figure), *map(code_digest, DRAWING)],
        }

    def _claims(self, study: str) -> dict[str, Any]:
        claims = self.studies[study].claims
        script = self._script("claims")
        return {
            "claims": self.claim_specs(study),
            "tables": [self.key("table", study, f) for f in self.claimed_figures(study)],
            "code": [code_digest(f"replica.studies.{study}:claim_{c}", script) for c in claims],
        }

    def _scorecard(self) -> dict[str, Any]:
        return {
            "claims": [self.key("claims", study) for study in self.studies],
            "titles": {slug: study.title for slug, study in self.studies.items()},
            "rules": (self.root / RULES).read_text(encoding="utf-8"),
            "code": self.code("scorecard"),
        }

    def _generalization(self, study: str, group: str) -> dict[str, Any]:
        parts = self.network_groups(study)[group]
        return {
            "networks": [self.key("train", p.study, p.run, p.part) for p in parts],
            "code": self.code("generalization", study, group),
        }

    def _correlations(self) -> dict[str, Any]:
        return {
            "tables": [
                self.key("generalization", study, group)
                for study in self.with_networks()
                for group in self.network_groups(study)
            ],
            "code": self.code("correlations"),
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
            "measuring": measuring_minutes(part.spec),
            "threads": cost.threads,
            "share": 100 * min(cost.gpu_slots, slots) // slots if on_gpu else 100,
            "gres": cluster.gpu if on_gpu else "",
            "slurm_partition": cluster.gpu_partition if on_gpu else cluster.partition,
        }

    def group(self, part: Part) -> str:
        """The kind of group in which a cluster runs the jobs of a part; see `replica.costs`.

        What starts from another job has groups of its own: within a group only chains of jobs may
        hang together, for which the Snakemake inside an allocation asks no more CPUs than it has.
        """
        group = cost_of(part).group
        if part.rule == "train_round":
            return f"round{part.stage}_{group}"
        if part.rule == "certify":
            return f"certify_{group}"
        return group if part.base is None else f"tuned_{group}"

    def claims(self, study: str) -> str:
        """The claims of a study as a parameter of a job."""
        return as_parameter(self.claim_specs(study))

    def claim_specs(self, study: str) -> dict[str, dict[str, Any]]:
        """The claims of a study with the data that they were looked at on, and for what they stand.

        Besides the settings of `ClaimSpec`: `data`, names of the data sets, and `stand_in`, why
        what ran cannot decide the claim; "" where it can.
        """
        specs = {}
        for name, claim in self.studies[study].claims.items():
            parts = self.parts_behind(study, claim.figures)
            read = dict.fromkeys(name for part in parts for name in part.datasets[:1])
            specs[name] = claim.model_dump() | {
                "data": ", ".join(read),
                "stand_in": self._stand_in(claim, parts),
            }
        return specs

    def _stand_in(self, claim: ClaimSpec, parts: Iterable[Part]) -> str:
        lacking: dict[str, dict[str, None]] = {}
        for part in parts:
            settings = part.spec.model_dump(mode="json")
            if part.datasets:
                settings["content"] = self.registry[part.datasets[0]].content
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

    def titles(self) -> str:
        """The titles of the papers as a parameter of a job."""
        return as_parameter({slug: study.title for slug, study in self.studies.items()})

    def shown(self) -> dict[str, str]:
        """What the report shows, with the keys: the drawings and the pages."""
        files = {
            f"{self.results}/{slug}/figures/{figure}.svg": self.key("plot", slug, figure)
            for slug, study in self.studies.items()
            for figure in study.figures
        }
        files[f"{self.results}/scorecard.html"] = self.key("scorecard")
        if self.with_networks():
            files[f"{self.results}/generalization.html"] = self.key("correlations")
        return files

    def report_key(self) -> str:
        """The key of the report: of what it shows, and of its words."""
        return key_of(stage="report", shown=[*self.shown().values()], words=self.captions())

    def captions(self) -> dict[str, dict[str, dict[str, str]]]:
        """The captions of all figures, by study and figure."""
        return {
            slug: {figure: self.caption(slug, figure) for figure in study.figures}
            for slug, study in self.studies.items()
        }

    def caption(self, study: str, figure: str) -> dict[str, str]:
        """The words of a figure's caption in the report, escaped for HTML."""
        spec, paper = self.figure(study, figure), self.studies[study]
        words = {
            "title": self.title(study, figure),
            "paper": f"{paper.authors}: {paper.title} ({paper.venue}, arXiv {paper.arxiv})",
            "shows": spec.shows,
            "ran": self.words(study, figure),
            **self.footer(study, figure),
        }
        return {name: html.escape(text, quote=False) for name, text in words.items()}

    def footer(self, study: str, figure: str) -> dict[str, str]:
        """What is printed below a drawing: where it stands in the paper, and what it is."""
        spec = self.figure(study, figure)
        return {
            "place": spec.place,
            "status": self.status(study, figure),
            "reconstructed": spec.reconstructed,
            "scale": self.config.scale,
        }

    def title(self, study: str, figure: str) -> str:
        """The title of a figure, with the data sets that its runs read in place of `{dataset}`.

        Where none of its runs is made at this scale they are those of the paper.
        """
        spec, templates = self.figure(study, figure), self.studies[study].runs
        read = [name for part in self.parts_of(study, spec.runs) for name in part.datasets[:1]]
        paper = [templates[run].paper.get("dataset") for run in spec.runs]
        names = dict.fromkeys(read or [name for name in paper if name in self.registry])
        return spec.title.replace("{dataset}", " and ".join(self.registry[n].title for n in names))

    def ran(self, study: str, figure: str) -> dict[str, dict[str, Any]]:
        """The settings of each run that a figure is made from, with the user's changes."""
        made = {
            part.run: part.spec for part in self.parts_of(study, self.figure(study, figure).runs)
        }
        return {run: spec.model_dump(mode="json", exclude_unset=True) for run, spec in made.items()}

    def words(self, study: str, figure: str) -> str:
        """The same in words, the runs of a template together."""
        together: dict[str, list[dict[str, Any]]] = {}
        for run, settings in self.ran(study, figure).items():
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

    def artifacts(self) -> dict[str, str]:
        """Every stamped file of this configuration with the key it must carry."""
        return dict(self._artifacts)

    @functools.cached_property
    def _artifacts(self) -> dict[str, str]:
        expected: dict[str, str] = {}
        for (study, run, part), job in self.parts.items():
            base = f"{self.results}/{study}"
            key = self.key("train", study, run, part)
            expected[f"{base}/{job.states}"] = key
            if job.rule != "certify":
                expected[f"{base}/runs/{job.stem}.history.parquet"] = key
            if job.rule == "train_round":
                expected[self.labelled(job)] = key
            if self.measured(job):
                measure = self.key("measure", study, run, part)
                expected[self.measures(job)] = measure
        for slug, study in self.studies.items():
            for figure in study.figures:
                key = self.key("table", slug, figure)
                expected[f"{self.results}/{slug}/figures/{figure}.parquet"] = key
            expected[f"{self.results}/{slug}/claims.parquet"] = self.key("claims", slug)
        expected[f"{self.results}/scorecard.parquet"] = self.key("scorecard")
        for study in self.with_networks():
            for group in self.network_groups(study):
                path = f"{self.results}/{study}/generalization/{group}.parquet"
                expected[path] = self.key("generalization", study, group)
        if self.with_networks():
            expected[f"{self.results}/generalization.parquet"] = self.key("correlations")
        return expected


def make_plan(root: Path | str, values: dict[str, Any], source: Source = in_the_file) -> Plan:
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
                f"{source('extras')}: extras: {extra!r} is no figure that is off by default"
                f"{did_you_mean(extra, off)}; there are {', '.join(off)}."
            )
    studies = {slug: available[slug].without_extras(config.extras) for slug in chosen}
    specs: dict[tuple[str, str], RunSpec] = {}
    for slug, study in studies.items():
        _check_functions(study)
        for template in study.runs:
            for run, spec in expand(study, template, config, source).items():
                for dataset in datasets_of(spec):
                    if dataset not in registry:
                        key = next(k for k in kinds.DATASETS if getattr(spec, k, None) == dataset)
                        where = where_given(study, template, config, source, key)
                        raise ConfigError(
                            f"{where}: the data set {dataset!r} is not in config/datasets.yaml"
                            f"{did_you_mean(dataset, registry)}; there are {', '.join(registry)}."
                        )
                specs[slug, run] = spec
    specs = _needed(studies, specs)
    specs, left_out = _with_models(root, config, specs, source)
    # What starts from another run comes after it: each part points to the one of its base.
    parts: dict[tuple[str, str, str], Part] = {}
    for (slug, run), spec in sorted(specs.items(), key=lambda item: _starts_from_a_run(item[1])):
        where = where_given(studies[slug], run.partition("-")[0], config, source)
        if KINDS[spec.kind].base:
            found = _certifications(slug, run, spec, specs, parts, where)
        else:
            base = _pretraining(slug, run, spec, parts, where) if _starts_from_a_run(spec) else None
            found = _split(slug, run, spec, base)
        parts |= {(slug, run, part.part): part for part in found}
    # In the order of the files again.
    order = {name: i for i, name in enumerate(specs)}
    parts = dict(sorted(parts.items(), key=lambda item: order[item[0][:2]]))
    return Plan(root, config, studies, registry, parts, left_out)


def _needed(
    studies: dict[str, StudySpec], specs: dict[tuple[str, str], RunSpec]
) -> dict[tuple[str, str], RunSpec]:
    """The runs that a figure is made from, and those that they start from."""
    wanted = {(slug, run) for slug, study in studies.items()
              for figure in study.figures.values() for run in figure.runs}  # fmt: skip
    for (slug, run), spec in specs.items():
        if (slug, run.partition("-")[0]) in wanted:
            bases = {getattr(spec, "base", None), getattr(spec, "pretrained", None)} - {None}
            wanted |= {(slug, base) for base in bases}
    return {name: spec for name, spec in specs.items()
            if (name[0], name[1].partition("-")[0]) in wanted}  # fmt: skip


def _files(folder: Path) -> list[tuple[str, int | str]]:
    """The files of a model: the contents of small ones, the sizes of its weights."""
    return [
        (path.name, path.stat().st_size if path.stat().st_size > SMALL_FILE
         else hashlib.sha256(path.read_bytes()).hexdigest())
        for path in sorted(folder.iterdir()) if path.is_file()
    ]  # fmt: skip


def _with_models(
    root: Path, config: Config, specs: dict[tuple[str, str], RunSpec], source: Source
) -> tuple[dict[tuple[str, str], RunSpec], tuple[str, ...]]:
    """The runs without those of pretrained models that are not there, and a sentence on them."""
    models = {name: s.model for name, s in specs.items() if KINDS[s.kind].of_user}
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
    if not missing:
        return specs, ()
    where = f"{config.pretrained_dir} has no" if here else "pretrained_dir is null: no"
    names = ", ".join(dict.fromkeys(missing.values()))
    sentence = f"Pretrained models left out ({where} {names})."
    return {name: s for name, s in specs.items() if name not in missing}, (sentence,)


def _starts_from_a_run(spec: RunSpec) -> bool:
    return bool(KINDS[spec.kind].base or getattr(spec, "pretrained", None))


def _split(study: str, run: str, spec: RunSpec, base: Part | None) -> list[Part]:
    """All seeds of a small model in one job, one job a seed for large ones; a chain of stages."""
    everyone = tuple(range(spec.seeds))
    members = {f"seed{s}": (s,) for s in everyone} if is_split(spec) else {"all": everyone}
    found = []
    for name, seeds in members.items():
        if getattr(spec, "active", None) is None:
            found.append(Part(study, run, name, spec, seeds, base))
            continue
        before = None
        for stage in range(len(spec.n)):
            start = before if spec.active.continued and before else base
            part = f"{name}-stage{stage}"
            # Further stages are nothing to this one, which labels for the next.
            own = spec.model_copy(update={"n": spec.n[: stage + 2]})
            before = Part(study, run, part, own, seeds, start, before, stage=stage)
            found.append(before)
    return found


def _pretraining(
    study: str, run: str, spec: LowDataSpec, parts: dict[tuple[str, str, str], Part], where: str
) -> Part:
    """The one job of the run whose weights a run starts from."""
    found = [part for (s, r, _), part in parts.items() if (s, r) == (study, spec.pretrained)]
    if len(found) != 1 or not getattr(found[0].spec, "keep_weights", False):
        raise ConfigError(
            f"{where}: pretrained = {spec.pretrained!r} is not a run of one job with "
            "keep_weights: true."
        )
    return found[0]


def _certifications(
    study: str,
    run: str,
    spec: CertificationSpec,
    specs: dict[tuple[str, str], RunSpec],
    parts: dict[tuple[str, str, str], Part],
    where: str,
) -> list[Part]:
    """One job a slice of the images, and where the classifiers have a job a seed, a seed."""
    base, wanted = specs.get((study, spec.base_run)), KINDS[spec.kind].base
    if base is None or base.kind != wanted:
        there = [name for (slug, name), s in specs.items() if slug == study and s.kind == wanted]
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
            found.append(Part(study, run, part, spec, seeds, owner, slice=i))
    return found


def _decides(value: Any, deciding: list[Any] | AtLeast) -> bool:
    """Whether a run with this value of a setting decides what the claim is about."""
    return value >= deciding.at_least if isinstance(deciding, AtLeast) else value in deciding


def cost_of(part: Part) -> Cost:
    """What the jobs of a part need."""
    if part.rule == "certify":
        return training_cost(part.spec, len(part.seeds), part.base.spec)
    if part.rule == "train_round":
        spec = part.spec.model_copy(update={"n": [part.spec.n[part.stage]]})
        return training_cost(spec, len(part.seeds))
    return training_cost(part.spec, len(part.seeds))


def server_of(rule: str, params: Any) -> str:
    """Which of the processes of `server_modules` a job is started from."""
    with_torch = rule in WITH_TORCH or getattr(params, "reader", None) == "read_tensors"
    return "torch" if with_torch else "plain"


def server_modules(studies: Iterable[str]) -> dict[str, list[str]]:
    """What the jobs of some studies import, with torch and without."""
    every = KINDS.values()
    modules = {entry.partition(":")[0] for kind in every for entry in (kind.train, kind.measure)}
    plain = {kind.measure.partition(":")[0] for kind in every if kind.arrays}
    drawing = ["replica.drawing", "seaborn", *(f"replica.studies.{study}" for study in studies)]
    return {
        "plain": ["replica.report", *drawing, *sorted(plain)],
        "torch": ["replica.generalization.table", *sorted(modules)],
    }


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
