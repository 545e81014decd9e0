"""What learned integrators are to be compared with: small steps, and continuing what was seen."""

from __future__ import annotations

from typing import Self

import numpy as np
import numpy.typing as npt

from mlcore.arrays import integer, one_of, positive
from mlcore.errors import InvalidArgument
from mlcore.integrators.action_angle import Motion
from mlcore.integrators.face import Frames, checked_request
from mlcore.integrators.periods import orbit_of
from mlcore.md import Dataset

__all__ = ["BallisticIntegrator", "PeriodicContinuation", "VerletIntegrator"]

Array = npt.NDArray[np.float64]


class VerletIntegrator:
    """Velocity Verlet (or order 8) from the window's last frame, by the core.

    Args:
        dt: step.
        truth: "verlet" or "order8".
    """

    def __init__(self, dt: float, truth: str = "verlet") -> None:
        self.dt, self.truth = positive("dt", dt), one_of("truth", truth, "verlet", "order8")

    trained_on: tuple[str, ...] = ()
    window = 1
    """Frames that are read."""

    def fit(self, data: Dataset) -> Self:
        """Nothing is learned."""
        return self

    def evaluations_per_step(self, interval: float) -> float:
        """Evaluations of the force in a step of this length."""
        return interval / self.dt * (17 if self.truth == "order8" else 1)

    def rollout(self, window: Dataset, n: int, interval: float | None = None) -> Frames:
        """Frames after a window, of which the last positions, velocities and masses are read.

        Raises:
            InvalidArgument: the interval is no whole number of steps.
        """
        n, interval = checked_request(window, n, interval)
        every = round(interval / self.dt)
        if every < 1 or abs(every * self.dt - interval) > 1e-9 * interval:
            raise InvalidArgument(
                f"interval must be a whole number of steps {self.dt}, got {interval}"
            )
        x, v = np.empty((2, len(window), n, *window.positions.shape[2:]))
        for runs in alike(window):
            made = window.system_of(int(runs[0])).run(
                window.positions[runs, -1],
                window.velocities[runs, -1],
                dt=self.dt,
                steps=n * every,
                every=every,
                mass=window.masses[runs],
                truth=self.truth,
                energies=False,
            )
            x[runs], v[runs] = made.positions[:, 1:], made.velocities[:, 1:]
        return Frames(np.asarray(interval * np.arange(1, n + 1)), x, v, ("",) * len(window))

    def __repr__(self) -> str:
        return f"VerletIntegrator({self.dt:g}, {self.truth})"


def alike(window: Dataset) -> list[npt.NDArray[np.intp]]:
    """Runs of one system each."""
    keys = [str(sorted(window.system_of(run).parameters.items())) for run in range(len(window))]
    return [np.flatnonzero(np.array(keys) == key) for key in dict.fromkeys(keys)]


class BallisticIntegrator:
    """Straight flight from the window's last frame: what one step must beat."""

    trained_on: tuple[str, ...] = ()
    window = 1

    def fit(self, data: Dataset) -> Self:
        """Nothing is learned."""
        return self

    def rollout(self, window: Dataset, n: int, interval: float | None = None) -> Frames:
        """Frames after a window, of which the last positions and velocities are read."""
        n, interval = checked_request(window, n, interval)
        times = np.asarray(interval * np.arange(1, n + 1))
        x, v = window.positions[:, -1:], window.velocities[:, -1:]
        positions = x + times[:, None, None] * v
        return Frames(times, positions, np.repeat(v, n, 1), ("",) * len(window))

    def __repr__(self) -> str:
        return "BallisticIntegrator()"


class PeriodicContinuation:
    """No learning, no potential: the period seen in a dense window goes on for ever.

    What a one-dimensional integrator must beat. It needs two periods of closely spaced frames.

    Args:
        harmonics: of the shape.
    """

    trained_on: tuple[str, ...] = ()
    dense = True
    """Windows must hold the steps between frames, too."""

    def __init__(self, harmonics: int = 1024) -> None:
        if integer("harmonics", harmonics) < 1:
            raise InvalidArgument(f"harmonics must be at least 1, got {harmonics}")
        self.harmonics = int(harmonics)

    def fit(self, data: Dataset) -> Self:
        """Nothing is learned."""
        return self

    def rollout(self, window: Dataset, n: int, interval: float | None = None) -> Frames:
        """Frames after a window; runs that do not hold two periods are refused."""
        n, interval = checked_request(window, n, interval)
        if window.positions.shape[2:] != (1, 1):
            raise InvalidArgument("window must hold one particle in one dimension")
        frequency, phase = np.full((2, len(window)), np.nan)
        shapes: list[Array] = []
        refused: list[str] = []
        last = float(window.times[-1])
        for run in range(len(window)):
            x = window.positions[run, :, 0, 0]
            orbit = orbit_of(x, window.interval, self.harmonics) if len(x) > 40 else None
            if orbit is not None and orbit.noise > 1e-6 * float(np.ptp(x)):
                orbit = None
            shapes.append(np.zeros(1) if orbit is None else orbit.coefficients)
            refused.append(
                "" if orbit else f"the window of run {run} holds no two periods of close frames"
            )
            if orbit is not None:
                frequency[run] = orbit.frequency
                phase[run] = orbit.phase + orbit.frequency * last
        motion = Motion(frequency, phase, tuple(shapes), tuple(refused))
        return motion.frames(interval * np.arange(1, n + 1))

    def __repr__(self) -> str:
        return f"PeriodicContinuation({self.harmonics})"
