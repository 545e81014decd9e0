"""Roots of mobilities as torch operators."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import mlcore.ops  # noqa: E402
from mlcore import noise  # noqa: E402
from mlcore.errors import InvalidArgument, NotPositiveDefinite  # noqa: E402
from torch_ops import check_gradients, check_operator  # noqa: E402


def spd(*shape: int, seed: int = 0) -> Any:
    b = np.random.default_rng(seed).normal(size=(*shape, shape[-1]))
    m = shape[-1]
    return torch.from_numpy(b @ np.swapaxes(b, -1, -2) / m + 0.3 * np.eye(m))


def normal(*shape: int, seed: int = 1) -> Any:
    return torch.from_numpy(np.random.default_rng(seed).normal(size=shape))


def test_operators_are_clean() -> None:
    check_operator(torch.ops.mlcore.cholesky.default, [(spd(2, 5).requires_grad_(),), (spd(1, 1),)])
    z = normal(2, 3, 6).requires_grad_()
    samples: list[Any] = [(spd(2, 6).requires_grad_(), z, "cholesky", 1e-3)]
    samples += [(spd(2, 6), z, "lanczos", 1e-12), (spd(2, 6), z, "chebyshev", 1e-10)]
    check_operator(torch.ops.mlcore.sqrt_apply.default, samples)


def symmetric(a: Any) -> Any:
    return a @ a.mT + 0.5 * torch.eye(a.shape[-1], dtype=a.dtype)


def test_first_and_second_derivatives() -> None:
    a = normal(2, 4, 4).requires_grad_()
    check_gradients(lambda a: mlcore.ops.cholesky(symmetric(a)), (a,), second=True)
    z = normal(2, 3, 4).requires_grad_()
    check_gradients(lambda a, z: mlcore.ops.sqrt_apply(symmetric(a), z), (a, z), second=True)
    for method in ("lanczos", "chebyshev"):
        matrix = spd(2, 4)
        check_gradients(
            lambda z, m=matrix, w=method: mlcore.ops.sqrt_apply(m, z, w, 1e-12), (z,), second=True
        )


def test_gradient_reaches_positions_and_radius() -> None:
    x = (3 * normal(4, 3)).requires_grad_()
    radius = torch.tensor(1.1, dtype=torch.float64, requires_grad=True)
    z = normal(4, 3)

    def energy(x: Any, radius: Any) -> Any:
        matrix = mlcore.ops.mobility_matrix(x, kernel="rpy", radius=radius)
        return mlcore.ops.sqrt_apply(matrix, z).sin().sum()

    check_gradients(energy, (x, radius), atol=1e-5)


@pytest.mark.parametrize(
    ("matrix", "z"),
    [
        (spd(6), normal(6)),
        (spd(6), normal(2, 3)),
        (spd(6), normal(5, 6)),
        (spd(6), normal(5, 2, 3)),
        (spd(4, 6), normal(4, 6)),
        (spd(4, 6), normal(4, 2, 3)),
        (spd(4, 6), normal(4, 5, 2, 3)),
        (spd(3), normal(7, 3)),
    ],
)
def test_shapes(matrix: Any, z: Any) -> None:
    g = mlcore.ops.sqrt_apply(matrix, z)
    assert g.shape == z.shape
    lower = mlcore.ops.cholesky(matrix)
    flat = z.reshape(*matrix.shape[:-2], -1, matrix.shape[-1])
    torch.testing.assert_close(g.reshape(flat.shape), flat @ lower.mT)
    if matrix.dim() == 2:
        assert np.array_equal(g, noise.sqrt_apply(matrix, None, z)[0])


def test_no_matrices() -> None:
    assert mlcore.ops.sqrt_apply(spd(2, 6)[:0], normal(0, 6)).shape == (0, 6)
    assert mlcore.ops.cholesky(spd(2, 6)[:0]).shape == (0, 6, 6)


def test_compiles() -> None:
    matrix, z = spd(6), normal(2, 6)
    compiled = torch.compile(mlcore.ops.sqrt_apply, backend="eager", fullgraph=True)
    assert torch.equal(compiled(matrix, z), mlcore.ops.sqrt_apply(matrix, z))


def test_errors() -> None:
    with pytest.raises(InvalidArgument, match="z must end in"):
        mlcore.ops.sqrt_apply(spd(6), normal(5))
    with pytest.raises(InvalidArgument, match="shape"):
        mlcore.ops.cholesky(normal(2, 3))
    with pytest.raises(InvalidArgument, match="float64"):
        mlcore.ops.cholesky(spd(3).float())
    with pytest.raises(InvalidArgument, match="method must"):
        mlcore.ops.sqrt_apply(spd(3), normal(3), "auto")
    with pytest.raises(NotPositiveDefinite):
        mlcore.ops.cholesky(-spd(3))
    g = mlcore.ops.sqrt_apply(spd(3).requires_grad_(), normal(3), "lanczos")
    with pytest.raises(InvalidArgument, match="no gradient with respect to the matrix"):
        g.sum().backward()


def test_empty_matrices_and_other_precision() -> None:
    for shape in ((0, 0), (4, 0, 0), (0, 3, 3)):
        assert mlcore.ops.cholesky(torch.empty(shape, dtype=torch.float64)).shape == shape
    with pytest.raises(mlcore.InvalidArgument, match="z must be float64"):
        mlcore.ops.sqrt_apply(torch.eye(3, dtype=torch.float64), torch.ones(3))
