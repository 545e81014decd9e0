"""States of cells from runs in folders: who is learned from, who is held out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from ase import Atoms
from generate import runs
from mlcore.errors import InvalidArgument
from mlcore.sagesnet import AtomGrid, AtomState
from mlcore.sagesnet.carbon import Dataset, Sample, Window

ROOM = 12.0
"""A that a model has beyond the box of a run, for what a tear throws out."""
REST = 1e-3
"""Rate of strain, per ps, below which a body is at rest."""

Pair = tuple[AtomState, AtomState]


def grid_of(samples: Iterable[Sample], edge: float = 2.0) -> AtomGrid:
    """Open cells in which all of these runs fit."""
    boxes = [np.diag(sample.start.cell[:]) for sample in samples]
    if not boxes:
        raise InvalidArgument("samples: none, the data set holds no finished run")
    return AtomGrid.over(Atoms(cell=np.max(boxes, axis=0) + 2 * ROOM, pbc=False), edge)


def states_of(window: Window, grid: AtomGrid) -> list[AtomState]:
    """The frames of a window; what the grips hold is driven."""
    start = window.sample.start
    return [
        AtomState.from_arrays(
            grid,
            start.numbers,
            x.astype(float) + ROOM,
            v,
            start.arrays["id"],
            start.arrays["grip"] != 0,
        )
        for x, v in zip(window.positions, window.velocities, strict=True)
    ]


def pairs_of(
    sample: Sample, grid: AtomGrid, every: int, first: int = 0, tail: tuple[int, int] = (0, 1)
) -> list[Pair]:
    """Frames and the ones a step later, ``every`` frames apart; of the last ``tail[0]`` frames
    ``tail[1]`` apart."""
    found, end = [], max(first, len(sample) - tail[0])
    for k in [
        *range(first, min(end, len(sample) - 1), every),
        *range(end, len(sample) - 1, tail[1]),
    ]:
        now, later = states_of(sample.window(k, 2), grid)
        found.append((now, later))
    return found


def some_pairs(sample: Sample, grid: AtomGrid, count: int) -> list[Pair]:
    """So many pairs, evenly spaced over a run."""
    return pairs_of(sample, grid, max(1, (len(sample) - 2) // count), first=1)[:count]


def positions(state: AtomState) -> np.ndarray:
    """(n, 3) A in the box of the run, atoms by id."""
    return state.positions().numpy()[np.argsort(state.ids.numpy())] - ROOM


def ordered(data: Dataset) -> list[str]:
    """Patterns in the order in which `generate.py` makes them, others behind."""
    have = {sample.pattern for sample in data}
    known = [pattern for pattern, _ in runs(2000) if pattern in have]
    return list(dict.fromkeys([*known, *sorted(have)]))


def split(data: Dataset, train: int, learned: Sequence[str] = ()) -> tuple[list[str], list[str]]:
    """Names of runs to learn from, with all seeds of a pattern, and one run of each pattern left.

    Args:
        data: as many runs as are finished.
        train: how many patterns to learn from.
        learned: patterns that a net has learned from already, instead.
    """
    patterns = ordered(data)
    known = list(learned) or patterns[: min(train, len(patterns) - 1)]
    first: dict[str, str] = {}
    for name in data.names():
        first.setdefault(data[name].pattern, name)
    names = [name for name in data.names() if data[name].pattern in known]
    return names, [first[pattern] for pattern in patterns if pattern not in known]


def rests(folder: Path) -> list[Dataset]:
    """Sets beside a data set that `generate.py --rest` made."""
    beside = sorted(folder.parent.glob(f"{folder.name}-rest-*"))
    return [Dataset(path) for path in beside if (path / "manifest.json").is_file()]
