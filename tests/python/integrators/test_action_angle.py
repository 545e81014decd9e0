"""Orbits learned from runs of velocity Verlet, gone on with from five frames at four time units."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from mlcore import md
from mlcore.errors import Error, InvalidArgument
from mlcore.integrators import (
    ActionAngleIntegrator,
    PeriodicContinuation,
    VerletIntegrator,
    starts,
)

STEP = 4.0


def taught(
    name: str, x0: Any, harmonics: int, every: int = 10, truth: str = "verlet", **over: Any
) -> ActionAngleIntegrator:
    dt = 1e-3 if truth == "verlet" else 0.01
    run: dict[str, Any] = {"dt": dt, "time": 200.0, "every": every, "truth": truth}
    return ActionAngleIntegrator(harmonics).fit(md.sweep(name, {**over, "x0": x0}, **run))


def unseen(low: float, high: float, count: int, seed: int = 5) -> np.ndarray:
    return np.random.default_rng(seed).uniform(low, high, count)


def runs(name: str, x0: Any, time: float = 1e4, **over: Any) -> md.Dataset:
    return md.sweep(name, {**over, "x0": x0}, dt=1e-3, time=time, every=round(STEP / 1e-3))


def errors(model: Any, data: md.Dataset, frames: int = 5) -> np.ndarray:
    found = model.rollout(data.frames(slice(frames)), data.positions.shape[1] - frames)
    assert found.accepted.all(), found.refused
    return np.abs(found.positions - data.positions[:, frames:]).max((1, 2, 3))


@pytest.fixture(scope="module")
def double_well() -> ActionAngleIntegrator:
    return taught("double_well", starts(md.double_well(), 1.6, 3.05, 60), 128)


def test_double_well(double_well: ActionAngleIntegrator) -> None:
    """Bar 1e-5 for the worst of 20 unseen starts above the separatrix, to t = 1e4."""
    assert errors(double_well, runs("double_well", unseen(1.62, 3.03, 20))).max() < 1e-7


def test_inside_one_well() -> None:
    """Bar 1e-5."""
    model = taught("double_well", starts(md.double_well(), 0.09, 0.98, 60), 256)
    assert errors(model, runs("double_well", unseen(0.1, 0.97, 10))).max() < 1e-5


def test_lennard_jones() -> None:
    """Bar 1e-4."""
    model = taught(
        "fixed_lennard_jones", starts(md.fixed_lennard_jones(), 1.2, 2.9, 120), 1024, every=5
    )
    data = runs("fixed_lennard_jones", unseen(1.22, 2.88, 20))
    assert errors(model, data).max() < 1e-5
    far = model.rollout(runs("fixed_lennard_jones", [3.3], 40.0), 3)
    assert not far.accepted.any() and np.isnan(far.positions).all()


@pytest.mark.slow
def test_rugged_above_its_top_barrier() -> None:
    """Bar 1e-4 for the worst of 10 unseen starts, from at most 1000 training energies."""
    x0 = starts(md.rugged(), -6.08, -5.47, 900)
    data = md.sweep("rugged", {"x0": x0}, dt=1e-3, time=40, every=4)
    model = ActionAngleIntegrator(768).fit(data)
    assert errors(model, runs("rugged", unseen(-6.07, -5.48, 10))).max() < 1e-5
    inside = model.rollout(runs("rugged", [-3.0, 0.2], 40.0), 5)
    assert not inside.accepted.any()


def test_unseen_masses(double_well: ActionAngleIntegrator) -> None:
    """Bar 1e-4 for masses in [1, 10]."""
    x0 = starts(md.double_well(), 1.6, 3.05, 50)
    model = taught("double_well", x0, 128, mass=[1.0, 2.0, 4.0, 10.0])
    data = runs("double_well", unseen(1.62, 3.03, 3), mass=unseen(1, 10, 4))
    assert errors(model, data).max() < 1e-6
    heavy = double_well.rollout(data, 1)
    assert all("mass 1 to 1" in reason for reason in heavy.refused)


def test_oscillators_of_unseen_mass_and_stiffness() -> None:
    """Bar 1e-6 of the amplitude."""
    stiffness, mass = np.linspace(1, 10, 8), np.linspace(1, 10, 4)
    model = taught("oscillator", np.linspace(1, 10, 6), 16, k=stiffness, mass=mass)
    data = runs("oscillator", -unseen(1, 10, 3), k=unseen(1, 10, 3, 1), mass=unseen(1, 10, 2, 2))
    assert (errors(model, data) / np.abs(data.parameters["x0"])).max() < 1e-6


def test_each_well_is_a_chart_of_its_own() -> None:
    x0 = np.concatenate(
        [
            starts(md.double_well(), 1.37, 1.02, 40),
            starts(md.double_well(), -1.37, -1.02, 40),
            starts(md.double_well(), 1.6, 3.0, 40),
        ]
    )
    model = taught("double_well", x0, 192)
    assert [c.bounds.name for c in model.charts] == ["between - and 0", "between 0 and -", "over 0"]
    data = runs("double_well", [1.3, -1.2, 2.5, -2.0], 1000.0)
    assert errors(model, data).max() < 1e-6


def test_the_truth_is_chosen() -> None:
    """Taught by order 8, it follows the differential equation, which Verlet leaves."""
    model = taught("double_well", starts(md.double_well(), 1.6, 3.05, 60), 128, 1, "order8")
    exact = md.sweep("double_well", {"x0": [2.0, 2.7]}, dt=0.05, time=1e4, every=80, truth="order8")
    assert errors(model, exact).max() < 1e-6
    assert errors(model, runs("double_well", [2.0, 2.7])).max() > 1e-4


def test_refuses_what_it_was_not_taught(double_well: ActionAngleIntegrator) -> None:
    for x0 in (1.5, 1.42, 3.2, 0.7):  # too near the separatrix, too high, in a well
        found = double_well.rollout(runs("double_well", [x0], 40.0), 5)
        assert "no trained orbit passes" in found.refused[0] and np.isnan(found.positions).all()
    inside = runs("double_well", [2.0, 3.3], 40.0)
    found = double_well.rollout(inside, 5)
    assert found.accepted.tolist() == [True, False] and np.isfinite(found.positions[0]).all()
    with pytest.raises(InvalidArgument, match=r"run 1 of data .* unbound or too short"):
        taught("fixed_lennard_jones", [1.2, 1.0], 64)
    with pytest.raises(Error, match="harmonics"):
        taught("fixed_lennard_jones", [2.5, 2.6], 16)
    with pytest.raises(Error, match=r"over 0 are .* off where runs were left out"):
        taught("double_well", np.linspace(1.5, 3.0, 14), 64)
    with pytest.raises(InvalidArgument, match="is of rugged"):
        double_well.rollout(runs("rugged", [-6.0], 40.0), 5)
    with pytest.raises(InvalidArgument, match="at least 3 frames"):
        double_well.rollout(inside.frames(slice(2)), 5)
    with pytest.raises(Error, match="call fit first"):
        ActionAngleIntegrator().rollout(inside, 5)


def test_reads_nothing_after_the_window(double_well: ActionAngleIntegrator) -> None:
    data = runs("double_well", [2.0], 400.0)
    told = double_well.rollout(data.frames(slice(5)), 90).positions
    copy = data.frames(slice(5))
    np.testing.assert_array_equal(told, double_well.rollout(copy, 90).positions)
    gap = told[0, :, 0, 0] - data.positions[0, 5:95, 0, 0]
    assert np.ptp(gap) > 0  # not the truth plus one number


def test_any_time_and_step(double_well: ActionAngleIntegrator) -> None:
    data = runs("double_well", [2.0], 1e4)
    window = data.frames(slice(5))
    steps = double_well.rollout(window, 2496).positions[0, -1]
    at_once = double_well.motion(window).frames(4.0 * 2496)
    np.testing.assert_allclose(at_once.positions[0, 0], steps, atol=1e-12)
    slopes = double_well.rollout(window, 4000, 1e-3)
    rate = np.gradient(slopes.positions[0, :, 0, 0], 1e-3, edge_order=2)
    np.testing.assert_allclose(slopes.velocities[0, :, 0, 0], rate, atol=1e-4)


def test_periods_going_on() -> None:
    """Not learned, it needs a dense window, and is the number any result stands beside."""
    dense = md.sweep("double_well", {"x0": [2.0, 2.6]}, dt=1e-3, time=16, every=1)
    data = runs("double_well", [2.0, 2.6])
    found = PeriodicContinuation(256).rollout(dense, 2496, STEP)
    assert np.abs(found.positions - data.positions[:, 5:]).max() < 1e-6
    assert "holds no two periods" in PeriodicContinuation().rollout(data, 1).refused[0]


def test_small_steps() -> None:
    data = md.sweep("oscillator", {"k": [1.0, 3.0], "x0": [1.0, 2.0]}, dt=1e-2, time=8, every=100)
    found = VerletIntegrator(1e-2).rollout(data.frames(slice(3)), 6)
    np.testing.assert_allclose(found.positions, data.positions[:, 3:], atol=1e-12)
    np.testing.assert_allclose(found.velocities, data.velocities[:, 3:], atol=1e-12)
    with pytest.raises(InvalidArgument, match="whole number of steps"):
        VerletIntegrator(0.3).rollout(data, 1)


def test_starts() -> None:
    x0 = starts(md.double_well(), 1.6, 3.0, 20)
    assert (x0 > 1.6).all() and (x0 < 3.0).all() and len(np.unique(x0)) == 20
    with pytest.raises(InvalidArgument, match="not of one family"):
        starts(md.double_well(), 1.3, 2.0, 5)
    with pytest.raises(InvalidArgument, match="rise or fall"):
        starts(md.double_well(), 0.5, 1.3, 5)
    with pytest.raises(InvalidArgument, match="not bound"):
        starts(md.fixed_lennard_jones(), 1.05, 0.99, 5)
