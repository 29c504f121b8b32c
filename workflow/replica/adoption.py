"""Which results are intact and current; and file times in the order in which results were made."""

import base64
import multiprocessing
import os
import signal
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from pathlib import Path

from replica import artifacts, store
from replica.data.prepare import verify
from replica.data.registry import card_path
from replica.plan import Plan

DAMAGED, OTHERWISE = "damaged", "made by other code or other settings"
# Files from elsewhere that a sentence names.
NAMED = 3


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
                    wrong[name] = DAMAGED
                elif key != keys[name]:
                    wrong[name] = OTHERWISE
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return wrong | _old_drawings(plan) | damaged_data(plan)


def _old_drawings(plan: Plan) -> dict[str, str]:
    """Drawings by other code, or of other data: path -> why."""
    wrong = {}
    for study in plan.studies:
        for figure in plan.studies[study].figures:
            for ending in ("svg", "pdf"):
                name = f"{plan.results}/{study}/figures/{figure}.{ending}"
                path, key = plan.root / name, plan.key("plot", study, figure)
                if path.exists() and not artifacts.has_key(path, key):
                    wrong[name] = OTHERWISE
    return wrong


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
    """Cards of the plan's data sets that do not match their arrays: path -> why.

    Raises:
        OSError: an array may not be read.
    """
    wrong = {}
    for name in sorted({name for part in plan.parts.values() for name in part.datasets}):
        card = plan.root / card_path(plan.config.data_dir, name)
        if not card.exists():
            continue
        for array in card.parent.glob("*.npy"):
            # One that may not be read is not damaged: the error says so.
            array.open("rb").close()
        try:
            verify(card)
        except (artifacts.CorruptArtifact, ValueError, KeyError):
            wrong[os.path.relpath(card, plan.root)] = DAMAGED
    return wrong


def unusable(plan: Plan, asked: Sequence[str] = ()) -> dict[str, str]:
    """What is deleted before a run: path -> why.

    That is what is damaged, and what came from elsewhere and is not current: of files that it did
    not make Snakemake has no notes, and would take them for what they are called. What is wrong in
    a study of which nothing is asked for waits: once deleted it would not be missed.

    Args:
        asked: the targets; none are all.
    """
    known = noted(plan.root / ".snakemake/metadata")
    named = {_study(plan, target) for target in asked} or {None}
    found = not_current(plan).items()
    wrong = {name: why for name, why in found if why == DAMAGED or name not in known}
    if None in named:
        return wrong
    return {name: why for name, why in wrong.items() if _study(plan, name) in {None, *named}}


def _study(plan: Plan, target: str) -> str | None:
    """The study of a file of results, or that is a target; None for what belongs to several."""
    parts = Path(target).parts
    study = parts[2] if len(parts) > 2 else target
    return study if study in plan.studies else None


def noted(folder: Path) -> set[str]:
    """The files that Snakemake has a note of in one of its folders; it names notes in base64."""
    names = set()
    for path in folder.rglob("*"):
        if path.is_file() and path.name != "migration_underway":
            # Long names are spread over folders.
            code = "".join(x.removeprefix("@") for x in path.relative_to(folder).parts)
            with suppress(ValueError):
                names.add(base64.urlsafe_b64decode(code).decode())
    return names


def are_all_noted(plan: Plan) -> bool:
    """Whether Snakemake has a note of every artifact of a plan that is there."""
    known = noted(plan.root / ".snakemake/metadata")
    return all(name in known for name in plan.artifacts() if (plan.root / name).exists())


def delete_unusable(plan: Plan, asked: Sequence[str] = ()) -> list[str]:
    """Delete what is `unusable` and say so; returns the damaged files, to be rebuilt."""
    return _delete(plan, unusable(plan, asked))


def _delete(plan: Plan, wrong: Mapping[str, str]) -> list[str]:
    for name in wrong:
        artifacts.remove(plan.root / name)
    for sentence in in_words(wrong):
        print(sentence, flush=True)
    return [name for name, why in wrong.items() if why == DAMAGED]


def in_words(wrong: Mapping[str, str], *, would: bool = False) -> list[str]:
    """Sentences on files that are deleted, or would be, and why."""
    damaged = "it would be deleted" if would else "deleted; it will be rebuilt"
    found = [f"{name} is {why}: {damaged}." for name, why in wrong.items() if why == DAMAGED]
    if others := [name for name, why in wrong.items() if why != DAMAGED]:
        more = f" and {len(others) - NAMED} more" if len(others) > NAMED else ""
        found.append(
            f"Made elsewhere, by other code or other settings: {', '.join(others[:NAMED])}{more}; "
            f"{'they would be deleted' if would else 'deleted'}. "
            f"States stay in {store.FOLDER}, where the file system has hard links."
        )
    return found


def adopt(plan: Plan) -> None:
    """Make results from elsewhere usable: delete what is not current, and put the rest in order."""
    _delete(plan, not_current(plan))
    put_in_order(plan)


def put_in_order(plan: Plan) -> None:
    """Give results file times in the order in which they are made; delete an old front page.

    Of files without its own notes Snakemake has these times only.
    """
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
