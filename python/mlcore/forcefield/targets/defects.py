"""Energies of defects and surfaces against the crystal they are in."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np
from ase import Atoms

from mlcore.errors import InvalidArgument
from mlcore.forcefield.targets.elasticity import rest_scale
from mlcore.forcefield.targets.face import Array, Boxes, Measurement, Static, Target

__all__ = ["Defect", "Surface"]

# J/m^2 in eV/A^2
JOULE = 1.0 / 16.02176634


class Defect(Target):
    """Formation energy of a defect, eV: E(defect) - sum of what its atoms have in their crystals.

    The cell is that of the first crystal at rest under each candidate.

    Args:
        structure: the supercell with the defect, made of ``crystals``' first one as it is given.
        crystals: species -> the crystal its chemical potential is taken from, near its rest. A
            crystal of several species gives that of its formula unit, which the defect's cell must
            be a whole number of but for the species that have crystals of their own.
        energy: reference, eV.
        sigma: tolerance, eV.
        relax: let the atoms of the defect's cell move.
        **options: name, group, level, weight; see `Target`.
    """

    tier = "relaxed"

    def __init__(
        self,
        structure: Atoms,
        crystals: Mapping[str, Atoms] | Atoms,
        energy: float,
        *,
        sigma: float = 0.1,
        relax: bool = True,
        **options: Any,
    ) -> None:
        name = options.pop("name", structure.info.get("name", "defect"))
        named = _crystals(name, crystals)
        for crystal in named.values():
            _periodic(name, crystal)
        self.counts = _shares(name, structure, list(named.values()))
        self.relax = relax
        super().__init__(
            name, [structure, *named.values()], energy, sigma, [name], unit="eV", **options
        )

    def measure(self, boxes: Boxes) -> Measurement:
        scale, first, _ = rest_scale(boxes, 1)
        energies = [first] + [rest_scale(boxes, k)[1] for k in range(2, len(self.structures))]
        of_atoms = sum(share * energy for share, energy in zip(self.counts, energies, strict=True))
        found = _at_scale(boxes, scale, self.relax)
        scale = np.where(np.isfinite(of_atoms), scale, np.nan)
        return Measurement((found.energy - of_atoms)[:, None], None, _notes(scale, found))


class Surface(Target):
    """Energy of a surface, J/m^2: (E(slab) - n E(crystal))/2A, at the crystal's lattice constant.

    Args:
        slab: with two equal surfaces and vacuum along its third cell vector, made of ``crystal``
            as it is given.
        crystal: near its rest.
        energy: reference, J/m^2.
        sigma: tolerance, J/m^2.
        relax: let the atoms move.
        **options: name, group, level, weight; see `Target`.
    """

    tier = "relaxed"

    def __init__(
        self,
        slab: Atoms,
        crystal: Atoms,
        energy: float,
        *,
        sigma: float = 0.1,
        relax: bool = True,
        **options: Any,
    ) -> None:
        name = options.pop("name", slab.info.get("name", "surface"))
        _periodic(name, crystal)
        (self.count,) = _shares(name, slab, [crystal])
        self.area = float(np.linalg.norm(np.cross(slab.cell[0], slab.cell[1])))
        if self.area < 1e-6:
            raise InvalidArgument(f"{name}: slab must have two cell vectors along its surface")
        self.relax = relax
        super().__init__(name, [slab, crystal], energy, sigma, [name], unit="J/m^2", **options)

    def measure(self, boxes: Boxes) -> Measurement:
        scale, energy, _ = rest_scale(boxes, 1)
        found = _at_scale(boxes, scale, self.relax)
        excess = (found.energy - self.count * energy) / (2 * self.area * scale**2)
        return Measurement((excess / JOULE)[:, None], None, _notes(scale, found))


def _at_scale(boxes: Boxes, scale: Array, relax: bool) -> Static:
    safe = np.where(np.isfinite(scale), scale, 1.0)[:, None, None] * np.eye(3)
    return boxes.relaxed(0, safe) if relax else boxes.static(0, safe)


def _notes(scale: Array, found: Static) -> tuple[str, ...]:
    return tuple(
        "the crystal has no volume of rest" if not np.isfinite(s)
        else "" if np.isfinite(e) else "the structure has no energy"
        for s, e in zip(scale, found.energy, strict=True)
    )  # fmt: skip


def _crystals(name: str, crystals: Mapping[str, Atoms] | Atoms) -> dict[str, Atoms]:
    if isinstance(crystals, Atoms):
        return {crystals.get_chemical_formula(): crystals}
    if not crystals:
        raise InvalidArgument(f"{name}: crystals must hold at least one")
    return dict(crystals)


def _periodic(name: str, crystal: Atoms) -> None:
    if not crystal.pbc.all():
        raise InvalidArgument(
            f"{name}: the crystal {crystal.get_chemical_formula()} must be periodic in all "
            f"directions"
        )


def _shares(name: str, structure: Atoms, crystals: list[Atoms]) -> list[float]:
    """How many of each crystal's cells the structure has the atoms of."""
    species = sorted({str(s) for atoms in (structure, *crystals) for s in _names(atoms)})
    table = np.array(
        [[Counter(_names(crystal))[s] for crystal in crystals] for s in species], dtype=np.float64
    )
    wanted = np.array([Counter(_names(structure))[s] for s in species], dtype=np.float64)
    shares, _, rank, _ = np.linalg.lstsq(table, wanted, rcond=None)
    if rank < len(crystals):
        raise InvalidArgument(
            f"{name}: the atoms of {structure.get_chemical_formula()} can be shared out among "
            f"{', '.join(c.get_chemical_formula() for c in crystals)} in many ways; name fewer"
        )
    if np.abs(table @ shares - wanted).max() > 1e-9:
        raise InvalidArgument(
            f"{name}: the atoms of {structure.get_chemical_formula()} are not those of "
            f"{', '.join(c.get_chemical_formula() for c in crystals)} in any number"
        )
    return [float(share) for share in shares]


def _names(atoms: Atoms) -> list[str]:
    given = atoms.arrays.get("species")
    return [str(s) for s in (atoms.get_chemical_symbols() if given is None else given)]
