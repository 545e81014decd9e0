"""Crystals of charges: Ewald sums under strain, beside a fresh `lmp` and finite differences."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from ase import Atoms, units
from ase.build import bulk
from ase.phonons import Phonons as AsePhonons
from ase.units import GPa
from mlcore.errors import FileFormatError
from mlcore.forcefield.codes import LammpsCommand
from mlcore.forcefield.evaluate import Evaluator
from mlcore.forcefield.evaluate.box import new_lammps
from mlcore.forcefield.evaluate.lammps import LammpsBoxes, LammpsEngine, structure_key
from mlcore.forcefield.forms import model
from mlcore.forcefield.structures import labels
from mlcore.forcefield.targets import CubicCrystal, Phonons
from mlcore.forcefield.targets.phonons import TERAHERTZ

MAGNESIA = model("buck/coul/long", ["Mg", "O"])
# G. V. Lewis, C. R. A. Catlow, J. Phys. C 18, 1149 (1985), rigid ions
RIGID = MAGNESIA.complete(
    {
        "A_Mg_Mg": 0.0, "rho_Mg_Mg": 1.0, "C_Mg_Mg": 0.0,
        "A_Mg_O": 1428.5, "rho_Mg_O": 0.2945, "C_Mg_O": 0.0,
        "A_O_O": 22764.0, "rho_O_O": 0.149, "C_O_O": 27.88,
        "charge_Mg": 2.0, "charge_O": -2.0,
    }
)  # fmt: skip
CELL = bulk("MgO", "rocksalt", 4.2)
CUBE = bulk("MgO", "rocksalt", 4.2, cubic=True)
SLANT = np.array([[1.01, 0.02, -0.01], [0.0, 0.99, 0.03], [0.015, 0.0, 1.0]])
VOIGT = [(0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1)]


def boxes_of(structure: Atoms, **values: float) -> LammpsBoxes:
    engine = LammpsEngine(MAGNESIA, 15.0)
    engine.use(RIGID | values)
    return LammpsBoxes(engine, [structure], [structure_key(structure)])


def rattled(repeat: int = 1) -> Atoms:
    atoms = CUBE * (repeat, 1, 1)
    atoms.rattle(0.1, seed=2)
    return atoms


def crystal_of(structure: Atoms, a: float | None = None, **values: float) -> dict[str, float]:
    wanted = dict.fromkeys(("a", "energy", "bulk", "C11", "C12", "C44"), 1.0)
    target = CubicCrystal(structure, wanted, a=a, name="magnesia")
    with Evaluator(MAGNESIA, [target]) as evaluator:
        (found,) = evaluator([RIGID | values])
    assert found.failed is None
    return dict(zip(wanted, found.values["magnesia"].tolist(), strict=True))


@pytest.mark.parametrize("strain", [None, SLANT])
def test_a_box_that_stays_is_as_a_fresh_process(strain: np.ndarray | None, tmp_path: Path) -> None:
    atoms = rattled()
    boxes = boxes_of(atoms)
    # after others
    boxes.static(0, np.eye(3)[None] * 0.97)
    found = boxes.static(0, None if strain is None else strain[None])
    there = atoms.copy()
    if strain is not None:
        there.set_cell(np.asarray(atoms.cell) @ strain.T, scale_atoms=True)
    fresh = labels(LammpsCommand.of(MAGNESIA, RIGID).label(there, tmp_path))
    assert found.energy[0] == pytest.approx(fresh.energy, abs=1e-9)
    np.testing.assert_allclose(found.forces[0], fresh.forces, atol=1e-9)
    np.testing.assert_allclose(found.stress[0], fresh.stress, atol=1e-10)


@pytest.mark.parametrize("repeat", [1, 2])
def test_forces_and_stress_are_slopes_of_the_energy(repeat: int) -> None:
    atoms = rattled(repeat)
    boxes = boxes_of(atoms, accuracy=1e-8)
    at = boxes.static(0, SLANT[None])
    for k, axis in ((0, 0), (3, 1), (6, 2)):
        move = np.zeros((1, len(atoms), 3))
        move[0, k, axis] = 1e-3
        up, down = (boxes.static(0, SLANT[None], x * move).energy[0] for x in (1, -1))
        # the complementary error function in LAMMPS is good to 1e-7
        largest = np.abs(at.forces).max()
        assert at.forces[0, k, axis] == pytest.approx(-(up - down) / 2e-3, abs=1e-5 * largest)
    volume = atoms.get_volume() * np.linalg.det(SLANT)
    for v, (i, j) in enumerate(VOIGT):
        strain = np.zeros((3, 3))
        strain[i, j] += 5e-5
        strain[j, i] += 5e-5
        up, down = (
            boxes.static(0, ((np.eye(3) + x * strain) @ SLANT)[None]).energy[0] for x in (1, -1)
        )
        assert at.stress[0, v] == pytest.approx((up - down) / 2e-4 / volume, abs=2e-5)


def test_energies_have_no_jumps_under_strain() -> None:
    """Tables of the charges' forces, made anew for each box, would give 1e-6 eV and 1e-7 eV/A^3."""
    boxes = boxes_of(CELL)
    scales = np.linspace(0.999, 1.001, 41)
    found = [boxes.static(0, np.eye(3)[None] * s) for s in scales]
    for values, noise in (
        ([one.energy[0] for one in found], 1e-10),
        ([one.stress[0, :3].mean() for one in found], 1e-10),
    ):
        smooth = np.polyval(np.polyfit(scales - 1, values, 5), scales - 1)
        assert np.abs(smooth - values).max() < noise


def test_elastic_constants_do_not_depend_on_the_cell() -> None:
    """Beside second differences of energies, which know nothing of the stress."""
    small = crystal_of(CELL)
    for other in (crystal_of(CUBE), crystal_of(CUBE * (2, 2, 2), a=4.2)):
        for name, value in small.items():
            assert other[name] == pytest.approx(value, rel=1e-6), name
    finer = crystal_of(CELL, accuracy=1e-9, coul_cutoff=12.0)
    for name, value in small.items():
        assert finer[name] == pytest.approx(value, rel=1e-4), name
    # ions that only feel central forces, each in a centre of symmetry
    assert small["C12"] == pytest.approx(small["C44"], rel=2e-5)
    boxes = boxes_of(CELL)
    rest = np.eye(3) * small["a"] / 4.2
    volume = CELL.get_volume() * np.linalg.det(rest)

    def energy(i: int, j: int, x: float) -> float:
        strain = np.eye(3)
        strain[i, j] += x
        strain[j, i] = strain[i, j]
        return float(boxes.static(0, (strain @ rest)[None]).energy[0])

    x = 1e-3
    middle = energy(0, 0, 0.0)
    along = (energy(0, 0, x) + energy(0, 0, -x) - 2 * middle) / x**2 / volume / GPa
    shear = (energy(0, 1, x) + energy(0, 1, -x) - 2 * middle) / (4 * x**2) / volume / GPa
    assert small["C11"] == pytest.approx(along, rel=5e-3)
    assert small["C44"] == pytest.approx(shear, rel=5e-3)


def test_jumps_of_tables_do_not_hide_where_a_crystal_is_at_rest() -> None:
    plain, tables = crystal_of(CELL), crystal_of(CELL, table=12.0)
    assert tables["a"] == pytest.approx(plain["a"], abs=1e-5)
    assert tables["energy"] == pytest.approx(plain["energy"], abs=2e-5)
    assert tables["C11"] == pytest.approx(plain["C11"], rel=2e-3)


def test_what_an_input_says_of_charges_is_read(tmp_path: Path) -> None:
    file = tmp_path / "in.lammps"
    lines = "pair_style buck/coul/long 9.0 8.0\npair_coeff * * 1400 0.33 170\n"
    charges = "set type 1 charge 1.5\nset type 2 charge -1.5\n"
    file.write_text(f"{lines}{charges}kspace_style ewald 1e-5\n")
    found = MAGNESIA.read(file)
    # 12 is what LAMMPS does by itself
    assert (found["accuracy"], found["table"], found["charge_O"]) == (1e-5, 12.0, -1.5)
    file.write_text(f"{lines}{charges}pair_modify table 0\n")
    assert MAGNESIA.read(file)["table"] == 0.0
    file.write_text(lines)
    with pytest.raises(FileFormatError, match="says nothing of charge_Mg"):
        MAGNESIA.read(file)


def frequencies(points: list[list[float]], supercell: tuple[int, int, int]) -> np.ndarray:
    target = Phonons(
        CELL, points, np.ones((len(points), 6)), supercell=supercell, at_rest=False, name="waves"
    )
    with Evaluator(MAGNESIA, [target]) as evaluator:
        (found,) = evaluator([RIGID])
    assert found.failed is None
    return found.values["waves"].reshape(-1, 6)


def test_phonons_of_ions_as_ase_has_them(tmp_path: Path) -> None:
    new_lammps().close()
    from ase.calculators.lammpslib import LAMMPSlib

    told = MAGNESIA.render(RIGID)
    calculator = LAMMPSlib(
        lmpcmds=[f"pair_style {told.pair_style}", *told.pair_coeff, *told.commands],
        atom_types={"Mg": 1, "O": 2},
        lammps_header=["units metal", "atom_style charge", "atom_modify map array sort 0 0"],
        keep_alive=True,
    )
    theirs = AsePhonons(CELL, calculator, supercell=(2, 2, 2), delta=1e-3, name=tmp_path / "p")
    theirs.run()
    theirs.read(acoustic=False)
    points = [[0.5, 0.0, 0.0], [0.5, 0.5, 0.0], [0.0, 0.0, 0.0]]
    expected = theirs.band_structure(points, verbose=False) / units._hplanck * units._e * 1e-12
    found = frequencies(points, (2, 2, 2))
    np.testing.assert_allclose(found, expected, atol=5e-3)


def test_optical_phonons_split_near_the_centre_and_not_in_it() -> None:
    """Sums without k = 0 give the transverse frequency thrice; R. H. Lyddane, R. G. Sachs, E.
    Teller, Phys. Rev. 59, 673 (1941): the longitudinal one of rigid ions is 4 pi Z^2/(V m) more."""
    (centre,) = frequencies([[0.0, 0.0, 0.0]], (1, 1, 1))
    np.testing.assert_allclose(centre[:3], 0.0, atol=0.05)
    np.testing.assert_allclose(centre[3:], centre[3], rtol=1e-6)
    mass = 1 / np.sum(1 / CELL.get_masses())
    coulomb = 4 * np.pi * 14.399645 * 2.0**2 / CELL.get_volume() / mass
    longitudinal = np.sqrt(centre[3] ** 2 + coulomb * TERAHERTZ**2)
    (near,) = frequencies([[0.0, 0.0, 1 / 12]], (1, 1, 12))
    assert near[5] == pytest.approx(longitudinal, rel=0.01)
    np.testing.assert_allclose(near[3:5], centre[3], rtol=0.01)
