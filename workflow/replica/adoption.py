"""Which results are intact and current; and file times in the order in which results were made."""

import multiprocessing
import os
import signal
import time
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress

from replica import artifacts
from replica.data.prepare import verify
from replica.data.registry import card_path
from replica.plan import Plan


def not_current(plan: Plan) -> dict[str, str]:
    """Artifacts that exist and are damaged, or carry another key than the plan's: path -> why."""
    keys = plan.artifacts()
    there = [name for name in keys if (plan.root / name).exists()]
    wrong = {}
    # Forks, and not threads: half of the work is pandas' own.
    context = multiprocessing.get_context("fork")
    with ProcessPoolExecutor(mp_context=context, initializer=_leave_signals) as pool:
        found = pool.map(artifacts.whole_key, [plan.root / name for name in there], chunksize=8)
        try:
            for name, key in zip(there, found, strict=True):
                if key is None:
                    wrong[name] = "damaged"
                elif key != keys[name]:
                    wrong[name] = "made by other code or other settings"
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return wrong | damaged_data(plan)


def _leave_signals() -> None:
    """Ctrl-C reaches the forks too; the process that they belong to ends them."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


def current_figures(plan: Plan) -> list[tuple[str, str]]:
    """(study, figure) of every figure whose table is current and that is drawn."""
    found = []
    for study in plan.studies:
        for figure in plan.studies[study].figures:
            stem = plan.root / f"{plan.results}/{study}/figures/{figure}"
            if artifacts.has_key(
                stem.with_suffix(".parquet"), plan.key("table", study, figure)
            ) and artifacts.has_key(stem.with_suffix(".svg"), plan.key("plot", study, figure)):
                found.append((study, figure))
    return found


def current_correlations(plan: Plan) -> list[str]:
    """The table of all trained networks and its page, where they are current."""
    files = [f"{plan.results}/generalization.{ending}" for ending in ("parquet", "html")]
    key = plan.artifacts().get(files[0])
    return files if all(artifacts.has_key(plan.root / file, key) for file in files) else []


def damaged_data(plan: Plan) -> dict[str, str]:
    """Cards of the plan's data sets that do not match their arrays: path -> why."""
    wrong = {}
    for name in sorted({name for part in plan.parts.values() for name in part.datasets}):
        card = plan.root / card_path(plan.config.data_dir, name)
        if not card.exists():
            continue
        try:
            verify(card)
        except (artifacts.CorruptArtifact, ValueError, KeyError):
            wrong[os.path.relpath(card, plan.root)] = "damaged"
    return wrong


def delete_damaged(plan: Plan) -> list[str]:
    """Delete what is damaged and say so; returns the paths, to be rebuilt."""
    damaged = [name for name, reason in not_current(plan).items() if reason == "damaged"]
    for name in damaged:
        artifacts.remove(plan.root / name)
        print(f"{name} is damaged: deleted; it will be rebuilt.", flush=True)
    return damaged


def adopt(plan: Plan) -> None:
    """Make results from elsewhere usable: delete what is not current, order the file times.

    Without its own notes Snakemake has file times only: order them as the files were made.
    """
    for name, reason in not_current(plan).items():
        artifacts.remove(plan.root / name)
        print(f"{name}: {reason}, deleted", flush=True)
    front = plan.root / plan.results / "index.html"
    if front.exists() and not artifacts.has_key(front, plan.key("pages")):
        # Pages are made anew in seconds; without the front page Snakemake knows that they must be.
        artifacts.remove(front)
    data, results = plan.root / plan.config.data_dir, plan.root / plan.results
    stages = [data.glob("raw/*/receipt.json"), data.glob("prepared/*/card.json")]
    patterns = ["*/runs/**/*.*", "*/counts/**/*.*", "*/measures/**/*.*"]
    patterns += [
        "*/figures/*.parquet",
        "*/figures/*.svg",
        "*/figures/*.pdf",
        "*/claims.parquet",
        "scorecard.*",
        "*/generalization/*.parquet",
        "generalization.*",
        "*/figures/*.csv",
        "*/index.html",
        "vega.js",
        "index.html",
    ]
    stages += [results.glob(pattern) for pattern in patterns]
    # To Snakemake a benchmark is an output like any other.
    stages.append(results.parent.glob("**/benchmarks/**/*.tsv"))
    started = time.time() - len(stages)
    for position, paths in enumerate(stages):
        for path in paths:
            # Data sets may be a colleague's: older than what is made from them they are anyway.
            with suppress(OSError):
                os.utime(path, (started + position, started + position))
