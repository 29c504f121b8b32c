"""The command `replica`: look at artifacts, print the scorecard, check what is current."""

import argparse
import gc
import json
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

    from replica.plan import Plan

# Rows and columns that a look at a table shows; a wider table is turned round.
ROWS, TURNED_ROWS, WIDTH = 10, 4, 120


def main(arguments: list[str] | None = None) -> int:
    """Run one subcommand; returns the exit status."""
    # Imported here: Ctrl-C during an import must not end in a traceback.
    try:
        return _main(arguments)
    except KeyboardInterrupt as error:
        print("Stopped. Run the same command again to resume.", file=sys.stderr)
        return getattr(error, "status", 128 + signal.SIGINT)
    except BrokenPipeError:
        # Whoever read the output has seen enough; Python must not flush to it at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE


def _main(arguments: list[str] | None) -> int:
    from replica import refusals
    from replica.configuration import ConfigError
    from replica.settings.study import SCALES

    parser = _parser(SCALES)
    options = parser.parse_args(arguments)
    if options.command is None:
        parser.print_help()
        return 2
    try:
        return options.run(options)
    except BrokenPipeError:
        raise
    except (ConfigError, RuntimeError) as error:
        print(error, file=sys.stderr)
    except OSError as error:
        print(refusals.sentence(error), file=sys.stderr)
    return 1


def _parser(scales: tuple[str, ...]) -> argparse.ArgumentParser:
    from replica.gpu_check.__main__ import arguments as check_arguments

    parser = argparse.ArgumentParser(
        prog="replica",
        description="look at artifacts, print the scorecard, check what is current",
    )
    commands = parser.add_subparsers(dest="command", title="commands", metavar="COMMAND")

    def command(name: str, run: object, words: str) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=words, description=words)
        added.set_defaults(run=run)
        return added

    show = command("show", _show, "print where an artifact came from, and its data")
    show.add_argument("file", type=Path, help="an artifact, a drawing or a page, or a folder")
    show.add_argument("--json", action="store_true", help="only the stamp, as JSON")
    card = command("scorecard", _scorecard, "print the verdicts of a scale")
    card.add_argument(
        "named", metavar="scale", nargs="?", choices=scales, help="the same as --scale"
    )
    check = command(
        "check", _check, "list results that are damaged or were made by other code or settings"
    )
    adopt = command(
        "adopt", _adopt,
        "make results from elsewhere usable: delete what is not current, keep the rest",
    )  # fmt: skip
    start = command(
        "launch", _launch,
        "run, or resume after a crash: leftover jobs and locks are removed first",
    )  # fmt: skip
    start.add_argument(
        "--slurm", action="store_true", help="run on a Slurm cluster, see profiles/slurm"
    )
    status = command("status", _status, "progress of a scale, running jobs, and the queue")
    used = command("efficiency", _efficiency, "memory and time of each job, requested and used")
    ahead = command(
        "plan", _print_plan, "jobs, hours, memory and disk of each study, and the data to fetch"
    )
    gpu = command("gpu-check", _gpu_check, "check the GPU of this machine in eight minutes")
    check_arguments(gpu)
    clean = command(
        "clean", _clean, "delete states in results/ that no scale needs with these settings"
    )
    clean.add_argument("--dry-run", action="store_true", help="only list them, with their sizes")
    kept = command(
        "evidence", _evidence,
        "put the tables and verdicts of finished studies into docs/evidence, and say what in it "
        "is no longer what these settings and this code would make",
    )  # fmt: skip
    kept.add_argument(
        "--check", action="store_true", help="only the latter; the exit status is 1 if anything is"
    )
    again = command(
        "redraw", _redraw, "draw the figures and decide the claims of docs/evidence, without a run"
    )
    again.add_argument("folder", type=Path, help="where drawings and scorecard go")
    for configured in (card, check, adopt, start, status, used, ahead, clean, kept, again):
        # It is about all of them.
        if configured is clean:
            clean.set_defaults(scale=None)
        else:
            configured.add_argument(
                "--scale", choices=scales, help="instead of the one in config/config.yaml"
            )
        configured.add_argument(
            "--config",
            nargs="*",
            action="extend",
            default=[],
            metavar="KEY=VALUE",
            help="override config/config.yaml, as with Snakemake; a value is YAML",
        )
        configured.add_argument(
            "--settings", default="", metavar="LINE", help="the same in one line; what make uses"
        )
    start.add_argument("arguments", nargs="*", help="targets and options for Snakemake")
    rules = command(
        "rules",
        _rules,
        "record in config/rules.lock that rules, or the settings that decide them, have changed",
    )
    rules.add_argument("reason", help="why, in a sentence")
    rules.add_argument(
        "--results", choices=["seen", "not seen"], required=True,
        help="whether results under the new rules were known",
    )  # fmt: skip
    schema = command("schema", _schema, "write the JSON schemas of the configuration")
    schema.add_argument("folder", type=Path)
    return parser


def _rules(options: argparse.Namespace) -> int:
    import datetime

    from replica import rulebook

    again = rulebook.add_entries(
        Path.cwd(), options.reason, options.results == "seen", datetime.date.today()
    )
    print(f"{len(again)} rules recorded: {', '.join(map('.'.join, again)) or 'none has changed'}.")
    return 0


def _show(options: argparse.Namespace) -> int:
    from replica import artifacts

    path = options.file
    if path.is_dir():
        return _show_folder(path, as_json=options.json)
    if not path.exists():
        raise FileNotFoundError(f"There is no file {path}.")
    try:
        stamp = artifacts.read_stamp(path)
    except artifacts.CorruptArtifact:
        # Only what this project makes will be made again.
        if _is_result(path):
            raise
        raise RuntimeError(
            f"{path} is not an artifact of Replica (it has no readable stamp)."
        ) from None
    if stamp is None:
        raise RuntimeError(f"{path} is not an artifact of Replica (it has no stamp).")
    print(json.dumps(stamp, indent=2, ensure_ascii=False))
    if options.json:
        return 0
    if path.suffix == ".parquet":
        _print_table(artifacts.read_table(path))
    elif path.suffix == ".safetensors":
        for name, array in sorted(artifacts.read_tensors(path)[0].items()):
            print(name, tuple(array.shape), array.dtype)
    return 0


def _is_result(path: Path) -> bool:
    """Whether a file lies where artifacts of the project in this folder do."""
    here = Path.cwd()
    place = (here / path).resolve()
    return Path("config/config.yaml").exists() and place.is_relative_to(
        (here / "results").resolve()
    )


def _show_folder(folder: Path, *, as_json: bool) -> int:
    """One line an artifact: its key, its commit, its path."""
    from replica import artifacts

    found = {}
    for path in sorted(path for path in folder.rglob("*") if path.suffix in artifacts.STAMPED):
        try:
            stamp = artifacts.read_stamp(path)
        except artifacts.CorruptArtifact:
            stamp = {"key": "damaged"} if _is_result(path) else None
        if stamp is not None:
            found[str(path)] = {name: stamp.get(name, "") for name in ("key", "commit")}
    if as_json:
        print(json.dumps(found, indent=2, ensure_ascii=False))
        return 0
    for path, stamp in found.items():
        print(f"{stamp['key']:16}  {stamp['commit']:13}  {path}")
    print(f"{folder} is a folder with {len(found)} artifacts of Replica.")
    return 0


def _gpu_check(options: argparse.Namespace) -> int:
    from replica.gpu_check.__main__ import main

    return main(options)


def _print_table(table: "pd.DataFrame") -> None:
    """The first rows; of a wide table fewer of them, a column each."""
    print(f"{len(table)} rows")
    text = table.head(ROWS).to_string(max_colwidth=40)
    if len(text.partition("\n")[0]) > WIDTH:
        text = table.head(TURNED_ROWS).T.to_string(max_colwidth=24)
    print(text)


def _scorecard(options: argparse.Namespace) -> int:
    from rich.console import Console

    from replica import artifacts
    from replica.configuration import read_settings
    from replica.report import print_scorecard
    from replica.settings.load import load_config

    console = Console()
    _in_project()
    options.scale = options.named or options.scale
    settings = read_settings(Path.cwd(), _entries(options))
    scale = load_config(settings.values, settings.source).scale
    folder = Path("results", scale)
    card = folder / "scorecard.parquet"
    if not card.exists():
        there = [path.parent.name for path in sorted(Path("results").glob("*/scorecard.parquet"))]
        hint = f" (there is one of {', '.join(there)})" if there else ""
        raise FileNotFoundError(
            f"There is no scorecard of the scale {scale} yet{hint}: run make SCALE={scale} first."
        )
    # Without a terminal the width is unknown; a table of 80 columns cannot be read.
    if not console.is_terminal:
        console = Console(width=150)
    print_scorecard(artifacts.read_table(card), console)
    if note := artifacts.side_by_side(folder):
        console.print(note)
    for name in ("report.html", "scorecard.html"):
        if (folder / name).exists():
            console.print(f"{name.partition('.')[0].capitalize()}: {folder / name}")
    return 0


def _in_project() -> None:
    if not Path("config/config.yaml").exists():
        raise FileNotFoundError(
            f"There is no config/config.yaml in {Path.cwd()}: "
            "run this command in the project folder."
        )


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

    # It fetches first; then it knows which runs have their data.
    plan = _plan(options, whole=True)
    return launch(plan, _entries(options), options.arguments, slurm=options.slurm)


def _status(options: argparse.Namespace) -> int:
    from replica.artifacts import side_by_side
    from replica.efficiency import current_jobs, progress_lines
    from replica.estimates import hours_left, rates_of
    from replica.launch import NoSlurm, SlurmSilent, job_prefix, queued, running

    plan = _plan(options)
    jobs = current_jobs(plan)
    for line in [*progress_lines(plan, jobs), *running(plan.root)]:
        print(line)
    if note := side_by_side(plan.root / plan.results):
        print(note)
    gpu, cpu = hours_left(plan, rates_of(plan.root), jobs)
    on_gpu = f"{gpu:.1f} GPU hours and " if gpu else ""
    print(f"left: about {on_gpu}{cpu:.1f} hours of one core")
    try:
        waiting = queued(job_prefix(plan.root))
        print(f"jobs of this folder in Slurm's queue: {len(waiting)}")
    except NoSlurm:
        pass
    except SlurmSilent as error:
        print(error, file=sys.stderr)
    return 0


def _efficiency(options: argparse.Namespace) -> int:
    from rich.console import Console

    from replica.efficiency import efficiency_table, print_efficiency

    console = Console()
    print_efficiency(
        efficiency_table(_plan(options)), console if console.is_terminal else Console(width=130)
    )
    return 0


def _print_plan(options: argparse.Namespace) -> int:
    from rich.console import Console

    from replica.estimates import print_plan, rates_of

    plan, console = _plan(options), Console()
    print_plan(plan, rates_of(plan.root), console if console.is_terminal else Console(width=110))
    for sentence in plan.left_out:
        print(sentence, file=sys.stderr)
    return 0


def _evidence(options: argparse.Namespace) -> int:
    from replica import evidence

    plan = _plan(options)
    if not options.check:
        for sentence in evidence.collect(plan):
            print(sentence)
    moved = evidence.check(plan)
    for sentence in moved:
        print(sentence)
    return 1 if moved and options.check else 0


def _redraw(options: argparse.Namespace) -> int:
    from replica.evidence import redraw

    for sentence in redraw(_plan(options), options.folder):
        print(sentence)
    return 0


def _clean(options: argparse.Namespace) -> int:
    from replica import disk
    from replica.launch import running
    from replica.settings.study import SCALES

    root = Path.cwd()
    # The states of runs whose data cannot be had now are needed all the same.
    plans = [_plan(options, [f"scale={scale}"], whole=True) for scale in SCALES]
    if lines := running(root):
        raise RuntimeError("\n".join([*lines, "Nothing was deleted."]))
    found = disk.unneeded(root, plans)
    for path, freed in found.items():
        print(f"{path.relative_to(root)}: {freed / 1e6:,.1f} MB")
        if not options.dry_run:
            disk.free(path)
    outcome = "would be freed" if options.dry_run else "freed"
    size = sum(found.values()) / 1e6
    print(f"{size:,.1f} MB {outcome}." if found else "Every stored state is needed.")
    return 0


def _plan(options: argparse.Namespace, more: Sequence[str] = (), *, whole: bool = False) -> "Plan":
    """The plan of the settings of a command, with further ones laid over them.

    Args:
        whole: with the runs whose data could not be had.
    """
    from replica.configuration import read_settings
    from replica.plan import make_plan, whole_plan

    _in_project()
    settings = read_settings(Path.cwd(), [*_entries(options), *more])
    make = whole_plan if whole else make_plan
    return make(Path.cwd(), settings.values, settings.source)


def _entries(options: argparse.Namespace) -> list[str]:
    """The `key=value` entries of a command, the later ones over the earlier ones."""
    from replica.configuration import split_entries

    scale = [f"scale={options.scale}"] if options.scale else []
    return [*scale, *options.config, *split_entries(options.settings)]


def _schema(options: argparse.Namespace) -> int:
    from replica import artifacts
    from replica.settings.load import schemas

    for name, content in schemas().items():
        text = json.dumps(content, indent=1, sort_keys=True, ensure_ascii=False) + "\n"
        artifacts.write_bytes(options.folder / name, text.encode())
    return 0


if __name__ == "__main__":
    # A plan is hundreds of thousands of objects that all stay: garbage collection finds nothing.
    gc.set_threshold(100_000, 50, 50)
    # A terminal that is not UTF-8 lacks some of the characters that are printed.
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="replace")
    sys.exit(main())
