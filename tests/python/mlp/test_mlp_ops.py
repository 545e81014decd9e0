"""mlcore.ops.mlp: operator checks and derivatives."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from mlcore import InvalidArgument
from mlcore.mlp import ACTIVATIONS
from torch_ops import check_gradients, check_operator

torch = pytest.importorskip("torch")
ops = pytest.importorskip("mlcore.ops")


def arguments(dtype: Any = torch.float64, widths: Any = (3, 5, 4, 2)) -> tuple[Any, Any, Any]:
    torch.manual_seed(3)
    pairs = list(itertools.pairwise(widths))
    weights = [torch.randn(b, a, dtype=dtype, requires_grad=True) for a, b in pairs]
    biases = [torch.randn(b, dtype=dtype, requires_grad=True) for _, b in pairs]
    return torch.randn(4, widths[0], dtype=dtype, requires_grad=True), weights, biases


def call(activation: str, layers: int) -> Any:
    def run(x: Any, *rest: Any) -> Any:
        return ops.mlp(x, rest[:layers], rest[layers:], activation)

    return run


def torch_mlp(x: Any, weights: Any, biases: Any, activation: str) -> Any:
    functions = {
        "tanh": torch.tanh,
        "relu": torch.relu,
        "linear": lambda z: z,
        "silu": torch.nn.functional.silu,
        "softplus": torch.nn.functional.softplus,
    }
    for weight, bias in zip(weights[:-1], biases[:-1], strict=True):
        x = functions[activation](x @ weight.t() + bias)
    return x @ weights[-1].t() + biases[-1]


@pytest.mark.parametrize("activation", sorted(ACTIVATIONS))
def test_derivatives_are_torchs(activation: str) -> None:
    x, weights, biases = arguments()
    tensors = [x, *weights, *biases]
    found = []
    for function in (ops.mlp, torch_mlp):
        y = function(x, weights, biases, activation)
        first = torch.autograd.grad((y**2).sum(), tensors, create_graph=True)
        second = torch.autograd.grad(sum((g**2).sum() for g in first), tensors, create_graph=True)
        third = torch.autograd.grad(sum((g**2).sum() for g in second), [x, weights[0]])
        found.append((y, *first, *second, *third))
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("activation", ["tanh", "silu", "softplus"])
def test_gradcheck(activation: str) -> None:
    x, weights, biases = arguments(widths=(2, 3, 1))
    check_gradients(call(activation, 2), (x, *weights, *biases), second=True)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_opcheck(dtype: Any) -> None:
    x, weights, biases = arguments(dtype)
    v = torch.randn(4, 2, dtype=dtype, requires_grad=True)
    check_operator(torch.ops.mlcore.mlp.default, [(x, weights, biases, "tanh")])
    check_operator(torch.ops.mlcore.mlp_gradient.default, [(x, v, weights, biases, "silu")])


def test_errors() -> None:
    x, weights, biases = arguments()
    with pytest.raises(InvalidArgument, match="activation"):
        ops.mlp(x, weights, biases, "gelu")
    with pytest.raises(InvalidArgument, match="one tensor per layer"):
        ops.mlp(x, weights, biases[:1])
    with pytest.raises(InvalidArgument, match="x must be torch.float64"):
        ops.mlp(x.float(), weights, biases)
