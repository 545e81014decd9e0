"""What is read of frames, and which frames are refused."""

from __future__ import annotations

import io
from typing import Any

import ase.io
import numpy as np
import pytest
from ase import Atoms
from mlcore import data, forces
from mlcore.errors import InvalidArgument
from mlcore.forces.frames import Kinds, read_frames


def pair(symbols: str = "Ar2", **arrays: Any) -> Atoms:
    atoms = Atoms(symbols, positions=[[0, 0, 0], [1, 0, 0]])
    for name, values in {"forces": np.ones((2, 3)), **arrays}.items():
        atoms.arrays[name] = np.array(values)
    return atoms


def track(types: list[int]) -> data.Trajectory:
    x = np.zeros((3, 2, 3))
    return data.Trajectory(np.arange(3.0), x, forces=x, types=np.array(types))


@pytest.mark.parametrize(
    "frames",
    [
        [pair("NaCl")],
        [pair("Na2"), pair("Cl2")],
        [pair("X2", type=[1, 2])],
        [pair("X2", type=[1, 1]), pair("X2", type=[2, 2])],
        [track([1, 2])],
        [track([1, 1]), track([2, 2])],
    ],
)
def test_one_type_is_not_several(frames: list[Any]) -> None:
    with pytest.raises(InvalidArgument, match=r"types is 1, but the atoms are of (Cl, Na|1, 2)"):
        forces.ExternalForce(("x",)).fit(frames, validation=None)


@pytest.mark.parametrize(
    "frames",
    [[pair("X2")], [pair("X2", type=[2, 2])], [pair(), pair(type=[1, 1])], [track([3, 3])]],
)
def test_one_type_may_have_any_name(frames: list[Any]) -> None:
    found = read_frames(frames, Kinds(1))
    assert len(found) >= len(frames) and not any(frame.types.any() for frame in found)


def test_a_model_of_one_type_refuses_others() -> None:
    model = forces.ExternalForce(("x",), hidden=())
    model.fit([pair()], validation=None)
    with pytest.raises(InvalidArgument, match="types is 1"):
        model.forces(pair("ArKr"))


RECORD = """2
Lattice="9 0 0 0 9 0 0 0 9" Properties=species:S:1:pos:R:3:{name}:R:3:forces:R:3 time=2.5
X 0 0 0 1 2 3 -1 -2 -3
X 1 0 0 1 2 4 -1 -2 -4
"""


@pytest.mark.parametrize("name", ["velo", "vel"])
def test_velocities_and_time_of_a_file(name: str) -> None:
    atoms = ase.io.read(io.StringIO(RECORD.format(name=name)), format="extxyz")
    (frame,) = read_frames(atoms, Kinds(1))
    np.testing.assert_array_equal(frame.v, [[1, 2, 3], [1, 2, 4]])
    assert frame.time == 2.5
    model = forces.ExternalForce(("v",), hidden=())
    model.fit([atoms], validation=None)
    np.testing.assert_allclose(model.forces(atoms), -frame.v, rtol=1e-12)
    atoms.set_momenta(np.zeros((2, 3)))
    (frame,) = read_frames(atoms, Kinds(1))
    assert frame.v is not None and not frame.v.any()


def test_time_is_that_of_the_atoms() -> None:
    frames = [pair(forces=np.full((2, 3), 2.0 * t)) for t in range(4)]
    for t, atoms in enumerate(frames):
        atoms.info["time"] = t
    model = forces.ExternalForce(("x", "time"), hidden=())
    model.fit(frames, validation=None)
    later = pair()
    later.info["time"] = 5.0
    np.testing.assert_allclose(model.forces(later), 10.0, rtol=1e-10)
    np.testing.assert_allclose(model.forces(later, time=1.0), 2.0, rtol=1e-10)
    np.testing.assert_allclose(model.forces(later.positions), 0.0, atol=1e-10)
    later.calc = model.calculator()
    np.testing.assert_allclose(later.get_forces(), 10.0, rtol=1e-10)
    for wrong in ("noon", np.nan, [1.0, 2.0]):
        later.info["time"] = wrong
        with pytest.raises(InvalidArgument, match="time"):
            model.forces(later)


def test_validation_leaves_frames_to_learn_from() -> None:
    with pytest.raises(InvalidArgument, match=r"validation must leave frames .* holds out all 2"):
        forces.PairForce(2.5).fit([pair(), pair()], validation=0.8)
