"""Searches made of others: global then local (B20), and the strategy a fit uses by default."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from mlcore.forcefield.score import Score
from mlcore.forcefield.search.face import Jacobian, Points, Strategy, key, limited, recorded
from mlcore.forcefield.search.supported import Shares

__all__ = ["distinct", "two_stage"]


def two_stage(
    size: int,
    *,
    start: Points | None = None,
    seed: int = 0,
    budget: int | None = None,
    jacobian: Jacobian | None = None,
    shares: Shares | None = None,
    first: Annotated[str, Field(description="name of the search that goes first")] = "cma",
    second: Annotated[
        str, Field(description="name of the search from each of the best points")
    ] = "least_squares",
    hand_over: Annotated[int, Field(ge=1, description="number of best points handed over")] = 1,
    share: Annotated[
        float, Field(gt=0, lt=1, description="part of the budget that the first search has")
    ] = 0.5,
    evaluations: Annotated[
        int | None, Field(ge=1, description="of the first search, instead of a share")
    ] = None,
    separation: Annotated[
        float, Field(ge=0, description="least distance of handed points, per coordinate")
    ] = 0.02,
    first_options: Annotated[
        dict[str, Any] | None, Field(description="options of the first search")
    ] = None,
    second_options: Annotated[
        dict[str, Any] | None, Field(description="options of the second search")
    ] = None,
) -> Strategy:
    """Any search, then any other from each of its best distinct points."""
    from mlcore.forcefield.search.registry import strategy

    spent = evaluations or (100 * size if budget is None else max(1, int(share * budget)))
    early = strategy(
        first,
        size,
        start=start,
        seed=seed,
        budget=spent,
        options=first_options,
        jacobian=jacobian,
        shares=shares,
    )

    def late(point: Points, number: int, part: int | None) -> Strategy:
        return strategy(
            second,
            size,
            start=point,
            seed=seed + number,
            budget=part,
            options=second_options,
            jacobian=jacobian,
            shares=shares,
        )

    late(np.full(size, 0.5), 0, None).close()  # says at once which options are wrong
    return _two_stage(limited(early, spent), late, hand_over, separation, budget)


def _two_stage(
    early: Strategy,
    late: Callable[[Points, int, int | None], Strategy],
    hand_over: int,
    separation: float,
    budget: int | None,
) -> Strategy:
    points: list[Points] = []
    scores: list[Score] = []
    yield from recorded(early, points, scores)
    best = distinct(points, scores, hand_over, separation)
    spent = len(points)
    for number, point in enumerate(best, 1):
        # what those before did not need is left for the others
        part = None if budget is None else max(1, (budget - spent) // (len(best) - number + 1))
        points.clear()
        scores.clear()
        yield from recorded(limited(late(point, number, part), part), points, scores)
        spent += len(points)


def distinct(
    points: list[Points], scores: list[Score], count: int, separation: float
) -> list[Points]:
    """The best points, at most `count`, each apart from all better ones.

    Points that failed are left out, unless all of them did.

    Args:
        separation: least root mean square difference of coordinates.
    """
    order = sorted(range(len(scores)), key=lambda k: (*key(scores[k]), k))
    works = [k for k in order if scores[k].error is None and np.isfinite(scores[k].total)]
    chosen: list[Points] = []
    for k in works or order[:1]:
        if all(np.sqrt(np.mean((points[k] - p) ** 2)) >= separation for p in chosen):
            chosen.append(points[k])
        if len(chosen) == count:
            break
    return chosen
