"""Learned splittings on a double well: structure, and errors from unseen starts against Verlet at 1e-3."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
from bars import Measured
from mlcore import md
from mlcore.integrators.symplectic import SymplecticIntegrator

SIDE = np.linspace(0.1, 3.1, 60)
STARTS = np.concatenate([SIDE, -SIDE - 0.01])
UNSEEN = np.array([-2.0, 2.5, 0.5, -1.2, 1.7, 3.0, 1.5, -0.9, 1.43, -1.39])
MASSES = np.array([1.0, 1.5, 2.0, 3.0, 5.0, 10.0])


def runs(x0: np.ndarray, h: float, end: float, **over: np.ndarray) -> md.Dataset:
    return md.sweep("double_well", {**over, "x0": x0}, dt=1e-3, time=end, every=round(h / 1e-3))


def exact(x0: np.ndarray, h: float, end: float, mass: np.ndarray) -> md.Dataset:
    """By order 8, whose runs depend on steps and masses through h^2 / m alone."""
    over = {"mass": mass, "x0": x0}
    return md.sweep("double_well", over, dt=0.01, time=end, every=round(h / 0.01), truth="order8")


def bars_at(h: float, kicks: int = 10) -> Callable[[], Iterator[Measured]]:
    """Learned from 120 runs of 100 steps each."""

    def measured() -> Iterator[Measured]:
        data = runs(STARTS, h, 100 * h)
        start = time.process_time()
        learned = SymplecticIntegrator(kicks).fit(data)
        yield Measured("fit, CPU s", time.process_time() - start, most=180)
        yield Measured("one step, runs left out, of the range", learned.error)
        yield from errors(learned, runs(UNSEEN, h, 1000.0))
        yield from structure(learned, runs(UNSEEN, h, h).frames(slice(1)))

    return measured


def errors(learned: SymplecticIntegrator, truth: md.Dataset) -> Iterator[Measured]:
    window, n = truth.frames(slice(1)), truth.positions.shape[1] - 1
    start = time.process_time()
    frames = learned.rollout(window, n)
    took = time.process_time() - start
    assert frames.accepted.all(), frames.refused
    off = np.abs(frames.positions - truth.positions[:, 1:])[:, :, 0, 0]
    early = off[:, frames.times <= 100 + 1e-9].max(1)
    yield Measured("x0 = -2, largest error, t <= 100", early[0], most=2e-2)
    yield Measured("the same, stretch", early[0], most=1e-3)
    yield Measured(f"{len(truth)} unseen starts, worst, t <= 100", early.max(), most=2e-2)
    yield Measured(f"{len(truth)} unseen starts, median, t <= 1000", float(np.median(off.max(1))))
    yield Measured(f"{len(truth)} unseen starts, worst, t <= 1000", off.max())
    x, v = frames.positions[:, :, 0, 0], frames.velocities[:, :, 0, 0]
    energy = v**2 / 2 + x**4 / 4 - x**2 / 2
    change = energy / truth.energy[:, :1] - 1
    drift = np.abs(np.polyfit(frames.times, change.T, 1)[0]).max() * 100
    yield Measured("energy, largest relative change, t <= 1000", np.abs(change).max(), most=0.05)
    yield Measured("energy, fitted drift in 100 time units", drift, most=1e-4)
    yield Measured("roll-out, us for a frame of a run", took / x.size * 1e6)


def structure(learned: SymplecticIntegrator, window: md.Dataset) -> Iterator[Measured]:
    there = learned.rollout(window, 1000)
    turned = replace(
        window, positions=there.positions[:, -1:], velocities=-there.velocities[:, -1:]
    )
    back = learned.rollout(turned, 1000)
    off = np.abs(back.positions[:, -1] - window.positions[:, -1]).max()
    yield Measured("1000 steps forth and back", off, most=1e-10)
    x, v = (a.ravel() for a in np.meshgrid(np.linspace(-2.5, 2.5, 21), np.linspace(-2, 2, 21)))
    yield Measured("areas, finite differences", defect(learned, window, x, v), most=1e-7)


def defect(
    learned: SymplecticIntegrator, window: md.Dataset, x: np.ndarray, v: np.ndarray
) -> float:
    """Largest distance from 1 of the determinant of a step's derivative."""
    d = 1e-5
    columns = [
        (stepped(learned, window, x + dx, v + dv) - stepped(learned, window, x - dx, v - dv))
        / (2 * d)
        for dx, dv in ((d, 0.0), (0.0, d))
    ]
    (a, b), (c, e) = columns
    return float(np.abs(a * e - b * c - 1).max())


def stepped(
    learned: SymplecticIntegrator, window: md.Dataset, x: np.ndarray, v: np.ndarray
) -> np.ndarray:
    shape = (len(x), 1, 1, 1)
    rows = window[np.zeros(len(x), dtype=int)]
    frames = learned.step(replace(rows, positions=x.reshape(shape), velocities=v.reshape(shape)))
    assert frames.accepted.all(), frames.refused
    return np.array([frames.positions[:, 0, 0, 0], frames.velocities[:, 0, 0, 0]])


def several() -> Iterator[Measured]:
    """One model for three steps and six masses, asked for others between them."""
    some = STARTS[::2]
    parts = [exact(some, h, 100 * h, MASSES) for h in (0.1, 0.2, 0.4)]
    start = time.process_time()
    learned = SymplecticIntegrator().fit(parts)
    yield Measured("fit, CPU s", time.process_time() - start, most=180)
    yield Measured("one step, runs and a step left out, of the range", learned.error)
    for h in (0.1, 0.3, 0.4):
        truth = exact(UNSEEN, h, 102.0, np.array([1.0, 1.3, 2.5, 7.0]))
        frames = learned.rollout(truth.frames(slice(1)), truth.positions.shape[1] - 1)
        assert frames.accepted.all(), frames.refused
        off = np.abs(frames.positions - truth.positions[:, 1:]).max()
        yield Measured(f"step {h}, masses 1 1.3 2.5 7, worst, t <= 102", off, most=2e-2)


bars = {
    "splitting of the double well, step 0.1": bars_at(0.1),
    "splitting of the double well, step 0.4": bars_at(0.4),
    "splitting of the double well, step 1": bars_at(1.0, 16),
    "splitting of the double well, several steps and masses": several,
}
