"""Streams have names; a digest follows the code that is reached, and nothing else."""

import ast
import importlib
import re
import shutil
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from project import forget_digests
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
            warnings.warn("dropped", stacklevel=2)
            raise errors.Bad(f"dropped {x}") from y
        raise Undecided("kept")
        raise verdicts.Undecided("kept")
class B:
    size: int = Field(1, gt=0, description="dropped")
    also: Annotated[int, Field(description="dropped" + x, ge=0)]
"""


class WithoutWords(ast.NodeTransformer):
    """The same by visiting every node."""

    def visit_Raise(self, node):
        if isinstance(node.exc, ast.Call):
            error = node.exc.func
            name = error.attr if isinstance(error, ast.Attribute) else getattr(error, "id", "")
            node.exc = node.exc if name == "Undecided" else error
        return node

    def visit_Call(self, node):
        self.generic_visit(node)
        if getattr(node.func, "attr", "") == "warn":
            node.args = []
        if getattr(node.func, "id", "") == "Field":
            node.keywords = [word for word in node.keywords if word.arg != "description"]
        return node

    def visit_Expr(self, node):
        is_string = isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
        return None if is_string else self.generic_visit(node)


def test_what_errors_warnings_and_descriptions_say_is_no_part_of_a_syntax_tree():
    left = ast.unparse(provenance._syntax_tree(BLOCKS))
    assert "dropped" not in left and left.count("kept") == 5
    assert "raise errors.Bad from y" in left and "raise Undecided('kept')" in left
    assert "warnings.warn(stacklevel=2)" in left and "Field(1, gt=0)" in left
    assert "Annotated[int, Field(ge=0)]" in left


@pytest.fixture
def package(tmp_path, monkeypatch):
    folder = tmp_path / "pkg"
    folder.mkdir()
    for name, text in FILES.items():
        (folder / name).write_text(text)
    monkeypatch.setattr(provenance, "LIBRARY", folder)
    monkeypatch.setattr(provenance, "PACKAGE", "pkg")

    def digest(entry, **changes):
        """With (old, new) in the text of a module, or with another text of it."""
        for name, change in changes.items():
            text = FILES.get(f"{name}.py", "")
            assert isinstance(change, str) or change[0] in text
            new = change if isinstance(change, str) else text.replace(*change)
            (folder / f"{name}.py").write_text(new)
        forget_digests()
        result = provenance.code_digest(entry)
        for path in folder.glob("*.py"):
            path.unlink()
        for name, text in FILES.items():
            (folder / name).write_text(text)
        return result

    yield digest
    forget_digests()


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


@pytest.mark.slow
def test_statements_are_found_without_looking_at_expressions():
    for text in [BLOCKS, *(path.read_text() for path in provenance.LIBRARY.rglob("*.py"))]:
        tree = provenance._syntax_tree(text)
        assert ast.dump(tree) == ast.dump(WithoutWords().visit(ast.parse(text)))
        found = set(provenance._statements(tree))
        assert {node for node in ast.walk(tree) if isinstance(node, ast.stmt)} <= found


def test_modules_of_sentences_on_errors_do_not_count(package):
    uses = "def entry():\n    return say(), last_words.say(), table()\n"
    top = (
        "from pkg.middle import table\nfrom pkg.refusals import say\nfrom pkg import last_words\n"
        + uses
    )
    said = "def say():\n    return 'no'\n"
    before = package("pkg.top:entry", top=top, refusals=said, last_words=said)
    other = said.replace("no", "never")
    assert package("pkg.top:entry", top=top, refusals=other, last_words=other) == before
    assert (
        package(
            "pkg.top:entry", top=top, refusals=said, last_words=said, low=("RATE = 3", "RATE = 4")
        )
        != before
    )


MOVED = FILES["low.py"].replace(
    """
RATE = 3
def used(x):
    \"\"\"Doc.\"\"\"
    return np.sqrt(x) * RATE""",
    "",
)


@pytest.mark.parametrize("entry", ["pkg.top:entry", "pkg.top:through_alias"])
def test_a_definition_may_move_to_another_module(package, entry):
    assert "used(x)" in MOVED and "RATE" not in MOVED
    higher = "import numpy as np\nRATE = 3\ndef used(x):\n    return np.sqrt(x) * RATE\n"
    middle = FILES["middle.py"]
    moved = middle.replace("from pkg import low\n", "from pkg import high\n")
    moved = moved.replace("low.used", "high.used")
    by_name = middle.replace("from pkg import low\n", "from pkg.high import used\n")
    before = package(entry)
    assert package(entry, low=MOVED, high=higher, middle=moved) == before
    # To import the name instead of the module is another text.
    by_name = by_name.replace("low.used", "used")
    named = package(entry, middle=middle.replace("pkg import low", "pkg.low import used")
                    .replace("low.used", "used"))  # fmt: skip
    assert package(entry, low=MOVED, high=higher, middle=by_name) == named
    assert package(entry, low=MOVED, high=higher.replace("3", "4"), middle=moved) != before


def test_two_definitions_of_one_name_are_told_apart(package):
    """Which of them is called where counts, though all names and texts stay the same."""
    one = "SCALE = 1\ndef f(x):\n    return x * SCALE\n"
    two = "SCALE = 2\ndef f(x):\n    return x * SCALE\n"
    top = "from pkg.one import f\nimport pkg.two as t\ndef entry():\n    return f(1) - t.f(2)\n"
    before = package("pkg.top:entry", one=one, two=two, top=top)
    assert package("pkg.top:entry", one=two, two=one, top=top) != before
    assert package("pkg.top:entry", one=one, two=two, top=top) == before


@given(st.data())
def test_a_change_reaches_exactly_those_that_refer_to_it(data):
    """On random graphs with circles: what can reach the changed definition has another digest."""
    size = data.draw(st.integers(1, 9))
    links = {i: data.draw(st.sets(st.integers(0, size - 1), max_size=3)) for i in range(size)}
    changed = data.draw(st.integers(0, size - 1))
    same_text = data.draw(st.booleans())

    def digests(texts):
        with pytest.MonkeyPatch.context() as patch:
            found = {}
            patch.setattr(provenance, "_known", lambda: found)
            patch.setattr(provenance, "_source", lambda _, i: texts[i])
            patch.setattr(provenance, "references", lambda _, i: tuple(
                (f"to {to}", ("m", to)) for to in sorted(links[i])))  # fmt: skip
            return [provenance._digest(("m", i)) for i in range(size)]

    texts = {i: "same" if same_text else f"text {i}" for i in range(size)}
    before, after = digests(texts), digests(texts | {changed: "new"})
    reaching = {changed}
    while more := {i for i in links if links[i] & reaching} - reaching:
        reaching |= more
    assert {i for i in range(size) if before[i] != after[i]} == reaching


def test_a_definition_of_the_project_may_move(root, tmp_path, monkeypatch):
    """The metrics of collapse and what they call, from one real module to a new one."""
    library = tmp_path / "replica"
    shutil.copytree(root / "workflow/replica", library)
    monkeypatch.setattr(provenance, "LIBRARY", library)
    entries = ["replica.measures.dufm:measure_dufm", "replica.studies.dufm:table_rec_depth"]

    def all_digests():
        forget_digests()
        return [provenance.code_digest(entry) for entry in entries]

    before = all_digests()
    (library / "measures/collapse.py").rename(library / "theory/moved.py")
    for path in library.rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        new = re.sub(
            r"from replica.measures import collapse(, spectra)?",
            r"from replica.measures import spectra\nfrom replica.theory import moved", text,
        )  # fmt: skip
        if new != text:
            new = new.replace("collapse.", "moved.")
        path.write_text(new, encoding="utf-8")
    assert all_digests() == before
    (library / "theory/moved.py").open("a", encoding="utf-8").write("\nUNUSED = 1\n")
    assert all_digests() == before
    forget_digests()


def test_digests_are_kept_for_as_long_as_no_file_changes(tmp_path, monkeypatch):
    monkeypatch.setattr(provenance, "LIBRARY", tmp_path / "workflow/replica")
    script = tmp_path / "workflow/scripts/train.py"
    for folder in (provenance.LIBRARY, script.parent, tmp_path / ".snakemake"):
        folder.mkdir(parents=True)
    module = provenance.LIBRARY / "area.py"
    module.write_text("def square(x):\n    return x * x\n")
    script.write_text("square(2)\n")

    def digest():
        """As a new process finds it."""
        forget_digests()
        return provenance.code_digest("replica.area:square", script)

    found = digest()
    provenance.keep_digests()
    kept = tmp_path / ".snakemake/replica.digests.json"
    assert found in kept.read_text()
    kept.write_text(kept.read_text().replace(found, "as it was kept"))
    assert digest() == "as it was kept"
    # To move the folder changes no file.
    shutil.copytree(tmp_path, tmp_path.with_name("moved"))
    monkeypatch.setattr(provenance, "LIBRARY", tmp_path.with_name("moved") / "workflow/replica")
    assert digest() == "as it was kept"
    monkeypatch.setattr(provenance, "LIBRARY", tmp_path / "workflow/replica")
    script.write_text("square(2)  # two\n")
    assert digest() == found
    # Edited after it was read, and before what was found is kept
    module.write_text("def square(x):\n    return x**2\n")
    provenance.keep_digests()
    new = digest()
    assert new != found
    provenance.keep_digests()
    assert digest() == new
    kept.write_text(kept.read_text()[:-9])
    assert digest() == new
    forget_digests()


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
    probe = "replica.plan.make"
    code = f"import sys, {probe}; print(*(m for m in sys.modules if m.startswith('replica')))"
    import subprocess

    answer = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    # Packages themselves hold no code.
    packages = {"replica", "replica.data", "replica.plan", "replica.settings"}
    # Only the end of a job reads these, and a plan ends none.
    packages |= {"replica.last_words", "replica.refusals"}
    provenance._known.cache_clear()
    provenance._walked(probe, None)
    reached = {module for module, _ in provenance._known()}
    assert set(answer.stdout.split()) <= reached | packages


@pytest.mark.slow
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


def test_where_the_names_of_a_script_come_from_does_not_count(tmp_path):
    def digest(text):
        script = tmp_path / f"{len(list(tmp_path.iterdir()))}.py"
        script.write_text(text)
        return provenance.code_digest("replica.theory.dnc:threshold", script)

    function = digest("from replica.plan import cost_of\n\ncost_of(1)\n")
    assert digest("from replica.costs import cost_of\ncost_of(1)\n") == function
    assert digest("from replica.plan import cost_of\ncost_of(2)\n") != function
    module = digest("import os\nfrom replica import plan, costs\nplan.cost_of(costs.x, os.x)\n")
    assert digest("import os\nfrom replica import costs\ncosts.cost_of(costs.x, os.x)\n") == module
    assert (
        digest("import sys\nfrom replica import costs\ncosts.cost_of(costs.x, sys.x)\n") != module
    )
    assert digest("import os\nfrom replica import plan\nplan.other(plan.x, os.x)\n") != module
