"""Stages of a run that are done once, kept until something they depend on changes."""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mlcore.errors import Error
from mlcore.io.atomic import write_text

__all__ = ["Stage", "Stages", "digest"]

_DONE = "stage.json"
_BEGUN = "begun.json"


def digest(*parts: Any, files: Iterable[Path] = ()) -> str:
    """SHA-256 of JSON-able parts and of the contents of files."""
    total = hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode())
    for path in files:
        try:
            content = path.read_bytes()
        except OSError as error:
            raise Error(f"{path}: {error.strerror or error}") from error
        total.update(hashlib.sha256(content).digest())
    return total.hexdigest()


@dataclass(frozen=True)
class Stage:
    """A finished stage: its folder, what it found (JSON-able) and the seconds it took."""

    name: str
    key: str
    folder: Path
    result: dict[str, Any]
    seconds: float
    cached: bool


@dataclass
class Stages:
    """Runs stages in folders of their own below ``folder``.

    Args:
        folder: made when absent.
        fresh: forget finished stages.
        told: called with a stage's name before it runs, and with the finished stage after.
    """

    folder: Path
    fresh: bool = False
    told: Callable[[str | Stage], None] = lambda _: None
    finished: list[Stage] = field(default_factory=list)

    def run(self, name: str, key: str, work: Callable[[Path, bool], dict[str, Any]]) -> Stage:
        """The stage ``name`` with everything it depends on condensed in ``key``.

        ``work(folder, again)`` does it: ``again`` is true when an earlier try with the same key
        was cut off, whose files are still in the folder. Its result is kept as JSON.
        """
        place = self.folder / name
        stage = None if self.fresh else _kept(place, name, key)
        if stage is None:
            again = not self.fresh and _read(place / _BEGUN).get("key") == key
            stage = self._do(place, name, key, again, work)
        self.finished.append(stage)
        self.told(stage)
        return stage

    def _do(
        self,
        place: Path,
        name: str,
        key: str,
        again: bool,
        work: Callable[[Path, bool], dict[str, Any]],
    ) -> Stage:
        self.told(name)
        if not again:
            shutil.rmtree(place, ignore_errors=True)
        try:
            place.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise Error(f"cannot make the folder {place}: {error.strerror or error}") from error
        (place / _DONE).unlink(missing_ok=True)
        write_text(place / _BEGUN, json.dumps({"key": key}))
        start = time.perf_counter()
        result = work(place, again)
        seconds = time.perf_counter() - start
        record = {"key": key, "seconds": seconds, "result": result}
        write_text(place / _DONE, json.dumps(record, indent=1))
        return Stage(name, key, place, result, seconds, cached=False)


def _kept(place: Path, name: str, key: str) -> Stage | None:
    record = _read(place / _DONE)
    if record.get("key") != key or not isinstance(record.get("result"), dict):
        return None
    return Stage(name, key, place, record["result"], float(record["seconds"]), cached=True)


def _read(path: Path) -> dict[str, Any]:
    try:
        record = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return record if isinstance(record, dict) else {}
