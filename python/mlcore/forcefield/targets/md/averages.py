"""Means of what fluctuates, with errors that know of correlation in time."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

__all__ = ["BLOCKS", "block_error", "inefficiency", "mean_error", "pooled"]

Array = npt.NDArray[np.float64]

BLOCKS = 8
"""Into how many stretches of time a run is cut, where only that gives an error."""


def inefficiency(series: npt.ArrayLike) -> float:
    """How many samples of ``series`` (S,) count as one, at least 1.

    1 + 2 sum of the autocorrelation over the first lags at which sums of two neighbours stay
    positive and do not grow. C. J. Geyer, Statist. Sci. 7, 473 (1992), section 3.3.
    """
    x = np.asarray(series, dtype=np.float64)
    x = x - x.mean()
    count = len(x)
    variance = float(x @ x)
    if count < 4 or variance <= 1e-26 * count:
        return 1.0
    spectrum = np.fft.rfft(x, 2 * count)
    correlation = np.fft.irfft(spectrum * spectrum.conj())[:count] / variance
    pairs = correlation[: count // 2 * 2].reshape(-1, 2).sum(axis=1)
    negative = np.flatnonzero(pairs <= 0)
    pairs = np.minimum.accumulate(pairs[: negative[0] if len(negative) else len(pairs)])
    return max(1.0, 2 * float(pairs.sum()) - 1)


def mean_error(series: npt.ArrayLike) -> tuple[float, float]:
    """Mean of a correlated series (S,) and its standard error."""
    x = np.asarray(series, dtype=np.float64)
    if len(x) < 2:
        return float(x.mean()), float("nan")
    return float(x.mean()), float(np.sqrt(x.var(ddof=1) * inefficiency(x) / len(x)))


def block_error(blocks: npt.ArrayLike) -> Array:
    """Standard error of the mean of what each of B stretches of time gave, (B, ...) -> (...)."""
    x = np.asarray(blocks, dtype=np.float64)
    if len(x) < 2:
        return np.full(x.shape[1:], np.nan)
    error: Array = x.std(axis=0, ddof=1) / np.sqrt(len(x))
    return error


def pooled(found: Sequence[tuple[npt.ArrayLike, npt.ArrayLike]]) -> tuple[Array, Array]:
    """Mean of (value, error) of independent repeats, and its error."""
    values = np.array([np.asarray(value, dtype=np.float64) for value, _ in found])
    errors = np.array([np.asarray(error, dtype=np.float64) for _, error in found])
    return values.mean(axis=0), np.sqrt((errors**2).sum(axis=0)) / len(found)
