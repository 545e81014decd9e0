"""Energies, forces and stress of given structures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from ase import Atoms

from mlcore.errors import InvalidArgument
from mlcore.forcefield.targets.face import Array, Boxes, Measurement, SlopeBoxes, Target

__all__ = ["Energies", "Forces", "Stress"]


class Energies(Target):
    """Energies per atom of given structures, eV.

    Args:
        structures: the structures.
        energies: (n,) eV of each whole structure; from ``atoms.info["energy"]`` or a calculator's
            results where left out.
        sigma: tolerance, eV per atom.
        names: of the terms.
        relative_to: index of a structure whose energy per atom is taken off all others, so that
            the zero of energies does not matter.
        **options: name, group, level, weight; see `Target`.
    """

    asks = "energy"

    def __init__(
        self,
        structures: Sequence[Atoms],
        energies: npt.ArrayLike | None = None,
        *,
        sigma: npt.ArrayLike = 0.02,
        names: Sequence[str] | None = None,
        relative_to: int | None = None,
        **options: Any,
    ) -> None:
        name = options.pop("name", "energies")
        _some(name, structures)
        whole = _labels(name, structures, energies, "energy")
        self.counts = np.array([len(atoms) for atoms in structures], dtype=np.float64)
        self.relative_to = _index(name, relative_to, len(structures))
        super().__init__(
            name,
            structures,
            self._referenced(whole / self.counts),
            sigma,
            names or structure_names(name, structures),
            unit="eV/atom",
            **options,
        )

    def measure(self, boxes: Boxes) -> Measurement:
        found = boxes.statics([False] * len(self.structures))
        energies = np.stack([static.energy for static in found], axis=-1)
        return Measurement(self._referenced(energies / self.counts))

    def slopes(self, boxes: SlopeBoxes, values: Array) -> Array:
        found = boxes.slopes([False] * len(self.structures))
        energies = np.stack([slope.energy for slope in found], axis=-1)
        return self._referenced(energies / self.counts).T

    def _referenced(self, energies: Array) -> Array:
        if self.relative_to is None:
            return energies
        return energies - energies[..., self.relative_to, None]


class Forces(Target):
    """Forces on the atoms of given structures, eV/A; one term, their RMS error, per structure.

    Args:
        structures: the structures.
        forces: one (n, 3) for each, eV/A; from ``atoms.arrays["forces"]`` or a calculator's
            results where left out.
        sigma: tolerance of the root mean square error over components, eV/A.
        names: of the terms.
        **options: name, group, level, weight; see `Target`.
    """

    asks = "forces"

    def __init__(
        self,
        structures: Sequence[Atoms],
        forces: Sequence[npt.ArrayLike] | None = None,
        *,
        sigma: float = 0.2,
        names: Sequence[str] | None = None,
        **options: Any,
    ) -> None:
        name = options.pop("name", "forces")
        _some(name, structures)
        rows = _arrays(name, structures, forces, "forces")
        sizes = [row.size for row in rows]
        super().__init__(
            name,
            structures,
            np.concatenate([row.ravel() for row in rows]),
            np.concatenate([np.full(size, sigma * np.sqrt(size)) for size in sizes]),
            names or structure_names(name, structures),
            np.repeat(np.arange(len(sizes)), sizes),
            unit="eV/A",
            **options,
        )

    def measure(self, boxes: Boxes) -> Measurement:
        found = boxes.statics([True] * len(self.structures))
        flat = [static.forces.reshape(boxes.candidates, -1) for static in found]
        return Measurement(np.concatenate(flat, axis=1))

    def slopes(self, boxes: SlopeBoxes, values: Array) -> Array:
        found = boxes.slopes([True] * len(self.structures))
        return np.concatenate([slope.forces.reshape(-1, boxes.directions) for slope in found])


class Stress(Target):
    """Stress of given structures, eV/A^3; one term, the RMS error of six components, per structure.

    Args:
        structures: periodic structures.
        stress: (n, 6) eV/A^3, order xx yy zz yz xz xy, positive under tension (ASE); from
            ``atoms.info["stress"]`` or a calculator's results where left out.
        sigma: tolerance of the root mean square error over components, eV/A^3; the default is
            about 0.5 GPa.
        names: of the terms.
        **options: name, group, level, weight; see `Target`.
    """

    asks = "forces"

    def __init__(
        self,
        structures: Sequence[Atoms],
        stress: npt.ArrayLike | None = None,
        *,
        sigma: float = 0.003,
        names: Sequence[str] | None = None,
        **options: Any,
    ) -> None:
        name = options.pop("name", "stress")
        _some(name, structures)
        for atoms in structures:
            if not atoms.pbc.all():
                raise InvalidArgument(f"{name}: structures must be periodic to have a stress")
        rows = _stresses(name, structures, stress)
        super().__init__(
            name,
            structures,
            rows.ravel(),
            sigma * np.sqrt(6),
            names or structure_names(name, structures),
            np.repeat(np.arange(len(rows)), 6),
            unit="eV/A^3",
            **options,
        )

    def measure(self, boxes: Boxes) -> Measurement:
        found = boxes.statics([True] * len(self.structures))
        return Measurement(np.concatenate([static.stress for static in found], axis=1))

    def slopes(self, boxes: SlopeBoxes, values: Array) -> Array:
        found = boxes.slopes([True] * len(self.structures))
        return np.concatenate([slope.stress for slope in found])


def structure_names(target: str, structures: Sequence[Atoms]) -> list[str]:
    """Names of terms: ``target`` of each structure's ``info["name"]`` or formula, made unique."""
    found: list[str] = []
    for k, atoms in enumerate(structures):
        name = f"{target} of {atoms.info.get('name') or atoms.get_chemical_formula()}"
        found.append(name if name not in found else f"{name} #{k}")
    return found


def _some(name: str, structures: Sequence[Atoms]) -> None:
    if isinstance(structures, Atoms) or not all(isinstance(a, Atoms) for a in structures):
        raise InvalidArgument(f"{name}: structures must be a list of ase.Atoms")
    if not structures:
        raise InvalidArgument(f"{name}: structures must hold at least one")
    if any(len(atoms) == 0 for atoms in structures):
        raise InvalidArgument(f"{name}: a structure without atoms has no properties")


def _index(name: str, k: int | None, count: int) -> int | None:
    if k is not None and not 0 <= k < count:
        raise InvalidArgument(f"{name}: relative_to must be from 0 to {count - 1}, got {k}")
    return k


def _label(name: str, atoms: Atoms, what: str) -> Any:
    if what in atoms.info:
        return atoms.info[what]
    if what in atoms.arrays:
        return atoms.arrays[what]
    if atoms.calc is not None and what in getattr(atoms.calc, "results", {}):
        return atoms.calc.results[what]
    raise InvalidArgument(f"{name}: {atoms.get_chemical_formula()} has no {what}")


def _labels(
    name: str, structures: Sequence[Atoms], given: npt.ArrayLike | None, what: str
) -> Array:
    told = [_label(name, atoms, what) for atoms in structures] if given is None else given
    rows = np.asarray(told, dtype=np.float64)
    if rows.shape != (len(structures),):
        raise InvalidArgument(
            f"{name}: {what} must have shape ({len(structures)},), got {rows.shape}"
        )
    return rows


def _arrays(
    name: str, structures: Sequence[Atoms], given: Sequence[npt.ArrayLike] | None, what: str
) -> list[Array]:
    told = [_label(name, atoms, what) for atoms in structures] if given is None else given
    if len(told) != len(structures):
        raise InvalidArgument(f"{name}: {what} must be one array for each structure")
    rows = [np.asarray(row, dtype=np.float64) for row in told]
    for atoms, row in zip(structures, rows, strict=True):
        if row.shape != (len(atoms), 3):
            raise InvalidArgument(
                f"{name}: {what} of {atoms.get_chemical_formula()} must have shape "
                f"({len(atoms)}, 3), got {row.shape}"
            )
    return rows


def _stresses(name: str, structures: Sequence[Atoms], given: npt.ArrayLike | None) -> Array:
    told = [_label(name, atoms, "stress") for atoms in structures] if given is None else given
    rows = np.asarray(told, dtype=np.float64)
    if rows.shape[1:] == (3, 3):
        rows = rows[:, [0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1]]
    if rows.shape != (len(structures), 6):
        raise InvalidArgument(f"{name}: stress must have shape ({len(structures)}, 6)")
    return rows
