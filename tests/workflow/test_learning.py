"""The tutorial and the notebook do what they say."""

import os
import re
import shutil
import subprocess

import nbformat
from nbclient import NotebookClient

from project import ROOT, with_environment

# A fenced block: its language, what it is put into, its text.
BLOCK = re.compile(r'^```(\w+)(?: title="([^"]+)")?\n(.*?)^```$', re.MULTILINE | re.DOTALL)


def put(project, place, text):
    """Make the edit that a block describes: "FILE", "FILE, at the end", "FILE, below LINE"."""
    name, _, where = place.partition(", ")
    path = project / name
    before = path.read_text(encoding="utf-8") if where else ""
    if where == "at the end":
        text = f"{before}\n\n{text}"
    elif where:
        line = where.removeprefix("below ") + "\n"
        assert before.count(f"\n{line}") == 1, place
        text = before.replace(f"\n{line}", f"\n{line}{text}")
    path.write_text(text, encoding="utf-8")


def as_pattern(shown):
    """A regular expression of what is shown; a line `...` stands for any lines."""
    parts = [r"(?:.*\n)*?" if line == "..." else re.escape(line) + r"[ ]*\n" for line in shown]
    return "".join(parts)


def test_the_tutorial_is_true(finished, tmp_path):
    project = with_environment(shutil.copytree(finished, tmp_path / "project", symlinks=True))
    environment = os.environ | {"PYTHONPATH": str(project / "workflow")}
    said = ""
    for language, place, text in BLOCK.findall((ROOT / "docs/tutorial.md").read_text("utf-8")):
        if place:
            put(project, place, text)
        elif language == "sh":
            answer = subprocess.run(
                ["bash", "-ec", text], cwd=project, env=environment, text=True,
                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=600,
            )  # fmt: skip
            said = answer.stdout
            assert answer.returncode == 0, text + said[-3000:]
        else:
            assert language == "text"
            assert re.search(as_pattern(text.splitlines()), said), f"{text}\nis not in\n{said}"


def test_the_notebook_runs():
    path = ROOT / "docs/read_a_figure.ipynb"
    notebook = nbformat.read(path, as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert len(code) == 5 and not any(cell.outputs for cell in code), "outputs are not committed"
    done = NotebookClient(notebook, timeout=120, resources={"metadata": {"path": path.parent}})
    done.execute()
    drawn = [
        output for cell in code for output in cell.outputs if "image/png" in output.get("data", {})
    ]
    assert len(drawn) == 3
