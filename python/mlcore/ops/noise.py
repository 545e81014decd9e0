"""`mlcore.ops.cholesky` and `mlcore.ops.sqrt_apply`: roots of mobilities as torch operators."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from mlcore import noise
from mlcore.errors import InvalidArgument

__all__ = ["cholesky", "sqrt_apply"]

_METHODS = ("cholesky", "lanczos", "chebyshev")


def cholesky(matrix: Tensor) -> Tensor:
    """Lower triangular L with L L^T = matrix, differentiable any number of times.

    The gradient is symmetric: I. Murray, arXiv:1602.07527 (2016), eq. 9.

    Args:
        matrix: (..., m, m) float64, symmetric, on the CPU or a GPU.

    Raises:
        NotPositiveDefinite, InvalidArgument, BackendUnavailable: as `mlcore.noise.cholesky`.
    """
    _check_matrix(matrix)
    side = matrix.shape[-1]
    lower: Tensor = _cholesky(matrix.reshape(math.prod(matrix.shape[:-2]), side, side))
    return lower.reshape(matrix.shape)


def sqrt_apply(matrix: Tensor, z: Tensor, method: str = "cholesky", tol: float = 1e-3) -> Tensor:
    """A square root of a mobility matrix times z; see `mlcore.noise.sqrt_apply`.

    With "cholesky" differentiable any number of times in both arguments, so that gradients reach
    the positions and parameters a matrix of `mlcore.ops.mobility_matrix` was made from. The
    symmetric root of "lanczos" and "chebyshev" is differentiable in z alone, to within tol.

    Args:
        matrix: (m, m) float64, symmetric, or (B, m, m).
        z: (m,) or (k, m) for k vectors; for a batch (B, m) or (B, k, m). Or the same with (n, 3) in
            place of m = 3n at the end, which is told by the last axis where m is not 3.
        method: "cholesky", "lanczos" or "chebyshev".
        tol: of Lanczos and Chebyshev.

    Returns:
        Like z.

    Raises:
        NotPositiveDefinite: naming the smallest eigenvalue.
        InvalidArgument: a shape or value is wrong; a gradient with respect to the matrix was asked
            of Lanczos or Chebyshev (when it is computed).
    """
    _check_matrix(matrix)
    if method not in _METHODS:
        raise InvalidArgument(f"method must be one of {', '.join(_METHODS)}, got {method!r}")
    if z.dtype != torch.float64:
        raise InvalidArgument(f"z must be float64, got {z.dtype}")
    side, batched = matrix.shape[-1], matrix.dim() == 3
    tail = 2 if z.dim() > 1 and z.shape[-1] == 3 and 3 * z.shape[-2] == side else 1
    lead = z.dim() - tail - int(batched)
    fits = tail == 2 or (z.dim() > 0 and z.shape[-1] == side)
    if (
        not fits
        or matrix.dim() > 3
        or lead not in (0, 1)
        or (batched and z.shape[0] != matrix.shape[0])
    ):
        raise InvalidArgument(
            f"z must end in ({side},) or ({side // 3}, 3), with B first for a batch and k before "
            f"that for several vectors; got {tuple(z.shape)} for a matrix {tuple(matrix.shape)}"
        )
    several = z.shape[int(batched)] if lead else 1
    many = matrix if batched else matrix[None]
    g: Tensor = _sqrt_apply(many, z.reshape(many.shape[0], several, side), method, tol)
    return g.reshape(z.shape)


def _check_matrix(matrix: Tensor) -> None:
    if matrix.dim() < 2 or matrix.shape[-1] != matrix.shape[-2]:
        raise InvalidArgument(f"matrix must have the shape (..., m, m), got {tuple(matrix.shape)}")
    if matrix.dtype != torch.float64:
        raise InvalidArgument(f"matrix must be float64, got {matrix.dtype}")


# ------------------------------------------------------------------------------------- operators
@torch.library.custom_op("mlcore::cholesky", mutates_args=())
def _cholesky(matrix: Tensor) -> Tensor:
    lower = torch.empty_like(matrix, memory_format=torch.contiguous_format)
    for one, factor in zip(matrix.detach(), lower, strict=True):
        factor.copy_(noise.cholesky(one))
    return lower


@_cholesky.register_fake
def _(matrix: Tensor) -> Tensor:
    return torch.empty_like(matrix, memory_format=torch.contiguous_format)


def _setup_cholesky(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.save_for_backward(output)


def _backward_cholesky(ctx: Any, grad: Tensor) -> Tensor:
    (lower,) = ctx.saved_tensors
    return _matrix_gradient(lower, grad)


def _matrix_gradient(lower: Tensor, grad: Tensor) -> Tensor:
    """L^-T phi(L^T grad) L^-1, symmetric; phi keeps the lower triangle and halves the diagonal."""
    inner = (lower.mT @ grad).tril()
    inner = inner - 0.5 * torch.diag_embed(inner.diagonal(dim1=-2, dim2=-1))
    half = torch.linalg.solve_triangular(lower.mT, inner, upper=True)
    whole = torch.linalg.solve_triangular(lower, half, upper=False, left=False)
    result: Tensor = 0.5 * (whole + whole.mT)
    return result


_cholesky.register_autograd(_backward_cholesky, setup_context=_setup_cholesky)


@torch.library.custom_op("mlcore::sqrt_apply", mutates_args=())
def _sqrt_apply(matrix: Tensor, z: Tensor, method: str, tol: float) -> Tensor:
    result = torch.empty_like(z, memory_format=torch.contiguous_format)
    for one, vectors, g in zip(matrix.detach(), z.detach(), result, strict=True):
        noise.sqrt_apply(one, None, vectors, method=method, tol=tol, out=g)
    return result


@_sqrt_apply.register_fake
def _(matrix: Tensor, z: Tensor, method: str, tol: float) -> Tensor:
    return torch.empty_like(z, memory_format=torch.contiguous_format)


def _setup_sqrt(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    matrix, z, ctx.method, ctx.tol = inputs
    ctx.save_for_backward(matrix, z)


def _backward_sqrt(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
    matrix, z = ctx.saved_tensors
    if ctx.method != "cholesky":
        if ctx.needs_input_grad[0]:
            raise InvalidArgument(
                f"the root of {ctx.method} has no gradient with respect to the matrix; take "
                "method = cholesky, or detach the matrix"
            )
        return None, _sqrt_apply(matrix, grad, ctx.method, ctx.tol), None, None
    lower = _cholesky(matrix)
    of_matrix = None
    if ctx.needs_input_grad[0]:
        of_matrix = _matrix_gradient(lower, (grad.mT @ z).tril())
    return of_matrix, grad @ lower, None, None


_sqrt_apply.register_autograd(_backward_sqrt, setup_context=_setup_sqrt)
