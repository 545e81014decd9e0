"""The LSTM integrator: what it computes, what it may see, what it refuses, and what it can do."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mlcore import md
from mlcore.errors import Error, FileFormatError, InvalidArgument
from mlcore.integrators import (
    LSTMIntegrator,
    MinMax,
    fingerprints,
    load,
    no_peeking,
    not_truth_plus_scalar,
)
from mlcore.integrators.metrics import separation
from mlcore.io.tensors import read_tensors, write_tensors
from mlcore.training import TrainingOptions

pytest.importorskip("torch")

S = 5
Array = np.ndarray


def wells(x0: Any, time: float = 40.0, every: int = 400, **over: Any) -> md.Dataset:
    return md.sweep("double_well", {"x0": x0, **over}, dt=1e-3, time=time, every=every)


def both_sides(count: int) -> Array:
    one = np.linspace(1.5, 3.1, count)
    return np.concatenate([one, -one])


FEW = TrainingOptions(epochs=1, batch_size=256)


@pytest.fixture(scope="module")
def taught() -> LSTMIntegrator:
    """A twentieth of the defaults' updates."""
    return LSTMIntegrator().fit(wells(both_sides(30)), epochs=32)


@pytest.fixture(scope="module")
def told() -> LSTMIntegrator:
    """Layers of two sizes, two intervals and two masses in one model, which knows both."""
    data = wells(both_sides(4), 20.0, 200, mass=[1.0, 2.0])
    model = LSTMIntegrator((7, 4), 3, condition=("interval", "mass"), dtype="float64", margin=1.0)
    return model.fit([data.stride(2), data.stride(5)], training=FEW)


# ------------------------------------------------------------------------------------ what it can do
def test_a_short_training(taught: LSTMIntegrator) -> None:
    """Both errors, side by side; `bench/integrators.py --only LSTM` holds those of a long one."""
    truth = wells([-2.0, 2.333, 2.81, -1.7], 20.0)
    forced = taught.teacher_forced(truth)
    own = taught.rollout(truth.frames(slice(S)), truth.positions.shape[1] - S)
    assert forced.accepted.all() and own.accepted.all()
    np.testing.assert_allclose(own.times, truth.times[S:] - truth.times[S - 1])
    one, all_ = (separation(f.positions, truth.positions[:, S:]) for f in (forced, own))
    moved = separation(truth.positions[:, S:], truth.positions[:, S - 1 : -1])
    assert one.mean() < 0.03 < 0.05 * moved.mean()
    assert all_[:, own.times <= 2].mean() < 0.15
    # with the truth at every step nothing grows; on its own it does
    late = own.times > 10
    assert one[:, late].mean() < 3 * one[:, ~late].mean()
    assert all_[:, late].mean() > 5 * one[:, late].mean()
    speeds = separation(forced.velocities, truth.velocities[:, S:])
    assert speeds.mean() < 0.1


def test_the_paper_net_of_sixteen_particles() -> None:
    data = md.sweep(
        "lennard_jones",
        {"seed": range(3)},
        fixed={"n": 16, "box": 6.7949, "epsilon": 2.0},
        dt=1e-3,
        time=1.0,
        every=100,
    )
    model = LSTMIntegrator(dropout=0.15, margin=np.inf).fit(data, training=FEW)
    assert model.parameter_count == 16_512 + 8_320 + 3_168 == 28_000
    found = model.rollout(data.frames(slice(S)), 20)
    assert found.positions.shape == (3, 20, 16, 3) and found.accepted.all()
    # not the truth plus one number per frame: coordinates err by numbers of their own
    error = (found.positions[:, :6] - data.positions[:, S:]).reshape(3, 6, 48)
    assert (error.std(-1) > 0.1 * np.abs(error).mean(-1)).all()
    gate = not_truth_plus_scalar(found.positions[:, :6], data.positions[:, S:])
    assert gate.held, gate
    with pytest.raises(InvalidArgument, match="must hold 16 particles in 3 dimensions, got"):
        model.rollout(
            md.sweep("lennard_jones", {"seed": [0]}, fixed={"n": 8}, dt=1e-3, time=0.5), 1
        )
    moved = md.sweep(
        "lennard_jones", {"seed": [0]}, fixed={"n": 16, "epsilon": 2.0}, dt=1e-3, time=0.5
    )
    assert "box of run 0 is none" in model.rollout(moved, 1, 0.1).refused[0]


def test_trains_on_any_system() -> None:
    starts = {"oscillator": [-3.0, -1.0], "fixed_lennard_jones": [1.5, 2.0], "rugged": [-6, 1.0]}
    for name, x0 in starts.items():
        data = md.sweep(name, {"x0": x0}, dt=1e-3, time=8, every=400)
        model = LSTMIntegrator((8, 8)).fit(data, training=FEW, validation=0)
        assert model.rollout(data.frames(slice(S)), 3).accepted.all()


# ---------------------------------------------------------------------------------- what it computes
def sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


def by_hand(tensors: dict[str, Array], rows: Array) -> Array:
    """The network on rows (S, inputs), in NumPy."""
    for k in range(2):
        weights, state = tensors[f"layer{k}.input"], tensors[f"layer{k}.state"]
        h = c = np.zeros(state.shape[1])
        seen = []
        for row in rows:
            i, f, g, o = np.split(weights @ row + state @ h + tensors[f"layer{k}.bias"], 4)
            c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
            h = sigmoid(o) * np.tanh(c)
            seen.append(h)
        rows = np.array(seen)
    return tensors["dense.weight"] @ rows[-1] + tensors["dense.bias"]


def test_roll_outs_by_hand(told: LSTMIntegrator, tmp_path: Path) -> None:
    """Windows in units of the ranges, with interval and mass, slid over its own predictions."""
    told.save(tmp_path / "lstm")
    tensors, _ = read_tensors(tmp_path / "lstm")
    assert told.parameter_count == sum(
        v.size for k, v in tensors.items() if k.startswith(("layer", "dense"))
    )
    scale = MinMax(tensors["low"], tensors["high"])
    known = MinMax(tensors["condition.low"], tensors["condition.high"])
    np.testing.assert_allclose([known.low, known.high], [[0.4, 1.0], [1.0, 2.0]])
    data = wells([2.2, -1.9], 20.0, 200, mass=[1.0, 1.5, 2.0])
    for interval, every in ((0.4, 2), (1.0, 5)):
        frames = data.stride(every)
        found = told.rollout(frames.frames(slice(3)), 7)
        forced = told.teacher_forced(frames)
        assert found.accepted.all() and forced.accepted.all()
        for run in range(len(data)):
            given = known.scaled([interval, data.masses[run, 0]])
            rows = np.concatenate(
                [frames.positions[run, ..., 0], frames.velocities[run, ..., 0]], 1
            )
            rows = scale.scaled(rows)
            window = list(rows[:3])
            for k in range(7):
                inputs = np.array([np.concatenate([row, given]) for row in window])
                window = [*window[1:], by_hand(tensors, inputs)]
                x, v = scale.restored(window[-1])
                assert found.positions[run, k, 0, 0] == pytest.approx(x, abs=1e-12)
                assert found.velocities[run, k, 0, 0] == pytest.approx(v, abs=1e-12)
            for k in (0, len(rows) - 4):
                inputs = np.array([np.concatenate([row, given]) for row in rows[k : k + 3]])
                x, v = scale.restored(by_hand(tensors, inputs))
                assert forced.positions[run, k, 0, 0] == pytest.approx(x, abs=1e-12)
                assert forced.velocities[run, k, 0, 0] == pytest.approx(v, abs=1e-12)


def test_what_is_told_matters(told: LSTMIntegrator) -> None:
    data = wells([2.0], 4.0, 400, mass=[1.0, 2.0])
    window = data.frames(slice(3))
    heavy = replace(window, masses=window.masses[::-1], parameters={})
    a, b = (told.rollout(w, 1).positions for w in (window, heavy))
    assert np.abs(a - b).min() > 1e-6


def test_windows_are_the_last_frames(told: LSTMIntegrator) -> None:
    """Windows may be longer and denser than needed."""
    data = wells([2.0, -2.5], 8.0, 200)
    long = told.rollout(data.frames(slice(11)), 4, 0.4)
    short = told.rollout(data.stride(2).frames(slice(3, 6)), 4)
    np.testing.assert_array_equal(long.positions, short.positions)
    np.testing.assert_allclose(long.times, [0.4, 0.8, 1.2, 1.6])
    one = told.step(data, 0.4)
    last = told.teacher_forced(data.stride(2))
    assert one.positions.shape == (2, 1, 1, 1) and last.positions.shape == (2, 18, 1, 1)


def test_positions_alone() -> None:
    data = wells(both_sides(3))
    model = LSTMIntegrator((8,), quantities=("positions",)).fit(data, training=FEW)
    found = model.rollout(data.frames(slice(S)), 3)
    assert np.isfinite(found.positions).all() and np.isnan(found.velocities).all()
    blind = replace(data.frames(slice(S)), velocities=np.ones((6, S, 1, 1)))
    np.testing.assert_array_equal(model.rollout(blind, 3).positions, found.positions)


# -------------------------------------------------------------------------------------- what it sees
def test_nothing_after_the_window_is_read(taught: LSTMIntegrator) -> None:
    data = wells([2.0, -2.4, 1.8])
    window = data.frames(slice(S))
    assert np.shares_memory(window.positions, data.positions)
    before = taught.rollout(window, 50)
    for array in (data.positions, data.velocities, data.potential, data.kinetic):
        array[:, S:] = np.nan
    after = taught.rollout(window, 50)
    np.testing.assert_array_equal(before.positions, after.positions)
    np.testing.assert_array_equal(before.velocities, after.velocities)
    gate = no_peeking(taught, wells([2.0, 1.8]), window=S, steps=20)
    assert gate.held, gate


def test_it_goes_on_from_its_own_frames(taught: LSTMIntegrator) -> None:
    """Twenty frames are ten frames and ten from those."""
    data = wells([2.0, -2.4])
    window = data.frames(slice(S))
    found = taught.rollout(window, 20)
    seen = replace(
        data.frames(slice(10)),
        positions=found.positions[:, :10],
        velocities=found.velocities[:, :10],
    )
    again = taught.rollout(seen, 10)
    np.testing.assert_allclose(again.positions, found.positions[:, 10:], rtol=0, atol=1e-4)


def test_errors_are_no_single_number(taught: LSTMIntegrator) -> None:
    """Of runs, whose coordinates stand for those of particles."""
    data = wells([2.0, -2.4, 1.8, 2.9])
    error = taught.rollout(data.frames(slice(S)), 90).positions - data.positions[:, S : S + 90]
    assert (error[..., 0, 0].std(0) > 0.1 * np.abs(error[..., 0, 0]).mean(0)).mean() > 0.9
    gate = not_truth_plus_scalar(error, np.zeros_like(error))
    assert gate.held, gate


def test_ranges_and_weights_know_nothing_of_runs_held_out() -> None:
    """Each run in turn is made extreme; those held out change nothing but the epoch chosen."""
    data = wells(both_sides(5))
    model = LSTMIntegrator((4,)).fit([data, data.stride(2)], training=FEW)
    assert model.trained_on == fingerprints(data)
    held_out = []
    for run in range(len(data)):
        positions = data.positions.copy()
        positions[run] *= 3.0
        other = LSTMIntegrator((4,)).fit(
            [d := replace(data, positions=positions), d.stride(2)], training=FEW
        )
        same = other.rollout(data.frames(slice(S)), 5)
        if np.array_equal(same.positions, model.rollout(data.frames(slice(S)), 5).positions):
            held_out.append(run)
    assert len(held_out) == 1


# ------------------------------------------------------------------------------------- what it refuses
def test_refuses_what_it_was_not_taught(taught: LSTMIntegrator, told: LSTMIntegrator) -> None:
    data = wells([2.0, 5.1], 8.0, 200)
    found = taught.rollout(data, 3, 0.4)
    assert found.accepted.tolist() == [True, False]
    assert "the window of run 1 leaves the ranges" in found.refused[1]
    assert np.isnan(found.positions[1]).all() and np.isfinite(found.positions[0]).all()
    assert np.isnan(taught.teacher_forced(data.stride(2)).positions[1]).all()
    for interval in (0.2, 0.8, 4.0):  # whatever frames there are
        found = taught.rollout(data, 3, interval)
        assert all("were not taught, only 0.4" in reason for reason in found.refused)
        assert np.isnan(found.positions).all() and found.positions.shape == (2, 3, 1, 1)
    assert "only 0.4, 1" in told.rollout(data, 1, 0.6).refused[0]
    assert not taught.teacher_forced(data).accepted.any()
    heavy = taught.rollout(wells([2.0], 8.0, mass=[1.0, 3.0]), 2)
    assert heavy.accepted.tolist() == [True, False]
    assert heavy.refused[1] == "mass of run 1 is 3, taught was 1 to 1"


def test_windows_that_cannot_be(taught: LSTMIntegrator) -> None:
    data = wells([2.0], 8.0, 200)
    with pytest.raises(InvalidArgument, match=r"must hold 5 frames 0.4 apart, got 8 frames 0.2"):
        taught.rollout(data.frames(slice(8)), 1, 0.4)
    with pytest.raises(InvalidArgument, match="hold no window of 5"):
        taught.teacher_forced(data.stride(2).frames(slice(5)))
    with pytest.raises(InvalidArgument, match="whole number of the window's 0.3"):
        taught.rollout(wells([2.0], 6.0, 300), 1, 0.4)
    with pytest.raises(InvalidArgument, match="is of rugged"):
        taught.rollout(md.sweep("rugged", {"x0": [1.0]}, dt=1e-3, time=2, every=400), 1)
    with pytest.raises(InvalidArgument, match="n must be at least 1"):
        taught.rollout(data, 0, 0.4)
    with pytest.raises(InvalidArgument, match="Dataset of some frames"):
        taught.rollout(data.positions, 1)  # type: ignore[arg-type]
    for call in (lambda m: m.rollout(data, 1), lambda m: m.save("x"), lambda m: m.parameter_count):
        with pytest.raises(Error, match="call fit first"):
            call(LSTMIntegrator())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"hidden": ()}, "hidden must be a list"),
        ({"hidden": (4, 0)}, "hidden must be at least 1"),
        ({"window": 0}, "window must be at least 1"),
        ({"quantities": ("velocities",)}, "quantities must be"),
        ({"condition": "mass"}, "condition must be a list"),
        ({"dropout": 1.0}, "dropout must lie"),
        ({"margin": -0.1}, "margin must not be negative"),
        ({"dtype": "float16"}, "dtype must be"),
        ({"seed": -1}, "seed must be"),
    ],
)
def test_wrong_arguments(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        LSTMIntegrator(**arguments)


def test_wrong_data() -> None:
    data, other = wells([2.0, 2.5]), md.sweep("rugged", {"x0": [1.0]}, dt=1e-3, time=4, every=400)
    small = LSTMIntegrator((4,))
    for given, message in (
        ([], "data must be a Dataset"),
        ("runs.h5", "data must be a Dataset"),
        ([data, data.positions], "data must be a Dataset"),
        ([data, other], "data must be of one system"),
        (data.frames(slice(5)), "hold no window"),
        (data[:1], "validation must be 0 where data hold one run"),
    ):
        with pytest.raises(InvalidArgument, match=message):
            small.fit(given, training=FEW)  # type: ignore[arg-type]
    for options, message in (
        ({"validation": 1.0}, "validation must lie"),
        ({"batch_size": 0}, "batch_size"),
        ({"seconds": -1.0}, "seconds"),
        ({"learning_rate": 0.0}, "learning_rate"),
    ):
        with pytest.raises(InvalidArgument, match=message):
            small.fit(data, **options)  # type: ignore[arg-type]
    with pytest.raises(
        InvalidArgument, match="condition holds 'k', but data tells only the numbers"
    ):
        LSTMIntegrator((4,), condition=("k",)).fit(data, training=FEW)
    mixed = md.sweep("lennard_jones", {"seed": [0]}, fixed={"n": 2}, dt=1e-3, time=0.05)
    mixed = replace(mixed, masses=np.array([[1.0, 2.0]]))
    with pytest.raises(InvalidArgument, match="'mass' differs between the particles"):
        LSTMIntegrator((4,), condition=("mass",)).fit(mixed, training=FEW, validation=0)


# ----------------------------------------------------------------------------------------- training
def test_training_stops_in_time_and_goes_on(tmp_path: Path) -> None:
    data = wells(both_sides(4))
    assert LSTMIntegrator((4,)).fit(data, seconds=0.5).training.seconds < 3  # type: ignore[union-attr]
    options = TrainingOptions(epochs=6, batch_size=64, checkpoint_every=1, schedule="constant")
    whole = LSTMIntegrator((4,), dropout=0.2).fit(data, training=options)
    half = replace(options, epochs=6, patience=100)
    folder = tmp_path / "run"
    LSTMIntegrator((4,), dropout=0.2).fit(data, training=half, checkpoint=folder)
    assert (folder / "metrics.jsonl").read_text().count("\n") == 6
    again = LSTMIntegrator((4,), dropout=0.2).fit(data, training=half, checkpoint=folder)
    window = data.frames(slice(S))
    np.testing.assert_array_equal(
        again.rollout(window, 3).positions, whole.rollout(window, 3).positions
    )
    with pytest.raises(Error, match="other settings or data"):
        LSTMIntegrator((4,)).fit(wells(both_sides(5)), training=half, checkpoint=folder)


# ------------------------------------------------------------------------------------------- files
def test_files(taught: LSTMIntegrator, told: LSTMIntegrator, tmp_path: Path) -> None:
    data = wells([2.0, -2.6], 8.0)
    for model in (taught, told, LSTMIntegrator((4,), margin=np.inf).fit(data, training=FEW)):
        model.save(tmp_path / "model.safetensors")
        found = load(tmp_path / "model.safetensors")
        assert isinstance(found, LSTMIntegrator) and repr(found) == repr(model)
        assert found.taught == model.taught and found.trained_on == model.trained_on
        assert found.margin == model.margin and found.dtype == model.dtype
        a, b = (m.rollout(data.frames(slice(S)), 9) for m in (found, model))
        np.testing.assert_array_equal(a.positions, b.positions)
        assert a.refused == b.refused


def test_damaged_files(told: LSTMIntegrator, tmp_path: Path) -> None:
    import json

    path = tmp_path / "model.safetensors"
    told.save(path)
    tensors, metadata = read_tensors(path)
    settings = json.loads(metadata["settings"])

    def refused(message: str, part: dict[str, Any] | None = None, **changes: Any) -> None:
        kept = {k: v for k, v in {**tensors, **(part or {})}.items() if v is not None}
        words = {**metadata, "settings": json.dumps({**settings, **changes})}
        write_tensors(path, kept, words)
        with pytest.raises(FileFormatError, match=message):
            LSTMIntegrator.load(path)

    refused("tensor 'layer1.bias' must be float64", {"layer1.bias": None})
    refused("tensor 'layer0.input' must be", {"layer0.input": tensors["layer0.input"][:, :-1]})
    refused("tensor 'dense.bias' must be", {"dense.bias": tensors["dense.bias"].astype("f4")})
    refused("tensor 'x' is none", {"x": np.zeros(1)})
    refused("'low' is above", {"low": tensors["high"] + 1})
    refused("hidden", hidden=[7, -4])
    refused("hidden", hidden="many")
    refused("window", window=0)
    refused("layer0.input", condition=["mass"], part={"condition.low": np.zeros(1),
            "condition.high": np.ones(1)})  # fmt: skip
    refused("dtype", dtype="float8")
    refused("taught", taught=None)
    refused("intervals", taught=settings["taught"] | {"intervals": ["a"]})
    refused("ranges", taught=settings["taught"] | {"ranges": {"mass": [1]}})
    refused("particles", taught=settings["taught"] | {"particles": 0})
    refused("trained_on", trained_on=3)
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(FileFormatError):
        LSTMIntegrator.load(path)
    with pytest.raises(FileFormatError):
        LSTMIntegrator.load(tmp_path / "absent")


@pytest.mark.parametrize("told", [{"quantities": 3}, {"condition": 3}, {"condition": "mass"}])
def test_lists_that_are_none(told: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgument, match=next(iter(told))):
        LSTMIntegrator(**told)


def test_no_passes_are_no_fit() -> None:
    with pytest.raises(InvalidArgument, match="epochs must be"):
        LSTMIntegrator((4,)).fit(wells([2.0, 2.5]), epochs=0)


def test_recorded_runs(tmp_path: Path) -> None:
    """Cells and types are no numbers: they must be those of the training."""
    fixed = {"n": 4, "box": 6.0}
    made = md.sweep("lennard_jones", {"seed": [0, 1, 2]}, fixed=fixed, dt=1e-3, time=1, every=100)
    told = {"n": 4, "cell": (6.0 * np.eye(3)).tolist(), "types": [0, 0, 1, 1]}
    data = replace(made, system="recorded", parameters={}, fixed=told, provenance={})
    LSTMIntegrator((4,), margin=np.inf).fit(data, training=FEW).save(tmp_path / "m.safetensors")
    model = LSTMIntegrator.load(tmp_path / "m.safetensors")
    window = data.frames(slice(5))
    assert model.rollout(window, 2).refused == ("",) * 3
    for name, value in (
        ("cell", (7.0 * np.eye(3)).tolist()),
        ("cell", None),
        ("types", [0, 1, 0, 1]),
    ):
        other = replace(window, fixed=told | {name: value})
        assert all(why.startswith(f"{name} of run") for why in model.rollout(other, 2).refused)


# ------------------------------------------------------------------------------------------ LAMMPS
def test_the_bundle_is_the_roll_out(told: LSTMIntegrator, tmp_path: Path) -> None:
    """Step by step as LAMMPS runs it, its memory beginning with zeros."""
    import torch

    data = wells([2.0], 8.0, 200, mass=[2.0])
    window = data.stride(2).frames(slice(3))
    bundle = told.export(tmp_path / "bundle", window)
    assert bundle.contract.timestep == pytest.approx(0.4) and bundle.engines == ("torchscript",)
    wanted = told.rollout(window, 12)
    (network,) = bundle.networks()
    x, v = torch.zeros(2, 1, 3, dtype=torch.float64)
    x[0, 0], v[0, 0] = window.positions[0, -1, 0, 0], window.velocities[0, -1, 0, 0]
    memory = torch.zeros(1, bundle.contract.memory, dtype=torch.float64)
    for k in range(12):
        dx, v, memory = network(x, v, torch.zeros(3, 3, dtype=torch.float64), memory)
        x = x + dx
        np.testing.assert_allclose(x[0, 0], wanted.positions[0, k, 0, 0], atol=1e-12)
        np.testing.assert_allclose(v[0, 0], wanted.velocities[0, k, 0, 0], atol=1e-12)
    assert not x[0, 1:].any() and not v[0, 1:].any()
    with pytest.raises(InvalidArgument, match="window must be of one run, got 2"):
        told.export(tmp_path / "b", wells([2.0, 2.1], 8.0))
    with pytest.raises(InvalidArgument, match="would be refused: steps of 0.8"):
        told.export(tmp_path / "b", wells([2.0], 8.0, 800))
    blind = LSTMIntegrator((4,), quantities=("positions",)).fit(wells([2.0, 2.5]), training=FEW)
    with pytest.raises(InvalidArgument, match="quantities must hold velocities"):
        blind.export(tmp_path / "b", wells([2.0], 8.0))
    shutil.rmtree(tmp_path / "bundle")
