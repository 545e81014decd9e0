"""A step with a memory, learned, exported and run by LAMMPS: the same walk as in Python."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from lammps_case import Array, Case
from mlcore.data import Trajectory
from mlcore.steppers import RecurrentStep
from mlcore.training import TrainingOptions
from test_native_force import DUMP, box, head, lattice

ALL = DUMP.replace("custom 20", "custom 1")
BOX = 3.6


def motion(x: Array, frames: int, seed: int) -> Trajectory:
    """Each atom on an ellipse through its place."""
    u, w = np.random.default_rng(seed).normal(size=(2, *x.shape))
    t = 0.2 * np.arange(frames)[:, None, None]
    places = x + 0.3 * (u * np.sin(t) + w * (np.cos(t) - 1))
    speeds = 0.3 * (u * np.cos(t) - w * np.sin(t)) * 100
    return Trajectory(
        0.002 * np.arange(frames), places, velocities=speeds, cell=BOX * np.eye(3),
        pbc=np.ones(3, bool), types=1 + np.arange(len(x)) % 2,
    )  # fmt: skip


def learned(folder: Path, sees: str, relative: bool, x: Array, compiled: bool) -> RecurrentStep:
    model = RecurrentStep(sees, ("x", "v", "types", "time"), 6, 2, relative)  # type: ignore[arg-type]
    options = TrainingOptions(epochs=4, batch_size=16)
    model.fit([motion(x, 30, s) for s in range(3)], stretch=15, warm=5, training=options)
    model.export(folder, compiled=compiled)
    return model


@pytest.mark.parametrize(
    ("sees", "relative", "engines"),
    [
        ("atoms", False, {"native": 3, "torchscript": 1, "compiled": 2}),
        ("configuration", False, {"native": 2}),
        ("configuration", True, {"torchscript": 2}),
    ],
)
def test_the_walk_is_that_of_python(
    case: Case, sees: str, relative: bool, engines: dict[str, int]
) -> None:
    x = lattice(2)
    types = [1 + i % 2 for i in range(8)]
    v = np.random.default_rng(5).normal(size=x.shape)
    case.atoms(x, box(BOX), types=types, v=v)
    model = learned(case.folder / "step", sees, relative, x, "compiled" in engines)
    wanted = model.rollout(x, v, 25, types=types)
    assert wanted.velocities is not None
    for engine, ranks in engines.items():
        script = head() + ALL + f"fix m all mlcore dynamics step engine {engine}\nrun 25\n"
        case.ok(script, ranks)
        frames = np.array(case.dump())
        np.testing.assert_allclose(frames[:, :, 1:4], wanted.positions, rtol=0, atol=1e-10)
        np.testing.assert_allclose(frames[:, :, 4:7], wanted.velocities, rtol=0, atol=1e-10)
