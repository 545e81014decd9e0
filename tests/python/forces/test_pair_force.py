"""Pair forces: the potential behind the data comes back; energies and forces belong together."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from ase import Atoms, units
from ase.md.verlet import VelocityVerlet
from known_potentials import (
    CUTOFF,
    charged_frames,
    charged_pair,
    check_symmetries,
    forces_by_differences,
    lj_frames,
    lj_pair,
)
from mlcore import data, export, forces
from mlcore.errors import Error, InvalidArgument


@pytest.fixture(scope="module")
def model(frames: list[Atoms]) -> forces.PairForce:
    found = forces.PairForce(CUTOFF)
    found.fit(frames, validation=lj_frames(2, seed=5))
    return found


def test_potential_comes_back(model: forces.PairForce, frames: list[Atoms]) -> None:
    result = model.result
    assert result is not None and result.training is None
    size = np.sqrt(np.mean([f.get_forces() ** 2 for f in frames]))
    assert result.force_error < 1.5e-3 * size and result.energy_error < 1e-4
    assert result.held_out_force_error < 0.05 * size  # some of their pairs are closer than any seen
    r = np.linspace(float(model.network.inner[0]) / 0.9, CUTOFF, 200)
    u, slope = model.potential(r)
    want, want_slope = lj_pair(r)
    assert np.abs(u - want).max() < 5e-3
    assert np.abs(slope - want_slope).max() < 2e-3 * np.abs(want_slope).max()


def test_energies_and_forces_belong_together(model: forces.PairForce) -> None:
    (atoms,) = lj_frames(1, seed=8)
    np.testing.assert_allclose(
        model.forces(atoms)[:3], forces_by_differences(model, atoms), rtol=1e-6, atol=1e-6
    )
    check_symmetries(model, atoms)
    assert model.spread(atoms).max() == 0


def test_close_pairs_are_pushed_apart_and_far_ones_left_alone(model: forces.PairForce) -> None:
    inner = float(model.network.inner[0])
    u, slope = model.potential(np.array([0.1, 0.5, inner, inner / 0.95, inner / 0.9]))
    assert np.allclose(slope[:2], slope[2]) and np.isfinite(u).all()
    assert slope[2] < slope[3] < slope[4] < 0
    x = [[0.0, 0, 0], [CUTOFF, 0, 0]]
    assert model.energy(x) == 0 and not model.forces(x).any()


def test_arguments_of_a_fitted_model_are_named(model: forces.PairForce, tmp_path: Path) -> None:
    for call, name in (
        (lambda: model.potential([1.0], (1, 1, 1)), "pair must hold two types in 1..1"),
        (lambda: model.potential(["a"]), "r must be distances"),
        (lambda: model.forces("abc"), "positions must be numbers"),
        (lambda: model.export(tmp_path / "b", units=3), "units must name"),
    ):
        with pytest.raises(InvalidArgument, match=name):
            call()


def test_energies_may_be_shifted(model: forces.PairForce, frames: list[Atoms]) -> None:
    shifted = forces.PairForce(CUTOFF)
    result = shifted.fit(lj_frames(10, shift=-1234.5), validation=0.2)
    assert result.energy_error < 1e-4
    u, _ = shifted.potential(np.linspace(1, 2, 20))
    np.testing.assert_allclose(u, model.potential(np.linspace(1, 2, 20))[0], atol=1e-3)


def test_arrays_atoms_and_trajectories_are_alike(
    model: forces.PairForce, frames: list[Atoms], tmp_path: Path
) -> None:
    first = frames[0]
    direct = model.evaluate(first)
    arrays = model.evaluate(first.positions, cell=first.cell.array, pbc=True)
    np.testing.assert_array_equal(arrays.forces, direct.forces)
    rng = np.random.default_rng(0)
    cell = first.cell.array
    steps = first.positions + rng.normal(size=(4, len(first), 3)) * 0.05
    pushes = np.stack([model.forces(x, cell=cell, pbc=True) for x in steps])
    trajectory = data.Trajectory(np.arange(4.0), steps, cell=cell, forces=pushes)
    for name in ("t.xyz", "t.dump"):
        data.write_trajectory(tmp_path / name, trajectory)
        read = data.read_trajectory(tmp_path / name)
        again = forces.PairForce(CUTOFF)
        size = np.sqrt((pushes**2).mean())
        assert again.fit([read], validation=None).force_error < 0.01 * size


def test_two_types_have_three_potentials() -> None:
    frames = charged_frames(6)
    model = forces.PairForce(CUTOFF, ("Ar", "Kr"))
    size = np.sqrt(np.mean([f.arrays["forces"] ** 2 for f in frames]))
    assert (
        model.fit(frames, validation=charged_frames(2, seed=1)).held_out_force_error < 5e-3 * size
    )
    r = np.linspace(1.1, 2.4, 50)
    for number, pair in enumerate(((1, 1), (1, 2), (2, 2))):
        want, slope = charged_pair(r, np.full(50, number))
        got = model.potential(r, pair)
        np.testing.assert_allclose(got[0], want, atol=5e-3 * want.max())
        np.testing.assert_allclose(got[1], slope, atol=5e-3 * np.abs(slope).max())
    np.testing.assert_array_equal(model.potential(r, (2, 1))[0], model.potential(r, (1, 2))[0])
    types = np.where(frames[0].symbols == "Ar", 1, 2)
    box = {"cell": frames[0].cell.array, "pbc": True}
    by_number = model.forces(frames[0].positions, types=types, **box)
    np.testing.assert_array_equal(by_number, model.forces(frames[0]))
    with pytest.raises(InvalidArgument, match="types of the atoms"):
        model.forces(frames[0].positions)


def test_calculator_runs_and_conserves_energy(model: forces.PairForce) -> None:
    atoms = lj_frames(1, seed=9)[0]
    atoms.calc = model.calculator()
    atoms.set_masses(np.ones(len(atoms)))
    rng = np.random.default_rng(0)
    atoms.set_momenta(rng.normal(size=atoms.positions.shape) * 0.3)
    start, size = atoms.get_total_energy(), atoms.get_kinetic_energy()
    VelocityVerlet(atoms, 0.002 / units.fs * units.fs).run(100)
    assert abs(atoms.get_total_energy() - start) < 2e-3 * size
    stress = atoms.get_stress()
    strain = 1e-5
    energies = []
    for sign in (1, -1):
        strained = atoms.copy()
        strained.set_cell(atoms.cell.array @ (np.eye(3) * (1 + sign * strain)), scale_atoms=True)
        energies.append(model.energy(strained))
    pressure = (energies[0] - energies[1]) / (6 * strain * atoms.get_volume())
    np.testing.assert_allclose(stress[:3].mean(), pressure, rtol=1e-5)
    assert not atoms.calc.results["force_spread"].any()


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_export(model: forces.PairForce, tmp_path: Path, dtype: forces.model.Dtype) -> None:
    bundle = model.export(tmp_path / "b", units="lj", dtype=dtype)
    assert bundle.engines == ("native", "torchscript") and bundle.kind == "force"
    assert bundle.manifest["verified"]["native"] < 1e-5
    assert bundle.manifest["training"]["model"] == "PairForce"
    (atoms,) = lj_frames(1, seed=4)
    loaded = forces.load(tmp_path / "b")
    np.testing.assert_array_equal(loaded.forces(atoms), model.forces(atoms))
    assert set(export.verify(tmp_path / "b")) >= {"native", "torchscript", "files"}
    (table,) = bundle.native
    assert isinstance(table, export.PairTable)
    r = np.linspace(0.3, 3.0, 400)
    got = table(r, np.zeros(len(r), np.int64))
    for found, want in zip(got, model.potential(r), strict=True):
        np.testing.assert_allclose(found, want, atol=1e-5 * np.abs(want[r > table.first]).max())


def test_bad_arguments(frames: list[Atoms]) -> None:
    for options, name in (
        ({"cutoff": -1.0}, "cutoff"),
        ({"cutoff": "a"}, "cutoff must be a finite number"),
        ({"cutoff": 2.5, "types": 0}, "types"),
        ({"cutoff": 2.5, "types": ("Ar", "Ar")}, "types must be different symbols"),
        *(
            ({"cutoff": 2.5, "types": wrong}, "types must be a number from 1 to 1000 or chemical")
            for wrong in (2.0, None, True, (1, 2), (), 1001)
        ),
        ({"cutoff": 2.5, "intervals": 1}, "intervals"),
        ({"cutoff": 2.5, "smooth": 0.0}, "smooth"),
    ):
        with pytest.raises(InvalidArgument, match=name):
            forces.PairForce(**options)  # type: ignore[arg-type]
    for options, name in (
        ({"channels": 0}, "channels must be"),
        ({"channels": 2.5}, "channels must be"),
        ({"centres": 1}, "centres must be"),
        ({"hidden": 8}, "hidden must be widths in"),
        ({"hidden": "wide"}, "hidden must be widths in"),
        ({"smooth": "x"}, "smooth must be"),
    ):
        with pytest.raises(InvalidArgument, match=name):
            forces.ManyBodyForce(CUTOFF, **options)  # type: ignore[arg-type]
    model = forces.PairForce(CUTOFF)
    with pytest.raises(Error, match="not been fitted"):
        model.energy(frames[0])
    bare = [Atoms("Ar2", positions=[[0, 0, 0], [1, 0, 0]])]
    for given, name in (
        ([], "at least one frame"),
        (bare, "no forces and no energies"),
        ("t.xyz", "read_trajectory"),
        ([3], "must hold"),
    ):
        with pytest.raises(InvalidArgument, match=name):
            model.fit(given)
    with pytest.raises(InvalidArgument, match="validation"):
        model.fit(frames, validation=1.5)
    for weight in (-1.0, np.nan, "a"):
        with pytest.raises(InvalidArgument, match="energy_weight"):
            model.fit(frames, energy_weight=weight)  # type: ignore[arg-type]
    with pytest.raises(InvalidArgument, match="hold Ar, the types are Kr"):
        forces.PairForce(CUTOFF, "Kr").fit(frames)
