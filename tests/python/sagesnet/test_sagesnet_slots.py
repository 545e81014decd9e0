"""Atoms on grids and back: nothing is lost, whatever the box; files; steps in whole cells."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk
from mlcore.errors import InvalidArgument
from mlcore.sagesnet import AtomGrid, AtomState, read_states, slots, write_states


def _box(rng: np.random.Generator) -> np.ndarray:
    """A box, every other one triclinic, some of them a single cell."""
    box = np.diag(rng.uniform(1.5, 14.0, 3))
    if rng.random() < 0.5:
        box += np.tril(rng.uniform(-0.3, 0.3, (3, 3)) * box.diagonal(), -1)
    return box


def _cloud(rng: np.random.Generator) -> tuple[AtomGrid, np.ndarray, np.ndarray, np.ndarray]:
    """A grid; elements, places, velocities of atoms: 0 to 4 in each cell, some on faces."""
    pbc = rng.random(3) < 0.6
    grid = AtomGrid.over(Atoms(cell=_box(rng), pbc=pbc))
    cells = np.argwhere(np.ones(grid.extents))
    part = rng.choice([0.0, 0.3, 1.0])
    held = np.where(rng.random(len(cells)) < part, rng.integers(1, 5, len(cells)), 0)
    inside = rng.uniform(0.02, 0.98, (int(held.sum()), 3))
    # on a lower face, an edge or a corner of the cell
    inside[(rng.random(inside.shape) < 0.1) & pbc] = 0.0
    place = np.repeat(cells, held, axis=0) + inside
    away = rng.integers(-3, 4, place.shape) * pbc
    x = (place / grid.extents + away) @ grid.matrix
    return grid, rng.choice([1, 6, 14], len(x)), x, rng.normal(0, 0.05, x.shape)


def test_a_thousand_clouds_come_back() -> None:
    rng = np.random.default_rng(7)
    seen = 0
    for _ in range(1000):
        grid, numbers, x, v = _cloud(rng)
        # rounding at faces may move an atom to a full neighbour
        grid = replace(grid, slots=16)
        ids = rng.permutation(10 * len(x))[: len(x)]
        state = AtomState.from_arrays(grid, numbers, x, v, ids)
        parts = slots(state)
        read = parts.table[parts.table >= 0]
        assert sorted(read.tolist()) == list(range(len(x)))
        back = state.take(read).atoms()[0]
        order = np.argsort(back.arrays["id"])
        want = np.argsort(ids)
        assert np.array_equal(back.arrays["id"][order], ids[want])
        assert np.array_equal(back.numbers[order], numbers[want])
        if len(x):
            assert np.abs(back.positions[order] - x[want]).max() < 1e-6
            assert np.abs(state.velocity.numpy()[want] - v[want]).max() < 1e-6
            # every atom is in the cell that its table says
            assert torch.equal(parts.cells[parts.row, 1:], state.cell)
            assert torch.equal((parts.table >= 0).sum(1), torch.bincount(parts.row))
        seen += len(x)
    assert seen > 50_000


def test_full_cells_fit_and_fuller_ones_raise() -> None:
    grid = AtomGrid.over(Atoms(cell=[8, 8, 8], pbc=True), slots=4)
    x = np.array([4.1, 2.1, 0.1]) + 0.3 * np.arange(5)[:, None]
    full = slots(AtomState.from_arrays(grid, [6] * 4, x[:4]))
    assert full.table.tolist() == [[0, 1, 2, 3]]
    both = [AtomState.from_arrays(grid, [6] * n, x[:n]) for n in (1, 5)]
    with pytest.raises(InvalidArgument, match=r"cell \[2, 1, 0\] of system 1 holds 5 atoms"):
        slots(AtomState.stack(both))


def test_an_empty_box_has_no_slots() -> None:
    grid = AtomGrid.over(Atoms(cell=[8, 8, 8], pbc=True))
    parts = slots(AtomState.from_arrays(grid, [], np.zeros((0, 3))))
    assert parts.cells.shape == (0, 4) and parts.table.shape == (0, 4)


def test_atoms_outside_an_open_axis_are_refused() -> None:
    grid = AtomGrid.over(Atoms(cell=[8, 8, 8], pbc=(True, True, False)))
    with pytest.raises(InvalidArgument):
        AtomState.from_arrays(grid, [6], [[1.0, 1.0, -0.5]])
    state = AtomState.from_arrays(grid, [6], [[1.0, 1.0, 0.5]])
    with pytest.raises(InvalidArgument, match="leaves the box"):
        state.moved(torch.tensor([[0.0, 0.0, -1.0]]), state.velocity)


@pytest.mark.parametrize(
    ("wrong", "word"),
    [
        ({"ids": [3, 3]}, "ids"),
        ({"velocities": [[0.0, 0, 0]]}, "velocities"),
        ({"velocities": np.full((2, 3), np.nan)}, "velocities"),
        ({"numbers": [6]}, "numbers"),
        ({"positions": np.full((2, 3), np.inf)}, "positions"),
    ],
)
def test_wrong_arrays_are_named(wrong: dict[str, object], word: str) -> None:
    grid = AtomGrid.over(Atoms(cell=[8, 8, 8], pbc=True))
    right: dict[str, object] = {"numbers": [6, 6], "positions": np.ones((2, 3))}
    with pytest.raises(InvalidArgument, match=word):
        AtomState.from_arrays(grid, **(right | wrong))  # type: ignore[arg-type]


def test_many_small_steps_end_where_one_long_one_does() -> None:
    atoms = bulk("Si", cubic=True) * (2, 2, 2)
    start = AtomState.of(atoms, AtomGrid.over(atoms))
    step = torch.tensor([[0.0137, -0.0219, 0.0071]]).expand(len(start), 3)
    state = start
    for _ in range(1000):
        state = state.moved(step, state.velocity)
    far = state.positions() - start.positions()
    assert float((far - 1000 * step.double()).abs().max()) < 2e-4
    assert float(state.offset.abs().max()) <= 0.5 and bool((state.offset < 0.5).all())
    assert torch.allclose(start.displacement(start.moved(step, state.velocity)), step.double())


def test_the_same_atoms_in_another_order_are_matched() -> None:
    atoms = bulk("Si", cubic=True)
    state = AtomState.of([atoms, atoms], AtomGrid.over(atoms))
    order = torch.randperm(len(state), generator=torch.Generator().manual_seed(0))
    assert torch.equal(state.matched(state.take(order)).offset, state.offset)
    moved = state.moved(torch.full((len(state), 3), 0.3), state.velocity + 0.01)
    far, fast = moved.take(order).apart(state)
    assert far == pytest.approx(0.3 * 3**0.5, abs=1e-5)
    assert fast == pytest.approx(0.01 * 3**0.5, abs=1e-6)
    with pytest.raises(InvalidArgument, match="same atoms"):
        state.matched(state.take(order[1:]))


@pytest.mark.parametrize("name", ["a.xyz", "a.dump", "a.dump.gz"])
@pytest.mark.parametrize("tilted", [False, True])
def test_files_come_back(tmp_path: Path, name: str, tilted: bool) -> None:
    rng = np.random.default_rng(3)
    atoms = bulk("SiC", "zincblende", a=4.36, cubic=not tilted) * (2, 3, 2)
    if tilted:
        box = [[9.0, 0, 0], [2.0, 8.0, 0], [-1.0, 0.5, 9.5]]
        atoms.set_cell(box, scale_atoms=True)
    atoms.set_array("id", rng.permutation(1000)[: len(atoms)])
    states = []
    for _ in range(3):
        atoms.rattle(0.05, seed=int(rng.integers(1000)))
        atoms.set_velocities(rng.normal(0, 0.3, (len(atoms), 3)))
        states.append(AtomState.of(atoms, AtomGrid.over(atoms, slots=8)))
    write_states(tmp_path / name, states, [0.0, 2.0, 4.0], dt=2.0)
    # a box is tilted by rounding of its nine numbers at most
    again = read_states(tmp_path / name, states[0].grid)
    assert len(again) == 3
    for one, two in zip(states, again, strict=True):
        two = one.matched(two)
        assert torch.equal(one.numbers, two.numbers)
        assert float((one.positions() - two.positions()).abs().max()) < 1e-6
        assert float((one.velocity - two.velocity).abs().max()) < 1e-6


@pytest.mark.parametrize("name", ["a.extxyz", "a.lammpstrj"])
def test_atoms_counted_from_0_are_counted_from_1_in_files(tmp_path: Path, name: str) -> None:
    grid = AtomGrid.over(bulk("Cu", cubic=True))
    state = AtomState.of(bulk("Cu", cubic=True), grid)
    assert state.ids.tolist() == [0, 1, 2, 3]
    write_states(tmp_path / name, [state], [0.0])
    (again,) = read_states(tmp_path / name, grid)
    assert again.ids.tolist() == [1, 2, 3, 4]
    assert torch.equal(again.cell, state.cell) and torch.equal(again.offset, state.offset)
