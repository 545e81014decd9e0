"""Which orbit of a chart passes through a window of positions, and where on it the last frame is."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mlcore.errors import InvalidArgument
from mlcore.integrators.charts import Chart
from mlcore.md import Dataset

__all__ = ["Found", "Search"]

Array = npt.NDArray[np.float64]
_ENERGIES = 1001
_FINE = 41  # between three of them
_CANDIDATES = 6  # of one window
_NUMBERS = 4_000_000  # of one array while refining
_ROUNDS = 60


@dataclass(frozen=True, eq=False)
class Found:
    """An orbit: how far it misses the window, over its size, and its phase at the last frame."""

    miss: float
    frequency: float
    phase: float
    coefficients: Array


class Search:
    """A chart's orbits near the windows of some runs.

    For every energy of a fine grid the last position tells the phase but for its sign, so that two
    rows of trial orbits cover all; the closest ones are refined by least squares.

    Attributes:
        inside: (R,) which runs have masses and parameters of the chart's training.
    """

    def __init__(self, chart: Chart, window: Dataset) -> None:
        self.chart, self.times = chart, window.times - window.times[-1]
        self.x = window.positions[:, :, 0, 0]
        self.mass = window.masses[:, 0]
        self.inside = np.ones(len(window), dtype=bool)
        self.others: list[Array] = []  # mapped parameters
        for name, (low, high) in chart.ranges.items():
            values = self.mass if name == "mass" else _parameter(window, name)
            slack = 1e-9 * max(abs(low), abs(high))
            self.inside &= (values >= low - slack) & (values <= high + slack)
            if name != "mass":
                axis = chart.basis.axes[1 + len(self.others)]
                with np.errstate(invalid="ignore", divide="ignore"):
                    self.others.append(axis.unit(np.log(values) if low > 0 else values))

    def found(self) -> Iterator[tuple[int, Found]]:
        """(run, orbit) of all runs inside, several orbits of one run."""
        owner, u, phase = self._candidates()
        width = self.chart.shape.shape[1] * self.x.shape[1]
        chunk = max(1, _NUMBERS // width)
        for begin in range(0, len(owner), chunk):
            part = slice(begin, begin + chunk)
            for run, found in zip(
                owner[part], self._refined(owner[part], u[part], phase[part]), strict=True
            ):
                yield int(run), found

    def _candidates(self) -> tuple[npt.NDArray[np.intp], Array, Array]:
        """Runs, mapped energies and phases of orbits that nearly pass through the windows."""
        owners, energies, phases = [], [], []
        keys = np.column_stack([self.mass, *self.others])
        kept: dict[tuple[float, ...], tuple[Array, Array]] = {}
        for run in np.flatnonzero(self.inside):
            key = tuple(keys[run])
            if key not in kept:
                kept = {key: self._table(int(run))}
            close = _close(*kept[key], self.times, self.x[run])
            owners += [run] * len(close)
            energies += [u for _, u, _ in close]
            phases += [phase for _, _, phase in close]
        return np.array(owners, dtype=np.intp), np.array(energies), np.array(phases)

    def _rows(self, owner: npt.NDArray[np.intp], u: Array, slope: bool = False) -> Array:
        units = [u, *(values[owner] for values in self.others)]
        return self.chart.basis.rows(units, self.mass[owner], slope)

    def _table(self, run: int) -> tuple[Array, Array]:
        """Frequencies of the grid of energies, and shapes between their turning points."""
        u = np.linspace(-1, 1, _ENERGIES)
        rows = self._rows(np.full(_ENERGIES, run), u)
        coefficients = np.exp(rows @ self.chart.size)[:, None] * (rows @ self.chart.shape)
        size = max(512, 4 * coefficients.shape[1])
        spectrum = np.zeros((_ENERGIES, size // 2 + 1), dtype=np.complex128)
        spectrum[:, : coefficients.shape[1]] = 0.5 * size * coefficients
        spectrum[:, 0] *= 2
        half = np.fft.irfft(spectrum, size, axis=1)[:, : size // 2 + 1]
        return np.exp(rows @ self.chart.frequency) / np.sqrt(self.mass[run]), half

    def _refined(self, owner: npt.NDArray[np.intp], u: Array, phase: Array) -> Iterator[Found]:
        """Least squares in energy and phase (Levenberg and Marquardt), all candidates at once."""
        damping = np.full(len(u), 1e-3)
        residual, slopes = self._residuals(owner, u, phase)
        cost = (residual**2).sum(1)
        idle = np.zeros(len(u), dtype=int)
        for _ in range(_ROUNDS):
            now = np.flatnonzero(idle < 3)
            if len(now) == 0:
                break
            normal = np.einsum("qsi,qsj->qij", slopes[now], slopes[now])
            normal += damping[now, None, None] * normal * np.eye(2) + 1e-300 * np.eye(2)
            gradient = np.einsum("qsi,qs->qi", slopes[now], residual[now])
            step = -np.linalg.solve(normal, gradient[..., None])[..., 0]
            new_u, new_phase = np.clip(u[now] + step[:, 0], -1, 1), phase[now] + step[:, 1]
            new, new_slopes = self._residuals(owner[now], new_u, new_phase)
            new_cost = (new**2).sum(1)
            better = new_cost < cost[now]
            gain = better & (new_cost < 0.99 * cost[now])
            idle[now] = np.where(gain, 0, idle[now] + 1)
            damping[now] = np.clip(damping[now] * np.where(better, 0.1, 4.0), 1e-14, 1e8)
            took = now[better]
            u[took], phase[took], cost[took] = new_u[better], new_phase[better], new_cost[better]
            residual[took], slopes[took] = new[better], new_slopes[better]
        rows = self._rows(owner, u)
        frequency = np.exp(rows @ self.chart.frequency) / np.sqrt(self.mass[owner])
        size = np.exp(rows @ self.chart.size)
        coefficients = size[:, None] * (rows @ self.chart.shape)
        miss = np.abs(residual).max(1) / (2 * size)
        for q in range(len(u)):
            yield Found(float(miss[q]), float(frequency[q]), float(phase[q]), coefficients[q])

    def _residuals(
        self, owner: npt.NDArray[np.intp], u: Array, phase: Array
    ) -> tuple[Array, Array]:
        """(Q, S) and their slopes (Q, S, 2) in u and phase."""
        rows, changes = self._rows(owner, u), self._rows(owner, u, slope=True)
        frequency = np.exp(rows @ self.chart.frequency) / np.sqrt(self.mass[owner])
        size = np.exp(rows @ self.chart.size)[:, None]
        coefficients = size * (rows @ self.chart.shape)
        angle = phase[:, None] + frequency[:, None] * self.times
        k = np.arange(self.chart.shape.shape[1])
        turned = angle[..., None] * k
        cosines, sines = np.cos(turned), np.sin(turned)
        values = np.einsum("qsk,qk->qs", cosines, coefficients)
        by_phase = -np.einsum("qsk,qk->qs", sines, k * coefficients)
        grown = size * (changes @ self.chart.shape)
        grown += coefficients * (changes @ self.chart.size)[:, None]
        by_u = np.einsum("qsk,qk->qs", cosines, grown)
        by_u += by_phase * (frequency * (changes @ self.chart.frequency))[:, None] * self.times
        return values - self.x[owner], np.stack([by_u, by_phase], -1)


def _parameter(window: Dataset, name: str) -> Array:
    if name in window.parameters:
        return window.parameters[name]
    if name in window.fixed:
        return np.full(len(window), float(window.fixed[name]))
    raise InvalidArgument(f"window must tell the parameter {name!r}, which the training varied")


def _close(
    frequency: Array, half: Array, times: Array, x: Array
) -> list[tuple[float, float, float]]:
    """(miss, mapped energy, phase) of the best orbits of a table, looked at twice.

    Where the last position is near a turning point, or frames lie nearly half a period apart, misses
    change fast with the energy: the second look is at a finer grid about the best of the first.
    """
    u = np.linspace(-1, 1, len(half))
    found: list[tuple[float, float, float]] = []
    for k in sorted({k for _, k, _ in _lows(frequency, half, times, x)[:_CANDIDATES]}):
        low, high = max(k - 1, 0), min(k + 1, len(half) - 1)
        place = np.linspace(low, high, _FINE)
        below = np.minimum(place.astype(np.int64), high - 1)
        part = (place - below)[:, None]
        fine = (1 - part) * half[below] + part * half[below + 1]
        own = np.interp(place, np.arange(len(half)), frequency)
        energies = np.interp(place, np.arange(len(half)), u)
        found += [
            (miss, float(energies[q]), phase) for miss, q, phase in _lows(own, fine, times, x)
        ]
    return sorted(found)[:_CANDIDATES]


def _lows(frequency: Array, half: Array, times: Array, x: Array) -> list[tuple[float, int, float]]:
    """(miss, row, phase) of local minima over the rows of a table, best first."""
    phases = _phases(half, float(x[-1]))
    found = []
    for sign in (1, -1):
        angle = sign * phases[:, None] + frequency[:, None] * times
        miss = np.abs(_looked_up(half, angle) - x).max(1)
        miss[np.isnan(miss)] = np.inf
        padded = np.concatenate([[np.inf], miss, [np.inf]])
        rows = np.flatnonzero((miss <= padded[:-2]) & (miss <= padded[2:]) & np.isfinite(miss))
        found += [(float(miss[k]), int(k), float(sign * phases[k])) for k in rows]
    return sorted(found)


def _phases(half: Array, x: float) -> Array:
    """Phases in [0, pi] at which shapes, sampled from one turning point to the other, are at x.

    NaN for shapes that do not come there; the turning point for those that nearly do.
    """
    last = half.shape[1] - 1
    before = half >= x  # shapes fall from phase 0 to pi
    count = before.sum(1)
    k = np.clip(count, 1, last)
    rows = np.arange(len(half))
    a, b = half[rows, k - 1], half[rows, k]
    with np.errstate(divide="ignore", invalid="ignore"):
        place = k - 1 + (x - a) / (b - a)
    place[(count == 0) | (count > last)] = np.nan
    slack = 0.02 * (half[:, 0] - half[:, -1])
    place[(count == 0) & (x - half[:, 0] < slack)] = 0
    place[(count > last) & (half[:, -1] - x < slack)] = last
    return np.asarray(place * (np.pi / last))


def _looked_up(half: Array, angle: Array) -> Array:
    """Shapes at phases (Q, S) by linear interpolation; NaN where the phase is."""
    last = half.shape[1] - 1
    folded = np.abs(np.remainder(angle + np.pi, 2 * np.pi) - np.pi) * (last / np.pi)
    k = np.minimum(np.nan_to_num(folded).astype(np.int64), last - 1)
    rows = np.arange(len(half))[:, None]
    part = folded - k
    return np.asarray((1 - part) * half[rows, k] + part * half[rows, k + 1])
