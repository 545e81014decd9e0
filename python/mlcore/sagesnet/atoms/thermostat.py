"""Heat that comes and goes: friction and noise that belong together."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor

from mlcore.errors import InvalidArgument

__all__ = ["Thermostat"]

_SPEED = 8.314462618e-7
"""A^2/fs^2 u of 1 K: k_B over the atomic mass unit."""


@dataclass
class Thermostat:
    """Velocities that forget themselves, exactly as an Ornstein-Uhlenbeck process does.

    v' = c v + sqrt((1 - c^2) k_B T / m) r, c = exp(-dt / damping), r of the normal distribution.

    Args:
        temperature: K.
        damping: fs.
        seed: of r.

    Raises:
        InvalidArgument: naming what is out of range.
    """

    temperature: float
    damping: float
    seed: int = 0
    _noise: torch.Generator = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not 0 <= self.temperature < math.inf:
            raise InvalidArgument(f"temperature must be from 0 K on, got {self.temperature!r}")
        if not 0 < self.damping < math.inf:
            raise InvalidArgument(f"damping must be a time above 0 fs, got {self.damping!r}")
        self._noise = torch.Generator().manual_seed(self.seed)

    def __call__(self, velocity: Tensor, masses: Tensor, dt: float) -> Tensor:
        """(n, 3) A/fs of atoms with masses (n,) u, ``dt`` fs later."""
        kept = math.exp(-dt / self.damping)
        speed = torch.sqrt((1 - kept * kept) * _SPEED * self.temperature / masses)[:, None]
        drawn = torch.randn(velocity.shape, generator=self._noise, dtype=velocity.dtype)
        return kept * velocity + speed.to(velocity.dtype) * drawn.to(velocity.device)
