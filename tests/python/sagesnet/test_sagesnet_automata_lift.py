"""Lifts trained more on what they represent badly, and together with the predictor above them."""

import copy

import torch
from mlcore.sagesnet import AutomatonCells, Level, LiftSchedule, Run, SagesNet
from mlcore.sagesnet.automata.rules import CountRule, ElementaryRule
from mlcore.sagesnet.automata.soups import soups
from mlcore.sagesnet.fit import block_errors, fit_level
from mlcore.training.options import TrainingOptions

Net = SagesNet[torch.Tensor]
LIFE = CountRule.of("B3/S23")


def _options(epochs: int) -> TrainingOptions:
    return TrainingOptions(epochs=epochs, learning_rate=1e-2, patience=None)


def _worst(hard: float) -> float:
    """95th percentile of the errors of blocks of Life, in soups that were not trained on."""
    torch.manual_seed(0)
    net: Net = SagesNet(
        AutomatonCells(2, 6),
        [Level(width=4), Level(width=4, space=(1, 2, 2), time=2, lift_width=32)],
    )
    run, fresh = (LIFE.run(soups((1, 32, 32), 4, density=0.1, seed=s), 3) for s in (0, 50))
    plan = LiftSchedule(steps=150, noise=0.02, prediction=0.0, hard=hard)
    fit_level(net, [Run(run)], 1, options=_options(150), schedule=plan)
    with torch.no_grad():
        grids = [net.encode([state]) for state in fresh[:2]]
        window, lattice = [grid.h for grid in grids], grids[0].lattice
        lift = net.lift(1)
        return float(block_errors(lift, lift(window, lattice), window, lattice).quantile(0.95))


def test_hard_blocks_get_better_in_the_same_training() -> None:
    assert _worst(1.0) <= 0.8 * _worst(0.0)


def _error(net: Net) -> float:
    """Of a coarse step, as part of the variance of codes."""
    states = ElementaryRule(128).run(soups((1, 1, 48), 32, density=(0.5, 0.9), seed=99), 2)
    with torch.no_grad():
        before, after = net.encode(states[:2], 1), net.encode([states[2]] * 2, 1)
        return float((net.predict(before).h - after.h).square().mean() / after.h.var())


def test_trained_together_a_lift_is_easier_to_predict_and_still_says_something() -> None:
    torch.manual_seed(0)
    pairs = Level(width=16, space=(1, 1, 2), time=2, frames=1, lift_width=16, residual=False)
    net: Net = SagesNet(AutomatonCells(2, 1), [Level(width=4), pairs])
    with torch.no_grad():
        net.cells.code.weight.copy_(torch.tensor([[-1.0], [1.0]]))  # type: ignore[operator]
    runs = [Run(ElementaryRule(128).run(soups((1, 1, 48), 32, density=(0.5, 0.9)), 2))]
    alone = LiftSchedule(steps=150, noise=0.5, prediction=0.0)
    fit_level(net, runs, 1, options=_options(150), schedule=alone)
    frozen, together = copy.deepcopy(net), copy.deepcopy(net)
    fit_level(frozen, runs, 1, options=_options(200), schedule=LiftSchedule(frozen=True))
    plan = LiftSchedule(steps=200, noise=0.5, prediction=4.0, begin=0.0)
    result = fit_level(together, runs, 1, options=_options(200), schedule=plan)
    assert _error(together) < 0.5 * _error(frozen)
    assert result.history[-1]["code_deviation"] > 0.3
    assert result.history[-1]["effective_rank"] > 0.5
