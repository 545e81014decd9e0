"""How a crystal at rest, and how it answers strain, change with the parameters of a candidate.

The place of rest moves too: d q = (dq/dp + dq/ds ds/dp) dp with the stretch s where the mean stress
vanishes, of which ds/dp = -(dP/dp)/(dP/ds). Derivatives by parameters at one place are exact; those
by the stretch are central differences of numbers that need no search.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import cast

import numpy as np
import numpy.typing as npt

from mlcore.forcefield.targets.elasticity import SHIFT, STRAIN, softening, stress_slopes
from mlcore.forcefield.targets.face import Boxes, Change, SlopeBoxes, Static

__all__ = ["Rest"]

Array = npt.NDArray[np.float64]

# of the stretch: between the error of the differences and rounding, 1e-8 of a slope
STEP = 3e-5


class Rest:
    """A crystal at rest under an equal stretch of all directions.

    Args:
        boxes: with the crystal, under one candidate.
        scale: its stretch at rest.
        k: which structure.

    Attributes:
        count: of its atoms.
        scale_slopes: (Q,) derivatives of the stretch.
    """

    def __init__(self, boxes: SlopeBoxes, scale: float, k: int = 0) -> None:
        self.boxes, self.scale, self.k = boxes, scale, k
        self.count = len(boxes.structures[k])
        (self._here,) = boxes.slopes_deformed(k, [_stretched(scale)])
        down, up = self._pressures(-STEP, STEP)
        pressed = self._here.stress[:3].mean(axis=0)
        self.scale_slopes: Array = -pressed * (2 * STEP * scale) / (up - down)

    def energy(self) -> Array:
        """(Q,) derivatives of the energy of the cell, eV; where nothing presses it is at rest."""
        return self._here.energy

    def bulk(self) -> Array:
        """(Q,) derivatives of the bulk modulus, eV/A^3."""
        ends = [_stretched(self.scale * (1 + x)) for x in (-STRAIN, STRAIN)]
        down, up = (s.stress[:3].mean(axis=0) for s in self.boxes.slopes_deformed(self.k, ends))
        return self._followed((up - down) / (6 * STRAIN), self._bulk)

    def stress_slopes(self, voigt: Sequence[int]) -> list[Array]:
        """(6, Q) derivatives of each d stress / d strain, as `elasticity.stress_slopes`."""
        # linear in the stress, so that derivatives go through as values do
        derived = cast(Boxes, _Derived(self.boxes))
        here = stress_slopes(derived, _cell(self.scale), voigt, self.k)
        whole = self._followed(
            np.stack([slopes.T for slopes in here]),
            lambda s: np.concatenate(stress_slopes(self.boxes, _cell(s), voigt, self.k)),
        )
        return list(whole)

    def softening(self) -> Array:
        """(6, 6, Q) derivatives of `elasticity.softening`, eV/A^3."""
        n, q = self.count, self.boxes.directions
        if n == 1:
            return np.zeros((6, 6, q))
        volume = self.boxes.structures[self.k].get_volume() * self.scale**3
        changes = _shifted(_cell(self.scale), n)
        values = self.boxes.deformed(self.k, changes)
        slopes = self.boxes.slopes_deformed(self.k, changes)
        stiffness = np.stack(
            [
                (down.forces[0] - up.forces[0]).ravel()[3:] / (2 * SHIFT)
                for up, down in zip(values[::2], values[1::2], strict=True)
            ]
        )
        coupling = np.stack(
            [
                (up.stress[0] - down.stress[0]) * volume / (2 * SHIFT)
                for up, down in zip(values[::2], values[1::2], strict=True)
            ]
        )
        pairs = list(zip(slopes[::2], slopes[1::2], strict=True))
        stiffer = np.stack(
            [(d.forces - u.forces).reshape(3 * n, q)[3:] / (2 * SHIFT) for u, d in pairs]
        )
        coupled = np.stack([(u.stress - d.stress) * volume / (2 * SHIFT) for u, d in pairs])
        even = (stiffness + stiffness.T) / 2
        moved = np.linalg.lstsq(even, coupling, rcond=1e-10)[0]
        first = np.einsum("miq,mj->ijq", coupled, moved)
        here = first + np.swapaxes(first, 0, 1)
        here -= np.einsum("mi,mnq,nj->ijq", moved, stiffer, moved)
        return self._followed(here / volume, lambda s: softening(self.boxes, _cell(s), self.k)[0])

    def _followed(self, here: Array, value: Callable[[float], Array]) -> Array:
        """Derivatives at one place, and those by the stretch times its own."""
        s, step = self.scale, self.scale * STEP
        by_scale = (value(s + step) - value(s - step)) / (2 * step)
        found: Array = here + np.asarray(by_scale)[..., None] * self.scale_slopes
        return found

    def _bulk(self, scale: float) -> Array:
        down, up = self._pressures(-STRAIN, STRAIN, scale)
        return np.asarray((up - down) / (6 * STRAIN))

    def _pressures(
        self, low: float, high: float, scale: float | None = None
    ) -> tuple[float, float]:
        """Mean stress after further stretches."""
        at = self.scale if scale is None else scale
        ends = [_stretched(at * (1 + x)) for x in (low, high)]
        down, up = (float(s.stress[0, :3].mean()) for s in self.boxes.deformed(self.k, ends))
        return down, up


class _Derived:
    """Boxes of Q candidates whose stress is the derivative along each of Q directions."""

    def __init__(self, boxes: SlopeBoxes) -> None:
        self._boxes = boxes

    def deformed(self, k: int, changes: Sequence[Change]) -> list[Static]:
        found = self._boxes.slopes_deformed(k, changes)
        return [Static(s.energy, np.moveaxis(s.forces, -1, 0), s.stress.T) for s in found]


def _shifted(rest: Array, n: int) -> list[Change]:
    """Small shifts of all ``n`` atoms but the first, to both sides."""
    moves = np.zeros((3 * (n - 1), 1, n, 3))
    moves[np.arange(len(moves)), 0, 1 + np.arange(len(moves)) // 3, np.arange(len(moves)) % 3] = 1
    return [(rest, sign * SHIFT * move) for move in moves for sign in (1, -1)]


def _cell(scale: float) -> Array:
    return scale * np.eye(3)[None]


def _stretched(scale: float) -> Change:
    return _cell(scale), None
