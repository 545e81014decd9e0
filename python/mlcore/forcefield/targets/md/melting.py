"""Melting temperature, by crystal and liquid side by side."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from ase import Atoms

from mlcore.errors import InvalidArgument
from mlcore.forcefield.targets.face import Array, Boxes, Measurement
from mlcore.forcefield.targets.md.averages import block_error, pooled
from mlcore.forcefield.targets.md.sampled import Dynamics
from mlcore.forcefield.targets.md.simulation import (
    Exploded,
    Live,
    Simulation,
    fixed,
    hottest,
    live,
)

__all__ = ["Melting"]

_QUARTERS = 4
# of the latent heat of half the box: what has gone this far will go on
_DECIDED = 0.4


@dataclass(frozen=True)
class _Trial:
    """What a temperature did to the interface: growth of the energy, eV/(ps atom), its error."""

    temperature: float
    rate: float
    error: float


@dataclass(frozen=True)
class _Half:
    """Crystal below, liquid above, and what melting half the box has cost, eV per atom."""

    positions: Array
    cell: Array
    latent: float


class Melting(Dynamics):
    """Temperature at which crystal and liquid keep each other, K.

    Half of the crystal is melted by heat, the other half held. From this start the box is run at
    the middle of ``between``: where its energy grows the crystal melts, where it falls the crystal
    grows; the interval is halved ``halvings`` times. The value is where a line through the rates
    of all of them vanishes, its error that of the line, and at least what is left of the interval
    over the root of 12. (Two phases side by side: J. Morris et al., Phys. Rev. B 49, 3109 (1994).)

    The rate is that of moving interfaces: steps that are too few for them to move make it noise.
    Interfaces of water move by some A in 100 ps, those of simple metals in 1 ps.

    Args:
        structure: the crystal, periodic, well longer along its third vector (z).
        temperature: reference, K.
        between: lowest and highest temperature; by default 25 percent around the reference. What
            melts below or freezes above has the end as its value, and a note.
        halvings: of this interval.
        hot: temperature at which the half is melted, in references; it has no room to expand in.
        sigma: tolerance, K.
        simulation: how it is run: ``steps`` at most at each temperature, ``equilibrate`` for the
            crystal, for the heat, and again for the two together. Ensemble ``npt``.
        supercell: how often the structure is repeated.
        **options: name, group, level, weight; see `Target`.

    Raises:
        InvalidArgument: another ensemble, ends in the wrong order, no halvings.
    """

    def __init__(
        self,
        structure: Atoms,
        temperature: float,
        *,
        between: tuple[float, float] | None = None,
        halvings: int = 4,
        hot: float = 4.0,
        sigma: float = 5.0,
        simulation: Simulation | None = None,
        supercell: tuple[int, int, int] = (1, 1, 1),
        **options: Any,
    ) -> None:
        name = options.pop("name", f"melting of {structure.info.get('name', 'structure')}")
        low, high = between or (0.75 * temperature, 1.25 * temperature)
        if not 0 < low < high:
            raise InvalidArgument(
                f"{name}: between must be two growing temperatures, {low}, {high}"
            )
        if halvings < 1 or not hot > 1:
            raise InvalidArgument(f"{name}: needs halvings of at least 1 and hot above 1")
        self.between, self.halvings, self.hot = (float(low), float(high)), halvings, hot
        simulation = simulation or Simulation(cell="aniso", barostat=200.0)
        if simulation.ensemble != "npt" or simulation.pressure is None:
            raise InvalidArgument(f"{name}: needs ensemble npt, got {simulation.ensemble}")
        super().__init__(
            name, structure, [temperature], simulation, [temperature], sigma, [name], unit="K",
            supercell=supercell, **options,
        )  # fmt: skip
        self.simulation.check_cost(len(self.structures[0]), halvings + 3)

    def measure(self, boxes: Boxes) -> Measurement:
        first = self.simulation.seed
        try:
            found = [
                self._once(boxes, seed) for seed in range(first, first + self.simulation.repeats)
            ]
        except Exploded as error:
            return Measurement(np.full((1, 1), np.nan), np.full((1, 1), np.nan), (str(error),))
        value, error_of = pooled([(t, error) for t, error, _ in found])
        notes = sorted({note for *_, note in found if note})
        return Measurement(value.reshape(1, 1), error_of.reshape(1, 1), ("; ".join(notes),))

    def _once(self, boxes: Boxes, seed: int) -> tuple[float, float, str]:
        with live(boxes, 0, self.simulation) as at_work:
            start = self._halved(at_work, seed)
            low, high = self.between
            tried: list[_Trial] = []
            for _ in range(self.halvings):
                trial = self._trial(at_work, start, (low + high) / 2, seed)
                tried.append(trial)
                low, high = (
                    (low, trial.temperature) if trial.rate > 0 else (trial.temperature, high)
                )
        return self._between(tried, low, high)

    def _between(
        self, tried: Sequence[_Trial], low: float, high: float
    ) -> tuple[float, float, str]:
        """Where the rate vanishes."""
        least = (high - low) / math.sqrt(12)
        if all(trial.rate <= 0 for trial in tried):
            return high, least, f"did not melt below {high:g} K"
        if all(trial.rate > 0 for trial in tried):
            return low, least, f"melted above {low:g} K"
        middle, error = _root(tried)
        if not self.between[0] <= middle <= self.between[1]:
            return (low + high) / 2, (self.between[1] - self.between[0]) / math.sqrt(12), ""
        return middle, max(error, least), ""

    def _halved(self, at_work: Live, seed: int) -> _Half:
        """Crystal below, liquid above."""
        temperature, simulation = self.temperatures[0], self.simulation
        at_work.warm(temperature, seed)
        with fixed(at_work, at_work.motion("npt", temperature)):
            energies = self._energies(at_work, simulation.equilibrate, hottest(temperature))
        solid = float(np.mean(energies[len(energies) // 2 :]))
        middle = float(at_work.lmp.extract_box()[0][2] + at_work.cell()[2, 2] / 2)
        at_work.command(f"region upper block INF INF INF INF {middle!r} INF units box")
        at_work.command("group upper region upper")
        heat = self.hot * temperature
        at_work.command("velocity all set 0.0 0.0 0.0")
        at_work.command(f"velocity upper create {heat!r} {seed} mom yes dist gaussian loop all")
        with fixed(at_work, at_work.motion("nvt", heat), group="upper"):
            at_work.pass_time(simulation.equilibrate, hottest(heat))
        at_work.warm(temperature, seed)
        with fixed(at_work, at_work.motion("npt", temperature)):
            energies = self._energies(at_work, simulation.equilibrate, hottest(temperature))
        latent = float(np.mean(energies[len(energies) // 2 :])) - solid
        if latent <= 0:
            raise Exploded("the heat melted nothing: both phases have the same energy")
        return _Half(at_work.positions(), at_work.cell(), latent)

    def _trial(self, at_work: Live, start: _Half, temperature: float, seed: int) -> _Trial:
        at_work.place(start.positions, start.cell)
        simulation, limit = self.simulation, hottest(temperature)
        at_work.warm(temperature, seed)
        with fixed(at_work, at_work.motion("npt", temperature)):
            # energy and volume follow the temperature before the interfaces move
            at_work.pass_time(simulation.steps // 10, limit)
            energies = self._energies(at_work, simulation.steps, limit, start.latent * _DECIDED)
        time = simulation.every * simulation.timestep
        rate = _slope(energies, time)
        parts = [_slope(part, time) for part in np.array_split(energies, _QUARTERS)]
        return _Trial(temperature, rate, float(block_error(parts)))

    def _energies(self, at_work: Live, steps: int, limit: float, enough: float = math.inf) -> Array:
        """Potential energy per atom on the way; ends where it went ``enough`` up or down."""
        found: list[float] = []
        first = 2 * _QUARTERS
        for _ in at_work.run(steps, self.simulation.every, limit):
            found.append(at_work.energy() / at_work.count)
            recent = np.mean(found[-first:])
            if len(found) > 2 * first and abs(recent - np.mean(found[:first])) > enough:
                break
        return np.array(found)


def _root(tried: Sequence[_Trial]) -> tuple[float, float]:
    """Temperature where a line through the rates vanishes, and its error; NaN where none does.

    One interface may go the wrong way by chance near the melting point: what the rates scatter by
    about the line says more of the error than each says of itself.
    """
    kelvin = np.array([trial.temperature for trial in tried])
    rates = np.array([trial.rate for trial in tried])
    off = kelvin - kelvin.mean()
    slope = float(off @ rates / (off @ off))
    if slope <= 0:
        return math.nan, math.nan
    below = float(rates.mean()) / slope
    rest = rates - rates.mean() - slope * off
    own = float(np.mean([trial.error**2 for trial in tried]))
    scatter = float(rest @ rest) / (len(tried) - 2) if len(tried) > 2 else own
    error = math.sqrt(scatter * (1 / len(tried) + below**2 / float(off @ off))) / slope
    return float(kelvin.mean()) - below, error


def _slope(energies: Array, time: float) -> float:
    return float(np.polyfit(np.arange(len(energies)) * time, energies, 1)[0])
