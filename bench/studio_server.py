"""A server in a process of its own, measured from outside."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import numpy as np

__all__ = ["memory", "milliseconds", "served"]

_PROGRAM = "import sys; from mlcore.cli import main; sys.exit(main(sys.argv[1:]))"


@contextlib.contextmanager
def served(folder: Path) -> Iterator[tuple[httpx.Client, int]]:
    """A browser that is logged in, and the number of the server's process; nothing of it stays."""
    words = ["studio", "--folder", str(folder), "--no-browser", "--port", "0"]
    command = [sys.executable, "-u", "-c", _PROGRAM, *words]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            found = re.search(r"(http://[^/]+)/login\?key=(\S+)", process.stdout.readline())
            assert found is not None
            with httpx.Client(base_url=found[1], timeout=60, follow_redirects=True) as browser:
                answered(browser, "/login")
                page = browser.get("/login", params={"key": found[2]}).text
                token = page.split('name="csrf" content="')[1].split('"')[0]
                browser.headers["X-CSRF-Token"] = token
                yield browser, process.pid
        finally:
            process.kill()
            process.wait()
            for module in ("supervisor", "work"):
                _end(f"mlcore.studio.{module}", folder)


def _end(module: str, folder: Path) -> None:
    """Those that outlive the server: groups of processes that run a module on its folder."""
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError, ValueError):
            words = (entry / "cmdline").read_bytes()
            if module.encode() in words and str(folder).encode() in words:
                os.killpg(int(entry.name), signal.SIGKILL)


def answered(browser: httpx.Client, path: str) -> None:
    """Wait until the server answers."""
    for _ in range(600):
        with contextlib.suppress(httpx.HTTPError):
            browser.get(path)
            return
        time.sleep(0.1)
    raise RuntimeError("the server does not answer")


def memory(pid: int) -> float:
    """MB that a process holds."""
    text = Path(f"/proc/{pid}/status").read_text()
    found = re.search(r"VmRSS:\s+(\d+) kB", text)
    assert found is not None
    return int(found[1]) / 1000


def milliseconds(run: Callable[[], object], times: int = 50) -> float:
    """Median of some runs."""
    found = []
    for _ in range(times):
        start = time.perf_counter()
        run()
        found.append(time.perf_counter() - start)
    return 1e3 * float(np.median(found))
