"""mlcore.ops.lstm: operator checks and derivatives."""

from __future__ import annotations

from typing import Any

import pytest

torch = pytest.importorskip("torch")
ops = pytest.importorskip("mlcore.ops")


def arguments(dtype: Any, layers: int = 2) -> tuple[Any, ...]:
    torch.manual_seed(3)
    lstm = torch.nn.LSTM(3, 4, layers, batch_first=True)
    out = torch.nn.Linear(4, 2)
    flat = [w.detach().to(dtype).requires_grad_() for layer in lstm.all_weights for w in layer]
    x = torch.randn(2, 3, 3, dtype=dtype, requires_grad=True)
    last = [w.detach().to(dtype).requires_grad_() for w in (out.weight, out.bias)]
    return x, flat, *last


def torch_lstm(x: Any, weights: list[Any], out_weight: Any, out_bias: Any) -> Any:
    zeros = x.new_zeros(len(weights) // 4, x.shape[0], out_weight.shape[1])
    y, _, _ = torch._VF.lstm(  # type: ignore[attr-defined]
        x, (zeros, zeros), weights, True, len(weights) // 4, 0.0, False, False, True
    )
    return y[:, -1] @ out_weight.t() + out_bias


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_opcheck(dtype: Any) -> None:
    torch.library.opcheck(torch.ops.mlcore.lstm.default, arguments(dtype))


@pytest.mark.parametrize("layers", [1, 2])
def test_gradients_are_torchs(layers: int) -> None:
    x, weights, out_weight, out_bias = arguments(torch.float64, layers)
    tensors = [x, *weights, out_weight, out_bias]
    ours = ops.lstm(x, weights, out_weight, out_bias)
    theirs = torch_lstm(x, weights, out_weight, out_bias)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-14)
    cotangent = torch.randn_like(ours)
    got = torch.autograd.grad(ours, tensors, cotangent)
    want = torch.autograd.grad(theirs, tensors, cotangent)
    for a, b in zip(got, want, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-11, atol=1e-13)


def test_gradcheck() -> None:
    x, weights, out_weight, out_bias = arguments(torch.float64)

    def call(*tensors: Any) -> Any:
        return ops.lstm(tensors[0], list(tensors[1:-2]), *tensors[-2:])

    tensors = (x, *weights, out_weight, out_bias)
    assert torch.autograd.gradcheck(call, tensors)
    assert torch.autograd.gradgradcheck(call, tensors, fast_mode=True)


def test_wrong_number_of_weights() -> None:
    from mlcore.errors import InvalidArgument

    x, weights, out_weight, out_bias = arguments(torch.float64)
    with pytest.raises(InvalidArgument, match="4 tensors per layer"):
        ops.lstm(x, weights[:3], out_weight, out_bias)


def test_one_precision_for_all() -> None:
    from mlcore.errors import InvalidArgument

    weights = [torch.ones(shape, dtype=torch.float64) for shape in ((8, 4), (8, 2), (8,), (8,))]
    last = torch.ones(3, 2, dtype=torch.float64), torch.ones(3, dtype=torch.float64)
    assert ops.lstm(torch.ones(2, 3, 4, dtype=torch.float64), weights, *last).shape == (2, 3)
    with pytest.raises(InvalidArgument, match="float64 like the weights"):
        ops.lstm(torch.ones(2, 3, 4), weights, *last)
