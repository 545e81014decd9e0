"""What trajectories show of a mobility: mean-square displacement, F(k,t) and D(k).

Errors are block bootstraps over pieces of trajectories, one standard deviation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise, product

import numpy as np
import numpy.typing as npt

from mlcore.errors import InvalidArgument

__all__ = [
    "Curve",
    "DiffusionSpectrum",
    "diffusion_spectrum",
    "hydrodynamic_function",
    "mean_square_displacement",
    "smallest_wavevectors",
    "structure_factor",
]

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Curve:
    """A measured function: abscissa ``x``, ``value`` and one standard deviation, all (n,)."""

    x: Array
    value: Array
    error: Array


@dataclass(frozen=True)
class DiffusionSpectrum:
    """Collective diffusion at the wave numbers ``k`` (K,).

    ``value`` and ``error`` (K,): D(k), length^2 / time. ``scattering`` and ``scattering_error``
    (K, T): F(k, t) at ``lags`` (T,). ``static`` (K,): S(k) = F(k, 0). ``window``: the two lags
    between which D(k) was taken.
    """

    k: Array
    value: Array
    error: Array
    lags: Array
    scattering: Array
    scattering_error: Array
    static: Array
    window: tuple[float, float]


def mean_square_displacement(
    runs: Sequence[Array], interval: float, lags: Sequence[int], *, blocks: int = 4, seed: int = 0
) -> Curve:
    """Mean-square displacement <|x(t) - x(0)|^2> over particles, starts and runs.

    Args:
        runs: (T, n, 3) unwrapped positions of each run, frames at equal intervals.
        interval: time between frames.
        lags: whole numbers of frames, >= 1.
        blocks: pieces of a run which are resampled for the error.
        seed: of the bootstrap.

    Raises:
        InvalidArgument: a run is too short for a lag, or an argument is out of range.
    """
    _check(runs, interval, lags, blocks)
    sums = np.array([_squares(run, lags, blocks) for run in runs])
    samples = _resampled(sums.reshape(-1, len(lags), 2), seed)
    return Curve(
        np.array(lags, float) * interval,
        _ratio(sums.sum((0, 1))),
        _ratio(samples).std(axis=0, ddof=1),
    )


def smallest_wavevectors(cell: npt.ArrayLike, count: int = 3) -> list[Array]:
    """The reciprocal-lattice vectors of a periodic cell (3, 3), rows, by length.

    Returns:
        ``count`` groups (m, 3) of equal length, ascending, one of each pair k, -k.
    """
    box = np.asarray(cell, dtype=float)
    if box.shape != (3, 3) or abs(np.linalg.det(box)) < 1e-300:
        raise InvalidArgument(f"cell must be three independent rows (3, 3), got {box.tolist()}")
    numbers = np.array([n for n in product(range(-3, 4), repeat=3) if n > (0, 0, 0)], float)
    vectors = 2 * np.pi * numbers @ np.linalg.inv(box).T
    lengths = np.linalg.norm(vectors, axis=1)
    groups: list[Array] = []
    for length in np.unique(np.round(lengths / lengths.min(), 9))[:count]:
        groups.append(vectors[np.isclose(lengths / lengths.min(), length, rtol=1e-8)])
    return groups


def structure_factor(runs: Sequence[Array], wavevectors: Sequence[Array]) -> Array:
    """S(k) = <|rho_k|^2> / n for every group of wave vectors; (K,)."""
    rho = [_densities(run, wavevectors) for run in runs]
    return np.array(
        [np.mean([np.mean(np.abs(r[g]) ** 2) for r in rho]) for g in range(len(wavevectors))]
    )


def diffusion_spectrum(
    runs: Sequence[Array],
    interval: float,
    wavevectors: Sequence[Array],
    lags: Sequence[int],
    window: tuple[int, int],
    *,
    static: npt.ArrayLike | None = None,
    blocks: int = 4,
    seed: int = 0,
) -> DiffusionSpectrum:
    """D(k) = -d ln F(k,t) / dt / k^2 with F(k,t) = <rho_k(t) rho_-k(0)> / n.

    F is taken as S(k) - <|rho_k(t) - rho_k(0)|^2> / 2n, the same by stationarity but free of the
    slow noise of S(k) in the drop, which alone carries the dynamics. The derivative is the
    difference over the window, so that what a solvent does before the window drops out.

    Args:
        runs: (T, n, 3) positions of each run, frames at equal intervals.
        interval: time between frames.
        wavevectors: groups (m, 3) of equal length, see `smallest_wavevectors`.
        lags: whole numbers of frames, >= 1, where F is reported.
        window: two lags, first < second; 0 is allowed as the first.
        static: (K,) S(k) known better from elsewhere; None takes it from the runs.
        blocks: pieces of a run which are resampled for the error.
        seed: of the bootstrap.

    Raises:
        InvalidArgument: a run is too short, or an argument is out of range.
    """
    first, second = window
    if not 0 <= first < second:
        raise InvalidArgument(f"window must be two ascending lags >= 0, got {window}")
    wanted = [*lags, *([first] if first else []), second]
    _check(runs, interval, wanted, blocks)
    every = sorted(set(wanted))
    sums = np.array([_drops(run, wavevectors, every, blocks) for run in runs])
    pieces = sums.reshape(-1, *sums.shape[2:])
    known = None if static is None else np.asarray(static, dtype=float)
    full = _scattering(pieces.sum(0), known)
    samples = _scattering(_resampled(pieces, seed), known)
    k = np.array([np.linalg.norm(group[0]) for group in wavevectors])
    at = [0 if lag == 0 else 1 + every.index(lag) for lag in (first, second)]
    span = (second - first) * interval
    rows = [1 + every.index(lag) for lag in lags]
    return DiffusionSpectrum(
        k,
        _slope(full, at, span) / k**2,
        (_slope(samples, at, span) / k**2).std(axis=0, ddof=1),
        np.array(lags, float) * interval,
        full[:, rows],
        samples[..., rows].std(axis=0, ddof=1),
        full[:, 0],
        (first * interval, second * interval),
    )


def hydrodynamic_function(
    configurations: Sequence[Array], matrices: Sequence[Array], wavevectors: Sequence[Array]
) -> tuple[Array, Array]:
    """H(k) = <sum_ij k.M_ij.k exp(ik(r_i - r_j))> / (n k^2): D(k) = kBT H(k) / S(k) at short times.

    Args:
        configurations: (n, 3) positions each.
        matrices: the mobility matrix (3n, 3n) of each configuration.
        wavevectors: groups (m, 3) of equal length.

    Returns:
        H(k) and its standard error over the configurations, both (K,).
    """
    values = np.array(
        [
            [_projected(x, matrix, group) for group in wavevectors]
            for x, matrix in zip(configurations, matrices, strict=True)
        ]
    )
    return values.mean(0), values.std(0, ddof=1) / np.sqrt(len(values))


def _projected(x: Array, matrix: Array, group: Array) -> float:
    k = np.linalg.norm(group[0])
    unit = group / k
    waves = (np.exp(1j * x @ group.T)[:, None, :] * unit.T[None]).reshape(-1, len(group))
    return float(np.einsum("ag,ag->", waves.conj(), matrix @ waves).real / (len(x) * len(group)))


def _check(runs: Sequence[Array], interval: float, lags: Sequence[int], blocks: int) -> None:
    if not runs or any(run.ndim != 3 or run.shape[2] != 3 for run in runs):
        raise InvalidArgument("runs must be a non-empty sequence of arrays (frames, n, 3)")
    if not interval > 0:
        raise InvalidArgument(f"interval must be > 0, got {interval}")
    if blocks < 1 or len(runs) * blocks < 2:
        raise InvalidArgument(f"blocks must give two pieces at least, got {blocks}")
    shortest = min(len(run) for run in runs)
    if min(lags) < 1 or max(lags) + blocks > shortest:
        raise InvalidArgument(
            f"lags must lie in 1..{shortest - blocks} frames for runs of {shortest} frames, "
            f"got {min(lags)}..{max(lags)}"
        )


def _pieces(count: int, blocks: int) -> list[slice]:
    cuts = np.linspace(0, count, blocks + 1).astype(int)
    return [slice(a, b) for a, b in pairwise(cuts)]


def _squares(run: Array, lags: Sequence[int], blocks: int) -> Array:
    """(blocks, lags, 2): sums of squared displacements, and their number."""
    out = np.empty((blocks, len(lags), 2))
    for column, lag in enumerate(lags):
        squares = ((run[lag:] - run[:-lag]) ** 2).sum(2).mean(1)
        for row, piece in enumerate(_pieces(len(squares), blocks)):
            out[row, column] = squares[piece].sum(), len(squares[piece])
    return out


def _densities(run: Array, wavevectors: Sequence[Array]) -> list[npt.NDArray[np.complex128]]:
    """Per group (T, m): rho_k / sqrt(n)."""
    scale = 1 / np.sqrt(run.shape[1])
    return [np.exp(1j * (run @ group.T)).sum(1) * scale for group in wavevectors]


def _drops(run: Array, wavevectors: Sequence[Array], lags: Sequence[int], blocks: int) -> Array:
    """(blocks, K, 1 + lags, 2): sums of |rho|^2 and of |rho(t) - rho(0)|^2 / 2, and numbers."""
    out = np.empty((blocks, len(wavevectors), 1 + len(lags), 2))
    for group, rho in enumerate(_densities(run, wavevectors)):
        series = [np.abs(rho) ** 2]
        series += [0.5 * np.abs(rho[lag:] - rho[:-lag]) ** 2 for lag in lags]
        for column, values in enumerate(series):
            for row, piece in enumerate(_pieces(len(values), blocks)):
                out[row, group, column] = values[piece].sum(), values[piece].size
    return out


def _scattering(sums: Array, static: Array | None) -> Array:
    """(..., K, 1 + lags): F(k, 0), F(k, t)."""
    means = _ratio(sums)
    out = np.empty_like(means)
    out[..., 0] = means[..., 0] if static is None else static
    out[..., 1:] = out[..., :1] - means[..., 1:]
    return out


def _slope(scattering: Array, at: Sequence[int], span: float) -> Array:
    first, second = scattering[..., at[0]], scattering[..., at[1]]
    return -np.log(second / first) / span


def _ratio(sums: Array) -> Array:
    return np.asarray(sums[..., 0] / sums[..., 1])


def _resampled(pieces: Array, seed: int, samples: int = 200) -> Array:
    draws = np.random.default_rng(seed).multinomial(
        len(pieces), np.full(len(pieces), 1 / len(pieces)), size=samples
    )
    return np.asarray(np.tensordot(draws, pieces, axes=1))
