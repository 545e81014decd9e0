"""Windows of frames and what comes next: the training data of recurrent integrators.

Source: J. C. S. Kadupitiya, G. C. Fox and V. Jadhao, arXiv:2004.06493. There samples are shuffled before
they are split, so that neighboring windows of one run land on both sides; here whole runs are left out
(`mlcore.md.Dataset.split`), and samples only where `split_samples` is called by name.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from mlcore.arrays import integer, number
from mlcore.errors import InvalidArgument
from mlcore.md import Dataset

__all__ = ["MinMax", "Windows", "windows"]

Array = npt.NDArray[np.float64]
_QUANTITIES = ("positions", "velocities")


@dataclass(frozen=True, eq=False)
class Windows:
    """M windows of S frames of F numbers, and the frames that follow them.

    Attributes:
        inputs: (M, S, F).
        targets: (M, F).
        runs: (M,) which run each comes from.
        interval: time between frames.
    """

    inputs: Array
    targets: Array
    runs: npt.NDArray[np.intp]
    interval: float

    def __len__(self) -> int:
        """M."""
        return len(self.targets)

    def split_samples(self, fraction: float = 0.8, seed: int = 0) -> tuple[Windows, Windows]:
        """Shuffled windows, as in the paper: windows of one run overlap across the two sides, so
        that the error on the second says nothing about runs never seen."""
        if not 0 < number("fraction", fraction) < 1:
            raise InvalidArgument(f"fraction must lie between 0 and 1, got {fraction}")
        if len(self) < 2:
            raise InvalidArgument("one window cannot be split")
        order = np.random.default_rng(seed).permutation(len(self))
        count = min(max(round(fraction * len(self)), 1), len(self) - 1)
        return self._some(order[:count]), self._some(order[count:])

    def _some(self, which: npt.NDArray[np.intp]) -> Windows:
        return replace(
            self, inputs=self.inputs[which], targets=self.targets[which], runs=self.runs[which]
        )


def windows(
    data: Dataset, length: int = 5, quantities: Sequence[str] = _QUANTITIES, stride: int = 1
) -> Windows:
    """All windows of all runs: T - length of each.

    Args:
        data: runs at the distance in time that the integrator will step: `data.stride(k)`.
        length: S, frames of a window; 5 in the paper's program.
        quantities: "positions", "velocities", or both, in this order: the numbers of a frame, particle
            by particle.
        stride: frames between the beginnings of windows.
    """
    if integer("length", length) < 1:
        raise InvalidArgument(f"length must be at least 1, got {length}")
    if integer("stride", stride) < 1:
        raise InvalidArgument(f"stride must be at least 1, got {stride}")
    if not quantities or any(q not in _QUANTITIES for q in quantities):
        raise InvalidArgument(f"quantities must be some of {_QUANTITIES}, got {quantities!r}")
    count, frames = data.positions.shape[:2]
    if frames <= length:
        raise InvalidArgument(
            f"runs of {frames} frames hold no window of {length} and a next frame"
        )
    rows = np.concatenate([getattr(data, q).reshape(count, frames, -1) for q in quantities], -1)
    seen = np.lib.stride_tricks.sliding_window_view(rows[:, :-1], length, axis=1)[:, ::stride]
    starts = np.arange(0, frames - length, stride)
    return Windows(
        np.ascontiguousarray(np.moveaxis(seen, -1, 2)).reshape(-1, length, rows.shape[-1]),
        rows[:, starts + length].reshape(-1, rows.shape[-1]),
        np.repeat(np.arange(count), len(starts)),
        data.interval,
    )


@dataclass(frozen=True, eq=False)
class MinMax:
    """Maps the range of every feature in the training data to [0, 1].

    Attributes:
        low: (F,) smallest values.
        high: (F,) largest values; a feature that never changes is mapped to 0.
    """

    low: Array
    high: Array

    @classmethod
    def of(cls, training: Windows) -> MinMax:
        """That of the windows of training runs: others must not be looked at."""
        rows = np.concatenate(
            [training.inputs.reshape(-1, training.targets.shape[1]), training.targets]
        )
        return cls(rows.min(0), rows.max(0))

    @property
    def size(self) -> Array:
        """(F,) widths, 1 for a feature that never changes."""
        return np.where(self.high > self.low, self.high - self.low, 1.0)

    def scaled(self, values: npt.ArrayLike) -> Array:
        """Features (..., F) in units of their ranges."""
        return np.asarray((np.asarray(values) - self.low) / self.size)

    def restored(self, values: npt.ArrayLike) -> Array:
        """What `scaled` was given."""
        return np.asarray(np.asarray(values) * self.size + self.low)
