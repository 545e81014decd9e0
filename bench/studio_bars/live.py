"""A job that is watched while it runs: how often its page hears of it, and what that costs in the end."""

from __future__ import annotations

import contextlib
import os
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from bars import Bars, Measured
from studio_server import memory, served

MINUTES = float(os.environ.get("MLCORE_STUDIO_MINUTES", "30"))
HISTORY = 50_000
CONFIG: dict[str, Any] = {
    "model": {"form": "tersoff", "species": ["Si"]},
    "parameters": {"free": ["A", "B", "lam1", "lam2", "c", "d", "cos0", "n", "beta"]},
    "targets": [
        {
            "type": "cubic_crystal",
            "name": "diamond",
            "structure": {"crystal": "diamond", "a": 5.43},
            "values": {"a": 5.432, "energy": -4.63, "C11": 142, "C12": 75},
        }
    ],
    "search": {"name": "random"},
    "run": {"budget": 10_000_000},
}


class Listener(threading.Thread):
    """A page that hears what is told of a task."""

    def __init__(self, browser: httpx.Client, task: str) -> None:
        super().__init__(daemon=True)
        self.heard, self._browser, self._task = 0, browser, task

    def run(self) -> None:
        path = f"/api/tasks/{self._task}/live"
        # the server ends while it is heard
        with contextlib.suppress(httpx.HTTPError), self._browser.stream("GET", path) as answer:
            for line in answer.iter_lines():
                self.heard += line == "event: task"


def watched() -> Iterator[Measured]:
    """G: a page at 1 Hz and more, a history of 50,000, flat memory."""
    with tempfile.TemporaryDirectory() as name, served(Path(name)) as (browser, pid):
        asked = {"kind": "forcefield", "config": CONFIG, "engine": "serial", "submit": True}
        task = browser.post("/api/tasks", json=asked).json()["id"]
        listener = Listener(browser, task)
        listener.start()
        looks = np.array(list(_looks(browser, pid, task)))
        told, seconds = listener.heard, looks[-1, 0] - looks[0, 0]
        browser.post(f"/api/tasks/{task}/cancel")
        time.sleep(3)
    long = looks[looks[:, 1] >= HISTORY]
    early = looks[looks[:, 1] < HISTORY][5:]
    yield Measured("minutes", seconds / 60)
    yield Measured("evaluations in the end", looks[-1, 1])
    yield Measured("times a second the page hears of it", told / seconds, least=1)
    if len(long):
        yield Measured(f"view before {HISTORY} evaluations: ms", 1e3 * np.median(early[:, 2]))
        late = 1e3 * np.median(long[-len(long) // 4 :, 2])
        yield Measured("view of the last quarter: ms", late, most=100)
        size = long[-1, 4] / early[-1, 4]
        yield Measured("bytes of the view, in the end over before", size, most=1.5)
    half = looks[len(looks) // 3, 3]
    yield Measured("MB more in the last two thirds", looks[-1, 3] - half, most=3)
    yield Measured("MB in all", looks[-1, 3])


def _looks(browser: httpx.Client, pid: int, task: str) -> Iterator[tuple[float, ...]]:
    """Each second: time, evaluations, seconds of a view, MB of the server, bytes of the view."""
    end = time.monotonic() + 60 * MINUTES
    while time.monotonic() < end:
        start = time.monotonic()
        view = browser.get(f"/api/tasks/{task}/view")
        spent = time.monotonic() - start
        told = browser.get(f"/api/tasks/{task}").json()
        if told["state"] not in ("queued", "running"):
            raise RuntimeError(f"the task is {told['state']}: {told['error']}")
        done = told["facts"].get("evaluations", 0)
        yield start, float(done), spent, memory(pid), float(len(view.content))
        time.sleep(max(0.0, 1.0 - spent))


bars: Bars = {"live job": watched}
