"""Spreading and gathering against closed forms, FFT, scipy.ndimage and the reference."""

from __future__ import annotations

from typing import Any

import mlcore
import numpy as np
import pytest
import scipy.ndimage
from devices import device_named
from hypothesis import given, settings
from hypothesis import strategies as st
from mlcore import reference
from mlcore.errors import InvalidArgument
from mlcore.voxels import (
    Gaussian,
    Kernel,
    Sphere,
    VoxelGrid,
    gather,
    position_gradient,
    rasterize,
)

CELLS = {
    "orthogonal": np.diag([4.0, 5.0, 6.0]),
    "triclinic": np.array([[4.0, 0.3, 0], [1, 5, 0.2], [-2, 1, 6]]),
    "left-handed": np.array([[0, 5.0, 0.5], [4, 0.3, 0], [0.2, 0, 6]]),
}
BOUNDARIES = [(a, b, c) for a in (False, True) for b in (False, True) for c in (False, True)]
KERNELS: dict[str, Kernel] = {
    "nearest": "nearest",
    "cic": "cic",
    "tsc": "tsc",
    "gaussian": Gaussian(0.5, 3.0),
    "sphere": Sphere(0.9),
    "soft sphere": Sphere(1.0, 0.6),
}
SMOOTH = {name: KERNELS[name] for name in ("cic", "tsc", "gaussian", "soft sphere")}


def sample(
    cell: np.ndarray, n: int, channels: int, seed: int = 0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Positions in and around the cell, features, directions."""
    rng = np.random.default_rng(seed)
    x = rng.uniform(-0.7, 1.8, (n, 3)) @ cell
    return x, rng.normal(size=(n, channels)), rng.normal(size=(n, 3))


def centres(grid: VoxelGrid) -> np.ndarray:
    """(X, Y, Z, 3) sample points."""
    fractions = [(np.arange(n) + 0.5) / n for n in grid.shape]
    return np.stack(np.meshgrid(*fractions, indexing="ij"), -1) @ grid.cell


# ------------------------------------------------------------------------------------- reference
@pytest.mark.parametrize("kernel", KERNELS.values(), ids=KERNELS)
@pytest.mark.parametrize("cell", CELLS.values(), ids=CELLS)
@pytest.mark.parametrize("shape", [(1, 2, 3), (8, 9, 7)])
def test_every_boundary_against_the_reference(
    kernel: Kernel, cell: np.ndarray, shape: tuple[int, int, int]
) -> None:
    x, features, along = sample(cell, 50, 3)
    for pbc in BOUNDARIES:
        grid = VoxelGrid(shape, cell, pbc)
        for direction in (None, along) if kernel in SMOOTH.values() else (None,):
            options = {"kernel": kernel, "direction": direction}
            expected = reference.rasterize(grid, x, features, **options)
            scale = np.abs(expected).max() + 1
            options["layout"] = "channels_last"
            field = rasterize(grid, x, features, **options)
            np.testing.assert_allclose(field, expected, rtol=0, atol=1e-12 * scale)
            weights = np.random.default_rng(1).normal(size=expected.shape)
            values = gather(grid, weights, x, **options)
            del options["layout"]
            np.testing.assert_allclose(
                values, reference.gather(grid, weights, x, **options), rtol=0, atol=1e-12 * scale
            )
            if kernel not in SMOOTH.values():
                continue
            slope = reference.position_gradient(grid, x, features, weights, **options)
            options["layout"] = "channels_last"
            np.testing.assert_allclose(
                position_gradient(grid, x, features, weights, **options),
                slope,
                rtol=0,
                atol=1e-12 * (np.abs(slope).max() + 1) * 10,
            )


@pytest.mark.parametrize("kernel", KERNELS.values(), ids=KERNELS)
@pytest.mark.parametrize("channels", [1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 40])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_channels_and_layouts(kernel: Kernel, channels: int, dtype: Any) -> None:
    grid = VoxelGrid((5, 6, 4), CELLS["orthogonal"], (True, True, False))
    x, features, _ = sample(grid.cell, 67, channels)
    features = features.astype(dtype)
    expected = reference.rasterize(grid, x, features, kernel)
    tolerance = {"rtol": 0, "atol": 2e-5 if dtype == np.float32 else 1e-13}
    last = rasterize(grid, x, features, kernel, layout="channels_last")
    first = rasterize(grid, x, features, kernel)
    assert last.dtype == first.dtype == dtype
    assert last.shape == (5, 6, 4, channels) and first.shape == (channels, 5, 6, 4)
    np.testing.assert_allclose(last, expected, **tolerance)
    np.testing.assert_allclose(np.moveaxis(first, 0, -1), expected, **tolerance)
    values = gather(grid, last, x, kernel, layout="channels_last")
    assert values.shape == (67, channels) and values.dtype == dtype
    np.testing.assert_allclose(
        values, reference.gather(grid, expected, x, kernel), rtol=0, atol=40 * tolerance["atol"]
    )
    np.testing.assert_allclose(
        gather(grid, first, x, kernel), values, rtol=0, atol=tolerance["atol"]
    )


@pytest.mark.parametrize("n", [0, 1, 2, 7, 8, 9, 63, 64, 65, 129])
@pytest.mark.parametrize("layout", ["channels_first", "channels_last"])
def test_sizes_around_the_block(n: int, layout: str) -> None:
    grid = VoxelGrid(6, CELLS["triclinic"])
    x, features, _ = sample(grid.cell, n, 8, n)
    for kernel in KERNELS.values():
        field = rasterize(grid, x, features, kernel, layout=layout)
        expected = reference.rasterize(grid, x, features, kernel)
        field = np.moveaxis(field, 0, -1) if layout == "channels_first" else field
        np.testing.assert_allclose(field, expected, rtol=0, atol=1e-13)
        assert gather(grid, field, x, kernel, layout="channels_last").shape == (n, 8)


# ---------------------------------------------------------------------------------- closed forms
@pytest.mark.parametrize("kernel", KERNELS.values(), ids=KERNELS)
@pytest.mark.parametrize("shape", [1, 2, (1, 2, 9), 12])
def test_weights_sum_to_one(kernel: Kernel, shape: Any) -> None:
    for cell in CELLS.values():
        grid = VoxelGrid(shape, cell)
        x, features, _ = sample(cell, 40, 4)
        total = features.sum(0)
        field = rasterize(grid, x, features, kernel)
        np.testing.assert_allclose(field.sum((1, 2, 3)), total, rtol=1e-12, atol=1e-12)
        density = rasterize(grid, x, features, kernel, density=True)
        volume = abs(np.linalg.det(cell)) / grid.size
        np.testing.assert_allclose(density * volume, field, rtol=1e-12, atol=1e-14)
        assert grid.voxel_volume == pytest.approx(volume)
        ones = gather(grid, np.ones((1, *grid.shape)), x, kernel)
        np.testing.assert_allclose(ones, 1, rtol=1e-13)


@pytest.mark.parametrize("kernel", ["cic", "tsc"])
@pytest.mark.parametrize("cell", CELLS.values(), ids=CELLS)
def test_first_moment_is_kept(kernel: str, cell: np.ndarray) -> None:
    grid = VoxelGrid((7, 8, 9), cell, False)
    x = np.random.default_rng(0).uniform(0.3, 0.7, (50, 3)) @ cell
    for point in x:
        field = rasterize(grid, point[None], np.ones((1, 1)), kernel, layout="channels_last")
        np.testing.assert_allclose((field * centres(grid)).sum((0, 1, 2)), point, atol=1e-13)
    linear = centres(grid) @ np.array([[1.0], [-2.0], [0.5]])
    values = gather(grid, linear, x, kernel, layout="channels_last")
    np.testing.assert_allclose(values[:, 0], x @ [1.0, -2.0, 0.5], atol=1e-12)


def test_nearest_is_the_voxel_that_covers_the_point() -> None:
    grid = VoxelGrid((4, 5, 6), (4.0, 5.0, 6.0))
    corners = np.array([[0, 0, 0], [1, 2, 3], [3.999, 4.999, 5.999], [4, 5, 6], [-1e-9, 5, -6]])
    voxels = [(0, 0, 0), (1, 2, 3), (3, 4, 5), (0, 0, 0), (3, 0, 0)]
    for point, voxel in zip(corners, voxels, strict=True):
        field = rasterize(grid, point[None], np.ones((1, 1)), "nearest")[0]
        assert field[voxel] == 1 and field.sum() == 1


def test_gather_cic_and_tsc_against_scipy() -> None:
    rng = np.random.default_rng(5)
    grid = VoxelGrid((6, 7, 8), (6.0, 7.0, 8.0))
    field, x = rng.normal(size=(6, 7, 8)), rng.uniform(-5, 12, (200, 3))
    expected = scipy.ndimage.map_coordinates(field, (x - 0.5).T, order=1, mode="grid-wrap")
    np.testing.assert_allclose(gather(grid, field[None], x, "cic")[:, 0], expected, atol=1e-12)
    # A quadratic B-spline without its prefilter is the triangular-shaped cloud.
    expected = scipy.ndimage.map_coordinates(
        field, (x - 0.5).T, order=2, mode="grid-wrap", prefilter=False
    )
    np.testing.assert_allclose(gather(grid, field[None], x, "tsc")[:, 0], expected, atol=1e-12)


@pytest.mark.parametrize(("name", "order"), [("cic", 2), ("tsc", 3)])
def test_spectrum_of_a_field(name: str, order: int) -> None:
    """The transform of a field is that of the points times sinc^order, summed over all aliases."""
    n = 8
    grid = VoxelGrid((n, 1, 1), (1.0, 1.0, 1.0))
    x = np.zeros((20, 3))
    x[:, 0] = np.random.default_rng(0).random(20)
    field = rasterize(grid, x, np.ones((20, 1)), name)[0, :, 0, 0]
    spectrum = np.zeros(n, complex)
    for alias in range(-3000, 3001):
        q = np.fft.fftfreq(n, 1 / n) + alias * n
        structure = np.exp(-2j * np.pi * np.outer(q, x[:, 0] - 0.5 / n)).sum(1)
        spectrum += structure * np.sinc(q / n) ** order
    np.testing.assert_allclose(np.fft.fft(field), spectrum, atol=2e-3 if order == 2 else 1e-6)


def test_gaussian_against_the_analytic_convolution() -> None:
    """A Gaussian spread over a fine grid, times the volume, is the periodic Gaussian density."""
    edge, sigma, n = 6.0, 0.8, 32
    grid = VoxelGrid(n, (edge,) * 3)
    point = np.array([1.23, 5.9, -0.4])
    field = rasterize(grid, point[None], np.ones((1, 1)), Gaussian(sigma, 7.0), density=True)[0]
    images = edge * np.stack(np.meshgrid(*[np.arange(-2, 3)] * 3), -1).reshape(-1, 3)
    d = centres(grid)[..., None, :] - point - images
    expected = np.exp(-(d**2).sum(-1) / (2 * sigma**2)).sum(-1) / (2 * np.pi * sigma**2) ** 1.5
    np.testing.assert_allclose(field, expected, rtol=0, atol=1e-9)


def test_triclinic_gaussian_is_round() -> None:
    grid = VoxelGrid((40, 44, 48), CELLS["triclinic"] * 3)
    point = grid.cell.sum(0) / 2 + [0.1, 0.2, 0.3]
    field = rasterize(grid, point[None], np.ones((1, 1)), Gaussian(0.9, 6.0))[0]
    d = centres(grid) - point
    second = np.einsum("xyz,xyzi,xyzj->ij", field, d, d)
    np.testing.assert_allclose(second, 0.81 * np.eye(3), atol=1e-6)


def test_narrow_gaussian_keeps_its_weight() -> None:
    grid = VoxelGrid(8, (8.0,) * 3)
    x = np.random.default_rng(0).uniform(0, 8, (30, 3))
    for sigma in (1e-3, 1e-2, 0.05):
        field = rasterize(grid, x, np.ones((30, 1)), Gaussian(sigma))
        assert field.sum() == pytest.approx(30)
        assert np.isfinite(
            position_gradient(grid, x, np.ones((30, 1)), field, Gaussian(0.05))
        ).all()


@pytest.mark.parametrize("edge", [0.0, 0.4])
def test_volume_of_a_sphere_converges(edge: float) -> None:
    """The weight of an inner voxel is 1 / (volume of the sphere in voxels)."""
    point = np.array([[2.03, 2.41, 1.87]])
    errors = []
    for n in (16, 32, 64):
        grid = VoxelGrid(n, (4.0,) * 3)
        field = rasterize(grid, point, np.ones((1, 1)), Sphere(1.2, edge))[0]
        inside = np.linalg.norm(centres(grid) - point[0], axis=-1) <= 1.2
        if edge == 0:
            np.testing.assert_array_equal(field > 0, inside)
        errors.append(abs(grid.voxel_volume / field.max() / (4 / 3 * np.pi * 1.2**3) - 1))
    # A smooth edge of width e adds a volume of order e^2 / R^2.
    assert errors[-1] < (2e-3 if edge == 0 else 0.03)
    assert errors[-1] < errors[0] or edge > 0


def test_sphere_on_lattice_points_is_symmetric() -> None:
    grid = VoxelGrid(11, (1.1,) * 3)
    field = rasterize(grid, centres(grid)[5, 5, 5][None], np.ones((1, 1)), Sphere(0.3))[0]
    assert (field > 0).sum() == 123  # integer points within 3 of the origin
    np.testing.assert_array_equal(field, field[::-1, ::-1, ::-1])
    np.testing.assert_array_equal(field, field.transpose(1, 2, 0))


def test_sphere_without_a_sample_point_goes_to_its_voxel() -> None:
    grid = VoxelGrid(4, (4.0,) * 3, False)
    x = np.array([[0.1, 1.95, 3.9]])
    for kernel in (Sphere(0.05), Sphere(0.05, 0.05), Sphere(0.4)):
        field = rasterize(grid, x, np.ones((1, 1)), kernel)[0]
        assert field[0, 1, 3] == 1 and field.sum() == 1
    flat = position_gradient(grid, x, np.ones((1, 1)), field[None], Sphere(0.05, 0.05))
    np.testing.assert_array_equal(flat, 0)


# ------------------------------------------------------------------------------------ properties
@pytest.mark.parametrize("kernel", KERNELS.values(), ids=KERNELS)
def test_translation_by_voxels_rolls_the_field(kernel: Kernel) -> None:
    for cell in CELLS.values():
        grid = VoxelGrid((5, 6, 7), cell)
        x, features, _ = sample(cell, 30, 2)
        field = rasterize(grid, x, features, kernel)
        moved = rasterize(grid, x + np.array([2, -1, 9]) / grid.shape @ cell, features, kernel)
        np.testing.assert_allclose(moved, np.roll(field, (2, -1, 9), (1, 2, 3)), atol=1e-11)


@settings(max_examples=60, deadline=None)
@given(
    shape=st.tuples(*[st.integers(1, 13)] * 3),
    cell=st.sampled_from(list(CELLS.values())),
    pbc=st.tuples(*[st.booleans()] * 3),
    kernel=st.sampled_from(list(KERNELS.values())),
    n=st.integers(0, 70),
    channels=st.integers(1, 20),
    layout=st.sampled_from(["channels_first", "channels_last"]),
    density=st.booleans(),
    seed=st.integers(0, 2**32 - 1),
)
def test_gather_is_the_adjoint(
    shape: tuple[int, int, int],
    cell: np.ndarray,
    pbc: tuple[bool, bool, bool],
    kernel: Kernel,
    n: int,
    channels: int,
    layout: str,
    density: bool,
    seed: int,
) -> None:
    grid = VoxelGrid(shape, cell, pbc)
    x, features, direction = sample(cell, n, channels, seed)
    options: dict[str, Any] = {"kernel": kernel, "layout": layout, "density": density}
    for along in (None, direction) if kernel in SMOOTH.values() else (None,):
        field = rasterize(grid, x, features, direction=along, **options)
        other = np.random.default_rng(seed + 1).normal(size=field.shape)
        values = gather(grid, other, x, direction=along, **options)
        size = np.abs(field).sum() * np.abs(other).max() + 1e-3
        assert abs((field * other).sum() - (features * values).sum()) <= 1e-12 * size
    if kernel in SMOOTH.values():
        slope = position_gradient(grid, x, features, other, **options)
        along_slope = (slope * direction).sum()
        assert abs((field * other).sum() - along_slope) <= 1e-11 * size


@pytest.mark.parametrize("kernel", KERNELS.values(), ids=KERNELS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_threads_do_not_change_a_bit(kernel: Kernel, dtype: Any) -> None:
    rng = np.random.default_rng(2)
    n = 20000 if isinstance(kernel, str) else 400
    for pbc in [(True, True, True), (False, True, False)]:
        grid = VoxelGrid((23, 16, 20), np.diag([23.0, 16, 20]) / 8, pbc)
        x = np.concatenate(  # crowded in one corner
            [rng.uniform(-0.2, 1.2, (n // 2, 3)), rng.uniform(0.1, 0.2, (n - n // 2, 3))]
        )
        x = x @ grid.cell
        for layout, channels in [("channels_last", 8), ("channels_first", 5)]:
            features = rng.normal(size=(n, channels)).astype(dtype)
            options: dict[str, Any] = {"kernel": kernel, "layout": layout}
            one = rasterize(grid, x, features, num_threads=1, **options)
            values = gather(grid, one, x, num_threads=1, **options)
            for threads in (2, 7):
                again = rasterize(grid, x, features, num_threads=threads, **options)
                np.testing.assert_array_equal(again, one)
                more = gather(grid, one, x, num_threads=threads, **options)
                np.testing.assert_array_equal(more, values)


@pytest.mark.parametrize("kernel", ["nearest", "cic", "tsc"])
def test_fields_beyond_the_cache_are_done_in_slabs(kernel: str) -> None:
    rng = np.random.default_rng(3)
    grid = VoxelGrid((70, 80, 90), (70.0, 80.0, 90.0), (True, False, True))
    x = rng.uniform(-0.3, 1.3, (30000, 3)) @ grid.cell
    features = rng.normal(size=(30000, 8)).astype(np.float32)
    field = rasterize(grid, x, features, kernel, layout="channels_last", num_threads=1)
    expected = np.stack(  # channel by channel the field is small
        [rasterize(grid, x, features[:, c : c + 1], kernel)[0] for c in range(8)], -1
    )
    np.testing.assert_allclose(field, expected, rtol=0, atol=3e-6)
    threaded = rasterize(grid, x, features, kernel, layout="channels_last", num_threads=3)
    np.testing.assert_array_equal(threaded, field)
    values = gather(grid, field, x, kernel, layout="channels_last", num_threads=3)
    first = np.ascontiguousarray(np.moveaxis(field, -1, 0))
    np.testing.assert_allclose(gather(grid, first, x, kernel), values, rtol=0, atol=1e-5)


def test_several_systems() -> None:
    grid = VoxelGrid((5, 6, 7), CELLS["triclinic"])
    x, features, _ = sample(grid.cell, 24, 3)
    offsets = np.array([0, 5, 5, 24])
    for layout in ("channels_first", "channels_last"):
        options = {"kernel": "tsc", "layout": layout}
        fields = rasterize(grid, x, features, offsets=offsets, num_threads=3, **options)
        values = gather(grid, fields, x, offsets=offsets, num_threads=2, **options)
        slopes = position_gradient(grid, x, features, fields, offsets=offsets, **options)
        for b, part in enumerate([slice(0, 5), slice(5, 5), slice(5, 24)]):
            alone = rasterize(grid, x[part], features[part], **options)
            np.testing.assert_array_equal(fields[b], alone)
            np.testing.assert_array_equal(values[part], gather(grid, alone, x[part], **options))
            slope = position_gradient(grid, x[part], features[part], alone, **options)
            np.testing.assert_array_equal(slopes[part], slope)
        batch = rasterize(grid, x.reshape(4, 6, 3), features.reshape(4, 6, 3), **options)
        same = rasterize(grid, x, features, offsets=[0, 6, 12, 18, 24], **options)
        np.testing.assert_array_equal(batch, same)
        values = gather(grid, batch, x.reshape(4, 6, 3), **options)
        assert values.shape == (4, 6, 3)


# ---------------------------------------------------------------------------------------- arrays
def test_layouts_of_memory_out_and_atoms() -> None:
    import ase

    grid = VoxelGrid(6, CELLS["orthogonal"])
    x, features, _ = sample(grid.cell, 20, 8)
    expected = rasterize(grid, x, features)
    wide = np.zeros((20, 6))
    wide[:, ::2] = x
    np.testing.assert_array_equal(rasterize(grid, wide[:, ::2], features), expected)
    np.testing.assert_array_equal(rasterize(grid, x, np.asfortranarray(features)), expected)
    raw = bytearray(features.nbytes + 4)
    misaligned = np.frombuffer(raw, np.float32, features.size, 4).reshape(20, 8)
    misaligned[:] = features
    np.testing.assert_array_equal(
        rasterize(grid, x, misaligned), rasterize(grid, x, features.astype(np.float32))
    )
    out = np.full((8, 6, 6, 6), np.nan)
    assert rasterize(grid, x, features, out=out) is out
    np.testing.assert_array_equal(out, expected)
    atoms = ase.Atoms("H20", positions=x)
    np.testing.assert_array_equal(rasterize(grid, atoms, features), expected)
    values = np.empty((20, 8))
    assert gather(grid, expected, x, out=values) is values


def test_torch_in_torch_out() -> None:
    torch = pytest.importorskip("torch")
    grid = VoxelGrid(6, CELLS["orthogonal"])
    x, features, _ = sample(grid.cell, 20, 8)
    field = rasterize(grid, torch.from_numpy(x), torch.from_numpy(features).float())
    assert isinstance(field, torch.Tensor) and field.dtype == torch.float32
    np.testing.assert_array_equal(field.numpy(), rasterize(grid, x, features.astype(np.float32)))
    values = gather(grid, field, torch.from_numpy(x).float())
    assert isinstance(values, torch.Tensor) and values.shape == (20, 8)


def test_results_are_reused_memory() -> None:
    grid = VoxelGrid(32, (1.0,) * 3)
    x, features = np.random.default_rng(0).random((100, 3)), np.ones((100, 8), np.float32)
    first = rasterize(grid, x, features)
    address = first.ctypes.data
    kept = first[0].copy()
    del first
    again = rasterize(grid, x, features)
    assert again.ctypes.data == address
    np.testing.assert_array_equal(again[0], kept)


# ---------------------------------------------------------------------------------------- errors
def test_bad_arguments_are_named() -> None:
    grid = VoxelGrid(4, (4.0,) * 3)
    x, f = np.ones((3, 3)), np.ones((3, 2))

    def refused(match: str, call: Any) -> None:
        with pytest.raises(InvalidArgument, match=match):
            call()

    for bad in (np.nan, np.inf, -np.inf):
        y = x.copy()
        y[1, 2] = bad
        refused("finite, but component 2 of position 1", lambda y=y: rasterize(grid, y, f))
        refused("finite", lambda y=y: gather(grid, np.ones((2, 4, 4, 4)), y))
        opened = VoxelGrid(4, (4.0,) * 3, False)
        refused("finite", lambda y=y, g=opened: rasterize(g, y, f))
    refused("2\\^30 cells", lambda: rasterize(grid, x * 1e12, f))
    refused("shape must", lambda: VoxelGrid((4, 4), (4.0,) * 3))
    refused("shape must", lambda: VoxelGrid(4.5, (4.0,) * 3))  # type: ignore[arg-type]
    refused("shape must hold 1", lambda: VoxelGrid((4, 0, 4), (4.0,) * 3))
    refused("shape must hold 1", lambda: VoxelGrid((4, 1 << 30, 4), (4.0,) * 3))
    refused("cell vector 2 is zero", lambda: VoxelGrid(4, (4.0, 4.0, 0.0), (1, 1, 0)))
    refused("linearly dependent", lambda: VoxelGrid(4, [[1, 0, 0], [1, 0, 0], [0, 0, 1]]))
    refused("positions must have the shape", lambda: rasterize(grid, np.ones((3, 2)), f))
    refused("features must have the shape", lambda: rasterize(grid, x, np.ones((4, 2))))
    refused("features must have the shape", lambda: rasterize(grid, x, np.ones(3)))
    refused("1 .. 2\\^24 channels", lambda: rasterize(grid, x, np.ones((3, 0))))
    refused("field must have the shape", lambda: gather(grid, np.ones((2, 4, 4, 5)), x))
    refused("same dtype", lambda: position_gradient(grid, x, f, np.ones((2, 4, 4, 4), np.float32)))
    refused("kernel must be", lambda: rasterize(grid, x, f, "linear"))
    refused("sigma", lambda: rasterize(grid, x, f, Gaussian(-1.0)))
    refused("truncation", lambda: rasterize(grid, x, f, Gaussian(1.0, 0.0)))
    refused("radius", lambda: rasterize(grid, x, f, Sphere(0.0)))
    refused("edge must", lambda: rasterize(grid, x, f, Sphere(1.0, 2.1)))
    refused("covers", lambda: rasterize(grid, x, f, Gaussian(1e3)))
    refused("layout must be", lambda: rasterize(grid, x, f, layout="last"))
    refused("direction must have", lambda: rasterize(grid, x, f, direction=np.ones((2, 3))))
    refused("no derivatives", lambda: rasterize(grid, x, f, "nearest", direction=x))
    refused("sharp edge", lambda: rasterize(grid, x, f, Sphere(1.0), direction=x))
    refused("offsets must run", lambda: rasterize(grid, x, f, offsets=[0, 2]))
    refused("offsets must not fall", lambda: rasterize(grid, x, f, offsets=[0, 3, 2, 3]))
    refused("offsets must be", lambda: rasterize(grid, x, f, offsets=[0.0, 3.0]))
    refused("out must", lambda: rasterize(grid, x, f, out=np.empty((2, 4, 4, 5))))
    refused("out must", lambda: rasterize(grid, x, f, out=np.empty((2, 4, 4, 4), np.float32)))


def test_sizes_are_checked_before_they_overflow() -> None:
    grid = VoxelGrid(1 << 20, (1.0,) * 3)
    with pytest.raises((InvalidArgument, MemoryError)):
        rasterize(grid, np.ones((1, 3)), np.ones((1, 1)))
    with pytest.raises((InvalidArgument, MemoryError)):
        mlcore.bin_atoms(grid, np.ones((1, 3)))
    grid = VoxelGrid(10**6, (1.0,) * 3)
    assert grid.size == 10**18
    for call in (rasterize, lambda *a: mlcore.bin_atoms(*a[:2])):
        with pytest.raises(InvalidArgument, match=r"shape .*10+.* does not fit into memory"):
            call(grid, np.ones((1, 3)), np.ones((1, 8)))
    grid = VoxelGrid(10**5, (1.0,) * 3)
    for call in (rasterize, lambda *a: mlcore.bin_atoms(*a[:2])):
        with pytest.raises(MemoryError, match="GiB, more than there is"):
            call(grid, np.ones((1, 3)), np.ones((1, 1)))


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_gpu_matches_cpu(dtype: Any) -> None:
    gpu = device_named("cuda")
    tolerance = 1e-5 if dtype == np.float32 else 1e-12

    def close(got: Any, want: np.ndarray) -> None:
        scale = np.abs(want).max(initial=0) + 1
        np.testing.assert_allclose(gpu.get(got), want, rtol=0, atol=tolerance * scale)

    for cell in CELLS.values():
        for pbc in BOUNDARIES:
            for shape in [(1, 2, 3), (8, 9, 7)]:
                grid = VoxelGrid(shape, cell, pbc)
                x, features, along = sample(cell, 90, 11)
                features = features.astype(dtype)
                there = [gpu.put(a) for a in (x, features, along)]
                for kernel in KERNELS.values():
                    for direction in (False, True) if kernel in SMOOTH.values() else (False,):
                        for layout in ("channels_first", "channels_last"):
                            options: dict[str, Any] = {"kernel": kernel, "layout": layout}
                            options["offsets"] = [0, 30, 30, 90]
                            cpu = options | {"direction": along if direction else None}
                            far = options | {"direction": there[2] if direction else None}
                            field = rasterize(grid, x, features, **cpu)
                            first = rasterize(grid, *there[:2], **far)
                            close(first, field)
                            again = rasterize(grid, *there[:2], **far)
                            assert np.array_equal(gpu.get(first), gpu.get(again))
                            free = rasterize(grid, *there[:2], deterministic=False, **far)
                            close(free, field)
                            close(
                                gather(grid, first, there[0], **far), gather(grid, field, x, **cpu)
                            )
                            if kernel in SMOOTH.values():
                                slope = position_gradient(grid, x, features, field, **cpu)
                                got = position_gradient(grid, *there[:2], first, **far)
                                close(got, slope)
    grid = VoxelGrid(4, (4.0,) * 3)
    bad = gpu.put(np.full((3, 3), np.nan))
    with pytest.raises(InvalidArgument, match="finite"):
        rasterize(grid, bad, gpu.put(np.ones((3, 2))))
