"""Grids in tiles: the same numbers for any cut and engine."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiles_work as work
import torch
from mlcore.errors import Error, InvalidArgument
from mlcore.lammps.environment import mpi_launcher
from mlcore.sagesnet import ActiveLattice, DenseLattice, Predictor
from mlcore.sagesnet.lattice import Boundary, Lattice
from mlcore.sagesnet.tiled import EngineName
from mlcore.sagesnet.tiles import Box, TiledLattice, tiles

STEPS = 5


def _extents(rng: np.random.Generator) -> tuple[int, int, int]:
    x, y, z = (int(n) for n in rng.integers(1, 9, 3))
    return x, y, z


def _cut(rng: np.random.Generator, cells: int) -> list[int]:
    """Sizes of 1 are as likely as others, and every fourth axis is cut to the last cell."""
    if rng.random() < 0.25:
        return [1] * cells
    sizes: list[int] = []
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
    rng.shuffle(boxes)
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


ENGINES: tuple[EngineName, ...] = ("threads", "processes")


def test_threads_do_what_the_box_does() -> None:
    net = work.net()
    alone = net.rollout(work.start(), 6)
    coarse = net.rollout([work.start()] * 2, 8, level=1)
    ran = net.tile((2, 1, [1, 9])).rollout(work.start(), 6, record=4)
    assert ran.steps == [0, 4, 6]
    assert all(torch.equal(ran.states[i], alone.states[s]) for i, s in enumerate(ran.steps))
    assert not torch.equal(alone.states[0], alone.states[6])
    above = net.tile((3, 2, 1)).rollout([work.start()] * 2, 8, level=1, record=2)
    assert above.steps == [0, 4, 8]
    assert float((above.grids[-1].h - coarse.grids[-1].h).abs().max()) < 1e-5
    assert torch.equal(above.states[-1], coarse.states[-1])


def test_processes_agree_with_threads_to_the_bit() -> None:
    net, start = work.net(), [work.start()] * 2
    ours, theirs = (
        net.tile((2, 1, 1), engine=engine).rollout(start, 8, level=1, record=2).grids
        for engine in ENGINES
    )
    assert all(torch.equal(a.h, b.h) for a, b in zip(ours, theirs, strict=True))


@pytest.mark.parametrize("ranks", [2, 3])
def test_ranks_agree_with_threads(ranks: int, tmp_path: Path) -> None:
    pytest.importorskip("mpi4py")
    driver = Path(__file__).with_name("tiles_driver.py")
    command = [str(mpi_launcher()), "-n", str(ranks), sys.executable, str(driver), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    net = work.net()
    ran = net.tile(ranks).rollout(work.start(), 6, record=4)
    coarse = net.tile((1, 1, ranks)).rollout([work.start()] * 2, 8, level=1, record=4)
    for rank in range(ranks):
        steps, states, h = torch.load(tmp_path / f"{rank}.pt")
        assert steps == ran.steps
        assert all(torch.equal(a, b) for a, b in zip(states, ran.states, strict=True))
        assert torch.equal(h, coarse.grids[-1].h)


def test_what_acts_from_outside_acts_on_every_tile() -> None:
    net = work.net(environment=True)
    for around in (work.heat, torch.tensor([[0.5], [2.0]])):
        alone = net.rollout(work.start(), 4, environment=around)
        ran = net.tile(5).rollout(work.start(), 4, environment=around)
        assert all(torch.equal(a, b) for a, b in zip(ran.states, alone.states, strict=True))
        assert not torch.equal(
            alone.states[-1],
            work.net(True).rollout(work.start(), 4, environment=torch.zeros(2, 1)).states[-1],
        )


@pytest.mark.parametrize("engine", ENGINES)
def test_a_tile_that_fails_ends_all(engine: EngineName) -> None:
    tiled = work.net(environment=True).tile((1, 1, 2), engine=engine)
    with pytest.raises((ValueError, Error), match="no heat is left"):
        tiled.rollout(work.start(), 4, environment=work.failing, record=4)


def test_vectors_that_are_not_finite_are_told() -> None:
    net = work.net()
    torch.nn.init.constant_(net.predictors[0].layers[0].update.bias, torch.inf)  # type: ignore[union-attr, index]
    with pytest.raises(Error, match="step 1 of level 0: vectors are not finite"):
        net.tile(2).rollout(work.start(), 4)


def test_gradients_flow_through_tiles() -> None:
    torch.manual_seed(0)
    net = _net(3, torch.float64)
    lattice = DenseLattice((3, 2, 4))
    tiled = TiledLattice(lattice, tiles((3, 2, 4), (2, 2, [1, 3])))
    h = torch.randn(1, 3, 2, 4, 3, dtype=torch.float64)
    told = []
    for ours in (lambda: net(h, lattice), lambda: tiled.whole(net(tiled.cut(h), tiled))):
        grads = torch.autograd.grad(ours().square().sum(), list(net.parameters()))
        told.append(torch.cat([g.flatten() for g in grads]))
    assert torch.allclose(told[0], told[1], rtol=1e-10, atol=1e-10)


def test_blocks_of_tiles_are_blocks_of_the_box() -> None:
    lattice = DenseLattice((6, 4, 8))
    tiled = TiledLattice(lattice, tiles((6, 4, 8), ([1, 5], 2, [3, 1, 4])))
    h = torch.randn(2, 6, 4, 8, 3)
    coarse = tiled.coarse((2, 2, 4))
    blocks = tiled.blocks(tiled.cut(h), (2, 2, 4))
    assert torch.equal(coarse.whole(blocks), lattice.blocks(h, (2, 2, 4)))
    assert torch.equal(tiled.whole(tiled.unblocked(blocks, (2, 2, 4))), h)
    assert torch.equal(tiled.whole(tiled.spread(torch.eye(2))), lattice.spread(torch.eye(2)))


def test_tiles_are_as_asked_for() -> None:
    assert len(tiles((70, 95, 10), 6)) == 6
    assert {box.size for box in tiles((70, 95, 10), 4)} <= {(35, 48, 10), (35, 47, 10)}
    assert [box.size[2] for box in tiles((1, 1, 6), (1, 1, [1, 2, 3]))] == [1, 2, 3]


@pytest.mark.parametrize("wrong", [0, 7, (1, 2), (1, 1, 7), (1, 1, [3, 2]), (1, 1, [6, 0])])
def test_cuts_that_cannot_be_are_named(wrong: Any) -> None:
    with pytest.raises(InvalidArgument, match="tiles"):
        tiles((1, 1, 6), wrong)


def test_boxes_must_cover_the_grid_once() -> None:
    for size in ((1, 1, 1), (2, 1, 3)):
        with pytest.raises(InvalidArgument, match="boxes"):
            TiledLattice(DenseLattice((2, 1, 2)), [Box((0, 0, 0), size)])
    twice = [Box((0, 0, 0), (2, 1, 2)), Box((1, 0, 0), (1, 1, 1))]
    with pytest.raises(InvalidArgument, match=r"\(1, 0, 0\) is in 2"):
        TiledLattice(DenseLattice((2, 1, 2)), twice)
    with pytest.raises(InvalidArgument, match="engine"):
        work.net().tile(2, engine="boats")  # type: ignore[arg-type]
