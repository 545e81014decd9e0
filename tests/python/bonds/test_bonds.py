"""BondBasis: against the formula bond by bond, its reference, symmetries, laws of conservation; errors."""

from __future__ import annotations

import pickle
from typing import Any

import formula
import mlcore
import mlcore.reference
import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, graphene, molecule
from devices import device_named
from hypothesis import given, settings
from hypothesis import strategies as st
from mlcore import BondBasis, InvalidArgument
from scipy.spatial.transform import Rotation

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)]


def shaken(atoms: Atoms, by: float, seed: int = 1) -> Atoms:
    atoms = atoms.copy()
    atoms.rattle(by, seed=seed)
    return atoms


SHEET = shaken(graphene(size=(3, 3, 1), vacuum=5), 0.15)
SALT = shaken(bulk("ZnS", "zincblende", 4.0, cubic=True), 0.2)
RING = shaken(molecule("C6H6"), 0.1)
CHAIN = Atoms("C", cell=[1.4, 9, 9], pbc=[True, False, False])  # its neighbors are its images
LATTICE = [[2, 0.4, 0], [0, 2.1, 0.3], [0.5, 0, 2.2]]
SKEW = Atoms("C2", [[0, 0, 0], [1.05, 0.8, 0.7]], cell=LATTICE, pbc=True)
CASES: dict[str, tuple[BondBasis, Atoms]] = {
    "sheet": (BondBasis(2.0), SHEET),
    "second neighbors": (BondBasis(2.7, inner=1.2, radial=7, order=2, turns=2), SHEET),
    "two species": (BondBasis(2.4, species=2), SALT),
    "a molecule": (BondBasis(2.2, species=2, radial=12, order=1, turns=1, degree=1), RING),
    "high powers": (BondBasis(2.0, inner=0, radial=3, order=6, turns=8, knot=-1), SHEET[:8]),
    "images of one atom": (BondBasis(3.0), CHAIN),
    "a cell below the reach": (BondBasis(2.6, order=5, degree=2, decay=1.5, knot=0.2), SKEW),
}


def species_of(basis: BondBasis, atoms: Atoms) -> Any:
    if basis.species == 1:
        return None
    return np.unique(atoms.numbers, return_inverse=True)[1]


def model(basis: BondBasis, seed: int = 3) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.normal(size=basis.shape), rng.uniform(0, 2, basis.seen)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("name", CASES)
def test_is_the_formula(name: str, device: str) -> None:
    there = device_named(device)
    basis, atoms = CASES[name]
    C, middle = model(basis)
    species = species_of(basis, atoms)
    for offset in (None, middle):
        found = basis.evaluate(
            there.put(atoms.positions), C, offset, atoms.cell.array, atoms.pbc, species=species
        )
        want = formula.energies(basis, atoms, C, offset, species)
        scale = np.abs(want).max()
        np.testing.assert_allclose(there.get(found.energies), want, rtol=0, atol=1e-12 * scale)
        assert found.energy == pytest.approx(want.sum(), abs=1e-11 * scale)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("name", CASES)
def test_forces_are_differences_of_the_formula(name: str, device: str) -> None:
    there = device_named(device)
    basis, atoms = CASES[name]
    C, middle = model(basis)
    species = species_of(basis, atoms)
    found = basis.evaluate(
        there.put(atoms.positions), C, middle, atoms.cell.array, atoms.pbc, species=species
    )
    forces = there.get(found.forces)
    scale = np.abs(forces).max() + abs(found.energy)
    for place in np.random.default_rng(2).integers(0, 3 * len(atoms), 3):
        step = np.zeros(3 * len(atoms))
        step[place] = 1e-5
        ends = []
        for sign in (1, -1):
            moved = atoms.copy()
            moved.positions += sign * step.reshape(-1, 3)
            ends.append(formula.energies(basis, moved, C, middle, species).sum())
        assert forces.flat[place] == pytest.approx(-(ends[0] - ends[1]) / 2e-5, abs=1e-7 * scale)


@settings(max_examples=25, deadline=None)
@given(
    n=st.integers(0, 12),
    species=st.integers(1, 3),
    radial=st.integers(1, 16),
    order=st.integers(1, 4),
    turns=st.integers(1, 4),
    degree=st.integers(1, 3),
    inner=st.floats(0, 1.45),
    pbc=st.tuples(st.booleans(), st.booleans(), st.booleans()),
    seed=st.integers(0, 2**32 - 1),
)
def test_matches_reference(
    n: int,
    species: int,
    radial: int,
    order: int,
    turns: int,
    degree: int,
    inner: float,
    pbc: Any,
    seed: int,
) -> None:
    rng = np.random.default_rng(seed)
    basis = BondBasis(1.5, species, inner, radial, order, turns, degree)
    cell = np.diag(rng.uniform(1.5, 4, 3)) + rng.uniform(-0.3, 0.3, (3, 3))
    x, kinds = rng.uniform(0, 3, (n, 3)), rng.integers(0, species, n)
    apart = mlcore.neighbor_list("d", x, 1.5, cell, pbc)
    if len(apart) and apart.min() < 0.05:
        return  # below 0.01 the core's lengths are others
    C, middle = model(basis)
    found = basis.evaluate(x, C, middle, cell, pbc, species=kinds)
    want = mlcore.reference.bonds(basis, x, C, middle, cell, pbc, kinds)
    for name, rtol in (("energies", 1e-12), ("forces", 1e-6)):
        got, truth = getattr(found, name), getattr(want, name)
        scale = np.abs(truth).max(initial=0) + np.abs(want.energies).max(initial=0)
        np.testing.assert_allclose(got, truth, rtol=0, atol=rtol * scale)


@pytest.mark.parametrize("name", ["two species", "sheet", "a molecule"])
def test_turns_mirrors_shifts_and_order_change_nothing(name: str) -> None:
    basis, atoms = CASES[name]
    C, middle = model(basis)
    species = species_of(basis, atoms)
    want = basis.evaluate(atoms, C, middle, species=species)
    order = np.random.default_rng(3).permutation(len(atoms))
    turn = Rotation.random(random_state=4).as_matrix()
    for Q in (turn, -turn):
        moved = Atoms(
            atoms.symbols[order],
            (atoms.positions @ Q.T + [0.3, -2.0, 11.0])[order],
            cell=atoms.cell.array @ Q.T,
            pbc=atoms.pbc,
        )
        kinds = None if species is None else species[order]
        found = basis.evaluate(moved, C, middle, species=kinds)
        scale = np.abs(want.energies).max()
        np.testing.assert_allclose(found.energies, want.energies[order], atol=1e-11 * scale, rtol=0)
        scale = np.abs(want.forces).max()
        np.testing.assert_allclose(
            found.forces, want.forces[order] @ Q.T, atol=1e-11 * scale, rtol=0
        )


@pytest.mark.parametrize("device", DEVICES)
def test_neither_force_nor_torque_on_the_whole(device: str) -> None:
    there = device_named(device)
    basis, atoms = CASES["a molecule"]
    C, middle = model(basis)
    species = species_of(basis, atoms)
    F = there.get(basis.evaluate(there.put(atoms.positions), C, middle, species=species).forces)
    scale = np.abs(F).max()
    np.testing.assert_allclose(F.sum(0), 0, atol=1e-12 * scale)
    np.testing.assert_allclose(np.cross(atoms.positions, F).sum(0), 0, atol=1e-11 * scale)


def test_no_jump_where_bonds_come_and_go() -> None:
    """An atom leaves: energies and forces end with its bonds."""
    basis = BondBasis(2.0)
    C, middle = model(basis)
    pair = np.array([[0.0, 0, 0], [1.2, 0.3, 0]])

    def at(x: float) -> np.ndarray:
        found = basis.evaluate(np.vstack([pair, [x, 0.3, 0.1]]), C, middle)
        return np.append(found.forces.ravel(), found.energies)

    rim = 1.2 + np.sqrt(2.0**2 - 0.1**2)  # from the second; the first is farther
    beyond = at(rim + 1e-9)
    scale = np.abs(beyond).max()
    np.testing.assert_allclose(at(rim - 1e-9), beyond, atol=1e-7 * scale, rtol=0)
    assert np.abs(at(rim - 1e-2) - beyond).max() > 1e-2 * scale


def test_kinds_of_arrays() -> None:
    torch = pytest.importorskip("torch")
    basis, atoms = CASES["two species"]
    C, middle = model(basis)
    species = species_of(basis, atoms)
    want = basis.evaluate(atoms, C, middle, species=species)
    assert isinstance(want.forces, np.ndarray)
    x, cell = atoms.positions, atoms.cell.array
    for kinds in (species.tolist(), species.astype(np.int32), torch.from_numpy(species)):
        found = basis.evaluate(
            torch.from_numpy(x), torch.from_numpy(C), middle, cell, True, species=kinds
        )
        assert isinstance(found.forces, torch.Tensor) and isinstance(found.energies, torch.Tensor)
        np.testing.assert_array_equal(found.forces.numpy(), want.forces)
        np.testing.assert_array_equal(found.energies.numpy(), want.energies)
    strided = np.repeat(x, 2, axis=0)[::2]
    found = basis.evaluate(strided, C.tolist(), middle.tolist(), cell, True, species=species)
    np.testing.assert_array_equal(found.forces, want.forces)


def test_threads_change_nothing() -> None:
    sheet = shaken(graphene(size=(12, 12, 1), vacuum=5), 0.1)
    basis = BondBasis(2.0)
    C, middle = model(basis)
    one = basis.evaluate(sheet, C, middle, num_threads=1)
    for threads in (2, 5):
        many = basis.evaluate(sheet, C, middle, num_threads=threads)
        np.testing.assert_array_equal(many.energies, one.energies)
        np.testing.assert_array_equal(many.forces, one.forces)


@pytest.mark.parametrize("device", DEVICES)
def test_nobody_and_nothing_around(device: str) -> None:
    there = device_named(device)
    basis = BondBasis(2.0)
    C, middle = model(basis)
    assert basis.evaluate(there.put(np.zeros((0, 3))), C).forces.shape == (0, 3)
    alone = basis.evaluate(there.put(np.array([[0.0, 0, 0], [9, 0, 0]])), C, middle)
    assert alone.energy == 0 and not there.get(alone.forces).any()


def test_shapes_and_copies() -> None:
    basis = BondBasis(2.5, species=2, radial=4, order=2, turns=3, degree=1)
    names = list(formula.products(basis))
    assert basis.seen == 10 and basis.shape == (16, len(names))
    # 1, n, a of two kinds; up to three of eight n and b; up to two of four n, six times
    assert len(names) == 9 + 82 + 6 * 9
    assert BondBasis(2.0).inner == 1.7 and BondBasis(2.0, inner=0).inner == 0
    again = pickle.loads(pickle.dumps(basis))
    assert repr(again) == repr(basis) and again.shape == basis.shape


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"reach": 0.0}, "reach"),
        ({"reach": np.inf}, "reach"),
        ({"species": 0}, "species"),
        ({"radial": 17}, r"radial must lie in 1\.\.16"),
        ({"order": 7}, r"order must lie in 1\.\.6"),
        ({"order": 1.5}, "order"),
        ({"turns": 9}, r"turns must lie in 1\.\.8"),
        ({"degree": 4}, r"degree must lie in 1\.\.3"),
        ({"inner": 2.0}, "inner must be a length from 0 to below the reach"),
        ({"inner": np.nan}, "inner"),
        ({"decay": 17.0}, "decay"),
        ({"knot": 1.0}, "knot"),
        ({"species": 12}, "at most 64"),
        ({"species": 8, "order": 5}, "columns of coefficients, at most 4096"),
    ],
)
def test_bases_out_of_range(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        BondBasis(**({"reach": 2.0} | options))


@pytest.mark.parametrize("device", DEVICES)
def test_errors(device: str) -> None:
    there = device_named(device)
    basis = BondBasis(2.4, species=2)
    C, middle = model(basis)
    species = species_of(basis, SALT)
    wrong = C.copy()
    wrong[3, 4] = np.nan
    here = SALT.positions.copy()
    here[1, 1] = np.inf
    usual: dict[str, Any] = {
        "positions": SALT.positions,
        "coefficients": C,
        "middle": middle,
        "species": species,
    }
    for change, message in (
        ({"coefficients": C[:-1]}, "coefficients must have the length 20"),
        ({"coefficients": C[0]}, "coefficients"),
        ({"coefficients": wrong}, "coefficients must be finite"),
        ({"middle": middle[1:]}, "middle must have the length 12"),
        ({"species": None}, "species are needed"),
        ({"species": species[1:]}, "species must have the shape"),
        ({"species": species + 1}, r"species must lie in 0\.\.1"),
        ({"species": species + 0.5}, "species"),
        ({"positions": here}, "finite"),
        ({"positions": SALT.positions[:, :2]}, "positions"),
    ):
        call = usual | change
        with pytest.raises(InvalidArgument, match=message):
            basis.evaluate(
                there.put(call["positions"]),
                call["coefficients"],
                call["middle"],
                SALT.cell.array,
                True,
                species=call["species"],
            )


def test_pairs_from_one_end_only_are_refused() -> None:
    from mlcore import _core

    basis = BondBasis(2.0)
    C, middle = model(basis)
    rows = _core.BondRows(
        np.array([0, 1, 1]), np.array([1], np.int32), np.array([[1.0, 0, 0]]), None
    )
    with pytest.raises(InvalidArgument, match="from both ends"):
        basis.core.evaluate(C, middle, rows, energies=np.empty(2))
