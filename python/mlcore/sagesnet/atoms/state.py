"""Atoms on a grid: whole numbers for the cell, fractions of it for the rest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
from ase import Atoms
from torch import Tensor

from mlcore.errors import InvalidArgument
from mlcore.sagesnet.atoms.grid import AtomGrid
from mlcore.voxels import bin_atoms

__all__ = ["AtomState"]

Array = npt.NDArray[np.float64]


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
        driven: (n,) bool, atoms that keep their velocity whatever happens, grips; None: none.
        force: (n, 3) float32, eV/A that act on atoms from outside; None: none.
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
    driven: Tensor | None = None
    force: Tensor | None = None

    def __len__(self) -> int:
        return len(self.numbers)

    @classmethod
    def from_arrays(
        cls,
        grid: AtomGrid,
        numbers: npt.ArrayLike,
        positions: npt.ArrayLike,
        velocities: npt.ArrayLike | None = None,
        ids: npt.ArrayLike | None = None,
        driven: npt.ArrayLike | None = None,
    ) -> AtomState:
        """One system.

        Args:
            grid: the cells.
            numbers: (n,) atomic numbers.
            positions: (n, 3) A.
            velocities: (n, 3) A/fs; None: at rest.
            ids: (n,) different whole numbers; None: 0, 1, ...
            driven: (n,) bool, see `AtomState`.

        Raises:
            InvalidArgument: a shape is wrong, ids are not different, a number is not finite, a
                position is outside of an open axis.
        """
        x = np.ascontiguousarray(positions, dtype=np.float64)
        n = len(x)
        z, v = np.asarray(numbers), np.zeros((n, 3)) if velocities is None else velocities
        name, v = np.arange(n) if ids is None else np.asarray(ids), np.asarray(v, dtype=np.float32)
        if x.shape != (n, 3) or v.shape != x.shape or z.shape != (n,) or name.shape != (n,):
            raise InvalidArgument("numbers, positions, velocities, ids: not of the same atoms")
        if ids is not None and (np.diff(np.sort(name)) == 0).any():
            raise InvalidArgument("ids: some atoms have the same")
        if not np.isfinite(v).all():
            raise InvalidArgument("velocities: not finite")
        cell, image, offset = _placed(x, grid)
        return cls(
            grid,
            1,
            torch.as_tensor(z.astype(np.int64)),
            torch.as_tensor(name.astype(np.int64)),
            torch.zeros(n, dtype=torch.int64),
            cell,
            image,
            offset,
            torch.as_tensor(v),
            None if driven is None else torch.as_tensor(np.asarray(driven, dtype=bool)),
        )

    @classmethod
    def of(cls, systems: Atoms | Sequence[Atoms], grid: AtomGrid) -> AtomState:
        """Atoms as ASE has them; velocities become A/fs.

        Args:
            systems: one or several, whose cell is that of the grid. ``arrays["id"]`` are kept as
                ids, without them they are counted from 0; ``arrays["driven"]`` too.
            grid: the cells.

        Raises:
            InvalidArgument: a position is not finite or outside an open axis.
        """
        from ase.units import fs

        many = [systems] if isinstance(systems, Atoms) else list(systems)
        return cls.stack(
            [
                cls.from_arrays(
                    grid,
                    atoms.numbers,
                    atoms.positions,
                    atoms.get_velocities() * fs,
                    atoms.arrays.get("id"),
                    atoms.arrays.get("driven"),
                )
                for atoms in many
            ]
        )

    @classmethod
    def stack(cls, states: Sequence[AtomState]) -> AtomState:
        """Several as one batch.

        Raises:
            InvalidArgument: there are none, or on different grids.
        """
        if not states or any(state.grid != states[0].grid for state in states):
            raise InvalidArgument("states must be one or more, on equal grids")
        if len(states) == 1:
            return states[0]
        batches = [state.batch for state in states]
        starts = np.cumsum([0, *batches[:-1]]).tolist()
        parts: dict[str, Tensor | None] = {
            name: torch.cat([getattr(state, name) for state in states])
            for name in ("numbers", "ids", "cell", "image", "offset", "velocity")
        }
        for name in ("driven", "force"):
            some = any(getattr(state, name) is not None for state in states)
            rows = [getattr(state, f"_{name}") for state in states] if some else []
            parts[name] = torch.cat(rows) if some else None
        system = torch.cat([state.system + k for state, k in zip(states, starts, strict=True)])
        return cls(states[0].grid, sum(batches), system=system, **parts)  # type: ignore[arg-type]

    @property
    def _driven(self) -> Tensor:
        return (
            torch.zeros_like(self.numbers, dtype=torch.bool) if self.driven is None else self.driven
        )

    @property
    def _force(self) -> Tensor:
        return torch.zeros_like(self.velocity) if self.force is None else self.force

    @property
    def free(self) -> Tensor:
        """(n,) bool, atoms that are not driven."""
        return ~self._driven

    def counts(self) -> Tensor:
        """(B, 119) int64, how many atoms of each atomic number the systems hold."""
        bins = self.system * 119 + self.numbers
        return torch.bincount(bins, minlength=self.batch * 119).reshape(self.batch, 119)

    def matched(self, other: AtomState) -> AtomState:
        """``other`` with its atoms in the order of this one's, by system and id.

        Raises:
            InvalidArgument: they do not hold the same atoms.
        """
        mine, theirs = self._names(), other._names()
        if torch.equal(mine, theirs):
            return other
        order, back = torch.argsort(mine), torch.argsort(theirs)
        if not torch.equal(mine[order], theirs[back]):
            raise InvalidArgument("the states do not hold the same atoms")
        rows = torch.empty_like(order)
        rows[order] = back
        return other.take(rows)

    def take(self, rows: Tensor) -> AtomState:
        """Some of the atoms, in another order."""
        names = (
            "numbers",
            "ids",
            "system",
            "cell",
            "image",
            "offset",
            "velocity",
            "driven",
            "force",
        )
        found = {name: getattr(self, name) for name in names}
        return replace(
            self, **{k: v.index_select(0, rows) for k, v in found.items() if v is not None}
        )

    def _names(self) -> Tensor:
        """(n,) whole numbers, by which atoms of equal batches are known."""
        return self.system + self.batch * self.ids

    def displacement(self, other: AtomState) -> Tensor:
        """(n, 3) A from here to the same atoms in ``other``, the shortest way around.

        Atoms of ``other`` must be in this order; see `matched`.
        """
        extents = torch.tensor(self.grid.extents, device=self.cell.device)
        whole = other.cell - self.cell + (other.image - self.image) * extents
        way = whole + (other.offset - self.offset).double()
        period = extents * torch.tensor(self.grid.pbc, device=self.cell.device)
        turns = torch.where(period > 0, torch.round(way / period.clamp(min=1)), 0.0)
        edges = torch.as_tensor(self.grid.edges, device=self.cell.device)
        short: Tensor = (way - turns * period) @ edges
        return short

    def atoms(self) -> list[Atoms]:
        """The systems as ASE has them, ids in ``arrays["id"]``."""
        from ase.units import fs

        made = []
        place, numbers = self.positions().cpu().numpy(), self.numbers.cpu().numpy()
        velocity = self.velocity.detach().cpu().numpy().astype(float)
        ids = self.ids.cpu().numpy()
        for b in range(self.batch):
            rows = torch.nonzero(self.system == b).flatten().cpu().numpy()
            atoms = Atoms(numbers[rows], place[rows], cell=self.grid.matrix, pbc=self.grid.pbc)
            atoms.set_velocities(velocity[rows] / fs)
            atoms.set_array("id", ids[rows])
            if self.driven is not None:
                atoms.set_array("driven", self.driven.cpu().numpy()[rows])
            made.append(atoms)
        return made

    def apart(self, other: AtomState) -> tuple[float, float]:
        """Root mean squares of how far each atom that is not driven is from the same one in
        ``other``, A, and of how their velocities differ, A/fs: the error of a rollout, say.

        Raises:
            InvalidArgument: they do not hold the same atoms.
        """
        same, free = self.matched(other), self.free
        ways = (self.displacement(same)[free], (same.velocity - self.velocity)[free].double())
        far, fast = (float(x.detach().square().sum(dim=1).mean().sqrt()) for x in ways)
        return far, fast

    def positions(self) -> Tensor:
        """(n, 3) float64, A."""
        extents = torch.tensor(self.grid.extents, device=self.cell.device)
        # in one array: a million atoms are slow by their memory
        place = self.image.double().mul_(extents).add_(self.cell).add_(0.5)
        edges = torch.as_tensor(self.grid.edges, device=self.cell.device)
        return place.add_(self.offset.detach()) @ edges

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


def _placed(positions: Array, grid: AtomGrid) -> tuple[Tensor, Tensor, Tensor]:
    """Cell, image and offset of every atom."""
    bins = bin_atoms(grid.voxels, torch.as_tensor(positions))
    cell = torch.stack(torch.unravel_index(bins.cell, grid.extents), dim=1)
    # what float32 rounds up to the next cell stays in this one
    offset = (bins.offset - 0.5).float().clamp(max=float(np.nextafter(np.float32(0.5), 0)))
    return cell, bins.image.long(), offset
