"""Stencils as torch operators: `conv3d`, `scatter3d`, `laplacian`, `gradient`.

The three linear maps behind them, a convolution and its transposes in the field and in the weights,
are each other's derivatives: every gradient is made of them again, to any order.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from mlcore import stencil as face
from mlcore.arrays import number
from mlcore.errors import InvalidArgument

__all__ = ["conv3d", "gradient", "laplacian", "scatter3d"]


def conv3d(
    field: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    boundary: str = "periodic",
    activation: str | None = None,
    residual: Tensor | None = None,
    mask: Tensor | None = None,
    stride: int = 1,
    groups: int = 1,
    layout: str = "channels_first",
) -> Tensor:
    """`mlcore.conv3d`, differentiable in field, weight, bias and residual any number of times.

    A tensor (B, C, X, Y, Z) in ``torch.channels_last_3d`` memory is taken as it lies and the result
    is in that memory format, too. With an activation the forward pass keeps what goes into it.

    Raises:
        InvalidArgument: as `mlcore.conv3d`, or dtypes are not one of float32 and float64.
    """
    tensors = {"weight": weight, "bias": bias, "residual": residual}
    _check_dtypes("field", field, tensors)
    face.Stencil(boundary, stride, groups, layout)
    if mask is not None:
        tensor_named("mask", mask)
    if field.dim() == 4:
        residual = None if residual is None else residual[None]
        return conv3d(
            field[None], weight, bias, boundary, activation, residual, mask, stride, groups, layout
        )[0]
    last = layout == "channels_first" and _lies_channels_last(field)
    if last:
        field = field.permute(0, 2, 3, 4, 1)
        residual = None if residual is None else residual.permute(0, 2, 3, 4, 1)
    wanted = torch.is_grad_enabled() and any(
        t is not None and t.requires_grad for t in (field, weight, bias)
    )
    out, _ = _conv3d(
        field,
        weight,
        bias,
        residual,
        mask,
        boundary,
        face.activation_name(activation),
        stride,
        groups,
        "channels_last" if last else layout,
        wanted and activation is not None,
    )
    result: Tensor = out.permute(0, 4, 1, 2, 3) if last else out
    return result


def scatter3d(
    values: Tensor,
    weight: Tensor,
    boundary: str = "halo",
    stride: int = 1,
    groups: int = 1,
    extents: Sequence[int] | None = None,
    layout: str = "channels_first",
) -> Tensor:
    """`mlcore.scatter3d`, differentiable in values and weight any number of times.

    Raises:
        InvalidArgument: as `mlcore.scatter3d`, or dtypes are not one of float32 and float64.
    """
    _check_dtypes("values", values, {"weight": weight})
    if values.dim() == 4:
        return scatter3d(values[None], weight, boundary, stride, groups, extents, layout)[0]
    last = layout == "channels_first" and _lies_channels_last(values)
    if last:
        values, layout = values.permute(0, 2, 3, 4, 1), "channels_last"
    stencil = face.Stencil(boundary, stride, groups, layout)
    if extents is None:
        full = stencil.fields(stencil.split(values.shape)[2], weight.shape[-1])
    else:
        full = face.checked_extents(extents)
    out: Tensor = _scatter3d(values, weight, full, boundary, stride, groups, layout)
    return out.permute(0, 4, 1, 2, 3) if last else out


def laplacian(
    field: Tensor,
    spacing: float | Sequence[float] = 1.0,
    order: int = 2,
    boundary: str = "periodic",
) -> Tensor:
    """`mlcore.laplacian`, differentiable any number of times."""
    return _differentiate("laplacian", field, spacing, order, boundary)


def gradient(
    field: Tensor,
    spacing: float | Sequence[float] = 1.0,
    order: int = 2,
    boundary: str = "periodic",
) -> Tensor:
    """`mlcore.gradient`, differentiable any number of times."""
    return _differentiate("gradient", field, spacing, order, boundary)


def _differentiate(
    derivative: str, field: Tensor, spacing: float | Sequence[float], order: int, boundary: str
) -> Tensor:
    tensor_named("field", field)
    face.checked_difference(order, boundary)
    out: Tensor = _difference(field, derivative, _spacing(spacing), order, boundary)
    return out


# -------------------------------------------------------------------------------- convolution
@torch.library.custom_op("mlcore::conv3d", mutates_args=())
def _conv3d(
    field: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    residual: Tensor | None,
    mask: Tensor | None,
    boundary: str,
    activation: str,
    stride: int,
    groups: int,
    layout: str,
    keep: bool,
) -> tuple[Tensor, Tensor]:
    """The result, and with ``keep`` what goes into the activation (else an empty tensor)."""
    stencil = face.Stencil(boundary, stride, groups, layout)
    before = field.new_empty(_result_shape(stencil, field, weight) if keep else (0,))
    extra = {
        "bias": _detached(bias),
        "activation": activation,
        "residual": _detached(residual),
        "mask": mask,
        "preactivation": before if keep else None,
    }
    out: Tensor = face.convolve(stencil, field.detach(), weight.detach(), extra)
    return out, before


@_conv3d.register_fake
def _(field: Tensor, weight: Tensor, *rest: Any) -> tuple[Tensor, Tensor]:
    *_, boundary, _activation, stride, groups, layout, keep = rest
    shape = _result_shape(face.Stencil(boundary, stride, groups, layout), field, weight)
    return field.new_empty(shape), field.new_empty(shape if keep else (0,))


def _conv3d_setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    field, weight, bias, residual, mask, *options, keep = inputs
    boundary, ctx.activation, stride, groups, layout = options
    ctx.stencil = face.Stencil(boundary, stride, groups, layout)
    ctx.kept, ctx.has_residual = keep, residual is not None
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(field, weight, bias, mask, output[1])


def _conv3d_backward(ctx: Any, grad: Tensor | None, grad_before: Tensor | None) -> tuple[Any, ...]:
    field, weight, bias, mask, before = ctx.saved_tensors
    stencil = ctx.stencil
    options = tuple(stencil.options().values())
    last = stencil.layout == "channels_last"
    if grad is not None and mask is not None:
        grad = grad * (mask != 0).to(grad.dtype).reshape(_mask_shape(mask, last))
    grad_residual = grad if ctx.has_residual else None
    if grad is not None and ctx.activation != "none":
        if not ctx.kept:
            plain = (None, None, stencil.boundary, "none", *options[1:], False)
            before = _conv3d(field, weight, bias, *plain)[0]
        grad = grad * SLOPES[ctx.activation](before)
    if ctx.kept and grad_before is not None:
        grad = grad_before if grad is None else grad + grad_before
    if grad is None:
        return (None,) * 11
    needs = ctx.needs_input_grad
    extents = list(stencil.split(field.shape)[2])
    taps = weight.shape[-1]
    return (
        _scatter3d(grad, weight, extents, *options) if needs[0] else None,
        _weight_gradient(field, grad, taps, *options) if needs[1] else None,
        grad.sum((0, 1, 2, 3) if last else (0, 2, 3, 4)) if needs[2] else None,
        grad_residual,
        *(None,) * 7,
    )


_conv3d.register_autograd(_conv3d_backward, setup_context=_conv3d_setup)


@torch.library.custom_op("mlcore::scatter3d", mutates_args=())
def _scatter3d(
    values: Tensor,
    weight: Tensor,
    extents: list[int],
    boundary: str,
    stride: int,
    groups: int,
    layout: str,
) -> Tensor:
    stencil = face.Stencil(boundary, stride, groups, layout)
    out: Tensor = face.scatter(stencil, values.detach(), weight.detach(), extents)
    return out


@_scatter3d.register_fake
def _(values: Tensor, weight: Tensor, extents: list[int], *options: Any) -> Tensor:
    stencil = face.Stencil(*options)
    return values.new_empty(
        stencil.join(values.shape[0], weight.shape[1] * stencil.groups, extents)
    )


def _scatter3d_setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    values, weight, _, *ctx.options = inputs
    ctx.save_for_backward(values, weight)


def _scatter3d_backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
    values, weight = ctx.saved_tensors
    needs = ctx.needs_input_grad
    return (
        _linear(grad, weight, *ctx.options) if needs[0] else None,
        _weight_gradient(grad, values, weight.shape[-1], *ctx.options) if needs[1] else None,
        *(None,) * 5,
    )


_scatter3d.register_autograd(_scatter3d_backward, setup_context=_scatter3d_setup)


@torch.library.custom_op("mlcore::conv3d_weight_gradient", mutates_args=())
def _weight_gradient(
    field: Tensor,
    values: Tensor,
    taps: int,
    boundary: str,
    stride: int,
    groups: int,
    layout: str,
) -> Tensor:
    out: Tensor = face.conv3d_weight_gradient(
        field.detach(), values.detach(), taps, boundary, stride, groups, layout=layout
    )
    return out


@_weight_gradient.register_fake
def _(field: Tensor, values: Tensor, taps: int, *options: Any) -> Tensor:
    stencil = face.Stencil(*options)
    inputs, outputs = stencil.split(field.shape)[1], stencil.split(values.shape)[1]
    return field.new_empty((outputs, inputs // stencil.groups, taps, taps, taps))


def _weight_gradient_setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    field, values, _, *ctx.options = inputs
    ctx.save_for_backward(field, values)


def _weight_gradient_backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
    field, values = ctx.saved_tensors
    needs = ctx.needs_input_grad
    extents = list(face.Stencil(*ctx.options).split(field.shape)[2])
    return (
        _scatter3d(values, grad, extents, *ctx.options) if needs[0] else None,
        _linear(field, grad, *ctx.options) if needs[1] else None,
        *(None,) * 5,
    )


_weight_gradient.register_autograd(_weight_gradient_backward, setup_context=_weight_gradient_setup)


def _linear(
    field: Tensor, weight: Tensor, boundary: str, stride: int, groups: int, layout: str
) -> Tensor:
    """The bare convolution."""
    rest = (None, None, None, boundary, "none", stride, groups, layout, False)
    out: Tensor = _conv3d(field, weight, *rest)[0]
    return out


def _silu_slope(s: Tensor) -> Tensor:
    return s.sigmoid() * (1 + s * (1 - s.sigmoid()))


def _gelu_slope(s: Tensor) -> Tensor:
    density = torch.exp(-0.5 * s * s) / math.sqrt(2 * math.pi)
    return 0.5 * (1 + torch.erf(s / math.sqrt(2))) + s * density


SLOPES: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": lambda s: (s > 0).to(s.dtype),
    "silu": _silu_slope,
    "gelu": _gelu_slope,
    "tanh": lambda s: 1 - s.tanh() ** 2,
    "sigmoid": lambda s: s.sigmoid() * (1 - s.sigmoid()),
}


# ------------------------------------------------------------------------- finite differences
@torch.library.custom_op("mlcore::finite_difference", mutates_args=())
def _difference(
    field: Tensor, derivative: str, spacing: list[float], order: int, boundary: str
) -> Tensor:
    out: Tensor = face.finite_difference(derivative, field.detach(), spacing, order, boundary)
    return out


@_difference.register_fake
def _(field: Tensor, derivative: str, spacing: list[float], order: int, boundary: str) -> Tensor:
    halo = order if boundary == "halo" else 0
    components = (3,) if derivative == "gradient" else ()
    inner = [n - halo for n in field.shape[-3:]]
    return field.new_empty((*field.shape[:-3], *components, *inner))


@torch.library.custom_op("mlcore::finite_difference_adjoint", mutates_args=())
def _difference_adjoint(
    values: Tensor, derivative: str, spacing: list[float], order: int, boundary: str
) -> Tensor:
    out: Tensor = face.finite_difference_adjoint(
        derivative, values.detach(), spacing, order, boundary
    )
    return out


@_difference_adjoint.register_fake
def _(values: Tensor, derivative: str, spacing: list[float], order: int, boundary: str) -> Tensor:
    halo = order if boundary == "halo" else 0
    lead = values.shape[: -4 if derivative == "gradient" else -3]
    return values.new_empty((*lead, *(n + halo for n in values.shape[-3:])))


def _difference_setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.options = inputs[1:]


def _difference_backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
    return _difference_adjoint(grad, *ctx.options), None, None, None, None


def _difference_adjoint_backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
    return _difference(grad, *ctx.options), None, None, None, None


_difference.register_autograd(_difference_backward, setup_context=_difference_setup)
_difference_adjoint.register_autograd(_difference_adjoint_backward, setup_context=_difference_setup)


# ------------------------------------------------------------------------------------ helpers
def _check_dtypes(name: str, first: Tensor, others: dict[str, Tensor | None]) -> None:
    if tensor_named(name, first).dtype not in (torch.float32, torch.float64):
        raise InvalidArgument(f"{name} must be float32 or float64, got {first.dtype}")
    for key, tensor in others.items():
        if tensor is not None or key == "weight":
            tensor_named(key, tensor)
        if tensor is not None and tensor.dtype != first.dtype:
            raise InvalidArgument(
                f"{key} must have the dtype of {name} ({first.dtype}), got {tensor.dtype}"
            )


def tensor_named(name: str, value: Any) -> Tensor:
    """A tensor; InvalidArgument for what is none."""
    if not isinstance(value, Tensor):
        raise InvalidArgument(f"{name} must be a tensor, got {type(value).__name__}")
    return value


def _lies_channels_last(tensor: Tensor) -> bool:
    return (
        tensor.dim() == 5
        and not tensor.is_contiguous()
        and tensor.is_contiguous(memory_format=torch.channels_last_3d)
    )


def _result_shape(stencil: face.Stencil, field: Tensor, weight: Tensor) -> tuple[int, ...]:
    if field.dim() != 5 or weight.dim() != 5:
        raise InvalidArgument(
            f"field and weight must have 5 dimensions, got the shapes {tuple(field.shape)} and "
            f"{tuple(weight.shape)}"
        )
    batch, _, extents = stencil.split(field.shape)
    return stencil.join(batch, weight.shape[0], stencil.results(extents, weight.shape[-1]))


def _mask_shape(mask: Tensor, channels_last: bool) -> tuple[int, ...]:
    """Of the mask, with an axis of channels."""
    full = tuple(mask.shape) if mask.dim() == 4 else (1, *mask.shape)
    return (*full, 1) if channels_last else (full[0], 1, *full[1:])


def _detached(tensor: Tensor | None) -> Tensor | None:
    return None if tensor is None else tensor.detach()


def _spacing(spacing: float | Sequence[float]) -> list[float]:
    if isinstance(spacing, (list, tuple)):
        return [number("spacing", h) for h in spacing]
    return [number("spacing", spacing)] * 3
