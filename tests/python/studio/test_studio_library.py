"""The library: what a fit found is published, found, downloaded, withdrawn."""

from __future__ import annotations

import io
import json
import re
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from mlcore.errors import FileFormatError, InvalidArgument
from mlcore.forcefield import library as room
from mlcore.forcefield.config import parse
from mlcore.forcefield.export import load
from mlcore.forcefield.run import Fit
from mlcore.studio.store import State, Task, User
from sqlalchemy import select
from studio_fits import DIAMOND, SILICON, planted

Until = Callable[..., dict[str, Any]]
LMP = Path(sys.executable).parent / "lmp"
CONFIG = SILICON | {"targets": [DIAMOND], "run": {"budget": 20, "engine": "here"}}
SAID: dict[str, Any] = {
    "name": "silicon-refit",
    "title": "Silicon, two parameters",
    "license": "CC-BY-4.0",
    "authors": ["A. Da", "B. En"],
    "citation": ["A. Da, Journal of Tests 1, 1 (2026)"],
}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a small fit."""
    place = tmp_path_factory.mktemp("fit")
    Fit(parse(CONFIG, place).setup(), place / "run").run()
    return place / "run"


def files_of(answer: httpx.Response) -> dict[str, bytes]:
    assert answer.status_code == 200, answer.text
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        return {n: archive.read(n) for n in archive.namelist() if not n.endswith("/")}


def energy(folder: Path) -> float:
    """What stock LAMMPS says of the example in the folder of a potential, eV."""
    told = subprocess.run(
        [LMP, "-in", "in.lammps", "-log", "none"], cwd=folder, capture_output=True, text=True
    )
    assert told.returncode == 0, told.stdout[-2000:]
    names = re.search(r"^\s+(Step .*)$", told.stdout, re.MULTILINE)
    row = re.search(r"^\s+Step .*\n\s*(.*)$", told.stdout, re.MULTILINE)
    assert names is not None and row is not None
    return float(row[1].split()[names[1].split().index("E_pair")])


def test_a_potential_goes_round(
    browser: httpx.Client, app: FastAPI, run: Path, tmp_path: Path
) -> None:
    task = planted(app.state.studio.store, "local", run)
    assert browser.get("/api/library").json() == []
    made = browser.post(f"/api/tasks/{task}/publish", json=SAID)
    assert made.status_code == 201, made.text
    assert (made.json()["publisher"], made.json()["mine"]) == ("local", True)
    for asked, count in (
        ({}, 1),
        ({"element": "Si"}, 1),
        ({"element": "Si C"}, 0),
        ({"form": "tersoff"}, 1),
        ({"form": "sw"}, 0),
        ({"text": "tests two"}, 1),
    ):
        assert len(browser.get("/api/library", params=asked).json()) == count, asked
    told = files_of(browser.get("/api/library/silicon-refit/download"))
    own = files_of(browser.get(f"/api/tasks/{task}/downloads/potential.zip"))
    assert told.keys() == own.keys()
    assert {n for n in told if told[n] != own[n]} == {"card.json"}
    for name, content in told.items():
        (tmp_path / name).write_bytes(content)
    _, values, card = load(tmp_path)
    result = json.loads((run / "result.json").read_text())
    assert values == result["values"] and card.provenance.authors == ("A. Da", "B. En")
    measured = json.loads((run / "measured.json").read_text())["targets"][0]
    at = measured["terms"].index("diamond energy")
    # the example is the crystal of the target, near its rest
    assert energy(tmp_path) / 2 == pytest.approx(measured["value"][at], abs=0.02)


def test_the_page_of_a_potential_says_what_its_card_says(
    browser: httpx.Client, app: FastAPI, run: Path
) -> None:
    browser.post(f"/api/tasks/{planted(app.state.studio.store, 'local', run)}/publish", json=SAID)
    told = browser.get("/api/library/silicon-refit").json()
    assert told["card"]["validity"]["distances"]["Si-Si"] == pytest.approx(2.351, abs=1e-3)
    assert {file["name"] for file in told["files"]} == {
        "model.tersoff", "in.lammps", "structure.data", "card.json",
    }  # fmt: skip
    page = browser.get("/library/silicon-refit").text
    for words in (
        "A. Da, B. En",
        "CC-BY-4.0",
        "Journal of Tests",
        "pair_style tersoff",
        "Withdraw",
    ):
        assert words in page
    assert "Silicon, two parameters" in browser.get("/library").text
    assert browser.get("/library/none").status_code == 404
    assert "Nothing found" in browser.get("/library", params={"element": "Xe"}).text


def test_titles_are_words_and_no_html(browser: httpx.Client, app: FastAPI, run: Path) -> None:
    said = SAID | {"title": "<script>alert(1)</script>", "authors": ['"><img src=x>']}
    assert browser.post(
        f"/api/tasks/{planted(app.state.studio.store, 'local', run)}/publish", json=said
    ).is_success
    for page in ("/library", "/library/silicon-refit"):
        text = browser.get(page).text
        assert "<script>alert" not in text and "<img src=x>" not in text


def test_fields_that_are_wrong_are_told_by_name(
    browser: httpx.Client, app: FastAPI, run: Path
) -> None:
    task = planted(app.state.studio.store, "local", run)

    def wrong(**changes: Any) -> dict[str, str]:
        answer = browser.post(f"/api/tasks/{task}/publish", json=SAID | changes)
        assert answer.status_code == 422
        return {one["field"]: one["message"] for one in answer.json()["problems"]}

    assert wrong(name="../out", title=" ", authors=[" "]).keys() == {"name", "title", "authors"}
    assert wrong(license="").keys() == {"license"}
    assert "title" in wrong(title=7)
    assert browser.get("/api/library").json() == []
    assert browser.post(f"/api/tasks/{task}/publish", json=SAID).status_code == 201
    assert wrong().keys() == {"name"}


def test_only_a_fit_that_is_done_is_published(
    browser: httpx.Client, app: FastAPI, run: Path
) -> None:
    paused = planted(app.state.studio.store, "local", run, state=State.PAUSED)
    assert browser.post(f"/api/tasks/{paused}/publish", json=SAID).status_code == 409
    draft = browser.post("/api/tasks", json={"kind": "forcefield"}).json()["id"]
    assert browser.post(f"/api/tasks/{draft}/publish", json=SAID).status_code == 409
    changed = planted(app.state.studio.store, "local", run)
    store = app.state.studio.store
    with store.session() as session:
        folder = store.task_folder(session.get(Task, changed))
    (folder / "run" / "model" / "model.tersoff").write_text("something else")
    answer = browser.post(f"/api/tasks/{changed}/publish", json=SAID)
    assert answer.status_code == 409 and "changed" in answer.json()["detail"]
    assert browser.get("/api/library").json() == []


def test_who_published_withdraws(two: tuple[httpx.Client, httpx.Client], run: Path) -> None:
    ada, ben = two
    app: Any = ada.app  # type: ignore[attr-defined]
    task = planted(app.state.studio.store, "ada", run)
    assert ben.post(f"/api/tasks/{task}/publish", json=SAID).status_code == 404
    assert ada.post(f"/api/tasks/{task}/publish", json=SAID).status_code == 201
    (seen,) = ben.get("/api/library").json()
    assert (seen["publisher"], seen["mine"]) == ("ada", False)
    assert "Withdraw" not in ben.get("/library/silicon-refit").text
    assert files_of(ben.get("/api/library/silicon-refit/download"))
    assert ben.delete("/api/library/silicon-refit").status_code == 403
    assert ada.delete("/api/library/silicon-refit").status_code == 204
    assert ada.get("/api/library").json() == []
    assert ada.get("/api/library/silicon-refit").status_code == 404
    assert ada.delete("/api/library/silicon-refit").status_code == 404
    # its name is free again, and is then its next publisher's
    assert (
        ben.post(
            f"/api/tasks/{planted(app.state.studio.store, 'ben', run)}/publish", json=SAID
        ).status_code
        == 201
    )
    assert ada.delete("/api/library/silicon-refit").status_code == 403


def test_an_administrator_withdraws_what_others_published(
    two: tuple[httpx.Client, httpx.Client], run: Path
) -> None:
    ada, ben = two
    app: Any = ada.app  # type: ignore[attr-defined]
    ada.post(f"/api/tasks/{planted(app.state.studio.store, 'ada', run)}/publish", json=SAID)
    store = app.state.studio.store
    with store.session() as session:
        session.scalar(select(User).where(User.name == "ben")).admin = True
    assert ben.delete("/api/library/silicon-refit").status_code == 204
    assert not (store.library / "silicon-refit").exists()


def test_a_file_of_the_library_that_was_changed_is_not_handed_out(
    browser: httpx.Client, app: FastAPI, run: Path
) -> None:
    browser.post(f"/api/tasks/{planted(app.state.studio.store, 'local', run)}/publish", json=SAID)
    (app.state.studio.store.library / "silicon-refit" / "model.tersoff").write_text(
        "something else"
    )
    assert browser.get("/api/library/silicon-refit/download").status_code == 409


def test_what_is_not_in_a_library_cannot_be_withdrawn(tmp_path: Path, run: Path) -> None:
    with pytest.raises(FileFormatError):
        room.withdraw("silicon", tmp_path)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / room.INDEX).write_text(json.dumps({"potentials": {}}))
    with pytest.raises(InvalidArgument, match="has no 'silicon'"):
        room.withdraw("silicon", tmp_path)


def test_the_library_needs_somebody(app: FastAPI) -> None:
    from fastapi.testclient import TestClient

    with TestClient(app, base_url="http://127.0.0.1:8750") as nobody:
        for path in ("/api/library", "/api/library/x", "/api/library/x/download", "/api/compare"):
            assert nobody.get(path).status_code == 401, path
