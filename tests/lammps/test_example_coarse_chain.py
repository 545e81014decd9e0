"""The example on coarse coordinates, in its quick setting."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

EXAMPLE = Path(__file__).parents[2] / "examples" / "coarse_chain" / "run.py"


def test_coarse_chain(tmp_path: Path) -> None:
    result = subprocess.run(
        [sys.executable, str(EXAMPLE), "--quick", "--autoencoder", "--out", str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr

    def numbers(pattern: str) -> list[float]:
        found = re.search(pattern, result.stdout)
        assert found is not None, result.stdout
        return [float(word) for word in found.groups()]

    rate, rouse = numbers(r"slowest mode: rate (\S+), Rouse (\S+)")
    assert abs(rate / rouse - 1) < 0.15
    (differ,) = numbers(r"from its frames: differ by (\S+)")
    assert differ < 1e-5
    (off,) = numbers(r"learned step off by (\S+) of its start")
    assert off < 0.06
    left, principal = numbers(r"numbers leave (\S+) of a bead's place, principal components (\S+)")
    # a Gaussian chain: there is nothing to gain
    assert left < 1.03 * principal
    (differ,) = numbers(r"its first number, in the run and from its frames: differ by (\S+)")
    assert differ < 1e-5
    off, error = numbers(r"its step off by (\S+) of the start \(standard error (\S+)\)")
    assert off < 3 * error < 0.3
    assert (tmp_path / "coarse_chain.png").stat().st_size > 10_000
