"""The level below as the source of data: level 1 learned from what level 0 says, beside the truth."""

import copy
from itertools import pairwise

import pytest
import torch
from mlcore.errors import InvalidArgument
from mlcore.sagesnet import AutomatonCells, Level, LiftSchedule, Run, SagesNet
from mlcore.sagesnet.automata.rules import CountRule
from mlcore.sagesnet.automata.soups import soups
from mlcore.training import TrainingOptions

Net = SagesNet[torch.Tensor]
RULE = CountRule.majority(2)
PAIRS = Level(width=24, space=(1, 2, 2), time=2, lift_width=32, residual=False)


def _states(seed: int, systems: int = 6) -> list[torch.Tensor]:
    return RULE.run(soups((1, 16, 16), systems, density=(0.3, 0.7), seed=seed), 8)


def _options(epochs: int, rate: float) -> TrainingOptions:
    return TrainingOptions(epochs=epochs, learning_rate=rate, batch_size=2, patience=None)


def _level_0(epochs: int, true: list[Run[torch.Tensor]]) -> Net:
    torch.manual_seed(1)
    net: Net = SagesNet(AutomatonCells(2, 8), [Level(width=8), PAIRS])
    net.fit(true, levels=[0], options=_options(epochs, 5e-3))
    return net


def _wrong(net: Net, runs: list[Run[torch.Tensor]]) -> float:
    """Part of cells that are wrong after a coarse step, with level 1 trained on these runs."""
    net = copy.deepcopy(net)
    torch.manual_seed(5)
    plan = LiftSchedule(steps=200, noise=0.2, begin=0.2)
    net.fit(runs, levels=[1], options=_options(36, 1e-2), schedule=plan)
    states, wrong = _states(91, 12), []
    with torch.no_grad():
        for t in (0, 2, 4):
            found = net.decode(net.predict(net.encode(states[t : t + 2], 1)))
            truth = states[t + 2 : t + 4]
            wrong += [(a != b).float().mean() for a, b in zip(found, truth, strict=True)]
    return float(torch.stack(wrong).mean())


def test_data_of_a_trained_level_are_nearly_as_good_as_true_ones() -> None:
    true = [Run(_states(seed)) for seed in range(2)]
    starts = [run.states[0] for run in true]
    good, poor = _level_0(5, true), _level_0(3, true)
    errs = [
        float(
            torch.stack(
                [(net.step(a) != b).float().mean() for a, b in pairwise(_states(90))]
            ).mean()
        )
        for net in (good, poor)
    ]
    # neither is exact, else data would be the same
    assert 0 < errs[0] < 0.01 and errs[1] > 0.05
    by_truth = _wrong(good, true)
    by_level, by_poor = (
        _wrong(good, good.generated(starts, 8)),
        _wrong(poor, poor.generated(starts, 8)),
    )
    print(f"level 0 errs {errs}; level 1: {by_truth:.4f}, {by_level:.4f}, {by_poor:.4f}")
    assert by_level <= 1.2 * by_truth
    # what a level that knows little tells is worth little
    assert by_poor > 1.5 * by_truth


def test_generated_runs_are_rollouts() -> None:
    torch.manual_seed(0)
    net: Net = SagesNet(AutomatonCells(2, 4), [Level()], environment=["pressure"])
    torch.nn.init.normal_(net.predictors[0].layers[0].update.weight)  # type: ignore[union-attr, arg-type]
    starts = [soups((1, 4, 6), 2, seed=seed) for seed in range(3)]
    around = torch.tensor([[0.5], [1.0]])
    made = net.generated(starts, 4, around)
    for start, run in zip(starts, made, strict=True):
        told = net.rollout(start, 4, environment=around).states
        assert len(run.states) == 5 and run.environment is around
        assert all(torch.equal(a, b) for a, b in zip(run.states, told, strict=True))
    with pytest.raises(InvalidArgument, match="until"):
        net.generated(starts, -1, around)
