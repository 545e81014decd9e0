"""`mlcore.ops.bond_energies`, `bond_forces`: energies of bonds and their forces as torch operators."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from mlcore import _core
from mlcore.arrays import Kind
from mlcore.bonds import BondBasis, core_of
from mlcore.errors import InvalidArgument

__all__ = ["bond_energies", "bond_forces"]


def bond_energies(
    basis: BondBasis,
    coefficients: Tensor,
    displacements: Tensor,
    rows: tuple[Tensor, Tensor, Tensor],
    middle: Tensor | None = None,
    species: Tensor | None = None,
) -> Tensor:
    """Energies (n,) of the bonds that begin at each atom; see `mlcore.BondBasis`.

    Twice differentiable in displacements, once in coefficients.

    Args:
        basis: the functions.
        coefficients: of ``basis.shape``, float64.
        displacements: (n, 3) of the atoms since ``rows`` were found, float64.
        rows: offsets (n + 1,) int64, neighbors (p,) int32 and vectors to them (p, 3) float64 of all pairs
            that may be within the reach, from both ends, as of `mlcore.neighbor_csr`.
        middle: (seen,) float64 that is taken off what is seen; None: nothing.
        species: (n,) int32, 0..S-1; may be left out for one kind.

    Raises:
        InvalidArgument: a shape or dtype is wrong, a value is not finite, a pair is there once only.
    """
    given = _given(basis, coefficients, displacements, rows, middle, species)
    energies: Tensor = _energies(*given, *basis.numbers)
    return energies


def bond_forces(
    basis: BondBasis,
    coefficients: Tensor,
    displacements: Tensor,
    rows: tuple[Tensor, Tensor, Tensor],
    middle: Tensor | None = None,
    species: Tensor | None = None,
) -> Tensor:
    """Forces (n, 3): minus the gradient of the sum of `bond_energies` by the displacements.

    Differentiable once in displacements and coefficients, without the graph of the energies.
    """
    given = _given(basis, coefficients, displacements, rows, middle, species)
    weights = displacements.new_ones(len(displacements))
    slopes, _ = _gradient(weights, False, *given, *basis.numbers)
    forces: Tensor = -slopes
    return forces


def _given(
    basis: BondBasis,
    coefficients: Tensor,
    displacements: Tensor,
    rows: tuple[Tensor, Tensor, Tensor],
    middle: Tensor | None,
    species: Tensor | None,
) -> tuple[Tensor, ...]:
    if not isinstance(basis, BondBasis):
        raise InvalidArgument(f"basis must be a mlcore.BondBasis, got {type(basis).__name__}")
    if displacements.ndim != 2 or displacements.shape[1] != 3:
        raise InvalidArgument(
            f"displacements must have the shape (n, 3), got {tuple(displacements.shape)}"
        )
    n = len(displacements)
    if tuple(coefficients.shape) != basis.shape:
        raise InvalidArgument(
            f"coefficients must have the shape {basis.shape}, got {tuple(coefficients.shape)}"
        )
    if species is None:
        if basis.species > 1:
            raise InvalidArgument(f"species are needed for a basis of {basis.species}")
        species = torch.zeros(n, dtype=torch.int32, device=displacements.device)
    if middle is None:
        middle = displacements.new_zeros(basis.seen)
    offsets, columns, vectors = rows
    if tuple(offsets.shape) != (n + 1,):
        raise InvalidArgument(f"rows: offsets must be {n + 1} numbers, got {tuple(offsets.shape)}")
    for name, array, dtype in (
        ("coefficients", coefficients, torch.float64),
        ("displacements", displacements, torch.float64),
        ("rows: vectors", vectors, torch.float64),
        ("middle", middle, torch.float64),
        ("rows: offsets", offsets, torch.int64),
        ("rows: neighbors", columns, torch.int32),
        ("species", species, torch.int32),
    ):
        if array.dtype != dtype:
            raise InvalidArgument(f"{name} must be {dtype}, got {array.dtype}")
    return displacements, coefficients, middle, offsets, columns, vectors, species


def _run(
    displacements: Tensor,
    coefficients: Tensor,
    middle: Tensor,
    offsets: Tensor,
    columns: Tensor,
    vectors: Tensor,
    species: Tensor,
    lengths: list[float],
    counts: list[int],
    weights: Tensor | None = None,
    along: Tensor | None = None,
    wanted: tuple[bool, bool, bool] = (True, False, False),
) -> list[Tensor]:
    """Energies (n,), slopes by displacements (n, 3) and by coefficients, those that are wanted."""
    kind = Kind.of(displacements)
    core = core_of(lengths, counts)
    rows = _core.BondRows(
        kind.take("rows: offsets", offsets, "int64"),
        kind.take("rows: neighbors", columns, "int32"),
        kind.take("rows: vectors", vectors, detach=True),
        kind.take("species", species, "int32"),
    )
    n = len(displacements)
    shapes = ((n,), (n, 3), tuple(coefficients.shape))
    made = [
        kind.output(None, shape) if asked else (None, None)
        for shape, asked in zip(shapes, wanted, strict=True)
    ]
    core.evaluate(
        kind.take("coefficients", coefficients, detach=True),
        kind.take("middle", middle, detach=True),
        rows,
        kind.take("displacements", displacements, detach=True),
        None if weights is None else kind.take("weights", weights, detach=True),
        None if along is None else kind.take("along", along, detach=True),
        energies=made[0][0],
        by_displacements=made[1][0],
        by_coefficients=made[2][0],
        stream=kind.stream(),
    )
    return [filled for _, filled in made if filled is not None]


@torch.library.custom_op("mlcore::bond_energies", mutates_args=())
def _energies(
    displacements: Tensor,
    coefficients: Tensor,
    middle: Tensor,
    offsets: Tensor,
    columns: Tensor,
    vectors: Tensor,
    species: Tensor,
    lengths: list[float],
    counts: list[int],
) -> Tensor:
    (energies,) = _run(
        displacements,
        coefficients,
        middle,
        offsets,
        columns,
        vectors,
        species,
        lengths,
        counts,
    )
    return energies


@_energies.register_fake
def _(
    displacements: Tensor,
    coefficients: Tensor,
    middle: Tensor,
    offsets: Tensor,
    columns: Tensor,
    vectors: Tensor,
    species: Tensor,
    lengths: list[float],
    counts: list[int],
) -> Tensor:
    return displacements.new_empty(displacements.shape[0])


@torch.library.custom_op("mlcore::bond_gradient", mutates_args=())
def _gradient(
    weights: Tensor,
    by_coefficients: bool,
    displacements: Tensor,
    coefficients: Tensor,
    middle: Tensor,
    offsets: Tensor,
    columns: Tensor,
    vectors: Tensor,
    species: Tensor,
    lengths: list[float],
    counts: list[int],
) -> tuple[Tensor, Tensor]:
    """Gradients of sum weights_i energies_i by displacements and, where wanted, coefficients."""
    made = _run(
        displacements,
        coefficients,
        middle,
        offsets,
        columns,
        vectors,
        species,
        lengths,
        counts,
        weights,
        wanted=(False, True, by_coefficients),
    )
    return made[0], made[1] if by_coefficients else coefficients.new_empty(0)


@_gradient.register_fake
def _(
    weights: Tensor,
    by_coefficients: bool,
    displacements: Tensor,
    coefficients: Tensor,
    middle: Tensor,
    offsets: Tensor,
    columns: Tensor,
    vectors: Tensor,
    species: Tensor,
    lengths: list[float],
    counts: list[int],
) -> tuple[Tensor, Tensor]:
    told = coefficients.shape if by_coefficients else (0,)
    return displacements.new_empty(displacements.shape), coefficients.new_empty(told)


@torch.library.custom_op("mlcore::bond_second", mutates_args=())
def _second(
    along: Tensor,
    weights: Tensor,
    displacements: Tensor,
    coefficients: Tensor,
    middle: Tensor,
    offsets: Tensor,
    columns: Tensor,
    vectors: Tensor,
    species: Tensor,
    lengths: list[float],
    counts: list[int],
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of <along, slopes by displacements> by weights, displacements, coefficients."""
    energies, slopes, told = _run(
        displacements,
        coefficients,
        middle,
        offsets,
        columns,
        vectors,
        species,
        lengths,
        counts,
        weights,
        along,
        wanted=(True, True, True),
    )
    return energies, slopes, told


@_second.register_fake
def _(
    along: Tensor,
    weights: Tensor,
    displacements: Tensor,
    coefficients: Tensor,
    middle: Tensor,
    offsets: Tensor,
    columns: Tensor,
    vectors: Tensor,
    species: Tensor,
    lengths: list[float],
    counts: list[int],
) -> tuple[Tensor, Tensor, Tensor]:
    return (
        weights.new_empty(weights.shape),
        displacements.new_empty(displacements.shape),
        coefficients.new_empty(coefficients.shape),
    )


def _keep_energies(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    ctx.save_for_backward(*inputs[:7])
    ctx.numbers = inputs[7:]


def _keep_gradient(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    weights, _, *rest = inputs
    ctx.save_for_backward(weights, *rest[:7])
    ctx.numbers = tuple(rest[7:])
    ctx.set_materialize_grads(False)


def _energies_backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
    _refuse(ctx.needs_input_grad[2:7])
    wanted = bool(ctx.needs_input_grad[1])
    slopes, told = _gradient(grad, wanted, *ctx.saved_tensors, *ctx.numbers)
    return slopes, told if wanted else None, *[None] * 7


def _gradient_backward(ctx: Any, along: Tensor | None, told: Tensor | None) -> tuple[Any, ...]:
    _refuse(ctx.needs_input_grad[4:9])
    if told is not None and told.numel() and bool(told.any()):
        raise NotImplementedError(
            "gradients by coefficients of bonds are differentiable no further"
        )
    if along is None:
        return (None,) * 11
    energies, slopes, grown = _second(along, *ctx.saved_tensors, *ctx.numbers)
    return energies, None, slopes, grown, *[None] * 7


def _second_backward(ctx: Any, *grads: Tensor) -> tuple[Any, ...]:
    raise NotImplementedError("third derivatives of energies of bonds are not there")


def _refuse(wanted: tuple[bool, ...]) -> None:
    if any(wanted):
        raise InvalidArgument("middle and rows require gradients, which do not flow to them")


_energies.register_autograd(_energies_backward, setup_context=_keep_energies)
_gradient.register_autograd(_gradient_backward, setup_context=_keep_gradient)
_second.register_autograd(_second_backward)
