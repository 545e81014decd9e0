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
    assert peak_extra("small + 1", setup) < 4 * MEGABYTE


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


PARTICLES = """
import numpy as np, mlcore
rng = np.random.default_rng(0)
x, z = rng.random((1500, 3)) * 60, rng.normal(size=(1500, 3))
m = mlcore.mobility.RPY(1.0, 1.0)
M = m.matrix(x)
m.matrix(x[:9], [60] * 3)
root = mlcore.noise.sqrt_apply
root(m, x[:9], z[:9])
"""
POINTS = """
import numpy as np, mlcore
rng = np.random.default_rng(0)
grid = mlcore.VoxelGrid(128, [1, 1, 1])
x, f = rng.random((10**6, 3)), rng.random((10**6, 4), "f4")
field = rng.random((128, 128, 128, 4), "f4")
mlcore.rasterize(grid, x[:9], f[:9], layout="channels_last", out=field)
weight, small = rng.random((16, 16, 3, 3, 3), "f4"), rng.random((16, 64, 64, 64), "f4")
out = small + 1
mlcore.conv3d(small[:, :8, :8, :8], weight)
"""
MODELS = """
import numpy as np, mlcore
rng = np.random.default_rng(0)
x, box = rng.random((20000, 3)) * 28.7, [28.7] * 3
table = mlcore.PairPotential.from_functions(lambda r: (1 - r / 2.5) ** 2, 2.5)
table.evaluate(x[:9], box, True)
network = mlcore.MLP([(rng.normal(size=(64, 16)), None), (rng.normal(size=(1, 64)), None)])
rows, slopes = rng.normal(size=(2, 100000, 16))
network.gradient(rows[:9])
"""
MOVING = """
import numpy as np, mlcore
x, box = np.random.default_rng(0).random((100000, 3)) * 49.1, [49.1] * 3
def move(kept):
    for _ in range(4):
        kept.update(x, box, True)
        x[:] += 1e-3
    return kept
move(mlcore.NeighborList(1.0, 0.1))
"""
SIDE = 72 * 1500**2
DOCUMENTED = {  # (setup, call, bytes of the result, bytes besides)
    "matrix": (PARTICLES, "m.matrix(x)", SIDE, 3e6),
    "matrix periodic": (PARTICLES, "m.matrix(x, [60] * 3)", SIDE, 15e6),
    "apply": (PARTICLES, "m.apply(x, z)", 0, 2e6),
    "apply periodic": (PARTICLES, "m.apply(x, z, [60] * 3)", 0, 3e6),
    "cholesky": (PARTICLES, "mlcore.noise.cholesky(M)", SIDE, 0.13 * SIDE),
    "sqrt_apply": (PARTICLES, "root(m, x, z)", 0, 1.13 * SIDE),
    "sqrt_apply lanczos": (PARTICLES, "root(m, x, z, method='lanczos')", 0, 3e6),
    "sqrt_apply chebyshev": (PARTICLES, "root(m, x, z, method='chebyshev')", 0, 4e6),
    "neighbor list": (MOVING, "move(mlcore.NeighborList(2.5, 0.3))", 0, 100e6),
    "pair potential": (MODELS, "table.evaluate(x, box, True)", 0, 48e6),
    "mlp": (MODELS, "network.gradient(rows, out=slopes)", 0, 2e6),
    "rasterize": (
        POINTS,
        "mlcore.rasterize(grid, x, f, layout='channels_last', out=field)",
        0,
        14e6,
    ),
    "gather": (
        POINTS,
        "mlcore.gather(grid, field, x, layout='channels_last', out=f)",
        0,
        14e6,
    ),
    "conv3d": (POINTS, "mlcore.conv3d(small, weight, out=out)", 0, 2e6),
    "scatter3d": (POINTS, "mlcore.scatter3d(small, weight, boundary='zero', out=out)", 0, 2e6),
}


@pytest.mark.parametrize("name", DOCUMENTED)
def test_documented_peak(name: str) -> None:
    """The table "Memory" of docs/core.md."""
    setup, call, result, besides = DOCUMENTED[name]
    # the kernel's count of resident pages may be off by some hundred per thread
    assert result - 2e6 <= peak_extra(call, setup) <= result + besides + 2e6
