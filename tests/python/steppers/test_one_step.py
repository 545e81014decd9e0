"""Learned steps against systems whose step is known."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import scipy.linalg
import torch
from mlcore import export
from mlcore.data import Trajectory
from mlcore.errors import Error, InvalidArgument
from mlcore.steppers import OneStep, RecurrentStep
from mlcore.training import TrainingOptions
from stopping import stopped_after

DT = 0.3


def chain_propagator(n: int) -> np.ndarray:
    bonds = np.diff(np.eye(n), axis=0)
    generator = np.block([[np.zeros((n, n)), np.eye(n)], [-bonds.T @ bonds, np.zeros((n, n))]])
    return np.asarray(scipy.linalg.expm(DT * generator))


def chain(n: int, steps: int, seed: int) -> Trajectory:
    state = [np.random.default_rng(seed).normal(size=(2 * n, 3))]
    for _ in range(steps):
        state.append(chain_propagator(n) @ state[-1])
    both = np.array(state)
    return Trajectory(DT * np.arange(steps + 1), both[:, :n], velocities=both[:, n:])


def drag(steps: int, seed: int, count: int = 30) -> Trajectory:
    """dv/dt = -|v| v: v(t) = v0 / (1 + |v0| t), x(t) = x0 + u0 log(1 + |v0| t)."""
    rng = np.random.default_rng(seed)
    v0, x0 = 2 * rng.normal(size=(count, 3)), rng.normal(size=(count, 3))
    t = 0.1 * np.arange(steps + 1)[:, None, None]
    speed = np.linalg.norm(v0, axis=1)[None, :, None]
    x = x0 + v0 / speed * np.log1p(speed * t)
    return Trajectory(t[:, 0, 0], x, velocities=v0 / (1 + speed * t))


def boxed(t: Trajectory) -> Trajectory:
    return dataclasses.replace(t, cell=50 * np.eye(3), pbc=np.ones(3, bool))


def harmonic(n: int = 4) -> OneStep:
    model = OneStep("configuration", ("x", "v"), hidden=())
    model.fit([chain(n, 40, seed) for seed in range(12)])
    return model


def test_harmonic_chain_is_exact() -> None:
    known = chain(4, 100, seed=99)
    found = harmonic().rollout(known.positions[0], known.velocities[0], 100)
    assert np.abs(found.positions - known.positions).max() < 1e-9
    assert found.times == pytest.approx(known.times)


def test_step_moves_with_the_configuration() -> None:
    model, known = harmonic(), chain(4, 2, seed=7)
    x, v = known.positions[0], known.velocities[0]
    near, far = model.step(x, v), model.step(x + 1000.0, v)
    assert far[0] - 1000.0 == pytest.approx(near[0], abs=1e-9)


def test_drag_that_is_not_linear_needs_the_network() -> None:
    data = [drag(20, seed) for seed in range(6)]
    linear = OneStep("atoms", ("v",), hidden=())
    learned = OneStep("atoms", ("v",), hidden=(32, 32))
    linear.fit(data)
    learned.fit(data, training=TrainingOptions(epochs=120, batch_size=128, learning_rate=1e-2))
    known = drag(20, seed=77)

    def error(model: OneStep) -> float:
        found = model.rollout(known.positions[0], known.velocities[0], 20).velocities
        return float(np.sqrt(((found - known.velocities) ** 2).mean()))

    assert error(learned) < 0.2 * error(linear)


def test_positions_of_atoms_are_seen_inside_the_cell() -> None:
    """dx = 0.02 sin(2 pi x / L): atoms that left the cell obey the same law."""
    length, steps = 2.0, 10
    x = [np.random.default_rng(0).uniform(-8, 8, (200, 3))]
    for _ in range(steps):
        x.append(x[-1] + 0.02 * np.sin(2 * np.pi * x[-1] / length))
    t = Trajectory(
        0.1 * np.arange(steps + 1), np.array(x), cell=length * np.eye(3), pbc=np.ones(3, bool)
    )
    model = OneStep("atoms", ("x",), hidden=(32, 32))
    model.fit(t, training=TrainingOptions(epochs=60, batch_size=64))
    inside = np.random.default_rng(1).uniform(0, length, (50, 3))
    moved, _ = model.step(inside, np.zeros((50, 3)))
    exact = 0.02 * np.sin(2 * np.pi * inside / length)
    assert np.sqrt(((moved - inside - exact) ** 2).mean()) < 0.002
    away, _ = model.step(inside + 3 * length, np.zeros((50, 3)))
    assert away - 3 * length == pytest.approx(moved, abs=1e-12)


def test_overdamped_relaxation_needs_no_velocities() -> None:
    """dx/dt = -K x about fixed places."""
    stiffness = np.array([[2.0, -1.0], [-1.0, 3.0]])
    propagator = scipy.linalg.expm(-0.1 * stiffness)
    rng = np.random.default_rng(0)

    def relaxation(steps: int) -> Trajectory:
        x = [rng.normal(size=(2, 3))]
        for _ in range(steps):
            x.append(propagator @ x[-1])
        return Trajectory(0.1 * np.arange(steps + 1), np.array(x))

    model = OneStep("configuration", ("x",), hidden=(), relative=False)
    model.fit([relaxation(20) for _ in range(4)])
    known = relaxation(20)
    found = model.rollout(known.positions[0], np.zeros((2, 3)), 20)
    assert np.abs(found.positions - known.positions).max() < 1e-10
    steps = np.diff(known.positions, axis=0) / 0.1
    assert np.abs(found.velocities[1:] - steps).max() < 1e-9


def test_small_units_do_not_look_constant() -> None:
    """Positions of 1e-10, velocities of 300: each column has a scale of its own."""
    t = drag(20, 0)
    tiny = dataclasses.replace(t, positions=1e-10 * t.positions, velocities=300 * t.velocities)
    plain, scaled = (OneStep("atoms", ("x", "v"), hidden=()) for _ in range(2))
    assert scaled.fit(tiny).best == pytest.approx(plain.fit(t).best, rel=1e-6)


def test_a_chain_in_a_cell_is_stepped_whole() -> None:
    """The harmonic chain, wrapped atom by atom into a cell it crosses, moves as it does in space."""
    cell = 30.0 * np.eye(3)
    pbc = np.ones(3, bool)
    runs = [dataclasses.replace(chain(4, 40, s), cell=cell, pbc=pbc) for s in range(12)]
    model = OneStep("configuration", ("x", "v"), hidden=())
    model.fit(runs)
    known = chain(4, 1, seed=99)
    shifted = known.positions[0] + np.array([[0, 0, 0], [30, 0, 0], [0, -30, 0], [0, 0, 60]])
    found, _ = model.step(shifted, known.velocities[0])
    assert found - shifted == pytest.approx(known.positions[1] - known.positions[0], abs=1e-9)


def test_a_checkpoint_of_another_network_is_refused(tmp_path: Path) -> None:
    options = TrainingOptions(epochs=2, batch_size=64, directory=tmp_path, checkpoint_every=1)
    OneStep("atoms", ("v",), hidden=(8,)).fit(drag(10, 0), training=options)
    again = dataclasses.replace(options, resume=True)
    with pytest.raises(Error, match="other settings"):
        OneStep("atoms", ("v",), hidden=(4, 4)).fit(drag(10, 0), training=again)


def test_training_goes_on_where_it_stopped(tmp_path: Path) -> None:
    def fitted(folder: str) -> tuple[OneStep, list[dict[str, float]]]:
        model = OneStep("atoms", ("v",), hidden=(8,))
        options = TrainingOptions(
            epochs=6, schedule="constant", batch_size=64, directory=tmp_path / folder,
            resume=True, checkpoint_every=1,
        )  # fmt: skip
        return model, model.fit(drag(10, 0), training=options).history

    whole, wanted = fitted("whole")
    with stopped_after(3):
        fitted("part")
    resumed, found = fitted("part")
    assert found == wanted and len(found) == 6
    x, v = np.random.default_rng(0).normal(size=(2, 5, 3))
    for got, want in zip(resumed.step(x, v), whole.step(x, v), strict=True):
        np.testing.assert_array_equal(got, want)


def test_training_is_shown_and_kept(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    few = TrainingOptions(epochs=2, batch_size=64)
    for model, more in (
        (OneStep("atoms", ("v",), hidden=(4,)), {}),
        (RecurrentStep(hidden=4), {"warm": 3}),
    ):
        folder = tmp_path / type(model).__name__
        first = model.fit(drag(80, 0), checkpoint=folder, progress=True, training=few, **more)
        assert "2/2" in capfd.readouterr().err
        assert (folder / "learning_curve.png").is_file()
        again = model.fit(drag(80, 0), checkpoint=folder, training=few, **more)
        assert again.history == first.history and capfd.readouterr().err == ""
        with pytest.raises(InvalidArgument, match="checkpoint must be None"):
            kept = dataclasses.replace(few, directory=folder)
            model.fit(drag(80, 0), checkpoint=folder, training=kept, **more)


@pytest.mark.parametrize("sees", ["atoms", "configuration"])
def test_bundles(sees: str, tmp_path: Path) -> None:
    if sees == "configuration":
        model = harmonic()
    else:
        model = OneStep("atoms", ("x", "v"), hidden=())
        model.fit(drag(10, 0))
    bundle = model.export(tmp_path / "bundle", units="lj")
    assert bundle.kind == "dynamics" and bundle.contract.timestep == model.dt
    export.verify(tmp_path / "bundle")
    (network,) = bundle.networks()
    x, v = np.random.default_rng(1).normal(size=(2, 4, 3))
    given = [torch.from_numpy(x), torch.from_numpy(v)]
    if sees == "configuration":
        given.append(torch.zeros(3, 3, dtype=torch.float64))
    dx, after = network(*given)
    wanted = model.step(x, v)
    assert x + dx.numpy() == pytest.approx(wanted[0], abs=1e-12)
    assert after.numpy() == pytest.approx(wanted[1], abs=1e-12)


def test_chain_cut_by_a_boundary_steps_the_same(tmp_path: Path) -> None:
    (network,) = harmonic().export(tmp_path / "bundle").networks()
    x, v = np.random.default_rng(1).normal(size=(2, 4, 3))
    cell = 12 * np.eye(3)
    shifted = x.copy()
    shifted[2:] += [12.0, -12.0, 0.0]
    steps = [network(*map(torch.from_numpy, (p, v, cell))) for p in (x, shifted)]
    assert steps[1][0].numpy() == pytest.approx(steps[0][0].numpy(), abs=1e-10)


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda: OneStep("group"), "sees"),  # type: ignore[arg-type]
        (lambda: OneStep("atoms", ("v", "x")), "inputs"),
        (lambda: OneStep("atoms", hidden=(0,)), "hidden"),
        (lambda: OneStep("atoms", hidden=8), "hidden must be widths"),  # type: ignore[arg-type]
        (lambda: OneStep("atoms", None), "inputs"),  # type: ignore[arg-type]
        (lambda: OneStep().fit([]), "data holds no trajectory"),
        (lambda: OneStep().fit("run.dump"), "data must be a Trajectory .* not 'r'"),  # type: ignore[arg-type]
        (lambda: OneStep().fit(None), "data must be a Trajectory .* not None"),  # type: ignore[arg-type]
        (lambda: OneStep().fit(drag(10, 0), validation=None), "validation"),  # type: ignore[arg-type]
        (lambda: OneStep().fit(drag(10, 0), validation=1.0), "validation"),
        (lambda: OneStep().fit(drag(1, 0)), "data"),
        (lambda: OneStep().fit(Trajectory(np.arange(9.0), np.zeros((9, 2, 3)))), "velocities"),
        (lambda: OneStep("configuration").fit([chain(3, 9, 0), chain(4, 9, 0)]), "data"),
        (lambda: OneStep().fit([drag(9, 0), boxed(drag(9, 1))]), "cells"),
        (lambda: harmonic().step(np.zeros((3, 3)), np.zeros((3, 3))), "x"),
        (lambda: harmonic().step("a", "b"), "x and v must be numbers"),  # type: ignore[arg-type]
        (
            lambda: harmonic().step(np.full((4, 3), np.nan), np.zeros((4, 3))),
            "x and v must be finite",
        ),
        (
            lambda: OneStep().fit(drag(10, 0), training={"epochs": 2}),
            "training must be TrainingOptions",
        ),  # type: ignore[arg-type]
        (lambda: harmonic().rollout(np.zeros((4, 3)), np.zeros((4, 3)), 0), "steps"),
    ],
)
def test_errors(make: object, named: str) -> None:
    with pytest.raises(InvalidArgument, match=named):
        make()  # type: ignore[operator]


def test_unfitted() -> None:
    with pytest.raises(Error, match="fit"):
        OneStep().step(np.zeros((1, 3)), np.zeros((1, 3)))
