"""Every instruction set gives the same answer to the same random questions.

MLCORE_FUZZ_SEED and MLCORE_FUZZ_SECONDS (for the slowest level of each operation) widen the search.
"""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cases import OPERATIONS, Results
from mlcore import _core

LEVELS = ("baseline", "avx2", "avx512")
SEED = os.environ.get("MLCORE_FUZZ_SEED", "1")
SECONDS = os.environ.get("MLCORE_FUZZ_SECONDS", "0.5")


def levels() -> tuple[str, ...]:
    """Those of this machine, the slowest first."""
    best = _core.simd_level()
    return LEVELS[: LEVELS.index(best) + 1] if best in LEVELS else (best,)


def answers(name: str, level: str, count: int, seconds: str, file: Path) -> list[Results]:
    worker = Path(__file__).parent / "worker.py"
    done = subprocess.run(
        [sys.executable, str(worker), name, SEED, str(count), seconds, str(file)],
        env=os.environ | {"MLCORE_SIMD": level, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, f"{level}: {done.stderr}"
    content: dict[str, Any] = pickle.loads(file.read_bytes())
    assert content["level"] == level
    return content["cases"]


def difference(expected: Results, found: Results, rtol: float, atol: float = 0.0) -> str:
    """What differs; empty when nothing does."""
    if expected.keys() != found.keys():
        return f"{sorted(expected)} became {sorted(found)}"
    for name, a in expected.items():
        b = found[name]
        if (a.shape, a.dtype) != (b.shape, b.dtype):
            return f"{name}: {a.dtype} {a.shape} became {b.dtype} {b.shape}"
        if a.dtype.kind not in "fc" or rtol == 0:
            if a.tobytes() != b.tobytes():
                return f"{name}: {np.sum(a != b)} entries differ"
            continue
        bound = atol + rtol * np.abs(a).max(initial=0.0)
        if not np.all(np.abs(a - b) <= bound):  # nan is a difference
            return f"{name}: off by {np.abs(a - b).max():.2e}, allowed {bound:.2e}"
    return ""


@pytest.mark.skipif(len(levels()) == 1, reason="this machine has one instruction set level")
@pytest.mark.parametrize("name", OPERATIONS)
def test_levels_agree(name: str, tmp_path: Path) -> None:
    slowest, *others = levels()
    expected = answers(name, slowest, 10_000, SECONDS, tmp_path / slowest)
    assert len(expected) >= 5, "too few cases in the time given"
    assert any("error" not in case for case in expected), "every case is an error"
    for level in others:
        found = answers(name, level, len(expected), "1000", tmp_path / level)
        for index, (a, b) in enumerate(zip(expected, found, strict=True)):
            told = difference(a, b, OPERATIONS[name].rtol, OPERATIONS[name].atol)
            assert not told, f"{name}, seed {SEED}, case {index}, {slowest} to {level}: {told}"


def test_differences_are_seen() -> None:
    a = {"i": np.arange(3), "x": np.array([1.0, 1e-20])}
    assert difference(a, {"i": np.arange(3), "x": np.array([1.0, 2e-20])}, 1e-12) == ""
    assert "off by" in difference(a, a | {"x": np.array([1.0, 1e-11])}, 1e-12)
    assert "off by" in difference(a, a | {"x": np.array([1.0, np.nan])}, 1e-12)
    assert "1 entries" in difference(a, a | {"x": np.array([1.0, 2e-20])}, 0)
    assert "1 entries" in difference(a, a | {"i": np.array([0, 1, 3])}, 1e-12)
    assert "became" in difference(a, a | {"i": np.arange(4)}, 1e-12)
    assert "became" in difference(a, {"error": np.array("Error")}, 1e-12)
