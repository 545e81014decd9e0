"""Square roots of mobilities: shapes, kinds of arrays, errors, repair."""

from __future__ import annotations

from typing import Any

import ase
import mlcore
import mlcore.reference
import numpy as np
import pytest
from mlcore.errors import InvalidArgument, NotPositiveDefinite
from mlcore.mobility import RPY, Mobility, Oseen, PairMobility
from mlcore.noise import cholesky, sqrt_apply

X = np.array([[0, 0, 0], [2.2, 0, 0], [0.4, 2.5, 0.1], [2, 2, 2.4], [-1.9, 1, 1]])
RNG = np.random.default_rng(3)


def spd(m: int) -> Any:
    b = RNG.normal(size=(m, m))
    return b @ b.T / m + 0.1 * np.eye(m)


@pytest.mark.parametrize("m", [0, 1, 5, 33, 200, 300, 450])
@pytest.mark.parametrize("threads", [1, 2])
def test_cholesky_matches_numpy(m: int, threads: int) -> None:
    matrix = spd(m)
    before = matrix.copy()
    factor = cholesky(matrix, num_threads=threads)
    assert np.array_equal(matrix, before)
    np.testing.assert_allclose(factor, np.linalg.cholesky(matrix), atol=1e-12)
    assert np.array_equal(np.triu(factor, 1), np.zeros((m, m)))
    if m <= 200:
        np.testing.assert_allclose(factor, mlcore.reference.cholesky(matrix), atol=1e-12)


def test_cholesky_names_the_smallest_eigenvalue() -> None:
    matrix = spd(40) - 0.5 * np.eye(40)
    expected = np.linalg.eigvalsh(matrix)[0]
    assert mlcore.reference.symmetric_eigenvalues(matrix)[0] == pytest.approx(expected)
    with pytest.raises(NotPositiveDefinite, match="its eigenvalues lie between -") as caught:
        cholesky(matrix)
    assert caught.value.smallest_eigenvalue == pytest.approx(expected, abs=1e-12)
    assert caught.value.pair is None


@pytest.mark.parametrize(
    ("matrix", "what"),
    [
        (np.ones((2, 3)), "shape"),
        (np.ones(3), "shape"),
        ([[1, np.nan], [np.nan, 1]], "finite"),
        ([[1, 0.1], [0.2, 1]], "symmetric"),
    ],
)
def test_cholesky_rejects(matrix: Any, what: str) -> None:
    with pytest.raises(InvalidArgument, match=what):
        cholesky(matrix)


def test_layouts_and_types_of_input() -> None:
    matrix = spd(12)
    expected = cholesky(matrix)
    wide = np.zeros((24, 24))
    wide[::2, ::2] = matrix
    assert np.array_equal(cholesky(wide[::2, ::2]), expected)
    assert np.array_equal(cholesky(np.asfortranarray(matrix)), expected)
    assert cholesky(np.eye(3, dtype=np.float32)).dtype == np.float64


@pytest.mark.parametrize("mobility", [RPY(1.0, 1.0), Oseen(1.0, 0.3)])
@pytest.mark.parametrize("cell", [None, np.array([9.0, 10.0, 11.0])])
def test_sqrt_apply(mobility: Any, cell: Any) -> None:
    z = RNG.normal(size=(4, *X.shape))
    expected = z.reshape(4, -1) @ np.linalg.cholesky(mobility.matrix(X, cell)).T
    g, report = sqrt_apply(mobility, X, z, cell)
    np.testing.assert_allclose(g.reshape(4, -1), expected, atol=1e-12)
    assert (report.method, report.shift) == ("cholesky", 0.0)
    assert np.isnan(report.smallest_eigenvalue)
    single, _ = sqrt_apply(mobility, X, z[0], cell, num_threads=2)
    assert np.array_equal(single, g[0])
    np.testing.assert_allclose(g, mlcore.reference.sqrt_apply(mobility, X, z, cell), atol=1e-8)


class Diagonal(Mobility):
    """Not one of the core's: a mobility 4 for all."""

    def matrix(self, x: Any, cell: Any = None, pbc: Any = None, **_: Any) -> Any:
        return 4 * np.eye(3 * len(x))

    def apply(self, x: Any, forces: Any, *_: Any, **__: Any) -> Any:
        return 4 * np.asarray(forces)

    def divergence(self, x: Any, *_: Any, **__: Any) -> Any:
        return np.zeros_like(x)


def test_any_mobility_and_kind_of_positions() -> None:
    z = RNG.normal(size=X.shape)
    assert np.array_equal(sqrt_apply(Diagonal(), X, z)[0], 2 * z)
    cell = np.array([9.0, 10.0, 11.0])
    expected, _ = sqrt_apply(RPY(1.0, 1.0), X, z, cell)
    atoms = ase.Atoms("Ar5", positions=X, cell=cell, pbc=True)
    assert np.array_equal(sqrt_apply(RPY(1.0, 1.0), atoms, z)[0], expected)
    torch = pytest.importorskip("torch")
    tensor, _ = sqrt_apply(RPY(1.0, 1.0), torch.from_numpy(X), torch.from_numpy(z), cell)
    assert isinstance(tensor, torch.Tensor)
    assert np.array_equal(tensor.numpy(), expected)


CLOSE = np.array([[0, 0, 0], [9.6, 0, 0], [5, 0, 0], [0, 5, 0]])
BOX = np.full(3, 10.0)


def test_indefinite_mobility_names_eigenvalue_and_pair() -> None:
    oseen = Oseen(1.0, 1.0)
    expected = np.linalg.eigvalsh(oseen.matrix(CLOSE, BOX))[0]
    with pytest.raises(NotPositiveDefinite, match="particles 0 and 1 at the distance 0.4") as e:
        sqrt_apply(oseen, CLOSE, np.zeros((4, 3)), BOX)
    assert e.value.smallest_eigenvalue == pytest.approx(expected)
    assert e.value.pair == (0, 1)


def test_repair_shifts_the_spectrum() -> None:
    oseen = Oseen(1.0, 1.0)
    matrix = oseen.matrix(CLOSE, BOX)
    low, *_, high = np.linalg.eigvalsh(matrix)
    unit = np.eye(12).reshape(12, 4, 3)
    columns, report = sqrt_apply(oseen, CLOSE, unit, BOX, psd="repair")
    assert report.smallest_eigenvalue == pytest.approx(low)
    assert report.shift == pytest.approx(1e-10 * high - low, rel=1e-6)
    root = columns.reshape(12, 12).T
    np.testing.assert_allclose(root @ root.T, matrix + report.shift * np.eye(12), atol=1e-13)


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"method": "sqrtm"}, "method must"),
        ({"psd": "ignore"}, "psd must"),
        ({"z": np.zeros((4, 3))}, "z must have the shape"),
        ({"z": np.zeros((5, 2))}, "z must have the shape"),
        ({"x": X[None]}, "z must have the shape"),
        ({"x": np.full((5, 3), np.nan)}, "x must be finite"),
        ({"pbc": True}, "no cell"),
    ],
)
def test_errors_name_the_argument(change: dict[str, Any], what: str) -> None:
    arguments = {"x": X, "z": np.zeros(X.shape)} | change
    with pytest.raises(InvalidArgument, match=what):
        sqrt_apply(RPY(1.0, 1.0), **arguments)


def test_no_particles_and_one() -> None:
    empty = np.zeros((0, 3))
    assert sqrt_apply(RPY(1.0, 1.0), empty, empty)[0].shape == (0, 3)
    table = PairMobility(4.0, 1.0, *np.zeros((4, 2)))
    assert np.array_equal(sqrt_apply(table, X[:1], np.ones((1, 3)))[0], np.full((1, 3), 2.0))
