"""`mlcore.ops.potential_energies` and `potential_forces`: what torch asks of operators."""

from __future__ import annotations

from typing import Any

import mlcore.ops
import numpy as np
import pytest
import torch
from mlcore import InvalidArgument
from mlcore.ops import potential_energies, potential_forces
from mlcore.ops.potentials import _arguments
from mlcore.potentials import evaluate
from test_potentials import candidates, structures
from torch_ops import check_gradients, check_operator


def inputs(form: str, count: int = 2) -> tuple[Any, torch.Tensor, torch.Tensor]:
    system = structures(form, skin=0.6)
    u = np.random.default_rng(1).normal(0, 0.02, (count, system.atoms[-1], 3))
    given = torch.tensor(candidates(form, count), requires_grad=True)
    return system, given, torch.tensor(u, requires_grad=True)


@pytest.mark.parametrize("form", ["lj/cut", "morse", "buck", "sw", "tersoff"])
def test_values_and_gradients(form: str) -> None:
    system, given, u = inputs(form)
    want = evaluate(form, system, given.detach(), displacements=u.detach(), gradient=True)
    energies = potential_energies(form, system, given, u)
    forces = potential_forces(form, system, given, u.detach())
    assert torch.allclose(energies, want.energies, rtol=1e-13)
    torch.testing.assert_close(forces, want.forces, rtol=1e-12, atol=1e-12)
    weights = torch.linspace(-1, 1, 6, dtype=torch.float64).reshape(2, 3)
    by_given, by_u = torch.autograd.grad((weights * energies).sum(), (given, u))
    torch.testing.assert_close(by_given, torch.einsum("cm,cmp->cp", weights, want.d_energies))
    of_atoms = weights.repeat_interleave(torch.tensor(np.diff(system.atoms)), 1)
    torch.testing.assert_close(by_u, -of_atoms[:, :, None] * want.forces)
    (by_given,) = torch.autograd.grad((forces**2).sum(), given)
    torch.testing.assert_close(
        by_given, 2 * torch.einsum("cna,cnap->cp", want.forces, want.d_forces)
    )


def test_gradients_by_differences() -> None:
    system, given, u = inputs("morse")
    check_gradients(lambda p, u: potential_energies("morse", system, p, u), (given, u))
    check_gradients(lambda p: potential_forces("morse", system, p, u.detach()), (given,))


def test_a_loss_of_forces_by_the_gradient_of_energies() -> None:
    system, given, u = inputs("sw")
    energy = potential_energies("sw", system, given, u).sum()
    (by_u,) = torch.autograd.grad(energy, u, create_graph=True)
    with pytest.raises(NotImplementedError, match="second derivatives by displacements"):
        torch.autograd.grad((by_u**2).sum(), (given, u))


@pytest.mark.parametrize("operator", ["potential_energies", "potential_forces"])
def test_operator(operator: str) -> None:
    system, given, u = inputs("lj/cut")
    samples = [_arguments("lj/cut", system, given, u.detach(), False)]
    if operator == "potential_energies":
        samples = [_arguments("lj/cut", system, given, u, True)]
    check_operator(getattr(torch.ops.mlcore, operator).default, samples)


def test_slopes_operator() -> None:
    system, given, u = inputs("lj/cut")
    arguments = _arguments("lj/cut", system, given.detach(), u.detach(), False)
    by_energies = torch.ones(2, 3, dtype=torch.float64)
    by_forces = torch.ones_like(arguments[1])
    none = by_energies.new_zeros(0)
    check_operator(
        torch.ops.mlcore.potential_slopes.default,
        [(by_energies, none, *arguments), (by_energies, by_forces, *arguments)],
    )  # fmt: skip


def test_bad_arguments() -> None:
    system, given, u = inputs("sw")
    for arguments, message in (
        (("tersof", system, given), "form must be one of"),
        (("sw", None, given), "structures must be"),
        (("sw", system, given[0]), r"\(C, P\)"),
        (("sw", system, given.float()), "parameters must be float64"),
        (("sw", system, given, u.float()), "displacements must be float64"),
        (("sw", system, given[:, :-1]), "parameters must have the length 80"),
    ):
        with pytest.raises(InvalidArgument, match=message):
            mlcore.ops.potential_energies(*arguments)
