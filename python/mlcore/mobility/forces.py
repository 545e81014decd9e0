"""Pair forces that can be learned together with a mobility.

A force is radial, f(r) > 0 repulsive: F_i = sum_j f(r_ij) (x_i - x_j)/r_ij, over nearest images within
the cutoff. Parameters are a flat vector; formulas work on NumPy arrays and torch tensors alike.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from mlcore.arrays import positive
from mlcore.errors import InvalidArgument

__all__ = ["RadialForce", "TabulatedForce", "YukawaForce"]

Array = NDArray[np.float64]


class RadialForce(Protocol):
    """A radial pair force with `size` parameters."""

    cutoff: float

    @property
    def size(self) -> int: ...
    @property
    def start(self) -> Array: ...
    def radial(self, r: Array, parameters: Array) -> Array: ...
    def jacobian(self, r: Array, parameters: Array) -> Array: ...
    def named(self, parameters: Array) -> dict[str, float]: ...


class YukawaForce:
    """Screened Coulomb: energy A exp(-kappa r)/r, f = A exp(-kappa r) (1 + kappa r)/r^2.

    Args:
        amplitude: start value of A, energy times length.
        kappa: start value of kappa, inverse length.
        cutoff: no force beyond.

    The parameters are log A and log kappa.
    """

    def __init__(self, amplitude: float, kappa: float, cutoff: float) -> None:
        self._start = np.log([positive("amplitude", amplitude), positive("kappa", kappa)])
        self.cutoff = positive("cutoff", cutoff)

    @property
    def size(self) -> int:
        """Two: log A and log kappa."""
        return 2

    @property
    def start(self) -> Array:
        """Start values."""
        return np.asarray(self._start)

    def radial(self, r: Any, parameters: Any) -> Any:
        """f(r)."""
        exp = np.exp if isinstance(r, np.ndarray) else type(r).exp
        amplitude, kappa = exp(parameters[0:1]), exp(parameters[1:2])
        return amplitude * exp(-kappa * r) * (1 + kappa * r) / r**2

    def jacobian(self, r: Array, parameters: Array) -> Array:
        """(r, 2) derivatives of f by log A and log kappa."""
        amplitude, kappa = np.exp(parameters)
        slope = -amplitude * kappa**2 * np.exp(-kappa * r)
        return np.stack([self.radial(r, parameters), slope], -1)

    def named(self, parameters: Array) -> dict[str, float]:
        """A and kappa."""
        amplitude, kappa = np.exp(parameters)
        return {"amplitude": float(amplitude), "kappa": float(kappa)}


class TabulatedForce:
    """Piecewise linear f(r) on uniform knots from `start_distance` to the cutoff, zero there.

    Args:
        first: distance of the first knot; f is constant below it.
        cutoff: end of the table.
        knots: number of free values.
    """

    def __init__(self, first: float, cutoff: float, knots: int = 12) -> None:
        self.cutoff = positive("cutoff", cutoff)
        if not 0 <= first < cutoff:
            raise InvalidArgument(f"first must lie between 0 and the cutoff, not {first!r}")
        if not 1 <= knots <= 512:
            raise InvalidArgument(f"knots must be between 1 and 512, not {knots}")
        self.first = float(first)
        self.knots = int(knots)

    @property
    def size(self) -> int:
        """Number of free values."""
        return self.knots

    @property
    def start(self) -> Array:
        """No force."""
        return np.zeros(self.knots)

    def jacobian(self, r: Array, parameters: Array) -> Array:
        """(r, knots) hat functions."""
        place = (r - self.first) / (self.cutoff - self.first) * self.knots
        place = np.clip(place, 0.0, self.knots)
        hats = 1 - np.abs(place[..., None] - np.arange(self.knots))
        clipped: Array = np.clip(hats, 0.0, None)
        return clipped

    def radial(self, r: Any, parameters: Any) -> Any:
        """f(r)."""
        if isinstance(r, np.ndarray):
            return self.jacobian(r, parameters) @ parameters
        hats = self.jacobian(r.detach().numpy(), np.zeros(0))
        return r.new_tensor(hats) @ parameters

    def named(self, parameters: Array) -> dict[str, float]:
        """Value at every knot, by distance."""
        r = np.linspace(self.first, self.cutoff, self.knots + 1)[:-1]
        return {f"f({x:.4g})": float(v) for x, v in zip(r, parameters, strict=True)}
