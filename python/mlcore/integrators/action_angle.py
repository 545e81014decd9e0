"""One-dimensional motion by learned frequencies and shapes of orbits.

In action-angle variables bound motion is uniform: phase = phase_0 + omega(E) t and x = X(E, phase).
Both functions are learned from runs, by spectral least squares, so that a frame at any time costs the
same and errors grow by the error of the frequency alone. Source of the recipe: V. I. Arnold,
Mathematical Methods of Classical Mechanics, section 50; the accuracy of frequencies decides, so they
are regressed in double precision by Chebyshev polynomials of a variable that takes separatrices out.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt
from numpy.polynomial import chebyshev

from mlcore.arrays import integer, positive
from mlcore.errors import Error, FileFormatError, InvalidArgument
from mlcore.integrators.charts import (
    Axis,
    Basis,
    Bounds,
    Chart,
    barriers_of,
    bounds_of,
    potential_of,
    variables,
)
from mlcore.integrators.face import Frames, checked_request
from mlcore.integrators.periods import Orbit, orbit_of
from mlcore.integrators.saved import PathLike, Settings, read, tensor, write
from mlcore.integrators.search import Search
from mlcore.integrators.seen import fingerprints
from mlcore.md import Dataset, named

__all__ = ["ActionAngleIntegrator", "Motion"]

Array = npt.NDArray[np.float64]
_OTHER_DEGREES = (2, 4, 7, 10)  # of parameters
_LEARNED = ("frequency", "size", "shape")
_TERMS = 1e6  # of a file's products of polynomials
_DEGREES = (2, 4, 6, 8, 12, 16, 20, 24, 32, 40, 56, 72, 96, 128, 180, 256, 340, 420)


@dataclass(frozen=True, eq=False)
class Motion:
    """Orbits of R runs; a frame at any time costs the same.

    Attributes:
        frequency: (R,) angular.
        phase: (R,) at time 0, that of the last frame of the window.
        coefficients: (K,) for each run: x = sum_k coefficients[k] cos(k phase).
        refused: a reason for each run, empty where there is an orbit.
    """

    frequency: Array
    phase: Array
    coefficients: tuple[Array, ...]
    refused: tuple[str, ...]

    def frames(self, times: npt.ArrayLike) -> Frames:
        """Positions and velocities dx/dt at times (n,) after the window; NaN in refused runs."""
        t = np.atleast_1d(np.asarray(times, dtype=np.float64))
        x, v = np.full((2, len(self.phase), len(t)), np.nan)
        for run, reason in enumerate(self.refused):
            if reason:
                continue
            angle = self.phase[run] + self.frequency[run] * t
            own, inner = self.coefficients[run], chebyshev.chebder(self.coefficients[run])
            x[run] = chebyshev.chebval(np.cos(angle), own)
            v[run] = -self.frequency[run] * np.sin(angle) * chebyshev.chebval(np.cos(angle), inner)
        shape = (len(self.phase), len(t), 1, 1)
        return Frames(t, x.reshape(shape), v.reshape(shape), self.refused)


class ActionAngleIntegrator:
    """Bound motion of one particle in one dimension, at any step and any time.

    Args:
        harmonics: Fourier coefficients of a shape at most; those below rounding are dropped.
        tolerance: largest distance, over the orbit's size, at which an orbit counts as passing through
            a window; so well must runs left out of the fit be predicted, too.
    """

    def __init__(self, harmonics: int = 256, tolerance: float = 1e-6) -> None:
        if integer("harmonics", harmonics) < 4:
            raise InvalidArgument(f"harmonics must be at least 4, got {harmonics}")
        self.harmonics, self.tolerance = int(harmonics), positive("tolerance", tolerance)
        self.charts: tuple[Chart, ...] = ()
        self.system = self.truth = ""
        self.fixed: Mapping[str, Any] = {}
        self.trained_on: tuple[str, ...] = ()

    def fit(self, data: Dataset) -> Self:
        """Learns from runs of a few periods or more.

        Args:
            data: bound runs of one system in one dimension. Frames must be close: 20 or more in the
                shortest time in which the force changes. Energies may be anywhere between
                separatrices, denser towards the ends of their range (as Chebyshev's nodes) for the
                last digits.

        Raises:
            InvalidArgument: a run is no such run; names it.
            Error: an orbit's shape needs more harmonics or closer frames, or runs are too few: what
                is predicted for those left out is further off than the tolerance.
        """
        if data.positions.shape[2:] != (1, 1):
            raise InvalidArgument(
                f"data must hold one particle in one dimension, got {data.positions.shape[2:]}"
            )
        orbits = [self._orbit(data, run) for run in range(len(data))]
        members = _families(data, orbits)
        charts = [_learn(data, orbits, bounds, runs) for bounds, runs in members.items()]
        for chart in charts:
            if chart.error > self.tolerance:
                raise Error(
                    f"orbits {chart.bounds.name} are {chart.error:.1e} off where runs were left out: "
                    "give more runs, at mlcore.integrators.starts, or a larger tolerance"
                )
        self.charts = tuple(sorted(charts, key=lambda c: (c.bounds.low, c.bounds.name)))
        self.system, self.fixed = data.system, dict(data.fixed)
        self.truth = str(data.provenance.get("request", {}).get("truth", "verlet"))
        self.trained_on = fingerprints(data)
        return self

    def save(self, path: PathLike) -> None:
        """One safetensors file, whole or not at all.

        Raises:
            Error: nothing was learned yet.
        """
        if not self.charts:
            raise Error("the integrator has learned nothing yet: call fit first")
        settings = {
            "harmonics": self.harmonics,
            "tolerance": self.tolerance,
            "system": self.system,
            "truth": self.truth,
            "fixed": dict(self.fixed),
            "trained_on": self.trained_on,
            "charts": [_told(chart) for chart in self.charts],
        }
        tensors = {
            f"{name}_{k}": np.asarray(getattr(chart, name))
            for k, chart in enumerate(self.charts)
            for name in _LEARNED
        }
        write(path, "action_angle", tensors, settings)

    @classmethod
    def load(cls, path: PathLike) -> Self:
        """What `save` wrote.

        Raises:
            FileFormatError: the file is none of those, or damaged; names what is wrong.
        """
        tensors, settings = read(path, "action_angle")
        try:
            made = cls(settings.integer("harmonics"), settings.number("tolerance"))
            made.system, made.fixed = settings.text("system"), settings.table("fixed")
            named(made.system, **made.fixed)
        except InvalidArgument as error:
            raise FileFormatError(f"{settings.where}: {error}") from error
        made.truth, made.trained_on = settings.text("truth"), settings.texts("trained_on")
        made.charts = tuple(
            _restored(path, tensors, k, part) for k, part in enumerate(settings.parts("charts"))
        )
        if not made.charts:
            raise FileFormatError(f"{settings.where}: charts must hold one or more")
        return made

    def _orbit(self, data: Dataset, run: int) -> Orbit:
        x = data.positions[run, :, 0, 0]
        orbit = orbit_of(x, data.interval, self.harmonics) if len(x) > 40 else None
        if orbit is None:
            raise InvalidArgument(
                f"run {run} of data does not hold two periods: unbound or too short"
            )
        size = float(np.ptp(x))
        if orbit.noise > 1e-7 * size:
            raise Error(
                f"run {run} of data is {orbit.noise:.1e} off its {self.harmonics} harmonics: it needs "
                "more of them, closer frames, or is not periodic"
            )
        return orbit

    def rollout(self, window: Dataset, n: int, interval: float | None = None) -> Frames:
        """Frames after a window, through the one trained orbit that passes through all its positions.

        Args:
            window: (R, S) frames of which positions and masses are read, S of at least 3. Velocities
                are not read: those of velocity Verlet differ from dx/dt by order dt^2.
            n: frames.
            interval: time between them; that of the window by default.

        Returns:
            Frames; a run whose orbit was not trained is refused with the reason, and NaN.

        Raises:
            InvalidArgument: the window is of another system or too short.
            Error: nothing was learned yet.
        """
        n, interval = checked_request(window, n, interval)
        return self.motion(window).frames(interval * np.arange(1, n + 1))

    def step(self, window: Dataset, interval: float | None = None) -> Frames:
        """The next frame: `rollout(window, 1, interval)`."""
        return self.rollout(window, 1, interval)

    def motion(self, window: Dataset) -> Motion:
        """The trained orbits of some windows, to be asked for any time; see `rollout`."""
        self._check(window)
        runs = len(window)
        frequency, phase = np.full((2, runs), np.nan)
        shapes: list[Array] = [np.zeros(1)] * runs
        best, within = np.full(runs, np.inf), np.zeros(runs, dtype=bool)
        rivals: list[list[float]] = [[] for _ in range(runs)]
        for chart in self.charts:
            search = Search(chart, window)
            within |= search.inside
            for run, found in search.found():
                if found.miss <= self.tolerance:
                    rivals[run].append(found.frequency)
                if found.miss < best[run]:
                    best[run], frequency[run], phase[run] = found.miss, found.frequency, found.phase
                    shapes[run] = found.coefficients
        refused = tuple(
            self._refusal(window, run, bool(within[run]), best[run], rivals[run])
            for run in range(runs)
        )
        return Motion(frequency, phase, tuple(shapes), refused)

    def _refusal(
        self, window: Dataset, run: int, within: bool, miss: float, rivals: Sequence[float]
    ) -> str:
        if not within:
            return (
                f"mass or parameters of run {run} lie outside the training: {self._trained(window)}"
            )
        if miss > self.tolerance:
            return (
                f"no trained orbit passes through the window of run {run}: the nearest misses by "
                f"{miss:.1e} of its size (energies outside the training, or near a separatrix)"
            )
        if np.ptp(rivals) > 1e-4 * max(rivals):
            return f"several trained orbits pass through the window of run {run}: give more frames"
        return ""

    def _trained(self, window: Dataset) -> str:
        ranges: dict[str, tuple[float, float]] = {}
        for chart in self.charts:
            for name, (low, high) in chart.ranges.items():
                known = ranges.get(name, (low, high))
                ranges[name] = min(low, known[0]), max(high, known[1])
        return ", ".join(f"{name} {low:g} to {high:g}" for name, (low, high) in ranges.items())

    def _check(self, window: Dataset) -> None:
        if not self.charts:
            raise Error("the integrator has learned nothing yet: call fit first")
        if window.system != self.system:
            raise InvalidArgument(f"window is of {window.system}, the integrator of {self.system}")
        if window.positions.shape[1] < 3:
            raise InvalidArgument(
                f"window must hold at least 3 frames, got {window.positions.shape[1]}"
            )

    def __repr__(self) -> str:
        parts = ", ".join(
            f"{len(c.frequency)} x {c.shape.shape[1]} ({c.error:.0e})" for c in self.charts
        )
        return f"ActionAngleIntegrator({self.system or 'not fitted'}: {parts})"


# ------------------------------------------------------------------------------------------- files
def _told(chart: Chart) -> dict[str, Any]:
    return {
        "name": chart.bounds.name,
        "low": chart.bounds.low,
        "high": None if chart.bounds.high == np.inf else chart.bounds.high,
        "variable": chart.variable,
        "axes": [{"low": a.low, "high": a.high, "degree": a.degree} for a in chart.basis.axes],
        "masses": chart.basis.masses,
        "mass_scale": chart.basis.mass_scale,
        "ranges": [{"name": n, "low": r[0], "high": r[1]} for n, r in chart.ranges.items()],
        "error": chart.error,
    }


def _restored(path: PathLike, tensors: Mapping[str, Array], k: int, told: Settings) -> Chart:
    high = np.inf if told.values.get("high") is None else told.number("high")
    axes = tuple(Axis(*_span(part), part.integer("degree")) for part in told.parts("axes"))
    ranges = {part.text("name"): _span(part) for part in told.parts("ranges")}
    basis = Basis(axes, told.integer("masses"), told.number("mass_scale"))
    if not 0 < len(axes) == len(ranges) or "mass" not in ranges or basis.masses > 2:
        raise FileFormatError(
            f"{told.where}: axes, ranges (with mass) and masses (0 to 2) do not fit each other"
        )
    if basis.mass_scale <= 0 or np.prod([axis.degree + 1.0 for axis in axes]) > _TERMS:
        raise FileFormatError(f"{told.where}: mass_scale must be positive, degrees moderate")
    terms = len(basis.terms)
    shape = tensor(path, tensors, f"shape_{k}", (terms, -1))
    if shape.shape[1] == 0:
        raise FileFormatError(f"{told.where}: the shape has no harmonics")
    return Chart(
        Bounds(told.text("name"), told.number("low"), high),
        told.text("variable"),
        basis,
        tensor(path, tensors, f"frequency_{k}", (terms,)),
        tensor(path, tensors, f"size_{k}", (terms,)),
        shape,
        ranges,
        told.number("error"),
    )


def _span(told: Settings) -> tuple[float, float]:
    low, high = told.number("low"), told.number("high")
    if low > high:
        raise FileFormatError(f"{told.where}: low {low:g} lies above high {high:g}")
    return low, high


# ---------------------------------------------------------------------------------------- learning
def _families(data: Dataset, orbits: Sequence[Orbit]) -> dict[Bounds, list[int]]:
    """Runs by the barriers they pass over. Barriers may depend on parameters, whose runs share them."""
    found: dict[Bounds, list[int]] = {}
    keys: dict[str, Bounds] = {}
    of_run = [tuple(data.system_of(run).parameters.items()) for run in range(len(data))]
    for key in dict.fromkeys(of_run):
        runs = [run for run, other in enumerate(of_run) if other == key]
        x = data.positions[runs]
        margin = 0.01 * float(np.ptp(x))
        system = named(data.system, **dict(key))
        barriers = barriers_of(system, float(x.min()) - margin, float(x.max()) + margin)
        for run in runs:
            low, high = _turning(orbits[run])
            bounds = bounds_of(system, barriers, low, high)
            first = keys.setdefault(bounds.name, bounds)
            found.setdefault(first, []).append(run)
    return found


def _turning(orbit: Orbit) -> tuple[float, float]:
    signs = (-1.0) ** np.arange(len(orbit.coefficients))
    ends = float(orbit.coefficients.sum()), float((signs * orbit.coefficients).sum())
    return min(ends), max(ends)


def _learn(data: Dataset, orbits: Sequence[Orbit], bounds: Bounds, runs: list[int]) -> Chart:
    mass = data.masses[runs, 0]
    varied = {
        name: values[runs]
        for name, values in data.parameters.items()
        if name not in ("x0", "v0", "mass") and np.ptp(values[runs]) > 0
    }
    logs = [np.log(values) if (values > 0).all() else values for values in varied.values()]
    energies = np.array(
        [potential_of(data.system_of(r))(np.array([_turning(orbits[r])[1]]))[0] for r in runs]
    )
    omega = np.log([orbits[r].frequency for r in runs]) + 0.5 * np.log(mass)
    shape = np.array([orbits[r].coefficients for r in runs])
    size = np.array([0.5 * np.ptp(_turning(orbits[r])) for r in runs])
    shape /= size[:, None]
    kept = np.flatnonzero(np.abs(shape).max(0) > 1e-17)[-1] + 1
    targets = np.column_stack([omega, np.log(size), shape[:, :kept]])
    error, name, basis, rows = _chosen(bounds, energies, logs, mass, targets)
    solved = np.linalg.lstsq(rows, targets, rcond=1e-15)[0]
    ranges = {"mass": (float(mass.min()), float(mass.max()))}
    ranges |= {k: (float(v.min()), float(v.max())) for k, v in varied.items()}
    return Chart(bounds, name, basis, solved[:, 0], solved[:, 1], solved[:, 2:], ranges, error)


def _chosen(
    bounds: Bounds, energies: Array, others: Sequence[Array], mass: Array, targets: Array
) -> tuple[float, str, Basis, Array]:
    """Variable and degrees that predict runs left out best, their error, and the fit's matrix."""
    best: tuple[float, str, Basis, Array] | None = None
    for name, function in variables(bounds, energies).items():
        arguments = [function(energies), *others]
        for degree, other in itertools.product(_DEGREES, _OTHER_DEGREES if others else (0,)):
            basis = _basis(arguments, mass, degree, other)
            units = [axis.unit(v) for axis, v in zip(basis.axes, arguments, strict=True)]
            rows = basis.rows(units, mass)
            if rows.shape[1] > 0.6 * len(mass):
                continue
            error = _left_out(rows, targets)
            if best is None or error < 0.8 * best[0]:
                best = error, name, basis, rows
    if best is None:
        raise Error(f"{len(mass)} runs {bounds.name} are too few to learn from")
    return best


def _basis(arguments: Sequence[Array], mass: Array, degree: int, other: int) -> Basis:
    first, *others = arguments
    axes = [Axis.over(first, degree)]
    axes += [Axis.over(v, min(other, len(np.unique(v)) - 1)) for v in others]
    return Basis(tuple(axes), min(2, len(np.unique(mass)) - 1), float(mass.min()))


def _left_out(rows: Array, targets: Array) -> float:
    """Largest error in every fifth run, fitted to the others; extremes are always fitted.

    Of logarithms of frequency and size, and of shapes over their size.
    """
    order = np.argsort(targets[:, 0])
    test = np.zeros(len(targets), dtype=bool)
    test[order[2:-2:5]] = True
    if rows.shape[1] > (~test).sum() or not test.any():
        return np.inf
    solved = np.linalg.lstsq(rows[~test], targets[~test], rcond=1e-15)[0]
    return float(np.abs(rows[test] @ solved - targets[test]).max())
