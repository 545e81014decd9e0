"""What truly happens a step after a given state, by stock LAMMPS with AIREBO."""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path

import numpy as np
from frames import ROOM, Pair, positions, states_of
from measures import Stepper
from mlcore.errors import Error
from mlcore.lammps.run import command, environment_variables
from mlcore.sagesnet import AtomGrid, AtomState
from mlcore.sagesnet.carbon import Pull, Sample, Window
from mlcore.sagesnet.carbon.stretch import potential
from numpy.typing import NDArray

Array = NDArray[np.float64]


class Watched:
    """A stepper that keeps states on its way.

    Args:
        inner: that makes the steps.
        every: of so many states that it is given one is kept, the second one of all first.
    """

    def __init__(self, inner: Stepper, every: int) -> None:
        self.inner, self.every = inner, every
        self.states: list[AtomState] = []
        self._given = 0
        if hasattr(inner, "forces"):
            self.forces = inner.forces

    def __call__(self, state: AtomState) -> AtomState:
        if self._given % self.every == 1 % self.every:
            self.states.append(state)
        self._given += 1
        return self.inner(state)

    def some(self, count: int) -> list[AtomState]:
        """So many of the states kept at most, evenly spaced, the first and the last among them."""
        spaced = np.linspace(0, len(self.states) - 1, min(count, len(self.states)))
        return [self.states[k] for k in spaced.round().astype(int)]


def followed(
    sample: Sample, pull: Pull, states: list[AtomState], *, dt: float = 10.0
) -> tuple[NDArray[np.float64], str]:
    """States of a run's body, each with what is true ``dt`` fs later: the grips as in the run, but no
    thermostat, whose pushes at random nobody can tell.

    Returns:
        (s, 2, 2, n, 3) of the states that could be followed: before and after; places, A, in the
        run's box, and velocities, A/fs; atoms by id. And why the last one of the others could not.
    """
    found, why = [], ""
    for state in states:
        order = np.argsort(state.ids.numpy())
        before = np.stack([positions(state), state.velocity.detach().double().numpy()[order]])
        try:
            found.append(np.stack([before, later(sample, pull, *before, dt=dt)]))
        except Error as problem:
            why = str(problem)
    return np.array(found).reshape(-1, 2, 2, len(sample.start), 3), why


def pairs_of_truth(sample: Sample, found: Array, grid: AtomGrid) -> list[Pair]:
    """What `followed` has found as states."""
    pairs = []
    for x, v in found.transpose(0, 2, 1, 3, 4):
        now, after = states_of(Window(sample, np.arange(2), np.zeros(2), x, v), grid)
        pairs.append((now, after))
    return pairs


def later(sample: Sample, pull: Pull, x: Array, v: Array, *, dt: float) -> Array:
    """(2, n, 3) places and velocities ``dt`` fs after ``x``, A, and ``v``, A/fs.

    Raises:
        Error: LAMMPS stopped, or the sheet flew apart.
    """
    row = '"%d %.17g %.17g %.17g %.17g %.17g %.17g"'
    kept = f"write_dump all custom later.txt id x y z vx vy vz modify sort id format line {row}"
    with tempfile.TemporaryDirectory(prefix="mlcore-truth-") as name:
        work = Path(name)
        write_body(work, sample, pull, x, v)
        steps = round(dt * 1e-3 / pull.timestep)
        lammps(work, [*script(sample, pull, pull.lj, steps, heat=False), kept])
        table = np.loadtxt(work / "later.txt", skiprows=9, ndmin=2)
    if table.shape != (len(x), 7) or not np.isfinite(table).all():
        raise Error(f"LAMMPS kept {len(table)} of {len(x)} atoms")
    box = np.diag(sample.start.cell[:])
    if not ((table[:, 1:4] > -ROOM) & (table[:, 1:4] < box + ROOM)).all():
        raise Error("an atom has left the box")
    return np.stack([table[:, 1:4], 1e-3 * table[:, 4:]])


def lammps(work: Path, lines: list[str]) -> None:
    """A script, run in a folder where its body lies.

    Raises:
        Error: LAMMPS stopped, with its last words.
    """
    (work / "in.truth").write_text("\n".join(lines) + "\n")
    words = [*command(), "-in", "in.truth", "-log", "none"]
    done = subprocess.run(
        words,
        cwd=work,
        env=environment_variables(plugin=False),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise Error(f"LAMMPS stopped (status {done.returncode}):\n{done.stdout[-500:]}")


def write_body(work: Path, sample: Sample, pull: Pull, x: Array, v: Array) -> None:
    """What `script` reads: AIREBO's parameters, and a run's body with places, A, and velocities, A/fs."""
    potential(work, pull.rcmin)
    box = np.diag(sample.start.cell[:])
    lines = ["carbon", "", f"{len(sample.start)} atoms", "1 atom types", ""]
    lines += [
        f"0 {edge!r} {axis}lo {axis}hi" for axis, edge in zip("xyz", box.tolist(), strict=True)
    ]
    lines += ["", "Masses", "", "1 12.011", "", "Atoms # atomic", ""]
    for k, row in enumerate(x.tolist(), 1):
        lines.append(f"{k} 1 " + " ".join(map(repr, row)))
    lines += ["", "Velocities", ""]
    for k, row in enumerate((1e3 * v).tolist(), 1):
        lines.append(f"{k} " + " ".join(map(repr, row)))
    (work / "body.data").write_text("\n".join(lines) + "\n")


def script(sample: Sample, pull: Pull, lj: bool, length: int, *, heat: bool = True) -> list[str]:
    """So many time steps of a body that `write_body` wrote; ``heat``: with the thermostat."""
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
        *[f"fix heat mobile langevin {warm} {warm} {pull.damping!r} 1"][: int(heat)],
        "fix motion mobile nve",
        f"fix lower low move linear {-speed!r} 0.0 0.0",
        f"fix upper high move linear {speed!r} 0.0 0.0",
        f"run {length}",
    ]
