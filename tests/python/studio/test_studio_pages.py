"""Every page in a real browser: for everybody, in light and dark, and still while data arrive."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from ase.build import bulk
from ase.io import write
from axe_playwright_python.sync_playwright import Axe
from chromium import looked_at, settled, soon
from mlcore.studio.accounts import Accounts
from mlcore.studio.settings import Limits
from mlcore.studio.store import Store
from playwright.sync_api import Browser as Chromium
from playwright.sync_api import Page, expect
from server import Server, begun, run_of, until
from studio_fits import SILICON, planted

SIZES = ({"width": 1280, "height": 800}, {"width": 1440, "height": 900})
PUBLISHED = {
    "name": "silicon",
    "title": "Silicon, two parameters",
    "license": "CC-BY-4.0",
    "authors": ["A. Da"],
    "citation": ["A. Da, Journal of Tests 1, 1 (2026)"],
}


@pytest.fixture(scope="module")
def filled(studio: Server, client: httpx.Client) -> dict[str, str]:
    """Ids of what is there: a data set, a draft, a fit that is done and published, another like it."""
    text = io.StringIO()
    write(text, [bulk("Si", a=a, cubic=True) for a in (5.2, 5.4, 5.6)], format="extxyz")
    answer = client.post("/api/uploads", files={"files": ("si.extxyz", text.getvalue().encode())})
    assert answer.status_code == 201, answer.text
    data = answer.json()["id"]
    draft = client.post("/api/tasks", json={"kind": "forcefield"}).json()["id"]
    asked = {"kind": "forcefield", "config": SILICON, "submit": True, "title": "Silicon"}
    done = client.post("/api/tasks", json=asked).json()["id"]
    until(client, done, "done")
    answer = client.post(f"/api/tasks/{done}/publish", json=PUBLISHED)
    assert answer.status_code == 201, answer.text
    store = Store(studio.folder)
    other = planted(store, "local", run_of(studio.folder, done))
    store.close()
    return {"data": data, "draft": draft, "done": done, "other": other}


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
    "published": "/library/silicon",
    "account": "/account",
    "users": "/users",
    "nothing": "/nothing",
    "nothing to compare": "/compare",
}


DRAWN = ("task", "compare", "data set", "model", "draft model")
"""Pages that draw something."""


@pytest.fixture
def running(client: httpx.Client) -> Iterator[str]:
    """Id of a fit of more than an hour that was just submitted."""
    config = SILICON | {"run": {"budget": 2_000_000, "seed": 3}, "search": {"name": "cma"}}
    asked = {"kind": "forcefield", "config": config, "submit": True, "title": "Silicon, at length"}
    answer = client.post("/api/tasks", json=asked)
    assert answer.status_code == 201, answer.text
    task = answer.json()["id"]
    yield task
    client.post(f"/api/tasks/{task}/cancel")
    until(client, task, "cancelled")


@pytest.mark.parametrize("name", PAGES)
def test_pages_are_for_everybody(page: Page, filled: dict[str, str], name: str) -> None:
    page.emulate_media(reduced_motion="reduce", color_scheme="light")
    page.goto(PAGES[name].format(**filled))
    if name in DRAWN:
        expect(page.locator(".js-plotly-plot").first).to_be_attached()
    for_everybody(page)


@pytest.mark.parametrize("users", [False, True], ids=["by key", "by name"])
def test_logging_in_is_for_everybody(chromium: Chromium, tmp_path: Path, users: bool) -> None:
    folder = tmp_path / "studio"
    if users:
        store = Store(folder)
        Accounts(store, Limits()).add("ada", "correct horse battery")
        store.close()
    server = Server(folder)
    try:
        with looked_at(chromium, server.address, reduced_motion="reduce") as page:
            page.goto("/login")
            if users:
                page.get_by_label("Name").fill("ada")
                page.get_by_label("Password").fill("not the password")
                page.get_by_role("button", name="Log in").click()
                expect(page.get_by_role("alert")).to_contain_text("wrong")
            for_everybody(page)
    finally:
        server.close()


def test_a_running_fit_is_for_everybody(page: Page, client: httpx.Client, running: str) -> None:
    begun(client, running)
    page.emulate_media(reduced_motion="reduce")
    page.goto(f"/tasks/{running}")
    expect(page.locator(".js-plotly-plot").first).to_be_attached()
    for_everybody(page)
    expect(page.locator("#state")).to_have_text("running")


def for_everybody(page: Page) -> None:
    """Nothing that axe finds, and nothing beyond the window: in light, in dark, in a wider window."""
    assert page.locator("h1").count() == 1
    grounds = set()
    for scheme, size in (("light", SIZES[0]), ("dark", SIZES[0]), ("light", SIZES[1])):
        page.set_viewport_size(size)  # type: ignore[arg-type]
        page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
        settled(page)
        grounds.add(page.evaluate("getComputedStyle(document.body).backgroundColor"))
        found = Axe().run(page)
        seen = f"{scheme}, {size['width']} wide"
        assert found.violations_count == 0, f"{seen}: {found.generate_report()}"
        wide = page.evaluate("document.documentElement.scrollWidth - innerWidth")
        assert wide <= 0, f"{seen}: {wide} pixels are beyond the window"
    assert len(grounds) == 2


WATCH = """() => {
  window.moved = [];
  const what = (one) => one.node?.id || one.node?.className || one.node?.nodeName;
  new PerformanceObserver((list) => {
    for (const one of list.getEntries())
      window.moved.push([one.value, one.sources.map(what).join(" ")]);
  }).observe({ type: "layout-shift", buffered: true });
}"""
"""Keeps every shift of the layout since the page was loaded, and what moved."""


@pytest.mark.parametrize("size", SIZES, ids=["1280", "1440"])
def test_a_running_fit_stays_where_it_is(
    page: Page, filled: dict[str, str], running: str, size: dict[str, int]
) -> None:
    """From before its first figures on, while data arrive: below what browsers' makers call good."""
    page.set_viewport_size(size)  # type: ignore[arg-type]
    page.goto(f"/tasks/{running}")
    page.evaluate(WATCH)
    expect(page.locator(".js-plotly-plot").first).to_be_visible()
    line = page.locator("#line")
    for _ in range(4):
        before = line.text_content() or ""
        expect(line).not_to_have_text(before)
        page.wait_for_timeout(1500)
    assert page.locator("#state").text_content() == "running"
    moved = page.evaluate("window.moved")
    assert sum(value for value, _ in moved) < 0.1, moved


def test_what_moves_is_seen(page: Page) -> None:
    page.goto("/account")
    page.evaluate(WATCH)
    settled(page)
    page.evaluate("document.querySelector('main').style.paddingTop = '300px'")
    soon(page, "window.moved.some(([value]) => value >= 0.1)")
