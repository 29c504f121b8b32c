"""What users write is read by one reader: files, the command line, what make hands on."""

import ast
import json
import os
import shutil
import subprocess
import sys

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from project import copy_project
from replica import configuration
from replica.__main__ import main
from replica.configuration import (
    ConfigError,
    lay_over,
    parse_entries,
    parse_yaml,
    read_settings,
    read_yaml,
    split_entries,
)
from replica.plan import make_plan
from replica.settings.load import load_config
from replica.settings.user import Config

# ------------------------------------------------------------------ YAML


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e9", 1e9), ("1E-3", 0.001), ("1.5", 1.5), (".5", 0.5), ("1.", 1.0), ("-2", -2),
        ("010", 10), ("0o17", 15), ("0x1f", 31), ("-.inf", float("-inf")),
        ("no", "no"), ("on", "on"), ("yes", "yes"), ("true", True), ("False", False),
        ("null", None), ("~", None), ("", None), ("1:30", "1:30"), ("2024-13-45", "2024-13-45"),
        ("1_000", "1_000"), ("'3'", "3"), ("!!str 3", "3"), ("=", "="), ("1e", "1e"),
    ],
)  # fmt: skip
def test_words_and_numbers_are_those_of_yaml_1_2(text, value):
    found = parse_yaml(f"k: {text}", "here")["k"]
    assert found == value and type(found) is type(value)


def test_words_of_yaml_1_1_and_numbers_that_are_words_do_where_the_type_is_known():
    values = parse_yaml("{seeds: '3', checkpoint_seconds: 1e2, jobs_per_gpu: 010}", "here")
    config = load_config(values)
    assert (config.seeds, config.checkpoint_seconds, config.jobs_per_gpu) == (3, 100, 10)


WORDS = st.text(st.characters(exclude_categories=["C", "Zl", "Zp"]), max_size=8)
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=3),
    max_leaves=8,
)


@given(VALUES)
def test_json_is_read_as_it_is(value):
    assert parse_yaml(json.dumps(value, ensure_ascii=False), "here") == value


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"a: 1\nb: 2\na: 3\n", "line 3: the key a is already in line 1"),
        (b"r:\n  lr: 1\n  'lr': 2\n", "line 3: the key lr is already in line 2"),
        (b"a: [{b: 1}, {c: 1, c: 2}]\n", "line 1: the key c is already in line 1"),
        (b"a: &x {b: 1, b: 2}\nc: *x\n", "line 1: the key b is already in line 1"),
        (b"a:\n- b: 1\n  c: {d: 1,\n d: 2}\n", "line 4: the key d is already in line 3"),
        (b"", "is empty: expected keys with values"),
        (b"# only words\n\n", "is empty: expected keys with values"),
        (b"---\n", "is empty: expected keys with values"),
        (b"- a\n- b\n", "expected keys with values, got a list"),
        (b"scale\n", "expected keys with values, got a word"),
        (b"a: 1\n# \xfc\n", "line 2: not UTF-8; save the file as UTF-8"),
        ("a: 1".encode("utf-16"), "line 1: not UTF-8"),
        ("a: 1\n".encode("utf-16-le"), r"line 1: the character U\+0000 is not allowed"),
        (b"a: 1\nb: \x07\n", r"line 2: the character U\+0007 is not allowed"),
        (b"a:\n\tb: 1\n", "line 2: not valid YAML .found .*tab|character that cannot start"),
        (b"a: {b: [1, 2}\n", "line 1: not valid YAML"),
        (b"a: 1\nb: !!python/object/apply:os.system [id]\n", "line 2: .*tag .* is not known"),
        (b"a: 1\nb: !mine x\n", "line 2: .*the tag !mine is not known"),
        (b"a: !!int x\n", "line 1: .*'x' is not a valid int"),
        (b"a: " + b"9" * 5000 + b"\n", "line 1: .*is not a valid int"),
        (b"a: 1\n---\nb: 1\n", "line 2: .*another document"),
        (b"a: *x\n", "line 1: .*undefined alias"),
        (b"a: &x [1, *x]\n", "line 1: .*an anchor contains itself"),
        (b"1: a\n", "line 1: .*the key '1' must be a word: put quotes around it"),
        (b"[a, b]: c\n", "line 1: .*a key must be a word"),
        (b"a: " + b"[" * 3000 + b"]" * 3000, "nested too deeply"),
    ],
)
def test_a_file_that_cannot_be_read_is_named_with_the_line(tmp_path, content, words):
    path = tmp_path / "x.yaml"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=words) as caught:
        read_yaml(path)
    assert str(caught.value).startswith(str(path)) and "\n" not in str(caught.value)


def test_files_that_are_not_there_or_not_for_us(tmp_path, monkeypatch):
    with pytest.raises(ConfigError, match=r"There is no file .*none\.yaml"):
        read_yaml(tmp_path / "none.yaml")
    with pytest.raises(ConfigError, match=r"cannot be read \(Is a directory\)"):
        read_yaml(tmp_path)

    def denied(self):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(configuration.Path, "read_bytes", denied)
    with pytest.raises(ConfigError, match=r"x.yaml cannot be read \(Permission denied\)"):
        read_yaml(tmp_path / "x.yaml")


def test_byte_order_marks_line_ends_and_merge_keys_are_fine(tmp_path):
    path = tmp_path / "x.yaml"
    path.write_bytes(b"\xef\xbb\xbfscale: smoke\r\nseeds: 3\r\n")
    assert read_yaml(path) == {"scale": "smoke", "seeds": 3}
    path.write_text("a: &a {x: 1, y: 2}\nb: {<<: *a, x: 3}\nc: {<<: [*a, {x: 5, z: 6}]}\n")
    assert read_yaml(path)["b"] == {"x": 3, "y": 2}
    assert read_yaml(path)["c"] == {"x": 1, "y": 2, "z": 6}
    # A mapping that is merged before it is built does not look as if it had keys twice.
    path.write_text("q: {r: &a {<<: {k: 1}, k: 2}}\ns: {<<: *a}\n")
    assert read_yaml(path) == {"q": {"r": {"k": 2}}, "s": {"k": 2}}


def test_the_files_of_the_project_mean_the_same_in_yaml_1_1(root):
    for path in [*root.glob("config/*.yaml"), *root.glob("config/studies/*.yaml")]:
        text = path.read_text(encoding="utf-8")
        assert read_yaml(path) == yaml.safe_load(text), path.name


# ------------------------------------------------------------------ the command line

CHANGE = "overrides={low_rank: {fig6: {lr: 0.05}}}"


@pytest.mark.parametrize(
    ("line", "entries"),
    [
        ("", []),
        ("  ", []),
        ("seeds=3", ["seeds=3"]),
        (CHANGE, [CHANGE]),
        (f"'{CHANGE}'", [CHANGE]),
        (f'"{CHANGE}" seeds=3', [CHANGE, "seeds=3"]),
        (f"seeds=3   {CHANGE}\tscale=smoke", ["seeds=3", CHANGE, "scale=smoke"]),
        (f"'seeds=3' '{CHANGE}'", ["seeds=3", CHANGE]),
        ("studies=[dufm, low_rank] seeds=", ["studies=[dufm, low_rank]", "seeds="]),
        ("data_dir=/my data/x seeds=3", ["data_dir=/my data/x", "seeds=3"]),
        ("'data_dir=/my data'", ["data_dir=/my data"]),
        ("data_dir='/a b=c' seeds=3", ["data_dir='/a b=c'", "seeds=3"]),
        ("data_dir=/home/o'neill seeds=3", ["data_dir=/home/o'neill", "seeds=3"]),
        (
            'cluster={gpu: "gpu:a100:1", extra: "--qos=long --x=}"} seeds=1',
            ['cluster={gpu: "gpu:a100:1", extra: "--qos=long --x=}"}', "seeds=1"],
        ),
        ("cluster={extra: --qos=a b=c}", ["cluster={extra: --qos=a b=c}"]),
        ("seeds", ["seeds"]),
    ],
)
def test_a_line_of_settings_is_split_into_entries(line, entries):
    assert split_entries(line) == entries


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("overrides={low_rank: {fig6: {lr: 0.05}}", "CONFIG: a } is missing in 'overrides"),
        ("studies=[dufm seeds=3", "CONFIG: a ] is missing in 'studies"),
        ("seeds", "Command line: 'seeds' is not key=value"),
        ("seeds 3", "Command line: 'seeds 3' is not key=value"),
        ("'seeds=3", "Command line: .*seeds=3.* is not key=value"),
        ("{low_rank: x}", "Command line: '{low_rank: x}' is not key=value"),
        ("studies=[dufm]]", "Command line: studies=.*not valid YAML"),
        ("overrides={a: {}, a: {}}", "the key a is already in line 1"),
        ('data_dir="x', "Command line: data_dir=.*not valid YAML"),
        ("seeds=!!int x", "Command line: seeds=!!int x.*'x' is not a valid int"),
    ],
)
def test_an_entry_that_is_badly_quoted_is_shown_how(line, words):
    with pytest.raises(ConfigError, match=words) as caught:
        parse_entries(split_entries(line))
    assert "'overrides={low_rank: {fig6: {lr: 0.05}}}'" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_values_of_the_command_line_are_yaml():
    entries = ["seeds=null", "studies=[dufm]", "overrides={a: {b: {c: null, d: -3, e: '-3'}}}"]
    assert parse_entries([*entries, "data_dir=", "extras=x"]) == {
        "seeds": None, "studies": ["dufm"], "data_dir": None, "extras": "x",
        "overrides": {"a": {"b": {"c": None, "d": -3, "e": "-3"}}},
    }  # fmt: skip


MAPPINGS = st.recursive(
    st.integers(), lambda inner: st.dictionaries(st.sampled_from("abc"), inner), max_leaves=6
).filter(lambda value: isinstance(value, dict))


@pytest.mark.slow
@given(MAPPINGS, MAPPINGS)
def test_settings_lie_over_each_other_as_in_snakemake(below, above):
    from snakemake.utils import update_config

    expected = json.loads(json.dumps(below))
    update_config(expected, above)
    assert lay_over(below, above) == expected


def test_one_word_stands_for_a_list_of_it():
    config = load_config({"studies": "dufm", "mirrors": "/x", "extras": "optional_kd"})
    assert (config.studies, config.mirrors, config.extras) == (["dufm"], ["/x"], ["optional_kd"])
    assert Config(studies="all").studies == "all"
    for value, words in [([], "at least 1 item"), (None, "studies = null .* valid list")]:
        with pytest.raises(ConfigError, match=words):
            load_config({"studies": value})


# ------------------------------------------------------------------ where a value was given


@pytest.fixture
def project(root, tmp_path):
    """A folder with the configuration of the project, to be changed."""
    shutil.copytree(root / "config", tmp_path / "config")
    return tmp_path


def sentence(project, *entries, files=()):
    with pytest.raises(ConfigError) as caught:
        settings = read_settings(project, entries, files)
        make_plan(project, settings.values, settings.source)
    return str(caught.value)


TWO = "overrides: {low_rank: {fig2_top: {width: -3}}, dufm: {rec_depth: {lr: 0}}}"


@pytest.mark.slow
def test_an_error_names_the_place_where_its_value_was_given(project):
    file = project / "config/config.yaml"
    text = file.read_text(encoding="utf-8")
    change = "overrides={low_rank: {fig2_top: {%s}}}"
    low_rank, top = "studies=low_rank", "overrides.low_rank.fig2_top"
    assert sentence(project, "studies=[low_rnk]").startswith(
        "Command line: studies: the study 'low_rnk' does not exist (did you mean low_rank?)"
    )
    assert sentence(project, "sede=3").startswith("Command line: unknown key sede (did you mean se")
    assert sentence(project, "seeds=three").startswith("Command line: seeds = 'three' is not")
    assert sentence(project, low_rank, change % "width: -3").startswith(
        f"Command line: {top}: width = -3 is not allowed: input should be greater than 0"
    )
    assert f"Command line: {top}: unknown key widht" in sentence(project, change % "widht: 3")
    assert f"Command line: {top}: kind = 'x'" in sentence(project, change % "kind: x")
    assert f"Command line: {top}: grid = 3 must" in sentence(project, change % "grid: 3")
    assert "overrides.low_rank.fig2_tpo: there is no such run (did you mean fig2_top?)" in (
        sentence(project, "overrides={low_rank: {fig2_tpo: {}}}")
    )
    # A sentence about the whole run names both.
    assert sentence(project, low_rank, change % "threshold_ratio: [1]").startswith(
        f"config/studies/low_rank.yaml: runs.fig2_top at scale laptop with {top} (Command line): "
        "give exactly one"
    )
    data = "overrides={dufm: {rec_backbone: {dataset: digit}}}"
    assert sentence(project, data).startswith("Command line: overrides.dufm.rec_backbone: the data")
    # In the file, and with a part of it laid over on the command line.
    file.write_text(text.replace("overrides: {}", TWO), encoding="utf-8")
    assert sentence(project, low_rank).startswith(f"config/config.yaml: {top}: width = -3")
    assert sentence(project, "studies=dufm").startswith("config/config.yaml: overrides.dufm.rec_d")
    assert sentence(project, low_rank, change % "width: -4").startswith(f"Command line: {top}: wi")
    assert sentence(project, low_rank, change % "lr: 0.1").startswith(f"config/config.yaml: {top}")
    # A further file lies between both.
    more = project / "more.yaml"
    more.write_text("seeds: 0\n")
    assert sentence(project, files=[more]).startswith(f"{more}: seeds = 0 is not allowed")
    assert sentence(project, "seeds=-1", files=[more]).startswith("Command line: seeds = -1")
    more.write_text("seeds: 1\nseeds: 2\n")
    assert sentence(project, files=[more]).startswith(f"{more}, line 2: the key seeds")


def test_a_grid_that_is_none_is_a_sentence(project):
    path = project / "config/studies/dufm.yaml"
    study = yaml.safe_load(path.read_text(encoding="utf-8"))
    run = next(iter(study["runs"]))
    for grid, words in [(3, "paper.grid = 3 must be keys with lists"), ({"K": 3}, "paper.grid.K")]:
        study["runs"][run]["paper"]["grid"] = grid
        path.write_text(yaml.safe_dump(study), encoding="utf-8")
        assert words in sentence(project)


def test_null_means_the_same_from_a_file_and_from_the_command_line(project):
    plain = make_plan(project, read_settings(project, ["studies=low_rank"]).values)
    entries = ["studies=low_rank", "seeds=null", "overrides={low_rank: {fig6: {lambda_h: null}}}"]
    said = make_plan(project, read_settings(project, entries).values)
    assert said.config.seeds is None
    assert {n: p.spec for n, p in said.parts.items()} == {n: p.spec for n, p in plain.parts.items()}


# ------------------------------------------------------------------ python -m replica


@pytest.mark.slow
def test_the_scale_of_a_command_is_that_of_the_file_unless_given(
    root, project, monkeypatch, capsys
):
    monkeypatch.chdir(project)
    (project / "workflow").symlink_to(root / "workflow")
    file = project / "config/config.yaml"
    text = file.read_text(encoding="utf-8")
    for line in ["scale: smoke  # mine", "scale : 'smoke'", '"scale": smoke']:
        file.write_text(text.replace("scale: laptop", line), encoding="utf-8")
        assert main(["status", "--settings", "studies=dufm"]) == 0
        of_the_file = capsys.readouterr().out
        assert main(["status", "--scale", "smoke", "--config", "studies=dufm"]) == 0
        assert capsys.readouterr().out == of_the_file
    assert main(["status", "--scale", "paper", "--config", "studies=dufm"]) == 0
    assert capsys.readouterr().out != of_the_file


def test_settings_of_a_command_are_laid_over_each_other(project, monkeypatch, capsys):
    monkeypatch.chdir(project)
    assert main(["status", "--config", "studies=dufm", "--config", "seeds=no"]) == 1
    assert capsys.readouterr().err.startswith("Command line: seeds = 'no' is not allowed")
    assert main(["status", "--settings", "seeds=3 studies=[low_rnk]"]) == 1
    assert "Command line: studies: the study 'low_rnk'" in capsys.readouterr().err
    (project / "config/config.yaml").write_text("")
    assert main(["status"]) == 1
    assert "config.yaml is empty" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words", [[], ["smoke"], ["--scale", "smoke"], ["--config", "scale=smoke"]]
)
def test_the_scorecard_knows_its_scale(project, monkeypatch, words):
    shown = []
    monkeypatch.chdir(project)
    monkeypatch.setattr("replica.artifacts.read_table", shown.append)
    monkeypatch.setattr("replica.report.print_scorecard", lambda table, console, **how: None)
    scale = "smoke" if words else "laptop"
    card = project / f"results/{scale}/scorecard.parquet"
    card.parent.mkdir(parents=True)
    card.write_bytes(b"")
    assert main(["scorecard", *words]) == 0
    assert [str(path) for path in shown] == [f"results/{scale}/scorecard.parquet"]


# ------------------------------------------------------------------ make


def make(project, *words, **environment):
    """What make says; its commands are not this environment's, but scripts that tell of it."""
    for folder in (project / ".venv/bin", project / "envs"):
        folder.mkdir(parents=True, exist_ok=True)
    python = project / ".venv/bin/python"
    python.write_text(
        '#!/bin/sh\nfor word; do printf "<%s>" "$word"; done; echo\n'
        'echo "$PYTHONPATH|$PYTHONHOME|$PIP_TARGET|$PYTHONUSERBASE"\n'
    )
    python.chmod(0o755)
    for name in ("envs/requirements.txt", "pyproject.toml", ".venv/installed"):
        (project / name).touch()
    return subprocess.run(
        ["make", "--no-print-directory", *words], cwd=project, env=os.environ | environment,
        capture_output=True, encoding="utf-8",
    )  # fmt: skip


@pytest.fixture
def made(root, project):
    shutil.copy(root / "Makefile", project)
    return project


@pytest.mark.skipif(not shutil.which("make"), reason="there is no make here")
@pytest.mark.parametrize("target", ["all", "slurm", "status", "watch", "efficiency", "doctor"])
@pytest.mark.parametrize(
    "config",
    [CHANGE, f"'{CHANGE}' seeds=3", "seeds=3; touch pwned", "$(shell touch pwned)", "`touch pwned`",
     '$HOME "x', "a\nb", ""],
)  # fmt: skip
def test_make_hands_on_what_the_user_says_and_nobody_reads_it_before(made, target, config):
    answer = make(made, target, f"CONFIG={config}", "SCALE=smoke")
    assert answer.returncode == 0, answer.stderr
    calls = [line for line in answer.stdout.split("<-m>")[1:]]
    assert len(calls) == 1
    assert all(f"<--scale><smoke><--settings><{config}>" in call for call in calls)
    assert not (made / "pwned").exists()


@pytest.mark.skipif(not shutil.which("make"), reason="there is no make here")
def test_make_leaves_the_scale_to_the_file_and_keeps_other_pythons_out(made):
    strange = {"PYTHONPATH": "/x", "PYTHONHOME": "/x", "PIP_TARGET": "/x", "PYTHONUSERBASE": "/x"}
    answer = make(made, "status", **strange)
    assert answer.stdout == f"<-m><replica><status><--settings><>\n{made}/workflow|||\n"


@pytest.mark.skipif(not shutil.which("make"), reason="there is no make here")
@pytest.mark.parametrize("word", ["SCAL=smoke", "scale=smoke", "seeds=3", CHANGE, "config=x"])
def test_make_refuses_a_name_that_it_does_not_know(made, word):
    answer = make(made, word)
    assert answer.returncode == 2 and answer.stdout == ""
    assert f"make knows no {word.partition('=')[0]}; there are SCALE, CONFIG" in answer.stderr


@pytest.mark.skipif(not shutil.which("make"), reason="there is no make here")
def test_make_help_prints_the_head(made):
    said = make(made, "help").stdout
    assert said.startswith("make            environment, reproduction")
    assert "make slurm" in said and "PYTHON ?=" not in said


# ------------------------------------------------------------------ Snakemake


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (["scale=papr"], ["scale = 'papr'", "'smoke', 'laptop', 'desktop' or 'paper'"]),
        (
            ["studies=[low_rnk]"],
            ["low_rnk", "there are agop, depth, dufm, fc_low_data, idrs, low_rank"],
        ),
        (["sclae=smoke"], ["unknown key sclae", "did you mean scale?"]),
        (["seeds=[1]"], ["seeds = [1]", "integer"]),
        (
            ["overrides={low_rank: {fig6: {width: -1}}}"],
            ["overrides.low_rank.fig6", "width = -1", "greater than 0"],
        ),
        (["overrides={low_rank: {fig9: {width: 1}}}"], ["fig9", "there is no such run", "fig6"]),
    ],
)
def test_bad_configuration_is_a_sentence(root, values, words):
    with pytest.raises(ConfigError) as error:
        make_plan(root, configuration.read_settings(root, values).values)
    assert all(word in str(error.value) for word in words)


@pytest.mark.slow
def test_snakemake_reads_the_settings_as_we_do(root, tmp_path):
    """Its own parser would leave null and numbers within braces as text, and dies of such files."""
    project = copy_project(root, tmp_path / "copy")
    environment = os.environ | {"PYTHONPATH": str(project / "workflow")}

    def dry_run(*entries):
        words = ["-n", "--quiet", "all", "--config", "scale=smoke", *entries]
        command = [sys.executable, "-m", "snakemake", *words]
        return subprocess.run(
            command, cwd=project, env=environment, capture_output=True, encoding="utf-8"
        )

    null = "overrides={low_rank: {fig6: {lambda_h: null, lr: 1e-1}}}"
    answer = dry_run("studies=low_rank", "seeds=null", null, "data_dir=./data//")
    assert answer.returncode == 0, answer.stderr
    wrong = "overrides={low_rank: {fig2_top: {width: -3}}}"
    assert dry_run("studies=low_rank", wrong).stderr.splitlines()[1:] == [
        "Configuration: Command line: overrides.low_rank.fig2_top: width = -3 is not allowed: "
        "input should be greater than 0."
    ]
    (project / "config/config.yaml").write_bytes(b"seeds: 3\n# \xfc\n")
    assert dry_run().stderr.splitlines()[1:] == [
        f"Configuration: {project}/config/config.yaml, line 2: not UTF-8; save the file as UTF-8."
    ]


# ------------------------------------------------------------------ encodings

TEXT = {"read_text", "write_text", "TemporaryFile", "NamedTemporaryFile"}


def test_every_file_is_opened_as_utf_8(root):
    """ruff's PLW1514 knows this only where it sees the type of a path."""
    for folder in ("workflow", "benchmarks"):
        for path in (root / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if not isinstance(node, ast.Call):
                    continue
                name = getattr(node.func, "attr", getattr(node.func, "id", ""))
                said = {word.arg for word in node.keywords}
                texts = name in TEXT or (said & {"text", "universal_newlines"})
                assert not texts or "encoding" in said, f"{path}, line {node.lineno}"


def test_what_snakemake_and_make_read_is_ascii(root):
    """They read some of these in the encoding of the locale."""
    for pattern in (
        "Makefile",
        "Snakefile",
        "workflow/Snakefile",
        "profiles/*/*",
        "workflow/rules/*",
    ):
        for path in (path for path in root.glob(pattern) if path.is_file()):
            assert path.read_bytes().isascii(), path


@pytest.mark.slow
@pytest.mark.parametrize("locale", ["zh_CN.GBK", "en_US.ISO-8859-1"])
def test_everything_runs_in_a_locale_that_is_not_utf_8(root, tmp_path, locale):
    language, _, encoding = locale.partition(".")
    command = ["localedef", "-i", language, "-f", encoding, str(tmp_path / locale)]
    if not shutil.which("localedef") or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("needs localedef and the sources of locales (Debian: locales)")
    environment = os.environ | {
        "LOCPATH": str(tmp_path), "LC_ALL": locale, "PYTHONUTF8": "0",
        "PYTHONCOERCECLOCALE": "0", "PYTHONPATH": str(root / "workflow"),
    }  # fmt: skip
    environment.pop("PYTHONIOENCODING", None)
    commands = [
        ["-c", "import sys; assert sys.getfilesystemencoding() not in ('utf-8', 'ascii')"],
        # It reads the library's own source and prints a dash where there is no number.
        ["-m", "replica", "plan", "--scale", "smoke", "--config", "studies=dufm"],
    ]
    if locale == "zh_CN.GBK":  # of several bytes a letter, where more goes wrong
        commands += [
            ["-m", "replica", "check", "--config", "scale=smoke", "studies=dufm"],
            ["-m", "snakemake", "-n", "--config", "scale=smoke", "studies=dufm"],
        ]
    for words in commands:
        answer = subprocess.run(
            [sys.executable, *words], cwd=root, env=environment, capture_output=True
        )
        said = (answer.stdout + answer.stderr).decode(encoding, errors="replace")
        assert "Traceback" not in said and "Error" not in said, said
        assert answer.returncode == 0 or words[2] == "check", said
