"""The check without the command `replica`: `PYTHONPATH=workflow python3 -m replica.gpu_check`.

It needs torch, numpy and the few packages below; Snakemake is none of them.
"""

import argparse
import math
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

# By the name that is imported: the name of the package.
PACKAGES = {
    "torch": "torch>=2.11", "torchvision": "torchvision", "numpy": "numpy", "scipy": "scipy",
    "pandas": "pandas", "pyarrow": "pyarrow", "pydantic": "pydantic", "yaml": "pyyaml",
    "safetensors": "safetensors", "filelock": "filelock", "psutil": "psutil", "rich": "rich",
    "PIL": "pillow", "moocore": "moocore",
}  # fmt: skip


def _minutes(given: str) -> float:
    if not 0 < (minutes := float(given)) < math.inf:
        raise argparse.ArgumentTypeError(f"{given} is no time: give minutes, such as 8")
    return minutes


# What the command takes, as `add_argument` of argparse does.
ARGUMENTS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("--data", {
        "type": Path, "default": Path("data"), "metavar": "FOLDER",
        "help": "prepared data sets, as data_dir in config/config.yaml; embedded ones go there",
    }),
    ("--out", {
        "type": Path, "default": Path("results/gpu"), "metavar": "FOLDER",
        "help": "where the table is written; docs/evidence/gpu is where it is kept",
    }),
    ("--minutes", {"type": _minutes, "default": 8.0, "help": "time for all of it"}),
    ("--on", {
        "choices": ("cuda", "cpu"), "default": "cuda",
        "help": "cpu rehearses the command without a GPU, at sizes that say nothing",
    }),
)  # fmt: skip


def main(options: argparse.Namespace) -> int:
    """Check the GPU; returns the exit status.

    Raises:
        RuntimeError: there is no GPU.
    """
    if missing := [package for name, package in PACKAGES.items() if find_spec(name) is None]:
        raise RuntimeError(
            f"The check needs {', '.join(missing)}: pip install {' '.join(missing)}."
        )
    from replica.gpu_check.command import run

    return run(options.data, options.out, options.minutes, options.on)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m replica.gpu_check", description=__doc__)
    for name, options in ARGUMENTS:
        parser.add_argument(name, **options)
    try:
        sys.exit(main(parser.parse_args()))
    except RuntimeError as error:
        print(error, file=sys.stderr)
        sys.exit(1)
