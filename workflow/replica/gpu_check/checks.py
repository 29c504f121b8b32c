"""What is checked on a GPU, part by part: each returns rows.

A rehearsal runs the same parts on the processor, at sizes that say nothing.
"""

import importlib
import math
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from io import StringIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch

from replica import last_words
from replica.gpu_check.cases import (
    CASES,
    Case,
    Jobs,
    apart,
    difference,
    exactly,
    parts_of,
    smoke_plan,
)
from replica.gpu_check.processes import SPAWN
from replica.kinds.attention import PretrainedSpec, Probes
from replica.training.checkpoint import Checkpoint
from replica.training.devices import can_compile, device_for, gpu_slots
from replica.training.jobs import Job, open_job

OK, WRONG, SLOW, NOT_RUN = "ok", "wrong", "slow", "not run"
GIB = 2**30
SLOTS = 4
# Runs that are stopped and resumed: a stack, a loop over batches, a layer after a layer.
RESUMED = ["dufm rec_threshold-L3", "idrs base-sigma0.25", "agop relu", "fc_low_data fr"]
COMPILED = "fc_low_data fr, compiled"
# Networks that are measured: convolutions, tokens, a decoder.
NETWORKS = ["fc_low_data llal", "depth t11_imdb-depth2", "sinks lm"]
LANGUAGE_MODEL = "a language model"
# What a rehearsal runs: a run of each family.
REHEARSED = [
    *["dufm rec_threshold-L3", "low_rank fig2_bottom", "idrs base-sigma0.25", "agop relu"],
    *["idrs constant-sigma_b0.25", "fc_low_data fr", "fc_low_data llal", "agop mlp"],
    *["depth t11_imdb-depth2", "sinks random_networks", "mol networks", "mol front_ties"],
]
# What shares the GPU.
SHARED = "dufm rec_threshold-L3"
# Of a GPU that another job fills: what is left, and what the job then asks for.
LEFT, ASKED = 3 * GIB, 4 * GIB
# 100,000 draws after 100 took 14 to 17 s an image on a card of 2019, by the published loop.
PASSES, PUBLISHED_SECONDS = 100_100, (14, 17)
POINTS = 50_000
# Side and number of the products of a rehearsal.
TINY = dict.fromkeys(("cpu", "cuda"), (64, 1))


@dataclass(frozen=True)
class Setup:
    """Where the check runs.

    Attributes:
        root: the folder of the project.
        data: folder of prepared data sets.
        folder: for what is written meanwhile.
        on: cuda, or cpu for a rehearsal.
    """

    root: Path
    data: Path
    folder: Path
    on: str

    @property
    def device(self) -> torch.device:
        """What is checked."""
        return torch.device("cuda", 0) if self.on == "cuda" else torch.device("cpu")

    @property
    def rehearsal(self) -> bool:
        """Whether there is no GPU, and sizes are tiny."""
        return self.on == "cpu"


Row = dict[str, Any]


def row(quantity: str, value: float, unit: str = "1", limit: float = math.nan, **more: Any) -> Row:
    """One number; it is right where it is at most the limit, or where there is none."""
    right = math.isnan(limit) or value <= limit
    found = {"quantity": quantity, "value": float(value), "unit": unit, "limit": float(limit)}
    return found | {"verdict": OK if right else WRONG} | more


def truth(quantity: str, is_so: bool, words: str = "") -> Row:
    """A statement that must be true."""
    return row(quantity, float(is_so), "yes or no", verdict=OK if is_so else WRONG, words=words)


@cache
def jobs_of(setup: Setup) -> Jobs:
    """The jobs of a process, with what they share."""
    return Jobs(smoke_plan(setup.root), setup.data, Path(tempfile.mkdtemp(dir=setup.folder)))


def case_of(name: str) -> Case:
    """The case with a name."""
    return next(case for case in CASES if case.name == name)


# --------------------------------------------------------------------------------------
# The same numbers


def same_numbers(setup: Setup, name: str) -> list[Row]:
    """A run on the GPU and on the processor, in float32 where it is not float64, not compiled."""
    jobs, case, found = jobs_of(setup), case_of(name), []
    for part in parts_of(jobs.plan, case):
        with exactly():
            began = time.monotonic()
            made = jobs.run(part, setup.device)
            seconds = time.monotonic() - began
            expected = jobs.on_cpu(part)
        jobs.measured(part, made)
        where = f" ({part.part})" if part.stage else ""
        for each in apart(jobs, case, part, made, expected):
            what = f"difference of {each.what}{where}"
            found.append(row(what, each.value, limit=each.limit, words=each.where))
        found.append(row(f"time on the device{where}", seconds, "s"))
    return found


def measured(setup: Setup, name: str) -> list[Row]:
    """Measures of generalization of networks, with their passes and derivatives on the GPU."""
    jobs = jobs_of(setup)
    part = parts_of(jobs.plan, case_of(name))[0]
    made = jobs.on_cpu(part)
    there, here = (jobs.networks(part, made, x) for x in (setup.device, torch.device("cpu")))
    if not there.index.equals(here.index):
        return [truth("the same measures are defined", False)]
    far = (there - here).abs() / here.abs().clip(lower=1e-9)
    worst = str(far.idxmax())
    return [row("difference of measures, relative", far.max(), limit=1e-6, words=worst)]


def compiled(setup: Setup, name: str) -> list[Row]:
    """A network as a job trains it: compiled where there is a C compiler, with rounded products."""
    jobs = jobs_of(setup)
    part = parts_of(jobs.plan, case_of(name.partition(",")[0]))[0]
    began = time.monotonic()
    made = jobs.run(part, setup.device)
    seconds = time.monotonic() - began
    far = difference(made.states, jobs.on_cpu(part).states)[1]
    # With the rounding of TF32.
    limit = 0.2
    possible = shutil.which("cc") and can_compile()
    compiler = "" if possible else "there is no C compiler, or no Python.h: it was not compiled"
    return [row("difference of states, relative", far, limit=limit, words=compiler),
            row("time with the compiler's own", seconds, "s")]  # fmt: skip


def pretrained(setup: Setup, name: str) -> list[Row]:
    """Probes of a small language model with random weights, as `transformers` saves one."""
    if find_spec("transformers") is None:
        words = "transformers is not installed: make pretrained"
        return [row("difference of states, relative", math.nan, verdict=NOT_RUN, words=words)]
    from replica.attention.pretrained_runs import train_pretrained

    torch.manual_seed(0)
    _save_language_model(setup.folder / "pretrained" / "small")
    probes = {"rates": {"texts": 2, "lengths": [8]}, "switch": 2, "alignment": 2, "smoothing": 2}
    spec = PretrainedSpec(kind="pretrained", model="small", dataset="topics", context=8, bos=True,
                          probes=Probes.model_validate(probes), seeds=1)  # fmt: skip
    card, states = jobs_of(setup).card("topics"), []
    for device in (setup.device, torch.device("cpu")):
        job = Job("gpu", "check", (0,), Checkpoint(None), device, 1, card, {"topics": card},
                  setup.folder / "pretrained")  # fmt: skip
        states.append({k: v.cpu() for k, v in train_pretrained(spec, job).states.items()})
    where, far = difference(*states)
    return [row("difference of states, relative", far, limit=1e-2, words=where if far else "")]


def _save_language_model(folder: Path) -> None:
    """A GPT-2 of two layers for words that are numbers."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

    words = {"<s>": 0, "<unk>": 1, **{f"w{n}": n for n in range(2, 40)}}
    tokenizer = Tokenizer(models.WordLevel(words, "<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="<unk>", bos_token="<s>"
    ).save_pretrained(folder)
    config = GPT2Config(vocab_size=40, n_embd=32, n_layer=2, n_head=4, n_positions=16,
                        bos_token_id=0, eos_token_id=0)  # fmt: skip
    GPT2LMHeadModel(config).save_pretrained(folder)


class Stops(Checkpoint):
    """A checkpoint of a job that is asked to stop at once."""

    def member(self, name: int | str) -> Checkpoint:
        """That of a training of a job, which is stopped, too."""
        inner = Checkpoint.member(self, name)
        inner.stopping = True
        return inner


def resumed(setup: Setup, name: str) -> list[Row]:
    """A run that was stopped after its first save and goes on, against one that was not."""
    jobs, case = jobs_of(setup), case_of(name)
    part = parts_of(jobs.plan, case)[0]
    path = setup.folder / "checkpoints" / f"{part.study}.{part.run}.safetensors"
    stopped = False
    with exactly():
        whole = jobs.run(part, setup.device)
        try:
            jobs.run(part, setup.device, Stops(path, every=0.0, stopping=True))
        except SystemExit:
            stopped = True
        again = jobs.run(part, setup.device, Checkpoint(path))
    far = difference(again.states, whole.states)[1]
    limit = 0.0 if setup.rehearsal else min(case.limit, 0.05)
    return [truth("it stopped and left a checkpoint", stopped),
            row("difference of states, relative", far, limit=limit)]  # fmt: skip


# --------------------------------------------------------------------------------------
# Several jobs, and too much for one GPU


@contextmanager
def share_of(setup: Setup, slots: int) -> Iterator[torch.device]:
    """Slots of the GPU as a job takes them."""
    if setup.rehearsal:
        with gpu_slots(["rehearsed"], slots, SLOTS, setup.folder / "slots", pause=0.1):
            yield setup.device
    else:
        with device_for("cuda", slots, SLOTS) as device:
            yield device


def _sharing(setup: Setup, slots: int, together: Any, answers: Any) -> None:
    """A job with slots of the GPU, in its own process."""
    torch.set_num_threads(1)
    jobs = jobs_of(setup)
    part = parts_of(jobs.plan, case_of(SHARED))[0]
    expected = jobs.on_cpu(part)
    with share_of(setup, slots) as device:
        came = time.time()
        if slots == 1:
            # None goes on before all are in.
            together.wait(120)
        with exactly():
            made = jobs.run(part, device)
        left = time.time()
    answers.put((slots, came, left, difference(made.states, expected.states)[1]))


def shared(setup: Setup, name: str) -> list[Row]:
    """Four jobs on the GPU at the same time, and one that waits to have it alone."""
    together, answers = SPAWN.Barrier(SLOTS + 1), SPAWN.Queue()
    workers = [SPAWN.Process(target=_sharing, args=(setup, 1, together, answers))
               for _ in range(SLOTS)]  # fmt: skip
    alone = SPAWN.Process(target=_sharing, args=(setup, SLOTS, together, answers))
    for worker in workers:
        worker.start()
    try:
        together.wait(120)
        alone.start()
        found = [answers.get(timeout=120) for _ in range(SLOTS + 1)]
    finally:
        _end(*workers, alone)
    small = [each for each in found if each[0] == 1]
    whole = next(each for each in found if each[0] == SLOTS)
    limit = case_of(SHARED).limit
    return [
        truth("four jobs had the GPU at the same time", len(small) == SLOTS),
        row("largest difference of their states, relative", max(e[3] for e in small), limit=limit),
        row("time of the four together", max(e[2] for e in small) - min(e[1] for e in small), "s"),
        truth("a fifth waited to have it alone", whole[1] >= max(each[2] for each in small)),
        row("time of the fifth, alone", whole[2] - whole[1], "s"),
    ]


def _end(*processes: Any) -> None:
    """Wait a moment for processes that have nothing left to do, and end the others."""
    for process in processes:
        if process.pid is not None:
            process.join(10)
            process.terminate()
            process.join()


def _fills(setup: Setup, filled: Any, leave: Any) -> None:
    """Another job, which leaves little of the GPU."""
    with share_of(setup, 1) as device:
        kept = None
        if not setup.rehearsal:
            free = torch.cuda.mem_get_info(device)[0]
            kept = torch.empty(max(free - LEFT, 0), dtype=torch.uint8, device=device)
        filled.set()
        # If the check is ended before that, nobody says so.
        parent = os.getppid()
        until = time.monotonic() + 120
        while not leave.wait(1) and os.getppid() == parent and time.monotonic() < until:
            pass
        del kept


def _asks(setup: Setup, amount: int, checkpoint: str, said: Any) -> None:
    """A job as the script of a rule runs it, which asks for memory; it ends as the script does."""
    job = SimpleNamespace(
        params=SimpleNamespace(
            spec={}, key="", code="", seeds=[0], datasets={}, checkpoint=checkpoint
        ),
        config={"device": setup.on, "jobs_per_gpu": SLOTS, "data_dir": str(setup.data),
                "checkpoint_seconds": 30.0, "pretrained_dir": None},
        wildcards=SimpleNamespace(study="gpu", run="check"), threads=1,
        resources=SimpleNamespace(mem_mb=1), input=SimpleNamespace(starts_from=[]),
    )  # fmt: skip
    words: list[str] = []
    last_words.say = words.append  # type: ignore[assignment]
    tried_again = Path(checkpoint).with_suffix(".alone").exists()
    status = 0
    try:
        with redirect_stderr(StringIO()), open_job(job, 1) as (run, _):
            if setup.rehearsal and (amount > ASKED or not tried_again):
                raise torch.OutOfMemoryError(
                    f"CUDA out of memory. Tried to allocate {amount / GIB:.2f} GiB. GPU 0 has a "
                    "total capacity of 8.00 GiB of which 3.00 GiB is free."
                )
            torch.empty(ASKED if setup.rehearsal else amount, dtype=torch.uint8, device=run.device)
    except SystemExit as end:
        status = int(end.code or 0)
    except RuntimeError as error:
        status = 1
        words.append(f"{type(error).__name__}: {error}")
    said.put((status, words[-1] if words else ""))


def full(setup: Setup, name: str) -> list[Row]:
    """A GPU that another job fills: a sentence, then an attempt that has it alone; and too much."""
    filled, leave, said = SPAWN.Event(), SPAWN.Event(), SPAWN.Queue()
    checkpoint = setup.folder / "full.safetensors"
    started = []

    def start(function: Callable[..., None], *arguments: Any) -> None:
        started.append(SPAWN.Process(target=function, args=(setup, *arguments)))
        started[-1].start()

    try:
        start(_fills, filled, leave)
        filled.wait(120)
        start(_asks, ASKED, str(checkpoint), said)
        first = said.get(timeout=120)
        note = checkpoint.with_suffix(".alone").exists()
        # It waits until the other job has ended.
        start(_asks, ASKED, str(checkpoint), said)
        time.sleep(0 if setup.rehearsal else 5)
        leave.set()
        second = said.get(timeout=120)
        gone = not checkpoint.with_suffix(".alone").exists()
        checkpoint.with_suffix(".alone").touch()
        much = ASKED * 10 if setup.rehearsal else 2 * torch.cuda.mem_get_info(0)[1]
        start(_asks, much, str(checkpoint), said)
        third = said.get(timeout=120)
    finally:
        leave.set()
        _end(*started)
    is_sentence = "does not fit on its GPU beside other jobs (it asked for" in first[1]
    return [
        truth("beside another job: a sentence", is_sentence, first[1]),
        truth("it is to be tried again", first[0] == last_words.TRY_AGAIN and note),
        truth("alone it fits", second == (0, "") and gone, second[1]),
        truth("what never fits: a sentence", third[0] == 1 and "GpuFull" in third[1], third[1]),
    ]


# --------------------------------------------------------------------------------------
# Speed


def benchmark(setup: Setup, name: str) -> Any:
    """A module of `benchmarks`."""
    sys.path.insert(0, str(setup.root / "benchmarks"))
    return importlib.import_module(name)


def _as_rows(found: list[dict[str, Any]], reference: str) -> list[Row]:
    """Rows of a benchmark; one that compares with a reference is to be faster."""
    rows = []
    for each in found:
        is_slow = each["quantity"] == reference and each["value"] < 1
        made = row(each["quantity"], each["value"], each["unit"], words=each["case"])
        rows.append(made | {"verdict": SLOW if is_slow else OK})
    return rows


def training_speed(setup: Setup, name: str) -> list[Row]:
    """Images a second of ResNet18 against a DataLoader, and of the rate of matrix products."""
    bench, low_data = benchmark(setup, "bench"), benchmark(setup, "low_data")
    if setup.rehearsal:
        bench.MATMUL = TINY
        sizes: tuple[Any, ...] = (low_data.with_refiner("laptop"), (1, 8, 8), 40, 1)
    else:
        sizes = (low_data.with_refiner("paper"), (3, 32, 32), 10_000, 2)
    return _as_rows(low_data.comparison(*sizes, setup.device, turns=1), bench.SPEED)


def certification_speed(setup: Setup, name: str) -> list[Row]:
    """Noisy images a second through ResNet110 against the published loop."""
    bench, certification = benchmark(setup, "bench"), benchmark(setup, "certification")
    if setup.rehearsal:
        bench.MATMUL = TINY
    case, draws = (certification.SMALL, 50) if setup.rehearsal else (certification.LARGE, 50_000)
    found = certification.throughput(case, setup.device, draws)
    rows = _as_rows(found, bench.SPEED)
    fastest = max(each["value"] for each in found if each["quantity"] == "images per second")
    seconds = PASSES / fastest
    words = "the published loop took {} to {} s on a card of 2019".format(*PUBLISHED_SECONDS)
    return [*rows, row(f"an image of {PASSES:,} passes", seconds, "s", words=words)]


def rfm_speed(setup: Setup, name: str) -> list[Row]:
    """A layer of Deep RFM, and what it achieves of the rate of matrix products."""
    bench, deep_rfm = benchmark(setup, "bench"), benchmark(setup, "deep_rfm")
    N = POINTS
    if setup.rehearsal:
        bench.MATMUL, N = TINY, 200
    deep_rfm.ours(*deep_rfm.setting(200, "float32", setup.device))
    arguments = deep_rfm.setting(N, "float32", setup.device)
    seconds = bench.seconds_of(lambda: deep_rfm.ours(*arguments), setup.device, turns=1)
    # The factor takes N³/3, the product of the slopes N³, half of what a full one takes.
    rate = (4 / 3) * N**3 / seconds
    share = rate / bench.matmul_rate("float32", setup.device)
    return [
        row(f"a layer of {N:,} points", seconds, "s"),
        row("share of the matmul rate, float32", share),
        row("memory", bench.peak_mib(setup.device) / 1024, "GiB"),
    ]


@dataclass(frozen=True)
class Check:
    """A part of the whole: its title, its function, and the names that it is called with."""

    title: str
    function: Callable[[Setup, str], list[Row]]
    names: list[str]


CHECKS = [
    Check("same numbers as on the processor", same_numbers, [case.name for case in CASES]),
    Check("same numbers as on the processor", measured, NETWORKS),
    Check("same numbers as on the processor", pretrained, [LANGUAGE_MODEL]),
    Check("compiled", compiled, [COMPILED]),
    Check("stopped and resumed", resumed, RESUMED),
    Check("a shared GPU", shared, [SHARED]),
    Check("a full GPU", full, ["a job that asks for memory"]),
    Check("speed", training_speed, ["training ResNet18"]),
    Check("speed", certification_speed, ["certification with ResNet110"]),
    Check("speed", rfm_speed, ["Deep RFM"]),
]


def parts_for(setup: Setup) -> list[tuple[int, str]]:
    """What is to be done here: the number of a check, and the name that it is called with."""
    return [
        (number, name)
        for number, check in enumerate(CHECKS)
        for name in check.names
        if not setup.rehearsal or check.function is not same_numbers or name in REHEARSED
    ]


def perform(setup: Setup, part: tuple[int, str]) -> list[Row]:
    """The rows of one of `parts_for`."""
    number, name = part
    if not setup.rehearsal:
        torch.cuda.reset_peak_memory_stats()
    try:
        return CHECKS[number].function(setup, name)
    finally:
        # The next part may need it in another process.
        torch.cuda.empty_cache()
