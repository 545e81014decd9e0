"""What a later number depends on now: backward passes, differences and random probes agree."""

from dataclasses import replace

import pytest
import torch
from ase.build import bulk
from mlcore.errors import InvalidArgument
from mlcore.sagesnet import AtomGrid, AtomState, AutomatonCells, Grid, Level, Run, SagesNet
from mlcore.sagesnet.sensitivity import (
    differences,
    probed,
    probed_norm,
    sensitivity,
    training_weights,
    unrolled,
)
from mlcore.training import TrainingOptions


def _net() -> SagesNet[torch.Tensor]:
    torch.manual_seed(0)
    levels = [Level(width=6, residual=False), Level(space=2, time=2, width=6, residual=False)]
    net = SagesNet(AutomatonCells(channels=4), levels).double()
    for layer in net.predictors.modules():
        if isinstance(layer, torch.nn.Linear):
            torch.nn.init.normal_(layer.weight, std=0.7)
    return net


def _grid(net: SagesNet[torch.Tensor], level: int) -> Grid:
    generator = torch.Generator().manual_seed(1)
    frames = [torch.randint(2, (1, 8, 4, 4), generator=generator) for _ in range(net.span(level))]
    with torch.no_grad():
        return net.encode(frames, level)


@pytest.mark.parametrize(("level", "steps"), [(0, 1), (0, 3), (1, 4)])
def test_backward_passes_and_differences_agree(level: int, steps: int) -> None:
    net = _net()
    grid = _grid(net, level)
    later = unrolled(net, steps)

    def observable(h: torch.Tensor) -> torch.Tensor:
        return later(grid.of(h)).h[:, 0, 0, 0].square().sum()

    by_passes, by_steps = sensitivity(observable, grid.h), differences(observable, grid.h)
    assert by_passes.value == pytest.approx(by_steps.value, rel=1e-12)
    scale = float(by_passes.gradient.abs().max())
    assert scale > 0
    assert float((by_passes.gradient - by_steps.gradient).abs().max()) < 1e-5 * scale
    functional = torch.autograd.functional.jacobian(observable, grid.h)
    assert float((by_passes.gradient - functional).abs().max()) < 1e-12 * scale


def test_one_step_reaches_the_neighbours_and_no_further() -> None:
    net = _net()
    grid = _grid(net, 0)
    later = unrolled(net, 1)
    cells = sensitivity(lambda h: later(grid.of(h)).h[0, 4, 1, 1].sum(), grid.h).cells[0]
    near = torch.zeros(8, 4, 4, dtype=torch.bool)
    near[3:6, 0:3, 0:3] = True
    assert bool((cells[near] > 0).all())
    assert bool((cells[~near] == 0).all())


def test_only_the_cells_asked_for_are_moved() -> None:
    net = _net()
    grid = _grid(net, 0)
    later = unrolled(net, 1)
    whole = differences(lambda h: later(grid.of(h)).h.sum(), grid.h).gradient.reshape(-1, 4)
    some = differences(lambda h: later(grid.of(h)).h.sum(), grid.h, cells=[3, 77]).gradient
    assert torch.equal(some.reshape(-1, 4)[[3, 77]], whole[[3, 77]])
    assert int((some.reshape(-1, 4) != 0).any(dim=1).sum()) == 2


def test_random_probes_find_the_norms() -> None:
    net = _net()
    grid = _grid(net, 1)
    later = unrolled(net, 1)
    jacobian = torch.autograd.functional.jacobian(lambda h: later(grid.of(h)).h, grid.h)
    exact = jacobian.square().sum(dim=(0, 1, 2, 3, 4, -1)).sqrt()
    generator = torch.Generator().manual_seed(2)
    found = probed(lambda h: later(grid.of(h)).h, grid.h, probes=400, generator=generator)
    assert found.shape == exact.shape
    assert float((found / exact - 1).abs().max()) < 0.25
    assert float((found / exact - 1).abs().mean()) < 0.05

    def observable(h: torch.Tensor) -> torch.Tensor:
        return later(grid.of(h)).h.square().sum()

    whole = sensitivity(observable, grid.h).norm
    assert probed_norm(observable, grid.h, probes=600, generator=generator) == pytest.approx(
        whole, rel=0.2
    )


def test_contents_of_slots_may_be_asked_for_too() -> None:
    atoms = bulk("Ar", cubic=True, a=5.3)
    atoms.rattle(0.1, seed=1)
    state = AtomState.of(atoms, AtomGrid.over(atoms))
    place = state.offset.double()

    def spread(offset: torch.Tensor) -> torch.Tensor:
        moved = replace(state, offset=offset).moved(offset * 0.5, state.velocity)
        return moved.offset.square().sum()

    by_passes = sensitivity(spread, place)
    assert by_passes.cells.shape == (len(atoms),)
    by_steps = differences(spread, place)
    assert torch.allclose(by_passes.gradient, by_steps.gradient, rtol=1e-3, atol=1e-9)


def test_weights_have_mean_one_and_follow_the_sensitivity() -> None:
    cells = torch.tensor([[0.0, 1.0, 3.0, 0.0]])
    assert torch.equal(training_weights(cells, 0.0), torch.ones(1, 4))
    assert torch.allclose(training_weights(cells), cells)
    half = training_weights(cells, 0.5)
    assert torch.allclose(half, torch.tensor([[0.5, 1.0, 2.0, 0.5]]))
    assert torch.equal(training_weights(torch.zeros(3)), torch.ones(3))
    capped = training_weights(torch.tensor([0.0] * 99 + [1.0]), 1.0, most=10.0)
    assert float(capped.mean()) == pytest.approx(1)


def test_what_matters_more_is_learned_better() -> None:
    """A rule no net this small learns: errors fall where the number that is asked for depends."""
    generator = torch.Generator().manual_seed(4)
    states = [torch.randint(2, (4, 8, 4, 1), generator=generator) for _ in range(6)]

    def weighting(grid: Grid) -> torch.Tensor:
        there = torch.zeros(grid.h.shape[:-1])
        there[:, :2] = 1.0  # the observable reads these cells alone
        read = sensitivity(lambda h: (there[..., None] * h).sum(), grid.h)
        return training_weights(read.cells)

    def errors(weighted: bool) -> torch.Tensor:
        torch.manual_seed(5)
        net = SagesNet(AutomatonCells(channels=8), [Level(width=16)])
        options = TrainingOptions(epochs=120, batch_size=None)
        net.fit([Run(states)], options=options, weighting=weighting if weighted else None)
        with torch.no_grad():
            grids = [net.predict(net.encode([state])) for state in states[:-1]]
            found = [
                net.cells.errors(grid.h, grid.lattice, state, after)
                for grid, state, after in zip(grids, states, states[1:], strict=False)
            ]
        return torch.stack(found)[:, :, :2].mean()

    assert float(errors(True)) < 0.85 * float(errors(False))


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (lambda h: sensitivity(lambda x: x, h), "one number"),
        (lambda h: sensitivity(lambda x: torch.ones(()), h), "derivatives"),
        (lambda h: sensitivity(lambda x: (x > 0).sum(), h), "derivatives"),
        (lambda h: differences(lambda x: x.sum(), h, step=0.0), "step"),
        (lambda h: probed(lambda x: x, h, probes=0), "probes"),
        (lambda h: probed_norm(lambda x: x.sum(), h, probes=-1), "probes"),
        (lambda h: training_weights(-h), "cells"),
        (lambda h: training_weights(h, 2.0), "strength"),
        (lambda h: training_weights(h, 1.0, 0.5), "most"),
    ],
)
def test_wrong_questions_are_named(wrong, told: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(InvalidArgument, match=told):
        wrong(torch.ones(2, 3))
