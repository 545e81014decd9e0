"""What is told of cells of automata is told of cells of atoms too, whose grids change as they move."""

import numpy as np
import pytest
import torch
from ase.build import graphene
from mlcore.sagesnet import AtomCells, AtomGrid, AtomState, Level, Run, SagesNet
from mlcore.sagesnet.confidence import confidence, fit_confidence
from mlcore.sagesnet.feedback import carried, fit_feedback
from mlcore.sagesnet.patterns import at_atoms, features
from mlcore.sagesnet.sensitivity import differences, sensitivity, unrolled
from mlcore.training import TrainingOptions

SHORT = TrainingOptions(epochs=2, batch_size=64)


@pytest.fixture(scope="module")
def net() -> SagesNet[AtomState]:
    torch.manual_seed(0)
    levels = [Level(width=8), Level(space=2, time=2, width=8)]
    net = SagesNet(AtomCells(channels=8, width=16), levels)
    for weight in net.parameters():
        if weight.dim() > 1:
            torch.nn.init.normal_(weight, std=0.2)
    return net


@pytest.fixture(scope="module")
def states(net: SagesNet[AtomState]) -> list[AtomState]:
    atoms = graphene(size=(4, 4, 1), vacuum=5)
    atoms.pbc = True
    atoms.set_velocities(np.random.default_rng(0).normal(size=(len(atoms), 3)))
    a, b, c = (tuple(row) for row in atoms.cell[:].tolist())
    state = AtomState.of(atoms, AtomGrid((a, b, c), (8, 8, 8)))
    states = net.rollout(state, until=7).states
    lattices = [net.cells.lattice([one]).cells for one in states]
    assert len(set(lattices)) > 1
    return states


@pytest.mark.parametrize(("level", "of"), [(0, "predictor"), (1, "predictor"), (1, "lift")])
def test_confidence_of_cells_of_atoms(
    net: SagesNet[AtomState], states: list[AtomState], level: int, of: str
) -> None:
    run = Run(states)
    fit_confidence(net, [run], [run], level=level, of=of, options=SHORT)  # type: ignore[arg-type]
    grid = net.encode(states[: net.span(level)], level)
    told = confidence(net, grid, of=of)  # type: ignore[arg-type]
    assert told.expected.shape == grid.h.shape[:-1]
    assert bool(torch.isfinite(told.expected).all())
    assert bool((told.expected > 0).any())
    column = at_atoms(told.expected, grid, states[0])
    assert column.shape == (len(states[0]),)


def test_feedback_keeps_all_atoms(net: SagesNet[AtomState], states: list[AtomState]) -> None:
    fit_feedback(net, [Run(states)], options=SHORT)
    assert bool(net.feedback["0"].value.weight.any())  # type: ignore[union-attr, operator]
    run = net.rollout(states[:2], until=5, feedback=True)
    for state in run.states:
        assert torch.equal(state.ids, states[0].ids)
        assert torch.equal(state.numbers, states[0].numbers)


def test_values_are_carried_to_the_same_cells_of_another_grid(
    net: SagesNet[AtomState], states: list[AtomState]
) -> None:
    one, other = (net.encode([state]) for state in (states[0], states[-1]))
    there = carried(one.h, one.lattice, other.lattice)
    assert there.shape == other.h.shape
    back = carried(there, other.lattice, one.lattice)
    kept = back.abs().sum(dim=-1) > 0
    assert torch.equal(back[kept], one.h[kept])
    assert int(kept.sum()) > 0


def test_windows_of_moving_atoms_have_features(
    net: SagesNet[AtomState], states: list[AtomState]
) -> None:
    window = [net.encode([state]) for state in states[:4]]
    seen = features(window)
    assert seen.shape == (window[0].h.shape[0], 3)
    assert bool(((seen >= 0) & (seen <= 1)).all())


def test_sensitivity_of_cells_of_atoms(net: SagesNet[AtomState], states: list[AtomState]) -> None:
    import copy

    exact = copy.deepcopy(net).double()
    grid = net.encode(states[:2], 1)
    grid = grid.of(grid.h.detach().double())
    later = unrolled(exact, 2)

    def observable(h: torch.Tensor) -> torch.Tensor:
        return later(grid.of(h)).h[0].square().sum()

    cells = [0, len(grid.h) - 1]
    by_passes, by_steps = (
        sensitivity(observable, grid.h),
        differences(observable, grid.h, cells=cells),
    )
    scale = float(by_passes.gradient.abs().max())
    assert scale > 0
    off = by_passes.gradient[cells] - by_steps.gradient[cells]
    assert float(off.abs().max()) < 1e-4 * scale
