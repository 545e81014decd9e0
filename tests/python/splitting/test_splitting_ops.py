"""`mlcore.ops.splitting_step`: the step of a run, its adjoint, what torch asks of operators."""

from __future__ import annotations

from typing import Any

import mlcore.ops
import numpy as np
import pytest
import torch
from mlcore import Error, InvalidArgument
from mlcore.ops.splitting import splitting_step
from test_splitting import SKEW, bumpy, lattice
from torch_ops import check_gradients, check_operator


def tensors(n: int, replicas: int = 1, grad: bool = True) -> tuple[torch.Tensor, torch.Tensor]:
    x, v, _ = lattice(n)
    shift = 0.02 * np.random.default_rng(4).normal(size=(replicas, n, 3))
    return torch.tensor(x + shift).requires_grad_(grad), torch.tensor(v - shift).requires_grad_(
        grad
    )


@pytest.mark.parametrize("cell", [None, [6.5] * 3, SKEW])
@pytest.mark.parametrize("n", [1, 5, 130])
def test_is_a_step_of_a_run(n: int, cell: Any) -> None:
    splitting = bumpy(4)
    x, v = tensors(n, 3, grad=False)
    species = np.arange(n) % 2
    cell = [8.0] * 3 if n == 130 and cell is not None else cell
    got = splitting_step(x, v, splitting, cell=cell, species=species)
    want = splitting.run(x, v, steps=1, cell=cell, species=species)
    assert torch.equal(got[0], want.last_positions)
    assert torch.equal(got[1], want.last_velocities)


@pytest.mark.parametrize("cell", [None, [6.5] * 3, [4.1] * 3])
def test_gradients(cell: Any) -> None:
    """Nearest images, and where the cutoff needs more of them."""
    splitting = bumpy(3)
    x, v = tensors(6, 2)
    check_gradients(
        lambda x, v: splitting_step(x, v, splitting, cell=cell, species=[0, 1, 1, 0, 1, 0]), (x, v)
    )


def test_lists_have_the_gradients_of_all_pairs() -> None:
    """Two clusters far from each other: as one system by a list, alone by all pairs."""
    splitting = bumpy(4, masses=[1.0])
    x, v = tensors(100, grad=False)
    both = [torch.cat([x, x + 50], 1).requires_grad_(), torch.cat([v, v], 1).requires_grad_()]
    alone = [x.clone().requires_grad_(), v.clone().requires_grad_()]
    for pair in (both, alone):
        sum((y**2).sum() for y in splitting_step(pair[0], pair[1], splitting)).backward()
    for one, other in zip(both, alone, strict=True):
        g, want = one.grad, other.grad
        assert g is not None and want is not None
        torch.testing.assert_close(g[:, :100], want, rtol=0, atol=1e-9)


def test_operator() -> None:
    splitting = bumpy(3)
    tables = [torch.tensor(t) for t in (splitting.drifts, splitting.masses, splitting.coefficients)]
    numbers = [splitting.h, splitting.u_lo, splitting.u_hi]
    for n in (0, 4):
        species = torch.arange(n) % 2
        rest = (*tables, 7.0 * torch.eye(3, dtype=torch.float64), species, [True] * 3, *numbers)
        x, v = tensors(n, 2)
        check_operator(torch.ops.mlcore.splitting_step.default, [(x, v, *rest)])
        fixed = (t.detach() for t in (x, v, x, v))
        check_operator(torch.ops.mlcore.splitting_step_gradient.default, [(*fixed, *rest)])


def test_compiles() -> None:
    splitting = bumpy(3, masses=[1.0])
    x, v = tensors(5)
    step = torch.compile(
        lambda x, v: splitting_step(x, v, splitting)[0] * 2, backend="aot_eager", fullgraph=False
    )
    torch.testing.assert_close(step(x, v), 2 * splitting_step(x, v, splitting)[0])
    assert mlcore.ops.splitting_step is splitting_step


def test_refuses() -> None:
    splitting = bumpy(3, masses=[1.0])
    x, v = tensors(5, grad=False)
    for wrong, match in (
        ((x.float(), v), "x must be float64"),
        ((x, v.float()), "v must be float64"),
        ((x, v[:, :4]), "v must"),
        ((x[0], v[0]), "x must have the shape"),
        ((x * torch.nan, v), "finite"),
    ):
        with pytest.raises(InvalidArgument, match=match):
            splitting_step(*wrong, splitting)
    with pytest.raises(InvalidArgument, match="species"):
        splitting_step(x, v, splitting, species=[0, 0, 0, 0, 1])
    close = torch.cat([x, x], 0)
    close[1, 1] = close[1, 0] + 0.1
    with pytest.raises(Error, match="replica 1 a pair comes as close"):
        splitting_step(close, torch.zeros_like(close), splitting)
