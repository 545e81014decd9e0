"""Genetic algorithm, differential evolution, particle swarm and NSGA-II/III by pymoo."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from mlcore.errors import InvalidArgument
from mlcore.forcefield.score import Score
from mlcore.forcefield.search.face import (
    Jacobian,
    Points,
    Strategy,
    key,
    opening,
    recorded,
    staged,
)
from mlcore.forcefield.search.pareto import Front, crowding
from mlcore.forcefield.search.supported import Shares, supported

__all__ = ["de", "ga", "nsga2", "nsga3", "pso"]

Population = Annotated[int, Field(ge=4, description="points of a generation")]
Sharpness = Annotated[
    float, Field(gt=0, description="index of simulated binary crossover: large stays near parents")
]
Mutation = Annotated[
    float, Field(gt=0, description="index of polynomial mutation: large stays near")
]
Squares = Annotated[
    float,
    Field(
        ge=0,
        lt=1,
        description="part of the budget for least squares on weighted sums, where scores have "
        "residuals: what it finds begins the population",
    ),
]
Make = Callable[[Any, int], Any]
Values = npt.NDArray[np.float64]


def ga(
    size: int,
    *,
    start: Points | None = None,
    seed: int = 0,
    popsize: Population = 40,
    crossover: Sharpness = 15.0,
    mutation: Mutation = 20.0,
) -> Strategy:
    """A real-coded genetic algorithm: tournaments, simulated binary crossover, elitism."""

    def make(first: Any, objectives: int) -> Any:
        from pymoo.algorithms.soo.nonconvex.ga import GA

        return GA(pop_size=popsize, sampling=first, **_operators(crossover, mutation))

    yield from _evolve(make, size, start, seed, popsize, several=False)


def de(
    size: int,
    *,
    start: Points | None = None,
    seed: int = 0,
    popsize: Population = 40,
    variant: Annotated[
        Literal["rand/1/bin", "best/1/bin", "target-to-best/1/bin", "rand/1/exp", "best/2/bin"],
        Field(description="what is changed / by how many differences / how it is crossed"),
    ] = "rand/1/bin",
    weight: Annotated[float, Field(gt=0, le=2, description="factor of the differences")] = 0.5,
    crossover: Annotated[
        float, Field(gt=0, lt=1, description="chance of a coordinate to change")
    ] = 0.7,
) -> Strategy:
    """Differential evolution. R. Storn and K. Price, J. Global Optim. 11, 341 (1997)."""

    def make(first: Any, objectives: int) -> Any:
        from pymoo.algorithms.soo.nonconvex.de import DE

        return DE(pop_size=popsize, sampling=first, variant=f"DE/{variant}", F=weight, CR=crossover)

    yield from _evolve(make, size, start, seed, popsize, several=False)


def pso(
    size: int,
    *,
    start: Points | None = None,
    seed: int = 0,
    popsize: Population = 25,
    inertia: Annotated[float, Field(gt=0, lt=1, description="of the velocities")] = 0.9,
    own: Annotated[float, Field(gt=0, description="pull of a particle's best point")] = 2.0,
    social: Annotated[float, Field(gt=0, description="pull of the swarm's best point")] = 2.0,
    adaptive: Annotated[bool, Field(description="the three change with the spread")] = True,
) -> Strategy:
    """Particle swarm. Z.-H. Zhan et al., IEEE Trans. Syst. Man Cybern. B 39, 1362 (2009)."""

    def make(first: Any, objectives: int) -> Any:
        from pymoo.algorithms.soo.nonconvex.pso import PSO

        return PSO(
            pop_size=popsize, sampling=first, w=inertia, c1=own, c2=social, adaptive=adaptive
        )

    yield from _evolve(make, size, start, seed, popsize, several=False)


def nsga2(
    size: int,
    *,
    start: Points | None = None,
    seed: int = 0,
    budget: int | None = None,
    jacobian: Jacobian | None = None,
    shares: Shares | None = None,
    squares: Squares = 0.5,
    popsize: Population = 30,
    mating: Annotated[
        Literal["differential", "sbx"],
        Field(description="by differences of points, or by binary crossover, axis by axis"),
    ] = "differential",
    crossover: Sharpness = 15.0,
    mutation: Mutation = 20.0,
) -> Strategy:
    """Pareto front by ranks and crowding, for two or three objectives.

    K. Deb et al., IEEE Trans. Evol. Comput. 6, 182 (2002). Parameters of potentials are correlated:
    differences of points follow their valleys, as in S. Kukkonen and J. Lampinen's GDE3 (2005).
    Where the objectives are sums of squares, half of the budget goes to least squares first.
    """

    def make(first: Any, objectives: int) -> Any:
        from pymoo.algorithms.moo.nsga2 import NSGA2

        own = (
            _differences(mutation) if mating == "differential" else _operators(crossover, mutation)
        )
        return NSGA2(pop_size=popsize, sampling=first, **own)

    early = _Early(shares, squares, budget, jacobian) if shares is not None and squares else None
    yield from _evolve(make, size, start, seed, popsize, several=True, early=early)


def nsga3(
    size: int,
    *,
    start: Points | None = None,
    seed: int = 0,
    budget: int | None = None,
    jacobian: Jacobian | None = None,
    shares: Shares | None = None,
    squares: Squares = 0.5,
    popsize: Annotated[
        int | None, Field(ge=4, description="None: as many as there are directions, at least 60")
    ] = None,
    partitions: Annotated[
        int | None, Field(ge=1, description="of each edge of the plane of directions")
    ] = None,
    crossover: Sharpness = 30.0,
    mutation: Mutation = 20.0,
) -> Strategy:
    """Pareto front along directions of reference, for three and more objectives.

    K. Deb and H. Jain, IEEE Trans. Evol. Comput. 18, 577 (2014). Where the objectives are sums of
    squares, half of the budget goes to least squares first.
    """

    def make(first: Any, objectives: int) -> Any:
        from pymoo.algorithms.moo.nsga3 import NSGA3
        from pymoo.util.ref_dirs import get_reference_directions

        cuts = partitions or {1: 1, 2: 59, 3: 9, 4: 5, 5: 4}.get(objectives, 3)
        directions = get_reference_directions("das-dennis", objectives, n_partitions=cuts)
        many = popsize or max(60, len(directions))
        return NSGA3(directions, pop_size=many, sampling=first, **_operators(crossover, mutation))

    early = _Early(shares, squares, budget, jacobian) if shares is not None and squares else None
    yield from _evolve(make, size, start, seed, popsize or 60, several=True, early=early)


def _operators(crossover: float, mutation: float) -> dict[str, Any]:
    from pymoo.operators.crossover.sbx import SBX
    from pymoo.operators.mutation.pm import PM

    return {"crossover": SBX(prob=0.9, eta=crossover), "mutation": PM(eta=mutation)}


def _differences(mutation: float) -> dict[str, Any]:
    from pymoo.algorithms.soo.nonconvex.de import Variant
    from pymoo.operators.control import NoParameterControl

    mating = Variant(
        selection="rand", n_diffs=1, crossover="bin", F=0.5, CR=0.9, control=NoParameterControl
    )
    mating.mutation.eta = mutation
    return {"mating": mating}


@dataclass(frozen=True)
class _Early:
    """Least squares before the first generation.

    Attributes:
        shares: of residuals in objectives.
        part: of the budget.
        budget: of the search.
        jacobian: of the residuals.
    """

    shares: Shares
    part: float
    budget: int | None
    jacobian: Jacobian | None

    def work(
        self, points: list[Points], scores: list[Score], random: np.random.Generator
    ) -> Strategy:
        """Adds to points and scores; nothing where there is nothing to begin from."""
        budget = 100 * len(points[0]) if self.budget is None else self.budget
        front = Front()
        for found in zip(points, scores, strict=True):
            front.add(*found)
        if front.members:
            most = int(self.part * budget)
            squares = supported(front, self.shares, most, random, self.jacobian)
            yield from recorded(staged("least_squares", squares), points, scores)


def _evolve(
    make: Make,
    size: int,
    start: Points | None,
    seed: int,
    popsize: int,
    several: bool,
    early: _Early | None = None,
) -> Strategy:
    """Generations until the library finds no new points, then anew.

    The first generation is a Latin hypercube of our own, scored before the library is set up:
    only then the number of objectives is known.
    """
    random = np.random.default_rng(seed)
    while True:
        points = opening(size, start, random, popsize)
        scores: Sequence[Score] = yield points
        objectives = _count(scores) if several else 1
        if early is not None and objectives:
            known, told = list(points), list(scores)
            yield from early.work(known, told, random)
            points, scores = _chosen(known, told, popsize)
            early = None
        if objectives:
            yield from _generations(make, points, scores, objectives, random)
        start = None


def _chosen(points: list[Points], scores: list[Score], count: int) -> tuple[Points, list[Score]]:
    """So many points: those of the front, the most crowded left out, then the best others."""
    front = Front()
    for found in zip(points, scores, strict=True):
        front.add(*found)
    members = front.members
    while len(members) > count:
        order = np.argsort(crowding([score.objectives for _, score in members]), kind="stable")
        # a tenth at a time: neighbors of who goes are less crowded then
        gone = set(order[: -(-(len(members) - count) // 10)].tolist())
        members = [member for k, member in enumerate(members) if k not in gone]
    taken = {point.tobytes() for point, _ in members}
    for k in sorted(range(len(scores)), key=lambda k: (*key(scores[k]), k)):
        if len(members) < count and points[k].tobytes() not in taken:
            taken.add(points[k].tobytes())
            members.append((points[k], scores[k]))
    return np.array([point for point, _ in members]), [score for _, score in members]


def _generations(
    make: Make,
    points: Points,
    scores: Sequence[Score],
    objectives: int,
    random: np.random.Generator,
) -> Strategy:
    from pymoo.core.population import Population as Individuals
    from pymoo.core.problem import Problem
    from pymoo.core.termination import NoTermination

    size = points.shape[1]
    problem = Problem(n_var=size, n_obj=objectives, n_ieq_constr=1, xl=np.zeros(size), xu=1.0)
    algorithm = make(Individuals.new(X=points), objectives)
    algorithm.setup(
        problem,
        termination=NoTermination(),
        seed=int(random.integers(2**31)),
        verbose=False,
    )
    asked = algorithm.ask()
    while True:
        values, violations = _values(scores, objectives)
        for one, value, violation in zip(asked, values, violations, strict=True):
            one.set("F", value)
            one.set("G", np.array([violation]))
            one.evaluated.update({"F", "G"})
        algorithm.tell(infills=asked)
        asked = algorithm.ask()
        if asked is None or not len(asked):
            return
        scores = yield np.array(asked.get("X"), dtype=np.float64)


def _count(scores: Sequence[Score]) -> int:
    """Number of objectives; 0 where every candidate failed without saying how many."""
    counts = {len(s.objectives) for s in scores if s.objectives}
    if not counts and any(math.isfinite(s.total) for s in scores):
        raise InvalidArgument("scores: have no objectives, which a search for a front needs")
    if len(counts) > 1:
        raise InvalidArgument(f"scores: numbers of objectives differ, {sorted(counts)}")
    return max(counts, default=0)


def _values(scores: Sequence[Score], objectives: int) -> tuple[Values, Values]:
    """(m, M) finite objectives and (m,) violations; who failed violates more than all others."""
    values = np.full((len(scores), objectives), np.nan)
    violations = np.empty(len(scores))
    for k, score in enumerate(scores):
        own = (score.total,) if objectives == 1 else score.objectives
        if len(own) == objectives and np.isfinite(own).all():
            values[k], violations[k] = own, score.violation
        else:
            violations[k] = 1e6 + min(score.violation, 1e6)
    fine = np.isfinite(values).all(axis=1)
    values[~fine] = values[fine].max(axis=0) if fine.any() else 1.0
    return values, violations
