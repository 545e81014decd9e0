"""Cells of atoms: what they tell and hear, steps that lose nothing, reading back, training."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk
from mlcore.errors import Error, InvalidArgument
from mlcore.sagesnet import AtomCells, AtomGrid, AtomState, Level, Run, SagesNet, Scales
from mlcore.sagesnet.atoms.reading import assigned
from mlcore.training import TrainingOptions
from scipy.optimize import linear_sum_assignment

SCALES = Scales(velocity=0.01, step=0.02, change=0.01)


def _crystal(seed: int = 0, slots: int = 4) -> AtomState:
    """Hot SiC, 64 atoms of two elements."""
    atoms = bulk("SiC", "zincblende", a=4.36, cubic=True) * 2
    atoms.rattle(0.1, seed=seed)
    v = np.random.default_rng(seed).normal(0, 0.01, atoms.positions.shape)
    grid = AtomGrid.over(atoms, slots=slots)
    return AtomState.from_arrays(grid, atoms.numbers, atoms.positions, v)


def _net(dense: bool = False, spread: float = 0.3, **more: object) -> SagesNet[AtomState]:
    torch.manual_seed(1)
    options: dict[str, object] = {"dt": 2.0, "channels": 16, "width": 24, "scales": SCALES}
    cells = AtomCells((6, 14), dense=dense, **(options | more))  # type: ignore[arg-type]
    net = SagesNet(cells, [Level(width=16)])
    if spread:
        with torch.no_grad():
            for weight in net.parameters():
                weight.copy_(spread * torch.randn(weight.shape))
    return net


def _predicted(net: SagesNet[AtomState], state: AtomState) -> tuple[torch.Tensor, object]:
    grid = net.predict(net.encode([state]))
    return grid.h, grid.lattice


def test_a_fresh_net_moves_atoms_at_constant_velocity() -> None:
    state = _crystal()
    after = _net(spread=0.0).step(state)
    way = state.displacement(after)
    assert torch.allclose(way, 2.0 * state.velocity.double(), atol=1e-6)
    assert torch.equal(after.velocity, state.velocity)


@pytest.mark.parametrize("dense", [False, True])
def test_empty_cells_are_zero_and_an_empty_box_stays_empty(dense: bool) -> None:
    net = _net(dense)
    grid = AtomGrid.over(Atoms(cell=[12, 12, 12], pbc=True))
    lonely = AtomState.from_arrays(grid, [14], [[5.0, 5.0, 5.0]])
    code = net.encode([lonely])
    assert code.lattice.cells == (216 if dense else 27)
    assert int((code.h.flatten(0, -2).abs().sum(dim=1) > 0).sum()) == 1
    empty = AtomState.from_arrays(grid, [], np.zeros((0, 3)))
    assert len(net.rollout(empty, 20).states[-1]) == 0


def test_the_order_of_atoms_says_nothing() -> None:
    net = _net(reading=0.1)
    state = _crystal()
    target = net.step(state)
    target = replace(target, velocity=target.velocity * 1.1)
    order = torch.randperm(len(state), generator=torch.Generator().manual_seed(0))
    other = torch.randperm(len(state), generator=torch.Generator().manual_seed(1))
    losses = []
    for now, later in ((state, target), (state.take(order), target), (state, target.take(other))):
        losses.append(float(net.cells.loss(*_predicted(net, now), now, later)))  # type: ignore[arg-type]
    assert losses[0] > 0.01
    assert max(losses) - min(losses) < 1e-6


@pytest.mark.parametrize("dense", [False, True])
def test_a_crystal_moved_by_whole_cells_moves_alike(dense: bool) -> None:
    net, state = _net(dense), _crystal()
    extents = torch.tensor(state.grid.extents)
    cell = state.cell + torch.tensor([1, -2, 3])
    moved = replace(state, cell=cell % extents, image=cell // extents)
    ways = [one.displacement(net.step(one)) for one in (state, moved)]
    assert float((ways[0] - ways[1]).abs().max()) < 1e-6
    assert float(ways[0].abs().max()) > 1e-2


def test_systems_of_a_batch_know_nothing_of_each_other() -> None:
    net, one, two = _net(), _crystal(0), _crystal(5)
    both = net.step(AtomState.stack([one, two]))
    alone = [net.step(state) for state in (one, two)]
    apart = torch.cat([state.velocity for state in alone])
    assert torch.allclose(both.velocity, apart, atol=1e-6)


def test_nothing_goes_around_an_open_axis() -> None:
    net = _net()
    grid = AtomGrid.over(Atoms(cell=[8, 8, 10], pbc=(True, True, False)))
    x = np.array([[1.0, 1.0, 0.5], [1.0, 1.0, 9.5], [7.5, 1.0, 0.5]])
    state = AtomState.from_arrays(grid, [6, 6, 6], x)
    nudged = state.moved(torch.tensor([[0.1, 0.1, 0.1], [0, 0, 0], [0, 0, 0]]), state.velocity)
    felt = (net.step(state).velocity - net.step(nudged).velocity).abs().sum(dim=1)
    assert float(felt[1]) == 0.0
    assert float(felt[2]) > 1e-5


def test_driven_atoms_keep_their_velocity_and_are_not_learned_from() -> None:
    net, state = _net(spread=0.1), _crystal()
    driven = torch.arange(len(state)) < 8
    state = replace(state, driven=driven)
    run = net.rollout(state, 20)
    last = run.states[-1]
    assert torch.equal(last.velocity[driven], state.velocity[driven])
    way = last.positions() - state.positions()
    assert torch.allclose(way[driven], 40.0 * state.velocity[driven].double(), atol=1e-5)
    target = run.states[1]
    odd = replace(target, velocity=torch.where(driven[:, None], 9.0, target.velocity))
    h, lattice = _predicted(net, state)
    losses = [float(net.cells.loss(h, lattice, state, t)) for t in (target, odd)]  # type: ignore[arg-type]
    assert losses[0] == losses[1]
    errors = net.cells.errors(h, lattice, state, odd)  # type: ignore[arg-type]
    assert float(errors.max()) < 1e-5


def test_no_force_is_bitwise_as_none_and_a_force_is_felt_nearby() -> None:
    net, state = _net(), _crystal()
    quiet = replace(state, force=torch.zeros(len(state), 3))
    assert torch.equal(net.encode([quiet]).h, net.encode([state]).h)
    assert torch.equal(net.step(quiet).velocity, net.step(state).velocity)
    force = torch.zeros(len(state), 3)
    chosen = (state.cell == state.cell[0]).all(dim=1)
    force[chosen] = torch.tensor([0.5, 0.0, 0.0])
    felt = (net.step(replace(state, force=force)).velocity - net.step(state).velocity).abs().sum(1)
    extents = torch.tensor(state.grid.extents)
    away = (state.cell - state.cell[0] + extents // 2) % extents - extents // 2
    near = (away.abs() <= 1).all(dim=1)
    assert bool((felt[near] > 0).all()) and bool((felt[~near] == 0).all())
    assert bool((~near).any())


@pytest.mark.parametrize("dense", [False, True])
def test_random_nets_lose_no_atom_in_ten_thousand_steps(dense: bool) -> None:
    atoms = bulk("SiC", "zincblende", a=6.1, cubic=True)
    v = np.random.default_rng(0).normal(0, 0.05, (8, 3))
    grid = AtomGrid.over(atoms)
    state = AtomState.from_arrays(grid, atoms.numbers, atoms.positions, v)
    net = _net(dense, channels=4, width=8, waves=1)
    steps = 1_000 if dense else 10_000
    moved = 0

    def watch(step: int, now: AtomState) -> None:
        nonlocal moved
        assert torch.equal(now.counts(), state.counts())
        assert torch.equal(now.ids, state.ids)
        assert bool(torch.isfinite(now.offset).all() & torch.isfinite(now.velocity).all())
        assert bool((now.cell >= 0).all() & (now.cell < torch.tensor(grid.extents)).all())
        moved += int((now.cell != state.cell).sum())

    net.rollout(state, steps, watch=watch)
    assert moved > steps


def test_a_rollout_that_lost_an_atom_is_stopped() -> None:
    class Leaky(AtomCells):
        def advance(self, *args: object) -> AtomState:
            return super().advance(*args).take(torch.arange(63))  # type: ignore[arg-type]

    net = SagesNet(Leaky((6, 14), channels=4, width=8))
    with pytest.raises(Error, match="conserved"):
        net.rollout(_crystal(), 2)


@pytest.mark.parametrize("size", [1, 4, 6])
def test_slots_are_assigned_at_the_least_cost(size: int) -> None:
    cost = torch.rand(20, size, size, generator=torch.Generator().manual_seed(size))
    chosen = cost.gather(2, assigned(cost)[..., None]).sum(dim=(1, 2))
    best = [one[linear_sum_assignment(one)].sum() for one in cost.numpy()]
    assert np.allclose(chosen, best, atol=1e-6)


@pytest.mark.parametrize("channels", [16, 32, 64])
def test_vectors_of_any_length_are_read_back(channels: int) -> None:
    net = _net(spread=0.0, channels=channels, width=64)
    states = [_crystal(seed) for seed in range(12)]
    batch = AtomState.stack(states[:8])
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-2)
    for _ in range(120):
        optimizer.zero_grad()
        code = net.encode([batch])
        net.cells.reconstruction(code.h, code.lattice, batch).backward()
        optimizer.step()
    with torch.no_grad():
        unseen = AtomState.stack(states[8:])
        code = net.encode([unseen])
        found = net.cells.scores(code.h, code.lattice, unseen)  # type: ignore[operator]
        read = net.decode(code)[0]
    assert found.counts > 0.9 and found.elements > 0.95
    assert found.offset < 0.6
    assert read.batch == 4
    assert float((read.counts() - unseen.counts()).abs().sum()) < 0.1 * len(unseen)


def test_noise_is_for_training_alone() -> None:
    net, state = _net(spread=0.1, noise=(0.02, 0.001)), _crystal()
    state = replace(state, driven=torch.arange(len(state)) < 8)
    seeds = [torch.Generator().manual_seed(3) for _ in range(2)]
    one, two = (net.cells.shaken(state, state, seed)[0] for seed in seeds)
    assert torch.equal(one.offset, two.offset) and torch.equal(one.velocity, two.velocity)
    way = state.displacement(one)
    assert float(way[:8].abs().max()) == 0.0
    assert 0.01 < float(way[8:].std()) < 0.03
    assert 5e-4 < float((one.velocity - state.velocity)[8:].std()) < 2e-3
    # a net that learns from shaken states is told of the true way from there
    after = net.cells.advance(*_predicted(net, one), one)  # type: ignore[arg-type]
    assert float(net.cells.loss(*_predicted(net, one), one, after)) < 1e-6  # type: ignore[arg-type]


def test_shifted_systems_move_as_they_did() -> None:
    state = AtomState.stack([_crystal(0), _crystal(1)])
    target = state.moved(2.0 * state.velocity, state.velocity)
    shifted = _net(shift=True).cells.shaken(state, target, torch.Generator().manual_seed(0))
    ways = shifted[0].displacement(shifted[1]), state.displacement(target)
    assert torch.allclose(*ways, atol=1e-5)
    away = state.displacement(shifted[0])
    for system in range(2):
        mine = away[state.system == system]
        assert float(mine.std(dim=0).max()) < 1e-5 and float(mine.abs().max()) > 0.1
    assert float((away[0] - away[-1]).abs().max()) > 0.1
    open_box = replace(state, grid=replace(state.grid, pbc=(False, False, False)))
    same = _net(shift=True).cells.shaken(open_box, open_box, torch.Generator().manual_seed(0))
    assert torch.equal(same[0].offset, state.offset)


def test_a_likelihood_begins_as_squared_errors_and_all_weights_learn() -> None:
    state = _crystal()
    target = _net().step(state)
    losses = []
    for variance in (False, True):
        net = _net(spread=0.0, variance=variance)
        losses.append(float(net.cells.loss(*_predicted(net, state), state, target)))  # type: ignore[arg-type]
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)
    net = _net(variance=True, reading=0.1)
    around = replace(state, force=torch.ones(len(state), 3))
    net.cells.loss(*_predicted(net, around), around, target).backward()  # type: ignore[arg-type]
    silent = [name for name, p in net.named_parameters() if p.grad is None or not p.grad.any()]
    assert silent == []


def test_nets_of_atoms_come_back_from_files(tmp_path: Path) -> None:
    from mlcore.sagesnet.saved import load, save

    net, state = _net(variance=True, reading=0.1), _crystal()
    json.dumps(net.description())
    save(net, tmp_path / "net")
    again = load(tmp_path / "net")
    assert torch.equal(
        net.rollout(state, 5).states[-1].offset, again.rollout(state, 5).states[-1].offset
    )
    assert torch.equal(
        net.decode(net.encode([state]))[0].offset, again.decode(again.encode([state]))[0].offset
    )


def test_a_number_that_acts_on_all_cells_is_heeded_between_those_trained() -> None:
    """Drag: what is known of 0.1 and 0.5 says the right thing of 0.3."""
    start, runs = _crystal(), []
    for drag in (0.1, 0.5):
        for seed in range(4):
            state = _crystal(seed)
            after = state.moved(2.0 * state.velocity, state.velocity * (1 - drag))
            runs.append(Run([state, after], torch.tensor([[drag]])))
    torch.manual_seed(0)
    cells = AtomCells((6, 14), 2.0, channels=16, width=24, scales=SCALES)
    net = SagesNet(cells, [Level(width=16)], environment=["drag"])
    net.fit(runs, options=TrainingOptions(epochs=150, learning_rate=1e-2, patience=None))
    fall = []
    for drag in (0.1, 0.3, 0.5):
        after = net.step(start, torch.tensor([[drag]]))
        fall.append(
            1 - float((after.velocity * start.velocity).sum() / start.velocity.square().sum())
        )
    assert fall[0] + 0.05 < fall[1] < fall[2] - 0.05


@pytest.mark.parametrize("dense", [False, True])
def test_atoms_have_levels_too(dense: bool) -> None:
    """Cells that are occupied differ from frame to frame; blocks of them do not mind."""
    torch.manual_seed(0)
    atoms = bulk("SiC", "zincblende", a=4.36, cubic=True) * 2
    v = np.random.default_rng(0).normal(0, 0.02, atoms.positions.shape)
    grid = AtomGrid.over(atoms, multiple=4)
    assert grid.extents == (4, 4, 4)
    state = AtomState.from_arrays(grid, atoms.numbers, atoms.positions, v)
    states = [state]
    for _ in range(11):
        states.append(states[-1].moved(10 * state.velocity, state.velocity))
    cells = AtomCells((6, 14), 10.0, 8, 16, scales=(0.02, 0.01, 0.01), reading=0.1, dense=dense)
    net = SagesNet(cells, [Level(), Level(space=2, time=2), Level(space=2, time=2)])
    results = net.fit([Run(states)], options=TrainingOptions(epochs=2, patience=None))
    assert len(results) == 3
    for level in (1, 2):
        found = net.rollout(states, 8, level=level)
        assert found.steps[-1] == 8
        assert found.states[-1].batch == 1


def test_what_cells_do_not_know_is_named() -> None:
    net, state = _net(), _crystal()
    with pytest.raises(InvalidArgument, match="elements"):
        net.encode([replace(state, numbers=state.numbers + 1)])
    with pytest.raises(InvalidArgument, match="grids"):
        net.encode([state]) and net.cells.lattice([state, _crystal(slots=5)])
    with pytest.raises(InvalidArgument, match="not that of the state"):
        lonely = state.take(torch.arange(1))
        net.cells.encode(state, net.cells.lattice([lonely]))
    with pytest.raises(InvalidArgument, match="nothing to learn"):
        Scales.of([[state, state.moved(2.0 * state.velocity, state.velocity)]], 2.0)


@pytest.mark.parametrize(
    "wrong",
    [
        {"elements": ()},
        {"elements": (6, 6)},
        {"dt": 0.0},
        {"scales": (0.0, 1.0, 1.0)},
        {"noise": (0.1,)},
        {"limit": -1.0},
        {"channels": 0},
        {"slots": 0},
    ],
)
def test_wrong_settings_of_cells_are_named(wrong: dict[str, object]) -> None:
    with pytest.raises(InvalidArgument, match=next(iter(wrong))):
        AtomCells(**wrong)  # type: ignore[arg-type]
