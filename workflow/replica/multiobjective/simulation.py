"""Repeated estimates of the risks of a test bed, and what is measured of each."""

import itertools

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from replica.multiobjective import probes
from replica.multiobjective.beds import Problem, problems
from replica.provenance import stream_seed
from replica.specs import RiskBedSpec
from replica.theory import deviations, pareto
from replica.theory.scalarizations import drawn_weights
from replica.training.jobs import Job, Result, table_result

# Sample sizes between which sample_size tells no difference, and its largest.
SIZES = np.arange(5, 5001, 5)


def train_risk_bed(spec: RiskBedSpec, job: Job) -> Result:
    """Estimate the risks of a bed from n samples, once a seed; the states are a table.

    Rows of the probe deviations: `max_dev`, `bound`, `violated` by objective; `bound_vc` and
    `bound_rademacher` of the error. sample_size: `needed` samples for the first `n_obj`
    objectives. scalarizations, excess, fronts, points: see `replica.multiobjective.probes`. bad:
    how often a hypothesis that only ties is taken for Pareto-optimal. Each has the names of its
    problem (`share`, `slope`, `m`), `n` and `seed`.
    """
    fixed = np.random.default_rng(stream_seed(job.study, job.run, 0, "bed"))
    rows: list[dict] = []
    found = problems(spec.bed, spec.delta, spec.signs, fixed)
    for problem in found:
        H, N = problem.risks.shape
        weights = drawn_weights(max(spec.scalarizations, spec.minimised), N, fixed)
        optimal = pareto.non_dominated(problem.risks)
        head = {"bed": spec.bed.kind, **problem.names, "n_obj": N, "hypotheses": H}
        for n, seed in itertools.product(spec.n, job.seeds):
            name = f"{problem.names} {N} {n}"
            drawn = _measured(spec, problem, weights, optimal, n, seed, job, name)
            rows += [{**head, "n": n, "seed": seed, **row} for row in drawn]
        if "bad" in spec.probes:
            rows += [{**head, **row} for row in _bad(spec, problem, job)]
    if "sample_size" in spec.probes:
        largest = max(found, key=lambda problem: len(problem.objectives))
        needed = deviations.samples_needed(largest.risks, spec.tolerance, spec.delta, SIZES)
        rows += [
            {"bed": spec.bed.kind, "probe": "sample_size", "n_obj": N, "needed": needed[N - 1],
             "hypotheses": len(largest.risks), "seed": 0, "n": 0}
            for N in sorted({len(problem.objectives) for problem in found})
        ]  # fmt: skip
    return table_result(pd.DataFrame(rows).assign(delta=spec.delta))


def _measured(
    spec: RiskBedSpec,
    problem: Problem,
    weights: NDArray[np.float64],
    optimal: NDArray[np.bool_],
    n: int,
    seed: int,
    job: Job,
    name: str,
) -> list[dict]:
    """The rows of one sample."""
    wanted = set(spec.probes) - {"bad", "sample_size"}
    if not wanted:
        return []
    generator = np.random.default_rng(stream_seed(job.study, job.run, seed, name))
    found = problem.draw(n, generator)
    rows: list[dict] = []
    if "deviations" in wanted:
        for row in probes.deviations(problem.objectives, problem.risks, found):
            more = {"smallest": found.smallest, "complexity": found.complexity}
            rows.append(
                {"probe": "deviations", **row, **more, **_other_bounds(spec, problem, n, found)}
            )
    if "scalarizations" in wanted:
        sizes = [S for S in (1, 10, 100, 1000, 10_000) if S <= spec.scalarizations]
        scalarized = probes.scalarizations(
            problem.risks, found, weights[: spec.scalarizations], sizes
        )
        rows += [{"probe": "scalarizations", **row} for row in scalarized]
    if "excess" in wanted:
        minimised = probes.excess(problem.risks, found, weights[: spec.minimised])
        rows += [{"probe": "excess", **row} for row in minimised]
    if "fronts" in wanted:
        measured, front = probes.fronts(problem.risks, found, optimal)
        rows += [{"probe": "fronts", **row} for row in measured]
        if seed == job.seeds[0] and n in {spec.n[0], spec.n[len(spec.n) // 2], spec.n[-1]}:
            drawn = probes.points(problem.risks, found, optimal, front)
            rows += [{"probe": "points", **row} for row in drawn]
    return rows


def _other_bounds(spec: RiskBedSpec, problem: Problem, n: int, found: probes.Estimates) -> dict:
    """Bounds of the error that do not count hypotheses, and what they are made from."""
    bounds = {"bound_vc": np.nan, "bound_rademacher": np.nan, "smallest": found.smallest}
    N = len(problem.objectives)
    if problem.vc:
        bounds["bound_vc"] = float(deviations.vc(problem.vc, N, n, spec.delta))
    if spec.signs:
        bound = deviations.rademacher(found.complexity, N, n, spec.signs, spec.delta)
        bounds["bound_rademacher"] = float(bound)
    return bounds


def _bad(spec: RiskBedSpec, problem: Problem, job: Job) -> list[dict]:
    """P(bad) of the counterexample, observed in one go for all seeds, and exact (R5)."""
    m, repeats, rows = problem.names["m"], len(job.seeds), []
    for n in spec.n:
        generator = np.random.default_rng(stream_seed(job.study, job.run, 0, f"bad {m} {n}"))
        estimates = generator.binomial(n, 0.5, size=(repeats, m + 1))
        # Objective 2 of h_0 is smaller: it dominates what does not beat it in objective 1.
        bad = (estimates[:, 1:].min(1) < estimates[:, 0]).mean()
        exact = float(deviations.tie_broken_wrongly(n, m))
        rows.append(
            {"probe": "bad", "n": n, "seed": 0, "repeats": repeats, "p_hat": bad,
             "se": np.sqrt(exact * (1 - exact) / repeats), "p_exact": exact,
             "p_limit": m / (m + 1)}
        )  # fmt: skip
    return rows
