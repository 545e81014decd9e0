"""Points that no score decides: random, Latin hypercubes, Sobol sequences."""

from __future__ import annotations

from typing import Annotated

import numpy as np
from pydantic import Field

from mlcore.forcefield.search.face import Points, Strategy, opening

__all__ = ["latin_hypercube", "random_sampling", "sobol"]

Batch = Annotated[int, Field(ge=1, description="points asked for at once")]


def random_sampling(
    size: int,
    *,
    start: Points | None = None,
    seed: int = 0,
    batch: Batch = 16,
) -> Strategy:
    """Independent points, uniform in the cube; the start first."""
    random = np.random.default_rng(seed)
    points = random.random((batch, size))
    if start is not None:
        points[0] = start
    while True:
        yield points
        points = random.random((batch, size))


def latin_hypercube(
    size: int,
    *,
    start: Points | None = None,
    seed: int = 0,
    batch: Annotated[int, Field(ge=1, description="points of one hypercube")] = 64,
) -> Strategy:
    """Latin hypercubes one after another: one point in each of `batch` slices of every axis."""
    random = np.random.default_rng(seed)
    points = opening(size, start, random, batch)
    while True:
        yield points
        points = opening(size, None, random, batch)


def sobol(
    size: int,
    *,
    start: Points | None = None,
    seed: int = 0,
    batch: Annotated[int, Field(ge=1, description="points at once, made a power of two")] = 64,
) -> Strategy:
    """A scrambled Sobol sequence (Owen), which fills the cube evenly."""
    from scipy.stats import qmc

    sequence = qmc.Sobol(size, scramble=True, rng=np.random.default_rng(seed))
    power = max(0, (batch - 1).bit_length())
    points = np.asarray(sequence.random_base2(power))
    if start is not None:
        points[0] = start
    while True:
        yield points
        points = np.asarray(sequence.random(2**power))
