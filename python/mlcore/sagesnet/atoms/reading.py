"""What is read of a cell's vector: for each slot an element or none, an offset, a velocity."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import permutations

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn

from mlcore.sagesnet.atoms.slots import Slots
from mlcore.sagesnet.atoms.state import AtomState

__all__ = ["Reader", "SlotScores", "assigned"]

# beyond so many slots all orders are too many to try
_FEW = 5


@dataclass(frozen=True)
class SlotScores:
    """How well states are read back from vectors.

    Attributes:
        counts: part of the occupied cells that are read with as many atoms as they hold.
        elements: part of the atoms, each beside the slot that fits it best, whose element is right.
        offset: root mean square error of their places, in A.
        velocity: the same of velocities, in A/fs.
    """

    counts: float
    elements: float
    offset: float
    velocity: float


class Reader(nn.Module):
    """Slots of cells from their vectors, as a set: losses do not depend on the order of slots.

    Args:
        channels: C.
        width: of the hidden layer.
        elements: how many there are.
        slots: K.
        speed: A/fs, unit of velocities.
    """

    def __init__(self, channels: int, width: int, elements: int, slots: int, speed: float) -> None:
        super().__init__()
        self.elements, self.slots, self.speed = elements, slots, speed
        self.layers = nn.Sequential(
            nn.Linear(channels, width), nn.SiLU(), nn.Linear(width, slots * (elements + 7))
        )

    def forward(self, h: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Logits (M, K, elements + 1), the first of which says empty; offsets within (-1/2, 1/2)
        (M, K, 3) and velocities in units of ``speed`` (M, K, 3)."""
        parts = self.layers(h).reshape(len(h), self.slots, self.elements + 7)
        logits, offset, velocity = parts.split((self.elements + 1, 3, 3), dim=-1)
        return logits, torch.tanh(offset) / 2, velocity

    def loss(
        self, h: Tensor, rows: Tensor, species: Tensor, state: AtomState, held: Slots
    ) -> Tensor:
        """How far each cell is from being read as what it holds, (M,).

        Args:
            h: (M, C) of all cells.
            rows: (m,) which of them ``held.cells`` are.
            species: (n,) numbers of the atoms' elements, from 1 on.
            state: what the cells hold.
            held: its slots.
        """
        logits, offset, velocity = self(h)
        empty = -torch.log_softmax(logits, dim=-1)[..., 0].sum(dim=1)
        full = self._costs(logits[rows], offset[rows], velocity[rows], species, state, held.table)
        order = assigned(full.detach())
        best = full.gather(2, order[..., None])[..., 0].sum(dim=1)
        return empty.index_copy(0, rows, best)

    def scores(self, h: Tensor, species: Tensor, state: AtomState, held: Slots) -> SlotScores:
        """How well occupied cells, whose vectors ``h`` (m, C) are, are read."""
        logits, offset, velocity = self(h)
        order = assigned(self._costs(logits, offset, velocity, species, state, held.table))
        chosen = order[..., None]
        there, atom = held.table >= 0, held.table.clamp(min=0)
        found = logits.argmax(dim=-1)
        edges = torch.as_tensor(state.grid.edges, dtype=offset.dtype)
        way = (offset.gather(1, chosen.expand_as(offset)) - state.offset[atom])[there] @ edges
        fast = velocity.gather(1, chosen.expand_as(velocity)) * self.speed - state.velocity[atom]
        right = (found.gather(1, order) == species[atom])[there]
        counts = (found > 0).sum(dim=1) == there.sum(dim=1)
        return SlotScores(
            float(counts.double().mean()),
            float(right.double().mean()),
            float(way.square().sum(dim=1).mean().sqrt()),
            float(fast[there].square().sum(dim=1).mean().sqrt()),
        )

    def _costs(
        self,
        logits: Tensor,
        offset: Tensor,
        velocity: Tensor,
        species: Tensor,
        state: AtomState,
        table: Tensor,
    ) -> Tensor:
        """(m, K, K) what it costs that slot k of a cell, by the table, is read from slot l."""
        there, atom = table >= 0, table.clamp(min=0)
        kind = torch.where(there, species[atom], 0)
        likely = -torch.log_softmax(logits, dim=-1)
        cost = likely.transpose(1, 2).gather(1, kind[..., None].expand(-1, -1, self.slots))
        place = state.offset[atom].to(offset.dtype)[:, :, None] - offset[:, None]
        fast = (state.velocity[atom] / self.speed).to(offset.dtype)[:, :, None] - velocity[:, None]
        # offsets of a cell have a variance of 1/12
        far = 12 * place.square().sum(dim=-1) + fast.square().sum(dim=-1)
        return cost + torch.where(there[..., None], far, torch.zeros_like(far))


def assigned(cost: Tensor) -> Tensor:
    """(m, K) column of each row that costs least in all, for each of m matrices (m, K, K)."""
    size = cost.shape[-1]
    if size > _FEW:
        found = [linear_sum_assignment(one)[1] for one in cost.detach().cpu().numpy()]
        return torch.as_tensor(np.array(found, dtype=np.int64).reshape(-1, size)).to(cost.device)
    orders = torch.tensor(list(permutations(range(size))), device=cost.device)
    rows = torch.arange(size, device=cost.device)
    best: Tensor = orders[cost[:, rows, orders].sum(dim=-1).argmin(dim=-1)]
    return best
