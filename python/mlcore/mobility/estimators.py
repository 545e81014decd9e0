"""Mobilities from trajectories, by distance bin, with block-bootstrap error bars.

Three estimators of the mobility M of <V> = M F:

* `active_estimate`: regression of the velocities of all particles on the known forces;
* `passive_estimate`: <dX dX^T>/(2 kT tau) of free motion (Einstein);
* `displacement_velocity_estimate`: <(X(t+tau) - X(t-tau))/2 V(t)^T>/kT (Green and Kubo).

All return a `MobilityEstimate`: self part, parallel and perpendicular pair parts in distance bins.
"Parallel" is u.M_ij.u with u the direction of the nearest image of the pair, "perpendicular" is
(tr M_ij - u.M_ij.u)/2. Errors are one standard error from resampling blocks of the trajectories.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mlcore.data.geometry import minimum_image
from mlcore.data.trajectory import Trajectory
from mlcore.errors import InvalidArgument
from mlcore.mobility.estimate import BinnedTheory, ChiSquare, Kind, MobilityEstimate
from mlcore.mobility.intervals import (
    Interactions,
    active_intervals,
    checked_runs,
    force_segments,
    frames_in,
)

__all__ = [
    "WCA",
    "BinnedTheory",
    "BlockSums",
    "ChiSquare",
    "Interactions",
    "MobilityEstimate",
    "active_estimate",
    "displacement_velocity_estimate",
    "force_segments",
    "passive_estimate",
    "passive_sums",
]

FloatArray = NDArray[np.float64]

PAIRS_AT_ONCE = 200_000
SINGULAR = 1e-6
"""Smallest eigenvalue of the design's correlation matrix, relative to the largest, that is solved.
Forces are often printed with three decimals, so an exact zero may show as 1e-7."""


# ---------------------------------------------------------------------------------- known forces
@dataclass(frozen=True)
class WCA:
    """Weeks-Chandler-Andersen repulsion: Lennard-Jones cut and shifted at 2^(1/6) sigma.

    Source: J. D. Weeks, D. Chandler, H. C. Andersen, J. Chem. Phys. 54 (1971) 5237.
    """

    sigma: float
    epsilon: float = 1.0

    def __call__(
        self, positions: FloatArray, cell: FloatArray | None, pbc: NDArray[np.bool_] | None = None
    ) -> FloatArray:
        """Forces (T, N, 3) on particles at positions (T, N, 3)."""
        n = positions.shape[1]
        i, j = np.triu_indices(n, 1)
        force = np.zeros_like(positions)
        for part in _chunks(len(positions), len(i)):
            x = positions[part]
            d = minimum_image(x[:, i] - x[:, j], cell, pbc)
            square = (d * d).sum(-1)
            t, p = np.nonzero(square < 2 ** (1 / 3) * self.sigma**2)
            s2 = square[t, p]
            s6 = (self.sigma**2 / s2) ** 3
            f = (24 * self.epsilon * (2 * s6 * s6 - s6) / s2)[:, None] * d[t, p]
            np.add.at(force[part], (t, i[p]), f)
            np.add.at(force[part], (t, j[p]), -f)
        return force


# ------------------------------------------------------------------------------- shared machinery
def _chunks(frames: int, per_frame: int) -> Iterator[slice]:
    size = max(1, PAIRS_AT_ONCE // max(per_frame, 1))
    for start in range(0, frames, size):
        yield slice(start, min(frames, start + size))


def _checked_edges(edges: ArrayLike | None) -> FloatArray:
    if edges is None:
        return np.zeros(1)
    array = np.asarray(edges, dtype=float)
    good = array.ndim == 1 and len(array) >= 2 and np.isfinite(array).all()
    if not good or array[0] < 0 or (np.diff(array) <= 0).any():
        raise InvalidArgument("edges should be at least two increasing distances, none negative")
    return array


@dataclass
class _Pairs:
    """Binned sums over pairs, and a uniform random sample of pair vectors per bin."""

    edges: FloatArray
    samples: int
    rng: np.random.Generator

    def __post_init__(self) -> None:
        bins = len(self.edges) - 1
        self.counts = np.zeros(bins, dtype=np.int64)
        self.distance = np.zeros(bins)
        self.vectors: list[FloatArray] = [np.empty((0, 3)) for _ in range(bins)]
        self._keys: list[FloatArray] = [np.empty(0) for _ in range(bins)]

    def bins_of(self, r: FloatArray) -> NDArray[np.intp]:
        """Bin of every distance; -1 or B when outside."""
        return np.asarray(np.searchsorted(self.edges, r, side="right") - 1)

    def add(self, d: FloatArray, r: FloatArray, which: NDArray[np.intp]) -> None:
        """Count pairs with vectors d (m,3), lengths r and bins `which`."""
        for b in range(len(self.counts)):
            here = np.flatnonzero(which == b)
            self.counts[b] += len(here)
            self.distance[b] += r[here].sum()
            # the pairs with the smallest of independent random keys are a uniform sample
            keys = np.concatenate([self._keys[b], self.rng.random(len(here))])
            vectors = np.concatenate([self.vectors[b], d[here]])
            if len(keys) > self.samples:
                keep = np.argpartition(keys, self.samples)[: self.samples]
                keys, vectors = keys[keep], vectors[keep]
            self._keys[b], self.vectors[b] = keys, vectors

    def mean_distance(self) -> FloatArray:
        mean = np.full(len(self.counts), np.nan)
        np.divide(self.distance, self.counts, out=mean, where=self.counts > 0)
        return mean


def _resampling(blocks: int, resamples: int, seed: int) -> FloatArray:
    """(R, blocks) how often each block stands in each resample."""
    if blocks < 2:
        raise InvalidArgument(
            "error bars need at least 2 blocks: give more or longer trajectories, "
            "or a shorter block"
        )
    if resamples < 20:
        raise InvalidArgument(f"resamples should be at least 20, got {resamples}")
    rng = np.random.default_rng(seed)
    return rng.multinomial(blocks, np.full(blocks, 1 / blocks), size=resamples).astype(float)


def _covariance(replicates: FloatArray, blocks: int) -> FloatArray:
    """Covariance of resampled parameter vectors, ignoring resamples in which a bin is empty.

    Resampling n blocks gives (n-1)/n of the variance on average, even for a plain mean.
    """
    whole = replicates[np.isfinite(replicates).all(axis=1)]
    if len(whole) < 20:
        return np.full((replicates.shape[1],) * 2, np.nan)
    return np.atleast_2d(np.cov(whole.T)) * blocks / (blocks - 1)


def _result(
    values: FloatArray,
    replicates: FloatArray,
    pairs: _Pairs,
    *,
    kind: Kind,
    lag: float,
    kT: float,
    cell: FloatArray | None,
    blocks: int,
) -> MobilityEstimate:
    bins = len(pairs.counts)
    known = np.isfinite(values)
    covariance = np.full((len(values),) * 2, np.nan)
    covariance[np.ix_(known, known)] = _covariance(replicates[:, known], blocks)
    error = np.sqrt(np.diagonal(covariance))
    return MobilityEstimate(
        edges=pairs.edges,
        r=pairs.mean_distance(),
        self_mobility=float(values[0]),
        self_error=float(error[0]),
        par=values[1 : 1 + bins],
        par_error=error[1 : 1 + bins],
        perp=values[1 + bins :],
        perp_error=error[1 + bins :],
        counts=pairs.counts,
        covariance=covariance,
        kind=kind,
        lag=float(lag),
        kT=float(kT),
        cell=cell,
        directions=tuple(pairs.vectors),
        blocks=blocks,
    )


# --------------------------------------------------------------------------------------- active
def active_estimate(
    trajectories: Trajectory | Sequence[Trajectory],
    edges: ArrayLike | None,
    *,
    lag: float,
    skip: float = 0.0,
    interactions: Interactions | None = None,
    block: float | None = None,
    kT: float = float("nan"),
    resamples: int = 1000,
    samples: int = 1000,
    seed: int = 0,
) -> MobilityEstimate:
    """Mobility from the response to known forces: least squares of <V> = M F.

    V is the displacement over `lag` divided by it, F the external force of the interval (that in
    its last frame) plus the mean of `interactions` over its frames, and all particles of all
    intervals enter one regression whose unknowns are the self part and par, perp of each bin.
    Pairs outside the bins are taken as uncoupled, so let the bins cover the box.

    A stretch of constant forces is a segment; the first `skip` of each, in which the flow builds
    up, is left out. Blocks of the error bars are segments, or pieces of `block` of long ones.

    Args:
        trajectories: runs in one box, with forces.
        edges: (B+1,) bin edges; None: the self part alone.
        lag: time over which velocities are taken, a multiple of the frames' interval.
        skip: time left out after each change of the forces.
        interactions: known conservative forces, e.g. `WCA(sigma, epsilon)`.
        block: longest duration of a block; by default a whole segment.
        kT: recorded in the result only.
        resamples, seed: of the bootstrap.
        samples: pair vectors kept per bin for averaging theories.

    Raises:
        InvalidArgument: bad arguments, no interval left after `skip`, or a singular design; the
            message names why the forces cannot tell the parts apart.
    """
    bounds = _checked_edges(edges)
    runs = checked_runs(trajectories, need="forces")
    pairs = _Pairs(bounds, samples, np.random.default_rng(seed))
    normals, rights, design = [], [], _DesignCheck()
    for run in runs:
        for x, displacement, force in active_intervals(run, lag, skip, block, interactions):
            normal, right = _normal_equations(x, force, displacement / lag, run, pairs)
            normals.append(normal)
            rights.append(right)
            design.add(force)
    if not normals:
        raise InvalidArgument(
            f"no interval of lag {lag:g} is left after skipping {skip:g} of each force segment"
        )
    a, b = np.array(normals), np.array(rights)
    known = np.concatenate([[True], np.tile(pairs.counts > 0, 2)])
    a, b = a[:, known][:, :, known], b[:, known]
    design.solvable(a.sum(0), bounds, known)
    weights = _resampling(len(a), resamples, seed)
    values = np.full(len(known), np.nan)
    values[known] = np.linalg.solve(a.sum(0), b.sum(0))
    replicates = np.full((resamples, len(known)), np.nan)
    replicates[:, known] = _solve_each(
        np.einsum("rk,kij->rij", weights, a), np.einsum("rk,ki->ri", weights, b)
    )
    return _result(
        values,
        replicates,
        pairs,
        kind="active",
        lag=lag,
        kT=kT,
        cell=runs[0].cell,
        blocks=len(a),
    )


def _normal_equations(
    x: FloatArray, force: FloatArray, velocity: FloatArray, run: Trajectory, pairs: _Pairs
) -> tuple[FloatArray, FloatArray]:
    """D^T D and D^T V of the regression, for configurations x (T,N,3) of one block."""
    n, bins = x.shape[1], len(pairs.counts)
    i, j = np.triu_indices(n, 1)
    size = 1 + 2 * bins
    normal, right = np.zeros((size, size)), np.zeros(size)
    for part in _chunks(len(x), n * n + n * size):
        f = force[part]
        columns = np.zeros((size, len(f), n, 3))
        columns[0] = f
        if n > 1 and bins > 0:
            d = minimum_image(x[part][:, i] - x[part][:, j], run.cell, run.pbc)
            r = np.sqrt((d * d).sum(-1))
            u = d / r[..., None]
            which = pairs.bins_of(r)
            pairs.add(d.reshape(-1, 3), r.reshape(-1), which.reshape(-1))
            t, p = np.nonzero((which >= 0) & (which < bins))
            b, unit = which[t, p], u[t, p]
            for to, other in ((i[p], j[p]), (j[p], i[p])):
                push = f[t, other]
                along = (push * unit).sum(-1, keepdims=True) * unit
                np.add.at(columns, (1 + b, t, to), along)
                np.add.at(columns, (1 + bins + b, t, to), push - along)
        flat = columns.reshape(size, -1)
        normal += flat @ flat.T
        right += flat @ velocity[part].reshape(-1)
    return normal, right


def _solve_each(a: FloatArray, b: FloatArray) -> FloatArray:
    """Solutions of many small systems; nan where one is singular."""
    diagonal = np.einsum("rii->ri", a)
    good = (diagonal > 0).all(axis=1)
    scale = np.sqrt(np.where(diagonal > 0, diagonal, 1.0))
    spectrum = np.linalg.eigvalsh(a / scale[:, :, None] / scale[:, None, :])
    good &= spectrum[:, 0] > SINGULAR * spectrum[:, -1]
    out = np.full(b.shape, np.nan)
    out[good] = np.linalg.solve(a[good], b[good][..., None])[..., 0]
    return out


class _DesignCheck:
    """Sees all forces of a regression and tells why it cannot be solved, if so."""

    def __init__(self) -> None:
        self.square = 0.0
        self.total = 0.0
        self.particles = 0

    def add(self, force: FloatArray) -> None:
        self.square += float((force**2).sum())
        self.total += float((force.sum(axis=1) ** 2).sum())
        self.particles = max(self.particles, force.shape[1])

    def solvable(self, a: FloatArray, edges: FloatArray, known: NDArray[np.bool_]) -> None:
        """Raise `InvalidArgument` unless the normal matrix `a` has full rank."""
        if self.square == 0:
            raise InvalidArgument("singular design: all forces are zero")
        bins = len(edges) - 1
        ranges = [f"{lo:g}-{hi:g}" for lo, hi in pairwise(edges)]
        names = ["self", *(f"par {x}" for x in ranges), *(f"perp {x}" for x in ranges)]
        assert len(names) == 1 + 2 * bins
        names = [name for name, k in zip(names, known, strict=True) if k]
        diagonal = np.diagonal(a)
        silent = diagonal <= 1e-12 * diagonal.max()
        if silent.any():
            which = ", ".join(n for n, s in zip(names, silent, strict=True) if s)
            raise InvalidArgument(
                f"singular design: no force acts along the part(s) {which}; "
                "push the particles in other directions or leave these bins out"
            )
        scale = np.sqrt(diagonal)
        values, vectors = np.linalg.eigh(a / np.outer(scale, scale))
        if values[0] > SINGULAR * values[-1]:
            return
        if self.particles > 1 and self.total < SINGULAR * self.square:
            raise InvalidArgument(
                "singular design: the forces sum to zero in every frame, so a constant added to "
                "the self part and to all pair parts changes no velocity; only differences of "
                "mobilities can be learned. Push the particles with forces whose sum is not zero"
            )
        null = vectors[:, 0] / scale
        involved = np.abs(null) > 0.05 * np.abs(null).max()
        which = ", ".join(n for n, s in zip(names, involved, strict=True) if s)
        raise InvalidArgument(
            f"singular design: the forces do not tell these parts apart: {which} "
            f"(smallest eigenvalue {values[0] / values[-1]:.1e} of the largest); use forces that "
            "are independent between particles, more segments or wider bins"
        )


# -------------------------------------------------------------------------------------- passive
@dataclass
class BlockSums:
    """A passive estimator, block by block: what estimates and their resamples are made of.

    Attributes:
        numerators, weights: (blocks, 1+2B) sums for (self, par..., perp...) and their weights.
    """

    numerators: FloatArray
    weights: FloatArray
    pairs: _Pairs
    kind: Kind
    lag: float
    kT: float
    cell: FloatArray | None

    def values(self) -> FloatArray:
        """(1+2B,) mobilities from all blocks; nan in empty bins."""
        return _ratio(self.numerators.sum(0), self.weights.sum(0))

    def replicates(self, resamples: int, seed: int) -> FloatArray:
        """(R, 1+2B) mobilities of resampled blocks; the same blocks for the same seed."""
        counts = _resampling(len(self.numerators), resamples, seed)
        return _ratio(counts @ self.numerators, counts @ self.weights)

    def estimate(self, resamples: int, seed: int) -> MobilityEstimate:
        """The estimate with bootstrap errors."""
        return _result(
            self.values(),
            self.replicates(resamples, seed),
            self.pairs,
            kind=self.kind,
            lag=self.lag,
            kT=self.kT,
            cell=self.cell,
            blocks=len(self.numerators),
        )


def _ratio(numerator: FloatArray, weight: FloatArray) -> FloatArray:
    out = np.full(numerator.shape, np.nan)
    np.divide(numerator, weight, out=out, where=weight > 0)
    return out


def passive_estimate(
    trajectories: Trajectory | Sequence[Trajectory],
    edges: ArrayLike | None,
    *,
    lag: float,
    kT: float,
    block: float | None = None,
    resamples: int = 1000,
    samples: int = 1000,
    seed: int = 0,
) -> MobilityEstimate:
    """Mobility from free motion: <dX dX^T>/(2 kT lag).

    Low by the flow modes that do not build up within the lag when the solvent has inertia
    (`FiniteLag`), and blurred when pairs change their distance within it: see `lag_scan`.

    Args:
        trajectories: runs in one box.
        edges: (B+1,) bin edges; None: the self part alone.
        lag: time of the displacements, a multiple of the frames' interval. Windows overlap.
        kT: thermal energy.
        block: duration of a block of the bootstrap; by default an eighth of a run, at least
            4 lags.
        resamples, seed: of the bootstrap.
        samples: pair vectors kept per bin for averaging theories.

    Raises:
        InvalidArgument: bad arguments, or trajectories shorter than the lag.
    """
    sums = passive_sums("passive", trajectories, edges, lag, kT, block, samples, seed)
    return sums.estimate(resamples, seed)


def displacement_velocity_estimate(
    trajectories: Trajectory | Sequence[Trajectory],
    edges: ArrayLike | None,
    *,
    lag: float,
    kT: float,
    block: float | None = None,
    resamples: int = 1000,
    samples: int = 1000,
    seed: int = 0,
) -> MobilityEstimate:
    """Mobility from free motion: <(X(t+lag) - X(t-lag))/2 V(t)^T>/kT, symmetrised in the pair.

    Converges faster with the lag than `passive_estimate` and is noisier. Needs velocities.
    Arguments and errors as there.
    """
    kind: Kind = "displacement-velocity"
    sums = passive_sums(kind, trajectories, edges, lag, kT, block, samples, seed)
    return sums.estimate(resamples, seed)


def passive_sums(
    kind: Kind,
    trajectories: Trajectory | Sequence[Trajectory],
    edges: ArrayLike | None,
    lag: float,
    kT: float,
    block: float | None,
    samples: int,
    seed: int,
) -> BlockSums:
    """Block sums of a passive estimator; with `block` given, the same blocks for every lag."""
    if not (np.isfinite(kT) and kT > 0):
        raise InvalidArgument(f"kT should be a positive energy, got {kT}")
    need = "velocities" if kind == "displacement-velocity" else None
    runs = checked_runs(trajectories, need=need)
    pairs = _Pairs(_checked_edges(edges), samples, np.random.default_rng(seed))
    rows, weights = [], []
    for run in runs:
        first, second, middle, norm = _products(kind, run, frames_in(lag, run, "lag"), lag, kT)
        duration = run.times[-1] - run.times[0]
        length = max(4 * lag, duration / 8) if block is None else block
        count = min(len(middle), max(1, round(duration / length)))
        for part in np.array_split(np.arange(len(middle)), count):
            span = slice(part[0], part[-1] + 1)
            row, weight = _covariance_sums(first[span], second[span], middle[span], run, pairs)
            rows.append(row / norm)
            weights.append(weight)
    cell = runs[0].cell
    return BlockSums(np.array(rows), np.array(weights), pairs, kind, float(lag), float(kT), cell)


def _products(
    kind: Kind, run: Trajectory, steps: int, lag: float, kT: float
) -> tuple[FloatArray, FloatArray, FloatArray, float]:
    """The two factors, the positions that define the pairs, and the norm of their product."""
    x = run.positions
    need = steps if kind == "passive" else 2 * steps
    if len(x) <= need:
        raise InvalidArgument(
            f"lag {lag:g} is too long for {run.source or 'a trajectory'} of duration "
            f"{run.times[-1] - run.times[0]:g}"
        )
    # windows that start closer than this share nearly all their noise
    stride = max(1, steps // 40)
    if kind == "passive":
        before, after = x[:-steps:stride], x[steps::stride]
        step = after - before
        return step, step, (before + after) / 2, 2 * kT * lag
    assert run.velocities is not None
    half_step = (x[2 * steps :] - x[: -2 * steps]) / 2
    return half_step, run.velocities[steps:-steps], x[steps:-steps], kT


def _covariance_sums(
    a: FloatArray, b: FloatArray, x: FloatArray, run: Trajectory, pairs: _Pairs
) -> tuple[FloatArray, FloatArray]:
    """Sums over one block of a_i b_j split along and across the pair, and their weights."""
    n, bins = x.shape[1], len(pairs.counts)
    i, j = np.triu_indices(n, 1)
    out, weight = np.zeros(1 + 2 * bins), np.zeros(1 + 2 * bins)
    out[0], weight[0] = (a * b).sum() / 3, len(x) * n
    if n == 1 or bins == 0:
        return out, weight
    for part in _chunks(len(x), len(i)):
        d = minimum_image(x[part][:, i] - x[part][:, j], run.cell, run.pbc)
        r = np.sqrt((d * d).sum(-1))
        u = d / r[..., None]
        ai, aj, bi, bj = a[part][:, i], a[part][:, j], b[part][:, i], b[part][:, j]
        along = (ai * u).sum(-1) * (bj * u).sum(-1) + (aj * u).sum(-1) * (bi * u).sum(-1)
        whole = (ai * bj).sum(-1) + (aj * bi).sum(-1)
        which = pairs.bins_of(r).reshape(-1)
        pairs.add(d.reshape(-1, 3), r.reshape(-1), which)
        inside = (which >= 0) & (which < bins)
        bin_of = which[inside]
        for offset, value in ((1, along / 2), (1 + bins, (whole - along) / 4)):
            values = value.reshape(-1)[inside]
            out[offset : offset + bins] += np.bincount(bin_of, values, minlength=bins)
            weight[offset : offset + bins] += np.bincount(bin_of, minlength=bins)
    return out, weight
