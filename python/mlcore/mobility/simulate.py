"""Runs of a learned mobility in stock LAMMPS, and of the explicit solvent for its cost."""

from __future__ import annotations

import math
import os
import re
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from mlcore.errors import Error, InvalidArgument
from mlcore.io.atomic import write_text
from mlcore.mobility.config import Cost, Interaction, Simulation

__all__ = [
    "Timing",
    "equilibrium_input",
    "insert_particles",
    "learned_input",
    "run_lammps",
    "run_solvent",
    "write_data",
]

Array = npt.NDArray[np.float64]
Progress = Callable[[float], None]


@dataclass(frozen=True)
class Timing:
    """What LAMMPS measured of its last ``run``: CPU seconds, steps, and the log it is in."""

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


def _pair_style(interaction: Interaction | None) -> str:
    if interaction is None:
        return "pair_style zero 1.0\npair_coeff * *"
    return (
        f"pair_style lj/cut {interaction.cutoff!r}\n"
        f"pair_coeff 1 1 {interaction.epsilon!r} {interaction.sigma!r}"
    )


_HEAD = """\
units lj
atom_style atomic
atom_modify map array
boundary p p p
read_data start.data
mass 1 1.0
{pair}
neighbor 1.0 bin
neigh_modify delay 0 every 1 check yes
"""

_FRAMES = """\
dump frames all custom {every} trajectory.dump id xu yu zu
dump_modify frames sort id format line "%d %.10g %.10g %.10g"
thermo {thermo}
thermo_style custom step pe
run {steps}
"""


def learned_input(
    run: Simulation, interaction: Interaction | None, parameters: Path, seed: int
) -> str:
    """LAMMPS input of a run with the learned model; reads start.data, writes trajectory.dump."""
    steps = round(run.duration / run.time_step)
    every = round(run.frame / run.time_step)
    title = f"# {run.particles} particles in a periodic cube of edge {run.box:g}, learned mobility"
    return "\n".join(
        [
            title,
            _HEAD.format(pair=_pair_style(interaction)),
            f"timestep {run.time_step!r}",
            f'fix move all mlmod "{parameters}" seed {seed}',
            _FRAMES.format(every=every, thermo=max(1, steps // 50), steps=steps),
        ]
    )


def equilibrium_input(
    interaction: Interaction, kT: float, seed: int, steps: int, every: int
) -> str:
    """LAMMPS input that samples the equilibrium of the interaction: Langevin, no hydrodynamics."""
    time = interaction.sigma / math.sqrt(max(interaction.epsilon, kT))
    return "\n".join(
        [
            "# equilibrium of the known interaction by Langevin dynamics, for start and S(k)",
            _HEAD.format(pair=_pair_style(interaction)),
            f"velocity all create {kT!r} {seed}",
            f"timestep {0.006 * time!r}",
            "fix move all nve",
            f"fix bath all langevin {kT!r} {kT!r} {1.5 * time!r} {seed + 1}",
            _FRAMES.format(every=every, thermo=max(1, steps // 50), steps=steps),
        ]
    )


def run_lammps(
    folder: Path, script: str, *, plugin: bool, progress: Progress | None = None
) -> Timing:
    """Runs ``lmp`` on ``script`` in ``folder``, on one rank, with or without the plugin.

    Raises:
        Error: LAMMPS failed; the message ends with its own.
        BackendUnavailable: the plugin is not built, or LAMMPS is not installed.
    """
    from mlcore.lammps.run import command, environment_variables

    write_text(folder / "in.lammps", script)
    one = {"MLCORE_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    environment = environment_variables(one) if plugin else _stock_environment()
    return _run([*command(), "-in", "in.lammps"], environment, folder, progress)


def run_solvent(folder: Path, script: Path, cost: Cost, seed: int) -> Timing:
    """Runs the explicit solvent for a few steps, stock ``lmp`` on one rank."""
    from mlcore.lammps.run import command

    values = {"N": cost.particles, "L": f"{cost.box:g}", "seed": seed, "steps": cost.steps}
    words = [word for name, value in values.items() for word in ("-var", name, str(value))]
    return _run([*command(), "-in", str(script), *words], _stock_environment(), folder, None)


def _stock_environment() -> dict[str, str]:
    from mlcore.lammps.environment import find_environment

    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    environment.pop("LAMMPS_PLUGIN_PATH", None)
    folders = [str(find_environment().mpi_library.parent), environment.get("LD_LIBRARY_PATH", "")]
    return environment | {"LD_LIBRARY_PATH": ":".join(folder for folder in folders if folder)}


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
    share = re.findall(r"(\S+)% CPU use with", text)
    busy = float(share[-1]) / 100 if share else 1.0
    return Timing(float(loops[-1][0]) * busy, int(loops[-1][1]), log)


def _reason(lines: list[str]) -> str:
    errors = [line.strip() for line in lines if line.startswith("ERROR")]
    return errors[0] if errors else " / ".join(line.strip() for line in lines[-3:])
