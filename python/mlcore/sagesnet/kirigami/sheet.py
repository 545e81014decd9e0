"""Patterns of cuts in a sheet: what they look like on a grid, and which of them are the same sheet.

A sheet has four rows. In each there is no cut, or one of three lengths that begins at one of four
places; a cut that passes the right edge goes on at the left one. A pattern is a row of four whole
numbers from 0 to 12: 0 for no cut, else 1 + 3 * place + length. There are 13^4 = 28,561 patterns.
"""

from __future__ import annotations

import itertools

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mlcore.errors import InvalidArgument

__all__ = [
    "COLUMNS",
    "KINDS",
    "LENGTHS",
    "PLACES",
    "ROWS",
    "all_patterns",
    "canonical",
    "checked_cuts",
    "coverage",
    "partners",
]

Cuts = NDArray[np.int64]

ROWS = 4
COLUMNS = 20
"""Cells along a row; a place of a cut is five of them."""
PLACES = (25.3139, 75.9418, 126.5696, 177.1975)
"""Where cuts begin, A."""
LENGTHS = (60.0, 100.0, 140.0)
"""How long they are, A."""
KINDS = 1 + len(PLACES) * len(LENGTHS)
"""What a row can hold."""

_WIDTH = len(PLACES) * (PLACES[1] - PLACES[0])


def checked_cuts(cuts: ArrayLike) -> Cuts:
    """Patterns as (n, 4) int64.

    Raises:
        InvalidArgument: of another shape, or a number is not from 0 to 12.
    """
    given = np.asarray(cuts)
    if given.ndim != 2 or given.shape[1] != ROWS or not np.issubdtype(given.dtype, np.integer):
        raise InvalidArgument(
            f"cuts must be (n, {ROWS}) whole numbers, got {given.shape} of {given.dtype}"
        )
    wrong = np.flatnonzero(((given < 0) | (given >= KINDS)).any(axis=1))
    if len(wrong):
        raise InvalidArgument(
            f"cuts[{wrong[0]}] must be from 0 to {KINDS - 1}, got {given[wrong[0]].tolist()}"
        )
    return given.astype(np.int64)


def all_patterns() -> Cuts:
    """All (28561, 4) patterns, the last row's cut changing fastest; the id of a pattern in the
    labelled set is its place here plus 1."""
    return np.array(list(itertools.product(range(KINDS), repeat=ROWS)), dtype=np.int64)


def coverage(cuts: ArrayLike) -> NDArray[np.float32]:
    """How much of every cell is cut, (n, 4, 20) from 0 to 1."""
    return _row_coverage()[checked_cuts(cuts)]


def partners(cuts: ArrayLike) -> Cuts:
    """The same sheet told otherwise, (n, 8, 4): rows cyclically shifted, and in reversed order.

    In the labels of the MoS2 set partners differ by no more than two runs of one sheet would: rms
    1.44 and 1.38 % of strain. A shift along the rows is another sheet: 3.2 %.
    """
    given = checked_cuts(cuts)
    both = (given, given[:, ::-1])
    return np.stack([np.roll(one, k, axis=1) for one in both for k in range(ROWS)], axis=1)


def canonical(cuts: ArrayLike) -> Cuts:
    """One number for each sheet, (n,): partners and no others have the same."""
    digits = KINDS ** np.arange(ROWS - 1, -1, -1)
    return (partners(cuts) @ digits).min(axis=1)  # type: ignore[no-any-return]


def _row_coverage() -> NDArray[np.float32]:
    """(13, 20) of what a row can hold."""
    edges = np.linspace(0.0, _WIDTH, COLUMNS + 1)
    rows = np.zeros((KINDS, COLUMNS))
    kinds = itertools.product(PLACES, LENGTHS)
    for kind, (begin, length) in enumerate(kinds, start=1):
        for turn in (0.0, _WIDTH):
            low = np.maximum(edges[:-1], begin - turn)
            high = np.minimum(edges[1:], begin + length - turn)
            rows[kind] += np.clip(high - low, 0.0, None) / (edges[1] - edges[0])
    return rows.clip(max=1.0).astype(np.float32)
