"""Points into voxels and back without loss."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import mlcore
import numpy as np
import pytest
from devices import device_named
from hypothesis import given, settings
from hypothesis import strategies as st
from mlcore.errors import InvalidArgument
from mlcore.voxels import VoxelGrid, bin_atoms, unbin

CELLS = [
    np.diag([4.0, 5.0, 6.0]),
    np.array([[4.0, 0.3, 0], [1, 5, 0.2], [-2, 1, 6]]),
    np.array([[0, 5.0, 0.5], [4, 0.3, 0], [0.2, 0, 6]]),
]


def same_bits(a: Any, b: Any) -> None:
    np.testing.assert_array_equal(np.asarray(a).view(np.int64), np.asarray(b).view(np.int64))


@settings(max_examples=150, deadline=None)
@given(
    shape=st.tuples(*[st.integers(1, 15)] * 3),
    cell=st.sampled_from(CELLS),
    n=st.integers(0, 80),
    spread=st.sampled_from([0.0, 1.0, 1e3, 1e8]),
    grain=st.sampled_from([0, 2, 3, 30]),
    seed=st.integers(0, 2**32 - 1),
)
def test_round_trip_keeps_every_bit(
    shape: tuple[int, int, int],
    cell: np.ndarray,
    n: int,
    spread: float,
    grain: int,
    seed: int,
) -> None:
    rng = np.random.default_rng(seed)
    fractions = rng.uniform(-spread, 1 + spread, (n, 3))
    if grain:  # on faces, edges and corners of voxels
        fractions = np.round(fractions * grain) / grain
    x = fractions @ cell
    grid = VoxelGrid(shape, cell)
    bins = bin_atoms(grid, x)
    same_bits(unbin(grid, bins), x)
    assert ((bins.offset >= 0) & (bins.offset < 1)).all()
    i, j, k = np.unravel_index(bins.cell, shape)
    s = (np.stack([i, j, k], 1) + bins.offset) / shape + bins.image
    np.testing.assert_allclose(s @ cell, x, atol=1e-13 * (1 + spread) * 10)
    np.testing.assert_array_equal(bins.order, np.argsort(bins.cell, kind="stable"))
    np.testing.assert_array_equal(bins.counts, np.bincount(bins.cell, minlength=grid.size))
    assert bins.starts[0] == 0 and bins.starts[-1] == n
    for v in np.unique(bins.cell):
        held = bins.order[bins.starts[v] : bins.starts[v + 1]]
        assert (bins.cell[held] == v).all() and (np.diff(held) > 0).all()
        np.testing.assert_array_equal(bins.slot[held], np.arange(len(held)))


def test_awkward_numbers_come_back() -> None:
    tiny = np.nextafter(0, 1)
    values = [0.0, -0.0, tiny, -tiny, 1e-300, -1e-20, 1e-17, 4.0, -4.0, 8.0, 3.9999999999999996]
    values += [np.nextafter(4.0, 0), np.nextafter(4.0, 5), 1 / 3, -1e8 - 1 / 3]
    x = np.array([[a, b, c] for a in values for b in values for c in values[:5]])
    for cell in (np.eye(3) * 4, CELLS[1]):
        for shape in (1, 3, 7):
            grid = VoxelGrid(shape, cell)
            same_bits(unbin(grid, bin_atoms(grid, x)), x)


def test_changed_offsets_give_changed_positions() -> None:
    grid = VoxelGrid((3, 4, 5), CELLS[1])
    x = np.random.default_rng(0).uniform(-9, 9, (50, 3))
    bins = bin_atoms(grid, x)
    shift = np.array([0.1, -0.2, 0.3])
    moved = unbin(grid, replace(bins, offset=bins.offset + shift, ulps=None))
    np.testing.assert_allclose(moved, x + shift / grid.shape @ grid.cell, atol=1e-13)


def test_open_axes_hold_all_points_or_say_which_not() -> None:
    grid = VoxelGrid(4, (4.0,) * 3, (True, False, True))
    x = np.array([[9.0, 0.0, -3.0], [1.0, 3.999, 1.0]])
    bins = bin_atoms(grid, x)
    same_bits(unbin(grid, bins), x)
    assert not bins.image[:, 1].any() and bins.image[0].tolist() == [2, 0, -1]
    for y in (-1e-9, 4.0, 1e300):
        with pytest.raises(InvalidArgument, match="position 1 lies outside .* axis 1"):
            bin_atoms(grid, np.array([[1.0, 1.0, 1.0], [1.0, y, 1.0]]))


def test_threads_and_kinds() -> None:
    torch = pytest.importorskip("torch")
    grid = VoxelGrid((9, 8, 7), CELLS[1])
    x = np.random.default_rng(1).uniform(-20, 20, (5000, 3))
    one = bin_atoms(grid, x, num_threads=1)
    for bins in (bin_atoms(grid, x, num_threads=3), bin_atoms(grid, torch.from_numpy(x))):
        for name, value in vars(one).items():
            np.testing.assert_array_equal(np.asarray(getattr(bins, name)), value)
        same_bits(unbin(grid, bins, num_threads=3), x)
    assert isinstance(bin_atoms(grid, torch.from_numpy(x)).slot, torch.Tensor)


def test_bins_of_the_caller_are_filled() -> None:
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(2)
    grid = VoxelGrid((9, 8, 7), CELLS[1])
    first, second = rng.uniform(-20, 20, (2, 400, 3))
    for put in (np.asarray, torch.from_numpy):
        bins = bin_atoms(grid, put(first))
        held = vars(bins).copy()
        assert bin_atoms(grid, put(second), out=bins) is bins
        for name, value in vars(bin_atoms(grid, second)).items():
            assert getattr(bins, name) is held[name]
            np.testing.assert_array_equal(np.asarray(held[name]), value)
    bins = bin_atoms(grid, first)
    x = first.copy()
    for change, message in (
        ({"cell": bins.cell[:-1]}, "out.cell must have the shape"),
        ({"image": bins.image.astype(np.int64)}, "out.image must be C-contiguous int32"),
        ({"ulps": None}, "out.ulps must be an array, got None"),
        ({"ulps": [1]}, "out.ulps must be an array, got list"),
        ({"starts": bins.starts[:-1]}, "out.starts must have the shape"),
        ({"offset": x}, "share memory"),
        ({"order": bins.cell}, "share memory"),
    ):
        with pytest.raises(InvalidArgument, match=message):
            bin_atoms(grid, x, out=replace(bins, **change))
    with pytest.raises(InvalidArgument, match="out must be AtomBins"):
        bin_atoms(grid, x, out=bins.cell)


def test_bad_arguments() -> None:
    grid = VoxelGrid(4, (4.0,) * 3)
    x = np.ones((3, 3))
    for bad in (np.nan, np.inf):
        with pytest.raises(InvalidArgument, match="finite"):
            bin_atoms(grid, np.array([[1, bad, 1]]))
    with pytest.raises(InvalidArgument, match="2\\^30"):
        bin_atoms(grid, x * 1e11)
    with pytest.raises(InvalidArgument, match="positions must"):
        bin_atoms(grid, np.ones((2, 3, 3)))
    bins = mlcore.bin_atoms(grid, x)
    for cell in (-1, 64):
        with pytest.raises(InvalidArgument, match="cell must lie"):
            mlcore.unbin(grid, replace(bins, cell=np.array([0, cell, 0])))
    with pytest.raises(InvalidArgument, match="image"):
        unbin(grid, replace(bins, image=bins.image[:2]))


@pytest.mark.gpu
def test_gpu_bins_are_those_of_the_cpu() -> None:
    gpu = device_named("cuda")
    for cell in CELLS:
        for n in (0, 1, 5000):
            grid = VoxelGrid((9, 8, 7), cell)
            x = np.random.default_rng(1).uniform(-20, 20, (n, 3))
            bins, there = bin_atoms(grid, x), bin_atoms(grid, gpu.put(x))
            for name, value in vars(bins).items():
                np.testing.assert_array_equal(gpu.get(getattr(there, name)), value)
            same_bits(gpu.get(unbin(grid, there)), x)
    with pytest.raises(InvalidArgument, match="finite"):
        bin_atoms(grid, gpu.put(np.full((3, 3), np.nan)))
