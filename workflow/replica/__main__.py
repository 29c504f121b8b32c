"""`python -m replica`: look at artifacts, print the scorecard, check what is current."""

import argparse
import json
import sys
from pathlib import Path

from rich.console import Console

from replica.specs import SCALES, ConfigError, read_yaml, schemas


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
    check.add_argument("--delete", action="store_true", help="delete them, to be made again")
    check.add_argument("--scale", choices=SCALES, help="instead of that of config/config.yaml")
    schema = commands.add_parser("schema", help="write the JSON schemas of the configuration")
    schema.add_argument("folder", type=Path)
    options = parser.parse_args(arguments)
    try:
        return {
            "show": _show,
            "scorecard": _scorecard,
            "check": _check,
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


def _check(options: argparse.Namespace) -> int:
    from replica import artifacts
    from replica.plan import make_plan

    values = read_yaml(Path("config/config.yaml")) | (
        {"scale": options.scale} if options.scale else {}
    )
    wrong = 0
    for name, key in make_plan(Path.cwd(), values).artifacts().items():
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
            print(f"{path}: {reason}{', deleted' if options.delete else ''}")
            if options.delete:
                path.unlink()
    return 0 if options.delete or not wrong else 1


def _schema(options: argparse.Namespace) -> int:
    from replica import artifacts

    for name, content in schemas().items():
        text = json.dumps(content, indent=1, sort_keys=True, ensure_ascii=False) + "\n"
        artifacts.write_bytes(options.folder / name, text.encode())
    return 0


if __name__ == "__main__":
    sys.exit(main())
