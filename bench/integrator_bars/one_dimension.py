"""Orbits in one dimension from five frames, four time units apart, to t = 1e4: errors and times.

Beside them stands the periodic continuation of a dense window, which learns nothing and needs no
formula, but two periods of close frames.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from bars import Measured
from mlcore import md
from mlcore.integrators import ActionAngleIntegrator, PeriodicContinuation, starts

STEP = 4.0
Cases = dict[str, tuple[Any, ...]]
# name: system, first and last turning point, runs, harmonics, every, time, unseen range and count,
# bar of the error, of the fit's seconds, of us a frame
CASES: Cases = {
    "double well above the separatrix": (
        "double_well", 1.6, 3.05, 60, 128, 10, 200, 1.62, 3.03, 20, 1e-5, 20, 10,
    ),
    "inside one well": ("double_well", 0.09, 0.98, 60, 256, 10, 200, 0.1, 0.97, 20, 1e-5, None, None),
    "Lennard-Jones": (
        "fixed_lennard_jones", 1.2, 2.9, 120, 1024, 5, 200, 1.22, 2.88, 20, 1e-4, 30, 200,
    ),
    "rugged above its top barrier": (
        "rugged", -6.08, -5.47, 900, 768, 4, 40, -6.07, -5.48, 10, 1e-4, 60, None,
    ),
}  # fmt: skip


def case(name: str) -> Callable[[], Iterator[Measured]]:
    system, first, last, count, harmonics, every, end, low, high, unseen, bar, fit, frame = CASES[
        name
    ]

    def measured() -> Iterator[Measured]:
        x0 = starts(md.named(system), first, last, count)
        data = md.sweep(system, {"x0": x0}, dt=1e-3, time=end, every=every)
        begin = time.process_time()
        learned = ActionAngleIntegrator(harmonics).fit(data)
        yield Measured("fit, CPU s", time.process_time() - begin, most=fit)
        own = np.random.default_rng(5).uniform(low, high, unseen)
        truth = runs(system, own)
        n = truth.positions.shape[1] - 5
        window = truth.frames(slice(5))
        begin = time.process_time()
        found = learned.rollout(window, n)
        took = (time.process_time() - begin) / n / len(truth)
        assert found.accepted.all(), found.refused
        off = np.abs(found.positions - truth.positions[:, 5:]).max((1, 2, 3))
        yield Measured(f"{unseen} unseen starts, worst error", off.max(), most=bar)
        yield Measured("median error", float(np.median(off)))
        yield Measured("CPU us per frame and run", 1e6 * took, most=frame)
        yield from baseline(system, truth)

    return measured


def baseline(system: str, truth: md.Dataset) -> Iterator[Measured]:
    x0 = truth.parameters["x0"]
    dense = md.sweep(system, {"x0": x0}, dt=1e-3, time=32, every=1)
    later = md.sweep(system, {"x0": x0}, dt=1e-3, time=32 + 4 * 2490, every=4000)
    found = PeriodicContinuation().rollout(dense, 2490, STEP)
    off = np.abs(found.positions - later.positions[:, 9:])[found.accepted].max((1, 2, 3))
    yield Measured("periodic continuation of t = 32: runs it takes", float(found.accepted.sum()))
    yield Measured("its worst error", off.max())


def speed() -> Iterator[Measured]:
    """Any time at once, and many runs."""
    x0 = starts(md.double_well(), 1.6, 3.05, 60)
    data = md.sweep("double_well", {"x0": x0}, dt=1e-3, time=200, every=10)
    learned = ActionAngleIntegrator(128).fit(data)
    window = runs("double_well", np.array([2.0]), 16.0)
    motion = learned.motion(window)
    begin = time.process_time()
    for _ in range(100):
        motion.frames(1e4)
    yield Measured("x(t = 1e4), CPU ms", 10 * (time.process_time() - begin), most=1)
    many = runs("double_well", np.random.default_rng(0).uniform(1.62, 3.03, 1000), 16.0)
    begin = time.process_time()
    learned.rollout(many, 2500)
    took = time.process_time() - begin
    yield Measured("1000 runs of 2500 frames, CPU s", took, most=20)
    begin = time.process_time()
    md.sweep("double_well", {"x0": np.linspace(1.5, 3.0, 500)}, dt=1e-3, time=100, every=100)
    yield Measured("500 runs of t = 100 at 1e-3, CPU s", time.process_time() - begin, most=20)


def runs(system: str, x0: np.ndarray, end: float = 1e4) -> md.Dataset:
    return md.sweep(system, {"x0": x0}, dt=1e-3, time=end, every=round(STEP / 1e-3))


bars = {f"one dimension: {name}": case(name) for name in CASES} | {"one dimension: speed": speed}
