"""A step of a splitting in pairs as a torch operator."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mlcore import _core
from mlcore.arrays import Kind, box, host
from mlcore.errors import Error, InvalidArgument
from mlcore.splitting import NOT_FINITE, PairSplitting

__all__ = ["splitting_step"]


def splitting_step(
    x: Tensor,
    v: Tensor,
    splitting: PairSplitting,
    *,
    cell: Any = None,
    pbc: Any = None,
    species: Any = None,
) -> tuple[Tensor, Tensor]:
    """One step of R replicas, once differentiable in x and v, by the adjoint of the step.

    Args:
        x, v: (R, n, 3) positions and velocities in float64, on the CPU.
        splitting: its functions; no gradients flow to them.
        cell, pbc, species: as for `mlcore.PairSplitting.run`.

    Returns:
        x and v after the step.

    Raises:
        InvalidArgument: a shape, dtype or value is wrong.
        Error: in the step a pair comes too close, or a number gets out of hand.
    """
    rows, flags = box(cell, pbc)
    kinds = (
        None
        if species is None
        else torch.from_numpy(host("species", species, "steps run", np.int64).copy())
    )
    tables = (splitting.drifts, splitting.masses, splitting.coefficients)
    new_x, new_v = _splitting_step(
        x,
        v,
        *(torch.from_numpy(table.copy()) for table in tables),
        torch.from_numpy(rows),
        kinds,
        list(flags),
        splitting.h,
        splitting.u_lo,
        splitting.u_hi,
    )
    return new_x, new_v


class _Call:
    """The core's objects, and arrays as it takes them."""

    def __init__(
        self,
        arrays: Sequence[Tensor],
        drifts: Tensor,
        masses: Tensor,
        coefficients: Tensor,
        rows: Tensor,
        species: Tensor | None,
        pbc: Sequence[bool],
        h: float,
        u_lo: float,
        u_hi: float,
    ) -> None:
        shape = tuple(arrays[0].shape)
        if len(shape) != 3 or shape[2] != 3:
            raise InvalidArgument(f"x must have the shape (R, n, 3), got {shape}")
        self.arrays = []
        for name, array in zip(("x", "v", "gx", "gv"), arrays, strict=False):
            if array.dtype != torch.float64 or tuple(array.shape) != shape:
                raise InvalidArgument(
                    f"{name} must be float64 of the shape {shape}, got {array.dtype} of "
                    f"{tuple(array.shape)}"
                )
            kind = Kind.of(array)
            kind.require_cpu(name, "steps run")
            self.arrays.append(kind.take(name, array, detach=True))
        self.splitting = _core.PairSplitting(
            h, drifts.numpy(), masses.numpy(), coefficients.numpy(), u_lo, u_hi
        )
        kinds = None if species is None else species.to(torch.int32).numpy()
        first, second, third = pbc
        self.system = _core.SplittingSystem(
            rows.numpy(), (first, second, third), wall=0.0, species=kinds
        )


@torch.library.custom_op("mlcore::splitting_step", mutates_args=())
def _splitting_step(
    x: Tensor,
    v: Tensor,
    drifts: Tensor,
    masses: Tensor,
    coefficients: Tensor,
    rows: Tensor,
    species: Tensor | None,
    pbc: Sequence[bool],
    h: float,
    u_lo: float,
    u_hi: float,
) -> tuple[Tensor, Tensor]:
    call = _Call((x, v), drifts, masses, coefficients, rows, species, pbc, h, u_lo, u_hi)
    new_x, new_v = (torch.tensor(array) for array in call.arrays)
    replicas = x.shape[0]
    done = torch.zeros(replicas, dtype=torch.int64)
    closest = torch.full((replicas,), torch.inf, dtype=torch.float64)
    status = torch.zeros(replicas, dtype=torch.int32)
    call.splitting.run(
        call.system,
        new_x.numpy(),
        new_v.numpy(),
        done.numpy(),
        closest.numpy(),
        status.numpy(),
        every=1,
        first=0,
        last=1,
        lists=_core.SplittingLists(),
    )
    if bool(status.any()):
        r = int(status.argmax())
        what = (
            "a number gets out of hand"
            if int(status[r]) == NOT_FINITE
            else f"a pair comes as close as {float(closest[r]):g}, less than {1 / u_hi:g}"
        )
        raise Error(f"in the step of replica {r} {what}")
    return new_x, new_v


@_splitting_step.register_fake
def _(x: Tensor, v: Tensor, *_: Any) -> tuple[Tensor, Tensor]:
    return x.new_empty(x.shape), x.new_empty(x.shape)


@torch.library.custom_op("mlcore::splitting_step_gradient", mutates_args=())
def _splitting_step_gradient(
    x: Tensor,
    v: Tensor,
    gx: Tensor,
    gv: Tensor,
    drifts: Tensor,
    masses: Tensor,
    coefficients: Tensor,
    rows: Tensor,
    species: Tensor | None,
    pbc: Sequence[bool],
    h: float,
    u_lo: float,
    u_hi: float,
) -> tuple[Tensor, Tensor]:
    """Derivatives by x and v from those by what the step makes of them."""
    call = _Call((x, v, gx, gv), drifts, masses, coefficients, rows, species, pbc, h, u_lo, u_hi)
    by_x, by_v = (torch.tensor(array) for array in call.arrays[2:])
    at_x, at_v = call.arrays[:2]
    call.splitting.step_gradient(call.system, at_x, at_v, by_x.numpy(), by_v.numpy())
    return by_x, by_v


@_splitting_step_gradient.register_fake
def _(x: Tensor, v: Tensor, *_: Any) -> tuple[Tensor, Tensor]:
    return x.new_empty(x.shape), x.new_empty(x.shape)


def _keep(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    x, v, drifts, masses, coefficients, rows, species, *numbers = inputs
    tables = (drifts, masses, coefficients, rows)
    ctx.save_for_backward(x, v, *tables, *(() if species is None else (species,)))
    ctx.numbers = numbers


def _backward(ctx: Any, gx: Tensor, gv: Tensor) -> tuple[Any, ...]:
    x, v, drifts, masses, coefficients, rows, *kinds = ctx.saved_tensors
    species = kinds[0] if kinds else None
    tables = (drifts, masses, coefficients, rows, species)
    return *_splitting_step_gradient(x, v, gx, gv, *tables, *ctx.numbers), *[None] * 9


_splitting_step.register_autograd(_backward, setup_context=_keep)
