"""Binned mobilities with errors: the result of the estimators, compared with theory and saved."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mlcore.errors import FileFormatError, InvalidArgument
from mlcore.io.atomic import atomic_path
from mlcore.mobility.finite_lag import FiniteLag, FlowDeficit

__all__ = ["BinnedTheory", "ChiSquare", "Kind", "MobilityEstimate"]

FloatArray = NDArray[np.float64]
Kind = Literal["active", "passive", "displacement-velocity"]


@dataclass(frozen=True)
class ChiSquare:
    """Sum of squared deviations in standard errors, over `count` values."""

    value: float
    count: int

    @property
    def reduced(self) -> float:
        """Chi squared per value."""
        return self.value / self.count if self.count else float("nan")

    def __float__(self) -> float:
        return self.value


@dataclass(frozen=True, eq=False)
class BinnedTheory:
    """A theory averaged over the pair vectors of an estimate: self part, par (B,), perp (B,)."""

    self_mobility: float
    par: FloatArray
    perp: FloatArray

    def scaled(self, factor: float) -> BinnedTheory:
        """Everything times `factor`."""
        return BinnedTheory(factor * self.self_mobility, factor * self.par, factor * self.perp)


@dataclass(frozen=True, eq=False)
class MobilityEstimate:
    """Self and pair mobility by distance, with errors. Units: length/time per force.

    Attributes:
        edges: (B+1,) bin edges, increasing.
        r: (B,) mean distance of the pairs in each bin (nan in an empty one).
        self_mobility, self_error: self part and its standard error.
        par, par_error, perp, perp_error: (B,) pair parts; nan in bins without pairs.
        counts: (B,) number of pair samples.
        covariance: (1+2B, 1+2B) of (self, par..., perp...), or None.
        kind: which estimator.
        lag: time over which displacements were taken.
        kT: thermal energy (nan for active data analysed without it).
        cell: (3, 3) periodic cell or None.
        directions: per bin an (m, 3) random sample of the pair vectors, nearest images; `theory`
            averages over it.
        blocks: number of blocks behind the errors.
    """

    edges: FloatArray
    r: FloatArray
    self_mobility: float
    self_error: float
    par: FloatArray
    par_error: FloatArray
    perp: FloatArray
    perp_error: FloatArray
    counts: NDArray[np.int64]
    covariance: FloatArray | None
    kind: Kind
    lag: float
    kT: float
    cell: FloatArray | None
    directions: tuple[FloatArray, ...] = field(repr=False)
    blocks: int = 0

    @property
    def bins(self) -> int:
        """Number of distance bins B."""
        return len(self.edges) - 1

    def theory(
        self,
        mobility: Any,
        finite_lag: FiniteLag | FlowDeficit | None = None,
    ) -> BinnedTheory:
        """A theory averaged over the sampled pairs, as the estimate itself is.

        Args:
            mobility: a `Mobility` (its `matrix` is called for batches of two particles in this
                estimate's cell), or a function d (m,3) -> (m,3,3) of pair tensors; the self part of
                a function without an attribute `self_mobility` is nan.
            finite_lag: subtract what this estimator misses at its lag. A `FiniteLag` takes radius
                and viscosity from the mobility (or its background); a `FlowDeficit` has its own.

        Raises:
            InvalidArgument: finite_lag for active data, or for another lag or estimator.
        """
        deficit = self._deficit(mobility, finite_lag)
        own = _self_part(mobility, self.cell)
        if deficit is not None:
            own -= float(np.trace(deficit.self_part(self.cell))) / 3
        par, perp = np.full(self.bins, np.nan), np.full(self.bins, np.nan)
        for b, d in enumerate(self.directions):
            if len(d) == 0:
                continue
            tensors = _pair_tensors(mobility, d, self.cell)
            if deficit is not None:
                tensors = tensors - deficit.pair_tensor(d, self.cell)
            u = d / np.linalg.norm(d, axis=1, keepdims=True)
            along = np.einsum("mi,mij,mj->m", u, tensors, u)
            par[b] = along.mean()
            perp[b] = (np.trace(tensors, axis1=1, axis2=2) - along).mean() / 2
        return BinnedTheory(own, par, perp)

    def _deficit(
        self, mobility: Any, finite_lag: FiniteLag | FlowDeficit | None
    ) -> FlowDeficit | None:
        if finite_lag is None:
            return None
        if isinstance(finite_lag, FiniteLag):
            medium = getattr(mobility, "background", None) or mobility
            if not (hasattr(medium, "radius") and hasattr(medium, "viscosity")):
                raise InvalidArgument(
                    "finite_lag: this mobility has no radius and viscosity; give a FlowDeficit"
                )
            finite_lag = FlowDeficit(finite_lag, medium.radius, medium.viscosity)
        used = finite_lag.finite_lag
        estimator = {"passive": "displacement"}.get(self.kind, self.kind)
        if used.estimator != estimator:
            raise InvalidArgument(
                f"finite_lag is for the estimator {used.estimator!r}, "
                f"this estimate is {self.kind!r}"
            )
        if abs(used.lag - self.lag) > 1e-6 * self.lag:
            raise InvalidArgument(
                f"finite_lag is for lag {used.lag:g}, this estimate has lag {self.lag:g}"
            )
        return finite_lag

    def _used(self, rmin: float) -> NDArray[np.bool_]:
        """Which of (par..., perp...) count: lower edge at or beyond rmin, and measured."""
        near = np.concatenate([self.edges[:-1], self.edges[:-1]]) >= rmin - 1e-9 * abs(rmin)
        values, errors = self._pairs()
        return np.asarray(near & np.isfinite(values) & (errors > 0))

    def _pairs(self) -> tuple[FloatArray, FloatArray]:
        return (
            np.concatenate([self.par, self.perp]),
            np.concatenate([self.par_error, self.perp_error]),
        )

    def chi2(self, theory: Any, rmin: float = 0.0) -> ChiSquare:
        """Deviation of the pair parts from a theory, bins with lower edge >= rmin.

        Uses the diagonal of the covariance. `theory` is a `BinnedTheory` or has par and perp (B,).
        """
        used = self._used(rmin)
        values, errors = self._pairs()
        predicted = np.concatenate([theory.par, theory.perp])
        z = (values - predicted)[used] / errors[used]
        return ChiSquare(float(z @ z), int(used.sum()))

    def scale(self, theory: Any, rmin: float = 0.0) -> tuple[float, float]:
        """Factor s that fits data = s * theory best, and its standard error.

        The weights are the diagonal ones; the error includes the covariance between bins.
        """
        used = self._used(rmin)
        values, errors = self._pairs()
        predicted = np.concatenate([theory.par, theory.perp])[used]
        weight = predicted / errors[used] ** 2
        norm = float(weight @ predicted)
        if not norm > 0:
            raise InvalidArgument(f"no bin beyond rmin = {rmin:g} has data and a non-zero theory")
        if self.covariance is None:
            variance = norm
        else:
            covariance = self.covariance[1:, 1:][np.ix_(used, used)]
            variance = float(weight @ covariance @ weight)
        return float(weight @ values[used]) / norm, float(np.sqrt(variance)) / norm

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write everything to a .npz file, whole or not at all."""
        if Path(path).suffix != ".npz":
            raise InvalidArgument(f"path should end in .npz, got {os.fspath(path)}")
        arrays: dict[str, ArrayLike] = {
            name: getattr(self, name) for name in (*_VECTORS, *_NUMBERS, "kind", "counts")
        }
        if self.covariance is not None:
            arrays["covariance"] = self.covariance
        if self.cell is not None:
            arrays["cell"] = self.cell
        for b, d in enumerate(self.directions):
            arrays[f"directions_{b}"] = d
        with atomic_path(path) as temporary:
            np.savez_compressed(temporary, allow_pickle=False, **arrays)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> MobilityEstimate:
        """Read what `save` wrote. Raises `FileFormatError` naming file and field."""
        name = os.fspath(path)
        try:
            with np.load(path, allow_pickle=False) as archive:
                arrays = {key: archive[key] for key in archive.files}
        except OSError as error:
            raise FileFormatError(f"{name}: cannot be read: {error.strerror or error}") from error
        except Exception as error:  # zipfile, zlib and NumPy each raise their own
            raise FileFormatError(f"{name}: not a saved estimate: {error}") from error
        return _from_arrays(name, arrays)


_VECTORS = ("edges", "r", "par", "par_error", "perp", "perp_error")
_NUMBERS = ("self_mobility", "self_error", "lag", "kT", "blocks")


def _from_arrays(name: str, arrays: dict[str, NDArray[Any]]) -> MobilityEstimate:
    missing = [k for k in (*_VECTORS, *_NUMBERS, "counts", "kind") if k not in arrays]
    if missing:
        raise FileFormatError(f"{name}: field {missing[0]} is missing")
    bins = arrays["edges"].size - 1
    shapes: dict[str, tuple[int, ...]] = dict.fromkeys((*_VECTORS, "counts"), (bins,))
    shapes |= {"edges": (bins + 1,), "covariance": (1 + 2 * bins,) * 2, "cell": (3, 3)}
    shapes |= dict.fromkeys(_NUMBERS, ()) | {"kind": ()}
    for key, shape in shapes.items():
        if key in arrays and arrays[key].shape != shape:
            raise FileFormatError(
                f"{name}: field {key} should have shape {shape}, got {arrays[key].shape}"
            )
        if key in arrays and key != "kind" and arrays[key].dtype.kind not in "fiu":
            raise FileFormatError(f"{name}: field {key} should hold numbers")
    kind = str(arrays["kind"])
    if kind not in ("active", "passive", "displacement-velocity"):
        raise FileFormatError(f"{name}: field kind is {kind[:40]!r}, not an estimator's name")
    directions = []
    for b in range(bins):
        d = arrays.get(f"directions_{b}")
        if d is None or d.ndim != 2 or d.shape[1] != 3 or d.dtype.kind != "f":
            raise FileFormatError(f"{name}: field directions_{b} should be numbers of shape (m, 3)")
        directions.append(d)
    return MobilityEstimate(
        edges=arrays["edges"],
        r=arrays["r"],
        self_mobility=float(arrays["self_mobility"]),
        self_error=float(arrays["self_error"]),
        par=arrays["par"],
        par_error=arrays["par_error"],
        perp=arrays["perp"],
        perp_error=arrays["perp_error"],
        lag=float(arrays["lag"]),
        kT=float(arrays["kT"]),
        blocks=int(arrays["blocks"]),
        counts=arrays["counts"].astype(np.int64),
        covariance=arrays.get("covariance"),
        cell=arrays.get("cell"),
        kind=kind,  # type: ignore[arg-type]
        directions=tuple(directions),
    )


def _self_part(mobility: Any, cell: FloatArray | None) -> float:
    if hasattr(mobility, "matrix"):
        one = np.asarray(mobility.matrix(np.zeros((1, 3)), cell))
        return float(np.trace(one)) / 3
    return float(getattr(mobility, "self_mobility", np.nan))


def _pair_tensors(mobility: Any, d: FloatArray, cell: FloatArray | None) -> FloatArray:
    if not hasattr(mobility, "matrix"):
        tensors = np.asarray(mobility(d), dtype=float)
        if tensors.shape != (len(d), 3, 3):
            raise InvalidArgument(
                f"the pair tensor function should return {(len(d), 3, 3)}, got {tensors.shape}"
            )
        return tensors
    pairs = np.stack([d, np.zeros_like(d)], axis=1)
    return np.asarray(mobility.matrix(pairs, cell), dtype=float)[:, :3, 3:]
