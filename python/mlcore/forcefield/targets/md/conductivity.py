"""Thermal conductivity at given temperatures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from ase import Atoms

from mlcore.errors import InvalidArgument
from mlcore.forcefield.targets.face import Array, Boxes, Measurement
from mlcore.forcefield.targets.md.averages import BLOCKS, block_error, pooled
from mlcore.forcefield.targets.md.sampled import Dynamics, by_temperature
from mlcore.forcefield.targets.md.simulation import (
    KB,
    Exploded,
    Live,
    Simulation,
    fixed,
    hottest,
    live,
    settle,
)

__all__ = ["Conductivity"]

# eV/(ps A K) to W/(m K), and g/mol (A/ps)^2 to eV
WATTS = 1602.176634
KINETIC = 1.0364269e-4


@dataclass(frozen=True)
class _Stretch:
    """What a stretch of time gave: heat moved, eV, and (slabs,) temperatures."""

    heat: float
    kelvin: Array


class Conductivity(Dynamics):
    """Thermal conductivity along z, W/(m K), by a heat flux that is imposed.

    Every ``swap`` steps the fastest atom of the lowest slab and the slowest of the middle one
    exchange velocities, which pulls heat through the rest at constant energy; the conductivity is
    flux / gradient of the temperature (F. Mueller-Plathe, J. Chem. Phys. 106, 6082 (1997)). Unlike
    Green and Kubo's integral it needs no heat flux of atoms, which LAMMPS has right for forces of
    two bodies alone. It is that of a box of finite length: phonons go further in most crystals.

    The first half of the sampled steps lets the gradient build up. Of the second half the scatter
    of eight stretches gives the error. Pairs of slabs beside the two that exchange are left out.

    Args:
        structure: a crystal or a liquid, periodic, its third vector along z and well longer than
            the others.
        values: temperature (K) -> conductivity, W/(m K).
        sigma: tolerance, W/(m K).
        slabs: even number of slabs across the box.
        swap: steps between exchanges; fewer, and the gradient is steeper.
        simulation: how it is run; sampled steps are ``nve`` whatever its ensemble.
        supercell: how often the structure is repeated.
        **options: name, group, level, weight; see `Target`.

    Raises:
        InvalidArgument: a cell that leans in z, an odd number of slabs or fewer than 10.
    """

    def __init__(
        self,
        structure: Atoms,
        values: Mapping[float, float],
        *,
        sigma: npt.ArrayLike = 0.1,
        slabs: int = 20,
        swap: int = 50,
        simulation: Simulation | None = None,
        supercell: tuple[int, int, int] = (1, 1, 1),
        **options: Any,
    ) -> None:
        name = options.pop("name", f"conductivity of {structure.info.get('name', 'structure')}")
        temperatures, wanted = by_temperature(name, values)
        if slabs < 10 or slabs % 2:
            raise InvalidArgument(f"{name}: slabs must be even and at least 10, got {slabs}")
        if swap < 1:
            raise InvalidArgument(f"{name}: swap must be at least 1 step, got {swap}")
        if not np.allclose(np.asarray(structure.cell)[[0, 1, 2, 2], [2, 2, 0, 1]], 0, atol=1e-8):
            raise InvalidArgument(f"{name}: the third cell vector must be along z, the others not")
        self.slabs, self.swap = slabs, swap
        terms = [f"{name} at {t:g} K" for t in temperatures]
        super().__init__(
            name, structure, temperatures, simulation, wanted, sigma, terms, unit="W/(m K)",
            supercell=supercell, **options,
        )  # fmt: skip
        if self.simulation.steps < 2 * BLOCKS * self.simulation.every:
            raise InvalidArgument(f"{name}: simulation: steps must be {2 * BLOCKS} every at least")

    def measure(self, boxes: Boxes) -> Measurement:
        first = self.simulation.seed
        try:
            found = [
                pooled(
                    [
                        self._conductivity(boxes, temperature, seed)
                        for seed in range(first, first + self.simulation.repeats)
                    ]
                )
                for temperature in self.temperatures
            ]
        except Exploded as error:
            lost = np.full((1, len(self.reference)), np.nan)
            return Measurement(lost, lost.copy(), (str(error),))
        values, errors = np.array(found).T
        return Measurement(values[None], errors[None])

    def _conductivity(self, boxes: Boxes, temperature: float, seed: int) -> tuple[float, float]:
        with live(boxes, 0, self.simulation) as at_work:
            settle(at_work, temperature, self.simulation, seed, keep=True)
            cell, limit = at_work.cell(), hottest(temperature)
            steps = self.simulation.steps // (2 * BLOCKS)
            words = f"thermal/conductivity {self.swap} z {self.slabs}"
            with fixed(at_work, "nve"), fixed(at_work, words, "swap"):
                at_work.pass_time(steps * BLOCKS, limit)
                parts = [self._stretch(at_work, steps, limit) for _ in range(BLOCKS)]
        per = 2 * abs(cell[0, 0] * cell[1, 1]) * steps * self.simulation.timestep
        flux = np.array([part.heat for part in parts]) / per
        width = cell[2, 2] / self.slabs
        gradient = np.array([self._gradient(part.kelvin) for part in parts]) / width
        if gradient.mean() <= 0 or flux.mean() <= 0:
            raise Exploded("heat went nowhere: the exchange of velocities made no gradient")
        value = float(flux.mean() / gradient.mean())
        # of a ratio of means, to first order
        off = (flux - value * gradient) / gradient.mean()
        return value * WATTS, float(block_error(off)) * WATTS

    def _stretch(self, at_work: Live, steps: int, limit: float) -> _Stretch:
        before = _exchanged(at_work)
        energy, count = np.zeros(self.slabs), np.zeros(self.slabs)
        masses, height = at_work.masses(), at_work.cell()[2, 2]
        low = at_work.lmp.extract_box()[0][2]
        for _ in at_work.run(steps, self.simulation.every, limit):
            z = (at_work.atoms("x")[:, 2] - low) / height
            slab = np.floor((z - np.floor(z)) * self.slabs).astype(np.int64) % self.slabs
            kinetic = 0.5 * KINETIC * masses * np.sum(at_work.velocities() ** 2, axis=1)
            energy += np.bincount(slab, weights=kinetic, minlength=self.slabs)
            count += np.bincount(slab, minlength=self.slabs)
        with np.errstate(all="ignore"):
            return _Stretch(_exchanged(at_work) - before, energy / (1.5 * KB * count))

    def _gradient(self, kelvin: Array) -> float:
        """K per slab from the cold slab to the hot one, of both ways; NaN where a slab is empty."""
        half = self.slabs // 2
        up = kelvin[: half + 1]
        down = np.concatenate([kelvin[half:], kelvin[:1]])[::-1]
        inside = slice(2, half - 1)
        x = np.arange(half + 1)[inside]
        return float(np.polyfit(x, ((up + down) / 2)[inside], 1)[0])


def _exchanged(at_work: Live) -> float:
    return at_work.electronvolt(at_work.lmp.extract_fix("swap", 0, 0))
