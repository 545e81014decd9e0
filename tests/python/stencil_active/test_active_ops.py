"""The torch operators: values, derivatives of first and second order, torch.compile."""

from __future__ import annotations

import mlcore.ops
import numpy as np
import pytest
import torch
from dense_fields import occupied
from mlcore import ActiveSet
from mlcore.ops import conv3d_active, scatter3d_active
from mlcore.ops.stencil_active import rule_books
from torch.nn import functional
from torch_ops import check_gradients, check_operator

SHAPE = (3, 4, 2)


def small(dilate: int, boundary: str = "periodic") -> ActiveSet:
    rng = np.random.default_rng(1)
    return ActiveSet(SHAPE, rng.permutation(occupied(rng, SHAPE, 0.3)), boundary, dilate=dilate)


def tensors(active: ActiveSet, dtype: torch.dtype = torch.float64) -> tuple[torch.Tensor, ...]:
    """Features, weight, bias, residual."""
    generator = torch.Generator().manual_seed(2)
    shapes = ((len(active), 2), (3, 2, 3, 3, 3), (3,), (len(active.outputs), 3))
    return tuple(
        torch.randn(shape, generator=generator, dtype=dtype).requires_grad_() for shape in shapes
    )


@pytest.mark.parametrize("dilate", [0, 1])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_same_as_the_face(dilate, dtype):
    active = small(dilate)
    arrays = [t.detach() for t in tensors(active, dtype)]
    for activation in (None, "silu"):
        got = conv3d_active(active, *arrays[:3], activation, arrays[3])
        want = mlcore.conv3d_active(active, *arrays[:3], activation, arrays[3])
        assert got.dtype == dtype and torch.equal(got, want)
    want = mlcore.scatter3d_active(active, arrays[3], arrays[1])
    assert torch.equal(scatter3d_active(active, arrays[3], arrays[1]), want)


@pytest.mark.parametrize("activation", [None, "relu", "silu", "gelu", "tanh", "sigmoid"])
def test_derivatives_with_activation(activation):
    active = small(0)
    check_gradients(
        lambda f, w, b, r: conv3d_active(active, f, w, b, activation, r),
        tensors(active),
        second=activation in (None, "gelu"),
    )


def test_second_derivatives_of_the_dilated_form():
    active = small(1, "zero")
    features, weight, bias, values = tensors(active)
    few = features[:, :1].detach().requires_grad_(), weight[:1, :1].detach().requires_grad_()
    check_gradients(lambda f, w: conv3d_active(active, f, w, None, "silu"), few, second=True)
    check_gradients(
        lambda v, w: scatter3d_active(active, v, w),
        (values[:, :1].detach().requires_grad_(), few[1]),
        second=True,
    )


@pytest.mark.parametrize("dilate", [0, 1])
def test_gradients_are_those_of_the_dense_way(dilate):
    active = small(dilate)
    arrays = tensors(active)
    ours = conv3d_active(active, *arrays[:3], "gelu", arrays[3])
    gradients = torch.autograd.grad(ours.square().sum(), arrays)
    padded = active.scatter(arrays[0])
    for axis, n in zip((1, 2, 3), SHAPE, strict=True):
        padded = padded.index_select(axis, torch.arange(-1, n + 1) % n)
    dense = functional.gelu(functional.conv3d(padded[None], arrays[1], arrays[2])[0])
    want = active.outputs.gather(dense) + arrays[3]
    torch.testing.assert_close(ours, want, rtol=1e-12, atol=1e-12)
    for got, expected in zip(
        gradients, torch.autograd.grad(want.square().sum(), arrays), strict=True
    ):
        torch.testing.assert_close(got, expected, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("dilate", [0, 1])
def test_operators_hold_what_torch_asks(dilate):
    active = small(dilate)
    features, weight, bias, values = tensors(active)
    books, rows = rule_books(active, weight), len(active.outputs)
    operators = torch.ops.mlcore
    check_operator(
        operators.conv3d_active.default,
        [
            (features, weight, bias, values, "silu", *books, rows, True),
            (features, weight, None, None, "none", *books, rows, False),
        ],
    )
    check_operator(operators.scatter3d_active.default, [(values, weight, *books, len(active))])
    check_operator(operators.conv3d_active_weight_gradient.default, [(features, values, *books, 3)])


def test_compiles_in_one_graph():
    active = small(1)
    arrays = tensors(active)
    active.rules(3), active.rules(3, reverse=True)

    def loss(*given: torch.Tensor) -> torch.Tensor:
        return conv3d_active(active, *given[:3], "silu", given[3]).square().sum()

    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
    want = torch.autograd.grad(loss(*arrays), arrays)
    for got, expected in zip(torch.autograd.grad(compiled(*arrays), arrays), want, strict=True):
        torch.testing.assert_close(got, expected)


def test_a_small_network_learns():
    torch.manual_seed(3)
    rng = np.random.default_rng(4)
    active = ActiveSet((8, 8, 8), occupied(rng, (8, 8, 8), 0.3))
    x = torch.randn(len(active), 4)
    truth = torch.randn(2, 4, 3, 3, 3) / 10
    target = conv3d_active(active, x, truth)
    weight = torch.zeros_like(truth).requires_grad_()
    optimizer = torch.optim.Adam([weight], lr=0.02)
    for _ in range(200):
        optimizer.zero_grad()
        loss = functional.mse_loss(conv3d_active(active, x, weight), target)
        loss.backward()
        optimizer.step()
    assert loss < 1e-3 * target.square().mean()


def test_mixed_dtypes_are_refused():
    active = small(0)
    features, weight, *_ = tensors(active)
    with pytest.raises(mlcore.InvalidArgument, match="same dtype"):
        conv3d_active(active, features, weight.float())
    with pytest.raises(mlcore.InvalidArgument, match="float32 or float64"):
        conv3d_active(active, features.half(), weight.half())
