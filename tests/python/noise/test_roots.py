"""Lanczos, Chebyshev and Cholesky against SciPy and mpmath: convergence, hard cases, batches."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import mlcore
import mlcore.reference
import numpy as np
import pytest
import scipy.linalg
from devices import device_named
from hypothesis import given, settings
from hypothesis import strategies as st
from mlcore.errors import InvalidArgument, NotPositiveDefinite
from mlcore.mobility import RPY, Oseen, PairMobility
from mlcore.noise import cholesky, sqrt_apply

KRYLOV = ("lanczos", "chebyshev")
DEVICES = pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
RPY_UNIT = RPY(1.0, 1.0)


def suspension(n: int, phi: float = 0.1, seed: int = 4) -> Any:
    """Random positions at a volume fraction: spheres overlap."""
    edge = (n * 4 / 3 * np.pi / phi) ** (1 / 3)
    return np.random.default_rng(seed).random((n, 3)) * edge


def normal(*shape: int, seed: int = 5) -> Any:
    return np.random.default_rng(seed).standard_normal(shape)


def root(matrix: Any) -> Any:
    return scipy.linalg.sqrtm(matrix).real


def distance(a: Any, b: Any) -> float:
    return float(np.linalg.norm(np.ravel(a) - np.ravel(b)) / np.linalg.norm(b))


def test_square_of_the_root_is_the_mobility() -> None:
    """The bar: |S (S z) - M z| <= 10 tol |M z| for 20 random z at n = 1000."""
    x, z = suspension(1000), normal(20, 1000, 3)
    matrix = RPY_UNIT.matrix(x)
    for tol in (1e-2, 1e-3):
        once, report = sqrt_apply(RPY_UNIT, x, z, method="lanczos", tol=tol)
        twice, _ = sqrt_apply(matrix, x, once, method="lanczos", tol=tol)
        assert report.error <= tol
        exact = z.reshape(20, -1) @ matrix
        for got, want in zip(twice.reshape(20, -1), exact, strict=True):
            assert distance(got, want) <= 10 * tol


@DEVICES
@pytest.mark.parametrize("method", ["cholesky", *KRYLOV])
@pytest.mark.parametrize("place", [(3, 70), (70, 3), (98, 97)])
def test_given_matrices_must_be_symmetric(device: str, method: str, place: tuple[int, int]) -> None:
    where, z = device_named(device), normal(33, 3)
    matrix = np.diag(np.linspace(1.0, 2.0, 99))
    matrix[place] = 1e-10
    sqrt_apply(where.put(matrix), None, where.put(z), method=method)
    matrix[place] = 3e-10
    with pytest.raises(InvalidArgument, match=r"symmetric to 1e-10 .* entry of 3e-10"):
        sqrt_apply(where.put(matrix), None, where.put(z), method=method)
    matrix[place] = np.inf
    with pytest.raises(InvalidArgument, match="the matrix must be finite"):
        sqrt_apply(where.put(matrix), None, where.put(z), method=method)


@DEVICES
@pytest.mark.parametrize("method", KRYLOV)
@pytest.mark.parametrize("phi", [0.01, 0.1, 0.5])
def test_error_falls_with_the_tolerance(method: str, phi: float, device: str) -> None:
    where = device_named(device)
    x, z = suspension(60, phi), normal(60, 3)
    exact = root(RPY_UNIT.matrix(x)) @ z.ravel()
    before = 0
    for tol in (1e-1, 1e-3, 1e-5, 1e-8, 1e-11):
        g, report = sqrt_apply(RPY_UNIT, where.put(x), where.put(z), method=method, tol=tol)
        assert distance(where.get(g), exact) <= 5 * tol
        assert report.method == method
        assert report.error <= tol
        assert report.iterations > before
        before = report.iterations


@DEVICES
@pytest.mark.parametrize("method", KRYLOV)
def test_periodic_mobility_and_table(method: str, device: str) -> None:
    where = device_named(device)
    x, z = suspension(20, 0.15), normal(3, 20, 3)
    cell = np.diag([9.0, 9.5, 10.0])
    knots = np.linspace(0, 3, 20)
    table = PairMobility(0.01, 3.0, *(0.002 * np.cos(knots), 0 * knots) * 2, background=RPY_UNIT)
    for mobility, box in ((RPY_UNIT, cell), (table, cell), (table, None)):
        matrix = mobility.matrix(x, box)
        exact = z.reshape(3, -1) @ root(matrix)
        g, _ = sqrt_apply(mobility, where.put(x), where.put(z), box, method=method, tol=1e-9)
        assert distance(where.get(g), exact) < 1e-8
        expected = mlcore.reference.sqrt_apply(mobility, x, z, box, symmetric=True)
        assert distance(where.get(g), expected) < 1e-7
        dense = sqrt_apply(where.put(matrix), where.put(x), where.put(z), method=method, tol=1e-9)
        assert distance(where.get(dense[0]), exact) < 1e-8


@DEVICES
def test_cholesky_root_of_a_batch(device: str) -> None:
    where = device_named(device)
    x, z = np.stack([suspension(20, seed=s) for s in (1, 2)]), normal(2, 4, 20, 3)
    g, reports = sqrt_apply(RPY_UNIT, where.put(x), where.put(z), method="cholesky")
    for made, report, one, row in zip(where.get(g), reports, z, x, strict=True):
        exact = one.reshape(4, -1) @ np.linalg.cholesky(RPY_UNIT.matrix(row)).T
        assert distance(made, exact) < 1e-12
        assert report.method == "cholesky"


@DEVICES
@pytest.mark.parametrize("method", ("cholesky", "lanczos"))
def test_indefinite_matrix_is_named_and_repaired(method: str, device: str) -> None:
    where = device_named(device)
    vectors = np.linalg.qr(normal(12, 12))[0]
    matrix = vectors @ np.diag([-0.5, *np.linspace(0.5, 2, 11)]) @ vectors.T
    matrix, z = (matrix + matrix.T) / 2, normal(4, 3)
    with pytest.raises(NotPositiveDefinite, match=r"-0\.5"):
        sqrt_apply(where.put(matrix), None, where.put(z), method=method, tol=1e-8)
    g, report = sqrt_apply(
        where.put(matrix), None, where.put(z), method=method, psd="repair", tol=1e-8
    )
    assert report.shift >= 0.5 and np.isfinite(where.get(g)).all()


def test_particles_on_top_of_each_other() -> None:
    """RPY is singular there: Lanczos takes a root of what is positive semidefinite."""
    x = suspension(20)
    x[7] = x[3]
    z = normal(20, 3)
    matrix = RPY_UNIT.matrix(x)
    values, vectors = np.linalg.eigh(matrix)
    exact = (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T @ z.ravel()
    g, report = sqrt_apply(RPY_UNIT, x, z, method="lanczos", tol=1e-8)
    assert distance(g, exact) < 1e-6
    assert abs(report.smallest_ritz) < 1e-10
    np.testing.assert_allclose(g[7], g[3], atol=1e-6)


def test_ill_conditioned_matrix_against_mpmath() -> None:
    mpmath = pytest.importorskip("mpmath")
    mpmath.mp.dps = 50
    m = 6
    exact = mpmath.matrix(m, m)
    for i in range(m):
        for j in range(m):
            exact[i, j] = mpmath.mpf(1) / (i + j + 1)  # Hilbert: condition 1.5e7
    matrix = np.array(exact.tolist(), dtype=float)
    z = normal(m)
    column = mpmath.matrix(z.tolist())
    lower = np.array((mpmath.cholesky(exact) * column).tolist(), dtype=float).ravel()
    symmetric = np.array([float(mpmath.re(v)) for v in mpmath.sqrtm(exact) * column])
    assert distance(sqrt_apply(matrix, None, z)[0], lower) < 1e-10
    for method in KRYLOV:
        options = {"max_iterations": 100_000} if method == "chebyshev" else {}
        tol = 1e-8 if method == "lanczos" else 1e-3
        g, _ = sqrt_apply(matrix, None, z, method=method, tol=tol, **options)
        assert distance(g, symmetric) < 10 * tol


@DEVICES
@pytest.mark.parametrize("psd", ["error", "repair"])
@pytest.mark.parametrize("n", [10, 110])
def test_repaired_noise_has_the_shifted_covariance(psd: str, n: int, device: str) -> None:
    where, x, z = device_named(device), suspension(n, 0.6), normal(2, n, 3)
    mobility = Oseen(1.0, 1.0)
    matrix = mobility.matrix(x)
    values = np.linalg.eigvalsh(matrix)
    assert values[0] < 0
    if psd == "error":
        with pytest.raises(NotPositiveDefinite, match="the closest pair is particles") as caught:
            sqrt_apply(mobility, where.put(x), where.put(z), method="cholesky")
        assert caught.value.smallest_eigenvalue == pytest.approx(values[0])
        return
    g, report = sqrt_apply(mobility, where.put(x), where.put(z), method="cholesky", psd=psd)
    assert report.smallest_eigenvalue == pytest.approx(values[0])
    assert report.shift >= -values[0]
    factor = np.linalg.cholesky(matrix + report.shift * np.eye(3 * n))
    assert distance(where.get(g), z.reshape(2, -1) @ factor.T) < 1e-4


@DEVICES
@pytest.mark.parametrize("m", [0, 1, 2, 31, 150, 400])
def test_cholesky_against_scipy(m: int, device: str) -> None:
    where, b = device_named(device), normal(m, m)
    matrix = b @ b.T / max(m, 1) + 0.1 * np.eye(m)
    exact = scipy.linalg.cholesky(matrix, lower=True) if m else matrix
    given = where.put(matrix)
    factor = cholesky(given)
    assert type(factor) is type(given)
    np.testing.assert_allclose(where.get(factor), exact, atol=1e-12)
    assert np.array_equal(np.triu(where.get(factor), 1), np.zeros((m, m)))
    assert np.array_equal(where.get(given), matrix)
    single = where.get(cholesky(given, precision="float32"))
    assert single.dtype == np.float32
    assert np.array_equal(np.triu(single, 1), np.zeros((m, m)))
    np.testing.assert_allclose(single @ single.T, matrix, atol=1e-5)
    for precision, expected in (("float64", where.get(factor)), ("float32", single)):
        out = where.put(np.full((m, m), np.nan, precision))
        assert cholesky(given, precision=precision, out=out) is out
        assert np.array_equal(where.get(out), expected)


@DEVICES
@pytest.mark.parametrize("precision", ["float64", "float32"])
@pytest.mark.parametrize("m", [3, 33, 200])
def test_cholesky_refuses_on_every_device(m: int, precision: str, device: str) -> None:
    where, b = device_named(device), normal(m, m)
    matrix = b @ b.T / m + np.eye(m)
    vectors = np.linalg.eigh(matrix)[1]
    indefinite = (vectors * np.linspace(-0.5, 2, m)) @ vectors.T
    indefinite = (indefinite + indefinite.T) / 2
    with pytest.raises(NotPositiveDefinite, match=rf"the {m} x {m} matrix .* -0\.") as caught:
        cholesky(where.put(indefinite), precision=precision)
    assert caught.value.smallest_eigenvalue == pytest.approx(-0.5, rel=1e-5)
    for place in ((0, m - 1), (m - 1, 0), (m - 1, m // 2)):
        for wrong, what in ((1e-3, "symmetric to"), (np.inf, "finite"), (np.nan, "finite")):
            bad = matrix.copy()
            bad[place] += wrong
            with pytest.raises(InvalidArgument, match=f"the matrix must be {what}"):
                cholesky(where.put(bad), precision=precision)
    for shape in ((m, m + 1), (m,)):
        with pytest.raises(InvalidArgument, match="matrix must have the shape"):
            cholesky(where.put(np.ones(shape)), precision=precision)
    with pytest.raises(InvalidArgument, match="share memory"):
        given = where.put(matrix.astype(precision))
        cholesky(given, precision=precision, out=given)


def test_cholesky_of_tensors() -> None:
    matrix = RPY_UNIT.matrix(suspension(20))
    torch = pytest.importorskip("torch")
    tensor = cholesky(torch.from_numpy(matrix))
    assert isinstance(tensor, torch.Tensor)
    assert np.array_equal(tensor.numpy(), cholesky(matrix))


@pytest.mark.parametrize("method", ["cholesky", *KRYLOV])
def test_single_precision(method: str) -> None:
    x, z = suspension(50), normal(2, 50, 3)
    matrix = RPY_UNIT.matrix(x)
    exact, _ = sqrt_apply(matrix, None, z, method=method, tol=1e-10)
    for mobility in (RPY_UNIT, matrix):
        g, report = sqrt_apply(mobility, x, z, method=method, tol=1e-6, precision="float32")
        assert g.dtype == np.float64
        assert 1e-9 < distance(g, exact) < report.error
    assert report.error < 1e-2


def test_automatic_choice() -> None:
    def chosen(n: int, vectors: int, tol: float = 1e-3) -> str:
        _, report = sqrt_apply(
            RPY_UNIT, suspension(n, 0.01), normal(vectors, n, 3), method="auto", tol=tol
        )
        return str(report.method)

    assert chosen(100, 1) == "cholesky"
    assert chosen(200, 1) == "lanczos"
    assert chosen(200, 10) == "cholesky"
    assert chosen(200, 3) == "lanczos"
    assert chosen(200, 3, 1e-8) == "cholesky"


@pytest.mark.parametrize("method", ["cholesky", "auto", *KRYLOV])
def test_batches(method: str) -> None:
    x = np.stack([suspension(15, 0.1 * (b + 1), seed=b) for b in range(3)])
    z = normal(3, 4, 15, 3)
    g, reports = sqrt_apply(RPY_UNIT, x, z, method=method, tol=1e-6)
    assert g.shape == z.shape
    assert len(reports) == 3
    for b in range(3):
        alone, report = sqrt_apply(RPY_UNIT, x[b], z[b], method=method, tol=1e-6)
        assert np.array_equal(g[b], alone)
        assert reports[b].iterations == report.iterations
    single, _ = sqrt_apply(RPY_UNIT, x, z[:, 0], method=method, tol=1e-6)
    np.testing.assert_allclose(single, g[:, 0], rtol=1e-5, atol=1e-5)
    matrices = RPY_UNIT.matrix(x)
    formed, _ = sqrt_apply(matrices, x, z, method=method, tol=1e-6)
    np.testing.assert_allclose(formed, g, rtol=1e-5, atol=1e-5)


def test_out_and_kinds() -> None:
    x, z = suspension(8), normal(8, 3)
    expected, _ = sqrt_apply(RPY_UNIT, x, z, method="lanczos")
    out = np.empty((8, 3))
    result, _ = sqrt_apply(RPY_UNIT, x, z, method="lanczos", out=out)
    assert result is out
    assert np.array_equal(out, expected)
    wide = np.repeat(z, 2, axis=1)[:, ::2]
    assert np.array_equal(sqrt_apply(RPY_UNIT, x, wide, method="lanczos")[0], expected)
    torch = pytest.importorskip("torch")
    tensor = torch.empty((8, 3), dtype=torch.float64)
    result, _ = sqrt_apply(
        RPY_UNIT, torch.from_numpy(x), torch.from_numpy(z), method="lanczos", out=tensor
    )
    assert result is tensor
    assert np.array_equal(tensor.numpy(), expected)


CLOSE = np.array([[0, 0, 0], [0.4, 0, 0], [5, 0, 0], [0, 5, 0], [7.0, 7, 7]])
OSEEN = Oseen(1.0, 1.0)


@pytest.mark.parametrize("method", KRYLOV)
def test_indefinite_mobility_names_ritz_value_and_pair(method: str) -> None:
    lowest = np.linalg.eigvalsh(OSEEN.matrix(CLOSE))[0]
    with pytest.raises(NotPositiveDefinite, match="particles 0 and 1 at the distance 0.4") as e:
        sqrt_apply(OSEEN, CLOSE, normal(5, 3), method=method)
    assert e.value.smallest_eigenvalue == pytest.approx(lowest, rel=1e-2)
    assert e.value.pair == (0, 1)
    with pytest.raises(NotPositiveDefinite) as e:
        sqrt_apply(-np.eye(6), None, normal(6), method=method)
    assert e.value.smallest_eigenvalue == pytest.approx(-1)
    assert e.value.pair is None


def test_lanczos_repairs_like_cholesky() -> None:
    z = normal(3, 5, 3)
    matrix = OSEEN.matrix(CLOSE)
    _, want = sqrt_apply(OSEEN, CLOSE, z, psd="repair")
    g, report = sqrt_apply(OSEEN, CLOSE, z, method="lanczos", psd="repair", tol=1e-9)
    assert report.shift == pytest.approx(want.shift, rel=1e-6)
    assert report.smallest_eigenvalue == pytest.approx(want.smallest_eigenvalue, rel=1e-6)
    shifted = root(matrix + report.shift * np.eye(15))
    assert distance(g, z.reshape(3, -1) @ shifted) < 1e-4
    with pytest.raises(NotPositiveDefinite, match="no repair is made"):
        sqrt_apply(-np.eye(6), None, normal(6), method="lanczos", psd="repair")


def test_bounds() -> None:
    x, z = suspension(40), normal(40, 3)
    matrix = RPY_UNIT.matrix(x)
    low, *_, high = np.linalg.eigvalsh(matrix)
    g, report = sqrt_apply(
        RPY_UNIT, x, z, method="chebyshev", tol=1e-6, bounds=(0.99 * low, 1.01 * high)
    )
    assert np.isnan(report.smallest_ritz)
    assert distance(g, root(matrix) @ z.ravel()) < 1e-6
    for bounds in ((5 * low, high), (low, 0.7 * high)):
        with pytest.raises(InvalidArgument, match="do not hold the spectrum"):
            sqrt_apply(RPY_UNIT, x, z, method="chebyshev", tol=1e-6, bounds=bounds)


def test_no_particles_one_and_zero_vectors() -> None:
    for method in ("cholesky", "auto", *KRYLOV):
        empty = np.zeros((0, 3))
        assert sqrt_apply(RPY_UNIT, empty, empty, method=method)[0].shape == (0, 3)
        assert sqrt_apply(RPY_UNIT, CLOSE, np.zeros((0, 5, 3)), method=method)[0].shape == (0, 5, 3)
        g, report = sqrt_apply(RPY_UNIT, CLOSE[:1], np.ones((1, 3)), method=method)
        exact = (6 * np.pi) ** -0.5
        np.testing.assert_allclose(g, exact, rtol=1e-3 if method == "chebyshev" else 1e-12)
        assert report.iterations <= 1 or method == "chebyshev"
        zero, _ = sqrt_apply(RPY_UNIT, CLOSE, np.zeros((5, 3)), method=method)
        assert np.array_equal(zero, np.zeros((5, 3)))


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"tol": 0.0}, "tol must lie"),
        ({"tol": 0.9}, "tol must lie"),
        ({"tol": np.nan}, "tol must lie"),
        ({"precision": "float16"}, "precision must"),
        ({"bounds": (2, 1)}, "bounds must"),
        ({"bounds": (1,)}, "bounds must"),
        ({"max_iterations": 0}, "max_iterations must"),
        ({"method": "newton"}, "method must"),
        ({"z": np.full((5, 3), np.nan)}, "z must be finite"),
        ({"x": np.full((5, 3), np.inf)}, "x must be finite"),
        ({"mobility": np.eye(6)}, "matrix must have the shape"),
        ({"mobility": np.full((15, 15), np.nan)}, "finite"),
        ({"mobility": np.eye(6), "x": None}, "z must have the shape"),
        ({"mobility": np.ones((2, 3)), "x": None}, "matrix must have the shape"),
        ({"out": np.empty((5, 3), np.float32)}, "out must"),
    ],
)
@pytest.mark.parametrize("method", ["cholesky", *KRYLOV])
def test_errors(change: dict[str, Any], what: str, method: str) -> None:
    arguments = {"mobility": RPY_UNIT, "x": CLOSE, "z": np.ones((5, 3)), "method": method} | change
    with pytest.raises(InvalidArgument, match=what):
        sqrt_apply(**arguments)


def test_too_few_iterations() -> None:
    x, z = suspension(60), normal(60, 3)
    with pytest.raises(mlcore.Error, match="did not reach tol = 1e-10 in 5 iterations"):
        sqrt_apply(RPY_UNIT, x, z, method="lanczos", tol=1e-10, max_iterations=5)
    with pytest.raises(mlcore.Error, match="up to the degree 5"):
        sqrt_apply(RPY_UNIT, x, z, method="chebyshev", tol=1e-10, max_iterations=5)


@pytest.mark.parametrize("method", ["cholesky", *KRYLOV])
def test_threads_do_not_matter(method: str) -> None:
    x, z = suspension(200), normal(5, 200, 3)
    matrix = RPY_UNIT.matrix(x)
    one, _ = sqrt_apply(matrix, None, z, method=method, num_threads=1)
    for threads in (2, 7):
        again, _ = sqrt_apply(matrix, None, z, method=method, num_threads=threads)
        assert np.array_equal(one, again)


_LEVELS = """
import numpy as np, sys
from mlcore.mobility import RPY
from mlcore.noise import sqrt_apply
rng = np.random.default_rng(1)
x, z = 8 * rng.random((33, 3)), rng.standard_normal((3, 33, 3))
for method in ("cholesky", "lanczos", "chebyshev"):
    for precision in ("float64", "float32"):
        g, _ = sqrt_apply(RPY(1, 1), x, z, method=method, tol=1e-9, precision=precision)
        sys.stdout.buffer.write(g.tobytes())
"""


def test_instruction_sets_agree() -> None:
    results = [
        np.frombuffer(
            subprocess.run(
                [sys.executable, "-c", _LEVELS],
                env=os.environ | {"MLCORE_SIMD": level},
                check=True,
                capture_output=True,
            ).stdout
        ).reshape(3, 2, -1)
        for level in ("baseline", "avx2", "avx512")
    ]
    for other in results[1:]:
        np.testing.assert_allclose(other[:, 0], results[0][:, 0], rtol=1e-6, atol=1e-8)
        np.testing.assert_allclose(other[:, 1], results[0][:, 1], rtol=1e-2, atol=1e-4)


@settings(max_examples=40, deadline=None)
@given(
    n=st.integers(1, 40),
    vectors=st.integers(1, 6),
    method=st.sampled_from(["cholesky", "auto", *KRYLOV]),
    phi=st.floats(0.001, 0.6),
    seed=st.integers(0, 1000),
)
def test_any_shape(n: int, vectors: int, method: str, phi: float, seed: int) -> None:
    x, z = suspension(n, phi, seed), normal(vectors, n, 3, seed=seed)
    matrix = RPY_UNIT.matrix(x)
    g, report = sqrt_apply(RPY_UNIT, x, z, method=method, tol=1e-7)
    lower = report.method == "cholesky"
    factor = scipy.linalg.cholesky(matrix, lower=True) if lower else root(matrix)
    assert distance(g, z.reshape(vectors, -1) @ factor.T) < 1e-5


@pytest.mark.parametrize("method", ("cholesky", *KRYLOV))
@pytest.mark.parametrize("size", [1e300, 1e-300])
def test_numbers_whose_squares_do_not_fit_are_refused(method: str, size: float) -> None:
    x = suspension(5)
    with pytest.raises(InvalidArgument, match="largest number of z"):
        sqrt_apply(RPY_UNIT, x, size * normal(5, 3), method=method)
    g, _ = sqrt_apply(RPY_UNIT, x, np.zeros((5, 3)), method=method)
    assert not g.any()
