"""Learned splittings: exact structure whatever is learned, and the double well at steps of 0.1 and 0.4."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import mlcore.integrators as integrators
import numpy as np
import pytest
from mlcore import md
from mlcore.errors import Error, FileFormatError, InvalidArgument
from mlcore.integrators.kick_series import KickSeries, Pairs, refined, unit
from mlcore.integrators.seen import seen
from mlcore.integrators.splitting import even, mirrored, palindrome
from mlcore.integrators.symplectic import SymplecticIntegrator
from mlcore.io.tensors import read_tensors, write_tensors

STARTS = np.concatenate([np.linspace(0.1, 3.1, 40), -np.linspace(0.13, 3.1, 40)])
UNSEEN = [-2.0, 2.5, 0.5, -1.2, 1.7, 3.0, 1.5, -0.9]
STEPS = (0.1, 0.4)


def runs(h: float, time: float, x0: Any = STARTS, dt: float = 1e-3, **over: Any) -> md.Dataset:
    truth = "verlet" if dt <= 1e-3 else "order8"
    return md.sweep(
        "double_well", {**over, "x0": x0}, dt=dt, time=time, every=round(h / dt), truth=truth
    )


@pytest.fixture(scope="module", params=STEPS)
def taught(request: pytest.FixtureRequest) -> tuple[SymplecticIntegrator, float]:
    h = request.param
    return SymplecticIntegrator().fit(runs(h, 100 * h)), h


@pytest.fixture(scope="module")
def small() -> SymplecticIntegrator:
    return SymplecticIntegrator(6, 12, seed=3).fit(runs(0.1, 5.0))


def turned(frames: integrators.Frames, window: md.Dataset) -> md.Dataset:
    """The last of the frames with velocities turned round."""
    return replace(
        window, positions=frames.positions[:, -1:], velocities=-frames.velocities[:, -1:]
    )


def random_kicks(kicks: int, orders: int = 2, seed: int = 0) -> KickSeries:
    rng = np.random.default_rng(seed)
    drifts = np.zeros((kicks // 2, orders + 1))
    drifts[:, 0] = even(kicks)
    forces = 0.02 * rng.normal(size=((kicks + 1) // 2, 6, orders + 1))
    return KickSeries(
        forces, drifts + 0.02 * rng.normal(size=drifts.shape), kicks, (-2.0, 3.0), (0.5, 1.5)
    )


# ------------------------------------------------------------------------------------------- bars
def test_unseen_starts(taught: tuple[SymplecticIntegrator, float]) -> None:
    """Bar 2e-2, stretch 1e-3, to t = 100; energies within 5 %. To t = 1000: bench/integrators.py."""
    model, h = taught
    data = runs(h, 400.0, UNSEEN)
    frames = model.rollout(data.frames(slice(1)), data.positions.shape[1] - 1)
    assert frames.accepted.all(), frames.refused
    error = np.abs(frames.positions - data.positions[:, 1:])[:, :, 0, 0]
    assert error[:, : round(100 / h)].max() < 1e-7
    assert error.max() < 1e-6
    x, v = frames.positions[:, :, 0, 0], frames.velocities[:, :, 0, 0]
    energy = v**2 / 2 + x**4 / 4 - x**2 / 2
    change = energy / data.energy[:, :1] - 1
    assert np.abs(change).max() < 1e-4
    assert np.abs(np.polyfit(frames.times, change.T, 1)[0] * 100).max() < 1e-7


def test_turns_round(taught: tuple[SymplecticIntegrator, float]) -> None:
    """Bar 1e-10 over 1000 steps forth and back."""
    model, h = taught
    window = runs(h, h, UNSEEN).frames(slice(1))
    there = model.rollout(window, 1000)
    back = model.rollout(turned(there, window), 1000)
    assert np.abs(back.positions[:, -1] - window.positions[:, -1]).max() < 1e-10
    assert np.abs(back.velocities[:, -1] + window.velocities[:, -1]).max() < 1e-10


def test_conserves_areas(taught: tuple[SymplecticIntegrator, float]) -> None:
    """Bar 1e-7, by finite differences."""
    model, _ = taught
    x, v = np.meshgrid(np.linspace(-2, 2, 9), np.linspace(-2, 2, 9))
    assert model.learned is not None
    after = model.learned.stepper(np.full(x.size, model.learned.steps[0]))
    defect = area_defect(lambda x, w: after(x, w)[:2], x.ravel(), v.ravel() * 0.1)
    assert defect < 1e-8


def area_defect(step: Any, x: np.ndarray, w: np.ndarray, d: float = 1e-5) -> float:
    columns = []
    for dx, dw in ((d, 0.0), (0.0, d)):
        after, before = np.array(step(x + dx, w + dw)), np.array(step(x - dx, w - dw))
        columns.append((after - before) / (2 * d))
    (a, c), (b, e) = columns
    return float(np.abs(a * e - b * c - 1).max())


# -------------------------------------------------------------------------------------- structure
@pytest.mark.parametrize("kicks", [1, 2, 3, 4, 7, 8])
def test_palindromes(kicks: int) -> None:
    free = np.random.default_rng(kicks).normal(size=(kicks // 2, 3))
    drifts = palindrome(list(free), kicks)
    assert len(drifts) == kicks + 1
    np.testing.assert_allclose(sum(drifts), 1, atol=1e-14)
    for a, b in zip(drifts, reversed(drifts), strict=True):
        np.testing.assert_array_equal(a, b)
    stages = [mirrored(k, kicks) for k in range(kicks)]
    assert stages == stages[::-1] and set(stages) == set(range((kicks + 1) // 2))
    np.testing.assert_allclose(
        palindrome(even(kicks), kicks), [0.5 / kicks, *[1 / kicks] * (kicks - 1), 0.5 / kicks]
    )
    with pytest.raises(ValueError, match="free"):
        palindrome([*free, 0], kicks)


@pytest.mark.parametrize("kicks", [1, 2, 5, 6])
def test_structure_does_not_depend_on_learning(kicks: int) -> None:
    rng = np.random.default_rng(1)
    x, w, s = rng.uniform(-1, 2, 20), rng.uniform(-0.1, 0.1, 20), rng.uniform(0.5, 1.5, 20)
    after = random_kicks(kicks).stepper(s)
    y, z = x, w
    for _ in range(5):
        y, z, visited = after(y, z)
        assert visited.shape == (kicks, 20)
    z = -z
    for _ in range(5):
        y, z, _ = after(y, z)
    np.testing.assert_allclose([y, -z], [x, w], atol=1e-9)
    assert area_defect(lambda x, w: after(x, w)[:2], x, w) < 1e-8


@pytest.mark.parametrize("kicks", [1, 2, 5, 6])
def test_derivatives(kicks: int) -> None:
    rng = np.random.default_rng(2)
    x, w, s = rng.uniform(-1, 2, 7), rng.uniform(-0.3, 0.3, 7), rng.uniform(0.5, 1.5, 7)
    map_ = random_kicks(kicks)
    y, z, dy, dz, visited = map_.tangents(x, w, s)
    expected = map_.stepper(s)(x, w)
    for a, b in zip((y, z, visited), expected, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-14)
    start = map_.parameters
    for k in range(len(start)):
        d = 1e-6 * np.eye(len(start))[k]
        more, less = (map_.of(start + sign * d).stepper(s)(x, w) for sign in (1, -1))
        np.testing.assert_allclose(dy[k], (more[0] - less[0]) / 2e-6, atol=1e-8)
        np.testing.assert_allclose(dz[k], (more[1] - less[1]) / 2e-6, atol=1e-8)


def test_series() -> None:
    """Forces are the series that NumPy knows."""
    map_ = replace(random_kicks(1), drifts=np.zeros((0, 3)))
    x, w, s = np.array([0.3, -1.2]), np.array([0.1, 0.2]), np.array([0.7, 1.4])
    moved = x + 0.5 * w
    cheb = np.polynomial.chebyshev
    force = cheb.chebval2d(unit(moved, -2, 3), unit(s, 0.5, 1.5), map_.forces[0])
    y, z, visited = map_.stepper(s)(x, w)
    np.testing.assert_allclose(z, w + s * force, rtol=1e-14)
    np.testing.assert_allclose(y, moved + 0.5 * z, rtol=1e-14)
    np.testing.assert_array_equal(visited, moved[None])


def test_a_splitting_is_found_again() -> None:
    """Pairs made by a splitting are fitted by one to rounding."""
    rng = np.random.default_rng(4)
    x, w, s = rng.uniform(-1, 2, 900), rng.uniform(-0.3, 0.3, 900), rng.uniform(0.5, 1.5, 900)
    told = random_kicks(3, 1)
    y, z, _ = told.stepper(s)(x, w)
    begin = told.of(told.parameters * (1 + 0.05 * rng.normal(size=told.parameters.size)))
    calls: list[tuple[int, int]] = []
    found, reach = refined(begin, Pairs(x, w, s, y, z), 40, lambda *a: calls.append(a))
    assert calls[-1] == (40, 40)
    after = found.stepper(s)(x, w)
    np.testing.assert_allclose(after[:2], [y, z], atol=1e-11)
    assert reach == (after[2].min(), after[2].max())


# --------------------------------------------------------------------------------- steps and masses
def test_several_steps_and_masses() -> None:
    """One model; masses and a step that it was not taught."""
    masses, x0 = np.geomspace(1, 6, 5), STARTS[3::4]
    parts = [runs(h, 20 * h, x0, 0.01, mass=masses) for h in (0.1, 0.2)]
    model = SymplecticIntegrator(6, 14, 2, pairs=3000, iterations=40).fit(parts)
    for h in (0.1, 0.15, 0.2):
        data = runs(h, 30.0, UNSEEN, 0.01, mass=[1.3, 4.0])
        frames = model.rollout(data.frames(slice(1)), data.positions.shape[1] - 1)
        assert frames.accepted.all(), frames.refused
        assert np.abs(frames.positions - data.positions[:, 1:]).max() < 1e-4
    heavy = runs(0.1, 1.0, [2.0], 0.01, mass=[30.0])
    assert "h^2 / m must be" in model.rollout(heavy.frames(slice(1)), 1).refused[0]


def test_intervals_are_whole_steps(small: SymplecticIntegrator) -> None:
    window = runs(0.1, 0.1, UNSEEN[:3])
    fine, coarse = small.rollout(window, 12), small.rollout(window, 4, 0.3)
    np.testing.assert_allclose(coarse.positions, fine.positions[:, 2::3], atol=1e-13)
    np.testing.assert_allclose(coarse.velocities, fine.velocities[:, 2::3], atol=1e-13)
    np.testing.assert_allclose(coarse.times, [0.3, 0.6, 0.9, 1.2])
    refused = small.rollout(window, 2, 0.25)
    assert not refused.accepted.any() and np.isnan(refused.positions).all()
    assert "no whole number of learned steps makes 0.25" in refused.refused[0]


def test_two_steps_without_anything_between() -> None:
    model = SymplecticIntegrator(6, 12).fit([runs(0.1, 3.0), runs(0.2, 6.0)])
    window = runs(0.1, 0.1, [2.0])
    assert model.rollout(window, 2, 0.2).accepted.all()
    assert not model.rollout(window, 2, 0.15).accepted.any()


# ---------------------------------------------------------------------------------------- honesty
def test_what_was_not_taught_is_refused(small: SymplecticIntegrator) -> None:
    window = runs(0.1, 0.2, [2.0, 3.3, -5.0])
    frames = small.rollout(window, 4)
    assert list(frames.accepted) == [True, False, False]
    assert (
        "outside the positions and energies" in frames.refused[1]
        and np.isnan(frames.positions[1:]).all()
    )
    fast = replace(window, velocities=window.velocities + 9.0)[:1]
    assert "outside the positions and energies" in small.step(fast).refused[0]
    with pytest.raises(InvalidArgument, match="of oscillator"):
        small.step(md.sweep("oscillator", {"x0": [1.0]}, dt=1e-3, time=0.1, every=100))


def test_a_run_that_leaves_the_range_is_lost(small: SymplecticIntegrator) -> None:
    assert small.learned is not None
    broken = SymplecticIntegrator(6, 12).fit(runs(0.1, 5.0))
    assert broken.learned is not None
    broken.learned = broken.learned.of(broken.learned.parameters * 1.02)  # other drifts and forces
    broken._reach = -2.0, 2.0
    frames = broken.rollout(runs(0.1, 0.1, [1.0, 2.5]).frames(slice(1)), 50)
    assert frames.refused[0] == "" and "leaves the learned range" in frames.refused[1]
    assert np.isfinite(frames.positions[0]).all() and np.isnan(frames.positions[1]).all()


def test_reads_the_last_frame_alone(small: SymplecticIntegrator) -> None:
    window = runs(0.1, 1.0, UNSEEN)
    frames = small.rollout(window, 5)
    last = window.frames(slice(10, None))
    other = replace(
        last, potential=np.zeros_like(last.potential), kinetic=np.zeros_like(last.kinetic)
    )
    np.testing.assert_array_equal(frames.positions, small.rollout(other, 5).positions)


def test_learns_from_frames_alone(small: SymplecticIntegrator) -> None:
    """The same from data without energies, and again; another seed is another choice."""
    data = runs(0.1, 5.0)
    blind = replace(data, potential=0 * data.potential, kinetic=0 * data.kinetic)
    calls: list[tuple[int, int]] = []
    again = SymplecticIntegrator(6, 12, seed=3).fit(blind, progress=lambda *a: calls.append(a))
    assert calls[0] == (0, 100) and calls[-1] == (100, 100)
    assert again.learned is not None and small.learned is not None
    np.testing.assert_array_equal(again.learned.parameters, small.learned.parameters)
    other = SymplecticIntegrator(6, 12, seed=4).fit(data)
    assert other.learned is not None
    assert (other.learned.parameters != small.learned.parameters).any()
    assert seen(small, runs(0.1, 0.1, [2.0, STARTS[0]])).tolist() == [False, True]


def test_bad_data() -> None:
    two = runs(0.1, 3.0, [-1.2, -0.9, 0.9, 1.2])
    with pytest.raises(InvalidArgument, match="unvisited"):
        SymplecticIntegrator().fit(two)
    stiff = md.sweep("oscillator", {"k": [1.0, 2.0], "x0": [1.0]}, dt=1e-3, time=3, every=100)
    with pytest.raises(InvalidArgument, match="several values of k"):
        SymplecticIntegrator().fit(stiff)
    with pytest.raises(InvalidArgument, match="one system"):
        SymplecticIntegrator().fit([stiff[:1], runs(0.1, 3.0)])
    with pytest.raises(InvalidArgument, match="2 frames"):
        SymplecticIntegrator().fit(two.frames(slice(1)))
    for wrong in ([], [3]):
        with pytest.raises(InvalidArgument, match="data"):
            SymplecticIntegrator().fit(wrong)  # type: ignore[arg-type]
    with pytest.raises(Error, match="more runs"):
        SymplecticIntegrator(1, 4).fit(runs(0.4, 8.0))
    with pytest.raises(Error, match="call fit first"):
        SymplecticIntegrator().step(two)
    for name in ("kicks", "degree", "orders", "pairs", "iterations", "seed"):
        with pytest.raises(InvalidArgument, match=name):
            SymplecticIntegrator(**{name: -1})


# ------------------------------------------------------------------------------------------ files
def test_comes_back_to_the_bit(small: SymplecticIntegrator, tmp_path: Path) -> None:
    small.save(tmp_path / "m.safetensors")
    again = integrators.load(tmp_path / "m.safetensors")
    assert isinstance(again, SymplecticIntegrator) and repr(again) == repr(small)
    window = runs(0.1, 0.2, [*UNSEEN, 4.0])
    a, b = small.rollout(window, 7), again.rollout(window, 7)
    assert a.refused == b.refused
    np.testing.assert_array_equal(a.positions, b.positions)
    assert again.trained_on == small.trained_on and len(again.trained_on) == 80
    with pytest.raises(Error, match="call fit first"):
        SymplecticIntegrator().save(tmp_path / "n.safetensors")
    assert not (tmp_path / "n.safetensors").exists()


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"kicks": 7}, "forces"),
        ({"kicks": "6"}, "kicks"),
        ({"degree": 13}, "forces"),
        ({"tolerance": 0}, "tolerance"),
        ({"system": "pendulum"}, "system"),
        ({"system": "lennard_jones", "fixed": {"n": 2}}, "dimension"),
        ({"fixed": {"depth": 1}}, "depth"),
        ({"error": None}, "error"),
        ({"drifts": np.zeros((4, 1))}, "drifts"),
        ({"span": np.array([1.0, 1.0])}, "span"),
        ({"energies": np.zeros(3)}, "energies"),
        ({"reach": np.array([1.0, -1.0])}, "reach"),
        ({"steps": np.zeros(1)}, "steps"),
        ({"steps": np.zeros(0)}, "steps"),
        ({"potential": np.zeros(2)}, "potential"),
        ({"forces": np.zeros((3, 13, 0)), "drifts": np.zeros((3, 0))}, "forces"),
    ],
)
def test_damaged_files(
    small: SymplecticIntegrator, tmp_path: Path, changes: dict[str, Any], named: str
) -> None:
    path = tmp_path / "m.safetensors"
    small.save(path)
    tensors, metadata = read_tensors(path)
    settings = json.loads(metadata["settings"])
    for name, value in changes.items():
        (tensors if name in tensors else settings)[name] = value
    write_tensors(path, tensors, {**metadata, "settings": json.dumps(settings)})
    with pytest.raises(FileFormatError, match=named):
        SymplecticIntegrator.load(path)


def test_data_without_motion_or_none() -> None:
    rest = md.sweep("oscillator", {"x0": [0.0]}, dt=1e-3, time=1, every=10)
    with pytest.raises(InvalidArgument, match="data must move"):
        SymplecticIntegrator(kicks=2, degree=4).fit(rest)
    for wrong in (None, 3, []):
        with pytest.raises(InvalidArgument, match="data must be a Dataset"):
            SymplecticIntegrator().fit(wrong)  # type: ignore[arg-type]


def test_a_default_that_is_told_is_the_same_system(tmp_path: Path) -> None:
    x0 = np.linspace(0.1, 1, 15)
    run: dict[str, Any] = {"dt": 1e-3, "time": 8.0, "every": 400}
    learned = SymplecticIntegrator(kicks=6, degree=8).fit(md.sweep("oscillator", {"x0": x0}, **run))
    told = md.sweep("oscillator", {"x0": [0.5]}, fixed={"k": 1.0}, **run)
    learned.save(tmp_path / "m.safetensors")
    for model in (learned, integrators.load(tmp_path / "m.safetensors")):
        assert model.rollout(told.frames(slice(1)), 3).refused == ("",)
    other = md.sweep("oscillator", {"x0": [0.5], "k": [2.0]}, **run)
    with pytest.raises(InvalidArgument, match="'k': 2.0"):
        learned.rollout(other.frames(slice(1)), 3)
