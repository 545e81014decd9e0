"""Every page in a real browser: for everybody, in light and dark, and still while data arrive."""

from __future__ import annotations

import io

import httpx
import pytest
from ase.build import bulk
from ase.io import write
from axe_playwright_python.sync_playwright import Axe
from chromium import settled
from mlcore.studio.store import Store
from playwright.sync_api import Page, expect
from server import Server, until
from studio_fits import SILICON, planted


@pytest.fixture(scope="module")
def filled(studio: Server, client: httpx.Client) -> dict[str, str]:
    """Ids of what is there: a data set, a draft, a fit that is done and another like it."""
    text = io.StringIO()
    write(text, [bulk("Si", a=a, cubic=True) for a in (5.2, 5.4, 5.6)], format="extxyz")
    answer = client.post("/api/uploads", files={"files": ("si.extxyz", text.getvalue().encode())})
    assert answer.status_code == 201, answer.text
    draft = client.post("/api/tasks", json={"kind": "forcefield"}).json()["id"]
    asked = {"kind": "forcefield", "config": SILICON, "submit": True, "title": "Silicon"}
    done = client.post("/api/tasks", json=asked).json()["id"]
    until(client, done, "done")
    (run,) = studio.folder.glob(f"users/*/tasks/{done}/run")
    store = Store(studio.folder)
    other = planted(store, "local", run)
    store.close()
    return {"data": answer.json()["id"], "draft": draft, "done": done, "other": other}


PAGES = {
    "dashboard": "/",
    "new": "/new",
    "new fit": "/new?kind=forcefield",
    "new mobility": "/new?kind=mobility&upload={data}",
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
    "nothing to compare": "/compare",
}


DRAWN = ("task", "compare", "data set", "model", "draft model")
"""Pages that draw something."""


@pytest.mark.parametrize("name", PAGES)
def test_pages_are_for_everybody(page: Page, filled: dict[str, str], name: str) -> None:
    page.emulate_media(reduced_motion="reduce", color_scheme="light")
    page.goto(PAGES[name].format(**filled))
    if name in DRAWN:
        expect(page.locator(".js-plotly-plot").first).to_be_attached(timeout=60_000)
    assert page.locator("h1").count() == 1
    grounds = set()
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        settled(page)
        grounds.add(page.evaluate("getComputedStyle(document.body).backgroundColor"))
        found = Axe().run(page)
        assert found.violations_count == 0, f"{scheme}: {found.generate_report()}"
    assert len(grounds) == 2
    wide = page.evaluate("document.documentElement.scrollWidth - innerWidth")
    assert wide <= 0, f"{wide} pixels are beyond the window"
