"""
The numeric core of mlcore; use the documented faces in mlcore.* instead.
"""

from __future__ import annotations

import collections.abc
import typing

import numpy
import numpy.typing

__all__: list[str] = [
    "ActiveGrid",
    "ActiveSet",
    "BondBasis",
    "BondRows",
    "BrownianOptions",
    "ForceField",
    "LstmFloat32",
    "LstmFloat64",
    "MlpFloat32",
    "MlpFloat64",
    "MobilityModel",
    "NeighborCutoff",
    "NeighborList",
    "NeighborOptions",
    "NeighborSearch",
    "PairPotential",
    "PairRows",
    "PairSplitting",
    "ParticleSystem",
    "PotentialModel",
    "PotentialStructures",
    "SplittingLists",
    "SplittingSystem",
    "SqrtOptions",
    "VerletOptions",
    "VoxelPoints",
    "VoxelSetup",
    "active_neighbor_table",
    "active_neighbors",
    "active_rules",
    "bin_atoms",
    "brownian",
    "check_voxel_grid",
    "cholesky",
    "cholesky_copy",
    "cholesky_copy_single",
    "conv3d",
    "conv3d_active",
    "conv3d_active_reference",
    "conv3d_active_weight_gradient",
    "conv3d_weight_gradient",
    "cuda_status",
    "empty",
    "finite_difference",
    "finite_difference_adjoint",
    "first_touch_rate",
    "fma_rate",
    "force_field",
    "gather",
    "gather_rate",
    "gather_reference",
    "lower_multiply",
    "mobility_apply",
    "mobility_apply_backward",
    "mobility_apply_hessian",
    "mobility_apply_tangent",
    "mobility_divergence",
    "mobility_matrix",
    "mobility_matrix_backward",
    "neighbor_list_reference",
    "num_threads",
    "philox4x32",
    "random_normal",
    "rasterize",
    "rasterize_reference",
    "scatter3d",
    "scatter3d_active",
    "scatter3d_active_reference",
    "set_num_threads",
    "simd_level",
    "sqrt_apply",
    "sqrt_apply_matrix",
    "sqrt_apply_reference",
    "stream_rate",
    "symmetric_eigenvalues",
    "symmetric_multiply",
    "system_force_gradient",
    "system_forces",
    "system_forces_reference",
    "unbin_atoms",
    "verlet",
    "verlet_reference",
    "voxel_position_gradient",
    "voxel_position_gradient_reference",
]

class NeighborCutoff:
    def __init__(
        self,
        cutoff: typing.SupportsFloat | typing.SupportsIndex,
        radii: typing.Annotated[numpy.typing.ArrayLike, numpy.float64] | None = None,
        types: typing.Annotated[numpy.typing.ArrayLike, numpy.int32] | None = None,
        table: typing.Annotated[numpy.typing.ArrayLike, numpy.float64] | None = None,
    ) -> None: ...

class NeighborOptions:
    def __init__(
        self, half: bool, sorted: bool, self_pairs: bool, vectors: bool = True, stored: bool = True
    ) -> None: ...

class NeighborSearch:
    def __init__(
        self,
        positions: typing.Any,
        batch_offsets: typing.Annotated[numpy.typing.ArrayLike, numpy.int64],
        cells: typing.Annotated[numpy.typing.ArrayLike, numpy.float64],
        pbc: collections.abc.Sequence[
            typing.Annotated[collections.abc.Sequence[bool], "FixedSize(3)"]
        ],
        cutoff: NeighborCutoff,
        options: NeighborOptions,
        num_threads: typing.SupportsInt | typing.SupportsIndex,
        stream: typing.SupportsInt | typing.SupportsIndex,
    ) -> None: ...
    def __len__(self) -> int: ...
    def copy_offsets(
        self, out: typing.Any, stream: typing.SupportsInt | typing.SupportsIndex
    ) -> None: ...
    def fill(
        self,
        arrays: dict[str, typing.Any],
        wide: bool,
        single: bool,
        num_threads: typing.SupportsInt | typing.SupportsIndex,
        stream: typing.SupportsInt | typing.SupportsIndex,
    ) -> None: ...
    def fill_matrix(
        self,
        j: typing.Any,
        S: typing.Any,
        counts: typing.Any,
        padding: typing.SupportsInt | typing.SupportsIndex,
        num_threads: typing.SupportsInt | typing.SupportsIndex,
        stream: typing.SupportsInt | typing.SupportsIndex,
    ) -> None: ...
    def get(
        self,
        quantities: str,
        wide: bool,
        single: bool,
        num_threads: typing.SupportsInt | typing.SupportsIndex,
    ) -> tuple[typing.Any, ...]: ...
    def largest_row(self) -> int: ...

class NeighborList:
    def __init__(
        self,
        cutoff: NeighborCutoff,
        skin: typing.SupportsFloat | typing.SupportsIndex,
        options: NeighborOptions,
    ) -> None: ...
    def __len__(self) -> int: ...
    def copy_offsets(
        self, out: typing.Any, stream: typing.SupportsInt | typing.SupportsIndex
    ) -> None: ...
    def copy_positions(
        self, out: typing.Any, stream: typing.SupportsInt | typing.SupportsIndex = 0
    ) -> None: ...
    def fill(
        self,
        arrays: dict[str, typing.Any],
        wide: bool,
        single: bool,
        num_threads: typing.SupportsInt | typing.SupportsIndex,
        stream: typing.SupportsInt | typing.SupportsIndex,
    ) -> None: ...
    def fill_matrix(
        self,
        j: typing.Any,
        S: typing.Any,
        counts: typing.Any,
        padding: typing.SupportsInt | typing.SupportsIndex,
        num_threads: typing.SupportsInt | typing.SupportsIndex,
        stream: typing.SupportsInt | typing.SupportsIndex,
    ) -> None: ...
    def get(
        self,
        quantities: str,
        wide: bool,
        single: bool,
        num_threads: typing.SupportsInt | typing.SupportsIndex,
    ) -> tuple[typing.Any, ...]: ...
    def largest_row(self) -> int: ...
    def update(
        self,
        positions: typing.Any,
        cell: typing.Annotated[numpy.typing.ArrayLike, numpy.float64],
        pbc: typing.Annotated[collections.abc.Sequence[bool], "FixedSize(3)"],
        num_threads: typing.SupportsInt | typing.SupportsIndex,
        stream: typing.SupportsInt | typing.SupportsIndex = 0,
    ) -> bool: ...

class MobilityModel:
    def __init__(
        self,
        *,
        kernel: str,
        radius: typing.SupportsFloat | typing.SupportsIndex = 1.0,
        viscosity: typing.SupportsFloat | typing.SupportsIndex = 1.0,
        self_mobility: typing.SupportsFloat | typing.SupportsIndex = 0.0,
        cutoff: typing.SupportsFloat | typing.SupportsIndex = 0.0,
        par: typing.Annotated[numpy.typing.ArrayLike, numpy.float64] | None = None,
        dpar: typing.Annotated[numpy.typing.ArrayLike, numpy.float64] | None = None,
        perp: typing.Annotated[numpy.typing.ArrayLike, numpy.float64] | None = None,
        dperp: typing.Annotated[numpy.typing.ArrayLike, numpy.float64] | None = None,
        tolerance: typing.SupportsFloat | typing.SupportsIndex = 1e-10,
        splitting: typing.SupportsFloat | typing.SupportsIndex = 0.0,
        radii: typing.Annotated[numpy.typing.ArrayLike, numpy.float64] | None = None,
    ) -> None: ...

class SqrtOptions:
    def __init__(
        self,
        method: str = "cholesky",
        tol: typing.SupportsFloat | typing.SupportsIndex = 0.001,
        psd: str = "error",
        max_iterations: typing.SupportsInt | typing.SupportsIndex = 1000,
        single_precision: bool = False,
        bounds: typing.Annotated[
            collections.abc.Sequence[typing.SupportsFloat | typing.SupportsIndex], "FixedSize(2)"
        ] = [0.0, 0.0],
    ) -> None: ...

class BondRows:
    def __init__(
        self,
        offsets: typing.Any,
        columns: typing.Any,
        vectors: typing.Any,
        species: typing.Any = None,
    ) -> None: ...
    def __len__(self) -> int: ...

class BondBasis:
    def __init__(
        self,
        species: typing.SupportsInt | typing.SupportsIndex,
        reach: typing.SupportsFloat | typing.SupportsIndex,
        inner: typing.SupportsFloat | typing.SupportsIndex,
        radial: typing.SupportsInt | typing.SupportsIndex,
        order: typing.SupportsInt | typing.SupportsIndex,
        turns: typing.SupportsInt | typing.SupportsIndex,
        degree: typing.SupportsInt | typing.SupportsIndex,
        decay: typing.SupportsFloat | typing.SupportsIndex,
        knot: typing.SupportsFloat | typing.SupportsIndex,
    ) -> None: ...
    def evaluate(
        self,
        coefficients: typing.Any,
        middle: typing.Any,
        rows: BondRows,
        displacements: typing.Any = None,
        weights: typing.Any = None,
        along: typing.Any = None,
        energies: typing.Any = None,
        by_displacements: typing.Any = None,
        by_coefficients: typing.Any = None,
        reference: bool = False,
        num_threads: typing.SupportsInt | typing.SupportsIndex = 0,
        stream: typing.SupportsInt | typing.SupportsIndex = 0,
    ) -> None: ...
    @property
    def columns(self) -> int: ...
    @property
    def products(self) -> numpy.typing.NDArray[numpy.int64]: ...
    @property
    def rows(self) -> int: ...
    @property
    def seen(self) -> int: ...

class ForceField:
    def __init__(
        self,
        *,
        constant: typing.Annotated[numpy.typing.ArrayLike, numpy.float64] | None = None,
        stiffness: typing.SupportsFloat | typing.SupportsIndex = 0.0,
        centres: typing.Annotated[numpy.typing.ArrayLike, numpy.float64] | None = None,
        pairs: collections.abc.Sequence[
            tuple[
                str,
                typing.SupportsFloat | typing.SupportsIndex,
                typing.SupportsFloat | typing.SupportsIndex,
                typing.SupportsFloat | typing.SupportsIndex,
            ]
        ] = [],
    ) -> None: ...

class BrownianOptions:
    def __init__(
        self,
        *,
        dt: typing.SupportsFloat | typing.SupportsIndex,
        kT: typing.SupportsFloat | typing.SupportsIndex,
        every: typing.SupportsInt | typing.SupportsIndex,
        drift: bool,
        scheme: str,
        seed: typing.SupportsInt | typing.SupportsIndex,
        stream: typing.SupportsInt | typing.SupportsIndex,
        psd: str,
        max_displacement: typing.SupportsFloat | typing.SupportsIndex,
        random_finite_difference: typing.SupportsFloat | typing.SupportsIndex = 0.0,
        noise: str = "cholesky",
        tol: typing.SupportsFloat | typing.SupportsIndex = 0.001,
    ) -> None: ...

class ParticleSystem:
    def __init__(
        self,
        *,
        trap: typing.SupportsFloat | typing.SupportsIndex = 0.0,
        landscape: str = "none",
        landscape_epsilon: typing.SupportsFloat | typing.SupportsIndex = 1.0,
        landscape_sigma: typing.SupportsFloat | typing.SupportsIndex = 1.0,
        epsilon: typing.SupportsFloat | typing.SupportsIndex = 0.0,
        sigma: typing.SupportsFloat | typing.SupportsIndex = 1.0,
        cutoff: typing.SupportsFloat | typing.SupportsIndex = 0.0,
        box: typing.SupportsFloat | typing.SupportsIndex = 0.0,
        wall: str = "none",
        wall_radius: typing.SupportsFloat | typing.SupportsIndex = 0.0,
        wall_epsilon: typing.SupportsFloat | typing.SupportsIndex = 1.0,
        wall_sigma: typing.SupportsFloat | typing.SupportsIndex = 1.0,
    ) -> None: ...

class VerletOptions:
    def __init__(
        self,
        *,
        dt: typing.SupportsFloat | typing.SupportsIndex,
        every: typing.SupportsInt | typing.SupportsIndex,
        integrator: str,
        skin: typing.SupportsFloat | typing.SupportsIndex = 0.0,
    ) -> None: ...

class LstmFloat32:
    def __init__(
        self,
        layers: collections.abc.Sequence[
            tuple[
                typing.Annotated[numpy.typing.ArrayLike, numpy.float32],
                typing.Annotated[numpy.typing.ArrayLike, numpy.float32],
                typing.Annotated[numpy.typing.ArrayLike, numpy.float32] | None,
                typing.Annotated[numpy.typing.ArrayLike, numpy.float32] | None,
            ]
        ],
        out_weight: typing.Annotated[numpy.typing.ArrayLike, numpy.float32] | None = None,
        out_bias: typing.Annotated[numpy.typing.ArrayLike, numpy.float32] | None = None,
    ) -> None: ...
    def advance(
        self,
        x: typing.Any,
        h: typing.Any,
        c: typing.Any,
        out: typing.Any,
        reference: bool = False,
        num_threads: typing.SupportsInt | typing.SupportsIndex = 0,
        stream: typing.SupportsInt | typing.SupportsIndex = 0,
    ) -> None: ...
    def rollout(
        self,
        window: typing.Any,
        out: typing.Any,
        carry: bool = False,
        num_threads: typing.SupportsInt | typing.SupportsIndex = 0,
        stream: typing.SupportsInt | typing.SupportsIndex = 0,
    ) -> None: ...
    def step(
        self, x: typing.Any, out: typing.Any, num_threads: typing.SupportsInt | typing.SupportsIndex
    ) -> typing.Any: ...
    def step_any(
        self,
        x: typing.Any,
        out: typing.Any,
        num_threads: typing.SupportsInt | typing.SupportsIndex = 0,
        stream: typing.SupportsInt | typing.SupportsIndex = 0,
    ) -> None: ...
    @property
    def hidden(self) -> int: ...
    @property
    def inputs(self) -> int: ...
    @property
    def layers(self) -> int: ...
    @property
    def outputs(self) -> int: ...

class LstmFloat64:
    def __init__(
        self,
        layers: collections.abc.Sequence[
            tuple[
                typing.Annotated[numpy.typing.ArrayLike, numpy.float64],
                typing.Annotated[numpy.typing.ArrayLike, numpy.float64],
                typing.Annotated[numpy.typing.ArrayLike, numpy.float64] | None,
                typing.Annotated[numpy.typing.ArrayLike, numpy.float64] | None,
            ]
        ],
        out_weight: typing.Annotated[numpy.typing.ArrayLike, numpy.float64] | None = None,
        out_bias: typing.Annotated[numpy.typing.ArrayLike, numpy.float64] | None = None,
    ) -> None: ...
    def advance(
        self,
        x: typing.Any,
        h: typing.Any,
        c: typing.Any,
        out: typing.Any,
        reference: bool = False,
        num_threads: typing.SupportsInt | typing.SupportsIndex = 0,
        stream: typing.SupportsInt | typing.SupportsIndex = 0,
    ) -> None: ...
    def rollout(
        self,
        window: typing.Any,
        out: typing.Any,
        carry: bool = False,
        num_threads: typing.SupportsInt | typing.SupportsIndex = 0,
        stream: typing.SupportsInt | typing.SupportsIndex = 0,
    ) -> None: ...
    def step(
        self, x: typing.Any, out: typing.Any, num_threads: typing.SupportsInt | typing.SupportsIndex
    ) -> typing.Any: ...
    def step_any(
        self,
        x: typing.Any,
        out: typing.Any,
        num_threads: typing.SupportsInt | typing.SupportsIndex = 0,
        stream: typing.SupportsInt | typing.SupportsIndex = 0,
    ) -> None: ...
    @property
    def hidden(self) -> int: ...
    @property
    def inputs(self) -> int: ...
    @property
    def layers(self) -> int: ...
    @property
    def outputs(self) -> int: ...

class PairRows:
    def __init__(
        self,
        offsets: typing.Any,
        columns: typing.Any,
        vectors: typing.Any = None,
        x: typing.Any = None,
        types: typing.Any = None,
        first_type: typing.SupportsInt | typing.SupportsIndex = 0,
    ) -> None: ...

class PairPotential:
    def __init__(
        self,
        types: typing.SupportsInt | typing.SupportsIndex,
        first: typing.SupportsFloat | typing.SupportsIndex,
        cutoff: typing.SupportsFloat | typing.SupportsIndex,
        energy: typing.Annotated[numpy.typing.ArrayLike, numpy.float64],
        slope: typing.Annotated[numpy.typing.ArrayLike, numpy.float64],
    ) -> None: ...
    def evaluate(
        self,
        rows: PairRows,
        forces: typing.Any = None,
        energies: typing.Any = None,
        virial: typing.Any = None,
        share: typing.SupportsFloat | typing.SupportsIndex = 0.5,
        reference: bool = False,
        num_threads: typing.SupportsInt | typing.SupportsIndex = 0,
        stream: typing.SupportsInt | typing.SupportsIndex = 0,
    ) -> None: ...
    def gradient(
        self,
        rows: PairRows,
        weights: typing.Any,
        out: typing.Any,
        num_threads: typing.SupportsInt | typing.SupportsIndex = 0,
        stream: typing.SupportsInt | typing.SupportsIndex = 0,
    ) -> None: ...
    def second_gradient(
        self,
        rows: PairRows,
        weights: typing.Any,
        along: typing.Any,
        by_vectors: typing.Any,
        by_weights: typing.Any,
        num_threads: typing.SupportsInt | typing.SupportsIndex = 0,
        stream: typing.SupportsInt | typing.SupportsIndex = 0,
    ) -> None: ...

class PotentialStructures:
    def __init__(
        self,
        starts: typing.Any,
        species: typing.Any,
        offsets: typing.Any,
        columns: typing.Any,
        vectors: typing.Any,
        volumes: typing.Any,
        cutoff: typing.SupportsFloat | typing.SupportsIndex,
    ) -> None: ...

class PotentialModel:
    def __init__(
        self,
        form: typing.SupportsInt | typing.SupportsIndex,
        species: typing.SupportsInt | typing.SupportsIndex,
        shift: bool = False,
        embedding_knots: typing.SupportsInt | typing.SupportsIndex = 0,
        radial_knots: typing.SupportsInt | typing.SupportsIndex = 0,
        density_spacing: typing.SupportsFloat | typing.SupportsIndex = 0.0,
        radial_spacing: typing.SupportsFloat | typing.SupportsIndex = 0.0,
        cutoff: typing.SupportsFloat | typing.SupportsIndex = 0.0,
        largest_density: typing.SupportsFloat | typing.SupportsIndex = 0.0,
    ) -> None: ...
    def evaluate(
        self,
        structures: PotentialStructures,
        parameters: typing.Any,
        results: dict[str, typing.Any],
        directions: typing.Any = None,
        deformation: typing.Any = None,
        displacements: typing.Any = None,
        num_threads: typing.SupportsInt | typing.SupportsIndex = 0,
        stream: typing.SupportsInt | typing.SupportsIndex = 0,
    ) -> None: ...
    def evaluate_reference(
        self,
        structures: PotentialStructures,
        parameters: typing.Any,
        results: dict[str, typing.Any],
        deformation: typing.Any = None,
        displacements: typing.Any = None,
    ) -> None: ...
    @property
    def parameters(self) -> int: ...

class MlpFloat32:
    def __init__(
        self,
        layers: collections.abc.Sequence[
            tuple[
                typing.Annotated[numpy.typing.ArrayLike, numpy.float32],
                typing.Annotated[numpy.typing.ArrayLike, numpy.float32] | None,
            ]
        ],
        activation: typing.SupportsInt | typing.SupportsIndex,
        in_shift: typing.Annotated[numpy.typing.ArrayLike, numpy.float32] | None = None,
        in_scale: typing.Annotated[numpy.typing.ArrayLike, numpy.float32] | None = None,
        out_shift: typing.Annotated[numpy.typing.ArrayLike, numpy.float32] | None = None,
        out_scale: typing.Annotated[numpy.typing.ArrayLike, numpy.float32] | None = None,
    ) -> None: ...
    def run(
        self,
        x: typing.Any,
        y: typing.Any = None,
        dx: typing.Any = None,
        v: typing.Any = None,
        reference: bool = False,
        num_threads: typing.SupportsInt | typing.SupportsIndex = 0,
        stream: typing.SupportsInt | typing.SupportsIndex = 0,
    ) -> None: ...
    @property
    def inputs(self) -> int: ...
    @property
    def layers(self) -> int: ...
    @property
    def outputs(self) -> int: ...

class MlpFloat64:
    def __init__(
        self,
        layers: collections.abc.Sequence[
            tuple[
                typing.Annotated[numpy.typing.ArrayLike, numpy.float64],
                typing.Annotated[numpy.typing.ArrayLike, numpy.float64] | None,
            ]
        ],
        activation: typing.SupportsInt | typing.SupportsIndex,
        in_shift: typing.Annotated[numpy.typing.ArrayLike, numpy.float64] | None = None,
        in_scale: typing.Annotated[numpy.typing.ArrayLike, numpy.float64] | None = None,
        out_shift: typing.Annotated[numpy.typing.ArrayLike, numpy.float64] | None = None,
        out_scale: typing.Annotated[numpy.typing.ArrayLike, numpy.float64] | None = None,
    ) -> None: ...
    def run(
        self,
        x: typing.Any,
        y: typing.Any = None,
        dx: typing.Any = None,
        v: typing.Any = None,
        reference: bool = False,
        num_threads: typing.SupportsInt | typing.SupportsIndex = 0,
        stream: typing.SupportsInt | typing.SupportsIndex = 0,
    ) -> None: ...
    @property
    def inputs(self) -> int: ...
    @property
    def layers(self) -> int: ...
    @property
    def outputs(self) -> int: ...

class SplittingSystem:
    def __init__(
        self,
        cell: typing.Annotated[numpy.typing.ArrayLike, numpy.float64],
        pbc: typing.Annotated[collections.abc.Sequence[bool], "FixedSize(3)"],
        wall: typing.SupportsFloat | typing.SupportsIndex = 0.0,
        species: typing.Annotated[numpy.typing.ArrayLike, numpy.int32] | None = None,
    ) -> None: ...

class SplittingLists:
    def __init__(self) -> None: ...

class PairSplitting:
    def __init__(
        self,
        step: typing.SupportsFloat | typing.SupportsIndex,
        drifts: typing.Annotated[numpy.typing.ArrayLike, numpy.float64],
        masses: typing.Annotated[numpy.typing.ArrayLike, numpy.float64],
        coefficients: typing.Annotated[numpy.typing.ArrayLike, numpy.float64],
        u_lo: typing.SupportsFloat | typing.SupportsIndex,
        u_hi: typing.SupportsFloat | typing.SupportsIndex,
    ) -> None: ...
    def kick(
        self,
        stage: typing.SupportsInt | typing.SupportsIndex,
        x: typing.Any,
        v: typing.Any,
        offsets: typing.Any,
        columns: typing.Any,
        species: typing.Any = None,
        first_species: typing.SupportsInt | typing.SupportsIndex = 0,
        num_threads: typing.SupportsInt | typing.SupportsIndex = 0,
    ) -> float: ...
    def run(
        self,
        system: SplittingSystem,
        x: typing.Any,
        v: typing.Any,
        done: typing.Any,
        closest: typing.Any,
        status: typing.Any,
        every: typing.SupportsInt | typing.SupportsIndex,
        first: typing.SupportsInt | typing.SupportsIndex,
        last: typing.SupportsInt | typing.SupportsIndex,
        lists: SplittingLists,
        frames_x: typing.Any = None,
        frames_v: typing.Any = None,
        num_threads: typing.SupportsInt | typing.SupportsIndex = 0,
        stream: typing.SupportsInt | typing.SupportsIndex = 0,
    ) -> None: ...
    def step_gradient(
        self,
        system: SplittingSystem,
        x: typing.Any,
        v: typing.Any,
        gx: typing.Any,
        gv: typing.Any,
        num_threads: typing.SupportsInt | typing.SupportsIndex = 0,
    ) -> None: ...
    def step_reference(
        self, system: SplittingSystem, x: numpy.ndarray, v: numpy.ndarray
    ) -> float: ...

class VoxelSetup:
    def __init__(
        self,
        shape: typing.Annotated[
            collections.abc.Sequence[typing.SupportsInt | typing.SupportsIndex], "FixedSize(3)"
        ],
        cell: typing.Annotated[numpy.typing.ArrayLike, numpy.float64],
        pbc: typing.Annotated[collections.abc.Sequence[bool], "FixedSize(3)"],
        scheme: str = "nearest",
        sigma: typing.SupportsFloat | typing.SupportsIndex = 0.0,
        truncation: typing.SupportsFloat | typing.SupportsIndex = 4.0,
        radius: typing.SupportsFloat | typing.SupportsIndex = 0.0,
        edge: typing.SupportsFloat | typing.SupportsIndex = 0.0,
        density: bool = False,
        channels_first: bool = True,
        deterministic: bool = True,
        num_threads: typing.SupportsInt | typing.SupportsIndex = 0,
        stream: typing.SupportsInt | typing.SupportsIndex = 0,
    ) -> None: ...

class VoxelPoints:
    def __init__(
        self,
        positions: typing.Any,
        direction: typing.Any = None,
        offsets: typing.Annotated[numpy.typing.ArrayLike, numpy.int64] | None = None,
    ) -> None: ...

class ActiveGrid:
    def __init__(
        self,
        shape: typing.Annotated[
            collections.abc.Sequence[typing.SupportsInt | typing.SupportsIndex], "FixedSize(3)"
        ],
        batches: typing.SupportsInt | typing.SupportsIndex,
        periodic: bool,
    ) -> None: ...

class ActiveSet:
    @staticmethod
    def from_mask(
        grid: ActiveGrid, mask: typing.Annotated[numpy.typing.ArrayLike, numpy.uint8]
    ) -> ActiveSet: ...
    def __init__(
        self, grid: ActiveGrid, coordinates: typing.Annotated[numpy.typing.ArrayLike, numpy.int64]
    ) -> None: ...
    def __len__(self) -> int: ...
    def coordinates(self) -> numpy.typing.NDArray[numpy.int64]: ...
    def dilated(self, k: typing.SupportsInt | typing.SupportsIndex) -> ActiveSet: ...

def active_neighbor_table(
    grid: ActiveGrid,
    inputs: typing.Any,
    outputs: typing.Any,
    k: typing.SupportsInt | typing.SupportsIndex,
    out: typing.Any,
    stream: typing.SupportsInt | typing.SupportsIndex = 0,
) -> None: ...
def active_neighbors(
    outputs: ActiveSet,
    rules: typing.Annotated[numpy.typing.ArrayLike, numpy.int32],
    k: typing.SupportsInt | typing.SupportsIndex,
) -> numpy.typing.NDArray[numpy.int32]: ...
def active_rules(
    inputs: ActiveSet,
    outputs: ActiveSet,
    k: typing.SupportsInt | typing.SupportsIndex,
    num_threads: typing.SupportsInt | typing.SupportsIndex = 0,
) -> numpy.typing.NDArray[numpy.int32]: ...
def bin_atoms(
    setup: VoxelSetup,
    positions: typing.Any,
    cell: typing.Any,
    offset: typing.Any,
    image: typing.Any,
    ulps: typing.Any,
    order: typing.Any,
    starts: typing.Any,
) -> None: ...
def brownian(
    model: MobilityModel,
    cell: typing.Annotated[numpy.typing.ArrayLike, numpy.float64],
    pbc: typing.Annotated[collections.abc.Sequence[bool], "FixedSize(3)"],
    field: ForceField,
    options: BrownianOptions,
    frames: typing.Any,
    first: typing.SupportsInt | typing.SupportsIndex,
    last: typing.SupportsInt | typing.SupportsIndex,
    reference: bool = False,
    num_threads: typing.SupportsInt | typing.SupportsIndex = 0,
    stream: typing.SupportsInt | typing.SupportsIndex = 0,
) -> None: ...
def check_voxel_grid(setup: VoxelSetup) -> None: ...
def cholesky(
    matrix: numpy.ndarray,
    reference: bool = False,
    num_threads: typing.SupportsInt | typing.SupportsIndex = 0,
) -> None: ...
def cholesky_copy(
    matrix: typing.Any,
    out: typing.Any,
    num_threads: typing.SupportsInt | typing.SupportsIndex = 0,
    stream: typing.SupportsInt | typing.SupportsIndex = 0,
) -> None: ...
def cholesky_copy_single(
    matrix: typing.Any,
    out: typing.Any,
    num_threads: typing.SupportsInt | typing.SupportsIndex = 0,
    stream: typing.SupportsInt | typing.SupportsIndex = 0,
) -> None: ...
def conv3d(
    field: typing.Any,
    weight: typing.Any,
    out: typing.Any,
    single: bool,
    boundary: str,
    stride: typing.SupportsInt | typing.SupportsIndex,
    groups: typing.SupportsInt | typing.SupportsIndex,
    layout: str,
    bias: typing.Any = None,
    activation: str = "none",
    residual: typing.Any = None,
    mask: typing.Any = None,
    preactivation: typing.Any = None,
    num_threads: typing.SupportsInt | typing.SupportsIndex = 0,
    stream: typing.SupportsInt | typing.SupportsIndex = 0,
    reference: bool = False,
) -> None: ...
def conv3d_active(
    rules: typing.Any,
    features: typing.Any,
    weight: typing.Any,
    out: typing.Any,
    single: bool,
    bias: typing.Any = None,
    activation: str = "none",
    residual: typing.Any = None,
    preactivation: typing.Any = None,
    num_threads: typing.SupportsInt | typing.SupportsIndex = 0,
    stream: typing.SupportsInt | typing.SupportsIndex = 0,
) -> None: ...
def conv3d_active_reference(
    inputs: ActiveSet,
    outputs: ActiveSet,
    features: typing.Annotated[numpy.typing.ArrayLike, numpy.float64],
    weight: typing.Annotated[numpy.typing.ArrayLike, numpy.float64],
    bias: typing.Annotated[numpy.typing.ArrayLike, numpy.float64] | None = None,
    activation: str = "none",
    residual: typing.Annotated[numpy.typing.ArrayLike, numpy.float64] | None = None,
) -> numpy.typing.NDArray[numpy.float64]: ...
def conv3d_active_weight_gradient(
    rules: typing.Any,
    features: typing.Any,
    values: typing.Any,
    out: typing.Any,
    single: bool,
    num_threads: typing.SupportsInt | typing.SupportsIndex = 0,
    stream: typing.SupportsInt | typing.SupportsIndex = 0,
) -> None: ...
def conv3d_weight_gradient(
    field: typing.Any,
    values: typing.Any,
    out: typing.Any,
    single: bool,
    boundary: str,
    stride: typing.SupportsInt | typing.SupportsIndex,
    groups: typing.SupportsInt | typing.SupportsIndex,
    layout: str,
    num_threads: typing.SupportsInt | typing.SupportsIndex = 0,
    stream: typing.SupportsInt | typing.SupportsIndex = 0,
    reference: bool = False,
) -> None: ...
def cuda_status() -> dict[str, typing.Any]: ...
def empty(
    shape: collections.abc.Sequence[typing.SupportsInt | typing.SupportsIndex],
    dtype: numpy.dtype[typing.Any],
) -> numpy.ndarray:
    """
    Uninitialised C-contiguous array on memory that is reused.
    """

def finite_difference(
    field: typing.Any,
    out: typing.Any,
    single: bool,
    derivative: str,
    order: typing.SupportsInt | typing.SupportsIndex,
    spacing: typing.Annotated[
        collections.abc.Sequence[typing.SupportsFloat | typing.SupportsIndex], "FixedSize(3)"
    ],
    boundary: str,
    num_threads: typing.SupportsInt | typing.SupportsIndex = 0,
    stream: typing.SupportsInt | typing.SupportsIndex = 0,
    reference: bool = False,
) -> None: ...
def finite_difference_adjoint(
    values: typing.Any,
    out: typing.Any,
    single: bool,
    derivative: str,
    order: typing.SupportsInt | typing.SupportsIndex,
    spacing: typing.Annotated[
        collections.abc.Sequence[typing.SupportsFloat | typing.SupportsIndex], "FixedSize(3)"
    ],
    boundary: str,
    num_threads: typing.SupportsInt | typing.SupportsIndex = 0,
    stream: typing.SupportsInt | typing.SupportsIndex = 0,
) -> None: ...
def first_touch_rate(
    bytes: typing.SupportsInt | typing.SupportsIndex,
    huge_pages: bool,
    num_threads: typing.SupportsInt | typing.SupportsIndex = 0,
) -> float: ...
def fma_rate(
    single_precision: bool, num_threads: typing.SupportsInt | typing.SupportsIndex = 0
) -> float: ...
def force_field(
    field: ForceField,
    cell: typing.Annotated[numpy.typing.ArrayLike, numpy.float64],
    pbc: typing.Annotated[collections.abc.Sequence[bool], "FixedSize(3)"],
    x: typing.Any,
    out: typing.Any,
    reference: bool = False,
    num_threads: typing.SupportsInt | typing.SupportsIndex = 0,
    stream: typing.SupportsInt | typing.SupportsIndex = 0,
) -> float: ...
def gather(setup: VoxelSetup, points: VoxelPoints, field: typing.Any, out: typing.Any) -> None: ...
def gather_rate(
    bytes: typing.SupportsInt | typing.SupportsIndex,
    num_threads: typing.SupportsInt | typing.SupportsIndex = 0,
) -> float: ...
def gather_reference(
    setup: VoxelSetup,
    points: VoxelPoints,
    field: typing.Annotated[numpy.typing.ArrayLike, numpy.float64],
) -> numpy.typing.NDArray[numpy.float64]: ...
def lower_multiply(
    L: typing.Annotated[numpy.typing.ArrayLike, numpy.float64],
    x: typing.Annotated[numpy.typing.ArrayLike, numpy.float64],
    out: numpy.ndarray,
    reference: bool = False,
    num_threads: typing.SupportsInt | typing.SupportsIndex = 0,
) -> None: ...
def mobility_apply(
    model: MobilityModel,
    cell: typing.Annotated[numpy.typing.ArrayLike, numpy.float64],
    pbc: typing.Annotated[collections.abc.Sequence[bool], "FixedSize(3)"],
    x: typing.Any,
    forces: typing.Any,
    out: typing.Any,
    num_threads: typing.SupportsInt | typing.SupportsIndex = 0,
    stream: typing.SupportsInt | typing.SupportsIndex = 0,
    reference: bool = False,
) -> None: ...
def mobility_apply_backward(
    model: MobilityModel,
    cell: typing.Annotated[numpy.typing.ArrayLike, numpy.float64],
    pbc: typing.Annotated[collections.abc.Sequence[bool], "FixedSize(3)"],
    x: typing.Any,
    forces: typing.Any,
    adjoint: typing.Any,
    dx: typing.Any,
    parameters: bool = False,
    num_threads: typing.SupportsInt | typing.SupportsIndex = 0,
    stream: typing.SupportsInt | typing.SupportsIndex = 0,
) -> typing.Any: ...
def mobility_apply_hessian(
    model: MobilityModel,
    cell: typing.Annotated[numpy.typing.ArrayLike, numpy.float64],
    pbc: typing.Annotated[collections.abc.Sequence[bool], "FixedSize(3)"],
    x: typing.Any,
    forces: typing.Any,
    adjoint: typing.Any,
    motion: typing.Any,
    out: typing.Any,
    num_threads: typing.SupportsInt | typing.SupportsIndex = 0,
    stream: typing.SupportsInt | typing.SupportsIndex = 0,
) -> None: ...
def mobility_apply_tangent(
    model: MobilityModel,
    cell: typing.Annotated[numpy.typing.ArrayLike, numpy.float64],
    pbc: typing.Annotated[collections.abc.Sequence[bool], "FixedSize(3)"],
    x: typing.Any,
    forces: typing.Any,
    motion: typing.Any,
    out: typing.Any,
    num_threads: typing.SupportsInt | typing.SupportsIndex = 0,
    stream: typing.SupportsInt | typing.SupportsIndex = 0,
) -> None: ...
def mobility_divergence(
    model: MobilityModel,
    cell: typing.Annotated[numpy.typing.ArrayLike, numpy.float64],
    pbc: typing.Annotated[collections.abc.Sequence[bool], "FixedSize(3)"],
    x: typing.Any,
    out: typing.Any,
    num_threads: typing.SupportsInt | typing.SupportsIndex = 0,
    stream: typing.SupportsInt | typing.SupportsIndex = 0,
    reference: bool = False,
) -> None: ...
def mobility_matrix(
    model: MobilityModel,
    cell: typing.Annotated[numpy.typing.ArrayLike, numpy.float64],
    pbc: typing.Annotated[collections.abc.Sequence[bool], "FixedSize(3)"],
    x: typing.Any,
    out: typing.Any,
    num_threads: typing.SupportsInt | typing.SupportsIndex = 0,
    stream: typing.SupportsInt | typing.SupportsIndex = 0,
    reference: bool = False,
) -> None: ...
def mobility_matrix_backward(
    model: MobilityModel,
    cell: typing.Annotated[numpy.typing.ArrayLike, numpy.float64],
    pbc: typing.Annotated[collections.abc.Sequence[bool], "FixedSize(3)"],
    x: typing.Any,
    adjoint: typing.Any,
    dx: typing.Any,
    parameters: bool = False,
    num_threads: typing.SupportsInt | typing.SupportsIndex = 0,
    stream: typing.SupportsInt | typing.SupportsIndex = 0,
) -> typing.Any: ...
def neighbor_list_reference(
    quantities: str,
    positions: typing.Annotated[numpy.typing.ArrayLike, numpy.float64],
    cell: typing.Annotated[numpy.typing.ArrayLike, numpy.float64],
    pbc: typing.Annotated[collections.abc.Sequence[bool], "FixedSize(3)"],
    cutoff: NeighborCutoff,
    options: NeighborOptions,
) -> tuple[typing.Any, ...]: ...
def num_threads() -> int: ...
def philox4x32(
    counter: typing.Annotated[
        collections.abc.Sequence[typing.SupportsInt | typing.SupportsIndex], "FixedSize(4)"
    ],
    key: typing.Annotated[
        collections.abc.Sequence[typing.SupportsInt | typing.SupportsIndex], "FixedSize(2)"
    ],
) -> typing.Annotated[list[int], "FixedSize(4)"]: ...
def random_normal(
    seed: typing.SupportsInt | typing.SupportsIndex,
    stream: typing.SupportsInt | typing.SupportsIndex,
    step: typing.SupportsInt | typing.SupportsIndex,
    tags: typing.Annotated[numpy.typing.ArrayLike, numpy.uint32],
    out: typing.Any = None,
    reference: bool = False,
    num_threads: typing.SupportsInt | typing.SupportsIndex = 0,
    on_stream: typing.SupportsInt | typing.SupportsIndex = 0,
) -> typing.Any: ...
def rasterize(
    setup: VoxelSetup, points: VoxelPoints, features: typing.Any, out: typing.Any
) -> None: ...
def rasterize_reference(
    setup: VoxelSetup,
    points: VoxelPoints,
    features: typing.Annotated[numpy.typing.ArrayLike, numpy.float64],
) -> numpy.typing.NDArray[numpy.float64]: ...
def scatter3d(
    values: typing.Any,
    weight: typing.Any,
    out: typing.Any,
    single: bool,
    boundary: str,
    stride: typing.SupportsInt | typing.SupportsIndex,
    groups: typing.SupportsInt | typing.SupportsIndex,
    layout: str,
    num_threads: typing.SupportsInt | typing.SupportsIndex = 0,
    stream: typing.SupportsInt | typing.SupportsIndex = 0,
    reference: bool = False,
) -> None: ...
def scatter3d_active(
    rules: typing.Any,
    values: typing.Any,
    weight: typing.Any,
    out: typing.Any,
    single: bool,
    num_threads: typing.SupportsInt | typing.SupportsIndex = 0,
    stream: typing.SupportsInt | typing.SupportsIndex = 0,
) -> None: ...
def scatter3d_active_reference(
    inputs: ActiveSet,
    outputs: ActiveSet,
    values: typing.Annotated[numpy.typing.ArrayLike, numpy.float64],
    weight: typing.Annotated[numpy.typing.ArrayLike, numpy.float64],
) -> numpy.typing.NDArray[numpy.float64]: ...
def set_num_threads(threads: typing.SupportsInt | typing.SupportsIndex) -> None: ...
def simd_level() -> str: ...
def sqrt_apply(
    model: MobilityModel,
    cell: typing.Annotated[numpy.typing.ArrayLike, numpy.float64],
    pbc: typing.Annotated[collections.abc.Sequence[bool], "FixedSize(3)"],
    x: typing.Any,
    z: typing.Any,
    out: typing.Any,
    options: SqrtOptions,
    num_threads: typing.SupportsInt | typing.SupportsIndex = 0,
    stream: typing.SupportsInt | typing.SupportsIndex = 0,
) -> list[typing.Any]: ...
def sqrt_apply_matrix(
    matrix: typing.Any,
    cell: typing.Annotated[numpy.typing.ArrayLike, numpy.float64],
    pbc: typing.Annotated[collections.abc.Sequence[bool], "FixedSize(3)"],
    x: typing.Any,
    z: typing.Any,
    out: typing.Any,
    options: SqrtOptions,
    num_threads: typing.SupportsInt | typing.SupportsIndex = 0,
    stream: typing.SupportsInt | typing.SupportsIndex = 0,
) -> tuple[typing.Any, ...]: ...
def sqrt_apply_reference(
    matrix: typing.Annotated[numpy.typing.ArrayLike, numpy.float64],
    z: typing.Annotated[numpy.typing.ArrayLike, numpy.float64],
    out: numpy.ndarray,
    symmetric: bool = False,
) -> None: ...
def stream_rate(
    use: str,
    bytes: typing.SupportsInt | typing.SupportsIndex,
    num_threads: typing.SupportsInt | typing.SupportsIndex = 0,
) -> float: ...
def symmetric_eigenvalues(
    matrix: typing.Annotated[numpy.typing.ArrayLike, numpy.float64],
    reference: bool = False,
    num_threads: typing.SupportsInt | typing.SupportsIndex = 0,
) -> numpy.ndarray: ...
def symmetric_multiply(
    matrix: typing.Annotated[numpy.typing.ArrayLike, numpy.float64],
    x: typing.Annotated[numpy.typing.ArrayLike, numpy.float64],
    out: numpy.ndarray,
    upwards: bool = False,
    num_threads: typing.SupportsInt | typing.SupportsIndex = 0,
) -> None: ...
def system_force_gradient(
    system: ParticleSystem,
    x: typing.Any,
    g: typing.Any,
    out: typing.Any,
    num_threads: typing.SupportsInt | typing.SupportsIndex = 0,
    stream: typing.SupportsInt | typing.SupportsIndex = 0,
) -> None: ...
def system_forces(
    system: ParticleSystem,
    x: typing.Any,
    F: typing.Any,
    energies: typing.Any,
    num_threads: typing.SupportsInt | typing.SupportsIndex = 0,
    stream: typing.SupportsInt | typing.SupportsIndex = 0,
) -> None: ...
def system_forces_reference(
    system: ParticleSystem,
    x: typing.Annotated[numpy.typing.ArrayLike, numpy.float64],
    out: numpy.ndarray,
) -> float: ...
def unbin_atoms(
    setup: VoxelSetup,
    cell: typing.Any,
    offset: typing.Any,
    image: typing.Any,
    ulps: typing.Any,
    out: typing.Any,
) -> None: ...
def verlet(
    system: ParticleSystem,
    options: VerletOptions,
    masses: typing.Any,
    positions: typing.Any,
    velocities: typing.Any,
    energies: typing.Any,
    first: typing.SupportsInt | typing.SupportsIndex,
    last: typing.SupportsInt | typing.SupportsIndex,
    num_threads: typing.SupportsInt | typing.SupportsIndex = 0,
    stream: typing.SupportsInt | typing.SupportsIndex = 0,
) -> None: ...
def verlet_reference(
    system: ParticleSystem,
    options: VerletOptions,
    masses: typing.Annotated[numpy.typing.ArrayLike, numpy.float64],
    positions: numpy.ndarray,
    velocities: numpy.ndarray,
    energies: numpy.ndarray,
) -> None: ...
def voxel_position_gradient(
    setup: VoxelSetup, points: VoxelPoints, features: typing.Any, field: typing.Any, out: typing.Any
) -> None: ...
def voxel_position_gradient_reference(
    setup: VoxelSetup,
    points: VoxelPoints,
    features: typing.Annotated[numpy.typing.ArrayLike, numpy.float64],
    field: typing.Annotated[numpy.typing.ArrayLike, numpy.float64],
) -> numpy.typing.NDArray[numpy.float64]: ...

__version__: str = "0.1.0"
