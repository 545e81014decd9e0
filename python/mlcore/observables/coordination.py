"""How many neighbors an atom has, counted smoothly."""

from __future__ import annotations

import numpy as np
import torch

from mlcore.export import PairTable
from mlcore.networks.surroundings import NeighborCount, inner_of
from mlcore.observables.base import NeighborObservable, Reduce

__all__ = ["CoordinationNumber"]

_KNOTS = 2001


class CoordinationNumber(NeighborObservable):
    """Number of atoms within a cutoff of an atom, smooth in their distance.

    Args:
        cutoff: length from which a neighbor counts 0.
        inner: length up to which it counts 1; default 0.8 cutoff.
        reduce: "mean" or "sum" over the group, or "none": one value an atom.
        types: number of atom types of the runs it is exported for; all count alike.

    Raises:
        InvalidArgument: naming the argument.
    """

    def __init__(
        self,
        cutoff: float,
        inner: float | None = None,
        reduce: Reduce = "mean",
        types: int = 1,
    ) -> None:
        self._network = NeighborCount(inner_of(inner, cutoff), cutoff)
        super().__init__(self._network.cutoff, reduce, types)

    def network(self) -> torch.nn.Module:
        return self._network

    def native(self) -> PairTable:
        first = max(self._network.inner, 1e-3 * self.cutoff)
        width = self.cutoff - self._network.inner
        t = np.clip((np.linspace(first, self.cutoff, _KNOTS) - self._network.inner) / width, 0, 1)
        values = 1 - t**3 * (10 - 15 * t + 6 * t * t)
        slopes = -30 * t**2 * (1 - t) ** 2 / width
        pairs = self.types * (self.types + 1) // 2
        return PairTable(
            first, self.cutoff, np.tile(values, (pairs, 1)), np.tile(slopes, (pairs, 1))
        )
