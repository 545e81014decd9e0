"""`mlcore doctor` tells when NumPy's BLAS uses the wrong kernels."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
import time

import pytest
from mlcore.cli import doctor, gemm

GOOD = gemm.Gemm(270e9, 115e9, 282e9, 139e9, "openblas", "SkylakeX", "avx512")


def test_good_rates_need_no_remedy() -> None:
    assert GOOD.remedy == ""
    assert GOOD.state == "fp32 270, fp64 115 GF/s: 96%, 83% of the FMA peak, openblas SkylakeX"


@pytest.mark.parametrize(
    ("changes", "remedy"),
    [
        ({"core": "Haswell"}, "OPENBLAS_CORETYPE=SkylakeX"),
        ({"core": "Zen"}, "OPENBLAS_CORETYPE=SkylakeX"),
        ({"core": "Nehalem", "simd": "avx2"}, "OPENBLAS_CORETYPE=Haswell"),
        ({"core": "SkylakeX"}, "quiet machine"),
        ({"core": "Zen", "simd": "avx2"}, "quiet machine"),
        ({"core": "Prescott", "simd": "baseline"}, "quiet machine"),
        ({"blas": "", "core": ""}, "pip install --force-reinstall numpy"),
    ],
)
def test_slow_products_come_with_a_remedy(changes: dict[str, str], remedy: str) -> None:
    slow = dataclasses.replace(GOOD, double=67e9, **changes)
    assert slow.fraction < gemm.ENOUGH
    assert remedy in slow.remedy


def test_one_slow_precision_is_enough() -> None:
    assert dataclasses.replace(GOOD, single=100e9, core="Haswell").remedy
    assert dataclasses.replace(GOOD, double=50e9, core="Haswell").remedy


def test_measured_rates_are_possible_and_quick() -> None:
    start = time.process_time()
    found = gemm.measure()
    assert time.process_time() - start < 2
    assert 1e8 < found.single_peak < 1e13 and 1e8 < found.double_peak < 1e13
    assert 0.01 < found.fraction < 20  # above 1 when MLCORE_SIMD lowers the peak
    assert found.blas


def kernels(core: str) -> tuple[str, float]:
    """Name and fp64 rate NumPy reaches when OpenBLAS is told to take a CPU for another."""
    code = "from mlcore.cli import gemm; g = gemm.measure(); print(g.core, g.double)"
    environment = os.environ | {"OPENBLAS_CORETYPE": core, "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    name, rate = done.stdout.split()
    return name, float(rate)


@pytest.mark.skipif(
    GOOD.simd != gemm.measure().simd or gemm.measure().blas != "openblas",
    reason="needs OpenBLAS on an AVX-512 machine",
)
def test_the_kernels_named_are_those_in_use() -> None:
    name, rate = kernels("Haswell")
    old_name, old_rate = kernels("Prescott")  # SSE3; it may name a still older one
    assert name == "Haswell" != old_name
    assert rate > 1.5 * old_rate


def test_doctor_shows_it(monkeypatch: pytest.MonkeyPatch) -> None:
    slow = dataclasses.replace(GOOD, double=67e9, core="Haswell")
    monkeypatch.setattr(gemm, "measure", lambda: slow)
    finding = next(f for f in doctor.examine() if f.name == "GEMM")
    assert finding.optional and not finding.works
    assert "48%" in finding.state and "OPENBLAS_CORETYPE=SkylakeX" in finding.remedy
