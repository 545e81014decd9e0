"""Tasks from the first request to the potential."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from typing import Any

import httpx

Until = Callable[..., dict[str, Any]]


def submitted(browser: httpx.Client, config: dict[str, Any]) -> str:
    answer = browser.post(
        "/api/tasks", json={"kind": "forcefield", "config": config, "submit": True}
    )
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


def test_a_fit_runs_and_hands_out_a_potential(
    browser: httpx.Client, supervise: Until, silicon: dict[str, Any]
) -> None:
    task = submitted(browser, silicon)
    told = supervise(browser, task, "done", "failed")
    assert told["state"] == "done", told["error"]
    assert told["facts"]["best"] < 0.01
    assert told["progress"] == 1
    names = [one["name"] for one in browser.get(f"/api/tasks/{task}/downloads").json()]
    assert "potential.zip" in names
    answer = browser.get(f"/api/tasks/{task}/downloads/potential.zip")
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        assert "model.tersoff" in archive.namelist()


def test_a_paused_fit_goes_on(
    browser: httpx.Client, supervise: Until, silicon: dict[str, Any]
) -> None:
    task = submitted(browser, silicon | {"run": {"budget": 100_000}, "search": {"name": "cma"}})
    supervise(browser, task, "running")
    while not browser.get(f"/api/tasks/{task}").json()["facts"].get("evaluations"):
        supervise(browser, task, "running")
    assert browser.post(f"/api/tasks/{task}/pause").json()["state"] == "pausing"
    paused = supervise(browser, task, "paused")
    assert browser.post(f"/api/tasks/{task}/pause").status_code == 409
    browser.post(f"/api/tasks/{task}/resume")
    going = supervise(browser, task, "running")
    assert going["facts"]["evaluations"] >= paused["facts"]["evaluations"]
    browser.post(f"/api/tasks/{task}/cancel")
    supervise(browser, task, "cancelled")


def test_wrong_fields_are_told_by_name(browser: httpx.Client) -> None:
    asked = {"kind": "forcefield", "config": {"model": {"form": "tersoff"}}, "submit": True}
    answer = browser.post("/api/tasks", json=asked)
    assert answer.status_code == 422
    assert {"model.species", "parameters"} <= {one["field"] for one in answer.json()["problems"]}


def test_a_draft_is_kept_and_a_clone_is_a_draft(
    browser: httpx.Client, silicon: dict[str, Any]
) -> None:
    draft = browser.post("/api/tasks", json={"kind": "forcefield", "title": "mine"}).json()
    assert draft["state"] == "draft"
    changed = browser.patch(f"/api/tasks/{draft['id']}", json={"config": silicon})
    assert changed.json()["config"] == silicon
    clone = browser.post(f"/api/tasks/{draft['id']}/clone").json()
    assert (clone["state"], clone["config"], clone["parent"]) == ("draft", silicon, draft["id"])
    assert browser.delete(f"/api/tasks/{draft['id']}").status_code == 204
    assert browser.get(f"/api/tasks/{draft['id']}").status_code == 404
