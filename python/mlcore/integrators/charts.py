"""Families of orbits between separatrices, and smooth functions on them.

A chart is a family of bound orbits that pass over the same barriers. On it frequency and shape are
analytic in the energy up to the separatrices that bound it, where the frequency vanishes like
1 / log: variables such as log(E - E_separatrix) take that out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize_scalar

from mlcore.arrays import integer
from mlcore.errors import InvalidArgument
from mlcore.md import System

__all__ = ["Axis", "Basis", "Bounds", "barriers_of", "bounds_of", "starts", "variables"]

Array = npt.NDArray[np.float64]
Function = Callable[[Array], Array]
_GRID = 20_001


@dataclass(frozen=True)
class Bounds:
    """Where a family of orbits begins and ends.

    Attributes:
        name: the barriers its orbits pass over, or those around a well.
        low: energy of the highest of them, or of the well's bottom.
        high: energy of the lowest barrier around, infinite where none is seen.
    """

    name: str
    low: float
    high: float


def potential_of(system: System) -> Function:
    return lambda x: np.asarray(system.energies_forces(np.reshape(x, (-1, 1, 1)))[0])


def barriers_of(system: System, low: float, high: float) -> tuple[Array, Array]:
    """Positions and energies of the local maxima of the potential between two positions."""
    potential = potential_of(system)
    x = np.linspace(low, high, _GRID)
    u = potential(x)
    tops = np.flatnonzero((u[1:-1] > u[:-2]) & (u[1:-1] >= u[2:])) + 1
    places = [
        minimize_scalar(
            lambda y: -float(potential(np.array([y]))[0]),
            bounds=(x[k - 1], x[k + 1]),
            method="bounded",
            options={"xatol": 1e-12},
        ).x
        for k in tops
    ]
    found = np.array(places, dtype=np.float64)
    return found, potential(found) if len(found) else found


def bounds_of(system: System, barriers: tuple[Array, Array], low: float, high: float) -> Bounds:
    """Those of the orbit between two turning points."""
    places, energies = barriers
    inside = (places > low) & (places < high)
    left, right = np.flatnonzero(places <= low)[-1:], np.flatnonzero(places >= high)[:1]
    above = min([np.inf, *energies[left], *energies[right]])
    if inside.any():
        name = "over " + ", ".join(_written(place) for place in places[inside])
        return Bounds(name, float(energies[inside].max()), float(above))
    sides = (_written(places[k[0]]) if len(k) else "-" for k in (left, right))
    return Bounds(f"between {' and '.join(sides)}", bottom_of(system, low, high), float(above))


def _written(place: float) -> str:
    return f"{round(place, 6) + 0.0:g}"


def bottom_of(system: System, low: float, high: float) -> float:
    """Smallest energy between two positions around one well."""
    potential = potential_of(system)
    found = minimize_scalar(
        lambda y: float(potential(np.array([y]))[0]),
        bounds=(low, high),
        method="bounded",
        options={"xatol": 1e-12},
    )
    return float(found.fun)


def variables(bounds: Bounds, energies: Array) -> dict[str, Function]:
    """Functions of the energy that may make frequencies smooth, by name."""
    low, high = bounds.low, bounds.high
    if high == np.inf and (energies < 0).all():
        high = 0.0  # of a potential that vanishes far away
    found: dict[str, Function] = {}
    if energies.min() > low:
        found["log(E - low)"] = lambda e: np.log(e - low)
    if energies.max() < high < np.inf:
        found["log(high - E)"] = lambda e: np.log(high - e)
        if energies.min() > low:
            found["log((E - low) / (high - E))"] = lambda e: np.log((e - low) / (high - e))
    return found | {"E": lambda e: e}


def starts(system: System, first: float, last: float, count: int) -> Array:
    """Positions of rest from which runs teach a family of orbits best: at Chebyshev's nodes.

    Args:
        system: in one dimension.
        first: turning point of the innermost orbit wanted, or the outermost.
        last: turning point of the other one, on the same side.
        count: of runs.

    Returns:
        (count,) positions between the two. The energy's variable is that of `variables` which takes
        out all separatrices.

    Raises:
        InvalidArgument: the two orbits are not of one family, or energies do not rise between them.
    """
    if integer("count", count) < 2:
        raise InvalidArgument(f"count must be at least 2, got {count}")
    potential = potential_of(system)
    x = np.linspace(first, last, _GRID)
    energies = potential(x)
    if not ((np.diff(energies) > 0).all() or (np.diff(energies) < 0).all()):
        raise InvalidArgument(f"energies must rise or fall all the way from {first} to {last}")
    others = [_other_end(system, end) for end in (first, last)]
    reach = (min(first, last, *others), max(first, last, *others))
    barriers = barriers_of(system, *reach)
    family = [
        bounds_of(system, barriers, *sorted(pair))
        for pair in zip((first, last), others, strict=True)
    ]
    if family[0].name != family[1].name:
        raise InvalidArgument(
            f"orbits from {first} and {last} are not of one family: {family[0].name}; {family[1].name}"
        )
    *_, function = [f for name, f in variables(family[0], energies).items() if name != "E"]
    values = function(energies)
    nodes = np.cos(np.pi * (np.arange(count) + 0.5) / count)
    wanted = 0.5 * ((1 - nodes) * values.min() + (1 + nodes) * values.max())
    order = np.argsort(values)
    return np.asarray(np.interp(wanted, values[order], x[order]))


def _other_end(system: System, turning: float) -> float:
    """The turning point opposite to one of rest, but for a thousandth: where the energy is reached."""
    potential = potential_of(system)
    energy, force = potential(np.array([turning]))[0], system.energies_forces([[turning]])[1][0, 0]
    if force == 0:
        raise InvalidArgument(f"nothing moves from {turning}")
    step = np.sign(force) * max(abs(turning), 1.0) * 1e-3
    ahead = turning + step * np.arange(1, 200_001)
    beyond = np.flatnonzero(potential(ahead) >= energy)
    if len(beyond) == 0:
        raise InvalidArgument(f"the orbit from {turning} at rest is not bound")
    return float(ahead[beyond[0]])


@dataclass(frozen=True)
class Axis:
    """One argument of a basis, mapped to [-1, 1].

    Attributes:
        low: smallest value, in terms of the mapped argument.
        high: largest value.
        degree: of its Chebyshev polynomials.
    """

    low: float
    high: float
    degree: int

    @classmethod
    def over(cls, values: Array, degree: int) -> Axis:
        low, high = float(values.min()), float(values.max())
        return cls(low, high, degree if high > low else 0)

    def unit(self, values: Array) -> Array:
        if self.high == self.low:
            return np.zeros_like(values)
        return np.asarray((2 * values - self.low - self.high) / (self.high - self.low))

    def value(self, unit: Array) -> Array:
        return np.asarray(0.5 * ((1 - unit) * self.low + (1 + unit) * self.high))


@dataclass(frozen=True)
class Basis:
    """Products of Chebyshev polynomials of the axes, times powers of the inverse mass.

    Products whose degrees, over those of their axes, add up to 1 at most are in. With a power of the
    mass, a correction for the step, that of the energy counts twice.

    Attributes:
        axes: the first is the energy's variable, the others parameters.
        masses: highest power of 1 / m, scaled by `mass_scale`.
    """

    axes: tuple[Axis, ...]
    masses: int = 0
    mass_scale: float = 1.0

    @cached_property
    def terms(self) -> npt.NDArray[np.intp]:
        """(P, 1 + axes): power of the inverse mass, and degrees."""
        degrees = np.array([axis.degree for axis in self.axes])
        found = np.array(list(np.ndindex(*(degrees + 1))), dtype=np.intp)
        weight = found / np.maximum(degrees, 1)
        parts = []
        for power in range(self.masses + 1):
            chosen = found[weight.sum(1) + (power > 0) * weight[:, 0] <= 1 + 1e-9]
            parts.append(np.column_stack([np.full(len(chosen), power), chosen]))
        return np.concatenate(parts)

    def rows(self, units: Sequence[Array], mass: Array, slope: bool = False) -> Array:
        """(Q, P) values of all products at mapped arguments; of d/d(first unit) with `slope`."""
        result = (self.mass_scale / mass)[:, None] ** self.terms[:, 0]
        for k, (axis, unit) in enumerate(zip(self.axes, units, strict=True)):
            values = np.polynomial.chebyshev.chebvander(unit, axis.degree)
            values = _slopes(values, unit) if slope and k == 0 else values
            result *= values[:, self.terms[:, 1 + k]]
        return np.asarray(result)


def _slopes(values: npt.NDArray[Any], unit: Array) -> Array:
    """d T_n / du from T_n: T'_n = n U_{n-1}, with U from its own recurrence."""
    slopes = np.zeros_like(values)
    before, now = np.zeros_like(unit), np.ones_like(unit)
    for n in range(1, values.shape[1]):
        slopes[:, n] = n * now
        before, now = now, 2 * unit * now - before
    return slopes


@dataclass(frozen=True, eq=False)
class Chart:
    """Frequency and shape of a family of orbits as functions of energy, parameters and mass.

    Attributes:
        bounds: the family.
        variable: name of the energy's variable.
        basis: of both functions.
        frequency: (P,) coefficients of log(frequency sqrt m).
        size: (P,) coefficients of the log of half the distance of the turning points.
        shape: (P, K) coefficients of the Fourier coefficients over that half distance.
        ranges: trained values by name: "mass" and parameters.
        error: largest error of any of them in runs left out of the fit.
    """

    bounds: Bounds
    variable: str
    basis: Basis
    frequency: Array
    size: Array
    shape: Array
    ranges: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    error: float = 0.0
