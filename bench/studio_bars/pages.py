"""The dashboard with many tasks: its time, and what a thousand loads leave behind; a peer's beside it."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
from bars import Bars, Measured
from mlcore.studio.store import State, Store, Task, User
from sqlalchemy import select
from studio_server import answered, memory, milliseconds, served

TASKS, LOADS = 1000, 1000


def filled(folder: Path, count: int = TASKS) -> None:
    """Finished tasks of the one user."""
    store, random = Store(folder), np.random.default_rng(0)
    with store.session() as session:
        user = session.scalars(select(User)).one()
        for k in range(count):
            facts = {"best": float(random.random()), "evaluations": 1000, "budget": 1000}
            config = {"model": {"form": "tersoff", "species": ["Si"]}, "run": {"budget": 1000}}
            session.add(
                Task(
                    user_id=user.id, kind="forcefield", title=f"Silicon, seed {k}", config=config,
                    state=State.DONE, engine="processes", workers=2, progress=1.0, facts=facts,
                    line="1000 of 1000 evaluations, best 0.0123", seconds=float(100 * random.random()),
                )
            )  # fmt: skip
    store.close()


def dashboard() -> Iterator[Measured]:
    """G3, tenfold: a thousand finished tasks."""
    with tempfile.TemporaryDirectory() as name, served(Path(name)) as (browser, pid):
        filled(Path(name))
        for words, path in (
            ("first page", "/"),
            ("last page, by time", "/?sort=seconds&offset=950"),
            ("search", "/?search=seed+99"),
        ):
            spent = milliseconds(lambda path=path: browser.get(path).raise_for_status())
            yield Measured(f"dashboard of {TASKS} tasks, {words}: ms", spent, most=300)
        for _ in range(100):
            browser.get("/")
        before = memory(pid)
        for _ in range(LOADS):
            browser.get("/")
        yield Measured(f"MB more after {LOADS} loads", memory(pid) - before, most=2)
        yield Measured("MB in all", memory(pid))


_PEER = """
from nicegui import app, ui

ROWS = [{"id": k, "title": f"Silicon, seed {k}", "kind": "Fit a force field", "state": "done",
         "line": "1000 of 1000 evaluations, best 0.0123", "time": f"{k} s"} for k in range(50)]
COLUMNS = [{"name": n, "label": n, "field": n, "sortable": True} for n in ROWS[0]]

@ui.page("/")
def page():
    ui.label("Tasks").classes("text-h5")
    ui.input("Search")
    ui.table(columns=COLUMNS, rows=ROWS, row_key="id")

ui.run(host="127.0.0.1", port=%d, show=False, reload=False)
"""


def peer() -> Iterator[Measured]:
    """The same fifty rows by NiceGUI, loaded as often; no browser opens its socket."""
    if importlib.util.find_spec("nicegui") is None:
        print("  left out: nicegui is not installed")
        return
    port = 8797
    with subprocess.Popen([sys.executable, "-c", _PEER % port]) as process:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as browser:
            answered(browser, "/")
            yield Measured("fifty rows by NiceGUI: ms", milliseconds(lambda: browser.get("/")))
            for _ in range(50):
                browser.get("/")
            before = memory(process.pid)
            for _ in range(LOADS):
                browser.get("/")
            yield Measured(f"MB more after {LOADS} loads", memory(process.pid) - before)
            time.sleep(90)
            yield Measured("MB of that still there after 90 s", memory(process.pid) - before)
            yield Measured("MB in all", memory(process.pid))
        process.terminate()


bars: Bars = {"dashboard": dashboard, "peer: NiceGUI": peer}
