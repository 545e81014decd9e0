"""Kicks between pairs of particles, learned as splines of the distance, of the step and of the masses."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["PairKicks", "pair_number", "spline_weights"]

Array = npt.NDArray[np.float64]
Indices = npt.NDArray[np.intp]
# Rows: the control points of an interval; columns: powers of the place in it.
_TO_POWERS = np.array([[1, -3, 3, -1], [4, 0, -6, 3], [1, 3, 3, -3], [0, 0, 0, 1]]) / 6.0
_STEEPNESS = 8  # G = u^8 S(u), u = 1 / r


@dataclass(frozen=True, eq=False)
class PairKicks:
    """G(r) of pairs: a kick adds (h / m_i) G(r_ij) (x_i - x_j) to the velocity of particle i.

    G = u^8 sum over p of (h^2 / (mu unit))^p S_p(u), u = 1 / r, with the reduced mass mu of the pair
    and cubic splines S_p on uniform intervals from 1 / cutoff to 1 / closest; zero from the cutoff on,
    S as at `closest` below that. The flow of Newton's equations depends on h and m through h^2 / m
    alone.

    Attributes:
        drifts: (K + 1,) parts c_k of the step between the K kicks, the same from both ends.
        controls: (stages, pairs of types, orders, M + 3) points of S; stages = ceil(K / 2).
        cutoff: distance of the last interaction.
        closest: distance of the closest pair that was learned.
        unit: of h^2 / mu.
    """

    drifts: Array
    controls: Array
    cutoff: float
    closest: float
    unit: float

    @property
    def kicks(self) -> int:
        """K."""
        return len(self.drifts) - 1

    @property
    def intervals(self) -> int:
        """M."""
        return int(self.controls.shape[3]) - 3

    @property
    def types(self) -> int:
        """T, of T (T + 1) / 2 pairs."""
        return int((np.sqrt(8 * self.controls.shape[1] + 1) - 1) / 2)

    def stage(self, kick: int) -> int:
        """Which functions a kick uses."""
        return min(kick, self.kicks - 1 - kick)

    def powers(self, step: float, one: Array, other: Array) -> Array:
        """(..., orders) powers of h^2 / (mu unit) of pairs with these masses."""
        s = step * step * (1 / one + 1 / other) / self.unit
        return np.asarray(s[..., None] ** np.arange(self.controls.shape[2]))

    def tables(self, step: float, types: Indices, masses: Array) -> Array:
        """(stages, pairs of species, M, 4): S at a step, as cubics in the place in every interval.

        Args:
            step: h.
            types: (S,) of every species, 0 <= type < T.
            masses: (S,) of every species.
        """
        a, b = np.triu_indices(len(types))
        powers = self.powers(step, masses[a], masses[b])
        points = self.controls[:, pair_number(types[a], types[b], self.types)]
        points = np.einsum("kpom,po->kpm", points, powers)
        four = np.lib.stride_tricks.sliding_window_view(points, 4, axis=2)
        return np.ascontiguousarray(four @ _TO_POWERS)


def pair_number(a: Indices, b: Indices, types: int) -> Indices:
    """Number of an unordered pair: (0, 0), (0, 1), .., (0, T-1), (1, 1), .. are 0, 1, 2, .."""
    low, high = np.minimum(a, b), np.maximum(a, b)
    return np.asarray(low * types - low * (low - 1) // 2 + high - low)


def spline_weights(
    r: Array, cutoff: float, closest: float, intervals: int
) -> tuple[Indices, Array, Array]:
    """How G and r dG/dr of pairs at distances r (m,) follow from control points.

    Returns:
        (m,) the first control point, (m, 4) weights of it and the next three in G, and the same for
        r dG/dr.
    """
    u, low = 1 / r, 1 / cutoff
    scale = intervals / (1 / closest - low)
    place = np.clip((u - low) * scale, 0, intervals * (1 - 1e-15))
    first = np.minimum(place.astype(np.intp), intervals - 1)
    t = (place - first)[:, None]
    value = t ** np.arange(4) @ _TO_POWERS.T
    slope = (t ** np.array([0, 0, 1, 2]) * np.arange(4)) @ _TO_POWERS.T * scale
    slope[u > 1 / closest] = 0
    steep = np.where(r < cutoff, u**_STEEPNESS, 0)[:, None]
    return first, steep * value, -steep * (_STEEPNESS * value + u[:, None] * slope)
