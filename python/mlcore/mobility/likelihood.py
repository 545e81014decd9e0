"""Likelihood of increments under a pair mobility, with gradient and Fisher information.

All particles at once: displacements are normal with

    mean        (M F + kT div M) lag          covariance      2 kT lag M_noise,

M_noise = M, or, for data whose solvent has inertia (finite_lag),

    M_noise = M - deficit of the flow modes + (noise_local - delta) I.

The local part of the noise is then a parameter of its own: the flow modes' inertia is known, that of
the particles and of whatever makes up delta is not, and a covariance held to the steady delta would
push its misfit into the pair part. It is a nuisance parameter, fitted in every model compared.

Everything that depends on the box alone is computed once, so no Ewald sum runs in a fit. The
information matrix is Fisher's: I_ab = tr(C^-1 C_a C^-1 C_b)/2 + mu_a.C^-1.mu_b.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ParamSpec, TypeVar

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from mlcore.errors import InvalidArgument
from mlcore.mobility.background import FiniteLag, ModeSum, configuration_terms, overlap_correction
from mlcore.mobility.forces import RadialForce
from mlcore.mobility.increments import Increments
from mlcore.mobility.models.shells import ShellBasis
from mlcore.mobility.regression import lattice_vectors

__all__ = ["Images", "Likelihood", "Point", "minimum_images"]

Array = NDArray[np.float64]
Index = NDArray[np.int64]

P = ParamSpec("P")
T = TypeVar("T")


def _one_blas_thread(function: Callable[P, T]) -> Callable[P, T]:
    """Thousands of products of matrices too small to share: more threads only wait for each other."""

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> T:
        with threadpool_limits(limits=1, user_api="blas"):
            return function(*args, **kwargs)

    return call


_CHUNK_BYTES = 1 << 26


@dataclass(frozen=True)
class Images:
    """Pairs (i <= j) with an image within a cutoff, of a batch of configurations.

    Args:
        batch, i, j: (P,) where the pair belongs; i = j for images of a particle with itself.
        r: (P,) distance; u: (P,3) direction from j's image to i.
    """

    batch: Index
    i: Index
    j: Index
    r: Array
    u: Array

    def of(self, first: int, last: int) -> Images:
        """Those of configurations first <= b < last, renumbered from zero."""
        a, b = np.searchsorted(self.batch, [first, last])
        part = slice(int(a), int(b))
        return Images(
            self.batch[part] - first, self.i[part], self.j[part], self.r[part], self.u[part]
        )

    def chosen(self, chosen: Index) -> Images:
        """Those of the configurations chosen, numbered in that order."""
        place = np.full(int(self.batch.max(initial=-1)) + 1 + int(chosen.max(initial=0)), -1)
        place[chosen] = np.arange(len(chosen))
        keep = place[self.batch] >= 0
        return Images(
            place[self.batch[keep]], self.i[keep], self.j[keep], self.r[keep], self.u[keep]
        )


def minimum_images(cell: Array | None, d: Array) -> Array:
    """Nearest periodic images of vectors (...,3)."""
    from mlcore.data.geometry import minimum_image

    return np.asarray(minimum_image(d, cell), dtype=np.float64)


def find_images(cell: Array | None, x: Array, cutoff: float) -> Images:
    """All pairs and images within the cutoff, sorted by configuration."""
    count = x.shape[1]
    i, j = np.triu_indices(count, 1)
    lattice = lattice_vectors(cell, cutoff)
    found: list[tuple[NDArray[Any], ...]] = []
    rows = max(1, 2_000_000 // max(len(i), 1))
    for start in range(0, len(x), rows):
        part = x[start : start + rows]
        d0 = minimum_images(cell, part[:, i] - part[:, j])
        for shift in lattice:
            d = d0 + shift
            square = (d * d).sum(-1)
            b, p = np.nonzero((square < cutoff * cutoff) & (square > 0))
            found.append((b + start, i[p], j[p], d[b, p]))
        for shift in lattice[1:]:
            if float(np.linalg.norm(shift)) < cutoff:
                b, p = (a.reshape(-1) for a in np.indices((len(part), count)))
                found.append((b + start, p, p, np.broadcast_to(shift, (len(b), 3))))
    if not found:
        none = np.zeros(0, dtype=np.int64)
        return Images(none, none, none, np.zeros(0), np.zeros((0, 3)))
    batch, first, second, vectors = (np.concatenate(c) for c in zip(*found, strict=True))
    order = np.argsort(batch, kind="stable")
    r = np.linalg.norm(vectors, axis=1)[order]
    u = vectors[order] / r[:, None]
    return Images(batch[order], first[order], second[order], r, u)


def assemble(images: Images, par: Array, perp: Array, batch: int, count: int) -> Array:
    """Symmetric (batch, 3n, 3n, ...) matrices from pair values (P, ...)."""
    tail = par.shape[1:]
    ones = (1,) * len(tail)
    dyad = (images.u[:, :, None] * images.u[:, None, :]).reshape(-1, 3, 3, *ones)
    identity = np.eye(3).reshape(1, 3, 3, *ones)
    wide = (slice(None), None, None)
    blocks = par[wide] * dyad + perp[wide] * (identity - dyad)
    out = np.zeros((batch, count, count, 3, 3, *tail))
    np.add.at(out, (images.batch, images.i, images.j), blocks)
    other = images.i != images.j
    np.add.at(out, (images.batch[other], images.j[other], images.i[other]), blocks[other])
    return np.moveaxis(out, 2, 3).reshape(batch, 3 * count, 3 * count, *tail)


@dataclass(frozen=True)
class Point:
    """Parameters of a pair mobility, as the optimisers see them.

    The vector is [log radius, log viscosity, local, noise_local, shell weights..., force...].
    """

    vector: Array
    shells: int

    @property
    def radius(self) -> float:
        return float(np.exp(self.vector[0]))

    @property
    def viscosity(self) -> float:
        return float(np.exp(self.vector[1]))

    @property
    def local(self) -> float:
        return float(self.vector[2])

    @property
    def noise_local(self) -> float:
        return float(self.vector[3])

    @property
    def weights(self) -> Array:
        return self.vector[4 : 4 + self.shells]

    @property
    def force(self) -> Array:
        return self.vector[4 + self.shells :]


class Likelihood:
    """Log-likelihood of increments, prepared for fitting.

    Args:
        increments: the data.
        basis: shells of the remainder.
        background: "rpy" or "none".
        finite_lag: known inertia of the solvent; None for none.
        separate_noise: let the local part of the noise differ from delta; default with finite_lag.
        force: pair force whose parameters are learned too.
        radius: where the deficit of the flow modes is expanded (see `recentre`).

    Raises:
        InvalidArgument: naming the argument.
    """

    def __init__(
        self,
        increments: Increments,
        basis: ShellBasis,
        *,
        background: str = "rpy",
        finite_lag: FiniteLag | None = None,
        separate_noise: bool | None = None,
        force: RadialForce | None = None,
        radius: float = 1.0,
    ) -> None:
        if not isinstance(increments, Increments):
            kind = type(increments).__name__
            raise InvalidArgument(f"data must be Increments for loss='likelihood', not {kind}")
        if finite_lag is not None:
            if increments.cell is None:
                raise InvalidArgument("finite_lag needs a periodic cell")
            if abs(finite_lag.lag - increments.lag) > 1e-6 * increments.lag:
                raise InvalidArgument(
                    f"finite_lag is for lag {finite_lag.lag:g}, the increments have {increments.lag:g}"
                )
        self.increments = increments
        self.basis = basis
        self.background = background
        self.finite_lag = finite_lag
        self.separate_noise = finite_lag is not None if separate_noise is None else separate_noise
        self.force = force
        x, cell = increments.positions, increments.cell
        size = 3 * increments.particles
        self.size = size
        self.delta = increments.displacements.reshape(-1, size)
        self.a = self.b = np.zeros((1, size, size))
        if background == "rpy":
            parts = [configuration_terms(cell, x[s : s + 64]) for s in range(0, len(x), 64)]
            self.a = np.concatenate([p[0] for p in parts])
            self.b = np.concatenate([p[1] for p in parts])
        self.images = find_images(cell, x, basis.cutoff)
        values = basis.evaluate(self.images.r)
        self.par, self.dpar, self.perp = values.par, values.dpar, values.perp
        self.touching: Images | None = None
        if background == "rpy":
            near = find_images(cell, x, 6 * radius)
            keep = near.i != near.j
            self.touching = Images(
                near.batch[keep], near.i[keep], near.j[keep], near.r[keep], near.u[keep]
            )
        self.pushing: Images | None = None
        if force is not None:
            self.push(force.cutoff)
        self._centre = np.nan
        self.deficit = self.deficit_slope = np.zeros((1, size, size))
        self.drifts = self._drift_columns()
        self._forced = self._force_columns()
        self.recentre(radius)

    # -- prepared parts -------------------------------------------------------------------------
    @property
    def parameters(self) -> int:
        """Length of the parameter vector."""
        return 4 + self.basis.size + (0 if self.force is None else self.force.size)

    def free(self, fit_background: bool = True) -> NDArray[np.bool_]:
        """Which parameters the data can move."""
        mask = np.ones(self.parameters, dtype=bool)
        mask[:2] = fit_background and self.background == "rpy"
        mask[3] = self.separate_noise
        if self.separate_noise and not self.has_mean:
            mask[2] = False
        return mask

    @property
    def has_mean(self) -> bool:
        """Whether any mean motion carries information on the steady mobility."""
        forces = self.increments.forces
        return self.pushing is not None or (forces is not None and bool(np.any(forces)))

    @_one_blas_thread
    def recentre(self, radius: float) -> None:
        """Expand the deficit of the flow modes, linear in log radius, about another radius."""
        if self.finite_lag is None or self.background != "rpy" or radius == self._centre:
            return
        cell = self.increments.cell
        assert cell is not None
        modes = ModeSum.of(cell, self.finite_lag.modes)
        weights = modes.weights * self.finite_lag.missing(modes.wavenumbers)
        ka = modes.wavenumbers * radius
        form = np.sinc(ka / np.pi)
        slope = 2 * form * (np.cos(ka) - form)
        x = self.increments.positions
        self.deficit = modes.deficit(x, weights * form**2)
        self.deficit_slope = modes.deficit(x, weights * slope)
        self._centre = radius

    @property
    def centre(self) -> float:
        """Radius the deficit is expanded about (nan without finite lag)."""
        return self._centre

    def without_shells(self) -> Likelihood:
        """The same data under background and delta alone; shares the prepared parts."""
        bare = copy.copy(self)
        bare.basis = ShellBasis(np.zeros(0), self.basis.cutoff)
        bare.par, bare.dpar, bare.perp = (a[:, :0] for a in (self.par, self.dpar, self.perp))
        bare.drifts = None
        bare._forced = self._forced[..., :0]
        return bare

    def push(self, cutoff: float) -> None:
        """Find the pairs a learned force with this cutoff acts between."""
        inc = self.increments
        self.pushing = find_images(inc.cell, inc.positions, cutoff)

    def _images_of(self, images: Images | None, part: slice) -> Images:
        assert images is not None
        return images.of(part.start, part.stop)

    def _rows(self, part: slice) -> slice:
        a, b = np.searchsorted(self.images.batch, [part.start, part.stop])
        return slice(int(a), int(b))

    def _chunks(self, columns: int) -> list[slice]:
        rows = max(1, _CHUNK_BYTES // (8 * self.size**2 * max(columns, 1)))
        total = len(self.increments)
        return [slice(s, min(s + rows, total)) for s in range(0, total, rows)]

    def _of(self, array: Array, part: slice) -> Array:
        return array if len(array) == 1 else array[part]

    def _force_columns(self) -> Array:
        """(B,3n,Q) mean displacement under the known forces for unit shell weights."""
        inc, q, im = self.increments, self.basis.size, self.images
        out = np.zeros((len(inc), inc.particles, 3, q))
        if inc.forces is not None and q and np.any(inc.forces):
            out += inc.forces[..., None] * self.basis.self_values
            everything = np.ones(len(im.i), dtype=bool)
            ways = ((im.i, im.j, everything), (im.j, im.i, im.i != im.j))
            for target, source, which in ways:
                force = inc.forces[im.batch[which], source[which]]
                along = (force * im.u[which]).sum(1)[:, None] * im.u[which]
                moved = self.par[which, None] * along[..., None]
                moved = moved + self.perp[which, None] * (force - along)[..., None]
                np.add.at(out, (im.batch[which], target[which]), moved)
        return inc.lag * out.reshape(len(inc), self.size, q)

    def _drift_columns(self) -> Array | None:
        """(B,3n,Q) kT div R lag for unit shell weights; None where the mean holds no drift."""
        inc, q, im = self.increments, self.basis.size, self.images
        if not inc.drift or q == 0:
            return None
        out = np.zeros((len(inc), inc.particles, 3, q))
        other = im.i != im.j
        slope = self.dpar + 2 * (self.par - self.perp) / im.r[:, None]
        push = -im.u[other][..., None] * slope[other][:, None]
        np.add.at(out, (im.batch[other], im.i[other]), push)
        np.add.at(out, (im.batch[other], im.j[other]), -push)
        return inc.kT * inc.lag * out.reshape(len(inc), self.size, q)

    # -- matrices -------------------------------------------------------------------------------
    def _overlap(self, part: slice, radius: float, viscosity: float) -> Array | float:
        near = self._images_of(self.touching, part)
        inside = near.r < 2 * radius
        if not inside.any():
            return 0.0
        near = Images(
            near.batch[inside], near.i[inside], near.j[inside], near.r[inside], near.u[inside]
        )
        par, perp = overlap_correction(near.r, radius, viscosity)
        return assemble(near, par, perp, part.stop - part.start, self.increments.particles)

    def _rpy(self, part: slice, radius: float, viscosity: float) -> Array:
        stokes = np.eye(self.size) / (6 * np.pi * radius)
        matrix = (self._of(self.a, part) + radius**2 * self._of(self.b, part) + stokes) / viscosity
        return np.asarray(matrix + self._overlap(part, radius, viscosity))

    def matrices(self, point: Point, part: slice) -> tuple[Array, Array]:
        """Steady and noise mobility (b,3n,3n) of some configurations."""
        count = part.stop - part.start
        rows = self._rows(part)
        images = self.images.of(part.start, part.stop)
        w = point.weights
        eye = np.eye(self.size)
        steady = assemble(
            images, self.par[rows] @ w, self.perp[rows] @ w, count, self.increments.particles
        )
        steady += (self.basis.self_values @ w + point.local) * eye
        noise = steady
        if self.background == "rpy":
            steady = steady + self._rpy(part, point.radius, point.viscosity)
            noise = steady
            if self.finite_lag is not None:
                shift = np.log(point.radius / self._centre)
                deficit = self._of(self.deficit, part) + shift * self._of(self.deficit_slope, part)
                noise = steady - deficit / point.viscosity
        if self.separate_noise:
            noise = noise + (point.noise_local - point.local) * eye
        return steady, noise

    def forces(self, point: Point, part: slice) -> tuple[Array, Array]:
        """(b,3n) known plus learned forces and (b,3n,p) their derivatives by force parameters."""
        inc = self.increments
        count = part.stop - part.start
        total = np.zeros((count, inc.particles, 3))
        if inc.forces is not None:
            total = total + inc.forces[part]
        width = 0 if self.force is None else self.force.size
        slopes = np.zeros((count, inc.particles, 3, width))
        if self.force is not None:
            im = self._images_of(self.pushing, part)
            value = self.force.radial(im.r, point.force)[:, None] * im.u
            slope = self.force.jacobian(im.r, point.force)[:, None] * im.u[..., None]
            other = im.i != im.j
            for array, change in ((total, value), (slopes, slope)):
                np.add.at(array, (im.batch[other], im.i[other]), change[other])
                np.add.at(array, (im.batch[other], im.j[other]), -change[other])
        return total.reshape(count, -1), slopes.reshape(count, self.size, width)

    def _mean(self, point: Point, part: slice, steady: Array, force: Array) -> Array:
        mean = self.increments.lag * np.einsum("bij,bj->bi", steady, force)
        if self.drifts is not None:
            mean = mean + self.drifts[part] @ point.weights
        return np.asarray(mean)

    # -- likelihood -----------------------------------------------------------------------------
    @_one_blas_thread
    def log_likelihoods(self, vector: Array) -> Array:
        """(B,) log density of every increment; -inf where the covariance is not positive definite."""
        point = Point(np.asarray(vector, dtype=np.float64), self.basis.size)
        inc = self.increments
        out = np.empty(len(inc))
        for part in self._chunks(6):
            steady, noise = self.matrices(point, part)
            force, _ = self.forces(point, part)
            rest = self.delta[part] - self._mean(point, part, steady, force)
            try:
                lower = np.linalg.cholesky(2 * inc.kT * inc.lag * noise)
            except np.linalg.LinAlgError:
                out[part] = -np.inf
                continue
            z = np.linalg.solve(lower, rest[..., None])[..., 0]
            logdet = 2 * np.log(np.diagonal(lower, axis1=1, axis2=2)).sum(1)
            out[part] = -0.5 * ((z * z).sum(1) + logdet + self.size * np.log(2 * np.pi))
        return out

    def value(self, vector: Array) -> float:
        """Log-likelihood of all increments."""
        return float(self.log_likelihoods(vector).sum())

    @_one_blas_thread
    def expand(self, vector: Array, folds: Index | None = None) -> tuple[Array, Array, Array]:
        """Value (K,), gradient (K,p) and Fisher information (K,p,p) of the log-likelihood.

        Args:
            vector: (p,) parameters.
            folds: (B,) fold of every increment; None takes all together (K = 1).
        """
        point = Point(np.asarray(vector, dtype=np.float64), self.basis.size)
        labels = np.zeros(len(self.increments), dtype=np.int64) if folds is None else folds
        kinds = int(labels.max()) + 1
        p = self.parameters
        value, gradient = np.zeros(kinds), np.zeros((kinds, p))
        information = np.zeros((kinds, p, p))
        for part in self._chunks(5 * p):
            v, g, h = self._expand_part(point, part)
            np.add.at(value, labels[part], v)
            np.add.at(gradient, labels[part], g)
            for b, label in enumerate(labels[part]):
                information[label] += h[b]
        return value, gradient, information

    def _expand_part(self, point: Point, part: slice) -> tuple[Array, Array, Array]:
        inc = self.increments
        count, p, size = part.stop - part.start, self.parameters, self.size
        steady, noise = self.matrices(point, part)
        force, force_slopes = self.forces(point, part)
        rest = self.delta[part] - self._mean(point, part, steady, force)
        d_steady, d_noise = self._slopes(point, part)
        scale = 2 * inc.kT * inc.lag
        lower = np.linalg.cholesky(scale * noise)
        inverse = np.linalg.inv(lower)
        z = np.einsum("bij,bj->bi", inverse, rest)
        logdet = 2 * np.log(np.diagonal(lower, axis1=1, axis2=2)).sum(1)
        value = -0.5 * ((z * z).sum(1) + logdet + size * np.log(2 * np.pi))
        # L^-1 dC L^-T of all parameters in two products: (b,i,pj), then (b,ip,j)
        y = inverse @ (scale * d_noise).transpose(0, 2, 1, 3).reshape(count, size, p * size)
        y = y.reshape(count, size * p, size) @ inverse.transpose(0, 2, 1)
        quadratic = (y @ z[..., None]).reshape(count, size, p)
        quadratic = np.einsum("bip,bi->bp", quadratic, z)
        y = np.ascontiguousarray(y.reshape(count, size, p, size).transpose(0, 2, 1, 3))
        means = np.zeros((count, size, p))
        means[..., :4] = inc.lag * np.einsum("bpij,bj->bip", d_steady, force)
        q = self.basis.size
        if q:
            means[..., 4 : 4 + q] = self._shell_means(part, force)
        means[..., 4 + q :] = inc.lag * steady @ force_slopes
        white = inverse @ means
        flat = y.reshape(count, p, -1)
        trace = np.einsum("bpii->bp", y)
        gradient = 0.5 * (quadratic - trace) + np.einsum("bip,bi->bp", white, z)
        information = 0.5 * flat @ flat.transpose(0, 2, 1) + white.transpose(0, 2, 1) @ white
        return value, gradient, information

    def _shell_means(self, part: slice, force: Array) -> Array:
        """(b,3n,Q) derivatives of the mean by the shell weights."""
        columns = self._forced[part]
        if self.force is not None:
            columns = self.increments.lag * np.einsum(
                "bijq,bj->biq", self._shell_matrices(part), force, optimize=True
            )
        return columns if self.drifts is None else columns + self.drifts[part]

    def _shell_matrices(self, part: slice) -> Array:
        rows = self._rows(part)
        im = self.images.of(part.start, part.stop)
        count = part.stop - part.start
        out = assemble(im, self.par[rows], self.perp[rows], count, self.size // 3)
        out += np.eye(self.size)[:, :, None] * self.basis.self_values
        return out

    def _slopes(self, point: Point, part: slice) -> tuple[Array, Array]:
        """Derivatives of the steady mobility by the first four, of the noise by all parameters."""
        count, size = part.stop - part.start, self.size
        eye = np.eye(size)
        steady = np.zeros((count, 4, size, size))
        noise = np.zeros((count, self.parameters, size, size))
        if self.background == "rpy":
            a, eta = point.radius, point.viscosity
            steady[:, 0] = (2 * a**2 * self._of(self.b, part) - eye / (6 * np.pi * a)) / eta
            h = 1e-5
            up = self._overlap(part, a * np.exp(h), eta)
            steady[:, 0] += (up - self._overlap(part, a * np.exp(-h), eta)) / (2 * h)
            rpy = self._rpy(part, a, eta)
            steady[:, 1] = -rpy
            noise[:, :2] = steady[:, :2]
            if self.finite_lag is not None:
                slope = self._of(self.deficit_slope, part)
                shift = np.log(a / self._centre)
                noise[:, 0] -= slope / eta
                noise[:, 1] += (self._of(self.deficit, part) + shift * slope) / eta
        steady[:, 2] = eye
        noise[:, 3 if self.separate_noise else 2] = eye
        q = self.basis.size
        if q:
            noise[:, 4 : 4 + q] = np.moveaxis(self._shell_matrices(part), -1, 1)
        return steady, noise

    def start(self, radius: float, viscosity: float, share: float) -> Array:
        """A parameter vector to start from; share of the self mobility that is local."""
        scale = self.scale()
        start = np.zeros(self.parameters)
        start[:2] = np.log([radius, viscosity])
        start[2:4] = share * scale
        if self.force is not None:
            start[4 + self.basis.size :] = self.force.start
        return start

    def scale(self) -> float:
        """Self mobility from the mean square displacement."""
        inc = self.increments
        return float((self.delta**2).mean() / (2 * inc.kT * inc.lag))


def named(point: Point, force: RadialForce | None) -> dict[str, Any]:
    """Parameters by name, for reports."""
    out: dict[str, Any] = {
        "radius": point.radius,
        "viscosity": point.viscosity,
        "local": point.local,
        "noise_local": point.noise_local,
    }
    if force is not None:
        out |= force.named(point.force)
    return out
