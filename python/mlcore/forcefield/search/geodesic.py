"""Levenberg-Marquardt with geodesic acceleration, within the unit cube.

Fits of potentials are sloppy: their valleys are long, narrow and bent, and a trust region of
straight steps creeps along them. The second derivative along a step costs one evaluation more and
bends it with the valley. On the reference fits of silicon that takes between two thirds and less
than a third of the evaluations of scipy's trust region (docs/forcefield/search.md).
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import numpy.typing as npt
from pydantic import Field

from mlcore.forcefield.score import Score
from mlcore.forcefield.search.face import ASKED, Derivatives, Jacobian, Points, Strategy, inside

__all__ = ["geodesic"]

Mask = npt.NDArray[np.bool_]
# of the step, over which the second derivative along it is taken
PROBE = 0.1


def geodesic(
    size: int,
    *,
    start: Points | None = None,
    jacobian: Jacobian | None = None,
    damping: Annotated[float, Field(gt=0, description="at first; less takes bolder steps")] = 0.1,
    acceleration: Annotated[
        float,
        Field(ge=0, description="largest part of a step that may be acceleration; 0 does without"),
    ] = 0.5,
    step: Annotated[
        float, Field(gt=0, lt=0.1, description="of finite differences, in edges of the cube")
    ] = 1e-7,
    ftol: Annotated[float, Field(ge=0, description="relative change of the total")] = 1e-13,
    xtol: Annotated[float, Field(ge=0, description="step in the cube")] = 1e-12,
) -> Strategy:
    """Least squares for sloppy models: damped Gauss-Newton steps that bend with the valley.

    M. Transtrum and J. Sethna, arXiv:1201.5885; damping by H. B. Nielsen, IMM-REP-1999-05. Bounds:
    coordinates whose step leaves the cube stop at its face, the others are solved for again. The
    columns of a jacobian by finite differences are asked for in one batch; with a `jacobian` of
    the caller's a step costs two evaluations, with one that scores tell two and what that costs. A
    start that fails ends the search.
    """
    point = np.full(size, 0.5) if start is None else np.array(start, dtype=np.float64)
    residuals = _of((yield point[None])[0])
    scale, weight, growth, idle = np.zeros(size), damping, 2.0, 0
    slope: Points | None = None
    while residuals is not None and idle < 2 and weight < 1e12:
        if slope is None:
            slope = yield from _slope(point, residuals, step, jacobian)
            scale = np.maximum(scale, np.linalg.norm(slope, axis=0))
        here = _Here(point, residuals, slope, np.where(scale > 0, scale, 1.0), weight)
        move, free = here.move()
        gain = here.predicted(move)
        if np.abs(move).max() <= xtol or 0 <= gain <= 1e-16 * here.total:
            return
        if acceleration > 0 and free.any():
            ahead = _of((yield inside(point + PROBE * move))[0])
            move = move if ahead is None else here.bent(move, free, ahead, acceleration)
        there = inside(point + move)
        found = _of((yield there)[0])
        fall = -np.inf if found is None else here.total - float(found @ found)
        if found is None or not fall > 1e-4 * abs(gain):
            weight, growth = weight * growth, 2 * growth
            continue
        idle = idle + 1 if fall <= ftol * here.total else 0
        weight = max(1e-15, weight * max(1 / 3, 1 - (2 * fall / gain - 1) ** 3 if gain > 0 else 1))
        point, residuals, slope, growth = there[0], found, None, 2.0


@dataclass(frozen=True)
class _Here:
    """The linear model about a point, damped.

    Attributes:
        point: (n,).
        residuals: (R,) at the point.
        slope: (R, n) their derivatives.
        scale: (n,) by which steps are measured.
        weight: of the damping.
    """

    point: Points
    residuals: Points
    slope: Points
    scale: Points
    weight: float

    @property
    def total(self) -> float:
        return float(self.residuals @ self.residuals)

    def move(self) -> tuple[Points, Mask]:
        """(n,) step that stays in the cube, and which coordinates it left free."""
        downhill = -self.slope.T @ self.residuals
        free = ~(((self.point <= 0) & (downhill < 0)) | ((self.point >= 1) & (downhill > 0)))
        move = np.zeros(len(self.point))
        while free.any():
            wanted = -(self.residuals + self.slope[:, ~free] @ move[~free])
            move[free] = self._solved(wanted, free)
            low, high = free & (self.point + move < 0), free & (self.point + move > 1)
            if not (low | high).any():
                break
            move[low], move[high] = -self.point[low], 1 - self.point[high]
            free &= ~(low | high)
        return move, free

    def predicted(self, move: Points) -> float:
        """How much the total falls if the model is right."""
        after = self.residuals + self.slope @ move
        return self.total - float(after @ after)

    def bent(self, move: Points, free: Mask, ahead: Points, most: float) -> Points:
        """The step and half of its acceleration, unless that is too large to be trusted.

        Args:
            ahead: residuals at a `PROBE` of the step.
            most: largest ratio of twice the acceleration to the step.
        """
        second = 2 / PROBE * ((ahead - self.residuals) / PROBE - self.slope @ move)
        bend = np.zeros(len(move))
        bend[free] = 0.5 * self._solved(-second, free)
        size, length = np.linalg.norm(self.scale * bend), np.linalg.norm(self.scale * move)
        return move + bend if 2 * size <= most * length else move

    def _solved(self, wanted: Points, free: Mask) -> Points:
        """Damped least squares of `slope @ step = wanted` over the free coordinates."""
        damping = np.diag(np.sqrt(self.weight) * self.scale[free])
        matrix = np.vstack([self.slope[:, free], damping])
        full = np.concatenate([wanted, np.zeros(int(free.sum()))])
        return np.asarray(np.linalg.lstsq(matrix, full, rcond=None)[0])


def _slope(
    point: Points, residuals: Points, step: float, jacobian: Jacobian | None
) -> Generator[Points | Derivatives, Sequence[Score], Points]:
    """(R, n) derivatives; by differences to the other side where a neighbour fails, else zero."""
    size = len(point)
    if jacobian == ASKED:
        wish = Derivatives.of(point)
        told = wish.told((yield wish))
        if told is not None:
            return told
    elif jacobian is not None:
        given = jacobian(point)
        if given is None or not np.isfinite(given).all():
            return np.zeros((len(residuals), size))
        return np.asarray(given, dtype=np.float64)
    forward = np.where(point + step <= 1, step, -step)
    slope = np.zeros((len(residuals), size))
    missing = np.arange(size)
    for steps in (forward, -forward):
        near = inside(point[None] + np.diag(steps)[missing])
        columns = [_of(score) for score in (yield near)]
        for axis, place, column in zip(missing, near, columns, strict=True):
            if column is not None and place[axis] != point[axis]:
                slope[:, axis] = (column - residuals) / (place[axis] - point[axis])
        missing = np.array([k for k, c in zip(missing, columns, strict=True) if c is None], int)
        if not len(missing):
            break
    return slope


def _of(score: Score) -> Points | None:
    """The residuals, None where the candidate fails or violates a constraint."""
    return score.residuals if score.violation <= 0 else None
