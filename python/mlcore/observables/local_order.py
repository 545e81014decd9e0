"""Bond-orientational order of the neighbors of an atom."""

from __future__ import annotations

import torch

from mlcore.networks.surroundings import BondOrder, inner_of
from mlcore.observables.base import NeighborObservable, Reduce

__all__ = ["LocalOrder"]


class LocalOrder(NeighborObservable):
    """Steinhardt order q_l of an atom's neighbors, each weighed by a smooth switch; q_6 is 0.575 in
    fcc, 0.511 in bcc (two shells), 0.485 in hcp. Phys. Rev. B 28, 784 (1983).

    Args:
        cutoff: length from which a neighbor does not count.
        degree: l, from 1 to 12.
        inner: length up to which it counts fully; default 0.8 cutoff.
        reduce: "mean" or "sum" over the group, or "none": one value an atom.
        types: number of atom types of the runs it is exported for; all count alike.

    Raises:
        InvalidArgument: naming the argument.
    """

    def __init__(
        self,
        cutoff: float,
        degree: int = 6,
        inner: float | None = None,
        reduce: Reduce = "mean",
        types: int = 1,
    ) -> None:
        self._network = BondOrder(degree, inner_of(inner, cutoff), cutoff)
        super().__init__(self._network.cutoff, reduce, types)

    def network(self) -> torch.nn.Module:
        return self._network
