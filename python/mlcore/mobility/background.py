"""The analytic background of a learned mobility, written so that its parameters can be fitted.

Outside overlap (r >= 2a) the Rotne-Prager-Yamakawa tensor of equal spheres, free or periodic, is a
polynomial in the radius:

    M_ij = (A(d) + a^2 B(d)) / eta,          M_ii = (1/(6 pi a) + A_0 + a^2 B_0) / eta,

where A, B (and A_0, B_0, which vanish in an open system) depend on the box alone. The periodic ones
come from two evaluations of the core's Ewald sum at two radii. What overlap changes is short-ranged
and the same in any box: `overlap_correction`.

In data with solvent inertia a Fourier mode k of the flow answers with rate nu k^2, so a covariance
taken over a lag misses a known part of every mode: `FiniteLag`.

Sources: C. W. J. Beenakker, J. Chem. Phys. 85 (1986) 1581; J. Rotne and S. Prager, J. Chem. Phys. 50
(1969) 4831; H. Hasimoto, J. Fluid Mech. 5 (1959) 317.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from mlcore.errors import InvalidArgument

__all__ = ["FiniteLag", "ModeSum", "configuration_terms", "overlap_correction", "pair_terms"]

Array = NDArray[np.float64]

_IDENTITY = np.eye(3)


def _free_terms(d: Array) -> tuple[Array, Array]:
    r = np.linalg.norm(d, axis=-1)[..., None, None]
    dyad = d[..., :, None] * d[..., None, :] / r**2
    a = (_IDENTITY + dyad) / (8 * np.pi * r)
    b = (_IDENTITY - 3 * dyad) / (12 * np.pi * r**3)
    return a, b


def _core_terms(cell: Array, positions: Array, closest: float) -> tuple[Array, Array]:
    """A and B as (B,3n,3n) matrices of periodic configurations, from the core at two radii."""
    from mlcore.mobility.tensors import RPY

    spans = abs(np.linalg.det(cell)) / np.linalg.norm(
        np.cross(cell[[1, 2, 0]], cell[[2, 0, 1]]), axis=1
    )
    largest = 0.45 * min(closest, float(spans.min()))
    radii = (0.5 * largest, largest)
    matrices = []
    for radius in radii:
        matrix = np.asarray(RPY(radius, 1.0).matrix(positions, cell, True), dtype=np.float64)
        stokes = 1 / (6 * np.pi * radius)
        matrices.append(matrix - stokes * np.eye(matrix.shape[-1]))
    b = (matrices[1] - matrices[0]) / (radii[1] ** 2 - radii[0] ** 2)
    return matrices[0] - radii[0] ** 2 * b, b


def pair_terms(cell: Array | None, d: Array) -> tuple[Array, Array, Array, Array]:
    """Box functions of pair vectors.

    Args:
        cell: (3,3) rows of the periodic cell, or None for an open system.
        d: (P,3) vectors from one particle to the other, not zero.

    Returns:
        A, B (P,3,3) of the pairs, then A_0, B_0 (3,3) of a particle with its own images.
    """
    d = np.asarray(d, dtype=np.float64)
    if cell is None:
        a, b = _free_terms(d)
        return a, b, np.zeros((3, 3)), np.zeros((3, 3))
    closest = float(np.linalg.norm(d, axis=1).min())
    configurations = np.stack([np.zeros_like(d), d], axis=1)
    a, b = _core_terms(np.asarray(cell, dtype=np.float64), configurations, closest)
    return a[:, :3, 3:], b[:, :3, 3:], a[0, :3, :3], b[0, :3, :3]


def configuration_terms(cell: Array | None, positions: Array) -> tuple[Array, Array]:
    """Box functions of whole configurations.

    Args:
        cell: (3,3) rows of the periodic cell, or None for an open system.
        positions: (B,n,3).

    Returns:
        A, B (B,3n,3n): M = (A + a^2 B)/eta + I/(6 pi eta a) where no particles overlap.
    """
    x = np.asarray(positions, dtype=np.float64)
    count = x.shape[1]
    if cell is None:
        d = x[:, :, None] - x[:, None]
        eye = np.eye(count, dtype=bool)
        d[:, eye] = 1.0
        a, b = _free_terms(d)
        a[:, eye] = b[:, eye] = 0.0
        shape = (len(x), 3 * count, 3 * count)
        return tuple(m.transpose(0, 1, 3, 2, 4).reshape(shape) for m in (a, b))  # type: ignore
    cell = np.asarray(cell, dtype=np.float64)
    closest = _closest(cell, x)
    return _core_terms(cell, x, closest)


def _closest(cell: Array, x: Array) -> float:
    i, j = np.triu_indices(x.shape[1], 1)
    if len(i) == 0:
        return float(np.linalg.norm(cell, axis=1).min())
    d = x[:, i] - x[:, j]
    d -= np.round(d @ np.linalg.inv(cell)) @ cell
    return float(np.sqrt((d * d).sum(-1).min()))


def overlap_correction(r: Any, radius: Any, viscosity: Any) -> tuple[Any, Any]:
    """Parallel and perpendicular difference between overlapping and far RPY for distances r < 2a.

    Zero for r >= 2a, continuous there together with its first derivative. Works on NumPy arrays and
    on torch tensors.
    """
    inside = r < 2 * radius
    stokes = 1 / (6 * np.pi * viscosity * radius)
    far = 1 / (8 * np.pi * viscosity * r)
    ratio = (radius / r) ** 2
    par = stokes * (1 - 6 * r / (32 * radius)) - far * (2 - 4 * ratio / 3)
    perp = stokes * (1 - 9 * r / (32 * radius)) - far * (1 + 2 * ratio / 3)
    return par * inside, perp * inside


@dataclass(frozen=True)
class FiniteLag:
    """What a solvent of finite kinematic viscosity lets a covariance over a lag miss.

    A mode k of the flow contributes the fraction 1 - (1 - exp(-x))/x to <dX dX>/(2 kT lag) and
    1 - exp(-x) to the displacement-velocity form, x = nu k^2 lag.

    Args:
        lag: time of the increments.
        kinematic_viscosity: nu of the solvent, length^2/time.
        estimator: "displacement" or "displacement-velocity".
        modes: largest |n| of the modes k = 2 pi n / L (periodic cell) that are counted.
    """

    lag: float
    kinematic_viscosity: float
    estimator: Literal["displacement", "displacement-velocity"] = "displacement"
    modes: int = 9

    def missing(self, k: Any) -> Any:
        """Fraction of a mode of wavenumber k > 0 that is missing."""
        x = self.kinematic_viscosity * self.lag * k**2
        if self.estimator == "displacement-velocity":
            return np.exp(-x)
        return -np.expm1(-x) / x


@dataclass(frozen=True)
class ModeSum:
    """Flow modes of a periodic cell, one of each pair k, -k.

    Args:
        vectors: (K,3) wave vectors.
        wavenumbers: (K,) their lengths.
        weights: (K,) 2/(V k^2): the steady weight at zero radius, both signs of k, viscosity one.
    """

    vectors: Array
    wavenumbers: Array
    weights: Array

    @classmethod
    def of(cls, cell: Array, modes: int) -> ModeSum:
        """All modes with |n| <= modes."""
        if modes < 1:
            raise InvalidArgument(f"modes must be at least 1, not {modes}")
        cell = np.asarray(cell, dtype=np.float64)
        g = np.arange(-modes, modes + 1)
        n = np.stack(np.meshgrid(g, g, g, indexing="ij"), -1).reshape(-1, 3)
        half = (n[:, 0] > 0) | (n[:, 0] == 0) & ((n[:, 1] > 0) | (n[:, 1] == 0) & (n[:, 2] > 0))
        n = n[half & ((n * n).sum(1) <= modes * modes)]
        vectors = 2 * np.pi * n @ np.linalg.inv(cell).T
        k = np.linalg.norm(vectors, axis=1)
        return cls(vectors, k, 2 / (abs(np.linalg.det(cell)) * k**2))

    def form_factor(self, radius: float) -> Array:
        """(sin ka / ka)^2 of a sphere, (K,)."""
        return np.asarray(np.sinc(self.wavenumbers * radius / np.pi) ** 2)

    def deficit(self, positions: Array, weights: Array) -> Array:
        """sum_k w_k (I - kk) cos(k.(x_i - x_j)) for configurations (B,n,3): (B,3n,3n)."""
        x = np.asarray(positions, dtype=np.float64)
        batch, count = x.shape[:2]
        unit = self.vectors / self.wavenumbers[:, None]
        projector = (_IDENTITY - unit[:, :, None] * unit[:, None, :]) * weights[:, None, None]
        out = np.empty((batch, count, 3, count, 3))
        for b in range(batch):
            phase = x[b] @ self.vectors.T
            cos, sin = np.cos(phase), np.sin(phase)
            for d, e in ((0, 0), (0, 1), (0, 2), (1, 1), (1, 2), (2, 2)):
                w = projector[:, d, e]
                out[b, :, d, :, e] = (cos * w) @ cos.T + (sin * w) @ sin.T
                out[b, :, e, :, d] = out[b, :, d, :, e]
        return out.reshape(batch, 3 * count, 3 * count)
