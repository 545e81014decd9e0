"""What a step of 10 fs costs: models and LAMMPS, one core, one after the other, CPU seconds."""

from __future__ import annotations

import contextlib
import os
import resource
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from frames import states_of
from measures import Stepper
from mlcore.sagesnet import AtomGrid
from mlcore.sagesnet.carbon import Pull, Sample
from truth import lammps, script, write_body


@contextlib.contextmanager
def one_core() -> Iterator[None]:
    """Everything here, and what is started from here, on one core and one thread."""
    cores, threads = os.sched_getaffinity(0), torch.get_num_threads()
    os.sched_setaffinity(0, {min(cores)})
    torch.set_num_threads(1)
    try:
        yield
    finally:
        os.sched_setaffinity(0, cores)
        torch.set_num_threads(threads)


def costs(
    steppers: Mapping[str, Stepper],
    sample: Sample,
    grid: AtomGrid,
    pull: Pull,
    *,
    dt: float = 10.0,
    frame: int = 0,
    steps: int = 10,
    rounds: int = 3,
) -> dict[str, Any]:
    """CPU seconds per atom and ``dt`` fs, everyone beginning at the same frame of a run.

    Rounds go over all of them in turn, so that what else the machine does falls on all alike; the
    least of the rounds counts.

    Returns:
        By name, ``airebo`` (with the forces between atoms that are not bonded) and ``airebo no lj``
        among them.
    """
    (state,) = states_of(sample.window(frame, 1), grid)
    # LAMMPS is told by the difference of two runs: seconds of it, for small bodies too
    longer = steps * max(1, 3000 // len(state))
    found: dict[str, list[float]] = {}
    with one_core():
        for stepper in steppers.values():
            stepper(state)
        for _ in range(rounds):
            for name, stepper in steppers.items():
                now, begin = state, time.process_time()
                for _ in range(steps):
                    now = stepper(now)
                spent = time.process_time() - begin
                found.setdefault(name, []).append(spent / steps / len(state))
            for name, lj in (("airebo", True), ("airebo no lj", False)):
                spent = lammps_seconds(sample, pull, lj, dt, frame, longer)
                found.setdefault(name, []).append(spent / len(state))
    least = {name: min(values) for name, values in found.items()}
    return {"atoms": len(state), "steps": steps, "seconds": least, "all": found}


def lammps_seconds(
    sample: Sample, pull: Pull, lj: bool, dt: float, frame: int, steps: int
) -> float:
    """CPU seconds of LAMMPS for ``dt`` fs of a run from one of its frames on, without its start."""
    per_step = round(dt * 1e-3 / pull.timestep)
    spent = []
    with tempfile.TemporaryDirectory(prefix="mlcore-cost-") as name:
        work, window = Path(name), sample.window(frame, 1)
        write_body(work, sample, pull, window.positions[0], window.velocities[0])
        for length in (1, 1 + steps * per_step):
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            lammps(work, script(sample, pull, lj, length))
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            spent.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return (spent[1] - spent[0]) / steps
