"""Boxes of atoms turned and mirrored with all that is in them."""

from __future__ import annotations

from dataclasses import replace
from typing import cast

import numpy as np
import torch
from torch import Tensor

from mlcore.errors import InvalidArgument
from mlcore.sagesnet.atoms.state import AtomState
from mlcore.sagesnet.symmetry import Symmetry

__all__ = ["turned"]


def turned(state: AtomState, symmetry: Symmetry) -> AtomState:
    """Positions, velocities and forces turned about the middle of the box, and the box with them.

    Raises:
        InvalidArgument: the vectors of the box do not lie along the axes.
    """
    grid, axes = state.grid, list(symmetry.axes)
    edges = np.diag(grid.matrix)
    if np.any(grid.matrix != np.diag(edges)):
        raise InvalidArgument("state: only boxes along the axes turn with their grid")
    box = tuple(tuple(float(v) for v in row) for row in np.diag(edges[axes]))
    pbc = cast("tuple[bool, bool, bool]", tuple(grid.pbc[axis] for axis in axes))
    place = cast("tuple[tuple[float, float, float], ...]", box)
    extents = symmetry.extents(grid.extents)
    back = torch.tensor(symmetry.signs, device=state.cell.device) < 0
    cell, last = state.cell[:, axes], torch.tensor(extents, device=state.cell.device) - 1
    return replace(
        state,
        grid=replace(grid, box=place, extents=extents, pbc=pbc),
        cell=torch.where(back, last - cell, cell),
        image=symmetry.vectors(state.image),
        offset=_within(symmetry.vectors(state.offset)),
        velocity=symmetry.vectors(state.velocity),
        force=None if state.force is None else symmetry.vectors(state.force),
    )


def _within(offset: Tensor) -> Tensor:
    """What was at the lower face of a cell is now at the upper one: by one rounding within it."""
    most = torch.nextafter(offset.new_tensor(0.5), offset.new_tensor(0.0))
    return torch.where(offset >= 0.5, most, offset)
