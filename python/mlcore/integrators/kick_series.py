"""Kicks in one dimension as Chebyshev series in the position and in h^2 / m, and their learning."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from numpy.polynomial import chebyshev

from mlcore.integrators.splitting import mirrored, palindrome, step

__all__ = ["KickSeries", "Pairs", "refined", "unit"]

Array = npt.NDArray[np.float64]
_CHUNK = 512  # pairs at a time: their derivatives stay in the cache
_EXACT = 1e-15  # of the range of x: nothing is gained below


def unit(values: npt.ArrayLike, low: float, high: float) -> Array:
    """Values in [low, high] as -1 to 1; 0 where the interval is a point."""
    v = np.asarray(values, dtype=np.float64)
    return (2 * v - low - high) / (high - low) if high > low else np.zeros(v.shape)


class _Polynomials:
    """2 T_0..2 T_{degree} of n numbers, by 2 T_{i+j} = 2 T_i 2 T_j - 2 T_{i-j}: few calls, buffers kept."""

    def __init__(self, degree: int, n: int) -> None:
        self.values = np.full((degree + 1, n), 2.0)
        self._rounds = []
        known = 1
        while known < degree:
            more = min(known, degree - known)
            t = self.values
            back = t[known - more : known][::-1]
            out = t[known + 1 : known + 1 + more]
            self._rounds.append((t[known], t[1 : more + 1], back, out))
            known += more

    def __call__(self, u: Array) -> Array:
        """(degree + 1, n), overwritten by the next call."""
        if len(self.values) > 1:
            np.multiply(u, 2, out=self.values[1])
        for top, low, back, out in self._rounds:
            np.multiply(low, top, out=out)
            np.subtract(out, back, out=out)
        return self.values


@dataclass(frozen=True, eq=False)
class KickSeries:
    """A splitting (see `splitting`) whose forces and drifts are series.

    Attributes:
        forces: (ceil(K / 2), D + 1, J + 1): F_k = sum_dj forces[k, d, j] T_d(x) T_j(s).
        drifts: (K // 2, J + 1), the free ones: c_k = sum_j drifts[k, j] T_j(s).
        kicks: K.
        span: of x, to which T_d is scaled.
        steps: least and largest s = h^2 / m, to which T_j is scaled.
    """

    forces: Array
    drifts: Array
    kicks: int
    span: tuple[float, float]
    steps: tuple[float, float]

    @property
    def parameters(self) -> Array:
        """All that is learned, in one row."""
        return np.concatenate([self.drifts.ravel(), self.forces.ravel()])

    def of(self, parameters: Array) -> KickSeries:
        """The same with other parameters."""
        count = self.drifts.size
        return replace(
            self,
            drifts=parameters[:count].reshape(self.drifts.shape),
            forces=parameters[count:].reshape(self.forces.shape),
        )

    def _powers(self, s: Array) -> Array:
        """(J + 1, n) of s (n,)."""
        return 0.5 * _Polynomials(self.forces.shape[2] - 1, len(s))(unit(s, *self.steps))

    def stepper(self, s: Array) -> Callable[[Array, Array], tuple[Array, Array, Array]]:
        """The step for n runs of given s = h^2 / m.

        Returns:
            function of x and w = h v, (n,) each: both after a step, and all positions of kicks (K, n).
        """
        powers = self._powers(s)
        series = 0.5 * s * (self.forces @ powers)
        drifts = palindrome(list(self.drifts @ powers), self.kicks)
        polynomials = _Polynomials(self.forces.shape[1] - 1, len(s))
        visited = np.empty((self.kicks, len(s)))
        low, high = self.span
        scale, shift = 2 / (high - low), (high + low) / (high - low)

        def kick(k: int, x: Array) -> Array:
            visited[k] = x
            own = series[mirrored(k, self.kicks)]
            force: Array = np.einsum("dn,dn->n", own, polynomials(scale * x - shift))
            return force

        def after(x: Array, w: Array) -> tuple[Array, Array, Array]:
            return *step(x, w, drifts, kick), visited

        return after

    def tangents(self, x: Array, w: Array, s: Array) -> tuple[Array, Array, Array, Array, Array]:
        """One step of n pairs and its derivatives by the parameters: x, w, (P, n), (P, n), visited."""
        powers = self._powers(s)
        orders, width = len(powers), self.forces.shape[1]
        series, free = self.forces @ powers, self.drifts.size
        drifts = palindrome(list(self.drifts @ powers), self.kicks)
        slopes = _slopes(drifts, self.kicks)
        inner = np.zeros_like(series)
        inner[:, :-1] = chebyshev.chebder(series, axis=1)
        polynomials = _Polynomials(width - 1, len(x))
        dx, dw = np.zeros((2, free + self.forces.size, len(x)))
        visited = np.empty((self.kicks, len(x)))
        for k in range(self.kicks + 1):
            if k:
                own = mirrored(k - 1, self.kicks)
                visited[k - 1] = x
                t = 0.5 * polynomials(unit(x, *self.span))
                slope = np.einsum("dn,dn->n", inner[own], t) * 2 / np.ptp(self.span)
                dw += (s * slope) * dx
                begin = free + own * width * orders
                block = dw[begin : begin + width * orders].reshape(width, orders, -1)
                block += t[:, None] * (s * powers)
                w = w + s * np.einsum("dn,dn->n", series[own], t)
            dx += drifts[k] * dw
            if free:
                block = dx[:free].reshape(-1, orders, len(x))
                block += slopes[k][:, None, None] * (w * powers)
            x = x + drifts[k] * w
        return x, w, dx, dw, visited


def _slopes(drifts: list[Array], kicks: int) -> Array:
    """(K + 1, K // 2) derivatives of all drifts by the free ones."""
    ones = np.eye(kicks // 2)
    none = palindrome([np.zeros(kicks // 2)] * (kicks // 2), kicks)
    return (
        np.array(palindrome(list(ones), kicks)) - np.array(none) if kicks > 1 else np.zeros((2, 0))
    )


@dataclass(frozen=True, eq=False)
class Pairs:
    """N frames and those that follow: positions x, displacements w = h v, s = h^2 / m; (N,) each."""

    x: Array
    w: Array
    s: Array
    next_x: Array
    next_w: Array

    def __len__(self) -> int:
        """N."""
        return len(self.x)

    def some(self, which: slice | npt.NDArray[np.intp] | npt.NDArray[np.bool_]) -> Pairs:
        """Those chosen."""
        return Pairs(
            self.x[which], self.w[which], self.s[which], self.next_x[which], self.next_w[which]
        )


@dataclass
class _State:
    cost: float
    normal: Array
    gradient: Array


def refined(
    kicks: KickSeries, pairs: Pairs, iterations: int, report: Callable[[int, int], None]
) -> tuple[KickSeries, tuple[float, float]]:
    """Least squares of one-step errors by the method of Levenberg and Marquardt.

    Returns:
        what was learned, and the range of x that its kicks have seen.
    """
    damping, idle = 1e-10, 0
    best, reach = kicks, kicks.span
    state, reach = _linearised(kicks, pairs)
    for iteration in range(iterations):
        report(iteration, iterations)
        if np.sqrt(state.cost / len(pairs)) < _EXACT * np.ptp(kicks.span) or idle > 12:
            break
        scale = np.sqrt(np.diag(state.normal)) + 1e-300
        matrix = state.normal / scale / scale[:, None]
        matrix[np.diag_indices(len(scale))] += damping
        move = np.linalg.solve(matrix, state.gradient / scale) / scale
        found = best.of(best.parameters - move)
        new, visited = _linearised(found, pairs)
        if new.cost < state.cost:
            idle = idle + 1 if new.cost > 0.9 * state.cost else 0
            best, state, reach, damping = found, new, visited, max(0.2 * damping, 1e-15)
        else:
            idle, damping = idle + 1, 10 * damping
    report(iterations, iterations)
    return best, reach


def _linearised(kicks: KickSeries, pairs: Pairs) -> tuple[_State, tuple[float, float]]:
    """Cost, normal matrix and gradient. Errors count per time, so small steps as much as large ones."""
    count = kicks.parameters.size
    state = _State(0.0, np.zeros((count, count)), np.zeros(count))
    low, high = np.inf, -np.inf
    with np.errstate(all="ignore"):
        for begin in range(0, len(pairs), _CHUNK):
            p = pairs.some(slice(begin, begin + _CHUNK))
            x, w, dx, dw, visited = kicks.tangents(p.x, p.w, p.s)
            weight = np.sqrt(kicks.steps[1] / p.s)
            for error, slope, heavy in ((x - p.next_x, dx, weight), (w - p.next_w, dw, weight**2)):
                slope *= heavy
                state.cost += float((heavy * error) @ (heavy * error))
                state.normal += slope @ slope.T
                state.gradient += slope @ (heavy * error)
            low, high = min(low, visited.min()), max(high, visited.max())
    if not (np.isfinite(state.cost) and np.isfinite(state.normal).all()):
        state.cost = np.inf
    return state, (float(low), float(high))
