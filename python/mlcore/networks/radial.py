"""Smooth functions of a distance that end at a cutoff."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["length", "pair_index", "splines", "switch"]


def length(vectors: Tensor) -> Tensor:
    """(E,) lengths of (E, 3); differentiable at 0 as well."""
    return torch.sqrt((vectors * vectors).sum(1) + 1e-30)


def switch(r: Tensor, cutoff: float, width: float) -> Tensor:
    """1 up to cutoff - width, 0 from the cutoff on, with two continuous derivatives."""
    t = ((r - (cutoff - width)) / width).clamp(0.0, 1.0)
    return 1 - t * t * t * (10 - 15 * t + 6 * t * t)


def splines(r: Tensor, inner: Tensor, cutoff: float, intervals: int) -> Tensor:
    """(E, intervals + 3) cubic B-splines of 1/r on uniform knots between 1/cutoff and 1/inner.

    The knots are densest where forces are steepest. Below `inner` every spline goes on as the
    straight line (in r) it ends with.
    """
    near = torch.minimum(r, inner)
    far = torch.maximum(r, inner)
    scale = intervals / (1 / inner - 1 / cutoff)
    place = (1 / far - 1 / cutoff) * scale
    knots = torch.arange(-1, intervals + 2, dtype=r.dtype, device=r.device)
    away = place[:, None] - knots
    value = _bump(away)
    # d/dr of 1/r times the step from inner to r; zero from inner on
    step = -scale / (inner * inner) * (near - inner)
    return value + _slope(away) * step[:, None]


def _bump(z: Tensor) -> Tensor:
    a = z.abs()
    outer, middle = torch.relu(2 - a), torch.relu(1 - a)
    return (outer * outer * outer - 4 * middle * middle * middle) / 6


def _slope(z: Tensor) -> Tensor:
    a = z.abs()
    outer, middle = torch.relu(2 - a), torch.relu(1 - a)
    return torch.sign(z) * (4 * middle * middle - outer * outer) / 2


def pair_index(a: Tensor, b: Tensor, types: int) -> Tensor:
    """Number of an unordered pair of types: (0,0), (0,1), .., (0,T-1), (1,1), .. are 0, 1, 2, .."""
    low, high = torch.minimum(a, b), torch.maximum(a, b)
    return low * types - low * (low - 1) // 2 + high - low
