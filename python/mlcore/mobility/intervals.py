"""Runs cut into intervals: what the estimators and the likelihood loss share."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from mlcore.data.trajectory import Trajectory
from mlcore.errors import InvalidArgument

__all__ = ["Interactions", "active_intervals", "checked_runs", "force_segments", "frames_in"]

FloatArray = NDArray[np.float64]
Interactions = Callable[[FloatArray, FloatArray | None, NDArray[np.bool_] | None], FloatArray]
"""Known conservative forces: (positions (T,N,3), cell, pbc) -> (T,N,3)."""


def checked_runs(
    trajectories: Trajectory | Sequence[Trajectory], need: str | None = None
) -> list[Trajectory]:
    """A list of runs in one box; `need` names a field that all must have."""
    runs = [trajectories] if isinstance(trajectories, Trajectory) else list(trajectories)
    if not runs:
        raise InvalidArgument("trajectories is empty")
    for run in runs:
        name = run.source or "trajectory"
        if need is not None and getattr(run, need) is None:
            raise InvalidArgument(f"{name} has no {need}, which this estimator needs")
        if (run.cell is None) != (runs[0].cell is None) or (
            run.cell is not None
            and runs[0].cell is not None
            and not np.allclose(run.cell, runs[0].cell, rtol=1e-6, atol=1e-9)
        ):
            raise InvalidArgument(f"{name} has another box than {runs[0].source or 'the first'}")
    return runs


def frames_in(duration: float, run: Trajectory, name: str) -> int:
    """A duration as a whole number of frames."""
    interval = run.interval
    if not (np.isfinite(duration) and duration > 0):
        raise InvalidArgument(f"{name} should be a positive time, got {duration}")
    frames = round(duration / interval)
    if frames < 1 or abs(frames * interval - duration) > 1e-3 * interval:
        raise InvalidArgument(
            f"{name} = {duration:g} is not a multiple of the time {interval:g} between the frames "
            f"of {run.source or 'the trajectory'}"
        )
    return frames


def force_segments(run: Trajectory) -> list[tuple[int, int]]:
    """Stretches of constant force as (first frame, last frame).

    The force of an interval stands in its last frame, so frame 0 tells nothing.
    """
    if run.forces is None:
        raise InvalidArgument(f"{run.source or 'trajectory'} has no forces")
    if len(run) < 2:
        return []
    changed = (run.forces[2:] != run.forces[1:-1]).any(axis=(1, 2))
    cuts = [0, *(np.flatnonzero(changed) + 1).tolist(), len(run) - 1]
    return list(pairwise(cuts))


def active_intervals(
    run: Trajectory,
    lag: float,
    skip: float,
    block: float | None,
    interactions: Interactions | None,
) -> Iterator[tuple[FloatArray, FloatArray, FloatArray]]:
    """Middle positions, displacements and mean forces, (m, N, 3) each, block by block.

    Args:
        run: with forces: the external ones of an interval stand in its last frame.
        lag: duration of an interval, a multiple of the frames' interval.
        skip: time left out after each change of the forces.
        block: longest duration of a block; None: a stretch of constant force.
        interactions: added, as the mean over the frames of the interval.
    """
    external = run.forces
    assert external is not None
    steps = frames_in(lag, run, "lag")
    for starts in _active_blocks(run, steps, skip, block):
        force = external[starts + steps]
        if interactions is not None:
            force = force + _mean_interactions(run, starts, steps, interactions)
        displacement = run.positions[starts + steps] - run.positions[starts]
        yield run.positions[starts + steps // 2], displacement, force


def _active_blocks(
    run: Trajectory, steps: int, skip: float, block: float | None
) -> Iterator[NDArray[np.intp]]:
    """First frames of the intervals of every block."""
    if not skip >= 0:
        raise InvalidArgument(f"skip should be a time >= 0, got {skip}")
    skipped = int(np.ceil(skip / run.interval - 1e-9))
    longest = None if block is None else max(1, frames_in(block, run, "block") // steps)
    for first, last in force_segments(run):
        starts = np.arange(first + skipped, last - steps + 1, steps)
        pieces = 1 if longest is None else max(1, len(starts) // longest)
        yield from (part for part in np.array_split(starts, pieces) if len(part))


def _mean_interactions(
    run: Trajectory, starts: NDArray[np.intp], steps: int, interactions: Interactions
) -> FloatArray:
    """Mean force over the frames of each interval, by the trapezoidal rule."""
    total = np.zeros((len(starts), run.particles, 3))
    for k in range(steps + 1):
        force = np.asarray(interactions(run.positions[starts + k], run.cell, run.pbc), dtype=float)
        if force.shape != total.shape:
            raise InvalidArgument(
                f"interactions should return forces of shape {total.shape}, got {force.shape}"
            )
        total += force / (2 if k in (0, steps) else 1)
    return total / steps
