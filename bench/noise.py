"""Cholesky factorisation and correlated noise, beside SciPy, NumPy, torch and numba.

Mobility matrices (RPY) of spheres at random at volume fraction 0.1, float64. Peers run as shipped:
with the kernels their BLAS picks. The limit of a factorisation is m^3 / 3 operations at the FMA
peak, that of a noise vector by Lanczos half of M read from memory in every iteration, and 40
operations per pair where no matrix is formed. n = 4000 runs where it is asked for by name.

    python bench/noise.py [--threads 1,2] [--only cholesky] [--quick] [--json FILE]
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from harness import Case, Setup, installed, main
from mlcore.mobility import RPY
from mlcore.noise import cholesky, sqrt_apply
from mobility import numba_peers
from scipy import linalg

TOL = 1e-3
KERNELS_FIT = 0.6  # of the FMA peak: below, the peers' GEMM has the wrong kernels

Array = np.ndarray[Any, np.dtype[np.float64]]
Product = Callable[[Array], Array]


def configuration(n: int) -> Array:
    """Positions (n, 3)."""
    edge = (n * 4 / 3 * np.pi / 0.1) ** (1 / 3)
    return np.random.default_rng(4).random((n, 3)) * edge


def lanczos(product: Product, z: Array, tol: float = TOL, most: int = 100) -> tuple[Array, int]:
    """M^(1/2) z and the number of products: what one writes in NumPy."""
    norm = np.linalg.norm(z)
    basis, diagonal, off = [z / norm], [], []
    before = None
    for k in range(most):
        w = product(basis[-1])
        if k:
            w = w - off[-1] * basis[-2]
        diagonal.append(basis[-1] @ w)
        w = w - diagonal[-1] * basis[-1]
        b = np.linalg.norm(w)
        values, vectors = np.linalg.eigh(np.diag(diagonal) + np.diag(off, 1) + np.diag(off, -1))
        c = norm * (vectors * np.sqrt(np.maximum(values, 0))) @ vectors[0]
        change = np.inf if before is None else np.linalg.norm(np.append(before, 0) - c)
        if change < tol * np.linalg.norm(c):
            break
        before = c
        off.append(b)
        basis.append(w / b)
    return np.array(basis[: len(c)]).T @ c, k + 1


def chebyshev(product: Product, z: Array, low: float, high: float, degree: int) -> Array:
    """M^(1/2) z on known bounds of the spectrum."""
    k = np.arange(degree + 1)
    theta = np.pi * (k + 0.5) / (degree + 1)
    f = np.sqrt((high + low) / 2 + (high - low) / 2 * np.cos(theta))
    c = np.array([2 / (degree + 1) * np.sum(f * np.cos(m * theta)) for m in k])
    c[0] /= 2

    def mapped(v: Array) -> Array:
        return (2 * product(v) - (high + low) * v) / (high - low)

    t0, t1 = z, mapped(z)
    y = c[0] * t0 + c[1] * t1
    for m in range(2, degree + 1):
        t0, t1 = t1, 2 * mapped(t1) - t0
        y = y + c[m] * t1
    return y


def cholesky_case(setup: Setup, n: int) -> Case:
    matrix = RPY(1.0, 1.0).matrix(configuration(n))
    single = matrix.astype(np.float32)
    calls: dict[str, Callable[[], Any]] = {
        "mlcore": lambda: cholesky(matrix),
        "scipy": lambda: linalg.cholesky(matrix, lower=True, check_finite=False),
        "numpy": lambda: np.linalg.cholesky(matrix),
    }
    missing = {}
    if installed("torch"):
        import torch

        torch.set_num_threads(setup.threads)
        tensor = torch.from_numpy(matrix)
        calls["torch"] = lambda: torch.linalg.cholesky(tensor)
    else:
        missing["torch"] = "torch is not installed"
    if n < 2000:
        calls["mlcore float32"] = lambda: cholesky(single, precision="float32")
        calls["(scipy float32)"] = lambda: linalg.cholesky(single, lower=True, check_finite=False)
    np.testing.assert_allclose(calls["mlcore"](), calls["numpy"](), atol=1e-9)
    fit = setup.limits["gemm64_numpy"] / setup.limits["fma64"]
    return Case(
        f"cholesky n={n} (m={3 * n})",
        calls,
        limit=(3 * n) ** 3 / 3 / setup.limits["fma64"],
        must=0.95 if fit >= KERNELS_FIT else 1.3,
        against=("scipy",),
        note=f"numpy's GEMM at {fit:.0%} of the FMA peak",
        missing=missing,
    )


def vector_case(setup: Setup, n: int) -> Case:
    x, rpy = configuration(n), RPY(1.0, 1.0)
    matrix = rpy.matrix(x)
    z = np.random.default_rng(5).standard_normal(3 * n)
    rows = z.reshape(n, 3)

    def product(v: Array) -> Array:
        return np.asarray(matrix @ v)

    def formed(**options: Any) -> Any:
        return sqrt_apply(matrix, None, z, tol=TOL, **options)

    def free(**options: Any) -> Any:
        return sqrt_apply(rpy, x, rows, method="lanczos", tol=TOL, **options)

    theirs, products = lanczos(product, z)
    ours, report = formed(method="lanczos")
    if np.linalg.norm(ours - theirs) > 3 * TOL * np.linalg.norm(ours):
        raise SystemExit("the roots differ")
    calls: dict[str, Callable[[], Any]] = {
        "mlcore": lambda: formed(method="lanczos"),
        "numpy lanczos": lambda: lanczos(product, z),
        "mlcore float32": lambda: formed(method="lanczos", precision="float32"),
        "mlcore matrix-free": free,
        "mlcore matrix-free float32": lambda: free(precision="float32"),
        "mlcore chol + L z": formed,
        "scipy chol + L z": lambda: linalg.cholesky(matrix, lower=True, check_finite=False) @ z,
    }
    if n == 1000:
        values = linalg.eigvalsh(matrix, check_finite=False)
        low, high = 0.999 * values[0], 1.001 * values[-1]
        degree = formed(method="chebyshev", bounds=(low, high))[1].iterations
        calls["mlcore chebyshev"] = lambda: formed(method="chebyshev", bounds=(low, high))
        calls["mlcore chebyshev, no bounds"] = lambda: formed(method="chebyshev")
        calls["numpy chebyshev"] = lambda: chebyshev(product, z, low, high, degree)
    return Case(
        f"noise (one vector) n={n}",
        calls,
        limit=products * matrix.nbytes / 2 / setup.limits["dram_read"],
        must=1.5,
        against=("numpy lanczos",),
        note=f"{report.iterations} products, numpy {products}",
    )


def many_vectors(setup: Setup) -> Iterator[Case]:
    """What one pass over M for all vectors of a configuration is worth, and where auto turns."""
    n, count = 1000, 16
    name = f"noise ({count} vectors) n={n}"
    if not setup.wants(name):
        return
    matrix = RPY(1.0, 1.0).matrix(configuration(n))
    z = np.random.default_rng(5).standard_normal((count, 3 * n))

    def product(v: Array) -> Array:
        return np.asarray(matrix @ v)

    yield Case(
        name,
        {
            "mlcore": lambda: sqrt_apply(matrix, None, z, method="auto", tol=TOL),
            "mlcore chol": lambda: sqrt_apply(matrix, None, z),
            "numpy lanczos": lambda: [lanczos(product, one) for one in z],
            "scipy chol": lambda: z @ linalg.cholesky(matrix, lower=True, check_finite=False).T,
        },
    )


def numba_product(x: Array, parallel: bool) -> Product:
    """M v by the loop that bench/mobility.py times."""
    product = numba_peers(parallel)[1]
    columns = [np.ascontiguousarray(x[:, k]) for k in range(3)]
    out = np.empty_like(x)

    def applied(v: Array) -> Array:
        rows = v.reshape(x.shape)
        product(*columns, *(np.ascontiguousarray(rows[:, k]) for k in range(3)), out)
        return out.ravel().copy()

    return applied


def matrix_free_cases(setup: Setup) -> Iterator[Case]:
    n = 2000 if setup.quick else 10000
    name = f"noise matrix-free n={n}"
    if not setup.wants(name):
        return
    x, rpy = configuration(n), RPY(1.0, 1.0)
    z = np.random.default_rng(7).standard_normal((n, 3))
    _, report = sqrt_apply(rpy, x, z, method="lanczos", tol=TOL)
    calls: dict[str, Callable[[], Any]] = {
        "mlcore": lambda: sqrt_apply(rpy, x, z, method="lanczos", tol=TOL),
        "mlcore float32": lambda: sqrt_apply(
            rpy, x, z, method="lanczos", tol=TOL, precision="float32"
        ),
    }
    missing = {}
    if installed("numba"):
        product = numba_product(x, setup.threads > 1)
        calls["numba M.F + numpy lanczos"] = lambda: lanczos(product, z.ravel())
    else:
        missing["numba M.F + numpy lanczos"] = "numba is not installed"
    yield Case(
        name,
        calls,
        limit=report.iterations * n * n * 40 / setup.limits["fma64"],
        must=0.95,
        note=f"{report.iterations} products",
        missing=missing,
    )


def cases(setup: Setup) -> Iterator[Case]:
    for n in (100, 500, 1000) if setup.quick else (100, 500, 1000, 2000, 4000):
        asked = n < 4000 or "4000" in setup.only
        if asked and setup.wants(f"cholesky n={n} (m={3 * n})"):
            yield cholesky_case(setup, n)
    for n in (1000,) if setup.quick else (1000, 2000):
        if setup.wants(f"noise (one vector) n={n}"):
            yield vector_case(setup, n)
    yield from many_vectors(setup)
    yield from matrix_free_cases(setup)


if __name__ == "__main__":
    main(cases, __doc__)
