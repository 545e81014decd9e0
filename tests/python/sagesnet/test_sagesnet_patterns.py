"""Patterns found in vectors of cells, and told of atoms."""

from pathlib import Path

import mlcore
import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk
from ase.io import read
from hypothesis import given, settings
from hypothesis import strategies as st
from mlcore.data import read_trajectory
from mlcore.errors import InvalidArgument
from mlcore.sagesnet import (
    ActiveLattice,
    AtomGrid,
    AtomState,
    AutomatonCells,
    DenseLattice,
    Grid,
    Level,
    SagesNet,
)
from mlcore.sagesnet.automata.rules import CountRule
from mlcore.sagesnet.automata.soups import LIFE, placed, soups
from mlcore.sagesnet.fit import Run
from mlcore.sagesnet.patterns import (
    adjusted_rand,
    at_atoms,
    cluster,
    components,
    features,
    surroundings,
    with_columns,
    write_dump,
    write_extxyz,
)
from mlcore.training import TrainingOptions

BOX = 16


def _things() -> tuple[torch.Tensor, list[str]]:
    """Every thing of Life six times, each alone in a box, and its kind."""
    things = [thing for thing in LIFE for _ in range(6)]
    states = [placed(thing, BOX, seed) for seed, thing in enumerate(things)]
    return torch.cat(states), [thing.kind for thing in things]


def _near(states: list[torch.Tensor], kinds: list[str], reach: int, space: int) -> np.ndarray:
    """Kind of the thing within reach of each cell of blocks of space^2; empty where none is."""
    live = torch.stack(states).amax(dim=0).float()
    blocks = torch.nn.functional.max_pool2d(live, space)
    for _ in range(reach):
        rolled = [blocks.roll((i, j), (2, 3)) for i in (-1, 0, 1) for j in (-1, 0, 1)]
        blocks = torch.stack(rolled).amax(dim=0)
    told = np.array(kinds)[:, None, None, None]
    return np.where(blocks.numpy() > 0, told, "empty")


@pytest.fixture(scope="module")
def life() -> SagesNet[torch.Tensor]:
    torch.manual_seed(0)
    net = SagesNet(
        AutomatonCells(channels=16),
        [Level(width=16, residual=False), Level(space=(1, 2, 2), time=2, frames=1)],
    )
    rule = CountRule.of("B3/S23")
    starts = soups((1, 24, 24), 32, density=(0.1, 0.6), seed=1)
    runs = [Run(rule.run(start[None], 3)) for start in starts]
    options = TrainingOptions(epochs=45, batch_size=8, learning_rate=1e-2)
    net.fit(runs, levels=[0], options=options)
    return net


def test_things_of_life_are_told_apart_by_what_their_vectors_do(
    life: SagesNet[torch.Tensor],
) -> None:
    start, kinds = _things()
    states = life.rollout(start, until=8).states
    assert torch.equal(states[-1], CountRule.of("B3/S23").run(start, 8)[-1])
    with torch.no_grad():
        window = [life.encode([state]) for state in states]
    seen = features(window, reach=2)
    found = cluster(seen, 4)
    truth = _near(states, kinds, 2, 1)
    score = adjusted_rand(found.labels, truth)
    assert score >= 0.9


def test_things_of_life_are_told_apart_on_a_coarse_level_too(
    life: SagesNet[torch.Tensor],
) -> None:
    start, kinds = _things()
    states = life.rollout(start, until=16).states
    with torch.no_grad():  # codes of an untrained lift differ where what they stand for does
        window = [life.encode(states[t : t + 2], level=1) for t in range(0, 16, 1)]
    seen = features(window, reach=1)
    found = cluster(seen, 4)
    score = adjusted_rand(found.labels, _near(states, kinds, 1, 2))
    assert score >= 0.8


def test_surroundings_of_a_constant_are_that_constant_at_every_rim() -> None:
    zero = DenseLattice((5, 4, 3), "zero")
    values = torch.full((2, 5, 4, 3, 2), 3.0)
    assert torch.allclose(surroundings(values, zero, 2), values)
    cells = np.array([[0, 0, 0], [0, 0, 1], [3, 3, 3]])
    few = ActiveLattice(mlcore.ActiveSet((6, 6, 6), cells))
    mean = surroundings(torch.tensor([[1.0], [3.0], [5.0]]), few, 1)
    assert torch.allclose(mean, torch.tensor([[2.0], [2.0], [5.0]]))


def test_components_are_found_and_their_variance_is_told() -> None:
    generator = np.random.default_rng(0)
    true = np.linalg.qr(generator.normal(size=(5, 5)))[0]
    rows = generator.normal(size=(4000, 5)) * np.array([4, 2, 1, 0, 0]) @ true + 3
    found = components(rows)
    assert found.explained.sum() == pytest.approx(1)
    assert found.explained[:3] == pytest.approx([16 / 21, 4 / 21, 1 / 21], abs=0.02)
    assert abs(found.axes[0] @ true[0]) > 0.999
    projected = components(rows, 3).project(torch.tensor(rows).reshape(40, 100, 5))
    assert projected.shape == (40, 100, 3)
    back = projected.reshape(-1, 3) @ found.axes[:3] + found.mean
    assert np.allclose(back, rows)
    assert not components(np.ones((3, 2))).explained.any()


def test_clusters_are_found_whatever_their_sizes() -> None:
    generator = np.random.default_rng(1)
    sizes, middles = [2000, 300, 40], np.array([[0.0, 0], [5, 0], [0, 5]])
    truth = np.repeat(range(3), sizes)
    rows = middles[truth] + 0.5 * generator.normal(size=(sum(sizes), 2))
    found = cluster(rows, 3)
    assert adjusted_rand(found.labels, truth) > 0.99
    assert np.bincount(found.labels).tolist() == sorted(np.bincount(found.labels), reverse=True)
    assert np.array_equal(found.assign(rows), found.labels)
    assert np.array_equal(cluster(rows, 3).labels, found.labels)
    few = cluster(np.repeat([[0.0, 0], [1, 1]], 5, axis=0), 2)
    assert few.spread == 0


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=2, max_size=12))
def test_adjusted_rand_is_what_counting_pairs_gives(pairs: list[tuple[int, int]]) -> None:
    n = len(pairs)
    same = [
        (pairs[i][0] == pairs[j][0], pairs[i][1] == pairs[j][1]) for i in range(n) for j in range(i)
    ]
    both, first, second = (sum(f(s) for s in same) for f in (all, lambda s: s[0], lambda s: s[1]))
    expected = first * second / len(same)
    most = (first + second) / 2
    wanted = 1.0 if most == expected else (both - expected) / (most - expected)
    found = adjusted_rand([p[0] for p in pairs], [p[1] for p in pairs])
    assert found == pytest.approx(wanted)
    assert found == pytest.approx(adjusted_rand([p[1] for p in pairs], [9 - p[0] for p in pairs]))


def _argon() -> tuple[AtomState, Atoms]:
    atoms = bulk("Ar", cubic=True, a=5.3).repeat((2, 3, 2))
    atoms.set_cell(atoms.cell[:] + np.array([[0, 0, 0], [1.0, 0, 0], [0.5, -0.7, 0]]))
    return AtomState.of([atoms, atoms], AtomGrid.over(atoms)), atoms


@pytest.mark.parametrize("dense", [True, False])
def test_values_of_cells_reach_the_atoms_in_them_and_files(tmp_path: Path, dense: bool) -> None:
    state, atoms = _argon()
    extents = state.grid.extents
    if dense:
        fine: DenseLattice | ActiveLattice = DenseLattice(extents)
    else:
        where = torch.cat([state.system[:, None], state.cell], dim=1).unique(dim=0)
        fine = ActiveLattice(mlcore.ActiveSet(extents, where.flip(0).numpy(), batches=2))
    x = torch.arange(extents[0]) if dense else torch.as_tensor(fine.active.coordinates)[:, 1]  # type: ignore[union-attr]
    values = x[None, :, None, None].expand(2, *extents) if dense else x
    grid = Grid(values[..., None].float(), (fine,))
    column = at_atoms(values, grid, state)
    assert np.array_equal(column, state.cell[:, 0].numpy())

    two = with_columns(atoms, pattern=column[: len(atoms)], odd=column[: len(atoms)] / 7)
    write_extxyz(tmp_path / "a.extxyz", two)
    again = read(tmp_path / "a.extxyz")
    assert np.array_equal(again.arrays["pattern"], two.arrays["pattern"])
    write_dump(tmp_path / "a.dump", [two, two], ["pattern", "odd"])
    text = (tmp_path / "a.dump").read_text()
    assert "ITEM: ATOMS id type element xu yu zu pattern odd" in text
    read_back = read_trajectory(tmp_path / "a.dump")
    assert np.allclose(read_back.positions[1], atoms.positions, atol=1e-12)
    assert np.allclose(read_back.cell, atoms.cell[:])
    rows = [line.split() for line in text.splitlines()[-len(atoms) :]]
    assert [float(row[-1]) for row in rows] == two.arrays["odd"].tolist()


def test_wrong_questions_about_patterns_are_named(tmp_path: Path) -> None:
    grid = Grid(torch.zeros(1, 2, 2, 2, 3), (DenseLattice((2, 2, 2)),))
    with pytest.raises(InvalidArgument, match="window"):
        features([grid, grid])
    other = Grid(torch.zeros(1, 2, 2, 3, 3), (DenseLattice((2, 2, 3)),))
    with pytest.raises(InvalidArgument, match="one box"):
        features([grid, grid, other])
    with pytest.raises(InvalidArgument, match="lags"):
        features([grid], lags=0)
    with pytest.raises(InvalidArgument, match="vectors differ"):
        cluster(np.zeros((5, 2)), 2)
    with pytest.raises(InvalidArgument, match="finite"):
        components(np.full((3, 2), np.nan))
    with pytest.raises(InvalidArgument, match="parts"):
        components(np.eye(3), 4)
    with pytest.raises(InvalidArgument, match="one length"):
        adjusted_rand([1, 2], [1])
    with pytest.raises(InvalidArgument, match="odd must hold"):
        with_columns(Atoms("Ar2"), odd=[1])
    atoms = bulk("Ar", cubic=True)
    with pytest.raises(InvalidArgument, match="pattern"):
        write_dump(tmp_path / "a.dump", atoms, ["pattern"])
    with pytest.raises(InvalidArgument, match="along x"):
        write_dump(tmp_path / "a.dump", bulk("Ar"))
