"""Searches on the reference problem: how far each comes with how many evaluations."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from bars import Measured
from mlcore.forcefield import search
from mlcore.forcefield.evaluate import Evaluator
from mlcore.forcefield.objective import Objective
from mlcore.forcefield.parameters import Free, Space
from mlcore.forcefield.problems import FREE, Problem, silicon
from mlcore.forcefield.score import Score

Array = npt.NDArray[np.float64]
LOGARITHMIC = ("c", "beta", "A", "B")
CONTEST: dict[str, tuple[str, dict[str, Any]]] = {
    "default": ("default", {}),
    "CMA-ES": ("cma", {}),
    "GA": ("ga", {}),
    "CMA-ES, then Nelder-Mead": ("two_stage", {"first": "cma", "second": "nelder_mead"}),
    "GA, then Nelder-Mead": ("two_stage", {"first": "ga", "second": "nelder_mead"}),
}


@dataclass
class Fit:
    """One fit, begun from many seeds; candidates of all of them are evaluated together.

    Attributes:
        problem: the model, its space, targets and answer.
        space: in which it is searched.
    """

    problem: Problem
    space: Space = field(init=False)

    def __post_init__(self) -> None:
        self.space = self.problem.space
        self.evaluator = Evaluator(self.problem.model, self.problem.targets)
        self.objective = Objective(self.problem.targets)

    def score(self, points: Array) -> list[Score]:
        return [self.objective.score(e) for e in self.evaluator([*map(self.space.values, points)])]

    def start(self, seed: int, linear: float = 0.2, factor: float = 3.0) -> Array:
        """The answer, off by up to ``linear``, of Tersoff's c, beta, A and B up to a factor."""
        form = self.problem.model.form.name
        values = dict(self.problem.answer)
        u = np.random.default_rng(seed).uniform(-1, 1, len(FREE[form]))
        for name, x in zip(FREE[form], u.tolist(), strict=True):
            wide = form == "tersoff" and name in LOGARITHMIC
            values[name] *= factor**x if wide else 1 + linear * x
        return self.space.unit(values)

    def errors(self, point: Array) -> tuple[float, float, float]:
        """RMS of energies, meV/atom, of forces, eV/A; largest of elastic constants, percent."""
        found = self.evaluator([self.space.values(point)])[0].values
        energies, forces, crystal = self.problem.targets
        elastic = found[crystal.name][2:] / crystal.reference[2:] - 1
        return (
            1e3 * _rms(found[energies.name] - energies.reference),
            _rms(found[forces.name] - forces.reference),
            100 * float(np.abs(elastic).max()),
        )


def _rms(values: Array) -> float:
    return float(np.sqrt(np.mean(values**2)))


def run(
    score: Callable[[Array], Sequence[Score]],
    searches: Sequence[search.Search],
    goal: float = -np.inf,
) -> list[float]:
    """All searches to their end, in step; evaluations each needed to get below the goal."""
    needed = [float("nan")] * len(searches)
    while True:
        live = [k for k, s in enumerate(searches) if not s.done and np.isnan(needed[k])]
        if not live:
            return needed
        asked = [searches[k].ask() for k in live]
        told = list(score(np.concatenate(asked)))
        for k, points in zip(live, asked, strict=True):
            searches[k].tell([told.pop(0) for _ in points])
            best = searches[k].best
            if best is not None and best[1].total < goal:
                needed[k] = searches[k].evaluations


def _made(
    fit: Fit,
    name: str,
    seeds: Sequence[int],
    budget: int,
    options: Mapping[str, Any] | None = None,
    **start: float,
) -> list[search.Search]:
    size = fit.space.size
    return [
        search.make(
            name,
            size,
            start=fit.start(s, **start),
            seed=s,
            budget=budget,
            options=options,
            shares=fit.objective.shares(),
        )
        for s in seeds
    ]


def _totals(searches: Sequence[search.Search]) -> list[float]:
    return [s.best[1].total if s.best else float("inf") for s in searches]


def exact() -> Iterator[Measured]:
    """Stillinger-Weber, 8 free, off by up to a fifth; its own data. Ten seeds."""
    searches = _made(fit := Fit(silicon("sw")), "default", range(10), 8000)
    needed = run(fit.score, searches, 1e-10)
    yield Measured("worst of ten seeds, objective", max(_totals(searches)), most=1e-10)
    yield Measured("most evaluations to 1e-10", max(needed), most=8000)
    yield Measured("median of evaluations", statistics.median(needed))


def wide() -> Iterator[Measured]:
    """Tersoff, 9 free, off by up to a fifth or a factor of 3; its own data. Ten seeds."""
    searches = _made(fit := Fit(silicon("tersoff")), "default", range(10), 5000)
    needed = run(fit.score, searches, 1e-10)
    errors = [fit.errors(s.best[0]) for s in searches if s.best]
    for what, values, most in zip(
        ("E, meV/atom", "F, eV/A", "C11, C12, C44, percent"),
        zip(*errors, strict=True),
        (0.5, 0.005, 0.2),
        strict=True,
    ):
        yield Measured(f"worst of ten seeds: {what}", max(values), most=most)
    yield Measured("most evaluations to 1e-10", max(needed), most=5000)


def nearby() -> Iterator[Measured]:
    """Least squares alone, off by up to 5 percent (c, beta, A, B 10 percent). Ten seeds."""
    for form in ("sw", "tersoff"):
        fit = Fit(silicon(form))
        for name in ("least_squares", "geodesic"):
            searches = _made(fit, name, range(10), 300, linear=0.05, factor=1.1)
            needed = run(fit.score, searches, 1e-6)
            good = int(np.isfinite(needed).sum())
            yield Measured(f"{form}, {name}: seeds of ten below 1e-6", good, least=9)
            yield Measured(f"{form}, {name}: median of evaluations", float(np.nanmedian(needed)))


def model_error() -> Iterator[Measured]:
    """Stillinger-Weber fitted to Tersoff's data: the best is not 0. Two of the eight parameters
    end at their bounds, so these decide: 24.084 is the best within the 30 percent of the reference
    problem, 23.790 within 32."""
    fit = Fit(silicon("sw", "tersoff"))
    answer = fit.problem.answer
    for percent in (30, 32):
        part = percent / 100
        fit.space = Space(
            fit.problem.model.parameters,
            {
                name: Free(
                    lower=min(answer[name] * (1 - part), answer[name] * (1 + part)),
                    upper=max(answer[name] * (1 - part), answer[name] * (1 + part)),
                    initial=answer[name],
                )
                for name in FREE["sw"]
            },
        )
        searches = _made(fit, "default", range(5), 4000)
        run(fit.score, searches)
        yield Measured(
            f"worst of five seeds, objective, {percent} % bounds", max(_totals(searches)), most=24.0
        )


def contest() -> Iterator[Measured]:
    """Medians over eight seeds after 2000 evaluations, wide start."""
    for form, of in (("tersoff", None), ("sw", None), ("tersoff", "sw")):
        fit = Fit(silicon(form, of))
        medians = {}
        for title, (name, options) in CONTEST.items():
            searches = _made(fit, name, range(8), 2000, options)
            run(fit.score, searches)
            medians[title] = statistics.median(_totals(searches))
        task = f"{form} to data of {of or form}"
        others = min(value for title, value in medians.items() if title != "default")
        yield Measured(f"{task}: default", medians.pop("default"), most=others)
        for title, value in medians.items():
            yield Measured(f"{task}: {title}", value)


def front() -> Iterator[Measured]:
    """Energies against elastic constants, Stillinger-Weber, 8 free, to Tersoff's data; 5 seeds.

    Hypervolumes after 4000 evaluations beside those of the same search after 40000.
    """
    fit = Fit(silicon("sw", "tersoff"))
    energies, _, crystal = fit.problem.targets
    fit.objective = Objective(fit.problem.targets, pareto=[energies.name, crystal.name])
    dominated, whole = 0, {}
    for what, options, least in (
        ("NSGA-II", {}, 0.98),
        ("NSGA-II without least squares", {"squares": 0.0}, None),
    ):
        short = _made(fit, "nsga2", range(5), 4000, options)
        long = _made(fit, "nsga2", range(5), 40000, options)
        run(fit.score, [*short, *long])
        fronts = [[np.array([s.objectives for _, s in x.front]) for x in y] for y in (short, long)]
        dominated += sum(len(f) - int(search.nondominated(f).sum()) for y in fronts for f in y)
        ratios = [_volumes(one, other) for one, other in zip(*fronts, strict=True)]
        yield Measured(f"{what}: 4000 / 40000, median", statistics.median(ratios), least=least)
        yield Measured(f"{what}: worst of five seeds", min(ratios), least=least)
        whole[what] = fronts
    (short_, long_), (_, plain) = whole.values()
    for count, mine in ((4000, short_), (40000, long_)):
        ratios = [_volumes(one, other) for one, other in zip(mine, plain, strict=True)]
        yield Measured(f"{count} / 40000 without least squares, worst", min(ratios))
    yield Measured("reported points that another dominates", dominated, most=0)


def _volumes(one: Array, other: Array) -> float:
    """Ratio of hypervolumes below the worst of both fronts."""
    corner = np.maximum(one.max(axis=0), other.max(axis=0)) * 1.01
    return search.hypervolume(one, corner) / search.hypervolume(other, corner)


def tree() -> Iterator[Measured]:
    """Medians after 2000 evaluations: of 15 seeds in 20 dimensions, of 9 for Tersoff."""
    for what, goal in (("Rastrigin", rastrigin), ("Ackley", ackley)):
        medians = {}
        for name in ("tree", "ga", "random"):
            totals = []
            for seed in range(15):
                centre = np.random.default_rng(1000 + seed).uniform(0.3, 0.7, 20)
                found = search.make(name, 20, seed=seed, budget=2000)
                run(lambda points, g=goal, c=centre: [g(x, c) for x in points], [found])
                totals += _totals([found])
            medians[name] = statistics.median(totals)
        yield from _ranked(what, medians)
    fit = Fit(silicon("tersoff"))
    medians = {}
    for name in ("tree", "ga", "random"):
        searches = _made(fit, name, range(9), 2000)
        run(fit.score, searches)
        medians[name] = statistics.median(_totals(searches))
    yield from _ranked("Tersoff", medians)


def _ranked(what: str, medians: dict[str, float]) -> Iterator[Measured]:
    yield Measured(f"{what}: tree", medians["tree"], most=min(medians["ga"], medians["random"]))
    yield Measured(f"{what}: ga", medians["ga"])
    yield Measured(f"{what}: random", medians["random"])


def rastrigin(x: Array, centre: Array) -> Score:
    y = 10.24 * (x - centre)
    return Score(float(10 * len(y) + (y * y - 10 * np.cos(2 * np.pi * y)).sum()))


def ackley(x: Array, centre: Array) -> Score:
    y = 65.536 * (x - centre)
    near = -20 * np.exp(-0.2 * np.sqrt((y * y).mean()))
    return Score(float(near - np.exp(np.cos(2 * np.pi * y).mean()) + 20 + np.e))


bars = {
    "search: exact fit of Stillinger-Weber": exact,
    "search: Tersoff from a wide start": wide,
    "search: least squares from nearby": nearby,
    "search: fit with a model error": model_error,
    "search: contest": contest,
    "search: front": front,
    "search: tree": tree,
}
