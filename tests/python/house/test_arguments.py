"""What every operation says to arguments it cannot take; results never go where inputs still lie."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import ase
import mlcore
import numpy as np
import pytest
import torch
from mlcore import InvalidArgument, neighbors, voxels
from mlcore.arrays import Kind, apart, integer, positive, thread_count

RNG = np.random.default_rng(11)
CELL = 10 * np.eye(3)
X = RNG.uniform(0, 10, (40, 3))
FORCES = RNG.normal(size=X.shape)
GRID = mlcore.VoxelGrid((4, 5, 6), CELL)
FEATURES = RNG.normal(size=(40, 2))
FIELD = RNG.normal(size=(2, 4, 5, 6))
WEIGHT = RNG.normal(size=(2, 2, 3, 3, 3))
RPY = mlcore.mobility.RPY(0.5, 1.0)
HIGH = X + [0, 0, 1]
WALL = mlcore.mobility.WallRPY(0.5, 1.0)
SET = mlcore.ActiveSet((4, 5, 6), [[0, 0, 0], [1, 2, 3], [3, 4, 5]])
ROWS = RNG.normal(size=(3, 2))
NETWORK = mlcore.LSTM({f"weight_{side}_l0": RNG.normal(size=(8, 2)) for side in ("ih", "hh")})
WINDOW = RNG.normal(size=(3, 4, 2))
TABLE = mlcore.PairPotential([1.0, 0.0], [-1.0, -1.0], 3.0)
MLP = mlcore.MLP([(RNG.normal(size=(2, 2)), None), (RNG.normal(size=(2, 2)), None)])
PAIR = np.array([[0.0, 0, 0], [1.2, 0, 0]])
LJ = mlcore.dynamics.LennardJones(1.0, 1.0, np.inf)
SPLITTING = mlcore.PairSplitting(0.1, [0.5, 0.5], 1.0, np.zeros((1, 1, 2, 4)), 0.4, 2.0)


def verlet(**options: Any) -> Any:
    return mlcore.dynamics.verlet(PAIR, forces=LJ, **{"dt": 1e-3, "steps": 2} | options)


def splitting(**options: Any) -> Any:
    return SPLITTING.run(PAIR, **{"steps": 2} | options)


def brownian(**options: Any) -> Any:
    return mlcore.dynamics.brownian(RPY, PAIR, **{"dt": 1e-3, "kT": 1.0, "steps": 2} | options)


THREADED: dict[str, Callable[..., Any]] = {
    "neighbor_list": lambda **o: mlcore.neighbor_list("ij", X, 3.0, CELL, True, **o),
    "neighbor_csr": lambda **o: neighbors.neighbor_csr(X, 3.0, CELL, True, **o),
    "neighbor_matrix": lambda **o: neighbors.neighbor_matrix(X, 3.0, cell=CELL, pbc=True, **o),
    "neighbor_batch": lambda **o: neighbors.neighbor_batch("ij", [X, X], 3.0, CELL, True, **o),
    "NeighborList": lambda **o: mlcore.NeighborList(3.0, 0.1, **o).update(X, CELL, True),
    "rasterize": lambda **o: mlcore.rasterize(GRID, X, FEATURES, **o),
    "gather": lambda **o: mlcore.gather(GRID, FIELD, X, **o),
    "bin_atoms": lambda **o: mlcore.bin_atoms(GRID, X, **o),
    "conv3d": lambda **o: mlcore.conv3d(FIELD, WEIGHT, **o),
    "scatter3d": lambda **o: mlcore.scatter3d(FIELD, WEIGHT, **o),
    "laplacian": lambda **o: mlcore.laplacian(FIELD, **o),
    "gradient": lambda **o: mlcore.gradient(FIELD, **o),
    "conv3d_active": lambda **o: mlcore.conv3d_active(SET, ROWS, WEIGHT, **o),
    "scatter3d_active": lambda **o: mlcore.scatter3d_active(SET, ROWS, WEIGHT, **o),
    "matrix": lambda **o: RPY.matrix(X, **o),
    "apply": lambda **o: RPY.apply(X, FORCES, **o),
    "divergence": lambda **o: WALL.divergence(HIGH, **o),
    "sqrt_apply": lambda **o: mlcore.noise.sqrt_apply(RPY, X, FORCES, **o)[0],
    "cholesky": lambda **o: mlcore.noise.cholesky(np.eye(3), **o),
    "step": lambda **o: NETWORK.step(WINDOW, **o),
    "rollout": lambda **o: NETWORK.rollout(WINDOW, 3, **o),
    "advance": lambda **o: NETWORK.advance(WINDOW, **o)[0],
    "pair energies": lambda **o: TABLE.evaluate(X, **o),
    "pair sums": lambda **o: TABLE.sums(X, **o),
    "mlp": lambda **o: MLP(ROWS, **o),
    "mlp gradient": lambda **o: MLP.gradient(ROWS, **o),
    "normal": lambda **o: mlcore.random.normal(0, 0, 0, [1, 2], **o),
    "verlet": verlet,
    "splitting": lambda **o: SPLITTING.run(PAIR, steps=2, **o),
    "splitting kick": lambda **o: SPLITTING.kick(0, PAIR, PAIR, [0, 1, 2], [1, 0], **o)[0],
    "brownian": brownian,
    "force_field": lambda **o: mlcore.dynamics.force_field(mlcore.dynamics.Harmonic(1), PAIR, **o)[
        1
    ],
    "system_forces": lambda **o: mlcore.dynamics.system_forces(LJ, PAIR, **o)[1],
}


@pytest.mark.parametrize("name", THREADED)
def test_threads_are_asked_for_alike(name: str) -> None:
    call = THREADED[name]
    for number in (None, 0, 1, np.int64(2)):
        call(num_threads=number)
    for number in (-1, 1.5, "2", 2**40):
        with pytest.raises(InvalidArgument, match="num_threads"):
            call(num_threads=number)


WITH_OUT = [
    name
    for name in THREADED
    if name
    not in ("neighbor_list", "neighbor_csr", "neighbor_matrix", "neighbor_batch", "NeighborList",
            "bin_atoms", "cholesky", "normal", "pair energies", "pair sums", "verlet", "splitting")
]  # fmt: skip


@pytest.mark.parametrize("name", WITH_OUT)
def test_out_is_an_array_of_the_right_kind(name: str) -> None:
    call = THREADED[name]
    result = call()
    out = np.full_like(result, np.nan)
    assert call(out=out) is out
    np.testing.assert_array_equal(out, result)
    locked = out.copy()
    locked.flags.writeable = False
    wider = np.empty((*out.shape, 2))[..., 0]
    for wrong in (out.tolist(), 3, out[1:], out.astype(np.float32), wider, locked,
                  torch.from_numpy(out.astype(np.float32))):  # fmt: skip
        with pytest.raises(InvalidArgument, match="out"):
            call(out=wrong)


def shared(values: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """A copy of values, and a buffer of ``size`` that begins within it."""
    buffer = np.zeros(values.size + size)
    copy = buffer[: values.size].reshape(values.shape)
    copy[...] = values
    return copy, buffer[values.size // 2 :][:size]


SHARED: dict[str, tuple[np.ndarray, Callable[[np.ndarray, np.ndarray], Any]]] = {
    "rasterize x": (X, lambda x, out: mlcore.rasterize(GRID, x, FEATURES, out=out)),
    "rasterize features": (FEATURES, lambda f, out: mlcore.rasterize(GRID, X, f, out=out)),
    "gather": (FIELD, lambda f, out: mlcore.gather(GRID, f, X, out=out)),
    "position_gradient": (
        X,
        lambda x, out: voxels.position_gradient(GRID, x, FEATURES, FIELD, out=out),
    ),
    "conv3d": (FIELD, lambda f, out: mlcore.conv3d(f, WEIGHT, out=out)),
    "scatter3d": (
        FIELD,
        lambda f, out: mlcore.scatter3d(f, WEIGHT, boundary="zero", out=out),
    ),
    "laplacian": (FIELD, lambda f, out: mlcore.laplacian(f, out=out)),
    "conv3d_active": (ROWS, lambda f, out: mlcore.conv3d_active(SET, f, WEIGHT, out=out)),
    "matrix": (X, lambda x, out: RPY.matrix(x, out=out)),
    "apply x": (X, lambda x, out: RPY.apply(x, FORCES, out=out)),
    "apply forces": (FORCES, lambda f, out: RPY.apply(X, f, out=out)),
    "apply wall": (FORCES, lambda f, out: WALL.apply(HIGH, f, out=out)),
    "divergence": (HIGH, lambda x, out: WALL.divergence(x, out=out)),
    "sqrt_apply": (FORCES, lambda z, out: mlcore.noise.sqrt_apply(RPY, X, z, out=out)),
    "step": (WINDOW, lambda x, out: NETWORK.step(x, out=out)),
    "step of lists": (WINDOW, lambda x, out: NETWORK.step(x[:, :, :], out=out)),
    "rollout": (WINDOW, lambda x, out: NETWORK.rollout(x, 3, out=out)),
    "advance": (WINDOW, lambda x, out: NETWORK.advance(x, out=out)),
    "mlp": (ROWS, lambda x, out: MLP(x, out=out)),
    "mlp gradient": (ROWS, lambda x, out: MLP.gradient(x, out=out)),
    "mlp gradient v": (ROWS, lambda v, out: MLP.gradient(ROWS, v, out=out)),
}
SHAPES = {
    "rasterize x": FIELD.shape,
    "rasterize features": FIELD.shape,
    "gather": FEATURES.shape,
    "matrix": (120, 120),
    "step": (3, 2),
    "step of lists": (3, 2),
    "rollout": (3, 3, 2),
}


@pytest.mark.parametrize("name", SHARED)
def test_out_lies_apart_from_the_inputs(name: str) -> None:
    values, call = SHARED[name]
    shape = SHAPES.get(name, values.shape)
    copy, out = shared(values, int(np.prod(shape)))
    with pytest.raises(InvalidArgument, match=r"share memory|overlap"):
        call(copy, out.reshape(shape))
    np.testing.assert_array_equal(copy, values)


def test_out_of_neighbors_lies_apart() -> None:
    i, D = mlcore.neighbor_list("iD", X, 3.0, CELL, True)
    same = np.empty_like(i)
    with pytest.raises(InvalidArgument, match="share memory"):
        mlcore.neighbor_list("ij", X, 3.0, CELL, True, out=(same, same))
    x, out = shared(X, D.size)
    with pytest.raises(InvalidArgument, match="positions share memory"):
        mlcore.neighbor_list("D", x, 3.0, CELL, True, out=out.reshape(D.shape))
    with pytest.raises(InvalidArgument, match="twice"):
        mlcore.neighbor_list("ii", X, 3.0, CELL, True, out=(same, same.copy()))
    first, second = mlcore.neighbor_list("ii", X, 3.0, CELL, True)
    np.testing.assert_array_equal(first, second)


def test_apart_is_told_by_bytes() -> None:
    memory = np.zeros(10)
    apart(memory[:5], x=memory[5:], y=None, z=memory[:0])
    with pytest.raises(InvalidArgument, match="out and y share"):
        apart(memory[:5], x=memory[5:], y=memory[4:6])
    with pytest.raises(InvalidArgument, match="out and x share"):
        apart(torch.from_numpy(memory), x=torch.from_numpy(memory[9:]))


def test_numbers() -> None:
    assert integer("n", np.int32(3)) == 3
    assert positive("h", np.float32(2)) == 2
    assert thread_count(None) == 0
    for value in (2.0, "2", None, [1]):
        with pytest.raises(InvalidArgument, match="n must be an integer"):
            integer("n", value)
    for value in (0, -1, np.nan, np.inf, "a", None, [1], 1j):
        with pytest.raises(InvalidArgument, match="h must be positive"):
            positive("h", value)


def test_arrays_that_cannot_be_taken() -> None:
    for values in (None, [[None, 0, 0]], "abc", X * 1j):
        with pytest.raises(InvalidArgument, match="positions must"):
            mlcore.neighbor_list("ij", values, 3.0)
    for tensor in (torch.eye(3).to_sparse(), torch.zeros(2, 3, device="meta")):
        with pytest.raises(InvalidArgument, match="positions must"):
            mlcore.neighbor_list("ij", tensor, 3.0)
    for values in (np.array([0.5]), torch.tensor([0.5])):
        with pytest.raises(InvalidArgument, match="cell must be an array of integers"):
            Kind.of(values).take("cell", values, np.int64)
    negated = torch.tensor(1j * X).conj().imag  # its numbers are those in memory, negated
    assert negated.is_neg()
    expected = mlcore.neighbor_list("d", -X, 3.0)
    np.testing.assert_array_equal(mlcore.neighbor_list("d", negated, 3.0), expected)


def test_neighbor_arguments() -> None:
    for wrong in ("foo", torch.float16, "int8", 3.0):
        for name in ("index_dtype", "dtype"):
            with pytest.raises(InvalidArgument, match=name):
                mlcore.neighbor_list("ij", X, 3.0, **{name: wrong})
            with pytest.raises(InvalidArgument, match=name):
                mlcore.NeighborList(3.0, **{name: wrong})
    assert mlcore.neighbor_list("D", X, 3.0, dtype=torch.float32).dtype == np.float32
    for options in ({"fill": 2**31}, {"fill": 1.5}, {"max_neighbors": 30.5}, {"out": (1, 2, 3)}):
        with pytest.raises(InvalidArgument):
            neighbors.neighbor_matrix(X, 3.0, **options)


def test_a_failed_update_leaves_no_list() -> None:
    moving = mlcore.NeighborList(3.0, 0.3)
    moving.update(X, CELL, True)
    with pytest.raises(InvalidArgument, match="finite"):
        moving.update(np.full_like(X, np.nan), CELL, True)
    assert len(moving) == 0
    with pytest.raises(InvalidArgument, match="update"):
        moving.get("ij")
    moving.update(X, CELL, True)
    expected = mlcore.neighbor_list("ij", ase.Atoms("H40", X, cell=CELL, pbc=True), 3.0)
    np.testing.assert_array_equal(moving.get("ij"), expected)


def test_stencil_arguments() -> None:
    for options in ({"stride": 1.5}, {"stride": None}, {"groups": 0}, {"groups": "a"},
                    {"boundary": None}, {"layout": 3}):  # fmt: skip
        with pytest.raises(InvalidArgument, match=next(iter(options))):
            mlcore.conv3d(FIELD, WEIGHT, **options)
        with pytest.raises(InvalidArgument, match=next(iter(options))):
            mlcore.scatter3d(FIELD, WEIGHT, **options)
    with pytest.raises(InvalidArgument, match="spacing is too small"):
        mlcore.laplacian(FIELD, 1e-200)
    with pytest.raises(InvalidArgument, match="spacing is too small"):
        mlcore.gradient(FIELD.astype(np.float32), 1e-25)
    with pytest.raises(InvalidArgument, match="spacing"):
        mlcore.laplacian(FIELD, "a")
    for shape in ((1.5, 2, 3), 5, "abc", None, (1, 2)):
        with pytest.raises(InvalidArgument, match="grid_shape"):
            mlcore.ActiveSet(shape, [[0, 0, 0]])
    for batches in (0, 1.5):
        with pytest.raises(InvalidArgument, match="batches"):
            mlcore.ActiveSet((2, 2, 2), [[0, 0, 0]], batches=batches)


def test_runs_take_whole_numbers() -> None:
    for call in (verlet, brownian, splitting):
        for options in ({"steps": 1.5}, {"steps": "a"}, {"every": 1.5}):
            with pytest.raises(InvalidArgument, match=next(iter(options))):
                call(**options)
        with pytest.raises(InvalidArgument, match="memory"):
            call(steps=2**62)
    with pytest.raises(InvalidArgument, match="seed"):
        brownian(seed=1.5)
    with pytest.raises(InvalidArgument, match="seed"):
        mlcore.random.normal(1.5, 0, 0, [0])


def test_fields_without_channels() -> None:
    with pytest.raises(InvalidArgument, match="channel"):
        mlcore.gather(GRID, FIELD[:0], X)
