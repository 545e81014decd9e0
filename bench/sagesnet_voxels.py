"""Atoms to slots of cells and back, a million of them: what a net reads and writes at its ends.

    python bench/sagesnet_voxels.py [--only TEXT] [--quick] [--json FILE]

From NumPy positions and velocities to the table of slots, and from there to positions of every atom
by cell and slot. The reference in parentheses does the same by NumPy's sort, with the positions kept
in double precision; there is no other package that keeps atoms apart in cells. The bar is 0.5 s for
a million atoms both ways on one core, told as the limit.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from harness import Case, Setup, main
from mlcore.sagesnet import AtomGrid, AtomState, slots

# A, of atoms: three in two cells of 2 A, as in a dense solid
SPACING, SLOTS, BAR = 1.75, 8, 0.5e-6


def cases(setup: Setup) -> Iterator[Case]:
    torch.set_num_threads(setup.threads)
    for size in (20,) if setup.quick else (46, 100):
        n = size**3
        name = f"{n} atoms, both ways"
        if not setup.wants(name):
            continue
        grid, numbers, x, v = _solid(size)
        for one in (_both(grid, numbers, x, v), _sorted(grid, x)):
            assert np.abs(one - x).max() < 1e-6
        yield Case(
            name,
            {
                "mlcore": lambda g=grid, z=numbers, x=x, v=v: _both(g, z, x, v),
                "(NumPy, by sorting)": lambda g=grid, x=x: _sorted(g, x),
            },
            limit=BAR * n,
            note="limit: the bar of 0.5 s for 1e6 atoms",
        )


def _solid(size: int) -> tuple[AtomGrid, np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    sites = np.argwhere(np.ones((size,) * 3, dtype=bool))
    x = SPACING * (sites + 0.5) + rng.uniform(-0.3, 0.3, sites.shape)
    cells = round(size * SPACING / 2)
    box = np.eye(3) * size * SPACING
    a, b, c = (tuple(row) for row in box.tolist())
    grid = AtomGrid((a, b, c), (cells,) * 3, slots=SLOTS)
    order = rng.permutation(len(x))
    return grid, rng.choice([1, 6], len(x)), x[order], rng.normal(0, 0.01, x.shape)


def _both(grid: AtomGrid, numbers: np.ndarray, x: np.ndarray, v: np.ndarray) -> np.ndarray:
    state = AtomState.from_arrays(grid, numbers, x, v)
    parts = slots(state)
    rows = parts.table[parts.table >= 0]
    back = np.empty_like(x)
    back[rows.numpy()] = state.take(rows).positions().numpy()
    return back


def _sorted(grid: AtomGrid, x: np.ndarray) -> np.ndarray:
    place = x @ np.linalg.inv(grid.edges)
    cell = np.floor(place).astype(np.int64)
    offset = place - cell
    key = np.ravel_multi_index(tuple(cell.T), grid.extents, mode="wrap")
    order = np.argsort(key, kind="stable")
    held, first, counts = np.unique(key[order], return_index=True, return_counts=True)
    slot = np.arange(len(x)) - np.repeat(first, counts)
    table = np.full((len(held), grid.slots), -1)
    table[np.repeat(np.arange(len(held)), counts), slot] = order
    rows = table[table >= 0]
    back = np.empty_like(x)
    back[rows] = (cell[rows] + offset[rows]) @ grid.edges
    return back


if __name__ == "__main__":
    main(cases, __doc__)
