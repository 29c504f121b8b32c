"""The installation: uv where it starts, pip where it does not, both told what pip was told."""

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.fixture(scope="module")
def install(root):
    spec = importlib.util.spec_from_file_location("install", root / "envs/install.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def called(install, monkeypatch):
    """The commands that are run, and the exit status of those that hold a word."""
    calls, status = [], {}

    def run(command, **options):
        calls.append((command[1:], options.get("env", {})))
        code = next((code for word, code in status.items() if word in " ".join(command)), 0)
        return subprocess.CompletedProcess(command, code, "global.index-url='http://i/simple'\n")

    monkeypatch.setattr(install.subprocess, "run", run)
    return calls, status


def test_uv_installs_with_the_hashes_of_the_lock_and_the_index_of_pip(install, called, capsys):
    calls, _ = called
    assert install.main(Path("envs/requirements.txt")) == 0
    (first, _), (config, _), (second, environment) = calls
    assert first[:3] == ["-m", "pip", "install"] and "--require-hashes" in first
    assert "--only-binary=:all:" in first and first[-2].endswith("envs/requirements-uv.txt")
    assert config == ["-m", "pip", "config", "list"]
    assert second[:4] == ["-m", "uv", "pip", "install"] and "--require-hashes" in second
    assert second[second.index("--python") + 1] == sys.executable
    assert environment["UV_DEFAULT_INDEX"] == "http://i/simple" and "PATH" in environment
    said = capsys.readouterr().out
    assert said.startswith("Installing the packages of envs/requirements.txt into ")
    assert "GB to download" in said or not sys.platform.startswith("linux")


@pytest.mark.parametrize(
    ("fails", "words"),
    [("requirements-uv.txt", "no uv for this platform"), ("-m uv", "uv did not succeed")],
)
def test_pip_installs_where_uv_does_not(install, called, capsys, fails, words):
    calls, status = called
    status[fails] = 1
    assert install.main(Path("envs/requirements.txt")) == 0
    last, _ = calls[-1]
    assert last[:4] == ["-m", "pip", "install", "--require-hashes"] and "uv" not in last
    said = capsys.readouterr().out
    assert words in said and "pip installs instead" in said
    status["-r envs/requirements.txt"] = 7
    assert install.main(Path("envs/requirements.txt")) == 7


def test_what_was_said_to_pip_is_said_to_uv(install):
    said = {
        "index-url": "https://mirror.example/simple", "extra-index-url": "https://a/s\nhttps://b/s",
        "find-links": "/wheels /more", "cert": "/ca.pem", "trusted-host": "mirror.example",
        "proxy": "http://proxy:3128", "default-timeout": "60", "require-virtualenv": "true",
    }  # fmt: skip
    assert install.uv_settings(said, {}) == {
        "UV_DEFAULT_INDEX": "https://mirror.example/simple", "UV_INDEX": "https://a/s https://b/s",
        "UV_INDEX_STRATEGY": "unsafe-best-match", "UV_FIND_LINKS": "/wheels,/more",
        "SSL_CERT_FILE": "/ca.pem", "UV_INSECURE_HOST": "mirror.example",
        "HTTPS_PROXY": "http://proxy:3128", "HTTP_PROXY": "http://proxy:3128",
        "UV_HTTP_TIMEOUT": "60",
    }  # fmt: skip
    own = {"UV_INDEX_URL": "x", "UV_EXTRA_INDEX_URL": "y", "UV_FIND_LINKS": "z", "https_proxy": "p",
           "http_proxy": "p", "SSL_CERT_FILE": "c", "UV_INSECURE_HOST": "h",
           "UV_HTTP_TIMEOUT": "1"}  # fmt: skip
    assert install.uv_settings(said, own) == {}
    assert install.uv_settings({}, {}) == {}


def test_the_configuration_of_pip_is_read(install, tmp_path, monkeypatch):
    """By pip itself, which knows where its files are; a variable wins over a file."""
    file = tmp_path / "pip.conf"
    file.write_text(
        "[global]\nindex-url = https://file.example/simple\ncert = /a.pem\n"
        "[install]\nfind-links =\n  /one\n  /two\n[download]\nproxy = http://no\n"
    )
    monkeypatch.setenv("PIP_CONFIG_FILE", str(file))
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)
    monkeypatch.setenv("PIP_INDEX_URL", "https://variable.example/simple")
    found = install.pip_settings()
    assert found["index-url"] == "https://variable.example/simple"
    assert found["find-links"].split() == ["/one", "/two"]
    assert "proxy" not in found


def test_the_lock_of_uv_has_hashes(root):
    text = (root / "envs/requirements-uv.txt").read_text(encoding="utf-8")
    assert re.match(r"uv==\d+\.\d+\.\d+ \\\n    --hash=sha256:[0-9a-f]{64}", text)
