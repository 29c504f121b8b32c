"""What a user writes: YAML files, and command-line entries that override them.

Snakemake and the command `replica` both read their settings here, so a value means the same in a
file and on either command line, and the place where it was given can be named.
"""

import functools
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import yaml
from yaml.constructor import ConstructorError
from yaml.reader import Reader

CONFIG_FILE = "config/config.yaml"
COMMAND_LINE = "Command line"
EXAMPLE = "'overrides={low_rank: {fig6: {lr: 0.05}}}'"


class ConfigError(ValueError):
    """The configuration is wrong; the message is one sentence for the user."""


# --------------------------------------------------------------------------------------
# YAML


# The parser in C, where PyYAML was built with it, takes a tenth of the time.
class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """The core schema of YAML 1.2: 1e9 is a number, 010 is ten, and `no` and `on` are words."""

    yaml_implicit_resolvers: ClassVar[dict] = {}
    yaml_constructors: ClassVar[dict] = {}


def _integer(text: str) -> int:
    return int(text, {"0x": 16, "0o": 8}.get(text[:2], 10))


def _float(text: str) -> float:
    # Python's words for these have no dot.
    return float(re.sub(r"\.(?=inf|nan)", "", text.lower()))


_SCALARS: dict[str, tuple[str, str, Callable[[str], Any]]] = {
    "null": (r"~|null|Null|NULL|", "~nN", lambda text: None),
    "bool": (r"true|True|TRUE|false|False|FALSE", "tTfF", lambda text: text.lower() == "true"),
    "int": (r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", "-+0123456789", _integer),
    "float": (
        r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?"
        r"|[-+]?(\.inf|\.Inf|\.INF)|\.nan|\.NaN|\.NAN",
        "-+0123456789.",
        _float,
    ),
    "merge": (r"<<", "<", str),
    "str": (r"(?s:.*)", "", str),
}


def _scalar(name: str) -> Callable[[_Loader, yaml.Node], Any]:
    pattern, _, convert = _SCALARS[name]

    def construct(loader: _Loader, node: yaml.Node) -> Any:
        text = loader.construct_scalar(node)
        try:
            if re.fullmatch(pattern, text):
                return convert(text)
        except ValueError:  # Python reads no number of more than 4300 digits.
            pass
        raise ConstructorError(None, None, f"{text[:40]!r} is not a valid {name}", node.start_mark)

    return construct


def _unknown(loader: _Loader, node: yaml.Node) -> Any:
    raise ConstructorError(None, None, f"the tag {node.tag} is not known", node.start_mark)


for _name, (_pattern, _first, _) in _SCALARS.items():
    _Loader.add_constructor(f"tag:yaml.org,2002:{_name}", _scalar(_name))
    if _first:
        # The empty value is null; the resolvers of a scalar are found by its first character.
        characters = [*_first, *([""] if _name == "null" else [])]
        whole = re.compile(rf"(?:{_pattern})\Z")
        _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_name}", whole, characters)
for _tag, _construct in [
    ("map", _Loader.construct_yaml_map),
    ("seq", _Loader.construct_yaml_seq),
    (None, _unknown),
]:
    _Loader.add_constructor(_tag and f"tag:yaml.org,2002:{_tag}", _construct)


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML file of keys and values.

    Raises:
        ConfigError: it cannot be read, is not UTF-8, is not valid YAML, is empty or no mapping,
            or has a key twice; with the line.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise ConfigError(f"There is no file {path}.") from None
    except OSError as error:
        raise ConfigError(f"{path} cannot be read ({error.strerror}).") from None
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ConfigError(f"{path}, line {line}: not UTF-8; save the file as UTF-8.") from None
    values = parse_yaml(text, str(path))
    if values is None:
        raise ConfigError(f"{path} is empty: expected keys with values.")
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: expected keys with values, got {_kind(values)}.")
    return values


def parse_yaml(text: str, where: str) -> Any:
    """The value that a YAML text holds; None where it is empty.

    Raises:
        ConfigError: one sentence, which `where` opens.
    """
    if strange := Reader.NON_PRINTABLE.search(text):
        line = text.count("\n", 0, strange.start()) + 1
        name = f"U+{ord(strange[0]):04X}"
        raise ConfigError(f"{where}, line {line}: the character {name} is not allowed in YAML.")
    loader = _Loader(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return None
        _refuse_twice(loader, node, where, done=set(), around=set())
        return loader.construct_document(node)
    except yaml.YAMLError as error:
        place = getattr(error, "problem_mark", None)
        at = f", line {place.line + 1}" if place else ""
        problem = getattr(error, "problem", None) or error
        raise ConfigError(f"{where}{at}: not valid YAML ({problem}).") from None
    except RecursionError:
        raise ConfigError(f"{where}: not valid YAML (nested too deeply).") from None
    finally:
        loader.dispose()


def _refuse_twice(
    loader: _Loader, node: yaml.Node, where: str, done: set[int], around: set[int]
) -> None:
    """Refuse a mapping that has a key twice; what `<<` brings in may be given again.

    PyYAML takes the last of them. `around` are the nodes that hold this one, `done` those that were
    looked at: an alias leads to one of them.
    """
    if id(node) in around:
        raise ConstructorError(None, None, "an anchor contains itself", node.start_mark)
    if isinstance(node, yaml.ScalarNode) or id(node) in done:
        return
    done.add(id(node))
    inside = around | {id(node)}
    if isinstance(node, yaml.SequenceNode):
        for item in node.value:
            _refuse_twice(loader, item, where, done, inside)
        return
    lines: dict[str, int] = {}
    for key, value in node.value:
        line = key.start_mark.line + 1
        if not isinstance(key, yaml.ScalarNode):
            raise ConstructorError(None, None, "a key must be a word", key.start_mark)
        name = loader.construct_object(key)
        if not isinstance(name, str):
            problem = f"the key {key.value!r} must be a word: put quotes around it"
            raise ConstructorError(None, None, problem, key.start_mark)
        if name in lines:
            raise ConfigError(
                f"{where}, line {line}: the key {name} is already in line {lines[name]}; "
                "keep one of them."
            )
        lines[name] = line
        _refuse_twice(loader, value, where, done, inside)


def _kind(value: Any) -> str:
    names = {list: "a list", str: "a word", int: "a number", float: "a number", bool: "a bool"}
    return names.get(type(value), repr(value))


# --------------------------------------------------------------------------------------
# Entries of the command line


# What begins an entry; a shell's quotes may stand around the whole of it.
_ENTRY = r"['\"]?[A-Za-z_]\w*="
_QUOTED_ENTRY = re.compile(rf"(?s)(['\"])({_ENTRY}.*?)\1(?=\s+{_ENTRY}|\s*$)")
_NEXT_ENTRY = re.compile(rf"\s+(?={_ENTRY})")
# A quote is one only where a value of YAML begins: not in /home/o'neill.
_QUOTED_VALUE = re.compile(r"""(?s)(?<=[=\[{,:\s])("(?:\\.|[^"\\])*"|'[^']*')""")
_CLOSING = {"{": "}", "[": "]"}


def split_entries(line: str) -> list[str]:
    """The `key=value` entries of a line, as `make CONFIG=...` gives it.

    A new entry begins behind white space, outside of brackets and quotes, with the next `key=`.
    Quotes around a whole entry, which a shell would need, are taken away; those within a value
    are left to YAML.

    Raises:
        ConfigError: a bracket or a quote is not closed.
    """
    entries, rest = [], line.strip()
    while rest:
        if quoted := _QUOTED_ENTRY.match(rest):
            entries.append(quoted[2])
            end = quoted.end()
        else:
            end = _end_of_entry(rest)
            entries.append(rest[:end])
        rest = rest[end:].lstrip()
    return entries


def _end_of_entry(text: str) -> int:
    """Where the entry that a text begins with ends."""
    i = 0
    expected: list[str] = []
    while i < len(text):
        if quoted := _QUOTED_VALUE.match(text, i):
            i = quoted.end()
            continue
        if not expected and _NEXT_ENTRY.match(text, i):
            return i
        if text[i] in _CLOSING:
            expected.append(_CLOSING[text[i]])
        elif expected and text[i] == expected[-1]:
            expected.pop()
        i += 1
    if expected:
        raise ConfigError(f"CONFIG: a {expected[-1]} is missing in {text!r}; {_IN_MAKE}.")
    return len(text)


_IN_MAKE = f'write for example make CONFIG="seeds=3 {EXAMPLE}"'


def parse_entries(entries: Iterable[str]) -> dict[str, Any]:
    """The values of `key=value` entries; each value is YAML, and nothing is null.

    Raises:
        ConfigError: one sentence that says how to write it.
    """
    values: dict[str, Any] = {}
    for entry in entries:
        found = re.fullmatch(r"(?s)([A-Za-z_]\w*)=(.*)", entry)
        if not found:
            raise ConfigError(
                f"{COMMAND_LINE}: {entry!r} is not key=value; put quotes around an entry with "
                f"spaces, for example {EXAMPLE}."
            )
        try:
            value = parse_yaml(found[2], f"{COMMAND_LINE}: {entry}")
        except ConfigError as error:
            sentence = str(error).removesuffix(".")
            raise ConfigError(
                f"{sentence}; put quotes around an entry with spaces, for example {EXAMPLE}."
            ) from None
        values = lay_over(values, {found[1]: value})
    return values


def lay_over(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    """`above` over `below`, mappings key by key, as Snakemake lays `--config` over a file."""
    merged = dict(below)
    for key, value in above.items():
        old = merged.get(key)
        if isinstance(old, dict) and isinstance(value, dict):
            merged[key] = lay_over(old, value)
        elif value != {} or key not in merged:
            merged[key] = value
    return merged


# --------------------------------------------------------------------------------------
# Both together


# Names the place where the value at a path of keys was given.
Source = Callable[..., str]


def in_the_file(*path: Any) -> str:
    """The `Source` of settings that were all given in the user's file."""
    return CONFIG_FILE


class Settings(NamedTuple):
    """The user's settings, those of the command line laid over those of files.

    Attributes:
        layers: (where it was given, its values), the last one on top.
    """

    layers: tuple[tuple[str, dict[str, Any]], ...]

    @property
    def values(self) -> dict[str, Any]:
        """All of them together."""
        return functools.reduce(lay_over, (values for _, values in self.layers), {})

    def source(self, *path: Any) -> str:
        """Where the value at a path of keys was given: the highest layer that has most of it."""
        depths = [_depth(values, path) for _, values in self.layers]
        top = max(range(len(depths)), key=lambda i: (depths[i], i))
        return self.layers[top][0]


def _depth(values: Any, path: Sequence[Any]) -> int:
    """How many keys of a path some values have; what is no mapping has all below it."""
    for depth, key in enumerate(path):
        if not isinstance(values, dict):
            return len(path)
        if key not in values:
            return depth
        values = values[key]
    return len(path)


def read_settings(root: Path, entries: Iterable[str], files: Iterable[Path] = ()) -> Settings:
    """The settings of the project in `root`.

    Args:
        root: the project's folder, with `config/config.yaml`.
        entries: `key=value`, from the command line.
        files: further YAML files, which lie between both.

    Raises:
        ConfigError: one sentence for the user.
    """
    layers = [(CONFIG_FILE, read_yaml(root / CONFIG_FILE))]
    layers += [(str(path), read_yaml(path)) for path in files]
    return Settings((*layers, (COMMAND_LINE, parse_entries(entries))))
