"""Frames that steps are learned from: their box, the time between them, velocities."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlcore.data.trajectory import Trajectory
from mlcore.errors import InvalidArgument
from mlcore.training import TrainingOptions

__all__ = [
    "Array",
    "Box",
    "check_part",
    "check_velocities",
    "common_box",
    "overdamped",
    "settings",
    "state",
    "time_step",
    "trajectories_of",
]

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Box:
    """Cell vectors as rows; those that do not repeat are zero."""

    rows: Array = field(default_factory=lambda: np.zeros((3, 3)))

    @classmethod
    def of(cls, t: Trajectory) -> Box:
        if t.cell is None or t.pbc is None:
            return cls()
        return cls(np.where(t.pbc[:, None], t.cell, 0.0))

    def _fractions(self, x: Array) -> Array:
        found: Array = x @ np.linalg.pinv(self.rows)
        return found

    def fold(self, x: Array) -> Array:
        """Positions in the cell whose lower corner is 0."""
        found: Array = x - np.floor(self._fractions(x)) @ self.rows
        return found

    def whole(self, x: Array) -> Array:
        """Every atom at the nearest image of the one before it."""
        steps = np.diff(x, axis=-2)
        steps = steps - np.round(self._fractions(steps)) @ self.rows
        ways = np.cumsum(np.concatenate([x[..., :1, :], steps], -2), -2)
        found: Array = ways
        return found


def check_part(validation: Any) -> None:
    number = isinstance(validation, (int, float)) and not isinstance(validation, bool)
    if not (number and 0 < validation < 1):
        raise InvalidArgument(f"validation must be a part between 0 and 1, not {validation!r}")


def trajectories_of(data: Any) -> list[Trajectory]:
    """One trajectory or several, as a list that is not empty."""
    parts = [data] if isinstance(data, Trajectory) or not isinstance(data, Iterable) else list(data)
    for part in parts:
        if not isinstance(part, Trajectory):
            raise InvalidArgument(
                "data must be a Trajectory (mlcore.data.read_trajectory) or several, "
                f"not {part!r:.60}"
            )
    if not parts:
        raise InvalidArgument("data holds no trajectory")
    return parts


def settings(
    training: Any, otherwise: TrainingOptions, checkpoint: str | Path | None, progress: bool
) -> TrainingOptions:
    given = otherwise if training is None else training
    if not isinstance(given, TrainingOptions):
        raise InvalidArgument(f"training must be TrainingOptions, not {training!r:.60}")
    return given.at(checkpoint, progress)


def state(x: Any, v: Any, particles: int | None) -> tuple[Array, Array]:
    """Positions and velocities (n, 3), checked."""
    try:
        places, speeds = np.asarray(x, np.float64), np.asarray(v, np.float64)
    except (TypeError, ValueError) as error:
        raise InvalidArgument(f"x and v must be numbers (n, 3): {error}") from error
    if places.ndim != 2 or places.shape[1] != 3 or places.shape != speeds.shape:
        raise InvalidArgument(f"x and v must both be (n, 3), not {places.shape} and {speeds.shape}")
    if not (np.isfinite(places).all() and np.isfinite(speeds).all()):
        raise InvalidArgument("x and v must be finite")
    if particles not in (None, len(places)):
        raise InvalidArgument(f"x holds {len(places)} atoms, fitted to {particles}")
    return places, speeds


def time_step(trajectories: list[Trajectory]) -> float:
    counts = {t.positions.shape[1] for t in trajectories}
    if len(counts) > 1:
        raise InvalidArgument(f"data holds trajectories of {sorted(counts)} atoms; give one number")
    steps = np.concatenate([np.diff(t.times) for t in trajectories])
    if len(steps) == 0 or np.ptp(steps) > 1e-6 * steps.mean():
        raise InvalidArgument("data must have one time between frames, the same everywhere")
    return float(steps.mean())


def check_velocities(trajectories: list[Trajectory]) -> None:
    for t in trajectories:
        if t.velocities is None:
            raise InvalidArgument(f"data: trajectory {t.source or '(unnamed)'} has no velocities")


def overdamped(t: Trajectory) -> Trajectory:
    """The velocity of a frame is that of the step that led to it."""
    steps = np.diff(t.positions, axis=0) / np.diff(t.times)[:, None, None]
    return dataclasses.replace(t, velocities=np.concatenate([steps[:1], steps]))


def common_box(trajectories: list[Trajectory]) -> Box:
    boxes = [Box.of(t) for t in trajectories]
    if any(not np.array_equal(box.rows, boxes[0].rows) for box in boxes):
        raise InvalidArgument("data holds trajectories in different cells; give one cell")
    return boxes[0]
