"""New tasks: the wizard's pages, what it asks the server for, and the way to a running fit."""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Any

import httpx
import pytest
from ase.io import write
from chromium import Clicks
from mlcore.forcefield.config.begin import silicon_data
from mlcore.forcefield.config.targets import sections
from mlcore.forcefield.search import names
from mlcore.studio.kinds import kinds
from playwright.sync_api import Page, expect
from server import until

MOST_CLICKS = 8


@pytest.fixture(scope="module")
def structures() -> str:
    """Fifteen structures of silicon as extxyz."""
    text = io.StringIO()
    write(text, list(silicon_data()), format="extxyz")
    return text.getvalue()


def uploaded(browser: httpx.Client, text: str) -> str:
    answer = browser.post("/api/uploads", files={"files": ("silicon.extxyz", text.encode())})
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


def drafted(browser: httpx.Client, config: dict[str, Any], **more: Any) -> str:
    answer = browser.post("/api/tasks", json={"kind": "forcefield", "config": config, **more})
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


# -- pages -----------------------------------------------------------------------------------------
def test_every_kind_is_offered(browser: httpx.Client) -> None:
    page = browser.get("/new").text
    assert all(f"kind={name}" in page and kind.title in page for name, kind in kinds().items())
    assert browser.get("/new", params={"kind": "nothing"}).status_code == 404


def test_data_are_preselected(browser: httpx.Client) -> None:
    page = browser.get("/new", params={"kind": "forcefield", "upload": "abc"}).text
    assert 'data-upload="abc"' in page


def test_a_draft_opens_where_something_is_wrong(
    browser: httpx.Client, silicon: dict[str, Any]
) -> None:
    right = drafted(browser, silicon)
    wrong = drafted(browser, silicon | {"run": {"budget": 0}})
    assert browser.get(f"/drafts/{right}").url.path == f"/drafts/{right}/model"
    assert browser.get(f"/drafts/{wrong}").url.path == f"/drafts/{wrong}/optimisation"


def test_a_task_that_was_submitted_is_no_draft(
    browser: httpx.Client, silicon: dict[str, Any]
) -> None:
    task = drafted(browser, silicon, submit=True)
    for path in ("", "/model"):
        answer = browser.get(f"/drafts/{task}{path}", follow_redirects=False)
        assert (answer.status_code, answer.headers["location"]) == (303, f"/tasks/{task}")


def test_every_step_of_every_kind_is_a_page(browser: httpx.Client) -> None:
    for name, kind in kinds().items():
        task = browser.post("/api/tasks", json={"kind": name}).json()["id"]
        for step in kind.steps:
            answer = browser.get(f"/drafts/{task}/{step.name}")
            assert answer.status_code == 200
            assert 'aria-current="step"' in answer.text
        assert browser.get(f"/drafts/{task}/nothing").status_code == 404


def test_drafts_of_others_are_not_there(
    two: tuple[httpx.Client, httpx.Client], silicon: dict[str, Any], structures: str
) -> None:
    ada, ben = two
    task, upload = drafted(ada, silicon), uploaded(ada, structures)
    assert ben.get(f"/drafts/{task}").status_code == 404
    assert ben.get(f"/drafts/{task}/model").status_code == 404
    assert ben.post(f"/api/tasks/{task}/cost").status_code == 404
    assert ben.post("/api/suggestions", json={"upload": upload}).status_code == 404


# -- what it asks for ------------------------------------------------------------------------------
def test_a_suggestion_can_be_submitted_as_it_is(browser: httpx.Client, structures: str) -> None:
    upload = uploaded(browser, structures)
    told = browser.post("/api/suggestions", json={"upload": upload}).json()
    assert told["config"]["data"]["folder"] == f"upload:{upload}/data"
    assert told["notes"]
    asked = {"config": told["config"]}
    assert browser.post("/api/kinds/forcefield/check", json=asked).json() == []


def test_all_searches_and_targets_are_told(browser: httpx.Client) -> None:
    assert {one["name"] for one in browser.get("/api/searches").json()} == set(names())
    told = {one["type"]: one for one in browser.get("/api/targets").json()}
    assert told.keys() == sections().keys()
    assert told["density"]["tier"] == "md"


def test_cost_is_measured(browser: httpx.Client, silicon: dict[str, Any]) -> None:
    task = drafted(browser, silicon | {"run": {"budget": 5000}}, workers=1)
    told = browser.post(f"/api/tasks/{task}/cost").json()
    assert told["evaluations"] > 0
    assert told["seconds"] > 0
    assert told["targets"] == 4
    expected = told["startup"] + 5000 * told["seconds"]
    assert told["whole"] == pytest.approx(expected)
    assert told["failed"] == 0


def test_cost_tells_why_candidates_fail(browser: httpx.Client, silicon: dict[str, Any]) -> None:
    # most of this range lies beyond the largest cutoff
    free = {"R": {"lower": 2.8, "upper": 5.9, "initial": 2.85}}
    config = silicon | {"parameters": {"free": free}, "run": {"budget": 60, "cutoff_cap": 3.1}}
    told = browser.post(f"/api/tasks/{drafted(browser, config)}/cost").json()
    assert 0 < told["failed"] < told["evaluations"]
    assert any("cutoff" in words for words in told["failures"])


def test_cost_of_what_cannot_be_run_is_refused(
    browser: httpx.Client, silicon: dict[str, Any]
) -> None:
    answer = browser.post(f"/api/tasks/{drafted(browser, silicon | {'search': 3})}/cost")
    assert answer.status_code == 422
    assert answer.json()["problems"]
    other = browser.post("/api/tasks", json={"kind": "integrators"}).json()["id"]
    assert browser.post(f"/api/tasks/{other}/cost").status_code == 409


# -- in a browser ----------------------------------------------------------------------------------
def test_a_first_time_user_has_a_running_fit_within_eight_clicks(
    page: Page, client: httpx.Client, structures: str, tmp_path: Path
) -> None:
    file = tmp_path / "silicon.extxyz"
    file.write_text(structures)
    clicks = Clicks(page)
    page.goto("/")
    clicks.on("New task")
    clicks.on("Fit a force field")
    page.get_by_label("Name").fill("My first fit")
    clicks.file(file)
    page.wait_for_url(re.compile(r"/drafts/\w+/model"))
    for step in ("Data", "Objective", "Optimisation", "Submit"):
        clicks.on(f"Next: {step}")
        page.wait_for_url(re.compile(f"/{step.lower()}$"))
    expect(page.get_by_text("Nothing is wrong")).to_be_visible()
    clicks.on("Submit", "button")
    page.wait_for_url(re.compile(r"/tasks/\w+$"))
    assert clicks.count <= MOST_CLICKS, clicks.count
    task = page.url.rpartition("/")[2]
    told = until(client, task, "running", "done")
    assert told["title"] == "My first fit"


def test_a_browser_that_is_closed_loses_nothing(
    page: Page, client: httpx.Client, silicon: dict[str, Any]
) -> None:
    task = drafted(client, silicon)
    page.goto(f"/drafts/{task}/optimisation")
    page.get_by_label("Budget, evaluations").fill("777")
    page.get_by_label("Seed").fill("5")
    expect(page.locator("#saved")).to_have_text("saved")
    page.goto("about:blank")
    assert client.get(f"/api/tasks/{task}").json()["config"]["run"] == {"budget": 777, "seed": 5}


def test_a_problem_stands_beside_its_field_and_is_counted(
    page: Page, client: httpx.Client, silicon: dict[str, Any]
) -> None:
    page.goto(f"/drafts/{drafted(client, silicon)}/optimisation")
    budget = page.get_by_label("Budget, evaluations")
    budget.fill("many")
    expect(budget).to_have_attribute("aria-invalid", "true")
    words = page.locator(f"#{budget.get_attribute('aria-describedby')}")
    expect(words).to_contain_text("integer")
    expect(page.get_by_role("link", name="Optimisation").first).to_contain_text("1 problem")
    budget.fill("100")
    expect(budget).not_to_have_attribute("aria-invalid", "true")


def test_elements_are_chosen_by_keyboard(
    page: Page, client: httpx.Client, silicon: dict[str, Any]
) -> None:
    task = drafted(client, silicon)
    page.goto(f"/drafts/{task}/model")
    page.get_by_role("button", name="Si", exact=True).focus()
    page.keyboard.press("ArrowUp")
    page.keyboard.press("Enter")
    expect(page.get_by_role("button", name="C", exact=True)).to_have_attribute(
        "aria-pressed", "true"
    )
    expect(page.locator("#saved")).to_have_text("saved")
    config = client.get(f"/api/tasks/{task}").json()["config"]
    assert config["model"]["species"] == ["Si", "C"]
    assert all(name.count("_") for name in config["parameters"]["free"])


def test_a_model_that_was_played_with_is_fitted(page: Page, client: httpx.Client) -> None:
    page.goto("/models/morse?species=Cu")
    slider = page.get_by_label("slider of D0")
    before = page.get_by_label("initial value of D0").input_value()
    slider.focus()
    with page.expect_response(re.compile("/curve$")):
        page.keyboard.press("PageUp")
    expect(page.get_by_label("initial value of D0")).not_to_have_value(before)
    page.get_by_label("D0 is free").check()
    page.get_by_role("button", name="Fit this").click()
    page.wait_for_url(re.compile(r"/drafts/\w+/data"))
    config = client.get(f"/api/tasks/{page.url.split('/')[-2]}").json()["config"]
    assert config["model"] == {"form": "morse", "species": ["Cu"]}
    assert list(config["parameters"]["free"]) == ["D0"]


def test_all_that_is_wrong_stands_beside_its_fields_at_once(
    page: Page, client: httpx.Client, silicon: dict[str, Any]
) -> None:
    free = {"A": {"lower": 9e9}, "B": {"lower": "low"}, "lam1": {"within": 0.2}}
    parameters = {"free": free, "ties": {"n": "2*("}, "constraints": ["A > B", "R >"]}
    wrong = silicon | {"parameters": parameters, "run": {"budget": 0}}
    page.goto(f"/drafts/{drafted(client, wrong)}/model")
    for name, words in (
        ("A is free", "below upper"),
        ("lower bound of B", "valid number"),
        ("tie of n", "cannot be read"),
    ):
        cell = page.get_by_role("cell").filter(has=page.get_by_label(name, exact=True))
        expect(cell.locator(".said")).to_contain_text(words)
    expect(page.locator(".said").filter(has_text="line 2")).to_contain_text("constraint 'R >'")
    for step, count in (("model", "4 problems"), ("optimisation", "1 problem")):
        expect(page.locator(f'.steps [data-step="{step}"]')).to_contain_text(count)
