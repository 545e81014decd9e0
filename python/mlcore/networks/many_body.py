"""Energies of atoms that depend on how their neighbors stand to each other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from mlcore.errors import InvalidArgument
from mlcore.networks.layers import quieten, stack
from mlcore.networks.pair import PairEnergy, check_reach
from mlcore.networks.radial import length, switch

__all__ = ["ManyBodyEnergy", "NeighborMoments"]


class NeighborMoments(torch.nn.Module):
    """Invariants of the neighbors of every atom: nothing changes when space is turned, shifted or
    mirrored, or when equal atoms are exchanged.

    With c_k(r, type) learned radial functions that vanish at the cutoff and u the directions to the
    neighbors, the moments are a = sum c, b = sum c u, and T = sum c (u u^T - 1/3); the invariants
    of each channel are a, b.b, tr T^2, b.T.b and tr T^3: two-, three- and four-body terms. Moment
    tensors: Shapeev, Multiscale Model. Simul. 14, 1153 (2016).

    Args:
        cutoff: of the neighbors.
        types: number of atom types.
        channels: radial functions learned.
        centres: Gaussians a radial function is made of, evenly from an inner distance to the cutoff.
        smooth: part of the cutoff over which they are switched off.
        seed: of the weights.
    """

    def __init__(
        self, cutoff: float, types: int, channels: int, centres: int, smooth: float, seed: int
    ) -> None:
        super().__init__()
        check_reach(cutoff, types, smooth, centres=centres)
        if not isinstance(channels, int) or isinstance(channels, bool) or channels < 1:
            raise InvalidArgument(f"channels must be a whole number of at least 1: {channels!r}")
        self.cutoff = float(cutoff)
        self.types = types
        self.smooth = smooth
        self.channels = channels
        self.centres: Tensor
        self.neighbors: Tensor
        self.register_buffer("centres", torch.linspace(0.0, self.cutoff, centres))
        self.register_buffer("neighbors", torch.ones(()))
        generator = torch.Generator().manual_seed(seed)
        start = torch.randn(types, centres, channels, generator=generator) / centres**0.5
        self.mixing = torch.nn.Parameter(start)

    @property
    def size(self) -> int:
        """Number of invariants of an atom."""
        return 5 * self.channels

    def begin_at(self, inner: float) -> None:
        """Set the Gaussians evenly between the closest neighbors and the cutoff."""
        with torch.no_grad():
            self.centres.copy_(torch.linspace(inner, self.cutoff, len(self.centres)))

    def forward(self, D: Tensor, i: Tensor, j: Tensor, types: Tensor) -> Tensor:
        r = length(D)
        spacing = self.centres[1] - self.centres[0]
        gauss = torch.exp(-(((r[:, None] - self.centres) / spacing) ** 2))
        gauss = gauss * switch(r, self.cutoff, self.smooth * self.cutoff)[:, None]
        weights = self.radial(gauss, torch.index_select(types, 0, j)) / torch.sqrt(self.neighbors)
        u = D / r[:, None]
        x, y, z = u[:, 0], u[:, 1], u[:, 2]
        third = 1.0 / 3.0
        parts = [torch.ones_like(x), x, y, z]
        parts += [x * x - third, y * y - third, z * z - third, x * y, x * z, y * z]
        rows = (weights[:, None, :] * torch.stack(parts, 1)[:, :, None]).flatten(1)
        # repeated, not expanded: compiled index_add writes wrong sums into rows that share memory
        nothing = torch.zeros_like(types, dtype=D.dtype)[:, None].repeat(1, 10 * self.channels)
        moments = nothing.index_add(0, i, rows)
        return self.invariants(moments.reshape(-1, 10, self.channels))

    def radial(self, gauss: Tensor, kinds: Tensor) -> Tensor:
        """(E, channels) learned radial functions."""
        if self.types == 1:
            return gauss @ self.mixing[0]
        each = torch.einsum("ec,tck->etk", gauss, self.mixing)
        chosen = (kinds[:, None] == torch.arange(self.types, device=kinds.device)).to(gauss.dtype)
        return (each * chosen[:, :, None]).sum(1)

    @staticmethod
    def invariants(moments: Tensor) -> Tensor:
        """(N, 5 channels) from moments (N, 10, channels)."""
        a, bx, by, bz, xx, yy, zz, xy, xz, yz = moments.unbind(1)
        tx, ty, tz = (
            xx * bx + xy * by + xz * bz,
            xy * bx + yy * by + yz * bz,
            xz * bx + yz * by + zz * bz,
        )
        square = xx * xx + yy * yy + zz * zz + 2 * (xy * xy + xz * xz + yz * yz)
        # T is traceless, so tr T^3 = 3 det T
        det = xx * (yy * zz - yz * yz) - xy * (xy * zz - yz * xz) + xz * (xy * yz - yy * xz)
        vector = bx * bx + by * by + bz * bz
        return torch.cat([a, vector, square, bx * tx + by * ty + bz * tz, 3 * det], 1)


class ManyBodyEnergy(torch.nn.Module):
    """Energy of an atom: half its pair energies plus a network of its neighbors' invariants.

    forward(D (E,3), i (E,), j (E,), types (N,) from 0) -> (N,) energies; an atom without neighbors
    has energy 0.

    Args:
        cutoff, types, intervals, smooth: of the pair energies; see PairEnergy.
        channels, centres: of the invariants; see NeighborMoments.
        hidden, activation: layers between the invariants and the energy.
        seed: of the weights.

    Attributes:
        in_shift, in_scale: mean and spread of the invariants, taken out before the layers.
    """

    def __init__(
        self,
        cutoff: float,
        types: int = 1,
        intervals: int = 16,
        channels: int = 8,
        centres: int = 8,
        hidden: Sequence[int] = (32, 32),
        activation: str = "silu",
        smooth: float = 0.8,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.pair = PairEnergy(cutoff, types, intervals, smooth, seed)
        self.moments = NeighborMoments(cutoff, types, channels, centres, smooth, seed)
        self.hidden = list(hidden)
        self.activation = activation
        self.layers = stack((self.moments.size + types, *hidden, 1), activation, seed)
        quieten(self.layers)
        self.scale: Tensor
        self.in_shift: Tensor
        self.in_scale: Tensor
        self.register_buffer("scale", torch.ones(()))
        self.register_buffer("in_shift", torch.zeros(self.moments.size))
        self.register_buffer("in_scale", torch.ones(self.moments.size))

    def normalise(self, invariants: Tensor) -> None:
        """Take shift and scale from those of many atoms (m, 5 channels).

        Without it the layers hardly see what differs between atoms: it is small beside the mean.
        """
        spread = invariants.std(0, correction=0)
        least = 1e-4 * float(spread.max()) or 1.0
        with torch.no_grad():
            self.in_shift.copy_(invariants.mean(0))
            self.in_scale.copy_(spread.clamp(min=least))

    @property
    def cutoff(self) -> float:
        """Where neighbors end."""
        return self.pair.cutoff

    @property
    def arguments(self) -> dict[str, Any]:
        """What makes an equal, untrained network."""
        return {
            "cutoff": self.pair.cutoff,
            "types": self.pair.types,
            "intervals": self.pair.intervals,
            "channels": self.moments.channels,
            "centres": len(self.moments.centres),
            "hidden": self.hidden,
            "activation": self.activation,
            "smooth": self.pair.smooth,
        }

    def forward(self, D: Tensor, i: Tensor, j: Tensor, types: Tensor) -> Tensor:
        around = self.moments(D, i, j, types)
        kinds = torch.arange(self.pair.types, device=types.device)
        own = (types[:, None] == kinds).to(D.dtype)
        inside = torch.cat([(around - self.in_shift) / self.in_scale, own], 1)
        nothing = (torch.zeros_like(around) - self.in_shift) / self.in_scale
        alone = torch.cat([nothing, own], 1)
        rest = (self.layers(inside) - self.layers(alone))[:, 0]
        found: Tensor = self.pair(D, i, j, types) + self.scale * rest
        return found
