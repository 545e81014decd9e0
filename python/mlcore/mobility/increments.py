"""Displacements of all particles over a lag: what the likelihood loss learns from.

Two conventions of where the mobility of an increment is evaluated:

* "start": at the configuration the increment starts from (Ito). Mean (M F + kT div M) lag. Right for
  data without solvent inertia and a lag short against the time in which forces change.
* "middle": at the configuration half-way. Averages the change of M over the lag to first order. By
  time reversal an equilibrium increment has mean zero given its middle, so conservative forces and
  the drift do not enter passive data; in driven data the external force does. The density is then
  that of the increment given its middle, not given its start.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from mlcore.data.trajectory import Trajectory
from mlcore.errors import InvalidArgument
from mlcore.mobility.intervals import Interactions, active_intervals, checked_runs, frames_in

__all__ = ["Increments", "active_increments", "passive_increments"]

Array = NDArray[np.float64]
Where = Literal["start", "middle"]


@dataclass(frozen=True, eq=False)
class Increments:
    """Displacements of n particles in B intervals.

    Args:
        positions: (B,n,3) configurations in which the mobility is evaluated.
        displacements: (B,n,3) over one lag each.
        lag: duration of an interval.
        kT: thermal energy.
        forces: (B,n,3) known mean forces in the intervals, or None for none.
        cell: (3,3) periodic cell or None.
        drift: whether the mean holds kT div M lag.
        blocks: (B,) label of the stretch each interval comes from; resampled as a whole.
        runs: (B,) label of the trajectory each interval comes from; splits never cut one.
    """

    positions: Array
    displacements: Array
    lag: float
    kT: float
    forces: Array | None = None
    cell: Array | None = None
    drift: bool = True
    blocks: NDArray[np.int64] | None = None
    runs: NDArray[np.int64] | None = None

    def __post_init__(self) -> None:
        shape = np.shape(self.positions)
        if len(shape) != 3 or shape[2] != 3 or 0 in shape:
            raise InvalidArgument(f"positions must have shape (B, n, 3), not {shape}")
        for name in ("positions", "displacements", "forces"):
            value = getattr(self, name)
            if value is None and name == "forces":
                continue
            array = np.ascontiguousarray(value, dtype=np.float64)
            if array.shape != shape:
                raise InvalidArgument(f"{name} must have shape {shape}, not {array.shape}")
            if not np.isfinite(array).all():
                raise InvalidArgument(f"{name} holds values that are not finite")
            object.__setattr__(self, name, array)
        for name in ("lag", "kT"):
            value = getattr(self, name)
            if not (np.isfinite(value) and value > 0):
                raise InvalidArgument(f"{name} must be positive, not {value!r}")
        if self.cell is not None:
            object.__setattr__(self, "cell", np.asarray(self.cell, dtype=np.float64))
        for name in ("blocks", "runs"):
            value = getattr(self, name)
            labels = np.arange(shape[0]) if name == "blocks" else np.zeros(shape[0])
            labels = (labels if value is None else np.asarray(value)).astype(np.int64)
            if labels.shape != (shape[0],):
                raise InvalidArgument(f"{name} must have shape ({shape[0]},), not {labels.shape}")
            object.__setattr__(self, name, labels)

    def __len__(self) -> int:
        return len(self.positions)

    @property
    def particles(self) -> int:
        """Number of particles n."""
        return int(self.positions.shape[1])

    def labels(self, name: Literal["blocks", "runs"]) -> NDArray[np.int64]:
        """(B,) labels, never None."""
        value = getattr(self, name)
        assert value is not None
        return np.asarray(value, dtype=np.int64)

    def select(self, which: NDArray[np.bool_] | NDArray[np.int64]) -> Increments:
        """Some of the intervals."""
        return replace(
            self,
            positions=self.positions[which],
            displacements=self.displacements[which],
            forces=None if self.forces is None else self.forces[which],
            blocks=self.labels("blocks")[which],
            runs=self.labels("runs")[which],
        )

    def split(self, held_out: Sequence[int]) -> tuple[Increments, Increments]:
        """(training, held out) by run labels.

        Raises:
            InvalidArgument: one of the two parts would be empty.
        """
        out = np.isin(self.labels("runs"), list(held_out))
        if out.all() or not out.any():
            known = sorted(set(self.labels("runs").tolist()))
            raise InvalidArgument(f"held_out must name some, not all, of the runs {known}")
        return self.select(~out), self.select(out)


def _joined(parts: list[dict[str, Array]], run: Trajectory, lag: float, kT: float) -> Increments:
    """One record of all parts; blocks are numbered through, runs given by the parts."""
    together = {
        name: np.concatenate([p[name] for p in parts])
        for name in ("positions", "displacements", "forces", "runs")
    }
    blocks = np.repeat(np.arange(len(parts)), [len(p["positions"]) for p in parts])
    return Increments(
        together["positions"],
        together["displacements"],
        lag,
        kT,
        together["forces"],
        run.cell,
        blocks=blocks.astype(np.int64),
        runs=together["runs"].astype(np.int64),
    )


def passive_increments(
    trajectories: Trajectory | Sequence[Trajectory],
    *,
    lag: float,
    kT: float,
    where: Where = "middle",
    interactions: Interactions | None = None,
    blocks_per_run: int = 10,
    stride: int | None = None,
) -> Increments:
    """Increments of free motion, one after the other without overlap.

    Args:
        trajectories: runs in one box.
        lag: multiple of the frames' interval (an even one for where="middle").
        kT: thermal energy.
        where: "middle" or "start", see the module.
        interactions: known conservative forces; enter the mean for where="start" only.
        blocks_per_run: stretches of a run that are resampled as wholes.
        stride: frames between the starts of intervals; default the lag.

    Raises:
        InvalidArgument: naming the argument.
    """
    if where not in ("start", "middle"):
        raise InvalidArgument(f"where must be 'start' or 'middle', not {where!r}")
    runs = checked_runs(trajectories)
    parts = []
    for label, run in enumerate(runs):
        steps = frames_in(lag, run, "lag")
        if where == "middle" and steps % 2:
            raise InvalidArgument(f"lag of {steps} frames has no middle frame: take an even number")
        starts = np.arange(0, len(run) - steps, stride or steps)
        if len(starts) == 0:
            raise InvalidArgument(f"lag {lag:g} is longer than {run.source or 'a trajectory'}")
        for piece in np.array_split(starts, min(blocks_per_run, len(starts))):
            at = piece + (steps // 2 if where == "middle" else 0)
            force = np.zeros((len(piece), run.particles, 3))
            if interactions is not None and where == "start":
                force = interactions(run.positions[piece], run.cell, run.pbc)
            parts.append(
                {
                    "positions": run.positions[at],
                    "displacements": run.positions[piece + steps] - run.positions[piece],
                    "forces": force,
                    "runs": np.full(len(piece), label, dtype=np.float64),
                }
            )
    return replace(_joined(parts, runs[0], lag, kT), drift=where == "start")


def active_increments(
    trajectories: Trajectory | Sequence[Trajectory],
    *,
    lag: float,
    kT: float,
    skip: float = 0.0,
    interactions: Interactions | None = None,
    block: float | None = None,
) -> Increments:
    """Increments of motion under known, piecewise constant external forces.

    The same intervals, forces (external plus the mean of `interactions` over the interval) and
    middle configurations as `active_estimate` uses.

    Args:
        trajectories: runs in one box, with forces.
        lag: multiple of the frames' interval.
        kT: thermal energy.
        skip: time left out after each change of the forces.
        interactions: known conservative forces.
        block: longest duration of a block; by default a stretch of constant force.

    Raises:
        InvalidArgument: naming the argument, or no interval is left.
    """
    runs = checked_runs(trajectories, need="forces")
    parts = []
    for label, run in enumerate(runs):
        for x, displacement, force in active_intervals(run, lag, skip, block, interactions):
            parts.append(
                {
                    "positions": x,
                    "displacements": displacement,
                    "forces": force,
                    "runs": np.full(len(x), label, dtype=np.float64),
                }
            )
    if not parts:
        raise InvalidArgument(f"no interval of lag {lag:g} is left after skipping {skip:g}")
    return replace(_joined(parts, runs[0], lag, kT), drift=False)
