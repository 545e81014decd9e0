"""Runs of a reference system over a grid of parameters, in parallel and resumable."""

from __future__ import annotations

import datetime
import hashlib
import itertools
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

import mlcore
from mlcore.arrays import integer, number, one_of, positive
from mlcore.dynamics import Report, reporter
from mlcore.errors import FileFormatError, InvalidArgument
from mlcore.md.dataset import Dataset
from mlcore.md.starts import lattice_start, random_start
from mlcore.md.systems import SYSTEMS, TRUTHS, System, named, parameters_of

__all__ = ["sweep"]

Array = npt.NDArray[np.float64]
_OF_RUNS = {1: ("x0", "v0", "mass"), 3: ("seed", "mass", "temperature", "lattice", "settle")}
_WHOLE = ("seed", "lattice")
_PART = 64  # runs of one part


def sweep(
    system: str,
    over: Mapping[str, npt.ArrayLike],
    *,
    fixed: Mapping[str, Any] | None = None,
    dt: float,
    time: float,
    every: int = 1,
    truth: str = "verlet",
    path: str | os.PathLike[str] | None = None,
    progress: bool | Report = False,
    num_threads: int | None = None,
) -> Dataset:
    """Runs for every combination of parameters, in the order of nested loops.

    Args:
        system: name of a reference system, one of `SYSTEMS`.
        over: values by name: parameters of the system, and of its runs: in one dimension "x0"
            (start), "v0" (default 0) and "mass" (default 1), for Lennard-Jones particles "seed" (of
            `random_start`, default 0), "mass", "temperature" (of the first velocities, default 0),
            "lattice" (cells along an edge of a crystal to start from, default 0: at random) and
            "settle" (time before the first frame, default 0).
        fixed: values that all runs share, of the same names.
        dt: step of the integrator.
        time: length of a run, a whole number of frames.
        every: steps between frames.
        truth: "verlet" or "order8", which needs far fewer and longer steps.
        path: HDF5 file to leave the runs in. Parts that are done are kept beside it until it is
            whole, and a sweep that was stopped goes on with the next one; a file that holds this very
            sweep is read.
        progress: a bar, or a function of (steps done, steps in all).
        num_threads: CPU threads over the runs; None takes the library-wide setting.

    Raises:
        InvalidArgument: a name, value or shape is wrong, or `path` holds something else.
        Error: a run has blown up.
    """
    plan = _Plan(system, over, fixed or {}, dt, time, every, truth)
    if path is not None and Path(path).is_file():
        return _kept(Path(path), plan)
    parts = None if path is None else Path(f"{os.fspath(path)}.parts") / plan.digest
    with reporter(progress, f"{system}: {plan.count} runs") as report:
        pieces = []
        for number_, rows in enumerate(plan.parts()):
            kept = None if parts is None else parts / f"{number_:05}.h5"
            pieces.append(_part(plan, rows, kept, num_threads))
            report(sum(len(p) for p in pieces) * plan.steps, plan.count * plan.steps)
    whole = plan.in_order(pieces)
    if path is not None and parts is not None:
        whole.save(path)
        shutil.rmtree(parts.parent)
    return whole


class _Plan:
    """A checked request: which runs, of how many steps."""

    def __init__(
        self,
        system: str,
        over: Mapping[str, npt.ArrayLike],
        fixed: Mapping[str, Any],
        dt: float,
        time: float,
        every: int,
        truth: str,
    ) -> None:
        self.system, self.truth = (
            one_of("system", system, *SYSTEMS),
            one_of("truth", truth, *TRUTHS),
        )
        self.dt, self.every = positive("dt", dt), integer("every", every)
        if self.every < 1:
            raise InvalidArgument(f"every must be at least 1, got {every}")
        self.steps = round(positive("time", time) / self.dt)
        if self.steps % self.every or abs(self.steps * self.dt - time) > 1e-9 * time:
            raise InvalidArgument(
                f"time must be a whole number of frames of {self.every} steps of {dt}, got {time}"
            )
        self.own, self.fixed = self._names(over, fixed)
        self.over = {name: _values(name, values) for name, values in over.items()}
        if not over:
            raise InvalidArgument("over must hold the values of a parameter, one for one run")
        self.rows = np.array(list(itertools.product(*self.over.values())), dtype=np.float64)
        for name in _WHOLE:
            values = self.values(name, np.arange(len(self.rows)), 0.0)
            if not (values % 1 == 0).all():
                raise InvalidArgument(
                    f"{name} must be whole numbers, got {values[values % 1 != 0][0]}"
                )

    def _names(
        self, over: Mapping[str, Any], fixed: Mapping[str, Any]
    ) -> tuple[tuple[str, ...], dict[str, Any]]:
        own = parameters_of(self.system)
        of_runs = _OF_RUNS[3 if self.system == "lennard_jones" else 1]
        for name in (*over, *fixed):
            if name not in own + of_runs:
                raise InvalidArgument(
                    f"{self.system} has no parameter {name!r}; it has {', '.join(own + of_runs)}"
                )
            if name in over and name in fixed:
                raise InvalidArgument(f"{name} is both in over and in fixed")
        if "n" in over:
            raise InvalidArgument("n must be in fixed: runs of a data set have the same particles")
        for name in set(fixed).intersection(of_runs):
            number(name, fixed[name])
        if "x0" in of_runs and "x0" not in (*over, *fixed):
            raise InvalidArgument("over or fixed must hold x0, where runs start")
        return own, dict(fixed)

    @property
    def count(self) -> int:
        return len(self.rows)

    @property
    def request(self) -> dict[str, Any]:
        """All that decides about the frames."""
        return {
            "system": self.system,
            "over": {name: values.tolist() for name, values in self.over.items()},
            "fixed": self.fixed,
            "dt": self.dt,
            "steps": self.steps,
            "every": self.every,
            "truth": self.truth,
        }

    @property
    def digest(self) -> str:
        text = json.dumps(self.request | {"mlcore": mlcore.__version__}, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def parts(self) -> Iterator[npt.NDArray[np.intp]]:
        """Numbers of the runs that are made at once: those of one system, some at a time."""
        varied = [k for k, name in enumerate(self.over) if name in self.own]
        keys = self.rows[:, varied]
        _, group = np.unique(keys, axis=0, return_inverse=True)
        for one in range(group.max() + 1):
            members = np.flatnonzero(group.reshape(-1) == one)
            for begin in range(0, len(members), _PART):
                yield members[begin : begin + _PART]

    def values(self, name: str, rows: npt.NDArray[np.intp], default: float) -> Array:
        """(len(rows),) values of a parameter."""
        if name in self.over:
            column = list(self.over).index(name)
            return np.asarray(self.rows[rows, column])
        return np.full(len(rows), float(self.fixed.get(name, default)))

    def in_order(self, pieces: list[Dataset]) -> Dataset:
        whole = Dataset.concatenate(pieces)
        return whole[np.argsort(np.concatenate(list(self.parts())))]

    def provenance(self) -> dict[str, Any]:
        return {
            "request": self.request,
            "mlcore": mlcore.__version__,
            "numpy": np.__version__,
            "simd": mlcore._core.simd_level(),
            "made": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        }


def _values(name: str, values: npt.ArrayLike) -> Array:
    array = np.atleast_1d(np.asarray(values))
    if array.ndim != 1 or array.size == 0 or array.dtype.kind not in "iuf":
        raise InvalidArgument(f"over[{name!r}] must be a list of numbers, got {values!r}")
    if not np.isfinite(array).all():
        raise InvalidArgument(f"over[{name!r}] must be finite")
    return array.astype(np.float64)


def _part(
    plan: _Plan, rows: npt.NDArray[np.intp], kept: Path | None, num_threads: int | None
) -> Dataset:
    if kept is not None and kept.is_file():
        try:
            return Dataset.load(kept)
        except FileFormatError:
            kept.unlink()
    made = _run(plan, rows, num_threads)
    if kept is not None:
        kept.parent.mkdir(parents=True, exist_ok=True)
        made.save(kept)
    return made


def _run(plan: _Plan, rows: npt.NDArray[np.intp], num_threads: int | None) -> Dataset:
    first = dict(zip(plan.over, plan.rows[rows[0]].tolist(), strict=True))
    told = {k: v for k, v in {**plan.fixed, **first}.items() if k in plan.own}
    system = named(plan.system, **told)
    mass = plan.values("mass", rows, 1.0)
    if system.dim == 1:
        x0 = plan.values("x0", rows, 0.0).reshape(-1, 1, 1)
        v0 = plan.values("v0", rows, 0.0).reshape(-1, 1, 1)
    else:
        x0, v0 = _starts(plan, rows, system, mass)
    masses = np.repeat(mass[:, None], system.particles, 1)
    x0, v0 = _settled(plan, rows, system, masses, x0, v0, num_threads)
    run = system.run(
        x0,
        v0,
        dt=plan.dt,
        steps=plan.steps,
        every=plan.every,
        mass=masses,
        truth=plan.truth,
        num_threads=num_threads,
    )
    return Dataset(
        plan.system,
        run.positions,
        run.velocities,
        run.potential,
        run.kinetic,
        masses,
        plan.dt * plan.every,
        {name: plan.rows[rows, k] for k, name in enumerate(plan.over)},
        {k: v for k, v in plan.fixed.items() if k in plan.own},
        plan.provenance(),
    )


def _starts(
    plan: _Plan, rows: npt.NDArray[np.intp], system: System, mass: Array
) -> tuple[Array, Array]:
    seeds, kT = plan.values("seed", rows, 0.0), plan.values("temperature", rows, 0.0)
    cells = plan.values("lattice", rows, 0.0)
    made = [
        lattice_start(system, int(c), int(s), mass=m, temperature=t)
        if c
        else random_start(system, int(s), mass=m, temperature=t)
        for c, s, m, t in zip(cells, seeds, mass, kT, strict=True)
    ]
    x0, v0 = (np.stack(parts) for parts in zip(*made, strict=True))
    return x0, v0


def _settled(
    plan: _Plan, rows: npt.NDArray[np.intp], system: System, masses: Array, x0: Array, v0: Array,
    num_threads: int | None,
) -> tuple[Array, Array]:  # fmt: skip
    """Positions and velocities after the time before the first frame."""
    times = plan.values("settle", rows, 0.0)
    if (times < 0).any():
        raise InvalidArgument(f"settle must not be negative, got {times.min():g}")
    steps = np.round(times / plan.dt).astype(int)
    if (np.abs(steps * plan.dt - times) > 1e-9 * times).any():
        raise InvalidArgument(f"settle must be a whole number of steps of {plan.dt}")
    for count in np.unique(steps[steps > 0]):
        some = steps == count
        run = system.run(
            x0[some],
            v0[some],
            dt=plan.dt,
            steps=int(count),
            every=int(count),
            mass=masses[some],
            truth=plan.truth,
            energies=False,
            num_threads=num_threads,
        )
        x0[some], v0[some] = run.positions[:, -1], run.velocities[:, -1]
    return x0, v0


def _kept(path: Path, plan: _Plan) -> Dataset:
    found = Dataset.load(path)
    if found.provenance.get("request") != json.loads(json.dumps(plan.request)):
        raise InvalidArgument(f"path {path} holds another sweep; choose another name or remove it")
    return found
