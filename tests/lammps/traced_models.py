"""TorchScript models in MLMOD's convention, made here by tracing; nothing is shipped."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from pathlib import Path

import torch

RADIUS, VISCOSITY = 0.4, 1.0
SELF = 1 / (6 * math.pi * VISCOSITY * RADIUS)
Function = Callable[[torch.Tensor], torch.Tensor]


def self_model(x: torch.Tensor) -> torch.Tensor:
    return (SELF * torch.eye(3, dtype=x.dtype) + 0 * x[0]).reshape(9, 1)


def cosine_self_model(x: torch.Tensor) -> torch.Tensor:
    m = 1 + 0.8 * torch.cos(2 * math.pi * x[0, 0])
    return (m * torch.eye(3, dtype=x.dtype)).reshape(9, 1)


def zero_pair_model(z: torch.Tensor) -> torch.Tensor:
    return 0 * z[0] * torch.ones(9, 1, dtype=z.dtype)


def rpy_block(r: torch.Tensor) -> torch.Tensor:
    square = (r * r).sum()
    d = torch.sqrt(square)
    rr = torch.outer(r, r) / square
    one = torch.eye(3, dtype=r.dtype)
    a, eta = RADIUS, VISCOSITY
    far = ((1 + 2 * a * a / (3 * square)) * one + (1 - 2 * a * a / square) * rr) / (
        8 * math.pi * eta * d
    )
    near = SELF * ((1 - 9 * d / (32 * a)) * one + 3 * d / (32 * a) * rr)
    return torch.where(d > 2 * a, far, near)


def rpy_pair_model(z: torch.Tensor) -> torch.Tensor:
    return rpy_block(z[3:6, 0] - z[0:3, 0]).reshape(9, 1)


def oseen_pair_model(z: torch.Tensor) -> torch.Tensor:
    r = z[3:6, 0] - z[0:3, 0]
    d = torch.sqrt((r * r).sum())
    one = torch.eye(3, dtype=r.dtype)
    return ((one + torch.outer(r, r) / (d * d)) / (8 * math.pi * VISCOSITY * d)).reshape(9, 1)


def decaying_pair_model(z: torch.Tensor) -> torch.Tensor:
    """Not free of divergence: 0.2 exp(-r^2) I."""
    r = z[3:6, 0] - z[0:3, 0]
    return (0.2 * torch.exp(-(r * r).sum()) * torch.eye(3, dtype=r.dtype)).reshape(9, 1)


def whole_rpy_model(n: int) -> Function:
    def model(x: torch.Tensor) -> torch.Tensor:
        p = x.reshape(n, 3)
        rows = [
            torch.cat(
                [
                    rpy_block(p[j] - p[i]) if i != j else SELF * torch.eye(3, dtype=x.dtype)
                    for j in range(n)
                ],
                1,
            )
            for i in range(n)
        ]
        return torch.cat(rows, 0).reshape(-1, 1)

    return model


def whole_self_model(n: int) -> Function:
    def model(x: torch.Tensor) -> torch.Tensor:
        return (SELF * torch.eye(3 * n, dtype=x.dtype) + 0 * x[0]).reshape(-1, 1)

    return model


def save_traced(function: Function, inputs: int, path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.trace(function, torch.rand(inputs, 1)).save(str(path))


class Branching(torch.nn.Module):
    """Control flow that depends on data cannot be vectorised."""

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        r = z[3:6, 0] - z[0:3, 0]
        d = float(torch.sqrt((r * r).sum()))
        if d > 3.0:
            return torch.zeros(9, 1)
        return 0.01 * (3.0 - d) * torch.eye(3).reshape(9, 1)


def save_scripted(module: torch.nn.Module, path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.script(module).save(str(path))
