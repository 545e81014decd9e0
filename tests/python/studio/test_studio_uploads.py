"""Data sets from the file that people have to the page."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
from ase.build import bulk
from conftest import Browser
from fastapi import FastAPI
from mlcore.forcefield.structures import Dataset, read_group, write_ase_db, write_structures
from mlcore.studio.store import State, Task
from upload_files import RECORDED, copper, dump, files_of, kept, left, sent


@pytest.fixture
def extxyz(tmp_path: Path) -> Path:
    write_structures(tmp_path / "copper.xyz", copper())
    return tmp_path / "copper.xyz"


# -- what is read ----------------------------------------------------------------------------------
def test_structures_come_in_as_the_library_reads_them(
    app: FastAPI, browser: Browser, extxyz: Path
) -> None:
    told = kept(browser, extxyz, title="Copper")
    own = Dataset({"copper": read_group(extxyz)})
    assert (told["title"], told["kind"], told["summary"]["hash"]) == (
        "Copper",
        "structures",
        own.hash,
    )
    (folder,) = left(app)
    assert Dataset.load(folder / "data").hash == own.hash
    group = told["summary"]["groups"]["copper"]
    assert group["labels"] == {"energy": 12, "forces": 12, "stress": 12}
    address = f"/api/uploads/{told['id']}"
    rows = browser.get(f"{address}/structures", params={"offset": 3, "count": 2}).json()
    assert [row["index"] for row in rows] == [3, 4]
    one = browser.get(f"{address}/structures/3").json()
    np.testing.assert_allclose(one["positions"], own.structures[3].positions)
    np.testing.assert_allclose(one["forces"], own.structures[3].get_forces())
    assert rows[0]["energy_per_atom"] == pytest.approx(one["energy"] / 4)
    assert browser.get(f"{address}/structures/12").status_code == 404
    assert browser.get(f"/data/{told['id']}").status_code == 200


def test_bonds_reach_over_the_cell(browser: Browser, tmp_path: Path) -> None:
    write_structures(tmp_path / "si.xyz", [bulk("Si", cubic=True)])
    told = kept(browser, tmp_path / "si.xyz")
    one = browser.get(f"/api/uploads/{told['id']}/structures/0").json()
    assert (
        len(one["bonds"]) + len(one["across"]) == 16
    )  # four of each of eight atoms, shared by two
    places, cell = np.array(one["positions"]), np.array(one["cell"])
    far = [places[j] + np.array(s) @ cell - places[i] for i, j, *s in one["across"]]
    np.testing.assert_allclose(np.linalg.norm(far, axis=1), 5.43 * np.sqrt(3) / 4)


def test_what_is_suspicious_is_flagged_and_drawn(browser: Browser, tmp_path: Path) -> None:
    frames = copper()
    frames.append(frames[2].copy())
    near = frames[4].copy()
    near.positions[1] = near.positions[0] + [0.4, 0, 0]
    write_structures(tmp_path / "odd.xyz", [*frames, near])
    told = kept(browser, tmp_path / "odd.xyz")
    checks = {one["code"]: one for one in told["summary"]["checks"]}
    assert checks["short-distance"]["structures"] == [13]
    assert checks["short-distance"]["severity"] == "error"
    assert checks["duplicate"]["structures"] == [12]
    assert "structure 3" in checks["duplicate"]["message"]  # pages count from 1
    address = f"/api/uploads/{told['id']}"
    flagged = browser.get(f"{address}/structures", params={"flagged": True}).json()
    assert [row["index"] for row in flagged] == [12, 13]
    figures = {f["name"]: f for f in browser.get(f"{address}/figures").json()["figures"]}
    rings = [t for t in figures["distances"]["data"] if t["name"] == "flagged"]
    assert rings[0]["customdata"] == [12, 13]
    page = browser.get(f"/data/{told['id']}").text
    assert "short distance" in page and 'data-structure="13"' in page


def test_every_kind_of_file_is_read(browser: Browser, tmp_path: Path) -> None:
    for name, (files, kind) in files_of(tmp_path / "files").items():
        told = kept(browser, *files)
        assert told["kind"] == kind, name
        address = f"/api/uploads/{told['id']}"
        if kind in ("structures", "trajectory"):
            count = told["summary"]["structures"]
            assert browser.get(f"{address}/structures/{count - 1}").json()["atoms"] > 0
        elif kind == "grid":
            last = browser.get(f"{address}/grid", params={"frame": 1}).json()
            assert last["shape"] == [3, 4, 5] and last["values"][-1] == 119
            assert browser.get(f"{address}/grid", params={"frame": 2}).status_code == 404
        assert browser.get(f"/data/{told['id']}").status_code == 200
    listed = browser.get("/api/uploads").json()
    assert len(listed) == len(files_of(tmp_path / "again"))
    assert browser.get("/data").text.count("<tr>") == len(listed) + 1


def test_a_database_keeps_its_groups_and_single_files_become_one(
    browser: Browser, tmp_path: Path
) -> None:
    write_ase_db(tmp_path / "two.db", Dataset({"a": copper(2), "b": copper(3)}))
    groups = kept(browser, tmp_path / "two.db")["summary"]["groups"]
    assert {name: one["structures"] for name, one in groups.items()} == {"a": 2, "b": 3}
    many = kept(browser, *[("POSCAR", (RECORDED / "POSCAR").read_bytes())] * 3)["summary"]
    assert [one["name"] for one in many["files"]] == ["POSCAR", "POSCAR-2", "POSCAR-3"]
    assert many["groups"]["structures"]["structures"] == 3


def test_options_tell_how_files_are_read(browser: Browser) -> None:
    options = {"elements": ["Si", "O"], "group": "quartz", "every": 2}
    told = kept(browser, ("a.dump", dump().encode()), options=json.dumps(options))
    assert told["summary"]["groups"]["quartz"]["structures"] == 2
    assert told["summary"]["elements"] == ["O", "Si"]
    wrong = sent(browser, ("a.dump", dump().encode()), options='{"every": 0}')
    assert (wrong.status_code, wrong.json()["problems"][0]["field"]) == (422, "options.every")


# -- what is done with them ------------------------------------------------------------------------
def test_others_data_are_not_there(two: tuple[Browser, Browser], extxyz: Path) -> None:
    ada, ben = two
    told = kept(ada, extxyz)
    address = f"/api/uploads/{told['id']}"
    for inside in ("", "/structures", "/structures/0", "/figures", "/grid", "/download"):
        assert ben.get(address + inside).status_code == 404, inside
    assert ben.get(f"/data/{told['id']}").status_code == 404
    assert ben.patch(address, json={"title": "mine"}).status_code == 404
    assert ben.delete(address).status_code == 404
    assert ben.get("/api/uploads").json() == []
    assert ada.get(address).json()["title"] == "copper.xyz"


def test_data_that_a_task_uses_stay(app: FastAPI, browser: Browser, extxyz: Path) -> None:
    told = kept(browser, extxyz)
    config = {"data": {"folder": f"upload:{told['id']}/data"}}
    task = browser.post("/api/tasks", json={"kind": "forcefield", "config": config}).json()["id"]
    store = app.state.studio.store
    address = f"/api/uploads/{told['id']}"
    for state in (State.QUEUED, State.RUNNING, State.PAUSED):
        with store.session() as session:
            session.get_one(Task, task).state = state
        assert browser.delete(address).status_code == 409
    with store.session() as session:
        session.get_one(Task, task).state = State.DONE
    assert browser.delete(address).status_code == 204
    assert browser.get(address).status_code == 404
    assert left(app) == []


def test_renamed_and_taken_home(browser: Browser, extxyz: Path) -> None:
    address = f"/api/uploads/{kept(browser, extxyz)['id']}"
    assert browser.patch(address, json={"title": "Copper, 12"}).json()["title"] == "Copper, 12"
    assert browser.patch(address, json={"title": ""}).status_code == 422
    answer = browser.get(f"{address}/download")
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        assert archive.read("raw/copper.xyz") == extxyz.read_bytes()
        assert "data/manifest.json" in archive.namelist()


# -- the Materials Project -------------------------------------------------------------------------
CARRIER = """
import httpx
real = httpx.Client
def answered(request):
    assert request.headers["X-API-KEY"] == "s3cret"
    return httpx.Response(200, content=open({path!r}, "rb").read())
def made(**given):
    return real(**(given | {{"transport": httpx.MockTransport(answered)}}))
httpx.Client = made
"""


@pytest.fixture
def recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Processes of Python carry requests to a recorded answer."""
    folder = tmp_path / "carrier"
    folder.mkdir()
    path = str(RECORDED / "materials_project_mp-149.json")
    (folder / "sitecustomize.py").write_text(CARRIER.format(path=path))
    monkeypatch.setenv("PYTHONPATH", str(folder))


def test_the_materials_project(app: FastAPI, browser: Browser, recorded: None) -> None:
    asked = {"ids": ["mp-149"], "key": "s3cret"}
    answer = browser.post("/api/uploads/materials-project", json=asked)
    assert answer.status_code == 201, answer.text
    told = answer.json()
    assert told["summary"]["groups"]["materials project"]["labels"]["energy"] == 1
    row = browser.get(f"/api/uploads/{told['id']}/structures").json()[0]
    assert (row["name"], row["energy_per_atom"]) == ("mp-149", pytest.approx(-5.423390655))
    assert "APL Materials" in browser.get(f"/data/{told['id']}").text
    (folder,) = left(app)
    assert not any(b"s3cret" in p.read_bytes() for p in folder.rglob("*") if p.is_file())
    wrong = browser.post("/api/uploads/materials-project", json=asked | {"ids": ["silicon"]})
    assert wrong.status_code == 400 and "mp-149" in wrong.json()["detail"]
    assert browser.post("/api/uploads/materials-project", json={"ids": []}).status_code == 422
