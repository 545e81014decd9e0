"""Errors put into sound data are found, and sound data has none."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from ase.calculators.lj import LennardJones
from ase.calculators.singlepoint import SinglePointCalculator
from mlcore.forcefield.structures import Dataset, check, labelled, labels

GPA = 160.21766208


def argon(a: float = 5.26, rattle: float = 0.0, seed: int = 0, repeat: int = 2) -> Atoms:
    atoms = bulk("Ar", "fcc", a=a, cubic=True) * (repeat, repeat, repeat)
    if rattle:
        atoms.rattle(rattle, seed=seed)
    atoms.calc = LennardJones(sigma=3.4, epsilon=0.0104, rc=7.0, ro=5.5, smooth=True)
    return labelled(atoms, atoms.get_potential_energy(), atoms.get_forces(), atoms.get_stress())


def changed(atoms: Atoms, energy: float = 1.0, forces: float = 1.0, stress: float = 1.0) -> Atoms:
    known = labels(atoms)
    return labelled(atoms, known.energy * energy, known.forces * forces, known.stress * stress)


COLD = [argon(rattle=0.05, seed=k) for k in range(6)]
WARM = [argon(rattle=0.1, seed=10 + k) for k in range(6)]
CURVE = [argon(a, repeat=1) for a in (5.1, 5.15, 5.2, 5.3, 5.35, 5.4)]


def kinds(data: Dataset) -> set[str]:
    return {f.kind for f in check(data)}


def test_sound_data_has_no_findings() -> None:
    found = check(Dataset({"cold": COLD, "warm": WARM, "curve": CURVE}))
    assert list(found) == []
    assert str(found) == "18 structures: nothing found"
    assert found.flagged == []


def test_not_a_number() -> None:
    bad = COLD[0].copy()
    forces = np.zeros((len(bad), 3))
    forces[3, 1] = np.nan
    bad.calc = SinglePointCalculator(bad, energy=np.inf, forces=forces)
    lost = COLD[1].copy()
    lost.positions[0, 0] = np.nan
    found = check(Dataset({"a": [bad, lost, COLD[2]]}))
    told = [(f.structure, f.message) for f in found.of("nan")]
    assert told == [
        (0, "energy: not finite"),
        (0, "forces: not finite"),
        (1, "positions or cell are not finite"),
    ]
    assert all(f.severity == "error" for f in found.of("nan"))


def test_missing_labels() -> None:
    energy = labelled(COLD[0], labels(COLD[0]).energy)
    found = check(Dataset({"a": [energy, COLD[1]], "b": [WARM[0].copy(), WARM[1]]}))
    told = {(f.group, f.structure, f.message) for f in found.of("missing")}
    assert told == {
        ("a", None, "forces known for 1 of 2"),
        ("a", None, "stress known for 1 of 2"),
        ("b", 2, "no energy, forces or stress"),
    }


def test_short_distances() -> None:
    near = Atoms("H2", positions=[[0, 0, 0], [0, 0, 0.25]])
    odd = Atoms("H2", positions=[[0, 0, 0], [0, 0, 0.40]])
    fine = molecule("H2O")
    found = check(Dataset({"a": [near, odd, fine]})).of("short-distance")
    assert [(f.structure, f.severity) for f in found] == [(0, "error"), (1, "warning")]
    assert "H0-H1 are 0.250 Angstrom apart" in found[0].message


def test_short_distance_across_the_boundary() -> None:
    atoms = Atoms("Si2", positions=[[0.1, 1, 1], [7.9, 1, 1]], cell=[8, 8, 8], pbc=True)
    (found,) = check(Dataset({"a": [atoms]})).of("short-distance")
    assert "0.200 Angstrom" in found.message


@pytest.mark.parametrize(
    ("factor", "unit"),
    [(27.211386, "hartree"), (96.485332, "kJ/mol"), (1 / 23.060548, "kcal/mol")],
)
def test_energies_of_a_group_in_other_units(factor: float, unit: str) -> None:
    other = [changed(a, energy=1 / factor) for a in WARM]
    found = check(Dataset({"cold": COLD, "curve": CURVE, "warm": other}))
    (slip,) = [f for f in found.of("units") if "energies per atom" in f.message]
    assert slip.group == "warm"
    assert slip.structure is None
    assert unit in slip.message
    assert slip.severity == "error"
    assert set(found.flagged) >= set(range(12, 18))


def test_the_work_of_forces_tells_which_of_two_groups_is_wrong() -> None:
    """The larger group is in hartree; its forces prove the smaller one right."""
    other = [changed(a, energy=1 / 27.211386) for a in WARM]
    found = check(Dataset({"warm": other, "curve": CURVE[:4]}))
    assert [(f.kind, f.group) for f in found.errors] == [("units", "warm")]
    assert "energies per atom are" in found.errors[0].message


def test_one_energy_in_other_units() -> None:
    data = Dataset({"cold": COLD, "warm": [*WARM[:5], changed(WARM[5], energy=1 / 27.211386)]})
    slips = check(data).of("units")
    assert [(f.structure, f.group) for f in slips] == [(11, "warm")]


@pytest.mark.parametrize(
    ("factor", "unit"),
    [(1 / 51.422067, "hartree/bohr"), (23.060548, "kcal/mol"), (964.85332, "kJ/mol/nm")],
)
def test_forces_in_other_units(factor: float, unit: str) -> None:
    other = [changed(a, forces=factor) for a in WARM]
    found = check(Dataset({"cold": COLD, "warm": other}))
    (slip,) = found.of("units")
    assert (slip.group, slip.structure) == ("warm", None)
    assert unit in slip.message


def test_forces_of_the_wrong_sign() -> None:
    found = check(Dataset({"warm": [changed(a, forces=-1) for a in WARM], "cold": COLD}))
    assert [(f.kind, f.group) for f in found.errors] == [("sign", "warm")]


@pytest.mark.parametrize(("factor", "kind"), [(-1.0, "sign"), (GPA, "units"), (-GPA, "sign")])
def test_stress_of_the_wrong_sign_or_unit(factor: float, kind: str) -> None:
    found = check(Dataset({"curve": [changed(a, stress=factor) for a in CURVE], "cold": COLD}))
    slips = [f for f in found if f.kind in ("sign", "units")]
    assert kind in [f.kind for f in slips]
    assert {f.group for f in slips} == {"curve"}
    assert any("GPa" in f.message for f in slips) == (abs(factor) > 2)


def test_an_energy_outlier() -> None:
    off = labelled(COLD[0], labels(COLD[0]).energy - 0.02 * len(COLD[0]))
    found = check(Dataset({"cold": [*COLD[1:], off], "curve": CURVE}))
    (outlier,) = found.of("energy-outlier")
    assert outlier.structure == 5
    assert "energy -0.0199" in outlier.message


def test_outliers_are_told_from_compositions() -> None:
    """Energies per atom of -1 and -9 eV are sound where the elements explain them."""
    rng = np.random.default_rng(0)
    structures = []
    for k in range(20):
        symbols = ["Ar"] * (k % 5 + 1) + ["Si"] * 3
        atoms = Atoms(symbols, positions=4 * np.arange(3 * len(symbols)).reshape(-1, 3))
        energy = -1.0 * (k % 5 + 1) - 9.0 * 3 + rng.normal() * 0.01
        structures.append(labelled(atoms, energy + (3.0 if k == 7 else 0.0)))
    (outlier,) = check(Dataset({"a": structures})).of("energy-outlier")
    assert outlier.structure == 7


def test_net_force() -> None:
    known = labels(WARM[0])
    pulled = labelled(WARM[0], known.energy, known.forces + [0.1, 0, 0], known.stress)
    (found,) = check(Dataset({"warm": [pulled, *WARM[1:]]})).of("net-force")
    assert found.structure == 0


def test_exact_duplicates() -> None:
    found = check(Dataset({"a": [COLD[0], WARM[0]], "b": [COLD[0], WARM[1]]})).of("duplicate")
    assert [(f.structure, f.severity) for f in found] == [(2, "warning")]
    assert "structure 0 (a)" in found[0].message


def test_contradicting_duplicates() -> None:
    known = labels(COLD[0])
    other = labelled(COLD[0], known.energy + 0.1 * len(COLD[0]), known.forces, known.stress)
    found = check(Dataset({"a": [*COLD, *WARM, other]})).of("duplicate")
    assert [(f.structure, f.severity) for f in found] == [(12, "error")]
    assert "+0.1000 eV/atom off" in found[0].message


def test_the_same_structure_turned_repeated_and_reordered() -> None:
    rng = np.random.default_rng(3)
    one = bulk("SiC", "zincblende", a=4.36, cubic=True)
    one.rattle(0.1, seed=1)
    turned = one.copy()
    turned.rotate(33, (1, 2, 3), rotate_cell=True)
    turned.translate([0.3, 0.1, 0.2])
    turned.wrap()
    turned = turned[rng.permutation(len(turned))]
    repeated = one * (2, 1, 1)
    other = bulk("SiC", "zincblende", a=4.36, cubic=True)
    other.rattle(0.1, seed=2)
    wurtzite = bulk("SiC", "wurtzite", a=3.08, c=5.04)
    found = check(Dataset({"a": [one, other, wurtzite, turned, repeated]})).of("duplicate")
    assert [f.structure for f in found] == [3, 4]
    assert all("structure 0 (a)" in f.message for f in found)


def test_mirrored_molecules_and_swapped_elements() -> None:
    ethanol = molecule("CH3CH2OH")
    mirrored = ethanol.copy()
    mirrored.positions[:, 0] *= -1
    assert kinds(Dataset({"a": [ethanol, mirrored]})) == {"duplicate", "missing"}
    swapped = bulk("SiC", "zincblende", a=4.36, cubic=True)
    swapped.symbols = [{"Si": "C", "C": "Ge"}[s] for s in swapped.symbols]
    plain = bulk("SiC", "zincblende", a=4.36, cubic=True)
    assert "duplicate" not in kinds(Dataset({"a": [plain, swapped]}))


def test_stress_of_a_cluster() -> None:
    atoms = Atoms("Ar2", positions=[[0, 0, 0], [0, 0, 3.8]], cell=[9, 9, 9], pbc=(1, 1, 0))
    (found,) = check(Dataset({"a": [labelled(atoms, -0.01, stress=np.zeros(6))]})).of("cell")
    assert "not periodic along z" in found.message


def test_json_and_plot(tmp_path: Path) -> None:
    data = Dataset(
        {"cold": [*COLD, COLD[0]], "gas": [Atoms("Ar"), Atoms("Ar2", [[0] * 3, [3] * 3])]}
    )
    found = check(data)
    told = json.loads(found.json())
    assert told["structures"] == 9
    assert told["hash"] == data.hash
    assert [f["kind"] for f in told["findings"]].count("duplicate") == 1
    found.plot(tmp_path / "checks.png")
    assert (tmp_path / "checks.png").read_bytes().startswith(b"\x89PNG")
    found.plot(tmp_path / "checks.svg")
    assert "volume per atom" in (tmp_path / "checks.svg").read_text()
    lines = str(found).splitlines()
    assert lines[0].startswith("9 structures: ")
    assert len(lines) == 1 + len(found)


def test_progress_names_the_checks() -> None:
    names: list[str] = []
    check(Dataset({"a": COLD[:2]}), progress=names.append)
    assert names == ["numbers", "distances", "energies", "work", "forces", "duplicates"]
