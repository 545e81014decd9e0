"""Fisher information of a fit: what the data determine, and which combinations they leave open.

With residuals r = (value - reference)/sigma and their derivatives J the information is J^T J, in
relative coordinates d p / |p| (or d p over the range of p where p is 0). Its eigenvectors of small
eigenvalues are the sloppy directions: combinations of parameters the data do not feel (M. K.
Transtrum et al., J. Chem. Phys. 143, 010901, 2015).
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from mlcore.errors import FileFormatError, InvalidArgument
from mlcore.forcefield.parameters import Space
from mlcore.forcefield.uncertainty.misfit import Residuals, jacobian
from mlcore.io.atomic import atomic_path, write_text

__all__ = ["Direction", "Fisher", "fisher", "slopes"]

Array = npt.NDArray[np.float64]
_FORMAT = "mlcore fisher 1"
# variance of a number anywhere between 0 and 1
_UNIFORM = 1 / 12


@dataclass(frozen=True)
class Direction:
    """An eigenvector of the information.

    Attributes:
        eigenvalue: of it; 1/sqrt(eigenvalue) is how far one may go along it, in relative change.
        weights: parameter -> component, the largest 1.
    """

    eigenvalue: float
    weights: dict[str, float]

    @property
    def names(self) -> tuple[str, ...]:
        """Parameters with at least a tenth of the largest weight, the largest first."""
        order = sorted(self.weights, key=lambda name: -abs(self.weights[name]))
        return tuple(name for name in order if abs(self.weights[name]) >= 0.1)

    @property
    def text(self) -> str:
        """Such as ``beta^1 c^-0.5``: what grows along it."""
        return " ".join(f"{name}^{self.weights[name]:.2g}" for name in self.names)


@dataclass(frozen=True)
class Fisher:
    """Information of a fit at one point.

    Attributes:
        names: of the n free parameters.
        values: (n,) of theirs.
        point: (n,) in the unit cube.
        slopes: (n,) d coordinate / d unit: the relative change from one face to the other.
        jacobian: (R, n) derivatives of the residuals by relative changes.
        residuals: (R,) at the point.
    """

    names: tuple[str, ...]
    values: Array
    point: Array
    slopes: Array
    jacobian: Array
    residuals: Array

    @property
    def information(self) -> Array:
        """(n, n) J^T J."""
        found: Array = self.jacobian.T @ self.jacobian
        return found

    @property
    def spectrum(self) -> Array:
        """(n,) eigenvalues, the largest first."""
        found: Array = _decomposed(self.jacobian)[0]
        return found

    @property
    def chi_square(self) -> float:
        """Sum of squared residuals over the degrees of freedom (at least one)."""
        freedom = max(len(self.residuals) - len(self.names), 1)
        return float(self.residuals @ self.residuals) / freedom

    def directions(self) -> list[Direction]:
        """All eigenvectors, the stiffest first."""
        eigenvalues, vectors = _decomposed(self.jacobian)
        return [
            Direction(float(e), _weights(self.names, v))
            for e, v in zip(eigenvalues, vectors, strict=True)
        ]

    def sloppy(self, change: float = 1.0, scaled: bool = False) -> list[Direction]:
        """Directions along which a relative ``change`` stays within one standard error.

        Args:
            change: relative, from which on a direction counts as not determined.
            scaled: with tolerances scaled by the root of `chi_square`.
        """
        limit = (self.chi_square if scaled else 1.0) / change**2
        return [d for d in reversed(self.directions()) if d.eigenvalue < limit]

    def sloppy_names(self, change: float = 1.0, count: int | None = None) -> tuple[str, ...]:
        """Parameters that sloppy directions consist of, by their part in them.

        Args:
            change: as of `sloppy`.
            count: number of directions looked at, the sloppiest; by default those `sloppy` gives.
        """
        part = self._part(change, count)
        order = np.argsort(-part)
        return tuple(self.names[k] for k in order if part[k] >= 0.1)

    def determined(self, change: float = 1.0, count: int | None = None) -> list[str]:
        """Products of powers of the sloppy parameters that the data do determine.

        Where c, d and beta are sloppy but ``beta^1 c^2 d^-4`` is not, that product is named.

        Args:
            change, count: as of `sloppy_names`.
        """
        names = self.sloppy_names(change, count)
        if not names:
            return []
        _, vectors = _decomposed(self.jacobian)
        among = [self.names.index(name) for name in names]
        open_ones = vectors[len(vectors) - self._count(change, count) :][:, among]
        _, size, rows = np.linalg.svd(open_ones)
        rank = int(np.sum(size > 0.3 * size[0]))
        return [_product(names, row) for row in rows[rank:]]

    def covariance(self, scaled: bool = False, prior: bool = False) -> Array:
        """(n, n) of relative changes.

        Args:
            scaled: tolerances are scaled so that `chi_square` is 1.
            prior: also known is that every parameter lies in its range.

        Raises:
            InvalidArgument: without ``prior``, where a direction is not determined at all.
        """
        jacobian = self.jacobian / math.sqrt(self.chi_square) if scaled else self.jacobian
        if prior:
            known = np.diag(1 / (self.slopes * math.sqrt(_UNIFORM)))
            jacobian = np.concatenate([jacobian, known])
        eigenvalues, vectors = _decomposed(jacobian)
        if eigenvalues[-1] <= 1e-26 * eigenvalues[0]:
            raise InvalidArgument(
                f"prior: {_weights_text(self.names, vectors[-1])} is not determined at all: "
                "the ranges of the parameters are needed"
            )
        found: Array = (vectors.T / eigenvalues) @ vectors
        return found

    def errors(self, scaled: bool = False, prior: bool = False) -> dict[str, float]:
        """Standard error of each free parameter, in its own unit."""
        relative = np.sqrt(np.diag(self.covariance(scaled, prior)))
        factor = np.where(self.values != 0, np.abs(self.values), 1.0)
        return dict(zip(self.names, (relative * factor).tolist(), strict=True))

    def intervals(
        self, level: float = 0.9, scaled: bool = False, prior: bool = False
    ) -> dict[str, tuple[float, float]]:
        """Linear confidence intervals; of Student's t where tolerances are scaled.

        Args:
            level: part of fits whose intervals hold the truth.
            scaled, prior: as of `covariance`.
        """
        errors = self.errors(scaled, prior)
        z = quantile(level, len(self.residuals) - len(self.names) if scaled else None)
        return {
            name: (value - z * errors[name], value + z * errors[name])
            for name, value in zip(self.names, self.values.tolist(), strict=True)
        }

    def unit_covariance(self, scaled: bool = False, prior: bool = True) -> Array:
        """(n, n) covariance of the point in the unit cube."""
        found: Array = self.covariance(scaled, prior) / np.outer(self.slopes, self.slopes)
        return found

    def table(self, scaled: bool = False) -> str:
        """Values with standard errors (ranges known), spectrum and sloppy directions in words."""
        errors = self.errors(scaled, prior=True)
        lines = [f"{'parameter':<16}{'value':>14}{'error':>12}{'relative':>11}"]
        for name, value in zip(self.names, self.values.tolist(), strict=True):
            relative = errors[name] / abs(value) if value else math.nan
            lines.append(f"{name:<16}{value:>14.6g}{errors[name]:>12.3g}{relative:>11.2%}")
        lines += ["", f"{'eigenvalue':<16}direction (powers of parameters)"]
        lines += [f"{d.eigenvalue:<16.3g}{d.text}" for d in self.directions()]
        names = self.sloppy_names()
        if names:
            lines.append(f"not determined one by one: {', '.join(names)}")
            lines += [f"determined: {text}" for text in self.determined()]
        return "\n".join(lines)

    def record(self) -> dict[str, Any]:
        """All of it as JSON can hold it."""
        return {
            "format": _FORMAT,
            "names": list(self.names),
            "values": self.values.tolist(),
            "point": self.point.tolist(),
            "slopes": self.slopes.tolist(),
            "jacobian": self.jacobian.tolist(),
            "residuals": self.residuals.tolist(),
            "spectrum": self.spectrum.tolist(),
            "directions": [
                {"eigenvalue": d.eigenvalue, "weights": d.weights, "text": d.text}
                for d in self.directions()
            ],
            "sloppy": list(self.sloppy_names()),
        }

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Fisher:
        """What `record` was made of.

        Raises:
            FileFormatError: it is no such record.
        """
        if record.get("format") != _FORMAT:
            raise FileFormatError(f"record: format is {record.get('format')!r}, not {_FORMAT!r}")
        try:
            arrays = [
                np.asarray(record[key], dtype=np.float64)
                for key in ("values", "point", "slopes", "jacobian", "residuals")
            ]
            return cls(tuple(record["names"]), *arrays)
        except (KeyError, TypeError, ValueError) as error:
            raise FileFormatError(f"record: {error!r}") from None

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes `record` to a JSON file."""
        write_text(path, json.dumps(self.record(), indent=1) + "\n")

    def plot(self, path: str | os.PathLike[str]) -> None:
        """Spectrum and eigenvectors, to a file."""
        from matplotlib.figure import Figure

        figure = Figure(figsize=(9, 3.6), layout="constrained")
        left, right = figure.subplots(1, 2)
        eigenvalues, vectors = _decomposed(self.jacobian)
        left.semilogy(np.arange(1, len(eigenvalues) + 1), np.maximum(eigenvalues, 1e-300), "o")
        left.axhline(1.0, color="gray", lw=0.8)
        left.set(xlabel="direction", ylabel="eigenvalue", title="Fisher spectrum")
        shown = right.imshow(vectors.T, cmap="RdBu", vmin=-1, vmax=1, aspect="auto")
        right.set_yticks(np.arange(len(self.names)), list(self.names))
        right.set(xlabel="direction, stiff to sloppy", title="eigenvectors")
        figure.colorbar(shown, ax=right)
        with atomic_path(path) as temporary:
            figure.savefig(temporary, dpi=120)

    def _count(self, change: float, count: int | None) -> int:
        return len(self.sloppy(change)) if count is None else count

    def _part(self, change: float, count: int | None) -> Array:
        """(n,) share of each parameter in the sloppy directions, at most 1."""
        _, vectors = _decomposed(self.jacobian)
        found: Array = np.sum(vectors[len(vectors) - self._count(change, count) :] ** 2, axis=0)
        return found


def fisher(residuals: Residuals, space: Space, point: npt.ArrayLike, step: float = 1e-4) -> Fisher:
    """The Fisher information of a fit, by derivatives as `jacobian` has them.

    Exact ones of a `Misfit` by the core's kernels take the time of a few evaluations, central
    differences 2 n + 1 of them.

    Args:
        residuals: such as a `Misfit`.
        space: the free parameters.
        point: (n,) in the unit cube, the fit's result.
        step: of differences where there are any, in edges of the cube.

    Raises:
        Error: the point or a neighbour fails.
    """
    here = np.asarray(point, dtype=np.float64)
    scale = slopes(space, here)
    found = jacobian(residuals, here, step) / scale
    values = space.values(here)
    return Fisher(
        space.names,
        np.array([values[name] for name in space.names]),
        here,
        scale,
        found,
        residuals(here[None])[0],
    )


def slopes(space: Space, point: npt.ArrayLike) -> Array:
    """(n,) relative change of each free parameter from one face of the cube to the other."""
    found = []
    for x, free in zip(np.asarray(point).tolist(), space.free.values(), strict=True):
        value = float(free.value(x))
        width = free.upper - free.lower
        if free.scale == "log":
            found.append(math.log(free.upper / free.lower))
        else:
            found.append(width / abs(value) if value else width)
    return np.array(found)


def quantile(level: float, freedom: int | None = None) -> float:
    """Half width of a two-sided interval in standard errors; of Student's t with ``freedom``.

    Raises:
        InvalidArgument: ``level`` is not between 0 and 1.
    """
    from scipy import stats

    if not 0 < level < 1:
        raise InvalidArgument(f"level must lie between 0 and 1, got {level}")
    if freedom is None:
        return float(stats.norm.ppf(0.5 + level / 2))
    return float(stats.t.ppf(0.5 + level / 2, max(freedom, 1)))


def _decomposed(jacobian: Array) -> tuple[Array, Array]:
    """(n,) eigenvalues of J^T J, the largest first, and (n, n) eigenvectors as rows."""
    count = jacobian.shape[1]
    # not of the product, which would lose half the digits
    _, size, rows = np.linalg.svd(jacobian, full_matrices=True)
    found = np.zeros(count)
    found[: len(size)] = size**2
    return found, rows


def _weights(names: Sequence[str], vector: Array) -> dict[str, float]:
    largest = vector[np.argmax(np.abs(vector))]
    return dict(zip(names, (vector / largest).tolist(), strict=True))


def _weights_text(names: Sequence[str], vector: Array) -> str:
    return Direction(0.0, _weights(names, vector)).text


def _product(names: Sequence[str], row: Array) -> str:
    """Powers with the smallest that matters set to 1."""
    order = [k for k in np.argsort(np.abs(row)) if abs(row[k]) >= 0.1 * np.abs(row).max()]
    shown = {names[k]: row[k] / row[order[0]] for k in order}
    return " ".join(f"{name}^{power:.2g}" for name, power in shown.items())
