"""`mlcore.ops.potential_energies`, `potential_forces`: candidates of a potential as torch operators."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from mlcore import _core
from mlcore.arrays import Kind
from mlcore.errors import InvalidArgument
from mlcore.potentials import COLUMNS, Structures

__all__ = ["potential_energies", "potential_forces"]

_FORMS = tuple(COLUMNS)


def potential_energies(
    form: str,
    structures: Structures,
    parameters: Tensor,
    displacements: Tensor | None = None,
    shift: bool = False,
) -> Tensor:
    """Energies (C, M) of the structures in every candidate; see `mlcore.potentials.evaluate`.

    Differentiable in parameters and displacements; the latter's gradient, minus the forces, is
    differentiable in the parameters once more.

    Args:
        form: a key of `mlcore.potentials.COLUMNS`.
        structures: M structures of N atoms.
        parameters: (C, P) float64. On the GPU gradients do not flow to them.
        displacements: (C, N, 3) float64, added to the positions. None: none.
        shift: pair forms: energies vanish at the cutoff.

    Raises:
        InvalidArgument: as `mlcore.potentials.evaluate`.
        BackendUnavailable: gradients by parameters on the GPU.
    """
    energies: Tensor = _energies(*_arguments(form, structures, parameters, displacements, shift))
    return energies


def potential_forces(
    form: str,
    structures: Structures,
    parameters: Tensor,
    displacements: Tensor | None = None,
    shift: bool = False,
) -> Tensor:
    """Forces (C, N, 3), differentiable in the parameters; arguments as `potential_energies`."""
    forces: Tensor = _forces(*_arguments(form, structures, parameters, displacements, shift))
    return forces


def _arguments(
    form: str, structures: Structures, parameters: Tensor, displacements: Tensor | None, shift: bool
) -> tuple[Any, ...]:
    if not isinstance(structures, Structures):
        raise InvalidArgument(
            f"structures must be mlcore.potentials.Structures, got {type(structures).__name__}"
        )
    if form not in _FORMS:
        raise InvalidArgument(f"form must be one of {_FORMS}, got {form!r}")
    if not isinstance(parameters, Tensor) or parameters.ndim != 2:
        raise InvalidArgument("parameters must be a tensor of the shape (C, P)")
    if displacements is None:
        atoms = int(structures.atoms[-1])
        displacements = parameters.new_zeros(len(parameters), atoms, 3)
    for name, tensor in (("parameters", parameters), ("displacements", displacements)):
        if tensor.dtype != torch.float64:
            raise InvalidArgument(f"{name} must be float64, got {tensor.dtype}")
    arrays = [
        torch.as_tensor(array, device=parameters.device)
        for array in (
            structures.atoms,
            structures.kinds,
            structures.offsets,
            structures.columns,
            structures.vectors,
            structures.volumes,
        )
    ]
    reach = structures.cutoff + structures.skin
    number, species = _FORMS.index(form), len(structures.species)
    return parameters, displacements, *arrays, number, species, reach, bool(shift)


def _evaluate(
    outputs: dict[str, tuple[int, ...]],
    parameters: Tensor,
    displacements: Tensor,
    arrays: tuple[Any, ...],
    directions: Any = None,
) -> list[Tensor]:
    """Fills tensors of the shapes given, by name."""
    kind = Kind.of(parameters)
    *placed, form, species, reach, shift = arrays
    dtypes = ("int64", "int32", "int64", "int32", "float64", "float64")
    taken: Any = [kind.take("structures", a, d) for a, d in zip(placed, dtypes, strict=True)]
    made = {name: kind.output(None, shape) for name, shape in outputs.items()}
    model = _core.PotentialModel(form, species, shift=shift)
    model.evaluate(
        _core.PotentialStructures(*taken, *[reach]),
        kind.take("parameters", parameters, detach=True),
        {name: filled for name, (filled, _) in made.items()},
        directions,
        None,
        kind.take("displacements", displacements, detach=True),
        stream=kind.stream(),
    )
    return [result for _, result in made.values()]


@torch.library.custom_op("mlcore::potential_energies", mutates_args=())
def _energies(
    parameters: Tensor,
    displacements: Tensor,
    starts: Tensor,
    kinds: Tensor,
    offsets: Tensor,
    columns: Tensor,
    vectors: Tensor,
    volumes: Tensor,
    form: int,
    species: int,
    reach: float,
    shift: bool,
) -> Tensor:
    arrays = (starts, kinds, offsets, columns, vectors, volumes, form, species, reach, shift)
    shape = (parameters.shape[0], volumes.shape[0])
    return _evaluate({"energies": shape}, parameters, displacements, arrays)[0]


@_energies.register_fake
def _(
    parameters: Tensor,
    displacements: Tensor,
    starts: Tensor,
    kinds: Tensor,
    offsets: Tensor,
    columns: Tensor,
    vectors: Tensor,
    volumes: Tensor,
    form: int,
    species: int,
    reach: float,
    shift: bool,
) -> Tensor:
    return parameters.new_empty(parameters.shape[0], volumes.shape[0])


@torch.library.custom_op("mlcore::potential_forces", mutates_args=())
def _forces(
    parameters: Tensor,
    displacements: Tensor,
    starts: Tensor,
    kinds: Tensor,
    offsets: Tensor,
    columns: Tensor,
    vectors: Tensor,
    volumes: Tensor,
    form: int,
    species: int,
    reach: float,
    shift: bool,
) -> Tensor:
    arrays = (starts, kinds, offsets, columns, vectors, volumes, form, species, reach, shift)
    return _evaluate({"forces": tuple(displacements.shape)}, parameters, displacements, arrays)[0]


@_forces.register_fake
def _(
    parameters: Tensor,
    displacements: Tensor,
    starts: Tensor,
    kinds: Tensor,
    offsets: Tensor,
    columns: Tensor,
    vectors: Tensor,
    volumes: Tensor,
    form: int,
    species: int,
    reach: float,
    shift: bool,
) -> Tensor:
    return torch.empty_like(displacements, memory_format=torch.contiguous_format)


@torch.library.custom_op("mlcore::potential_slopes", mutates_args=())
def _slopes(
    by_energies: Tensor,
    by_forces: Tensor,
    parameters: Tensor,
    displacements: Tensor,
    starts: Tensor,
    kinds: Tensor,
    offsets: Tensor,
    columns: Tensor,
    vectors: Tensor,
    volumes: Tensor,
    form: int,
    species: int,
    reach: float,
    shift: bool,
) -> Tensor:
    """Gradient (C, P) by parameters of sum(by_energies energies) + sum(by_forces forces); an empty
    factor counts as zeros."""
    arrays = (starts, kinds, offsets, columns, vectors, volumes, form, species, reach, shift)
    C, P = parameters.shape
    if not parameters.is_cpu:
        Kind.of(parameters).require_cpu("parameters", "derivatives by parameters are made")
    shapes: dict[str, tuple[int, ...]] = {}
    if by_energies.numel():
        shapes["d_energies"] = (C, *by_energies.shape[1:], P)
    if by_forces.numel():
        shapes["d_forces"] = (C, *by_forces.shape[1:], P)
    if not shapes:
        return torch.zeros_like(parameters)
    directions = torch.eye(P, dtype=torch.float64)[None].numpy()
    slopes = _evaluate(shapes, parameters, displacements, arrays, directions)
    factors = [factor for factor in (by_energies, by_forces) if factor.numel()]
    return torch.stack(
        [
            torch.einsum("cn,cnp->cp", factor.reshape(C, -1), slope.reshape(C, -1, P))
            for factor, slope in zip(factors, slopes, strict=True)
        ]
    ).sum(0)


@_slopes.register_fake
def _(
    by_energies: Tensor,
    by_forces: Tensor,
    parameters: Tensor,
    displacements: Tensor,
    starts: Tensor,
    kinds: Tensor,
    offsets: Tensor,
    columns: Tensor,
    vectors: Tensor,
    volumes: Tensor,
    form: int,
    species: int,
    reach: float,
    shift: bool,
) -> Tensor:
    return torch.empty_like(parameters, memory_format=torch.contiguous_format)


def _keep(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    tensors = [value for value in inputs if isinstance(value, Tensor)]
    ctx.save_for_backward(*tensors)
    ctx.rest = inputs[len(tensors) :]


def _energies_backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
    parameters, displacements, starts, *_ = ctx.saved_tensors
    arguments = (*ctx.saved_tensors, *ctx.rest)
    by_parameters = by_displacements = None
    if ctx.needs_input_grad[0]:
        by_parameters = _slopes(grad, grad.new_zeros(0), *arguments)
    if ctx.needs_input_grad[1]:
        of_atoms = grad.repeat_interleave(starts.diff(), dim=1, output_size=displacements.shape[1])
        by_displacements = -of_atoms[:, :, None] * _forces(*arguments)
    return by_parameters, by_displacements, *[None] * 10


def _forces_backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
    if ctx.needs_input_grad[1]:
        raise NotImplementedError("second derivatives by displacements are not there")
    by_parameters = None
    if ctx.needs_input_grad[0]:
        by_parameters = _slopes(grad.new_zeros(0), grad, *ctx.saved_tensors, *ctx.rest)
    return by_parameters, *[None] * 11


def _slopes_backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
    raise NotImplementedError("second derivatives by parameters are not there")


_energies.register_autograd(_energies_backward, setup_context=_keep)
_forces.register_autograd(_forces_backward, setup_context=_keep)
_slopes.register_autograd(_slopes_backward, setup_context=_keep)
