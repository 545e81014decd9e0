"""Energy against volume."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from ase import Atoms

from mlcore.errors import InvalidArgument
from mlcore.forcefield.targets.face import Array, Boxes, Change, Measurement, SlopeBoxes, Target

__all__ = ["EnergyVolume"]


class EnergyVolume(Target):
    """Energies per atom of a crystal at several volumes, eV.

    Args:
        structure: the crystal; its cell and atoms are scaled together.
        volumes: (n,) A^3 per atom.
        energies: (n,) eV per atom.
        sigma: tolerance, eV per atom.
        relative: take the lowest reference energy, and the candidate's at the same volume, off
            all others, so that the zero of energies does not matter.
        **options: name, group, level, weight; see `Target`.
    """

    def __init__(
        self,
        structure: Atoms,
        volumes: npt.ArrayLike,
        energies: npt.ArrayLike,
        *,
        sigma: npt.ArrayLike = 0.01,
        relative: bool = False,
        **options: Any,
    ) -> None:
        name = options.pop("name", "energy of volume")
        at = np.atleast_1d(np.asarray(volumes, dtype=np.float64))
        reference = np.atleast_1d(np.asarray(energies, dtype=np.float64))
        if at.shape != reference.shape or at.ndim != 1:
            raise InvalidArgument(f"{name}: volumes and energies must be rows of one length")
        if not (np.all(np.isfinite(at)) and np.all(at > 0)):
            raise InvalidArgument(f"{name}: volumes must be positive")
        if not structure.pbc.all():
            raise InvalidArgument(f"{name}: structure must be periodic in all directions")
        self.scales = np.cbrt(at * len(structure) / structure.get_volume())
        self.lowest = int(np.argmin(reference)) if relative else None
        super().__init__(
            name,
            [structure],
            self._zeroed(reference),
            sigma,
            [f"{name} {v:.4g} A^3" for v in at],
            unit="eV/atom",
            **options,
        )

    def measure(self, boxes: Boxes) -> Measurement:
        ones = np.ones((boxes.candidates, 1, 1)) * np.eye(3)
        energies = [boxes.static(0, s * ones).energy for s in self.scales]
        return Measurement(self._zeroed(np.stack(energies, axis=-1) / len(self.structures[0])))

    def slopes(self, boxes: SlopeBoxes, values: Array) -> Array:
        changes: list[Change] = [(s * np.eye(3)[None], None) for s in self.scales]
        found = [slope.energy for slope in boxes.slopes_deformed(0, changes)]
        return self._zeroed(np.stack(found, axis=-1) / len(self.structures[0])).T

    def _zeroed(self, energies: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        return energies if self.lowest is None else energies - energies[..., self.lowest, None]
