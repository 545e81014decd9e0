"""Small networks in double precision, the same for the same seed."""

from __future__ import annotations

import itertools

import torch

__all__ = ["perceptron"]


def perceptron(
    hidden: tuple[int, ...], outputs: int, activation: type[torch.nn.Module], seed: int
) -> torch.nn.Sequential:
    """One input of about -2..2, layers of widths ``hidden``, ``outputs`` linear outputs."""
    generator = torch.Generator().manual_seed(seed)
    layers: list[torch.nn.Module] = []
    for inside, outside in itertools.pairwise((1, *hidden, outputs)):
        layer = torch.nn.Linear(inside, outside, dtype=torch.float64)
        with torch.no_grad():
            bound = (3.0 / inside) ** 0.5
            layer.weight.uniform_(-bound, bound, generator=generator)
            layer.bias.uniform_(-1, 1, generator=generator)
        layers += [layer, activation()]
    return torch.nn.Sequential(*layers[:-1])
