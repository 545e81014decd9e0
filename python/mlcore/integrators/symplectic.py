"""Large steps in one dimension by a learned splitting: symplectic and reversible, whatever was learned.

A step is a palindrome of drifts and kicks (`splitting`); the force of every kick is a Chebyshev series in x
and in s = h^2 / m, and the drifts are learned, too. Learning begins with K equal leapfrogs in the potential
that conserves the energies of the runs, and goes on by least squares of one-step errors. No force of the
reference system is ever asked for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np
import numpy.typing as npt
from numpy.polynomial import chebyshev

from mlcore.arrays import integer, positive
from mlcore.dynamics import Report, reporter
from mlcore.errors import Error, FileFormatError, InvalidArgument
from mlcore.integrators.face import Frames, checked_request, datasets
from mlcore.integrators.kick_series import KickSeries, Pairs, refined, unit
from mlcore.integrators.saved import PathLike, Settings, read, tensor, write
from mlcore.integrators.seen import fingerprints
from mlcore.integrators.splitting import even
from mlcore.md import Dataset, named

__all__ = ["SymplecticIntegrator"]

Array = npt.NDArray[np.float64]
_OF_RUNS = ("x0", "v0", "mass", "seed")
_MARGIN = 0.03  # of the range of x, on either side, in which series are defined
_SLACK = 0.005  # of the range of x, by which kicks may lie beyond those of the training
_GAP = 0.05  # of the range of x that no frame need lie in
_SAME = 1e-9  # relative, of steps


class SymplecticIntegrator:
    """Steps of one particle in one dimension that conserve areas, turn round, and keep the energy.

    Args:
        kicks: of a step. The larger the step times the highest frequency, the more are needed: 10 reach
            rounding where the product is 2, 16 reach 1e-6 where it is 5.
        degree: of the forces in x.
        orders: highest power of s = h^2 / m, where several steps or masses are taught.
        tolerance: largest error of a step over the range of x that runs left out may show.
        pairs: successive frames that are fitted at most.
        iterations: of the fit at most.
        seed: of the choice of runs left out, and of pairs.

    Attributes:
        error: largest error of one step of runs left out (of those learned from where there are fewer
            than 14), over the range of x.
    """

    def __init__(
        self,
        kicks: int = 10,
        degree: int = 24,
        orders: int = 4,
        tolerance: float = 1e-5,
        pairs: int = 20000,
        iterations: int = 100,
        seed: int = 0,
    ) -> None:
        least = {"kicks": 1, "degree": 2, "orders": 0, "pairs": 100, "iterations": 1, "seed": 0}
        for name, low in least.items():
            if integer(name, locals()[name]) < low:
                raise InvalidArgument(f"{name} must be at least {low}, got {locals()[name]}")
        self.kicks, self.degree, self.orders = int(kicks), int(degree), int(orders)
        self.tolerance = positive("tolerance", tolerance)
        self.pairs, self.iterations, self.seed = int(pairs), int(iterations), int(seed)
        self.learned: KickSeries | None = None
        self.system, self.truth, self.error = "", "", np.inf
        self.fixed: Mapping[str, Any] = {}
        self.trained_on: tuple[str, ...] = ()
        self._potential = np.zeros(1)
        self._energies = self._reach = (0.0, 0.0)
        self._steps = np.zeros(0)
        self._between = False

    def fit(self, data: Dataset | Sequence[Dataset], *, progress: bool | Report = False) -> Self:
        """Learns from runs whose frames are one step apart.

        Args:
            data: runs of one system in one dimension, of one or several masses; a list of them where
                their steps differ. Runs should meet all of the range of x and of energies, and several
                values of h^2 / m should not lie too far apart: with `orders` + 3 of them or more, all
                between the least and the largest are learned, and one is left out to see that they are.
            progress: a bar, or a function of (iterations done, iterations in all).

        Raises:
            InvalidArgument: a run is none of these; names what is wrong.
            Error: steps left out of the fit are predicted worse than the tolerance.
        """
        parts = datasets(data)
        _check(parts)
        span = _widened(np.concatenate([p.positions.ravel() for p in parts]))
        potential, energies = _conserved(parts, span, self.degree)
        known = np.concatenate([np.full(len(p), p.interval**2) / p.masses[:, 0] for p in parts])
        steps = _distinct(known)
        orders = min(self.orders, len(steps) - 1)
        between = len(steps) >= orders + 3
        rng = np.random.default_rng(self.seed)
        out = _left_out(energies, known, steps if between else steps[:0], rng)
        taught, test = _pairs(parts, ~out, self.pairs, rng), _pairs(parts, out, self.pairs, rng)
        begin = self._beginning(potential, span, (float(steps[0]), float(steps[-1])), orders)
        with reporter(progress, f"{parts[0].system}: {self.kicks} kicks") as report:
            learned, reach = refined(begin, taught, self.iterations, report)
            error = _one_step(learned, test if len(test) else taught) / (span[1] - span[0])
            if between and error <= self.tolerance:  # a step left out was learned: now with it
                pairs = _pairs(parts, np.ones_like(out), self.pairs, rng)
                learned, reach = refined(begin, pairs, self.iterations, report)
        if not error <= self.tolerance:
            raise Error(
                f"a step of runs left out is {error:.1e} of the range of x off: give more runs or kicks, "
                "a higher degree, smaller steps (runs of several by order 8), or a larger tolerance"
            )
        self.learned, self.error, self._reach = learned, error, reach
        self._potential, self._steps, self._between = potential, steps, between
        self._energies = float(energies.min()), float(energies.max())
        self.system, self.fixed = parts[0].system, _parameters(parts[0])
        truths = {str(p.provenance.get("request", {}).get("truth", "verlet")) for p in parts}
        self.truth = " and ".join(sorted(truths))
        self.trained_on = tuple(mark for p in parts for mark in fingerprints(p))
        return self

    def _beginning(
        self, potential: Array, span: tuple[float, float], steps: tuple[float, float], orders: int
    ) -> KickSeries:
        """K equal leapfrogs."""
        force = -chebyshev.chebder(potential) * 2 / (span[1] - span[0])
        forces = np.zeros(((self.kicks + 1) // 2, self.degree + 1, orders + 1))
        forces[:, : len(force), 0] = force / self.kicks
        drifts = np.zeros((self.kicks // 2, orders + 1))
        drifts[:, 0] = even(self.kicks)
        return KickSeries(forces, drifts, self.kicks, span, steps)

    def rollout(self, window: Dataset, n: int, interval: float | None = None) -> Frames:
        """Frames after a window, of which the last positions, velocities and masses are read.

        Args:
            window: (R, S) frames; the system is that of the training.
            n: frames.
            interval: time between them, one or more learned steps; that of the window by default.

        Returns:
            Frames; runs of energies, steps or masses that were not taught, and those that leave the
            learned range of x, are refused with the reason, and NaN.

        Raises:
            InvalidArgument: the window is of another system.
            Error: nothing was learned yet.
        """
        n, interval = checked_request(window, n, interval)
        learned = self._ready(window)
        x, v, m = window.positions[:, -1, 0, 0], window.velocities[:, -1, 0, 0], window.masses[:, 0]
        parts, refused = self._parts(m, interval)
        refused = [r or self._energy(x[k], v[k], m[k]) for k, r in enumerate(refused)]
        found = np.full((2, len(window), n), np.nan)
        good = np.array([not reason for reason in refused], dtype=bool)
        for count in np.unique(parts[good]):
            runs = np.flatnonzero(good & (parts == count))
            h = interval / count
            made, lost = self._advance(learned, x[runs], h * v[runs], h * h / m[runs], n, count)
            made[1] /= h
            for place in np.flatnonzero(lost >= 0):
                refused[runs[place]] = (
                    f"run {runs[place]} leaves the learned range of x at t = {h * lost[place]:g}"
                )
                made[:, place] = np.nan
            found[:, runs] = made
        times = np.asarray(interval * np.arange(1, n + 1))
        x_v = found[..., None, None]
        return Frames(times, x_v[0], x_v[1], tuple(refused))

    def step(self, window: Dataset, interval: float | None = None) -> Frames:
        """The next frame: `rollout(window, 1, interval)`."""
        return self.rollout(window, 1, interval)

    def _advance(
        self, learned: KickSeries, x: Array, w: Array, s: Array, n: int, parts: int
    ) -> tuple[Array, npt.NDArray[np.intp]]:
        """(2, R, n) positions and displacements, and (R,) the step in which a run was lost, or -1."""
        low, high = self._reach
        slack = _SLACK * (high - low)
        low, high = low - slack, high + slack
        after = learned.stepper(s)
        made = np.empty((2, len(x), n))
        lost = np.full(len(x), -1, dtype=np.intp)
        with np.errstate(all="ignore"):
            for number in range(n * parts):
                x, w, visited = after(x, w)
                if not (visited.min() >= low and visited.max() <= high):
                    out = ~((visited >= low) & (visited <= high)).all(0)
                    lost[out & (lost < 0)] = number + 1
                    x, w = np.where(out, 0.5 * (low + high), x), np.where(out, 0.0, w)
                made[:, :, number // parts] = x, w
        return made, lost

    def _ready(self, window: Dataset) -> KickSeries:
        if self.learned is None:
            raise Error("the integrator has learned nothing yet: call fit first")
        if window.system != self.system:
            raise InvalidArgument(f"window is of {window.system}, the integrator of {self.system}")
        if _parameters(window) != dict(self.fixed):
            raise InvalidArgument(
                f"window is of {window.system} with {_parameters(window)}, the integrator of "
                f"{dict(self.fixed)}"
            )
        return self.learned

    def _parts(self, m: Array, interval: float) -> tuple[npt.NDArray[np.intp], list[str]]:
        """Steps of each run in an interval, the fewest that were learned; reasons where there are none."""
        low, high = self._steps[0], self._steps[-1]
        parts, refused = np.ones(len(m), dtype=np.intp), []
        for run, mass in enumerate(m):
            whole = interval**2 / mass
            fewest = max(1, int(np.ceil(np.sqrt(whole / high) * (1 - _SAME))))
            most = max(fewest, int(np.sqrt(whole / low) * (1 + _SAME)))
            counts = np.arange(fewest, min(most, fewest + _TRIED) + 1)
            fits = self._taught(whole / counts**2)
            refused.append("" if fits.any() else self._untaught(run, interval, mass))
            parts[run] = counts[fits.argmax()]
        return parts, refused

    def _taught(self, s: Array) -> npt.NDArray[np.bool_]:
        if self._between:
            inside = (s >= self._steps[0] * (1 - _SAME)) & (s <= self._steps[-1] * (1 + _SAME))
            return np.asarray(inside)
        near = np.abs(s[:, None] - self._steps) <= 2 * _SAME * self._steps
        return np.asarray(near.any(1))

    def _untaught(self, run: int, interval: float, mass: float) -> str:
        known = ", ".join(f"{s:g}" for s in self._steps)
        if self._between:
            known = f"{self._steps[0]:g} to {self._steps[-1]:g}"
        return (
            f"run {run} of mass {mass:g}: no whole number of learned steps makes {interval:g}: "
            f"h^2 / m must be {known}"
        )

    def _energy(self, x: float, v: float, m: float) -> str:
        assert self.learned is not None
        place = float(unit(x, *self.learned.span))
        energy = 0.5 * m * v * v + float(chebyshev.chebval(place, self._potential))
        low, high = self._energies
        slack = 1e-3 * (high - low)
        if abs(place) <= 1 and low - slack <= energy <= high + slack:
            return ""
        return f"x = {x:g}, v = {v:g} lies outside the positions and energies of the training"

    def save(self, path: PathLike) -> None:
        """One safetensors file, whole or not at all.

        Raises:
            Error: nothing was learned yet.
        """
        if self.learned is None:
            raise Error("the integrator has learned nothing yet: call fit first")
        settings = {name: getattr(self, name) for name in _SETTINGS} | {
            "fixed": dict(self.fixed),
            "trained_on": self.trained_on,
            "between": int(self._between),
        }
        tensors = {
            "forces": self.learned.forces,
            "drifts": self.learned.drifts,
            "span": np.array(self.learned.span),
            "potential": self._potential,
            "steps": self._steps,
            "energies": np.array(self._energies),
            "reach": np.array(self._reach),
        }
        write(path, "symplectic", tensors, settings)

    @classmethod
    def load(cls, path: PathLike) -> Self:
        """What `save` wrote.

        Raises:
            FileFormatError: the file is none of those, or damaged; names what is wrong.
        """
        tensors, told = read(path, "symplectic")
        try:
            made = cls(**{name: told.integer(name) for name in _INTEGERS})
            made.tolerance = positive("tolerance", told.number("tolerance"))
            made.system, made.fixed = told.text("system"), told.table("fixed")
            system = named(made.system, **made.fixed)
            made.fixed = dict(system.parameters)
            if system.dim != 1:
                raise InvalidArgument(f"system {made.system} is not of one dimension")
        except InvalidArgument as error:
            raise FileFormatError(f"{told.where}: {error}") from error
        made.truth, made.trained_on = told.text("truth"), told.texts("trained_on")
        made.error, made._between = told.number("error"), bool(told.integer("between"))
        made._restore(path, tensors, told)
        return made

    def _restore(self, path: PathLike, tensors: Mapping[str, Array], told: Settings) -> None:
        half = (self.kicks + 1) // 2
        forces = tensor(path, tensors, "forces", (half, self.degree + 1, -1))
        drifts = tensor(path, tensors, "drifts", (self.kicks // 2, forces.shape[2]))
        self._potential = tensor(path, tensors, "potential", (self.degree + 1,))
        self._steps = tensor(path, tensors, "steps", (-1,))
        ranges = {}
        for name in ("span", "energies", "reach"):
            low, high = tensor(path, tensors, name, (2,)).tolist()
            if not low < high:
                raise FileFormatError(f"{told.where}: tensor {name!r} must hold a range")
            ranges[name] = low, high
        s = self._steps
        if not len(s) or s[0] <= 0 or (np.diff(s) <= 0).any():
            raise FileFormatError(f"{told.where}: tensor 'steps' must be positive and increase")
        if not forces.shape[2]:
            raise FileFormatError(f"{told.where}: tensor 'forces' is empty")
        steps = float(s[0]), float(s[-1])
        self._energies, self._reach = ranges["energies"], ranges["reach"]
        self.learned = KickSeries(forces, drifts, self.kicks, ranges["span"], steps)

    def __repr__(self) -> str:
        return (
            f"SymplecticIntegrator({self.system or 'not fitted'}: {self.kicks} kicks of degree "
            f"{self.degree} ({self.error:.0e}))"
        )


_TRIED = 10_000  # numbers of steps that may make an interval
_INTEGERS = ("kicks", "degree", "orders", "pairs", "iterations", "seed")
_SETTINGS = (*_INTEGERS, "tolerance", "error", "system", "truth")


# ---------------------------------------------------------------------------------------- learning
def _check(parts: Sequence[Dataset]) -> None:
    for part in parts:
        if part.positions.shape[2:] != (1, 1) or part.positions.shape[1] < 2:
            raise InvalidArgument(
                "data must hold one particle in one dimension and 2 frames or more, got "
                f"{part.positions.shape}"
            )
        same = part.system == parts[0].system and _parameters(part) == _parameters(parts[0])
        if not same:
            raise InvalidArgument("data must be of one system with the same parameters")
        if not (part.masses > 0).all():
            raise InvalidArgument("data must have positive masses")
    x = np.sort(np.concatenate([p.positions.ravel() for p in parts]))
    if x[0] == x[-1]:
        raise InvalidArgument(f"data must move: all frames are at x = {x[0]:g}")
    gap = int(np.diff(x).argmax())
    if x[gap + 1] - x[gap] > _GAP * (x[-1] - x[0]):
        raise InvalidArgument(
            f"data leave x from {x[gap]:.4g} to {x[gap + 1]:.4g} unvisited: give more runs, or learn "
            "either side by itself"
        )


def _parameters(data: Dataset) -> dict[str, Any]:
    """Those of the system, which all runs share."""
    for name, values in data.parameters.items():
        if name not in _OF_RUNS and np.ptp(values) > 0:
            raise InvalidArgument(f"runs must be of one system, got several values of {name}")
    return dict(data.system_of(0).parameters)


def _widened(x: Array) -> tuple[float, float]:
    margin = _MARGIN * float(np.ptp(x))
    return float(x.min()) - margin, float(x.max()) + margin


def _conserved(
    parts: Sequence[Dataset], span: tuple[float, float], degree: int
) -> tuple[Array, Array]:
    """The potential (a series) for which m v^2 / 2 + V is the same in all frames of a run; energies (R,).

    Least squares of what is left when the mean over each run is taken out.
    """
    rows, kinetic, runs = [], [], []
    for part in parts:
        every = max(1, part.positions.shape[1] // 100)
        x, v = part.positions[:, ::every, 0, 0], part.velocities[:, ::every, 0, 0]
        rows.append(chebyshev.chebvander(unit(x, *span), degree)[..., 1:])
        kinetic.append(0.5 * part.masses * v * v)
    matrix = np.concatenate([(r - r.mean(1, keepdims=True)).reshape(-1, degree) for r in rows])
    right = np.concatenate([(k - k.mean(1, keepdims=True)).ravel() for k in kinetic])
    found = np.linalg.lstsq(matrix, -right, rcond=1e-13)[0]
    runs = [(k + r @ found).mean(1) for r, k in zip(rows, kinetic, strict=True)]
    return np.concatenate([[0.0], found]), np.concatenate(runs)


def _distinct(values: Array) -> Array:
    ordered = np.sort(values)
    first = np.concatenate([[True], np.diff(ordered) > _SAME * ordered[1:]])
    return np.asarray(ordered[first])


def _left_out(
    energies: Array, known: Array, steps: Array, rng: np.random.Generator
) -> npt.NDArray[np.bool_]:
    """(R,) every tenth run, none of the least or largest energies; and all of one s = h^2 / m of many."""
    inner = np.argsort(energies)[2:-2]
    out = np.zeros(len(energies), dtype=bool)
    out[rng.permutation(inner)[: len(inner) // 10]] = True
    if len(steps):
        s = steps[1 + (steps[2:] - steps[:-2]).argmax()]  # with the widest gap
        out |= np.abs(known - s) <= 2 * _SAME * s
    return out


def _pairs(
    parts: Sequence[Dataset], chosen: npt.NDArray[np.bool_], count: int, rng: np.random.Generator
) -> Pairs:
    """Successive frames of the chosen runs, some of them where there are more than count."""
    columns: list[list[Array]] = []
    begin = 0
    for part in parts:
        own = chosen[begin : begin + len(part)]
        begin += len(part)
        x = part.positions[own, :, 0, 0]
        w = part.interval * part.velocities[own, :, 0, 0]
        s = np.broadcast_to(part.interval**2 / part.masses[own], x[:, 1:].shape)
        columns.append([a.ravel() for a in (x[:, :-1], w[:, :-1], s, x[:, 1:], w[:, 1:])])
    pairs = Pairs(*(np.concatenate(column) for column in zip(*columns, strict=True)))
    if len(pairs) <= count:
        return pairs
    return pairs.some(np.sort(rng.choice(len(pairs), count, replace=False)))


def _one_step(learned: KickSeries, pairs: Pairs) -> float:
    """Largest error of a position, or of a displacement."""
    with np.errstate(all="ignore"):
        x, w, _ = learned.stepper(pairs.s)(pairs.x, pairs.w)
    return float(np.maximum(np.abs(x - pairs.next_x), np.abs(w - pairs.next_w)).max())
