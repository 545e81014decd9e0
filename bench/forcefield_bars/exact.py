"""Least squares by exact derivatives beside the same by differences: evaluations and seconds."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from ase.build import bulk
from bars import Measured
from forcefield_bars.search import Fit as Searched
from mlcore.forcefield import search
from mlcore.forcefield.forms import model
from mlcore.forcefield.parameters import Space
from mlcore.forcefield.problems import Problem, silicon
from mlcore.forcefield.score import Score
from mlcore.forcefield.search.face import Derivatives
from mlcore.forcefield.targets import Energies, Forces

Array = npt.NDArray[np.float64]
Slopes = Literal["asked"] | None
ROUNDS = 15


class Fit(Searched):
    """A problem scored point by point, as a fit in one process scores it."""

    def scores(self, wish: Array | Derivatives) -> list[Score]:
        if not isinstance(wish, Derivatives):
            return self.score(wish)
        point = wish.points[0]
        found = self.evaluator.along(self.space.values(point), self.space.directions(point))
        score = self.objective.score(found)
        slopes = score.slopes
        return [
            Score(score.total, score.residuals, slopes=None if slopes is None else slopes[:, row])
            for row in wish.columns
        ]

    def needed(self, found: search.Search, goal: float) -> tuple[float, float]:
        """Evaluations and CPU seconds until the goal; NaN where it is not reached."""
        begin = time.process_time()
        while not found.done:
            found.tell(self.scores(found.wish()))
            if found.best is not None and found.best[1].total < goal:
                return found.evaluations, time.process_time() - begin
        return float("nan"), time.process_time() - begin


def searches() -> Iterator[Measured]:
    """The reference fits of the searches, ten seeds each, one after the other."""
    tasks: Sequence[tuple[str, str, int, float, float, float]] = (
        ("sw", "default", 8000, 1e-10, 0.2, 3.0),
        ("tersoff", "default", 5000, 1e-10, 0.2, 3.0),
        ("sw", "geodesic", 300, 1e-6, 0.05, 1.1),
        ("sw", "least_squares", 300, 1e-6, 0.05, 1.1),
        ("tersoff", "geodesic", 300, 1e-6, 0.05, 1.1),
        ("tersoff", "least_squares", 300, 1e-6, 0.05, 1.1),
    )
    for form, name, budget, goal, linear, factor in tasks:
        fit = Fit(silicon(form))
        for word, slopes in (("differences", None), ("derivatives", "asked")):
            told = [
                fit.needed(_made(fit, name, seed, budget, slopes, linear, factor), goal)
                for seed in range(10)
            ]
            count = np.array([evaluations for evaluations, _ in told])
            what = f"{form}, {name}, {word}"
            yield Measured(f"{what}: seeds of ten", int(np.isfinite(count).sum()), least=9)
            yield Measured(f"{what}: median of evaluations", float(np.nanmedian(count)))
            yield Measured(f"{what}: most evaluations", float(np.nanmax(count)), most=budget)
            yield Measured(f"{what}: seconds of ten", sum(seconds for _, seconds in told))


def _made(
    fit: Fit, name: str, seed: int, budget: int, slopes: Any, linear: float, factor: float
) -> search.Search:
    start = fit.start(seed, linear, factor)
    return search.make(name, fit.space.size, start=start, seed=seed, budget=budget, jacobian=slopes)


def cost() -> Iterator[Measured]:
    """Derivatives of a point just evaluated, in evaluations asked for alone; they count as 3."""
    for form in ("sw", "tersoff"):
        problem = silicon(form)
        for what, targets in (("", problem.targets), (" without crystal", problem.targets[:2])):
            told = Problem(problem.model, problem.space, targets, problem.answer)
            yield from _cost(f"{form}{what}", Fit(told), problem.space.unit(problem.answer))
    for count in (12, 24):
        fit = Fit(carbide(count))
        yield from _cost(f"SiC, tersoff, {count} free", fit, fit.space.initial)


def carbide(count: int) -> Problem:
    """Energies and forces of six disordered crystals of 64 atoms by Tersoff's form."""
    made = model("tersoff", ["Si", "C"])
    rng = np.random.default_rng(0)
    structures = []
    for seed in range(6):
        atoms = bulk("Si", "diamond", 4.8, cubic=True) * (2, 2, 2)
        atoms.symbols[rng.permutation(64)[:32]] = "C"
        atoms.rattle(0.1, seed=seed)
        structures.append(atoms)
    targets = (Energies(structures, [0.0] * 6), Forces(structures, [np.zeros((64, 3))] * 6))
    wanted = ("A", "B", "lam1", "lam2", "beta", "c", "d")
    known = [p for p in made.parameters if p.default and p.name.split("_")[0] in wanted]
    free = {
        p.name: {"lower": 0.8 * p.default, "upper": 1.2 * p.default, "initial": p.default}
        for p in known[:count]
    }
    return Problem(made, Space(made.parameters, free), targets, made.defaults)


def _cost(what: str, fit: Fit, point: Array) -> Iterator[Measured]:
    space, evaluator = fit.space, fit.evaluator
    inner = np.clip(point, 0.01, 0.99)
    values = space.values(inner)
    near = [space.values(inner + 1e-7 * x) for x in np.eye(space.size)]

    def derived() -> float:
        evaluator([values])
        return _seconds(lambda: evaluator.along(values, space.directions(inner)))

    alone, batch, slopes = (
        statistics.median(work() for _ in range(ROUNDS))
        for work in (
            lambda: _seconds(lambda: evaluator([values])),
            lambda: _seconds(lambda: evaluator(near)),
            derived,
        )
    )
    yield Measured(f"{what}: derivatives, evaluations", slopes / alone, most=3)
    yield Measured(f"{what}: differences in one batch, evaluations", batch / alone)


def _seconds(work: Callable[[], Any]) -> float:
    begin = time.process_time()
    work()
    return time.process_time() - begin


bars = {
    "exact derivatives: what they cost": cost,
    "exact derivatives: reference fits": searches,
}
