"""The face of a search: what it takes, what it says, what it keeps."""

from __future__ import annotations

import gc
import math
import subprocess
import sys
import threading
from collections.abc import Iterator

import numpy as np
import pytest
import search_problems as problems
from mlcore import InvalidArgument
from mlcore.forcefield import search
from mlcore.forcefield.score import Score


def steps(count: int = 3) -> search.Strategy:
    for k in range(count):
        yield np.full((2, 2), k / 10)


def test_asking_twice_gives_the_same_points() -> None:
    found = search.Search(steps())
    assert found.ask() is found.ask()
    with pytest.raises(ValueError, match="read-only"):
        found.ask()[0, 0] = 1


def test_scores_need_points() -> None:
    found = search.Search(steps(1))
    with pytest.raises(InvalidArgument, match="scores"):
        found.tell([])
    found.ask()
    with pytest.raises(InvalidArgument, match="1 for 2 points"):
        found.tell([Score(0.0)])
    found.tell([Score(0.0)] * 2)
    assert found.done and found.ask().shape == (0, 0)
    with pytest.raises(InvalidArgument, match="scores"):
        found.tell([])


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("name", {"name": "newton"}),
        ("size", {"size": 0}),
        ("size", {"size": 2.0}),
        ("start", {"start": [0.5]}),
        ("start", {"start": [0.5, 1.5]}),
        ("start", {"start": [0.5, math.nan]}),
        ("start", {"start": "here"}),
        ("seed", {"seed": -1}),
        ("seed", {"seed": None}),
        ("budget", {"budget": 0}),
        ("budget", {"budget": 1.5}),
        ("sigma", {"options": {"sigma": -1.0}}),
        ("sigma", {"options": {"sigma": "wide"}}),
        ("options", {"options": 3}),
    ],
)
def test_wrong_arguments_are_named(name: str, arguments: dict[str, object]) -> None:
    with pytest.raises(InvalidArgument, match=rf"\b{name}\b"):
        search.make(**{"name": "cma", "size": 2} | arguments)


def test_best_goes_by_violation_levels_and_total() -> None:
    def once() -> search.Strategy:
        yield np.linspace(0, 1, 5)[:, None]

    found = search.Search(once())
    found.ask()
    scores = [
        Score(math.inf),
        Score(0.0, violation=1.0),
        Score(1.0, level=0),
        Score(9.0, level=1),
        Score(8.0, level=1),
    ]
    found.tell(scores)
    assert found.best is not None and found.best[1] is scores[4]


def test_what_is_no_number_counts_as_failed() -> None:
    found = search.Search(steps(1))
    found.ask()
    found.tell([Score(math.nan, np.zeros(2)), Score(1.0, np.array([math.nan]))])
    assert found.best is not None and found.best[1].total == math.inf
    assert found.best[1].residuals is None


def test_a_budget_cuts_the_last_batch() -> None:
    found = search.Search(steps(9), budget=5)
    sizes = [len(points) for points in problems.run(found, problems.sphere)]
    assert sizes == [2, 2, 1] and found.done


def test_replay_leaves_half_a_batch() -> None:
    found = search.Search(steps(3))
    assert found.replay([Score(1.0)] * 3) == 2
    assert found.evaluations == 2 and found.ask()[0, 0] == 0.1


def test_recorded_and_limited_compose() -> None:
    points: list[np.ndarray] = []
    scores: list[Score] = []
    found = search.Search(search.recorded(search.limited(steps(9), 4), points, scores))
    problems.run(found, problems.sphere)
    assert len(points) == len(scores) == found.evaluations == 4


def test_what_a_library_raises_comes_through() -> None:
    def work(ask: object) -> None:
        raise ZeroDivisionError("in the library")

    with pytest.raises(ZeroDivisionError, match="in the library"):
        search.Search(search.inverted(work)).ask()


def test_a_closed_search_ends_its_thread() -> None:
    before = threading.active_count()
    found = search.make("nelder_mead", 3)
    found.ask()
    assert threading.active_count() == before + 1
    found.close()
    assert threading.active_count() == before and found.done


def test_a_cycle_of_garbage_ends_its_thread() -> None:
    before = threading.active_count()
    found = search.make("powell", 3)
    found.ask()
    holder: list[object] = [found]
    holder.append(holder)
    del found, holder
    gc.collect()
    assert threading.active_count() == before


def test_a_search_left_open_does_not_hold_up_the_end() -> None:
    code = (
        "from mlcore.forcefield import search; s = search.make('nelder_mead', 3); s.ask(); print(1)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, "1\n", "")


def test_heavy_libraries_wait() -> None:
    code = (
        "import sys; from mlcore.forcefield import search; search.describe('cma');"
        "print(*(m for m in ('scipy', 'cma', 'pymoo', 'matplotlib') if m in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_least_squares_asks_for_all_columns_at_once() -> None:
    found = search.make("least_squares", 4, start=np.full(4, 0.4))
    sizes = [len(points) for points in problems.run(found, problems.rosenbrock)]
    assert set(sizes) == {1, 4}
    assert found.best is not None and found.best[1].total < 1e-20


def test_a_jacobian_of_the_caller_needs_no_columns() -> None:
    seen = []

    def jacobian(x: np.ndarray) -> np.ndarray:
        seen.append(x)
        y = 4 * x - 2
        upper = 10 * (np.eye(4)[1:] - 2 * y[:-1, None] * np.eye(4)[:-1])
        return 4 * np.vstack([upper, -np.eye(4)[:-1]])

    for name in ("least_squares", "lbfgsb", "geodesic"):
        found = search.make(name, 4, start=np.full(4, 0.4), jacobian=jacobian)
        asked = problems.run(found, problems.rosenbrock)
        assert {len(points) for points in asked} == {1}
        assert found.best is not None and found.best[1].total < 1e-15
    assert seen


@pytest.mark.parametrize("method", ["trf", "dogbox", "lm"])
def test_least_squares_methods(method: str) -> None:
    found = search.make("least_squares", 4, start=np.full(4, 0.4), options={"method": method})
    problems.run(found, problems.rosenbrock)
    assert found.best is not None and found.best[1].total < 1e-15


def test_least_squares_reaches_a_bound() -> None:
    def beyond(x: np.ndarray) -> Score:
        return problems.squares(x - np.array([1.5, 0.5, -0.5]))

    found = search.make("least_squares", 3, start=np.array([1.0, 0.2, 0.0]))
    problems.run(found, beyond)
    assert found.best is not None
    assert np.allclose(found.best[0], [1, 0.5, 0], atol=1e-6)


def batches(name: str) -> Iterator[int]:
    found = search.make(name, 5, start=np.full(5, 0.5), budget=60)
    yield from (len(points) for points in problems.run(found, problems.sphere))


def test_the_first_simplex_and_slopes_come_in_one_batch() -> None:
    assert next(batches("nelder_mead")) == 6
    assert next(batches("lbfgsb")) == 6
