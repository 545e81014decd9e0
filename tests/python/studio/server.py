"""A studio as people start it: `mlcore studio` in a process of its own."""

from __future__ import annotations

import contextlib
import json
import os
import re
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx

_START = 60.0


class Server:
    """A server that can be killed and started again on the same folder."""

    def __init__(self, folder: Path, largest: int | None = None) -> None:
        self.folder, self.largest = folder, largest
        self.start()

    def start(self) -> None:
        """A new process; the address is another."""
        program = "import sys; from mlcore.cli import main; sys.exit(main(sys.argv[1:]))"
        words = ["studio", "--folder", str(self.folder), "--no-browser", "--port", "0"]
        self.process = subprocess.Popen(
            [sys.executable, "-u", "-c", program, *words],
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
            preexec_fn=self._limited,
        )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        found = re.search(r"(http://[^/]+)/(?:login\?key=(\S+))?", line)
        assert found is not None, line
        self.address, self.key = found[1], found[2]
        self._answering()

    def _limited(self) -> None:
        if self.largest is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (self.largest, self.largest))

    def _answering(self) -> None:
        end = time.monotonic() + _START
        while time.monotonic() < end:
            with contextlib.suppress(httpx.HTTPError):
                httpx.get(f"{self.address}/login")
                return
            time.sleep(0.05)
        raise AssertionError("the server does not answer")

    @contextlib.contextmanager
    def browser(self, name: str = "", password: str = "") -> Iterator[httpx.Client]:
        """A browser that is logged in."""
        with httpx.Client(base_url=self.address, timeout=60, follow_redirects=True) as made:
            if name:
                answer = made.post("/api/login", json={"name": name, "password": password})
                assert answer.status_code == 200, answer.text
                page = made.get("/").text
            else:
                page = made.get("/login", params={"key": self.key}).text
            made.headers["X-CSRF-Token"] = page.split('name="csrf" content="')[1].split('"')[0]
            yield made

    def kill(self) -> None:
        """At once, the server alone."""
        self.process.kill()
        self.process.wait()
        if self.process.stdout is not None:
            self.process.stdout.close()

    def supervisor(self) -> int | None:
        """Number of the process that runs the tasks."""
        text = (self.folder / "supervisor.lock").read_text()
        found = re.search(r"process (\d+)", text)
        return int(found[1]) if found else None

    def close(self) -> None:
        """Nothing of it is left."""
        with contextlib.suppress(OSError):
            pid = self.supervisor()
            if pid is not None:
                os.kill(pid, signal.SIGKILL)
        for entry in Path("/proc").iterdir():
            with contextlib.suppress(OSError):
                words = (entry / "cmdline").read_bytes()
                if entry.name.isdigit() and str(self.folder).encode() in words:
                    os.killpg(int(entry.name), signal.SIGKILL)
        if self.process.poll() is None:
            self.kill()


def set_up(folder: Path, settings: str) -> Path:
    """The folder of a studio that has these settings."""
    folder.mkdir(exist_ok=True)
    (folder / "studio.toml").write_text(settings)
    return folder


def submitted(browser: httpx.Client, config: dict[str, Any], engine: str = "serial") -> str:
    """A fit that is to be run; its id."""
    asked = {"kind": "forcefield", "config": config, "engine": engine, "submit": True}
    answer = browser.post("/api/tasks", json=asked)
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


def process_of(task: str, other: int | None = None) -> int:
    """Number of the process that runs a task, as soon as there is one, and another one than this."""
    end = time.monotonic() + 120
    while time.monotonic() < end:
        for entry in Path("/proc").iterdir():
            with contextlib.suppress(OSError):
                words = (entry / "cmdline").read_bytes() if entry.name.isdigit() else b""
                mine = b"mlcore.studio.work" in words and task.encode() in words
                if mine and entry.name != str(other):
                    return int(entry.name)
        time.sleep(0.05)
    raise AssertionError("no process runs the task")


def run_of(folder: Path, task: str) -> Path:
    """What the command of a task has made."""
    (run,) = folder.glob(f"users/*/tasks/{task}/run")
    return run


def points(folder: Path, task: str) -> list[Any]:
    """What a fit has evaluated: number, point and score."""
    lines = (run_of(folder, task) / "history.jsonl").read_text().splitlines()
    return [(one["n"], one["point"], one["total"]) for one in map(json.loads, lines)]


def until(browser: httpx.Client, task: str, *states: str, seconds: float = 120) -> dict[str, Any]:
    """The task, as soon as it is in one of these states."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        told: dict[str, Any] = browser.get(f"/api/tasks/{task}").json()
        if told["state"] in states:
            return told
        time.sleep(0.1)
    raise AssertionError(f"{task} is {told['state']} ({told['line']}, {told['error']})")


def begun(browser: httpx.Client, task: str, evaluations: int = 20) -> dict[str, Any]:
    """The task, as soon as it has done some work."""
    end = time.monotonic() + 120
    while time.monotonic() < end:
        told: dict[str, Any] = browser.get(f"/api/tasks/{task}").json()
        if told["facts"].get("evaluations", 0) >= evaluations:
            return told
        assert told["state"] in ("queued", "running"), told
        time.sleep(0.05)
    raise AssertionError(told)
