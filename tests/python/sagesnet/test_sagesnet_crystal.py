"""A hot sheet of graphene by LAMMPS: learned steps are better than constant velocity.

What is asked here is little: seconds of training on frames of 60 atoms. Bars of accuracy are those
of bench/.
"""

from collections.abc import Callable
from itertools import pairwise

import pytest
import torch
from mlcore.sagesnet import AtomCells, AtomState, Level, Run, SagesNet, Scales
from mlcore.training import TrainingOptions

STEP = 10.0


@pytest.fixture(scope="module")
def runs(tersoff: Callable[..., list[list[AtomState]]]) -> list[list[AtomState]]:
    """Frames 10 fs apart of four runs at 300 K."""
    return tersoff(range(11, 15), 600, True)


def _parts(net: SagesNet[AtomState], run: list[AtomState]) -> tuple[float, float]:
    """Errors of velocities and of places a step later, in parts of those of constant velocity."""
    sums = torch.zeros(4, dtype=torch.float64)
    for now, later in pairwise(run):
        after = net.step(now)
        straight = now.displacement(later) - STEP * now.velocity
        errors = (
            after.velocity - later.velocity,
            now.velocity - later.velocity,
            after.displacement(later),
            straight,
        )
        sums += torch.stack([e.double().square().sum() for e in errors]).detach()
    fast, base, place, straight_ = sums.sqrt().tolist()
    return fast / base, place / straight_


def test_steps_of_graphene_are_learned(runs: list[list[AtomState]]) -> None:
    *known, unseen = runs
    torch.manual_seed(0)
    scales = Scales.of(known, STEP)
    net = SagesNet(AtomCells((6,), STEP, scales=scales, shift=True), [Level()])
    assert _parts(net, unseen[:11]) == pytest.approx((1.0, 1.0), abs=1e-4)
    options = TrainingOptions(epochs=15, learning_rate=5e-3, batch_size=8, patience=None)
    net.fit([Run(run) for run in known], options=options)
    velocity, place = _parts(net, unseen)
    print(f"of constant velocity: {velocity:.3f} of velocities, {place:.3f} of places")
    assert velocity < 0.75
    assert place < 0.9
    rollout = net.rollout(unseen[0], 20)
    growth = [found.apart(true)[0] for found, true in zip(rollout.states, unseen, strict=False)]
    print("A after each step:", " ".join(f"{far:.2f}" for far in growth))
    assert growth[0] == 0.0 and growth[1] < growth[5]
    straight = unseen[0].moved(5 * STEP * unseen[0].velocity, unseen[0].velocity)
    assert growth[5] < straight.apart(unseen[5])[0]
