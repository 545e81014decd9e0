"""The 48 ways to turn and mirror a grid onto itself, of fields on it and of vectors in it.

A vector in a cell (an offset, a velocity, a force) turns with the grid:

    turn = octahedral()[5]
    field = turn.field(field)                        # (B, X, Y, Z, ...) each cell goes elsewhere
    field = turn.field(field, vectors=[(1, 2, 3)])   # entries 1, 2, 3 of the last axis are a vector

Learning from turned runs (``Run(states, symmetry=octahedral(extents))``) makes a net nearly symmetric;
``Level(symmetric=True)`` makes vectors of cells that are turned with the grid as numbers exactly so,
with weights shared by neighbours that symmetry takes to each other; `averaged` makes any function of
fields, vectors too, exactly so, for as many calls of it as there are turns.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor

from mlcore.sagesnet.lattice import Triple

__all__ = ["Symmetry", "averaged", "octahedral", "orbits", "spread"]

Vectors = Sequence[tuple[int, int, int]]


@dataclass(frozen=True)
class Symmetry:
    """One of the 48: axis i of what is turned is axis ``axes[i]`` of what was, times ``signs[i]``.

    Attributes:
        axes: an order of 0, 1, 2.
        signs: each 1 or -1.
    """

    axes: Triple
    signs: Triple

    @property
    def matrix(self) -> Tensor:
        """(3, 3) int64 that turns column vectors."""
        made = torch.zeros((3, 3), dtype=torch.int64)
        for i, (axis, sign) in enumerate(zip(self.axes, self.signs, strict=True)):
            made[i, axis] = sign
        return made

    @property
    def inverse(self) -> Symmetry:
        """What undoes it."""
        return _of(self.matrix.T)

    def __matmul__(self, first: Symmetry) -> Symmetry:
        """``first``, then this one."""
        return _of(self.matrix @ first.matrix)

    def extents(self, extents: Sequence[int]) -> Triple:
        """Of a box that is turned."""
        x, y, z = (extents[axis] for axis in self.axes)
        return x, y, z

    def field(self, field: Tensor, vectors: Vectors = ()) -> Tensor:
        """A field (B, X, Y, Z, ...) turned about the middle of its box.

        Args:
            field: any numbers in the cells.
            vectors: which three entries of the last axis are x, y, z of a vector; several of them.
        """
        rest = range(4, field.dim())
        turned = field.permute(0, *(1 + axis for axis in self.axes), *rest)
        turned = turned.flip([1 + i for i, sign in enumerate(self.signs) if sign < 0])
        return self.entries(turned, vectors)

    def entries(self, values: Tensor, vectors: Vectors) -> Tensor:
        """Values (..., E) some of whose entries are vectors, which are turned."""
        if not len(vectors):
            return values
        turned = values.clone()
        for entries in vectors:
            turned[..., list(entries)] = self.vectors(values[..., list(entries)])
        return turned

    def vectors(self, vectors: Tensor) -> Tensor:
        """(..., 3) turned."""
        signs = torch.tensor(self.signs, dtype=vectors.dtype, device=vectors.device)
        return vectors[..., list(self.axes)] * signs

    def kernel(self, weight: Tensor) -> Tensor:
        """Weights (..., k, k, k) of a scatter turned: those of turned fields."""
        n = weight.dim() - 3
        turned = weight.permute(*range(n), *(n + axis for axis in self.axes))
        return turned.flip([n + i for i, sign in enumerate(self.signs) if sign < 0])


def _of(matrix: Tensor) -> Symmetry:
    axes = matrix.abs().argmax(dim=1)
    signs = matrix.gather(1, axes[:, None])[:, 0]
    return Symmetry(cast("Triple", tuple(axes.tolist())), cast("Triple", tuple(signs.tolist())))


def octahedral(extents: Sequence[int] | None = None) -> tuple[Symmetry, ...]:
    """All 48, the identity first.

    Args:
        extents: leave out those that make another box of one with these.
    """
    every = (
        Symmetry(axes, signs)
        for axes in itertools.permutations((0, 1, 2), 3)
        for signs in itertools.product((1, -1), (1, -1), (1, -1))
    )
    return tuple(s for s in every if extents is None or s.extents(extents) == tuple(extents))


def orbits(kernel: int) -> tuple[Tensor, int]:
    """Which weights of a kernel symmetry takes to each other.

    Returns:
        (k, k, k) int64 number of the orbit of each, and how many there are: 4 of 27, 10 of 125.
    """
    away = (torch.arange(kernel) - kernel // 2).abs()
    steps = torch.stack(torch.meshgrid(away, away, away, indexing="ij"), dim=-1)
    told = steps.sort(dim=-1).values.reshape(-1, 3)
    kinds, number = torch.unique(told, dim=0, return_inverse=True)
    return number.reshape(kernel, kernel, kernel), len(kinds)


def averaged(
    function: Callable[[Tensor], Tensor],
    symmetries: Sequence[Symmetry] | None = None,
    vectors: Vectors = (),
) -> Callable[[Tensor], Tensor]:
    """The mean of a function of fields over all turns: symmetric to rounding, whatever it is.

    Args:
        function: (B, X, Y, Z, C) -> (B, X, Y, Z, C), with vectors at the same entries.
        symmetries: a group; None: those that leave the field's box as it is.
        vectors: see `Symmetry.field`.
    """

    def mean(field: Tensor) -> Tensor:
        turns = octahedral(field.shape[1:4]) if symmetries is None else symmetries
        total = torch.zeros_like(field)
        for turn in turns:
            there = function(turn.field(field, vectors))
            total = total + turn.inverse.field(there, vectors)
        return total / len(turns)

    return mean


def spread(
    function: Callable[[Tensor], Tensor],
    field: Tensor,
    symmetries: Sequence[Symmetry] | None = None,
    vectors: Vectors = (),
) -> float:
    """How much what a function makes of a field depends on how it lies.

    Returns:
        Root of the mean squared deviation of answers, turned back, from their mean, as a part of
        the root of the mean square of that; 0 for a symmetric function.
    """
    turns = octahedral(field.shape[1:4]) if symmetries is None else symmetries
    with torch.no_grad():
        answers = torch.stack(
            [t.inverse.field(function(t.field(field, vectors)), vectors) for t in turns]
        )
    mean = answers.mean(dim=0)
    return float((answers - mean).square().mean().sqrt() / mean.square().mean().sqrt())
