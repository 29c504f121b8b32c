"""Every benchmark with one command: one table, two figures.

    python benchmarks/bench.py [threads]      all of them (make bench)
    python benchmarks/certification.py 1      one of them, its table on the terminal

Each benchmark has a function `rows(device, threads)` whose rows come from `row`. They run on the
GPU where there is one, each in a process of its own: one that fails leaves the others alone.
"""

import importlib
import math
import multiprocessing
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from rich.console import Console
from rich.table import Table
from torch.utils.flop_counter import FlopCounterMode

from replica import artifacts, costs, estimates, provenance
from replica.training import jobs

ROOT = Path(__file__).resolve().parents[1]
NAMES = ["ensemble", "residual", "attention", "low_data", "certification", "deep_rfm", "pareto",
         "scaling"]  # fmt: skip
COLUMNS = ["benchmark", "case", "quantity", "value", "unit", "size", "device", "threads"]
# Quantities that the figures read.
SPEED, SHARE, FAILED = "speed over the reference", "share of the matmul rate", "failed"
CPU = torch.device("cpu")
# Side of the matrices, and how often they are multiplied.
MATMUL = {"cpu": (1024, 10), "cuda": (8192, 20)}


def row(
    case: str, quantity: str, value: float, unit: str, *,
    size: float = math.nan, device: torch.device | None = None,
) -> dict[str, object]:  # fmt: skip
    """One number.

    Args:
        case: what was computed.
        quantity: what was measured, such as `time`.
        value, unit: the number and its unit, "1" for a ratio.
        size: of the problem, where its scaling is measured.
        device: where it is not that of the benchmark.
    """
    own = {} if device is None else {"device": device_name(device)}
    found = {"case": case, "quantity": quantity, "value": float(value), "unit": unit}
    return found | {"size": float(size)} | own


def unit_of_work(work: costs.Work, seconds: float) -> dict[str, object]:
    """What `replica.estimates` reads: the time of a unit of a kind of work.

    Args:
        work: what `replica.costs` makes of the specification that was run.
        seconds: what it took; without a GPU on one core, as the jobs of a plan run.
    """
    return row(work.kind, estimates.UNIT_OF_WORK, seconds / work.amount, "s") | {"threads": 1}


def speed(case: str, reference: str, ratios: list[float]) -> dict[str, object]:
    """How many times as fast as a reference, from pairs that were measured one after the other."""
    return row(f"{case}, against {reference}", SPEED, statistics.median(ratios), "1")


# --------------------------------------------------------------------------------------
# Clocks, devices, rates


def this_device() -> torch.device:
    """The GPU where there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def device_name(device: torch.device) -> str:
    """The name of the hardware."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{next(iter(names), platform.machine())}, {os.cpu_count()} cores"


def clock(device: torch.device) -> float:
    """The time in seconds when the device has done its work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def seconds_of(work: Callable[[], object], device: torch.device, turns: int = 3) -> float:
    """The median time of some calls."""
    times = []
    for _ in range(turns):
        began = clock(device)
        work()
        times.append(clock(device) - began)
    return statistics.median(times)


@contextmanager
def on_threads(count: int) -> Iterator[None]:
    """A block in which torch uses so many threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def peak_mib(device: torch.device) -> float:
    """Largest memory so far in MiB: allocated on a GPU, else resident of this process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    # Unlike ru_maxrss this begins anew with the program: nothing is left of who started it.
    status = Path("/proc/self/status")
    lines = status.read_text(encoding="utf-8").splitlines() if status.exists() else []
    peaks = [int(line.split()[1]) / 2**10 for line in lines if line.startswith("VmHWM")]
    return peaks[0] if peaks else provenance.peak_memory_mib()


def flops_of(work: Callable[[], object]) -> int:
    """Floating-point operations of the matrix products and convolutions of a call, and of its
    backward pass where it makes one; a product counts as two.
    """
    with FlopCounterMode(display=False) as counter:
        work()
    return counter.get_total_flops()


def matmul_rate(precision: str, device: torch.device) -> float:
    """Measured FLOP/s of a square matrix product, the best of five.

    Args:
        precision: float32, tf32 (float32 in the tensor cores of a GPU), bfloat16 or float64.
        device: where.
    """
    n, products = MATMUL[device.type]
    dtype = torch.float32 if precision == "tf32" else getattr(torch, precision)
    a = torch.randn(n, n, device=device).to(dtype)
    out = torch.empty_like(a)
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high" if precision == "tf32" else "highest")
    try:
        torch.mm(a, a, out=out)
        times = []
        for _ in range(5):
            began = clock(device)
            for _ in range(products):
                torch.mm(a, a, out=out)
            times.append(clock(device) - began)
    finally:
        torch.set_float32_matmul_precision(before)
    return 2 * n**3 * products / min(times)


def precision_of(model: torch.nn.Module, mixed: bool, device: torch.device) -> str:
    """What the products of a model are computed in, as torch has it by default."""
    if mixed:
        return "bfloat16"
    convolves = any(isinstance(module, torch.nn.Conv2d) for module in model.modules())
    on_tensor_cores = device.type == "cuda" and convolves and torch.backends.cudnn.allow_tf32
    return "tf32" if on_tensor_cores else "float32"


def utilisation(
    case: str, images_per_second: float, flops_per_image: float, precision: str,
    device: torch.device,
) -> list[dict[str, object]]:  # fmt: skip
    """What a network achieves of the rate of plain matrix products in the same precision."""
    achieved, rate = images_per_second * flops_per_image, matmul_rate(precision, device)
    return [
        row(case, "images per second", images_per_second, "1/s"),
        row(case, "achieved", achieved, "FLOP/s"),
        row(case, f"matmul rate, {precision}", rate, "FLOP/s"),
        row(case, SHARE, achieved / rate, "1"),
    ]


def power_law(x: Iterable[float], y: Iterable[float]) -> tuple[float, float]:
    """(a, p) of a xᵖ by least squares in the logarithms; what is not positive is left out.

    Raises:
        ValueError: fewer than two points are left.
    """
    x, y = np.asarray(list(x), dtype=float), np.asarray(list(y), dtype=float)
    kept = (x > 0) & (y > 0)
    if kept.sum() < 2:
        raise ValueError("A power law needs two points at which both numbers are positive.")
    p, log_a = np.polyfit(np.log(x[kept]), np.log(y[kept]), 1)
    return float(np.exp(log_a)), float(p)


# --------------------------------------------------------------------------------------
# One benchmark, and all


def measured(name: str, threads: int) -> pd.DataFrame:
    """The table of one benchmark, run in this process: columns `COLUMNS`."""
    device = this_device()
    torch.set_num_threads(threads)
    found = list(importlib.import_module(name).rows(device, threads))
    common = {"benchmark": name, "device": device_name(device), "threads": threads}
    return pd.DataFrame([common | each for each in found], columns=COLUMNS)


def in_a_process(function: Callable[..., object], *arguments: object) -> object:
    """The result of a call in a fresh process.

    Raises:
        Exception: what the call raised; BrokenProcessPool where the process was killed.
    """
    context = multiprocessing.get_context("spawn")
    # Memory is kept as a job keeps it; without, the same step takes up to half as long again.
    with ProcessPoolExecutor(
        max_workers=1, mp_context=context, initializer=jobs.keep_freed_memory
    ) as pool:
        return pool.submit(function, *arguments).result()


def measured_or_failed(
    name: str, threads: int, measure: Callable[[str, int], pd.DataFrame] = measured
) -> pd.DataFrame:
    """The same in a fresh process; where it fails, one row whose case says why."""
    try:
        return in_a_process(measure, name, threads)
    except Exception as error:
        reason = row(f"{type(error).__name__}: {error}", FAILED, math.nan, "")
        device = device_name(this_device())
        common = {"benchmark": name, "device": device, "threads": threads}
        return pd.DataFrame([common | reason], columns=COLUMNS)


def print_rows(table: pd.DataFrame, console: Console) -> None:
    """The rows of one benchmark on the terminal."""
    name, device, threads = table[["benchmark", "device", "threads"]].iloc[0]
    view = Table(
        title=f"{name} ({device}; threads: {threads})", header_style="bold", pad_edge=False
    )
    for heading in ("case", "size", "quantity", "value", "unit"):
        view.add_column(heading, justify="right" if heading in ("size", "value") else "left")
    for each in table.itertuples():
        size = "" if math.isnan(each.size) else f"{each.size:,.0f}"
        view.add_row(each.case, size, each.quantity, f"{each.value:.4g}", each.unit)
    console.print(view)


def terminal() -> Console:
    """A console that is wide enough also where there is no terminal."""
    console = Console()
    return console if console.is_terminal else Console(width=130)


def alone(file: str) -> None:
    """The command line of one benchmark: `python benchmarks/<name>.py [threads]`."""
    threads = int(sys.argv[1]) if len(sys.argv) > 1 else os.cpu_count()
    print_rows(in_a_process(measured, Path(file).stem, threads), terminal())


def main() -> int:
    """Run all, write table and figures; returns 1 where a benchmark failed."""
    threads, console = int(sys.argv[1]) if len(sys.argv) > 1 else os.cpu_count(), terminal()
    stamp = provenance.begin(
        spec={"benchmarks": NAMES, "threads": threads},
        key="benchmarks",
        code="",
        seeds=[],
        device=device_name(this_device()),
    )
    tables = []
    for name in NAMES:
        began = time.perf_counter()
        tables.append(measured_or_failed(name, threads))
        print_rows(tables[-1], console)
        console.print(f"{time.perf_counter() - began:.0f} s", highlight=False)
    table = pd.concat(tables, ignore_index=True)
    artifacts.write_table(ROOT / estimates.BENCHMARKS, table, stamp.finish())
    # Nothing that draws is imported before: it would be in the memory of every child.
    import figures

    figures.save_all(table, ROOT / "results")
    failed = table[table["quantity"] == FAILED]
    for each in failed.itertuples():
        print(f"The benchmark {each.benchmark} failed: {each.case}", file=sys.stderr)
    return int(len(failed) > 0)


if __name__ == "__main__":
    sys.exit(main())
