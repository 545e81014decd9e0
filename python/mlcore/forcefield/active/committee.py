"""What several candidates say of structures, and where they disagree."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from ase import Atoms

from mlcore.errors import Error, InvalidArgument
from mlcore.forcefield.evaluate import Evaluator
from mlcore.forcefield.forms import Model
from mlcore.forcefield.targets import Energies, Forces

__all__ = ["Predictions", "disagreement", "predict"]

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Predictions:
    """Energies and forces of S structures under C candidates.

    Attributes:
        energies: (C, S) eV per atom.
        forces: for each structure (C, n, 3) eV/A.
    """

    energies: Array
    forces: tuple[Array, ...]


class Predictor:
    """Holds structures under a form, to be asked of candidates again and again.

    Args:
        model: the form.
        structures: labels are not needed.
    """

    def __init__(self, model: Model, structures: Sequence[Atoms]) -> None:
        names = [str(k) for k in range(len(structures))]
        zeros = [np.zeros((len(atoms), 3)) for atoms in structures]
        self._sizes = [len(atoms) for atoms in structures]
        self._evaluator = Evaluator(
            model,
            [
                Energies(structures, np.zeros(len(structures)), names=names, name="e"),
                Forces(structures, zeros, names=[f"f{name}" for name in names], name="f"),
            ],
        )

    def close(self) -> None:
        """Ends what evaluates."""
        self._evaluator.close()

    def rows(self, candidates: Sequence[Mapping[str, float]]) -> tuple[Array, Array]:
        """(C, S) energies per atom and (C, 3 N) forces of all atoms; NaN where a candidate fails."""
        energies = np.full((len(candidates), len(self._sizes)), np.nan)
        forces = np.full((len(candidates), 3 * sum(self._sizes)), np.nan)
        for c, found in enumerate(self._evaluator(list(candidates))):
            if found.failed is None:
                energies[c], forces[c] = found.values["e"], found.values["f"]
        return energies, forces

    def __call__(self, candidates: Sequence[Mapping[str, float]]) -> Predictions:
        """Of those candidates that do not fail.

        Raises:
            Error: all of them fail.
        """
        energies, forces = self.rows(candidates)
        good = np.isfinite(energies).all(axis=1) & np.isfinite(forces).all(axis=1)
        if not good.any():
            raise Error("no candidate could say anything of the structures")
        parts = np.split(forces[good], 3 * np.cumsum(self._sizes)[:-1], axis=1)
        count = int(good.sum())
        return Predictions(energies[good], tuple(p.reshape(count, -1, 3) for p in parts))


def predict(
    model: Model, structures: Sequence[Atoms], candidates: Sequence[Mapping[str, float]]
) -> Predictions:
    """Energies and forces of structures under those candidates that do not fail.

    Raises:
        InvalidArgument: no structure or no candidate.
        Error: all candidates fail.
    """
    if not structures or not candidates:
        raise InvalidArgument("structures, candidates: at least one of each is needed")
    predictor = Predictor(model, structures)
    try:
        return predictor(candidates)
    finally:
        predictor.close()


def disagreement(
    predictions: Predictions, sigma_energy: float = 0.02, sigma_force: float = 0.2
) -> Array:
    """(S,) how far the members are apart on each structure, in tolerances.

    The root of the summed squares of the standard deviation of the energy per atom over
    ``sigma_energy`` (eV) and of the root mean square standard deviation of the force components
    over ``sigma_force`` (eV/A).

    Raises:
        InvalidArgument: fewer than two members.
    """
    if len(predictions.energies) < 2:
        raise InvalidArgument("predictions: at least two members are needed to disagree")
    energy = predictions.energies.std(axis=0, ddof=1) / sigma_energy
    force = np.array([np.sqrt(f.var(axis=0, ddof=1).mean()) for f in predictions.forces])
    found: Array = np.hypot(energy, force / sigma_force)
    return found
