"""Writes the two kinds of model `fix mlmod` runs: a bundle and a pair of TorchScript files.

Both hold the Rotne-Prager-Yamakawa mobility of spheres of radius 1 in a fluid of viscosity 1; the
bundle adds its periodic images by Ewald sums and a short-ranged part of its own.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import torch
from mlcore.export import write_bundle
from mlcore.mobility.tensors import RPY, PairMobility

SELF = 1 / (6 * math.pi)


def self_block(x: torch.Tensor) -> torch.Tensor:
    """(3, 1) position -> (9, 1) mobility of one sphere."""
    return (SELF * torch.eye(3) + 0 * x[0]).reshape(9, 1)


def pair_block(z: torch.Tensor) -> torch.Tensor:
    """(6, 1) positions of two spheres -> (9, 1) mobility between them."""
    r = z[3:6, 0] - z[0:3, 0]
    d = torch.linalg.vector_norm(r)
    one, rr = torch.eye(3), torch.outer(r, r) / (d * d)
    far = ((1 + 2 / (3 * d * d)) * one + (1 - 2 / (d * d)) * rr) / (8 * math.pi * d)
    near = SELF * ((1 - 9 * d / 32) * one + 3 * d / 32 * rr)
    return torch.where(d > 2, far, near).reshape(9, 1)


def short_ranged(r: np.ndarray) -> np.ndarray:
    """Positive definite in space, gone at the cutoff."""
    return 0.05 * SELF * np.exp(-(r**2))


def main() -> None:
    folder = Path.cwd()
    torch.jit.trace(self_block, torch.rand(3, 1)).save(str(folder / "M_ii.pt"))
    torch.jit.trace(pair_block, torch.rand(6, 1)).save(str(folder / "M_ij.pt"))
    mobility = PairMobility.from_functions(
        0.05 * SELF, 6.0, short_ranged, short_ranged, background=RPY(1.0, 1.0)
    )
    write_bundle(folder / "bundle", mobility, units="lj", training={"source": "this example"})


if __name__ == "__main__":
    main()
