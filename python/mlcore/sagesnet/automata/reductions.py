"""Which elementary rules are themselves again, or another rule, on blocks of cells and steps.

A projection of blocks of g cells to one is an exact reduction of a rule where a coarse rule exists
with P(f^g(a, b, c)) = F(P(a), P(b), P(c)) for all blocks a, b, c (N. Israeli, N. Goldenfeld, Phys.
Rev. E 73, 026203, 2006). There are few enough to try them all, which makes an oracle for reductions
that were learned.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from mlcore.errors import InvalidArgument
from mlcore.sagesnet.automata.rules import ElementaryRule

if TYPE_CHECKING:
    from mlcore.sagesnet.net import SagesNet

__all__ = ["Learned", "Reduction", "learned", "reductions", "windows"]


@dataclass(frozen=True)
class Reduction:
    """One that is exact.

    Attributes:
        cells: g, of a block and steps of the fine rule in one of the coarse rule.
        projection: what each of the 2^g blocks becomes; the first cell is the highest bit.
        coarse: number of the coarse rule.
    """

    cells: int
    projection: tuple[int, ...]
    coarse: int

    @property
    def constant(self) -> bool:
        """Whether the coarse rule makes the same of everything."""
        return self.coarse in (0, 255)


@lru_cache(maxsize=4)
def windows(cells: int) -> Tensor:
    """All rows of three blocks, (2^(3 g), 1, 1, 3 g)."""
    if cells not in (1, 2, 3, 4):
        raise InvalidArgument(f"cells must be from 1 to 4, got {cells!r}")
    return _bits(torch.arange(2 ** (3 * cells)), 3 * cells)[:, None, None, :]


def reductions(number: int, cells: int) -> list[Reduction]:
    """All exact reductions of an elementary rule; projections that tell nothing are left out.

    Args:
        number: of the rule.
        cells: g, from 1 to 3: 2^(2^g) projections are tried.

    Raises:
        InvalidArgument: out of range.
    """
    if cells not in (1, 2, 3):
        raise InvalidArgument(f"cells must be 1, 2 or 3, got {cells!r}")
    blocks, after = _blocks(windows(cells), cells), _after(number, cells)
    count = 2**cells
    every = _bits(torch.arange(1, 2**count - 1), count)  # all 0 and all 1 tell nothing
    seen = every[:, blocks] @ torch.tensor([4, 2, 1])
    becomes = every[:, after]
    ones = torch.zeros((len(every), 8), dtype=torch.int64).scatter_add_(1, seen, becomes)
    times = torch.zeros_like(ones).scatter_add_(1, seen, torch.ones_like(seen))
    exact = ((ones == 0) | (ones == times)).all(dim=1)
    numbers = (ones > 0).long() @ (2 ** torch.arange(8))
    return [
        Reduction(cells, tuple(projection), rule)
        for projection, rule in zip(every[exact].tolist(), numbers[exact].tolist(), strict=True)
    ]


@dataclass(frozen=True)
class Learned:
    """What a net made of a rule, judged on all windows of three blocks.

    Attributes:
        projection: what each of the 2^g blocks becomes.
        wrong: windows whose coarse prediction is not the code of what the rule makes of them.
        windows: how many there are.
        changes: whether the coarse prediction is not the same everywhere.
        known: whether the projection is one of the exact ones.
    """

    projection: tuple[int, ...]
    wrong: int
    windows: int
    changes: bool
    known: bool

    @property
    def collapsed(self) -> bool:
        """Whether every block has the same code."""
        return len(set(self.projection)) == 1

    @property
    def exact(self) -> bool:
        """Whether no window is wrong, and that says something."""
        return not (self.wrong or self.collapsed) and self.changes


def learned(net: SagesNet[Tensor], number: int) -> Learned:
    """Judge the first lift of a net and its predictor against an elementary rule.

    Args:
        net: of cells of one channel and a first lift of (1, 1, g) cells and g steps that sees one
            frame; the sign of a code is its bit.
        number: of the rule.

    Raises:
        InvalidArgument: another lift.
    """
    lift = net.lift(1)
    cells = lift.time
    if lift.space != (1, 1, cells) or lift.frames != 1 or lift.channels != 1:
        raise InvalidArgument("net must lift (1, 1, g) cells and g steps to one channel, frames=1")
    start = windows(cells)
    later = ElementaryRule(number).run(start, cells)[-1]
    with torch.no_grad():
        before, after = (net.encode([state] * cells, 1) for state in (start, later))
        predicted = net.predict(before).h[:, 0, 0, 1, 0] > 0
        wanted = after.h[:, 0, 0, 1, 0] > 0
        codes = before.h[: 2**cells, 0, 0, 2, 0] > 0  # the last block counts through all blocks
    projection = tuple(codes.long().tolist())
    return Learned(
        projection,
        int((predicted != wanted).sum()),
        len(start),
        bool((wanted != wanted[0]).any()),
        any(one.projection == projection for one in reductions(number, cells)),
    )


def _after(number: int, cells: int) -> Tensor:
    """The middle block, as a number, of every window g steps later."""
    later = ElementaryRule(number).run(windows(cells), cells)[-1]
    return _blocks(later, cells)[:, 1]


def _blocks(rows: Tensor, cells: int) -> Tensor:
    """(N, 3) numbers of the blocks in windows."""
    parts = rows.reshape(len(rows), 3, cells)
    return parts @ (2 ** torch.arange(cells - 1, -1, -1))


def _bits(numbers: Tensor, count: int) -> Tensor:
    """(N, count), highest bit first."""
    return (numbers[:, None] >> torch.arange(count - 1, -1, -1)) & 1
