"""Random calls of every operation. To add one, write a function here:

    @operation(rtol=1e-12)
    def voxels(rng: np.random.Generator) -> Results:
        ...random sizes, options and values from rng...
        return {"field": mlcore.rasterize(...)}

It runs in one process per instruction set with the same numbers. Integers must come out the same,
floats to `rtol` of the array's largest entry. Within a process one thread and several must give the
same bytes. Raising an `mlcore.Error` is a result, too: every level must raise the same kind.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import mlcore
import numpy as np
from mlcore import mlp
from mlcore import stencil as stencil_of
from mlcore import voxels as voxels_of
from mlcore.dynamics import (
    Constant,
    DoubleWell,
    Harmonic,
    LennardJones,
    Rugged,
    SystemForce,
    Yukawa,
    brownian,
    force_field,
    verlet,
)
from mlcore.mobility.tensors import (
    RPY,
    CoreMobility,
    Oseen,
    PairMobility,
    RegularizedOseen,
    WallRPY,
)
from mlcore.potentials import Structures, evaluate, parameter_count
from mlcore.stencil_active import ActiveSet, conv3d_active, scatter3d_active
from mlcore.voxels import Gaussian, Kernel, Sphere, VoxelGrid

Results = dict[str, np.ndarray]
Function = Callable[[np.random.Generator], Results]


@dataclass(frozen=True)
class Operation:
    """A function of random numbers.

    Attributes:
        run: gives results by name.
        rtol: error allowed in floats, relative to the largest entry; 0: the same bits.
        atol: what is allowed besides, where sums of larger numbers may cancel.
    """

    run: Function
    rtol: float
    atol: float


OPERATIONS: dict[str, Operation] = {}


def operation(rtol: float = 1e-12, atol: float = 0.0) -> Callable[[Function], Function]:
    """Enters a function into OPERATIONS under its name."""

    def enter(run: Function) -> Function:
        OPERATIONS[run.__name__] = Operation(run, rtol, atol)
        return run

    return enter


# ------------------------------------------------------------------------------------- ingredients
def size(rng: np.random.Generator, most: int) -> int:
    """Often around the width of a vector, sometimes 0 or 1."""
    near = rng.choice([0, 1, 2, 3, 4, 7, 8, 9, 15, 16, 17, 31, 32, 33])
    return min(int(near if rng.random() < 0.4 else rng.integers(0, most + 1)), most)


def box(rng: np.random.Generator, edge: float) -> np.ndarray:
    """A cell of about this size: cubic, orthogonal, triclinic or left-handed."""
    kind = rng.integers(4)
    cell = np.diag(edge * (np.ones(3) if kind == 0 else rng.uniform(0.6, 1.6, 3)))
    if kind >= 2:
        cell += rng.uniform(-0.3, 0.3, (3, 3)) * edge
    return cell[[1, 0, 2]] if kind == 3 else cell


def places(rng: np.random.Generator, n: int, cell: np.ndarray) -> np.ndarray:
    """Positions at random, some outside the cell; or on a lattice, where distances are equal."""
    if rng.random() < 0.25:
        points = rng.integers(0, 5, (n, 3)) / 4
        return points @ cell
    return rng.uniform(-0.5, 1.5, (n, 3)) @ cell


def spread_out(
    rng: np.random.Generator, n: int, distance: float, dimensions: int = 3
) -> tuple[np.ndarray, float]:
    """Positions in a cube that are not closer than `distance`, and the cube's edge."""
    side = max(int(np.ceil(n ** (1 / dimensions))), 1)
    axes = np.meshgrid(*[np.arange(side)] * dimensions, indexing="ij")
    corners = np.stack(axes, -1).reshape(-1, dimensions)
    chosen = corners[rng.permutation(len(corners))[:n]]
    x = chosen * 1.5 * distance + rng.uniform(0, 0.5 * distance, (n, dimensions))
    return x, 1.5 * distance * side


# -------------------------------------------------------------------------------------- operations
@operation(rtol=0)
def neighbors(rng: np.random.Generator) -> Results:
    n, edge = size(rng, 300), 6.0
    cell = box(rng, edge)
    cutoff = float(
        rng.choice([0.25, 0.5, 1.0]) * edge if rng.random() < 0.3 else rng.uniform(0.5, 4)
    )
    arrays = mlcore.neighbor_list(
        "ijSDd",
        places(rng, n, cell),
        cutoff,
        cell,
        tuple(bool(flag) for flag in rng.integers(0, 2, 3)),
        half=bool(rng.integers(2)),
        sorted=bool(rng.integers(2)),
        self_pairs=bool(rng.integers(2)),
    )
    return dict(zip("ijSDd", arrays, strict=True))


@operation(rtol=0)
def neighbors_moving(rng: np.random.Generator) -> Results:
    n, edge = size(rng, 150), 6.0
    cell = box(rng, edge)
    moving = mlcore.NeighborList(rng.uniform(0.5, 2.5), skin=rng.uniform(0, 0.5))
    x, results = places(rng, n, cell), {}
    for step in range(4):
        built = moving.update(x, cell, True)
        i, j, distance = moving.get("ijd")
        results |= {f"i{step}": i, f"j{step}": j, f"d{step}": distance}
        results[f"built{step}"] = np.array(built)
        x = x + rng.normal(0, 0.05, x.shape)
    return results


@operation(rtol=0)
def neighbors_batch(rng: np.random.Generator) -> Results:
    counts = [size(rng, 60) for _ in range(int(rng.integers(1, 5)))]
    cells = np.stack([box(rng, 5.0) for _ in counts])
    x = np.concatenate([places(rng, n, cell) for n, cell in zip(counts, cells, strict=True)])
    found = mlcore.neighbors.neighbor_batch(
        "ijSDd",
        x,
        rng.uniform(0.5, 3),
        cells,
        rng.integers(0, 2, (len(counts), 3)).astype(bool),
        bool(rng.integers(2)),
        batch_offsets=np.concatenate([[0], np.cumsum(counts)]),
        dtype=rng.choice([np.float32, np.float64]),
    )
    return dict(zip("ijSDd", found.arrays, strict=True)) | {"pairs": found.pairs}


@operation(rtol=0)
def neighbors_matrix(rng: np.random.Generator) -> Results:
    cell = box(rng, 5.0)
    x = places(rng, size(rng, 150), cell)
    j, counts, shifts = mlcore.neighbors.neighbor_matrix(x, rng.uniform(0.5, 3), None, cell, True)
    return {"j": j, "counts": counts, "S": shifts}


def mobility_kernel(rng: np.random.Generator, n: int) -> CoreMobility:
    kind = rng.integers(6)
    if kind == 0:
        return RPY(rng.uniform(0.5, 1.5), rng.uniform(0.5, 2))
    if kind == 1:
        return Oseen(rng.uniform(0.5, 2), rng.uniform(0.5, 1))
    if kind == 2:
        return RPY(rng.uniform(0.3, 1.5, n), 1.0)
    if kind == 3:
        return RegularizedOseen(1.0, rng.uniform(0.3, 1.5))
    if kind == 4:
        return WallRPY(rng.uniform(0.3, 1.0), 1.0)
    reach, height = rng.uniform(2, 4), rng.uniform(0.01, 0.1)

    def pair(r: np.ndarray) -> np.ndarray:
        return height * (1 - np.minimum(r / reach, 1)) ** 4

    return PairMobility.from_functions(1.0, reach, pair, pair)


def mobility_runs(rng: np.random.Generator, dtype: type) -> Results:
    n = size(rng, 60)
    kernel = mobility_kernel(rng, n)
    x, edge = spread_out(rng, n, rng.uniform(0.3, 3))
    if isinstance(kernel, WallRPY):
        x[:, 2] += kernel.radius * 1.001
    x, forces = x.astype(dtype), rng.normal(size=(n, 3)).astype(dtype)
    cell = None if rng.random() < 0.7 else np.eye(3) * max(edge, 6.0)
    results = {"matrix": kernel.matrix(x, cell), "apply": kernel.apply(x, forces, cell)}
    if dtype is np.float64:
        results["divergence"] = kernel.divergence(x, cell)
        results["gradient"] = kernel.position_gradient(x, forces, rng.normal(size=(n, 3)), cell)
    return results


@operation(rtol=1e-11, atol=1e-13)
def mobility(rng: np.random.Generator) -> Results:
    return mobility_runs(rng, np.float64)


@operation(rtol=1e-5, atol=1e-6)
def mobility_float32(rng: np.random.Generator) -> Results:
    return mobility_runs(rng, np.float32)


@operation(rtol=1e-9)
def noise(rng: np.random.Generator) -> Results:
    n = size(rng, 40)
    x, _ = spread_out(rng, n, rng.uniform(1, 3))
    z = rng.normal(size=(n, 3) if rng.random() < 0.5 else (3, n, 3))
    vectors, _ = mlcore.noise.sqrt_apply(RPY(1.0, 1.0), x, z)
    return {"vectors": vectors}


@operation(rtol=1e-9)
def cholesky(rng: np.random.Generator) -> Results:
    m = size(rng, 200)
    a = rng.normal(size=(m, m + 2))
    shift = -10.0 if rng.random() < 0.1 else 1.0  # some are not positive definite
    return {"factor": mlcore.noise.cholesky(a @ a.T / (m + 2) + shift * np.eye(m))}


@operation(rtol=1e-13)
def random(rng: np.random.Generator) -> Results:
    tags = rng.integers(0, 2**32, size(rng, 3000))
    seed, step = (int(k) for k in rng.integers(0, 2**63, 2))
    return {"normal": mlcore.random.normal(seed, int(rng.integers(0, 2**30)), step, tags)}


def forces_on(rng: np.random.Generator, n: int) -> list[object]:
    pairs = [LennardJones(1.0, rng.uniform(0.5, 2), rng.choice([None, 2.5]))]
    pairs += [Yukawa(rng.uniform(0.5, 2), rng.uniform(0.5, 2), 3.0)] * int(rng.integers(2))
    pairs += [Harmonic(rng.uniform(0.5, 2))] * int(rng.integers(2))
    return pairs + [Constant(rng.normal(size=(n, 3)))] * int(rng.integers(2))


@operation(rtol=1e-11)
def forces(rng: np.random.Generator) -> Results:
    n = size(rng, 200)
    x, edge = spread_out(rng, n, 1.0)
    cell = None if rng.random() < 0.5 else np.eye(3) * max(edge, 7.0)
    energy, field = force_field(forces_on(rng, n), x, cell)
    return {"energy": np.array(energy), "forces": field}


@operation(rtol=1e-10, atol=1e-12)
def pair_potential(rng: np.random.Generator) -> Results:
    types, knots = int(rng.integers(1, 11)), max(size(rng, 300), 2)
    table = rng.normal(size=(2, types * (types + 1) // 2, knots))
    first = rng.uniform(0, 1)
    potential = mlcore.PairPotential(*table, first + rng.uniform(0.2, 2), first)
    n, cell = size(rng, 200), box(rng, 5.0)
    kinds = rng.integers(0, types + (rng.random() < 0.1), n)
    found = potential.evaluate(places(rng, n, cell), cell, bool(rng.integers(2)), types=kinds)
    curve = dict(zip(("u", "slope"), potential.pair(rng.uniform(0, 3, n)), strict=True))
    return found._asdict() | curve


@operation(rtol=1e-9, atol=1e-9)
def candidates(rng: np.random.Generator) -> Results:
    """Of a potential, on structures that may be empty and cutoffs that may be too long."""
    typical = {
        "lj/cut": [0.3, 2.2, 4.4],
        "morse": [1.0, 1.4, 2.4, 4.4],
        "buck": [900, 0.3, 9, 4.4],
        "sw": [2.2, 2.1, 1.8, 21, 1.2, -0.3, 7, 0.6, 4, 0.2],
        "tersoff": [3, 1, 0.5, 1e5, 16, -0.6, 0.8, 1e-6, 1.7, 471, 2.85, 0.15, 2.5, 1830],
    }
    form = str(rng.choice(list(typical)))
    names = ["Si", "C"][: int(rng.integers(1, 3))]
    made = []
    for _ in range(rng.integers(0, 4)):
        n = size(rng, 40)
        x, edge = spread_out(rng, n, 1.7)
        made.append((x, np.eye(3) * max(edge, 4.0), True, rng.choice(names, n)))
    structures = Structures(made, names, 4.5, 0.5)
    p = np.tile(typical[form], parameter_count(form, len(names)) // len(typical[form]))
    directions = rng.normal(size=(len(p), int(rng.integers(1, 5)))) * np.abs(p)[:, None]
    p = p * rng.uniform(0.95, 1.0, (size(rng, 20), len(p)))
    if form == "tersoff":
        p[:, ::14] = rng.choice([1.0, 3.0], p[:, ::14].shape)
    found = evaluate(
        form,
        structures,
        p,
        deformation=np.eye(3) + rng.normal(0, 0.02, (3, 3)) if rng.random() < 0.5 else None,
        gradient=directions if rng.random() < 0.5 else False,
        stress=bool(rng.integers(2)),
        shift=bool(rng.integers(2)),
    )
    return {name: values for name, values in found._asdict().items() if values is not None}


@operation(rtol=1e-10, atol=1e-10)
def bonds(rng: np.random.Generator) -> Results:
    species = int(rng.integers(1, 4))
    basis = mlcore.BondBasis(
        rng.uniform(1, 2.5),
        species,
        rng.uniform(0, 0.99),
        *(int(rng.integers(1, most)) for most in (13, 5, 5, 3)),
        decay=rng.uniform(0.5, 4),
        knot=rng.uniform(-1, 0.9),
    )
    n = size(rng, 60)
    x, edge = spread_out(rng, n, 1.0)
    kinds = rng.integers(0, species + (rng.random() < 0.1), n)
    found = basis.evaluate(
        x,
        rng.normal(size=basis.shape),
        rng.uniform(0, 2, basis.seen),
        np.eye(3) * max(edge, 1.5),
        bool(rng.integers(2)),
        species=kinds,
    )
    return {name: np.asarray(values) for name, values in found._asdict().items()}


def networks(rng: np.random.Generator, dtype: type) -> Results:
    widths = [max(size(rng, 80), 1) for _ in range(rng.integers(2, 6))]
    layers = []
    for before, units in pairwise(widths):
        weight = rng.normal(0, 1.5 / np.sqrt(before), (units, before)).astype(dtype)
        layers.append(
            (weight, rng.normal(size=units).astype(dtype) if rng.random() < 0.8 else None)
        )
    scales = (
        {"in_shift": rng.normal(), "in_scale": rng.uniform(0.5, 2)} if rng.random() < 0.5 else {}
    )
    network = mlcore.MLP(layers, str(rng.choice(list(mlp.ACTIVATIONS))), **scales)
    rows = size(rng, 200)
    x = (rng.normal(size=(rows, widths[0])) * rng.choice([1, 100])).astype(dtype)
    v = rng.normal(size=(rows, widths[-1])).astype(dtype)
    y, gradient = network.value_and_gradient(x, None if rng.random() < 0.3 else v)
    return {"y": y, "gradient": gradient, "values": network(x)}


@operation(rtol=1e-11, atol=1e-13)
def networks_float64(rng: np.random.Generator) -> Results:
    return networks(rng, np.float64)


@operation(rtol=1e-4, atol=1e-5)
def networks_float32(rng: np.random.Generator) -> Results:
    return networks(rng, np.float32)


@operation(rtol=1e-6)
def noise_iterated(rng: np.random.Generator) -> Results:
    n = size(rng, 40)
    x, _ = spread_out(rng, n, rng.uniform(1.5, 3))
    method = str(rng.choice(["lanczos", "chebyshev"]))
    z = rng.normal(size=(int(rng.integers(1, 4)), n, 3))
    vectors, _ = mlcore.noise.sqrt_apply(RPY(1.0, 1.0), x, z, method=method, tol=1e-8)
    return {"vectors": vectors}


@operation(rtol=1e-9)
def newton(rng: np.random.Generator) -> Results:
    n, d, replicas = size(rng, 40), int(rng.integers(1, 4)), int(rng.integers(1, 4))
    x, edge = spread_out(rng, n, 1.1, d)
    acting: list[SystemForce] = [LennardJones(1.0, 1.0, rng.choice([None, 2.5]))]
    acting += [Harmonic(rng.uniform(0.5, 2))] * int(rng.integers(2))
    if d == 1 and rng.integers(2):  # steep: near the origin and without pairs
        x, acting = 0.05 * x, [DoubleWell() if rng.integers(2) else Rugged()]
    run = verlet(
        np.stack([x + rng.uniform(0, 0.02, (n, d)) for _ in range(replicas)]),
        rng.normal(0, 0.3, (replicas, n, d)),
        forces=acting,
        dt=1e-3,
        steps=10,
        every=5,
        box=None if rng.integers(2) else max(edge, 6.0),
        mass=rng.uniform(0.5, 2, n),
        integrator=str(rng.choice(["velocity_verlet", "order8"])),
    )
    return {
        name: getattr(run, name) for name in ("positions", "velocities", "potential", "kinetic")
    }


@operation(rtol=1e-8)
def brownian_steps(rng: np.random.Generator) -> Results:
    n, replicas = size(rng, 20), int(rng.integers(1, 4))
    x, _ = spread_out(rng, n, 1.2)
    frames = brownian(
        RPY(0.5, 1.0),
        np.stack([x + rng.uniform(0, 0.1, x.shape) for _ in range(replicas)]),
        forces=forces_on(rng, n),
        dt=1e-4,
        kT=1.0,
        steps=4,
        scheme=str(rng.choice(["euler_maruyama", "midpoint"])),
        seed=int(rng.integers(2**63)),
    )
    return {"frames": frames}


def lstm_runs(rng: np.random.Generator, dtype: type) -> Results:
    d, h, layers, batch, frames = (int(k) for k in rng.integers(1, [40, 40, 4, 9, 6]))
    names = {}
    for layer in range(layers):
        names[f"weight_ih_l{layer}"] = (4 * h, h if layer else d)
        names[f"weight_hh_l{layer}"] = (4 * h, h)
        names |= {f"bias_{part}_l{layer}": (4 * h,) for part in ("ih", "hh") if rng.random() < 0.8}
    names |= {"out.weight": (d, h), "out.bias": (d,)}
    network = mlcore.LSTM(
        {k: rng.normal(0, 0.4, shape).astype(dtype) for k, shape in names.items()}
    )
    x = rng.normal(size=(batch, frames, d)).astype(dtype)
    y, (hidden, cell) = network.advance(x)
    return {
        "step": network.step(x),
        "rollout": network.rollout(x, int(rng.integers(0, 5)), carry=bool(rng.integers(2))),
        "y": y,
        "h": hidden,
        "c": cell,
    }


@operation(rtol=1e-12, atol=1e-14)
def recurrent(rng: np.random.Generator) -> Results:
    return lstm_runs(rng, np.float64)


@operation(rtol=2e-5, atol=1e-5)
def recurrent_float32(rng: np.random.Generator) -> Results:
    return lstm_runs(rng, np.float32)


def voxel_runs(rng: np.random.Generator, dtype: type) -> Results:
    cell = box(rng, 6.0)
    pbc = tuple(bool(flag) for flag in rng.integers(0, 2, 3))
    grid = VoxelGrid([int(k) for k in rng.integers(1, 12, 3)], cell, pbc)
    kernels: list[Kernel] = ["nearest", "cic", "tsc", Gaussian(rng.uniform(0.3, 1.0), 3.0)]
    kernels += [Sphere(rng.uniform(0.2, 1.5)), Sphere(rng.uniform(0.4, 1.5), edge=0.3)]
    choice = int(rng.integers(len(kernels)))
    n, channels = size(rng, 200), int(rng.choice([1, 2, 3, 4, 7, 8, 9, 16, 17]))
    x = places(rng, n, cell)
    features = rng.normal(size=(n, channels)).astype(dtype)
    options = {
        "kernel": kernels[choice],
        "density": bool(rng.integers(2)),
        "layout": str(rng.choice(["channels_first", "channels_last"])),
    }
    field = voxels_of.rasterize(grid, x, features, **options)
    results = {"field": field, "gathered": voxels_of.gather(grid, field, x, **options)}
    if choice not in (0, 4):  # those have no derivatives
        results["gradient"] = voxels_of.position_gradient(grid, x, features, field, **options)
    return results


@operation(rtol=1e-12, atol=1e-12)
def voxels(rng: np.random.Generator) -> Results:
    return voxel_runs(rng, np.float64)


@operation(rtol=1e-5, atol=2e-5)
def voxels_float32(rng: np.random.Generator) -> Results:
    return voxel_runs(rng, np.float32)


@operation(rtol=0)
def bins(rng: np.random.Generator) -> Results:
    cell = box(rng, 6.0)
    grid = VoxelGrid([int(k) for k in rng.integers(1, 12, 3)], cell)
    x = places(rng, size(rng, 500), cell)
    found = voxels_of.bin_atoms(grid, x)
    back = voxels_of.unbin(grid, found)
    assert np.array_equal(back, x), "binning has lost something"
    return vars(found) | {"positions": back}


def stencil_runs(rng: np.random.Generator, dtype: type) -> Results:
    k, stride = int(rng.choice([1, 3, 5])), int(rng.choice([1, 1, 2, 3]))
    groups = int(rng.choice([1, 1, 2]))
    c, o = (groups * int(m) for m in rng.integers(1, 10, 2))
    boundary = str(rng.choice(["periodic", "zero", "halo"]))
    extents = rng.integers(1, 12, 3) + (2 * (k // 2) if boundary == "halo" else 0)
    last = bool(rng.integers(2))
    shape = (*extents, c) if last else (c, *extents)
    field = rng.normal(size=(int(rng.integers(1, 3)), *shape)).astype(dtype)
    weight = rng.normal(size=(o, c // groups, k, k, k)).astype(dtype)
    bias = rng.normal(size=o).astype(dtype) if rng.integers(2) else None
    moves = {
        "boundary": boundary,
        "stride": stride,
        "groups": groups,
        "layout": "channels_last" if last else "channels_first",
    }
    activation = rng.choice([None, "relu", "silu", "gelu", "tanh", "sigmoid"])
    result = stencil_of.conv3d(field, weight, bias, activation=activation, **moves)
    return {
        "result": result,
        "scattered": stencil_of.scatter3d(result, weight, **moves),
        "weights": stencil_of.conv3d_weight_gradient(field, result, k, **moves),
    }


@operation(rtol=1e-12)
def stencil(rng: np.random.Generator) -> Results:
    return stencil_runs(rng, np.float64)


@operation(rtol=2e-5)
def stencil_float32(rng: np.random.Generator) -> Results:
    return stencil_runs(rng, np.float32)


@operation(rtol=1e-10)
def splitting(rng: np.random.Generator) -> Results:
    n, species, kicks, M = (int(rng.integers(*b)) for b in ((0, 200), (1, 4), (1, 7), (1, 40)))
    half = rng.normal(0.5 / kicks, 0.05, (kicks + 1) // 2)
    drifts = np.concatenate([half, np.zeros((kicks + 1) % 2), half[::-1]])
    middle = [kicks // 2, kicks - kicks // 2]
    drifts[middle] += (1 - drifts.sum()) / len(set(middle))
    shape = (kicks + 1) // 2, species * (species + 1) // 2, M, 4
    step = mlcore.PairSplitting(
        0.02, drifts, rng.uniform(0.5, 2, species), rng.normal(size=shape), 0.4, 1.25
    )
    edge = 1.4 * max(n, 1) ** (1 / 3) + 0.1
    side = np.arange(np.ceil(n ** (1 / 3) - 1e-9))
    sites = np.stack(np.meshgrid(side, side, side, indexing="ij"), -1).reshape(-1, 3)[:n]
    x = 1.3 * sites + rng.uniform(-0.1, 0.1, (int(rng.integers(1, 4)), n, 3))
    cell = edge * np.eye(3) * rng.uniform(1, 1.3, 3) + 0.3 * np.tri(3, k=-1)
    run = step.run(
        x,
        rng.normal(size=x.shape),
        steps=2,
        species=rng.integers(0, species, n),
        cell=cell,
        pbc=bool(rng.integers(2)),
    )
    names = ("last_positions", "last_velocities", "done", "status")
    results = {name: np.asarray(getattr(run, name)) for name in names}
    return results | {"closest": np.minimum(run.closest, 9.0)}


@operation(rtol=1e-12, atol=1e-13)
def differences(rng: np.random.Generator) -> Results:
    order = int(rng.choice([2, 4, 6]))
    options = {"order": order, "boundary": str(rng.choice(["periodic", "zero", "halo"]))}
    extents = rng.integers(1, 12, 3) + (order if options["boundary"] == "halo" else 0)
    field, spacing = rng.normal(size=(2, *extents)), rng.uniform(0.5, 2, 3)
    return {
        "laplacian": stencil_of.laplacian(field, spacing, **options),
        "gradient": stencil_of.gradient(field, spacing, **options),
    }


def active_runs(rng: np.random.Generator, dtype: type) -> Results:
    shape = tuple(int(k) for k in rng.integers(1, 10, 3))
    mask = rng.random(shape) < rng.uniform(0, 0.6)
    boundary = str(rng.choice(["periodic", "zero"]))
    occupied = np.argwhere(mask)
    active = ActiveSet(shape, rng.permutation(occupied), boundary, dilate=int(rng.integers(2)))
    k, c, o = int(rng.choice([1, 3])), *(int(m) for m in rng.integers(1, 20, 2))
    features = rng.normal(size=(len(active), c)).astype(dtype)
    weight = rng.normal(size=(o, c, k, k, k)).astype(dtype)
    activation = rng.choice([None, "relu", "silu", "gelu", "tanh", "sigmoid"])
    result = conv3d_active(active, features, weight, activation=activation)
    return {"result": result, "scattered": scatter3d_active(active, result, weight)}


@operation(rtol=1e-12, atol=1e-13)
def stencil_active(rng: np.random.Generator) -> Results:
    return active_runs(rng, np.float64)


@operation(rtol=2e-5, atol=1e-5)
def stencil_active_float32(rng: np.random.Generator) -> Results:
    return active_runs(rng, np.float32)
