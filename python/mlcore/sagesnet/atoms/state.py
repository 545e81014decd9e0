"""Atoms on a grid: whole numbers for the cell, fractions of it for the rest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from ase import Atoms
from torch import Tensor

from mlcore.errors import InvalidArgument
from mlcore.sagesnet.atoms.grid import AtomGrid
from mlcore.voxels import bin_atoms

__all__ = ["AtomState"]


@dataclass(frozen=True)
class AtomState:
    """One moment of B systems on equal grids; n atoms in all.

    Where an atom is, is said by its cell, a whole number, and its offset from the middle of that:
    nothing depends on how far from the origin it is, and counts cannot drift.

    Attributes:
        grid: of every system.
        batch: B.
        numbers: (n,) int64 atomic numbers.
        ids: (n,) int64, of the atoms within their system; they stay.
        system: (n,) int64, from 0 to B - 1.
        cell: (n, 3) int64, from 0 to extents - 1.
        image: (n, 3) int64, periods away from the box.
        offset: (n, 3) float32 within [-1/2, 1/2), fractions of the cell's edges.
        velocity: (n, 3) float32, A/fs.
    """

    grid: AtomGrid
    batch: int
    numbers: Tensor
    ids: Tensor
    system: Tensor
    cell: Tensor
    image: Tensor
    offset: Tensor
    velocity: Tensor

    def __len__(self) -> int:
        return len(self.numbers)

    @classmethod
    def of(cls, systems: Atoms | Sequence[Atoms], grid: AtomGrid) -> AtomState:
        """Atoms as ASE has them; velocities become A/fs.

        Args:
            systems: one or several, whose cell is that of the grid. ``arrays["id"]`` are kept as
                ids; without them they are counted from 0.
            grid: the cells.

        Raises:
            InvalidArgument: a position is not finite or outside an open axis.
        """
        from ase.units import fs

        many = [systems] if isinstance(systems, Atoms) else list(systems)
        parts = [_placed(atoms, grid) for atoms in many]
        counts = [len(atoms) for atoms in many]
        numbers = np.concatenate([atoms.numbers for atoms in many]).astype(np.int64)
        ids = [atoms.arrays.get("id", np.arange(len(atoms))) for atoms in many]
        velocity = np.concatenate([atoms.get_velocities() for atoms in many]) * fs
        if not np.isfinite(velocity).all():
            raise InvalidArgument("systems: a velocity is not finite")
        cell, image, offset = (np.concatenate(rows) for rows in zip(*parts, strict=True))
        return cls(
            grid,
            len(many),
            torch.as_tensor(numbers),
            torch.as_tensor(np.concatenate(ids).astype(np.int64)),
            torch.repeat_interleave(torch.arange(len(many)), torch.tensor(counts)),
            torch.as_tensor(cell),
            torch.as_tensor(image),
            torch.as_tensor(offset),
            torch.as_tensor(velocity.astype(np.float32)),
        )

    def atoms(self) -> list[Atoms]:
        """The systems as ASE has them, ids in ``arrays["id"]``."""
        from ase.units import fs

        made = []
        place = self.positions().cpu().numpy()
        for b in range(self.batch):
            rows = torch.nonzero(self.system == b).flatten().cpu().numpy()
            atoms = Atoms(
                self.numbers.cpu().numpy()[rows],
                place[rows],
                cell=self.grid.matrix,
                pbc=self.grid.pbc,
            )
            atoms.set_velocities(self.velocity.detach().cpu().numpy()[rows].astype(float) / fs)
            atoms.set_array("id", self.ids.cpu().numpy()[rows])
            made.append(atoms)
        return made

    def positions(self) -> Tensor:
        """(n, 3) float64, A."""
        extents = torch.tensor(self.grid.extents, device=self.cell.device)
        whole = (self.cell + self.image * extents).double() + 0.5
        edges = torch.as_tensor(self.grid.edges, device=self.cell.device)
        return (whole + self.offset.detach().double()) @ edges

    def moved(self, step: Tensor, velocity: Tensor) -> AtomState:
        """Every atom ``step`` (n, 3) A further on, with another velocity; none is lost.

        Raises:
            InvalidArgument: a step is not finite, or leads out of the box along an open axis.
        """
        inverse = torch.as_tensor(np.linalg.inv(self.grid.edges), dtype=step.dtype)
        offset = self.offset + step @ inverse.to(step.device)
        if not bool(torch.isfinite(offset).all()):
            raise InvalidArgument("step: not finite")
        jump = torch.floor(offset.detach() + 0.5)
        offset = offset - jump
        # rounding may leave an offset at the upper end
        high = offset.detach() >= 0.5
        offset, jump = torch.where(high, offset - 1, offset), jump + high
        extents = torch.tensor(self.grid.extents, device=step.device)
        cell = self.cell + jump.long()
        turns = torch.div(cell, extents, rounding_mode="floor")
        open_axes = ~torch.tensor(self.grid.pbc, device=step.device)
        if bool((turns[:, open_axes] != 0).any()):
            raise InvalidArgument("step: an atom leaves the box along an axis that is not periodic")
        return replace(
            self,
            cell=cell - turns * extents,
            image=self.image + turns,
            offset=offset,
            velocity=velocity,
        )


def _placed(atoms: Atoms, grid: AtomGrid) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Cell, image and offset of every atom."""
    bins = bin_atoms(grid.voxels, atoms.get_positions())
    cell = np.stack(np.unravel_index(bins.cell, grid.extents), axis=1)
    offset = (bins.offset - 0.5).astype(np.float32)
    # what float32 rounds up to the next cell belongs there
    offset = np.where(offset >= 0.5, np.float32(np.nextafter(np.float32(0.5), 0)), offset)
    return cell.astype(np.int64), bins.image.astype(np.int64), offset
