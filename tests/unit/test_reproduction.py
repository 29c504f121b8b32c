"""Where the time of a reproduction goes: what is read from a folder, and from processes."""

import importlib
import json
import subprocess
import sys
import threading
import time

import pandas as pd
import psutil
import pytest


@pytest.fixture(scope="module")
def reproduction(root):
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(root / "benchmarks")
        yield importlib.import_module("reproduction")


@pytest.fixture
def project(tmp_path):
    """Three jobs as Snakemake records them, a job with two outputs twice; one has no log."""
    jobs = [
        ("train_run", "results/smoke/logs/train_run/dufm/a/all.log", 10, 20, (1.5, 9.0)),
        ("train_run", "results/smoke/logs/train_run/dufm/a/all.log", 10, 20, (1.5, 9.0)),
        ("claims", "results/smoke/logs/claims/dufm.log", 20, 22, (0.5, 1.0)),
        ("scorecard_table", "results/smoke/logs/scorecard.log", 22, 23, (0.25, 0.5)),
        ("all", None, 23, 23, ()),
    ]
    for number, (rule, log, start, end, seconds) in enumerate(jobs):
        record = {"rule": rule, "log": [log] if log else [], "starttime": start, "endtime": end}
        path = tmp_path / f".snakemake/metadata/{number}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(record))
        if log:
            (tmp_path / log).parent.mkdir(parents=True, exist_ok=True)
            first, last = (f"{seconds[i]:.3f} CPU seconds\n" for i in (0, 1))
            (tmp_path / log).write_text(f"Start-up: {first}step 3/10, loss 1\nIn all: {last}")
    return tmp_path


def test_each_job_is_counted_once_with_what_its_log_says(reproduction, project):
    rows = reproduction.jobs(project)
    by_rule = reproduction.summary(rows, "rule").set_index("rule")
    assert by_rule.loc["train_run"].tolist() == [1, 10, 9.0, 1.5]
    assert by_rule["cpu"].tolist() == [9.0, 1.0, 0.5]
    by_study = reproduction.summary(rows, "study").set_index("study")
    assert by_study.loc["dufm"].tolist() == [2, 12, 10.0, 2.0]
    assert by_study.loc["all", "startup"] == 0.25
    text = reproduction.markdown(by_study.reset_index()).splitlines()
    assert text[0] == "| study | jobs | wall | cpu | startup |"
    assert text[2] == "| dufm | 2 | 12 | 10.0 | 2.0 |"


def test_when_something_runs(reproduction):
    rows = pd.DataFrame({"start": [0.0, 5.0], "end": [2.0, 6.0]})
    assert reproduction.running(rows, [1, 3, 5.5, 7]) == [True, False, True, False]


@pytest.mark.slow
def test_processes_are_told_apart(reproduction):
    """A server of imports with a fork that computes: the fork is a job, the server is not."""
    code = (
        "import os, sys, tempfile\n"
        "from replica.fork_server import Starter\n"
        "path = os.path.join(tempfile.mkdtemp(), 'job.py')\n"
        "open(path, 'w').write('import time\\nwhile time.process_time() < 3: pass\\n')\n"
        "Starter([]).start(path, {}, 1)[1]()\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code])
    ended, found = threading.Event(), []
    arguments = (psutil.Process(process.pid), ended, 0.1)
    thread = threading.Thread(target=lambda: found.append(reproduction.watch(*arguments)))
    thread.start()
    assert process.wait() == 0
    time.sleep(0.3)
    ended.set()
    thread.join()
    seen = found[0]
    assert 0 < seen.cpu["imports, once for all jobs"] < 3
    assert len(seen.times) == len(seen.busy) == len(seen.memory) > 10
    assert max(seen.memory) > 10
