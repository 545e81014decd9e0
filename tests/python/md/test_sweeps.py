"""Sweeps: every combination, in order, kept, resumed, the same on any threads."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import mlcore.md.sweeps as sweeps
import numpy as np
import pytest
from mlcore import md
from mlcore.errors import FileFormatError, InvalidArgument

OVER: dict[str, Any] = {"k": [1.0, 2.0], "mass": [1.0, 4.0, 9.0], "x0": [-1.0, 2.0]}
RUN: dict[str, Any] = {"dt": 1e-2, "time": 10.0, "every": 50}


def same(a: md.Dataset, b: md.Dataset) -> None:
    for name in ("positions", "velocities", "potential", "kinetic", "masses"):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name))
    assert a.parameters.keys() == b.parameters.keys()
    for name, values in a.parameters.items():
        np.testing.assert_array_equal(values, b.parameters[name])


def test_every_combination_is_the_run_alone() -> None:
    data = md.sweep("oscillator", OVER, **RUN)
    assert data.positions.shape == (12, 21, 1, 1) and data.interval == 0.5
    assert data.parameters["k"].tolist() == [1.0] * 6 + [2.0] * 6
    assert data.parameters["x0"].tolist() == [-1.0, 2.0] * 6
    for run in (0, 5, 11):
        system = data.system_of(run)
        assert system.parameters["k"] == data.parameters["k"][run]
        alone = system.run(
            [[data.parameters["x0"][run]]], dt=1e-2, steps=1000, every=50, mass=data.masses[run]
        )
        np.testing.assert_array_equal(data.positions[run], alone.positions)
        np.testing.assert_array_equal(data.energy[run], alone.energy)
    k, m = data.parameters["k"], data.masses[:, 0]
    expected = data.parameters["x0"][:, None] * np.cos(np.sqrt(k / m)[:, None] * data.times)
    np.testing.assert_allclose(data.positions[:, :, 0, 0], expected, atol=1e-3)


def test_the_same_on_any_threads() -> None:
    one, two = (md.sweep("oscillator", OVER, **RUN, num_threads=t) for t in (1, 2))
    same(one, two)


def test_particles_start_at_random() -> None:
    box = {"n": 8, "box": 6.7949, "epsilon": 2.0}
    data = md.sweep("lennard_jones", {"seed": range(3)}, fixed=box, dt=1e-3, time=0.1, every=10)
    assert data.positions.shape == (3, 11, 8, 3) and data.fixed == box
    x, _ = md.random_start(data.system_of(2), 2)
    np.testing.assert_array_equal(data.positions[2, 0], x)


def test_files(tmp_path: Path) -> None:
    path = tmp_path / "runs.h5"
    made = md.sweep("double_well", {"x0": np.linspace(1.6, 3, 5)}, **RUN, path=path)
    assert [p.name for p in tmp_path.iterdir()] == ["runs.h5"]
    again = md.sweep("double_well", {"x0": np.linspace(1.6, 3, 5)}, **RUN, path=path)
    same(made, again)
    assert again.provenance == made.provenance  # read, not made anew
    assert again.provenance["request"]["truth"] == "verlet"
    with pytest.raises(InvalidArgument, match="holds another sweep"):
        md.sweep("double_well", {"x0": np.linspace(1.6, 3, 6)}, **RUN, path=path)


def test_goes_on_after_a_stop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, made = tmp_path / "runs.h5", sweeps._run
    calls = []

    def stopping(*arguments: Any) -> md.Dataset:
        calls.append(arguments)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return made(*arguments)

    monkeypatch.setattr(sweeps, "_run", stopping)
    with pytest.raises(KeyboardInterrupt):
        md.sweep("oscillator", OVER, **RUN, path=path)
    assert not path.exists()
    whole = md.sweep("oscillator", OVER, **RUN, path=path)
    assert len(calls) == 3  # two systems; the first part was kept
    same(whole, md.sweep("oscillator", OVER, **RUN))
    assert [p.name for p in tmp_path.iterdir()] == ["runs.h5"]


def test_progress() -> None:
    seen: list[tuple[int, int]] = []
    md.sweep("oscillator", OVER, **RUN, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(6000, 12000), (12000, 12000)]


def test_data_sets() -> None:
    data = md.sweep("oscillator", OVER, **RUN)
    train, held_out = data.split(0.75, seed=3)
    keys = [tuple(zip(*d.parameters.values(), strict=True)) for d in (train, held_out)]
    assert (len(train), len(held_out)) == (9, 3) and not set(keys[0]) & set(keys[1])
    coarse = data.stride(4)
    assert coarse.interval == 2.0 and coarse.positions.shape[1] == 6
    np.testing.assert_array_equal(coarse.positions, data.positions[:, ::4])
    assert len(data[data.masses[:, 0] == 4]) == 4 and len(data[3]) == 1
    for wrong, message in ((0, "fraction"), (1.0, "fraction")):
        with pytest.raises(InvalidArgument, match=message):
            data.split(wrong)
    with pytest.raises(InvalidArgument, match="one run cannot be split"):
        data[0].split()


PAIR: dict[str, Any] = {"system": "lennard_jones", "fixed": {"n": 2, "box": 6.0}}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"over": {"x0": []}}, "list of numbers"),
        ({"over": {"x0": [np.nan]}}, "finite"),
        ({"over": {"k": [1]}}, "must hold x0"),
        ({"over": {"x0": [1], "colour": [1]}}, "no parameter 'colour'; it has k, x0, v0, mass"),
        ({"fixed": {"x0": 1.0}}, "both in over and in fixed"),
        ({"time": 10.003}, "whole number of frames"),
        ({"every": 0}, "every must be at least 1"),
        ({"dt": 0}, "dt must be positive"),
        ({"truth": "exact"}, "truth must be"),
        ({"over": {"k": [1.0]}, "fixed": {"x0": "far"}}, "x0 must be a number"),
        ({"system": "lennard_jones", "over": {"seed": [0]}}, "needs the parameter 'n'"),
        ({"system": "lennard_jones", "over": {"n": [2, 3]}}, "n must be in fixed"),
        ({"over": {}, "fixed": {"x0": 1.0}}, "over must hold"),
        ({**PAIR, "over": {"seed": [1], "settle": [0.015]}}, "whole number of steps"),
        ({**PAIR, "over": {"seed": [-1]}}, "seed must not be negative"),
        ({**PAIR, "over": {"seed": [1, 1.5]}}, "seed must be whole numbers, got 1.5"),
        ({**PAIR, "over": {"seed": [1], "lattice": [0.5]}}, "lattice must be whole"),
    ],
)
def test_wrong_requests(change: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        md.sweep(**({"system": "oscillator", "over": OVER} | RUN | change))


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("positions", [[[[0.0]]]], "positions must be a float64 array, got list"),
        ("velocities", np.zeros((12, 21, 1, 1), np.float32), "velocities .* got float32"),
        ("masses", -np.ones((12, 1)), "masses must be positive"),
        ("kinetic", np.zeros((12, 20)), r"kinetic must have the shape \(12, 21\)"),
    ],
)
def test_wrong_data_sets(name: str, value: Any, message: str) -> None:
    data = md.sweep("oscillator", OVER, **RUN)
    with pytest.raises(InvalidArgument, match=message):
        replace(data, **{name: value})


def test_only_runs_of_a_kind_are_put_together() -> None:
    one = md.sweep("oscillator", {"x0": [1.0]}, **RUN)
    same(md.Dataset.concatenate([one]), one)
    assert len(md.Dataset.concatenate([one, one])) == 2
    other = md.sweep("double_well", {"x0": [1.0]}, **RUN)
    for wrong in (other, one.stride(2), replace(one, interval=0.1), replace(one, fixed={"k": 2.0})):
        with pytest.raises(InvalidArgument, match="parts must agree"):
            md.Dataset.concatenate([one, wrong])
    with pytest.raises(InvalidArgument, match="or more"):
        md.Dataset.concatenate([])


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("system", "pendulum"),
        ("system", "lennard_jones"),
        ("fixed", "[1]"),
        ("fixed", '{"q": 1}'),
        ("provenance", "3"),
        ("interval", -1.0),
    ],
)
def test_files_that_were_changed(tmp_path: Path, name: str, value: Any) -> None:
    path = tmp_path / "runs.h5"
    md.sweep("oscillator", OVER, **RUN, path=path)
    with h5py.File(path, "a") as file:
        file.attrs[name] = value
    with pytest.raises(FileFormatError, match=r"runs\.h5: damaged"):
        md.Dataset.load(path)


def test_damaged_files(tmp_path: Path) -> None:
    path = tmp_path / "runs.h5"
    md.sweep("oscillator", OVER, **RUN, path=path)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(FileFormatError, match=r"runs\.h5: damaged"):
        md.Dataset.load(path)
    path.write_bytes(whole)
    with h5py.File(path, "a") as file:
        del file["masses"]
    with pytest.raises(FileFormatError, match="masses"):
        md.Dataset.load(path)
    with h5py.File(path, "w") as file:
        file["x"] = 1
    with pytest.raises(FileFormatError, match="no file of runs"):
        md.Dataset.load(path)
    with pytest.raises(FileFormatError, match="no such file"):
        md.Dataset.load(tmp_path / "none.h5")
