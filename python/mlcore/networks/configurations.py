"""Functions of whole configurations, right across periodic boundaries."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from mlcore.errors import InvalidArgument

__all__ = ["Gyration", "Projection", "nearest_image", "unwrapped"]


def _inverse(m: Tensor) -> Tensor:
    columns = torch.stack(
        [
            torch.linalg.cross(m[1], m[2]),
            torch.linalg.cross(m[2], m[0]),
            torch.linalg.cross(m[0], m[1]),
        ],
        1,
    )
    return columns / (m[0] * columns[:, 0]).sum()


def nearest_image(d: Tensor, cell: Tensor) -> Tensor:
    """Displacements (n, 3), each moved by whole cell vectors to within half of them.

    `cell` is (3, 3), one lattice vector per row; a row of zeros does not repeat. The result is the
    shortest image for displacements below half the smallest width of the cell.
    """
    gram = cell @ cell.T
    open_rows = (torch.diagonal(gram) == 0).to(cell.dtype)
    fractions = (d @ cell.T) @ _inverse(gram + torch.diag(open_rows))
    return d - torch.round(fractions) @ cell


def unwrapped(x: Tensor, cell: Tensor) -> Tensor:
    """Positions (n, 3) of a chain in the order of its atoms, made whole across boundaries.

    Each atom is put at the nearest image of the one before it; the first stays where it is.
    """
    steps = nearest_image(x[1:] - x[:-1], cell)
    return torch.cat([x[:1], x[:1] + torch.cumsum(steps, 0)], 0)


class Gyration(torch.nn.Module):
    """forward(x (n,3), cell (3,3)) -> (1,) radius of gyration of a chain, equal weights."""

    @property
    def arguments(self) -> dict[str, Any]:
        """What makes an equal network."""
        return {}

    def forward(self, x: Tensor, cell: Tensor) -> Tensor:
        whole = unwrapped(x, cell)
        away = whole - whole.mean(0)
        return torch.sqrt((away * away).sum(1).mean()).reshape(1)


class Projection(torch.nn.Module):
    """forward(x (n,3), cell (3,3)) -> (size, 3): weights (size, n) times the unwrapped positions."""

    def __init__(self, size: int, particles: int) -> None:
        super().__init__()
        for name, value in (("size", size), ("particles", particles)):
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise InvalidArgument(f"{name} must be a whole number of at least 1, not {value!r}")
        self.size, self.particles = size, particles
        self.weights: Tensor
        self.register_buffer("weights", torch.zeros(size, particles, dtype=torch.float64))

    @property
    def arguments(self) -> dict[str, Any]:
        """What makes an equal network with weights 0."""
        return {"size": self.size, "particles": self.particles}

    def forward(self, x: Tensor, cell: Tensor) -> Tensor:
        return self.weights @ unwrapped(x, cell)
