"""Intervals of parameters by profile, and whether intervals hold what they promise."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from mlcore.errors import Error, InvalidArgument
from mlcore.forcefield.parameters import Space
from mlcore.forcefield.uncertainty.ensembles import linear_spread
from mlcore.forcefield.uncertainty.fisher_information import quantile
from mlcore.forcefield.uncertainty.misfit import Fit, Residuals, held, jacobian, local_fit, shifted

__all__ = ["Coverage", "coverage", "profile"]

Array = npt.NDArray[np.float64]


def profile(
    residuals: Residuals,
    space: Space,
    point: npt.ArrayLike,
    name: str,
    *,
    level: float = 0.9,
    scaled: bool = False,
    fit: Fit = local_fit,
    tolerance: float = 1e-3,
) -> tuple[float, float]:
    """Interval of one parameter where fits of all others are not much worse.

    The ends are where the least sum of squares, all other parameters fitted anew, has grown by the
    square of the normal quantile of ``level``; an end at a bound means that the data set none.

    Args:
        residuals: such as a `Misfit`.
        space: the free parameters.
        point: (n,) the fit's result.
        name: of the parameter.
        level: part of fits whose intervals hold the truth.
        scaled: tolerances are scaled so that chi square per degree of freedom is 1.
        fit: residuals and start -> best point, of the other parameters.
        tolerance: of the ends, in ranges of the parameter.

    Raises:
        InvalidArgument: ``name`` is not free.
    """
    if name not in space.names:
        raise InvalidArgument(f"name: {name} is not free; {', '.join(space.names)} are")
    k = space.names.index(name)
    best = np.asarray(point, dtype=np.float64)
    row = residuals(best[None])[0]
    least = float(row @ row)
    rise = quantile(level) ** 2
    if scaled:
        rise *= least / max(len(row) - space.size, 1)
    ends = [_end(residuals, best, k, least + rise, side, fit, tolerance) for side in (0.0, 1.0)]
    free = space.free[name]
    return float(free.value(ends[0])), float(free.value(ends[1]))


@dataclass(frozen=True)
class Coverage:
    """How often intervals of synthetic fits hold the truth.

    Attributes:
        level: part they promise.
        parameters: free parameter -> part of the fits.
        properties: part of fits for each property looked at.
        fits: number of fits.
        failed: number that could not be done, counted in none of the parts.
    """

    level: float
    parameters: dict[str, float]
    properties: tuple[float, ...]
    fits: int
    failed: int

    @property
    def overall(self) -> float:
        """Mean over parameters."""
        return float(np.mean(list(self.parameters.values())))

    @property
    def of_properties(self) -> float:
        """Mean over properties; NaN where none was looked at."""
        return float(np.mean(self.properties)) if self.properties else math.nan

    def record(self) -> Mapping[str, Any]:
        """All of it as JSON can hold it."""
        return {
            "level": self.level,
            "parameters": self.parameters,
            "properties": list(self.properties),
            "fits": self.fits,
            "failed": self.failed,
        }


def coverage(
    residuals: Residuals,
    space: Space,
    truth: npt.ArrayLike,
    *,
    count: int = 50,
    level: float = 0.9,
    properties: Residuals | None = None,
    seed: int = 0,
    fit: Fit = local_fit,
) -> Coverage:
    """Fits noisy data whose truth is known, and counts how often the intervals hold it.

    The data are those of ``truth`` plus normal noise of the size of their tolerances.

    Args:
        residuals: such as a `Misfit`; what its references are does not matter.
        space: the free parameters.
        truth: (n,) in the unit cube.
        count: number of fits.
        level: part the intervals promise; they are the linear ones.
        properties: (m, n) points -> (m, P) of anything else, such as a `Misfit` of other targets.
        seed: of the noise.
        fit: residuals and start -> best point; starts are at the truth.
    """
    true = np.asarray(truth, dtype=np.float64)
    rng = np.random.default_rng(seed)
    there = residuals(true[None])[0]
    told = None if properties is None else properties(true[None])[0]
    z = quantile(level)
    inside: list[npt.NDArray[np.bool_]] = []
    known: list[npt.NDArray[np.bool_]] = []
    failed = 0
    for _ in range(count):
        shift = there + rng.normal(size=len(there))
        try:
            point = fit(shifted(residuals, shift), true)
            slope = jacobian(residuals, point)
            wide: Array = np.asarray(np.linalg.inv(slope.T @ slope), dtype=np.float64)
            if properties is not None and told is not None:
                half = linear_spread(jacobian(properties, point), wide, level)
                known.append(np.abs(properties(point[None])[0] - told) <= half)
        except (Error, np.linalg.LinAlgError):
            failed += 1
            continue
        inside.append(np.abs(point - true) <= z * np.sqrt(np.diag(wide)))
    if not inside:
        raise Error("none of the fits could be done")
    parts = dict(zip(space.names, np.mean(inside, axis=0).tolist(), strict=True))
    of = tuple(np.mean(known, axis=0).tolist()) if known else ()
    return Coverage(level, parts, of, len(inside), failed)


def _end(
    residuals: Residuals, best: Array, k: int, limit: float, side: float, fit: Fit, tolerance: float
) -> float:
    """Where on one side of the best point the profile crosses ``limit``, or the bound."""
    rest = np.delete(best, k)

    def excess(x: float, start: Array) -> tuple[float, Array]:
        others = held(residuals, k, x)
        point = fit(others, start) if len(rest) else rest
        row = others(point[None])[0]
        return float(row @ row) - limit, point

    inside, near = float(best[k]), rest
    step = max(tolerance, 0.01)
    outside = inside
    while True:
        outside = min(max(inside + math.copysign(step, side - 0.5), 0.0), 1.0)
        try:
            over, found = excess(outside, near)
        except Error:
            over, found = math.inf, near
        if over > 0:
            break
        inside, near = outside, found
        if inside == side:
            return side
        step *= 2
    while abs(outside - inside) > tolerance:
        middle = (inside + outside) / 2
        try:
            over, found = excess(middle, near)
        except Error:
            over, found = math.inf, near
        if over > 0:
            outside = middle
        else:
            inside, near = middle, found
    return (inside + outside) / 2
