"""Three scales end to end: trained, rolled out, counted, put in files; who belongs to whom."""

from pathlib import Path

import numpy as np
import pytest
import torch
from mlcore.sagesnet import (
    AtomCells,
    AtomGrid,
    AtomState,
    AutomatonCells,
    DenseLattice,
    Lattice,
    Level,
    LiftSchedule,
    Run,
    SagesNet,
)
from mlcore.sagesnet.automata.rules import CountRule, ElementaryRule, Rule
from mlcore.sagesnet.automata.soups import soups
from mlcore.sagesnet.conserved import fit_fluxes
from mlcore.sagesnet.fields import fields_of
from mlcore.training import TrainingOptions

Net = SagesNet[torch.Tensor]


def _run(seed: int, systems: int = 8, steps: int = 17) -> Run[torch.Tensor]:
    """Lone cells that all go one cell on in each step."""
    generator = torch.Generator().manual_seed(seed)
    state = (torch.rand((systems, 1, 1, 32), generator=generator) < 0.2).long()
    return Run([state.roll(t, 3) for t in range(steps)])


@pytest.fixture(scope="module")
def net() -> Net:
    torch.manual_seed(0)
    pairs = Level(space=(1, 1, 2), time=2, width=24, residual=False, lift_width=48)
    net: Net = SagesNet(AutomatonCells(channels=12), [Level(width=16), pairs, pairs])
    runs = [_run(seed) for seed in range(3)]
    options = TrainingOptions(epochs=30, learning_rate=1e-2, batch_size=4, patience=None)
    plan = LiftSchedule(steps=300, noise=0.1)
    assert len(net.fit(runs, options=options, schedule=plan)) == 3
    for level in (1, 2):
        options = TrainingOptions(epochs=20, learning_rate=1e-2, batch_size=4, patience=None)
        fit_fluxes(net, runs, level=level, options=options)
    return net


def test_all_three_levels_know_where_things_go(net: Net) -> None:
    """Eight steps of level 0, by 8, 4 and 2 steps; beside the cells as they were."""
    truth = _run(50, 12)
    live = float(truth.states[0].double().mean())
    for level in range(3):
        found = net.rollout(truth.states, 8, level=level)
        wrong = float((found.states[-1] != truth.states[8]).double().mean()) / (2 * live)
        still = float((truth.states[0] != truth.states[8]).double().mean()) / (2 * live)
        print(f"level {level}: {wrong:.3f} of what nothing known gives, still {still:.3f}")
        assert wrong <= (0.05 if level else 0.0)
        assert still > 0.5


def test_counts_of_both_coarse_levels_move_rightly_and_none_is_lost(net: Net) -> None:
    truth = _run(51, 12)
    for level, space in ((1, (1, 1, 2)), (2, (1, 1, 4))):
        found = net.rollout(truth.states, 8, level=level)
        for step, held in zip(found.steps, found.conserved, strict=True):
            true = fields_of(truth.states[step], [1]).pooled(space).counts
            assert torch.equal(held.counts.sum((1, 2, 3)), true.sum((1, 2, 3)))
        first, last = found.conserved[0].counts, found.conserved[-1].counts
        off, still = (float((x - true).double().square().mean()) for x in (last, first))
        print(f"level {level}: {off:.3f} beside {still:.3f} of counts as they were")
        assert off < 0.5 * still


@pytest.mark.parametrize("rule", [ElementaryRule(51), CountRule.of("4555")])
def test_what_is_made_of_a_state_is_read_back(rule: Rule) -> None:
    """Of rules that leave little as it was too: a vector stands for what is, not for what comes."""
    torch.manual_seed(0)
    extents = (1, 1, 32) if rule.dimensions == 1 else (6, 6, 6)
    states = rule.run(soups(extents, 4, density=(0.1, 0.6)), 1)
    net: Net = SagesNet(AutomatonCells(channels=8), [Level(width=8)])
    for _ in range(2):
        assert torch.equal(net.decode(net.encode([states[0]]))[0], states[0])
        options = TrainingOptions(epochs=60, learning_rate=2e-2, patience=None)
        net.fit([Run(states)], options=options)
    changed = (states[0] != states[1]).double().mean()
    assert float(changed) > 0.2


def test_three_scales_go_into_files(net: Net, tmp_path: Path) -> None:
    net.save(tmp_path / "net")
    again, frames = SagesNet.load(tmp_path / "net"), _run(52).states
    for level in range(3):
        ours, theirs = (one.rollout(frames, 8, level=level) for one in (net, again))
        assert torch.equal(ours.states[-1], theirs.states[-1])
        for a, b in zip(ours.conserved, theirs.conserved, strict=True):
            assert torch.equal(a.counts, b.counts)


def test_each_small_cell_is_in_exactly_one_large_one() -> None:
    """Numbers of cells of level 0, gathered in blocks of blocks, of a box and of occupied cells."""
    spaces = [(2, 1, 2), (1, 3, 2)]
    levels = [Level(), *(Level(space=space, time=2) for space in spaces)]
    automata: Net = SagesNet(AutomatonCells(channels=4), levels)
    rng = np.random.default_rng(0)
    grid = AtomGrid(((16.0, 0, 0), (0, 12.0, 0), (0, 0, 16.0)), (8, 6, 8))
    state = AtomState.from_arrays(grid, [6] * 20, rng.random((20, 3)) * [16, 12, 16])
    atoms: SagesNet[AtomState] = SagesNet(AtomCells((6,), channels=4), levels)
    boxes = automata.encode([torch.zeros((1, 8, 6, 8), dtype=torch.int64)] * 4, 2)
    for found in (boxes, atoms.encode([state] * 4, 2)):
        first = found.lattices[0]
        numbers = torch.arange(1.0, first.cells + 1).reshape(*_shape(first), 1)
        for lattice, space in zip(found.lattices, spaces, strict=False):
            numbers = lattice.blocks(numbers, space).flatten(-2)
        # what an occupied block has of empty cells is 0
        inside = numbers[numbers > 0]
        assert sorted(inside.tolist()) == list(range(1, first.cells + 1))
        assert numbers.shape[-1] == 24
        assert found.lattices[2].cells * 24 >= first.cells


def _shape(lattice: Lattice) -> tuple[int, ...]:
    return (1, *lattice.extents) if isinstance(lattice, DenseLattice) else (-1,)
