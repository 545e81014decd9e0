"""Trajectories of others as runs to learn from."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from mlcore import md
from mlcore.data import Trajectory
from mlcore.errors import InvalidArgument

RNG = np.random.default_rng(0)


def recorded(**changes: object) -> Trajectory:
    told: dict[str, object] = {
        "times": 0.5 * np.arange(6),
        "positions": RNG.uniform(0, 5, (6, 4, 3)),
        "velocities": RNG.standard_normal((6, 4, 3)),
        "cell": np.array([[5.0, 0, 0], [1.0, 5, 0], [0, 0, 6]]),
        "pbc": np.array([True] * 3),
        "types": np.array([1, 2, 1, 2]),
    }
    return Trajectory(**(told | changes))  # type: ignore[arg-type]


def test_runs_of_trajectories(tmp_path: Path) -> None:
    one, other = recorded(), recorded()
    data = md.from_trajectories([one, other], {1: 2.0, 2: 3.0})
    assert data.system == "recorded" and data.interval == 0.5
    assert np.array_equal(data.positions[1], other.positions)
    assert np.array_equal(data.masses, [[2, 3, 2, 3]] * 2)
    kinetic = 0.5 * (data.masses[0][:, None] * one.velocities**2).sum((1, 2))
    assert np.allclose(data.kinetic[0], kinetic)
    system = data.system_of(0)
    assert np.array_equal(system.cell, one.cell) and system.parameters["types"] == (0, 1, 0, 1)
    data.save(tmp_path / "runs.h5")
    again = md.Dataset.load(tmp_path / "runs.h5").system_of(1)
    assert again == system


def test_their_forces_are_not_known() -> None:
    system = md.from_trajectories(recorded()).system_of(0)
    with pytest.raises(InvalidArgument, match="not known"):
        system.energies_forces(np.zeros((4, 3)))
    with pytest.raises(InvalidArgument, match="not known"):
        system.run(np.zeros((4, 3)), dt=0.1, steps=1)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"velocities": None}, r"trajectories\[1\] has no velocities"),
        ({"times": np.array([0, 1, 2, 4, 5, 6.0])}, "equal distances"),
        ({"cell": 5 * np.eye(3)}, "cell of the first"),
        ({"types": np.array([1, 1, 2, 2])}, "types of the first"),
        ({"pbc": np.array([True, True, False])}, "in all directions or in none"),
    ],
)
def test_what_does_not_fit(changes: dict[str, object], message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        md.from_trajectories([recorded(), recorded(**changes)])


def test_masses() -> None:
    with pytest.raises(InvalidArgument, match=r"\[2\] are missing"):
        md.from_trajectories(recorded(), {1: 1.0})
    with pytest.raises(InvalidArgument, match="one number or"):
        md.from_trajectories(recorded(), [1.0, 2.0])
    with pytest.raises(InvalidArgument, match="positive"):
        md.from_trajectories(recorded(), -1.0)
    for text in ("heavy", {1: "heavy", 2: 1.0}):
        with pytest.raises(InvalidArgument, match="masses"):
            md.from_trajectories(recorded(), text)  # type: ignore[arg-type]
    assert md.from_trajectories(replace(recorded(), types=None), 4.0).masses.tolist() == [[4.0] * 4]


def test_symbols_are_types_where_there_are_no_others() -> None:
    symbols = np.array(["Kr", "Ar", "Kr", "Ar"])
    one = recorded(types=None, symbols=symbols)
    data = md.from_trajectories(one, {"Ar": 40.0, "Kr": 84.0})
    assert data.system_of(0).parameters["types"] == (1, 0, 1, 0)
    assert data.masses.tolist() == [[84, 40, 84, 40]]
    alike = md.from_trajectories(recorded(types=None, symbols=np.array(["Ar"] * 4)))
    assert alike.system_of(0).parameters["types"] is None
    with pytest.raises(InvalidArgument, match="types of the first"):
        md.from_trajectories([one, recorded(types=None, symbols=symbols[::-1])])


def test_a_cell_that_does_not_repeat_is_open_space() -> None:
    data = md.from_trajectories(recorded(pbc=np.array([False] * 3)))
    assert data.system_of(0).cell is None


@pytest.mark.parametrize("wrong", [None, 3, [], [3], "run.dump"])
def test_no_trajectories(wrong: object) -> None:
    with pytest.raises(InvalidArgument, match="trajectories must be a Trajectory"):
        md.from_trajectories(wrong)  # type: ignore[arg-type]


def test_crystals_to_start_from() -> None:
    system = md.lennard_jones(32, (32 / 0.8442) ** (1 / 3))
    x, v = md.lattice_start(system, 2, 5, temperature=1.4)
    d = x[:, None] - x
    d -= system.box * np.round(d / system.box)
    r = np.sqrt((d * d).sum(2))[~np.eye(32, dtype=bool)].reshape(32, 31)
    assert np.allclose(np.sort(r, 1)[:, :12], system.box / 2 / np.sqrt(2))
    assert np.allclose(v.sum(0), 0) and np.isclose((v * v).sum() / (3 * 31), 1.4)
    with pytest.raises(InvalidArgument, match="32 particles, not 31"):
        md.lattice_start(md.lennard_jones(31, 3.4), 2, 0)
    with pytest.raises(InvalidArgument, match="box"):
        md.lattice_start(md.lennard_jones(32), 2, 0)


def test_sweeps_that_settle() -> None:
    fixed = {"n": 32, "box": 3.36, "lattice": 2, "temperature": 1.4, "cutoff": 1.6}
    over = {"seed": [1, 2]}
    whole = md.sweep("lennard_jones", over, fixed=fixed, dt=0.005, time=1.0, every=20)
    late = md.sweep(
        "lennard_jones", over, fixed={**fixed, "settle": 0.5}, dt=0.005, time=0.5, every=20
    )
    assert np.array_equal(late.positions, whole.positions[:, 5:])
    with pytest.raises(InvalidArgument, match="settle"):
        md.sweep("lennard_jones", over, fixed={**fixed, "settle": -1}, dt=0.005, time=0.5)
