"""Runs of a learned mobility in stock LAMMPS, and of the explicit solvent for its cost."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from xml.sax.saxutils import quoteattr

import numpy as np
import numpy.typing as npt

from mlcore.errors import Error, InvalidArgument
from mlcore.io.atomic import write_text
from mlcore.mobility.config import Cost, Interaction, Simulation

__all__ = [
    "Timing",
    "insert_particles",
    "lammps_input",
    "run_lammps",
    "write_data",
    "write_parameters",
]

Array = npt.NDArray[np.float64]
Progress = Callable[[float], None]


@dataclass(frozen=True)
class Timing:
    """What LAMMPS measured of its last ``run``: wall seconds, steps, and the log it is in."""

    seconds: float
    steps: int
    log: Path


def insert_particles(count: int, box: float, gap: float, seed: int) -> Array:
    """Random positions (count, 3) in a periodic cube, no two closer than ``gap``.

    Raises:
        InvalidArgument: no place is left (random insertion stops near a packing of 0.38).
    """
    rng = np.random.default_rng(seed)
    placed = np.empty((count, 3))
    for index in range(count):
        for _ in range(20000):
            trial = rng.uniform(0, box, 3)
            apart = placed[:index] - trial
            apart -= box * np.round(apart / box)
            if not np.any((apart**2).sum(1) < gap**2):
                placed[index] = trial
                break
        else:
            raise InvalidArgument(
                f"particles: only {index} of {count} with gap {gap:g} fit a box of {box:g}"
            )
    return placed


def write_data(path: Path, positions: Array, box: float) -> None:
    """A LAMMPS data file of atoms of one type in a periodic cube, full precision."""
    wrapped = positions % box
    atoms = "\n".join(
        f"{tag} 1 {x!r} {y!r} {z!r}" for tag, (x, y, z) in enumerate(wrapped.tolist(), start=1)
    )
    bounds = "\n".join(f"0 {box!r} {axis}lo {axis}hi" for axis in "xyz")
    text = (
        f"mlcore\n\n{len(positions)} atoms\n1 atom types\n\n{bounds}\n\nAtoms # atomic\n\n{atoms}\n"
    )
    write_text(path, text)


def write_parameters(path: Path, bundle: Path, kT: float, delta: float) -> None:
    """The XML of `fix mlmod` for stochastic dynamics with a bundle."""
    values = {
        "bundle": str(bundle),
        "delta": repr(delta),
        "KBT": repr(kT),
        "flag_stochastic": "1",
        "flag_thm_drift": "1",
    }
    tags = "\n".join(f"    <{name} value={quoteattr(v)}/>" for name, v in values.items())
    write_text(
        path,
        f'<?xml version="1.0"?>\n<MLMOD>\n  <model_data type="dX_MF_Q1_ML1_Pair">\n{tags}\n'
        "  </model_data>\n</MLMOD>\n",
    )


def lammps_input(run: Simulation, interaction: Interaction | None, seed: int) -> str:
    """LAMMPS input of one run; files of the same folder: start.data, mlmod.xml, trajectory.dump."""
    steps = round(run.duration / run.time_step)
    every = round(run.frame / run.time_step)
    pair = "pair_style zero 1.0\npair_coeff * *"
    if interaction is not None:
        pair = (
            f"pair_style lj/cut {interaction.cutoff!r}\n"
            f"pair_coeff 1 1 {interaction.epsilon!r} {interaction.sigma!r}"
        )
    return f"""\
# {run.particles} particles in a periodic cube of edge {run.box:g} move with a learned mobility
units lj
atom_style atomic
atom_modify map array
boundary p p p
read_data start.data
mass 1 1.0
{pair}
neighbor 1.0 bin
neigh_modify delay 0 every 1 check yes
timestep {run.time_step!r}
fix move all mlmod mlmod.xml seed {seed}
thermo {max(1, steps // 50)}
thermo_style custom step pe
dump frames all custom {every} trajectory.dump id xu yu zu
dump_modify frames sort id format line "%d %.8g %.8g %.8g"
run {steps}
"""


def run_lammps(folder: Path, script: str, progress: Progress | None = None) -> Timing:
    """Runs ``lmp`` with the plugin on ``script`` in ``folder``, on one rank.

    Raises:
        Error: LAMMPS failed; the message ends with its own.
    """
    from mlcore.lammps.run import command, environment_variables

    write_text(folder / "in.lammps", script)
    return _run([*command(), "-in", "in.lammps"], environment_variables(), folder, progress)


def run_solvent(folder: Path, script: Path, cost: Cost, seed: int) -> Timing:
    """Runs the explicit solvent for a few steps, stock ``lmp`` without the plugin, on one rank."""
    from mlcore.lammps.run import command, environment_variables

    values = {"N": cost.particles, "L": f"{cost.box:g}", "seed": seed, "steps": cost.steps}
    words = [word for name, value in values.items() for word in ("-var", name, str(value))]
    environment = environment_variables()
    environment.pop("LAMMPS_PLUGIN_PATH", None)
    return _run([*command(), "-in", str(script), *words], environment, folder, None)


def _run(
    words: list[str], environment: dict[str, str], folder: Path, progress: Progress | None
) -> Timing:
    log = folder / "log.lammps"
    with subprocess.Popen(
        [*words, "-log", log.name, "-nocite"],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL,
        text=True,
    ) as process:
        lines = []
        for line in process.stdout or ():
            lines.append(line)
            step = re.match(r"\s*(\d+)\s", line)
            if progress and step:
                progress(float(step[1]))
    text = "".join(lines)
    if process.returncode != 0:
        raise Error(f"LAMMPS failed in {folder}: {_reason(lines)}")
    loops = re.findall(r"Loop time of (\S+) on \d+ procs for (\d+) steps", text)
    if not loops:
        raise Error(f"LAMMPS ran nothing in {folder}, see {log}")
    return Timing(float(loops[-1][0]), int(loops[-1][1]), log)


def _reason(lines: list[str]) -> str:
    errors = [line.strip() for line in lines if line.startswith("ERROR")]
    return errors[0] if errors else " / ".join(line.strip() for line in lines[-3:])
