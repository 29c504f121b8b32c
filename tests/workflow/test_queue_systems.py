"""Clusters without Slurm: the options of each system, and a study on an LSF made of two scripts."""

import importlib.util
import json
import os
import stat
import subprocess

import pytest
import yaml

from project import ROOT, call, copy_project

# Runs what it is given in the background, and keeps its exit status beside its log.
BSUB = """#!/bin/sh
for script; do :; done
folder=$(dirname "$0")/jobs
mkdir -p "$folder"
echo "$*" >> "$folder/submitted"
id=$(wc -l < "$folder/submitted")
( sh "$script" > "$folder/$id.log" 2>&1; echo $? > "$folder/$id.status" ) > /dev/null &
echo "Job <$id> is submitted to default queue <normal>."
"""
BJOBS = """#!/bin/sh
for id; do :; done
file=$(dirname "$0")/jobs/$id.status
if [ ! -s "$file" ]; then echo RUN; elif [ "$(cat "$file")" = 0 ]; then echo DONE; else echo EXIT; fi
"""


@pytest.fixture(scope="module")
def jobs():
    spec = importlib.util.spec_from_file_location("jobs", ROOT / "profiles/cluster-generic/jobs.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def programs(folder, monkeypatch, **texts):
    """Put executable scripts of these names before all others."""
    folder.mkdir(exist_ok=True)
    for name, text in texts.items():
        (folder / name).write_text(text)
        (folder / name).chmod(stat.S_IRWXU)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")


def script(resources, threads=2):
    return f"#!/bin/sh\n# properties = {json.dumps({'threads': threads, 'resources': resources})}\ntrue"


@pytest.mark.parametrize(
    ("system", "options"),
    [
        ("lsf", ["-n 2", "-W 1:35", "-M 5001MB", "rusage[mem=5001MB]", "-gpu num=1", "-q a", "-P me"]),
        ("sge", ["-pe smp 2", "h_rt=1:35:00", "h_vmem=2501M", "-l gpu=1", "-q a", "-P me"]),
        ("pbs", ["select=1:ncpus=2:mem=5001mb:ngpus=1", "walltime=1:35:00", "-q a", "-A me"]),
    ],
)  # fmt: skip
def test_requests_become_options(jobs, system, options):
    asked = {
        "mem_mb": 5001, "runtime": 95, "gres": "gpu:a100:1", "slurm_partition": "a",
        "slurm_account": "me", "slurm_extra": "-l 'a b'",
    }  # fmt: skip
    command = jobs.submission(system, jobs.requests(script(asked)), "job.sh")
    assert all(option in " ".join(command) for option in options)
    assert command[-3:] == ["-l", "a b", "job.sh"]
    bare = jobs.requests(script({"mem_mb": 600, "runtime": 5, "gres": ""}, threads=1))
    said = " ".join(jobs.submission(system, bare, "job.sh"))
    assert "gpu" not in said and " -q " not in said and "0:05" in said


@pytest.mark.parametrize(
    ("system", "program", "answer", "expected"),
    [
        ("sge", "qacct", "exit_status  0", "success"),
        ("sge", "qacct", "exit_status  137", "failed"),
        ("sge", "qacct", "", "running"),
        ("pbs", "qstat", "    job_state = F\n    Exit_status = -29", "failed"),
        ("pbs", "qstat", "    job_state = F\n    Exit_status = 0", "success"),
        ("pbs", "qstat", "    job_state = R", "running"),
        ("lsf", "bjobs", "PEND", "running"),
        ("lsf", "bjobs", "EXIT", "failed"),
    ],
)
def test_a_job_is_asked_after(jobs, tmp_path, monkeypatch, system, program, answer, expected):
    programs(tmp_path / "bin", monkeypatch, **{program: f"#!/bin/sh\nprintf '%s\\n' '{answer}'"})
    assert jobs.status(system, "12") == expected


@pytest.mark.parametrize(
    ("system", "said"), [("sge", "77"), ("pbs", "77.head"), ("lsf", "J <77>.")]
)
def test_the_id_of_a_job_is_read(jobs, tmp_path, monkeypatch, system, said):
    program = f"#!/bin/sh\necho '{said}'"
    programs(tmp_path / "bin", monkeypatch, bsub=program, qsub=program)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "job.sh").write_text(script({"mem_mb": 600, "runtime": 5}))
    assert jobs.submit(system, "job.sh").partition(".")[0] == "77"


def test_a_refusal_is_one_sentence(tmp_path):
    (tmp_path / "job.sh").write_text(script({"mem_mb": 600, "runtime": 5}))
    answer = subprocess.run(
        ["python3", ROOT / "profiles/cluster-generic/jobs.py", "submit", "sge", "job.sh"],
        cwd=tmp_path, capture_output=True, text=True, env={"PATH": os.environ["PATH"]},
    )  # fmt: skip
    assert answer.returncode == 1 and answer.stderr.startswith("The job cannot be handed over: ")


def test_both_profiles_of_clusters_say_the_same():
    """But for what is about the system itself."""
    one, other = (
        yaml.safe_load((ROOT / f"profiles/{name}/config.yaml").read_text(encoding="utf-8"))
        for name in ("slurm", "cluster-generic")
    )
    own = [
        key for key in [*one, *other] if key == "executor" or key.startswith(("slurm", "cluster"))
    ]
    assert {k: v for k, v in one.items() if k not in own} == {
        k: v for k, v in other.items() if k not in own
    }


def test_a_study_runs_through_a_queue(tmp_path, monkeypatch):
    project = copy_project(ROOT, tmp_path / "project")
    programs(tmp_path / "bin", monkeypatch, bsub=BSUB, bjobs=BJOBS)
    call(
        project, "snakemake", "--profile", "profiles/cluster-generic", "--jobs", "2",
        "--latency-wait", "5", "--seconds-between-status-checks", "1",
        "--config", "scale=smoke", "studies=[dufm]",
    )  # fmt: skip
    assert (project / "results/smoke/scorecard.html").exists()
    submitted = (tmp_path / "bin/jobs/submitted").read_text().splitlines()
    # Twelve jobs of runs in one bundle, and the measures of all networks.
    assert len(submitted) == 2 and "-W 0:06 -M 3600MB" in submitted[1]
