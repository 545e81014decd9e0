"""What tasks that train something have in common: configs in TOML, logs of epochs, tables of reports."""

from __future__ import annotations

import json
import math
import re
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from mlcore.errors import Error
from mlcore.io import write_text
from mlcore.io.toml import field_problems
from mlcore.studio.figures import Tone, figure, lines
from mlcore.studio.kinds.face import Download, Problem

__all__ = [
    "CONFIG",
    "Epoch",
    "found",
    "last_epoch",
    "learning",
    "narrow",
    "offered",
    "read_config",
    "read_json",
    "toml",
    "write_config",
    "wrong",
]

CONFIG = "config.toml"
_TAIL = 16384  # bytes of a log in which its last record is
_LONGEST = 64 << 20  # of a log that is drawn
_DEEPEST = 12
_BARE = re.compile(r"[A-Za-z0-9_-]+")


class Epoch(dict[str, float]):
    """A record of a training."""


# -- configs ---------------------------------------------------------------------------------------
def toml(config: Mapping[str, Any]) -> str:
    """A config as TOML; what is null is left out."""
    return "\n".join(_section(config, ())).strip() + "\n"


def write_config(folder: Path, config: Mapping[str, Any]) -> None:
    """The config of a command, in the folder of its task."""
    write_text(folder / CONFIG, toml(config))


def _section(table: Mapping[str, Any], path: tuple[str, ...]) -> Iterable[str]:
    tables = {k: v for k, v in table.items() if isinstance(v, Mapping)}
    several = {k: v for k, v in table.items() if _is_tables(v)}
    for name, value in table.items():
        if name not in tables and name not in several and value is not None:
            yield f"{_dotted(name)} = {_value(value)}"
    for name, inner in tables.items():
        yield from ("", f"[{_dotted(*path, name)}]")
        yield from _section(inner, (*path, name))
    for name, each in several.items():
        for inner in each:
            yield from ("", f"[[{_dotted(*path, name)}]]")
            yield from _section(inner, (*path, name))


def _is_tables(value: Any) -> bool:
    return (
        isinstance(value, list) and bool(value) and all(isinstance(one, Mapping) for one in value)
    )


def _dotted(*names: str) -> str:
    return ".".join(name if _BARE.fullmatch(name) else _value(name) for name in names)


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        # DEL is the one character that JSON allows and TOML does not
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, Mapping):
        inner = (f"{_dotted(k)} = {_value(v)}" for k, v in value.items() if v is not None)
        return f"{{{', '.join(inner)}}}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(_value(one) for one in value)}]"
    return repr(value)


def narrow(value: Any, at: str = "", depth: int = 0) -> list[Problem]:
    """What a file of TOML cannot hold: numbers that are not finite, nothing in lists, odd words."""
    if depth > _DEEPEST:
        return [Problem(at, "is too deep")]
    if isinstance(value, float) and not math.isfinite(value):
        return [Problem(at, "must be a finite number")]
    if isinstance(value, str) and not _encodes(value):
        return [Problem(at, "must be text")]
    inner: Iterable[tuple[Any, Any]] = ()
    if isinstance(value, Mapping):
        inner = value.items()
        if not all(map(_encodes, value)):
            return [Problem(at, "names must be text")]
    elif isinstance(value, list | tuple):
        inner = enumerate(value)
        if None in value:
            return [Problem(at, "must hold no null")]
    problems: list[Problem] = []
    for name, part in inner:
        problems += narrow(part, f"{at}.{name}" if at else str(name), depth + 1)
    return problems


def _encodes(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def wrong(kind: type[BaseModel], config: Mapping[str, Any]) -> list[Problem]:
    """Every field that a model of configs refuses."""
    try:
        kind.model_validate(config)
    except ValidationError as error:
        return [Problem(field, text) for field, text in field_problems(error)]
    except Error as error:
        return [Problem("", str(error))]
    return []


# -- what is there ---------------------------------------------------------------------------------
def read_config(folder: Path) -> dict[str, Any]:
    """The config of a task, as its command reads it."""
    try:
        return tomllib.loads((folder / CONFIG).read_text(encoding="utf-8"))
    except (OSError, tomllib.TOMLDecodeError):
        return {}


def read_json(path: Path) -> dict[str, Any]:
    """An object of a file; empty where there is none yet."""
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return told if isinstance(told, dict) else {}


def offered(folder: Path, *what: tuple[str, str, str]) -> list[Download]:
    """Those of (file, name, title) that are there."""
    return [
        Download(name, title, folder / file)
        for file, name, title in what
        if (folder / file).exists()
    ]


def last_epoch(folder: Path) -> Epoch | None:
    """The last record of the log of a training, read from its end."""
    path = folder / "metrics.jsonl"
    try:
        with path.open("rb") as stream:
            stream.seek(max(0, path.stat().st_size - _TAIL))
            told = stream.read()
    except OSError:
        return None
    for line in reversed(told.split(b"\n")[:-1]):
        try:
            record = json.loads(line)
        except ValueError:
            continue
        if isinstance(record, dict) and "epoch" in record:
            return Epoch(record)
    return None


def found(folder: Path) -> list[Epoch]:
    """All records of a log; of one that is too long the last ones."""
    path = folder / "metrics.jsonl"
    try:
        with path.open("rb") as stream:
            stream.seek(max(0, path.stat().st_size - _LONGEST))
            told = stream.read().split(b"\n")[:-1]
    except OSError:
        return []
    records = []
    for line in told:
        try:
            record = json.loads(line)
        except ValueError:
            continue
        if isinstance(record, dict) and "epoch" in record and "loss" in record:
            records.append(Epoch(record))
    return records


def learning(name: str, title: str, logs: Mapping[str, Path]) -> dict[str, Any] | None:
    """Losses by epoch, of what is learned from and of what is held out; None before the first.

    Args:
        name, title: of the figure.
        logs: folders of trainings by what they are called.
    """
    traces = []
    every: list[float] = []
    for label, folder in logs.items():
        records = found(folder)
        if not records:
            continue
        epochs = [record["epoch"] for record in records]
        kinds: tuple[tuple[str, str, Tone | None], ...] = (
            ("loss", "learned from", "accent"),
            ("validation", "held out", "other"),
        )
        for key, told, tone in kinds:
            values = [record.get(key, math.nan) for record in records]
            known = [value for value in values if math.isfinite(value)]
            if not known:
                continue
            every += known
            called = f"{label}, {told}" if label else told
            traces.append(lines(epochs, values, called, tone=tone if len(logs) == 1 else None))
    if not traces:
        return None
    return figure(
        name, title, traces, x="epoch", y="loss", log_y=min(every) > 0, section="Training"
    )
