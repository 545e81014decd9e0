"""What a large step costs, beside compiled small ones."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from mlcore.arrays import positive
from mlcore.errors import Error, InvalidArgument
from mlcore.integrators.face import Integrator
from mlcore.integrators.honesty import watched
from mlcore.integrators.setting import Setting, Value, Values, left_out
from mlcore.integrators.speed import break_even_force, net_speedup
from mlcore.md import Dataset, System

__all__ = ["acceptable", "costs", "largest_acceptable_step", "verlet_seconds", "written"]

Array = npt.NDArray[np.float64]
PAPER_STEP = 1e-3
_LENNARD_JONES_STEP = 0.005  # sigma sqrt(m / epsilon), the usual one of liquids
_STEPS = tuple(m * 10.0**e for e in range(-5, 1) for m in (1, 2, 5))
_IN_A_ROW = 3  # steps that must do
_ENOUGH = 0.15  # seconds of a measurement


def largest_acceptable_step(
    system: System,
    x0: npt.ArrayLike,
    v0: npt.ArrayLike,
    *,
    mass: npt.ArrayLike | None = None,
    time: float = 20.0,
    tolerance: float = 0.02,
) -> float:
    """The largest of 1, 2, 5 times powers of ten with which velocity Verlet keeps the energy.

    Args:
        system: what moves.
        x0: (R, n, d).
        v0: (R, n, d).
        mass: as for `System.run`.
        time: of the runs.
        tolerance: largest change of the energy, over its size or the largest kinetic energy.

    Raises:
        InvalidArgument: no step of 1e-5 or more does.
    """
    rest = np.asarray(x0, dtype=np.float64), np.asarray(v0, dtype=np.float64)
    found: list[float] = []
    for dt in reversed(_STEPS):
        if _change(system, *rest, dt, positive("time", time), mass) <= tolerance:
            found.append(dt)
        else:
            found.clear()  # at the edge of stability a step may look right by chance
        if len(found) == _IN_A_ROW:
            break
    if not found:
        raise InvalidArgument(f"no step of 1e-5 or more keeps the energy within {tolerance}")
    return found[0]


def _change(
    system: System, x0: Array, v0: Array, dt: float, time: float, mass: npt.ArrayLike | None
) -> float:
    """Largest relative change of the energy; infinite where a run blows up."""
    count = max(10, round(time / dt))
    every = -(-count // 2000)
    try:
        made = system.run(x0, v0, dt=dt, steps=every * (count // every), mass=mass, every=every)
    except InvalidArgument:
        raise
    except Error:
        return float("inf")
    energy = made.potential + made.kinetic
    scale = np.maximum(np.abs(energy[:, :1]), made.kinetic.max(1, keepdims=True))
    return float((np.abs(energy - energy[:, :1]) / scale).max())


def verlet_seconds(system: System, x0: Array, v0: Array, mass: Array, dt: float) -> float:
    """CPU seconds of one compiled step of one run, on one thread; x0 (1, n, d)."""

    def passed(steps: int) -> float:
        begin = time.process_time()
        system.run(
            x0, v0, dt=dt, steps=steps, every=steps, mass=mass, energies=False, num_threads=1
        )
        return time.process_time() - begin

    steps = 64
    while passed(steps) < 0.2 * _ENOUGH and steps < 1 << 24:
        steps *= 4
    return min(passed(steps) for _ in range(3)) / steps


def acceptable(setting: Setting) -> float:
    """0.005 for Lennard-Jones particles of mass 1, else found from the runs' starts."""
    if setting.data.system == "lennard_jones" and (setting.data.masses == 1).all():
        told = setting.system.parameters
        shallow = max(1.0, 1 / np.sqrt(max(told["epsilon"], 1e-12)))
        return float(_LENNARD_JONES_STEP * told["sigma"] * shallow)
    runs = setting.groups[0][1][:4]
    first = setting.first
    return largest_acceptable_step(
        setting.system,
        first.positions[runs, -1],
        first.velocities[runs, -1],
        mass=setting.data.masses[runs],
    )


def costs(
    integrator: Integrator,
    setting: Setting,
    window: Dataset,
    interval: float,
    verlet: float,
    step: float,
) -> Values:
    """Time and evaluations of the reference potential per large step.

    Args:
        integrator: any.
        setting: of the evaluation.
        window: as the integrator gets it.
        interval: the large step.
        verlet: seconds of one small step.
        step: the largest acceptable small step.
    """
    needed = _needed(integrator, window, interval)
    kick = round((needed - 1) * interval / setting.dt)
    values: Values = {"kick_start": Value(float(kick), f"{kick}")}
    n = min(setting.n, 2000)
    forces, energies = _evaluations(integrator, window, interval)
    values |= {"forces": Value(forces), "energies": Value(energies)}
    values["forces_saved"] = Value(interval / step - forces)
    one = window[:1]
    seconds = _seconds(lambda: integrator.rollout(one, n, interval)) / n
    batch = _seconds(lambda: integrator.rollout(window, n, interval)) / (n * len(window))
    values |= {
        "seconds": Value(seconds, written(seconds)),
        "seconds_batch": Value(batch, written(batch)),
    }
    saved = interval / step - forces
    if saved > 0:
        even = break_even_force(seconds, saved)
        values["break_even"] = Value(even, written(even))
    else:
        values["break_even"] = left_out("no evaluation of the force is saved")
    total = float(setting.times[-1]) + (needed - 1) * interval
    for key, dt in (("speedup", step), ("speedup_paper", PAPER_STEP)):
        gain = net_speedup(
            verlet, seconds, steps=total / dt, interval=interval, dt=dt, window=needed
        )
        values[key] = Value(gain)
    return values


def _needed(integrator: Any, window: Dataset, interval: float) -> int:
    """Frames to begin with: those it says it reads, one if it does as well with one, or all it got."""
    given = round(float(window.times[-1]) / interval) + 1
    told = getattr(integrator, "window", None)
    if isinstance(told, int):
        return min(told, given)
    size = window.positions.shape[1]
    try:
        last = integrator.rollout(window.frames(slice(size - 1, size)), 1, interval)
        whole = integrator.rollout(window, 1, interval)
    except Error:
        return given
    same = np.array_equal(last.positions, whole.positions) and last.accepted.all()
    return 1 if same else given


def _evaluations(integrator: Any, window: Dataset, interval: float) -> tuple[float, float]:
    """Of forces and energies per step and run: what is told or, if more, what was seen."""
    n = 20
    some, used = watched(window)
    integrator.rollout(some, n, interval)
    told = [
        value(interval) if callable(value) else float(value)
        for value in (
            getattr(integrator, "evaluations_per_step", 0),
            getattr(integrator, "energy_evaluations_per_step", 0),
        )
    ]
    seen = used.forces / (n * len(window)), used.energies / (n * len(window))
    return max(told[0], seen[0]), max(told[1], seen[1])


def _seconds(work: Callable[[], Any]) -> float:
    """The least CPU time of up to five."""
    best, spent = float("inf"), 0.0
    for _ in range(5):
        begin = time.process_time()
        work()
        passed = time.process_time() - begin
        best, spent = min(best, passed), spent + passed
        if spent > 3 * _ENOUGH:
            break
    return best


def written(seconds: float) -> str:
    """A time in its unit."""
    for factor, unit in ((1, "s"), (1e3, "ms"), (1e6, "us")):
        if seconds * factor >= 1:
            return f"{seconds * factor:.3g} {unit}"
    return f"{seconds * 1e9:.3g} ns"
