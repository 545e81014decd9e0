"""`mlcore.ops.bond_energies` and `bond_forces`: values, derivatives, what torch asks of operators."""

from __future__ import annotations

from typing import Any

import mlcore.ops
import numpy as np
import pytest
import torch
from devices import device_named
from mlcore import BondBasis, InvalidArgument
from mlcore.neighbors import neighbor_csr
from mlcore.ops import bond_energies, bond_forces
from mlcore.ops.bonds import _given
from test_bonds import CASES, DEVICES, SALT, SHEET, model, species_of
from torch_ops import check_gradients, check_operator

SMALL = BondBasis(2.0, radial=2, order=2, turns=2, degree=2)
FEW = SHEET[:7]
FEW.pbc = False


def rows_of(basis: BondBasis, atoms: Any) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Pairs of the atoms with a skin."""
    offsets, j, D = neighbor_csr(atoms, basis.reach + 0.4, quantities="jD")
    return torch.tensor(offsets), torch.tensor(j, dtype=torch.int32), torch.tensor(D)


def inputs(basis: BondBasis, atoms: Any, by: float = 0.03) -> tuple[Any, ...]:
    """Coefficients, displacements (both to be derived by), rows, middle, species."""
    C, middle = model(basis)
    u = np.random.default_rng(6).normal(0, by, (len(atoms), 3))
    species = species_of(basis, atoms)
    return (
        torch.tensor(C, requires_grad=True),
        torch.tensor(u, requires_grad=True),
        rows_of(basis, atoms),
        torch.tensor(middle),
        None if species is None else torch.tensor(species, dtype=torch.int32),
    )


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("name", CASES)
def test_values(name: str, device: str) -> None:
    device_named(device)
    basis, atoms = CASES[name]
    C, u, *rest = (_moved(a, device) for a in inputs(basis, atoms))
    energies, forces = (f(basis, C, u, *rest) for f in (bond_energies, bond_forces))
    moved = atoms.copy()
    moved.positions += u.detach().cpu().numpy()
    C0, middle = model(basis)
    want = basis.evaluate(moved, C0, middle, species=species_of(basis, atoms))
    for got, there in ((energies, want.energies), (forces, want.forces)):
        scale = np.abs(want.forces).max()
        np.testing.assert_allclose(got.detach().cpu().numpy(), there, rtol=0, atol=1e-11 * scale)
    (slopes,) = torch.autograd.grad(energies.sum(), u)
    torch.testing.assert_close(-slopes, forces, rtol=1e-12, atol=1e-12)


def _moved(value: Any, device: str) -> Any:
    if isinstance(value, tuple):
        return tuple(_moved(one, device) for one in value)
    if value is None:
        return None
    return value.detach().to(device).requires_grad_(value.requires_grad)


@pytest.mark.parametrize("device", DEVICES)
def test_gradients_of_energies(device: str) -> None:
    device_named(device)
    C, u, *rest = (_moved(a, device) for a in inputs(SMALL, FEW))
    check_gradients(lambda C, u: bond_energies(SMALL, C, u, *rest), (C, u), atol=1e-5)
    fixed = C.detach()
    check_gradients(lambda u: bond_energies(SMALL, fixed, u, *rest), (u,), second=True, atol=1e-4)


def test_gradients_of_two_species() -> None:
    basis = BondBasis(2.2, species=2, radial=6)
    C, u, *rest = inputs(basis, SALT)
    given = torch.linspace(-1, 1, 24, dtype=torch.float64).reshape(8, 3).requires_grad_()
    fixed = C.detach()
    check_gradients(
        lambda along: bond_energies(basis, fixed, u.detach() + 0.02 * along, *rest),
        (given,),
        second=True,
        atol=1e-4,
    )


@pytest.mark.parametrize("device", DEVICES)
def test_gradients_of_forces(device: str) -> None:
    device_named(device)
    C, u, *rest = (_moved(a, device) for a in inputs(SMALL, FEW))
    check_gradients(lambda C, u: bond_forces(SMALL, C, u, *rest), (C, u), atol=1e-4)


def test_weights_of_atoms_are_derived_by() -> None:
    """The gradient of weighted energies, derived by the weights: a column of the Jacobian."""
    C, u, *rest = inputs(SMALL, FEW)
    weights = torch.linspace(-1, 2, 7, dtype=torch.float64).requires_grad_()
    along = torch.linspace(1, -1, 21, dtype=torch.float64).reshape(7, 3)

    def pushed(weights: torch.Tensor) -> torch.Tensor:
        energies = bond_energies(SMALL, C.detach(), u, *rest)
        (slopes,) = torch.autograd.grad((weights * energies).sum(), u, create_graph=True)
        return (along * slopes).sum()

    check_gradients(pushed, (weights,))


def test_a_loss_of_forces_trains_coefficients() -> None:
    C, u, *rest = inputs(SMALL, FEW)
    wanted = bond_forces(SMALL, C, u, *rest).detach()
    made = torch.zeros_like(C).requires_grad_()
    loss = ((bond_forces(SMALL, made, u.detach(), *rest) - wanted) ** 2).sum()
    (slope,) = torch.autograd.grad(loss, made)
    best = made.detach() - 1e-9 * slope
    after = ((bond_forces(SMALL, best, u.detach(), *rest) - wanted) ** 2).sum()
    expected = float(loss.detach()) - 1e-9 * float((slope**2).sum())
    assert float(after) < float(loss)
    assert float(after) == pytest.approx(expected, rel=1e-3)


def arguments(basis: BondBasis, atoms: Any) -> tuple[Any, ...]:
    C, u, *rest = inputs(basis, atoms)
    return (*_given(basis, C, u, *rest), *basis.numbers)


def test_what_memory_held_before_changes_nothing() -> None:
    """Lanes of a vector beyond the last bond are of no bond."""
    basis = BondBasis(2.0, radial=3, turns=1)
    x = np.array([[0.0, 0, 0], [1.4, 0, 0], [2.1, 1.2, 0]])
    offsets, columns, vectors = neighbor_csr(x, 2.0, quantities="jD")
    rows = (offsets.astype(np.int64), columns.astype(np.int32), vectors)
    near = tuple(torch.as_tensor(one) for one in rows)
    still, middle = torch.zeros(3, 3).double(), torch.zeros(basis.seen).double()
    coefficients = torch.zeros(basis.shape, dtype=torch.float64, requires_grad=True)
    for _ in range(20):
        waste = [np.full(size, np.nan) for size in range(1, 200)]
        del waste
        forces = bond_forces(basis, coefficients, still, near, middle, torch.zeros(3).int())
        weights = torch.arange(9.0).double().reshape(3, 3)
        (told,) = torch.autograd.grad(forces, coefficients, weights)
        assert bool(told.isfinite().all())


@pytest.mark.parametrize("name", ["energies", "gradient", "second"])
def test_operators(name: str) -> None:
    u, *rest = arguments(SMALL, FEW)
    weights = torch.linspace(-1, 2, 7, dtype=torch.float64)
    if name == "energies":
        check_operator(torch.ops.mlcore.bond_energies.default, [(u, *rest)])
    elif name == "gradient":
        samples = [
            (weights.clone().requires_grad_(), False, u, *rest),
            (weights, True, u.detach(), rest[0].detach(), *rest[1:]),
        ]
        check_operator(torch.ops.mlcore.bond_gradient.default, samples)
    else:
        along = torch.ones(7, 3, dtype=torch.float64)
        fixed = (along, weights, u.detach(), rest[0].detach(), *rest[1:])
        check_operator(torch.ops.mlcore.bond_second.default, [fixed])


def test_nobody_and_nothing_around() -> None:
    C, _, _, middle, _ = inputs(SMALL, FEW)
    for n in (0, 2):
        rows = (
            torch.zeros(n + 1, dtype=torch.int64),
            torch.zeros(0, dtype=torch.int32),
            torch.zeros(0, 3, dtype=torch.float64),
        )
        u = torch.zeros(n, 3, dtype=torch.float64, requires_grad=True)
        energies = bond_energies(SMALL, C, u, rows, middle)
        assert energies.shape == (n,) and not energies.any()
        by_C, by_u = torch.autograd.grad(energies.sum(), (C, u))
        assert not by_C.any() and not by_u.any()


def test_bad_arguments() -> None:
    C, u, rows, middle, _ = inputs(SMALL, FEW)
    offsets, columns, vectors = rows
    two = BondBasis(2.0, species=2)
    for call, message in (
        ((None, C, u, rows), "basis must be a mlcore.BondBasis"),
        ((SMALL, C[1:], u, rows), "coefficients must have the shape"),
        ((SMALL, C.float(), u, rows), "coefficients must be torch.float64"),
        ((SMALL, C, u[:, :2], rows), "displacements must have the shape"),
        ((SMALL, C, u.float(), rows), "displacements must be torch.float64"),
        ((SMALL, C, u, (offsets[1:], columns, vectors)), "offsets must be 8 numbers"),
        ((SMALL, C, u, (offsets.int(), columns, vectors)), "offsets must be torch.int64"),
        ((SMALL, C, u, (offsets, columns.long(), vectors)), "neighbors must be torch.int32"),
        ((SMALL, C, u, (offsets, columns, vectors.float())), "vectors must be torch.float64"),
        ((SMALL, C, u, (offsets, columns[1:], vectors)), "vectors must have the length"),
        ((SMALL, C, u, (offsets, columns + 1, vectors)), r"columns must lie in 0\.\.6"),
        ((SMALL, C, u, (offsets, columns, 0.9 * vectors.abs())), "from both ends"),
        ((SMALL, C, u, rows, middle[1:]), "middle must have the length"),
        ((SMALL, C, u * torch.nan, rows), "displacements must be finite"),
        ((two, torch.zeros(two.shape), u, rows), "species are needed"),
        ((SMALL, C, u, rows, middle, torch.ones(7)), "species must be torch.int32"),
        ((SMALL, C, u, rows, middle, torch.ones(7, dtype=torch.int32)), r"lie in 0\.\.0"),
    ):
        for operator in (mlcore.ops.bond_energies, mlcore.ops.bond_forces):
            with pytest.raises(InvalidArgument, match=message):
                operator(*call)  # type: ignore[arg-type]


def test_what_is_not_differentiable_says_so() -> None:
    C, u, (offsets, columns, vectors), middle, _ = inputs(SMALL, FEW)
    rows = (offsets, columns, vectors.requires_grad_())
    with pytest.raises(InvalidArgument, match="do not flow"):
        bond_energies(SMALL, C, u, rows).sum().backward()
    with pytest.raises(InvalidArgument, match="do not flow"):
        bond_forces(
            SMALL, C, u, rows[:2] + (vectors.detach(),), middle.requires_grad_()
        ).sum().backward()
    rows, middle = (offsets, columns, vectors.detach()), middle.detach()
    slopes = torch.autograd.grad(bond_energies(SMALL, C, u, rows).sum(), C, create_graph=True)[0]
    with pytest.raises(NotImplementedError, match="differentiable no further"):
        (slopes**2).sum().backward()
    forces = bond_forces(SMALL, C, u, rows, middle)
    bent = torch.autograd.grad((forces**2).sum(), u, create_graph=True)[0]
    with pytest.raises(NotImplementedError, match="third derivatives"):
        (bent**2).sum().backward()
