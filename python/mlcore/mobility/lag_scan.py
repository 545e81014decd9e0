"""How a passive mobility depends on the lag, and whether it has a plateau.

At short lags the solvent's flow has not built up, at long ones pairs have changed their distance.
Only between the two, if anywhere, a passive estimate is the steady mobility.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mlcore.data.trajectory import Trajectory
from mlcore.errors import InvalidArgument
from mlcore.mobility.estimators import BinnedTheory, MobilityEstimate, passive_sums

__all__ = ["LagScan", "Plateau", "lag_scan"]

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class Plateau:
    """Lags between which a quantity is constant within errors, its mean there and the error."""

    first: float
    last: float
    value: float
    error: float


@dataclass(frozen=True, eq=False)
class LagScan:
    """Estimates at several lags.

    Attributes:
        lags: (n,) increasing.
        estimates: one `MobilityEstimate` per lag.
        self_mobility, self_error: (n,).
        pair_scale, pair_error: (n,) pair mobility of all bins beyond rmin as a multiple of a fixed
            shape: the theory given, else the mean over the lags.
        self_plateau, pair_plateau: where they are constant, or None.
        statement: the findings in words, one line for each.
    """

    lags: FloatArray
    estimates: tuple[MobilityEstimate, ...]
    self_mobility: FloatArray
    self_error: FloatArray
    pair_scale: FloatArray
    pair_error: FloatArray
    self_plateau: Plateau | None
    pair_plateau: Plateau | None
    statement: str

    def table(self) -> str:
        """Text table, one line per lag, with the statement below."""
        lines = [f"{'lag':>8} {'self':>12} {'+-':>10} {'pair scale':>12} {'+-':>10}"]
        columns = (self.lags, self.self_mobility, self.self_error, self.pair_scale, self.pair_error)
        for lag, own, own_error, pair, pair_error in zip(*columns, strict=True):
            lines.append(f"{lag:8g} {own:12.5g} {own_error:10.2g} {pair:12.4f} {pair_error:10.4f}")
        return "\n".join([*lines, self.statement])


def lag_scan(
    trajectories: Trajectory | Sequence[Trajectory],
    lags: Sequence[float],
    edges: ArrayLike | None,
    *,
    kT: float,
    kind: Literal["passive", "displacement-velocity"] = "passive",
    theory: Any = None,
    rmin: float = 0.0,
    span: float = 2.0,
    tolerance: float = 0.1,
    block: float | None = None,
    resamples: int = 1000,
    samples: int = 1000,
    seed: int = 0,
) -> LagScan:
    """Estimate at every lag and look for a plateau.

    A plateau is a window of at least three lags, the last at least `span` times the first, between
    any two of which the value changes by no more than two standard errors of that change (from the
    same resampled blocks, so common noise cancels), and whose changes are known to `tolerance` of
    the value: data too noisy to show a drift do not make a plateau.

    Args:
        trajectories, edges, kT, resamples, samples, seed: as for `passive_estimate`.
        lags: at least three times.
        kind: which estimator.
        theory: shape for the pair scale: a mobility, or a `BinnedTheory`.
        rmin: bins with a lower edge below are left out of the pair scale.
        block: duration of a block; by default a quarter of the shortest run.

    Raises:
        InvalidArgument: fewer than three lags, or what the estimators raise.
    """
    times = np.sort(np.asarray(lags, dtype=float))
    if times.ndim != 1 or len(times) < 3 or (np.diff(times) <= 0).any():
        raise InvalidArgument("lags should be at least three different times")
    if kind not in ("passive", "displacement-velocity"):
        raise InvalidArgument(f"kind should be passive or displacement-velocity, got {kind!r}")
    runs = [trajectories] if isinstance(trajectories, Trajectory) else list(trajectories)
    if block is None and runs:
        block = min(float(r.times[-1] - r.times[0]) for r in runs) / 4
    estimates, replicates = [], []
    for lag in times.tolist():
        sums = passive_sums(kind, runs, edges, lag, kT, block, samples, seed)
        estimates.append(sums.estimate(resamples, seed))
        replicates.append(sums.replicates(resamples, seed))
    own = np.array([e.self_mobility for e in estimates])
    own_replicates = np.array([r[:, 0] for r in replicates])
    pair, pair_replicates = _pair_scales(estimates, replicates, theory, rmin)
    searches = [
        _search("self mobility", times, own, own_replicates, span, tolerance),
        _search("pair scale", times, pair, pair_replicates, span, tolerance),
    ]
    return LagScan(
        lags=times,
        estimates=tuple(estimates),
        self_mobility=own,
        self_error=np.array([e.self_error for e in estimates]),
        pair_scale=pair,
        pair_error=_spread(pair_replicates),
        self_plateau=searches[0][0],
        pair_plateau=searches[1][0],
        statement="\n".join(text for _, text in searches),
    )


def _spread(replicates: FloatArray) -> FloatArray:
    """Standard deviation over the last axis, of the finite resamples; nan with fewer than two."""
    finite = np.isfinite(replicates)
    count = finite.sum(-1)
    safe = np.where(finite, replicates, 0.0)
    mean = safe.sum(-1) / np.maximum(count, 1)
    square = np.where(finite, (safe - mean[..., None]) ** 2, 0.0).sum(-1)
    return np.where(count > 1, np.sqrt(square / np.maximum(count - 1, 1)), np.nan)


def _pair_scales(
    estimates: Sequence[MobilityEstimate],
    replicates: Sequence[FloatArray],
    theory: Any,
    rmin: float,
) -> tuple[FloatArray, FloatArray]:
    """Amplitude of the pair parts along one shape, for all lags and resamples."""
    values = np.array([np.concatenate([e.par, e.perp]) for e in estimates])
    errors = np.array([np.concatenate([e.par_error, e.perp_error]) for e in estimates])
    near = np.tile(estimates[0].edges[:-1] < rmin - 1e-9 * abs(rmin), 2)
    used = ~near & np.isfinite(values).all(0) & (errors > 0).all(0)
    if not used.any():
        empty = np.full(len(estimates), np.nan)
        return empty, np.full((len(estimates), len(replicates[0])), np.nan)
    if theory is None:
        shape = values.mean(0)
    else:
        binned = theory if isinstance(theory, BinnedTheory) else estimates[0].theory(theory)
        shape = np.concatenate([binned.par, binned.perp])
    shape = shape[used]
    scales, resampled = [], []
    for k in range(len(estimates)):
        weight = shape / errors[k, used] ** 2
        norm = weight @ shape
        scales.append(values[k, used] @ weight / norm)
        resampled.append(replicates[k][:, 1:][:, used] @ weight / norm)
    return np.array(scales), np.array(resampled)


def _search(
    name: str,
    lags: FloatArray,
    values: FloatArray,
    replicates: FloatArray,
    span: float,
    tolerance: float,
) -> tuple[Plateau | None, str]:
    """The widest plateau (the earlier of equal ones) and what to say about it."""
    if not np.isfinite(values).all():
        return None, f"{name}: no pairs, nothing to judge"
    n = len(lags)
    change = values[:, None] - values[None]
    spread = _spread(replicates[:, None] - replicates[None])
    windows = [(i, j) for i in range(n) for j in range(i + 2, n) if lags[j] >= span * lags[i]]
    windows.sort(key=lambda w: (w[0] - w[1], w[0]))
    blurred = False
    for i, j in windows:
        part = np.s_[i : j + 1, i : j + 1]
        if (np.abs(change[part]) > 2 * spread[part]).any():
            continue
        mean = float(values[i : j + 1].mean())
        if spread[part].max() > tolerance * abs(mean):
            blurred = True
            continue
        error = float(_spread(replicates[i : j + 1].mean(axis=0)))
        found = Plateau(float(lags[i]), float(lags[j]), mean, error)
        text = f"{name}: plateau for lags {lags[i]:g} to {lags[j]:g}, {mean:.4g} +- {error:.2g}"
        return found, text
    if blurred:
        reason = f"changes with the lag are not known to {tolerance:.0%} of the value"
    else:
        drift = change[-1, -2] / values[-2]
        reason = f"between lags {lags[-2]:g} and {lags[-1]:g} it still changes by {drift:+.1%}"
    return None, f"{name}: no plateau; {reason}"
