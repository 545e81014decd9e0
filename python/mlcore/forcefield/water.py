"""Coarse-grained water, one bead for each molecule: structures and a reference problem."""

from __future__ import annotations

from typing import Literal

import numpy as np
from ase import Atoms
from ase.build import bulk

from mlcore.errors import InvalidArgument

__all__ = ["MASS", "ice"]

MASS = 18.0153


def ice(kind: Literal["cubic", "hexagonal"], a: float, c: float | None = None) -> Atoms:
    """Eight beads ``W`` of ice, in a rectangular cell.

    Args:
        kind: ``cubic`` (the lattice of diamond) or ``hexagonal`` (that of lonsdaleite).
        a: lattice constant, A.
        c: of hexagonal ice, A; by default that of perfect tetrahedra.

    Raises:
        InvalidArgument: another kind.
    """
    if kind == "cubic":
        made: Atoms = bulk("W", "diamond", a, cubic=True)
    elif kind == "hexagonal":
        made = _hexagonal(a, c or a * float(np.sqrt(8 / 3)))
    else:
        raise InvalidArgument(f"kind: cubic or hexagonal, got {kind!r}")
    made.info["name"] = f"{kind} ice"
    return made


def _hexagonal(a: float, c: float) -> Atoms:
    layer = np.array([[0.0, 0.0], [0.5, 0.5]])
    other = layer + [0.5, 1 / 6]
    # two layers of six rings, the upper half the mirror image of the lower
    heights = [(layer, 1 / 16), (other, -1 / 16), (other, 9 / 16), (layer, 7 / 16)]
    places = np.concatenate([np.column_stack([xy, np.full(2, z)]) for xy, z in heights])
    cell = [a, a * np.sqrt(3), c]
    return Atoms("W8", scaled_positions=places % 1.0, cell=cell, pbc=True)
