"""The points of a front that least squares finds: the best of weighted sums of the objectives."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from mlcore.errors import InvalidArgument
from mlcore.forcefield.score import Score
from mlcore.forcefield.search.face import Jacobian, Points, Strategy, limited, recorded
from mlcore.forcefield.search.geodesic import geodesic
from mlcore.forcefield.search.pareto import Front

__all__ = ["Shares", "supported"]

Shares = npt.NDArray[np.float64]
"""(M, R) what the square of each residual counts in each objective."""
# steps of least squares: for an end of the front, and for each weighted sum from a point near by
END_STEPS, STEPS = 9, 1
# what an end of the front counts of the other objectives; turns after which one is gone on with
REST = 1e-3
AGAIN = 10


def supported(
    front: Front,
    shares: Shares,
    evaluations: int,
    random: np.random.Generator,
    jacobian: Jacobian | None = None,
) -> Strategy:
    """Fills a front by least squares, from the best point known for each weighted sum.

    First its ends, which are gone on with now and then; else, of two objectives, the sum to which
    both sides of the largest gap are equally good (J. Cohon, Multiobjective Programming and
    Planning, 1978), of more a random one.

    Args:
        front: what is known; holds at least one point, and takes in what is found.
        shares: of residuals in objectives.
        evaluations: most of all this.
        jacobian: of the residuals.
    """
    tried: set[tuple[bytes, bytes]] = set()
    turn, left = 0, evaluations
    while left > 0:
        end = _end(turn, len(shares))
        members = front.members
        values = np.array([score.objectives for _, score in members])
        weights = _of_gap(members, values, tried, random) if end is None else _of_end(values, end)
        if weights is None:
            return
        point, score = members[int(np.argmin(values @ weights))]
        if score.residuals is None:
            return
        size = len(point)
        points: list[Points] = []
        scores: list[Score] = []
        begun = geodesic(size, start=point, jacobian=_weighed(jacobian, shares, weights), ftol=1e-4)
        most = (STEPS if end is None else END_STEPS) * (size + 3)
        climb = limited(_of_sum(begun, shares, weights, score), min(most, left))
        yield from recorded(climb, points, scores)
        for found in zip(points, scores, strict=True):
            front.add(*found)
        turn, left = turn + 1, left - max(1, len(points))


def _end(turn: int, objectives: int) -> int | None:
    """Which end of the front is looked for: each twice at first, one in ten turns later."""
    if turn < 2 * objectives:
        return turn % objectives
    return turn // AGAIN % objectives if turn % AGAIN == 0 else None


def _of_end(values: Points, which: int) -> Points:
    """Weights of one objective, with so little of the others that it leads."""
    weights = np.full(values.shape[1], REST)
    weights[which] = 1.0
    return weights / _spread(values)


def _of_gap(
    members: Sequence[tuple[Points, Score]],
    values: Points,
    tried: set[tuple[bytes, bytes]],
    random: np.random.Generator,
) -> Points | None:
    """Weights normal to the largest gap that was not tried; None where all of them were."""
    if values.shape[1] != 2:
        return np.asarray(random.dirichlet(np.ones(values.shape[1])) / _spread(values))
    gaps = np.abs(np.diff(values, axis=0))
    for k in np.argsort(-gaps.prod(axis=1), kind="stable"):
        sides = (members[k][0].tobytes(), members[k + 1][0].tobytes())
        if sides not in tried and gaps[k].all():
            tried.add(sides)
            return np.asarray(gaps[k][::-1])
    return None


def _spread(values: Points) -> Points:
    spread = np.ptp(values, axis=0)
    return np.asarray(np.where(spread > 0, spread, 1.0))


def _of_sum(strategy: Strategy, shares: Shares, weights: Points, known: Score) -> Strategy:
    """The strategy, told weighted sums; what it asks for first is known already."""

    def told(scores: Sequence[Score]) -> list[Score]:
        return [_summed(score, scales) for score in scores]

    scales = np.sqrt(weights @ shares)
    try:
        next(strategy)
        asked = strategy.send(told([known]))
        while True:
            asked = strategy.send(told((yield asked)))
    except StopIteration:
        return
    finally:
        strategy.close()


def _summed(score: Score, scales: Points) -> Score:
    if score.residuals is None:
        return score
    if len(score.residuals) != len(scales):
        raise InvalidArgument(f"shares: of {len(scales)} residuals, got {len(score.residuals)}")
    residuals = scales * score.residuals
    slopes = None if score.slopes is None else scales[:, None] * score.slopes
    return replace(score, total=float(residuals @ residuals), residuals=residuals, slopes=slopes)


def _weighed(jacobian: Jacobian | None, shares: Shares, weights: Points) -> Jacobian | None:
    """Derivatives of the residuals of a weighted sum; scores that tell theirs are scaled by us."""
    if not callable(jacobian):
        return jacobian
    given, scales = jacobian, np.sqrt(weights @ shares)[:, None]

    def scaled(point: Points) -> Points | None:
        columns = given(point)
        return None if columns is None else np.asarray(scales * columns)

    return scaled
