"""States by key: nothing is trained twice, whatever was tried in between.

`results/store/<key>` has the files of a training as links to those that the workflow made, which
take no space of their own while both are there. Going back to earlier settings, or asking for an
equal run at another scale, takes them from there.
"""

import os
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

from replica import artifacts

FOLDER = Path("results/store")


def restore(key: str, outputs: Mapping[str, str]) -> bool:
    """Put the stored files of a key in place of a job's outputs.

    Args:
        key: of the training.
        outputs: path of each file, by its name in the rule.

    Returns:
        Whether it had all of them, whole; otherwise nothing is changed.

    Raises:
        CannotWrite: see `artifacts.atomic`.
    """
    files = {_stored(key, name, path): Path(path) for name, path in outputs.items()}
    if not all(source.exists() and artifacts.whole_key(source) == key for source in files):
        return False
    for source, target in files.items():
        with artifacts.atomic(target) as temporary:
            _link(source, temporary)
        # With the time of now: Snakemake compares it with the times of the inputs.
        os.utime(target)
    print(f"Already trained with this key: taken from {FOLDER / key}.", file=sys.stderr)
    return True


def keep(key: str, outputs: Mapping[str, str], root: Path = Path()) -> None:
    """Store what a job has made, all of it or nothing.

    Nothing is stored on a file system without hard links.
    """
    folder = root / FOLDER / key
    links = folder.with_name(f".{key}.{os.getpid()}.tmp")
    try:
        links.mkdir(parents=True)
        for name, path in outputs.items():
            os.link(root / path, links / _stored(key, name, path).name)
        # What was there was not whole, or is the same.
        shutil.rmtree(folder, ignore_errors=True)
        links.rename(folder)
    except OSError:
        shutil.rmtree(links, ignore_errors=True)


def _stored(key: str, name: str, path: str) -> Path:
    return FOLDER / key / f"{name}{Path(path).suffix}"


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
