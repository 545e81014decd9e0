"""The rates of the machine are measured once and kept."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import limits
import pytest

ROOT = Path(__file__).parents[3]
KEYS = (
    "fma64 fma32 dram_copy dram_read dram_write l2_copy l3_copy gather32B_8MiB gather32B_64MiB "
    "first_touch_4k first_touch_thp gemm32 gemm64 gemm32_numpy gemm64_numpy"
)


def test_measured_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    calls = []

    def measure(threads: int) -> dict[str, float]:
        calls.append(threads)
        return {"fma64": 1e9 * threads}

    assert limits.measured(1, measure) == {"fma64": 1e9}
    assert limits.measured(1, measure) == {"fma64": 1e9}
    assert limits.measured(2, measure) == {"fma64": 2e9}
    assert calls == [1, 2]
    assert not list(tmp_path.rglob("*.part"))
    assert limits.remeasured(1, lambda threads: {"fma64": 3e9}) == limits.measured(1, measure)


def test_the_program_measures_everything(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "bench/limits.py")],
        env=os.environ | {"XDG_CACHE_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    rates = {line.split()[0]: float(line.split()[1]) for line in done.stdout.splitlines()[1:]}
    assert set(KEYS.split()) <= set(rates)
    assert all(0.001 < rate < 1000 for rate in rates.values())
    assert rates["gemm64"] <= 1.15 * rates["fma64"], "GEMM above the peak: the peak is wrong"
    assert rates["first_touch_4k"] < rates["l2_copy"]
