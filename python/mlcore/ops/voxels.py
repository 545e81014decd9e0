"""`rasterize`, `gather` and `position_gradient` of `mlcore.voxels` as torch operators.

Each is linear in its features or field, and each one's derivatives are the others: twice
differentiable in positions (not with "nearest" or a sharp sphere), any number of times in features
and fields as long as positions are fixed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from mlcore import voxels
from mlcore.arrays import flag
from mlcore.errors import Error
from mlcore.ops.stencil import tensor_named
from mlcore.voxels import (
    Gaussian,
    Kernel,
    Sphere,
    VoxelGrid,
    is_channels_first,
    kernel_parameters,
    require_grid,
)

__all__ = ["gather", "position_gradient", "rasterize"]

Settings = tuple[list[int], list[float], list[bool], str, list[float], bool, str]


def rasterize(
    grid: VoxelGrid,
    positions: Tensor,
    features: Tensor,
    kernel: Kernel = "cic",
    *,
    density: bool = False,
    layout: str = "channels_first",
    offsets: Tensor | None = None,
) -> Tensor:
    """See `mlcore.voxels.rasterize`; differentiable in positions and features.

    The gradient of the positions comes in their own precision.
    """
    settings = _settings(grid, kernel, density, layout)
    _require_tensors(offsets, positions=positions, features=features)
    field: Tensor = _rasterize(positions, features, None, offsets, *settings)
    return field


def gather(
    grid: VoxelGrid,
    field: Tensor,
    positions: Tensor,
    kernel: Kernel = "cic",
    *,
    density: bool = False,
    layout: str = "channels_first",
    offsets: Tensor | None = None,
) -> Tensor:
    """See `mlcore.voxels.gather`; differentiable in field and positions."""
    settings = _settings(grid, kernel, density, layout)
    _require_tensors(offsets, positions=positions, field=field)
    values: Tensor = _gather(positions, field, None, offsets, *settings)
    return values


def position_gradient(
    grid: VoxelGrid,
    positions: Tensor,
    features: Tensor,
    field: Tensor,
    kernel: Kernel = "cic",
    *,
    density: bool = False,
    layout: str = "channels_first",
    offsets: Tensor | None = None,
) -> Tensor:
    """See `mlcore.voxels.position_gradient`, of the precision of positions here.

    Differentiable (once) in positions, features and field.
    """
    settings = _settings(grid, kernel, density, layout)
    _require_tensors(offsets, positions=positions, features=features, field=field)
    gradient: Tensor = _position_gradient(positions, features, field, None, offsets, *settings)
    return gradient


def _require_tensors(offsets: Any, **others: Any) -> None:
    for name, value in others.items():
        tensor_named(name, value)
    if offsets is not None:
        tensor_named("offsets", offsets)


def _settings(grid: VoxelGrid, kernel: Kernel, density: bool, layout: str) -> Settings:
    """Grid, kernel and options in the types an operator's schema knows."""
    is_channels_first(layout)
    scheme, *numbers = kernel_parameters(kernel).values()
    dense, box = flag("density", density), require_grid(grid)
    return list(box.shape), list(box.rows), list(box.pbc), scheme, numbers, dense, layout


def _options(
    shape: Sequence[int],
    cell: Sequence[float],
    pbc: Sequence[bool],
    scheme: str,
    numbers: Sequence[float],
    density: bool,
    layout: str,
) -> dict[str, Any]:
    """The arguments of `mlcore.voxels` of settings."""
    kernel: Kernel = scheme
    if scheme == "gaussian":
        kernel = Gaussian(*numbers)
    elif scheme == "sphere":
        kernel = Sphere(*numbers)
    rows = torch.tensor(cell, dtype=torch.float64).reshape(3, 3)
    grid = VoxelGrid(list(shape), rows, list(pbc))
    return {"grid": grid, "kernel": kernel, "density": density, "layout": layout}


@torch.library.custom_op("mlcore::rasterize", mutates_args=())
def _rasterize(
    positions: Tensor,
    features: Tensor,
    direction: Tensor | None,
    offsets: Tensor | None,
    shape: Sequence[int],
    cell: Sequence[float],
    pbc: Sequence[bool],
    kernel: str,
    parameters: Sequence[float],
    density: bool,
    layout: str,
) -> Tensor:
    options = _options(shape, cell, pbc, kernel, parameters, density, layout)
    field: Tensor = voxels.rasterize(
        positions=positions.detach(),
        features=features.detach(),
        direction=_detached(direction),
        offsets=offsets,
        **options,
    )
    return field


@torch.library.custom_op("mlcore::gather", mutates_args=())
def _gather(
    positions: Tensor,
    field: Tensor,
    direction: Tensor | None,
    offsets: Tensor | None,
    shape: Sequence[int],
    cell: Sequence[float],
    pbc: Sequence[bool],
    kernel: str,
    parameters: Sequence[float],
    density: bool,
    layout: str,
) -> Tensor:
    options = _options(shape, cell, pbc, kernel, parameters, density, layout)
    values: Tensor = voxels.gather(
        positions=positions.detach(),
        field=field.detach(),
        direction=_detached(direction),
        offsets=offsets,
        **options,
    )
    return values


@torch.library.custom_op("mlcore::voxel_position_gradient", mutates_args=())
def _position_gradient(
    positions: Tensor,
    features: Tensor,
    field: Tensor,
    direction: Tensor | None,
    offsets: Tensor | None,
    shape: Sequence[int],
    cell: Sequence[float],
    pbc: Sequence[bool],
    kernel: str,
    parameters: Sequence[float],
    density: bool,
    layout: str,
) -> Tensor:
    options = _options(shape, cell, pbc, kernel, parameters, density, layout)
    gradient: Tensor = voxels.position_gradient(
        positions=positions.detach(),
        features=features.detach(),
        field=field.detach(),
        direction=_detached(direction),
        offsets=offsets,
        **options,
    )
    return gradient.to(positions.dtype)


def _detached(tensor: Tensor | None) -> Tensor | None:
    return None if tensor is None else tensor.detach()


# --------------------------------------------------------------------------------- shapes alone
def _result_dtype(values: Tensor) -> torch.dtype:
    return torch.float32 if values.dtype == torch.float32 else torch.float64


@_rasterize.register_fake
def _(
    positions: Tensor,
    features: Tensor,
    direction: Tensor | None,
    offsets: Tensor | None,
    shape: Sequence[int],
    *settings: Any,
) -> Tensor:
    channels = features.shape[-1]
    one = (channels, *shape) if settings[-1] == "channels_first" else (*shape, channels)
    systems = () if positions.dim() == 2 else (positions.shape[0],)
    if offsets is not None:
        systems = (offsets.shape[0] - 1,)
    return features.new_empty((*systems, *one), dtype=_result_dtype(features))


@_gather.register_fake
def _(positions: Tensor, field: Tensor, *settings: Any) -> Tensor:
    channels = field.shape[-4 if settings[-1] == "channels_first" else -1]
    return field.new_empty((*positions.shape[:-1], channels), dtype=_result_dtype(field))


@_position_gradient.register_fake
def _(positions: Tensor, *_: Any) -> Tensor:
    return positions.new_empty(positions.shape)


# ----------------------------------------------------------------------------------- derivatives
def _keep(ctx: Any, inputs: tuple[Any, ...], output: Tensor, arrays: int) -> None:
    """Saves the first `arrays` inputs, direction and offsets among them; the rest are settings."""
    ctx.save_for_backward(*inputs[:arrays])
    ctx.settings = inputs[arrays:]


def _rasterize_backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
    positions, features, direction, offsets = ctx.saved_tensors
    of_x, of_features, of_direction = ctx.needs_input_grad[:3]
    s = ctx.settings
    return (
        _position_gradient(positions, features, grad, direction, offsets, *s) if of_x else None,
        _gather(positions, grad, direction, offsets, *s) if of_features else None,
        _position_gradient(positions, features, grad, None, offsets, *s) if of_direction else None,
        None,
        *(None for _ in s),
    )


def _gather_backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
    positions, field, direction, offsets = ctx.saved_tensors
    of_x, of_field, of_direction = ctx.needs_input_grad[:3]
    s = ctx.settings
    return (
        _position_gradient(positions, grad, field, direction, offsets, *s) if of_x else None,
        _rasterize(positions, grad, direction, offsets, *s) if of_field else None,
        _position_gradient(positions, grad, field, None, offsets, *s) if of_direction else None,
        None,
        *(None for _ in s),
    )


def _position_gradient_backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
    positions, features, field, direction, offsets = ctx.saved_tensors
    if direction is not None:
        raise Error("third derivatives by the positions are not there")
    of_x, of_features, of_field = ctx.needs_input_grad[:3]
    s = ctx.settings
    return (
        _position_gradient(positions, features, field, grad, offsets, *s) if of_x else None,
        _gather(positions, field, grad, offsets, *s) if of_features else None,
        _rasterize(positions, features, grad, offsets, *s) if of_field else None,
        None,
        None,
        *(None for _ in s),
    )


_rasterize.register_autograd(
    _rasterize_backward, setup_context=lambda ctx, inputs, output: _keep(ctx, inputs, output, 4)
)
_gather.register_autograd(
    _gather_backward, setup_context=lambda ctx, inputs, output: _keep(ctx, inputs, output, 4)
)
_position_gradient.register_autograd(
    _position_gradient_backward,
    setup_context=lambda ctx, inputs, output: _keep(ctx, inputs, output, 5),
)
