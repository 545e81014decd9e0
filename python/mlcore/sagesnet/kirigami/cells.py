"""Cells of a sheet with cuts: how much of each is cut."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from mlcore.errors import InvalidArgument
from mlcore.sagesnet.cells import Cells
from mlcore.sagesnet.kirigami.lattice import SheetLattice
from mlcore.sagesnet.lattice import Lattice

__all__ = ["SheetCells"]


class SheetCells(Cells[Tensor]):
    """A state is (B, rows, columns, 1), what part of each cell is cut; nothing in it ever moves.

    Rows and columns are periodic, as cuts are that pass an edge; so that the sheet's own free edges
    are known, a cell is also told in which column it lies.

    Args:
        channels: C.
        waves: of the cosines and sines that tell the column.
    """

    kind: ClassVar[str] = "sheet"

    def __init__(self, channels: int = 32, waves: int = 2) -> None:
        super().__init__()
        self.arguments = {"channels": channels, "waves": waves}
        self.channels, self.waves = channels, waves
        self.code = nn.Linear(1 + 2 * waves, channels)
        self.logits = nn.Linear(channels, 1)

    def lattice(self, states: Sequence[Tensor]) -> SheetLattice:
        extents = {tuple(state.shape[1:]) for state in states}
        if len(extents) != 1 or len(next(iter(extents))) != 3:
            raise InvalidArgument(f"states must all be (B, X, Y, 1) of one sheet, got {extents}")
        x, y, z = extents.pop()
        return SheetLattice((x, y, z))

    def encode(self, state: Tensor, lattice: Lattice) -> Tensor:
        columns = state.shape[2]
        turn = 2 * math.pi * (torch.arange(columns, device=state.device) + 0.5) / columns
        waves = torch.outer(turn, torch.arange(1, self.waves + 1, device=state.device))
        where = torch.cat([waves.cos(), waves.sin()], dim=1).to(state.dtype)
        where = where[None, None, :, None].expand(*state.shape, -1)
        encoded: Tensor = self.code(torch.cat([state[..., None], where], dim=-1))
        return encoded

    def read(self, h: Tensor, lattice: Lattice) -> Tensor:
        return torch.sigmoid(self.logits(h)).squeeze(-1)

    def advance(self, h: Tensor, lattice: Lattice, state: Tensor) -> Tensor:
        return state

    def reconstruction(self, h: Tensor, lattice: Lattice, state: Tensor) -> Tensor:
        return self.errors(h, lattice, state, state).mean()

    def loss(self, h: Tensor, lattice: Lattice, state: Tensor, target: Tensor) -> Tensor:
        return self.errors(h, lattice, state, target).mean()

    def errors(self, h: Tensor, lattice: Lattice, state: Tensor, target: Tensor) -> Tensor:
        logits = self.logits(h).squeeze(-1)
        return nn.functional.binary_cross_entropy_with_logits(logits, target, reduction="none")

    def stack(self, states: Sequence[Tensor]) -> Tensor:
        return torch.cat(list(states))
