"""`mlcore.ops.mlp`: small fully connected networks as a torch operator."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from mlcore.errors import InvalidArgument
from mlcore.mlp import ACTIVATIONS, MLP

__all__ = ["mlp"]


def mlp(
    x: Tensor, weights: Sequence[Tensor], biases: Sequence[Tensor], activation: str = "tanh"
) -> Tensor:
    """y (B, O) of x (B, D); see `mlcore.MLP`, whose scales are left to the caller.

    Differentiable, any number of times, in all arguments: values and their gradient by x are the
    core's, what else there is to derive runs in torch. Where the weights do not change, `mlcore.MLP`
    packs them once.

    Args:
        x: (B, D), float32 or float64 like the weights.
        weights: of every layer (out, in).
        biases: of every layer (out,).
        activation: "tanh", "silu", "relu", "softplus" or "linear", between the layers.

    Raises:
        InvalidArgument: a shape or dtype is wrong, a value is not finite.
    """
    if activation not in ACTIVATIONS:
        raise InvalidArgument(
            f"activation must be one of {', '.join(ACTIVATIONS)}, got {activation!r}"
        )
    if len(weights) != len(biases) or not weights:
        raise InvalidArgument(
            f"weights and biases must hold one tensor per layer, got {len(weights)} and "
            f"{len(biases)}"
        )
    if x.dtype != weights[0].dtype:
        raise InvalidArgument(f"x must be {weights[0].dtype} like the weights, got {x.dtype}")
    y: Tensor = _mlp(x, list(weights), list(biases), activation)
    return y


@torch.library.custom_op("mlcore::mlp", mutates_args=())
def _mlp(x: Tensor, weights: list[Tensor], biases: list[Tensor], activation: str) -> Tensor:
    y: Tensor = MLP(list(zip(weights, biases, strict=True)), activation)(x.detach())
    return y


@_mlp.register_fake
def _(x: Tensor, weights: list[Tensor], biases: list[Tensor], activation: str) -> Tensor:
    return x.new_empty((x.shape[0], weights[-1].shape[0]))


@torch.library.custom_op("mlcore::mlp_gradient", mutates_args=())
def _mlp_gradient(
    x: Tensor, v: Tensor, weights: list[Tensor], biases: list[Tensor], activation: str
) -> Tensor:
    """Rows v dy/dx (B, D)."""
    network = MLP(list(zip(weights, biases, strict=True)), activation)
    gradient: Tensor = network.gradient(x.detach(), v.detach())
    return gradient


@_mlp_gradient.register_fake
def _(x: Tensor, v: Tensor, weights: list[Tensor], biases: list[Tensor], activation: str) -> Tensor:
    return x.new_empty(x.shape)


def _curve(activation: str, z: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """a(z), a'(z), a''(z)."""
    if activation == "tanh":
        t = z.tanh()
        slope = 1 - t * t
        return t, slope, -2 * t * slope
    if activation == "relu":
        step = (z > 0).to(z.dtype)
        return z * step, step, torch.zeros_like(z)
    if activation == "linear":
        return z, torch.ones_like(z), torch.zeros_like(z)
    s = z.sigmoid()
    bend = s * (1 - s)
    if activation == "softplus":
        return torch.nn.functional.softplus(z, threshold=50), s, bend
    return z * s, s + z * bend, bend * (2 + z * (1 - 2 * s))


def _setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, weights, biases, ctx.activation = inputs
    ctx.save_for_backward(x, *weights, *biases)


def _backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
    x, *rest = ctx.saved_tensors
    weights, biases = rest[: len(rest) // 2], rest[len(rest) // 2 :]
    by_x = _mlp_gradient(x, grad, weights, biases, ctx.activation)
    if not any((*ctx.needs_input_grad[1], *ctx.needs_input_grad[2])):
        return by_x, [None] * len(weights), [None] * len(biases), None
    by_weights, by_biases = _parameter_gradients(x, grad, weights, biases, ctx.activation)
    return by_x, by_weights, by_biases, None


def _parameter_gradients(
    x: Tensor, v: Tensor, weights: list[Tensor], biases: list[Tensor], activation: str
) -> tuple[list[Tensor], list[Tensor]]:
    inputs, slopes = [x], []
    for weight, bias in zip(weights[:-1], biases[:-1], strict=True):
        value, slope, _ = _curve(activation, inputs[-1] @ weight.t() + bias)
        inputs.append(value)
        slopes.append(slope)
    by_weights, by_biases = [], []
    for layer in reversed(range(len(weights))):
        by_weights.append(v.t() @ inputs[layer])
        by_biases.append(v.sum(0))
        if layer:
            v = (v @ weights[layer]) * slopes[layer - 1]
    return by_weights[::-1], by_biases[::-1]


def _setup_gradient(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, v, weights, biases, ctx.activation = inputs
    ctx.save_for_backward(x, v, *weights, *biases)


def _gradient_backward(ctx: Any, along: Tensor) -> tuple[Any, ...]:
    """Derivatives of <along, v dy/dx> = <v, J along>: the tangent of y, and its way back."""
    x, v, *rest = ctx.saved_tensors
    weights, biases = rest[: len(rest) // 2], rest[len(rest) // 2 :]
    inputs, tangents, turns = [x], [along], []
    last = len(weights) - 1
    for layer, (weight, bias) in enumerate(zip(weights, biases, strict=True)):
        moved = tangents[layer] @ weight.t()
        if layer == last:
            by_v = moved
            break
        value, slope, bend = _curve(ctx.activation, inputs[layer] @ weight.t() + bias)
        inputs.append(value)
        tangents.append(slope * moved)
        turns.append((slope, bend * moved))
    of_value, of_tangent = torch.zeros_like(v), v
    by_weights, by_biases = [], []
    for layer in reversed(range(last + 1)):
        by_weights.append(of_value.t() @ inputs[layer] + of_tangent.t() @ tangents[layer])
        by_biases.append(of_value.sum(0))
        of_value, of_tangent = of_value @ weights[layer], of_tangent @ weights[layer]
        if layer:
            slope, turn = turns[layer - 1]
            of_value, of_tangent = of_value * slope + of_tangent * turn, of_tangent * slope
    return of_value, by_v, by_weights[::-1], by_biases[::-1], None


_mlp.register_autograd(_backward, setup_context=_setup)
_mlp_gradient.register_autograd(_gradient_backward, setup_context=_setup_gradient)
