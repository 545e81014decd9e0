"""What a step of 10 fs costs: models and LAMMPS, one core, one after the other, CPU seconds."""

from __future__ import annotations

import contextlib
import os
import resource
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from frames import states_of
from measures import Stepper
from mlcore.lammps.run import command, environment_variables
from mlcore.sagesnet import AtomGrid
from mlcore.sagesnet.carbon import Pull, Sample
from mlcore.sagesnet.carbon.stretch import potential


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
        work = Path(name)
        potential(work, pull.rcmin)
        _data(work / "body.data", sample, frame)
        for length in (1, 1 + steps * per_step):
            (work / "in.cost").write_text("\n".join(_script(sample, pull, lj, length)) + "\n")
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            words = [*command(), "-in", "in.cost", "-log", "none", "-screen", "none"]
            subprocess.run(words, cwd=work, env=environment_variables(plugin=False), check=True)
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            spent.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return (spent[1] - spent[0]) / steps


def _data(path: Path, sample: Sample, frame: int) -> None:
    window = sample.window(frame, 1)
    box = np.diag(sample.start.cell[:])
    lines = ["carbon", "", f"{len(sample.start)} atoms", "1 atom types", ""]
    lines += [
        f"0 {edge!r} {axis}lo {axis}hi" for axis, edge in zip("xyz", box.tolist(), strict=True)
    ]
    lines += ["", "Masses", "", "1 12.011", "", "Atoms # atomic", ""]
    for k, row in enumerate(window.positions[0].tolist(), 1):
        lines.append(f"{k} 1 " + " ".join(map(repr, row)))
    lines += ["", "Velocities", ""]
    for k, row in enumerate((1e3 * window.velocities[0]).tolist(), 1):
        lines.append(f"{k} " + " ".join(map(repr, row)))
    path.write_text("\n".join(lines) + "\n")


def _script(sample: Sample, pull: Pull, lj: bool, length: int) -> list[str]:
    grip = sample.start.arrays["grip"]
    warm = pull.temperature
    held = {"low": np.flatnonzero(grip < 0) + 1, "high": np.flatnonzero(grip > 0) + 1}
    speed = pull.rate * float(sample.record["length"]) / 2
    return [
        "units metal",
        "atom_style atomic",
        "atom_modify map array",
        "boundary m m m",
        "read_data body.data",
        f"pair_style airebo 3.0 {int(lj)} 1",
        "pair_coeff * * CH.airebo C",
        f"timestep {pull.timestep!r}",
        "neighbor 1.0 bin",
        "neigh_modify every 5 delay 5 check yes",
        *(f"group {name} id {' '.join(map(str, ids))}" for name, ids in held.items()),
        "group grips union low high",
        "group mobile subtract all grips",
        f"fix heat mobile langevin {warm} {warm} {pull.damping!r} 1",
        "fix motion mobile nve",
        f"fix lower low move linear {-speed!r} 0.0 0.0",
        f"fix upper high move linear {speed!r} 0.0 0.0",
        f"run {length}",
    ]
