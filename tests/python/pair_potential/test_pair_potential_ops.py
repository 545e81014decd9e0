"""mlcore.ops.pair_potential: operator checks and derivatives."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from mlcore import InvalidArgument, PairPotential
from torch_ops import check_gradients, check_operator

torch = pytest.importorskip("torch")
ops = pytest.importorskip("mlcore.ops")

RNG = np.random.default_rng(8)
SMOOTH = PairPotential.from_functions(
    [lambda r, k=k: k * (1 - r / 1.5) ** 4 * (1 + r) for k in (1, 2, 3)], 1.5, types=2, knots=60
)


def particles(n: int = 9) -> tuple[Any, Any, Any]:
    x = torch.tensor(RNG.uniform(0, 2.2, (n, 3)), requires_grad=True)
    cell = torch.tensor(np.diag([2.0, 2.3, 2.6]) + 0.1, requires_grad=True)
    return x, cell, torch.tensor(RNG.integers(0, 2, n))


def test_forces_are_the_gradient() -> None:
    x, cell, types = particles(40)
    want = SMOOTH.evaluate(x.detach(), cell.detach(), True, types=types)
    energies = ops.pair_potential(SMOOTH, x, types, cell, True)
    torch.testing.assert_close(energies, want.energies, rtol=1e-12, atol=1e-12)
    by_x, by_cell = torch.autograd.grad(energies.sum(), (x, cell))
    torch.testing.assert_close(-by_x, want.forces, rtol=1e-11, atol=1e-11)
    whole = x.detach().T @ by_x + cell.detach().T @ by_cell  # strain derivative
    places = [(0, 0), (1, 1), (2, 2), (0, 1), (0, 2), (1, 2)]
    strain = torch.stack([whole[a, b] for a, b in places])
    torch.testing.assert_close(-strain, want.virial, rtol=1e-10, atol=1e-10)


def test_gradients_and_second_derivatives() -> None:
    x, cell, types = particles()
    check_gradients(
        lambda x, cell: ops.pair_potential(SMOOTH, x, types, cell, True), (x, cell), second=True
    )


def edges() -> tuple[Any, ...]:
    x, cell, types = particles(6)
    i, j, _, D, _ = ops.neighbor_list(x.detach(), 1.5, cell.detach(), True)
    table = torch.tensor(SMOOTH.energy), torch.tensor(SMOOTH.slope), 0.0, 1.5
    return D.detach().requires_grad_(), i, j, types, *table


def test_opcheck() -> None:
    D, *rest = edges()
    weights = torch.tensor(RNG.normal(size=6), requires_grad=True)
    along = torch.tensor(RNG.normal(size=D.shape))
    check_operator(torch.ops.mlcore.pair_potential.default, [(D, *rest)])
    check_operator(torch.ops.mlcore.pair_potential_gradient.default, [(weights, D, *rest)])
    fixed = (along, weights.detach(), D.detach(), *rest)
    check_operator(torch.ops.mlcore.pair_potential_second.default, [fixed])


def test_single_precision() -> None:
    x, cell, types = particles(20)
    single = x.detach().float().requires_grad_()
    energies = ops.pair_potential(SMOOTH, single, types, cell.detach().float(), True)
    assert energies.dtype == torch.float32
    (got,) = torch.autograd.grad(energies.sum(), single)
    want = SMOOTH.evaluate(x.detach(), cell.detach(), True, types=types)
    torch.testing.assert_close(-got.double(), want.forces, rtol=1e-3, atol=1e-3)


def test_open_space_and_nothing() -> None:
    one = PairPotential([1.0, 0.0], [-1.0, -1.0], 1.0)
    x = torch.tensor([[0.0, 0, 0], [0.5, 0, 0]], dtype=torch.float64)
    torch.testing.assert_close(ops.pair_potential(one, x), x.new_tensor([0.25, 0.25]))
    assert ops.pair_potential(one, x[:0]).shape == (0,)


def test_errors() -> None:
    x, cell, types = particles()
    with pytest.raises(InvalidArgument, match="potential"):
        ops.pair_potential(None, x, types)
    with pytest.raises(InvalidArgument, match="types are needed"):
        ops.pair_potential(SMOOTH, x)
    with pytest.raises(InvalidArgument, match="integers"):
        ops.pair_potential(SMOOTH, x, types.double())
    with pytest.raises(InvalidArgument, match=r"types must lie in 0\.\.1"):
        ops.pair_potential(SMOOTH, x, types + 1, cell, True)
    D, i, j, kinds, energy, slope, first, cutoff = edges()
    trained = energy.requires_grad_()
    found = torch.ops.mlcore.pair_potential(D, i, j, kinds, trained, slope, first, cutoff)
    with pytest.raises(InvalidArgument, match="do not flow to a table"):
        found.sum().backward()
