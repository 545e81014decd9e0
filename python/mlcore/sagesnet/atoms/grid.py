"""The grid atoms are sorted into: cells of a box, with room for a few atoms each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from ase import Atoms

from mlcore.errors import InvalidArgument
from mlcore.voxels import VoxelGrid

__all__ = ["AtomGrid"]

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class AtomGrid:
    """Cells of a box.

    Args:
        box: (3, 3) vectors of the box, A, as rows.
        extents: cells along them.
        pbc: which of them are periodic; atoms may not leave the box along the others.
        slots: K, most atoms in a cell.

    Raises:
        InvalidArgument: naming what is out of range.
    """

    box: tuple[tuple[float, float, float], ...]
    extents: tuple[int, int, int]
    pbc: tuple[bool, bool, bool] = (True, True, True)
    slots: int = 4

    def __post_init__(self) -> None:
        if not isinstance(self.slots, int) or self.slots < 1:
            raise InvalidArgument(f"slots must be a whole number from 1 on, got {self.slots!r}")
        self.voxels  # noqa: B018  (checks the rest)

    @classmethod
    def over(cls, atoms: Atoms, edge: float = 2.0, slots: int = 4, multiple: int = 1) -> AtomGrid:
        """The grid over the cell of ``atoms`` whose cells are about ``edge`` A wide.

        Args:
            atoms: only their cell and pbc count.
            edge: A.
            slots: see `AtomGrid`.
            multiple: of which the extents are, as lifts need them: 4 for two of 2 cells each.

        Raises:
            InvalidArgument: the cell has no volume, or ``edge`` or ``multiple`` is not positive.
        """
        if not isinstance(multiple, int) or multiple < 1:
            raise InvalidArgument(f"multiple must be a whole number from 1 on, got {multiple!r}")
        if not (np.isfinite(edge) and edge > 0):
            raise InvalidArgument(f"edge must be positive, got {edge!r}")
        box = np.asarray(atoms.cell[:], dtype=np.float64)
        if not abs(np.linalg.det(box)) > 1e-9:
            raise InvalidArgument("atoms must have a cell with a volume; see ase.Atoms.center")
        heights = 1 / np.linalg.norm(np.linalg.inv(box), axis=0)
        x, y, z = (multiple * max(1, round(float(h) / edge / multiple)) for h in heights)
        a, b, c = (tuple(float(v) for v in row) for row in box)
        return cls((a, b, c), (x, y, z), tuple(bool(p) for p in atoms.pbc), slots)  # type: ignore[arg-type]

    @property
    def matrix(self) -> Array:
        """(3, 3) vectors of the box, A, as rows."""
        return np.array(self.box)

    @property
    def edges(self) -> Array:
        """(3, 3) vectors of one cell, A, as rows."""
        edges: Array = self.matrix / np.array(self.extents)[:, None]
        return edges

    @property
    def voxels(self) -> VoxelGrid:
        """The same cells as the core knows them."""
        return VoxelGrid(self.extents, self.matrix, self.pbc)

    def arguments(self) -> dict[str, Any]:
        """What makes an equal one; JSON can hold it."""
        return {
            "box": [list(row) for row in self.box],
            "extents": list(self.extents),
            "pbc": list(self.pbc),
            "slots": self.slots,
        }
