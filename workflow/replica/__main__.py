"""`python -m replica`: look at artifacts, print the scorecard, check what is current."""

import argparse
import contextlib
import gc
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from replica.configuration import CONFIG_FILE, ConfigError, read_settings, split_entries
from replica.specs import SCALES, load_config, schemas

if TYPE_CHECKING:
    from replica.plan import Plan


def main(arguments: list[str] | None = None) -> int:
    """Run one subcommand; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m replica", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    show = commands.add_parser("show", help="print where an artifact came from, and its data")
    show.add_argument("file", type=Path)
    card = commands.add_parser("scorecard", help="print the verdicts of a scale")
    card.add_argument(
        "named", metavar="scale", nargs="?", choices=SCALES, help="the same as --scale"
    )
    check = commands.add_parser(
        "check", help="name results that are damaged or were made by other code or settings"
    )
    adopt = commands.add_parser(
        "adopt",
        help="make results from elsewhere usable: delete what is not current, keep the rest",
    )
    start = commands.add_parser(
        "launch",
        help="run, or go on after a crash: leftover jobs and locks are cleared away first",
    )
    start.add_argument("--slurm", action="store_true", help="on a cluster, see profiles/slurm")
    status = commands.add_parser("status", help="how far a scale is, and what is in the queue")
    used = commands.add_parser("efficiency", help="memory and time of each job, asked and used")
    ahead = commands.add_parser("plan", help="jobs, hours and memory that each study will take")
    for command in (card, check, adopt, start, status, used, ahead):
        command.add_argument("--scale", choices=SCALES, help=f"not that of {CONFIG_FILE}")
        command.add_argument(
            "--config",
            nargs="*",
            action="extend",
            default=[],
            metavar="KEY=VALUE",
            help=f"laid over {CONFIG_FILE}, as Snakemake does it; a value is YAML",
        )
        command.add_argument(
            "--settings", default="", metavar="LINE", help="the same in one line; what make uses"
        )
    start.add_argument("arguments", nargs="*", help="targets and options for Snakemake")
    schema = commands.add_parser("schema", help="write the JSON schemas of the configuration")
    schema.add_argument("folder", type=Path)
    options = parser.parse_args(arguments)
    try:
        return {
            "show": _show,
            "scorecard": _scorecard,
            "check": _check,
            "adopt": _adopt,
            "launch": _launch,
            "status": _status,
            "efficiency": _efficiency,
            "plan": _print_plan,
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
    options.scale = options.named or options.scale
    settings = read_settings(Path.cwd(), _entries(options))
    folder = Path("results", load_config(settings.values, settings.source).scale)
    # Without a terminal the width is unknown; a table of 80 columns cannot be read.
    if not console.is_terminal:
        console = Console(width=150)
    print_scorecard(artifacts.read_table(folder / "scorecard.parquet"), console)
    for name in ("report.html", "scorecard.html"):
        if (folder / name).exists():
            console.print(f"{name.partition('.')[0].capitalize()}: {folder / name}")
    return 0


def _check(options: argparse.Namespace) -> int:
    from replica.adoption import not_current

    wrong = not_current(_plan(options))
    for name, reason in wrong.items():
        print(f"{name}: {reason}")
    return 1 if wrong else 0


def _adopt(options: argparse.Namespace) -> int:
    from replica.adoption import adopt

    adopt(_plan(options))
    return 0


def _launch(options: argparse.Namespace) -> int:
    from replica.launch import launch

    return launch(_plan(options), _entries(options), options.arguments, slurm=options.slurm)


def _status(options: argparse.Namespace) -> int:
    from replica.efficiency import progress_lines
    from replica.launch import NoSlurm, job_prefix, queued

    plan, console = _plan(options), Console()
    for line in progress_lines(plan):
        console.print(line, highlight=False)
    with contextlib.suppress(NoSlurm):
        jobs = queued(job_prefix(plan.root))
        console.print(f"jobs of this folder in the queue of Slurm: {len(jobs)}", highlight=False)
    return 0


def _efficiency(options: argparse.Namespace) -> int:
    from replica.efficiency import efficiency_table, print_efficiency

    console = Console()
    print_efficiency(
        efficiency_table(_plan(options)), console if console.is_terminal else Console(width=130)
    )
    return 0


def _print_plan(options: argparse.Namespace) -> int:
    from replica.estimates import print_plan, rates_of

    plan, console = _plan(options), Console()
    print_plan(plan, rates_of(plan.root), console if console.is_terminal else Console(width=110))
    for sentence in plan.left_out:
        print(sentence, file=sys.stderr)
    return 0


def _plan(options: argparse.Namespace) -> "Plan":
    from replica.plan import make_plan

    settings = read_settings(Path.cwd(), _entries(options))
    return make_plan(Path.cwd(), settings.values, settings.source)


def _entries(options: argparse.Namespace) -> list[str]:
    """The `key=value` entries of a command, the later ones over the earlier ones."""
    scale = [f"scale={options.scale}"] if options.scale else []
    return [*scale, *options.config, *split_entries(options.settings)]


def _schema(options: argparse.Namespace) -> int:
    from replica import artifacts

    for name, content in schemas().items():
        text = json.dumps(content, indent=1, sort_keys=True, ensure_ascii=False) + "\n"
        artifacts.write_bytes(options.folder / name, text.encode())
    return 0


if __name__ == "__main__":
    # A plan is hundreds of thousands of objects that all stay: do not look for waste among them.
    gc.set_threshold(100_000, 50, 50)
    # A terminal that is not UTF-8 has no sign for every sign that is printed.
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="replace")
    sys.exit(main())
