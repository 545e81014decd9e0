"""Answers of commands: words for people, or JSON for programs."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

__all__ = ["AsJson", "numbers", "pairs", "plain", "say"]

AsJson = Annotated[bool, typer.Option("--json", help="Answer in JSON.")]


def say(content: Any, text: str, as_json: bool) -> None:
    """Print `content` as JSON, or the text."""
    typer.echo(json.dumps(plain(content), indent=1, allow_nan=False) if as_json else text)


def plain(content: Any) -> Any:
    """What JSON can hold of it; numbers that are none become null."""
    if dataclasses.is_dataclass(content) and not isinstance(content, type):
        content = dataclasses.asdict(content)
    if isinstance(content, Mapping):
        return {str(key): plain(value) for key, value in content.items()}
    if isinstance(content, str | bool | int | None):
        return content
    if isinstance(content, float):
        return content if math.isfinite(content) else None
    if isinstance(content, Path):
        return str(content)
    if hasattr(content, "tolist"):
        return plain(content.tolist())
    if isinstance(content, Sequence | set | frozenset):
        return [plain(value) for value in content]
    return str(content)


def pairs(words: Sequence[str], option: str) -> dict[str, str]:
    """NAME=VALUE words by name.

    Raises:
        InvalidArgument: a word without =.
    """
    from mlcore.errors import InvalidArgument

    found = {}
    for word in words:
        name, mark, value = word.partition("=")
        if not (name and mark and value):
            raise InvalidArgument(f"{option} must be NAME=VALUE, got {word!r}")
        found[name] = value
    return found


def numbers(words: Sequence[str], option: str) -> dict[str, float]:
    """NAME=NUMBER words by name.

    Raises:
        InvalidArgument: a word without =, or something that is no number.
    """
    from mlcore.errors import InvalidArgument

    found = {}
    for name, value in pairs(words, option).items():
        try:
            found[name] = float(value)
        except ValueError:
            raise InvalidArgument(f"{option} must be NAME=NUMBER, got '{name}={value}'") from None
    return found
