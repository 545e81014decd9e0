"""JSON schemas of configs with what a form needs beside types: words, units, choices.

Keys that begin with ``x-`` are those of the wizard:

    x-label, x-unit      name and unit for people; the help is the schema's description
    x-late               shown in a closed part
    x-hidden             not shown
    x-choose             a choice among what the user has: {"from": "uploads", "kinds": [...],
                         "endings": [...], "formats": [...], "files": "one" | "many"}, or
                         {"from": "tasks", "kind": NAME}
    x-when               shown where another field has one of some values: {PATH: [...]}, PATH from the
                         config on
    x-by                 default and help by the value of another field: {PATH: {VALUE: {...}}}
    x-titles             what the values of an enum are called
    x-redraw             others are shown by its value
    x-use, x-begin       of a section that may be left out: words of its tick, and what it begins with
    x-grid               rows of a name and its values: {"of": PATH, "names": {VALUE: {NAME: WORDS}}},
                         the names by the value of a field; "single": one value each, no ranges
    x-item               name of an item of a list of sections
    x-engines, x-step    of the whole: kinds of engines that run it, and the step where they are chosen
"""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Callable, Mapping
from typing import Any

__all__ = ["LOCAL", "arguments", "described"]

LOCAL = ("serial", "processes")
"""Kinds of engines that are cores of the server."""
_TYPES = {"int": "integer", "float": "number", "bool": "boolean", "str": "string"}
_LISTS = {"Sequence[int]": "integer", "Sequence[float]": "number", "Sequence[str]": "string"}


def described(
    schema: Mapping[str, Any], words: Mapping[str, Mapping[str, Any]], **whole: Any
) -> dict[str, Any]:
    """A schema with what forms need.

    Args:
        schema: of a config.
        words: place in the schema -> keys of its property, without ``x-`` but for ``description``,
            ``title`` and those of JSON schema itself; places are ``NAME`` of the config's own fields
            and ``SECTION.NAME`` of those of a section among its definitions. What is not there is made.
        whole: keys of the whole.
    """
    made: dict[str, Any] = _copied(schema)
    for place, told in words.items():
        section, _, name = place.rpartition(".")
        of = made["$defs"][section] if section else made
        field = of.setdefault("properties", {}).setdefault(name, {})
        field.update({_key(key): value for key, value in told.items()})
    return made | {_key(key): value for key, value in whole.items()}


_OWN = ("description", "enum", "type", "default", "items", "properties", "anyOf", "$ref")


def _key(name: str) -> str:
    return name if name in _OWN else f"x-{name}"


def _copied(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {k: _copied(v) for k, v in value.items()}
    return [_copied(v) for v in value] if isinstance(value, list) else value


def arguments(call: Callable[..., Any], leave: tuple[str, ...] = ()) -> dict[str, dict[str, Any]]:
    """Properties of a schema for the arguments of a call, by its signature and its docstring.

    Args:
        call: a function, or a class by its constructor.
        leave: names that are not asked for. Those of other kinds than numbers, words, yes or no and
            lists of these are not either.
    """
    help_ = _help(inspect.getdoc(call) or "")
    found = {}
    for name, one in inspect.signature(call).parameters.items():
        kind = _kind(str(one.annotation))
        if name in leave or name == "self" or kind is None:
            continue
        default = one.default
        told: dict[str, Any] = dict(kind)
        if default is not inspect.Parameter.empty and default is not None:
            told["default"] = list(default) if isinstance(default, tuple) else default
        found[name] = told | {"description": help_.get(name, "")}
    return found


def _kind(annotation: str) -> dict[str, Any] | None:
    bare = annotation.strip("'\"").removesuffix(" | None")
    if bare in _TYPES:
        return {"type": _TYPES[bare]}
    if bare in _LISTS:
        return {"type": "array", "items": {"type": _LISTS[bare]}}
    if bare.startswith("Literal["):
        return {"type": "string", "enum": list(ast.literal_eval(bare.removeprefix("Literal")))}
    return None


def _help(doc: str) -> dict[str, str]:
    """Name -> sentence, of the arguments that a docstring tells of."""
    _, _, told = doc.partition("Args:\n")
    told = re.split(r"\n\n|\n(?=\S)", told)[0]
    found: dict[str, str] = {}
    names: list[str] = []
    for line in inspect.cleandoc(told).splitlines():
        begun = re.match(r"(\w[\w, ]*): (.*)", line)
        if begun and not line.startswith(" "):
            names = [one.strip() for one in begun[1].split(",")]
            for name in names:
                found[name] = begun[2]
        else:
            for name in names:
                found[name] += f" {line.strip()}"
    return {name: text[:1].upper() + text[1:] for name, text in found.items()}
