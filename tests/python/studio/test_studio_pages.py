"""Every page in a real browser: for everybody, in light and dark, and still while data arrive."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from chromium import launched, looked_at
from playwright.sync_api import Browser, Page, expect
from server import Server, until


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with launched() as browser:
        yield browser


@pytest.fixture(scope="module")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    made = Server(tmp_path_factory.mktemp("pages") / "studio")
    yield made
    made.close()


@pytest.fixture(scope="module")
def filled(
    studio: Server, module_silicon: dict, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, str]:  # type: ignore[type-arg]
    """Ids of what is there: a data set, a draft, a fit that is done, one that was cancelled."""
    from ase.build import bulk
    from ase.io import write

    file: Path = tmp_path_factory.mktemp("data") / "silicon.extxyz"
    frames = [bulk("Si", a=a, cubic=True) for a in (5.2, 5.4, 5.6)]
    write(file, frames)
    with studio.browser() as browser:
        with file.open("rb") as stream:
            answer = browser.post("/api/uploads", files={"files": (file.name, stream)})
        assert answer.status_code == 201, answer.text
        draft = browser.post("/api/tasks", json={"kind": "forcefield"}).json()["id"]
        asked = {"kind": "forcefield", "config": module_silicon, "submit": True, "title": "Silicon"}
        tasks = [browser.post("/api/tasks", json=asked).json()["id"] for _ in range(2)]
        for task in tasks:
            until(browser, task, "done")
        cookie = browser.cookies["mlcore_studio"]
    ids = {"data": answer.json()["id"], "draft": draft, "done": tasks[0], "other": tasks[1]}
    return ids | {"cookie": cookie}


PAGES = {
    "dashboard": "/",
    "new": "/new",
    "draft model": "/drafts/{draft}/model",
    "draft data": "/drafts/{draft}/data",
    "draft objective": "/drafts/{draft}/objective",
    "draft optimisation": "/drafts/{draft}/optimisation",
    "draft submit": "/drafts/{draft}/submit",
    "task": "/tasks/{done}",
    "compare": "/compare?task={done}&task={other}",
    "data": "/data",
    "data set": "/data/{data}",
    "models": "/models",
    "model": "/models/tersoff",
    "library": "/library",
    "account": "/account",
    "nothing": "/nothing",
}


DRAWN = ("task", "compare", "data set", "model", "draft model")
"""Pages that draw something."""


def opened(studio: Server, page: Page, path: str, filled: dict[str, str]) -> None:
    cookie = {"name": "mlcore_studio", "value": filled["cookie"], "url": studio.address}
    page.context.add_cookies([cookie])  # type: ignore[list-item]
    page.goto(path.format(**filled))
    page.wait_for_load_state("load")
    page.wait_for_timeout(700)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", PAGES)
def test_pages_are_for_everybody(
    chromium: Browser, studio: Server, filled: dict[str, str], name: str, scheme: str
) -> None:
    with looked_at(chromium, studio.address, color_scheme=scheme, reduced_motion="reduce") as page:
        opened(studio, page, PAGES[name], filled)
        assert page.locator("h1").count() == 1
        if name in DRAWN:
            expect(page.locator(".js-plotly-plot").first).to_be_attached(timeout=60_000)
        found = Axe().run(page)
        assert found.violations_count == 0, found.generate_report()
        wide = page.evaluate("document.documentElement.scrollWidth - innerWidth")
        assert wide <= 0, f"{wide} pixels are beyond the window"
