"""Many candidates on one neighbor list: against the oracle, differences and symmetries."""

from __future__ import annotations

import pickle
from typing import Any

import mlcore
import numpy as np
import pytest
import silicon
from ase import Atoms
from mlcore import potentials
from mlcore.potentials import Structures, Tables, evaluate

FORMS = ["lj/cut", "morse", "buck", "sw", "tersoff", "eam"]
CUTOFF = {"lj/cut": 4.4, "morse": 4.4, "buck": 4.4, "sw": 4.4, "tersoff": 3.3, "eam": 4.2}


def tables(count: int, seed: int = 0) -> Tables:
    """Smooth tables of two species."""
    rng = np.random.default_rng(seed)
    rho = np.linspace(0, 4, 60)
    r = np.linspace(0, 4.2, 90)
    a, b, c = rng.uniform(0.8, 1.2, (3, count, 4, 1))
    return Tables(
        embedding=-a[:, :2] * np.sqrt(rho + 0.1) + 0.1 * b[:, :2] * rho,
        density=(b[:, :, None] * np.exp(-((r / (2 * c[:, :, None])) ** 2)) * (4.2 - r) ** 2 / 8)[
            :, [[0, 1], [2, 3]], 0
        ],
        product=20 * a[:, :3] * np.exp(-r / c[:, :3]) * (4.2 - r) ** 3 / 70,
        density_spacing=rho[1],
        radial_spacing=r[1],
        cutoff=4.2,
    )


def candidates(form: str, count: int = 5, seed: int = 0) -> Any:
    """Random candidates of two species, some with other cutoffs."""
    if form == "eam":
        return tables(count, seed)
    rng = np.random.default_rng(seed)
    if form == "sw":
        p = np.repeat(silicon.SW[None, None], 8, 1) * rng.uniform(0.92, 1.08, (count, 8, 10))
        p[..., 9] = rng.uniform(0, 1, (count, 8))
    elif form == "tersoff":
        p = np.repeat(silicon.TERSOFF[None, None], 8, 1) * rng.uniform(0.94, 1.06, (count, 8, 14))
        p[..., 0] = rng.choice([1.0, 3.0], (count, 8))
        p[..., 2] = rng.uniform(-1, 1, (count, 8))
    else:
        typical = {
            "lj/cut": [0.3, 2.2, 4.2],
            "morse": [1.0, 1.4, 2.4, 4.2],
            "buck": [900, 0.3, 9, 4.2],
        }
        p = np.array(typical[form]) * rng.uniform(0.9, 1.04, (count, 3, len(typical[form])))
    return p.reshape(count, -1)


def structures(form: str, skin: float = 0.0) -> Structures:
    names = ["Si", "C"]
    atoms = [
        silicon.slanted(1, 0.1, seed=1, names=names),
        silicon.slanted(1, 0.2, seed=2, names=names),
        Atoms("SiCSiC", positions=[[0, 0, 0], [1.9, 0.3, 0], [0.2, 2.1, 0.4], [2.2, 2.4, 1.5]]),
    ]
    return Structures(atoms, names, CUTOFF[form], skin)


def close(found: Any, wanted: Any, tolerance: float) -> None:
    for name in ("energies", "forces", "stress"):
        one, two = getattr(found, name), getattr(wanted, name)
        finite = np.isfinite(two)
        assert (np.isfinite(one) == finite).all()
        assert np.abs(one - two)[finite].max() <= tolerance * max(1, np.abs(two[finite]).max()), (
            name
        )


@pytest.mark.parametrize("form", FORMS)
def test_oracle(form: str) -> None:
    system, given = structures(form), candidates(form)
    wanted = mlcore.reference.potentials(form, system, given)
    close(evaluate(form, system, given), wanted, 3e-12)
    if form in ("lj/cut", "morse", "buck"):
        shifted = mlcore.reference.potentials(form, system, given, shift=True)
        assert np.abs(shifted.energies - wanted.energies).min() > 1e-3
        close(evaluate(form, system, given, shift=True), shifted, 3e-12)


@pytest.mark.parametrize("form", FORMS)
def test_deformed_and_displaced(form: str) -> None:
    """The same as structures made so; and as the oracle told F and u."""
    rng = np.random.default_rng(5)
    given = candidates(form, 3)
    system = structures(form, skin=1.2)
    F = np.eye(3) + rng.normal(0, 0.02, (3, 3, 3, 3))
    u = rng.normal(0, 0.04, (3, system.atoms[-1], 3))
    found = evaluate(form, system, given, deformation=F, displacements=u)
    close(
        found,
        mlcore.reference.potentials(form, system, given, deformation=F, displacements=u),
        3e-12,
    )
    for c in range(3):
        moved = []
        for s, atoms in enumerate(made()):
            x = atoms.positions @ F[c, s].T + u[c, system.atoms[s] : system.atoms[s + 1]]
            cell = atoms.cell.array @ F[c, s].T
            moved.append((x, cell, atoms.pbc, atoms.get_chemical_symbols()))
        alone = evaluate(form, Structures(moved, ["Si", "C"], CUTOFF[form]), given)
        assert np.abs(found.energies[c] - alone.energies[c]).max() < 1e-10
        assert np.abs(found.forces[c] - alone.forces[c]).max() < 1e-9
        assert np.nanmax(np.abs(found.stress[c] - alone.stress[c])) < 1e-10
    one = evaluate(form, system, given, deformation=F[0, 0], displacements=u[0])
    same = evaluate(
        form, system, given, deformation=np.tile(F[0, 0], (3, 1, 1)), displacements=u[[0] * 3]
    )
    assert np.array_equal(one.forces, same.forces)


def made() -> list[Atoms]:
    """The structures behind `structures`."""
    names = ["Si", "C"]
    return [
        silicon.slanted(1, 0.1, seed=1, names=names),
        silicon.slanted(1, 0.2, seed=2, names=names),
        Atoms("SiCSiC", positions=[[0, 0, 0], [1.9, 0.3, 0], [0.2, 2.1, 0.4], [2.2, 2.4, 1.5]]),
    ]


@pytest.mark.parametrize("form", FORMS)
def test_forces_and_stress_are_slopes_of_energies(form: str) -> None:
    system, given = structures(form, skin=0.1), candidates(form, 2)
    found = evaluate(form, system, given)
    h = 1e-5
    for atom, axis in ((0, 0), (3, 1), (17, 2)):
        u = np.zeros((2, system.atoms[-1], 3))
        energy = []
        for sign in (1, -1):
            u[:, atom, axis] = sign * h
            energy.append(evaluate(form, system, given, displacements=u).energies.sum(1))
        slope = -(energy[0] - energy[1]) / (2 * h)
        assert np.abs(found.forces[:, atom, axis] - slope).max() < 1e-6 * max(
            1, np.abs(slope).max()
        )
    for v, (a, b) in enumerate([(0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1)]):
        energy = []
        for sign in (1, -1):
            strain = np.eye(3)
            strain[a, b] += sign * h / 2
            strain[b, a] += sign * h / 2
            energy.append(evaluate(form, system, given, deformation=strain).energies)
        slope = (energy[0] - energy[1])[:, :2] / (2 * h) / system.volumes[:2]
        assert np.abs(found.stress[:, :2, v] - slope).max() < 1e-7
    assert np.isnan(found.stress[:, 2]).all()


@pytest.mark.parametrize("form", FORMS)
def test_derivatives_by_parameters(form: str) -> None:
    system, given = structures(form), candidates(form, 2, seed=4)
    if form == "eam":
        flat = given.flat()
        rng = np.random.default_rng(1)
        directions = rng.normal(0, 1, (flat.shape[1], 4)) * np.abs(flat[0])[:, None]
        found = evaluate(form, system, given, gradient=directions)
        sizes = np.cumsum([given.embedding[0].size, given.density[0].size])

        def moved(q: int, h: float) -> Any:
            parts = np.split(flat + h * directions[:, q], sizes, axis=1)
            shapes = (given.embedding, given.density, given.product)
            new = [part.reshape(old.shape) for part, old in zip(parts, shapes, strict=True)]
            return Tables(*new, given.density_spacing, given.radial_spacing, given.cutoff)
    else:
        found = evaluate(form, system, given, gradient=True)
        directions = np.eye(given.shape[1])

        def moved(q: int, h: float) -> Any:
            return given + h * directions[:, q]

    plain = evaluate(form, system, given)
    close(found, plain, 1e-12)
    columns = len(potentials.COLUMNS.get(form, ()))
    for q in range(directions.shape[1]):
        if columns and form in ("lj/cut", "morse", "buck") and q % columns == columns - 1:
            for name in ("d_energies", "d_forces"):
                assert (getattr(found, name)[..., q] == 0).all()
            continue
        if form == "tersoff" and q % columns == 0:
            continue  # m is 1 or 3
        size = 1.0 if form == "eam" else np.abs(given[:, q]).max()
        h = 1e-5 * size
        up, down = (evaluate(form, system, moved(q, sign * h)) for sign in (1, -1))
        for name in ("energies", "forces", "stress"):
            slope = (getattr(up, name) - getattr(down, name)) / (2 * h)
            error = np.nan_to_num(getattr(found, f"d_{name}")[..., q] - slope)
            scale = max(
                np.nanmax(np.abs(slope)), 1e-3 * np.nanmax(np.abs(getattr(plain, name))) / size
            )
            assert np.abs(error).max() <= 1e-6 * scale, (q, name)


def test_directions_are_combinations() -> None:
    system, given = structures("sw"), candidates("sw", 3)
    full = evaluate("sw", system, given, gradient=True)
    rng = np.random.default_rng(3)
    for shape in ((80, 4), (3, 80, 4)):
        directions = rng.normal(size=shape)
        part = evaluate("sw", system, given, gradient=directions)
        for name in ("d_energies", "d_forces", "d_stress"):
            each = np.broadcast_to(directions, (3, 80, 4))
            whole = np.einsum("c...p,cpq->c...q", getattr(full, name), each)
            error = np.abs(getattr(part, name) - whole)
            assert np.nanmax(error) < 1e-12 * np.nanmax(np.abs(whole))


@pytest.mark.parametrize("form", FORMS)
def test_a_candidate_is_alone(form: str) -> None:
    """Bits do not depend on the batch, the place in it, or threads."""
    system = structures(form)
    given = candidates(form, 19, seed=2)
    flat = given.flat() if form == "eam" else given
    whole = evaluate(form, system, given, gradient=np.eye(flat.shape[1])[:, :3], num_threads=1)
    threaded = evaluate(form, system, given, gradient=np.eye(flat.shape[1])[:, :3], num_threads=3)
    for one, two in zip(whole, threaded, strict=True):
        assert np.array_equal(one, two, equal_nan=True)
    plain = evaluate(form, system, given, forces=False, stress=False)
    assert plain.forces is None and plain.stress is None and plain.d_energies is None
    assert np.allclose(plain.energies, whole.energies, rtol=1e-13, atol=1e-13)
    if form != "eam":
        for c in (0, 7, 18):
            alone = evaluate(form, system, given[c])
            assert np.array_equal(alone.forces[0], evaluate(form, system, given).forces[c])


@pytest.mark.parametrize("form", ["sw", "tersoff", "lj/cut"])
def test_rotations_and_orders_of_atoms(form: str) -> None:
    given = candidates(form, 2)
    atoms = made()[1]
    turned = atoms.copy()
    turned.rotate(37, (1, 2, -1), rotate_cell=True)
    order = np.random.default_rng(0).permutation(len(atoms))
    found = evaluate(
        form, Structures([atoms, turned, atoms[order]], ["Si", "C"], CUTOFF[form]), given
    )
    assert np.allclose(found.energies, found.energies[:, :1], rtol=0, atol=1e-10)
    n = len(atoms)
    assert np.allclose(found.forces[:, 2 * n :], found.forces[:, :n][:, order], atol=1e-10)
    rotation = np.linalg.solve(atoms.cell.array, turned.cell.array)
    assert np.allclose(found.forces[:, n : 2 * n], found.forces[:, :n] @ rotation, atol=1e-10)
    assert np.abs(found.forces.sum(1)).max() < 1e-9


def test_subsets_and_wanted() -> None:
    system, given = structures("sw"), candidates("sw", 3)
    whole = evaluate("sw", system, given)
    part = evaluate("sw", system.subset([2, 0]), given)
    assert np.array_equal(part.energies, whole.energies[:, [2, 0]])
    assert np.array_equal(
        part.forces, np.concatenate([whole.forces[:, 16:], whole.forces[:, :8]], 1)
    )
    for wanted in ([1], [False, True, False]):
        some = evaluate("sw", system, given, wanted=wanted)
        assert np.allclose(some.energies, whole.energies, rtol=1e-13, atol=0)
        assert np.array_equal(some.forces[:, 8:16], whole.forces[:, 8:16])
        assert np.isnan(some.forces[:, :8]).all() and np.isnan(some.forces[:, 16:]).all()
        assert np.array_equal(some.stress[:, 1], whole.stress[:, 1])
        assert np.isnan(some.stress[:, 0]).all()
    none = evaluate("sw", system, given, wanted=[])
    assert np.isnan(none.forces).all()
    again = evaluate("sw", pickle.loads(pickle.dumps(system)), given)
    assert np.array_equal(again.forces, whole.forces)


def test_sizes_of_nothing() -> None:
    empty = Structures([], ["Si"], 3.0)
    results = evaluate("sw", empty, silicon.sw_candidates(2))
    assert results.energies.shape == (2, 0) and results.forces.shape == (2, 0, 3)
    alone = Structures([Atoms("Si"), Atoms(cell=[5, 5, 5], pbc=True)], ["Si"], 3.0)
    results = evaluate("tersoff", alone, np.zeros((0, 14)))
    assert results.energies.shape == (0, 2)
    results = evaluate("tersoff", alone, silicon.TERSOFF, gradient=True)
    assert (results.energies == 0).all() and (results.forces == 0).all()
    assert (results.d_energies == 0).all() and (results.stress[:, 1] == 0).all()


@pytest.mark.parametrize(
    ("form", "column", "value"),
    [("tersoff", 6, 0.0), ("tersoff", 6, -1.0), ("tersoff", 11, 2.9), ("tersoff", 7, -1e-6),
     ("sw", 3, -1.0), ("sw", 6, -0.1)],
)  # fmt: skip
def test_what_lammps_turns_down_is_nan_alone(form: str, column: int, value: float) -> None:
    system = Structures([silicon.slanted(1)], ["Si"], 6.6)
    given = np.repeat((silicon.TERSOFF if form == "tersoff" else silicon.SW)[None], 3, 0)
    good = evaluate(form, system, given, gradient=True)
    given[1, column] = value
    found = evaluate(form, system, given, gradient=True)
    for one, two in zip(found, good, strict=True):
        assert np.isnan(one[1]).all()
        assert np.array_equal(one[[0, 2]], two[[0, 2]])


def test_hostile_numbers_do_not_reach_others() -> None:
    system = Structures([silicon.slanted(1)], ["Si"], 4.5)
    given = np.repeat(silicon.TERSOFF[None], 4, 0)
    good = evaluate("tersoff", system, given)
    given[1, 4] = 0  # d
    given[2, [3, 9, 13]] = 1e300
    given[3, 10:12] = 0  # R and D
    found = evaluate("tersoff", system, given)
    assert np.array_equal(found.forces[0], good.forces[0])
    assert found.energies[3] == 0


def test_far_cutoffs_name_the_candidate() -> None:
    system = Structures([silicon.slanted(1)], ["Si"], 3.0)
    given = np.repeat(silicon.TERSOFF[None], 4, 0)
    given[2, 10] = 3.1
    with pytest.raises(mlcore.InvalidArgument, match=r"cutoff 3\.25 of candidate 2"):
        evaluate("tersoff", system, given)
    given[2, 10] = 2.85
    assert evaluate("tersoff", system, given, deformation=1.01 * np.eye(3)).energies.shape == (4, 1)
    squeeze = np.diag([1, 1, 0.98])
    with pytest.raises(mlcore.InvalidArgument, match=r"needs neighbors within 3\.06"):
        evaluate("tersoff", system, given, deformation=squeeze)
    with pytest.raises(mlcore.InvalidArgument, match=r"candidate 0"):
        evaluate("tersoff", system, given, displacements=np.full((8, 3), 0.01))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"parameters": np.zeros((2, 13))}, r"parameters must have the shape \(C, 14\)"),
        ({"parameters": np.full((2, 14), np.nan)}, "parameters must be finite"),
        ({"parameters": np.full((2, 14), 2.0)}, "m must be 1 or 3"),
        ({"form": "tersof"}, "form must be"),
        ({"form": "eam"}, "Tables"),
        ({"deformation": np.zeros((3, 3, 3))}, "deformation must have the shape"),
        ({"deformation": np.full((3, 3), np.inf)}, "deformation must be finite"),
        ({"displacements": np.zeros((7, 3))}, "displacements must have the shape"),
        ({"displacements": np.full((8, 3), np.nan)}, "displacements must be finite"),
        ({"gradient": np.zeros((13, 2))}, "gradient must be"),
        ({"gradient": np.full((14, 2), np.nan)}, "directions must be finite"),
        ({"wanted": [1]}, "wanted must be"),
        ({"wanted": [True, False]}, "wanted must be"),
        ({"structures": [silicon.slanted(1)]}, "structures must be"),
        ({"forces": 2}, "forces must be True or False"),
    ],
)
def test_bad_arguments(change: dict[str, Any], message: str) -> None:
    good = {
        "form": "tersoff",
        "structures": Structures([silicon.slanted(1)], ["Si"], 3.0, 0.5),
        "parameters": silicon.TERSOFF,
    }
    with pytest.raises(mlcore.InvalidArgument, match=message):
        evaluate(**(good | change))


def test_bad_structures() -> None:
    atoms = silicon.slanted(1)
    for arguments, message in (
        (([atoms], ["C"], 3.0), r"structure 0 has the species \['Si'\]"),
        (([atoms], "Si", 3.0), "species must be a sequence"),
        (([atoms], ["Si", "Si"], 3.0), "species must differ"),
        (([atoms], ["Si"], 0.0), "cutoff must be positive"),
        (([atoms], ["Si"], 3.0, -1.0), "skin must be"),
        (([atoms.positions], ["Si"], 3.0), "structures must be ase.Atoms or"),
        (([(atoms.positions, None, False, ["Si"])], ["Si"], 3.0), "8 atoms, but 1 species"),
    ):
        with pytest.raises(mlcore.InvalidArgument, match=message):
            Structures(*arguments)
    with pytest.raises(mlcore.InvalidArgument, match=r"structures must lie in 0\.\.0"):
        Structures([atoms], ["Si"], 3.0).subset([1])
