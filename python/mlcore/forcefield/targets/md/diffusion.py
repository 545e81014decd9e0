"""Self diffusion at given temperatures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from ase import Atoms

from mlcore.errors import InvalidArgument
from mlcore.forcefield.targets.face import Array
from mlcore.forcefield.targets.md.averages import BLOCKS, block_error
from mlcore.forcefield.targets.md.distributions import chosen
from mlcore.forcefield.targets.md.sampled import Runs, Sampled, by_temperature, each
from mlcore.forcefield.targets.md.simulation import KB, Simulation, Trajectory

__all__ = ["Diffusion", "mean_square_displacement"]

# A^2/ps to 1e-5 cm^2/s
UNIT = 10.0
# of a simple cubic lattice of images
LATTICE = 2.837297
# eV/(A^3) ps to mPa s
MILLIPASCAL_SECONDS = 160.2176634


class Diffusion(Sampled):
    """Self-diffusion coefficient, 1e-5 cm^2/s: slope of the mean square displacement / 6.

    The run is cut into eight stretches; each gives a slope between lags of a tenth and a half of
    its length, and their scatter the error. A periodic box of length L slows diffusion down: where
    ``viscosity`` is given, 2.837297 kT/(6 pi viscosity L) is added (I.-C. Yeh, G. Hummer, J. Phys.
    Chem. B 108, 15873 (2004), equation 12); otherwise the value is that of the box.

    Args:
        structure: a liquid, periodic.
        values: temperature (K) -> diffusion coefficient, 1e-5 cm^2/s.
        sigma: tolerance, 1e-5 cm^2/s.
        species: whose; all atoms where left out.
        viscosity: mPa s.
        simulation: how it is run; its ensemble must be ``nvt`` or ``nve``, by default ``nvt`` at
            the mean volume at pressure 0.
        supercell: how often the structure is repeated.
        **options: name, group, level, weight; see `Target`.

    Raises:
        InvalidArgument: ``npt``, whose barostat moves atoms, too few frames, a species that is not
            there.
    """

    def __init__(
        self,
        structure: Atoms,
        values: Mapping[float, float],
        *,
        sigma: npt.ArrayLike = 0.5,
        species: str | None = None,
        viscosity: float | None = None,
        simulation: Simulation | None = None,
        supercell: tuple[int, int, int] = (1, 1, 1),
        **options: Any,
    ) -> None:
        name = options.pop("name", f"diffusion in {structure.info.get('name', 'structure')}")
        temperatures, wanted = by_temperature(name, values)
        simulation = simulation or Simulation(ensemble="nvt")
        if simulation.ensemble == "npt":
            raise InvalidArgument(f"{name}: needs ensemble nvt or nve: a barostat moves atoms")
        frames = simulation.steps // (simulation.every * simulation.frames)
        if frames < 10 * BLOCKS:
            raise InvalidArgument(
                f"{name}: needs {10 * BLOCKS} frames, simulation gives {frames}; "
                "make steps longer, or every or frames smaller"
            )
        if viscosity is not None and not viscosity > 0:
            raise InvalidArgument(f"{name}: viscosity must be positive, got {viscosity}")
        self.viscosity = viscosity
        terms = [f"{name} at {t:g} K" for t in temperatures]
        super().__init__(
            name, structure, temperatures, simulation, wanted, sigma, terms,
            unit="1e-5 cm^2/s", supercell=supercell, **options,
        )  # fmt: skip
        self._chosen = chosen(name, self.structures[0], species)

    def found(self, runs: Sequence[Runs]) -> tuple[Array, Array]:
        return each(runs, self._diffusion)

    def _diffusion(self, run: Trajectory) -> tuple[float, float]:
        moved = run.positions - np.average(run.positions, axis=1, weights=run.masses)[:, None]
        length = len(moved) // BLOCKS
        slopes = [
            _slope(moved[b * length : (b + 1) * length, self._chosen], run.frame_time)
            for b in range(BLOCKS)
        ]
        value = float(np.mean(slopes)) / 6 + self._slowed(run)
        return value * UNIT, float(block_error(slopes)) / 6 * UNIT

    def _slowed(self, run: Trajectory) -> float:
        """What the periodic box takes off, A^2/ps."""
        if self.viscosity is None:
            return 0.0
        side = abs(float(np.linalg.det(run.cells[0]))) ** (1 / 3)
        thickness = self.viscosity / MILLIPASCAL_SECONDS
        return float(LATTICE * KB * run.temperature / (6 * np.pi * thickness * side))


def mean_square_displacement(positions: Array, lags: Sequence[int]) -> Array:
    """Mean over atoms and all starting times, (L,) A^2, of (F, n, 3) positions."""
    return np.array(
        [np.mean(np.sum((positions[lag:] - positions[:-lag]) ** 2, axis=-1)) for lag in lags]
    )


def _slope(positions: Array, time: float) -> float:
    """A^2/ps."""
    count = len(positions)
    lags = np.arange(max(1, count // 10), max(3, count // 2 + 1))
    return float(np.polyfit(lags * time, mean_square_displacement(positions, lags.tolist()), 1)[0])
