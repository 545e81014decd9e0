"""Whether forces and stress of a potential are the derivatives of its energy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from ase import Atoms

from mlcore.errors import Error, InvalidArgument
from mlcore.forcefield.evaluate import Evaluator
from mlcore.forcefield.forms import Model
from mlcore.forcefield.targets import Boxes, Measurement, Target

__all__ = ["GradientCheck", "check_gradients"]

Array = npt.NDArray[np.float64]
_VOIGT = ((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1))


@dataclass(frozen=True)
class GradientCheck:
    """Forces and stress as told, beside central differences of the energy.

    Attributes:
        forces, force_differences: (k, 3) eV/A, of the atoms looked at.
        stress, stress_differences: (6,) eV/A^3, positive under tension as in ASE; NaN where the
            structure has no volume.
    """

    forces: Array
    force_differences: Array
    stress: Array
    stress_differences: Array

    @property
    def force_error(self) -> float:
        """Largest difference over the largest force."""
        return _relative(self.forces, self.force_differences)

    @property
    def stress_error(self) -> float:
        """Largest difference over the largest component; NaN without a volume."""
        return _relative(self.stress, self.stress_differences)


class _Gradients(Target):
    """Forces and stress, then their differences, as one row of numbers."""

    def __init__(self, structure: Atoms, atoms: Sequence[int], step: float) -> None:
        self.atoms, self.step = tuple(atoms), step
        count = 2 * (3 * len(self.atoms) + 6)
        super().__init__(
            "gradients", [structure], np.zeros(count), 1.0, ["gradients"], np.zeros(count, int)
        )

    def measure(self, boxes: Boxes) -> Measurement:
        structure = self.structures[0]
        rest = boxes.static(0)
        forces = rest.forces[:, list(self.atoms)].reshape(boxes.candidates, -1)
        moved = []
        for atom in self.atoms:
            for axis in range(3):
                shift = np.zeros((boxes.candidates, len(structure), 3))
                shift[:, atom, axis] = self.step
                up = boxes.static(0, displacements=shift).energy
                down = boxes.static(0, displacements=-shift).energy
                moved.append((down - up) / (2 * self.step))
        strained = [np.full(boxes.candidates, np.nan)] * 6
        if structure.pbc.all():
            strained = [self._strained(boxes, i, j) for i, j in _VOIGT]
        return Measurement(
            np.concatenate(
                [forces, rest.stress, np.stack(moved, axis=1), np.stack(strained, axis=1)], axis=1
            )
        )

    def _strained(self, boxes: Boxes, i: int, j: int) -> Array:
        change = np.zeros((3, 3))
        change[i, j] += self.step / 2
        change[j, i] += self.step / 2
        energies = [
            boxes.static(
                0, np.broadcast_to(np.eye(3) + sign * change, (boxes.candidates, 3, 3))
            ).energy
            for sign in (1, -1)
        ]
        volume = self.structures[0].get_volume()
        found: Array = (energies[0] - energies[1]) / (2 * self.step * volume)
        return found


def check_gradients(
    model: Model,
    values: Mapping[str, float],
    structure: Atoms,
    *,
    atoms: Sequence[int] = (0,),
    step: float = 1e-4,
    engine: Literal["auto", "native", "lammps"] = "auto",
) -> GradientCheck:
    """Central differences of the energy over displacements and strains, beside forces and stress.

    A form of one's own, or a potential whose cutoff is not smooth, shows here.

    Args:
        model: the form.
        values: of all its parameters.
        structure: not at rest, or there is nothing to compare.
        atoms: those that are displaced.
        step: A, and strain.
        engine: as of `Evaluator`.

    Raises:
        Error: the values fail.
        InvalidArgument: an atom that is not there.
    """
    if not atoms or not all(0 <= k < len(structure) for k in atoms):
        raise InvalidArgument(f"atoms must be from 0 to {len(structure) - 1}, got {list(atoms)}")
    with Evaluator(model, [_Gradients(structure, atoms, step)], engine=engine) as evaluator:
        found = evaluator([values])[0]
    if found.failed is not None:
        raise Error(found.failed)
    told, differences = np.split(found.values["gradients"], 2)
    return GradientCheck(
        told[:-6].reshape(-1, 3), differences[:-6].reshape(-1, 3), told[-6:], differences[-6:]
    )


def _relative(told: Array, differences: Array) -> float:
    return float(np.abs(told - differences).max() / np.abs(told).max())
