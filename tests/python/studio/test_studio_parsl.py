"""Parsl does the work of a task: to the same history, to its end, and as a whole."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from mlcore.studio.processes import Census, Used
from server import points, set_up, submitted

pytest.importorskip("parsl")

Until = Callable[..., dict[str, Any]]
ENGINES = """
[engines.serial]
name = "serial"
[engines.grid]
name = "parsl"
workers = 2
options = {chunk_seconds = 0.2, heartbeat = 1, lost_after = 4}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Of a studio whose administrator has set up Parsl."""
    return set_up(tmp_path / "studio", ENGINES)


def programs(task: str) -> list[str]:
    """What the processes of a task run."""
    pids = Census()().get(task, Used()).pids
    found = [Path(f"/proc/{pid}/cmdline").read_bytes() for pid in pids]
    return [words.replace(b"\0", b" ").decode() for words in found]


def evaluated(browser: httpx.Client, supervise: Until, task: str, number: int) -> dict[str, Any]:
    """The task, as soon as it has done so much work."""
    end = time.monotonic() + 90
    while time.monotonic() < end:
        told = supervise(browser, task, "queued", "running")
        if told["facts"].get("evaluations", 0) >= number:
            return told
        time.sleep(0.1)
    raise AssertionError(told)


def test_parsl_finds_the_same_and_is_watched_paused_and_ended_as_a_whole(
    browser: httpx.Client, supervise: Until, silicon: dict[str, Any], folder: Path
) -> None:
    engines = {one["name"]: one for one in browser.get("/api/engines").json()}
    assert (engines["grid"]["kind"], engines["grid"]["workers"]) == ("parsl", 2)
    config = silicon | {"run": {"budget": 100_000, "seed": 4}, "search": {"name": "cma"}}
    task = submitted(browser, config, "grid")
    told = evaluated(browser, supervise, task, 200)
    running = " ".join(programs(task))
    assert running.count("mlcore.parallel.child") == 2
    assert "engines.manager" in running and "interchange" in running
    assert (told["workers"], told["engine"]) == (2, "grid") and told["facts"]["rate"] > 0
    numbers = {one["name"]: one for one in browser.get(f"/api/tasks/{task}/view").json()["numbers"]}
    assert numbers["throughput"]["value"].endswith("/ s")
    browser.post(f"/api/tasks/{task}/pause")
    supervise(browser, task, "paused")
    assert Census()().get(task) is None
    before = points(folder, task)
    browser.post(f"/api/tasks/{task}/resume")
    evaluated(browser, supervise, task, len(before) + 50)
    assert points(folder, task)[: len(before)] == before
    browser.post(f"/api/tasks/{task}/cancel")
    supervise(browser, task, "cancelled")
    assert Census()().get(task) is None
    alone = submitted(browser, config)
    evaluated(browser, supervise, alone, len(before) + 50)
    browser.post(f"/api/tasks/{alone}/cancel")
    supervise(browser, alone, "cancelled")
    both = min(len(points(folder, task)), len(points(folder, alone)))
    assert both > len(before)
    assert points(folder, task)[:both] == points(folder, alone)[:both]
