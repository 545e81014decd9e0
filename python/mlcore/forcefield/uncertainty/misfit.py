"""Residuals of a fit as a function of points in the cube of its space, and the plain local fit."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mlcore.errors import Error, InvalidArgument
from mlcore.forcefield.evaluate import Evaluation, Evaluator
from mlcore.forcefield.parameters import Space
from mlcore.forcefield.targets import Target

__all__ = ["Fit", "Misfit", "Residuals", "held", "jacobian", "local_fit", "polish", "shifted"]

Array = npt.NDArray[np.float64]
Evaluate = Callable[[Sequence[Mapping[str, float]]], Sequence[Evaluation]]
Residuals = Callable[[Array], Array]
"""(m, n) points in the unit cube -> (m, R) weighted residuals, NaN rows where a candidate fails."""
Fit = Callable[[Residuals, Array], Array]
"""residuals and (n,) start -> (n,) best point."""

# what a candidate that fails is charged for each residual
LOST = 1e3


class Misfit:
    """Residuals (value - reference)/sigma times the root of their target's weight.

    Half the sum of their squares is the negative logarithm of the likelihood where ``sigma`` is the
    standard error of each reference. Of an `Evaluator` whose kernels are the core's it has exact
    derivatives, which `jacobian` then takes.

    Args:
        evaluate: an `Evaluator` of ``targets``, or what does the same.
        space: the free parameters.
        targets: what is measured, in the evaluator's order.
        terms: names of those that count; all where left out.

    Attributes:
        row_terms: (R,) name of each residual's term.

    Raises:
        InvalidArgument: a term no target has.
    """

    def __init__(
        self,
        evaluate: Evaluate,
        space: Space,
        targets: Sequence[Target],
        terms: Collection[str] | None = None,
    ) -> None:
        self.evaluate = evaluate
        self.space = space
        self.targets = tuple(targets)
        known = [term for target in self.targets for term in target.terms]
        wanted = set(known if terms is None else terms)
        if wanted - set(known):
            raise InvalidArgument(f"terms: no target has {sorted(wanted - set(known))[0]!r}")
        every = [target.terms[k] for target in self.targets for k in target.term_of.tolist()]
        self._keep = np.array([term in wanted for term in every])
        self.row_terms = tuple(term for term in every if term in wanted)
        self._root = np.concatenate(
            [np.full(len(t.reference), np.sqrt(t.weight)) for t in self.targets]
        )[self._keep]

    def __call__(self, points: npt.ArrayLike) -> Array:
        """(m, R) residuals at (m, n) points."""
        return self.told(self.evaluations(points))

    def evaluations(self, points: npt.ArrayLike) -> list[Evaluation]:
        """What the targets say at (m, n) points."""
        rows = np.atleast_2d(np.asarray(points, dtype=np.float64))
        return list(self.evaluate([self.space.values(row) for row in rows]))

    def told(self, evaluations: Sequence[Evaluation]) -> Array:
        """(m, R) residuals of evaluations."""
        found = np.full((len(evaluations), len(self._root)), np.nan)
        for row, evaluation in zip(found, evaluations, strict=True):
            if len(evaluation.residuals) == len(self.targets):
                whole = np.concatenate([evaluation.residuals[t.name] for t in self.targets])
                row[:] = whole[self._keep] * self._root
        return found

    def jacobian(self, point: npt.ArrayLike, step: float = 1e-4, central: bool = True) -> Array:
        """(R, n) derivatives at (n,) ``point``: exact rows of targets that know theirs.

        Args:
            point: in the unit cube.
            step, central: of the differences that the rows of other targets are.

        Raises:
            Error: the point, or a neighbour that differences need, fails.
        """
        here = np.asarray(point, dtype=np.float64)
        known = self.evaluate if isinstance(self.evaluate, Evaluator) else None
        if known is None or not known.exact:
            return _differences(self, here, step, central)
        found = known.along(self.space.values(here), self.space.directions(here))
        if not found.slopes or len(found.residuals) < len(self.targets):
            return _differences(self, here, step, central)
        slopes = dict(found.slopes)
        others = [target for target in self.targets if target.name not in slopes]
        if others:
            slopes |= _others(known, self.space, others, here, step, central)
        rows = np.concatenate([slopes[target.name] for target in self.targets])
        return _sound(rows[self._keep] * self._root[:, None])


def shifted(residuals: Residuals, shift: Array) -> Residuals:
    """The residuals less the (R,) ``shift``, with the same derivatives."""
    return _Shifted(residuals, shift)


def held(residuals: Residuals, k: int, x: float) -> Residuals:
    """The residuals as a function of all coordinates but number ``k``, which stays at ``x``."""
    return _Held(residuals, k, x)


@dataclass(frozen=True)
class _Shifted:
    residuals: Residuals
    shift: Array

    def __call__(self, points: Array) -> Array:
        return self.residuals(points) - self.shift

    def jacobian(self, point: Array, step: float, central: bool) -> Array:
        return jacobian(self.residuals, point, step, central)


@dataclass(frozen=True)
class _Held:
    residuals: Residuals
    k: int
    x: float

    def __call__(self, points: Array) -> Array:
        return self.residuals(np.insert(points, self.k, self.x, axis=1))

    def jacobian(self, point: Array, step: float, central: bool) -> Array:
        if not hasattr(self.residuals, "jacobian"):
            return _differences(self, point, step, central)
        whole = jacobian(self.residuals, np.insert(point, self.k, self.x), step, central)
        return np.delete(whole, self.k, axis=1)


def _others(
    known: Evaluator,
    space: Space,
    targets: Sequence[Target],
    point: Array,
    step: float,
    central: bool,
) -> dict[str, Array]:
    """Target -> (R, n) derivatives of its residuals by differences."""
    part = known.only(targets)

    def residuals(points: Array) -> Array:
        found = part([space.values(row) for row in points])
        rows = np.full((len(points), sum(len(t.reference) for t in targets)), np.nan)
        for row, one in zip(rows, found, strict=True):
            if len(one.residuals) == len(targets):
                row[:] = np.concatenate([one.residuals[t.name] for t in targets])
        return rows

    slopes = _differences(residuals, point, step, central)
    ends = np.cumsum([len(target.reference) for target in targets])[:-1]
    return dict(zip([t.name for t in targets], np.split(slopes, ends), strict=True))


def jacobian(
    residuals: Residuals, point: npt.ArrayLike, step: float = 1e-4, central: bool = True
) -> Array:
    """(R, n) derivatives of residuals: their own where they have some, as a `Misfit` by the core's
    kernels has, else finite differences, all points in one batch.

    Args:
        point: (n,) in the unit cube.
        step: of the differences, in edges of the cube; at a face they are one-sided.
        central: differences to both sides.

    Raises:
        Error: a neighbour of the point fails.
    """
    here = np.asarray(point, dtype=np.float64)
    own = getattr(residuals, "jacobian", None)
    if own is not None:
        found: Array = own(here, step, central)
        return found
    return _differences(residuals, here, step, central)


def _differences(residuals: Residuals, here: Array, step: float, central: bool) -> Array:
    up = np.clip(here + step * np.eye(len(here)), 0.0, 1.0)
    down = np.clip(here - step * np.eye(len(here)), 0.0, 1.0)
    if not central:
        # to the side that lies inside, from the point itself
        up = np.where((up - here).sum(axis=1)[:, None] > 0.5 * step, up, down)
        down = here[None]
    found = residuals(np.concatenate([up, down]))
    width = (up - down).sum(axis=1)
    slope: Array = np.divide(found[: len(up)] - found[len(up) :], width[:, None]).T
    return _sound(slope)


def _sound(slope: Array) -> Array:
    if not np.isfinite(slope).all():
        raise Error("the candidates beside the point fail: there are no derivatives")
    return slope


def local_fit(
    residuals: Residuals,
    start: npt.ArrayLike,
    *,
    evaluations: int = 400,
    tolerance: float = 1e-12,
    step: float = 1e-7,
) -> Array:
    """The (n,) point where least squares ends, from one start; a trust region in the unit cube.

    Args:
        residuals: (m, n) points -> (m, R) residuals.
        start: (n,).
        evaluations: largest number of them, those of derivatives not counted.
        tolerance: relative change of the sum of squares or of the point that ends it.
        step: of finite differences where there are any, in edges of the cube.

    Raises:
        Error: the start fails.
    """
    from scipy.optimize import least_squares

    first = np.clip(np.asarray(start, dtype=np.float64), 1e-9, 1 - 1e-9)

    def value(point: Array) -> Array:
        row: Array = _filled(residuals(point[None]))[0]
        return row

    def slope(point: Array) -> Array:
        try:
            return jacobian(residuals, point, step, central=False)
        except Error:
            return jacobian(lambda points: _filled(residuals(points)), point, step)

    if not np.isfinite(residuals(first[None])).all():
        raise Error("the start fails: nothing can be fitted from there")
    found = least_squares(
        value,
        first,
        slope,
        bounds=(0.0, 1.0),
        x_scale="jac",
        max_nfev=evaluations,
        ftol=tolerance,
        xtol=tolerance,
        gtol=1e-15,
    )
    point: Array = np.clip(found.x, 0.0, 1.0)
    return point


def polish(residuals: Residuals, starts: npt.ArrayLike, fit: Fit = local_fit) -> Array:
    """The best of fits from several (s, n) starts; those that fail are passed over.

    Raises:
        Error: all of them fail.
    """
    best, least, last = None, np.inf, None
    for start in np.atleast_2d(np.asarray(starts, dtype=np.float64)):
        try:
            point = np.asarray(fit(residuals, start), dtype=np.float64)
        except Error as error:
            last = error
            continue
        square = float(np.sum(residuals(point[None]) ** 2))
        if square < least:
            best, least = point, square
    if best is None:
        raise Error(f"no start can be fitted: {last}")
    return best


def _filled(rows: Array) -> Array:
    found: Array = np.where(np.isnan(rows), LOST, rows)
    return found
