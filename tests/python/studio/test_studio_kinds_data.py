"""Data of mobilities and cells: what they are filled in by, runs of carbon, grids, and who works."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import httpx
import numpy as np
import pytest
from ase import Atoms
from kind_files import driven, free, life
from mlcore.data import read_trajectory
from mlcore.errors import FileFormatError
from mlcore.parallel import EngineSettings
from mlcore.sagesnet.carbon import Dataset, Pull
from mlcore.sagesnet.carbon.stretch import Stretch
from mlcore.studio.carbon import read
from mlcore.studio.contents import recognised
from mlcore.studio.kinds import kind_of
from mlcore.studio.kinds.face import Place
from mlcore.studio.kinds.pace import pace, paced
from mlcore.studio.kinds.started import main, write_start
from mlcore.studio.kinds.trained import read_config, write_config
from server import run_of
from test_studio_kinds import done as has_done
from test_studio_kinds import refused, submitted, uploaded
from upload_files import sent

NUMBERS = [f"{who}_NUM_THREADS" for who in ("MLCORE", "OMP", "OPENBLAS", "MKL")]
Until = Callable[..., dict[str, Any]]


def filled(browser: httpx.Client, kind: str, **asked: Any) -> dict[str, Any]:
    """A config that is filled in; it can be run."""
    told = {"config": kind_of(kind).example(), **asked}
    answer = browser.post(f"/api/kinds/{kind}/filled", json=told)
    assert answer.status_code == 200, answer.text
    config: dict[str, Any] = answer.json()["config"]
    assert refused(browser, kind, config) == {}
    return config


def name(reference: str) -> str:
    return reference.removeprefix("upload:")


# -- mobility --------------------------------------------------------------------------------------
def test_a_trajectory_is_cut_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = read_trajectory(free(tmp_path / "free.dump"))
    monkeypatch.chdir(tmp_path)
    for name in NUMBERS:  # so that it is put back
        monkeypatch.setenv(name, "1")
    write_start(tmp_path, 1, {"free.dump": 4})
    for _ in range(2):  # when it is gone on with too
        assert main(["doctor", "--help"]) == 0
        parts = [read_trajectory(path) for path in sorted(tmp_path.glob("part*"))]
        assert [len(part) for part in parts] == [25, 25, 25, 26]
        assert np.array_equal(np.concatenate([part.times for part in parts]), whole.times)
        assert not (tmp_path / "free.dump").exists()
    write_start(tmp_path, 1, {"part1.dump.gz": 20})
    assert main(["doctor", "--help"]) == 1  # too few frames


def axes(view: dict[str, Any]) -> set[str]:
    """Titles of all axes of figures."""
    layouts = [one["layout"] for one in view["figures"]]
    return {one[axis]["title"]["text"] for one in layouts for axis in ("xaxis", "yaxis")}


def test_one_trajectory_is_enough_for_a_mobility_that_is_played_back(
    browser: httpx.Client, supervise: Until, tmp_path: Path, folder: Path
) -> None:
    """From the upload to the motion of what was learned in LAMMPS."""
    uploaded(browser, free(tmp_path / "free.dump"))
    config = filled(browser, "mobility")
    assert config["train"]["data"] == "passive" and config["simulate"][0]["particles"] == 6
    config["train"] |= {"models": ["kernel-ridge"], "run": ["kernel-ridge", "regression"]}
    config["estimate"] |= {"bootstrap": 20}
    (run,) = config["simulate"]
    run |= {"duration": 80.0, "runs": 1}
    task = submitted(browser, "mobility", config)
    told = has_done(browser, supervise, task)
    assert (told["engine"], told["workers"]) == ("processes", browser_workers(browser))
    film = browser.get(f"/api/tasks/{task}/playback").json()
    assert film["count"] == 41 and "LAMMPS" in film["what"]
    frame = browser.get(f"/api/tasks/{task}/playback/40").json()
    assert np.shape(frame["positions"]) == (6, 3) and frame["numbers"] == [0] * 6
    measured = {"distance, a0", "mobility, a0²/(kBT t0)", "wave number, 1/a0", "D(k), a0²/t0"}
    assert axes(browser.get(f"/api/tasks/{task}/view").json()) == measured
    # without units
    place = run_of(folder, task).parent
    write_config(place, {k: v for k, v in read_config(place).items() if k != "units"})
    told = axes(kind_of("mobility").view(place))
    assert told == {f"{what}, reduced" for what in ("distance", "mobility", "wave number", "D(k)")}


def browser_workers(browser: httpx.Client) -> int:
    return int(browser.get("/api/engines").json()[0]["workers"])


def test_a_mobility_is_filled_in_by_forces(browser: httpx.Client, tmp_path: Path) -> None:
    pushed = uploaded(browser, *(driven(tmp_path / f"pushed{k}.dump.gz", k) for k in range(2)))
    uploaded(browser, free(tmp_path / "free.dump"))
    assert "passive" in filled(browser, "mobility")["data"]
    config = filled(browser, "mobility", upload=name(pushed))
    assert config["data"] == {"active": {"files": pushed, "lag": 2.0}}
    assert config["train"]["cutoff"] == 12.0 and config["simulate"] == []
    edges = config["estimate"]["edges"]
    assert edges == sorted(edges) and edges[-1] == pytest.approx(0.866 * 24, rel=0.01)
    told = browser.get(f"/api/uploads/{name(pushed)}").json()
    assert told["kind"] == "trajectory" and told["summary"]["motion"]["forces"]


@pytest.mark.parametrize("kind", ["mobility", "integrators", "sagesnet", "sagesnet_run"])
def test_whatever_is_to_be_filled_in_is_answered(browser: httpx.Client, kind: str) -> None:
    for config in ({}, {"data": 3}, {"runs": [3, {"files": {}}]}, {"net": 4, "start": []},
                   {"fit": [], "data": "upload:x/y", "train": "x", "simulate": 1}):  # fmt: skip
        for upload in (None, "nothing"):
            asked = {"config": config, "upload": upload}
            answer = browser.post(f"/api/kinds/{kind}/filled", json=asked)
            assert answer.status_code == 200, answer.text


# -- grids -----------------------------------------------------------------------------------------
def test_several_grids_are_one_data_set(browser: httpx.Client, tmp_path: Path) -> None:
    reference = uploaded(browser, *(life(tmp_path / f"life{k}.npy", k, 8 + k) for k in (2, 0, 1)))
    summary = browser.get(f"/api/uploads/{name(reference)}").json()["summary"]
    assert (summary["grids"], summary["frames"], summary["shape"]) == (3, 7, [7, 1, 8, 8])
    config = filled(browser, "sagesnet")
    learned, held = config["runs"]
    assert learned["files"] == [f"{reference}/life0.npy", f"{reference}/life1.npy"]
    assert held == {"files": [f"{reference}/life2.npy"], "held_out": True}
    assert config["cells"]["states"] == 2
    flat = tmp_path / "flat.npy"
    np.save(flat, np.zeros((3, 3, 3), np.int8))
    answer = sent(browser, tmp_path / "life0.npy", flat)
    assert answer.status_code == 400 and "alike" in answer.json()["detail"]


# -- carbon ----------------------------------------------------------------------------------------
def carbon(folder: Path, runs: int = 2, frames: int = 7) -> list[Path]:
    """Six atoms that vibrate in an open box, as a set of carbon keeps them."""
    data = Dataset(folder, Pull())
    rng = np.random.default_rng(0)
    start = Atoms("C6", cell=[12.0, 12.0, 8.0], pbc=False)
    start.positions = 3 + 1.45 * np.array([[i, j, 0.3] for i in range(3) for j in range(2)])
    start.set_array("grip", np.array([-1, 0, 0, 0, 0, 1]))
    start.set_array("id", np.arange(1, 7))
    paths = []
    for k in range(runs):
        moved = start.positions + 0.02 * rng.normal(size=(frames, 6, 3))
        strains = np.linspace(0, 0.1, 60)
        curve = np.zeros((60, 7))
        curve[:, 1], curve[:, 2] = strains, np.where(strains < 0.07, 100 * strains, 0.5)
        told = {"pull": Pull().record(), "seed": k, "section": 18.2}
        speeds = 0.002 * rng.normal(size=(frames, 6, 3))
        made = Stretch(start, 10 * np.arange(frames), np.linspace(0, 0.1, frames),
                       moved.astype(np.float32), speeds.astype(np.float32), curve, told)  # fmt: skip
        data.keep(f"{'101'}-{k}", made)
        paths.append(folder / f"101-{k}.h5")
    return paths


def test_runs_of_carbon_teach_a_net_and_begin_a_rollout(
    browser: httpx.Client, supervise: Until, tmp_path: Path
) -> None:
    paths = carbon(tmp_path / "set")
    # as they lie in the folder of a set; what its records say is not believed
    (tmp_path / "set" / "101-0.json").write_text('{"pull": {"timestep": 1e9}}')
    beside = [tmp_path / "set" / "manifest.json", tmp_path / "set" / "101-0.json"]
    reference = uploaded(browser, *paths, *beside)
    told = browser.get(f"/api/uploads/{name(reference)}").json()
    assert told["kind"] == "runs" and told["summary"]["system"] == "carbon pulled apart"
    assert (told["summary"]["runs"], told["summary"]["frames"]) == (2, 14)
    assert told["summary"]["interval"] == pytest.approx(10.0)
    assert browser.get(f"/data/{name(reference)}").status_code == 200
    config = filled(browser, "sagesnet")
    assert config["cells"]["elements"] == ["C"] and config["runs"][1]["held_out"]
    config["cells"] |= {"channels": 4, "width": 8}
    config["fit"] = {"epochs": 2}
    config["grid"] = {"room": 4.0}
    task = submitted(browser, "sagesnet", config)
    has_done(browser, supervise, task)
    run = filled(browser, "sagesnet_run")
    assert run["net"] == f"task:{task}" and run["start"] == f"{reference}/101-0.h5"
    rolled = submitted(browser, "sagesnet_run", run | {"steps": 3})
    has_done(browser, supervise, rolled)
    assert browser.get(f"/api/tasks/{rolled}/playback").json()["count"] == 4
    frame = browser.get(f"/api/tasks/{rolled}/playback/0").json()
    with h5py.File(paths[0]) as file:
        assert np.allclose(frame["positions"], file["positions"][0], atol=1e-3)
    # nets of cells learn from them, integrators do not
    wrong = {"data": f"{reference}/101-0.h5", "model": {"kind": "lstm"}}
    assert "carbon" in refused(browser, "integrators", wrong)["data"]


def link(file: Any, elsewhere: Path) -> None:
    del file["start"]
    file["start"] = h5py.ExternalLink(str(elsewhere), "start")


def stored(file: Any, elsewhere: Path) -> None:
    del file["start"]
    space = [(str(elsewhere), 0, 6 * 3 * 8)]
    file.create_dataset("start", (6, 3), "f8", external=space)


def soft(file: Any, elsewhere: Path) -> None:
    del file["start"]
    file["start"] = h5py.SoftLink("/positions")


def virtual(file: Any, elsewhere: Path) -> None:
    del file["start"]
    layout = h5py.VirtualLayout((6, 3), "f8")
    layout[:] = h5py.VirtualSource(str(elsewhere), "start", (6, 3))
    file.create_virtual_dataset("start", layout)


def shorter(file: Any, elsewhere: Path) -> None:
    del file["velocities"]
    file["velocities"] = np.zeros((2, 6, 3), np.float32)


def endless(file: Any, elsewhere: Path) -> None:
    file["positions"][0, 0, 0] = np.nan


def nonsense(file: Any, elsewhere: Path) -> None:
    file.attrs["record"] = json.dumps({"pull": {"timestep": -1.0}})


def text(file: Any, elsewhere: Path) -> None:
    file.attrs["record"] = "no record"


def objects(file: Any, elsewhere: Path) -> None:
    del file["numbers"]
    file["numbers"] = ["C"] * 6


@pytest.mark.parametrize(
    "spoil", [link, stored, soft, virtual, shorter, endless, nonsense, text, objects]
)
def test_what_is_no_run_of_carbon_is_refused(
    tmp_path: Path, spoil: Callable[[Any, Path], None]
) -> None:
    path, other = carbon(tmp_path / "upload" / "raw")
    with h5py.File(path, "r+") as file:
        spoil(file, other)
    with pytest.raises(FileFormatError, match=re.escape(str(path))):
        read([recognised(path)], tmp_path / "upload")
    assert not (tmp_path / "upload" / "records").exists()


def test_a_refused_run_of_carbon_leaves_nothing(browser: httpx.Client, tmp_path: Path) -> None:
    path, other = carbon(tmp_path / "set")
    with h5py.File(path, "r+") as file:
        link(file, other)
    answer = sent(browser, other, path)
    assert answer.status_code == 400, answer.text
    assert "101-0.h5" in answer.json()["detail"] and str(tmp_path) not in answer.json()["detail"]
    assert browser.get("/api/uploads").json() == []


# -- who works -------------------------------------------------------------------------------------
@pytest.mark.parametrize(("engine", "workers", "threads"), [("processes", 3, 3), ("serial", 8, 1)])
def test_a_task_takes_the_cores_it_was_given(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    engine: Any,
    workers: int,
    threads: int,
) -> None:
    for name in NUMBERS:  # so that it is put back
        monkeypatch.setenv(name, "7")
    kind = kind_of("integrators")
    kind.prepare(kind.example(), tmp_path, Place({}, EngineSettings(name=engine, workers=workers)))
    words = kind.command(tmp_path, fresh=True)
    assert words[1:3] == ["-m", "mlcore.studio.kinds.started"]
    monkeypatch.chdir(tmp_path)
    assert main(["doctor", "--help"]) == 0
    assert [os.environ[name] for name in NUMBERS] == [str(threads), "1", "1", "1"]
    numbers = {one["name"]: one["value"] for one in kind.view(tmp_path)["numbers"]}
    assert numbers["At work"] == f"{threads} thread{'s' if threads > 1 else ''}"


@pytest.mark.parametrize("kind", ["mobility", "integrators", "sagesnet", "sagesnet_run"])
def test_workers_elsewhere_are_refused(kind: str) -> None:
    config = kind_of(kind).example()
    told = {}
    for engine, workers in (("dask", 4), ("mpi", 2), ("dask", 1), ("processes", 4)):
        here = Place({}, EngineSettings(name=engine, workers=workers))  # type: ignore[arg-type]
        problems = kind_of(kind).problems(config, here)
        told[engine, workers] = any("does not work for" in one.message for one in problems)
    assert told == {
        ("dask", 4): True,
        ("mpi", 2): True,
        ("dask", 1): False,
        ("processes", 4): False,
    }


def test_throughput_is_that_of_late(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1e9
    monkeypatch.setattr("mlcore.studio.kinds.pace.time.time", lambda: now)
    for epoch in range(40):
        paced(tmp_path, "epochs", epoch)
        now += 5 if epoch < 20 else 10
    fast, work = pace(tmp_path, 2)
    assert fast["value"] == "0.1 epochs/s" and work["value"] == "2 threads"
    paced(tmp_path, "epochs", 1)  # another training
    assert pace(tmp_path, 1)[0]["value"] == "not yet known"
