"""MLP: against torch, its reference, one row and many; errors."""

from __future__ import annotations

import itertools
from typing import Any

import mlcore
import mlcore.reference
import numpy as np
import pytest
from devices import device_named
from hypothesis import given, settings
from hypothesis import strategies as st
from mlcore import MLP, InvalidArgument
from mlcore.mlp import ACTIVATIONS

torch = pytest.importorskip("torch")
TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-13}
MODULES = {
    "tanh": torch.nn.Tanh,
    "silu": torch.nn.SiLU,
    "relu": torch.nn.ReLU,
    "softplus": torch.nn.Softplus,
    "linear": torch.nn.Identity,
}


def net_of(widths: Any, activation: str, dtype: Any, bias: bool = True) -> Any:
    torch.manual_seed(7)
    parts: list[Any] = []
    for before, units in itertools.pairwise(widths):
        parts += [torch.nn.Linear(before, units, bias=bias), MODULES[activation]()]
    parts = [p for p in parts[:-1] if not isinstance(p, torch.nn.Identity)]
    return torch.nn.Sequential(*parts).to(dtype)


@settings(max_examples=60, deadline=None)
@given(
    widths=st.lists(st.integers(1, 70), min_size=2, max_size=5),
    batch=st.integers(0, 20),
    activation=st.sampled_from(sorted(ACTIVATIONS)),
    bias=st.booleans(),
    dtype=st.sampled_from([torch.float32, torch.float64]),
)
def test_matches_torch(widths: Any, batch: int, activation: str, bias: bool, dtype: Any) -> None:
    net = net_of(widths, activation, dtype, bias)
    mlp = MLP(net)
    assert (mlp.inputs, mlp.outputs, mlp.layers) == (widths[0], widths[-1], len(widths) - 1)
    assert mlp.activation == (activation if len(widths) > 2 else "tanh")
    x = torch.randn(batch, widths[0], dtype=dtype, requires_grad=True)
    v = torch.randn(batch, widths[-1], dtype=dtype)
    want = net(x)
    (slope,) = torch.autograd.grad(want, x, v)
    tolerance = {"rtol": TOLERANCE[dtype], "atol": TOLERANCE[dtype]}
    rows = x.detach()
    y, dx = mlp.value_and_gradient(rows, v)
    torch.testing.assert_close(y, want, **tolerance)
    torch.testing.assert_close(dx, slope, **tolerance)
    torch.testing.assert_close(mlp(rows), y, rtol=0, atol=0)
    torch.testing.assert_close(mlp.gradient(rows, v), dx, rtol=0, atol=0)
    for b in range(batch):
        assert torch.equal(mlp(rows[b]), y[b])
        assert torch.equal(mlp.gradient(rows[b], v[b]), dx[b])


def test_scales_are_folded_in() -> None:
    for dtype in (torch.float32, torch.float64):
        net = net_of((5, 20, 3), "silu", dtype)
        rng = np.random.default_rng(1)
        scales = {
            "in_shift": rng.normal(size=5),
            "in_scale": rng.uniform(0.5, 2, 5),
            "out_shift": rng.normal(size=3),
            "out_scale": 3.0,
        }
        mlp = MLP(net, **scales)
        x = torch.randn(7, 5, dtype=dtype, requires_grad=True)
        t = {name: torch.as_tensor(value, dtype=dtype) for name, value in scales.items()}
        want = t["out_scale"] * net((x - t["in_shift"]) / t["in_scale"]) + t["out_shift"]
        (slope,) = torch.autograd.grad(want.sum(), x)
        y, dx = mlp.value_and_gradient(x.detach())
        torch.testing.assert_close(y, want, rtol=0, atol=TOLERANCE[dtype])
        torch.testing.assert_close(dx, slope, rtol=0, atol=TOLERANCE[dtype])


@pytest.mark.parametrize("activation", sorted(ACTIVATIONS))
def test_reference_and_threads(activation: str) -> None:
    rng = np.random.default_rng(2)
    mlp = MLP([(rng.normal(size=(30, 4)), rng.normal(size=30)), (rng.normal(size=(2, 30)), None)],
              activation, in_shift=0.3)  # fmt: skip
    x, v = rng.normal(size=(5000, 4)), rng.normal(size=(5000, 2))
    y, dx = mlp.value_and_gradient(x, v, num_threads=1)
    want_y, want_dx = mlcore.reference.mlp(mlp, x[:50], v[:50])
    np.testing.assert_allclose(y[:50], want_y, rtol=0, atol=1e-12)
    np.testing.assert_allclose(dx[:50], want_dx, rtol=0, atol=1e-12)
    ones = mlcore.reference.mlp(mlp, x[:50])[1]
    np.testing.assert_allclose(mlp.gradient(x[:50]), ones, rtol=0, atol=1e-12)
    for threads in (2, 5):
        again, dagain = mlp.value_and_gradient(x, v, num_threads=threads)
        np.testing.assert_array_equal(again, y)
        np.testing.assert_array_equal(dagain, dx)


def test_far_from_zero() -> None:
    z = np.array([[-1e4], [-700.0], [-40.0], [-1e-300], [0.0], [1e-9], [40.0], [700.0], [1e4]])
    one = (np.ones((1, 1)), None)
    for activation in ACTIVATIONS:
        y, dx = MLP([one, one], activation).value_and_gradient(z)
        want, slope = mlcore.reference.mlp(MLP([one, one], activation), z)
        np.testing.assert_allclose(y, want, rtol=1e-14, atol=1e-14)
        np.testing.assert_allclose(dx, slope, rtol=1e-14, atol=1e-14)


def test_kinds_of_arrays() -> None:
    mlp = MLP(net_of((4, 9, 2), "tanh", torch.float32))
    x = torch.randn(6, 4)
    want = mlp(x)
    assert isinstance(want, torch.Tensor)
    wide = np.repeat(x.numpy(), 2, axis=1)[:, ::2]
    np.testing.assert_array_equal(mlp(wide), want.numpy())
    out = np.empty((6, 2), np.float32)
    assert mlp(x.numpy(), out) is out
    into = np.empty((6, 4), np.float32)
    assert mlp.gradient(x.numpy(), out=into) is into
    np.testing.assert_array_equal(into, mlp.gradient(x).numpy())


def test_errors() -> None:
    w, b = np.ones((3, 2)), np.zeros(3)
    for layers, options, message in (
        ([], {}, "at least one layer"),
        (3, {}, "torch module or pairs"),
        ([(w,)], {}, "pairs"),
        ([(w, b[:2])], {}, "bias 0"),
        ([(w, b), (w, b)], {}, "weight 1"),
        ([(w[0], b)], {}, "2 dimensions"),
        ([(w.astype(int), b)], {}, "float32 or float64"),
        ([(w, b.astype("f4"))], {}, "must all be float32 or all float64"),
        ([(w * np.nan, b)], {}, "weight 0 must be finite"),
        ([(w, b)], {"activation": "gelu"}, "activation must be one of"),
        ([(w, b)], {"in_scale": 0.0}, "in_scale must not be zero"),
        ([(w, b)], {"in_shift": [1.0]}, "in_shift"),
        (torch.nn.Sequential(torch.nn.Conv1d(1, 1, 1)), {}, "Conv1d"),
        (net_of((2, 3, 1), "tanh", torch.float64), {"activation": "relu"}, "of the module"),
    ):
        with pytest.raises(InvalidArgument, match=message):
            MLP(layers, **options)
    mixed = torch.nn.Sequential(
        torch.nn.Linear(2, 3), torch.nn.Tanh(), torch.nn.Linear(3, 3), torch.nn.ReLU(),
        torch.nn.Linear(3, 1),
    )  # fmt: skip
    with pytest.raises(InvalidArgument, match="same activation"):
        MLP(mixed)
    mlp = MLP([(w, b)])
    for x, message in (
        (np.zeros((2, 3)), r"\(B, 2\)"),
        (np.zeros((1, 2, 2)), r"\(B, 2\)"),
        (np.array([1.0, np.inf]), "x must be finite"),
    ):
        with pytest.raises(InvalidArgument, match=message):
            mlp(x)
    with pytest.raises(InvalidArgument, match="v must have"):
        mlp.gradient(np.zeros((2, 2)), np.zeros((3, 3)))
    with pytest.raises(InvalidArgument, match="float64, the network float32"):
        MLP([(w.astype("f4"), None)])(np.zeros((2, 2)))


@pytest.mark.gpu
def test_gpu_matches_cpu() -> None:
    gpu = device_named("cuda")
    for dtype in (torch.float32, torch.float64):
        for activation in ACTIVATIONS:
            mlp = MLP(net_of((7, 40, 33, 2), activation, dtype), in_shift=0.2, out_scale=2.0)
            x, v = torch.randn(65, 7, dtype=dtype), torch.randn(65, 2, dtype=dtype)
            want = mlp.value_and_gradient(x, v)
            got = mlp.value_and_gradient(gpu.put(x.numpy()), gpu.put(v.numpy()))
            for a, b in zip(got, want, strict=True):
                np.testing.assert_allclose(gpu.get(a), b, rtol=0, atol=20 * TOLERANCE[dtype])
