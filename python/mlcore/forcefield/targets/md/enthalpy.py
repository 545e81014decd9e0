"""Enthalpy and heat capacity of a structure at given temperatures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from ase import Atoms

from mlcore.errors import InvalidArgument
from mlcore.forcefield.targets.face import Array
from mlcore.forcefield.targets.md.averages import mean_error, pooled
from mlcore.forcefield.targets.md.sampled import Runs, Sampled, by_temperature, each
from mlcore.forcefield.targets.md.simulation import KB, Simulation, Trajectory

__all__ = ["Enthalpy", "HeatCapacity"]

# GPa A^3 and J/mol to eV
GPA_A3 = 1 / 160.2176634
JOULES = 96485.33212


class Enthalpy(Sampled):
    """Mean enthalpy per atom, eV: potential energy + 3/2 kT + pressure times volume.

    At constant volume (``nvt``, ``nve``) the energy, without the last part.

    Args:
        structure: a crystal or a liquid, periodic.
        values: temperature (K) -> enthalpy per atom, eV.
        sigma: tolerance, eV per atom.
        simulation: how it is run.
        supercell: how often the structure is repeated.
        **options: name, group, level, weight; see `Target`.
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
        name = options.pop("name", f"enthalpy of {structure.info.get('name', 'structure')}")
        temperatures, wanted = by_temperature(name, values)
        terms = [f"{name} at {t:g} K" for t in temperatures]
        super().__init__(
            name, structure, temperatures, simulation, wanted, sigma, terms, unit="eV/atom",
            supercell=supercell, **options,
        )  # fmt: skip

    def found(self, runs: Sequence[Runs]) -> tuple[Array, Array]:
        return each(runs, lambda run: mean_error(_enthalpy(run)))


class HeatCapacity(Sampled):
    """Heat capacity of a classical system, J/(mol K), for each mole of atoms or beads.

    At constant pressure, or at constant volume where the simulation's ensemble is ``nvt``. It has
    the classical kinetic part, 3/2 R, and none of the quantum effects that matter where measured
    heat capacities of light atoms are compared.

    Args:
        structure: a crystal or a liquid, periodic.
        values: temperature (K) -> heat capacity.
        sigma: tolerance, J/(mol K).
        method: ``difference`` of mean enthalpies at ``step``/2 above and below each temperature;
            ``fluctuations``, the variance of the enthalpy at each temperature / kT^2 (M. Allen,
            D. Tildesley, Computer Simulation of Liquids, 1987, section 2.5), which needs long
            runs.
        step: K, of the difference.
        simulation: how it is run.
        supercell: how often the structure is repeated.
        **options: name, group, level, weight; see `Target`.

    Raises:
        InvalidArgument: an unknown method, a step as large as a temperature, ``nve``.
    """

    def __init__(
        self,
        structure: Atoms,
        values: Mapping[float, float],
        *,
        sigma: npt.ArrayLike = 2.0,
        method: Literal["difference", "fluctuations"] = "difference",
        step: float = 20.0,
        simulation: Simulation | None = None,
        supercell: tuple[int, int, int] = (1, 1, 1),
        **options: Any,
    ) -> None:
        name = options.pop("name", f"heat capacity of {structure.info.get('name', 'structure')}")
        wanted_at, wanted = by_temperature(name, values)
        if method not in ("difference", "fluctuations"):
            raise InvalidArgument(f"{name}: method is difference or fluctuations, got {method!r}")
        if method == "difference" and not 0 < step < 2 * min(wanted_at):
            raise InvalidArgument(f"{name}: step must be from 0 to twice the lowest temperature")
        if simulation is not None and simulation.ensemble == "nve":
            raise InvalidArgument(f"{name}: nve has no temperature; take npt or nvt")
        self.at, self.method, self.step = tuple(wanted_at), method, float(step)
        terms = [f"{name} at {t:g} K" for t in wanted_at]
        super().__init__(
            name, structure, self._visited(), simulation, wanted, sigma, terms,
            unit="J/(mol K)", supercell=supercell, **options,
        )  # fmt: skip

    def found(self, runs: Sequence[Runs]) -> tuple[Array, Array]:
        if self.method == "fluctuations":
            return each(runs, _fluctuations)
        means = {
            repeats[0].temperature: pooled([mean_error(_enthalpy(run)) for run in repeats])
            for repeats in runs
        }
        ends = [(means[t - self.step / 2], means[t + self.step / 2]) for t in self.at]
        scale = JOULES / self.step
        values = [(high[0] - low[0]) * scale for low, high in ends]
        errors = [np.hypot(high[1], low[1]) * scale for low, high in ends]
        return np.array(values), np.array(errors)

    def _visited(self) -> list[float]:
        if self.method == "fluctuations":
            return list(self.at)
        return sorted({t + side * self.step / 2 for t in self.at for side in (-1, 1)})


def _enthalpy(run: Trajectory) -> Array:
    """(S,) eV per atom. The mean kinetic energy is known: measured, it would add noise."""
    count = len(run.masses)
    potential = (run.energy + run.pressure * GPA_A3 * run.volume) / count
    return potential + 1.5 * KB * run.temperature


def _fluctuations(run: Trajectory) -> tuple[float, float]:
    count = len(run.masses)
    kinetic = 1.5 * (count - 1) * KB * run.kelvin
    whole = run.energy + kinetic + run.pressure * GPA_A3 * run.volume
    variance, error = mean_error((whole - whole.mean()) ** 2)
    scale = JOULES / (KB * run.temperature**2 * count)
    return variance * scale, error * scale
