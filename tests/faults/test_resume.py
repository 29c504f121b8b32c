"""A training that is killed goes on where it was and ends with the same bits."""

import random
import signal
import subprocess
import sys
import time

import pytest

from replica import artifacts

SCRIPT = """
import sys
from pathlib import Path
import torch
from replica import artifacts
from replica.models import dufm
from replica.training import ensemble
from replica.training.checkpoint import Checkpoint

torch.set_num_threads(1)
checkpoint, result = Path(sys.argv[1]), Path(sys.argv[2])
generators = [torch.Generator().manual_seed(s) for s in range(4)]
params = dufm.initialise(K=4, L=3, n=3, width=8, h_std=1.0, w_gain=1.0, generators=generators,
                         dtype=torch.float32)
lam, lr = (torch.full((4,), x, dtype=torch.float64) for x in (0.01, 0.1))
step = dufm.gradient_descent(params, lam, lam, lr)
trained = ensemble.train(
    params, lambda _: step(), lambda p: dufm.fit_and_penalty(p, lam, lam), steps=STEPS,
    log_steps=ensemble.log_spaced(STEPS, 50), snapshot_steps=[0, STEPS // 2, STEPS],
    checkpoint=Checkpoint(checkpoint, every=0.02),
)
states = {f"{s}/{k}": v for s, kept in trained.snapshots.items() for k, v in kept.items()}
states |= {"fit": torch.from_numpy(trained.fit), "diverged_at": trained.diverged_at}
artifacts.write_tensors(result, states, {})
"""


# Steps enough for 25 pieces.
LONG = 200_000


def start(tmp_path, checkpoint, result, steps=12_000):
    script = tmp_path / "train.py"
    script.write_text(SCRIPT.replace("STEPS", str(steps)))
    command = [sys.executable, str(script), str(checkpoint), str(result)]
    return subprocess.Popen(command, stderr=subprocess.DEVNULL)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    process = start(folder, folder / "c.safetensors", folder / "r.safetensors")
    assert process.wait(120) == 0
    return artifacts.content_digest(folder / "r.safetensors")


def test_killed_at_random_moments(tmp_path, tally):
    """SIGKILL 25 times, a third of them as a checkpoint is being written, then to the end."""
    checkpoint, result = tmp_path / "c.safetensors", tmp_path / "r.safetensors"
    moments = random.Random(0)
    steps, in_the_middle = [-1], 0
    assert start(tmp_path, tmp_path / "other", tmp_path / "whole", LONG).wait(120) == 0
    for kill in range(25):
        process = start(tmp_path, checkpoint, result, LONG)
        before = checkpoint.stat().st_mtime_ns if checkpoint.exists() else 0
        while not checkpoint.exists() or checkpoint.stat().st_mtime_ns == before:
            assert process.poll() is None
            time.sleep(0.005)
        if kill % 3 == 0:
            while not list(tmp_path.glob(".*.tmp")):
                assert process.poll() is None
        else:
            time.sleep(moments.uniform(0, 0.2))
        process.send_signal(signal.SIGKILL)
        assert process.wait(60) == -signal.SIGKILL
        in_the_middle += len(list(tmp_path.glob(".*.tmp"))) > 0
        for leftover in tmp_path.glob(".*.tmp"):
            leftover.unlink()
        # Whole, whenever the kill came, and never behind the one before.
        steps.append(int(artifacts.read_tensors(checkpoint)[0]["done"]))
        assert steps[-1] >= steps[-2]
    assert steps[-1] > steps[1] and in_the_middle >= 3
    assert start(tmp_path, checkpoint, result, LONG).wait(120) == 0
    whole = (tmp_path / "whole").rename(tmp_path / "whole.safetensors")
    assert artifacts.content_digest(result) == artifacts.content_digest(whole)
    tally("SIGKILL of a training at random moments", 25)
    tally("of these in the middle of writing a checkpoint", in_the_middle)


def test_sigterm_saves_and_ends_soon(tmp_path, undisturbed):
    checkpoint, result = tmp_path / "c.safetensors", tmp_path / "r.safetensors"
    process = start(tmp_path, checkpoint, result)
    while not checkpoint.exists():
        time.sleep(0.01)
    process.terminate()
    assert process.wait(10) == 143 and not result.exists()
    done = int(artifacts.read_tensors(checkpoint)[0]["done"])
    assert 0 < done < 12_000
    assert start(tmp_path, checkpoint, result).wait(120) == 0
    assert artifacts.content_digest(result) == undisturbed


def test_a_checkpoint_with_a_flipped_byte_is_not_trusted(tmp_path, undisturbed):
    checkpoint, result = tmp_path / "c.safetensors", tmp_path / "r.safetensors"
    process = start(tmp_path, checkpoint, result)
    while not checkpoint.exists():
        time.sleep(0.01)
    process.kill()
    process.wait()
    content = bytearray(checkpoint.read_bytes())
    content[len(content) // 2] ^= 4
    checkpoint.write_bytes(content)
    assert start(tmp_path, checkpoint, result).wait(120) == 0
    assert artifacts.content_digest(result) == undisturbed
