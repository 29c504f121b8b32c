"""What `replica run` would do: the jobs by study and rule, without doing anything."""

import os
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from rich.console import Console
from rich.table import Table

from replica.adoption import in_words, unusable
from replica.estimates import SHARED
from replica.plan import Plan, supply
from replica.targets import asked_for

COLUMNS = ["study", "rule", "jobs", "names"]
# Names of runs and figures that a line of the list shows.
NAMED = 3
# In the order in which they run; others come last.
RULES = [
    *["fetch_dataset", "prepare_dataset", "train_run", "train_round", "certify", "measure_run"],
    *["generalization", "generalization_on_gpu", "correlations"],
    *["figure_table", "figure_plot", "claims"],
]


def preview(
    plan: Plan, config: Sequence[str], arguments: Sequence[str], *, slurm: bool
) -> tuple[pd.DataFrame, list[str]]:
    """The jobs that a run would start, and sentences on what it would do besides.

    Nothing is changed: leftovers of an earlier run stay, and nothing is fetched.

    Args:
        plan: with all its runs.
        config, arguments, slurm: as for `replica.launch.launch`.

    Returns:
        A table with the columns `COLUMNS`, `names` the runs, figures or data sets; and sentences.

    Raises:
        RuntimeError: Snakemake refuses, with what it says.
    """
    wrong = unusable(plan, asked_for(["snakemake", *arguments]))
    sentences = in_words(wrong, would=True)
    command = [sys.executable, "-m", "snakemake", "--dry-run", "--nolock"]
    command += ["--profile", "profiles/slurm"] if slurm else []
    # What would be deleted is there still.
    command += [*arguments, *(["--forcerun", *wrong] if wrong else []), "--config", *config]
    # Rich and Snakemake break no lines where they think that nobody reads.
    answer = subprocess.run(
        command, cwd=plan.root, env={**os.environ, "COLUMNS": "1000"}, capture_output=True,
        encoding="utf-8", errors="replace",
    )  # fmt: skip
    if answer.returncode:
        said = [line for line in answer.stderr.splitlines() if line.strip()]
        why = said[-1] if said else f"Snakemake ended with {answer.returncode}."
        raise RuntimeError(why.replace("__main__.py: error:", "Snakemake:"))
    jobs = jobs_in(answer.stdout + answer.stderr)
    return jobs, [*sentences, *data_of(plan, jobs)]


def data_of(plan: Plan, jobs: pd.DataFrame) -> list[str]:
    """What those jobs would fetch and its size, in a sentence; none where that is nothing."""
    fetched = [name for names in jobs.loc[jobs["rule"] == "fetch_dataset", "names"]
               for name in names if plan.registry[name].files]  # fmt: skip
    return [supply.in_words(plan, fetched)] if fetched else []


def jobs_in(text: str) -> pd.DataFrame:
    """The jobs that the output of a dry run lists, by study and rule; columns `COLUMNS`."""
    found: dict[tuple[str, str], list[str]] = {}
    # The jobs of a group are listed below it and indented.
    for block in re.split(r"\n(?= *(?:local)?rule \w+:)", f"\n{text}")[1:]:
        rule = re.search(r"rule (\w+):", block)
        output = re.search(r"^ *output: ([^,\n]+)", block, re.MULTILINE)
        # The rule that asks for everything makes nothing.
        if rule is None or output is None:
            continue
        listed = re.search(r"^ *wildcards: (.*)", block, re.MULTILINE)
        wildcards = dict(re.findall(r"(\w+)=([^,]*)", listed[1] if listed else ""))
        named = [wildcards[w] for w in wildcards if w not in ("scale", "name", "study")]
        name = "/".join(named).removesuffix("/all") or Path(output[1]).stem
        found.setdefault((wildcards.get("study", SHARED), rule[1]), []).append(name)
    rows = [(study, rule, len(names), names) for (study, rule), names in found.items()]
    rows.sort(key=lambda row: (row[0], RULES.index(row[1]) if row[1] in RULES else len(RULES)))
    return pd.DataFrame(rows, columns=COLUMNS)


def print_preview(table: pd.DataFrame, sentences: Sequence[str], console: Console) -> None:
    """The jobs on the terminal, a line a study and rule, and the sentences below."""
    view = Table(header_style="bold", pad_edge=False)
    for heading in ("study", "rule", "jobs", "for example"):
        view.add_column(heading, justify="right" if heading == "jobs" else "left", overflow="fold")
    for study, rule, jobs, unordered in table.itertuples(index=False):
        names = sorted(unordered)
        more = f" and {jobs - NAMED} more" if jobs > NAMED else ""
        view.add_row(study, rule, str(jobs), ", ".join(names[:NAMED]) + more)
    if len(table):
        console.print(view)
    for sentence in sentences:
        console.print(sentence, highlight=False)
    total = int(table["jobs"].sum())
    would = f"{total} job{'s' * (total > 1)} would run; nothing was changed."
    console.print(would if total else "Nothing would run.", highlight=False)
