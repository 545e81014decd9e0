"""Fronts of sums of squares: least squares first, then generations."""

from __future__ import annotations

import numpy as np
import pytest
import search_problems as problems
from mlcore import InvalidArgument
from mlcore.forcefield import search
from mlcore.forcefield.score import Score
from search_problems import bits, run

SIZE = 6
ROWS = 12


def bent(count: int) -> tuple[problems.Problem, np.ndarray]:
    """Residuals of `count` objectives, none of which wants what the others want."""
    random = np.random.default_rng(1)
    mixing = random.normal(size=(ROWS, SIZE)) * 3.0 ** np.linspace(0, -4, SIZE)
    wanted = random.normal(size=ROWS)
    shares = np.zeros((count, ROWS))
    shares[np.arange(ROWS) % count, np.arange(ROWS)] = 1.0 + np.arange(ROWS) / ROWS

    def goal(x: np.ndarray) -> Score:
        y = 4 * x - 2
        residuals = mixing @ (y + 0.3 * y**2) - wanted
        objectives = shares @ residuals**2
        return problems.squares(residuals, objectives=tuple(objectives.tolist()))

    return goal, shares


def volume(found: search.Search, corner: np.ndarray) -> float:
    values = np.array([score.objectives for _, score in found.front])
    return search.hypervolume(values[(values < corner).all(axis=1)], corner)


@pytest.mark.parametrize(("name", "count"), [("nsga2", 2), ("nsga3", 3)])
def test_least_squares_makes_better_fronts(name: str, count: int) -> None:
    """After 600 evaluations, those of steps counted; medians of three seeds."""
    goal, shares = bent(count)
    corner = np.full(count, goal(np.full(SIZE, 0.5)).total)

    def median(**options: object) -> float:
        volumes = []
        for seed in range(3):
            found = search.make(name, SIZE, seed=seed, budget=600, **options)
            run(found, goal)
            assert found.evaluations == 600
            volumes.append(volume(found, corner))
        return float(np.median(volumes))

    assert median(shares=shares) > 1.02 * median()


def test_stages_of_a_front() -> None:
    goal, shares = bent(2)
    found = search.make("nsga2", SIZE, seed=0, budget=400, shares=shares)
    stages: list[str] = []
    while not found.done:
        points = found.ask()
        stages += [found.stage] * len(points)
        found.tell([goal(x) for x in points])
    assert list(dict.fromkeys(stages)) == ["nsga2", "least_squares"]
    assert stages.count("least_squares") in range(150, 201) and stages[-1] == "nsga2"


def test_no_squares_and_no_residuals_are_generations_alone() -> None:
    goal, shares = bent(2)
    plain = bits(run(search.make("nsga2", SIZE, seed=0, budget=200), goal))
    options = {"squares": 0.0}
    without = search.make("nsga2", SIZE, seed=0, budget=200, shares=shares, options=options)
    assert bits(run(without, goal)) == plain

    def bare(x: np.ndarray) -> Score:
        score = goal(x)
        return Score(score.total, None, score.objectives)

    found = search.make("nsga2", SIZE, seed=0, budget=200, shares=shares)
    run(found, bare)
    assert found.evaluations == 200 and len(found.front) > 5


def test_fronts_of_squares_survive_failures_and_repeat_themselves() -> None:
    goal, shares = bent(2)

    def broken(x: np.ndarray) -> Score:
        return Score.failed("lost atoms", objectives=2) if x[0] > 0.6 else goal(x)

    def made() -> search.Search:
        return search.make("nsga2", SIZE, seed=3, budget=500, shares=shares)

    asked = run(made(), broken)
    told = [broken(x) for points in asked for x in points]
    again = made()
    used = again.replay(told[:333])
    assert 0 < used <= 333
    rest = run(again, broken)
    assert bits(asked)[-len(rest) :] == bits(rest) and again.evaluations == 500
    nothing = search.make("nsga2", SIZE, seed=3, budget=200, shares=shares)
    run(nothing, problems.nowhere)
    assert nothing.evaluations == 200 and nothing.front == []


def test_a_jacobian_spares_the_columns() -> None:
    mixing = np.random.default_rng(5).normal(size=(ROWS, SIZE))
    shares = np.stack([np.arange(ROWS) < 6, np.arange(ROWS) >= 6]).astype(float)

    def goal(x: np.ndarray) -> Score:
        residuals = mixing @ x - np.arange(ROWS) / ROWS
        return problems.squares(residuals, objectives=tuple((shares @ residuals**2).tolist()))

    found = search.make("nsga2", SIZE, budget=300, shares=shares, jacobian=lambda x: mixing)
    sizes = []
    while not found.done:
        points = found.ask()
        sizes += [len(points)] if found.stage == "least_squares" else []
        found.tell([goal(x) for x in points])
    assert sizes and set(sizes) == {1}
    ends = np.array([score.objectives for _, score in found.front]).min(axis=0)
    for which, end in enumerate(ends):
        rows = shares[which] > 0
        wanted = np.arange(ROWS)[rows] / ROWS
        point = np.clip(np.linalg.lstsq(mixing[rows], wanted, rcond=None)[0], 0, 1)
        assert end <= float(((mixing[rows] @ point - wanted) ** 2).sum()) + 1e-2


@pytest.mark.parametrize("shares", [np.zeros(3), [["a"]], [[-1.0]], [[np.nan]], np.zeros((0, 2))])
def test_wrong_shares_are_named(shares: object) -> None:
    with pytest.raises(InvalidArgument, match="shares"):
        search.make("nsga2", 2, shares=shares)
    goal, _ = bent(2)
    with pytest.raises(InvalidArgument, match="shares: of 3 residuals, got 12"):
        run(search.make("nsga2", SIZE, budget=100, shares=np.ones((2, 3))), goal)


def stages(name: str, **options: object) -> list[str]:
    """Of a whole search, as they follow one another."""
    found = search.make(name, 3, start=np.full(3, 0.4), seed=1, budget=300, options=options)
    seen: list[str] = []
    while not found.done:
        points = found.ask()
        seen += [found.stage] if seen[-1:] != [found.stage] else []
        found.tell([problems.rosenbrock(x) for x in points])
    return seen


def test_searches_made_of_others_say_which_is_at_work() -> None:
    assert stages("cma") == ["cma"]
    assert stages("default") == ["cma", "least_squares"]
    assert stages("default", first="ga") == ["ga", "least_squares"]
    assert stages("two_stage", first="ga", second="powell") == ["ga", "powell"]
    inner = {"first": "sobol", "evaluations": 64}
    assert stages("two_stage", first="random", second="two_stage", second_options=inner) == [
        "random",
        "sobol",
        "least_squares",
    ]


def test_a_strategy_of_ones_own_has_no_stage_and_a_default_without_residuals_is_a_simplex() -> None:
    def own() -> search.Strategy:
        yield np.zeros((1, 2))

    found = search.Search(own())
    assert found.ask().shape == (1, 2) and found.stage == ""
    found = search.make("default", 2, seed=0, budget=100)
    while not found.done:
        found.tell([Score(problems.sphere(x).total) for x in found.ask()])
    assert found.stage == "nelder_mead"
