"""What trajectories are judged by: functions of arrays alone.

Frames x, v have the shape (..., T, n, d): T frames of n particles in d dimensions, for one run or many.
Lengths, times and energies are those of the system.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mlcore.arrays import integer, positive
from mlcore.errors import InvalidArgument
from mlcore.neighbors import neighbor_list

__all__ = [
    "Diffusion",
    "Drift",
    "Equipartition",
    "Growth",
    "angular_momentum",
    "diffusion",
    "drift",
    "equipartition",
    "growth",
    "horizon",
    "kinetic_energy",
    "mean_difference",
    "mean_square_displacement",
    "momentum",
    "pair_distances",
    "pair_distribution",
    "r_squared",
    "separation",
    "temperature",
    "unwrapped",
    "velocity_autocorrelation",
]

Array = npt.NDArray[np.float64]
_NUMBERS = 1 << 22  # transformed at once
_ALL_PAIRS = 200  # particles up to which every pair is looked at


# ------------------------------------------------------------------------------- errors of one run
def separation(x: npt.ArrayLike, y: npt.ArrayLike, box: float | None = None) -> Array:
    """Mean over particles of the distance between two frames (arXiv:2004.06493, Eq 17).

    Args:
        x: (..., n, d).
        y: of the same shape.
        box: edge of a periodic cube: distances to the nearest image.

    Returns:
        (...,); in one dimension of one particle this is |x - y|.
    """
    apart = _array("x", x) - _array("y", y)
    if box is not None:
        apart = apart - box * np.round(apart / box)
    return np.asarray(np.sqrt((apart * apart).sum(-1)).mean(-1))


def horizon(times: npt.ArrayLike, error: npt.ArrayLike, limit: float = 0.1) -> Array:
    """First time at which an error exceeds a limit, or is no number; infinite where none does.

    Args:
        times: (T,).
        error: (..., T).
        limit: of the error.
    """
    t, e = _array("times", times), _array("error", error)
    crossed = ~(e <= limit)
    first = crossed.argmax(-1)
    return np.where(crossed.any(-1), t[first], np.inf)


@dataclass(frozen=True, eq=False)
class Drift:
    """How a conserved value changes along runs.

    Attributes:
        fitted: (...,) slope of the straight line through the values, per unit of time.
        largest: (...,) largest distance from the first value.
    """

    fitted: Array
    largest: Array


def drift(times: npt.ArrayLike, values: npt.ArrayLike, first: npt.ArrayLike | None = None) -> Drift:
    """Fitted and largest change of values (..., T).

    Args:
        times: (T,), two or more.
        values: (..., T).
        first: (...,) the true value; that of the first frame by default.
    """
    t, v = _array("times", times), _array("values", values)
    if len(t) < 2 or v.shape[-1] != len(t):
        raise InvalidArgument(f"values must hold {len(t)} >= 2 frames, got the shape {v.shape}")
    start = v[..., 0] if first is None else _array("first", first)
    centred = t - t.mean()
    slope = (v * centred).sum(-1) / (centred * centred).sum()
    return Drift(np.asarray(slope), np.abs(v - start[..., None]).max(-1))


@dataclass(frozen=True)
class Growth:
    """How an error grows while it is small.

    Attributes:
        law: "exponential", error ~ exp(rate t), or "power", error ~ t^exponent: the one that is nearer.
        rate: of the exponential fit.
        exponent: of the power fit: 1 where phases drift, as in regular motion.
        misfit: root mean square distances of log(error) from the two fits.
    """

    law: str
    rate: float
    exponent: float
    misfit: tuple[float, float]


def growth(times: npt.ArrayLike, error: npt.ArrayLike, limit: float = 0.1) -> Growth | None:
    """Exponential against linear growth of an error, from its first value until it exceeds a limit.

    Args:
        times: (T,), positive.
        error: (T,) or (R, T); of runs the geometric mean is taken, until the first one exceeds.
        limit: of the error.

    Returns:
        None where fewer than six frames, or less than a factor of three, lie below the limit.
    """
    t, e = _array("times", times), np.atleast_2d(_array("error", error))
    usable = np.asarray(((e > 0) & (e <= limit)).all(0))
    last = len(t) if usable.all() else int(np.argmin(usable | (np.arange(len(t)) < _first(usable))))
    chosen = slice(_first(usable), last)
    t, logs = t[chosen], np.log(np.where(e > 0, e, 1.0))[:, chosen].mean(0)
    if len(t) < 6 or np.ptp(logs) < np.log(3):
        return None
    (rate, by_time), (exponent, by_power) = _line(t, logs), _line(np.log(t), logs)
    law = "exponential" if by_time < by_power else "power"
    return Growth(law, rate, exponent, (by_time, by_power))


def _first(usable: npt.NDArray[np.bool_]) -> int:
    return int(usable.argmax()) if usable.any() else len(usable)


def _line(x: Array, y: Array) -> tuple[float, float]:
    """Slope of the straight line through points, and their distance from it."""
    slope, offset = np.polyfit(x, y, 1)
    return float(slope), float(np.sqrt(np.mean((slope * x + offset - y) ** 2)))


def r_squared(predicted: npt.ArrayLike, truth: npt.ArrayLike) -> float:
    """1 - sum (predicted - truth)^2 / sum truth^2: 1 is perfect, 0 as good as predicting zeros."""
    p, t = _array("predicted", predicted), _array("truth", truth)
    return float(1 - ((p - t) ** 2).sum() / (t * t).sum())


# ------------------------------------------------------------------------------ motion of particles
def kinetic_energy(v: npt.ArrayLike, masses: npt.ArrayLike) -> Array:
    """(..., T) of velocities (..., T, n, d) and masses (..., n)."""
    velocities, m = _array("v", v), _array("masses", masses)
    return np.asarray(0.5 * (m[..., None, :] * (velocities**2).sum(-1)).sum(-1))


def momentum(v: npt.ArrayLike, masses: npt.ArrayLike) -> Array:
    """(..., T, d) of velocities (..., T, n, d) and masses (..., n)."""
    velocities, m = _array("v", v), _array("masses", masses)
    return np.asarray((m[..., None, :, None] * velocities).sum(-2))


def angular_momentum(x: npt.ArrayLike, v: npt.ArrayLike, masses: npt.ArrayLike) -> Array:
    """(..., T, 3) about the origin, of positions and velocities (..., T, n, 3) and masses (..., n)."""
    turned = np.cross(_array("x", x), _array("v", v))
    return np.asarray((_array("masses", masses)[..., None, :, None] * turned).sum(-2))


def temperature(v: npt.ArrayLike, masses: npt.ArrayLike, conserved: int = 0) -> Array:
    """2 K / (n d - conserved), (..., T).

    Args:
        v: velocities (..., T, n, d).
        masses: (..., n).
        conserved: components of the momentum that are: degrees of freedom without motion.
    """
    velocities = _array("v", v)
    freedom = velocities.shape[-1] * velocities.shape[-2] - conserved
    if freedom < 1:
        raise InvalidArgument(f"conserved must leave degrees of freedom, got {conserved}")
    return np.asarray(2 * kinetic_energy(velocities, masses) / freedom)


@dataclass(frozen=True, eq=False)
class Equipartition:
    """Kinetic temperatures m <v^2> of parts of a system, over that of all.

    Attributes:
        axes: (d,).
        particles: (n,).
        groups: by mass.
    """

    axes: Array
    particles: Array
    groups: dict[float, float]

    @property
    def worst(self) -> float:
        """Largest distance from 1 of axes and groups of masses."""
        parts = [*self.axes.tolist(), *self.groups.values()]
        return float(max(abs(part - 1) for part in parts))


def equipartition(v: npt.ArrayLike, masses: npt.ArrayLike) -> Equipartition:
    """By axis, particle and mass, over frames and runs; the mean velocity of each frame is left in.

    Args:
        v: velocities (..., T, n, d).
        masses: (..., n).
    """
    velocities, m = _array("v", v), _array("masses", masses)
    twice = m[..., None, :, None] * velocities**2
    n, d = twice.shape[-2:]
    rows = twice.reshape(-1, n, d)
    whole = rows.mean()
    of_run = np.moveaxis(twice, -3, 0).mean(0).reshape(-1, n, d).mean(-1)  # (R, n)
    kinds = np.broadcast_to(m, of_run.shape if m.ndim > 1 else (len(of_run), n)).reshape(-1)
    values = of_run.reshape(-1)
    groups = {float(kind): float(values[kinds == kind].mean() / whole) for kind in np.unique(kinds)}
    return Equipartition(rows.mean((0, 1)) / whole, rows.mean((0, 2)) / whole, groups)


def unwrapped(x: npt.ArrayLike, box: float | None) -> Array:
    """Frames (..., T, n, d) joined by the shortest steps between them, if they were wrapped or not."""
    frames = _array("x", x)
    if box is None:
        return frames
    steps = np.diff(frames, axis=-3)
    crossings = np.cumsum(-box * np.round(steps / box), axis=-3)
    return np.concatenate([frames[..., :1, :, :], frames[..., 1:, :, :] + crossings], -3)


def velocity_autocorrelation(v: npt.ArrayLike, lags: int) -> Array:
    """(..., lags) <v(0) . v(t)> / <v . v> over particles and all origins, at 0, 1, ... frames.

    NaN where nothing moves.

    Args:
        v: velocities (..., T, n, d).
        lags: how many, at most T.
    """
    velocities = _array("v", v)
    frames = _lags(velocities, lags)
    found = _correlated(velocities)[..., :lags] / (frames - np.arange(lags))
    return np.asarray(found / np.where(found[..., :1] > 0, found[..., :1], np.nan))


def mean_square_displacement(x: npt.ArrayLike, lags: int) -> Array:
    """(..., lags) <|x(t) - x(0)|^2> over particles and all origins, at 0, 1, ... frames.

    Args:
        x: unwrapped positions (..., T, n, d).
        lags: how many, at most T.
    """
    frames = _array("x", x)
    count = _lags(frames, lags)
    centred = frames - frames.mean(-3, keepdims=True)  # for the digits of the difference
    squares = (centred**2).sum(-1).mean(-1)
    running = np.cumsum(np.concatenate([np.zeros((*squares.shape[:-1], 1)), squares], -1), -1)
    k = np.arange(lags)
    ends = running[..., count - k] + running[..., -1:] - running[..., k]
    mixed = _correlated(centred)[..., :lags]
    return np.asarray(np.maximum((ends - 2 * mixed) / (count - k), 0.0))


def _lags(frames: Array, lags: int) -> int:
    count = frames.shape[-3]
    if not 1 <= integer("lags", lags) <= count:
        raise InvalidArgument(f"lags must lie in 1..{count}, got {lags}")
    return int(count)


def _correlated(values: Array) -> Array:
    """(..., T) sums over origins of the mean over particles of a(0) . a(t), some columns at a time."""
    count, particles = values.shape[-3:-1]
    size = 1 << (2 * count - 1).bit_length()
    runs = values.reshape(-1, count, particles * values.shape[-1])
    some = max(1, _NUMBERS // size)
    power = np.zeros((len(runs), size // 2 + 1))
    for run, rows in enumerate(runs):
        for begin in range(0, rows.shape[1], some):
            spectrum = np.fft.rfft(rows[:, begin : begin + some], size, axis=0)
            power[run] += (spectrum.real**2 + spectrum.imag**2).sum(1)
    found = np.fft.irfft(power / particles, size, axis=-1)[:, :count]
    return np.asarray(found.reshape(*values.shape[:-3], count))


@dataclass(frozen=True)
class Diffusion:
    """Slope of a mean square displacement over 2 d.

    Attributes:
        value: of the mean over runs.
        error: its standard error over runs; NaN for one run.
    """

    value: float
    error: float


def diffusion(lags: npt.ArrayLike, msd: npt.ArrayLike, d: int) -> Diffusion:
    """From the second half of the lags.

    Args:
        lags: (K,) times.
        msd: (K,) or (R, K).
        d: dimensions.
    """
    t, rows = _array("lags", lags), np.atleast_2d(_array("msd", msd))
    half = len(t) // 2
    if len(t) - half < 2:
        raise InvalidArgument(f"lags must be four or more, got {len(t)}")
    slopes = np.polyfit(t[half:], rows[:, half:].T, 1)[0] / (2 * d)
    error = float(slopes.std(ddof=1) / np.sqrt(len(slopes))) if len(slopes) > 1 else float("nan")
    return Diffusion(float(slopes.mean()), error)


# -------------------------------------------------------------------------------------- structure
def pair_distances(x: npt.ArrayLike, reach: float, box: float | None = None) -> Array:
    """Distances below `reach` of all pairs in one frame (n, d); of nearest images in a box.

    Args:
        x: (n, d).
        reach: at most half the box.
        box: edge of a periodic cube.
    """
    frame = _array("x", x)
    if box is not None and positive("reach", reach) > 0.5 * box * (1 + 1e-12):
        raise InvalidArgument(f"reach must be at most half the box {box:g}, got {reach:g}")
    n, d = frame.shape
    if n > _ALL_PAIRS and d == 3:
        cell = None if box is None else np.full(3, box)
        return np.asarray(
            neighbor_list("d", frame, reach, cell, box is not None, half=True, sorted=False)
        )
    i, j = np.triu_indices(n, 1)
    apart = frame[i] - frame[j]
    if box is not None:
        apart = apart - box * np.round(apart / box)
    distances = np.sqrt((apart * apart).sum(-1))
    return np.asarray(distances[distances < reach])


def pair_distribution(
    x: npt.ArrayLike,
    edges: npt.ArrayLike,
    box: float | None = None,
    cell: npt.ArrayLike | None = None,
) -> tuple[Array, Array]:
    """Distances of pairs over frames (T, n, 3).

    Args:
        x: (T, n, 3) positions.
        edges: (B + 1,) of bins of the distance, the last at most half the box.
        box: edge of a periodic cube.
        cell: (3, 3) of any other periodic space, one lattice vector per row: every image counts.

    Returns:
        (B,) middles of the bins, and in periodic space g(r), 1 for an ideal gas of n particles; in open space
        the density of probability of a pair's distance, per unit of length.
    """
    frames, bins = _array("x", x), _array("edges", edges)
    if frames.ndim != 3 or frames.shape[-2] < 2:
        raise InvalidArgument(f"x must be frames (T, n, d) of n >= 2, got {frames.shape}")
    counts = np.zeros(len(bins) - 1)
    rows = None if cell is None else _array("cell", cell)
    reach = float(bins[-1])
    for frame in frames:
        found = (
            pair_distances(frame, reach, box)
            if rows is None
            else neighbor_list("d", frame, reach, rows, True, half=True, sorted=False)
        )
        counts += np.histogram(found, bins)[0]
    volume = None if box is None else box**3
    if rows is not None:
        volume = float(abs(np.linalg.det(rows)))
    n, d = frames.shape[1:]
    share = counts / (len(frames) * n * (n - 1) / 2)
    middles = 0.5 * (bins[1:] + bins[:-1])
    if volume is None or d != 3:
        return middles, share / np.diff(bins)
    return middles, share * volume / (4 / 3 * np.pi * np.diff(bins**3))


def mean_difference(a: npt.ArrayLike, b: npt.ArrayLike) -> float:
    """L1 distance of two curves on the same equal bins, over the width of all: mean |a - b|."""
    return float(np.abs(_array("a", a) - _array("b", b)).mean())


def _array(name: str, values: npt.ArrayLike) -> Array:
    try:
        return np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError):
        raise InvalidArgument(f"{name} must be an array of numbers") from None
