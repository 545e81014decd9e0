"""Neighbor lists against brute force, ASE and matscipy."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import ase
import ase.build
import ase.neighborlist
import mlcore
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mlcore import _core
from mlcore.errors import InvalidArgument
from mlcore.neighbors import neighbor_csr

matscipy_neighbours = pytest.importorskip("matscipy.neighbours")

CELLS = {
    "orthogonal": np.diag([5.0, 6.0, 7.0]),
    "triclinic": np.array([[5.0, 0, 0], [2, 6, 0], [-3, 2, 7]]),
    "left-handed": np.array([[0, 6.0, 0.5], [5, 0.3, 0], [0.2, 0, 7]]),
    "skewed": np.array([[5.0, 0.1, 0.2], [14, 6, 0.3], [-9, 11, 7]]),
}
BOUNDARIES = [(a, b, c) for a in (False, True) for b in (False, True) for c in (False, True)]


def reference(
    positions: Any,
    cutoff: float,
    cell: Any = None,
    pbc: Any = False,
    half: bool = False,
    self_pairs: bool = False,
) -> tuple[np.ndarray, ...]:
    """Brute force in C++: the definition of the pair set."""
    cell = np.zeros((3, 3)) if cell is None else np.asarray(cell, float)
    return _core.neighbor_list_reference(
        "ijSDd",
        np.asarray(positions, float).reshape(-1, 3),
        cell,
        tuple(np.broadcast_to(pbc, 3).tolist()),
        _core.NeighborCutoff(cutoff),
        _core.NeighborOptions(half, True, self_pairs),
    )


def assert_same(found: tuple[np.ndarray, ...], expected: tuple[np.ndarray, ...]) -> None:
    assert len(found) == len(expected)
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_array_equal(a, b)


def pair_set(i: Any, j: Any, S: Any) -> list[tuple[int, ...]]:
    return sorted(map(tuple, np.column_stack([i, j, S]).astype(int).tolist()))


def numpy_pairs(x: np.ndarray, cell: np.ndarray, pbc: Any, cutoff: float) -> list[tuple[int, ...]]:
    """Brute force in NumPy, of its own making: every image in a generous range."""
    span = [range(-9, 10) if p else range(1) for p in pbc]
    found = []
    for S in np.array(np.meshgrid(*span)).T.reshape(-1, 3):
        d = np.linalg.norm(x[None] - x[:, None] + S @ cell, axis=-1)
        i, j = np.nonzero(d < cutoff)
        keep = (i != j) | S.any()
        found += [(a, b, *S) for a, b in zip(i[keep], j[keep], strict=True)]
    return sorted(tuple(int(v) for v in pair) for pair in found)


@pytest.mark.parametrize("cell", CELLS.values(), ids=CELLS)
@pytest.mark.parametrize("pbc", BOUNDARIES)
@pytest.mark.parametrize("cutoff", [1.3, 4.1, 8.7])
def test_every_cell_and_boundary(cell: np.ndarray, pbc: tuple[bool, ...], cutoff: float) -> None:
    x = np.random.default_rng(1).uniform(-1.5, 2.5, (7 if cutoff > 5 else 40, 3)) @ cell
    found = mlcore.neighbor_list("ijSDd", x, cutoff, cell, pbc)
    assert_same(found, reference(x, cutoff, cell, pbc))
    i, j, S, D, d = found
    np.testing.assert_allclose(x[j] - x[i] + S @ cell, D, rtol=0, atol=1e-12)
    np.testing.assert_allclose(np.linalg.norm(D, axis=1), d, rtol=1e-14)
    assert (d < cutoff).all()
    assert not S[:, ~np.array(pbc)].any()


@pytest.mark.parametrize("cell", CELLS.values(), ids=CELLS)
@pytest.mark.parametrize("pbc", [(1, 1, 1), (0, 1, 0), (1, 0, 1)])
def test_against_numpy(cell: np.ndarray, pbc: tuple[int, ...]) -> None:
    x = np.random.default_rng(2).uniform(-0.5, 1.5, (25, 3)) @ cell
    for cutoff in (2.0, 7.5):
        i, j, S = mlcore.neighbor_list("ijS", x, cutoff, cell, np.array(pbc, bool))
        assert pair_set(i, j, S) == numpy_pairs(x, cell, pbc, cutoff)


@pytest.mark.parametrize("pbc", BOUNDARIES)
@pytest.mark.parametrize("cutoff", [2.1, 5.0])
def test_against_ase_and_matscipy(pbc: tuple[bool, ...], cutoff: float) -> None:
    atoms = ase.build.bulk("Cu", cubic=True) * (2, 3, 1)
    atoms.pbc = pbc
    atoms.set_cell(atoms.cell[:] @ [[1, 0.2, 0], [0, 1, -0.1], [0.3, 0, 1]], scale_atoms=True)
    atoms.rattle(0.2, rng=np.random.default_rng(3))
    found = pair_set(*mlcore.neighbor_list("ijS", atoms, cutoff))
    assert found == pair_set(*ase.neighborlist.neighbor_list("ijS", atoms, cutoff))
    assert found == pair_set(*matscipy_neighbours.neighbour_list("ijS", atoms, cutoff))
    with_self = pair_set(*mlcore.neighbor_list("ijS", atoms, cutoff, self_pairs=True))
    assert with_self == pair_set(
        *ase.neighborlist.neighbor_list("ijS", atoms, cutoff, self_interaction=True)
    )


def test_radii_and_dict_against_ase() -> None:
    atoms = ase.build.bulk("NaCl", "rocksalt", a=5.64, cubic=True) * (2, 2, 2)
    atoms.rattle(0.1, rng=np.random.default_rng(0))
    radii = np.where(atoms.numbers == 11, 1.2, 1.9)
    by_pair = {("Na", "Cl"): 3.0, (17, 17): 4.2}
    for cutoff in (radii, by_pair):
        expected = pair_set(*ase.neighborlist.neighbor_list("ijS", atoms, cutoff))
        assert pair_set(*mlcore.neighbor_list("ijS", atoms, cutoff)) == expected
        assert expected
    types = (atoms.numbers == 17).astype(int)
    table = np.array([[0, 3.0], [3.0, 4.2]])
    x, cell = atoms.positions, atoms.cell
    found = mlcore.neighbor_list("ijS", x, table, cell, True, types=types)
    assert pair_set(*found) == expected
    found = mlcore.neighbor_list("ijS", x, {(0, 1): 3.0, (1, 1): 4.2}, cell, True, types=types)
    assert pair_set(*found) == expected


@st.composite
def systems(draw: st.DrawFn) -> dict[str, Any]:
    seed = draw(st.integers(0, 2**32 - 1))
    rng = np.random.default_rng(seed)
    n = draw(st.integers(0, 40))
    cell = np.diag(rng.uniform(1.5, 6, 3)) + draw(st.floats(0, 1.2)) * rng.normal(size=(3, 3))
    if abs(np.linalg.det(cell)) < 1.5:
        cell = np.diag([2.0, 3.0, 4.0])
    pbc = tuple(draw(st.booleans()) for _ in range(3))
    x = rng.uniform(*draw(st.sampled_from([(0, 1), (-0.5, 1.5), (-30, 30)])), (n, 3)) @ cell
    if draw(st.booleans()):  # ties: a lattice of positions, so that distances meet the cutoff
        x = np.round(2 * x) / 2
    cutoff = draw(st.sampled_from([0.5, 1.0, 1.5, 2.0]) | st.floats(0.1, 4))
    return {"positions": x, "cell": cell, "pbc": pbc, "cutoff": cutoff}


@settings(max_examples=150, deadline=None)
@given(systems(), st.booleans(), st.booleans(), st.sampled_from([1, 2, 7]))
def test_equals_brute_force(
    system: dict[str, Any], half: bool, self_pairs: bool, num_threads: int
) -> None:
    found = mlcore.neighbor_list(
        "ijSDd", **system, half=half, self_pairs=self_pairs, num_threads=num_threads
    )
    assert_same(found, reference(**system, half=half, self_pairs=self_pairs))


@settings(max_examples=50, deadline=None)
@given(systems())
def test_full_list_is_symmetric_and_half_is_half(system: dict[str, Any]) -> None:
    i, j, S, D = mlcore.neighbor_list("ijSD", **system)
    assert pair_set(i, j, S) == pair_set(j, i, -S)
    hi, hj, hS, _hD = mlcore.neighbor_list("ijSD", **system, half=True)
    assert 2 * len(hi) == len(i)
    both = pair_set(np.r_[hi, hj], np.r_[hj, hi], np.r_[hS, -hS])
    assert both == pair_set(i, j, S)
    back = np.lexsort(np.column_stack([j, i, -S]).T[::-1])
    np.testing.assert_array_equal(D, -D[back])


@settings(max_examples=50, deadline=None)
@given(systems())
def test_order(system: dict[str, Any]) -> None:
    i, j, S = mlcore.neighbor_list("ijS", **system)
    rows = np.column_stack([i, j, S])
    np.testing.assert_array_equal(rows, rows[np.lexsort(rows.T[::-1])])
    loose = mlcore.neighbor_list("ijS", **system, sorted=False)
    np.testing.assert_array_equal(loose[0], i)
    assert pair_set(*loose) == pair_set(i, j, S)
    assert_same(mlcore.neighbor_list("ijS", **system, sorted=False, num_threads=5), loose)


@settings(max_examples=30, deadline=None)
@given(systems(), st.floats(0, 1), st.floats(0.01, 0.3))
def test_list_equals_fresh_search(system: dict[str, Any], skin: float, step: float) -> None:
    neighbors = mlcore.NeighborList(system["cutoff"], skin)
    rng = np.random.default_rng(0)
    x = system["positions"]
    at_search = None
    for _ in range(5):
        searched = neighbors.update(x, system["cell"], system["pbc"])
        if at_search is not None:
            far = np.linalg.norm(x - at_search, axis=1).max(initial=0)
            assert searched == (far > skin / 2) or abs(far - skin / 2) < 1e-9
        at_search = x if searched else at_search
        assert_same(
            neighbors.get("ijSDd"), reference(x, system["cutoff"], system["cell"], system["pbc"])
        )
        x = x + rng.uniform(-step, step, x.shape)


def test_list_counts_searches_and_takes_atoms() -> None:
    atoms = ase.build.bulk("Ar", cubic=True) * 3
    neighbors = mlcore.NeighborList(4.0, skin=1.0, half=True)
    assert len(neighbors) == 0
    with pytest.raises(InvalidArgument, match="update"):
        neighbors.get("i")
    assert neighbors.update(atoms)
    atoms.positions[0] += [0.2, 0.2, 0.2]
    assert not neighbors.update(atoms)
    assert_same(neighbors.get("ijS"), mlcore.neighbor_list("ijS", atoms, 4.0, half=True))
    atoms.positions[0] += 0.2
    assert neighbors.update(atoms)
    assert neighbors.searches == 2
    offsets, j, S = neighbors.csr()
    assert_same((offsets, j, S), neighbor_csr(atoms, 4.0, half=True))
    assert len(neighbors) == len(j) == offsets[-1]


def test_csr() -> None:
    atoms = ase.build.bulk("Fe", cubic=True) * 2
    i, j, S = mlcore.neighbor_list("ijS", atoms, 3.0)
    offsets, columns, shifts = neighbor_csr(atoms, 3.0)
    np.testing.assert_array_equal(np.diff(offsets), np.bincount(i, minlength=len(atoms)))
    assert_same((columns, shifts), (j, S))
    assert offsets.dtype == np.int64


def test_primitive_cells_have_many_images() -> None:
    atoms = ase.build.bulk("Cu")
    i, d = mlcore.neighbor_list("id", atoms, 10.0)
    assert_same((d,), reference(atoms.positions, 10.0, atoms.cell[:], True)[4:])
    assert len(i) == len(ase.neighborlist.neighbor_list("i", atoms, 10.0))


def test_kinds_and_dtypes() -> None:
    torch = pytest.importorskip("torch")
    x = np.random.default_rng(0).uniform(0, 4, (30, 3))
    expected = mlcore.neighbor_list("ijSDd", x, 1.5, [4, 4, 4], True)
    assert [a.dtype for a in expected] == [np.int32] * 3 + [np.float64] * 2
    assert [a.shape for a in expected] == [(len(expected[0]), *s) for s in ((), (), (3,), (3,), ())]
    assert mlcore.neighbor_list("i", x, 1.5, index_dtype="int64").dtype == np.int64
    found = mlcore.neighbor_list("ijSDd", torch.from_numpy(x), 1.5, torch.full((3,), 4.0), True)
    assert all(isinstance(a, torch.Tensor) for a in found)
    assert_same(tuple(a.numpy() for a in found), expected)
    for same in (x.tolist(), np.asfortranarray(x), np.repeat(x, 2, axis=0)[::2], x[::-1][::-1]):
        assert_same(mlcore.neighbor_list("ijSDd", same, 1.5, np.diag([4] * 3), True), expected)
    single = x.astype(np.float32)
    assert_same(
        mlcore.neighbor_list("ijSDd", single, 1.5, [4, 4, 4], True),
        mlcore.neighbor_list("ijSDd", single.astype(float), 1.5, [4, 4, 4], True),
    )


def test_gradients_flow_from_tensors() -> None:
    torch = pytest.importorskip("torch")
    x = torch.rand((12, 3), dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * 3
    x.requires_grad_()

    def vectors(x: Any) -> Any:
        return mlcore.neighbor_list("Dd", x, 1.2, [3, 3, 3], True)

    assert torch.autograd.gradcheck(vectors, (x,))
    d = mlcore.neighbor_list("d", x, 1.2, [3, 3, 3], True, self_pairs=True)
    (gradient,) = torch.autograd.grad((d * d).sum(), x)
    assert torch.isfinite(gradient).all()
    assert not mlcore.neighbor_list("d", x.detach(), 1.2).requires_grad


@pytest.mark.parametrize("empty", [[], np.zeros((0, 3)), ase.Atoms()])
def test_no_particles(empty: Any) -> None:
    found = mlcore.neighbor_list("ijSDd", empty, 1.0)
    assert [a.shape for a in found] == [(0,), (0,), (0, 3), (0, 3), (0,)]


def test_one_particle() -> None:
    assert len(mlcore.neighbor_list("i", [[0, 0, 0]], 5.0)) == 0
    i, j, S, d = mlcore.neighbor_list("ijSd", [[9, 9, 9]], 1.1, [1, 3, 3], True, self_pairs=True)
    assert pair_set(i, j, S) == [(0, 0, -1, 0, 0), (0, 0, 0, 0, 0), (0, 0, 1, 0, 0)]
    np.testing.assert_array_equal(d, [1, 0, 1])


def test_cutoff_zero_finds_nothing() -> None:
    assert len(mlcore.neighbor_list("i", [[0, 0, 0], [0, 0, 0]], 0.0, self_pairs=True)) == 0


def test_open_axis_may_have_no_vector() -> None:
    x = np.random.default_rng(5).uniform(-3, 3, (50, 3))
    slab = np.array([[4.0, 1, 0], [0, 5, 0], [0, 0, 0]])
    found = mlcore.neighbor_list("ijSDd", x, 2.0, slab, (True, True, False))
    assert_same(found, reference(x, 2.0, slab, (True, True, False)))
    slab[2] = [1, 1, 30]
    assert_same(mlcore.neighbor_list("ijSDd", x, 2.0, slab, (True, True, False)), found)
    assert_same(mlcore.neighbor_list("ijSDd", x, 2.0, slab), reference(x, 2.0))


@pytest.mark.parametrize(
    ("change", "names"),
    [
        ({"positions": [[0, 0, np.nan]]}, "positions"),
        ({"positions": [[0, 0, np.inf]]}, "positions"),
        ({"positions": [[0, 0]]}, "positions"),
        ({"positions": [1.0, 2.0, 3.0]}, "positions"),
        ({"positions": [["a", "b", "c"]]}, "positions"),
        ({"positions": np.zeros((2, 3), complex)}, "positions"),
        ({"cutoff": -1.0}, "cutoff"),
        ({"cutoff": np.nan}, "cutoff"),
        ({"cutoff": np.inf}, "cutoff"),
        ({"cutoff": [1.0]}, "radii"),
        ({"cutoff": [1.0, -2.0]}, "radii"),
        ({"cutoff": np.ones((2, 2, 2))}, "cutoff"),
        ({"cutoff": {(0, 0): 1.0}}, "types"),
        ({"cutoff": {(0, 0): 1.0}, "types": [0.5, 1]}, "types"),
        ({"cutoff": {(0, 0): np.nan}, "types": [0, 1]}, "cutoff"),
        ({"cutoff": {(0, 1): 1.0, (1, 0): 2.0}, "types": [0, 1]}, "cutoff"),
        ({"cutoff": {("Xq", 0): 1.0}, "types": [0, 1]}, "Xq"),
        ({"cutoff": {3: 1.0}, "types": [0, 1]}, "keys"),
        ({"cutoff": np.array([[1, 2], [3, 1]]), "types": [0, 1]}, "symmetric"),
        ({"cutoff": np.ones((2, 2)), "types": [0, 2]}, "types"),
        ({"cell": np.eye(2)}, "cell"),
        ({"cell": np.full((3, 3), np.nan), "pbc": True}, "cell"),
        ({"pbc": True}, "cell"),
        ({"cell": np.ones((3, 3)), "pbc": True}, "dependent|parallel"),
        ({"cell": [1e-3, 1, 1], "pbc": True}, "cutoff"),
        ({"pbc": [True, False]}, "pbc"),
        ({"quantities": "ijx"}, "quantities"),
        ({"quantities": ""}, "quantities"),
        ({"index_dtype": "int16"}, "index_dtype"),
        ({"num_threads": -1}, "num_threads"),
    ],
)
def test_bad_input_is_named(change: dict[str, Any], names: str) -> None:
    good = {"quantities": "ij", "positions": [[0, 0, 0], [1, 0, 0]], "cutoff": 2.0}
    with pytest.raises(InvalidArgument, match=names):
        mlcore.neighbor_list(**{**good, **change})


def test_reference_takes_the_same_defaults() -> None:
    x, cell = [[0.1, 0.0, 0.0], [2.9, 0.0, 0.0]], [3.0, 3.0, 3.0]
    for pbc in (None, True):
        found = mlcore.neighbor_list("ijSDd", x, 1.0, cell, pbc)
        assert_same(found, mlcore.reference.neighbor_list("ijSDd", x, 1.0, cell, pbc))


def test_unknown_gpu_arrays_are_refused() -> None:
    class OnGpu:
        @property
        def __cuda_array_interface__(self) -> dict[str, Any]:
            return {"shape": (1, 3)}

    with pytest.raises(InvalidArgument, match="CuPy"):
        mlcore.neighbor_list("i", OnGpu(), 1.0)


SAME_PAIRS = """
import hashlib, numpy as np, mlcore
x = np.random.default_rng(0).uniform(-3, 12, (3000, 3))
x[1000:2000] = np.round(x[1000:2000])
digest = hashlib.sha256()
for options in ({}, dict(half=True), dict(sorted=False)):
    for threads in (1, 3):
        arrays = mlcore.neighbor_list("ijSDd", x, 2.0, [[9, 0, 0], [2, 9, 0], [1, 1, 9]],
                                      (True, True, False), num_threads=threads, **options)
        for array in arrays:
            digest.update(np.ascontiguousarray(array).tobytes())
print(mlcore._core.simd_level(), digest.hexdigest())
"""


def test_same_bits_at_every_instruction_set() -> None:
    results = {}
    for level in ("baseline", "avx2", "avx512"):
        run = subprocess.run(
            [sys.executable, "-c", SAME_PAIRS],
            env={**os.environ, "MLCORE_SIMD": level},
            capture_output=True,
            text=True,
            check=True,
        )
        used, digest = run.stdout.split()
        results[used] = digest
    assert len(set(results.values())) == 1, results
