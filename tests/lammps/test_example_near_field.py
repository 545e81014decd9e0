"""The example on a learned near field of many bodies, in its quick setting."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

EXAMPLE = Path(__file__).parents[2] / "examples" / "near_field" / "run.py"


def test_near_field(tmp_path: Path) -> None:
    result = subprocess.run(
        [sys.executable, str(EXAMPLE), "--quick", "--out", str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    far = re.search(r"RPY differ by (\S+)", result.stdout)
    assert far is not None and float(far[1]) < 1e-12
    errors = re.findall(r"RPY alone (\S+), learned (\S+)", result.stdout)
    assert len(errors) == 2
    for alone, learned in errors:
        assert float(learned) < 0.1 * float(alone)
    eigenvalue = re.search(r"overlapping spheres: (\S+)", result.stdout)
    assert eigenvalue is not None and float(eigenvalue[1]) > 0
    covariance = re.search(r"root mean square (\S+), largest (\S+) standard", result.stdout)
    assert covariance is not None
    assert 0.9 < float(covariance[1]) < 1.1
    assert float(covariance[2]) < 5
    assert (tmp_path / "near_field.png").stat().st_size > 10_000
