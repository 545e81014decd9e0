"""TOML files read into pydantic models: every wrong field is named."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from mlcore.errors import FileFormatError

__all__ = ["read_model", "wrong_fields"]

Model = TypeVar("Model", bound=BaseModel)


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
    return "; ".join(_one(problem) for problem in error.errors())


def _one(problem: Any) -> str:
    place = ".".join(str(part) for part in problem["loc"])
    message = problem["msg"].removeprefix("Value error, ")
    if problem["type"] == "extra_forbidden":
        message = "no such field"
    value = problem["input"]
    if isinstance(value, str | int | float) and problem["type"] != "extra_forbidden":
        message += f", got {value!r}"
    return f"{place}: {message}" if place else message
