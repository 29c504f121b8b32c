"""The command `replica`: its help, its exit status, its completion, JSON in place of tables."""

import json
import re
import shutil
import subprocess

import pytest

from replica import __main__ as cli
from replica.__main__ import COMMANDS, main, make_parser

NAMES = [each.name for each in COMMANDS]


def test_the_help_lists_every_command_in_a_group_and_says_how_it_ends(capsys):
    assert main([]) == 2
    said = capsys.readouterr().out
    assert [line.split()[0] for line in said.splitlines() if line.strip().split()[:1] != [] and
            line.startswith("  ") and line.split()[0] in NAMES] == [
        each.name for group in (cli.RUN, cli.LOOK, cli.KEEP, cli.WORK)
        for each in COMMANDS if each.group == group
    ]  # fmt: skip
    assert {each.group for each in COMMANDS} <= {cli.RUN, cli.LOOK, cli.KEEP, cli.WORK}
    assert "Exit status: 0 done, 1 failed" in said and len(NAMES) == len(set(NAMES))


@pytest.mark.parametrize("each", COMMANDS, ids=NAMES)
def test_each_command_explains_itself(each, capsys):
    with pytest.raises(SystemExit) as end:
        main([each.name, "--help"])
    said = capsys.readouterr().out
    assert end.value.code == 0
    assert "examples:" in said and "Exit status: 0" in said and "2 the command line is" in said


@pytest.mark.parametrize("each", COMMANDS, ids=NAMES)
def test_the_examples_are_understood(each):
    import shlex

    assert 1 <= len(each.examples) <= 3
    for example in each.examples:
        line = example.partition(" > ")[0]
        options = make_parser().parse_args(shlex.split(line))
        assert options.run is each.run, example


def test_the_page_lists_every_command_and_which_have_json(root):
    page = (root / "docs/commands.md").read_text(encoding="utf-8")
    assert sorted(re.findall(r"^\| `([\w-]+)` \|", page, re.MULTILINE)) == sorted(NAMES)
    (line,) = [p for p in page.split("\n\n") if p.startswith("`run -n`, ")]
    listed = set(re.findall(r"`(\w+)(?: -n)?`", line)) - {"null"}
    assert listed == {each.name for each in COMMANDS
                      if any("--json" in a.names for a in each.arguments)}  # fmt: skip


def test_launch_is_the_same_as_run():
    options = [make_parser().parse_args([name, "--slurm"]) for name in ("run", "launch")]
    assert options[0].run is options[1].run


def test_the_version_is_that_of_the_package(capsys):
    with pytest.raises(SystemExit) as end:
        main(["--version"])
    assert end.value.code == 0 and capsys.readouterr().out.startswith("replica ")


@pytest.mark.parametrize("words", [["nothing"], ["status", "--scale", "big"], ["show"], ["--what"]])
def test_a_command_line_that_is_wrong_ends_with_2(words, capsys):
    with pytest.raises(SystemExit) as end:
        main(words)
    assert end.value.code == 2 and "usage: replica" in capsys.readouterr().err


@pytest.mark.parametrize(("words", "said"), [
    (["run", "--json"], "--json lists what a run would do: it goes with -n."),
    (["run", "-n", "--cores", "2"], "options of Snakemake come after --, as in replica run -- --co"),
    (["run", "-n", "--", "--config", "seeds=3"], "--config comes before --"),
    (["run", "-n", "--", "--config=seeds=3"], "--config=seeds=3 comes before --"),
    (["run", "-n", "--scale", "smoke", "--config", "scale=laptop"],
     "There are two scales: --scale smoke and scale=laptop."),
    (["scorecard", "smoke", "--scale", "laptop"], "There are two scales: smoke and laptop."),
    (["plan", "laptop"], "replica plan does not know laptop: a scale is given as --scale laptop."),
    (["export", "scorecard", "--csv", "--json"], "There are two formats: csv and json."),
])  # fmt: skip
def test_a_command_line_that_contradicts_itself_is_refused(words, said, root, monkeypatch, capsys):
    monkeypatch.chdir(root)
    assert main(words) == 2
    assert said in capsys.readouterr().err


def test_a_misspelt_command_is_set_right(capsys):
    with pytest.raises(SystemExit):
        main(["rnu"])
    assert "there is no command rnu (did you mean run?)" in capsys.readouterr().err


def test_a_study_that_python_cannot_read_is_named(root, monkeypatch, capsys):
    def unreadable(*_, **__):
        compile("def draw(:", "workflow/replica/studies/dufm.py", "exec")

    monkeypatch.chdir(root)
    monkeypatch.setattr(cli, "_plan", unreadable)
    assert main(["plan"]) == 1
    assert capsys.readouterr().err == "workflow/replica/studies/dufm.py, line 1: invalid syntax.\n"


def test_what_fails_is_one_sentence_and_1(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for each in COMMANDS:
        if each.settings:
            needed = ["x"] if any(not a.names[0].startswith("-") and "nargs" not in a.options
                                  for a in each.arguments) else []  # fmt: skip
            assert main([each.name, *needed]) == 1, each.name
            said = capsys.readouterr()
            assert said.out == "" and said.err.count("\n") == 1
            assert said.err.startswith("There is no config/config.yaml in ")


@pytest.fixture
def project(root, tmp_path, monkeypatch):
    """A project folder without results, in which the command is given."""
    shutil.copytree(root / "config", tmp_path / "config")
    (tmp_path / "workflow").symlink_to(root / "workflow")
    monkeypatch.chdir(tmp_path)
    return tmp_path


# ------------------------------------------------------------------ JSON


def said_as_json(capsys, *words):
    status = main([*words, "--json"])
    return status, json.loads(capsys.readouterr().out)


def test_tables_are_json_for_programs(project, capsys):
    small = ["--scale", "smoke", "--config", "studies=[dufm]"]
    status, plan = said_as_json(capsys, "plan", *small)
    assert status == 0 and [row["study"] for row in plan["studies"]] == ["dufm", "shared"]
    assert plan["studies"][0]["jobs"] > 10 and plan["studies"][1]["mem_mb"] is None
    assert any(note.startswith("Rates: ") for note in plan["notes"])
    status, progress = said_as_json(capsys, "status", *small)
    (dufm,) = progress["studies"]
    assert status == 0 and (dufm["runs_made"], dufm["out_of_date"]) == (0, 0) and dufm["runs"] > 0
    assert progress["running"] == [] and progress["cpu_hours_left"] > 0
    assert said_as_json(capsys, "efficiency", *small) == (0, [])
    assert said_as_json(capsys, "check", *small) == (0, [])
    assert said_as_json(capsys, "show", ".") == (0, {})


# ------------------------------------------------------------------ completion

# Bash calls the function that the script names, with the words so far.
ASK = """
source {script}
complete -p replica | grep -q -- '-F _shtab_replica' || exit 3
COMP_WORDS=({words})
COMP_CWORD=$(({count} - 1))
COMP_LINE="${{COMP_WORDS[*]}}"
_shtab_replica
printf '%s\\n' "${{COMPREPLY[@]}}"
"""


@pytest.fixture(scope="module")
def completed(tmp_path_factory):
    if not shutil.which("bash"):
        pytest.skip("there is no bash here")
    folder = tmp_path_factory.mktemp("completion")
    with open(folder / "script", "w", encoding="utf-8") as file, pytest.MonkeyPatch.context() as m:
        m.setattr("sys.stdout", file)
        assert main(["completion", "bash"]) == 0

    def complete(*words):
        quoted = " ".join(f"'{word}'" for word in words)
        code = ASK.format(script=folder / "script", words=quoted, count=len(words))
        answer = subprocess.run(["bash", "-c", code], capture_output=True, encoding="utf-8",
                                cwd=folder)  # fmt: skip
        assert answer.returncode == 0, answer.stderr
        return set(answer.stdout.split())

    return complete


def test_bash_completes_commands_options_and_scales(completed):
    assert set(NAMES) <= completed("replica", "")
    assert completed("replica", "sta") == {"status"}
    assert {"--scale", "--config", "--json"} <= completed("replica", "status", "--")
    assert completed("replica", "status", "--scale", "") == {"smoke", "laptop", "desktop", "paper"}
    assert completed("replica", "show", "scr") == {"script"}


def test_zsh_has_a_script_too(capsys):
    assert main(["completion", "zsh"]) == 0
    said = capsys.readouterr().out
    assert said.startswith("#compdef replica") and "Progress of a scale" in said
    if shutil.which("zsh"):
        answer = subprocess.run(["zsh", "-n"], input=said, encoding="utf-8", capture_output=True)
        assert answer.returncode == 0, answer.stderr
