"""The command: run the checks, print each result as it comes, write the table."""

import os
import platform
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from replica import artifacts, provenance
from replica.gpu_check.checks import CHECKS, NOT_RUN, WRONG, Row, Setup, parts_for, perform
from replica.gpu_check.processes import FAILED, NO_TIME, results
from replica.training.devices import VISIBLE

COLUMNS = ["check", "case", "quantity", "value", "unit", "limit", "verdict", "words", "seconds"]
# Seconds that one part may take: a process imports, prepares and compiles in it.
LONGEST = 180.0
OLDEST_TORCH = (2, 11)


class NoGpu(RuntimeError):
    """There is nothing to check."""


def run(data: Path, out: Path, minutes: float, on: str) -> int:
    """Check the GPU of this machine; the status is 1 where something is wrong.

    Args:
        data: folder of prepared data sets; embedded ones are prepared there.
        out: folder of the table, as Parquet and as Markdown.
        minutes: time for all.
        on: cuda, or cpu for a rehearsal without a GPU.

    Raises:
        NoGpu: there is no GPU, or torch is too old.
    """
    began = time.monotonic()
    facts = facts_of(on)
    # Of the processes that start from now on. They are to meet on one GPU; in a rehearsal, small
    # work on several threads is slower than on one.
    os.environ |= {VISIBLE: first_gpu()} if on == "cuda" else {"OMP_NUM_THREADS": "1"}
    print(", ".join(f"{name} {value}" for name, value in facts.items()), flush=True)
    rows = []
    with tempfile.TemporaryDirectory(prefix="replica-gpu-") as folder:
        setup = Setup(provenance.LIBRARY.parents[1], data.absolute(), Path(folder), on)
        for row in checked(setup, began + 60 * minutes):
            print(sentence(row), flush=True)
            rows.append(row)
    table = pd.DataFrame(rows, columns=COLUMNS)
    stamp = provenance.begin(
        spec=facts, key="gpu", code="", seeds=[], device=facts["device"]
    ).finish(wall_seconds=round(time.monotonic() - began, 1))
    name = "".join(c if c.isalnum() else "-" for c in facts["device"].lower()).strip("-")
    artifacts.write_table(out / f"{name}.parquet", table, stamp)
    artifacts.write_bytes(out / f"{name}.md", page(table, facts).encode())
    print(summary(table), f"The table: {out / name}.parquet and .md", sep="\n")
    return int(table["verdict"].isin([WRONG, FAILED]).any())


def checked(setup: Setup, deadline: float) -> Iterator[Row]:
    """The rows of all checks, until there is no time left."""
    parts = parts_for(setup)
    for part, status, found, seconds in results(perform, setup, parts, deadline, LONGEST):
        number, name = part
        common = {"check": CHECKS[number].title, "case": name, "seconds": round(seconds, 1)}
        if status in (FAILED, NO_TIME):
            yield common | _without_a_number(status, found)
        else:
            yield from (common | row for row in found)


def _without_a_number(status: str, words: str) -> Row:
    verdict = FAILED if status == FAILED else NOT_RUN
    return {"quantity": "", "value": float("nan"), "unit": "", "limit": float("nan"),
            "verdict": verdict, "words": words}  # fmt: skip


def facts_of(on: str) -> dict[str, str]:
    """What is checked: the device, its driver, torch, CUDA, the commit, the day.

    Raises:
        NoGpu: there is no GPU, or torch is too old.
    """
    version = tuple(int(part) for part in torch.__version__.split(".")[:2])
    if version < OLDEST_TORCH:
        raise NoGpu(f"torch {torch.__version__} is too old: install torch 2.11 or newer.")
    device, driver = f"rehearsal on {platform.machine()}", "none"
    if on == "cuda":
        if not torch.cuda.is_available():
            raise NoGpu(
                f"torch {torch.__version__} finds no GPU here, so there is nothing to check: run "
                "this on a machine with one, with a torch built for CUDA."
            )
        device, driver = torch.cuda.get_device_name(0), _driver()
    return {
        "device": device,
        "driver": driver,
        "torch": torch.__version__,
        "cuda": str(torch.version.cuda),
        "commit": provenance.git_commit(),
        "day": datetime.now(UTC).date().isoformat(),
    }


def first_gpu() -> str:
    """The first one that this process sees, as CUDA names it."""
    return os.environ.get(VISIBLE, "0").partition(",")[0]


def _driver() -> str:
    if shutil.which("nvidia-smi") is None:
        return "unknown"
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    said = subprocess.run(command, capture_output=True, encoding="utf-8").stdout.split()
    return said[0] if said else "unknown"


def number(row: Mapping[Any, Any]) -> str:
    """The value of a row with its unit, and its limit."""
    if pd.isna(row["value"]):
        return ""
    if row["unit"] == "yes or no":
        return "yes" if row["value"] else "no"
    limit = "" if pd.isna(row["limit"]) else f" (at most {row['limit']:g})"
    return f"{row['value']:.4g} {row['unit']}".removesuffix(" 1") + limit


def sentence(row: Row) -> str:
    """A row on the terminal."""
    parts = [row[name] for name in ("check", "case", "quantity") if row[name]]
    said = [part for part in (number(row), row.get("words")) if part]
    return f"{row['verdict']:8}{': '.join(parts)}: {'; '.join(said)}"


def summary(table: pd.DataFrame) -> str:
    """How many results there are of each verdict."""
    counts = table["verdict"].value_counts()
    said = ", ".join(f"{count} {verdict}" for verdict, count in counts.items())
    return f"{len(table)} results: {said}."


def page(table: pd.DataFrame, facts: dict[str, str]) -> str:
    """The table in Markdown, under the facts."""
    lines = [f"# {facts['device']}", "", *(f"- {name}: {value}" for name, value in facts.items())]
    lines += ["", summary(table), ""]
    headings = ("check", "case", "quantity", "value", "verdict", "")
    for cells in (headings, ["---"] * len(headings)):
        lines.append(f"| {' | '.join(cells)} |")
    for row in table.to_dict("records"):
        words = row["words"] if isinstance(row["words"], str) else ""
        cells = (row["check"], row["case"], row["quantity"], number(row), row["verdict"], words)
        lines.append(f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |")
    return "\n".join([*lines, ""])
