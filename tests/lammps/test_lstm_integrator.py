"""LSTM integrators exported with a window, run by LAMMPS: the roll-out of Python, its history kept."""

from __future__ import annotations

import numpy as np
import pytest
from lammps_case import Case
from mlcore import md
from mlcore.integrators import LSTMIntegrator
from mlcore.training import TrainingOptions
from test_native_force import DUMP, fails, head

ALL = DUMP.replace("custom 20", "custom 1")
RUN = "timestep {}\nfix m all mlcore dynamics step\n"


def test_one_dimension(case: Case) -> None:
    """A particle in a double well, along x in a box that does not repeat."""
    data = md.sweep("double_well", {"x0": [2.0, -2.5, 2.8]}, dt=1e-3, time=40, every=400)
    options = TrainingOptions(epochs=40, batch_size=64)
    model = LSTMIntegrator((16, 16), dtype="float64").fit(data, training=options, validation=0)
    window = data[1].frames(slice(5))
    wanted = model.rollout(window, 30)
    model.export(case.folder / "step", window)
    x, v = np.zeros((2, 1, 3))
    x[0, 0], v[0, 0] = window.positions[0, -1, 0, 0], window.velocities[0, -1, 0, 0]
    case.atoms(x, (-20, 20) * 3, v=v)
    case.ok(head(boundary="f f f") + ALL + RUN.format(0.4) + "run 30\n")
    found = np.array(case.dump())[1:, 0]
    np.testing.assert_allclose(found[:, 1], wanted.positions[0, :, 0, 0], rtol=0, atol=1e-11)
    np.testing.assert_allclose(found[:, 4], wanted.velocities[0, :, 0, 0], rtol=0, atol=1e-11)
    assert not found[:, [2, 3, 5, 6]].any()
    fails(case, head(boundary="f f f") + RUN.format(0.2) + "run 1\n", "timestep")


@pytest.mark.parametrize("ranks", [1, 2])
def test_particles_in_a_periodic_cube(case: Case, ranks: int) -> None:
    """They leave the cube and come back; a restart file carries the frames before it."""
    edge, n = 4.0, 8
    data = md.sweep(
        "lennard_jones",
        {"seed": [0, 1, 2], "temperature": [2.0]},
        fixed={"n": n, "box": edge},
        dt=1e-3,
        time=3.0,
        every=50,
    )
    options = TrainingOptions(epochs=30, batch_size=32)
    model = LSTMIntegrator((16, 12), 3, dtype="float64", margin=np.inf)
    model.fit(data, training=options, validation=0)
    window = data[2].frames(slice(20, 23))
    wanted = model.rollout(window, 40)
    model.export(case.folder / "step", window)
    x, v = window.positions[0, -1], window.velocities[0, -1]
    folded = x - edge * np.floor(x / edge + 0.5)
    assert np.abs(wanted.positions - x).max() > 0.5 and (folded != x).any()
    case.atoms(folded, (-edge / 2, edge / 2) * 3, v=v)
    start = head() + ALL + RUN.format(0.05)
    case.ok(start + "run 15\nwrite_restart half\nrun 25\n", ranks)

    def check(first: int) -> None:
        frames = np.array(case.dump())[1:]
        truth = wanted.positions[0, first:] - (x - folded)
        away = frames[:, :, 1:4] - truth
        away -= edge * np.round(away / edge)
        np.testing.assert_allclose(away, 0.0, rtol=0, atol=1e-9)
        np.testing.assert_allclose(frames[:, :, 4:7], wanted.velocities[0, first:], atol=1e-9)

    check(0)
    case.ok(start.replace("read_data atoms.data", "read_restart half") + "run 25\n", 3 - ranks)
    check(15)
