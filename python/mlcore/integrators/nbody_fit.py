"""Learning the kicks of pairs from states a step apart: least squares with exact derivatives.

Every residual is that of one whole step, so the functions take up what a composition of K kicks with
the true force would get wrong: at a given step they are not the force itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from mlcore.integrators.pair_kicks import PairKicks, pair_number, spline_weights
from mlcore.neighbors import neighbor_batch

__all__ = ["Pairs", "States", "fitted", "residuals", "stepped"]

Array = npt.NDArray[np.float64]
Indices = npt.NDArray[np.intp]
_CHUNK_BYTES = 1 << 27
_RIDGE = 1e-6
_TRIES = 8
_SLOW, _GAIN = 3, 1e-3


@dataclass(frozen=True, eq=False)
class States:
    """C configurations of n particles, and the same one step later.

    Attributes:
        step: h.
        x, v: (C, n, 3) before.
        x1, v1: (C, n, 3) after, unwrapped.
        masses: (C, n).
        types: (n,).
        cell: (3, 3) of periodic space; None: open space.
    """

    step: float
    x: Array
    v: Array
    x1: Array
    v1: Array
    masses: Array
    types: Indices
    cell: Array | None

    def __len__(self) -> int:
        """C."""
        return len(self.x)

    def some(self, which: slice) -> States:
        """Some configurations."""
        return replace(
            self,
            **{name: getattr(self, name)[which] for name in ("x", "v", "x1", "v1", "masses")},
        )

    @property
    def change(self) -> float:
        """Root mean square of the change of a velocity: the unit of residuals."""
        return float(np.sqrt(((self.v1 - self.v) ** 2).mean()))


@dataclass(frozen=True, eq=False)
class Pairs:
    """Pairs that may come within the cutoff during a step.

    Attributes:
        of: (p,) configuration.
        i, j: (p,) particles in it.
        vectors: (p, 3) x_i - x_j at the step's beginning, of the image in question.
        numbers: (p,) of the pair of types.
        powers: (p, orders) of h^2 / (mu unit).
    """

    of: Indices
    i: Indices
    j: Indices
    vectors: Array
    numbers: Indices
    powers: Array

    @classmethod
    def near(cls, kicks: PairKicks, states: States) -> Pairs:
        """Those within the cutoff and twice the longest way anybody goes."""
        count, n = states.x.shape[:2]
        way = np.abs(states.x1 - states.x).max() + states.step * np.abs(states.v).max()
        found = neighbor_batch(
            "ijD",
            states.x.reshape(-1, 3),
            kicks.cutoff + 2 * float(way),
            states.cell,
            states.cell is not None,
            half=True,
            batch_offsets=np.arange(count + 1) * n,
        )
        i, j, vectors = found.arrays
        of, i, j = i // n, i % n, j % n
        return cls(
            of.astype(np.intp),
            i.astype(np.intp),
            j.astype(np.intp),
            -np.asarray(vectors),
            pair_number(states.types[i], states.types[j], kicks.types),
            kicks.powers(states.step, states.masses[of, i], states.masses[of, j]),
        )


def stepped(kicks: PairKicks, states: States, pairs: Pairs | None = None) -> tuple[Array, Array]:
    """x and v (C, n, 3) one step later."""
    pairs = Pairs.near(kicks, states) if pairs is None else pairs
    return _Step(kicks, states, pairs).end()


def residuals(kicks: PairKicks, states: States) -> float:
    """Mean square of what a step gets wrong, in units of the change of velocities in it."""
    x, v = stepped(kicks, states)
    unit = states.change
    wrong = (2 * (x - states.x1) / states.step) ** 2 + (v - states.v1) ** 2
    return float(wrong.mean()) / unit**2


def fitted(
    kicks: PairKicks,
    data: Sequence[States],
    *,
    iterations: int,
    smoothness: float,
    report: Callable[[int, int], None],
) -> PairKicks:
    """Levenberg and Marquardt's descent of the mean of `residuals`.

    Args:
        kicks: where it starts.
        data: of one or several steps.
        iterations: at most.
        smoothness: weight of the squared second differences of control points.
        report: called with (iterations done, iterations in all).
    """
    prior = _prior(kicks, data, smoothness)
    small = min(data, key=lambda states: states.step)
    alike = _Descent([small], 100 * prior, _alike(kicks))
    whole = _Descent(data, prior, np.eye(len(prior)))
    for done in range(iterations):
        descent = whole if alike.ended else alike
        kicks = descent.step(kicks)
        report(done + 1, iterations)
        if whole.ended:
            break
    report(iterations, iterations)
    return kicks


class _Descent:
    """Steps of Levenberg and Marquardt along some directions of the parameters."""

    def __init__(self, data: Sequence[States], prior: Array, directions: Array) -> None:
        self.data, self.prior, self.directions = data, prior, directions
        self.damping, self.slow = 1e-3, 0

    @property
    def ended(self) -> bool:
        """Whether the last steps gained next to nothing."""
        return self.slow >= _SLOW

    def step(self, kicks: PairKicks) -> PairKicks:
        now, along = _parameters(kicks), self.directions
        normal, slope = _normal_equations(kicks, self.data)
        normal = along @ (normal + self.prior) @ along.T
        slope = along @ (slope + self.prior @ now)
        before = self._objective(kicks)
        for _ in range(_TRIES):
            damped = normal + self.damping * np.diag(np.diag(normal) + 1e-12 * np.trace(normal))
            other = _with_parameters(kicks, now - np.linalg.solve(damped, slope) @ along)
            with np.errstate(all="ignore"):
                loss = self._objective(other)
            if loss < before:
                self.damping = max(self.damping / 10, 1e-12)
                self.slow = self.slow + 1 if loss > (1 - _GAIN) * before else 0
                return other
            self.damping *= 8
        self.slow = _SLOW
        return kicks

    def _objective(self, kicks: PairKicks) -> float:
        now = _parameters(kicks)
        found = np.mean([residuals(kicks, states) for states in self.data])
        return float(found + now @ self.prior @ now)


def _alike(kicks: PairKicks) -> Array:
    """Directions in which all kicks change alike, at every step and mass, and drifts do not."""
    stages, pairs, orders, points = kicks.controls.shape
    found = np.zeros((pairs * points, len(_parameters(kicks))))
    for stage in range(stages):
        for pair in range(pairs):
            begin = (stage * pairs + pair) * orders * points
            rows = pair * points + np.arange(points)
            found[rows, begin + np.arange(points)] = 1
    return found


class _Step:
    """One step of many configurations, with derivatives by the parameters if wanted."""

    def __init__(self, kicks: PairKicks, states: States, pairs: Pairs) -> None:
        self.kicks, self.states, self.pairs = kicks, states, pairs
        self.moved = np.zeros_like(states.x)
        self.v = states.v.copy()

    def end(self) -> tuple[Array, Array]:
        self._drift(0)
        for kick in range(self.kicks.kicks):
            near, r, vectors = self._distances()
            first, value, _ = self._weights(near, r)
            strength = (value * self._points(near, first, kick)).sum(1)
            self._push(near, strength[:, None] * vectors)
            self._drift(kick + 1)
        return self.states.x + self.moved, self.v

    def derivatives(self) -> tuple[Array, Array, Array, Array]:
        """Residuals of x and v (C, 3n), and their derivatives by all parameters (C, 3n, P)."""
        kicks, states = self.kicks, self.states
        count, n, _ = states.x.shape
        h = states.step
        by_drift = _drift_directions(kicks.kicks)
        of_points = kicks.controls.size
        rate = np.repeat(h / states.masses, 3, 1)[:, :, None]
        X, V = np.zeros((2, count, 3 * n, of_points + by_drift.shape[0]))
        self._drift(0)
        X[:, :, of_points:] = h * self.v_flat * by_drift[:, 0]
        for kick in range(kicks.kicks):
            near, r, vectors = self._distances()
            first, value, slope = self._weights(near, r)
            points = self._points(near, first, kick)
            strength = (value * points).sum(1)
            V += rate * (self._stiffness(near, r, vectors, strength, (slope * points).sum(1)) @ X)
            self._by_points(V, rate, kick, near, first, value, vectors)
            self._push(near, strength[:, None] * vectors)
            self._drift(kick + 1)
            X += kicks.drifts[kick + 1] * h * V
            X[:, :, of_points:] += h * self.v_flat * by_drift[:, kick + 1]
        x = (states.x + self.moved - states.x1).reshape(count, -1)
        return x, (self.v - states.v1).reshape(count, -1), X, V

    @property
    def v_flat(self) -> Array:
        return self.v.reshape(len(self.v), -1, 1)

    def _drift(self, k: int) -> None:
        self.moved += self.kicks.drifts[k] * self.states.step * self.v

    def _distances(self) -> tuple[Indices, Array, Array]:
        pairs = self.pairs
        vectors = pairs.vectors + self.moved[pairs.of, pairs.i] - self.moved[pairs.of, pairs.j]
        r = np.sqrt((vectors * vectors).sum(1))
        near = np.flatnonzero(r < self.kicks.cutoff)
        return near, r[near], vectors[near]

    def _weights(self, near: Indices, r: Array) -> tuple[Indices, Array, Array]:
        kicks = self.kicks
        return spline_weights(r, kicks.cutoff, kicks.closest, kicks.intervals)

    def _points(self, near: Indices, first: Indices, kick: int) -> Array:
        """(p, 4) control points of these pairs, at their h^2 / mu."""
        controls = self.kicks.controls[self.kicks.stage(kick)]
        four = controls[self.pairs.numbers[near, None], :, first[:, None] + np.arange(4)]
        return np.asarray((four * self.pairs.powers[near, None]).sum(2))

    def _push(self, near: Indices, kick: Array) -> None:
        pairs, count, n = self.pairs, *self.states.x.shape[:2]
        sums = np.empty((count * n, 3))
        i, j = pairs.of[near] * n + pairs.i[near], pairs.of[near] * n + pairs.j[near]
        for axis in range(3):
            sums[:, axis] = np.bincount(i, kick[:, axis], count * n)
            sums[:, axis] -= np.bincount(j, kick[:, axis], count * n)
        rate = self.states.step / self.states.masses
        self.v += rate[:, :, None] * sums.reshape(count, n, 3)

    def _stiffness(
        self, near: Indices, r: Array, vectors: Array, strength: Array, slope: Array
    ) -> Array:
        """(C, 3n, 3n) derivatives of the sums of G d by positions."""
        pairs, count, n = self.pairs, *self.states.x.shape[:2]
        normal = vectors / r[:, None]
        block = slope[:, None, None] * normal[:, :, None] * normal[:, None, :]
        block += strength[:, None, None] * np.eye(3)
        of, i, j = pairs.of[near], pairs.i[near], pairs.j[near]
        found = np.zeros((count, 3 * n, 3 * n))
        row, column = np.divmod(np.arange(9), 3)
        for a, b, sign in ((i, i, 1), (j, j, 1), (i, j, -1), (j, i, -1)):
            places = ((of * n + a) * 3)[:, None] + row
            places = places * 3 * n + (3 * b)[:, None] + column
            np.add.at(found.reshape(-1), places.ravel(), (sign * block).ravel())
        return found

    def _by_points(
        self, V: Array, rate: Array, kick: int, near: Indices, first: Indices, value: Array,
        vectors: Array,
    ) -> None:  # fmt: skip
        """Adds the derivatives of a kick by its own control points."""
        pairs, count, n = self.pairs, *self.states.x.shape[:2]
        kinds, orders, points = self.kicks.controls.shape[1:]
        of, i, j = pairs.of[near], pairs.i[near], pairs.j[near]
        each = (value[:, :, None] * vectors[:, None, :])[:, :, :, None]
        each = each * pairs.powers[near, None, None]  # (p, 4, 3, orders)
        column = (pairs.numbers[near, None, None, None] * orders + np.arange(orders)) * points
        column = column + (first[:, None] + np.arange(4))[:, :, None, None]
        size = kinds * orders * points
        found = np.zeros(count * 3 * n * size)
        for a, sign in ((i, 1), (j, -1)):
            row = ((of * n + a) * 3)[:, None, None, None] + np.arange(3)[:, None]
            places = np.broadcast_to(row * size + column, each.shape)
            np.add.at(found, places.ravel(), (sign * each).ravel())
        begin = self.kicks.stage(kick) * size
        V[:, :, begin : begin + size] += rate * found.reshape(count, 3 * n, size)


def _normal_equations(kicks: PairKicks, data: Sequence[States]) -> tuple[Array, Array]:
    size = kicks.controls.size + len(_drift_directions(kicks.kicks))
    normal, slope = np.zeros((size, size)), np.zeros(size)
    for states in data:
        weight = 1 / (states.x.size * states.change**2 * len(data))
        for part in _chunks(states, size):
            pairs = Pairs.near(kicks, part)
            x, v, X, V = _Step(kicks, part, pairs).derivatives()
            for wrong, by, scale in ((x, X, 2 / states.step), (v, V, 1.0)):
                by = by.reshape(-1, size)
                normal += weight * scale**2 * (by.T @ by)
                slope += weight * scale**2 * (by.T @ wrong.ravel())
    return normal, slope


def _chunks(states: States, parameters: int) -> Iterator[States]:
    n = states.x.shape[1]
    each = 8 * 3 * n * (3 * parameters + 6 * n)
    size = max(1, _CHUNK_BYTES // each)
    for begin in range(0, len(states), size):
        yield states.some(slice(begin, begin + size))


def _drift_directions(kicks: int) -> Array:
    """(f, K + 1) changes of the drifts that keep their symmetry and their sum."""
    half = (kicks + 2) // 2
    found = np.zeros((half - 1, kicks + 1))
    rest = np.zeros(kicks + 1)
    rest[[half - 1, kicks + 1 - half]] = 1
    for k in range(half - 1):
        found[k, [k, kicks - k]] = 1
        found[k] -= rest * 2 / rest.sum()
    return found


def _parameters(kicks: PairKicks) -> Array:
    half = (kicks.kicks + 2) // 2
    return np.concatenate([kicks.controls.ravel(), kicks.drifts[: half - 1]])


def _with_parameters(kicks: PairKicks, values: Array) -> PairKicks:
    size = kicks.controls.size
    directions = _drift_directions(kicks.kicks)
    change = values[size:] - kicks.drifts[: len(directions)]
    return replace(
        kicks,
        controls=values[:size].reshape(kicks.controls.shape),
        drifts=kicks.drifts + change @ directions,
    )


def _prior(kicks: PairKicks, data: Sequence[States], smoothness: float) -> Array:
    """Quadratic form of second differences of control points, in units of what a kick must do."""
    first = data[0]
    unit = first.change * float(first.masses.mean()) / (first.step * kicks.closest)
    unit *= kicks.closest**8 / kicks.kicks
    points = kicks.controls.shape[3]
    bent = np.diff(np.eye(points), n=2, axis=0)
    one = bent.T @ bent + _RIDGE * np.eye(points)
    size = kicks.controls.size + len(_drift_directions(kicks.kicks))
    whole = np.zeros((size, size))
    for begin in range(0, kicks.controls.size, points):
        whole[begin : begin + points, begin : begin + points] = one
    return whole * smoothness / unit**2
