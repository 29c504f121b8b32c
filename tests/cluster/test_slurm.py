"""The smoke scale on a real Slurm on this machine: equal results, and nothing lost whatever ends."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import local_slurm
from project import ROOT, copy_project
from replica import artifacts
from replica.specs import Config, expand, load_studies
from replica.training import runs
from replica.training.checkpoint import Checkpoint
from replica.training.jobs import Job

STUDY = ["studies=[dufm]"]
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
    command = [sys.executable, "-m", "replica", "launch", "--slurm", "--scale", "smoke"]
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
    from replica.launch import job_prefix

    command = ["sacct", "-X", "-n", "-P", "--format=JobID,JobName,State,ReqMem,Timelimit"]
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
        runs.train_dufm(spec, job)
        took.append(time.perf_counter() - began)
    return int(4000 * seconds / min(took))


def alone(tmp_path: Path, steps: int) -> Callable[[], str]:
    """Digest of the run of so many steps, trained here without Slurm, beside what Slurm does."""
    project = copy_project(ROOT, tmp_path / "alone")
    environment = os.environ | {"PYTHONPATH": str(project / "workflow")}
    command = [sys.executable, "-m", "snakemake", "-c1", RUN, "--config", "scale=smoke"]
    training = subprocess.Popen(
        [*command, long_run(steps)], cwd=project, env=environment, stderr=subprocess.DEVNULL
    )

    def digest() -> str:
        assert training.wait(900) == 0
        return artifacts.content_digest(project / RUN)

    return digest


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


def test_the_results_are_those_of_the_local_run_bit_for_bit(project, finished, tally):
    """Also: short runs are bundled, and each job stays within what it asked for."""
    # A classifier and certifications of it; all of a study, with the report.
    finish(start(project, "results/smoke/idrs/figures/toy_cone.parquet"), project)
    said = finish(start(project, config=STUDY), project)
    compared = sum(equal(project, finished, study) for study in ("dufm", "idrs"))
    assert compared > 35
    trained = len(list((project / "results/smoke").glob("*/runs/*/*.safetensors")))
    certified = len(list((project / "results/smoke").glob("*/counts/*/*.safetensors")))
    assert (trained, certified) == (7, 4) and len(jobs(project)) <= 4
    assert {job["state"] for job in jobs(project)} == {"COMPLETED"}
    assert "Report was" in said or (project / "results/smoke/report.html").exists()
    assert not list(project.glob("results/checkpoints/*"))
    tally("jobs of the workflow run on Slurm, equal to the local run", 2 * (trained + certified))
    tally("artifacts compared bit for bit between Slurm and the local run", compared)
    again = start(project, config=STUDY)
    assert "Nothing to be done" in finish(again, project) and len(jobs(project)) <= 4


def test_chains_of_active_learning_are_a_few_jobs(project, finished, tally):
    """From a pretraining; the stages of all methods share a job of Slurm."""
    figure = "results/smoke/fc_low_data/figures/al_c_caltech101.parquet"
    finish(start(project, figure), project)
    compared = equal(project, finished, "fc_low_data")
    # A pretraining; five methods of two stages, each with a history, labels, states and a measure.
    assert compared == 2 + 5 * 2 * 4 + 1 and len(jobs(project)) == 3
    assert {job["state"] for job in jobs(project)} == {"COMPLETED"}
    tally("stages of active learning run on Slurm, equal to the local run", 10)


def test_a_job_over_its_memory_is_tried_again_with_more(project, tally):
    finish(start(project, RUN, "--set-resources", "train_run:mem_mb=500 * attempt**2"), project)
    first, second = jobs(project)
    assert first["memory"] == "500M" and first["state"] in ("FAILED", "OUT_OF_MEMORY")
    assert second["memory"] == "2000M" and second["state"] == "COMPLETED"
    tally("Slurm jobs killed over their memory, tried again with more", 1)


def test_a_job_over_its_time_is_tried_again_with_more_and_goes_on(project, tmp_path, tally):
    # Slurm rounds a limit of a minute up by as much as half a minute before it ends the job.
    steps = steps_for(130)
    config = ["checkpoint_seconds=1", long_run(steps)]
    resources = "train_run:runtime=attempt"
    undisturbed = alone(tmp_path, steps)
    finish(start(project, RUN, "--set-resources", resources, config=config), project)
    first, *_, last = jobs(project)
    assert first["time"] == "00:01:00" and first["state"] == "TIMEOUT"
    assert last["time"] != "00:01:00" and last["state"] == "COMPLETED"
    log = (project / "results/smoke/logs/train_run/low_rank/fig6/all.log").read_text()
    assert "Going on from the checkpoint" in log
    assert artifacts.content_digest(project / RUN) == undisturbed()
    tally("Slurm jobs over their time, resumed with equal results", 1)


def test_a_requeued_job_goes_on_from_its_checkpoint(project, tmp_path, tally):
    steps = steps_for(25)
    undisturbed = alone(tmp_path, steps)
    process = start(project, RUN, config=["checkpoint_seconds=0.5", long_run(steps)])
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
    assert "Going on from the checkpoint" in log
    assert artifacts.content_digest(project / RUN) == undisturbed()
    tally("Slurm jobs requeued in the middle, resumed with equal results", 1)


def _state(job: str) -> str:
    command = ["squeue", "--noheader", "--format=%T", "--jobs", job]
    return subprocess.run(command, capture_output=True, text=True).stdout


@pytest.mark.parametrize("end", ["kill the head", "cancel the jobs"])
def test_after_the_end_of_everything_the_same_command_does_the_rest(project, finished, end, tally):
    """SIGKILL of Snakemake with its jobs left as orphans; scancel of everything, no retries."""
    process = start(project, "dufm", "--retries", "0")
    measures = project / "results/smoke/dufm/measures"
    wait_for(lambda: len(list(measures.glob("*/all.parquet"))) >= 3)
    if end == "kill the head":
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        # The job of the newest one may not have ended when its file was there.
        there = sorted(measures.glob("*/all.parquet"), key=lambda path: path.stat().st_mtime)
        done = {path: path.read_bytes() for path in there[:-1]}
    else:
        subprocess.run(["scancel", *[job["id"] for job in jobs(project)]], check=True)
        said = finish(process, project, status=1)
        assert "CANCELLED" in said and "Not made: " in said
        assert (project / "results/smoke/scorecard.partial.html").exists()
        done = {p: p.read_bytes() for p in measures.glob("*/all.parquet")}
    before = len(jobs(project))
    said = finish(start(project, "dufm"), project)
    if end == "kill the head":
        assert "Cancelling 1 jobs that an earlier run left" in said and "its lock is taken" in said
        assert len(done) >= 2
    assert len(jobs(project)) == before + 1
    for path, content in done.items():
        assert path.read_bytes() == content, f"{path.name} was made again"
    whole = (finished / "results/smoke/dufm").rglob("*.parquet")
    # The table of networks is of all studies, and no target of one.
    for path in (path for path in whole if path.parent.name != "generalization"):
        other = project / path.relative_to(finished)
        assert artifacts.content_digest(path) == artifacts.content_digest(other)
    tally(f"whole Slurm runs ended ({end}), finished by the same command, nothing made twice", 1)


def test_an_error_reaches_the_terminal_with_its_log(project):
    bad = "overrides={low_rank: {fig6: {lr: 1.0e9}}}"
    said = finish(start(project, RUN, "--retries", "0", config=[bad]), project, status=1)
    assert re.search(r"TrainingDiverged: Every member of low_rank fig6 has diverged", said)
    assert "results/smoke/logs/train_run/low_rank/fig6/all.log" in said


def test_two_runs_in_one_folder_do_not_meet(project):
    first = start(project, RUN)
    wait_for(lambda: (project / ".snakemake/replica.holder").exists())
    time.sleep(1)
    said = finish(start(project, RUN), project, status=1)
    assert "A reproduction runs in this folder already (process" in said
    finish(first, project)
    artifacts.verify(project / RUN)
