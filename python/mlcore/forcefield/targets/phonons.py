"""Phonon frequencies by finite displacements."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from ase import Atoms
from ase.units import _amu, _e

from mlcore.errors import InvalidArgument
from mlcore.forcefield.targets.elasticity import SHIFT, rest_scale
from mlcore.forcefield.targets.face import Array, Boxes, Measurement, Target

__all__ = ["Phonons"]

# sqrt(eV/A^2/(g/mol)) as a frequency in THz
TERAHERTZ = float(np.sqrt(_e / _amu) * 1e10 / (2 * np.pi) * 1e-12)


class Phonons(Target):
    """Frequencies of phonons, THz; unstable ones are negative.

    Force constants are central differences over displacements of 1e-3 A in a supercell (the direct
    method; K. Parlinski et al., Phys. Rev. Lett. 78, 4063 (1997)), exact at wave vectors that fit
    into it and an interpolation between them. Of crystals of charges the term that splits optical
    phonons towards the centre of the zone is not added: in the centre all of them have the
    transverse frequency, and only wave vectors that fit into the supercell are right; the
    longitudinal frequency is that near the centre in a supercell long along one vector.

    Args:
        structure: the cell, near its rest; beads need masses of their own (``set_masses``).
        points: (n, 3) wave vectors in units of the reciprocal cell vectors.
        frequencies: (n, 3 atoms) references, THz; at each point in rising order, NaN for those
            that do not count.
        supercell: repeats of the cell.
        sigma: tolerance, THz.
        at_rest: at the volume where the candidate's pressure vanishes (an equal stretch of all
            directions), else at that of ``structure``.
        **options: name, group, level, weight; see `Target`.
    """

    def __init__(
        self,
        structure: Atoms,
        points: npt.ArrayLike,
        frequencies: npt.ArrayLike,
        *,
        supercell: Sequence[int] = (2, 2, 2),
        sigma: float = 0.5,
        at_rest: bool = True,
        **options: Any,
    ) -> None:
        name = options.pop("name", "phonons")
        self.points = np.atleast_2d(np.asarray(points, dtype=np.float64))
        told = np.atleast_2d(np.asarray(frequencies, dtype=np.float64))
        if told.shape != (len(self.points), 3 * len(structure)) or self.points.shape[1] != 3:
            raise InvalidArgument(
                f"{name}: frequencies must have shape ({len(self.points)}, {3 * len(structure)}), "
                f"one row for each wave vector, got {told.shape}"
            )
        if len(supercell) != 3 or min(supercell) < 1:
            raise InvalidArgument(
                f"{name}: supercell must be three numbers from 1, got {supercell}"
            )
        if at_rest and not structure.pbc.all():
            raise InvalidArgument(f"{name}: structure must be periodic in all directions")
        if any(k > 1 and not p for k, p in zip(supercell, structure.pbc, strict=True)):
            raise InvalidArgument(f"{name}: supercell must be 1 where structure is not periodic")
        self.counted = np.isfinite(told)
        self.masses = _masses(name, structure)
        self.cell_atoms = len(structure)
        self.at_rest = at_rest
        whole = structure.repeat(tuple(int(k) for k in supercell))
        self._waves = _waves(structure, whole, supercell, self.points)
        names = [
            f"{name} {k + 1} at {' '.join(f'{x:g}' for x in q)}"
            for q, row in zip(self.points, self.counted, strict=True)
            for k in np.flatnonzero(row)
        ]
        super().__init__(
            name, [whole, structure], told[self.counted], sigma, names, unit="THz", **options
        )

    def measure(self, boxes: Boxes) -> Measurement:
        scale = rest_scale(boxes, 1)[0] if self.at_rest else np.ones(boxes.candidates)
        safe = np.where(np.isfinite(scale), scale, 1.0)
        constants = self._constants(boxes, safe[:, None, None] * np.eye(3))
        rows = np.stack([self._frequencies(one)[self.counted] for one in constants])
        values = np.where(np.isfinite(scale)[:, None], rows, np.nan)
        notes = tuple("" if np.isfinite(s) else "the crystal has no volume of rest" for s in scale)
        return Measurement(values, None, notes)

    def _constants(self, boxes: Boxes, rest: Array) -> Array:
        """(C, 3 atoms, whole, 3) force constants, eV/A^2, of the first cell and the supercell."""
        n, whole = self.cell_atoms, len(self.structures[0])
        moves = np.zeros((3 * n, whole, 3))
        moves[np.arange(3 * n), np.arange(3 * n) // 3, np.arange(3 * n) % 3] = SHIFT
        rows = []
        for move in moves:
            ends = [(rest, np.broadcast_to(x * move, (len(rest), whole, 3))) for x in (-1, 1)]
            down, up = boxes.deformed(0, ends)
            rows.append((down.forces - up.forces) / (2 * SHIFT))
        return np.stack(rows, axis=1)

    def _frequencies(self, constants: Array) -> Array:
        """(n, 3 atoms) THz at every wave vector."""
        if not np.all(np.isfinite(constants)):
            return np.full(self.counted.shape, np.nan)
        n = self.cell_atoms
        folded = constants.reshape(3 * n, -1, n, 3)
        root = np.sqrt(np.repeat(self.masses, 3))
        found = []
        for wave in self._waves:
            matrix = np.einsum("aknd,pkn->pand", folded, wave)
            # each atom of the first cell sees its own images
            own = np.stack([matrix[k // 3, k] for k in range(3 * n)]).reshape(3 * n, 3 * n)
            own = (own + own.conj().T) / 2 / root[:, None] / root
            square = np.linalg.eigvalsh(own)
            found.append(np.sign(square) * np.sqrt(np.abs(square)) * TERAHERTZ)
        return np.array(found)


def _masses(name: str, structure: Atoms) -> Array:
    """(n,) g/mol; a bead's chemical symbol says nothing of its mass."""
    named = structure.arrays.get("species")
    symbols = structure.get_chemical_symbols()
    if named is not None and not structure.has("masses") and [str(s) for s in named] != symbols:
        raise InvalidArgument(f"{name}: structure must hold the masses of its beads")
    masses: Array = structure.get_masses()
    return masses


def _waves(
    cell: Atoms, whole: Atoms, supercell: Sequence[int], points: Array
) -> npt.NDArray[np.complex128]:
    """(n, atoms, cells, atoms) mean of exp(i q R) over the nearest images of each atom.

    R goes from the cell of an atom of the first cell to that of an atom of the supercell; an atom
    on the border of the region nearest to it counts with all its images in equal parts.
    """
    n, cells = len(cell), int(np.prod(supercell))
    images = np.array(np.meshgrid(*[(-1, 0, 1)] * 3, indexing="ij")).reshape(3, -1).T
    steps = images * np.asarray(supercell)
    inside = np.array(np.unravel_index(np.arange(cells), tuple(supercell))).T
    found = np.zeros((len(points), n, cells, n), dtype=np.complex128)
    sites = cell.get_scaled_positions(wrap=False)
    for p in range(n):
        for c in range(cells):
            for a in range(n):
                shifts = inside[c] + steps
                away = (shifts + sites[a] - sites[p]) @ np.asarray(cell.cell[:])
                length = np.linalg.norm(away, axis=1)
                nearest = shifts[length < length.min() + 1e-5]
                found[:, p, c, a] = np.exp(2j * np.pi * points @ nearest.T).mean(axis=1)
    return found
