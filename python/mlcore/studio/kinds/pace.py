"""How fast a task works, and on how many workers, for kinds that run on cores of the server."""

from __future__ import annotations

import contextlib
import json
import time
from pathlib import Path
from typing import Any

from mlcore.io import write_text
from mlcore.studio.figures import number
from mlcore.studio.kinds.asked import LOCAL
from mlcore.studio.kinds.face import Place, Problem

__all__ = ["pace", "paced", "remote", "workers_of"]

_FILE = "pace.json"
_PAUSE, _LATE = 2.0, 60.0  # seconds between two notes, and for how long they count


def remote(place: Place) -> list[Problem]:
    """Workers elsewhere, which do nothing for tasks that run on cores of the server."""
    if place.engine.name in LOCAL or place.engine.count == 1:
        return []
    told = (
        f"engine {place.engine.name} does not work for tasks of this kind, which run on the server"
    )
    return [Problem("", f"{told}: choose another one, or one worker")]


def workers_of(place: Place) -> int:
    """Cores of the server that a task may use."""
    return place.engine.count if place.engine.name == "processes" else 1


def paced(folder: Path, what: str, count: float | None) -> None:
    """Note how far a task is; asked often, it writes now and then.

    Args:
        folder: of the task.
        what: is counted, such as "epochs"; another one begins anew.
        count: so far; None: nothing yet.
    """
    if count is None:
        return
    now, told = time.time(), _read(folder)
    notes: list[list[float]] = told["notes"] if told.get("what") == what else []
    if notes and (count == notes[-1][1] or now - notes[-1][0] < _PAUSE) and count >= notes[-1][1]:
        return
    if notes and (count < notes[-1][1] or notes[-1][0] < _begun(folder)):
        notes = []
    while len(notes) > 1 and notes[1][0] < now - _LATE:
        notes.pop(0)
    with contextlib.suppress(OSError):
        write_text(folder / _FILE, json.dumps({"what": what, "notes": [*notes, [now, count]]}))


def pace(folder: Path, threads: int) -> list[dict[str, Any]]:
    """Threads and throughput, as pages of tasks show numbers."""
    told = _read(folder)
    notes = told.get("notes", [])
    shown = "too short to tell" if (folder / "exit.json").is_file() else "not yet known"
    if len(notes) > 1 and notes[-1][0] > notes[0][0]:
        fast = (notes[-1][1] - notes[0][1]) / (notes[-1][0] - notes[0][0])
        shown = (
            f"{fast:.3g} {told['what']}/s" if fast >= 0.1 else f"{60 * fast:.3g} {told['what']}/min"
        )
    plural = "s" if threads != 1 else ""
    return [
        number("Throughput", shown, "of late"),
        number("At work", f"{threads} thread{plural}", "on cores of the server"),
    ]


def _read(folder: Path) -> dict[str, Any]:
    try:
        told = json.loads((folder / _FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return told if isinstance(told, dict) else {}


def _begun(folder: Path) -> float:
    """When its process was started last."""
    try:
        return (folder / "command.json").stat().st_mtime
    except OSError:
        return 0.0
