"""Which atom is in which slot of which cell: the readable grid, both ways without loss."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mlcore.errors import InvalidArgument
from mlcore.sagesnet.atoms.state import AtomState
from mlcore.voxels import VoxelGrid, bin_atoms

__all__ = ["Slots", "slots"]


@dataclass(frozen=True)
class Slots:
    """Atoms by cells.

    Attributes:
        cells: (M, 4) int64 system, x, y, z of the occupied cells, in row-major order.
        row: (n,) int64, which of these an atom is in.
        table: (M, K) int64, the atoms of each, in the order of the state; -1 for an empty slot.
    """

    cells: Tensor
    row: Tensor
    table: Tensor


def slots(state: AtomState) -> Slots:
    """The slots of a state's atoms.

    Raises:
        InvalidArgument: a cell holds more atoms than it has slots; nothing is dropped.
    """
    x, y, z = state.grid.extents
    # systems side by side make one long box, which the core sorts into
    whole = VoxelGrid((state.batch * x, y, z), (float(state.batch * x), float(y), float(z)))
    middle = state.cell + 0.5
    middle[:, 0] += state.system * x
    bins = bin_atoms(whole, middle.double())
    counts = bins.starts[1:] - bins.starts[:-1]
    filled = torch.nonzero(counts).flatten()
    where = torch.stack(torch.unravel_index(filled, (state.batch, x, y, z)), dim=1)
    held, first = counts[filled], bins.starts[filled]
    _check(held, where, state.grid.slots)
    table = torch.full((len(filled), state.grid.slots), -1, device=held.device)
    shift = torch.arange(len(filled), device=held.device) * state.grid.slots - first
    table.view(-1)[shift.repeat_interleave(held) + _count(state)] = bins.order
    # a cell's row is how many filled ones come before it
    rows = torch.cumsum(counts > 0, dim=0) - 1
    return Slots(where, rows.index_select(0, bins.cell), table)


def _count(state: AtomState) -> Tensor:
    return torch.arange(len(state), device=state.cell.device)


def _check(counts: Tensor, where: Tensor, most: int) -> None:
    if len(counts) and int(counts.max()) > most:
        full = int(counts.argmax())
        system, *cell = where[full].tolist()
        raise InvalidArgument(
            f"cell {cell} of system {system} holds {int(counts[full])} atoms, its grid has "
            f"slots = {most}: take more, or a smaller edge"
        )
