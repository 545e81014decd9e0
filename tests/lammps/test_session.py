"""LAMMPS inside the process that learns: the notebook of the examples, and one session at a time."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

NOTEBOOK = Path(__file__).parents[2] / "examples" / "notebook" / "learned_force.ipynb"


def python(program: str, folder: Path) -> str:
    result = subprocess.run(
        [sys.executable, "-c", program], cwd=folder, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def test_the_notebook_runs(tmp_path: Path) -> None:
    cells = json.loads(NOTEBOOK.read_text())["cells"]
    code = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    program = "import matplotlib\nmatplotlib.use('Agg')\n" + "\n".join(code)
    output = python(program, tmp_path)
    error = re.search(r"force component: (\S+) of its size", output)
    stays = re.search(r"stays within (\S+); mean potential energy (\S+), .* force (\S+)", output)
    assert error is not None and float(error[1]) < 5e-3
    assert stays is not None and float(stays[1]) < 5e-3
    assert abs(float(stays[2]) - float(stays[3])) < 0.1
    assert (tmp_path / "learned_force.png").stat().st_size > 10_000


def test_one_session_at_a_time(tmp_path: Path) -> None:
    program = """
from mlcore import lammps
from mlcore.errors import Error
first = lammps.session()
try:
    lammps.session()
except Error as error:
    assert "close()" in str(error)
else:
    raise SystemExit("a second session opened")
first.close()
with lammps.session() as second:
    assert second.version() > 0
third = lammps.session()
third.command("units real")
third.close()
print("done")
"""
    assert "done" in python(program, tmp_path)
