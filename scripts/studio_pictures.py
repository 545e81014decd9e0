"""Pictures of every page of the studio in real Chromium, for its documentation.

usage: studio_pictures.py [FOLDER [PAGE ...]]      docs/studio by default, and all pages
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests" / "python" / "studio"))

from ase.io import read, write  # noqa: E402
from chromium import SIZE, launched  # noqa: E402
from kind_files import driven, life, wells  # noqa: E402
from mlcore.forcefield.config.begin import begin  # noqa: E402
from mlcore.studio.accounts import Accounts  # noqa: E402
from mlcore.studio.kinds import kind_of  # noqa: E402
from mlcore.studio.settings import Limits  # noqa: E402
from mlcore.studio.store import Store  # noqa: E402
from server import Server, until  # noqa: E402

PASSWORD = "correct horse battery"
FREE = {name: {"within": 0.3} for name in ("A", "B", "lam1", "lam2", "cos0", "n")}
PAGES = {
    "dashboard": "/",
    "new": "/new?kind=forcefield",
    "wizard_model": "/drafts/{draft}/model",
    "wizard_data": "/drafts/{draft}/data",
    "wizard_objective": "/drafts/{draft}/objective",
    "wizard_optimisation": "/drafts/{draft}/optimisation",
    "wizard_submit": "/drafts/{draft}/submit",
    "task": "/tasks/{done}",
    "live": "/tasks/{running}",
    "compare": "/compare?task={done}&task={other}",
    "data": "/data",
    "dataset": "/data/{data}",
    "models": "/models",
    "model": "/models/tersoff",
    "library": "/library",
    "potential": "/library/silicon-tersoff",
    "account": "/account",
}
KINDS = {
    "mobility": "/tasks/{mobility}",
    "integrator": "/tasks/{integrator}",
    "wizard_runs": "/drafts/{runs}/data",
    "cells": "/tasks/{cells}",
}
PEOPLE = {"login": "/login", "users": "/users"}
DARK = ("dashboard", "task", "wizard_model")


def main(out: Path, only: list[str]) -> None:
    """Fill studios, and look at them."""
    out.mkdir(parents=True, exist_ok=True)
    only = only or [*PAGES, *KINDS, *PEOPLE]
    with tempfile.TemporaryDirectory() as name, launched() as chromium:
        for pages, fill in ((PAGES, filled), (KINDS, taught)):
            wanted = [page for page in pages if page in only]
            if wanted:
                seen(chromium, Path(name) / wanted[0], fill, wanted, out)
        if set(PEOPLE) & set(only):
            people(chromium, Path(name) / "people", out)


def seen(chromium: Any, place: Path, fill: Any, pages: list[str], out: Path) -> None:
    """Pictures of some pages of a studio that is filled first."""
    place.mkdir()
    server = Server(place / "studio")
    try:
        known = fill(server, place)
        for page in pages:
            shot(chromium, server, page, known, out / f"{page}.png", "light")
            if page in DARK:
                shot(chromium, server, page, known, out / f"{page}_dark.png", "dark")
    finally:
        server.close()


def taught(server: Server, place: Path) -> dict[str, str]:
    """A mobility, an integrator and a net of cells that are done, and runs that are to be made."""
    with server.browser() as browser:
        pushed = kept(browser, *(driven(place / f"pushed{k}.dump.gz", k) for k in range(4)))
        asked: dict[str, Any] = kind_of("mobility").example()
        asked["data"]["active"]["files"] = pushed
        asked["train"] |= {"epochs": 150}
        asked["estimate"] |= {"bootstrap": 40}
        asked["theory"] = {"radius": 2.0, "viscosity": 2.5}
        model = {"kind": "lstm", "hidden": [16], "window": 5}
        runs = {
            "data": kept(browser, wells(place / "wells.h5", 24)),
            "model": model,
            "fit": {"held_out": 0.2, "epochs": 40},
        }
        grids = kept(browser, *(life(place / f"life{k}.npy", k) for k in range(6)))
        cells = browser.post(
            "/api/kinds/sagesnet/filled",
            json={"config": kind_of("sagesnet").example(), "upload": grids.partition(":")[2]},
        ).json()["config"]
        tasks = {
            "mobility": made(browser, "Pushed spheres", asked, True, "mobility"),
            "integrator": made(browser, "Double well", runs, True, "integrators"),
            "cells": made(browser, "Life", cells, True, "sagesnet"),
        }
        for task in tasks.values():
            told = until(browser, task, "done", "failed", seconds=600)
            if told["state"] != "done":
                raise SystemExit(told["error"])
        example = kind_of("integrators").example()
        draft = made(browser, "Double well, runs made here", example, False, "integrators")
        return {**tasks, "runs": draft, "cookie": browser.cookies["mlcore_studio"]}


def kept(browser: Any, *files: Path) -> str:
    """How configs say a data set of these files."""
    sent = [("files", (path.name, path.read_bytes())) for path in files]
    return f"upload:{browser.post('/api/uploads', files=sent).json()['id']}"


def people(chromium: Any, folder: Path, out: Path) -> None:
    """What those see who log in by name, and who keeps their accounts."""
    store = Store(folder)
    accounts = Accounts(store, Limits())
    for name in ("ada", "ben"):
        accounts.add(name, PASSWORD, admin=name == "ada")
    store.close()
    (folder / "studio.toml").write_text("users = true\n")
    server = Server(folder)
    try:
        with server.browser("ada", PASSWORD) as browser:
            cookie = browser.cookies["mlcore_studio"]
        shot(chromium, server, "login", {"cookie": "none"}, out / "login.png", "light")
        shot(chromium, server, "users", {"cookie": cookie}, out / "users.png", "light")
    finally:
        server.close()


def filled(server: Server, place: Path) -> dict[str, str]:
    """Data, a draft, three fits of which one runs, a published potential."""
    begin(place / "silicon")
    file = place / "silicon.extxyz"
    parts = sorted((place / "silicon" / "data").glob("*.extxyz"))
    write(file, [atoms for part in parts for atoms in read(part, ":")], format="extxyz")
    with server.browser() as browser:
        data = browser.post("/api/uploads", files={"files": (file.name, file.open("rb"))}).json()[
            "id"
        ]
        told = browser.post("/api/suggestions", json={"upload": data}).json()["config"]
        tasks = []
        for seed, title in enumerate(("Silicon, Tersoff", "Silicon, another seed")):
            config = told | {
                "parameters": {"free": FREE, "start": OFF},
                "run": {"budget": 1500, "seed": seed},
            }
            tasks.append(made(browser, title, config, submit=True))
        draft = made(browser, "Silicon, with forces", told, submit=False)
        for task in tasks:
            while browser.get(f"/api/tasks/{task}").json()["state"] not in ("done", "failed"):
                time.sleep(0.5)
        card = {"name": "silicon-tersoff", "title": "Silicon after Tersoff, refitted",
                "license": "CC-BY-4.0", "authors": ["A. Lovelace"], "citation": ["an example"]}  # fmt: skip
        browser.post(f"/api/tasks/{tasks[0]}/publish", json=card)
        long = told | {"search": {"name": "cma"}, "run": {"budget": 200_000}}
        running = made(browser, "Silicon, a long search", long, submit=True)
        while not browser.get(f"/api/tasks/{running}").json()["facts"].get("evaluations"):
            time.sleep(0.5)
        cookie = browser.cookies["mlcore_studio"]
    return {"data": data, "draft": draft, "done": tasks[0], "other": tasks[1], "running": running,
            "cookie": cookie}  # fmt: skip


OFF = {"A": 2000.0, "B": 420.0, "lam1": 2.6, "lam2": 1.65, "cos0": -0.5, "n": 0.85}
"""Where searches begin: away from the values that labelled the data."""


def made(
    browser: Any, title: str, config: dict[str, Any], submit: bool, kind: str = "forcefield"
) -> str:
    asked = {"kind": kind, "title": title, "config": config, "submit": submit}
    answer = browser.post("/api/tasks", json=asked)
    if answer.status_code != 201:
        raise SystemExit(answer.text)
    return str(answer.json()["id"])


def shot(
    chromium: Any, server: Server, name: str, known: dict[str, str], file: Path, scheme: str
) -> None:
    context = chromium.new_context(viewport=SIZE, base_url=server.address, color_scheme=scheme)
    context.add_cookies(
        [{"name": "mlcore_studio", "value": known["cookie"], "url": server.address}]
    )
    page = context.new_page()
    page.goto((PAGES | KINDS | PEOPLE)[name].format(**known))
    page.wait_for_timeout(4000)
    page.screenshot(path=str(file), full_page=False)
    context.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "docs" / "studio", sys.argv[2:])
