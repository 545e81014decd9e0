"""Which atom is in which slot of which cell: the readable grid, both ways without loss."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mlcore.errors import InvalidArgument
from mlcore.sagesnet.atoms.state import AtomState

__all__ = ["Slots", "occupied", "slots"]


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
    key, row, counts = torch.unique(_keys(state), return_inverse=True, return_counts=True)
    most = state.grid.slots
    if len(counts) and int(counts.max()) > most:
        full = int(counts.argmax())
        where = _coordinates(key[full : full + 1], state)[0].tolist()
        raise InvalidArgument(
            f"cell {where[1:]} of system {where[0]} holds {int(counts[full])} atoms, its grid has "
            f"slots = {most}: take more, or a smaller edge"
        )
    order = torch.argsort(row, stable=True)
    starts = torch.cumsum(counts, 0) - counts
    slot = torch.empty_like(row)
    slot[order] = torch.arange(len(row), device=row.device) - starts[row[order]]
    table = torch.full((len(key), most), -1, dtype=torch.int64, device=row.device)
    table[row, slot] = torch.arange(len(row), device=row.device)
    return Slots(_coordinates(key, state), row, table)


def occupied(states: Sequence[AtomState]) -> Tensor:
    """(M, 4) int64 system, x, y, z of the cells that hold an atom in any of the states."""
    keys = torch.unique(torch.cat([_keys(state) for state in states]))
    return _coordinates(keys, states[0])


def _keys(state: AtomState) -> Tensor:
    x, y, z = state.grid.extents
    a, b, c = state.cell.unbind(dim=1)
    return ((state.system * x + a) * y + b) * z + c


def _coordinates(keys: Tensor, state: AtomState) -> Tensor:
    rest, parts = keys, []
    for n in reversed(state.grid.extents):
        parts.append(rest % n)
        rest = torch.div(rest, n, rounding_mode="floor")
    return torch.stack([rest, *reversed(parts)], dim=1)
