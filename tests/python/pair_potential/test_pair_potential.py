"""PairPotential: against ASE's Lennard-Jones, its reference and its own derivatives; errors."""

from __future__ import annotations

from typing import Any

import ase
import mlcore
import mlcore.reference
import numpy as np
import pytest
from ase.calculators.lj import LennardJones
from devices import device_named
from hypothesis import given, settings
from hypothesis import strategies as st
from mlcore import InvalidArgument, PairPotential

RNG = np.random.default_rng(5)
SHIFT = 4 * (2.5**-12 - 2.5**-6)


def lj(r: Any) -> Any:
    return 4 * (r**-12 - r**-6) - SHIFT


def lj_slope(r: Any) -> Any:
    return -24 * (2 * r**-13 - r**-7)


def liquid(side: int, noise: float = 0.08) -> tuple[np.ndarray, np.ndarray]:
    """Positions around a cubic lattice and their cell, the same for the same arguments."""
    rng = np.random.default_rng(side)
    axis = np.arange(side) * 1.1
    x = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), -1).reshape(-1, 3)
    return x + rng.normal(0, noise, x.shape), np.eye(3) * side * 1.1


def bumpy(types: int, knots: int, first: float, cutoff: float) -> PairPotential:
    shape = types * (types + 1) // 2, knots
    return PairPotential(RNG.normal(size=shape), RNG.normal(size=shape), cutoff, first)


def test_is_ases_lennard_jones() -> None:
    x, cell = liquid(6)
    atoms = ase.Atoms(f"Ar{len(x)}", x, cell=cell, pbc=True)
    atoms.calc = LennardJones(rc=2.5)
    ours = PairPotential.from_functions(lj, 2.5, first=0.7, slope=lj_slope, knots=20_000)
    results = ours.evaluate(atoms)
    assert results.energy == pytest.approx(atoms.get_potential_energy(), rel=1e-9)
    np.testing.assert_allclose(results.forces, atoms.get_forces(), rtol=0, atol=1e-6)
    np.testing.assert_allclose(results.energies, atoms.get_potential_energies(), atol=1e-8)
    stress = -results.virial[[0, 1, 2, 5, 4, 3]] / atoms.get_volume()
    np.testing.assert_allclose(stress, atoms.get_stress(), atol=1e-8)
    energy, forces = ours.energy_forces(x, cell, True)
    assert energy == results.energy
    np.testing.assert_array_equal(forces, results.forces)


@settings(max_examples=40, deadline=None)
@given(
    n=st.integers(0, 60),
    types=st.integers(1, 10),
    knots=st.integers(2, 60),
    first=st.floats(0, 1.2),
    pbc=st.tuples(st.booleans(), st.booleans(), st.booleans()),
)
def test_matches_reference(n: int, types: int, knots: int, first: float, pbc: Any) -> None:
    cell = np.diag(RNG.uniform(2, 5, 3)) + RNG.uniform(-0.4, 0.4, (3, 3))
    x, kinds = RNG.uniform(-1, 6, (n, 3)), RNG.integers(0, types, n)
    potential = bumpy(types, knots, first, 1.7)
    ours = potential.evaluate(x, cell, pbc, types=kinds)
    want = mlcore.reference.pair_potential(potential, x, cell, pbc, kinds)
    for name in ("energies", "forces", "virial"):
        np.testing.assert_allclose(getattr(ours, name), getattr(want, name), rtol=1e-9, atol=1e-9)
    sums = potential.sums(x, cell, pbc, types=kinds)
    np.testing.assert_allclose(sums, 2 * ours.energies, rtol=1e-14, atol=1e-300)


def test_forces_and_virial_are_slopes_of_the_energy() -> None:
    x, cell = liquid(4)
    d = mlcore.neighbor_list("d", x, 2.1, cell, True)
    assert np.abs(d - 2.0).min() > 1e-4  # where u jumps
    potential = PairPotential.from_functions(lj, 2.0, first=0.7, knots=300)
    results = potential.evaluate(x, cell, True)
    step = 1e-5
    for i, k in ((0, 0), (17, 1), (63, 2)):
        move = np.zeros_like(x)
        move[i, k] = step
        high, low = (potential.evaluate(x + s * move, cell, True).energy for s in (1, -1))
        assert results.forces[i, k] == pytest.approx((low - high) / (2 * step), abs=1e-5)
    for place, (a, b) in enumerate([(0, 0), (1, 1), (2, 2), (0, 1), (0, 2), (1, 2)]):
        strain = np.zeros((3, 3))
        strain[a, b] = step
        high, low = (
            potential.evaluate(x @ (np.eye(3) + s * strain), cell @ (np.eye(3) + s * strain), True)
            for s in (1, -1)
        )
        slope = (high.energy - low.energy) / (2 * step)
        assert results.virial[place] == pytest.approx(-slope, rel=1e-5, abs=1e-4)


def test_threads_change_nothing() -> None:
    x, cell = liquid(9)
    potential = PairPotential.from_functions(lj, 2.5, first=0.7)
    one = potential.evaluate(x, cell, True, num_threads=1)
    for threads in (2, 5):
        many = potential.evaluate(x, cell, True, num_threads=threads)
        for a, b in zip(one, many, strict=True):
            np.testing.assert_array_equal(a, b)


def test_curve() -> None:
    potential = bumpy(3, 5, 0.5, 2.5)
    knots = np.linspace(0.5, 2.5, 5)
    row = 0
    for a in range(3):
        for b in range(a, 3):
            u, slope = potential.pair(knots[:-1], b, a)
            np.testing.assert_allclose(u, potential.energy[row, :-1], atol=1e-13)
            np.testing.assert_allclose(slope, potential.slope[row, :-1], atol=1e-12)
            line, push = potential.pair([[0.1, 0.4]], a, b)
            want = potential.energy[row, 0] + potential.slope[row, 0] * np.array([[-0.4, -0.1]])
            np.testing.assert_allclose(line, want, atol=1e-13)
            np.testing.assert_allclose(push, potential.slope[row, 0], rtol=1e-13)
            row += 1
    assert not np.any(potential.pair([2.5, 3.0, 1e300]))


def test_from_functions() -> None:
    splined = PairPotential.from_functions(lj, 2.5, first=0.8)
    given = PairPotential.from_functions(lj, 2.5, first=0.8, slope=lj_slope)
    np.testing.assert_allclose(splined.slope, given.slope, rtol=1e-6, atol=1e-6)
    fine = PairPotential.from_functions(lj, 2.5, first=0.8, tolerance=1e-8)
    r = np.linspace(0.8, 2.499, 5001)
    assert np.abs(fine.pair(r)[0] - lj(r)).max() <= 1.1e-8
    coarse = PairPotential.from_functions(lj, 2.5, first=0.8, tolerance=1e-3)
    assert coarse.knots < fine.knots
    pairs = {(0, 0): np.cos, (1, 0): np.sin, (1, 1): np.exp}
    named = PairPotential.from_functions(pairs, 2.0, types=2, knots=50)
    listed = PairPotential.from_functions([np.cos, np.sin, np.exp], 2.0, types=2, knots=50)
    np.testing.assert_array_equal(named.energy, listed.energy)
    assert named.pair(1.0, 1, 0)[0] == pytest.approx(np.sin(1.0), abs=1e-8)


def test_kinds_of_arrays() -> None:
    torch = pytest.importorskip("torch")
    x, cell = liquid(4)
    kinds = RNG.integers(0, 2, len(x))
    potential = bumpy(2, 9, 0.2, 1.5)
    want = potential.evaluate(x, cell, True, types=kinds)
    got = potential.evaluate(torch.from_numpy(x), cell, True, types=torch.from_numpy(kinds))
    assert isinstance(got.forces, torch.Tensor) and isinstance(got.virial, torch.Tensor)
    np.testing.assert_array_equal(got.forces.numpy(), want.forces)
    strided = np.repeat(x, 2, axis=0)[::2]
    np.testing.assert_array_equal(
        potential.evaluate(strided, cell, True, types=list(kinds)).forces, want.forces
    )


def test_particles_in_one_place() -> None:
    potential = PairPotential.from_functions(lambda r: (1 - r) ** 2, 1.0, knots=100)
    results = potential.evaluate(np.zeros((3, 3)))
    assert results.energy == pytest.approx(3)
    assert not results.forces.any() and not results.virial.any()


def test_errors() -> None:
    for arguments, message in (
        (([[1.0, 0.0]] * 2, [[0.0, 0.0]] * 2, 1.0), r"1, 3, 6"),
        (([1.0], [0.0], 1.0), "energy"),
        (([1.0, 0.0], [0.0, 0.0, 0.0], 1.0), "slope"),
        (([1.0, np.nan], [0.0, 0.0], 1.0), "energy must be finite"),
        (([1.0, 0.0], [0.0, 0.0], -1.0), "cutoff"),
        (([1.0, 0.0], [0.0, 0.0], 1.0, 1.0), "cutoff"),
        (([1.0, 0.0], [0.0, 0.0], 1.0, -0.5), "first"),
    ):
        with pytest.raises(InvalidArgument, match=message):
            PairPotential(*arguments)  # type: ignore[arg-type]
    for options, message in (
        ({}, "finite from first"),
        ({"first": 3.0}, "first"),
        ({"first": 0.5, "knots": 1}, "knots"),
        ({"first": 0.5, "knots": 10, "tolerance": 1.0}, "not both"),
        ({"first": 0.5, "types": 2}, "3 functions"),
        ({"first": 0.5, "types": 0}, "types"),
    ):
        with (
            np.errstate(divide="ignore", invalid="ignore"),
            pytest.raises(InvalidArgument, match=message),
        ):
            PairPotential.from_functions(lj, 2.5, **options)  # type: ignore[arg-type]
    with pytest.raises(InvalidArgument, match="each pair"):
        PairPotential.from_functions({(0, 0): np.cos}, 2.5, types=2)
    with pytest.raises(InvalidArgument, match="out of reach"):
        PairPotential.from_functions(np.sqrt, 1.0, tolerance=1e-14)
    two = bumpy(2, 4, 0.1, 1.0)
    x = RNG.uniform(0, 1, (4, 3))
    for types, message in (
        (None, "types are needed"),
        ([0, 1, 2, 0], r"0\.\.1"),
        ([0, 1], "shape"),
        ([0.5, 1, 0, 0], "integers"),
    ):
        with pytest.raises(InvalidArgument, match=message):
            two.evaluate(x, types=types)
    x[1, 1] = np.nan
    with pytest.raises(InvalidArgument, match="positions must be finite|must be finite"):
        two.evaluate(x, types=[0, 1, 0, 1])
    with pytest.raises(InvalidArgument, match="must not be negative"):
        two.pair([-1.0])


@pytest.mark.gpu
def test_gpu_matches_cpu() -> None:
    gpu = device_named("cuda")
    x, cell = liquid(6)
    kinds = RNG.integers(0, 3, len(x))
    potential = bumpy(3, 40, 0.3, 2.0)
    want = potential.evaluate(x, cell, True, types=kinds)
    got = potential.evaluate(gpu.put(x), cell, True, types=kinds)
    for name in ("energies", "forces", "virial"):
        np.testing.assert_allclose(
            gpu.get(getattr(got, name)), getattr(want, name), rtol=1e-9, atol=1e-9
        )
