"""What every integrator of large time steps is and gives."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, Self

import numpy as np
import numpy.typing as npt

from mlcore.arrays import integer, positive
from mlcore.errors import InvalidArgument
from mlcore.md import Dataset

__all__ = ["Frames", "Integrator", "checked_request", "datasets"]

Array = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Frames:
    """What an integrator predicts after the last frame of its window.

    Attributes:
        times: (n,) after that frame, in units of the system.
        positions: (R, n, particles, d) float64; NaN in runs that were refused.
        velocities: of the same shape.
        refused: a reason for each run, empty where there is a prediction.
        redone: for each run, how many steps were not good and done again in halves; empty where the
            integrator knows no such thing.
    """

    times: Array
    positions: Array
    velocities: Array
    refused: tuple[str, ...] = ()
    redone: tuple[int, ...] = ()

    @property
    def accepted(self) -> npt.NDArray[np.bool_]:
        """(R,) which runs have a prediction."""
        return np.array([not reason for reason in self.refused])


class Integrator(Protocol):
    """Learns from runs, then goes on from a window of frames."""

    def fit(self, data: Dataset) -> Self:
        """Learn from runs."""

    def rollout(self, window: Dataset, n: int, interval: float | None = None) -> Frames:
        """n frames after the window, which holds all that is read of the truth."""


def datasets(data: Any) -> list[Dataset]:
    """The data sets an integrator is to learn from: one, or a list of them."""
    listed = isinstance(data, Sequence) and not isinstance(data, (str, bytes))
    parts = [data] if isinstance(data, Dataset) else list(data) if listed else []
    if not parts or not all(isinstance(part, Dataset) for part in parts):
        raise InvalidArgument(
            f"data must be a Dataset (mlcore.md.sweep) or several, got {data!r:.60}"
        )
    return parts


def checked_request(window: Dataset, n: int, interval: float | None) -> tuple[int, float]:
    """Number of frames and their distance in time; that of the window where none is given."""
    if not isinstance(window, Dataset):
        raise InvalidArgument(
            f"window must be a Dataset of some frames, got {type(window).__name__}"
        )
    if integer("n", n) < 1:
        raise InvalidArgument(f"n must be at least 1, got {n}")
    return int(n), window.interval if interval is None else positive("interval", interval)
