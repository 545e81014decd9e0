"""The map of one step of dynamics with a memory: LSTM layers and a linear head."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from mlcore.errors import InvalidArgument
from mlcore.networks.configurations import unwrapped
from mlcore.networks.rows import atom_rows, configuration_row, row_width

__all__ = ["RecurrentNetwork"]

_INPUTS = ("x", "v", "f", "types", "time", "cell")


class RecurrentNetwork(torch.nn.Module):
    """Maps states and what it keeps of earlier ones to (dx, new v, what it keeps), in double
    precision.

    forward(*inputs, memory): inputs as a bundle gives them, memory (n, M) of atoms or (1, M) of a
    configuration, M = 2 layers hidden: h of all layers, then c of all layers. When `relative`,
    positions enter as a chain made whole, relative to its mean, and the cell serves that alone.

    Args:
        sees: "atoms" (every atom a row) or "configuration" (all of them one row).
        inputs: ordered subset of x, v, f, types, time, cell.
        particles: n for "configuration", 1 for "atoms".
        types: number of atom types.
        layers, hidden: of the LSTM.
        relative: of a configuration; needs the inputs x and cell.
        seed: of the initial weights.
    """

    def __init__(
        self,
        sees: str,
        inputs: Sequence[str],
        particles: int = 1,
        types: int = 1,
        layers: int = 1,
        hidden: int = 32,
        relative: bool = False,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if sees not in ("atoms", "configuration"):
            raise InvalidArgument(f"sees must be 'atoms' or 'configuration', not {sees!r}")
        self.inputs = [name for name in _INPUTS if name in inputs]
        if self.inputs != list(inputs) or not set(inputs) & {"x", "v", "f"}:
            raise InvalidArgument(
                f"inputs must be some of {', '.join(_INPUTS)} in this order, with x, v or f among "
                f"them, not {tuple(inputs)!r}"
            )
        if relative and (sees != "configuration" or not {"x", "cell"} <= set(inputs)):
            raise InvalidArgument("relative needs a configuration with the inputs x and cell")
        for name, value in (("particles", particles), ("types", types), ("layers", layers),
                            ("hidden", hidden)):  # fmt: skip
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise InvalidArgument(f"{name} must be a whole number of at least 1, not {value!r}")
        self.sees, self.particles, self.types = sees, particles, types
        self.relative = relative
        self.seen = [name for name in self.inputs if not (relative and name == "cell")]
        width, outputs = row_width(self.seen, types, particles), 6 * particles
        double = torch.float64
        self.lstm = torch.nn.LSTM(width, hidden, layers, batch_first=True, dtype=double)
        self.head = torch.nn.Linear(hidden, outputs, dtype=double)
        self._start(seed)
        self.in_shift: torch.Tensor
        self.in_scale: torch.Tensor
        self.out_scale: torch.Tensor
        self.out_shift: torch.Tensor
        for name, size in (("in", width), ("out", outputs)):
            self.register_buffer(f"{name}_shift", torch.zeros(size, dtype=double))
            self.register_buffer(f"{name}_scale", torch.ones(size, dtype=double))

    def _start(self, seed: int) -> None:
        """Small weights; gates that begin by keeping what they hold."""
        generator = torch.Generator().manual_seed(seed)
        hidden = self.lstm.hidden_size
        with torch.no_grad():
            for name, parameter in [*self.lstm.named_parameters(), *self.head.named_parameters()]:
                bound = (3.0 / parameter.shape[-1]) ** 0.5 if parameter.dim() == 2 else 0.0
                parameter.uniform_(-bound, bound, generator=generator)
                if name.startswith("bias_ih"):
                    parameter[hidden : 2 * hidden] = 1.0

    @property
    def arguments(self) -> dict[str, Any]:
        """What makes an equal, untrained network."""
        return {
            "sees": self.sees,
            "inputs": self.inputs,
            "particles": self.particles,
            "types": self.types,
            "layers": self.lstm.num_layers,
            "hidden": self.lstm.hidden_size,
            "relative": self.relative,
        }

    @property
    def memory(self) -> int:
        """Numbers that a row keeps."""
        return 2 * self.lstm.num_layers * self.lstm.hidden_size

    def normalise(self, rows: torch.Tensor, outputs: torch.Tensor) -> None:
        """Takes shifts and scales from samples (m, width) and (m, outputs); constants keep 1."""
        for name, values in (("in", rows), ("out", outputs)):
            spread = values.std(0, correction=0)
            size = values.abs().amax(0)
            getattr(self, f"{name}_shift").copy_(values.mean(0))
            getattr(self, f"{name}_scale").copy_(torch.where(spread > 1e-12 * size, spread, 1.0))

    def stretch(self, rows: torch.Tensor) -> torch.Tensor:
        """Outputs (batch, frames, outputs) along stretches of rows, each begun without memory."""
        found, _ = self.lstm((rows - self.in_shift) / self.in_scale)
        return self._head(found)

    def _head(self, found: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.head(found) * self.out_scale + self.out_shift
        return out

    def advance(
        self, rows: torch.Tensor, memory: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Outputs (m, outputs) of rows (m, width), and the memory to go on from."""
        shape = (-1, 2, self.lstm.num_layers, self.lstm.hidden_size)
        kept = memory.reshape(shape).permute(1, 2, 0, 3).contiguous()
        inside = ((rows - self.in_shift) / self.in_scale)[:, None]
        found, after = self.lstm(inside, (kept[0], kept[1]))
        return self._head(found[:, 0]), torch.stack(after).permute(2, 0, 1, 3).flatten(1)

    def rows(self, *given: torch.Tensor) -> torch.Tensor:
        """(n, width) or (1, width) of the inputs."""
        named = dict(zip(self.inputs, given, strict=True))
        if self.relative:
            x = unwrapped(named["x"], named["cell"])
            named["x"] = x - x.mean(0)
        parts = [named[name] for name in self.seen]
        make = atom_rows if self.sees == "atoms" else configuration_row
        return make(self.seen, self.types, self.in_shift.dtype, parts)

    def forward(self, *given: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        out, memory = self.advance(self.rows(*given[:-1]), given[-1])
        if self.sees == "atoms":
            return out[:, :3], out[:, 3:], memory
        half = out.reshape(2, self.particles, 3)
        return half[0], half[1], memory

    def native(self) -> dict[str, Any]:
        """Weights as the core's engine takes them; see `mlcore.export.native.Lstm`."""

        def plain(tensor: Any) -> NDArray[np.float64]:
            return np.array(tensor.detach().double().cpu().numpy())

        def each(name: str) -> list[NDArray[np.float64]]:
            return [plain(getattr(self.lstm, f"{name}_l{k}")) for k in range(self.lstm.num_layers)]

        biases = zip(each("bias_ih"), each("bias_hh"), strict=True)
        names = ("in_shift", "in_scale", "out_scale", "out_shift")
        return {
            "w_ih": each("weight_ih"),
            "w_hh": each("weight_hh"),
            "biases": [a + b for a, b in biases],
            "head": plain(self.head.weight),
            "head_bias": plain(self.head.bias),
            **{name: plain(getattr(self, name)) for name in names},
        }
