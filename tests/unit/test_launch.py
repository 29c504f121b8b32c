"""Starting beside what is there: other programs, Slurm, homes; and what is said in the end."""

import base64
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest

from replica import artifacts, last_words, launch, processes, slurm_queue
from replica.targets import asked_for


@pytest.mark.parametrize(
    ("line", "head"),
    [
        ("python -m snakemake --cores 2", True),
        ("/venv/bin/python3.11 -m snakemake", True),
        ("python3 -X dev -W error -um snakemake all", True),
        ("python -msnakemake", True),
        ("/usr/bin/python3 /venv/bin/snakemake -n", True),
        ("/venv/bin/snakemake all", True),
        ("python -m snakemake --mode subprocess", False),
        ("man snakemake", False),
        ("vim snakemake", False),
        ("less /home/me/snakemake", False),
        ("SCREEN -S snakemake", False),
        ("tmux new -s snakemake", False),
        ("tail -f snakemake.log", False),
        ("grep snakemake Snakefile", False),
        ("bash snakemake", False),
        ("python -c snakemake", False),
        ("python -m pip install snakemake", False),
        ("python -m pytest snakemake", False),
        ("python edit.py snakemake", False),
        ("python", False),
        ("", False),
    ],
)
def test_only_a_snakemake_counts_as_one(line, head):
    assert processes.is_head(line.split()) is head


@pytest.fixture
def slurm(tmp_path, monkeypatch):
    """Puts shell scripts in the place of Slurm's commands."""
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setattr(slurm_queue, "ANSWER_SECONDS", 0.5)
    monkeypatch.setattr(slurm_queue, "LEAVING_SECONDS", 0.1)

    def put(**commands: str) -> None:
        for name, script in commands.items():
            (tmp_path / name).write_text(f"#!/bin/sh\n{script}\n")
            (tmp_path / name).chmod(0o755)

    return put


@pytest.mark.slow
@pytest.mark.parametrize(
    ("commands", "said"),
    [
        ({"squeue": "exec sleep 60"}, "squeue was given up after 0.5 s"),
        ({"squeue": "echo down >&2; exit 1"}, "Slurm does not answer: down."),
        ({"squeue": "echo tried >&2; echo down >&2; exit 1"}, "Slurm does not answer: down."),
        ({"squeue": "exit 3"}, "squeue ended with 3"),
        ({"squeue": "echo 7 replica-x-1", "scancel": "exec sleep 60"}, "scancel was given up"),
        ({"squeue": "echo 7 replica-x-1", "scancel": "exit 1"}, "scancel ended with 1"),
        ({"squeue": "echo 7 replica-x-1", "scancel": ""}, "after 0.1 s (7)"),
    ],
)
def test_a_slurm_that_fails_stops_only_what_needs_it(slurm, capsys, commands, said):
    slurm(**commands)
    with pytest.raises(slurm_queue.SlurmSilent) as caught:
        slurm_queue.cancel_orphans("replica-x", needed=True)
    assert said in str(caught.value) and "\n" not in str(caught.value)
    slurm_queue.cancel_orphans("replica-x", needed=False)
    assert "This run needs no Slurm and goes on." in capsys.readouterr().err


def test_jobs_of_this_folder_are_told_from_others(slurm):
    slurm(squeue="printf '7 replica-x-1\\n8 other\\n\\n9\\n10 replica-x-2 b\\n'")
    assert slurm_queue.queued("replica-x") == ["7", "10"]


def test_without_slurm_nothing_is_said(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("PATH", str(tmp_path))
    slurm_queue.cancel_orphans("replica-x", needed=False)
    assert capsys.readouterr().err == ""
    with pytest.raises(slurm_queue.NoSlurm, match="There is no squeue here"):
        slurm_queue.cancel_orphans("replica-x", needed=True)


@pytest.mark.parametrize("home", ["/proc/nohome", "relative", "/dev/null"])
def test_a_home_that_does_not_serve_is_replaced(tmp_path, monkeypatch, home):
    monkeypatch.setenv("HOME", home)
    for name in ("XDG_CACHE_HOME", "MPLCONFIGDIR"):
        monkeypatch.delenv(name, raising=False)
    cache = str(tmp_path / "cache")
    assert launch.caches(tmp_path) == {"XDG_CACHE_HOME": cache, "MPLCONFIGDIR": cache}


def test_a_home_that_serves_is_left(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("MPLCONFIGDIR", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert launch.caches(tmp_path / ".snakemake") == {}
    monkeypatch.setenv("XDG_CACHE_HOME", "/proc/nowhere")
    assert list(launch.caches(tmp_path / ".snakemake")) == ["XDG_CACHE_HOME"]


TELLS = """
import json, os, signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
os.write(int(os.environ["REPLICA_PIPE"]), b'{"event": "started"}\\n')
open("runs", "w").close()
time.sleep(float(sys.argv[1]))
"""


def test_what_snakemake_tells_is_heard(tmp_path):
    command = [sys.executable, "-c", TELLS, "0"]
    assert launch._run(command, tmp_path, {}) == (0, [{"event": "started"}])


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_what_runs_and_is_the_status(tmp_path, number):
    def send() -> None:
        while not (tmp_path / "runs").exists():
            time.sleep(0.01)
        os.kill(os.getpid(), number)

    threading.Thread(target=send).start()
    began = time.monotonic()
    handler = signal.getsignal(number)
    with pytest.raises(launch.Stopped) as caught, launch._stoppable():
        launch._run([sys.executable, "-c", TELLS, "60"], tmp_path, {})
    assert caught.value.status == 128 + number and time.monotonic() - began < 30
    assert signal.getsignal(number) is handler


def test_the_last_words_of_each_job_that_stayed_failed(tmp_path):
    def failed(job: int, rule: str, name: str, words: str = "") -> dict:
        log = f"results/smoke/logs/{rule}/{name}.log"
        return {"event": "failed", "job": job, "rule": rule, "files": [log], "words": words}

    events = [
        {"event": "started"},
        {"event": "words", "log": "results/smoke/logs/train_run/a/b/all.log",
         "words": last_words.killed(-9, 1600)},
        failed(1, "train_run", "a/b/all"),
        failed(2, "figure_plot", "a/fig1"),
        failed(3, "certify", "a/c/all", "SLURM-job '7' failed, its status is\n TIMEOUT"),
        failed(4, "measure_run", "a/b/all"),
        failed(5, "claims", "a"),
        failed(6, "train_run", "a/d/all"),
        {"event": "done", "job": 4},
    ]  # fmt: skip
    log = tmp_path / "results/smoke/logs/figure_plot/a/fig1.log"
    log.parent.mkdir(parents=True)
    log.write_text("Start-up: 1\nTraceback\nFailed: ValueError: no rows\nIn all: 2\n")
    old = tmp_path / "results/smoke/logs/claims/a.log"
    old.parent.mkdir(parents=True)
    old.write_text("Failed: of another run\n")
    slurm = tmp_path / "results/logs/slurm/group_short_train_run/13.log"
    slurm.parent.mkdir(parents=True)
    slurm.write_text(
        "rule train_run:\n    log: results/smoke/logs/train_run/a/d/all.log\nsrun: got SIGCONT\n"
        "slurmstepd-vm: error: *** JOB 13 ON vm CANCELLED AT 2026-11-30T09:52:37 DUE TO TIME LIMIT ***\n"
        "srun: forcing job termination\n"
    )
    os.utime(old, (1, 1))
    assert last_words.failures(events, tmp_path, since=1000.0) == [
        "train_run a/b/all: was killed (signal 9), perhaps for lack of memory: it had asked for "
        "1600 MB (log: results/smoke/logs/train_run/a/b/all.log)",
        "figure_plot a/fig1: ValueError: no rows (log: results/smoke/logs/figure_plot/a/fig1.log)",
        "certify a/c/all: SLURM-job '7' failed, its status is TIMEOUT "
        "(log: results/smoke/logs/certify/a/c/all.log)",
        "claims a: ended without a word; was it killed, perhaps for lack of memory? "
        "(log: results/smoke/logs/claims/a.log)",
        "train_run a/d/all: Slurm: JOB 13 ON vm CANCELLED AT 2026-11-30T09:52:37 DUE TO TIME LIMIT "
        "(log: results/smoke/logs/train_run/a/d/all.log)",
    ]


@pytest.mark.parametrize(
    ("arguments", "asks"),
    [
        ([], True), (["-j1"], True), (["all", "-j", "1"], True), (["mol", "pages"], True),
        (["results/smoke/index.html"], True), (["mol"], False), (["--keep-going", "mol"], False),
        (["results/smoke/mol/figures/rec_b9_filter.svg", "--prioritize", "all"], False),
    ],
)  # fmt: skip
def test_one_study_does_not_ask_for_the_pages_of_all(arguments, asks):
    plan, asked = SimpleNamespace(results="results/smoke"), asked_for(["snakemake", *arguments])
    assert launch._asks_for_pages(plan, asked) == asks


@pytest.mark.slow
def test_the_ending_names_claims_only_where_they_were_decided(tmp_path, capsys):
    plan = SimpleNamespace(root=tmp_path, results="results/smoke", key=lambda name: "k",
                           config=SimpleNamespace(name=None, scale="smoke"))  # fmt: skip
    (tmp_path / plan.results).mkdir(parents=True)
    launch._print_ending(plan, 0.0, complete=True)
    assert capsys.readouterr().out == ""
    card = pd.DataFrame({"study": ["mol"], "rests_on": ["proof"], "verdict": ["holds"]})
    artifacts.write_table(tmp_path / plan.results / "scorecard.parquet", card, {"key": "k"})
    launch._print_ending(plan, 0.0, complete=True)
    said = capsys.readouterr().out
    assert "1 holds" in said and said.endswith("Each claim: replica scorecard smoke\n")


def test_snakemake_tells_of_failed_and_finished_jobs(tmp_path):
    """With Snakemake's own records, whose fields are not documented."""
    (tmp_path / "Snakefile").write_text(
        "from replica.last_words import listen\n"
        "onstart:\n    listen()\n"
        "rule all:\n    input: 'a', 'b'\n"
        "rule a:\n    output: 'a'\n    log: 'a.log'\n    shell: 'touch a'\n"
        "rule b:\n    output: 'b'\n    log: 'logs/b.log'\n    shell: 'exit 3'\n"
    )
    command = [sys.executable, "-m", "snakemake", "--cores", "1", "--keep-going"]
    status, events = launch._run(command, tmp_path, {})
    kinds = [event["event"] for event in events]
    assert status == 1 and kinds[0] == "started"
    assert sorted(kinds[1:]) == ["done", "failed"]
    (failed,) = [event for event in events if event["event"] == "failed"]
    assert failed["rule"] == "b" and failed["files"] == ["logs/b.log"]


def test_outputs_that_are_being_made_are_read_from_snakemake_s_notes(tmp_path):
    import base64

    folder = tmp_path / "incomplete"
    code = base64.urlsafe_b64encode(b"results/smoke/a/runs/b/all.history.parquet").decode()
    (folder / f"@{code[:20]}").mkdir(parents=True)
    (folder / f"@{code[:20]}" / code[20:]).write_text("")
    (folder / "migration_underway").write_text("")
    assert processes._begun(folder) == {"results/smoke/a/runs/b/all"}


def test_the_report_follows_what_it_shows_and_its_words(tmp_path, monkeypatch):
    drawing, page = tmp_path / "results/a.svg", tmp_path / "results/report.html"
    drawing.parent.mkdir()
    built = []

    def run(command, *_):
        built.append(command)
        page.write_text("<html></html>")
        return 0, []

    monkeypatch.setattr(launch, "_run", run)

    def builds(drawn_with: str, words: str) -> bool:
        drawing.write_text("<svg></svg>")
        artifacts.mark(drawing, key=drawn_with, commit="")
        plan = SimpleNamespace(root=tmp_path, results="results")
        monkeypatch.setattr(launch.keys, "shown", lambda _: {"results/a.svg": "k"})
        monkeypatch.setattr(launch.keys, "report_key", lambda _: words)
        before = len(built)
        launch.build_report(plan, [], {}, complete=True)
        return len(built) > before

    # A drawing of other settings: the run was of another study alone.
    assert not builds("old", "words")
    assert builds("k", "words") and not builds("k", "words")
    assert builds("k", "other words") and artifacts.has_key(page, "other words")


def replica(*arguments: str, folder: Path) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "replica", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True)


@pytest.mark.slow
def test_mistakes_on_the_command_line_are_sentences(tmp_path):
    said = replica(folder=tmp_path)
    assert said.returncode == 2 and "scorecard" in said.stdout
    said = replica("status", folder=tmp_path)
    assert said.returncode == 1
    assert said.stderr == (
        f"There is no config/config.yaml in {tmp_path}: run this command in the project folder.\n"
    )
    (tmp_path / "config").mkdir()
    (tmp_path / "config/config.yaml").write_text("scale: smoke\n")
    said = replica("scorecard", "paper", folder=tmp_path)
    assert said.stderr == (
        "There is no scorecard of the scale paper yet: run make SCALE=paper first.\n"
    )


@pytest.mark.slow
def test_show_tells_our_artifacts_from_other_files(tmp_path):
    import pandas as pd

    frame = pd.DataFrame({f"a long name of a column {i}": range(9) for i in range(9)})
    artifacts.write_table(tmp_path / "ours.parquet", frame, {"key": "k"})
    frame.to_parquet(tmp_path / "data.parquet")
    (tmp_path / "README.md").write_text("words")
    (tmp_path / "x.svg").write_text("<svg/>")
    for name in ("data.parquet", "README.md", "x.svg"):
        said = replica("show", name, folder=tmp_path)
        assert said.returncode == 1
        assert said.stderr == f"{name} is not an artifact of Replica (it has no stamp).\n"
    (tmp_path / "cut.parquet").write_bytes((tmp_path / "ours.parquet").read_bytes()[:99])
    assert "is not an artifact of Replica" in replica("show", "cut.parquet", folder=tmp_path).stderr
    (tmp_path / "config").mkdir()
    (tmp_path / "config/config.yaml").write_text("scale: smoke\n")
    (tmp_path / "results").mkdir()
    (tmp_path / "cut.parquet").rename(tmp_path / "results/cut.parquet")
    said = replica("show", "results/cut.parquet", folder=tmp_path)
    assert "is damaged" in said.stderr and "it will be rebuilt" in said.stderr
    artifacts.mark(tmp_path / "x.svg", key="k2", commit="c")
    said = replica("show", "--json", "x.svg", folder=tmp_path)
    assert json.loads(said.stdout) == {"key": "k2", "commit": "c"}
    said = replica("show", "--json", "ours.parquet", folder=tmp_path)
    assert json.loads(said.stdout)["key"] == "k"
    said = replica("show", "ours.parquet", folder=tmp_path)
    assert max(map(len, said.stdout.splitlines())) <= 120 and "9 rows" in said.stdout
    assert "with 3 artifacts of Replica" in replica("show", ".", folder=tmp_path).stdout


@pytest.mark.parametrize("ending", ["svg", "html", "pdf"])
def test_a_mark_changes_nothing_that_is_shown(tmp_path, ending):

    path = tmp_path / f"x.{ending}"
    path.write_bytes(b"<a>\n</a>\n")
    before = artifacts.content_digest(path)
    for commit in ("one--two", "three"):
        artifacts.mark(path, key="k", commit=commit)
        assert artifacts.read_stamp(path) == {"key": "k", "commit": commit}
        assert artifacts.content_digest(path) == before
        assert path.read_bytes().startswith(b"<a>\n</a>\n\n")
        assert b"one--two" not in path.read_bytes()
    path.write_bytes(b"<a/>")
    assert artifacts.read_stamp(path) is None


def test_results_from_elsewhere_are_known_by_their_stamp(tmp_path, capsys):
    from replica import adoption

    keys = {f"results/smoke/{name}.parquet": "key" for name in ("mine", "old", "theirs", "broken")}
    made = dict.fromkeys(keys, "key") | {
        "results/smoke/old.parquet": "another",
        "results/smoke/theirs.parquet": "another",
    }
    notes = tmp_path / ".snakemake/metadata"
    notes.mkdir(parents=True)
    for name, key in made.items():
        artifacts.write_table(tmp_path / name, pd.DataFrame({"x": [1]}), {"key": key})
        if "theirs" not in name:
            # Snakemake made it, and will see that it has another key.
            (notes / base64.urlsafe_b64encode(name.encode()).decode()).touch()
    (tmp_path / "results/smoke/broken.parquet").write_bytes(b"PAR1")
    for name, key in [("f.svg", "another"), ("f.pdf", "key")]:
        path = tmp_path / "results/smoke/mol/figures" / name
        artifacts.write_bytes(path, b"drawn\n")
        artifacts.mark(path, key=key, commit="c")
    plan = SimpleNamespace(
        root=tmp_path, artifacts=lambda: keys, parts={}, config=SimpleNamespace(data_dir="data"),
        results="results/smoke", studies={"mol": SimpleNamespace(figures=["f"])},
        key=lambda *names: "key",
    )  # fmt: skip
    assert adoption.unusable(plan) == {
        "results/smoke/theirs.parquet": "made by other code or other settings",
        "results/smoke/broken.parquet": "damaged",
        "results/smoke/mol/figures/f.svg": "made by other code or other settings",
    }
    # Of a study of which nothing is asked for, they wait.
    there = {"results/smoke/theirs.parquet", "results/smoke/broken.parquet"}
    plan.studies["other"] = SimpleNamespace(figures=[])
    assert set(adoption.unusable(plan, ["other"])) == there
    for asked in (["mol"], ["results/smoke/mol/figures/f.pdf"], ["all"], ["other", "scorecard"]):
        assert len(adoption.unusable(plan, asked)) == 3, asked
    assert not adoption.are_all_noted(plan)
    assert adoption.delete_unusable(plan) == ["results/smoke/broken.parquet"]
    assert adoption.are_all_noted(plan)
    left = {path.name for path in tmp_path.glob("results/smoke/**/*.*")}
    assert left == {"mine.parquet", "old.parquet", "f.pdf"}
    said = capsys.readouterr().out
    others = "results/smoke/theirs.parquet, results/smoke/mol/figures/f.svg"
    assert f"by other code or other settings: {others}; deleted." in said
    assert "broken.parquet is damaged: deleted; it will be rebuilt." in said


def test_times_of_files_that_are_not_mine_are_left_alone(tmp_path, monkeypatch):
    from types import SimpleNamespace

    from replica import adoption

    receipt = tmp_path / "data/raw/x/receipt.json"
    receipt.parent.mkdir(parents=True)
    receipt.write_text("{}")

    def refuse(path, *_):
        raise PermissionError(1, "Operation not permitted", str(path))

    monkeypatch.setattr(os, "utime", refuse)
    monkeypatch.setattr(adoption, "not_current", lambda plan: {})
    config = SimpleNamespace(data_dir="data")
    adoption.adopt(SimpleNamespace(root=tmp_path, config=config, results="results/smoke"))


def test_the_command_to_try_again_is_the_one_that_was_given(monkeypatch):
    def command(settings, **environment):
        for name in ("MAKELEVEL", "REPLICA_SCALE", "REPLICA_SETTINGS"):
            monkeypatch.delenv(name, raising=False)
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(sys, "argv", ["x", "run", "--slurm", "--settings", settings])
        return launch._command()

    assert command("seeds=3") == "replica run --slurm --settings seeds=3"
    made = {"MAKELEVEL": "1", "REPLICA_SCALE": "", "REPLICA_SETTINGS": ""}
    assert command("", **made) == "make slurm"
    # Within make, but not by its settings: a test, for example.
    assert command("seeds=3", **made) == "replica run --slurm --settings seeds=3"
    settings = "seeds=3 overrides={mol: {shares: {seeds: 5}}}"
    made |= {"REPLICA_SCALE": "smoke", "REPLICA_SETTINGS": settings}
    assert command(settings, **made) == f"make slurm SCALE=smoke CONFIG='{settings}'"
