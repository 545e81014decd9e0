"""The page of a fit: what it shows is what the fit wrote, and costs what is new."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from ase.build import bulk
from chromium import soon
from fastapi import FastAPI
from mlcore.forcefield.config import parse
from mlcore.forcefield.pictures import best_so_far
from mlcore.forcefield.run import Fit, fitting
from mlcore.forcefield.run.history import read_history
from mlcore.forcefield.run.parity import PREDICTED, predicted
from mlcore.forcefield.structures import Dataset, labelled
from mlcore.studio.figures import MOST, bars, figure, histogram, kept, lines, plain, points, table
from mlcore.studio.following import FOLLOWED, Followed, Following, Lines, Thinned, read_json
from mlcore.studio.kinds.fit_view import fit_view, standing
from mlcore.studio.store import State, Store, Task
from playwright.sync_api import Page, expect
from pydantic_core import to_json
from server import Server, run_of
from studio_fits import DIAMOND, SILICON, planted

Until = Callable[..., dict[str, Any]]


# -------------------------------------------------------------------------------- a fit of all kinds
def data_set(folder: Path) -> None:
    """Silicon whose forces pull back to the lattice."""
    boxes = [bulk("Si", "diamond", 5.43, cubic=True) for _ in range(6)]
    made = []
    for k, box in enumerate(boxes):
        rest = box.positions.copy()
        box.rattle(0.03 + 0.01 * k, seed=k)
        pull = 8.0 * (rest - box.positions)
        made.append(labelled(box, -37.0 + 0.5 * float((pull**2).sum()) / 8.0, pull, np.zeros(6)))
    Dataset({"rattled": made}).save(folder)


CONFIG = SILICON | {
    "parameters": {"free": {name: {"within": 0.2} for name in ("A", "B", "lam1")}},
    "data": {"folder": "data", "held_out": {"fraction": 0.34}},
    "targets": [DIAMOND],
    "objective": {"pareto": ["rattled", "diamond"]},
    "search": {"name": "cma"},
    "run": {"budget": 80, "engine": "here"},
}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a fit of energies, forces and properties, some held out, with a front."""
    place = tmp_path_factory.mktemp("fit")
    data_set(place / "data")
    with pytest.MonkeyPatch.context() as patched:
        # what the best says is looked at after every batch
        patched.setattr(fitting, "_PREDICT", 0.0)
        patched.setattr(fitting, "_RARE", 0.0)
        Fit(parse(CONFIG, place).setup(), place / "run").run()
    return place / "run"


def named(view: dict[str, Any]) -> dict[str, Any]:
    return {one["name"]: one for one in (*view["figures"], *view["tables"])}


def test_figures_are_what_the_fit_wrote(run: Path) -> None:
    view = fit_view(run)
    told, result = named(view), json.loads((run / "result.json").read_text())
    assert set(told) >= {
        *(
            "convergence",
            "clock",
            "throughput",
            "parity-energies",
            "parity-forces",
            "terms",
            "groups",
        ),
        *("contributions", "traces", "tried", "front-1", "errors", "properties", "parameters"),
    }
    best = told["convergence"]["data"][-1]
    assert best["y"][-1] == pytest.approx(result["total"], rel=1e-6)
    assert told["convergence"]["layout"]["yaxis"]["type"] == "log"
    energies = {trace["name"]: trace for trace in told["parity-energies"]["data"]}
    assert (len(energies["seen by the search"]["x"]), len(energies["held out"]["x"])) == (4, 2)
    forces = {trace["name"]: trace for trace in told["parity-forces"]["data"]}
    assert len(forces["seen by the search"]["y"]) == 4 * 24
    parts = told["contributions"]["data"][0]
    assert math.fsum(parts["x"]) == pytest.approx(result["total"], rel=1e-5)
    knee = next(row for row in result["front"] if row["knee"])
    assert told["front"]["rows"][0] == ["knee", *plain(knee["objectives"].values())]
    assert told["front-1"]["data"][-1]["y"] == plain([knee["objectives"]["diamond"]])
    assert {row[1] for row in told["errors"]["rows"]} >= {"eV/atom", "eV/Å"}
    values = {row[0]: row for row in told["parameters"]["rows"]}
    assert values["A"][1] == pytest.approx(result["values"]["A"], rel=1e-6)
    assert (values["A"][3] in ("free", "at a bound"), values["lam3"][3]) == (True, "fixed")
    assert view["snippet"] == (run / "model" / "in.lammps").read_text()


def test_errors_of_what_was_held_out_are_those_of_the_values(run: Path) -> None:
    rows = {row[0]: row for row in named(fit_view(run))["errors"]["rows"]}
    told = json.loads((run / "measured.json").read_text())["targets"]
    (forces,) = (r for r in told if r["target"] == "forces of rattled" and r["part"] == "test")
    off = np.array(forces["value"]) - np.array(forces["reference"])
    assert rows["forces of rattled"][5] == pytest.approx(float(np.sqrt(np.mean(off**2))), rel=1e-6)
    assert rows["forces of rattled"][7] == len(off)
    result = json.loads((run / "result.json").read_text())
    assert rows["energy of rattled"][6] == pytest.approx(
        result["test"]["energy of rattled"], rel=1e-6
    )


def test_every_figure_is_said_in_words_and_has_units(run: Path) -> None:
    for one in fit_view(run)["figures"]:
        assert one["text"] and one["title"] and one["section"]
        assert one["layout"]["xaxis"]["title"]["text"]
        assert all("marker" not in t or "color" not in t["marker"] for t in one["data"])


def test_best_so_far_is_the_fits_own(run: Path) -> None:
    following = Following(run)
    following.look()
    entries = read_history(run)
    own = best_so_far(entries)
    assert following.count == len(entries)
    assert [total for _, total, _ in following.improvements] == [
        own[n] for n, _, _ in following.improvements
    ]
    assert following.best is not None
    assert following.best.terms == entries[following.best.number].terms
    assert following.seconds == pytest.approx(math.fsum(entry.seconds for entry in entries))
    front = {tuple(row["objectives"].values()) for row in standing(run).result["front"]}
    assert set(following.front) == front


def test_while_it_runs_there_is_what_is_known_by_then(run: Path, tmp_path: Path) -> None:
    for name in ("versions.json", "best.json", "events.jsonl"):
        shutil.copy(run / name, tmp_path / name)
    assert fit_view(tmp_path)["behind"] is False  # no history yet
    whole = (run / "history.jsonl").read_bytes()
    (tmp_path / "history.jsonl").write_bytes(whole[: len(whole) // 2])
    view = fit_view(tmp_path)
    told = named(view)
    assert {"convergence", "terms", "groups", "traces", "front-1"} <= set(told)
    # of a driver that wrote no predictions
    assert not {"parity-energies", "contributions", "errors"} & set(told)
    assert view["snippet"] == ""
    assert "reproduced" not in {one["name"] for one in view["numbers"]}


def parity_of(view: dict[str, Any]) -> list[dict[str, Any]]:
    return [one for one in view["figures"] if one["name"].startswith("parity")]


def test_parity_is_drawn_from_the_beginning_in_the_figures_that_it_has_in_the_end(
    run: Path, tmp_path: Path
) -> None:
    last = parity_of(fit_view(run))
    running = shutil.copytree(run, tmp_path / "running")
    (running / "result.json").unlink()
    now = fit_view(running)
    told = parity_of(now)
    problem = parse(CONFIG, run.parent).setup(run.parent)
    (tmp_path / PREDICTED).write_text(json.dumps(predicted(problem)))
    (begun, *_) = first = parity_of(fit_view(tmp_path))
    for some in (first, told):
        assert [(one["name"], one["title"], one["layout"]) for one in some] == [
            (one["name"], one["title"], one["layout"]) for one in last
        ]
        # the same series too, so that their legends stay
        assert [[t["name"] for t in one["data"]] for one in some] == [
            [t["name"] for t in one["data"]] for one in last
        ]
    assert begun["data"][1]["y"] == [None] * 4 and "none known yet" in begun["text"]
    best = json.loads((running / PREDICTED).read_text())
    assert told[0]["data"][1]["y"] == plain(best["series"][0]["seen"]["value"])
    assert told[0]["data"][2]["y"] == [None, None]
    # what the search found is what a fresh process finds in the end
    assert told[1]["data"][1]["y"] == pytest.approx(last[1]["data"][1]["y"], rel=1e-5, abs=1e-6)
    names = {one["name"]: one for one in now["numbers"]}
    assert "meV/atom" in names["energy of rattled"]["value"]
    assert named(now)["properties"]["rows"][0][:2] == ["diamond a", 5.432]
    assert [t["name"] for t in named(now)["groups"]["data"]] == ["seen by the search", "held out"]


def test_predictions_that_cannot_be_read_are_none(run: Path, tmp_path: Path) -> None:
    shutil.copy(run / "history.jsonl", tmp_path)
    for text in ("", "{", "[]", '{"series": 3}', '{"evaluation": 1}'):
        (tmp_path / PREDICTED).write_text(text)
        assert parity_of(fit_view(tmp_path)) == []


def test_a_folder_without_anything_has_an_empty_page(tmp_path: Path) -> None:
    view = fit_view(tmp_path / "run")
    assert view["tables"] == [] and [one["name"] for one in view["figures"]] == [
        "convergence",
        "clock",
    ]
    to_json(view)


# ------------------------------------------------------------------------------------- long histories
def long_history(run: Path, folder: Path, count: int, start: int = 0) -> int:
    """Append evaluations ``start`` to ``count`` like those of a fit; how many bytes they are."""
    folder.mkdir(exist_ok=True)
    shutil.copy(run / "versions.json", folder / "versions.json")
    rows = [json.loads(line) for line in (run / "history.jsonl").read_text().splitlines()]
    texts = [json.dumps(row, separators=(",", ":")).partition(",") for row in rows]
    lines = [f'{{"n":{n},{texts[n % len(texts)][2]}\n' for n in range(start, count)]
    events = [
        json.dumps({"event": "batch", "evaluations": n, "budget": 10**6, "elapsed": n / 30, "best": 1.0})
        + "\n"
        for n in range(start, count, 8)
    ]  # fmt: skip
    with (folder / "history.jsonl").open("a") as stream:
        stream.write("".join(lines))
    with (folder / "events.jsonl").open("a") as stream:
        stream.write("".join(events))
    return sum(map(len, lines)) + sum(map(len, events))


def test_a_look_reads_only_what_is_new_however_long_the_history(run: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    size = long_history(run, folder, 50_000)
    following = FOLLOWED.of(folder)
    while fit_view(folder)["behind"]:
        pass
    assert following.count == 50_000
    first = following.bytes_read
    assert size <= first < 1.1 * size
    new = long_history(run, folder, 50_060, start=50_000)
    view = fit_view(folder)
    # besides the new ones some bytes by which the old ones are known again
    assert new <= following.bytes_read - first <= new + 256
    assert following.count == 50_060
    told = following.bytes_read
    fit_view(folder)
    assert following.bytes_read - told <= 256
    assert len(to_json(view)) < 250_000
    for one in view["figures"]:
        for trace in one["data"]:
            assert len(trace["x"]) <= MOST + 2
    rows = (following.totals, following.tried, following.better, following.clock, following.aims)
    assert all(len(one.rows) <= MOST for one in rows)


def test_what_travels_does_not_grow_with_the_history(run: Path, tmp_path: Path) -> None:
    sizes = []
    for k, count in enumerate((4_000, 16_000)):
        long_history(run, tmp_path / str(k), count)
        while (view := fit_view(tmp_path / str(k)))["behind"]:
            pass
        sizes.append(len(to_json(view)))
    assert sizes[1] < 1.3 * sizes[0]


def test_one_look_reads_no_more_than_it_may(run: Path, tmp_path: Path) -> None:
    long_history(run, tmp_path / "run", 6_000)
    following = Following(tmp_path / "run")
    looks = 0
    while looks == 0 or following.behind:
        before = following._history.bytes_read
        following.look(1 << 20)
        assert following._history.bytes_read - before <= 3 << 20
        looks += 1
    assert looks > 1 and following.count == 6_000


def test_a_cache_that_was_lost_changes_nothing(run: Path) -> None:
    first = fit_view(run)
    FOLLOWED._known.clear()
    assert fit_view(run) == first
    few = Followed(most=2)
    for name in "abc":
        few.of(run / name)
    assert len(few) == 2


def test_a_history_that_begins_anew_is_read_anew(run: Path, tmp_path: Path) -> None:
    whole = (run / "history.jsonl").read_bytes()
    path = tmp_path / "history.jsonl"
    path.write_bytes(whole)
    following = Following(tmp_path)
    following.look()
    # started over: another file of the same name, longer than what was read
    path.unlink()
    path.write_bytes(whole.replace(b'"total":', b'"total":1'))
    following.look()
    assert following.count == 80
    assert following.best is not None and str(following.best.total).startswith("1")
    # cut by a driver that found its end torn, and gone on with
    lines_ = whole.splitlines(keepends=True)
    path.write_bytes(b"".join(lines_[:50]))
    following.look()
    assert following.count == 50


def test_half_a_line_waits_for_its_end(run: Path, tmp_path: Path) -> None:
    whole = (run / "history.jsonl").read_bytes().splitlines(keepends=True)
    path = tmp_path / "history.jsonl"
    path.write_bytes(b"".join(whole[:10]) + whole[10][:30])
    following = Following(tmp_path)
    following.look()
    assert following.count == 10 and not following.behind
    with path.open("ab") as stream:
        stream.write(whole[10][30:])
    following.look()
    assert following.count == 11


def test_lines_longer_than_a_chunk_come_whole(tmp_path: Path) -> None:
    path = tmp_path / "long"
    path.write_bytes(b"x" * (3 << 20) + b"\nshort\n")
    told = [line for some in Lines(path).new() for line in some]
    assert [len(line) for line in told] == [3 << 20, 5]


def test_failures_are_counted_by_what_was_said(run: Path, tmp_path: Path) -> None:
    rows = [json.loads(line) for line in (run / "history.jsonl").read_text().splitlines()[:30]]
    for row in rows:
        row.pop("notes", None)
    for row in rows[:20]:
        row |= {"failed": 'lost "atoms"', "total": None, "terms": [], "objectives": [None, None]}
    rows[25]["notes"] = {"diamond": "no volume of rest"}
    text = "".join(json.dumps(row, separators=(",", ":")) + "\n" for row in rows)
    (tmp_path / "history.jsonl").write_text(text + "no line of a history\n")
    view = fit_view(tmp_path)
    assert named(view)["failures"]["rows"] == [['lost "atoms"', 20], ["no volume of rest", 1]]
    assert any("20 of 30 candidates" in words for words in view["warnings"])
    assert FOLLOWED.of(tmp_path).best.number >= 20  # type: ignore[union-attr]


# --------------------------------------------------------------------------------- figures as such
def test_thinning_keeps_an_even_stride() -> None:
    thinned = Thinned(most=100)
    for k in range(12_345):
        thinned.add(k)
    assert 50 <= len(thinned.rows) < 100
    assert thinned.rows == list(range(0, 12_345, thinned.stride))
    assert kept(10, 20).tolist() == list(range(10))
    assert kept(1000, 7)[[0, -1]].tolist() == [0, 999] and len(kept(1000, 7)) == 7


def test_figures_are_json_without_what_json_cannot_hold() -> None:
    made = figure(
        "f", "F", [lines([1, 2, 3], [1.0, math.nan, math.inf], "a"), points([0.1], [0.123456789])],
        "x, s", "y, m", True,
    )  # fmt: skip
    told = json.loads(json.dumps(made, allow_nan=False))
    assert told["data"][0]["y"] == [1.0, None, None]
    assert told["data"][1]["y"] == [0.1234568]
    assert told["text"].startswith("y, m against x, s")
    counts = histogram([0.0, 0.5, 1.0, math.nan], bins=2)
    assert (counts["x"], counts["y"]) == ([0.25, 0.75], [1, 2])
    many = bars([f"b{k}" for k in range(99)], list(range(99)))
    assert len(many["x"]) == 40 and many["y"][0] == "b0"
    rows = table("t", "T", ["a"], [[k] for k in range(300)])
    assert (len(rows["rows"]), rows["count"]) == (200, 300)
    with pytest.raises(ValueError, match="3 x and 2 y"):
        lines([1, 2, 3], [1, 2], "a")


def test_a_file_is_read_again_only_when_it_was_replaced(tmp_path: Path) -> None:
    following, made = Following(tmp_path), []
    path = tmp_path / "result.json"
    assert read_json(following, "result.json", made.append) is None
    path.write_text("[1]")
    for _ in range(3):
        read_json(following, "result.json", made.append)
    path.unlink()
    path.write_text("[1, 2]")
    read_json(following, "result.json", made.append)
    assert made == [[1], [1, 2]]


# ------------------------------------------------------------------------------------- in a studio
def test_what_is_left_is_told_while_a_fit_runs(
    app: FastAPI, browser: httpx.Client, run: Path, tmp_path: Path
) -> None:
    half = shutil.copytree(run, tmp_path / "half")
    (half / "result.json").unlink()
    lines_ = (half / "history.jsonl").read_bytes().splitlines(keepends=True)
    (half / "history.jsonl").write_bytes(b"".join(lines_[: len(lines_) // 2]))
    store = app.state.studio.store
    told = {}
    for state in (State.RUNNING, State.PAUSED, State.FAILED):
        task = planted(store, "local", half, state=state)
        numbers = browser.get(f"/api/tasks/{task}/view").json()["numbers"]
        told[state] = next(one["value"] for one in numbers if one["name"] == "left")
    assert told[State.RUNNING].endswith("s")
    assert told[State.PAUSED] == told[State.FAILED] == ""


def test_the_page_of_a_fit_while_it_runs_and_when_it_is_done(
    browser: httpx.Client, supervise: Until, silicon: dict[str, Any]
) -> None:
    asked = {"kind": "forcefield", "config": silicon, "submit": True, "engine": "serial"}
    task = browser.post("/api/tasks", json=asked).json()["id"]
    assert browser.get(f"/api/tasks/{task}/view").json()["tables"] == []
    supervise(browser, task, "done")
    view = browser.get(f"/api/tasks/{task}/view").json()
    told = named(view)
    assert told["convergence"]["data"][-1]["y"][-1] < 0.01
    assert next(one for one in view["numbers"] if one["name"] == "reproduced")["value"] == "yes"
    assert "pair_style tersoff" in view["snippet"]
    names = {one["name"] for one in browser.get(f"/api/tasks/{task}/downloads").json()}
    assert {"potential.zip", "in.lammps", "report.html", "config.json", "history.jsonl"} <= names
    page = browser.get(f"/tasks/{task}").text
    assert "/static/task.js" in page and 'id="publish"' in page


def test_tasks_side_by_side(browser: httpx.Client, app: FastAPI, run: Path) -> None:
    one, other = (
        planted(app.state.studio.store, "local", run, "One", config=config)
        for config in (CONFIG, CONFIG | {"run": {"budget": 90}})
    )
    answer = browser.get("/api/compare", params={"task": [one, other]})
    assert answer.status_code == 200, answer.text
    told = answer.json()
    assert told["names"] == ["One", "One (2)"]
    shown = named(told)
    assert [trace["name"] for trace in shown["convergence"]["data"]] == ["One", "One (2)"]
    assert shown["parameters"]["marked"] == []
    assert ["run.budget", 80, 90] in shown["settings"]["rows"]
    facts = {row[0]: row[1:] for row in shown["facts"]["rows"]}
    assert facts["evaluations"] == [80, 80] and facts["reproduced"] == ["yes", "yes"]
    assert browser.get("/compare", params={"task": [one, other]}).status_code == 200
    assert "Choose two or more" in browser.get("/compare").text
    assert browser.get("/api/compare", params={"task": [one]}).status_code == 422
    assert browser.get("/api/compare", params={"task": [one] * 9}).status_code == 422


def test_parameters_that_differ_are_marked(
    browser: httpx.Client, app: FastAPI, run: Path, tmp_path: Path
) -> None:
    changed = shutil.copytree(run, tmp_path / "changed")
    result = json.loads((changed / "result.json").read_text())
    result["values"]["B"] *= 1.01
    (changed / "result.json").write_text(json.dumps(result))
    ids = [
        planted(app.state.studio.store, "local", run, "One"),
        planted(app.state.studio.store, "local", changed, "Other"),
    ]
    shown = named(browser.get("/api/compare", params={"task": ids}).json())["parameters"]
    assert [shown["rows"][k][0] for k in shown["marked"]] == ["B"]


def test_a_task_without_a_fit_has_its_facts_compared(
    browser: httpx.Client, app: FastAPI, run: Path
) -> None:
    draft = browser.post("/api/tasks", json={"kind": "forcefield", "title": "Draft"}).json()["id"]
    done = planted(app.state.studio.store, "local", run, "Done")
    told = browser.get("/api/compare", params={"task": [draft, done]}).json()
    facts = {row[0]: row[1:] for row in named(told)["facts"]["rows"]}
    assert facts["state"] == ["draft", "done"] and facts["evaluations"] == [0, 80]


def test_others_tasks_are_neither_seen_nor_compared(
    two: tuple[httpx.Client, httpx.Client], run: Path
) -> None:
    ada, ben = two
    app: Any = ada.app  # type: ignore[attr-defined]
    hers, his = (
        planted(app.state.studio.store, "ada", run),
        planted(app.state.studio.store, "ben", run),
    )
    assert ada.get(f"/api/tasks/{hers}/view").status_code == 200
    assert ben.get(f"/api/tasks/{hers}/view").status_code == 404
    assert ben.get("/api/compare", params={"task": [his, hers]}).status_code == 404
    assert ben.get("/compare", params={"task": [his, hers]}).status_code == 404


def test_figures_grow_while_people_look_at_them(
    studio: Server, page: Page, run: Path, tmp_path: Path
) -> None:
    """What is new comes by itself, zooms stay, one look at a time, numbers as a file."""
    store = Store(studio.folder)
    short = shutil.copytree(run, tmp_path / "short")
    whole = (run / "history.jsonl").read_bytes().splitlines(keepends=True)
    (short / "history.jsonl").write_bytes(b"".join(whole[:40]))
    for name in ("result.json", "measured.json"):
        (short / name).unlink()
    task = planted(store, "local", short, state=State.PAUSED)
    folder = run_of(studio.folder, task)

    def changed(line: str) -> None:
        with store.session() as session:
            session.get_one(Task, task).line = line

    looks = {"now": 0, "most": 0}

    def asked(request: Any, by: int) -> None:
        if request.url.endswith("/view"):
            looks["now"] += by
            looks["most"] = max(looks.values())

    page.on("request", lambda request: asked(request, 1))
    page.on("requestfinished", lambda request: asked(request, -1))
    page.goto(f"/tasks/{task}")
    plot = "document.querySelector('#figure-convergence .plot')"
    evaluations = page.locator('[data-number="evaluations"] dd').first
    expect(evaluations).to_have_text("40")
    # heads stand over their numbers, also where the first row has none
    for column in ("lower", "held out"):
        head = page.get_by_role("columnheader", name=column, exact=True).first
        expect(head).to_have_class("number")
    soon(page, f"Boolean({plot}?.data)")
    page.evaluate(f"Plotly.relayout({plot}, {{'xaxis.range': [5, 30]}})")
    for count in (60, 80):
        (folder / "history.jsonl").write_bytes(b"".join(whole[:count]))
        changed(f"{count} evaluations")
        expect(evaluations).to_have_text(str(count))
        soon(page, f"{plot}?.data?.at(-1).x.at(-1) === {count}")
    assert page.evaluate(f"{plot}.layout.xaxis.range") == [5, 30]
    assert looks["most"] == 1
    # parity is drawn by now; what a fresh process measures in the end takes its place
    held = "document.querySelector('#figure-parity-energies .plot')?.data?.[2].y[0]"
    soon(page, f"{held} === null")
    page.evaluate("window.card = document.getElementById('figure-parity-energies')")
    box = page.locator("#figure-parity-energies").bounding_box()
    for name in ("measured.json", "result.json"):
        shutil.copy(run / name, folder / name)
    changed("done")
    soon(page, f"typeof {held} === 'number'")
    assert page.evaluate("window.card === document.getElementById('figure-parity-energies')")
    assert page.locator("#figure-parity-energies").bounding_box() == box
    with page.expect_download() as told:
        page.get_by_role("button", name="Numbers of Convergence, as CSV").click()
    rows = told.value.path().read_text().splitlines()
    assert rows[0] == "series,evaluations,score" and len(rows) > 81
    store.close()
