"""Whatever goes wrong, it is said in a sentence, and a plain restart ends with the same results."""

import itertools
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import psutil
import pytest

from project import ROOT, copy_project
from replica import artifacts

ONE = "results/smoke/low_rank/figures/fig6_k15_l7.parquet"
# Together their states are larger than the disk of `small_disk`.
LARGE = [f"results/smoke/low_rank/figures/{figure}.parquet"
         for figure in ("fig2_bottom_resnet_cifar10", "fig3_right_dnc_probability")]  # fmt: skip


def launch(
    project: Path, *arguments: str, studies: str = "[dufm, low_rank]", config: tuple = (), **how
) -> subprocess.Popen:
    """Launch the smoke scale; the plan of few studies is quickly made."""
    environment = os.environ | {"PYTHONPATH": str(project / "workflow")} | how.pop("env", {})
    command = [sys.executable, "-m", "replica", "run", "--scale", "smoke"]
    settings = ["--config", f"studies={studies}", *config]
    return subprocess.Popen(
        [*command, *settings, "--", *arguments], cwd=project, env=environment, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True, **how,
    )  # fmt: skip


def finish(process: subprocess.Popen, status: int = 0) -> str:
    said, _ = process.communicate(timeout=900)
    assert process.returncode == status, said[-5000:]
    return said


def assert_equal(project: Path, finished: Path, *studies: str) -> None:
    """Every artifact of the undisturbed run of some studies is there and holds the same numbers."""
    for study in studies:
        compared = 0
        for path in (finished / "results/smoke" / study).rglob("*.*"):
            # The table of networks is no target of a study.
            wanted = path.parent.name != "generalization"
            if wanted and path.suffix in (".parquet", ".safetensors", ".svg"):
                other = project / path.relative_to(finished)
                assert artifacts.content_digest(other) == artifacts.content_digest(path), path.name
                compared += 1
        assert compared >= 20
    assert not list((project / "results").rglob(".*.tmp"))


def assert_same(project: Path, finished: Path, least: int) -> None:
    """What was made is what the undisturbed run made; and it is so many artifacts at least."""
    made = [p for p in (project / "results/smoke").rglob("*.*")
            if p.suffix in (".parquet", ".safetensors", ".svg") and "scorecard" not in p.name]  # fmt: skip
    for path in made:
        other = finished / path.relative_to(project)
        assert artifacts.content_digest(other) == artifacts.content_digest(path), path.name
    assert len(made) >= least
    assert not list((project / "results").rglob(".*.tmp"))


@pytest.fixture
def project(tmp_path):
    return copy_project(ROOT, tmp_path / "project")


@pytest.fixture
def done(finished, tmp_path):
    """A copy of the finished project, with Snakemake's notes and the times of all files."""
    shutil.copytree(finished, tmp_path / "done", symlinks=True)
    return tmp_path / "done"


@pytest.fixture
def small_disk(project):
    """A disk of 2 MB under `results`."""
    folder = project / "results"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)]
    if os.getuid() or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("needs the right to mount a file system of its own")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def remount(folder: Path, options: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{options}", str(folder)], check=True)


def test_snakemake_killed_with_its_jobs(project, finished, tally):
    """Twice in a row, at different moments; then the same command does the rest."""
    measures = project / "results/smoke/dufm/measures"
    for kill in range(2):
        process = launch(project, "dufm")
        deadline = time.monotonic() + 120
        while len(list(measures.glob("*/all.parquet"))) <= kill and process.poll() is None:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        # The jobs are left alone at the first kill: the restart must end them itself.
        if kill:
            os.killpg(process.pid, signal.SIGKILL)
        else:
            for name in ("replica run", "python.* -m snakemake"):
                subprocess.run(["pkill", "-KILL", "-s", str(process.pid), "-f", name])
        process.wait()
    said = finish(launch(project, "dufm"))
    assert "removing its lock" in said
    assert_equal(project, finished, "dufm")
    tally("SIGKILL of Snakemake, with and without its jobs", 2)


def test_a_full_disk(project, finished, small_disk, tally):
    said = finish(launch(project, ONE, *LARGE), status=1)
    assert "the disk is full: free some space" in said.partition("\nFailed (")[2]
    assert "Traceback" not in said
    for path in small_disk.rglob("*.*"):
        if path.suffix in (".parquet", ".safetensors"):
            artifacts.verify(path)
    remount(small_disk, "size=500m")
    finish(launch(project, ONE, *LARGE))
    assert_same(project, finished, 12)
    tally("runs into a full disk", 1)


def test_a_results_folder_that_cannot_be_written_to(project, small_disk, tally):
    remount(small_disk, "ro")
    said = finish(launch(project, ONE), status=1)
    assert "results" in said and "the file system is read-only" in said
    assert "Traceback" not in said
    tally("runs into a read-only folder", 1)


LONG = ("checkpoint_seconds=0.2", "overrides={low_rank: {fig6: {steps: 3000000}}}")


def trains(project: Path) -> subprocess.Popen:
    """A launch in the middle of a long training that has saved its state once."""
    process = launch(project, ONE, config=LONG)
    deadline = time.monotonic() + 120
    while not list((project / "results/checkpoints").glob("*.safetensors")):
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.05)
    return process


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_in_a_line(project, number, tally):
    """Ctrl-C reaches all processes, and twice; `kill` reaches one."""
    process = trains(project)
    if number == signal.SIGINT:
        os.killpg(process.pid, number)
        time.sleep(0.1)
        os.killpg(process.pid, number)
    else:
        process.send_signal(number)
    said = finish(process, status=128 + number)
    assert said.endswith("Stopped. Run the same command again to resume.\n")
    assert "Traceback" not in said and "Not made" not in said
    assert list((project / "results/checkpoints").glob("*.safetensors"))
    log = (project / "results/smoke/logs/train_run/low_rank/fig6/all.log").read_text()
    assert "the state is saved" in log
    tally("runs stopped by Ctrl-C and by SIGTERM", 1)


def test_a_job_that_was_killed_is_named_at_the_end(project, tally):
    process = trains(project)
    for job in psutil.Process(process.pid).children(recursive=True):
        # Forks have the command line of the server that they come from.
        if (
            "replica.fork_server" in job.cmdline()
            and "replica.fork_server" in job.parent().cmdline()
        ):
            job.kill()
    # An old report is not passed off as the new one.
    (project / "results/smoke/report.html").write_text("old")
    os.utime(project / "results/smoke/report.html", (1, 1))
    *_, job, again = finish(process, status=1).splitlines()
    assert re.fullmatch(
        r"train_run low_rank/fig6/all: was killed \(signal 9\), perhaps for lack of memory: it had "
        r"asked for \d+ MB \(log: results/smoke/logs/train_run/low_rank/fig6/all.log\)", job
    )  # fmt: skip
    assert again.startswith("To try again, give the same command: ") and ONE in again
    tally("jobs killed, and named at the end", 1)


def flip(path: Path) -> None:
    """Flip one bit that matters; a Parquet also holds bytes that nobody reads."""
    whole = path.read_bytes()
    middle = len(whole) // 2
    for position in range(middle, len(whole)):
        content = bytearray(whole)
        content[position] ^= 16
        path.write_bytes(content)
        if path.suffix == ".npy" or not_whole(path):
            return
    raise AssertionError(f"no flip in {path} was noticed")


def not_whole(path: Path) -> bool:
    try:
        artifacts.verify(path)
    except artifacts.CorruptArtifact:
        return True
    return False


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def test_damaged_files_are_named_and_made_again(done, finished, tally):
    """Those with a flipped byte, and those that end early."""
    victims = [
        "results/smoke/low_rank/runs/fig6/all.safetensors",
        "results/smoke/low_rank/runs/fig6/all.history.parquet",
        "results/smoke/dufm/measures/rec_backbone/all.parquet",
        "results/smoke/dufm/figures/rec_width.parquet",
        "results/smoke/low_rank/claims.parquet",
    ]
    for name, damage in zip(victims, itertools.cycle([flip, truncate])):
        damage(done / name)
    # Data, which what is made of them does not wait for.
    flip(done / "data/prepared/digits/train.images.npy")
    truncate(done / "data/prepared/mixture_imb/train.points.npy")
    said = finish(launch(done, studies="[agop, dufm, low_rank]"))
    cards = [f"data/prepared/{name}/card.json" for name in ("digits", "mixture_imb")]
    for name in [*victims, *cards]:
        assert f"{name} is damaged: deleted; it will be rebuilt" in said
        assert (done / name).exists()
    assert_equal(done, finished, "agop", "dufm", "low_rank")
    tally("damaged files of each kind, named and made again", len(victims) + 2)


def test_only_what_is_asked_for_is_made_again_whatever_options_there_are(done, finished, tally):
    """A damaged file is a target more, and neither displaces the others nor is displaced."""
    mine = "results/smoke/dufm/measures/rec_backbone/all.parquet"
    theirs = "results/smoke/low_rank/measures/fig6/all.parquet"
    missing = done / "results/smoke/dufm/figures/rec_width.svg"
    flip(done / mine)
    flip(done / theirs)
    missing.unlink()
    said = finish(launch(done, "dufm", "--cores", "2"))
    assert f"{mine} is damaged: deleted; it will be rebuilt" in said and theirs not in said
    assert not not_whole(done / mine) and missing.exists() and not_whole(done / theirs)
    # Options alone ask for everything.
    missing.unlink()
    said = finish(launch(done, "--cores", "2"))
    assert f"{theirs} is damaged: deleted; it will be rebuilt" in said and missing.exists()
    assert_equal(done, finished, "dufm", "low_rank")
    tally("damaged files beside options and targets", 2)


def test_a_job_does_not_trust_a_damaged_input(done):
    """Also under plain Snakemake, which knows nothing of checksums inside a file."""
    flip(done / "results/smoke/low_rank/measures/fig6/all.parquet")
    (done / ONE).unlink()
    command = [sys.executable, "-m", "snakemake", "--config", "scale=smoke"]
    environment = os.environ | {"PYTHONPATH": str(done / "workflow")}
    answer = subprocess.run(command, cwd=done, env=environment, capture_output=True, text=True)
    assert answer.returncode == 1 and "measures/fig6/all.parquet is damaged" in answer.stderr
    assert not (done / ONE).exists()


def test_one_run_that_fails_stops_no_other(done, finished, tally):
    """A loss that diverges, and a run that cannot fit; the report names what is missing."""
    bad = "overrides={low_rank: {fig6: {lr: 1.0e9}, fig2_top: {width: 2000000}}}"
    shutil.rmtree(done / "results/smoke/dufm/figures")
    said = finish(launch(done, config=(bad,)), status=1)
    assert "Every member of low_rank fig6 has diverged" in said
    assert "fig2_top needs about" in said and "MB of memory but this machine has" in said
    assert "Not made: low_rank/fig2_top_dufm_k10 low_rank/fig6_k15_l7." in said
    assert_equal(done, finished, "dufm")
    report = (done / "results/smoke/report.html").read_text()
    assert "These figures are missing" in report and "low_rank/fig6_k15_l7" in report
    front = (done / "results/smoke/index.html").read_text()
    assert "Incomplete." in front and 'href="low_rank/index.html#fig6_k15_l7"' in front
    assert 'src="dufm/figures/rec_depth.svg"' in front
    card = pd.read_parquet(done / "results/smoke/scorecard.partial.parquet")
    undecided = card[card["detail"].str.contains("its jobs have not finished")]
    assert set(undecided["study"]) == {"low_rank"} and len(card) == 16
    assert set(undecided["verdict"]) == {"not decidable at this scale"}
    finish(launch(done))
    assert_equal(done, finished, "low_rank", "dufm")
    assert not list((done / "results/smoke").glob("scorecard.partial.*"))
    assert "These figures are missing" not in (done / "results/smoke/report.html").read_text()
    assert "Incomplete." not in (done / "results/smoke/index.html").read_text()
    tally("runs that diverge or do not fit, the others finished", 2)


def test_results_elsewhere_another_user_s_habits_another_country(project, finished, tally):
    """`results` is a link, files are private, the clock and the language foreign, no home is there."""
    elsewhere = project.parent / "another disk"
    elsewhere.mkdir()
    (project / "results").symlink_to(elsewhere)
    foreign = {"LC_ALL": "C", "LANG": "tr_TR", "TZ": "Asia/Kathmandu", "HOME": "/proc/nohome"}
    assert "Traceback" not in finish(launch(project, ONE, env=foreign, umask=0o077))
    assert_same(project, finished, 4)
    tally("runs with linked results, without a home, another umask, locale and time zone", 1)
