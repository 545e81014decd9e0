"""From logging in to a potential that runs in LAMMPS, in a real browser, by two people at once."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from ase.io import read, write
from chromium import launched, looked_at
from mlcore.forcefield.config.begin import begin
from mlcore.studio.accounts import Accounts
from mlcore.studio.settings import Limits
from mlcore.studio.store import Store
from playwright.sync_api import Page, expect
from server import Server, set_up

PASSWORD = "correct horse battery"
PEOPLE = ("ada", "ben")
LONG = 240_000  # ms


@pytest.fixture
def structures(tmp_path: Path) -> Path:
    """Silicon under strain, rattled, with a vacancy, and in other phases, labelled by Tersoff's potential."""
    begin(tmp_path / "silicon")
    file = tmp_path / "silicon.extxyz"
    parts = sorted((tmp_path / "silicon" / "data").glob("*.extxyz"))
    write(file, [atoms for part in parts for atoms in read(part, ":")], format="extxyz")
    return file


def test_two_people_fit_silicon_at_once(folder: Path, structures: Path, tmp_path: Path) -> None:
    store = Store(folder)
    accounts = Accounts(store, Limits())
    for name in PEOPLE:
        accounts.add(name, PASSWORD)
    store.close()
    server = Server(set_up(folder, "slots = 2\n"))
    try:
        with ThreadPoolExecutor(2) as pool:
            told = [
                pool.submit(story, server.address, name, structures, tmp_path / name)
                for name in PEOPLE
            ]
            for one in told:
                one.result()
    finally:
        server.close()


def story(address: str, name: str, structures: Path, home: Path) -> None:
    home.mkdir()
    with launched() as chromium, looked_at(chromium, address, accept_downloads=True) as page:
        let_in(page, name)
        made(page, name, structures)
        watched(page)
        stopped_and_begun_again(page)
        archive = taken_home(page, home)
        page.goto("/")
        expect(page.get_by_role("row")).to_have_count(2)  # its head, and one's own
        expect(page.get_by_role("link", name=f"Silicon of {name}")).to_be_visible()
    runs_in_lammps(archive, home)


def let_in(page: Page, name: str) -> None:
    page.goto("/")
    page.get_by_label("Name").fill(name)
    page.get_by_label("Password").fill("not the password")
    page.get_by_role("button", name="Log in").click()
    expect(page.get_by_role("alert")).to_contain_text("wrong")
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Log in").click()
    expect(page.get_by_role("heading", name="Tasks")).to_be_visible()


def made(page: Page, name: str, structures: Path) -> None:
    page.get_by_role("link", name="New task").first.click()
    page.get_by_role("link", name="Fit a force field").click()
    page.get_by_label("Name").fill(f"Silicon of {name}")
    page.locator("#file").set_input_files(structures)
    page.wait_for_url("**/drafts/*/**", timeout=LONG)
    expect(page.locator("#task-title")).to_have_text(f"Silicon of {name}")
    for step in ("Data", "Objective", "Optimisation"):
        page.get_by_role("link", name=f"Next: {step}").click()
        page.wait_for_url(f"**/{step.lower()}")
    page.get_by_label("budget", exact=False).first.fill("1500")
    page.keyboard.press("Tab")
    expect(page.locator("#saved")).to_have_text("saved")
    page.get_by_role("link", name="Next: Submit").click()
    page.get_by_role("button", name="Submit").click()
    page.wait_for_url("**/tasks/*", timeout=LONG)


def watched(page: Page) -> None:
    """Numbers and figures change while nobody loads the page."""
    expect(page.locator("#state")).to_have_text("running", timeout=LONG)
    page.evaluate("window.stayed = true")
    line = page.locator("#line")
    expect(line).to_contain_text("evaluations", timeout=LONG)
    before = line.text_content()
    expect(line).not_to_have_text(before or "", timeout=LONG)
    expect(page.locator(".js-plotly-plot").first).to_be_visible(timeout=LONG)
    assert page.evaluate("window.stayed") is True


def stopped_and_begun_again(page: Page) -> None:
    page.get_by_role("button", name="Cancel").click()
    expect(page.locator("#state")).to_have_text("cancelled", timeout=LONG)
    page.get_by_role("button", name="Start over").click()
    expect(page.locator("#state")).to_have_text("done", timeout=LONG)
    for figure in ("Convergence", "Energ"):
        shown = page.locator("figure").filter(has_text=figure).first
        expect(shown.locator(".js-plotly-plot")).to_be_visible()


def taken_home(page: Page, home: Path) -> Path:
    with page.expect_download() as told:
        page.get_by_role("link", name="otential").first.click()
    path = home / told.value.suggested_filename
    told.value.save_as(path)
    return path


def runs_in_lammps(archive: Path, home: Path) -> None:
    folder = home / "potential"
    with zipfile.ZipFile(archive) as packed:
        packed.extractall(folder)
    program = Path(sys.executable).parent / "lmp"
    done = subprocess.run(
        [program, "-in", "in.lammps", "-log", "none"], cwd=folder, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout[-2000:]
    rows = [line.split() for line in done.stdout.splitlines()]
    assert ["WARNING"] not in [row[:1] for row in rows]
    assert any(row[:1] == ["Loop"] for row in rows) or "PotEng" in done.stdout
