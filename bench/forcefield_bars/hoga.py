"""Levels against a weighted sum on a task of static and dynamic targets: how many runs each takes."""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Iterator

import numpy as np
from bars import Measured
from mlcore.forcefield import water
from mlcore.forcefield.evaluate import Evaluation, Evaluator
from mlcore.forcefield.objective import Objective
from mlcore.forcefield.problems import Problem
from mlcore.forcefield.search import make

SEEDS = (0, 1, 2)
RUNS = 150
COLD = dataclasses.replace(water.COLD, equilibrate=300, steps=700)
WARM = dataclasses.replace(water.WARM, equilibrate=600, steps=1000)
# a search that takes more runs than RUNS is counted with RUNS
LAST = "density of liquid"


def levels_or_sum() -> Iterator[Measured]:
    """mW, three parameters off by up to 10 percent; the end: all four terms within tolerance."""
    ranked = [dynamic_runs(seed, {0: 1.0, 1: 1.0}) for seed in SEEDS]
    summed = [dynamic_runs(seed, {}) for seed in SEEDS]
    for seed, one, other in zip(SEEDS, ranked, summed, strict=True):
        yield Measured(f"seed {seed}: runs of the liquid, levels", one)
        yield Measured(f"seed {seed}: runs of the liquid, weighted sum", other)
    yield Measured("levels, seeds that came to the end", sum(n < RUNS for n in ranked), least=3)
    yield Measured(
        "runs, levels / weighted sum, median",
        statistics.median(ranked) / statistics.median(summed),
        most=0.5,
    )


def dynamic_runs(seed: int, tolerances: dict[int, float]) -> int:
    """How often the liquid was run until a candidate had all terms within tolerance.

    The same genetic algorithm in both cases, told levels or the weighted sum of all terms.
    """
    problem = water.refit("sw", seed, off=0.1, cold=COLD, warm=WARM, cells=(2, 2))
    objective = Objective(problem.targets, tolerances=tolerances)
    search = make(
        "hoga", problem.space.size, start=problem.space.initial, seed=seed, options={"popsize": 20}
    )
    runs = 0
    with Evaluator(problem.model, problem.targets, gate=objective.passes) as evaluator:
        while runs < RUNS:
            found = evaluator(asked(problem, search.ask()))
            for one in found:
                runs += LAST in one.values
                if within(one):
                    return runs
            search.tell([objective.score(one) for one in found])
    return RUNS


def asked(problem: Problem, points: np.ndarray) -> list[dict[str, float]]:
    return [problem.space.values(point) for point in points]


def within(found: Evaluation) -> bool:
    return LAST in found.values and all(abs(size) <= 1 for size in found.terms.values())


bars = {"HOGA, runs of dynamics": levels_or_sum}
