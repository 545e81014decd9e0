"""A genetic algorithm whose fitness is an order of levels: HOGA (B14)."""

from __future__ import annotations

from typing import Annotated

import numpy as np
import numpy.typing as npt
from pydantic import Field

from mlcore.forcefield.score import Score
from mlcore.forcefield.search.face import Points, Strategy, inside, key, opening

__all__ = ["hoga"]


def hoga(
    size: int,
    *,
    start: Points | None = None,
    seed: int = 0,
    popsize: Annotated[int, Field(ge=4, description="points of a generation")] = 40,
    crossover: Annotated[
        float,
        Field(gt=0, description="index of simulated binary crossover: large stays near parents"),
    ] = 15.0,
    mutation: Annotated[
        float, Field(gt=0, description="index of polynomial mutation: large stays near")
    ] = 20.0,
    immigrants: Annotated[
        float, Field(ge=0, le=0.5, description="part of a generation that is random")
    ] = 0.05,
) -> Strategy:
    """Elitist genetic algorithm over (levels passed, error): a level more beats any error.

    Levels and their tolerances are the objective's: it stops at the first level that a candidate
    fails, says in `Score.level` how many were passed, and counts the error of the failed one.
    H. Chan et al., Nat. Commun. 10, 379 (2019).
    """
    random = np.random.default_rng(seed)
    points = opening(size, start, random, popsize)
    seen = {point.tobytes() for point in points}
    scores = list((yield points))
    strangers = int(immigrants * popsize)
    while True:
        order = sorted(range(len(scores)), key=lambda k: (*key(scores[k]), k))[:popsize]
        points, scores = points[order], [scores[k] for k in order]
        children = _children(points, scores, random, crossover, mutation)
        if strangers:
            children[-strangers:] = random.random((strangers, size))
        _renewed(children, seen, random)
        told = yield children
        points, scores = np.concatenate([points, children]), scores + list(told)


def _children(
    points: Points,
    scores: list[Score],
    random: np.random.Generator,
    crossover: float,
    mutation: float,
) -> Points:
    """As many children as there are points, which are sorted: winners of tournaments are mated."""
    count, size = points.shape
    ranks = np.minimum(*random.integers(count, size=(2, count + count % 2)))
    mothers, fathers = points[ranks[::2]], points[ranks[1::2]]
    children = np.concatenate(_crossed(mothers, fathers, random, crossover))[:count]
    return inside(_mutated(children, random, mutation))


def _renewed(children: Points, seen: set[bytes], random: np.random.Generator) -> None:
    """Move those that were scored before, in one coordinate: to score them again tells nothing."""
    for child in children:
        while child.tobytes() in seen:
            axis = random.integers(len(child))
            child[axis] = np.clip(child[axis] + 0.1 * random.standard_normal(), 0.0, 1.0)
        seen.add(child.tobytes())


def _crossed(
    one: Points, other: Points, random: np.random.Generator, index: float
) -> tuple[Points, Points]:
    """Simulated binary crossover. K. Deb and R. Agrawal, Complex Systems 9, 115 (1995)."""
    u = random.random(one.shape)
    spread = np.where(u <= 0.5, 2 * u, 1 / (2 * (1 - u))) ** (1 / (index + 1))
    mates = random.random((len(one), 1)) < 0.9
    spread = np.where(mates & (random.random(one.shape) < 0.5), spread, 1.0)
    swap = mates & (random.random(one.shape) < 0.5)
    middle, half = (one + other) / 2, spread * (other - one) / 2
    low, high = middle - half, middle + half
    return np.where(swap, high, low), np.where(swap, low, high)


def _mutated(points: Points, random: np.random.Generator, index: float) -> Points:
    """Polynomial mutation of one coordinate in the mean."""
    hit = random.random(points.shape) < 1 / points.shape[1]
    u = random.random(points.shape)
    power = 1 / (index + 1)
    shift: npt.NDArray[np.float64] = np.where(
        u < 0.5, (2 * u) ** power - 1, 1 - (2 * (1 - u)) ** power
    )
    return np.where(hit, points + shift, points)
