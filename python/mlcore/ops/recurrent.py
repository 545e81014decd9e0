"""`mlcore.ops.lstm`: the recurrent step as a torch operator."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from mlcore.errors import InvalidArgument
from mlcore.recurrent import LSTM

__all__ = ["lstm"]

_PER_LAYER = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")


def lstm(x: Tensor, weights: Sequence[Tensor], out_weight: Tensor, out_bias: Tensor) -> Tensor:
    """y (B, O) after windows x (B, S, D) from the zero state; see `mlcore.LSTM`.

    Differentiable, any number of times, in all arguments: the forward pass is the core's, the
    backward pass runs through the frames again in torch. Packing the weights costs about 20 us per
    call for a network of 35 thousand; where they do not change, `mlcore.LSTM` packs them once.

    Args:
        x: (B, S, D), float32 or float64 like the weights.
        weights: 4 L tensors in the order of ``torch.nn.LSTM.all_weights``: weight_ih_l0 (4H, D),
            weight_hh_l0 (4H, H), bias_ih_l0 (4H,), bias_hh_l0 (4H,), weight_ih_l1, ...
        out_weight: (O, H).
        out_bias: (O,).

    Raises:
        InvalidArgument: a shape or dtype is wrong, a value is not finite.
    """
    if x.dtype != out_weight.dtype:
        raise InvalidArgument(f"x must be {out_weight.dtype} like the weights, got {x.dtype}")
    y: Tensor = _lstm(x, list(weights), out_weight, out_bias)
    return y


@torch.library.custom_op("mlcore::lstm", mutates_args=())
def _lstm(x: Tensor, weights: list[Tensor], out_weight: Tensor, out_bias: Tensor) -> Tensor:
    if len(weights) % 4 or not weights:
        raise InvalidArgument(f"weights must hold 4 tensors per layer, got {len(weights)}")
    named = {f"{_PER_LAYER[k % 4]}_l{k // 4}": weight for k, weight in enumerate(weights)}
    network = LSTM(named | {"out.weight": out_weight, "out.bias": out_bias})
    y: Tensor = network.step(x.detach())
    return y


@_lstm.register_fake
def _(x: Tensor, weights: list[Tensor], out_weight: Tensor, out_bias: Tensor) -> Tensor:
    return x.new_empty((x.shape[0], out_weight.shape[0]))


def _setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, weights, out_weight, out_bias = inputs
    ctx.save_for_backward(x, *weights, out_weight)


def _backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
    """Through time, backwards; every operation of it is differentiable again."""
    x, *weights, out_weight = ctx.saved_tensors
    frames = list(x.unbind(1))
    tapes = []
    for layer in range(len(weights) // 4):
        frames, tape = _forward_layer(frames, weights[4 * layer : 4 * layer + 4])
        tapes.append(tape)
    out_grads = (grad.t() @ frames[-1], grad.sum(0))
    upstream = [torch.zeros_like(frame) for frame in frames]
    upstream[-1] = grad @ out_weight
    grads: list[Tensor] = []
    for layer in reversed(range(len(weights) // 4)):
        upstream, own = _backward_layer(upstream, tapes[layer], weights[4 * layer : 4 * layer + 4])
        grads = own + grads
    return torch.stack(upstream, 1), grads, *out_grads


Tape = list[tuple[Tensor, ...]]


def _forward_layer(frames: list[Tensor], weights: Sequence[Tensor]) -> tuple[list[Tensor], Tape]:
    """h of every frame, and what the way back needs: (x, h, c before; i, f, g, o, tanh c)."""
    w_ih, w_hh, b_ih, b_hh = weights
    h = c = frames[0].new_zeros(frames[0].shape[0], w_hh.shape[1])
    states: list[Tensor] = []
    tape: Tape = []
    for x in frames:
        gates = x @ w_ih.t() + b_ih + h @ w_hh.t() + b_hh
        raw_i, raw_f, raw_g, raw_o = gates.chunk(4, 1)
        i, f, g, o = raw_i.sigmoid(), raw_f.sigmoid(), raw_g.tanh(), raw_o.sigmoid()
        before, c = (x, h, c), f * c + i * g
        t = c.tanh()
        h = o * t
        states.append(h)
        tape.append((*before, i, f, g, o, t))
    return states, tape


def _backward_layer(
    upstream: list[Tensor], tape: Tape, weights: Sequence[Tensor]
) -> tuple[list[Tensor], list[Tensor]]:
    """Gradients of the layer's inputs and of its four weights."""
    w_ih, w_hh, b_ih, b_hh = weights
    grads = [torch.zeros_like(weight) for weight in weights]
    dh = torch.zeros_like(upstream[0])
    dc = torch.zeros_like(dh)
    inputs: list[Tensor] = []
    for down, (x, h, c, i, f, g, o, t) in zip(reversed(upstream), reversed(tape), strict=True):
        dh = dh + down
        dc = dc + dh * o * (1 - t * t)
        gates = (
            dc * g * i * (1 - i),
            dc * c * f * (1 - f),
            dc * i * (1 - g * g),
            dh * t * o * (1 - o),
        )
        d = torch.cat(gates, 1)
        parts = (d.t() @ x, d.t() @ h, d.sum(0), d.sum(0))
        grads = [total + part for total, part in zip(grads, parts, strict=True)]
        inputs.append(d @ w_ih)
        dh, dc = d @ w_hh, dc * f
    return inputs[::-1], grads


_lstm.register_autograd(_backward, setup_context=_setup)
