"""Perceptrons on rows of numbers: one row for each atom, or one for a whole configuration."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from mlcore.errors import InvalidArgument
from mlcore.networks.layers import stack

__all__ = [
    "AtomRows",
    "ConfigurationRows",
    "Rows",
    "atom_rows",
    "configuration_row",
    "row_width",
]

GIVES = ("energy", "forces", "step", "values")
_WIDTHS = {"x": 3, "v": 3, "f": 3, "time": 1, "cell": 9}
_OF_ATOMS = ("x", "v", "f", "types")


class Rows(torch.nn.Module):
    """(row - in_shift) / in_scale -> layers -> * out_scale + out_shift.

    Args:
        inputs: names of the inputs of forward, in the order of bundles.
        width: numbers in a row.
        outputs: numbers in a row of the result.
        gives: "energy", "forces", "step" or "values".
        types: number of atom types; types are one-hot in a row.
        hidden, activation, seed: of the layers.
    """

    def __init__(
        self,
        inputs: Sequence[str],
        width: int,
        outputs: int,
        gives: str,
        types: int,
        hidden: Sequence[int],
        activation: str,
        seed: int,
    ) -> None:
        super().__init__()
        if gives not in GIVES:
            raise InvalidArgument(f"gives must be one of {', '.join(GIVES)}, not {gives!r}")
        self.inputs = tuple(inputs)
        self.gives = gives
        self.types = types
        self.hidden = list(hidden)
        self.activation = activation
        self.layers = stack((width, *hidden, outputs), activation, seed)
        self.in_shift: torch.Tensor
        self.in_scale: torch.Tensor
        self.out_scale: torch.Tensor
        self.out_shift: torch.Tensor
        for name, size, value in (
            ("in_shift", width, 0.0),
            ("in_scale", width, 1.0),
            ("out_scale", outputs, 1.0),
            ("out_shift", outputs, 0.0),
        ):
            self.register_buffer(name, torch.full((size,), value))

    def normalise(
        self, rows: NDArray[np.float64], outputs: NDArray[np.float64] | None = None
    ) -> None:
        """Take shifts and scales from samples (m, width) and (m, outputs); constants keep scale 1."""
        for name, values in (("in", rows), ("out", outputs)):
            if values is None:
                continue
            spread = np.asarray(values).std(0)
            size = np.abs(values).max(0, initial=0.0)
            spread[spread <= 1e-12 * size] = 1.0
            for part, array in (("shift", np.asarray(values).mean(0)), ("scale", spread)):
                getattr(self, f"{name}_{part}").copy_(torch.from_numpy(np.asarray(array)))

    def apply_layers(self, rows: torch.Tensor) -> torch.Tensor:
        """Rows in, rows out."""
        inside = (rows - self.in_shift) / self.in_scale
        found: torch.Tensor = self.layers(inside) * self.out_scale + self.out_shift
        return found

    def native(self) -> dict[str, Any]:
        """Weights as the core's engine takes them; see `mlcore.export.native.Perceptron`."""
        linear = [m for m in self.layers if isinstance(m, torch.nn.Linear)]

        def plain(tensor: Any) -> NDArray[np.float64]:
            return np.asarray(tensor.detach().double().cpu().numpy())

        return {
            "weights": [plain(m.weight) for m in linear],
            "biases": [plain(m.bias) for m in linear],
            "activation": self.activation,
            **{
                n: plain(getattr(self, n))
                for n in ("in_shift", "in_scale", "out_scale", "out_shift")
            },
        }


def _one_hot(types: torch.Tensor, count: int, dtype: torch.dtype) -> torch.Tensor:
    return (types[:, None] == torch.arange(count, device=types.device)).to(dtype)


def row_width(inputs: Sequence[str], types: int, atoms: int = 1) -> int:
    """Numbers in a row of so many atoms."""
    own = sum(types if name == "types" else _WIDTHS[name] for name in inputs if name in _OF_ATOMS)
    return atoms * own + sum(_WIDTHS[name] for name in inputs if name not in _OF_ATOMS)


def atom_rows(
    inputs: Sequence[str], types: int, dtype: torch.dtype, given: Sequence[torch.Tensor]
) -> torch.Tensor:
    """(n, width) rows of the inputs as bundles give them, one of each atom."""
    named = dict(zip(inputs, given, strict=True))
    first = next((v for k, v in named.items() if k not in ("time", "cell")), None)
    if first is None:
        raise InvalidArgument("inputs must name at least one of x, v, f, types")
    parts = []
    for name, value in named.items():
        if name == "types":
            parts.append(_one_hot(value, types, dtype))
        elif name in ("time", "cell"):
            flat = value.to(dtype).reshape(1, -1)
            parts.append(flat.expand(first.shape[0], flat.shape[1]))
        else:
            parts.append(value)
    return torch.cat(parts, 1)


def configuration_row(
    inputs: Sequence[str], types: int, dtype: torch.dtype, given: Sequence[torch.Tensor]
) -> torch.Tensor:
    """(1, width) row of the inputs as bundles give them, one of the whole configuration."""
    parts = []
    for name, value in zip(inputs, given, strict=True):
        wide = _one_hot(value, types, dtype) if name == "types" else value.to(dtype)
        parts.append(wide.reshape(-1))
    return torch.cat(parts)[None]


class AtomRows(Rows):
    """Every atom on its own: its x, v, f, type and the time, as far as `inputs` names them.

    forward(*inputs): x, v, f (n, 3), types (n,) from 0, time (), cell (3, 3). Gives energy (n,),
    forces (n, 3), step: dx (n, 3) and v (n, 3), or values (n, outputs).

    Args:
        inputs: ordered subset of x, v, f, types, time, cell.
        gives: "energy", "forces", "step" or "values".
        types: number of atom types.
        outputs: values an atom, for gives="values".
        hidden, activation: of the perceptron; without hidden layers it is linear.
        seed: of the weights.
    """

    def __init__(
        self,
        inputs: Sequence[str] = ("x",),
        gives: str = "forces",
        types: int = 1,
        outputs: int = 1,
        hidden: Sequence[int] = (32, 32),
        activation: str = "tanh",
        seed: int = 0,
    ) -> None:
        width = row_width(inputs, types)
        size = {"energy": 1, "forces": 3, "step": 6}.get(gives, outputs)
        super().__init__(inputs, width, size, gives, types, hidden, activation, seed)
        self.outputs = outputs

    @property
    def arguments(self) -> dict[str, Any]:
        """What makes an equal, untrained network."""
        return {
            "inputs": list(self.inputs),
            "gives": self.gives,
            "types": self.types,
            "outputs": self.outputs,
            "hidden": self.hidden,
            "activation": self.activation,
        }

    def rows(self, *given: torch.Tensor) -> torch.Tensor:
        """(n, width) rows of the inputs."""
        return atom_rows(self.inputs, self.types, self.in_shift.dtype, given)

    def forward(self, *given: torch.Tensor) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
        out = self.apply_layers(self.rows(*given))
        if self.gives == "energy":
            return out[:, 0]
        if self.gives == "step":
            return out[:, :3], out[:, 3:]
        return out


class ConfigurationRows(Rows):
    """The whole group as one row: x block, v block, f block, one-hot types, time, cell.

    forward(*inputs) as AtomRows. Gives energy (), forces (n, 3), step: dx (n, 3) and v (n, 3), or
    values of `shape`.

    Args:
        inputs: ordered subset of x, v, f, types, time, cell.
        particles: number of atoms.
        gives: "energy", "forces", "step" or "values".
        types: number of atom types.
        shape: of the values, for gives="values".
        hidden, activation: of the perceptron; without hidden layers it is linear.
        seed: of the weights.
    """

    def __init__(
        self,
        inputs: Sequence[str] = ("x",),
        particles: int = 1,
        gives: str = "forces",
        types: int = 1,
        shape: Sequence[int] = (1,),
        hidden: Sequence[int] = (32, 32),
        activation: str = "tanh",
        seed: int = 0,
    ) -> None:
        n = particles
        values = int(np.prod(list(shape)))
        size = {"energy": 1, "forces": 3 * n, "step": 6 * n}.get(gives, values)
        width = row_width(inputs, types, n)
        super().__init__(inputs, width, size, gives, types, hidden, activation, seed)
        self.particles = n
        self.shape = tuple(shape)

    @property
    def arguments(self) -> dict[str, Any]:
        """What makes an equal, untrained network."""
        return {
            "inputs": list(self.inputs),
            "particles": self.particles,
            "gives": self.gives,
            "types": self.types,
            "shape": list(self.shape),
            "hidden": self.hidden,
            "activation": self.activation,
        }

    def rows(self, *given: torch.Tensor) -> torch.Tensor:
        """(1, width) row of the inputs."""
        return configuration_row(self.inputs, self.types, self.in_shift.dtype, given)

    def forward(self, *given: torch.Tensor) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
        out = self.apply_layers(self.rows(*given))[0]
        if self.gives == "energy":
            return out[0]
        if self.gives == "forces":
            return out.reshape(self.particles, 3)
        if self.gives == "step":
            half = out.reshape(2, self.particles, 3)
            return half[0], half[1]
        return out.reshape(self.shape)
