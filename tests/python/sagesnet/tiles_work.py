"""What tests of tiles run, in processes and ranks too."""

from __future__ import annotations

import torch
from mlcore.sagesnet import AutomatonCells, Level, SagesNet
from mlcore.sagesnet.lattice import Lattice


def net(environment: bool = False) -> SagesNet[torch.Tensor]:
    """Untrained, but nothing in it is 0."""
    torch.manual_seed(3)
    levels = [Level(layers=2, width=6, kernel=5), Level(layers=2, width=6, space=2, time=2)]
    made: SagesNet[torch.Tensor] = SagesNet(
        AutomatonCells(channels=4), levels, ["heat"] if environment else []
    )
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return made


def start() -> torch.Tensor:
    return torch.randint(0, 2, (2, 6, 4, 10), generator=torch.Generator().manual_seed(1))


def heat(step: int, lattice: Lattice) -> torch.Tensor:
    """Grows along x and in time."""
    x = torch.linspace(0, 1, 6).reshape(1, 6, 1, 1, 1)
    return (step * x).expand(2, 6, 4, 10, 1)


def failing(step: int, lattice: Lattice) -> torch.Tensor:
    if step == 2:
        raise ValueError("no heat is left")
    return heat(step, lattice)
