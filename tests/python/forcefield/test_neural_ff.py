"""Networks of bispectrum components: derivatives, training, and LAMMPS' answer to their files."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from mlcore.errors import BackendUnavailable, InvalidArgument
from mlcore.forcefield.evaluate.box import new_lammps
from mlcore.forcefield.evaluate.lammps import LammpsEngine
from mlcore.forcefield.forms import Model, model
from mlcore.forcefield.gradients import check_gradients
from mlcore.forcefield.neural import components_of, export, fit_linear, predict, train
from mlcore.forcefield.structures.labels import labelled
from mlcore.forcefield.targets.face import Static

SW = model("sw", ["Si"])
NETWORK = model("mliap/nn", ["Si"], options={"twojmax": 4, "layers": [6, 4, 1]})


def statics(form: Model, values: dict[str, float], structures: list[Atoms]) -> list[Static]:
    engine = LammpsEngine(form, 12.0)
    try:
        engine.use(values)
        return [engine.at_rest(atoms) for atoms in structures]
    finally:
        engine.close()


def rattled(count: int, seed: int = 0, symbols: str | None = None) -> list[Atoms]:
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(count):
        atoms = bulk("Si", "diamond", 5.43, cubic=True)
        atoms.symbols = symbols or atoms.symbols
        atoms.positions += rng.normal(0, 0.12, atoms.positions.shape)
        atoms.set_cell(atoms.cell @ (np.eye(3) + rng.normal(0, 0.02, (3, 3))), scale_atoms=True)
        found.append(atoms)
    return found


@pytest.fixture(scope="module")
def data() -> list[Atoms]:
    structures = rattled(16)
    found = zip(structures, statics(SW, SW.defaults, structures), strict=True)
    return [labelled(a, float(s.energy[0]), s.forces[0], s.stress[0]) for a, s in found]


def test_components_have_the_derivatives_they_say() -> None:
    two = model("mliap/nn", ["Si", "C"], options={"twojmax": 3})
    (atoms,) = rattled(1, 3, "Si5C3")
    (found,) = components_of(two, [atoms])
    assert found.types.tolist() == [0] * 5 + [1] * 3
    near = []
    for sign in (1, -1):
        moved = atoms.copy()
        moved.positions[2, 1] += sign * 1e-4
        near.append(moved)
    up, down = components_of(two, near)
    np.testing.assert_allclose(
        found.gradients[2, 1], (up.values - down.values) / 2e-4, rtol=1e-5, atol=1e-5
    )
    assert found.strains is not None
    # a structure moved as a whole has the same components
    np.testing.assert_allclose(found.gradients.sum(axis=0), 0, atol=1e-9)


def test_lammps_says_what_torch_says() -> None:
    pytest.importorskip("torch")
    two = model("mliap/nn", ["Si", "C"], options={"twojmax": 4, "layers": [5, 3, 1]})
    rng = np.random.default_rng(1)
    values = two.defaults | {
        p.name: float(rng.normal(0, 0.3))
        for p in two.parameters
        if p.name.startswith(("weight", "bias")) and p.name.split("_")[0] != "weight"
    }
    values |= {p.name: 30.0 for p in two.parameters if p.name.startswith("scale1")}
    structures = rattled(3, 5, "Si3CSiC3")
    for told, static in zip(
        predict(two, values, structures), statics(two, values, structures), strict=True
    ):
        energy, forces, stress = told
        assert energy == pytest.approx(static.energy[0], abs=1e-8)
        np.testing.assert_allclose(forces, static.forces[0], atol=1e-8)
        np.testing.assert_allclose(stress, static.stress[0], atol=1e-7)
    checked = check_gradients(two, values, structures[0], engine="lammps")
    assert checked.force_error < 1e-5
    assert checked.stress_error < 1e-5


def test_a_network_learns_energies_forces_and_stress(data: list[Atoms], tmp_path: Path) -> None:
    pytest.importorskip("torch")
    found = train(NETWORK, data[:12], iterations=60)
    assert found.losses[-1] < 0.01 * found.losses[0]
    spread = np.std([a.get_forces() for a in data])
    told = statics(NETWORK, found.values, data)
    off = [s.forces[0] - a.get_forces() for s, a in zip(told, data, strict=True)]
    assert np.sqrt(np.mean(np.square(off[:12]))) == pytest.approx(found.errors["forces"], rel=1e-6)
    # where two atoms are nearer than ever it knows little: the middle error, not the mean
    assert np.median(np.abs(off[12:])) < 0.15 * spread
    energies = [
        float(s.energy[0]) - a.get_potential_energy() for s, a in zip(told, data, strict=True)
    ]
    assert np.sqrt(np.mean(np.square(energies[:12]))) / 8 == pytest.approx(
        found.errors["energy"], rel=1e-6
    )
    again = train(NETWORK, data[:12], iterations=60)
    assert again.values == found.values
    bare = [labelled(a, a.get_potential_energy()) for a in data[:12]]
    poor = train(NETWORK, bare, iterations=60)
    assert set(poor.errors) == {"energy"}


def test_stock_lammps_runs_the_exported_files(
    data: list[Atoms], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = export(NETWORK, NETWORK.defaults, tmp_path / "potential")
    assert sorted(p.name for p in file.parent.iterdir()) == [
        "in.potential",
        "model.mliap.descriptor",
        "model.mliap.model",
    ]
    crystal = bulk("Si", "diamond", 5.43, cubic=True)
    monkeypatch.chdir(file.parent)
    lmp = new_lammps()
    for line in (
        "units metal",
        "lattice diamond 5.43",
        "region box block 0 1 0 1 0 1",
        "create_box 1 box",
        "create_atoms 1 box",
        "mass 1 28.0855",
        "include in.potential",
        "run 0 post no",
    ):
        lmp.command(line)
    energy = lmp.get_thermo("pe")
    lmp.close()
    expected = statics(NETWORK, NETWORK.defaults, [crystal])[0].energy[0]
    assert energy == pytest.approx(expected, abs=1e-8)


def test_a_linear_model_finds_the_coefficients_that_made_the_data() -> None:
    linear = model("mliap/linear", ["Si", "C"], options={"twojmax": 2})
    rng = np.random.default_rng(2)
    values = linear.defaults | {
        p.name: float(rng.normal(0, 0.1)) for p in linear.parameters if p.name.startswith("beta")
    }
    structures = rattled(4, 6, "Si4C4") + rattled(2, 7, "Si2C6")
    told = statics(linear, values, structures)
    known = [
        labelled(a, float(s.energy[0]), s.forces[0], s.stress[0])
        for a, s in zip(structures, told, strict=True)
    ]
    found = fit_linear(linear, known, ridge=1e-16)
    assert found.errors["energy"] < 1e-6
    assert found.errors["forces"] < 1e-5
    for name, value in values.items():
        assert found.values[name] == pytest.approx(value, abs=1e-4)
    worse = fit_linear(linear, known, ridge=10.0)
    assert worse.errors["forces"] > found.errors["forces"]


def test_what_cannot_be_done_is_said(data: list[Atoms], monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InvalidArgument, match="mliap/nn"):
        train(SW, data)
    with pytest.raises(InvalidArgument, match="mliap/linear"):
        fit_linear(NETWORK, data)
    with pytest.raises(InvalidArgument, match="none has an energy"):
        fit_linear(model("mliap/linear", ["Si"], options={"twojmax": 2}), rattled(1))
    with pytest.raises(InvalidArgument, match="structures"):
        fit_linear(model("mliap/linear", ["Si"], options={"twojmax": 2}), [])
    with pytest.raises(InvalidArgument, match="at most 400"):
        components_of(NETWORK, [bulk("Si", cubic=True) * (4, 4, 4)])
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(BackendUnavailable, match="torch"):
        train(NETWORK, data)


def test_the_example_trains_and_runs(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    example = Path(__file__).parents[3] / "examples" / "snap_neural" / "snap_neural.py"
    done = subprocess.run(
        [sys.executable, str(example), "--quick", "--out", str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    told = json.loads((tmp_path / "results.json").read_text())
    for name in ("linear", "network"):
        assert told[name]["forces"] < 0.4 * told["spread"]
        assert told[name]["energy"] < 0.03
    assert told["drift"] < 1e-3
    assert (tmp_path / "network" / "energies.txt").exists()
