"""Caller's memory, symmetry, the zero matrix, arguments of a wrong type, and memory."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from memory import peak_extra
from mlcore.errors import InvalidArgument
from mlcore.mobility import RPY
from mlcore.noise import cholesky, sqrt_apply

X = np.random.default_rng(1).uniform(0, 30, (12, 3))
Z = np.random.default_rng(2).standard_normal((12, 3))
MATRIX = RPY(1.0, 1.0).matrix(X)
METHODS = ("cholesky", "lanczos", "chebyshev")


@pytest.mark.parametrize("precision", ["float64", "float32"])
def test_cholesky_writes_to_the_callers_array(precision: str) -> None:
    expected = cholesky(MATRIX, precision=precision)
    out = np.full_like(expected, np.nan)
    assert cholesky(MATRIX, precision=precision, out=out) is out
    assert np.array_equal(out, expected)
    torch = pytest.importorskip("torch")
    tensor = torch.empty(out.shape, dtype=getattr(torch, precision))
    assert cholesky(torch.from_numpy(MATRIX), precision=precision, out=tensor) is tensor
    assert np.array_equal(tensor.numpy(), expected)


def test_cholesky_refuses_what_it_cannot_write_to() -> None:
    for out, what in (
        (np.empty((36, 35)), "shape"),
        (np.empty((36, 36), np.float32), "float64"),
        (np.empty((36, 36)).T, "C-contiguous"),
        ([[0.0]], "out must be an array"),
        (MATRIX, "share memory"),
    ):
        with pytest.raises(InvalidArgument, match=what):
            cholesky(MATRIX, out=out)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("place", [(0, 1), (1, 0), (35, 2), (17, 33)])
def test_unsymmetric_matrices_are_refused(method: str, place: tuple[int, int]) -> None:
    wrong = MATRIX.copy()
    wrong[place] += 1e-8
    for x in (None, X):
        with pytest.raises(InvalidArgument, match="symmetric"):
            sqrt_apply(wrong, x, Z, method=method)
    sqrt_apply(wrong, None, Z, method=method, precision="float32")
    wrong[place] += 1e-4
    with pytest.raises(InvalidArgument, match="symmetric"):
        sqrt_apply(wrong, None, Z, method=method, precision="float32")
    with pytest.raises(InvalidArgument, match="symmetric"):
        sqrt_apply(np.tril(MATRIX), None, Z, method=method)


@pytest.mark.parametrize("method", METHODS)
def test_rounding_is_no_asymmetry(method: str) -> None:
    near = MATRIX * (1 + 1e-13 * np.random.default_rng(3).standard_normal(MATRIX.shape))
    g, _ = sqrt_apply(near, None, Z, method=method)
    np.testing.assert_allclose(g, sqrt_apply(MATRIX, None, Z, method=method)[0], atol=1e-9)


@pytest.mark.parametrize("method", ["lanczos", "chebyshev"])
def test_root_of_the_zero_matrix_is_zero(method: str) -> None:
    for z in (Z, np.stack([Z, 0 * Z])):
        g, report = sqrt_apply(np.zeros((36, 36)), None, z, method=method)
        assert np.array_equal(g, np.zeros(z.shape))
        assert report.error == 0


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"method": 1}, "method must"),
        ({"method": None}, "method must"),
        ({"psd": True}, "psd must"),
        ({"tol": "small"}, "tol must"),
        ({"tol": None}, "tol must"),
        ({"tol": [1e-3]}, "tol must"),
        ({"max_iterations": 2.5}, "max_iterations must"),
        ({"max_iterations": "9"}, "max_iterations must"),
        ({"max_iterations": -(1 << 70)}, "max_iterations must"),
        ({"precision": ["float64"]}, "precision must"),
        ({"precision": None}, "precision must"),
        ({"bounds": 1.0}, "bounds must"),
        ({"bounds": "ab"}, "bounds must"),
        ({"bounds": (1, None)}, "bounds must"),
        ({"bounds": (1, np.inf)}, "bounds must"),
        ({"num_threads": "2"}, "num_threads must"),
        ({"x": None}, "x must"),
        ({"x": "here"}, "x must"),
        ({"z": None}, "z must"),
        ({"z": "noise"}, "z must"),
        ({"z": 1j * Z}, "z must"),
        ({"mobility": "rpy"}, "matrix must"),
        ({"mobility": None}, "matrix must"),
        ({"mobility": None, "x": None}, "matrix must"),
        ({"cell": "cubic"}, "cell must"),
        ({"pbc": "yes"}, "pbc must"),
        ({"out": "there"}, "out must"),
    ],
)
def test_arguments_of_a_wrong_type_are_named(change: dict[str, Any], what: str) -> None:
    arguments: dict[str, Any] = {"mobility": RPY(1.0, 1.0), "x": X, "z": Z} | change
    with pytest.raises(InvalidArgument, match=what):
        sqrt_apply(**arguments)


def test_cholesky_names_arguments_of_a_wrong_type() -> None:
    for change, what in (
        ({"precision": 32}, "precision must"),
        ({"num_threads": 1.5}, "num_threads must"),
        ({"matrix": "M"}, "matrix must"),
    ):
        with pytest.raises(InvalidArgument, match=what):
            cholesky(**({"matrix": MATRIX} | change))


def test_more_iterations_than_ever_needed() -> None:
    g, _ = sqrt_apply(RPY(1.0, 1.0), X, Z, method="lanczos", max_iterations=1 << 40)
    assert np.isfinite(g).all()


SETUP = """
import numpy as np, mlcore
from mlcore.mobility import RPY
from mlcore.noise import sqrt_apply
rng = np.random.default_rng(0)
m, x, z = RPY(1.0, 1.0), rng.uniform(0, 40, (900, 3)), rng.standard_normal((900, 3))
sqrt_apply(m, x[:100], z[:100], [20] * 3, precision="float32")
"""


@pytest.mark.parametrize("options", ["None", "[40] * 3, method='lanczos'"])
def test_single_precision_takes_no_more_memory(options: str) -> None:
    double = peak_extra(f"sqrt_apply(m, x, z, {options})", SETUP)
    single = peak_extra(f"sqrt_apply(m, x, z, {options}, precision='float32')", SETUP)
    assert 0.5 * 72 * 900**2 < single <= double + 2e6


def test_single_precision_falls_back_to_double() -> None:
    """Particles all but on top of each other: singular in single precision alone."""
    x = X.copy()
    x[6:] = x[:6] + 1e-7 * np.random.default_rng(4).standard_normal((6, 3))
    g, report = sqrt_apply(RPY(1.0, 1.0), x, Z, precision="float32")
    assert report.error == 0
    assert np.array_equal(g, sqrt_apply(RPY(1.0, 1.0), x, Z)[0])
