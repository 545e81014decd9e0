"""examples/active_learning: three rounds from a poor force to a good one; scripts and errors."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import ase
import numpy as np
import pytest
from mlcore import forces, lammps
from mlcore.errors import Error
from test_native_force import lattice

EXAMPLE = Path(__file__).parents[2] / "examples" / "active_learning" / "active_learning.py"


def learn(folder: Path) -> str:
    words = [sys.executable, str(EXAMPLE), "--quick", "--out", str(folder)]
    result = subprocess.run(words, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout[-2000:] + result.stderr[-3000:]
    return result.stdout


def test_the_example(tmp_path: Path) -> None:
    table = learn(tmp_path)
    rows = [line.strip("| ").split("|") for line in table.splitlines()[2:]]
    errors = {row[0].strip(): float(row[2]) for row in rows}
    assert next(iter(errors)) == "0" and "cold only" in errors and len(errors) >= 3
    rounds = [errors[name] for name in errors if name != "cold only"]
    assert rounds[-1] < rounds[0] / 3
    assert rounds[-1] < errors["cold only"] / 3
    assert (tmp_path / "table.md").read_text() == table
    assert (tmp_path / "active_learning.png").stat().st_size > 10_000
    stamps = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*") if p.suffix in (".xyz", ".json")}
    assert learn(tmp_path) == table
    assert stamps == {p: p.stat().st_mtime_ns for p in stamps}


SCRIPT = """
units lj
lattice sc 0.58
region box block 0 4 0 4 0 4
create_box 1 box
create_atoms 1 box
mass 1 1.0
fix model all mlcore force ${model}
velocity all create 1.0 4711
fix move all nve
fix unknown all mlcore record ${frames} every 5 from model above $(0.0*v_spread+v_round)
include ${home}/run.lmp
"""


def test_a_script_and_its_errors(tmp_path: Path) -> None:
    frames = []
    for seed in (1, 2, 3):
        atoms = ase.Atoms("X64", positions=lattice(4, 0.05, seed), cell=4.8 * np.eye(3), pbc=True)
        frames += lammps.label(atoms, "lj/smooth/linear 2.0", "* * 1.0 1.0")
    script = tmp_path / "in.explore"
    script.write_text(SCRIPT)
    model = forces.Committee(forces.PairForce(cutoff=2.0, intervals=8), members=3)

    def rounds() -> list[forces.Round]:
        return forces.active_rounds(
            model,
            frames,
            script,
            lambda found: lammps.label(found, "lj/smooth/linear 2.0", "* * 1.0 1.0"),
            folder=tmp_path / "rounds",
            rounds=1,
            most=2,
            fit={"validation": None},
        )

    (tmp_path / "run.lmp").write_text("rune 20\n")
    with pytest.raises(
        Error, match=r"in.explore stopped in round 0(.|\n)*Unknown command: rune 20"
    ):
        rounds()
    (tmp_path / "run.lmp").write_text("run 20\n")
    first, last = rounds()
    assert (first.known, first.added, last.known) == (3, 2, 5)
    assert first.recorded in (4, 5)  # the first frame is a lattice, without forces but for rounding
