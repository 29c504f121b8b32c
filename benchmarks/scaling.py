"""Time and memory against the size of a problem: stacked seeds, points, draws, jobs.

On one core, as the jobs of a plan run, or on a GPU; each size in a process of its own, so that its
peak of memory is its own. Memory is what comes on top of that of a process which has done the
smallest size; of a dry run of Snakemake it is all.

Usage: python benchmarks/scaling.py [threads]
"""

import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable

import bench
import certification
import deep_rfm
import psutil
import torch

from replica import costs, estimates, kinds
from replica.models import dufm
from replica.plan import make_plan
from replica.settings.validation import validate_run

# Quantities that the figure reads.
TIME, MEMORY, EXPONENT = "time", "memory", "exponent of the "
SEEDS, POINTS, DRAWS, JOBS = "stacked seeds", "points of Deep RFM", "draws", "jobs"
PLANNED, DRY_RUN = "plan and keys", "snakemake -n"
# The first size of each only warms up.
SIZES = {
    "cpu": {
        SEEDS: [1, 4, 16, 64, 256],
        POINTS: [100, 500, 1000, 2000, 4000],
        DRAWS: [1000, 4000, 16_000, 64_000, 256_000],
    },
    "cuda": {
        SEEDS: [1, 16, 64, 256, 1024],
        POINTS: [1000, 2500, 5000, 10_000, 20_000],
        DRAWS: [1000, 10_000, 30_000, 100_000, 300_000],
    },
}
# Scales of a study, and seeds of each of its runs: at paper scale each of them has jobs of its own.
STUDY, CONFIGURATIONS = "idrs", [("smoke", 1), ("paper", 1), ("paper", 3)]
STEPS, POLLING = 20, 0.05

Prepared = tuple[Callable[[], object], costs.Work]


def stacked_seeds(size: int, device: torch.device) -> Prepared:
    """`STEPS` steps of a stack of features models; its work is that of a job on a core."""
    spec = validate_run(
        dict(kind="dufm", K=10, L=4, n=50, width=64, lambda_w=0.004, lr=0.05, steps=STEPS,
             h_std=1.0, w_gain=1.0, seeds=size),
        "benchmark",
    )  # fmt: skip
    generators = [torch.Generator().manual_seed(seed) for seed in range(size)]
    start = {name: getattr(spec, name) for name in ("K", "L", "n", "width", "h_std", "w_gain")}
    params = dufm.initialise(**start, generators=generators, dtype=torch.float32)
    params = {name: value.to(device) for name, value in params.items()}
    lam, lr = (torch.full((size,), x, dtype=torch.float64) for x in (spec.lambda_w, spec.lr))
    step = dufm.gradient_descent(params, lam, lam, lr)

    def work() -> None:
        for _ in range(STEPS):
            step()

    return work, kinds.training_cost(spec, size).work


def points(size: int, device: torch.device) -> Prepared:
    """A layer of Deep RFM, in the precision of the scale that computes on the device."""
    spec, x, labels = deep_rfm.setting(size, deep_rfm.SIZES[device.type][1], device)
    return lambda: deep_rfm.ours(spec, x, labels), kinds.training_cost(spec, 1).work


CASES = {SEEDS: stacked_seeds, POINTS: points, DRAWS: certification.prepared}


def measured(case: str, size: int) -> tuple[float, float, costs.Work]:
    """Seconds, MiB and work of one size, in a process that does nothing else."""
    device = bench.this_device()
    torch.set_num_threads(1)
    CASES[case](SIZES[device.type][case][0], device)[0]()
    before = bench.peak_mib(device)
    work, cost = CASES[case](size, device)
    began = bench.clock(device)
    work()
    return bench.clock(device) - began, bench.peak_mib(device) - before, cost


def planned(scale: str, seeds: int) -> tuple[float, float, int]:
    """Seconds, MiB and jobs of a plan with the keys of all its artifacts."""
    before, began = bench.peak_mib(bench.CPU), time.perf_counter()
    plan = make_plan(bench.ROOT, {"scale": scale, "studies": [STUDY], "seeds": seeds})
    plan.artifacts()
    seconds = time.perf_counter() - began
    more = bench.peak_mib(bench.CPU) - before
    return seconds, more, len(estimates.job_table(plan, estimates.Rates()))


def dry_run(scale: str, seeds: int) -> tuple[float, float, int]:
    """Seconds, MiB and jobs of a dry run in an empty folder.

    Raises:
        RuntimeError: Snakemake failed; says what it said.
    """
    with (
        tempfile.TemporaryDirectory() as folder,
        tempfile.TemporaryFile("w+", encoding="utf-8") as said,
    ):
        command = [sys.executable, "-m", "snakemake", "--dry-run", "--quiet", "rules"]
        command += ["--snakefile", str(bench.ROOT / "workflow/Snakefile"), "--directory", folder]
        command += ["--profile", str(bench.ROOT / "profiles/default")]
        command += ["--configfile", str(bench.ROOT / "config/config.yaml")]
        command += ["--config", f"scale={scale}", f"studies=[{STUDY}]", f"seeds={seeds}"]
        began, most = time.perf_counter(), 0
        process = psutil.Popen(command, stdout=said, stderr=subprocess.STDOUT)
        while process.poll() is None:
            most = max(most, resident(process))
            time.sleep(POLLING)
        seconds = time.perf_counter() - began
        said.seek(0)
        text = said.read()
    total = re.search(r"^total\s+(\d+)", text, re.MULTILINE)
    if process.returncode or not total:
        raise RuntimeError(f"The dry run failed: {text[-500:]}")
    return seconds, most / 2**20, int(total[1])


def resident(process: psutil.Process) -> int:
    """Bytes; none of a process that has just ended."""
    try:
        return process.memory_info().rss
    except psutil.Error:
        return 0


def both(case: str, size: float, seconds: float, mib: float, **more: object) -> list[dict]:
    """The two rows of a size."""
    found = [(TIME, seconds, "s"), (MEMORY, mib, "MiB")]
    return [bench.row(case, *each, size=size, **more) | {"threads": 1} for each in found]


def exponents(found: list[dict]) -> list[dict]:
    """The exponents of the power laws through the rows of each case."""
    fitted = []
    for case in dict.fromkeys(each["case"] for each in found):
        for quantity in (TIME, MEMORY):
            own = [e for e in found if (e["case"], e["quantity"]) == (case, quantity)]
            positive = [(e["size"], e["value"]) for e in own if e["value"] > 0]
            if len(positive) > 1:
                _, p = bench.power_law(*zip(*positive, strict=True))
                fitted.append(bench.row(case, EXPONENT + quantity, p, "1"))
    return fitted


def rows(device: torch.device, threads: int) -> list[dict]:
    """Time and memory of each size, the exponents of their growth, and times of units of work."""
    found, units = [], []
    for case in CASES:
        for size in SIZES[device.type][case][1:]:
            seconds, mib, work = bench.in_a_process(measured, case, size)
            found += both(case, size, seconds, mib)
        # Stacks of small models run on a core also where there is a GPU.
        if device.type == "cpu" or "GPU" in work.kind:
            units.append(bench.unit_of_work(work, seconds))
    for configuration in CONFIGURATIONS:
        for name, measure in ((PLANNED, planned), (DRY_RUN, dry_run)):
            seconds, mib, jobs = bench.in_a_process(measure, *configuration)
            found += both(f"{JOBS}, {name}", jobs, seconds, mib, device=bench.CPU)
    return [*found, *exponents(found), *units]


if __name__ == "__main__":
    bench.alone(__file__)
