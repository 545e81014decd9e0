"""Learned many-body forces."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch

from mlcore.forces.graph import Learner, NeighborLoss
from mlcore.forces.neighbor import NeighborForce
from mlcore.forces.spline_fit import fit_splines, unexplained
from mlcore.networks.layers import hidden_widths
from mlcore.networks.many_body import ManyBodyEnergy

__all__ = ["ManyBodyForce"]


class ManyBodyForce(NeighborForce):
    """Energies of atoms that depend on all their neighbors: a pair part, found first by least
    squares, and a network of invariants of the surroundings (see `mlcore.networks`), trained.

    Args:
        cutoff: beyond which atoms do not see each other, in the unit of the frames.
        types: number of atom types, or chemical symbols in the order of LAMMPS' types 1, 2, ..
        intervals: of the splines of the pair part.
        channels, centres: radial functions of the invariants and Gaussians each is made of.
        hidden, activation: layers between the invariants and the energy.
        smooth: part of the cutoff over which neighbors fade out.
        seed: of the weights, the batches and the frames held out.

    Raises:
        InvalidArgument: naming the argument.
    """

    network: ManyBodyEnergy

    def __init__(
        self,
        cutoff: float,
        types: int | str | Sequence[str] = 1,
        *,
        intervals: int = 16,
        channels: int = 8,
        centres: int = 8,
        hidden: Sequence[int] = (32, 32),
        activation: str = "silu",
        smooth: float = 0.8,
        seed: int = 0,
    ) -> None:
        options = {
            "intervals": intervals,
            "channels": channels,
            "centres": centres,
            "hidden": hidden_widths(hidden),
            "activation": activation,
            "smooth": smooth,
        }
        super().__init__(cutoff, types, seed, options)

    def _network(self) -> ManyBodyEnergy:
        return ManyBodyEnergy(self.cutoff, self.kinds.count, **self.options, seed=self.seed)

    def _start(self, learner: Learner, loss: NeighborLoss) -> None:
        network, whole = learner.network, loss.whole
        assert isinstance(network, ManyBodyEnergy)
        fit_splines(learner, network.pair, loss)
        network.moments.begin_at(float(network.pair.inner.min()))
        with torch.no_grad():
            network.moments.neighbors.fill_(max(len(whole.D) / float(whole.sizes.sum()), 1.0))
            exact = copy.deepcopy(network.moments).double()
            known = [exact(g.D, g.i, g.j, g.types) for g in loss.exact]
            network.normalise(torch.cat(known))
            network.scale.fill_(0.0)
        left = 0.1 * self.cutoff * unexplained(learner, loss)
        network.pair.measure_in(left)
        network.scale.fill_(left)
