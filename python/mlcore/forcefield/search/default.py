"""The search a fit uses when none is named."""

from __future__ import annotations

import math
from collections.abc import Generator, Sequence
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from mlcore.forcefield.score import Score
from mlcore.forcefield.search.covariance import cma
from mlcore.forcefield.search.face import (
    ASKED,
    Asked,
    Derivatives,
    Jacobian,
    Points,
    Search,
    Strategy,
    key,
    limited,
    merit,
    opening,
    recorded,
    slope_cost,
    staged,
)
from mlcore.forcefield.search.geodesic import geodesic
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
        int | None, Field(ge=1, description="of the global stage; None is 30 per parameter")
    ] = None,
    candidates: Annotated[
        int, Field(ge=1, description="best distinct points that are refined, besides the start")
    ] = 3,
    separation: Annotated[
        float, Field(ge=0, description="least distance between them, per coordinate")
    ] = 0.05,
    steps: Annotated[
        int, Field(ge=1, description="of least squares, before candidates are compared again")
    ] = 20,
    target: Annotated[
        float, Field(ge=0, description="total that is good enough: the search ends there")
    ] = 1e-20,
) -> Strategy:
    """A short global stage, least squares from its best distinct points, restarts until the end.

    The best candidate goes on for as long as it gains; whenever it is slow or at rest, a new one is
    begun, from the best of some random points and from a single one in turns. Where scores have no
    residuals the simplex of Nelder and Mead takes the place of least squares.
    """
    random = np.random.default_rng(seed)
    begun = (cma if first == "cma" else ga)(size, start=start, seed=int(random.integers(2**31)))
    points: list[Points] = []
    scores: list[Score] = []
    part = evaluations or 30 * size
    most = part if budget is None else min(part, max(1, budget // 3))
    yield from recorded(staged(first, limited(begun, most)), points, scores)
    if min(merit(score) for score in scores) <= target:
        return
    chosen = distinct(points, scores, candidates, separation)
    if start is not None:
        chosen.append(np.asarray(start, dtype=np.float64))
    smooth = any(score.residuals is not None for score in scores)
    points.clear()
    scores.clear()
    refined = _refined(chosen, random, smooth, steps, jacobian, target)
    yield from staged("least_squares" if smooth else "nelder_mead", refined)


def _refined(
    points: list[Points],
    random: np.random.Generator,
    smooth: bool,
    steps: int,
    jacobian: Jacobian | None,
    target: float,
) -> Strategy:
    """Local searches side by side, of which only the best goes on; and new ones for ever."""
    size, most = len(points[0]), len(points)
    told = slope_cost(size) + 1 if jacobian == ASKED else 1
    least = steps * (told if smooth and jacobian is not None else size + 1)
    climbs: list[Search] = []
    lonely = False  # whether a new start is taken as it falls: the best of many is biased
    try:
        for point in points:
            climbs.append(_begun(point, smooth, jacobian))
            yield from _worked(climbs[-1], least)
        while _total(_ordered(climbs, most)[0]) > target:
            if (yield from _gained(climbs, least)):
                continue
            lonely = not lonely
            fresh = opening(size, None, random, 1 if lonely else 5 * size)
            scores = yield fresh
            best = min(range(len(fresh)), key=lambda k: (*key(scores[k]), k))
            climbs.append(_begun(fresh[best], smooth, jacobian))
            yield from _worked(climbs[-1], least)
    finally:
        for climb in climbs:
            climb.close()


def _begun(point: Points, smooth: bool, jacobian: Jacobian | None) -> Search:
    if smooth:
        return Search(geodesic(len(point), start=point, jacobian=jacobian))
    return Search(nelder_mead(len(point), start=point))


def _worked(climb: Search, evaluations: int) -> Strategy:
    """Some steps of a search, which can be gone on with later."""
    end = climb.evaluations + evaluations
    while climb.evaluations < end and not climb.done:
        climb.tell((yield climb.wish()))


def _gained(
    climbs: list[Search], evaluations: int
) -> Generator[Points | Derivatives | Asked, Sequence[Score], bool]:
    """More of the best search that has not ended; whether its total became half of what it was."""
    climb = next((climb for climb in climbs if not climb.done), None)
    if climb is None:
        return False
    before = _total(climb)
    yield from _worked(climb, evaluations)
    return _total(climb) <= 0.5 * before < math.inf


def _ordered(climbs: list[Search], most: int) -> list[Search]:
    """The list, the best first, cut to the best few."""
    climbs.sort(key=lambda climb: (math.inf,) * 3 if climb.best is None else key(climb.best[1]))
    for climb in climbs[most:]:
        climb.close()
    del climbs[most:]
    return climbs


def _total(climb: Search) -> float:
    return math.inf if climb.best is None else merit(climb.best[1])
