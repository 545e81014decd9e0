"""What every engine promises; the same tests for all of them."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator
from pathlib import Path

import parallel_work as work
import pytest
from mlcore import parallel


@pytest.fixture(scope="module", params=["serial", "processes", "parsl", "dask"])
def engine(request: pytest.FixtureRequest) -> Iterator[parallel.Engine]:
    if request.param in ("parsl", "dask"):
        pytest.importorskip(request.param)
    with parallel.engine(request.param, workers=2) as started:
        yield started


def values(results: Iterator[parallel.Result]) -> list[object]:
    return [result.value if result.error is None else result.error.type for result in results]


def test_results_come_in_the_order_of_the_items(engine: parallel.Engine) -> None:
    seconds = [0.05, 0.0, 0.02, 0.0, 0.0, 0.03, 0.0, 0.0]
    assert values(engine.map(work.wait, seconds, chunk=1)) == seconds
    assert values(engine.map(work.square, range(1000))) == [x * x for x in range(1000)]
    assert values(engine.map(work.square, [])) == []


def test_an_exception_is_data(engine: parallel.Engine) -> None:
    good, bad = engine.map(work.fail_on_odd, [2, 3])
    assert good == parallel.Result(2)
    assert bad.value is None and bad.error is not None
    assert (bad.error.type, bad.error.message) == ("ValueError", "3 is odd")
    assert "parallel_work.py" in bad.error.traceback
    assert values(engine.map(work.leave, [1])) == ["SystemExit"]


def test_what_cannot_be_sent_is_an_error_of_its_item(engine: parallel.Engine) -> None:
    sent = list(engine.map(work.square, [2, threading.Lock(), 3]))
    assert [r.value for r in sent] == [4, None, 9]
    assert "cannot be sent to a worker" in sent[1].error.message
    (back,) = engine.map(work.a_function, [1])
    assert "cannot be sent back" in back.error.message


def test_items_without_end_are_taken_as_they_are_needed(engine: parallel.Engine) -> None:
    taken = []
    source = (taken.append(i) or i for i in itertools.count())
    results = engine.map(work.square, source, chunk=5)
    assert values(itertools.islice(results, 100)) == [x * x for x in range(100)]
    results.close()
    assert len(taken) <= 100 + 5 * engine.chunks_each * max(2, engine.workers)


def test_a_state_is_prepared_once_in_each_worker(engine: parallel.Engine) -> None:
    prepared = (work.Counter, (100,))
    first = values(engine.map(None, range(20), chunk=1, prepared=prepared))
    second = values(engine.map(work.use_counter, range(20), chunk=1, prepared=prepared))
    assert [x for x, _, _ in first + second] == [*range(20), *range(20)]
    calls = {pid: [n for _, p, n in first + second if p == pid] for _, pid, _ in first + second}
    assert len(calls) <= 2
    for counted in calls.values():  # not made anew for the second map
        assert sorted(counted) == list(range(101, 101 + len(counted)))


def test_a_factory_that_fails_is_the_error_of_all_items(engine: parallel.Engine) -> None:
    results = list(engine.map(None, range(3), prepared=(work.broken_factory, ("no licence",))))
    assert [(r.error.type, r.error.message) for r in results] == [
        ("RuntimeError", "no licence")
    ] * 3
    assert "broken_factory" in results[0].error.traceback


def test_a_hanging_item_is_given_up_and_the_others_come(engine: parallel.Engine) -> None:
    results = list(engine.map(work.hang_on, range(8), timeout=2.0, chunk=4))
    assert [r.value for r in results] == [0, 1, 2, None, 4, 5, 6, 7]
    assert results[3].error.type == "TimedOut" and "2 s" in results[3].error.message


def test_reduction_has_the_same_bits_everywhere(engine: parallel.Engine) -> None:
    items = [0.1 * i * (-1.3) ** (i % 7) for i in range(1001)]
    with parallel.engine("serial") as serial:
        expected = serial.reduce(work.add, items).value
    assert expected != sum(items)  # the shape of the tree shows
    assert engine.reduce(work.add, items).value == expected
    assert engine.reduce(work.add, iter(items)).value == expected
    assert engine.reduce(work.add, [3.0]).value == 3.0
    with pytest.raises(parallel.InvalidArgument, match="nothing to reduce"):
        engine.reduce(work.add, [])
    assert engine.reduce(work.add, [1, 2, "3"]).error.type == "TypeError"


def test_a_function_must_be_found_by_its_name(engine: parallel.Engine) -> None:
    def inner(x: int) -> int:
        return x

    for function in (lambda x: x, inner, work.Counter(1)):
        with pytest.raises(parallel.InvalidArgument, match="top level of a module"):
            engine.map(function, [1])
    with pytest.raises(parallel.InvalidArgument, match="prepared"):
        engine.map(None, [1], prepared=(inner, ()))
    with pytest.raises(parallel.InvalidArgument, match="cannot be pickled"):
        engine.map(None, [1], prepared=(work.Counter, (threading.Lock(),)))


@pytest.mark.parametrize(
    ("argument", "value"),
    [("timeout", 0), ("timeout", -1.0), ("timeout", float("nan")), ("chunk", 0)],
)
def test_a_wrong_argument_is_named(engine: parallel.Engine, argument: str, value: float) -> None:
    with pytest.raises(parallel.InvalidArgument, match=argument):
        engine.map(work.square, [1], **{argument: value})


def test_a_worker_that_dies_costs_no_item(engine: parallel.Engine, tmp_path: Path) -> None:
    if engine.settings.name == "serial":
        pytest.skip("without a timeout the serial engine has no worker that could die")
    items = [(str(tmp_path), x) for x in range(6)]
    assert values(engine.map(work.die_once, items, chunk=2)) == [(x, 2) for x in range(6)]


def test_an_item_that_kills_twice_is_an_error(engine: parallel.Engine) -> None:
    results = list(engine.map(work.die_on, range(6), timeout=60, chunk=3))
    assert [r.value for r in results] == [0, 1, 2, None, 4, 5]
    assert results[3].error.type == "WorkerDied" and "SIGKILL" in results[3].error.message


def test_the_last_words_of_a_dead_worker_are_kept(engine: parallel.Engine) -> None:
    (result,) = engine.map(work.abort, [1], timeout=60)
    assert "SIGABRT" in result.error.message
    assert "LAMMPS would say why" in result.error.traceback
    assert "parallel_work.py" in result.error.traceback  # faulthandler's
