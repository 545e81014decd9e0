"""What atoms' bonds see around them: for heads of confidence, and to sort atoms by."""

from __future__ import annotations

import torch
from torch import Tensor

from mlcore.sagesnet.atoms.bonds import Bonds, neighbours
from mlcore.sagesnet.atoms.state import AtomState

__all__ = ["around", "mean_by_row"]


def around(bonds: Bonds, state: AtomState, species: Tensor) -> Tensor:
    """(n, F) of each atom: sums over its bonds of what `Bonds` knows of a bond, functions of its
    length, what is around both of its ends, and how these are turned against each other.

    They do not change when all atoms are turned, mirrored or shifted; without bonds they are 0.

    Args:
        bonds: learned or not; their weights say nothing here.
        state: the atoms.
        species: (n,) from 0 on.
    """
    near = neighbours(state, bonds.reach).rows(bonds.weight.dtype)
    with torch.no_grad():
        bonded = near.way.norm(dim=-1, keepdim=True) < bonds.reach
        told = torch.cat(bonds.parts(near.way, near, species), dim=-1)
        return torch.where(bonded, told, torch.zeros_like(told)).sum(dim=1)


def mean_by_row(values: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
    """Rows (m,) that occur, sorted, and the means (m, F) of values (n, F) of each."""
    count = torch.bincount(rows)
    found = torch.nonzero(count).flatten()
    total = values.new_zeros((len(count), values.shape[1])).index_add(0, rows, values)
    return found, total[found] / count[found, None]
