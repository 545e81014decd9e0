"""Roll-outs of learned pair kicks by the core, with what a step may need besides.

The core stops a replica before a step in which particles come closer than any that were taught;
such a step is done again as two of half its length, and so on. Between steps velocities may be scaled
to keep the energy of a reference potential, or meet a heat bath.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from mlcore.arrays import integer, positive
from mlcore.errors import InvalidArgument
from mlcore.integrators.pair_kicks import PairKicks
from mlcore.md import Dataset
from mlcore.random import normal
from mlcore.splitting import PairSplitting, SplittingRun

__all__ = ["Propagation", "Thermostat"]

Array = npt.NDArray[np.float64]
Indices = npt.NDArray[np.intp]
_CHUNK_FRAMES = 64


@dataclass(frozen=True)
class Thermostat:
    """Langevin's heat bath: half a step of friction and noise before and after every step.

    v <- exp(-friction h / 2) v + sqrt(kT (1 - exp(-friction h)) / m) xi, exact for free particles.
    Source: G. Bussi and M. Parrinello, Phys. Rev. E 75, 056707 (2007).

    Args:
        kT: > 0, thermal energy.
        friction: > 0, 1 / time.
        seed: of the noise, which depends on seed, run, step and particle alone.
    """

    kT: float
    friction: float
    seed: int = 0

    def __post_init__(self) -> None:
        positive("kT", self.kT)
        positive("friction", self.friction)
        if not 0 <= integer("seed", self.seed) < 2**64:
            raise InvalidArgument(f"seed must lie in 0..2**64-1, got {self.seed}")

    def settings(self) -> dict[str, Any]:
        """Arguments that make it again."""
        return {"kT": self.kT, "friction": self.friction, "seed": self.seed}

    def act(self, v: Array, masses: Array, step: float, runs: Indices, moment: int) -> None:
        """Half a step on velocities (R, n, 3), in place; `moment` numbers the halves."""
        kept = np.exp(-self.friction * step / 2)
        width = np.sqrt(self.kT * (1 - kept * kept) / masses)[..., None]
        tags = np.arange(v.shape[1])
        for row, run in enumerate(runs):
            v[row] = kept * v[row] + width[row] * normal(self.seed, int(run), moment, tags)


class Propagation:
    """Runs of one system and one set of masses, from a window's last frame on.

    Args:
        learned: the kicks.
        window: the runs.
        step: h.
        rescale: whether velocities keep the window's energy, by the reference potential.
        thermostat: or a heat bath.
        halvings: of a step that is not good, at most.
        num_threads: CPU threads.

    Attributes:
        refused: a reason for each run that stands still.
        redone: (R,) steps that were done again in halves.
    """

    def __init__(
        self,
        learned: PairKicks,
        window: Dataset,
        step: float,
        *,
        rescale: bool,
        thermostat: Thermostat | None,
        halvings: int,
        num_threads: int | None,
    ) -> None:
        self.system = window.system_of(0)
        if self.system.parameters.get("wall") not in (None, "specular"):
            raise InvalidArgument("window: a wall that pushes was not learned")
        self.masses = window.masses
        self.step, self.thermostat, self.halvings = step, thermostat, halvings
        self.num_threads = num_threads
        self.x, self.v = window.positions[:, -1].copy(), window.velocities[:, -1].copy()
        self.refused = [""] * len(window)
        self.redone = np.zeros(len(window), np.int64)
        self.done = np.zeros(len(window), np.int64)
        self._names = np.arange(len(window))
        self._learned, self._by_halving = learned, dict[int, PairSplitting]()
        types = self.system.parameters.get("types")
        kinds = np.zeros(len(self.masses[0]), np.intp) if types is None else np.array(types)
        species, self.species = np.unique(
            np.stack([kinds, self.masses[0]]), axis=1, return_inverse=True
        )
        self._types, self._weights = species[0].astype(np.intp), species[1].copy()
        self.energy = self._energies(np.arange(len(window))) if rescale else None

    def run(
        self, n: int, many: int, x: Array, v: Array, runs: Indices,
        report: Callable[[int, int], None],
    ) -> None:  # fmt: skip
        """Fills frames (R', n, ..) of the rows `runs`, `many` steps apart.

        Refused ones stay as they are from the step on that was not good.
        """
        self._names = runs
        single = self.thermostat is not None or self.energy is not None
        at_once = 1 if single else _CHUNK_FRAMES
        for begin in range(0, n, at_once):
            frames = min(at_once, n - begin)
            if single:
                self.steps(many, runs)
                self._write(x, v, runs, begin)
            else:
                self._frames(frames, many, x, v, runs, begin)
            report(begin + frames, n)

    @property
    def _going(self) -> Indices:
        return np.flatnonzero([not why for why in self.refused])

    def _write(self, x: Array, v: Array, runs: Indices, frame: int) -> None:
        for row in self._going:
            x[runs[row], frame], v[runs[row], frame] = self.x[row], self.v[row]

    def _frames(
        self, frames: int, many: int, x: Array, v: Array, runs: Indices, begin: int
    ) -> None:
        """Frames of all runs in one call; those that stopped go on step by step to its end."""
        going = self._going
        if not len(going):
            return
        made = self._call(0, going, frames * many, many)
        for k, row in enumerate(going):
            good = int(made.done[k]) // many
            x[runs[row], begin : begin + good] = made.positions[k, 1 : good + 1]
            v[runs[row], begin : begin + good] = made.velocities[k, 1 : good + 1]
        stopped = made.done < frames * many
        self.x[going], self.v[going] = made.last_positions, made.last_velocities
        for row, done in zip(going[stopped], made.done[stopped], strict=True):
            self._finish(int(row), int(done), frames, many, x, v, int(runs[row]), begin)

    def _finish(
        self, row: int, done: int, frames: int, many: int, x: Array, v: Array, run: int, begin: int
    ) -> None:
        one = np.array([row])
        while done < frames * many and not self.refused[row]:
            self._advance(one, 0)
            done += 1
            if done % many == 0 and not self.refused[row]:
                frame = begin + done // many - 1
                x[run, frame], v[run, frame] = self.x[row], self.v[row]

    def steps(self, many: int, runs: Indices | None = None) -> None:
        """So many steps of all runs with what is done between them; `runs` number them for noise."""
        for _ in range(many):
            self._one_step(np.arange(len(self.refused)) if runs is None else runs)

    def _one_step(self, runs: Indices) -> None:
        going = self._going
        bath = self.thermostat
        if bath is not None:
            self._bathe(bath, going, runs, 0)
        self._advance(going, 0)
        if bath is not None:
            self._bathe(bath, self._going, runs, 1)
        self.done[self._going] += 1

    def _bathe(self, bath: Thermostat, rows: Indices, runs: Indices, half: int) -> None:
        if len(rows):
            v = self.v[rows]
            moment = 2 * int(self.done[rows[0]]) + half
            bath.act(v, self.masses[rows], self.step, runs[rows], moment)
            self.v[rows] = v

    def _advance(self, rows: Indices, halving: int) -> None:
        """One step of step / 2^halving of these rows, halved again where it is not good."""
        if not len(rows):
            return
        x, v = self.x[rows].copy(), self.v[rows].copy()
        made = self._call(halving, rows, 1, 1)
        self.x[rows], self.v[rows] = made.last_positions, made.last_velocities
        bad = (made.done < 1) | ~self._rescaled(rows)
        if not bad.any():
            return
        again = rows[bad]
        self.x[again], self.v[again] = x[bad], v[bad]
        if halving == self.halvings:
            for row, smallest in zip(again, made.closest[bad], strict=True):
                self.refused[row] = (
                    f"run {self._names[row]} has particles {smallest:.4g} apart, closer than any that "
                    "were taught, or too much potential energy, even in steps of "
                    f"{self.step / 2**halving:.3g}"
                )
            return
        if halving == 0:
            self.redone[again] += 1
        for _ in range(2):
            self._advance(np.array([r for r in again if not self.refused[r]], np.intp), halving + 1)

    def _rescaled(self, rows: Indices) -> npt.NDArray[np.bool_]:
        """Scales velocities about their mean to the energy that is kept; which rows allowed it."""
        if self.energy is None:
            return np.ones(len(rows), bool)
        mass = self.masses[rows][..., None]
        potential, _ = self.system.energies_forces(self.x[rows])
        mean = (mass * self.v[rows]).sum(1, keepdims=True) / mass.sum(1, keepdims=True)
        own = self.v[rows] - mean
        kinetic = 0.5 * (mass * own * own).sum((1, 2))
        whole = 0.5 * (mass.sum(1) * mean[:, 0] ** 2).sum(1)
        left = self.energy[rows] - potential - whole
        good = (left > 0) & (kinetic > 0)
        factor = np.sqrt(np.where(good, left, 1) / np.where(good, kinetic, 1))
        self.v[rows] = np.where(
            good[:, None, None], mean + factor[:, None, None] * own, self.v[rows]
        )
        return np.asarray(good)

    def _call(self, halving: int, rows: Indices, steps: int, every: int) -> SplittingRun:
        """Steps of the core; a replica stops before one that is not good."""
        if halving not in self._by_halving:
            learned, step = self._learned, self.step / 2**halving
            tables = learned.tables(step, self._types, self._weights)
            self._by_halving[halving] = PairSplitting(
                step,
                learned.drifts,
                self._weights,
                tables,
                1 / learned.cutoff,
                1 / learned.closest,
            )
        return self._by_halving[halving].run(
            self.x[rows],
            self.v[rows],
            steps=steps,
            every=every,
            species=self.species,
            cell=self.system.cell,
            wall=self.system.parameters.get("radius"),
            num_threads=self.num_threads,
        )

    def _energies(self, rows: Indices) -> Array:
        potential, _ = self.system.energies_forces(self.x[rows])
        kinetic = 0.5 * (self.masses[rows][..., None] * self.v[rows] ** 2).sum((1, 2))
        return np.asarray(potential + kinetic)
