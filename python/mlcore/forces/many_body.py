"""Learned many-body forces."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from mlcore.forces.graph import Learner, NeighborLoss
from mlcore.forces.neighbor import NeighborForce
from mlcore.forces.spline_fit import fit_splines
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
        centres: int = 10,
        hidden: Sequence[int] = (32, 32),
        activation: str = "silu",
        smooth: float = 0.4,
        seed: int = 0,
    ) -> None:
        options = {
            "intervals": intervals,
            "channels": channels,
            "centres": centres,
            "hidden": tuple(hidden),
            "activation": activation,
            "smooth": smooth,
        }
        super().__init__(cutoff, types, seed, options)

    def _network(self) -> ManyBodyEnergy:
        return ManyBodyEnergy(self.cutoff, self.kinds.count, **self.options, seed=self.seed)

    def _start(self, learner: Learner, loss: NeighborLoss) -> None:
        fit_splines(learner, self.network.pair, loss)
        with torch.no_grad():
            atoms = float(loss.whole.sizes.sum())
            self.network.moments.neighbors.fill_(max(len(loss.whole.D) / atoms, 1.0))
        self._rescale(0.1 * self.cutoff * self._left(learner, loss))

    def _left(self, learner: Learner, loss: NeighborLoss) -> float:
        """Size of the forces the pair part does not explain."""
        self.network.scale.fill_(0.0)
        errors = torch.cat([loss.errors(learner, g, create_graph=False)[1] for g in loss.graphs])
        found = float(errors.double().square().mean().sqrt()) if len(errors) else 0.0
        return max(found, 1e-3 * loss.spread.force)

    def _rescale(self, scale: float) -> None:
        """Measure all energies in what is left: a step of training then is small beside it."""
        pair = self.network.pair
        last = pair.layers[-1]
        assert isinstance(last, torch.nn.Linear)
        with torch.no_grad():
            last.weight.mul_(pair.scale / scale)
            last.bias.mul_(pair.scale / scale)
            pair.scale.fill_(scale)
            self.network.scale.fill_(scale)
