"""Every search by name: it finds, survives, repeats itself, and leaves nothing behind."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import search_problems as problems
from mlcore import InvalidArgument
from mlcore.forcefield import search
from mlcore.forcefield.score import Score
from search_problems import bits, run

NAMES = search.names()
SEVERAL = {"nsga2", "nsga3"}
SINGLE = [name for name in NAMES if name not in SEVERAL]
BLIND = {"random", "latin_hypercube", "sobol"}
SMALL = {
    "two_stage": {"first": "cma", "second": "least_squares", "hand_over": 2},
}


def make(name: str, seed: int = 5, budget: int | None = 400, size: int = 4) -> search.Search:
    start = np.full(size, 0.4)
    return search.make(
        name, size, start=start, seed=seed, budget=budget, options=SMALL.get(name, {})
    )


def goal(name: str) -> problems.Problem:
    return problems.two_objectives if name in SEVERAL else problems.failing


@pytest.mark.parametrize("name", SINGLE)
def test_sphere(name: str) -> None:
    found = make(name)
    run(found, problems.sphere)
    assert found.best is not None
    start = problems.sphere(np.full(4, 0.4)).total
    assert found.best[1].total < (0.7 * start if name in BLIND else 0.05 * start)
    assert found.evaluations <= 400


@pytest.mark.parametrize("name", SINGLE)
def test_rosenbrock(name: str) -> None:
    found = make(name, budget=1200)
    run(found, problems.rosenbrock)
    assert found.best is not None
    assert found.best[1].total < (30 if name in BLIND else 4.5)  # a second minimum has 3.7


@pytest.mark.parametrize("name", SINGLE)
def test_a_failing_region_is_survived(name: str) -> None:
    found = make(name, budget=600)
    run(found, problems.failing)
    assert found.best is not None and found.best[1].error is None
    assert found.best[1].total < problems.failing(np.full(4, 0.4)).total


@pytest.mark.parametrize(
    ("name", "problem"),
    [(name, problems.nowhere) for name in NAMES] + [(name, problems.nan) for name in SINGLE],
)
def test_a_goal_that_never_works_is_survived(name: str, problem: problems.Problem) -> None:
    found = make(name, budget=200)
    asked = run(found, problem)
    assert all(np.isfinite(points).all() for points in asked)
    assert all(points.min() >= 0 and points.max() <= 1 for points in asked)


@pytest.mark.parametrize("name", SINGLE)
def test_constraints_are_kept(name: str) -> None:
    found = search.make(name, 4, start=np.full(4, 0.3), seed=1, budget=600, options=SMALL.get(name))
    run(found, problems.constrained)
    assert found.best is not None and found.best[1].violation == 0
    assert found.best[1].total <= problems.sphere(np.full(4, 0.3)).total


@pytest.mark.parametrize("name", NAMES)
def test_replay_asks_the_same_bits(name: str) -> None:
    first = make(name)
    asked = run(first, goal(name))
    assert sum(map(len, asked)) == first.evaluations <= 400
    told = [goal(name)(point) for points in asked for point in points]
    half = len(told) // 2
    again = make(name)
    used = again.replay(told[:half])
    assert half - len(again.ask()) < used <= half
    rest = run(again, goal(name))
    assert again.evaluations == first.evaluations
    assert bits(asked)[-len(rest) :] == bits(rest)
    assert again.best is not None and first.best is not None
    assert again.best[0].tobytes() == first.best[0].tobytes()


@pytest.mark.parametrize("name", NAMES)
def test_others_do_not_disturb(name: str) -> None:
    """Two searches in turns while the global generator is busy, against one alone."""
    alone = bits(run(make(name, budget=200), goal(name)))
    one, other = make(name, budget=200), make(name, seed=6, budget=200)
    asked = []
    while not one.done:
        for search_ in (one, other):
            if search_.done:
                continue
            np.random.seed(len(asked))
            np.random.standard_normal(3)
            points = search_.ask()
            asked += [points.tobytes()] if search_ is one else []
            search_.tell([goal(name)(point) for point in points])
    assert asked == alone


def digest() -> str:
    """Of all that every search asks for."""
    found = hashlib.sha256()
    for name in NAMES:
        for points in bits(run(make(name, budget=120), goal(name))):
            found.update(points)
    return found.hexdigest()


def test_a_fresh_process_asks_the_same_bits() -> None:
    here = Path(__file__).parent
    code = f"import sys; sys.path.insert(0, {str(here)!r}); import {Path(__file__).stem} as t"
    done = subprocess.run(
        [sys.executable, "-c", code + "; print(t.digest())"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == digest()


@pytest.mark.parametrize("name", NAMES)
def test_seeds_differ(name: str) -> None:
    """Except where nothing is random."""
    sure = {"geodesic", "least_squares", "nelder_mead", "powell", "lbfgsb"}
    one, other = (bits(run(make(name, seed), goal(name), 100)) for seed in (0, 1))
    assert (one == other) == (name in sure)


@pytest.mark.parametrize("name", NAMES)
def test_dropped_half_way(name: str) -> None:
    before = threading.active_count()
    found = make(name)
    run(found, goal(name), most=40)
    del found
    assert threading.active_count() == before


@pytest.mark.parametrize("name", NAMES)
def test_budget_is_never_exceeded(name: str) -> None:
    for budget in (1, 7, 53):
        found = make(name, budget=budget)
        run(found, goal(name))
        assert found.evaluations <= budget
        assert found.done and found.ask().size == 0


def test_the_evolution_strategy_finds_a_single_parameter() -> None:
    found = search.make("cma", 1, seed=3, budget=120, options={"restarts": 0})
    while not found.done:
        found.tell([Score(float((x[0] - 0.3) ** 2)) for x in found.ask()])
    assert found.best is not None
    assert abs(found.best[0][0] - 0.3) < 1e-3


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("size", [1, 13])
def test_any_number_of_parameters(name: str, size: int) -> None:
    found = make(name, budget=100, size=size)
    assert all(points.shape[1] == size for points in run(found, problems.two_objectives))
    assert found.best is not None


@pytest.mark.parametrize("name", NAMES)
def test_options_are_described_and_checked(name: str) -> None:
    record = search.describe(name)
    assert record["name"] == name and record["text"]
    properties = record["options"].get("properties", {})
    assert all(option.get("description") for option in properties.values())
    with pytest.raises(InvalidArgument, match=rf"'nonsense' of search '{name}'"):
        search.make(name, 3, options={"nonsense": 1})
    for option in properties:
        with pytest.raises(InvalidArgument, match=rf"'{option}.*' of search '{name}'"):
            search.make(name, 3, options={option: object()})
