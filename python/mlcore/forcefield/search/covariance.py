"""CMA-ES by the library cma, restarted with larger populations."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from mlcore.forcefield.score import Score
from mlcore.forcefield.search.face import Points, Strategy

__all__ = ["cma"]


def cma(
    size: int,
    *,
    start: Points | None = None,
    seed: int = 0,
    sigma: Annotated[
        float, Field(gt=0, le=1, description="first standard deviation, in edges of the cube")
    ] = 0.3,
    popsize: Annotated[
        int | None, Field(ge=3, description="points of a generation; None is 4 + 3 ln n")
    ] = None,
    growth: Annotated[
        float, Field(ge=1, description="factor of the population at each restart")
    ] = 2.0,
    restarts: Annotated[
        int | None, Field(ge=0, description="restarts from random points; None has no limit")
    ] = None,
    tolfun: Annotated[float, Field(ge=0, description="ends a run: range of totals")] = 1e-11,
    tolx: Annotated[float, Field(ge=0, description="ends a run: step in the cube")] = 1e-11,
) -> Strategy:
    """Covariance matrix adaptation (N. Hansen), with IPOP restarts.

    A. Auger and N. Hansen, IEEE CEC 2005, 1769. The start is scored first of all.
    """
    random = np.random.default_rng(seed)
    many = popsize or 4 + int(3 * math.log(size))
    if start is not None:
        yield np.array([start])
    mean = np.full(size, 0.5) if start is None else np.asarray(start, dtype=np.float64)
    runs = 0
    while restarts is None or runs <= restarts:
        yield from _run(mean, sigma, max(3, round(many * growth**runs)), random, tolfun, tolx)
        mean = random.random(size)
        runs += 1


def _run(
    mean: Points,
    sigma: float,
    popsize: int,
    random: np.random.Generator,
    tolfun: float,
    tolx: float,
) -> Strategy:
    """One run to its own end. Normal numbers are drawn from `random` alone: the library would
    take NumPy's global generator. It knows no single dimension either: a second one says nothing.
    """
    import cma as library

    size = len(mean)
    wide = mean if size > 1 else np.append(mean, 0.5)
    options: dict[str, Any] = {
        "bounds": [0, 1],
        "popsize": popsize,
        "randn": lambda *shape: random.standard_normal(shape),
        "seed": math.nan,
        "signals_filename": None,
        "tolfun": tolfun,
        "tolfunhist": 0.1 * tolfun,
        "tolx": tolx,
        "verbose": -9,
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        run = library.CMAEvolutionStrategy(np.clip(wide, 1e-3, 1 - 1e-3), sigma, options)
    while not run.stop():
        points = run.ask()
        scores = yield np.array(points)[:, :size]
        run.tell(points, _graded(scores))


def _graded(scores: Sequence[Score]) -> list[float]:
    """Finite totals of one generation: those that fail come after all others, by violation."""
    fine = [s.total for s in scores if s.violation <= 0 and math.isfinite(s.total)]
    worst = max(fine, default=0.0)
    step = max(1.0, abs(worst))
    return [
        s.total
        if s.violation <= 0 and math.isfinite(s.total)
        else worst + step * (1 + min(s.violation, 1e6))
        for s in scores
    ]
