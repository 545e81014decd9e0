"""Errors of roll-outs, and of single steps from true frames, side by side."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from mlcore.integrators import Frames, LSTMIntegrator
from mlcore.integrators.metrics import horizon, separation
from mlcore.md import Dataset, System
from settings import LIMIT, Array

BINS = 60
UNTIL = (10.0, 100.0, 1000.0, 10000.0)


def binned(times: Array, error: Array) -> dict[str, Any]:
    """Mean and largest of (R, T) errors in bins of the logarithm of time."""
    edges = np.unique(np.geomspace(times[0] * 0.999, times[-1] * 1.001, BINS + 1))
    places = np.digitize(times, edges)
    found: dict[str, list[float]] = {"t": [], "mean": [], "named": []}
    for k in np.unique(places):
        some = places == k
        found["t"].append(float(times[some].mean()))
        found["mean"].append(_mean(error[:, some]))
        found["named"].append(_mean(error[0, some]))
    return found


def _mean(values: Array) -> float:
    values = values[np.isfinite(values)]
    return float(values.mean()) if len(values) else float("nan")


def energies(system: System, frames: Frames, masses: Array) -> Array:
    """(R, T) energies of the reference potential at predicted frames; infinite where frames are lost."""
    x, v = frames.positions, frames.velocities
    good = np.isfinite(x).all((2, 3)) & np.isfinite(v).all((2, 3)) & (np.abs(x) < 1e6).all((2, 3))
    found = np.full(x.shape[:2], np.inf)
    if good.any():
        potential = np.concatenate(
            [
                system.energies_forces(part)[0]
                for part in np.array_split(x[good], 1 + len(x[good]) // 100000)
            ]
        )
        mass = np.broadcast_to(masses[:, None], x.shape[:3])[good]
        found[good] = potential + 0.5 * (mass * (v[good] ** 2).sum(-1)).sum(-1)
    return found


def judged(
    frames: Frames,
    truth: Dataset,
    window: int,
    *,
    forced: Frames | None = None,
    cut: float = np.inf,
) -> dict[str, Any]:
    """What is told of one integrator at one step. The first run is the one the paper names.

    Args:
        frames: predicted from the first `window` frames of the truth.
        truth: runs that were not learned from.
        window: frames given.
        forced: single steps from true windows.
        cut: time after which errors mean nothing.
    """
    system, mass = truth.system_of(0), truth.masses
    own = separation(frames.positions, _after(truth, window), system.box)
    t = frames.times
    told = t <= cut
    found: dict[str, Any] = {
        "refused": [why for why in frames.refused if why][:3],
        "refused_runs": sum(map(bool, frames.refused)),
        "redone": int(sum(frames.redone)),
        "lost": int((~np.isfinite(own).all(1)).sum()),
        "own": {f"{end:g}": _mean(own[:, told & (t <= end)]) for end in UNTIL if end < 2 * t[-1]},
        "named": {f"{end:g}": _mean(own[0, told & (t <= end)]) for end in UNTIL if end < 2 * t[-1]},
        "largest": float(own[:, told].max()) if told.any() else float("nan"),
        "named_largest": float(own[0, told].max()) if told.any() else float("nan"),
        "horizon": float(np.median(horizon(t, own, LIMIT))),
        "end": float(t[-1]),
        "own_curve": binned(t[told], own[:, told]) if told.any() else None,
    }
    first = truth.energy[:, :1]
    away = np.abs((energies(system, frames, mass) - first) / first)
    found["energy"] = float(np.median(away.max(1)))
    found["energy_named"] = float(away[0].max())
    found["energy_curve"] = binned(t, away)
    if forced is not None:
        error = separation(forced.positions, _after(truth, window), system.box)
        found |= {
            "forced": _mean(error),
            "forced_named": _mean(error[0]),
            "forced_largest": float(error.max()),
            "forced_curve": binned(t, error),
        }
        away = np.abs((energies(system, forced, mass) - first) / first)
        found["energy_forced"] = float(np.median(away.max(1)))
    return found


def _after(truth: Dataset, window: int) -> Array:
    return truth.positions[:, window:]


def lstm(learned: LSTMIntegrator, truth: Dataset, cut: float = np.inf) -> dict[str, Any]:
    """Single steps from true windows, and the own roll-out."""
    own = learned.rollout(truth.frames(slice(learned.window)), count(truth, learned.window))
    found = judged(own, truth, learned.window, forced=learned.teacher_forced(truth), cut=cut)
    found["step_seconds"] = seconds_of(
        lambda n: learned.rollout(truth[:1].frames(slice(learned.window)), n)
    )
    if learned.training is not None:
        found["epochs"] = learned.training.epochs
    return found | {"parameters": learned.parameter_count, "straight": straight(truth)}


def straight(truth: Dataset) -> dict[str, float]:
    """Errors of single steps of straight flight: mean over all runs, and of the first."""
    x, v = truth.positions[:, :-1], truth.velocities[:, :-1]
    made = x + truth.interval * v
    error = separation(made, truth.positions[:, 1:], truth.system_of(0).box)
    return {"all": float(error.mean()), "named": float(error[0].mean())}


def count(truth: Dataset, window: int) -> int:
    """Frames after the window."""
    return truth.positions.shape[1] - window


def seconds_of(work: Callable[[int], Any], n: int = 2000) -> float:
    """Seconds of one of n steps, the least of five times."""
    work(1)
    best = np.inf
    for _ in range(5):
        begin = time.perf_counter()
        work(n)
        best = min(best, time.perf_counter() - begin)
    return float(best / n)


def gates(report: Any) -> Mapping[str, Any]:
    """Of an `mlcore.integrators.Report`: what each column had to pass."""
    return {
        column.name: [[g.name, g.held, g.detail] for g in column.gates]
        for column in report.columns
        if column.gates
    }
