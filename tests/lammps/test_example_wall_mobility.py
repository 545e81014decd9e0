"""The example on the mobility near a wall, in its quick setting."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

EXAMPLE = Path(__file__).parents[2] / "examples" / "wall_mobility" / "run.py"


def test_wall_mobility(tmp_path: Path) -> None:
    result = subprocess.run(
        [sys.executable, str(EXAMPLE), "--quick", "--out", str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    same = re.search(r"WallRPY differ by (\S+)", result.stdout)
    assert same is not None and float(same[1]) < 1e-6
    errors = re.search(r"along the wall (\S+) \(\S+\), up (\S+) ", result.stdout)
    assert errors is not None
    assert float(errors[1]) < 0.03
    assert float(errors[2]) < 0.04
    distances = re.findall(r"from Boltzmann (\S+), from Boltzmann / mobility (\S+)", result.stdout)
    (right, other), (wrong, predicted) = [tuple(map(float, pair)) for pair in distances]
    assert right < other and right < 0.06
    assert predicted < wrong
    assert (tmp_path / "wall.png").stat().st_size > 10_000
