"""Other forms of the list: matrix, batches, the caller's arrays, float32, GPU; and its memory."""

from __future__ import annotations

import copy
import itertools
import pickle
from typing import Any

import ase
import ase.build
import mlcore
import numpy as np
import pytest
from devices import device_named
from hypothesis import given, settings
from hypothesis import strategies as st
from memory import peak_extra
from mlcore.errors import InvalidArgument
from mlcore.neighbors import neighbor_batch, neighbor_csr, neighbor_matrix

CELL = np.array([[5.0, 0, 0], [2, 6, 0], [-3, 2, 7]])


def positions(n: int = 60, seed: int = 1, low: float = -0.5, high: float = 1.5) -> np.ndarray:
    return np.random.default_rng(seed).uniform(low, high, (n, 3)) @ CELL


def pickled(value: Any) -> Any:
    return pickle.loads(pickle.dumps(value))


def assert_same(found: Any, expected: Any) -> None:
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_array_equal(a, b)


# ------------------------------------------------------------------------------------------ matrix
@settings(max_examples=40, deadline=None)
@given(st.integers(0, 40), st.floats(0.3, 3.5), st.booleans(), st.sampled_from([1, 2, 7]))
def test_matrix_holds_the_rows(n: int, cutoff: float, half: bool, threads: int) -> None:
    x = positions(n)
    options: dict[str, Any] = {"half": half, "num_threads": threads}
    offsets, j, S = neighbor_csr(x, cutoff, CELL, True, **options)
    needed = int(np.diff(offsets).max(initial=0))
    for width in (None, needed, needed + 3):
        rows, counts, shifts = neighbor_matrix(x, cutoff, width, CELL, True, **options)
        width = needed if width is None else width
        assert rows.shape == (n, width) and shifts.shape == (n, width, 3)
        assert rows.dtype == shifts.dtype == np.int32 and counts.dtype == np.int64
        np.testing.assert_array_equal(counts, np.diff(offsets))
        filled = np.arange(width) < counts[:, None]
        np.testing.assert_array_equal(rows[filled], j)
        np.testing.assert_array_equal(shifts[filled], S)
        assert (rows[~filled] == n).all() and not shifts[~filled].any()


def test_matrix_fills_the_callers_arrays_with_the_callers_number() -> None:
    x = positions(30)
    shapes = {(30, 80): np.int32, (30,): np.int64, (30, 80, 3): np.int32}
    out = tuple(np.full(shape, 99, dtype) for shape, dtype in shapes.items())
    found = neighbor_matrix(x, 2.0, cell=CELL, pbc=True, fill=-1, out=out)
    assert all(a is b for a, b in zip(found, out, strict=True))
    assert_same(found, neighbor_matrix(x, 2.0, 80, CELL, True, fill=-1))
    assert found[0].min() == -1


def test_matrix_too_narrow_tells_what_is_needed() -> None:
    x = positions(50)
    needed = int(neighbor_matrix(x, 2.5, cell=CELL, pbc=True)[1].max())
    with pytest.raises(InvalidArgument, match=f"max_neighbors must be at least {needed},"):
        neighbor_matrix(x, 2.5, needed - 1, CELL, True)
    with pytest.raises(InvalidArgument, match="max_neighbors"):
        neighbor_matrix(x, 2.5, -1, CELL, True)
    with pytest.raises(InvalidArgument, match="max_neighbors"):
        neighbor_matrix(x, 2.5, 2**60, CELL, True)
    with pytest.raises(InvalidArgument, match="out"):
        neighbor_matrix(x, 2.5, cell=CELL, pbc=True, out=(np.zeros((50, 99), np.int32),))


# ----------------------------------------------------------------------------------------- batches
@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.integers(0, 25), max_size=12),
    st.booleans(),
    st.sampled_from([1, 2, 7]),
    st.integers(0, 2**32 - 1),
)
def test_batch_holds_each_list(sizes: list[int], half: bool, threads: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    offsets = np.concatenate([[0], np.cumsum(sizes)]).astype(int)
    cells = CELL * rng.uniform(0.7, 1.4, (len(sizes), 1, 1))
    pbc = rng.integers(0, 2, (len(sizes), 3)).astype(bool)
    x = rng.uniform(-0.5, 1.5, (int(offsets[-1]), 3)) @ CELL
    options: dict[str, Any] = {"half": half, "num_threads": threads}
    batch = neighbor_batch("ijSDd", x, 2.2, cells, pbc, batch_offsets=offsets, **options)
    np.testing.assert_array_equal(batch.particles, offsets)
    assert batch.pairs[-1] == len(batch.arrays[0])
    for s, (begin, end) in enumerate(itertools.pairwise(offsets)):
        i, j, S, D, d = mlcore.neighbor_list("ijSDd", x[begin:end], 2.2, cells[s], pbc[s], half)
        part = [a[batch.pairs[s] : batch.pairs[s + 1]] for a in batch.arrays]
        assert_same(part, (i + begin, j + begin, S, D, d))


def test_batch_of_atoms_with_cutoffs_by_element() -> None:
    systems = [
        ase.build.bulk("NaCl", "rocksalt", a=5.64, cubic=True),
        ase.build.molecule("CH3CH2OH"),
        ase.Atoms(),
        ase.build.bulk("Cu") * 2,
    ]
    cutoff = {("Na", "Cl"): 3.0, ("C", "H"): 1.3, ("C", "C"): 1.7, ("Cu", "Cu"): 2.7}
    batch = neighbor_batch("ijd", systems, cutoff)
    for s, atoms in enumerate(systems):
        i, j, d = mlcore.neighbor_list("ijd", atoms, cutoff)
        part = [a[batch.pairs[s] : batch.pairs[s + 1]] for a in batch.arrays]
        assert_same(part, (i + batch.particles[s], j + batch.particles[s], d))
    radii = np.concatenate([np.full(len(atoms), 1.4) for atoms in systems])
    by_radius = neighbor_batch("i", systems, radii)
    assert len(by_radius.arrays[0]) == sum(
        len(mlcore.neighbor_list("i", atoms, np.full(len(atoms), 1.4)))
        for atoms in systems
        if atoms
    )


def test_batch_of_tensors_and_their_gradients() -> None:
    torch = pytest.importorskip("torch")
    x = torch.from_numpy(positions(20)).requires_grad_()
    cells = torch.from_numpy(np.stack([CELL, 1.1 * CELL])).requires_grad_()

    def lengths(x: Any, cells: Any) -> Any:
        return neighbor_batch("d", x, 2.0, cells, True, batch_offsets=[0, 8, 20]).arrays[0]

    assert isinstance(lengths(x, cells), torch.Tensor)
    assert torch.autograd.gradcheck(lengths, (x, cells))


@pytest.mark.parametrize(
    ("change", "names"),
    [
        ({"batch_offsets": [0, 5]}, "batch_offsets"),
        ({"batch_offsets": [0, 8, 5, 20]}, "batch_offsets"),
        ({"batch_offsets": [1, 20]}, "batch_offsets"),
        ({"batch_offsets": []}, "batch_offsets"),
        ({"batch_offsets": [0, 9.5, 20]}, "batch_offsets"),
        ({"batch_offsets": None}, "batch"),
        ({"cell": np.stack([CELL] * 3)}, "cell"),
        ({"cell": None, "pbc": [[True] * 3] * 2}, "cell"),
        ({"pbc": [[True] * 3] * 3}, "pbc"),
        ({"cell": np.full((2, 3, 3), np.nan)}, "cell"),
    ],
)
def test_bad_batches_are_named(change: dict[str, Any], names: str) -> None:
    good: dict[str, Any] = {
        "positions": positions(20),
        "cutoff": 1.0,
        "cell": CELL,
        "pbc": True,
        "batch_offsets": [0, 8, 20],
    }
    with pytest.raises(InvalidArgument, match=names):
        neighbor_batch("ij", **{**good, **change})


# ------------------------------------------------------------------------------- arrays and dtypes
def test_the_callers_arrays() -> None:
    x = positions()
    expected = mlcore.neighbor_list("ijSDd", x, 2.0, CELL, True)
    p = len(expected[0])
    shapes = [(p + 7, *a.shape[1:]) for a in expected]
    out = [np.full(s, 7, a.dtype) for s, a in zip(shapes, expected, strict=True)]
    found = mlcore.neighbor_list("ijSDd", x, 2.0, CELL, True, out=out)
    assert_same(found, expected)
    assert all(np.shares_memory(a, b) for a, b in zip(found, out, strict=True))
    assert all((a[p:] == 7).all() for a in out)
    d = np.empty(p)
    assert mlcore.neighbor_list("d", x, 2.0, CELL, True, out=d).base is d
    moving = mlcore.NeighborList(2.0, 0.5)
    moving.update(x, CELL, True)
    assert_same(moving.get("ijSDd", out=out), expected)


@pytest.mark.parametrize("letters", ["jS", "j", "dDi"])
def test_the_callers_rows(letters: str) -> None:
    x = positions()
    where: dict[str, Any] = {"cell": CELL, "pbc": True, "quantities": letters}
    expected = neighbor_csr(x, 2.0, **where)
    p = len(expected[1])
    offsets = np.empty(len(x) + 1, np.int64)
    out = [offsets, *(np.full((p + 5, *a.shape[1:]), 7, a.dtype) for a in expected[1:])]
    found = neighbor_csr(x, 2.0, **where, out=out)
    assert found[0] is offsets
    assert all(np.shares_memory(a, b) for a, b in zip(found, out, strict=True))
    assert_same(found, expected)
    moving = mlcore.NeighborList(2.0, 0.5)
    moving.update(x, CELL, True)
    for array in out:
        array.fill(9)
    assert_same(moving.csr(letters, out=out), expected)
    assert all((a[p:] == 9).all() for a in out[1:])
    for wrong in (out[:-1], [], [offsets[:-1], *out[1:]], [offsets.astype(float), *out[1:]],
                  [offsets, *(a[:3] for a in out[1:])], [None, *out[1:-1]]):  # fmt: skip
        with pytest.raises(InvalidArgument, match="out"):
            neighbor_csr(x, 2.0, **where, out=wrong)
        with pytest.raises(InvalidArgument, match="out"):
            moving.csr(letters, out=wrong)
    buffer = np.zeros(len(offsets) + p + 5, np.int64)
    halves = buffer[: len(offsets)], buffer[3:].view(np.int32)
    with pytest.raises(InvalidArgument, match="share memory"):
        neighbor_csr(x, 2.0, CELL, True, quantities="j", out=halves)


def test_the_callers_arrays_of_a_batch() -> None:
    x = positions()
    where: dict[str, Any] = {"cell": CELL, "pbc": True, "batch_offsets": [0, 20, 60]}
    expected = neighbor_batch("jD", x, 2.0, **where)
    p = len(expected.arrays[0])
    out = [np.full((p + 5, *a.shape[1:]), 7, a.dtype) for a in expected.arrays]
    found = neighbor_batch("jD", x, 2.0, **where, out=out)
    assert all(np.shares_memory(a, b) for a, b in zip(found.arrays, out, strict=True))
    assert_same(found.arrays, expected.arrays)
    np.testing.assert_array_equal(found.pairs, expected.pairs)
    assert all((a[p:] == 7).all() for a in out)
    assert neighbor_batch("j", x, 2.0, **where, out=out[0]).arrays[0].base is out[0]
    with pytest.raises(InvalidArgument, match="out"):
        neighbor_batch("jD", x, 2.0, **where, out=[a[:3] for a in out])


# ------------------------------------------------------------------------------------------ copies
@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy, pickled])
def test_copies_of_a_list(duplicate: Any) -> None:
    """They know the positions of the last update, whatever became of the caller's array."""
    cutoff = {(0, 1): 2.0, (1, 1): 1.5}
    moving = mlcore.NeighborList(cutoff, 0.5, half=True, types=np.arange(60) % 2)
    fresh = duplicate(moving)
    assert len(fresh) == 0 and fresh.searches == 0
    with pytest.raises(InvalidArgument, match="update"):
        fresh.get("ij")
    x = positions()
    moving.update(x, CELL, True)
    x += 0.01
    moving.update(x, CELL, True)
    expected = moving.get("ijSDd")
    x += 0.1
    for other in (duplicate(moving), duplicate(duplicate(moving))):
        assert len(other) == len(moving)
        assert_same(other.get("ijSDd"), expected)
        assert_same(other.csr(), duplicate(moving).csr())
        assert not other.update(x, CELL, True)
        assert_same(moving.get("ijSDd"), expected)
    assert duplicate(moving).update(x, CELL, True)
    moving.update(x, CELL, True)
    assert_same(other.get("ijSDd"), moving.get("ijSDd"))


@pytest.mark.parametrize(
    ("letters", "out", "names"),
    [
        ("d", np.empty(3), "at least"),
        ("d", np.empty((9999, 3)), "out"),
        ("d", np.empty(9999, np.float32), "out"),
        ("i", np.empty(9999, np.int64), "out"),
        ("d", np.empty(19998)[::2], "out"),
        ("ij", [np.empty(9999, np.int32)], "each of"),
        ("d", 3, "out"),
    ],
)
def test_bad_arrays_are_named(letters: str, out: Any, names: str) -> None:
    with pytest.raises(InvalidArgument, match=names):
        mlcore.neighbor_list(letters, positions(), 2.0, CELL, True, out=out)


@pytest.mark.parametrize("threads", [1, 2, 7])
@pytest.mark.parametrize("n", [0, 1, 15, 16, 17, 4000])
def test_float32_is_float64_rounded(n: int, threads: int) -> None:
    x = positions(n) * (1 if n < 100 else 2.5)
    cell = CELL * (1 if n < 100 else 2.5)
    options: dict[str, Any] = {"num_threads": threads, "index_dtype": "int64"}
    double = mlcore.neighbor_list("ijSDd", x, 2.0, cell, True, **options)
    single = mlcore.neighbor_list("ijSDd", x, 2.0, cell, True, dtype="float32", **options)
    assert [a.dtype for a in single] == [np.int64, np.int64, np.int32, np.float32, np.float32]
    assert_same(single, [*double[:3], *(a.astype(np.float32) for a in double[3:])])
    with pytest.raises(InvalidArgument, match="dtype"):
        mlcore.neighbor_list("d", x, 2.0, cell, True, dtype="float16")


def test_letters_in_any_order_and_twice() -> None:
    x = positions()
    i, j, S, D, d = mlcore.neighbor_list("ijSDd", x, 2.0, CELL, True)
    assert_same(mlcore.neighbor_list("dDijjS", x, 2.0, CELL, True), (d, D, i, j, j, S))


@pytest.mark.parametrize("sort", [True, False])
@pytest.mark.parametrize("threads", [1, 2, 7])
def test_lists_larger_than_the_caches(sort: bool, threads: int) -> None:
    """They are written past them, whole lines at a time: no entry may be missed or written twice."""
    rng = np.random.default_rng(3)
    x = rng.uniform(0, 19, (6000, 3))
    found = mlcore.neighbor_list("ijSDd", x, 2.9, [19] * 3, True, sorted=sort, num_threads=threads)
    assert sum(a.nbytes for a in found) > 2**24
    i, j, S, D, d = found
    np.testing.assert_array_equal(np.bincount(i, minlength=6000), np.bincount(j, minlength=6000))
    vectors = x[j] - x[i] + S * 19.0
    np.testing.assert_allclose(D, vectors, atol=1e-12)
    np.testing.assert_allclose(d, np.linalg.norm(vectors, axis=1), rtol=1e-14)
    assert (d < 2.9).all() and (np.diff(i) >= 0).all()
    assert len(np.unique(np.column_stack([i, j, S]), axis=0)) == len(i)
    expected = sum(
        np.count_nonzero(((x[k] - x + 9.5) % 19 - 9.5).__pow__(2).sum(1) < 2.9**2) - 1
        for k in range(0, 6000, 100)
    )
    assert np.count_nonzero(i % 100 == 0) == expected


# ------------------------------------------------------------------------------------------ memory
@pytest.mark.parametrize("letters", ["ijSDd", "ijSd", "D", "ijS", "ijd", "ij", "d", "j"])
def test_peak_memory(letters: str) -> None:
    """At most 1.3 times the result; of one index, 80 bytes per particle besides the result."""
    edge = (1e5 / 0.8442) ** (1 / 3)
    setup = f"""
import mlcore, numpy as np
x = np.random.default_rng(0).uniform(0, {edge}, (100_000, 3))
mlcore.neighbor_list("ijSDd", x[:100], 2.5, [{edge}] * 3, True)
"""
    call = f"mlcore.neighbor_list('{letters}', x, 2.5, [{edge}] * 3, True, num_threads=1)"
    x = np.random.default_rng(0).uniform(0, edge, (100_000, 3))
    found = mlcore.neighbor_list("ijSDd", x, 2.5, [edge] * 3, True)
    result = sum(found["ijSDd".index(letter)].nbytes for letter in letters)
    peak = peak_extra(call, setup)
    assert result <= peak + 2e6
    assert peak <= (result + 80 * len(x) if letters == "j" else 1.3 * result)


def test_peak_memory_of_many_small_systems() -> None:
    """What a system holds is a matter of its size."""
    setup = """
import mlcore, numpy as np
x, ends = np.random.default_rng(0).uniform(0, 6.8, (16 * 1000, 3)), 16 * np.arange(1001)
mlcore.neighbor_batch("ij", x[:16], 2.5, [6.8] * 3, True, batch_offsets=[0, 16])
"""
    call = "mlcore.neighbor_batch('ij', x, 2.5, [6.8] * 3, True, batch_offsets=ends, num_threads=1)"
    assert peak_extra(call, setup) < 1000 * 40_000  # a result of 6 MB


# --------------------------------------------------------------------------------------------- GPU
@pytest.mark.gpu
@pytest.mark.parametrize("pbc", [(True, True, True), (True, False, True), (False, False, False)])
@pytest.mark.parametrize("half", [False, True])
def test_gpu_equals_cpu(pbc: tuple[bool, ...], half: bool) -> None:
    device = device_named("cuda")
    for n, cutoff in ((0, 1.0), (1, 8.0), (40, 4.5), (3000, 1.1)):
        x = positions(n, low=-2, high=3)
        gpu = device.put(x)
        where: dict[str, Any] = {"cell": CELL, "pbc": pbc, "half": half}
        for options in ({}, {"self_pairs": True}, {"dtype": "float32", "index_dtype": "int64"}):
            found = mlcore.neighbor_list("ijSDd", gpu, cutoff, **where, **options)
            assert all(type(a) is type(gpu) for a in found)
            expected = mlcore.neighbor_list("ijSDd", x, cutoff, **where, **options)
            assert_same((device.get(a) for a in found), expected)
        for form in (neighbor_csr, neighbor_matrix):
            found = form(gpu, cutoff, **where)
            assert_same((device.get(a) for a in found), form(x, cutoff, **where))
        radii = np.random.default_rng(0).uniform(0.2, 0.6, n)
        found = mlcore.neighbor_list("ijS", gpu, radii, **where)
        expected = mlcore.neighbor_list("ijS", x, radii, **where)
        assert_same((device.get(a) for a in found), expected)
        offsets = [0, n // 3, n]
        found = neighbor_batch("ijSDd", gpu, cutoff, CELL, pbc, batch_offsets=offsets)
        expected = neighbor_batch("ijSDd", x, cutoff, CELL, pbc, batch_offsets=offsets)
        assert_same((device.get(a) for a in found.arrays), expected.arrays)
