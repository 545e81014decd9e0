"""What a covariance over a finite lag misses of a mobility, because the solvent has inertia.

A Fourier mode k of the solvent's flow builds up at the rate nu k^2. Over a lag tau it contributes
the fraction 1 - (1 - exp(-x))/x to <dX dX^T>/(2 kT tau) and 1 - exp(-x) to the symmetric
displacement-velocity form, x = nu k^2 tau. What is missing is

    D(d) = 1/(eta V) sum_k (I - kk) (sin ka / ka)^2 missing(x) cos(k.d) / k^2

in a periodic box (k = 0 left out), the integral over k in an open system. The factor leaves out the
particles' own inertia: lags should exceed several of their relaxation times.

Source: the linearised Navier-Stokes equation; H. Hasimoto, J. Fluid Mech. 5 (1959) 317 for the
periodic sum.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mlcore.errors import InvalidArgument
from mlcore.mobility.background import FiniteLag, ModeSum

__all__ = ["FiniteLag", "FlowDeficit"]

FloatArray = NDArray[np.float64]

CHUNK = 4_000_000
"""Numbers in the largest intermediate array."""


@dataclass(frozen=True)
class FlowDeficit:
    """The missing part of the mobility of spheres in a solvent with inertia.

    Args:
        finite_lag: lag, kinematic viscosity, estimator and number of modes.
        radius: radius of the spheres.
        viscosity: of the solvent.

    Raises `InvalidArgument` when lag, viscosities or radius are not positive.
    """

    finite_lag: FiniteLag
    radius: float
    viscosity: float

    def __post_init__(self) -> None:
        lag = self.finite_lag
        for name, value in (
            ("lag", lag.lag),
            ("kinematic_viscosity", lag.kinematic_viscosity),
            ("radius", self.radius),
            ("viscosity", self.viscosity),
        ):
            if not (np.isfinite(value) and value > 0):
                raise InvalidArgument(f"{name} should be positive, got {value}")
        if lag.estimator not in ("displacement", "displacement-velocity"):
            raise InvalidArgument(
                "estimator should be 'displacement' or 'displacement-velocity', "
                f"got {lag.estimator!r}"
            )

    def pair_tensor(self, d: FloatArray, cell: FloatArray | None = None) -> FloatArray:
        """Missing part of M_ij for pair vectors.

        Args:
            d: (m, 3) vectors; zero gives the missing part of the self mobility.
            cell: (3, 3) rows of the periodic cell, any shape, or None for open space.

        Returns:
            (m, 3, 3), to be subtracted from the steady mobility.
        """
        d = np.asarray(d, dtype=float).reshape(-1, 3)
        return self._open(d) if cell is None else self._periodic(d, np.asarray(cell, float))

    def self_part(self, cell: FloatArray | None = None) -> FloatArray:
        """Missing part of the self mobility, (3, 3)."""
        return np.asarray(self.pair_tensor(np.zeros((1, 3)), cell)[0])

    def matrix(self, x: FloatArray, cell: FloatArray | None = None) -> FloatArray:
        """Missing part of the whole mobility matrix of one configuration (n, 3): (3n, 3n)."""
        x = np.asarray(x, dtype=float).reshape(-1, 3)
        n = len(x)
        blocks = self.pair_tensor((x[:, None] - x[None]).reshape(-1, 3), cell)
        return blocks.reshape(n, n, 3, 3).transpose(0, 2, 1, 3).reshape(3 * n, 3 * n)

    def _periodic(self, d: FloatArray, cell: FloatArray) -> FloatArray:
        modes = ModeSum.of(cell, self.finite_lag.modes)
        unit = modes.vectors / modes.wavenumbers[:, None]
        weight = modes.weights * modes.form_factor(self.radius) / self.viscosity
        weight = weight * self.finite_lag.missing(modes.wavenumbers)
        projector = np.eye(3) - unit[:, :, None] * unit[:, None, :]
        flat = (weight[:, None, None] * projector).reshape(-1, 9)
        out = np.empty((len(d), 9))
        rows = max(1, CHUNK // len(weight))
        for start in range(0, len(d), rows):
            part = slice(start, start + rows)
            out[part] = np.cos(d[part] @ modes.vectors.T) @ flat
        return out.reshape(-1, 3, 3)

    def _open(self, d: FloatArray) -> FloatArray:
        """Integral over all k; directions are done exactly, lengths by Gauss-Legendre panels."""
        distance = np.linalg.norm(d, axis=1)
        k, weight = self._wavenumbers(float(distance.max(initial=0.0)))
        form = np.sinc(k * self.radius / np.pi) ** 2
        weight = weight * form * self.finite_lag.missing(k) / (2 * np.pi**2 * self.viscosity)
        u = np.divide(d, distance[:, None], out=np.zeros_like(d), where=distance[:, None] > 0)
        isotropic, along = np.empty(len(d)), np.empty(len(d))
        rows = max(1, CHUNK // len(k))
        for start in range(0, len(d), rows):
            part = slice(start, start + rows)
            z = distance[part, None] * k
            j0 = np.sinc(z / np.pi)
            j1_over_z = _j1_over_z(z)
            # mean over directions of (I - kk) e^{ik.d} = (j0 - j1/z) I - (j0 - 3 j1/z) uu
            isotropic[part] = (j0 - j1_over_z) @ weight
            along[part] = -(j0 - 3 * j1_over_z) @ weight
        dyad = u[:, :, None] * u[:, None, :]
        return np.asarray(isotropic[:, None, None] * np.eye(3) + along[:, None, None] * dyad)

    def _wavenumbers(self, reach: float) -> tuple[FloatArray, FloatArray]:
        """Nodes and weights: fine where the missing fraction decays, then panels of one period."""
        nu_tau = self.finite_lag.kinematic_viscosity * self.finite_lag.lag
        decay = 1 / np.sqrt(nu_tau)
        last = max(8 * np.pi / self.radius, 8 * decay)
        panel = min(decay, np.pi / max(reach, self.radius))
        edges = np.linspace(0.0, last, int(np.ceil(last / panel)) + 1)
        nodes, weights = np.polynomial.legendre.leggauss(8)
        half = np.diff(edges)[:, None] / 2
        k = (edges[:-1, None] + half + half * nodes).reshape(-1)
        return k, (half * weights).reshape(-1)


def _j1_over_z(z: FloatArray) -> FloatArray:
    """Spherical Bessel j1(z)/z, with its series where z is small."""
    small = z < 0.02
    safe = np.where(small, 1.0, z)
    value = (np.sin(safe) / safe - np.cos(safe)) / safe**2
    return np.where(small, 1 / 3 - z * z / 30, value)
