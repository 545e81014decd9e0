"""Grids in tiles: the same numbers for any cut."""

from __future__ import annotations

import mlcore
import numpy as np
import pytest
import torch
from mlcore.errors import InvalidArgument
from mlcore.sagesnet import ActiveLattice, DenseLattice, Predictor
from mlcore.sagesnet.lattice import Boundary, Lattice
from mlcore.sagesnet.tiles import Box, TiledLattice, tiles

STEPS = 5


def _extents(rng: np.random.Generator) -> tuple[int, int, int]:
    x, y, z = (int(n) for n in rng.integers(1, 9, 3))
    return x, y, z


def _cut(rng: np.random.Generator, cells: int) -> list[int]:
    """Sizes of 1 are as likely as others, and every fourth axis is cut to the last cell."""
    if rng.random() < 0.25:
        return [1] * cells
    sizes = []
    while sum(sizes) < cells:
        sizes.append(int(rng.integers(1, min(4, cells - sum(sizes)) + 1)))
    return sizes


def _net(kernel: int, dtype: torch.dtype) -> Predictor:
    net = Predictor(3, layers=3, width=4, kernel=kernel).to(dtype)
    for layer in net.layers:
        torch.nn.init.normal_(layer.update.weight, std=0.3)  # type: ignore[union-attr, arg-type]
    return net


def _steps(net: Predictor, h: torch.Tensor, lattice: Lattice) -> torch.Tensor:
    with torch.no_grad():
        for _ in range(STEPS):
            h = net(h, lattice)
    return h


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("boundary", ["periodic", "zero"])
def test_tiles_do_what_the_box_does(seed: int, boundary: Boundary) -> None:
    rng = np.random.default_rng(seed)
    torch.manual_seed(seed)
    kernel = 5 if seed % 2 else 3
    extents = _extents(rng)
    boxes = tiles(extents, [_cut(rng, n) for n in extents])
    rng.shuffle(boxes)  # type: ignore[arg-type]
    for dtype, most in ((torch.float32, 1e-5), (torch.float64, 1e-12)):
        net = _net(kernel, dtype)
        h = torch.randn(2, *extents, 3, dtype=dtype)
        dense = DenseLattice(extents, boundary)
        tiled = TiledLattice(dense, boxes)
        whole = _steps(net, h, dense)
        ours = tiled.whole(_steps(net, tiled.cut(h), tiled))
        assert float((ours - whole).abs().max()) <= most * max(1.0, float(whole.abs().max()))
        assert float((whole - h).abs().max()) > 0.1
        cells = torch.as_tensor(np.argwhere(rng.random((2, *extents)) < 0.4).reshape(-1, 4))
        if len(cells):
            active = ActiveLattice.over(
                extents, cells[torch.randperm(len(cells))], boundary, batches=2
            )
            some = torch.randn(len(cells), 3, dtype=dtype)
            apart = TiledLattice(active, boxes)
            whole = _steps(net, some, active)
            ours = apart.whole(_steps(net, apart.cut(some), apart))
            assert float((ours - whole).abs().max()) <= most * max(1.0, float(whole.abs().max()))
