"""Trajectories: reading, checking and writing them."""

from __future__ import annotations

from mlcore.data.trajectory import (
    FORMATS,
    Frame,
    Trajectory,
    iter_frames,
    read_trajectories,
    read_trajectory,
    write_trajectory,
)

__all__ = [
    "FORMATS",
    "Frame",
    "Trajectory",
    "iter_frames",
    "read_trajectories",
    "read_trajectory",
    "write_trajectory",
]
