"""S13: what a lift keeps of its blocks, by how many numbers become one and how long a vector is."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from bars import Bars, Measured
from mlcore.sagesnet import AutomatonCells, Level, LiftSchedule, Run, SagesNet
from mlcore.sagesnet.automata.rules import CountRule
from mlcore.sagesnet.automata.soups import soups
from mlcore.sagesnet.fit import block_errors
from mlcore.training import TrainingOptions
from torch import Tensor

LIFE = CountRule.of("B3/S23")
EPOCHS = 250
BLOCKS = ((1, 1), (2, 1), (2, 2), (4, 1), (4, 2))
"""k cells along both axes of a plane, m steps."""
LENGTHS = (16, 32, 64)


def rates() -> Iterator[Measured]:
    """Life ten steps after soups: k, m, C against the error of reconstruction.

    Errors are those of a fine cell's vector in parts of its mean square, and the part of the cells that
    are read wrong; a cell is one bit, so C numbers stand for k^2 m bits.
    """
    dead = states(99, 1, 8)[0].double().mean()
    yield Measured("live cells: read wrong if all are taken for dead", float(dead))
    for channels in LENGTHS:
        for k, m in BLOCKS:
            off, wrong = kept(channels, k, m)
            name = f"C = {channels}, k = {k}, m = {m} ({k * k * m} to 1)"
            yield Measured(f"{name}: error", off)
            # four numbers for each bit must hold nearly all of them
            most = 0.01 if 4 * k * k * m <= channels else None
            yield Measured(f"{name}: cells read wrong", wrong, most=most)


def kept(channels: int, k: int, m: int) -> tuple[float, float]:
    """Mean error of unseen blocks, and part of their cells that are read wrong."""
    torch.manual_seed(0)
    net: SagesNet[Tensor] = SagesNet(
        AutomatonCells(2, channels),
        [Level(width=4), Level(width=4, space=(1, k, k), time=m, lift_width=128)],
    )
    options = TrainingOptions(epochs=EPOCHS, learning_rate=3e-3, batch_size=4, patience=None)
    plan = LiftSchedule(steps=4 * EPOCHS, noise=0.05, prediction=0.0)
    runs = [Run(states(seed, m)) for seed in range(16)]
    net.fit(runs, levels=[1], options=options, schedule=plan)
    fresh = states(99, m, 8)[:m]
    with torch.no_grad():
        grids = [net.encode([state]) for state in fresh]
        window, lattice, lift = [grid.h for grid in grids], grids[0].lattice, net.lift(1)
        code = lift(window, lattice)
        errors = block_errors(lift, code, window, lattice)
        read = [net.cells.read(h, lattice) for h in lift.down(code, lattice)]
    wrong = torch.stack([(a != b).float().mean() for a, b in zip(read, fresh, strict=True)])
    return float(errors.mean()), float(wrong.mean())


def states(seed: int, m: int, systems: int = 1) -> list[Tensor]:
    """Enough of them for two windows, ten steps after a soup."""
    return LIFE.run(soups((1, 24, 24), systems, density=(0.1, 0.5), seed=seed), 9 + 2 * m)[10:]


bars: Bars = {"lifts rate and distortion": rates}
