"""A training that is killed goes on where it was and ends with the same bits."""

import multiprocessing
import random
import time

import pytest
import trained

from replica import artifacts

# Steps enough for 25 pieces.
LONG = 60_000
# Each process is a fork of one that has the imports of `trained`, which take seconds.
FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["replica.models.dufm", "replica.training.ensemble"])


def start(checkpoint, result, steps=12_000):
    process = FORKS.Process(target=trained.train, args=(checkpoint, result, steps))
    process.start()
    return process


def status(process, seconds=120) -> int:
    """Exit status of a process that ends in time; -9 of one that was killed."""
    process.join(seconds)
    assert process.exitcode is not None
    return process.exitcode


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    assert status(start(folder / "c.safetensors", folder / "r.safetensors")) == 0
    return artifacts.content_digest(folder / "r.safetensors")


def test_killed_at_random_moments(tmp_path, tally):
    """SIGKILL 25 times, a third of them as a checkpoint is being written, then to the end."""
    checkpoint, result = tmp_path / "c.safetensors", tmp_path / "r.safetensors"
    moments = random.Random(0)
    steps, in_the_middle = [-1], 0
    assert status(start(tmp_path / "other", tmp_path / "whole", LONG)) == 0
    for kill in range(25):
        process = start(checkpoint, result, LONG)
        before = checkpoint.stat().st_mtime_ns if checkpoint.exists() else 0
        while not checkpoint.exists() or checkpoint.stat().st_mtime_ns == before:
            assert process.is_alive()
            time.sleep(0.005)
        if kill % 3 == 0:
            while not list(tmp_path.glob(".*.tmp")):
                assert process.is_alive()
        else:
            time.sleep(moments.uniform(0, 0.1))
        process.kill()
        assert status(process) == -9
        in_the_middle += len(list(tmp_path.glob(".*.tmp"))) > 0
        for leftover in tmp_path.glob(".*.tmp"):
            leftover.unlink()
        # Whole, whenever the kill came, and never behind the one before.
        steps.append(int(artifacts.read_tensors(checkpoint)[0]["done"]))
        assert steps[-1] >= steps[-2]
    assert steps[-1] > steps[1] and in_the_middle >= 3
    assert status(start(checkpoint, result, LONG)) == 0
    whole = (tmp_path / "whole").rename(tmp_path / "whole.safetensors")
    assert artifacts.content_digest(result) == artifacts.content_digest(whole)
    tally("SIGKILL of a training at random moments", 25)
    tally("SIGKILL of a training that was writing a checkpoint", in_the_middle)


def test_sigterm_saves_and_ends_soon(tmp_path, undisturbed):
    checkpoint, result = tmp_path / "c.safetensors", tmp_path / "r.safetensors"
    process = start(checkpoint, result)
    while not checkpoint.exists():
        time.sleep(0.01)
    process.terminate()
    assert status(process, 10) == 143 and not result.exists()
    done = int(artifacts.read_tensors(checkpoint)[0]["done"])
    assert 0 < done < 12_000
    assert status(start(checkpoint, result)) == 0
    assert artifacts.content_digest(result) == undisturbed


def test_a_checkpoint_with_a_flipped_byte_is_not_trusted(tmp_path, undisturbed):
    checkpoint, result = tmp_path / "c.safetensors", tmp_path / "r.safetensors"
    process = start(checkpoint, result)
    while not checkpoint.exists():
        time.sleep(0.01)
    process.kill()
    assert status(process) == -9
    content = bytearray(checkpoint.read_bytes())
    content[len(content) // 2] ^= 4
    checkpoint.write_bytes(content)
    assert status(start(checkpoint, result)) == 0
    assert artifacts.content_digest(result) == undisturbed
