"""Local searches of scipy on the total: Nelder-Mead, Powell, L-BFGS-B."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import numpy as np
from pydantic import Field

from mlcore.forcefield.search.face import (
    ASKED,
    Derivatives,
    Jacobian,
    Points,
    Strategy,
    inside,
    merit,
)
from mlcore.forcefield.search.inverted import Ask, inverted

__all__ = ["gradient", "lbfgsb", "nelder_mead", "powell", "total"]

Tolerance = Annotated[float, Field(ge=0, description="ends the search: step in the cube")]
Flatness = Annotated[float, Field(ge=0, description="ends the search: change of the total")]


def nelder_mead(
    size: int,
    *,
    start: Points | None = None,
    step: Annotated[
        float, Field(gt=0, le=0.5, description="edge of the first simplex, in edges of the cube")
    ] = 0.05,
    xatol: Tolerance = 1e-8,
    fatol: Flatness = 1e-14,
    adaptive: Annotated[
        bool, Field(description="coefficients by dimension (Gao and Han 2012)")
    ] = True,
) -> Strategy:
    """The downhill simplex within the cube; its first corners are asked for at once."""
    first = _start(size, start)
    simplex = np.vstack([first, first + np.diag(np.where(first + step <= 1, step, -step))])

    def work(ask: Ask) -> None:
        from scipy.optimize import minimize

        minimize(
            total(ask, simplex),
            first,
            method="Nelder-Mead",
            bounds=[(0, 1)] * size,
            options={
                "initial_simplex": simplex,
                "xatol": xatol,
                "fatol": fatol,
                "adaptive": adaptive,
                "maxiter": np.inf,
                "maxfev": np.inf,
            },
        )

    return inverted(work)


def powell(
    size: int,
    *,
    start: Points | None = None,
    xtol: Annotated[float, Field(gt=0, description="relative, of a line search")] = 1e-6,
    ftol: Annotated[float, Field(gt=0, description="relative change of the total")] = 1e-12,
) -> Strategy:
    """Powell's conjugate directions, line search after line search within the cube."""
    first = _start(size, start)

    def work(ask: Ask) -> None:
        from scipy.optimize import minimize

        minimize(
            total(ask),
            first,
            method="Powell",
            bounds=[(0, 1)] * size,
            options={"xtol": xtol, "ftol": ftol, "maxiter": 10**9, "maxfev": 10**9},
        )

    return inverted(work)


def lbfgsb(
    size: int,
    *,
    start: Points | None = None,
    jacobian: Jacobian | None = None,
    step: Annotated[
        float, Field(gt=0, lt=0.1, description="of finite differences, in edges of the cube")
    ] = 1e-7,
    ftol: Annotated[float, Field(ge=0, description="relative change of the total")] = 1e-15,
    gtol: Annotated[float, Field(ge=0, description="largest slope that counts as none")] = 1e-10,
) -> Strategy:
    """Quasi-Newton steps within the cube; a point and its differences are asked for at once.

    With a `jacobian` of the residuals the slope of their sum of squares needs no differences.
    """
    first = _start(size, start)

    def work(ask: Ask) -> None:
        from scipy.optimize import minimize

        minimize(
            gradient(ask, step, jacobian),
            first,
            jac=True,
            method="L-BFGS-B",
            bounds=[(0, 1)] * size,
            options={"ftol": ftol, "gtol": gtol, "maxiter": 10**9, "maxfun": 10**9},
        )

    return inverted(work)


def total(ask: Ask, ahead: Points | None = None) -> Callable[[Points], float]:
    """The total as a function; points given `ahead` are asked for at once before any other."""
    known: dict[bytes, float] = {}
    if ahead is not None:
        for point, score in zip(ahead, ask(inside(ahead)), strict=True):
            known[point.tobytes()] = merit(score)

    def value(point: Points) -> float:
        found = known.get(np.ascontiguousarray(point, dtype=np.float64).tobytes())
        return merit(ask(inside(point))[0]) if found is None else found

    return value


def gradient(
    ask: Ask, step: float, jacobian: Jacobian | None = None
) -> Callable[[Points], tuple[float, Points]]:
    """Total and slope. Where a neighbour fails, the slope along that axis counts as zero."""

    def by_differences(point: Points) -> tuple[float, Points]:
        steps = np.where(point + step <= 1, step, -step)
        scores = ask(inside(np.vstack([point, point + np.diag(steps)])))
        here, *there = (merit(score) for score in scores)
        slopes = (np.array(there) - here) / steps
        failed = np.array(
            [score.total != value for score, value in zip(scores[1:], there, strict=True)]
        )
        return here, np.where(failed, 0.0, slopes)

    def by_residuals(point: Points) -> tuple[float, Points]:
        assert callable(jacobian)
        score = ask(inside(point))[0]
        columns = None if score.residuals is None else jacobian(point)
        if columns is None or score.residuals is None:
            return merit(score), np.zeros(len(point))
        return merit(score), 2 * np.asarray(columns, dtype=np.float64).T @ score.residuals

    def by_scores(point: Points) -> tuple[float, Points]:
        wish = Derivatives.of(inside(point)[0])
        scores = ask(wish)
        columns, residuals = wish.told(scores), scores[0].residuals
        if columns is None or residuals is None:
            return by_differences(point)
        return merit(scores[0]), 2 * columns.T @ residuals

    if jacobian == ASKED:
        return by_scores
    return by_differences if jacobian is None else by_residuals


def _start(size: int, start: Points | None) -> Points:
    return np.full(size, 0.5) if start is None else np.array(start, dtype=np.float64)
