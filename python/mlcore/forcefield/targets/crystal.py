"""Crystals at rest: lattice, cohesive energy, elastic constants."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from ase import Atoms
from ase.cell import Cell
from ase.units import GPa

from mlcore.errors import InvalidArgument
from mlcore.forcefield.targets.elasticity import (
    elastic_constants,
    rest_scale,
    rest_strain,
    softening,
    stress_slopes,
)
from mlcore.forcefield.targets.face import (
    Array,
    Boxes,
    Measurement,
    SlopeBoxes,
    Target,
)
from mlcore.forcefield.targets.following import Rest
from mlcore.forcefield.targets.symmetry import Symmetry

__all__ = ["CUBIC_VALUES", "Crystal", "CubicCrystal"]

# value -> unit and default tolerance
CUBIC_VALUES = {
    "a": ("A", 0.01),
    "energy": ("eV/atom", 0.01),
    "bulk": ("GPa", 5.0),
    "C11": ("GPa", 5.0),
    "C12": ("GPa", 5.0),
    "C44": ("GPa", 5.0),
    "C44 unrelaxed": ("GPa", 5.0),
}
_ANGLES = ("alpha", "beta", "gamma")
_LENGTHS = ("a", "b", "c")
_CONSTANTS = tuple(f"C{i}{j}" for i in range(1, 7) for j in range(i, 7))
CRYSTAL_VALUES = {
    **dict.fromkeys(_LENGTHS, ("A", 0.01)),
    **dict.fromkeys(_ANGLES, ("degree", 0.5)),
    "volume": ("A^3/atom", 0.1),
    "energy": ("eV/atom", 0.01),
    **dict.fromkeys(_CONSTANTS, ("GPa", 5.0)),
}


class CubicCrystal(Target):
    """A cubic crystal at the volume where its pressure vanishes.

    Elastic constants are central differences of the stress over strains of 1e-3. Those of crystals
    whose atoms have room to move are relaxed by linear response (`elasticity.softening`): C44 alone,
    and the atoms must be at rest by symmetry, as in diamond, zincblende, rocksalt, fluorite and
    metals; others (pyrite, garnets) are for `Crystal`.

    Args:
        structure: the crystal in a cubic or primitive cell, near its lattice constant; the fewer
            atoms, the quicker.
        values: reference of ``a`` (A), ``energy`` (eV per atom), ``bulk``, ``C11``, ``C12``,
            ``C44``, ``C44 unrelaxed`` (GPa), those that are wanted.
        sigma: tolerances of them; default 0.01 A, 0.01 eV, 5 GPa.
        a: lattice constant of ``structure`` as it is, whose cubic axes then are x, y and z; by
            default that of a conventional cell, or of the primitive fcc or bcc cell it is, however
            it is turned.
        **options: name, group, level, weight; see `Target`.
    """

    def __init__(
        self,
        structure: Atoms,
        values: Mapping[str, float],
        *,
        sigma: Mapping[str, float] | None = None,
        a: float | None = None,
        **options: Any,
    ) -> None:
        name = options.pop("name", structure.info.get("name", "crystal"))
        tolerances = _tolerances(name, CUBIC_VALUES, values, sigma)
        _periodic(name, structure)
        self.wanted = tuple(values)
        if a is None:
            self.a, structure = _cubic(name, structure)
        else:
            self.a = float(a)
        if not self.a > 0:
            raise InvalidArgument(f"{name}: a must be positive, got {self.a}")
        super().__init__(
            name,
            [structure],
            list(values.values()),
            tolerances,
            [f"{name} {key}" for key in values],
            unit=" ".join(CUBIC_VALUES[key][0] for key in values),
            **options,
        )
        self._symmetry = Symmetry(self.structures[0])

    def measure(self, boxes: Boxes) -> Measurement:
        scale, energy, bulk = rest_scale(boxes)
        found = {"a": self.a * scale, "energy": energy / len(self.structures[0]), "bulk": bulk}
        found |= self._elastic(boxes, scale)
        values = np.stack([found[key] for key in self.wanted], axis=-1)
        return Measurement(values, None, _lost(np.isfinite(scale)))

    def slopes(self, boxes: SlopeBoxes, values: Array) -> Array:
        known = "a" in self.wanted
        scale = values[self.wanted.index("a")] / self.a if known else rest_scale(boxes)[0][0]
        if not np.isfinite(scale):
            return np.full((len(self.wanted), boxes.directions), np.nan)
        rest = Rest(boxes, float(scale))
        found = {"a": self.a * rest.scale_slopes, "energy": rest.energy() / rest.count}
        if "bulk" in self.wanted:
            found["bulk"] = rest.bulk() / GPa
        if any(key.startswith("C") for key in self.wanted):
            along, shear = rest.stress_slopes((0, 3))
            found["C11"], found["C12"] = along[0] / GPa, along[1:3].mean(axis=0) / GPa
            found["C44 unrelaxed"] = shear[3] / GPa
        if "C44" in self.wanted:
            found["C44"] = found["C44 unrelaxed"] - rest.softening()[3, 3] / GPa
        return np.stack([found[key] for key in self.wanted])

    def _elastic(self, boxes: Boxes, scale: Array) -> dict[str, Array]:
        """What is wanted of C11, C12 and C44, relaxed and not, GPa."""
        rest = np.where(np.isfinite(scale), scale, 1.0)[:, None, None] * np.eye(3)
        lost = np.where(np.isfinite(scale), 1 / GPa, np.nan)
        found: dict[str, Array] = {}
        if not any(key.startswith("C") for key in self.wanted):
            return found
        boxes = self._symmetry.of(boxes)
        along, shear = stress_slopes(boxes, rest, (0, 3))
        found["C11"], found["C12"] = along[:, 0] * lost, along[:, 1:3].mean(axis=1) * lost
        found["C44 unrelaxed"] = shear[:, 3] * lost
        if "C44" in self.wanted:
            found["C44"] = (shear[:, 3] - softening(boxes, rest)[:, 3, 3]) * lost
        return found


class Crystal(Target):
    """A crystal of any symmetry at rest: all stresses vanish.

    Elastic constants are central differences of the stress over strains of 1e-4, less what the
    motion of the atoms takes off them by linear response (`elasticity.softening`).

    Args:
        structure: the crystal, near its rest.
        values: reference of ``a``, ``b``, ``c`` (A), ``alpha``, ``beta``, ``gamma`` (degrees) of
            the cell given, ``volume`` (A^3 per atom), ``energy`` (eV per atom), ``C11`` to ``C66``
            (GPa, in the axes of ``structure``), those that are wanted.
        sigma: tolerances of them; default 0.01 A, 0.5 degrees, 0.1 A^3, 0.01 eV, 5 GPa.
        relax: let the atoms move; needed where symmetry does not hold them.
        **options: name, group, level, weight; see `Target`.
    """

    tier = "relaxed"

    def __init__(
        self,
        structure: Atoms,
        values: Mapping[str, float],
        *,
        sigma: Mapping[str, float] | None = None,
        relax: bool = True,
        **options: Any,
    ) -> None:
        name = options.pop("name", structure.info.get("name", "crystal"))
        tolerances = _tolerances(name, CRYSTAL_VALUES, values, sigma)
        _periodic(name, structure)
        self.wanted = tuple(values)
        self.relax = relax
        super().__init__(
            name,
            [structure],
            list(values.values()),
            tolerances,
            [f"{name} {key}" for key in values],
            unit=" ".join(CRYSTAL_VALUES[key][0] for key in values),
            **options,
        )

    def measure(self, boxes: Boxes) -> Measurement:
        f, at_rest = rest_strain(boxes, relax=self.relax)
        good = np.isfinite(f[:, 0, 0])
        safe = np.where(good[:, None, None], f, np.eye(3))
        found = self._lattice(safe) | {"energy": at_rest.energy / len(self.structures[0])}
        if any(key in _CONSTANTS for key in self.wanted):
            moved = at_rest.displacements
            if moved is not None:
                moved = np.where(good[:, None, None], moved, 0.0)
            matrix = elastic_constants(boxes, safe, relax=self.relax, moved=moved)
            found |= {key: matrix[:, int(key[1]) - 1, int(key[2]) - 1] for key in _CONSTANTS}
        values = np.stack([found[key] for key in self.wanted], axis=-1)
        return Measurement(np.where(good[:, None], values, np.nan), None, _lost(good))

    def _lattice(self, f: Array) -> dict[str, Array]:
        cells = np.asarray(self.structures[0].cell[:]) @ np.swapaxes(f, 1, 2)
        parameters = np.array([Cell(cell).cellpar() for cell in cells])
        found = dict(zip((*_LENGTHS, *_ANGLES), parameters.T, strict=True))
        found["volume"] = np.abs(np.linalg.det(cells)) / len(self.structures[0])
        return found


def _tolerances(
    name: str,
    known: Mapping[str, tuple[str, float]],
    values: Mapping[str, float],
    sigma: Mapping[str, float] | None,
) -> list[float]:
    unknown = (values.keys() | (sigma or {}).keys()) - known.keys()
    if unknown or not values:
        raise InvalidArgument(
            f"{name}: values must be of {', '.join(known)}; got {sorted(unknown)}"
        )
    return [(sigma or {}).get(key, known[key][1]) for key in values]


def _periodic(name: str, structure: Atoms) -> None:
    if not structure.pbc.all():
        raise InvalidArgument(f"{name}: structure must be periodic in all directions")


def _lost(good: np.ndarray[Any, np.dtype[np.bool_]]) -> tuple[str, ...]:
    return tuple("" if one else "the crystal has no volume of rest" for one in good)


# primitive cell -> conventional one, by what scalar products of its vectors are to their squares
_CONVENTIONAL = (
    (0.0, np.eye(3)),
    (0.5, np.ones((3, 3)) - 2 * np.eye(3)),
    (-1 / 3, np.ones((3, 3)) - np.eye(3)),
)


def _cubic(name: str, structure: Atoms) -> tuple[float, Atoms]:
    """Lattice constant of a conventional, fcc primitive or bcc primitive cell, and the structure
    turned so that its cubic axes are x, y and z."""
    cell = np.asarray(structure.cell[:])
    gram = cell @ cell.T
    square = float(np.mean(np.diag(gram)))
    off = [gram[0, 1], gram[0, 2], gram[1, 2]]
    if square > 0 and np.allclose(np.diag(gram), square, rtol=1e-6):
        for ratio, conventional in _CONVENTIONAL:
            if np.allclose(np.divide(off, square), ratio, atol=1e-6):
                axes = conventional @ cell
                a = float(np.linalg.norm(axes, axis=1).mean())
                return a, _turned(structure, axes / a)
    raise InvalidArgument(f"{name}: structure has no cubic cell; give its lattice constant a")


def _turned(structure: Atoms, axes: Array) -> Atoms:
    """The structure seen from ``axes``; as it is where these are x, y and z in any order."""
    if np.allclose(np.abs(axes).max(axis=1), 1.0, atol=1e-6):
        return structure
    turned: Atoms = structure.copy()
    turned.set_constraint()
    turned.set_cell(np.asarray(structure.cell[:]) @ axes.T, scale_atoms=True)
    return turned
