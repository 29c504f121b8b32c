"""What a kind of run is made of: its specification, its functions, and what a job of it needs."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field

from replica.costs import Cost, Work

Name = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_]*$")]
# mixed is bfloat16 where that is faster, see `replica.training.precision`.
Precision = Literal["float32", "mixed", "bfloat16"]


# Bytes of a number, for the sizes of states.
BYTES = {"float32": 4, "float64": 8, "bfloat16": 4, "mixed": 4}


class Samples(NamedTuple):
    """What the size of states depends on in a data set: values of an input, classes, samples."""

    values: int
    classes: int
    train: int
    test: int


# Of the data sets of the registry; all others count as CIFAR-10.
CIFAR10 = Samples(3072, 10, 50_000, 10_000)
SAMPLES = {
    "digits": Samples(64, 10, 1258, 539),
    "mixture": Samples(100, 10, 1000, 1000),
    "mixture_imb": Samples(100, 10, 1000, 1000),
    "cone": Samples(2, 2, 10_000, 10_000),
    "mnist": Samples(784, 10, 60_000, 10_000),
    "cifar100": Samples(3072, 100, 50_000, 10_000),
    "svhn": Samples(3072, 10, 73_257, 26_032),
    "caltech101": Samples(150_528, 101, 6074, 2603),
    "caltech256": Samples(150_528, 257, 21_425, 9182),
}


class Strict(BaseModel):
    """Unknown keys are errors, values never change after validation."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def never(spec: Any) -> bool:
    """No run of the kind."""
    return False


def no_work(spec: Any) -> Work:
    """Measures that take no longer than the start of their job."""
    return Work("start", 0)


def as_large_as_a_resnet18(spec: Any) -> float:
    """Of networks that differ little in what their measures take."""
    return 1.0


@dataclass(frozen=True, kw_only=True)
class Kind:
    """One kind of run: everything that depends on the kind, in one record.

    Functions that compute are named as `module:function`: the plan imports none of them, and the
    place of one is in no key. The others are called by the plan, and are in no key either.

    Attributes:
        spec: the model of its settings.
        train: the function that makes its states.
        measure: the function that measures its states.
        cost: (spec, seeds) -> what the training of so many seeds in one job needs; where the run is
            about classifiers of another, (spec, seeds, spec of that run).
        states: (spec, seeds) -> the size of the states of so many seeds in bytes, from their shapes
            (about: a few small ones are left out); the arguments are those of `cost`.
        keeps_networks: whether the states of a run hold whole networks for which there are test
            samples; see `replica.generalization.trained_networks` for what is left out, and why.
        is_large: whether one seed of a run is worth a GPU, or a part of one.
        seeds_apart: whether each seed of a large run is a job of its own.
        measured_alone: whether generalization of a large run's networks is a job of its own.
        relative_size: what generalization of one of its large networks takes, in that of a ResNet18
            for 32x32 images.
        measuring: the work of measuring the states of a run.
        arrays: whether its measures read arrays, and so need no torch.
        rule: the rule that makes its states.
        base: the kind of run whose classifiers it is about.
        of_user: whether it probes a model in a folder of the user.
    """

    spec: type[Strict]
    train: str
    measure: str
    cost: Callable[..., Cost]
    states: Callable[..., float]
    keeps_networks: Callable[[Any], bool]
    is_large: Callable[[Any], bool] = never
    seeds_apart: bool = True
    measured_alone: bool = True
    relative_size: Callable[[Any], float] = as_large_as_a_resnet18
    measuring: Callable[[Any], Work] = no_work
    arrays: bool = False
    rule: Literal["train_run", "certify"] = "train_run"
    base: str | None = None
    of_user: bool = False
