"""Convolution on occupied voxels against the dense one, its reference and its transpose."""

from __future__ import annotations

import os
import subprocess
import sys
import zlib

import mlcore
import numpy as np
import pytest
import torch
from dense_fields import dense_conv, occupied
from devices import device_named
from hypothesis import given, settings
from hypothesis import strategies as st
from mlcore import ActiveSet, _core, conv3d_active, scatter3d_active
from torch.nn import functional

ACTIVATIONS = {
    None: lambda s: s,
    "relu": functional.relu,
    "silu": functional.silu,
    "gelu": functional.gelu,
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
}


def parts(rng, active, channels, outputs, k, dtype=np.float64):
    """Features, weights and biases of a convolution."""
    return (
        rng.standard_normal((len(active), channels)).astype(dtype),
        rng.standard_normal((outputs, channels, k, k, k)).astype(dtype),
        rng.standard_normal(outputs).astype(dtype),
    )


def assert_dense(active, features, weight, bias, tolerance=1e-12, result=None):
    """On its outputs the result is that of the dense field."""
    result = conv3d_active(active, features, weight, bias) if result is None else result
    dense, w, b = (part.astype(np.float64) for part in (active.scatter(features), weight, bias))
    want = active.outputs.gather(dense_conv(dense, w, b, active.boundary))
    # rounding of a sum grows with the sizes of its terms (N. Higham, Accuracy and Stability, 3.1)
    terms = active.outputs.gather(dense_conv(abs(dense), abs(w), abs(b), active.boundary))
    scale = np.maximum(np.sqrt(weight.shape[1] * weight.shape[-1] ** 3), 0.1 * terms)
    assert result.dtype == features.dtype
    assert (abs(result - want) <= tolerance * scale).all()


@pytest.mark.parametrize("boundary", ["periodic", "zero"])
@pytest.mark.parametrize("k", [1, 3, 5])
@pytest.mark.parametrize("dilate", [0, 1, 2])
def test_equals_the_dense_convolution(boundary, k, dilate):
    rng = np.random.default_rng(k + 10 * dilate)
    for shape, share in (((7, 6, 9), 0.3), ((4, 3, 130), 0.1), ((1, 2, 70), 0.5)):
        active = ActiveSet(shape, occupied(rng, shape, share), boundary, dilate=dilate)
        assert_dense(active, *parts(rng, active, 5, 18, k))


@settings(max_examples=80, deadline=None)
@given(
    shape=st.tuples(st.integers(1, 6), st.integers(1, 6), st.integers(1, 70)),
    share=st.sampled_from([0.0, 0.02, 0.3, 0.9, 1.0]),
    k=st.sampled_from([1, 3, 5]),
    channels=st.integers(1, 35),
    outputs=st.integers(1, 35),
    boundary=st.sampled_from(["periodic", "zero"]),
    dilate=st.integers(0, 2),
    shuffled=st.booleans(),
    single=st.booleans(),
    seed=st.integers(0, 2**32),
)
def test_any_shape_and_occupancy(
    shape, share, k, channels, outputs, boundary, dilate, shuffled, single, seed
):
    rng = np.random.default_rng(seed)
    voxels = occupied(rng, shape, share)
    if shuffled:
        rng.shuffle(voxels)
    active = ActiveSet(shape, voxels, boundary, dilate=dilate)
    dtype, tolerance = (np.float32, 1e-5) if single else (np.float64, 1e-13)
    features, weight, bias = parts(rng, active, channels, outputs, k, dtype)
    assert_dense(active, features, weight, bias, tolerance)
    values = rng.standard_normal((len(active.outputs), outputs)).astype(dtype)
    spread = scatter3d_active(active, values, weight)
    assert spread.dtype == dtype
    there = np.vdot(values.astype("f8"), conv3d_active(active, features, weight).astype("f8"))
    back = np.vdot(spread.astype("f8"), features.astype("f8"))
    scale = np.linalg.norm(values) * np.linalg.norm(features) * np.linalg.norm(weight)
    assert abs(there - back) <= tolerance * (1 + scale)


@pytest.mark.parametrize("width", [1, 2, 3])
@pytest.mark.parametrize("k", [3, 5])
def test_several_weights_meet_one_voxel_on_narrow_periodic_grids(width, k):
    rng = np.random.default_rng(width)
    for shape in ((width, 4, 4), (4, width, 4), (4, 4, width), (width,) * 3):
        active = ActiveSet(shape, occupied(rng, shape, 0.6), dilate=1)
        assert_dense(active, *parts(rng, active, 3, 4, k))
    one = ActiveSet((1, 1, 1), [[0, 0, 0]])
    weight = rng.standard_normal((1, 1, k, k, k))
    result = conv3d_active(one, np.ones((1, 1)), weight)
    np.testing.assert_allclose(result, weight.sum(), rtol=1e-13)


@pytest.mark.parametrize("dilate", [0, 1])
def test_no_voxel_one_voxel_and_all(dilate):
    rng = np.random.default_rng(5)
    empty = ActiveSet((4, 4, 4), [], dilate=dilate)
    features, weight, bias = parts(rng, empty, 3, 2, 3)
    assert conv3d_active(empty, features, weight, bias).shape == (0, 2)
    assert scatter3d_active(empty, np.zeros((0, 2)), weight).shape == (0, 3)
    assert empty.neighbors(3).shape == (0, 27)
    one = ActiveSet((5, 5, 5), [[0, 4, 2]], dilate=dilate)
    assert len(one.outputs) == (27 if dilate else 1)
    assert_dense(one, *parts(rng, one, 3, 2, 3))
    full = ActiveSet.from_mask(np.ones((5, 6, 7)), dilate=dilate)
    assert len(full) == len(full.outputs) == 210
    assert_dense(full, *parts(rng, full, 3, 17, 3))


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("outputs", [3, 16, 33])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_bias_activation_and_residual_in_one_pass(activation, outputs, dtype):
    rng = np.random.default_rng(outputs)
    voxels = occupied(rng, (6, 6, 6), 0.3)
    for order in (slice(None), slice(None, None, -1)):
        active = ActiveSet((6, 6, 6), voxels[order].copy())
        features, weight, bias = parts(rng, active, 4, outputs, 3, dtype)
        residual = rng.standard_normal((len(active), outputs)).astype(dtype)
        got = conv3d_active(active, features, weight, bias, activation, residual)
        sums = torch.from_numpy(conv3d_active(active, features, weight, bias).astype("f8"))
        want = ACTIVATIONS[activation](sums).numpy() + residual
        np.testing.assert_allclose(got, want, rtol=0, atol=2e-5 if dtype == np.float32 else 1e-13)
        slow = mlcore.reference.conv3d_active(active, features, weight, bias, activation, residual)
        np.testing.assert_allclose(got, slow, rtol=0, atol=3e-5 if dtype == np.float32 else 1e-12)


def test_reference_of_the_transpose():
    rng = np.random.default_rng(8)
    active = ActiveSet((4, 5, 6), occupied(rng, (4, 5, 6), 0.4), "zero", dilate=1)
    weight = rng.standard_normal((3, 2, 3, 3, 3))
    values = rng.standard_normal((len(active.outputs), 3))
    got = scatter3d_active(active, values, weight)
    want = mlcore.reference.scatter3d_active(active, values, weight)
    np.testing.assert_allclose(got, want, rtol=0, atol=1e-13)


def test_batches_do_not_see_each_other():
    rng = np.random.default_rng(9)
    mask = rng.random((3, 4, 5, 6)) < 0.4
    active = ActiveSet.from_mask(mask, dilate=1)
    features, weight, bias = parts(rng, active, 3, 4, 3)
    result = active.outputs.scatter(conv3d_active(active, features, weight, bias))
    for b in range(3):
        alone = ActiveSet.from_mask(mask[b], dilate=1)
        rows = active.coordinates[:, 0] == b
        part = conv3d_active(alone, features[rows], weight, bias)
        assert np.array_equal(alone.outputs.scatter(part), result[b])


def test_rows_follow_the_callers_order():
    rng = np.random.default_rng(10)
    voxels = occupied(rng, (8, 8, 8), 0.3)
    order = rng.permutation(len(voxels))
    sorted_set, shuffled = ActiveSet((8, 8, 8), voxels), ActiveSet((8, 8, 8), voxels[order])
    features, weight, bias = parts(rng, sorted_set, 6, 7, 3)
    want = conv3d_active(sorted_set, features, weight, bias)
    assert np.array_equal(conv3d_active(shuffled, features[order], weight, bias), want[order])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_threads_do_not_change_a_bit(dtype):
    rng = np.random.default_rng(11)
    voxels = occupied(rng, (40, 20, 70), 0.2)
    rng.shuffle(voxels)
    results = []
    for threads in (1, 2, 7):
        mlcore.set_num_threads(threads)
        try:
            active = ActiveSet((40, 20, 70), voxels, dilate=1)
            rng2 = np.random.default_rng(12)
            features, weight, bias = parts(rng2, active, 20, 24, 3, dtype)
            got = conv3d_active(active, features, weight, bias, "silu")
            back = scatter3d_active(active, got, weight)
            gradient = np.empty_like(weight)
            _core.conv3d_active_weight_gradient(
                active.rules(3), features, got, gradient, dtype == np.float32
            )
            results.append([a.tobytes() for a in (active.rules(3), got, back, gradient)])
        finally:
            mlcore.set_num_threads(0)
    assert results[0] == results[1] == results[2]


@pytest.mark.parametrize("level", ["baseline", "avx2", "avx512"])
def test_every_instruction_set(level):
    script = """
import mlcore, numpy as np, zlib
rng = np.random.default_rng(3)
mask = rng.random((4, 3, 75)) < 0.3
for dilate in (0, 1):
    active = mlcore.ActiveSet.from_mask(mask, dilate=dilate)
    print(zlib.crc32(active.neighbors(5).tobytes()))
    for channels, outputs in ((1, 1), (7, 9), (16, 16), (19, 33)):
        features = rng.standard_normal((len(active), channels))
        weight = rng.standard_normal((outputs, channels, 3, 3, 3))
        want = mlcore.reference.conv3d_active(active, features, weight)
        for dtype, tolerance in (("f8", 1e-12), ("f4", 1e-4)):
            got = mlcore.conv3d_active(active, features.astype(dtype), weight.astype(dtype))
            assert abs(got - want).max() < tolerance, abs(got - want).max()
"""
    environment = os.environ | {"MLCORE_SIMD": level, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    mask = np.random.default_rng(3).random((4, 3, 75)) < 0.3
    tables = [ActiveSet.from_mask(mask, dilate=d).neighbors(5).tobytes() for d in (0, 1)]
    assert done.stdout.split() == [str(zlib.crc32(table)) for table in tables]


def test_out_is_filled_and_returned():
    rng = np.random.default_rng(13)
    active = ActiveSet((6, 6, 6), occupied(rng, (6, 6, 6), 0.3))
    features, weight, bias = parts(rng, active, 4, 5, 3)
    out = np.full((len(active), 5), np.nan)
    assert conv3d_active(active, features, weight, bias, out=out) is out
    assert np.array_equal(out, conv3d_active(active, features, weight, bias))
    back = np.full((len(active), 4), np.nan)
    assert scatter3d_active(active, out, weight, out=back) is back
    assert np.array_equal(back, scatter3d_active(active, out, weight))


def test_any_layout_of_the_arguments():
    rng = np.random.default_rng(14)
    active = ActiveSet((6, 6, 6), occupied(rng, (6, 6, 6), 0.3))
    features, weight, bias = parts(rng, active, 4, 5, 3, np.float32)
    want = conv3d_active(active, features, weight, bias)
    raw = np.empty(features.nbytes + 1, np.uint8)[1:].view(np.float32)  # not aligned
    askew = raw[: features.size].reshape(features.shape)
    askew[:] = features
    strided = np.repeat(weight, 2, axis=0)[::2]
    assert np.array_equal(conv3d_active(active, askew, strided, bias), want)
    tensor = conv3d_active(active, torch.from_numpy(features), torch.from_numpy(weight), bias)
    assert isinstance(tensor, torch.Tensor) and np.array_equal(tensor.numpy(), want)
    assert conv3d_active(active, features, weight.astype("f8"), bias).dtype == np.float64


def test_what_is_wrong_is_named():
    active = ActiveSet((4, 4, 4), [[0, 0, 0], [1, 2, 3]])
    weight, features = np.zeros((3, 2, 3, 3, 3)), np.zeros((2, 2))
    calls = {
        "features must have the length 2 along axis 0": lambda: conv3d_active(
            active, np.zeros((3, 2)), weight
        ),
        "features must have the length 2 along axis 1": lambda: conv3d_active(
            active, np.zeros((2, 5)), weight
        ),
        r"\(O, C, k, k, k\)": lambda: conv3d_active(active, features, np.zeros((3, 2, 3, 3))),
        "1, 3 or 5": lambda: conv3d_active(active, features, np.zeros((3, 2, 4, 4, 4))),
        "bias must have the length 3": lambda: conv3d_active(active, features, weight, np.zeros(2)),
        "activation must be": lambda: conv3d_active(active, features, weight, activation="elu"),
        "residual must have the length 3": lambda: conv3d_active(
            active, features, weight, residual=np.zeros((2, 2))
        ),
        "out must have the shape": lambda: conv3d_active(
            active, features, weight, out=np.zeros((2, 2))
        ),
        "values must have the length 3": lambda: scatter3d_active(active, features, weight),
        "requires gradients": lambda: conv3d_active(
            active, torch.zeros(2, 2, requires_grad=True), weight
        ),
    }
    same = np.zeros((2, 2, 3, 3, 3))
    both = np.zeros((4, 2))
    calls |= {
        "out must not overlap features": lambda: conv3d_active(
            active, both[:2], same, out=both[1:3]
        ),
        "out must not overlap residual": lambda: conv3d_active(
            active, features, same, residual=both[:2], out=both[:2]
        ),
        "out must not overlap values": lambda: scatter3d_active(
            active, both[:2], same, out=both[:2]
        ),
    }
    for message, call in calls.items():
        with pytest.raises(mlcore.InvalidArgument, match=message):
            call()


@pytest.mark.gpu
@pytest.mark.parametrize("boundary", ["periodic", "zero"])
@pytest.mark.parametrize("dilate", [0, 1])
def test_gpu_matches_cpu(boundary, dilate):
    gpu = device_named("cuda")
    rng = np.random.default_rng(15)
    voxels = occupied(rng, (9, 8, 70), 0.2)
    rng.shuffle(voxels)
    active = ActiveSet((9, 8, 70), voxels, boundary, dilate=dilate)
    there = ActiveSet((9, 8, 70), gpu.put(voxels), boundary, dilate=dilate)
    assert np.array_equal(gpu.get(there.neighbors(3)), active.neighbors(3))
    for dtype, tolerance in ((np.float32, 1e-4), (np.float64, 1e-12)):
        features, weight, bias = parts(rng, active, 11, 19, 3, dtype)
        on_gpu = [gpu.put(a) for a in (features, weight, bias)]
        want = conv3d_active(active, features, weight, bias, "gelu")
        got = conv3d_active(there, *on_gpu, "gelu")
        np.testing.assert_allclose(gpu.get(got), want, rtol=0, atol=tolerance)
        back = gpu.get(scatter3d_active(there, got, on_gpu[1]))
        np.testing.assert_allclose(
            back, scatter3d_active(active, want, weight), rtol=0, atol=100 * tolerance
        )
        sums = gpu.put(np.empty_like(weight))
        slow = np.empty_like(weight)
        single = dtype == np.float32
        _core.conv3d_active_weight_gradient(there.rules(3), on_gpu[0], got, sums, single)
        _core.conv3d_active_weight_gradient(active.rules(3), features, want, slow, single)
        np.testing.assert_allclose(gpu.get(sums), slow, rtol=0, atol=100 * tolerance)
