"""`python -m replica`: look at artifacts, print the scorecard, check what is current."""

import argparse
import json
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from replica.specs import SCALES, ConfigError, read_yaml, schemas

if TYPE_CHECKING:
    from replica.plan import Plan


def main(arguments: list[str] | None = None) -> int:
    """Run one subcommand; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m replica", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    show = commands.add_parser("show", help="print where an artifact came from, and its data")
    show.add_argument("file", type=Path)
    card = commands.add_parser("scorecard", help="print the verdicts of a scale")
    card.add_argument("scale", choices=SCALES)
    check = commands.add_parser(
        "check", help="name results that are damaged or were made by other code or settings"
    )
    adopt = commands.add_parser(
        "adopt",
        help="make results from elsewhere usable: delete what is not current, keep the rest",
    )
    for command in (check, adopt):
        command.add_argument("--scale", choices=SCALES, help="not that of config/config.yaml")
    schema = commands.add_parser("schema", help="write the JSON schemas of the configuration")
    schema.add_argument("folder", type=Path)
    options = parser.parse_args(arguments)
    try:
        return {
            "show": _show,
            "scorecard": _scorecard,
            "check": lambda options: 1 if _not_current(options, delete=False) else 0,
            "adopt": _adopt,
            "schema": _schema,
        }[options.command](options)
    except (ConfigError, FileNotFoundError, RuntimeError) as error:
        print(error, file=sys.stderr)
        return 1


def _show(options: argparse.Namespace) -> int:
    from replica import artifacts

    console = Console()
    if not options.file.exists():
        raise FileNotFoundError(f"There is no file {options.file}.")
    console.print_json(json.dumps(artifacts.read_stamp(options.file)))
    if options.file.suffix == ".parquet":
        frame = artifacts.read_table(options.file)
        console.print(f"{len(frame)} rows")
        console.print(frame.head(10).to_string())
    elif options.file.suffix == ".safetensors":
        for name, tensor in sorted(artifacts.read_tensors(options.file)[0].items()):
            console.print(f"{name} {tuple(tensor.shape)} {tensor.dtype}", highlight=False)
    return 0


def _scorecard(options: argparse.Namespace) -> int:
    from replica import artifacts
    from replica.report import print_scorecard

    console = Console()
    folder = Path("results", options.scale)
    # Without a terminal the width is unknown; a table of 80 columns cannot be read.
    if not console.is_terminal:
        console = Console(width=150)
    print_scorecard(artifacts.read_table(folder / "scorecard.parquet"), console)
    for name in ("report.html", "scorecard.html"):
        if (folder / name).exists():
            console.print(f"{name.partition('.')[0].capitalize()}: {folder / name}")
    return 0


def _not_current(options: argparse.Namespace, delete: bool) -> int:
    """Name (and delete) artifacts that are damaged or carry another key; returns their number."""
    from replica import artifacts

    wrong = 0
    for name, key in _plan(options).artifacts().items():
        path = Path(name)
        if not path.exists():
            continue
        try:
            found = artifacts.read_stamp(path).get("key")
            reason = "" if found == key else "made by other code or other settings"
        except artifacts.CorruptArtifact:
            reason = "damaged"
        if reason:
            wrong += 1
            print(f"{path}: {reason}{', deleted' if delete else ''}")
            if delete:
                path.unlink()
    return wrong


def _adopt(options: argparse.Namespace) -> int:
    """Without its own notes Snakemake has file times only: order them as the files were made."""
    _not_current(options, delete=True)
    plan = _plan(options)
    data, results = Path(plan.config.data_dir), Path(plan.results)
    stages = [data.glob("raw/*/receipt.json"), data.glob("prepared/*/card.json")]
    patterns = ["*/runs/**/*.*", "*/measures/**/*.*", "*/figures/*.parquet"]
    patterns += ["*/figures/*.svg", "*/figures/*.pdf", "*/claims.parquet", "scorecard.*"]
    stages += [results.glob(pattern) for pattern in patterns]
    # To Snakemake a benchmark is an output like any other.
    stages.append(results.parent.glob("**/benchmarks/**/*.tsv"))
    started = time.time() - len(stages)
    for position, paths in enumerate(stages):
        for path in paths:
            os.utime(path, (started + position, started + position))
    return 0


def _plan(options: argparse.Namespace) -> "Plan":
    from replica.plan import make_plan

    values = read_yaml(Path("config/config.yaml"))
    return make_plan(Path.cwd(), values | ({"scale": options.scale} if options.scale else {}))


def _schema(options: argparse.Namespace) -> int:
    from replica import artifacts

    for name, content in schemas().items():
        text = json.dumps(content, indent=1, sort_keys=True, ensure_ascii=False) + "\n"
        artifacts.write_bytes(options.folder / name, text.encode())
    return 0


if __name__ == "__main__":
    sys.exit(main())
