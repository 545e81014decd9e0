"""What people see in a browser when something dies, and how they find what they look for."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from chromium import PATIENCE, soon
from playwright.sync_api import Page, expect
from server import Server, begun, until
from studio_fits import DIAMOND, SILICON

LONG = SILICON | {"run": {"budget": 2_000_000, "seed": 3}, "search": {"name": "cma"}}
"""A fit of more than an hour."""

AWAY = "The server does not answer"
expect.set_options(timeout=PATIENCE)


class Returning(Server):
    """A server that comes back at its address."""

    def back(self) -> None:
        program = "import sys; from mlcore.cli import main; sys.exit(main(sys.argv[1:]))"
        port = self.address.rpartition(":")[2]
        words = ["studio", "--folder", str(self.folder), "--no-browser", "--port", port]
        self.process = subprocess.Popen(
            [sys.executable, "-c", program, *words],
            stdout=subprocess.DEVNULL,
            start_new_session=True,
        )
        self._answering()


@pytest.fixture(scope="module")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Returning]:
    """A fit that was killed is gone on with once."""
    folder = tmp_path_factory.mktemp("module") / "studio"
    folder.mkdir()
    (folder / "studio.toml").write_text("restarts = 1\n")
    made = Returning(folder)
    yield made
    made.close()


def submitted(client: httpx.Client, config: dict[str, Any]) -> str:
    asked = {"kind": "forcefield", "config": config, "submit": True, "engine": "serial"}
    answer = client.post("/api/tasks", json=asked)
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


def looked_at(page: Page, task: str) -> None:
    """The page of a task that runs, marked so that a reload would be seen."""
    page.goto(f"/tasks/{task}")
    expect(page.locator("#state")).to_have_text("running")
    page.evaluate("window.stayed = true")


def process_of(task: str) -> int:
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                words = (entry / "cmdline").read_bytes()
            except OSError:
                continue
            if b"mlcore.studio.work" in words and task.encode() in words:
                return int(entry.name)
    raise AssertionError("no process runs the task")


def run_of(studio: Server, task: str) -> Path:
    (run,) = studio.folder.glob(f"users/*/tasks/{task}/run")
    return run


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
    front = json.loads((run_of(studio, task) / "result.json").read_text())["front"]
    assert len(front) > 1
    page.goto(f"/tasks/{task}")
    plot = "document.querySelector('#figure-front-1 .plot')"
    soon(page, f"({plot}?.data?.length ?? 0) > 1")
    drawn = page.evaluate(f"{plot}.data.map((one) => [one.name, [...one.x], [...one.y]])")
    assert any(len(x) == len(y) == len(front) for _, x, y in drawn), drawn
