"""The smoke scale on a real Slurm on this machine: equal results, and nothing lost whatever ends."""

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
import torch

import local_slurm
from project import ROOT, copy_project
from replica import artifacts
from replica.settings.load import expand, load_studies
from replica.settings.user import Config
from replica.training import dufm
from replica.training.checkpoint import Checkpoint
from replica.training.jobs import Job

STUDY = ["studies=[dufm]"]
# Plans of few studies are quickly made, here and in each job.
ALONE = ["studies=[low_rank]"]
RUN = "results/smoke/low_rank/runs/fig6/all.safetensors"
# Real clusters are asked every 40 s or less often.
QUICK = ["--slurm-init-seconds-before-status-checks", "2", "--seconds-between-status-checks", "2",
         "--latency-wait", "10"]  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def slurm(tmp_path_factory):
    if not local_slurm.installed():
        if os.environ.get("REPLICA_NEEDS_SLURM"):
            pytest.fail(f"needs root and the Debian packages {local_slurm.PACKAGES}")
        pytest.skip(f"needs root and the Debian packages {' '.join(local_slurm.PACKAGES)}")
    folder = tmp_path_factory.mktemp("slurm")
    local_slurm.start(folder)
    yield folder
    local_slurm.stop(folder)


@pytest.fixture
def project(tmp_path):
    return copy_project(ROOT, tmp_path / "project")


def start(project: Path, *arguments: str, config: list[str] | None = None) -> subprocess.Popen:
    environment = os.environ | {"PYTHONPATH": str(project / "workflow")}
    command = [sys.executable, "-m", "replica", "run", "--slurm", "--scale", "smoke"]
    settings = ["--config", *config] if config else []
    with open(project / "said.txt", "a", encoding="utf-8") as said:
        return subprocess.Popen(
            [*command, *settings, "--", *arguments, *QUICK],
            cwd=project, env=environment, stdout=said, stderr=subprocess.STDOUT,
            start_new_session=True,
        )  # fmt: skip


def finish(process: subprocess.Popen, project: Path, status: int = 0) -> str:
    ended = process.wait(900)
    said = (project / "said.txt").read_text()
    assert ended == status, said[-5000:]
    return said


def jobs(project: Path) -> list[dict[str, str]]:
    """What Slurm's accounting knows of the jobs of this folder, in their order."""
    from replica.slurm_queue import job_prefix

    # Without a start, sacct knows of the jobs since midnight only.
    command = ["sacct", "-X", "-n", "-P", "--starttime", "now-1days"]
    command.append("--format=JobID,JobName,State,ReqMem,Timelimit")
    answer = subprocess.run(command, capture_output=True, text=True, check=True)
    names = ["id", "name", "state", "memory", "time"]
    rows = [dict(zip(names, line.split("|"), strict=False)) for line in answer.stdout.splitlines()]
    return [row for row in rows if row["name"].startswith(job_prefix(project))]


def wait_for(what, seconds=300):
    deadline = time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.1)
    return found


@dataclass(frozen=True)
class Long:
    """A run of many steps: its setting, and its digest when it is trained here without Slurm."""

    setting: str
    digest: Callable[[], str]


@pytest.fixture(scope="module")
def long(tmp_path_factory) -> Long:
    """It takes ten seconds of one core, and is trained beside what Slurm does."""
    setting = long_run(steps_for(10))
    project = copy_project(ROOT, tmp_path_factory.mktemp("alone") / "project")
    environment = os.environ | {"PYTHONPATH": str(project / "workflow")}
    command = [sys.executable, "-m", "snakemake", "-c1", RUN, "--config", "scale=smoke", *ALONE]
    training = subprocess.Popen(
        [*command, setting], cwd=project, env=environment, stderr=subprocess.DEVNULL
    )

    def digest() -> str:
        assert training.wait(900) == 0
        return artifacts.content_digest(project / RUN)

    return Long(setting, digest)


def steps_for(seconds: float) -> int:
    """Steps of the run that take about so long on one core of this machine."""
    config = Config(scale="smoke", overrides={"low_rank": {"fig6": {"steps": 4000}}})
    spec = expand(load_studies(ROOT / "config/studies")["low_rank"], "fig6", config)["fig6"]
    seeds = tuple(range(spec.seeds))
    job = Job("low_rank", "fig6", seeds, Checkpoint(None), torch.device("cpu"), 1)
    # The first call is slower by far: torch starts in it.
    took = []
    for _ in range(3):
        began = time.perf_counter()
        dufm.train_dufm(spec, job)
        took.append(time.perf_counter() - began)
    return int(4000 * seconds / min(took))


def long_run(steps: int) -> str:
    return f"overrides={{low_rank: {{fig6: {{steps: {steps}}}}}}}"


def equal(project: Path, finished: Path, study: str) -> int:
    """The number of artifacts of a study, each the same as in the local run."""
    compared = 0
    for path in (project / "results/smoke" / study).rglob("*.*"):
        if path.suffix in (".parquet", ".safetensors", ".svg"):
            other = finished / path.relative_to(project)
            assert artifacts.content_digest(path) == artifacts.content_digest(other), path.name
            compared += 1
    return compared


def test_a_job_over_its_memory_is_tried_again_with_more(project, tally):
    resources = "train_run:mem_mb=500 * attempt**2"
    finish(start(project, RUN, "--set-resources", resources, config=ALONE), project)
    first, second = jobs(project)
    assert first["memory"] == "500M" and first["state"] in ("FAILED", "OUT_OF_MEMORY")
    assert second["memory"] == "2000M" and second["state"] == "COMPLETED"
    tally("Slurm jobs killed over their memory, tried again with more", 1)


def test_a_job_over_its_time_is_tried_again_with_more_and_goes_on(project, long, tally):
    config = [*ALONE, "checkpoint_seconds=0.5", long.setting]
    resources = "train_run:runtime=attempt"
    process = start(project, RUN, "--set-resources", resources, config=config)
    wait_for(lambda: list(project.glob("results/checkpoints/*.safetensors")))
    # From here on it is as slow as can be, so that a minute is too short for it.
    for job in processes_in(project, below="slurmstepd"):
        job.suspend()
    finish(process, project)
    first, *_, last = jobs(project)
    assert first["time"] == "00:01:00" and first["state"] == "TIMEOUT"
    assert last["time"] != "00:01:00" and last["state"] == "COMPLETED"
    log = (project / "results/smoke/logs/train_run/low_rank/fig6/all.log").read_text()
    assert "Resuming from the checkpoint" in log
    assert artifacts.content_digest(project / RUN) == long.digest()
    tally("Slurm jobs over their time, resumed with equal results", 1)


def processes_in(folder: Path, below: str) -> list[psutil.Process]:
    """Those that a process of some name has started, and that are at home in a folder."""
    found = []
    for parent in psutil.process_iter():
        if parent.name().startswith(below):
            with contextlib.suppress(psutil.NoSuchProcess):
                found += [p for p in parent.children(recursive=True) if p.cwd() == str(folder)]
    assert found
    return found


def test_a_requeued_job_goes_on_from_its_checkpoint(project, long, tally):
    process = start(project, RUN, config=[*ALONE, "checkpoint_seconds=0.5", long.setting])
    wait_for(lambda: list(project.glob("results/checkpoints/*.safetensors")))
    (job,) = jobs(project)
    subprocess.run(["scontrol", "requeue", job["id"]], check=True)
    # Slurm holds a requeued job for two minutes; an operator may let it go at once.
    wait_for(lambda: "PENDING" in _state(job["id"]))
    update = ["scontrol", "update", f"jobid={job['id']}", "StartTime=now"]
    subprocess.run(update, check=True)
    finish(process, project)
    assert len(jobs(project)) == 1
    log = (project / "results/smoke/logs/train_run/low_rank/fig6/all.log").read_text()
    assert "Resuming from the checkpoint" in log
    assert artifacts.content_digest(project / RUN) == long.digest()
    tally("Slurm jobs requeued in the middle, resumed with equal results", 1)


def _state(job: str) -> str:
    command = ["squeue", "--noheader", "--format=%T", "--jobs", job]
    return subprocess.run(command, capture_output=True, text=True).stdout


def test_an_error_reaches_the_terminal_with_its_log(project):
    bad = "overrides={low_rank: {fig6: {lr: 1.0e9}}}"
    said = finish(start(project, RUN, "--retries", "0", config=[*ALONE, bad]), project, status=1)
    assert re.search(r"TrainingDiverged: Every member of low_rank fig6 has diverged", said)
    assert "results/smoke/logs/train_run/low_rank/fig6/all.log" in said


def test_two_runs_in_one_folder_do_not_meet(project):
    first = start(project, RUN, config=ALONE)
    wait_for(lambda: (project / ".snakemake/replica.holder").exists())
    time.sleep(1)
    said = finish(start(project, RUN, config=ALONE), project, status=1)
    assert "A reproduction runs in this folder already (process" in said
    finish(first, project)
    artifacts.verify(project / RUN)


# From here on the local run of everything is needed, which another worker may be at.


def test_the_results_are_those_of_the_local_run_bit_for_bit(project, finished, tally):
    """A classifier and certifications of it; two chains of active learning from a pretraining.

    Short runs are bundled, and the stages of both chains share a job of Slurm.
    """
    figure = "results/smoke/idrs/figures/toy_cone.parquet"
    chains = [
        f"results/smoke/fc_low_data/measures/{run}_c101/all-stage1.parquet"
        for run in ("fr_entropy", "llal")
    ]
    finish(start(project, figure, *chains, config=["studies=[idrs, fc_low_data]"]), project)
    # Of the classifier and the pretraining two files each, four certifications, the table; of two
    # stages of each chain a history, labels and states, and a measure of the last.
    compared = sum(equal(project, finished, study) for study in ("idrs", "fc_low_data"))
    assert compared >= 2 + 4 + 1 + 2 + 2 * (2 * 3 + 1)
    trained = len(list((project / "results/smoke").glob("*/runs/**/*.safetensors")))
    certified = len(list((project / "results/smoke").glob("*/counts/*/*.safetensors")))
    assert (trained, certified) == (1 + 1 + 4, 4) and len(jobs(project)) <= 6
    assert {job["state"] for job in jobs(project)} == {"COMPLETED"}
    assert not list(project.glob("results/checkpoints/*"))
    tally("jobs of the workflow run on Slurm, equal to the local run", trained + certified)
    tally("artifacts compared bit for bit between Slurm and the local run", compared)


def test_after_the_end_of_everything_the_same_command_does_the_rest(project, finished, tally):
    """SIGKILL of Snakemake with its jobs left as orphans; then scancel of everything, no retries."""
    measures = project / "results/smoke/dufm/measures"

    def made() -> list[Path]:
        """Measures of runs, the oldest first."""
        return sorted(measures.glob("*/all.parquet"), key=lambda path: path.stat().st_mtime)

    killed = start(project, "--retries", "0", config=STUDY)
    wait_for(lambda: len(made()) >= 2)
    os.killpg(killed.pid, signal.SIGKILL)
    killed.wait()
    # The job of the newest one may not have ended when its file was there.
    done = {path: path.read_bytes() for path in made()[:-1]}
    assert done
    before = len(jobs(project))
    cancelled = start(project, "--retries", "0", config=STUDY)
    wait_for(lambda: len(jobs(project)) > before)
    there = len(made())
    wait_for(lambda: len(made()) > there)
    subprocess.run(["scancel", *[job["id"] for job in jobs(project)]], check=True)
    said = finish(cancelled, project, status=1)
    assert "Cancelling a job that an earlier run left" in said and "removing its lock" in said
    assert "CANCELLED" in said and "Not made: " in said
    assert (project / "results/smoke/scorecard.partial.html").exists()
    done |= {path: path.read_bytes() for path in made()}
    before = len(jobs(project))
    finish(start(project, config=STUDY), project)
    # The measures of the networks, and the trainings if the job that was cancelled had any left.
    after = before + 1 + (len(made()) > len(done))
    assert len(jobs(project)) == after
    for path, content in done.items():
        assert path.read_bytes() == content, f"{path.name} was made again"
    assert (project / "results/smoke/report.html").exists()
    compared = equal(project, finished, "dufm")
    assert compared == 28
    tally("artifacts compared bit for bit between Slurm and the local run", compared)
    for end in ("kill the head", "cancel the jobs"):
        tally(f"Slurm runs ended ({end}), finished by the same command, nothing made twice", 1)
    again = start(project, config=STUDY)
    assert "Nothing to be done" in finish(again, project) and len(jobs(project)) == after
