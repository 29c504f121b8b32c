"""Which device a job computes on: on a machine with several GPUs each job gets its own.

Snakemake counts jobs but assigns no device. So a job takes slots of a GPU by locking a file for
each; the system frees the locks of a process however it ends. A job that does not fit on a GPU
beside others is tried again with all of its slots.
"""

import os
import re
import shutil
import sys
import sysconfig
import tempfile
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout

from replica import last_words

# Which GPUs CUDA shows to a process: by number, or by name.
VISIBLE = "CUDA_VISIBLE_DEVICES"
# How CUDA and the libraries on top of it say that the memory of a GPU is used up.
FULL = re.compile(r"out of memory|ALLOC(ATION)?_FAILED|CUBLAS_STATUS_NOT_INITIALIZED")


class MissingDevice(RuntimeError):
    """A GPU was requested, but there is none."""


class GpuFull(RuntimeError):
    """A job needs more memory than a GPU has for it alone."""


@contextmanager
def device_for(wish: str, slots: int, slots_per_gpu: int) -> Iterator[torch.device]:
    """The device of a job, and for a GPU its slots, held until the block ends.

    Args:
        wish: auto, cpu or cuda; auto takes a GPU only where `slots` is not 0, because a stack of
            tiny models is as fast on a CPU.
        slots: slots of a GPU that the job takes; at least one where `wish` is cuda.
        slots_per_gpu: how many there are.

    Raises:
        MissingDevice: cuda was requested, but there is none.
    """
    if wish == "cuda" and not torch.cuda.is_available():
        raise MissingDevice(
            f"device is cuda in config/config.yaml, but torch finds no GPU here{_hidden()}: set it "
            "to auto or cpu, or use a machine with a GPU."
        )
    if wish == "cpu" or not torch.cuda.is_available() or (wish == "auto" and not slots):
        yield torch.device("cpu")
        return
    with gpu_slots(gpu_names(), max(slots, 1), slots_per_gpu, lock_folder()) as index:
        try:
            yield torch.device("cuda", index)
        finally:
            # The next job comes before this process has ended, and needs what torch keeps for it.
            # After an error of CUDA nothing can be given back.
            with suppress(RuntimeError):
                torch.cuda.empty_cache()


def _hidden() -> str:
    """Why there may be none although the machine has one."""
    value = os.environ.get(VISIBLE)
    return "" if value is None else f" ({VISIBLE} is {value!r})"


def gpu_names() -> list[str]:
    """A name of each GPU that this process sees, by its number; the same for all processes.

    It is the identity of the hardware, or of the part of it that has been made a GPU of its own
    (MIG): under Slurm every job calls its own device number 0.
    """
    listed = [name.strip() for name in os.environ.get(VISIBLE, "").split(",")]
    names = []
    for i in range(torch.cuda.device_count()):
        # Two parts of one GPU may report the identity of the whole.
        is_part = i < len(listed) and listed[i].startswith("MIG-")
        name = listed[i] if is_part else str(torch.cuda.get_device_properties(i).uuid)
        names.append(name.replace("/", "_"))
    return names


@contextmanager
def device_of_job(
    config: Mapping[str, Any], slots: int, name: str, note: Path
) -> Iterator[torch.device]:
    """The device of a job; one that did not fit on a GPU beside others gets one to itself.

    Args:
        config: of the user: `device`, and `jobs_per_gpu`.
        slots: see `device_for`.
        name, note: see `gpu_memory`.

    Raises:
        MissingDevice, SystemExit, GpuFull: see `device_for` and `gpu_memory`.
    """
    whole = config["jobs_per_gpu"]
    slots = whole if note.exists() else slots
    with (
        device_for(config["device"], slots, whole) as device,
        gpu_memory(name, note, alone=slots >= whole),
    ):
        compile_where_possible(device)
        yield device


def compile_where_possible(device: torch.device) -> None:
    """From now on, networks on a GPU run as they are where they could not be compiled."""
    if device.type == "cuda" and not can_compile():
        print("No C compiler or no headers of Python: nothing is compiled.", file=sys.stderr)
        torch.compiler.set_stance("force_eager")


def can_compile() -> bool:
    """Whether torch can compile for a GPU: Triton builds a module of Python, in C, for it."""
    compiler = os.environ.get("CC") or shutil.which("gcc") or shutil.which("clang")
    return bool(compiler) and Path(sysconfig.get_paths()["include"], "Python.h").exists()


@contextmanager
def gpu_memory(name: str, note: Path, alone: bool) -> Iterator[None]:
    """Within the block, a full GPU ends the job in a sentence; shared, it is to be tried again.

    Args:
        name: of the job.
        note: a file that says for the next attempt that the job is to have a GPU to itself.
        alone: whether it has one now.

    Raises:
        SystemExit: with `last_words.TRY_AGAIN`; the note is there.
        GpuFull: the job had the GPU to itself.
    """
    try:
        yield
    except RuntimeError as error:
        if not (isinstance(error, torch.OutOfMemoryError) or FULL.search(str(error))):
            raise
        if alone:
            raise GpuFull(
                f"{name} needs more memory than its GPU has{_asked(error)}: end other programs "
                "that use it, use a larger one, set device to cpu, or make the run smaller "
                "(batch, width, images)."
            ) from error
        note.parent.mkdir(parents=True, exist_ok=True)
        note.touch()
        traceback.print_exc()
        last_words.say(
            f"{name} does not fit on its GPU beside other jobs{_asked(error)}: it is tried again "
            "when it has the GPU to itself; a lower jobs_per_gpu in config/config.yaml avoids this."
        )
        raise SystemExit(last_words.TRY_AGAIN) from None
    note.unlink(missing_ok=True)


def _asked(error: RuntimeError) -> str:
    """How much memory torch asked for, and how much there was, as its error says."""
    asked = re.search(r"Tried to allocate ([\d.]+ \w+)", str(error))
    of = re.search(r"total capacity of ([\d.]+ \w+) of which ([\d.]+ \w+) is free", str(error))
    words = [f"it asked for {asked[1]} more"] if asked else []
    words += [f"{of[2]} of {of[1]} are free"] if of else []
    return f" ({', '.join(words)})" if words else ""


def lock_folder() -> Path:
    """Where the locks of this machine and user lie."""
    return Path(tempfile.gettempdir(), f"replica-gpu-{os.getuid()}")


@contextmanager
def gpu_slots(
    gpus: Sequence[str], wanted: int, slots_per_gpu: int, folder: Path, pause: float = 2.0
) -> Iterator[int]:
    """Wait for `wanted` slots of one of `gpus`, emptiest first; yields the index of that GPU.

    A job that waits for several slots keeps others from taking those that become free meanwhile.

    Args:
        gpus: names, one a device.
        wanted: slots to hold; the whole device if this exceeds its number of slots.
        slots_per_gpu: slots of each device.
        folder: of the lock files.
        pause: seconds between two attempts.
    """
    folder.mkdir(parents=True, exist_ok=True)
    wanted = min(wanted, slots_per_gpu)
    said, gate_of = False, None
    with ExitStack() as gate:
        while True:
            # A job of one slot takes the first free slot of the lowest number: a second job goes to
            # the next device and not to the next slot. One of more needs them from the first on.
            for first in range(slots_per_gpu - wanted + 1):
                for index, gpu in enumerate(gpus):
                    slots = range(first, first + wanted)
                    held = _try_lock(folder, gpu, slots, has_gate=index == gate_of)
                    if held is not None:
                        gate.close()
                        with held:
                            yield index
                        return
            if not said:
                print(f"Waiting for one of {len(gpus)} GPU(s), all are in use.", file=sys.stderr)
                said = True
            for index, gpu in enumerate(gpus):
                # Nobody else comes in: what is in use becomes free.
                if wanted > 1 and gate_of is None and _entered(gate, folder / f"{gpu}.gate.lock"):
                    gate_of = index
            time.sleep(pause)


def _try_lock(folder: Path, gpu: str, slots: range, has_gate: bool) -> ExitStack | None:
    with ExitStack() as gate, ExitStack() as stack:
        # Another job passes the gate within milliseconds, or waits behind it.
        if not has_gate and not _entered(gate, folder / f"{gpu}.gate.lock", timeout=0.2):
            return None
        if all(_entered(stack, folder / f"{gpu}.{slot}.lock") for slot in slots):
            return stack.pop_all()
    return None


def _entered(stack: ExitStack, path: Path, timeout: float = 0) -> bool:
    """Lock a file until a stack closes; whether nobody else has it."""
    try:
        stack.enter_context(FileLock(path).acquire(timeout, poll_interval=0.01))
    except Timeout:
        return False
    return True
