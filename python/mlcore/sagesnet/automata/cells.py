"""Cells of automata: a whole number each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from mlcore.errors import InvalidArgument
from mlcore.sagesnet.cells import Cells
from mlcore.sagesnet.lattice import Boundary, DenseLattice, Lattice
from mlcore.sagesnet.symmetry import Symmetry

__all__ = ["AutomatonCells"]


class AutomatonCells(Cells[Tensor]):
    """Every cell is in one of a few states; a state of the system is (B, X, Y, Z) int64.

    Automata of one or two dimensions have extents of 1 along the axes they lack.

    Args:
        states: how many a cell can be in.
        channels: C.
        boundary: of the box.
    """

    kind: ClassVar[str] = "automaton"
    local: ClassVar[bool] = True

    def __init__(
        self, states: int = 2, channels: int = 16, boundary: Boundary = "periodic"
    ) -> None:
        super().__init__()
        self.arguments = {"states": states, "channels": channels, "boundary": boundary}
        self.states, self.channels, self.boundary = states, channels, boundary
        self.code = nn.Embedding(states, channels)
        self.logits = nn.Linear(channels, states)

    def lattice(self, states: Sequence[Tensor]) -> DenseLattice:
        extents = {tuple(state.shape[1:]) for state in states}
        if len(extents) != 1 or len(next(iter(extents))) != 3:
            raise InvalidArgument(f"states must all be (B, X, Y, Z) of one box, got {extents}")
        x, y, z = extents.pop()
        return DenseLattice((x, y, z), self.boundary)

    def encode(self, state: Tensor, lattice: Lattice) -> Tensor:
        low, high = state.aminmax() if state.numel() else (0, 0)
        if state.dtype != torch.int64 or low < 0 or high >= self.states:
            raise InvalidArgument(
                f"states must be int64 from 0 to {self.states - 1}, got {state.dtype} from "
                f"{float(low):g} to {float(high):g}"
            )
        encoded: Tensor = self.code(state)
        return encoded

    def read(self, h: Tensor, lattice: Lattice) -> Tensor:
        return self._near(h).argmax(dim=-1)

    def advance(self, h: Tensor, lattice: Lattice, state: Tensor) -> Tensor:
        return self.logits(h).argmax(dim=-1)  # type: ignore[no-any-return]

    def reconstruction(self, h: Tensor, lattice: Lattice, state: Tensor) -> Tensor:
        return nn.functional.cross_entropy(self._near(h).movedim(-1, 1), state)

    def loss(self, h: Tensor, lattice: Lattice, state: Tensor, target: Tensor) -> Tensor:
        return self.errors(h, lattice, state, target).mean()

    def errors(self, h: Tensor, lattice: Lattice, state: Tensor, target: Tensor) -> Tensor:
        logits = self.logits(h).movedim(-1, 1)
        return nn.functional.cross_entropy(logits, target, reduction="none")

    def _near(self, h: Tensor) -> Tensor:
        """(..., S) how near vectors are to those of states; logits know predicted ones alone."""
        code = self.code.weight
        return h @ code.T - code.square().sum(dim=1) / 2

    def turned(self, state: Tensor, symmetry: Symmetry) -> Tensor:
        return symmetry.field(state)

    def stack(self, states: Sequence[Tensor]) -> Tensor:
        return torch.cat(list(states))
