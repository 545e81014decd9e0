"""Regression of a pair mobility on a binned estimate.

The theory of a bin is the average over the pair vectors that fell into it, in the periodic box of the
data: par = mean of u.M(d).u, perp = mean of (tr M(d) - u.M(d).u)/2 with u the direction of the nearest
image, and the self part with its own images. All of it is linear in the shell weights and in delta;
the background is a polynomial in its radius over its viscosity, so no Ewald sum runs during a fit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlcore.errors import InvalidArgument
from mlcore.mobility.background import FiniteLag, ModeSum, overlap_correction, pair_terms
from mlcore.mobility.models.shells import ShellBasis

__all__ = ["Regression", "bin_vectors"]

Array = NDArray[np.float64]


def bin_vectors(estimate: Any) -> list[Array]:
    """Pair vectors (m,3) of every bin; where the estimate holds none, 32 directions at its distance."""
    sampled = getattr(estimate, "directions", None)
    if sampled is not None:
        return [np.asarray(v, dtype=np.float64).reshape(-1, 3) for v in sampled]
    i = np.arange(32)
    z = (2 * i + 1) / 32 - 1
    angle = i * np.pi * (3 - np.sqrt(5))
    ring = np.sqrt(1 - z * z)
    unit = np.stack([ring * np.cos(angle), ring * np.sin(angle), z], 1)
    return [r * unit for r in np.asarray(estimate.r, dtype=np.float64)]


def lattice_vectors(cell: Array | None, reach: float) -> Array:
    """Lattice vectors that can bring a nearest-image vector within reach, origin first."""
    if cell is None:
        return np.zeros((1, 3))
    heights = abs(np.linalg.det(cell)) / np.linalg.norm(
        np.cross(cell[[1, 2, 0]], cell[[2, 0, 1]]), axis=1
    )
    spans = [np.arange(-m, m + 1) for m in np.ceil(reach / heights + 0.5).astype(int)]
    n = np.stack(np.meshgrid(*spans, indexing="ij"), -1).reshape(-1, 3)
    n = n[np.argsort((n * n).sum(1), kind="stable")]
    return np.asarray(n @ cell, dtype=np.float64)


def _project(matrices: Array, unit: Array) -> tuple[Array, Array]:
    """Mean of u.M.u and of (tr M - u.M.u)/2 over pairs."""
    par = np.einsum("pi,pij,pj->p", unit, matrices, unit)
    return par.mean(), ((np.trace(matrices, axis1=1, axis2=2) - par) / 2).mean()


def _shell_rows(basis: ShellBasis, lattice: Array, d: Array) -> tuple[Array, Array]:
    """Mean par and perp of every shell over pair vectors and all images within the cutoff."""
    unit = d / np.linalg.norm(d, axis=1, keepdims=True)
    par = np.zeros(basis.size)
    perp = np.zeros(basis.size)
    for shift in lattice:
        image = d + shift
        r = np.linalg.norm(image, axis=1)
        near = r < basis.cutoff
        if not near.any():
            continue
        value = basis.evaluate(r[near])
        cosine2 = ((unit[near] * image[near]).sum(1) / r[near])[:, None] ** 2
        along = cosine2 * value.par + (1 - cosine2) * value.perp
        par += along.sum(0)
        perp += ((value.par + 2 * value.perp - along) / 2).sum(0)
    return par / len(d), perp / len(d)


def _self_row(basis: ShellBasis, lattice: Array) -> Array:
    row = basis.self_values.copy()
    for shift in lattice:
        r = float(np.linalg.norm(shift))
        if 0 < r < basis.cutoff:
            value = basis.evaluate(np.asarray([r]))
            row += (value.par[0] + 2 * value.perp[0]) / 3
    return row


@dataclass(frozen=True)
class ModeRows:
    """Missing flow modes of every row, one column for each distinct wavenumber."""

    wavenumbers: Array
    rows: Array

    @classmethod
    def of(cls, cell: Array, lag: FiniteLag, vectors: Sequence[Array]) -> ModeRows:
        modes = ModeSum.of(cell, lag.modes)
        k, shell = np.unique(np.round(modes.wavenumbers, 10), return_inverse=True)
        weights = modes.weights * lag.missing(modes.wavenumbers)
        unit_k = modes.vectors / modes.wavenumbers[:, None]
        gather = np.zeros((len(weights), len(k)))
        gather[np.arange(len(weights)), shell] = weights
        par, perp = [], []
        for d in vectors:
            u = d / np.linalg.norm(d, axis=1, keepdims=True)
            cos = np.cos(d @ modes.vectors.T)
            along = (1 - (u @ unit_k.T) ** 2) * cos
            par.append(along.mean(0) @ gather)
            perp.append((cos - along / 2).mean(0) @ gather)
        own = gather.sum(0) * 2 / 3
        return cls(k, np.vstack([own, *par, *perp]))


class Regression:
    """chi^2 of a pair mobility against a binned estimate, prepared for fitting.

    Args:
        estimate: MobilityEstimate: edges (B+1,), r, self_mobility, self_error, par, par_error, perp,
            perp_error (B,), covariance or None, cell, directions.
        basis: shells of the remainder.
        background: "rpy" or "none".
        rmin: bins whose lower edge is below are left out.
        finite_lag: what the covariance of the data misses of each flow mode, for passive estimates.
        use_covariance: use the estimate's full covariance instead of its standard errors.

    Raises:
        InvalidArgument: no usable bin, or a value of the estimate that is not finite.

    Attributes:
        target (m,), whitener (m,m): rows used and W with W^T W the inverse covariance.
        shells (m,Q), local (m,): columns of the linear parameters.
    """

    def __init__(
        self,
        estimate: Any,
        basis: ShellBasis,
        *,
        background: str = "rpy",
        rmin: float = 0.0,
        finite_lag: FiniteLag | None = None,
        use_covariance: bool = False,
    ) -> None:
        values, errors = _columns(estimate)
        edges = np.asarray(estimate.edges, dtype=np.float64)
        bins = len(edges) - 1
        vectors = bin_vectors(estimate)
        sampled = np.array([len(v) > 0 for v in vectors])
        usable = (edges[:-1] >= rmin) & sampled
        keep = np.concatenate([[True], usable, usable])
        keep &= np.isfinite(values) & np.isfinite(errors) & (errors > 0)
        if not keep[1:].any():
            raise InvalidArgument(
                f"estimate: no bin with data and a positive error from rmin={rmin}"
            )
        self.keep = keep
        self.bins = bins
        self.target = values[keep]
        self.errors = errors[keep]
        self.whitener = np.diag(1 / self.errors)
        if use_covariance:
            self.whitener = _whitener(estimate, keep)
        cell = None if estimate.cell is None else np.asarray(estimate.cell, dtype=np.float64)
        if finite_lag is not None and cell is None:
            raise InvalidArgument(
                "finite_lag needs a periodic cell: its modes are those of the box"
            )
        self.background = background
        vectors = [v if len(v) else np.ones((1, 3)) for v in vectors]
        self._prepare_background(cell, vectors)
        self.modes = None
        if finite_lag is not None and background == "rpy":
            modes = ModeRows.of(_required(cell), finite_lag, vectors)
            self.modes = ModeRows(modes.wavenumbers, modes.rows[keep])
        lattice = lattice_vectors(cell, basis.cutoff)
        rows = [_shell_rows(basis, lattice, v) for v in vectors]
        stack = [_self_row(basis, lattice), *(r[0] for r in rows), *(r[1] for r in rows)]
        self.shells = np.array(stack)[keep]
        self.local = np.zeros(1 + 2 * bins)[keep]
        self.local[0] = 1.0 if keep[0] else 0.0

    def _prepare_background(self, cell: Array | None, vectors: list[Array]) -> None:
        count = 1 + 2 * self.bins
        a, b, stokes = np.zeros(count), np.zeros(count), np.zeros(count)
        stokes[0] = 1.0
        self._distances: list[tuple[int, Array]] = []
        if self.background == "rpy":
            flat = np.concatenate(vectors)
            pair_a, pair_b, own_a, own_b = pair_terms(cell, flat)
            a[0], b[0] = np.trace(own_a) / 3, np.trace(own_b) / 3
            start = 0
            for index, d in enumerate(vectors):
                part = slice(start, start + len(d))
                start += len(d)
                r = np.linalg.norm(d, axis=1)
                unit = d / r[:, None]
                rows = (1 + index, 1 + self.bins + index)
                a[rows[0]], a[rows[1]] = _project(pair_a[part], unit)
                b[rows[0]], b[rows[1]] = _project(pair_b[part], unit)
                self._distances.append((index, r))
        self.a, self.b, self.stokes = a[self.keep], b[self.keep], stokes[self.keep]

    def rpy(self, radius: float, viscosity: float) -> Array:
        """(m,) background rows at given parameters, finite lag and overlap included."""
        if self.background == "none":
            return np.zeros(len(self.target))
        rows = self.a + radius**2 * self.b + self.stokes / (6 * np.pi * radius)
        if self.modes is not None:
            form = np.sinc(self.modes.wavenumbers * radius / np.pi) ** 2
            rows = rows - self.modes.rows @ form
        out = np.asarray(rows / viscosity, dtype=np.float64)
        for par_row, perp_row, r in self.near(2 * radius):
            par, perp = overlap_correction(r, radius, viscosity)
            for row, value in ((par_row, par), (perp_row, perp)):
                if row >= 0:
                    out[row] += value.mean()
        return out

    def near(self, reach: float) -> list[tuple[int, int, Array]]:
        """Bins with pairs closer than reach: row of par, row of perp (-1: left out), distances."""
        place = np.where(self.keep, np.cumsum(self.keep) - 1, -1)
        found = []
        for index, r in self._distances:
            rows = int(place[1 + index]), int(place[1 + self.bins + index])
            if r.min() < reach and max(rows) >= 0:
                found.append((*rows, r))
        return found

    def predict(self, radius: float, viscosity: float, local: float, weights: Array) -> Array:
        """(m,) theory of every row used."""
        rows: Array = self.rpy(radius, viscosity) + self.shells @ weights + local * self.local
        return rows

    def chi2(self, radius: float, viscosity: float, local: float, weights: Array) -> float:
        """Sum of squared whitened residuals."""
        rest = self.whitener @ (self.target - self.predict(radius, viscosity, local, weights))
        return float(rest @ rest)

    def _split(self, vector: Array) -> tuple[float, float, float, Array]:
        radius, viscosity = np.exp(vector[:2])
        return float(radius), float(viscosity), float(vector[2]), vector[4:]

    def value(self, vector: Array) -> float:
        """Log-likelihood -chi^2/2 of [log radius, log viscosity, local, unused, weights...]."""
        return -0.5 * self.chi2(*self._split(vector))

    def expand(
        self, vector: Array, folds: NDArray[np.int64] | None = None
    ) -> tuple[Array, Array, Array]:
        """Value (K,), gradient (K,p), Gauss-Newton information (K,p,p); folds (m,) of the rows."""
        radius, viscosity, local, weights = self._split(vector)
        h = 1e-5
        columns = np.zeros((len(self.target), len(vector)))
        if self.background == "rpy":
            up, down = (self.rpy(radius * np.exp(s), viscosity) for s in (h, -h))
            columns[:, 0] = (up - down) / (2 * h)
            columns[:, 1] = -self.rpy(radius, viscosity)
        columns[:, 2] = self.local
        columns[:, 4:] = self.shells
        rest = self.target - self.predict(radius, viscosity, local, weights)
        kinds = 1 if folds is None else int(folds.max()) + 1
        value, gradient = np.zeros(kinds), np.zeros((kinds, len(vector)))
        information = np.zeros((kinds, len(vector), len(vector)))
        for kind in range(kinds):
            rows = slice(None) if folds is None else np.flatnonzero(folds == kind)
            white = self.whitener[:, rows] if folds is None else self._whitener_of(rows)
            x, y = white @ columns[rows], white @ rest[rows]
            value[kind] = -0.5 * float(y @ y)
            gradient[kind], information[kind] = x.T @ y, x.T @ x
        return value, gradient, information

    def _whitener_of(self, rows: Any) -> Array:
        return np.diag(1 / self.errors[rows])

    def folds(self) -> NDArray[np.int64]:
        """(m,) fold of every row: 0 for the self part, then one for each distance bin."""
        bins = np.arange(1, self.bins + 1)
        labels = np.concatenate([[0], bins, bins])[self.keep]
        return np.asarray(np.unique(labels, return_inverse=True)[1], dtype=np.int64)

    def guess(self) -> tuple[float, float]:
        """Start values of radius and viscosity: scale of the pair rows, then Stokes' law."""
        rows = ~(self.local > 0)
        weight = 1 / self.errors[rows] ** 2
        fluidity = (weight * self.a[rows] * self.target[rows]).sum()
        fluidity /= (weight * self.a[rows] ** 2).sum()
        own = self.target[self.local > 0]
        fluidity = max(float(fluidity), 1e-3 * float(abs(self.target).max()) / abs(self.a).max())
        if len(own) == 0:
            closest = min(float(r.min()) for _, r in self._distances)
            return closest / 2, 1 / fluidity
        rest = float(own[0]) / fluidity - float(self.a[0])
        return 1 / (6 * np.pi * max(rest, 1e-6)), 1 / fluidity


def _required(cell: Array | None) -> Array:
    if cell is None:
        raise InvalidArgument("cell is needed here")
    return cell


def _columns(estimate: Any) -> tuple[Array, Array]:
    try:
        values = np.concatenate([[estimate.self_mobility], estimate.par, estimate.perp])
        errors = np.concatenate([[estimate.self_error], estimate.par_error, estimate.perp_error])
    except AttributeError as error:
        message = f"data must be a MobilityEstimate for loss='regression': {error}"
        raise InvalidArgument(message) from error
    return values.astype(np.float64), errors.astype(np.float64)


def _whitener(estimate: Any, keep: NDArray[np.bool_]) -> Array:
    if estimate.covariance is None:
        raise InvalidArgument("use_covariance=True needs an estimate with a covariance")
    covariance = np.asarray(estimate.covariance, dtype=np.float64)[np.ix_(keep, keep)]
    try:
        lower = np.linalg.cholesky(covariance)
    except np.linalg.LinAlgError as error:
        message = "estimate.covariance is not positive definite: too few blocks for its bins"
        raise InvalidArgument(message) from error
    return np.asarray(np.linalg.inv(lower))
