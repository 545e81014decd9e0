"""Windows, ranges, splits and the paper's speed-up."""

from __future__ import annotations

import numpy as np
import pytest
from mlcore import md
from mlcore.errors import InvalidArgument
from mlcore.integrators import MinMax, break_even_force, net_speedup, windows


@pytest.fixture(scope="module")
def data() -> md.Dataset:
    over = {"mass": [1.0, 2.0], "x0": [-1.0, 0.5, 2.0]}
    return md.sweep("oscillator", over, dt=1e-2, time=12, every=1)


@pytest.mark.parametrize(("stride", "length"), [(1, 5), (40, 5), (100, 1), (400, 3)])
def test_counts_and_places(data: md.Dataset, stride: int, length: int) -> None:
    kept = data.stride(stride)
    frames = kept.positions.shape[1]
    if frames <= length:
        with pytest.raises(InvalidArgument, match="hold no window"):
            windows(kept, length)
        return
    found = windows(kept, length)
    assert len(found) == 6 * (frames - length)
    assert found.inputs.shape == (len(found), length, 2)
    assert found.interval == pytest.approx(1e-2 * stride)
    m, run = len(found) - 1, 5
    assert found.runs[m] == run
    np.testing.assert_array_equal(
        found.inputs[m, :, 0], kept.positions[run, -1 - length : -1, 0, 0]
    )
    np.testing.assert_array_equal(
        found.inputs[m, :, 1], kept.velocities[run, -1 - length : -1, 0, 0]
    )
    np.testing.assert_array_equal(
        found.targets[m], [kept.positions[run, -1, 0, 0], kept.velocities[run, -1, 0, 0]]
    )
    np.testing.assert_array_equal(
        found.inputs[1 : frames - length, -1], found.targets[: frames - length - 1]
    )


def test_every_other_window(data: md.Dataset) -> None:
    one, two = windows(data.stride(40), 5), windows(data.stride(40), 5, stride=2)
    np.testing.assert_array_equal(two.targets[:13], one.targets[:26:2])
    np.testing.assert_array_equal(two.inputs[:13], one.inputs[:26:2])


def test_particles_of_a_frame_in_order() -> None:
    data = md.sweep("lennard_jones", {"seed": [0, 1]}, fixed={"n": 4}, dt=1e-3, time=0.02)
    found = windows(data, 2, ("velocities",))
    np.testing.assert_array_equal(found.targets[0], data.velocities[0, 2].reshape(-1))
    assert windows(data, 2).inputs.shape[-1] == 24


def test_ranges_are_those_of_training_runs(data: md.Dataset) -> None:
    train, held_out = data.split(0.7, seed=1)
    keys = [set(zip(*d.parameters.values(), strict=True)) for d in (train, held_out)]
    assert not keys[0] & keys[1]
    seen, unseen = windows(train.stride(40)), windows(held_out.stride(40))
    scale = MinMax.of(seen)
    unit = scale.scaled(seen.inputs)
    assert unit.min() == 0 and unit.max() == pytest.approx(1)
    for part in (seen, unseen):
        np.testing.assert_allclose(
            scale.restored(scale.scaled(part.targets)), part.targets, atol=1e-12
        )
    still = MinMax(np.array([2.0]), np.array([2.0]))
    assert still.scaled([2.0]) == 0 and still.restored([0.0]) == 2.0


def test_samples_are_split_only_by_name(data: md.Dataset) -> None:
    found = windows(data.stride(40))
    train, test = found.split_samples(0.8)
    assert len(train) + len(test) == len(found) and set(train.runs) == set(test.runs)
    for fraction in (0, 1, -1):
        with pytest.raises(InvalidArgument, match="fraction"):
            found.split_samples(fraction)


@pytest.mark.parametrize(
    ("told", "message"),
    [
        ({"length": 0}, "length must be at least 1"),
        ({"stride": 0}, "stride must be at least 1"),
        ({"quantities": ("forces",)}, "quantities must be some of"),
        ({"quantities": ()}, "quantities must be some of"),
    ],
)
def test_wrong_windows(data: md.Dataset, told: dict[str, object], message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        windows(data, **told)  # type: ignore[arg-type]


def test_the_speed_up_of_the_paper() -> None:
    """Its timings of 16 particles, 0.04392 s and 0.0026 s, and a window of 5 frames."""
    told = {"steps": 1e9, "dt": 1e-3}
    assert net_speedup(0.04392, 0.0026, interval=0.1, **told) == pytest.approx(1688, abs=1)
    assert net_speedup(0.04392, 0.0026, interval=4.0, **told) == pytest.approx(32468, abs=1)
    # one compiled step takes 0.8 us: nothing is left of it
    assert net_speedup(0.8e-6, 0.0026, interval=4.0, **told) == pytest.approx(1.2, abs=0.1)
    assert break_even_force(0.65e-3, 10) == pytest.approx(65e-6)
    with pytest.raises(InvalidArgument, match="more than the run's"):
        net_speedup(1.0, 1.0, steps=100, interval=1.0, dt=1e-3)
