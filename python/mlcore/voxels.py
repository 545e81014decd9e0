"""Points on a grid: spreading features over voxels, gathering them back, sorting points into voxels.

Voxel v of a `VoxelGrid` covers the fractions ``[v/n, (v+1)/n)`` of each cell vector and is sampled at
its centre ``(v + 1/2)/n``. A kernel says which share w of a point each voxel gets:

    "nearest"  all to the voxel that holds the point
    "cic"      cloud in cell, 2 x 2 x 2 voxels, linear
    "tsc"      triangular-shaped cloud, 3 x 3 x 3 voxels, quadratic
    Gaussian   exp(-r^2 / (2 sigma^2)), r the distance of the voxel's centre
    Sphere     a solid sphere with a sharp or smooth edge

Fields are best kept channels-last: `rasterize` writes them channel by channel from a copy of the
slab in work (of the whole field up to 12 MB), `gather` and `position_gradient` from channels-first
fields make a copy. Fields beyond 12 MB and more than 4 threads need 4 to 12 bytes per point besides.

The shares of a point sum to 1; what falls outside an open axis is dropped; where a kernel is wider
than a periodic axis a voxel gets its share of every image. Positions are those of double precision,
features and fields may be float32 or float64, which is also what comes back. Results do not depend
on the number of threads.

Source of the first three: Hockney and Eastwood, Computer Simulation Using Particles (1988), 5-2.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from mlcore import _core
from mlcore.arrays import (
    Kind,
    apart,
    box,
    flag,
    is_atoms,
    number,
    one_of,
    positive,
    thread_count,
)
from mlcore.errors import InvalidArgument

if TYPE_CHECKING:
    from mlcore.arrays import Pbc, Positions

__all__ = [
    "AtomBins",
    "Gaussian",
    "Kernel",
    "Sphere",
    "VoxelGrid",
    "bin_atoms",
    "gather",
    "position_gradient",
    "rasterize",
    "unbin",
]


@dataclass(frozen=True)
class Gaussian:
    """Weights ``exp(-r^2 / (2 sigma^2))``, normalised over the sample points taken.

    Along each axis the fewest sample points next to the point are taken that hold the sphere of
    radius ``truncation * sigma``; at its edge a weight jumps by ``exp(-truncation^2 / 2)`` of the
    largest one.

    Args:
        sigma: standard deviation along each direction, in units of length.
        truncation: in units of sigma.
    """

    sigma: float
    truncation: float = 4.0


@dataclass(frozen=True)
class Sphere:
    """A solid sphere: weights ``S((radius + edge/2 - r) / edge)``, normalised to 1.

    ``S(t) = t^3 (10 - 15 t + 6 t^2)`` held to 0..1 rises smoothly, with two continuous derivatives,
    over the edge. With ``edge=0`` all voxels whose centres are inside have the same weight, and
    there are no derivatives by the positions. A sphere that holds no centre goes to the voxel that
    holds its own.

    Args:
        radius: in units of length.
        edge: width of the edge, 0 .. 2 radius. About a voxel is a good choice.
    """

    radius: float
    edge: float = 0.0


Kernel = str | Gaussian | Sphere


@dataclass(frozen=True, init=False)
class VoxelGrid:
    """Voxels of a cell.

    Args:
        shape: voxels along each cell vector, or one number for all; up to 2^20.
        cell: (3, 3) row vectors, (3,) edge lengths or an ``ase`` cell; every axis needs a vector.
            The grid begins at the origin of the positions.
        pbc: one flag or three; None: periodic.

    Raises:
        InvalidArgument: a shape or value is wrong.
    """

    shape: tuple[int, int, int]
    cell: npt.NDArray[np.float64]
    pbc: tuple[bool, bool, bool]
    rows: tuple[float, ...] = field(repr=False)  # the nine numbers of the cell

    def __init__(self, shape: int | Sequence[int], cell: Any, pbc: Pbc | None = True) -> None:
        numbers = np.asarray(shape)
        if numbers.shape not in ((), (3,)) or numbers.dtype.kind not in "iu":
            raise InvalidArgument(f"shape must be one integer or three, got {shape!r}")
        if cell is None:
            raise InvalidArgument("a grid needs a cell")
        rows, flags = box(cell, pbc)
        rows = rows.copy()
        rows.flags.writeable = False
        nx, ny, nz = np.broadcast_to(numbers, 3).tolist()
        object.__setattr__(self, "shape", (nx, ny, nz))
        object.__setattr__(self, "cell", rows)
        object.__setattr__(self, "pbc", flags)
        object.__setattr__(self, "rows", tuple(rows.ravel().tolist()))
        _core.check_voxel_grid(_core.VoxelSetup(self.shape, self.cell, self.pbc))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, VoxelGrid) and self._key() == other._key()

    def __hash__(self) -> int:
        return hash(self._key())

    def _key(self) -> tuple[Any, ...]:
        return self.shape, self.rows, self.pbc

    @property
    def size(self) -> int:
        """Number of voxels."""
        return self.shape[0] * self.shape[1] * self.shape[2]

    @property
    def voxel_volume(self) -> float:
        """Volume of one voxel."""
        return abs(float(np.linalg.det(self.cell))) / self.size


def rasterize(
    grid: VoxelGrid,
    positions: Positions,
    features: npt.ArrayLike,
    kernel: Kernel = "cic",
    *,
    density: bool = False,
    layout: str = "channels_first",
    offsets: npt.ArrayLike | None = None,
    direction: npt.ArrayLike | None = None,
    deterministic: bool = True,
    out: Any = None,
    num_threads: int | None = None,
) -> Any:
    """Features of points summed onto voxels: ``field[v] = sum_p w_v(x_p) features[p]``.

    Args:
        grid: the voxels.
        positions: (n, 3), or (B, n, 3) for systems of equal size; may lie outside the cell.
        features: (n, C), or (B, n, C); float32 or float64 (anything else becomes float64).
        kernel: "nearest", "cic", "tsc", `Gaussian` or `Sphere`.
        density: divides by the volume of a voxel.
        layout: "channels_first" (C, X, Y, Z) or "channels_last" (X, Y, Z, C), the faster one.
        offsets: (B + 1,) integers for systems of any size: points offsets[b] .. offsets[b + 1] - 1
            of (n, 3) positions are system b.
        direction: (n, 3) like positions; gives the derivative of the field along this displacement
            of the points.
        deterministic: False lets a GPU add in any order, by atomics. The CPU always adds in the
            order of the points.
        out: where the result goes: C-contiguous, of its kind and dtype, apart from the inputs.
        num_threads: CPU threads; None: the library-wide setting.

    Returns:
        The field, with a leading axis B for several systems; of the kind and device of positions.

    Raises:
        InvalidArgument: shapes do not fit, positions are not finite or more than 2^30 cells away,
            or a direction is given with "nearest" or a sharp `Sphere`.
    """
    call = _Call(grid, kernel, density, layout, positions, offsets, direction)
    values = call.features("features", features)
    shape = call.field_shape(values.shape[1])
    field, result = _output(call, out, shape, values.dtype, features=values)
    field = field if call.offsets is not None else field[None]
    _core.rasterize(call.setup(num_threads, deterministic), call.points(), values, field)
    return result


def gather(
    grid: VoxelGrid,
    field: npt.ArrayLike,
    positions: Positions,
    kernel: Kernel = "cic",
    *,
    density: bool = False,
    layout: str = "channels_first",
    offsets: npt.ArrayLike | None = None,
    direction: npt.ArrayLike | None = None,
    out: Any = None,
    num_threads: int | None = None,
) -> Any:
    """Field at points: ``sum_v w_v(x_p) field[v]``, the adjoint of `rasterize`.

    Args:
        field: as `rasterize` returns it; float32 or float64.
        Everything else as in `rasterize`.

    Returns:
        (n, C), or (B, n, C) where positions are (B, n, 3).

    Raises:
        InvalidArgument: as `rasterize`.
    """
    call = _Call(grid, kernel, density, layout, positions, offsets, direction)
    values = call.field(field)
    channels = values.shape[1 if call.channels_first else 4]
    array, result = _output(call, out, (*call.shape[:-1], channels), values.dtype, field=values)
    setup = call.setup(num_threads)
    _core.gather(setup, call.points(), values, array.reshape(-1, channels))
    return result


def position_gradient(
    grid: VoxelGrid,
    positions: Positions,
    features: npt.ArrayLike,
    field: npt.ArrayLike,
    kernel: Kernel = "cic",
    *,
    density: bool = False,
    layout: str = "channels_first",
    offsets: npt.ArrayLike | None = None,
    direction: npt.ArrayLike | None = None,
    out: Any = None,
    num_threads: int | None = None,
) -> Any:
    """Gradient of ``(rasterize(features) * field).sum()`` with respect to the positions.

    Args:
        features: (n, C).
        field: as `rasterize` returns it; of the precision of features.
        direction: gives the second derivatives, contracted with it.
        Everything else as in `rasterize`.

    Returns:
        float64 of the shape of positions.

    Raises:
        InvalidArgument: as `rasterize`; a kernel without derivatives.
    """
    call = _Call(grid, kernel, density, layout, positions, offsets, direction)
    values, fields = call.features("features", features), call.field(field)
    if values.dtype != fields.dtype:
        raise InvalidArgument(
            f"features and field must have the same dtype, got {values.dtype} and {fields.dtype}"
        )
    array, result = _output(call, out, call.shape, "float64", features=values, field=fields)
    setup = call.setup(num_threads)
    _core.voxel_position_gradient(setup, call.points(), values, fields, array.reshape(-1, 3))
    return result


@dataclass(frozen=True)
class AtomBins:
    """Points sorted into voxels; n points, V voxels in row-major order. Arrays of one kind.

    Attributes:
        cell: (n,) int64, the voxel of each point.
        offset: (n, 3) float64, its place in the voxel, fractions in [0, 1) of the voxel.
        image: (n, 3) int32, how many cells it lies away; 0 along open axes.
        ulps: (n, 3) int64, steps between doubles from what the above give to its position; None
            after a change of the others.
        order: (n,) int64, points by voxel, those of one voxel in the order they came.
        starts: (V + 1,) int64, voxel v holds ``order[starts[v]:starts[v + 1]]``.
    """

    cell: Any
    offset: Any
    image: Any
    ulps: Any
    order: Any
    starts: Any

    @property
    def counts(self) -> Any:
        """(V,) points in each voxel."""
        return self.starts[1:] - self.starts[:-1]

    @property
    def slot(self) -> Any:
        """(n,) which of its voxel's points each point is, counted from 0."""
        rank = self.order.argsort()
        return rank - self.starts[self.cell]


def bin_atoms(
    grid: VoxelGrid,
    positions: Positions,
    *,
    out: AtomBins | None = None,
    num_threads: int | None = None,
) -> AtomBins:
    """Sorts points into the voxels that hold them; `unbin` takes it back bit for bit.

    Args:
        grid: the voxels.
        positions: (n, 3); along periodic axes anywhere, along open axes inside the grid.
        out: bins of as many points on as many voxels, whose arrays are written over: those of an
            earlier call, say. They lie apart from the positions and from each other.
        num_threads: CPU threads; None: the library-wide setting.

    Returns:
        The bins, or ``out``.

    Raises:
        InvalidArgument: a position is not finite, lies outside an open axis or more than 2^30 cells
            away.
    """
    call = _Call(grid, "nearest", False, "channels_first", positions, None, None)
    x = call.x
    if len(call.shape) != 2:
        raise InvalidArgument(f"positions must have the shape (n, 3), got {call.shape}")
    if not (out is None or isinstance(out, AtomBins)):
        raise InvalidArgument(f"out must be AtomBins, got {type(out).__name__}")
    n = len(x)
    wanted: dict[str, tuple[tuple[int, ...], npt.DTypeLike]] = {
        "cell": ((n,), np.int64),
        "offset": ((n, 3), np.float64),
        "image": ((n, 3), np.int32),
        "ulps": ((n, 3), np.int64),
        "order": ((n,), np.int64),
        "starts": ((grid.size + 1,), np.int64),
    }
    arrays: dict[str, Any] = {}
    results = []
    for name, (shape, dtype) in wanted.items():
        given = None if out is None else getattr(out, name)
        if out is not None and given is None:
            raise InvalidArgument(f"out.{name} must be an array, got None")
        array, result = call.kind.output(given, shape, dtype, "positions", f"out.{name}")
        if out is not None:
            apart(array, positions=x, **arrays)
        arrays[f"out.{name}"] = array
        results.append(result)
    _core.bin_atoms(call.setup(num_threads), x, *arrays.values())
    return AtomBins(*results) if out is None else out


def unbin(
    grid: VoxelGrid, bins: AtomBins, *, out: Any = None, num_threads: int | None = None
) -> Any:
    """Positions (n, 3) of binned points, in the order they came.

    Bit for bit those that were binned, unless ``bins.ulps`` is None (``dataclasses.replace(bins,
    offset=..., ulps=None)``), where it gives those of the offsets, to rounding.

    Raises:
        InvalidArgument: a cell does not exist, or shapes do not fit.
    """
    if not isinstance(bins, AtomBins):
        raise InvalidArgument(f"bins must be AtomBins, got {type(bins).__name__}")
    kind = Kind.of(bins.offset)
    offset = kind.take("offset", bins.offset)
    if tuple(offset.shape[1:]) != (3,):
        raise InvalidArgument(f"offset must have the shape (n, 3), got {tuple(offset.shape)}")
    cell = kind.take("cell", bins.cell, np.int64)
    image = kind.take("image", bins.image, np.int32)
    ulps = None if bins.ulps is None else kind.take("ulps", bins.ulps, np.int64)
    array, result = kind.output(out, (len(offset), 3), like="bins.offset")
    _core.unbin_atoms(
        _setup(require_grid(grid), num_threads, kind), cell, offset, image, ulps, array
    )
    return result


def kernel_parameters(kernel: Kernel) -> dict[str, Any]:
    """A kernel as the core takes it; InvalidArgument for what is none."""
    if isinstance(kernel, Gaussian):
        return {
            "scheme": "gaussian",
            "sigma": positive("sigma", kernel.sigma),
            "truncation": positive("truncation", kernel.truncation),
        }
    if isinstance(kernel, Sphere):
        radius = positive("radius", kernel.radius)
        return {"scheme": "sphere", "radius": radius, "edge": number("edge", kernel.edge)}
    if not (isinstance(kernel, str) and kernel in ("nearest", "cic", "tsc")):
        raise InvalidArgument(
            f'kernel must be "nearest", "cic", "tsc", a Gaussian or a Sphere, got {kernel!r}'
        )
    return {"scheme": kernel}


def is_channels_first(layout: str) -> bool:
    """Which of the two layouts this is."""
    return one_of("layout", layout, "channels_first", "channels_last") == "channels_first"


def require_grid(grid: Any) -> VoxelGrid:
    """The grid; InvalidArgument for what is none."""
    if not isinstance(grid, VoxelGrid):
        raise InvalidArgument(f"grid must be a VoxelGrid, got {type(grid).__name__}")
    return grid


def _setup(grid: VoxelGrid, num_threads: int | None, kind: Kind, **options: Any) -> Any:
    return _core.VoxelSetup(
        grid.shape,
        grid.cell,
        grid.pbc,
        **options,
        num_threads=thread_count(num_threads),
        stream=kind.stream(),
    )


class _Call:
    """What the operations share: points in (n, 3), their systems, the shape of a field."""

    def __init__(
        self,
        grid: VoxelGrid,
        kernel: Kernel,
        density: bool,
        layout: str,
        positions: Any,
        offsets: Any,
        direction: Any,
    ) -> None:
        self.grid, self.density = require_grid(grid), flag("density", density)
        self.kernel = kernel_parameters(kernel)
        self.channels_first = is_channels_first(layout)
        positions = positions.positions if is_atoms(positions) else positions
        self.kind = Kind.of(positions)
        x = self.kind.take("positions", positions)
        self.shape = tuple(x.shape)
        if len(self.shape) not in (2, 3) or self.shape[-1] != 3:
            raise InvalidArgument(
                f"positions must have the shape (n, 3) or (B, n, 3), got {self.shape}"
            )
        self.x = x.reshape(-1, 3)
        self.offsets = self._offsets(offsets)
        self.direction = None if direction is None else self._direction(direction)

    def _offsets(self, offsets: Any) -> npt.NDArray[np.int64] | None:
        if len(self.shape) == 3:
            if offsets is not None:
                raise InvalidArgument("offsets go with positions (n, 3), not (B, n, 3)")
            equal: npt.NDArray[np.int64] = np.arange(self.shape[0] + 1) * self.shape[1]
            return equal
        if offsets is None:
            return None
        if hasattr(offsets, "cpu"):
            offsets = offsets.cpu()
        numbers = np.asarray(offsets)
        if numbers.ndim != 1 or numbers.dtype.kind not in "iu":
            raise InvalidArgument(f"offsets must be (B + 1,) integers, got {numbers!r}")
        integers: npt.NDArray[np.int64] = numbers.astype(np.int64)
        return integers

    def _direction(self, direction: Any) -> Any:
        values = self._array("direction", direction, np.dtype(np.float64))
        if tuple(values.shape) != self.shape:
            raise InvalidArgument(
                f"direction must have the shape {self.shape} of positions, got {tuple(values.shape)}"
            )
        return values.reshape(-1, 3)

    def _array(self, name: str, values: Any, dtype: Any = None) -> Any:
        """Another argument: on the device of the positions, float32 or float64."""
        kind = Kind.of(values)
        kind.require_device_of(self.kind, name, "positions")
        return kind.take(name, values, dtype or _float_like(values))

    def features(self, name: str, values: Any) -> Any:
        """(n, C)"""
        array = self._array(name, values)
        if array.ndim != len(self.shape) or tuple(array.shape[:-1]) != self.shape[:-1]:
            raise InvalidArgument(
                f"{name} must have the shape {(*self.shape[:-1], 'C')}, got {tuple(array.shape)}"
            )
        return array.reshape(len(self.x), array.shape[-1])

    def field(self, values: Any) -> Any:
        """(B, C, X, Y, Z) or (B, X, Y, Z, C)"""
        array = self._array("field", values)
        want = self.field_shape("C")
        if array.ndim != len(want) or any(
            a != b for a, b in zip(array.shape, want, strict=True) if b != "C"
        ):
            raise InvalidArgument(f"field must have the shape {want}, got {tuple(array.shape)}")
        if not array.shape[want.index("C")]:
            raise InvalidArgument("field must have a channel at least")
        return array if self.offsets is not None else array[None]

    def field_shape(self, channels: Any) -> tuple[Any, ...]:
        spatial = self.grid.shape
        one = (channels, *spatial) if self.channels_first else (*spatial, channels)
        return one if self.offsets is None else (len(self.offsets) - 1, *one)

    def points(self) -> Any:
        return _core.VoxelPoints(self.x, self.direction, self.offsets)

    def setup(self, num_threads: int | None, deterministic: bool = True) -> Any:
        return _setup(
            self.grid,
            num_threads,
            self.kind,
            **self.kernel,
            density=self.density,
            channels_first=self.channels_first,
            deterministic=flag("deterministic", deterministic),
        )


def _float_like(values: Any) -> np.dtype[Any]:
    """float32 stays, everything else becomes float64."""
    single = str(getattr(values, "dtype", "")) in ("float32", "torch.float32")
    return np.dtype(np.float32 if single else np.float64)


def _output(
    call: _Call, out: Any, shape: tuple[int, ...], dtype: Any, **inputs: Any
) -> tuple[Any, Any]:
    """Where a result goes, as the core fills it and as the caller gets it; see `Kind.output`."""
    name = str(dtype).removeprefix("torch.")
    array, result = call.kind.output(out, shape, name, "positions")
    if out is not None:
        apart(array, positions=call.x, direction=call.direction, **inputs)
    return array, result
