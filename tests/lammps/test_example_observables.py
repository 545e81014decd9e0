"""The example on observables, in its quick setting."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

EXAMPLE = Path(__file__).parents[2] / "examples" / "observables" / "run.py"


def test_observables(tmp_path: Path) -> None:
    result = subprocess.run(
        [sys.executable, str(EXAMPLE), "--quick", "--out", str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert "crystal: q6 0.575, coordination 12.00" in result.stdout
    assert "halted" in result.stdout
    error = re.search(r"differ by (\S+) at most", result.stdout)
    assert error is not None and float(error[1]) < 1e-6
    learned = re.search(r"held-out error (\S+) \(labels spread (\S+)\)", result.stdout)
    assert learned is not None and float(learned[1]) < 0.1 * float(learned[2])
    shape = re.search(r"error (\S+) by the autoencoder, (\S+) by principal", result.stdout)
    assert shape is not None and float(shape[1]) < 0.9 * float(shape[2])
    away = re.search(r"learned coordination is off by (\S+) at most", result.stdout)
    assert away is not None and float(away[1]) < 0.5
    assert (tmp_path / "observables.png").stat().st_size > 10_000
