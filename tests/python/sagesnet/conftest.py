"""What several tests of this folder start from."""

import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from mlcore.lammps.environment import find_environment
from mlcore.lammps.run import command, environment_variables
from mlcore.sagesnet import AtomState, read_states

SHEET = """
units metal
boundary p p p
lattice custom 1.42 a1 3 0 0 a2 0 1.7320508 0 a3 0 0 8.45 &
    basis 0 0 0.5 basis 0.33333333 0 0.5 basis 0.5 0.5 0.5 basis 0.83333333 0.5 0.5
region all block 0 5 0 3 0 1
create_box 1 all
create_atoms 1 box
mass 1 12.011
pair_style tersoff
pair_coeff * * BNC.tersoff C
velocity all create 600 {seed} dist gaussian
timestep 0.001
fix 1 all nve
{warm}
run 700
{free}
dump 1 all custom 10 {seed}.dump id type xu yu zu vx vy vz
dump_modify 1 format float %.12g
run {steps}
"""

Sheets = Callable[[Sequence[int], int, bool], list[list[AtomState]]]


@pytest.fixture(scope="session")
def tersoff(tmp_path_factory: pytest.TempPathFactory) -> Sheets:
    """Runs of 60 atoms of graphene at 300 K: seeds, time steps, whether a thermostat warms them
    before; their frames are 10 fs apart, without a thermostat."""
    potentials = find_environment(torch=False).lammps / "share" / "lammps" / "potentials"
    variables = environment_variables({"LAMMPS_POTENTIALS": str(potentials)}, plugin=False)

    def made(seeds: Sequence[int], steps: int, warmed: bool) -> list[list[AtomState]]:
        folder: Path = tmp_path_factory.mktemp("sheets")
        found: list[list[AtomState]] = []
        for seed in seeds:
            warm = f"fix 2 all langevin 300 300 0.1 {seed}" if warmed else ""
            free = "unfix 2" if warmed else ""
            text = SHEET.format(seed=seed, steps=steps, warm=warm, free=free)
            (folder / "in.sheet").write_text(text)
            words = [*command(), "-in", "in.sheet", "-log", "none", "-screen", "none"]
            subprocess.run(words, cwd=folder, env=variables, check=True)
            grid = found[0][0].grid if found else None
            path = folder / f"{seed}.dump"
            found.append(read_states(path, grid, units="metal", elements=[6]))
        return found

    return made
