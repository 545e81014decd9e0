"""What steps cost: occupied cells against all of them, levels against each other, tiles."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import mlcore
import numpy as np
import torch
from bars import Bars, Measured
from mlcore.sagesnet import (
    ActiveLattice,
    AutomatonCells,
    DenseLattice,
    Level,
    Predictor,
    SagesNet,
    TiledLattice,
)
from mlcore.sagesnet.grid import Grid
from mlcore.sagesnet.lattice import Lattice
from mlcore.sagesnet.predictor import Scatter
from mlcore.sagesnet.tiles import tiles
from torch import Tensor
from torch.nn.functional import conv_transpose3d

SHEET = (70, 95, 10)  # the paper's sheet of graphene in cells of 2 A: 66,500 of them
CHANNELS = 32


def occupied_cells() -> Iterator[Measured]:
    """T3: a layer on occupied cells against the same layer on all of them."""
    net = predictor()
    dense, weight = DenseLattice(SHEET), kernel_of(net)
    for name, mask in masks().items():
        active = ActiveLattice(mlcore.ActiveSet.from_mask(mask))
        h = torch.randn(active.cells, CHANNELS, generator=torch.Generator().manual_seed(0))
        where = torch.as_tensor(mask)
        full = torch.zeros(1, *SHEET, CHANNELS)
        full[0, where] = h
        values = torch.nn.functional.silu(h)
        sent = torch.zeros(1, *SHEET, CHANNELS)
        sent[0, where] = values
        away = dense.scatter(sent, weight)[0, where] - active.scatter(values, weight)
        seconds = least_times(
            {
                "active": partial(net, h, active),
                "dense": partial(net, full, dense),
            }
        )
        share = f"{mask.mean():.1%} {name}"
        yield Measured(f"{share}: dense over active", ratio(seconds, "dense", "active"), least=2.0)
        yield Measured(f"{share}: scatters differ by at most", float(away.abs().max()), most=1e-5)
        yield Measured(f"{share}: ms for a step", 1e3 * seconds["active"])


def dense_layer() -> Iterator[Measured]:
    """A scatter over all cells against torch's transposed convolution."""
    torch.manual_seed(0)
    for extents in (SHEET, (40, 40, 40)):
        weight = torch.randn(CHANNELS, CHANNELS, 3, 3, 3) / 30
        values = torch.randn(1, *extents, CHANNELS)
        first = values.movedim(-1, 1).contiguous()
        ours = DenseLattice(extents, "zero")
        seconds = least_times(
            {
                "ours": partial(ours.scatter, values, weight),
                "torch": partial(conv_transpose3d, first, weight, padding=1),
            }
        )
        box = "x".join(map(str, extents))
        yield Measured(f"{box}: torch over mlcore", ratio(seconds, "torch", "ours"), least=1.0)
        yield Measured(f"{box}: ms", 1e3 * seconds["ours"])


def levels() -> Iterator[Measured]:
    """S14: a cell costs the same on every level, a volume over a time k^3 m less on each."""
    torch.manual_seed(0)
    wanted = [Level()] + [Level(space=2, time=2)] * 2
    net: SagesNet[Tensor] = SagesNet(AutomatonCells(channels=CHANNELS), wanted)
    alike = {f"{n}": partial(net.predict, grid(n, (48, 48, 48))) for n in range(3)}
    seconds = median_times(alike, dict.fromkeys(alike, 4))
    for level in (1, 2):
        part = ratio(seconds, f"{level}", "0")
        yield Measured(f"a cell's step, level {level} over level 0", part, most=1.1, least=0.9)
    # a volume of 128^3 over four steps; as many cells' steps are timed on every level
    falling = {f"{n}": partial(net.predict, grid(n, (128 >> n,) * 3)) for n in range(3)}
    seconds = median_times(falling, {f"{n}": 8**n for n in range(3)}, rounds=5)
    for level in (1, 2):
        gain = 2 * 8 * ratio(seconds, f"{level - 1}", f"{level}")
        yield Measured(f"128^3 over a time, level {level - 1} over {level}", gain, least=0.9 * 16)
    gain = 4 * 64 * ratio(seconds, "0", "2")
    yield Measured("128^3 over a time, level 0 over 2", gain, least=0.9 * 256)


def tiled() -> Iterator[Measured]:
    """What rims cost: the same cells in tiles, in one thread."""
    net = predictor()
    dense = DenseLattice(SHEET)
    torch.manual_seed(0)
    h = torch.randn(1, *SHEET, CHANNELS)
    calls: dict[str, Callable[[], Any]] = {"whole": lambda: net(h, dense)}
    for count in (2, 4, 8):
        lattice = TiledLattice(dense, tiles(SHEET, count))
        own = lattice.cut(h)
        calls[f"{count}"] = partial(net, own, lattice)
    seconds = least_times(calls)
    for count in (2, 4, 8):
        yield Measured(f"{count} tiles over the whole", ratio(seconds, f"{count}", "whole"))


def engines() -> Iterator[Measured]:
    """Steps of an automaton's net on two tiles; wall time, starting not counted."""
    torch.manual_seed(0)
    net: SagesNet[Tensor] = SagesNet(AutomatonCells(channels=CHANNELS), [Level()])
    state = torch.randint(0, 2, (1, 48, 48, 48))
    for engine in ("alone", "threads", "processes"):
        runner = net if engine == "alone" else net.tile(2, engine=engine)  # type: ignore[arg-type]
        told: list[float] = []
        runner.rollout(state, 40, record=20, watch=partial(note, told))
        yield Measured(f"{engine}: ms for a step of 48^3", 1e3 * (told[2] - told[1]) / 20)


bars: Bars = {
    "speed occupied cells": occupied_cells,
    "speed dense layer": dense_layer,
    "speed levels": levels,
    "speed tiles": tiled,
    "speed engines": engines,
}


def predictor() -> Predictor:
    """Whose update is not 0."""
    torch.manual_seed(1)
    net = Predictor(CHANNELS)
    torch.nn.init.normal_(net.layers[0].update.weight, std=0.1)  # type: ignore[union-attr, arg-type]
    return net


def note(times: list[float], *_: Any) -> None:
    times.append(time.perf_counter())


def kernel_of(net: Predictor) -> Tensor:
    layer = net.layers[0]
    assert isinstance(layer, Scatter)
    return layer.kernel.detach()


def grid(level: int, extents: tuple[int, int, int]) -> Grid:
    lattices: tuple[Lattice, ...] = (DenseLattice(extents),) * (level + 1)
    generator = torch.Generator().manual_seed(level)
    return Grid(torch.randn(1, *extents, CHANNELS, generator=generator), lattices)


def masks() -> Mapping[str, np.ndarray]:
    """Where atoms may be: a flat sheet, a rippled one, one lump, anywhere."""
    x, y, z = np.indices(SHEET)
    rng = np.random.default_rng(0)
    ripple = np.rint(4.5 + 2 * np.sin(x / 7) * np.cos(y / 9)).astype(int)
    return {
        "flat": z == 4,
        "rippled": z == ripple,
        "lump": np.hypot(x - 35, y - 47) < 15.9,
        "random": rng.random(SHEET) < 0.12,
    }


def least_times(calls: Mapping[str, Callable[[], Any]], rounds: int = 15) -> dict[str, float]:
    """Least CPU seconds of calls that take turns: other programs only lengthen them."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    with torch.no_grad():
        for _ in range(rounds + 1):
            for name, call in calls.items():
                start = time.process_time()
                call()
                times[name].append(time.process_time() - start)
    return {name: min(each[1:]) for name, each in times.items()}


def median_times(
    calls: Mapping[str, Callable[[], Any]], repeats: Mapping[str, int], rounds: int = 9
) -> dict[str, float]:
    """Median CPU seconds of so many calls each, which take turns."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    with torch.no_grad():
        for _ in range(rounds + 1):
            for name, call in calls.items():
                start = time.process_time()
                for _ in range(repeats[name]):
                    call()
                times[name].append(time.process_time() - start)
    return {name: float(np.median(each[1:])) for name, each in times.items()}


def ratio(seconds: Mapping[str, float], above: str, below: str) -> float:
    return seconds[above] / seconds[below]
