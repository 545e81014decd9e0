"""Targets of structures at rest, beside ASE and finite differences of their own definitions."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, fcc111, surface
from ase.calculators.lj import LennardJones
from ase.geometry import cellpar_to_cell
from ase.phonons import Phonons as AsePhonons
from mlcore import InvalidArgument
from mlcore.forcefield.evaluate import CLIP, Evaluation, Evaluator
from mlcore.forcefield.forms import Form, Model, model
from mlcore.forcefield.targets import (
    Crystal,
    CubicCrystal,
    Defect,
    Energies,
    EnergyVolume,
    Forces,
    Phonons,
    Stress,
    Surface,
)

TERSOFF = model("tersoff", ["Si"])
SILICON = bulk("Si", "diamond", 5.432)
LJ = Form(
    name="argon",
    title="LJ of argon",
    parameters=(),
    pair_style="lj/cut 8.5",
    pair_coeff=("pair_coeff * * 0.0104 3.40",),
    cutoff="8.5",
)


def measured(of: Model, *targets: Any, **values: float) -> Evaluation:
    with Evaluator(of, targets, engine="lammps") as evaluator:
        found = evaluator([of.complete(values)])[0]
    assert found.failed is None, found.failed
    return found


def rattled(seed: int = 3, repeat: int = 2) -> Atoms:
    atoms: Atoms = bulk("Si", "diamond", 5.4, cubic=True) * (repeat, 1, 1)
    rng = np.random.default_rng(seed)
    atoms.positions += rng.normal(0, 0.1, atoms.positions.shape)
    shear = np.eye(3) + rng.normal(0, 0.02, (3, 3))
    atoms.set_cell(np.asarray(atoms.cell) @ shear, scale_atoms=True)
    return atoms


def energies(structures: list[Atoms], **options: Any) -> np.ndarray:
    target = Energies(
        structures, np.zeros(len(structures)), names=[f"e{k}" for k in range(len(structures))],
        **options,
    )  # fmt: skip
    return measured(TERSOFF, target).values["energies"]


def test_forces_are_minus_the_slope_of_the_energy() -> None:
    atoms = rattled()
    forces = measured(TERSOFF, Forces([atoms], [np.zeros((len(atoms), 3))])).values["forces"]
    moved = []
    for sign in (1, -1):
        other = atoms.copy()
        other.positions[3, 1] += sign * 1e-4
        moved.append(other)
    up, down = energies(moved) * len(atoms)
    assert forces.reshape(-1, 3)[3, 1] == pytest.approx(-(up - down) / 2e-4, rel=1e-5)


def test_stress_is_the_slope_of_the_energy_by_strain() -> None:
    atoms = rattled()
    stress = measured(TERSOFF, Stress([atoms], [np.zeros(6)])).values["stress"]
    for voigt, (i, j) in enumerate([(0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1)]):
        strained = []
        for sign in (1, -1):
            strain = np.zeros((3, 3))
            strain[i, j] += sign * 5e-5
            strain[j, i] += sign * 5e-5
            other = atoms.copy()
            other.set_cell(np.asarray(atoms.cell) @ (np.eye(3) + strain).T, scale_atoms=True)
            strained.append(other)
        up, down = energies(strained) * len(atoms)
        slope = (up - down) / 2e-4 / atoms.get_volume()
        assert stress[voigt] == pytest.approx(slope, rel=1e-5, abs=1e-7)


def test_stress_and_forces_as_ase_has_them() -> None:
    atoms = bulk("Ar", "fcc", 5.1, cubic=True) * (4, 4, 4)
    rng = np.random.default_rng(0)
    atoms.positions += rng.normal(0, 0.05, atoms.positions.shape)
    atoms.calc = LennardJones(sigma=3.40, epsilon=0.0104, rc=8.5, smooth=False)
    # ASE shifts its energies by that at the cutoff; forces and stress it leaves alone
    found = measured(
        Model(LJ, ["Ar"]), Forces([atoms], [atoms.get_forces()]), Stress([atoms], [np.zeros(6)])
    )
    np.testing.assert_allclose(
        found.values["forces"].reshape(-1, 3), atoms.get_forces(), atol=1e-10
    )
    np.testing.assert_allclose(found.values["stress"], atoms.get_stress(), rtol=1e-6)


def test_the_turn_of_a_cell_does_not_matter() -> None:
    atoms = rattled()
    turn = np.linalg.qr(np.random.default_rng(5).normal(size=(3, 3)))[0]
    turned = atoms.copy()
    turned.set_cell(np.asarray(atoms.cell) @ turn.T, scale_atoms=True)
    zero = np.zeros((len(atoms), 3))
    targets = [
        Forces([a], [zero], name=f"forces {k}", names=[f"f{k}"])
        for k, a in enumerate((atoms, turned))
    ]
    found = measured(TERSOFF, *targets).values
    np.testing.assert_allclose(
        found["forces 1"].reshape(-1, 3), found["forces 0"].reshape(-1, 3) @ turn.T, atol=1e-10
    )


def test_energies_relative_to_one() -> None:
    structures = [bulk("Si", "diamond", a) for a in (5.3, 5.43, 5.5)]
    plain, relative = energies(structures), energies(structures, relative_to=1)
    np.testing.assert_allclose(relative, plain - plain[1], atol=1e-14)


def test_clusters_need_no_cell() -> None:
    dimer = Atoms("Ar2", positions=[[0, 0, 0], [3.8, 0, 0]])
    found = measured(Model(LJ, ["Ar"]), Energies([dimer], [0.0]))
    x = (3.40 / 3.8) ** 6
    assert found.values["energies"][0] * 2 == pytest.approx(4 * 0.0104 * (x * x - x), rel=1e-12)


def test_energy_of_volume() -> None:
    scales = np.array([0.95, 1.0, 1.04])
    volumes = SILICON.get_volume() / 2 * scales**3
    target = EnergyVolume(SILICON, volumes, [-4.5, -4.6, -4.5])
    found = measured(TERSOFF, target).values["energy of volume"]
    np.testing.assert_allclose(
        found, energies([bulk("Si", "diamond", 5.432 * s) for s in scales]), atol=1e-12
    )
    relative = EnergyVolume(SILICON, volumes, [-4.5, -4.6, -4.5], relative=True)
    np.testing.assert_allclose(
        measured(TERSOFF, relative).values["energy of volume"], found - found[1], atol=1e-14
    )


def test_a_crystal_of_any_symmetry_agrees_with_the_cubic_one() -> None:
    start = bulk("Si", "diamond", 5.39, cubic=True)
    wanted = dict.fromkeys(("a", "b", "alpha", "energy", "C11", "C12", "C44", "C66"), 1.0)
    cubic = dict.fromkeys(("a", "energy", "C11", "C12", "C44"), 1.0)
    found = measured(
        TERSOFF, Crystal(start, wanted, name="any"), CubicCrystal(SILICON, cubic, name="cubic")
    )
    general = dict(zip(wanted, found.values["any"], strict=True))
    for name, value in zip(cubic, found.values["cubic"], strict=True):
        assert general[name] == pytest.approx(value, rel=2e-4 if name == "C44" else 2e-5), name
    assert general["b"] == pytest.approx(general["a"], abs=1e-6)
    assert general["alpha"] == pytest.approx(90, abs=1e-6)
    assert general["C66"] == pytest.approx(general["C44"], rel=1e-5)


def test_a_hexagonal_crystal_finds_both_its_lengths() -> None:
    wanted = {"a": 3.7, "c": 6.1, "energy": -0.08}
    target = Crystal(bulk("Ar", "hcp", 3.6, c=6.2), wanted, name="hcp")
    a, c, energy = measured(Model(LJ, ["Ar"]), target).values["hcp"]
    near = [(a, c), (a + 0.02, c), (a - 0.02, c), (a, c + 0.03), (a, c - 0.03)]
    structures = [bulk("Ar", "hcp", x, c=y) for x, y in near]
    rows = Energies(structures, np.zeros(5), names=[f"{x} {y}" for x, y in near])
    around = measured(Model(LJ, ["Ar"]), rows).values["energies"]
    assert around[0] == pytest.approx(energy, abs=1e-9)
    assert min(around[1:]) > energy + 1e-6
    assert c / a == pytest.approx(np.sqrt(8 / 3), rel=5e-3)


def test_surface_as_its_definition() -> None:
    crystal = bulk("Ar", "fcc", 5.26865)
    slab = fcc111("Ar", (2, 2, 6), a=5.26865, vacuum=12.0, periodic=True)
    target = Surface(slab, crystal, 0.04, relax=False, name="111")
    at_rest = CubicCrystal(crystal, {"a": 5.27, "energy": -0.08}, name="crystal")
    found = measured(
        Model(LJ, ["Ar"]), target, at_rest, Energies([slab], [0.0], name="slab")
    ).values
    a, energy = found["crystal"]
    assert a == pytest.approx(5.26865, abs=1e-4)
    area = np.linalg.norm(np.cross(slab.cell[0], slab.cell[1]))
    expected = len(slab) * (found["slab"][0] - energy) / (2 * area) * 16.02176634
    assert found["111"][0] == pytest.approx(expected, rel=1e-4)
    relaxed = measured(Model(LJ, ["Ar"]), Surface(slab, crystal, 0.04, name="111")).values["111"]
    assert 0.9 * expected < relaxed[0] < expected


def test_a_defect_of_a_compound_needs_all_its_crystals() -> None:
    carbide = bulk("SiC", "zincblende", 4.36)
    whole = carbide * (3, 3, 3)
    del whole[0]
    assert Defect(whole, {"SiC": carbide, "Si": SILICON}, 5.0).counts == pytest.approx([27, -0.5])
    with pytest.raises(InvalidArgument, match="not those of"):
        Defect(whole, carbide, 5.0)
    carbon = bulk("C", "diamond", 3.57)
    with pytest.raises(InvalidArgument, match="in many ways"):
        Defect(whole, {"SiC": carbide, "Si": SILICON, "C": carbon}, 5.0)


def test_a_crystal_of_a_defect_that_never_rests_is_told_of() -> None:
    # carbon's own crystal is too far away for any to be found
    made = model("tersoff", ["Si", "C"])
    carbide = bulk("SiC", "zincblende", 4.36)
    whole = carbide * (2, 2, 2)
    del whole[1]
    far = bulk("C", "diamond", 9.0)
    target = Defect(whole, {"SiC": carbide, "C": far}, 5.0, relax=False, name="vacancy")
    found = measured(made, target)
    assert np.isnan(found.values["vacancy"][0])
    assert "no volume of rest" in found.notes["vacancy"]


def test_phonons_as_ase_has_them(tmp_path: Path) -> None:
    crystal = bulk("Ar", "fcc", 5.26865)
    points = [[0, 0, 0], [0.5, 0.5, 0], [0.5, 0.5, 0.5], [0.25, 0.25, 0]]
    repeats = (6, 6, 6)
    target = Phonons(crystal, points, np.ones((4, 3)), supercell=repeats, at_rest=False)
    found = measured(Model(LJ, ["Ar"]), target).values["phonons"].reshape(4, 3)
    calculator = LennardJones(sigma=3.40, epsilon=0.0104, rc=8.5, smooth=False)
    phonons = AsePhonons(crystal, calculator, supercell=repeats, delta=1e-3, name=tmp_path / "ph")
    phonons.run()
    phonons.read(acoustic=True)
    expected = np.sort(phonons.band_structure(points, verbose=False), axis=1) / 4.13566770e-3
    np.testing.assert_allclose(found, expected, atol=2e-3)
    assert np.abs(found[0]).max() < 1e-4


def test_phonons_of_two_atoms_at_the_candidates_own_rest() -> None:
    target = Phonons(bulk("Si", "diamond", 5.35), [[0, 0, 0]], np.ones((1, 6)), name="gamma")
    there = Phonons(
        bulk("Si", "diamond", 5.4321148), [[0, 0, 0]], np.ones((1, 6)), at_rest=False, name="there"
    )
    found = measured(TERSOFF, target, there).values
    np.testing.assert_allclose(found["gamma"], found["there"], atol=2e-4)
    # the optical mode of this set of Tersoff's, near 16 THz
    assert found["gamma"][3:] == pytest.approx(found["gamma"][3], rel=1e-5)
    assert 14 < found["gamma"][3] < 18


def test_a_candidate_without_a_crystal_is_told_so() -> None:
    # pure repulsion never comes to rest
    target = CubicCrystal(SILICON, {"a": 5.43, "C11": 140.0}, name="crystal")
    found = measured(TERSOFF, target, B=1e-3)
    assert "no volume of rest" in found.notes["crystal"]
    assert np.all(np.isnan(found.values["crystal"]))
    assert found.terms == {"crystal a": CLIP, "crystal C11": CLIP}


def test_a_crystal_beyond_the_cutoff_is_not_at_rest() -> None:
    # repulsion takes it to where its atoms no longer feel each other
    target = Crystal(SILICON, {"a": 3.84, "energy": -4.6}, name="crystal")
    found = measured(TERSOFF, target, B=1e-3)
    assert "no volume of rest" in found.notes["crystal"]
    assert np.all(np.isnan(found.values["crystal"]))


def test_elastic_constants_are_those_of_the_cubic_axes_however_the_cell_is_turned() -> None:
    turned = SILICON.copy()
    turned.set_cell(cellpar_to_cell(SILICON.cell.cellpar()), scale_atoms=True)
    wanted = dict.fromkeys(("a", "C11", "C12", "C44"), 1.0)
    targets = [
        CubicCrystal(atoms, wanted, name=f"crystal {k}")
        for k, atoms in enumerate((SILICON, turned))
    ]
    found = measured(TERSOFF, *targets).values
    np.testing.assert_allclose(found["crystal 1"], found["crystal 0"], rtol=1e-6)


def test_phonons_of_beads_need_their_masses() -> None:
    beads = bulk("Ar", "fcc", 5.3)
    beads.set_array("species", np.array(["W"]))
    with pytest.raises(InvalidArgument, match="masses of its beads"):
        Phonons(beads, [[0, 0, 0]], np.ones((1, 3)))
    beads.set_masses([18.0153])
    assert Phonons(beads, [[0, 0, 0]], np.ones((1, 3))).masses == [18.0153]


@pytest.fixture(scope="module")
def slab() -> Iterator[Atoms]:
    yield surface(bulk("Ar", "fcc", 5.27, cubic=True), (1, 0, 0), 3, vacuum=10)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Energies([], []), "at least one"),
        (lambda: Energies(SILICON, [1.0]), "list of ase.Atoms"),
        (lambda: Energies([SILICON]), "has no energy"),
        (lambda: Energies([SILICON], [1.0, 2.0]), "shape"),
        (lambda: Energies([SILICON], [np.nan]), "finite"),
        (lambda: Energies([SILICON], [1.0], sigma=0), "sigma"),
        (lambda: Energies([SILICON], [1.0], relative_to=4), "relative_to"),
        (lambda: Energies([SILICON], [1.0], level=-1), "level"),
        (lambda: Energies([SILICON], [1.0], weight=-1), "weight"),
        (lambda: Forces([SILICON], [np.zeros((3, 3))]), "shape"),
        (lambda: Stress([Atoms("Si")], [np.zeros(6)]), "periodic"),
        (lambda: CubicCrystal(SILICON, {"D": 1.0}), "values"),
        (lambda: CubicCrystal(bulk("Ar", "hcp", 3.6), {"a": 1.0}), "lattice constant"),
        (lambda: EnergyVolume(SILICON, [1.0, -1.0], [0, 0]), "volumes"),
        (lambda: Phonons(SILICON, [[0, 0, 0]], np.ones((1, 3))), "frequencies"),
        (lambda: Surface(Atoms("Si"), SILICON, 1.0), "cell vectors"),
        (lambda: Surface(SILICON, Atoms("Si"), 1.0), "must be periodic"),
        (lambda: Defect(SILICON, {"Si": Atoms("Si")}, 1.0), "must be periodic"),
        (lambda: Phonons(Atoms("Si"), [[0, 0, 0]], np.ones((1, 3))), "must be periodic"),
        (
            lambda: Phonons(Atoms("Si"), [[0, 0, 0]], np.ones((1, 3)), at_rest=False),
            "not periodic",
        ),
        (lambda: CubicCrystal(SILICON, {"a": 1.0}, a=0), "a must be positive"),
    ],
)
def test_bad_targets(make: Any, words: str) -> None:
    with pytest.raises(InvalidArgument, match=words):
        make()
