"""What a fit costs beside its evaluations: search, history, events (P2)."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from bars import Measured
from mlcore.forcefield.objective import Objective
from mlcore.forcefield.problems import Problem, silicon
from mlcore.forcefield.run import Fit, Setup
from mlcore.forcefield.run.candidates import Candidates
from mlcore.forcefield.run.events import Events
from mlcore.forcefield.run.history import History, read_history

BUDGET = 600


def _searched(problem: Problem, evaluator: str, folder: Path) -> float:
    """CPU seconds of a whole search: asked, evaluated, scored, told, written down."""
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
    start = time.process_time()
    task._searched(candidates, history, events)
    events.close()
    seconds = time.process_time() - start
    history.close()
    candidates.close()
    return seconds


def _bare(problem: Problem, evaluator: str, folder: Path) -> float:
    """CPU seconds of the evaluator alone, for the points of that search in its batches."""
    entries = read_history(folder)
    batches: dict[int, list[dict[str, float]]] = {}
    for entry in entries:
        batches.setdefault(entry.batch, []).append(problem.space.values(entry.point))
    from mlcore.forcefield.evaluate import Evaluator

    with Evaluator(problem.model, problem.targets, engine=evaluator) as made:  # type: ignore[arg-type]
        made(batches[0][:1])
        start = time.process_time()
        for batch in batches.values():
            if evaluator == "lammps":
                for candidate in batch:
                    made([candidate])
            else:
                made(batch)
        return time.process_time() - start


def overhead() -> Iterator[Measured]:
    """The reference problem (Tersoff, nine free), default search, in one process."""
    problem = silicon("tersoff")
    for evaluator in ("lammps", "native"):
        ratios, rates = [], []
        for _ in range(3):
            with tempfile.TemporaryDirectory() as place:
                folder = Path(place) / "fit"
                whole = _searched(problem, evaluator, folder)
                ratios.append(whole / _bare(problem, evaluator, folder) - 1)
                rates.append(BUDGET / whole)
        yield Measured(f"evaluations/s of a fit, {evaluator}", statistics.median(rates))
        most = 0.15 if evaluator == "lammps" else None
        yield Measured(
            f"overhead of the bare evaluator, {evaluator}", statistics.median(ratios), most=most
        )


bars = {"fit overhead": overhead}
