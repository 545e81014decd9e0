"""`mlcore.ops.pair_potential`: tabulated pair energies as a torch operator."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from mlcore import _core
from mlcore.arrays import Kind
from mlcore.errors import InvalidArgument
from mlcore.ops.neighbors import neighbor_list
from mlcore.pair_potential import PairPotential

__all__ = ["pair_potential"]


def pair_potential(
    potential: PairPotential,
    positions: Tensor,
    types: Tensor | None = None,
    cell: Tensor | None = None,
    pbc: bool | list[bool] = False,
) -> Tensor:
    """Energies (n,) of particles, half of every pair's to each; see `mlcore.PairPotential`.

    Twice differentiable in positions and cell: forces are minus the gradient of the sum, and the
    second derivatives those of the table's cubics. The table itself is taken as given.

    Args:
        potential: the table.
        positions: (n, 3), float32 or float64; the sums are made in float64.
        types: (n,) integers 0..T-1; may be left out for one type.
        cell: (3, 3) row vectors of the dtype and on the device of the positions. None: open space.
        pbc: which axes repeat, one flag or three.

    Raises:
        InvalidArgument: as `mlcore.ops.neighbor_list`; types are missing or out of range.
    """
    if not isinstance(potential, PairPotential):
        raise InvalidArgument(
            f"potential must be a mlcore.PairPotential, got {type(potential).__name__}"
        )
    if types is None and potential.types > 1:
        raise InvalidArgument(f"types are needed for a table of {potential.types} types")
    n = positions.shape[0]
    if types is None:
        types = positions.new_zeros(n, dtype=torch.int32)
    if types.shape != (n,) or types.is_floating_point() or types.is_complex():
        raise InvalidArgument(
            f"types must be ({n},) integers, got {types.dtype} of the shape {tuple(types.shape)}"
        )
    i, j, _, D, _ = neighbor_list(positions, potential.cutoff, cell, pbc)
    energies: Tensor = _pair_energies(
        D.to(torch.float64),
        i,
        j,
        types,
        torch.tensor(potential.energy),
        torch.tensor(potential.slope),
        potential.first,
        potential.cutoff,
    )
    return energies.to(positions.dtype)


def _rows(
    D: Tensor, i: Tensor, j: Tensor, types: Tensor, table: tuple[Tensor, Tensor, float, float]
) -> tuple[Any, Any]:
    """The core's potential and rows; `i` grows, as in a neighbor list."""
    energy, slope, first, cutoff = table
    potential = PairPotential(energy.detach(), slope.detach(), cutoff, first)
    counts = torch.bincount(i, minlength=types.shape[0])
    offsets = torch.cat([counts.new_zeros(1), counts.cumsum(0)])
    kind = Kind.of(D)
    rows = _core.PairRows(
        kind.take("offsets", offsets, "int64"),
        kind.take("j", j, "int32"),
        kind.take("D", D, detach=True),
        types=kind.take("types", types, "int32"),
    )
    return potential.core, rows


@torch.library.custom_op("mlcore::pair_potential", mutates_args=())
def _pair_energies(
    D: Tensor,
    i: Tensor,
    j: Tensor,
    types: Tensor,
    energy: Tensor,
    slope: Tensor,
    first: float,
    cutoff: float,
) -> Tensor:
    core, rows = _rows(D, i, j, types, (energy, slope, first, cutoff))
    kind = Kind.of(D)
    filled, energies = kind.output(None, (types.shape[0],))
    core.evaluate(rows, None, filled, stream=kind.stream())
    result: Tensor = energies
    return result


@_pair_energies.register_fake
def _(
    D: Tensor,
    i: Tensor,
    j: Tensor,
    types: Tensor,
    energy: Tensor,
    slope: Tensor,
    first: float,
    cutoff: float,
) -> Tensor:
    return D.new_empty(types.shape[0])


@torch.library.custom_op("mlcore::pair_potential_gradient", mutates_args=())
def _pair_gradient(
    weights: Tensor,
    D: Tensor,
    i: Tensor,
    j: Tensor,
    types: Tensor,
    energy: Tensor,
    slope: Tensor,
    first: float,
    cutoff: float,
) -> Tensor:
    """Gradient (p, 3) of sum weights_i energies_i by D."""
    core, rows = _rows(D, i, j, types, (energy, slope, first, cutoff))
    kind = Kind.of(D)
    filled, gradient = kind.output(None, tuple(D.shape))
    core.gradient(rows, kind.take("weights", weights, detach=True), filled, stream=kind.stream())
    result: Tensor = gradient
    return result


@_pair_gradient.register_fake
def _(
    weights: Tensor,
    D: Tensor,
    i: Tensor,
    j: Tensor,
    types: Tensor,
    energy: Tensor,
    slope: Tensor,
    first: float,
    cutoff: float,
) -> Tensor:
    return D.new_empty(D.shape)


@torch.library.custom_op("mlcore::pair_potential_second", mutates_args=())
def _pair_second(
    along: Tensor,
    weights: Tensor,
    D: Tensor,
    i: Tensor,
    j: Tensor,
    types: Tensor,
    energy: Tensor,
    slope: Tensor,
    first: float,
    cutoff: float,
) -> tuple[Tensor, Tensor]:
    """Gradients of <along, `_pair_gradient`> by weights and D."""
    core, rows = _rows(D, i, j, types, (energy, slope, first, cutoff))
    kind = Kind.of(D)
    by_D, result_D = kind.output(None, tuple(D.shape))
    by_weights, result_weights = kind.output(None, tuple(weights.shape))
    core.second_gradient(
        rows,
        kind.take("weights", weights, detach=True),
        kind.take("along", along, detach=True),
        by_D,
        by_weights,
        stream=kind.stream(),
    )
    return result_weights, result_D


@_pair_second.register_fake
def _(
    along: Tensor,
    weights: Tensor,
    D: Tensor,
    i: Tensor,
    j: Tensor,
    types: Tensor,
    energy: Tensor,
    slope: Tensor,
    first: float,
    cutoff: float,
) -> tuple[Tensor, Tensor]:
    return weights.new_empty(weights.shape), D.new_empty(D.shape)


def _keep(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    tensors = [value for value in inputs if isinstance(value, Tensor)]
    ctx.save_for_backward(*tensors)
    ctx.range = inputs[len(tensors) :]


def _energies_backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
    _refuse_table(ctx.needs_input_grad[4:6])
    return _pair_gradient(grad, *ctx.saved_tensors, *ctx.range), *[None] * 7


def _gradient_backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
    _refuse_table(ctx.needs_input_grad[5:7])
    return *_pair_second(grad, *ctx.saved_tensors, *ctx.range), *[None] * 7


def _second_backward(ctx: Any, by_weights: Tensor, by_D: Tensor) -> tuple[Any, ...]:
    raise NotImplementedError("third derivatives of a pair potential are not there")


def _refuse_table(wanted: tuple[bool, ...]) -> None:
    if any(wanted):
        raise InvalidArgument("energy and slope require gradients, which do not flow to a table")


_pair_energies.register_autograd(_energies_backward, setup_context=_keep)
_pair_gradient.register_autograd(_gradient_backward, setup_context=_keep)
_pair_second.register_autograd(_second_backward, setup_context=_keep)
