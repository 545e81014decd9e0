"""The dense way: torch on the whole grid."""

from __future__ import annotations

import numpy as np
import torch
from torch.nn import functional

Array = np.ndarray


def dense_conv(field: Array, weight: Array, bias: Array | None, boundary: str) -> Array:
    """(O, X, Y, Z) of a field (C, X, Y, Z); torch pads no axis by more than its length."""
    reach = weight.shape[-1] // 2
    if boundary == "periodic":
        for axis in (1, 2, 3):
            n = field.shape[axis]
            field = np.take(field, np.arange(-reach, n + reach) % n, axis)
    padding = reach if boundary == "zero" else 0
    x, w = torch.from_numpy(np.ascontiguousarray(field))[None], torch.from_numpy(weight)
    b = None if bias is None else torch.from_numpy(bias)
    return functional.conv3d(x, w, b, padding=padding)[0].numpy()


def occupied(rng: np.random.Generator, shape: tuple[int, ...], share: float) -> Array:
    """Coordinates of voxels drawn at random, in the order of the grid."""
    flat = np.flatnonzero(rng.random(int(np.prod(shape))) < share)
    return np.stack(np.unravel_index(flat, shape), 1)
