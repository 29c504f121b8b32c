"""Which device a job computes on: on a machine with several GPUs each job gets its own.

Snakemake counts jobs but assigns no device. So a job takes slots of a GPU by locking a file for
each; the system frees the locks of a process however it ends.
"""

import os
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import torch
from filelock import FileLock, Timeout


class MissingDevice(RuntimeError):
    """A GPU was requested, but there is none."""


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
            "device is cuda in config/config.yaml, but torch finds no GPU here: set it to auto or "
            "cpu, or use a machine with a GPU."
        )
    if wish == "cpu" or not torch.cuda.is_available() or (wish == "auto" and not slots):
        yield torch.device("cpu")
        return
    # The identity of the hardware: under Slurm every job calls its own device number 0.
    names = [
        str(torch.cuda.get_device_properties(i).uuid) for i in range(torch.cuda.device_count())
    ]
    with gpu_slots(names, max(slots, 1), slots_per_gpu, lock_folder()) as index:
        yield torch.device("cuda", index)


def lock_folder() -> Path:
    """Where the locks of this machine and user lie."""
    return Path(tempfile.gettempdir(), f"replica-gpu-{os.getuid()}")


@contextmanager
def gpu_slots(
    gpus: Sequence[str], wanted: int, slots_per_gpu: int, folder: Path, pause: float = 2.0
) -> Iterator[int]:
    """Wait for `wanted` slots of one of `gpus`, emptiest first; yields the index of that GPU.

    Args:
        gpus: names, one a device.
        wanted: slots to hold; the whole device if this exceeds its number of slots.
        slots_per_gpu: slots of each device.
        folder: of the lock files.
        pause: seconds between two attempts.
    """
    folder.mkdir(parents=True, exist_ok=True)
    wanted = min(wanted, slots_per_gpu)
    said = False
    while True:
        # A job of one slot takes the first free slot of the lowest number: a second job goes to
        # the next device and not to the next slot. One of more slots needs them from the first on.
        for first in range(slots_per_gpu - wanted + 1):
            for index, gpu in enumerate(gpus):
                held = _try_lock(folder, gpu, range(first, first + wanted))
                if held is not None:
                    with held:
                        yield index
                    return
        if not said:
            print(f"Waiting for one of {len(gpus)} GPU(s), all are in use.", file=sys.stderr)
            said = True
        time.sleep(pause)


def _try_lock(folder: Path, gpu: str, slots: range) -> ExitStack | None:
    with ExitStack() as stack:
        for slot in slots:
            try:
                stack.enter_context(FileLock(folder / f"{gpu}.{slot}.lock", blocking=False))
            except Timeout:
                return None
        return stack.pop_all()
    return None
