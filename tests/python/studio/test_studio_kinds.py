"""Mobilities, integrators and nets of cells as tasks: from files of a user to what they take home."""

from __future__ import annotations

import contextlib
import json
import time
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from kind_files import BOX, driven, life
from mlcore.errors import InvalidArgument
from mlcore.integrators import load
from mlcore.md import SYSTEMS, sweep
from mlcore.parallel import EngineSettings
from mlcore.studio.kinds import kind_of, kinds
from mlcore.studio.kinds.face import Place
from mlcore.studio.kinds.films import CellFilm, PointFilm, TrajectoryFilm
from mlcore.studio.kinds.inputs import Inputs
from mlcore.studio.kinds.integrators_form import names_of
from mlcore.studio.kinds.trained import toml
from server import set_up
from server import submitted as fitted

Until = Callable[..., dict[str, Any]]


def uploaded(browser: httpx.Client, *files: Path) -> str:
    sent = [("files", (path.name, path.read_bytes())) for path in files]
    answer = browser.post("/api/uploads", files=sent)
    assert answer.status_code == 201, answer.text
    return f"upload:{answer.json()['id']}"


def submitted(browser: httpx.Client, kind: str, config: dict[str, Any]) -> str:
    answer = browser.post("/api/tasks", json={"kind": kind, "config": config, "submit": True})
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


def refused(browser: httpx.Client, kind: str, config: dict[str, Any]) -> dict[str, str]:
    """Problems by field; nothing may be run."""
    answer = browser.post(f"/api/kinds/{kind}/check", json={"config": config})
    assert answer.status_code == 200, answer.text
    return {one["field"]: one["message"] for one in answer.json()}


def done(browser: httpx.Client, supervise: Until, task: str) -> dict[str, Any]:
    told = supervise(browser, task, "done", "failed", seconds=300)
    assert told["state"] == "done", told["error"] + browser.get(f"/api/tasks/{task}/log").text
    assert told["progress"] == 1
    return told


def shown(browser: httpx.Client, task: str) -> dict[str, dict[str, Any]]:
    """Figures and tables by name; they are JSON that browsers can read."""
    answer = browser.get(f"/api/tasks/{task}/view")
    assert answer.status_code == 200, answer.text
    told = json.loads(answer.text, parse_constant=lambda word: pytest.fail(word))
    return {one["name"]: one for one in (*told["figures"], *told["tables"])}


def offered(browser: httpx.Client, task: str) -> set[str]:
    return {one["name"] for one in browser.get(f"/api/tasks/{task}/downloads").json()}


# -- mobility --------------------------------------------------------------------------------------
def test_a_mobility_is_learned_from_uploaded_trajectories(
    browser: httpx.Client, supervise: Until, tmp_path: Path
) -> None:
    files = [driven(tmp_path / f"pushed{k}.dump.gz", k) for k in range(4)]
    config = kind_of("mobility").example()
    config["data"]["active"]["files"] = uploaded(browser, *files)
    config["train"] |= {"epochs": 150}
    config["estimate"] |= {"bootstrap": 40}
    config["theory"] = {"radius": 2.0, "viscosity": 2.5}
    task = submitted(browser, "mobility", config)
    told = done(browser, supervise, task)
    assert told["facts"]["epoch"] == 150
    parts = shown(browser, task)
    data, learned, other, theory = _named(parts["mobility-active-par"])
    assert len(data["error_y"]["array"]) == len(data["x"]) == 7
    assert learned["name"].startswith("learned") and theory["name"].startswith("kernel ridge")
    assert other["name"] == "periodic RPY"
    layout = parts["mobility-active-par"]["layout"]
    assert layout["xaxis"]["title"]["text"] == "distance, a0"
    assert layout["yaxis"]["title"]["text"] == "mobility, a0²/(kBT t0)"
    found = next(row for row in parts["models"]["rows"] if row[0] == "neural")
    # of a sphere among its images
    assert found[2] == pytest.approx((1 - 2.837 * 2.0 / BOX) / (6 * np.pi * 2.5 * 2.0), rel=0.1)
    assert len(parts["learning"]["data"][0]["y"]) == 150
    assert {"mobility.zip", "report.html", "config.toml", "pair_active.png"} <= offered(
        browser, task
    )
    assert browser.get(f"/api/tasks/{task}/playback").status_code == 404


def _named(figure: dict[str, Any]) -> list[dict[str, Any]]:
    return list(figure["data"])


def test_a_mobility_is_of_files_of_the_user_and_runs_no_scripts(
    browser: httpx.Client, tmp_path: Path
) -> None:
    config = kind_of("mobility").example()
    assert "data.active.files" in refused(browser, "mobility", config)
    for path in ("/etc/passwd", "../*.dump", str(tmp_path / "*")):
        config["data"]["active"]["files"] = path
        assert "say upload:ID" in refused(browser, "mobility", config)["data.active.files"]
    reference = uploaded(browser, driven(tmp_path / "one.dump.gz", 0))
    for inside in ("/../../*", "/..", "//etc/passwd", "/none*"):
        config["data"]["active"]["files"] = reference + inside
        assert refused(browser, "mobility", config).keys() == {"data.active.files"}
    config["data"]["active"]["files"] = reference
    assert refused(browser, "mobility", config) == {}
    cost = {"script": f"{reference}/one.dump.gz", "particles": 3, "box": 9, "time_step": 0.1}
    assert "not run here" in refused(browser, "mobility", config | {"cost": cost})["cost"]
    assert refused(browser, "mobility", config | {"seed": float(2**40)}).keys() == {"seed"}


# -- integrators -----------------------------------------------------------------------------------
def test_an_integrator_is_trained_and_reported(
    browser: httpx.Client, supervise: Until, tmp_path: Path
) -> None:
    starts = np.linspace(1.5, 3.0, 8)
    sweep("double_well", {"x0": starts}, dt=1e-2, time=8.0, every=20, path=tmp_path / "runs.h5")
    config = {
        "model": {"kind": "lstm", "hidden": [8]},
        "fit": {"data": uploaded(browser, tmp_path / "runs.h5"), "epochs": 6, "held_out": 0.25},
    }
    task = submitted(browser, "integrators", config)
    told = done(browser, supervise, task)
    assert told["facts"]["epoch"] == 6
    parts = shown(browser, task)
    assert len(parts["learning"]["data"][0]["y"]) == 6
    names = [one["name"] for one in parts["autoregressive"]["data"]]
    assert names == ["learned", "straight flight"]
    assert parts["numbers"]["columns"][1:3] == ["truth", "learned"] and parts["gates"]["rows"]
    assert {"report.html", "report.json", "config.toml"} <= offered(browser, task)
    kept = tmp_path / "kept.safetensors"
    kept.write_bytes(browser.get(f"/api/tasks/{task}/downloads/integrator.safetensors").content)
    assert load(kept).hidden == (8,)
    film = browser.get(f"/api/tasks/{task}/playback").json()
    assert film["count"] == 41 - 5
    frame = browser.get(f"/api/tasks/{task}/playback/{film['count'] - 1}").json()
    # the true motion beside the learned one
    assert frame["symbols"] == ["learned", "true"] and frame["numbers"] == [0, 0]
    learned, true = np.array(frame["positions"])
    assert learned[1:].tolist() == [0, 0] and true[1] > 0 == true[2]
    for place, (low, high) in zip((*learned, *true), 2 * frame["extent"], strict=True):
        assert low - 1e-4 <= place <= high + 1e-4
    assert browser.get(f"/api/tasks/{task}/playback/{film['count']}").status_code == 404


def test_wrong_integrators_are_told_by_field(browser: httpx.Client) -> None:
    config = kind_of("integrators").example()
    assert refused(browser, "integrators", config) == {}
    wrong = config | {"model": {"kind": "lstm", "window": 0}}
    assert "window must be at least 1" in refused(browser, "integrators", wrong)["model"]
    over = {"x0": [{"from": 1, "to": 2, "count": 10**9}]}
    assert (
        "too much"
        in refused(browser, "integrators", config | {"runs": config["runs"] | {"over": over}})[
            "runs"
        ]
    )
    assert refused(browser, "integrators", {"model": {"kind": "lstm"}, "fit": {"data": "/x.h5"}})
    # of a size that no machine has: told without its memory
    large = config | {"model": {"kind": "lstm", "hidden": [10**6, 10**6]}}
    assert refused(browser, "integrators", large) == {}
    checkpoint = config | {"fit": {"checkpoint": "/tmp/x"}}
    assert "no such field" in next(iter(refused(browser, "integrators", checkpoint).values()))


# -- nets of cells ---------------------------------------------------------------------------------
def test_a_net_is_fitted_and_rolled_out_and_played_back(
    browser: httpx.Client, supervise: Until, tmp_path: Path
) -> None:
    first, second, third = (uploaded(browser, life(tmp_path / f"life{k}.npy", k)) for k in range(3))
    config = kind_of("sagesnet").example() | {
        "runs": [
            {"files": [first, f"{second}/life*.npy"]},
            {"files": third, "held_out": True},
        ],
        "fit": {"epochs": 2},
    }
    config["levels"] = [
        {"width": 8, "residual": False},
        {"space": [1, 2, 2], "time": 2, "width": 4},
    ]
    task = submitted(browser, "sagesnet", config)
    done(browser, supervise, task)
    parts = shown(browser, task)
    for level in (0, 1):
        learned, held_out = parts[f"learning-level_{level}"]["data"]
        assert len(learned["y"]) == 2 == len(held_out["y"])
    assert [row[0] for row in parts["levels"]["rows"]] == [0, 1]
    assert {"net.zip", "summary.json", "config.toml"} <= offered(browser, task)
    run = {"net": f"task:{task}", "start": third, "steps": 6}
    rolled = submitted(browser, "sagesnet_run", run)
    # what a task was given stays when its sources go
    assert browser.delete(f"/api/tasks/{task}").status_code == 204
    done(browser, supervise, rolled)
    parts = shown(browser, rolled)
    assert parts["shares"]["data"][0]["x"] == [0, 1, 2, 3, 4, 5, 6]
    assert {"motion.npy", "motion.gif"} <= offered(browser, rolled)
    assert browser.get(f"/api/tasks/{rolled}/playback").json()["count"] == 7
    grid = browser.get(f"/api/tasks/{rolled}/playback/0").json()["grid"]
    assert grid["shape"] == [1, 8, 8]
    begun = np.load(tmp_path / "life2.npy")[0]
    assert np.array_equal(np.reshape(grid["values"], grid["shape"]), begun)
    assert browser.get(f"/api/tasks/{rolled}/playback/7").status_code == 404


def test_nets_of_others_are_not_there(
    two: tuple[httpx.Client, httpx.Client], tmp_path: Path
) -> None:
    """Also where a task of theirs is named that has a net."""
    ada, ben = two
    studio = ada.app.state.studio  # type: ignore[attr-defined]
    reference = {who: uploaded(who, life(tmp_path / "life0.npy")) for who in two}
    task = ada.post("/api/tasks", json={"kind": "sagesnet"}).json()["id"]
    from mlcore.studio.store import State, Task

    with studio.store.session() as session:
        row = session.get_one(Task, task)
        row.state = State.DONE
        folder = studio.store.task_folder(row)
    told = {"net": {"cells": {"kind": "automaton"}}}
    (folder / "run" / "net").mkdir(parents=True)
    (folder / "run" / "net" / "manifest.json").write_text(json.dumps(told))
    run = {"net": f"task:{task}", "start": reference[ada], "steps": 6}
    assert refused(ada, "sagesnet_run", run) == {}
    assert refused(ben, "sagesnet_run", run | {"start": reference[ben]}).keys() == {"net"}
    assert refused(ada, "sagesnet_run", run | {"net": f"task:../{task}"}).keys() == {"net"}
    assert refused(ada, "sagesnet_run", run | {"start": reference[ben]}).keys() == {"start"}
    assert refused(ada, "sagesnet_run", run | {"environment": {"--out": 1}})
    assert ben.get(f"/api/tasks/{task}/playback").status_code == 404


def test_nets_too_large_to_try_are_refused(browser: httpx.Client) -> None:
    config = kind_of("sagesnet").example()
    levels = [{"width": 10**6}]
    assert "levels.0.width" in refused(browser, "sagesnet", config | {"levels": levels})
    assert refused(browser, "sagesnet", config | {"levels": [{}] * 40}).keys() == {"levels"}
    cells = {"kind": "automaton", "channels": 1e9}
    assert refused(browser, "sagesnet", config | {"cells": cells}).keys() == {"cells.channels"}
    assert "runs.0.files" in refused(browser, "sagesnet", config | {"runs": [{"files": "/*.npy"}]})


# -- what they share -------------------------------------------------------------------------------
def test_configs_are_written_as_toml_without_loss() -> None:
    told: dict[str, Any] = {
        "text": 'a "b" \\ \n \x7f é',
        "numbers": [1, 2.5, -1e-30, True],
        "odd key": {"inner": {"x": [{"a": 1}, {"a": [[1], [2]]}], "mixed": [1, {"b": 2}]}},
        "empty": {},
        "none": [],
    }
    assert tomllib.loads(toml(told)) == told
    assert tomllib.loads(toml({"a": None, "b": {"c": None, "d": 1}})) == {"b": {"d": 1}}
    for kind in kinds().values():
        assert tomllib.loads(toml(kind.example())) == kind.example()


@pytest.mark.parametrize("odd", [3, [[]], {"a": 1}])
def test_odd_sections_are_problems(odd: Any) -> None:
    """Of every kind; and a draft that holds them is listed."""
    place = Place({}, EngineSettings(name="serial", workers=1))
    for kind in kinds().values():
        for name in {*kind.example(), "targets", "cost", "fit", "levels", "cells", "grid"}:
            config = {**kind.example(), name: odd}
            assert all(one.message for one in kind.problems(config, place))
            assert isinstance(kind.summary(config), str)


@pytest.mark.parametrize("kind", ["mobility", "integrators", "sagesnet", "sagesnet_run"])
@pytest.mark.parametrize(
    "config",
    [
        {}, {"data": 3}, {"data": {"active": []}}, {"runs": "x"}, {"runs": [3, {"files": 7}]},
        {"cells": [], "levels": {"a": 1}, "runs": [{"files": [None]}]}, {"cells": {"kind": []}},
        {"cells": {"kind": "atoms", "elements": ["Xx", 1e400]}}, {"model": {"kind": 3}, "fit": []},
        {"levels": [{"width": [1e308]}], "cells": {"kind": "atoms", "dt": "x"}, "runs": []},
        {"fit": {"data": ["upload:ID"]}, "model": {"kind": "lstm", "hidden": "x"}},
        {"net": "task:", "start": "upload:"}, {"net": 1, "start": None}, {"\ud800": "\udfff"},
    ],
)  # fmt: skip
def test_whatever_is_told_is_answered_by_problems(kind: str, config: dict[str, Any]) -> None:
    place = Place({}, EngineSettings(name="serial"))
    for told in (config, kind_of(kind).example() | config):
        problems = kind_of(kind).problems(told, place)
        assert all(isinstance(one.message, str) and one.message for one in problems)
        assert problems or not config


def test_files_are_those_of_the_upload_alone(tmp_path: Path) -> None:
    home = tmp_path / "abc"
    (home / "raw").mkdir(parents=True)
    (home / "data").mkdir()
    for name in ("raw/a.npy", "raw/b.npy", "raw/.hidden.npy", "data/made.npy", "view.npy"):
        (home / name).write_bytes(b"x")
    (tmp_path / "secret.npy").write_bytes(b"x")
    (home / "raw" / "link.npy").symlink_to(tmp_path / "secret.npy")
    inputs = Inputs(Place({"abc": home}, EngineSettings()))
    assert inputs.take("runs.0", "upload:abc", (".npy",)) == "inputs/runs_0/*"
    assert sorted(inputs.links) == ["inputs/runs_0/a.npy", "inputs/runs_0/b.npy"]
    assert inputs.take("one", "upload:abc/a.npy", (".npy",)) == "inputs/one/a.npy"
    assert not inputs.problems
    inputs.link(tmp_path / "task")
    assert (tmp_path / "task" / "inputs" / "one" / "a.npy").read_bytes() == b"x"


# -- films -----------------------------------------------------------------------------------------
def test_a_trajectory_is_shown_in_its_box(tmp_path: Path) -> None:
    film = TrajectoryFilm(driven(tmp_path / "pushed.dump", 3), "pushed")
    assert film.count == 241
    frame = film.frame(240)
    places = np.array(frame["positions"])
    assert places.shape == (6, 3) and places.min() >= 0 and places.max() <= BOX
    assert frame["cell"] == (BOX * np.eye(3)).tolist() and frame["pbc"] == [True] * 3


def test_large_films_are_thinned(tmp_path: Path) -> None:
    points = PointFilm(np.zeros((1000, 50_000, 2), np.float32), "many")
    assert points.count == 400
    assert np.shape(points.frame(399)["positions"]) == (16_667, 3)
    np.save(tmp_path / "cells.npy", np.ones((2, 1, 100, 100, 1), np.int8))
    grid = CellFilm(tmp_path / "cells.npy", "cells").frame(1)["grid"]
    assert grid["shape"] == [34, 34, 1] and len(grid["values"]) == 34 * 34


def test_runs_are_told_by_what_their_system_has(browser: httpx.Client) -> None:
    """What is wrong with a sweep is told where it stands, and before it is run."""
    for system in SYSTEMS:
        with pytest.raises(InvalidArgument) as told:
            sweep(system, {"nothing": [1.0]}, dt=1.0, time=1.0)
        listed = str(told.value).rpartition("it has ")[2].split(", ")
        assert list(names_of(system)) == listed
    config = kind_of("integrators").example()
    assert refused(browser, "integrators", config) == {}

    def wrong(**runs: Any) -> dict[str, str]:
        return refused(browser, "integrators", config | {"runs": config["runs"] | runs})

    assert wrong(over={}).keys() == {"runs"}
    assert wrong(over={}, fixed={"x0": 1.5}).keys() == {"runs.over"}
    assert wrong(over={"x0": 1.5, "k": 2.0}).keys() == {"runs.over.k"}
    assert wrong(over={"x0": 1.5}, fixed={"x0": 1.0}).keys() == {"runs.fixed.x0"}
    assert wrong(time=20.1).keys() == {"runs.time"}
    rows = [{"from": 1.5, "to": "far", "count": 20}, "near"]
    assert wrong(over={"x0": rows}).keys() == {"runs.over.x0.0.to", "runs.over.x0.1"}
    assert wrong(over={"x0": "near"}).keys() == {"runs.over.x0"}
    cluster = {"system": "lennard_jones", "dt": 0.01, "time": 1.0, "every": 10}
    assert wrong(**cluster, over={"seed": 1}).keys() == {"runs"}
    assert wrong(**cluster, over={"seed": 1}, fixed={"n": 8}) == {}


# -- engines ---------------------------------------------------------------------------------------
ENGINES = """
[engines.serial]
name = "serial"
[engines.cluster]
name = "dask"
workers = 2
options = {chunk_seconds = 0.2}
[engines.batch]
name = "mpi"
workers = 2
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Of a studio whose administrator has set up engines."""
    return set_up(tmp_path / "studio", ENGINES)


def processes_in(folder: Path) -> list[int]:
    """Those that work in a folder."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                if (entry / "cwd").resolve().is_relative_to(folder):
                    found.append(int(entry.name))
    return found


def test_engines_of_the_administrator_find_the_same(
    browser: httpx.Client, supervise: Until, silicon: dict[str, Any], folder: Path
) -> None:
    config = silicon | {"run": {"budget": 8, "seed": 4}}
    told = {one["name"]: one for one in browser.get("/api/engines").json()}
    assert {n: (e["kind"], e["workers"]) for n, e in told.items()} == {
        "serial": ("serial", 1), "cluster": ("dask", 2), "batch": ("mpi", 2),
    }  # fmt: skip
    tasks = {name: fitted(browser, config, name) for name in told}
    best = {name: done(browser, supervise, task)["facts"]["best"] for name, task in tasks.items()}
    assert best["cluster"] == best["serial"] == best["batch"]
    (batch,) = folder.glob(f"users/*/tasks/{tasks['batch']}")
    words = json.loads((batch / "command.json").read_text())
    assert words[0].endswith("mpiexec") and words[1:3] == ["-n", "3"]


def test_an_mpi_job_is_ended_as_a_whole_and_gone_on_with(
    browser: httpx.Client, supervise: Until, silicon: dict[str, Any], folder: Path
) -> None:
    config = silicon | {"run": {"budget": 3000}, "search": {"name": "cma"}}
    task = fitted(browser, config, "batch")
    while not (before := browser.get(f"/api/tasks/{task}").json()["facts"].get("evaluations")):
        supervise(browser, task, "running", "queued")
    assert len(processes_in(folder)) > 3
    browser.post(f"/api/tasks/{task}/pause")
    supervise(browser, task, "paused")
    end = time.monotonic() + 60
    while processes_in(folder) and time.monotonic() < end:
        time.sleep(0.1)
    assert processes_in(folder) == []
    browser.post(f"/api/tasks/{task}/resume")
    while (now := supervise(browser, task, "running", "queued")["facts"]["evaluations"]) <= before:
        pass
    assert now > before
    browser.post(f"/api/tasks/{task}/cancel")
    supervise(browser, task, "cancelled")


@pytest.mark.parametrize(
    "smuggled",
    [
        {"engine": {"name": "dask", "options": {"address": "tcp://10.0.0.1:8786"}}},
        {"engine": {"name": "parsl", "options": {"provider": "slurm"}}, "workers": 64},
        {"engine": "mpi", "workers": 512},
        {"workers": 10**6},
    ],
)
def test_a_config_says_nothing_of_engines(
    smuggled: dict[str, Any], silicon: dict[str, Any], tmp_path: Path
) -> None:
    place = Place({}, EngineSettings(name="processes", workers=2))
    kind = kind_of("forcefield")
    config = silicon | {"run": smuggled | {"budget": 5}}
    assert kind.problems(config, place) == []
    kind.prepare(config, tmp_path, place)
    told = json.loads((tmp_path / "config.json").read_text())["run"]
    assert told == {"budget": 5, "engine": place.engine.model_dump(mode="json")}
    assert kind.command(tmp_path, fresh=True)[0] == "mlcore"
    assert kind.problems(silicon | {"engines": smuggled}, place)


def test_a_task_has_no_more_workers_than_its_engine(browser: httpx.Client) -> None:
    for asked in ({"engine": "batch", "workers": 3}, {"engine": "parsl"}):
        answer = browser.post("/api/tasks", json={"kind": "forcefield", **asked})
        assert answer.status_code == 400, answer.text
