"""The obvious slow versions of the core's operations: oracles for tests, one formula at a time.

Each takes the arguments of the fast face, as far as they mean something here, NumPy only.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import numpy.typing as npt

from mlcore import _core
from mlcore.arrays import box
from mlcore.bonds import BondBasis, BondResults
from mlcore.dynamics import (
    Force,
    SystemForce,
    core_field,
    core_system,
    frame_count,
)
from mlcore.mlp import MLP
from mlcore.pair_potential import PairPotential, PairResults
from mlcore.potentials import Call, Results, Structures
from mlcore.random import checked_tags
from mlcore.recurrent import LSTM
from mlcore.splitting import PairSplitting
from mlcore.stencil import Stencil, convolve, finite_difference, scatter
from mlcore.voxels import Kernel, VoxelGrid, kernel_parameters

if TYPE_CHECKING:
    from mlcore.arrays import Pbc
    from mlcore.mobility.tensors import CoreMobility
    from mlcore.stencil_active import ActiveSet

__all__ = [
    "bonds",
    "brownian",
    "cholesky",
    "conv3d",
    "conv3d_active",
    "force_field",
    "gather",
    "gradient",
    "laplacian",
    "lstm",
    "mlp",
    "mobility_apply",
    "mobility_divergence",
    "mobility_matrix",
    "neighbor_list",
    "normal",
    "pair_potential",
    "position_gradient",
    "potentials",
    "rasterize",
    "scatter3d",
    "scatter3d_active",
    "splitting_step",
    "sqrt_apply",
    "symmetric_eigenvalues",
    "system_forces",
    "verlet",
]

Array = npt.NDArray[np.float64]


def normal(seed: int, stream: int, step: int, tags: npt.ArrayLike) -> Array:
    """`mlcore.random.normal`, one particle at a time: (n, 3)."""
    numbers: Array = _core.random_normal(seed, stream, step, checked_tags(tags), reference=True)
    return numbers


def neighbor_list(
    quantities: str,
    positions: npt.ArrayLike,
    cutoff: float,
    cell: Any = None,
    pbc: Pbc = None,
    half: bool = False,
    self_pairs: bool = False,
) -> tuple[Any, ...]:
    """`mlcore.neighbor_list` with one cutoff, sorted, by trying all pairs and images; a tuple."""
    arrays: tuple[Any, ...] = _core.neighbor_list_reference(
        quantities,
        _rows(positions),
        *box(cell, pbc, periodic=False),
        _core.NeighborCutoff(cutoff),
        _core.NeighborOptions(half, True, self_pairs),
    )
    return arrays


def mobility_matrix(
    mobility: CoreMobility, x: npt.ArrayLike, cell: Any = None, pbc: Pbc = None
) -> Array:
    """``mobility.matrix``, one pair and image at a time: (3n, 3n)."""
    size = np.size(x)
    return _filled(_core.mobility_matrix, mobility, x, cell, pbc, (size, size))


def mobility_apply(
    mobility: CoreMobility,
    x: npt.ArrayLike,
    forces: npt.ArrayLike,
    cell: Any = None,
    pbc: Pbc = None,
) -> Array:
    """``mobility.apply`` by way of the matrix: (n, 3)."""
    return _filled(_core.mobility_apply, mobility, x, cell, pbc, np.shape(x), _rows(forces)[None])


def mobility_divergence(
    mobility: CoreMobility, x: npt.ArrayLike, cell: Any = None, pbc: Pbc = None
) -> Array:
    """``mobility.divergence``, one pair and image at a time: (n, 3)."""
    return _filled(_core.mobility_divergence, mobility, x, cell, pbc, np.shape(x))


def cholesky(matrix: npt.ArrayLike) -> Array:
    """`mlcore.noise.cholesky`, row by row: (m, m)."""
    factor = np.array(matrix, dtype=np.float64, order="C")
    _core.cholesky(factor, reference=True)
    return factor


def symmetric_eigenvalues(matrix: npt.ArrayLike) -> Array:
    """Eigenvalues (m,), ascending, by Jacobi rotations."""
    values = _core.symmetric_eigenvalues(np.asarray(matrix, dtype=np.float64), reference=True)
    return cast(Array, values)


def sqrt_apply(
    mobility: CoreMobility,
    x: npt.ArrayLike,
    z: npt.ArrayLike,
    cell: Any = None,
    pbc: Pbc = None,
    symmetric: bool = False,
) -> Array:
    """`mlcore.noise.sqrt_apply` from the reference matrix: g of the shape of z.

    ``symmetric``: the root of Lanczos and Chebyshev in place of the Cholesky factor.
    """
    normals = np.asarray(z, dtype=np.float64)
    stack = normals.reshape(-1, np.size(x))
    out = np.empty(stack.shape)
    matrix = mobility_matrix(mobility, _rows(x), cell, pbc)
    _core.sqrt_apply_reference(matrix, stack, out, symmetric=symmetric)
    return out.reshape(normals.shape)


def force_field(
    forces: Force | Sequence[Force], x: npt.ArrayLike, cell: Any = None, pbc: Pbc = None
) -> tuple[float, Array]:
    """`mlcore.dynamics.force_field`, every pair and image by the formula."""
    positions = _rows(x)
    out = np.empty(positions.shape)
    energy: float = _core.force_field(
        core_field(forces, len(positions)), *box(cell, pbc), positions, out, reference=True
    )
    return energy, out


def brownian(
    mobility: CoreMobility,
    x0: npt.ArrayLike,
    *,
    forces: Force | Sequence[Force] = (),
    dt: float,
    kT: float,
    steps: int,
    every: int = 1,
    cell: Any = None,
    pbc: Pbc = None,
    drift: bool = True,
    scheme: str = "euler_maruyama",
    seed: int = 0,
    stream: int = 0,
) -> Array:
    """`mlcore.dynamics.brownian` of one replica on the reference operations: (frames, n, 3)."""
    start = _rows(x0)
    frames = np.empty((1, frame_count(steps, every) + 1, *start.shape))
    frames[:, 0] = start
    options = _core.BrownianOptions(
        dt=dt,
        kT=kT,
        every=every,
        drift=drift,
        scheme=scheme,
        seed=seed,
        stream=stream,
        psd="error",
        max_displacement=0.0,
    )
    field = core_field(forces, len(start))
    _core.brownian(
        mobility.core_model,
        *box(cell, pbc),
        field,
        options,
        frames,
        0,
        frames.shape[1] - 1,
        reference=True,
    )
    return cast(Array, frames[0])


def system_forces(
    forces: SystemForce | Sequence[SystemForce], x: npt.ArrayLike, box: float | None = None
) -> tuple[float, Array]:
    """Potential energy and forces (n, d) of what `mlcore.dynamics.verlet` moves, pair by pair."""
    positions = _rows(x)
    out = np.empty(positions.shape)
    energy: float = _core.system_forces_reference(core_system(forces, box), positions, out)
    return energy, out


def verlet(
    x0: npt.ArrayLike,
    v0: npt.ArrayLike,
    *,
    forces: SystemForce | Sequence[SystemForce] = (),
    dt: float,
    steps: int,
    every: int = 1,
    mass: npt.ArrayLike = 1.0,
    box: float | None = None,
) -> tuple[Array, Array, Array]:
    """`mlcore.dynamics.verlet` of one replica: positions, velocities (T, n, d), energies (T, 2)."""
    start = _rows(x0)
    shape = (1, frame_count(steps, every) + 1, *start.shape)
    positions, velocities, energies = np.zeros(shape), np.zeros(shape), np.zeros((*shape[:2], 2))
    positions[:, 0], velocities[:, 0] = start, v0
    masses = np.array(np.broadcast_to(mass, (1, len(start))), dtype=np.float64)
    options = _core.VerletOptions(dt=dt, every=every, integrator="velocity_verlet")
    system = core_system(forces, box)
    _core.verlet_reference(system, options, masses, positions, velocities, energies)
    return positions[0], velocities[0], energies[0]


def lstm(weights: Any, x: npt.ArrayLike) -> npt.NDArray[Any]:
    """`mlcore.LSTM`, by the formula, from the zero state: y (B, S, O) after every frame."""
    network = LSTM(weights)
    frames = np.ascontiguousarray(x, dtype=network.dtype)
    state = np.zeros((2, network.layers, len(frames), network.hidden), network.dtype)
    out = np.empty((*frames.shape[:2], network.outputs), network.dtype)
    network.core.advance(frames, *state, out, reference=True)
    return out


def mlp(
    network: MLP, x: npt.ArrayLike, v: npt.ArrayLike | None = None
) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """(y (B, O), v dy/dx (B, D)) of `mlcore.MLP`, layer by layer; v None: ones."""
    rows = np.ascontiguousarray(x, dtype=network.dtype)
    along = None if v is None else np.ascontiguousarray(v, dtype=network.dtype)
    y = np.empty((len(rows), network.outputs), network.dtype)
    gradient = np.empty_like(rows)
    network.core.run(rows, y, gradient, along, reference=True)
    return y, gradient


def bonds(
    basis: BondBasis,
    x: npt.ArrayLike,
    coefficients: npt.ArrayLike,
    middle: npt.ArrayLike | None = None,
    cell: Any = None,
    pbc: Pbc = None,
    species: npt.ArrayLike | None = None,
) -> BondResults:
    """``basis.evaluate`` in extended precision, forces by differences; all pairs and images tried."""
    positions, C = _rows(x), _rows(coefficients)
    n, step = len(positions), 1e-5 * basis.reach / basis.radial
    i, j, D = neighbor_list("ijD", positions, basis.reach + 4 * step, cell, pbc)
    kinds = np.zeros(n, np.int32) if species is None else np.asarray(species, np.int32)
    rows = _core.BondRows(np.searchsorted(i, np.arange(n + 1)), j, D, kinds)
    zero = np.zeros(basis.seen) if middle is None else _rows(middle)

    def energies(displacements: Array) -> Array:
        found = np.empty(n)
        basis.core.evaluate(C, zero, rows, displacements, energies=found, reference=True)
        return found

    forces = np.empty((n, 3))
    for atom, axis in np.ndindex(n, 3):
        move = np.zeros((n, 3))
        move[atom, axis] = step
        forces[atom, axis] = (energies(-move) - energies(move)).sum() / (2 * step)
    found = energies(np.zeros((n, 3)))
    return BondResults(float(found.sum()), found, forces)


def pair_potential(
    potential: PairPotential,
    x: npt.ArrayLike,
    cell: Any = None,
    pbc: Pbc = None,
    types: npt.ArrayLike | None = None,
) -> PairResults:
    """``potential.evaluate``, all pairs and images tried, one at a time."""
    positions = _rows(x)
    n = len(positions)
    i, j, D = neighbor_list("ijD", positions, potential.cutoff, cell, pbc)
    offsets = np.searchsorted(i, np.arange(n + 1))
    kinds = np.zeros(n, np.int32) if types is None else np.asarray(types, np.int32)
    forces, energies, virial = np.zeros((n, 3)), np.zeros(n), np.zeros(6)
    rows = _core.PairRows(offsets, j, D, types=kinds)
    potential.core.evaluate(rows, forces, energies, virial, reference=True)
    return PairResults(float(energies.sum()), energies, forces, virial)


def potentials(
    form: str,
    structures: Structures,
    parameters: Any,
    *,
    deformation: Any = None,
    displacements: Any = None,
    shift: bool = False,
) -> Results:
    """`mlcore.potentials.evaluate` in extended precision, forces and stress by differences."""
    call = Call(form, structures, parameters, shift)
    return call.run(
        deformation=call.deformation(deformation),
        displacements=call.displacements(displacements),
        reference=True,
    )


def splitting_step(
    splitting: PairSplitting,
    x: npt.ArrayLike,
    v: npt.ArrayLike,
    cell: Any = None,
    pbc: Pbc = None,
    species: npt.ArrayLike | None = None,
    wall: float = 0.0,
) -> tuple[Array, Array, float]:
    """One step of `mlcore.PairSplitting`, all pairs and images tried: x, v (n, 3), and the smallest
    distance of a pair below the cutoff that a kick saw."""
    new_x, new_v = (np.array(values, dtype=np.float64, order="C") for values in (x, v))
    kinds = None if species is None else np.asarray(species, np.int32)
    system = _core.SplittingSystem(*box(cell, pbc), wall=wall, species=kinds)
    closest: float = splitting.core.step_reference(system, new_x, new_v)
    return new_x, new_v, closest


def conv3d_active(
    active: ActiveSet,
    features: npt.ArrayLike,
    weight: npt.ArrayLike,
    bias: npt.ArrayLike | None = None,
    activation: str | None = None,
    residual: npt.ArrayLike | None = None,
) -> Array:
    """`mlcore.conv3d_active` by way of the dense field: (M outputs, O)."""
    start, end = (None if array is None else _rows(array) for array in (bias, residual))
    return _core.conv3d_active_reference(
        active.core_set,
        active.outputs.core_set,
        _rows(features),
        _rows(weight),
        start,
        activation or "none",
        end,
    )


def scatter3d_active(active: ActiveSet, values: npt.ArrayLike, weight: npt.ArrayLike) -> Array:
    """`mlcore.scatter3d_active` by way of the dense field: (M, C)."""
    sets = (active.core_set, active.outputs.core_set)
    return _core.scatter3d_active_reference(*sets, _rows(values), _rows(weight))


def rasterize(
    grid: VoxelGrid,
    positions: npt.ArrayLike,
    features: npt.ArrayLike,
    kernel: Kernel = "cic",
    direction: npt.ArrayLike | None = None,
) -> Array:
    """`mlcore.rasterize` of one system, point by point and voxel by voxel: (X, Y, Z, C)."""
    call = _voxel_call(grid, kernel, positions, direction)
    field = _core.rasterize_reference(*call, _rows(features))
    return cast(Array, field.reshape(*grid.shape, -1))


def gather(
    grid: VoxelGrid,
    field: npt.ArrayLike,
    positions: npt.ArrayLike,
    kernel: Kernel = "cic",
    direction: npt.ArrayLike | None = None,
) -> Array:
    """`mlcore.gather` of one system from a field (X, Y, Z, C): (n, C)."""
    call = _voxel_call(grid, kernel, positions, direction)
    values = _rows(field)
    return _core.gather_reference(*call, values.reshape(-1, values.shape[-1]))


def position_gradient(
    grid: VoxelGrid,
    positions: npt.ArrayLike,
    features: npt.ArrayLike,
    field: npt.ArrayLike,
    kernel: Kernel = "cic",
    direction: npt.ArrayLike | None = None,
) -> Array:
    """`mlcore.voxels.position_gradient` of one system with a field (X, Y, Z, C): (n, 3)."""
    call = _voxel_call(grid, kernel, positions, direction)
    values = _rows(field)
    return _core.voxel_position_gradient_reference(
        *call, _rows(features), values.reshape(-1, values.shape[-1])
    )


def _voxel_call(
    grid: VoxelGrid, kernel: Kernel, positions: npt.ArrayLike, direction: npt.ArrayLike | None
) -> tuple[Any, Any]:
    setup = _core.VoxelSetup(grid.shape, grid.cell, grid.pbc, **kernel_parameters(kernel))
    along = None if direction is None else _rows(direction)
    return setup, _core.VoxelPoints(_rows(positions), along)


def _rows(values: npt.ArrayLike) -> Array:
    return np.ascontiguousarray(values, dtype=np.float64)


def _filled(
    operation: Callable[..., None],
    mobility: CoreMobility,
    x: npt.ArrayLike,
    cell: Any,
    pbc: Pbc,
    shape: tuple[int, ...],
    *inputs: Array,
) -> Array:
    out = np.empty((1, *shape))
    arrays = (_rows(x)[None], *inputs, out)
    operation(mobility.core_model, *box(cell, pbc), *arrays, reference=True)
    return cast(Array, out[0])


def conv3d(
    field: npt.ArrayLike,
    weight: npt.ArrayLike,
    bias: npt.ArrayLike | None = None,
    boundary: str = "periodic",
    activation: str | None = None,
    residual: npt.ArrayLike | None = None,
    mask: npt.ArrayLike | None = None,
    stride: int = 1,
    groups: int = 1,
    layout: str = "channels_first",
) -> npt.NDArray[Any]:
    """`mlcore.conv3d`, one product at a time, in float64."""
    extra = {
        "bias": None if bias is None else np.asarray(bias, np.float64),
        "activation": activation,
        "residual": None if residual is None else np.asarray(residual, np.float64),
        "mask": mask,
    }
    stencil = Stencil(boundary, stride, groups, layout)
    arrays = np.asarray(field, np.float64), np.asarray(weight, np.float64)
    return cast("npt.NDArray[Any]", convolve(stencil, *arrays, extra, reference=True))


def scatter3d(
    values: npt.ArrayLike,
    weight: npt.ArrayLike,
    boundary: str = "halo",
    stride: int = 1,
    groups: int = 1,
    extents: Sequence[int] | None = None,
    layout: str = "channels_first",
) -> npt.NDArray[Any]:
    """`mlcore.scatter3d`, one product at a time, in float64."""
    stencil = Stencil(boundary, stride, groups, layout)
    arrays = np.asarray(values, np.float64), np.asarray(weight, np.float64)
    return cast("npt.NDArray[Any]", scatter(stencil, *arrays, extents, reference=True))


def laplacian(
    field: npt.ArrayLike,
    spacing: float | Sequence[float] = 1.0,
    order: int = 2,
    boundary: str = "periodic",
) -> npt.NDArray[Any]:
    """`mlcore.laplacian`, one voxel at a time, in float64."""
    values = np.asarray(field, np.float64)
    out = finite_difference("laplacian", values, spacing, order, boundary, reference=True)
    return cast("npt.NDArray[Any]", out)


def gradient(
    field: npt.ArrayLike,
    spacing: float | Sequence[float] = 1.0,
    order: int = 2,
    boundary: str = "periodic",
) -> npt.NDArray[Any]:
    """`mlcore.gradient`, one voxel at a time, in float64."""
    values = np.asarray(field, np.float64)
    out = finite_difference("gradient", values, spacing, order, boundary, reference=True)
    return cast("npt.NDArray[Any]", out)
