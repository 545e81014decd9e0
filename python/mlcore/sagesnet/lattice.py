"""Where cells lie: every cell of a box, or only those that something is in.

Features of cells are tensors whose last axis is the cell's vector; what lies before it is the
lattice's business. A predictor asks a lattice to `scatter` and knows nothing else of space.
"""

from __future__ import annotations

import hashlib
import math
import threading
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from mlcore import ops
from mlcore.errors import InvalidArgument
from mlcore.stencil_active import ActiveSet

__all__ = ["ActiveLattice", "Boundary", "DenseLattice", "Lattice", "dense_scatter", "triple"]

Boundary = Literal["periodic", "zero"]
Triple = tuple[int, int, int]


_TURNED_FROM = 16  # channels: with fewer, turning a field costs more than it saves
_MOST = 8  # lattices kept by ActiveLattice.over
_KNOWN: OrderedDict[bytes, ActiveLattice] = OrderedDict()
_LOCK = threading.Lock()


def triple(name: str, value: int | Sequence[int]) -> Triple:
    """Three whole numbers of at least 1; one stands for all three.

    Raises:
        InvalidArgument: naming ``name``.
    """
    numbers = (value,) * 3 if isinstance(value, int) else tuple(value)
    if len(numbers) != 3 or any(not isinstance(n, int) or n < 1 for n in numbers):
        raise InvalidArgument(f"{name} must be one or three whole numbers from 1 on, got {value!r}")
    return numbers


class Lattice(ABC):
    """Cells and who is whose neighbour."""

    @abstractmethod
    def scatter(self, values: Tensor, weight: Tensor) -> Tensor:
        """What every cell gets from all that send to it.

        Args:
            values: (..., O) sent by the cells.
            weight: (O, C, k, k, k): weight[:, :, d] takes a value to the cell d - k // 2 away.

        Returns:
            (..., C).
        """

    @abstractmethod
    def coarse(self, space: Triple) -> Lattice:
        """The lattice whose cells are blocks of ``space`` cells of this one."""

    @abstractmethod
    def blocks(self, features: Tensor, space: Triple) -> Tensor:
        """(..., n, C) of the n cells in every block, in row-major order."""

    @abstractmethod
    def unblocked(self, blocks: Tensor, space: Triple) -> Tensor:
        """The inverse of `blocks`."""

    @abstractmethod
    def spread(self, values: Tensor) -> Tensor:
        """(B, E) numbers of the systems of a batch -> (..., E) of their cells."""

    @property
    @abstractmethod
    def cells(self) -> int:
        """How many cells are computed."""


@dataclass(frozen=True)
class DenseLattice(Lattice):
    """All cells of a box; features (B, X, Y, Z, C).

    Args:
        extents: cells along the axes.
        boundary: what leaves the box comes in on the other side, or is lost.
    """

    extents: Triple
    boundary: Boundary = "periodic"

    def scatter(self, values: Tensor, weight: Tensor) -> Tensor:
        return dense_scatter(values, weight, self.boundary)

    def coarse(self, space: Triple) -> DenseLattice:
        if any(n % k for n, k in zip(self.extents, space, strict=True)):
            raise InvalidArgument(f"extents {self.extents} must be multiples of space {space}")
        x, y, z = (n // k for n, k in zip(self.extents, space, strict=True))
        return DenseLattice((x, y, z), self.boundary)

    def blocks(self, features: Tensor, space: Triple) -> Tensor:
        (x, y, z), (i, j, k) = self.coarse(space).extents, space
        parts = features.reshape(len(features), x, i, y, j, z, k, features.shape[-1])
        return parts.permute(0, 1, 3, 5, 2, 4, 6, 7).flatten(4, 6)

    def unblocked(self, blocks: Tensor, space: Triple) -> Tensor:
        shape = (*blocks.shape[:4], *space, blocks.shape[-1])
        parts = blocks.reshape(shape).permute(0, 1, 4, 2, 5, 3, 6, 7)
        return parts.flatten(5, 6).flatten(3, 4).flatten(1, 2)

    def spread(self, values: Tensor) -> Tensor:
        return values[:, None, None, None, :].expand(-1, *self.extents, -1)

    @property
    def cells(self) -> int:
        return math.prod(self.extents)


def dense_scatter(values: Tensor, weight: Tensor, boundary: str) -> Tensor:
    """`mlcore.ops.scatter3d` of (B, X, Y, Z, O) with the axis innermost that takes the least time.

    The core computes some cells of the last axis at once: in thin boxes another one fills it better.

    Args:
        values: (B, X, Y, Z, O).
        weight: (O, C, k, k, k).
        boundary: "periodic", "zero" or "halo".
    """
    axis = _quickest(values, weight, boundary)
    if axis == 2:
        return ops.scatter3d(values, weight, boundary=boundary, layout="channels_last")
    turned = values.transpose(1 + axis, 3).contiguous()
    kernel = weight.transpose(2 + axis, 4).contiguous()
    result = ops.scatter3d(turned, kernel, boundary=boundary, layout="channels_last")
    return result.transpose(1 + axis, 3).contiguous()


def _quickest(values: Tensor, weight: Tensor, boundary: str) -> int:
    """The axis that should be innermost; the last one where turning is not worth while."""
    if values.device.type != "cpu" or min(weight.shape[:2]) < _TURNED_FROM:
        return 2
    lanes = 64 // values.element_size()
    rim = 2 * (weight.shape[-1] // 2) if boundary == "halo" else 0
    extents = [max(n + rim, 1) for n in values.shape[1:4]]
    wasted = [-(-n // lanes) * lanes / n for n in extents]
    best = min((2, 1, 0), key=lambda axis: wasted[axis])
    return best if wasted[2] > 1.25 * wasted[best] else 2


@dataclass(frozen=True)
class ActiveLattice(Lattice):
    """Some cells of a box, all others hold zeros for ever; features (M, C), in the set's order.

    Args:
        active: the cells.
    """

    active: ActiveSet

    @classmethod
    def over(
        cls,
        extents: Triple,
        cells: Tensor,
        boundary: Boundary = "periodic",
        *,
        batches: int = 1,
    ) -> ActiveLattice:
        """The lattice of these cells; that of an earlier call if they are the same ones.

        What is known of neighbours and blocks is then known already: cells that atoms are in seldom
        change from one step to the next.

        Args:
            extents, boundary: of the box.
            cells: (M, 4) int64 system, x, y, z, or (M, 3) of one system.
            batches: B.
        """
        rows = cells.detach().cpu().contiguous()
        told = f"{extents} {boundary} {batches} {cells.device} {rows.dtype} {tuple(rows.shape)}"
        key = hashlib.sha256(told.encode() + rows.numpy().tobytes()).digest()
        with _LOCK:
            if key not in _KNOWN:
                _KNOWN[key] = cls(ActiveSet(extents, cells, boundary, batches=batches))
            _KNOWN.move_to_end(key)
            while len(_KNOWN) > _MOST:
                _KNOWN.popitem(last=False)
            return _KNOWN[key]

    def scatter(self, values: Tensor, weight: Tensor) -> Tensor:
        return ops.scatter3d_active(self.active, values, weight)

    def coarse(self, space: Triple) -> ActiveLattice:
        return self._coarse(space)[0]

    def blocks(self, features: Tensor, space: Triple) -> Tensor:
        coarse, place = self._coarse(space)
        n = math.prod(space)
        empty = features.new_zeros((coarse.cells * n, features.shape[-1]))
        filled = empty.index_copy(0, place.to(features.device), features)
        return filled.reshape(coarse.cells, n, features.shape[-1])

    def unblocked(self, blocks: Tensor, space: Triple) -> Tensor:
        return blocks.flatten(0, 1)[self._coarse(space)[1].to(blocks.device)]

    def spread(self, values: Tensor) -> Tensor:
        if len(values) != self.active.batches:
            raise InvalidArgument(
                f"values must be of {self.active.batches} systems, got {tuple(values.shape)}"
            )
        return values[self._system.to(values.device)]

    @property
    def cells(self) -> int:
        return len(self.active)

    @cached_property
    def _system(self) -> Tensor:
        """(M,) which system a cell is of."""
        where = torch.as_tensor(self.active.coordinates)
        return where[:, 0] if where.shape[1] == 4 else where.new_zeros(len(where))

    @cached_property
    def _made(self) -> dict[Triple, tuple[ActiveLattice, Tensor]]:
        return {}

    def _coarse(self, space: Triple) -> tuple[ActiveLattice, Tensor]:
        """The coarse lattice, and where in its blocks each cell lies."""
        if space not in self._made:
            self._made[space] = _blocked(self.active, space)
        return self._made[space]


def _blocked(active: ActiveSet, space: Triple) -> tuple[ActiveLattice, Tensor]:
    if any(n % k for n, k in zip(active.grid_shape, space, strict=True)):
        raise InvalidArgument(f"extents {active.grid_shape} must be multiples of space {space}")
    where = np.asarray(torch.as_tensor(active.coordinates).cpu())
    batch, xyz = where[:, :-3], where[:, -3:]
    rows, inverse = np.unique(
        np.concatenate([batch, xyz // space], axis=1), axis=0, return_inverse=True
    )
    extents = tuple(n // k for n, k in zip(active.grid_shape, space, strict=True))
    device = torch.as_tensor(active.coordinates).device
    cells = torch.as_tensor(rows, device=device)
    coarse = ActiveSet(extents, cells, active.boundary, batches=active.batches)
    inside = np.ravel_multi_index(tuple((xyz % space).T), space)
    place = torch.as_tensor(inverse.reshape(-1) * math.prod(space) + inside, device=device)
    return ActiveLattice(coarse), place
