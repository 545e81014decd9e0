"""The map of one step of dynamics: a linear map plus a network for what it leaves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from mlcore.errors import InvalidArgument
from mlcore.networks.configurations import unwrapped
from mlcore.networks.layers import stack

__all__ = ["OneStepNetwork"]


class OneStepNetwork(torch.nn.Module):
    """Maps states to (dx, new v), all in double precision.

    Atoms: forward(*inputs), each row of (n, 3) by itself. Configuration: all atoms at once; when
    `relative`, positions enter as a chain made whole, relative to its mean, so that the step moves
    with it, and forward takes the cell after x and v.

    Args:
        sees: "atoms" or "configuration".
        inputs: "x", "v", or both in this order.
        particles: n for "configuration", 1 for "atoms".
        hidden: widths of the network; () leaves the linear map alone.
        relative: see above; False takes the positions of a configuration as they are.
        seed: of the initial weights.
    """

    def __init__(
        self,
        sees: str,
        inputs: Sequence[str],
        particles: int = 1,
        hidden: Sequence[int] = (),
        relative: bool = True,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if sees not in ("atoms", "configuration"):
            raise InvalidArgument(f"sees must be 'atoms' or 'configuration', not {sees!r}")
        if not isinstance(inputs, Sequence) or tuple(inputs) not in (("x",), ("v",), ("x", "v")):
            raise InvalidArgument(f"inputs must be x, v, or x and v, not {inputs!r}")
        self.inputs, self.particles, self.hidden = list(inputs), particles, list(hidden)
        self.sees = sees
        self.whole = sees == "configuration"
        self.sees_x, self.sees_v = "x" in inputs, "v" in inputs
        self.relative = relative and self.whole and self.sees_x
        width = 3 * particles * len(inputs)
        outputs = 6 * particles
        self.shift: torch.Tensor
        self.scale: torch.Tensor
        self.out_shift: torch.Tensor
        self.out_scale: torch.Tensor
        self.linear: torch.Tensor
        double = torch.float64
        self.register_buffer("shift", torch.zeros(width, dtype=double))
        self.register_buffer("scale", torch.ones(width, dtype=double))
        self.register_buffer("out_shift", torch.zeros(outputs, dtype=double))
        self.register_buffer("out_scale", torch.ones(outputs, dtype=double))
        self.register_buffer("linear", torch.zeros(outputs, width, dtype=double))
        self.rest = torch.nn.Sequential()
        if hidden:
            self.rest = stack((width, *hidden, outputs), "tanh", seed).double()
            last = self.rest[-1]
            assert isinstance(last, torch.nn.Linear)
            torch.nn.init.zeros_(last.weight)

    @property
    def arguments(self) -> dict[str, Any]:
        """What makes an equal, untrained network."""
        told = {"sees": self.sees, "inputs": self.inputs, "particles": self.particles}
        return told | {"hidden": self.hidden, "relative": self.relative}

    def rows(self, x: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        """(batch, width) rows from (batch, n, 3) states."""
        if self.relative:
            x = x - x.mean(-2, keepdim=True)
        parts = [x] * self.sees_x + [v] * self.sees_v
        if self.whole:
            return torch.cat([part.flatten(-2) for part in parts], -1)
        return torch.cat(parts, -1)

    def mapped(self, rows: torch.Tensor) -> torch.Tensor:
        """(batch, 6 particles): dx, then new v."""
        u = (rows - self.shift) / self.scale
        y = u @ self.linear.T
        if self.hidden:
            y = y + self.rest(u)
        return y * self.out_scale + self.out_shift

    def forward(self, *state: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        x, v = state[0], state[1] if self.sees_x and self.sees_v else state[0]
        if self.relative:
            x = unwrapped(x, state[-1])
        y = self.mapped(self.rows(x, v))
        half = y.shape[-1] // 2
        return y[..., :half].reshape(x.shape), y[..., half:].reshape(x.shape)
