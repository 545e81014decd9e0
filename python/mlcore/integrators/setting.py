"""What an evaluation is made of: runs never seen, the windows from them, and values with reasons."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from mlcore.integrators.baselines import alike
from mlcore.integrators.face import Frames
from mlcore.integrators.metrics import kinetic_energy
from mlcore.md import Dataset, System

__all__ = ["Curve", "Setting", "Value", "Values", "left_out", "windows_as_runs"]

Array = npt.NDArray[np.float64]
Curve = tuple[Array, Array]
_PAIRS = 2e7  # looked at for energies of one integrator
_LEAST = 200  # frames of a run looked at, whatever they cost


@dataclass(frozen=True)
class Value:
    """One cell of the table.

    Attributes:
        number: None where it is left out.
        text: how it is shown, the number to three digits by default.
        reason: why it is left out.
    """

    number: float | None
    text: str = ""
    reason: str = ""

    def __str__(self) -> str:
        if self.text:
            return self.text
        return "-" if self.number is None else f"{self.number:.3g}"


Values = dict[str, Value]


def left_out(reason: str) -> Value:
    """A cell without a number."""
    return Value(None, reason=reason)


@dataclass(frozen=True, eq=False)
class Setting:
    """Runs and how they are used.

    Attributes:
        data: held-out runs at the distance in time of a large step.
        window: frames given.
        dt: step with which the runs were made.
        truth: "verlet" or "order8".
        cut: time after which an error of a trajectory means nothing.
        limit: error at which a horizon ends.
        discard: part of the frames that ensembles leave out at the beginning.
    """

    data: Dataset
    window: int
    dt: float
    truth: str
    cut: float = float("inf")
    limit: float = 0.1
    discard: float = 0.2

    @property
    def interval(self) -> float:
        """The large step."""
        return self.data.interval

    @property
    def n(self) -> int:
        """Frames predicted."""
        return int(self.data.positions.shape[1]) - self.window

    @cached_property
    def first(self) -> Dataset:
        """The windows, with no frame behind them."""
        return _owned(self.data.frames(slice(self.window)))

    @cached_property
    def rest(self) -> Dataset:
        """What is to be predicted."""
        return self.data.frames(slice(self.window, None))

    @cached_property
    def times(self) -> Array:
        """(n,) after the window."""
        return np.asarray(self.interval * np.arange(1, self.n + 1))

    @property
    def particles(self) -> int:
        return int(self.data.positions.shape[2])

    @property
    def dim(self) -> int:
        return int(self.data.positions.shape[3])

    @cached_property
    def groups(self) -> list[tuple[System, npt.NDArray[np.intp]]]:
        """Systems and the runs of each."""
        return [(self.data.system_of(int(runs[0])), runs) for runs in alike(self.data)]

    @cached_property
    def system(self) -> System:
        """That of the first run."""
        return self.groups[0][0]

    @property
    def box(self) -> float | None:
        """Edge of a periodic cube; None elsewhere, where positions must be unwrapped."""
        cell = self.system.cell
        if cell is None or not np.array_equal(cell, cell[0, 0] * np.eye(3)):
            return None
        return float(cell[0, 0])

    @property
    def forces_known(self) -> bool:
        """Whether the reference system can be asked for energies and run again."""
        return len(self.system.forces) > 0

    @property
    def conserved(self) -> int:
        """Components of the momentum that are conserved."""
        free = self.system.parameters.get("radius") is None
        return self.dim if self.data.system == "lennard_jones" and free else 0

    @property
    def uniform(self) -> bool:
        """Whether all runs are of one system and the same masses."""
        return len(self.groups) == 1 and bool((self.data.masses == self.data.masses[0]).all())

    @cached_property
    def looked_at(self) -> npt.NDArray[np.intp]:
        """Frames at which energies are computed: all, or some of large systems."""
        most = max(_LEAST, int(_PAIRS / (self.particles**2 * len(self.data))))
        return np.unique(np.linspace(0, self.n - 1, min(self.n, most)).astype(np.intp))

    def kept(self) -> slice:
        """Frames of ensembles."""
        return slice(int(self.discard * self.n), None)

    def potential(self, x: Array) -> Array:
        """(R, F) energies of positions (R, F, n, d)."""
        found = np.full(x.shape[:2], np.nan)
        for system, runs in self.groups if self.forces_known else ():
            rows = np.ascontiguousarray(x[runs]).reshape(-1, *x.shape[2:])
            finite = np.isfinite(rows).all((1, 2))
            values = np.full(len(rows), np.nan)
            if finite.any():
                values[finite] = system.energies_forces(rows[finite])[0]
            found[runs] = values.reshape(len(runs), -1)
        return found

    def energies(self, frames: Frames, which: npt.NDArray[np.intp]) -> tuple[Array, Array]:
        """Potential and kinetic energies (R, F) of some frames."""
        x, v = frames.positions[:, which], frames.velocities[:, which]
        return self.potential(x), kinetic_energy(v, self.data.masses)

    @cached_property
    def reference(self) -> Frames:
        """The truth, as if it had been predicted."""
        rest = self.rest
        return Frames(self.times, rest.positions, rest.velocities, ("",) * len(self.data))


def _owned(window: Dataset) -> Dataset:
    """Without a view of what comes after."""
    names = ("positions", "velocities", "potential", "kinetic")
    return _replaced(window, **{name: getattr(window, name).copy() for name in names})


def _replaced(data: Dataset, **arrays: Any) -> Dataset:
    from dataclasses import replace

    return replace(data, **arrays)


def windows_as_runs(
    data: Dataset, window: int, count: int
) -> tuple[Dataset, npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Windows of true frames, each as a run of its own.

    Args:
        data: runs.
        window: frames of each.
        count: of windows of one run at most, spread evenly.

    Returns:
        The windows, and of each its run and the frame that follows it.
    """
    frames = data.positions.shape[1]
    begins = np.unique(np.linspace(0, frames - window - 1, count).round().astype(np.intp))
    rows = begins[:, None] + np.arange(window)
    run = np.repeat(np.arange(len(data)), len(begins))

    def taken(values: Array) -> Array:
        return np.asarray(values[:, rows].reshape(-1, window, *values.shape[2:]))

    names = ("positions", "velocities", "potential", "kinetic")
    made = _replaced(
        data,
        **{name: taken(getattr(data, name)) for name in names},
        masses=data.masses[run],
        parameters={name: values[run] for name, values in data.parameters.items()},
    )
    return made, run, np.tile(begins + window, len(data))
