"""Who may do what, and what the server refuses before it looks."""

from __future__ import annotations

import concurrent.futures
import json
import re
import time
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from conftest import PASSWORD, Browser
from fastapi import FastAPI
from fastapi.testclient import TestClient
from mlcore.cli import main
from mlcore.errors import Error
from mlcore.studio.accounts import Accounts
from mlcore.studio.app import create
from mlcore.studio.settings import Settings
from mlcore.studio.store import Store
from server import Server

OPEN = {("post", "/api/login")}
HOME = "http://127.0.0.1:8750"


def operations(app: FastAPI) -> list[tuple[str, str]]:
    """Every endpoint there is, with some id in its path."""
    found = []
    for path, methods in app.openapi()["paths"].items():
        for method in methods:
            found.append((method, re.sub(r"\{[^}]+\}", "0" * 24, path)))
    return found


@pytest.fixture
def stranger(app: FastAPI) -> TestClient:
    return TestClient(app, base_url=HOME, raise_server_exceptions=False)


def test_strangers_are_let_into_nothing(app: FastAPI, stranger: TestClient) -> None:
    asked = operations(app)
    assert len(asked) > 20
    for method, path in asked:
        if (method, path) not in OPEN:
            assert stranger.request(method, path).status_code == 401, (method, path)
    answer = stranger.get("/", headers={"accept": "text/html"}, follow_redirects=False)
    assert (answer.status_code, answer.headers["location"]) == (303, "/login")


def test_pages_that_are_not_there_lead_on(browser: Browser, stranger: TestClient) -> None:
    asked = {"accept": "text/html"}
    for path, words in (("/nothing", "no such page"), ("/tasks/abc", "no such task")):
        answer = browser.get(path, headers=asked)
        assert answer.status_code == 404 and words in answer.text
        assert 'aria-label="Main"' in answer.text
    answer = stranger.get("/nothing", headers=asked)
    assert answer.status_code == 404 and 'aria-label="Main"' not in answer.text


def test_the_key_of_the_one_user_works_once(app: FastAPI, stranger: TestClient) -> None:
    key = app.state.studio.key
    for wrong in ("", "x", key[:-1], key + "x"):
        stranger.get("/login", params={"key": wrong})
        assert stranger.get("/api/me").status_code == 401
    assert stranger.get("/login", params={"key": key}, follow_redirects=False).status_code == 303
    assert stranger.get("/api/me").json()["name"] == "local"
    other = TestClient(app, base_url=HOME)
    other.get("/login", params={"key": key})
    assert other.get("/api/me").status_code == 401


def test_cookies_are_for_this_site_alone(app: FastAPI, stranger: TestClient) -> None:
    answer = stranger.get("/login", params={"key": app.state.studio.key}, follow_redirects=False)
    cookie = answer.headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=strict" in cookie


@pytest.mark.parametrize(
    "headers",
    [
        {"X-CSRF-Token": ""},
        {"X-CSRF-Token": "f" * 24},
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:9999"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
def test_other_sites_cannot_make_a_browser_act(browser: Browser, headers: dict[str, str]) -> None:
    answer = browser.post("/api/tasks", json={"kind": "forcefield"}, headers=headers)
    assert answer.status_code == 403
    assert browser.get("/api/tasks").json()["total"] == 0


def test_other_hosts_are_not_served(browser: Browser) -> None:
    for host in ("evil.example", "127.0.0.1.evil.example", "[::2]", "", "[", "localhost.:8750"):
        assert browser.get("/api/me", headers={"Host": host}).status_code == 421, host
    for host in ("localhost:1", "127.0.0.1", "[::1]:8750", "LOCALHOST"):
        assert browser.get("/api/me", headers={"Host": host}).status_code == 200, host


def test_pages_run_no_script_of_others(browser: Browser) -> None:
    for path in (
        "/",
        "/login",
        "/account",
        "/data",
        "/models",
        "/library",
        "/new",
        "/static/studio.js",
    ):
        answer = browser.get(path)
        policy = answer.headers["content-security-policy"]
        assert "script-src 'self';" in policy, path
        assert "frame-ancestors 'none'" in policy
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert not re.findall(r"<script(?![^>]*src=)|\son\w+=|javascript:", answer.text), path
        for address in re.findall(r'(?:src|href)="([^"]+)"', answer.text):
            assert address.startswith(("/", "?", "#")), (path, address)


def test_words_of_people_are_no_markup(browser: Browser) -> None:
    title = "<script>alert(1)</script>\"'><img src=x onerror=alert(1)>"
    task = browser.post("/api/tasks", json={"kind": "forcefield", "title": title}).json()["id"]
    for path in ("/", f"/drafts/{task}", f"/tasks/{task}"):
        assert "<script>alert" not in browser.get(path).text
        assert "<img src=x" not in browser.get(path).text


def test_too_large_requests_are_refused(browser: Browser) -> None:
    big = b" " * (3 << 20)
    assert browser.post("/api/tasks", content=big).status_code == 413
    # without a length told beforehand
    assert browser.post("/api/tasks", content=iter([big])).status_code == 413


def test_paths_lead_nowhere(browser: Browser, folder: Path) -> None:
    (folder / "secret").write_text("secret")
    task = browser.post("/api/tasks", json={"kind": "forcefield"}).json()["id"]
    for inside in ("../secret", "..%2f..%2fsecret", "%2e%2e/secret", "....//secret", "/etc/passwd"):
        for path in (f"/static/{inside}", f"/api/tasks/{task}/downloads/{inside}", f"/{inside}"):
            answer = browser.get(path)
            assert answer.status_code in (404, 405), path
            assert answer.text != "secret"


@pytest.mark.parametrize(
    "path", ["/etc/passwd", "../../secret", "upload:../x", "upload:" + "0" * 24, "model.py"]
)
def test_configs_name_no_files_of_the_server(browser: Browser, path: str, silicon: Any) -> None:
    for part in (
        {"data": {"folder": path}},
        {"data": {"files": {"a": path}}},
        {"model": {"file": path, "species": ["Si"]}},
        {"parameters": {"free": ["A"], "start": path}},
        {"structures": {"a": {"file": path}}},
    ):
        answer = browser.post("/api/kinds/forcefield/check", json={"config": silicon | part})
        assert answer.status_code == 200
        problems = answer.json()
        assert problems, part
        assert "data sets" in problems[0]["message"], problems


@pytest.mark.parametrize(
    "model",
    [
        {"form": "{file}", "species": ["Si"]},
        {"form": "{file}:probe", "species": ["Si"]},
        {"form": "../{file}", "species": ["Si"]},
        {"form": "reaxff", "species": ["C"], "options": {"source": "/etc/passwd"}},
        {"form": "eam/table", "species": ["Cu"], "options": {"source": "/etc/passwd"}},
        {"form": "hybrid/overlay", "species": ["Si"], "options": {"parts": {"a": "{file}"}}},
        {"form": "hybrid/overlay", "species": ["Si"], "options": {"parts": ["{file}"]}},
        {"form": "snap", "species": ["Si"], "options": {"twojmax": 400}},
    ],
)
def test_forms_are_neither_programs_nor_files_of_the_server(
    browser: Browser, tmp_path: Path, silicon: dict[str, Any], model: dict[str, Any]
) -> None:
    program, ran = tmp_path / "probe.py", tmp_path / "ran"
    program.write_text(f"open({str(ran)!r}, 'w')\n")
    told = json.loads(json.dumps(model).replace("{file}", str(program)))
    config = silicon | {"model": told}
    checked = browser.post("/api/kinds/forcefield/check", json={"config": config}).json()
    assert checked
    assert checked[0]["field"].startswith("model"), checked
    assert "root:" not in json.dumps(checked)
    asked = {"kind": "forcefield", "config": config, "submit": True}
    assert browser.post("/api/tasks", json=asked).status_code == 422
    assert not ran.exists()


def crystal(**changes: Any) -> dict[str, Any]:
    return {"crystal": "diamond", "a": 5.43, **changes}


def with_form(**model: Any) -> dict[str, Any]:
    return {"model": {"species": ["Si"], **model}}


@pytest.mark.parametrize(
    "part",
    [
        {"structures": {"b": crystal(repeat=[1000, 1000, 1000])}},
        {"structures": {"b": crystal(surface=[1, 1, 1], layers=10**9)}},
        {"structures": {"b": {"use": "b"}}},
        {"structures": {"b": {"use": "c", "repeat": [30, 30, 1]},
                        "c": crystal(repeat=[30, 30, 1])}},
        {"structures": {f"b{k}": crystal(repeat=[20, 20, 20]) for k in range(11)}},
        {"targets": [{"type": "phonons", "structure": crystal(), "points": [[0, 0, 0]],
                      "frequencies": [[0.0]], "supercell": [1000, 1000, 1000]}]},
        with_form(form="snap", options={"twojmax": "20"}),
        with_form(form="snap", options={"twojmax": 10, "quadratic": True}),
        with_form(form="mliap/nn", options={"layers": ["1000", "1000"]}),
        with_form(form="hybrid/overlay", options={"parts": {f"a{k}": "morse" for k in range(99)}}),
        with_form(form="snap", species=[f"bead:b{k}" for k in range(99)]),
    ],
)  # fmt: skip
def test_a_look_at_a_config_makes_nothing_endless(
    browser: Browser, silicon: dict[str, Any], part: dict[str, Any]
) -> None:
    checked = browser.post("/api/kinds/forcefield/check", json={"config": silicon | part}).json()
    assert re.search("at most|more than|more parameters", checked[0]["message"]), checked


@pytest.mark.parametrize(
    ("kind", "part"),
    [
        ("sagesnet", {"levels": [{"width": "4000000"}]}),
        ("sagesnet", {"levels": [{"width": 1024, "kernel": 5, "layers": 16}]}),
        ("integrators", {"runs": {"system": "double_well", "dt": "1e-3", "time": 20.0,
                                  "over": {"x0": {"from": 1, "to": 2, "count": "1000000000"}}}}),
    ],
)  # fmt: skip
def test_sizes_are_sizes_as_text_too(browser: Browser, kind: str, part: dict[str, Any]) -> None:
    told = browser.get("/api/kinds").json()
    example = next(one["example"] for one in told if one["name"] == kind)
    checked = browser.post(f"/api/kinds/{kind}/check", json={"config": example | part}).json()
    assert re.search("at most|more than|more parameters", checked[0]["message"]), checked


STRANGE = (
    "upload:{id}/../{own}", "upload:{id}", "{secret}", "~/x", "$HOME/x", "task:{id}",
    "upload:{own}/../*", "upload:{own}//etc/*", "upload:{own}/../../*/**",
)  # fmt: skip


def test_files_are_those_of_ones_own_uploads(two: tuple[Browser, Browser], tmp_path: Path) -> None:
    ids, secret = {}, tmp_path / "secret.npy"
    np.save(secret, np.zeros((3, 4, 4), dtype=np.int8))
    for name, who in zip(("id", "own"), two, strict=True):
        files = {"files": ("cells.npy", secret.read_bytes())}
        ids[name] = who.post("/api/uploads", files=files).json()["id"]
    for reference in STRANGE:
        told = reference.format(secret=secret, **ids)
        configs = {
            "sagesnet": {"cells": {"kind": "automaton"}, "runs": [{"files": told}]},
            "integrators": {"model": {"kind": "lstm"}, "fit": {"data": told}},
            "sagesnet_run": {"net": told, "start": told},
            "mobility": {"system": {"kBT": 1.0}, "data": {"active": {"files": told, "lag": 1.0}},
                         "estimate": {"edges": [1.0, 2.0]}, "train": {"cutoff": 2.0}},
        }  # fmt: skip
        for kind, config in configs.items():
            asked = {"kind": kind, "config": config, "submit": True}
            assert two[1].post("/api/tasks", json=asked).status_code == 422, (kind, told)


@pytest.mark.parametrize("how", ["external", "link", "virtual"])
def test_runs_take_no_numbers_from_other_files(tmp_path: Path, how: str) -> None:
    """HDF5 files can say that their arrays lie in any file of the server."""
    import h5py
    from mlcore.md import Dataset, sweep

    path, other = tmp_path / "runs.h5", str(tmp_path / "other.h5")
    made = sweep("double_well", {"x0": [1.0, 2.0]}, dt=1e-2, time=1.0, every=10)
    made.save(path)
    made.save(other)
    shape = made.positions.shape
    assert Dataset.load(path).positions.shape == shape
    with h5py.File(path, "a") as file:
        del file["positions"]
        if how == "external":
            external = [(other, 0, made.positions.nbytes)]
            file.create_dataset("positions", shape=shape, dtype="f8", external=external)
        elif how == "link":
            file["positions"] = h5py.ExternalLink(other, "/positions")
        else:
            layout = h5py.VirtualLayout(shape=shape, dtype="f8")
            layout[...] = h5py.VirtualSource(other, "positions", shape=shape)
            file.create_virtual_dataset("positions", layout)
    with pytest.raises(Error, match="positions is"):
        Dataset.load(path)


def test_configs_choose_no_engine_options(browser: Browser, silicon: dict[str, Any]) -> None:
    """What a config says of engines is the server's to say."""
    run = {"budget": 5, "engine": {"name": "parsl", "options": {"worker_init": "touch /tmp/x"}}}
    answer = browser.post(
        "/api/tasks", json={"kind": "forcefield", "config": silicon | {"run": run}, "submit": True}
    )
    assert answer.status_code == 201
    task, studio = answer.json()["id"], browser.app.state.studio  # type: ignore[attr-defined]
    (file,) = studio.store.folder.glob(f"users/*/tasks/{task}/config.json")
    assert "worker_init" not in file.read_text()
    assert "parsl" not in file.read_text()


def test_others_tasks_are_not_there(two: tuple[Browser, Browser]) -> None:
    ada, ben = two
    task = ada.post("/api/tasks", json={"kind": "forcefield", "title": "of ada"}).json()["id"]
    app = ada.app
    asked = [(m, p) for m, p in app.openapi()["paths"].items() if "{task}" in m]  # type: ignore[attr-defined]
    assert len(asked) > 10
    for path, methods in asked:
        for method in methods:
            inner = path.replace("{task}", task).replace("{name}", "x").replace("{k}", "0")
            given = {"json": {}} if method in ("post", "patch") else {}
            status = ben.request(method, inner, **given).status_code
            assert status in (404, 422), (method, inner, status)
            if (
                status == 422
            ):  # the body is looked at first; with a right one it is not there either
                assert method in ("post", "patch")
    for page in (f"/tasks/{task}", f"/drafts/{task}"):
        assert ben.get(page).status_code == 404
    assert "of ada" not in ben.get("/").text
    assert ben.get("/api/tasks").json()["total"] == 0
    assert ada.get(f"/api/tasks/{task}").status_code == 200


def test_only_administrators_see_users(two: tuple[Browser, Browser]) -> None:
    ada, _ = two
    assert ada.get("/api/users").status_code == 403
    assert ada.get("/users").status_code == 403
    new = {"name": "eve", "password": PASSWORD}
    assert ada.post("/api/users", json=new).status_code == 403


def test_wrong_passwords_are_slowed_down(folder: Path) -> None:
    settings = Settings.load(folder).model_copy(update={"users": True})
    app = create(folder, settings, supervised=False)
    app.state.studio.accounts.add("ada", PASSWORD)
    client = TestClient(app, base_url=HOME)
    wrong = {"name": "ada", "password": "wrong password"}
    codes = [client.post("/api/login", json=wrong).status_code for _ in range(12)]
    assert codes == [401] * 10 + [429] * 2
    right = {"name": "ada", "password": PASSWORD}
    assert client.post("/api/login", json=right).status_code == 429


def test_a_new_password_ends_other_browsers(two: tuple[Browser, Browser]) -> None:
    ada, _ = two
    other = Browser(ada.app, "ada")  # type: ignore[arg-type]
    change = {"old_password": PASSWORD, "new_password": "another long word"}
    assert ada.patch("/api/me", json=change | {"old_password": "x"}).status_code == 403
    assert ada.patch("/api/me", json=change).status_code == 200
    assert ada.get("/api/me").status_code == 200
    assert other.get("/api/me").status_code == 401


def test_passwords_and_tokens_are_not_kept(two: tuple[Browser, Browser], folder: Path) -> None:
    ada, _ = two
    words = ada.post("/api/tokens", json={"title": "t"}).json()["token"]
    for file in folder.glob("studio.db*"):
        assert words.encode() not in file.read_bytes()
        assert PASSWORD.encode() not in file.read_bytes()
    program = TestClient(ada.app, base_url=HOME)
    program.headers["Authorization"] = f"Bearer {words}"
    assert program.get("/api/me").json()["name"] == "ada"
    assert program.post("/api/tasks", json={"kind": "forcefield"}).status_code == 201
    (token,) = ada.get("/api/tokens").json()
    ada.delete(f"/api/tokens/{token['id']}")
    assert program.get("/api/me").status_code == 401


def test_logging_out_ends_a_browser(browser: Browser) -> None:
    cookie = dict(browser.cookies)
    assert browser.post("/api/logout").status_code == 204
    browser.cookies.update(cookie)
    assert browser.get("/api/me").status_code == 401


def test_others_are_reached_with_logins_alone(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["studio", "--folder", str(folder), "--host", "0.0.0.0", "--no-browser"]
    assert main(words) == 1
    assert "mlcore studio user add NAME" in capsys.readouterr().err


def test_a_studio_of_a_newer_version_is_left_alone(folder: Path) -> None:
    import sqlite3

    Store(folder).close()
    with sqlite3.connect(folder / "studio.db") as connection:
        connection.execute("PRAGMA user_version = 99")
    with pytest.raises(Error, match="newer mlcore"):
        Store(folder)


def test_names_of_users_are_checked(folder: Path) -> None:
    accounts = Accounts(Store(folder), Settings().limits)
    for name in ("", "a b", "../x", "a" * 65, "-x", "a\n"):
        with pytest.raises(Error, match="name: "):
            accounts.add(name, PASSWORD)
    with pytest.raises(Error, match="password: must have 10"):
        accounts.add("ada", "short")
    accounts.add("ada", PASSWORD)
    with pytest.raises(Error, match="already"):
        accounts.add("ada", PASSWORD)


def test_many_requests_at_once_are_all_answered(served: Server) -> None:
    with served.browser() as browser:
        browser.post("/api/tasks", json={"kind": "forcefield"})
        paths = ["/", "/api/tasks", "/account", "/api/me", "/login"] * 100
        with concurrent.futures.ThreadPoolExecutor(50) as pool:
            codes = list(pool.map(lambda path: browser.get(path).status_code, paths))
        assert set(codes) == {200}


def test_a_full_disk_loses_nothing(folder: Path) -> None:
    """Files of the server may not grow beyond some size, as on a disk that is full."""
    server = Server(folder, largest=400_000)
    try:
        with server.browser() as browser:
            kept, codes = [], []
            for k in range(60):
                config = {"note": "x" * 20_000}
                asked = {"kind": "forcefield", "title": f"task {k}", "config": config}
                answer = browser.post("/api/tasks", json=asked)
                codes.append(answer.status_code)
                if answer.status_code == 201:
                    kept.append(answer.json()["id"])
            assert 507 in codes
            assert set(codes) <= {201, 507}
            time.sleep(0.2)
            for task in kept:
                assert browser.get(f"/api/tasks/{task}").status_code == 200
            assert browser.get("/").status_code == 200
    finally:
        server.close()


def test_streams_end_with_their_browsers(served: Server) -> None:
    """A page that is closed leaves nothing behind that looks at its task for ever."""
    with served.browser() as browser:
        task = browser.post("/api/tasks", json={"kind": "forcefield"}).json()["id"]
        for _ in range(20):
            with browser.stream("GET", f"/api/tasks/{task}/live") as answer:
                assert next(answer.iter_lines()) == "event: task"
        time.sleep(2)
        assert browser.get("/api/me").status_code == 200
        with httpx.Client(base_url=served.address) as other:
            assert other.get(f"/api/tasks/{task}/live").status_code == 401
