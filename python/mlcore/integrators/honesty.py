"""What a prediction must pass before its error is worth printing; and what it used of the reference."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from mlcore.arrays import integer
from mlcore.dynamics import Trajectory
from mlcore.errors import InvalidArgument
from mlcore.integrators.face import Frames, Integrator
from mlcore.integrators.seen import seen
from mlcore.md import Dataset, System

__all__ = [
    "Gate",
    "Used",
    "no_peeking",
    "not_truth_plus_scalar",
    "simulation_time",
    "unseen_runs",
    "watched",
]

Array = npt.NDArray[np.float64]
_SAME = 1e-6  # spread of an error over coordinates, over its mean, at which it is one number


@dataclass(frozen=True)
class Gate:
    """Whether a prediction may be believed, and why. True in a test unless it failed.

    Attributes:
        name: what is asked.
        held: None where it cannot be told.
        detail: what was seen.
    """

    name: str
    held: bool | None
    detail: str

    def __bool__(self) -> bool:
        return self.held is not False

    def __str__(self) -> str:
        word = {True: "held", False: "FAILED", None: "not told"}[self.held]
        return f"{self.name}: {word} ({self.detail})"


def no_peeking(
    integrator: Integrator,
    data: Dataset,
    *,
    window: int = 5,
    steps: int = 5,
    interval: float | None = None,
) -> Gate:
    """Whether the frames after the window change a prediction: they are shuffled, then made NaN.

    The windows are views of the arrays that hold those frames, as in ordinary use, so that reading
    beyond the window would be seen.

    Args:
        integrator: any.
        data: runs of more than `window` frames.
        window: frames given.
        steps: predicted.
        interval: of the prediction; that of the data by default.
    """
    name = "nothing after the window is read"
    if not isinstance(data, Dataset):
        raise InvalidArgument(f"data must be a Dataset of runs, got {type(data).__name__}")
    if not 1 <= integer("window", window) < data.positions.shape[1]:
        raise InvalidArgument(
            f"window must leave frames of the {data.positions.shape[1]}, got {window}"
        )

    def predicted(spoil: str) -> Frames:
        spoiled = _copy(data)
        first = spoiled.frames(slice(window))
        for array in (spoiled.positions, spoiled.velocities, spoiled.potential, spoiled.kinetic):
            after = array[:, window:]
            if spoil == "shuffled":
                after[...] = after[:, ::-1] + 1.0
            elif spoil == "NaN":
                after[...] = np.nan
        return integrator.rollout(first, steps, interval)

    as_is = predicted("")
    if not _equal(as_is, predicted("")):
        return Gate(name, None, "the integrator gives something else when it is asked again")
    for spoil in ("shuffled", "NaN"):
        if not _equal(as_is, predicted(spoil)):
            return Gate(name, False, f"predictions change when later frames are {spoil}")
    return Gate(name, True, f"{steps} steps of {len(data)} runs, later frames shuffled, then NaN")


def _copy(data: Dataset) -> Dataset:
    names = ("positions", "velocities", "potential", "kinetic", "masses")
    return replace(data, **{name: getattr(data, name).copy() for name in names})


def _equal(a: Frames, b: Frames) -> bool:
    return a.refused == b.refused and all(
        np.array_equal(p, q, equal_nan=True)
        for p, q in ((a.positions, b.positions), (a.velocities, b.velocities))
        if p is not None and q is not None
    )


def not_truth_plus_scalar(predicted: npt.ArrayLike, truth: npt.ArrayLike) -> Gate:
    """Whether a prediction is the truth plus one number per frame: no model of many outputs does that.

    Args:
        predicted: (..., T, n, d).
        truth: of the same shape. Of one coordinate, runs (R, T, 1, 1) stand for coordinates.
    """
    name = "the prediction is not the truth plus one number per frame"
    p, t = np.asarray(predicted, dtype=np.float64), np.asarray(truth, dtype=np.float64)
    if p.shape != t.shape or p.ndim < 3:
        raise InvalidArgument(
            f"predicted and truth must have one shape (..., T, n, d), got {p.shape} and {t.shape}"
        )
    coordinates = p.shape[-1] * p.shape[-2]
    rows = (p - t).reshape(-1, coordinates)
    if coordinates == 1:
        rows = (p - t).reshape(-1, p.shape[-3]).T
    rows = rows[np.isfinite(rows).all(1)]
    if rows.size == 0 or rows.shape[1] < 2:
        return Gate(name, None, "there are no two coordinates to compare")
    mean = np.abs(rows.mean(1))
    size = np.abs(t[np.isfinite(t)]).max(initial=1.0)
    wrong = mean > 1e-12 * size
    if not wrong.any():
        return Gate(name, True, "errors have no mean")
    share = float((rows.std(1)[wrong] <= _SAME * mean[wrong]).mean())
    detail = f"errors of all {rows.shape[1]} coordinates are equal in {share:.0%} of the frames"
    return Gate(name, share < 0.5, detail)


def simulation_time(frames: Frames, interval: float) -> Gate:
    """Whether times count from the window's last frame in units of the system."""
    wanted = interval * np.arange(1, len(frames.times) + 1)
    held = bool(np.allclose(frames.times, wanted, rtol=1e-9))
    return Gate("times are in simulation units", held, f"to t = {frames.times[-1]:g}")


def unseen_runs(integrator: Any, data: Dataset) -> Gate:
    """Whether the runs were left out of training; integrators tell by `trained_on`."""
    name = "runs were not trained on"
    found = seen(integrator, data)
    if found is None:
        return Gate(name, None, "the integrator does not tell what it was trained on")
    if found.any():
        runs = ", ".join(map(str, np.flatnonzero(found)[:8]))
        return Gate(name, False, f"{found.sum()} of {len(data)} were: {runs}")
    return Gate(name, True, f"none of {len(data)}")


# ------------------------------------------------------------------------------------------ watching
@dataclass
class Used:
    """Evaluations of the reference potential that a watched window has seen."""

    forces: int = 0
    energies: int = 0


@dataclass(frozen=True, eq=False)
class _WatchedSystem(System):
    used: Used = field(default_factory=Used)

    def energies_forces(self, x: npt.ArrayLike) -> tuple[Any, Any]:
        count = len(np.asarray(x)) if np.ndim(x) == 3 else 1
        self.used.forces += count
        self.used.energies += count
        return super().energies_forces(x)

    def run(self, x0: npt.ArrayLike, v0: npt.ArrayLike | None = None, **options: Any) -> Trajectory:
        runs = len(np.asarray(x0)) if np.ndim(x0) == 3 else 1
        steps, every = options["steps"], options.get("every", 1)
        stages = 17 if options.get("truth") == "order8" else 1
        self.used.forces += runs * steps * stages
        if options.get("energies", True):
            self.used.energies += runs * (steps // every)
        return super().run(x0, v0, **options)


@dataclass(frozen=True, eq=False)
class _Watched(Dataset):
    used: Used = field(default_factory=Used)

    def system_of(self, run: int) -> System:
        found = super().system_of(run)
        told = {f.name: getattr(found, f.name) for f in fields(found)}
        return _WatchedSystem(**told, used=self.used)


def watched(window: Dataset) -> tuple[Dataset, Used]:
    """The same runs, and a count of what is asked of their reference potential through them."""
    told = {f.name: getattr(window, f.name) for f in fields(window)}
    found = _Watched(**{**told, "used": Used()})
    return found, found.used
