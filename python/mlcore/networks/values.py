"""Values learned from frames: of atoms from their neighbors, of whole configurations, and the coarse
coordinates that an autoencoder finds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mlcore.errors import InvalidArgument
from mlcore.networks.configurations import unwrapped
from mlcore.networks.layers import quieten, stack
from mlcore.networks.many_body import NeighborMoments
from mlcore.networks.pair import check_reach
from mlcore.networks.radial import length, switch

__all__ = ["INVARIANCES", "AutoencoderNetwork", "ConfigurationValues", "NeighborValues", "aligned"]

INVARIANCES = ("none", "translation", "rotation")
# activations a with a(s) - a(-s) = s
_CARRIES = ("silu", "relu", "softplus")


def _whole(name: str, value: Any) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise InvalidArgument(f"{name} must be a whole number of at least 1, not {value!r}")


class _Scaled(torch.nn.Module):
    """(row - shift) / scale -> linear + layers -> * out_scale + out_shift.

    The linear map is not trained: who fits the network finds it, layers learn what it leaves.
    """

    def __init__(
        self, width: int, values: int, hidden: Sequence[int], activation: str, seed: int
    ) -> None:
        super().__init__()
        self.hidden, self.activation, self.values = list(hidden), activation, values
        self.linear: Tensor
        self.register_buffer("linear", torch.zeros(values, width))
        self.layers: torch.nn.Sequential | None = None
        if self.hidden:
            self.layers = stack((width, *self.hidden, values), activation, seed)
            quieten(self.layers)
        self.shift: Tensor
        self.scale: Tensor
        self.out_shift: Tensor
        self.out_scale: Tensor
        self.register_buffer("shift", torch.zeros(width))
        self.register_buffer("scale", torch.ones(width))
        self.register_buffer("out_shift", torch.zeros(values))
        self.register_buffer("out_scale", torch.ones(values))

    def mapped(self, rows: Tensor) -> Tensor:
        """(m, values) of rows (m, width)."""
        u = (rows - self.shift) / self.scale
        y = u @ self.linear.T
        if self.layers is not None:
            y = y + self.layers(u)
        found: Tensor = y * self.out_scale + self.out_shift
        return found


class NeighborValues(_Scaled):
    """Values of an atom from its neighbors: a sum over them of functions of the distance, and layers
    on invariants of them (see NeighborMoments). The same when space is moved, turned or mirrored, or
    atoms of a type change places; two derivatives are continuous where a neighbor passes the cutoff.

    forward(D (E,3), i (E,), j (E,), types (N,) from 0) -> (N, values).

    Args:
        cutoff, types, channels, centres, smooth: of the invariants.
        values: numbers an atom.
        intervals: Gaussians that the functions of the distance are made of, for each type of neighbor.
        hidden, activation: of the layers; () leaves the sum over neighbors alone.
        seed: of the weights.
    """

    def __init__(
        self,
        cutoff: float,
        types: int = 1,
        values: int = 1,
        intervals: int = 24,
        channels: int = 8,
        centres: int = 10,
        hidden: Sequence[int] = (32, 32),
        activation: str = "silu",
        smooth: float = 0.4,
        seed: int = 0,
    ) -> None:
        for name, value in (("values", values), ("channels", channels), ("types", types)):
            _whole(name, value)
        check_reach(cutoff, types, smooth, intervals=intervals)
        width = types * intervals + types + (5 * channels if hidden else 0)
        super().__init__(width, values, hidden, activation, seed)
        self.cutoff, self.types, self.smooth = float(cutoff), types, float(smooth)
        self.intervals, self.channels, self.centres = intervals, channels, centres
        self.moments: NeighborMoments | None = None
        if self.hidden:
            self.moments = NeighborMoments(self.cutoff, types, channels, centres, smooth, seed)
        self.places: Tensor
        self.register_buffer("places", torch.linspace(0.0, self.cutoff, intervals))

    @property
    def arguments(self) -> dict[str, Any]:
        """What makes an equal, untrained network."""
        names = ("cutoff", "types", "values", "intervals", "channels", "centres")
        return {name: getattr(self, name) for name in (*names, "hidden", "activation", "smooth")}

    @property
    def fixed(self) -> int:
        """How many numbers of a row no weight changes: sums of Gaussians, and the type."""
        return self.types * self.intervals + self.types

    def summands(self, r: Tensor) -> Tensor:
        """(E, intervals) Gaussians of the distance that fade at the cutoff."""
        spacing = self.cutoff / (self.intervals - 1)
        gauss = torch.exp(-(((r[:, None] - self.places) / spacing) ** 2))
        return gauss * switch(r, self.cutoff, self.smooth * self.cutoff)[:, None]

    def rows(self, D: Tensor, i: Tensor, j: Tensor, types: Tensor) -> Tensor:
        """(N, width): sums of Gaussians over neighbors of each type, the own type one-hot,
        invariants."""
        kinds = torch.arange(self.types, device=types.device)
        theirs = torch.index_select(types, 0, j)[:, None] == kinds
        each = self.summands(length(D))[:, None, :] * theirs.to(D.dtype)[:, :, None]
        # repeated, not expanded: compiled index_add writes wrong sums into rows that share memory
        nothing = torch.zeros_like(types, dtype=D.dtype)[:, None].repeat(
            1, self.types * self.intervals
        )
        parts = [nothing.index_add(0, i, each.flatten(1)), (types[:, None] == kinds).to(D.dtype)]
        if self.moments is not None:
            parts.append(self.moments(D, i, j, types))
        return torch.cat(parts, 1)

    def forward(self, D: Tensor, i: Tensor, j: Tensor, types: Tensor) -> Tensor:
        return self.mapped(self.rows(D, i, j, types))

    def summand(self, r: Tensor) -> Tensor | None:
        """s(r) (E,) where the value of an atom is the sum of s over its neighbors, whatever the types;
        None where it is not."""
        if self.hidden or self.values != 1 or self.types != 1:
            return None
        weights = (self.linear / self.scale)[0] * self.out_scale
        constant = self.out_shift[0] - weights @ self.shift + weights[-1]
        if abs(float(constant)) > 1e-12 * float(self.out_scale[0]):
            return None
        return self.summands(r) @ weights[:-1]


def aligned(x: Tensor, reference: Tensor) -> Tensor:
    """Positions (.., n, 3) about their centroid, turned (never mirrored) onto a reference (n, 3) with
    least squared distance. Kabsch, Acta Cryst. A 32, 922 (1976).

    Differentiable where the best rotation is unique.
    """
    u, _, v = torch.linalg.svd(x.transpose(-1, -2) @ reference)
    sign = torch.sign(torch.linalg.det(u @ v))
    flip = torch.stack([torch.ones_like(sign), torch.ones_like(sign), sign], -1)
    turned: Tensor = x @ ((u * flip[..., None, :]) @ v)
    return turned


class ConfigurationValues(_Scaled):
    """Values of all positions of a group, in the order of its atoms.

    forward(x (n,3)) -> (values,) without invariance: positions as they are. Else forward(x (n,3),
    cell (3,3)): the group is made whole as a chain (each atom at the nearest image of the one
    before) and its centroid removed; for "rotation" it is also turned onto `reference`.

    Args:
        particles: n.
        values: how many numbers.
        invariance: "none", "translation" or "rotation", which includes translation.
        hidden, activation: layers beside a linear map; () leaves the map alone.
        seed: of the weights.
    """

    def __init__(
        self,
        particles: int,
        values: int = 1,
        invariance: str = "rotation",
        hidden: Sequence[int] = (64, 64),
        activation: str = "silu",
        seed: int = 0,
    ) -> None:
        for name, value in (("particles", particles), ("values", values)):
            _whole(name, value)
        if invariance not in INVARIANCES:
            told = ", ".join(INVARIANCES)
            raise InvalidArgument(f"invariance must be one of {told}, not {invariance!r}")
        super().__init__(3 * particles, values, hidden, activation, seed)
        self.particles, self.invariance = particles, invariance
        self.reference: Tensor
        self.register_buffer("reference", torch.zeros(particles, 3))

    @property
    def arguments(self) -> dict[str, Any]:
        """What makes an equal, untrained network."""
        return {
            "particles": self.particles,
            "values": self.values,
            "invariance": self.invariance,
            "hidden": self.hidden,
            "activation": self.activation,
        }

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names of the inputs of forward."""
        return ("x",) if self.invariance == "none" else ("x", "cell")

    def prepared(self, x: Tensor) -> Tensor:
        """Whole configurations (.., n, 3) without what the values do not depend on."""
        if self.invariance == "none":
            return x
        away = x - x.mean(-2, keepdim=True)
        return away if self.invariance == "translation" else aligned(away, self.reference)

    def refer_to(self, x: Tensor) -> None:
        """Take the mean shape of whole configurations (m, n, 3) as the reference."""
        away = x - x.mean(-2, keepdim=True)
        mean = away[0]
        for _ in range(10 if self.invariance == "rotation" else 0):
            mean = aligned(away, mean).mean(0)
        self.reference.copy_(mean)

    def forward(self, *given: Tensor) -> Tensor:
        x = given[0] if self.invariance == "none" else unwrapped(*given)
        return self.mapped(self.prepared(x).reshape(1, -1))[0]

    def native(self) -> dict[str, Any] | None:
        """Weights as the core's engine takes them, where its rows are the positions as they are.

        The linear map goes through the hidden layers in two units a value, s and -s, of which
        a(s) - a(-s) = s comes out again.
        """
        if self.invariance != "none" or (self.hidden and self.activation not in _CARRIES):
            return None
        linear = _plain(self.linear)
        weights, biases = [linear], [np.zeros(self.values)]
        if self.layers is not None:
            own = [m for m in self.layers if isinstance(m, torch.nn.Linear)]
            one, nothing = np.eye(self.values), np.zeros(2 * self.values)
            weights = [np.concatenate([_plain(own[0].weight), linear, -linear])]
            for m in own[1:-1]:
                weights.append(_blocks(_plain(m.weight), np.block([[one, -one], [-one, one]])))
            weights.append(np.concatenate([_plain(own[-1].weight), one, -one], 1))
            biases = [np.concatenate([_plain(m.bias), nothing]) for m in own[:-1]]
            biases.append(_plain(own[-1].bias))
        names = ("in_shift", "in_scale", "out_scale", "out_shift")
        held = (self.shift, self.scale, self.out_scale, self.out_shift)
        return {
            "weights": weights,
            "biases": biases,
            "activation": self.activation,
            **{name: _plain(value) for name, value in zip(names, held, strict=True)},
        }


def _plain(tensor: Tensor) -> NDArray[np.float64]:
    return np.asarray(tensor.detach().double().cpu().numpy())


def _blocks(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    upper = np.concatenate([a, np.zeros((len(a), b.shape[1]))], 1)
    lower = np.concatenate([np.zeros((len(b), a.shape[1])), b], 1)
    return np.concatenate([upper, lower])


class AutoencoderNetwork(torch.nn.Module):
    """Coarse coordinates of configurations and the way back; forward is that of the encoder.

    Args:
        particles, values, invariance, hidden, activation, seed: of the encoder, see
            ConfigurationValues; the decoder has the same layers in reverse.
    """

    def __init__(
        self,
        particles: int,
        values: int = 1,
        invariance: str = "rotation",
        hidden: Sequence[int] = (64, 64),
        activation: str = "silu",
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.encoder = ConfigurationValues(particles, values, invariance, hidden, activation, seed)
        back = list(hidden)[::-1]
        self.decoder = _Scaled(values, 3 * particles, back, activation, seed + 1)

    @property
    def arguments(self) -> dict[str, Any]:
        """What makes an equal, untrained network."""
        return self.encoder.arguments

    def encode(self, rows: Tensor) -> Tensor:
        """(m, values) of prepared configurations (m, 3 n)."""
        return self.encoder.mapped(rows)

    def decode(self, z: Tensor) -> Tensor:
        """(m, 3 n) of coarse coordinates (m, values)."""
        return self.decoder.mapped(z)

    def forward(self, *given: Tensor) -> Tensor:
        found: Tensor = self.encoder(*given)
        return found
