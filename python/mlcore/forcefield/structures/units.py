"""Units of files, converted to eV and Angstrom where a file is read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from ase import units as u

from mlcore.errors import InvalidArgument
from mlcore.forcefield.structures.labels import labelled, labels

if TYPE_CHECKING:
    from ase import Atoms

__all__ = ["LAMMPS", "UNITS", "converted", "factor"]

UNITS: dict[str, dict[str, float]] = {
    "length": {"Angstrom": 1.0, "bohr": u.Bohr, "nm": 10.0},
    "energy": {
        "eV": 1.0,
        "meV": 1e-3,
        "hartree": u.Hartree,
        "rydberg": u.Rydberg,
        "kcal/mol": u.kcal / u.mol,
        "kJ/mol": u.kJ / u.mol,
        "lammps kcal/mol": 1 / 23.060549,
        "J": u.J,
    },
    "forces": {
        "eV/Angstrom": 1.0,
        "meV/Angstrom": 1e-3,
        "hartree/bohr": u.Hartree / u.Bohr,
        "rydberg/bohr": u.Rydberg / u.Bohr,
        "hartree/Angstrom": u.Hartree,
        "kcal/mol/Angstrom": u.kcal / u.mol,
        "kJ/mol/nm": u.kJ / u.mol / 10,
        "lammps kcal/mol/Angstrom": 1 / 23.060549,
    },
    "stress": {
        "eV/Angstrom^3": 1.0,
        "GPa": u.GPa,
        "kbar": 0.1 * u.GPa,
        "bar": 1e-4 * u.GPa,
        "atm": 101325 * u.Pascal,
        "Pa": u.Pascal,
        "lammps bar": 1 / 1.6021765e6,
        "lammps atm": 1 / 23.060549 / 68568.415,
        "hartree/bohr^3": u.Hartree / u.Bohr**3,
        "rydberg/bohr^3": u.Rydberg / u.Bohr**3,
    },
}
"""What one of each unit is in Angstrom, eV, eV/Angstrom and eV/Angstrom^3 (CODATA as in ASE).

The units `lammps ..` are by the constants that LAMMPS itself converts with, so that what it computed
in other units inside comes back to the last digits. A stress may have a minus in front of its unit,
such as `-kbar`: positive under compression.
"""

LAMMPS: dict[str, dict[str, str]] = {
    "metal": {
        "length": "Angstrom",
        "energy": "eV",
        "forces": "eV/Angstrom",
        "stress": "-lammps bar",
    },
    "real": {
        "length": "Angstrom",
        "energy": "lammps kcal/mol",
        "forces": "lammps kcal/mol/Angstrom",
        "stress": "-lammps atm",
    },
}
"""Units of LAMMPS' styles; its pressures are positive under compression."""


def factor(quantity: str, unit: str) -> float:
    """What the numbers are multiplied with.

    Raises:
        InvalidArgument: an unknown quantity or unit.
    """
    known = UNITS.get(quantity)
    if known is None:
        raise InvalidArgument(f"units: {quantity!r} is none of {', '.join(UNITS)}")
    sign, bare = (-1, unit[1:]) if quantity == "stress" and unit[:1] == "-" else (1, unit)
    if bare not in known:
        raise InvalidArgument(f"units: {unit!r} of {quantity} is none of {', '.join(known)}")
    return sign * known[bare]


def converted(atoms: Atoms, units: Mapping[str, str]) -> Atoms:
    """A labelled copy in Angstrom and eV.

    Args:
        atoms: labelled in `units`.
        units: by quantity: length, energy, forces, stress; those left out are right already.

    Raises:
        InvalidArgument: an unknown quantity or unit.
    """
    factors = {name: factor(name, unit) for name, unit in units.items()}
    if all(f == 1.0 for f in factors.values()):
        return atoms
    known = labels(atoms)
    copy = atoms.copy()
    scale = factors.get("length", 1.0)
    if scale != 1.0:
        copy.set_cell(np.asarray(atoms.cell) * scale)
        copy.positions = atoms.positions * scale
    return labelled(
        copy,
        None if known.energy is None else known.energy * factors.get("energy", 1.0),
        None if known.forces is None else known.forces * factors.get("forces", 1.0),
        None if known.stress is None else known.stress * factors.get("stress", 1.0),
    )
