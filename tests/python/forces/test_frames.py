"""What is read of frames, and which frames are refused."""

from __future__ import annotations

import io
from pathlib import Path
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
    (frame,) = read_frames(atoms, Kinds(1, "lj"))
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


def test_velocities_of_ase_are_converted() -> None:
    """One u moved by one eV of twice its kinetic energy: sqrt(eV/u) = 9822.694 m/s."""
    speed = (1.602176634e-19 / 1.66053906892e-27) ** 0.5
    atoms = pair(masses=[4.0, 4.0])
    atoms.set_momenta([[4.0, 0, 0], [0, -8.0, 2.0]])
    told = np.array([[1.0, 0, 0], [0, -2.0, 0.5]])
    for units, factor in (("lj", 1.0), ("metal", speed * 1e10 * 1e-12), ("real", speed * 1e-5)):
        (frame,) = read_frames([atoms], Kinds(1, units))
        np.testing.assert_allclose(frame.v, told * factor, rtol=1e-8)
        atoms.arrays["velo"] = told
        assert not np.allclose(read_frames(atoms, Kinds(1, units))[0].v, told) or units == "lj"
        del atoms.arrays["velo"]
    assert speed * 1e-2 == pytest.approx(98.2269, rel=1e-6)
    with pytest.raises(InvalidArgument, match="units must be one of lj, metal, real, not 'si'"):
        forces.ExternalForce(("v",), units="si")


def test_drag_of_atoms_is_that_of_the_run(tmp_path: Path) -> None:
    """Drag of 0.25 eV ps/A^2, told by momenta of ASE, and asked for in A/ps."""
    rng = np.random.default_rng(0)
    frames = []
    for _ in range(4):
        atoms = pair("Cu2")
        v = rng.normal(size=(2, 3))
        atoms.arrays["forces"] = -0.25 * v
        atoms.set_momenta(v / 98.22694788 * atoms.get_masses()[:, None])
        frames.append(atoms)
    model = forces.ExternalForce(("v",), hidden=(), units="metal")
    model.fit(frames, validation=None)
    one = np.ones((2, 3))
    np.testing.assert_allclose(model.forces(0 * one, velocities=one), -0.25, rtol=1e-6)
    np.testing.assert_allclose(model.forces(frames[0]), frames[0].arrays["forces"], rtol=1e-6)
    frames[1].calc = model.calculator()
    np.testing.assert_allclose(frames[1].get_forces(), frames[1].arrays["forces"], rtol=1e-6)
    bundle = model.export(tmp_path / "b", torchscript=False)
    assert set(bundle.units.values()) == {"metal"}
    loaded = forces.load(tmp_path / "b")
    np.testing.assert_allclose(loaded.forces(frames[0]), frames[0].arrays["forces"], rtol=1e-6)
    with pytest.raises(InvalidArgument, match="units must be those of the model, 'metal'"):
        model.export(tmp_path / "c", units="lj")
    committee = forces.Committee(model, members=2)
    committee.fit(frames, validation=None)
    np.testing.assert_allclose(committee.forces(frames[0]), frames[0].arrays["forces"], rtol=1e-6)
    with pytest.raises(InvalidArgument, match="units of ASE: make the model with units="):
        forces.ExternalForce(("v",), hidden=()).fit(frames, validation=None)
    forces.ExternalForce(("x",), hidden=()).fit(frames, validation=None)


SALT = """4
Lattice="9 0 0 0 9 0 0 0 9" Properties=species:S:1:pos:R:3:forces:R:3 energy={k} time={k}
Na 0 0 0 {a} 0 0
Cl 2.8 0 0 -{a} 0 0
Na 0 2.8 0 0 {a} 0
Cl 0 0 {z} 0 -{a} 0
"""


def salt(path: Path) -> data.Trajectory:
    text = "".join(SALT.format(k=k, a=0.1 + k, z=2.8 + 0.1 * k) for k in range(5))
    path.write_text(text)
    return data.read_trajectory(path, unwrap=False)


def test_species_of_a_file_reach_the_model(tmp_path: Path) -> None:
    known = salt(tmp_path / "salt.xyz")
    assert known.symbols is not None and known.symbols.tolist() == ["Na", "Cl", "Na", "Cl"]
    with pytest.raises(InvalidArgument, match="types is 1, but the atoms are of Cl, Na"):
        forces.PairForce(4.0).fit(known, validation=None)
    with pytest.raises(InvalidArgument, match="types must be symbols: the frames hold Cl, Na"):
        forces.PairForce(4.0, 2).fit(known, validation=None)
    with pytest.raises(InvalidArgument, match="atoms hold Na, the types are K, Cl"):
        forces.PairForce(4.0, ("K", "Cl")).fit(known, validation=None)
    (frame, *_) = read_frames(known[1:3], Kinds(("Cl", "Na")))
    np.testing.assert_array_equal(frame.types, [1, 0, 1, 0])
    model = forces.PairForce(4.0, ("Cl", "Na"), intervals=4)
    by_file = model.fit(known, validation=None)
    atoms = ase.io.read(tmp_path / "salt.xyz", index=":")
    by_ase = forces.PairForce(4.0, ("Cl", "Na"), intervals=4).fit(atoms, validation=None)
    assert by_file.force_error == pytest.approx(by_ase.force_error, rel=1e-9)
    bundle = model.export(tmp_path / "b", torchscript=False)
    assert bundle.manifest["training"]["species"] == ["Cl", "Na"]
    loaded = forces.load(tmp_path / "b")
    np.testing.assert_array_equal(loaded.forces(atoms[0]), model.forces(atoms[0]))
    again = loaded.forces(known.positions[0], types=[2, 1, 2, 1], cell=known.cell, pbc=known.pbc)
    np.testing.assert_allclose(again, model.forces(atoms[0]), atol=1e-12)


def test_pbc_alone_says_what_repeats() -> None:
    model = forces.PairForce(3.0, intervals=4)
    near = [pair(forces=[[f, 0, 0], [-f, 0, 0]]) for f in (1.0, 2.0)]
    for k, atoms in enumerate(near):
        atoms.positions[1, 0] += 0.2 * k
    model.fit(near, validation=None)
    x, cell = np.array([[0.1, 0, 0], [4.9, 0, 0]]), 5.0 * np.eye(3)
    open_box = Atoms("Ar2", positions=x, cell=cell)
    assert not model.forces(open_box).any() and not model.forces(x, cell=cell, pbc=False).any()
    closed = Atoms("Ar2", positions=x, cell=cell, pbc=(True, False, False))
    assert np.abs(model.forces(closed)).max() > 0
    np.testing.assert_array_equal(
        model.forces(closed), model.forces(x, cell=cell, pbc=(True, False, False))
    )
    with pytest.raises(InvalidArgument, match="pbc must be given beside a cell"):
        model.forces(x, cell=cell)
    with pytest.raises(InvalidArgument, match="pbc is set, but there is no cell"):
        model.forces(x, pbc=True)


def test_validation_leaves_frames_to_learn_from() -> None:
    with pytest.raises(InvalidArgument, match=r"validation must leave frames .* holds out all 2"):
        forces.PairForce(2.5).fit([pair(), pair()], validation=0.8)


@pytest.mark.parametrize("energy", [np.nan, np.inf, "low", [1.0, 2.0]])
def test_energies_are_numbers(energy: Any) -> None:
    atoms = pair()
    atoms.info["energy"] = energy
    with pytest.raises(InvalidArgument, match="energy must be a finite number, not"):
        read_frames(atoms, Kinds(1))


def test_what_is_given_beside_atoms_counts() -> None:
    """As in neighbor_list: types, cell and pbc given go before those of the Atoms."""
    model = forces.PairForce(3.0, ("Cl", "Na"), intervals=4)
    known = [pair("NaCl", forces=[[f, 0, 0], [-f, 0, 0]]) for f in (1.0, 2.0)]
    for k, atoms in enumerate(known):
        atoms.positions[1, 0] += 0.2 * k
    model.fit(known, validation=None)
    assert np.abs(model.forces(known[0])).max() > 0.1
    assert np.abs(model.forces(known[0], types=[1, 1])).max() < 1e-6
    far = Atoms("NaCl", positions=[[0.1, 0, 0], [4.0, 0, 0]], cell=[5.0] * 3)
    closed = far.copy()
    closed.pbc = True
    np.testing.assert_array_equal(model.forces(far, pbc=True), model.forces(closed))
    assert np.abs(model.forces(closed)).max() > 0
    assert not model.forces(closed, cell=[9.0] * 3).any()


def test_frames_in_other_units_are_refused() -> None:
    known = data.Trajectory(
        np.arange(2.0), np.zeros((2, 3, 3)), velocities=np.ones((2, 3, 3)),
        forces=-np.ones((2, 3, 3)), units="metal",
    )  # fmt: skip
    recorded = pair(velo=np.ones((2, 3)))
    recorded.info["units"] = "metal"
    for frames in (known, recorded):
        forces.ExternalForce(("v",), hidden=(), units="metal").fit(frames, validation=None)
        with pytest.raises(
            InvalidArgument, match="frames are in units 'metal', the model in 'real'"
        ):
            forces.ExternalForce(("v",), hidden=(), units="real").fit(frames, validation=None)
