"""Mistakes in settings, each in one sentence: where, which key, what was given, what is allowed."""

import difflib
import itertools
import re
from collections.abc import Iterable
from typing import Any, Union, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from replica.configuration import ConfigError, Source
from replica.kinds import KINDS, RunSpec


def validate_run(values: dict[str, Any], where: str | Source) -> RunSpec:
    """Validate one run; `where` opens the sentence of an error."""
    kind = values.get("kind")
    if kind not in KINDS:
        opening = where if isinstance(where, str) else where("kind")
        raise ConfigError(f"{opening}: kind = {shown(kind)} is not one of {', '.join(KINDS)}.")
    return validate(KINDS[kind].spec, values, where)


def validate(model: type[BaseModel], values: Any, where: str | Source) -> Any:
    """Validate `values` against `model`.

    Args:
        model: what is allowed.
        values: what was given.
        where: opens the sentence of an error, or gives its opening for the path of a key.

    Raises:
        ConfigError: one sentence: where, which key, what was given, what is allowed.
    """
    if not isinstance(values, dict):
        opening = where if isinstance(where, str) else where()
        raise ConfigError(f"{opening}: expected keys with values, got {shown(values)}.")
    try:
        return model.model_validate(values)
    except ValidationError as error:
        # A union reports each of its members; the deepest report is the one that got furthest.
        first = max(error.errors(), key=lambda e: (e["type"] == "extra_forbidden", len(e["loc"])))
        opening = where if isinstance(where, str) else where(*first["loc"])
        raise ConfigError(f"{opening}: {_sentence(model, first)}") from None


def _sentence(model: type[BaseModel], first: ErrorDetails) -> str:
    # Members of a union put their type into the path; the user knows keys only.
    key = ".".join(
        str(part) for part in first["loc"] if not re.search(r"constrained|\[", str(part))
    )
    message = first["msg"].removeprefix("Value error, ")
    if first["type"] == "extra_forbidden":
        allowed = sorted(_keys(model, first["loc"][:-1]))
        hint = did_you_mean(str(first["loc"][-1]), allowed)
        return f"unknown key {key}{hint}; allowed here: {', '.join(allowed)}."
    if first["type"] == "missing":
        meant = _description(model, first["loc"])
        return f"the key {key} is missing{f': give {meant}' if meant else ''}."
    if not key:
        return f"{message}."
    if first["type"] == "value_error" and isinstance(first["input"], dict):
        # What is wrong with keys together; all of them would hide it.
        return f"{key}: {message}."
    return f"{key} = {shown(first['input'])} is not allowed: {_lower(message)}."


def did_you_mean(name: str, names: Iterable[str]) -> str:
    """The name that is meant, in brackets; "" where none is close."""
    close = difflib.get_close_matches(name, list(names), n=1)
    return f" (did you mean {close[0]}?)" if close else ""


def shown(value: Any) -> str:
    """A value in the words of YAML."""
    words = {"None": "null", "True": "true", "False": "false"}
    return words.get(repr(value), repr(value))


def _keys(model: Any, path: tuple[Any, ...]) -> set[str]:
    """Field names of the model that `path` leads to, as far as it can be followed."""
    return set(itertools.chain.from_iterable(m.model_fields for m in _models_at(model, path)))


def _description(model: Any, path: tuple[Any, ...]) -> str:
    """What the model says of the key at a path; "" where it says nothing."""
    *parents, key = path
    fields = [m.model_fields[key] for m in _models_at(model, parents) if key in m.model_fields]
    return (fields[0].description or "") if fields else ""


def _models_at(model: Any, path: Iterable[Any]) -> set[type[BaseModel]]:
    """The models that `path` leads to, as far as it can be followed."""
    current = model
    for part in path:
        models = list(_models(current))
        fields = [m.model_fields[part].annotation for m in models if part in m.model_fields]
        if fields:
            current = Union[tuple(fields)]  # noqa: UP007
        elif by_kind := [m for m in models if _kind(m) == part]:
            current = by_kind[0]
    return _models(current)


def _models(annotation: Any) -> set[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return {annotation}
    return set(itertools.chain.from_iterable(_models(part) for part in get_args(annotation)))


def _kind(model: type[BaseModel]) -> str | None:
    field = model.model_fields.get("kind")
    return get_args(field.annotation)[0] if field and get_args(field.annotation) else None


def _lower(text: str) -> str:
    return text[:1].lower() + text[1:]
