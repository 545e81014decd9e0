"""Small fits, and drivers of them that end badly."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

from ase.build import bulk
from mlcore.forcefield.forms import model
from mlcore.forcefield.parameters import Free, Space
from mlcore.forcefield.problems import Problem
from mlcore.forcefield.run import fit
from mlcore.forcefield.run.history import History
from mlcore.forcefield.targets import CubicCrystal, Energies, Forces

# of diamond under Tersoff's silicon
_ENERGIES = {5.25: -36.6, 5.43: -37.03, 5.65: -36.4}


def small() -> Problem:
    """Two parameters of Tersoff's silicon, three energies, forces of one, and a crystal."""
    made = model("tersoff", ["Si"])
    known = made.defaults
    free = {
        name: Free(lower=0.8 * known[name], upper=1.2 * known[name], initial=1.1 * known[name])
        for name in ("A", "B")
    }
    boxes = [bulk("Si", "diamond", a, cubic=True) for a in _ENERGIES]
    rattled = boxes[1].copy()
    rattled.rattle(0.1, seed=1)
    targets = (
        Energies(boxes, list(_ENERGIES.values()), names=["small", "rest", "large"]),
        Forces([rattled], [0.5 * (boxes[1].positions - rattled.positions)], names=["pull"]),
        CubicCrystal(bulk("Si", "diamond", 5.43), {"a": 5.43, "bulk": 98.0}, name="diamond"),
    )
    return Problem(made, Space(made.parameters, free), targets, known)


def run_small(folder: Path, **options: Any) -> Any:
    problem = small()
    asked: dict[str, Any] = {"budget": 60, "seed": 3} | options
    return fit(problem.model, problem.space, problem.targets, folder=folder, **asked)


def killed_after(count: int, folder: Path, options: dict[str, Any]) -> None:
    """A fit whose process is killed as it writes: whole lines, then half a line."""
    append, written = History.append, 0

    def torn(self: History, entries: Any) -> None:
        nonlocal written
        entries = list(entries)
        append(self, entries)
        written += len(entries)
        if written >= count:
            self._rows.write(b"half")
            self._rows.flush()
            self._lines.write(b'{"n":1,"batch":0,"po')
            self._lines.flush()
            os.kill(os.getpid(), signal.SIGKILL)

    History.append = torn  # type: ignore[method-assign]
    run_small(folder, **options)
