"""
The numeric core of mlcore; use the documented faces in mlcore.* instead.
"""

from __future__ import annotations

import collections.abc
import typing

import numpy
import numpy.typing

__all__: list[str] = [
    "BrownianOptions",
    "ForceField",
    "MobilityModel",
    "NeighborCutoff",
    "NeighborList",
    "NeighborOptions",
    "brownian",
    "cholesky",
    "cuda_status",
    "first_touch_rate",
    "fma_rate",
    "force_field",
    "gather_rate",
    "lower_multiply",
    "mobility_apply",
    "mobility_divergence",
    "mobility_matrix",
    "neighbor_list",
    "neighbor_list_reference",
    "num_threads",
    "philox4x32",
    "random_normal",
    "set_num_threads",
    "simd_level",
    "sqrt_apply",
    "sqrt_apply_matrix",
    "stream_rate",
    "symmetric_eigenvalues",
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
    def __init__(self, half: bool, sorted: bool, self_pairs: bool) -> None: ...

class NeighborList:
    def __init__(
        self,
        cutoff: NeighborCutoff,
        skin: typing.SupportsFloat | typing.SupportsIndex,
        options: NeighborOptions,
    ) -> None: ...
    def __len__(self) -> int: ...
    def get(
        self, quantities: str, wide: bool, num_threads: typing.SupportsInt | typing.SupportsIndex
    ) -> tuple[typing.Any, ...]: ...
    def offsets(self) -> numpy.ndarray: ...
    def update(
        self,
        positions: typing.Annotated[numpy.typing.ArrayLike, numpy.float64],
        cell: typing.Annotated[numpy.typing.ArrayLike, numpy.float64],
        pbc: typing.Annotated[collections.abc.Sequence[bool], "FixedSize(3)"],
        num_threads: typing.SupportsInt | typing.SupportsIndex,
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
    ) -> None: ...

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
    ) -> None: ...

def brownian(
    model: MobilityModel,
    cell: typing.Annotated[numpy.typing.ArrayLike, numpy.float64],
    pbc: typing.Annotated[collections.abc.Sequence[bool], "FixedSize(3)"],
    field: ForceField,
    options: BrownianOptions,
    frames: numpy.ndarray,
    first: typing.SupportsInt | typing.SupportsIndex,
    last: typing.SupportsInt | typing.SupportsIndex,
    reference: bool = False,
    num_threads: typing.SupportsInt | typing.SupportsIndex = 0,
) -> None: ...
def cholesky(
    matrix: numpy.ndarray,
    reference: bool = False,
    num_threads: typing.SupportsInt | typing.SupportsIndex = 0,
) -> None: ...
def cuda_status() -> dict[str, typing.Any]: ...
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
    x: typing.Annotated[numpy.typing.ArrayLike, numpy.float64],
    out: numpy.ndarray,
    reference: bool = False,
    num_threads: typing.SupportsInt | typing.SupportsIndex = 0,
) -> float: ...
def gather_rate(
    bytes: typing.SupportsInt | typing.SupportsIndex,
    num_threads: typing.SupportsInt | typing.SupportsIndex = 0,
) -> float: ...
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
def neighbor_list(
    quantities: str,
    positions: typing.Annotated[numpy.typing.ArrayLike, numpy.float64],
    cell: typing.Annotated[numpy.typing.ArrayLike, numpy.float64],
    pbc: typing.Annotated[collections.abc.Sequence[bool], "FixedSize(3)"],
    cutoff: NeighborCutoff,
    options: NeighborOptions,
    wide: bool,
    with_offsets: bool,
    num_threads: typing.SupportsInt | typing.SupportsIndex,
) -> tuple[typing.Any, ...]: ...
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
    reference: bool = False,
    num_threads: typing.SupportsInt | typing.SupportsIndex = 0,
) -> numpy.ndarray: ...
def set_num_threads(threads: typing.SupportsInt | typing.SupportsIndex) -> None: ...
def simd_level() -> str: ...
def sqrt_apply(
    model: MobilityModel,
    cell: typing.Annotated[numpy.typing.ArrayLike, numpy.float64],
    pbc: typing.Annotated[collections.abc.Sequence[bool], "FixedSize(3)"],
    x: typing.Annotated[numpy.typing.ArrayLike, numpy.float64],
    z: typing.Annotated[numpy.typing.ArrayLike, numpy.float64],
    out: numpy.ndarray,
    psd: str = "error",
    num_threads: typing.SupportsInt | typing.SupportsIndex = 0,
) -> tuple[typing.Any, ...]: ...
def sqrt_apply_matrix(
    matrix: numpy.ndarray,
    cell: typing.Annotated[numpy.typing.ArrayLike, numpy.float64],
    pbc: typing.Annotated[collections.abc.Sequence[bool], "FixedSize(3)"],
    x: typing.Annotated[numpy.typing.ArrayLike, numpy.float64],
    z: typing.Annotated[numpy.typing.ArrayLike, numpy.float64],
    out: numpy.ndarray,
    psd: str = "error",
    reference: bool = False,
    num_threads: typing.SupportsInt | typing.SupportsIndex = 0,
) -> tuple[typing.Any, ...]: ...
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

__version__: str = "0.1.0"
