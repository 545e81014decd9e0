"""What the large tells the small: pulses that come from further away than a fine cell can see."""

from pathlib import Path

import mlcore
import numpy as np
import pytest
import torch
from mlcore.errors import InvalidArgument
from mlcore.sagesnet import (
    ActiveLattice,
    AutomatonCells,
    DenseLattice,
    Level,
    LiftSchedule,
    Run,
    SagesNet,
)
from mlcore.sagesnet.feedback import Feedback, expected, fit_feedback, interpolated
from mlcore.training import TrainingOptions

SPEED = 4
"""Cells that a pulse moves in a step; a fine cell sees one cell far."""


def _run(seed: int, systems: int = 12, steps: int = 8) -> Run[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    state = (torch.rand((systems, 1, 1, 48), generator=generator) < 0.1).long()
    return Run([state.roll(SPEED * t, 3) for t in range(steps)])


@pytest.fixture(scope="module")
def net() -> SagesNet[torch.Tensor]:
    torch.manual_seed(0)
    levels = [
        Level(width=16),
        Level(space=(1, 1, 4), time=2, layers=2, width=32, residual=False, lift_width=64),
    ]
    net = SagesNet(AutomatonCells(channels=12), levels)
    runs = [_run(seed) for seed in range(4)]
    net.fit(runs, levels=[0], options=TrainingOptions(epochs=8, batch_size=7))
    net.fit(
        runs,
        levels=[1],
        options=TrainingOptions(epochs=80, batch_size=4),
        schedule=LiftSchedule(steps=350, noise=0.1),
    )
    options = TrainingOptions(epochs=30, batch_size=2, learning_rate=2e-2)
    fit_feedback(net, runs, options=options)
    return net


def _errors(net: SagesNet[torch.Tensor], feedback: bool, until: int) -> float:
    """Part of the live cells of rollouts of unseen systems that are wrong."""
    wrong, live = 0, 0
    for seed in range(50, 53):
        truth = _run(seed, steps=2 + until)
        states = net.rollout(truth.states[:2], until=until, feedback=feedback).states
        # without feedback a rollout starts from its first state
        start = 1 if feedback else 0
        for state, right in zip(states[1:], truth.states[start + 1 :], strict=False):
            wrong += int((state != right).sum())
            live += int(right.sum())
    return wrong / live


def test_pulses_from_beyond_what_a_cell_sees_are_known_from_the_larger_scale(
    net: SagesNet[torch.Tensor],
) -> None:
    assert net.predictors[0].reach < SPEED  # type: ignore[operator]
    without, with_it = _errors(net, False, 8), _errors(net, True, 8)
    assert with_it <= 0.5 * without


def test_the_future_changes_nothing(net: SagesNet[torch.Tensor]) -> None:
    """What a rollout says of a step is the same however far it goes on, and reads no later state."""
    frames = _run(60).states[:2]
    long = net.rollout(frames, until=6, feedback=True).states
    for until in range(1, 6):
        short = net.rollout(frames, until=until, feedback=True).states
        assert all(torch.equal(a, b) for a, b in zip(short, long, strict=False))
    # in training a window sees only those before it: a changed truth changes no prediction
    run = _run(61)
    coarse = expected(net, run.states[:2])
    other = Run([*run.states[:2], *(1 - state for state in run.states[2:])])
    assert torch.equal(coarse.h, expected(net, other.states[:2]).h)
    # the past does change what is expected
    assert not torch.equal(coarse.h, expected(net, _run(62).states[:2]).h)


def test_untrained_feedback_is_none(net: SagesNet[torch.Tensor]) -> None:
    torch.manual_seed(1)
    fresh = Feedback(12, (1, 1, 4), 2)
    states = _run(63).states
    fine = net.encode([states[1]])
    assert torch.equal(fresh(fine, expected(net, states[:2]), 1).h, fine.h)


def test_feedback_goes_into_files(net: SagesNet[torch.Tensor], tmp_path: Path) -> None:
    net.save(tmp_path / "net")
    again = SagesNet.load(tmp_path / "net")
    frames = _run(64).states[:2]
    ours, theirs = (one.rollout(frames, until=5, feedback=True).states for one in (net, again))
    assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


@pytest.mark.parametrize("k", [2, 3, 4, 5])
def test_interpolation_is_linear_between_the_middles_of_blocks(k: int) -> None:
    fine = DenseLattice((5 * k, 2 * k, k), "zero")
    coarse = torch.arange(5.0, dtype=torch.float64)[None, :, None, None, None]
    found = interpolated(coarse.expand(1, 5, 2, 1, 1), fine, (k, k, k))[0, :, 0, 0, 0]
    place = (torch.arange(5 * k) + 0.5) / k - 0.5
    inner = (place >= 0) & (place <= 4)
    assert torch.allclose(found[inner], place[inner].double())
    assert float(found.min()) >= 0
    assert float(found.max()) <= 4


def test_interpolation_is_torch_s_in_three_dimensions() -> None:
    torch.manual_seed(2)
    coarse = torch.randn(1, 4, 3, 5, 2, dtype=torch.float64)
    space = (2, 3, 4)
    fine = DenseLattice((8, 9, 20), "periodic")
    found = interpolated(coarse, fine, space).movedim(-1, 1)
    wanted = torch.nn.functional.interpolate(
        coarse.movedim(-1, 1), scale_factor=space, mode="trilinear"
    )
    inner = (slice(None), slice(None), slice(1, -1), slice(2, -2), slice(2, -2))
    assert torch.allclose(found[inner], wanted[inner])


def test_occupied_cells_of_a_full_box_are_told_what_the_box_is() -> None:
    torch.manual_seed(3)
    extents = (4, 4, 4)
    coarse = torch.randn(1, 2, 2, 2, 3)
    cells = np.argwhere(np.ones((1, *extents)))
    active = ActiveLattice(mlcore.ActiveSet(extents, cells))
    dense = interpolated(coarse, DenseLattice(extents), (2, 2, 2))
    few = interpolated(coarse.reshape(-1, 3), active, (2, 2, 2))
    assert torch.allclose(dense.reshape(-1, 3), few, atol=1e-6)


def test_wrong_feedback_is_named(net: SagesNet[torch.Tensor]) -> None:
    single = SagesNet(AutomatonCells(), [Level()])
    state = _run(0).states[0]
    with pytest.raises(InvalidArgument, match="above level 0"):
        fit_feedback(single, [_run(0)])
    with pytest.raises(InvalidArgument, match="knows none"):
        single.rollout([state, state], until=1, feedback=True)
    with pytest.raises(InvalidArgument, match="window before"):
        net.rollout(state, until=1, feedback=True)
    with pytest.raises(InvalidArgument, match="two windows"):
        fit_feedback(net, [Run([state, state])])
