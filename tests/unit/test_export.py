"""Tables for other programs and for papers: complete as CSV, well-formed as LaTeX and Markdown."""

import io
import json
import shutil
import subprocess

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pylatexenc.latex2text import LatexNodes2Text

from replica import artifacts, export
from replica.__main__ import COMMANDS, main
from replica.export import as_text, latex_of, table_of

FIGURE = "low_rank/figures/fig2_top_dufm_k10.parquet"
NASTY = r"50 % of A_1 & B^2: {λ̂ ≤ ½} \n #$~ → „Súkeník“ ✓ | <b>"


@pytest.fixture
def here(root, monkeypatch):
    """The commands are given in the project; what there is, is its evidence."""
    monkeypatch.chdir(root)
    return "docs/evidence/laptop"


@pytest.mark.parametrize(
    "name", ["fig2_top_dufm_k10", "low_rank/fig2_top_dufm_k10", f"docs/evidence/laptop/{FIGURE}"]
)
def test_a_figure_is_csv_with_every_row_and_digit(here, name, tmp_path):
    target = tmp_path / "new/figure.csv"
    assert main(["export", name, "--csv", "-o", str(target), "--from", here]) == 0
    table = artifacts.read_table(f"{here}/{FIGURE}")
    read = pd.read_csv(target, encoding="utf-8")
    assert list(read.columns) == list(table.columns) and len(read) == len(table) > 1000
    assert (read["value"].dropna().to_numpy() == table["value"].dropna().to_numpy()).all()
    assert b"\r" not in target.read_bytes()


def test_the_terminal_gets_the_same_bytes(here, capfdbinary, tmp_path):
    for form in export.FORMATS:
        command = ["export", "scorecard", "--format", form, "--from", here]
        assert main(command) == 0
        shown = capfdbinary.readouterr().out
        assert main([*command, "-o", str(tmp_path / form)]) == 0
        assert (
            (tmp_path / form).read_bytes() == shown and "λ".encode() in shown
        ) or form == "latex"


def test_all_verdicts_are_in_every_format(here, root):
    card = table_of("scorecard", root, root / here)
    names = [f"{study}.{claim}" for study, claim in zip(card["study"], card["claim"], strict=True)]
    assert len(pd.read_csv(io.StringIO(as_text(card, "csv")))) == len(card) > 70
    assert [row["claim"] for row in json.loads(as_text(card, "json"))] == list(card["claim"])
    lines = as_text(card, "markdown", "scorecard").splitlines()
    assert [line.split("|")[1].strip().replace("\\", "") for line in lines[2:]] == names
    rows = as_text(card, "latex", "scorecard").split(r"\endlastfoot")[1].split("\\\\\n")
    assert [row.split(" & ")[0].strip().replace("\\", "") for row in rows[:-1]] == names


def test_published_numbers_are_exported_all(here, root, capfdbinary):
    assert main(["export", "published", "--from", here]) == 0
    read = pd.read_csv(io.BytesIO(capfdbinary.readouterr().out))
    files = (root / "config/published").glob("*.csv")
    assert len(read) == sum(len(pd.read_csv(path)) for path in files)
    assert 0 < read["ours"].notna().sum() < len(read)


def test_without_a_name_there_is_a_list(here, capfdbinary):
    assert main(["export", "--json", "--from", here]) == 0
    rows = json.loads(capfdbinary.readouterr().out)
    names = [row["name"] for row in rows]
    assert names[:2] == ["scorecard", "published"] and "low_rank/fig2_top_dufm_k10" in names
    assert len(names) > 90


@pytest.mark.parametrize(
    ("name", "words"),
    [("fig99", "There is no table fig99 in docs/evidence/laptop: replica export lists"),
     ("nothing.parquet", "There is no file nothing.parquet."),
     ("{foreign}", "is not an artifact of Replica")],
)  # fmt: skip
def test_what_is_not_there_is_said(here, name, words, tmp_path, capsys):
    pd.DataFrame({"x": [1]}).to_parquet(tmp_path / "foreign.parquet")
    name = name.format(foreign=tmp_path / "foreign.parquet")
    assert main(["export", name, "--from", here]) == 1
    said = capsys.readouterr().err
    assert words in said and said.count("\n") == 1
    assert main(["export", "scorecard", "--from", str(tmp_path)]) == 1
    assert "no scorecard" in capsys.readouterr().err


def test_a_name_of_two_figures_is_refused(root, tmp_path):
    for study in ("a", "b"):
        artifacts.write_table(tmp_path / study / "figures/f.parquet", pd.DataFrame({"x": [1]}), {})
    with pytest.raises(RuntimeError, match="give one of a/f, b/f"):
        table_of("f", root, tmp_path)
    assert len(table_of("b/f", root, tmp_path)) == 1


# ------------------------------------------------------------------ LaTeX and Markdown


@given(st.text(alphabet=st.characters(max_codepoint=0x17F, categories=["L", "N", "P", "S", "Zs"])))
def test_latex_shows_the_text_that_it_was_made_of(text):
    """Read by another part of the library, which follows the rules of TeX."""
    written = latex_of(text)
    assert written.isascii()
    back = LatexNodes2Text(math_mode="text").latex_to_text(written)
    letters = "".join(c for c in text if c.isascii() and c.isalnum())
    shown = iter(back)
    assert all(letter in shown for letter in letters), (written, back)


@pytest.mark.parametrize(
    ("text", "written"),
    [("50 % & x_1 #", r"50 \% \& x\_1 \#"), ("λ̂", r"\ensuremath{\hat{\ensuremath{\lambda}}}"),
     ("Wᵀ", r"W\textsuperscript{T}"), ("Súkeník", r"S\'uken{\'\i}k"), ("[a]", "{}[a]"),
     (r"a\b{c}", r"a{\textbackslash}b\{c\}"), ("R² ≥ ½", r"R{\texttwosuperior} \ensuremath{\geq} {\textonehalf}")],
)  # fmt: skip
def test_signs_in_latex(text, written):
    assert latex_of(text) == written


def test_a_table_with_every_sign_keeps_its_cells():
    table = pd.DataFrame({"a_b": [NASTY, "two\nlines"], "x": [0.123456, float("nan")]})
    (row, second) = as_text(table, "markdown").splitlines()[2:]
    assert len([c for c in row.replace(r"\|", "").split("|")]) == 4 and "&lt;b&gt;" in row
    assert "two lines" in second and "0.1235" in row
    latex = as_text(table, "latex")
    assert latex.count("{") - latex.count(r"\{") == latex.count("}") - latex.count(r"\}")
    body = latex.split(r"\endlastfoot")[1]
    assert body.count(" & ") == 2 and r"\%" in body and r"a b & x \\" in latex


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("pdflatex"), reason="there is no LaTeX here")
def test_latex_compiles(here, root, tmp_path):
    if subprocess.run(["kpsewhich", "booktabs.sty"], capture_output=True).returncode:
        pytest.skip("LaTeX lacks the package booktabs")
    parts = [as_text(table_of(what, root, root / here), "latex", what)
             for what in ("scorecard", "published")]  # fmt: skip
    parts.append(as_text(pd.DataFrame({"words": [NASTY, "[a]", "*"]}), "latex"))
    body = f"\\begin{{document}}{''.join(parts)}\\end{{document}}"
    text = f"\\documentclass{{article}}{export.PREAMBLE}{body}"
    (tmp_path / "all.tex").write_text(text, encoding="ascii")
    answer = subprocess.run(["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "all.tex"],
                            cwd=tmp_path, capture_output=True, encoding="utf-8",
                            errors="replace")  # fmt: skip
    assert answer.returncode == 0, answer.stdout[-2000:]
    assert "Missing character" not in answer.stdout


def test_the_command_takes_each_of_the_formats():
    """It does not read them from the module, which takes long to import."""
    (each,) = [command for command in COMMANDS if command.name == "export"]
    (choices,) = [a.options["choices"] for a in each.arguments if "--format" in a.names]
    assert tuple(choices) == export.FORMATS
