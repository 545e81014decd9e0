"""Nets and graph networks as functions from a state to the one a step later."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from gns import GraphNetwork
from mlcore.sagesnet import AtomState, SagesNet
from mlcore.sagesnet.carbon import Pull
from torch import Tensor


class Learned:
    """Steps of a net; with ``forces`` where its cells know them.

    Args:
        net: trained.
        pull: whose thermostat acts in every step, where the cells know one; None: none acts.
        seed: of the thermostat.
    """

    def __init__(self, net: SagesNet[AtomState], pull: Pull | None = None, seed: int = 1) -> None:
        self.net = net
        cells: Any = net.cells
        if getattr(cells, "kicks", 0):
            self.forces = self._forces
        if hasattr(cells, "thermostat"):
            cells.thermostat = None if pull is None else _thermostat(pull, seed)

    def __call__(self, state: AtomState) -> AtomState:
        with torch.no_grad():
            return self.net.step(state)

    def _forces(self, state: AtomState) -> Tensor:
        cells: Any = self.net.cells
        told: Tensor = cells.forces(state).detach()
        return told


@dataclass
class Graph:
    """Steps of a graph network."""

    model: GraphNetwork

    def __call__(self, state: AtomState) -> AtomState:
        return self.model.step(state)


def _thermostat(pull: Pull, seed: int) -> Any:
    from mlcore.sagesnet.atoms.thermostat import Thermostat

    return Thermostat(pull.temperature, 1e3 * pull.damping, seed)
