"""Sets of occupied voxels: what they hold, what they refuse, dense fields in and out."""

from __future__ import annotations

import copy
import pickle

import mlcore
import numpy as np
import pytest
import torch
from dense_fields import occupied
from mlcore import ActiveSet


@pytest.mark.parametrize("shape", [(3, 4, 5), (2, 2, 64), (2, 1, 65), (1, 3, 200)])
def test_coordinates_come_back_in_their_order(shape):
    rng = np.random.default_rng(1)
    voxels = occupied(rng, shape, 0.4)
    for order in (np.arange(len(voxels)), rng.permutation(len(voxels))):
        active = ActiveSet(shape, voxels[order])
        assert len(active) == len(voxels)
        assert np.array_equal(active.coordinates, voxels[order])
        assert active.outputs is active


def test_mask_and_coordinates_make_the_same_set():
    mask = np.random.default_rng(2).random((4, 5, 70)) < 0.3
    active = ActiveSet.from_mask(mask, "zero")
    assert active.grid_shape == mask.shape and active.boundary == "zero"
    assert np.array_equal(active.coordinates, np.argwhere(mask))
    stack = ActiveSet.from_mask(np.stack([mask, ~mask]))
    assert np.array_equal(stack.coordinates, np.argwhere(np.stack([mask, ~mask])))
    assert stack.batches == 2 and len(stack) == mask.size


def test_coordinates_with_batches():
    rows = [[1, 0, 0, 0], [0, 1, 1, 1], [1, 1, 1, 1]]
    active = ActiveSet((2, 2, 2), rows, batches=2)
    assert np.array_equal(active.coordinates, rows)
    assert ActiveSet((2, 2, 2), np.array(rows)[:, 1:][:2], batches=2).batches == 2


@pytest.mark.parametrize("boundary", ["periodic", "zero"])
@pytest.mark.parametrize("k", [1, 3, 5])
@pytest.mark.parametrize("dilate", [0, 1])
def test_neighbors_are_those_of_the_definition(boundary, k, dilate):
    rng = np.random.default_rng(k)
    shape = (3, 4, 66)
    voxels = occupied(rng, shape, 0.3)
    rng.shuffle(voxels)
    active = ActiveSet(shape, voxels, boundary, dilate=dilate)
    rows = {tuple(voxel): row for row, voxel in enumerate(voxels.tolist())}
    steps = np.stack(np.unravel_index(np.arange(k**3), (k, k, k)), 1) - k // 2
    table = active.neighbors(k)
    assert table.dtype == np.int32
    for row, voxel in enumerate(active.outputs.coordinates):
        seen = voxel + steps
        if boundary == "periodic":
            seen = seen % shape
        assert table[row].tolist() == [rows.get(tuple(other), -1) for other in seen.tolist()]


@pytest.mark.parametrize("boundary", ["periodic", "zero"])
@pytest.mark.parametrize("dilate", [1, 2])
@pytest.mark.parametrize("shape", [(6, 7, 8), (2, 1, 130), (5, 4, 3)])
def test_dilated_outputs_are_all_voxels_in_reach(boundary, dilate, shape):
    rng = np.random.default_rng(dilate)
    active = ActiveSet(shape, occupied(rng, shape, 0.03), boundary, dilate=dilate)
    reached = np.zeros(shape, bool)
    steps = np.stack(np.meshgrid(*[np.arange(-dilate, dilate + 1)] * 3), -1).reshape(-1, 3)
    for voxel in active.coordinates:
        seen = voxel + steps
        if boundary == "periodic":
            seen = seen % shape
        seen = seen[np.all((seen >= 0) & (seen < shape), 1)]
        reached[tuple(seen.T)] = True
    assert np.array_equal(active.outputs.coordinates, np.argwhere(reached))


@pytest.mark.parametrize("batches", [1, 2])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_gather_and_scatter_are_adjoint_and_inverse(batches, dtype):
    rng = np.random.default_rng(3)
    mask = rng.random((batches, 4, 5, 6)) < 0.3
    active = ActiveSet.from_mask(mask if batches > 1 else mask[0])
    features = rng.standard_normal((len(active), 3)).astype(dtype)
    field = active.scatter(features)
    shape = (3, 4, 5, 6) if batches == 1 else (batches, 3, 4, 5, 6)
    assert field.shape == shape and field.dtype == dtype
    assert np.array_equal(active.gather(field), features)
    other = rng.standard_normal(shape).astype(dtype)
    picked = active.gather(other)
    assert picked.dtype == dtype and picked.flags.c_contiguous
    assert np.vdot(field, other) == pytest.approx(np.vdot(features, picked), rel=1e-4)
    tensor = torch.from_numpy(other).requires_grad_()
    active.gather(tensor).square().sum().backward()
    assert np.array_equal(tensor.grad.numpy(), 2 * active.scatter(picked))


def test_copies_are_the_same_set():
    rng = np.random.default_rng(4)
    voxels = rng.permutation(occupied(rng, (4, 5, 6), 0.4))
    active = ActiveSet((4, 5, 6), voxels, "zero", dilate=1)
    for other in (copy.deepcopy(active), pickle.loads(pickle.dumps(active))):
        assert np.array_equal(other.coordinates, voxels)
        assert np.array_equal(other.neighbors(3), active.neighbors(3))
        assert (other.boundary, other.dilate) == ("zero", 1)


def test_rule_books_are_kept():
    active = ActiveSet((4, 4, 4), [[0, 0, 0], [1, 1, 1]])
    assert active.rules(3) is active.rules(3) is active.rules(3, reverse=True)
    wide = ActiveSet((4, 4, 4), [[0, 0, 0]], dilate=1)
    assert wide.rules(3) is not wide.rules(3, reverse=True)
    with pytest.raises(mlcore.InvalidArgument, match="1, 3 or 5"):
        active.rules(2)


def test_rules_of_something_else_are_refused():
    active = ActiveSet((4, 4, 4), [[0, 0, 0], [1, 1, 1]])
    book, weight = active.rules(3), np.zeros((1, 1, 3, 3, 3))
    for rules in (book[:-1], book[:4], np.zeros(100, np.int32)):
        with pytest.raises(mlcore.InvalidArgument, match="rules must be"):
            mlcore._core.conv3d_active(rules, np.zeros((2, 1)), weight, np.zeros((2, 1)), False)


def test_row_outside_of_the_grid_is_named():
    inside = [[0, 0, 0], [3, 3, 3], [1, 2, 3]]
    for wrong in ([4, 0, 0], [0, -1, 0], [0, 0, 2**40]):
        with pytest.raises(mlcore.InvalidArgument, match=r"grid \(4, 4, 4\), but row 3 is"):
            ActiveSet((4, 4, 4), [*inside, wrong])
    with pytest.raises(mlcore.InvalidArgument, match="batches, but that of row 1 is 2"):
        ActiveSet((4, 4, 4), [[0, 0, 0, 0], [2, 0, 0, 0]], batches=2)


def test_row_that_comes_twice_is_named():
    with pytest.raises(mlcore.InvalidArgument, match=r"rows 1 and 3 are both \(1, 2, 3\)"):
        ActiveSet((4, 4, 4), [[0, 0, 0], [1, 2, 3], [3, 3, 3], [1, 2, 3]])


@pytest.mark.parametrize(
    ("message", "arguments", "options"),
    [
        ("integers", ((4, 4, 4), [[0.5, 0, 0]]), {}),
        (r"\(M, 3\)", ((4, 4, 4), [1, 2, 3]), {}),
        (r"\(M, 3\)", ((4, 4, 4), [[1, 2]]), {}),
        ("three numbers", ((4, 4), [[0, 0, 0]]), {}),
        ("numbers of voxels, got 0", ((4, 0, 4), []), {}),
        ("at most 2\\^33 voxels", ((2**20, 2**20, 2**20), []), {}),
        ("boundary must be", ((4, 4, 4), []), {"boundary": "halo"}),
        ("dilate must be", ((4, 4, 4), []), {"dilate": 3}),
        ("batches must be at least 1", ((4, 4, 4), []), {"batches": -1}),
    ],
)
def test_wrong_arguments_are_named(message, arguments, options):
    with pytest.raises(mlcore.InvalidArgument, match=message):
        ActiveSet(*arguments, **options)


def test_wrong_fields_are_named():
    active = ActiveSet((4, 4, 4), [[0, 0, 0]])
    with pytest.raises(mlcore.InvalidArgument, match="the field must have the shape"):
        active.gather(np.zeros((2, 4, 4, 5)))
    with pytest.raises(mlcore.InvalidArgument, match=r"features must have the shape \(1, C\)"):
        active.scatter(np.zeros((2, 2)))
    with pytest.raises(mlcore.InvalidArgument, match="mask must have the shape"):
        ActiveSet.from_mask(np.zeros((4, 4)))
