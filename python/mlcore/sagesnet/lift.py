"""From one scale to the next: blocks of cells over several steps become one cell, and back.

The vector keeps its length, so a coarse cell costs what a fine one costs, and a block of k^3 cells
and m steps is squeezed k^3 m to 1. Each fine cell is in exactly one block.

A lift that is only asked for codes that its own predictor finds easy makes them all the same. So it
is trained to reconstruct first, with noise on the codes; prediction comes in after a third of the
training (see `mlcore.sagesnet.fit`), and `effective_rank` tells whether codes still say something.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mlcore.errors import InvalidArgument
from mlcore.sagesnet.lattice import Lattice, triple

__all__ = ["Lift", "effective_rank"]


class Lift(nn.Module):
    """Encoder and decoder of blocks in space and time.

    Args:
        channels: C, length of a vector on both sides.
        space: k cells along each axis, or three numbers of them.
        time: m steps of the finer level that one step of the coarser one spans.
        frames: how many of the m frames of a block are seen and given back, the first ones; None:
            all. 1 makes codes of moments.
        width: of the hidden layers.

    Raises:
        InvalidArgument: naming what is out of range.
    """

    def __init__(
        self,
        channels: int,
        space: int | Sequence[int] = 2,
        time: int = 2,
        frames: int | None = None,
        width: int = 64,
    ) -> None:
        super().__init__()
        self.space = triple("space", space)
        self.time = time
        self.frames = time if frames is None else frames
        if not 1 <= self.frames <= time:
            raise InvalidArgument(f"frames must be from 1 to time = {time}, got {frames!r}")
        self.channels = channels
        inputs = channels * self.frames * math.prod(self.space)
        self.encoder = nn.Sequential(
            nn.Linear(inputs, width), nn.SiLU(), nn.Linear(width, channels), nn.Tanh()
        )
        self.decoder = nn.Sequential(
            nn.Linear(channels, width), nn.SiLU(), nn.Linear(width, inputs)
        )

    @property
    def compression(self) -> int:
        """How many numbers become one."""
        return self.frames * math.prod(self.space)

    def forward(self, window: Sequence[Tensor], lattice: Lattice) -> Tensor:
        """(..., C) of the coarse cells, within (-1, 1), from at least ``frames`` fine frames."""
        blocks = [lattice.blocks(h, self.space).flatten(-2) for h in window[: self.frames]]
        code: Tensor = self.encoder(torch.cat(blocks, dim=-1))
        return code

    def down(self, code: Tensor, lattice: Lattice) -> list[Tensor]:
        """The ``frames`` fine frames that coarse vectors stand for.

        Args:
            code: (..., C) of the cells of ``lattice.coarse(space)``.
            lattice: the fine one.
        """
        flat = self.decoder(code)
        shape = (*code.shape[:-1], self.frames, math.prod(self.space), self.channels)
        parts = flat.reshape(shape)
        return [lattice.unblocked(part, self.space) for part in parts.unbind(dim=-3)]


def effective_rank(codes: Tensor) -> float:
    """How many independent numbers codes (..., C) hold: exp of the entropy of their variances.

    0 where all codes are the same (O. Roy, M. Vetterli, EUSIPCO 2007).
    """
    rows = codes.detach().flatten(0, -2).double()
    values = torch.linalg.eigvalsh(torch.cov(rows.T).reshape(rows.shape[1], rows.shape[1]))
    values = values.clamp(min=0)
    total = float(values.sum())
    if total < 1e-12:
        return 0.0
    parts = values[values > 1e-12 * total] / total
    return math.exp(-float((parts * parts.log()).sum()))
