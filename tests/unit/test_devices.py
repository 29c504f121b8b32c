"""Each job gets a device of its own, or its share of one, whoever else asks at the same time."""

import itertools
import multiprocessing
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack

import pytest
import slots
import torch

from replica.training import devices
from replica.training.devices import gpu_slots

TWO = ["GPU-a", "GPU-b"]


def test_jobs_go_to_the_emptiest_device_and_the_fifth_waits(tmp_path, capsys):
    with ExitStack() as held:
        first = held.enter_context(ExitStack())
        taken = [first.enter_context(gpu_slots(TWO, 1, 2, tmp_path))]
        taken += [held.enter_context(gpu_slots(TWO, 1, 2, tmp_path)) for _ in range(3)]
        assert taken == [0, 1, 0, 1]
        got = []

        def ask():
            with gpu_slots(TWO, 1, 2, tmp_path, pause=0.01) as index:
                got.append(index)

        fifth = threading.Thread(target=ask)
        fifth.start()
        time.sleep(0.1)
        assert not got and "Waiting for one of 2 GPU(s)" in capsys.readouterr().err
        first.close()
        fifth.join(10)
        assert got == [0]


def test_a_job_of_a_whole_device_shares_it_with_nobody(tmp_path):
    with gpu_slots(TWO, 9, 4, tmp_path) as whole, ExitStack() as others:
        assert whole == 0
        assert [others.enter_context(gpu_slots(TWO, 1, 4, tmp_path)) for _ in range(4)] == [1] * 4
    with gpu_slots(TWO, 1, 4, tmp_path) as small, gpu_slots(TWO, 4, 4, tmp_path) as whole:
        assert (small, whole) == (0, 1)


@pytest.mark.slow
def test_many_processes_never_share_a_slot(tmp_path):
    """Eight processes on two devices of one slot: each notes when it came and when it left."""
    forks = multiprocessing.get_context("forkserver")
    forks.set_forkserver_preload(["slots"])
    with ProcessPoolExecutor(8, forks) as processes:
        rows = sorted(processes.map(slots.come_and_leave, [tmp_path] * 16))
    assert len(rows) == 16
    for device in (0, 1):
        times = [row[1:] for row in rows if row[0] == device]
        assert times
        assert all(left <= came for (_, left), (came, _) in itertools.pairwise(times))


@pytest.mark.slow
def test_the_slot_of_a_killed_process_is_free(tmp_path):
    script = (
        "import sys, time; from pathlib import Path; from replica.training.devices import gpu_slots\n"
        "with gpu_slots(['a'], 1, 1, Path(sys.argv[1])): print('held', flush=True); time.sleep(99)"
    )
    process = subprocess.Popen([sys.executable, "-c", script, tmp_path], stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"held\n"
    process.send_signal(signal.SIGKILL)
    process.wait()
    with gpu_slots(["a"], 1, 1, tmp_path) as index:
        assert index == 0


def test_the_device_that_was_wished_for(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with devices.device_for("auto", 1, 4) as device:
        assert device.type == "cpu"
    wished = devices.device_for("cuda", 1, 4)
    with pytest.raises(devices.MissingDevice, match="torch finds no GPU"), wished:
        pass
