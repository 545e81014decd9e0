"""What runs an integrator was taught with, and why it refuses others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from mlcore.errors import FileFormatError, InvalidArgument
from mlcore.integrators.saved import Settings
from mlcore.md import Dataset

__all__ = ["Taught", "of_runs"]

_SAME = 1e-9  # relative, of intervals and of the ends of ranges


def of_runs(data: Dataset) -> dict[str, npt.NDArray[Any]]:
    """Mass and parameters of the system: name -> (R,), masses (R, n)."""
    one = data.system_of(0).parameters
    found: dict[str, npt.NDArray[Any]] = {"mass": data.masses}
    for name, value in one.items():
        found[name] = data.parameters.get(name, _repeated(value, len(data)))
    return found


def _repeated(value: Any, count: int) -> npt.NDArray[Any]:
    """(count,) of a value that may be a tuple: cells, types."""
    if isinstance(value, (int, float)):
        return np.full(count, value)
    found = np.empty(count, dtype=object)
    found.fill(value)
    return found


@dataclass(frozen=True)
class Taught:
    """Systems, masses, parameters and intervals of the training.

    Attributes:
        system: its name.
        particles, dim: of a frame.
        intervals: times between frames.
        ranges: name -> (lowest, highest), of parameters that are numbers.
        others: name -> value of those that are not: no box, kinds of walls.
        truth: how the runs were made.
    """

    system: str
    particles: int
    dim: int
    intervals: tuple[float, ...]
    ranges: Mapping[str, tuple[float, float]]
    others: Mapping[str, Any]
    truth: str = "verlet"

    @classmethod
    def of(cls, parts: Sequence[Dataset]) -> Self:
        """That of some data sets.

        Raises:
            InvalidArgument: they are not of one kind of system.
        """
        first = parts[0]
        particles, dim = first.positions.shape[2:]
        ranges: dict[str, tuple[float, float]] = {}
        others: dict[str, Any] = {}
        for part in parts:
            found = (part.system, *part.positions.shape[2:])
            if found != (first.system, *first.positions.shape[2:]):
                raise InvalidArgument(
                    f"data must be of one system and as many particles, got {first.system} of "
                    f"{first.positions.shape[2:]} and {part.system} of {part.positions.shape[2:]}"
                )
            for name, values in of_runs(part).items():
                if values.dtype.kind not in "iuf":
                    if others.setdefault(name, values[0]) != values[0] or name in ranges:
                        raise InvalidArgument(f"data must agree in {name}")
                    continue
                low, high = ranges.get(name, (np.inf, -np.inf))
                ranges[name] = min(low, float(values.min())), max(high, float(values.max()))
        if set(ranges) & set(others):
            raise InvalidArgument(f"data must agree in {sorted(set(ranges) & set(others))}")
        return cls(
            first.system,
            particles,
            dim,
            tuple(sorted({part.interval for part in parts})),
            ranges,
            others,
            str(first.provenance.get("request", {}).get("truth", "verlet")),
        )

    def check(self, window: Dataset) -> None:
        """Raises InvalidArgument where the window is of another system or number of particles."""
        if window.system != self.system:
            raise InvalidArgument(f"window is of {window.system}, the integrator of {self.system}")
        if window.positions.shape[2:] != (self.particles, self.dim):
            raise InvalidArgument(
                f"window must hold {self.particles} particles in {self.dim} dimensions, got "
                f"{window.positions.shape[2:]}"
            )

    def steps(self, interval: float) -> bool:
        """Whether this interval was taught."""
        return any(abs(interval - known) <= _SAME * known for known in self.intervals)

    def refusals(self, window: Dataset, interval: float) -> list[str]:
        """A reason for each run, empty where there is none."""
        if not self.steps(interval):
            known = ", ".join(f"{one:g}" for one in self.intervals)
            return [f"steps of {interval:g} were not taught, only {known}"] * len(window)
        values = of_runs(window)
        return [self._refusal(values, run) for run in range(len(window))]

    def _refusal(self, values: Mapping[str, npt.NDArray[Any]], run: int) -> str:
        for name, taught in self.others.items():
            if values[name][run] != taught:
                return (
                    f"{name} of run {run} is {values[name][run]!s:.60}, taught was {taught!s:.60}"
                )
        for name, (low, high) in self.ranges.items():
            own = values[name][run]
            room = _SAME * max(abs(low), abs(high))
            if values[name].dtype.kind not in "iuf" or not (
                low - room <= np.min(own) and np.max(own) <= high + room
            ):
                told = ", ".join(
                    f"{one:g}" if one is not None else "none" for one in np.unique(own)
                )
                return f"{name} of run {run} is {told}, taught was {low:g} to {high:g}"
        return ""

    def settings(self) -> dict[str, Any]:
        """For a file."""
        return {
            "system": self.system,
            "particles": self.particles,
            "dim": self.dim,
            "intervals": list(self.intervals),
            "ranges": {name: list(ends) for name, ends in self.ranges.items()},
            "others": dict(self.others),
            "truth": self.truth,
        }

    @classmethod
    def read(cls, settings: Settings) -> Self:
        """What `settings` gave.

        Raises:
            FileFormatError: naming what is wrong.
        """
        return cls(
            settings.text("system"),
            settings.integer("particles", 1),
            settings.integer("dim", 1),
            tuple(_numbers(settings, "intervals", settings.values.get("intervals"))),
            {name: _pair(settings, name, ends) for name, ends in settings.table("ranges").items()},
            {name: _frozen(value) for name, value in settings.table("others").items()},
            settings.text("truth"),
        )


def _frozen(value: Any) -> Any:
    """Lists of JSON as the tuples they were."""
    return tuple(map(_frozen, value)) if isinstance(value, list) else value


def _numbers(settings: Settings, name: str, values: Any) -> list[float]:
    ok = isinstance(values, list) and all(
        isinstance(value, (int, float)) and not isinstance(value, bool) for value in values
    )
    if not ok or not values:
        raise FileFormatError(f"{settings.where}: {name} must be a list of numbers, got {values!r}")
    return [float(value) for value in values]


def _pair(settings: Settings, name: str, values: Any) -> tuple[float, float]:
    ends = _numbers(settings, f"ranges[{name!r}]", values)
    if len(ends) != 2:
        raise FileFormatError(f"{settings.where}: ranges[{name!r}] must hold two numbers")
    return ends[0], ends[1]
