"""Energies that are sums over pairs: one smooth function of the distance for each pair of types."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from mlcore.errors import InvalidArgument
from mlcore.networks.radial import length, pair_index, splines, switch

__all__ = ["PairEnergy", "check_reach"]


def check_reach(cutoff: float, types: int, smooth: float, **counts: int) -> None:
    """Raises InvalidArgument naming what is out of range; counts, by name, must be 2 at least."""
    if not (isinstance(cutoff, (int, float)) and 0 < cutoff < float("inf")):
        raise InvalidArgument(f"cutoff must be a positive length, not {cutoff!r}")
    if not (isinstance(smooth, (int, float)) and 0 < smooth <= 1):
        raise InvalidArgument(f"smooth must be a part of the cutoff in (0, 1], not {smooth!r}")
    for name, value in (("types", types), *counts.items()):
        least = 2 if name in counts else 1
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            raise InvalidArgument(f"{name} must be a whole number of at least {least}: {value!r}")


class PairEnergy(torch.nn.Module):
    """u(r) = switch(r) * scale * spline(r), linear in its weights; E = sum of u over pairs.

    forward(D (E,3), i (E,), j (E,), types (N,) from 0) -> (N,) energies of the atoms, half of every
    pair each.

    Args:
        cutoff: where u and its first two derivatives vanish.
        types: number of atom types.
        intervals: of the splines, between `inner` and the cutoff.
        smooth: part of the cutoff over which u is switched off.
        seed: of the weights.

    Attributes:
        inner: (P,) for every pair of types: below this distance u goes on as a straight line.
    """

    def __init__(
        self,
        cutoff: float,
        types: int = 1,
        intervals: int = 32,
        smooth: float = 0.2,
        seed: int = 0,
    ) -> None:
        super().__init__()
        check_reach(cutoff, types, smooth, intervals=intervals)
        self.cutoff = float(cutoff)
        self.types = types
        self.intervals = intervals
        self.smooth = float(smooth)
        pairs = types * (types + 1) // 2
        self.spline = torch.nn.Linear(intervals + 3, pairs, bias=False)
        torch.nn.init.uniform_(
            self.spline.weight, -0.1, 0.1, generator=torch.Generator().manual_seed(seed)
        )
        self.inner: Tensor
        self.scale: Tensor
        self.register_buffer("inner", torch.full((pairs,), 0.25 * self.cutoff))
        self.register_buffer("scale", torch.ones(()))

    @property
    def arguments(self) -> dict[str, Any]:
        """What makes an equal, untrained network."""
        return {
            "cutoff": self.cutoff,
            "types": self.types,
            "intervals": self.intervals,
            "smooth": self.smooth,
        }

    def features(self, r: Tensor, pair: Tensor) -> Tensor:
        """(E, intervals + 3) splines at distances r of pairs of types."""
        inner = torch.index_select(self.inner, 0, pair)
        return splines(r, inner, self.cutoff, self.intervals)

    def fade(self, r: Tensor) -> Tensor:
        """(E,) the switch."""
        return switch(r, self.cutoff, self.smooth * self.cutoff)

    def radial(self, r: Tensor, pair: Tensor) -> Tensor:
        """u (E,) at distances r of pairs of types."""
        every = self.scale * self.spline(self.features(r, pair))
        return self.fade(r) * torch.gather(every, 1, pair[:, None])[:, 0]

    def measure_in(self, scale: float) -> None:
        """Leave the spline as it is, and let a step of training mean about `scale` of energy."""
        with torch.no_grad():
            self.spline.weight.mul_(self.scale / scale)
            self.scale.fill_(scale)

    def forward(self, D: Tensor, i: Tensor, j: Tensor, types: Tensor) -> Tensor:
        a, b = torch.index_select(types, 0, i), torch.index_select(types, 0, j)
        u = self.radial(length(D), pair_index(a, b, self.types))
        return torch.zeros_like(types, dtype=D.dtype).index_add(0, i, 0.5 * u)
