"""`python -m bench` from the command line to its files."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]


def bench(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "bench", *words], cwd=ROOT, capture_output=True, text=True
    )


def test_unknown_script_is_told_with_those_there_are() -> None:
    done = bench("--scripts", "nonsense")
    assert done.returncode == 1 and "no benchmark named nonsense; there are" in done.stderr


def test_nothing_chosen_still_writes_the_machine(tmp_path: Path) -> None:
    done = bench("--only", "no such workload", "--out", str(tmp_path), "--budget", "0.01")
    assert done.returncode == 0, done.stderr
    content = json.loads((tmp_path / "bench.json").read_text())
    assert content["rows"] == []
    machine = content["machine"]
    assert (
        machine["packages"]["numpy"] and machine["simd"] and machine["limits"]["1"]["fma64"] > 1e8
    )
    assert not (tmp_path / "bench.png").exists()
