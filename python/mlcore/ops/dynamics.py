"""Lennard-Jones pairs as torch operators, with first and second derivatives."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from mlcore import _core
from mlcore.arrays import Kind
from mlcore.dynamics import Harmonic, LennardJones, core_system
from mlcore.errors import InvalidArgument

__all__ = ["pair_energy", "pair_force"]


def pair_energy(
    x: Tensor,
    *,
    epsilon: float = 1.0,
    sigma: float = 1.0,
    cutoff: float = float("inf"),
    box: float = 0.0,
    trap: float = 0.0,
) -> Tensor:
    """Potential energies (R,) of R sets of particles, twice differentiable in x.

    U = sum over pairs of 4 epsilon ((sigma / r)^12 - (sigma / r)^6), shifted to zero at the cutoff,
    plus trap |x|^2 / 2 each; the system of `mlcore.dynamics.verlet`.

    Args:
        x: (R, n, d) positions in float64, d = 1, 2 or 3, on the CPU or a GPU.
        epsilon: energy.
        sigma: > 0, length.
        cutoff: > 0, length; infinite in open space only.
        box: edge of a periodic cube, 0: open space.
        trap: stiffness about the origin.

    Raises:
        InvalidArgument: a shape, dtype or value is wrong.
    """
    energy: Tensor = _pair_energy(x, epsilon, sigma, cutoff, box, trap)
    return energy


def pair_force(
    x: Tensor,
    *,
    epsilon: float = 1.0,
    sigma: float = 1.0,
    cutoff: float = float("inf"),
    box: float = 0.0,
    trap: float = 0.0,
) -> Tensor:
    """Forces (R, n, d) = -d `pair_energy` / dx, differentiable in x once."""
    force: Tensor = _pair_force(x, epsilon, sigma, cutoff, box, trap)
    return force


def _core_arguments(
    x: Tensor, epsilon: float, sigma: float, cutoff: float, box: float, trap: float
) -> tuple[Any, Any]:
    if x.dtype != torch.float64:
        raise InvalidArgument(f"x must be float64, got {x.dtype}")
    system = core_system(
        [LennardJones(sigma, epsilon, cutoff), Harmonic(trap)], box if box else None
    )
    return system, Kind.of(x).take("x", x, detach=True)


def _output(x: Tensor, shape: tuple[int, ...]) -> tuple[Any, Tensor]:
    array, result = Kind.of(x).output(None, shape)
    return array, result


@torch.library.custom_op("mlcore::pair_energy", mutates_args=())
def _pair_energy(
    x: Tensor, epsilon: float, sigma: float, cutoff: float, box: float, trap: float
) -> Tensor:
    system, array = _core_arguments(x, epsilon, sigma, cutoff, box, trap)
    filled, energies = _output(x, (x.shape[0],))
    _core.system_forces(system, array, None, filled, stream=Kind.of(x).stream())
    return energies


@_pair_energy.register_fake
def _(x: Tensor, epsilon: float, sigma: float, cutoff: float, box: float, trap: float) -> Tensor:
    return x.new_empty(x.shape[0])


@torch.library.custom_op("mlcore::pair_force", mutates_args=())
def _pair_force(
    x: Tensor, epsilon: float, sigma: float, cutoff: float, box: float, trap: float
) -> Tensor:
    system, array = _core_arguments(x, epsilon, sigma, cutoff, box, trap)
    filled, forces = _output(x, tuple(x.shape))
    _core.system_forces(system, array, filled, None, stream=Kind.of(x).stream())
    return forces


@_pair_force.register_fake
def _(x: Tensor, epsilon: float, sigma: float, cutoff: float, box: float, trap: float) -> Tensor:
    return x.new_empty(x.shape)


@torch.library.custom_op("mlcore::pair_force_gradient", mutates_args=())
def _pair_force_gradient(
    x: Tensor, g: Tensor, epsilon: float, sigma: float, cutoff: float, box: float, trap: float
) -> Tensor:
    """The symmetric matrix dF/dx times g."""
    system, array = _core_arguments(x, epsilon, sigma, cutoff, box, trap)
    filled, product = _output(x, tuple(x.shape))
    vector = Kind.of(g).take("g", g, detach=True)
    _core.system_force_gradient(system, array, vector, filled, stream=Kind.of(x).stream())
    return product


@_pair_force_gradient.register_fake
def _(
    x: Tensor, g: Tensor, epsilon: float, sigma: float, cutoff: float, box: float, trap: float
) -> Tensor:
    return x.new_empty(x.shape)


def _keep(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.save_for_backward(inputs[0])
    ctx.parameters = inputs[1:]


def _energy_backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
    (x,) = ctx.saved_tensors
    return -grad[:, None, None] * _pair_force(x, *ctx.parameters), *[None] * 5


def _force_backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
    (x,) = ctx.saved_tensors
    return _pair_force_gradient(x, grad, *ctx.parameters), *[None] * 5


def _keep_gradient(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.save_for_backward(inputs[0])
    ctx.parameters = inputs[2:]


def _gradient_backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
    (x,) = ctx.saved_tensors
    if ctx.needs_input_grad[0]:
        raise NotImplementedError("third derivatives of the pair energy are not there")
    return None, _pair_force_gradient(x, grad, *ctx.parameters), *[None] * 5


_pair_energy.register_autograd(_energy_backward, setup_context=_keep)
_pair_force.register_autograd(_force_backward, setup_context=_keep)
_pair_force_gradient.register_autograd(_gradient_backward, setup_context=_keep_gradient)
