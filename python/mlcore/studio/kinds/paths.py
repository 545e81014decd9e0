"""Files in configs: those of the user's own uploads, and no others."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from mlcore.studio.kinds.face import Place, Problem

__all__ = ["PREFIX", "parts", "resolved", "strangers"]

PREFIX = "upload:"
_CODE = (".py", ".pt", ".pt2", ".pth", ".pkl", ".pickle", ".so")


def resolved(config: Any, place: Place, at: str = "") -> tuple[Any, list[Problem]]:
    """A config with paths instead of ``upload:ID``, and those that are none of the user's."""
    if isinstance(config, str) and config.startswith(PREFIX):
        try:
            return str(place.resolved(config)), []
        except ValueError as error:
            return config, [Problem(at, str(error))]
    problems: list[Problem] = []

    def inner(value: Any, name: object) -> Any:
        made, found = resolved(value, place, f"{at}.{name}" if at else str(name))
        problems.extend(found)
        return made

    if isinstance(config, Mapping):
        return {k: inner(v, k) for k, v in config.items()}, problems
    if isinstance(config, list | tuple):
        return [inner(v, k) for k, v in enumerate(config)], problems
    return config, problems


def strangers(model: BaseModel, place: Place) -> list[Problem]:
    """Paths in a checked config that lie outside the user's uploads, or hold programs."""
    roots = [folder.resolve() for folder in place.uploads.values()]
    found = []
    for at, path in _paths(model, ""):
        if not any(path.resolve().is_relative_to(root) for root in roots):
            found.append(Problem(at, "files come from your data sets: say upload:ID"))
        elif path.suffix.lower() in _CODE:
            found.append(Problem(at, "files that hold programs are not run here"))
    return found


def parts(value: Any, at: str) -> Iterator[tuple[str, Any]]:
    """What a section, mapping or list of a config holds, with its places."""
    inner: Any = ()
    if isinstance(value, BaseModel):
        inner = ((name, getattr(value, name)) for name in type(value).model_fields)
    elif isinstance(value, Mapping):
        inner = value.items()
    elif isinstance(value, list | tuple):
        inner = enumerate(value)
    for name, part in inner:
        yield f"{at}.{name}" if at else str(name), part


def _paths(value: Any, at: str) -> Iterator[tuple[str, Path]]:
    if isinstance(value, Path):
        yield at, value
        return
    for where, part in parts(value, at):
        yield from _paths(part, where)
