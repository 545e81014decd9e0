"""Vectors of cells, and what acts on them from outside."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Tensor

from mlcore.sagesnet.lattice import Lattice

if TYPE_CHECKING:
    from mlcore.sagesnet.conserved import Matter

__all__ = ["Environment", "Grid"]

Environment = Tensor | Callable[[int, Lattice], Tensor] | None
"""(B, E) of the systems of a batch, or a function of step and lattice that gives (..., E) of its
cells; None for nets that know none."""


@dataclass(frozen=True)
class Grid:
    """Vectors of cells of a level, and where they lie.

    Attributes:
        h: (..., C).
        lattices: of level 0 to that of the vectors.
        matter: what the cells of a coarse level hold beside, where the net knows how it is moved;
            see `mlcore.sagesnet.conserved`.
    """

    h: Tensor
    lattices: tuple[Lattice, ...]
    matter: Matter | None = None

    @property
    def lattice(self) -> Lattice:
        """Where the vectors lie."""
        return self.lattices[-1]

    @property
    def level(self) -> int:
        """Whose vectors they are."""
        return len(self.lattices) - 1

    def of(self, h: Tensor) -> Grid:
        """Other vectors of the same cells, without what they hold beside."""
        return Grid(h, self.lattices)
