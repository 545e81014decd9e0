"""Debian's Chromium, driven from outside; nothing of the network is there for it."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

__all__ = ["launched", "looked_at"]

NAMES = ("chromium", "chromium-browser", "google-chrome")
SIZE = {"width": 1280, "height": 800}


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
def looked_at(browser: Browser, address: str, **options: Any) -> Iterator[Page]:
    """A page of a fresh profile. Errors in its console, and requests elsewhere, fail the test."""
    context = browser.new_context(viewport=SIZE, base_url=address, **options)
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


def _ours(text: str) -> bool:
    # answers that refuse are told by Chromium too, and looked at by the tests
    return "Failed to load resource" not in text
