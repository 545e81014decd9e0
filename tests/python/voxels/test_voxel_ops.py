"""mlcore.ops.rasterize, gather, position_gradient: gradients, schemas, compilation."""

from __future__ import annotations

from typing import Any

import mlcore
import numpy as np
import pytest
from mlcore.errors import InvalidArgument
from mlcore.voxels import Gaussian, Kernel, Sphere, VoxelGrid

torch = pytest.importorskip("torch")
ops = pytest.importorskip("mlcore.ops")

from torch_ops import check_gradients, check_operator  # noqa: E402

CELL = np.array([[4.0, 0.3, 0], [0, 5, 0.2], [0.5, 0, 6]])
KERNELS: dict[str, Kernel] = {
    "cic": "cic",
    "tsc": "tsc",
    "gaussian": Gaussian(0.8, 2.5),
    "soft sphere": Sphere(1.2, 0.8),
}


def arrays(n: int, channels: int, grid: VoxelGrid, layout: str = "channels_first") -> Any:
    """Positions well away from the kinks of "cic", features, a field; all want gradients."""
    generator = torch.Generator().manual_seed(n)
    u = torch.rand(n, 3, generator=generator, dtype=torch.float64) * 0.8 + 0.1
    u += torch.randint(-3, 9, (n, 3), generator=generator) + 0.5
    x = u / torch.tensor(grid.shape) @ torch.tensor(grid.cell)
    shape = (channels, *grid.shape) if layout == "channels_first" else (*grid.shape, channels)
    features = torch.randn(n, channels, generator=generator, dtype=torch.float64)
    field = torch.randn(shape, generator=generator, dtype=torch.float64)
    return x.requires_grad_(), features.requires_grad_(), field.requires_grad_()


@pytest.mark.parametrize("kernel", KERNELS.values(), ids=KERNELS)
@pytest.mark.parametrize("layout", ["channels_first", "channels_last"])
def test_first_and_second_derivatives(kernel: Kernel, layout: str) -> None:
    grid = VoxelGrid((3, 4, 2), CELL, (True, False, True))
    x, features, field = arrays(5, 2, grid, layout)
    options = {"kernel": kernel, "layout": layout, "density": layout == "channels_last"}
    check_gradients(lambda a, b: ops.rasterize(grid, a, b, **options), (x, features), second=True)
    check_gradients(lambda a, b: ops.gather(grid, b, a, **options), (x, field), second=True)
    check_gradients(
        lambda a, b, c: ops.position_gradient(grid, a, b, c, **options), (x, features, field)
    )


@pytest.mark.parametrize("kernel", ["cic", Sphere(1.2, 0.8)], ids=["spline", "radial"])
def test_derivatives_of_batches(kernel: Kernel) -> None:
    grid = VoxelGrid((3, 2, 2), CELL)
    x, features, _ = arrays(6, 2, grid)
    offsets = torch.tensor([0, 2, 6])
    check_gradients(
        lambda a, b: ops.rasterize(grid, a, b, kernel, offsets=offsets), (x, features), second=True
    )

    def stacked(a: Any, b: Any) -> Any:
        return ops.rasterize(grid, a.reshape(2, 3, 3), b.reshape(2, 3, 2), kernel)

    check_gradients(stacked, (x, features))


def test_operators_keep_their_promises() -> None:
    grid = VoxelGrid((3, 4, 2), CELL)
    x, features, field = arrays(6, 3, grid)
    offsets = torch.tensor([0, 2, 6])
    single = features.detach().float().requires_grad_()
    first = ([3, 4, 2], CELL.ravel().tolist(), [True] * 3, "tsc", [], False, "channels_first")
    last = (
        [3, 4, 2],
        CELL.ravel().tolist(),
        [True] * 3,
        "gaussian",
        [0.7, 2.0],
        True,
        "channels_last",
    )
    fields = torch.stack([field, field]).detach().requires_grad_()
    turned = field.detach().movedim(0, -1).contiguous().requires_grad_()
    named = torch.ops.mlcore
    samples = [(x, features, None, None, *first), (x, single, None, None, *last)]
    samples += [(x, features, None, offsets, *first)]
    check_operator(named.rasterize.default, samples)
    samples = [(x, field, None, None, *first), (x, turned, None, None, *last)]
    samples += [(x, fields, None, offsets, *first)]
    check_operator(named.gather.default, samples)
    samples = [(x, features, field, None, None, *first), (x, features, turned, None, None, *last)]
    check_operator(named.voxel_position_gradient.default, samples)


def test_values_are_those_of_the_faces() -> None:
    grid = VoxelGrid((5, 4, 6), CELL, (True, True, False))
    x, features, field = arrays(30, 8, grid)
    for kernel in KERNELS.values():
        got = ops.rasterize(grid, x, features.float(), kernel, density=True)
        want = mlcore.rasterize(
            grid, x.detach().numpy(), features.detach().float().numpy(), kernel, density=True
        )
        assert got.dtype == torch.float32
        np.testing.assert_array_equal(got.detach().numpy(), want)
        got = ops.gather(grid, field, x, kernel)
        want = mlcore.gather(grid, field.detach().numpy(), x.detach().numpy(), kernel)
        np.testing.assert_array_equal(got.detach().numpy(), want)


def test_precision_of_gradients() -> None:
    grid = VoxelGrid((5, 4, 6), CELL)
    x, features, _ = arrays(10, 3, grid)
    x, features = (t.detach().float().requires_grad_() for t in (x, features))
    ops.rasterize(grid, x, features, "tsc").square().sum().backward()
    assert x.grad.dtype == features.grad.dtype == torch.float32
    wide = [t.detach().double().requires_grad_() for t in (x, features)]
    ops.rasterize(grid, *wide, "tsc").square().sum().backward()
    torch.testing.assert_close(x.grad, wide[0].grad.float(), rtol=1e-4, atol=1e-4)


def test_compiled_graph_gives_the_same() -> None:
    grid = VoxelGrid((5, 4, 6), CELL)
    x, features, _ = arrays(10, 3, grid)

    def energy(a: Any, b: Any) -> Any:
        return ops.gather(grid, ops.rasterize(grid, a, b, "tsc") ** 2, a, "tsc").sum()

    compiled = torch.compile(energy, backend="aot_eager", fullgraph=True)
    want = torch.autograd.grad(energy(x, features), (x, features))
    got = torch.autograd.grad(compiled(x, features), (x, features))
    torch.testing.assert_close(got, want)


def test_what_has_no_derivative_says_so() -> None:
    grid = VoxelGrid((5, 4, 6), CELL)
    x, features, _ = arrays(10, 3, grid)
    for kernel in ("nearest", Sphere(1.0)):
        field = ops.rasterize(grid, x.detach(), features, kernel)
        field.sum().backward()
        assert torch.allclose(features.grad, torch.ones_like(features))
        features.grad = None
        with pytest.raises(InvalidArgument, match="derivatives"):
            ops.rasterize(grid, x, features, kernel).sum().backward()
