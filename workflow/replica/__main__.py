"""The command `replica`: run a reproduction, follow it, look at what it made.

A subcommand is one function with the decorator `command`, which says everything about it: to add
one, write `@command(...)` over a `_name(options)` that calls a module of its own.
"""

import argparse
import gc
import json
import os
import re
import signal
import sys
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from replica.gpu_check.__main__ import ARGUMENTS

if TYPE_CHECKING:
    import pandas as pd
    from rich.console import Console

    from replica.plan import Plan

# The groups of `replica --help`, in their order.
RUN, LOOK, KEEP, WORK = "Run", "Look at results", "Keep and clean", "Work on the project"
STATUS = "Exit status: 0 done, 1 failed (one sentence says why), 2 the command line is wrong"

Run = Callable[[argparse.Namespace], int]


@dataclass(frozen=True)
class Argument:
    """Names and options of an argument, as `add_argument` of argparse takes them."""

    names: tuple[str, ...]
    options: dict[str, Any]


@dataclass(frozen=True)
class Command:
    """A subcommand: what it runs, and all words about it."""

    name: str
    run: Run
    group: str
    help: str
    arguments: tuple[Argument, ...]
    examples: tuple[str, ...]
    settings: bool
    scale: bool
    status: str
    aliases: tuple[str, ...]


COMMANDS: list[Command] = []


def argument(*names: str, **options: Any) -> Argument:
    """An argument of a subcommand, in the words of argparse."""
    return Argument(names, options)


AS_JSON = argument("--json", action="store_true", help="print JSON, for programs")
DRY_RUN = argument("-n", "--dry-run", action="store_true", help="change nothing, only list it")
# An argument with this metavar takes a scale.
A_SCALE = "SCALE"
SCALE = argument(
    "--scale", metavar=A_SCALE,
    help="smoke, laptop, desktop or paper, instead of the one in config/config.yaml",
)  # fmt: skip
SETTINGS = (
    argument(
        "--config", nargs="*", action="extend", default=[], metavar="KEY=VALUE",
        help="override config/config.yaml, as with Snakemake; a value is YAML",
    ),
    argument(
        "--settings", default="", metavar="LINE", help="the same in one line; what make uses"
    ),
)  # fmt: skip


def command(
    name: str,
    group: str,
    help: str,
    *arguments: Argument,
    examples: Sequence[str],
    settings: bool = True,
    scale: bool = True,
    status: str = STATUS,
    aliases: Sequence[str] = (),
) -> Callable[[Run], Run]:
    """Make a subcommand of a function.

    Args:
        name: what the user types.
        group: in the list of all subcommands.
        help: what it does, a line without a full stop.
        arguments: of its own.
        examples: calls without `replica`, two or three.
        settings: whether it reads `config/config.yaml`; then it has --config and --settings.
        scale: whether it is about one scale; then it has --scale too.
        status: the meaning of its exit status.
        aliases: further names.
    """

    def register(run: Run) -> Run:
        COMMANDS.append(
            Command(
                name, run, group, help, arguments, tuple(examples), settings, settings and scale,
                status, tuple(aliases),
            )
        )  # fmt: skip
        return run

    return register


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


class _Misused(Exception):
    """A command line that contradicts itself, or asks for what its command does not do."""


def _main(arguments: list[str] | None) -> int:
    from replica import refusals
    from replica.configuration import ConfigError

    parser = make_parser()
    options, unknown = parser.parse_known_args(arguments)
    if options.command is None:
        if unknown:
            parser.error(f"unknown: {' '.join(unknown)}")
        parser.print_help()
        return 2
    try:
        if unknown:
            raise _Misused(_not_known(options.command, unknown))
        return options.run(options)
    except _Misused as error:
        print(error, file=sys.stderr)
        return 2
    except BrokenPipeError:
        raise
    except ModuleNotFoundError as error:
        print(f"The package {error.name} is not installed: run make.", file=sys.stderr)
    except (ConfigError, RuntimeError) as error:
        print(error, file=sys.stderr)
    except OSError as error:
        print(refusals.sentence(error), file=sys.stderr)
    except SyntaxError as error:
        # A study that is being written, most likely.
        print(f"{error.filename}, line {error.lineno}: {error.msg}.", file=sys.stderr)
    return 1


def _not_known(command: str, words: Sequence[str]) -> str:
    """A sentence on the words of a command line that its command does not know."""
    from replica.settings.study import SCALES

    said = f"replica {command} does not know {' '.join(words)}"
    if words[0] in SCALES:
        return f"{said}: a scale is given as --scale {words[0]}."
    if command in ("run", "launch"):
        return f"{said}: options of Snakemake come after --, as in replica run -- --cores 1."
    return f"{said}: replica {command} --help lists what it knows."


class _Everything(argparse.ArgumentParser):
    """The parser of `replica`; its help lists the subcommands in groups."""

    def format_help(self) -> str:
        width = max(len(each.name) for each in COMMANDS)
        lines = [
            "usage: replica [-h] [--version] COMMAND ...",
            "",
            "Reproduce the figures of eight papers, and look at what a run has made.",
        ]
        for group in (RUN, LOOK, KEEP, WORK):
            listed = [each for each in COMMANDS if each.group == group]
            lines += ["", f"{group}:", *(f"  {each.name:{width}}  {each.help}" for each in listed)]
        lines += [
            "",
            "Examples:",
            "  replica run --scale smoke",
            "  replica status",
            "  replica show results/smoke/dufm/figures/rec_depth.parquet",
            "",
            "replica COMMAND --help explains a command.",
            f"{STATUS}.",
        ]
        return "\n".join(lines) + "\n"

    def error(self, message: str) -> NoReturn:
        if unknown := re.match(r"argument COMMAND: invalid choice: '([^']*)'", message):
            # Imported here: it takes a while, and only a misspelt command needs it.
            from replica.settings.validation import did_you_mean

            hint = did_you_mean(unknown[1], [each.name for each in COMMANDS])
            message = f"there is no command {unknown[1]}{hint}; replica --help lists all"
        super().error(message)


class _Version(argparse.Action):
    """Print the version of the installed package, which only this option looks up."""

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        import importlib.metadata

        try:
            number = importlib.metadata.version("replica")
        except importlib.metadata.PackageNotFoundError:
            number = "(not installed, and so without a version)"
        print(f"replica {number}")
        parser.exit()


def make_parser() -> argparse.ArgumentParser:
    """The parser of the whole command line, from `COMMANDS`."""
    import shtab

    from replica.settings.study import SCALES

    parser = _Everything(prog="replica")
    parser.add_argument("--version", action=_Version, nargs=0, help="print the version")
    commands = parser.add_subparsers(
        dest="command", metavar="COMMAND", parser_class=argparse.ArgumentParser
    )
    for each in COMMANDS:
        calls = "\n".join(f"  replica {example}" for example in each.examples)
        added = commands.add_parser(
            each.name, help=each.help, description=f"{each.help[0].upper()}{each.help[1:]}.",
            epilog=f"examples:\n{calls}\n\n{each.status}.", aliases=each.aliases,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )  # fmt: skip
        added.set_defaults(run=each.run, scale=None)
        general = [*([SCALE] if each.scale else []), *(SETTINGS if each.settings else [])]
        for one in [*each.arguments, *general]:
            takes_scale = one.options.get("metavar") == A_SCALE
            options = one.options | ({"choices": SCALES} if takes_scale else {})
            action = added.add_argument(*one.names, **options)
            if options.get("type") is Path:
                action.complete = shtab.FILE  # type: ignore[attr-defined]
    return parser


@command(
    "run", RUN, "run, or resume after a crash: leftover jobs and locks are removed first",
    argument("arguments", nargs="*", metavar="TARGET", help="targets, before --config or "
             "after --, where Snakemake's options may follow"),
    argument("--slurm", action="store_true", help="run on a Slurm cluster, see profiles/slurm"),
    argument("-n", "--dry-run", action="store_true",
             help="only list the jobs that would run, by study and rule"), AS_JSON,
    examples=["run --scale smoke", "run -n --config 'overrides={low_rank: {fig6: {lr: 0.05}}}'",
              "run --scale smoke -- dufm --cores 1"],
    status="Exit status: 0 all done, 1 a job or the start failed (the last lines say why), "
           "2 the command line is wrong, 130 stopped by Ctrl-C",
    aliases=["launch"],
)  # fmt: skip
def _run(options: argparse.Namespace) -> int:
    from replica.launch import launch

    if options.json and not options.dry_run:
        raise _Misused("--json lists what a run would do: it goes with -n.")
    if mine := [w for w in options.arguments if w.partition("=")[0] in ("--config", "-C")]:
        raise _Misused(f"{mine[0]} comes before --, where Replica reads it too.")
    # It fetches first; then it knows which runs have their data.
    plan = _plan(options, whole=True)
    if options.dry_run:
        return _preview(plan, options)
    return launch(plan, _entries(options), options.arguments, slurm=options.slurm)


def _preview(plan: "Plan", options: argparse.Namespace) -> int:
    from replica.preview import preview, print_preview

    table, sentences = preview(plan, _entries(options), options.arguments, slurm=options.slurm)
    if options.json:
        _print_json({"jobs": _records(table), "notes": sentences})
    else:
        print_preview(table, sentences, _console(110))
    return 0


@command(
    "plan", RUN, "jobs, hours, memory and disk of each study, and the data to fetch",
    AS_JSON,
    examples=["plan --scale paper", "plan --scale desktop --config 'studies=[mol]'",
              "plan --json"],
)  # fmt: skip
def _print_plan(options: argparse.Namespace) -> int:
    from replica.estimates import plan_notes, plan_table, print_plan, rates_of

    plan = _plan(options)
    rates = rates_of(plan.root)
    if options.json:
        notes = [*plan_notes(plan, rates), *plan.left_out]
        studies = _records(plan_table(plan, rates))
        _print_json({"scale": plan.config.scale, "studies": studies, "notes": notes})
        return 0
    print_plan(plan, rates, _console(110))
    for sentence in plan.left_out:
        print(sentence, file=sys.stderr)
    return 0


@command(
    "status", RUN, "progress of a scale, running jobs, and the queue",
    argument("--watch", action="store_true", help="keep showing it, until Ctrl-C"), AS_JSON,
    examples=["status", "status --scale paper", "status --watch"],
)  # fmt: skip
def _status(options: argparse.Namespace) -> int:
    from replica import status

    plan = _plan(options)
    if options.json:
        _print_json(status.facts(plan))
    elif options.watch:
        status.watch(plan, _console(80))
    else:
        status.print_status(plan)
    return 0


@command(
    "efficiency", RUN, "memory and time of each job, requested and used",
    AS_JSON,
    examples=["efficiency", "efficiency --scale smoke", "efficiency --json"],
)  # fmt: skip
def _efficiency(options: argparse.Namespace) -> int:
    from replica.efficiency import efficiency_table, print_efficiency

    table = efficiency_table(_plan(options))
    if options.json:
        _print_json(_records(table))
    else:
        print_efficiency(table, _console(130))
    return 0


@command(
    "doctor", RUN, "whether this machine can do a scale, and what would not work",
    AS_JSON,
    examples=["doctor", "doctor --scale paper", "doctor --json"],
    status="Exit status: 0 a run can work, 1 it cannot, 2 the command line is wrong",
)  # fmt: skip
def _doctor(options: argparse.Namespace) -> int:
    from dataclasses import asdict

    from replica import doctor

    plan = _plan(options, whole=True)
    findings = doctor.examine(plan)
    if options.json:
        found = [asdict(finding) for finding in findings]
        _print_json({"scale": plan.config.scale, "findings": found})
    else:
        doctor.print_findings(findings, _console(110))
    return 1 if any(finding.level == doctor.PROBLEM for finding in findings) else 0


@command(
    "gpu-check", RUN, "whether a GPU computes what the processor does, and how fast",
    *(argument(name, **options) for name, options in ARGUMENTS),
    settings=False,
    examples=["gpu-check", "gpu-check --out docs/evidence/gpu", "gpu-check --on cpu"],
    status="Exit status: 0 all is well, 1 something is not or there is no GPU, "
           "2 the command line is wrong",
)  # fmt: skip
def _gpu_check(options: argparse.Namespace) -> int:
    from replica.gpu_check.__main__ import main

    return main(options)


@command(
    "scorecard", LOOK, "print the verdicts of a scale",
    argument("named", metavar=A_SCALE, nargs="?", help="the same as --scale"),
    argument("-v", "--verbose", action="store_true",
             help="with the rule, the published number, ours and the reason"),
    AS_JSON,
    examples=["scorecard", "scorecard laptop -v", "scorecard --json"],
)  # fmt: skip
def _scorecard(options: argparse.Namespace) -> int:
    from replica import artifacts
    from replica.report import print_scorecard

    if options.scale not in (None, options.named or options.scale):
        raise _Misused(f"There are two scales: {options.named} and {options.scale}.")
    options.scale = options.named or options.scale
    folder = _results(options)
    card = artifacts.read_table(_scorecard_file(folder))
    if options.json:
        _print_json(_records(card))
        return 0
    # Without a terminal the width is unknown; the whole table cannot be read in 80 columns.
    console = _console(150 if options.verbose else 80)
    print_scorecard(card, console, all_of_it=options.verbose)
    if note := artifacts.side_by_side(folder):
        console.print(note)
    for name in ("index.html", "report.html", "scorecard.html"):
        if (folder / name).exists():
            console.print(f"{name.partition('.')[0].capitalize()}: {folder / name}")
    return 0


@command(
    "show", LOOK, "print where an artifact came from, and its data",
    argument("file", type=Path, help="an artifact, a drawing or a page, or a folder"),
    argument("--json", action="store_true", help="only the stamp, as JSON"),
    settings=False,
    examples=["show results/smoke/dufm/figures/rec_depth.parquet",
              "show results/smoke/dufm/figures/rec_depth.svg --json", "show results/smoke"],
)  # fmt: skip
def _show(options: argparse.Namespace) -> int:
    from replica import showing

    if options.file.is_dir():
        found = showing.artifacts_in(options.file)
        if options.json:
            _print_json(found)
            return 0
        for path, stamp in found.items():
            print(f"{stamp['key']:16}  {stamp['commit']:13}  {path}")
        print(f"{options.file} is a folder with {len(found)} artifacts of Replica.")
        return 0
    _print_json(showing.stamp_of(options.file))
    if not options.json:
        for line in showing.data_in_words(options.file):
            print(line)
    return 0


@command(
    "diff", LOOK, "verdicts, numbers and settings that differ between two folders of results",
    argument("a", metavar="A", help="a folder, a scale, or the name of settings"),
    argument("b", metavar="B", help="the same, to compare with it"), AS_JSON,
    argument("--page", nargs="?", type=Path, const=Path(), metavar="FILE",
             help="as a page with both drawings side by side (results/diff-A-B.html)"),
    settings=False,
    examples=["diff laptop laptop-wider-head", "diff docs/evidence/laptop laptop --json",
              "diff laptop wider-head --page"],
    status="Exit status: 0 nothing differs, 1 something does, 2 the command line is wrong or they "
           "cannot be compared",
)  # fmt: skip
def _diff(options: argparse.Namespace) -> int:
    from replica import artifacts, comparison

    try:
        found = comparison.compare(comparison.find(options.a), comparison.find(options.b))
    except (comparison.NoResults, artifacts.CorruptArtifact) as error:
        print(error, file=sys.stderr)
        return 2
    if options.json:
        print(comparison.as_json(found))
    else:
        comparison.print_difference(found, _console(80))
    if options.page:
        page = comparison.page_of(found) if options.page == Path() else options.page
        comparison.write_page(found, page)
        print(f"Page: {page}", file=sys.stderr)
    return 0 if found.empty else 1


@command(
    "export", LOOK, "write a figure's numbers, the scorecard or the published numbers for others",
    argument("what", nargs="?", type=Path, metavar="WHAT",
             help="a figure (such as dufm/rec_depth), a Parquet file, scorecard, or published: all "
                  "published numbers beside ours; without it, a list of what there is"),
    argument("--format", dest="formats", choices=["csv", "markdown", "latex", "json"],
             action="append", default=[], help="csv unless given"),
    *(argument(f"--{form}", dest="formats", action="append_const", const=form,
               help=f"the same as --format {form}") for form in ("csv", "json")),
    argument("-o", "--output", type=Path, metavar="FILE", help="instead of the terminal; in UTF-8"),
    argument("--from", dest="folder", type=Path, metavar="FOLDER",
             help="instead of results/<scale>, such as docs/evidence/laptop"),
    examples=["export dufm/rec_depth --csv -o rec_depth.csv",
              "export scorecard --format latex --from docs/evidence/laptop",
              "export published --scale smoke"],
)  # fmt: skip
def _export(options: argparse.Namespace) -> int:
    from replica import artifacts, export

    _in_project()
    if len(set(options.formats)) > 1:
        raise _Misused(f"There are two formats: {' and '.join(options.formats)}.")
    folder = options.folder or _results(options)
    if options.folder and not folder.is_dir():
        raise FileNotFoundError(f"There is no folder {folder}.")
    name = str(options.what or "")
    table = export.table_of(name, Path.cwd(), folder) if name else export.listed(folder)
    data = export.as_text(table, (options.formats or ["csv"])[0], name).encode()
    if options.output:
        artifacts.write_bytes(options.output, data)
    else:
        sys.stdout.buffer.write(data)
    return 0


@command(
    "check", LOOK, "list results that are damaged or were made by other code or settings",
    AS_JSON,
    examples=["check", "check --scale smoke", "check --json"],
    status="Exit status: 0 everything there is current, 1 something is not, "
           "2 the command line is wrong",
)  # fmt: skip
def _check(options: argparse.Namespace) -> int:
    from replica.adoption import not_current

    plan = _plan(options)
    wrong = not_current(plan)
    if options.json:
        _print_json([{"file": name, "reason": reason} for name, reason in wrong.items()])
    else:
        for name, reason in wrong.items():
            print(f"{name}: {reason}")
        if not wrong:
            there = (plan.root / plan.results).exists()
            said = "all is current" if there else "nothing is there yet"
            print(f"{plan.results}: {said}.", file=sys.stderr)
    return 1 if wrong else 0


@command(
    "evidence", KEEP, "put tables and verdicts into docs/evidence, and say what in it has moved",
    argument("--check", action="store_true",
             help="only say what is no longer what these settings and this code would make"),
    examples=["evidence", "evidence --scale desktop", "evidence --check"],
    status="Exit status: 0 done, 1 failed, or with --check something has moved, "
           "2 the command line is wrong",
)  # fmt: skip
def _evidence(options: argparse.Namespace) -> int:
    from replica import evidence

    plan = _plan(options)
    if not options.check:
        for sentence in evidence.collect(plan):
            print(sentence)
    moved = evidence.check(plan)
    for sentence in moved:
        print(sentence)
    if options.check and not moved:
        print(f"docs/evidence/{plan.config.scale}: all is current.", file=sys.stderr)
    return 1 if moved and options.check else 0


@command(
    "redraw", KEEP, "draw the figures and decide the claims of docs/evidence, without a run",
    argument("folder", type=Path, help="where drawings and scorecard go"),
    examples=["redraw drawings", "redraw drawings --scale desktop"],
)  # fmt: skip
def _redraw(options: argparse.Namespace) -> int:
    from replica.evidence import redraw

    for sentence in redraw(_plan(options), options.folder):
        print(sentence)
    return 0


@command(
    "adopt", KEEP, "make results from elsewhere usable: delete what is not current, keep the rest",
    DRY_RUN,
    examples=["adopt --dry-run", "adopt --scale paper"],
)  # fmt: skip
def _adopt(options: argparse.Namespace) -> int:
    from replica import disk
    from replica.adoption import adopt, not_current
    from replica.processes import alone

    plan = _plan(options)
    if not options.dry_run:
        with alone(plan.root):
            disk.fill(plan)
            adopt(plan)
        return 0
    wrong = not_current(plan)
    for name, reason in wrong.items():
        print(f"{name}: {reason}, would be deleted")
    files = "file" if len(wrong) == 1 else "files"
    print(f"{len(wrong)} {files} would be deleted; nothing was changed.")
    return 0


@command(
    "clean", KEEP, "delete states in results/ that no scale needs with these settings",
    DRY_RUN,
    # It is about all of them.
    scale=False,
    examples=["clean --dry-run", "clean"],
)  # fmt: skip
def _clean(options: argparse.Namespace) -> int:
    from replica import disk
    from replica.processes import alone, running
    from replica.settings.study import SCALES

    root = Path.cwd()
    # The states of runs whose data cannot be had now are needed all the same.
    plans = [_plan(options, [f"scale={scale}"], whole=True) for scale in SCALES]
    named, unknown = disk.named_plans(root)
    for sentence in unknown:
        print(sentence, file=sys.stderr)
    if lines := running(root):
        raise RuntimeError("\n".join([*lines, "Nothing was deleted."]))
    if away := disk.mirrors_away([*plans, *named]):
        raise RuntimeError(
            f"mirrors: there is no folder {away[0]} now, and states of runs on data in it would "
            "seem to be of other settings. Nothing was deleted: make it available, or take it "
            "out of mirrors."
        )
    with nullcontext() if options.dry_run else alone(root):
        found = disk.unneeded(root, [*plans, *named])
        for path, freed in found.items():
            print(f"{path.relative_to(root)}: {freed / 1e6:,.1f} MB")
            if not options.dry_run:
                disk.free(path)
    outcome = "would be freed" if options.dry_run else "freed"
    size = sum(found.values()) / 1e6
    print(f"{size:,.1f} MB {outcome}." if found else "Every stored state is needed.")
    return 0


@command(
    "rules", WORK, "record in config/rules.lock that rules, or what decides them, have changed",
    argument("reason", help="why, in a sentence"),
    argument("--results", choices=["seen", "not seen"], required=True,
             help="whether results under the new rules were known"),
    settings=False,
    examples=["rules 'The paper states a margin of 0.1.' --results seen"],
)  # fmt: skip
def _rules(options: argparse.Namespace) -> int:
    import datetime

    from replica import rulebook

    again = rulebook.add_entries(
        Path.cwd(), options.reason, options.results == "seen", datetime.date.today()
    )
    print(f"{len(again)} rules recorded: {', '.join(map('.'.join, again)) or 'none has changed'}.")
    return 0


@command(
    "schema", WORK, "write the JSON schemas of the configuration",
    argument("folder", type=Path, help="where they go"),
    settings=False,
    examples=["schema config/schema"],
)  # fmt: skip
def _schema(options: argparse.Namespace) -> int:
    from replica import artifacts
    from replica.settings.load import schemas

    for name, content in schemas().items():
        text = json.dumps(content, indent=1, sort_keys=True, ensure_ascii=False) + "\n"
        artifacts.write_bytes(options.folder / name, text.encode())
    return 0


@command(
    "completion", WORK, "print a script that lets the Tab key complete this command",
    argument("shell", choices=["bash", "zsh"], help="which shell"),
    settings=False,
    examples=["completion bash > ~/.local/share/bash-completion/completions/replica",
              "completion zsh > ~/.zfunc/_replica"],
)  # fmt: skip
def _completion(options: argparse.Namespace) -> int:
    import shtab

    print(shtab.complete(make_parser(), options.shell))
    return 0


def _in_project() -> None:
    if not Path("config/config.yaml").exists():
        raise FileNotFoundError(
            f"There is no config/config.yaml in {Path.cwd()}: "
            "run this command in the project folder."
        )


def _results(options: argparse.Namespace) -> Path:
    """The results folder of a scale, without the plan, which takes seconds."""
    from replica.configuration import read_settings
    from replica.settings.load import load_config

    _in_project()
    settings = read_settings(Path.cwd(), _entries(options))
    return Path("results", load_config(settings.values, settings.source).label)


def _scorecard_file(folder: Path) -> Path:
    card = folder / "scorecard.parquet"
    if not card.exists():
        there = [path.parent.name for path in sorted(Path("results").glob("*/scorecard.parquet"))]
        hint = f" (there is one of {', '.join(there)})" if there else ""
        scale, _, name = folder.name.partition("-")
        raise FileNotFoundError(
            f"There is no scorecard of the scale {folder.name} yet{hint}: "
            f"run make SCALE={scale}{f' CONFIG=name={name}' if name else ''} first."
        )
    return card


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

    given = [*options.config, *split_entries(options.settings)]
    if not options.scale:
        return given
    if other := [one for one in given if one.startswith("scale=") and one[6:] != options.scale]:
        raise _Misused(f"There are two scales: --scale {options.scale} and {other[-1]}.")
    return [f"scale={options.scale}", *given]


def _console(width: int) -> "Console":
    """The terminal; without one, something of a width in characters."""
    from rich.console import Console

    console = Console()
    return console if console.is_terminal else Console(width=width)


def _print_json(value: object) -> None:
    print(json.dumps(value, indent=2, ensure_ascii=False))


def _records(table: "pd.DataFrame") -> list[dict[str, Any]]:
    """The rows of a table for JSON, which has null for what is not a finite number."""
    return json.loads(table.to_json(orient="records", double_precision=15))


if __name__ == "__main__":
    # A plan is hundreds of thousands of objects that all stay: garbage collection finds nothing.
    gc.set_threshold(100_000, 50, 50)
    # A terminal that is not UTF-8 lacks some of the characters that are printed.
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="replace")  # type: ignore[union-attr]
    sys.exit(main())
