"""Mobilities as torch operators: `mobility_matrix` and `mobility_apply`.

The formulas, kernels and limits are those of `mlcore.mobility`. Derivatives flow to positions,
forces, radius (or radii), viscosity, self mobility and the numbers of a table; those of
`mobility_apply` in positions and forces can be differentiated once more in positions and forces, so
that forces that come from an energy, or losses on velocities' gradients, train. Derivatives are
computed in float64 by analytic kernels where the tensors live.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mlcore import _core
from mlcore.arrays import Particles, box, precision
from mlcore.errors import InvalidArgument

__all__ = ["mobility_apply", "mobility_matrix"]

Settings = tuple[list[float], list[bool], str, float, float]


def mobility_matrix(
    x: Tensor,
    *,
    kernel: str = "rpy",
    radius: float | Tensor = 1.0,
    viscosity: float | Tensor = 1.0,
    self_mobility: float | Tensor = 0.0,
    table: Tensor | None = None,
    cutoff: float = 0.0,
    cell: Any = None,
    pbc: Any = None,
    tolerance: float = 1e-10,
) -> Tensor:
    """The mobility matrix, differentiable (once) in all tensors but the cell.

    Args:
        x: (n, 3) or (B, n, 3) positions, float64 or float32.
        kernel: "none", "oseen", "rpy", "regularized_oseen" (radius = 2/3 of the blob's width) or
            "rpy_wall".
        radius: > 0, a number; for "rpy" in open space also (n,).
        viscosity: > 0.
        self_mobility: extra diagonal.
        table: (4, k) rows par, dpar, perp, dperp of `mlcore.mobility.PairTable`, or None.
        cutoff: of the table.
        cell: see `mlcore.mobility.Mobility`; constant. A compiled graph (fullgraph=True) takes it as
            lists of numbers.
        pbc: likewise.
        tolerance: error of periodic sums relative to the self part.

    Returns:
        (3n, 3n) or (B, 3n, 3n), of the precision and device of x.

    Raises:
        InvalidArgument: a shape or value is wrong.
        BackendUnavailable: x is on a GPU and mlcore was built without CUDA.
    """
    settings = _settings(kernel, cutoff, cell, pbc, tolerance)
    parameters = _parameters(radius, viscosity, self_mobility, table)
    matrix: Tensor = _matrix(x, *parameters, *settings)
    return matrix


def mobility_apply(
    x: Tensor,
    forces: Tensor,
    *,
    kernel: str = "rpy",
    radius: float | Tensor = 1.0,
    viscosity: float | Tensor = 1.0,
    self_mobility: float | Tensor = 0.0,
    table: Tensor | None = None,
    cutoff: float = 0.0,
    cell: Any = None,
    pbc: Any = None,
    tolerance: float = 1e-10,
) -> Tensor:
    """Velocities M(x) forces without the matrix.

    Differentiable in all tensors but the cell, twice in x and forces.

    Args:
        x: (n, 3) or (B, n, 3) positions, float64 or float32.
        forces: like x.
        kernel, radius, viscosity, self_mobility, table, cutoff, cell, pbc, tolerance: as
            `mobility_matrix`.

    Returns:
        Like x; float32 where x and forces are, else float64.

    Raises:
        InvalidArgument, BackendUnavailable: as `mobility_matrix`.
    """
    settings = _settings(kernel, cutoff, cell, pbc, tolerance)
    parameters = _parameters(radius, viscosity, self_mobility, table)
    velocities: Tensor = _apply(x, forces, *parameters, *settings)
    return velocities


def _settings(kernel: str, cutoff: float, cell: Any, pbc: Any, tolerance: float) -> Settings:
    rows, flags = _box(cell, pbc)
    return rows, flags, kernel, float(cutoff), float(tolerance)


def _box(cell: Any, pbc: Any) -> tuple[list[float], list[bool]]:
    """`mlcore.arrays.box` as numbers; of None and lists so that a compiled graph follows."""
    if cell is None and not pbc:
        return [0.0] * 9, [False] * 3
    if torch.compiler.is_compiling() and isinstance(cell, list | tuple) and len(cell) == 3:
        flags = [True] * 3 if pbc is None else [pbc] * 3 if isinstance(pbc, bool) else list(pbc)
        if isinstance(cell[0], list | tuple):
            return [float(number) for row in cell for number in row], flags
        a, b, c = (float(number) for number in cell)
        return [a, 0.0, 0.0, 0.0, b, 0.0, 0.0, 0.0, c], flags
    rows, three = box(cell, pbc)
    return rows.ravel().tolist(), list(three)


def _parameters(
    radius: Any, viscosity: Any, self_mobility: Any, table: Tensor | None
) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
    if table is not None and (table.dim() != 2 or table.shape[0] != 4):
        raise InvalidArgument(f"table must have the shape (4, k), got {tuple(table.shape)}")
    scalars = {"viscosity": viscosity, "self_mobility": self_mobility}
    single = {name: _number(value) for name, value in scalars.items()}
    for name, value in single.items():
        if value.dim() != 0:
            raise InvalidArgument(f"{name} must be a number, got the shape {tuple(value.shape)}")
    return _number(radius), single["viscosity"], single["self_mobility"], table


def _number(value: Any) -> Tensor:
    return value if isinstance(value, Tensor) else torch.tensor(value, dtype=torch.float64)


def _on_host(values: Tensor) -> np.ndarray[Any, np.dtype[np.float64]]:
    return values.detach().to("cpu", torch.float64).contiguous().numpy()


class _Call:
    """Model, box and particles of one call of the core."""

    def __init__(
        self,
        x: Tensor,
        radius: Tensor,
        viscosity: Tensor,
        self_mobility: Tensor,
        table: Tensor | None,
        cell: Sequence[float],
        pbc: Sequence[bool],
        kernel: str,
        cutoff: float,
        tolerance: float,
        dtype: Any = np.float64,
    ) -> None:
        options: dict[str, Any] = {"radii" if radius.dim() else "radius": _on_host(radius)}
        if radius.dim() == 0:
            options["radius"] = float(options["radius"])
        if table is not None:
            names = ("par", "dpar", "perp", "dperp")
            options |= dict(zip(names, _on_host(table), strict=True)) | {"cutoff": cutoff}
        self.model = _core.MobilityModel(
            kernel=kernel,
            viscosity=float(viscosity.detach()),
            self_mobility=float(self_mobility.detach()),
            tolerance=tolerance,
            **options,
        )
        rows = torch.tensor(cell, dtype=torch.float64).reshape(3, 3)
        periodic = any(pbc)
        self.particles = Particles.of(
            x.detach(), rows if periodic else None, list(pbc) if periodic else None, dtype=dtype
        )

    def run(self, operation: Any, inputs: Sequence[Tensor], shape: tuple[int, ...]) -> Tensor:
        """An operation that fills one array of ``shape`` per configuration."""
        array, result = self.particles.output(None, shape)
        self.call(operation, inputs, array)
        filled: Tensor = result
        return filled

    def call(self, operation: Any, inputs: Sequence[Tensor], *rest: Any) -> Any:
        particles = self.particles
        taken = [particles.vectors("an argument", v.detach()) for v in inputs]
        stream = particles.kind.stream()
        return operation(self.model, *particles.box, particles.x, *taken, *rest, stream=stream)


def _single(*values: Tensor) -> bool:
    return bool(precision(*values) == np.float32)


def _dtype(*values: Tensor) -> torch.dtype:
    return torch.float32 if _single(*values) else torch.float64


@torch.library.custom_op("mlcore::mobility_matrix", mutates_args=())
def _matrix(
    x: Tensor,
    radius: Tensor,
    viscosity: Tensor,
    self_mobility: Tensor,
    table: Tensor | None,
    cell: Sequence[float],
    pbc: Sequence[bool],
    kernel: str,
    cutoff: float,
    tolerance: float,
) -> Tensor:
    settings = (cell, pbc, kernel, cutoff, tolerance)
    call = _Call(x, radius, viscosity, self_mobility, table, *settings, dtype=precision(x))
    side = 3 * x.shape[-2]
    return call.run(_core.mobility_matrix, (), (side, side))


@_matrix.register_fake
def _(x: Tensor, *_: Any) -> Tensor:
    side = 3 * x.shape[-2]
    return x.new_empty((*x.shape[:-2], side, side), dtype=_dtype(x))


@torch.library.custom_op("mlcore::mobility_apply", mutates_args=())
def _apply(
    x: Tensor,
    forces: Tensor,
    radius: Tensor,
    viscosity: Tensor,
    self_mobility: Tensor,
    table: Tensor | None,
    cell: Sequence[float],
    pbc: Sequence[bool],
    kernel: str,
    cutoff: float,
    tolerance: float,
) -> Tensor:
    settings = (cell, pbc, kernel, cutoff, tolerance)
    dtype = precision(x, forces)
    call = _Call(x, radius, viscosity, self_mobility, table, *settings, dtype=dtype)
    return call.run(_core.mobility_apply, (forces,), tuple(x.shape[-2:]))


@_apply.register_fake
def _(x: Tensor, forces: Tensor, *_: Any) -> Tensor:
    return torch.empty(x.shape, dtype=_dtype(x, forces), device=x.device)


Gradients = tuple[Tensor, Tensor, Tensor, Tensor, Tensor]


def _shaped(gradients: Any, x: Tensor, radius: Tensor, table: Tensor | None) -> Gradients:
    """Derivatives in x and, from the core's arrays, in radius, viscosity, self part and table."""
    dx, (d_radius, d_scalars, d_table) = gradients
    dtype = torch.float64
    like_radius = torch.from_numpy(d_radius).reshape(radius.shape).to(radius.device)
    scalars = torch.from_numpy(d_scalars)
    like_table = torch.from_numpy(d_table)
    if table is None:
        like_table = torch.zeros(0, dtype=dtype)
    device = radius.device if table is None else table.device
    return (
        dx.to(x.device, x.dtype),
        like_radius.to(radius.dtype),
        scalars[0].clone(),
        scalars[1].clone(),
        like_table.to(device),
    )


def _empty_gradients(x: Tensor, radius: Tensor, table: Tensor | None) -> Gradients:
    scalar = torch.empty((), dtype=torch.float64)
    columns = (
        torch.empty(0, dtype=torch.float64, device=radius.device)
        if table is None
        else torch.empty(table.shape, dtype=torch.float64, device=table.device)
    )
    return torch.empty_like(x), torch.empty_like(radius), scalar, scalar.clone(), columns


@torch.library.custom_op("mlcore::mobility_matrix_backward", mutates_args=())
def _matrix_backward(
    x: Tensor,
    adjoint: Tensor,
    radius: Tensor,
    viscosity: Tensor,
    self_mobility: Tensor,
    table: Tensor | None,
    cell: Sequence[float],
    pbc: Sequence[bool],
    kernel: str,
    cutoff: float,
    tolerance: float,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    settings = (cell, pbc, kernel, cutoff, tolerance)
    call = _Call(x, radius, viscosity, self_mobility, table, *settings)
    array, dx = call.particles.output(None, tuple(x.shape[-2:]))
    given = call.particles.real("adjoint", adjoint.detach())
    batch = given if call.particles.batched else given[None]
    rest = call.call(_core.mobility_matrix_backward, (), batch, array, True)
    return _shaped((dx, rest), x, radius, table)


@_matrix_backward.register_fake
def _(
    x: Tensor, adjoint: Tensor, radius: Tensor, v: Tensor, s: Tensor, table: Any, *_: Any
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    return _empty_gradients(x, radius, table)


@torch.library.custom_op("mlcore::mobility_apply_backward", mutates_args=())
def _apply_backward(
    x: Tensor,
    forces: Tensor,
    adjoint: Tensor,
    radius: Tensor,
    viscosity: Tensor,
    self_mobility: Tensor,
    table: Tensor | None,
    cell: Sequence[float],
    pbc: Sequence[bool],
    kernel: str,
    cutoff: float,
    tolerance: float,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    settings = (cell, pbc, kernel, cutoff, tolerance)
    call = _Call(x, radius, viscosity, self_mobility, table, *settings)
    array, dx = call.particles.output(None, tuple(x.shape[-2:]))
    rest = call.call(_core.mobility_apply_backward, (forces, adjoint), array, True)
    return _shaped((dx, rest), x, radius, table)


@_apply_backward.register_fake
def _(
    x: Tensor, forces: Tensor, adjoint: Tensor, radius: Tensor, v: Tensor, s: Tensor, table: Any,
    *_: Any,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    return _empty_gradients(x, radius, table)


@torch.library.custom_op("mlcore::mobility_apply_tangent", mutates_args=())
def _tangent(
    x: Tensor,
    forces: Tensor,
    motion: Tensor,
    radius: Tensor,
    viscosity: Tensor,
    self_mobility: Tensor,
    table: Tensor | None,
    cell: Sequence[float],
    pbc: Sequence[bool],
    kernel: str,
    cutoff: float,
    tolerance: float,
) -> Tensor:
    settings = (cell, pbc, kernel, cutoff, tolerance)
    call = _Call(x, radius, viscosity, self_mobility, table, *settings)
    out = call.run(_core.mobility_apply_tangent, (forces, motion), tuple(x.shape[-2:]))
    return out.to(x.dtype)


@torch.library.custom_op("mlcore::mobility_apply_hessian", mutates_args=())
def _hessian(
    x: Tensor,
    forces: Tensor,
    adjoint: Tensor,
    motion: Tensor,
    radius: Tensor,
    viscosity: Tensor,
    self_mobility: Tensor,
    table: Tensor | None,
    cell: Sequence[float],
    pbc: Sequence[bool],
    kernel: str,
    cutoff: float,
    tolerance: float,
) -> Tensor:
    settings = (cell, pbc, kernel, cutoff, tolerance)
    call = _Call(x, radius, viscosity, self_mobility, table, *settings)
    inputs = (forces, adjoint, motion)
    out = call.run(_core.mobility_apply_hessian, inputs, tuple(x.shape[-2:]))
    return out.to(x.dtype)


@_tangent.register_fake
@_hessian.register_fake
def _(x: Tensor, *_: Any) -> Tensor:
    return torch.empty_like(x)


# -- derivatives ----------------------------------------------------------------------------------


def _keep(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    """Tensors as tensors, the five settings as they are."""
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(*inputs[:-5])
    ctx.settings = inputs[-5:]


def _cast(gradient: Tensor, like: Tensor | None) -> Tensor | None:
    return None if like is None else gradient.to(like.device, like.dtype)


def _matrix_derivative(ctx: Any, adjoint: Tensor | None) -> tuple[Any, ...]:
    if adjoint is None:
        return (None,) * 10
    x, *parameters = ctx.saved_tensors
    dx, *rest = _matrix_backward(x, adjoint, *parameters, *ctx.settings)
    taken = [_cast(g, p) for g, p in zip(rest, parameters, strict=True)]
    return (dx, *taken, *(None,) * 5)


def _apply_derivative(ctx: Any, adjoint: Tensor | None) -> tuple[Any, ...]:
    if adjoint is None:
        return (None,) * 11
    x, forces, *parameters = ctx.saved_tensors
    d_forces = None
    if ctx.needs_input_grad[1]:
        d_forces = _cast(_apply(x, adjoint, *parameters, *ctx.settings), forces)
    dx: Tensor | None = None
    taken: list[Tensor | None] = [None] * len(parameters)
    if ctx.needs_input_grad[0] or any(ctx.needs_input_grad[2:6]):
        dx, *rest = _apply_backward(x, forces, adjoint, *parameters, *ctx.settings)
        taken = [_cast(g, p) for g, p in zip(rest, parameters, strict=True)]
    return (dx, d_forces, *taken, *(None,) * 5)


def _second_derivative(ctx: Any, motion: Tensor | None, *others: Tensor | None) -> tuple[Any, ...]:
    x, forces, adjoint, *parameters = ctx.saved_tensors
    if any(g is not None for g in others) or any(ctx.needs_input_grad[3:7]):
        raise NotImplementedError(
            "second derivatives of mobility_apply are known in x and forces alone: detach radius, "
            "viscosity, self_mobility and table"
        )
    if motion is None:
        return (None,) * 12
    rest = (*parameters, *ctx.settings)
    dx = _hessian(x, forces, adjoint, motion, *rest)
    d_forces = _cast(_tangent(x, adjoint, motion, *rest), forces)
    d_adjoint = _cast(_tangent(x, forces, motion, *rest), adjoint)
    return (dx, d_forces, d_adjoint, *(None,) * 9)


_matrix.register_autograd(_matrix_derivative, setup_context=_keep)
_apply.register_autograd(_apply_derivative, setup_context=_keep)
_apply_backward.register_autograd(_second_derivative, setup_context=_keep)
