"""How fast NumPy's matrix product is beside what the CPU can do."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import numpy as np

from mlcore import _core, machine

__all__ = ["ENOUGH", "Gemm", "measure"]

ENOUGH = 0.6
ORDER = 768  # out of the caches of one core, and done within 0.1 s
# Names OpenBLAS gives its AVX-512 kernels.
WIDE = ("skylakex", "cooperlake", "sapphirerapids")
CORES = {"avx512": "SkylakeX", "avx2": "Haswell"}


@dataclass(frozen=True)
class Gemm:
    """Rates of one thread in flop/s.

    Attributes:
        single, double: of NumPy's product.
        single_peak, double_peak: of multiply-adds in registers at `simd`.
        blas: NumPy's BLAS: "openblas", "mkl", ...; "" when unknown.
        core: the kernels it chose, e.g. "Haswell"; "" when it does not say.
        simd: instruction set of mlcore's inner loops.
    """

    single: float
    double: float
    single_peak: float
    double_peak: float
    blas: str
    core: str
    simd: str

    @property
    def fraction(self) -> float:
        """The worse of the two rates over its peak."""
        return min(self.single / self.single_peak, self.double / self.double_peak)

    @property
    def state(self) -> str:
        """One line for the reader."""
        single, double = self.single / self.single_peak, self.double / self.double_peak
        kernels = f", {self.blas}{' ' + self.core if self.core else ''}" if self.blas else ""
        return (
            f"fp32 {self.single / 1e9:.0f}, fp64 {self.double / 1e9:.0f} GF/s: "
            f"{single:.0%}, {double:.0%} of the FMA peak{kernels}"
        )

    @property
    def remedy(self) -> str:
        """What to do; empty when the rate is good."""
        if self.fraction >= ENOUGH:
            return ""
        if self.blas != "openblas":
            return "NumPy from PyPI brings OpenBLAS: pip install --force-reinstall numpy"
        wanted = CORES.get(self.simd, "")
        right = WIDE if self.simd == "avx512" else (wanted.lower(), "zen")
        if wanted and self.core.lower() not in right:
            return f"export OPENBLAS_CORETYPE={wanted} before Python starts"
        return "run this again on a quiet machine; then try another NumPy"


def measure() -> Gemm:
    """Measures for about a quarter of a second."""
    info = _blas()
    return Gemm(
        single=_rate(np.float32),
        double=_rate(np.float64),
        single_peak=machine.fma_rate(single_precision=True, num_threads=1),
        double_peak=machine.fma_rate(num_threads=1),
        blas=info.get("internal_api", ""),
        core=info.get("architecture", ""),
        simd=_core.simd_level(),
    )


def _blas() -> dict[str, Any]:
    """NumPy's BLAS among the libraries this process has loaded."""
    from threadpoolctl import threadpool_info

    loaded = [library for library in threadpool_info() if library["user_api"] == "blas"]
    own = [library for library in loaded if "numpy" in library["filepath"]]
    return dict((own or loaded or [{}])[0])


def _rate(dtype: type[np.floating[Any]]) -> float:
    from threadpoolctl import threadpool_limits

    a = np.random.default_rng(1).random((ORDER, ORDER)).astype(dtype)
    out = np.empty_like(a)
    best = float("inf")
    with threadpool_limits(1, user_api="blas"):
        for _ in range(5):
            start = time.process_time()
            np.matmul(a, a, out=out)
            best = min(best, time.process_time() - start)
    return 2 * ORDER**3 / max(best, 1e-9)
