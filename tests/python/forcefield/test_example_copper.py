"""The example of copper runs as its README says."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).parents[3] / "examples" / "copper" / "copper.py"


@pytest.mark.slow
def test_elastic_constants_are_met_and_the_embedding_has_no_jumps(tmp_path: Path) -> None:
    words = [sys.executable, str(EXAMPLE), "--quick", "--out", str(tmp_path)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=900, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert (tmp_path / "table.md").read_text() in done.stdout
    rows = [line.strip("| ").split(" | ") for line in done.stdout.splitlines() if " | " in line]
    found = {name: [float(cell) for cell in cells] for name, *cells in rows[1:]}
    tolerances = {"fcc a": 0.003, "fcc energy": 0.003, "fcc C11": 3, "fcc C12": 3, "fcc C44": 3}
    for name, tolerance in tolerances.items():
        measured, start, fitted, _ = found[name]
        assert abs(fitted - measured) < tolerance < abs(start - measured)
    assert (tmp_path / "copper.png").read_bytes()[:4] == b"\x89PNG"
    assert (tmp_path / "fit" / "model" / "in.lammps").is_file()
