"""What ASE keeps in units of its own, in those of a run of LAMMPS."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mlcore.errors import InvalidArgument

if TYPE_CHECKING:
    from ase import Atoms

__all__ = ["UNITS", "ase_velocities", "checked_style", "style_of"]

UNITS = ("lj", "metal", "real")
"""Unit systems of LAMMPS whose lengths are those of ASE, or bare numbers."""


def checked_style(units: str | None) -> str | None:
    """Raises InvalidArgument for what is none of `UNITS` (or None)."""
    if units is not None and units not in UNITS:
        raise InvalidArgument(f"units must be one of {', '.join(UNITS)}, not {units!r}")
    return units


def style_of(names: Mapping[str, str]) -> str | None:
    """The one of `UNITS` that names of the units of length, energy and time stand for, or None."""
    found = set(names.values())
    return next((style for style in UNITS if found == {style}), None)


def ase_velocities(atoms: Atoms, units: str) -> NDArray[np.float64]:
    """(n, 3) velocities of `ase.Atoms` in the units of LAMMPS.

    ASE's momenta over masses are in Angstrom / (Angstrom sqrt(u/eV)), which is 98.2269 Angstrom/ps
    (metal) or 0.0982269 Angstrom/fs (real). In reduced units (lj) they are taken as they are.

    Args:
        atoms: with momenta.
        units: "lj", "metal" or "real".

    Raises:
        InvalidArgument: other units.
    """
    from ase.calculators.lammps import convert

    held = atoms.get_velocities()
    v = np.asarray(held, dtype=np.float64)
    if checked_style(units) == "lj":
        return v
    return np.asarray(convert(v, "velocity", "ASE", units))
