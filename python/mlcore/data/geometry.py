"""Nearest periodic images of many vectors at once."""

from __future__ import annotations

from itertools import product

import numpy as np
from numpy.typing import NDArray

__all__ = ["minimum_image", "widths"]

FloatArray = NDArray[np.float64]


def minimum_image(
    d: FloatArray, cell: FloatArray | None, pbc: NDArray[np.bool_] | None = None
) -> FloatArray:
    """The shortest periodic image of every vector.

    Exact for cells whose tilt factors are at most half the box lengths, LAMMPS' own condition.

    Args:
        d: (..., 3) vectors.
        cell: (3, 3), one lattice vector per row, or None: `d` is returned unchanged.
        pbc: (3,) which lattice vectors repeat; by default all.
    """
    if cell is None:
        return d
    periodic = np.ones(3, dtype=bool) if pbc is None else pbc
    if not periodic.any():
        return d
    lattice = cell[periodic]
    d = d - np.round(d @ np.linalg.pinv(lattice)) @ lattice
    if np.count_nonzero(cell - np.diag(np.diagonal(cell))) == 0:
        return d
    best, shortest = d, (d * d).sum(-1)
    for shift in product((-1, 0, 1), repeat=len(lattice)):
        image = d + np.array(shift, dtype=float) @ lattice
        square = (image * image).sum(-1)
        closer = square < shortest
        best = np.where(closer[..., None], image, best)
        shortest = np.where(closer, square, shortest)
    return best


def widths(cell: FloatArray, pbc: NDArray[np.bool_]) -> FloatArray:
    """Distances between opposite faces of the cell along its periodic vectors."""
    return np.asarray(1 / np.linalg.norm(np.linalg.pinv(cell[pbc]), axis=0))
