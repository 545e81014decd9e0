"""Debian's Chromium, driven from outside; nothing of the network is there for it."""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

__all__ = ["PATIENCE", "Clicks", "launched", "looked_at", "settled", "soon"]

NAMES = ("chromium", "chromium-browser", "google-chrome")
SIZE = {"width": 1280, "height": 800}
PATIENCE = 120_000  # ms
expect.set_options(timeout=PATIENCE)


@contextlib.contextmanager
def launched() -> Iterator[Browser]:
    """A browser; the test is skipped where there is none."""
    path = next(filter(None, map(shutil.which, NAMES)), None)
    if path is None:
        pytest.skip("no Chromium: apt install chromium")
    words = [
        "--no-sandbox",
        "--use-gl=angle",
        "--use-angle=swiftshader",
        "--enable-unsafe-swiftshader",
    ]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=words)
        yield browser
        browser.close()


@contextlib.contextmanager
def looked_at(
    browser: Browser, address: str, *, cookie: str | None = None, **options: Any
) -> Iterator[Page]:
    """A page of a fresh profile. Errors in its console, and requests elsewhere, fail the test.

    ``cookie``: of somebody who is logged in.
    """
    context = browser.new_context(viewport=SIZE, base_url=address, **options)
    if cookie is not None:
        context.add_cookies([{"name": "mlcore_studio", "value": cookie, "url": address}])
    # machines that test have more to do
    context.set_default_timeout(PATIENCE)
    wrong: list[str] = []
    page = context.new_page()
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on(
        "console",
        lambda said: wrong.append(said.text) if said.type == "error" and _ours(said.text) else None,
    )

    def elsewhere(route: Any) -> None:
        wrong.append(f"asks {route.request.url}")
        route.abort()

    context.route(lambda url: not url.startswith((address, "blob:", "data:")), elsewhere)
    yield page
    context.close()
    assert not wrong, wrong


class Clicks:
    """What a person clicks on a page, counted."""

    def __init__(self, page: Page) -> None:
        self.page, self.count = page, 0

    def on(self, name: str, role: Literal["link", "button"] = "link") -> None:
        self.count += 1
        self.page.get_by_role(role, name=name).first.click()

    def file(self, path: Path) -> None:
        """Hand a file to the place where files are dropped."""
        self.count += 1
        with self.page.expect_file_chooser() as asked:
            self.page.locator("#drop").click()
        asked.value.set_files(path)


def settled(page: Page, quiet: int = 200, most: int = 5000) -> None:
    """Until nothing of the page has changed for some ms; at most for so many."""
    page.evaluate(
        """([quiet, most]) => new Promise((ready) => {
          let timer = setTimeout(ready, quiet);
          const again = () => { clearTimeout(timer); timer = setTimeout(ready, quiet); };
          const all = { subtree: true, childList: true, attributes: true, characterData: true };
          new MutationObserver(again).observe(document, all);
          setTimeout(ready, most);
        })""",
        [quiet, most],
    )


def soon(page: Page, what: str) -> None:
    """Until this is true on the page, whose policy forbids Playwright to wait for it by itself."""
    end = time.monotonic() + PATIENCE / 1000
    while not page.evaluate(what):
        assert time.monotonic() < end, what
        page.wait_for_timeout(50)


def _ours(text: str) -> bool:
    # answers that refuse are told by Chromium too, and looked at by the tests
    return "Failed to load resource" not in text
