"""Observables against known crystals, chains whose modes are known, and their own bundles."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from ase.build import bulk
from mlcore import export, observables
from mlcore.errors import Error, InvalidArgument
from mlcore.neighbors import neighbor_list
from scipy.spatial.transform import Rotation

# cutoff of the shells that count, and q_4, q_6 of Phys. Rev. B 28, 784 (1983), table I
CRYSTALS = {
    "fcc": (0.7072, 12, 0.190941, 0.574524),
    "bcc": (1.0, 14, 0.036370, 0.510688),
    "hcp": (1.0, 12, 0.097222, 0.484762),
}


@pytest.mark.parametrize("name", CRYSTALS)
def test_crystals(name: str) -> None:
    reach, neighbors, q4, q6 = CRYSTALS[name]
    atoms = bulk("Cu", name, a=1.0, **({"c": np.sqrt(8 / 3)} if name == "hcp" else {})).repeat(3)
    inner, cutoff = 1.15 * reach, 1.25 * reach
    count = observables.CoordinationNumber(cutoff, inner)
    assert count(atoms) == pytest.approx([neighbors], abs=1e-12)
    for degree, known in ((4, q4), (6, q6)):
        order = observables.LocalOrder(cutoff, degree, inner)
        assert order(atoms) == pytest.approx([known], abs=2e-6)


def gas(n: int = 30, side: float = 4.0, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    return np.random.default_rng(seed).uniform(0, side, (n, 3)), side * np.eye(3)


@pytest.mark.parametrize("degree", [1, 3, 6, 12])
def test_order_is_the_sum_over_legendre_polynomials(degree: int) -> None:
    """Addition theorem: q_l^2 is the mean of P_l(cos angle) over pairs of neighbors."""
    x, cell = gas()
    order = observables.LocalOrder(1.6, degree, inner=1.0, reduce="none")
    found = order(x, cell=cell, pbc=True)[:, 0]
    i, d = neighbor_list("iD", x, 1.6, cell=cell, pbc=True)
    legendre = np.polynomial.legendre.Legendre.basis(degree)
    for atom in range(len(x)):
        rows = d[i == atom]
        r = np.linalg.norm(rows, axis=1)
        t = np.clip((r - 1.0) / 0.6, 0, 1)
        w = 1 - t**3 * (10 - 15 * t + 6 * t * t)
        cosine = (rows @ rows.T) / np.outer(r, r)
        square = w @ legendre(np.clip(cosine, -1, 1)) @ w / w.sum() ** 2 if len(r) else 0.0
        assert found[atom] ** 2 == pytest.approx(square, abs=1e-9)


def test_invariances() -> None:
    x = np.random.default_rng(1).normal(size=(12, 3))
    turned = Rotation.from_rotvec([0.3, -1.2, 0.7]).apply(x) + [5.0, -3.0, 2.0]
    for observable in (
        observables.CoordinationNumber(1.5, reduce="none"),
        observables.LocalOrder(1.5, reduce="none"),
        observables.RadiusOfGyration(),
    ):
        assert observable(turned) == pytest.approx(observable(x), abs=1e-9)


def test_lone_atoms_count_nothing() -> None:
    x = np.array([[0.0, 0, 0], [9.0, 0, 0]])
    assert not observables.LocalOrder(1.5, reduce="none")(x).any()
    assert not observables.CoordinationNumber(1.5, reduce="none")(x).any()


@pytest.mark.parametrize("cell", [10 * np.eye(3), np.array([[10.0, 0, 0], [3, 9, 0], [-2, 1, 11]])])
def test_gyration_of_a_chain_cut_by_boundaries(cell: np.ndarray) -> None:
    rng = np.random.default_rng(2)
    chain = np.cumsum(rng.normal(size=(40, 3)), 0)
    wanted = np.sqrt(((chain - chain.mean(0)) ** 2).sum(1).mean())
    fractions = chain @ np.linalg.inv(cell)
    wrapped = (fractions - np.floor(fractions)) @ cell
    rg = observables.RadiusOfGyration()
    assert rg(wrapped, cell=cell, pbc=True) == pytest.approx([wanted], rel=1e-12)
    half = fractions.copy()
    half[:, 0] -= np.floor(half[:, 0])
    assert rg(half @ cell, cell=cell, pbc=(True, False, False)) == pytest.approx([wanted])


def test_projection_finds_the_modes_of_an_ideal_chain() -> None:
    """Rouse: modes cos(pi p (i + 1/2) / n); their part of the variance is known."""
    n, size = 16, 4
    steps = np.random.default_rng(3).normal(size=(4000, n, 3))
    frames = np.cumsum(steps, 1)
    modes = observables.LinearProjection(size).fit(frames)
    place = np.arange(n) + 0.5
    for p in range(1, size):
        rouse = np.cos(np.pi * p * place / n)
        assert abs(np.corrcoef(modes.weights[p], rouse)[0, 1]) > 0.999
    exact = 1 / np.sin(np.pi * np.arange(1, n) / (2 * n)) ** 2
    assert modes.explained == pytest.approx(exact[: size - 1].sum() / exact.sum(), rel=0.02)
    z = modes.project(frames)
    assert modes(frames[5]) == pytest.approx(z[5], abs=1e-12)
    lifted = modes.lift(z)
    error = ((lifted - frames) ** 2).sum() / ((frames - frames.mean(1, keepdims=True)) ** 2).sum()
    assert error == pytest.approx(1 - modes.explained, rel=1e-6)


def test_projection_moves_and_turns_with_the_atoms() -> None:
    frames = np.cumsum(np.random.default_rng(4).normal(size=(50, 6, 3)), 1)
    modes = observables.LinearProjection(3).fit(frames)
    turn = Rotation.from_rotvec([1.0, 0.2, -0.4])
    moved = modes(turn.apply(frames[0]) + [1.0, 2.0, 3.0])
    assert moved[1:] == pytest.approx(turn.apply(modes(frames[0])[1:]), abs=1e-10)
    assert moved[0] == pytest.approx(turn.apply(frames[0].mean(0)) + [1.0, 2.0, 3.0])


def test_one_configuration_is_projected_as_many_are() -> None:
    frames = np.cumsum(np.random.default_rng(4).normal(size=(50, 6, 3)), 1)
    modes = observables.LinearProjection(3).fit(frames)
    assert modes.project(frames[:1]) == pytest.approx(modes.project(frames)[:1], abs=1e-14)


def fitted() -> observables.LinearProjection:
    frames = np.cumsum(np.random.default_rng(5).normal(size=(50, 6, 3)), 1)
    return observables.LinearProjection(3).fit(frames)


@pytest.mark.parametrize(
    "observable",
    [
        observables.CoordinationNumber(1.5),
        observables.CoordinationNumber(1.5, types=3),
        observables.LocalOrder(1.5, reduce="none", types=2),
        observables.RadiusOfGyration(),
        fitted(),
    ],
)
def test_bundles(observable: observables.Observable, tmp_path: Path) -> None:
    bundle = observable.export(tmp_path / "bundle", units="lj")
    assert bundle.kind == "qoi"
    x = torch.cumsum(torch.randn(6, 3, dtype=torch.float64), 0)
    if bundle.contract.sees == "configuration":
        given = (x, torch.zeros(3, 3, dtype=torch.float64))
        (network,) = export.load_model(tmp_path / "bundle").networks()
        assert network(*given).numpy() == pytest.approx(observable(x.numpy()), abs=1e-12)
    export.verify(tmp_path / "bundle")


def test_gradients() -> None:
    d = torch.randn(8, 3, dtype=torch.float64, requires_grad=True)
    i, j = torch.zeros(8, dtype=torch.int64), torch.arange(8) % 2
    types = torch.zeros(2, dtype=torch.int64)
    for observable in (observables.CoordinationNumber(2.0), observables.LocalOrder(2.0, 4)):
        network = observable.network()
        assert torch.autograd.gradcheck(lambda e, f=network: f(e, i, j, types)[:1], d)


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda: observables.CoordinationNumber(-1.0), "cutoff"),
        (lambda: observables.CoordinationNumber(1.0, inner=2.0), "inner"),
        (lambda: observables.CoordinationNumber(1.0, reduce="max"), "reduce"),  # type: ignore[arg-type]
        (lambda: observables.CoordinationNumber("a"), "cutoff must be a positive"),  # type: ignore[arg-type]
        (lambda: observables.LocalOrder(None), "cutoff must be a positive"),  # type: ignore[arg-type]
        (lambda: observables.LocalOrder(1.0, degree=0), "degree"),
        (lambda: observables.LocalOrder(1.0, types=0), "types"),
        (lambda: observables.CoordinationNumber(1.0)(np.eye(3), types=[0, 1, 1]), "types"),
        (lambda: observables.LocalOrder(1.0)(np.eye(3), types=[1.9, 1.0, 1.0]), "whole numbers"),
        (lambda: observables.RadiusOfGyration()("x"), "atoms must be numbers"),
        (lambda: observables.RadiusOfGyration()(np.eye(3), cell=np.eye(3), pbc="xy"), "pbc must"),
        (
            lambda: observables.RadiusOfGyration()(np.eye(3), cell=[5.0] * 3, pbc=(True, True)),
            "pbc must",
        ),
        (
            lambda: observables.RadiusOfGyration()(np.eye(3), cell=0 * np.eye(3), pbc=True),
            "cell must",
        ),
        (lambda: observables.RadiusOfGyration()(np.eye(3), cell="a", pbc=True), "cell"),
        (lambda: fitted().project(np.zeros((4, 5, 3))), "frames hold 5 atoms, made for 6"),
        (lambda: fitted().project(None), "frames must be configurations"),
        (lambda: fitted().lift("a"), "z must be numbers"),
        (lambda: observables.LinearProjection(0), "size"),
        (lambda: observables.LinearProjection(2).fit(np.zeros((1, 3, 3))), "frames"),
        (lambda: observables.LinearProjection(9).fit(np.zeros((4, 3, 3))), "size"),
        (lambda: observables.RadiusOfGyration()(np.zeros((3, 2))), "atoms"),
        (lambda: observables.RadiusOfGyration()(np.zeros((3, 3)), pbc=True), "cell"),
        (lambda: fitted()(np.zeros((5, 3))), "atoms"),
    ],
)
def test_errors(make: object, named: str) -> None:
    with pytest.raises(InvalidArgument, match=named):
        make()  # type: ignore[operator]


def test_unfitted() -> None:
    with pytest.raises(Error, match="fit"):
        observables.LinearProjection(2)(np.zeros((3, 3)))
