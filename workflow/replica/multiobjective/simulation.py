"""Repeated estimates of the risks of a synthetic problem, and what is measured of each."""

import itertools

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from replica.kinds.multiobjective import SyntheticRisksSpec
from replica.multiobjective import probes
from replica.multiobjective.problems import Problem, problems
from replica.multiobjective.samples import Estimates
from replica.progress import progress
from replica.provenance import stream_seed
from replica.tables import packed, unpacked
from replica.theory import deviations, pareto
from replica.theory.scalarizations import drawn_weights
from replica.training.jobs import Job, Result, table_result

# Sample sizes between which sample_size tells no difference, and its largest.
SIZES = np.arange(5, 5001, 5)


def train_synthetic_risks(spec: SyntheticRisksSpec, job: Job) -> Result:
    """Estimate the risks of a problem from n samples, once a seed; the states are a table.

    Rows of the probe deviations: `max_dev`, `bound`, `violated` and `n_min_group` by objective,
    `bound_vc` and `bound_rademacher` of the error. sample_size: `needed` samples for the first
    `n_obj` objectives. scalarizations, excess, fronts, points: see
    `replica.multiobjective.probes`. bad: how often a hypothesis that only ties is taken for
    Pareto-optimal. Each has the names of its problem (`share`, `slope`, `m`), `n` and `seed`.
    """
    # Under another name than "bed" a stream would draw other problems.
    fixed = np.random.default_rng(stream_seed(job.study, job.run, 0, "bed"))
    found = problems(spec.problem, spec.delta, spec.signs, fixed)
    most = max(spec.scalarizations, spec.minimised)
    tasks = []
    for problem in found:
        weights = drawn_weights(most, problem.risks.shape[1], fixed)
        optimal = pareto.non_dominated(problem.risks)
        tasks += [
            (problem, weights, optimal, n, seed)
            for n, seed in itertools.product(spec.n, job.seeds)
            if set(spec.probes) - {"bad", "sample_size"}
        ]
    rows = _sampled(spec, job, tasks)
    if "bad" in spec.probes:
        for problem in found:
            rows += [{**_head(spec, problem), **row} for row in _bad(spec, problem, job)]
    if "sample_size" in spec.probes:
        rows += _sample_size(spec, job)
    return table_result(pd.DataFrame(rows).assign(delta=spec.delta))


def _head(spec: SyntheticRisksSpec, problem: Problem) -> dict:
    """The columns that identify a problem."""
    H, N = problem.risks.shape
    return {"problem": spec.problem.kind, **problem.names, "n_obj": N, "hypotheses": H}


def _sampled(spec: SyntheticRisksSpec, job: Job, tasks: list[tuple]) -> list[dict]:
    """The rows of all samples; finished ones are saved on the way, and resumed from."""
    rows: list[dict] = []
    done = 0
    if (saved := job.checkpoint.load()) is not None:
        done = int(saved.pop("done"))
        rows = unpacked({name: v.numpy() for name, v in saved.items()}).to_dict("records")

    def state() -> dict[str, Tensor]:
        kept = {name: torch.from_numpy(v) for name, v in packed(pd.DataFrame(rows)).items()}
        return kept | {"done": torch.tensor(done)}

    name = f"{job.study} {job.run}"
    with job.checkpoint.catching_sigterm(), progress(name, len(tasks), done) as tick:
        for problem, weights, optimal, n, seed in tasks[done:]:
            head = {**_head(spec, problem), "n": n, "seed": seed}
            drawn = _measured(spec, problem, weights, optimal, n, seed, job)
            rows += [{**head, **row} for row in drawn]
            done += 1
            tick(done, lambda: "samples")
            if job.checkpoint.due():
                job.checkpoint.save(state)
    return rows


def _sample_size(spec: SyntheticRisksSpec, job: Job) -> list[dict]:
    """The samples that the first N objectives need, exact, of several draws of the problem.

    The first draw (seed 0) is the problem of all other probes.
    """
    rows = []
    for draw in range(spec.draws):
        generator = np.random.default_rng(stream_seed(job.study, job.run, draw, "bed"))
        found = problems(spec.problem, spec.delta, spec.signs, generator)
        largest = max(found, key=lambda problem: len(problem.objectives))
        needed = deviations.samples_needed(largest.risks, spec.tolerance, spec.delta, SIZES)
        rows += [
            {"probe": "sample_size", **_head(spec, problem), "n": 0, "seed": draw,
             "tolerance": spec.tolerance, "needed": needed[len(problem.objectives) - 1]}
            for problem in found
        ]  # fmt: skip
    return rows


def _measured(
    spec: SyntheticRisksSpec,
    problem: Problem,
    weights: NDArray[np.float64],
    optimal: NDArray[np.bool_],
    n: int,
    seed: int,
    job: Job,
) -> list[dict]:
    """The rows of one sample."""
    wanted = set(spec.probes)
    name = f"{problem.names} {len(problem.objectives)} {n}"
    generator = np.random.default_rng(stream_seed(job.study, job.run, seed, name))
    found = problem.draw(n, generator)
    rows: list[dict] = []
    if "deviations" in wanted:
        measured = probes.deviations(problem.objectives, problem.risks, found)
        others = _bounds_of_error(spec, problem, n, found)
        rows += [
            {"probe": "deviations", **row, **(others if row["objective"] == "error" else {})}
            for row in measured
        ]
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


def _bounds_of_error(spec: SyntheticRisksSpec, problem: Problem, n: int, found: Estimates) -> dict:
    """Bounds of the error that do not count hypotheses."""
    bounds, N = {}, len(problem.objectives)
    if problem.vc:
        bounds["bound_vc"] = float(deviations.vc(problem.vc, N, n, spec.delta))
    if spec.signs:
        bound = deviations.rademacher(found.complexity, N, n, spec.signs, spec.delta)
        bounds["bound_rademacher"] = float(bound)
    return bounds


def _bad(spec: SyntheticRisksSpec, problem: Problem, job: Job) -> list[dict]:
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
