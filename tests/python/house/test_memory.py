"""The tools of `memory.py` see what they must."""

from __future__ import annotations

import pytest
from memory import peak_extra, requested

MEGABYTE = 1 << 20


def test_peak_counts_what_is_touched_and_given_back() -> None:
    setup = "import numpy as np; one = lambda: np.ones(40 << 17)"
    kept = peak_extra("one()", setup)
    assert 39 * MEGABYTE < kept < 44 * MEGABYTE
    both = peak_extra("one() + one()", setup)  # operands and sum; NumPy may add in place
    assert 1.9 * kept < both < 3.2 * kept


def test_peak_does_not_count_the_past() -> None:
    setup = "import numpy as np; np.ones(100 << 17); small = np.zeros(10)"
    assert peak_extra("small + 1", setup) < MEGABYTE


@pytest.mark.parametrize("size", [0, 1000, 10**6])
def test_requested_counts_what_is_given_back(size: int) -> None:
    setup = "import ctypes; c = ctypes.CDLL(None); c.malloc.restype = ctypes.c_void_p; "
    setup += f"f = lambda: c.free(ctypes.c_void_p(c.malloc(ctypes.c_size_t({size}))))"
    assert size <= requested("f()", setup) < size + 500


def test_pool_is_reused() -> None:
    setup = (
        "import numpy as np, mlcore; x = np.random.default_rng(0).random((20000, 3)) * 20;"
        "cell = np.eye(3) * 20"
    )
    call = "mlcore.neighbor_list('ij', x, 2.0, cell, True)"
    assert peak_extra(call, setup) > 8 * MEGABYTE
    assert requested(call, setup) < 4 * MEGABYTE
