"""What people see in a browser when something dies, and how they find what they look for."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import httpx
import pytest
from chromium import soon
from playwright.sync_api import Page, expect
from server import Server, begun, points, process_of, run_of, set_up, submitted, until
from studio_fits import DIAMOND, LONG, SILICON

AWAY = "The server does not answer"


class Returning(Server):
    """A server that comes back at its address."""

    def back(self) -> None:
        program = "import sys; from mlcore.cli import main; sys.exit(main(sys.argv[1:]))"
        port = self.address.rpartition(":")[2]
        words = ["studio", "--folder", str(self.folder), "--no-browser", "--port", port]
        self.process = subprocess.Popen(
            [sys.executable, "-c", program, *words],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        self._answering()


@pytest.fixture(scope="module")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Returning]:
    """A fit that was killed is gone on with once."""
    made = Returning(set_up(tmp_path_factory.mktemp("module") / "studio", "restarts = 1\n"))
    yield made
    made.close()


def looked_at(page: Page, task: str) -> None:
    """The page of a task that runs, marked so that a reload would be seen."""
    page.goto(f"/tasks/{task}")
    expect(page.locator("#state")).to_have_text("running")
    page.evaluate("window.stayed = true")


def test_a_page_outlives_its_server(studio: Returning, client: httpx.Client, page: Page) -> None:
    task = submitted(client, LONG)
    begun(client, task)
    looked_at(page, task)
    pid = process_of(task)
    away = page.locator("#notes").get_by_text(AWAY)
    studio.kill()
    expect(away).to_be_visible()
    before = page.locator("#line").text_content()
    studio.back()
    expect(away).to_have_count(0)
    expect(page.locator("#line")).not_to_have_text(before or "")
    evaluations = page.locator('[data-number="evaluations"] dd').first
    shown = evaluations.text_content()
    expect(evaluations).not_to_have_text(shown or "")
    assert process_of(task) == pid
    # what people ask for is done as before
    page.get_by_role("button", name="Cancel").click()
    expect(page.locator("#state")).to_have_text("cancelled")
    assert page.evaluate("window.stayed") is True


def test_a_fit_of_two_objectives_shows_its_front(
    studio: Returning, client: httpx.Client, page: Page
) -> None:
    stiff = DIAMOND | {"name": "stiff", "values": {"C11": 142, "C12": 75}}
    task = submitted(
        client,
        SILICON
        | {"targets": [DIAMOND, stiff], "objective": {"pareto": ["diamond", "stiff"]}}
        | {"search": {"name": "cma"}, "run": {"budget": 80}},
    )
    told = until(client, task, "done", "failed")
    assert told["state"] == "done", told["error"]
    front = json.loads((run_of(studio.folder, task) / "result.json").read_text())["front"]
    assert len(front) > 1
    page.goto(f"/tasks/{task}")
    plot = "document.querySelector('#figure-front-1 .plot')"
    soon(page, f"({plot}?.data?.length ?? 0) > 1")
    drawn = page.evaluate(f"{plot}.data.map((one) => [one.name, [...one.x], [...one.y]])")
    assert any(len(x) == len(y) == len(front) for _, x, y in drawn), drawn


def test_a_page_tells_that_its_fit_was_killed(
    studio: Returning, client: httpx.Client, page: Page
) -> None:
    task = submitted(client, LONG)
    begun(client, task)
    looked_at(page, task)
    state, line = page.locator("#state"), page.locator("#line")
    first = process_of(task)
    os.kill(first, signal.SIGKILL)
    expect(page.get_by_text("Its process was killed once and started again.")).to_be_visible()
    expect(state).to_have_text("running")
    os.kill(process_of(task, other=first), signal.SIGKILL)
    expect(state).to_have_text("failed")
    expect(line).to_have_text("its process was killed")
    expect(page.locator("#notes")).to_contain_text("The task is failed.")
    page.get_by_role("button", name="Go on").click()
    expect(state).to_have_text("running")
    expect(page.get_by_text("Its process was killed once")).to_have_count(0)
    told = client.get(f"/api/tasks/{task}").json()
    begun(client, task, told["facts"]["evaluations"] + 50)
    page.get_by_role("button", name="Cancel").click()
    expect(state).to_have_text("cancelled")
    assert page.evaluate("window.stayed") is True
    numbers = [one[0] for one in points(studio.folder, task)]
    assert numbers == list(range(len(numbers)))


def test_tasks_are_found_and_put_in_order(client: httpx.Client, page: Page) -> None:
    for title in ("Copper", "Nickel, soft", "Argon", "Nickel, hard", "Nickel, cold"):
        asked = {"kind": "forcefield", "title": title}
        assert client.post("/api/tasks", json=asked).status_code == 201
    page.goto("/")
    titles = page.locator("#tasks tbody td:nth-child(2) a")
    page.get_by_label("Search").press_sequentially("nickel")
    page.keyboard.press("Enter")
    expect(titles).to_have_text(["Nickel, cold", "Nickel, hard", "Nickel, soft"])
    head = page.get_by_role("columnheader", name="Task")
    for way, order in (
        ("descending", ["Nickel, soft", "Nickel, hard", "Nickel, cold"]),
        ("ascending", ["Nickel, cold", "Nickel, hard", "Nickel, soft"]),
    ):
        head.get_by_role("link").click()
        expect(head).to_have_attribute("aria-sort", way)
        expect(titles).to_have_text(order)
    page.get_by_role("columnheader", name="Changed").get_by_role("link").click()
    expect(titles).to_have_text(["Nickel, cold", "Nickel, hard", "Nickel, soft"])
    expect(page.get_by_label("Search")).to_have_value("nickel")
    page.get_by_label("Search").fill("unobtainium")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Nothing found")).to_be_visible()
