"""Integrators in files: what comes back is what was saved, and nothing damaged does."""

from __future__ import annotations

import importlib
import inspect
import json
from pathlib import Path
from typing import Any

import mlcore.integrators as integrators
import numpy as np
import pytest
from mlcore import md
from mlcore.errors import Error, FileFormatError
from mlcore.integrators import ActionAngleIntegrator, starts
from mlcore.integrators.seen import fingerprints, seen
from mlcore.io.tensors import read_tensors, write_tensors


@pytest.fixture(scope="module")
def taught() -> ActionAngleIntegrator:
    over = {"mass": [1.0, 2.0, 4.0], "x0": starts(md.double_well(), 1.6, 3.0, 12)}
    data = md.sweep("double_well", over, dt=1e-3, time=30, every=10)
    return ActionAngleIntegrator(64, tolerance=1e-2).fit(data)


@pytest.fixture()
def window() -> md.Dataset:
    return md.sweep("double_well", {"x0": [2.0, 2.5], "mass": [1.5]}, dt=1e-3, time=4, every=1000)


def test_comes_back_to_the_bit(
    taught: ActionAngleIntegrator, window: md.Dataset, tmp_path: Path
) -> None:
    taught.save(tmp_path / "m.safetensors")
    again = integrators.load(tmp_path / "m.safetensors")
    assert isinstance(again, ActionAngleIntegrator) and repr(again) == repr(taught)
    a, b = taught.rollout(window, 7), again.rollout(window, 7)
    assert a.accepted.all() and a.refused == b.refused
    np.testing.assert_array_equal(a.positions, b.positions)
    assert again.trained_on == taught.trained_on and len(again.trained_on) == 36
    assert [c.bounds for c in again.charts] == [c.bounds for c in taught.charts]
    assert again.charts[0].bounds.high == np.inf


def damaged(path: Path, **changes: Any) -> None:
    """The file with other settings, or without a tensor."""
    tensors, metadata = read_tensors(path)
    settings = json.loads(metadata["settings"])
    for name, value in changes.items():
        if name in tensors:
            tensors[name] = value
        elif name in ("kind", "format"):
            metadata[name] = value
        elif name.startswith("chart_"):
            settings["charts"][0][name[6:]] = value
        else:
            settings[name] = value
    metadata["settings"] = json.dumps(settings)
    write_tensors(path, tensors, metadata)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"kind": "pickle"}, "pickle"),
        ({"kind": "os.system"}, "kind"),
        ({"harmonics": "64"}, "harmonics"),
        ({"harmonics": 1}, "harmonics"),
        ({"tolerance": -1.0}, "tolerance"),
        ({"system": "pendulum"}, "system"),
        ({"fixed": {"depth": 1}}, "depth"),
        ({"fixed": [1]}, "fixed"),
        ({"trained_on": "all"}, "trained_on"),
        ({"charts": []}, "charts"),
        ({"charts": [1]}, "charts"),
        ({"chart_axes": []}, "axes"),
        ({"chart_axes": [{"low": 1, "high": 0, "degree": 1}]}, "above"),
        ({"chart_axes": [{"low": 0, "high": 1, "degree": -1}]}, "degree"),
        ({"chart_axes": [{"low": 0, "high": 1, "degree": 10**8}]}, "degrees"),
        ({"chart_masses": 9}, "masses"),
        ({"chart_mass_scale": 0.0}, "mass_scale"),
        ({"chart_ranges": []}, "ranges"),
        ({"chart_high": "inf"}, "high"),
        ({"frequency_0": np.zeros(3)}, "frequency_0"),
        ({"shape_0": np.zeros(3)}, "shape_0"),
        ({"size_0": np.zeros(3, dtype=np.float32)}, "size_0"),
    ],
)
def test_damage_is_named(
    taught: ActionAngleIntegrator, tmp_path: Path, changes: dict[str, Any], named: str
) -> None:
    path = tmp_path / "m.safetensors"
    taught.save(path)
    damaged(path, **changes)
    with pytest.raises(FileFormatError, match=named):
        integrators.load(path)


def test_nothing_learned_nothing_saved(tmp_path: Path) -> None:
    with pytest.raises(Error, match="nothing"):
        ActionAngleIntegrator().save(tmp_path / "m")
    with pytest.raises(FileFormatError, match="m"):
        integrators.load(tmp_path / "m")
    (tmp_path / "m").write_bytes(b"\x00" * 50)
    with pytest.raises(FileFormatError):
        integrators.load(tmp_path / "m")


@pytest.mark.parametrize("kind", integrators.saved.KINDS)
def test_every_kind_saves_and_loads(kind: str) -> None:
    module, name = integrators.saved.KINDS[kind]
    found = getattr(importlib.import_module(f"mlcore.integrators.{module}"), name)
    assert callable(found.save) and callable(found.load) and callable(found.rollout)
    with pytest.raises(Error, match="learned nothing yet: call fit first"):
        found().save("never")


@pytest.mark.parametrize("kind", integrators.saved.KINDS)
def test_all_have_one_face(kind: str) -> None:
    """The same calls by the same names: window, n, interval; options by keyword alone."""
    module, name = integrators.saved.KINDS[kind]
    found = getattr(importlib.import_module(f"mlcore.integrators.{module}"), name)
    assert list(inspect.signature(found.step).parameters) == ["self", "window", "interval"]
    for call, shared in (
        ("rollout", ["self", "window", "n", "interval"]),
        ("fit", ["self", "data"]),
    ):
        told = list(inspect.signature(getattr(found, call)).parameters.values())
        assert [one.name for one in told[: len(shared)]] == shared
        assert all(one.kind is one.KEYWORD_ONLY for one in told[len(shared) :])


def test_numbers_that_are_none(taught: ActionAngleIntegrator, tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    for changes, message in (
        ({"format": "another"}, "no integrator"),
        ({"tolerance": 10**400}, "finite"),
    ):
        taught.save(path)
        damaged(path, **changes)
        with pytest.raises(FileFormatError, match=message):
            integrators.load(path)


def test_marks_of_runs(taught: ActionAngleIntegrator, window: md.Dataset) -> None:
    """Of the same start whatever the step, the part of the run, and who tells what."""
    first = fingerprints(window)
    assert len(set(first)) == 2
    finer = md.sweep("double_well", {"x0": [2.5], "mass": [1.5]}, dt=1e-2, time=4, truth="order8")
    assert fingerprints(finer.frames(slice(7, 9))) == first[1:]
    fixed = {"mass": 1.5, "x0": 2.0}
    shared = md.sweep("double_well", {"v0": [0.0]}, fixed=fixed, dt=1e-2, time=1)
    assert fingerprints(shared) == first[:1]
    heavier = md.sweep("double_well", {"x0": [2.5], "mass": [1.6]}, dt=1e-2, time=1)
    assert not set(fingerprints(heavier)) & set(first)
    told = seen(taught, window)
    assert told is not None and not told.any()
    own = starts(md.double_well(), 1.6, 3.0, 12)[3]
    known = md.sweep("double_well", {"x0": [own, 2.0], "mass": [2.0]}, dt=1e-3, time=4)
    told = seen(taught, known)
    assert told is not None and told.tolist() == [True, False]
    assert seen(object(), window) is None


def test_marks_do_not_ask_who_told_a_default() -> None:
    run: dict[str, Any] = {"dt": 1e-3, "time": 0.1}
    silent = md.sweep("oscillator", {"x0": [0.5]}, **run)
    fixed = md.sweep("oscillator", {"x0": [0.5]}, fixed={"k": 1.0}, **run)
    varied = md.sweep("oscillator", {"x0": [0.5], "k": [1.0, 2.0]}, **run)
    assert fingerprints(silent) == fingerprints(fixed) == fingerprints(varied)[:1]
    assert fingerprints(varied)[1:] != fingerprints(silent)
    few: dict[str, Any] = {"n": 3, "box": 6.0}
    many = {**few, "epsilon": 1.0, "settle": 0, "cutoff": 2.5}
    one, other = (md.sweep("lennard_jones", {"seed": [1]}, fixed=f, **run) for f in (few, many))
    assert fingerprints(one) == fingerprints(other)


def test_a_random_start_is_known_by_its_seed() -> None:
    runs = md.sweep(
        "lennard_jones", {"seed": [0, 1]}, fixed={"n": 3, "epsilon": 2.0}, dt=1e-3, time=0.1
    )
    other = md.sweep(
        "lennard_jones", {"seed": [1]}, fixed={"n": 3, "epsilon": 2}, dt=1e-2, time=0.1
    )
    assert fingerprints(other) == fingerprints(runs)[1:]
    assert len(set(fingerprints(runs))) == 2
