"""States that automata are learned from and tested on: soups, all classes of surroundings, things."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mlcore.errors import InvalidArgument

__all__ = ["LIFE", "LifeObject", "placed", "probe", "soups"]


def soups(
    extents: Sequence[int],
    count: int = 1,
    *,
    density: float | tuple[float, float] = 0.5,
    seed: int = 0,
) -> Tensor:
    """Random states (count, X, Y, Z).

    Args:
        extents: cells along three axes.
        count: how many.
        density: part of the cells that live; of two, each soup has its own between them.
        seed: same soups for the same seed.

    Raises:
        InvalidArgument: ``density`` is not within 0 and 1.
    """
    low, high = density if isinstance(density, tuple) else (density, density)
    if not 0 <= low <= high <= 1:
        raise InvalidArgument(f"density must lie in 0 to 1, got {density!r}")
    generator = torch.Generator().manual_seed(seed)
    parts = low + (high - low) * torch.rand((count, 1, 1, 1), generator=generator)
    return (torch.rand((count, *extents), generator=generator) < parts).long()


def probe(copies: int = 200, dimensions: int = 3, seed: int = 0) -> Tensor:
    """Patches of 3 cells along each axis: every state of the centre with every count of neighbours.

    A periodic box of 3 cells shows the cell in its middle all its neighbours once, so that patches
    are states, and what the middle becomes is to be judged. 54 classes in three dimensions.

    Args:
        copies: patches of a class, their live neighbours at random places.
        dimensions: 1 to 3.
        seed: same patches for the same seed.

    Returns:
        (classes * copies, X, Y, Z), class after class; (centre, count) in row-major order.
    """
    cells = 3**dimensions
    generator = torch.Generator().manual_seed(seed)
    order = torch.rand((2, cells, copies, cells - 1), generator=generator).argsort(dim=-1)
    live = (order < torch.arange(cells)[None, :, None, None]).long()
    centre = torch.arange(2)[:, None, None, None].expand(2, cells, copies, 1)
    half = (cells - 1) // 2
    patches = torch.cat([live[..., :half], centre, live[..., half:]], dim=-1)
    return patches.reshape(-1, *(1,) * (3 - dimensions), *(3,) * dimensions)


@dataclass(frozen=True)
class LifeObject:
    """Something that Conway's Life (B3/S23) is known to make.

    Attributes:
        name: as people call it.
        kind: "still life", "oscillator", "spaceship" or "empty".
        rows: of cells, O alive.
        period: steps after which it is the same again.
    """

    name: str
    kind: str
    rows: tuple[str, ...]
    period: int

    @property
    def cells(self) -> Tensor:
        """(X, Y) int64."""
        return torch.tensor([[int(c == "O") for c in row] for row in self.rows])


LIFE = (
    LifeObject("nothing", "empty", ("...", "...", "..."), 1),
    LifeObject("block", "still life", ("OO", "OO"), 1),
    LifeObject("beehive", "still life", (".OO.", "O..O", ".OO."), 1),
    LifeObject("loaf", "still life", (".OO.", "O..O", ".O.O", "..O."), 1),
    LifeObject("boat", "still life", ("OO.", "O.O", ".O."), 1),
    LifeObject("tub", "still life", (".O.", "O.O", ".O."), 1),
    LifeObject("blinker", "oscillator", ("OOO",), 2),
    LifeObject("toad", "oscillator", (".OOO", "OOO."), 2),
    LifeObject("beacon", "oscillator", ("OO..", "OO..", "..OO", "..OO"), 2),
    LifeObject("glider", "spaceship", (".O.", "..O", "OOO"), 4),
    LifeObject("lightweight spaceship", "spaceship", ("O..O.", "....O", "O...O", ".OOOO"), 4),
)
"""Things in Conway's Life, of all kinds."""


def placed(thing: LifeObject, box: int, seed: int = 0) -> Tensor:
    """A thing somewhere in an empty box, turned and mirrored at random: (1, 1, box, box).

    Raises:
        InvalidArgument: ``box`` has no room for it.
    """
    cells = thing.cells
    if max(cells.shape) + 2 > box:
        raise InvalidArgument(f"box must be at least {max(cells.shape) + 2}, got {box!r}")
    generator = torch.Generator().manual_seed(seed)
    turn, mirror = torch.randint(8, (2,), generator=generator).tolist()
    cells = cells.rot90(turn % 4)
    cells = cells.flip(0) if mirror % 2 else cells
    state = torch.zeros((1, 1, box, box), dtype=torch.int64)
    state[0, 0, : cells.shape[0], : cells.shape[1]] = cells
    shifts = torch.randint(box, (2,), generator=generator).tolist()
    return state.roll(shifts, (2, 3))
