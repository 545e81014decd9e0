"""What a fit costs beside its evaluations: search, history, events (P2)."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from bars import Measured
from mlcore.forcefield.evaluate import Evaluation
from mlcore.forcefield.objective import Objective
from mlcore.forcefield.problems import Problem, silicon
from mlcore.forcefield.run import Fit, Setup
from mlcore.forcefield.run.candidates import Candidates
from mlcore.forcefield.run.events import Events
from mlcore.forcefield.run.history import History, read_history

BUDGET = 600


class _Timed:
    """Candidates whose evaluations are timed: what a search asks for, in its batches."""

    def __init__(self, candidates: Candidates) -> None:
        self._candidates = candidates
        self.seconds = 0.0

    def __call__(self, wanted: Sequence[Any]) -> Iterator[Evaluation]:
        start = time.process_time()
        found = list(self._candidates(wanted))
        self.seconds += time.process_time() - start
        yield from found


def _searched(problem: Problem, evaluator: str, folder: Path) -> tuple[float, float, int]:
    """CPU seconds of a whole search (asked, evaluated, scored, told, written down), those of its
    evaluations alone, and how many of these there were."""
    setup = Setup(
        problem.model,
        problem.space,
        problem.targets,
        Objective(problem.targets),
        budget=BUDGET,
        evaluator=evaluator,  # type: ignore[arg-type]
    )
    task = Fit(setup, folder)
    task._before, task._start = 0.0, time.monotonic()
    events, history = Events(folder), History(folder)
    candidates = Candidates(setup.recipe)
    next(iter(candidates([problem.space.values(problem.space.initial)])))
    timed = _Timed(candidates)
    start = time.process_time()
    task._searched(timed, history, events)  # type: ignore[arg-type]
    events.close()
    seconds = time.process_time() - start
    history.close()
    candidates.close()
    return seconds, timed.seconds, len(read_history(folder))


def overhead() -> Iterator[Measured]:
    """The reference problem (Tersoff, nine free), default search, in one process."""
    problem = silicon("tersoff")
    for evaluator in ("lammps", "native"):
        ratios, rates = [], []
        for _ in range(3):
            with tempfile.TemporaryDirectory() as place:
                whole, evaluated, count = _searched(problem, evaluator, Path(place) / "fit")
                ratios.append(whole / evaluated - 1)
                rates.append(count / whole)
        yield Measured(f"evaluations/s of a fit, {evaluator}", statistics.median(rates))
        most = 0.15 if evaluator == "lammps" else None
        yield Measured(
            f"overhead of the bare evaluator, {evaluator}", statistics.median(ratios), most=most
        )


bars = {"fit overhead": overhead}
