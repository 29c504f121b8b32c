"""Where a number came from: random streams by name, digests of the code, the environment."""

import ast
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
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

LIBRARY = Path(__file__).parent
PACKAGE = LIBRARY.name


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


def _syntax_tree(text: str) -> ast.Module:
    """Without docstrings and other bare strings; comments never reach the syntax tree."""
    tree = ast.parse(text)
    for node in [tree, *_statements(tree)]:
        for block in _blocks(node):
            block[:] = [part for part in block if not _is_bare_string(part)]
    return tree


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
    Comments, docstrings, white space and definitions that are never reached do not count.

    Args:
        entry: `package.module` (all of it) or `package.module:name`.
        script: a file whose whole syntax tree is added.

    Returns:
        16 hex digits.

    Raises:
        ValueError: the entry does not exist.
    """
    module, _, name = entry.partition(":")
    if not is_module(module):
        raise ValueError(f"{entry}: there is no module {module}.")
    if name and name not in parse(module).definitions:
        raise ValueError(f"{entry}: module {module} does not define {name}.")
    digest = hashlib.sha256()
    for node in sorted(_reached((module, name or None))):
        digest.update(json.dumps([*node, _source(*node)]).encode())
    if script is not None:
        digest.update(_script_text(script).encode())
    return digest.hexdigest()[:16]


def _reached(entry: tuple[str, str | None]) -> set[tuple[str, str]]:
    reached: set[tuple[str, str]] = set()
    todo = [entry]
    while todo:
        module, name = todo.pop()
        if name is None:
            # The whole module; "" stands for its top-level statements that define nothing.
            todo += [(module, each) for each in ["", *parse(module).definitions]]
        elif (module, name) not in reached:
            reached.add((module, name))
            todo += [(module, ""), *references(module, name)]
    return reached


@functools.cache
def references(module: str, name: str) -> frozenset[tuple[str, str | None]]:
    """The (module, name) pairs of this package that one definition mentions."""
    scope = parse(module)
    found: set[tuple[str, str | None]] = set()
    for used, attribute in _names(module, name):
        target = _resolve(scope, used)
        if attribute is not None and target is not None and target[1] is None:
            found.add(_member(target[0], attribute))
        elif used in scope.definitions:
            found.add((module, used))
        elif target is not None:
            found.add(target)
    return frozenset(found)


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
    """What an imported name stands for inside this package; None if it is another package's."""
    if name not in scope.imports:
        return None
    module, symbol = scope.imports[name]
    if not is_module(module):
        return None
    return (module, None) if symbol is None else _member(module, symbol)


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
    tree = _syntax_tree(_file(module).read_text(encoding="utf-8"))
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
    """Text of a definition, with what the external names in it stand for."""
    scope = parse(module)
    statements = scope.effects if name == "" else scope.definitions[name]
    used = {each for each, _ in _names(module, name)}
    imports = sorted(f"{n}={scope.imports[n]}" for n in used if n in scope.imports)
    return _text(statements) + "\n" + "\n".join(imports)


@functools.cache
def _script_text(script: Path | str) -> str:
    return _text(_syntax_tree(Path(script).read_text(encoding="utf-8")).body)


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
    packages = ["torch", "numpy", "scipy", "pandas", "pyarrow", "scikit-learn", "snakemake"]
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
    """Stop a job that cannot fit before it starts.

    Args:
        mem_mb: what the job is estimated to need, in MB.
        name: of the job, for the message.

    Raises:
        NotEnoughMemory: the machine has less.
    """
    has = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 10**6
    if mem_mb > has:
        raise NotEnoughMemory(
            f"{name} needs about {mem_mb} MB of memory and this machine has {has} MB: make the "
            "run smaller (width, seeds, samples), or run it on a larger machine."
        )


@dataclass
class Stamp:
    """What an artifact says of its making; `finish` adds what is known only at the end."""

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
    all that was spent.

    Raises:
        SystemExit: with status 1, in place of the exception.
    """
    if log is None:
        yield
        return
    Path(log).parent.mkdir(parents=True, exist_ok=True)
    terminal = os.dup(2)
    with open(log, "w", encoding="utf-8", buffering=1) as handle:
        os.dup2(handle.fileno(), 2)
        print(f"{START_UP}: {time.process_time():.3f} CPU seconds", file=sys.stderr)
        try:
            yield
        except Exception as error:
            traceback.print_exc()
            os.write(
                terminal, f"{type(error).__name__}: {error} (log: {log})\n".encode(errors="replace")
            )
            raise SystemExit(1) from None
        finally:
            print(f"{IN_ALL}: {time.process_time():.3f} CPU seconds", file=sys.stderr)
            sys.stderr.flush()
            os.dup2(terminal, 2)
            os.close(terminal)
