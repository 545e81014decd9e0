"""The predictor: cells send, neighbours sum, every cell rewrites itself. One class on every level.

m_j = sum_i W_(j - i) g(h_i),  h_j' = h_j + phi(h_j, m_j, env_j): a scatter from each cell to those
around it, aware of where they lie, and an update that is not linear in what arrives.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from mlcore.errors import InvalidArgument
from mlcore.sagesnet.lattice import Lattice
from mlcore.sagesnet.symmetry import orbits

__all__ = ["Predictor", "Scatter"]

_ROWS = 4096  # cells updated at a time


class Scatter(nn.Module):
    """One layer: message, sum, update.

    Args:
        channels: C, length of a cell's vector.
        width: of the hidden layer of the update, and of what arrives.
        messages: length of what a cell sends; the scatter costs messages * width for each neighbour.
        kernel: 3 or 5 cells along each axis that a message reaches.
        environment: E, length of what acts on a cell from outside.
        residual: whether the update is added to the cell's vector or takes its place.
        symmetric: weights to cells that one of the 48 turns takes to each other are the same ones.
    """

    orbit: Tensor

    def __init__(
        self,
        channels: int,
        width: int,
        messages: int,
        kernel: int,
        environment: int,
        residual: bool,
        symmetric: bool = False,
    ) -> None:
        super().__init__()
        self.residual, self.symmetric = residual, symmetric
        orbit, kinds = orbits(kernel)
        self.register_buffer("orbit", orbit, persistent=False)
        taps = (kinds,) if symmetric else (kernel,) * 3
        self.message = nn.Linear(channels, messages)
        scale = 1 / math.sqrt(messages * kernel**3)
        self.weight = nn.Parameter(scale * torch.randn(messages, width, *taps))
        self.hidden = nn.Linear(channels + width + environment, width)
        self.update = nn.Linear(width, channels)
        if residual:
            nn.init.zeros_(self.update.weight)
            nn.init.zeros_(self.update.bias)

    @property
    def kernel(self) -> Tensor:
        """(messages, width, k, k, k) weights to the cells around."""
        return self.weight[..., self.orbit] if self.symmetric else self.weight

    def arrived(self, h: Tensor, lattice: Lattice) -> Tensor:
        """(..., width) what every cell is told."""
        sent = self.message(h)
        # where no gradient is wanted memory that is hot is used again
        sent = nn.functional.silu(sent, inplace=not torch.is_grad_enabled())
        return lattice.scatter(sent, self.kernel)

    def forward(self, h: Tensor, lattice: Lattice, environment: Tensor | None) -> Tensor:
        arrived = self.arrived(h, lattice)
        if not (torch.is_grad_enabled() or torch.compiler.is_compiling()):
            return self._updated(h, arrived, environment)
        parts = [h, arrived] if environment is None else [h, arrived, environment]
        change: Tensor = self.update(nn.functional.silu(self.hidden(torch.cat(parts, dim=-1))))
        return h + change if self.residual else change

    def _updated(self, h: Tensor, arrived: Tensor, environment: Tensor | None) -> Tensor:
        """`forward` without gradients, so many cells at a time that all stays in the cache."""
        parts = [h, arrived] if environment is None else [h, arrived, environment]
        flat = [part.reshape(-1, part.shape[-1]) for part in parts]
        split = torch.split(self.hidden.weight, [part.shape[-1] for part in flat], dim=1)
        result = torch.empty_like(flat[0])
        for rows in (slice(i, i + _ROWS) for i in range(0, len(result), _ROWS)):
            inner = torch.addmm(self.hidden.bias, flat[0][rows], split[0].T)
            for part, weight in zip(flat[1:], split[1:], strict=True):
                inner.addmm_(part[rows], weight.T)
            nn.functional.silu(inner, inplace=True)
            torch.addmm(self.update.bias, inner, self.update.weight.T, out=result[rows])
            if self.residual:
                result[rows] += flat[0][rows]
        return result.reshape(h.shape)


class Predictor(nn.Module):
    """Vectors of all cells one step later.

    Args:
        channels: C, length of a cell's vector, that of the result too.
        layers: how often cells exchange messages in one step; the reach is layers * (kernel // 2).
        width: see `Scatter`; None: ``channels``.
        messages: see `Scatter`; None: ``width``.
        kernel: 3 or 5.
        environment: E, numbers that act on every cell from outside; 0 for none.
        residual: see `Scatter`.
        symmetric: turning or mirroring a field of vectors of cells turns the result, exactly: the
            vectors' entries are taken as numbers that do not turn themselves. See
            `mlcore.sagesnet.symmetry` for those that do.

    Raises:
        InvalidArgument: naming what is out of range.
    """

    def __init__(
        self,
        channels: int = 32,
        layers: int = 1,
        width: int | None = None,
        messages: int | None = None,
        kernel: int = 3,
        environment: int = 0,
        residual: bool = True,
        symmetric: bool = False,
    ) -> None:
        super().__init__()
        width = channels if width is None else width
        messages = width if messages is None else messages
        for name, value, least in (
            ("channels", channels, 1),
            ("layers", layers, 1),
            ("width", width, 1),
            ("messages", messages, 1),
            ("environment", environment, 0),
        ):
            if not isinstance(value, int) or value < least:
                raise InvalidArgument(f"{name} must be a whole number from {least} on: {value!r}")
        if kernel not in (3, 5):
            raise InvalidArgument(f"kernel must be 3 or 5, got {kernel!r}")
        self.arguments = {
            "channels": channels,
            "layers": layers,
            "width": width,
            "messages": messages,
            "kernel": kernel,
            "environment": environment,
            "residual": residual,
            "symmetric": symmetric,
        }
        self.layers = nn.ModuleList(
            Scatter(channels, width, messages, kernel, environment, residual, symmetric)
            for _ in range(layers)
        )

    @property
    def reach(self) -> int:
        """How many cells away a change is felt after one step."""
        return int(self.arguments["layers"]) * (int(self.arguments["kernel"]) // 2)

    def arrived(self, h: Tensor, lattice: Lattice) -> Tensor:
        """(..., width) what every cell is told in the first exchange."""
        first = self.layers[0]
        assert isinstance(first, Scatter)
        return first.arrived(h, lattice)

    def forward(self, h: Tensor, lattice: Lattice, environment: Tensor | None = None) -> Tensor:
        """(..., C) -> (..., C).

        Args:
            h: (..., C) vectors of the lattice's cells.
            lattice: where they lie.
            environment: (E,) on all cells, or (..., E); None only where E = 0.

        Raises:
            InvalidArgument: the environment is not E numbers.
        """
        given = 0 if environment is None else environment.shape[-1]
        if given != self.arguments["environment"]:
            raise InvalidArgument(
                f"environment must be {self.arguments['environment']} numbers, got {given}"
            )
        if environment is not None:
            environment = environment.expand(*h.shape[:-1], environment.shape[-1])
        for layer in self.layers:
            h = layer(h, lattice, environment)
        return h
