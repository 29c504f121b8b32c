"""The layout of a reproduction: its jobs, the files they make, and what each of them requests."""

import functools
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from replica.costs import Cost
from replica.data.registry import DatasetEntry, card_path
from replica.kinds import (
    generalization_cost,
    is_measured_alone,
    keeps_networks,
    measuring_minutes,
    training_settings,
)
from replica.plan import keys
from replica.plan.parts import Part, cost_of, of_stage
from replica.provenance import key_of
from replica.settings.study import ON_GPUS, FigureSpec, StudySpec
from replica.settings.user import Config

# Without a GPU, products with the Hessians of larger networks take hours.
CURVATURE_UP_TO = 1_000_000


@dataclass(frozen=True)
class Plan:
    """Everything the workflow file needs: parts, targets, keys, resources.

    Attributes:
        left_out: sentences on what the configuration requests but this machine does not have.
        off: study -> figure -> why it is not made at this scale.
        stand_ins: data sets whose place another one takes here, see `replica.data.at_hand`.
        missing: (study, run) -> the data set that could not be had, of runs that are left out.
    """

    root: Path
    config: Config
    studies: dict[str, StudySpec]
    registry: dict[str, DatasetEntry]
    parts: dict[tuple[str, str, str], Part]
    left_out: tuple[str, ...] = ()
    off: dict[str, dict[str, str]] = field(default_factory=dict)
    stand_ins: dict[str, str] = field(default_factory=dict)
    missing: dict[tuple[str, str], str] = field(default_factory=dict)
    _keys: dict[tuple, str] = field(default_factory=dict)

    @property
    def results(self) -> str:
        """Folder of this scale, or of its settings that have a name, relative to the project."""
        return f"results/{self.config.label}"

    def parts_of(self, study: str, templates: Iterable[str]) -> list[Part]:
        """The training jobs of some run templates of a study, in the order of the files."""
        wanted = set(templates)
        return [
            part
            for part in self.parts.values()
            if part.study == study and part.run.partition("-")[0] in wanted
        ]

    def parts_behind(self, study: str, figures: Iterable[str]) -> list[Part]:
        """The parts that those of some figures of a study show that are made, each once."""
        return self.parts_of(study, self.runs_behind(study, figures))

    def runs_behind(self, study: str, figures: Iterable[str]) -> list[str]:
        """The templates of their runs, each once."""
        made = self.studies[study].figures
        runs = [run for figure in figures if figure in made for run in made[figure].runs]
        return list(dict.fromkeys(runs))

    def measured(self, part: Part) -> bool:
        """Whether a figure reads the measures of a part; mere starting points have none."""
        template = part.run.partition("-")[0]
        figures = self.studies[part.study].figures.values()
        return any(template in figure.runs for figure in figures)

    def networks(self, study: str) -> list[Part]:
        """The parts of a study whose states are trained networks with train and test data.

        Those that are made and whose data can no longer be had are not measured again.
        """
        gone = set(self.missing.values())
        parts = (p for p in self.parts.values() if p.study == study and gone.isdisjoint(p.datasets))
        return [part for part in parts if part.rule != "certify" and keeps_networks(part.spec)]

    def with_networks(self) -> list[str]:
        """The studies that have such parts."""
        return list(self._network_groups)

    def preparing_mb(self, dataset: str) -> int:
        """Memory for preparing a data set; photographs are held twice when they are split."""
        return 16_000 if self.registry[dataset].size else 4000

    def figure(self, study: str, figure: str) -> FigureSpec:
        """The specification of a figure."""
        return self.studies[study].figures[figure]

    def figure_inputs(self, study: str, figure: str) -> dict[str, list[str]]:
        """Histories and measures that the table of a figure is made from."""
        parts = self.parts_of(study, self.figure(study, figure).runs)
        return {
            "histories": [self.history(part) for part in parts if part.rule != "certify"],
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
        """The figures made at this scale whose tables decide the claims of a study."""
        claims, made = self.studies[study].claims.values(), self.studies[study].figures
        return sorted({figure for claim in claims for figure in claim.figures if figure in made})

    def tables(self, study: str) -> list[str]:
        """The figure tables that decide the claims of a study."""
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

        A finished artifact requests no data: moving data, or fetching them again, re-runs nothing.

        Args:
            parts: whose data the job reads.
            made: path of the artifact.
        """
        if self.is_current(made):
            return []
        return list({card: None for part in parts for card in self.cards(part)})

    def is_current(self, path: str) -> bool:
        """Whether an artifact exists with the key that the plan requires."""
        # Imported here: it imports pandas, which a plan without finished artifacts does not need.
        if not (self.root / path).exists():
            return False
        from replica.artifacts import has_key

        return has_key(self.root / path, self._artifacts[path])

    def states(self, part: Part) -> str:
        """The states of a part."""
        return f"{self.results}/{part.study}/{part.states}"

    def history(self, part: Part) -> str:
        """The history of a training."""
        return f"{self.results}/{part.study}/runs/{part.stem}.history.parquet"

    def outputs(self, part: Part) -> dict[str, str]:
        """The files that the job of a part makes, by the names that its rule has for them."""
        if part.rule == "certify":
            return {"counts": self.states(part)}
        files = {"states": self.states(part), "history": self.history(part)}
        return files | ({"labelled": self.labelled(part)} if part.rule == "train_round" else {})

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
             "states": self.states(part), "datasets": self.dataset_keys(part),
             "curvature_up_to": self.curvature_up_to}
            for part in self.network_groups(study)[group]
        ]  # fmt: skip

    @property
    def curvature_up_to(self) -> int | None:
        """The most parameters of a network whose Hessian is looked at; None for any number."""
        return None if self.config.scale in ON_GPUS else CURVATURE_UP_TO

    def generalization_cost(self, study: str, group: str) -> Cost:
        """What the job that measures a group of networks needs."""
        parts = self.network_groups(study)[group]
        cost = generalization_cost([(of_stage(part), len(part.seeds)) for part in parts])
        return cost if self.config.scale in ON_GPUS else cost.on_cores or cost

    def groups_on_gpu(self) -> list[str]:
        """The names of all groups of networks that are measured on a GPU."""
        groups = ((s, name) for s in self.with_networks() for name in self.network_groups(s))
        return sorted({name for s, name in groups if self.generalization_cost(s, name).gpu_slots})

    def generalization_rule(self, study: str, group: str) -> str:
        """The rule of that job: large networks are measured on a GPU at scales that have them."""
        on_gpu = self.generalization_cost(study, group).gpu_slots
        return "generalization_on_gpu" if on_gpu else "generalization"

    def key(self, stage: str, *name: str) -> str:
        """The key of a job: `key("train", study, run, part)`, `key("table", study, figure)`, ...

        Stages: dataset (name), train and measure (study, run, part), table and plot (study,
        figure), claims (study), scorecard (), generalization (study,
        group), correlations (), pages ().
        """
        if (stage, *name) not in self._keys:
            self._keys[stage, *name] = key_of(stage=stage, **keys.FACTS[stage](self, *name))
        return self._keys[stage, *name]

    def artifacts(self) -> dict[str, str]:
        """Every stamped file of this configuration with the key it must carry."""
        return dict(self._artifacts)

    @functools.cached_property
    def _artifacts(self) -> dict[str, str]:
        return keys.artifacts(self)

    def cost(self, part: Part) -> Cost:
        """What the jobs of a part need at this scale."""
        cost = cost_of(part)
        return cost if self.config.scale in ON_GPUS else cost.on_cores or cost

    def resources(self, part: Part) -> dict[str, int | str]:
        """What the jobs of a part request, by the names that Snakemake and its Slurm plugin use.

        `gpu_percent` is the part of an allocation, in percent, that a job takes in a group of jobs.
        """
        cost, cluster = self.cost(part), self.config.cluster
        on_gpu = cost.gpu_slots > 0
        slots = self.config.jobs_per_gpu
        return {
            "mem_mb": cost.mem_mb,
            "runtime": cost.minutes,
            "measuring": measuring_minutes(part.spec),
            "threads": cost.threads,
            "gpu_percent": max(1, 100 * min(cost.gpu_slots, slots) // slots) if on_gpu else 100,
            "gres": cluster.gpu if on_gpu else "",
            "slurm_partition": cluster.gpu_partition if on_gpu else cluster.partition,
        }

    def group(self, part: Part) -> str:
        """The kind of group in which a cluster runs the jobs of a part; see `replica.costs`.

        What starts from another job has groups of its own: within a group only chains of jobs may
        hang together, for which the Snakemake inside an allocation asks no more CPUs than it has.
        """
        group = self.cost(part).group
        if part.rule == "train_round":
            return f"round{part.stage}_{group}"
        if part.rule == "certify":
            return f"certify_{group}"
        return group if part.starts_from is None else f"tuned_{group}"
