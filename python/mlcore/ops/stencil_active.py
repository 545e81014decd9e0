"""Convolution on occupied voxels as torch operators, differentiable any number of times.

The three linear maps behind them are each other's derivatives: every gradient is made of them again,
to any order.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from mlcore import _core
from mlcore.arrays import Kind
from mlcore.errors import InvalidArgument
from mlcore.ops.stencil import SLOPES, tensor_named
from mlcore.stencil import Arrays, activation_name
from mlcore.stencil_active import ActiveSet, require_set, weight_shape

__all__ = ["conv3d_active", "scatter3d_active"]


def conv3d_active(
    active: ActiveSet,
    features: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    activation: str | None = None,
    residual: Tensor | None = None,
) -> Tensor:
    """`mlcore.conv3d_active`, differentiable in features, weight, bias and residual.

    Under `torch.compile`, call ``active.rules(k)`` (and ``active.rules(k, reverse=True)``) before.

    Args:
        active: the occupied voxels.
        features: (M, C), float32 or float64 as all others.
        weight: (O, C, k, k, k), k = 1, 3 or 5.
        bias: (O,).
        activation: None, "relu", "silu", "gelu" (the exact one), "tanh" or "sigmoid".
        residual: (M outputs, O).

    Returns:
        (M outputs, O), in the order of ``active.outputs``.

    Raises:
        InvalidArgument: as `mlcore.conv3d_active`.
    """
    books = rule_books(active, weight)
    name = activation_name(activation)
    tensor_named("features", features)
    for key, tensor in (("bias", bias), ("residual", residual)):
        if tensor is not None:
            tensor_named(key, tensor)
    tracked = (t is not None and t.requires_grad for t in (features, weight, bias))
    keep = name != "none" and torch.is_grad_enabled() and any(tracked)
    rows = len(active.outputs)
    result: Tensor = _convolve(features, weight, bias, residual, name, *books, rows, keep)[0]
    return result


def scatter3d_active(active: ActiveSet, values: Tensor, weight: Tensor) -> Tensor:
    """`mlcore.scatter3d_active`, differentiable in values and weight.

    Args:
        active: the set of the convolution.
        values: (M outputs, O), float32 or float64 as the weight.
        weight: (O, C, k, k, k).

    Returns:
        (M, C).

    Raises:
        InvalidArgument: as `mlcore.scatter3d_active`.
    """
    tensor_named("values", values)
    result: Tensor = _scatter(values, weight, *rule_books(active, weight), len(active))
    return result


def rule_books(active: ActiveSet, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Those of the convolution and of its transpose."""
    require_set(active)
    k = weight_shape(tensor_named("weight", weight))[2]
    forth, back = active.rules(k), active.rules(k, reverse=True)
    if isinstance(forth, Tensor):
        return forth, back
    return torch.as_tensor(forth), torch.as_tensor(back)


# Rules reach an operator as plain tensors, so that it holds what its derivatives need.


@torch.library.custom_op("mlcore::conv3d_active", mutates_args=())
def _convolve(
    features: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    residual: Tensor | None,
    activation: str,
    rules: Tensor,
    reverse: Tensor,
    rows: int,
    keep: bool,
) -> tuple[Tensor, Tensor]:
    """The result, and with ``keep`` what goes into the activation (else an empty tensor)."""
    arrays = _arrays("features", features, weight=weight, bias=bias, residual=residual)
    shape = (rows, weight_shape(weight)[0])
    filled, result = arrays.kind.output(None, shape, arrays.dtype)
    kept, before = arrays.kind.output(None, shape if keep else (0,), arrays.dtype)
    _core.conv3d_active(
        _book(rules),
        out=filled,
        preactivation=kept if keep else None,
        activation=activation,
        **arrays.taken,
        **arrays.options(None),
    )
    return result, before


@_convolve.register_fake
def _(
    features: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    residual: Tensor | None,
    activation: str,
    rules: Tensor,
    reverse: Tensor,
    rows: int,
    keep: bool,
) -> tuple[Tensor, Tensor]:
    shape = (rows, weight.shape[0])
    return features.new_empty(shape), features.new_empty(shape if keep else (0,))


@torch.library.custom_op("mlcore::scatter3d_active", mutates_args=())
def _scatter(values: Tensor, weight: Tensor, rules: Tensor, reverse: Tensor, rows: int) -> Tensor:
    arrays = _arrays("values", values, weight=weight)
    filled, result = arrays.kind.output(None, (rows, weight_shape(weight)[1]), arrays.dtype)
    _core.scatter3d_active(_book(reverse), out=filled, **arrays.taken, **arrays.options(None))
    return result  # type: ignore[no-any-return]


@_scatter.register_fake
def _(values: Tensor, weight: Tensor, rules: Tensor, reverse: Tensor, rows: int) -> Tensor:
    return values.new_empty((rows, weight.shape[1]))


@torch.library.custom_op("mlcore::conv3d_active_weight_gradient", mutates_args=())
def _weight_gradient(
    features: Tensor, values: Tensor, rules: Tensor, reverse: Tensor, k: int
) -> Tensor:
    arrays = _arrays("features", features, values=values)
    shape = (values.shape[1], features.shape[1], k, k, k)
    filled, result = arrays.kind.output(None, shape, arrays.dtype)
    _core.conv3d_active_weight_gradient(
        _book(rules), out=filled, **arrays.taken, **arrays.options(None)
    )
    return result  # type: ignore[no-any-return]


@_weight_gradient.register_fake
def _(features: Tensor, values: Tensor, rules: Tensor, reverse: Tensor, k: int) -> Tensor:
    return features.new_empty((values.shape[1], features.shape[1], k, k, k))


def _arrays(name: str, first: Tensor, **others: Tensor | None) -> Arrays:
    given = {name: first} | others
    for key, tensor in given.items():
        if tensor is not None and tensor.dtype != first.dtype:
            raise InvalidArgument(
                f"all tensors must have the same dtype, but {name} is {first.dtype} and {key} "
                f"{tensor.dtype}"
            )
    if first.dtype not in (torch.float32, torch.float64):
        raise InvalidArgument(f"{name} must be float32 or float64, got {first.dtype}")
    detached = {key: None if t is None else t.detach() for key, t in others.items()}
    return Arrays(name, first.detach(), **detached)


def _book(rules: Tensor) -> Any:
    return Kind.of(rules).take("rules", rules, "int32")


# ------------------------------------------------------------------------------------- gradients
def _linear(features: Tensor, weight: Tensor, rules: Tensor, reverse: Tensor, rows: int) -> Tensor:
    """The bare convolution."""
    plain = (None, None, "none", rules, reverse, rows, False)
    result: Tensor = _convolve(features, weight, *plain)[0]
    return result


def _convolve_setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    features, weight, bias, residual, activation, rules, reverse, rows, keep = inputs
    ctx.activation, ctx.rows, ctx.kept = activation, rows, keep
    ctx.has_residual = residual is not None
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(features, weight, bias, rules, reverse, output[1])


def _convolve_backward(
    ctx: Any, grad: Tensor | None, grad_before: Tensor | None
) -> tuple[Any, ...]:
    features, weight, bias, rules, reverse, before = ctx.saved_tensors
    grad_residual = grad if ctx.has_residual else None
    if grad is not None and ctx.activation != "none":
        if not ctx.kept:
            plain = (None, "none", rules, reverse, ctx.rows, False)
            before = _convolve(features, weight, bias, *plain)[0]
        grad = grad * SLOPES[ctx.activation](before)
    if ctx.kept and grad_before is not None:
        grad = grad_before if grad is None else grad + grad_before
    if grad is None:
        return (None,) * 9
    needs, k = ctx.needs_input_grad, weight.shape[-1]
    return (
        _scatter(grad, weight, rules, reverse, features.shape[0]) if needs[0] else None,
        _weight_gradient(features, grad, rules, reverse, k) if needs[1] else None,
        grad.sum(0) if needs[2] else None,
        grad_residual,
        *(None,) * 5,
    )


def _scatter_setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    values, weight, rules, reverse, _ = inputs
    ctx.save_for_backward(values, weight, rules, reverse)


def _scatter_backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
    values, weight, rules, reverse = ctx.saved_tensors
    needs = ctx.needs_input_grad
    return (
        _linear(grad, weight, rules, reverse, values.shape[0]) if needs[0] else None,
        _weight_gradient(grad, values, rules, reverse, weight.shape[-1]) if needs[1] else None,
        *(None,) * 3,
    )


def _weight_gradient_setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    features, values, rules, reverse, _ = inputs
    ctx.save_for_backward(features, values, rules, reverse)


def _weight_gradient_backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
    features, values, rules, reverse = ctx.saved_tensors
    needs = ctx.needs_input_grad
    return (
        _scatter(values, grad, rules, reverse, features.shape[0]) if needs[0] else None,
        _linear(features, grad, rules, reverse, values.shape[0]) if needs[1] else None,
        *(None,) * 3,
    )


_convolve.register_autograd(_convolve_backward, setup_context=_convolve_setup)
_scatter.register_autograd(_scatter_backward, setup_context=_scatter_setup)
_weight_gradient.register_autograd(_weight_gradient_backward, setup_context=_weight_gradient_setup)
