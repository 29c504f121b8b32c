"""Risks of trained networks on a population, and how well samples estimate their front."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from replica.data.prepare import DataError
from replica.kinds.multiobjective import TradeoffSpec
from replica.multiobjective import probes
from replica.multiobjective.samples import Estimates
from replica.provenance import stream_seed
from replica.theory import deviations, pareto

Array = NDArray[np.float64]
OBJECTIVES = ["error", "robust_error", "dp_gap"]


@dataclass(frozen=True)
class Outcomes:
    """What each network does on each image of the population, and the group of each image.

    Attributes:
        wrong, attacked_wrong, predicted: (G, P) in {0, 1}; wrong, wrong under an attack, ŷ.
        group: (P,) in {0, 1}.
    """

    wrong: NDArray[np.uint8]
    attacked_wrong: NDArray[np.uint8]
    predicted: NDArray[np.uint8]
    group: NDArray[np.uint8]

    def of(self, rows: NDArray[np.int64]) -> "Outcomes":
        """The same of some images."""
        wrong, attacked = self.wrong[:, rows], self.attacked_wrong[:, rows]
        return Outcomes(wrong, attacked, self.predicted[:, rows], self.group[rows])


def measure_tradeoffs(
    spec: TradeoffSpec,
    states: Mapping[str, NDArray],
    *,
    run: str,
    threads: int,
    card: Path | None,
) -> pd.DataFrame:
    """Risks of every network, and the fronts of samples of the population.

    Rows of the probe networks: a network with its settings, `norm`, `parameters`, `train_error`
    and the risks `l1` (error), `l2` (error under attack), `l3` (gap of demographic parity) on the
    population. fronts, points: see `replica.multiobjective.probes`, a sample of n images without
    replacement a row; `hypervolume_gap` is the volume below (1, 1, 1) that the true front dominates
    and this one does not, `hypervolume_optimism` how much more its estimates promise.
    `draw` numbers the samples. Networks that diverged are left out.

    Raises:
        DataError: a sample size is larger than the population.
    """
    P = len(states["group"])
    if max(spec.n) > P:
        raise DataError(f"{run}: n = {max(spec.n)} exceeds the population of {P} images.")
    tables = []
    for s, seed in enumerate(states["seed"].tolist()):
        alive = states["diverged_at"][s] < 0
        numbers = np.flatnonzero(alive)
        if not len(numbers):
            # Training ends with an error only where no network of any seed is left.
            continue
        wrong, attacked, predicted = (
            states[name][s][alive] for name in ("wrong", "attacked_wrong", "predicted")
        )
        whole = Outcomes(wrong, attacked, predicted, states["group"])
        risks = risks_of(whole)
        optimal = pareto.non_dominated(risks)
        settings = ("width", "weight_decay", "adversarial", "fairness", "parameters")
        own = {name: states[name][alive] for name in settings}
        own |= {name: states[name][s][alive] for name in ("norm", "train_error")}
        own |= {f"l{i}": risks[:, i - 1] for i in (1, 2, 3)}
        own |= {"h": numbers, "optimal": optimal.astype(float)}
        networks = pd.DataFrame(own)
        rows = []
        for n in spec.n:
            for draw in range(spec.repeats):
                stream = stream_seed("population", run, seed, f"{n} {draw}")
                found = sampled(spec, whole, n, np.random.default_rng(stream))
                rows += _rows(risks, found, optimal, n, draw, points=draw == 0)
        fronts = pd.DataFrame(rows)
        # Points count the networks that are left.
        fronts["h"] = fronts["h"].map(dict(enumerate(numbers)))
        for frame in (networks.assign(probe="networks"), fronts):
            tables.append(frame.assign(seed=seed, dataset=spec.dataset, run=run))
    return pd.concat(tables, ignore_index=True).assign(delta=spec.delta)


def risks_of(outcomes: Outcomes) -> Array:
    """Error, error under attack and gap of demographic parity of each network, (G, 3).

    The rate of a group without images is 0.
    """
    rates = []
    for group in (0, 1):
        members = outcomes.predicted[:, outcomes.group == group]
        rates.append(members.sum(1) / max(members.shape[1], 1))
    risks = [outcomes.wrong.mean(1), outcomes.attacked_wrong.mean(1), np.abs(rates[1] - rates[0])]
    return np.stack(risks, 1).round(12)


def sampled(
    spec: TradeoffSpec, whole: Outcomes, n: int, generator: np.random.Generator
) -> Estimates:
    """Estimates from n images of the population, drawn without replacement.

    Bounds for independent samples hold for these too (Hoeffding 1963, section 6).
    """
    P, H, N = len(whole.group), len(whole.wrong), len(OBJECTIVES)
    drawn = whole.of(generator.choice(P, size=n, replace=False))
    counts = np.bincount(drawn.group, minlength=2)
    mean = deviations.hoeffding(H, N, n, spec.delta)
    gap = deviations.rate_gap(H, N, (counts[0], counts[1]), spec.delta)
    C = np.minimum(1.0, np.array([mean, mean, gap]))
    sizes = np.array([n, n, counts.min()])
    return Estimates(risks_of(drawn), C, sizes, np.nan)


def _rows(
    risks: Array,
    found: Estimates,
    optimal: NDArray[np.bool_],
    n: int,
    draw: int,
    points: bool,
) -> list[dict]:
    measured, front = probes.fronts(risks, found, optimal)
    volume = {
        "true": pareto.hypervolume(risks[optimal], np.ones(3)),
        "found": pareto.hypervolume(risks[front], np.ones(3)),
        "estimated": pareto.hypervolume(found.risks[front], np.ones(3)),
    }
    more = {
        "hypervolume_gap": volume["true"] - volume["found"],
        "hypervolume_optimism": volume["estimated"] - volume["found"],
    }
    rows = [{"probe": "fronts", **measured[0], **more}]
    if points:
        drawn = probes.points(risks, found, optimal, front)
        rows += [{"probe": "points", **row} for row in drawn]
    return [{"n": n, "draw": draw, **row} for row in rows]
