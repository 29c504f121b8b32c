"""What jobs requested and used, from Snakemake's benchmark files; the progress of a scale."""

from collections.abc import Mapping
from math import isnan
from typing import Any

import pandas as pd
from rich.console import Console
from rich.table import Table

from replica.artifacts import has_key
from replica.plan import Plan

COLUMNS = [
    *["rule", "study", "run", "part", "asked_mb", "used_mb", "asked_minutes", "used_minutes"],
    *["threads", "cpu"],
]
# Below this share of the requested memory or time, a job could request less.
WASTEFUL = 0.1


def efficiency_table(plan: Plan) -> pd.DataFrame:
    """One row a finished training, certification, measuring or generalization job.

    Returns:
        Columns `COLUMNS`: memory in MB and time in minutes, asked for at the first attempt and
        used (largest resident memory, wall time); `cpu` is the share of the threads kept busy.
        Memory and `cpu` are NaN of a job that ended before Snakemake looked at it, within half a
        second.
    """
    jobs = []
    for (study, run, part), job in plan.parts.items():
        asked = plan.resources(job)
        for rule, minutes in [(job.rule, asked["runtime"]), ("measure_run", asked["measuring"])]:
            needs = asked["mem_mb"], minutes, asked["threads"]
            jobs.append((rule, study, run, part, job.stem, needs))
    for study in plan.with_networks():
        for group in plan.network_groups(study):
            cost = plan.generalization_cost(study, group)
            needs = cost.mem_mb, cost.minutes, cost.threads
            jobs.append(("generalization", study, "networks", group, group, needs))
    rows = []
    for rule, study, run, part, stem, (memory, minutes, threads) in jobs:
        path = plan.root / plan.results / f"benchmarks/{rule}/{study}/{stem}.tsv"
        if not path.exists():
            continue
        used = pd.read_csv(path, sep="\t", na_values="-").iloc[-1]
        rows.append(
            {
                "rule": rule,
                "study": study,
                "run": run,
                "part": part,
                "asked_mb": memory,
                "used_mb": used["max_rss"],
                "asked_minutes": minutes,
                "used_minutes": used["s"] / 60,
                "threads": threads,
                "cpu": used["mean_load"] / 100 / threads,
            }
        )
    return pd.DataFrame(rows, columns=COLUMNS)


def print_efficiency(table: pd.DataFrame, console: Console) -> None:
    """The table on the terminal, slowest first; jobs that requested far too much are marked."""
    view = Table(header_style="bold", pad_edge=False)
    for heading in ("job", "memory: used / requested (MB)", "time: used / requested (min)", "CPU"):
        view.add_column(heading, justify="left" if heading == "job" else "right")
    row: Any
    for row in table.sort_values("used_minutes", ascending=False).itertuples():
        mark = " ⇣" if row.used_minutes < WASTEFUL * row.asked_minutes else ""
        view.add_row(
            f"{row.rule} {row.study}/{row.run}/{row.part}",
            f"{'?' if isnan(row.used_mb) else f'{row.used_mb:.0f}'} / {row.asked_mb}",
            f"{row.used_minutes:.1f} / {row.asked_minutes}{mark}",
            "?" if isnan(row.cpu) else f"{row.cpu:.0%}",
        )
    console.print(view)
    console.print(f"{len(table)} jobs; ⇣ used less than a tenth of the requested time")
    if table["used_mb"].isna().any():
        console.print("? ended before its memory was measured")


def current_jobs(plan: Plan) -> dict[tuple[str, str, str], bool | None]:
    """The progress of each job, from the stamps of its files.

    Returns:
        (study, rule, name), as in `estimates.job_table`, -> True where its files carry the keys
        of the plan, False where a file is there that does not, None where nothing is there.
    """
    keys, files = plan.artifacts(), _files(plan)
    for (study, rule, name), (path, *_) in files.items():
        if rule == "figure_plot":
            keys[path] = plan.key("plot", study, name)
    found: dict[tuple[str, str, str], bool | None] = {}
    for job, paths in files.items():
        there = [path for path in paths if (plan.root / path).exists()]
        current = all(has_key(plan.root / path, keys[path]) for path in there)
        found[job] = None if not there else len(there) == len(paths) and current
    return found


def _files(plan: Plan) -> dict[tuple[str, str, str], list[str]]:
    """The stamped or marked files of each job."""
    files: dict[tuple[str, str, str], list[str]] = {}
    for part in plan.parts.values():
        files[part.study, part.rule, part.stem] = [*plan.outputs(part).values()]
        if plan.measured(part):
            files[part.study, "measure_run", part.stem] = [plan.measures(part)]
    for study in plan.studies:
        for figure in plan.studies[study].figures:
            stem = f"{plan.results}/{study}/figures/{figure}"
            files[study, "figure_table", figure] = [f"{stem}.parquet"]
            files[study, "figure_plot", figure] = [f"{stem}.svg"]
        files[study, "claims", study] = [f"{plan.results}/{study}/claims.parquet"]
        for group in plan.network_groups(study):
            table = f"{plan.results}/{study}/generalization/{group}.parquet"
            files[study, "generalization", group] = [table]
    return files


def progress_table(
    plan: Plan, jobs: Mapping[tuple[str, str, str], bool | None] | None = None
) -> pd.DataFrame:
    """One row a study: how many trainings (and certifications), measures and figures are current.

    Args:
        jobs: from `current_jobs`, if they are already known.

    Returns:
        Columns study, runs_made, runs, measured, to_measure, drawn, figures, and out_of_date, which
        counts files with another key than that of the plan, or damaged.
    """
    jobs = current_jobs(plan) if jobs is None else jobs
    rows = []
    for study in plan.studies:
        row: dict[str, Any] = {"study": study}
        for (made, of), rules in [
            (("runs_made", "runs"), ("train_run", "train_round", "certify")),
            (("measured", "to_measure"), ("measure_run",)),
            (("drawn", "figures"), ("figure_plot",)),
        ]:
            states = [state for (s, rule, _), state in jobs.items() if s == study and rule in rules]
            row |= {made: sum(state is True for state in states), of: len(states)}
        row["out_of_date"] = sum(
            state is False for (slug, _, _), state in jobs.items() if slug == study
        )
        rows.append(row)
    return pd.DataFrame(rows)


def progress_lines(
    plan: Plan, jobs: Mapping[tuple[str, str, str], bool | None] | None = None
) -> list[str]:
    """The rows of `progress_table` as sentences."""
    lines = []
    row: Any
    for row in progress_table(plan, jobs).itertuples():
        outdated = f"; {row.out_of_date} files out of date or damaged" if row.out_of_date else ""
        lines.append(
            f"{row.study}: {row.runs_made} of {row.runs} runs made, {row.measured} of "
            f"{row.to_measure} measured, {row.drawn} of {row.figures} figures drawn{outdated}"
        )
    return lines
