"""Positive-definite pair kernels with compact support, built from spectral shells.

A tensor field R(r) is a positive semi-definite kernel on R^3 when its Fourier transform is a positive
semi-definite matrix at every k (Bochner). One shell |k| = const of transverse or longitudinal plane
waves gives

    T(kr) = <(I - kk) e^{ik.r}>,        L(kr) = <kk e^{ik.r}>      (mean over the directions of k)

and, with spherical Bessel functions of x = kr,

    T_par = 2 j1/x,    T_perp = j0 - j1/x,    L_par = j0 - 2 j1/x,    L_perp = j1/x,

so T(0) = 2/3 I, L(0) = 1/3 I. A window phi that is itself positive definite in three dimensions keeps a
product positive definite (Schur) and ends it at the cutoff. The window is the overlap of two balls of
diameter Rc, phi = (1 - u)^2 (1 + u/2), u = r/Rc: an autocorrelation, hence positive definite, and the
widest of the usual ones (0.43 at u = 0.4, where Wendland's C4 function has 0.25), so a given cutoff is
used best. Value and slope vanish at Rc.
Periodic image sums of such kernels are positive semi-definite too (Poisson summation), so

    R(r) = phi(r/Rc) sum_q [ sT_q T(k_q r) + sL_q L(k_q r) ],    sT, sL >= 0

gives a positive semi-definite matrix for any number of particles, any box and any overlap.

Sources: S. Bochner, Math. Ann. 108 (1933) 378; the window is the spherical variogram model of G.
Matheron, Econ. Geol. 58 (1963) 1246, as a covariance.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["PairValues", "ShellBasis", "ball_overlap"]

Array = NDArray[np.float64]

_SERIES_BELOW = 0.35


@dataclass(frozen=True)
class PairValues:
    """Values and r-derivatives of a set of pair functions; each array has the shape of r + (functions,)."""

    par: Array
    dpar: Array
    perp: Array
    dperp: Array


def _bessel_ratios(x: Array) -> tuple[Array, Array, Array, Array]:
    """j0, j1/x, j2/x and j1 of x >= 0, without cancellation near zero."""
    small = x < _SERIES_BELOW
    y = np.where(small, 1.0, x)
    sin, cos = np.sin(y), np.cos(y)
    j0 = sin / y
    j1 = (j0 - cos) / y
    j2 = 3.0 * j1 / y - j0
    t = np.where(small, x, 0.0)
    u = t * t
    j0_s = 1 - u / 6 * (1 - u / 20 * (1 - u / 42 * (1 - u / 72 * (1 - u / 110))))
    j1x_s = (1 - u / 10 * (1 - u / 28 * (1 - u / 54 * (1 - u / 88)))) / 3
    j2x_s = t / 15 * (1 - u / 14 * (1 - u / 36 * (1 - u / 66 * (1 - u / 104))))
    j1x = np.where(small, j1x_s, j1 / y)
    return np.where(small, j0_s, j0), j1x, np.where(small, j2x_s, j2 / y), j1x * x


def ball_overlap(r: Array, cutoff: float) -> tuple[Array, Array]:
    """Window (1-u)^2 (1 + u/2), u = r/cutoff, zero beyond the cutoff, and its derivative by r."""
    u = np.asarray(r, dtype=np.float64) / cutoff
    rest = np.clip(1.0 - u, 0.0, None)
    return rest**2 * (1 + u / 2), -1.5 * rest * (1 + u) / cutoff


@dataclass(frozen=True)
class ShellBasis:
    """Pair functions of windowed spectral shells, one column each: transverse first, then longitudinal.

    Args:
        wavenumbers: (Q,) shell radii, > 0, in inverse length.
        cutoff: length at which every function ends.
        compressible: also hold the longitudinal shells (2Q columns instead of Q).
    """

    wavenumbers: Array
    cutoff: float
    compressible: bool = False

    @property
    def size(self) -> int:
        """Number of columns."""
        return len(self.wavenumbers) * (2 if self.compressible else 1)

    @property
    def column_wavenumbers(self) -> Array:
        """(size,) wavenumber of each column."""
        return np.tile(self.wavenumbers, 2 if self.compressible else 1)

    @property
    def self_values(self) -> Array:
        """(size,) value of each column at r = 0 (the kernel there is this number times I)."""
        count = len(self.wavenumbers)
        transverse = np.full(count, 2.0 / 3.0)
        if not self.compressible:
            return transverse
        return np.concatenate([transverse, np.full(count, 1.0 / 3.0)])

    def evaluate(self, r: Array) -> PairValues:
        """Columns at distances r >= 0 of any shape; zero at and beyond the cutoff."""
        r = np.asarray(r, dtype=np.float64)[..., None]
        k = self.wavenumbers
        j0, j1x, j2x, j1 = _bessel_ratios(r * k)
        window, slope = ball_overlap(r, self.cutoff)

        def windowed(value: Array, derivative: Array) -> tuple[Array, Array]:
            return window * value, slope * value + window * k * derivative

        columns = [(*windowed(2 * j1x, -2 * j2x), *windowed(j0 - j1x, j2x - j1))]
        if self.compressible:
            columns.append((*windowed(j0 - 2 * j1x, 2 * j2x - j1), *windowed(j1x, -j2x)))
        par, dpar, perp, dperp = (
            np.concatenate(parts, axis=-1) for parts in zip(*columns, strict=True)
        )
        return PairValues(par, dpar, perp, dperp)
