"""The forms of mobilities, integrators and cells in Chromium: from a file to a running task."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import httpx
import pytest
from axe_playwright_python.sync_playwright import Axe
from chromium import PATIENCE, Clicks, looked_at, settled
from kind_files import free, life, wells
from playwright.sync_api import Browser, Page, Route, TimeoutError, expect
from server import Server, set_up, until

MOST_CLICKS = 8
ADDRESSES = {"Runs": "optimisation"}
"""Of steps that are called otherwise."""
ENGINES = (
    '[engines.processes]\nname = "processes"\nworkers = 2\n[engines.serial]\nname = "serial"\n'
)


@pytest.fixture(scope="module")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Whose tasks may have two cores, however many there are."""
    made = Server(set_up(tmp_path_factory.mktemp("module") / "studio", ENGINES))
    yield made
    made.close()


def as_client(
    chromium: Browser, studio: Server, client: httpx.Client, **options: Any
) -> AbstractContextManager[Page]:
    """A page of a browser that is logged in as ``client`` is."""
    cookie = client.cookies["mlcore_studio"]
    return looked_at(chromium, studio.address, cookie=cookie, **options)


def sent(client: httpx.Client, *files: Path) -> str:
    answer = client.post("/api/uploads", files=[("files", (f.name, f.read_bytes())) for f in files])
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


def drafted(client: httpx.Client, kind: str, **asked: Any) -> str:
    answer = client.post("/api/tasks", json={"kind": kind, **asked})
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


def config_of(client: httpx.Client, task: str) -> dict[str, Any]:
    told: dict[str, Any] = client.get(f"/api/tasks/{task}").json()["config"]
    return told


@pytest.mark.parametrize(
    ("kind", "made", "begin", "steps"),
    [
        ("Learn a mobility", lambda home: free(home / "free.dump"), "data", ("Objective", "Runs")),
        (
            "Fit SAGESnet",
            lambda home: life(home / "life.npy"),
            "data",
            ("Objective", "Optimisation"),
        ),
        ("Train an integrator", lambda home: wells(home / "wells.h5"), "model", ("Training",)),
    ],
    ids=["mobility", "cells", "integrator"],
)
def test_a_first_time_user_has_a_running_task_within_eight_clicks(
    chromium: Browser,
    tmp_path: Path,
    kind: str,
    made: Callable[[Path], Path],
    begin: str,
    steps: tuple[str, ...],
) -> None:
    """What is missing is where it begins; an integrator could do without data."""
    file = made(tmp_path)
    studio = Server(tmp_path / "studio")
    try:
        with studio.browser() as client, as_client(chromium, studio, client) as page:
            clicks = Clicks(page)
            page.goto("/")
            clicks.on("New task")
            clicks.on(kind)
            page.get_by_label("Name").fill("My first")
            clicks.on("Begin", "button")
            page.wait_for_url(re.compile(rf"/drafts/\w+/{begin}$"))
            if begin != "data":
                clicks.on("Next: Data")
            clicks.file(file)
            expect(page.get_by_text("Filled in from your data")).to_be_visible()
            for step in (*steps, "Submit"):
                clicks.on(f"Next: {step}")
                page.wait_for_url(re.compile(rf"/{ADDRESSES.get(step, step.lower())}$"))
            expect(page.get_by_text("Nothing is wrong")).to_be_visible()
            clicks.on("Submit", "button")
            page.wait_for_url(re.compile(r"/tasks/\w+$"))
            assert clicks.count <= MOST_CLICKS, clicks.count
            told = until(client, page.url.rpartition("/")[2], "running", "done")
            assert told["title"] == "My first"
    finally:
        studio.close()


def test_data_are_chosen_by_name_and_fill_the_rest(
    page: Page, client: httpx.Client, tmp_path: Path
) -> None:
    sent(client, *(life(tmp_path / f"life{k}.npy", k) for k in range(4)))
    other = sent(client, free(tmp_path / "free.dump"))
    task = drafted(client, "mobility")
    page.goto(f"/drafts/{task}/data")
    chooser = page.get_by_label("Trajectories", exact=True)
    # the newest that fits
    expect(chooser).to_have_value(f"upload:{other}")
    assert not [text for text in chooser.locator("option").all_inner_texts() if "life" in text]
    expect(page.get_by_label("Lag, t0")).to_have_value("4")
    expect(page.locator("#saved")).to_have_text("saved")
    config = config_of(client, task)
    assert config["data"] == {"passive": {"files": f"upload:{other}", "lag": 4.0}}
    # a unit that is called otherwise is shown so, and a wrong number is told beside it
    page.get_by_label("Time", exact=True).fill("ns")
    page.get_by_label("Lag, t0").fill("never")
    expect(page.get_by_label("Lag, t0")).to_have_attribute("aria-invalid", "true")
    # a part that is not needed is left out, and comes back
    page.get_by_label("There are runs of free motion").uncheck()
    expect(page.get_by_label("Lag, ns")).to_have_count(0)
    page.get_by_label("There are runs of free motion").check()
    expect(page.get_by_label("Lag, ns")).to_have_value("1")


def test_data_that_people_come_with_are_learned_from(
    page: Page, client: httpx.Client, tmp_path: Path
) -> None:
    """Also by a kind that could begin without any; and what will be done is told in words."""
    upload = sent(client, wells(tmp_path / "wells.h5"))
    sent(client, free(tmp_path / "later.dump"))
    page.goto(f"/data/{upload}")
    page.get_by_role("link", name="New task with these data").click()
    expect(page.get_by_text("What should it do with wells.h5?")).to_be_visible()
    page.get_by_role("link", name="Train an integrator").click()
    page.get_by_role("button", name="Begin").click()
    page.wait_for_url(re.compile(r"/drafts/\w+/\w+$"))
    expect(page.get_by_text("3 runs of double_well")).to_be_visible()
    task = page.url.split("/")[-2]
    config = config_of(client, task)
    assert config["data"] == f"upload:{upload}" and "runs" not in config
    page.goto(f"/drafts/{task}/submit")
    told = page.locator("#summary")
    expect(told).to_contain_text("Runs of yours")
    words = told.inner_text()
    assert "wells.h5" in words and "recurrent network" in words and "Epochs: 40" in words
    assert not re.search(r"[{}\"]|upload:", words)


def test_clicks_before_a_page_listens_are_not_lost(page: Page) -> None:
    held: list[Route] = []
    page.route("**/static/new.js", lambda route: held.append(route))
    page.goto("/new?kind=integrators", wait_until="commit")
    begin = page.locator("#empty")
    expect(begin).to_be_visible()
    while not held:
        page.wait_for_timeout(50)
    with pytest.raises(TimeoutError):
        begin.click(timeout=500)
    held[0].continue_()
    begin.click()
    page.wait_for_url(re.compile(r"/drafts/\w+/\w+$"))


def test_what_tells_nothing_is_chosen_all_the_same(
    page: Page, client: httpx.Client, tmp_path: Path
) -> None:
    one = tmp_path / "one.extxyz"
    one.write_text('1\nLattice="4 0 0 0 4 0 0 0 4" Properties=species:S:1:pos:R:3\nC 0 0 0\n')
    task = drafted(client, "sagesnet")
    page.goto(f"/drafts/{task}/data")
    chosen = page.get_by_label("Data set", exact=True).first
    expect(chosen).to_be_attached()
    page.locator("#file").set_input_files(one)
    expect(chosen.locator("option:checked")).to_contain_text("one.extxyz")


def test_fields_are_those_of_what_is_chosen(page: Page, client: httpx.Client) -> None:
    task = drafted(client, "integrators")
    page.goto(f"/drafts/{task}/model")
    expect(page.get_by_label("Hidden")).to_have_value("16, 16")
    page.get_by_label("Kind").select_option("nbody")
    expect(page.get_by_label("Hidden")).to_have_count(0)
    expect(page.get_by_label("Kicks")).to_have_attribute("placeholder", "4")
    page.get_by_label("Kind").select_option("symplectic")
    expect(page.get_by_label("Kicks")).to_have_attribute("placeholder", "10")
    expect(page.locator("#saved")).to_have_text("saved")
    assert config_of(client, task)["model"] == {"kind": "symplectic"}


def test_runs_are_told_in_rows(page: Page, client: httpx.Client) -> None:
    task = drafted(client, "integrators")
    page.goto(f"/drafts/{task}/data")
    runs = page.get_by_role("group", name="Starts and parameters")
    expect(runs).to_contain_text("40 runs in all")
    runs.get_by_label("How many, row 2").fill("5")
    expect(runs).to_contain_text("25 runs in all")
    page.get_by_label("System", exact=True).select_option("oscillator")
    runs.get_by_role("button", name="Add a parameter").click()
    runs.get_by_label("Parameter of row 3").select_option("k")
    runs.get_by_label("From, row 3").fill("2")
    runs.get_by_label("To, row 3").fill("soft")
    expect(runs.get_by_label("To, row 3")).to_have_attribute("aria-invalid", "true")
    runs.get_by_label("To, row 3").fill("4")
    runs.get_by_label("How many, row 3").fill("3")
    expect(runs).to_contain_text("75 runs in all")
    runs.get_by_role("button", name="Remove row 1").click()
    expect(runs).to_contain_text("15 runs in all")
    shared = page.get_by_role("group", name="The same in all runs")
    shared.get_by_role("button", name="Add a parameter").click()
    shared.get_by_label("Parameter of row 1").select_option("mass")
    shared.get_by_label("Value, row 1").fill("0.5")
    expect(page.locator("#saved")).to_have_text("saved")
    told = config_of(client, task)["runs"]
    assert told["over"] == {
        "x0": {"from": -3, "to": -1.5, "count": 5},
        "k": {"from": 2, "to": 4, "count": 3},
    }
    assert told["fixed"] == {"mass": 0.5}
    page.goto(f"/drafts/{task}/submit")
    expect(page.get_by_text("Nothing is wrong")).to_be_visible()


def test_workers_are_those_the_server_has(page: Page, client: httpx.Client) -> None:
    task = drafted(client, "integrators")
    page.goto(f"/drafts/{task}/training")
    expect(page.get_by_label("Cores")).to_have_value("2")
    page.get_by_label("Engine").select_option("serial")
    expect(page.get_by_text("One core of the server.")).to_be_visible()
    expect(page.locator("#saved")).to_have_text("saved")
    told = client.get(f"/api/tasks/{task}").json()
    assert (told["engine"], told["workers"]) == ("serial", 1)


# -- looks -----------------------------------------------------------------------------------------
STEPS = {
    "mobility": ("model", "data", "objective", "optimisation", "submit"),
    "integrators": ("model", "data", "training", "submit"),
    "sagesnet": ("model", "data", "objective", "optimisation", "submit"),
    "sagesnet_run": ("model", "data", "run", "submit"),
}


@pytest.fixture(scope="module")
def done(client: httpx.Client, tmp_path_factory: pytest.TempPathFactory) -> str:
    """An integrator that is trained, with figures and playback."""
    path = wells(tmp_path_factory.mktemp("runs") / "runs.h5", 6)
    config = {
        "data": f"upload:{sent(client, path)}",
        "model": {"kind": "lstm", "hidden": [4]},
        "fit": {"epochs": 3, "held_out": 0.25},
    }
    task = drafted(client, "integrators", config=config, submit=True)
    told = until(client, task, "done", "failed")
    assert told["state"] == "done", told["error"]
    return task


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("kind", STEPS)
def test_forms_are_for_everybody(
    chromium: Browser, studio: Server, client: httpx.Client, kind: str, scheme: Any
) -> None:
    task = drafted(client, kind)
    with as_client(chromium, studio, client, color_scheme=scheme, reduced_motion="reduce") as page:
        # colours are the same ones in all steps
        for step in STEPS[kind] if scheme == "light" else STEPS[kind][:2]:
            page.goto(f"/drafts/{task}/{step}")
            settled(page)
            looked_well(page)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_task_that_is_done_is_for_everybody(
    chromium: Browser, studio: Server, client: httpx.Client, done: str, scheme: Any
) -> None:
    with as_client(chromium, studio, client, color_scheme=scheme, reduced_motion="reduce") as page:
        page.goto(f"/tasks/{done}")
        expect(page.locator(".viewer .js-plotly-plot")).to_be_attached()
        expect(page.locator("#facts")).to_contain_text("threads")
        looked_well(page)


def looked_well(page: Page) -> None:
    found = Axe().run(page)
    assert found.violations_count == 0, found.generate_report()
    assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
    # no strip of another colour stands beside the bar
    wide = "document.querySelector('.bar').getBoundingClientRect().width"
    assert page.evaluate(f"{wide} - document.documentElement.clientWidth") == 0


def ground(page: Page) -> str:
    found: str = page.evaluate(
        "document.querySelector('figure .js-plotly-plot')._fullLayout.paper_bgcolor"
    )
    return found


def became(page: Page, wanted: Callable[[str], bool]) -> str:
    end = time.monotonic() + PATIENCE / 1000
    while not wanted(ground(page)):
        assert time.monotonic() < end, ground(page)
        page.wait_for_timeout(50)
    return ground(page)


def test_a_change_of_theme_recolours_figures_at_once(
    chromium: Browser, studio: Server, client: httpx.Client, done: str
) -> None:
    with as_client(chromium, studio, client, color_scheme="light") as page:
        page.goto(f"/tasks/{done}")
        drawn = page.locator("figure .js-plotly-plot").first
        expect(drawn).to_be_attached()
        light = ground(page)
        page.emulate_media(color_scheme="dark")
        dark = became(page, lambda now: now != light)
        # chosen in another tab
        other = page.context.new_page()
        other.goto("/account")
        try:
            other.get_by_label("Theme").select_option("light")
            assert became(page, lambda now: now != dark) == light
        finally:
            other.get_by_label("Theme").select_option("auto")
