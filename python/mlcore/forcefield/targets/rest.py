"""Where the pressure of a crystal vanishes: each candidate steps by itself, all are asked at once."""

from __future__ import annotations

import itertools
import math

import numpy as np
import numpy.typing as npt
from ase.units import GPa

from mlcore.forcefield.targets.face import Boxes

__all__ = ["LARGEST", "STRAIN", "rest_scale"]

Array = npt.NDArray[np.float64]

STRAIN = 1e-3
LARGEST = 0.35
# nearer places would tell the noise of sums that are cut off from each other
NOISE = 1e-6
EXACT = 1e-10
# of what follows a line by, in a step nobody looks at the end of
UNSEEN = 1e-11
SHORT = 1e-5
# steps smaller than this follow more than a line
NEAR = 0.02
FARTHEST = 0.03


def rest_scale(boxes: Boxes, k: int = 0, steps: int = 25) -> tuple[Array, Array, Array]:
    """Where the pressure of structure ``k`` vanishes under an equal stretch of all directions.

    Newton's steps on the mean stress by secants, near rest by polynomials through the last four
    places, each candidate by itself.

    Returns:
        (C,) stretch, NaN where there is none within a third; (C,) energy there, eV; (C,) bulk
        modulus there, GPa.
    """
    walks = [_Walk() for _ in range(boxes.candidates)]
    for _ in range(steps + 1):
        places = np.array([[_inside(walk.scale) for walk in walks]])
        energy, stress = (rows[0].tolist() for rows in boxes.stretched(k, places))
        for walk, e, p in zip(walks, energy, stress, strict=True):
            walk.go(e, p)
        if all(walk.done for walk in walks):
            break
    # at the end of the cutoff the pressure vanishes too, but nothing holds the crystal there
    ends = [[_inside(walk.scale * (1 + x)) for walk in walks] for x in (-STRAIN, STRAIN)]
    down, up = boxes.stretched(k, np.array(ends))[1]
    scale = np.array([walk.scale for walk in walks])
    volume = boxes.structures[k].get_volume()
    energy = np.array([walk.energy + walk.work * volume for walk in walks])
    good = np.array([walk.done for walk in walks]) & np.isfinite(energy)
    good &= (np.abs(scale - 1) < LARGEST) & (down < 0) & (up > 0)
    lost = np.where(good, 1.0, np.nan)
    return scale * lost, energy * lost, (up - down) * lost / (6 * STRAIN * GPa)


class _Walk:
    """The steps of one candidate.

    Attributes:
        scale: where to look next, at the end where it is at rest.
        energy: where it looked last, eV.
        work: on the way from there to ``scale``, eV of a cell of 1 A^3.
        done: whether it goes no farther.
    """

    def __init__(self) -> None:
        self.scale, self.energy, self.work = 1.0, math.nan, 0.0
        self.done = False
        self._places: list[tuple[float, float]] = []
        self._slope = self._last = math.nan

    def go(self, energy: float, stress: float) -> None:
        """Takes what was found at `scale`, and goes to the next."""
        if self.done:
            return
        self.energy = energy
        if not math.isfinite(stress):
            self.done, self.scale = True, math.nan
            return
        # of places on top of each other the last
        apart = [place for place in self._places if abs(place[0] - self.scale) >= NOISE]
        self._places = [(self.scale, stress), *apart[:3]]
        step, left = self._step(stress) if apart else (-2e-3 * _sign(stress), math.inf)
        size = abs(step)
        stuck = size < NOISE and size > self._last / 2
        self.done = size < EXACT or stuck or (size < SHORT and left < UNSEEN)
        self._last = size
        if self.done:
            self.work = 1.5 * self.scale**2 * stress * step
        self.scale += step

    def _step(self, stress: float) -> tuple[float, float]:
        """Where to, and more than how far from rest that ends."""
        terms = _inverted(self._places)
        if terms[0] and math.isfinite(terms[0]):
            self._slope = -stress / terms[0]
        # where the stress falls as the crystal is stretched, rest lies the other way
        if not self._slope > 0:
            return -0.02 * _sign(stress), math.inf
        step, more = -stress / self._slope, list[float]()
        if abs(step) < NEAR:
            for before, term in itertools.pairwise(terms):
                if not abs(term) < 0.3 * abs(before):
                    break
                more.append(term)
        step += sum(more)
        return max(-FARTHEST, min(FARTHEST, step)), abs(more[0]) if more else math.inf


def _inverted(places: list[tuple[float, float]]) -> list[float]:
    """Newton's terms of the polynomial of the scale by the stress, at none, from the first place."""
    stress = [p for _, p in places]
    column = [s for s, _ in places]
    terms: list[float] = []
    product = 1.0
    for order in range(1, len(places)):
        apart = [stress[j + order] - stress[j] for j in range(len(column) - 1)]
        if not all(apart):
            return [*terms, math.nan]
        column = [(column[j + 1] - column[j]) / apart[j] for j in range(len(apart))]
        product *= -stress[order - 1]
        terms.append(column[0] * product)
    return terms


def _sign(x: float) -> float:
    return math.copysign(1.0, x) if x else 0.0


def _inside(scale: float) -> float:
    """Candidates that were lost stay somewhere harmless."""
    return scale if abs(scale - 1) < LARGEST else 1 + LARGEST
