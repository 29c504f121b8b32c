"""Where a number came from: random streams by name, digests of the code, the environment."""

import ast
import copy
import functools
import hashlib
import importlib
import importlib.metadata
import json
import os
import platform
import resource
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from replica import last_words, refusals

LIBRARY = Path(__file__).parent
PACKAGE = LIBRARY.name
# A definition: the name of its module and its own; "" is what a module does besides defining.
Node = tuple[str, str]


def stream_seed(*names: str | int) -> int:
    """The seed of one named random stream, in [0, 2**63): study, run, seed, purpose.

    It depends on the names alone, never on a counter: adding a run or a seed changes no other.
    """
    name = json.dumps(names)
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") >> 1


def key_of(**parts: object) -> str:
    """A short digest (16 hex digits) of JSON-able, named parts."""
    text = json.dumps(parts, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


# --------------------------------------------------------------------------------------
# The digest of the code that a job really uses


@dataclass
class _Module:
    """The top level of one module: its definitions by name, its imports, everything else."""

    definitions: dict[str, list[ast.stmt]] = field(default_factory=dict)
    imports: dict[str, tuple[str, str | None]] = field(default_factory=dict)
    effects: list[ast.stmt] = field(default_factory=list)


# The exception whose words are a result: the reason of a verdict.
ITS_WORDS_COUNT = "Undecided"
# Modules that make sentences on errors: what they say changes no result.
ONLY_WORDS = ("refusals", "last_words")


def _syntax_tree(text: str, path: Path | str = "<unknown>") -> ast.Module:
    """Without words: docstrings, other bare strings, what errors and warnings say, descriptions.

    Comments never reach the syntax tree. An error in the syntax names `path`.
    """
    tree = ast.parse(text, filename=str(path))
    for node in [tree, *_statements(tree)]:
        for block in _blocks(node):
            block[:] = [part for part in block if not _is_bare_string(part)]
        _drop_words(node)
    return tree


def _drop_words(node: ast.AST) -> None:
    """Of one statement: the arguments of an error and of a warning, the description of a field."""
    match node:
        case ast.Raise(exc=ast.Call(func=error)):
            if ast.unparse(error).rpartition(".")[2] != ITS_WORDS_COUNT:
                node.exc = error
        case ast.Expr(value=ast.Call(func=ast.Attribute(attr="warn")) as warning):
            warning.args = []
        case ast.AnnAssign():
            for part in ast.walk(node):
                if isinstance(part, ast.Call) and ast.unparse(part.func) == "Field":
                    part.keywords = [word for word in part.keywords if word.arg != "description"]


def _is_bare_string(node: ast.AST) -> bool:
    value = node.value if isinstance(node, ast.Expr) else None
    return isinstance(value, ast.Constant) and isinstance(value.value, str)


def _blocks(node: ast.AST) -> list[list[ast.AST]]:
    """The lists of statements, handlers of exceptions and cases directly below a node."""
    fields = ("body", "orelse", "finalbody", "handlers", "cases")
    return [block for name in fields if isinstance(block := getattr(node, name, None), list)]


def _statements(node: ast.AST) -> Iterator[ast.AST]:
    """All of them below a node; expressions, most of a tree, are not looked into."""
    for block in _blocks(node):
        for part in block:
            yield part
            yield from _statements(part)


@functools.cache
def code_digest(entry: str, script: Path | str | None = None) -> str:
    """Digest of everything that `entry` reaches inside this package, and of a script file.

    The walk is over the syntax tree, definition by definition: starting from `entry`, it
    follows each name to the function, class or constant of this package that it stands for.
    Comments, docstrings, white space, what errors and warnings say, and definitions that are never
    reached do not count; nor does the module that a definition stands in, so that it may move to
    another.

    Args:
        entry: `package.module` (all of it) or `package.module:name`.
        script: a file whose whole syntax tree is added.

    Returns:
        16 hex digits.

    Raises:
        ValueError: the entry does not exist.
    """
    names = f"{entry} {Path(script).name if script else ''}"
    found = _found(LIBRARY)
    if names not in found:
        found[names] = _walked(entry, script)
    return found[names]


@functools.cache
def _found(library: Path) -> dict[str, str]:
    """The digests that are known, by what they are of; at first those that `keep_digests` kept."""
    try:
        kept = json.loads(_kept_in(library).read_text(encoding="utf-8"))
        return kept["digests"] if kept["sources"] == _sources(library) else {}
    except (OSError, ValueError):
        return {}


def keep_digests() -> None:
    """Keep the digests that were found for later processes: to find them takes three seconds."""
    kept = {"sources": _sources(LIBRARY), "digests": _found(LIBRARY)}
    _kept_in(LIBRARY).write_text(json.dumps(kept), encoding="utf-8")


def _kept_in(library: Path) -> Path:
    return library.parent.parent / ".snakemake/replica.digests.json"


def _sources(library: Path) -> str:
    """A digest of all files that digests of code are made of, and of the Python that read them."""
    folder = library.parent
    files = {
        str(path.relative_to(folder)): hashlib.sha256(_content(path).encode()).hexdigest()
        for path in folder.rglob("*.py")
    }
    return key_of(python=sys.version_info[:2], files=files)


def changed_source() -> str | None:
    """A sentence on a source file that is no longer as this process read it, or None.

    Keys that were found before are not those of what such a file makes.
    """
    folder = LIBRARY.parent
    for path in sorted(folder.rglob("*.py")):
        # An editor's lock is a link to nowhere.
        if path.exists() and path.read_text(encoding="utf-8") != _content(path):
            return (
                f"{path.relative_to(folder.parent)} has changed since this run began: "
                "give the same command again, which makes what the change reaches."
            )
    return None


@functools.cache
def _content(path: Path) -> str:
    """The content of a file when this process first read it.

    So what is kept belongs to the text that it was made of, also where a file is edited meanwhile.
    """
    return path.read_text(encoding="utf-8")


def _walked(entry: str, script: Path | str | None) -> str:
    """The digest of an entry, by the walk over what it reaches."""
    module, _, name = entry.partition(":")
    if not is_module(module):
        raise ValueError(f"{entry}: there is no module {module}.")
    if name and name not in parse(module).definitions:
        raise ValueError(f"{entry}: module {module} does not define {name}.")
    digest = hashlib.sha256()
    for _, node in [("", (module, name))] if name else _whole(module):
        digest.update(_digest(node).encode())
    if script is not None:
        digest.update(_script_text(script).encode())
    return digest.hexdigest()[:16]


def _digest(root: Node) -> str:
    """The digest of a definition: of its text, and of the digests of all that it refers to.

    Definitions that refer to each other in a circle are told apart in rounds: in each, the digest
    of one takes in those of the round before. After as many rounds as there are of them, what is
    different in one is different in all.
    """
    known = _known()
    for circle in _circles(root):
        own = {node: _source(*node) for node in circle}
        for _ in circle:
            below = known | own
            own = {
                node: key_of(own=text, below=[[n, below[to]] for n, to in references(*node)])
                for node, text in own.items()
            }
        known |= own
    return known[root]


@functools.cache
def _known() -> dict[Node, str]:
    """The digests that `_digest` has found so far in this process."""
    return {}


def _circles(root: Node) -> Iterator[list[Node]]:
    """What `root` refers to, directly or not, and has no digest yet; what is below comes first.

    Definitions that refer to each other in a circle are one list, each other is a list of its own:
    the strongly connected components, by the algorithm of Tarjan (1972) with an explicit stack.
    """
    order: dict[Node, int] = {}
    low: dict[Node, int] = {}
    path: list[Node] = []
    todo: list[tuple[Node, Iterator[Node]]] = []

    def enter(node: Node) -> None:
        if node not in order and node not in _known():
            order[node] = low[node] = len(order)
            path.append(node)
            todo.append((node, iter([to for _, to in references(*node)])))

    enter(root)
    while todo:
        node, rest = todo[-1]
        if (to := next(rest, None)) is not None:
            if to in low:
                low[node] = min(low[node], order[to])
            enter(to)
            continue
        todo.pop()
        if todo:
            above = todo[-1][0]
            low[above] = min(low[above], low[node])
        if low[node] == order[node]:
            circle = path[path.index(node) :]
            del path[-len(circle) :]
            for member in circle:
                del low[member]
            yield circle


@functools.cache
def references(module: str, name: str) -> tuple[tuple[str, Node], ...]:
    """What one definition refers to in this package: the name that it uses, and what that is.

    Also the statements of its module that define nothing, which are named "".
    """
    scope = parse(module)
    found: set[tuple[str, Node]] = {("", (module, ""))} if name else set()
    for used, attribute in _names(module, name):
        target = _resolve(scope, used)
        if attribute is not None and target is not None and target[1] is None:
            used, target = attribute, _member(target[0], attribute)
        elif used in scope.definitions:
            target = (module, used)
        if target is not None:
            module_of, definition = target
            found |= {(used, (module_of, definition))} if definition else set(_whole(module_of))
    return tuple(sorted(found))


def _whole(module: str) -> list[tuple[str, Node]]:
    """All of a module, as references."""
    return [(name, (module, name)) for name in ["", *sorted(parse(module).definitions)]]


@functools.cache
def _names(module: str, name: str) -> frozenset[tuple[str, str | None]]:
    """The names in a definition, each with the attribute that is taken of it there, or None."""
    scope = parse(module)
    found: set[tuple[str, str | None]] = set()
    todo: list[ast.AST] = list(scope.effects if name == "" else scope.definitions[name])
    while todo:
        node = todo.pop()
        if isinstance(node, ast.Name):
            found.add((node.id, None))
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            found.add((node.value.id, node.attr))
        else:
            todo.extend(ast.iter_child_nodes(node))
    return frozenset(found)


def _resolve(scope: _Module, name: str) -> tuple[str, str | None] | None:
    """What an imported name stands for inside this package; None if it is another package's.

    None also for what `ONLY_WORDS` names.
    """
    if name not in scope.imports:
        return None
    module, symbol = scope.imports[name]
    if not is_module(module):
        return None
    target = (module, None) if symbol is None else _member(module, symbol)
    return None if target[0].partition(".")[2] in ONLY_WORDS else target


def _member(module: str, name: str) -> tuple[str, str | None]:
    if is_module(f"{module}.{name}"):
        return (f"{module}.{name}", None)
    scope = parse(module)
    if name in scope.definitions:
        return (module, name)
    if (target := _resolve(scope, name)) is not None:
        return target
    return (module, None)


@functools.cache
def parse(module: str) -> _Module:
    """The top level of a module of this package."""
    result = _Module()
    tree = _syntax_tree(_content(_file(module)), _file(module))
    for statement in _statements(tree):
        if isinstance(statement, ast.Import):
            for alias in statement.names:
                # `import a.b` binds `a`, `import a.b as c` binds a.b.
                bound = alias.name if alias.asname else alias.name.partition(".")[0]
                result.imports[alias.asname or bound] = (bound, None)
        elif isinstance(statement, ast.ImportFrom):
            source = statement.module or ""
            if statement.level:
                parents = module.split(".")
                if _file(module).name != "__init__.py":
                    parents = parents[:-1]
                parents = parents[: len(parents) - statement.level + 1]
                source = ".".join([*parents, *([source] if source else [])])
            for alias in statement.names:
                result.imports[alias.asname or alias.name] = (source, alias.name)
    for statement in tree.body:
        if isinstance(statement, ast.Import | ast.ImportFrom):
            continue
        if isinstance(statement, ast.If) and ast.unparse(statement.test) == "TYPE_CHECKING":
            # Imports that never happen.
            continue
        names = _defined(statement)
        for name in names:
            result.definitions.setdefault(name, []).append(statement)
        if not names:
            result.effects.append(statement)
    return result


def _defined(statement: ast.stmt) -> list[str]:
    if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return [statement.name]
    targets = []
    if isinstance(statement, ast.Assign):
        targets = statement.targets
    elif isinstance(statement, ast.AnnAssign):
        targets = [statement.target]
    return [
        node.id for target in targets for node in ast.walk(target) if isinstance(node, ast.Name)
    ]


@functools.cache
def _source(module: str, name: str) -> str:
    """Text of a definition, with what the names of other packages in it stand for.

    What it takes of a module of this package, as in `module.name`, is there without the module.
    """
    scope = parse(module)
    statements = scope.effects if name == "" else scope.definitions[name]
    used = {each for each, _ in _names(module, name)} & set(scope.imports)
    ours = {each for each in used if _resolve(scope, each) is not None}
    if any(each in ours for each, attribute in _names(module, name) if attribute is not None):
        statements = [_WithoutModules(ours).visit(copy.deepcopy(part)) for part in statements]
    imports = sorted(f"{each}={scope.imports[each]}" for each in used - ours)
    return _text(statements) + "\n" + "\n".join(imports)


class _WithoutModules(ast.NodeTransformer):
    def __init__(self, names: set[str]) -> None:
        self.names = names

    def visit_Attribute(self, node: ast.Attribute) -> ast.AST:
        if isinstance(node.value, ast.Name) and node.value.id in self.names:
            return ast.Attribute(ast.Name("_"), node.attr)
        return self.generic_visit(node)


@functools.cache
def _script_text(script: Path | str) -> str:
    """Text of a script, without where in this package its names come from."""
    statements, ours = [], set()
    for statement in _syntax_tree(_content(Path(script)), script).body:
        if isinstance(statement, ast.ImportFrom) and is_module(statement.module or ""):
            modules = {f"{statement.module}.{alias.name}": alias for alias in statement.names}
            ours |= {alias.asname or alias.name for m, alias in modules.items() if is_module(m)}
        else:
            statements.append(statement)
    return _text([_WithoutModules(ours).visit(copy.deepcopy(part)) for part in statements])


def _text(statements: list[ast.stmt]) -> str:
    return "\n".join(ast.unparse(part) for part in statements)


def _file(module: str) -> Path:
    path = LIBRARY.parent.joinpath(*module.split("."))
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def function(entry: str) -> Callable[..., Any]:
    """The function that `module:name` names."""
    module, _, name = entry.partition(":")
    return getattr(importlib.import_module(module), name)


@functools.cache
def is_module(name: str) -> bool:
    """Whether `name` is a module of this package."""
    return name.partition(".")[0] == PACKAGE and _file(name).is_file()


# --------------------------------------------------------------------------------------
# The stamp of a job


def git_commit(folder: Path = LIBRARY) -> str:
    """The commit of the checkout, with `+` if it has changes; "unknown" outside of git."""
    command = ["git", "-C", str(folder), "describe", "--always", "--dirty=+", "--abbrev=12"]
    try:
        answer = subprocess.run(command, capture_output=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return answer.stdout.decode(errors="replace").strip()


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that the numbers depend on."""
    packages = [
        "torch",
        "torchvision",
        "numpy",
        "scipy",
        "pandas",
        "pyarrow",
        "pillow",
        "snakemake",
    ]
    found = {"python": platform.python_version()}
    for package in packages:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = "absent"
    return found


def peak_memory_mib() -> float:
    """Largest resident memory of this process so far, in MiB."""
    scale = 2**20 if sys.platform == "darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / scale


class NotEnoughMemory(RuntimeError):
    """A job needs more memory than the machine has."""


def require_memory(mem_mb: int, name: str) -> None:
    """Stop a job that does not fit into memory before it starts.

    Args:
        mem_mb: what the job is estimated to need, in MB.
        name: of the job, for the message.

    Raises:
        NotEnoughMemory: the machine has less.
    """
    has = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 10**6
    if mem_mb > has:
        raise NotEnoughMemory(
            f"{name} needs about {mem_mb} MB of memory but this machine has {has} MB: make the "
            "run smaller (width, seeds, samples), or run it on a larger machine."
        )


@dataclass
class Stamp:
    """How an artifact was made; `finish` adds what is known only at the end."""

    content: dict[str, object]
    started: float = field(default_factory=time.monotonic)

    def finish(self, **more: object) -> dict[str, object]:
        """The stamp as a JSON-able dictionary, with wall seconds and peak memory (MiB) so far."""
        return {
            **self.content,
            **more,
            "wall_seconds": round(time.monotonic() - self.started, 3),
            "peak_memory_mib": round(peak_memory_mib(), 1),
        }


def begin(*, spec: object, key: str, code: str, seeds: list[int], device: str) -> Stamp:
    """Start a stamp: spec, key, seeds, code digest, commit, package versions, device."""
    return Stamp(
        {
            "spec": spec,
            "key": key,
            "code": code,
            "seeds": seeds,
            "commit": git_commit(),
            "versions": versions(),
            "device": device,
        }
    )


def begin_job(params: Any, device: str) -> Stamp:
    """Start the stamp of a job with the parameters that its rule states."""
    return begin(
        spec=params.spec, key=params.key, code=params.code, seeds=params.seeds, device=device
    )


START_UP, IN_ALL = "Start-up", "In all"


@contextmanager
def one_sentence(log: Path | str | None) -> Iterator[None]:
    """Send standard error of a job to its log, and end a failure in a sentence on the terminal.

    An exception is written whole to the log; the terminal gets what it says and the log's name.
    The first and last line of the log are the CPU seconds so far: what was spent on imports, and
    all that was spent. The line before the last says why the job failed.

    Raises:
        SystemExit: with status 1, in place of the exception.
    """
    if log is None:
        yield
        return
    try:
        Path(log).parent.mkdir(parents=True, exist_ok=True)
        handle = open(log, "w", encoding="utf-8", buffering=1)  # noqa: SIM115 - the block below closes it
    except OSError as error:
        os.write(2, f"{refusals.sentence(error)} (log: {log})\n".encode())
        last_words.say(refusals.sentence(error))
        raise SystemExit(1) from None
    terminal = os.dup(2)
    with handle:
        os.dup2(handle.fileno(), 2)
        _to_log(f"{START_UP}: {time.process_time():.3f} CPU seconds")
        try:
            yield
        except KeyboardInterrupt:
            raise SystemExit(130) from None
        except Exception as error:
            # On a full disk the log is not written, but the sentence is still printed.
            _to_log(traceback.format_exc())
            sentence = last_words.sentence_of(error)
            if isinstance(error, OSError) and error.errno in refusals.REASONS:
                sentence = refusals.sentence(error)
            last_words.say(sentence)
            os.write(terminal, f"{sentence} (log: {log})\n".encode(errors="replace"))
            raise SystemExit(1) from None
        finally:
            _to_log(f"{IN_ALL}: {time.process_time():.3f} CPU seconds")
            os.dup2(terminal, 2)
            os.close(terminal)


def _to_log(text: str) -> None:
    with suppress(OSError):
        print(text, file=sys.stderr, flush=True)
