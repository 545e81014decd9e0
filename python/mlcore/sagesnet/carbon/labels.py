"""Numbers of a stress curve: where a body yields, how stiff and how tough it is."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mlcore.errors import InvalidArgument

__all__ = ["Yield", "first_peak", "modulus", "seed_noise", "smooth", "toughness", "yield_point"]

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Yield:
    """Where a body yields.

    Attributes:
        strain: of the length between the grips, a fraction.
        stress: there, GPa.
        fallen: whether the stress fell behind it; without, the curve ended first.
    """

    strain: float
    stress: float
    fallen: bool


def yield_point(
    strain: ArrayLike,
    stress: ArrayLike,
    drop: float = 0.2,
    least: float = 1.5,
    window: float = 0.01,
) -> Yield:
    """The maximum of the stress before it first falls by ``drop`` of it; without a fall the last point,
    however high a swing stood before.

    Args:
        strain, stress: (c,) the curve; strain rises.
        drop: fraction of the maximum so far.
        least: stress that maximum must reach.
        window: strain over which the curve is averaged before.

    Raises:
        InvalidArgument: the curve is empty, not finite, or its strain does not rise.
    """
    x, y = _curve(strain, stress)
    y = smooth(x, y, window)
    highest = np.maximum.accumulate(y)
    fallen = np.flatnonzero((highest >= least) & (y < (1 - drop) * highest))
    top = int(np.argmax(y[: fallen[0]])) if len(fallen) else -1
    return Yield(float(x[top]), float(y[top]), len(fallen) > 0)


def first_peak(strain: ArrayLike, stress: ArrayLike, least: float = 1.5) -> Yield:
    """The first sample above ``least`` that is higher than the one before and the two after it.

    The rule of P. Z. Hanakata et al., Phys. Rev. Lett. 121, 255304 (2018), as their programs have
    it, for comparison: it takes a ripple for the yield. Without any, the last point.
    """
    x, y = _curve(strain, stress)
    for k in range(1, len(y) - 2):
        if y[k] > least and y[k] > y[k - 1] and y[k] > y[k + 1] and y[k] > y[k + 2]:
            return Yield(float(x[k]), float(y[k]), True)
    return Yield(float(x[-1]), float(y[-1]), False)


def smooth(strain: ArrayLike, stress: ArrayLike, window: float) -> Array:
    """Means over ``window`` of strain around every point, over less near the ends."""
    x, y = _curve(strain, stress)
    sums = np.concatenate([[0.0], np.cumsum(y)])
    reach = np.minimum(window / 2, np.minimum(x - x[0], x[-1] - x)) * (1 + 1e-9)
    first = np.searchsorted(x, x - reach, side="left")
    last = np.maximum(np.searchsorted(x, x + reach, side="right"), first + 1)
    return np.asarray((sums[last] - sums[first]) / (last - first))


def modulus(
    strain: ArrayLike, stress: ArrayLike, until: float = 0.03, first: float = 0.0
) -> tuple[float, float]:
    """Slope of the curve at its begin, by a parabola through the points up to ``until``.

    Returns:
        Young's modulus in the unit of the stress, and its standard error.

    Raises:
        InvalidArgument: fewer than four points are there.
    """
    x, y = _curve(strain, stress)
    chosen = (x >= first) & (x <= until)
    if chosen.sum() < 4:
        raise InvalidArgument(f"until: {chosen.sum()} points from {first} to {until}, not four")
    x, y = x[chosen], y[chosen]
    design = np.column_stack([np.ones_like(x), x, x * x])
    found, *_ = np.linalg.lstsq(design, y, rcond=None)
    left = float(((y - design @ found) ** 2).sum()) / max(1, len(x) - 3)
    error = np.sqrt(left * np.linalg.inv(design.T @ design)[1, 1])
    return float(found[1]), float(error)


def toughness(strain: ArrayLike, stress: ArrayLike, until: float) -> float:
    """Area under the curve up to a strain, in the unit of the stress (GPa = GJ/m^3)."""
    x, y = _curve(strain, stress)
    x, y = x[x <= until], y[x <= until]
    return float((np.diff(x) * (y[1:] + y[:-1])).sum() / 2)


def seed_noise(labels: Iterable[tuple[Any, float]]) -> tuple[float, int]:
    """Standard deviation of labels about the mean of their own pattern.

    Args:
        labels: (pattern, label) of every run.

    Returns:
        The deviation pooled over patterns with two runs or more, and its degrees of freedom; nan
        and 0 without any.
    """
    groups: dict[Any, list[float]] = {}
    for pattern, label in labels:
        groups.setdefault(pattern, []).append(label)
    left = sum(float(((np.array(g) - np.mean(g)) ** 2).sum()) for g in groups.values())
    free = sum(len(g) - 1 for g in groups.values())
    return (float(np.sqrt(left / free)) if free else float("nan")), free


def _curve(strain: ArrayLike, stress: ArrayLike) -> tuple[Array, Array]:
    x, y = np.asarray(strain, np.float64), np.asarray(stress, np.float64)
    if x.ndim != 1 or x.shape != y.shape or len(x) == 0:
        raise InvalidArgument(f"strain and stress must be (c,) alike, got {x.shape}, {y.shape}")
    if not (np.isfinite(x).all() and np.isfinite(y).all() and (np.diff(x) > 0).all()):
        raise InvalidArgument("strain and stress must be finite, and the strain must rise")
    return x, y
