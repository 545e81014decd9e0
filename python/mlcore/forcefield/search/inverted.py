"""Libraries that call a function, turned into strategies that ask for scores."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from queue import SimpleQueue

from mlcore.forcefield.score import Score
from mlcore.forcefield.search.face import Derivatives, Points, Strategy

__all__ = ["Ask", "inverted"]

Ask = Callable[[Points | Derivatives], Sequence[Score]]


class _Dropped(BaseException):
    """Unwinds the worker whose search was given up."""


def inverted(work: Callable[[Ask], None]) -> Strategy:
    """The strategy of a function that runs to its end and calls `ask(points)` for scores.

    The function runs in a thread of its own, which waits whenever the search waits, so that only
    one of both is ever at work. It ends with the search: also when the search is dropped half-way.

    Args:
        work: is given `ask`: (m, n) points -> their scores.
    """
    asked: SimpleQueue[Points | Derivatives | BaseException | None] = SimpleQueue()
    told: SimpleQueue[Sequence[Score] | None] = SimpleQueue()
    worker = threading.Thread(target=_run, args=(work, asked, told), daemon=True)
    worker.start()
    try:
        while True:
            points = asked.get()
            if points is None:
                return
            if isinstance(points, BaseException):
                raise points
            told.put((yield points))
    finally:
        told.put(None)
        worker.join()


def _run(
    work: Callable[[Ask], None],
    asked: SimpleQueue[Points | Derivatives | BaseException | None],
    told: SimpleQueue[Sequence[Score] | None],
) -> None:
    def ask(points: Points | Derivatives) -> Sequence[Score]:
        asked.put(points)
        scores = told.get()
        if scores is None:
            raise _Dropped
        return scores

    try:
        work(ask)
    except _Dropped:
        return
    except BaseException as error:
        asked.put(error)
    else:
        asked.put(None)
