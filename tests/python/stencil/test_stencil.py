"""mlcore.conv3d, scatter3d, laplacian, gradient against torch, SciPy, FFTs and their definitions."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import mlcore
import mlcore.reference
import numpy as np
import pytest
from devices import device_named
from hypothesis import given, settings
from hypothesis import strategies as st
from mlcore.errors import InvalidArgument
from mlcore.stencil import conv3d_weight_gradient, finite_difference_adjoint
from scipy import ndimage

torch = pytest.importorskip("torch")
functional = torch.nn.functional

TOLERANCE = {np.float64: 1e-12, np.float32: 2e-5}
BOUNDARIES = ("periodic", "zero", "halo")


def normal(*shape: int, dtype: Any = np.float64, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def with_halo(boundary: str, taps: int, extents: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(n + taps // 2 * 2 if boundary == "halo" else n for n in extents)


def padded(field: Any, taps: int, boundary: str) -> Any:
    """The field with what lies beyond its edges, as a tensor."""
    x = torch.as_tensor(field)
    reach = taps // 2
    if boundary == "halo" or reach == 0:
        return x
    if boundary == "zero":
        return functional.pad(x, (reach,) * 6)
    for axis in (2, 3, 4):  # torch pads circularly by no more than the extent
        index = torch.arange(-reach, x.shape[axis] + reach) % x.shape[axis]
        x = x.index_select(axis, index)
    return x


def torch_conv3d(
    field: Any, weight: Any, boundary: str, stride: int = 1, groups: int = 1
) -> np.ndarray:
    w = torch.as_tensor(weight)
    out = functional.conv3d(padded(field, w.shape[-1], boundary), w, stride=stride, groups=groups)
    return np.asarray(out.numpy())


def close(got: Any, expected: Any, tolerance: float) -> None:
    got, expected = np.asarray(got), np.asarray(expected)
    assert got.shape == expected.shape
    scale = max(float(np.abs(expected).max(initial=0)), 1e-3)
    assert np.abs(got - expected).max(initial=0) <= tolerance * scale


# ---------------------------------------------------------------------------------------- torch
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("boundary", BOUNDARIES)
@pytest.mark.parametrize("taps", [1, 3, 5])
def test_agrees_with_torch(taps: int, boundary: str, dtype: Any) -> None:
    for inputs, outputs, extents in [(3, 5, (4, 6, 19)), (8, 8, (5, 3, 32)), (1, 1, (6, 6, 6))]:
        field = normal(2, inputs, *with_halo(boundary, taps, extents), dtype=dtype)
        weight = normal(outputs, inputs, taps, taps, taps, dtype=dtype, seed=1)
        out = mlcore.conv3d(field, weight, boundary=boundary)
        assert out.dtype == dtype
        close(out, torch_conv3d(field, weight, boundary), TOLERANCE[dtype])


@pytest.mark.parametrize("boundary", BOUNDARIES)
@pytest.mark.parametrize(("stride", "groups"), [(2, 1), (3, 2), (1, 4), (2, 4), (9, 1)])
def test_strides_and_groups(boundary: str, stride: int, groups: int) -> None:
    field = normal(2, 8, *with_halo(boundary, 3, (5, 6, 17)))
    weight = normal(12, 8 // groups, 3, 3, 3, seed=1)
    out = mlcore.conv3d(field, weight, boundary=boundary, stride=stride, groups=groups)
    close(out, torch_conv3d(field, weight, boundary, stride, groups), 1e-12)
    whole = mlcore.conv3d(field, weight, boundary=boundary, groups=groups)
    close(out, whole[:, :, ::stride, ::stride, ::stride], 1e-12)


ACTIVATIONS: dict[str | None, Callable[[Any], Any]] = {
    None: lambda x: x,
    "relu": functional.relu,
    "silu": functional.silu,
    "gelu": functional.gelu,
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
}


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("layout", ["channels_first", "channels_last"])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_what_follows_the_sum(activation: str | None, layout: str, dtype: Any) -> None:
    field, weight = normal(2, 4, 3, 5, 18, dtype=dtype), normal(6, 4, 3, 3, 3, dtype=dtype, seed=1)
    bias, residual = normal(6, dtype=dtype, seed=2), normal(2, 6, 3, 5, 18, dtype=dtype, seed=3)
    mask = normal(2, 3, 5, 18, seed=4) > 0
    plain = torch_conv3d(field, weight, "periodic") + bias[:, None, None, None]
    expected = (ACTIVATIONS[activation](torch.as_tensor(plain)).numpy() + residual) * mask[:, None]
    if layout == "channels_last":
        field, residual = np.moveaxis(field, 1, -1), np.moveaxis(residual, 1, -1)
        expected = np.moveaxis(expected, 1, -1)
    options: dict[str, Any] = {"layout": layout, "activation": activation}
    out = mlcore.conv3d(field, weight, bias, residual=residual, mask=mask, **options)
    close(out, expected, TOLERANCE[dtype])
    shared = mlcore.conv3d(field, weight, bias, residual=residual, mask=mask[0], **options)
    close(shared[0], expected[0], TOLERANCE[dtype])


def test_layouts_kinds_and_batches() -> None:
    field, weight = normal(2, 4, 3, 5, 18), normal(6, 4, 3, 3, 3, seed=1)
    expected = torch_conv3d(field, weight, "periodic")
    last = mlcore.conv3d(np.moveaxis(field, 1, -1), weight, layout="channels_last")
    close(np.moveaxis(last, -1, 1), expected, 1e-12)
    close(mlcore.conv3d(field[1], weight), expected[1], 1e-12)
    tensor = mlcore.conv3d(torch.from_numpy(field), torch.from_numpy(weight))
    assert isinstance(tensor, torch.Tensor)
    close(tensor.numpy(), expected, 1e-12)
    strided = normal(2, 4, 3, 5, 36)[..., ::2]
    close(mlcore.conv3d(strided, weight), torch_conv3d(strided.copy(), weight, "periodic"), 1e-12)


def test_out_is_filled() -> None:
    field, weight = normal(1, 4, 3, 5, 18), normal(6, 4, 3, 3, 3, seed=1)
    out = np.full((1, 6, 3, 5, 18), np.nan)
    assert mlcore.conv3d(field, weight, out=out) is out
    close(out, torch_conv3d(field, weight, "periodic"), 1e-12)
    with pytest.raises(InvalidArgument, match="out"):
        mlcore.conv3d(field, weight, out=out.astype(np.float32))
    with pytest.raises(InvalidArgument, match="share memory"):
        mlcore.conv3d(field, normal(4, 4, 3, 3, 3), out=field)


def test_single_precision_needs_all_arrays_single() -> None:
    field, weight = normal(1, 1, 4, 4, 4, dtype=np.float32), normal(1, 1, 3, 3, 3)
    assert mlcore.conv3d(field, weight).dtype == np.float64
    assert mlcore.conv3d(field, weight.astype(np.float32)).dtype == np.float32


@settings(max_examples=60, deadline=None)
@given(
    extents=st.tuples(*[st.integers(1, 9)] * 2, st.integers(1, 40)),
    channels=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    taps=st.sampled_from([1, 3, 5]),
    boundary=st.sampled_from(BOUNDARIES),
    stride=st.integers(1, 3),
    layout=st.sampled_from(["channels_first", "channels_last"]),
    seed=st.integers(0, 2**31),
)
def test_any_shape(
    extents: tuple[int, int, int],
    channels: tuple[int, int],
    taps: int,
    boundary: str,
    stride: int,
    layout: str,
    seed: int,
) -> None:
    field = normal(1, channels[0], *with_halo(boundary, taps, extents), seed=seed)
    weight = normal(channels[1], channels[0], taps, taps, taps, seed=seed + 1)
    expected = torch_conv3d(field, weight, boundary, stride)
    values = normal(*expected.shape, seed=seed + 2)
    options: dict[str, Any] = {"boundary": boundary, "stride": stride, "layout": layout}
    placed = [field, expected, values]
    if layout == "channels_last":
        placed = [np.ascontiguousarray(np.moveaxis(a, 1, -1)) for a in placed]
    field, expected, values = placed
    out = mlcore.conv3d(field, weight, **options)
    close(out, expected, 1e-12)
    inside = field.shape[2:] if layout == "channels_first" else field.shape[1:4]
    back = mlcore.scatter3d(values, weight, extents=inside, **options)
    assert back.shape == field.shape
    gradient = conv3d_weight_gradient(field, values, taps, **options)
    product, scale = np.vdot(out, values), np.linalg.norm(out) * np.linalg.norm(values)
    assert abs(product - np.vdot(field, back)) <= 1e-12 * scale
    assert abs(product - np.vdot(weight, gradient)) <= 1e-12 * scale


# ----------------------------------------------------------------------------------- scatter3d
def test_scatter_is_torch_transposed() -> None:
    values, weight = normal(2, 4, 3, 5, 7), normal(4, 6, 3, 3, 3, seed=1)
    v, w = torch.from_numpy(values), torch.from_numpy(weight)
    for stride in (1, 2):
        full = functional.conv_transpose3d(v, w, stride=stride).numpy()
        close(mlcore.scatter3d(values, weight, stride=stride), full, 1e-12)
        inner = functional.conv_transpose3d(v, w, stride=stride, padding=1).numpy()
        close(mlcore.scatter3d(values, weight, "zero", stride), inner, 1e-12)
    grouped = functional.conv_transpose3d(v, torch.from_numpy(weight[:, :3]), groups=2).numpy()
    close(mlcore.scatter3d(values, weight[:, :3], groups=2), grouped, 1e-12)


def test_virtual_cells_fold_back() -> None:
    """The periodic result is the full one with its rim brought in on the other side."""
    values, weight = normal(1, 2, 4, 5, 6), normal(2, 3, 5, 5, 5, seed=1)
    folded = np.zeros((1, 3, 4, 5, 6))
    full = mlcore.scatter3d(values, weight)
    assert full.shape == (1, 3, 8, 9, 10)
    for x, y, z in np.ndindex(8, 9, 10):
        folded[:, :, (x - 2) % 4, (y - 2) % 5, (z - 2) % 6] += full[:, :, x, y, z]
    close(mlcore.scatter3d(values, weight, "periodic"), folded, 1e-12)


# -------------------------------------------------------------------------------- other oracles
def test_agrees_with_scipy() -> None:
    field, weight = normal(1, 1, 6, 7, 20), normal(1, 1, 5, 5, 5, seed=1)
    for boundary, mode in (("periodic", "wrap"), ("zero", "constant")):
        expected = ndimage.correlate(field[0, 0], weight[0, 0], mode=mode)
        close(mlcore.conv3d(field, weight, boundary=boundary)[0, 0], expected, 1e-12)


def test_agrees_with_the_reference() -> None:
    field, weight = normal(1, 4, 3, 4, 9), normal(4, 2, 3, 3, 3, seed=1)
    options: dict[str, Any] = {"boundary": "zero", "stride": 2, "groups": 2}
    expected = mlcore.reference.conv3d(field, weight, activation="silu", **options)
    close(mlcore.conv3d(field, weight, activation="silu", **options), expected, 1e-13)
    back = mlcore.reference.scatter3d(expected, weight, **options)
    close(mlcore.scatter3d(expected, weight, **options), back, 1e-13)
    close(mlcore.laplacian(field, 0.5, 4), mlcore.reference.laplacian(field, 0.5, 4), 1e-13)
    close(mlcore.gradient(field, 0.5, 6), mlcore.reference.gradient(field, 0.5, 6), 1e-13)


def test_single_precision_is_as_good_as_the_plain_sum() -> None:
    """Minimal filtering costs no more than a small factor against torch's plain sum."""
    field, weight = normal(1, 32, 8, 8, 32), normal(32, 32, 3, 3, 3, seed=1)
    exact = torch_conv3d(field, weight, "periodic")
    f, w = field.astype(np.float32), weight.astype(np.float32)
    exact32 = torch_conv3d(f.astype(float), w.astype(float), "periodic")
    ours = np.abs(mlcore.conv3d(f, w) - exact32)
    plain = np.abs(torch_conv3d(f, w, "periodic") - exact32)
    assert np.sqrt((ours**2).mean()) < 4 * np.sqrt((plain**2).mean())
    assert ours.max() < 2e-6 * np.abs(exact).max()


# ---------------------------------------------------------------------------- finite differences
@pytest.mark.parametrize("order", [2, 4, 6])
def test_laplacian_of_plane_waves(order: int) -> None:
    """On a plane wave it is a number, known from the FFT of the stencil; it tends to -k^2."""
    n, waves = (16, 12, 20), (2, -1, 3)
    spacing = (0.5, 1.0, 0.25)
    index = np.stack(np.meshgrid(*map(np.arange, n), indexing="ij"))
    phase = sum(2 * np.pi * w * i / m for w, i, m in zip(waves, index, n, strict=True))
    got = mlcore.laplacian(np.cos(phase), spacing, order)
    delta = np.zeros(n)
    delta[0, 0, 0] = 1
    symbol = np.fft.fftn(mlcore.laplacian(delta, spacing, order))[waves]
    assert abs(symbol.imag) < 1e-12
    close(got, symbol.real * np.cos(phase), 1e-12)
    k2 = sum((2 * np.pi * w / m / h) ** 2 for w, m, h in zip(waves, n, spacing, strict=True))
    assert symbol.real == pytest.approx(-k2, rel={2: 0.1, 4: 0.02, 6: 0.005}[order])


@pytest.mark.parametrize("order", [2, 4, 6])
def test_order_of_convergence(order: int) -> None:
    def errors(n: int) -> tuple[float, float]:
        x = 2 * np.pi * np.arange(n) / n
        field = np.sin(x)[:, None, None] * np.cos(2 * x)[None, :, None] * np.sin(x + 1)
        h = 2 * np.pi / n
        dx = np.cos(x)[:, None, None] * np.cos(2 * x)[None, :, None] * np.sin(x + 1)
        second = np.abs(mlcore.laplacian(field, h, order) + 6 * field).max()
        return second, np.abs(mlcore.gradient(field, h, order)[0] - dx).max()

    coarse, fine = errors(16), errors(32)
    for a, b in zip(coarse, fine, strict=True):
        assert np.log2(a / b) == pytest.approx(order, abs=0.35)


@pytest.mark.parametrize("boundary", BOUNDARIES)
@pytest.mark.parametrize("order", [2, 4, 6])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_differences_are_stencils(order: int, boundary: str, dtype: Any) -> None:
    """The same along each axis with SciPy, with leading axes, and on a halo."""
    extents = with_halo(boundary, order + 1, (4, 7, 33))
    field, spacing = normal(2, 3, *extents, dtype=dtype), (0.5, 2.0, 1.5)
    first = {2: [-1, 0, 1], 4: [1, -8, 0, 8, -1], 6: [-1, 9, -45, 0, 45, -9, 1]}[order]
    divisor = {2: 2, 4: 12, 6: 60}[order]
    mode = "wrap" if boundary == "periodic" else "constant"
    reach = order // 2
    inside = (..., *[slice(reach, -reach) if boundary == "halo" else slice(None)] * 3)
    got = mlcore.gradient(field, spacing, order, boundary)
    assert got.dtype == dtype
    for axis, h in enumerate(spacing):
        weights = np.array(first) / divisor / h
        expected = ndimage.correlate1d(field.astype(float), weights, axis - 3, mode=mode)[inside]
        close(got[:, :, axis], expected, TOLERANCE[dtype])
    lap = mlcore.laplacian(field, spacing, order, boundary)
    values = normal(*lap.shape, seed=1)
    back = finite_difference_adjoint("laplacian", values, spacing, order, boundary)
    assert back.shape == field.shape
    scale = np.linalg.norm(lap) * np.linalg.norm(values)
    assert abs(np.vdot(lap, values) - np.vdot(field, back)) < TOLERANCE[dtype] * scale


# ------------------------------------------------------------------------------------- robustness
def test_threads_do_not_change_a_bit() -> None:
    field, weight = normal(2, 8, 9, 10, 33, dtype=np.float32), normal(8, 8, 3, 3, 3, seed=1)
    w = weight.astype(np.float32)
    runs: list[Callable[[int], Any]] = [
        lambda n: mlcore.conv3d(field, w, num_threads=n),
        lambda n: mlcore.conv3d(field, w, num_threads=n, stride=2),
        lambda n: mlcore.scatter3d(field, w, num_threads=n),
        lambda n: conv3d_weight_gradient(field, field, 3, num_threads=n),
        lambda n: mlcore.gradient(field, num_threads=n),
    ]
    for run in runs:
        one = run(1)
        for threads in (2, 7):
            assert np.array_equal(one, run(threads))


SAME = """
import numpy as np, mlcore
from mlcore.stencil import conv3d_weight_gradient
rng = np.random.default_rng(0)
field, weight = rng.standard_normal((1, 5, 4, 5, 23)), rng.standard_normal((6, 5, 3, 3, 3))
values = mlcore.conv3d(field, weight, boundary="zero", activation="silu")
parts = [values, mlcore.scatter3d(values, weight), conv3d_weight_gradient(field, values, 3),
         mlcore.conv3d(field, weight[:, :, :1, :1, :1]), mlcore.laplacian(field, order=4)]
single = mlcore.conv3d(field.astype("f4"), weight.astype("f4"))
print(mlcore._core.simd_level(), *(repr(float(np.abs(p).sum())) for p in [*parts, single]))
"""


def test_every_instruction_set_agrees() -> None:
    results = {}
    for level in ("baseline", "avx2", "avx512"):
        environment = {**os.environ, "MLCORE_SIMD": level}
        done = subprocess.run(
            [sys.executable, "-c", SAME],
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        )
        used, *sums = done.stdout.split()
        results[used] = np.array(sums, float)
    first = results["baseline"]
    for sums in results.values():
        np.testing.assert_allclose(sums[:-1], first[:-1], rtol=1e-13)
        np.testing.assert_allclose(sums[-1], first[-1], rtol=1e-5)


@pytest.mark.parametrize("inputs", [1, 4])
def test_nan_reaches_what_sees_it_as_in_torch(inputs: int) -> None:
    field, weight = normal(1, inputs, 6, 7, 20), normal(4, inputs, 3, 3, 3, seed=1)
    for at in [(0, 0, 0), (2, 3, 7), (5, 6, 19)]:
        broken = field.copy()
        broken[(0, 0, *at)] = np.nan
        for boundary in ("periodic", "zero"):
            got = np.isnan(mlcore.conv3d(broken, weight, boundary=boundary))
            assert np.array_equal(got, np.isnan(torch_conv3d(broken, weight, boundary)))


def test_sizes_beyond_memory_are_refused() -> None:
    values, weight = normal(1, 1, 2, 2, 2), normal(1, 1, 3, 3, 3)
    with pytest.raises(InvalidArgument, match="does not fit"):
        mlcore.scatter3d(values, weight, extents=(10**9,) * 3)


def test_results_have_memory_of_their_own() -> None:
    weight = normal(4, 4, 3, 3, 3)
    fields = [normal(1, 4, 8, 16, 32, seed=seed) for seed in range(3)]
    results = [mlcore.conv3d(field, weight) for field in fields]
    for field, result in zip(fields, results, strict=True):
        close(result, torch_conv3d(field, weight, "periodic"), 1e-12)


def test_weight_gradients_go_where_the_caller_says() -> None:
    field, values = normal(2, 4, 3, 5, 18), normal(2, 6, 3, 5, 18, seed=1)
    want = conv3d_weight_gradient(field, values, 3)
    for put in (np.asarray, torch.from_numpy):
        out = put(np.full((6, 4, 3, 3, 3), np.nan))
        assert conv3d_weight_gradient(put(field), put(values), 3, out=out) is out
        assert np.array_equal(np.asarray(out), want)
    for out, message in (
        (np.empty((6, 4, 3, 3)), "out must have the shape"),
        (np.empty((6, 4, 3, 3, 3), np.float32), "out must be C-contiguous float64"),
        (field.ravel()[: 6 * 4 * 27].reshape(6, 4, 3, 3, 3), "out and field share memory"),
        (values.ravel()[: 6 * 4 * 27].reshape(6, 4, 3, 3, 3), "out and values share memory"),
        ([], "out must be an array"),
    ):
        with pytest.raises(InvalidArgument, match=message):
            conv3d_weight_gradient(field, values, 3, out=out)


def test_misaligned_arrays() -> None:
    field, weight = normal(1, 4, 3, 5, 18), normal(4, 4, 3, 3, 3, seed=1)
    memory = np.zeros(field.nbytes + 1, np.uint8)
    shifted = memory[1:].view(np.float64).reshape(field.shape)
    shifted[...] = field
    assert not shifted.flags.aligned
    assert np.array_equal(mlcore.conv3d(shifted, weight), mlcore.conv3d(field, weight))


def test_empty_batch_and_no_voxels() -> None:
    weight = normal(6, 4, 3, 3, 3)
    assert mlcore.conv3d(np.empty((0, 4, 3, 5, 6)), weight).shape == (0, 6, 3, 5, 6)
    assert mlcore.conv3d(np.empty((2, 4, 2, 5, 6)), weight, boundary="halo").shape == (
        2,
        6,
        0,
        3,
        4,
    )
    assert mlcore.scatter3d(np.empty((2, 6, 0, 3, 4)), weight).shape == (2, 4, 2, 5, 6)
    assert mlcore.laplacian(np.empty((0, 3, 4, 5))).shape == (0, 3, 4, 5)


def test_bad_input_is_named() -> None:
    field, weight = normal(1, 4, 3, 5, 6), normal(6, 4, 3, 3, 3)
    cases: list[tuple[str, Callable[[], Any]]] = [
        ("field", lambda: mlcore.conv3d(field[0, 0], weight)),
        ("field must have 4 channels", lambda: mlcore.conv3d(field[:, :3], weight)),
        ("field", lambda: mlcore.conv3d(field[:, :, :1], weight, boundary="halo")),
        ("field must be an array", lambda: mlcore.conv3d(np.array(["a"]), weight)),
        ("weight", lambda: mlcore.conv3d(field, weight[0])),
        ("k = 1, 3 or 5", lambda: mlcore.conv3d(field, normal(6, 4, 2, 2, 2))),
        ("k = 1, 3 or 5", lambda: mlcore.conv3d(field, normal(6, 4, 3, 3, 1))),
        ("bias", lambda: mlcore.conv3d(field, weight, np.zeros(5))),
        ("boundary", lambda: mlcore.conv3d(field, weight, boundary="open")),
        ("activation", lambda: mlcore.conv3d(field, weight, activation="swish")),
        ("residual", lambda: mlcore.conv3d(field, weight, residual=field)),
        ("mask", lambda: mlcore.conv3d(field, weight, mask=np.ones((3, 5, 7)))),
        ("mask", lambda: mlcore.conv3d(field, weight, mask=np.ones(6))),
        ("stride", lambda: mlcore.conv3d(field, weight, stride=0)),
        ("groups", lambda: mlcore.conv3d(field, weight, groups=4)),
        ("layout", lambda: mlcore.conv3d(field, weight, layout="last")),
        ("extents", lambda: mlcore.scatter3d(field, weight, extents=(1, 2))),
        ("values", lambda: mlcore.scatter3d(field, weight)),
        ("order", lambda: mlcore.laplacian(field, order=3)),
        ("spacing", lambda: mlcore.laplacian(field, spacing=0)),
        ("spacing", lambda: mlcore.laplacian(field, spacing=(1, 2))),
        ("boundary", lambda: mlcore.laplacian(field, boundary="open")),
        ("field", lambda: mlcore.laplacian(field, order=6, boundary="halo")),
        ("field", lambda: mlcore.laplacian(field[0, 0, 0])),
    ]
    for name, call in cases:
        with pytest.raises(InvalidArgument, match=name):
            call()


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_gpu_matches_cpu(dtype: Any) -> None:
    device = device_named("cuda")
    for boundary in BOUNDARIES:
        for taps, stride, groups in [(3, 1, 1), (5, 1, 2), (1, 2, 1), (3, 2, 4)]:
            extents = with_halo(boundary, taps, (9, 10, 35))
            field = normal(2, 8, *extents, dtype=dtype)
            weight = normal(12, 8 // groups, taps, taps, taps, dtype=dtype, seed=1)
            bias = normal(12, dtype=dtype, seed=2)
            options: dict[str, Any] = {"boundary": boundary, "stride": stride, "groups": groups}
            f, w, b = (device.put(a) for a in (field, weight, bias))
            out = mlcore.conv3d(field, weight, bias, activation="gelu", **options)
            gpu = mlcore.conv3d(f, w, b, activation="gelu", **options)
            close(device.get(gpu), out, TOLERANCE[dtype])
            back = mlcore.scatter3d(out, weight, extents=extents, **options)
            again = mlcore.scatter3d(gpu, w, extents=extents, **options)
            close(device.get(again), back, TOLERANCE[dtype])
            slope = conv3d_weight_gradient(field, out, taps, **options)
            again = conv3d_weight_gradient(f, gpu, taps, **options)
            close(device.get(again), slope, TOLERANCE[dtype])
        for order in (2, 4, 6):
            field = normal(2, *with_halo(boundary, order + 1, (9, 10, 35)), dtype=dtype)
            f = device.put(field)
            for name in ("laplacian", "gradient"):
                operation = getattr(mlcore, name)
                expected = operation(field, (1, 2, 3), order, boundary)
                again = operation(f, (1, 2, 3), order, boundary)
                close(device.get(again), expected, TOLERANCE[dtype])
                back = finite_difference_adjoint(name, expected, (1, 2, 3), order, boundary)
                v = device.put(expected)
                again = finite_difference_adjoint(name, v, (1, 2, 3), order, boundary)
                close(device.get(again), back, TOLERANCE[dtype])
