"""`replica doctor` finds what is planted, and says what would not work."""

import importlib.metadata
import json
import os
import shutil
import sys
from collections import namedtuple

import pandas as pd
import pytest

from replica import doctor
from replica.__main__ import main
from replica.doctor import OK, PROBLEM, WARNING
from replica.plan import whole_plan


@pytest.fixture(autouse=True)
def without_slurm_and_gpu(monkeypatch):
    """The findings do not depend on the machine of the tests."""
    which = shutil.which
    hidden = ("sbatch", "squeue")
    monkeypatch.setattr(shutil, "which", lambda name: None if name in hidden else which(name))
    monkeypatch.setattr(doctor, "gpus", list)
    monkeypatch.setattr(doctor, "driver", str)


@pytest.fixture
def project(root, tmp_path, monkeypatch):
    shutil.copytree(root / "config", tmp_path / "config")
    shutil.copytree(root / "envs", tmp_path / "envs")
    (tmp_path / "workflow").symlink_to(root / "workflow")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def planned(project, **settings):
    return whole_plan(project, {"scale": "smoke", "studies": ["dufm"], **settings})


def jobs(**changes):
    row = {"study": "s", "name": "run/all", "mem_mb": 2000.0, "cpu_hours": 0.1, "gpu_hours": 0.0}
    return pd.DataFrame([row | changes])


# ------------------------------------------------------------------ the whole command


def test_a_machine_that_runs_the_tests_can_run_the_smoke_scale(project, capsys):
    line = ["doctor", "--scale", "smoke", "--config", "studies=[dufm]"]
    assert main([*line, "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["scale"] == "smoke"
    checks = [finding["check"] for finding in said["findings"]]
    assert checks[:5] == ["Python", "packages", "writing", "disk", "memory"]
    assert all(f["level"] in (OK, WARNING) for f in said["findings"])
    assert all(f["found"] and (f["effect"] or f["level"] == OK) for f in said["findings"])
    assert main(line) == 0
    assert "A run can work here: 0 problems" in capsys.readouterr().out
    assert not (project / "results").exists() and not (project / "data").exists()


def test_a_problem_ends_with_1(project, capsys):
    line = ["doctor", "--scale", "smoke", "--config", "studies=[dufm]", "device=cuda"]
    assert main(line) == 1
    said = capsys.readouterr().out
    assert "device is cuda" in said and "A run cannot work here: 1 problems" in said


# ------------------------------------------------------------------ planted faults


@pytest.mark.parametrize(
    ("version", "level"), [((3, 10, 4), PROBLEM), ((3, 11, 0), OK), ((3, 99, 0), WARNING)]
)
def test_python(version, level):
    assert doctor.python(version).level == level


LOCK = """\
numpy==1.2.3 \\
    --hash=sha256:00
    # via scipy
pandas=={pandas} ; python_version >= '3.8' \\
    --hash=sha256:00
winonly==9 ; sys_platform == 'win32' \\
    --hash=sha256:00
"""


def test_packages_against_the_lock(tmp_path, monkeypatch):
    lock = tmp_path / "lock.txt"
    lock.write_text(LOCK.format(pandas=pd.__version__))
    found = doctor.packages(lock)
    assert (
        found.level == WARNING and "instead of 1.2.3" in found.found and "pandas" not in found.found
    )
    lock.write_text("no-such-package==1\n" + LOCK.format(pandas="0.1"))
    found = doctor.packages(lock)
    assert found.level == PROBLEM and found.found == "missing: no-such-package"
    version = importlib.metadata.version
    monkeypatch.setattr(importlib.metadata, "version", lambda n: f"{version('pandas')}+cpu")
    lock.write_text(f"torch=={pd.__version__}\n")
    assert doctor.packages(lock).level == OK


def test_a_full_disk(project, monkeypatch):
    usage = namedtuple("usage", "total used free")
    plan = planned(project)
    needed = sum(doctor.estimates.disk_to_come_mb(plan, name) for name in ("dufm", "shared")) * 1e6
    for free, level in [(0.5 * needed, PROBLEM), (1.1 * needed, WARNING), (9 * needed, OK)]:
        monkeypatch.setattr(shutil, "disk_usage", lambda path, free=free: usage(1, 1, free))
        assert doctor.disk(plan).level == level


def test_little_memory(tmp_path, monkeypatch):
    limit = tmp_path / "memory.max"
    monkeypatch.setattr(doctor, "CONTAINER", limit)
    limit.write_text("max\n")
    assert doctor.memory(jobs(mem_mb=1.0)).level == OK
    limit.write_text("1000000000\n")
    found = doctor.memory(jobs())
    assert found.level == WARNING and "s/run/all, asks for 2.0 GB" in found.found
    assert found.found.startswith("1.0 GB")
    assert doctor.memory(jobs(mem_mb=float("nan"))).level == OK


def test_few_cores(monkeypatch):
    monkeypatch.setattr(doctor, "usable_cores", lambda: 2)
    assert doctor.cores(jobs(cpu_hours=10.0)).level == OK
    found = doctor.cores(jobs(cpu_hours=480.0))
    assert found.level == WARNING and "10 days" in found.effect


def test_gpus_as_torch_and_the_driver_see_them(project, monkeypatch):
    plan, cuda = planned(project), planned(project, device="cuda")
    assert doctor.gpu(plan, jobs()).level == OK
    assert doctor.gpu(cuda, jobs()).level == PROBLEM
    found = doctor.gpu(plan, jobs(gpu_hours=300.0))
    assert found.level == WARNING and "300 GPU hours" in found.effect
    monkeypatch.setattr(doctor, "driver", lambda: "H200, 535.1")
    assert "too old" in doctor.gpu(plan, jobs()).effect
    monkeypatch.setattr(doctor, "gpus", lambda: ["H200"])
    monkeypatch.setattr(doctor, "_can_compile", lambda: True)
    assert doctor.gpu(cuda, jobs()).level == OK
    monkeypatch.setattr(doctor, "_can_compile", lambda: False)
    found = doctor.gpu(cuda, jobs())
    assert found.level == WARNING and "python3-dev" in found.effect


def script(folder, name, *lines):
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_text("\n".join(["#!/bin/sh", *lines]) + "\n")
    path.chmod(0o755)


def test_nvidia_smi_is_asked_and_may_fail(tmp_path, monkeypatch):
    monkeypatch.undo()
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    script(tmp_path, "nvidia-smi", "echo 'H200, 535.1'", "echo 'H200, 535.1'")
    assert doctor.driver() == "H200, 535.1; H200, 535.1"
    script(tmp_path, "nvidia-smi", "echo 'has failed because'", "exit 9")
    assert doctor.driver() == ""


def test_slurm_that_is_half_there_or_silent(project, tmp_path, monkeypatch):
    plan = planned(project)
    assert doctor.slurm(plan).level == OK
    monkeypatch.undo()
    tools = tmp_path / "tools"
    script(tools, "sbatch", "exit 0")
    monkeypatch.setenv("PATH", str(tools))
    assert doctor.slurm(plan).found == "there is no squeue"
    script(tools, "squeue", "echo 'cannot contact the controller' >&2", "exit 1")
    found = doctor.slurm(plan)
    assert found.level == WARNING and "cannot contact the controller" in found.found
    script(tools, "squeue", "echo 12 other-job")
    assert doctor.slurm(plan).found == "answers; 0 jobs of this folder in its queue"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_write_permission_of_its_own(project):
    (project / "results").mkdir(mode=0o500)
    assert doctor.writing(planned(project)).level == PROBLEM


def test_what_cannot_be_written_is_a_problem(project, monkeypatch):
    plan = planned(project)

    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied", str(project))

    monkeypatch.setattr(doctor.tempfile, "TemporaryFile", refuse)
    found = doctor.writing(plan)
    assert found.level == PROBLEM and str(project) in found.effect


def test_a_file_system_without_hard_links(project, monkeypatch):
    plan = planned(project)
    assert doctor.links(plan).level == OK

    def refuse(*_):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    assert doctor.links(plan).level == WARNING


def test_mirrors_that_are_not_there_and_those_that_have_data(project, monkeypatch):
    entry = planned(project, scale="desktop", studies=["mol"]).registry["mnist"]
    for name, size in entry.bytes.items():
        path = project / "mine/mnist" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "wb") as file:
            file.truncate(size)
    monkeypatch.setattr(doctor, "answers", lambda url: "" if "good" in url else "Timeout")
    places = ["mine", "nowhere", "http://good.example/x", "http://bad.example"]
    plan = planned(project, scale="desktop", studies=["mol"], mirrors=places)
    mine, nowhere, good, bad = doctor.mirrors(plan)
    assert mine.level == OK and "has mnist of the" in mine.found
    assert nowhere.level == bad.level == WARNING and good.level == OK
    found = {finding.check: finding for finding in doctor.data(plan)}
    assert found["data mnist"].found == "in a folder of mirrors"
    plan = planned(project, scale="desktop", studies=["mol"])
    (alone,) = [f for f in doctor.data(plan) if f.check == "data mnist"]
    assert alone.level == WARNING and "left out" in alone.effect and "Timeout" in alone.found
    assert doctor.data(planned(project))[0].found == "nothing has to be fetched"


def test_an_address_that_nobody_answers(free_port_address):
    assert doctor.answers(free_port_address) == "ConnectionError"


@pytest.fixture
def free_port_address():
    import socket

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{free.getsockname()[1]}/x"


def test_a_terminal_or_a_machine_without_utf_8(monkeypatch):
    class Terminal:
        encoding = "ANSI_X3.4-1968"

    monkeypatch.setenv("LC_ALL", "C.UTF-8")
    with monkeypatch.context() as m:
        m.setattr(sys, "stdout", Terminal())
        found = doctor.words()
    assert found.level == WARNING and "printed as ?" in found.effect
    monkeypatch.setenv("LC_ALL", "xx_XX.UTF-8")
    assert "lacks the locale" in doctor.words().effect
