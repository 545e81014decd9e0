"""The cells of a grid that atoms are in or may come to, as predictors know them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor

from mlcore.errors import InvalidArgument
from mlcore.sagesnet.atoms.grid import AtomGrid
from mlcore.sagesnet.atoms.state import AtomState
from mlcore.sagesnet.lattice import ActiveLattice, Boundary, DenseLattice, Lattice
from mlcore.stencil_active import ActiveSet

__all__ = ["AtomLattice", "DenseAtomLattice", "atom_lattice", "held"]


@dataclass(frozen=True)
class AtomLattice(ActiveLattice):
    """Cells with an atom and those next to them.

    Args:
        active: the cells, with the number of the system in front.
        grid: of the atoms.
    """

    grid: AtomGrid

    @cached_property
    def where(self) -> Tensor:
        """(M, 4) int64 system, x, y, z of the rows of features."""
        return torch.as_tensor(self.active.coordinates)

    @cached_property
    def keys(self) -> Tensor:
        return _keys(self.where, self.active.grid_shape)

    def rows(self, cells: Tensor) -> Tensor:
        """Rows of cells (n, 4) among the features; -1 for those that are not computed."""
        wanted = _keys(cells, self.active.grid_shape)
        if not len(self.keys):
            return torch.full_like(wanted, -1)
        found = torch.searchsorted(self.keys, wanted).clamp(max=len(self.keys) - 1)
        return torch.where(self.keys[found] == wanted, found, -1)

    def shaped(self, rows: Tensor) -> Tensor:
        """Features of all rows as predictors take them."""
        return rows


@dataclass(frozen=True)
class DenseAtomLattice(DenseLattice):
    """All cells of boxes with atoms.

    Args:
        extents, boundary: see `DenseLattice`.
        grid: of the atoms.
        batch: how many boxes.
    """

    grid: AtomGrid = field(kw_only=True)
    batch: int = field(kw_only=True)

    @cached_property
    def where(self) -> Tensor:
        """(M, 4) int64 system, x, y, z of the rows of features."""
        every = torch.arange(self.batch * self.cells)
        return torch.stack(torch.unravel_index(every, (self.batch, *self.extents)), dim=1)

    def rows(self, cells: Tensor) -> Tensor:
        """Rows of cells (n, 4) among the features."""
        return _keys(cells, self.extents)

    def shaped(self, rows: Tensor) -> Tensor:
        """Features of all rows as predictors take them."""
        return rows.reshape(self.batch, *self.extents, rows.shape[-1])


def atom_lattice(
    states: Sequence[AtomState], dense: bool, margin: int
) -> AtomLattice | DenseAtomLattice:
    """The lattice of all these states.

    Args:
        states: on equal grids.
        dense: all cells, or those with an atom in any of the states and their neighbours.
        margin: empty cells beyond an open axis of a box that is periodic along others, so that
            nothing goes around there.

    Raises:
        InvalidArgument: grids or numbers of systems differ.
    """
    grid, batch = states[0].grid, states[0].batch
    if any(state.grid != grid or state.batch != batch for state in states):
        raise InvalidArgument("states must be batches of as many systems on equal grids")
    around = any(grid.pbc)
    x, y, z = (
        n + (margin if around and not p else 0) for n, p in zip(grid.extents, grid.pbc, strict=True)
    )
    boundary: Boundary = "periodic" if around else "zero"
    if dense:
        return DenseAtomLattice((x, y, z), boundary, grid=grid, batch=batch)
    mask = torch.zeros((batch, x, y, z), dtype=torch.uint8, device=states[0].cell.device)
    for state in states:
        mask[(state.system, *state.cell.unbind(dim=1))] = 1
    active = ActiveSet.from_mask(mask, boundary, dilate=1).outputs
    return AtomLattice(active, grid)


def held(lattice: Lattice) -> AtomLattice | DenseAtomLattice:
    """A lattice that knows its atoms' grid.

    Raises:
        InvalidArgument: it is another one.
    """
    if not isinstance(lattice, AtomLattice | DenseAtomLattice):
        raise InvalidArgument(f"lattice must be one of AtomCells, not {type(lattice).__name__}")
    return lattice


def _keys(cells: Tensor, extents: Sequence[int]) -> Tensor:
    """Row-major numbers of cells (n, 4)."""
    _, y, z = extents
    return ((cells[:, 0] * extents[0] + cells[:, 1]) * y + cells[:, 2]) * z + cells[:, 3]
