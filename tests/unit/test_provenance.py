"""Streams have names; a digest follows the code that is reached, and nothing else."""

import ast
import importlib
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from replica import provenance

FILES = {
    "__init__.py": "",
    "low.py": '''
"""Low."""
import numpy as np
RATE = 3
def used(x):
    """Doc."""
    return np.sqrt(x) * RATE
def unused(x):
    return x
''',
    "middle.py": """
from pkg import low
from .low import unused as other
def table():
    return low.used(1)
def draw():
    return other(2)
class Box:
    def size(self):
        return low.used(4)
""",
    "top.py": """
from pkg.middle import table
import pkg.middle as m
def entry():
    return table()
def through_alias():
    return m.Box().size()
def whole():
    return m
""",
}
CACHED = (provenance.parse, provenance.references, provenance.is_module, provenance.code_digest,
          provenance._source, provenance._names)  # fmt: skip
BLOCKS = """
class A:
    "of a class"
    async def f(self):
        "of a method"
        try:
            "in try"; x = lambda: "kept"
        except ValueError:
            "in a handler"
        else:
            "in else"; import a
        finally:
            "in finally"; y = "kept"
        match x:
            case {"kept": _}:
                "in a case"; from b import c
        async with x, y:
            "in with"
        while x:
            "in while"
        for x in y:
            "in for"
        if x:
            "in if"
        elif y:
            "in elif"; import d
"""


class WithoutStrings(ast.NodeTransformer):
    """The same by visiting every node."""

    def visit_Expr(self, node):
        is_string = isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
        return None if is_string else self.generic_visit(node)


@pytest.fixture
def package(tmp_path, monkeypatch):
    folder = tmp_path / "pkg"
    folder.mkdir()
    for name, text in FILES.items():
        (folder / name).write_text(text)
    monkeypatch.setattr(provenance, "LIBRARY", folder)
    monkeypatch.setattr(provenance, "PACKAGE", "pkg")

    def digest(entry, **changes):
        for name, (old, new) in changes.items():
            text = FILES[f"{name}.py"]
            assert old in text
            (folder / f"{name}.py").write_text(text.replace(old, new))
        for cached in CACHED:
            cached.cache_clear()
        result = provenance.code_digest(entry)
        for name, text in FILES.items():
            (folder / name).write_text(text)
        return result

    yield digest
    for cached in CACHED:
        cached.cache_clear()


@pytest.mark.parametrize("entry", ["pkg.top:entry", "pkg.top:through_alias", "pkg.top:whole"])
def test_code_that_is_reached_counts(package, entry):
    before = package(entry)
    assert package(entry) == before
    assert package(entry, low=("RATE = 3", "RATE = 4")) != before
    assert package(entry, low=("np.sqrt", "np.exp")) != before
    assert package(entry, low=("import numpy as np", "import cupy as np")) != before
    assert package(entry, middle=("low.used(", "low.unused(")) != before


def test_code_that_is_not_reached_does_not_count(package):
    before = package("pkg.top:entry")
    assert package("pkg.top:entry", low=("return x\n", "return x + 1\n")) == before
    assert package("pkg.top:entry", middle=("other(2)", "other(3)")) == before
    assert package("pkg.top:entry", top=("m.Box()", "m.Box")) == before


def test_comments_docstrings_and_white_space_do_not_count(package):
    before = package("pkg.top:entry")
    assert package("pkg.top:entry", low=('"""Doc."""', '"""Another."""  # and a comment')) == before
    assert package("pkg.top:entry", low=('"""Low."""', "# Low\n\n\n")) == before
    assert package("pkg.top:entry", low=("np.sqrt(x) * RATE", "( np.sqrt( x )*RATE )")) == before


def test_statements_are_found_without_looking_at_expressions():
    for text in [BLOCKS, *(path.read_text() for path in provenance.LIBRARY.rglob("*.py"))]:
        tree = provenance._syntax_tree(text)
        assert ast.dump(tree) == ast.dump(WithoutStrings().visit(ast.parse(text)))
        found = set(provenance._statements(tree))
        assert {node for node in ast.walk(tree) if isinstance(node, ast.stmt)} <= found


def test_a_module_passed_as_a_value_counts_whole(package):
    before = package("pkg.top:whole")
    assert package("pkg.top:whole", low=("return x\n", "return x + 1\n")) != before


def test_unknown_entries_are_errors(package):
    with pytest.raises(ValueError, match="no module"):
        package("pkg.nowhere:f")
    with pytest.raises(ValueError, match="does not define"):
        package("pkg.top:nothing")


def test_every_import_inside_the_library_is_followed(root):
    """What the digest of a whole module reaches is what Python loads for it."""
    probe = "replica.plan"
    code = f"import sys, {probe}; print(*(m for m in sys.modules if m.startswith('replica')))"
    import subprocess

    answer = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    # Packages themselves hold no code.
    packages = {"replica", "replica.data", "replica.generalization"}
    # Only the end of a job reads these, and a plan ends none.
    packages |= {"replica.last_words", "replica.refusals"}
    reached = {module for module, _ in provenance._reached((probe, None))}
    assert set(answer.stdout.split()) <= reached | packages


@given(st.text(), st.text(), st.integers(0, 10**6), st.text())
def test_streams_are_told_apart_by_name(study, run, seed, purpose):
    one = provenance.stream_seed(study, run, seed, purpose)
    assert 0 <= one < 2**63
    assert one == provenance.stream_seed(study, run, seed, purpose)
    assert one != provenance.stream_seed(study, run, seed + 1, purpose)
    assert one != provenance.stream_seed(study, run + "x", seed, purpose)


def test_streams_never_change():
    """Published results hang on these numbers."""
    assert provenance.stream_seed("low_rank", "fig2_top", 0, "init") == 1758552272251818677


def test_environment_is_recorded():
    importlib.invalidate_caches()
    stamp = provenance.begin(spec={"a": 1}, key="k", code="c", seeds=[0], device="cpu").finish()
    assert stamp["versions"]["torch"][0].isdigit() and stamp["peak_memory_mib"] > 1
    assert {"spec", "key", "code", "seeds", "commit", "device", "wall_seconds"} <= set(stamp)
