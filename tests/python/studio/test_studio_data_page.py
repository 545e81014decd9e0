"""From a file on somebody's disk to its structures on a page, in a real browser."""

from __future__ import annotations

import re
from pathlib import Path

from ase.calculators.singlepoint import SinglePointCalculator
from chromium import settled, soon
from mlcore.forcefield.structures import write_structures
from playwright.sync_api import Locator, Page, expect
from upload_files import copper

ODD = 11
"""Number of the structure that has two atoms in one place."""


def odd_file(path: Path) -> Path:
    frames = copper(ODD - 1)
    near = frames[4].copy()
    near.positions[1] = near.positions[0] + [0.4, 0, 0]
    near.calc = SinglePointCalculator(near, energy=frames[4].get_potential_energy() + 0.5)
    write_structures(path, [*frames, near])
    return path


def dropped(page: Page, file: Path) -> None:
    """Let the file fall on the page."""
    make = "text => { const d = new DataTransfer(); d.items.add(new File([text], 'odd.xyz')); return d; }"
    transfer = page.evaluate_handle(make, file.read_text())
    page.dispatch_event("#drop", "drop", {"dataTransfer": transfer})


def shows(page: Page, number: int) -> None:
    page.locator("#shown", has_text=re.compile(rf"^odd {number}$")).wait_for()


def clicked(page: Page, trace: Locator) -> None:
    """Click on the last point of a trace, as Plotly takes it: it must have seen the mouse there."""
    box = trace.locator(".point").last.bounding_box()
    assert box is not None
    at = (box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.mouse.move(at[0] - 3, at[1])
    page.mouse.move(*at)
    page.locator(".hoverlayer .hovertext").first.wait_for()
    page.mouse.down()
    page.mouse.up()


def test_a_file_is_dropped_and_its_odd_structure_is_looked_at(page: Page, tmp_path: Path) -> None:
    page.goto("/data")
    dropped(page, odd_file(tmp_path / "odd.xyz"))
    page.wait_for_url("**/data/*")
    shows(page, 1)
    page.get_by_role("button", name="Previous", exact=True).click()  # before the first: the last
    shows(page, ODD)
    expect(page.locator("#flags")).to_contain_text("0.400 Angstrom")
    page.get_by_role("button", name="Next", exact=True).click()
    shows(page, 1)
    atoms = "document.querySelector('#viewer .plot')?.data?.find((t) => t.name === 'Cu')?.x.length"
    soon(page, f"{atoms} === 4")
    settled(page)
    clicked(page, page.locator("#figures .plot").first.locator(".scatterlayer .trace").nth(1))
    shows(page, ODD)
    page.get_by_role("button", name="odd 3", exact=True).click()
    shows(page, 3)
    page.get_by_role("button", name=f"Show structure {ODD}").first.click()
    shows(page, ODD)
    page.get_by_role("link", name="New task with these data").click()
    page.wait_for_url("**/new?upload=*")
