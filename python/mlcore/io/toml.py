"""TOML files read into pydantic models: every wrong field is named."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from mlcore.errors import FileFormatError

__all__ = ["field_problems", "read_model", "wrong_fields"]

Model = TypeVar("Model", bound=BaseModel)
Place = tuple[str | int, ...]
Wrong = tuple[Place, Any]
# what pydantic calls a kind of a value in the place of an error
_KIND = re.compile(r"(list|dict|tuple|literal|function-\w+|lax-or-strict|constrained-\w+)\[")


def read_model(path: str | Path, kind: type[Model]) -> Model:
    """Read and check a TOML file.

    Raises:
        FileFormatError: the file is absent or not TOML, or a field is missing, unknown or wrong;
            the message names file and field and says what would be right.
    """
    path = Path(path)
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise FileFormatError(f"{path}: {error.strerror or error}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise FileFormatError(f"{path}: not a TOML file: {error}") from error
    try:
        return kind.model_validate(table)
    except ValidationError as error:
        raise FileFormatError(f"{path}: {wrong_fields(error)}") from None


def wrong_fields(error: ValidationError) -> str:
    """Every wrong field, one after the other: its name and what would be right."""
    found = (f"{place}: {text}" if place else text for place, text in field_problems(error))
    return "; ".join(dict.fromkeys(found))


def field_problems(error: ValidationError) -> list[tuple[str, str]]:
    """Names of wrong fields, and what would be right."""
    found = [(problem["loc"], problem) for problem in error.errors()]
    return [_one(place, problem) for place, problem in _meant(found)]


def _meant(found: list[Wrong]) -> list[Wrong]:
    """Without what is wrong about the kinds of a value that was meant to be of another kind.

    Of a field that may be of several kinds pydantic tells what is wrong about each, in places such
    as ``free.list[str].0``; meant is the kind that the outside of the value fits.
    """
    cut = next((loc[:k] for loc, _ in found for k, part in enumerate(loc) if _is_kind(part)), None)
    if cut is None:
        return found
    kinds: dict[Any, list[Wrong]] = {}
    for loc, problem in found:
        if loc[: len(cut)] == cut and len(loc) > len(cut):
            kinds.setdefault(loc[len(cut)], []).append((cut + loc[len(cut) + 1 :], problem))
    inside = [own for own in kinds.values() if all(len(loc) > len(cut) for loc, _ in own)]
    likely = min(inside, key=len) if inside else [one for own in kinds.values() for one in own]
    at = next(k for k, (loc, _) in enumerate(found) if loc[: len(cut)] == cut)
    rest = [one for one in found if one[0][: len(cut)] != cut or len(one[0]) == len(cut)]
    return _meant([*rest[:at], *likely, *rest[at:]])


def _is_kind(part: str | int) -> bool:
    return isinstance(part, str) and _KIND.match(part) is not None


def _one(loc: Place, problem: Any) -> tuple[str, str]:
    place = ".".join(str(part) for part in loc)
    message = problem["msg"].removeprefix("Value error, ")
    if problem["type"] == "extra_forbidden":
        message = "no such field"
    value = problem["input"]
    if isinstance(value, str | int | float) and problem["type"] != "extra_forbidden":
        message += f", got {value!r}"
    return place, message
