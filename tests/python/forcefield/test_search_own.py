"""Our own searches: fronts, the hierarchical GA, tree search, stages, the default one."""

from __future__ import annotations

import math

import numpy as np
import pytest
import search_problems as problems
from mlcore import InvalidArgument
from mlcore.forcefield import search
from mlcore.forcefield.score import Score
from search_problems import run

RNG = np.random.default_rng(3)


def dominated(values: np.ndarray) -> np.ndarray:
    """(P,) by comparing all with all."""
    no_worse = (values[:, None] <= values[None]).all(axis=2)
    better = (values[:, None] < values[None]).any(axis=2)
    return (no_worse & better).any(axis=0)


def test_nondominated_points() -> None:
    values = RNG.random((200, 3))
    assert (search.nondominated(values) == ~dominated(values)).all()
    twice = np.array([[1.0, 2.0], [1.0, 2.0], [0.0, 3.0], [2.0, 2.0]])
    assert search.nondominated(twice).tolist() == [True, False, True, False]


def test_hypervolume_and_crowding_of_known_fronts() -> None:
    values = np.array([[0.0, 2.0], [1.0, 1.0], [2.0, 0.0]])
    assert search.hypervolume(values, [3.0, 3.0]) == pytest.approx(6.0)
    assert search.crowding(values).tolist() == [math.inf, 2.0, math.inf]


def test_the_knee_is_farthest_below_the_ends() -> None:
    x = np.linspace(0, 1, 41)
    front = np.stack([x, 10 * (1 - np.sqrt(x)) ** 2], axis=1)
    assert x[search.knee(front)] == pytest.approx(0.25, abs=0.03)


@pytest.mark.parametrize("wrong", [np.zeros(3), np.zeros((0, 2)), [[math.nan, 1.0]]])
def test_wrong_fronts_are_named(wrong: object) -> None:
    for function in (search.nondominated, search.knee, search.crowding):
        with pytest.raises(InvalidArgument, match="objectives"):
            function(wrong)
    with pytest.raises(InvalidArgument, match="reference"):
        search.hypervolume([[1.0, 1.0]], [1.0])


def volume(found: search.Search) -> float:
    return search.hypervolume([score.objectives for _, score in found.front], [2.0, 2.0])


@pytest.mark.parametrize("name", ["nsga2", "nsga3"])
def test_a_front_is_nondominated_and_nearly_whole(name: str) -> None:
    """A run of 1200 evaluations against one of 4800, both over a problem that fails somewhere."""
    short, long = (search.make(name, 3, seed=4, budget=budget) for budget in (1200, 4800))
    for found in (short, long):
        run(found, problems.two_objectives)
        values = np.array([score.objectives for _, score in found.front])
        assert not dominated(values).any() and len(values) > 30
    assert volume(short) > 0.98 * volume(long)


def test_a_front_keeps_no_one_who_fails_or_violates() -> None:
    def once() -> search.Strategy:
        yield np.zeros((4, 1))

    found = search.Search(once())
    found.ask()
    good = Score(1.0, objectives=(1.0, 1.0))
    found.tell(
        [
            Score(0.0, objectives=(0.0, 0.0), violation=1.0),
            Score.failed("lost", objectives=2),
            good,
            Score(1.0, objectives=(1.0, 1.0)),
        ]
    )
    assert [score for _, score in found.front] == [good]


def test_a_search_for_a_front_needs_objectives() -> None:
    found = search.make("nsga2", 2)
    with pytest.raises(InvalidArgument, match="objectives"):
        run(found, problems.sphere, most=200)


class Levels:
    """Level 0 is cheap and must be within 0.02; only who passes it pays for level 1."""

    def __init__(self) -> None:
        self.paid = 0

    def __call__(self, x: np.ndarray) -> Score:
        cheap = float(((x[:2] - 0.3) ** 2).sum())
        if cheap > 0.02:
            return Score(cheap, level=0)
        self.paid += 1
        return Score(float(((x - 0.4) ** 2).sum()), level=1)


def test_hoga_climbs_from_level_to_level() -> None:
    """Random points seldom pass the first level; who does not never pays for the second."""
    for seed in range(3):
        goal, blind = Levels(), Levels()
        found = search.make("hoga", 6, seed=seed, budget=1000)
        run(found, goal)
        random = search.make("random", 6, seed=seed, budget=1000)
        run(random, blind)
        assert found.best is not None and random.best is not None
        assert found.best[1].level == random.best[1].level == 1
        assert found.best[1].total < 0.005 < random.best[1].total
        assert blind.paid < 100 < goal.paid < 850


def test_hoga_orders_by_levels_first() -> None:
    """The error rises from level to level, and still the higher level wins."""

    def goal(x: np.ndarray) -> Score:
        level = min(int(x[0] * 4), 3)
        return Score(10.0 * level + x[1], level=level)

    found = search.make("hoga", 2, seed=0, budget=400)
    run(found, goal)
    assert found.best is not None
    assert found.best[1].level == 3 and found.best[1].total < 30.1


def rastrigin(x: np.ndarray) -> Score:
    y = 10.24 * (x - 0.41)
    return Score(float(10 * len(y) + (y * y - 10 * np.cos(2 * np.pi * y)).sum()))


def ackley(x: np.ndarray) -> Score:
    y = 65.536 * (x - 0.41)
    near = -20 * np.exp(-0.2 * np.sqrt((y * y).mean()))
    return Score(float(near - np.exp(np.cos(2 * np.pi * y).mean()) + 20 + np.e))


@pytest.mark.parametrize("problem", [rastrigin, ackley])
def test_tree_search_beats_random_and_ga(problem: problems.Problem) -> None:
    """Medians of three seeds in 20 dimensions."""

    def median(name: str) -> float:
        totals = []
        for seed in range(3):
            found = search.make(name, 20, seed=seed, budget=1200)
            run(found, problem)
            assert found.best is not None
            totals.append(found.best[1].total)
        return float(np.median(totals))

    tree = median("tree")
    assert tree < median("ga") < median("random")


def traps(x: np.ndarray) -> Score:
    """Residuals with a wide basin that ends at 0.02 and a narrow one that ends at 0."""
    wide = np.append(x - 0.3, 0.1414)
    narrow = 3 * (x - 0.8)
    return problems.squares(wide if wide @ wide < narrow @ narrow else np.append(narrow, 0.0))


def test_default_gets_out_of_a_trap() -> None:
    """The narrow basin is seven hundredths of the cube."""
    exact = 0
    for seed in range(4):
        found = search.make("default", 3, start=np.full(3, 0.2), seed=seed, budget=2500)
        run(found, traps)
        assert found.best is not None
        exact += found.best[1].total < 1e-12
    assert exact >= 3


def test_default_is_exact_where_fits_are() -> None:
    found = search.make("default", 6, start=np.full(6, 0.1), seed=0, budget=1500)
    run(found, problems.rosenbrock)
    assert found.best is not None and found.best[1].total <= 1e-20
    assert found.done and found.evaluations < 1500


def test_default_without_residuals() -> None:
    found = search.make("default", 3, start=np.full(3, 0.9), seed=0, budget=1500)
    run(found, lambda x: Score(problems.sphere(x).total))
    assert found.best is not None and found.best[1].total < 1e-8


@pytest.mark.parametrize("second", ["least_squares", "geodesic", "nelder_mead", "lbfgsb"])
def test_two_stages(second: str) -> None:
    options = {"first": "ga", "second": second, "hand_over": 2, "share": 0.4}
    found = search.make("two_stage", 4, seed=0, budget=1500, options=options)
    asked = run(found, problems.rosenbrock)
    assert sum(map(len, asked[:15])) == 600 and len(asked[15]) in (1, 5)
    assert found.best is not None and found.best[1].total < 1e-6


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"first": "newton"}, "newton"),
        ({"second": "newton"}, "newton"),
        ({"second_options": {"sigma": 1.0}}, "sigma"),
        ({"first_options": {"ftol": 1.0}}, "ftol"),
    ],
)
def test_two_stages_check_the_options_of_both_at_once(
    options: dict[str, object], word: str
) -> None:
    with pytest.raises(InvalidArgument, match=word):
        search.make("two_stage", 3, options=options)


def steep(x: np.ndarray) -> Score:
    """A bent valley a hundred times as steep across as along."""
    y = 4 * x - 2
    return problems.squares(np.concatenate([100 * (y[1:] - y[:-1] ** 2), 1 - y[:-1]]))


def test_geodesic_bends_with_the_valley() -> None:
    """Less than half of the evaluations of a straight trust region."""
    needed = {}
    for name in ("geodesic", "least_squares"):
        found = search.make(name, 4, start=np.full(4, 0.4), budget=2000)
        while not found.done and (found.best is None or found.best[1].total > 1e-14):
            found.tell([steep(x) for x in found.ask()])
        assert found.best is not None and found.best[1].total < 1e-14
        needed[name] = found.evaluations
    assert 2 * needed["geodesic"] < needed["least_squares"]


def test_geodesic_reaches_a_corner() -> None:
    target = np.array([1.5, 0.5, -0.5])
    mixing = np.array([[1.0, 0.3, 0.2], [0.0, 1.0, 0.4], [0.1, 0.0, 1.0]])
    found = search.make("geodesic", 3, start=np.array([1.0, 0.2, 0.9]))
    run(found, lambda x: problems.squares(mixing @ (x - target)))
    free = np.linalg.lstsq(
        mixing[:, 1:2], -mixing[:, [0, 2]] @ (np.array([1.0, 0.0]) - target[[0, 2]]), rcond=None
    )[0]
    assert found.best is not None
    assert found.best[0] == pytest.approx([1, target[1] + free[0], 0], abs=1e-6)


def test_default_uses_a_jacobian() -> None:
    """Its local searches then ask for single points."""
    mixing = np.random.default_rng(0).normal(size=(6, 4))
    asked: list[int] = []

    def jacobian(x: np.ndarray) -> np.ndarray:
        asked.append(len(x))
        return mixing

    found = search.make("default", 4, seed=0, budget=400, jacobian=jacobian)
    batches = run(found, lambda x: problems.squares(mixing @ (x - 0.6)))
    assert asked and {len(points) for points in batches[-6:]} == {1}
    assert found.best is not None and found.best[1].total <= 1e-20
