"""Density at given temperatures and pressure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy.typing as npt
from ase import Atoms

from mlcore.errors import InvalidArgument
from mlcore.forcefield.targets.face import Array
from mlcore.forcefield.targets.md.averages import mean_error
from mlcore.forcefield.targets.md.sampled import Runs, Sampled, by_temperature, each
from mlcore.forcefield.targets.md.simulation import Simulation, Trajectory

__all__ = ["Density"]

# g/mol and A^3 to g/cm^3
GRAMS = 1 / 0.602214076


class Density(Sampled):
    """Mean density at constant pressure, g/cm^3.

    Args:
        structure: a crystal or a liquid, periodic.
        values: temperature (K) -> density, in the order they are to be visited.
        sigma: tolerance, g/cm^3.
        simulation: how it is run; its ensemble must be ``npt``.
        supercell: how often the structure is repeated.
        **options: name, group, level, weight; see `Target`.

    Raises:
        InvalidArgument: another ensemble, no values, a temperature that is not positive.
    """

    def __init__(
        self,
        structure: Atoms,
        values: Mapping[float, float],
        *,
        sigma: npt.ArrayLike = 0.01,
        simulation: Simulation | None = None,
        supercell: tuple[int, int, int] = (1, 1, 1),
        **options: Any,
    ) -> None:
        name = options.pop("name", f"density of {structure.info.get('name', 'structure')}")
        temperatures, wanted = by_temperature(name, values)
        simulation = simulation or Simulation()
        if simulation.ensemble != "npt":
            raise InvalidArgument(
                f"{name}: a density needs ensemble npt, got {simulation.ensemble}"
            )
        terms = [f"{name} at {t:g} K" for t in temperatures]
        super().__init__(
            name, structure, temperatures, simulation, wanted, sigma, terms, unit="g/cm^3",
            supercell=supercell, **options,
        )  # fmt: skip

    def found(self, runs: Sequence[Runs]) -> tuple[Array, Array]:
        return each(runs, _density)


def _density(run: Trajectory) -> tuple[float, float]:
    volume, error = mean_error(run.volume)
    density = GRAMS * float(run.masses.sum()) / volume
    return density, density * error / volume
