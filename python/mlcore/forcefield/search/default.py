"""The search a fit uses when none is named."""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from mlcore.forcefield.score import Score
from mlcore.forcefield.search.covariance import cma
from mlcore.forcefield.search.face import (
    Jacobian,
    Points,
    Strategy,
    key,
    limited,
    opening,
    recorded,
)
from mlcore.forcefield.search.leastsq import least_squares
from mlcore.forcefield.search.local import nelder_mead
from mlcore.forcefield.search.populations import ga
from mlcore.forcefield.search.stages import distinct

__all__ = ["default"]


def default(
    size: int,
    *,
    start: Points | None = None,
    seed: int = 0,
    budget: int | None = None,
    jacobian: Jacobian | None = None,
    first: Annotated[Literal["cma", "ga"], Field(description="search of the global stage")] = "cma",
    evaluations: Annotated[
        int | None, Field(ge=1, description="of the global stage; None is 40 per parameter")
    ] = None,
    candidates: Annotated[
        int, Field(ge=1, description="best distinct points that are refined")
    ] = 4,
    separation: Annotated[
        float, Field(ge=0, description="least distance between them, per coordinate")
    ] = 0.02,
    target: Annotated[
        float, Field(ge=0, description="total that is good enough: the search ends there")
    ] = 1e-20,
) -> Strategy:
    """A short global stage, least squares from its best distinct points, restarts until the end.

    Where scores have no residuals the simplex of Nelder and Mead takes the place of least squares.
    """
    random = np.random.default_rng(seed)
    points: list[Points] = []
    scores: list[Score] = []
    best: tuple[Points, Score] | None = None
    wanted = evaluations or 40 * size
    if budget is not None:
        wanted = min(wanted, max(1, budget // 3))
    stage: Strategy = (cma if first == "cma" else ga)(
        size, start=start, seed=int(random.integers(2**31))
    )
    while True:
        points.clear()
        scores.clear()
        yield from recorded(limited(stage, wanted), points, scores)
        for point in distinct(points, scores, candidates, separation):
            points.clear()
            scores.clear()
            yield from recorded(_refined(point, jacobian), points, scores)
            k = min(range(len(scores)), key=lambda k: (*key(scores[k]), k))
            if best is None or key(scores[k]) < key(best[1]):
                best = (points[k], scores[k])
            if best[1].total <= target:
                return
        stage = _spread(size, random)
        wanted = 10 * size
        candidates = 1


def _refined(point: Points, jacobian: Jacobian | None) -> Strategy:
    scores = yield point[None]
    if scores[0].residuals is None and scores[0].error is None:
        yield from nelder_mead(len(point), start=point)
    else:
        yield from least_squares(len(point), start=point, jacobian=jacobian)


def _spread(size: int, random: np.random.Generator) -> Strategy:
    while True:
        yield opening(size, None, random, 10 * size)
