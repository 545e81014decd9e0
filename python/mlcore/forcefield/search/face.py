"""The one face of all searches: ask for points, tell their scores.

A strategy is a generator over batches of points in the unit cube: `scores = yield points`. It is
deterministic in its arguments, its seed and the scores it is told, so that a search is resumed by
replaying the scores it was told before: nothing else is ever stored.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import numpy.typing as npt

from mlcore.errors import InvalidArgument
from mlcore.forcefield.score import Score
from mlcore.forcefield.search.pareto import Front

__all__ = [
    "ASKED",
    "FAILED",
    "Asked",
    "Derivatives",
    "Jacobian",
    "Points",
    "Search",
    "Strategy",
    "inside",
    "key",
    "limited",
    "merit",
    "opening",
    "recorded",
    "slope_cost",
    "staged",
]

Points = npt.NDArray[np.float64]
ASKED: Literal["asked"] = "asked"
Jacobian = Callable[[Points], Points | None] | Literal["asked"]
"""(n,) point in the unit cube -> (R, n) derivatives of the residuals there, None where it fails; or
``ASKED``: scores tell them where a search yields `Derivatives`."""

# what derivatives of one point cost, in evaluations, by so many coordinates (docs/forcefield/fit.md)
SLOPES, COORDINATES = 3, 24


def slope_cost(size: int) -> int:
    """Evaluations that all derivatives of a point in ``size`` coordinates count as."""
    return SLOPES * -(-size // COORDINATES)


@dataclass(frozen=True)
class Derivatives:
    """A batch that wishes for derivatives: one point, as often as these cost evaluations.

    Attributes:
        points: (m, n), all the same.
        columns: the coordinates each row is to tell the derivatives by.
    """

    points: Points
    columns: tuple[tuple[int, ...], ...]

    @classmethod
    def of(cls, point: Points) -> Derivatives:
        """All of ``point``, (n,)."""
        size = len(point)
        cost = min(size, slope_cost(size))
        shares = np.array_split(np.arange(size), cost)
        columns = tuple(tuple(share.tolist()) for share in shares)
        return cls(inside(np.repeat(point[None], cost, axis=0)), columns)

    def __len__(self) -> int:
        return len(self.points)

    def __iter__(self) -> Iterator[Points]:
        return iter(self.points)

    def __getitem__(self, rows: slice) -> Derivatives:
        return Derivatives(self.points[rows], self.columns[rows])

    def told(self, scores: Sequence[Score]) -> Points | None:
        """(R, n) derivatives from the scores of all rows; None where one does not tell them."""
        parts = [s.slopes for s in scores if s.slopes is not None and s.violation <= 0]
        if len(parts) < len(self):
            return None
        # products round by the order in memory, which is another of what was read from a history
        return np.ascontiguousarray(np.concatenate(parts, axis=1))


@dataclass(frozen=True)
class Asked:
    """A batch, and who asks for it.

    Attributes:
        points: the batch.
        stage: name of the strategy.
    """

    points: Points | Derivatives
    stage: str

    def __len__(self) -> int:
        return len(self.points)

    def __iter__(self) -> Iterator[Points]:
        return iter(self.points)

    def __getitem__(self, rows: slice) -> Asked:
        return Asked(self.points[rows], self.stage)


Strategy = Generator[Points | Derivatives | Asked, Sequence[Score], None]

FAILED = 1e30
"""What stands for an infinite total where a library wants a finite number."""


def key(score: Score) -> tuple[float, int, float]:
    """Order of candidates, the best first: violation, levels passed, total."""
    return (score.violation, -score.level, score.total)


def merit(score: Score) -> float:
    """The total as a finite number; candidates that fail or violate are worse than all others."""
    if score.violation > 0:
        return FAILED * (1 + min(score.violation, 1e6))
    return min(score.total, FAILED)


def inside(points: npt.ArrayLike) -> Points:
    """(m, n) points, clipped to the unit cube."""
    return np.clip(np.atleast_2d(np.asarray(points, dtype=np.float64)), 0.0, 1.0)


def opening(
    size: int, start: npt.ArrayLike | None, random: np.random.Generator, count: int
) -> Points:
    """(count, size) points of a Latin hypercube, the first replaced by the start where given."""
    cells = np.stack([random.permutation(count) for _ in range(size)], axis=1)
    points = (cells + random.random((count, size))) / count
    if start is not None:
        points[0] = start
    return inside(points)


def limited(strategy: Strategy, budget: int | None) -> Strategy:
    """The strategy, ended as soon as it has had `budget` evaluations; its last batch is cut short."""
    left = math.inf if budget is None else budget
    try:
        points = next(strategy)
        while left >= len(points):
            left -= len(points)
            scores = yield points
            points = strategy.send(scores)
        if left > 0:
            yield points[: int(left)]
    except StopIteration:
        return
    finally:
        strategy.close()


def recorded(strategy: Strategy, points: list[Points], scores: list[Score]) -> Strategy:
    """The strategy, with every point and its score also put down in two lists."""
    try:
        asked = next(strategy)
        while True:
            told = yield asked
            points.extend(asked)
            scores.extend(told)
            asked = strategy.send(told)
    except StopIteration:
        return
    finally:
        strategy.close()


def staged(stage: str, strategy: Strategy) -> Strategy:
    """The strategy, whose batches say that this stage asks for them, where none of its own does."""
    try:
        points = next(strategy)
        while True:
            asked = points if isinstance(points, Asked) else Asked(points, stage)
            points = strategy.send((yield asked))
    except StopIteration:
        return
    finally:
        strategy.close()


class Search:
    """A strategy at work.

    Args:
        strategy: generator of batches (m, n) in the unit cube, told one score for each point.
        budget: evaluations after which the search is done; None lets the strategy decide.
    """

    def __init__(self, strategy: Strategy, budget: int | None = None) -> None:
        self._strategy = limited(strategy, budget)
        self._wish: Points | Derivatives | None = None
        self._stage = ""
        self._ended = False
        self._best: tuple[Points, Score] | None = None
        self._front = Front()
        self._evaluations = 0

    def ask(self) -> Points:
        """(m, n) points to be scored; the same ones until they are told; (0, 0) when done."""
        wish = self.wish()
        return wish.points if isinstance(wish, Derivatives) else wish

    def wish(self) -> Points | Derivatives:
        """As `ask`; `Derivatives` where scores are to tell these too."""
        if self._wish is None and not self._ended:
            self._advance(None)
        return np.zeros((0, 0)) if self._wish is None else self._wish

    def tell(self, scores: Sequence[Score]) -> None:
        """The scores of the points asked for, in their order.

        Raises:
            InvalidArgument: nothing was asked, or the number of scores is not that of the points.
        """
        points = self._wish
        if points is None:
            raise InvalidArgument("scores: no points were asked for")
        if len(scores) != len(points):
            raise InvalidArgument(f"scores: {len(scores)} for {len(points)} points")
        told = [_sound(score) for score in scores]
        self._evaluations += len(told)
        for point, score in zip(points, told, strict=True):
            self._note(point, score)
        self._advance(told)

    def replay(self, scores: Sequence[Score]) -> int:
        """Tell what an earlier run of the same search was told, in its order.

        Returns:
            How many scores were used: whole batches only. The next `ask` begins with the points
            of those left over.
        """
        used = 0
        while not self.done and used + len(self.ask()) <= len(scores):
            count = len(self.ask())
            self.tell(scores[used : used + count])
            used += count
        return used

    def close(self) -> None:
        """Give up: the strategy ends, and threads it may have."""
        self._ended, self._wish = True, None
        self._strategy.close()

    @property
    def done(self) -> bool:
        """Whether the strategy has stopped or the budget is spent."""
        if self._wish is None and not self._ended:
            self._advance(None)
        return self._ended

    @property
    def stage(self) -> str:
        """Name of the strategy that asked for the last points, "" where it has none.

        Of a strategy made of others the one at work.
        """
        return self._stage

    @property
    def evaluations(self) -> int:
        """Number of points whose scores were told."""
        return self._evaluations

    @property
    def best(self) -> tuple[Points, Score] | None:
        """Best point (n,) and its score: least violation, most levels, least total."""
        return self._best

    @property
    def front(self) -> list[tuple[Points, Score]]:
        """Points and scores that no other dominates; empty where scores have no objectives."""
        return self._front.members

    def _note(self, point: Points, score: Score) -> None:
        if self._best is None or key(score) < key(self._best[1]):
            self._best = (point, score)
        self._front.add(point, score)

    def _advance(self, scores: list[Score] | None) -> None:
        try:
            asked = next(self._strategy) if scores is None else self._strategy.send(scores)
        except StopIteration:
            self._ended, self._wish = True, None
            return
        self._stage = asked.stage if isinstance(asked, Asked) else ""
        asked = asked.points if isinstance(asked, Asked) else asked
        if not isinstance(asked, Derivatives):
            asked = inside(asked)
            asked.flags.writeable = False
        self._wish = asked


def _sound(score: Score) -> Score:
    """The score, or a failed one where its numbers are no numbers."""
    residuals = score.residuals
    bad = not math.isfinite(score.total) or math.isnan(score.violation)
    bad |= residuals is not None and not bool(np.isfinite(residuals).all())
    if not bad:
        score = replace(score, violation=0.0) if score.violation < 0 else score
        known = score.slopes is None or bool(np.isfinite(score.slopes).all())
        return score if known else replace(score, slopes=None)
    objectives = (math.inf,) * len(score.objectives)
    violation = max(score.violation, 0.0) if math.isfinite(score.violation) else math.inf
    return replace(
        score,
        total=math.inf,
        residuals=None,
        objectives=objectives,
        violation=violation,
        slopes=None,
    )
