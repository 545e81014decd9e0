"""Small fits, and drivers of them that end badly."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
from ase.build import bulk
from mlcore.forcefield.evaluate import Evaluator
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


def exact(constraint: str | None = None) -> tuple[Any, Space, tuple[Any, ...]]:
    """Five parameters of Tersoff's silicon, one on a logarithmic scale, and one tie; its own data."""
    made = model("tersoff", ["Si"])
    known = made.defaults
    free = {
        name: Free(
            lower=0.8 * known[name],
            upper=1.25 * known[name],
            initial=(1.03 if k % 2 else 0.98) * known[name],
            scale="log" if name == "B" else "linear",
        )
        for k, name in enumerate(("A", "B", "lam1", "n", "d"))
    }
    ties = {"lam2": f"{known['lam2'] / known['lam1']!r}*lam1"}
    boxes = [bulk("Si", "diamond", a, cubic=True) for a in (5.2, 5.43, 5.7)]
    for k, box in enumerate(boxes):
        box.rattle(0.1, seed=k)
    nothing = (
        Energies(boxes, [0.0] * 3, names=["small", "rest", "large"]),
        Forces(boxes, [np.zeros((8, 3))] * 3, names=["one", "two", "three"]),
    )
    with Evaluator(made, nothing) as evaluator:
        told = evaluator([known])[0].values
    targets = (
        Energies(boxes, told["energies"] * 8, names=["small", "rest", "large"]),
        Forces(boxes, np.split(told["forces"].reshape(-1, 3), 3), names=["one", "two", "three"]),
        CubicCrystal(bulk("Si", "diamond", 5.43), {"a": 5.43195}, name="diamond"),
    )
    constraints = [constraint] if constraint else []
    return made, Space(made.parameters, free, ties=ties, constraints=constraints), targets


def run_exact(folder: Path, **options: Any) -> Any:
    made, space, targets = exact()
    asked: dict[str, Any] = {"budget": 60, "seed": 3, "search": "geodesic"} | options
    return fit(made, space, targets, folder=folder, **asked)


def killed_exact(count: int, folder: Path) -> None:
    """As `killed_after`."""
    global run_small
    run_small = run_exact
    killed_after(count, folder, {})
