"""Elastic constants of crystals of low symmetry beside ASE, which relaxes them in strained cells."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.filters import FrechetCellFilter
from ase.optimize import BFGS
from ase.spacegroup import crystal
from ase.units import GPa
from interactions import POTENTIALS
from mlcore.forcefield.evaluate import Evaluator
from mlcore.forcefield.evaluate.box import new_lammps
from mlcore.forcefield.forms import Model, model
from mlcore.forcefield.targets import Crystal

CONSTANTS = [f"C{i}{j}" for i in range(1, 7) for j in range(i, 7)]
VOIGT = [(0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1)]
STRAIN = 1e-4


def quartz() -> Atoms:
    """Alpha quartz, P3_2 2 1."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return crystal(
            ["Si", "O"],
            [(0.4697, 0, 2 / 3), (0.4133, 0.2672, 0.7855)],
            spacegroup=154,
            cellpar=[4.916, 4.916, 5.4054, 90, 90, 120],
        )


def triclinic() -> Atoms:
    """Eight atoms thrown into a slanted box."""
    places = np.random.default_rng(3).random((8, 3))
    cell = 1.1 * np.array([[5, 0.3, -0.4], [0.2, 4.6, 0.5], [-0.3, 0.6, 4.2]])
    return Atoms("Si8", cell=cell, scaled_positions=places, pbc=True)


def with_ase(made: Model, values: dict[str, float], folder: Path) -> object:
    """ASE's calculator of LAMMPS."""
    new_lammps().close()
    from ase.calculators.lammpslib import LAMMPSlib

    told = made.render(values)
    for name, text in told.files.items():
        (folder / name).write_text(text)

    def placed(line: str) -> str:
        return " ".join(str(folder / w) if w in told.files else w for w in line.split())

    return LAMMPSlib(
        lmpcmds=[placed(f"pair_style {told.pair_style}"), *map(placed, told.pair_coeff),
                 *told.commands],
        atom_types={s.name: k + 1 for k, s in enumerate(made.species)},
        lammps_header=[
            "units metal", f"atom_style {told.atom_style}", "atom_modify map array sort 0 0",
        ],
        keep_alive=True,
    )  # fmt: skip


def relaxed_constants(rest: Atoms, calculator: object) -> np.ndarray:
    """(6, 6) GPa: central differences of the stress of cells whose atoms were moved to rest."""
    found = np.zeros((6, 6))
    for v, (i, j) in enumerate(VOIGT):
        stress = []
        for sign in (1, -1):
            strain = np.zeros((3, 3))
            strain[i, j] = strain[j, i] = sign * (STRAIN if i == j else STRAIN / 2)
            strained = rest.copy()
            strained.set_cell(np.asarray(rest.cell) @ (np.eye(3) + strain), scale_atoms=True)
            strained.calc = calculator
            assert BFGS(strained, logfile=None).run(fmax=1e-7, steps=500)
            stress.append(strained.get_stress())
        found[:, v] = (stress[0] - stress[1]) / (2 * STRAIN * GPa)
    return (found + found.T) / 2


@pytest.mark.parametrize("name", ["vashishta", "buck/coul/long", "sw"])
def test_elastic_constants_are_those_of_relaxed_strains(name: str, tmp_path: Path) -> None:
    made = model(name, ["Si"] if name == "sw" else ["Si", "O"])
    values = made.defaults
    if name == "vashishta":
        values = made.read(POTENTIALS / "SiO.1990.vashishta")
    rest = triclinic() if name == "sw" else quartz()
    calculator = with_ase(made, values, tmp_path)
    rest.calc = calculator
    with warnings.catch_warnings():
        # of the logarithm of a matrix near one
        warnings.simplefilter("ignore", RuntimeWarning)
        BFGS(FrechetCellFilter(rest), logfile=None).run(fmax=1e-6, steps=2000)
    expected = relaxed_constants(rest, calculator)
    start = rest.copy()
    start.calc = None
    start.set_cell(1.003 * np.asarray(rest.cell), scale_atoms=True)
    start.rattle(0.01, seed=1)
    wanted = {"a": 1.0, "gamma": 1.0, **dict.fromkeys(CONSTANTS, 1.0)}
    with Evaluator(made, [Crystal(start, wanted, name="any")]) as evaluator:
        (found,) = evaluator([values])
    assert found.failed is None
    a, gamma, *constants = found.values["any"]
    assert a == pytest.approx(rest.cell.cellpar()[0], abs=1e-5)
    assert gamma == pytest.approx(rest.cell.cellpar()[5], abs=1e-4)
    upper = expected[np.triu_indices(6)]
    np.testing.assert_allclose(constants, upper, rtol=1e-3, atol=1e-4 * upper.max())
    if name != "sw":
        matrix = dict(zip(CONSTANTS, constants, strict=True))
        for one, other in (("C11", "C22"), ("C44", "C55"), ("C13", "C23"), ("C14", "C56")):
            assert matrix[one] == pytest.approx(matrix[other], rel=1e-4), one
        assert matrix["C66"] == pytest.approx((matrix["C11"] - matrix["C12"]) / 2, rel=1e-4)
        assert abs(matrix["C14"]) > 5 and matrix["C24"] == pytest.approx(-matrix["C14"], rel=1e-3)
