"""Problems with known answers, and how a search is run over them."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from mlcore.forcefield.score import Score
from mlcore.forcefield.search import Search

Problem = Callable[[np.ndarray], Score]
CENTRE = np.array([0.61, 0.27, 0.45, 0.52])


def squares(residuals: np.ndarray, **more: object) -> Score:
    return Score(float(residuals @ residuals), residuals, **more)


def sphere(x: np.ndarray) -> Score:
    return squares(x - np.resize(CENTRE, len(x)))


def rosenbrock(x: np.ndarray) -> Score:
    """Least at 0.75 in every direction; the cube is [-2, 2]."""
    y = 4 * x - 2
    return squares(np.concatenate([10 * (y[1:] - y[:-1] ** 2), 1 - y[:-1]]))


def failing(x: np.ndarray) -> Score:
    """Rosenbrock, but a third of the cube fails, in a region that reaches close to the optimum."""
    if x[0] > 0.8 or (x[1] < 0.3 and x[0] < 0.6):
        return Score.failed("lost atoms")
    return rosenbrock(x)


def constrained(x: np.ndarray) -> Score:
    """The sphere's least point violates x0 + x1 <= 0.7; there the total is not known."""
    excess = float(x[0] + x[1] - 0.7)
    return Score.failed("constraint", violation=excess) if excess > 0 else sphere(x)


def two_objectives(x: np.ndarray) -> Score:
    """Schaffer's convex front between two points of the cube; a corner of it fails."""
    if x[0] > 0.95:
        return Score.failed("lost atoms", objectives=2)
    first = float(((x - 0.25) ** 2).sum())
    second = float(((x - 0.75) ** 2).sum())
    return Score(first + second, None, (first, second))


def nowhere(x: np.ndarray) -> Score:
    return Score.failed("never works", objectives=2)


def nan(x: np.ndarray) -> Score:
    """Half of the cube gives NaN instead of saying that it failed."""
    return Score(math.nan, np.full(3, math.nan)) if x[0] < 0.5 else sphere(x)


def run(search: Search, problem: Problem, most: int = 10**9) -> list[np.ndarray]:
    """Every batch asked for, until the search is done or has had `most` evaluations."""
    asked = []
    while not search.done and search.evaluations < most:
        points = search.ask()
        asked.append(points.copy())
        search.tell([problem(point) for point in points])
    return asked


def bits(asked: list[np.ndarray]) -> list[bytes]:
    return [points.tobytes() for points in asked]
