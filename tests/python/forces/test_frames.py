"""What is read of frames, and which frames are refused."""

from __future__ import annotations

from typing import Any

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
