"""Each job gets a device of its own, or its share of one, whoever else asks at the same time."""

import itertools
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, contextmanager
from types import SimpleNamespace

import pytest
import slots
import torch

from replica import last_words
from replica.training import devices, jobs
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


# ------------------------------------------------------------------------------ which GPUs


@pytest.fixture
def two_gpus(monkeypatch):
    """torch reports two GPUs, each with an identity."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(
        torch.cuda, "get_device_properties", lambda i: SimpleNamespace(uuid=f"identity-{i}")
    )


@pytest.mark.parametrize(
    ("visible", "names"),
    [
        (None, ["identity-0", "identity-1"]),
        # By number, by the identity of the hardware or its beginning: torch knows the identity.
        ("3,1", ["identity-0", "identity-1"]),
        ("GPU-8932f937-d72c-4106-c12f-20bd9faed9f6,GPU-2", ["identity-0", "identity-1"]),
        # Parts of a GPU have names of their own, in old drivers with slashes.
        ("MIG-1a, MIG-2b", ["MIG-1a", "MIG-2b"]),
        ("MIG-GPU-89/1/0,1", ["MIG-GPU-89_1_0", "identity-1"]),
    ],
)
def test_a_gpu_has_the_same_name_for_all_jobs(two_gpus, monkeypatch, visible, names):
    monkeypatch.delenv(devices.VISIBLE, raising=False)
    if visible is not None:
        monkeypatch.setenv(devices.VISIBLE, visible)
    assert devices.gpu_names() == names


@pytest.mark.parametrize("visible", ["", "-1"])
def test_a_gpu_that_is_hidden_is_none(visible):
    """CUDA shows none for an empty list and for -1, whatever the machine has."""
    code = (
        "from replica.training.devices import device_for\n"
        "with device_for('auto', 1, 4) as device: print(device)\n"
        "try:\n    with device_for('cuda', 1, 4): pass\nexcept RuntimeError as error: print(error)"
    )
    environment = os.environ | {devices.VISIBLE: visible}
    said = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    first, second = said.stdout.splitlines()
    assert (
        first == "cpu"
        and f"torch finds no GPU here (CUDA_VISIBLE_DEVICES is '{visible}')" in second
    )


def test_a_job_takes_slots_of_the_gpu_that_it_computes_on(two_gpus, monkeypatch, tmp_path):
    monkeypatch.setattr(devices, "lock_folder", lambda: tmp_path)
    monkeypatch.delenv(devices.VISIBLE, raising=False)
    with devices.device_for("auto", 1, 1) as first, devices.device_for("cuda", 0, 1) as second:
        assert (first, second) == (torch.device("cuda", 0), torch.device("cuda", 1))
    assert {path.name.rpartition(".")[0] for path in tmp_path.iterdir()} == {
        *("identity-0.0", "identity-0.gate", "identity-1.0", "identity-1.gate")
    }


def test_a_job_that_waits_for_a_whole_gpu_is_next(tmp_path):
    """However many small jobs come later, it gets the slots that become free."""
    order = []

    def ask(wanted, name):
        with gpu_slots(["a"], wanted, 2, tmp_path, pause=0.01):
            order.append(name)
            time.sleep(0.05)

    with gpu_slots(["a"], 1, 2, tmp_path):
        whole = threading.Thread(target=ask, args=(2, "whole"))
        whole.start()
        time.sleep(0.3)
        # A slot is free, and not for them.
        later = [threading.Thread(target=ask, args=(1, "small")) for _ in range(3)]
        for thread in later:
            thread.start()
        time.sleep(0.3)
        assert order == []
    for thread in (whole, *later):
        thread.join(10)
    assert order == ["whole", *3 * ["small"]]


# ------------------------------------------------------------------------------ a full GPU

OF_TORCH = (
    "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 79.15 GiB of "
    "which 1.19 GiB is free. Including non-PyTorch memory, this process has 17.50 GiB memory in use."
)


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError(OF_TORCH),
        RuntimeError("CUDA error: out of memory"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
        RuntimeError("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED"),
        RuntimeError(
            "CUDA error: CUBLAS_STATUS_NOT_INITIALIZED when calling `cublasCreate(handle)`"
        ),
    ],
)
def test_a_full_gpu_is_a_sentence_and_another_attempt(tmp_path, capfd, error):
    note = tmp_path / "checkpoints/key.alone"
    with pytest.raises(SystemExit) as end, devices.gpu_memory("fig6", note, alone=False):
        raise error
    assert end.value.code == last_words.TRY_AGAIN and note.exists()
    last = capfd.readouterr().err.splitlines()[-1]
    assert last.startswith("Failed: fig6 does not fit on its GPU beside other jobs")
    if isinstance(error, torch.OutOfMemoryError):
        assert "(it asked for 2.00 GiB more, 1.19 GiB of 79.15 GiB are free)" in last
    # With the GPU to itself it fits, or it never will.
    with (
        pytest.raises(devices.GpuFull, match="fig6 needs more memory than its GPU has"),
        devices.gpu_memory("fig6", note, alone=True),
    ):
        raise error
    with devices.gpu_memory("fig6", note, alone=True):
        pass
    assert not note.exists()


def test_other_errors_stay_what_they_are(tmp_path):
    for error in (RuntimeError("a shape is wrong"), ValueError("out of memory of the reader")):
        with (
            pytest.raises(type(error), match=str(error)),
            devices.gpu_memory("fig6", tmp_path / "note", alone=False),
        ):
            raise error
    assert not list(tmp_path.iterdir())


def test_an_attempt_after_a_full_gpu_has_all_slots(two_gpus, monkeypatch, tmp_path):
    """As a rule's script runs it, with a training that fits on an empty GPU only."""
    asked = []

    @contextmanager
    def device_for(wish, slots, slots_per_gpu):
        asked.append(slots)
        yield torch.device("cpu")

    monkeypatch.setattr(devices, "device_for", device_for)
    job = SimpleNamespace(
        params=SimpleNamespace(
            spec={}, key="k", code="c", seeds=[0], datasets={}, checkpoint=str(tmp_path / "k.safetensors")
        ),
        config={"device": "auto", "jobs_per_gpu": 4, "data_dir": "", "checkpoint_seconds": 1.0,
                "pretrained_dir": None},
        wildcards=SimpleNamespace(study="dufm", run="fig6"), threads=1,
        resources=SimpleNamespace(mem_mb=1), input=SimpleNamespace(starts_from=[]),
    )  # fmt: skip
    with pytest.raises(SystemExit), jobs.open_job(job, 1):
        raise torch.OutOfMemoryError(OF_TORCH)
    with jobs.open_job(job, 1):
        pass
    assert asked == [1, 4] and not list(tmp_path.iterdir())


# ------------------------------------------------------------------------------ compiling


def test_what_compiles_for_a_gpu_needs_a_compiler_and_the_headers_of_python(monkeypatch, tmp_path):
    monkeypatch.setattr(devices.sysconfig, "get_paths", lambda: {"include": str(tmp_path)})
    monkeypatch.setenv("CC", "/usr/bin/cc")
    assert not devices.can_compile()
    (tmp_path / "Python.h").touch()
    assert devices.can_compile()
    monkeypatch.delenv("CC")
    monkeypatch.setattr(devices.shutil, "which", lambda name: "/usr/bin/clang" * (name == "clang"))
    assert devices.can_compile()
    monkeypatch.setattr(devices.shutil, "which", lambda name: None)
    assert not devices.can_compile()


@pytest.mark.parametrize("possible", [True, False])
def test_a_network_that_cannot_be_compiled_runs_as_it_is(monkeypatch, capsys, possible):
    def compiler(graph, inputs):
        raise RuntimeError("Python.h: No such file or directory")

    monkeypatch.setattr(devices, "can_compile", lambda: possible)
    network = torch.nn.Linear(2, 1)
    network.compile(backend=compiler)
    try:
        devices.compile_where_possible(torch.device("cuda"))
        if possible:
            with pytest.raises(Exception, match=r"Python\.h"):
                network(torch.ones(1, 2))
        else:
            assert network(torch.ones(1, 2)).shape == (1, 1)
            assert "nothing is compiled" in capsys.readouterr().err
    finally:
        torch.compiler.set_stance("default")
        torch.compiler.reset()
