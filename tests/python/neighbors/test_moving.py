"""Lists of moving particles on every device: exact at each step, searched anew where they must be."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import mlcore
import numpy as np
import pytest
from devices import device_named
from mlcore.errors import InvalidArgument
from mlcore.neighbors import neighbor_csr, neighbor_matrix

CELL = np.array([[5.0, 0, 0], [2, 6, 0], [-3, 2, 7]])
DEVICES = pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
N = 120
CUTOFFS: dict[str, Any] = {
    "number": 1.6,
    "radii": np.random.default_rng(4).uniform(0.3, 0.9, N),
    "types": {(0, 0): 1.2, (0, 1): 1.7},
}


def positions(n: int = N, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-0.5, 1.5, (n, 3)) @ CELL


def in_order(arrays: Any) -> Any:
    """Pairs (i, j, S, D, d) by i, j and S."""
    i, j, S = arrays[:3]
    order = np.lexsort((S[:, 2], S[:, 1], S[:, 0], j, i))
    return [a[order] for a in arrays]


def assert_same(found: Any, expected: Any) -> None:
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_array_equal(a, b)


@DEVICES
@pytest.mark.parametrize("cutoff", CUTOFFS)
@pytest.mark.parametrize("pbc", [(True, True, True), (True, False, True), (False, False, False)])
@pytest.mark.parametrize(
    "options", [{}, {"half": True}, {"self_pairs": True}, {"sorted": False}], ids=str
)
def test_every_step_is_exact(device: str, cutoff: str, pbc: Any, options: dict[str, Any]) -> None:
    there, near, skin = device_named(device), CUTOFFS[cutoff], 0.4
    search: dict[str, Any] = {"cell": CELL, "pbc": pbc} | options
    if cutoff == "types":
        options = options | {"types": np.arange(N) % 2}
        search |= options
    moving = mlcore.NeighborList(near, skin, **options)
    rng, x = np.random.default_rng(2), positions()
    before = x + np.inf
    for _ in range(12):
        far = np.linalg.norm(x - before, axis=1).max() > skin / 2
        given = there.put(x)
        assert moving.update(given, CELL, pbc) == far
        before = x if far else before
        found = moving.get("ijSDd")
        assert all(type(a) is type(given) for a in found)
        found = [there.get(a) for a in found]
        expected = mlcore.neighbor_list("ijSDd", x, near, **search)
        if options.get("sorted", True):
            assert_same(found, expected)
        else:
            assert_same(found[:1], expected[:1])
            found, expected = in_order(found), in_order(expected)
            assert_same(found, expected)
        assert len(moving) == len(expected[0])
        x = x + rng.uniform(-0.05, 0.05, x.shape)
    assert 2 <= moving.searches <= 8


@DEVICES
def test_every_form(device: str) -> None:
    there, x = device_named(device), positions()
    moving = mlcore.NeighborList(1.6, 0.5, dtype="float32", index_dtype="int64")
    moving.update(there.put(x), CELL, True)
    x = x + 0.1 * np.sin(x)
    assert not moving.update(there.put(x), CELL, True)
    assert_same((there.get(a) for a in moving.csr()), neighbor_csr(x, 1.6, CELL, True))
    for width in (None, 60):
        found = (there.get(a) for a in moving.matrix(width))
        assert_same(found, neighbor_matrix(x, 1.6, width, CELL, True))
    expected = mlcore.neighbor_list("ijd", x, 1.6, CELL, True, dtype="f4", index_dtype="i8")
    out = [there.put(np.full(len(a) + 3, 7, a.dtype)) for a in expected]
    assert_same((there.get(a) for a in moving.get("ijd", out=out)), expected)
    assert_same((there.get(a)[:-3] for a in out), expected)
    with pytest.raises(InvalidArgument, match="max_neighbors must be at least"):
        moving.matrix(1)


@DEVICES
@pytest.mark.parametrize(
    "duplicate", [copy.copy, copy.deepcopy, lambda a: pickle.loads(pickle.dumps(a))]
)
def test_copies(device: str, duplicate: Any) -> None:
    there, x = device_named(device), positions()
    moving = mlcore.NeighborList(1.6, 0.5)
    moving.update(there.put(x - 0.01), CELL, True)
    assert not moving.update(there.put(x), CELL, True)
    other = duplicate(moving)
    assert_same(
        (there.get(a) for a in other.get("ijSDd")), (there.get(a) for a in moving.get("ijSDd"))
    )
    assert not other.update(there.put(x + 0.1), CELL, True)
    assert_same(
        (there.get(a) for a in other.get("ijS")),
        mlcore.neighbor_list("ijS", x + 0.1, 1.6, CELL, True),
    )


@DEVICES
def test_what_needs_a_new_search(device: str) -> None:
    there, x = device_named(device), positions()
    moving = mlcore.NeighborList(1.6, 0.5)
    for given, cell, pbc, searches in (
        (x, CELL, True, True),
        (x, CELL, True, False),
        (x[1:], CELL, True, True),
        (x, CELL, True, True),
        (x, CELL * (1 + 1e-15), True, True),
        (x, CELL * (1 + 1e-15), [True, True, False], True),
        (x + 0.1, CELL * (1 + 1e-15), [True, True, False], False),
        (x + 0.2, CELL * (1 + 1e-15), [True, True, False], True),
    ):
        assert moving.update(there.put(given), cell, pbc) == searches
        assert_same(
            (there.get(a) for a in moving.get("ijSDd")),
            mlcore.neighbor_list("ijSDd", given, 1.6, cell, pbc),
        )


@DEVICES
def test_a_failed_update_leaves_no_list(device: str) -> None:
    there, x = device_named(device), positions()
    moving = mlcore.NeighborList(1.6, 0.5)
    moving.update(there.put(x), CELL, True)
    for wrong in (np.nan, np.inf, 1e300):
        bad = x.copy()
        bad[7, 1] = wrong
        with pytest.raises(InvalidArgument, match="positions"):
            moving.update(there.put(bad), CELL, True)
        assert len(moving) == 0
        with pytest.raises(InvalidArgument, match="update"):
            moving.get("ij")
        assert moving.update(there.put(x), CELL, True)
        assert len(moving) == len(mlcore.neighbor_list("i", x, 1.6, CELL, True))


@DEVICES
@pytest.mark.parametrize("skin", [0.0, 0.5])
@pytest.mark.parametrize("cutoff", [0.0, 1.6])
@pytest.mark.parametrize("n", [0, 1, 2, 33])
def test_small_systems(device: str, n: int, cutoff: float, skin: float) -> None:
    there, x = device_named(device), positions(n)
    moving = mlcore.NeighborList(cutoff, skin, self_pairs=True)
    for given, searches in ((x, True), (x, False), (x + 1.0, n > 0), (x + 1.1, n > 0 and not skin)):
        found = moving.update(there.put(given), CELL, True)
        assert found == searches or cutoff == 0
        assert_same(
            (there.get(a) for a in moving.get("ijSDd")),
            mlcore.neighbor_list("ijSDd", given, cutoff, CELL, True, self_pairs=True),
        )


@pytest.mark.gpu
def test_lists_go_where_the_particles_are() -> None:
    gpu, x = device_named("cuda"), positions()
    moving = mlcore.NeighborList(1.6, 0.5)
    expected = mlcore.neighbor_list("ijSDd", x, 1.6, CELL, True)
    for given, searches in ((x, True), (gpu.put(x), True), (gpu.put(x), False), (x, True)):
        assert moving.update(given, CELL, True) == searches
        found = moving.get("ijSDd")
        assert type(found[0]) is type(given)
        assert_same((a if given is x else gpu.get(a) for a in found), expected)


@pytest.mark.gpu
def test_a_list_outlives_the_streams_it_was_made_on() -> None:
    gpu, x = device_named("cuda"), positions()
    moving = mlcore.NeighborList(1.6, 0.5)
    rng = np.random.default_rng(3)
    for _ in range(6):
        stream = new_stream(gpu.library)
        with stream:
            moving.update(gpu.put(x), CELL, True)
            found = [gpu.get(a) for a in moving.get("ijSDd")]
        assert_same(found, mlcore.neighbor_list("ijSDd", x, 1.6, CELL, True))
        x = x + rng.uniform(-0.05, 0.05, x.shape)


def new_stream(library: Any) -> Any:
    if library.__name__ == "torch":
        return library.cuda.stream(library.cuda.Stream())
    return library.cuda.Stream(non_blocking=True)
