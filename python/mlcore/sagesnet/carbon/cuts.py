"""Patterns of cuts, a bit for every cell of the grid: 1 = left whole, 0 = cut.

The bits go along a row across the pull, row by row from the lower grip: 111110000111111 on 3 x 5
cells has one cut row, of which the last cell bridges.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

import numpy as np
from ase import Atoms
from numpy.typing import NDArray
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

import mlcore
from mlcore.errors import InvalidArgument
from mlcore.sagesnet.carbon.sheets import REDUCED, Design

__all__ = ["all_patterns", "cut", "pieces", "random_patterns"]

Array = NDArray[np.float64]


def cut(pattern: str, design: Design = REDUCED) -> Atoms:
    """The sheet of a design with a pattern of cuts.

    Args:
        pattern: as many of ``0`` and ``1`` as the grid has cells.
        design: of the sheet.

    Returns:
        The body; ``info["pattern"]`` is the pattern.

    Raises:
        InvalidArgument: the pattern has another length or other signs, or the sheet falls apart.
    """
    _check(pattern, design)
    atoms, place = design.sheet()
    whole = np.array([bit == "1" for bit in pattern]).reshape(design.grid)
    along = place[:, 0] - design.grip
    inside = (along >= 0) & (along < design.grid[0] * design.cells[0])
    first = (design.cells[0] - design.cut_rows) // 2
    row = along % design.cells[0] - first
    low = np.clip(along // design.cells[0], 0, design.grid[0] - 1)
    gone = (
        inside & (row >= 0) & (row < design.cut_rows) & ~whole[low, place[:, 1] // design.cells[1]]
    )
    kept: Atoms = atoms[~gone]
    if len(np.unique(pieces(kept.positions, 1.2 * max(design.period) / 3))) > 1:
        raise InvalidArgument(f"pattern {pattern} falls apart: a row of the grid is cut all across")
    kept.set_array("id", np.arange(len(kept), dtype=np.int64))
    kept.info["pattern"] = pattern
    return kept


def pieces(positions: Array, cutoff: float) -> NDArray[np.int32]:
    """(n,) number of the piece each atom belongs to; atoms closer than ``cutoff`` hang together."""
    i, j = mlcore.neighbor_list("ij", np.asarray(positions, np.float64), cutoff)
    links = coo_matrix((np.ones(len(i), bool), (i, j)), shape=(len(positions),) * 2)
    return np.asarray(connected_components(links, directed=False)[1])


def all_patterns(design: Design = REDUCED) -> Iterator[str]:
    """Every pattern that holds together, 29,791 for a grid of 3 x 5, in the order of numbers."""
    across = design.grid[1]
    rows = ["".join(bits) for bits in product("01", repeat=across)][1:]
    return ("".join(chosen) for chosen in product(rows, repeat=design.grid[0]))


def random_patterns(count: int, seed: int, design: Design = REDUCED) -> list[str]:
    """So many different patterns that hold together, any as likely as another.

    A longer list of the same seed begins with the shorter one.
    """
    most = (2 ** design.grid[1] - 1) ** design.grid[0]
    if not 0 <= count <= most:
        raise InvalidArgument(f"count must be 0 to {most}, the patterns there are, got {count}")
    rng = np.random.default_rng(seed)
    found: dict[str, None] = {}
    while len(found) < count:
        rows = rng.integers(1, 2 ** design.grid[1], size=design.grid[0])
        found["".join(f"{int(row):0{design.grid[1]}b}" for row in rows)] = None
    return list(found)


def _check(pattern: str, design: Design) -> None:
    if len(pattern) != design.bits or set(pattern) - set("01"):
        raise InvalidArgument(f"pattern must be {design.bits} of 0 and 1, got {pattern!r}")
