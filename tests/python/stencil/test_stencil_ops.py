"""mlcore.ops.conv3d, scatter3d, laplacian, gradient: gradients, compilation, memory formats."""

from __future__ import annotations

from typing import Any

import mlcore
import numpy as np
import pytest
from mlcore.errors import InvalidArgument

torch = pytest.importorskip("torch")
ops = pytest.importorskip("mlcore.ops")
functional = torch.nn.functional

OPTIONS = [
    ("periodic", 1, 1, "channels_first"),
    ("zero", 2, 2, "channels_last"),
    ("halo", 1, 2, "channels_first"),
]


def normal(*shape: int, dtype: Any = None, grad: bool = True, seed: int = 0) -> Any:
    generator = torch.Generator().manual_seed(seed)
    made = torch.randn(*shape, generator=generator, dtype=dtype or torch.float64)
    return made.requires_grad_(grad)


def placed(layout: str, channels: int, *extents: int, batch: int = 1) -> tuple[int, ...]:
    return (
        (batch, channels, *extents) if layout == "channels_first" else (batch, *extents, channels)
    )


@pytest.mark.parametrize(("boundary", "stride", "groups", "layout"), OPTIONS)
def test_gradients(boundary: str, stride: int, groups: int, layout: str) -> None:
    extents = (3, 4, 3)
    field = normal(*placed(layout, 2, *extents))
    weight, bias = normal(2, 2 // groups, 3, 3, 3, seed=1), normal(2, seed=2)

    def run(*tensors: Any) -> Any:
        field, weight, bias, residual = tensors
        return ops.conv3d(
            field, weight, bias, boundary, "silu", residual, mask, stride, groups, layout
        )

    with torch.no_grad():
        shape = ops.conv3d(field, weight, None, boundary, None, None, None, stride, groups, layout)
    residual = normal(*shape.shape, seed=3)
    inner = shape.shape[2:] if layout == "channels_first" else shape.shape[1:4]
    mask = normal(*inner, grad=False, seed=4) > -1
    tensors = (field, weight, bias, residual)
    assert torch.autograd.gradcheck(run, tensors, fast_mode=True)
    assert torch.autograd.gradgradcheck(run, tensors, fast_mode=True)


@pytest.mark.parametrize("activation", [None, "relu", "silu", "gelu", "tanh", "sigmoid"])
def test_agrees_with_torch_autograd(activation: str | None) -> None:
    ours = [normal(2, 4, 4, 5, 6), normal(5, 4, 3, 3, 3, seed=1), normal(5, seed=2)]
    theirs = [t.detach().clone().requires_grad_() for t in ours]
    direction = normal(2, 5, 4, 5, 6, grad=False, seed=3)
    out = ops.conv3d(*ours, activation=activation)
    pad = functional.pad(theirs[0], (1,) * 6, mode="circular")
    plain = functional.conv3d(pad, theirs[1], theirs[2])
    expected = getattr(functional, activation)(plain) if activation else plain
    torch.testing.assert_close(out, expected)
    first = torch.autograd.grad(out, ours, direction, create_graph=True)
    second = torch.autograd.grad(expected, theirs, direction, create_graph=True)
    torch.testing.assert_close(first, second)
    if activation in ("silu", "tanh"):
        both = [
            torch.autograd.grad(sum((g**2).sum() for g in gs), ts)
            for gs, ts in ((first, ours), (second, theirs))
        ]
        torch.testing.assert_close(*both)


@pytest.mark.parametrize("boundary", ["halo", "periodic", "zero"])
def test_gradients_of_scatter(boundary: str) -> None:
    values, weight = normal(1, 2, 2, 3, 2), normal(2, 2, 3, 3, 3, seed=1)

    def run(values: Any, weight: Any) -> Any:
        return ops.scatter3d(values, weight, boundary, stride=2)

    assert torch.autograd.gradcheck(run, (values, weight), fast_mode=True)
    assert torch.autograd.gradgradcheck(run, (values, weight), fast_mode=True)


@pytest.mark.parametrize("boundary", ["halo", "periodic", "zero"])
@pytest.mark.parametrize("order", [2, 6])
def test_gradients_of_differences(order: int, boundary: str) -> None:
    field = normal(1, 8, 7, 9)
    for operation in (ops.laplacian, ops.gradient):

        def run(field: Any, operation: Any = operation) -> Any:
            return operation(field, (1.0, 0.5, 2.0), order, boundary)

        assert torch.autograd.gradcheck(run, (field,), fast_mode=True)
        assert torch.autograd.gradgradcheck(run, (field,), fast_mode=True)
    expected = mlcore.laplacian(field.detach().numpy(), (1.0, 0.5, 2.0), order, boundary)
    got = ops.laplacian(field, (1.0, 0.5, 2.0), order, boundary).detach().numpy()
    assert np.array_equal(got, expected)


def test_opcheck() -> None:
    field, weight, bias = normal(1, 2, 3, 4, 5), normal(4, 2, 3, 3, 3), normal(4)
    residual, mask = normal(1, 4, 3, 4, 5), normal(1, 3, 4, 5, grad=False) > 0
    check, namespace = torch.library.opcheck, torch.ops.mlcore
    for keep in (False, True):
        tail = ("periodic", "tanh", 1, 1, "channels_first", keep)
        check(namespace.conv3d.default, (field, weight, bias, residual, mask, *tail))
    plain = (None, None, None, "zero", "none", 2, 1, "channels_first", False)
    check(namespace.conv3d.default, (field, weight, *plain))
    values = normal(1, 4, 3, 4, 5)
    check(namespace.scatter3d.default, (values, weight, [5, 6, 7], "halo", 1, 1, "channels_first"))
    check(
        namespace.conv3d_weight_gradient.default,
        (field, values, 3, "periodic", 1, 1, "channels_first"),
    )
    for derivative in ("laplacian", "gradient"):
        tail = (derivative, [1.0, 1.0, 1.0], 2, "periodic")
        check(namespace.finite_difference.default, (field, *tail))
        back = namespace.finite_difference(field.detach(), *tail).requires_grad_()
        check(namespace.finite_difference_adjoint.default, (back, *tail))


def test_compiles_without_a_break() -> None:
    field, weight, bias = normal(1, 4, 3, 4, 5), normal(4, 4, 3, 3, 3, seed=1), normal(4, seed=2)

    def energy(field: Any, weight: Any, bias: Any) -> Any:
        hidden = ops.conv3d(field, weight, bias, activation="silu")
        return (ops.scatter3d(hidden, weight, "periodic") * ops.laplacian(field)).sum()

    compiled = torch.compile(energy, fullgraph=True, backend="aot_eager")
    tensors = (field, weight, bias)
    expected, got = energy(*tensors), compiled(*tensors)
    torch.testing.assert_close(got, expected)
    torch.testing.assert_close(
        torch.autograd.grad(got, tensors), torch.autograd.grad(expected, tensors)
    )


def test_channels_last_memory_stays() -> None:
    field, weight = normal(2, 4, 3, 4, 5, grad=False), normal(6, 4, 3, 3, 3, grad=False, seed=1)
    residual = normal(2, 6, 3, 4, 5, grad=False, seed=2)
    last = field.contiguous(memory_format=torch.channels_last_3d)
    out = ops.conv3d(last, weight, residual=residual)
    assert out.is_contiguous(memory_format=torch.channels_last_3d)
    torch.testing.assert_close(
        out,
        ops.conv3d(field, weight, residual=residual).clone(memory_format=torch.channels_last_3d),
    )
    back = ops.scatter3d(last, weight[:4])
    assert back.is_contiguous(memory_format=torch.channels_last_3d)
    torch.testing.assert_close(back, ops.scatter3d(field, weight[:4]), check_stride=False)


def test_without_batch() -> None:
    field, weight = normal(4, 3, 4, 5), normal(6, 4, 3, 3, 3, seed=1)
    torch.testing.assert_close(ops.conv3d(field, weight), ops.conv3d(field[None], weight)[0])
    torch.testing.assert_close(
        ops.scatter3d(field, weight[:4]), ops.scatter3d(field[None], weight[:4])[0]
    )


def test_bad_input_is_named() -> None:
    field, weight = normal(1, 4, 3, 4, 5), normal(6, 4, 3, 3, 3)
    with pytest.raises(InvalidArgument, match="weight must have the dtype"):
        ops.conv3d(field, weight.float())
    with pytest.raises(InvalidArgument, match="field must be float32"):
        ops.conv3d(field.half(), weight)
    with pytest.raises(InvalidArgument, match="channels"):
        ops.conv3d(field[:, :3], weight)
    for name, call in (
        ("field", lambda: ops.conv3d(None, None)),
        ("weight", lambda: ops.conv3d(torch.ones(1, 1, 3, 3, 3), [1])),
        ("activation", lambda: ops.conv3d(*[torch.ones(1, 1, 3, 3, 3)] * 2, activation=3)),
        ("extents", lambda: ops.scatter3d(*[torch.ones(1, 1, 3, 3, 3)] * 2, extents=3)),
        ("order", lambda: ops.laplacian(torch.ones(3, 3, 3), order="2")),
        ("spacing", lambda: ops.gradient(torch.ones(3, 3, 3), spacing=object())),
        ("grid", lambda: ops.rasterize(3, torch.ones(1, 3), torch.ones(1, 1))),
        ("active", lambda: ops.conv3d_active(3, torch.ones(1, 1), torch.ones(1, 1, 1, 1, 1))),
    ):
        with pytest.raises(InvalidArgument, match=name):
            call()
    with pytest.raises(InvalidArgument, match="requires gradients"):
        mlcore.conv3d(field, weight)
