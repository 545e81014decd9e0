"""Least squares on the residuals: the local search that a fit should use."""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from mlcore.errors import InvalidArgument
from mlcore.forcefield.score import Score
from mlcore.forcefield.search.face import (
    ASKED,
    FAILED,
    Derivatives,
    Jacobian,
    Points,
    Strategy,
    inside,
)
from mlcore.forcefield.search.inverted import Ask, inverted

__all__ = ["least_squares"]


def least_squares(
    size: int,
    *,
    start: Points | None = None,
    jacobian: Jacobian | None = None,
    method: Annotated[
        Literal["trf", "dogbox", "lm"],
        Field(description="trust region within the cube, dogleg, or Levenberg-Marquardt (MINPACK)"),
    ] = "trf",
    loss: Annotated[
        Literal["linear", "soft_l1", "huber", "cauchy", "arctan"],
        Field(description="what a squared residual counts; 'lm' takes 'linear' alone"),
    ] = "linear",
    step: Annotated[
        float, Field(gt=0, lt=0.1, description="of finite differences, in edges of the cube")
    ] = 1e-7,
    ftol: Annotated[float, Field(ge=0, description="relative change of the total")] = 1e-14,
    xtol: Annotated[float, Field(ge=0, description="relative step")] = 1e-12,
    gtol: Annotated[float, Field(ge=0, description="slope that counts as none")] = 1e-15,
) -> Strategy:
    """Gauss-Newton steps in a trust region, by scipy.

    All columns of a jacobian by finite differences are asked for in one batch; with a `jacobian`
    of the caller's there are none, and none where scores tell the derivatives. A point that fails
    counts as a step too far: the trust region shrinks. A start that fails ends the search.
    """
    if method == "lm" and loss != "linear":
        raise InvalidArgument(
            f"option 'loss' of search 'least_squares': {loss!r}; method 'lm' takes 'linear' alone"
        )
    first = np.full(size, 0.5) if start is None else np.array(start, dtype=np.float64)
    first = np.clip(first, 1e-12, 1 - 1e-12)

    def work(ask: Ask) -> None:
        from scipy.optimize import least_squares as library

        residuals = _Residuals(ask, jacobian, step)
        if not residuals.begin(first):
            return
        free = method == "lm"
        if free and residuals.count < size:
            raise InvalidArgument(
                f"option 'method' of search 'least_squares': 'lm' takes no fewer residuals than "
                f"parameters, got {residuals.count} for {size}"
            )
        library(
            residuals.value,
            first,
            jac=residuals.slope,
            bounds=(-np.inf, np.inf) if free else (0.0, 1.0),
            method=method,
            loss=loss,
            x_scale=1.0 if free else "jac",
            ftol=max(ftol, 1e-15),
            xtol=max(xtol, 1e-15),
            gtol=max(gtol, 1e-15),
            max_nfev=10**9,
        )

    return inverted(work)


class _Residuals:
    """Residuals and their derivatives, asked for where they are not known yet."""

    def __init__(self, ask: Ask, jacobian: Jacobian | None, step: float) -> None:
        self._ask, self._jacobian, self._step = ask, jacobian, step
        self._at: Points = np.zeros(0)
        self._known: Points = np.zeros(0)
        self._best = np.inf

    @property
    def count(self) -> int:
        """Number of residuals."""
        return len(self._known)

    def begin(self, point: Points) -> bool:
        """Score the start; whether it has residuals."""
        score = self._ask(inside(point))[0]
        if not _sound(score):
            return False
        self._keep(point, score)
        return True

    def value(self, point: Points) -> Points:
        """(R,) residuals. `lm` knows no bounds: outside the cube a point fails unasked."""
        if np.array_equal(point, self._at):
            return self._known
        if point.min() < 0 or point.max() > 1:
            return self._penalty()
        score = self._ask(inside(point))[0]
        if not _sound(score):
            return self._penalty()
        return self._keep(point, score)

    def slope(self, point: Points) -> Points:
        """(R, n) derivatives; columns whose neighbours fail on both sides are zero."""
        here = self.value(point)
        if self._jacobian == ASKED:
            wish = Derivatives.of(point)
            told = wish.told(self._ask(wish))
            if told is not None:
                return told
        elif self._jacobian is not None:
            columns = self._jacobian(point)
            if columns is None or not np.isfinite(columns).all():
                return np.zeros((len(here), len(point)))
            return np.asarray(columns, dtype=np.float64)
        steps = np.where(point + self._step <= 1, self._step, -self._step)
        columns, missing = self._columns(point, here, steps)
        if missing.any():
            again, _ = self._columns(point, here, -steps, missing)
            columns[:, missing] = again
        return columns

    def _columns(
        self, point: Points, here: Points, steps: Points, only: np.ndarray | None = None
    ) -> tuple[Points, np.ndarray]:
        axes = np.arange(len(point)) if only is None else np.flatnonzero(only)
        near = np.repeat(point[None], len(axes), axis=0)
        near[np.arange(len(axes)), axes] += steps[axes]
        near = inside(near)
        scores = self._ask(near)
        columns = np.zeros((len(here), len(axes)))
        for k, (axis, score) in enumerate(zip(axes, scores, strict=True)):
            if score.residuals is not None and score.violation <= 0:
                columns[:, k] = (score.residuals - here) / (near[k, axis] - point[axis])
        return columns, np.array([not _sound(score) for score in scores])

    def _keep(self, point: Points, score: Score) -> Points:
        assert score.residuals is not None
        self._at, self._known = point.copy(), np.asarray(score.residuals, dtype=np.float64)
        self._best = min(self._best, float(self._known @ self._known))
        return self._known

    def _penalty(self) -> Points:
        """Residuals that no step may end at: a sum of squares far above the best."""
        each = min(FAILED, 1e6 * (1 + self._best)) / len(self._known)
        return np.full(len(self._known), np.sqrt(each))


def _sound(score: Score) -> bool:
    return score.residuals is not None and score.violation <= 0
