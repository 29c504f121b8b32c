"""A use of a slot of a device, for processes of their own: they cannot import a test file."""

import time
from pathlib import Path

from replica.training.devices import gpu_slots


def come_and_leave(folder: Path) -> tuple[int, float, float]:
    """Slot, and when it was taken and given back in seconds of the monotonic clock."""
    with gpu_slots(["a", "b"], 1, 1, folder, pause=0.01) as index:
        came = time.monotonic()
        time.sleep(0.05)
        return index, came, time.monotonic()
