"""LSTM layers on windows of frames, and the map of one step that they make."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from mlcore.errors import InvalidArgument
from mlcore.networks.configurations import nearest_image

__all__ = ["WindowNetwork", "WindowStep"]


class WindowNetwork(torch.nn.Module):
    """LSTM layers one behind the other, the last state of the last, a linear layer.

    forward(rows (B, S, inputs)) gives (B, outputs); every window begins with zeros.

    Args:
        inputs: numbers of a frame.
        outputs: numbers of a prediction.
        hidden: units of each layer.
        dropout: part of the units left out behind each layer while training.
        seed: of the initial weights: Glorot's normal distribution, zero biases but 1 where a gate
            keeps what it holds.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        hidden: Sequence[int] = (32, 32),
        dropout: float = 0.0,
        seed: int = 0,
    ) -> None:
        super().__init__()
        for name, sizes in (("inputs", [inputs]), ("outputs", [outputs]), ("hidden", hidden)):
            if not sizes or any(type(size) is not int or size < 1 for size in sizes):
                raise InvalidArgument(f"{name} must be of at least 1, not {sizes!r}")
        widths = [inputs, *hidden]
        self.layers = torch.nn.ModuleList(
            torch.nn.LSTM(width, units) for width, units in zip(widths, hidden, strict=False)
        )
        self.left_out = torch.nn.Dropout(dropout) if dropout > 0 else torch.nn.Identity()
        self.dense = torch.nn.Linear(widths[-1], outputs)
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for name, values in self.named_parameters():
                if values.dim() == 2:
                    torch.nn.init.xavier_normal_(values, generator=generator)
                else:
                    values.zero_()
                if "bias_ih" in name:
                    units = len(values) // 4
                    values[units : 2 * units] = 1.0

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        steps = rows.transpose(0, 1)
        for layer in self.layers:
            steps = self.left_out(layer(steps)[0])
        found: torch.Tensor = self.dense(steps[-1])
        return found


class WindowStep(torch.nn.Module):
    """A step of a configuration from the frames before it, which are its memory.

    forward(x (n, 3), v (n, 3), cell (3, 3), memory (1, M)) gives (dx, new v, memory). Particles of
    dim = 1 move along x. Positions are followed across boundaries. A memory of zeros stands for the
    frames that were told with the network: the first step goes on from them.

    Args:
        particles, dim: n, and 1 or 3.
        window: frames of a window, S.
        hidden: units of each layer.
    """

    def __init__(
        self, particles: int, dim: int, window: int, hidden: Sequence[int] = (32, 32)
    ) -> None:
        super().__init__()
        for name, value in (("particles", particles), ("window", window)):
            if type(value) is not int or value < 1:
                raise InvalidArgument(f"{name} must be a whole number of at least 1, not {value!r}")
        if dim not in (1, 3):
            raise InvalidArgument(f"dim must be 1 or 3, not {dim!r}")
        self.particles, self.dim, self.window, self.hidden = particles, dim, window, list(hidden)
        self.width = 2 * particles * dim
        self.network = WindowNetwork(self.width, self.width, hidden).double()
        self.low: torch.Tensor
        self.size: torch.Tensor
        self.told: torch.Tensor
        double = torch.float64
        self.register_buffer("low", torch.zeros(self.width, dtype=double))
        self.register_buffer("size", torch.ones(self.width, dtype=double))
        self.register_buffer("told", torch.zeros(1, self.memory, dtype=double))

    @property
    def arguments(self) -> dict[str, Any]:
        """What makes an equal, untrained network."""
        return {
            "particles": self.particles,
            "dim": self.dim,
            "window": self.window,
            "hidden": self.hidden,
        }

    @property
    def memory(self) -> int:
        """M: whether there is one, where the particles are, and the frames before."""
        return 1 + self.width // 2 + (self.window - 1) * self.width

    def tell(self, frames: torch.Tensor) -> None:
        """The frames (S, width) to go on from, the last of which is the present."""
        places = frames[-1, : self.width // 2]
        first = torch.ones(1, dtype=frames.dtype)
        self.told.copy_(torch.cat([first, places, frames[:-1].reshape(-1)])[None])

    def forward(
        self, x: torch.Tensor, v: torch.Tensor, cell: torch.Tensor, memory: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        half = self.width // 2
        kept = torch.where(memory[:, :1] != 0, memory, self.told)[0]
        before = torch.nn.functional.pad(
            kept[1 : 1 + half].reshape(self.particles, self.dim), (0, 3 - self.dim)
        )
        away = (x - before) * self._moves(x)
        now = (before + nearest_image(away, cell))[:, : self.dim].reshape(1, half)
        frame = torch.cat([now, v[:, : self.dim].reshape(1, half)], 1)
        frames = torch.cat([kept[1 + half :].reshape(self.window - 1, self.width), frame])
        after = self.network(((frames - self.low) / self.size)[None]) * self.size + self.low
        dx, speeds = (
            torch.nn.functional.pad(part.reshape(self.particles, self.dim), (0, 3 - self.dim))
            for part in (after[:, :half] - now, after[:, half:])
        )
        later = torch.cat([kept[:1] * 0 + 1, after[0, :half], frames[1:].reshape(-1)])
        return dx, speeds, later[None]

    def _moves(self, x: torch.Tensor) -> torch.Tensor:
        """1 for the directions that particles move in, 0 for the others."""
        return (torch.arange(3, device=x.device) < self.dim).to(x.dtype)
