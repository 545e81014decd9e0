"""What happens in a fit, as lines of JSON, and where it stands: written beside the work."""

from __future__ import annotations

import contextlib
import json
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Literal, get_args

from mlcore.errors import Error, FileFormatError
from mlcore.io.atomic import write_text
from mlcore.io.lock import holder

__all__ = ["EVENTS", "KINDS", "STATES", "Events", "State", "read_events", "read_state",
           "write_state"]  # fmt: skip

EVENTS = "events.jsonl"
STATE = "state.json"
CANCEL = "cancel"  # a wish that the driver has not seen yet
_LONGEST = 1 << 20  # bytes of a line, more than any has
Kind = Literal["started", "batch", "best", "checkpoint", "stage", "finished", "cancelled", "failed"]
KINDS: tuple[Kind, ...] = get_args(Kind)
State = Literal["queued", "running", "cancelling", "cancelled", "failed", "done"]
STATES: tuple[State, ...] = get_args(State)
# what may follow: a driver that was killed leaves "running", and a new one goes on
_NEXT: dict[State, tuple[State, ...]] = {
    "queued": ("running", "cancelled", "failed"),
    "running": ("running", "cancelling", "cancelled", "failed", "done"),
    "cancelling": ("running", "cancelled", "failed", "done"),
    "cancelled": ("queued", "running"),
    "failed": ("queued", "running"),
    "done": ("queued", "running"),
}


class Events:
    """Writes events, and small files that are replaced as a whole, in a thread of its own.

    The caller never waits for a disk: what it hands over is put in a queue.

    Args:
        folder: of the fit.
        listen: is also called with every event, in the thread; what it raises is ignored.
    """

    def __init__(
        self, folder: Path, listen: Callable[[Mapping[str, Any]], None] | None = None
    ) -> None:
        self._folder = folder
        self._listen = listen
        self._queue: SimpleQueue[tuple[str, Any] | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="mlcore-events", daemon=True)
        self._thread.start()

    def tell(self, kind: Kind, **facts: Any) -> None:
        """Hand over an event; `facts` are what JSON can hold."""
        self._queue.put((EVENTS, {"event": kind, "time": round(time.time(), 3), **facts}))

    def keep(self, name: str, content: Mapping[str, Any]) -> None:
        """Replace the file `name` by this JSON; of several that wait the last is written."""
        self._queue.put((name, content))

    def close(self) -> None:
        """Write what was handed over."""
        self._queue.put(None)
        self._thread.join()

    def _work(self) -> None:
        going = True
        while going:
            entries = [self._queue.get()]
            while not self._queue.empty():
                entries.append(self._queue.get())
            going = None not in entries
            self._write([entry for entry in entries if entry is not None])

    def _write(self, entries: list[tuple[str, Any]]) -> None:
        events = [content for name, content in entries if name == EVENTS]
        # a full disk must not end a fit that could still be finished
        with contextlib.suppress(OSError, Error):
            append_events(self._folder, events)
        for name, content in {n: c for n, c in entries if n != EVENTS}.items():
            with contextlib.suppress(OSError, Error):
                write_json(self._folder / name, content)
        for event in events if self._listen is not None else ():
            with contextlib.suppress(Exception):
                self._listen(event)  # type: ignore[misc]


def append_events(folder: Path, events: list[Mapping[str, Any]]) -> None:
    """Add lines, after the last whole one: what a killed writer left of another is cut off."""
    if not events:
        return
    lines = "".join(json.dumps(event, allow_nan=False) + "\n" for event in events)
    with (folder / EVENTS).open("a+b") as stream:
        end = stream.seek(0, os.SEEK_END)
        stream.seek(max(0, end - _LONGEST))
        tail = stream.read()
        if tail and not tail.endswith(b"\n"):
            stream.truncate(end - len(tail) + tail.rfind(b"\n") + 1)
        stream.write(lines.encode())


def read_events(folder: str | os.PathLike[str], start: int = 0) -> Iterator[dict[str, Any]]:
    """Events of a fit from number `start` on; lines cut short are left out."""
    path = Path(folder) / EVENTS
    lines = path.read_bytes().splitlines() if path.is_file() else []
    for line in lines[start:]:
        with contextlib.suppress(ValueError):
            yield json.loads(line)


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """A file of JSON, whole or not at all."""
    write_text(path, json.dumps(content, indent=1, allow_nan=False) + "\n")


def write_state(folder: Path, state: State, **facts: Any) -> None:
    """Where a fit stands from now on.

    Raises:
        Error: the state it is in does not lead there.
    """
    known = read_state(folder)
    if known is not None and state not in _NEXT[known["state"]]:
        raise Error(f"{folder}: a fit that is {known['state']} cannot become {state}")
    write_json(folder / STATE, {"state": state, "since": round(time.time(), 3), **facts})


def read_state(folder: str | os.PathLike[str]) -> dict[str, Any] | None:
    """Where a fit stands: ``state`` (one of `STATES`), ``since``, and facts; None: nothing is told.

    A fit that is ``running`` and has no living driver was killed: ``alive`` is False.

    Raises:
        FileFormatError: the file holds something else.
    """
    path = Path(folder) / STATE
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise FileFormatError(f"{path}: {error}") from None
    if not isinstance(told, dict) or told.get("state") not in STATES:
        raise FileFormatError(f"{path}: state must be one of {', '.join(STATES)}")
    alive = holder(Path(folder)) is not None
    if alive and told["state"] == "running" and (Path(folder) / CANCEL).exists():
        told["state"] = "cancelling"
    return {**told, "alive": alive}
