"""Size of a chain or cluster."""

from __future__ import annotations

import torch

from mlcore.networks.configurations import Gyration
from mlcore.observables.base import ConfigurationObservable

__all__ = ["RadiusOfGyration"]


class RadiusOfGyration(ConfigurationObservable):
    """sqrt(<|x - <x>|^2>) over the atoms of a group, all with the same weight.

    In periodic boxes atoms that follow each other (by id) must be closer than half the smallest
    width of the box, as in a chain: each is taken at the nearest image of the one before.
    """

    shape = (1,)

    def network(self) -> torch.nn.Module:
        return Gyration()
