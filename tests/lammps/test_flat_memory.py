"""Memory stays flat: MLMOD keeps 25 kB for every fix that was ever made.

Ten thousand fixes of every mode, and runs of 10^5 steps, some minutes:

    MLCORE_UNFIX_ROUNDS=10000 MLCORE_LONG_STEPS=100000 python -m pytest tests/lammps/test_flat_memory.py
"""

from __future__ import annotations

import os
import subprocess

import pytest
import traced_models as models
from lammps_case import Case, system
from masked_models import atom_force, one_step, pair_force, values, whole_force
from mlcore.lammps.run import command, environment_variables
from test_deterministic import scattered
from test_stochastic import box

ROUNDS = int(os.environ.get("MLCORE_UNFIX_ROUNDS", "300"))
LONG = int(os.environ.get("MLCORE_LONG_STEPS", "20000"))
WARM = 100
FILES = {
    "dX_MF_ML1": {"M_ii_filename": "M_ii.pt", "M_ij_filename": "M_ij.pt"},
    "F_ML1": {"F_filename": "m.pt"},
    "F_X_ML1": {"F_filename": "m.pt"},
    "F_Pair_ML1": {"F_filename": "m.pt"},
    "Dyn_ML1": {"dyn1_filename": "m.pt", "dyn2_filename": "m.pt"},
    "QoI_ML1": {"qoi_filename": "m.pt"},
}


def peak_kilobytes(case: Case, rounds: int, steps: int) -> int:
    """Largest resident set of an lmp that makes `rounds` fixes, one after the other."""
    run = f"fix m all mlmod model.xml verbose 0\nrun {steps}\n"
    case.write(
        "in.lmp",
        system("p p p")
        + f"thermo {steps}\nlabel top\nvariable i loop {rounds}\n{run}unfix m\nnext i\n"
        + "jump SELF top\n",
    )
    words = [*command(), "-in", "in.lmp", "-log", "none", "-screen", "none"]
    process = subprocess.Popen(words, cwd=case.folder, env=environment_variables())
    _, status, usage = os.wait4(process.pid, 0)
    assert status == 0
    return int(usage.ru_maxrss)


def start(case: Case, mode: str) -> None:
    n = 3
    case.atoms(scattered(n, 5.0), box(5))
    functions = {
        "F_ML1": (whole_force(n), n),
        "F_X_ML1": (atom_force(), 1),
        "F_Pair_ML1": (pair_force(), 2),
        "Dyn_ML1": (one_step(n, 1e-3), n),
        "QoI_ML1": (values(n), n),
    }
    tags = {"base_name": "b", "base_dir": "out", "mask_fix": "FINAL_INTEGRATE"}
    if mode in functions:
        model, atoms = functions[mode]
        models.save_traced(model, 10 * atoms + 1, case.folder / "m.pt")
    else:
        case.pair_models()
    more = {"mask_input": "X V F Type Time", "skip_step": 1000000}
    case.parameters(mode, **{**tags, **more, **FILES[mode]})


@pytest.mark.parametrize("mode", FILES)
def test_fixes_that_come_and_go(case: Case, mode: str) -> None:
    start(case, mode)
    growth = peak_kilobytes(case, WARM + ROUNDS, 1) - peak_kilobytes(case, WARM, 1)
    assert growth / ROUNDS < 2


@pytest.mark.parametrize("mode", ["F_Pair_ML1", "QoI_ML1"])
def test_long_runs(case: Case, mode: str) -> None:
    start(case, mode)
    growth = peak_kilobytes(case, 1, LONG) - peak_kilobytes(case, 1, 2_000)
    assert growth < 1500
