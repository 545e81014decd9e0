"""Which slots atoms are read of, where it is known how many of each element a block of cells holds."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from mlcore.errors import Error
from mlcore.sagesnet.atoms.lattice import AtomLattice, DenseAtomLattice

__all__ = ["blocks_of", "lacking", "likeliest"]


def likeliest(logits: Tensor, block: Tensor, counts: Tensor) -> Tensor:
    """What is in each slot, 0 for nothing, when every block holds as many atoms as ``counts`` says.

    Of a block's slots those are filled whose odds against empty are best. One element after the
    other then takes what is likelier it than those after it: for one element the likeliest reading
    there is, for more a near one.

    Args:
        logits: (M, K, E + 1) of cells' slots, the first of which says empty.
        block: (M,) int64, the block each cell is in; -1: nothing may be in it.
        counts: (n, E) int64 of the n blocks.

    Returns:
        (M, K) int64, from 0 to E.

    Raises:
        Error: a block holds more atoms than it has slots.
    """
    slots = logits.shape[1]
    of = block.repeat_interleave(slots)
    flat = logits.detach().flatten(0, 1)
    left = _best(
        flat[:, 1:].logsumexp(dim=1) - flat[:, 0],
        torch.where(of < 0, len(counts), of),
        torch.cat([counts.sum(dim=1), counts.new_zeros(1)]),
    )
    if len(left) < int(counts.sum()):
        have = torch.bincount(block[block >= 0], minlength=len(counts)) * slots
        full = int((counts.sum(dim=1) - have).argmax())
        raise Error(
            f"a coarse cell holds {int(counts[full].sum())} atoms and has {int(have[full])} slots to "
            "read them of: take cells of more slots"
        )
    kind = torch.zeros_like(of)
    for element in range(counts.shape[1]):
        odds = flat[left, element + 1]
        if element + 1 < counts.shape[1]:
            odds = odds - flat[left, element + 2 :].logsumexp(dim=1)
        chosen = _best(odds, of[left], counts[:, element])
        kind[left[chosen]] = element + 1
        kept = torch.ones_like(left, dtype=torch.bool)
        kept[chosen] = False
        left = left[kept]
    return kind.reshape(-1, slots)


def _best(score: Tensor, block: Tensor, wanted: Tensor) -> Tensor:
    """Rows of the highest scores of every block, as many as are ``wanted`` of it, or all."""
    order = torch.argsort(score, descending=True, stable=True)
    order = order[torch.argsort(block[order], stable=True)]
    count = torch.bincount(block, minlength=len(wanted))
    sorted_block = block[order]
    rank = torch.arange(len(order), device=order.device)
    rank = rank - (torch.cumsum(count, 0) - count)[sorted_block]
    return order[rank < wanted[sorted_block]]


def blocks_of(
    where: Tensor, lattice: AtomLattice | DenseAtomLattice, shape: tuple[int, int, int, int]
) -> Tensor:
    """(m,) the row-major number of the block that each cell is in, -1 outside of the atoms' box.

    Args:
        where: (m, 4) int64 system, x, y, z.
        lattice: of the cells.
        shape: systems, and blocks along the axes.
    """
    space = torch.tensor(_space(lattice, shape), device=where.device)
    inside = (where[:, 1:] < torch.tensor(lattice.grid.extents, device=where.device)).all(dim=1)
    block = where[:, 1:] // space
    number = where[:, 0]
    for axis in range(3):
        number = number * shape[axis + 1] + block[:, axis]
    return torch.where(inside, number, -1)


def lacking(lattice: AtomLattice | DenseAtomLattice, atoms: Tensor, slots: int) -> Tensor:
    """(m, 4) cells that are not computed of blocks whose others have too few slots.

    Args:
        lattice: of the cells.
        atoms: (B, X, Y, Z) int64 of the blocks.
        slots: of a cell.
    """
    b, x, y, z = atoms.shape
    shape, where = (b, x, y, z), lattice.where.cpu()
    block = blocks_of(where, lattice, shape)
    have = torch.bincount(block[block >= 0], minlength=atoms.numel()) * slots
    short = torch.nonzero(atoms.flatten().cpu() > have).flatten()
    if not len(short):
        return where[:0]
    space = _space(lattice, shape)
    corner = torch.stack(torch.unravel_index(short, shape), dim=1) * torch.tensor([1, *space])
    inner = torch.stack(torch.unravel_index(torch.arange(math.prod(space)), (1, *space)), dim=1)
    cells = (corner[:, None] + inner).flatten(0, 1)
    return cells[lattice.rows(cells.to(lattice.where.device)).cpu() < 0]


def _space(
    lattice: AtomLattice | DenseAtomLattice, shape: tuple[int, int, int, int]
) -> tuple[int, int, int]:
    """Cells of a block along the axes."""
    extents = lattice.active.grid_shape if isinstance(lattice, AtomLattice) else lattice.extents
    x, y, z = (n // k for n, k in zip(extents, shape[1:], strict=True))
    return x, y, z
