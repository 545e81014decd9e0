"""A studio in a folder of its own: in this process, or as people start it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from chromium import launched, looked_at
from fastapi import FastAPI
from fastapi.testclient import TestClient
from mlcore.studio.app import create
from mlcore.studio.settings import Settings
from mlcore.studio.supervisor import Supervisor
from playwright.sync_api import Browser as Chromium
from playwright.sync_api import Page
from server import Server
from studio_fits import SILICON

PASSWORD = "correct horse battery"


class Browser(TestClient):
    """A browser that is logged in: it has a cookie and sends the page's token back."""

    def __init__(self, app: FastAPI, name: str | None = None) -> None:
        super().__init__(app, base_url="http://127.0.0.1:8750", raise_server_exceptions=False)
        if name is None:
            self.get("/login", params={"key": app.state.studio.key})
        else:
            answer = self.post("/api/login", json={"name": name, "password": PASSWORD})
            assert answer.status_code == 200, answer.text
        page = self.get("/").text
        self.headers["X-CSRF-Token"] = page.split('name="csrf" content="')[1].split('"')[0]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "studio"


@pytest.fixture
def app(folder: Path) -> FastAPI:
    """For one user."""
    return create(folder, Settings.load(folder), supervised=False)


@pytest.fixture
def browser(app: FastAPI) -> Iterator[Browser]:
    with Browser(app) as made:
        yield made


@pytest.fixture
def two(folder: Path) -> Iterator[tuple[Browser, Browser]]:
    """Two people in one studio."""
    app = create(folder, Settings.load(folder).model_copy(update={"users": True}), supervised=False)
    for name in ("ada", "ben"):
        app.state.studio.accounts.add(name, PASSWORD)
    with Browser(app, "ada") as ada, Browser(app, "ben") as ben:
        yield ada, ben


@pytest.fixture
def supervise(app: FastAPI) -> Iterator[Callable[..., dict[str, Any]]]:
    """Run tasks here until one is in a state that is waited for: ``supervise(client, id, "done")``."""
    studio = app.state.studio
    supervisor = Supervisor(studio.store, studio.settings)

    def until(client: httpx.Client, task: str, *states: str, seconds: float = 90) -> dict[str, Any]:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            supervisor.tick()
            told: dict[str, Any] = client.get(f"/api/tasks/{task}").json()
            if told["state"] in states:
                return told
            time.sleep(0.1)
        raise AssertionError(f"{task} is {told['state']} ({told['line']}, {told['error']})")

    yield until
    for child in supervisor._children.values():
        child.kill()
        child.wait()


@pytest.fixture
def silicon() -> dict[str, Any]:
    """Config of a fit of some seconds that needs no files."""
    return SILICON


# -- as people start it ----------------------------------------------------------------------------
@pytest.fixture
def served(folder: Path) -> Iterator[Server]:
    """A studio in a process of its own."""
    made = Server(folder)
    yield made
    made.close()


@pytest.fixture(scope="module")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A studio in a process of its own, the same for all tests of a module."""
    made = Server(tmp_path_factory.mktemp("module") / "studio")
    yield made
    made.close()


@pytest.fixture(scope="module")
def client(studio: Server) -> Iterator[httpx.Client]:
    """Somebody who is logged in there."""
    with studio.browser() as made:
        yield made


@pytest.fixture(scope="module")
def chromium() -> Iterator[Chromium]:
    with launched() as made:
        yield made


@pytest.fixture
def page(chromium: Chromium, studio: Server, client: httpx.Client) -> Iterator[Page]:
    """A page of a browser, logged in as ``client`` is."""
    with looked_at(chromium, studio.address, cookie=client.cookies["mlcore_studio"]) as made:
        yield made
