"""LAMMPS runs of the pipeline: start configurations, inputs, equilibrium, the explicit solvent."""

import json
import threading
from pathlib import Path

import mlcore
import numpy as np
import pytest
from mlcore.data import read_trajectory
from mlcore.mobility import motion, simulate
from mlcore.mobility.config import Config, Cost, Interaction, Simulation
from mlcore.mobility.motion import Motion, equilibrium, observe, short_time
from mlcore.mobility.tensors import RPY

EXAMPLES = Path(__file__).parents[3] / "examples" / "colloids"
BOX = 24.0
RUN = Simulation(
    name="small",
    particles=12,
    box=BOX,
    time_step=0.5,
    duration=100.0,
    frame=1.0,
    runs=3,
    compare="theory",
    window=(0.0, 1.0),
    lags=[1.0, 4.0],
)


def configuration(interaction=None):
    return Config.model_validate(
        {
            "system": {"kBT": 1.0, "interaction": interaction},
            "data": {"active": {"files": "*", "lag": 1.0}},
            "estimate": {"edges": [1.0, 2.0]},
            "train": {"cutoff": 5.0},
        }
    )


def closest(x, box):
    i, j = np.triu_indices(len(x), 1)
    d = x[i] - x[j]
    return np.linalg.norm(d - box * np.round(d / box), axis=1).min()


def test_inserted_particles_keep_their_distance():
    x = simulate.insert_particles(40, BOX, 4.0, seed=1)
    assert closest(x, BOX) >= 4.0 and np.all((x >= 0) & (x < BOX))
    assert np.array_equal(x, simulate.insert_particles(40, BOX, 4.0, seed=1))
    with pytest.raises(mlcore.InvalidArgument, match="of 400 with gap 4 fit"):
        simulate.insert_particles(400, BOX, 4.0, seed=1)


def test_data_files_keep_every_digit(tmp_path):
    x = np.random.default_rng(0).uniform(-5, 40, (7, 3))
    simulate.write_data(tmp_path / "start.data", x, BOX)
    assert np.array_equal(read_trajectory(tmp_path / "start.data").positions[0], x % BOX)


def test_inputs_hold_the_physics():
    text = simulate.learned_input(RUN, Interaction(sigma=4.8), Path("/a b/model.xml"), 5)
    assert 'mlmod "/a b/model.xml" seed 5' in text and "run 200" in text and "timestep 0.5" in text
    assert f"lj/cut {2 ** (1 / 6) * 4.8!r}" in text and "custom 2 trajectory.dump" in text
    assert "pair_style zero" in simulate.learned_input(RUN, None, Path("x"), 5)


def test_equilibrium_has_the_pair_distribution_of_boltzmann(tmp_path):
    """Low density: pairs in a shell beyond the reach of the force are as in an ideal gas."""
    known = configuration({"sigma": 4.8, "epsilon": 1.0})
    found = equilibrium(tmp_path, RUN, known, seed=3)
    assert found.starts.shape == (3, 12, 3)
    assert all(closest(x, BOX) > 4.0 for x in found.starts)
    assert np.all(np.abs(found.static - [0.68, 0.74, 0.79]) < 0.06)
    frames = read_trajectory(tmp_path / "trajectory.dump").positions
    i, j = np.triu_indices(12, 1)
    d = frames[:, i] - frames[:, j]
    r = np.linalg.norm(d - BOX * np.round(d / BOX), axis=2)
    counts = [np.mean((r > a) & (r < b)) for a, b in ((3.0, 4.2), (4.9, 5.3), (5.6, 6.4), (9, 11))]
    ideal = [4 / 3 * np.pi * (b**3 - a**3) / BOX**3 for a, b in ((4.9, 5.3), (5.6, 6.4), (9, 11))]
    assert counts[0] < 1e-4
    assert np.allclose(np.array(counts[1:]) / ideal, [0.93, 1.06, 1.03], atol=0.08)


def test_without_interaction_equilibrium_is_an_ideal_gas(tmp_path):
    found = equilibrium(tmp_path, RUN, configuration(), seed=3)
    assert np.array_equal(found.static, np.ones(3)) and found.starts.shape == (3, 12, 3)


def test_short_time_diffusion_of_far_apart_particles_is_their_mobility():
    run = RUN.model_copy(update={"particles": 2, "box": 2000.0})
    x = np.array([[[0.0, 0, 0], [1000.0, 0, 0]]] * 4)
    value = short_time(RPY(1.0, 1.0), [x], run, np.ones(3))
    assert np.allclose(value, 1 / (6 * np.pi), rtol=0.01)


def test_motion_survives_json():
    rng = np.random.default_rng(0)
    runs = [rng.normal(size=(101, 12, 3)).cumsum(axis=0) * 0.1 for _ in range(2)]
    motion = observe(runs, 1.0, RUN, np.ones(3))
    again = Motion.from_json(json.loads(json.dumps(motion.to_json())))
    for part in ("displacement", "spectrum"):
        for name, value in vars(getattr(motion, part)).items():
            assert np.array_equal(value, getattr(getattr(again, part), name)), name


@pytest.mark.parametrize("threads", [1, 3])
def test_as_many_runs_are_made_at_once_as_there_are_threads(tmp_path, monkeypatch, threads):
    now, most, lock = 0, 0, threading.Lock()
    together = threading.Barrier(threads)

    def counted(*args, **named):
        nonlocal now, most
        with lock:
            now += 1
            most = max(most, now)
        together.wait(60)
        try:
            return simulate.run_lammps(*args, **named)
        finally:
            with lock:
                now -= 1

    monkeypatch.setattr(motion, "run_lammps", counted)
    mlcore.set_num_threads(threads)
    try:
        starts = np.random.default_rng(0).uniform(0, BOX, (3, 12, 3))
        with pytest.raises(mlcore.Error):  # there is no such model
            motion.run_learned(tmp_path, RUN, configuration(), tmp_path / "none.xml", starts, 1)
    finally:
        mlcore.set_num_threads(0)
    assert most == threads


def test_the_explicit_solvent_runs_and_its_time_is_measured(tmp_path):
    cost = Cost(script="in.solvent", particles=2, box=12, time_step=0.1, steps=20)
    timing = simulate.run_solvent(tmp_path, EXAMPLES / cost.script, cost, seed=1)
    assert timing.steps == 20 and 0 < timing.seconds < 30
    assert "SRD temperature" in timing.log.read_text()


def test_what_lammps_says_of_an_error_comes_through(tmp_path):
    with pytest.raises(mlcore.Error, match="ERROR: Unknown command: nonsense"):
        simulate.run_lammps(tmp_path, "nonsense\n", plugin=False)
    with pytest.raises(mlcore.Error, match="ran nothing"):
        simulate.run_lammps(tmp_path, "units lj\n", plugin=False)
