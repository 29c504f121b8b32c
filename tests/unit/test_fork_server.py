"""Scripts in forks of a process that has imported their libraries."""

import os
import re
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from types import SimpleNamespace

import psutil
import pytest

from replica import fork_server, last_words, provenance
from replica.fork_server import Starter, StarterEnded, fork_scripts, is_as_known
from replica.kinds import KINDS
from replica.plan.servers import WITH_TORCH, server_modules, server_of

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="forks are for Linux")


@pytest.fixture(scope="module")
def starter():
    return Starter(["numpy", "decimal"])


@pytest.fixture
def script(tmp_path):
    """A function from source to the path of a script; the folder is `{here}`."""

    def written(source: str) -> str:
        path = tmp_path / f"{len(list(tmp_path.iterdir()))}.py"
        path.write_text(source.replace("{here}", str(tmp_path)))
        return str(path)

    return written


def test_a_script_runs_as_the_main_module_of_a_process_of_its_own(starter, script, tmp_path):
    path = script(
        "import os, sys, threadpoolctl\n"
        "import numpy\n"
        "pools = {pool['num_threads'] for pool in threadpoolctl.threadpool_info()}\n"
        "assert 'decimal' in sys.modules\n"
        "said = __name__, sys.argv, os.getpid(), os.environ['NAME'], pools\n"
        "open('{here}/said', 'w').write(repr(said))\n"
    )
    pid, end = starter.start(path, {"NAME": "value"}, 1)
    status, seconds, words = end()
    assert status == 0 and 0 < seconds < 10 and words == ""
    said = eval((tmp_path / "said").read_text())
    assert said == ("__main__", [path], pid, "value", {1})
    assert pid != os.getpid()


@pytest.mark.parametrize(
    ("source", "status"),
    [
        ("raise SystemExit(3)", 3),
        ("raise ValueError('no')", 1),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", -signal.SIGKILL),
        ("import os, signal; os.kill(os.getpid(), signal.SIGTERM)", -signal.SIGTERM),
        ("this is no Python", 1),
    ],
)
def test_the_status_is_that_of_an_interpreter(starter, script, source, status):
    assert starter.start(script(source), {}, 1)[1]()[0] == status


def test_scripts_run_at_the_same_time_and_do_not_see_each_other(starter, script, tmp_path):
    """Each waits for a file that the other writes; neither sees what the other put into a module."""
    source = (
        "import os, time, decimal\n"
        "assert not hasattr(decimal, 'mark')\n"
        "decimal.mark = 1\n"
        "me = os.environ['ME']\n"
        "open('{here}/' + me, 'w').close()\n"
        "deadline = time.monotonic() + 30\n"
        "while not os.path.exists('{here}/' + os.environ['OTHER']):\n"
        "    assert time.monotonic() < deadline\n"
        "    time.sleep(.01)\n"
    )
    path = script(source)

    def run(names):
        return starter.start(path, {"ME": names[0], "OTHER": names[1]}, 1)[1]()[0]

    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(run, [("a", "b"), ("b", "a")])) == [0, 0]


def test_many_threads_get_the_answers_to_their_own_scripts(starter, script):
    path = script("import os; raise SystemExit(int(os.environ['CODE']))")
    with ThreadPoolExecutor(8) as pool:
        found = list(
            pool.map(lambda c: starter.start(path, {"CODE": str(c)}, 1)[1]()[0], range(40))
        )
    assert found == list(range(40))


def test_the_cpu_time_is_that_of_the_script(starter, script):
    path = script("import time\nwhile time.process_time() < .5: pass\n")
    _, seconds, _ = starter.start(path, {}, 1)[1]()
    assert 0.5 <= seconds < 1.5


def test_the_last_sentence_of_a_script_comes_with_its_end(starter, script, tmp_path):
    """Also where its log cannot be written, as on a full disk."""
    path = script(
        "from replica import provenance\n"
        "with provenance.one_sentence('/dev/full'):\n"
        "    raise ValueError('the loss\\nis not finite')\n"
    )
    status, _, words = starter.start(path, {}, 1)[1]()
    assert (status, words) == (1, "ValueError: the loss is not finite")


def test_a_dead_server_is_said_and_the_next_script_gets_a_new_one(script):
    starter = Starter([])
    pid, end = starter.start(script("import time; time.sleep(60)"), {}, 1)
    server = psutil.Process(pid).parent()
    assert server.cmdline()[1:3] == ["-m", "replica.fork_server"]
    threading.Timer(0.1, server.kill).start()
    with pytest.raises(StarterEnded, match="killed, or is memory short"):
        end()
    psutil.Process(pid).kill()
    assert starter.start(script(""), {}, 1)[1]()[0] == 0


def test_a_module_that_cannot_be_imported_is_what_is_said(script, tmp_path, monkeypatch):
    broken = tmp_path / "library/broken_study.py"
    broken.parent.mkdir()
    broken.write_text("x = 1\ny = z\n")
    monkeypatch.setenv("PYTHONPATH", f"{broken.parent}:{os.environ.get('PYTHONPATH', '')}")
    starter = Starter(["broken_study"])
    why = re.escape(f"cannot be imported: NameError: name 'z' is not defined ({broken}, line 2)")
    for _ in range(2):
        with pytest.raises(StarterEnded, match=why):
            starter.start(script(""), {}, 1)
    broken.write_text("z = 1\n")
    assert starter.start(script(""), {}, 1)[1]()[0] == 0


def test_no_server_starts_with_other_code_than_the_keys_are_of(script, tmp_path, monkeypatch):
    library = tmp_path / "workflow/replica"
    library.mkdir(parents=True)
    source = library / "study.py"
    source.write_text("x = 1\n")
    monkeypatch.setattr(provenance, "LIBRARY", library)
    provenance._sources(library)
    starter = Starter([], provenance.changed_source)
    assert starter.start(script(""), {}, 1)[1]()[0] == 0
    source.write_text("x = 2\n")
    # The server that runs has the code from before.
    assert starter.start(script(""), {}, 1)[1]()[0] == 0
    with pytest.raises(StarterEnded, match=r"workflow/replica/study\.py has changed since"):
        Starter([], provenance.changed_source).start(script(""), {}, 1)


@pytest.mark.slow
def test_scripts_end_with_the_process_that_asked_for_them(script, tmp_path):
    """SIGKILL of Snakemake: its jobs get SIGTERM, at which a training saves its state."""
    job = script(
        "import os, signal, sys, time\n"
        "def save(*_):\n"
        "    open('{here}/saved', 'w').close()\n"
        "    sys.exit()\n"
        "signal.signal(signal.SIGTERM, save)\n"
        "open('{here}/pid.tmp', 'w').write(str(os.getpid()))\n"
        "os.rename('{here}/pid.tmp', '{here}/pid')\n"
        "time.sleep(60)\n"
    )
    asks = f"from replica.fork_server import Starter; Starter([]).start({job!r}, {{}}, 1)[1]()"
    asking = subprocess.Popen([sys.executable, "-c", asks])
    _until((tmp_path / "pid").exists)
    processes = [psutil.Process(int((tmp_path / "pid").read_text()))]
    processes.append(processes[0].parent())
    asking.kill()
    asking.wait()
    assert psutil.wait_procs(processes, timeout=20)[1] == []
    assert (tmp_path / "saved").exists()


def test_signals_to_the_group_end_jobs_and_leave_the_server(script, tmp_path):
    """Ctrl-C reaches all of them; Snakemake still hears how each job ended."""
    job = script("open('{here}/runs', 'w').close()\nimport time; time.sleep(60)")
    asks = (
        "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)\n"
        "from replica.fork_server import Starter\n"
        f"print(Starter([]).start({job!r}, {{}}, 1)[1]()[0])"
    )
    command = [sys.executable, "-c", asks]
    asking = subprocess.Popen(command, start_new_session=True, stdout=subprocess.PIPE, text=True)
    _until((tmp_path / "runs").exists)
    os.killpg(asking.pid, signal.SIGINT)
    assert asking.communicate(timeout=30)[0] == "-15\n"


@pytest.mark.slow
def test_the_plain_server_has_no_torch():
    """Jobs that draw, judge or read arrays import no torch, and what they need is there at once."""
    modules = server_modules(["dufm", "sinks", "mol"])["plain"]
    code = f"import sys, importlib\nfor m in {modules}: importlib.import_module(m)\n"
    code += "print([m for m in ('torch', 'seaborn', 'replica.studies.sinks') if m in sys.modules])"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout.strip() == "['seaborn', 'replica.studies.sinks']"


@pytest.mark.slow
def test_the_torch_server_leaves_the_gpu_alone():
    """A fork cannot use CUDA where its parent has touched it, and be it to count the devices."""
    modules = server_modules([])["torch"]
    code = "import importlib, torch\n"
    code += "torch._C._cuda_getDeviceCount = torch._C._cuda_init = None\n"
    code += f"for m in {modules}: importlib.import_module(m)\n"
    code += "print(torch.cuda.is_initialized())"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout.strip() == "False"


def test_jobs_are_sent_to_the_server_that_has_what_they_import():
    class Params:
        def __init__(self, reader):
            self.reader = reader

    assert {server_of(rule, object()) for rule in WITH_TORCH} == {"torch"}
    assert {kind.arrays for kind in KINDS.values()} == {True, False}
    for reader, server in [("read_arrays", "plain"), ("read_tensors", "torch")]:
        assert server_of("measure_run", Params(reader)) == server
    modules = server_modules([])
    for kind in KINDS.values():
        assert kind.measure.partition(":")[0] in modules["plain" if kind.arrays else "torch"]
    for rule in ("figure_table", "figure_plot", "claims", "scorecard_table", "correlations"):
        assert server_of(rule, object()) == "plain"


def _until(condition) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_snakemake_that_starts_scripts_otherwise_is_left_alone(monkeypatch, capsys):
    from snakemake import script

    assert is_as_known(script.PythonScript)

    class Other(script.PythonScript):
        def execute_script(self, fname): ...

    class Fewer:
        def __init__(self, params, threads): ...

        def execute_script(self, fname, edit=False): ...

    class Nothing: ...

    for other in (Other, Fewer, Nothing):
        assert not is_as_known(other)
        own = getattr(other, "execute_script", None)
        monkeypatch.setattr(script, "PythonScript", other)
        fork_scripts(None, {"plain": []}, None, None)
        assert getattr(other, "execute_script", None) is own
        said = capsys.readouterr().err
        assert "starts scripts in an unexpected way" in said and said.count("\n") == 1


def test_a_snakemake_that_is_known_gets_forks(monkeypatch, capsys):
    from snakemake import script

    class Same(script.PythonScript): ...

    monkeypatch.setattr(script, "PythonScript", Same)
    fork_scripts(None, {"plain": []}, None, None)
    assert "execute_script" in vars(Same) and capsys.readouterr().err == ""


def test_a_job_that_is_to_be_tried_again_is_once(monkeypatch):
    """A full GPU: the second attempt counts, with the time of both."""
    from snakemake import script

    ends, said = [], []

    class Starter:
        def __init__(self, modules, refuse): ...

        def start(self, fname, environment, threads):
            return os.getpid(), lambda: ends.pop(0)

    class Same(script.PythonScript): ...

    monkeypatch.setattr(script, "PythonScript", Same)
    monkeypatch.setattr(fork_server, "Starter", Starter)
    fork_scripts(lambda rule, params: "plain", {"plain": []}, said.append, lambda: None)
    job = SimpleNamespace(
        container_img=None, conda_env=None, env_modules=None, rulename="train_run", params={},
        threads=1, resources={}, log=["a.log"],
        bench_record=SimpleNamespace(running_time=0, cpu_time=0),
    )  # fmt: skip
    monkeypatch.setattr("snakemake.benchmark.benchmarked", lambda pid, record: nullcontext())
    ends[:] = [(last_words.TRY_AGAIN, 2.0, "full"), (0, 3.0, "")]
    Same.execute_script(job, "train.py")
    assert job.bench_record.cpu_time == 5.0 and not said and not ends
    ends[:] = [(last_words.TRY_AGAIN, 2.0, "full"), (last_words.TRY_AGAIN, 3.0, "full again")]
    with pytest.raises(subprocess.CalledProcessError):
        Same.execute_script(job, "train.py")
    assert said[0]["words"] == "full again" and not ends


def test_why_no_server_starts_is_the_last_word_of_a_job(monkeypatch):
    from snakemake import script

    class Same(script.PythonScript): ...

    said = []
    monkeypatch.setattr(script, "PythonScript", Same)
    fork_scripts(lambda rule, params: "plain", {"plain": []}, said.append, lambda: "a.py changed")
    job = SimpleNamespace(
        container_img=None, conda_env=None, env_modules=None, rulename="train_run", params={},
        threads=1, resources={}, log=["a.log"], bench_record=None,
    )  # fmt: skip
    with pytest.raises(StarterEnded, match=r"a\.py changed"):
        Same.execute_script(job, "train.py")
    assert said == [{"event": "words", "log": "a.log", "words": "a.py changed"}]
