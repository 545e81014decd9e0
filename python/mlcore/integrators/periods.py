"""Periods and shapes of one-dimensional orbits from densely sampled positions.

A bound orbit of an autonomous system in one dimension passes any position between its turning points
twice in a period, once in either direction. A symplectic integrator of fixed step follows a nearby
such system but for terms beyond all orders of the step (E. Hairer, C. Lubich and G. Wanner,
Geometric Numerical Integration, 2006, ch. IX), so its frames lie on a smooth periodic curve, too.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["Orbit", "crossings", "interpolated", "orbit_of"]

Array = npt.NDArray[np.float64]
ORDER = 16  # points of local interpolation
_NODES = np.arange(ORDER)
# Barycentric weights of equidistant nodes.
_WEIGHTS = np.array([(-1.0) ** k for k in _NODES]) * np.array(
    [float(np.prod([(ORDER - 1 - i) / (i + 1) for i in range(k)])) for k in _NODES]
)


@dataclass(frozen=True, eq=False)
class Orbit:
    """A periodic orbit, symmetric in time about its outer turning point at phase 0.

    Attributes:
        frequency: angular, per unit of time.
        phase: of the first frame.
        coefficients: (K,), position = sum_k coefficients[k] cos(k phase).
        noise: largest difference between the frames and that sum.
        periods: how many were seen.
    """

    frequency: float
    phase: float
    coefficients: Array
    noise: float
    periods: int


def interpolated(x: Array, at: Array) -> Array:
    """Values between frames x (T,) at places `at`, in frames, by polynomials of ORDER points."""
    first = np.clip(np.floor(at).astype(np.int64) - ORDER // 2 + 1, 0, len(x) - ORDER)
    values = x[first[:, None] + _NODES]
    apart = (at - first)[:, None] - _NODES
    exact = apart == 0
    terms = _WEIGHTS / np.where(exact, 1.0, apart)
    result = (terms * values).sum(1) / terms.sum(1)
    hit = exact.any(1)
    result[hit] = values[exact]
    return np.asarray(result)


def crossings(x: Array, level: float, upward: bool) -> Array:
    """Places, in frames, where x (T,) passes a level in one direction."""
    above = x >= level
    steps = np.flatnonzero(above[1:] & ~above[:-1] if upward else above[:-1] & ~above[1:])
    before: Array = steps.astype(np.float64)
    place = before + 0.5
    value_before = x[steps] - level
    for _ in range(12):  # secant steps: frames are close, so the first one is near already
        value = interpolated(x, place) - level
        with np.errstate(divide="ignore", invalid="ignore"):
            moved = place - value * (place - before) / (value - value_before)
        moved = np.clip(np.where(np.isfinite(moved), moved, place), steps, steps + 1)
        if (np.abs(moved - place) <= 4 * np.finfo(float).eps * np.maximum(place, 1)).all():
            return np.asarray(moved)
        before, value_before, place = place, value, np.asarray(moved)
    return np.asarray(place)


def orbit_of(x: Array, interval: float, harmonics: int) -> Orbit | None:
    """The orbit of frames x (T,); None where they do not hold one whole period."""
    level = 0.5 * (x.min() + x.max())
    up, down = crossings(x, level, True), crossings(x, level, False)
    if len(up) + len(down) < 4 or min(len(up), len(down)) < 2:
        return None
    spans = [(places[-1] - places[0], len(places) - 1) for places in (up, down)]
    length = sum(s for s, _ in spans) / sum(k for _, k in spans)
    # The upper turning point lies half-way between passing up and passing down.
    later = down[down > up[0]]
    top = 0.5 * (up[0] + later[0])
    size = 2 * harmonics
    places = top + length * np.arange(size) / size
    last = len(x) - 1
    places -= length * np.maximum(0, np.ceil((places - last) / length))
    if places.min() < 0:
        return None
    samples = interpolated(x, places)
    even = 0.5 * (samples + np.roll(samples[::-1], 1))
    spectrum = np.fft.rfft(even).real / size
    coefficients = np.concatenate([spectrum[:1], 2 * spectrum[1:harmonics]])
    checked = np.linspace(0, last, 257)
    phases = 2 * np.pi * (checked - top) / length
    model = np.polynomial.chebyshev.chebval(np.cos(phases), coefficients)
    noise = float(np.abs(model - interpolated(x, checked)).max())
    frequency = 2 * np.pi / (length * interval)
    return Orbit(frequency, -2 * np.pi * top / length, coefficients, noise, int(last / length))
