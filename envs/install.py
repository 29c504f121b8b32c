"""Install the packages of a lock into the environment of this interpreter.

    .venv/bin/python envs/install.py envs/requirements.txt

uv does it in seconds where pip takes minutes; where uv does not start, pip does it. Either checks
each file against the hashes of the lock. Nothing is installed yet: this needs Python alone.
"""

import ast
import os
import platform
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

UV_LOCK = Path(__file__).with_name("requirements-uv.txt")
# GB to download and on disk, as measured on Linux with x86-64; most of it is torch with CUDA.
SIZES = {"requirements.txt": (3.2, 5.9)}
# What users say to pip in its configuration, in the words of uv.
WORDS = {
    "index-url": ("UV_DEFAULT_INDEX",),
    "extra-index-url": ("UV_INDEX",),
    "find-links": ("UV_FIND_LINKS",),
    "trusted-host": ("UV_INSECURE_HOST",),
    "cert": ("SSL_CERT_FILE",),
    "proxy": ("HTTPS_PROXY", "HTTP_PROXY"),
    "default-timeout": ("UV_HTTP_TIMEOUT",),
}
# Other names of the same: who has set these has said it to uv.
ALSO = {"UV_DEFAULT_INDEX": "UV_INDEX_URL", "UV_INDEX": "UV_EXTRA_INDEX_URL",
        "HTTPS_PROXY": "https_proxy", "HTTP_PROXY": "http_proxy"}  # fmt: skip


def main(lock: Path) -> int:
    """Install a lock; returns the exit status."""
    print(announcement(lock), flush=True)
    if why := with_uv(lock):
        print(f"{why}: pip installs instead, which takes a few minutes.", flush=True)
        return pip("install", "--require-hashes", "-r", str(lock)).returncode
    return 0


def announcement(lock: Path) -> str:
    """What will be installed, and how large it is where that is known."""
    version = platform.python_version()
    words = f"Installing the packages of {lock} into {sys.prefix} (Python {version})"
    if (sys.platform, platform.machine()) != ("linux", "x86_64") or lock.name not in SIZES:
        return f"{words}."
    download, disk = SIZES[lock.name]
    return f"{words}: about {download:g} GB to download, {disk:g} GB on disk."


def with_uv(lock: Path) -> str:
    """Install a lock with uv; returns why that did not work, "" where it did."""
    # Never built: where there is no file for this platform, that would need a compiler of Rust.
    got = pip("install", "--require-hashes", "--only-binary=:all:", "-r", str(UV_LOCK), said=False)
    if got.returncode:
        return "There is no uv for this platform, or it cannot be had"
    quiet = [] if sys.stderr.isatty() else ["--quiet"]
    command = [sys.executable, "-m", "uv", "pip", "install", *quiet, "--python", sys.executable]
    command += ["--require-hashes", "-r", str(lock)]
    settings = uv_settings(pip_settings(), os.environ)
    if subprocess.run(command, env={**os.environ, **settings}, check=False).returncode:
        return "uv did not succeed"
    return ""


def pip(*words: str, said: bool = True) -> subprocess.CompletedProcess:
    """Run pip quietly; `said`: whether its errors are printed."""
    return subprocess.run(
        [sys.executable, "-m", "pip", *words, "--quiet"], check=False,
        stderr=None if said else subprocess.DEVNULL,
    )  # fmt: skip


def pip_settings() -> dict[str, str]:
    """What the configuration of pip says to `install`, files and environment together."""
    answer = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"], capture_output=True, encoding="utf-8",
        errors="replace", check=False,
    )  # fmt: skip
    found: dict[str, dict[str, str]] = {"global": {}, "install": {}, ":env:": {}}
    for line in answer.stdout.splitlines():
        name, _, value = line.partition("=")
        section, _, key = name.rpartition(".")
        if section in found:
            found[section][key] = str(ast.literal_eval(value))
    return found["global"] | found["install"] | found[":env:"]


def uv_settings(of_pip: Mapping[str, str], environment: Mapping[str, str]) -> dict[str, str]:
    """Variables that tell uv what pip was told; what uv was told itself stays.

    Args:
        of_pip: settings of pip by name, such as `index-url`.
        environment: the variables that are set.
    """
    settings = {}
    for key, names in WORDS.items():
        value = ",".join(of_pip.get(key, "").split()) if key == "find-links" else of_pip.get(key)
        for name in names:
            if value and not environment.get(name) and not environment.get(ALSO.get(name, name)):
                settings[name] = " ".join(value.split())
    if "UV_INDEX" in settings:
        # As pip does; what is taken has the hash of the lock all the same.
        settings["UV_INDEX_STRATEGY"] = "unsafe-best-match"
    return settings


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
