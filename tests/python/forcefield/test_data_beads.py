"""Beads of water and other molecules: whole molecules, centres, forces, stresses, energies."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule
from ase.geometry import find_mic, get_distances
from mlcore.errors import InvalidArgument
from mlcore.forcefield.structures import Dataset, labelled, labels, species
from mlcore.forcefield.structures.beads import (
    ByFormula,
    ByIndex,
    ByMolecule,
    coarse_grained,
    fitted_references,
    mapped,
)
from mlcore.neighbors import neighbor_list

WATER = ByFormula({"W": "H2O"})
SKEW = np.array([[9.5, 0, 0], [3.1, 9.0, 0], [-2.4, 2.9, 8.7]])
CUBE = np.diag([9.3, 9.3, 9.3])


def turned(rng: np.random.Generator) -> np.ndarray:
    q, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    return q * np.sign(np.linalg.det(q))


def water(cell: np.ndarray, seed: int = 0, shuffled: bool = True) -> tuple[Atoms, np.ndarray]:
    """27 molecules on a grid, turned, cut by the boundaries, their atoms mixed; and their centres."""
    rng = np.random.default_rng(seed)
    one = molecule("H2O")
    mass = one.get_masses()
    places = []
    for k in np.ndindex(3, 3, 3):
        rows = one.positions - mass @ one.positions / mass.sum()
        places.append(rows @ turned(rng) + (np.array(k) + rng.uniform(0, 0.1, 3)) / 3 @ cell)
    centers = np.array([mass @ rows / mass.sum() for rows in places])
    atoms = Atoms("OHH" * 27, positions=np.concatenate(places), cell=cell, pbc=True)
    atoms.set_array("mol", np.repeat(np.arange(27), 3))
    atoms.wrap()
    if shuffled:
        atoms = atoms[rng.permutation(len(atoms))]
    return atoms, centers


def same_places(beads: Atoms, centers: np.ndarray) -> None:
    """One bead at each centre or an image of it."""
    _, d = get_distances(beads.positions, centers, cell=beads.cell, pbc=beads.pbc)
    assert d.min(axis=1).max() < 1e-9
    assert len(set(d.argmin(axis=1).tolist())) == len(centers)


@pytest.mark.parametrize("cell", [CUBE, SKEW], ids=["cube", "skew"])
@pytest.mark.parametrize("seed", range(3))
def test_every_water_is_a_bead_at_its_centre_of_mass(cell: np.ndarray, seed: int) -> None:
    atoms, centers = water(cell, seed)
    cut = neighbor_list("S", atoms, {("O", "H"): 1.3})
    assert np.abs(cut).sum() > 10
    beads = WATER.find(atoms).apply(atoms)
    same_places(beads, centers)
    assert species(beads) == ["W"] * 27
    np.testing.assert_allclose(beads.get_masses(), 18.015, atol=1e-9)
    scaled = beads.get_scaled_positions(wrap=False)
    assert (scaled > -1e-9).all() and (scaled < 1 + 1e-9).all()
    again = WATER.find(atoms[::-1]).apply(atoms[::-1])
    same_places(again, centers)


@pytest.mark.parametrize("cell", [CUBE, SKEW], ids=["cube", "skew"])
def test_three_rules_find_the_same_beads(cell: np.ndarray) -> None:
    atoms, centers = water(cell)
    ids = atoms.arrays["mol"]
    groups = {"W": [np.flatnonzero(ids == k) for k in range(27)]}
    for rule in (WATER, ByMolecule("mol", "W"), ByIndex(groups)):
        same_places(rule.find(atoms).apply(atoms), centers)


def test_beads_on_the_oxygen() -> None:
    atoms, _ = water(SKEW)
    rule = ByFormula({"W": "OH2"}, center="O")
    same_places(rule.find(atoms).apply(atoms), atoms.positions[atoms.symbols == "O"])
    with pytest.raises(InvalidArgument, match="H2O has 2 atoms H"):
        ByFormula({"W": "H2O"}, center="H").find(atoms)


def test_matrices() -> None:
    atoms, _ = water(SKEW)
    for rule in (WATER, ByFormula({"W": "H2O"}, center="O")):
        beads = rule.find(atoms)
        m, f = beads.matrix(), beads.force_matrix()
        np.testing.assert_allclose(m.sum(axis=1), 1)
        np.testing.assert_allclose(f @ m.T, np.eye(27), atol=1e-15)
        found = beads.apply(atoms)
        off, _ = find_mic(m @ beads.whole(atoms) - found.positions, atoms.cell)
        assert np.abs(off).max() < 1e-9
        rng = np.random.default_rng(0)
        forces = rng.normal(size=(81, 3))
        got = labels(beads.apply(labelled(atoms, forces=forces))).forces
        np.testing.assert_allclose(got, f @ forces, atol=1e-14)


def pair_energy(positions: np.ndarray, cell: np.ndarray, strain: np.ndarray | None = None) -> float:
    """A smooth potential between all beads nearer than 4 Angstrom."""
    deform = np.eye(3) if strain is None else np.eye(3) + strain
    d = neighbor_list("d", positions @ deform, 4.0, cell @ deform, True, half=True)
    return float(np.sum((4.0 - d) ** 4))


def pair_forces(positions: np.ndarray, cell: np.ndarray) -> np.ndarray:
    i, D, d = neighbor_list("iDd", positions, 4.0, cell, True)
    out = np.zeros_like(positions)
    np.add.at(out, i, -4 * (4.0 - d[:, None]) ** 3 * D / d[:, None])
    return out


def pair_stress(positions: np.ndarray, cell: np.ndarray) -> np.ndarray:
    D, d = neighbor_list("Dd", positions, 4.0, cell, True, half=True)
    slope = -4 * (4.0 - d) ** 3
    return np.einsum("p,pa,pb->ab", slope / d, D, D) / np.linalg.det(cell)


def test_forces_and_stress_of_a_potential_between_beads_come_back() -> None:
    """Atoms feel shares of the force on their bead, and springs inside that beads must not show."""
    atoms, _ = water(SKEW, seed=4)
    found = WATER.find(atoms)
    bare = found.apply(atoms)
    forces, stress = pair_forces(bare.positions, SKEW), pair_stress(bare.positions, SKEW)
    step = np.zeros((3, 3))
    step[0, 1] = step[1, 0] = 1e-4
    change = pair_energy(bare.positions, SKEW, step) - pair_energy(bare.positions, SKEW, -step)
    assert change / (4e-4 * np.linalg.det(SKEW)) == pytest.approx(stress[0, 1], rel=1e-5)
    of_atoms = found.matrix().T @ forces
    whole = found.whole(atoms)
    virial = stress * np.linalg.det(SKEW)
    for indices in found.members:
        for a, b in ((0, 1), (0, 2), (1, 2)):
            i, j = indices[a], indices[b]
            D = whole[j] - whole[i]
            pull = 3.0 * D
            of_atoms[i] += pull
            of_atoms[j] -= pull
            virial = virial + np.outer(D, pull)
    assert np.abs(virial / np.linalg.det(SKEW) - stress).max() > 0.1
    energy = pair_energy(bare.positions, SKEW)
    told = labelled(atoms, energy - 5.0 * 27, of_atoms, virial / np.linalg.det(SKEW))
    known = labels(found.apply(told, {"W": -5.0}))
    assert known.energy == pytest.approx(energy, rel=1e-12)
    np.testing.assert_allclose(known.forces, forces, atol=1e-10)
    xx = stress[[0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1]]
    np.testing.assert_allclose(known.stress, xx, atol=1e-10)


def test_mixtures_and_what_is_left_over() -> None:
    atoms, _ = water(CUBE)
    solute = molecule("CH3OH")
    solute.positions += 1.55 - solute.positions.mean(axis=0)
    mixed = atoms + Atoms(solute, cell=CUBE)
    mixed = mixed[[k for k in range(len(mixed)) if k >= 81 or not _near(mixed, k)]]
    both = ByFormula({"W": "H2O", "M": "CH4O"}).find(mixed)
    assert sorted(set(both.names)) == ["M", "W"]
    assert both.names.count("M") == 1
    assert both.masses[both.names.index("M")] == pytest.approx(32.042, abs=1e-3)
    with pytest.raises(InvalidArgument, match="a molecule of CH4O"):
        WATER.find(mixed)
    assert set(ByFormula({"W": "H2O"}, rest="drop").find(mixed).names) == {"W"}
    with pytest.raises(InvalidArgument, match="no bead is found"):
        ByFormula({"W": "N2"}, rest="drop").find(mixed)


def _near(atoms: Atoms, k: int) -> bool:
    """Whether the molecule of atom k comes near the solute."""
    mates = np.flatnonzero(atoms.arrays["mol"][:81] == atoms.arrays["mol"][k])
    _, d = get_distances(atoms.positions[mates], atoms.positions[81:], cell=CUBE, pbc=True)
    return bool(d.min() < 1.7)


def test_residues() -> None:
    atoms, centers = water(CUBE)
    atoms.set_array("residuenames", np.array(["SOL "] * 81))
    rule = ByMolecule("mol", {"SOL": "W"})
    same_places(rule.find(atoms).apply(atoms), centers)
    with pytest.raises(InvalidArgument, match="no bead for residue 'SOL'"):
        ByMolecule("mol", {"WAT": "W"}).find(atoms)
    atoms.arrays["residuenames"][0] = "ION"
    with pytest.raises(InvalidArgument, match="one id, but residues ION, SOL"):
        rule.find(atoms)
    with pytest.raises(InvalidArgument, match="no array 'chain'"):
        ByMolecule("chain", "W").find(atoms)


def test_several_beads_a_molecule() -> None:
    """A chain cut by the boundary, two beads of two carbons each."""
    chain = Atoms(
        "C4", positions=[[1.5 * k, 0.1 * k, 0] for k in range(4)], cell=[8, 8, 8], pbc=True
    )
    chain.positions[:, 0] += 6.2
    whole = chain.positions.copy()
    chain.wrap()
    found = ByIndex({"A": [[0, 1]], "B": [[2, 3]]}).find(chain)
    beads = found.apply(chain)
    same_places(beads, np.array([whole[:2].mean(axis=0), whole[2:].mean(axis=0)]))
    assert species(beads) == ["A", "B"]


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        (ByIndex({"A": [[0, 1], [1, 2]]}), "atom 1 is in two beads"),
        (ByIndex({"A": [[0, 99]]}), "atom 99 of 6"),
        (ByIndex({"A": [[]]}), "needs indices"),
        (ByIndex({"A": [[0.5]]}), "needs indices"),
        (ByIndex({}), "no bead is found"),
        (ByIndex({"a_b": [[0]]}), "letters and digits"),
        (ByFormula({"W": "water"}), "no formula"),
        (ByFormula({"W": "H2O"}, bond=9), "bond"),
        (ByFormula({"W": "H2O"}, rest="keep"), "rest"),
    ],
)
def test_wrong_rules(rule: object, message: str) -> None:
    atoms = molecule("H2O") + molecule("H2O")
    atoms.positions[3:] += 5
    with pytest.raises(InvalidArgument, match=message):
        rule.find(atoms)  # type: ignore[attr-defined]


def test_an_endless_molecule_is_refused() -> None:
    wire = Atoms("C4", positions=[[1.4 * k, 3, 3] for k in range(4)], cell=[5.6, 6, 6], pbc=True)
    with pytest.raises(InvalidArgument, match="bonded to its own image"):
        ByFormula({"A": "C4"}).find(wire)


def test_trajectories_are_mapped_one_frame_at_a_time() -> None:
    start, _ = water(SKEW)
    read: list[int] = []

    def frames():  # type: ignore[no-untyped-def]
        rng = np.random.default_rng(1)
        atoms = start.copy()
        for k in range(100):
            read.append(k)
            atoms.positions += rng.normal(size=atoms.positions.shape) * 0.02
            atoms.wrap()
            yield atoms

    found = mapped(frames(), WATER)
    first = [next(found).positions for _ in range(5)]
    assert read == [0, 1, 2, 3, 4]
    for one, other in pairwise(first):
        step, _ = find_mic(other - one, SKEW)
        assert 1e-4 < np.abs(step).max() < 0.1


def test_other_atoms_are_refused_or_found_anew() -> None:
    atoms, _ = water(CUBE)
    with pytest.raises(InvalidArgument, match="not those"):
        WATER.find(atoms).apply(atoms[:30])
    small = molecule("H2O")
    assert [len(b) for b in mapped([atoms, small, small], WATER)] == [27, 1, 1]


def test_momenta_and_info() -> None:
    atoms, _ = water(CUBE)
    atoms.set_momenta(np.random.default_rng(0).normal(size=(81, 3)))
    atoms.info["step"] = 7
    beads = WATER.find(atoms).apply(atoms)
    np.testing.assert_allclose(beads.get_momenta().sum(axis=0), atoms.get_momenta().sum(axis=0))
    assert beads.info["step"] == 7


def test_references_make_lone_beads_zero() -> None:
    lone = labelled(molecule("H2O"), -14.2)
    pair = molecule("H2O") + molecule("H2O")
    pair.positions[3:] += [2.9, 0, 0]
    data = Dataset({"lone": [lone], "pair": [labelled(pair, -28.6)]})
    beads, taken = coarse_grained(data, WATER, {"W": -14.2})
    assert [labels(a).energy for a in beads] == pytest.approx([0.0, -0.2])
    assert taken == {"W": -14.2}
    assert any("energies less" in n for n in beads.groups["pair"].provenance.notes)
    beads, taken = coarse_grained(data, WATER, "fit")
    assert taken["W"] == pytest.approx((-14.2 - 14.3) / 2)
    per_bead = [labels(a).energy / len(a) for a in beads]
    assert sum(per_bead) == pytest.approx(0, abs=1e-12)
    plain, taken = coarse_grained(data, WATER)
    assert taken == {}
    assert labels(plain.structures[0]).energy == -14.2
    with pytest.raises(InvalidArgument, match="no energy of bead W"):
        coarse_grained(data, WATER, {"M": 1.0})
    with pytest.raises(InvalidArgument, match="references must be"):
        coarse_grained(data, WATER, "guess")


def test_references_of_two_kinds() -> None:
    def beads(names: list[str], energy: float) -> Atoms:
        atoms = Atoms("X" * len(names), positions=3 * np.arange(3 * len(names)).reshape(-1, 3))
        atoms.set_array("species", np.array(names))
        return labelled(atoms, energy)

    rows = [beads(["A"] * a + ["B"] * b, -2.0 * a - 5.0 * b) for a, b in ((1, 0), (2, 1), (1, 3))]
    assert fitted_references(rows) == pytest.approx({"A": -2.0, "B": -5.0})
    with pytest.raises(InvalidArgument, match="in one proportion"):
        fitted_references([rows[1], rows[1]])
    with pytest.raises(InvalidArgument, match="none has an energy"):
        fitted_references([molecule("H2O")])


def test_beads_survive_the_disk(tmp_path) -> None:  # type: ignore[no-untyped-def]
    atoms, _ = water(SKEW)
    told = labelled(atoms, -1.0, np.ones((81, 3)), np.zeros(6))
    beads, _ = coarse_grained(Dataset({"liquid": [told]}), WATER, "fit")
    beads.save(tmp_path / "beads")
    back = Dataset.load(tmp_path / "beads")
    assert back.hash == beads.hash
    assert back.species == ("W",)
    np.testing.assert_array_equal(back.structures[0].get_masses(), beads.structures[0].get_masses())
