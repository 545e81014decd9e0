"""Faults that searches had: each was seen to fail before it was mended."""

from __future__ import annotations

import math

import numpy as np
import pytest
import search_problems as problems
from mlcore import InvalidArgument
from mlcore.forcefield import search
from mlcore.forcefield.score import Score
from search_problems import run


@pytest.mark.parametrize("size", [1, 3])
def test_hoga_scores_no_point_twice(size: int) -> None:
    found = search.make("hoga", size, seed=0, budget=600, options={"popsize": 20})
    asked = [point.tobytes() for points in run(found, problems.sphere) for point in points]
    assert len(set(asked)) == len(asked) == 600


def test_default_does_not_end_at_a_violation() -> None:
    """Beyond the constraint the total is 0, which is no reason to stop."""

    def goal(x: np.ndarray) -> Score:
        excess = float(x.sum() - 1)
        return Score(0.0, np.zeros(3), violation=excess) if excess > 0 else problems.sphere(x)

    found = search.make("default", 3, start=np.full(3, 0.9), seed=0, budget=400)
    run(found, goal)
    assert found.evaluations == 400
    assert found.best is not None and found.best[1].violation == 0


def test_the_second_stage_has_what_the_first_left() -> None:
    options = {"first": "least_squares", "second": "random", "share": 0.9}
    found = search.make("two_stage", 3, seed=0, budget=300, options=options)
    run(found, problems.sphere)
    assert found.evaluations == 300


@pytest.mark.parametrize(("violation", "total"), [(-1.0, 1.0), (math.nan, 1.0)])
def test_a_violation_below_zero_is_none_and_one_that_is_no_number_is_a_failure(
    violation: float, total: float
) -> None:
    def once() -> search.Strategy:
        yield np.zeros((2, 1))

    found = search.Search(once())
    found.ask()
    found.tell([Score(5.0, violation=violation), Score(total)])
    assert found.best is not None and found.best[1].total == total


def test_minpack_says_what_it_cannot_do() -> None:
    with pytest.raises(InvalidArgument, match="'loss'"):
        search.make("least_squares", 3, options={"method": "lm", "loss": "huber"})
    found = search.make("least_squares", 3, options={"method": "lm"})
    with pytest.raises(InvalidArgument, match="1 for 3"):
        run(found, lambda x: problems.squares(x[:1] - 0.3))


@pytest.mark.parametrize(
    ("name", "option"), [("cma", "growth"), ("tree", "scaling"), ("hoga", "mutation")]
)
def test_options_are_finite(name: str, option: str) -> None:
    with pytest.raises(InvalidArgument, match=option):
        search.make(name, 2, options={option: math.inf})


def test_fronts_are_finite() -> None:
    endless = [[0.0, math.inf], [1.0, 1.0], [2.0, 0.0]]
    for function in (search.knee, search.crowding):
        with pytest.raises(InvalidArgument, match="objectives"):
            function(endless)
    with pytest.raises(InvalidArgument, match="reference"):
        search.hypervolume([[0.0, 2.0]], [math.nan, 3.0])
    assert search.hypervolume(endless, [3.0, 3.0]) == pytest.approx(5.0)
