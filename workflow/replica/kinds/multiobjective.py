"""Several objectives: hypotheses with exact risks, and trade-offs of networks (study `mol`)."""

import itertools
from dataclasses import replace
from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, Field, PositiveFloat, PositiveInt, model_validator

from replica.costs import Cost, Work, on_gpu, small
from replica.kinds.base import CIFAR10, SAMPLES, Kind, Name, Strict, never

# A sample on a direction, in scalarizations.
SCALARIZATIONS_PER_PROJECTION = 5
# Passes of images through networks of width 64, those of their attacks among them, from which
# networks are worth a GPU.
MANY_PASSES = 5e9
# Of scalarized risks five families are looked at, of minimisers two; the points of all fronts that
# are kept, about; columns of the table of a problem, of many probes and of few.
FAMILIES, MINIMISED, POINTS, MANY_COLUMNS, FEW_COLUMNS = 5, 2, 300, 21, 14
Objective = Literal["error", "robust_error", "dp_gap", "eo_gap", "cvar"]


def _no_value_twice(values: list) -> list:
    if twice := [value for i, value in enumerate(values) if value in values[:i]]:
        raise ValueError(f"{twice[0]} occurs twice")
    return values


# A list with values, each once.
Distinct = [Field(min_length=1), AfterValidator(_no_value_twice)]


class RandomRisks(Strict):
    """Hypotheses whose true risks are drawn, three objectives on a convex front plus a loss."""

    kind: Literal["random"]
    hypotheses: PositiveInt
    objectives: Annotated[list[PositiveInt], *Distinct] = Field(
        description="numbers N of objectives; those of a smaller N are the first of a larger"
    )
    scale: PositiveFloat = Field(description="mean of the exponential loss above the front")


class GaussianGroups(Strict):
    """Linear classifiers of two Gaussian classes in two groups: closed-form risks.

    Either a grid of directions and offsets, or one direction and a grid of an offset a group.
    """

    kind: Literal["gaussian"]
    shares: Annotated[list[Annotated[float, Field(gt=0, lt=1)]], *Distinct] = Field(
        description="P(a = 1), the share of group 1"
    )
    objectives: Annotated[list[Objective], *Distinct]
    angles: PositiveInt = Field(default=1, description="directions, evenly around the circle")
    offsets: Annotated[int, Field(ge=2)] = Field(description="offsets, evenly in [-3, 3]")
    by_group: bool = Field(default=False, description="an offset for each group, all pairs")
    shift: Annotated[float, Field(ge=0)] = Field(description="length of an attack on x")
    tail: Annotated[float, Field(gt=0, le=1)] = Field(
        default=0.1, description="share of the largest losses of cvar"
    )

    @model_validator(mode="after")
    def _is_one_grid(self) -> "GaussianGroups":
        if self.by_group and (self.angles > 1 or "cvar" in self.objectives):
            raise ValueError("by_group has one direction (angles = 1) and no objective cvar")
        return self


class FlatFront(Strict):
    """Two mirror images of the best classifier that differ in the gap between the groups."""

    kind: Literal["flat"]
    angles: Annotated[int, Field(ge=2)]
    offsets: Annotated[int, Field(ge=2)]
    spread: PositiveFloat = Field(description="c, between the components of a class")
    separation: PositiveFloat = Field(description="s, between the classes")


class Ladder(Strict):
    """Slope s and number m of the hypotheses beside h_0."""

    s: Annotated[float, Field(ge=0, le=0.6)]
    m: PositiveInt


class SlopedFront(Strict):
    """Hypotheses that lose s in the first objective while they lose 1/2 in the second."""

    kind: Literal["slope"]
    ladders: Annotated[list[Ladder], *Distinct]


class ConvexFront(Strict):
    """A strictly convex front and dominated copies of its points."""

    kind: Literal["convex"]
    points: Annotated[int, Field(ge=2)]
    copies: PositiveInt
    scale: PositiveFloat = Field(description="mean of the exponential shift of a copy")


class Counterexample(Strict):
    """One Pareto-optimal hypothesis and m that equal it in the estimated objective."""

    kind: Literal["counterexample"]
    m: Annotated[list[PositiveInt], *Distinct]


ProblemSpec = RandomRisks | GaussianGroups | FlatFront | SlopedFront | ConvexFront | Counterexample


class SyntheticRisksSpec(Strict):
    """Hypotheses with exact risks in several objectives, estimated from n samples many times."""

    kind: Literal["synthetic_risks"]
    problem: Annotated[ProblemSpec, Field(discriminator="kind")]
    n: Annotated[list[PositiveInt], *Distinct] = Field(description="sample sizes")
    delta: Annotated[float, Field(gt=0, lt=1)] = Field(
        description="probability with which a bound may fail"
    )
    probes: Annotated[
        list[Literal["deviations", "sample_size", "scalarizations", "excess", "fronts", "bad"]],
        *Distinct,
    ] = Field(description="what is measured of the estimates")
    scalarizations: PositiveInt = Field(
        default=1, description="largest number of weights of a family of scalarizations"
    )
    minimised: PositiveInt = Field(
        default=50, description="weights of a family whose minimisers are looked at"
    )
    tolerance: PositiveFloat = Field(
        default=0.1, description="deviation up to which sample_size counts samples"
    )
    draws: PositiveInt = Field(
        default=1, description="draws of the problem for which sample_size counts samples"
    )
    signs: Annotated[int, Field(ge=0)] = Field(
        default=0, description="draws of signs of the empirical Rademacher complexity of the error"
    )
    seeds: PositiveInt = Field(description="repetitions")

    @model_validator(mode="after")
    def _problem_has_what_is_measured(self) -> "SyntheticRisksSpec":
        for what, wanted, kinds in [
            ("probe bad", "bad" in self.probes, ["counterexample"]),
            ("probe sample_size", "sample_size" in self.probes, ["random"]),
            ("signs", self.signs > 0, ["gaussian", "flat"]),
        ]:
            if wanted and self.problem.kind not in kinds:
                raise ValueError(f"{what} needs a problem of kind {' or '.join(kinds)}")
        return self


class TradeoffSpec(Strict):
    """Small networks that trade off accuracy, fairness and robustness; their risks on a population.

    Binary task: a digit is 5 or more. Group 1 carries a bright mark in a corner; a digit gets it
    with a probability that depends on its class. Two fully connected layers with a ReLU, one
    network per combination of the four lists, all trained on the same samples; all others of the
    data set are the population, from which the measures draw n.
    """

    MEASURED: ClassVar[frozenset[str]] = frozenset({"n", "repeats", "delta"})

    kind: Literal["tradeoffs"]
    dataset: Name = Field(description="a key of config/datasets.yaml with images of digits")
    pixel_max: PositiveFloat = Field(default=255, description="what divides pixels into [0, 1]")
    train: Annotated[int, Field(ge=10)] = Field(description="samples that train the networks")
    group_rates: tuple[Annotated[float, Field(gt=0, lt=1)], Annotated[float, Field(gt=0, lt=1)]] = (
        Field(description="P(a = 1 | y) for y = 0, 1")
    )
    widths: Annotated[list[PositiveInt], *Distinct]
    weight_decays: Annotated[list[Annotated[float, Field(ge=0)]], *Distinct]
    adversarial: Annotated[list[Annotated[float, Field(ge=0)]], *Distinct] = Field(
        description="radius of the attack in training, 0 for none"
    )
    fairness: Annotated[list[Annotated[float, Field(ge=0)]], *Distinct] = Field(
        description="penalty on the squared difference of the mean probabilities of the groups"
    )
    attack: PositiveFloat = Field(description="radius of the attack that is measured")
    attack_steps: PositiveInt = Field(description="1 is FGSM, more is PGD")
    lr: PositiveFloat
    batch: PositiveInt | Literal["full"]
    epochs: PositiveInt
    n: Annotated[list[PositiveInt], *Distinct] = Field(
        default=[100], description="sizes of the samples of the population"
    )
    repeats: PositiveInt = Field(default=30, description="samples of each size")
    delta: Annotated[float, Field(gt=0, lt=1)] = Field(
        default=0.05, description="probability with which a bound may fail"
    )
    seeds: PositiveInt = Field(description="independent sets of networks")

    @property
    def grid(self) -> list[tuple[int, float, float, float]]:
        """(width, weight decay, adversarial radius, fairness penalty) of each network."""
        lists = (self.widths, self.weight_decays, self.adversarial, self.fairness)
        return list(itertools.product(*lists))


def _synthetic_risks_cost(spec: SyntheticRisksSpec, seeds: int) -> Cost:
    problem = spec.problem
    angles, shares = getattr(problem, "angles", 1), len(getattr(problem, "shares", [1]))
    hypotheses = getattr(problem, "hypotheses", angles * getattr(problem, "offsets", 200))
    # Elsewhere a count is drawn at once.
    sampled = problem.kind in ("gaussian", "flat")
    # Scores that are sorted count twice.
    passes = 2 + spec.signs + 2 * ("cvar" in getattr(problem, "objectives", []))
    projections = angles * passes * sum(spec.n) if sampled else 0
    scalarized = hypotheses * (5 * spec.scalarizations + 2 * spec.minimised) * len(spec.n)
    projected = SCALARIZATIONS_PER_PROJECTION * projections
    work = Work("scalarization", seeds * shares * (projected + scalarized))
    # Scores of the largest sample, the places of the histogram, and what they are made from.
    return small(work, 40 * angles * max(spec.n) // 2**20 if sampled else 0)


def _synthetic_risks_states(spec: SyntheticRisksSpec, seeds: int) -> float:
    """A table: a row for each thing that is measured of each sample."""
    problem = spec.problem
    objectives = getattr(problem, "objectives", [1, 1])
    # A number is a problem of its own, a name is an objective of the same problem.
    numbers = not isinstance(objectives[0], str)
    shares, sizes = len(getattr(problem, "shares", [1])), len(objectives) if numbers else 1
    rows = 0
    if "deviations" in spec.probes:
        rows += 1 if numbers else 1 + len(objectives)
    if "scalarizations" in spec.probes:
        weights = sum(S <= spec.scalarizations for S in (1, 10, 100, 1000, 10_000))
        rows += FAMILIES * weights + 1
    if "excess" in spec.probes:
        rows += MINIMISED * spec.minimised
    fronts = "fronts" in spec.probes
    if fronts:
        rows += 2
    instances = shares * sizes
    if problem.kind in ("slope", "counterexample"):
        instances = len(getattr(problem, "ladders", getattr(problem, "m", [])))
    elif problem.kind in ("flat", "convex"):
        instances = 1
    samples = instances * len(spec.n) * seeds
    columns = MANY_COLUMNS if fronts or len(spec.probes) > 2 else FEW_COLUMNS
    return 8 * columns * (samples * rows + POINTS * fronts)


def _tradeoff_states(spec: TradeoffSpec, seeds: int) -> float:
    """The weights, padded to the largest width, and three outcomes of each image, a byte each."""
    data = SAMPLES.get(spec.dataset, CIFAR10)
    weights = max(spec.widths) * (data.values + 3)
    outcomes = 3 * (data.train + data.test - spec.train)
    return seeds * len(spec.grid) * (4 * weights + outcomes)


def _tradeoff_cost(spec: TradeoffSpec, seeds: int) -> Cost:
    amount = _passes(spec, seeds)
    # Digits of 8x8 pixels are divided by less.
    of_mnist = spec.pixel_max == 255
    on_cores = small(Work("trade-off of 784 pixels" if of_mnist else "trade-off", amount), 1400)
    if not _is_large(spec):
        return on_cores
    whole = on_gpu(Work("trade-off on a GPU", amount), 8000, slots=4, group="alone")
    return replace(whole, on_cores=on_cores)


def _passes(spec: TradeoffSpec, seeds: int) -> float:
    """Of images through networks of width 64 in a training, those of the attacks among them."""
    passes = spec.train * spec.epochs * (1 + spec.attack_steps)
    return seeds * len(spec.grid) * passes * max(spec.widths) / 64


def _is_large(spec: TradeoffSpec) -> bool:
    return _passes(spec, spec.seeds) >= MANY_PASSES


KINDS = {
    "synthetic_risks": Kind(
        spec=SyntheticRisksSpec,
        train="replica.multiobjective.simulation:train_synthetic_risks",
        measure="replica.measures.tables:measure_table",
        cost=_synthetic_risks_cost,
        states=_synthetic_risks_states,
        keeps_networks=never,
        arrays=True,
    ),
    "tradeoffs": Kind(
        spec=TradeoffSpec,
        train="replica.multiobjective.tradeoff_training:train_tradeoffs",
        measure="replica.multiobjective.tradeoffs:measure_tradeoffs",
        cost=_tradeoff_cost,
        states=_tradeoff_states,
        keeps_networks=lambda spec: True,
        is_large=_is_large,
        seeds_apart=False,
        measured_alone=False,
        arrays=True,
    ),
}
