"""Stacks of linear layers, the same for the same seed, and the activations the core knows."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from typing import Any

import torch

from mlcore.errors import InvalidArgument

__all__ = ["ACTIVATIONS", "hidden_widths", "quieten", "stack"]

_MOST = 65536
ACTIVATIONS: dict[str, type[torch.nn.Module]] = {
    "tanh": torch.nn.Tanh,
    "silu": torch.nn.SiLU,
    "relu": torch.nn.ReLU,
    "softplus": torch.nn.Softplus,
    "linear": torch.nn.Identity,
}


def hidden_widths(hidden: Any) -> tuple[int, ...]:
    """Widths of hidden layers. Raises InvalidArgument where they are none."""
    listed = isinstance(hidden, Iterable) and not isinstance(hidden, str)
    found = tuple(hidden) if listed else (None,)
    if any(type(w) is not int or not 1 <= w <= _MOST for w in found):
        raise InvalidArgument(
            f"hidden must be widths in 1..{_MOST}, () for none, not {hidden!r:.60}"
        )
    return found


def stack(widths: Sequence[int], activation: str, seed: int) -> torch.nn.Sequential:
    """Linear layers of the widths, activations between them, none after the last.

    Raises:
        InvalidArgument: naming the argument.
    """
    if activation not in ACTIVATIONS:
        raise InvalidArgument(f"activation must be one of {', '.join(ACTIVATIONS)}: {activation!r}")
    if len(widths) < 2 or any(type(w) is not int or not 1 <= w <= _MOST for w in widths):
        raise InvalidArgument(f"widths must be two or more numbers in 1..{_MOST}, not {widths!r}")
    generator = torch.Generator().manual_seed(seed)
    layers: list[torch.nn.Module] = []
    for inside, outside in itertools.pairwise(widths):
        layer = torch.nn.Linear(inside, outside)
        bound = (3.0 / inside) ** 0.5
        with torch.no_grad():
            layer.weight.uniform_(-bound, bound, generator=generator)
            layer.bias.zero_()
        layers += [layer, ACTIVATIONS[activation]()]
    return torch.nn.Sequential(*layers[:-1])


def quieten(layers: torch.nn.Sequential, factor: float = 0.1) -> None:
    """Make the last layer small, so that training starts near zero."""
    last = layers[-1]
    assert isinstance(last, torch.nn.Linear)
    with torch.no_grad():
        last.weight.mul_(factor)
