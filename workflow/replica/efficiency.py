"""What jobs asked for and what they used, from Snakemake's benchmark files; how far a scale is."""

import pandas as pd
from rich.console import Console
from rich.table import Table

from replica.plan import Plan

COLUMNS = [
    *["rule", "study", "run", "part", "asked_mb", "used_mb", "asked_minutes", "used_minutes"],
    *["threads", "cpu"],
]
# Below this share of the memory or time asked for, a job could ask for less.
WASTEFUL = 0.1


def efficiency_table(plan: Plan) -> pd.DataFrame:
    """One row a finished training, certification, measuring or generalization job.

    Returns:
        Columns `COLUMNS`: memory in MB and time in minutes, asked for at the first attempt and
        used (largest resident memory, wall time); `cpu` is the share of the threads kept busy.
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
    """The table on the terminal, slowest first; what asked for far too much is marked."""
    view = Table(header_style="bold", pad_edge=False)
    for heading in ("job", "memory: used / asked (MB)", "time: used / asked (min)", "CPU"):
        view.add_column(heading, justify="left" if heading == "job" else "right")
    for row in table.sort_values("used_minutes", ascending=False).itertuples():
        mark = " ⇣" if row.used_minutes < WASTEFUL * row.asked_minutes else ""
        view.add_row(
            f"{row.rule} {row.study}/{row.run}/{row.part}",
            f"{row.used_mb:.0f} / {row.asked_mb}",
            f"{row.used_minutes:.1f} / {row.asked_minutes}{mark}",
            f"{row.cpu:.0%}",
        )
    console.print(view)
    console.print(f"{len(table)} jobs; ⇣ used less than a tenth of the time asked for")


def progress_lines(plan: Plan) -> list[str]:
    """Per study: how many trainings (and certifications), measures and figures exist."""
    lines = []
    for study in plan.studies:
        jobs = [job for (slug, _, _), job in plan.parts.items() if slug == study]
        base = plan.root / plan.results / study
        made = sum((base / job.states).exists() for job in jobs)
        measures = [base / f"measures/{job.stem}.parquet" for job in jobs if plan.measured(job)]
        measured = sum(path.exists() for path in measures)
        figures = plan.studies[study].figures
        drawn = sum((base / f"figures/{figure}.svg").exists() for figure in figures)
        lines.append(
            f"{study}: {made} of {len(jobs)} runs made, {measured} of {len(measures)} "
            f"measured, {drawn} of {len(figures)} figures drawn"
        )
    return lines
