"""The jobs that make states: how a run is split, and what each job starts from."""

from dataclasses import dataclass
from typing import cast

from replica import kinds
from replica.configuration import ConfigError
from replica.costs import Cost
from replica.kinds import KINDS, RunSpec, datasets_of, is_split, states_size, training_cost
from replica.kinds.low_data import LowDataSpec
from replica.kinds.smoothing import CertificationSpec, NoisyClassifierSpec


@dataclass(frozen=True)
class Part:
    """One training or certification job: some or all seeds of one run.

    Attributes:
        starts_from: the job whose states this one starts from: the training whose classifiers a
            certification is about, a pretraining, or where active learning goes on from its
            weights, the stage before.
        previous_stage: the one before of active learning, which chose the labels.
        slice: which of the slices of the certified images.
        stage: which stage of active learning, from 0.
    """

    study: str
    run: str
    part: str
    spec: RunSpec
    seeds: tuple[int, ...]
    starts_from: "Part | None" = None
    previous_stage: "Part | None" = None
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
        return datasets_of(self.spec if self.classifier is None else self.classifier)

    @property
    def classifier(self) -> NoisyClassifierSpec | None:
        """The classifier that a certification is about; None for other jobs."""
        if self.rule != "certify" or self.starts_from is None:
            return None
        return cast(NoisyClassifierSpec, self.starts_from.spec)


def cost_of(part: Part) -> Cost:
    """What the jobs of a part need."""
    return training_cost(of_stage(part), len(part.seeds), part.classifier)


def size_of(part: Part) -> float:
    """The size of the states of a part in bytes, about; see `Kind.states`."""
    return states_size(of_stage(part), len(part.seeds), part.classifier)


def of_stage(part: Part) -> RunSpec:
    """The run of a part; of active learning its own stage alone."""
    spec = part.spec
    if isinstance(spec, LowDataSpec) and spec.active is not None:
        return spec.model_copy(update={"n": [spec.n[part.stage]]})
    return spec


def starts_from_a_run(spec: RunSpec) -> bool:
    """Whether a run needs the states of another one."""
    return bool(KINDS[spec.kind].base or getattr(spec, "pretrained", None))


def split(study: str, run: str, spec: RunSpec, starts_from: Part | None) -> list[Part]:
    """One job for all seeds of a small model, one per seed of a large one; a chain of stages."""
    everyone = tuple(range(spec.seeds))
    members = {f"seed{s}": (s,) for s in everyone} if is_split(spec) else {"all": everyone}
    found = []
    for name, seeds in members.items():
        if not isinstance(spec, LowDataSpec) or spec.active is None:
            found.append(Part(study, run, name, spec, seeds, starts_from))
            continue
        previous: Part | None = None
        for stage in range(len(spec.n)):
            start = previous if spec.active.continued and previous else starts_from
            part = f"{name}-stage{stage}"
            # This stage labels for the next one; later stages do not concern it.
            own = spec.model_copy(update={"n": spec.n[: stage + 2]})
            previous = Part(study, run, part, own, seeds, start, previous, stage=stage)
            found.append(previous)
    return found


def pretraining(
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


def certifications(
    study: str,
    run: str,
    spec: CertificationSpec,
    specs: dict[tuple[str, str], RunSpec],
    parts: dict[tuple[str, str, str], Part],
    where: str,
) -> list[Part]:
    """One job per slice of the images, and per seed if the classifiers have a job per seed."""
    base, wanted = specs.get((study, spec.base_run)), KINDS[spec.kind].base
    if base is None or base.kind != wanted:
        there = [name for (slug, name), s in specs.items() if slug == study and s.kind == wanted]
        raise ConfigError(
            f"{where}: there is no classifier {spec.base_run!r}; available: {', '.join(there)}."
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
